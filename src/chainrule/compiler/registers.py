"""Small circuits in registers: every array one vector value, a step straight-line code.

A training step of a tiny network keeps its state in registers from step to step and touches memory
only for what streams in and out. A circuit of many scalars is the same code cut into functions of
some hundred nodes, which hand values on through the arena.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .emit import I64, PTR, VOID, Function, Module, Type, Value
from .flat import Block
from .graph import Graph, Node
from .memory import ARENA, COUNT, FIRST, POINTERS, ROW, stored_type
from .plan import Stream
from .small import fits, work_of
from .threads import stop_requested
from .vectors import lanes_for, shuffled, size_of, views

__all__ = ["STEPS_DONE", "fits", "write_registers"]

STEPS_DONE = 5  # in the context: how many steps this call has made

IN_ONE = 2500  # instructions of one block: more are cut into functions
CHUNK = 700  # instructions of one such function
POLL = 1024  # steps between two looks for a request to stop

ENTRY = [(PTR, "ctx"), (PTR, "sync"), (I64, "tid"), (I64, "threads")]
PART = [(PTR, "ctx"), (PTR, "arena"), (I64, "step"), (I64, "row")]

# -- arrays in memory ---------------------------------------------------------------------------


def _pieces(size: int) -> list[tuple[int, int]]:
    """(start, length) of powers of two that make up an array, the longest first."""
    found, start = [], 0
    while start < size:
        length = 1 << (size - start).bit_length() - 1
        found.append((start, length))
        start += length
    return found


def _load(fn: Function, address: Value, node: Node) -> Value:
    """A whole array, and no byte beyond it."""
    kind, lanes = stored_type(node.dtype), lanes_for(size_of(node))
    out: Value | None = None
    for start, length in _pieces(size_of(node)):
        part = fn.load(fn.at(address, start, kind), kind.of(length if length > 1 else 0))
        if out is None:
            out = part if length in (lanes, 1) else fn.shuffle(part, part, _padded(length, lanes))
        elif length == 1:
            out = fn.insert(out, part, start)
        else:
            wide = fn.shuffle(part, part, _padded(length, lanes))
            mask = [lanes + k - start if start <= k < start + length else k for k in range(lanes)]
            out = fn.shuffle(out, wide, mask)
    assert out is not None
    if node.dtype.kind == "b":
        return fn.compare("ne", out, fn.const(0, out.type))
    return out


def _padded(length: int, lanes: int) -> list[int]:
    return [*range(length), *[-1] * (lanes - length)]


def _store(fn: Function, value: Value, address: Value, node: Node) -> None:
    """A whole array, and no byte beyond it."""
    kind = stored_type(node.dtype)
    if value.type.base == "i1":
        value = fn.convert("zext", value, kind.of(value.type.lanes))
    for start, length in _pieces(size_of(node)):
        whole = length == max(value.type.lanes, 1)
        part = value if whole else shuffled(fn, value, range(start, start + length))
        fn.store(part, fn.at(address, start, kind), kind.bytes)


class _Arrays:
    """The inputs and outputs of a graph: which are states, and where they are in a step."""

    def __init__(
        self,
        graph: Graph,
        bound: Sequence[int | None],
        streams: Mapping[str, Sequence[Stream]],
        batch: int,
    ) -> None:
        self.graph, self.batch = graph, batch
        self.slot = {number: k for k, number in enumerate(graph.inputs)}
        given = streams.get("inputs", ()), streams.get("outputs", ())
        self.inputs = [
            given[0][k] if k < len(given[0]) else Stream() for k in range(len(self.slot))
        ]
        count = len(graph.outputs)
        self.outputs = [given[1][k] if k < len(given[1]) else Stream() for k in range(count)]
        owner = [bound[k] if k < len(bound) else None for k in range(count)]
        self.states = {i: graph.outputs[k] for k, i in enumerate(owner) if i is not None}
        for i, number in self.states.items():
            old, new = graph.nodes[graph.inputs[i]], graph.nodes[number]
            assert (old.shape, old.dtype) == (new.shape, new.dtype), f"state {i}: {old}, {new}"
        self.free = [k for k, i in enumerate(owner) if i is None]
        self.places = views(graph)
        self.alive = self._needed()

    def _needed(self) -> set[int]:
        """What an output is made of, by number, without what only moves elements."""
        found: set[int] = set()
        waiting = [self.places[k].root for k in self.graph.outputs]
        while waiting:
            number = waiting.pop()
            if number not in found:
                found.add(number)
                waiting += self.reads(number)
        return found

    def reads(self, number: int) -> list[int]:
        """The roots behind a node's operands."""
        return [self.places[k].root for k in self.graph.nodes[number].inputs]

    def input_node(self, slot: int) -> Node:
        return self.graph.nodes[self.graph.inputs[slot]]

    def output_node(self, place: int) -> Node:
        return self.graph.nodes[self.graph.outputs[place]]

    def moves(self, slot: int) -> bool:
        """Whether an input is another memory at each step, or has been written at the last."""
        return slot in self.states or self.inputs[slot].by != "fixed"

    def input(self, fn: Function, context: Value, slot: int, step: Value, row: Value) -> Value:
        """The address of an input in this step."""
        base = fn.load(fn.at(context, POINTERS + slot, I64), PTR)
        return _streamed(fn, base, self.inputs[slot], self.input_node(slot), step, row)

    def output(self, fn: Function, context: Value, place: int, step: Value, row: Value) -> Value:
        """The address of an output that is no state."""
        base = fn.load(fn.at(context, POINTERS + len(self.slot) + place, I64), PTR)
        return _streamed(fn, base, self.outputs[place], self.output_node(place), step, row)


