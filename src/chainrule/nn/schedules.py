"""Learning rates over time, gradients kept within bounds, and the numbers that set them.

A schedule is a function of the number of updates made before: 0, 1, 2, …
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..circuit import Tensor
from ..circuit import vocabulary as ops
from ..errors import quoted
from .base import count

Array = Any  # an array, or a tensor where the update is traced
Arrays = dict[str, Array]
Schedule = Callable[[Any], Any]

# -- clipping ---------------------------------------------------------------------------------


def clip_value(grads: Mapping[str, Array], limit: float) -> Arrays:
    """Each gradient element kept within [−limit, limit].

    >>> clip_value({"w": np.array([0.5, -3.0])}, 1.0)
    {'w': array([ 0.5, -1. ])}
    """
    return {name: ops.clip(g, -limit, limit) for name, g in grads.items()}


def clip_norm(grads: Mapping[str, Array], limit: float) -> Arrays:
    """All gradients times min(1, limit/‖g‖), ‖g‖ the length of all of them as one vector.

    Computed in units of the largest element, so that no square overflows.

    >>> clip_norm({"w": np.array([3.0]), "b": np.array([4.0])}, 1.0)
    {'w': array([0.6]), 'b': array([0.8])}

    Source: Pascanu, Mikolov and Bengio 2013.
    """
    largest: Any = 0.0
    for g in grads.values():
        largest = ops.maximum(largest, ops.max(ops.abs(g)))
    unit = ops.where(ops.equal(largest, 0), 1, largest)
    length = unit * ops.sqrt(sum(ops.sum(ops.square(g / unit)) for g in grads.values()))
    factor = ops.where(ops.greater(length, limit), limit / ops.maximum(length, limit), 1)
    return {name: g * like(factor, g) for name, g in grads.items()}


# -- schedules --------------------------------------------------------------------------------


def steps(lr: float, every: int, factor: float = 0.1) -> Schedule:
    """lr·factor^⌊step/every⌋: a fall every so many updates.

    >>> [round(steps(1.0, every=2)(k), 3) for k in range(5)]
    [1.0, 1.0, 0.1, 0.1, 0.01]
    """
    lr, factor = at_least(0, "lr", lr), checked("factor", factor)
    above(0, "every", every)
    return lambda step: lr * factor ** _number(ops.floor(step / every))


def exponential(lr: float, factor: float) -> Schedule:
    """lr·factor^step: a steady fall.

    >>> exponential(1.0, 0.5)(3)
    0.125
    """
    lr, factor = at_least(0, "lr", lr), checked("factor", factor)
    return lambda step: lr * factor**step


def cosine(lr: float, length: int, final: float = 0.0) -> Schedule:
    """final + ½(lr − final)(1 + cos(π·step/length)), and `final` from step `length` on.

    >>> [round(cosine(1.0, 4)(k), 3) for k in range(6)]
    [1.0, 0.854, 0.5, 0.146, 0.0, 0.0]

    Source: Loshchilov and Hutter 2017.
    """
    lr, final = at_least(0, "lr", lr), at_least(0, "final", final)
    above(0, "length", length)

    def schedule(step: Any) -> Any:
        return _number(_cosine_from(lr, final, ops.minimum(step / length, 1.0)))

    return schedule


def cosine_restarts(lr: float, length: int, factor: int = 1, final: float = 0.0) -> Schedule:
    """`cosine` again and again: cycle n = 0, 1, … takes length·factorⁿ updates, from lr to `final`.

    >>> [round(cosine_restarts(1.0, 2, factor=2)(k), 3) for k in range(8)]
    [1.0, 0.5, 1.0, 0.854, 0.5, 0.146, 1.0, 0.962]

    Source: Loshchilov and Hutter 2017; PyTorch's CosineAnnealingWarmRestarts (T_0, T_mult).
    """
    lr, final = at_least(0, "lr", lr), at_least(0, "final", final)
    length, factor = count("length", length), count("factor", factor)

    def begin(cycle: Any) -> Any:
        """The update that a cycle begins with."""
        return length * (cycle if factor == 1 else (factor**cycle - 1.0) / (factor - 1))

    def schedule(step: Any) -> Any:
        if factor == 1:
            cycle = ops.floor(step / length)
        else:
            logarithm = ops.log(step * ((factor - 1) / length) + 1.0)
            cycle = ops.floor(logarithm / math.log(factor))
            # A logarithm is rounded: the cycle may have ended already, or not have begun.
            cycle = cycle + ops.where(ops.greater_equal(step, begin(cycle + 1)), 1.0, 0.0)
            cycle = cycle - ops.where(ops.less(step, begin(cycle)), 1.0, 0.0)
        share = (step - begin(cycle)) / (length * float(factor) ** cycle)
        return _number(_cosine_from(lr, final, share))

    return schedule


def one_cycle(
    lr_max: float,
    steps: int,
    pct_start: float = 0.3,
    anneal_strategy: str = "cos",
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
    three_phase: bool = False,
) -> Schedule:
    """From lr_max/div_factor up to lr_max, and down to lr_max/(div_factor·final_div_factor).

    The rise ends at update pct_start·steps − 1 and the fall at the last, steps − 1, after which the
    rate stays. Both follow half a cosine, or a line where `anneal_strategy` is "linear". With
    `three_phase` the fall first mirrors the rise and only then goes further down. Raises
    `ValueError` for an argument out of range. Arguments and values are PyTorch's OneCycleLR's.

    >>> [round(one_cycle(1.0, 10)(k), 4) for k in (0, 1, 2, 5, 9, 10)]
    [0.04, 0.52, 1.0, 0.6113, 0.0, 0.0]

    Source: Smith and Topin 2018.
    """
    high, total = above(0, "lr_max", lr_max), count("steps", steps)
    share = fraction("pct_start", pct_start)
    low = high / above(0, "div_factor", div_factor)
    end = low / above(0, "final_div_factor", final_div_factor)
    if anneal_strategy not in ("cos", "linear"):
        raise ValueError(
            f"anneal_strategy must be 'cos' or 'linear', got {quoted(anneal_strategy)}"
        )
    if three_phase and share >= 0.5:
        raise ValueError(f"pct_start must be below 0.5 with three_phase, got {pct_start}")
    between = _cosine_from if anneal_strategy == "cos" else _line_from
    turns = [share * total - 1, *([2 * share * total - 2] if three_phase else []), total - 1]
    rates = [low, high, *([low] if three_phase else []), end]

    def schedule(step: Any) -> Any:
        found: Any = None
        for k in reversed(range(len(turns))):
            first, last = (turns[k - 1] if k else 0.0), turns[k]
            done = ops.clip((step - first) / (last - first), 0.0, 1.0) if last > first else 1.0
            rate = between(rates[k], rates[k + 1], done)
            found = rate if found is None else ops.where(ops.less_equal(step, last), rate, found)
        return _number(found)

    return schedule


def _cosine_from(start: float, end: float, share: Any) -> Any:
    return end + 0.5 * (start - end) * (1 + ops.cos(math.pi * share))


def _line_from(start: float, end: float, share: Any) -> Any:
    return start * (1 - share) + end * share


def warmup(schedule: float | Schedule, length: int) -> Schedule:
    """The schedule times min(1, (step + 1)/length): a slow start.

    >>> [warmup(1.0, 4)(k) for k in range(5)]
    [0.25, 0.5, 0.75, 1.0, 1.0]
    """
    above(0, "length", length)

    def warmed(step: Any) -> Any:
        later = schedule(step) if callable(schedule) else schedule
        return later * _number(ops.minimum((step + 1) / length, 1.0))

    return warmed


def stretched(schedule: Schedule, every: int) -> Schedule:
    """The schedule of ⌊step/every⌋: one value for so many calls.

    >>> [stretched(exponential(1.0, 0.5), 2)(k) for k in range(5)]
    [1.0, 1.0, 0.5, 0.5, 0.25]
    """
    return lambda step: schedule(
        ops.floor(step / every) if isinstance(step, Tensor) else step // every
    )


# -- numbers ----------------------------------------------------------------------------------


def _number(x: Any) -> Any:
    """A plain scalar as a Python float, which does not promote float32; a tensor as it is."""
    return x if isinstance(x, Tensor) else float(x)


def like(x: Any, p: Array) -> Any:
    """A scalar that leaves the parameter's dtype alone when it meets it."""
    if isinstance(x, Tensor):
        return ops.astype(x, dtype=p.dtype)
    return float(x)


def checked(name: str, value: Any) -> float:
    """A finite number as a float, else `ValueError`."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)):
        raise ValueError(f"{name} must be a number, got {quoted(value)}")
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite, got {value}")
    return float(value)


def at_least(low: float, name: str, value: Any) -> float:
    """A number ≥ low, else `ValueError`."""
    if (number := checked(name, value)) < low:
        raise ValueError(f"{name} must be at least {low}, got {value}")
    return number


def above(low: float, name: str, value: Any) -> float:
    """A number > low, else `ValueError`."""
    if (number := checked(name, value)) <= low:
        raise ValueError(f"{name} must be above {low}, got {value}")
    return number


def fraction(name: str, value: Any) -> float:
    """A number in [0, 1), else `ValueError`."""
    if not 0 <= (number := checked(name, value)) < 1:
        raise ValueError(f"{name} must be at least 0 and below 1, got {value}")
    return number
