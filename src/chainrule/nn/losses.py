"""Losses: how wrong a prediction is, a number a row, and their reduction over the rows.

Each takes `(prediction, target, sample_weight=None, reduction="mean")`. It is written in
operations, so the one backward loop differentiates it; plain arrays give plain values.

* Elementwise losses: axis 0 is the batch, later axes are outputs, whose losses are summed
  (averaged by `mean_*`). A 1-D array is n rows of one output; one sample's output vector is (1, k).
  (n,) meets (n, 1); anything else that would broadcast is a `ShapeError`.
* Class losses: the last axis is classes; targets are integer labels, or distributions of the
  prediction's shape. A 1-D prediction is one row, and its label may be an int.
* Reductions: "none" gives a value a row, times its weight; "sum" adds them up; "mean" divides by
  the number of rows, or by Σw where weights are given. Weights have one number a row.
* dtype: the prediction's; integer targets and lists take it, float arrays promote as in NumPy.
"""

from __future__ import annotations

import functools
import inspect
from typing import Any, cast

import numpy as np

from ..circuit import state
from ..circuit import vocabulary as ops
from ..errors import listed, quoted, unknown
from ..ops import registry
from .integral import integral
from .rows import (
    Loss,
    Value,
    check_unit,
    chosen_classes,
    clip_bound,
    floating,
    log_probability,
    log_where,
    loss,
    pair,
    plain,
    reduced,
    share_from_0_to_1,
    warn_if_certain,
)

__all__ = [
    "LOSSES",
    "absolute_error",
    "binary_cross_entropy",
    "get",
    "huber",
    "logistic",
    "matching",
    "mean_squared_error",
    "nll",
    "relative_entropy",
    "softmax_cross_entropy",
    "squared_error",
    "with_options",
]

# -- elementwise losses -----------------------------------------------------------------------


@loss()
def squared_error(
    prediction: Value, target: Value, sample_weight: Value = None, reduction: str = "mean"
) -> Any:
    """½ Σ (a − y)² over a row's outputs, with derivative a − y.

    `prediction` and `target` are (n,) or (n, k…). Raises `ShapeError` where they differ.

    >>> float(squared_error([[0.75, 0.5]], [[0.25, 1.0]]))
    0.25

    Source: slides, E = Σ ½(target − output)².
    """
    a, y = pair(prediction, target)
    return reduced(ops.square(a - y), 1, sample_weight, reduction, divisor=2)


@loss()
def mean_squared_error(
    prediction: Value, target: Value, sample_weight: Value = None, reduction: str = "mean"
) -> Any:
    """Σ (a − y)² / k over a row's k outputs, with derivative 2(a − y)/k.

    `prediction` and `target` are (n,) or (n, k…). Raises `ShapeError` where they differ.

    >>> float(mean_squared_error([[0.75, 0.5]], [[0.25, 1.0]]))
    0.25

    Source: PyTorch's MSELoss, scikit-learn's mean_squared_error.
    """
    a, y = pair(prediction, target)
    return reduced(ops.square(a - y), 1, sample_weight, reduction, average=True)


@loss()
def absolute_error(
    prediction: Value, target: Value, sample_weight: Value = None, reduction: str = "mean"
) -> Any:
    """Σ |a − y| over a row's outputs, with derivative sign(a − y), 0 where they are equal.

    `prediction` and `target` are (n,) or (n, k…). Raises `ShapeError` where they differ.

    >>> float(absolute_error([1.0, 5.0], [2.0, 2.0], reduction="sum"))
    4.0

    Source: Laplace 1774, least absolute deviations.
    """
    a, y = pair(prediction, target)
    return reduced(ops.abs(a - y), 1, sample_weight, reduction)


