"""Boxes of elements in memory, any number of axes at any strides: cleared, copied, added up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from .emit import BOOL, I64, PTR, VOID, Function, Module, Type, Value
from .expression import Builder, emit
from .graph import Node, Shape
from .memory import base, kernel_function, stored_type
from .plan import Access, Kernel, Plan
from .transpose import LARGEST, transposer

__all__ = [
    "Box",
    "Extent",
    "Move",
    "add",
    "block",
    "clear",
    "copy",
    "nest",
    "operand",
    "read",
    "share",
    "vectors",
    "write",
]

Extent = int | Value
Body = Callable[[list["Box"]], None]


class Box(NamedTuple):
    """Elements in memory: the first one's address, and each axis' step, in elements."""

    address: Value
    strides: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def kind(self) -> Type:
        """The type of one element in memory."""
        return stored_type(self.dtype)

    def moved(self, fn: Function, axis: int, index: Extent) -> Box:
        """The same box from `index` along an axis."""
        stride = self.strides[axis]
        if stride == 0 or (isinstance(index, int) and index == 0):
            return self
        if isinstance(index, int):
            return self._replace(address=fn.at(self.address, index * stride, self.kind))
        offset = index if stride == 1 else fn.mul(index, fn.const(stride, I64))
        return self._replace(address=fn.at(self.address, offset, self.kind))

    def over(self, axes: Sequence[int]) -> Box:
        """The box over some of its axes, at index 0 of the others."""
        return self._replace(strides=tuple([self.strides[a] for a in axes]))


def block(fn: Function, plan: Plan, access: Access) -> Box:
    """The box that an access names."""
    assert not access.panel, "panels are read by products alone"
    dtype = plan.arrays[access.array].dtype
    address = fn.at(base(fn, plan, access.array), access.offset, stored_type(dtype))
    return Box(address, access.strides, dtype)


def operand(fn: Function, plan: Plan, number: int) -> Box:
    """A node's value over its own axes; a number known now is put into the module."""
    node = plan.graph.nodes[number]
    root = plan.sources[number].root
    rank = len(node.shape)
    if root in plan.home:
        return block(fn, plan, plan.access(number, range(rank), rank))
    known = plan.graph.nodes[root]
    assert known.op == "constant", f"%{root} = {known.op} does not lie in memory"
    kind, name = stored_type(known.dtype), f"@number_{root}"
    value = fn.const(known.params["value"].reshape(())[()], kind)
    fn.module.globals[name] = f"{name} = private unnamed_addr constant {value}, align {kind.bytes}"
    return Box(Value(name, PTR), (0,) * rank, known.dtype)


# -- single elements and vectors ------------------------------------------------------------------


def _load(fn: Function, box: Box, lanes: int) -> Value:
    """One element, or so many along the last axis: next to each other, or always the same."""
    if lanes and box.strides[-1] == 0:
        return fn.splat(fn.load(box.address, box.kind), lanes)
    return fn.load(box.address, box.kind.of(lanes))


def read(fn: Function, box: Box, lanes: int = 0) -> Value:
    """The element at the address, or so many along the last axis; a bool as i1."""
    value = _load(fn, box, lanes)
    if box.dtype.kind != "b":
        return value
    return fn.compare("ne", value, fn.const(0, value.type))


def write(fn: Function, box: Box, value: Value) -> None:
    """Store what `read` reads."""
    if value.type.base == "i1":
        value = fn.convert("zext", value, box.kind.of(value.type.lanes))
    fn.store(value, box.address)


# -- loops ----------------------------------------------------------------------------------------


def _loops(
    fn: Function, boxes: Sequence[Box], extents: Sequence[Extent], axes: Sequence[int], body: Body
) -> None:
    """The body at each point of the axes, outermost first."""
    if not axes:
        body(list(boxes))
        return
    axis = axes[0]

    def inside(index: Value, _: list[Value]) -> None:
        _loops(fn, [x.moved(fn, axis, index) for x in boxes], extents, axes[1:], body)

    fn.loop(extents[axis], [], inside)


