"""What is said of a step's kernels: the nodes that are named have the values of their names."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import chainrule as cr
from chainrule import nn
from chainrule.circuit import vocabulary as ops
from chainrule.compiler import native
from chainrule.compiler.interpret import evaluated
from chainrule.compiler.plan import Plan as Schedule
from chainrule.compiler.plan import plan as schedule
from chainrule.nn import losses, optim
from chainrule.train.annotate import _Reading, annotated
from chainrule.train.callbacks import Callbacks
from chainrule.train.history import History
from chainrule.train.native import NativeLoop
from chainrule.train.progress import Silent
from chainrule.train.run import Gauges, Interrupt, Loop, Plan, Run

pytestmark = pytest.mark.skipif(not native.available(), reason="llvmlite is not here")

ROWS, BATCH = 12, 4


def data(inputs: int, outputs: int, loss: str) -> tuple[Any, Any]:
    rng = np.random.default_rng(1)
    X = rng.normal(size=(ROWS, inputs))
    if loss == "softmax_cross_entropy":
        return X, rng.integers(0, outputs, ROWS)
    return X, rng.uniform(size=(ROWS, outputs))


def traced(
    model: Any, X: Any, y: Any, loss: str, rule: Any, batch: int = BATCH
) -> tuple[Schedule, list[str]]:
    """The schedule of a training step, and the parameters' names."""
    run = Run(model, losses.get(loss), rule, None)
    plan = Plan(X, y, batch, 1, False, 0)
    parts = (Gauges(run, plan, None, {}, batch), Callbacks(()), Silent())
    program = NativeLoop(Loop(run, plan, *parts, History(), Interrupt())).step.loop
    if program.plans:
        return program.plans[0], list(run.parameters)
    return schedule(program.graphs[0], program.bound, program.streams), list(run.parameters)


def said(*modules: Any, loss: str = "softmax_cross_entropy", rule: Any = None) -> list[str]:
    """What is said of the kernels of a net with 5 inputs and 3 outputs."""
    model = nn.Sequential(*modules, seed=0)
    X, y = data(5, 3, loss)
    plan, names = traced(model, X.astype(model.dtype), y, loss, rule or optim.SGD(lr=0.1))
    texts = annotated(plan, names)
    assert sorted(texts) == sorted(kernel.number for kernel in plan.kernels)
    return list(texts.values())


# -- the nodes that are named ---------------------------------------------------------------------

SLOPES = {"ReLU": ops.relu, "Tanh": ops.tanh, "Sigmoid": ops.sigmoid, "GELU": ops.gelu}


@settings(max_examples=25, deadline=None)
@given(
    widths=st.lists(st.integers(2, 9), min_size=2, max_size=5),
    activation=st.sampled_from([*SLOPES, ""]),
    bias=st.booleans(),
    loss=st.sampled_from(["softmax_cross_entropy", "squared_error"]),
    rule=st.sampled_from(["sgd", "adam"]),
    whole=st.booleans(),
)
def test_a_name_stands_for_its_value(
    widths: list[int], activation: str, bias: bool, loss: str, rule: str, whole: bool
) -> None:
    modules: list[Any] = []
    for wide, narrow in itertools.pairwise(widths):
        modules.append(nn.Linear(wide, narrow, bias=bias, dtype=np.float64))
        modules += [getattr(nn, activation)()] if activation else []
    model = nn.Sequential(*modules[: len(modules) - bool(activation)], seed=0)
    X, y = data(widths[0], widths[-1], loss)
    plan, names = traced(model, X, y, loss, optim.get(rule), ROWS if whole else BATCH)
    values = _run(plan, model, X, y)
    X, y = (X, y) if whole else (X[:BATCH], y[:BATCH])
    reading = _Reading(plan, names)
    assert reading.whole
    assert len(reading.layers) == len(widths) - 1
    weights = [p.value for name, p in model.named_parameters() if name.endswith("weight")]
    biases = [p.value for name, p in model.named_parameters() if name.endswith("bias")]
    f = SLOPES.get(activation, lambda x: x)
    outs, nets = [X], []
    for k, W in enumerate(weights):
        nets.append(outs[-1] @ W.T + (biases[k] if bias else 0))
        outs.append(np.asarray(f(nets[-1])))
    delta = cr.grad(lambda net: losses.get(loss)(net, y))(nets[-1])
    for k in range(len(weights) - 1, -1, -1):
        layer = reading.layers[k]
        assert layer.net is not None
        assert layer.delta is not None
        assert layer.slope is not None
        _same(values[layer.given], outs[k])
        _same(values[layer.net], nets[k])
        _same(values[layer.delta], delta)
        _same(values[layer.slope], delta.T @ outs[k], turned=True)
        if layer.out is not None:
            _same(values[layer.out], outs[k + 1])
        if bias:
            _same(values[layer.sums[-1]], delta.sum(0))
        if k:
            assert layer.back is not None
            _same(values[layer.back], delta @ weights[k], turned=True)
            slope = cr.grad(lambda x: cr.sum(f(x) * 1.0))(nets[k - 1])
            delta = (delta @ weights[k]) * slope


