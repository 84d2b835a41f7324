"""Sound runs, most of them on the border: settings that look like a fault, and learn.

A row of `SOUND` says which warning sign a run shows. Those of `TWICE` come twice, with other data,
sizes and seeds. Goals are those of the data: the noise floor, or Bayes' error.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any

import numpy as np

import diagnosis_suite.tables as tables
from diagnosis_suite.bases import base
from diagnosis_suite.recipe import Recipe

Random = np.random.Generator


@dataclass(frozen=True)
class Sound:
    """A kind of run that needs no repair."""

    name: str
    recipe: Callable[[Random], Recipe]
    what: str  # the sign that could mislead


# -- ordinary ---------------------------------------------------------------------------------


def plain(data: str, *arguments: Any, **options: Any) -> Callable[[Random], Recipe]:
    """An ordinary recipe as it is."""
    return lambda rng: base(rng, data, *arguments, **options)


# -- steps ------------------------------------------------------------------------------------


def large_rate(rng: Random) -> Recipe:
    """SGD with lr 2 and more, all rows at once."""
    recipe = base(rng, "moons", "tanh", 1, "sgd", lr=float(rng.uniform(2, 4)), epochs=500)
    return replace(recipe, batch_size=len(recipe.X))


def small_rate(rng: Random) -> Recipe:
    """Adam with lr 2e-4, and enough updates."""
    return base(rng, "friedman", "tanh", 2, lr=2e-4, units=32, epochs=700)


def bouncing(rng: Random) -> Recipe:
    """Momentum 0.97 and batches of four: the loss jumps from step to step."""
    recipe = base(rng, "plane", "tanh", 1, "sgd", lr=0.002, epochs=60)
    return replace(recipe.with_settings(momentum=0.97), batch_size=4)


def few_updates(rng: Random) -> Recipe:
    """One update an epoch, and few epochs: yet the data are easy."""
    recipe = base(rng, "blobs", "tanh", 1, lr=0.05, epochs=60)
    return replace(recipe, batch_size=len(recipe.X))


def long_after(rng: Random) -> Recipe:
    """Ten times the epochs it takes: the loss has stood still near 0, gradients are tiny."""
    return base(rng, "blobs", "tanh", 2, epochs=600, dtype="float64")


def on_its_way(rng: Random) -> Recipe:
    """It ends soon after its goal, with the loss still falling."""
    recipe = base(rng, "friedman", "relu", 2, "momentum", epochs=120)
    for epochs in (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 90):
        recipe = replace(recipe, epochs=epochs)
        if recipe.reached() >= recipe.goal:
            break
    return recipe


# -- starts -----------------------------------------------------------------------------------


def zero_output(rng: Random) -> Recipe:
    """The output layer starts at 0: the first δ of the hidden layers are exactly 0."""
    return base(rng, "rings", "tanh", 2).with_output(init="zeros")


def zero_output_regression(rng: Random) -> Recipe:
    """The output layer starts at 0, in a regression by SGD."""
    return base(rng, "saddle", "relu", 2, "momentum").with_output(init="zeros")


def continued(rng: Random) -> Recipe:
    """The weights come from a run that has already learnt: little is left to gain."""
    recipe = base(rng, "circles", "tanh", 2)
    model, _ = recipe.trained()
    arrays = [np.asarray(p.value) for p in model.parameters()]
    start = tuple(zip(arrays[::2], arrays[1::2], strict=True))
    return replace(recipe, start=start, epochs=20, seed=recipe.seed + 1)


def large_start(rng: Random) -> Recipe:
    """Weights × 3 in a wide tanh layer: some saturation, and it learns."""
    return base(rng, "moons", "tanh", 1, units=32).with_layers(scale=3.0)


# -- units ------------------------------------------------------------------------------------


def sparse(rng: Random) -> Recipe:
    """Bias −0.7 in 64 ReLUs: four outputs in five are 0, but nearly every unit lives."""
    return base(rng, "friedman", "relu", 1, units=64).with_layers(bias=-0.7)


def some_dead(rng: Random) -> Recipe:
    """An eighth of the ReLUs are dead, and the others suffice."""
    recipe = base(rng, "rings", "relu", 1, units=32)
    return recipe.with_layers(bias=tuple([-20.0] * 4 + [0.0] * 28))


def deep_tanh(rng: Random) -> Recipe:
    """Ten tanh layers that have converged: the layers' gradients differ a lot."""
    return base(rng, "circles", "tanh", int(rng.integers(8, 12)), epochs=150)


def deep_relu(rng: Random) -> Recipe:
    """Twelve ReLU layers."""
    return base(rng, "quadrants", "relu", 12, units=24, epochs=120)


def sure(rng: Random) -> Recipe:
    """The classes lie far apart: the sigmoid output saturates at a loss near 0."""
    recipe = base(rng, "halves", "relu", 1, output="probabilities", epochs=300, lr=0.03)
    return replace(recipe, X=recipe.X * 2)


