"""What a table holds, column by column, how even its classes are, and its fingerprint."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..errors import quoted
from .cells import MISSING
from .mapped import blocks

if TYPE_CHECKING:
    from .table import Table

__all__ = ["ColumnSummary", "Imbalance", "TableSummary", "digest", "imbalance", "summary"]

SMALL_SHARE = 0.1  # of the largest class: below, a class is small
SHOWN = 5  # categories


@dataclass(frozen=True)
class ColumnSummary:
    """One column: of numbers `low`, `mean` and `high`, of categories `top`, the commonest first."""

    name: str
    kind: str  # "number" or "category"
    missing: int
    low: float | None = None
    mean: float | None = None
    high: float | None = None
    top: tuple[tuple[str, int], ...] = ()
    categories: int = 0

    @property
    def values(self) -> str:
        """What it holds, in words.

        >>> ColumnSummary("c", "category", 0, top=(("a", 3), ("b", 1)), categories=9).values
        "9 categories: 'a' 3, 'b' 1, …"
        """
        if self.kind == "category":
            shown = ", ".join(f"{quoted(name, 20)} {count}" for name, count in self.top)
            rest = ", …" if self.categories > len(self.top) else ""
            return f"{self.categories} categories: {shown}{rest}"
        if self.low is None:
            return "no number"
        return f"{self.low:.6g} to {self.high:.6g}, mean {self.mean:.6g}"


@dataclass(frozen=True)
class Imbalance:
    """How even the classes are: rows of each, and the largest class over the smallest."""

    counts: dict[str, int]
    ratio: float  # infinite where a class has no rows, as in a part of a table
    advice: str | None  # where the smallest class has less than a tenth of the largest


@dataclass(frozen=True)
class TableSummary:
    """A table in short; `print` it, or show `columns` and `target` your own way."""

    name: str
    rows: int
    columns: tuple[ColumnSummary, ...]
    target: ColumnSummary
    imbalance: Imbalance | None

    def __str__(self) -> str:
        head = f"{self.name}: {self.rows} rows, {len(self.columns)} columns"
        cells = [("column", "kind", "missing", "values")]
        cells += [
            (c.name + (" (target)" if c is self.target else ""), c.kind, str(c.missing), c.values)
            for c in (*self.columns, self.target)
        ]
        cells = [(quoted(a, 40)[1:-1], b, c, d) for a, b, c, d in cells]
        wide = [max(len(row[k]) for row in cells) for k in range(3)]
        lines = [f"{a:<{wide[0]}}  {b:<{wide[1]}}  {c:>{wide[2]}}  {d}" for a, b, c, d in cells]
        advice = self.imbalance.advice if self.imbalance else None
        return "\n".join([head, *lines, *([advice] if advice else [])])


def summary(table: Table) -> TableSummary:
    """The columns of a table and its target, in one pass over the rows."""
    known = np.zeros(table.schema.width, np.int64)
    total, low, high = (np.full(table.schema.width, start) for start in (0.0, np.inf, -np.inf))
    for block in blocks(table.features):
        known += (~np.isnan(block)).sum(axis=0)
        total += np.nansum(block, axis=0)
        low = np.fmin(low, np.fmin.reduce(block, axis=0))
        high = np.fmax(high, np.fmax.reduce(block, axis=0))
    columns, start = [], 0
    for column in table.schema.columns:
        if column.kind == "number":
            count = int(known[start])
            facts = [float(x) for x in (low[start], total[start] / max(count, 1), high[start])]
            found = facts if count else [None, None, None]
            columns.append(ColumnSummary(column.name, "number", table.rows - count, *found))
        else:
            counts = total[start : start + column.width].astype(int).tolist()
            columns.append(_categories(column.name, column.categories, counts))
        start += column.width
    return TableSummary(table.name, table.rows, tuple(columns), _target(table), imbalance(table))


def _target(table: Table) -> ColumnSummary:
    name, target = table.schema.target, table.target
    if table.schema.classes is not None:
        counts = np.bincount(target.astype(np.int64), minlength=len(table.schema.classes))
        return _categories(name, table.schema.classes, counts.tolist())
    facts = (float(target.min()), float(target.mean()), float(target.max()))
    return ColumnSummary(name, "number", 0, *facts)


def _categories(name: str, names: tuple[str, ...], counts: list[int]) -> ColumnSummary:
    pairs = sorted(zip(names, counts, strict=True), key=lambda pair: -pair[1])
    missing = dict(pairs).get(MISSING, 0)
    top = tuple(pairs[:SHOWN])
    return ColumnSummary(name, "category", missing, top=top, categories=len(names))


def imbalance(table: Table) -> Imbalance | None:
    """How even a classification's classes are; None for a regression."""
    classes = table.schema.classes
    if classes is None:
        return None
    found = np.bincount(table.target.astype(np.int64), minlength=len(classes)).tolist()
    most, least = max(found), min(found)
    advice = None
    if least < SMALL_SHARE * most:
        small, large = (quoted(classes[found.index(n)]) for n in (least, most))
        advice = (
            f"class {small} has {least} rows, class {large} has {most}: accuracy says little here; "
            "look at each class's recall, weight rows by 1/count (sample_weight=), or add rows"
        )
    ratio = most / least if least else float("inf")
    return Imbalance(dict(zip(classes, found, strict=True)), ratio, advice)


def digest(table: Table) -> str:
    """BLAKE2b of features, target and schema, as 32 hexadecimal digits."""
    found = hashlib.blake2b(digest_size=16)
    found.update(json.dumps(table.schema.to_json(), sort_keys=True).encode())
    found.update(f"{table.features.shape} {table.target.dtype.str}".encode())
    for block in blocks(table.features):
        found.update(np.ascontiguousarray(block).data)
    found.update(np.ascontiguousarray(table.target).data)
    return found.hexdigest()
