"""Whatever runs on tensors can be traced: what comes out for other inputs is the eager result."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim
from chainrule.circuit import state
from chainrule.compiler.decompose import decompose
from chainrule.compiler.interpret import interpret
from chainrule.compiler.simplify import simplify
from chainrule.compiler.trace import Traced, signature, trace
from chainrule.errors import TraceError
from chainrule.gradient.tree import leaves
from chainrule.nn import losses

Function = Callable[..., Any]


def draw(*shape: int, seed: int = 0, dtype: Any = np.float64) -> Any:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def other(value: Any, seed: int = 1) -> Any:
    """Arguments of the same signature with other numbers in them."""
    if isinstance(value, dict):
        return {key: other(one, seed + k) for k, (key, one) in enumerate(value.items())}
    if isinstance(value, (list, tuple)):
        return type(value)([other(one, seed + k) for k, one in enumerate(value)])
    if isinstance(value, (bool, np.bool_)):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value * 0.75
    if isinstance(value, np.ndarray):
        if value.dtype.kind == "b":
            return ~value
        if value.dtype.kind in "iu":
            return value[::-1].copy()
        return (value[::-1] * 0.75).astype(value.dtype) if value.ndim else value * 0.75
    return value


def plain(tree: Any) -> list[Any]:
    return [np.asarray(x.value if isinstance(x, cr.Tensor) else x) for _, x in leaves(tree)]


def run(traced: Traced, args: Any, change: Callable[[Any], Any] = lambda graph: graph) -> Any:
    return traced.rebuilt(interpret(change(traced.graph), traced.inputs(args)))


STAGES: dict[str, Callable[[Any], Any]] = {
    "traced": lambda graph: graph,
    "simplified": simplify,
    "decomposed": decompose,
    "both": lambda graph: simplify(decompose(graph)),
}


def assert_same(function: Function, args: Any, exact: bool = True) -> Traced:
    """Traced on these arguments, every stage gives the eager result on others."""
    traced = trace(function, args)
    for given in (args, other(args)):
        assert signature(given) == signature(args)
        expected = plain(function(*given))
        for stage, change in STAGES.items():
            found = plain(run(traced, given, change))
            assert len(found) == len(expected)
            for got, want in zip(found, expected, strict=True):
                assert got.shape == want.shape, stage
                assert got.dtype == want.dtype, stage
                if exact:
                    np.testing.assert_array_equal(got, want, err_msg=stage)
                else:
                    rounding = 64 * np.finfo(want.dtype).eps if want.dtype.kind == "f" else 0
                    np.testing.assert_allclose(got, want, rounding, rounding, err_msg=stage)
    return traced


class Case(NamedTuple):
    name: str
    function: Function
    args: tuple[Any, ...]
    exact: bool = True


A, B, V = draw(3, 4), draw(4, 2), draw(4)
BATCH = draw(2, 3, 4)
I = np.array([2, 0, 1])  # noqa: E741

CASES = [
    Case("scalar", lambda x: x * 2 + 1, (3.0,)),
    Case("python number", lambda n, x: n * x + n, (3, draw(3, dtype=np.float32))),
    Case("python float stays weak", lambda c, x: (c * 2 + 1) * x, (0.3, draw(3, dtype=np.float32))),
    Case("python ints divide", lambda a, b: a / (b + 1) - a, (3, 4)),
    Case("bool", lambda flag, x: cr.where(flag, x, -x), (True, V)),
    Case("mask", lambda mask, x: cr.where(mask, x, 0.0), (V > 0, V)),
    Case("labels", lambda y, x: cr.equal(y, np.arange(3)) * x, (I, draw(3))),
    Case("one_hot", lambda y: cr.one_hot(y, 3), (I,)),
    Case("tree", lambda t: {"s": t["a"] + t["b"][0], "n": None}, ({"a": V, "b": [V, 2.0]},)),
    Case("mixed dtypes", lambda x, y: x * y, (A, draw(3, 1, dtype=np.float32))),
    Case("einsum", lambda a, b: cr.einsum("ij,jk->ki", a, b), (A, B), False),
    Case("einsum batch", lambda a, b: cr.einsum("bij,j->bi", a, b), (BATCH, V), False),
    Case("einsum trace", lambda a: cr.einsum("ii->", a), (draw(3, 3),)),
    Case("dot vectors", lambda a, b: a @ b, (V, draw(4)), False),
    Case("vector matrix", lambda a, b: a @ b, (V, B), False),
    Case("matrix vector", lambda a, b: a @ b, (A, V), False),
    Case("batch by matrix", lambda a, b: a @ b, (BATCH, B), False),
    Case("batch by vector", lambda a, b: a @ b, (BATCH, V), False),
    Case("matrix by batch", lambda a, b: b @ a, (BATCH, draw(5, 3)), False),
    Case("batches", lambda a, b: a @ b, (BATCH, draw(2, 4, 5)), False),
    Case("broadcast batches", lambda a, b: a @ b, (draw(2, 1, 3, 4), draw(3, 4, 5)), False),
    Case("mixed matmul", lambda a, b: a @ b, (A, draw(4, 2, dtype=np.float32)), False),
    Case("softmax", lambda x: cr.softmax(x), (A,)),
    Case("softmax axis 0", lambda x: cr.softmax(x, axis=0, beta=2.0), (A,)),
    Case("softmax infinite", lambda x: cr.softmax(x * np.inf), (A,)),
    Case("softmax of ints", lambda n: cr.softmax(n), (I,)),
    Case("log_softmax", lambda x: cr.log_softmax(x, axis=1), (BATCH,)),
    Case("logsumexp", lambda x: (cr.logsumexp(x), cr.logsumexp(x, axis=(0, 2))), (BATCH,)),
    Case("logsumexp keepdims", lambda x: cr.logsumexp(x, axis=1, keepdims=True), (BATCH,)),
    Case("log_softmax float32", lambda x: cr.log_softmax(x), (draw(3, 4, dtype=np.float32),)),
    Case("argmax", lambda x: (cr.argmax(x), cr.argmin(x, axis=-1), cr.argmax(x, 0, True)), (A,)),
    Case("sum of bools", lambda x: cr.sum(x > 0, axis=0), (A,)),
    Case("mean var std", lambda x: (cr.mean(x), cr.var(x, axis=0), cr.std(x, axis=(0, 1))), (A,)),
    Case("prod cumsum", lambda x: (cr.prod(x, axis=1), cr.cumsum(x), cr.cumsum(x, 0)), (A,)),
    Case("cumsum of bools", lambda x: cr.cumsum(x > 0, axis=1), (A,)),
    Case("max min", lambda x: (x.max(axis=1), x.min(axis=(0, 1), keepdims=True)), (A,)),
    Case("norm", lambda x: cr.linalg.norm(x), (A,)),
    Case("index", lambda x: (x[1], x[-1, 2], x[:, 1:3], x[::-1, ::2], x[..., None, 0]), (A,)),
    Case("empty index", lambda x: x[3:], (A,)),
    Case("advanced index", lambda x: (x[I], x[:, [0, -1, 0]], x[1:, [1, 2]]), (A,)),
    Case("pairs of indices", lambda x: (x[I, [0, 1, 2]], x[0, I], x[:, I, 1]), (draw(3, 3, 3),)),
    Case("two dimensions of indices", lambda x: x[np.array([[0, 1], [2, 2]])], (A,)),
    Case("masks", lambda x: (x[A > 0], x[:, V > 0]), (A,)),
    Case("separated indices", lambda x: x[[0, 1], :, [0, 1]], (BATCH,)),
    Case("traced index", lambda x, k: (x[k], cr.take(x, k, axis=1), x[1:, k]), (A, I)),
    Case("traced pairs", lambda x, k: (x[np.arange(3), k], x[k, k], x[..., k, :]), (A, I)),
    Case("traced scalar index", lambda x, k: (x[k], x[:, k], x[1, k], x[k, ::2]), (A, 1)),
    Case("negative traced index", lambda x, k: x[k - 3], (A, I)),
    Case("traced index of a plain array", lambda k: cr.take(A, k, axis=0), (I,)),
    Case("embedding", cr.grad(lambda x, k: cr.sum(x[k] ** 3)), (A, I[[0, 1, 1]])),
    Case("embedding twice", cr.grad(lambda x, k: cr.sum(cr.grad(lambda z: cr.sum(z[k] ** 3))(x))),
         (A, I[[0, 1, 1]])),
    Case("numpy index", lambda x: (x[np.int64(1)], x[np.array(1)], x[None, I]), (A,)),
    Case("scatter", lambda v: cr.scatter_add(v, [0, 0, 2, -1], (5,)), (V,)),
    Case("scatter slice", lambda v: cr.scatter_add(v, slice(1, 5), (6,)), (V,)),
    Case("scatter rows", lambda v: cr.scatter_add(v, ([0, 1, 1], slice(1, 5)), (2, 6)), (A,)),
    Case("join", lambda x, y: cr.concatenate([x, y], axis=1), (A, draw(3, 1))),
    Case("stack split flip", lambda x: [*cr.split(cr.stack([x, x]), 2), cr.flip(x, 1)], (A,)),
    Case("pad take", lambda x: (cr.pad(x, 1, constant_values=2.0), cr.take(x, I, axis=0)), (A,)),
    Case("numpy functions", lambda x: np.sum(np.sin(x)) * np.ones_like(x) + np.shape(x)[0], (A,)),
    Case("iteration", lambda x: sum(row * k for k, row in enumerate(x)), (A,)),
    Case("keep", lambda x, key: cr.dropout(x, 0.5, key=key), (A, 7)),
    Case("no_grad", cr.no_grad()(lambda x: x * 2), (A,)),
    Case("detached", lambda x: cr.grad(lambda z: cr.sum(z * z.detach()))(x), (A,)),
    Case("power", lambda x: (x**2, x**0.5, 2**x, x**-1), (np.abs(A),)),
    Case("constant result", lambda x: (cr.tensor(2.0) * 3, np.arange(3), 7), (V,)),
    Case("unused and returned", lambda x, y: (y, y), (V, A)),
    Case("jacobian", cr.jacobian(lambda x: cr.tanh(A @ x)), (V,), False),
    Case("hessian", cr.hessian(lambda x: cr.sum(cr.tanh(x) * x[0])), (V,), False),
    Case("grad of grad", cr.grad(cr.grad(lambda x: x**3 * cr.sin(x))), (0.7,)),
    Case("grad of an int", cr.grad(lambda x: x**3), (3,)),
    Case("grad of a python list", cr.grad(lambda p: p[0] * p[1]), ([2.0, 3.0],)),
    Case("grad in both", cr.grad(lambda x, y: cr.sum(x @ y), (0, 1)), (A, B), False),
    Case("grad of a constant", lambda x: x * cr.grad(lambda z: z * z)(3.0), (V,)),
    Case("grad of a plain array", lambda x: cr.grad(lambda z: cr.sum(z * x))(np.ones(4)), (V,)),
    Case("grad of labels", lambda y: cr.grad(lambda z: cr.sum(z**2))(y.astype(float)), (I,)),
    Case("unreached", cr.grad(lambda x: cr.sum(V)), (V,)),
    Case("jvp", lambda x, v: cr.jvp(lambda z: cr.sin(z) * z, (x,), (v,)), (V, draw(4, seed=3))),
    Case("vjp", lambda x, u: cr.vjp(cr.tanh, x)[1](u), (V, draw(4, seed=2))),
    Case("prelu elu leaky", lambda x: cr.prelu(x, 0.2) + cr.elu(x) + cr.leaky_relu(x), (A,)),
    Case("clip", cr.grad(lambda x: cr.sum(cr.clip(x, -0.5, 0.5) + cr.hard_tanh(x))), (A,)),
    Case("bool result", lambda x: (x > 0, cr.logical_and(x > 0, x < 1)), (A,)),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*invalid value.*:RuntimeWarning")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_stage_computes_what_the_function_computes(case: Case) -> None:
    assert_same(case.function, case.args, case.exact)


# -- training ---------------------------------------------------------------------------------

REGRESSION = ["squared_error", "mean_squared_error", "absolute_error", "huber"]
UNIT = ["logistic", "binary_cross_entropy"]
CLASSES = ["nll", "softmax_cross_entropy", "relative_entropy"]


def network(dtype: Any = np.float32) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(5, 4, seed=0, dtype=dtype), nn.ReLU(), nn.Linear(4, 3, seed=1, dtype=dtype)
    )


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("name", REGRESSION + UNIT + CLASSES)
def test_loss_and_gradient_of_a_network(name: str, reduction: str, weighted: bool) -> None:
    model, loss = network(), losses.get(name)
    X = draw(6, 5, dtype=np.float32)
    target = np.array([0, 1, 2, 0, 1, 2]) if name in CLASSES else np.abs(draw(6, 3)) % 1
    weight = np.arange(1.0, 7.0) if weighted else None

    def step(params: Any, X: Any, y: Any, w: Any) -> Any:
        def total(params: Any) -> Any:
            out = model.apply(params, X)
            if name in ("nll", "relative_entropy"):
                out = cr.softmax(out)
            out = cr.sigmoid(out) if name == "binary_cross_entropy" else out
            return loss(out, y, w, reduction)

        return cr.value_and_grad(total)(params)

    assert_same(step, (model.params, X, target, weight))


@pytest.mark.parametrize("name", CLASSES)
def test_losses_on_distributions(name: str) -> None:
    def both(a: Any, y: Any) -> Any:
        z = a if name == "softmax_cross_entropy" else cr.softmax(a)
        return losses.get(name)(z, y)

    y = np.array([[0.5, 0.5, 0.0], [0.0, 1.0, 0.0], [0.25, 0.25, 0.5]])
    traced = trace(cr.value_and_grad(both), (draw(3, 3), y))
    given = draw(3, 3, seed=5), y[::-1].copy()
    for got, want in zip(
        plain(run(traced, given)), plain(cr.value_and_grad(both)(*given)), strict=True
    ):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("transfer", ["sigmoid", "softmax", "identity"])
def test_a_matching_loss_does_not_remember_which_targets_it_saw(transfer: str) -> None:
    """The logistic one leaves out its constant for hard targets: not when soft ones may come."""
    function = cr.value_and_grad(losses.matching(transfer))
    hard, soft = np.eye(3), np.full((3, 3), 1 / 3)
    traced = trace(function, (draw(3, 3), hard))
    for target in (hard, soft):
        got, want = run(traced, (draw(3, 3), target)), function(draw(3, 3), target)
        for a, b in zip(plain(got), plain(want), strict=True):
            np.testing.assert_allclose(a, b, 1e-14, 1e-16)


OPTIMIZERS = [
    optim.SGD(0.1),
    optim.SGD(0.1, momentum=0.9, nesterov=True, weight_decay=0.01, clip_value=0.5),
    optim.SGD(optim.cosine(0.1, 10), momentum=0.9),
    optim.SGD(optim.warmup(optim.steps(0.1, 2), 3)),
    optim.Adam(0.1),
    optim.Adam(optim.exponential(0.1, 0.9), weight_decay=0.1),
    optim.AdamW(0.1),
    optim.RMSprop(0.1, clip_norm=0.5, momentum=0.9, centered=True),
    optim.Adagrad(0.1, lr_decay=0.1),
]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
def test_steps_of_training(optimizer: Any, dtype: Any) -> None:
    """Five steps of one traced step, `state["step"]` being an input: the eager parameters."""
    model = network(dtype)

    def step(params: Any, state: Any, X: Any, y: Any) -> Any:
        def total(params: Any) -> Any:
            return losses.softmax_cross_entropy(model.apply(params, X), y)

        loss, gradients = cr.value_and_grad(total)(params)
        return loss, *optimizer.update(params, gradients, state)

    params, state = model.params, optimizer.init(model.params)
    mine, my_state = params, state
    traced = trace(step, (params, state, draw(6, 5, dtype=dtype), np.arange(6) % 3))
    for k in range(5):
        X, y = draw(6, 5, seed=k, dtype=dtype), np.arange(k, k + 6) % 3
        loss, params, state = step(params, state, X, y)
        my_loss, mine, my_state = run(traced, (mine, my_state, X, y), STAGES["both"])
        assert my_state["step"] == state["step"] == k + 1
        assert type(my_state["step"]) is int
        tolerance = 1e-12 if dtype is np.float64 else 2e-5
        np.testing.assert_allclose(my_loss, loss, tolerance)
        for name in params:
            assert mine[name].dtype == params[name].dtype
            np.testing.assert_allclose(mine[name], params[name], tolerance, tolerance)


def test_a_module_as_an_argument() -> None:
    model = network()
    X = draw(6, 5, dtype=np.float32)
    function = cr.value_and_grad(lambda model, X: cr.sum(model(X) ** 2))
    traced = trace(function, (model, X))
    assert len(traced.graph.inputs) == 5
    assert not traced.parameters
    for p in model.parameters():
        p.rebind(p.value * 0.5)
    value, gradients = run(traced, (model, X))
    expected, wanted = function(model, X)
    np.testing.assert_array_equal(value, expected)
    for name, gradient in wanted.items():
        np.testing.assert_array_equal(gradients[name], gradient)


@pytest.mark.parametrize("through_params", [False, True])
def test_parameters_that_are_closed_over_are_read_at_each_call(through_params: bool) -> None:
    model, scale = network(), cr.tensor(2.0, name="scale")
    offset = cr.tensor(np.array([1, 2, 3]))  # an array of integers: a constant

    def function(X: Any) -> Any:
        return (model.apply(model.params, X) if through_params else model(X)) * scale + offset

    X = draw(6, 5, dtype=np.float32)
    traced = trace(function, (X,))
    assert [p.name for p in traced.parameters] == ["W1", "b1", "W2", "b2", "scale"]
    before = run(traced, (X,))
    np.testing.assert_array_equal(before, function(X).numpy())
    model[0].weight.rebind(model[0].weight.value * 3)
    after = run(traced, (X,))
    np.testing.assert_array_equal(after, function(X).numpy())
    assert (before != after).any()


def test_buffers_are_read_at_each_call() -> None:
    """What training has averaged since is what a compiled network uses."""
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2, seed=0)).eval()
    X = draw(4, 3, dtype=np.float32)
    traced = trace(cr.value_and_grad(lambda X: cr.sum(model(X) ** 2)), (X,))
    names = {p.name for p in traced.parameters}
    assert names == {"γ1", "β1", "W1", "b1", "running_mean", "running_var"}
    model.train()(X * 3 + 1)
    model.eval()
    expected = cr.value_and_grad(lambda X: cr.sum(model(X) ** 2))(X)
    for stage in STAGES.values():
        for got, want in zip(plain(run(traced, (X,), stage)), plain(expected), strict=True):
            np.testing.assert_array_equal(got, want)


def test_what_was_computed_before_stays_what_it_was() -> None:
    """A tensor that is closed over is a value, not the circuit that it came from."""
    w = cr.Parameter(np.array([1.0, 2.0]))
    h = w * 3
    traced = trace(lambda x: x * h, (V[:2],))
    w.rebind(np.zeros(2))
    np.testing.assert_array_equal(run(traced, (V[:2],)), V[:2] * [3.0, 6.0])


def test_a_recorded_tensor_may_be_an_argument() -> None:
    x = cr.tensor(V)
    traced = trace(lambda z: z * 2, (x * 1.5,))
    np.testing.assert_array_equal(run(traced, (x * 0.5,)), V * 0.5 * 2)
    traced = trace(cr.grad(lambda w: cr.sum(w * w)), (cr.Parameter(V),))
    np.testing.assert_array_equal(run(traced, (cr.Parameter(V * 2),)), V * 4)


def test_custom_gates_dissolve_or_are_called() -> None:
    @cr.custom_gate(local=lambda x, out, k: k * cr.cos(k * x))
    def wave(x: Any, k: float = 2.0) -> Any:
        return cr.sin(k * x)

    assert "call" not in str(assert_same(cr.value_and_grad(lambda x: cr.sum(wave(x, k=3.0))), (V,)))

    @cr.custom_gate(local=lambda x, out: 2 * x, value=lambda x: np.vectorize(lambda z: z * z)(x))
    def stubborn(x: Any) -> Any:
        return x * x

    traced = assert_same(cr.value_and_grad(lambda x: cr.sum(stubborn(x))), (V,))
    assert [n.op for n in traced.graph.nodes].count("call") == 1


def test_names_and_groups_are_kept() -> None:
    def function(X: Any, /, *rest: Any, scale: Any) -> Any:
        net = X["a"] @ rest[0]
        net.name = "net"
        return cr.std(net) * scale

    traced = trace(function, ({"a": A}, B), {"scale": 2.0})
    assert [n.label for n in traced.graph.nodes][:4] == ["X['a']", "argument1", "scale", "net"]
    assert {n.origin for n in traced.graph.nodes if n.op in ("sum", "sqrt")} == {"std"}
    outputs = interpret(traced.graph, traced.inputs(({"a": A}, B), {"scale": 3.0}))
    assert traced.rebuilt(outputs) == np.std(A @ B) * 3.0


# -- what cannot be compiled ------------------------------------------------------------------


def _if(x: Any) -> Any:
    return x if x > 0 else -x


def test_a_traced_index_out_of_range_is_an_error_not_another_element() -> None:
    traced = trace(lambda x, k: x[np.arange(3), k], (A, I))
    for wrong in ([0, 1, 4], [0, -5, 0]):
        with pytest.raises(IndexError):
            run(traced, (A, np.array(wrong)), STAGES["both"])


REFUSED: list[tuple[str, Function, Any, str]] = [
    ("if", _if, 2.0, r"bool\(\).*cr\.where"),
    ("while not", lambda x: not (x > 0), 2.0, r"bool\(\)"),
    ("float", lambda x: float(x * 2), 2.0, r"float\(\).*keep the tensor"),
    ("int", lambda x: int(x * 2), 2.0, r"int\(\)"),
    ("item", lambda x: (x * 2).item(), 2.0, r"\.item\(\)"),
    ("tolist", lambda x: x.tolist(), V, r"\.tolist\(\)"),
    ("asarray", lambda x: np.asarray(x), V, r"np\.asarray\(\)"),
    ("numpy", lambda x: x.numpy(), V, r"\.numpy\(\)"),
    ("unknown question", lambda x: np.any(x > 0), V, r"\.numpy\(\)"),
    ("range", lambda n: sum(range(n)), 3, r"an index.*plain number"),
    ("list index", lambda n: [1, 2][n], 1, r"an index"),
    ("shape", lambda n: np.zeros(3) * cr.reshape(V, (n, 1)), 4, r"an index"),
    ("int of an int", lambda n: int(n), 4, r"int\(\)"),
    ("slice", lambda n: cr.tensor(V)[:n], 2, r"an index"),
    ("mask", lambda m: cr.tensor(V)[m], V > 0, r"mask.*cr\.where"),
    ("indices apart", lambda k: cr.tensor(BATCH)[k, :, k], I[1:], r"side by side"),
    ("new axis", lambda k: cr.tensor(V)[None, k], I, r"reshape"),
    ("backward", lambda x: (x * x).backward(), 2.0, r"backward\(\).*cr\.grad"),
    ("new tensor", lambda x: cr.tensor(x * 2), 2.0, r"tensor\(\).*stop_gradient"),
    ("parameter", lambda x: float(cr.Parameter(2.0)), 2.0, r"float\(\)"),
]  # fmt: skip


@pytest.mark.parametrize(("function", "given", "message"), [x[1:] for x in REFUSED],
                         ids=[x[0] for x in REFUSED])  # fmt: skip
def test_a_traced_value_is_not_let_out(function: Function, given: Any, message: str) -> None:
    with pytest.raises(TraceError, match=message) as caught:
        trace(function, (given,))
    line = function.__code__.co_firstlineno
    assert any(f"{__file__}:{line + k} " in str(caught.value) for k in (0, 1))


def test_what_changes_at_every_call_is_refused() -> None:
    parameter = cr.Parameter(2.0)
    with pytest.raises(TraceError, match=r"rebind.*outside"):
        trace(lambda x: parameter.rebind(3.0), (2.0,))
    normed = nn.Sequential(nn.Linear(2, 2, seed=0), nn.BatchNorm1d(2))
    X = draw(4, 2, dtype=np.float32)
    mean = normed[1].running_mean.copy()
    with pytest.raises(TraceError, match=r"BatchNorm1d.*running averages.*eval"):
        trace(normed, (X,))
    np.testing.assert_array_equal(normed[1].running_mean, mean)
    assert_same(normed.eval(), (X,))
    assert_same(lambda p, X: normed.train().apply(p, X), (normed.params, X))
    with pytest.raises(TraceError, match=r"Dropout.*key="):
        trace(nn.Dropout(0.5), (X,))
    with pytest.raises(TraceError, match=r"predict"):
        trace(lambda X: normed.predict(X), (X,))


@pytest.mark.parametrize(
    ("value", "message"),
    [(object(), "argument x is a object"), (np.array([1j]), "complex"), ({1, 2}, "is a set")],
)  # fmt: skip
def test_unknown_arguments_are_named(value: Any, message: str) -> None:
    with pytest.raises(TraceError, match=message):
        trace(lambda x: 1.0, (value,))


def test_unknown_results_are_named() -> None:
    with pytest.raises(TraceError, match="returned a set"):
        trace(lambda x: {1, 2}, (2.0,))
    traced = trace(lambda x: {"name": "a", "x": x}, (2.0,))
    assert run(traced, (3.0,)) == {"name": "a", "x": 3.0}


def test_nothing_is_left_behind_and_other_threads_do_not_notice() -> None:
    seen: list[Any] = []

    def elsewhere() -> None:
        seen.extend([state.compiling, float(cr.tensor(2.0) * 2), bool(cr.tensor(1.0) > 0)])

    def function(x: Any) -> Any:
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        return x * 2

    trace(function, (2.0,))
    assert seen == [False, 4.0, True]
    with pytest.raises(TraceError):
        trace(_if, (2.0,))
    assert state.compiling is False
    assert float(cr.tensor(2.0)) == 2.0


def test_a_trace_keeps_no_value_alive() -> None:
    kept: list[Any] = []

    def function(x: Any) -> Any:
        import weakref

        y = x * 2
        kept.append(weakref.ref(y))
        return y + 1

    traced = trace(function, (V,))
    gc.collect()
    assert kept[0]() is None
    assert len(traced.graph.nodes) == 5


def test_signature() -> None:
    model = network()
    base = signature((A, {"y": I}, 2.0, model), {"flag": "relu"})
    assert hash(base) == hash(signature((A * 2, {"y": I + 1}, 3.0, model), {"flag": "relu"}))
    assert base == signature((A * 2, {"y": I + 1}, 3.0, model), {"flag": "relu"})
    for args, kwargs in [
        ((A[:2], {"y": I}, 2.0, model), {"flag": "relu"}),
        ((A.astype("f4"), {"y": I}, 2.0, model), {"flag": "relu"}),
        ((A, {"z": I}, 2.0, model), {"flag": "relu"}),
        ((A, {"y": I}, 2, model), {"flag": "relu"}),
        ((A, {"y": I}, np.float64(2), model), {"flag": "relu"}),
        ((A, {"y": I}, 2.0, network()), {"flag": "relu"}),
        ((A, {"y": I}, 2.0, model), {"flag": "tanh"}),
        ((A, {"y": I}, 2.0, model), {}),
    ]:
        assert signature(args, kwargs) != base
    model.eval()
    assert signature((A, {"y": I}, 2.0, model), {"flag": "relu"}) != base
    assert signature((cr.tensor(A),)) == signature((A,))


def test_a_long_circuit_takes_seconds_and_no_recursion() -> None:
    def deep(x: Any) -> Any:
        for _ in range(25_000):
            x = x * 1.0000001 + 0.1
        return x

    traced = trace(deep, (np.ones(3),))
    graph = simplify(decompose(traced.graph))
    assert len(traced.graph.nodes) > 100_000
    assert len(graph.nodes) == 50_003
    np.testing.assert_array_equal(interpret(graph, [np.ones(3)])[0], deep(np.ones(3)))
