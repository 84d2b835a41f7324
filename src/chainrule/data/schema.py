"""What the columns of a table mean: numbers, categories, and the classes of the target.

A schema is learnt once, from the training table, and goes into the model file. From then on
it encodes every table by column name, so a file with its columns in another order gives the
same numbers and a file with other columns is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, listed, nearest, quoted
from ..errors import unknown as unknown_name
from .cells import (
    MISSING,
    Floats,
    Where,
    as_numbers,
    first_text,
    infinite_cell,
    is_gap,
    missing_cell,
    with_gaps,
)
from .scan import Chunk

__all__ = [
    "BOOLEANS",
    "MAX_CATEGORIES",
    "MAX_EMBEDDED",
    "Column",
    "Schema",
    "Unknown",
    "category_code",
    "fill_categories",
    "fill_numbers",
]

Unknown = Literal["refuse", "ignore"]

VERSION = 2  # of a schema in a model file; the first one has no number, and no gaps or vectors
BOOLEANS = ("False", "True")
MAX_CATEGORIES = 50
MAX_EMBEDDED = 1000  # of a column with learned vectors
MAX_VALUES = 2**28  # of an encoded table: 2 GiB of float64


@dataclass(frozen=True)
class Column:
    """One column of the source table as the model sees it.

    A number is one feature, and where `missing` a second one says that it was missing; the number
    is then NaN, until a `Standardizer` fills it in. A category is one-hot, a feature for each of
    `categories`, of which "(missing)" is one where `missing`; `dim` is the length of its learned
    vector if it is to have one (`nn.EmbedColumns`), else 0.

    >>> Column("colour", "category", ("blue", "red")).width
    2
    >>> Column("age", "number", missing=True).feature_names
    ('age', 'age is missing')
    """

    name: str
    kind: Literal["number", "category"]
    categories: tuple[str, ...] = ()
    missing: bool = False
    dim: int = 0

    @property
    def width(self) -> int:
        """How many features the column becomes."""
        return 1 + self.missing if self.kind == "number" else len(self.categories)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """A name for each feature: the column's own, or `column=category`."""
        if self.kind == "number":
            return (self.name, f"{self.name} is missing")[: self.width]
        return tuple(f"{self.name}={category}" for category in self.categories)


