"""Crossed cases: any base, any setting and any strength of a fault, drawn at random.

The listed faults and sound runs are kinds that somebody thought of, and another seed has the same
kinds. Here data, activation, depth, optimiser, dtype and batch are drawn independently, so that a
diagnosis fitted to the list is found out. Labels are looser: `also` are the usual consequences.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from diagnosis_suite.bases import BINARY, CLASSES, REGRESSION, base
from diagnosis_suite.faults import Change, Fault, nan_cells, permuted
from diagnosis_suite.recipe import Recipe
from diagnosis_suite.sound import Sound

Random = np.random.Generator
EACH = 3  # cases of each problem
SMOOTH = "tanh", "sigmoid"
KINKED = "relu", "leaky_relu"
ANY = (*SMOOTH, *KINKED, "elu", "gelu")
TABLES = [name for name in (*BINARY, *CLASSES, *REGRESSION) if name != "xor"]


def any_base(
    data: tuple[str, ...] | list[str] = TABLES,
    activations: tuple[str, ...] = ANY,
    depths: tuple[int, ...] = (1, 1, 2, 2, 3, 4, 6),
    output: str = "logits",
) -> Callable[[Random], Recipe]:
    """A recipe of which everything is drawn; whether it learns is seen by its outcome."""

    def recipe(rng: Random) -> Recipe:
        optimizer = str(rng.choice(["adam", "sgd", "momentum", "rmsprop"]))
        found = base(
            rng, str(rng.choice(data)), str(rng.choice(activations)), int(rng.choice(depths)),
            optimizer, units=int(rng.integers(6, 40)), output=output,
            dtype=str(rng.choice(["float32", "float64"])), epochs=int(rng.integers(60, 200)),
        )  # fmt: skip
        return replace(found, batch_size=int(rng.choice([16, 32, 64])))

    return recipe


def power(rng: Random, low: float, high: float) -> float:
    """10 to a power between low and high."""
    return float(10 ** rng.uniform(low, high))


# -- faults of any strength -------------------------------------------------------------------


def one_layer(recipe: Recipe, rng: Random) -> list[int]:
    """One hidden layer."""
    return [int(rng.integers(len(recipe.layers) - 1))]


def dead(recipe: Recipe, rng: Random) -> Recipe:
    """A strongly negative bias in one ReLU layer."""
    return recipe.with_layers(one_layer(recipe, rng), bias=-power(rng, 0.8, 1.5))


def saturated(recipe: Recipe, rng: Random) -> Recipe:
    """Large weights in all layers, or a large bias in one."""
    if rng.random() < 0.5:
        return recipe.with_layers(scale=power(rng, 1.2, 2.2))
    return recipe.with_layers(one_layer(recipe, rng), bias=power(rng, 1.0, 1.6))


def vanished(recipe: Recipe, rng: Random) -> Recipe:
    """Sigmoids, or small weights, in a deep network."""
    if rng.random() < 0.5:
        return recipe.with_layers(activation="sigmoid", init="glorot_uniform")
    return recipe.with_layers(init=("normal", power(rng, -2.5, -1.7)))


def faster(recipe: Recipe, rng: Random) -> Recipe:
    """A learning rate that is 30 to 1000 times as large."""
    return recipe.lr_times(power(rng, 1.5, 3))


def slower(recipe: Recipe, rng: Random) -> Recipe:
    """A learning rate 100 to 3000 times as small, or a hundredth of the updates."""
    if rng.random() < 0.7:
        return recipe.lr_times(power(rng, -3.5, -2))
    return replace(recipe, epochs=max(1, recipe.epochs // 100))


def scaled_inputs(recipe: Recipe, rng: Random) -> Recipe:
    """x·a + b in every column, or in one."""
    X = recipe.X.copy()
    chosen = slice(None) if rng.random() < 0.6 else [int(rng.integers(X.shape[1]))]
    X[:, chosen] = X[:, chosen] * power(rng, 0, 3.5) + power(rng, 2, 3.5)
    return replace(recipe, X=X)


def scaled_targets(recipe: Recipe, rng: Random) -> Recipe:
    """y·a + b."""
    return replace(recipe, y=recipe.y * power(rng, 1.5, 3) + power(rng, 2, 4))


def alike(recipe: Recipe, rng: Random) -> Recipe:
    """All weights of the network are one number."""
    value = float(rng.uniform(-0.8, 0.8))
    return recipe.with_layers(range(len(recipe.layers)), init=("constant", value))


def bounded(recipe: Recipe, rng: Random) -> Recipe:
    """An output within bounds that the targets leave, or probabilities for logits."""
    endings = ["sigmoid", "tanh", "relu"] if recipe.task == "regression" else ["sigmoid"]
    return recipe.with_output(activation=str(rng.choice(endings)))


def loud(recipe: Recipe) -> Recipe:
    """An output layer that starts with large weights."""
    return recipe.with_output(scale=300.0)


def certain(recipe: Recipe, rng: Random) -> Recipe:
    """Probabilities, not clipped, for logits."""
    several = recipe.task == "classes"
    changed = recipe.with_output(activation="softmax" if several else "sigmoid")
    return replace(changed, loss="nll" if several else "binary_cross_entropy")


def small(recipe: Recipe, rng: Random) -> Recipe:
    """Without non-linearity, or with one unit."""
    if rng.random() < 0.5:
        return recipe.with_layers(activation="linear")
    return recipe.with_layers(units=1)


BENT = ["circles", "quadrants", "rings", "spirals", "waves", "saddle", "bowl"]
NUMBERS = [name for name in REGRESSION if name != "diabetes"]
LABELS = [name for name in (*BINARY, *CLASSES) if name != "xor"]
RATE_HIGH = "learning_rate_too_high"
DIED = "dead_relu", "saturation", "exploding_gradient"

KINDS: dict[str, tuple[Callable[[Random], Recipe], Change, tuple[str, ...], bool]] = {
    "dead_relu": (any_base(activations=("relu",)), dead, (), True),
    "saturation": (any_base(activations=SMOOTH), saturated, ("vanishing_gradient",), True),
    "vanishing_gradient": (any_base(depths=(6, 8, 10), activations=("tanh", "relu")), vanished,
                           ("dead_relu", "saturation", "symmetric_init"), True),
    RATE_HIGH: (any_base(), faster, DIED, True),
    "learning_rate_too_low": (any_base(), slower, (), True),
    "unscaled_inputs": (any_base(), scaled_inputs, (*DIED, RATE_HIGH), True),
    "unscaled_targets": (any_base(NUMBERS), scaled_targets, (*DIED, RATE_HIGH), True),
    "symmetric_init": (any_base(BENT), alike, ("saturation", "dead_relu"), True),
    "loss_output_mismatch": (any_base([*NUMBERS, "moons", "circles"]), bounded, ("dead_relu",),
                             True),
    "single_class_softmax": (any_base(["moons", "circles", "halves"], output="probabilities"),
                             lambda r, _: r.with_output(activation="softmax"),
                             ("loss_output_mismatch", "zero_probability"), True),
    "zero_probability": (lambda rng: loud(any_base(LABELS)(rng)), certain, (), True),
    "data_fault": (any_base(depths=(1,)), lambda r, g: (nan_cells, permuted)[g.integers(2)](r, g),
                   (), False),
    "insufficient_capacity": (any_base(BENT), small, ("saturation", "dead_relu"), True),
}  # fmt: skip


# -- sound runs with unusual settings ---------------------------------------------------------


def unusual(rng: Random) -> Recipe:
    """Up to three unusual settings at once, none of which need be a fault."""
    recipe = any_base()(rng)
    odd: list[Callable[[Recipe], Recipe]] = [
        lambda r: r.lr_times(power(rng, -0.8, 0.8)),
        lambda r: r.with_layers(bias=float(rng.uniform(-1.5, 1.5))),
        lambda r: r.with_layers(scale=power(rng, -0.5, 0.5)),
        lambda r: replace(r, X=r.X * power(rng, -0.7, 0.7) + float(rng.uniform(-2, 2))),
        lambda r: r.with_output(init="zeros"),
        lambda r: replace(r, batch_size=int(rng.choice([4, 8, 128, len(r.X)]))),
        lambda r: replace(r, epochs=max(2, round(r.epochs * power(rng, -1, 0.5)))),
        lambda r: r.with_layers([0], units=int(rng.integers(3, 100))),
    ]
    for k in rng.choice(len(odd), int(rng.integers(1, 4)), replace=False):
        recipe = odd[k](recipe)
    return recipe


def crossed() -> dict[str, Fault | Sound]:
    """The crossed cases by id: a few of each problem, and as many sound ones."""
    found: dict[str, Fault | Sound] = {}
    for problem, (start, change, also, fixable) in KINDS.items():
        for number in range(1, EACH + 1):
            fault = Fault(problem, f"crossed {number}", start, change, "drawn", also, fixable)
            found[f"crossed/{problem}/{number}"] = fault
    for number in range(1, EACH * len(KINDS) + 1):
        found[f"crossed/sound/{number}"] = Sound(f"crossed {number}", unusual, "drawn")
    return found
