"""Kernels that go along an axis in its order: running sums, and where the largest element is."""

from __future__ import annotations

from collections.abc import Iterable

from .boxes import Box, Extent, Move, add, copy, nest, read, vectors, write
from .emit import I64, Module, Type, Value
from .plan import Kernel, Plan

__all__ = ["write_arg", "write_cumsum"]


def write_cumsum(module: Module, plan: Plan, kernel: Kernel, name: str) -> None:
    """out[k] = out[k − 1] + x[k] along one axis, from out[0] = x[0]."""
    move = Move(module, plan, kernel, name)
    fn, axis = move.fn, move.node.params["axis"] % len(move.node.shape)
    assert kernel.axis != axis, "a chunk of a running sum needs all before it"
    n, extents = move.node.shape[axis], move.extents(move.node.shape)
    to, source = move.begun(move.result), move.begun(move.box(move.node.inputs[0]))
    others = [a for a, m in enumerate(move.node.shape) if a != axis and m != 1]
    # What lies closer together than the axis is added up row by row, the rest each on its own.
    rows = [a for a in others if 0 < to.strides[a] < to.strides[axis]]
    outer: list[int | None] = [a for a in others if a not in rows]
    many = [extents[a] for a in rows]

    def along(boxes: list[Box]) -> None:
        out, x = boxes
        copy(fn, out.over(rows), x.over(rows), many, [move.node.shape[a] for a in rows])

        def row(k: Value, _: list[Value]) -> None:
            previous = out.moved(fn, axis, fn.add(k, fn.const(-1, I64)))
            here, given = out.moved(fn, axis, k), x.moved(fn, axis, k)
            add(fn, here.over(rows), previous.over(rows), given.over(rows), many)

        def number(k: Value, carried: list[Value]) -> list[Value]:
            total = fn.add(carried[0], read(fn, x.moved(fn, axis, k)))
            write(fn, out.moved(fn, axis, k), total)
            return [total]

        if rows:
            fn.loop(n, [], row, start=1)
        else:
            fn.loop(n, [read(fn, x)], number, start=1)

    if n:
        nest(
            fn, [extents[a] for a in outer if a is not None], [(to, outer), (source, outer)], along
        )
    fn.finish()


def write_arg(module: Module, plan: Plan, kernel: Kernel, name: str) -> None:
    """out[a, b] = the first k where x[a, k, b] is the largest (smallest), or is NaN."""
    move = Move(module, plan, kernel, name)
    (axis,) = move.node.params["axis"]
    _Search(move, axis).write()
    move.fn.finish()


