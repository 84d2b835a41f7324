"""Circuits in registers against NumPy: every operation, streams, states, and no byte beyond."""

from __future__ import annotations

import ctypes
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
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
from random_graphs import programs

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
    second = [
        x if k % 2 or (x.dtype.kind == "i" and not x.ndim) else x[..., ::-1] if x.ndim else -x
        for k, x in enumerate(inputs)
    ]
    with np.errstate(all="ignore"):
        expected = [np.stack(pair) for pair in zip(expected, interpret(graph, second), strict=True)]
    given_ = [x if k % 2 else np.ascontiguousarray([x, second[k]]) for k, x in enumerate(inputs)]
    streams = {
        "inputs": [Stream() if k % 2 else Stream("step", x.size) for k, x in enumerate(inputs)],
        "outputs": [Stream("step", graph.nodes[k].size) for k in graph.outputs],
    }
    results = [np.zeros(x.shape, x.dtype) for x in expected]
    for got, right in zip(
        Compiled(graph, streams=streams).run(given_, results, count=2), expected, strict=True
    ):
        close(got, right)


# -- random graphs ------------------------------------------------------------------------------

FEW = settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
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


@pytest.mark.exhaustive
@settings(FEW, max_examples=1500, derandomize=False)
@given(programs(), st.sampled_from([0, 1500]))
def test_many_random_graphs(program: tuple[Graph, list[Array]], in_one: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registers, "IN_ONE", in_one)
        patch.setattr(registers, "CHUNK", 10)
        agrees(*program)


# -- what fits ----------------------------------------------------------------------------------


def one_node(op: str, shape: tuple[int, ...], dtype: Any = np.float32, **params: Any) -> Graph:
    graph = Graph()
    x = graph.input(shape, dtype)
    graph.outputs = [graph.add(op, [x], params, shape=shape, dtype=dtype)]
    return graph


def test_what_is_large_or_unknown_does_not_fit() -> None:
    assert fits(one_node("tanh", (8, 8)))
    assert not fits(one_node("tanh", (8, 9)))
    assert not fits(one_node("tanh", (0, 3)))
    assert not fits(one_node("softmax", (3,), axis=-1, beta=1.0))  # not decomposed
    assert not fits(one_node("call", (3,)))
    assert not fits(one_node("tanh", (3,), np.float16))
    assert not fits(one_node("sort", (3,)))


def long_chain(shape: tuple[int, ...], count: int) -> Graph:
    graph = Graph()
    x = graph.input(shape, np.float32)
    for _ in range(count):
        x = graph.add("tanh", [x], {}, shape=shape, dtype=np.float32)
    graph.outputs = [x]
    return graph


def test_arrays_fit_to_some_length_and_scalars_to_any() -> None:
    assert not fits(long_chain((4,), 5000))
    assert fits(long_chain((), 5000))


def test_a_long_chain_is_cut() -> None:
    graph = long_chain((), 3000)
    x = np.asarray(0.7, np.float32)
    compiled = Compiled(graph)
    (got,) = compiled.run([x])
    (expected,) = interpret(graph, [x])
    np.testing.assert_allclose(got, expected, rtol=1e-4)
    assert len([s for s in compiled.library.names if s == "run"]) == 1


# -- steps --------------------------------------------------------------------------------------


