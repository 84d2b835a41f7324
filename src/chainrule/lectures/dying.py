"""The dead ReLU, seen to die: by an unlucky start, and in one step at too high a rate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

import chainrule as cr

from .. import nn, plot
from ..data import load_dataset
from ..diagnose.report.words import percent
from ..nn import losses
from ..plot.scale import short
from .exhibit import Exhibit
from .systems import plain

Array = np.ndarray[Any, Any]
Weights = dict[str, Array]
Function = Callable[[Any], Any]

UNITS, SEED, STEPS = 16, 0, 60
TOO_HIGH, FIT = 5.0, 0.3
DRAWN = 2000  # units of a start
MOST = 500  # steps that a unit is given to wake in


@cache
def iris() -> tuple[Array, Array]:
    """The features in cm, and the classes."""
    table = load_dataset("iris")
    return np.asarray(table.features, dtype=float), np.asarray(table.target)


@cache
def standardised() -> Array:
    """The features of iris with mean 0 and variance 1."""
    x, _ = iris()
    return np.asarray((x - x.mean(axis=0)) / x.std(axis=0))


# -- an unlucky start ---------------------------------------------------------------------------


def starts() -> dict[str, Array]:
    """The rows that units are drawn for: positive ones, and the same less their means."""
    digits = np.asarray(load_dataset("digits").features, dtype=float) / 16
    made = {"iris, in cm": iris()[0], "digits, 0 to 1": digits}
    return {
        name + how: x - shift * x.mean(axis=0)
        for name, x in made.items()
        for how, shift in (("", 0.0), (", centred", 1.0))
    }


def dead_at_start(x: Array, bias: float = 0.0) -> float:
    """The share of units drawn as He's initialiser does whose net is ≤ 0 on every row."""
    layer = nn.Linear(
        x.shape[1], DRAWN, init="he_uniform", bias=np.full(DRAWN, bias), seed=SEED, dtype=x.dtype
    )
    return float(np.mean(np.all(plain(layer(x)) <= 0, axis=0)))


def unlucky() -> Exhibit:
    """How often a unit is dead before the first step."""
    biases = (0.0, -1.0)
    rows = tuple(
        (name, *(percent(dead_at_start(x, bias)) for bias in biases))
        for name, x in starts().items()
    )
    return Exhibit(
        "Dead by an unlucky start",
        (
            f"{DRAWN} units are drawn as He's initialiser draws them; those whose net input is ≤ 0"
            " on every row are dead before the first step. Rows that are all positive lie on one"
            " side of many a unit. On centred rows a unit's nets add up to 0 where its bias is 0,"
            " so that some are positive: none can be dead. A negative bias undoes that.",
        ),
        ("rows", *(f"dead at bias {short(bias)}" for bias in biases)),
        rows,
    )


# -- too large a step ---------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Moment:
    """A net of one hidden layer at one step: its weights, what it computes, what comes back."""

    weights: Weights
    loss: float
    net: Array  # (rows, units), of the hidden layer
    delta: Array  # ∂L/∂net
    gradient: Weights

    @property
    def asleep(self) -> Array:
        """The units whose net is ≤ 0 on every row: with ReLU they are dead."""
        return np.asarray(np.all(self.net <= 0, axis=0))

    def reaching(self, unit: int) -> float:
        """‖∂L/∂w‖ of a unit's weights."""
        return float(np.linalg.norm(self.gradient["W1"][unit]))


def moment(weights: Weights, transfer: Function) -> Moment:
    """Forward and backward once, on all of iris."""
    p = {name: cr.tensor(value) for name, value in weights.items()}
    net = standardised() @ p["W1"].T + p["b1"]
    logits = transfer(net) @ p["W2"].T + p["b2"]
    loss = losses.softmax_cross_entropy(logits, iris()[1])
    found = loss.backward()
    gradient = {name: found[value] for name, value in p.items()}
    return Moment(weights, float(loss), plain(net), found[net], gradient)


def start() -> Weights:
    """He's and Glorot's variances, biases 0."""
    rng = np.random.default_rng(SEED)
    return {
        "W1": rng.normal(size=(UNITS, 4)) * np.sqrt(2 / 4), "b1": np.zeros(UNITS),
        "W2": rng.normal(size=(3, UNITS)) * np.sqrt(1 / UNITS), "b2": np.zeros(3),
    }  # fmt: skip


