"""What the columns of a table mean: numbers, categories, and the classes of the target.

A schema is learnt once, from the training table, and goes into the model file. From then on
it encodes every table by column name, so a file with its columns in another order gives the
same numbers and a file with other columns is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..errors import DataError, ModelFileError, listed, nearest, quoted
from .cells import Floats, Where, check_cells, first_text, missing_cell, order

__all__ = ["Column", "Schema", "infer_column"]

MAX_CATEGORIES = 50
MAX_VALUES = 2**28  # of an encoded table: 2 GiB of float64


@dataclass(frozen=True)
class Column:
    """One column of the source table as the model sees it.

    A number is one feature; a category is one-hot, a feature for each of `categories`.

    >>> Column("colour", "category", ("blue", "red")).width
    2
    """

    name: str
    kind: Literal["number", "category"]
    categories: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        """How many features the column becomes."""
        return 1 if self.kind == "number" else len(self.categories)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """A name for each feature: the column's own, or `column=category`."""
        if self.kind == "number":
            return (self.name,)
        return tuple(f"{self.name}={category}" for category in self.categories)


@dataclass(frozen=True)
class Schema:
    """The columns a model was trained on, its target, and the target's classes.

    `classes` is None for regression; label i stands for `classes[i]`.

    >>> schema = Schema((Column("x", "number"),), "y", ("no", "yes"))
    >>> schema.encode(["y", "x"], [["no", "1.5"], ["yes", "2"]]).tolist()
    [[1.5], [2.0]]
    """

    columns: tuple[Column, ...]
    target: str
    classes: tuple[str, ...] | None = None

    @property
    def width(self) -> int:
        """How many features a row becomes."""
        return sum(column.width for column in self.columns)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The name of each feature, in the order of the encoded columns."""
        return tuple(name for column in self.columns for name in column.feature_names)

    def encode(
        self,
        header: Sequence[str],
        rows: Sequence[Sequence[object]],
        *,
        where: Where | None = None,
    ) -> Floats:
        """The features of a table, float64 of shape (rows, width), matched by column name.

        Columns may stand in any order and the target may be there. DataError names a column
        that is missing or unknown, and the row of a cell that is missing, not a finite
        number, or not a category of training. `where` says how messages name row i.

        >>> Schema((Column("c", "category", ("a", "b")),), "y").encode(["c"], [["b"]]).tolist()
        [[0.0, 1.0]]
        """
        where = where or (lambda row: f"row {row + 1}")
        places = self._places([str(name).strip() for name in header])
        _check_rows(rows, len(header), where)
        _check_size(len(rows), self.width)
        out = np.zeros((len(rows), self.width))
        start = 0
        by_column = list(zip(*rows, strict=True))
        for column, place in zip(self.columns, places, strict=True):
            cells = [*map(str.strip, map(str, by_column[place]))]
            _fill(out[:, start : start + column.width], column, cells, where)
            start += column.width
        return out

    def to_json(self) -> dict[str, object]:
        """The schema as plain lists, dicts and strings, for a model file.

        >>> Schema((Column("x", "number"),), "y").to_json()["target"]
        'y'
        """
        columns = [
            {"name": c.name, "kind": c.kind, "categories": list(c.categories)} for c in self.columns
        ]
        classes = None if self.classes is None else list(self.classes)
        return {"columns": columns, "target": self.target, "classes": classes}

    @classmethod
    def from_json(cls, data: object) -> Schema:
        """The schema that `to_json` wrote; ModelFileError where it is anything else.

        >>> schema = Schema((Column("x", "number"),), "y", ("a", "b"))
        >>> Schema.from_json(schema.to_json()) == schema
        True
        """
        fields = _fields(data, ("columns", "target", "classes"), "schema")
        target = _name(fields["target"], "schema.target")
        columns = _columns(fields["columns"], target)
        if fields["classes"] is None:
            return cls(columns, target)
        classes = _names(fields["classes"], "schema.classes")
        _demand(len(classes) >= 2, "schema.classes", "holds fewer than two classes")
        return cls(columns, target, classes)

    def _places(self, header: list[str]) -> list[int]:
        """Where each column of the schema stands in the header."""
        names = [column.name for column in self.columns]
        places = {name: place for place, name in enumerate(header)}
        if len(places) < len(header):
            name, count = Counter(header).most_common(1)[0]
            raise DataError(f"{count} columns are named {quoted(name)}; rename all but one")
        expected = {*names, self.target}
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


def infer_column(name: str, cells: Sequence[str], where: Where) -> Column:
    """A number column if every cell is one, else a category if it has few values.

    DataError names the column, a cell and the repair where it is neither.

    >>> infer_column("c", ["b", "a", "b", "a", "a"], str)
    Column(name='c', kind='category', categories=('a', 'b'))
    """
    if check_cells(name, cells, where) is not None:
        return Column(name, "number")
    values = set(cells)
    if len(values) > MAX_CATEGORIES or 2 * len(values) >= len(cells):
        raise _too_many(name, cells, where)
    return Column(name, "category", tuple(order(values)))


def _check_size(rows: int, width: int) -> None:
    """Refuse to allocate an encoded table of more than MAX_VALUES numbers."""
    if rows * width > MAX_VALUES:
        raise DataError(
            f"{rows} rows of {width} features are more than {MAX_VALUES} numbers; "
            "use fewer rows, or columns with fewer categories"
        )


def _too_many(name: str, cells: Sequence[str], where: Where) -> DataError:
    """The error for a column of text with too many different values to be a category."""
    row = first_text(cells)
    return DataError(
        f"{where(row)}, column {quoted(name)}: {quoted(cells[row])} is not a number, and "
        f"{len(set(cells))} different values in {len(cells)} rows are too many for categories "
        f"(at most {MAX_CATEGORIES}, and fewer than half the rows); "
        "correct the value or remove the column"
    )


def _fill(out: Floats, column: Column, cells: list[str], where: Where) -> None:
    """Write the column's features into `out`, of shape (rows, width)."""
    if column.kind == "number":
        out[:, 0] = _numbers(column, cells, where)
        return
    codes = {category: code for code, category in enumerate(column.categories)}
    for row, cell in enumerate(cells):
        if cell not in codes:
            raise _unseen(column, cell, where(row))
        out[row, codes[cell]] = 1.0


