"""NumPy's own functions on tensors: they record, answer questions, or refuse by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule.circuit import Tensor
from chainrule.ops.numpy_protocol import QUESTIONS, UFUNCS, WORDS
from tolerances import VALUE, assert_near

EXACT = VALUE[np.float64]
X = np.array([[0.3, -0.8, 0.6], [0.9, 0.1, -0.4]])
Y = np.array([[1.5, 0.7, -2.0], [0.2, -1.1, 0.5]])


def same_both_ways(
    numpy_call: Callable[..., Any], chainrule_call: Callable[..., Any], *args: Any
) -> None:
    """Value as NumPy's, gradient as that of the function it stands for."""
    leaves = [cr.tensor(x) for x in args]
    out = numpy_call(*leaves)
    assert isinstance(out, Tensor)
    assert_near(out.value, numpy_call(*args), EXACT, 1.0)
    upstream = np.random.default_rng(0).normal(size=out.shape)
    others = [cr.tensor(x) for x in args]
    expected = chainrule_call(*others).backward(upstream)
    found = out.backward(upstream)
    for leaf, other in zip(leaves, others, strict=True):
        np.testing.assert_array_equal(found[leaf], expected[other])


@pytest.mark.parametrize("ufunc", UFUNCS, ids=lambda u: u.__name__)
def test_every_known_ufunc_records(ufunc: np.ufunc) -> None:
    args = [np.abs(X) / 2 + 0.05, np.abs(Y) + 0.1][: ufunc.nin]
    if ufunc is np.matmul:
        args[1] = args[1].T
    if ufunc is np.clip:
        return  # three inputs; see the words below
    out = ufunc(*[cr.tensor(x) for x in args])
    assert isinstance(out, Tensor)
    assert out.op is cr.registry[UFUNCS[ufunc]]
    assert_near(out.value, ufunc(*args), EXACT)


