"""Matrix products: register tiles over the whole depth, and what follows done on the registers.

A tile is `rows` × `vectors` accumulators. For each k it loads the vectors of B's row and broadcasts
one element of A for each row; A is read where it lies, by any strides. The formulas of the group
(bias, activation, mask, update) are applied to the accumulators before they are stored.
"""

from __future__ import annotations

from typing import Any

from .emit import I64, VOID, Function, Module, Value
from .expression import Expr, emit, llvm_type, loads
from .formulas import Formulas, Given
from .memory import ARGUMENTS, Cursor, base, kernel_function, stored_type
from .plan import Access, Kernel, Plan

__all__ = ["split", "write_product"]

UNROLL = 2  # steps of k in one round


def split(count: int, most: int) -> list[tuple[int, int]]:
    """(height, how many) of tiles at most `most` high, whose heights differ by at most one."""
    if count == 0:
        return []
    tiles = -(-count // most)
    height, taller = divmod(count, tiles)
    return [(h, n) for h, n in ((height + 1, taller), (height, tiles - taller)) if n]


class _Product:
    def __init__(self, module: Module, plan: Plan, kernel: Kernel, name: str, chunk: int) -> None:
        self.module, self.plan, self.kernel, self.name = module, plan, kernel, name
        self.group = kernel.group
        node = plan.graph.nodes[self.group.members[0]]
        self.node = node
        self.domain = self.group.domain
        self.batch = len(self.domain) - 2
        self.m, self.n = self.domain[-2:]
        self.a, self.b = kernel.operands[0], kernel.operands[1]
        self.depth = plan.graph.nodes[node.inputs[0]].shape[-1]
        self.formulas = Formulas(plan, self.group)
        self.formulas.given = {self.group.members[0]}
        self.exprs: list[Expr] = [self.formulas.of(n) for n in kernel.stores]
        rank = len(self.domain)
        self.places = [plan.access(n, self.group.place[n], rank) for n in kernel.stores]
        self.reads = list(
            dict.fromkeys(key for e in self.exprs for key in loads(e) if not isinstance(key, Given))
        )
        self.type = llvm_type(node.dtype)
        self.lanes = module.target.lanes(self.type.bits)
        self.chunk = chunk
        self.tiles: set[str] = set()

    @property
    def cuts_rows(self) -> bool:
        """Whether chunks are rows of the product, not whole products of a batch."""
        return self.kernel.axis == self.batch

    def write(self) -> None:
        """The kernel: panels of columns outside, tiles of rows inside: a panel stays warm."""
        fn = kernel_function(self.module, self.name)
        most, vectors = self.module.target.kind.tile(self.n, self.lanes)
        lo, hi = fn.arguments[1], fn.arguments[2]
        panel = vectors * self.lanes
        full, rest = divmod(self.n, panel)
        heights = [self.m] if not self.cuts_rows else [self.chunk]
        last = self.m % self.chunk if self.cuts_rows else 0
        if last:
            heights.append(last)

        def all_panels(z: list[Value], first: Value, rows: int) -> None:
            def one(column: Value, count: int, tail: int) -> None:
                self._tiles(fn, z, first, rows, column, most, count, tail)

            if full:
                fn.loop(full * panel, [], lambda j, _: one(j, vectors, 0), step=panel)
            if rest:
                count = -(-rest // self.lanes)
                one(fn.const(full * panel, I64), count, rest % self.lanes)

        def batches(axis: int, z: list[Value]) -> None:
            if axis < self.batch:
                bounds = (lo, hi) if axis == self.kernel.axis else (0, self.domain[axis])
                fn.loop(bounds[1], [], lambda i, _: batches(axis + 1, [*z, i]), start=bounds[0])
            elif not self.cuts_rows:
                all_panels(z, fn.const(0, I64), self.m)
            elif len(heights) == 1:
                all_panels(z, lo, heights[0])
            else:
                whole = fn.compare("eq", fn.sub(hi, lo), fn.const(self.chunk, I64))
                with fn.when(whole):
                    all_panels(z, lo, heights[0])
                other = fn.binary("xor", whole, Value("true", whole.type))
                with fn.when(other):
                    all_panels(z, lo, heights[1])

        batches(0, [])
        fn.finish()

    def _tiles(
        self,
        fn: Function,
        z: list[Value],
        first: Value,
        rows: int,
        column: Value,
        most: int,
        vectors: int,
        tail: int,
    ) -> None:
        """All tiles of `rows` rows of one panel."""
        start = 0
        limit = self._most(most, vectors)
        for height, count in split(rows, limit):
            tile = self._tile(height, vectors, tail)
            base_row = fn.add(first, fn.const(start, I64)) if start else first

            def call(row: Value, tile: str = tile) -> None:
                arguments = [fn.arguments[0], row, column, fn.arguments[3], fn.arguments[4], *z]
                fn.call(tile, VOID, arguments)

            if count == 1:
                call(base_row)
            else:
                fn.loop(
                    height * count,
                    [],
                    lambda r, _, base_row=base_row, call=call: call(fn.add(base_row, r)),  # type: ignore[misc]
                    step=height,
                )
            start += height * count

    def _most(self, most: int, vectors: int) -> int:
        """How many rows the registers hold for so many vectors."""
        # Accumulators, a row of B and one element of A.
        room = (self.module.target.kind.registers - vectors - 1) // vectors
        return max(most, min(room, 12))

    def _tile(self, rows: int, vectors: int, tail: int) -> str:
        """The function of one register tile; written once for each size."""
        name = f"{self.name}.{rows}x{vectors}" + (f".{tail}" if tail else "")
        if name in self.tiles:
            return name
        self.tiles.add(name)
        arguments = [ARGUMENTS[0], (I64, "i"), (I64, "j"), *ARGUMENTS[3:]]
        arguments += [(I64, f"z{d}") for d in range(self.batch)]
        fn = self.module.function(name, arguments, inline=False)
        i, j, z = fn.arguments[1], fn.arguments[2], fn.arguments[5:]
        indices = [*z, i, j]
        a = self._address(fn, self.a, [*z, i, None])
        b = self._address(fn, self.b, [*z, None, j])
        sums = self._sums(fn, a, b, rows, vectors, tail)
        self._epilogue(fn, sums, indices, rows, vectors, tail)
        fn.finish()
        return name

    def _address(self, fn: Function, access: Access, indices: list[Value | None]) -> Value:
        """The address of an operand's element at some of its axes, 0 at the others."""
        kind = stored_type(self.plan.arrays[access.array].dtype)
        place: Value = fn.const(access.offset, I64)
        steps = (*access.strides[:-1], access.panel or access.strides[-1])
        for index, stride in zip(indices, steps, strict=True):
            if index is None or stride == 0:
                continue
            step = index if stride == 1 else fn.mul(index, fn.const(stride, I64))
            place = step if place.text == "0" else fn.add(place, step)
        start = base(fn, self.plan, access.array)
        return start if place.text == "0" else fn.at(start, place, kind)

    def _sums(
        self, fn: Function, a: Value, b: Value, rows: int, vectors: int, tail: int
    ) -> list[list[Value]]:
        """Σₖ A[i+r, k]·B[k, j+…]: the accumulators after the whole depth."""
        kind, lanes = self.type, self.lanes
        vector = kind.of(lanes)
        a_row, a_step = self.a.strides[-2:]
        b_step = self.b.strides[-2]
        padded = self.plan.arrays[self.b.array].padded
        mask = fn.first_lanes(tail, lanes) if tail and not padded else None
        if self.n == 1 and self.b.strides[-1] == 0:
            mask = fn.first_lanes(1, lanes)

        def step(pa: Value, pb: Value, u: int, sums: list[Value]) -> list[Value]:
            row = []
            for v in range(vectors):
                place = fn.at(pb, u * b_step + v * lanes, kind)
                last = mask is not None and v == vectors - 1
                row.append(
                    fn.load_some(place, vector, mask)  # type: ignore[arg-type]
                    if last
                    else fn.load(place, vector)
                )
            new = []
            for r in range(rows):
                one = fn.splat(fn.load(fn.at(pa, r * a_row + u * a_step, kind), kind), lanes)
                new += [fn.fma(one, row[v], sums[r * vectors + v]) for v in range(vectors)]
            return new

        zero = Value("zeroinitializer", vector)
        sums = [zero] * (rows * vectors)
        rounds, rest = divmod(self.depth, UNROLL)
        if rounds > 1:

            def turn(_: Value, carried: list[Value]) -> list[Value]:
                pa, pb, *values = carried
                for u in range(UNROLL):
                    values = step(pa, pb, u, values)
                return [
                    fn.at(pa, UNROLL * a_step, kind), fn.at(pb, UNROLL * b_step, kind), *values
                ]  # fmt: skip

            a, b, *sums = fn.loop(rounds, [a, b, *sums], turn)
        else:
            rest = self.depth
        for u in range(rest):
            sums = step(a, b, u, sums)
        return [sums[r * vectors : (r + 1) * vectors] for r in range(rows)]

    def _epilogue(
        self,
        fn: Function,
        sums: list[list[Value]],
        indices: list[Value],
        rows: int,
        vectors: int,
        tail: int,
    ) -> None:
        """The group's formulas on the accumulators, and the stores."""
        row_axis, column_axis = self.batch, self.batch + 1
        cursor = Cursor(fn, self.plan, [*self.places, *self.reads])
        for axis, index in enumerate(indices):
            cursor = cursor.moved(index, axis)
        loaded: dict[Any, Value] = {}
        for r in range(rows):
            line = cursor.moved(r, row_axis)
            for v in range(vectors):
                here = line.moved(v * self.lanes, column_axis)
                mask = fn.first_lanes(tail, self.lanes) if tail and v == vectors - 1 else None

                def load(
                    key: Any, dtype: Any, r: int = r, v: int = v, here: Cursor = here,
                    mask: Value | None = mask,
                ) -> Value:  # fmt: skip
                    if isinstance(key, Given):
                        return sums[r][v]
                    down, right = key.strides[row_axis], key.strides[column_axis]
                    moves = (r if down else 0, v if right else 0)
                    known = loaded.get((key, moves))
                    if known is None:
                        known = here.read(key, column_axis, self.lanes, mask)
                        loaded[(key, moves)] = known
                    return known

                values = emit(fn, self.exprs, load, self.lanes)
                for access, value in zip(self.places, values, strict=True):
                    here.write(access, column_axis, value, mask)


def write_product(module: Module, plan: Plan, kernel: Kernel, name: str, chunk: int) -> None:
    """The kernel of a product and what is fused with it; its rows come `chunk` at a time."""
    _Product(module, plan, kernel, name, chunk).write()
