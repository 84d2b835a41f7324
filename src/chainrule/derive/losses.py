"""The losses: ∂/∂ŷ and ∂/∂logits, from each loss's formula for one output or one row.

What a loss is, is told here a second time, as its formula; the tests hold it equal to the loss
that networks are trained with, value and gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..circuit import Tensor, circuit_of
from ..circuit import vocabulary as ops
from .chain import plain_chain, start
from .derivation import Derivation, Part
from .rows import LETTERS, NUMBERS, row
from .symbols import abbreviation, pending, series, symbol

NOTE = "For one output of one row; the mean over m rows divides it by m."


def _pair(letter: str = "a", value: float = 0.7) -> tuple[Tensor, Tensor]:
    return symbol(letter, value), symbol("y", 0.3)


def squared_error() -> Derivation:
    """½(a − y)², with derivative a − y; and behind a sigmoid."""
    a, y = _pair()
    chain = plain_chain(start(ops.square(a - y) / 2, a, True))
    h = ops.sigmoid(a)
    behind = plain_chain(start(ops.square(h - y) / 2, a, True))
    return Derivation(
        "squared_error",
        (chain.part("", a), behind.part("behind a sigmoid (the squared loss after a transfer)", a)),
        (NOTE,),
    )


def mean_squared_error() -> Derivation:
    """(a − y)²/k for one of k outputs, with derivative 2(a − y)/k."""
    a, y = _pair()
    k = symbol("k", 3.0)
    chain = plain_chain(start(ops.square(a - y) / k, a, True))
    return Derivation(
        "mean_squared_error", (chain.part("", a),), (NOTE, "k is the number of outputs.")
    )


def _by_cases(
    name: str, u: Tensor, a: Tensor, branches: Sequence[tuple[Any, Tensor]], note: str
) -> Derivation:
    """Chains from u, one for each pair of conditions and what u is there."""
    parts = []
    for conditions, left in branches:
        chain = start(u, a, True)
        chain.add("by cases", pending(left, a, True))
        parts.append(plain_chain(chain).part("", a, conditions))
    return Derivation(name, tuple(parts), (note, NOTE))


def absolute_error() -> Derivation:
    """|a − y|, with derivative ±1 and 0 where they are equal."""
    a, y = _pair()
    above = ops.greater(a, y)
    branches = [(((above, True),), a - y), (((above, False),), -(a - y))]
    return _by_cases(
        "absolute_error", ops.abs(a - y), a, branches,
        "At a = y the derivative is taken to be 0: the middle of [−1, 1].",
    )  # fmt: skip


def huber() -> Derivation:
    """½d² inside ±δ, δ(|d| − ½δ) outside, with d = a − y: the derivative is d kept within ±δ."""
    a, y = _pair()
    delta = symbol("delta", 1.0)
    d = a - y
    outer = delta * (ops.abs(d) - 0.5 * delta)
    u = ops.where(ops.less_equal(ops.abs(d), delta), 0.5 * ops.square(d), outer)
    far, low = ops.greater(d, delta), ops.less(d, -delta)
    branches = [
        (((far, True),), delta * (d - 0.5 * delta)),
        (((far, False), (low, True)), delta * (-d - 0.5 * delta)),
        (((far, False), (low, False)), 0.5 * ops.square(d)),
    ]
    return _by_cases(
        "huber", u, a, branches, "At |a − y| = delta both sides agree: there is no kink."
    )


def logistic() -> Derivation:
    """−y ln σ(a) − (1 − y) ln(1 − σ(a)), with derivative σ(a) − y."""
    a, y = _pair()
    s = ops.sigmoid(a)
    chain = start(-y * ops.log(s) - (1 - y) * ops.log(1 - s), a, True).differentiate()
    chain.apply(NUMBERS, "cancel", "multiply out", "collect like terms")
    return Derivation("logistic", (chain.part("∂/∂logit", a),), (NOTE,))


def binary_cross_entropy() -> Derivation:
    """−y ln p − (1 − y) ln(1 − p), with derivative (1 − y)/(1 − p) − y/p."""
    p, y = _pair("p", 0.6)
    chain = start(-y * ops.log(p) - (1 - y) * ops.log(1 - p), p, True).differentiate()
    chain.apply(NUMBERS, "collect the factors")
    return Derivation("binary_cross_entropy", (chain.part("", p),), (NOTE,))


def _three(letter: str, values: Sequence[float]) -> list[Tensor]:
    return [symbol(f"{letter}_{n}", v) for n, v in zip(LETTERS, values, strict=True)]


def _targets(letter: str) -> list[Tensor]:
    """Three shares that add up to 1: the third is what the others leave."""
    first, second = symbol(f"{letter}_i", 0.2), symbol(f"{letter}_j", 0.5)
    return [first, second, abbreviation(f"{letter}_k", 1 - first - second)]


def nll() -> Derivation:
    """−Σₖ tₖ ln zₖ, with derivative −tᵢ/zᵢ."""
    t, z = _three("t", (0.2, 0.5, 0.3)), _three("z", (0.3, 0.3, 0.4))
    chain = start(-series([a * ops.log(b) for a, b in zip(t, z, strict=True)]), z[0], True)
    chain.differentiate().apply(NUMBERS, "collect the factors")
    return Derivation(
        "nll", (chain.part("", z[0]),), ("A class with target 0 contributes 0, even at z = 0.",)
    )


def relative_entropy() -> Derivation:
    """Σₖ yₖ ln(yₖ/ŷₖ), with derivative −yᵢ/ŷᵢ."""
    y, p = _three("y", (0.2, 0.5, 0.3)), _three("p", (0.3, 0.3, 0.4))
    chain = start(series([a * ops.log(a / b) for a, b in zip(y, p, strict=True)]), p[0], True)
    chain.differentiate().apply(NUMBERS, "collect the factors")
    return Derivation("relative_entropy", (chain.part("", p[0]),), ("p is the prediction.",))


def softmax_cross_entropy() -> Derivation:
    """−Σₖ tₖ ln σₖ on logits a, with derivative σᵢ − tᵢ."""
    return Derivation(
        "softmax_cross_entropy", (_cross_entropy("t", "∂/∂logits"),), (SHARES.format("t"),)
    )


SHARES = "The targets add up to 1: {0}_i + {0}_j + {0}_k = 1."


def _cross_entropy(letter: str, title: str) -> Part:
    r, t = row("a"), _targets(letter)
    log_sum = ops.log(r.sum)
    chain = start(-series([a * ops.log(s) for a, s in zip(t, r.sigma, strict=True)]), r.x[0], True)
    opened = -series([a * (x - log_sum) for a, x in zip(t, r.x, strict=True)])
    chain.add("ln σₖ = aₖ − ln Σ", pending(opened, r.x[0], True))
    summed = log_sum - series([a * x for a, x in zip(t, r.x, strict=True)])
    chain.add("the targets add up to 1", pending(summed, r.x[0], True))
    chain.differentiate().apply(NUMBERS, "collect the factors")
    chain.recognise("recognise σ", [(r.e[0] / r.sum, r.sigma[0])])
    return chain.part(title, r.x[0])


def matching_softmax() -> Derivation:
    """Σₖ yₖ ln(yₖ/σₖ), the relative entropy on logits: Σₖ yₖ ln yₖ does not move with a."""
    part = _cross_entropy("y", "∂/∂logits")
    note = "Σₖ y_k · ln y_k, which does not depend on a, is left out."
    return Derivation("matching(softmax)", (part,), (SHARES.format("y"), note))


def matching_sigmoid() -> Derivation:
    """softplus(a) − y·a, the integral of σ(z) − y, with derivative σ(a) − y."""
    a, y = _pair()
    chain = start(ops.softplus(a) - y * a, a, True).differentiate()
    note = "softplus is the integral of σ; what depends on y alone is left out."
    return Derivation("matching(sigmoid)", (chain.part("", a),), (note, NOTE))


def matching(integral: Any) -> Derivation:
    """∫₀ᵃ (h(z) − y) dz, whose derivative is h(a) − y, for the h that `integral` integrates."""
    a, y = _pair()
    chain = start(integral(a) - y * a, a, True).differentiate()
    note = "The matching loss: ∫ (h(z) − y) dz from 0 to a; what depends on y alone is left out."
    return Derivation("matching", (chain.part("", a),), (note, NOTE))


LOSSES: dict[str, Callable[[], Derivation]] = {
    function.__name__: function
    for function in (
        squared_error,
        mean_squared_error,
        absolute_error,
        huber,
        logistic,
        binary_cross_entropy,
        nll,
        softmax_cross_entropy,
        relative_entropy,
    )
}


def derive_loss(loss: Callable[..., Any]) -> Derivation | None:
    """The derivation of a loss of the package, or None for any other function."""
    if not hasattr(loss, "takes_labels"):
        return None
    name = loss.__name__
    known = {**LOSSES, "_matching_softmax": matching_softmax, "_matching_sigmoid": matching_sigmoid}
    if name in known:
        return known[name]()
    traced = loss(symbol_row("a"), [0.3])
    for node in circuit_of(traced):
        if node.op is not None and node.op.name == "integral":
            return matching(node.op)
    return None


def symbol_row(name: str) -> Tensor:
    """A row of one output, to trace a loss on."""
    return Tensor(np.array([0.7]), requires_grad=True, name=name)
