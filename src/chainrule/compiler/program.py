"""Programs: a schedule as one module of machine code, and the memory that it runs in."""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..errors import ShapeError
from .abreast import write_rows
from .alike import share
from .emit import I64, PTR, VOID, Function, Module, Value
from .graph import Graph, Shape
from .loops import write_map
from .memory import ARENA, ARGUMENTS, COUNT, FIRST, POINTERS, ROW
from .moves import ERROR, MOVES
from .native import Library, build, host
from .plan import Kernel, Lane, Plan, plan
from .pool import Pool, pool
from .product import write_product
from .registers import fits, write_registers
from .sums import write_reduce
from .target import Target
from .threads import LINE, SYNC_BYTES, phase

__all__ = ["Program", "memory_of", "write_entry", "write_step"]

Array = Any
# Nanoseconds of work below which a second core costs more than it brings: a thread that sleeps
# since the last call takes some hundred microseconds to wake.
ALONE = 400_000.0
HUGE = 1 << 21
MANY = 64  # nodes


def write_step(module: Module, made: Plan, prefix: str) -> str:
    """All kernels of a plan and the function of one step, whose name is returned."""
    for several in made.phases:
        for lane in several:
            for kernel in lane.kernels:
                _write_kernel(module, made, kernel, lane, f"{prefix}{kernel.number}")
    share(module, prefix)
    calls = [
        [_write_lane(module, lane, prefix, f"{prefix}p{p}l{k}") for k, lane in enumerate(lanes)]
        for p, lanes in enumerate(made.phases)
    ]
    name = f"{prefix}step"
    arguments = [
        (PTR, "ctx"), (PTR, "sync"), (I64, "tid"), (I64, "threads"), (I64, "step"), (I64, "row"),
    ]  # fmt: skip
    fn = module.function(name, arguments, inline=False)
    context, sync, tid, threads, step, row = fn.arguments
    for lanes, names in zip(made.phases, calls, strict=True):
        total = sum(lane.chunks for lane in lanes)

        def body(index: Value, lanes: Any = lanes, names: Any = names) -> None:
            _dispatch(fn, index, lanes, names, [context, step, row])

        phase(fn, sync, tid, threads, total, body)
    fn.finish()
    return name


def _dispatch(
    fn: Function, index: Value, lanes: Sequence[Lane], names: Sequence[str], rest: list[Value]
) -> None:
    """The chunk with this number, among all lanes' chunks."""
    context, step, row = rest
    if len(lanes) == 1:
        fn.call(names[0], VOID, [context, index, step, row])
        return
    end, first = fn.fresh("done"), 0
    for k, (lane, name) in enumerate(zip(lanes, names, strict=True)):
        own = fn.sub(index, fn.const(first, I64)) if first else index
        first += lane.chunks
        if k == len(lanes) - 1:
            fn.call(name, VOID, [context, own, step, row])
            continue
        yes, no = fn.fresh("lane"), fn.fresh("other")
        here = fn.compare("slt", index, fn.const(first, I64))
        fn.line(f"br {here}, label %{yes}, label %{no}")
        fn.label(yes)
        fn.call(name, VOID, [context, own, step, row])
        fn.line(f"br label %{end}")
        fn.label(no)
    fn.line(f"br label %{end}")
    fn.label(end)


def _write_lane(module: Module, lane: Lane, prefix: str, name: str) -> str:
    """One chunk through all kernels of a lane."""
    fn = module.function(name, [ARGUMENTS[0], (I64, "index"), *ARGUMENTS[3:]], inline=False)
    context, index, step, row = fn.arguments
    lo = fn.mul(index, fn.const(lane.chunk, I64))
    hi = fn.add(lo, fn.const(lane.chunk, I64))
    if lane.rows % lane.chunk:
        hi = fn.intrinsic("smin", hi, fn.const(lane.rows, I64))
    for kernel in lane.kernels:
        fn.call(f"{prefix}{kernel.number}", VOID, [context, lo, hi, step, row])
    fn.finish()
    return name