@pytest.fixture(params=["whole", "parts"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways in which a step is written."""
    if request.param == "parts":
        monkeypatch.setattr(registers, "IN_ONE", 0)
        monkeypatch.setattr(registers, "CHUNK", 4)
    return str(request.param)


def counting() -> Graph:
    """state ← state + x; outputs the new state and twice the old one."""
    graph = Graph()
    state = graph.input((3,), np.float64)
    x = graph.input((3,), np.float64)
    after = graph.add("add", [state, x], {}, shape=(3,), dtype=np.float64)
    twice = graph.add("add", [state, state], {}, shape=(3,), dtype=np.float64)
    graph.outputs = [after, twice]
    return graph


def test_a_state_goes_from_step_to_step_and_back_to_its_memory(form: str) -> None:
    compiled = Compiled(counting(), [0])
    state, x = np.array([1.0, 2, 3]), np.array([1.0, 10, 100])
    own = np.full(3, -1.0)
    _, twice = compiled.run([state, x], [own, np.zeros(3)], count=5)
    assert state.tolist() == [6, 52, 503]
    assert twice.tolist() == [10, 84, 806]  # of the last step's old state
    assert own.tolist() == [-1, -1, -1]
    assert compiled.done == 5


def test_streams_by_step_and_by_row(form: str) -> None:
    streams = {
        "inputs": [Stream(), Stream("row", 3)],
        "outputs": [Stream(), Stream("step", 4)],
    }
    compiled = Compiled(counting(), [0], streams, batch=2)
    data = np.arange(60.0).reshape(20, 3)
    state, results = np.zeros(3), np.full((7, 4), -1.0)
    compiled.run([state, data], [state, results], count=4, first=2, row=5)
    read = data[[5, 7, 9, 11]]
    assert state.tolist() == read.sum(0).tolist()
    old = np.concatenate([np.zeros((1, 3)), np.cumsum(read, 0)[:-1]])
    assert results[2:6, :3].tolist() == (2 * old).tolist()
    assert (results[:, 3] == -1).all()
    assert (results[[0, 1, 6]] == -1).all()


def test_states_may_change_places(form: str) -> None:
    graph = Graph()
    x, y = graph.input((2,), np.float32), graph.input((2,), np.float32)
    graph.outputs = [y, x]
    compiled = Compiled(graph, [0, 1])
    a, b = np.array([1, 2], np.float32), np.array([3, 4], np.float32)
    compiled.run([a, b], [a, b], count=3)
    assert (a.tolist(), b.tolist()) == ([3, 4], [1, 2])


def test_a_state_may_be_an_output_too_and_one_value_two_states(form: str) -> None:
    graph = Graph()
    x, y = graph.input((), np.float32), graph.input((), np.float32)
    total = graph.add("add", [x, y], {}, shape=(), dtype=np.float32)
    graph.outputs = [total, total, total, x]
    compiled = Compiled(graph, [0, 1, None, None])
    a, b = np.ones((), np.float32), np.ones((), np.float32)
    _, _, seen, before = compiled.run([a, b], None, count=3)
    assert [float(v) for v in (a, b, seen, before)] == [8, 8, 8, 4]


def test_no_step_writes_nothing(form: str) -> None:
    compiled = Compiled(counting(), [0])
    state = np.ones(3)
    _, twice = compiled.run([state, state], [state, np.full(3, 5.0)], count=0)
    assert state.tolist() == [1, 1, 1]
    assert twice.tolist() == [5, 5, 5]
    assert compiled.done == 0


def test_only_the_first_thread_works(form: str) -> None:
    compiled = Compiled(counting(), [0])
    state = np.ones(3)
    compiled.run([state, state.copy()], [state, np.zeros(3)], tid=1)
    assert state.tolist() == [1, 1, 1]
    assert compiled.done == -7


def test_a_request_to_stop_ends_the_run(form: str) -> None:
    compiled = Compiled(counting(), [0])
    compiled.sync[STOP_OFFSET] = 1
    state = np.zeros(3)
    compiled.run([state, np.ones(3)], count=10**9, first=3)
    assert 0 < compiled.done <= registers.POLL
    assert state.tolist() == [compiled.done] * 3


def test_unused_inputs_are_not_read(form: str) -> None:
    graph = Graph()
    x = graph.input((3,), np.float32)
    graph.input((3,), np.float32)
    graph.outputs = [graph.add("negative", [x], {}, shape=(3,), dtype=np.float32)]
    compiled = Compiled(graph)
    out = np.zeros(3, np.float32)
    context = np.zeros(POINTERS + 3, np.int64)
    value = np.array([1, 2, 3], np.float32)
    context[:4] = [compiled.arena.ctypes.data, 0, 1, 0]
    context[POINTERS:] = [value.ctypes.data, 0, out.ctypes.data]
    compiled.entry(context.ctypes.data, compiled.sync.ctypes.data, 0, 1)
    assert out.tolist() == [-1, -2, -3]


# -- training -----------------------------------------------------------------------------------

X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
Y = np.array([[0], [1], [1], [0]])


def loss(params: Mapping[str, Any], x: Any, y: Any) -> Any:
    hidden = cr.sigmoid(x @ params["w"] + params["b"])
    return cr.mean(cr.square(cr.sigmoid(hidden @ params["v"] + params["c"]) - y))


def first_params(dtype: Any) -> dict[str, Array]:
    rng = np.random.default_rng(3)
    shapes = {"w": (2, 2), "b": (2,), "v": (2, 1), "c": (1,)}
    return {name: rng.normal(size=shape).astype(dtype) for name, shape in shapes.items()}


def training(optimizer: Any, dtype: Any) -> tuple[Graph, list[Array], int]:
    """A step's graph, its inputs and how many of them are states: parameters, then slots."""
    params = first_params(dtype)
    state = optimizer.init(params)
    state["step"] = np.int64(0)

    def step(params: Any, state: Any, x: Any, y: Any) -> Any:
        value, grads = cr.value_and_grad(loss)(params, x, y)
        params, state = optimizer.update(params, grads, state)
        return params, state, value

    args = [params, state, X.astype(dtype), Y.astype(dtype)]
    traced = trace(step, args)
    inputs = [np.array(x, copy=True) for x in traced.inputs(args)]
    return simplify(decompose(traced.graph)), inputs, len(traced.graph.outputs) - 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("optimizer", [cr.optim.SGD(lr=0.5, momentum=0.5), cr.optim.Adam(lr=0.01)])
def test_xor_after_2000_steps_is_what_float64_gives(optimizer: Any, dtype: Any, form: str) -> None:
    graph, inputs, states = training(optimizer, dtype)
    assert fits(graph)
    compiled = Compiled(graph, range(states))
    *_, value = compiled.run(inputs, None, count=2000)
    assert compiled.done == 2000
    params = first_params(np.float64)
    state = optimizer.init(params)
    for _ in range(2000):
        last, grads = cr.value_and_grad(loss)(params, X.astype(float), Y.astype(float))
        params, state = optimizer.update(params, grads, state)
    tolerance = 2e-3 if dtype == np.float32 else 1e-9
    np.testing.assert_allclose(value, last, rtol=tolerance)
    for got, expected in zip(inputs, params.values(), strict=False):
        np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance)


def test_a_product_begins_at_what_is_added_to_it() -> None:
    """Also at a Python number, and where the product is wanted itself."""
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(3, 2)).astype(np.float32), rng.normal(size=(2, 5)).astype(np.float32)
    b = rng.normal(size=5).astype(np.float32)
    agrees(compiled_graph(lambda x, w, b: 2.0 + x @ w, [x, w, b]), [x, w, b])
    agrees(compiled_graph(lambda x, w, b: x @ w + b, [x, w, b]), [x, w, b])
    agrees(compiled_graph(lambda x, w, b: (x @ w + b, x @ w), [x, w, b]), [x, w, b])
    agrees(compiled_graph(lambda x, w, b: x @ w + x @ w, [x, w, b]), [x, w, b])
    agrees(compiled_graph(lambda x, w, b: b @ w.T + x @ w @ w.T, [x, w, b]), [x, w, b])


