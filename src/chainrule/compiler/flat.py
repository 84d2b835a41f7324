"""Whole arrays as values: a node is one flat vector, its elements in C order, and code without loops.

What only moves elements costs nothing by itself: it is an index map, and the next operation that
computes takes its operand's lanes in that order, by one shuffle.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import reduce
from typing import Any, NamedTuple

import numpy as np

from .emit import Function, Value, lanes_of
from .expression import Builder, Expr, emit, llvm_type, walk
from .graph import Graph, Node
from .interpret import slices_of
from .pointwise import keep_bits, lower

__all__ = ["RULES", "Block", "View", "is_move", "lanes_for", "product_group", "shuffled", "views"]

Array = np.ndarray[Any, Any]
Index = np.ndarray[Any, np.dtype[np.int64]]
ZERO, NOBODY = -1, -2  # in an index map: the number 0; a lane that is not read

CHAIN = 8  # products that are added up one after another, before lanes are added across
NARROW = 4  # lanes that any machine's vectors have


def lanes_for(size: int) -> int:
    """The lanes of the vector that holds an array: a power of two; 0 for one number alone."""
    return 0 if size == 1 else 1 << (size - 1).bit_length()


class View(NamedTuple):
    """A node as elements of another: `index` has the node's shape, in numbers of root's elements."""

    root: int
    index: Index


def is_move(graph: Graph, node: Node) -> bool:
    """Whether the operation only places elements, known before it runs, of one input."""
    if node.op == "gather":
        return graph.nodes[node.inputs[1]].op == "constant"
    if node.op == "scatter_add":
        return "start" in node.params
    return node.op in ("reshape", "transpose", "broadcast_to", "slice", "copy")


def views(graph: Graph) -> list[View]:
    """Each node through all that only moves elements; a computed node is its own root."""
    found: list[View] = []
    single: Index = np.zeros((), np.int64)
    for number, node in enumerate(graph.nodes):
        if is_move(graph, node):
            root, index = found[node.inputs[0]]
            found.append(View(root, np.asarray(_moved(graph, node, index))))
        elif not node.shape:
            found.append(View(number, single))
        else:
            found.append(View(number, np.arange(node.size, dtype=np.int64).reshape(node.shape)))
    return found


def _moved(graph: Graph, node: Node, index: Index) -> Index:
    """The operation done to the numbers of the elements."""
    params = node.params
    if node.op == "reshape":
        return index.reshape(node.shape)
    if node.op == "transpose":
        return index.transpose(params["axes"])
    if node.op == "broadcast_to":
        return np.broadcast_to(index, node.shape)
    if node.op == "slice":
        return index[slices_of(params)]
    if node.op == "gather":
        positions = graph.nodes[node.inputs[1]].params["value"]
        return np.take(index, positions.astype(np.int64), axis=params["axis"])
    if node.op == "scatter_add":
        out = np.full(node.shape, ZERO, np.int64)
        out[slices_of(params)] = index
        return out
    return index


def product_group(depth: int, size: int) -> int:
    """How many products of each of `size` sums lie side by side in a vector: a power of two.

    One is the shortest chain; more fill the lanes of a narrow result, and bound a long chain.
    """
    group = 1
    while -(-depth // group) > CHAIN or (size * group < NARROW and group < depth):
        group *= 2
    return group


class Block:
    """Nodes written one after the other into straight-line code.

    `outside(number)` gives the value of a node that is computed elsewhere. With `before`, the lines
    of a loop's preheader, what depends only on `fixed` values is written there.
    """

    def __init__(
        self,
        fn: Function,
        graph: Graph,
        places: Sequence[View],
        outside: Callable[[int], Value],
        *,
        before: list[str] | None = None,
        inline: bool = True,
    ) -> None:
        self.fn, self.graph, self.places, self.outside = fn, graph, places, outside
        self.before, self.inline = before, inline
        self.fixed: set[str] = set()
        self.builder = Builder()
        self._exprs: dict[int, Expr] = {}
        self._given: dict[Any, Value] = {}
        self._memos: dict[int, dict[Expr, Value]] = {}
        self._shuffled: dict[Any, Expr] = {}
        self._steady: dict[Expr, bool] = {}

    # -- what others ask for --------------------------------------------------------------------

    def value(self, number: int) -> Value:
        """A node in registers."""
        return self._value(self._operand(number), lanes_for(self.graph.nodes[number].size))

    def enter(self, number: int) -> None:
        """Compute a node, as an expression; it is written when something needs its value."""
        node = self.graph.nodes[number]
        if number in self._exprs or self.places[number].root != number:
            return
        rule = RULES.get(node.op)
        if rule is not None:
            self._exprs[number] = rule(self, node)
        elif node.op not in ("input", "constant"):
            weak = [bool(self.graph.nodes[k].params.get("weak")) for k in node.inputs]
            operands = [self._operand(k, node.shape) for k in node.inputs]
            self._exprs[number] = lower(
                self.builder, node.op, operands, node.params, node.dtype, weak=weak
            )

    # -- expressions and values -----------------------------------------------------------------

    def _root(self, number: int) -> Expr:
        """The expression of a computed node, a constant or something from outside."""
        found = self._exprs.get(number)
        if found is None:
            node = self.graph.nodes[number]
            if node.op == "constant":
                found = self._constant(node.params["value"], node.dtype)
            else:
                found = self._load(self.outside(number), node.dtype)
            self._exprs[number] = found
        return found

    def _constant(self, value: Any, dtype: Any) -> Expr:
        """An array as an immediate."""
        flat = np.asarray(value, dtype).reshape(-1)
        if flat.size == 1:
            return self.builder.const(flat[0], dtype)
        padded = np.zeros(lanes_for(flat.size), dtype)
        padded[: flat.size] = flat
        return self._load(lanes_of(list(padded), llvm_type(dtype)), dtype)

    def _load(self, value: Value, dtype: Any) -> Expr:
        self._given[value] = value
        return self.builder.load(value, dtype)

    def _operand(self, number: int, shape: Sequence[int] | None = None) -> Expr:
        """A node as a flat vector, broadcast to a shape."""
        root, index = self.places[number]
        if shape is not None and index.shape != tuple(shape):
            index = np.broadcast_to(index, tuple(shape))
        return self._picked(root, index)

    def _picked(self, root: int, index: Index) -> Expr:
        return self._shuffle(self._root(root), self.graph.nodes[root].size, index)

    def _value(self, expr: Expr, lanes: int) -> Value:
        """Write an expression, what is fixed of it before the loop."""
        memo = self._memos.setdefault(lanes, {})
        found = memo.get(expr)
        if found is not None:
            return found
        if self.before is not None:
            steady = [x for x in walk([expr], memo) if self._is_steady(x) and not x.is_const]
            if steady:
                with self._ahead():
                    values = emit(self.fn, steady, self._fetch, lanes, memo, inline=self.inline)
                self.fixed.update(value.text for value in values)
        return emit(self.fn, [expr], self._fetch, lanes, memo, inline=self.inline)[0]

    def _fetch(self, key: Any, dtype: Any) -> Value:
        return self._given[key]

    def _is_steady(self, expr: Expr) -> bool:
        """Whether an expression has the same value in every step; its arguments are known."""
        known = self._steady.get(expr)
        if known is None:
            if expr.op == "load":
                known = self._is_fixed(self._given[expr.payload])
            else:
                known = all(self._is_steady(x) for x in expr.args)
            self._steady[expr] = known
        return known

    def _is_fixed(self, value: Value) -> bool:
        return value.is_constant or value.text in self.fixed

    @contextmanager
    def _ahead(self) -> Iterator[None]:
        """What is written inside is written before the loop."""
        assert self.before is not None
        here, self.fn.lines = self.fn.lines, self.before
        try:
            yield
        finally:
            self.fn.lines = here

    def _write(self, make: Callable[..., Value], *operands: Value) -> Value:
        """Instructions on values, before the loop where all of them are fixed."""
        if self.before is None or not all(map(self._is_fixed, operands)):
            return make(*operands)
        with self._ahead():
            value = make(*operands)
        self.fixed.add(value.text)
        return value

    # -- lanes ----------------------------------------------------------------------------------

    def _shuffle(self, expr: Expr, size: int, index: Index) -> Expr:
        """The elements of an array of `size` with these numbers, in C order, ZERO for a 0."""
        count = index.size
        if expr.is_const and not (index < 0).any():
            return expr  # the same number in every lane
        if count == 1 and size == 1 and index.flat[0] == 0:
            return expr
        lanes, source = lanes_for(count), lanes_for(size)
        if lanes == source and bool((index.reshape(-1) == np.arange(count)).all()):
            return expr
        key = expr, size, lanes, index.tobytes()
        found = self._shuffled.get(key)
        if found is None:
            picks = [int(k) for k in index.flat]
            if expr.is_const:
                row = [expr.payload if k >= 0 else expr.dtype.type(0) for k in picks]
                found = self._constant(np.array(row, expr.dtype), expr.dtype)
            else:
                value = self._value(expr, source)
                moved = self._write(lambda v: shuffled(self.fn, v, picks), value)
                found = self._load(moved, expr.dtype)
            self._shuffled[key] = found
        return found

    def _part(self, expr: Expr, size: int, start: int, count: int) -> Expr:
        return self._shuffle(expr, size, np.arange(start, start + count, dtype=np.int64))

    # -- reductions -----------------------------------------------------------------------------

    def fold(
        self, exprs: list[Expr], rows: int, size: int, combine: Callable[..., list[Expr]]
    ) -> list[Expr]:
        """Arrays of `rows` rows of `size`, combined over the rows in a tree, halves at a time."""
        if rows == 1:
            return exprs
        half = 1 << (rows - 1).bit_length() - 1
        total, low = rows * size, half * size
        upper = [self._part(e, total, low, total - low) for e in exprs]
        lower_ = [self._part(e, total, 0, low) for e in exprs]
        if rows == 2 * half:
            return self.fold(combine(lower_, upper), half, size, combine)
        return combine(
            self.fold(lower_, half, size, combine), self.fold(upper, rows - half, size, combine)
        )

    def add_up(self, expr: Expr, rows: int, size: int) -> Expr:
        """The sum over the rows."""
        return self.fold([expr], rows, size, lambda a, b: [self.builder.add(a[0], b[0])])[0]

    def rows_of(self, number: int, axes: Sequence[int]) -> tuple[Index, int]:
        """An operand's index map with the axes in front as one, and its length."""
        index = self.places[number].index
        axes = [a % max(index.ndim, 1) for a in axes]
        kept = [a for a in range(index.ndim) if a not in axes]
        rows = math.prod(index.shape[a] for a in axes)
        size = math.prod(index.shape[a] for a in kept)
        moved = index.transpose([*axes, *kept]).reshape(rows, size)
        if size == 1 and bool((np.sort(moved, axis=None) == np.arange(rows)).all()):
            moved = np.arange(rows, dtype=np.int64).reshape(rows, 1)  # the order is all the same
        return moved, rows


