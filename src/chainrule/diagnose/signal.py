"""Whether X says anything about y: simple rules learnt on some rows, asked about the others.

No network takes part, so none can be to blame. The rules are a plane and the mean of the nearest
rows; what counts as chance is what they reach when y is shuffled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .task import Task

__all__ = ["Signal", "signal"]

Array = Any

FOLDS = 4
NEAREST = 7
SHUFFLES = 99
ROWS = 1500  # rows that are enough to see a signal that a network could use
COLUMNS = 400


@dataclass(frozen=True)
class Signal:
    """R² on rows not seen, of the better rule; the largest of that for shuffled targets."""

    found: float
    chance: float
    share: float  # of the shuffles that do as well

    @property
    def there(self) -> bool:
        """Whether y is told better than every shuffle of it is."""
        return self.share <= 1 / (1 + SHUFFLES)


def signal(X: Array, y: Array, task: Task, seed: int = 0) -> Signal | None:
    """What X tells about y, against 99 shuffles of y; None where there are too few rows to say.

    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 3))
    >>> signal(X, X[:, 0] * X[:, 1], Task("regression")).there
    True
    >>> signal(X, rng.normal(size=200), Task("regression")).there
    False
    """
    found = _targets(y, task)
    X = np.asarray(X)
    if found is None or X.dtype.kind not in "fiub" or len(X) < 10 * FOLDS:
        return None
    rng = np.random.default_rng([seed, 5])
    chosen = rng.permutation(len(X))[:ROWS]
    flat = X.reshape(len(X), -1)[chosen].astype(np.float64)
    targets = found[chosen]
    if not (np.isfinite(flat).all() and np.isfinite(targets).all()):
        return None
    flat = flat[:, flat.std(0) > 0][:, :COLUMNS]
    if not flat.shape[1] or not (targets.std(0) > 0).any():
        return Signal(0.0, 0.0, 1.0)
    flat = (flat - flat.mean(0)) / flat.std(0)
    targets = targets - targets.mean(0)  # so that the ridge holds nothing back of a far centre
    rules = [_plane(flat), _nearest(flat)]
    own = _skill(rules, targets)
    others = [_skill(rules, targets[rng.permutation(len(targets))]) for _ in range(SHUFFLES)]
    as_good = sum(other >= own for other in others)
    return Signal(own, max(others), (1 + as_good) / (1 + SHUFFLES))


def _targets(y: Array, task: Task) -> Array | None:
    """One column of numbers for each question: a column a class where there are classes."""
    try:
        truth = np.asarray(task.truth(y))
    except (TypeError, ValueError, IndexError):
        return None
    if truth.dtype.kind not in "fiub":
        return None
    if task.kind == "classes":
        return (truth[:, None] == np.unique(truth)[:50]).astype(np.float64)
    return truth.reshape(len(truth), -1).astype(np.float64)


def _folds(n: int) -> list[Array]:
    return [np.arange(k, n, FOLDS) for k in range(FOLDS)]


def _plane(X: Array) -> Array:
    """The matrix H with H·y the predictions of rows by a plane through the other folds."""
    n = len(X)
    ones = np.column_stack([X, np.ones(n)])
    whole = np.zeros((n, n))
    for held in _folds(n):
        seen = np.setdiff1d(np.arange(n), held)
        A = ones[seen]
        ridge = 1e-3 * len(seen) * np.eye(A.shape[1])
        whole[np.ix_(held, seen)] = ones[held] @ np.linalg.solve(A.T @ A + ridge, A.T)
    return whole


def _nearest(X: Array) -> Array:
    """The same by the mean of the nearest rows of the other folds."""
    n = len(X)
    squares = np.square(X).sum(1)
    apart = squares[:, None] + squares - 2 * X @ X.T
    fold = np.arange(n) % FOLDS
    apart[fold[:, None] == fold] = np.inf
    near = np.argpartition(apart, NEAREST, axis=1)[:, :NEAREST]
    whole = np.zeros((n, n))
    np.put_along_axis(whole, near, 1 / NEAREST, axis=1)
    return whole


def _skill(rules: list[Array], targets: Array) -> float:
    """The largest 1 − Σ(y − ŷ)²/Σ(y − ȳ)² over the rules."""
    spread = np.square(targets - targets.mean(0)).sum()
    rest = min(float(np.square(targets - rule @ targets).sum()) for rule in rules)
    return 1 - rest / float(spread) if spread else 0.0