def descend(weights: Weights, transfer: Function, rate: float, steps: int) -> list[Moment]:
    """Gradient descent: every moment, before the first step and after each."""
    made = [moment(weights, transfer)]
    for _ in range(steps):
        last = made[-1]
        moved = {name: w - rate * last.gradient[name] for name, w in last.weights.items()}
        made.append(moment(moved, transfer))
    return made


@cache
def run(transfer: str, rate: float) -> list[Moment]:
    """The net from its start, with "relu" or "leaky_relu"."""
    return descend(start(), getattr(cr, transfer), rate, STEPS)


@dataclass(frozen=True)
class Death:
    """A unit that died for good, and the number of the step that killed it."""

    unit: int
    step: int


def deaths(made: list[Moment]) -> list[Death]:
    """The units asleep at the end, each with the last step before which it was awake."""
    asleep = np.array([one.asleep for one in made])
    awake = [np.nonzero(~asleep[:, unit])[0] for unit in np.nonzero(asleep[-1])[0]]
    found = [
        Death(int(unit), int(steps[-1]) + 1 if len(steps) else 0)
        for unit, steps in zip(np.nonzero(asleep[-1])[0], awake, strict=True)
    ]
    return sorted(found, key=lambda one: (one.step, one.unit))


def too_high() -> Exhibit:
    """A unit before and after the step that kills it, with leaky ReLU beside it."""
    relu, leaky = run("relu", TOO_HIGH), run("leaky_relu", TOO_HIGH)
    died, calm = deaths(relu), deaths(run("relu", FIT))
    first = died[0]
    before, after = relu[first.step - 1], relu[first.step]
    k, moved = first.unit, TOO_HIGH * before.reaching(first.unit)
    rows = [_row(f"before step {first.step}", before, k), _row("after it", after, k)]
    rows += [
        _row(f"ReLU, at step {STEPS}", relu[-1], k),
        _row(f"leaky ReLU, at step {STEPS}", leaky[-1], k),
    ]
    return Exhibit(
        "Dead by too large a step",
        (
            f"A net of {UNITS} ReLU units on iris, standardised, by gradient descent. At rate"
            f" {FIT:g}, {len(calm)} of them are dead after {STEPS} steps; at rate {TOO_HIGH:g},"
            f" {len(died)}: {', '.join(f'unit {one.unit} in step {one.step}' for one in died)}.",
            f"Unit {k} dies in step {first.step}: it moves the unit's weights, of length"
            f" {short(float(np.linalg.norm(before.weights['W1'][k])), 3)}, by {short(moved, 3)}."
            f" Before it, the net input is positive on {int(np.sum(before.net[:, k] > 0))} of"
            f" {len(before.net)} rows; after it on"
            f" {int(np.sum(after.net[:, k] > 0))}. Every δ of the unit is 0 from then on, so its"
            " weights never move again.",
            f"With leaky ReLU from the same start at the same rate, {int(leaky[-1].asleep.sum())}"
            f" units have a net of at most 0 on every row at step {STEPS}, and"
            f" {_reached(leaky[-1])} of them get a gradient all the same, a small one.",
        ),
        (
            f"unit {k}", "least net", "median", "greatest", "rows with net > 0",
            "‖w‖", "bias", "‖∂L/∂w‖",
        ),
        tuple(rows),
        (*_nets(before, after, k, first.step), _asleep(relu, leaky)),
    )  # fmt: skip


def _reached(one: Moment) -> int:
    return sum(one.reaching(int(unit)) > 0 for unit in np.nonzero(one.asleep)[0])


def _row(name: str, one: Moment, unit: int) -> tuple[str, ...]:
    net = one.net[:, unit]
    figures = (net.min(), np.median(net), net.max())
    return (
        name,
        *(short(float(v), 3) for v in figures),
        f"{int(np.sum(net > 0))} of {len(net)}",
        short(float(np.linalg.norm(one.weights["W1"][unit])), 3),
        short(float(one.weights["b1"][unit]), 3),
        short(one.reaching(unit), 3),
    )


