"""Kernels that stand alone: they move elements, or go along an axis in an order of their own.

An index out of bounds touches no memory: the kernel takes element 0 in its place and leaves
1 + the node's number in the context's word `ERROR`, for which Python raises IndexError.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from .boxes import Box, Extent, add, block, clear, copy, operand, read, write
from .emit import I64, Function, Module, Type, Value
from .expression import Unsupported
from .graph import Node, Shape
from .memory import kernel_function
from .plan import Kernel, Plan

__all__ = [
    "ERROR",
    "MOVES",
    "write_arg",
    "write_cumsum",
    "write_gather",
    "write_join",
    "write_pack",
    "write_scatter_add",
]

ERROR = 6  # the word of the context that says whose index was out of bounds

Writer = Callable[[Module, Plan, Kernel, str], None]


class _Move:
    """A kernel with one member: its result's box, and where its chunk lies in it."""

    def __init__(self, module: Module, plan: Plan, kernel: Kernel, name: str) -> None:
        self.fn = kernel_function(module, name)
        self.plan, self.kernel = plan, kernel
        self.number = kernel.group.members[0]
        self.node: Node = plan.graph.nodes[self.number]
        self.result = self.box(self.number)
        self.lo, self.hi = self.fn.arguments[1], self.fn.arguments[2]

    def box(self, number: int) -> Box:
        return operand(self.fn, self.plan, number)

    def shape(self, position: int) -> Shape:
        """Of an operand."""
        return self.plan.graph.nodes[self.node.inputs[position]].shape

    def extents(self, shape: Shape) -> list[Extent]:
        """The chunk's share of the result's shape."""
        return _share(self.fn, self.kernel.axis, shape)

    def begun(self, box: Box) -> Box:
        """A box over the result's axes, from where the chunk begins."""
        return box if self.kernel.axis is None else box.moved(self.fn, self.kernel.axis, self.lo)


def _share(fn: Function, axis: int | None, shape: Shape) -> list[Extent]:
    found: list[Extent] = list(shape)
    if axis is not None:
        found[axis] = fn.sub(fn.arguments[2], fn.arguments[1])
    return found


# -- copies ---------------------------------------------------------------------------------------


def write_pack(module: Module, plan: Plan, kernel: Kernel, name: str) -> None:
    """to[i] = from[i], of the kernel's two accesses."""
    fn = kernel_function(module, name)
    assert kernel.copy is not None
    source, to = (block(fn, plan, access) for access in kernel.copy)
    if kernel.axis is not None:
        lo = fn.arguments[1]
        source, to = (box.moved(fn, kernel.axis, lo) for box in (source, to))
    shape = kernel.group.domain
    copy(fn, to, source, _share(fn, kernel.axis, shape), shape)
    fn.finish()


def write_join(module: Module, plan: Plan, kernel: Kernel, name: str) -> None:
    """out[offset + i] = x[i] for each operand, along one axis."""
    move = _Move(module, plan, kernel, name)
    fn, axis, offset = move.fn, move.node.params["axis"], 0
    for position, number in enumerate(move.node.inputs):
        shape = move.shape(position)
        to, source = move.result.moved(fn, axis, offset), move.box(number)
        if kernel.axis == axis:
            first, count = _within(fn, move.lo, move.hi, offset, 1, shape[axis])
            extents: list[Extent] = list(shape)
            extents[axis] = count
            to, source = (x.moved(fn, axis, first) for x in (to, source))
        else:
            extents = move.extents(shape)
            to, source = move.begun(to), move.begun(source)
        copy(fn, to, source, extents, shape)
        offset += shape[axis]
    fn.finish()


def _within(
    fn: Function, lo: Value, hi: Value, start: int, step: int, count: int
) -> tuple[Value, Value]:
    """The first k ≥ 0 and how many from there with lo ≤ start + step·k < hi and k < count."""

    def first_at(bound: Value) -> Value:
        k = fn.sub(bound, fn.const(start, I64))
        k = fn.intrinsic("smax", k, fn.const(0, I64))
        if step > 1:
            k = fn.binary("udiv", fn.add(k, fn.const(step - 1, I64)), fn.const(step, I64))
        return fn.intrinsic("smin", k, fn.const(count, I64))

    first = first_at(lo)
    return first, fn.sub(first_at(hi), first)


# -- indices --------------------------------------------------------------------------------------


