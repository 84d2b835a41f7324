"""Checking the arrays that a model is fitted to.

NumPy would take strings, ragged lists, NaN and labels that are no labels a long way before
something fails; here they are refused at the door, by row and column (counted from 0).
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, quoted
from ..nn.rows import first

__all__ = ["check_features", "check_labels"]

Array = NDArray[Any]
Floats = NDArray[np.float64]
Labels = NDArray[np.int64]

MAX_LABEL = 2**53  # floats beyond are not exact, so they are no labels


def check_features(X: object, *, name: str = "X") -> NDArray[np.floating[Any]]:
    """X as a finite float array of shape (rows, columns), each at least 1; X stays as it is.

    float32 and float64 are kept (and not copied), other numbers and booleans become float64.
    DataError says what is wrong, with the row and column (from 0), and how to repair it.

    >>> check_features([[1, 2], [3, 4]])
    array([[1., 2.],
           [3., 4.]])
    """
    array = _as_array(_plain_frame(X, name), name)
    _check_kind(array, name)
    _check_table(array.shape, name)
    floats = _as_floats(array, name)
    finite = np.isfinite(floats)
    if not finite.all():
        row, column = first(~finite)
        found = "NaN" if np.isnan(floats[row, column]) else "infinity"
        raise DataError(
            f"{name} holds {found} at row {row}, column {column} (from 0); "
            "replace the value or remove the row"
        )
    return floats


def check_labels(
    y: object,
    n_rows: int,
    *,
    classes: int | None = None,
    one_class: bool = False,
    name: str = "y",
) -> Labels:
    """y as int64 labels of shape (n_rows,), each in 0..classes-1; y stays as it is.

    Integers, booleans and whole floats will do, as a flat array or one column. `one_class`
    lets all labels be equal, as in a small validation set. DataError names the row (from 0)
    and the value that is not a label, or both lengths where they differ.

    >>> check_labels([0.0, 1.0, 1.0], 3)
    array([0, 1, 1])
    """
    array = _flat(_as_array(y, name), n_rows, name)
    _check_label_kind(array, name)
    floats = _as_floats(array, name)
    end = MAX_LABEL if classes is None else classes
    bad = ~((floats >= 0) & (floats < end) & (floats == np.floor(floats)))
    if bad.any():
        raise _not_a_label(array, int(np.argmax(bad)), classes, name)
    labels = array.astype(np.int64)
    if not one_class and (labels == labels[0]).all():
        raise DataError(
            f"{name} has one class only, {labels[0]}; a classifier needs rows of at least two"
        )
    return labels


def _as_array(value: object, name: str) -> Array:
    """The value as an array of whatever dtype; ragged, sparse and masked ones are refused."""
    if hasattr(value, "toarray"):
        raise DataError(f"{name} is sparse; convert it with {name}.toarray()")
    if isinstance(value, np.ma.MaskedArray) and value.mask.any():
        raise DataError(f"{name} has masked entries; fill them in with {name}.filled(...)")
    try:
        return np.asarray(value)
    except ValueError as error:
        raise DataError(_ragged(value, name) or f"{name} is not an array: {error}") from None


def _plain_frame(value: object, name: str) -> object:
    """A data frame of numbers as one array; its columns are checked by name."""
    if isinstance(value, np.ndarray) or not hasattr(value, "columns"):
        return value
    try:
        import narwhals as nw
    except ImportError:
        return value
    try:
        frame: Any = nw.from_native(value, pass_through=True)
    except nw.exceptions.NarwhalsError as error:
        raise DataError(f"{name} cannot be read ({' '.join(str(error).split())[:100]})") from None
    if isinstance(frame, nw.LazyFrame):
        frame = frame.collect()
    if not isinstance(frame, nw.DataFrame):
        return value
    for column in frame.iter_columns():  # not by name, which may be a number
        _check_column(column, column.name, column.dtype, name)
    return frame.to_numpy()


def _check_column(series: Any, column: object, kind: Any, name: str) -> None:
    """Refuse a frame's column of text or dates, and a gap in one of numbers."""
    if kind.is_numeric():
        gaps = series.is_null()
        if gaps.any():
            raise DataError(
                f"{name} holds NaN, a missing value, at row {gaps.to_list().index(True)} (from 0), "
                f"column {quoted(column)}; fill it in, or let chainrule.data.read_table do so"
            )
    elif kind.is_temporal():
        raise DataError(
            f"{name}, column {quoted(column)}: holds dates or times; replace it by numbers "
            "(year, month, weekday, days since a start), or remove it"
        )
    elif str(kind) not in ("Boolean", "Object", "Unknown"):
        raise DataError(
            f"{name}, column {quoted(column)}: holds {kind}, not numbers; encode it with "
            "chainrule.data.read_table(frame, target), or train with `chainrule train`"
        )


