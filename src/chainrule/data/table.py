"""Tables to learn from: the bundled datasets, CSV files, and the split in two parts.

A `Table` holds features and target as arrays, and the `Schema` that made them from columns.
`check_features` and `check_labels` guard the arrays that are not from a table.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, quoted, unknown
from .arrays import Standardizer, check_features, check_labels
from .cells import check_cells, first_text, order
from .schema import Column, Schema, infer_column
from .sheet import Sheet, parse_sheet, read_sheet

__all__ = [
    "BUNDLED",
    "Column",
    "Schema",
    "Sheet",
    "Standardizer",
    "Table",
    "check_features",
    "check_labels",
    "load_dataset",
    "read_csv",
    "read_sheet",
    "split",
]

Task = Literal["classification", "regression"]
Target = NDArray[np.float64] | NDArray[np.int64]

MAX_INTEGER_CLASSES = 20
MAX_CLASSES = 50  # or half the rows, where that is more

# name → target, task, and the classes where their order is not the sorted one
_DATASETS: dict[str, tuple[str, Task, tuple[str, ...]]] = {
    "breast_cancer": ("diagnosis", "classification", ("malignant", "benign")),
    "diabetes": ("progression", "regression", ()),
    "digits": ("digit", "classification", ()),
    "iris": ("species", "classification", ()),
    "wine": ("class", "classification", ()),
}
BUNDLED: tuple[str, ...] = tuple(_DATASETS)


@dataclass(frozen=True, eq=False)
class Table:
    """Features and target, row by row, with the schema that made them.

    `features` is float64 of shape (n, d). `target` has shape (n,): int64 labels, indices
    into `schema.classes`, for classification; float64 for regression.

    >>> load_dataset("iris").schema.classes
    ('setosa', 'versicolor', 'virginica')
    """

    features: NDArray[np.float64]
    target: Target
    schema: Schema
    name: str

    @property
    def task(self) -> Task:
        """What the target asks for."""
        return "regression" if self.schema.classes is None else "classification"

    @property
    def rows(self) -> int:
        """The number of rows."""
        return len(self.features)

    def take(self, rows: Sequence[int] | NDArray[np.int64]) -> Table:
        """The table of these rows, in this order.

        >>> load_dataset("iris").take([0, 149]).target.tolist()
        [0, 2]
        """
        index = np.asarray(rows, dtype=np.int64)
        return Table(self.features[index], self.target[index], self.schema, self.name)


def load_dataset(name: str) -> Table:
    """A bundled dataset, unscaled: one of BUNDLED, else UnknownNameError.

    Rows, columns and labels stand as in scikit-learn's copies (diabetes: the raw one).

    >>> table = load_dataset("digits")
    >>> table.task, table.features.shape
    ('classification', (1797, 64))
    """
    import gzip
    from importlib.resources import files

    if name not in _DATASETS:
        raise unknown("dataset", name, BUNDLED)
    target, task, classes = _DATASETS[name]
    path = files("chainrule.data") / "datasets" / f"{name}.csv.gz"
    with path.open("rb") as packed, gzip.open(packed) as file:
        sheet = parse_sheet(file, name)  # type: ignore[arg-type]
    return _table(sheet, target, task, classes)


def read_csv(path: str | os.PathLike[str], target: str, *, task: str | None = None) -> Table:
    r"""The table in a CSV file, to predict the column `target` from all others.

    UTF-8 with a header; cells separated by `,` `;` or tab. A column of numbers is a feature;
    one of text is one-hot if it has at most 50 values, and fewer than half the rows. A target
    of text, or of at most 20 whole numbers (none more than half the rows), makes a
    classification, unless `task` is given; classes are sorted. DataError names the line, the
    column and the repair: nothing is guessed, skipped or filled in.

    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "and.csv"
    >>> _ = path.write_text("x1,x2,and\n0,0,no\n0,1,no\n1,0,no\n1,1,yes\n")
    >>> table = read_csv(path, target="and")
    >>> table.schema.classes, table.target.tolist()
    (('no', 'yes'), [0, 0, 0, 1])
    """
    return _table(read_sheet(path), target, _checked_task(task))


def split(table: Table, held_out: float = 0.2, seed: int = 0) -> tuple[Table, Table]:
    """The table in two, (train, held out), shuffled; the same seed gives the same rows.

    Of n rows, `held_out` of them (a fraction, rounded, at least one row) are held out: for
    classification of every class alike, but for one row of each class that always trains.
    DataError where the fraction is not between 0 and 1 or there is no row to spare.

    >>> train, held_out = split(load_dataset("iris"), 0.2)
    >>> train.rows, held_out.rows, np.bincount(held_out.target).tolist()
    (120, 30, [10, 10, 10])
    """
    if not 0 < held_out < 1:
        raise DataError(f"held_out is {held_out}, expected a fraction between 0 and 1, as 0.2")
    visit = np.random.default_rng(seed).permutation(table.rows)
    groups = np.zeros(table.rows, np.int64) if table.schema.classes is None else table.target
    chosen = _held_out(groups[visit], held_out)
    if not chosen.any():
        raise DataError(
            f"{table.name}: no row can be held out of {table.rows}, where one row of each "
            "class must train; give more rows"
        )
    return table.take(visit[~chosen]), table.take(visit[chosen])


def _held_out(groups: Target, fraction: float) -> NDArray[np.bool_]:
    """Mark the first rows of each group, as many as its share."""
    _, group, counts = np.unique(groups, return_inverse=True, return_counts=True)
    shares = _shares(counts, fraction)
    chosen = np.zeros(len(groups), bool)
    for index, share in enumerate(shares):
        chosen[np.flatnonzero(group == index)[:share]] = True
    return chosen


def _shares(counts: NDArray[np.int64], fraction: float) -> NDArray[np.int64]:
    """How many rows of each group to hold out: the largest remainders are rounded up."""
    quotas = counts * fraction
    shares: NDArray[np.int64] = np.floor(quotas).astype(np.int64)
    total = max(1, round(int(counts.sum()) * fraction))
    for index in np.argsort(shares - quotas, kind="stable"):
        if shares.sum() < total and shares[index] < counts[index] - 1:
            shares[index] += 1
    return shares


def _checked_task(task: str | None) -> Task | None:
    if task is None or task in get_args(Task):
        return cast("Task | None", task)
    raise unknown("task", task, get_args(Task))


def _table(sheet: Sheet, target: str, task: Task | None, classes: tuple[str, ...] = ()) -> Table:
    """The table of a sheet; `classes` fixes their order where it is not the sorted one."""
    place = sheet.index(target)
    names, values = _target(sheet, place, task)
    if classes:
        values = np.array([classes.index(name) for name in names or ()])[values]
    columns = _columns(sheet, place)
    schema = Schema(columns, target, classes or names)
    features = schema.encode(sheet.header, sheet.rows, where=sheet.where)
    return Table(features, values, schema, sheet.name)


def _columns(sheet: Sheet, target: int) -> tuple[Column, ...]:
    columns = tuple(
        infer_column(name, [row[place] for row in sheet.rows], sheet.where)
        for place, name in enumerate(sheet.header)
        if place != target
    )
    if not columns:
        name = quoted(sheet.header[target])
        raise DataError(
            f"{sheet.name}: the target {name} is the only column; add columns to learn from, "
            "separated by ',', ';' or tab"
        )
    return columns


def _target(sheet: Sheet, place: int, task: Task | None) -> tuple[tuple[str, ...] | None, Target]:
    """The classes and labels of the target column, or None and its numbers."""
    name = sheet.header[place]
    cells = [row[place] for row in sheet.rows]
    numbers = check_cells(name, cells, sheet.where)
    if numbers is None and task == "regression":
        row = first_text(cells)
        raise DataError(
            f"{sheet.where(row)}, column {quoted(name)}: {quoted(cells[row])} is not a number, "
            "as regression needs; correct it or choose task='classification'"
        )
    if numbers is not None:
        if (task or _likely_task(numbers)) == "regression":
            return None, numbers
        cells = [_class_name(number) for number in numbers]
    return _classes(sheet, name, cells)


def _likely_task(numbers: NDArray[np.float64]) -> Task:
    """Few whole numbers that repeat are classes."""
    values = len(np.unique(numbers))
    few = values <= MAX_INTEGER_CLASSES and 2 * values <= len(numbers)
    whole = bool((numbers == np.floor(numbers)).all())
    return "classification" if few and whole else "regression"


def _class_name(number: float) -> str:
    """One spelling for one number: 1, 1.0 and 1e0 are the same class."""
    whole = abs(number) < 2**53 and number == int(number)
    return str(int(number)) if whole else repr(float(number))


def _classes(sheet: Sheet, name: str, cells: list[str]) -> tuple[tuple[str, ...], Target]:
    """The sorted classes and the label of each row."""
    classes = order(set(cells))
    if len(classes) == 1:
        raise DataError(
            f"{sheet.name}, column {quoted(name)}: one class only, {quoted(classes[0])}; "
            "a classifier needs rows of at least two"
        )
    if len(classes) == len(cells) or len(classes) > max(MAX_CLASSES, len(cells) // 2):
        raise DataError(
            f"{sheet.name}, column {quoted(name)}: {len(classes)} classes in {len(cells)} rows "
            f"are too many, such as {quoted(cells[0])}; choose another target"
        )
    labels = {value: label for label, value in enumerate(classes)}
    return tuple(classes), np.array([labels[cell] for cell in cells], np.int64)
