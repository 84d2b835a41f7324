"""What every loss shares: how predictions meet targets, row by row, and how rows are reduced."""

from __future__ import annotations

import functools
import math
import sys
import warnings
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np

from ..circuit import Tensor, enter_group, state
from ..circuit import vocabulary as ops
from ..circuit.state import PACKAGE
from ..errors import DataError, ShapeError, unknown

Value = Any  # a tensor, an array, or what NumPy makes an array of
Loss = Callable[..., Any]
F = TypeVar("F", bound=Loss)

REDUCTIONS = ("mean", "sum", "none")
TOLERANCE = 1e-3  # how far a distribution may be from adding up to 1: targets may be float16


def loss(*, takes_labels: bool = False, boundary: float = 0.5) -> Callable[[F], F]:
    """Label the nodes of each call with the loss's name, so that a drawing can fold them.

    `takes_labels` marks a class loss; `boundary` is where a single output decides between 0 and 1.
    """

    def define(function: F) -> F:
        @functools.wraps(function)
        def labelled(*args: Any, **keywords: Any) -> Any:
            before = enter_group(labelled.__name__)
            try:
                return function(*args, **keywords)
            finally:
                state.group = before

        labelled.__dict__.update(takes_labels=takes_labels, boundary=boundary)
        return cast("F", labelled)

    return define


# -- predictions and targets ------------------------------------------------------------------


def plain(x: Value) -> Any:
    """The NumPy value of a tensor; anything else as it is."""
    return x.value if isinstance(x, Tensor) else x


def floating(x: Value, dtype: Any = np.float64) -> Any:
    """A tensor or array of floats; integers, and what is no array yet, become `dtype`."""
    if isinstance(x, Tensor):
        return x if x.dtype.kind == "f" else ops.astype(x, dtype=np.dtype(dtype))
    if isinstance(x, (np.ndarray, np.generic)) and x.dtype.kind == "f":
        return x
    return np.asarray(x, dtype=dtype)


def pair(prediction: Value, target: Value) -> tuple[Any, Any]:
    """Both as floats of one shape: (n,) meets (n, 1), nothing else is stretched."""
    a = floating(prediction)
    y = floating(target, a.dtype)
    if a.shape == y.shape:
        return a, y
    if {a.ndim, y.ndim} == {1, 2} and (*a.shape, 1)[:2] == (*y.shape, 1)[:2]:
        return a, ops.reshape(y, a.shape)
    raise ShapeError(
        f"the prediction has shape {a.shape}, the target {y.shape}: give the target the"
        " prediction's shape (one sample's output vector is (1, k), not (k,))"
    )


def chosen_classes(scores: Any, target: Value) -> tuple[Any, Any]:
    """Where the target is positive, of the scores' shape; and its values, None for labels."""
    if scores.ndim == 0 or scores.shape[-1] == 0:
        raise ShapeError(f"the prediction has shape {scores.shape}; its last axis must be classes")
    t = target if isinstance(target, Tensor) else np.asarray(target)
    if t.shape == scores.shape:
        t = floating(target, scores.dtype)
        check_distributions(np.asarray(plain(t)))
        return ops.not_equal(t, 0), t
    rows, classes = scores.shape[:-1], scores.shape[-1]
    if t.shape not in (rows, (*rows, 1)):
        raise ShapeError(
            f"the prediction has shape {scores.shape}, the target {t.shape}: give labels of shape"
            f" {rows} or distributions of shape {scores.shape}"
        )
    _check_labels(plain(t).reshape(rows), classes)
    chosen = ops.equal(t.reshape((*rows, 1)), np.arange(classes))
    if isinstance(chosen, np.ndarray):
        chosen.flags.writeable = False  # nobody else holds it: the circuit need not copy it
    return chosen, None


def _check_labels(labels: Any, classes: int) -> None:
    if labels.dtype.kind in "iu":
        # Read as unsigned, a negative label is huge: one pass finds it too.
        if not labels.size or labels.view(labels.dtype.str.replace("i", "u")).max() < classes:
            return
        wrong = (labels < 0) | (labels >= classes)
    else:
        wrong = ~((labels >= 0) & (labels < classes) & (labels == np.floor(labels)))
    if np.any(wrong):
        place = first(wrong)
        raise DataError(
            f"label {labels[place]} at row {_row(place)} is not an integer from 0 to {classes - 1},"
            f" for a prediction of {classes} classes"
        )


def check_distributions(t: Any) -> None:
    """Raise `DataError` where a row holds a negative number or does not add up to 1."""
    if np.any(negative := t < -TOLERANCE):
        place = first(negative)
        raise DataError(f"the target at row {_row(place[:-1])} holds {t[place]}; none is negative")
    total = t.sum(axis=-1)
    if np.any(off := ~(np.abs(total - 1) <= TOLERANCE)):
        place = first(off)
        raise DataError(
            f"the target at row {_row(place)} adds up to {total[place]}, not 1: give distributions"
            " or integer labels"
        )


