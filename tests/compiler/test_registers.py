"""Circuits in registers against NumPy: every operation, streams, states, and no byte beyond."""

from __future__ import annotations

import ctypes
import mmap
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import chainrule as cr
from chainrule.compiler import native, registers
from chainrule.compiler.decompose import decompose
from chainrule.compiler.emit import Module
from chainrule.compiler.graph import Graph
from chainrule.compiler.interpret import interpret
from chainrule.compiler.plan import Stream
from chainrule.compiler.registers import STEPS_DONE, fits, write_registers
from chainrule.compiler.simplify import simplify
from chainrule.compiler.threads import STOP_OFFSET, SYNC_BYTES
from chainrule.compiler.trace import trace

Array = np.ndarray[Any, Any]
Entry = ctypes.CFUNCTYPE(
    None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64
)  # fmt: skip
POINTERS = 8


def aligned(size: int) -> Array:
    raw = np.zeros(size + 128, np.uint8)
    start = -raw.ctypes.data % 128
    return raw[start : start + size]


class Compiled:
    """A graph as native code, and the memory that it runs in."""

    def __init__(
        self,
        graph: Graph,
        bound: Sequence[int | None] = (),
        streams: Mapping[str, Sequence[Stream]] | None = None,
        batch: int = 0,
    ) -> None:
        self.graph = graph
        module = Module(native.host())
        bound = [*bound, *[None] * (len(graph.outputs) - len(bound))]
        size = write_registers(module, graph, bound, streams or {}, "run", batch=batch)
        self.library = native.build(module.text(), cache=False)
        self.entry = Entry(self.library.address("run"))
        self.arena, self.sync = aligned(size + 128), aligned(SYNC_BYTES)

    def run(
        self,
        inputs: Sequence[Array],
        outputs: Sequence[Array] | None = None,
        count: int = 1,
        first: int = 0,
        row: int = 0,
        tid: int = 0,
    ) -> list[Array]:
        graph = self.graph
        if outputs is None:
            nodes = [graph.nodes[k] for k in graph.outputs]
            outputs = [np.zeros(node.shape, node.dtype) for node in nodes]
        self.context = np.full(POINTERS + len(inputs) + len(outputs), -7, np.int64)
        self.context[:4] = [self.arena.ctypes.data, first, count, row]
        self.context[POINTERS:] = [x.ctypes.data for x in [*inputs, *outputs]]
        self.entry(self.context.ctypes.data, self.sync.ctypes.data, tid, 1)
        return list(outputs)

    @property
    def done(self) -> int:
        return int(self.context[STEPS_DONE])


def compiled_graph(function: Callable[..., Any], args: Sequence[Any]) -> Graph:
    return simplify(decompose(trace(function, args).graph))


def close(got: Array, expected: Array) -> None:
    assert got.dtype == expected.dtype
    tolerance = 2e-5 if got.dtype == np.float32 else 1e-12
    np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance)


def agrees(graph: Graph, inputs: Sequence[Array]) -> None:
    """Native and interpreted: one step, and two of which every other input is another."""
    assert fits(graph)
    with np.errstate(all="ignore"):
        expected = interpret(graph, inputs)
    for got, right in zip(Compiled(graph).run(inputs), expected, strict=True):
        close(got, right)
    second = [x if k % 2 else x[..., ::-1] if x.ndim else -x for k, x in enumerate(inputs)]
    with np.errstate(all="ignore"):
        expected = [np.stack(pair) for pair in zip(expected, interpret(graph, second), strict=True)]
    given_ = [x if k % 2 else np.stack([x, second[k]]) for k, x in enumerate(inputs)]
    streams = {
        "inputs": [Stream() if k % 2 else Stream("step", x.size) for k, x in enumerate(inputs)],
        "outputs": [Stream("step", graph.nodes[k].size) for k in graph.outputs],
    }
    results = [np.zeros_like(x) for x in expected]
    for got, right in zip(
        Compiled(graph, streams=streams).run(given_, results, count=2), expected, strict=True
    ):
        close(got, right)


# -- random graphs ------------------------------------------------------------------------------

SMOOTH = ["sigmoid", "tanh", "sech2", "relu", "abs", "negative", "square", "softplus", "erf"]
PAIRS = ["add", "subtract", "multiply", "maximum", "minimum"]


