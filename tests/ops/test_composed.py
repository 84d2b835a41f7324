"""Functions composed of operations: values against NumPy, gradients against differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule.circuit import circuit_of
from chainrule.ops import Composed
from tolerances import VALUE, assert_near

EXACT = VALUE[np.float64]
X = np.array([[0.3, -0.8, 1.6, 0.45], [0.9, 0.15, -0.4, -1.7]])

CALLS: dict[str, list[tuple[Callable[[Any], Any], Callable[[Any], Any]]]] = {
    "cumsum": [
        (lambda x: cr.cumsum(x), np.cumsum),
        (lambda x: cr.cumsum(x, axis=0), lambda x: np.cumsum(x, axis=0)),
    ],
    "mean": [
        (lambda x: cr.mean(x), np.mean),
        (lambda x: cr.mean(x, axis=(0, -1)), np.mean),
        (lambda x: cr.mean(x, axis=1, keepdims=True), lambda x: x.mean(axis=1, keepdims=True)),
    ],
    "var": [
        (lambda x: cr.var(x, axis=1), lambda x: x.var(axis=1)),
        (lambda x: cr.var(x, ddof=1, keepdims=True), lambda x: x.var(ddof=1, keepdims=True)),
    ],
    "std": [(lambda x: cr.std(x, axis=0), lambda x: x.std(axis=0))],
    "prod": [
        (lambda x: cr.prod(x), np.prod),
        (lambda x: cr.prod(x, axis=1, keepdims=True), lambda x: x.prod(axis=1, keepdims=True)),
        (lambda x: cr.prod(x, axis=(1, 0)), np.prod),
        (lambda x: cr.prod(x, axis=0), lambda x: x.prod(axis=0)),
    ],
    "concatenate": [
        (lambda x: cr.concatenate([x, X, x], axis=1), lambda x: np.concatenate([x, X, x], 1)),
        (lambda x: cr.concatenate([x, X], axis=None), lambda x: np.concatenate([x, X], axis=None)),
    ],
    "stack": [(lambda x: cr.stack([x, -x], axis=-1), lambda x: np.stack([x, -x], axis=-1))],
    "split": [
        (lambda x: cr.split(x, 2, axis=-1)[1], lambda x: np.split(x, 2, axis=-1)[1]),
        (lambda x: cr.split(x, [1, 3], axis=1)[1], lambda x: np.split(x, [1, 3], axis=1)[1]),
    ],
    "expand_dims": [(lambda x: cr.expand_dims(x, (0, -1)), lambda x: np.expand_dims(x, (0, -1)))],
    "squeeze": [
        (lambda x: cr.squeeze(x[:, None, :1]), lambda x: np.squeeze(x[:, None, :1])),
        (lambda x: cr.squeeze(x[:1, None], axis=-2), lambda x: np.squeeze(x[:1, None], axis=-2)),
    ],
    "swapaxes": [(lambda x: cr.swapaxes(x, -1, 0), lambda x: np.swapaxes(x, -1, 0))],
    "flip": [(lambda x: cr.flip(x), np.flip), (lambda x: cr.flip(x, -1), lambda x: np.flip(x, -1))],
    "take": [
        (lambda x: cr.take(x, [[5, 0], [0, 7]]), lambda x: np.take(x, [[5, 0], [0, 7]])),
        (lambda x: cr.take(x, -1, axis=1), lambda x: np.take(x, -1, axis=1)),
    ],
    "pad": [
        (lambda x: cr.pad(x, ((1, 0), (2, 3))), lambda x: np.pad(x, ((1, 0), (2, 3)))),
        (lambda x: cr.pad(x, 1, constant_values=7.0), lambda x: np.pad(x, 1, constant_values=7.0)),
    ],
    "ravel": [(lambda x: cr.ravel(x), np.ravel)],
    "dot": [
        (lambda x: cr.dot(x, x.T), lambda x: np.dot(x, x.T)),
        (lambda x: cr.dot(x[0], x[1]), lambda x: np.dot(x[0], x[1])),
        (lambda x: cr.dot(2.0, x), lambda x: 2 * x),
        (lambda x: cr.dot(x, np.ones((2, 4, 3))), lambda x: np.dot(x, np.ones((2, 4, 3)))),
        (lambda x: cr.dot(x[0], np.ones((2, 4, 3))), lambda x: np.dot(x[0], np.ones((2, 4, 3)))),
    ],
    "outer": [(lambda x: cr.outer(x, x[0]), lambda x: np.outer(x, x[0]))],
    "norm": [
        (
            lambda x, o=o, a=a: cr.norm(x, o, axis=a),
            lambda x, o=o, a=a: np.linalg.norm(x, o, axis=a),
        )
        for o, a in [
            *[(None, None), (None, 0), ("fro", None), ("fro", (1, 0)), (2, 1), (1, 0), (3, 1)],
            *[(np.inf, 1), (-np.inf, 0), (1, None), (np.inf, None), (0.5, 0), (1, (1, 0))],
        ]
    ],
    "einsum": [(lambda x: cr.einsum("ij,kj->ik", x, x), lambda x: x @ x.T)],
    "selu": [
        (
            lambda x: cr.selu(x),
            lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(x)),
        )
    ],
    "maxout": [
        (lambda x: cr.maxout(x, 2), lambda x: x.reshape(2, 2, 2).max(axis=2)),
        (lambda x: cr.maxout(x, 2, axis=0), lambda x: x.max(axis=0, keepdims=True)),
    ],
    "dropout": [(lambda x: cr.dropout(x, 0.0), lambda x: x)],
}
WITHOUT_GRADIENT = {"one_hot"}


def test_every_composed_function_is_called_here() -> None:
    names = {f.name for f in cr.registry.values() if isinstance(f, Composed)}
    assert names - WITHOUT_GRADIENT <= set(CALLS), "add the new function to CALLS"


@pytest.mark.parametrize(
    ("name", "k"), [(n, k) for n, calls in CALLS.items() for k in range(len(calls))]
)
def test_composed_value_and_gradient(name: str, k: int) -> None:
    ours, numpys = CALLS[name][k]
    expected = numpys(X)
    assert_near(ours(X), expected, EXACT, 1.0, name)
    leaf = cr.tensor(X)
    out = ours(leaf)
    assert_near(out.value, expected, EXACT, 1.0, name)
    assert out.shape == np.shape(expected)
    assert cr.check_grad(ours, X).checked == X.size
    single = ours(cr.tensor(X.astype(np.float32)))
    if name not in ("dot", "concatenate"):  # float64 partners
        assert single.dtype == np.float32


def test_nodes_of_a_composed_function_share_a_group() -> None:
    out = cr.std(cr.tensor(X))
    groups = {node.group for node in circuit_of(out) if node.op is not None}
    assert {g.name for g in groups if g} == {"std"}
    assert len(groups) == 1
    again = cr.std(cr.tensor(X))
    assert again.group != out.group


@pytest.mark.parametrize(
    ("factors", "gradient"),
    [
        ([2.0, 0.0, 5.0], [0.0, 10.0, 0.0]),
        ([0.0, 0.0, 5.0], [0.0, 0.0, 0.0]),
        ([3.0], [1.0]),
        ([1.0, 2.0, 3.0, 4.0, 5.0], [120.0, 60.0, 40.0, 30.0, 24.0]),
    ],
)
def test_prod_with_zeros_among_its_factors(factors: Any, gradient: Any) -> None:
    np.testing.assert_array_equal(cr.grad(cr.prod)(np.array(factors)), gradient)


def test_second_derivative_of_prod_with_a_zero() -> None:
    h = cr.hessian(cr.prod)(np.array([2.0, 0.0, 5.0]))
    np.testing.assert_array_equal(h, [[0.0, 5.0, 0.0], [5.0, 0.0, 2.0], [0.0, 2.0, 0.0]])


def test_empty_reductions_are_numpy_s() -> None:
    empty = cr.tensor(np.zeros((0, 2)))
    np.testing.assert_array_equal(np.asarray(cr.prod(empty, axis=0)), [1.0, 1.0])
    np.testing.assert_array_equal(np.asarray(cr.sum(empty, axis=0)), [0.0, 0.0])


def test_norm_at_zero_has_gradient_zero() -> None:
    np.testing.assert_array_equal(cr.grad(cr.norm)(np.zeros(3)), np.zeros(3))
    rows = cr.grad(lambda x: cr.sum(cr.norm(x, axis=1)))(np.array([[0.0, 0.0], [3.0, 4.0]]))
    assert_near(rows, [[0.0, 0.0], [0.6, 0.8]], EXACT)


def test_maxout_ties_share_and_pieces_must_fit() -> None:
    x = cr.tensor(np.array([1.0, 1.0, 0.0, 2.0]))
    np.testing.assert_array_equal(cr.maxout(x, 2).backward(np.ones(2))[x], [0.5, 0.5, 0.0, 1.0])
    with pytest.raises(cr.ShapeError, match="3 pieces"):
        cr.maxout(x, 3)


def test_one_hot_and_its_refusals() -> None:
    np.testing.assert_array_equal(cr.one_hot([[0, 2]], 3), [[[1, 0, 0], [0, 0, 1]]])
    assert cr.one_hot([1], 2, dtype=np.float32).dtype == np.float32
    np.testing.assert_array_equal(cr.one_hot([1.0], 2), [[0, 1]])
    for labels, where in (([0, 3], "at 1"), ([0.5], "at 0"), ([-1], "at 0")):
        with pytest.raises(cr.DataError, match=where):
            cr.one_hot(labels, 3)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout_keeps_the_mean_and_repeats_by_key(rate: float) -> None:
    x = cr.tensor(np.ones(100_000))
    out = cr.dropout(x, rate, key=3)
    kept = out.numpy() != 0
    assert abs(kept.mean() - (1 - rate)) < 5 * np.sqrt(rate * (1 - rate) / 100_000)
    assert_near(out.numpy()[kept], np.full(kept.sum(), 1 / (1 - rate)), EXACT)
    np.testing.assert_array_equal(out.numpy(), cr.dropout(x, rate, key=3).numpy())
    assert (out.numpy() != cr.dropout(x, rate, key=4).numpy()).any()
    assert_near(cr.sum(out).backward()[x], out.numpy(), EXACT)


def test_dropout_of_everything_is_refused() -> None:
    for rate in (1.0, -0.1, np.nan):
        with pytest.raises(ValueError, match="rate"):
            cr.dropout(cr.tensor(1.0), rate)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda x: cr.split(x, 3, axis=1), "4 has no 3 equal parts"),
        (lambda x: cr.stack([x, x[0]]), r"\(2, 4\).*\(4,\)|\(4,\).*\(2, 4\)"),
        (lambda x: cr.stack([]), "none"),
        (lambda x: cr.concatenate([]), "at least one"),
        (lambda x: cr.concatenate([cr.sum(x), x]), "scalars"),
        (lambda x: cr.squeeze(x, axis=0), "length 2, not 1"),
        (lambda x: cr.reshape(x, (3, -1)), "8 elements"),
        (lambda x: cr.reshape(x, (-1, -1)), "cannot become"),
        (lambda x: cr.transpose(x, (0, 0)), "no permutation"),
        (lambda x: x + np.ones((2, 3)), r"axis -1 has 4 against 3"),
        (lambda x: x @ np.ones((2, 4)), "transpose the second"),
        (lambda x: x @ np.ones(3), r"has 4, the matching axis of the second 3"),
    ],
)
def test_shapes_that_do_not_fit_say_so(call: Any, words: str) -> None:
    with pytest.raises(cr.ShapeError, match=words) as caught:
        call(cr.tensor(X))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("axis", [2, -3, (0, 5)])
def test_an_axis_that_is_not_there(axis: Any) -> None:
    for function in (cr.sum, cr.max, cr.mean, cr.logsumexp, cr.prod, cr.var):
        with pytest.raises((np.exceptions.AxisError, cr.ShapeError)):
            function(cr.tensor(X), axis=axis)
        with pytest.raises((ValueError, TypeError)):
            function(cr.tensor(X), axis=(0, 0))
        with pytest.raises(TypeError):
            function(cr.tensor(X), axis=0.5)


def test_unknown_arguments_are_named() -> None:
    with pytest.raises(TypeError, match=r"sum\(\) has no argument 'axes'; it takes axis, keepdims"):
        cr.sum(cr.tensor(X), axes=0)
    with pytest.raises(TypeError):
        cr.sin(cr.tensor(X), 2)
    with pytest.raises(TypeError):
        cr.add(cr.tensor(X))
    with pytest.raises(TypeError, match="two values for 'axis'"):
        cr.sum(cr.tensor(X), 0, axis=1)


@pytest.mark.parametrize("value", [1j, "a", object()])
def test_values_that_are_no_real_numbers_are_refused(value: Any) -> None:
    with pytest.raises(cr.TraceError):
        cr.tensor(value)
    with pytest.raises((cr.TraceError, TypeError)):
        cr.tensor(1.0) * value