class _Picks:
    """The positions of a gather or a scatter: one number for each point of the index' axes."""

    def __init__(self, move: _Move, number: int, length: int) -> None:
        self.move, self.length = move, length
        node = move.plan.graph.nodes[number]
        self.unsigned = node.dtype.kind == "u"
        self.box = move.box(number)
        root = move.plan.graph.nodes[move.plan.sources[number].root]
        self.known = root.op == "constant" and bool(
            np.all((root.params["value"] >= 0) & (root.params["value"] < length))
        )

    def at(self, box: Box) -> Value:
        """The position, counted from the front; 0 and the error's mark where there is none."""
        fn = self.move.fn
        index = fn.load(box.address, box.kind)
        if box.kind.bits < 64:
            index = fn.convert("zext" if self.unsigned else "sext", index, I64)
        if self.known:
            return index
        zero, length = fn.const(0, I64), fn.const(self.length, I64)
        if not self.unsigned:
            below = fn.compare("slt", index, zero)
            index = fn.add(index, fn.select(below, length, zero))
        wrong = fn.compare("uge", index, length)
        with fn.when(wrong):
            mark = fn.const(1 + self.move.number, I64)
            fn.store(mark, fn.at(fn.arguments[0], ERROR, I64))
        return fn.select(wrong, zero, index)


def _nest(
    fn: Function,
    extents: Sequence[Extent],
    boxes: Sequence[tuple[Box, Sequence[int | None]]],
    body: Callable[[list[Box]], None],
) -> None:
    """Loops over `extents`; axis k moves each box along its axis `axes[k]`, if it has one."""
    if not extents:
        body([box for box, _ in boxes])
        return
    here, rest = extents[0], extents[1:]

    def inside(index: Extent) -> None:
        moved = [
            (box if axes[0] is None else box.moved(fn, axes[0], index), axes[1:])
            for box, axes in boxes
        ]
        _nest(fn, rest, moved, body)

    if here == 1:
        inside(0)
    else:
        fn.loop(here, [], lambda index, _: inside(index))


def write_gather(module: Module, plan: Plan, kernel: Kernel, name: str) -> None:
    """out[a, i, b] = x[a, index[i], b]: a, i and b stand for any number of axes each."""
    move = _Move(module, plan, kernel, name)
    fn, axis = move.fn, move.node.params["axis"]
    x, index = move.node.inputs
    shape, picked = move.shape(0), len(move.shape(1))
    if shape[axis] == 0 and move.node.size:
        fn.store(fn.const(1 + move.number, I64), fn.at(fn.arguments[0], ERROR, I64))
        fn.finish()
        return
    picks = _Picks(move, index, shape[axis])
    extents = move.extents(move.node.shape)
    low, high = axis, axis + picked
    # The chunk's axis is one of out's; of x or the index, that which goes with it.
    where, source, positions = kernel.axis, move.box(x), picks.box
    if where is not None and where < low:
        source = source.moved(fn, where, move.lo)
    elif where is not None and where < high:
        positions = positions.moved(fn, where - low, move.lo)
    elif where is not None:
        source = source.moved(fn, where - picked + 1, move.lo)
    rank = len(extents)
    before, within, behind = range(low), range(low, high), range(high, rank)
    behind_x = [a - picked + 1 for a in behind]

    def one(boxes: list[Box]) -> None:
        out, taken, position = boxes
        taken = taken.moved(fn, axis, picks.at(position))
        most = [move.node.shape[a] for a in behind]
        copy(fn, out.over(behind), taken.over(behind_x), extents[high:], most)

    _nest(
        fn,
        extents[:high],
        [
            (move.begun(move.result), [*before, *within]),
            (source, [*before, *[None] * picked]),
            (positions, [*[None] * low, *range(picked)]),
        ],
        one,
    )
    fn.finish()


