"""The slides' claims that compare functions: runs on iris, short enough for a page."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from .. import nn, plot
from ..compare import Combination
from ..compare.page import body
from ..compare.presets import Replay, replay
from ..diagnose.report.words import percent
from ..page import escape
from ..plot.scale import short
from .curves import PIECES, maxout_unit, reading
from .exhibit import Exhibit
from .experiments import SIX, epochs, on_iris, six_functions

SEEDS = 3
SHORT: dict[str, Any] = {
    "data": "iris", "seeds": SEEDS, "epochs": 60, "batch_size": None, "dtype": "float64",
    "compile": False, "jobs": 1, "progress": False,
}  # fmt: skip
# What differs from the preset beside that, and the words for it.
CHANGED: dict[str, tuple[dict[str, Any], str]] = {
    "relu-6x": ({"hidden": (16, 16)}, "4-16-16-3"),
    "saturation": ({"hidden": (16,) * 5, "lr": (1.0, 3.0)}, "Five hidden layers of 16, rates 1, 3"),
    "dead-relu": ({}, "4-64-64-3, at three rates"),
}


@cache
def again(name: str) -> Replay:
    """A preset of `chainrule compare` on iris; Ctrl-C ends it as it ends all else here."""
    made = replay(name, **{**SHORT, **CHANGED[name][0]})
    if made.interrupted:
        raise KeyboardInterrupt
    return made


def claim(name: str) -> Exhibit:
    """A claim run again: its findings with their intervals, and the learning curves."""
    made = again(name)
    return Exhibit(
        f"Run again on iris: {made.preset.claim.removesuffix('.')}",
        (
            f"{CHANGED[name][1]}; gradient descent on all rows at once, {SHORT['epochs']} epochs,"
            f" {SEEDS} starts. So few say little: `chainrule compare --preset {name} --html"
            f" {name}.html` does it on digits from five. No verdict is stronger than its interval.",
        ),
        ("measured here", "figure, 95 % interval", "verdict"),
        tuple((one.what, one.figure, one.verdict) for one in made.findings),
        below="".join(body(found, where) for where, found in made.comparisons.items()),
    )


def functions_on_iris() -> Exhibit:
    """Tanh against sigmoid, ReLU against both, and its relatives: epochs to the level."""
    found = six_functions()
    counts = epochs(found)
    rows = tuple(
        (
            name,
            ", ".join(f"{count:.0f}" for count in counts[name]),
            f"{sum(counts[name]) / sum(counts['relu']):.2g}×",
            f"{sum(counts['sigmoid']) / sum(counts[name]):.2g}×",
        )
        for name in SIX
    )
    return Exhibit(
        "Epochs to 95 % of iris, by transfer function",
        ("One rate for all, 0.5, which may suit one better than another.",),
        ("function", "epochs, by seed", "over ReLU's", "sigmoid's over its"),
        rows,
        below=body(found, "The runs"),
    )


# -- maxout -------------------------------------------------------------------------------------


def maxout_doubles() -> Exhibit:
    """The parameters of a layer by its pieces, and what the same number buys without them."""
    layers: dict[str, Any] = {"Linear(64, 32), ReLU": [nn.Linear(64, 32), nn.ReLU()]}
    layers |= {
        f"Maxout(64, 32, pieces={pieces})": [nn.Maxout(64, 32, pieces=pieces)]
        for pieces in (2, 3, 5)
    }
    models = {name: nn.Sequential(*parts, seed=0) for name, parts in layers.items()}
    counts = {name: sum(p.size for p in model.parameters()) for name, model in models.items()}
    first, second = list(counts)[:2]
    return Exhibit(
        "Maxout doubles a unit's parameters",
        (
            f"A unit of k pieces has k weight vectors and biases: with two, {counts[second]:,}"
            f" parameters for {counts[first]:,}, {counts[second] / counts[first]:g} times as many.",
        ),
        ("layer", "parameters", "over the first"),
        tuple((name, f"{n:,}", f"{n / counts[first]:g}×") for name, n in counts.items()),
        (_pieces(),),
        f"<pre>{escape(str(models[second].summary()))}</pre>",
    )


def _pieces() -> plot.Chart:
    """A unit of two pieces on one input: the lines, and the greater of them."""
    x = np.linspace(-3.0, 3.0, 121)
    lines = {f"{short(w)}·x": (x, w * x) for w in PIECES.tolist()}
    return plot.lines(
        {**lines, "their max": (x, reading(maxout_unit, x).out)},
        title="A maxout unit of two pieces on one input", x_label="x",
    )  # fmt: skip


def worth_it() -> Exhibit:
    """Maxout against ReLU of as many units, and of as many parameters."""
    kinds = (("maxout", 8), ("relu", 8), ("relu", 13))
    nets = [
        Combination(name, "softmax_cross_entropy", "sgd", 0.5, (units,), label=f"{name} {units}")
        for name, units in kinds
    ]
    found = on_iris(combinations=nets, seeds=4)
    rows = tuple(
        (place.label, str(place.parameters), percent(place.score.mean)) for place in found.ranking
    )
    return Exhibit(
        "As many units, or as many parameters, on iris",
        (
            "The doubled parameters may go into more units instead: `chainrule compare --preset"
            " maxout` asks which is better on digits.",
        ),
        ("hidden layer", "parameters", "held-out accuracy"),
        rows,
        below=body(found, "The runs"),
    )
