"""X and y at the door of `diagnose`: arrays with names, gaps and odd values left to be found.

`fit` refuses a NaN at its door; a diagnosis must see it in order to name its row and column.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np

from ...circuit import Tensor
from ...data import check_features
from ...errors import DataError, listed, quoted

__all__ = ["encoded", "features", "names", "targets"]

Array = Any
Names = tuple[str, ...]


def names(X: Any) -> Names:
    """The columns' names of a data frame, () of anything else."""
    frame = _frame(X)
    return () if frame is None else tuple(map(str, frame.columns))


def _frame(X: Any) -> Any:
    """What narwhals makes of a frame; None for what is none, or where narwhals is missing."""
    if isinstance(X, np.ndarray) or not (hasattr(X, "columns") or hasattr(X, "column_names")):
        return None
    try:
        import narwhals as nw
    except ImportError:
        return None
    found: Any = nw.from_native(X, pass_through=True)
    found = found.collect() if isinstance(found, nw.LazyFrame) else found
    return found if isinstance(found, nw.DataFrame) else None


def features(X: Any) -> tuple[Array, Names]:
    """X as an array of numbers, gaps as NaN, and its columns' names.

    >>> features([[1, None], [2, 3.5]])[0]
    array([[1. , nan],
           [2. , 3.5]])
    """
    frame = _frame(X)
    if frame is None:
        return _table(X), ()
    columns = [
        _numbers(column.to_numpy(), f"X, column {quoted(column.name)},")
        for column in frame.iter_columns()
    ]
    return np.stack([c.astype(np.float64) for c in columns], axis=1), names(X)


def _table(X: Any) -> Array:
    if isinstance(X, Tensor) or hasattr(X, "toarray"):
        array = _numbers(X, "X")
    else:
        array = _array(X, "X")
        array = _numbers(array, "X") if array.ndim > 1 else array
    if array.ndim < 2:
        found = f"has shape {array.shape}" if array.ndim else f"is of type {type(X).__name__}"
        raise DataError(f"X {found}; give an array of shape (rows, columns), or a data frame")
    if not array.size:
        raise DataError(f"X has shape {array.shape}; give at least one row and one column")
    return array


def _numbers(values: Any, name: str) -> Array:
    """The values as an array of numbers; `DataError` naming what is none."""
    if isinstance(values, Tensor):
        return np.asarray(values.value)
    array = _array(values.toarray() if hasattr(values, "toarray") else values, name)
    if array.dtype.kind in "fiub":
        return array
    if array.dtype.kind != "O":
        raise DataError(_no_number(array, np.ones(array.shape, bool), name))
    odd = np.array([not _real(v) for v in array.flat], bool).reshape(array.shape)
    if odd.any():
        raise DataError(_no_number(array, odd, name))
    plain = [np.nan if _gap(v) else float(v) for v in array.flat]
    return np.array(plain, np.float64).reshape(array.shape)


def _array(values: Any, name: str) -> Array:
    try:
        return np.asarray(values)
    except ValueError:
        return check_features(values, name=name)  # which says where it is ragged


def _gap(value: Any) -> bool:
    return value is None or type(value).__name__ in ("NAType", "NaTType")


def _real(value: Any) -> bool:
    return _gap(value) or (hasattr(value, "__float__") and not isinstance(value, str))


def _no_number(array: Array, odd: Array, name: str) -> str:
    place = np.unravel_index(int(np.argmax(odd)), array.shape)
    row, *column = (int(k) for k in place) if place else (0,)
    found = array[place]
    found = found.item() if isinstance(found, np.generic) else found
    where = f"row {row}, column {column[0]}" if column else f"row {row}"
    repair = "encode it with chainrule.data.read_table, or leave the column out"
    return (
        f"{name} holds {quoted(found)} at {where} (from 0), which is no number;"
        f" {repair if name.startswith('X') else 'a regression needs one'}"
    )


def targets(y: Any, classes: Any = None) -> tuple[Array, Names, Names]:
    """y as numbers, its classes' names, and what is to be said of them.

    Strings become the places of their classes: those given, else all that there are, sorted.

    >>> targets(["no", "yes", "no"])
    (array([0, 1, 0]), ('no', 'yes'), ("y is encoded as 'no' → 0, 'yes' → 1.",))
    """
    array = _column(y)
    own = tuple(map(str, classes)) if isinstance(classes, (list, tuple)) else ()
    if not _text(array):
        return _numbers(array, "y"), own, ()
    if array.ndim > 1:
        raise DataError(f"y holds text in {array.shape[1]} columns; give one column of classes")
    known = list(own) or sorted({str(v) for v in array if isinstance(v, str)})
    places = _places(array, known, "the classes are" if own else "y has")
    return places, tuple(known), (_said(known),)


def encoded(y: Any, estimator: Any) -> tuple[Array, Names, Names]:
    """y as a fitted estimator's loss takes it, by its `classes_` where it has some."""
    classes = getattr(estimator, "classes_", None)
    array = _column(y)
    if classes is None or (array.ndim == 2 and array.shape[1] > 1):
        return _numbers(array, "y"), (), ()
    known = np.asarray(classes).tolist()
    places = _places(array, known, "this estimator was fitted on")
    shown = tuple(map(str, known))
    if places.dtype.kind == array.dtype.kind and np.array_equal(places, array):
        return places, shown, ()
    return places, shown, (_said(known),)


def _column(y: Any) -> Array:
    """y as an array; a frame or a table of one column as that column."""
    if isinstance(y, Tensor):
        return np.asarray(y.value)
    frame = _frame(y)
    if frame is not None:
        array = np.stack([column.to_numpy() for column in frame.iter_columns()], axis=1)
    else:
        array = _array(y, "y")
        if not array.ndim:
            raise DataError(f"y is of type {type(y).__name__}; give an array with one target a row")
    if array.ndim == 2 and array.shape[1] == 1 and (frame is not None or _text(array[:, 0])):
        return array[:, 0]
    return array


def _text(array: Array) -> bool:
    if array.dtype.kind in "UST":
        return True
    return array.dtype.kind == "O" and any(isinstance(v, str) for v in array.flat)


def _places(array: Array, known: list[Any], whose: str) -> Array:
    order = {value: k for k, value in enumerate(known)}
    values = array.reshape(-1).tolist()
    found = [order.get(v, -1) if isinstance(v, Hashable) else -1 for v in values]
    if -1 in found:
        row = found.index(-1)
        raise DataError(
            f"y[{row}] is {quoted(values[row])}, and {whose} {listed(known, 6)}; correct it, or"
            " leave the row out"
        )
    return np.array(found, np.int64)


def _said(known: list[Any]) -> str:
    pairs = [f"{quoted(value)} → {place}" for place, value in enumerate(known[:6])]
    more = f" and {len(known) - 6} more" if len(known) > 6 else ""
    return f"y is encoded as {', '.join(pairs)}{more}."
