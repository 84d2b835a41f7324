"""Straight-line code on whole arrays: every node is one flat vector.

Nodes are expressions until a shuffle, a product or a store needs their value, so that what several
of them have in common, as the exponential of σ and σ′, is written once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from .emit import Function, Value, lanes_of
from .expression import Builder, Expr, emit, llvm_type, walk
from .flatops import RULES, matmul
from .graph import Graph
from .pointwise import lower
from .vectors import Index, View, lanes_for, shuffled, size_of

__all__ = ["Block"]


def _started(graph: Graph) -> dict[int, int | None]:
    """For a sum x·y + b its product, which begins at b; for such a product None.

    Only where nothing else reads the product.
    """
    found: dict[int, int | None] = {}
    users = graph.users()
    for number, node in enumerate(graph.nodes):
        if node.op == "add" and node.dtype.kind == "f":
            for k in node.inputs:
                source = graph.nodes[k]
                alone = users[k] == [number] and k not in graph.outputs
                same = source.shape == node.shape and source.dtype == node.dtype
                if source.op == "matmul" and alone and same and number not in found:
                    found[number], found[k] = k, None
    return found


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
        self._products = _started(graph) if before is not None else {}
        self.builder = Builder()
        self._exprs: dict[int, Expr] = {}
        self._values: dict[Any, Value] = {}
        self._memos: dict[int, dict[Expr, Value]] = {}
        self._shuffled: dict[Any, Expr] = {}
        self._steady: dict[Expr, bool] = {}

    # -- what others ask for --------------------------------------------------------------------

    def value(self, number: int) -> Value:
        """A node in registers."""
        return self.written(self.operand(number), lanes_for(size_of(self.graph.nodes[number])))

    def enter(self, number: int) -> None:
        """Compute a node, as an expression; it is written when something needs its value."""
        node = self.graph.nodes[number]
        if number in self._exprs or self.places[number].root != number:
            return
        rule = RULES.get(node.op)
        if number in self._products:
            product = self._products[number]
            if product is not None:
                (other,) = [k for k in node.inputs if k != product]
                start = self.builder.cast(self.operand(other, node.shape), node.dtype)
                self._exprs[number] = matmul(self, self.graph.nodes[product], start)
        elif rule is not None:
            self._exprs[number] = rule(self, node)
        elif node.op not in ("input", "constant"):
            weak = [bool(self.graph.nodes[k].params.get("weak")) for k in node.inputs]
            operands = [self.operand(k, node.shape) for k in node.inputs]
            self._exprs[number] = lower(
                self.builder, node.op, operands, node.params, node.dtype, weak=weak
            )

    # -- expressions and values -----------------------------------------------------------------

    def root(self, number: int) -> Expr:
        """The expression of a computed node, a constant or something from outside."""
        found = self._exprs.get(number)
        if found is None:
            node = self.graph.nodes[number]
            if node.op == "constant":
                found = self.constant(node.params["value"], node.dtype)
            else:
                found = self.given(self.outside(number), node.dtype)
            self._exprs[number] = found
        return found

    def constant(self, value: Any, dtype: Any) -> Expr:
        """An array as an immediate."""
        flat = np.asarray(value, dtype).reshape(-1)
        if flat.size == 1:
            return self.builder.const(flat[0], dtype)
        padded = np.zeros(lanes_for(flat.size), dtype)
        padded[: flat.size] = flat
        return self.given(lanes_of(list(padded), llvm_type(dtype)), dtype)

    def given(self, value: Value, dtype: Any) -> Expr:
        """What is in a register, as an expression."""
        self._values[value] = value
        return self.builder.load(value, dtype)

    def operand(self, number: int, shape: Sequence[int] | None = None) -> Expr:
        """A node as a flat vector, broadcast to a shape."""
        root, index = self.places[number]
        if not index.shape and not shape and root == number:
            return self.root(root)
        if shape is not None and index.shape != tuple(shape):
            index = np.broadcast_to(index, tuple(shape))
        return self.picked(root, index)

    def picked(self, root: int, index: Index) -> Expr:
        return self.shuffled(self.root(root), size_of(self.graph.nodes[root]), index)

    def written(self, expr: Expr, lanes: int) -> Value:
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
        return self._values[key]

    def _is_steady(self, expr: Expr) -> bool:
        """Whether an expression has the same value in every step; its arguments are known."""
        known = self._steady.get(expr)
        if known is None:
            if expr.op == "load":
                known = self._is_fixed(self._values[expr.payload])
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

    def write(self, make: Callable[..., Value], *operands: Value) -> Value:
        """Instructions on values, before the loop where all of them are fixed."""
        if self.before is None or not all(map(self._is_fixed, operands)):
            return make(*operands)
        with self._ahead():
            value = make(*operands)
        self.fixed.add(value.text)
        return value

    # -- lanes ----------------------------------------------------------------------------------

    def shuffled(self, expr: Expr, size: int, index: Index) -> Expr:
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
                found = self.constant(np.array(row, expr.dtype), expr.dtype)
            else:
                value = self.written(expr, source)
                moved = self.write(lambda v: shuffled(self.fn, v, picks), value)
                found = self.given(moved, expr.dtype)
            self._shuffled[key] = found
        return found

    def _part(self, expr: Expr, size: int, start: int, count: int) -> Expr:
        return self.shuffled(expr, size, np.arange(start, start + count, dtype=np.int64))

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
        index = self.places[number].elements
        axes = [a % max(index.ndim, 1) for a in axes]
        kept = [a for a in range(index.ndim) if a not in axes]
        rows = math.prod(index.shape[a] for a in axes)
        size = math.prod(index.shape[a] for a in kept)
        moved = index.transpose([*axes, *kept]).reshape(rows, size)
        if size == 1 and bool((np.sort(moved, axis=None) == np.arange(rows)).all()):
            moved = np.arange(rows, dtype=np.int64).reshape(rows, 1)  # the order is all the same
        return moved, rows
