"""lr_find: a short run with a growing learning rate, and what its losses say about a good one."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import GradientError
from ..nn import optim, schedules
from ..nn.base import count
from .callbacks import Moment
from .fit import fit

__all__ = ["LRFind", "lr_find"]

Array = Any
WIDTH = 0.03  # of the smoothing: the share of all steps that is one standard deviation


@dataclass(frozen=True, eq=False)
class LRFind:
    """What `lr_find` found: the losses at growing learning rates, and the rate to try first.

    `suggestion` is None where the losses support none; `reason` says why it is what it is.
    """

    lrs: Array
    losses: Array  # each before the update with its learning rate
    smoothed: Array
    suggestion: float | None
    reason: str

    def __str__(self) -> str:
        rate = "no learning rate" if self.suggestion is None else f"lr = {self.suggestion:.2g}"
        return f"{rate}: {self.reason}"

    __repr__ = __str__

    def chart(self) -> Any:
        """The losses and their smoothed curve over the learning rate, with the suggestion."""
        from .. import plot

        at = {} if self.suggestion is None else {f"{self.suggestion:.2g}": self.suggestion}
        low, high = float(self.smoothed.min()), float(self.smoothed[0])
        cap = high + 2 * (high - low)  # what explodes would flatten all else
        shown = np.where(self.losses <= cap, self.losses, np.nan)
        return plot.lines(
            {"loss of a batch": (self.lrs, shown), "smoothed": (self.lrs, self.smoothed)},
            title="Learning-rate finder",
            x_label="learning rate",
            y_label="loss",
            log_x=True,
            at=at,
        )

    def _repr_svg_(self) -> str:
        return str(self.chart().svg())


def lr_find(
    model: Any,
    X: Any,
    y: Any = None,
    *,
    loss: Any,
    optimizer: Any = "adam",
    batch_size: int | None = 32,
    low: float = 1e-7,
    high: float = 10.0,
    steps: int = 100,
    seed: int = 0,
    sample_weight: Any = None,
    compile: bool = True,
    threads: int | None = None,
) -> LRFind:
    """Trains a copy of the model with a rate that grows from `low` to `high`, and reads the losses.

    `fit` makes up to `steps` steps, with lr growing by the same factor at each, until the loss
    explodes. The suggestion is where the smoothed loss falls fastest, or a tenth of where it is
    lowest, whichever is larger. It is an estimate: worth a first try, and a look at `chart()`.
    Where the losses never fall by more than batches differ, there is none, and `reason` says so.
    The model itself stays as it is. Other arguments are `fit`'s, and so are the errors;
    `ValueError` also for an optimizer without a learning rate.

    >>> from chainrule import nn
    >>> X = np.random.default_rng(0).normal(size=(200, 3))
    >>> model = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 1), seed=0)
    >>> found = lr_find(model, X, X[:, :1] * X[:, 1:2], loss="squared_error")
    >>> 1e-3 < found.suggestion < 1
    True

    Source: Smith 2017.
    """
    steps = count("steps", steps, least=20)
    rule = _with_schedule(optimizer, low, high, steps)
    watch = _Watch(steps)
    try:
        with np.errstate(all="ignore"):  # it is meant to diverge
            history = fit(
                copy.deepcopy(model), X, y, loss=loss, optimizer=rule, epochs=steps,
                batch_size=batch_size, seed=seed, sample_weight=sample_weight, callbacks=[watch],
                compile=compile, threads=threads, progress=False,
            )  # fmt: skip
    except GradientError:
        if not watch.losses:
            raise
    else:
        if history.stopped == "interrupted":
            raise KeyboardInterrupt
    rates = np.array([rule.lr(k) for k in range(len(watch.losses))])
    return _judged(rates, np.array(watch.losses), high, steps)


def _with_schedule(optimizer: Any, low: float, high: float, steps: int) -> Any:
    low, high = schedules.above(0, "low", low), schedules.above(0, "high", high)
    if not low < high:
        raise ValueError(f"low must be below high, got {low} and {high}")
    rule = copy.copy(optim.get(optimizer))
    if not hasattr(rule, "lr") or getattr(rule, "full_batch", False):
        raise ValueError(f"{rule!r} has no learning rate to find")
    rule.lr = schedules.exponential(low, (high / low) ** (1 / (steps - 1)))
    return rule


class _Watch:
    """Collects the losses of the steps, and stops where they explode."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.losses: list[float] = []

    def on_step(self, moment: Moment) -> bool:
        """Whether it is enough."""
        self.losses.append(moment.loss)
        recent = float(np.mean(self.losses[-5:]))
        return len(self.losses) >= self.steps or recent > _ceiling(self.losses)


def _ceiling(losses: Any) -> float:
    """Where a loss counts as exploded: above the start by three times the descent, or by itself."""
    start = float(np.mean(losses[:5]))
    means = np.convolve(losses, np.full(5, 0.2), "valid") if len(losses) >= 5 else [start]
    return start + max(3 * (start - float(np.min(means))), abs(start))


def _judged(rates: Array, found: Array, high: float, steps: int) -> LRFind:
    """The suggestion that the losses support, and why."""
    smoothed = _smooth(found, WIDTH * steps)
    lowest = int(smoothed.argmin())
    spread = float(np.std((found - smoothed)[: lowest + 1]))
    fall = float(smoothed[0] - smoothed[lowest])
    told = f"from {smoothed[0]:.3g} to {smoothed[lowest]:.3g} at lr {rates[lowest]:.2g}"
    if lowest == 0 or fall <= spread:
        return LRFind(
            rates, found, smoothed, None,
            f"the loss did not clearly fall, {told}, while batches differ by {spread:.2g}; give"
            " more steps or larger batches, or keep the optimizer's own rate",
        )  # fmt: skip
    steepest = int(np.gradient(smoothed[: lowest + 1]).argmin())
    if rates[steepest] >= rates[lowest] / 10:
        rate, why = float(rates[steepest]), "where the loss fell fastest"
    else:
        rate, why = float(rates[lowest] / 10), "a tenth of where the loss was lowest"
    end = f"no end to the fall was seen up to {high:g}, so it may be too low"
    if lowest < len(found) - 1:
        end = "an estimate, to be compared with a third and three times of it"
    return LRFind(rates, found, smoothed, rate, f"{why} (it fell {told}); {end}")


def _smooth(found: Array, width: float) -> Array:
    """Means of neighbouring losses, weighted by a bell curve; what exploded is cut off before."""
    x = np.minimum(found, _ceiling(found))
    places = np.arange(len(x))
    bell = np.exp(-0.5 * ((places[:, None] - places) / width) ** 2)
    return bell @ x / bell.sum(axis=1)