def sigmoids(rng: Random) -> Recipe:
    """Two sigmoid layers, whose gradients are small: Adam makes up for it."""
    return base(rng, "moons", "sigmoid", 2, lr=0.03, epochs=200)


# -- data -------------------------------------------------------------------------------------


def raw_inputs(name: str, lr: float, epochs: int) -> Callable[[Random], Recipe]:
    """Columns as they were measured."""

    def recipe(rng: Random) -> Recipe:
        made = base(rng, name, "relu", 1, units=32, lr=lr, epochs=epochs)
        X, y = tables.bundled(rng, len(made.X), name, scaled=False)
        return replace(made, X=X, y=y)

    return recipe


def off_centre_targets(rng: Random) -> Recipe:
    """Targets round 8: the output bias has to travel, and does."""
    recipe = base(rng, "sine", "tanh", 1, "momentum", epochs=150)
    return replace(recipe, y=recipe.y + 8)


def noisy(data: str, noise: float, *arguments: Any, **options: Any) -> Callable[[Random], Recipe]:
    """Targets that are mostly noise: R² ends where the noise begins."""

    def recipe(rng: Random) -> Recipe:
        made = base(rng, data, *arguments, **options)
        clean = made.y
        y = clean + noise * rng.normal(size=clean.shape)
        floor = 1 - noise**2 / (noise**2 + float(clean.var()))
        return replace(made, y=y, goal=round(floor - 0.06, 3))

    return recipe


def bayes(rng: Random) -> Recipe:
    """Two clouds that overlap: nobody gets more than Φ(d/2) of the rows right."""
    distance = float(rng.uniform(1.4, 2.2))
    made = base(rng, "halves", "relu", 1)
    X, y = tables.overlapping(rng, 320, distance)
    return replace(made, X=X, y=y, goal=round(NormalDist().cdf(distance / 2) - 0.03, 3))


def imbalanced(rng: Random) -> Recipe:
    """One row in ten is of class 1; the goal is well above always saying 0."""
    made = base(rng, "halves", "tanh", 1)
    X, y = tables.overlapping(rng, 320, 4.0, share=0.1)
    return replace(made, X=X, y=y, goal=0.96)