def shuffled(fn: Function, value: Value, picks: Sequence[int]) -> Value:
    """The lanes with these numbers, ZERO for a 0, NOBODY for any; one number alone for one."""
    lanes = lanes_for(len(picks))
    kind = value.type.scalar
    if not lanes:
        if picks[0] < 0:
            return fn.const(0, kind)
        return fn.extract(value, picks[0]) if value.type.lanes else value
    if not value.type.lanes:
        value = fn.splat(value, lanes)
    width = value.type.lanes
    mask = [width if k == ZERO else -1 if k == NOBODY else k for k in picks]
    other = fn.const(0, value.type) if ZERO in picks else value
    return fn.shuffle(value, other, mask + [-1] * (lanes - len(picks)))


# -- operations ---------------------------------------------------------------------------------


def _sum(block: Block, node: Node) -> Expr:
    index, rows = block.rows_of(node.inputs[0], node.params["axis"])
    expr = block._picked(block.places[node.inputs[0]].root, index)
    return block.add_up(block.builder.cast(expr, node.dtype), rows, node.size)


def _extreme(block: Block, node: Node) -> Expr:
    index, rows = block.rows_of(node.inputs[0], node.params["axis"])
    expr = block._picked(block.places[node.inputs[0]].root, index)
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
    expr = block._picked(root, moved)
    better = b.gt if node.op == "argmax" else b.lt

    def combine(low: list[Expr], high: list[Expr]) -> list[Expr]:
        (x, i), (y, j) = low, high
        only_y = b.and_(b.isnan(y), b.not_(b.isnan(x)))
        tie = b.or_(b.eq(x, y), b.and_(b.isnan(x), b.isnan(y)))
        takes = b.or_(b.or_(better(y, x), only_y), b.and_(tie, b.lt(j, i)))
        return [b.select(takes, y, x), b.select(takes, j, i)]

    where = block.fold([expr, block._constant(numbers, np.int32)], rows, node.size, combine)[1]
    return b.cast(where, node.dtype)