@loss()
def huber(
    prediction: Value,
    target: Value,
    sample_weight: Value = None,
    reduction: str = "mean",
    *,
    delta: float = 1.0,
) -> Any:
    """Σ of ½d² where |d| ≤ δ, else δ(|d| − ½δ), with d = a − y and derivative clip(d, −δ, δ).

    Computed as c(d − ½c) with c = clip(d, −δ, δ): one formula for both parts, finite for d = ±∞ in
    its derivative. `prediction` and `target` are (n,) or (n, k…). Raises `ShapeError` where they
    differ, `ValueError` unless δ > 0.

    >>> huber([0.5, 3.0], [0.0, 0.0], reduction="none")
    array([0.125, 2.5  ])

    Source: Huber 1964.
    """
    if not delta > 0:
        raise ValueError(f"huber: delta must be positive, got {delta}")
    a, y = pair(prediction, target)
    d = a - y
    c = ops.clip(d, -float(delta), float(delta))
    return reduced(c * (d - 0.5 * c), 1, sample_weight, reduction)


@loss(boundary=0.0)
def logistic(
    prediction: Value, target: Value, sample_weight: Value = None, reduction: str = "mean"
) -> Any:
    """(1 − y)·softplus(a) + y·softplus(−a) on logits a, with derivative σ(a) − y.

    It equals −y ln σ(a) − (1 − y) ln(1 − σ(a)), but neither overflows nor cancels. Targets are
    from 0 to 1, else `DataError`; `prediction` and `target` are (n,) or (n, k…), k independent
    questions; else `ShapeError`.

    >>> float(logistic([-1000.0], [1]))
    1000.0

    Source: transfer-and-loss, the matching loss of the sigmoid.
    """
    a, y = pair(prediction, target)
    check_unit(y, "targets", "relabel the two classes as 0 and 1")
    return reduced((1 - y) * ops.softplus(a) + y * ops.softplus(-a), 1, sample_weight, reduction)


@loss()
def binary_cross_entropy(
    prediction: Value,
    target: Value,
    sample_weight: Value = None,
    reduction: str = "mean",
    *,
    clip: float | None = None,
) -> Any:
    """−y ln p − (1 − y) ln(1 − p) on probabilities p, with derivative (1 − y)/(1 − p) − y/p.

    A term whose factor y or 1 − y is 0 contributes exactly 0, to the derivative too. Where p is
    0 or 1 against the target, the loss is inf and one `RuntimeWarning` says so; `clip=c` keeps p
    within [c, 1 − c], and where it does so the derivative is 0. Shapes as for `logistic`, which is
    the one to use on logits. Raises `DataError` for p or y outside [0, 1].

    >>> round(float(binary_cross_entropy([0.75], [1])), 6)
    0.287682

    Source: transfer-and-loss.
    """
    p, y = pair(prediction, target)
    check_unit(y, "targets", "relabel the two classes as 0 and 1")
    check_unit(p, "probabilities", "use logistic on logits")
    if clip is not None:
        p = ops.clip(p, clip_bound(clip), 1 - clip)
    ones, zeros = ops.not_equal(y, 0), ops.not_equal(y, 1)
    bad = (plain(p) == 0) & plain(ones) | (plain(p) == 1) & plain(zeros)
    warn_if_certain(bad, "logistic")
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = y * ops.log(ops.where(ones, p, 1)) + (1 - y) * ops.log1p(-ops.where(zeros, p, 0))
        return reduced(terms, 1, sample_weight, reduction, divisor=-1)


# -- class losses -----------------------------------------------------------------------------


@loss(takes_labels=True)
def nll(
    prediction: Value,
    target: Value,
    sample_weight: Value = None,
    reduction: str = "mean",
    *,
    clip: float | None = None,
) -> Any:
    """−Σₖ tₖ ln zₖ on probabilities z, with derivative −tₖ/zₖ: the negative log likelihood.

    `prediction` is (…, k), `target` labels (…) or distributions (…, k). A class whose target is 0
    contributes exactly 0 to value and derivative. Where a class with a positive target has
    probability 0, the loss is inf and one `RuntimeWarning` says so; `clip=c` raises probabilities
    to at least c, and where it does so the derivative is 0. Raises `DataError` for a label out of
    range (naming row and value), probabilities outside [0, 1] and distributions that do not add up
    to 1.

    >>> round(float(nll([[0.25, 0.75]], [1])), 6)
    0.287682

    Source: softmax, part (c).
    """
    z = floating(prediction)
    chosen, weight = chosen_classes(z, target)
    log_z = log_probability(z, chosen, clip)
    terms = log_z if weight is None else weight * log_z
    return reduced(terms, -1, sample_weight, reduction, divisor=-1)