# -- scalars ------------------------------------------------------------------------------------


GATES: list[Callable[[Any, Any], Any]] = [
    lambda x, y: (x + y) * 0.5,
    lambda x, y: x * y,
    lambda x, y: cr.tanh(x - y),
    lambda x, y: -x,
]


def tangle(xs: Sequence[Any], count: int) -> Any:
    """A circuit of `count` scalar gates; of tensors or of numbers."""
    rng = np.random.default_rng(0)
    values = list(xs)
    for kind, a, b in zip(
        rng.integers(0, 4, count), rng.integers(1, 30, count), rng.integers(1, 30, count),
        strict=True,
    ):  # fmt: skip
        x, y = values[-min(a, len(values))], values[-min(b, len(values))]
        values.append(GATES[kind](x, y))
    return sum(values[-20:], start=0.0)


def test_a_circuit_of_a_thousand_scalars() -> None:
    xs = [np.float64(v) for v in np.random.default_rng(1).normal(size=5)]
    function = cr.value_and_grad(lambda *x: tangle(x, 1000), argnums=tuple(range(5)))
    start = time.process_time()
    graph = compiled_graph(function, xs)
    assert len(graph.nodes) > 1500
    assert fits(graph)
    compiled = Compiled(graph)
    seconds = time.process_time() - start
    assert seconds < 8, seconds  # 1 on a quiet machine
    outputs = compiled.run([np.asarray(x) for x in xs])
    value, grads = function(*xs)
    for got, expected in zip(outputs, [value, *grads], strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-12)


# -- memory -------------------------------------------------------------------------------------

GUARDED = """
import ctypes, mmap, sys
import numpy as np
sys.path[:0] = {path!r}
from test_registers import Compiled, guarded_graph, registers

registers.IN_ONE = {in_one}
libc = ctypes.CDLL(None, use_errno=True)
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
kept = []

def at_the_end(array, before):
    '''The array against a page that nobody may touch, after it or before it.'''
    page = mmap.PAGESIZE
    memory = mmap.mmap(-1, 3 * page)
    raw = np.frombuffer(memory, np.uint8)
    start = raw.ctypes.data
    for place in (0, 2):
        assert libc.mprotect(start + place * page, page, 0) == 0
    offset = page if before else 2 * page - array.nbytes
    kept.append((memory, raw))
    view = raw[offset : offset + array.nbytes].view(array.dtype).reshape(array.shape)
    view[...] = array
    return view

for size in (1, 2, 3, 5, 6, 7, 8, 13, 19):
    for dtype in (np.float32, np.float64, np.bool_, np.int8):
        compiled = Compiled(guarded_graph(size, dtype), [0])
        for before in (False, True):
            x = at_the_end(np.arange(size).astype(dtype), before)
            state = at_the_end(np.zeros(size, dtype), before)
            out = at_the_end(np.zeros(size, dtype), before)
            own = at_the_end(np.zeros(size, dtype), before)
            compiled.run([state, x], [own, out], count=2)
            assert (out == x).all() and (state == x).all(), (size, dtype)
            kept.clear()
print("untouched")
"""


def guarded_graph(size: int, dtype: Any) -> Graph:
    graph = Graph()
    state, x = graph.input((size,), dtype), graph.input((size,), dtype)
    larger = graph.add("maximum", [state, x], {}, shape=(size,), dtype=dtype)
    graph.outputs = [larger, larger]
    return graph


@pytest.mark.skipif(sys.platform != "linux", reason="pages are protected by mprotect")
@pytest.mark.parametrize("in_one", [0, 1500])
def test_no_byte_beyond_the_arrays_is_touched(in_one: int) -> None:
    code = GUARDED.format(path=[str(Path(__file__).parents[k]) for k in (0, 1)], in_one=in_one)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout.strip() == "untouched", done.stderr[-2000:]