def _numbers(column: Column, cells: list[str], where: Where) -> Floats:
    numbers = check_cells(column.name, cells, where)
    if numbers is not None:
        return numbers
    row = first_text(cells)
    raise DataError(
        f"{where(row)}, column {quoted(column.name)}: {quoted(cells[row])} is not a number, "
        "as all were in training; correct it"
    )


def _unseen(column: Column, cell: str, place: str) -> DataError:
    if not cell:
        return missing_cell(column.name, cell, place)
    match = nearest(cell, column.categories)
    guess = f"did you mean {quoted(match)}?" if match else "correct it."
    return DataError(
        f"{place}, column {quoted(column.name)}: {quoted(cell)} did not occur in training; "
        f"{guess} Known: {listed(column.categories)}"
    )


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


def _demand(condition: bool, place: str, fault: str) -> None:
    if not condition:
        raise ModelFileError(f"{place} {fault}; the model file is damaged or was altered")


def _fields(data: object, names: tuple[str, ...], place: str) -> dict[str, object]:
    """The dict itself, if it has exactly these keys."""
    if not isinstance(data, dict) or set(data) != set(names):
        _demand(False, place, f"does not hold exactly {listed(names)}")
    return dict(data)  # type: ignore[call-overload, no-any-return]


def _list(data: object, place: str) -> list[object]:
    if not isinstance(data, list) or not data:
        _demand(False, place, "is not a list of at least one entry")
    return list(data)  # type: ignore[call-overload, no-any-return]


def _name(data: object, place: str) -> str:
    name = data if isinstance(data, str) else ""
    encodable = name.encode("utf-8", "ignore").decode() == name  # JSON can hold half a character
    _demand(name.strip() == name != "" and encodable, place, "is not a name")
    return name


def _names(data: object, place: str) -> tuple[str, ...]:
    names = tuple(_name(entry, f"{place}[{i}]") for i, entry in enumerate(_list(data, place)))
    _demand(len(set(names)) == len(names), place, "holds a name twice")
    return names


def _columns(data: object, target: str) -> tuple[Column, ...]:
    entries = _list(data, "schema.columns")
    columns = tuple(_column(entry, f"schema.columns[{i}]") for i, entry in enumerate(entries))
    names = {column.name for column in columns} | {target}
    _demand(len(names) == len(columns) + 1, "schema", "names a column twice")
    return columns


def _column(data: object, place: str) -> Column:
    fields = _fields(data, ("name", "kind", "categories"), place)
    name = _name(fields["name"], f"{place}.name")
    if fields["kind"] == "number":
        _demand(fields["categories"] == [], f"{place}.categories", "is not empty for a number")
        return Column(name, "number")
    _demand(fields["kind"] == "category", f"{place}.kind", "is not 'number' or 'category'")
    categories = _names(fields["categories"], f"{place}.categories")
    _demand(len(categories) <= MAX_CATEGORIES, f"{place}.categories", "holds too many")
    return Column(name, "category", categories)
