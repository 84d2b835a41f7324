"""From what a pass found in the columns to their meaning: kinds, categories, classes, task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, quoted
from .cells import (
    MISSING,
    infinite_cell,
    is_gap,
    missing_cell,
    number_name,
    order,
    refuse_disguised,
)
from .scan import Found, Scan
from .schema import BOOLEANS, MAX_CATEGORIES, MAX_EMBEDDED, Column, category_code

__all__ = ["Reading", "Task", "codes_of", "infer_column", "infer_target"]

Task = Literal["classification", "regression"]
Target = NDArray[np.float64] | NDArray[np.int64]

MAX_INTEGER_CLASSES = 20
MAX_CLASSES = 50  # or half the rows, where that is more


@dataclass(frozen=True)
class Reading:
    """How a table is to be understood; `advise` names ways out that `read_csv` has not."""

    missing: Literal["impute", "refuse"] = "refuse"
    categories: Literal["one-hot", "embedding"] = "one-hot"
    dims: Mapping[str, int] | None = None
    advise: bool = True

    def dim(self, name: str, categories: int) -> int:
        """The length of a category's vector: min(50, 1.6·k^0.56) for k of them, or as asked for."""
        if self.categories == "one-hot":
            return 0
        return (self.dims or {}).get(name) or min(50, max(1, round(1.6 * categories**0.56)))


def infer_column(found: Found, scan: Scan, reading: Reading) -> Column:
    """A number column if every cell is one, else a category if it has few values.

    DataError names the column, a cell and the repair where it is neither.
    """
    impute = reading.missing == "impute"
    if impute and found.rows == (found.missing or _text_gaps(found, scan)):
        raise DataError(
            f"{scan.source.name}, column {quoted(found.name)}: all {found.rows} cells are missing; "
            "remove the column" + (f", or drop=[{quoted(found.name)}]" if reading.advise else "")
        )
    refuse_odd(found, scan, reading, gaps=impute)
    if not found.text:
        return Column(found.name, "number", missing=impute and found.missing > 0)
    names = _categories(found, gaps=impute)
    embedded = reading.categories == "embedding"
    most = MAX_EMBEDDED if embedded else MAX_CATEGORIES
    if found.full or len(names) > most or 2 * len(names) >= found.rows:
        raise _too_many(found, len(names), most, reading)
    gap = impute and bool(found.gaps)
    categories = (*names, MISSING) if gap and MISSING not in names else tuple(names)
    dim = reading.dim(found.name, len(categories))
    return Column(found.name, "category", categories, gap, dim)


def refuse_odd(found: Found, scan: Scan, reading: Reading, *, gaps: bool = False) -> None:
    """Refuse missing values (unless `gaps`), infinite ones, dates, and numbers with a comma."""
    way_out = ", or read it with missing='impute'" if reading.advise else ""
    if found.text:
        _refuse_text_gap(found, scan, way_out, gaps)
        cell, place = found.first_text or (next(iter(found.codes)), scan.source.name)
        refuse_disguised(found.name, found.codes, cell, place)
        return
    if found.first_missing and not gaps:
        more = found.missing - 1 if reading.advise else 0
        raise missing_cell(found.name, *found.first_missing, more, way_out)
    if found.first_infinite:
        raise infinite_cell(found.name, *found.first_infinite)


def _refuse_text_gap(found: Found, scan: Scan, way_out: str, gaps: bool) -> None:
    for value, place in found.gaps.items():
        if not gaps and is_gap(value, marks=False):
            more = _text_gaps(found, scan) - 1 if way_out else 0
            raise missing_cell(found.name, value, place, more, way_out)


def _text_gaps(found: Found, scan: Scan) -> int:
    """How many cells of a column of text are missing."""
    if not found.gaps or found.full:
        return 0
    codes = [found.codes[value] for value in found.gaps]
    place = scan.found.index(found)
    return int(np.isin(scan.column(place), codes).sum())


