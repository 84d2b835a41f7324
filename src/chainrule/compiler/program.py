"""Programs: a schedule as one module of machine code, and the memory that it runs in."""

from __future__ import annotations

import ctypes
import mmap
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .emit import I64, PTR, VOID, Function, Module, Value
from .graph import Graph
from .loops import write_map, write_reduce, write_rows
from .memory import ARENA, ARGUMENTS, COUNT, FIRST, KERNEL, POINTERS, ROW
from .moves import MOVES
from .native import Library, build, host
from .plan import Kernel, Lane, Plan, Stream, plan
from .pool import Pool, pool, run_alone
from .product import write_product
from .target import Target
from .threads import phase

__all__ = ["Program", "memory_of", "write_entry", "write_step"]

Array = Any
ALONE = 25_000.0  # nanoseconds of work below which a second core costs more than it brings
HUGE = 1 << 21


def write_step(module: Module, made: Plan, prefix: str) -> str:
    """All kernels of a plan and the function of one step, whose name is returned."""
    for several in made.phases:
        for lane in several:
            for kernel in lane.kernels:
                _write_kernel(module, made, kernel, lane, f"{prefix}{kernel.number}")
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
                zero, rows = fn.const(0, I64), fn.const(lane.rows, I64)

                def chunk(lo: Value, _: Any, fn: Function = fn, k: Kernel = kernel) -> None:
                    hi = fn.intrinsic("smin", fn.add(lo, fn.const(lane.chunk, I64)), rows)  # noqa: B023
                    fn.call(f"{prefix}{k.number}", VOID, [fn.arguments[0], lo, hi, zero, zero])

                def turn(_: Value, __: Any, fn: Function = fn, chunk: Any = chunk) -> None:
                    fn.loop(lane.rows, [], chunk, step=lane.chunk)  # noqa: B023

                count = fn.load(fn.at(fn.arguments[0], COUNT, I64), I64)
                fn.loop(count, [], turn)
                fn.finish()
    return names


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

    def __init__(self, plans: Sequence[Plan], words: int) -> None:
        size = max(made.arena for made in plans)
        self.arena = memory_of(max(64, size))
        table = memory_of(8 * (POINTERS + words))
        self.context = table.view(np.int64)
        self.address = int(self.context.ctypes.data)
        self.context[ARENA] = self.arena.ctypes.data
        self.context[COUNT] = 1
        for made in plans:
            for array in made.arrays:
                if array.kind == "constant":
                    self.write(array, array.value)

    def _view(self, array: Any) -> np.ndarray[Any, Any]:
        """An array of the arena in its own strides; one in panels as (panel, row, column)."""
        item = array.dtype.itemsize
        flat = self.arena[array.offset : array.offset + array.bytes].view(array.dtype)
        column, width = array.panels
        if column >= 0:
            return flat.reshape(-1, array.shape[1 - column], width)  # type: ignore[no-any-return]
        strides = tuple(s * item for s in array.strides)
        return np.lib.stride_tricks.as_strided(flat, array.shape, strides)

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
        self.plan = plan(graph, kind=self.target.kind)
        self.graph = self.plan.graph
        module = Module(self.target)
        write_entry(module, write_step(module, self.plan, "k"), "entry")
        self.ir = module.text()
        self.library: Library = build(self.ir, self.target if target else None, cache)
        self.entry = self.library.address("entry")
        self.pool: Pool | None = None
        if self.plan.work > ALONE:
            some = pool(threads)
            self.pool = some if some.threads > 1 else None
        self._frames: list[Frame] = []
        self._lock = threading.Lock()
        self._inputs = [
            (node.shape, node.dtype) for node in map(self.graph.nodes.__getitem__, self.graph.inputs)
        ]
        self._outputs = [
            (node.shape, node.dtype)
            for node in map(self.graph.nodes.__getitem__, self.graph.outputs)
        ]

    def __call__(self, inputs: Sequence[Array]) -> list[Array]:
        """The outputs for these inputs, whose shapes and dtypes are the graph's."""
        with self._lock:
            frame = self._frames.pop() if self._frames else None
        if frame is None:
            frame = Frame([self.plan], len(self._inputs) + len(self._outputs))
        context, at, alive = frame.context, POINTERS, []
        for value, (shape, dtype) in zip(inputs, self._inputs, strict=True):
            array = np.ascontiguousarray(value, dtype)
            if array.shape != shape and not (array.size == 1 and shape == ()):
                raise AssertionError(f"an input of shape {array.shape} for {shape}")
            alive.append(array)
            context[at] = array.ctypes.data
            at += 1
        outputs = []
        for shape, dtype in self._outputs:
            array = np.empty(shape, dtype)
            outputs.append(array)
            context[at] = array.ctypes.data
            at += 1
        if self.pool is None:
            run_alone(self.entry, frame.address)
        else:
            self.pool.run(self.entry, frame.address)
        with self._lock:
            self._frames.append(frame)
        del alive
        return outputs


_ = (ctypes, Mapping, Stream, KERNEL)
