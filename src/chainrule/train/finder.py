"""lr_find: a short run with a growing learning rate, and what its losses say about a good one."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import GradientError
from ..nn import losses, optim, schedules
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
    **keywords: Any,
) -> LRFind:
    """TODO"""
    rule = _with_schedule(optimizer, low, high, count("steps", steps, least=20))
    twin = copy.deepcopy(model)
    watch = _Watch(steps)
    try:
        with np.errstate(all="ignore"):
            history = fit(
                twin, X, y, loss=loss, optimizer=rule, batch_size=batch_size, seed=seed,
                epochs=steps, callbacks=[watch], progress=False, **keywords,
            )  # fmt: skip
    except GradientError:
        if not watch.losses:
            raise
    else:
        if history.stopped == "interrupted":
            raise KeyboardInterrupt
    rates = np.array([rule.lr(k) for k in range(len(watch.losses))])
    return _judged(rates, np.array(watch.losses), steps)


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
        self.losses.append(moment.loss)
        recent = float(np.mean(self.losses[-5:]))
        return len(self.losses) >= self.steps or recent > _ceiling(self.losses)


def _ceiling(losses: Any) -> float:
    """Where a loss counts as exploded: above the start by three times the descent, or by itself."""
    start = float(np.mean(losses[:5]))
    means = np.convolve(losses, np.full(5, 0.2), "valid") if len(losses) >= 5 else [start]
    return start + max(3 * (start - float(np.min(means))), abs(start))