def _cumsum(block: Block, node: Node) -> Expr:
    """Each pass adds what lies 1, 2, 4, … places before."""
    axis = node.params["axis"] % max(len(node.shape), 1)
    expr = block.builder.cast(block._operand(node.inputs[0]), node.dtype)
    order = np.arange(node.size, dtype=np.int64).reshape(node.shape)
    distance, length = 1, node.shape[axis] if node.shape else 1
    while distance < length:
        moved = np.roll(order, distance, axis)
        moved[(slice(None),) * axis + (slice(0, distance),)] = ZERO
        expr = block.builder.add(expr, block._shuffle(expr, node.size, moved))
        distance *= 2
    return expr


def _matmul(block: Block, node: Node) -> Expr:
    """Σₖ A[·, k]·B[k, ·] over the lanes of the result: pairs by fma, then a tree."""
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
            both.append(b.cast(block._picked(root, np.stack(rows)), node.dtype))
        terms.append((both[0], both[1]))
    lanes = lanes_for(group * node.size)
    if node.dtype.kind != "f" or len(terms) == 1:
        total = reduce(b.add, [b.mul(x, y) for x, y in terms])
    else:
        sums: list[Expr] = []
        for k in range(0, len(terms), 2):
            x, y = terms[k]
            first = b.mul(x, y)
            if k + 1 < len(terms):
                operands = [block._value(e, lanes) for e in (*terms[k + 1], first)]
                first = block._load(block._write(fn.fma, *operands), node.dtype)
            sums.append(first)
        while len(sums) > 1:
            pairs = [sums[k : k + 2] for k in range(0, len(sums), 2)]
            sums = [reduce(b.add, pair) for pair in pairs]
        total = sums[0]
    return block.add_up(total, group, node.size)