class Maker:
    """Grows a graph from draws. `exact` are nodes computed without rounding: only those are
    compared and ranked, where a last digit would change the answer."""

    def __init__(self, draw: Callable[..., Any], dtype: Any) -> None:
        self.draw, self.dtype = draw, np.dtype(dtype)
        self.graph = Graph()
        self.floats: list[int] = []
        self.exact: list[int] = []
        self.others: list[int] = []
        self.inputs: list[Array] = []

    def pick(self, options: Sequence[Any]) -> Any:
        return options[self.draw(st.integers(0, len(options) - 1))]

    def node(self, op: str, inputs: Sequence[int], params: Any, shape: Any, dtype: Any) -> int:
        return self.graph.add(op, inputs, params, shape=tuple(shape), dtype=dtype)

    def shape(self, number: int) -> tuple[int, ...]:
        return self.graph.nodes[number].shape

    def input(self, shape: Any, rng: np.random.Generator) -> None:
        number = self.graph.input(tuple(shape), self.dtype)
        # Halves: sums and differences of some are exact, and there are ties.
        self.inputs.append(np.asarray(rng.integers(-6, 7, shape) / 2, self.dtype))
        self.floats.append(number)
        self.exact.append(number)

    def moved(self, op: str, x: int, params: Any, shape: Any) -> None:
        made = self.node(op, [x], params, shape, self.dtype)
        self.floats.append(made)
        if x in self.exact:
            self.exact.append(made)

    def grow(self) -> None:
        kinds = [
            "smooth", "pair", "where", "reshape", "transpose", "broadcast", "slice", "spread",
            "sum", "extreme", "argument", "matmul", "gather", "scatter", "join", "cumsum", "keep",
            "constant", "integer",
        ]  # fmt: skip
        getattr(self, f"_{self.pick(kinds)}")()

    def _smooth(self) -> None:
        x = self.pick(self.floats)
        self.floats.append(self.node(self.pick(SMOOTH), [x], {}, self.shape(x), self.dtype))

    def _constant(self) -> None:
        shape = self.pick([(), (3,), (2, 3), (4,)])
        rng = np.random.default_rng(len(self.graph.nodes))
        made = self.graph.constant(rng.integers(-4, 5, shape).astype(self.dtype) / 2)
        self.graph.nodes[made].dtype = self.dtype
        self.graph.nodes[made].params = {
            "value": np.asarray(self.graph.nodes[made].params["value"], self.dtype)
        }
        self.floats.append(made)
        self.exact.append(made)

    def _partner(self, x: int) -> int | None:
        options = []
        for y in self.floats:
            try:
                shape = np.broadcast_shapes(self.shape(x), self.shape(y))
            except ValueError:
                continue
            if np.prod(shape) <= 64:
                options.append(y)
        return self.pick(options) if options else None

    def _pair(self) -> None:
        x = self.pick(self.floats)
        y = self._partner(x)
        if y is None:
            return
        shape = np.broadcast_shapes(self.shape(x), self.shape(y))
        made = self.node(self.pick(PAIRS), [x, y], {}, shape, self.dtype)
        self.floats.append(self.node("tanh", [made], {}, shape, self.dtype))

    def _where(self) -> None:
        x, y = self.pick(self.exact), self.pick(self.floats)
        try:
            shape = np.broadcast_shapes(self.shape(x), self.shape(y))
        except ValueError:
            return
        if np.prod(shape) > 64:
            return
        number = self.graph.constant(np.asarray(0.5, self.dtype))
        op = self.pick(["less", "greater_equal", "equal", "not_equal"])
        condition = self.node(op, [x, number], {}, self.shape(x), bool)
        self.others.append(condition)
        self.floats.append(self.node("where", [condition, y, x], {}, shape, self.dtype))

    def _reshape(self) -> None:
        x = self.pick(self.floats)
        size = self.graph.nodes[x].size
        options = [(size,), (1, size), (size, 1), (1, size, 1)]
        options += [(k, size // k) for k in (2, 3, 4) if size % k == 0]
        shape = self.pick(options)
        self.moved("reshape", x, {"shape": shape}, shape)

    def _transpose(self) -> None:
        x = self.pick(self.floats)
        axes = tuple(self.draw(st.permutations(range(len(self.shape(x))))))
        self.moved("transpose", x, {"axes": axes}, [self.shape(x)[a] for a in axes])

    def _broadcast(self) -> None:
        x = self.pick(self.floats)
        shape = self.pick([(2,), (3,), (1,)]) + self.shape(x)
        shape = tuple(self.pick([1, 2, 3]) if n == 1 else n for n in shape)
        if np.prod(shape) <= 64:
            self.moved("broadcast_to", x, {"shape": shape}, shape)

    def _cuts(self, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        start, step, count = [], [], []
        for n in shape:
            one = self.pick([1, 1, 2, -1])
            most = -(-n // abs(one))
            many = self.draw(st.integers(1, most))
            low = self.draw(st.integers(0, n - 1 - (many - 1) * abs(one)))
            start.append(low if one > 0 else low + (many - 1) * -one)
            step.append(one)
            count.append(many)
        return {"start": tuple(start), "step": tuple(step), "count": tuple(count)}

    def _slice(self) -> None:
        x = self.pick(self.floats)
        params = self._cuts(self.shape(x))
        self.moved("slice", x, params, params["count"])

    def _spread(self) -> None:
        shape = self.pick([(5,), (2, 4), (3, 3)])
        params = self._cuts(shape)
        fitting = [x for x in self.floats if self.shape(x) == params["count"]]
        if fitting:
            self.moved("scatter_add", self.pick(fitting), {**params, "shape": shape}, shape)

    def _reduced(self, op: str, source: Sequence[int]) -> None:
        x = self.pick(source)
        shape = self.shape(x)
        axes = tuple(a for a in range(len(shape)) if self.draw(st.booleans()))
        keepdims = self.draw(st.booleans())
        out = [1 if a in axes else n for a, n in enumerate(shape) if keepdims or a not in axes]
        params = {"axis": axes, "keepdims": keepdims}
        made = self.node(op, [x], params, out, self.dtype)
        if op != "sum" and x in self.exact:
            self.exact.append(made)
            self.floats.append(made)
        else:
            self.floats.append(self.node("tanh", [made], {}, out, self.dtype))

    def _sum(self) -> None:
        self._reduced("sum", self.floats)

    def _extreme(self) -> None:
        self._reduced(self.pick(["max", "min"]), self.floats)

    def _argument(self) -> None:
        ranked = [x for x in self.exact if self.shape(x)]
        if ranked:
            x = self.pick(ranked)
            axis = self.draw(st.integers(0, len(self.shape(x)) - 1))
            shape = [n for a, n in enumerate(self.shape(x)) if a != axis]
            params = {"axis": (axis,), "keepdims": False}
            op = self.pick(["argmax", "argmin"])
            self.others.append(self.node(op, [x], params, shape, np.int64))

    def _matmul(self) -> None:
        pairs = [
            (x, y)
            for x in self.floats
            for y in self.floats
            if 2 <= len(self.shape(x)) == len(self.shape(y)) <= 3
            and self.shape(x)[-1] == self.shape(y)[-2]
            and self.shape(x)[:-2] == self.shape(y)[:-2]
            and np.prod(self.shape(x)[:-1]) * self.shape(y)[-1] <= 64
        ]
        if pairs:
            x, y = self.pick(pairs)
            shape = (*self.shape(x)[:-1], self.shape(y)[-1])
            made = self.node("matmul", [x, y], {}, shape, self.dtype)
            self.floats.append(self.node("tanh", [made], {}, shape, self.dtype))

    def _positions(self, length: int) -> int:
        rng = np.random.default_rng(len(self.graph.nodes))
        found = rng.integers(-length, length, self.pick([(), (2,), (5,), (2, 2)]))
        if self.draw(st.booleans()):
            return self.graph.constant(found % length)
        self.inputs.append(np.asarray(found))
        return self.graph.input(found.shape, found.dtype)

    def _gather(self) -> None:
        x = self.pick([x for x in self.floats if self.shape(x)])
        axis = self.draw(st.integers(0, len(self.shape(x)) - 1))
        positions = self._positions(self.shape(x)[axis])
        shape = self.shape(x)[:axis] + self.shape(positions) + self.shape(x)[axis + 1 :]
        if 0 < np.prod(shape) <= 64 and self.shape(x)[axis] <= 16:
            made = self.node("gather", [x, positions], {"axis": axis}, shape, self.dtype)
            self.floats.append(made)

    def _scatter(self) -> None:
        length, axis = self.pick([3, 4, 7]), 0
        positions = self._positions(length)
        spread = self.shape(positions)
        fitting = [
            (x, a)
            for x in self.floats
            for a in range(len(self.shape(x)) - len(spread) + 1)
            if self.shape(x)[a : a + len(spread)] == spread
        ]
        if fitting:
            x, axis = self.pick(fitting)
            lead, tail = self.shape(x)[:axis], self.shape(x)[axis + len(spread) :]
            shape = (*lead, length, *tail)
            if np.prod(shape) <= 64:
                params = {"axis": axis, "shape": shape}
                made = self.node("scatter_add", [x, positions], params, shape, self.dtype)
                self.floats.append(self.node("tanh", [made], {}, shape, self.dtype))

    def _join(self) -> None:
        x = self.pick([x for x in self.floats if self.shape(x)])
        axis = self.draw(st.integers(0, len(self.shape(x)) - 1))

        def rest(y: int) -> tuple[int, ...]:
            return self.shape(y)[:axis] + self.shape(y)[axis + 1 :]

        same = [
            y for y in self.floats if len(self.shape(y)) == len(self.shape(x)) and rest(y) == rest(x)
        ]
        parts = [self.pick(same) for _ in range(self.pick([1, 2, 3]))]
        shape = list(self.shape(x))
        shape[axis] = sum(self.shape(y)[axis] for y in parts)
        if np.prod(shape) <= 64:
            self.floats.append(self.node("join", parts, {"axis": axis}, shape, self.dtype))

    def _cumsum(self) -> None:
        x = self.pick([x for x in self.floats if self.shape(x)])
        axis = self.draw(st.integers(0, len(self.shape(x)) - 1))
        made = self.node("cumsum_along", [x], {"axis": axis}, self.shape(x), self.dtype)
        self.floats.append(self.node("tanh", [made], {}, self.shape(x), self.dtype))

    def _keep(self) -> None:
        shape = self.pick([(3,), (2, 4), ()])
        key = self.graph.constant(np.uint64(self.draw(st.integers(0, 2**64 - 1))))
        params = {"shape": shape, "rate": 0.4}
        self.others.append(self.node("keep", [key], params, shape, bool))

    def _integer(self) -> None:
        """Through another dtype and back."""
        x = self.pick(self.exact)
        kind = np.dtype(self.pick(["int8", "int32", "int64", "bool", "float32", "float64"]))
        made = self.node("astype", [x], {"dtype": kind}, self.shape(x), kind)
        self.others.append(made)
        back = self.node("astype", [made], {"dtype": self.dtype}, self.shape(x), self.dtype)
        self.floats.append(back)
        self.exact.append(back)


@st.composite
def programs(draw: Callable[..., Any]) -> tuple[Graph, list[Array]]:
    made = Maker(draw, draw(st.sampled_from([np.float32, np.float64])))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    for _ in range(draw(st.integers(1, 3))):
        made.input(draw(st.sampled_from([(), (1,), (3,), (4, 2), (2, 3), (2, 2, 3), (4, 4)])), rng)
    if not any(made.shape(x) for x in made.floats):
        made.input((3,), rng)
    for _ in range(draw(st.integers(1, 12))):
        made.grow()
    ends = [*made.floats[-3:], *made.others[-2:]]
    made.graph.outputs = [draw(st.sampled_from(ends)) for _ in range(draw(st.integers(1, 4)))]
    return made.graph, made.inputs


FEW = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)


@FEW
@given(programs())
def test_random_graphs_agree_with_numpy(program: tuple[Graph, list[Array]]) -> None:
    agrees(*program)


@settings(FEW, max_examples=25)
@given(programs(), st.integers(1, 30))
def test_random_graphs_cut_into_functions(program: tuple[Graph, list[Array]], size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registers, "IN_ONE", 0)
        patch.setattr(registers, "CHUNK", size)
        agrees(*program)


@pytest.mark.slow
@settings(FEW, max_examples=1500, derandomize=False)
@given(programs(), st.sampled_from([0, 1500]))
def test_many_random_graphs(program: tuple[Graph, list[Array]], in_one: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registers, "IN_ONE", in_one)
        patch.setattr(registers, "CHUNK", 10)
        agrees(*program)
