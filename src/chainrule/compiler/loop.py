"""A step that runs many times in one call: the training loop, in machine code.

The states (parameters, an optimiser's memory) lie in the program, in the layout that its products
read; Python loads them before and reads them back after. Batches are rows that an index array
names; the last batch of an epoch may be shorter, and has a program of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .emit import I64, VOID, Module, Value
from .graph import Graph
from .memory import COUNT, FIRST, POINTERS, ROW
from .native import build, host
from .plan import Array as Placed
from .plan import Plan, Stream, plan
from .pool import Pool, pool, run_alone
from .program import ALONE, ENTRY, Frame, write_step
from .target import Target
from .threads import stop_requested

__all__ = ["Batches", "Loop", "batched"]

Array = Any
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
        self.plans: list[Plan] = []
        for graph in graphs:
            before = self.plans[-1] if self.plans else None
            made = plan(graph, bound, streams, kind=self.target.kind, after=before)
            self.plans.append(made)
        module = Module(self.target)
        names = [write_step(module, made, f"{'fs'[k]}") for k, made in enumerate(self.plans)]
        _write_loop(module, names, batches)
        self.ir = module.text()
        self.library = build(self.ir, self.target if target else None, cache)
        self.entry = self.library.address("entry")
        self.inputs, self.outputs = len(graphs[0].inputs), len(graphs[0].outputs)
        self.frame = Frame(self.plans, self.inputs + self.outputs)
        self.states: dict[int, Placed] = {
            array.slot: array for array in self.plans[0].arrays if array.kind == "state"
        }
        _demand_same_places(self.plans, self.states)
        self._states = max((a.offset + a.bytes for a in self.states.values()), default=0)
        work = max(made.work for made in self.plans)
        some = pool(threads) if work > ALONE else None
        self.pool: Pool | None = some if some is not None and some.threads > 1 else None
        self._alive: dict[int, Array] = {}

    def give(self, place: int, value: Array) -> None:
        """The value of an input: copied where it is a state, else read where it lies."""
        if place in self.states:
            self.frame.write(self.states[place], value)
            return
        node = self.plans[0].graph.nodes[self.plans[0].graph.inputs[place]]
        self._point(place, np.ascontiguousarray(value, node.dtype))

    def take(self, place: int) -> Array:
        """A copy of a state."""
        return self.frame.read(self.states[place])

    def snapshot(self) -> Array:
        """The states' memory as it is now."""
        return self.frame.arena[: self._states].copy()

    def restore(self, snapshot: Array) -> None:
        """The states as they were."""
        self.frame.arena[: self._states] = snapshot

    def finite(self, places: Iterable[int]) -> bool:
        """Whether no number of these states is infinite or NaN."""
        return all(np.isfinite(self.take(place)).all() for place in places)

    def into(self, output: int, array: Array) -> None:
        """The memory that an output goes to, a row a step where it streams."""
        self._point(self.inputs + output, array)

    def _point(self, slot: int, array: Array) -> None:
        self._alive[slot] = array
        self.frame.context[POINTERS + slot] = array.ctypes.data

    def run(self, first: int, count: int, position: int, row: int) -> int:
        """`count` steps; `first` and `row` are the places in the streams, `position` in the epoch.

        Returns the steps done: fewer where a stop was requested.
        """
        context = self.frame.context
        context[FIRST], context[COUNT], context[POSITION], context[ROW] = first, count, position, row
        if self.pool is None:
            run_alone(self.entry, self.frame.address)
        else:
            self.pool.run(self.entry, self.frame.address)
        return int(context[DONE])


def _demand_same_places(plans: Sequence[Plan], states: Mapping[int, Placed]) -> None:
    for made in plans[1:]:
        for array in made.arrays:
            if array.kind == "state":
                other = states[array.slot]
                same = (array.offset, array.strides, array.panels) == (
                    other.offset, other.strides, other.panels,
                )  # fmt: skip
                assert same, "both programs of a loop lay out a state alike"


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