def _streamed(
    fn: Function, base: Value, stream: Stream, node: Node, step: Value, row: Value
) -> Value:
    if stream.by == "fixed" or not stream.stride:
        return base
    count = step if stream.by == "step" else row
    if stream.stride != 1:
        count = fn.mul(count, fn.const(stream.stride, I64))
    return fn.at(base, count, stored_type(node.dtype))


# -- programs -----------------------------------------------------------------------------------


def write_registers(
    module: Module,
    graph: Graph,
    bound: Sequence[int | None],
    streams: Mapping[str, Sequence[Stream]],
    name: str,
    *,
    batch: int = 0,
) -> int:
    """Write `void name(ptr ctx, ptr sync, i64 tid, i64 threads)`; the bytes of arena that it needs.

    It makes ctx[COUNT] steps from step ctx[FIRST] and row ctx[ROW], each step `batch` rows further,
    on thread 0; the other threads return. Inputs that neither stream nor are states are read once,
    before the first step. A state (input `bound[k]` of output k) is read before the first step and
    written after the last; outputs that do not stream are written for the last step only. Where no
    step is made nothing is written but ctx[STEPS_DONE].

    The caller sees to it that no output overlaps an input. A graph cut into several functions reads
    and writes the memory of states at each step.
    """
    arrays = _Arrays(graph, bound, streams, batch)
    work = sum(work_of(graph, graph.nodes[k]) for k in arrays.alive)
    if work <= IN_ONE:
        _Whole(module, arrays, name).write()
        return 0
    return _Parts(module, arrays, name).write()


def _align_stack(fn: Function) -> None:
    """An aligned object makes LLVM align the stack, so that no spilled vector lies in two cache
    lines: such a one takes three times as long to come back."""
    fn.line(f"%{fn.fresh('aligned')} = alloca i8, align {fn.target.kind.vector_bytes}")