def _write_kernel(module: Module, made: Plan, kernel: Kernel, lane: Lane, name: str) -> None:
    kind = kernel.group.kind
    if kind == "matmul":
        write_product(module, made, kernel, name, lane.chunk)
    elif kind in MOVES:
        MOVES[kind](module, made, kernel, name)
    else:
        write = {"map": write_map, "rows": write_rows, "reduce": write_reduce}[kind]
        write(module, made, kernel, name)


ENTRY = [(PTR, "ctx"), (PTR, "sync"), (I64, "tid"), (I64, "threads")]


def write_entry(module: Module, step: str, name: str) -> None:
    """`name(ctx, sync, tid, threads)`: as many steps as the context says."""
    fn = module.function(name, ENTRY, internal=False)
    context, sync, tid, threads = fn.arguments
    first = fn.load(fn.at(context, FIRST, I64), I64)
    count = fn.load(fn.at(context, COUNT, I64), I64)
    row = fn.load(fn.at(context, ROW, I64), I64)

    def one(index: Value, _: list[Value]) -> None:
        fn.call(step, VOID, [context, sync, tid, threads, fn.add(first, index), row])

    fn.loop(count, [], one)
    fn.finish()


def write_alone(module: Module, made: Plan, prefix: str) -> dict[int, str]:
    """For each kernel an entry that runs it `count` times over all of its rows, to be timed."""
    names = {}
    for lanes in made.phases:
        for lane in lanes:
            for kernel in lane.kernels:
                name = names[kernel.number] = f"{prefix}{kernel.number}.alone"
                fn = module.function(name, ENTRY, internal=False)
                _repeat(fn, lane, f"{prefix}{kernel.number}")
    return names


def _repeat(fn: Function, lane: Lane, kernel: str) -> None:
    """All chunks of one kernel, `count` times."""
    context, zero, rows = fn.arguments[0], fn.const(0, I64), fn.const(lane.rows, I64)

    def chunk(lo: Value, _: list[Value]) -> None:
        hi = fn.intrinsic("smin", fn.add(lo, fn.const(lane.chunk, I64)), rows)
        fn.call(kernel, VOID, [context, lo, hi, zero, zero])

    def turn(_: Value, __: list[Value]) -> None:
        fn.loop(lane.rows, [], chunk, step=lane.chunk)

    fn.loop(fn.load(fn.at(context, COUNT, I64), I64), [], turn)
    fn.finish()


# -- memory -----------------------------------------------------------------------------------


def memory_of(size: int) -> np.ndarray[Any, Any]:
    """Zeroed bytes at a cache line, in huge pages where they are many."""
    if size < HUGE:
        raw = np.zeros(size + 128, np.uint8)
        start = -raw.ctypes.data % 128
        return raw[start : start + size]
    whole = mmap.mmap(-1, size + HUGE)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        whole.madvise(mmap.MADV_HUGEPAGE)
    raw = np.frombuffer(whole, np.uint8)
    start = -raw.ctypes.data % HUGE
    return raw[start : start + size]