def nest(
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
        nest(fn, rest, moved, body)

    if here == 1:
        inside(0)
    else:
        fn.loop(here, [], lambda index, _: inside(index))


def _merged(
    fn: Function, boxes: Sequence[Box], extents: Sequence[Extent]
) -> tuple[list[Box], list[Extent]]:
    """The same elements over fewer axes, in the order of the first box' memory.

    Axes of length 1 go, and neighbours that every box runs through as one become one.
    """
    axes = [a for a, n in enumerate(extents) if not (isinstance(n, int) and n == 1)]
    axes.sort(key=lambda a: -abs(boxes[0].strides[a]))
    strides: list[tuple[int, ...]] = []
    lengths: list[Extent] = []
    for axis in axes:
        here, n = tuple([x.strides[axis] for x in boxes]), extents[axis]
        if strides and isinstance(n, int):
            outer, m = strides[-1], lengths[-1]
            if all(a == b * n for a, b in zip(outer, here, strict=True)):
                strides[-1] = here
                lengths[-1] = m * n if isinstance(m, int) else fn.mul(m, fn.const(n, I64))
                continue
        strides.append(here)
        lengths.append(n)
    columns = list(zip(*strides, strict=True)) or [()] * len(boxes)
    return [x._replace(strides=s) for x, s in zip(boxes, columns, strict=True)], lengths


def vectors(fn: Function, n: Extent, lanes: int, body: Callable[[Value, int], None]) -> None:
    """body(i, lanes) for whole vectors, then body(i, 0) for each element that is left over."""
    whole: Extent = 0
    if lanes > 1:
        whole = n - n % lanes if isinstance(n, int) else fn.binary("and", n, fn.const(-lanes, I64))
        fn.loop(whole, [], lambda i, _: body(i, lanes), step=lanes)
    fn.loop(n, [], lambda i, _: body(i, 0), start=whole)


def _innermost(
    fn: Function, boxes: Sequence[Box], n: Extent, body: Callable[[list[Box], int], None]
) -> None:
    """The body on vectors along the last axis, then on the elements that are left over."""
    axis = len(boxes[0].strides) - 1
    lanes = fn.target.lanes(8 * max(x.dtype.itemsize for x in boxes))
    if boxes[0].strides[axis] != 1 or any(x.strides[axis] not in (0, 1) for x in boxes):
        lanes = 1

    def at(index: Value, count: int) -> None:
        body([x.moved(fn, axis, index) for x in boxes], count)

    vectors(fn, n, lanes, at)


def _elementwise(
    fn: Function,
    boxes: Sequence[Box],
    extents: Sequence[Extent],
    body: Callable[[list[Box], int], None],
) -> None:
    """The body at every element, or on vectors where all boxes have them."""
    if not extents:
        body(list(boxes), 0)
        return
    last = len(extents) - 1
    _loops(fn, boxes, extents, range(last), lambda x: _innermost(fn, x, extents[last], body))


# -- what is done with boxes ----------------------------------------------------------------------


def clear(fn: Function, to: Box, extents: Sequence[Extent]) -> None:
    """to[i] = 0."""
    (to,), extents = _merged(fn, [to], extents)
    if not extents or to.strides[-1] != 1:
        zero = fn.const(0, to.kind)
        _loops(fn, [to], extents, range(len(extents)), lambda x: fn.store(zero, x[0].address))
        return

    def row(boxes: list[Box]) -> None:
        size = _bytes(fn, extents[-1], to.dtype)
        operands = [boxes[0].address, Value("0", Type("i8")), size, Value("false", BOOL)]
        fn.call("llvm.memset.p0.i64", VOID, operands)

    _loops(fn, [to], extents, range(len(extents) - 1), row)


def copy(
    fn: Function,
    to: Box,
    source: Box,
    extents: Sequence[Extent],
    most: Sequence[int] | None = None,
) -> None:
    """to[i] = source[i], converted where the dtypes differ; the two share no memory.

    `most` bounds the extents that are known only when the kernel runs.
    """
    if to.dtype != source.dtype:
        (to, source), extents = _merged(fn, [to, source], extents)
        _elementwise(fn, [to, source], extents, lambda x, lanes: _converted(fn, x, lanes))
        return
    if most is None:
        most = [n if isinstance(n, int) else LARGEST for n in extents]
    turned = _turned(fn, to, source, extents, most)
    if turned is not None:
        _transposed(fn, to, source, extents, *turned)
        return
    (to, source), extents = _merged(fn, [to, source], extents)
    if not extents or to.strides[-1] != 1 or source.strides[-1] != 1:
        _elementwise(fn, [to, source], extents, lambda x, lanes: _moved(fn, x, lanes))
        return

    def row(boxes: list[Box]) -> None:
        size = _bytes(fn, extents[-1], to.dtype)
        operands = [boxes[0].address, boxes[1].address, size, Value("false", BOOL)]
        fn.call("llvm.memcpy.p0.p0.i64", VOID, operands)

    _loops(fn, [to, source], extents, range(len(extents) - 1), row)


def add(fn: Function, to: Box, a: Box, b: Box, extents: Sequence[Extent]) -> None:
    """to[i] = a[i] + b[i], of one dtype; of bools, or."""
    boxes, extents = _merged(fn, [to, a, b], extents)

    def one(here: list[Box], lanes: int) -> None:
        x, y = read(fn, here[1], lanes), read(fn, here[2], lanes)
        write(fn, here[0], fn.binary("or", x, y) if x.type.base == "i1" else fn.add(x, y))

    _elementwise(fn, boxes, extents, one)


def _bytes(fn: Function, n: Extent, dtype: np.dtype[Any]) -> Value:
    if isinstance(n, int):
        return fn.const(n * dtype.itemsize, I64)
    return n if dtype.itemsize == 1 else fn.mul(n, fn.const(dtype.itemsize, I64))


def _moved(fn: Function, boxes: Sequence[Box], lanes: int = 0) -> None:
    """Elements as they are."""
    fn.store(_load(fn, boxes[1], lanes), boxes[0].address)


def _converted(fn: Function, boxes: Sequence[Box], lanes: int) -> None:
    to, source = boxes
    builder = Builder()
    expr = builder.cast(builder.load(0, source.dtype), to.dtype)
    write(fn, to, emit(fn, [expr], lambda key, dtype: read(fn, source, lanes), lanes)[0])


# -- transposition --------------------------------------------------------------------------------


def _turned(
    fn: Function, to: Box, source: Box, extents: Sequence[Extent], most: Sequence[int]
) -> tuple[int, int, int] | None:
    """(source's unit axis, the target's, size of blocks) where blocks are to be transposed."""

    def unit(box: Box) -> list[int]:
        return [a for a, s in enumerate(box.strides) if s == 1 and most[a] > 1]

    rows, columns = unit(source), unit(to)
    if len(rows) != 1 or len(columns) != 1 or rows == columns or source.strides[columns[0]] == 0:
        return None
    row, column = rows[0], columns[0]
    lanes = min(fn.target.lanes(8 * to.dtype.itemsize), LARGEST)
    size = 1 << (min(lanes, most[row], most[column]).bit_length() - 1)
    return (row, column, size) if size > 1 else None


def _transposed(
    fn: Function,
    to: Box,
    source: Box,
    extents: Sequence[Extent],
    row: int,
    column: int,
    size: int,
) -> None:
    """Loops around blocks; element by element where the chunk is narrower than a block."""
    name = transposer(fn.module, to.kind, size)
    outer = [
        a
        for a, n in enumerate(extents)
        if a not in (row, column) and not (isinstance(n, int) and n == 1)
    ]
    outer.sort(key=lambda a: -abs(to.strides[a]))

    def values(*numbers: Extent) -> list[Value]:
        return [fn.const(n, I64) if isinstance(n, int) else n for n in numbers]

    def plane(boxes: list[Box]) -> None:
        there, here = boxes
        steps = source.strides[column], to.strides[row]
        numbers = values(*steps, extents[row], extents[column])
        fn.call(name, VOID, [here.address, there.address, *numbers])

    def elements() -> None:
        _loops(fn, [to, source], extents, [*outer, row, column], lambda x: _moved(fn, x))

    wide = [n for n in (extents[row], extents[column]) if not isinstance(n, int)]
    if not wide:
        _loops(fn, [to, source], extents, outer, plane)
        return
    least = wide[0] if len(wide) == 1 else fn.intrinsic("smin", *wide)
    enough = fn.compare("sge", least, fn.const(size, I64))
    with fn.when(enough):
        _loops(fn, [to, source], extents, outer, plane)
    with fn.when(fn.binary("xor", enough, Value("true", BOOL))):
        elements()


# -- kernels --------------------------------------------------------------------------------------


class Move:
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
        return share(self.fn, self.kernel.axis, shape)

    def begun(self, box: Box) -> Box:
        """A box over the result's axes, from where the chunk begins."""
        return box if self.kernel.axis is None else box.moved(self.fn, self.kernel.axis, self.lo)


def share(fn: Function, axis: int | None, shape: Shape) -> list[Extent]:
    """The extents of a kernel's share of the work: along the chunk axis its rows, else all."""
    found: list[Extent] = list(shape)
    if axis is not None:
        found[axis] = fn.sub(fn.arguments[2], fn.arguments[1])
    return found
