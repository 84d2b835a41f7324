"""Training: gradient descent on a line, XOR, zero-mean data, and mini-batches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

import chainrule as cr

from ..nn import losses, optim
from . import circuits
from .experiments import counted, on_iris
from .systems import Check, system
from .zigzag import descents

Array = np.ndarray[Any, Any]


@system(
    "S08",
    title="Gradient descent on linear regression, W := W − α(1/m)Σ(Wx − y)x",
    lecture="slides",
    notes="Compared with the closed-form least squares; the last column of x is 1, for the bias.",
)
def linear_regression() -> Iterator[Check]:
    """S08."""
    x = np.column_stack([np.arange(-2.0, 3.0), np.ones(5)])
    y = np.array([1.0, 1.5, 4.0, 4.5, 8.0])
    m, alpha = len(x), 2 / 3
    w = np.array([5.0, -5.0])
    found = cr.grad(lambda v: losses.squared_error(x @ v, y))
    by_formula = (x @ w - y) @ x / m
    yield Check("gradient at the start: (1/m)Σ(Wx − y)x", found(w), by_formula)
    for _ in range(60):
        w = w - alpha * found(w)
    best, *_ = np.linalg.lstsq(x, y, rcond=None)
    yield Check("weight and bias after 60 steps: least squares", w, best)
    yield Check("gradient there", found(w), np.zeros(2))


XOR = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
ANSWERS = np.array([[0.0], [1.0], [1.0], [0.0]])
SEEDS, HIDDEN, XOR_STEPS, RATE = 50, 6, 200, 1.0


@system(
    "S09",
    title="XOR solved by backpropagation",
    lecture="slides",
    notes=f"A 2-{HIDDEN}-1 net, tanh inside, a sigmoid with its matching loss on top; {SEEDS}"
    f" starts side by side, {XOR_STEPS} steps of gradient descent at rate {RATE:g}. Width matters:"
    " with 4 hidden units 590 of 600 starts found it in 1000 steps, with 6 all 600 in 300.",
)
def exclusive_or() -> Iterator[Check]:
    """S09."""
    start = [_xor_start(seed) for seed in range(SEEDS)]
    params = [np.stack(some) for some in zip(*start, strict=True)]
    found = cr.value_and_grad(lambda p: _xor_loss(p)[1])
    first, _ = found(params)
    for _ in range(XOR_STEPS):
        last, gradient = found(params)
        params = [p - RATE * g for p, g in zip(params, gradient, strict=True)]
    right = (_xor_loss(params)[0] > 0) == (ANSWERS == 1)
    solved = right.all(axis=(1, 2))
    yield Check(f"starts of {SEEDS} with 4 of 4 right", int(solved.sum()), SEEDS)
    yield Check("answers right in all", int(right.sum()), 4 * SEEDS)
    yield Check("mean loss has fallen tenfold", bool(last < first / 10), True)


def _xor_start(seed: int) -> list[Array]:
    rng = np.random.default_rng(seed)
    hidden, out = rng.normal(size=(2, HIDDEN)), rng.normal(size=(HIDDEN, 1))
    return [hidden, rng.normal(size=(1, HIDDEN)), out, np.zeros((1, 1))]


def _xor_loss(params: Any) -> tuple[Any, Any]:
    """The logits of all starts, of shape (start, row, 1), and the sum of their mean losses."""
    w1, b1, w2, b2 = params
    logits = cr.tanh(XOR @ w1 + b1) @ w2 + b2
    rows = (1 - ANSWERS) * cr.softplus(logits) + ANSWERS * cr.softplus(-logits)
    return logits, cr.sum(rows) / len(XOR)


@system(
    "S27",
    title="Zero-mean data: what it changes",
    lecture="slides",
    notes="On a line fitted by least squares the curvature's condition number sets the number of"
    " steps; moving the mean to 0 makes it small. In a net of 16 tanh units on iris, counted in"
    " epochs, it changes next to nothing, for iris' columns differ little; on digits it is twice as"
    " fast: `chainrule compare --preset zero-centred`.",
)
def zero_mean() -> Iterator[Check]:
    """S27."""
    x = np.random.default_rng(27).normal(loc=5.0, size=40)
    raw, centred = (_curvature(v) for v in (x, x - x.mean()))
    sides = np.column_stack([x, np.ones(40)])
    yield Check("second derivatives: (1/m)Σxxᵀ", raw, sides.T @ sides / 40)
    yield Check("centred: no coupling of weight and bias", centred[0, 1], 0.0)
    better = np.linalg.cond(raw) > 100 * np.linalg.cond(centred)
    yield Check("centring lowers the condition number a hundredfold", bool(better), True)
    steps = [one.steps for one in descents().values()]
    yield Check("steps to within 1 % of the least loss, around 5 and centred", steps, [570, 1])
    found = on_iris(activations="tanh", inputs=("positive", "centred"), hidden=(16,))
    yield from counted(found, {"positive": [37, 32], "centred": [38, 25]})


def _curvature(x: Array) -> Array:
    rows, y = np.column_stack([x, np.ones(len(x))]), np.sin(x)
    found = cr.hessian(lambda w: losses.squared_error(rows @ w, y))(np.zeros(2))
    return np.asarray(found)


@system(
    "S32",
    title="SGD on mini-batches: W += −learning_rate · dW",
    lecture="slides",
    notes="The update written by hand and optim.SGD's agree bit for bit, batch after batch.",
)
def mini_batches() -> Iterator[Check]:
    """S32."""
    rng = np.random.default_rng(32)
    x, rate = rng.normal(size=(50, 3)), 0.1
    y = x @ np.array([1.0, -2.0, 0.5]) + 0.1 * rng.normal(size=50)
    found = cr.grad(lambda p, rows: losses.squared_error(x[rows] @ p["W"] + p["b"], y[rows]))
    by_hand = {"W": np.zeros(3), "b": np.zeros(())}
    optimizer = optim.SGD(lr=rate)
    params = {name: value.copy() for name, value in by_hand.items()}
    state = optimizer.init(params)
    for epoch in range(3):
        order = np.random.default_rng([32, epoch]).permutation(50)
        for rows in (order[k : k + 8] for k in range(0, 50, 8)):
            d = found(by_hand, rows)
            by_hand = {name: value + -rate * d[name] for name, value in by_hand.items()}
            params, state = optimizer.update(params, found(params, rows), state)
    for name in ("W", "b"):
        yield Check(f"{name} after 3 epochs of 7 batches", params[name], by_hand[name], 0.0)
    yield Check("updates counted by the optimiser", state["step"], 21)


@system(
    "S34",
    title="Where backpropagation comes from",
    lecture="slides",
    notes="Werbos 1974 and 1982; Rumelhart, Hinton and Williams 1986: docs/history.md tells it.",
)
def history() -> Iterator[Check]:
    """S34: what the method is for: one pass back, whatever the number of weights."""
    for weights in (10, 100_000):
        w = cr.tensor(np.linspace(-1.0, 1.0, weights))
        loss = cr.sum(cr.tanh(w) * w)
        edges = circuits.edges_of(loss)
        yield Check(f"{weights} weights: edges that backward visits", len(edges), 4)