def _ragged(value: object, name: str) -> str | None:
    """Which row of nested lists differs in length from the first."""
    rows = value if isinstance(value, Sequence) else []
    lengths = [len(row) if isinstance(row, Sequence | np.ndarray) else None for row in rows]
    for row, length in enumerate(lengths):
        if length != lengths[0]:
            first, other = (_values(n) for n in (lengths[0], length))
            return f"{name} is ragged: row 0 holds {first}, row {row} {other}; make them equal"
    return None


def _values(count: int | None) -> str:
    if count is None:
        return "a single value"
    return "1 value" if count == 1 else f"{count} values"


def _check_kind(array: Array, name: str) -> None:
    """Refuse what no conversion turns into real numbers."""
    kind = array.dtype.kind
    if kind in "biufO":
        return
    if kind == "c":
        raise DataError(f"Complex data not supported: {name} is {array.dtype}; use {name}.real")
    if kind in "SU":
        shown = quoted(array.flat[0].item()) if array.size else "none"
        raise DataError(
            f"{name} holds strings, such as {shown}; convert numbers with "
            f"np.asarray({name}, dtype=float), encode categories as numbers"
        )
    raise DataError(f"{name} has dtype {quoted(str(array.dtype))}; convert it to numbers")


def _check_table(shape: tuple[int, ...], name: str) -> None:
    if len(shape) == 1:
        raise DataError(
            f"{name} has shape {shape}, expected (rows, columns). Reshape your data: "
            f"{name}.reshape(-1, 1) if it is one column, {name}.reshape(1, -1) if it is one row"
        )
    if len(shape) != 2:
        raise DataError(f"{name} has shape {shape}, expected (rows, columns); give a 2-D array")
    if shape[0] == 0:
        raise DataError(f"{name} has 0 rows (shape={shape}); give at least one")
    if shape[1] == 0:
        raise DataError(f"{name} has 0 feature(s) (shape={shape}) while a minimum of 1 is required")


def _as_floats(array: Array, name: str) -> NDArray[np.floating[Any]]:
    if array.dtype in (np.float32, np.float64):
        return array
    if array.dtype.kind == "O":
        return _from_objects(array, name)
    with np.errstate(over="ignore"):  # a long double beyond float64 is then found as infinite
        return array.astype(np.float32 if array.dtype.kind == "f" and _short(array) else float)


def _short(array: Array) -> bool:
    return array.dtype.itemsize <= 4


def _from_objects(array: Array, name: str) -> Floats:
    """float64 from Python objects that are all real numbers, as a mixed data frame gives."""
    out = np.empty(array.shape)
    for index, value in np.ndenumerate(array):
        try:
            out[index] = _real(value)
        except (TypeError, OverflowError):
            place = ", ".join(f"{n} {i}" for n, i in zip(("row", "column"), index, strict=False))
            raise DataError(
                f"{name} holds {quoted(value)} of type {type(value).__name__} at {place} "
                "(from 0); convert it to a float"
            ) from None
    return out


def _real(value: object) -> float:
    if isinstance(value, Real | np.bool_):
        return float(value)
    raise TypeError  # NumPy would take "7", and read None as NaN


def _flat(array: Array, n_rows: int, name: str) -> Array:
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim == 2:
        raise DataError(
            f"{name} has shape {array.shape}, expected ({n_rows},); "
            "if it is one-hot, give y.argmax(axis=1)"
        )
    if array.ndim != 1:
        raise DataError(f"{name} has shape {array.shape}, expected ({n_rows},); give a 1-D array")
    if len(array) != n_rows:
        raise DataError(
            f"{name} has {len(array)} labels for {n_rows} rows of X; give one for each row"
        )
    if n_rows == 0:
        raise DataError(f"{name} has no labels; give at least one")
    return array


def _check_label_kind(array: Array, name: str) -> None:
    if array.dtype.kind in "biufO":
        return
    shown = quoted(array.flat[0].item())
    raise DataError(
        f"{name} holds {shown}, but labels are integers from 0; "
        "use classes, y = np.unique(y, return_inverse=True)"
    )


def _not_a_label(array: Array, row: int, classes: int | None, name: str) -> DataError:
    expected = "0, 1, 2, …" if classes is None else f"0..{classes - 1}"
    value = array[row].item() if isinstance(array[row], np.generic) else array[row]
    return DataError(
        f"{name}[{row}] is {value}, expected a label in {expected}; "
        "use classes, y = np.unique(y, return_inverse=True)"
    )
