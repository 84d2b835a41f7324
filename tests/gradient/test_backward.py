"""The backward loop: the lectures' circuits, what is stored, depth and width, refusals."""

from __future__ import annotations

import gc
import inspect
import math
import time
import warnings
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule.circuit import Parameter, Tensor, circuit_of
from chainrule.gradient import Edge, flow_back
from tolerances import VALUE, assert_near

EXACT = VALUE[np.float64]


def watched(output: Tensor, upstream: Any = 1.0) -> tuple[dict[Tensor, Any], list[Edge]]:
    edges: list[Edge] = []
    return flow_back(output, np.float64(upstream), watch=edges.append), edges


# -- the lectures' circuits, with the figures that they print ---------------------------------


def test_slides_linear_unit() -> None:
    w, x, b = cr.tensor(-2.0), cr.tensor(5.0), cr.tensor(3.0)
    g = w * x
    f = g + b
    grads = f.backward()
    assert float(f) == -7
    assert [float(grads[t]) for t in (w, x, b, g)] == [5, -2, 1, 1]


def test_slides_add_then_multiply() -> None:
    x, y, z = cr.tensor(-2.0), cr.tensor(5.0), cr.tensor(-4.0)
    q = x + y
    f = q * z
    grads = f.backward()
    assert (float(q), float(f)) == (3, -12)
    assert [float(grads[t]) for t in (x, y, z, q, f)] == [-4, -4, 3, -4, 1]
    assert q.grad == -4


SIGMOID_NEURON = {
    "w0": (2.0, -0.19661193324148185),
    "x0": (-1.0, 0.3932238664829637),
    "w1": (-3.0, -0.3932238664829637),
    "x1": (-2.0, -0.5898357997244456),
    "w2": (-3.0, 0.19661193324148185),
}


@pytest.mark.parametrize("opened", [False, True])
def test_slides_sigmoid_neuron(opened: bool) -> None:
    v = {name: cr.tensor(value, name=name) for name, (value, _) in SIGMOID_NEURON.items()}
    net = v["w0"] * v["x0"] + v["w1"] * v["x1"] + v["w2"]
    f = 1 / (1 + cr.exp(-net)) if opened else cr.sigmoid(net)
    grads = f.backward()
    assert_near(f.value, 0.7310585786300049, EXACT)
    for name, (_, gradient) in SIGMOID_NEURON.items():
        assert_near(grads[v[name]], gradient, EXACT, what=name)


def test_slides_sigmoid_stages() -> None:
    """Every edge of the opened sigmoid: ×−1, exp, +1, 1/x."""
    net = cr.tensor(1.0)
    stages = [net, -net]
    stages.append(cr.exp(stages[-1]))
    stages.append(stages[-1] + 1)
    stages.append(1 / stages[-1])
    grads = stages[-1].backward()
    values = [1.0, -1.0, 0.36787944117144233, 1.3678794411714423, 0.7310585786300049]
    upstream = [
        0.19661193324148185,
        -0.19661193324148185,
        -0.534446645388523,
        -0.534446645388523,
        1.0,
    ]
    assert_near([float(s) for s in stages], values, EXACT)
    assert_near([float(grads[s]) for s in stages], upstream, EXACT)


def test_slides_gradients_add_at_branches() -> None:
    x, y = cr.tensor(1.3), cr.tensor(2.0)
    grads = (x * y + x * x + cr.sin(x)).backward()
    assert_near(grads[x], 4.867498828624587, EXACT)
    assert_near(grads[y], 1.3, EXACT)


def test_transfer_note_chain_rule() -> None:
    x = cr.tensor(1.3)
    f, g = cr.sin(x**2), cr.sin(cr.exp(-(x**2)))
    assert_near([float(f), float(g)], [0.9929036510941185, 0.1834742350286739], EXACT)
    assert_near(f.backward()[x], -0.30919608017119193, EXACT, 10.0)
    assert_near(g.backward()[x], -0.47160676246083966, EXACT)


