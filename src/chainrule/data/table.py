"""Tables to learn from: the bundled datasets, CSV files, and the split in two parts.

A `Table` holds features and target as arrays, and the `Schema` that made them from columns.
`check_features` and `check_labels` guard the arrays that are not from a table.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, quoted, unknown
from ..errors import unknown as unknown_name
from ..nn.base import count
from .arrays import check_features, check_labels
from .infer import Reading, Target, Task, codes_of, infer_column, infer_target
from .mapped import taken
from .scan import Scan, Source, Store, scan
from .schema import MAX_EMBEDDED, Column, Schema, fill_categories, fill_numbers
from .sheet import CsvSource, Sheet, no_column, read_sheet
from .sources import Chosen, PairSource, source_of
from .standardizer import Standardizer
from .summary import Imbalance, TableSummary, digest, imbalance, summary

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
    "read_features",
    "read_sheet",
    "read_table",
    "split",
]

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

    `features` is float64 of shape (n, d), NaN where a number is missing. `target` has shape (n,):
    int64 labels, indices into `schema.classes`, for classification; float64 for regression.

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
        """The table of these rows, in this order; features in a file stay in one, of their own.

        >>> load_dataset("iris").take([0, 149]).target.tolist()
        [0, 2]
        """
        index = np.asarray(rows, dtype=np.int64)
        return Table(taken(self.features, index), self.target[index], self.schema, self.name)

    def summary(self) -> TableSummary:
        """What each column holds: kind, missing cells, range or commonest categories.

        >>> print(load_dataset("iris").take([0, 60]).summary())
        iris: 2 rows, 4 columns
        column             kind      missing  values
        sepal length (cm)  number          0  5 to 5.1, mean 5.05
        sepal width (cm)   number          0  2 to 3.5, mean 2.75
        petal length (cm)  number          0  1.4 to 3.5, mean 2.45
        petal width (cm)   number          0  0.2 to 1, mean 0.6
        species (target)   category        0  ...
        """
        return summary(self)

    def imbalance(self) -> Imbalance | None:
        """How even the classes are, with advice where the smallest is below a tenth of the largest.

        None for a regression.

        >>> load_dataset("breast_cancer").imbalance().counts
        {'malignant': 212, 'benign': 357}
        """
        return imbalance(self)

    def digest(self) -> str:
        """A fingerprint of features, target and schema: 32 hexadecimal digits.

        It says whether data changed between two runs, whatever the file was called.

        >>> iris = load_dataset("iris")
        >>> iris.digest() == iris.take(range(150)).digest()
        True
        """
        return digest(self)


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
    packed = (files("chainrule.data") / "datasets" / f"{name}.csv.gz").read_bytes()
    source = CsvSource(lambda: io.BytesIO(gzip.decompress(packed)), name)
    return _table(source, target, task, Reading(advise=False), classes)


def read_csv(path: str | os.PathLike[str], target: str, *, task: str | None = None) -> Table:
    r"""The table in a CSV file, to predict the column `target` from all others.

    UTF-8 with a header; cells separated by `,` `;` or tab. A column of numbers is a feature;
    one of text is one-hot if it has at most 50 values, and fewer than half the rows. A target
    of text, or of at most 20 whole numbers (none more than half the rows), makes a
    classification, unless `task` is given; classes are sorted. DataError names the line, the
    column and the repair: nothing is guessed, skipped or filled in (`read_table` can).

    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "and.csv"
    >>> _ = path.write_text("x1,x2,and\n0,0,no\n0,1,no\n1,0,no\n1,1,yes\n")
    >>> table = read_csv(path, target="and")
    >>> table.schema.classes, table.target.tolist()
    (('no', 'yes'), [0, 0, 0, 1])
    """
    reading = Reading(advise=False)
    return _table(CsvSource.at(path), target, _checked("task", task, Task), reading)


def read_table(
    source: Any,
    target: str | None = None,
    *,
    task: str | None = None,
    missing: Literal["impute", "refuse"] = "impute",
    categories: Literal["one-hot", "embedding"] = "one-hot",
    dims: Mapping[str, int] | None = None,
    categorical: Iterable[str] = (),
    drop: Iterable[str] = (),
) -> Table:
    """The table of a file, a data frame or arrays, to predict the column `target` from all others.

    `source` is the path of a CSV, Parquet or .npz file (told apart by content), a pandas, polars
    or Arrow table, a dict of columns, or a pair (X, y) of arrays, which may be memory-mapped;
    a pair's columns are x0, x1, … and the target y, unless named. Kinds of columns, task and
    classes are found as `read_csv` finds them. Booleans are categories, and so are the columns
    called in `categorical`, whatever they hold; the columns in `drop` are left out, here and at
    prediction.

    missing="impute" takes empty cells, NaN, NA, N/A, null and ? for missing, among numbers also
    `-`, `.`, none and missing: a number is NaN, and a feature "… is missing" stands beside it (a
    `Standardizer` fills in the training part's mean); a category is "(missing)". A column without
    any value is refused, and so is a missing target. missing="refuse" refuses all of them.

    categories="embedding" allows up to 1000 categories a column, each to have a learned vector
    (`nn.EmbedColumns(table.schema.width, table.schema.blocks)`) of length dims[column], or
    min(50, round(1.6·k^0.56)) for k categories.

    Dates are refused with advice. A table of more than 32 MiB of numbers is kept in a temporary
    file, of which `features` is a read-only memory map. DataError names the place and the repair.

    >>> table = read_table({"x": [1.0, None, 3.0], "y": [0.5, 1.5, 2.5]}, "y")
    >>> table.schema.feature_names, table.features.tolist()
    (('x', 'x is missing'), [[1.0, 0.0], [nan, 1.0], [3.0, 0.0]])
    """
    reading = Reading(
        _checked("missing", missing, Literal["impute", "refuse"]) or "impute",
        _checked("categories", categories, Literal["one-hot", "embedding"]) or "one-hot",
        _dims(dims),
    )
    found = source_of(source, target)
    if target is None and (isinstance(found, PairSource) or isinstance(source, (tuple, list))):
        target = found.header[-1]
    if target is None:
        raise DataError(f"{found.name}: say which column to predict, with target=")
    marked, left_out = _asked(found, categorical), _asked(found, drop)
    if target in left_out:
        raise DataError(f"drop names the target {quoted(target)}; leave one of the two out")
    chosen = Chosen(found, frozenset(marked), left_out)
    return _table(chosen, target, _checked("task", task, Task), reading, ignored=left_out)


def read_features(
    source: Any, schema: Schema, *, unknown: Literal["refuse", "ignore"] = "refuse"
) -> NDArray[np.float64]:
    """The features of a new table for a trained model, matched by column name: (rows, width).

    `source` as in `read_table`, with or without the target. DataError names a column that is
    missing, extra or of another kind than in training, and the place of a cell that cannot be
    used: a category that training had not (unless unknown="ignore": all zeros), or a missing cell
    in a column where training had none, for which the model has learnt nothing.

    >>> table = read_table({"c": ["a", "b", "a", "b", "a"], "y": [1.0, 2.0, 1.0, 2.5, 1.0]}, "y")
    >>> read_features({"c": ["b"]}, table.schema).tolist()
    [[0.0, 1.0]]
    """
    found = source_of(source, schema.target)
    places, store = schema.places(found.header), Store(schema.width)
    for chunk in found.chunks():
        store.append(schema.encode_chunk(chunk, places, unknown))
    return store.array()


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


def _checked(kind: str, value: Any, known: Any) -> Any:
    if value is None or value in get_args(known):
        return value
    raise unknown_name(kind, value, get_args(known))


def _dims(dims: Mapping[str, int] | None) -> Mapping[str, int] | None:
    for name, dim in (dims or {}).items():
        if count(f"dims[{name!r}]", dim) > MAX_EMBEDDED:
            raise DataError(f"dims[{name!r}] is {dim}, more than {MAX_EMBEDDED}; give fewer")
    return dims


def _asked(source: Source, names: Iterable[str]) -> tuple[str, ...]:
    """The columns that are named, each of which must be there."""
    found = (names,) if isinstance(names, str) else tuple(names)
    for name in found:
        if name not in source.header:
            raise no_column(source.name, source.header, name)
    return found


def _table(
    source: Source,
    target: str,
    task: Task | None,
    reading: Reading,
    classes: tuple[str, ...] = (),
    ignored: tuple[str, ...] = (),
) -> Table:
    """The table of a source; `classes` fixes their order where it is not the sorted one."""
    if target not in source.header:
        raise no_column(source.name, source.header, target)
    found = scan(source, target)
    try:
        place = source.header.index(target)
        names, values = infer_target(found, place, task, reading)
        if classes:
            values = np.array([classes.index(name) for name in names or ()])[values]
        others = [k for k in range(len(source.header)) if k != place]
        if not others:
            raise _only_target(source.name, target)
        columns = tuple(infer_column(found.found[k], found, reading) for k in others)
        schema = Schema(columns, target, classes or names, ignored)
        return Table(_encoded(found, schema, others), values, schema, source.name)
    finally:
        found.store.close()


def _encoded(found: Scan, schema: Schema, places: Sequence[int]) -> NDArray[np.float64]:
    """The features, from the numbers and codes of the pass."""
    codes = {
        place: codes_of(found.found[place], column)
        for place, column in zip(places, schema.columns, strict=True)
        if column.kind == "category"
    }
    store = Store(schema.width)
    for block in found.store.blocks():
        out, start = np.zeros((len(block), schema.width)), 0
        for place, column in zip(places, schema.columns, strict=True):
            part = out[:, start : start + column.width]
            if column.kind == "number":
                fill_numbers(part, column, block[:, place])
            else:
                fill_categories(part, codes[place][block[:, place].astype(np.int64)])
            start += column.width
        store.append(out)
    return store.array()


def _only_target(name: str, target: str) -> DataError:
    return DataError(
        f"{name}: the target {quoted(target)} is the only column; add columns to learn from, "
        "separated by ',', ';' or tab"
    )
