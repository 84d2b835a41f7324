"""The functions that make charts of numbers, and the words that describe them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from .chart import Bars, Cells, Chart, Dots, Line, Spans, numbers, together
from .scale import Scale, scale, short

__all__ = ["bars", "heat_map", "histogram", "intervals", "lines", "scatter"]

Floats = NDArray[np.float64]
SIZE = (440, 280)
SIDE = 120  # cells of a heat map a side; a larger matrix is averaged in blocks


def lines(
    series: Mapping[str, Any],
    *,
    title: str = "",
    x_label: str = "",
    y_label: str = "",
    log_x: bool = False,
    log_y: bool = False,
    at: Mapping[str, float] | None = None,
    size: tuple[int, int] = SIZE,
) -> Chart:
    """Curves: `series` maps a name to ys, (xs, ys), or (xs, ys, low, high) for a band.

    Without xs they are 1, 2, …; a value that is not finite, or not positive on a log axis, leaves a
    gap and is counted below the chart. `at` maps words to places of vertical rules. Raises
    `DataError` where the lengths of a series differ.

    >>> chart = lines({"f": ([0, 1, 2], [0.0, 1.0, float("nan")])}, title="f")
    >>> chart.notes
    ('1 value is not finite',)
    """
    marks = tuple(_line(str(name), values) for name, values in series.items())
    bands = [part for m in marks for part in (m.low, m.high) if part is not None]
    return Chart(
        marks,
        scale([m.x for m in marks], log=log_x, pad=0.0),
        scale([*(m.y for m in marks), *bands], log=log_y),
        title,
        x_label,
        y_label,
        _told(title, x_label, [_curve_told(m) for m in marks]),
        _gaps([m.y for m in marks], log_y),
        at=tuple((str(word), float(place)) for word, place in (at or {}).items()),
        size=size,
    )


def scatter(
    x: Any,
    y: Any,
    *,
    labels: Sequence[Any] | None = None,
    diagonal: bool = False,
    title: str = "",
    x_label: str = "",
    y_label: str = "",
    log_x: bool = False,
    log_y: bool = False,
    size: tuple[int, int] = SIZE,
) -> Chart:
    """Points; `labels` names the group of each, `diagonal` draws y = x on two like axes.

    >>> scatter([1.0, 2.0], [1.0, 3.0], title="Seen").description
    'Seen. 2 points: x from 1 to 2, y from 1 to 3.'
    """
    xs, ys = numbers(x, "x"), numbers(y, "y")
    together("scatter", xs, ys, *([] if labels is None else [labels]))
    if labels is None:
        groups: tuple[Dots, ...] = (Dots("", xs, ys),)
    else:
        of = np.array([str(label) for label in labels], dtype=object)
        names = dict.fromkeys(of.tolist())
        groups = tuple(Dots(name, xs[of == name], ys[of == name]) for name in names)
    across, up = scale([xs], log=log_x), scale([ys], log=log_y)
    if diagonal:
        across = up = scale([xs, ys], log=log_x)
    told = [f"{_counted(len(g.x), 'point')}{_of(g.name)}: {_range(g)}" for g in groups]
    least = np.minimum(xs if log_x else 1.0, ys if log_y else 1.0) + np.zeros(len(xs))
    notes = _gaps([np.where(np.isfinite(xs) & np.isfinite(ys), least, np.nan)], log_x or log_y)
    return Chart(
        groups, across, up, title, x_label, y_label,
        _told(title, "", told), notes, diagonal=diagonal, size=size,
    )  # fmt: skip


def histogram(
    values: Any,
    *,
    bins: int = 30,
    title: str = "",
    x_label: str = "",
    y_label: str = "rows",
    at: Mapping[str, float] | None = None,
    size: tuple[int, int] = SIZE,
) -> Chart:
    """How many values fall into each of `bins` equal parts of their range.

    >>> histogram([1.0, 1.0, 2.0], bins=2).marks[0].heights.tolist()
    [2.0, 1.0]
    """
    found = numbers(values, "values")
    if bins < 1:
        raise DataError(f"bins must be at least 1, got {bins}")
    finite = found[np.isfinite(found)]
    across = scale([finite], pad=0.0)
    edges = np.linspace(across.low, across.high, bins + 1)
    shares = np.clip(np.floor(across.share(finite) * bins), 0, bins - 1).astype(np.int64)
    heights = np.bincount(shares, minlength=bins).astype(np.float64)
    told = "no values"
    if finite.size:
        middle = short(float(np.median(finite)))
        fullest = int(np.argmax(heights))
        told = (
            f"{_counted(finite.size, 'value')} from {short(finite.min())} to"
            f" {short(finite.max())}, median {middle}; most, {short(heights[fullest])}, between"
            f" {short(edges[fullest])} and {short(edges[fullest + 1])}"
        )
    return Chart(
        (Bars(edges, heights),) if finite.size else (),
        across,
        scale([heights], zero=True),
        title,
        x_label,
        y_label,
        _told(title, "", [told]),
        _gaps([found], False),
        at=tuple((str(word), float(place)) for word, place in (at or {}).items()),
        size=size,
    )


def bars(
    edges: Any,
    heights: Any,
    *,
    title: str = "",
    x_label: str = "",
    y_label: str = "rows",
    at: Mapping[str, float] | None = None,
    zones: Iterable[tuple[str, float, float]] = (),
    size: tuple[int, int] = SIZE,
) -> Chart:
    """A histogram that is already counted: a bar between each two neighbouring edges.

    `zones` are parts of the axis with their words (word, from, to), shaded behind the bars. Raises
    `DataError` where the edges do not rise, or are not one more than the bars.

    >>> bars([0, 1, 2], [3, 5], title="Net", zones=[("flat", 1, 9)]).description
    'Net. 8 values from 0 to 2; most, 5, between 1 and 2. flat: from 1 to 2.'
    """
    places, found = numbers(edges, "edges"), numbers(heights, "heights")
    if len(places) != len(found) + 1 and (len(places) or len(found)):
        raise DataError(f"bars need one edge more than heights, got {len(places)} and {len(found)}")
    if not (np.isfinite(places).all() and (places[1:] > places[:-1]).all()):
        raise DataError("edges must be finite numbers that rise")
    if not found.size:
        return Chart((), Scale(0, 1), Scale(0, 1), title, x_label, y_label, _told(title, "", []))
    across = scale([places], pad=0.0)
    known = [(str(word), *_within(across, low, high)) for word, low, high in zones]
    shown = tuple(zone for zone in known if zone[1] < zone[2])
    parts = [_bars_told(places, np.nan_to_num(found))]
    parts += [f"{word}: from {short(low)} to {short(high)}" for word, low, high in shown]
    return Chart(
        (Bars(places, found),), across, scale([found], zero=True), title, x_label, y_label,
        _told(title, "", parts), _gaps([found], False),
        at=tuple((str(word), float(place)) for word, place in (at or {}).items()),
        zones=shown, size=size,
    )  # fmt: skip


def _within(across: Scale, low: float, high: float) -> tuple[float, float]:
    return max(float(low), across.low), min(float(high), across.high)


def _bars_told(edges: Floats, heights: Floats) -> str:
    most = int(np.argmax(heights))
    total = short(float(heights.sum()))
    return (
        f"{total} value{'' if total == '1' else 's'} from {short(edges[0])} to {short(edges[-1])};"
        f" most, {short(heights[most])}, between {short(edges[most])} and {short(edges[most + 1])}"
    )


def heat_map(
    matrix: Any,
    rows: Iterable[Any],
    columns: Iterable[Any],
    *,
    title: str = "",
    x_label: str = "",
    y_label: str = "",
    split: bool = False,
) -> Chart:
    """A matrix as cells, darker where larger; negative ones in the second colour.

    With `split` the diagonal has the first colour and all else the second, each by its own
    largest: so the few errors of a confusion matrix are seen beside the many hits.

    >>> heat_map([[5, 1], [0, 4]], ["a", "b"], ["a", "b"], title="Confusion").description
    'Confusion. 2 by 2 cells from 0 to 5; largest 5 at row a, column a.'
    """
    try:
        values = np.asarray(matrix, dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError("a heat map needs a matrix of numbers") from None
    names = tuple(str(name) for name in rows), tuple(str(name) for name in columns)
    if values.ndim != 2 or values.shape != (len(names[0]), len(names[1])):
        raise DataError(
            f"a heat map needs a name for each row and column: the matrix has shape"
            f" {values.shape}, the names {(len(names[0]), len(names[1]))}"
        )
    told, notes = _cells_told(values, *names), _gaps([values.ravel()], False)
    small, names = _blocks(values, names)
    if small.shape != values.shape:
        notes += (f"averaged in blocks from {values.shape[0]} × {values.shape[1]} cells",)
    return Chart(
        (Cells(small, *names, split),), Scale(0, 1), Scale(0, 1), title, x_label, y_label,
        _told(title, "", [told]), notes,
    )  # fmt: skip


def intervals(
    rows: Iterable[tuple[Any, float, float, float]],
    *,
    title: str = "",
    x_label: str = "",
    log_x: bool = False,
    width: int = SIZE[0],
) -> Chart:
    """Values with an interval each, a row one below the other: (label, value, low, high).

    >>> intervals([("a", 0.9, 0.85, 0.94)], title="Accuracy").description
    'Accuracy. a: 0.9, from 0.85 to 0.94.'
    """
    made = list(rows)
    labels = tuple(str(row[0]) for row in made)
    value, low, high = (numbers([row[k] for row in made], "intervals") for k in (1, 2, 3))
    told = [
        f"{name}: {short(v)}, from {short(a)} to {short(b)}"
        for name, v, a, b in zip(labels[:40], value, low, high, strict=False)
    ]
    return Chart(
        (Spans(labels, value, low, high),),
        scale([value, low, high], log=log_x),
        Scale(0.0, max(1.0, float(len(made)))),
        title,
        x_label,
        "",
        _told(title, "", told),
        _gaps([value], log_x),
        size=(width, 70 + 24 * len(made)),
    )


# -- reading what is given ---------------------------------------------------------------------


def _line(name: str, values: Any) -> Line:
    if not isinstance(values, tuple):
        ys = numbers(values, f"series '{name}'")
        return Line(name, np.arange(1.0, len(ys) + 1), ys)
    if len(values) not in (2, 4):
        raise DataError(
            f"series '{name}' must be ys, (xs, ys) or (xs, ys, low, high), got {len(values)} parts"
        )
    parts = [numbers(part, f"series '{name}'") for part in values]
    together(f"series '{name}'", *parts)
    return Line(name, *parts)


def _blocks(
    values: Floats, names: tuple[tuple[str, ...], tuple[str, ...]]
) -> tuple[Floats, tuple[tuple[str, ...], tuple[str, ...]]]:
    """A matrix of at most SIDE cells a side, each the mean of a block."""
    kept = []
    for axis in (0, 1):
        every = -(-values.shape[axis] // SIDE) or 1
        starts = np.arange(0, values.shape[axis], every)
        if every > 1:
            sizes = np.diff([*starts, values.shape[axis]])
            sums = np.add.reduceat(values, starts, axis=axis)
            values = sums / (sizes[:, None] if axis == 0 else sizes)
        kept.append(tuple(names[axis][k] for k in starts))
    return values, (kept[0], kept[1])


# -- in words ----------------------------------------------------------------------------------


def _told(title: str, x_label: str, parts: Sequence[str], most: int = 12) -> str:
    head = title + (f" by {x_label}" if title and x_label else "")
    rest = [f"and {len(parts) - most} more"] if len(parts) > most else []
    sentences = [part for part in (head, *parts[:most], *rest) if part] or ["No data"]
    return " ".join(f"{sentence}." for sentence in sentences)


def _curve_told(line: Line) -> str:
    good = np.isfinite(line.y) & np.isfinite(line.x)
    name = line.name or "curve"
    if not good.any():
        return f"{name}: no values"
    x, y = line.x[good], line.y[good]
    low, high = int(np.argmin(y)), int(np.argmax(y))
    return (
        f"{name}: {_counted(len(y), 'value')}, from {short(y[0])} to {short(y[-1])};"
        f" lowest {short(y[low])} at {short(x[low])}, highest {short(y[high])} at {short(x[high])}"
    )


def _range(dots: Dots) -> str:
    parts = []
    for name, values in (("x", dots.x), ("y", dots.y)):
        finite = values[np.isfinite(values)]
        if finite.size:
            parts.append(f"{name} from {short(finite.min())} to {short(finite.max())}")
    return ", ".join(parts) or "none finite"


def _cells_told(values: Floats, rows: tuple[str, ...], columns: tuple[str, ...]) -> str:
    finite = np.isfinite(values)
    if not finite.any():
        return f"{values.shape[0]} by {values.shape[1]} cells, none finite"
    row, column = np.unravel_index(np.argmax(np.where(finite, values, -np.inf)), values.shape)
    return (
        f"{values.shape[0]} by {values.shape[1]} cells from {short(values[finite].min())} to"
        f" {short(values[finite].max())}; largest {short(values[row, column])} at row"
        f" {rows[row]}, column {columns[column]}"
    )


def _gaps(parts: Sequence[Floats], log: bool) -> tuple[str, ...]:
    """What cannot be drawn, counted."""
    wild = sum(int(np.sum(~np.isfinite(part))) for part in parts)
    low = sum(int(np.sum(np.isfinite(part) & (part <= 0))) for part in parts) if log else 0
    found = [(wild, "not finite"), (low, "not positive")]
    return tuple(
        f"{_counted(n, 'value')} {'is' if n == 1 else 'are'} {what}" for n, what in found if n
    )


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _of(name: str) -> str:
    return f" of {name}" if name else ""