WORD_CALLS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "sum": (np.sum, cr.sum),
    "sum of an axis": (lambda x: np.sum(x, axis=0), lambda x: cr.sum(x, axis=0)),
    "sum keeping axes": (
        lambda x: np.sum(x, 1, keepdims=True),
        lambda x: cr.sum(x, 1, keepdims=True),
    ),
    "mean": (lambda x: np.mean(x, axis=-1), lambda x: cr.mean(x, axis=-1)),
    "var": (lambda x: np.var(x, ddof=1), lambda x: cr.var(x, ddof=1)),
    "std": (np.std, cr.std),
    "prod": (np.prod, cr.prod),
    "max": (lambda x: np.max(x, axis=0), lambda x: cr.max(x, axis=0)),
    "min": (np.min, cr.min),
    "amax and amin": (lambda x: np.amax(x) - np.amin(x), lambda x: cr.max(x) - cr.min(x)),
    "cumsum": (lambda x: np.cumsum(x, axis=1), lambda x: cr.cumsum(x, axis=1)),
    "flat cumsum": (np.cumsum, cr.cumsum),
    "clip": (lambda x: np.clip(x, -0.5, 0.5), lambda x: cr.clip(x, -0.5, 0.5)),
    "clip by name": (lambda x: np.clip(x, a_min=None, a_max=0.5), lambda x: cr.clip(x, None, 0.5)),
    "where": (lambda x: np.where(X > 0, x, 2.0), lambda x: cr.where(X > 0, x, 2.0)),
    "dot": (lambda x: np.dot(x, Y.T), lambda x: cr.dot(x, Y.T)),
    "einsum": (lambda x: np.einsum("ij,ij->i", x, Y), lambda x: cr.einsum("ij,ij->i", x, Y)),
    "outer": (lambda x: np.outer(x, Y), lambda x: cr.outer(x, Y)),
    "norm": (np.linalg.norm, cr.linalg.norm),
    "norm of rows": (lambda x: np.linalg.norm(x, axis=1), lambda x: cr.linalg.norm(x, axis=1)),
    "norm 1": (lambda x: np.linalg.norm(x, 1, axis=0), lambda x: cr.linalg.norm(x, 1, axis=0)),
    "norm 3": (lambda x: np.linalg.norm(x, 3, axis=0), lambda x: cr.linalg.norm(x, 3, axis=0)),
    "norm inf": (lambda x: np.linalg.norm(x, np.inf), lambda x: cr.linalg.norm(x, np.inf)),
    "reshape": (lambda x: np.reshape(x, (3, -1)), lambda x: cr.reshape(x, (3, 2))),
    "transpose": (np.transpose, cr.transpose),
    "swapaxes": (lambda x: np.swapaxes(x, 0, 1), lambda x: cr.swapaxes(x, 0, 1)),
    "squeeze": (lambda x: np.squeeze(x[:1]), lambda x: cr.squeeze(x[:1])),
    "expand_dims": (lambda x: np.expand_dims(x, 1), lambda x: cr.expand_dims(x, 1)),
    "broadcast_to": (
        lambda x: np.broadcast_to(x, (4, 2, 3)),
        lambda x: cr.broadcast_to(x, (4, 2, 3)),
    ),
    "concatenate": (lambda x: np.concatenate([x, Y, x]), lambda x: cr.concatenate([x, Y, x])),
    "concatenate flat": (
        lambda x: np.concatenate([x, Y], axis=None),
        lambda x: cr.concatenate([x, Y], axis=None),
    ),
    "stack": (lambda x: np.stack([x, Y], axis=-1), lambda x: cr.stack([x, Y], axis=-1)),
    "split": (lambda x: np.split(x, 3, axis=1)[1], lambda x: cr.split(x, 3, axis=1)[1]),
    "take": (lambda x: np.take(x, [2, 0, 2], axis=1), lambda x: cr.take(x, [2, 0, 2], axis=1)),
    "pad": (lambda x: np.pad(x, ((1, 0), (0, 2))), lambda x: cr.pad(x, ((1, 0), (0, 2)))),
    "pad with": (
        lambda x: np.pad(x, 1, constant_values=3.0),
        lambda x: cr.pad(x, 1, constant_values=3.0),
    ),
    "flip": (lambda x: np.flip(x, 1), lambda x: cr.flip(x, 1)),
    "ravel": (np.ravel, cr.ravel),
}


@pytest.mark.parametrize("name", WORD_CALLS)
def test_numpy_function_records_its_word(name: str) -> None:
    numpy_call, chainrule_call = WORD_CALLS[name]
    same_both_ways(numpy_call, chainrule_call, X)


def test_every_word_is_tested() -> None:
    tested = " ".join(WORD_CALLS)
    assert [w for w in WORDS.values() if w not in tested and w not in ("argmax", "argmin")] == []


def test_argmax_of_a_tensor_is_a_constant() -> None:
    out = np.argmax(cr.tensor(X), axis=1)
    np.testing.assert_array_equal(np.asarray(out), np.argmax(X, axis=1))


# -- mixtures of arrays, NumPy scalars and tensors --------------------------------------------

SCALAR = np.float64(1.7)
MIXTURES: dict[str, Callable[[Any], Any]] = {
    "array + t": lambda t: Y + t,
    "t + array": lambda t: t + Y,
    "array - t": lambda t: Y - t,
    "array * t": lambda t: Y * t,
    "array / t": lambda t: Y / t,
    "array ** t": lambda t: np.abs(Y) ** t,
    "t ** array": lambda t: (t * t) ** np.abs(Y),
    "array @ t": lambda t: Y.T @ t,
    "t @ array": lambda t: t @ Y.T,
    "np.add": lambda t: np.add(Y, t),
    "np.multiply": lambda t: np.multiply(t, Y),
    "float64 * t": lambda t: SCALAR * t,
    "t * float64": lambda t: t * SCALAR,
    "float64 - t": lambda t: SCALAR - t,
    "float64 / t": lambda t: SCALAR / t,
    "float64 ** t": lambda t: SCALAR**t,
    "int64 * t": lambda t: np.int64(3) * t,
    "number - t": lambda t: 2 - t,
    "number / t": lambda t: 2 / t,
    "number ** t": lambda t: 2**t,
    "np.sin": lambda t: np.sin(t),
    "chain": lambda t: np.exp(-np.square(t)) / np.sqrt(1 + np.abs(t)),
    "maximum": lambda t: np.maximum(t, Y),
    "-t": lambda t: -t,
    "abs(t)": lambda t: abs(t),
}


