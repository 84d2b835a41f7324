"""The table that `model.summary()` prints: a row a layer."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ..circuit import Parameter
from .module import Module, Shape
from .sequential import Sequential


class Row(NamedTuple):
    """One layer: its name, its call, its output's shape and how many parameters it adds."""

    name: str
    kind: str
    shape: Shape | None
    size: int
    note: str


def table(model: Module, input_shape: int | Iterable[int] | None) -> str:
    """The rows under their headings and above their total; see `Module.summary`."""
    rows = list(_rows(model, "", _sample(input_shape), set()))
    cells = [("layer", "type", "output", "parameters", "")]
    cells += [(r.name, r.kind, _shape(r.shape), f"{r.size:,}", r.note) for r in rows]
    cells += [("total", "", "", f"{sum(row.size for row in rows):,}", "")]
    wide = [max(len(row[k]) for row in cells) for k in range(4)]
    lines = [
        f"{a:<{wide[0]}}  {b:<{wide[1]}}  {c:<{wide[2]}}  {d:>{wide[3]}}{e}"
        for a, b, c, d, e in cells
    ]
    return "\n".join(line.rstrip() for line in lines)


def _sample(shape: int | Iterable[int] | None) -> Shape | None:
    if shape is None:
        return None
    return tuple(map(operator.index, shape)) if isinstance(shape, Iterable) else (int(shape),)


def _shape(shape: Shape | None) -> str:
    return "?" if shape is None else f"({', '.join(['n', *map(str, shape)])})"


def _rows(module: Module, name: str, shape: Shape | None, seen: set[Parameter]) -> Iterator[Row]:
    """A Sequential's layers one after the other; another module's parts without known shapes."""
    parts = [(k, m) for k, m in module._members.items() if isinstance(m, Module)]
    count = 0
    for member in module._members.values():
        if isinstance(member, Parameter) and member not in seen:
            seen.add(member)
            count += member.size
    chain = isinstance(module, Sequential)
    if not parts or (count and not chain):
        kind = repr(module) if not parts else type(module).__name__
        yield Row(name or "–", kind, module.output_shape(shape), count, _pieces(module, count))
    for key, part in parts:
        shape = shape if chain else None
        yield from _rows(part, f"{name}.{key}" if name else key, shape, seen)
        shape = part.output_shape(shape)


def _pieces(module: Module, count: int) -> str:
    """Where a maxout layer multiplies the parameters of a linear one, by how much."""
    pieces = getattr(module, "pieces", 1)
    return f" = {pieces} × {count // pieces:,}" if pieces > 1 and count else ""
