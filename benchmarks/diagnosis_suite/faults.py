"""The faults: each is one documented change to a sound recipe, and undoing it is the fix.

A row of `FAULTS` says which problem is planted, in which base, by what. `also` are further names
that hold of the planted run: their signature was measured, or their remedy reaches the goal as
well (see audit.py). `fixable` is False where nobody could undo the change: clean data are gone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import diagnosis_suite.tables as tables
from diagnosis_suite.bases import base
from diagnosis_suite.recipe import Layer, Recipe

Random = np.random.Generator
Change = Callable[[Recipe, Random], Recipe]


@dataclass(frozen=True)
class Fault:
    """A problem, the base it is planted in, and the one change that plants it."""

    problem: str
    name: str
    base: Callable[[Random], Recipe]
    change: Change
    what: str  # the change in words
    also: tuple[str, ...] = ()
    fixable: bool = True


def on(data: str, *arguments: Any, **options: Any) -> Callable[[Random], Recipe]:
    """`base` with these arguments, and `prepared` done to the recipe afterwards."""
    prepared: Callable[[Recipe], Recipe] = options.pop("prepared", lambda r: r)
    return lambda rng: prepared(base(rng, data, *arguments, **options))


# -- changes ----------------------------------------------------------------------------------


def hidden(places: Any = None, **changes: Any) -> Change:
    """Other values in all hidden layers, or in those at `places`."""
    return lambda recipe, rng: recipe.with_layers(places, **changes)


def output(**changes: Any) -> Change:
    """Another output layer, of the same width."""
    return lambda recipe, rng: recipe.with_output(**changes)


def rate(factor: float, **settings: Any) -> Change:
    """So many times the learning rate."""
    return lambda recipe, rng: recipe.lr_times(factor).with_settings(**settings)


def budget(share: float) -> Change:
    """A share of the epochs."""
    return lambda recipe, rng: replace(recipe, epochs=max(1, round(recipe.epochs * share)))


def columns(scale: float, shift: float = 0.0, every: bool = True) -> Change:
    """x·scale + shift in every input column, or in the first one."""

    def change(recipe: Recipe, rng: Random) -> Recipe:
        X = recipe.X.copy()
        chosen = slice(None) if every else slice(0, 1)
        X[:, chosen] = X[:, chosen] * scale + shift
        return replace(recipe, X=X)

    return change


def targets(scale: float, shift: float = 0.0) -> Change:
    """y·scale + shift."""
    return lambda recipe, rng: replace(recipe, y=recipe.y * scale + shift)


def part_of(places: Any, bias: float, share: float) -> Change:
    """The bias in a share of a layer's units, 0 in the others."""

    def change(recipe: Recipe, rng: Random) -> Recipe:
        units = recipe.layers[places[0]].units
        dead = round(units * share)
        return recipe.with_layers(places, bias=tuple([bias] * dead + [0.0] * (units - dead)))

    return change


def both(*changes: Change) -> Change:
    """One change that takes several lines: an output layer and the loss that goes with it."""

    def change(recipe: Recipe, rng: Random) -> Recipe:
        for each in changes:
            recipe = each(recipe, rng)
        return recipe

    return change


def setting(**changes: Any) -> Change:
    """Other fields of the recipe."""
    return lambda recipe, rng: replace(recipe, **changes)


# -- faults of the data -----------------------------------------------------------------------


def nan_cells(recipe: Recipe, rng: Random) -> Recipe:
    """Three cells of X are NaN."""
    X = recipe.X.copy()
    rows, cols = rng.choice(len(X), 3, replace=False), rng.integers(X.shape[1], size=3)
    X[rows, cols] = np.nan
    return replace(recipe, X=X, truth=(recipe.X, recipe.y))


def nan_targets(recipe: Recipe, rng: Random) -> Recipe:
    """Two targets are NaN."""
    y = recipe.y.copy()
    y[rng.choice(len(y), 2, replace=False)] = np.nan
    return replace(recipe, y=y, truth=(recipe.X, recipe.y))


def permuted(recipe: Recipe, rng: Random) -> Recipe:
    """The rows of y stand in another order than those of X."""
    return replace(recipe, y=recipe.y[rng.permutation(len(recipe.y))])


def constant_labels(recipe: Recipe, rng: Random) -> Recipe:
    """Every row has the first row's target."""
    y = np.repeat(recipe.y[:1], len(recipe.y), axis=0)
    return replace(recipe, y=y, truth=(recipe.X, recipe.y))


