"""Simplified graphs compute the same bits: each rule alone, and all of them on random programs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import chainrule as cr
import golden
from chainrule import nn, optim
from chainrule.compiler import simplify as module
from chainrule.compiler.decompose import decompose
from chainrule.compiler.graph import Graph
from chainrule.compiler.interpret import interpret
from chainrule.compiler.simplify import LARGEST, RULES, simplify
from chainrule.compiler.trace import trace
from chainrule.nn import losses

Function = Callable[..., Any]

SPECIAL = [np.nan, -np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 5e-324, 1e-40, 1e38, -2.5]


def special(*shape: int, dtype: Any = np.float64) -> Any:
    size = int(np.prod(shape))
    values = np.concatenate([SPECIAL, np.random.default_rng(0).standard_normal(max(size, 12))])
    with np.errstate(all="ignore"):
        return values[:size].reshape(shape).astype(dtype)


def assert_same_bits(before: Graph, after: Graph, inputs: Any) -> None:
    with np.errstate(all="ignore"):
        expected, found = interpret(before, inputs), interpret(after, inputs)
    for want, got in zip(expected, found, strict=True):
        assert (got.shape, got.dtype) == (want.shape, want.dtype)
        assert got.tobytes() == want.tobytes(), f"{got} instead of {want}"


def traced(function: Function, *args: Any) -> tuple[Graph, list[Any]]:
    with np.errstate(all="ignore"):
        made = trace(function, args)
    return made.graph, made.inputs(args)


X, ROW, ONE = special(4, 3), special(3), special(1, 3)
SINGLE, INTS, BOOLS = special(4, 3, dtype=np.float32), np.arange(-6, 6).reshape(4, 3), X > 0
TALL = special(12, 1)


def twice(x: Any) -> Any:
    return cr.negative(-x)


def masked(x: Any) -> Any:
    return cr.relu(x), x > 0, cr.greater(x, -0.0), cr.greater(x, 1e-300)


# For each rule, functions with their arguments: one where it applies, then some where it may or,
# for the sake of a dtype, a shape or a sign, must not.
EXAMPLES: dict[str, list[tuple[Any, ...]]] = {
    "uniform constant": [
        (lambda x: x * np.full((4, 3), -0.0), X),
        (lambda x: cr.where(x > 0, np.full((4, 3), np.nan), x), X),
        (lambda x: x + np.broadcast_to(np.float32(2), (4, 3)), SINGLE),
    ],
    "identity": [
        (lambda x: cr.identity(x) + cr.stop_gradient(x), X),
        (lambda x: cr.identity(x), INTS),
        (lambda c, x: cr.identity(c) * x, 0.1, SINGLE),
    ],
    "times one": [
        (lambda x: (x * 1, 1.0 * x, x * np.float32(1)), X),
        (lambda x: x * 1.0, SINGLE),
        (lambda x: (x * 1, x * 1.0), INTS),
        (lambda x: x * np.ones((4, 3)), ROW),
        (lambda c: c * 1, 0.5),
        (lambda c: c * 1.0, 3),
    ],
    "over one": [(lambda x: x / 1, X), (lambda x: x / 1, INTS)],
    "minus zero": [(lambda x: (x - 0, x - 0.0, x - (-0.0)), X), (lambda x: x - 0, INTS)],
    "plus negative zero": [(lambda x: (x + -0.0, -0.0 + x, x + 0.0), X)],
    "double negative": [(twice, X), (twice, INTS), (twice, 2.5)],
    "same dtype": [
        (lambda x: x.astype(np.float64), X),
        (lambda c, x: c.astype(np.float64) * x, 0.1, SINGLE),
    ],
    "transposes": [
        (lambda x: x.T.T, X),
        (lambda x: x.transpose(1, 2, 0).transpose(1, 0, 2), special(2, 3, 4)),
        (lambda x: x.transpose(0, 1), X),
    ],
    "reshapes": [(lambda x: (x.reshape(12).reshape(3, 4), x.reshape(4, 3)), X)],
    "reduction in shape": [
        (lambda x: cr.sum(x, axis=1, keepdims=True).reshape(4), X),
        (lambda x: cr.max(x, axis=0).reshape(1, 3), X),
        (lambda x: cr.min(x, axis=(0, 1)).reshape(1, 1), X),
    ],
    "broadcasts": [
        (lambda x: cr.broadcast_to(cr.broadcast_to(x, (1, 3)), (4, 3)).T, ROW),
        (lambda x: cr.broadcast_to(x, (4, 3)), X),
    ],
    "moved repetition": [
        (lambda x: cr.broadcast_to(x, (4, 3)).T.reshape(2, 6), special(1)[0]),
    ],
    "sum of one": [
        (lambda x: cr.sum(x, axis=1), TALL),
        (lambda x: cr.sum(x, axis=(0, 1), keepdims=True), np.array([[-0.0]])),
        (lambda x: cr.sum(x, axis=1), INTS.reshape(12, 1)),
        (lambda x: cr.sum(x, axis=1), BOOLS.reshape(12, 1)),
        (lambda x: cr.sum(x, axis=1), TALL.astype(np.float32)),
    ],
    "extreme of one": [
        (lambda x: (cr.max(x, axis=1), cr.min(x, axis=1, keepdims=True)), TALL),
    ],
    "mask of relu": [(masked, X), (masked, SINGLE), (masked, INTS), (masked, 0.5)],
    "boolean against zero": [
        (lambda m: (cr.not_equal(m, 0), cr.equal(m, 0), cr.not_equal(m, 0.0)), BOOLS),
        (lambda m: cr.equal(m, np.zeros((4, 1))), BOOLS),
    ],
    "one way": [
        (lambda m, x: cr.where(m, x, x), BOOLS, X),
        (lambda x: (cr.where(np.ones((4, 3), bool), x, 0), cr.where(False, 1.0, x)), X),
        (lambda m, x: cr.where(m, x, x), BOOLS, ROW),
    ],
    "contrary": [(lambda m, x: cr.where(cr.logical_not(m), x, 0.0), BOOLS, X)],
    "implicit broadcast": [
        (lambda x, r: x * cr.broadcast_to(r, (4, 3)), X, ROW),
        (lambda x, r: cr.broadcast_to(x, (4, 3)) + cr.broadcast_to(r, (4, 3)), TALL[:4], ONE),
        (lambda x, r: cr.where(cr.broadcast_to(x, (4, 3)) > 0, r, 0.0), ROW, X),
        (lambda x, r: cr.broadcast_to(x, (4, 3)) - cr.broadcast_to(r, (4, 3)), ROW, ONE),
    ],
    "pointwise of repetition": [
        (lambda x, y: cr.broadcast_to(x, (4, 3)) / cr.broadcast_to(y, (4, 3)), *special(2)),
        (lambda x: cr.broadcast_to(x, (4, 3)) * 2.0, 0.3),
        (lambda x: -cr.broadcast_to(x, (4, 3)), np.float64(-0.0)),
        (lambda x: cr.broadcast_to(x, (4, 3)) * 0.1, np.float32(0.3)),
    ],
}


def only(monkeypatch: pytest.MonkeyPatch, *rules: Any) -> None:
    by_op = {op: [r for r in rules if op in r.ops] for op in {op for r in RULES for op in r.ops}}
    monkeypatch.setattr(module, "_BY_OP", by_op)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_rule_alone_is_exact_to_the_bit(rule: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert rule.why
    helpers = [r for r in RULES if r.name == "uniform constant" and r is not rule]
    for number, (function, *args) in enumerate(EXAMPLES[rule.name]):
        graph, inputs = traced(function, *args)
        only(monkeypatch, *helpers)
        without = simplify(graph)
        only(monkeypatch, *helpers, rule)
        after = simplify(graph)
        assert number or str(after) != str(without), f"not applied to\n{graph}"
        assert_same_bits(graph, after, inputs)


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_all_rules_together_are_exact_to_the_bit(name: str) -> None:
    for function, *args in EXAMPLES[name]:
        graph, inputs = traced(function, *args)
        assert_same_bits(graph, simplify(graph), inputs)
        assert_same_bits(graph, simplify(decompose(graph)), inputs)


def test_every_rule_has_an_example() -> None:
    assert {rule.name for rule in RULES} == EXAMPLES.keys()


# -- random programs --------------------------------------------------------------------------

NUMBERS = st.sampled_from([0, 1, 2, 0.0, -0.0, 1.0, -1.0, 0.5, np.float32(1), np.float64(0.0)])
UNARY: list[Function] = [
    lambda x: -x,
    cr.relu,
    cr.abs,
    cr.square,
    cr.identity,
    cr.stop_gradient,
    lambda x: x > 0,
    lambda x: x.T.T,
    lambda x: cr.broadcast_to(x, (2, *x.shape))[0],
    lambda x: cr.sum(x, axis=0, keepdims=True) if x.ndim else x,
    lambda x: cr.max(x, axis=-1) if x.ndim else x,
    lambda x: x.reshape(-1).reshape(x.shape),
    lambda x: x.astype(np.float32),
    lambda x: cr.sigmoid(x.astype(np.float64)),
    lambda x: cr.not_equal(x, 0),
    lambda x: cr.logical_not(x),
    lambda x: cr.where(cr.equal(x, 0), x, x * 1.0),
    lambda x: cr.broadcast_to(x, (4, 3)),
]
BINARY: list[Function] = [
    lambda x, y: x + y,
    lambda x, y: x * y,
    lambda x, y: x / (y * y + 1.0),
    cr.maximum,
    lambda x, y: cr.where(cr.greater(x, y), x, y),
    lambda x, y: cr.equal(x, y),
    lambda x, y: cr.subtract(x * 1.0, y),
]
STEP = st.tuples(st.integers(0, 40), st.integers(0, 40), st.integers(0, 40), st.none() | NUMBERS)
SHAPES = st.lists(st.sampled_from([(), (3,), (1, 3), (4, 1), (4, 3)]), min_size=1, max_size=3)


def program(steps: list[Any], values: list[Any]) -> list[Any]:
    for which, left, right, number in steps:
        x = values[left % len(values)]
        y = values[right % len(values)] if number is None else number
        words = UNARY + BINARY
        word = words[which % len(words)]
        try:
            made = word(x) if which % len(words) < len(UNARY) else word(x, y)
        except (ValueError, TypeError):  # shapes that do not fit; −x of booleans
            continue
        values.append(made)
    return values[-3:]


@given(st.lists(STEP, min_size=1, max_size=12), SHAPES, st.sampled_from([np.float64, np.float32]))
def test_random_programs_keep_their_bits(steps: Any, shapes: Any, dtype: Any) -> None:
    args = [special(*shape, dtype=dtype)[()] for shape in shapes]
    graph, inputs = traced(lambda *values: program(steps, list(values)), *args)
    small = simplify(graph)
    assert len(small.nodes) <= len(graph.nodes) + 2 * len(steps)
    assert_same_bits(graph, small, inputs)
    assert_same_bits(graph, simplify(decompose(small)), inputs)
    assert str(simplify(small)) == str(simplify(simplify(small)))


# -- what is left -----------------------------------------------------------------------------


def ops(function: Function, *args: Any) -> list[str]:
    graph, _ = traced(function, *args)
    return [node.op for node in simplify(graph).nodes if node.op != "input"]


def test_equal_nodes_are_shared_and_dead_ones_gone() -> None:
    def function(x: Any, unused: Any) -> Any:
        cr.exp(x)
        return cr.sin(x * 2.0) + cr.sin(x * 2.0), x[1:] + x[1:]

    assert ops(function, X, X) == ["constant", "multiply", "sin", "add", "getitem", "add"]
    graph, _ = traced(function, X, X)
    assert len(simplify(graph).inputs) == 2


def test_constants_that_differ_are_not_shared() -> None:
    def function(x: Any) -> Any:
        return x / 0.0, x / -0.0, x + 1, x + 1.0, x + np.float64(1)

    graph, inputs = traced(function, SINGLE)
    assert [n.op for n in simplify(graph).nodes].count("constant") == 5
    assert_same_bits(graph, simplify(graph), inputs)


def test_constants_are_folded_up_to_a_size() -> None:
    assert ops(lambda x: x + cr.sin(cr.exp(np.arange(3.0) * cr.tensor(2.0))), ROW) == [
        "constant",
        "add",
    ]
    large = np.arange(LARGEST + 1.0)
    assert "exp" in ops(lambda x: x + cr.exp(large * cr.tensor(2.0)), np.zeros(LARGEST + 1))


def test_python_numbers_stay_python_numbers() -> None:
    def function(x: Any) -> Any:
        return x * (cr.ops.constant(0.1) + 0.2) + cr.tensor(0.5).astype(np.float32)

    graph = trace(function, (SINGLE,)).graph
    weak = graph.add("constant", (), {"value": np.array(0.1), "weak": True}, shape=(), dtype=float)
    total = graph.add("add", (weak, weak), shape=(), dtype=float)
    product = graph.add("multiply", (0, total), shape=(4, 3), dtype=np.float32)
    graph.outputs.append(product)
    small = simplify(graph)
    constants = [n for n in small.nodes if n.op == "constant" and n.params.get("weak")]
    assert [float(n.params["value"]) for n in constants] == [0.1 + 0.2, 0.2]
    assert_same_bits(graph, small, [SINGLE])


def test_a_division_by_zero_of_python_numbers_is_left_to_run() -> None:
    graph = Graph()
    one, zero = graph.constant(1.0), graph.constant(0.0)
    for number in (one, zero):
        graph.nodes[number].params = {**graph.nodes[number].params, "weak": True}
    graph.outputs = [graph.add("divide", (one, zero), shape=(), dtype=float)]
    assert [n.op for n in simplify(graph).nodes] == ["constant", "constant", "divide"]


def test_a_relu_keeps_only_what_it_gives() -> None:
    """The gradient's mask reads max(x, 0), so that the net input need not be kept."""
    graph, _ = traced(cr.grad(lambda x, w: cr.sum(cr.relu(x @ w) ** 2), 1), special(4, 2), X[:2])
    small = simplify(graph)
    (net,) = [k for k, n in enumerate(small.nodes) if n.op == "matmul" and n.inputs == (0, 1)]
    assert [small.nodes[k].op for k in small.users()[net]] == ["relu"]


def test_names_survive() -> None:
    def function(x: Any) -> Any:
        y = cr.identity(x * 2.0)
        y.name = "doubled"
        return y

    graph, _ = traced(function, X)
    assert [n.label for n in simplify(graph).nodes] == ["x", "", "doubled"]


def test_golden() -> None:
    """A step of training, from the graph as it is traced to what is scheduled."""
    model = nn.Sequential(nn.Linear(3, 4, seed=0), nn.ReLU(), nn.Linear(4, 2, seed=1))
    optimizer = optim.SGD(0.1, momentum=0.9)

    def step(params: Any, state: Any, X: Any, y: Any) -> Any:
        def total(params: Any) -> Any:
            return losses.softmax_cross_entropy(model.apply(params, X), y)

        loss, gradients = cr.value_and_grad(total)(params)
        return loss, *optimizer.update(params, gradients, state)

    X, y = np.ones((5, 3), np.float32), np.array([0, 1, 0, 1, 1])
    made = trace(step, (model.params, optimizer.init(model.params), X, y))
    golden.check("simplified_step.txt", str(simplify(decompose(made.graph))) + "\n")
