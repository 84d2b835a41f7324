"""Data sets from formulas, and chainrule's bundled tables: each (rng, n, …) ↦ (X, y)."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from chainrule.data import load_dataset

Array = np.ndarray[Any, Any]
Random = np.random.Generator

# -- two classes, as a column of 0 and 1 ------------------------------------------------------


def moons(rng: Random, n: int, noise: float = 0.1) -> tuple[Array, Array]:
    """Two interleaved half circles."""
    t, y = rng.uniform(0, np.pi, n), np.arange(n) % 2
    X = np.where(y, [1 - np.cos(t), 0.5 - np.sin(t)], [np.cos(t), np.sin(t)]).T
    return X + noise * rng.normal(size=X.shape), column(y)


def circles(rng: Random, n: int, noise: float = 0.08, inner: float = 0.4) -> tuple[Array, Array]:
    """A ring within a ring."""
    t, y = rng.uniform(0, 2 * np.pi, n), np.arange(n) % 2
    X = np.where(y, inner, 1.0) * np.array([np.cos(t), np.sin(t)])
    return X.T + noise * rng.normal(size=(n, 2)), column(y)


def quadrants(rng: Random, n: int, gap: float = 0.1) -> tuple[Array, Array]:
    """XOR with a margin: which of the two coordinates have the same sign."""
    X = rng.uniform(gap, 1, (n, 2)) * rng.choice([-1, 1], (n, 2))
    return X, column(X[:, 0] * X[:, 1] > 0)


def xor(rng: Random, n: int) -> tuple[Array, Array]:
    """The four rows of XOR, repeated."""
    X = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    X = np.tile(X, (max(1, n // 4), 1))
    return X, column(X.sum(axis=1) == 1)


def halves(rng: Random, n: int, gap: float = 0.2, columns: int = 4) -> tuple[Array, Array]:
    """Two classes on either side of a plane, `gap` away from it."""
    w = rng.normal(size=columns)
    w /= np.linalg.norm(w)
    y = np.arange(n) % 2
    X = rng.normal(size=(n, columns))
    side = np.where(y, 1, -1) * (gap + np.abs(rng.normal(size=n)))
    return X - np.outer(X @ w, w) + np.outer(side, w), column(y)


def overlapping(rng: Random, n: int, distance: float, share: float = 0.5) -> tuple[Array, Array]:
    """Two normal clouds so many standard deviations apart; `share` of the rows are of class 1."""
    y = np.arange(n) < round(share * n)
    X = rng.normal(size=(n, 3))
    X[:, 0] += np.where(y, distance / 2, -distance / 2)
    return X, column(y)


def column(y: Any) -> Array:
    """0 and 1 as an (n, 1) array of floats."""
    return np.asarray(y, dtype=np.float64).reshape(-1, 1)


# -- several classes, as integers -------------------------------------------------------------


def blobs(rng: Random, n: int, classes: int = 3, columns: int = 2, std: float = 0.5) -> Any:
    """Normal clouds round points that lie at least three apart, standardised."""
    centres = [rng.uniform(-5, 5, columns)]
    while len(centres) < classes:
        new = rng.uniform(-5, 5, columns)
        if min(np.linalg.norm(new - c) for c in centres) > 3:
            centres.append(new)
    y = np.arange(n) % classes
    return standard(np.array(centres)[y] + std * rng.normal(size=(n, columns))), y


def spirals(rng: Random, n: int, arms: int = 2, turns: float = 0.8, noise: float = 0.03) -> Any:
    """Arms that wind round each other; the second coordinate of a polar curve r = t."""
    y, t = np.arange(n) % arms, np.sqrt(rng.uniform(0.02, 1, n))
    angle = 2 * np.pi * (turns * t + y / arms)
    X = t * np.array([np.cos(angle), np.sin(angle)])
    return X.T * 2 + noise * rng.normal(size=(n, 2)), y


def rings(rng: Random, n: int, classes: int = 3, noise: float = 0.08) -> Any:
    """Rings of radius 0.5, 1.2, 1.9, …: which one."""
    y, t = np.arange(n) % classes, rng.uniform(0, 2 * np.pi, n)
    X = (0.5 + 0.7 * y) * np.array([np.cos(t), np.sin(t)])
    return X.T + noise * rng.normal(size=(n, 2)), y


def bundled(rng: Random, n: int, name: str = "iris", scaled: bool = True) -> tuple[Array, Array]:
    """At most n rows of a bundled table, drawn without replacement."""
    X, y = _whole(name)
    rows = rng.permutation(len(X))[:n]
    X = X[rows] if not scaled else standard(X[rows])
    if name == "diabetes":
        return X, standard(y[rows].astype(np.float64).reshape(-1, 1))
    return X, (column(y[rows]) if y.max() == 1 else y[rows])


@cache
def _whole(name: str) -> tuple[Array, Array]:
    table = load_dataset(name)
    return np.asarray(table.features, dtype=np.float64), np.asarray(table.target)


def standard(X: Array) -> Array:
    """Each column with mean 0 and standard deviation 1; a constant one is 0."""
    std = X.std(axis=0)
    found: Array = (X - X.mean(axis=0)) / np.where(std == 0, 1, std)
    return found


# -- numbers, as a column of standard deviation about 1 ---------------------------------------


def sine(rng: Random, n: int, noise: float = 0.1, waves: float = 1.0) -> tuple[Array, Array]:
    """y = sin(2π·waves·x/2), x from −1 to 1."""
    X = rng.uniform(-1, 1, (n, 1))
    return X * 1.7, 1.4 * np.sin(np.pi * waves * X) + noise * rng.normal(size=(n, 1))


def plane(rng: Random, n: int, noise: float = 0.1, columns: int = 4) -> tuple[Array, Array]:
    """y = w·x with ‖w‖ = 1."""
    X, w = rng.normal(size=(n, columns)), rng.normal(size=(columns, 1))
    return X, X @ w / np.linalg.norm(w) + noise * rng.normal(size=(n, 1))


def saddle(rng: Random, n: int, noise: float = 0.1) -> tuple[Array, Array]:
    """y = x₀·x₁, which no plane fits."""
    X = rng.uniform(-1.7, 1.7, (n, 2))
    return X, X[:, :1] * X[:, 1:] + noise * rng.normal(size=(n, 1))


def bowl(rng: Random, n: int, noise: float = 0.1) -> tuple[Array, Array]:
    """y = ‖x‖² less its mean: even, so that a line has nothing to find."""
    X = rng.uniform(-1.5, 1.5, (n, 2))
    y = np.square(X).sum(axis=1, keepdims=True)
    return X, y - y.mean() + noise * rng.normal(size=(n, 1))


def friedman(rng: Random, n: int, noise: float = 0.1) -> tuple[Array, Array]:
    """10 sin(πx₀x₁) + 20(x₂ − ½)² + 10x₃ + 5x₄, both standardised. Source: Friedman 1991."""
    X = rng.uniform(0, 1, (n, 5))
    y = 10 * np.sin(np.pi * X[:, 0] * X[:, 1]) + 20 * (X[:, 2] - 0.5) ** 2
    y = standard((y + 10 * X[:, 3] + 5 * X[:, 4])[:, None])
    return standard(X), y + noise * rng.normal(size=(n, 1))


def pair_of_waves(rng: Random, n: int, noise: float = 0.05) -> tuple[Array, Array]:
    """Two outputs: sin(2x₀) and cos(2x₁)."""
    X = rng.uniform(-1.5, 1.5, (n, 2))
    y = np.stack([np.sin(2 * X[:, 0]), np.cos(2 * X[:, 1])], axis=1)
    return X, y + noise * rng.normal(size=(n, 2))


# -- several labels a row ---------------------------------------------------------------------


def tags(rng: Random, n: int, columns: int = 5) -> tuple[Array, Array]:
    """Four labels of their own, each a half space; about half of them hold in a row."""
    X = rng.normal(size=(n, columns))
    return X, np.asarray(X @ rng.normal(size=(columns, 4)) > 0, dtype=np.float64)
