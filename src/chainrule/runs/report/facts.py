"""What the page says of a run, worked out once: predictions, losses by row, the columns."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...data.mapped import blocks
from ...draw.face import clean

__all__ = ["Facts", "Measures"]

Floats = NDArray[np.float64]
LONG = 48  # letters of a name; longer ones are cut


@dataclass(frozen=True)
class Measures:
    """Of each feature, over the rows in which it is known: their number, sum and range."""

    known: NDArray[np.int64]
    total: Floats
    low: Floats
    high: Floats

    @property
    def mean(self) -> Floats:
        """The mean; 0 where it is never known."""
        return np.asarray(self.total / np.maximum(self.known, 1), np.float64)


@dataclass
class Facts:
    """A `Trained` and what follows from it."""

    trained: Any
    name: str

    @property
    def schema(self) -> Any:
        """The columns, the target and its classes."""
        return self.trained.predictor.schema

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The classes by name; None for a regression."""
        found = self.schema.classes
        return None if found is None else tuple(clean(name, LONG) for name in found)

    @property
    def target(self) -> str:
        """The target's name."""
        return clean(self.schema.target, LONG)

    @property
    def model(self) -> Any:
        """The network."""
        return self.trained.predictor.model

    @property
    def held_out(self) -> Any:
        """The rows that the score is of."""
        return self.trained.held_out

    @cached_property
    def parameters(self) -> int:
        """How many numbers the network has learnt."""
        return sum(int(np.size(p.value)) for _, p in self.model.named_parameters())

    @cached_property
    def scores(self) -> Floats:
        """Probabilities or values for the held-out rows."""
        return np.asarray(self.trained.predictor.scores(self.held_out.features), np.float64)

    @cached_property
    def truth(self) -> NDArray[Any]:
        """Labels or values of the held-out rows."""
        return np.asarray(self.held_out.target)

    @cached_property
    def answers(self) -> NDArray[Any]:
        """The predicted label or value of each held-out row."""
        return self.scores if self.classes is None else np.argmax(self.scores, axis=1)

    @cached_property
    def confusion(self) -> NDArray[np.int64]:
        """How often class i (row) was taken for class j (column)."""
        count = len(self.classes or ())
        found = np.zeros((count, count), np.int64)
        np.add.at(found, (self.truth, self.answers), 1)
        return found

    @cached_property
    def losses(self) -> Floats:
        """−log of the true class's probability, or the distance to the true value, by row."""
        if self.classes is None:
            return np.asarray(np.abs(self.truth - self.scores), np.float64)
        with np.errstate(divide="ignore"):
            mine = self.scores[np.arange(len(self.truth)), self.truth]
            return np.asarray(-np.log(mine) + 0.0, np.float64)

    @cached_property
    def worst(self) -> list[int]:
        """The five held-out rows with the largest losses, the largest first."""
        losses = np.where(np.isnan(self.losses), math.inf, self.losses)
        return [int(k) for k in np.argsort(-losses, kind="stable")[:5]]

    def unusual(self, row: int, most: int = 3) -> list[tuple[str, float, float]]:
        """The features of a held-out row furthest from the training mean: name, value, deviations.

        A deviation is the training rows' standard deviation; a constant feature has none. Of a
        category's features the one that the row has is looked at.
        """
        values = np.asarray(self.held_out.features[row], np.float64)
        mean, deviation = self._usual
        away = np.divide(values - mean, deviation, out=np.zeros_like(values), where=deviation > 0)
        away = np.where(np.isfinite(away) & ~(self.flags & (values == 0)), away, 0.0)
        names = self.schema.feature_names
        order = np.argsort(-np.abs(away), kind="stable")[:most]
        return [
            (clean(names[k], LONG), float(values[k]), float(away[k]))
            for k in order.tolist()
            if away[k]
        ]

    @cached_property
    def _usual(self) -> tuple[Floats, Floats]:
        """Mean and deviation of each feature over the training rows in which it is known."""
        mean, square = self.measures.mean, np.zeros(self.schema.width)
        for part in self.blocks():
            square += (np.where(np.isfinite(part), part - mean, 0.0) ** 2).sum(axis=0)
        return mean, np.sqrt(square / np.maximum(self.measures.known, 1))

    def blocks(self) -> Iterator[Floats]:
        """The training rows' features, some at a time: they may be more than memory holds."""
        return (np.asarray(part, np.float64) for part in blocks(self.trained.train.features))

    @cached_property
    def measures(self) -> Measures:
        """What the training rows' features are between."""
        width = self.schema.width
        known, total = np.zeros(width, np.int64), np.zeros(width)
        low, high = np.full(width, np.inf), np.full(width, -np.inf)
        for part in self.blocks():
            there = np.isfinite(part)
            known += there.sum(axis=0)
            total += np.where(there, part, 0.0).sum(axis=0)
            low = np.minimum(low, np.where(there, part, np.inf).min(axis=0))
            high = np.maximum(high, np.where(there, part, -np.inf).max(axis=0))
        return Measures(known, total, low, high)

    @cached_property
    def flags(self) -> NDArray[np.bool_]:
        """Which features say yes or no: those of a category, and that a number is missing."""
        found = [c.kind != "number" or k > 0 for c in self.schema.columns for k in range(c.width)]
        return np.array(found, dtype=bool)

    @cached_property
    def side(self) -> int:
        """The side of the square picture that a row is, 0 where rows are no pictures.

        They are taken for pictures where a square number of number columns, 16 or more, have names
        that differ in their digits alone, and no value is negative.
        """
        schema = self.schema
        side = math.isqrt(schema.width)
        names = {"".join(c for c in str(n) if not c.isdigit()) for n in schema.feature_names}
        numbers = all(getattr(c, "kind", "") == "number" for c in schema.columns)
        alike = side >= 4 and side * side == schema.width and len(names) == 1
        return side if alike and numbers and self.measures.low.min() >= 0 else 0
