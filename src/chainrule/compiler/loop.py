"""A step that runs many times in one call: the training loop, in machine code.

The states (parameters, an optimiser's memory) lie in the program, in the layout that its products
read; Python loads them before and reads them back after. Batches are rows that an index array
names; the last batch of an epoch may be shorter, and has a program of its own.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from .emit import I64, VOID, Module, Value
from .graph import Graph
from .memory import COUNT, FIRST, POINTERS, ROW
from .native import build, host
from .plan import Array as Placed
from .plan import Plan, Stream, plan
from .pool import Pool, pool, run_alone
from .program import ENTRY, Frame, memory_of, write_step
from .registers import fits, write_registers
from .target import Target
from .threads import stop_requested

__all__ = ["Batches", "Loop", "batched"]

Array = Any
ALONE = 25_000.0  # nanoseconds of a step: between steps the other threads stay awake
TRY, AGAIN = 3, 8  # calls: the first that one thread does, and how often the other way is tried
EXPECTED = 0.75  # of one core's time: two should take about half
SLOW = 1.4  # times as long as the best: something is in the way
LEAST = 2e-3  # seconds of a call from which its speed is judged
POSITION, DONE = 4, 5  # the context's words: the first step's place in its epoch; steps done


@dataclass(frozen=True)
class Batches:
    """How an epoch is cut: `full` batches of `size` rows, then one of `rest` rows if any.

    `again` says that the rows of every epoch are the same, from row 0; else they go on.
    """

    size: int
    full: int
    rest: int
    again: bool

    @property
    def steps(self) -> int:
        """Batches an epoch."""
        return self.full + (self.rest > 0)


def batched(graph: Graph, gathered: Sequence[int], rows: int) -> Graph:
    """The graph with some inputs (by place) replaced by rows of larger arrays.

    Such an input of shape (b, …) becomes (rows, …), and a last input is added: b row numbers.
    """
    made, at = Graph(), {}
    slots = {graph.inputs[i]: i for i in gathered}
    size = graph.nodes[graph.inputs[gathered[0]]].shape[0]
    wholes: list[tuple[int, int]] = []
    for number in graph.inputs:
        node = graph.nodes[number]
        shape = (rows, *node.shape[1:]) if number in slots else node.shape
        at[number] = made.input(shape, node.dtype, node.label)
        made.nodes[at[number]].params = node.params
        if number in slots:
            wholes.append((number, at[number]))
    index = made.input((size,), np.int64, "rows")
    users = graph.users()
    for number, whole in wholes:
        node = graph.nodes[number]
        if not users[number]:
            continue
        at[number] = made.add(
            "gather", (whole, index), {"axis": 0}, shape=node.shape, dtype=node.dtype,
            label=node.label,
        )  # fmt: skip
    for number, node in enumerate(graph.nodes):
        if number in at:
            continue
        at[number] = made.add(
            node.op, [at[k] for k in node.inputs], node.params, shape=node.shape,
            dtype=node.dtype, label=node.label, origin=node.origin,
        )  # fmt: skip
    made.outputs = [at[k] for k in graph.outputs]
    return made


class Loop:
    """Steps of training as one program.

    `graphs` are those of a full batch and, where there is one, of the short batch. `bound[k]` is
    the input whose place output k takes; `streams` say how the other inputs and outputs move.
    """

    def __init__(
        self,
        graphs: Sequence[Graph],
        bound: Sequence[int | None],
        streams: Mapping[str, Sequence[Stream]],
        batches: Batches,
        *,
        threads: int | None = None,
        target: Target | None = None,
        cache: bool = True,
    ) -> None:
        self.target = target or host()
        self.bound, self.batches = list(bound), batches
        self.graphs = list(graphs)
        self.inputs, self.outputs = len(graphs[0].inputs), len(graphs[0].outputs)
        self.plans: list[Plan] = []
        self.pool: Pool | None = None
        self.streams, arena, meaning = streams, 0, ""
        self.tiny = len(graphs) == 1 and fits(graphs[0])
        if self.tiny:
            module = Module(self.target)
            arena = write_registers(module, graphs[0], bound, streams, "entry", batch=batches.size)
        else:
            self._plan()
            meaning = " ".join(g.fingerprint() for g in graphs)
            meaning += f" {bound} {streams} {batches}"
        write = module.text if self.tiny else self.text
        self.library = build(write, self.target if target else None, cache, meaning=meaning)
        self.entry = self.library.address("entry")
        self.frame = Frame(self.plans, self.inputs + self.outputs, arena)
        self.states: _States = _Apart(self, bound) if self.tiny else _Within(self.frame, self.plans)
        if not self.tiny and max(made.work for made in self.plans) > ALONE:
            some = pool(threads)
            self.pool = some if some.threads > 1 else None
        self.crew = Crew(max([made.work for made in self.plans], default=0.0) * 1e-9)
        self._alive: dict[int, Array] = {}
        graph = graphs[0]
        picked = {n.inputs[0] for n in graph.nodes if n.op == "gather"}
        moving = [stream.by != "fixed" for stream in streams.get("inputs", ())]
        # Inputs that every step reads as they are, and that are long enough for it to matter.
        self.often = {
            place
            for place, number in enumerate(graph.inputs)
            if number not in picked
            and not any(moving[place : place + 1])
            and graph.nodes[number].size * graph.nodes[number].dtype.itemsize >= 4096
        }

    def _plan(self) -> None:
        """The schedules of both batches."""
        for graph in self.graphs:
            before = self.plans[-1] if self.plans else None
            made = plan(graph, self.bound, self.streams, kind=self.target.kind, after=before)
            self.plans.append(made)

    def text(self) -> str:
        """The module: the kernels of both batches, and the loop around them."""
        module = Module(self.target)
        names = [write_step(module, made, "fs"[k]) for k, made in enumerate(self.plans)]
        _write_loop(module, names, self.batches)
        return module.text()

    def give(self, place: int, value: Array) -> None:
        """The value of an input: copied where it is a state, else read where it lies."""
        if place in self.states:
            self.states.write(place, value)
            return
        graph = self.graphs[0]
        number = graph.inputs[place]
        array = np.ascontiguousarray(value, graph.nodes[number].dtype)
        if place in self.often and array.ctypes.data % 64:
            # Read at every step: rows that begin in the middle of a cache line would cost two.
            line = memory_of(array.nbytes).view(array.dtype).reshape(array.shape)
            line[...] = array
            array = line
        self.point(place, array)

    def take(self, place: int) -> Array:
        """A copy of a state."""
        return self.states.read(place)

    def snapshot(self) -> Any:
        """The states as they are now."""
        return self.states.snapshot()

    def restore(self, snapshot: Any) -> None:
        """The states as they were."""
        self.states.restore(snapshot)

    def finite(self, places: Iterable[int]) -> bool:
        """Whether no number of these states is infinite or NaN."""
        return all(self.states.finite(place) for place in places)

    def into(self, output: int, array: Array) -> None:
        """The memory that an output goes to, a row a step where it streams."""
        self.point(self.inputs + output, array)

    def point(self, slot: int, array: Array) -> None:
        """Where an input (or, behind them, an output) lies."""
        self._alive[slot] = array
        self.frame.context[POINTERS + slot] = array.ctypes.data

    def run(self, first: int, count: int, position: int, row: int) -> int:
        """`count` steps; `first` and `row` are the places in the streams, `position` in the epoch.

        Returns the steps done: fewer where a stop was requested.
        """
        context = self.frame.context
        context[FIRST], context[COUNT] = first, count
        context[POSITION], context[ROW] = position, row
        together = self.pool is not None and self.crew.together()
        start = time.perf_counter()
        if together and self.pool is not None:
            self.pool.run(self.entry, self.frame.address)
        else:
            run_alone(self.entry, self.frame.address)
        self.crew.note(together, count, time.perf_counter() - start)
        return int(context[DONE])


class Crew:
    """Whether all threads work or one: the numbers are the same, so the quicker may be chosen.

    Where another program wants a core, a thread that it pushes aside holds up all others at the
    next barrier, and one thread alone may be quicker. That is tried when all together are slower
    than they should be, or than they have been; then all together are tried from time to time.
    """

    def __init__(self, work: float) -> None:
        self.work = work  # seconds a step that one core should take
        self.calls = 0
        self.alone = self.all = 0.0  # seconds a step, as last seen
        self.best = math.inf  # of all together
        self.single = False

    def together(self) -> bool:
        """For the next call."""
        self.calls += 1
        if self.calls == TRY and self.all > EXPECTED * self.work:
            return False
        if self.single:
            return self.calls % AGAIN == 0
        return not (self.all > SLOW * self.best and self.calls % AGAIN == 0)

    def note(self, together: bool, steps: int, seconds: float) -> None:
        """What a call of so many steps took; short ones tell nothing."""
        if seconds < LEAST or not steps:
            return
        if together:
            self.all = seconds / steps
            self.best = min(self.best, self.all)
        else:
            self.alone = seconds / steps
        if self.all and self.alone:
            self.single = self.alone < self.all


class _States(Protocol):
    """Where the values that a loop carries lie, by the places of their inputs."""

    def __contains__(self, place: object) -> bool: ...
    def write(self, place: int, value: Array) -> None: ...
    def read(self, place: int) -> Array: ...
    def finite(self, place: int) -> bool: ...
    def snapshot(self) -> Any: ...
    def restore(self, snapshot: Any) -> None: ...


class _Within(dict[int, Placed]):
    """States in the program's arena, in the layout that its products read."""

    def __init__(self, frame: Frame, plans: Sequence[Plan]) -> None:
        super().__init__({a.slot: a for a in plans[0].arrays if a.kind == "state"})
        self.frame = frame
        self.bytes = max((a.offset + a.bytes for a in self.values()), default=0)
        for made in plans[1:]:
            for array in made.arrays:
                if array.kind == "state":
                    one = self[array.slot]
                    assert (array.offset, array.strides, array.panels) == (
                        one.offset, one.strides, one.panels,
                    ), "both programs of a loop lay out a state alike"  # fmt: skip

    def write(self, place: int, value: Array) -> None:
        self.frame.write(self[place], value)

    def read(self, place: int) -> Array:
        return self.frame.read(self[place])

    def finite(self, place: int) -> bool:
        array = self[place]
        return _finite(self.frame.inside(array)) or _finite(self.frame.read(array))

    def snapshot(self) -> Array:
        return self.frame.arena[: self.bytes].copy()

    def restore(self, snapshot: Array) -> None:
        self.frame.arena[: self.bytes] = snapshot