def test_delta_note_partial_derivatives() -> None:
    x, y = cr.tensor(3.0), cr.tensor(-2.0)
    f = x**2 + x * y + y**2
    grads = f.backward()
    assert (float(f), float(grads[x]), float(grads[y])) == (7, 4, -1)


def test_delta_note_output_delta() -> None:
    net, y = cr.tensor(-1.28), 1.0
    out = cr.sigmoid(net)
    grads = (0.5 * (y - out) ** 2).backward()
    assert_near(out.value, 0.2175502235768875, EXACT)
    assert_near(-grads[net], 0.13319026270843012, EXACT)
    rounded = cr.tensor(0.21)
    local = rounded * (1 - rounded)
    assert_near((y - rounded.value) * local.value, 0.131061, EXACT)


def test_softmax_note_two_neuron_chain() -> None:
    x, d = 0.8, 0.3
    w1, w2 = cr.tensor(0.6), cr.tensor(-1.1)
    y = cr.sigmoid(w1 * x)
    z = cr.sigmoid(w2 * y)
    error = 0.5 * (d - z) ** 2
    grads = error.backward()
    expected = [0.617747874769249, 0.33636784776199624, 0.0006613101754198679]
    assert_near([float(t) for t in (y, z, error)], expected, EXACT, 0.01)
    assert_near(grads[w2], 0.0050149979026724864, EXACT, 0.1)
    assert_near(grads[w1], -0.001686954373565399, EXACT, 0.1)


def test_slides_worked_2_2_2_example() -> None:
    w = cr.tensor(np.array([[0.15, 0.2], [0.25, 0.3]]))
    u = cr.tensor(np.array([[0.4, 0.45], [0.5, 0.55]]))
    b1, b2 = cr.tensor(0.35), cr.tensor(0.6)
    out_h = cr.sigmoid(w @ np.array([0.05, 0.1]) + b1)
    out_o = cr.sigmoid(u @ out_h + b2)
    error = 0.5 * cr.sum((np.array([0.01, 0.99]) - out_o) ** 2)
    grads = error.backward()
    assert_near(error.value, 0.29837110876000267, EXACT)
    hidden = [
        0.00043856773447434674,
        0.0008771354689486935,
        0.0004977127352608601,
        0.0009954254705217202,
    ]
    output = [0.08216704056423078, 0.08266762784753326, -0.02260254047747506, -0.022740242215978212]
    assert_near(grads[w].reshape(-1), hidden, EXACT, 0.01)
    assert_near(grads[u].reshape(-1), output, EXACT, 0.1)
    assert_near(grads[b1], 0.018725609394704135, EXACT, 0.1)
    assert_near(grads[b2], 0.10040032511200075, EXACT, 0.1)


# -- what is stored and returned --------------------------------------------------------------


def test_backward_overwrites() -> None:
    x = cr.tensor(3.0)
    y = x * x
    assert float(y.backward()[x]) == 6
    assert float(y.backward()[x]) == 6
    assert x.grad == 6


def test_another_backward_leaves_what_it_does_not_reach() -> None:
    x, y = cr.tensor(3.0), cr.tensor(4.0)
    (x * 2).backward()
    (y * 5).backward()
    assert (x.grad, y.grad) == (2, 5)


def test_grad_is_none_before_backward_and_an_array_after() -> None:
    x = cr.tensor(np.ones((2, 3), dtype=np.float32))
    assert x.grad is None
    cr.sum(x * 2).backward()
    assert isinstance(x.grad, np.ndarray)
    assert (x.grad.shape, x.grad.dtype) == ((2, 3), np.float32)


def test_gradients_are_a_mapping_of_every_node() -> None:
    x = cr.tensor(3.0, name="x")
    y = cr.sin(x)
    z = y * 2
    grads = z.backward()
    assert set(grads) == {x, y, z}
    assert len(grads) == 3
    assert x in grads
    assert cr.tensor(3.0) not in grads
    assert "x" in repr(grads)


