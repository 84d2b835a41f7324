"""The page's view of the answers: which classes are confused, or how far values are off."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ... import plot
from ...page import escape
from ...plot import Chart
from ...plot.scale import short
from . import words
from .facts import Facts

__all__ = ["answers", "class_table", "confused_pairs", "headline"]

MAP = 40  # classes that a confusion matrix is drawn for
PAIRS = 10
SQUARE = (440, 380)


def headline(facts: Facts) -> str:
    """The run in a sentence: data, network, score, and what a constant answer would reach."""
    trained, score = facts.trained, facts.trained.score
    held, rows = facts.held_out.rows, facts.trained.train.rows
    net = f"A network of {words.counted(facts.parameters, 'parameter')}"
    learnt = f"{net}, trained on {words.counted(rows, 'row')} of {trained.train.name}"
    if facts.classes is not None:
        right = int(np.trace(facts.confusion))
        return (
            f"{learnt}, finds the class of {right:,} of {words.counted(held, 'held-out row')}:"
            f" accuracy {words.percent(score.value, 2)}, where always answering the commonest class"
            f" would reach {words.percent(score.baseline, 2)}."
        )
    learnt = f"{learnt}, predicts {facts.target} on {words.counted(held, 'held-out row')}"
    off = f"it is off by {short(score.error)} (root mean square)"
    if np.isnan(score.value):
        return f"{learnt}: {off}. R² is unknown, for it needs rows whose target differs."
    return (
        f"{learnt} with R² {short(score.value)}, where always answering the mean would reach"
        f" {short(score.baseline)}; {off}."
    )


def answers(facts: Facts) -> Iterator[tuple[str, Chart, str]]:
    """Name, chart and reading of each picture of the answers."""
    if facts.classes is None:
        yield from _residuals(facts)
    elif len(facts.classes) <= MAP:
        chart = plot.heat_map(
            facts.confusion,
            facts.classes,
            facts.classes,
            title="Confusion matrix",
            x_label="predicted",
            y_label="true",
            split=True,
        )
        yield "confusion", chart, _confused(facts)


def _residuals(facts: Facts) -> Iterator[tuple[str, Chart, str]]:
    truth, found = np.asarray(facts.truth, np.float64), facts.scores
    chart = plot.scatter(
        truth,
        found,
        diagonal=True,
        title="Predicted and true",
        x_label=f"true {facts.target}",
        y_label="predicted",
        size=SQUARE,
    )
    reading = (
        "On the diagonal a prediction is right. The true values lie between"
        f" {short(truth.min())} and {short(truth.max())}, the predictions between"
        f" {short(found.min())} and {short(found.max())}."
    )
    yield "predicted", chart, reading
    rest = truth - found
    chart = plot.histogram(
        rest, title="Residuals", x_label="true − predicted", at={"0": 0.0}, size=SQUARE
    )
    half, most = (short(float(np.quantile(np.abs(rest), share)), 3) for share in (0.5, 0.9))
    mean = float(rest.mean())
    reading = (
        f"Half of the rows are off by at most {half}, nine in ten by at most {most}; on average"
        f" the prediction is {short(abs(mean), 3)} too {'low' if mean > 0 else 'high'}."
    )
    yield "residuals", chart, reading


def _confused(facts: Facts) -> str:
    pairs, counts = _pairs(facts), facts.confusion.sum(axis=1)
    total = int(counts.sum())
    right = int(np.trace(facts.confusion))
    text = f"The diagonal holds the {right:,} of {words.counted(total, 'row')} that are right."
    if not pairs:
        return text + " No row was taken for another class."
    classes = facts.classes or ()
    truth, taken, count = pairs[0]
    return text + (
        f" The commonest confusion: {count:,} of {words.counted(int(counts[truth]), 'row')} of"
        f" {classes[truth]} taken for {classes[taken]}."
    )


def _pairs(facts: Facts) -> list[tuple[int, int, int]]:
    """The confused pairs, (true, predicted, how often), the commonest first."""
    off = facts.confusion * (1 - np.eye(len(facts.confusion), dtype=np.int64))
    places = np.argsort(-off, axis=None, kind="stable")[: int((off > 0).sum())]
    found = [divmod(int(place), len(off)) for place in places]
    return [(row, column, int(off[row, column])) for row, column in found]


def confused_pairs(facts: Facts) -> str:
    """A table of the pairs that are confused most; empty where the matrix is drawn."""
    classes = facts.classes or ()
    if len(classes) <= MAP:
        return ""
    pairs, counts = _pairs(facts), facts.confusion.sum(axis=1)
    rows = "".join(
        f'<tr><th scope="row">{escape(classes[a])}</th><td>{escape(classes[b])}</td>'
        f'<td class="number">{n}</td><td class="number">{int(counts[a])}</td></tr>'
        for a, b, n in pairs[:PAIRS]
    )
    heads = ("true", "predicted", "rows", "of")
    pairs_table = table("The commonest confusions", heads, rows) if rows else ""
    return f"<p>{escape(_confused(facts))}</p>{pairs_table}"


def class_table(facts: Facts, most: int = 60) -> str:
    """Precision and recall of each class, the worst recall first where there are many."""
    classes = facts.classes
    if classes is None:
        return ""
    confusion = facts.confusion
    hits, rows, taken = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    recall = np.divide(hits, rows, out=np.full(len(hits), np.nan), where=rows > 0)
    order = list(range(len(classes)))
    if len(classes) > most:
        order = [int(k) for k in np.argsort(np.where(rows > 0, recall, 2), kind="stable")][:most]
    body = "".join(
        f'<tr><th scope="row">{escape(classes[k])}</th>'
        + _share(int(hits[k]), int(taken[k]))
        + _share(int(hits[k]), int(rows[k]))
        + f'<td class="number">{int(rows[k]):,}</td></tr>'
        for k in order
    )
    left = len(classes) - len(order)
    more = f'<p class="faint">and {left} classes with a higher recall</p>' if left else ""
    heads = ("class", "precision", "recall", "held-out rows")
    return (
        f"<div>{table('By class', heads, body)}{more}<p>{escape(_recall(facts, recall))}</p></div>"
    )


def _share(part: int, whole: int) -> str:
    if not whole:
        return '<td class="number">–</td>'
    return (
        f'<td class="number">{words.percent(part / whole)}'
        f' <span class="faint">{part} of {whole}</span></td>'
    )


def _recall(facts: Facts, recall: NDArray[np.float64]) -> str:
    classes = facts.classes or ()
    text = (
        "Precision: of the rows answered so, the share that is so. Recall: of the rows that are"
        " so, the share that was found."
    )
    if not np.isfinite(recall).any():
        return text
    low, high = float(np.nanmin(recall)), float(np.nanmax(recall))
    if low == high:
        return f"{text} Recall is {words.percent(low)} for every class."
    return (
        f"{text} Recall is lowest, {words.percent(low)}, for {classes[int(np.nanargmin(recall))]}."
    )


def table(name: str, heads: tuple[str, ...], rows: str) -> str:
    """A table that scrolls sideways where it must; `rows` is HTML."""
    head = "".join(f'<th scope="col">{escape(one)}</th>' for one in heads)
    return (
        f'<div class="scroll" role="region" aria-label="{escape(name)}" tabindex="0"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )
