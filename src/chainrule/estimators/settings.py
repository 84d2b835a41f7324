"""The parameters, checked when `fit` is called: scikit-learn's bounds, and ours."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from numbers import Integral, Real
from typing import Any

from ..errors import quoted
from . import solvers

__all__ = ["check"]


def _number(value: Any, kind: Any = Real) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _flag(value: Any) -> bool:
    return isinstance(value, bool) or type(value).__name__ in ("bool", "bool_")


def _least(low: float) -> Callable[[Any], bool]:
    return lambda value: _number(value) and value >= low


def _count(value: Any) -> bool:
    return _number(value, Integral) and value >= 1


RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "alpha": (_least(0), "a number ≥ 0"),
    "batch_size": (lambda v: v == "auto" or _count(v), "'auto' or a whole number of at least 1"),
    "learning_rate_init": (lambda v: _number(v) and v > 0, "a number > 0"),
    "power_t": (_least(0), "a number ≥ 0"),
    "max_iter": (_count, "a whole number of at least 1"),
    "shuffle": (_flag, "True or False"),
    "tol": (_least(0), "a number ≥ 0"),
    "warm_start": (_flag, "True or False"),
    "momentum": (lambda v: _number(v) and 0 <= v <= 1, "a number from 0 to 1"),
    "nesterovs_momentum": (_flag, "True or False"),
    "early_stopping": (_flag, "True or False"),
    "validation_fraction": (lambda v: _number(v) and 0 <= v < 1, "a number from 0 to below 1"),
    "beta_1": (lambda v: _number(v) and 0 <= v < 1, "a number from 0 to below 1"),
    "beta_2": (lambda v: _number(v) and 0 <= v < 1, "a number from 0 to below 1"),
    "epsilon": (lambda v: _number(v) and v > 0, "a number > 0"),
    "n_iter_no_change": (
        lambda v: _count(v) or (_number(v) and v == math.inf),
        "a whole number of at least 1, or inf",
    ),
    "max_fun": (_count, "a whole number of at least 1"),
    "compile": (lambda v: v == "auto" or _flag(v), "'auto', True or False"),
    "progress": (lambda v: v is None or _flag(v), "None, True or False"),
}


def check(estimator: Any) -> list[int]:
    """The widths of the hidden layers; `ValueError` for a parameter that is out of range."""
    for name, (fits, what) in RULES.items():
        value = getattr(estimator, name)
        if not fits(value):
            raise ValueError(f"{name} must be {what}, got {quoted(value)}")
    solvers.check(estimator)
    if not isinstance(estimator.loss, str) and not callable(estimator.loss):
        raise ValueError(
            f"loss must be a name or a function, got {quoted(estimator.loss)}; give other"
            " parameters by name, as hidden_layer_sizes=(16,)"
        )
    sizes = estimator.hidden_layer_sizes
    units = list(sizes) if isinstance(sizes, Iterable) else [sizes]
    if not all(_count(n) for n in units):
        raise ValueError(f"hidden_layer_sizes must be > 0, got {quoted(units)}")
    return [int(n) for n in units]