@pytest.mark.parametrize("name", MIXTURES)
def test_mixture_of_arrays_and_tensors(name: str) -> None:
    function = MIXTURES[name]
    leaf = cr.tensor(X)
    out = function(leaf)
    assert isinstance(out, Tensor), type(out)
    assert_near(out.value, function(X), EXACT)
    assert leaf in cr.sum(out).backward()
    assert cr.check_grad(lambda t: cr.sum(function(t)), X).checked == 6


@pytest.mark.parametrize("name", ["less", "less_equal", "greater", "greater_equal"])
def test_comparisons_give_boolean_constants(name: str) -> None:
    leaf = cr.tensor(X)
    for out in (getattr(np, name)(leaf, 0.2), getattr(cr, name)(leaf, 0.2)):
        np.testing.assert_array_equal(np.asarray(out), getattr(np, name)(X, 0.2))
        assert out.dtype == bool
        assert not out.requires_grad


def test_an_array_compared_with_a_tensor() -> None:
    np.testing.assert_array_equal(np.asarray(Y > cr.tensor(X)), Y > X)  # noqa: SIM300
    np.testing.assert_array_equal(np.asarray(0.2 > cr.tensor(X)), X < 0.2)  # noqa: SIM300


def test_equality_of_tensors_is_identity() -> None:
    a, b = cr.tensor(X), cr.tensor(X)
    assert a == a
    assert a != b
    assert len({a, b}) == 2
    np.testing.assert_array_equal(np.asarray(cr.equal(a, b)), np.ones_like(X, dtype=bool))


@pytest.mark.parametrize(
    ("ufunc", "word"),
    [(np.add, "sum"), (np.multiply, "prod"), (np.maximum, "max"), (np.minimum, "min")],
)
def test_ufunc_reduce(ufunc: np.ufunc, word: str) -> None:
    same_both_ways(ufunc.reduce, lambda x: getattr(cr, word)(x, axis=0), X)
    same_both_ways(lambda x: ufunc.reduce(x, axis=1), lambda x: getattr(cr, word)(x, axis=1), X)
    same_both_ways(lambda x: ufunc.reduce(x, axis=None), lambda x: getattr(cr, word)(x), X)
    same_both_ways(
        lambda x: ufunc.reduce(x, axis=1, keepdims=True),
        lambda x: getattr(cr, word)(x, axis=1, keepdims=True),
        X,
    )


# -- refusals ---------------------------------------------------------------------------------


def test_out_is_refused() -> None:
    with pytest.raises(TypeError, match=r"np\.sin\(…, out=\)"):
        np.sin(cr.tensor(X), out=np.empty_like(X))
    y = X.copy()
    with pytest.raises(TypeError, match="out="):
        y += cr.tensor(X)
    with pytest.raises(TypeError, match="out="):
        np.sum(cr.tensor(X), out=np.empty(()))


@pytest.mark.parametrize(
    ("call", "name", "nearest"),
    [
        (lambda t: np.arctan2(t, t), "np.arctan2", "cr.arctan"),
        (lambda t: np.sort(t), "np.sort", "cr."),
        (lambda t: np.linalg.inv(t), "np.linalg.inv", "cr."),
        (lambda t: np.logaddexp(t, t), "np.logaddexp", "cr.logsumexp"),
        (lambda t: np.fft.fft(t), "np.fft", "cr."),
        (lambda t: np.tril(t), "np.tril", "cr."),
    ],
)
def test_a_function_without_a_rule_is_named(call: Any, name: str, nearest: str) -> None:
    with pytest.raises(TypeError) as caught:
        call(cr.tensor(X))
    text = str(caught.value)
    assert name in text
    assert nearest in text
    assert "\n" not in text


