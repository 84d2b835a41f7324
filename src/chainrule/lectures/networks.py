"""Networks: the δ form of backpropagation, the error term of a unit, and maxout's parameters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

import chainrule as cr

from .. import nn
from .activations import slope
from .systems import Check, figures, system

Array = np.ndarray[Any, Any]


@system(
    "S20",
    title="Backpropagation in its δ form, for any dense net",
    lecture="transfer-and-loss, error-and-delta",
    notes="δ_k at the output, δ_j = h′(a_j) Σ_k δ_k w_kj below, ∂L/∂w_ji = δ_j x_i; a bias is a"
    " weight whose input is 1. Nets of random depth, widths and transfer functions.",
)
def delta_form() -> Iterator[Check]:
    """S20."""
    gates = (cr.sigmoid, cr.tanh, cr.softplus, cr.elu, cr.relu, cr.identity)
    for seed in range(8):
        rng = np.random.default_rng([20, seed])
        widths = [int(n) for n in rng.integers(1, 6, size=rng.integers(2, 6))]
        h = [gates[k] for k in rng.integers(len(gates), size=len(widths) - 1)]
        shapes = list(zip(widths[1:], widths, strict=False))
        weights = [rng.normal(size=(out, n_in + 1)) for out, n_in in shapes]
        x, y = rng.normal(size=(5, widths[0])), rng.normal(size=(5, widths[-1]))
        found = cr.grad(lambda w, x=x, y=y, h=h: _squared_error(w, x, y, h))(weights)
        by_delta = _by_delta(weights, x, y, h)
        net = "-".join(map(str, widths)) + " " + ", ".join(gate.name for gate in h)
        ours, theirs = (np.concatenate([np.ravel(g) for g in gs]) for gs in (found, by_delta))
        yield Check(f"{net}: gradient of every weight and bias", ours, theirs)


def _squared_error(weights: Sequence[Any], x: Any, y: Array, h: Sequence[Any]) -> Any:
    """½ Σ (ŷ − y)²; the last column of a layer's weights is its bias."""
    for w, gate in zip(weights, h, strict=True):
        x = gate(x @ w[:, :-1].T + w[:, -1])
    return 0.5 * cr.sum(cr.square(x - y))


def _by_delta(weights: Sequence[Array], x: Array, y: Array, h: Sequence[Any]) -> list[Array]:
    """The recipe of the notes, in plain NumPy; only h′ is asked of the gate."""
    inputs, slopes = [], []
    for w, gate in zip(weights, h, strict=True):
        inputs.append(np.hstack([x, np.ones((len(x), 1))]))
        a = inputs[-1] @ w.T
        slopes.append(slope(gate, a))
        x = gate(a)
    delta = (x - y) * slopes[-1]
    gradients = [delta.T @ inputs[-1]]
    for k in range(len(weights) - 2, -1, -1):
        delta = slopes[k] * (delta @ weights[k + 1][:, :-1])
        gradients.insert(0, delta.T @ inputs[k])
    return gradients


@system(
    "S24",
    title="δ of the output with ŷ = 0.21, and the error term of a hidden unit",
    lecture="error-and-delta",
    notes="The note's δ is (y − ŷ)ŷ(1 − ŷ), the direction of descent: −∂E/∂net.",
    erratum="σ(−1.28) is 0.2176, not 0.21: δ is 0.1332 unrounded, 0.1311 with the note's rounding."
    " Its sign is that of −∂E/∂net.",
)
def error_terms() -> Iterator[Check]:
    """S24."""
    given = figures()["delta_003"]
    net = cr.tensor(float(given["x"]))
    yhat = cr.sigmoid(net)
    found = (0.5 * cr.square(given["y"] - yhat)).backward()
    yield Check("ŷ = σ(−1.28)", yhat, given["yhat"])
    yield Check("δ = −∂E/∂net", -found[net], given["delta"])
    rounded = cr.tensor(given["yhat_rounded"])
    found = (0.5 * cr.square(given["y"] - rounded)).backward()
    delta = -found[rounded] * rounded.numpy() * (1 - rounded.numpy())
    yield Check("δ with ŷ rounded to 0.21", delta, given["delta_rounded"])
    there = float(np.log(0.21 / 0.79))  # where σ is exactly 0.21
    exact = -cr.grad(lambda v: 0.5 * cr.square(given["y"] - cr.sigmoid(v)))(there)
    yield Check("the same by backward at σ⁻¹(0.21)", exact, given["delta_rounded"])
    yield from _hidden_unit(given)


def _hidden_unit(given: dict[str, Any]) -> Iterator[Check]:
    """δ_h = w δ_o f′(h), and with several outputs the sum over them."""
    rng = np.random.default_rng(24)
    w, net_h = rng.normal(size=(3, 2)), rng.normal(size=2)
    targets = np.array([given["y"], 0.0, 0.5])

    def error(nets: Any, outputs: Any) -> Any:
        return 0.5 * cr.sum(cr.square(targets - cr.sigmoid(outputs(cr.sigmoid(nets)))))

    delta_h = cr.grad(lambda nets: error(nets, lambda out: w @ out))(net_h)
    net_o = w @ cr.sigmoid(net_h)
    delta_o = cr.grad(lambda nets: 0.5 * cr.sum(cr.square(targets - cr.sigmoid(nets))))(net_o)
    by_hand = [
        sum(w[k, j] * delta_o[k] for k in range(3)) * slope(cr.sigmoid, net_h)[j] for j in (0, 1)
    ]
    yield Check("hidden δ_j = f′(h_j) Σ_k w_kj δ_k", delta_h, by_hand)


@system(
    "S30",
    title="Maxout doubles a unit's parameters",
    lecture="slides",
    notes="With k pieces it has k times as many; the model summary counts them.",
)
def maxout_parameters() -> Iterator[Check]:
    """S30."""
    dense = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), seed=0)
    plain = _count(dense)
    yield Check("Linear(64, 32) and ReLU", plain, 64 * 32 + 32)
    for pieces in (2, 3):
        model = nn.Sequential(nn.Maxout(64, 32, pieces=pieces), seed=0)
        yield Check(f"Maxout(64, 32, pieces={pieces}), against it", _count(model) / plain, pieces)
        text = str(model.summary()).replace(",", "").replace(" ", "")
        shown = str(_count(model)) in text
        yield Check(f"the summary of {pieces} pieces shows the number", shown, True)


def _count(model: Any) -> int:
    return sum(parameter.size for parameter in model.parameters())