@dataclass(frozen=True)
class Schema:
    """The columns a model was trained on, its target, and the target's classes.

    `classes` is None for regression; label i stands for `classes[i]`. Columns called in `ignored`
    may be in a table and are not looked at.

    >>> schema = Schema((Column("x", "number"),), "y", ("no", "yes"))
    >>> schema.encode(["y", "x"], [["no", "1.5"], ["yes", "2"]]).tolist()
    [[1.5], [2.0]]
    """

    columns: tuple[Column, ...]
    target: str
    classes: tuple[str, ...] | None = None
    ignored: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        """How many features a row becomes."""
        return sum(column.width for column in self.columns)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The name of each feature, in the order of the encoded columns."""
        return tuple(name for column in self.columns for name in column.feature_names)

    @property
    def marks(self) -> NDArray[np.bool_]:
        """Which features are 0 or 1: those of a category, and those that say "is missing".

        >>> Schema((Column("x", "number", missing=True),), "y").marks.tolist()
        [False, True]
        """
        kinds = [
            column.kind == "category" or place == 1
            for column in self.columns
            for place in range(column.width)
        ]
        return np.array(kinds, dtype=bool)

    @property
    def blocks(self) -> list[tuple[int, int, int]]:
        """(start, categories, dim) of the columns with a learned vector, for `nn.EmbedColumns`.

        >>> Schema((Column("c", "category", ("a", "b"), dim=1),), "y").blocks
        [(0, 2, 1)]
        """
        starts = accumulate((column.width for column in self.columns), initial=0)
        pairs = zip(starts, self.columns, strict=False)
        return [(start, column.width, column.dim) for start, column in pairs if column.dim]

    def encode(
        self,
        header: Sequence[str],
        rows: Sequence[Sequence[object]],
        *,
        where: Where | None = None,
        unknown: Unknown = "refuse",
    ) -> Floats:
        """The features of a table, float64 of shape (rows, width), matched by column name.

        Columns may stand in any order and the target may be there. DataError names a column
        that is missing or not known, and the row of a cell that is missing, not a finite
        number, or not a category of training; with unknown="ignore" such a category is all
        zeros. `where` says how messages name row i. A missing number, where training had some,
        is NaN.

        >>> Schema((Column("c", "category", ("a", "b")),), "y").encode(["c"], [["b"]]).tolist()
        [[0.0, 1.0]]
        """
        where = where or (lambda row: f"row {row + 1}")
        places = self.places([str(name).strip() for name in header])
        _check_rows(rows, len(header), where)
        _check_size(len(rows), self.width)
        by_column = [[*map(str.strip, map(_cell, cells))] for cells in zip(*rows, strict=True)]
        return self.encode_chunk(_Rows(by_column, where), places, unknown)

    def encode_chunk(
        self, chunk: Chunk, places: Sequence[int], unknown: Unknown = "refuse"
    ) -> Floats:
        """The features of some rows, of which `places` says where each column stands."""
        if unknown not in ("refuse", "ignore"):
            raise unknown_name("unknown", unknown, ("refuse", "ignore"))
        out = np.zeros((chunk.rows, self.width))
        start = 0
        for column, place in zip(self.columns, places, strict=True):
            part = out[:, start : start + column.width]
            if column.kind == "number":
                fill_numbers(part, column, _numbers(column, chunk, place))
            else:
                fill_categories(part, _codes(column, chunk, place, unknown))
            start += column.width
        return out

    def to_json(self) -> dict[str, object]:
        """The schema as plain lists, dicts and strings, for a model file.

        Written in the first version of the format where that can hold it.

        >>> Schema((Column("x", "number"),), "y").to_json()["target"]
        'y'
        """
        columns: list[dict[str, object]] = [
            {"name": c.name, "kind": c.kind, "categories": list(c.categories)} for c in self.columns
        ]
        classes = None if self.classes is None else list(self.classes)
        data: dict[str, object] = {"columns": columns, "target": self.target, "classes": classes}
        if not self.ignored and not any(c.missing or c.dim for c in self.columns):
            return data
        for entry, column in zip(columns, self.columns, strict=True):
            entry |= {"missing": column.missing, "dim": column.dim}
        return {"version": VERSION, **data, "ignored": list(self.ignored)}

    @classmethod
    def from_json(cls, data: object) -> Schema:
        """The schema that `to_json` wrote; ModelFileError where it is anything else.

        >>> schema = Schema((Column("x", "number"),), "y", ("a", "b"))
        >>> Schema.from_json(schema.to_json()) == schema
        True
        """
        from .stored import schema_from_json

        return schema_from_json(data)

    def places(self, header: Sequence[str]) -> list[int]:
        """Where each column stands in the header; DataError names one that is missing or new.

        >>> Schema((Column("x", "number"),), "y").places(["y", "x"])
        [1]
        """
        names = [column.name for column in self.columns]
        places = {name: place for place, name in enumerate(header)}
        if len(places) < len(header):
            name, count = Counter(header).most_common(1)[0]
            raise DataError(f"{count} columns are named {quoted(name)}; rename all but one")
        expected = {*names, self.target, *self.ignored}
        extra = [name for name in header if name not in expected]
        for name in names:
            if name not in places:
                raise _missing_column(name, extra)
        if extra:
            raise DataError(
                f"column {quoted(extra[0])} was not there in training; "
                f"remove it (columns of training: {listed(names)})"
            )
        return [places[name] for name in names]


def fill_numbers(out: Floats, column: Column, numbers: Floats) -> None:
    """Write a column of numbers into `out`, (rows, width): NaN where missing, and that it is."""
    out[:, 0] = numbers
    if column.missing:
        out[:, 1] = np.isnan(numbers)


def fill_categories(out: Floats, codes: NDArray[np.int64]) -> None:
    """Write 1 at each row's code into `out`, (rows, categories), which is 0; a code −1 is none."""
    known = np.flatnonzero(codes >= 0)
    out[known, codes[known]] = 1.0