@loss(takes_labels=True)
def softmax_cross_entropy(
    prediction: Value,
    target: Value,
    sample_weight: Value = None,
    reduction: str = "mean",
    *,
    label_smoothing: float = 0.0,
) -> Any:
    """−Σₖ tₖ ln softmax(a)ₖ on logits a, with derivative softmax(a) − t: log_softmax and nll fused.

    `prediction` is (…, k), `target` labels (…) or distributions (…, k). `label_smoothing` ε puts
    (1 − ε)·t + ε/k for t, so that certainty does not pay. Never overflows, and no probability is
    rounded to 0; a logit of −∞ is harmless in the classes whose target is 0 (where ε is 0). Raises
    `DataError` for a label out of range (naming row and value) and distributions that do not add up
    to 1, `ShapeError` for a target of another shape, `ValueError` unless 0 ≤ ε ≤ 1.

    >>> round(float(softmax_cross_entropy([[0.5, -1.2, 2.0, 0.1]], [2])), 6)
    0.346041
    >>> round(float(softmax_cross_entropy([[0.5, -1.2, 2.0, 0.1]], [2], label_smoothing=0.1)), 6)
    0.511041

    Source: softmax, part (d); Szegedy et al. 2016 for the smoothing.
    """
    a = floating(prediction)
    chosen, weight = chosen_classes(a, target)
    log_p = ops.log_softmax(a)
    terms = ops.where(chosen, log_p, 0)
    terms = terms if weight is None else weight * terms
    if share := share_from_0_to_1("label_smoothing", label_smoothing):
        terms = (1 - share) * terms + (share / a.shape[-1]) * log_p
    return reduced(terms, -1, sample_weight, reduction, divisor=-1)


@loss(takes_labels=True)
def relative_entropy(
    prediction: Value, target: Value, sample_weight: Value = None, reduction: str = "mean"
) -> Any:
    """Σₖ yₖ ln(yₖ/ŷₖ) on probabilities ŷ, with derivative −yₖ/ŷₖ and 0·ln 0 = 0; 0 where ŷ = y.

    `prediction` is (…, k), `target` distributions (…, k), or labels (…), for which it equals `nll`;
    what is said there about probability 0 and errors holds here. On logits: `matching(softmax)`.

    >>> round(float(relative_entropy([[0.5, 0.5]], [[0.25, 0.75]])), 6)
    0.130812

    Source: transfer-and-loss; Kullback and Leibler 1951.
    """
    p = floating(prediction)
    chosen, weight = chosen_classes(p, target)
    log_p = log_probability(p, chosen, None)
    terms = -log_p if weight is None else weight * (log_where(chosen, weight) - log_p)
    return reduced(terms, -1, sample_weight, reduction)


# -- matching losses --------------------------------------------------------------------------


def matching(transfer: Loss | str) -> Loss:
    """F(a) − y·a + F*(y) with F′ = h: the loss whose derivative at the net input a is h(a) − y.

    `transfer` is an increasing function h written in operations, or a name. The identity gives
    ½(a − y)²; the sigmoid the logistic loss, less the entropy of a soft target; softmax the
    relative entropy, on logits. For another elementwise h, F(a) is the integral of h from 0 to a,
    by Gauss–Legendre (for a smooth h to rounding), and F*(y), which ∂/∂a does not see, is left
    out. The result is a loss like the others, convex in a.

    >>> import chainrule as cr
    >>> a = cr.tensor([0.7])
    >>> _ = matching(cr.tanh)(a, [0.25]).backward()
    >>> bool(a.grad[0] == np.tanh(0.7) - 0.25)
    True

    Source: transfer-and-loss; Helmbold, Kivinen and Warmuth 1995.
    """
    h = _transfer(transfer)
    if h is registry["identity"]:
        return squared_error
    if h is registry["sigmoid"]:
        return _matching_sigmoid
    return _matching_softmax if h is registry["softmax"] else _matching_other(h)


