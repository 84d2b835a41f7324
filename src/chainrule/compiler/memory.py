"""Arrays in a kernel's code: their addresses, and how vectors of them are read and written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .emit import I64, PTR, Function, Type, Value
from .expression import llvm_type
from .formulas import Index
from .plan import Access, Plan

__all__ = [
    "ARENA",
    "ARGUMENTS",
    "COUNT",
    "FIRST",
    "POINTERS",
    "ROW",
    "Cursor",
    "base",
    "kernel_function",
    "stored_type",
    "width",
]

# The context that every kernel gets: a table of 8-byte words.
ARENA, FIRST, COUNT, ROW = 0, 1, 2, 3  # the arena, the first step, how many, its first row
POINTERS = 8  # from here on the pointers of inputs, then of outputs

ARGUMENTS = [
    (PTR, "ctx noalias"),
    (I64, "lo"),
    (I64, "hi"),
    (I64, "step"),
    (I64, "row"),
]


def kernel_function(module: Any, name: str) -> Function:
    """A kernel: rows lo … hi of its domain, at a step whose batch begins at `row`."""
    return module.function(name, ARGUMENTS, inline=False)  # type: ignore[no-any-return]


def stored_type(dtype: np.dtype[Any]) -> Type:
    """In memory a bool is a byte."""
    return Type("i8") if dtype.kind == "b" else llvm_type(dtype)


def width(fn: Function, dtypes: Sequence[np.dtype[Any]]) -> int:
    """The lanes of a kernel's vectors: those of its widest float, or integer where it has none."""
    floats = [d.itemsize for d in dtypes if d.kind == "f"]
    others = [d.itemsize for d in dtypes]
    return fn.target.lanes(8 * max(floats or others or [4]))


def base(fn: Function, plan: Plan, array: int) -> Value:
    """The address of an array's first element in this step."""
    one = plan.arrays[array]
    context, step, row = fn.arguments[0], fn.arguments[3], fn.arguments[4]
    if one.kind in ("arena", "state", "constant"):
        arena = fn.load(fn.at(context, ARENA, I64), PTR)
        return fn.at(arena, one.offset, Type("i8"))
    slot = POINTERS + one.slot + (len(plan.graph.inputs) if one.kind == "output" else 0)
    address = fn.load(fn.at(context, slot, I64), PTR)
    if one.stream.by == "fixed":
        return address
    count = step if one.stream.by == "step" else row
    moved = count if one.stream.stride == 1 else fn.mul(count, fn.const(one.stream.stride, I64))
    return fn.at(address, moved, stored_type(one.dtype))


class Cursor:
    """The addresses of some accesses at one point of a nest of loops."""

    def __init__(self, fn: Function, plan: Plan, accesses: Sequence[Any]) -> None:
        self.fn, self.plan = fn, plan
        self.at: dict[Any, Value] = {}
        bases: dict[int, Value] = {}
        for access in dict.fromkeys(accesses):
            if isinstance(access, Index):
                self.at[access] = fn.const(0, I64)
                continue
            if access.array not in bases:
                bases[access.array] = base(fn, plan, access.array)
            self.at[access] = fn.at(bases[access.array], access.offset, self.kind(access))

    def kind(self, access: Access) -> Type:
        """The type of one element in memory."""
        return stored_type(self.plan.arrays[access.array].dtype)

    def moved(self, index: Value | int, axis: int, factor: int = 1) -> Cursor:
        """The cursor `index` steps of `factor` further along an axis of the domain."""
        other = Cursor.__new__(Cursor)
        other.fn, other.plan, fn = self.fn, self.plan, self.fn
        other.at = {}
        scaled: dict[int, Value] = {}
        for access, place in self.at.items():
            stride = access.strides[axis] * factor
            panel = getattr(access, "panel", 0)
            if panel and axis == len(access.strides) - 1 and not isinstance(index, int):
                stride = panel
            if stride == 0 or (isinstance(index, int) and index == 0):
                other.at[access] = place
                continue
            if isinstance(index, int):
                offset: Value | int = index * stride
            else:
                if stride not in scaled:
                    one = stride == 1
                    scaled[stride] = index if one else fn.mul(index, fn.const(stride, I64))
                offset = scaled[stride]
            if isinstance(access, Index):
                offset = fn.const(offset, I64) if isinstance(offset, int) else offset
                other.at[access] = fn.add(place, offset)
            else:
                other.at[access] = fn.at(place, offset, self.kind(access))
        return other

    def read(self, access: Any, axis: int, lanes: int, mask: Value | None = None) -> Value:
        """Elements from here along an axis: a vector, or one number where lanes is 0.

        With a mask only its lanes are read from memory.
        """
        fn, stride = self.fn, access.strides[axis] if lanes else 0
        if isinstance(access, Index):
            number = fn.splat(self.at[access], lanes)
            if stride == 0:
                return number
            ramp = ", ".join(f"i64 {k * stride}" for k in range(lanes))
            return fn.add(number, Value(f"<{ramp}>", I64.of(lanes)))
        dtype = self.plan.arrays[access.array].dtype
        kind = stored_type(dtype)
        if stride == 0:
            return fn.splat(_loaded(fn, fn.load(self.at[access], kind), dtype), lanes)
        if stride == 1:
            vector = kind.of(lanes)
            if mask is None or self.plan.arrays[access.array].padded:
                return _loaded(fn, fn.load(self.at[access], vector), dtype)
            return _loaded(fn, fn.load_some(self.at[access], vector, mask), dtype)
        return self._gathered(access, stride, kind, dtype, lanes, mask)

    def _gathered(
        self, access: Access, stride: int, kind: Type, dtype: Any, lanes: int, mask: Value | None
    ) -> Value:
        fn = self.fn
        count = lanes if mask is None else mask.text.count("true")
        vector = Value("zeroinitializer", kind.of(lanes))
        for k in range(count):
            one = fn.load(fn.at(self.at[access], k * stride, kind), kind)
            vector = fn.insert(vector, one, k)
        return _loaded(fn, vector, dtype)

    def write(self, access: Access, axis: int, value: Value, mask: Value | None = None) -> None:
        """Store a vector along an axis, or one number."""
        fn = self.fn
        kind = self.kind(access)
        if value.type.base == "i1":
            value = fn.convert("zext", value, kind.of(value.type.lanes))
        if not value.type.lanes:
            fn.store(value, self.at[access])
        elif access.strides[axis] == 1:
            if mask is None or self.plan.arrays[access.array].padded:
                fn.store(value, self.at[access])
            else:
                fn.store_some(value, self.at[access], mask)
        else:
            count = value.type.lanes if mask is None else mask.text.count("true")
            for k in range(count):
                place = fn.at(self.at[access], k * access.strides[axis], kind)
                fn.store(fn.extract(value, k), place)


def _loaded(fn: Function, value: Value, dtype: np.dtype[Any]) -> Value:
    if dtype.kind != "b":
        return value
    zero = fn.const(0, value.type)
    return fn.compare("ne", value, zero)