def _gather(block: Block, node: Node) -> Expr:
    """Positions known when it runs: a choice among all rows, so that none is read outside."""
    b, axis = block.builder, node.params["axis"]
    root, index = block.places[node.inputs[0]]
    axis, length = axis % index.ndim, index.shape[axis]
    tail = (1,) * (index.ndim - axis - 1)
    places = block.places[node.inputs[1]]
    spread = np.broadcast_to(places.index.reshape((*places.index.shape, *tail)), node.shape)
    position = _wrapped(b, block._picked(places.root, spread), length)
    kept = index.shape[:axis] + (1,) * places.index.ndim + index.shape[axis + 1 :]
    rows = [
        block._picked(root, np.broadcast_to(index.take(k, axis).reshape(kept), node.shape))
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
    count = places.index.size
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
        return block.add_up(block._picked(root, out), int(most), node.size)
    numbers = np.broadcast_to(np.arange(shape[axis]).reshape((-1, *(1,) * len(tail))), shape)
    here = block._constant(numbers, np.int64)
    terms = []
    for k in range(count):
        one = np.broadcast_to(places.index.reshape(-1)[k], shape)
        position = _wrapped(b, block._picked(places.root, one), shape[axis])
        row = np.broadcast_to(np.expand_dims(index.take(k, axis), axis), shape)
        value = block._picked(root, row)
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
        n = view.index.size
        mine = (order >= start) & (order < start + n)
        picks = np.full(order.size, NOBODY)
        picks[mine] = view.index.reshape(-1)[order[mine] - start]
        start += n
        if not mine.any():
            continue
        expr = block.builder.cast(block._root(view.root), node.dtype)
        size = block.graph.nodes[view.root].size
        value = block._value(expr, lanes_for(size))
        if not lanes:
            return block._shuffle(expr, size, picks)
        if mine.sum() == 1 and not value.type.lanes and picks.max() == 0:
            lane = int(np.flatnonzero(mine)[0])
            out = block._write(lambda a, x, lane=lane: fn.insert(a, x, lane), out, value)
            continue
        chosen = [int(p) for p in picks]
        moved = block._write(lambda v, c=chosen: shuffled(fn, v, c), value)
        mask = [lanes + j if m else j for j, m in enumerate(mine)] + [-1] * (lanes - order.size)
        out = block._write(lambda a, v, m=mask: fn.shuffle(a, v, m), out, moved)
    return block._load(out, node.dtype)


def _keep(block: Block, node: Node) -> Expr:
    key = block._operand(node.inputs[0], node.shape)
    number = block._constant(np.arange(node.size), np.int64)
    return keep_bits(block.builder, key, number, float(node.params["rate"]))


RULES: Mapping[str, Callable[[Block, Node], Expr]] = {
    "sum": _sum,
    "max": _extreme,
    "min": _extreme,
    "argmax": _argument,
    "argmin": _argument,
    "cumsum_along": _cumsum,
    "matmul": _matmul,
    "gather": _gather,
    "scatter_add": _scatter_add,
    "join": _join,
    "keep": _keep,
}
