"""The rows that the network finds hardest, and the columns that it learnt from."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...draw.face import clean
from ...page import escape
from ...plot.scale import short
from . import words
from .facts import LONG, Facts
from .predictions import table

__all__ = ["data_summary", "hardest"]

Floats = NDArray[np.float64]
COLUMNS = 12  # that are shown at once; the others open on demand
MOST = 200
BINS = 24


def hardest(facts: Facts) -> str:
    """The five held-out rows with the largest loss, a card each."""
    cards = "".join(_card(facts, row) for row in facts.worst)
    return f'<p>{escape(_reading(facts))}</p><ol class="cards">{cards}</ol>'


def _reading(facts: Facts) -> str:
    losses = facts.losses[np.isfinite(facts.losses)]
    share = losses[np.argsort(-losses)][:5].sum() / losses.sum() if losses.sum() > 0 else 0.0
    if facts.classes is None:
        return (
            f"The held-out rows that are furthest off; these {len(facts.worst)} make up"
            f" {words.percent(share, 0)} of all distance. A deviation is the training rows'"
            " standard deviation."
        )
    wrong = sum(int(facts.answers[k] != facts.truth[k]) for k in facts.worst)
    return (
        "The held-out rows whose true class got the least probability, which stands in brackets:"
        f" {wrong} of these {len(facts.worst)} are answered wrongly, and they make up"
        f" {words.percent(share, 0)} of the held-out loss. σ is a feature's standard"
        " deviation over the training rows."
    )


def _card(facts: Facts, row: int) -> str:
    parts = [f"<h3>Held-out row {row + 1}</h3>", _thumbnail(facts, row), _verdict(facts, row)]
    rare = facts.unusual(row)
    if rare:
        items = "".join(
            f"<li>{escape(name if '=' in name and value == 1 else f'{name} = {short(value)}')}"
            f' <span class="faint">{_signed(share)} σ</span></li>'
            for name, value, share in rare
        )
        parts.append(f'<p class="faint">Most unusual features</p><ul>{items}</ul>')
    return f"<li>{''.join(parts)}</li>"


def _signed(share: float) -> str:
    return ("+" if share > 0 else "") + short(round(share, 1), 3)


def _verdict(facts: Facts, row: int) -> str:
    if facts.classes is None:
        off = float(facts.scores[row] - facts.truth[row])
        pairs = [
            ("true", short(float(facts.truth[row]))),
            ("predicted", short(float(facts.scores[row]))),
            ("off by", ("+" if off > 0 else "") + short(off)),
        ]
    else:
        scores, truth = facts.scores[row], int(facts.truth[row])
        answer = int(facts.answers[row])
        pairs = [
            ("true", f"{facts.classes[truth]} ({_probability(scores[truth])})"),
            ("predicted", f"{facts.classes[answer]} ({_probability(scores[answer])})"),
            ("loss", short(float(facts.losses[row]), 3)),
        ]
    items = "".join(f"<div><dt>{name}</dt><dd>{escape(word)}</dd></div>" for name, word in pairs)
    return f"<dl>{items}</dl>"


def _probability(share: float) -> str:
    text = words.percent(share) if share >= 0.001 else f"{short(100 * float(share), 2)} %"
    return text.replace(" ", "\u00a0")  # a card is narrow


def _thumbnail(facts: Facts, row: int) -> str:
    """The row as a picture, where rows are square pictures."""
    side = facts.side
    if not side:
        return ""
    values = np.asarray(facts.held_out.features[row], np.float64).reshape(side, side)
    largest = float(facts.measures.high.max()) or 1.0
    cell = max(2, 96 // side)
    shades: dict[int, list[str]] = {}
    for y, x in np.ndindex(side, side):
        level = int(np.clip(np.nan_to_num(values[y, x]) / largest * 12 + 0.5, 0, 12))
        if level:
            shades.setdefault(level, []).append(f"M{x * cell} {y * cell}h{cell}v{cell}h-{cell}z")
    paths = "".join(
        f'<path fill-opacity="{level / 12:.2g}" d="{"".join(boxes)}"/>'
        for level, boxes in sorted(shades.items())
    )
    wide = side * cell
    return (
        f'<svg class="thumb" role="img" aria-label="The row as a picture of {side} by {side}'
        f' points" width="{wide}" height="{wide}" viewBox="0 0 {wide} {wide}">{paths}</svg>'
    )


# -- the data ------------------------------------------------------------------------------------


def data_summary(facts: Facts) -> str:
    """Rows and their split, the target, and each column."""
    trained = facts.trained
    parts = [("learnt from", trained.train.rows)]
    if (watched := getattr(trained, "validation", None)) is not None:
        parts.append(("watched while training", watched.rows))
    parts.append(("held out for the score", facts.held_out.rows))
    total = sum(count for _, count in parts)
    split = words.listed([f"{count:,} {what}" for what, count in parts])
    sentence = f"{words.counted(total, 'row')}: {split}. {_balance(facts)}"
    return f"<p>{escape(sentence)}</p>{_columns(facts)}"


def _balance(facts: Facts) -> str:
    """How the target is distributed over the training rows."""
    target = np.asarray(facts.trained.train.target)
    if facts.classes is None:
        return (
            f"The target {facts.target} lies between {short(target.min())} and"
            f" {short(target.max())} in the training rows, mean {short(target.mean())}, standard"
            f" deviation {short(target.std())}."
        )
    counts = np.bincount(target, minlength=len(facts.classes))
    high, low = int(np.argmax(counts)), int(np.argmin(counts))
    if counts[high] == counts[low]:
        return f"Each of the {len(facts.classes)} classes has {counts[high]:,} training rows."
    ratio = f": {short(counts[high] / counts[low], 3)} to 1" if counts[low] else ""
    return (
        f"Of {len(facts.classes)} classes {facts.classes[high]} is the commonest with"
        f" {words.percent(counts[high] / len(target))} of the training rows, and"
        f" {facts.classes[low]} the rarest with {words.percent(counts[low] / len(target))}{ratio}."
    )


def _columns(facts: Facts) -> str:
    columns = list(facts.schema.columns)
    starts = np.concatenate([[0], np.cumsum([column.width for column in columns])])
    counts = _histograms(facts)
    rows = [
        _column(facts, column, slice(a, b), counts[a])
        for column, a, b in zip(columns[:MOST], starts[:-1], starts[1:], strict=False)
    ]
    heads = ("column", "kind", "missing", "least", "mean", "greatest", "distribution")
    shown = table("Columns", heads, "".join(rows[:COLUMNS]))
    if len(rows) <= COLUMNS:
        return shown
    left = len(columns) - len(rows)
    rest = table("More columns", heads, "".join(rows[COLUMNS:]))
    note = f'<p class="faint">and {words.counted(left, "column")} more</p>' if left else ""
    count = words.counted(len(rows) - COLUMNS, "more column")
    return f"{shown}<details><summary>{count}</summary>{rest}{note}</details>"


def _column(facts: Facts, column: Any, place: slice, counts: Floats) -> str:
    name, measures = escape(clean(column.name, LONG)), facts.measures
    missing = _missing(facts, column, place)
    if column.kind == "number":
        at = place.start
        ends = (measures.low[at], measures.mean[at], measures.high[at])
        cells = "".join(f'<td class="number">{escape(short(float(v)))}</td>' for v in ends)
        cells = cells if measures.known[at] else "<td>–</td>" * 3
        counts = counts[:1] if ends[0] == ends[2] else counts
        told = f"{name}: {BINS} equal parts of its range"
    else:
        counts = measures.total[place]
        commonest = column.categories[int(np.argmax(counts))] if counts.size else ""
        content = f"{words.counted(counts.size, 'category')}, most often {clean(commonest, LONG)}"
        cells, told = f'<td colspan="3">{escape(content)}</td>', f"{name}: rows of each category"
    return (
        f'<tr><th scope="row">{name}</th><td>{escape(column.kind)}</td>'
        f'<td class="number">{missing or "–"}</td>{cells}<td>{_bars(counts, told)}</td></tr>'
    )


def _missing(facts: Facts, column: Any, place: slice) -> int:
    """In how many training rows the cell was empty."""
    measures = facts.measures
    if column.kind == "number":
        return int(facts.trained.train.rows - measures.known[place.start])
    if getattr(column, "missing", False) and "(missing)" in column.categories:
        return int(measures.total[place][column.categories.index("(missing)")])
    return 0


def _histograms(facts: Facts) -> Floats:
    """The rows in each part of a feature's range, (features, BINS); in the first if it is none."""
    low, high = facts.measures.low, facts.measures.high
    numbers = np.flatnonzero(~facts.flags & (facts.measures.known > 0))[:MOST]
    counts = np.zeros((facts.schema.width, BINS))
    for part in facts.blocks():
        for k in numbers.tolist():
            values = part[np.isfinite(part[:, k]), k]
            if low[k] == high[k]:
                counts[k, 0] += len(values)
                continue
            share = (values / 2 - low[k] / 2) / (high[k] / 2 - low[k] / 2)
            bins = np.minimum((share * BINS).astype(np.int64), BINS - 1)
            counts[k] += np.bincount(bins, minlength=BINS)
    return counts


def _bars(counts: Floats, told: str, wide: int = 96, tall: int = 22) -> str:
    """A little bar chart; `told` is HTML already."""
    if not counts.size or counts.max() <= 0:
        return ""
    heights = counts / counts.max() * tall
    step = min(wide / len(counts), 12.0)
    bars = "".join(
        f"M{k * step:.1f} {tall}v-{max(height, 0.8):.1f}h{max(step - 0.6, 0.4):.1f}V{tall}z"
        for k, height in enumerate(heights.tolist())
        if height
    )
    return (
        f'<svg class="bars" role="img" aria-label="{told}" width="{wide}" height="{tall}"'
        f' viewBox="0 0 {wide} {tall}"><path d="{bars}"/></svg>'
    )