class Frame:
    """What one call of a program works in: its context and its arena."""

    def __init__(self, plans: Sequence[Plan], words: int, arena: int = 0) -> None:
        size = max([arena, *[made.arena for made in plans]])
        self.arena = memory_of(max(64, size))
        table = memory_of(8 * (POINTERS + words))
        self.context = table.view(np.int64)
        self.address = int(self.context.ctypes.data)
        # The same memory for quick access: ctypes' words take a third of an array's time.
        self.words = (ctypes.c_int64 * (POINTERS + words)).from_address(self.address)
        self.context_ = ctypes.c_void_p(self.address)
        self.context[ARENA] = self.arena.ctypes.data
        self._views: dict[int, tuple[Any, Array]] = {}  # by the record's id, which it keeps
        self.context[COUNT] = 1
        for made in plans:
            for array in made.arrays:
                if array.kind == "constant":
                    self.write(array, array.value)

    def _view(self, array: Any) -> np.ndarray[Any, Any]:
        """An array of the arena in its own strides; one in panels as (panel, row, column)."""
        found = self._views.get(id(array))
        if found is None:
            found = self._views[id(array)] = array, self._made_view(array)
        return found[1]

    def _made_view(self, array: Any) -> np.ndarray[Any, Any]:
        item = array.dtype.itemsize
        flat = self.arena[array.offset : array.offset + array.bytes].view(array.dtype)
        column, width = array.panels
        if column >= 0:
            return flat.reshape(-1, array.shape[1 - column], width)  # type: ignore[no-any-return]
        strides = tuple(s * item for s in array.strides)
        return np.lib.stride_tricks.as_strided(flat, array.shape, strides)

    def inside(self, array: Any) -> Array:
        """An array of the arena where it lies, its axes in some order, perhaps with its padding."""
        return self._view(array)

    def write(self, array: Any, value: Array) -> None:
        """Copy a value into the arena."""
        view, (column, width) = self._view(array), array.panels
        if column < 0:
            view[...] = value
            return
        rows = np.moveaxis(np.asarray(value), column, 1)  # (row, column)
        for panel, start in enumerate(range(0, rows.shape[1], width)):
            part = rows[:, start : start + width]
            view[panel, :, : part.shape[1]] = part

    def read(self, array: Any) -> Array:
        """A copy of a value in the arena."""
        view, (column, _) = self._view(array), array.panels
        if column < 0:
            return view.copy()
        whole = view.transpose(1, 0, 2).reshape(view.shape[1], -1)[:, : array.shape[column]]
        return np.ascontiguousarray(np.moveaxis(whole, 1, column))


def _where_data_lies() -> Callable[[Sequence[Array]], list[Any]]:
    """The quickest way to the addresses of arrays' elements.

    `ctypes.data` builds an object for each answer. In NumPy's binary interface the address is the
    first word after the object's header, so that it can be read there; not where Python is built
    in a way that a look at some arrays does not confirm.
    """
    after, word = object.__basicsize__, ctypes.c_size_t.from_address

    def quick(arrays: Sequence[Array]) -> list[int]:
        """Where the arrays' elements begin."""
        return [word(id(x) + after).value for x in arrays]

    def plain(arrays: Sequence[Array]) -> list[int]:
        """Where the arrays' elements begin."""
        return [int(x.ctypes.data) for x in arrays]

    probes = [np.arange(12.0), np.arange(12.0)[3:], np.arange(12)[::-1], np.zeros(())]
    fits = sys.implementation.name == "cpython" and quick(probes) == plain(probes)
    return quick if fits else plain


addresses_of = _where_data_lies()

