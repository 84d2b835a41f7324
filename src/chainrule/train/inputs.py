"""X and y at the door of `fit`: checked once, cast once, and read-only from there."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..circuit import Tensor
from ..data import check_features, check_labels
from ..errors import DataError
from ..nn.losses import LOSSES
from ..nn.rows import check_distributions, first

__all__ = ["features", "targets", "validation"]

Array = np.ndarray[Any, Any]


def features(model: Any, X: Any, name: str = "X") -> Array:
    """X in the parameters' dtype, of shape (rows, …) with at least two axes.

    Raises `DataError` naming row and column of a NaN, an infinity, or a number too large for the
    dtype, and for an empty, ragged or one-dimensional X.
    """
    X = X.value if isinstance(X, Tensor) else X
    if getattr(model, "takes_integers", False) and np.asarray(X).dtype.kind in "iub":
        return _frozen(np.asarray(X))
    return _finite(X, model.dtype, name)


def _finite(X: Any, dtype: Any, name: str) -> Array:
    shape = np.shape(X) if isinstance(X, np.ndarray) and X.ndim > 2 and len(X) else None
    table = check_features(X if shape is None else X.reshape(len(X), -1), name=name)
    if dtype is not None and table.dtype != dtype:
        with np.errstate(over="ignore"):
            table = table.astype(dtype)
        _refuse_overflow(table, name)
    return _frozen(table if shape is None else table.reshape(shape))


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
        return _frozen(_classes(model, X, array, name))
    if array.dtype.kind in "iub":
        own = loss in LOSSES.values()  # somebody else's loss may want integers
        return _frozen(array.astype(model.dtype) if own else array)
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


def validation(model: Any, loss: Any, data: Any) -> tuple[Array, Array] | None:
    """The pair (Xv, yv), checked like X and y."""
    if data is None:
        return None
    if not isinstance(data, (tuple, list)) or len(data) != 2:
        raise DataError("validation_data must be a pair (Xv, yv)")
    Xv = features(model, data[0], "validation X")
    return Xv, targets(model, loss, Xv, data[1], "validation y")


def _frozen(array: Any) -> Array:
    """A read-only view: the circuit need not copy it."""
    view: Array = np.asarray(array).view()
    view.flags.writeable = False
    return view
