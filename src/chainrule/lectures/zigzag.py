"""The zig-zag: inputs of one sign against centred ones, and what the data's mean does to steps."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

import chainrule as cr

from .. import plot
from ..diagnose.report.words import percent
from ..plot.chart import Dots
from ..plot.scale import Scale, short
from .exhibit import Exhibit

Array = np.ndarray[Any, Any]

START, WANTED = np.array([-2.0, 2.0]), np.array([2.0, -2.0])  # one weight must rise, one fall
ROWS, STEPS = 60, 400
LEVEL = 1e-4  # the mean loss that counts as arrived
RATES = (3.0, 10.0, 20.0, 30.0, 50.0)
SHOWN_RATE = 10.0


@dataclass(frozen=True, eq=False)
class Walk:
    """A neuron's way through the plane of its two weights, a row of the data a step."""

    rate: float
    weights: Array  # (steps + 1, 2)
    gradients: Array  # (steps, 2): each row's own ∂L/∂w
    losses: Array  # (steps,): the mean over all rows after the step

    @property
    def one_sign(self) -> float:
        """The share of the first steps whose gradients have one sign: both weights one way."""
        return float(np.mean(np.prod(np.sign(self.gradients[:ROWS]), axis=1) > 0))

    @property
    def cosines(self) -> Array:
        """The cosines between consecutive steps of the first ones, while they are long."""
        return cosines_of(self.gradients[:ROWS])

    @property
    def arrived(self) -> float:
        """Steps until the loss is LEVEL or less and stays there; ∞ where it never is."""
        above = np.nonzero(~(self.losses <= LEVEL))[0]
        last = int(above[-1]) + 1 if len(above) else 0
        return math.inf if last == len(self.losses) else last + 1


def cosines_of(steps: Array) -> Array:
    """cos of the angle between each step and the next; steps of length 0 are left out.

    >>> cosines_of(np.array([[1.0, 0.0], [0.0, 2.0], [0.0, -1.0]])).tolist()
    [0.0, -1.0]
    """
    lengths = np.linalg.norm(steps, axis=1)
    units = steps[lengths > 0] / lengths[lengths > 0, None]
    return np.array([a @ b for a, b in itertools.pairwise(units)])


def inputs() -> dict[str, Array]:
    """The same rows twice: as a sigmoid layer might put them out, and less their mean."""
    x = np.random.default_rng(26).uniform(0.1, 1.0, size=(ROWS, 2))
    return {"all positive": x, "centred": x - x.mean(axis=0)}


def walk(x: Array, y: Array, rate: float, steps: int = STEPS) -> Walk:
    """½(σ(w·x + b) − y)² by SGD, the rows in their order, from START."""
    w, b = START, np.zeros(())
    weights, gradients, losses = [w], [], []
    for k in range(steps):
        row = k % len(x)
        tw, tb = cr.tensor(w), cr.tensor(b)
        found = (0.5 * cr.square(cr.sigmoid(x[row] @ tw + tb) - y[row])).backward()
        w, b = w - rate * found[tw], b - rate * found[tb]
        weights.append(w)
        gradients.append(found[tw])
        losses.append(np.mean(0.5 * np.square(cr.sigmoid(x @ w + b) - y)))
    return Walk(rate, np.array(weights), np.array(gradients), np.array(losses))


@cache
def walks(rates: Sequence[float] = RATES) -> dict[str, dict[float, Walk]]:
    """Both inputs at each rate. The targets are one neuron's answers, w = WANTED, on all rows."""
    given = inputs()
    y = cr.sigmoid(given["all positive"] @ WANTED)
    return {name: {rate: walk(x, y, rate) for rate in rates} for name, x in given.items()}


def best(of: dict[float, Walk]) -> Walk:
    """The walk that arrives first."""
    return min(of.values(), key=lambda one: one.arrived)


def zig_zag() -> Exhibit:
    """The path in weight space, the signs, the cosines, and the steps to a loss."""
    rows = []
    for name, of in walks().items():
        one, cosines, fastest = of[SHOWN_RATE], of[SHOWN_RATE].cosines, best(of)
        rows.append((
            f"inputs {name}", percent(one.one_sign), f"{np.mean(abs(cosines)):.2f}",
            percent(float(np.mean(cosines < -0.7))), _steps(one),
            f"{_steps(fastest)} at rate {fastest.rate:g}",
        ))  # fmt: skip
    charts = [_path(name, of[SHOWN_RATE]) for name, of in walks().items()]
    losses = {name: best(of).losses[:200] for name, of in walks().items()}
    first, second = (best(of).arrived for of in walks().values())
    same, other = (of[SHOWN_RATE].arrived for of in walks().values())
    return Exhibit(
        "The zig-zag: inputs that are all positive, and the same ones centred",
        (
            f"One sigmoid neuron with two inputs and a bias learns {ROWS} answers of another, row"
            f" by row. Its weights start at {_pair(START)} and must come to {_pair(WANTED)}: one"
            " up, one down. Where both inputs are positive, each row's gradients ∂L/∂w₁ = δ·x₁"
            " and ∂L/∂w₂ = δ·x₂ have the sign of δ, so that a step goes up in both weights or"
            " down in both, and the way there is a zig-zag. |cos| is that of the angle between"
            " a step and the next: 2/π = 0.64 on average where directions in a plane are"
            " independent. A step turns back where the cosine is below −0.7. Both are of the first"
            f" {ROWS} steps.",
            f"Counted are the steps to a mean loss of {LEVEL:g}. At one rate, {SHOWN_RATE:g},"
            f" centring saves {_saved(same, other)} of the steps; its"
            " true gain is that it bears a higher rate: each at its best rate of"
            f" {', '.join(f'{rate:g}' for rate in RATES)}, it saves {_saved(first, second)}."
            " `chainrule compare --preset zero-centred` measures it on digits.",
        ),
        (
            "", "gradients of one sign", "mean |cos|", "turn back", f"steps at rate {SHOWN_RATE:g}",
            "at its best rate",
        ),
        tuple(rows),
        (
            *charts,
            plot.lines(
                losses, title="Loss, each at its best rate", x_label="step", y_label="mean loss",
                log_y=True,
            ),
        ),
    )  # fmt: skip


