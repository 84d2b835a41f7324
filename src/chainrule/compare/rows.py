"""The rows of a comparison: one split for all, and the ways to scale the features."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from ..data import BUNDLED, Standardizer, Table, load_dataset, read_table, split
from ..errors import DataError

__all__ = ["Rows", "rows_of"]

Array = np.ndarray[Any, Any]
VALIDATION = 0.25  # of the training rows, where learning rates are chosen by them


@dataclass(frozen=True, eq=False)
class Rows:
    """Training rows and held-out rows; targets are labels, or numbers in the training scale."""

    train: Table
    held: Table
    own: bool = True  # whether the held-out rows are other rows than those trained on

    @property
    def classes(self) -> int:
        """How many there are; 0 for a regression."""
        return len(self.train.schema.classes or ())

    @cached_property
    def y(self) -> Array:
        """The training targets."""
        return self._target(self.train)

    @cached_property
    def y_held(self) -> Array:
        """The held-out targets."""
        return self._target(self.held)

    def _target(self, table: Table) -> Array:
        if self.classes:
            return np.asarray(table.target)
        known = np.asarray(self.train.target)
        return np.asarray((table.target - known.mean()) / (known.std() or 1.0))

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
        X, held = _filled(self.train.features, self.held.features)
        if inputs == "raw":
            return X, held
        if inputs == "standardised":
            scale = Standardizer.fit(X)
            return scale(X), scale(held)
        low, high = X.min(), X.max()  # of all columns together: no column is stretched
        X, held = ((part - low) / ((high - low) or 1.0) for part in (X, held))
        shift = X.mean(axis=0) if inputs == "centred" else 0.0
        return X - shift, held - shift

    def inner(self) -> Rows:
        """The training rows in two, to choose learning rates by: the held-out ones stay unseen."""
        if not self.own:
            return self
        return Rows(*split(self.train, VALIDATION, seed=1))


def _filled(X: Array, held: Array) -> tuple[Array, Array]:
    """Missing values take the mean of their column in the training rows."""
    missing = np.isnan(X)
    if not missing.any() and not np.isnan(held).any():
        return X, held
    counts = np.maximum(1, np.sum(~missing, axis=0))
    means = np.where(missing, 0.0, X).sum(axis=0) / counts
    return np.where(missing, means, X), np.where(np.isnan(held), means, held)


XOR = ([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], ["no", "yes", "yes", "no"])


def rows_of(
    data: Any, target: Any, held_out: float, split_seed: int = 0, task: str | None = None
) -> Rows:
    """The rows of a bundled dataset, "xor", a file or frame with `target`, a Table, or (X, y).

    `held_out` 0 scores on the rows trained on, as for "xor", whose four rows are all there are.
    """
    if isinstance(data, str) and data == "xor" and not os.path.exists(data):
        table, held_out = replace(read_table(XOR, task="classification"), name="xor"), 0.0
    else:
        table = data if isinstance(data, Table) else _read(data, target, task)
    if held_out == 0:
        return Rows(table, table, own=False)
    return Rows(*split(table, held_out, split_seed))


def _read(data: Any, target: Any, task: str | None) -> Table:
    """A bundled dataset by name, or what `read_table` reads."""
    if isinstance(data, str) and not os.path.exists(data):
        if data in BUNDLED:
            if target is None and task is None:
                return load_dataset(data)
            raise DataError(f"'{data}' is a bundled dataset with its own target; leave out target")
        if "." not in data:
            load_dataset(data)  # raises, naming the nearest dataset
    if target is None and not isinstance(data, (tuple, list)):
        shown = f"{data}: " if isinstance(data, (str, os.PathLike)) else ""
        raise DataError(f"{shown}say which column to predict, with target=COLUMN")
    return read_table(data, target, task=task)
