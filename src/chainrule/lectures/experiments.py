"""Claims that only an experiment can test: small ones, seeded, in float64, counted in epochs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np

import chainrule as cr

from ..compare import Comparison, compare
from .curves import readings
from .systems import Check, system
from .zigzag import cosines_of

Array = np.ndarray[Any, Any]
LEVEL = 0.95  # training accuracy
SEEDS = 2


def on_iris(**choices: Any) -> Comparison:
    """Gradient descent on all rows of iris at once, two starts, counted until 95 % are right."""
    usual: dict[str, Any] = {
        "optimizers": "sgd", "lr": 0.5, "hidden": (16, 16), "epochs": 80, "batch_size": None,
        "level": LEVEL, "seeds": SEEDS, "dtype": "float64", "compile": False,
    }  # fmt: skip
    return compare("iris", jobs=1, times=False, progress=False, **{**usual, **choices})


def epochs(found: Comparison) -> dict[str, list[float]]:
    """The whole epochs to the level, a seed each, by combination."""
    return {
        name: [math.ceil(cell.epochs_to(LEVEL)) for cell in cells]
        for name, cells in found.cells.items()
    }


def counted(found: Comparison, figures: dict[str, list[int]]) -> Iterator[Check]:
    """The counts, against those first measured here."""
    for name, counts in epochs(found).items():
        yield Check(f"{name}: epochs to 95 % of iris, by seed", counts, figures[name])


@system(
    "S29",
    title="Tanh, ReLU and its relatives against sigmoid: the claim of six times",
    lecture="slides",
    notes="Epochs to 95 % training accuracy on iris, two hidden layers of 16, gradient descent at"
    " rate 0.5. ReLU needs a fraction of sigmoid's, but no fewer than tanh. `chainrule compare"
    " --preset relu-6x` measures it on digits, at one rate and at each function's best, with"
    " intervals.",
    erratum="Six times is one measurement (Krizhevsky et al. 2012, a convolutional network on"
    " CIFAR-10, against tanh); it is no property of ReLU.",
)
def six_times() -> Iterator[Check]:
    """S29."""
    found = six_functions()
    yield from counted(found, SIX_TIMES)
    times = {name: sum(counts) for name, counts in epochs(found).items()}
    ratio = times["sigmoid"] / times["relu"]
    yield Check("sigmoid's epochs over ReLU's: more than twice", ratio > 2, True)
    ratio = times["tanh"] / times["relu"]
    yield Check("tanh's epochs over ReLU's: not six times", ratio < 6, True)


@cache
def six_functions() -> Comparison:
    """The six on iris: for the check, and for the page."""
    return on_iris(activations=SIX)


SIX = ("sigmoid", "tanh", "relu", "leaky_relu", "elu", "maxout")
SIX_TIMES = {
    "sigmoid": [56, 72],
    "tanh": [12, 10],
    "relu": [13, 8],
    "leaky_relu": [13, 10],
    "elu": [8, 6],
    "maxout": [6, 12],
}


def cosines(x: Array, y: Array, rate: float = 0.5) -> Array:
    """The cosines between consecutive steps of one sigmoid neuron, a row a step."""
    w = np.zeros(x.shape[1])

    def loss(v: Any, row: Array, target: Any) -> Any:
        return 0.5 * cr.square(cr.sigmoid(row @ v) - target)

    steps = []
    for row, target in zip(x, y, strict=True):
        steps.append(-rate * cr.grad(loss)(w, row, target))
        w = w + steps[-1]
    return cosines_of(np.array(steps))


def share_of_time(function: Callable[[Any], Any], other: Callable[[Any], Any]) -> float:
    """The time of a function over another's: of a million values, the least of nine readings."""
    found = readings({"it": function, "other": other})
    return min(found["it"]) / min(found["other"])
