"""Kernels that stand alone: they move elements, or go along an axis in an order of their own.

An index out of bounds touches no memory: the kernel takes element 0 in its place and leaves
1 + the node's number in the context's word `ERROR`, for which Python raises IndexError.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from .along import write_arg, write_cumsum
from .boxes import Box, Extent, Move, add, block, clear, copy, nest, share
from .emit import I64, Function, Module, Value
from .expression import Unsupported
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
    copy(fn, to, source, share(fn, kernel.axis, shape), shape)
    fn.finish()


def write_join(module: Module, plan: Plan, kernel: Kernel, name: str) -> None:
    """out[offset + i] = x[i] for each operand, along one axis."""
    move = Move(module, plan, kernel, name)
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

    def __init__(self, move: Move, number: int, length: int) -> None:
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


def write_gather(module: Module, plan: Plan, kernel: Kernel, name: str) -> None:
    """out[a, i, b] = x[a, index[i], b]: a, i and b stand for any number of axes each."""
    move = Move(module, plan, kernel, name)
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

    nest(
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
    move = Move(module, plan, kernel, name)
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
    nest(
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
    move = Move(module, plan, kernel, name)
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


MOVES: Mapping[str, Writer] = {
    "pack": write_pack,
    "gather": write_gather,
    "scatter_add": write_scatter_add,
    "join": write_join,
    "cumsum_along": write_cumsum,
    "argmax": write_arg,
    "argmin": write_arg,
}