def _same(actual: Any, expected: Any, turned: bool = False) -> None:
    """Equal, or its transpose: a product may be computed as (Bᵀ·Aᵀ)ᵀ."""
    close = [
        np.allclose(x, expected, 1e-9, 1e-12) for x in (actual, actual.T) if _fits(x, expected)
    ]
    assert close
    assert any(close) if turned or len(close) > 1 else close[0]


def _fits(x: Any, y: Any) -> bool:
    return bool(np.shape(x) == np.shape(y))


def _run(plan: Schedule, model: Any, X: Any, y: Any) -> list[Any]:
    """The value of every node, by NumPy."""
    own = {f"values[{k}]": p.value for k, (_, p) in enumerate(model.named_parameters())}
    own |= {"X": X, "y": y, "rows": np.arange(BATCH), "lr": np.float64(0.1), "number": np.int64(0)}
    values: list[Any] = []
    for node in plan.graph.nodes:
        if node.op == "input":
            values.append(own.get(node.label, np.zeros(node.shape, node.dtype)))
        else:
            with np.errstate(all="ignore"):
                values.append(np.asarray(evaluated(node, [values[k] for k in node.inputs])))
    return values


# -- words ----------------------------------------------------------------------------------------


def test_a_network_of_two_layers() -> None:
    texts = said(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))
    for text in (
        "X: the rows of this batch",
        "net1 = X·W1ᵀ + b1, h1 = tanh(net1), tanh′(net1)",
        "δ1 = (δ2·W2) ⊙ tanh′(net1)",
        "∂L/∂W2 = δ2ᵀ·h1, then W2 ← W2 − lr·∂L/∂W2",
        "∂L/∂b2 = Σ δ2 over the rows, then b2 ← b2 − lr·∂L/∂b2",
        "∂L/∂W1 = δ1ᵀ·X, then W1 ← W1 − lr·∂L/∂W1",
        "the size of the step, from lr",
    ):
        assert text in texts
    joined = "; ".join(texts)
    assert "δ2 = ∂L/∂net2" in joined
    assert "L, from net2 and y" in joined


@pytest.mark.parametrize(
    "rule",
    [
        optim.SGD(lr=0.1, momentum=0.9),
        optim.SGD(lr=0.1, weight_decay=0.1),
        optim.SGD(lr=0.1, clip_norm=1.0),
        optim.SGD(lr=0.1, clip_value=1.0),
        optim.Adam(),
    ],
    ids=["momentum", "weight decay", "clip_norm", "clip_value", "adam"],
)
def test_only_the_plain_update_is_written_out(rule: Any) -> None:
    joined = "; ".join(said(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3), rule=rule))
    for name in ("W1", "b1", "W2", "b2"):
        assert f"{name} ← update({name}, ∂L/∂{name})" in joined
    assert "lr·" not in joined


@pytest.mark.parametrize(
    "between",
    [
        [nn.BatchNorm1d(4), nn.ReLU()],
        [nn.LayerNorm(4)],
        [nn.Softmax()],
        [nn.PReLU(4)],
    ],
    ids=["BatchNorm1d", "LayerNorm", "Softmax", "PReLU"],
)
def test_what_is_no_function_of_one_element_is_left_without_a_word(between: list[Any]) -> None:
    joined = "; ".join(said(nn.Linear(5, 4), *between, nn.Linear(4, 3)))
    assert "net1 = X·W1ᵀ + b1" in joined
    for word in ("h1", "W2", "net2", "⊙", "δ2", "L, from"):
        assert word not in joined


def test_several_operations_between_two_layers_are_some_f() -> None:
    joined = "; ".join(said(nn.Linear(5, 4), nn.ReLU(), nn.Dropout(0.5), nn.Linear(4, 3)))
    assert "h1 = f(net1)" in joined
    assert "δ1 = (δ2·W2) ⊙ f′(net1)" in joined


def test_layers_without_a_function_between() -> None:
    joined = "; ".join(said(nn.Linear(5, 4, bias=False), nn.Linear(4, 3), loss="squared_error"))
    for text in ("net1 = X·W1ᵀ,", "net1 = X·W1ᵀ;"):
        if text in joined:
            break
    else:
        raise AssertionError(joined)
    assert "net2 = net1·W2ᵀ + b2" in joined
    assert "δ1 = δ2·W2" in joined
    assert "∂L/∂W2 = δ2ᵀ·net1" in joined
    assert "h1" not in joined


class Twice(nn.Module):
    """The same weights in two places."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(5, 5), nn.Linear(5, 3)

    def forward(self, x: Any) -> Any:
        return self.b(ops.tanh(self.a(ops.tanh(self.a(x)))))


class Skipped(nn.Module):
    """A hidden layer that is also read further on."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(5, 4), nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x: Any) -> Any:
        first = ops.tanh(self.a(x))
        return self.c(ops.tanh(self.b(first)) + first)


def test_weights_that_are_used_twice_are_left_without_a_word() -> None:
    joined = "; ".join(said(Twice()))
    for word in ("net", "∂L", "δ", "W1", "W2", "h1"):
        assert word not in joined


def test_a_connection_that_skips_a_layer_hides_no_part_of_a_gradient() -> None:
    joined = "; ".join(said(Skipped()))
    assert "net2 = h1·W2ᵀ + b2" in joined
    assert "δ2·W2" in joined
    for word in ("∂L/∂h1", "δ1 =", "⊙", "W3", "L, from"):
        assert word not in joined
