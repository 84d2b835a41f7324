"""What the cells of a column say: numbers, categories, gaps, or something to be refused."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, quoted

__all__ = [
    "MISSING",
    "Floats",
    "Where",
    "as_numbers",
    "first_text",
    "infinite_cell",
    "is_gap",
    "missing_cell",
    "number_name",
    "order",
    "refuse_disguised",
    "with_gaps",
]

Floats = NDArray[np.float64]
Where = Callable[[int], str]  # row index → how messages name the row

MISSING = "(missing)"  # the category of a cell that holds nothing
_NOTHING = frozenset({"", "nan", "+nan", "-nan"})
# Marks that no category is called; among numbers, words such as "none" are marks too.
_MARKS = _NOTHING | {"?", "na", "n/a", "#n/a", "<na>", "null"}
_NUMBER_MARKS = _MARKS | {"-", ".", "none", "missing"}
_SPELT = _NUMBER_MARKS | {"NA", "N/A", "NULL", "None"}  # found without folding each cell
_MONTH = r"(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
_DATE = (
    r"(?i)(\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.](\d{4}|\d{2})"
    rf"|\d{{1,2}}[. -]+{_MONTH}[ ,-]+(\d{{4}}|\d{{2}})|{_MONTH} \d{{1,2}},? \d{{4}}"
    r")([T ].*)?|\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?"
)
_COMMA_NUMBER = r"[-+]?\d{1,3}(\.\d{3})*,\d+|[-+]?\d+(,\d+)+(\.\d+)?"
_REFUSED = (
    (_DATE, "a date", "replace it by numbers (year, month, days since a start)"),
    (_COMMA_NUMBER, "a number with a comma", "write a decimal point and no other separator"),
)


def as_numbers(cells: Sequence[str], *, plain: bool = False) -> Floats | None:
    """The cells as float64 of shape (n,), or None if any is not a number in decimal notation.

    `plain` promises that the cells are ASCII without underscores.

    >>> as_numbers(["1", "2.5e3"]).tolist(), as_numbers(["1", "one"])
    ([1.0, 2500.0], None)
    """
    if not plain:  # float() takes 1_000 and other scripts' digits
        text = "".join(cells)
        if "_" in text or not text.isascii():
            return None
    try:
        return np.array(cells, dtype=np.float64)
    except ValueError:
        return None


def with_gaps(cells: Sequence[str], *, plain: bool = False) -> Floats | None:
    """The same with NaN where a cell is empty or a mark for that, as NA or ?.

    >>> with_gaps(["1", "", "NA"]).tolist(), with_gaps(["", "one"])
    ([1.0, nan, nan], None)
    """
    numbers = as_numbers(cells, plain=plain)
    if numbers is not None:
        return numbers
    filled = ["nan" if cell in _SPELT else cell for cell in cells]
    numbers = as_numbers(filled, plain=plain)
    if numbers is not None:
        return numbers
    filled = ["nan" if cell.strip().lower() in _NUMBER_MARKS else cell for cell in cells]
    return as_numbers(filled, plain=plain)


def is_gap(cell: str, *, marks: bool = True) -> bool:
    """Whether a cell of text is missing: empty or NaN, and with `marks` NA, null or ? too.

    >>> is_gap("NA"), is_gap("NA", marks=False), is_gap("none")
    (True, False, False)
    """
    return cell.lower() in (_MARKS if marks else _NOTHING)


def first_text(cells: Sequence[str]) -> int:
    """The index of the first cell that is not a number, and no gap if it can be helped.

    >>> first_text(["1", "", "one"])
    2
    """
    texts = [row for row, cell in enumerate(cells) if as_numbers([cell]) is None]
    return next((row for row in texts if cells[row].lower() not in _NUMBER_MARKS), texts[0])


def order(values: Iterable[str]) -> list[str]:
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


def number_name(number: float) -> str:
    """One spelling for one number: 1, 1.0 and 1e0 are the same class; NaN is an empty cell.

    >>> number_name(1.0), number_name(0.5), number_name(float("nan"))
    ('1', '0.5', '')
    """
    if number != number:
        return ""
    whole = abs(number) < 2**53 and number == int(number)
    return str(int(number)) if whole else repr(float(number))


def missing_cell(name: str, cell: str, place: str, more: int = 0, way_out: str = "") -> DataError:
    """The error for a cell that holds nothing, or a mark for it; `more` such are in the column.

    >>> str(missing_cell("x", "", "row 1"))
    "row 1, column 'x': the value is missing; fill it in, or remove the row or the column"
    """
    found = f"{quoted(cell)} means that the value is missing" if cell else "the value is missing"
    count = f" ({more + 1} are in this column)" if more else ""
    return DataError(
        f"{place}, column {quoted(name)}: {found}{count}; "
        f"fill it in, or remove the row or the column{way_out}"
    )


def infinite_cell(name: str, cell: str, place: str) -> DataError:
    """The error for a number that is infinite, or too large for float64.

    >>> str(infinite_cell("x", "inf", "row 1"))
    "row 1, column 'x': 'inf' is not a finite number; replace it or remove the row"
    """
    if "inf" in cell.lower():
        reason = "is not a finite number; replace it or remove the row"
    else:
        reason = "is too large for float64; use a larger unit, or its logarithm"
    return DataError(f"{place}, column {quoted(name)}: {quoted(cell)} {reason}")


def refuse_disguised(name: str, values: Iterable[str], cell: str, place: str) -> None:
    """Refuse a column of which all values are dates, or numbers written with a comma.

    >>> refuse_disguised("x", ["1,5", "a"], "1,5", "row 1")
    """
    values = [value for value in values if not is_gap(value)]
    for pattern, meaning, repair in _REFUSED:
        if values and all(re.fullmatch(pattern, value) for value in values):
            raise DataError(
                f"{place}, column {quoted(name)}: {quoted(cell)} looks like {meaning}; "
                f"{repair}, or remove the column"
            )