def constant_inputs(recipe: Recipe, rng: Random) -> Recipe:
    """Every row has the first row's inputs."""
    return replace(recipe, X=np.repeat(recipe.X[:1], len(recipe.X), axis=0))


def contradictory(recipe: Recipe, rng: Random) -> Recipe:
    """Half of the rows stand there twice, with another answer the second time."""
    half = len(recipe.X) // 2
    X, y = recipe.X[:half], recipe.y[:half]
    if recipe.task == "binary":
        other = 1 - y
    elif recipe.task == "classes":
        other = (y + 1) % (int(recipe.y.max()) + 1)
    else:
        other = -y
    return replace(recipe, X=np.concatenate([X, X]), y=np.concatenate([y, other]))


def out_of_range(recipe: Recipe, rng: Random) -> Recipe:
    """Labels count from 1, and the loss takes them from 0."""
    return replace(recipe, y=recipe.y + 1, truth=(recipe.X, recipe.y))


# -- recipes that a fault asks for ------------------------------------------------------------


def within(low: float, high: float, ending: str = "linear") -> Callable[[Recipe], Recipe]:
    """Targets from low to high, and an output of that range."""

    def prepared(recipe: Recipe) -> Recipe:
        y = recipe.y
        y = low + (high - low) * (y - y.min(axis=0)) / np.ptp(y, axis=0)
        return replace(recipe, y=y).with_output(activation=ending)

    return prepared


def tagged(rng: Random, depth: int = 1) -> Recipe:
    """Four labels a row, each with a sigmoid of its own."""
    recipe = base(rng, "halves", "tanh", depth, output="probabilities")
    X, y = tables.tags(rng, 256)
    recipe = replace(recipe, X=X, y=y, task="multilabel", goal=0.93)
    return recipe.with_output(units=4)


def one_hot(recipe: Recipe) -> Recipe:
    """Labels as rows of 0 and 1, a sigmoid for each class and the squared error."""
    y = np.eye(int(recipe.y.max()) + 1)[recipe.y]
    recipe = replace(recipe, y=y, loss="mean_squared_error", clip=None)
    return recipe.with_output(activation="sigmoid")


def loud_output(scale: float) -> Callable[[Recipe], Recipe]:
    """An output layer that starts with large weights: harmless to a loss on logits."""
    return lambda recipe: recipe.with_output(scale=scale)


RATE_HIGH = "learning_rate_too_high"
RATE_LOW = "learning_rate_too_low"