def check_unit(x: Value, what: str, repair: str) -> None:
    """Raise `DataError` for a number outside [0, 1]; a NaN passes, and shows in the value."""
    values = np.asarray(plain(x))
    if values.size and not (values.min() >= 0 and values.max() <= 1):
        wrong = (values < 0) | (values > 1)
        if np.any(wrong):
            place = first(wrong)
            found = f"{values[place]} at row {_row(place[:1])}"
            raise DataError(f"{what} must be from 0 to 1, not {found}; {repair}")


def first(mask: Any) -> tuple[int, ...]:
    """The index of the first True."""
    return tuple(int(i) for i in np.unravel_index(int(np.argmax(mask)), np.shape(mask)))


def _row(place: tuple[int, ...]) -> Any:
    """How a message names a row: its number, or its place where rows have several axes."""
    return place[0] if len(place) == 1 else place or 0


# -- logarithms where they count --------------------------------------------------------------


def log_where(chosen: Any, x: Value) -> Any:
    """ln x where chosen, else exactly 0, and no derivative either: selected, never multiplied."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return ops.log(ops.where(chosen, x, 1))


def log_probability(z: Any, chosen: Any, clip: float | None) -> Any:
    """ln z where chosen, with a warning where that is −∞."""
    check_unit(z, "probabilities", "use softmax_cross_entropy on logits")
    if clip is not None:
        z = ops.clip(z, clip_bound(clip), None)
    warn_if_certain((plain(z) == 0) & plain(chosen), "softmax_cross_entropy")
    return log_where(chosen, z)


def clip_bound(clip: float) -> float:
    """The bound as a float; `ValueError` where it would leave nothing."""
    if not 0 < clip < 0.5:
        raise ValueError(f"clip must be above 0 and below 0.5, as 1e-12; got {clip}")
    return float(clip)


def share_from_0_to_1(name: str, share: float) -> float:
    """The share as a float; `ValueError` outside [0, 1]."""
    if not 0 <= share <= 1:
        raise ValueError(f"{name} must be from 0 to 1, as 0.1; got {share}")
    return float(share)


def warn_if_certain(wrong: Any, instead: str) -> None:
    """One warning, at the user's line, where a probability says that what happened cannot."""
    if np.any(wrong):
        place = first(wrong)[: max(1, np.ndim(wrong) - 1)]
        warnings.warn(
            f"row {_row(place)} has probability 0 where the target is positive: the loss is inf,"
            " and so is its gradient. A probability that is computed was rounded to 0; use"
            f" {instead} on logits, which does not round, or clip=1e-12",
            RuntimeWarning,
            stacklevel=_depth(),
        )


def _depth() -> int:
    """How many frames up the user's line is."""
    frame, depth = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_code.co_filename.startswith(PACKAGE):
        frame, depth = frame.f_back, depth + 1
    return depth


# -- reductions -------------------------------------------------------------------------------


def reduced(
    terms: Any,
    lead: int,
    sample_weight: Value,
    reduction: str,
    *,
    divisor: int = 1,
    average: bool = False,
) -> Any:
    """Σ terms / divisor over a row's outputs (or their mean), then the reduction over rows.

    Rows are the first `lead` axes; −1 means all but the last. One division does it all, so that a
    step of training has few nodes.
    """
    if reduction not in REDUCTIONS:
        raise unknown("reduction", reduction, REDUCTIONS)
    shape = terms.shape
    rows = shape[:lead]
    divisor *= math.prod(shape[len(rows) :]) if average else 1
    if reduction == "mean" and 0 in rows:
        raise ShapeError(f"the mean over rows needs at least one; the prediction has shape {shape}")
    if sample_weight is None and reduction != "none":
        return _divided(ops.sum(terms), divisor * (math.prod(rows) if reduction == "mean" else 1))
    by_row = _divided(ops.sum(terms, axis=tuple(range(len(rows), len(shape)))), divisor)
    return by_row if sample_weight is None else _weighted(by_row, sample_weight, reduction)


def _divided(x: Any, divisor: int) -> Any:
    return x if divisor == 1 else x / divisor


def _weighted(by_row: Any, sample_weight: Value, reduction: str) -> Any:
    """w·l, Σ w·l or Σ w·l / Σ w."""
    w = floating(sample_weight, by_row.dtype)
    if w.shape != by_row.shape:
        raise ShapeError(
            f"sample_weight has shape {w.shape}, the rows {by_row.shape}; give one weight a row"
        )
    _check_weights(np.asarray(plain(w)), reduction)
    weighted = by_row * w
    if reduction == "none":
        return weighted
    total = ops.sum(weighted)
    return total if reduction == "sum" else total / ops.sum(w)


def _check_weights(w: Any, reduction: str) -> None:
    wrong = ~(np.isfinite(w) & (w >= 0))
    if np.any(wrong):
        place = first(wrong)
        raise DataError(f"sample_weight holds {w[place]} at row {_row(place)}; give numbers ≥ 0")
    if reduction == "mean" and not np.any(w):
        raise DataError("sample_weight is 0 for every row, so the mean is 0/0; give one above 0")
