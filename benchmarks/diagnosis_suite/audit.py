"""Are the labels right? Generic repairs, each of one problem, are tried on every faulty run.

A repair that reaches the goal confirms the problem that it is for. So a label is in doubt where
only repairs of other problems work, and a run is ambiguous where those of several do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

import diagnosis_suite.tables as tables
from diagnosis_suite.case import Case
from diagnosis_suite.recipe import Layer, Recipe

START = (
    "dead_relu", "saturation", "vanishing_gradient", "exploding_gradient", "symmetric_init",
    "zero_probability",
)  # fmt: skip
OTHER = "dead_relu", "saturation", "vanishing_gradient", "symmetric_init", "insufficient_capacity"


def repairs(recipe: Recipe) -> Iterator[tuple[str, Recipe, tuple[str, ...]]]:
    """Each repair: what is done, the recipe with it, and the problems that it is for."""
    for factor in (10, 100, 1000):
        yield f"lr × {factor}", recipe.lr_times(factor), ("learning_rate_too_low",)
    for factor in (3, 10, 100, 1000):
        yield f"lr ÷ {factor}", recipe.lr_times(1 / factor), ("learning_rate_too_high",)
    more = replace(recipe, epochs=recipe.epochs * 10)
    yield "epochs × 10", more, ("learning_rate_too_low",)
    if np.isfinite(recipe.X).all() and recipe.X.std(axis=0).min() > 0:
        scaled = replace(recipe, X=tables.standard(recipe.X))
        yield "standardised inputs", scaled, ("unscaled_inputs",)
    if recipe.task == "regression" and np.isfinite(recipe.y).all():
        scaled = replace(recipe, y=tables.standard(recipe.y), truth=None)
        yield "standardised targets", scaled, ("unscaled_targets",)
    clipped = recipe.with_settings(clip_norm=1.0)
    yield "clipped gradients", clipped, ("exploding_gradient",)
    yield "usual start", replace(recipe, layers=tuple(map(_started, recipe.layers))), START
    if len(recipe.layers) > 1:
        yield "leaky ReLU", recipe.with_layers(activation="leaky_relu"), OTHER
        yield "tanh", recipe.with_layers(activation="tanh"), OTHER
    wider = (Layer(24, "tanh"), *recipe.layers)
    yield "one more layer", replace(recipe, layers=wider), ("insufficient_capacity",)


def _started(layer: Layer) -> Layer:
    init = "he_normal" if layer.activation in ("relu", "leaky_relu") else "glorot_uniform"
    return replace(layer, init=init, scale=1.0, bias=0.0)


def audited(case: Case) -> tuple[str, list[str], list[str]]:
    """A faulty run's id, the repairs that reach its goal, and those of them for other problems."""
    names = {*case.problems, *case.acceptable}
    works = [(what, for_) for what, recipe, for_ in repairs(case.recipe) if _reaches(case, recipe)]
    return case.id, [what for what, _ in works], [w for w, for_ in works if not names & set(for_)]


def _reaches(case: Case, recipe: Recipe) -> bool:
    return recipe.reached() >= case.recipe.goal
