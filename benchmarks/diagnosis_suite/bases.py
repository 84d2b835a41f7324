"""Ordinary recipes that learn: what a fault is planted in, and what a borderline case departs from.

Each draws its sizes and seeds from `rng`; goals are what the formula of the data allows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

import diagnosis_suite.tables as tables
from diagnosis_suite.recipe import Layer, Recipe

Random = np.random.Generator
BATCH = 32
USUAL = {"adam": 0.015, "rmsprop": 0.005, "sgd": 0.15, "momentum": 0.03}  # learning rates

# By name: the rows (a multiple of the batch: no short last one), how they are made, and the goal.
Source = tuple[int, Callable[[Random, int], Any], float]
BINARY: dict[str, Source] = {
    "moons": (256, tables.moons, 0.95),
    "circles": (256, tables.circles, 0.95),
    "quadrants": (256, tables.quadrants, 0.95),
    "halves": (192, tables.halves, 0.95),
    "xor": (4, tables.xor, 1.0),
    "breast_cancer": (384, lambda rng, n: tables.bundled(rng, n, "breast_cancer"), 0.95),
}
CLASSES: dict[str, Source] = {
    "blobs": (256, tables.blobs, 0.95),
    "rings": (256, tables.rings, 0.95),
    "spirals": (256, tables.spirals, 0.93),
    "iris": (128, lambda rng, n: tables.bundled(rng, n, "iris"), 0.93),
    "wine": (160, lambda rng, n: tables.bundled(rng, n, "wine"), 0.95),
    "digits": (480, lambda rng, n: tables.bundled(rng, n, "digits"), 0.93),
}
REGRESSION: dict[str, Source] = {
    "sine": (192, tables.sine, 0.9),
    "waves": (256, lambda rng, n: tables.sine(rng, n, waves=2.0), 0.85),
    "plane": (192, tables.plane, 0.9),
    "saddle": (256, tables.saddle, 0.9),
    "bowl": (256, tables.bowl, 0.9),
    "friedman": (256, tables.friedman, 0.85),
    "two outputs": (256, tables.pair_of_waves, 0.85),
    "diabetes": (416, lambda rng, n: tables.bundled(rng, n, "diabetes"), 0.4),
}


def base(
    rng: Random,
    data: str,
    activation: str = "tanh",
    depth: int = 1,
    optimizer: str = "adam",
    *,
    units: int | None = None,
    output: str = "logits",
    dtype: str = "float32",
    epochs: int | None = None,
    lr: float | None = None,
) -> Recipe:
    """A sound network of `depth` hidden layers on the data of that name.

    `output` is "logits" or "probabilities" (with the clip that is usual). Units, seeds and, within
    a factor of 1.5, learning rates are drawn.
    """
    task, (n, make, goal) = _task(data)
    X, y = make(rng, n)
    width = int(rng.integers(10, 25)) if units is None else units
    init = "he_normal" if activation in ("relu", "leaky_relu", "elu") else "glorot_uniform"
    hidden = tuple(Layer(width, activation, init) for _ in range(depth))
    recipe = Recipe(
        X, y, (*hidden, _last(task, y, output)), task, _loss(task, output), goal,
        optimizer="sgd" if optimizer == "momentum" else optimizer,
        settings=_settings(rng, optimizer, depth, lr),
        epochs=epochs or (300 if n < 10 else 80 if optimizer == "adam" else 120),
        batch_size=min(BATCH, n), seed=int(rng.integers(1000)), dtype=dtype,
    )  # fmt: skip
    return recipe if output == "logits" or task == "regression" else replace(recipe, clip=1e-7)


def _task(data: str) -> tuple[str, Source]:
    for task, sources in (("binary", BINARY), ("classes", CLASSES), ("regression", REGRESSION)):
        if data in sources:
            return task, sources[data]
    raise KeyError(data)


def _last(task: str, y: Any, output: str) -> Layer:
    if task == "regression":
        return Layer(y.shape[1])
    ending = {"binary": "sigmoid", "classes": "softmax"}[task]
    units = 1 if task == "binary" else int(y.max()) + 1
    return Layer(units, "linear" if output == "logits" else ending)


def _loss(task: str, output: str) -> str:
    if task == "regression":
        return "mean_squared_error"
    names = {
        ("binary", "logits"): "logistic",
        ("binary", "probabilities"): "binary_cross_entropy",
        ("classes", "logits"): "softmax_cross_entropy",
        ("classes", "probabilities"): "nll",
    }
    return names[task, output]


def _settings(rng: Random, optimizer: str, depth: int, lr: float | None) -> dict[str, Any]:
    """Usual learning rates: smaller where the net is deep or momentum multiplies the steps."""
    usual = USUAL[optimizer]
    usual *= 1.0 if depth < 4 else 0.3
    found: dict[str, Any] = {"lr": lr or float(usual * rng.uniform(0.8, 1.5))}
    return {**found, "momentum": 0.9} if optimizer == "momentum" else found
