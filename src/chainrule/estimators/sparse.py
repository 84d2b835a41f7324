"""Sparse X for `fit`: made dense at once where that is little, else batch by batch."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any

import numpy as np

__all__ = ["CELLS", "ROWS", "SparseBatches", "dense", "is_large", "parts"]

Array = np.ndarray[Any, Any]
LARGE = 1 << 28  # bytes that a sparse X may take as a dense one: more comes in batches
CELLS = 1 << 22  # numbers of a sparse X that are made dense at once, for a prediction
ROWS = 4096  # rows that are predicted at once


def dense(X: Any) -> Any:
    """X as an array."""
    return X.toarray() if hasattr(X, "toarray") else X


def is_large(X: Any) -> bool:
    """Whether X is sparse, and too large to be made dense as a whole."""
    return hasattr(X, "toarray") and X.shape[0] * X.shape[1] * X.dtype.itemsize > LARGE


def parts(X: Any) -> Iterator[Any]:
    """X in parts of so many rows; sparse ones are made dense one part at a time."""
    count = X.shape[0]
    size = ROWS if isinstance(X, np.ndarray) else max(1, CELLS // max(1, X.shape[1]))
    for start in range(0, count, size):
        yield dense(X[start : start + size])


class SparseBatches:
    """Batches for `fit`, in the order in which it visits the rows of an array.

    >>> from scipy.sparse import eye_array
    >>> batches = SparseBatches(eye_array(3).tocsr(), np.arange(3), None, 2, True, 0)
    >>> [y.tolist() for X, y in batches.epoch(1)]
    [[1, 2], [0]]
    """

    def __init__(
        self, X: Any, y: Array, weight: Array | None, size: int, shuffle: bool, seed: int
    ) -> None:
        kept = slice(None) if weight is None or weight.all() else np.flatnonzero(weight)
        self.X, self.y = X[kept], y[kept]
        self.weight = None if weight is None else weight[kept]
        self.batch_size, self.shuffle, self.seed = size, shuffle, seed
        self.rows = self.X.shape[0]

    def first(self) -> tuple[Any, ...]:
        """A sample, for shapes."""
        return self._taken(np.arange(min(self.batch_size, self.rows)))

    def epoch(self, epoch: int) -> Generator[tuple[Any, ...], None, None]:
        """The batches of an epoch, from 1."""
        order = np.arange(self.rows)
        if self.shuffle and self.batch_size < self.rows:
            order = np.random.default_rng([self.seed, 10000 + epoch]).permutation(self.rows)
        for start in range(0, self.rows, self.batch_size):
            yield self._taken(order[start : start + self.batch_size])

    def _taken(self, rows: Array) -> tuple[Any, ...]:
        pair = dense(self.X[rows]), self.y[rows]
        return pair if self.weight is None else (*pair, self.weight[rows])