def category_code(column: Column, codes: Mapping[str, int], cell: str) -> int | None:
    """The code of a cell of text; None if it is no category.

    >>> column = Column("c", "category", ("False", "True"))
    >>> category_code(column, {"False": 0, "True": 1}, "true")
    1
    """
    code = codes.get(cell)
    if code is None and column.missing and is_gap(cell):
        code = codes.get(MISSING)
    if code is None and cell.capitalize() in BOOLEANS:
        code = codes.get(cell.capitalize())
    return code


class _Rows:
    """The rows that `encode` was given."""

    def __init__(self, columns: list[list[str]], where: Where) -> None:
        self._columns, self.where = columns, where
        self.rows = len(columns[0])

    def matrix(self) -> Floats | None:
        return None

    def numbers(self, place: int) -> Floats | None:
        return with_gaps(self._columns[place])

    def cells(self, place: int) -> list[str]:
        return self._columns[place]


def _cell(value: object) -> str:
    return "" if value is None else str(value)


def _check_size(rows: int, width: int) -> None:
    """Refuse to allocate an encoded table of more than MAX_VALUES numbers."""
    if rows * width > MAX_VALUES:
        raise DataError(
            f"{rows} rows of {width} features are more than {MAX_VALUES} numbers; "
            "use fewer rows, or columns with fewer categories"
        )


def _numbers(column: Column, chunk: Chunk, place: int) -> Floats:
    numbers = chunk.numbers(place)
    if numbers is None:
        cells = chunk.cells(place)
        row = first_text(cells)
        raise DataError(
            f"{chunk.where(row)}, column {quoted(column.name)}: {quoted(cells[row])} is not a "
            "number, as all were in training; correct it"
        )
    gaps, infinite = np.isnan(numbers), np.isinf(numbers)
    if gaps.any() and not column.missing:
        row = int(np.argmax(gaps))
        raise missing_cell(column.name, chunk.cells(place)[row], chunk.where(row))
    if infinite.any():
        row = int(np.argmax(infinite))
        raise infinite_cell(column.name, chunk.cells(place)[row], chunk.where(row))
    return numbers


def _codes(column: Column, chunk: Chunk, place: int, unknown: Unknown) -> NDArray[np.int64]:
    known = {category: code for code, category in enumerate(column.categories)}
    cells = chunk.cells(place)
    codes: dict[str, int] = {}
    for cell in dict.fromkeys(cells):
        code = category_code(column, known, cell)
        if code is None and (unknown == "refuse" or is_gap(cell, marks=False)):
            raise _unseen(column, chunk, place, cells.index(cell))
        codes[cell] = -1 if code is None else code
    return np.fromiter(map(codes.__getitem__, cells), np.int64, len(cells))


def _unseen(column: Column, chunk: Chunk, place: int, row: int) -> DataError:
    cell, where = chunk.cells(place)[row], chunk.where(row)
    if not cell:
        return missing_cell(column.name, cell, where)
    if not isinstance(chunk, _Rows) and chunk.rows > 1 and _numeric_now(column, chunk, place):
        return DataError(
            f"{where}, column {quoted(column.name)}: was text in training and holds numbers now, "
            f"such as {quoted(cell)}; give the column of training. Known: "
            f"{listed(column.categories)}"
        )
    match = nearest(cell, column.categories)
    guess = f"did you mean {quoted(match)}?" if match else "correct it."
    return DataError(
        f"{where}, column {quoted(column.name)}: {quoted(cell)} did not occur in training; "
        f"{guess} Known: {listed(column.categories)}"
    )


def _numeric_now(column: Column, chunk: Chunk, place: int) -> bool:
    """Whether a column of text in training holds numbers only now."""
    return as_numbers(column.categories) is None and chunk.numbers(place) is not None


def _missing_column(name: str, extra: list[str]) -> DataError:
    match = nearest(name, extra)
    repair = f"rename {quoted(match)}, if that is it" if match else "add it"
    return DataError(f"column {quoted(name)} is missing, which the model was trained on; {repair}")


def _check_rows(rows: Sequence[Sequence[object]], width: int, where: Where) -> None:
    if len(rows) == 0:
        raise DataError("the table has no rows; add rows of data")
    for index, row in enumerate(rows):
        if len(row) != width:
            raise DataError(
                f"{where(index)}: found {len(row)} cells, expected {width} as in the header"
            )
