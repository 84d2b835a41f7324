"""Kernels on rows: reductions along the last axis and what follows from them, row by row."""

from __future__ import annotations

from typing import Any

from .combine import WAYS, across, combined, combined_tree, start_of
from .emit import Module, Value
from .expression import Expr, emit
from .formulas import Formulas, Given
from .groups import behind
from .loops import Nest, block_of, dtypes_of, evaluated, keys_of, store_access
from .memory import Cursor, kernel_function, width
from .plan import Access, Kernel, Plan

__all__ = ["Rows"]

BLOCKS = 8  # vectors of a row that stay in registers


class Rows:
    """A kernel on rows: what varies along a row, what is one number a row, and in which order."""

    def __init__(self, module: Module, plan: Plan, kernel: Kernel, name: str) -> None:
        self.fn = kernel_function(module, name)
        self.plan, self.kernel, self.group = plan, kernel, kernel.group
        self.nodes = plan.graph.nodes
        self.formulas = Formulas(plan, self.group)
        self.inner = max(d for d, n in enumerate(self.group.domain) if n != 1)
        self.columns = self.group.domain[self.inner]
        self.reductions = [n for n in self.group.members if n in self.group.over]
        self.varies = {
            n
            for n in self.group.members
            if n not in self.group.over and self.inner in self.group.place[n]
        }
        self.level = self._levels()
        # A number a row is given to the rest of the row, never computed in its lanes.
        self.uniform = [n for n in self.group.members if n not in self.varies]
        self.formulas.given = set(self.uniform)
        self.lanes = width(self.fn, dtypes_of(plan, kernel, self._wide_exprs()))

    def _levels(self) -> dict[int, int]:
        """How many reductions one after the other a member waits for."""
        level: dict[int, int] = {}
        for number in self.group.members:
            found = 0
            for below, _ in behind(self.plan.graph, self.plan.sources, self.plan.lazy, number):
                if below in level:
                    found = max(found, level[below] + (below in self.group.over))
            level[number] = found
        return level

    def accesses(self) -> tuple[list[Any], list[Access]]:
        """What is read and what is stored."""
        numbers = [n for n in self.uniform if n not in self.group.over]
        alone = [self.own(n) for n in numbers]
        stores = [store_access(self.plan, self.kernel, n) for n in self.kernel.stores]
        return list(dict.fromkeys(keys_of([*self._wide_exprs(), *alone]))), stores

    def _wide_exprs(self) -> list[Expr]:
        """The expressions that are computed for every element of a row."""
        wide = [n for n in self.kernel.stores if n in self.varies]
        return self.exprs_of(wide, self.reductions)

    def exprs_of(self, stores: list[int], reductions: list[int]) -> list[Expr]:
        """What is stored of members, then what reductions reduce."""
        exprs = [self.formulas.of(n) for n in stores]
        return exprs + [self.formulas.operand(n) for n in reductions]

    def write(self) -> None:
        """The loops over rows."""
        fn, plan, kernel = self.fn, self.plan, self.kernel
        reads, stores = self.accesses()
        nest = Nest(fn, kernel, self.inner, [*stores, *reads], (self.inner,))
        outer = [d for d in nest.order if d != self.inner]
        cursor = Cursor(fn, plan, [*stores, *reads])
        nest.around(cursor, outer, self._row)
        fn.finish()

    def own(self, number: int) -> Expr:
        """The expression of a number a row, for which alone it is not given."""
        self.formulas.given.discard(number)
        self.formulas.forget(number)
        expr = self.formulas.of(number)
        self.formulas.given.add(number)
        self.formulas.forget(number)
        return expr

    def _row(self, cursor: Cursor) -> None:
        """One row: level by level, the reductions and what is stored between them."""
        fn, known = self.fn, dict[Any, Value]()
        last = max(self.level.values())
        short = self.columns <= BLOCKS * self.lanes
        blocks: list[dict[Any, Any]] = [{} for _ in range(-(-self.columns // self.lanes))]
        for level in range(last + 1):
            for number in self.uniform:
                if number not in self.group.over and self.level[number] == level:
                    expr = self.own(number)
                    known[Given(number)] = evaluated(fn, cursor, [expr], 0, 0, None, known)[0]
                    if number in self.kernel.stores:
                        access = store_access(self.plan, self.kernel, number)
                        cursor.write(access, 0, known[Given(number)])
            stores = [n for n in self.kernel.stores if n in self.varies and self.level[n] == level]
            reductions = [n for n in self.reductions if self.level[n] == level]
            if (stores or reductions) and short:
                self._short(cursor, stores, reductions, known, blocks)
            elif stores or reductions:
                self._long(cursor, stores, reductions, known)
            for number in reductions:
                if number in self.kernel.stores:
                    access = store_access(self.plan, self.kernel, number)
                    cursor.write(access, 0, known[Given(number)])

    def _short(
        self,
        cursor: Cursor,
        stores: list[int],
        reductions: list[int],
        known: dict[Any, Value],
        blocks: list[dict[Any, Any]],
    ) -> None:
        """A row in registers: what one level computed the next one has at hand."""
        fn = self.fn
        exprs = self.exprs_of(stores, reductions)
        places = [store_access(self.plan, self.kernel, n) for n in stores]
        parts: dict[int, list[Value]] = {n: [] for n in reductions}
        for k, memo in enumerate(blocks):
            rest = self.columns - k * self.lanes
            mask = fn.first_lanes(rest, self.lanes) if rest < self.lanes else None
            here = cursor.moved(k * self.lanes, self.inner)

            def load(key: Any, dtype: Any, here: Cursor = here, mask: Any = mask) -> Value:
                if key in known:
                    return fn.splat(known[key], self.lanes)
                return here.read(key, self.inner, self.lanes, mask)

            values = emit(fn, exprs, load, self.lanes, memo)
            for access, value in zip(places, values, strict=False):
                here.write(access, self.inner, value, mask)
            for number, value in zip(reductions, values[len(stores) :], strict=True):
                parts[number].append(self._masked(number, value, mask))
        for number in reductions:
            self._close(number, parts[number], known)

    def _masked(self, number: int, value: Value, mask: Value | None) -> Value:
        if mask is None:
            return value
        node = self.nodes[number]
        return self.fn.select(mask, value, start_of(self.fn, node.op, node.dtype, self.lanes))

    def _close(self, number: int, parts: list[Value], known: dict[Any, Value]) -> None:
        node = self.nodes[number]
        vector = combined_tree(self.fn, node.op, node.dtype, parts)
        known[Given(number)] = across(self.fn, node.op, node.dtype, vector)

    def _long(
        self,
        cursor: Cursor,
        stores: list[int],
        reductions: list[int],
        known: dict[Any, Value],
    ) -> None:
        """A row in a loop; what an earlier level stored is read back, the rest computed again."""
        fn, inner, lanes = self.fn, self.inner, self.lanes
        level = max(self.level[n] for n in [*stores, *reductions])
        self.formulas.stored = {
            n for n in self.kernel.stores if n in self.varies and self.level[n] < level
        }
        self.formulas.forget()
        exprs = self.exprs_of(stores, reductions)
        places = [store_access(self.plan, self.kernel, n) for n in stores]
        needed = Cursor(fn, self.plan, [])
        needed.at = dict(cursor.at)
        # What is read back was not among the cursor's accesses: its store's address serves.
        given = {
            **known,
            **{
                key: needed.read(key, inner, 0)
                for key in dict.fromkeys(keys_of(exprs))
                if isinstance(key, Access) and key.strides[inner] == 0
            },
        }
        ways = WAYS if self.columns >= WAYS * lanes else 1
        starts = [
            start_of(fn, self.nodes[n].op, self.nodes[n].dtype, lanes)
            for n in reductions
            for _ in range(ways)
        ]

        def block(here: Cursor, way: int, mask: Value | None, carried: list[Value]) -> None:
            values = block_of(fn, here, exprs, places, inner, lanes, mask, given)
            for r, (number, value) in enumerate(
                zip(reductions, values[len(stores) :], strict=True)
            ):
                node, at = self.nodes[number], r * ways + way
                value = self._masked(number, value, mask)
                carried[at] = combined(fn, node.op, node.dtype, carried[at], value)

        def turn(index: Value, carried: list[Value]) -> list[Value]:
            carried = list(carried)
            there = needed.moved(index, inner)
            for way in range(ways):
                block(there.moved(way * lanes, inner), way, None, carried)
            return carried

        whole = self.columns - self.columns % (ways * lanes)
        carried = fn.loop(whole, starts, turn, step=ways * lanes)
        at, way = whole, 0
        while at < self.columns:
            rest = self.columns - at
            mask = fn.first_lanes(rest, lanes) if rest < lanes else None
            block(needed.moved(at, inner), way % ways, mask, carried)
            at, way = at + lanes, way + 1
        for r, number in enumerate(reductions):
            self._close(number, carried[r * ways : (r + 1) * ways], known)
        self.formulas.stored = set()
        self.formulas.forget()
