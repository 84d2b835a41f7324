"""Rows to learn from and to measure on, with their weights."""

from __future__ import annotations

from numbers import Real
from typing import Any, NamedTuple

import numpy as np
from sklearn.utils.validation import check_array

from ..errors import DataError
from .sparse import dense

__all__ = ["Rows", "row_weights", "validation"]

Array = np.ndarray[Any, Any]


class Rows(NamedTuple):
    """Rows to learn from, or to measure on; `targets` as the loss takes them."""

    X: Any
    targets: Array
    weight: Array | None  # sample_weight times class_weight
    given: Array | None  # sample_weight alone, which scores are weighted by

    def take(self, rows: Array) -> Rows:
        """Those rows."""
        part = [None if a is None else a[rows] for a in self]
        return Rows(*part)  # type: ignore[arg-type]


def row_weights(given: Any, X: Any) -> Array | None:
    """A weight a row, in the dtype of X."""
    if given is None:
        return None
    count = X.shape[0]
    if isinstance(given, Real):
        given = np.full(count, given)
    found = check_array(
        given, ensure_2d=False, dtype=X.dtype, input_name="sample_weight", accept_sparse=False
    )
    if found.shape != (count,):
        raise DataError(
            f"sample_weight has shape {found.shape}, expected ({count},): one weight for each row"
        )
    if not found.any():
        raise DataError("sample_weight is zero for every row; give at least one above zero")
    return np.asarray(found)


def validation(rows: Rows | None) -> Any:
    """The rows as `fit` takes its `validation_data`."""
    if rows is None:
        return None
    data = (dense(rows.X), rows.targets)
    return data if rows.weight is None else (*data, rows.weight)