class _Loop:
    """The function that makes the steps: who calls its methods in order fills in the rest."""

    def __init__(self, module: Module, arrays: _Arrays, name: str) -> None:
        self.arrays, self.graph = arrays, arrays.graph
        self.module, self.name = module, name
        self.fn = fn = module.function(name, ENTRY, internal=False)
        self.context, self.sync = fn.arguments[:2]
        self.labels = {k: fn.fresh(k) for k in ("start", "head", "again", "look", "end", "none")}
        self.out = fn.fresh("out")
        self.step, self.row = Value(f"%{fn.fresh('step')}", I64), Value(f"%{fn.fresh('row')}", I64)

    def begin(self) -> None:
        fn = self.fn
        _align_stack(fn)
        mine = fn.compare("eq", fn.arguments[2], fn.const(0, I64))
        fn.line(f"br {mine}, label %{self.labels['start']}, label %{self.out}")
        fn.label(self.labels["start"])
        self.first, self.count, self.first_row = (
            fn.load(fn.at(self.context, place, I64), I64) for place in (FIRST, COUNT, ROW)
        )
        self.last = fn.add(self.first, self.count)

    def finish(
        self, body: list[str], carried: Sequence[tuple[Value, Value, Value]], poll: int, after: Any
    ) -> None:
        """The loop around `body`, with (phi, first value, next value) of what it carries."""
        fn, at = self.fn, self.labels
        some = fn.compare("sgt", self.count, fn.const(0, I64))
        fn.line(f"br {some}, label %{at['head']}, label %{at['none']}")
        fn.label(at["head"])
        head = len(fn.lines)
        fn.lines += body
        following = fn.add(self.step, fn.const(1, I64))
        next_row = fn.add(self.row, fn.const(self.arrays.batch, I64))
        more = fn.compare("slt", following, self.last)
        fn.line(f"br {more}, label %{at['again']}, label %{at['end']}")
        fn.label(at["again"])
        rest = fn.binary("and", following, fn.const(poll - 1, I64))
        due = fn.compare("eq", rest, fn.const(0, I64))
        fn.line(f"br {due}, label %{at['look']}, label %{at['head']}")
        fn.label(at["look"])
        stop = stop_requested(fn, self.sync, fn.const(1, I64))
        fn.line(f"br {stop}, label %{at['end']}, label %{at['head']}")
        joins = [
            f"  {x.text} = phi {x.type} [{start.text}, %{at['start']}],"
            f" [{nxt.text}, %{at['again']}], [{nxt.text}, %{at['look']}]"
            for x, start, nxt in [
                (self.step, self.first, following),
                (self.row, self.first_row, next_row),
                *carried,
            ]
        ]
        fn.lines[head:head] = joins
        fn.label(at["end"])
        after()
        done = fn.at(self.context, STEPS_DONE, I64)
        fn.store(fn.sub(following, self.first), done)
        fn.line(f"br label %{self.out}")
        fn.label(at["none"])
        fn.store(fn.const(0, I64), fn.at(self.context, STEPS_DONE, I64))
        fn.line(f"br label %{self.out}")
        fn.label(self.out)
        fn.finish()


class _Whole(_Loop):
    """All of a step in one block, the states in registers from step to step."""

    def write(self) -> None:
        fn, arrays, graph = self.fn, self.arrays, self.graph
        self.begin()
        loaded: dict[int, Value] = {}  # by input: before the loop
        for number in graph.inputs:
            slot = arrays.slot[number]
            if slot in arrays.states or (number in arrays.alive and not arrays.moves(slot)):
                base = fn.load(fn.at(self.context, POINTERS + slot, I64), PTR)
                loaded[slot] = _load(fn, base, graph.nodes[number])
        states = {slot: Value(f"%{fn.fresh('state')}", loaded[slot].type) for slot in arrays.states}
        before, body = fn.lines, []  # type: ignore[var-annotated]
        fn.lines = body

        def outside(number: int) -> Value:
            slot = arrays.slot[number]
            if slot in states:
                return states[slot]
            if slot not in loaded:
                address = arrays.input(fn, self.context, slot, self.step, self.row)
                loaded[slot] = _load(fn, address, graph.nodes[number])
            return loaded[slot]

        block = Block(fn, graph, arrays.places, outside, before=before)
        block.fixed.update(loaded[slot].text for slot in loaded if slot not in states)
        for number in range(len(graph.nodes)):
            if number in arrays.alive:
                block.enter(number)
        carried = [(states[i], loaded[i], block.value(k)) for i, k in arrays.states.items()]
        last: list[tuple[Value, int]] = []
        for place in arrays.free:
            value = block.value(graph.outputs[place])
            if arrays.outputs[place].by == "fixed":
                last.append((value, place))
            else:
                address = arrays.output(fn, self.context, place, self.step, self.row)
                _store(fn, value, address, arrays.output_node(place))
        fn.lines = before

        def after() -> None:
            for value, place in last:
                address = arrays.output(fn, self.context, place, self.step, self.row)
                _store(fn, value, address, arrays.output_node(place))
            for slot, (old, _, new) in zip(arrays.states, carried, strict=True):
                if new != old:
                    base = fn.load(fn.at(self.context, POINTERS + slot, I64), PTR)
                    _store(fn, new, base, arrays.input_node(slot))

        self.finish(body, carried, POLL, after)


