"""Transposition in registers: blocks of a matrix are read by rows and stored by columns.

The code is long, so a module has one function of it for each type and size of block.
"""

from __future__ import annotations

from collections.abc import Sequence

from .emit import I64, PTR, Function, Module, Type, Value

__all__ = ["LARGEST", "transposer"]

LINE = 64  # bytes of a cache line
LARGEST = 16  # rows of a block: more would not stay in registers


def transposer(module: Module, kind: Type, size: int) -> str:
    """void f(from, to, step, pitch, rows, columns): to[i·pitch + j] = from[j·step + i].

    The last blocks overlap those before, so there is no edge; rows and columns are `size` at
    least. Rows go by whole cache lines, each of which is read once.
    """
    name = f"transpose_{kind.suffix}_{size}"
    if name in module.functions:
        return name
    arguments = [(PTR, "from noalias"), (PTR, "to noalias")]
    arguments += [(I64, word) for word in ("step", "pitch", "rows", "columns")]
    fn = module.function(name, arguments, inline=False)
    source, to, step, pitch, rows, columns = fn.arguments
    tile = max(size, LINE // kind.bytes)
    height = fn.intrinsic("smin", rows, fn.const(tile, I64))
    last_tile = fn.sub(rows, height)
    last_row = fn.sub(height, fn.const(size, I64))
    last_column = fn.sub(columns, fn.const(size, I64))

    def rows_from(i: Value, _: list[Value]) -> None:
        i = fn.intrinsic("smin", i, last_tile)
        from_tile = fn.at(source, i, kind)
        to_tile = fn.at(to, fn.mul(i, pitch), kind)

        def columns_from(j: Value, _: list[Value]) -> None:
            j = fn.intrinsic("smin", j, last_column)
            from_column = fn.at(from_tile, fn.mul(j, step), kind)
            to_column = fn.at(to_tile, j, kind)

            def one(k: Value, _: list[Value]) -> None:
                k = fn.intrinsic("smin", k, last_row)
                there = fn.at(to_column, fn.mul(k, pitch), kind)
                _block(fn, fn.at(from_column, k, kind), step, there, pitch, kind, size)

            fn.loop(height, [], one, step=size)

        fn.loop(columns, [], columns_from, step=size)

    fn.loop(rows, [], rows_from, step=tile)
    fn.finish()
    return name


def _block(
    fn: Function, source: Value, step: Value, to: Value, pitch: Value, kind: Type, size: int
) -> None:
    """size × size elements through registers.

    Groups of 16 bytes are exchanged first, by reading half rows where a vector has several; then
    the elements within the groups, by interleaving the vectors of the first half with those of the
    second, log₂ times.
    """
    group = min(size, 16 // kind.bytes)
    groups = size // group
    places = [source]
    while len(places) < size:
        places.append(fn.at(places[-1], step, kind))
    columns: list[Value] = []
    if groups == 1:
        columns = [fn.load(place, kind.of(size)) for place in places]
    else:
        # vector (q, k): of the rows k, k + group, k + 2·group, … the q-th 16 bytes
        found = [_exchanged(fn, places[k::group], kind, size, groups) for k in range(group)]
        columns = [found[k][q] for q in range(groups) for k in range(group)]
    done: list[Value] = []
    for q in range(groups):
        part = columns[q * group : (q + 1) * group]
        for _ in range(group.bit_length() - 1):
            half = group // 2
            part = [
                _interleaved(fn, part[k], part[k + half], group, high)
                for k in range(half)
                for high in (0, half)
            ]
        done += part
    for k, column in enumerate(done):
        fn.store(column, to)
        if k < size - 1:
            to = fn.at(to, pitch, kind)


def _interleaved(fn: Function, a: Value, b: Value, group: int, first: int) -> Value:
    """Within each group, half of a's elements from `first` on, each followed by b's."""
    lanes = a.type.lanes
    mask = [
        start + first + k + other
        for start in range(0, lanes, group)
        for k in range(group // 2)
        for other in (0, lanes)
    ]
    return fn.shuffle(a, b, mask)


def _exchanged(
    fn: Function, rows: Sequence[Value], kind: Type, size: int, groups: int
) -> list[Value]:
    """From as many rows as each has groups: the first groups of all, the second ones, …"""
    half = size // 2

    def joined(a: Value, b: Value, start: int) -> Value:
        """Half a row after half a row: the second is read right into its place."""
        low, high = (fn.load(fn.at(x, start, kind), kind.of(half)) for x in (a, b))
        return fn.shuffle(low, high, range(size))

    pairs = [
        [joined(rows[k], rows[k + 1], start) for start in (0, half)] for k in range(0, groups, 2)
    ]
    if groups == 2:
        return pairs[0]
    assert groups == 4, f"vectors of {groups} groups"
    wide = size // groups
    found: list[Value] = []
    for a, b in zip(*pairs, strict=True):
        for odd in (0, 1):
            picks = [
                first + e for first in range(odd * wide, 2 * size, 2 * wide) for e in range(wide)
            ]
            found.append(fn.shuffle(a, b, picks))
    return found
