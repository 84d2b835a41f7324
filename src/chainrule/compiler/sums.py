"""Sums, maxima and minima over any axes, and what follows from them."""

from __future__ import annotations

from typing import Any

from .combine import WAYS, across, combined, combined_tree, start_of
from .emit import I64, Module, Value
from .formulas import Formulas, Given, Index
from .loops import Nest, block_of, dtypes_of, keys_of, store_access, vector_axis, word
from .memory import Cursor, kernel_function, width
from .plan import Kernel, Plan

__all__ = ["write_reduce"]


def write_reduce(module: Module, plan: Plan, kernel: Kernel, name: str) -> None:
    """Sums (or maxima, minima) over the group's reduced axes, then what follows from them."""
    _Sums(module, plan, kernel, name).write()


class _Sums:
    """The nest of a reduction: kept axes outside, reduced ones inside with their accumulators.

    Vectors run along a kept axis, whose sums stay apart, or along a reduced one, where the lanes
    are combined at the end.
    """

    def __init__(self, module: Module, plan: Plan, kernel: Kernel, name: str) -> None:
        self.fn = kernel_function(module, name)
        self.plan, group = plan, kernel.group
        self.nodes = plan.graph.nodes
        formulas = Formulas(plan, group)
        self.reductions = [n for n in group.members if n in group.over]
        formulas.given = set(self.reductions)
        self.operands = [formulas.operand(n) for n in self.reductions]
        before = [n for n in kernel.stores if n not in group.after]
        after = [n for n in kernel.stores if n in group.after]
        self.wide = [formulas.of(n) for n in before]
        self.finals = [formulas.of(n) for n in after]
        self.before = [store_access(plan, kernel, n) for n in before]
        self.after = [store_access(plan, kernel, n) for n in after]
        inside = keys_of([*self.operands, *self.wide])
        self.accesses = [*self.before, *self.after]
        self.accesses += dict.fromkeys([*inside, *keys_of(self.finals)])
        self.inner = vector_axis(group.domain, self.before, list(dict.fromkeys(inside)))
        exprs = [*self.operands, *self.wide, *self.finals]
        self.lanes = width(self.fn, dtypes_of(plan, kernel, exprs))
        self.nest = Nest(self.fn, kernel, self.inner, self.accesses, reduced=group.reduced)
        self.reduced = [d for d in self.nest.order if d in group.reduced]
        self.kept = [d for d in self.nest.order if d not in group.reduced]
        self.along = self.inner in self.reduced

    def write(self) -> None:
        """The whole kernel."""
        cursor = Cursor(self.fn, self.plan, self.accesses)
        if self.along or self.inner < 0:
            self.nest.around(cursor, self.kept, lambda here: self._total(here, 0))
        else:
            outer = [d for d in self.kept if d != self.inner]
            self.nest.around(cursor, outer, self._columns)
        self.fn.finish()

    def _columns(self, here: Cursor) -> None:
        """The kept axis that vectors run along."""
        fn, inner, lanes = self.fn, self.inner, self.lanes
        padded = all(
            isinstance(a, Index)
            or a.strides[inner] == 0
            or (a.strides[inner] == 1 and self.plan.arrays[a.array].padded)
            for a in self.accesses
        )
        start, stop = map(word, self.nest.bounds(inner))
        even = fn.binary("and", fn.sub(stop, start), fn.const(-lanes, I64))
        whole = stop if padded else fn.add(start, even)

        def vector(index: Value, _: list[Value]) -> None:
            self._total(here.moved(index, inner), lanes)

        def single(index: Value, _: list[Value]) -> None:
            self._total(here.moved(index, inner), 0)

        fn.loop(whole, [], vector, start=start, step=lanes)
        if not padded:
            fn.loop(stop, [], single, start=whole)

    def _total(self, here: Cursor, vector: int) -> None:
        """All of the reduced axes at one point, or one vector, of the kept ones."""
        fn, count = self.fn, self.lanes if self.along else vector
        starts = [
            start_of(fn, self.nodes[n].op, self.nodes[n].dtype, count)
            for n in self.reductions
            for _ in range(WAYS)
        ]
        axes = [d for d in self.reduced if not (self.along and d == self.inner)]
        carried = self._nested(here, axes, count, starts)
        known: dict[Any, Value] = {}
        for r, number in enumerate(self.reductions):
            node = self.nodes[number]
            whole = combined_tree(fn, node.op, node.dtype, carried[r * WAYS : (r + 1) * WAYS])
            known[Given(number)] = across(fn, node.op, node.dtype, whole) if self.along else whole
        block_of(fn, here, self.finals, self.after, self.inner, vector, None, known)

    def _nested(
        self, there: Cursor, left: list[int], count: int, carried: list[Value]
    ) -> list[Value]:
        """Loops over the reduced axes, the last of them in several ways at once."""
        if self.along and not left:
            return self._ways(there, self.inner, self.lanes, count, carried)
        if not self.along and len(left) == 1:
            return self._ways(there, left[0], 1, count, carried)

        def turn(index: Value, values: list[Value]) -> list[Value]:
            return self._nested(there.moved(index, left[0]), left[1:], count, list(values))

        return self.fn.loop(self.nest.extent[left[0]], carried, turn)

    def _ways(
        self, there: Cursor, axis: int, step: int, count: int, carried: list[Value]
    ) -> list[Value]:
        """An axis `step` elements at a time, each time into the next accumulator."""
        fn, n = self.fn, self.nest.extent[axis]

        def turn(index: Value, values: list[Value]) -> list[Value]:
            values = list(values)
            moved = there.moved(index, axis)
            for way in range(WAYS):
                self._block(moved.moved(way * step, axis), count, way, None, values)
            return values

        whole = n - n % (WAYS * step)
        carried = fn.loop(whole, carried, turn, step=WAYS * step)
        at, way = whole, 0
        while at < n:
            mask = fn.first_lanes(n - at, self.lanes) if n - at < step else None
            self._block(there.moved(at, axis), count, way % WAYS, mask, carried)
            at, way = at + step, way + 1
        return carried

    def _block(
        self, there: Cursor, count: int, way: int, mask: Value | None, carried: list[Value]
    ) -> None:
        """Elements into the accumulators of one way; what is stored for each is stored."""
        fn, exprs = self.fn, [*self.wide, *self.operands]
        values = block_of(fn, there, exprs, self.before, self.inner, count, mask, {})
        operands = values[len(self.wide) :]
        for r, (number, value) in enumerate(zip(self.reductions, operands, strict=True)):
            node, at = self.nodes[number], r * WAYS + way
            if mask is not None:
                value = fn.select(mask, value, start_of(fn, node.op, node.dtype, count))
            carried[at] = combined(fn, node.op, node.dtype, carried[at], value)
