"""The rows of a comparison: one split for all, and the ways to scale the features."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data import BUNDLED, Standardizer, Table, check_features, check_labels, load_dataset, split
from ..errors import DataError, quoted

__all__ = ["Rows", "rows_of"]

Array = np.ndarray[Any, Any]
VALIDATION = 0.25  # of the training rows, where learning rates are chosen by them


@dataclass(frozen=True, eq=False)
class Rows:
    """Training rows and held-out rows; labels, or numbers standardised by the training rows."""

    name: str
    X: Array
    y: Array
    X_held: Array
    y_held: Array
    classes: int  # 0 for a regression
    own: bool = True  # whether the held-out rows are other rows than those trained on

    @property
    def baseline(self) -> float:
        """The score of a constant answer: the commonest class; R² 0."""
        if self.classes == 0:
            return 0.0
        commonest = np.bincount(self.y, minlength=self.classes).argmax()
        return float(np.mean(self.y_held == commonest))

    @property
    def start(self) -> float:
        """The same on the training rows."""
        return float(np.bincount(self.y).max() / len(self.y)) if self.classes else 0.0

    def scaled(self, inputs: str) -> tuple[Array, Array]:
        """Training and held-out features, scaled by what the training rows say."""
        return _scaled(self.X, self.X_held, inputs)

    def inner(self) -> Rows:
        """The training rows in two, to choose learning rates by: the held-out ones stay unseen."""
        if not self.own:
            return self
        trained, kept = _split(self.y, self.classes, VALIDATION, seed=1)
        parts = (self.X[trained], self.y[trained], self.X[kept], self.y[kept])
        return Rows(self.name, *parts, self.classes)


def _scaled(X: Array, held: Array, inputs: str) -> tuple[Array, Array]:
    if inputs == "raw":
        return X, held
    if inputs == "standardised":
        scale = Standardizer.fit(X)
        return scale(X), scale(held)
    low, high = X.min(), X.max()  # of all columns together: no column is stretched
    X, held = ((part - low) / ((high - low) or 1.0) for part in (X, held))
    shift = X.mean(axis=0) if inputs == "centred" else 0.0
    return X - shift, held - shift


XOR = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])


def rows_of(
    data: Any, target: Any, held_out: float, split_seed: int = 0, task: str | None = None
) -> Rows:
    """The rows of a bundled dataset, "xor", a file or frame with `target`, a Table, or (X, y).

    `held_out` 0 scores on the rows trained on, as for "xor", whose four rows are all there are.
    """
    if isinstance(data, Rows):
        return data
    if isinstance(data, str) and data == "xor" and not os.path.exists(data):
        y = np.array([0, 1, 1, 0])
        return Rows("xor", XOR, y, XOR, y, 2, own=False)
    table = _pair(*data, task) if _is_pair(data) else _table(data, target, task)
    name, X, y, classes = table
    if classes == 0:
        spread = float(np.std(y))
        y = (y - np.mean(y)) / (spread or 1.0)
    if held_out == 0:
        return Rows(name, X, y, X, y, classes, own=False)
    if not 0 < held_out < 1:
        raise DataError(f"held_out is {held_out}, expected a fraction from 0 to below 1, as 0.2")
    train, kept = _split(y, classes, held_out, split_seed)
    return Rows(name, X[train], y[train], X[kept], y[kept], classes)


def _is_pair(data: Any) -> bool:
    return isinstance(data, (tuple, list)) and len(data) == 2


def _pair(X: Any, y: Any, task: str | None) -> tuple[str, Array, Array, int]:
    X = check_features(X).astype(np.float64)
    values = np.asarray(y)
    whole = values.dtype.kind in "iub"
    if task == "classification" or (task is None and whole):
        labels = check_labels(y, len(X))
        return "data", X, labels, int(labels.max()) + 1
    numbers = check_features(values.reshape(len(values), -1), name="y")
    if numbers.shape != (len(X), 1):
        raise DataError(f"y has shape {values.shape}, expected ({len(X)},); give one target a row")
    return "data", X, numbers[:, 0].astype(np.float64), 0


def _table(data: Any, target: Any, task: str | None) -> tuple[str, Array, Array, int]:
    table = data if isinstance(data, Table) else _read(data, target, task)
    classes = len(table.schema.classes or ())
    return table.name, np.asarray(table.features), np.asarray(table.target), classes


def _read(data: Any, target: Any, task: str | None) -> Table:
    """A bundled dataset by name, or a file or frame with its target column."""
    if isinstance(data, str) and data in BUNDLED and not os.path.exists(data):
        if target is not None or task is not None:
            raise DataError(f"'{data}' is a bundled dataset with its own target; leave out target")
        return load_dataset(data)
    if isinstance(data, (str, os.PathLike)):
        path = os.fspath(data)
        if not os.path.exists(path) and not path.lower().endswith((".csv", ".tsv", ".txt")):
            load_dataset(path)  # raises, naming the nearest dataset
    elif not hasattr(data, "columns"):
        raise DataError(
            f"data must be a dataset's name, a file, a data frame, a Table or (X, y), not a"
            f" {type(data).__name__}"
        )
    if target is None:
        shown = quoted(str(data)) if isinstance(data, (str, os.PathLike)) else "the frame"
        raise DataError(f"{shown}: say which column to predict, with target=COLUMN")
    from ..data import read_csv

    return read_csv(data, target, task=task)


def _split(y: Array, classes: int, share: float, seed: int) -> tuple[Array, Array]:
    """The places of the training and of the held-out rows, by the split of `chainrule.data`."""
    table = Table(np.arange(len(y), dtype=np.float64)[:, None], y, _Classes(classes), "data")  # type: ignore[arg-type]
    trained, kept = split(table, share, seed)
    return tuple(part.features[:, 0].astype(np.int64) for part in (trained, kept))  # type: ignore[return-value]


@dataclass(frozen=True)
class _Classes:
    """As much of a schema as a split asks for."""

    count: int

    @property
    def classes(self) -> Sequence[int] | None:
        return range(self.count) if self.count else None
