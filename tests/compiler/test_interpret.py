"""The interpreter is the definition: each operation's own value, inputs checked, values let go."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import chainrule as cr
from chainrule.compiler.decompose import decompose
from chainrule.compiler.graph import Graph
from chainrule.compiler.interpret import interpret, slices_of
from chainrule.compiler.trace import trace
from chainrule.errors import ShapeError
from chainrule.ops import registry

DIFFERENT = {"keep", "join"}  # of a key, and of several inputs: tested with the traces


@pytest.mark.parametrize("name", [op.name for op in registry.operations()])
def test_every_operation_runs_as_it_does_alone(name: str) -> None:
    op = registry[name]
    if name in DIFFERENT:
        return
    rng = np.random.default_rng(0)
    domain = op.facts.domain or ((-2.0, 2.0),) * op.arity
    args = [rng.uniform(*bounds, (3, 3)) for bounds in domain]
    params: dict[str, Any] = {
        "reshape": {"shape": (9,)},
        "broadcast_to": {"shape": (2, 3, 3)},
        "getitem": {"index": (1, slice(None, None, -1))},
        "scatter_add": {"index": slice(1, 4), "shape": (5, 3)},
        "astype": {"dtype": np.float32},
        "clip": {"low": 0.1},
    }.get(name, {})
    traced = trace(lambda *xs: op(*xs, **params), args)
    other = [x[::-1].copy() for x in args]
    for graph in (traced.graph, decompose(traced.graph)):
        np.testing.assert_array_equal(
            interpret(graph, other)[0], op(*[cr.tensor(x) for x in other], **params).numpy()
        )


def test_inputs_are_checked_and_cast() -> None:
    graph = trace(lambda x, y: x * y, (np.ones(3, np.float32), np.ones(3, np.float32))).graph
    (out,) = interpret(graph, [[1, 2, 3], np.ones(3)])
    assert out.dtype == np.float32
    with pytest.raises(ShapeError, match=r"'y' has shape \(2,\)"):
        interpret(graph, [np.ones(3), np.ones(2)])
    with pytest.raises(ShapeError, match="2 inputs, and 1 are given"):
        interpret(graph, [np.ones(3)])


def test_values_are_let_go_after_their_last_use() -> None:
    """A chain of arrays of 8 MB, of which two live at a time."""
    import tracemalloc

    graph = Graph()
    x = graph.input((1_000_000,), np.float64)
    for _ in range(20):
        x = graph.add("negative", (x,), shape=(1_000_000,), dtype=np.float64)
    graph.outputs = [x]
    tracemalloc.start()
    interpret(graph, [np.zeros(1_000_000)])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30_000_000


def test_an_output_may_be_an_input_or_given_twice() -> None:
    graph = Graph()
    x = graph.input((2,), np.float64)
    y = graph.add("negative", (x,), shape=(2,), dtype=np.float64)
    graph.outputs = [x, y, y, x]
    found = interpret(graph, [np.array([1.0, 2.0])])
    assert [v.tolist() for v in found] == [[1, 2], [-1, -2], [-1, -2], [1, 2]]


@given(
    st.integers(0, 6),
    st.integers(-7, 7) | st.none(),
    st.integers(-7, 7) | st.none(),
    st.sampled_from([None, 1, 2, 3, -1, -2, -7]),
)
def test_slices_in_canonical_form(length: int, start: Any, stop: Any, step: Any) -> None:
    """start, step and count say the same as Python's slice, backwards to the first element too."""
    x, index = np.arange(float(length)), slice(start, stop, step)
    traced = trace(lambda x: (x[index], cr.scatter_add(x[index], index, (length,))), (x,))
    graph = decompose(traced.graph)
    assert not {"getitem"} & {node.op for node in graph.nodes}
    picked, scattered = interpret(graph, [x])
    np.testing.assert_array_equal(picked, x[index])
    back = np.zeros(length)
    back[index] = x[index]
    np.testing.assert_array_equal(scattered, back)
    for node in graph.nodes:
        if node.op == "slice":
            assert all(n >= 0 for n in node.params["start"] + node.params["count"])
            np.testing.assert_array_equal(x[slices_of(node.params)], x[index])
