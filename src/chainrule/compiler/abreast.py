"""Short rows abreast: a vector holds one column of several rows, so nothing goes across its lanes.

A softmax over ten classes has too few columns to fill a vector, and its maxima, sums and logarithm
would be taken row by row. With the rows in the lanes each is one operation for eight rows.
"""

from __future__ import annotations

from typing import Any

from .combine import combined_tree
from .emit import I64, VOID, Module, Value
from .expression import emit
from .formulas import Given
from .loops import store_access
from .memory import Cursor, stored_type
from .plan import Access, Kernel, Plan
from .rows import Rows
from .transpose import transposer

__all__ = ["Abreast", "write_rows"]

MOST = 16  # columns, each of which is code of its own


def _short(plan: Plan, kernel: Kernel, lanes: int) -> bool:
    """Whether a kernel on rows has rows short enough, and whole vectors of them."""
    wide = [n for n in kernel.group.domain if n != 1]
    floats = {plan.graph.nodes[n].dtype.itemsize for n in kernel.group.members}
    return len(wide) == 2 and wide[1] <= MOST and wide[0] % lanes == 0 and len(floats - {1}) == 1


class Abreast(Rows):
    """As `Rows`, for as many rows at a time as a vector has lanes."""

    def write(self) -> None:
        """The loop over bundles of rows."""
        fn, plan, kernel = self.fn, self.plan, self.kernel
        reads, stores = self.accesses()
        assert kernel.axis is not None
        self.row = kernel.axis
        self.scratch: dict[Any, Value] = {}
        cursor = Cursor(fn, plan, [*stores, *reads])
        lo, hi = fn.arguments[1], fn.arguments[2]
        bulk = [a for a in dict.fromkeys([*reads, *stores]) if self._turns(a)]
        for access in bulk:
            self.scratch[access] = self._room(access)

        def bundle(index: Value, _: list[Value]) -> None:
            self._bundle(cursor.moved(index, self.row), [a for a in reads if a in self.scratch])

        fn.loop(hi, [], bundle, start=lo, step=self.lanes)
        fn.finish()

    # -- between rows and lanes ----------------------------------------------------------------

    def _turns(self, access: Any) -> bool:
        """Whether whole blocks of an access can be transposed, its padding included."""
        if not isinstance(access, Access) or access.strides[self.inner] != 1:
            return False
        array = self.plan.arrays[access.array]
        room = access.strides[self.row] >= self._wide
        return array.padded and room and array.dtype.itemsize * 8 == self._bits

    @property
    def _wide(self) -> int:
        """The columns in whole blocks."""
        return -(-self.columns // self.lanes) * self.lanes

    @property
    def _bits(self) -> int:
        return self.fn.target.kind.vector_bytes * 8 // self.lanes

    def _room(self, access: Access) -> Value:
        """Memory on the stack for a bundle of rows, column by column."""
        kind = stored_type(self.plan.arrays[access.array].dtype)
        name = f"%room{len(self.scratch)}"
        size = self._wide * self.lanes
        self.fn.lines.insert(1, f"  {name} = alloca [{size} x {kind}], align 64")
        return Value(name, self.fn.arguments[0].type)

    def _turn(self, source: Value, to: Value, access: Access, *words: int) -> None:
        """to[i·pitch + j] = from[j·step + i]; words are step, pitch, and how many i and j."""
        kind = stored_type(self.plan.arrays[access.array].dtype)
        name = transposer(self.fn.module, kind, self.lanes)
        numbers = [self.fn.const(word, I64) for word in words]
        self.fn.call(name, VOID, [source, to, *numbers])

    # -- a bundle of rows ----------------------------------------------------------------------

    def _bundle(self, cursor: Cursor, reads: list[Any]) -> None:
        """Level by level, as a row alone, but with a number a row a vector."""
        fn, lanes = self.fn, self.lanes
        for access in reads:
            step = access.strides[self.row]
            room = self.scratch[access]
            self._turn(cursor.at[access], room, access, step, lanes, self._wide, lanes)
        known: dict[Any, Value] = {}
        columns: list[dict[Any, Any]] = [{} for _ in range(self.columns)]
        loaded: dict[Any, Value] = {}

        def load(key: Any, column: int) -> Value:
            if key in known:
                return known[key]
            along = 0 if key.strides[self.inner] == 0 else column
            if (key, along) not in loaded:
                if key in self.scratch:
                    kind = stored_type(self.plan.arrays[key.array].dtype)
                    place = fn.at(self.scratch[key], along * lanes, kind)
                    loaded[key, along] = fn.load(place, kind.of(lanes), 32)
                else:
                    there = cursor.moved(along, self.inner)
                    loaded[key, along] = there.read(key, self.row, lanes)
            return loaded[key, along]

        for level in range(max(self.level.values()) + 1):
            for number in self.uniform:
                if number not in self.group.over and self.level[number] == level:
                    expr = self.own(number)
                    known[Given(number)] = emit(fn, [expr], lambda k, _: load(k, 0), lanes)[0]
                    self._put(cursor, number, known[Given(number)])
            stores = [n for n in self.kernel.stores if n in self.varies and self.level[n] == level]
            reductions = [n for n in self.reductions if self.level[n] == level]
            exprs = self.exprs_of(stores, reductions)
            if not exprs:
                continue
            parts: list[list[Value]] = [[] for _ in exprs]
            for column, memo in enumerate(columns):
                values = emit(fn, exprs, lambda k, _, c=column: load(k, c), lanes, memo)  # type: ignore[misc]
                for several, value in zip(parts, values, strict=True):
                    several.append(value)
            for number, several in zip(stores, parts, strict=False):
                self._put_columns(cursor, number, several)
            for number, several in zip(reductions, parts[len(stores) :], strict=True):
                node = self.nodes[number]
                known[Given(number)] = combined_tree(fn, node.op, node.dtype, several)
                self._put(cursor, number, known[Given(number)])

    def _put(self, cursor: Cursor, number: int, value: Value) -> None:
        """Store a number a row, if it is wanted outside."""
        if number in self.kernel.stores:
            access = store_access(self.plan, self.kernel, number)
            cursor.write(access, self.row, value)

    def _put_columns(self, cursor: Cursor, number: int, values: list[Value]) -> None:
        """Store what varies along the rows."""
        fn, access = self.fn, store_access(self.plan, self.kernel, number)
        room = self.scratch.get(access)
        if room is None:
            for column, value in enumerate(values):
                cursor.moved(column, self.inner).write(access, self.row, value)
            return
        kind = stored_type(self.plan.arrays[access.array].dtype)
        for column, value in enumerate(values):
            fn.store(value, fn.at(room, column * self.lanes, kind), 32)
        pitch = access.strides[self.row]
        self._turn(room, cursor.at[access], access, self.lanes, pitch, self.lanes, self._wide)


def write_rows(module: Module, plan: Plan, kernel: Kernel, name: str) -> None:
    """Rows with reductions along them: softmax and its relatives."""
    rows = Rows(module, plan, kernel, name)
    if _short(plan, kernel, rows.lanes):
        rows = Abreast(module, plan, kernel, name)
    rows.write()
