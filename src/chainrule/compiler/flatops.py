"""Reductions, products and indexing on flat vectors, each with a short chain of instructions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np

from .emit import Value
from .expression import Builder, Expr, llvm_type
from .graph import Node
from .pointwise import keep_bits
from .vectors import NOBODY, ZERO, lanes_for, shuffled

if TYPE_CHECKING:
    from .flat import Block

__all__ = ["RULES", "matmul", "product_group"]

CHAIN = 8  # products that are added up one after another, before lanes are added across
NARROW = 4  # lanes that any machine's vectors have


def product_group(depth: int, size: int) -> int:
    """How many products of each of `size` sums lie side by side in a vector: a power of two.

    One is the shortest chain; more fill the lanes of a narrow result, and bound a long chain.
    """
    group = 1
    while -(-depth // group) > CHAIN or (size * group < NARROW and group < depth):
        group *= 2
    return group


def _sum(block: Block, node: Node) -> Expr:
    index, rows = block.rows_of(node.inputs[0], node.params["axis"])
    expr = block.picked(block.places[node.inputs[0]].root, index)
    return block.add_up(block.builder.cast(expr, node.dtype), rows, node.size)


def _extreme(block: Block, node: Node) -> Expr:
    index, rows = block.rows_of(node.inputs[0], node.params["axis"])
    expr = block.picked(block.places[node.inputs[0]].root, index)
    choose = block.builder.maximum if node.op == "max" else block.builder.minimum
    found = block.fold([expr], rows, node.size, lambda a, b: [choose(a[0], b[0])])[0]
    return block.builder.cast(found, node.dtype)


def _argument(block: Block, node: Node) -> Expr:
    """The first of the best; a NaN is better than any number."""
    b, source = block.builder, node.inputs[0]
    axis = node.params["axis"]
    axes = axis if isinstance(axis, tuple) else (axis,)
    root, index = block.places[source]
    rows = math.prod(index.shape[a] for a in axes)
    moved = np.moveaxis(index, axes, range(len(axes))).reshape(rows, -1)
    numbers = np.repeat(np.arange(rows, dtype=np.int32), node.size)
    expr = block.picked(root, moved)
    better = b.gt if node.op == "argmax" else b.lt

    def combine(low: list[Expr], high: list[Expr]) -> list[Expr]:
        (x, i), (y, j) = low, high
        only_y = b.and_(b.isnan(y), b.not_(b.isnan(x)))
        tie = b.or_(b.eq(x, y), b.and_(b.isnan(x), b.isnan(y)))
        takes = b.or_(b.or_(better(y, x), only_y), b.and_(tie, b.lt(j, i)))
        return [b.select(takes, y, x), b.select(takes, j, i)]

    where = block.fold([expr, block.constant(numbers, np.int32)], rows, node.size, combine)[1]
    return b.cast(where, node.dtype)


def _cumsum(block: Block, node: Node) -> Expr:
    """Each pass adds what lies 1, 2, 4, … places before."""
    axis = node.params["axis"] % max(len(node.shape), 1)
    expr = block.builder.cast(block.operand(node.inputs[0]), node.dtype)
    order = np.arange(node.size, dtype=np.int64).reshape(node.shape)
    distance, length = 1, node.shape[axis] if node.shape else 1
    while distance < length:
        moved = np.roll(order, distance, axis)
        moved[(slice(None),) * axis + (slice(0, distance),)] = ZERO
        expr = block.builder.add(expr, block.shuffled(expr, node.size, moved))
        distance *= 2
    return expr


def matmul(block: Block, node: Node, start: Expr | None = None) -> Expr:
    """Σₖ A[·, k]·B[k, ·] over the lanes of the result: pairs by fma, then a tree.

    Plus `start`, which is there before the products are.
    """
    fn, b = block.fn, block.builder
    (root_a, at), (root_b, bt) = [block.places[k] for k in node.inputs]
    depth, shape = at.shape[-1], node.shape
    group = product_group(depth, node.size)
    steps = -(-depth // group)
    terms: list[tuple[Expr, Expr]] = []
    for step in range(steps):
        deep = range(step * group, min((step + 1) * group, depth))
        both = []
        for root, parts in (
            (root_a, [at[..., :, k, None] for k in deep]),
            (root_b, [bt[..., k, None, :] for k in deep]),
        ):
            rows = [np.broadcast_to(part, shape) for part in parts]
            rows += [np.full(shape, ZERO)] * (group - len(rows))
            both.append(b.cast(block.picked(root, np.stack(rows)), node.dtype))
        terms.append((both[0], both[1]))
    if node.dtype.kind != "f":
        total = reduce(b.add, [b.mul(x, y) for x, y in terms])
        return block.add_up(total, group, node.size)
    lanes = lanes_for(group * node.size)

    def fma(x: Expr, y: Expr, z: Expr) -> Expr:
        operands = [block.written(e, lanes) for e in (x, y, z)]
        return block.given(block.write(fn.fma, *operands), node.dtype)

    sums: list[Expr] = []
    for k in range(0, len(terms), 2):
        x, y = terms[k]
        begins = start is not None and group == 1 and k == 0
        total = fma(x, y, start) if begins and start is not None else b.mul(x, y)
        sums.append(fma(*terms[k + 1], total) if k + 1 < len(terms) else total)
    while len(sums) > 1:
        sums = [reduce(b.add, sums[k : k + 2]) for k in range(0, len(sums), 2)]
    total = block.add_up(sums[0], group, node.size)
    return total if start is None or group == 1 else b.add(total, start)


def _gather(block: Block, node: Node) -> Expr:
    """Positions known when it runs: a choice among all rows, so that none is read outside."""
    b, axis = block.builder, node.params["axis"]
    root, index = block.places[node.inputs[0]]
    axis, length = axis % index.ndim, index.shape[axis]
    tail = (1,) * (index.ndim - axis - 1)
    places = block.places[node.inputs[1]]
    spread = np.broadcast_to(places.elements.reshape((*places.elements.shape, *tail)), node.shape)
    position = _wrapped(b, block.picked(places.root, spread), length)
    kept = index.shape[:axis] + (1,) * places.elements.ndim + index.shape[axis + 1 :]
    rows = [
        block.picked(root, np.broadcast_to(index.take(k, axis).reshape(kept), node.shape))
        for k in range(length)
    ]
    out = rows[0]
    for k in range(1, length):
        out = b.select(b.eq(position, b.const(k, position.dtype)), rows[k], out)
    return out


def _wrapped(b: Builder, position: Expr, length: int) -> Expr:
    """Negative positions count from the end."""
    position = b.cast(position, np.int64)
    below = b.lt(position, b.const(0, np.int64))
    return b.select(below, b.add(position, b.const(length, np.int64)), position)


def _scatter_add(block: Block, node: Node) -> Expr:
    """Σ over the positions p of x[…, p, …], each where its place is."""
    b, axis, shape = block.builder, node.params["axis"], node.shape
    root, index = block.places[node.inputs[0]]
    places = block.places[node.inputs[1]]
    count = places.elements.size
    lead, tail = shape[:axis], shape[axis + 1 :]
    index = index.reshape((*lead, count, *tail))
    source = block.graph.nodes[node.inputs[1]]
    if source.op == "constant":
        positions = source.params["value"].reshape(-1) % shape[axis]
        most = max(np.bincount(positions).max(), 1)
        out = np.full((most, *shape), ZERO, np.int64)
        seen = [0] * shape[axis]
        for k, p in enumerate(positions.tolist()):
            out[(seen[p], *(slice(None),) * axis, p)] = index.take(k, axis)
            seen[p] += 1
        return block.add_up(block.picked(root, out), int(most), node.size)
    numbers = np.broadcast_to(np.arange(shape[axis]).reshape((-1, *(1,) * len(tail))), shape)
    here = block.constant(numbers, np.int64)
    terms = []
    for k in range(count):
        one = np.broadcast_to(places.elements.reshape(-1)[k], shape)
        position = _wrapped(b, block.picked(places.root, one), shape[axis])
        row = np.broadcast_to(np.expand_dims(index.take(k, axis), axis), shape)
        value = block.picked(root, row)
        terms.append(b.select(b.eq(position, here), value, b.const(0, node.dtype)))
    while len(terms) > 1:
        terms = [reduce(b.add, terms[k : k + 2]) for k in range(0, len(terms), 2)]
    return terms[0]


def _join(block: Block, node: Node) -> Expr:
    """Each part in its lanes, one laid over the other."""
    fn = block.fn
    lanes, start, parts = lanes_for(node.size), 0, []
    for k in node.inputs:
        n = block.graph.nodes[k].size
        parts.append(np.arange(start, start + n).reshape(block.graph.nodes[k].shape))
        start += n
    order = np.concatenate(parts, axis=node.params.get("axis", 0)).reshape(-1)
    start, out = 0, Value("poison", llvm_type(node.dtype).of(lanes))
    for k in node.inputs:
        view = block.places[k]
        n = view.elements.size
        mine = (order >= start) & (order < start + n)
        picks = np.full(order.size, NOBODY)
        picks[mine] = view.elements.reshape(-1)[order[mine] - start]
        start += n
        if not mine.any():
            continue
        expr = block.builder.cast(block.root(view.root), node.dtype)
        size = block.graph.nodes[view.root].size
        value = block.written(expr, lanes_for(size))
        if not lanes:
            return block.shuffled(expr, size, picks)
        if mine.sum() == 1 and not value.type.lanes and picks.max() == 0:
            lane = int(np.flatnonzero(mine)[0])
            out = block.write(lambda a, x, lane=lane: fn.insert(a, x, lane), out, value)
            continue
        chosen = [int(p) for p in picks]
        moved = block.write(lambda v, c=chosen: shuffled(fn, v, c), value)
        mask = [lanes + j if m else j for j, m in enumerate(mine)] + [-1] * (lanes - order.size)
        out = block.write(lambda a, v, m=mask: fn.shuffle(a, v, m), out, moved)
    return block.given(out, node.dtype)


def _keep(block: Block, node: Node) -> Expr:
    key = block.operand(node.inputs[0], node.shape)
    number = block.constant(np.arange(node.size), np.int64)
    return keep_bits(block.builder, key, number, float(node.params["rate"]))


RULES: Mapping[str, Callable[[Block, Node], Expr]] = {
    "sum": _sum,
    "max": _extreme,
    "min": _extreme,
    "argmax": _argument,
    "argmin": _argument,
    "cumsum_along": _cumsum,
    "matmul": matmul,
    "gather": _gather,
    "scatter_add": _scatter_add,
    "join": _join,
    "keep": _keep,
}
