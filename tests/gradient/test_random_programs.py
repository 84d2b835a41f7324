"""Random array programs: backward against differences, reverse against forward mode.

A program is a list of steps on a growing list of arrays, written in the public functions, so that
it runs on tensors and on plain arrays alike: the differences never see a recorded circuit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

import chainrule as cr
from tolerances import DERIVATIVE, DIFFERENCE, assert_near

Array = Any
SHAPES = [(), (1,), (3,), (2, 3), (3, 1), (1, 3), (2, 1, 3), (2, 2, 3)]
LIMIT = 64  # elements of one array


def _unary(x: Array, a: int, b: int) -> Array:
    functions: list[Callable[[Array], Array]] = [
        cr.sin,
        cr.tanh,
        cr.sigmoid,
        cr.softplus,
        cr.silu,
        cr.gelu,
        cr.arctan,
        cr.softsign,
        cr.erf,
        cr.relu,
        cr.abs,
        cr.square,
        lambda t: cr.elu(t, alpha=0.7),
        lambda t: cr.leaky_relu(t, 0.2),
        lambda t: cr.exp(cr.tanh(t)),
        lambda t: cr.log(1.5 + cr.cos(t)),
        lambda t: cr.sqrt(1 + t * t),
        lambda t: cr.reciprocal(2 + cr.sin(t)),
        lambda t: cr.clip(t, -0.8, 1.1),
        lambda t: 2.0 - t / 3,
        lambda t: -t,
    ]
    return functions[(a * 8 + b) % len(functions)](x)


def _binary(x: Array, y: Array, a: int) -> Array:
    functions: list[Callable[[Array, Array], Array]] = [
        lambda s, t: s + t,
        lambda s, t: s - 2 * t,
        lambda s, t: s * t / 2,
        lambda s, t: s / (1 + t * t),
        cr.maximum,
        cr.minimum,
        lambda s, t: cr.where(s > t, s * 2, cr.sin(t)),
        lambda s, t: cr.power(1 + cr.sigmoid(s), cr.tanh(t)),
    ]
    return functions[a % len(functions)](x, y)


def _reduce(x: Array, a: int, b: int) -> Array:
    axis: Any = (
        None if b % 4 == 3 or not np.ndim(x) else b % np.ndim(x) - (np.ndim(x) if a > 3 else 0)
    )
    keepdims = b > 3
    functions = [cr.sum, cr.mean, cr.max, cr.min, cr.logsumexp, cr.var]
    return functions[a % len(functions)](x, axis=axis, keepdims=keepdims)


def _matmul(x: Array, a: int, b: int) -> Array:
    if not np.ndim(x):
        return x * 1.5
    n = x.shape[-1]
    weights = np.cos(np.arange(n * (1 + a % 3), dtype=float) + b).reshape(n, -1)
    if a > 5:
        return x @ weights[:, 0]
    if a > 3 and np.ndim(x) > 1:
        return cr.tanh(x) @ cr.swapaxes(x, -1, -2)
    return x @ weights


def _index(x: Array, a: int, b: int) -> Array:
    if not np.ndim(x):
        return cr.expand_dims(x, 0)
    n = x.shape[0]
    indices: list[Any] = [
        b % n,
        slice(b % n, None),
        slice(None, None, -1),
        [b % n, 0, b % n],
        (..., 0),
        (None, slice(None, None, 2)),
        np.arange(n) % 2 == 0,
        (np.array([0, n - 1, 0]), ...),
    ]
    return x[indices[a % len(indices)]]


def _reshape(x: Array, a: int, b: int) -> Array:
    ndim = np.ndim(x)
    functions: list[Callable[[Array], Array]] = [
        lambda t: cr.reshape(t, -1),
        cr.transpose,
        lambda t: cr.expand_dims(t, b % (ndim + 1)),
        cr.squeeze,
        lambda t: cr.flip(t),
        lambda t: cr.cumsum(t, axis=b % ndim if ndim else None),
        lambda t: cr.softmax(t, axis=b % ndim) if ndim else t,
        lambda t: cr.log_softmax(t, axis=b % ndim) if ndim else t,
        lambda t: cr.pad(t, 1) if ndim < 3 else t,
        lambda t: cr.take(t, [0, -1, 0]),
        lambda t: cr.broadcast_to(t, (2, *np.shape(t))) if ndim < 3 else t,
        lambda t: cr.swapaxes(t, 0, -1) if ndim else t,
    ]
    return functions[a * 8 % 12 + b % 4 if a > 3 else a * 3 % 12](x)


def _join(x: Array, y: Array, a: int) -> Array:
    if a % 3 == 0 or not np.ndim(x):
        return cr.concatenate([cr.reshape(x, -1), cr.reshape(y, -1)])
    if a % 3 == 1:
        return cr.concatenate([x, x * 0.5], axis=a % np.ndim(x))
    return cr.stack([x, cr.sin(x)], axis=a % (np.ndim(x) + 1)) if np.ndim(x) < 3 else x


Step = tuple[int, int, int, int, int]


def run(steps: Sequence[Step], inputs: Sequence[Array]) -> Array:
    """All arrays that the program leaves, in one vector."""
    live = list(inputs)
    for kind, first, second, a, b in steps:
        x, y = live[first % len(live)], live[second % len(live)]
        out = _step(kind % 8, x, y, a, b)
        if np.size(out) <= LIMIT and np.ndim(out) <= 3:
            live.append(out)
    return cr.concatenate([cr.reshape(x, -1) for x in live[len(inputs) :] or live])


def _step(kind: int, x: Array, y: Array, a: int, b: int) -> Array:
    if kind in (1, 2):
        try:
            np.broadcast_shapes(np.shape(x), np.shape(y))
        except ValueError:
            y = cr.mean(y)
        return _binary(x, y, a)
    if kind == 3:
        return _reduce(x, a, b)
    if kind == 4:
        return _matmul(x, a, b)
    if kind == 5:
        return _index(x, a, b)
    if kind == 6:
        return _reshape(x, a, b)
    if kind == 7:
        return _join(x, y, a)
    return _unary(x, a, b)


small = st.integers(0, 7)
programs = st.lists(st.tuples(small, small, small, small, small), min_size=1, max_size=9)
shapes = st.lists(st.sampled_from(SHAPES), min_size=1, max_size=3)


def _point(some: Sequence[tuple[int, ...]], seed: int) -> tuple[list[Array], list[Array]]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=s) for s in some], [rng.normal(size=s) for s in some]


def differences(phi: Callable[[float], float]) -> tuple[float, float]:
    """φ′(0) by Richardson extrapolation of central differences, and how far two steps disagree."""
    found = []
    for step in (2e-3, 5e-4):
        fine, coarse = ((phi(h) - phi(-h)) / (2 * h) for h in (step, 2 * step))
        found.append((4 * fine - coarse) / 3)
    return found[1], abs(found[1] - found[0])


@settings(max_examples=500, suppress_health_check=list(HealthCheck))
@given(steps=programs, some=shapes, seed=st.integers(0, 10**6))
def test_backward_agrees_with_differences(steps: list[Step], some: Any, seed: int) -> None:
    inputs, direction = _point(some, seed)
    size = int(run(steps, inputs).shape[0])
    weights = np.random.default_rng(seed + 1).uniform(0.5, 1.5, size)
    leaves = [cr.tensor(x) for x in inputs]
    out = run(steps, leaves)
    plain = run(steps, inputs)  # another memory layout may change the last bit of a sum
    np.testing.assert_allclose(out.numpy(), plain, rtol=1e-13, atol=1e-13 * np.abs(plain).max())
    grads = cr.sum(out * weights).backward()
    terms = [grads[x] * v for x, v in zip(leaves, direction, strict=True) if x in grads]

    def phi(t: float) -> float:
        moved = [x + t * v for x, v in zip(inputs, direction, strict=True)]
        return float(np.sum(run(steps, moved) * weights))

    numeric, unsure = differences(phi)
    scale = sum(float(np.abs(term).sum()) for term in terms) + float(np.abs(out.numpy()).sum())
    assume(math.isfinite(scale))
    assume(unsure < 0.1 * DIFFERENCE * scale)  # a kink nearby: the differences are worth nothing
    assert_near(sum(float(term.sum()) for term in terms), numeric, DIFFERENCE, scale)


@settings(max_examples=150, suppress_health_check=list(HealthCheck))
@given(steps=programs, some=shapes, seed=st.integers(0, 10**6))
def test_forward_agrees_with_reverse_mode(steps: list[Step], some: Any, seed: int) -> None:
    inputs, direction = _point(some, seed)

    def function(*args: Array) -> Array:
        return run(steps, args)

    value, pull = cr.vjp(function, *inputs)
    same, along = cr.jvp(function, inputs, direction)
    np.testing.assert_array_equal(value, same)
    upstream = np.random.default_rng(seed + 2).normal(size=value.shape)
    pulled = pull(upstream)
    pulled = pulled if isinstance(pulled, tuple) else (pulled,)
    terms = [p * v for p, v in zip(pulled, direction, strict=True)]
    scale = sum(float(np.abs(t).sum()) for t in terms) + float(np.abs(upstream * along).sum())
    assert all(np.shape(p) == np.shape(x) for p, x in zip(pulled, inputs, strict=True))
    expected = sum(float(t.sum()) for t in terms)
    assert_near(float(np.sum(upstream * along)), expected, DERIVATIVE[np.float64], scale)


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(steps=programs, some=shapes, seed=st.integers(0, 10**6))
@example(steps=[(0, 0, 0, 1, 1), *[(1, 0, 0, 0, 0)] * 4, (6, 0, 0, 2, 0)], some=[(2, 3)], seed=0)
def test_hessian_vector_products_are_symmetric(steps: list[Step], some: Any, seed: int) -> None:
    inputs, first = _point(some[:1], seed)
    _, second = _point(some[:1], seed + 3)
    x, u, v = inputs[0], first[0], second[0]
    gradient = cr.grad(lambda t: cr.sum(run(steps, [t])))
    hu, hv = (cr.jvp(gradient, (x,), (w,))[1] for w in (u, v))
    size = float(np.abs(v * hu).sum() + np.abs(u * hv).sum())
    # Terms that cancel are of the gradient's size: 45 units of its last place are rounding.
    terms = float((np.abs(gradient(x)) * np.maximum(np.abs(u), np.abs(v))).sum())
    scale = size + max(1e-6, 1e-3 * terms)
    assert_near(np.sum(v * hu), np.sum(u * hv), DERIVATIVE[np.float64], scale)


def test_differences_would_find_a_wrong_gradient() -> None:
    numeric, unsure = differences(math.sin)
    assert abs(numeric - 1) < DIFFERENCE
    assert unsure < DIFFERENCE
    _, unsure = differences(lambda t: abs(t - 1e-4))
    assert unsure > DIFFERENCE
