"""Kernels that are loops: elementwise maps, rows with reductions along them, sums over rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .emit import I64, Function, Module, Value
from .expression import Builder, Expr, emit, llvm_type, loads
from .formulas import Formulas, Given, Index
from .memory import Cursor, kernel_function, width
from .plan import Access, Kernel, Plan

__all__ = ["combined", "identity", "write_map", "write_reduce", "write_rows"]

BLOCKS = 8  # vectors of a row that stay in registers
WAYS = 4  # accumulators of a sum: as many additions are under way


def _keys(exprs: Sequence[Expr]) -> list[Any]:
    """The accesses that expressions load from."""
    return [key for expr in exprs for key in loads(expr) if not isinstance(key, Given)]


def store_access(plan: Plan, kernel: Kernel, number: int) -> Access:
    """Where a kernel stores a member, over the kernel's domain."""
    return plan.access(number, kernel.group.place[number], len(kernel.group.domain))


def _dtypes(plan: Plan, kernel: Kernel, exprs: Sequence[Expr]) -> list[np.dtype[Any]]:
    return [e.dtype for e in exprs] + [
        plan.arrays[k.array].dtype for k in _keys(exprs) if isinstance(k, Access)
    ]


def _vector_axis(domain: Sequence[int], stores: Sequence[Any], reads: Sequence[Any]) -> int:
    """The axis along which most of the memory lies next to each other; −1 for a single number."""
    score = [0] * len(domain)
    for several, weight in ((stores, 3), (reads, 2)):
        for access in several:
            for d, stride in enumerate(access.strides):
                score[d] += weight * (stride == 1 and domain[d] > 1)
    wide = [d for d, n in enumerate(domain) if n > 1]
    return max(wide, key=lambda d: (score[d], d)) if wide else -1


class _Nest:
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
    reads = list(dict.fromkeys(_keys(exprs)))
    inner = _vector_axis(kernel.group.domain, stores, reads)
    nest = _Nest(fn, kernel, inner, [*stores, *reads])
    lanes = width(fn, _dtypes(plan, kernel, exprs)) if inner >= 0 else 0

    def body(cursor: Cursor) -> None:
        if inner < 0:
            _block(fn, cursor, exprs, stores, 0, 0, None, {})
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
            _block(fn, cursor.moved(index, inner), exprs, stores, inner, lanes, None, fixed)

        def single(index: Value, _: list[Value]) -> None:
            _block(fn, cursor.moved(index, inner), exprs, stores, inner, 0, None, fixed)

        if padded:
            fn.loop(stop, [], vector, start=start, step=lanes)
        elif isinstance(start, int) and isinstance(stop, int):
            whole = stop - stop % lanes
            fn.loop(whole, [], vector, start=start, step=lanes)
            fn.loop(stop, [], single, start=whole)
        else:
            start, stop = _value(start), _value(stop)
            count = fn.sub(stop, start)
            even = fn.binary("and", count, fn.const(-lanes, I64))
            whole_ = fn.add(start, even)
            fn.loop(whole_, [], vector, start=start, step=lanes)
            fn.loop(stop, [], single, start=whole_)

    outer = [d for d in nest.order if d != inner]
    nest.around(Cursor(fn, plan, [*stores, *reads]), outer, body)
    fn.finish()


def _value(x: Value | int) -> Value:
    return Value(str(x), I64) if isinstance(x, int) else x


def _fixed(
    fn: Function, cursor: Cursor, exprs: Sequence[Expr], axis: int, lanes: int
) -> dict[Any, Value]:
    """What does not change along the innermost axis, loaded before its loop: a number each."""
    found: dict[Any, Value] = {}
    for key in dict.fromkeys(_keys(exprs)):
        if isinstance(key, Access) and key.strides[axis] == 0:
            found[key] = cursor.read(key, axis, 0)
    return found


