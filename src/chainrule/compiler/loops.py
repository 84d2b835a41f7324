"""Kernels that are loops over a domain: their nests, their blocks, and elementwise maps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .emit import I64, Function, Module, Value
from .expression import Expr, emit, loads
from .formulas import Formulas, Given, Index
from .memory import Cursor, kernel_function, width
from .plan import Access, Kernel, Plan

__all__ = [
    "Nest",
    "block_of",
    "dtypes_of",
    "evaluated",
    "keys_of",
    "store_access",
    "vector_axis",
    "word",
    "write_map",
]


def keys_of(exprs: Sequence[Expr]) -> list[Any]:
    """The accesses that expressions load from."""
    return [key for expr in exprs for key in loads(expr) if not isinstance(key, Given)]


def store_access(plan: Plan, kernel: Kernel, number: int) -> Access:
    """Where a kernel stores a member, over the kernel's domain."""
    return plan.access(number, kernel.group.place[number], len(kernel.group.domain))


def dtypes_of(plan: Plan, kernel: Kernel, exprs: Sequence[Expr]) -> list[np.dtype[Any]]:
    """The dtypes that a kernel's vectors hold: of its results and of what it loads."""
    return [e.dtype for e in exprs] + [
        plan.arrays[k.array].dtype for k in keys_of(exprs) if isinstance(k, Access)
    ]


def vector_axis(domain: Sequence[int], stores: Sequence[Any], reads: Sequence[Any]) -> int:
    """The axis along which most of the memory lies next to each other; −1 for a single number."""
    score = [0] * len(domain)
    for several, weight in ((stores, 3), (reads, 2)):
        for access in several:
            for d, stride in enumerate(access.strides):
                score[d] += weight * (stride == 1 and domain[d] > 1)
    wide = [d for d, n in enumerate(domain) if n > 1]
    return max(wide, key=lambda d: (score[d], d)) if wide else -1


class Nest:
    """The loops around a kernel's innermost one, with neighbouring axes made one where they can."""

    def __init__(
        self,
        fn: Function,
        kernel: Kernel,
        inner: int,
        accesses: Sequence[Any],
        keep: Sequence[int] = (),
        reduced: Sequence[int] = (),
    ) -> None:
        self.fn, self.kernel, self.inner = fn, kernel, inner
        domain = kernel.group.domain
        self.extent = {d: n for d, n in enumerate(domain) if n > 1}
        self.rows = kernel.axis  # the axis that the chunk runs along, after merging
        order = [d for d in self.extent if d != inner]
        if inner >= 0:
            order.append(inner)
        self.order: list[int] = []
        for d in order:
            outer = self.order[-1] if self.order else -1
            apart = outer < 0 or d == kernel.axis or d in keep or outer in keep
            apart = apart or (d in reduced) != (outer in reduced)
            if not apart and all(
                a.strides[outer] == a.strides[d] * self.extent[d] for a in accesses
            ):
                self.order.pop()
                self.extent[d] *= self.extent[outer]
                self.rows = d if outer == self.rows else self.rows
            self.order.append(d)

    def bounds(self, d: int) -> tuple[Value | int, Value | int]:
        """From where to where an axis runs in this chunk."""
        if d != self.rows or self.kernel.axis is None:
            return 0, self.extent[d]
        fn = self.fn
        rows = self.kernel.group.domain[self.kernel.axis]
        factor = self.extent[d] // rows
        lo, hi = fn.arguments[1], fn.arguments[2]
        if factor == 1:
            return lo, hi
        return fn.mul(lo, fn.const(factor, I64)), fn.mul(hi, fn.const(factor, I64))

    def around(self, cursor: Cursor, axes: Sequence[int], body: Callable[[Cursor], None]) -> None:
        """Loops over the axes, outermost first, then the body."""
        if not axes:
            body(cursor)
            return
        start, stop = self.bounds(axes[0])

        def inside(index: Value, _: list[Value]) -> None:
            self.around(cursor.moved(index, axes[0]), axes[1:], body)

        self.fn.loop(stop, [], inside, start=start)