def _nets(before: Moment, after: Moment, unit: int, step: int) -> tuple[plot.Chart, ...]:
    """The unit's nets on all rows before and after a step, on one axis that holds 0."""
    nets = {"before": before.net[:, unit], "after": after.net[:, unit]}
    every = np.concatenate([*nets.values(), [0.0]])
    edges = np.linspace(every.min(), max(every.max(), 0.1), 31)
    return tuple(
        plot.bars(
            edges, np.histogram(net, edges)[0], title=f"Net of unit {unit} {when} step {step}",
            x_label="net", zones=[("f′ = 0", edges[0], 0.0)],
        )
        for when, net in nets.items()
    )  # fmt: skip


def _asleep(relu: list[Moment], leaky: list[Moment]) -> plot.Chart:
    steps = np.arange(STEPS + 1.0)
    series = {
        name: (steps, [float(one.asleep.sum()) for one in made])
        for name, made in (("ReLU", relu), ("leaky", leaky))
    }
    return plot.lines(
        series, title=f"Units of {UNITS} with net ≤ 0 on every row, rate {TOO_HIGH:g}",
        x_label="step", y_label="units",
    )  # fmt: skip


# -- what wakes it ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Try:
    """One attempt to wake a dead unit: rows with net > 0 afterwards, and ‖∂L/∂w‖."""

    name: str
    rows: int
    gradient: float
    moved: bool  # whether training has changed its weights
    said: str = ""


@cache
def tries() -> tuple[Try, ...]:
    """The first unit that died, and what is tried on it."""
    made = run("relu", TOO_HIGH)
    first = deaths(made)[0]
    dead, k = made[first.step], first.unit
    top = float(dead.net[:, k].max())
    on = descend(dead.weights, cr.relu, FIT, 100)[-1]
    lifted = _with(dead.weights, "b1", k, dead.weights["b1"][k] - 1.01 * top)
    woken = moment(lifted, cr.relu)
    drawn = _with(dead.weights, "W1", k, start()["W1"][k])
    drawn = _with(drawn, "b1", k, 0.0)
    others = [_other(dead, k, name) for name in ("leaky_relu", "elu")]
    return (
        _tried(f"100 steps more, at rate {FIT:g}", on, k, dead),
        _tried(
            f"its bias raised by {short(-1.01 * top, 3)}",
            woken,
            k,
            dead,
            f"its greatest net was {short(top, 3)}",
        ),
        _tried("its weights as they were drawn, bias 0", moment(drawn, cr.relu), k, dead),
        *others,
    )


def _with(weights: Weights, name: str, unit: int, value: Any) -> Weights:
    changed = weights[name].copy()
    changed[unit] = value
    return {**weights, name: changed}


def _other(dead: Moment, unit: int, transfer: str) -> Try:
    """Another function on the same weights, trained until a row's net is positive."""
    function, here, step = getattr(cr, transfer), dead, 0
    while here.asleep[unit] and step < MOST:
        here, step = descend(here.weights, function, FIT, 1)[-1], step + 1
    woke = f"positive on some row after {step} steps"
    said = f"not in {MOST} steps" if here.asleep[unit] else woke
    name = f"{transfer} in its place, trained on at rate {FIT:g}"
    return _tried(name, here, unit, dead, said)


def _tried(name: str, after: Moment, unit: int, dead: Moment, said: str = "") -> Try:
    moved = not np.array_equal(after.weights["W1"][unit], dead.weights["W1"][unit])
    net = after.net[:, unit]
    return Try(name, int(np.sum(net > 0)), after.reaching(unit), moved, said)


def waking() -> Exhibit:
    """What brings a dead unit back, and what does not."""
    first = deaths(run("relu", TOO_HIGH))[0]
    rows = tuple(
        (
            one.name,
            str(one.rows),
            short(one.gradient, 3),
            "yes" if one.moved else "no",
            one.said,
        )
        for one in tries()
    )
    return Exhibit(
        f"What wakes unit {first.unit}",
        (
            "Its inputs are the data, which stay as they are, and what would move its weights is"
            " 0: training alone cannot. A change from outside must bring the net of one row at"
            " least above 0, or the transfer function must pass something below 0, and enough.",
        ),
        ("tried on it", "rows with net > 0", "‖∂L/∂w‖", "its weights differ", ""),
        rows,
    )
