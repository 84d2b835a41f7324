"""A comparison in words: the table, and what its figures can and cannot say."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .comparison import Comparison
    from .ranking import Place
    from .statistics import Interval

__all__ = ["caveats", "headings", "line", "summary", "table", "title"]


def title(found: Comparison) -> str:
    """What was compared on what."""
    train, scored = found.rows
    where = f"{scored} held-out rows" if found.own else "the rows trained on"
    return (
        f"{found.data}: {_count(len(found.combinations), 'combination')} ×"
        f" {_count(len(found.seeds), 'seed')}, {_count(found.epochs, 'epoch')} on {train} rows;"
        f" {found.metric} on {where}"
    )


def summary(found: Comparison) -> str:
    """The title, the ranking as a table, and the caveats below."""
    return "\n".join([title(found), "", table(found), "", *caveats(found)])


def table(found: Comparison) -> str:
    """The ranking as a table of plain text."""
    rows = [headings(found), *(line(found, place) for place in found.ranking)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    text = []
    for row in rows:
        cells = [
            cell.ljust(width) if k == 1 else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        text.append("  ".join(cells).rstrip())
    return "\n".join(text)


def headings(found: Comparison) -> list[str]:
    """The columns of the table."""
    tuned = ["rate"] if found.tuning else []
    timed = ["time/epoch"] if found.per_epoch else []
    level = number(found, found.level)
    return ["", "", *tuned, f"{found.metric}", "from the leader", f"epochs to {level}", *timed]


def line(found: Comparison, place: Place) -> list[str]:
    """A row of the table."""
    tuned = [f"{place.lr:g}"] if found.tuning else []
    timed = [duration(place.seconds_per_epoch)] if found.per_epoch else []
    return [
        str(place.rank),
        place.label,
        *tuned,
        with_error(found, place.score),
        _against(found, place),
        epochs(place),
        *timed,
    ]


def _against(found: Comparison, place: Place) -> str:
    if place is found.ranking[0]:
        return "leads"
    away = with_error(found, place.difference, sign=True)
    return f"{away}, tied" if place.tied else f"{away}, {p_text(place.p)}"


def p_text(p: float) -> str:
    """p in words.

    >>> p_text(0.0132), p_text(1e-9)
    ('p = 0.013', 'p < 0.001')
    """
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def epochs(place: Place) -> str:
    """The median of the epochs to the level."""
    if math.isinf(place.epochs_to_level):
        return f"not reached ({place.reached} of {len(place.cells)})" if place.reached else "never"
    return f"{place.epochs_to_level:.1f}"


def number(found: Comparison, value: float, sign: bool = False) -> str:
    """A score: accuracies in per cent."""
    plus = "+" if sign else ""
    text = f"{100 * value:{plus}.1f}" if found.metric == "accuracy" else f"{value:{plus}.3f}"
    return text.replace("-", "−") + (" %" if found.metric == "accuracy" and not sign else "")


def with_error(found: Comparison, found_interval: Interval, sign: bool = False) -> str:
    """A mean ± half its interval."""
    mean = number(found, found_interval.mean, sign)
    if math.isnan(found_interval.low):
        return mean
    half = number(found, (found_interval.high - found_interval.low) / 2).removesuffix(" %")
    head, unit, _ = mean.partition(" %")
    return f"{head} ± {half}{unit}"


def duration(seconds: float) -> str:
    """Seconds in a fitting unit.

    >>> duration(0.00123), duration(2.5)
    ('1.2 ms', '2.5 s')
    """
    if math.isnan(seconds):
        return "–"
    if seconds >= 1:
        return f"{seconds:.1f} s"
    return f"{seconds * 1e3:.2g} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.0f} µs"


def caveats(found: Comparison) -> list[str]:
    """What a reader must know to read the figures as they are meant."""
    said = [_of_test(found), _of_rates(found), *_of_edges(found), *_of_runs(found)]
    if found.per_epoch:
        said.append(
            "Time per epoch is of training alone, one thread, one combination after the other; it"
            " holds for this machine. Epochs hold everywhere."
        )
    return [text for text in said if text]


def _of_test(found: Comparison) -> str:
    n = len(found.seeds)
    if n < 2:
        return "One seed: no interval and no test; every difference may be chance. Take more seeds."
    k = len(found.ranking)
    name = "paired t test" if found.test == "t" else "sign-flip test"
    pairs = k * (k - 1) // 2
    corrected = f", corrected by Holm for {pairs} pairs" if pairs > 1 else ""
    few = "; with so few seeds only large differences can show" if n < 5 else ""
    if found.test == "sign_flip" and n < 6:
        few = "; with fewer than six seeds this test can find nothing at 5 %"
    return (
        f"± is the 95 % t interval over {n} seeds, on one split: it does not speak for other rows."
        f" Tied: not worse than the leader at 5 % ({name}{corrected}){few}."
    )


def _of_rates(found: Comparison) -> str:
    if not found.tuning:
        rates = sorted({f"{lr:g}" for lr in found.lrs}, key=float)
        if len(rates) > 1:
            return ""
        return (
            f"All at one learning rate, {rates[0]}, which may suit one better than another;"
            " several rates give each combination its best."
        )
    part = "a quarter of the training rows" if found.own else "the rows trained on"
    merit = "first reaches the level" if found.tune == "speed" else "does best"
    return (
        f"Each at the rate that {merit} on {part}, chosen in {len(found.tuning)} runs of"
        f" {_count(found.epochs, 'epoch')} beside the {len(found.runs)} shown."
    )


def _of_edges(found: Comparison) -> list[str]:
    """Where the best rate is the least or the greatest tried, a better one may lie beyond."""
    ends = [
        f"{label} ({lr:g})"
        for label, lr, made in zip(found.labels, found.lrs, found.combinations, strict=True)
        if len(made.rates) > 1 and lr in (made.rates[0], made.rates[-1])
    ]
    return [f"Best at the edge of the rates tried: {', '.join(ends)}; try beyond."] if ends else []


def _of_runs(found: Comparison) -> list[str]:
    said = []
    if found.interrupted:
        whole = len(found.seeds) * len(found.combinations)
        said.append(f"Unfinished: stopped after {len(found.runs)} of {whole} runs.")
    for place in found.ranking:
        if place.diverged:
            said.append(
                f"{place.label}: {place.diverged} of {len(place.cells)} runs diverged, and score as"
                f" a constant answer does ({number(found, found.baseline)})."
            )
        dead = place.median("dead")
        if dead > 0:
            said.append(f"{place.label}: {dead:.0%} of the hidden units are dead (median).")
    names = found.labels
    said += [
        f"{names[cell.combination]}, seed {cell.seed}: no result: {cell.error}"
        for cell in found.runs
        if cell.error
    ]
    slow = {names[cell.combination] for cell in found.runs if cell.compiled.startswith("no")}
    if slow:
        said.append(f"Not in machine code: {', '.join(sorted(slow))}.")
    return said


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"