def write_map(module: Module, plan: Plan, kernel: Kernel, name: str) -> None:
    """A loop: every stored member at every point of the domain."""
    fn = kernel_function(module, name)
    formulas = Formulas(plan, kernel.group)
    exprs = [formulas.of(n) for n in kernel.stores]
    stores = [store_access(plan, kernel, n) for n in kernel.stores]
    reads = list(dict.fromkeys(keys_of(exprs)))
    inner = vector_axis(kernel.group.domain, stores, reads)
    nest = Nest(fn, kernel, inner, [*stores, *reads])
    lanes = width(fn, dtypes_of(plan, kernel, exprs)) if inner >= 0 else 0

    def body(cursor: Cursor) -> None:
        if inner < 0:
            block_of(fn, cursor, exprs, stores, 0, 0, None, {})
            return
        start, stop = nest.bounds(inner)
        fixed = _fixed(fn, cursor, exprs, inner, lanes)
        padded = all(
            isinstance(a, Index) or a.strides[inner] != 1 or plan.arrays[a.array].padded
            for a in [*stores, *reads]
        ) and not any(
            not isinstance(a, Index) and a.strides[inner] not in (0, 1) for a in [*stores, *reads]
        )

        def vector(index: Value, _: list[Value]) -> None:
            block_of(fn, cursor.moved(index, inner), exprs, stores, inner, lanes, None, fixed)

        def single(index: Value, _: list[Value]) -> None:
            block_of(fn, cursor.moved(index, inner), exprs, stores, inner, 0, None, fixed)

        if padded:
            fn.loop(stop, [], vector, start=start, step=lanes)
        elif isinstance(start, int) and isinstance(stop, int):
            whole = stop - stop % lanes
            fn.loop(whole, [], vector, start=start, step=lanes)
            fn.loop(stop, [], single, start=whole)
        else:
            start, stop = word(start), word(stop)
            count = fn.sub(stop, start)
            even = fn.binary("and", count, fn.const(-lanes, I64))
            whole_ = fn.add(start, even)
            fn.loop(whole_, [], vector, start=start, step=lanes)
            fn.loop(stop, [], single, start=whole_)

    outer = [d for d in nest.order if d != inner]
    nest.around(Cursor(fn, plan, [*stores, *reads]), outer, body)
    fn.finish()


def word(x: Value | int) -> Value:
    """A bound as a value."""
    return Value(str(x), I64) if isinstance(x, int) else x


def _fixed(
    fn: Function, cursor: Cursor, exprs: Sequence[Expr], axis: int, lanes: int
) -> dict[Any, Value]:
    """What does not change along the innermost axis, loaded before its loop: a number each."""
    found: dict[Any, Value] = {}
    for key in dict.fromkeys(keys_of(exprs)):
        if isinstance(key, Access) and key.strides[axis] == 0:
            found[key] = cursor.read(key, axis, 0)
    return found


def block_of(
    fn: Function,
    cursor: Cursor,
    exprs: Sequence[Expr],
    stores: Sequence[Access],
    axis: int,
    lanes: int,
    mask: Value | None,
    given: dict[Any, Value],
) -> list[Value]:
    """Compute and store one vector, or one number, of every expression."""
    values = evaluated(fn, cursor, exprs, axis, lanes, mask, given)
    for access, value in zip(stores, values, strict=False):
        cursor.write(access, axis, value, mask)
    return values


def evaluated(
    fn: Function,
    cursor: Cursor,
    exprs: Sequence[Expr],
    axis: int,
    lanes: int,
    mask: Value | None,
    given: dict[Any, Value],
) -> list[Value]:
    """The values of expressions for one vector, or one number; what is given is not loaded."""

    def load(key: Any, dtype: Any) -> Value:
        known = given.get(key)
        if known is not None:
            return known if known.type.lanes == lanes else fn.splat(known, lanes)
        return cursor.read(key, axis, lanes, mask)

    return emit(fn, exprs, load, lanes)