def test_backward_changes_no_value_and_flow_back_stores_nothing() -> None:
    x = cr.tensor(np.array([1.0, 2.0]))
    y = cr.sum(x * x)
    before = x.numpy().copy()
    flow_back(y, np.float64(1.0))
    assert x.grad is None
    assert y.grad is None
    np.testing.assert_array_equal(x.numpy(), before)


def test_upstream_scales_and_selects() -> None:
    x = cr.tensor(np.array([1.0, 2.0, 3.0]))
    y = x * x
    np.testing.assert_array_equal(y.backward(np.array([1.0, 0.0, -2.0]))[x], [2.0, 0.0, -12.0])
    np.testing.assert_array_equal(y.backward([1, 1, 1])[x], [2.0, 4.0, 6.0])
    np.testing.assert_array_equal(y.backward(cr.tensor([0.0, 0.5, 0.0]))[x], [0.0, 2.0, 0.0])


def test_upstream_of_another_shape_is_refused() -> None:
    y = cr.tensor(np.ones(3)) * 2
    with pytest.raises(cr.ShapeError, match=r"\(2,\).*\(3,\)"):
        y.backward(np.ones(2))
    with pytest.raises(cr.ShapeError):
        y.backward(1.0)


def test_fan_out_and_the_same_input_twice() -> None:
    x = cr.tensor(3.0)
    y = x * x
    assert len(y.inputs) == 2
    grads, edges = watched(y)
    assert float(grads[x]) == 6
    assert [(edge.position, float(edge.contribution)) for edge in edges] == [(0, 3.0), (1, 3.0)]
    assert float((x + x + x).backward()[x]) == 3
    assert float((x / x).backward()[x]) == 0
    assert float((x - x).backward()[x]) == 0


def test_gradient_of_a_variable_that_is_the_output() -> None:
    x = cr.tensor(3.0)
    assert float(x.backward()[x]) == 1
    assert x.grad == 1


def test_one_element_arrays_need_no_upstream() -> None:
    x = cr.tensor(np.array([[3.0]]))
    np.testing.assert_array_equal((x * x).backward()[x], [[6.0]])


def test_empty_circuits_have_empty_gradients() -> None:
    x = cr.tensor(np.zeros((0, 3)))
    assert cr.sum(cr.exp(x)).backward()[x].shape == (0, 3)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3)], ids=str)
