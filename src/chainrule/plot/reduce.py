"""Fewer points that look the same: a chart is as large as its pixels, not as its data."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["density", "thinned", "whole_runs"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
LOOPS = 10_000  # points of a curve that runs back and forth before some are left out


def whole_runs(x: Floats, y: Floats) -> list[tuple[int, int]]:
    """Where a curve is unbroken: (start, end) of each run of finite points.

    >>> whole_runs(np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, np.nan, 2.0, 3.0]))
    [(0, 1), (2, 4)]
    """
    good = np.isfinite(x) & np.isfinite(y)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], good, [False]]).astype(np.int8)))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def thinned(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """A curve in pixels with the first, least, greatest and last y of each column of pixels.

    What is left covers the same pixels; it has at most four points a column.

    >>> xs = np.linspace(0.0, 10.0, 100_001)
    >>> len(thinned(xs, np.sin(xs))[0]) <= 44
    True
    """
    if len(x) > LOOPS and np.any(np.diff(x) < 0):
        return _corners(x, y)
    columns = np.floor(x)
    if len(x) < 3 or len(x) <= 4 * (np.ptp(columns) + 1):
        return x, y
    starts = np.flatnonzero(np.concatenate([[True], columns[1:] != columns[:-1]]))
    ends = np.concatenate([starts[1:], [len(x)]]) - 1
    middle = (x[starts] + x[ends]) / 2
    low, high = np.minimum.reduceat(y, starts), np.maximum.reduceat(y, starts)
    xs = np.stack([x[starts], middle, middle, x[ends]], axis=1).ravel()
    ys = np.stack([y[starts], low, high, y[ends]], axis=1).ravel()
    return xs, ys


def _corners(x: Floats, y: Floats, parts: int = 2000) -> tuple[Floats, Floats]:
    """A curve that runs back and forth: of each stretch the first point and the outermost."""
    size = -(-len(x) // parts)
    filled = size * -(-len(x) // size) - len(x)
    grid = [np.pad(v, (0, filled), mode="edge").reshape(-1, size) for v in (x, y)]
    kept = [found(v, axis=1) for v in grid for found in (np.argmin, np.argmax)]
    rows = np.arange(len(grid[0]))[:, None] * size
    index = np.sort(np.stack([np.zeros_like(kept[0]), *kept], axis=1), axis=1) + rows
    index = np.minimum(index.ravel(), len(x) - 1)
    return x[index], y[index]


def density(x: Floats, y: Floats, side: float) -> tuple[Ints, Ints, Ints]:
    """How many points fall on each square of a grid: its column, its row, the count.

    >>> [part.tolist() for part in density(np.array([0.5, 0.6, 9.0]), np.zeros(3), 4.0)]
    [[0, 2], [0, 0], [2, 1]]
    """
    columns, rows = (np.floor(part / side).astype(np.int64) for part in (x, y))
    wide = int(np.ptp(rows)) + 1 if len(rows) else 1
    first = int(rows.min()) if len(rows) else 0
    keys, counts = np.unique(columns * wide + rows - first, return_counts=True)
    return keys // wide, keys % wide + first, counts