@pytest.mark.parametrize("method", ["accumulate", "outer"])
def test_other_ufunc_methods_are_refused(method: str) -> None:
    args = (cr.tensor(X), X) if method == "outer" else (cr.tensor(X),)
    with pytest.raises(TypeError, match=rf"np\.add\.{method}"):
        getattr(np.add, method)(*args)


@pytest.mark.parametrize(
    "call",
    [
        lambda t: np.sum(t, where=X > 0),
        lambda t: np.sum(t, dtype=np.float32),
        lambda t: np.sum(t, initial=3.0),
        lambda t: np.sin(t, where=X > 0),
    ],
)
def test_keywords_without_a_meaning_are_refused(call: Any) -> None:
    with pytest.raises(TypeError, match="not supported for tensors"):
        call(cr.tensor(X))


def test_numpy_defaults_pass_unseen() -> None:
    t = cr.tensor(X)
    assert_near(np.sum(t, dtype=None, out=None).value, X.sum(), EXACT, 1.0)
    assert_near(np.reshape(t, (3, 2), order="C").value, X.reshape(3, 2), EXACT)
    with pytest.raises(TypeError):
        np.reshape(t, (3, 2), order="F")


# -- questions --------------------------------------------------------------------------------

ANSWERS: dict[str, Callable[[Any], Any]] = {
    "shape": np.shape,
    "ndim": np.ndim,
    "size": np.size,
    "zeros_like": np.zeros_like,
    "ones_like": np.ones_like,
    "full_like": lambda t: np.full_like(t, 2.0),
    "allclose": lambda t: np.allclose(t, X),
    "isclose": lambda t: np.isclose(t, 0.3),
    "array_equal": lambda t: np.array_equal(t, X),
    "any": lambda t: np.any(t > 0.5),
    "all": lambda t: np.all(t > 0.5),
    "argsort": np.argsort,
    "count_nonzero": np.count_nonzero,
    "result_type": lambda t: np.result_type(t, np.float32),
    "array2string": np.array2string,
}


@pytest.mark.parametrize("name", ANSWERS)
def test_question_is_answered_from_the_plain_value(name: str) -> None:
    answer, expected = ANSWERS[name](cr.tensor(X)), ANSWERS[name](X)
    assert not isinstance(answer, Tensor)
    assert type(answer) is type(expected)
    assert np.all(np.asarray(answer) == np.asarray(expected))


def test_questions_and_words_do_not_overlap() -> None:
    assert not set(QUESTIONS) & set(WORDS)


# -- leaving the circuit ----------------------------------------------------------------------


def test_asarray_gives_the_value_read_only() -> None:
    t = cr.tensor(X)
    plain = np.asarray(t)
    np.testing.assert_array_equal(plain, X)
    with pytest.raises(ValueError, match="read-only"):
        plain[0, 0] = 1.0
    copy = np.array(t)
    copy[0, 0] = 100.0
    assert t.value[0, 0] == 0.3
    assert np.asarray(t, dtype=np.float32).dtype == np.float32
    with pytest.raises(ValueError, match="copy"):
        np.array(t, dtype=np.float32, copy=False)


def test_plain_values_give_plain_values() -> None:
    for name in ("sin", "sigmoid", "sum", "softmax", "mean", "norm", "relu"):
        for value in (X, [[0.1, 0.2]]):
            assert not isinstance(cr.registry[name](value), Tensor)
    assert cr.sin(5.0) == np.sin(5.0)
    assert cr.add(2, 3) == 5
    assert cr.concatenate([[1.0], [2.0]]).tolist() == [1.0, 2.0]
