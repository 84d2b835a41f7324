"""Indexing, slicing and their gradients against NumPy's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import chainrule as cr

X = np.arange(60.0).reshape(3, 4, 5)


def compare(x: Any, index: Any) -> None:
    """The value is NumPy's; the gradient counts how often each element was taken, by weight."""
    leaf = cr.tensor(x)
    out = leaf[index]
    expected = x[index]
    np.testing.assert_array_equal(np.asarray(out), expected)
    assert out.shape == np.shape(expected)
    upstream = np.arange(1.0, np.size(expected) + 1).reshape(np.shape(expected))
    gradient = out.backward(upstream)[leaf]
    numbers = np.arange(x.size).reshape(x.shape)[index]
    counted = np.bincount(np.ravel(numbers), weights=np.ravel(upstream), minlength=x.size)
    np.testing.assert_array_equal(gradient, counted.reshape(x.shape))
    assert gradient.dtype == x.dtype


CHOSEN: list[Any] = [
    0,
    -1,
    np.int64(2),
    slice(None),
    slice(1, None),
    slice(None, None, -1),
    slice(5, 1),
    (0, 1, 2),
    (0, ..., 2),
    (..., -1),
    ...,
    None,
    (None, 0, None),
    (slice(None), slice(1, 4, 2), slice(None, None, -2)),
    (),
    [0, 2],
    [0, 0, 0],
    [-1, 2],
    np.array([[0, 1], [1, 1]]),
    ([0, 1, 1], [3, 0, 0]),
    (slice(None), [1, 1, 3]),
    ([0, 2], slice(None), [4, 4]),
    (0, [1, 1, 2]),
    ([[0], [1]], [1, 2]),
    (np.array([True, False, True]),),
    np.array([True, False, True]),
    X > 30,
    (X[:, :, 0] > 20, 1),
    np.array([], dtype=int),
    [],
    (slice(None), np.array([False, True, True, False]), 0),
    (None, [2, 2]),
]


@pytest.mark.parametrize("index", CHOSEN, ids=lambda i: repr(i)[:40])
def test_chosen_index(index: Any) -> None:
    compare(X, index)


@given(data=st.data())
def test_random_basic_index(data: st.DataObject) -> None:
    shape = data.draw(hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
    x = np.arange(float(np.prod(shape, dtype=int))).reshape(shape)
    compare(x, data.draw(hnp.basic_indices(shape, allow_newaxis=True)))


@given(data=st.data())
def test_random_advanced_index(data: st.DataObject) -> None:
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=3, max_side=4))
    x = np.arange(float(np.prod(shape))).reshape(shape)
    compare(x, data.draw(hnp.integer_array_indices(shape, dtype=np.int64)))


def test_a_tensor_can_be_an_index() -> None:
    x, k = cr.tensor(X), cr.tensor(np.array([2, 0, 2]))
    np.testing.assert_array_equal(np.asarray(x[k]), X[[2, 0, 2]])
    np.testing.assert_array_equal(np.asarray(x[:, k]), X[:, [2, 0, 2]])
    mask = x > 30
    np.testing.assert_array_equal(np.asarray(x[mask]), X[X > 30])


def test_an_index_is_copied() -> None:
    x, index = cr.tensor(np.array([1.0, 2.0, 3.0])), np.array([0, 1])
    out = x[index]
    index[:] = 2
    np.testing.assert_array_equal(out.backward(np.ones(2))[x], [1.0, 1.0, 0.0])


def test_the_base_array_cannot_be_reached_through_a_view() -> None:
    x = cr.tensor(np.array([1.0, 2.0, 3.0]))
    with pytest.raises(ValueError, match="read-only"):
        x[1:].numpy()[0] = 9.0
    np.testing.assert_array_equal(x.numpy(), [1.0, 2.0, 3.0])


def test_iteration_and_length() -> None:
    x = cr.tensor(np.array([[1.0, 2.0], [3.0, 4.0]]))
    a, b = x
    assert len(x) == 2
    np.testing.assert_array_equal(cr.sum(a * b).backward()[x], [[3.0, 4.0], [1.0, 2.0]])
    with pytest.raises(TypeError, match="length"):
        len(cr.tensor(1.0))


def test_second_order_through_an_index_with_repeats() -> None:
    h = cr.hessian(lambda t: cr.sum(t[[0, 0, 1]] ** 3))(np.array([2.0, 5.0]))
    np.testing.assert_array_equal(h, [[24.0, 0.0], [0.0, 30.0]])


def test_scatter_add_adds_repeats() -> None:
    x = cr.tensor(np.array([1.0, 2.0, 4.0]))
    out = cr.scatter_add(x, [1, 1, 0], (3,))
    np.testing.assert_array_equal(out.numpy(), [4.0, 3.0, 0.0])
    np.testing.assert_array_equal(out.backward(np.array([1.0, 10.0, 100.0]))[x], [10.0, 10.0, 1.0])


@pytest.mark.parametrize(
    ("index", "error", "words"),
    [
        (3, IndexError, "out of bounds"),
        ((0, 0, 0, 0), IndexError, "too many indices"),
        ([0.5], IndexError, "integers or booleans"),
        ([0, 9], IndexError, "out of bounds"),
        (np.array([True, False]), IndexError, "boolean"),
        ("a", IndexError, "valid indices"),
    ],
    ids=str,
)
def test_wrong_index_names_the_shape(index: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        cr.tensor(X)[index]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_indexing_keeps_the_dtype(dtype: Any) -> None:
    x = cr.tensor(np.ones((2, 3), dtype=dtype))
    for index in (0, (0, 0), [0, 0], (slice(None), 1)):
        out = x[index]
        assert out.dtype == dtype
        assert out.backward(np.ones(out.shape))[x].dtype == dtype