def write_scatter_add(module: Module, plan: Plan, kernel: Kernel, name: str) -> None:
    """out = 0, then out[a, index[i], b] += x[a, i, b] in the order of i; or out[slices] = x."""
    params = plan.graph.nodes[kernel.group.members[0]].params
    if "start" in params:
        _write_spread(module, plan, kernel, name)
        return
    if "axis" not in params:
        raise Unsupported("scatter_add", "an index of this kind has no native form")
    move = _Move(module, plan, kernel, name)
    fn, axis = move.fn, params["axis"]
    x, index = move.node.inputs
    shape, picked = move.node.shape, len(move.shape(1))
    extents = move.extents(shape)
    clear(fn, move.begun(move.result), extents)
    if shape[axis] == 0 and move.plan.graph.nodes[x].size:
        fn.store(fn.const(1 + move.number, I64), fn.at(fn.arguments[0], ERROR, I64))
        fn.finish()
        return
    picks = _Picks(move, index, shape[axis])
    rank, where = len(shape), kernel.axis
    before, behind = range(axis), range(axis + 1, rank)
    behind_x = [a + picked - 1 for a in behind]
    to, source = move.result, move.box(x)
    if where is not None and where != axis:
        to = to.moved(fn, where, move.lo)
        source = source.moved(fn, where if where < axis else where + picked - 1, move.lo)

    def one(boxes: list[Box]) -> None:
        out, given, position = boxes
        at = picks.at(position)

        def added() -> None:
            row = out.moved(fn, axis, at).over(behind)
            add(fn, row, row, given.over(behind_x), extents[axis + 1 :])

        if where != axis:
            added()
            return
        inside = fn.compare("ult", fn.sub(at, move.lo), fn.sub(move.hi, move.lo))
        with fn.when(inside):
            added()

    none: list[int | None] = [None]
    _nest(
        fn,
        [*extents[:axis], *move.shape(1)],
        [
            (to, [*before, *none * picked]),
            (source, range(axis + picked)),
            (picks.box, [*none * axis, *range(picked)]),
        ],
        one,
    )
    fn.finish()


def _write_spread(module: Module, plan: Plan, kernel: Kernel, name: str) -> None:
    """out = 0, then out[start + step·i] = x[i] along every axis."""
    move = _Move(module, plan, kernel, name)
    fn, params, where = move.fn, move.node.params, kernel.axis
    clear(fn, move.begun(move.result), move.extents(move.node.shape))
    to, source = move.result, move.box(move.node.inputs[0])
    shape = move.shape(0)
    extents: list[Extent] = list(shape)
    steps = list(zip(params["start"], params["step"], params["count"], strict=True))
    for axis, (start, step, count) in enumerate(steps):
        if step < 0 and count:
            source = source.moved(fn, axis, count - 1)
            source = source._replace(strides=_with(source.strides, axis, -source.strides[axis]))
            start, step = start + step * (count - 1), -step
        to = to.moved(fn, axis, start)
        to = to._replace(strides=_with(to.strides, axis, step * to.strides[axis]))
        if axis == where:
            first, extents[axis] = _within(fn, move.lo, move.hi, start, abs(step), count)
            to, source = to.moved(fn, axis, first), source.moved(fn, axis, first)
    copy(fn, to, source, extents, shape)
    fn.finish()


def _with(strides: tuple[int, ...], axis: int, stride: int) -> tuple[int, ...]:
    return (*strides[:axis], stride, *strides[axis + 1 :])


# -- along an axis --------------------------------------------------------------------------------


def write_cumsum(module: Module, plan: Plan, kernel: Kernel, name: str) -> None:
    """out[k] = out[k − 1] + x[k] along one axis, from out[0] = x[0]."""
    move = _Move(module, plan, kernel, name)
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
        _nest(
            fn, [extents[a] for a in outer if a is not None], [(to, outer), (source, outer)], along
        )
    fn.finish()


def write_arg(module: Module, plan: Plan, kernel: Kernel, name: str) -> None:
    """out[a, b] = the first k where x[a, k, b] is the largest (smallest), or is NaN."""
    move = _Move(module, plan, kernel, name)
    (axis,) = move.node.params["axis"]
    _Search(move, axis).write()
    move.fn.finish()


class _Search:
    """The best element along an axis: with vectors of neighbours, or of the axis itself."""

    def __init__(self, move: _Move, axis: int) -> None:
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

        _nest(fn, [extents[kept[k]] for k in outer], boxes, body)

    def _across(self, out: Box, x: Box, mine: int, its: int, n: Extent) -> None:
        """Vectors of neighbours, each lane with a search of its own."""
        fn = self.fn

        def searched(j: Value, lanes: int) -> None:
            here, there = x.moved(fn, its, j), out.moved(fn, mine, j)
            _, place = self._best(here, lanes, 1, self.n, 1, self._start(here, lanes))
            self._store(there, place)

        if isinstance(n, int):
            whole: Extent = n - n % self.lanes
        else:
            whole = fn.binary("and", n, fn.const(-self.lanes, I64))
        fn.loop(whole, [], lambda j, _: searched(j, self.lanes), step=self.lanes)
        fn.loop(n, [], lambda j, _: searched(j, 0), start=whole)

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


MOVES: Mapping[str, Writer] = {
    "pack": write_pack,
    "gather": write_gather,
    "scatter_add": write_scatter_add,
    "join": write_join,
    "cumsum_along": write_cumsum,
    "argmax": write_arg,
    "argmin": write_arg,
}
