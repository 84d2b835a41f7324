"""Transfer functions at x = −10, 0 and 10, and the time that exp takes: read off the engine."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import chainrule as cr

from .. import plot
from ..diagnose.flow import LEVEL
from ..diagnose.report.words import percent
from ..plot.chart import Dots
from ..plot.scale import short
from .circuits import edges_of
from .exhibit import Exhibit

Array = np.ndarray[Any, Any]
Function = Callable[[Any], Any]

FAR = np.array([-10.0, 0.0, 10.0])  # where the slides ask what happens
PIECES = np.array([1.0, -0.5])  # the weights of a maxout unit with one input
MAXOUT = (
    "Maxout is here max(x, −x/2), a unit of two pieces: at x = 0 they tie and share the gradient,"
    " so that ∂out/∂x is (1 − ½)/2."
)


def maxout_unit(x: Any) -> Any:
    """max(x, −x/2): a maxout unit of two pieces on one input.

    >>> maxout_unit(np.array([-10.0, 10.0]))
    array([ 5., 10.])
    """
    nets = cr.reshape(x, shape=(-1, 1)) * PIECES
    return cr.reshape(cr.maxout(nets, len(PIECES)), shape=np.shape(getattr(x, "value", x)))


FUNCTIONS: Mapping[str, Function] = {
    "sigmoid": cr.sigmoid,
    "tanh": cr.tanh,
    "relu": cr.relu,
    "leaky_relu": cr.leaky_relu,
    "elu": cr.elu,
    "maxout": maxout_unit,
}


@dataclass(frozen=True, eq=False)
class Reading:
    """A function at several x: its value, ∂out/∂x, and what comes back for an upstream of 1."""

    x: Array
    out: Array
    local: Array
    back: Array


def reading(function: Function, x: Array) -> Reading:
    """Forward and backward once; the local derivative is the edge's own.

    A function of one gate has one edge into x, with its local derivative on it. Maxout is a circuit
    of several: its derivative is what its edges bring to x together.
    """
    given = cr.tensor(x)
    out = function(given)
    arriving = [edge for edge in edges_of(out) if edge.source is given]
    back = np.sum([edge.contribution for edge in arriving], axis=0)
    own = [edge.local for edge in arriving if edge.node is out and edge.local is not None]
    local = own[0] + np.zeros(x.shape) if len(arriving) == len(own) == 1 else back
    return Reading(x, out.numpy(), local, back)


def three_points(names: Iterable[str] = tuple(FUNCTIONS)) -> Exhibit:
    """x = −10, 0, 10 through each function: the table, and the curves of f and f′."""
    rows, charts = [], []
    for name, function in ((name, FUNCTIONS[name]) for name in names):
        curve = reading(function, np.linspace(-12.0, 12.0, 481))
        at = reading(function, FAR)
        largest = float(np.max(np.abs(curve.local)))
        for k, x in enumerate(FAR.tolist()):
            share = abs(float(at.local[k])) / largest
            figures = (x, at.out[k], at.local[k], at.back[k])
            rows.append((name, *(short(v, 6) for v in figures), percent(share), _said(share)))
        charts.append(_drawn(name, curve, at))
    return Exhibit(
        "x = −10, 0 and 10 through each transfer function",
        (
            "Each is run forward and backward with an upstream gradient of 1; the local derivative"
            " f′(x) is read off the edge that the gradient comes back on, and compared with the"
            " largest that the function has between −12 and 12.",
            f"Little is {percent(LEVEL)} of that or less. σ, tanh and the left side of ELU level"
            " off: the further out, the less they pass, and that is called saturation. Leaky ReLU"
            " passes the same hundredth however far out; ReLU nothing, at its kink x = 0 neither.",
            *([MAXOUT] if "maxout" in names else []),
        ),
        ("function", "x", "out", "f′(x)", "comes back for 1", "of the largest f′", ""),
        tuple(rows),
        tuple(charts),
    )


def _said(share: float) -> str:
    if share == 0:
        return "nothing comes back"
    return "little comes back" if share <= LEVEL else ""


def _drawn(name: str, curve: Reading, at: Reading) -> plot.Chart:
    chart = plot.lines(
        {"f": (curve.x, curve.out), "f′": (curve.x, curve.local)},
        title=name, x_label="x", at={f"x = {short(x)}": x for x in FAR},
    )  # fmt: skip
    points = Dots("", np.tile(at.x, 2), np.concatenate([at.out, at.local]))
    told = "; ".join(
        f"at {short(x)} f is {short(f)} and f′ {short(d)}"
        for x, f, d in zip(at.x, at.out, at.local, strict=True)
    )
    words = f"{chart.description} Marked: {told}."
    return replace(chart, marks=(*chart.marks, points), description=words)


# -- the cost of exp ----------------------------------------------------------------------------


def readings(functions: Mapping[str, Function], times: int = 9) -> dict[str, list[float]]:
    """The seconds that each function takes for a million values, read in turns.

    The least reading is the one to compare: what else runs on the machine only adds to it.
    """
    x = np.random.default_rng(0).normal(size=1_000_000).astype(np.float32)
    found: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(times):
        for name, function in functions.items():
            began = time.perf_counter()
            function(x)
            found[name].append(time.perf_counter() - began)
    return found


def cost_of_exp() -> Exhibit:
    """The time of a million values, forward, and forward and backward."""
    forward = readings({name: f for name, f in FUNCTIONS.items() if name != "maxout"}, 7)
    both = readings({name: _and_back(FUNCTIONS[name]) for name in forward}, 3)
    rows = [
        (
            name,
            *(
                text
                for read in (forward, both)
                for text in (
                    f"{1e3 * min(read[name]):.2f} ms",
                    f"{min(read[name]) / min(read['relu']):.2g}×",
                )
            ),
        )
        for name in forward
    ]
    spans = [
        (name, 1e3 * min(read), 1e3 * min(read), 1e3 * max(read)) for name, read in forward.items()
    ]
    leaky = min(forward["leaky_relu"]) / min(forward["relu"])
    return Exhibit(
        "The cost of exp, on this machine",
        (
            "A million float32 values through NumPy: the least of several readings. Of a whole"
            " training step it is little, for a layer's matrix products outweigh it: `chainrule"
            " compare --preset exp-cost` measures epochs in machine code.",
            f"Leaky ReLU, which has no exp, takes {leaky:.2g}× the time of ReLU: what is over 1"
            " there is the cost of more passes over memory, not of exp.",
        ),
        ("function", "forward", "over ReLU", "forward and backward", "over ReLU"),
        tuple(rows),
        (
            plot.intervals(
                spans, title="A million values, forward", x_label="ms, least to most of 7 readings"
            ),
        ),
    )


def _and_back(function: Function) -> Function:
    return lambda x: cr.grad(lambda v: cr.sum(function(v)))(x)
