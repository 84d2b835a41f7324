"""A report in words: the verdict, each finding with its product and proof, the flow, advice."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import chain

from ...draw.face import clean, letters
from ...plot import spark
from ..finding import Curve, Factor, Finding, Flow, Report
from . import words

__all__ = ["text"]

WIDTH = 80
MOST = 10  # findings that are shown; the rest is counted
TRIED = 8
LAYERS = 14


def text(report: Report) -> str:
    """The report in lines of at most 80 columns; code, which is to be pasted, is never broken."""
    parts = [_wrap(f"{words.headline(report)} {report.reason}")]
    if not report.healthy:
        parts += [_run(report), *_findings(report), _tried(report), *_flows(report)]
    parts += [_wrap(report.starts), _advice(report)]
    if report.unfinished:
        parts.append(_wrap(f"Unfinished: {report.unfinished}"))
    return "\n\n".join("\n".join(lines) for lines in parts if lines)


def _product(factors: Sequence[Factor]) -> Iterator[str]:
    if not factors:
        return
    shown = [f"{words.carried(factors)} ="]
    for k, group in enumerate(words.folded(factors)):
        shown.append(("× " if k else "") + _factor(group))
    yield from _joined(shown, "   ", "     ")
    for names, said in words.blames(factors):
        yield from _wrap(f"{names}: {said}", "   ", "     ")


def _factor(group: Sequence[Factor]) -> str:
    if len(group) > 1:
        return f"… {words.power(words.log_of(group))} ({len(group)} factors) …"
    (factor,) = group
    mark = " ◄" if factor.guilty else ""
    return f"{words.figure(factor.value, 2)} ({clean(factor.name)}){mark}"


# -- findings ------------------------------------------------------------------------------------


def _findings(report: Report) -> Iterator[list[str]]:
    for k, finding in enumerate(report.findings[:MOST], start=1):
        yield list(_finding(k, finding))
    if (more := len(report.findings) - MOST) > 0:
        yield [f"and {words.counted(more, 'finding')} more"]


def _finding(k: int, finding: Finding) -> Iterator[str]:
    where = words.place(finding.where)
    head = f"{k}. {finding.problem} ({finding.severity})"
    yield from _wrap(f"{head}: {where}" if where else head, "", "   ")
    yield from _wrap(finding.evidence.sentence, "   ")
    yield from _product(finding.evidence.product)
    if finding.remedy.strip():
        yield "   Remedy:"
        yield from ("       " + _shown(line) for line in finding.remedy.strip("\n").split("\n"))
    if words.claims(finding):
        yield from _wrap(words.verified(finding.verified), "   ")
    if finding.verified is not None:
        yield from _curves(finding.verified.curves)


def _shown(line: str) -> str:
    """A line of code without what a terminal would obey."""
    return clean(line.rstrip().replace("\t", "    "), 10_000)


def _curves(curves: Sequence[Curve]) -> Iterator[str]:
    shown = [curve for curve in curves if curve.loss]
    values = [v for v in chain.from_iterable(c.loss for c in shown) if math.isfinite(v)]
    if not values:
        return
    log = words.steep(shown)
    span = (min(values) if log else min(0.0, *values), max(values))
    names = [_fit(name, 20) for name in words.names(shown)]
    wide = max(map(letters, names))
    for name, curve in zip(names, shown, strict=True):
        line = spark(curve.loss, 28, span=span, log=log)
        ends = f"{words.figure(curve.loss[0])} → {words.figure(curve.loss[-1])}"
        yield f"     {_left(name, wide)}  {line}  loss {ends}"


# -- the run, what was tried, the flow, advice ---------------------------------------------------


def _run(report: Report) -> list[str]:
    facts = ", ".join(f"{name} {words.said(value)}" for name, value in report.facts.items())
    return [
        *_wrap(f"The run: {words.scored(report.score)}."),
        *_wrap(facts),
        *(line[5:] for line in _curves((report.curve,))),
    ]


def _tried(report: Report) -> list[str]:
    if not report.tried:
        return []
    shown = [(_fit(score, 24), name) for name, score in report.tried[:TRIED]]
    wide = max(letters(score) for score, _ in shown)
    lines = ["Tried, at the same seed, order and budget:"]
    for score, name in shown:
        lines += _wrap(name, f"  {_left(score, wide)}  ", " " * (wide + 4))
    more = len(report.tried) - len(shown)
    return [*lines, f"  and {more} more"] if more > 0 else lines


def _flows(report: Report) -> Iterator[list[str]]:
    moments = [("before the first step", report.start), ("after the last step", report.end)]
    logs = [words.decades(f.delta) for _, flows in moments for f in flows if 0 < f.delta < math.inf]
    span = (min(logs, default=0.0), max(logs, default=1.0))
    for moment, flows in moments:
        if flows:
            yield [f"Backward flow {moment}, from the output down:", *_table(flows, span)]


def _table(flows: Sequence[Flow], span: tuple[float, float]) -> Iterator[str]:
    head = ("layer", "transfer", "RMS δ", "gain", "slope", "dead", "saturated", "log δ")
    backward = list(reversed(flows))
    half = LAYERS // 2
    left = len(backward) - LAYERS
    shown = backward if left <= 1 else [*backward[:half], *backward[-half:]]
    rest = [head[1:], *(_row(flow, span) for flow in shown)]
    widths = [max(letters(cell) for cell in column) for column in zip(*rest, strict=True)]
    room = min(16, WIDTH - sum(widths) - 2 * len(widths))
    names = [head[0], *(_fit(flow.layer, max(4, room)) for flow in shown)]
    wide = max(map(letters, names))
    for k, (name, row) in enumerate(zip(names, rest, strict=True)):
        if left > 1 and k == half + 1:
            yield f"… {left} more layers"
        numbers = [
            " " * (n - letters(cell)) + cell
            for cell, n in zip(row[1:-1], widths[1:-1], strict=True)
        ]
        yield "  ".join([_left(name, wide), _left(row[0], widths[0]), *numbers, row[-1]]).rstrip()


def _row(flow: Flow, span: tuple[float, float]) -> tuple[str, ...]:
    return (
        _fit(flow.transfer, 10) or "–",
        words.figure(flow.delta, 2),
        words.known(flow.gain, 2),
        words.known(flow.slope, 2),
        f"{len(flow.dead)}/{flow.units}" if flow.dead else "–",
        words.percent(flow.saturated),
        _bar(flow.delta, span),
    )


def _bar(delta: float, span: tuple[float, float], wide: int = 8) -> str:
    """A bar as long as log δ is large; nothing for 0, which has no logarithm."""
    if not 0 < delta < math.inf:
        return "" if delta == 0 else words.figure(delta)
    low, high = span
    share = (words.decades(delta) - low) / (high - low) if high > low else 1.0
    eighths = max(1, round(8 * wide * share))
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()


def _advice(report: Report) -> list[str]:
    if not report.advice:
        return []
    return ["Advice:", *chain.from_iterable(_wrap(one, "- ", "  ") for one in report.advice)]


# -- lines ---------------------------------------------------------------------------------------


def _wrap(sentence: str, first: str = "", rest: str | None = None) -> list[str]:
    """A sentence in lines of the width; a word longer than a line is broken."""
    parts = [clean(word, 10_000) for word in sentence.split()]
    return _joined(parts, first, first if rest is None else rest) if parts else []


def _joined(parts: Sequence[str], first: str, rest: str) -> list[str]:
    """The parts in lines, none of them broken that fits a line."""
    lines: list[str] = []
    line, empty = first, True
    for word in chain.from_iterable(_pieces(word, WIDTH - len(rest)) for word in parts):
        if not empty and letters(line) + 1 + letters(word) > WIDTH:
            lines.append(line)
            line, empty = rest, True
        line += word if empty else f" {word}"
        empty = False
    return [*lines, line]


def _pieces(word: str, most: int) -> Iterator[str]:
    while letters(word) > most:
        cut = next(k for k in range(len(word), 0, -1) if letters(word[:k]) <= most)
        yield word[:cut]
        word = word[cut:]
    yield word


def _fit(name: object, columns: int) -> str:
    """A name, made harmless and cut to so many columns."""
    shown = clean(name, columns)
    if letters(shown) <= columns:
        return shown
    return next(_pieces(shown, columns - 1)) + "…"


def _left(word: str, wide: int) -> str:
    return word + " " * (wide - letters(word))