class _Parts(_Loop):
    """A step as several functions, each of some hundred nodes; values go through the arena."""

    def write(self) -> int:
        arrays, graph = self.arrays, self.graph
        parts = self._cut()
        home = {number: p for p, part in enumerate(parts) for number in part}
        self.offset: dict[Any, int] = {}  # of what goes through the arena
        self.bytes = 0
        outputs: list[list[int]] = [[] for _ in parts]
        for place, number in enumerate(graph.outputs):
            outputs[home.get(arrays.places[number].root, len(parts) - 1)].append(place)
        for p, part in enumerate(parts):
            for number in part:
                for root in arrays.reads(number):
                    if home.get(root, p) != p and root not in self.offset:
                        self._reserve(root, graph.nodes[root])
        self.slots = {number: slot for slot, number in arrays.states.items()}
        names = [self._part(f"{self.name}.{p}", part, outputs[p]) for p, part in enumerate(parts)]
        names += self._commit()
        fn = self.fn
        self.begin()
        arena = fn.load(fn.at(self.context, ARENA, I64), PTR)
        before, body = fn.lines, []  # type: ignore[var-annotated]
        fn.lines = body
        for name in names:
            fn.call(name, VOID, [self.context, arena, self.step, self.row])
        fn.lines = before
        self.finish(body, [], 1, lambda: None)
        return self.bytes

    def _cut(self) -> list[list[int]]:
        """The computed nodes, in order, some hundred instructions at a time."""
        parts: list[list[int]] = [[]]
        work = 0
        for number, node in enumerate(self.graph.nodes):
            if number not in self.arrays.alive or node.op in ("input", "constant"):
                continue
            if work > CHUNK:
                parts.append([])
                work = 0
            parts[-1].append(number)
            work += max(1, work_of(self.graph, node))
        return parts

    def _reserve(self, key: Any, node: Node) -> None:
        size = stored_type(node.dtype).bytes * max(1, lanes_for(size_of(node)))
        self.bytes = -(-self.bytes // size) * size  # no vector across two cache lines
        self.offset[key] = self.bytes
        self.bytes += size

    def _place(self, fn: Function, key: Any) -> Value:
        return fn.at(fn.arguments[1], self.offset[key], Type("i8"))

    def _save(self, fn: Function, value: Value, key: Any) -> None:
        """All lanes, into the arena."""
        if value.type.base == "i1":
            value = fn.convert("zext", value, Type("i8", value.type.lanes))
        fn.store(value, self._place(fn, key))

    def _restore(self, fn: Function, key: Any, node: Node) -> Value:
        kind = stored_type(node.dtype).of(lanes_for(size_of(node)))
        value = fn.load(self._place(fn, key), kind)
        if node.dtype.kind == "b":
            return fn.compare("ne", value, fn.const(0, kind))
        return value

    def _part(self, name: str, numbers: list[int], outputs: list[int]) -> str:
        arrays, graph = self.arrays, self.graph
        fn = self.module.function(name, PART, inline=False)
        context, _, step, row = fn.arguments
        if any(self.graph.nodes[k].shape for k in numbers):
            _align_stack(fn)

        def outside(number: int) -> Value:
            node = graph.nodes[number]
            if node.op != "input":
                return self._restore(fn, number, node)
            return _load(fn, arrays.input(fn, context, arrays.slot[number], step, row), node)

        block = Block(fn, graph, arrays.places, outside, inline=False)
        for number in numbers:
            block.enter(number)
        for number in numbers:
            if number in self.offset:
                self._save(fn, block.value(number), number)
        for place in outputs:
            number = graph.outputs[place]
            value, node = block.value(number), graph.nodes[number]
            if place in arrays.free:
                _store(fn, value, arrays.output(fn, context, place, step, row), node)
            elif ("state", number) not in self.offset:
                self._reserve(("state", number), node)
                self._save(fn, value, ("state", number))
        fn.finish()
        return name

    def _commit(self) -> list[str]:
        """The new states where the old ones were, when nobody reads those any more."""
        names = []
        todo = list(self.arrays.states.items())
        for start in range(0, len(todo), CHUNK):
            name = f"{self.name}.states{start}"
            fn = self.module.function(name, PART, inline=False)
            for slot, number in todo[start : start + CHUNK]:
                node = self.graph.nodes[number]
                base = fn.load(fn.at(fn.arguments[0], POINTERS + slot, I64), PTR)
                _store(fn, self._restore(fn, ("state", number), node), base, node)
            fn.finish()
            names.append(name)
        return names