class _Search:
    """The best element along an axis: with vectors of neighbours, or of the axis itself."""

    def __init__(self, move: Move, axis: int) -> None:
        self.move, self.fn, self.axis = move, move.fn, axis
        self.x = move.box(move.node.inputs[0])
        shape = move.shape(0)
        self.n = shape[axis] if shape else 1
        self.largest = move.node.op == "argmax"
        # Small integers are compared as 32 bits: their places need as many.
        bits = max(32, self.x.kind.bits)
        self.kind = self.x.kind if self.x.kind.is_float else Type(f"i{bits}")
        self.place = self.kind.as_int
        if self.n >= 1 << 31:
            self.place = I64
        self.lanes = self.fn.target.lanes(max(self.kind.bits, self.place.bits))

    def write(self) -> None:
        """Loops around the searches."""
        move, fn, shape = self.move, self.fn, self.move.node.shape
        if not shape and not self.move.shape(0):
            write(fn, move.result, fn.const(0, I64))
            return
        if move.node.params["keepdims"]:
            kept = [a for a in range(len(shape)) if a != self.axis]
            theirs = kept
        else:
            kept = list(range(len(shape)))
            theirs = [a + (a >= self.axis) for a in kept]
        extents = move.extents(shape)
        out, x = move.begun(move.result), self.x
        if move.kernel.axis is not None:
            x = x.moved(fn, theirs[kept.index(move.kernel.axis)], move.lo)
        wide = [k for k in range(len(kept)) if shape[kept[k]] != 1]
        last = [
            k for k in wide if x.strides[theirs[k]] == 1 and out.strides[kept[k]] == 1
        ]  # fmt: skip
        inner = last[0] if last else None
        outer = [k for k in wide if k != inner]
        boxes: list[tuple[Box, list[int | None]]] = [
            (out, [kept[k] for k in outer]),
            (x, [theirs[k] for k in outer]),
        ]

        def body(here: list[Box]) -> None:
            if inner is None:
                self._along(here[0], here[1])
            else:
                n = extents[kept[inner]]
                self._across(here[0], here[1], kept[inner], theirs[inner], n)

        nest(fn, [extents[kept[k]] for k in outer], boxes, body)

    def _across(self, out: Box, x: Box, mine: int, its: int, n: Extent) -> None:
        """Vectors of neighbours, each lane with a search of its own."""
        fn = self.fn

        def searched(j: Value, lanes: int) -> None:
            here, there = x.moved(fn, its, j), out.moved(fn, mine, j)
            _, place = self._best(here, lanes, 1, self.n, 1, self._start(here, lanes))
            self._store(there, place)

        vectors(fn, n, self.lanes, searched)

    def _along(self, out: Box, x: Box) -> None:
        """Vectors along the axis, the lanes' winners compared at the end; then the rest."""
        fn, lanes = self.fn, self.lanes
        whole = self.n - self.n % lanes
        if x.strides[self.axis] != 1 or whole == 0:
            _, place = self._best(x, 0, 1, self.n, 1, self._start(x, 0))
            self._store(out, place)
            return
        best, place = self._best(x, lanes, lanes, whole, lanes, self._start(x, lanes))
        while best.type.lanes > 1:
            half = best.type.lanes // 2
            low, high = list(range(half)), list(range(half, 2 * half))
            a, b = fn.shuffle(best, best, low), fn.shuffle(best, best, high)
            i, j = fn.shuffle(place, place, low), fn.shuffle(place, place, high)
            tie = fn.binary("and", self._not(self._better(a, b)), fn.compare("slt", j, i))
            other = fn.binary("or", self._better(b, a), tie)
            best, place = fn.select(other, b, a), fn.select(other, j, i)
        carried = [fn.extract(best, 0), fn.extract(place, 0)]
        _, place = self._best(x, 0, whole, self.n, 1, carried)
        self._store(out, place)

    def _start(self, x: Box, lanes: int) -> list[Value]:
        """The first elements, and their places: 0, or 0, 1, 2, … where lanes go along the axis."""
        along = lanes and x.strides[self.axis] == 1
        if not along:
            return [self._value(x, lanes), self.fn.const(0, self.place.of(lanes))]
        ramp = ", ".join(f"{self.place} {k}" for k in range(lanes))
        return [self._value(x, lanes), Value(f"<{ramp}>", self.place.of(lanes))]

    def _best(
        self, x: Box, lanes: int, first: int, last: int, step: int, carried: Iterable[Value]
    ) -> list[Value]:
        """The search from `first` to `last`: the best so far and its place."""
        fn = self.fn

        def turn(k: Value, so_far: list[Value]) -> list[Value]:
            best, place = so_far
            value = self._value(x.moved(fn, self.axis, k), lanes)
            index = k if self.place == I64 else fn.convert("trunc", k, self.place)
            index = fn.splat(index, lanes)
            if step > 1:
                index = fn.add(index, self._start(x, lanes)[1])
            better = self._better(value, best)
            return [fn.select(better, value, best), fn.select(better, index, place)]

        return fn.loop(last, list(carried), turn, start=first, step=step)

    def _value(self, x: Box, lanes: int) -> Value:
        value = self.fn.load(x.address, x.kind.of(lanes))
        if value.type.bits == self.kind.bits:
            return value
        word = "sext" if x.dtype.kind == "i" else "zext"
        return self.fn.convert(word, value, self.kind.of(lanes))

    def _better(self, a: Value, b: Value) -> Value:
        """Whether a is to be preferred to b: it is larger (smaller), or the first NaN."""
        fn, word = self.fn, "gt" if self.largest else "lt"
        if a.type.is_float:
            beyond, known = fn.compare(f"u{word}", a, b), fn.compare("ord", b, b)
            return fn.binary("and", beyond, known)
        return fn.compare(("u" if self.x.dtype.kind in "ub" else "s") + word, a, b)

    def _not(self, a: Value) -> Value:
        return self.fn.binary("xor", a, self.fn.const(1, a.type))

    def _store(self, out: Box, place: Value) -> None:
        if place.type.bits < 64:
            place = self.fn.convert("sext", place, I64.of(place.type.lanes))
        write(self.fn, out, place)
