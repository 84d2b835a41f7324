"""What a chart shows, without a word on how it is painted: two painters read it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, quoted
from .scale import Scale

__all__ = ["Bars", "Cells", "Chart", "Dots", "Line", "Mark", "Spans"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Line:
    """A curve, broken where y is not finite; with a band between `low` and `high` if given."""

    name: str
    x: Floats
    y: Floats
    low: Floats | None = None
    high: Floats | None = None


@dataclass(frozen=True, eq=False)
class Dots:
    """Points of one group."""

    name: str
    x: Floats
    y: Floats


@dataclass(frozen=True, eq=False)
class Bars:
    """Bars between neighbouring edges: one edge more than heights."""

    edges: Floats
    heights: Floats


@dataclass(frozen=True, eq=False)
class Cells:
    """A matrix as coloured cells; `split` colours the diagonal and the rest apart."""

    values: Floats
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    split: bool = False


@dataclass(frozen=True, eq=False)
class Spans:
    """Values with an interval each, one below the other."""

    labels: tuple[str, ...]
    value: Floats
    low: Floats
    high: Floats


Mark = Line | Dots | Bars | Cells | Spans


@dataclass(frozen=True, eq=False)
class Chart:
    """A chart: `svg()` is its text, `save(path)` a file, and a notebook shows it.

    `description` says in words what the chart shows, for readers who do not see it; `notes` what
    could not be drawn. The functions of `chainrule.plot` make charts.

    >>> from chainrule import plot
    >>> chart = plot.lines({"loss": [1.0, 0.5, 0.25]}, title="Loss", x_label="epoch")
    >>> chart.description
    'Loss by epoch. loss: 3 values, from 1 to 0.25; lowest 0.25 at 3, highest 1 at 1.'
    >>> chart.svg().startswith("<svg ")
    True
    """

    marks: tuple[Mark, ...]
    x: Scale
    y: Scale
    title: str = ""
    x_label: str = ""
    y_label: str = ""
    description: str = ""
    notes: tuple[str, ...] = ()
    diagonal: bool = False
    at: tuple[tuple[str, float], ...] = ()  # vertical rules with their words
    zones: tuple[tuple[str, float, float], ...] = ()  # shaded from x to x, with their words
    size: tuple[int, int] = field(default=(440, 280))

    def svg(self) -> str:
        """One `<svg>` element that follows the reader's light or dark, on a page and alone."""
        from .svg import svg

        return svg(self)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the chart: .svg by itself, .png and .pdf through matplotlib.

        Raises `DataError` for another ending, and where matplotlib is not installed.
        """
        kind = Path(path).suffix.lower()
        if kind == ".svg":
            Path(path).write_text(self.svg(), encoding="utf-8")
        elif kind in (".png", ".pdf"):
            from .raster import save

            save(self, path, kind[1:])
        else:
            raise DataError(f"{quoted(str(path))}: a chart is saved as .svg, .png or .pdf")

    def _repr_svg_(self) -> str:
        return self.svg()


def numbers(values: Any, what: str) -> Floats:
    """The values as a float64 row; `DataError` where they are anything else."""
    try:
        with np.errstate(all="ignore"):
            found = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError(f"{what} must be numbers, got {quoted(values)}") from None
    if found.ndim != 1:
        raise DataError(f"{what} must be one row of numbers, got shape {found.shape}")
    return found


def together(what: str, *rows: Sequence[Any] | Floats) -> None:
    """`DataError` where rows that belong together differ in length."""
    lengths = [len(row) for row in rows]
    if len(set(lengths)) > 1:
        raise DataError(f"{what}: rows of one length are needed, got {lengths}")
