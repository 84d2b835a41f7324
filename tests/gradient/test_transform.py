"""Transformations: trees, nesting in any order, closures, lost gradients, threads."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import scipy.optimize

import chainrule as cr
from chainrule.circuit import Parameter, Tensor
from tolerances import DERIVATIVE, VALUE, assert_near

EXACT = VALUE[np.float64]
CLOSE = DERIVATIVE[np.float64]


class Layer(NamedTuple):
    """A tree with names."""

    weight: Any
    bias: Any


def cube(x: Any) -> Any:
    return x**3


def vector_function(x: Any) -> Any:
    return cr.stack([x[0] ** 2 * x[1], cr.sin(x[1]), cr.exp(x[0]) * x[1] ** 2])


POINT = np.array([0.7, -1.3])
JACOBIAN = np.array(
    [
        [2 * 0.7 * -1.3, 0.7**2],
        [0.0, np.cos(-1.3)],
        [np.exp(0.7) * 1.69, 2 * np.exp(0.7) * -1.3],
    ]
)


# -- values in, values out --------------------------------------------------------------------


def test_numpy_in_numpy_out() -> None:
    value, gradient = cr.value_and_grad(lambda x: cr.sum(x * x))(np.array([1.0, 2.0]))
    assert type(value) is np.float64
    assert type(gradient) is np.ndarray
    assert value == 5
    np.testing.assert_array_equal(gradient, [2.0, 4.0])
    gradient[0] = 7  # the caller's own copy


def test_tensors_in_tensors_out() -> None:
    x = cr.tensor(3.0)
    gradient = cr.grad(cube)(x)
    assert isinstance(gradient, Tensor)
    assert float(gradient) == 27
    assert float(gradient.backward()[x]) == 18
    value, again = cr.value_and_grad(cube)(x)
    assert isinstance(value, Tensor)
    assert float(value.backward()[x]) == float(again) == 27


def test_python_numbers_and_lists() -> None:
    assert cr.grad(cube)(2) == 12
    assert cr.grad(lambda v: v[0] * v[1])([2.0, 5.0]) == [5, 2]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_gradient_dtype_and_shape_are_the_argument_s(dtype: Any) -> None:
    x = np.ones((2, 3), dtype=dtype)
    for gradient in (cr.grad(cr.sum)(x), cr.grad(lambda t: cr.sum(t * t) * 2)(x)):
        assert gradient.dtype == dtype
        assert gradient.shape == (2, 3)


def test_arguments_are_not_written() -> None:
    x = np.array([1.0, 2.0])
    cr.grad(lambda t: cr.sum(t * t))(x)
    np.testing.assert_array_equal(x, [1.0, 2.0])


def test_the_wrapper_keeps_the_function_s_name() -> None:
    assert cr.grad(cube).__name__ == "cube"
    assert cr.value_and_grad(cube).__wrapped__ is cube


# -- arguments --------------------------------------------------------------------------------


def three(x: Any, y: Any, z: Any) -> Any:
    return x * y**2 * z**3


@pytest.mark.parametrize(
    ("argnums", "expected"),
    [
        (0, 72.0),
        (2, 108.0),
        (-1, 108.0),
        (np.int64(1), 48.0),
        ((0,), (72.0,)),
        ((0, 1), (72.0, 48.0)),
        ((2, 0), (108.0, 72.0)),
        ([1, -1], (48.0, 108.0)),
    ],
)
def test_argnums(argnums: Any, expected: Any) -> None:
    got = cr.grad(three, argnums)(1.0, 3.0, 2.0)
    assert got == expected
    assert isinstance(got, tuple) == isinstance(expected, tuple)


@pytest.mark.parametrize("argnums", [3, -4, (0, 5), "x", (0.0,)])
def test_wrong_argnums(argnums: Any) -> None:
    with pytest.raises(TypeError, match="argnums"):
        cr.grad(three, argnums)(1.0, 3.0, 2.0)


def test_keyword_arguments_pass_through() -> None:
    def f(x: Any, *, power: int, scale: Any = 1.0) -> Any:
        return scale * x**power

    assert cr.grad(f)(2.0, power=3) == 12
    assert cr.grad(f)(2.0, power=3, scale=10.0) == 120


def test_other_arguments_may_be_anything() -> None:
    def f(x: Any, how: str, labels: Any) -> Any:
        return cr.sum(x[labels]) if how == "some" else cr.sum(x)

    np.testing.assert_array_equal(cr.grad(f)(np.ones(3), "some", np.array([0, 0])), [2.0, 0.0, 0.0])


def test_an_unused_argument_has_gradient_zero() -> None:
    gradient = cr.grad(lambda x, y: x * 2, (0, 1))(3.0, np.ones((2, 2), dtype=np.float32))
    assert gradient[0] == 2
    np.testing.assert_array_equal(gradient[1], np.zeros((2, 2)))
    assert gradient[1].dtype == np.float32
    assert cr.grad(lambda x: 5.0)(3.0) == 0
    np.testing.assert_array_equal(cr.jacobian(lambda x: np.ones(2))(np.ones(3)), np.zeros((2, 3)))
    assert cr.jvp(lambda x: 5.0, (1.0,), (1.0,)) == (5.0, 0.0)


def tree_loss(tree: Any) -> Any:
    net = tree["layers"][0].weight @ tree["layers"][0].bias + tree["shift"]
    return cr.sum(net * net) * tree["layers"][1][0]


def tree_at(scale: float) -> dict[str, Any]:
    weight, bias = np.arange(6.0).reshape(2, 3) * scale, np.array([1.0, -1.0, 2.0]) * scale
    return {
        "layers": [Layer(weight, bias), (2.0 * scale, None)],
        "shift": np.array([0.5, 1.5]) * scale,
    }


def test_gradient_of_a_tree_has_its_structure() -> None:
    tree = tree_at(1.0)
    gradient = cr.grad(tree_loss)(tree)
    weight, bias = tree["layers"][0]
    net = weight @ bias + tree["shift"]
    assert list(gradient) == ["layers", "shift"]
    assert type(gradient["layers"]) is list
    assert type(gradient["layers"][0]) is Layer
    assert type(gradient["layers"][1]) is tuple
    assert gradient["layers"][1][1] is None
    assert_near(gradient["layers"][0].weight, 4 * np.outer(net, bias), EXACT)
    assert_near(gradient["layers"][0].bias, 4 * weight.T @ net, EXACT)
    assert_near(gradient["layers"][1][0], net @ net, EXACT)
    assert_near(gradient["shift"], 4 * net, EXACT)


def test_vjp_and_jvp_of_trees_agree() -> None:
    tree, tangent = tree_at(1.0), tree_at(0.3)
    value, pull = cr.vjp(tree_loss, tree)
    same, along = cr.jvp(tree_loss, (tree,), (tangent,))
    pulled = pull(1.0)
    total = np.sum(pulled["layers"][0].weight * tangent["layers"][0].weight)
    total += np.sum(pulled["layers"][0].bias * tangent["layers"][0].bias)
    total += pulled["layers"][1][0] * tangent["layers"][1][0] + pulled["shift"] @ tangent["shift"]
    assert_near(along, total, CLOSE)
    assert value == same


def test_jacobian_of_a_tree() -> None:
    jacobian = cr.jacobian(lambda t: t["a"] * t["b"])({"a": np.array([1.0, 2.0]), "b": 3.0})
    np.testing.assert_array_equal(jacobian["a"], [[3.0, 0.0], [0.0, 3.0]])
    np.testing.assert_array_equal(jacobian["b"], [1.0, 2.0])


def test_the_same_array_twice_is_two_variables() -> None:
    x = np.array([2.0])
    first, second = cr.grad(lambda p: cr.sum(p[0] ** 2 * p[1]))([x, x])
    assert (first[0], second[0]) == (8.0, 4.0)


# -- each transformation ----------------------------------------------------------------------


def test_vjp_is_a_row_times_the_jacobian() -> None:
    value, pull = cr.vjp(vector_function, POINT)
    assert value.shape == (3,)
    for u in (np.array([1.0, 0.0, 0.0]), np.array([0.3, -2.0, 1.5])):
        assert_near(pull(u), u @ JACOBIAN, EXACT, 1.0)


def test_pull_gives_a_tuple_for_several_primals() -> None:
    _, pull = cr.vjp(lambda x, y: x * y, 2.0, 5.0)
    assert pull(1.0) == (5.0, 2.0)
    assert pull(3.0) == (15.0, 6.0)


def test_jvp_is_the_jacobian_times_a_column() -> None:
    for v in (np.array([1.0, 0.0]), np.array([-0.4, 2.0])):
        value, along = cr.jvp(vector_function, (POINT,), (v,))
        assert_near(along, JACOBIAN @ v, EXACT, 1.0)
        assert_near(value, vector_function(POINT), EXACT)


def test_jacobian_and_its_shape() -> None:
    assert_near(cr.jacobian(vector_function)(POINT), JACOBIAN, EXACT, 1.0)
    x = np.arange(6.0).reshape(2, 3)
    whole = cr.jacobian(lambda t: cr.sum(t * t, axis=1))(x)
    assert whole.shape == (2, 2, 3)
    np.testing.assert_array_equal(whole[0], [[0.0, 2.0, 4.0], [0.0, 0.0, 0.0]])
    assert cr.jacobian(lambda t: t)(np.zeros(0)).shape == (0, 0)


def test_hessian() -> None:
    def f(x: Any) -> Any:
        return x[0] ** 3 * x[1] + cr.exp(x[1])

    a, b = POINT
    expected = [[6 * a * b, 3 * a**2], [3 * a**2, np.exp(b)]]
    assert_near(cr.hessian(f)(POINT), expected, EXACT, 1.0)
    assert cr.hessian(cube)(2.0) == 12


def test_hessian_of_a_softmax_loss_is_symmetric_and_singular() -> None:
    logits = np.array([0.5, -1.2, 2.0, 0.1])
    h = cr.hessian(cr.logsumexp)(logits)
    s = cr.softmax(logits)
    assert_near(h, np.diag(s) - np.outer(s, s), EXACT, 1.0)


SOFTMAX_X = [0.5, -1.2, 2.0, 0.1]
SOFTMAX_JACOBIAN = [
    [0.13294080584971218, -0.00455248250273974, -0.1116839144702746, -0.016704408876697843],
    [-0.00455248250273974, 0.028006913858986657, -0.02040281107543397, -0.0030516202808129446],
    [-0.1116839144702746, -0.02040281107543397, 0.20695069223486345, -0.07486396668915488],
    [-0.016704408876697843, -0.0030516202808129446, -0.07486396668915488, 0.09461999584666567],
]


def test_softmax_note_jacobian_and_product() -> None:
    x = np.array(SOFTMAX_X)
    assert_near(cr.jacobian(cr.softmax)(x), SOFTMAX_JACOBIAN, EXACT, 1.0)
    _, pull = cr.vjp(cr.softmax, x)
    expected = [
        -0.11319214416386628,
        -0.04951691719671584,
        0.058694621491761446,
        0.10401443986882068,
    ]
    assert_near(pull(np.array([0.3, -0.7, 1.1, 2.0])), expected, EXACT, 1.0)


def test_derivatives_note_softmax_with_the_physicists_sign() -> None:
    x = np.array(SOFTMAX_X)
    y = [0.03008475352429436, 0.9014625645032361, 0.0014978316805443791, 0.0669548502919251]
    row = [-0.05835932225935364, 0.05424055812891634, 9.012379386011452e-05, 0.004028640336577191]
    assert_near(cr.softmax(-x, beta=2.0), y, EXACT)
    assert_near(cr.jacobian(lambda t: cr.softmax(-t, beta=2.0))(x)[0], row, EXACT, 1.0)


# -- nesting ----------------------------------------------------------------------------------


def test_grad_of_grad_of_grad() -> None:
    f = cr.tanh
    t = np.tanh(0.4)
    d1 = 1 - t**2
    expected = [d1, -2 * t * d1, d1 * (6 * t**2 - 2), d1 * t * (16 - 24 * t**2)]
    for order, value in enumerate(expected, start=1):
        f = cr.grad(f)
        assert_near(f(0.4), value, CLOSE, 1.0, f"order {order}")


def directional(f: Callable[[Any], Any], v: Any) -> Callable[[Any], Any]:
    return lambda x: cr.jvp(f, (x,), (v,))[1]


def pulled(f: Callable[[Any], Any], u: Any) -> Callable[[Any], Any]:
    return lambda x: cr.vjp(f, x)[1](u)


SCALAR_SECOND: dict[str, Callable[..., Any]] = {
    "grad of grad": cr.grad(cr.grad(cube)),
    "grad of jvp": cr.grad(directional(cube, 1.0)),
    "jvp of grad": directional(cr.grad(cube), 1.0),
    "jvp of jvp": directional(directional(cube, 1.0), 1.0),
    "grad of vjp": cr.grad(pulled(cube, 1.0)),
    "vjp of grad": pulled(cr.grad(cube), 1.0),
    "vjp of vjp": pulled(pulled(cube, 1.0), 1.0),
    "jvp of vjp": directional(pulled(cube, 1.0), 1.0),
    "vjp of jvp": pulled(directional(cube, 1.0), 1.0),
    "jacobian of grad": cr.jacobian(cr.grad(cube)),
    "grad of jacobian": cr.grad(cr.jacobian(cube)),
    "jacobian of jacobian": cr.jacobian(cr.jacobian(cube)),
    "jacobian of jvp": cr.jacobian(directional(cube, 1.0)),
    "jvp of jacobian": directional(cr.jacobian(cube), 1.0),
    "hessian": cr.hessian(cube),
    "grad of value_and_grad": cr.grad(lambda x: cr.value_and_grad(cube)(x)[1]),
}


@pytest.mark.parametrize("name", SCALAR_SECOND)
def test_second_derivatives_in_any_order(name: str) -> None:
    got = SCALAR_SECOND[name](2.0)
    assert not isinstance(got, Tensor)
    assert_near(np.asarray(got).reshape(()), 12.0, EXACT)
    of_tensor = SCALAR_SECOND[name](cr.tensor(2.0))
    assert isinstance(of_tensor, Tensor)
    assert_near(of_tensor.value, 12.0, EXACT)


@pytest.mark.parametrize("outer", SCALAR_SECOND)
def test_third_derivatives_of_any_order(outer: str) -> None:
    assert_near(np.asarray(cr.grad(SCALAR_SECOND[outer])(2.0)), 6.0, EXACT)
    assert_near(np.asarray(directional(SCALAR_SECOND[outer], 1.0)(2.0)), 6.0, EXACT)


def test_hessian_of_vjp_and_jvp() -> None:
    u, v = np.array([1.0, -2.0, 0.5]), np.array([0.3, 0.7])

    def rowwise(x: Any) -> Any:
        return cr.vjp(vector_function, x)[1](u) @ v

    def columnwise(x: Any) -> Any:
        return u @ cr.jvp(vector_function, (x,), (v,))[1]

    a, b = POINT
    e = np.exp(a)
    # u·J·v = Σᵢ uᵢ ∂ᵥfᵢ, differentiated twice by hand
    xx = u[0] * 2 * v[1] + u[2] * (e * b**2 * v[0] + 2 * e * b * v[1])
    xy = u[0] * 2 * v[0] + u[2] * (2 * e * b * v[0] + 2 * e * v[1])
    yy = u[1] * -np.cos(b) * v[1] + u[2] * 2 * e * v[0]
    for function in (rowwise, columnwise):
        assert_near(cr.hessian(function)(POINT), [[xx, xy], [xy, yy]], CLOSE, 1.0)


def test_jacobian_of_jacobian_of_a_vector() -> None:
    second = cr.jacobian(cr.jacobian(vector_function))(POINT)
    assert second.shape == (3, 2, 2)
    a, b = POINT
    e = np.exp(a)
    expected = [
        [[2 * b, 2 * a], [2 * a, 0.0]],
        [[0.0, 0.0], [0.0, -np.sin(b)]],
        [[e * b**2, 2 * e * b], [2 * e * b, 2 * e]],
    ]
    assert_near(second, expected, CLOSE, 1.0)


def test_perturbations_are_not_confused() -> None:
    """d/dx [x · d/dy (x + y)] = 1: the inner derivative must not see the outer variable move."""
    assert cr.grad(lambda x: x * cr.grad(lambda y: x + y)(2.0))(1.0) == 1
    assert cr.grad(lambda x: x * cr.grad(lambda y: x * y)(2.0))(3.0) == 6
    assert cr.jvp(lambda x: x * cr.jvp(lambda y: x + y, (2.0,), (1.0,))[1], (1.0,), (1.0,))[1] == 1
    assert cr.grad(lambda x: x * cr.jvp(lambda y: x * y, (2.0,), (1.0,))[1])(3.0) == 6
    assert cr.jvp(lambda x: x * cr.grad(lambda y: x * y)(2.0), (3.0,), (1.0,))[1] == 6
    inner = cr.grad(lambda x: cr.grad(lambda y: cr.grad(lambda z: x * y * z)(1.0))(1.0))
    assert inner(5.0) == 1


def test_an_inner_gradient_of_the_outer_variable() -> None:
    assert cr.grad(lambda x: cr.grad(cube)(x) * x)(2.0) == 36
    assert cr.grad(lambda x: cr.grad(lambda y: y * x)(x))(2.0) == 1


def test_a_gradient_step_can_be_differentiated() -> None:
    def after_one_step(rate: Any) -> Any:
        w = 3.0
        return (w - rate * cr.grad(lambda t: t**2)(w)) ** 2

    assert_near(cr.grad(after_one_step)(0.1), 2 * (3 - 0.6) * -6, EXACT)


# -- closures and state -----------------------------------------------------------------------


def test_a_closed_over_tensor_is_a_constant_of_the_gradient() -> None:
    w = cr.tensor(3.0)
    assert cr.grad(lambda x: w * x * x)(2.0) == 12
    assert w.grad is None


def test_a_closed_over_tensor_can_be_reached_through_a_gradient_of_tensors() -> None:
    w, x = cr.tensor(3.0), cr.tensor(2.0)
    gradient = cr.grad(lambda t: w * t * t)(x)
    assert float(gradient.backward()[w]) == 4


def test_a_parameter_as_argument_is_given_as_an_array() -> None:
    w = Parameter(np.array([1.0, 2.0]))
    gradient = cr.grad(lambda t: cr.sum(t * t))(w)
    np.testing.assert_array_equal(np.asarray(gradient), [2.0, 4.0])


def test_transformations_leave_no_gradient_behind() -> None:
    x = cr.tensor(3.0)
    cr.grad(cube)(x)
    assert x.grad is None


def test_an_exception_inside_leaves_a_clean_state() -> None:
    def broken(x: Any) -> Any:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        cr.grad(lambda x: cr.grad(broken)(x))(1.0)
    assert cr.grad(cube)(1.0) == 3


def test_no_grad_outside_does_not_stop_grad_inside() -> None:
    with cr.no_grad():
        assert cr.grad(cube)(2.0) == 12


def test_no_grad_inside_makes_constants() -> None:
    def f(x: Any) -> Any:
        with cr.no_grad():
            frozen = x * 1
        return x * frozen

    assert cr.grad(f)(3.0) == 3


# -- refusals ---------------------------------------------------------------------------------


def _line_of(function: Callable[..., Any]) -> int:
    return inspect.getsourcelines(function)[1] + 1


def through_float(x: Any) -> Any:
    return float(x) ** 2


def through_item(x: Any) -> Any:
    return x.item() ** 2


def through_asarray(x: Any) -> Any:
    return np.asarray(x).sum()


def through_tolist(x: Any) -> Any:
    return sum(x.reshape(1).tolist())


def through_int(x: Any) -> Any:
    return int(x) + 1.0


@pytest.mark.parametrize(
    ("function", "how"),
    [
        (through_float, "float()"),
        (through_item, ".item()"),
        (through_asarray, "np.asarray()"),
        (through_tolist, ".tolist()"),
        (through_int, "int()"),
    ],
)
@pytest.mark.parametrize("transformation", [cr.grad, cr.value_and_grad, cr.jacobian])
def test_a_lost_gradient_names_the_line(transformation: Any, function: Any, how: str) -> None:
    with pytest.raises(cr.GradientError) as caught:
        transformation(function)(3.0)
    text = str(caught.value)
    assert f"test_transform.py:{_line_of(function)}" in text
    assert how in text
    assert "\n" not in text


def test_a_lost_gradient_in_jvp_and_vjp() -> None:
    with pytest.raises(cr.GradientError, match=r"float\(\)"):
        cr.jvp(through_float, (3.0,), (1.0,))
    _, pull = cr.vjp(through_float, 3.0)
    with pytest.raises(cr.GradientError, match=r"float\(\)"):
        pull(1.0)


def test_reading_a_value_on_the_side_is_no_fault() -> None:
    seen = []

    def f(x: Any) -> Any:
        seen.append(float(x))
        return x * x

    assert cr.grad(f)(3.0) == 6
    assert seen == [3.0]


def test_branching_on_a_value_is_allowed() -> None:
    relu = cr.grad(lambda x: x * 2 if x > 0 else x * 0.1)
    assert (relu(1.0), relu(-1.0)) == (2.0, 0.1)


def test_integer_arrays_are_refused() -> None:
    with pytest.raises(cr.TraceError, match=r"argument 0.*int64.*astype\(float\)"):
        cr.grad(cr.sum)(np.array([1, 2]))
    with pytest.raises(cr.TraceError, match="argument 1"):
        cr.grad(lambda x, y: x, (0, 1))(1.0, np.array([True]))


def test_results_that_are_no_scalar_are_refused() -> None:
    with pytest.raises(cr.GradientError, match=r"\(2,\).*cr\.jacobian"):
        cr.grad(lambda x: x * x)(np.ones(2))
    with pytest.raises(cr.GradientError, match="not tuple"):
        cr.grad(lambda x: (x, x))(1.0)
    with pytest.raises(cr.GradientError, match="not NoneType"):
        cr.grad(lambda x: None)(1.0)


def test_jvp_refuses_other_structures() -> None:
    with pytest.raises(TypeError, match="tuples"):
        cr.jvp(cube, 1.0, 1.0)
    with pytest.raises(cr.ShapeError, match="1 primal arrays, but 2 tangents"):
        cr.jvp(cube, (1.0,), (1.0, 2.0))
    with pytest.raises(cr.ShapeError, match=r"\(3,\)"):
        cr.jvp(lambda x: x, (np.ones(2),), (np.ones(3),))


def test_pull_refuses_another_shape() -> None:
    _, pull = cr.vjp(vector_function, POINT)
    with pytest.raises(cr.ShapeError, match=r"\(2,\)"):
        pull(np.ones(2))
    with pytest.raises(cr.ShapeError, match=r"\(2,\)"):
        pull(cr.tensor(np.ones(2)))


# -- with others ------------------------------------------------------------------------------


def test_scipy_minimises_with_our_gradient() -> None:
    def rosenbrock(x: Any) -> Any:
        return cr.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)

    start = np.array([-1.2, 1.0, 0.5])
    plain = scipy.optimize.minimize(rosenbrock, start, jac=cr.grad(rosenbrock), tol=1e-12)
    np.testing.assert_allclose(plain.x, np.ones(3), atol=1e-6)
    both = scipy.optimize.minimize(cr.value_and_grad(rosenbrock), start, jac=True, tol=1e-12)
    np.testing.assert_allclose(both.x, np.ones(3), atol=1e-6)
    newton = scipy.optimize.minimize(
        rosenbrock, start, jac=cr.grad(rosenbrock), hess=cr.hessian(rosenbrock), method="Newton-CG"
    )
    np.testing.assert_allclose(newton.x, np.ones(3), atol=1e-4)


def test_two_threads_do_not_disturb_each_other() -> None:
    failures: list[str] = []
    gate = threading.Barrier(4)

    def work(seed: int) -> None:
        x = np.random.default_rng(seed).normal(size=5)
        gate.wait()
        for _ in range(60):
            h = cr.hessian(lambda t: cr.sum(cr.tanh(t) ** 2))(x)
            t = np.tanh(x)
            d = 1 - t * t
            if not np.allclose(h, np.diag(2 * d * d - 4 * t * t * d), rtol=1e-9):
                failures.append(f"thread {seed}: wrong hessian")
            with cr.no_grad():
                if cr.tensor(1.0) * 2 is None or (cr.tensor(1.0) * 2).requires_grad:
                    failures.append(f"thread {seed}: recorded under no_grad")

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_no_grad_holds_for_its_own_thread() -> None:
    inside, done = threading.Event(), threading.Event()

    def quiet() -> None:
        with cr.no_grad():
            inside.set()
            done.wait(10)

    thread = threading.Thread(target=quiet)
    thread.start()
    inside.wait(10)
    recorded = (cr.tensor(1.0) * 2).requires_grad
    done.set()
    thread.join()
    assert recorded