def wrong_labels(rng: Random) -> Recipe:
    """A tenth of the labels are wrong."""
    made = base(rng, "moons", "tanh", 1)
    wrong = rng.permutation(len(made.y))[: len(made.y) // 10]
    y = made.y.copy()
    y[wrong] = 1 - y[wrong]
    return replace(made, y=y, goal=0.87)


def few_rows(rng: Random) -> Recipe:
    """Twelve rows."""
    made = base(rng, "iris", "tanh", 1, epochs=150)
    rows = rng.permutation(len(made.X))[:12]
    return replace(made, X=made.X[rows], y=made.y[rows], batch_size=4)


def overfitted(rng: Random) -> Recipe:
    """A wide net that has learnt noisy targets by heart: the training loss is what is judged."""
    made = base(rng, "sine", "relu", 2, units=64, epochs=1500, lr=0.005)
    made = replace(made, X=made.X[:32], y=made.y[:32])
    return replace(made, y=made.y + 0.4 * rng.normal(size=made.y.shape), goal=0.9)


def outliers(loss: str) -> Callable[[Random], Recipe]:
    """A few targets far off, and a loss that is made for them; the others are what is judged."""

    def recipe(rng: Random) -> Recipe:
        made = base(rng, "friedman", "tanh", 1, epochs=150)
        y = made.y.copy()
        far = rng.permutation(len(y))[:8]
        y[far] += 6.0
        rest = np.delete(np.arange(len(y)), far)
        return replace(made, y=y, loss=loss, truth=(made.X[rest], made.y[rest]), goal=0.8)

    return recipe


def duplicates(rng: Random) -> Recipe:
    """Every row stands there three times, with the same answer."""
    made = base(rng, "moons", "relu", 1, epochs=60)
    X, y = made.X[:96], made.y[:96]
    return replace(made, X=np.tile(X, (3, 1)), y=np.tile(y, (3, 1)))


def idle_column(rng: Random) -> Recipe:
    """One column is constant, one is noise: the others tell enough."""
    made = base(rng, "wine", "tanh", 1)
    extra = np.stack([np.ones(len(made.X)), rng.normal(size=len(made.X))], axis=1)
    return replace(made, X=np.concatenate([made.X, extra], axis=1))


# -- outputs ----------------------------------------------------------------------------------


def bounded_output(ending: str, low: float, high: float) -> Callable[[Random], Recipe]:
    """A bounded or rectified output, and targets that lie within its range."""

    def recipe(rng: Random) -> Recipe:
        made = base(rng, "bowl", "tanh", 2, epochs=120)
        y = low + (high - low) * (made.y - made.y.min()) / np.ptp(made.y)
        return replace(made, y=y).with_output(activation=ending)

    return recipe


def tagged(rng: Random) -> Recipe:
    """Four labels a row, each with a sigmoid of its own."""
    made = base(rng, "halves", "tanh", 1)
    X, y = tables.tags(rng, 256)
    return replace(made, X=X, y=y, task="multilabel", goal=0.93).with_output(units=4)


def dropped_out(rng: Random) -> Recipe:
    """Dropout: half of the hidden outputs are 0 at each step, at random."""
    return base(rng, "breast_cancer", "relu", 1, units=48).with_layers(dropout=0.5)


def without_hidden(data: str, *arguments: Any, **options: Any) -> Callable[[Random], Recipe]:
    """No hidden layer, and the data ask for none."""

    def recipe(rng: Random) -> Recipe:
        made = base(rng, data, *arguments, **options)
        return replace(made, layers=made.layers[-1:])

    return recipe


SOUND: list[Sound] = [
    Sound("moons", plain("moons", "relu", 2, "momentum"), "nothing"),
    Sound("digits", plain("digits", "elu", 1, "momentum", dtype="float64", epochs=40), "nothing"),
    Sound("spirals", plain("spirals", "tanh", 3, epochs=150), "nothing"),
    Sound("friedman", plain("friedman", "gelu", 2, dtype="float64"), "nothing"),
    Sound("two outputs", plain("two outputs", "tanh", 2, "rmsprop"), "nothing"),
    Sound("nll", plain("iris", "selu", 2, output="probabilities"), "probabilities, clipped"),
    Sound("waves", plain("waves", "tanh", 2, units=32, epochs=200), "a long plateau"),
    Sound("xor 2-8-1", plain("xor", "tanh", units=8, lr=0.05), "four rows"),
    Sound("large rate", large_rate, "lr above 2"),
    Sound("small rate", small_rate, "lr 2e-4"),
    Sound("bouncing", bouncing, "the loss jumps"),
    Sound("few updates", few_updates, "sixty updates"),
    Sound("long after", long_after, "gradients near 0"),
    Sound("on its way", on_its_way, "the loss still falls"),
    Sound("zero output layer", zero_output, "a layer of equal units"),
    Sound("zero output layer, regression", zero_output_regression, "a layer of equal units"),
    Sound("continued", continued, "no progress to speak of"),
    Sound("large start", large_start, "saturated pairs"),
    Sound("sparse", sparse, "most activations are 0"),
    Sound("some dead", some_dead, "an eighth of the units is dead"),
    Sound("deep tanh", deep_tanh, "a large ratio of gradients"),
    Sound("deep relu", deep_relu, "twelve layers"),
    Sound("sure", sure, "a saturated output"),
    Sound("sigmoids", sigmoids, "small gradients"),
    Sound("raw wine", raw_inputs("wine", 0.003, 600), "columns of very different scale"),
    Sound("raw iris", raw_inputs("iris", 0.01, 150), "columns off centre"),
    Sound("off-centre targets", off_centre_targets, "targets round 8"),
    Sound("noisy plane", noisy("plane", 1.1, "tanh", 1, "momentum", units=6, epochs=60),
          "R² of about 0.45"),
    Sound("noisy sine", noisy("sine", 1.2, "relu", 2, dtype="float64"), "R² of about 0.4"),
    Sound("diabetes", plain("diabetes", "relu", 1, epochs=60, lr=0.005), "R² of about 0.5"),
    Sound("overlap", bayes, "accuracy of about 0.8"),
    Sound("imbalance", imbalanced, "nine rows in ten of one class"),
    Sound("wrong labels", wrong_labels, "a tenth of the labels is wrong"),
    Sound("few rows", few_rows, "twelve rows"),
    Sound("learnt by heart", overfitted, "noise is learnt"),
    Sound("huber", outliers("huber"), "targets far off"),
    Sound("absolute error", outliers("absolute_error"), "gradients that never shrink"),
    Sound("duplicates", duplicates, "rows stand there three times"),
    Sound("idle column", idle_column, "a constant column"),
    Sound("sigmoid for shares", bounded_output("sigmoid", 0.05, 0.95), "a bounded output"),
    Sound("ReLU for amounts", bounded_output("relu", 0.0, 2.0), "a rectified output"),
    Sound("four labels", tagged, "several labels a row"),
    Sound("dropout", dropped_out, "half of the outputs are 0"),
    Sound("linear", without_hidden("plane", optimizer="sgd", lr=0.05), "no hidden layer"),
    Sound("linear classes", without_hidden("blobs"), "no hidden layer"),
]  # fmt: skip

TWICE = (
    "large rate", "small rate", "bouncing", "on its way", "zero output layer",
    "zero output layer, regression", "continued", "large start", "sparse", "some dead",
    "deep tanh", "sure", "raw wine", "raw iris", "noisy plane", "noisy sine", "overlap",
    "imbalance", "wrong labels", "few rows", "learnt by heart",
    "off-centre targets", "deep relu", "sigmoids", "huber", "duplicates", "idle column",
    "sigmoid for shares", "ReLU for amounts", "dropout",
)  # fmt: skip
