"""Charts painted by matplotlib, for PNG and PDF: the same description, in light colours."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from ..errors import DataError
from .chart import Bars, Cells, Chart, Dots, Line, Spans
from .colours import COLOURS, DASHES, LEVELS, LIGHT, SHAPES, strengths
from .reduce import thinned, whole_runs
from .scale import short

__all__ = ["save"]

DPI = 160
PIXELS = 2000  # across, for thinning


def save(chart: Chart, path: str | os.PathLike[str], kind: str) -> None:
    """Write the chart as a picture; the same chart gives the same bytes.

    Raises `DataError` where matplotlib is not installed.
    """
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError:
        raise DataError(
            f"a chart is saved as .{kind} by matplotlib; install it with"
            " pip install 'chainrule[plots]', or save as .svg"
        ) from None
    # A user's name may hold a $ that opens no formula, and letters that the font does not have.
    with rc_context({"text.parse_math": False, "font.family": "DejaVu Sans", "font.size": 9}):
        figure = Figure(figsize=_inches(chart), dpi=DPI, layout="constrained")
        axes = figure.add_subplot()
        _paint(chart, axes)
        stamp: dict[str, Any] = {"CreationDate": None} if kind == "pdf" else {}
        _quietly(figure, path, kind, stamp)


def _quietly(figure: Any, path: Any, kind: str, stamp: dict[str, Any]) -> None:
    import warnings

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing", category=UserWarning)
        warnings.filterwarnings("ignore", message=".*constrained_layout", category=UserWarning)
        figure.savefig(path, format=kind, metadata=stamp)


def _inches(chart: Chart) -> tuple[float, float]:
    if chart.marks and isinstance(chart.marks[0], Cells):
        rows, columns = chart.marks[0].values.shape
        return (
            2.0 + min(8.0, max(3.0, 0.4 * columns)),
            1.5 + min(8.0, max(2.0, 0.3 * rows)),
        )
    return chart.size[0] / 80, chart.size[1] / 80


def _paint(chart: Chart, axes: Any) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    pad = 16 if chart.at or chart.zones else 6  # their words stand between title and plane
    axes.set_title(_safe(chart.title), loc="left", fontweight="bold", fontsize=10, pad=pad)
    axes.set_xlabel(_safe("\n".join([chart.x_label, *chart.notes]).strip()))
    axes.set_ylabel(_safe(chart.y_label))
    if chart.marks and isinstance(chart.marks[0], Cells):
        return _cells(chart.marks[0], axes)
    _axes(chart, axes)
    for k, mark in enumerate(chart.marks):
        if isinstance(mark, Line):
            _line(chart, mark, k, axes)
        elif isinstance(mark, Dots):
            _dots(chart, mark, k, axes)
        elif isinstance(mark, Bars):
            _bars(chart, mark, axes)
        elif isinstance(mark, Spans):
            _spans(chart, mark, axes)
    _rules(chart, axes)
    if sum(bool(getattr(mark, "name", "")) for mark in chart.marks) > 1:
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=8)
    return None


def _axes(chart: Chart, axes: Any) -> None:
    axes.grid(color=LIGHT["line"], linewidth=0.6)
    axes.set_axisbelow(True)
    for name, own in (("x", chart.x), ("y", chart.y)):
        ticks = own.ticks()
        axis = getattr(axes, f"{name}axis")
        axis.set_ticks([float(own.share(place)) for place, _ in ticks], [w for _, w in ticks])
        getattr(axes, f"set_{name}lim")(0, 1)


def _places(chart: Chart, x: Any, y: Any) -> tuple[Any, Any]:
    """Where points lie, as shares of the axes: so no number is too large for matplotlib."""
    with np.errstate(invalid="ignore"):
        return np.clip(chart.x.share(x), -10, 11), np.clip(chart.y.share(y), -10, 11)


def _dots(chart: Chart, dots: Dots, k: int, axes: Any) -> None:
    x, y = _places(chart, dots.x, dots.y)
    good = np.isfinite(x) & np.isfinite(y)
    axes.scatter(
        x[good], y[good], s=10, alpha=0.6, linewidths=0, rasterized=True,
        color=COLOURS[k % 8], marker=SHAPES[k % 8], label=_safe(dots.name),
    )  # fmt: skip


def _bars(chart: Chart, bars: Bars, axes: Any) -> None:
    x, y = _places(chart, bars.edges, bars.heights)
    ground = float(chart.y.share(0.0))
    axes.bar(x[:-1], y - ground, np.diff(x) * 0.95, ground, align="edge", color=COLOURS[0])


def _line(chart: Chart, line: Line, k: int, axes: Any) -> None:
    x, y = _places(chart, line.x, line.y)
    dash = DASHES[k % 8]
    style: Any = (0, [float(part) / 2 for part in dash.split()]) if dash else "-"
    own, label = {"color": COLOURS[k % 8]}, _safe(line.name)
    for start, end in whole_runs(x, y):
        if end - start == 1:
            axes.plot(x[start:end], y[start:end], ".", label=label, **own)
        else:
            across, up = thinned(x[start:end] * PIXELS, y[start:end])
            axes.plot(across / PIXELS, up, linestyle=style, linewidth=1.5, label=label, **own)
        label = "_"  # the legend names a curve once
    if line.low is not None and line.high is not None:
        band = (_places(chart, line.x, part)[1] for part in (line.low, line.high))
        axes.fill_between(x, *band, alpha=0.18, linewidth=0, **own)


def _spans(chart: Chart, spans: Spans, axes: Any) -> None:
    rows = np.arange(len(spans.labels)) + 0.5
    low, high, value = (chart.x.share(part) for part in (spans.low, spans.high, spans.value))
    axes.hlines(rows, low, high, color=COLOURS[0])
    axes.plot(value, rows, "o", color=COLOURS[0], markersize=5)
    axes.yaxis.set_ticks(rows, [_safe(name) for name in spans.labels])
    axes.set_ylim(len(spans.labels), 0)


def _rules(chart: Chart, axes: Any) -> None:
    faint = {"color": LIGHT["faint"], "linewidth": 0.8, "linestyle": (0, (3, 3))}
    if chart.diagonal:
        axes.plot([0, 1], [0, 1], label="_", **faint)
    for word, place in chart.at:
        x = float(chart.x.share(place))
        axes.axvline(x, **faint)
        _above(axes, word, x)
    for word, *ends in chart.zones:
        low, high = (float(chart.x.share(end)) for end in ends)
        axes.axvspan(low, high, color=LIGHT["minus"], alpha=0.18, linewidth=0, zorder=0)
        _above(axes, word, (low + high) / 2)


def _above(axes: Any, word: str, x: float) -> None:
    axes.annotate(
        _safe(word), (x, 1.0), xycoords=("data", "axes fraction"), ha="center", va="bottom",
        fontsize=8, color=LIGHT["faint"],
    )  # fmt: skip


def _cells(cells: Cells, axes: Any) -> None:
    kinds, levels = strengths(cells)
    picture = np.ones((*cells.values.shape, 3))
    for kind, name in (("plus", "plus"), ("minus", "minus"), ("bad", "faint")):
        colour = np.array([int(LIGHT[name][k : k + 2], 16) for k in (1, 3, 5)]) / 255
        here = kinds == kind
        strength = np.array(LEVELS)[levels[here]][:, None]
        picture[here] = colour * strength + 1 - strength
    axes.imshow(picture, aspect="auto", interpolation="nearest")
    for axis, names in ((axes.xaxis, cells.columns), (axes.yaxis, cells.rows)):
        every = -(-len(names) // 40) or 1
        axis.set_ticks(range(0, len(names), every), [_safe(name[:26]) for name in names[::every]])
    if len(cells.columns) > 8 or max(map(len, cells.columns), default=0) > 6:
        axes.tick_params(axis="x", labelrotation=90)
    if max(cells.values.shape, default=0) <= 16:
        for row, column in np.ndindex(cells.values.shape):
            if value := float(cells.values[row, column]):
                on = levels[row, column] >= 8 and kinds[row, column] != "bad"
                axes.text(
                    column, row, short(value, 3), ha="center", va="center", fontsize=8,
                    color="white" if on else LIGHT["ink"],
                )  # fmt: skip


def _safe(text: str) -> str:
    """Text without control characters, which no font has."""
    return "".join(c if c.isprintable() or c == "\n" else "�" for c in text)
