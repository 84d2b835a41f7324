"""The probe of a watched run: some of its rows, and a copy of its network that may be asked."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ...nn import Dropout
from ...nn.optim import Optimizer
from ...train.inputs import features, targets
from ..finding import Score
from ..flow import Reading
from ..setup import Setup, scored
from ..task import task_of

__all__ = ["alike", "copied", "drawn", "entered", "moved", "score"]

Array = Any

STREAM = 20001  # of random numbers, apart from those that order the rows


def drawn(
    moment: Any, given: tuple[Any, Any] | None, objective: Any, most: int
) -> tuple[Array, Setup]:
    """Rows of the run's X, by their place, and a run on them: remedies are written for that.

    At most so many are drawn, by the run's seed, in proportion to their weights: their plain mean
    loss then estimates the weighted one. `given` rows and `objective` stand for the run's own.
    """
    plan, model, weights = moment.plan, moment.model, None
    loss = objective or moment.loss_function
    if given is None:
        (X, y), weights = moment.rows, plan.weights
    else:
        X = features(model, given[0])
        y = targets(model, loss, X, given[1])
    rows = np.arange(len(X))
    if len(X) > most or weights is not None:
        rng = np.random.default_rng([plan.seed, STREAM])
        share = None if weights is None else weights / weights.sum(dtype=np.float64)
        # With weights a row may come twice, as often as it counts.
        size = min(most, len(X)) if share is None else most
        rows = np.sort(rng.choice(len(X), size, replace=share is not None, p=share))
    X, y = np.array(X[rows]), np.array(y[rows])
    own = copied(model)
    task = task_of(loss, y, int(np.prod(np.shape(own.predict(X[:1]))[1:])))
    optimizer = copy.copy(moment.optimizer)
    return rows, Setup(own, X, y, loss, optimizer, plan.epochs, plan.size, plan.seed, task)


def copied(model: Any) -> Any:
    """A copy: what a module of the user's remembers of being called stays out of the run."""
    return copy.deepcopy(model)


def alike(moment: Any) -> bool:
    """Whether a step of training sees the network that evaluation sees."""
    model = moment.model
    apart = any(isinstance(module, Dropout) for module in model.modules())
    own = getattr(type(moment.optimizer), "averages", Optimizer.averages)
    averaged = own is not Optimizer.averages
    return not (apart or averaged or any(True for _ in model.named_buffers()))


def moved(
    before: Mapping[str, Array], after: Mapping[str, Array]
) -> tuple[float, dict[str, float]]:
    """‖after − before‖/‖before‖ of all parameters as one vector, and of each; NaN if not known."""
    # Not a product: a linear algebra library would wake all its threads for it.
    ground = {n: float(np.square(v, dtype=np.float64).sum()) for n, v in before.items()}
    way = {
        n: float(np.square(np.subtract(after[n], v, dtype=np.float64)).sum())
        for n, v in before.items()
    }
    parts = {n: math.sqrt(way[n] / ground[n]) if ground[n] else math.nan for n in before}
    length = sum(ground.values())
    return math.sqrt(sum(way.values()) / length) if length else math.nan, parts


def entered(
    curves: Mapping[str, dict[str, list[float]]],
    look: int,
    reading: Reading,
    steps: Mapping[str, float],
) -> None:
    """Enter what the look of that number, from 1, read of each layer; `steps` are ‖Δw‖/‖w‖."""
    seen: dict[str, int] = {}
    for layer in reading.layers:
        flow = layer.flow
        seen[flow.layer] = seen.get(flow.layer, 0) + 1
        name = flow.layer if seen[flow.layer] == 1 else f"{flow.layer} ({seen[flow.layer]})"
        values = {
            "delta": flow.delta,
            "gain": flow.gain,
            "slope": flow.slope,
            "dead": len(flow.dead) / max(1, flow.units),
            "saturated": flow.saturated,
            "update": steps.get(flow.weight, math.nan),
            "gradient": float(np.sqrt(np.square(layer.gradient, dtype=np.float64).sum())),
        }
        for curve, value in values.items():
            # A layer that an earlier look did not meet begins with what is not known.
            line = curves[curve].setdefault(name, [])
            line += [math.nan] * (look - 1 - len(line)) + [float(value)]


def score(setup: Setup, reading: Reading) -> Score:
    """The metric of the probe, in evaluation mode."""
    return scored(setup, np.asarray(reading.prediction), reading.loss)