def _categories(found: Found, *, gaps: bool) -> list[str]:
    """The categories in their order; true and TRUE are spelt True where there is nothing else."""
    values = [value for value in found.codes if not (gaps and is_gap(value))]
    if values and all(value.capitalize() in BOOLEANS for value in values):
        return [name for name in BOOLEANS if name in {v.capitalize() for v in values}]
    return order(values)


def codes_of(found: Found, column: Column) -> NDArray[np.int64]:
    """The category of each text that was found, as `encode_chunk` would have it."""
    known = {category: code for code, category in enumerate(column.categories)}
    codes = [category_code(column, known, value) for value in found.codes]
    return np.array([-1 if code is None else code for code in codes], np.int64)


def _too_many(found: Found, count: int, most: int, reading: Reading) -> DataError:
    """The error for a column of text with too many different values to be a category."""
    cell, place = found.first_text or (next(iter(found.codes)), "")
    number = f"more than {count - 1}" if found.full else count
    fits = most < count <= MAX_EMBEDDED and 2 * count < found.rows and reading.advise
    way_out = ", or read it with categories='embedding'" if fits else ""
    if reading.advise and not fits:
        way_out = f", as drop=[{quoted(found.name)}] does"
    return DataError(
        f"{place}, column {quoted(found.name)}: {quoted(cell)} is not a number, and "
        f"{number} different values in {found.rows} rows are too many for categories "
        f"(at most {most}, and fewer than half the rows); "
        f"correct the value or remove the column{way_out}"
    )


def infer_target(
    scan: Scan, place: int, task: Task | None, reading: Reading
) -> tuple[tuple[str, ...] | None, Target]:
    """The classes and labels of the target column, or None and its numbers."""
    found = scan.found[place]
    refuse_odd(found, scan, reading)
    values = scan.column(place)
    if found.text:
        if task == "regression":
            cell, where = found.first_text or (next(iter(found.codes)), scan.source.name)
            raise DataError(
                f"{where}, column {quoted(found.name)}: {quoted(cell)} is not a number, "
                "as regression needs; correct it or choose task='classification'"
            )
        if found.full:
            raise _too_many_classes(scan, found, f"more than {len(found.codes) - 1}")
        return _classes(scan, found, list(found.codes), values.astype(np.int64))
    if (task or _likely_task(values)) == "regression":
        return None, values
    numbers, codes = np.unique(values, return_inverse=True)
    return _classes(scan, found, [number_name(float(x)) for x in numbers], codes, values)


def _likely_task(numbers: NDArray[np.float64]) -> Task:
    """Few whole numbers that repeat are classes."""
    values = len(np.unique(numbers))
    few = values <= MAX_INTEGER_CLASSES and 2 * values <= len(numbers)
    whole = bool((numbers == np.floor(numbers)).all())
    return "classification" if few and whole else "regression"


def _classes(
    scan: Scan,
    found: Found,
    names: list[str],
    codes: NDArray[np.int64],
    numbers: NDArray[np.float64] | None = None,
) -> tuple[tuple[str, ...], Target]:
    """The sorted classes and the label of each row, from the code of each row's name."""
    spelt = {name: name for name in names}
    if all(name.capitalize() in BOOLEANS for name in names):
        spelt = {name: name.capitalize() for name in names}
    classes = order(set(spelt.values()))
    if len(classes) == 1:
        raise DataError(
            f"{scan.source.name}, column {quoted(found.name)}: one class only, "
            f"{quoted(classes[0])}; a classifier needs rows of at least two"
        )
    if len(classes) == found.rows or len(classes) > max(MAX_CLASSES, found.rows // 2):
        first = number_name(float(numbers[0])) if numbers is not None else None
        raise _too_many_classes(scan, found, str(len(classes)), first)
    labels = {name: label for label, name in enumerate(classes)}
    lookup = np.array([labels[spelt[name]] for name in names], np.int64)
    return tuple(classes), lookup[codes.reshape(-1)]


def _too_many_classes(scan: Scan, found: Found, count: str, first: str | None = None) -> DataError:
    first = next(iter(found.codes)) if first is None else first
    return DataError(
        f"{scan.source.name}, column {quoted(found.name)}: {count} classes in {found.rows} rows "
        f"are too many, such as {quoted(first)}; choose another target"
    )