def _steps(one: Walk) -> str:
    return f"{one.arrived:.0f}" if math.isfinite(one.arrived) else f"not in {STEPS}"


def _saved(before: float, after: float) -> str:
    return percent(1 - after / before) if math.isfinite(before) else "all that it never gets to"


def _pair(w: Array) -> str:
    return f"({', '.join(short(v) for v in w)})"


def _path(name: str, one: Walk) -> plot.Chart:
    """The first steps, as many as there are rows, and where they ought to lead."""
    way = one.weights[: ROWS + 1]
    chart = plot.lines(
        {f"the first {ROWS} steps": (way[:, 0], way[:, 1])},
        title=f"Inputs {name}, rate {one.rate:g}", x_label="w₁", y_label="w₂", size=(440, 400),
    )  # fmt: skip
    ends = np.array([START, WANTED])
    return replace(
        chart,
        marks=(*chart.marks, Dots("start and optimum", ends[:, 0], ends[:, 1])),
        x=_wide(chart.x, way[:, 0], ends[:, 0]),
        y=_wide(chart.y, way[:, 1], ends[:, 1]),
        description=(
            f"{chart.title}: {ROWS} steps from {_pair(START)} to {_pair(way[-1])}; the optimum is"
            f" {_pair(WANTED)}. {percent(one.one_sign)} of these steps move both weights one way."
        ),
    )


def _wide(axis: Scale, *values: Array) -> Scale:
    """A scale that holds all of the values, with a little room."""
    every = np.concatenate(values)
    room = 0.06 * (every.max() - every.min())
    return replace(axis, low=float(every.min() - room), high=float(every.max() + room))


# -- a line fitted to data that are off centre --------------------------------------------------

FAR_ROWS, CENTRE = 40, 5.0
CLOSE = 1.01  # times the least loss there is
MOST = 20_000


@dataclass(frozen=True, eq=False)
class Descent:
    """Gradient descent on a line's squared error, at the rate that suits its curvature."""

    condition: float
    rate: float
    losses: Array  # over the least loss that there is

    @property
    def steps(self) -> int:
        """Until the loss is within 1 % of the least."""
        return len(self.losses) - 1


@cache
def descents() -> dict[str, Descent]:
    """The same line, fitted to x around 5 and to x less its mean, each at rate 1/λ_max."""
    x = np.random.default_rng(27).normal(loc=CENTRE, size=FAR_ROWS)
    y = np.sin(x)
    return {
        name: _descent(np.column_stack([v, np.ones(FAR_ROWS)]), y)
        for name, v in (("around 5", x), ("centred", x - x.mean()))
    }


def _descent(rows: Array, y: Array) -> Descent:
    def loss(w: Any) -> Any:
        return cr.mean(0.5 * cr.square(rows @ w - y))

    curvature = np.asarray(cr.hessian(loss)(np.zeros(2)))
    slope = cr.value_and_grad(loss)
    least = float(loss(np.linalg.solve(curvature, -cr.grad(loss)(np.zeros(2)))))
    rate, w, losses = 1 / float(np.linalg.norm(curvature, 2)), np.zeros(2), []
    for _ in range(MOST):
        value, gradient = slope(w)
        losses.append(float(value) / least)
        if losses[-1] <= CLOSE:
            break
        w = w - rate * gradient
    return Descent(float(np.linalg.cond(curvature)), rate, np.array(losses))


def off_centre() -> Exhibit:
    """Why zero-mean data need fewer steps: curvature, rate, and the losses."""
    made = descents()
    rows = tuple(
        (f"x {name}", short(one.condition), short(one.rate), str(one.steps))
        for name, one in made.items()
    )
    return Exhibit(
        "A line through data that are off centre, and through the same centred",
        (
            f"y = wx + b is fitted to {FAR_ROWS} points by gradient descent. How much longer the"
            " loss is in one direction than in another, the condition number of its second"
            " derivatives, decides how many steps it takes; a mean that is far from 0 couples"
            " weight and bias and makes it large. Each runs at 1/λ, λ the greatest curvature.",
        ),
        ("", "condition number", "rate", "steps to within 1 % of the least loss"),
        rows,
        (
            plot.lines(
                {name: (np.arange(len(one.losses)) + 1.0, one.losses - 1)
                 for name, one in made.items()},
                title="How far above the least loss, as a share of it", x_label="loss number",
                log_x=True, log_y=True,
            ),
        ),
    )  # fmt: skip
