"""The losses of the notes: after a transfer function, matching it, and with zero probabilities."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

import chainrule as cr

from ..compare.combination import head
from ..nn import losses
from .experiments import counted, on_iris
from .systems import Check, figures, system

Array = np.ndarray[Any, Any]
ROUNDING = 1e-6  # what central differences can show


def value_and_slope(loss: Callable[..., Any], a: Any, y: Any, **how: Any) -> tuple[float, Array]:
    """A loss at one prediction, and its derivative there."""
    value, gradient = cr.value_and_grad(lambda v: loss(v, y, **how))(np.array(a, dtype=float))
    return float(value), gradient


@system(
    "S16",
    title="Negative log likelihood, and a class with probability 0",
    lecture="softmax",
    notes="Probability 0 for the true class is an infinite loss, and one warning says why. Fused"
    " with log-softmax no probability is ever rounded to 0.",
)
def negative_log_likelihood() -> Iterator[Check]:
    """S16."""
    expected = figures()["softmax"]
    z, t = np.array([expected["y"]]), np.array([expected["t"]])
    value, gradient = value_and_slope(losses.nll, z, t)
    yield Check("−Σ t ln z", value, expected["nll"])
    yield Check("∂/∂z = −t/z", gradient[0], expected["dnll_dprob"])
    logits = np.array([expected["x"]])
    value, gradient = value_and_slope(losses.softmax_cross_entropy, logits, t)
    yield Check("fused with log-softmax: value", value, expected["nll"])
    yield Check("fused: gradient σ − t", gradient[0], expected["dnll_dlogits"])
    through = cr.grad(lambda v: losses.nll(cr.softmax(v), t))(logits)
    yield Check("nll of softmax: the same gradient", through[0], expected["dnll_dlogits"])
    yield from _zero_probability()


def _zero_probability() -> Iterator[Check]:
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        value, _ = value_and_slope(losses.nll, [[0.0, 1.0]], [0])
    yield Check("true class at probability 0: loss", value, np.inf)
    yield Check("true class at probability 0: warnings", len(heard), 1)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        value, gradient = value_and_slope(losses.nll, [[0.0, 0.25, 0.75]], [[0.0, 0.0, 1.0]])
    yield Check("other class at probability 0: loss", value, -np.log(0.75))
    yield Check("other class at probability 0: gradient", gradient[0], [0.0, 0.0, -1 / 0.75])
    yield Check("other class at probability 0: warnings", len(heard), 0)
    value, gradient = value_and_slope(losses.softmax_cross_entropy, [[-1000.0, 1000.0]], [0])
    yield Check("fused at logits ∓1000: loss", value, 2000.0)
    yield Check("fused at logits ∓1000: gradient", gradient[0], [-1.0, 1.0])


@system(
    "S17",
    title="Squared loss after a transfer function: (σ(a) − y)σ′(a)x",
    lecture="transfer-and-loss",
    erratum="∂L/∂wᵢ is L′(â)xᵢ, where σ(â)xᵢ is written.",
)
def squared_after_transfer() -> Iterator[Check]:
    """S17."""
    given = figures()["losses"]

    def squared(a: Any, y: Any) -> Any:
        return losses.squared_error(cr.sigmoid(a), y)

    value, gradient = value_and_slope(squared, [given["a"]], [given["y"]])
    yield Check("½(σ(a) − y)²", value, given["squared"])
    yield Check("derivative in a", gradient[0], given["dsquared_da"])
    rng = np.random.default_rng(17)
    x, w, y = rng.normal(size=4), rng.normal(size=4), 0.3
    for h in (cr.sigmoid, cr.tanh, cr.softplus):
        found = cr.grad(lambda v, f=h: losses.squared_error(cr.reshape(f(v @ x), (1,)), [y]))(w)
        a = w @ x
        by_hand = (h(a) - y) * cr.grad(h)(a) * x
        yield Check(f"{h.name}: ∂L/∂w = (h(a) − y)h′(a)x", found, by_hand)


@system(
    "S18",
    title="Matching losses: derivative h(a) − y for every increasing h",
    lecture="transfer-and-loss",
    notes="Squared loss matches the identity, logistic loss the sigmoid, relative entropy the"
    " softmax; for another h the loss is the integral of h.",
    erratum="The matching loss's derivative is L′(â) = σ(â) − y; its left side is printed σ(â).",
)
def matching_losses() -> Iterator[Check]:
    """S18."""
    given = figures()["losses"]
    value, gradient = value_and_slope(losses.logistic, [given["a"]], [given["y"]])
    yield Check("logistic loss", value, given["logistic"])
    yield Check("logistic loss: derivative", gradient[0], given["dlogistic_da"])
    yield from _extremes(given["logistic_extreme"])
    yield from _relative_entropy(figures()["relative_entropy"])
    yield from _elementwise_matching()


def _extremes(rows: list[dict[str, float]]) -> Iterator[Check]:
    """Far out the loss neither overflows nor loses its small values, so compare relatively."""
    for row in rows:
        value, gradient = value_and_slope(losses.logistic, [row["a"]], [row["y"]])
        for what, ours, figure in (
            ("loss", value, row["loss"]),
            ("derivative", float(gradient[0]), row["dloss_da"]),
        ):
            yield Check(f"logistic loss at a = {row['a']}: {what}", ours, figure)
            if 0 < abs(figure) < 1:
                yield Check(f"the same {what}, divided by its figure", ours / figure, 1.0)


def _relative_entropy(given: dict[str, Any]) -> Iterator[Check]:
    y, logits = np.array([given["y"]]), np.array([given["logits"]])
    value, gradient = value_and_slope(losses.matching(cr.softmax), logits, y)
    yield Check("softmax's matching loss: relative entropy", value, given["value"])
    yield Check("softmax's matching loss: derivative", gradient[0], given["dlogits"])
    value, _ = value_and_slope(losses.relative_entropy, cr.softmax(logits), y)
    yield Check("relative entropy on probabilities", value, given["value"])
    value, _ = value_and_slope(losses.relative_entropy, [[0.2, 0.5, 0.3]], [[0.0, 1.0, 0.0]])
    yield Check("RE of a one-hot target: −ln ŷ_c", value, -np.log(0.5))


def _elementwise_matching() -> Iterator[Check]:
    """h(a) − y, and the loss as the integral of h − y, against closed forms of it."""
    a, y = np.array([-3.0, -0.4, 0.0, 0.7, 4.0]), np.array([0.0, 1.0, 0.0, 1.0, 1.0])
    integrals: dict[Any, Callable[[Array], Array]] = {
        cr.identity: lambda v: 0.5 * v**2 + 0.5 * y**2,
        cr.sigmoid: lambda v: np.logaddexp(0, v),
        cr.tanh: lambda v: np.log(np.cosh(v)),
        cr.arctan: lambda v: v * np.arctan(v) - 0.5 * np.log1p(v**2),
    }
    for h, integral in integrals.items():
        loss = losses.matching(h)
        ours = loss(a, y, reduction="none")
        yield Check(f"matching({h.name}): loss", ours, integral(a) - y * a)
        _, gradient = value_and_slope(loss, a, y, reduction="sum")
        yield Check(f"matching({h.name}): derivative h(a) − y", gradient, h(a) - y)
    _, gradient = value_and_slope(losses.matching(cr.softplus), a, y, reduction="sum")
    yield Check("matching(softplus): derivative h(a) − y", gradient, cr.softplus(a) - y)


@system(
    "S19",
    title="Multiclass sigmoid with k weight vectors, and with k − 1",
    lecture="transfer-and-loss",
    notes="With w̃ᵢ = wᵢ − w₁ the first class is the reference, whose net input is 0.",
)
def multiclass_sigmoid() -> Iterator[Check]:
    """S19."""
    rng = np.random.default_rng(19)
    for k in (2, 3, 6):
        w, x = rng.normal(size=(k, 4)), rng.normal(size=4)
        full = cr.softmax(w @ x)
        reference = cr.exp(np.concatenate([[0.0], (w[1:] - w[0]) @ x]))
        reduced = reference / cr.sum(reference)
        yield Check(f"k = {k}: probabilities agree", reduced, full)
        if k == 2:
            yield Check("k = 2: the sigmoid of w̃₂·x", cr.sigmoid((w[1] - w[0]) @ x), full[1])
        y = np.eye(k)[[1]]
        found = cr.grad(partial(_full, x=x, y=y))(w)
        yield Check(f"k = {k}: ∂RE/∂wᵢ = (ŷᵢ − yᵢ)x", found, np.outer(full - y[0], x))
        tilde = cr.grad(partial(_with_reference, x=x, y=y))(w[1:] - w[0])
        yield Check(f"k = {k}: ∂RE/∂w̃ᵢ is the same without class 1", tilde, found[1:])


def _full(w: Any, x: Array, y: Array) -> Any:
    return losses.matching(cr.softmax)(cr.reshape(w @ x, (1, -1)), y)


def _with_reference(tilde: Any, x: Array, y: Array) -> Any:
    nets = cr.concatenate([np.zeros(1), tilde @ x])
    return losses.matching(cr.softmax)(cr.reshape(nets, (1, -1)), y)


# Outputs in (0, 1) serve as probabilities; only softmax's rows are distributions.
TRANSFERS: dict[str, str] = {
    "identity": "real",
    "relu": "real",
    "leaky_relu": "real",
    "elu": "real",
    "softplus": "real",
    "tanh": "real",
    "sigmoid": "probability",
    "softmax": "distribution",
}
TAKES: dict[str, tuple[str, ...]] = {
    "binary_cross_entropy": ("probability", "distribution"),
    "nll": ("probability", "distribution"),
    "relative_entropy": ("probability", "distribution"),
}


@system(
    "S21",
    title="Any transfer function with any loss: the template stays",
    lecture="transfer-and-loss",
    notes="Each pair is a small net of two layers; six of its gradients, chosen at"
    " random, meet central differences. Losses on probabilities meet only transfers that give"
    " them. Then δ at the output and at a hidden unit, by formula; and which pair is best, by"
    " experiment: epochs to 95 % training accuracy on iris. `chainrule compare` asks it of any"
    " data, with intervals and a ranking.",
)
def any_pair() -> Iterator[Check]:
    """S21."""
    rng = np.random.default_rng(21)
    x = rng.normal(size=(3, 2))
    layers = [rng.normal(size=(2, 2)), rng.normal(size=(2, 2)), rng.normal(size=2)]
    y = np.eye(2)[[0, 1, 1]]
    for transfer, kind in TRANSFERS.items():
        for name, loss in losses.LOSSES.items():
            if kind in TAKES.get(name, (kind,)):
                yield _pair(f"{transfer} × {name}", cr.registry[transfer], loss, (x, layers, y))
    yield from _output_deltas(rng)
    yield from _hidden_deltas(rng)
    found = on_iris(activations="tanh", losses=tuple(WHICH))
    yield from counted(found, WHICH)


def _pair(what: str, h: Callable[[Any], Any], loss: Any, given: tuple[Any, ...]) -> Check:
    x, layers, y = given

    def error(w: Any, v: Any, b: Any) -> Any:
        return loss(h(h(x @ w) @ v + b), y)

    report = cr.check_grad(error, *layers, max_elements=6)
    return Check(f"{what}: gradient at {report.worst}", report.analytic, report.numeric, ROUNDING)


WHICH = {  # epochs that tanh units need with each output and loss
    "softmax_cross_entropy": [12, 10],
    "softmax+squared_error": [21, 15],
    "logistic": [17, 16],
    "sigmoid+squared_error": [69, 60],
}


def _output_deltas(rng: np.random.Generator) -> Iterator[Check]:
    """δ = ∂L/∂a at the net input of the output: the loss changes this, and nothing before it."""
    a, y = rng.normal(size=(1, 3)), np.array([[0.0, 1.0, 0.0]])
    p, s, t = cr.softmax(a), cr.sigmoid(a), np.tanh(a)
    table = {
        "softmax_cross_entropy": p - y,
        "softmax+nll": p - y,
        "softmax+squared_error": p * ((p - y) - np.sum(p * (p - y))),
        "logistic": s - y,
        "sigmoid+binary_cross_entropy": s - y,
        "sigmoid+squared_error": (s - y) * s * (1 - s),
        "tanh+squared_error": (t - y) * (1 - t**2),
        "identity+squared_error": a - y,
    }
    for name, delta in table.items():
        end = head(name)
        found = cr.grad(partial(_at_output, end, y=y))(a)
        yield Check(f"{name}: δ at the output", found, delta)


def _at_output(end: Any, a: Any, y: Array) -> Any:
    return losses.get(end.loss)(cr.registry[end.output](a), y)


def _hidden_deltas(rng: np.random.Generator) -> Iterator[Check]:
    """δ_j = h'(a_j) Σ_k δ_k w_kj: the transfer function changes h' alone, whatever the loss."""
    a, w, y = rng.normal(size=4), rng.normal(size=(3, 4)), np.array([[0.0, 1.0, 0.0]])
    for name in TRANSFERS:
        h = cr.registry[name]
        if name == "softmax":
            continue  # not elementwise: its local derivative is a matrix
        loss = partial(_through, h, w, y)
        delta = cr.softmax(w @ h(a)) - y[0]
        slope = cr.grad(lambda v, h=h: cr.sum(h(v)))(a)
        yield Check(f"{name}: δ of hidden units", cr.grad(loss)(a), slope * (delta @ w))


def _through(h: Callable[[Any], Any], w: Array, y: Array, a: Any) -> Any:
    return losses.softmax_cross_entropy(cr.reshape(w @ h(a), (1, 3)), y)