def test_watched_edges_add_up_to_the_gradient(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    x, w = cr.tensor(rng.normal(size=shape)), cr.tensor(rng.normal())
    out = cr.sum(cr.tanh(x * w) * x + cr.sigmoid(x) / (w * w + 1.0))
    grads, edges = watched(out)
    for node in circuit_of(out, differentiable=True):
        if node is not out:
            arriving = [e.contribution for e in edges if e.source is node]
            assert arriving
            assert_near(sum(arriving), grads[node], EXACT, 1.0)
            assert all(np.shape(c) == node.shape for c in arriving)
    for edge in edges:
        assert edge.source is edge.node.inputs[edge.position]
        assert edge.upstream is not None
        if edge.node.op.facts.local and np.shape(edge.upstream) == edge.source.shape:
            assert_near(edge.upstream * edge.local, edge.contribution, EXACT)


def test_wanted_computes_only_what_leads_there() -> None:
    x, y = cr.tensor(2.0), cr.tensor(3.0)
    out = cr.sin(x) * cr.exp(y)
    edges: list[Edge] = []
    grads = flow_back(out, np.float64(1.0), wanted={x}, watch=edges.append)
    assert set(grads) == {x}
    assert_near(grads[x], math.cos(2) * math.exp(3), EXACT)
    assert {edge.node.op.name for edge in edges} == {"multiply", "sin"}


# -- depth and width --------------------------------------------------------------------------


def test_a_deep_chain_needs_no_recursion() -> None:
    x = cr.tensor(1.0)
    y = x
    for _ in range(200_000):
        y = y + 1e-6
    assert float(y.backward()[x]) == 1
    assert x.grad == 1
    del y
    gc.collect()  # a recursive destructor would die here


def test_a_deep_chain_is_freed_without_recursion() -> None:
    import sys

    x = cr.tensor(1.0)
    y = x
    limit = sys.getrecursionlimit()
    for _ in range(20 * limit):
        y = cr.sin(y)
    assert len(circuit_of(y)) == 20 * limit + 1
    y = None
    assert x.grad is None


def test_a_diamond_of_2_to_the_100_paths_is_walked_once() -> None:
    x = cr.tensor(1.0)
    y = x
    for _ in range(100):
        y = y + y
    started = time.process_time()
    grads, edges = watched(y)
    assert float(grads[x]) == 2.0**100
    assert len(edges) == 200
    assert time.process_time() - started < 1


def test_a_shared_node_waits_for_all_its_users() -> None:
    """Plain recursion from the output would visit `a` before all of its gradient has arrived."""
    x = cr.tensor(2.0)
    a = x * x
    b = cr.sin(a)
    c = a * b
    d = c + a
    grads = d.backward()
    expected = math.sin(4) + 4 * math.cos(4) + 1
    assert_near(grads[a], expected, EXACT)
    assert_near(grads[x], 4 * expected, EXACT)


@pytest.mark.slow
def test_a_circuit_of_a_million_nodes() -> None:
    x = cr.tensor(0.5)
    y = x
    for _ in range(500_000):
        y = y * 0.999999 + 1e-7
    assert len(circuit_of(y, differentiable=True)) == 1_000_001
    grads = y.backward()
    assert_near(grads[x], 0.999999**500_000, 1e-9)


# -- refusals ---------------------------------------------------------------------------------


def test_a_result_that_is_no_scalar_needs_an_upstream() -> None:
    y = cr.tensor(np.ones((2, 3))) * 2
    with pytest.raises(cr.GradientError) as caught:
        y.backward()
    text = str(caught.value)
    assert "(2, 3)" in text
    assert "backward(np.ones((2, 3)))" in text
    assert ".sum()" in text


def _missing(output: Tensor, tensor: Any) -> str:
    grads = output.backward()
    with pytest.raises(cr.GradientError) as caught:
        grads[tensor]
    assert isinstance(caught.value, KeyError)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_missing_gradient_of_a_stranger() -> None:
    x, other = cr.tensor(1.0), cr.tensor(2.0, name="other")
    text = _missing(x * 2, other)
    assert "'other'" in text
    assert "not in the circuit" in text


def test_missing_gradient_of_a_constant() -> None:
    x, c = cr.tensor(1.0), cr.tensor(2.0, requires_grad=False, name="c")
    text = _missing(x * c, c)
    assert "'c'" in text
    assert "constant" in text


def test_missing_gradient_of_integers() -> None:
    x, k = cr.tensor(np.ones(2)), cr.tensor(np.array([1, 2]), name="k")
    text = _missing(cr.sum(x * k), k)
    assert "int64" in text
    assert ".astype(float)" in text


def test_missing_gradient_behind_a_blocker() -> None:
    x, y = cr.tensor(2.0, name="x"), cr.tensor(1.0)
    line = inspect.currentframe().f_lineno + 1  # type: ignore[union-attr]
    stopped = cr.floor(x)
    text = _missing(stopped * y, x)
    assert "floor" in text
    assert f"test_backward.py:{line}" in text


def test_missing_gradient_of_a_blocker_s_result() -> None:
    x, y = cr.tensor(2.0), cr.tensor(1.0)
    s = cr.sign(x)
    assert "sign lets no gradient pass" in _missing(s * y, s)


def test_missing_gradient_of_something_else() -> None:
    assert "by tensor, not by str" in _missing(cr.tensor(1.0) * 2, "x")
    assert "by tensor, not by list" in _missing(cr.tensor(1.0) * 2, [1])


def test_nothing_to_differentiate() -> None:
    with pytest.raises(cr.GradientError, match="constant"):
        cr.tensor(2.0, requires_grad=False).backward()
    with pytest.raises(cr.GradientError, match="floor lets no gradient pass"):
        cr.floor(cr.tensor(2.5)).backward()


def test_a_stale_parameter_is_refused() -> None:
    w = Parameter(np.array([1.0, 2.0]), name="w")
    loss = cr.sum(w * w)
    w.rebind(np.array([3.0, 4.0]))
    with pytest.raises(cr.GradientError, match=r"'w' was updated after this loss was computed"):
        loss.backward()
    fresh = cr.sum(w * w)
    np.testing.assert_array_equal(fresh.backward()[w], [6.0, 8.0])


def test_an_unrelated_rebind_is_no_fault() -> None:
    w, other = Parameter(1.0, name="w"), Parameter(2.0, name="other")
    loss = w * 3.0
    other.rebind(5.0)
    assert float(loss.backward()[w]) == 3


def test_a_rebind_before_the_parameter_is_used_is_no_fault() -> None:
    x, w = cr.tensor(2.0), Parameter(1.0)
    early = x * 3.0
    w.rebind(4.0)
    assert float((early * w).backward()[x]) == 12


def test_rebind_keeps_the_shape() -> None:
    with pytest.raises(ValueError, match=r"\(2,\)"):
        Parameter(np.ones(2), name="w").rebind(np.ones(3))


def test_a_tensor_cannot_be_written_into() -> None:
    x = cr.tensor(np.zeros(3))
    with pytest.raises(cr.TraceError, match=r"cr\.where"):
        x[0] = 1.0
    with pytest.raises(ValueError, match="read-only"):
        x.numpy()[0] = 1.0


def test_data_are_copied() -> None:
    data = np.array([1.0, 2.0])
    x = cr.tensor(data)
    y = cr.sum(x * data)
    data[:] = 100
    np.testing.assert_array_equal(x.numpy(), [1.0, 2.0])
    np.testing.assert_array_equal(y.backward()[x], [1.0, 2.0])


# -- what passes no gradient ------------------------------------------------------------------


def test_no_grad_records_nothing() -> None:
    x = cr.tensor(2.0)
    with cr.no_grad():
        y = x * 3
    assert not y.requires_grad
    assert y.inputs == ()
    assert (x * 3).requires_grad

    @cr.no_grad()
    def quietly(t: Any) -> Any:
        return t * 2

    assert not quietly(x).requires_grad


def test_no_grad_ends_with_an_exception() -> None:
    x = cr.tensor(2.0)

    def fail() -> None:
        with cr.no_grad():
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert (x * 3).requires_grad


def test_detach_and_stop_gradient_are_constants() -> None:
    x = cr.tensor(3.0)
    for frozen in (x.detach(), cr.stop_gradient(x)):
        assert float((x * frozen).backward()[x]) == 3
        assert float(frozen) == 3


def test_integer_and_boolean_arrays_are_constants() -> None:
    k = cr.tensor(np.array([1, 2]))
    b = cr.tensor(np.array([True, False]))
    x = cr.tensor(np.array([1.0, 2.0]))
    assert not k.requires_grad
    assert not b.requires_grad
    assert cr.tensor(-2).requires_grad
    assert cr.tensor([1, 2]).dtype == np.float64
    np.testing.assert_array_equal(cr.sum(x * k + cr.where(b, x, 0.0)).backward()[x], [2.0, 2.0])
    with pytest.raises(cr.TraceError, match=r"astype\(float\)"):
        cr.tensor(np.array([1, 2]), requires_grad=True)


# -- NaN, selection, dtypes -------------------------------------------------------------------


def test_where_keeps_the_nan_of_the_branch_not_taken_out() -> None:
    x = cr.tensor(np.array([-1.0, 4.0]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        out = cr.sum(cr.where(x > 0, x * 2, np.log(np.array([-1.0, 1.0]))))
    assert np.isnan(out.value)
    np.testing.assert_array_equal(out.backward()[x], [0.0, 2.0])


def test_the_safe_logarithm_that_the_docs_teach() -> None:
    x = cr.tensor(np.array([0.0, -3.0, 2.0]))
    out = cr.sum(cr.where(x > 0, cr.log(cr.where(x > 0, x, 1.0)), 0.0))
    assert_near(out.value, math.log(2), EXACT)
    np.testing.assert_array_equal(out.backward()[x], [0.0, 0.0, 0.5])


def test_0_times_infinity_down_a_masked_branch_stays_ieee() -> None:
    x = cr.tensor(np.array([0.0, 4.0]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        out = cr.sum(cr.where(x > 0, cr.sqrt(x), 0.0))
    gradient = out.backward()[x]
    assert np.isnan(gradient[0])
    assert gradient[1] == 0.25


def test_routers_select_and_never_multiply() -> None:
    x = cr.tensor(np.array([-1.0, 2.0]))
    for router in (
        cr.relu,
        cr.hard_tanh,
        lambda t: cr.clip(t, 0.0, 3.0),
        lambda t: cr.maximum(t, 0.0),
    ):
        gradient = router(x).backward(np.array([np.inf, 1.0]))[x]
        assert not np.isnan(gradient).any()
    np.testing.assert_array_equal(cr.relu(x).backward(np.array([np.inf, 1.0]))[x], [0.0, 1.0])
    np.testing.assert_array_equal(cr.relu(x).backward(np.array([1.0, np.nan]))[x], [0.0, np.nan])


def test_backward_warns_of_nothing() -> None:
    x = cr.tensor(np.array([0.0, 1.0]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gradient = cr.sqrt(x).backward(np.ones(2))[x]
    assert gradient[0] == np.inf


@pytest.mark.parametrize(
    ("first", "second", "result"),
    [
        (np.float32, np.float32, np.float32),
        (np.float32, np.float64, np.float64),
        (np.float64, np.float32, np.float64),
    ],
)
@pytest.mark.parametrize(
    "name", ["add", "multiply", "divide", "power", "maximum", "matmul", "subtract"]
)
def test_a_gradient_has_its_input_s_dtype(name: str, first: Any, second: Any, result: Any) -> None:
    x, y = (
        cr.tensor(np.array([1.5, 2.0], dtype=first)),
        cr.tensor(np.array([0.5, 3.0], dtype=second)),
    )
    out = cr.registry[name](x, y)
    assert out.dtype == result
    grads = cr.sum(out).backward()
    assert grads[x].dtype == x.grad.dtype == first  # type: ignore[union-attr]
    assert grads[y].dtype == second


def test_python_numbers_do_not_promote_float32() -> None:
    x = cr.tensor(np.array([1.5, 2.0], dtype=np.float32))
    out = cr.sum(cr.where(x > 1.7, (2 * x + 1) / 3 - 0.5, x**2) + cr.mean(x) + cr.var(x))
    assert out.dtype == np.float32
    assert out.backward()[x].dtype == np.float32


def test_scalars_of_float32_stay_float32() -> None:
    x = cr.tensor(np.float32(0.5))
    for function in (cr.sin, cr.sigmoid, cr.tanh, cr.relu, cr.softplus, cr.gelu, cr.square, cr.log):
        out = function(x) * 2 + 1
        assert out.dtype == np.float32, function
        assert out.backward()[x].dtype == np.float32


def test_integer_constants_of_numpy_promote_as_numpy_does() -> None:
    x = cr.tensor(np.ones(2, dtype=np.float32))
    k = np.array([1, 2])
    assert (x * k).dtype == (np.ones(2, dtype=np.float32) * k).dtype
    assert cr.sum(x * k).backward()[x].dtype == np.float32