_ALONE_CALL = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)
_SYNC = np.zeros(SYNC_BYTES + LINE, np.uint8)
# A single thread only reads of it, so all callers may share it.
_ALONE = ctypes.c_void_p(-(-_SYNC.ctypes.data // LINE) * LINE)


def _write_alone_call(module: Module) -> None:
    """`alone(ctx, sync)`: the entry on the calling thread; two arguments are quicker than four."""
    fn = module.function("alone", [(PTR, "ctx"), (PTR, "sync")], internal=False)
    fn.call("entry", VOID, [*fn.arguments, fn.const(0, I64), fn.const(1, I64)])
    fn.finish()


def _straight(graph: Graph) -> bool:
    """Whether a circuit is many small values, for which loops would be more work than the values.

    A position that is known only when it runs may be out of bounds, which only kernels report.
    """
    picks = [node for node in graph.nodes if node.op in ("gather", "scatter_add")]
    fixed = all(graph.nodes[node.inputs[-1]].op == "constant" for node in picks)
    many = len(graph.nodes) - len(graph.inputs) > MANY
    return many and fixed and fits(graph)


class Program:
    """A graph in machine code, for one set of shapes. Calling it gives new arrays."""

    def __init__(
        self,
        graph: Graph,
        *,
        threads: int | None = None,
        target: Target | None = None,
        cache: bool = True,
    ) -> None:
        self.target = target or host()
        # The schedule; None for a circuit of many small values, which is straight-line code.
        self.plan: Plan | None = None
        self.arena = 0  # bytes
        module = Module(self.target)
        if _straight(graph):
            self.graph = graph
            alone: list[int | None] = [None] * len(graph.outputs)
            self.arena = write_registers(module, graph, alone, {}, "entry")
        else:
            self.plan = plan(graph, kind=self.target.kind)
            self.graph, self.arena = self.plan.graph, self.plan.arena
            write_entry(module, write_step(module, self.plan, "k"), "entry")
        _write_alone_call(module)
        self.ir = module.text()
        self.library: Library = build(self.ir, self.target if target else None, cache)
        self.entry = self.library.address("entry")
        self._alone = _ALONE_CALL(self.library.address("alone"))
        self.pool: Pool | None = None
        if self.plan is not None and self.plan.work > ALONE:
            some = pool(threads)
            self.pool = some if some.threads > 1 else None
        self._frames: list[Frame] = []
        self._inputs = [
            (node.shape, node.dtype, f"'{node.label}'" if node.label else str(place))
            for place, node in enumerate(self.graph.nodes[k] for k in self.graph.inputs)
        ]
        self._outputs = [
            (node.shape, node.dtype)
            for node in map(self.graph.nodes.__getitem__, self.graph.outputs)
        ]

    def __call__(self, inputs: Sequence[Array]) -> list[Array]:
        """The outputs for these inputs, whose shapes and dtypes are the graph's.

        Raises `ShapeError` where an input has another shape, `IndexError` where a gather's index is
        out of bounds.
        """
        return self._run([self._fitting(*pair) for pair in zip(inputs, self._inputs, strict=True)])

    def at_once(self, inputs: Sequence[Array]) -> list[Array] | None:
        """The outputs where each input is an array just as the machine code wants it; else None."""
        if len(inputs) != len(self._inputs):
            return None
        ndarray = np.ndarray
        for value, kind in zip(inputs, self._inputs, strict=False):
            if (
                value.__class__ is not ndarray
                or value.dtype is not kind[1]
                or value.shape != kind[0]
                or not value.flags.c_contiguous
            ):
                return None
        return self._run([*inputs])

    def _run(self, arrays: list[Array]) -> list[Array]:
        """On arrays that were looked at."""
        try:
            frame = self._frames.pop()
        except IndexError:
            plans = [] if self.plan is None else [self.plan]
            frame = Frame(plans, len(self._inputs) + len(self._outputs), self.arena)
        words = frame.words
        outputs = [np.empty(*kind) for kind in self._outputs]
        arrays += outputs  # whose memory must outlive the call
        words[POINTERS : POINTERS + len(arrays)] = addresses_of(arrays)
        if self.pool is None:
            self._alone(frame.context_, _ALONE)
        else:
            self.pool.run(self.entry, frame.address)
        wrong, words[ERROR] = words[ERROR], 0
        self._frames.append(frame)
        if wrong:
            raise self._out_of_bounds(wrong - 1)
        return outputs

    def _fitting(self, value: Array, kind: tuple[Shape, np.dtype[Any], str]) -> Array:
        """An input as the machine code wants it: its dtype, its elements in C order."""
        shape, dtype, name = kind
        if value.__class__ is np.ndarray and value.dtype is dtype and value.shape == shape:
            return value if value.flags.c_contiguous else np.ascontiguousarray(value)
        if shape == () and value.__class__ in (float, int, bool):
            return np.array(value, dtype)
        if np.shape(value) != shape:
            raise ShapeError(f"input {name} has shape {np.shape(value)}, but {shape} was compiled")
        return np.ascontiguousarray(value, dtype)

    def _out_of_bounds(self, number: int) -> Exception:
        """As NumPy says it; the node's number is the one in `graph`."""
        node = self.graph.nodes[number]
        source = self.graph.nodes[node.inputs[0]].shape if node.op == "gather" else node.shape
        axis = node.params["axis"]
        return IndexError(
            f"{node.op}: an index is out of bounds for axis {axis} with size {source[axis]}"
        )
