"""What the cells of a CSV column say: numbers, categories, or something to be refused."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, quoted

__all__ = ["Floats", "Where", "as_numbers", "check_cells", "first_text", "missing_cell", "order"]

Floats = NDArray[np.float64]
Where = Callable[[int], str]  # row index → how messages name the row

_PLACEHOLDERS = frozenset({"?", "-", ".", "na", "n/a", "#n/a", "null", "none", "missing"})
_DATE = r"(\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.](\d{4}|\d{2}))([T ].*)?"
_COMMA_NUMBER = r"[-+]?\d{1,3}(\.\d{3})*,\d+|[-+]?\d+(,\d+)+(\.\d+)?"
_REFUSED = (
    (_DATE, "a date", "replace it by numbers (year, month, days since a start)"),
    (_COMMA_NUMBER, "a number with a comma", "write a decimal point and no other separator"),
)


def as_numbers(cells: Sequence[str]) -> Floats | None:
    """The cells as float64 of shape (n,), or None if any is not a number in decimal notation.

    >>> as_numbers(["1", "2.5e3"]).tolist(), as_numbers(["1", "one"])
    ([1.0, 2500.0], None)
    """
    text = "".join(cells)
    if "_" in text or not text.isascii():  # float() takes 1_000 and other scripts' digits
        return None
    try:
        return np.fromiter(map(float, cells), np.float64, len(cells))
    except ValueError:
        return None


def check_cells(name: str, cells: Sequence[str], where: Where) -> Floats | None:
    """The cells as finite numbers, or None for a column of text; DataError otherwise.

    Refused are missing values, infinite ones, dates, and numbers written with a comma.

    >>> check_cells("x", ["1", "2"], str), check_cells("x", ["one"], str)
    (array([1., 2.]), None)
    """
    numbers = as_numbers(cells)
    if numbers is not None and np.isfinite(numbers).all():
        return numbers
    for row, cell in enumerate(cells):
        if cell.lower() in ("", "nan", "+nan", "-nan"):
            raise missing_cell(name, cell, where(row))
    if numbers is not None:
        row = int(np.argmax(~np.isfinite(numbers)))
        raise _infinite(name, cells[row], where(row))
    _refuse_disguised(name, cells, where)
    return None


def first_text(cells: Sequence[str]) -> int:
    """The index of the first cell that is not a number.

    >>> first_text(["1", "one"])
    1
    """
    return next(row for row, cell in enumerate(cells) if as_numbers([cell]) is None)


def order(values: set[str]) -> list[str]:
    """The values sorted, numbers first and by size.

    >>> order({"b", "10", "9", "a"})
    ['9', '10', 'a', 'b']
    """

    def key(value: str) -> tuple[bool, float, str]:
        number = as_numbers([value])
        if number is None or not np.isfinite(number[0]):
            return True, 0.0, value
        return False, float(number[0]), value

    return sorted(values, key=key)


def missing_cell(name: str, cell: str, place: str) -> DataError:
    """The error for a cell that holds nothing, or a mark for it.

    >>> str(missing_cell("x", "", "row 1"))
    "row 1, column 'x': the value is missing; fill it in, or remove the row or the column"
    """
    found = f"{quoted(cell)} means that the value is missing" if cell else "the value is missing"
    return DataError(
        f"{place}, column {quoted(name)}: {found}; fill it in, or remove the row or the column"
    )


def _infinite(name: str, cell: str, place: str) -> DataError:
    if "inf" in cell.lower():
        reason = "is not a finite number; replace it or remove the row"
    else:
        reason = "is too large for float64; use a larger unit, or its logarithm"
    return DataError(f"{place}, column {quoted(name)}: {quoted(cell)} {reason}")


def _refuse_disguised(name: str, cells: Sequence[str], where: Where) -> None:
    """Refuse text that stands for numbers: dates, comma numbers, marks for a missing value."""
    for pattern, meaning, repair in _REFUSED:
        if all(re.fullmatch(pattern, cell) for cell in cells):
            raise DataError(
                f"{where(0)}, column {quoted(name)}: {quoted(cells[0])} looks like {meaning}; "
                f"{repair}, or remove the column"
            )
    rest = [cell for cell in cells if cell.lower() not in _PLACEHOLDERS]
    if rest and as_numbers(rest) is not None:
        row = next(i for i, cell in enumerate(cells) if cell.lower() in _PLACEHOLDERS)
        raise missing_cell(name, cells[row], where(row))