FAULTS: list[Fault] = [
    # -- dead_relu: no sample reaches the unit
    Fault("dead_relu", "first layer, bias −8", on("moons", "relu"), hidden(bias=-8.0),
          "bias 0 → −8 in the only hidden layer"),
    Fault("dead_relu", "second of three", on("sine", "relu", 3, "momentum", dtype="float64"),
          hidden([1], bias=-12.0), "bias 0 → −12 in the second of three hidden layers"),
    Fault("dead_relu", "rectified output", on("bowl", "tanh", 2, prepared=within(0, 2, "relu")),
          output(activation="relu", bias=-6.0), "bias 0 → −6 in the rectified output unit"),
    Fault("dead_relu", "most units", on("rings", "relu", units=20, optimizer="sgd"),
          part_of([0], -9.0, 0.9), "bias 0 → −9 in nine of ten hidden units"),
    Fault("dead_relu", "deep", on("blobs", "relu", 8), hidden([5], bias=-15.0),
          "bias 0 → −15 in the sixth of eight hidden layers"),
    # -- saturation: f' is next to nothing where the data lie
    Fault("saturation", "sigmoid, bias −30", on("blobs", "sigmoid", optimizer="momentum"),
          hidden(bias=-30.0), "bias 0 → −30 in the sigmoid layer", ("vanishing_gradient",)),
    Fault("saturation", "tanh, W × 60", on("friedman", "tanh", 3), hidden(scale=60.0),
          "weights × 60 in three tanh layers"),
    Fault("saturation", "tanh, bias 12", on("moons", "tanh", 2, "sgd"), hidden([1], bias=12.0),
          "bias 0 → 12 in the second tanh layer"),
    Fault("saturation", "deep tanh, W × 40", on("circles", "tanh", 6, dtype="float64"),
          hidden(scale=40.0), "weights × 40 in six tanh layers"),
    Fault("saturation", "sine, bias 20", on("sine", "tanh", 1), hidden(bias=20.0),
          "bias 0 → 20 in the only tanh layer"),
    # -- vanishing_gradient: Π(W f') is tiny
    Fault("vanishing_gradient", "sigmoids, 8 deep", on("moons", "tanh", 8, "momentum"),
          hidden(activation="sigmoid"), "tanh → sigmoid in eight hidden layers"),
    Fault("vanishing_gradient", "sigmoids, 7 deep", on("friedman", "tanh", 7, "momentum"),
          hidden(activation="sigmoid"), "tanh → sigmoid in seven hidden layers"),
    Fault("vanishing_gradient", "small start, tanh", on("blobs", "tanh", 8, "sgd", epochs=150),
          hidden(init=("normal", 0.02)), "weights of std 0.02 in eight tanh layers"),
    Fault("vanishing_gradient", "small start, ReLU", on("saddle", "relu", 6, "momentum"),
          hidden(init=("normal", 0.02)), "weights of std 0.02 in six ReLU layers", ("dead_relu",)),
    Fault("vanishing_gradient", "sigmoids, 12 deep", on("rings", "elu", 12, dtype="float64"),
          hidden(activation="sigmoid"), "ELU → sigmoid in twelve hidden layers", ("saturation",)),
    # -- exploding_gradient: Π(W f') is huge
    Fault("exploding_gradient", "ReLU, 10 deep", on("plane", "relu", 10, "sgd", lr=0.01),
          hidden(scale=5.0), "weights × 5 in ten ReLU layers"),
    Fault("exploding_gradient", "ReLU, 12 deep", on("blobs", "relu", 12, "momentum", lr=0.002),
          hidden(scale=8.0), "weights × 8 in twelve ReLU layers"),
    Fault("exploding_gradient", "linear, 8 deep",
          on("plane", "linear", 8, "sgd", dtype="float64", lr=0.01),
          hidden(scale=10.0), "weights × 10 in eight linear layers"),
    Fault("exploding_gradient", "leaky, 6 deep", on("friedman", "leaky_relu", 6, "sgd", lr=0.01),
          hidden(scale=15.0), "weights × 15 in six leaky ReLU layers"),
    # -- learning_rate_too_high
    Fault(RATE_HIGH, "plane, SGD × 300", on("plane", "linear", 1, "sgd", lr=0.05), rate(300),
          "learning rate × 300", ("exploding_gradient",)),
    Fault(RATE_HIGH, "moons, Adam × 300", on("moons", "relu", 2), rate(300),
          "learning rate × 300", ("dead_relu",)),
    Fault(RATE_HIGH, "spirals, Adam × 200", on("spirals", "tanh", 2, epochs=150), rate(200),
          "learning rate × 200", ("saturation",)),
    Fault(RATE_HIGH, "sine, momentum × 60", on("sine", "relu", 2, "momentum"), rate(60),
          "learning rate × 60", ("exploding_gradient",)),
    Fault(RATE_HIGH, "digits, SGD × 300", on("digits", "tanh", 1, "sgd", epochs=40), rate(300),
          "learning rate × 300", ("saturation",)),
    Fault(RATE_HIGH, "deep, Adam × 100", on("friedman", "tanh", 5, dtype="float64"), rate(100),
          "learning rate × 100", ("saturation",)),
    # -- learning_rate_too_low: lr × updates is what counts
    Fault(RATE_LOW, "moons, SGD ÷ 1000", on("moons", "tanh", 1, "momentum"), rate(1e-3),
          "learning rate ÷ 1000"),
    Fault(RATE_LOW, "digits, Adam ÷ 1000", on("digits", "relu", 1, epochs=30), rate(1e-3),
          "learning rate ÷ 1000"),
    Fault(RATE_LOW, "sine, Adam ÷ 1000", on("sine", "tanh", 2), rate(1e-3),
          "learning rate ÷ 1000"),
    Fault(RATE_LOW, "friedman, SGD ÷ 300", on("friedman", "relu", 2, "sgd"), rate(1 / 300),
          "learning rate ÷ 300"),
    Fault(RATE_LOW, "spirals, epochs ÷ 100", on("spirals", "relu", 2, epochs=200), budget(0.01),
          "a hundredth of the epochs"),
    Fault(RATE_LOW, "bowl, epochs ÷ 60", on("bowl", "tanh", 1, "adam", epochs=180), budget(1 / 60),
          "a sixtieth of the epochs"),
    # -- unscaled_inputs
    Fault("unscaled_inputs", "all × 500 + 2000", on("moons", "tanh"), columns(500, 2000),
          "x·500 + 2000 in every column", ("saturation",)),
    Fault("unscaled_inputs", "all + 300", on("friedman", "relu", 2, "momentum"), columns(1, 300),
          "x + 300 in every column", ("exploding_gradient",)),
    Fault("unscaled_inputs", "all × 0.001", on("circles", "tanh", 1, "momentum"), columns(1e-3),
          "x·0.001 in every column"),
    Fault("unscaled_inputs", "one × 1000 + 5000", on("blobs", "sigmoid", 1, "sgd"),
          columns(1000, 5000, every=False), "x·1000 + 5000 in the first column", ("saturation",)),
    Fault("unscaled_inputs", "sine, + 100", on("sine", "tanh", 2), columns(1, 100), "x + 100",
          ("saturation",)),
    # -- unscaled_targets
    Fault("unscaled_targets", "SGD, tanh", on("plane", "tanh", 1, "sgd"), targets(300, 1000),
          "y·300 + 1000", (RATE_HIGH, "saturation")),
    Fault("unscaled_targets", "Adam crawls", on("sine", "tanh", 1), targets(300, 1000),
          "y·300 + 1000", ("saturation",)),
    Fault("unscaled_targets", "far away", on("friedman", "relu", 2), targets(100, 20000),
          "y·100 + 20 000"),
    Fault("unscaled_targets", "ReLU, momentum", on("saddle", "relu", 2, "momentum"),
          targets(1000, 0), "y·1000", ("exploding_gradient",)),
    # -- symmetric_init
    Fault("symmetric_init", "constant 0.5, tanh", on("circles", "tanh", 1, "momentum"),
          both(hidden(init=("constant", 0.5)), output(init=("constant", 0.5))),
          "all weights 0.5"),
    Fault("symmetric_init", "zeros", on("bowl", "tanh", 1, "sgd"),
          both(hidden(init="zeros"), output(init="zeros")), "all weights 0"),
    Fault("symmetric_init", "constant, two sigmoid layers", on("rings", "sigmoid", 2),
          both(hidden(init=("constant", 0.3)), output(init=("constant", 0.3))),
          "all weights 0.3", ("saturation",)),
    Fault("symmetric_init", "constant, saddle", on("saddle", "tanh", 1, dtype="float64"),
          both(hidden(init=("constant", 0.7)), output(init=("constant", -0.2))),
          "weights 0.7, and −0.2 in the output layer"),
    Fault("symmetric_init", "nearly: 1e-6", on("quadrants", "tanh", 1, "sgd"),
          both(hidden(init=("normal", 1e-6)), output(init=("normal", 1e-6))),
          "all weights of std 1e-6", ("vanishing_gradient", RATE_LOW)),
    # -- loss_output_mismatch
    Fault("loss_output_mismatch", "sigmoid, targets to ±2", on("sine", "tanh", 2),
          output(activation="sigmoid"), "a sigmoid output unit"),
    Fault("loss_output_mismatch", "ReLU, negative targets", on("friedman", "relu", 1, "sgd"),
          output(activation="relu"), "a ReLU output unit"),
    Fault("loss_output_mismatch", "tanh, targets to 6",
          on("bowl", "tanh", 2, prepared=within(0, 6)), output(activation="tanh"),
          "a tanh output unit"),
    Fault("loss_output_mismatch", "probabilities as logits", on("moons", "tanh"),
          output(activation="sigmoid"), "a sigmoid before the loss on logits"),
    Fault("loss_output_mismatch", "softmax twice", on("digits", "relu", 1, "sgd", epochs=15),
          output(activation="softmax"), "a softmax before the loss on logits", (RATE_LOW,)),
    Fault("loss_output_mismatch", "unnormalised", on("rings", "tanh", output="probabilities"),
          output(activation="sigmoid"), "sigmoids for the softmax, under nll"),
    Fault("loss_output_mismatch", "several labels", tagged, output(activation="softmax"),
          "a softmax for the sigmoids, with several labels a row"),
    # -- single_class_softmax
    Fault("single_class_softmax", "binary", on("moons", "tanh", output="probabilities"),
          output(activation="softmax"), "softmax over the only output unit",
          ("loss_output_mismatch", "zero_probability")),
    Fault("single_class_softmax", "squared error",
          on("circles", "relu", 2, output="probabilities",
             prepared=lambda r: replace(r, loss="mean_squared_error", clip=None)),
          output(activation="softmax"), "softmax over the only output unit",
          ("loss_output_mismatch",)),
    Fault("single_class_softmax", "regression",
          on("sine", "tanh", 2, prepared=within(0, 1, "sigmoid")),
          output(activation="softmax"), "softmax over the only output unit",
          ("loss_output_mismatch",)),
    # -- zero_probability: log 0 at finite weights
    Fault("zero_probability", "nll, no clip", on("blobs", "tanh", 1, prepared=loud_output(300)),
          both(output(activation="softmax"), setting(loss="nll")),
          "probabilities, not clipped, for logits"),
    Fault("zero_probability", "binary, no clip",
          on("halves", "relu", 2, prepared=loud_output(300)),
          both(output(activation="sigmoid"), setting(loss="binary_cross_entropy")),
          "probabilities, not clipped, for logits"),
    Fault("zero_probability", "clip that blocks",
          on("rings", "relu", 2, prepared=loud_output(60)),
          both(output(activation="softmax"), setting(loss="nll", clip=1e-2)),
          "probabilities clipped at 0.01 for logits"),
    Fault("zero_probability", "digits, no clip",
          on("digits", "relu", 1, epochs=40, prepared=loud_output(200)),
          both(output(activation="softmax"), setting(loss="nll")),
          "probabilities, not clipped, for logits"),
    # -- data_fault
    Fault("data_fault", "NaN cells", on("iris", "relu"), nan_cells, "three cells are NaN"),
    Fault("data_fault", "NaN targets", on("friedman", "tanh", 2), nan_targets,
          "two targets are NaN"),
    Fault("data_fault", "permuted labels", on("digits", "relu", 1, "sgd", units=10, epochs=20),
          permuted, "labels in another order than the rows", (), False),
    Fault("data_fault", "permuted targets", on("plane", "tanh", 1, "momentum", units=6, epochs=40),
          permuted, "targets in another order than the rows", (), False),
    Fault("data_fault", "constant labels", on("moons", "tanh"), constant_labels,
          "all labels are that of the first row", (), False),
    Fault("data_fault", "contradictions", on("halves", "relu", 2), contradictory,
          "each of half the rows twice, with either label", (), False),
    Fault("data_fault", "contradicting targets", on("saddle", "relu", 2), contradictory,
          "each of half the rows twice, with y and −y", (), False),
    Fault("data_fault", "labels from 1", on("wine", "tanh"), out_of_range,
          "labels count from 1"),
    Fault("data_fault", "constant inputs", on("circles", "relu", 2), constant_inputs,
          "all rows hold the first row's inputs", ("dead_relu",), False),
    # -- insufficient_capacity
    Fault("insufficient_capacity", "no hidden layer, XOR",
          on("quadrants", "tanh", 1), lambda r, _: replace(r, layers=r.layers[-1:]),
          "without the hidden layer"),
    Fault("insufficient_capacity", "linear, spirals", on("spirals", "tanh", 2, epochs=200),
          hidden(activation="linear"), "tanh left out of two hidden layers"),
    Fault("insufficient_capacity", "linear, bowl", on("bowl", "relu", 2, dtype="float64"),
          hidden(activation="linear"), "ReLU left out of two hidden layers"),
    Fault("insufficient_capacity", "one unit", on("rings", "tanh", 1, "momentum", epochs=200),
          hidden(units=1), "one hidden unit", ("saturation",)),
    Fault("insufficient_capacity", "one unit, waves", on("waves", "tanh", 1, epochs=250),
          hidden(units=1), "one hidden unit"),
    Fault("insufficient_capacity", "no hidden layer, four rows", on("xor", "tanh", units=8),
          lambda r, _: replace(r, layers=r.layers[-1:]), "without the hidden layer"),
    Fault("insufficient_capacity", "no hidden layer, saddle", on("saddle", "tanh", 1),
          lambda r, _: replace(r, layers=(Layer(1),)), "without the hidden layer"),
]  # fmt: skip
