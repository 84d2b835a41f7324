"""What the page says of a run, worked out once: predictions, losses by row, the columns."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Facts"]

Floats = NDArray[np.float64]


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
        return None if found is None else tuple(str(name) for name in found)

    @property
    def target(self) -> str:
        """The target's name."""
        return str(self.schema.target)

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
            (str(names[k]), float(values[k]), float(away[k])) for k in order.tolist() if away[k]
        ]

    @cached_property
    def _usual(self) -> tuple[Floats, Floats]:
        """Mean and deviation of each feature over the training rows in which it is known."""
        known = np.asarray(self.trained.train.features, np.float64)
        there = np.isfinite(known)
        count = np.maximum(there.sum(axis=0), 1)
        mean = np.where(there, known, 0).sum(axis=0) / count
        square = np.where(there, known - mean, 0.0) ** 2
        return mean, np.sqrt(square.sum(axis=0) / count)

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
        schema, features = self.schema, np.asarray(self.trained.train.features)
        side = math.isqrt(features.shape[1])
        names = {"".join(c for c in str(n) if not c.isdigit()) for n in schema.feature_names}
        numbers = all(getattr(c, "kind", "") == "number" for c in schema.columns)
        alike = side >= 4 and side * side == features.shape[1] and len(names) == 1
        return side if alike and numbers and features.min(initial=0) >= 0 else 0
