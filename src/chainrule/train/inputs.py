"""X and y at the door of `fit`: checked once, cast once, and read-only from there."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np

from ..circuit import Tensor
from ..data import check_features, check_labels
from ..errors import DataError, quoted
from ..nn.losses import LOSSES
from ..nn.rows import check_distributions, first

__all__ = ["features", "frozen", "targets", "validation", "weighable", "weights"]

Array = np.ndarray[Any, Any]


def features(model: Any, X: Any, name: str = "X") -> Array:
    """X in the parameters' dtype, of shape (rows, …) with at least two axes.

    Raises `DataError` naming row and column of a NaN, an infinity, or a number too large for the
    dtype, and for an empty, ragged or one-dimensional X.
    """
    X = X.value if isinstance(X, Tensor) else X
    if getattr(model, "takes_integers", False) and np.asarray(X).dtype.kind in "iub":
        return frozen(np.asarray(X))
    return _finite(X, model.dtype, name)


def _finite(X: Any, dtype: Any, name: str) -> Array:
    shape = np.shape(X) if isinstance(X, np.ndarray) and X.ndim > 2 and len(X) else None
    table = check_features(X if shape is None else X.reshape(len(X), -1), name=name)
    if dtype is not None and table.dtype != dtype:
        with np.errstate(over="ignore"):
            table = table.astype(dtype)
        _refuse_overflow(table, name)
    return frozen(table if shape is None else table.reshape(shape))


def _refuse_overflow(table: Array, name: str) -> None:
    wrong = np.isinf(table)
    if wrong.any():
        row, column = first(wrong)
        raise DataError(
            f"{name} at row {row}, column {column} (from 0) is too large for the model's"
            f" {table.dtype}; scale the column, or make the model with dtype=np.float64"
        )


def targets(model: Any, loss: Any, X: Array, y: Any, name: str = "y") -> Array:
    """y as `loss` takes it: labels as integers, numbers in the parameters' dtype.

    Raises `DataError` where its rows are not those of X (naming both numbers), for a label that is
    no class of the model, and for a NaN or an infinity.
    """
    array = np.asarray(y.value if isinstance(y, Tensor) else y)
    if array.ndim == 0 or len(array) != len(X):
        found = f"{len(array)} rows" if array.ndim else "no rows"
        other = name.replace("y", "X")
        raise DataError(
            f"{other} has {len(X)} rows, {name} has {found}; give one target for each row"
        )
    if getattr(loss, "takes_labels", False):
        return frozen(_classes(model, X, array, name))
    if array.dtype.kind in "iub":
        own = loss in LOSSES.values()  # somebody else's loss may want integers
        return frozen(array.astype(model.dtype) if own else array)
    return _finite(array.reshape(len(array), -1), model.dtype, name).reshape(array.shape)


def _classes(model: Any, X: Array, y: Array, name: str) -> Array:
    """Labels below the number of the model's outputs, or distributions over them."""
    shape = model.predict(X[:1]).shape[1:]
    if shape and y.shape[1:] == shape:
        t = _finite(y.reshape(len(y), -1), model.dtype, name).reshape(y.shape)
        check_distributions(t)
        return t
    if len(shape) != 1:
        return y
    return check_labels(y, len(X), classes=shape[0], one_class=True, name=name)


def weights(model: Any, sample_weight: Any, rows: int, name: str = "sample_weight") -> Array | None:
    """One weight a row in the parameters' dtype, shape (rows,); None where there are none.

    Raises `DataError` where their number is not that of the rows, for a negative weight, a NaN or
    an infinity, and where none is above 0.
    """
    if sample_weight is None:
        return None
    w = np.asarray(sample_weight.value if isinstance(sample_weight, Tensor) else sample_weight)
    if w.shape != (rows,) and w.shape != (rows, 1):
        raise DataError(f"{name} has shape {w.shape}, expected ({rows},): one weight for each row")
    w = _finite(w.reshape(rows, 1), model.dtype, name).reshape(rows)
    if (w < 0).any():
        row = first(w < 0)[0]
        raise DataError(f"{name} is {w[row]} at row {row} (from 0); give numbers ≥ 0")
    if not w.any():
        raise DataError(f"{name} is 0 for every row; give at least one above 0")
    return frozen(w)


def weighable(loss: Any) -> None:
    """Raise `TypeError` for a loss that takes no weights."""
    try:
        known = inspect.signature(loss).parameters
    except (TypeError, ValueError):  # a callable that does not say what it takes
        return
    if "sample_weight" not in known and all(p.kind != p.VAR_KEYWORD for p in known.values()):
        raise TypeError(
            f"the loss {quoted(getattr(loss, '__name__', loss))} takes no sample_weight; define it"
            " as f(prediction, target, sample_weight=None), or leave out the weights"
        )


def validation(model: Any, loss: Any, data: Any) -> tuple[Array, Array, Array | None] | None:
    """(Xv, yv) or (Xv, yv, weights), checked like X, y and sample_weight; the weights or None."""
    if data is None:
        return None
    if not isinstance(data, (tuple, list)) or len(data) not in (2, 3):
        raise DataError("validation_data must be a pair (Xv, yv), or (Xv, yv, sample_weight)")
    Xv = features(model, data[0], "validation X")
    yv = targets(model, loss, Xv, data[1], "validation y")
    given = data[2] if len(data) == 3 else None
    return Xv, yv, weights(model, given, len(Xv), "validation sample_weight")


def frozen(array: Any) -> Array:
    """A read-only view: the circuit need not copy it."""
    view: Array = np.asarray(array).view()
    view.flags.writeable = False
    return view