def _finite(array: Array) -> bool:
    """Whether every number is: their sum, which is quicker, or else each of them."""
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(array.sum()) or np.isfinite(array).all())


class _Apart(dict[int, Array]):
    """States in arrays of their own, which a call reads at its start and writes at its end."""

    def __init__(self, loop: Loop, bound: Sequence[int | None]) -> None:
        graph = loop.graphs[0]
        nodes = {i: graph.nodes[graph.inputs[i]] for i in bound if i is not None}
        super().__init__({i: np.zeros(node.shape, node.dtype) for i, node in nodes.items()})
        for place, array in self.items():
            loop.frame.context[POINTERS + place] = array.ctypes.data

    def write(self, place: int, value: Array) -> None:
        self[place][...] = value

    def read(self, place: int) -> Array:
        return self[place].copy()

    def finite(self, place: int) -> bool:
        return _finite(self[place])

    def snapshot(self) -> dict[int, Array]:
        return {place: array.copy() for place, array in self.items()}

    def restore(self, snapshot: dict[int, Array]) -> None:
        for place, array in snapshot.items():
            self[place][...] = array


def _write_loop(module: Module, steps: Sequence[str], batches: Batches) -> None:
    """`entry(ctx, sync, tid, threads)`: the steps that the context asks for."""
    fn = module.function("entry", ENTRY, internal=False)
    context, sync, tid, threads = fn.arguments
    first = fn.load(fn.at(context, FIRST, I64), I64)
    count = fn.load(fn.at(context, COUNT, I64), I64)
    position = fn.load(fn.at(context, POSITION, I64), I64)
    row = fn.load(fn.at(context, ROW, I64), I64)
    zero, one = fn.const(0, I64), fn.const(1, I64)

    def turn(index: Value, carried: list[Value]) -> list[Value]:
        position, row, done = carried
        stop = stop_requested(fn, sync, threads)
        go = fn.binary("xor", stop, fn.const(1, stop.type))
        step = fn.add(first, index)
        arguments = [context, sync, tid, threads, step, row]
        rows: Value = fn.const(batches.size, I64)
        if len(steps) == 1:
            with fn.when(go):
                fn.call(steps[0], VOID, arguments)
        else:
            whole = fn.compare("slt", position, fn.const(batches.full, I64))
            rows = fn.select(whole, rows, fn.const(batches.rest, I64))
            with fn.when(fn.binary("and", go, whole)):
                fn.call(steps[0], VOID, arguments)
            short = fn.binary("xor", whole, fn.const(1, whole.type))
            with fn.when(fn.binary("and", go, short)):
                fn.call(steps[1], VOID, arguments)
        following = fn.add(position, one)
        ends = fn.compare("eq", following, fn.const(batches.steps, I64))
        following = fn.select(ends, zero, following)
        further = fn.add(row, rows)
        if batches.again:
            further = fn.select(ends, zero, further)
        done = fn.add(done, fn.convert("zext", go, I64))
        return [following, further, done]

    _, _, done = fn.loop(count, [position, row, zero], turn)
    with fn.when(fn.compare("eq", tid, zero)):
        fn.store(done, fn.at(context, DONE, I64))
    fn.finish()