def _block(
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
    values = _evaluated(fn, cursor, exprs, axis, lanes, mask, given)
    for access, value in zip(stores, values, strict=False):
        cursor.write(access, axis, value, mask)
    return values


def _evaluated(
    fn: Function,
    cursor: Cursor,
    exprs: Sequence[Expr],
    axis: int,
    lanes: int,
    mask: Value | None,
    given: dict[Any, Value],
) -> list[Value]:
    def load(key: Any, dtype: Any) -> Value:
        known = given.get(key)
        if known is not None:
            return known if known.type.lanes == lanes else fn.splat(known, lanes)
        return cursor.read(key, axis, lanes, mask)

    return emit(fn, exprs, load, lanes)


# -- reductions -------------------------------------------------------------------------------


def identity(kind: str, dtype: np.dtype[Any]) -> Any:
    """What changes nothing: −0 for sums of floats, the far end for max and min."""
    if kind == "sum":
        return -0.0 if dtype.kind == "f" else 0
    if dtype.kind == "f":
        return -np.inf if kind == "max" else np.inf
    if dtype.kind == "b":
        return kind == "min"
    info = np.iinfo(dtype)
    return info.min if kind == "max" else info.max


def combined(fn: Function, kind: str, dtype: np.dtype[Any], a: Value, b: Value) -> Value:
    """a + b, or the larger or smaller of the two, as NumPy's reductions take it."""
    builder = Builder()
    x, y = builder.load(0, dtype), builder.load(1, dtype)
    expr = {"sum": builder.add, "max": builder.maximum, "min": builder.minimum}[kind](x, y)
    return emit(fn, [expr], lambda key, _: (a, b)[key], a.type.lanes)[0]


def across(fn: Function, kind: str, dtype: np.dtype[Any], vector: Value) -> Value:
    """All lanes of a vector combined, in a tree."""
    lanes = vector.type.lanes
    while lanes > 1:
        half = lanes // 2
        low = fn.shuffle(vector, vector, list(range(half)))
        high = fn.shuffle(vector, vector, list(range(half, lanes)))
        vector, lanes = combined(fn, kind, dtype, low, high), half
    return fn.extract(vector, 0) if vector.type.lanes else vector


def combined_tree(fn: Function, kind: str, dtype: np.dtype[Any], parts: list[Value]) -> Value:
    """All of the parts combined, in pairs."""
    while len(parts) > 1:
        pairs = [parts[k : k + 2] for k in range(0, len(parts), 2)]
        parts = [p[0] if len(p) == 1 else combined(fn, kind, dtype, *p) for p in pairs]
    return parts[0]


def _start(fn: Function, kind: str, dtype: np.dtype[Any], lanes: int) -> Value:
    return fn.const(identity(kind, dtype), llvm_type(dtype).of(lanes))


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
        self.lanes = width(self.fn, _dtypes(plan, kernel, self._wide_exprs()))

    def _levels(self) -> dict[int, int]:
        """How many reductions one after the other a member waits for."""
        level: dict[int, int] = {}
        for number in self.group.members:
            found = 0
            for below in self._inputs(number):
                if below in level:
                    found = max(found, level[below] + (below in self.group.over))
            level[number] = found
        return level

    def _inputs(self, number: int) -> list[int]:
        """The members behind a node's operands."""
        found, todo = [], list(self.nodes[number].inputs)
        while todo:
            root = self.plan.sources[todo.pop()].root
            if root in self.plan.lazy and root not in self.group.members:
                todo += self.nodes[root].inputs
            else:
                found.append(root)
        return found

    def accesses(self) -> tuple[list[Any], list[Access]]:
        """What is read and what is stored."""
        numbers = [n for n in self.uniform if n not in self.group.over]
        alone = [self.own(n) for n in numbers]
        stores = [store_access(self.plan, self.kernel, n) for n in self.kernel.stores]
        return list(dict.fromkeys(_keys([*self._wide_exprs(), *alone]))), stores

    def _wide_exprs(self) -> list[Expr]:
        """The expressions that are computed for every element of a row."""
        wide = [n for n in self.kernel.stores if n in self.varies]
        exprs = [self.formulas.of(n) for n in wide]
        return exprs + [self.formulas.operand(n) for n in self.reductions]

    def write(self) -> None:
        """The loops over rows."""
        fn, plan, kernel = self.fn, self.plan, self.kernel
        reads, stores = self.accesses()
        nest = _Nest(fn, kernel, self.inner, [*stores, *reads], (self.inner,))
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
        fn, known = self.fn, _Known()
        last = max(self.level.values())
        short = self.columns <= BLOCKS * self.lanes
        blocks: list[dict[Any, Any]] = [{} for _ in range(-(-self.columns // self.lanes))]
        for level in range(last + 1):
            for number in self.uniform:
                if number not in self.group.over and self.level[number] == level:
                    expr = self.own(number)
                    known[Given(number)] = _evaluated(fn, cursor, [expr], 0, 0, None, known)[0]
                    if number in self.kernel.stores:
                        access = store_access(self.plan, self.kernel, number)
                        cursor.write(access, 0, known[Given(number)])
            stores = [n for n in self.kernel.stores if n in self.varies and self.level[n] == level]
            reductions = [n for n in self.reductions if self.level[n] == level]
            if stores or reductions:
                pass_ = self._short if short else self._long
                pass_(cursor, stores, reductions, known, blocks)
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
        exprs = [self.formulas.of(n) for n in stores]
        exprs += [self.formulas.operand(n) for n in reductions]
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
        return self.fn.select(mask, value, _start(self.fn, node.op, node.dtype, self.lanes))

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
        blocks: list[dict[Any, Any]],
    ) -> None:
        """A row in a loop; what an earlier level stored is read back, the rest computed again."""
        fn, inner, lanes = self.fn, self.inner, self.lanes
        level = max(self.level[n] for n in [*stores, *reductions])
        self.formulas.stored = {
            n for n in self.kernel.stores if n in self.varies and self.level[n] < level
        }
        self.formulas.forget()
        exprs = [self.formulas.of(n) for n in stores]
        exprs += [self.formulas.operand(n) for n in reductions]
        places = [store_access(self.plan, self.kernel, n) for n in stores]
        needed = Cursor(fn, self.plan, [])
        needed.at = dict(cursor.at)
        # What is read back was not among the cursor's accesses: its store's address serves.
        given = {
            **known,
            **{
                key: needed.read(key, inner, 0)
                for key in dict.fromkeys(_keys(exprs))
                if isinstance(key, Access) and key.strides[inner] == 0
            },
        }
        ways = WAYS if self.columns >= WAYS * lanes else 1
        starts = [
            _start(fn, self.nodes[n].op, self.nodes[n].dtype, lanes)
            for n in reductions
            for _ in range(ways)
        ]

        def block(here: Cursor, way: int, mask: Value | None, carried: list[Value]) -> None:
            values = _block(fn, here, exprs, places, inner, lanes, mask, given)
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


class _Known(dict[Any, Value]):
    """Numbers of the row that is being computed."""


def write_rows(module: Module, plan: Plan, kernel: Kernel, name: str) -> None:
    """Rows with reductions along them: softmax and its relatives."""
    from .abreast import Abreast, abreast

    rows = Rows(module, plan, kernel, name)
    if abreast(plan, kernel, rows.lanes):
        rows = Abreast(module, plan, kernel, name)
    rows.write()


def write_reduce(module: Module, plan: Plan, kernel: Kernel, name: str) -> None:
    """Sums (or maxima, minima) over the group's reduced axes, then what follows from them."""
    fn = kernel_function(module, name)
    group, nodes = kernel.group, plan.graph.nodes
    formulas = Formulas(plan, group)
    reductions = [n for n in group.members if n in group.over]
    formulas.given = set(reductions)
    operands = [formulas.operand(n) for n in reductions]
    before = [n for n in kernel.stores if n not in group.after]
    wide = [formulas.of(n) for n in before]
    after = [n for n in kernel.stores if n in group.after]
    finals = [formulas.of(n) for n in after]
    places = {n: store_access(plan, kernel, n) for n in kernel.stores}
    reads = list(dict.fromkeys(_keys([*operands, *wide, *finals])))
    inside = list(dict.fromkeys(_keys([*operands, *wide])))
    inner = _vector_axis(group.domain, [places[n] for n in before], inside)
    lanes = width(fn, _dtypes(plan, kernel, [*operands, *wide, *finals]))
    accesses = [*places.values(), *reads]
    nest = _Nest(fn, kernel, inner, accesses, reduced=group.reduced)
    reduced = [d for d in nest.order if d in group.reduced]
    kept = [d for d in nest.order if d not in group.reduced]
    along = inner in reduced
    cursor = Cursor(fn, plan, accesses)

    def total(here: Cursor, vector: int) -> None:
        """All of the reduced axes at one point, or one vector, of the kept ones."""
        axes = [d for d in reduced if d != inner or not along]
        starts = [
            _start(fn, nodes[n].op, nodes[n].dtype, lanes if along else vector)
            for n in reductions
            for _ in range(WAYS)
        ]

        def block(
            there: Cursor, count: int, way: int, mask: Value | None, carried: list[Value]
        ) -> None:
            stores = [places[n] for n in before]
            values = _block(fn, there, [*wide, *operands], stores, inner, count, mask, {})
            for r, (number, value) in enumerate(zip(reductions, values[len(wide) :], strict=True)):
                node = nodes[number]
                if mask is not None:
                    value = fn.select(mask, value, _start(fn, node.op, node.dtype, count))
                at = r * WAYS + way
                carried[at] = combined(fn, node.op, node.dtype, carried[at], value)

        def innermost(there: Cursor, axis: int, n: int, step: int, carried: list[Value]) -> Any:
            """`n` elements of an axis, `step` at a time, in several ways."""
            count = lanes if along else vector

            def turn(index: Value, values: list[Value]) -> list[Value]:
                values = list(values)
                moved = there.moved(index, axis)
                for way in range(WAYS):
                    block(moved.moved(way * step, axis), count, way, None, values)
                return values

            whole = n - n % (WAYS * step)
            carried = fn.loop(whole, carried, turn, step=WAYS * step)
            at, way = whole, 0
            while at < n:
                mask = fn.first_lanes(n - at, lanes) if n - at < step else None
                block(there.moved(at, axis), count, way % WAYS, mask, carried)
                at, way = at + step, way + 1
            return carried

        def nested(there: Cursor, left: list[int], carried: list[Value]) -> list[Value]:
            if along and not left:
                return innermost(there, inner, nest.extent[inner], lanes, carried)  # type: ignore[no-any-return]
            if not along and len(left) == 1:
                return innermost(there, left[0], nest.extent[left[0]], 1, carried)  # type: ignore[no-any-return]
            return fn.loop(
                nest.extent[left[0]],
                carried,
                lambda index, values: nested(there.moved(index, left[0]), left[1:], list(values)),
            )

        carried = nested(here, axes, starts)
        known: dict[Any, Value] = {}
        for r, number in enumerate(reductions):
            node = nodes[number]
            vector_ = combined_tree(fn, node.op, node.dtype, carried[r * WAYS : (r + 1) * WAYS])
            known[Given(number)] = across(fn, node.op, node.dtype, vector_) if along else vector_
        _block(fn, here, finals, [places[n] for n in after], inner, vector, None, known)

    if along or inner < 0:
        nest.around(cursor, kept, lambda here: total(here, 0))
    else:

        def columns(here: Cursor) -> None:
            start, stop = nest.bounds(inner)
            padded = all(
                isinstance(a, Index) or a.strides[inner] == 0
                or (a.strides[inner] == 1 and plan.arrays[a.array].padded)
                for a in accesses
            )  # fmt: skip
            start, stop = _value(start), _value(stop)
            even = fn.binary("and", fn.sub(stop, start), fn.const(-lanes, I64))
            whole = stop if padded else fn.add(start, even)
            fn.loop(
                whole, [], lambda i, _: total(here.moved(i, inner), lanes), start=start, step=lanes
            )
            if not padded:
                fn.loop(stop, [], lambda i, _: total(here.moved(i, inner), 0), start=whole)

        nest.around(cursor, [d for d in kept if d != inner], columns)
    fn.finish()