def _transfer(transfer: Loss | str) -> Loss:
    if isinstance(transfer, str):
        if transfer not in registry:
            raise unknown("transfer function", transfer, registry)
        return cast("Loss", registry[transfer])
    if not callable(transfer):
        raise TypeError(f"matching needs a function or its name, not {quoted(transfer)}")
    return transfer


@loss(boundary=0.0)
def _matching_sigmoid(
    prediction: Value, target: Value, sample_weight: Value = None, reduction: str = "mean"
) -> Any:
    """softplus(a) − y·a + y ln y + (1 − y) ln(1 − y), with derivative σ(a) − y."""
    a, y = pair(prediction, target)
    check_unit(y, "targets", "relabel the two classes as 0 and 1")
    losses = (1 - y) * ops.softplus(a) + y * ops.softplus(-a)
    hard = plain(y)
    if state.compiling or np.any((hard != 0) & (hard != 1)):  # compiled, other targets will come
        other = 1 - y
        losses = losses + y * log_where(ops.not_equal(y, 0), y)
        losses = losses + other * log_where(ops.not_equal(other, 0), other)
    return reduced(losses, 1, sample_weight, reduction)


@loss(takes_labels=True)
def _matching_softmax(
    prediction: Value, target: Value, sample_weight: Value = None, reduction: str = "mean"
) -> Any:
    """Σ y ln(y / softmax(a)), with derivative softmax(a) − y."""
    a = floating(prediction)
    chosen, weight = chosen_classes(a, target)
    terms = ops.where(chosen, ops.log_softmax(a), 0)
    terms = -terms if weight is None else weight * (log_where(chosen, weight) - terms)
    return reduced(terms, -1, sample_weight, reduction)


def _matching_other(h: Loss) -> Loss:
    area = integral(h)

    @loss()
    def matching_loss(
        prediction: Value, target: Value, sample_weight: Value = None, reduction: str = "mean"
    ) -> Any:
        a, y = pair(prediction, target)
        return reduced(area(a) - y * a, 1, sample_weight, reduction)

    matching_loss.__doc__ = f"∫ h(z) dz from 0 to a, less y·a, for h = {getattr(h, '__name__', h)}."
    return matching_loss


# -- by name ----------------------------------------------------------------------------------

LOSSES: dict[str, Loss] = {
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


def get(loss: Loss | str) -> Loss:
    """The loss of that name; a function f(prediction, target) passes through.

    Of one of these losses, `functools.partial` is as good as `with_options`. Raises
    `UnknownNameError` with the nearest name.

    >>> get("squared_error") is squared_error
    True
    """
    if isinstance(loss, functools.partial) and hasattr(loss.func, "takes_labels") and not loss.args:
        return loss if hasattr(loss, "takes_labels") else with_options(loss.func, **loss.keywords)
    if callable(loss):
        return loss
    if not isinstance(loss, str) or loss not in LOSSES:
        raise unknown("loss", loss, LOSSES)
    return LOSSES[loss]


def with_options(loss: Loss | str, **options: Any) -> Loss:
    """The loss, by itself or by its name, with options of its own: f(prediction, target).

    It is trained with, and compiled, like the loss itself. Raises `TypeError` for an option that
    the loss has not.

    >>> smooth = with_options("softmax_cross_entropy", label_smoothing=0.1)
    >>> smooth.__name__, round(float(smooth([[2.0, 0.0]], [0])), 6)
    ('softmax_cross_entropy(label_smoothing=0.1)', 0.226928)
    """
    found = get(loss)
    own = inspect.signature(found).parameters
    odd = [name for name in options if name not in own or name in ("prediction", "target")]
    if odd:
        known = [name for name, p in own.items() if p.kind is p.KEYWORD_ONLY]
        raise TypeError(
            f"{found.__name__} has no option {quoted(odd[0])}; it has: {listed(known) or 'none'}"
        )
    made = functools.partial(found, **options)
    functools.update_wrapper(made, found)
    shown = ", ".join(f"{name}={value!r}" for name, value in options.items())
    made.__dict__["__name__"] = f"{found.__name__}({shown})"
    return made
