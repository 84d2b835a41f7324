"""What a network is asked for, and how its answers are judged against the best constant answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Task", "task_of"]

Array = Any


@dataclass(frozen=True)
class Task:
    """`kind` is "classes" (one of k), "binary" (one yes or no), "labels" (k yes or no) or
    "regression". `boundary` is where a binary *target* decides: 0.5, or 0 for −1 and 1."""

    kind: str
    boundary: float = 0.5

    @property
    def metric(self) -> str:
        """The name of what `score` gives."""
        return "r2" if self.kind == "regression" else "accuracy"

    def truth(self, y: Array) -> Array:
        """The classes that the targets name, as integers; numbers as they are."""
        y = np.asarray(y)
        if self.kind == "regression":
            return y.reshape(len(y), -1).astype(np.float64)
        if self.kind == "classes":
            return y.argmax(-1) if y.ndim > 1 and y.shape[-1] > 1 else y.reshape(-1)
        return (y.reshape(len(y), -1) > self.boundary).astype(np.int64)

    def answers(self, prediction: Array, boundary: float) -> Array:
        """What a prediction says, in the form of `truth`; `boundary` decides single outputs."""
        p = np.asarray(prediction)
        p = p.reshape(len(p), -1)
        if self.kind == "regression":
            return p.astype(np.float64)
        if self.kind == "labels":
            return (p > boundary).astype(np.int64)
        if p.shape[1] > 1:
            chosen = p.argmax(-1)
        else:
            chosen = (p[:, 0] > (self.boundary if self.boundary != 0.5 else boundary)).astype(int)
        return chosen if self.kind == "classes" else chosen[:, None]

    def score(self, prediction: Array, y: Array, boundary: float = 0.5) -> float:
        """Accuracy, or R² over all outputs together.

        >>> Task("binary").score([[0.2], [0.9]], [[0], [1]])
        1.0
        """
        truth, said = self.truth(y), self.answers(prediction, boundary)
        if self.kind != "regression":
            return float(np.mean(truth == said)) if truth.shape == said.shape else float("nan")
        if truth.shape != said.shape:
            if truth.shape[1] > 1 or len(truth) != len(said):
                return float("nan")
            said = _nearest(truth, said)
        spread = np.square(truth - truth.mean(0)).sum()
        rest = np.square(truth - said).sum()
        return float(1 - rest / spread) if spread else float(rest == 0)

    def left(self, prediction: Array, y: Array, rows: Array, boundary: float = 0.5) -> Array:
        """What is left to learn of some rows: 0 where an answer is right, on average 1 for the
        best constant answer to all of y."""
        truth = self.truth(y)
        said = self.answers(prediction, boundary)
        if self.kind == "regression":
            spread = np.square(truth - truth.mean(0)).sum(1).mean()
            return np.square(truth[rows] - _nearest(truth[rows], said)).sum(1) / (spread or 1.0)
        wrong = (truth[rows] != said).reshape(len(rows), -1).mean(1)
        return wrong / max(1 - self.constant(y), 1e-12)

    def constant(self, y: Array) -> float:
        """The score of the best answer that does not look at X.

        >>> Task("binary").constant([0, 0, 0, 1])
        0.75
        """
        try:
            truth = self.truth(y)
        except (TypeError, ValueError, IndexError):
            return float("nan")
        if self.kind == "regression" or not truth.size:
            return 0.0
        if self.kind == "classes":
            return float(np.unique(truth, return_counts=True)[1].max() / len(truth))
        share = truth.mean(0)
        return float(np.maximum(share, 1 - share).mean())


def _nearest(truth: Array, said: Array) -> Array:
    """Of several outputs for one number, as a mean beside its variance, the one that is nearest."""
    if truth.shape[1] > 1 or said.shape[1] < 2:
        return said
    best = int(np.argmin(np.square(truth - said).sum(0)))
    return said[:, best : best + 1]


def task_of(loss: Any, y: Array, outputs: int) -> Task:
    """The task that targets of this form mean under this loss, for a network of so many outputs.

    Integer labels under a class loss, or for as many outputs under a function of the user's own,
    and rows with a single 1, name one of k classes; targets of two values 0 and 1, or −1 and 1, ask
    one question an output; all else is regression.
    """
    y = np.asarray(y)
    columns = 1 if y.ndim == 1 else int(np.prod(y.shape[1:]))
    if y.dtype.kind not in "fiub" or not y.size:
        return Task("classes")
    whole = y.reshape(len(y), -1)
    values = np.unique(whole[np.isfinite(whole)] if whole.dtype.kind == "f" else whole)
    if getattr(loss, "takes_labels", False):
        if columns == 1:
            return Task("binary" if outputs == 1 and set(values) <= {0, 1} else "classes")
        if set(values) <= {0, 1} and not (whole.sum(1) == 1).all():
            return Task("labels")
        return Task("classes")
    if columns == 1 < outputs and set(values) <= set(range(outputs)):
        return Task("classes")
    if len(values) <= 2 and set(values) <= {0, 1}:
        if columns > 1 and (whole.sum(1) == 1).all():
            return Task("classes")
        return Task("binary" if columns == 1 else "labels")
    if len(values) == 2 and set(values) == {-1, 1} and columns == 1:
        return Task("binary", 0.0)
    return Task("regression")
