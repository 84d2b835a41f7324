"""Gates: named functions with a short derivative or a stable form, which open into a definition.

`definition` is the lecture's textbook form, written in operations; `value` and `local` are what is
computed. They are proved equal at high precision by the registry's tests.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..circuit import vocabulary as ops
from .pointwise import POSITIVE, REALS, erfc
from .record import Kink, operation
from .reduce import canonical_axes

Value = Any
SLIDES = "slides, activation functions"


def _gate(name: str, value: Any, definition: Any, local: Any, example: str, **facts: Any) -> Any:
    """A gate of one variable."""
    return operation(
        name,
        value,
        definition=definition,
        local=(local,),
        example=(f"round(float(cr.{name}(0.5)), 6)", example),
        **{
            "flow": "scaler",
            "domain": (REALS,),
            "symbol": name,
            "latex": rf"\operatorname{{{{{name}}}}}\left({{0}}\right)",
            **facts,
        },
    )


reciprocal = _gate(
    "reciprocal", lambda x: 1.0 / x, lambda x: x**-1.0, lambda x, out: -out * out, "2.0",
    plain=np.reciprocal, textbook=(lambda x, out: -1 / x**2,),
    meaning="reciprocal(x) = 1/x", symbol="1/x", latex=r"\frac{{1}}{{{0:<}}}", text="1/{0:>}",
    binds=20,
    domain=(POSITIVE,), numpy=(np.reciprocal,),
)  # fmt: skip
square = _gate(
    "square", np.square, lambda x: x * x, lambda x, out: 2 * x, "0.25",
    meaning="square(x) = x²", symbol="x²", latex="{{{0:>}}}^2", text="{0:>}²", binds=40,
    numpy=(np.square,),
)  # fmt: skip
tan = _gate(
    "tan", np.tan, lambda x: ops.sin(x) / ops.cos(x), lambda x, out: 1 + out * out, "0.546302",
    meaning="tan(x) = sin(x)/cos(x)", latex=r"\tan\left({0}\right)",
    domain=((-1.5, 1.5),), numpy=(np.tan,),
)  # fmt: skip
sinh = _gate(
    "sinh", np.sinh, lambda x: (ops.exp(x) - ops.exp(-x)) / 2, lambda x, out: ops.cosh(x),
    "0.521095",
    meaning="sinh(x) = (eˣ − e⁻ˣ)/2", latex=r"\sinh\left({0}\right)", numpy=(np.sinh,),
)  # fmt: skip
cosh = _gate(
    "cosh", np.cosh, lambda x: (ops.exp(x) + ops.exp(-x)) / 2, lambda x, out: ops.sinh(x),
    "1.127626",
    meaning="cosh(x) = (eˣ + e⁻ˣ)/2", latex=r"\cosh\left({0}\right)", numpy=(np.cosh,),
)  # fmt: skip
log2 = _gate(
    "log2", np.log2, lambda x: ops.log(x) / math.log(2), lambda x, out: 1 / (x * math.log(2)),
    "-1.0",
    meaning="log2(x) = ln x / ln 2", latex=r"\log_2\left({0}\right)",
    domain=(POSITIVE,), numpy=(np.log2,),
)  # fmt: skip
log10 = _gate(
    "log10", np.log10, lambda x: ops.log(x) / math.log(10), lambda x, out: 1 / (x * math.log(10)),
    "-0.30103", meaning="log10(x) = ln x / ln 10", latex=r"\log_{{10}}\left({0}\right)",
    domain=(POSITIVE,), numpy=(np.log10,),
)  # fmt: skip


# -- transfer functions -----------------------------------------------------------------------


def _sigmoid(x: Value) -> Value:
    """With e = exp(−|x|) ≤ 1 nothing overflows on either side."""
    e = np.exp(-abs(x))
    if isinstance(x, (float, np.floating)):
        return (1.0 if x >= 0 else e) / (1.0 + e)
    return np.exp(np.minimum(x, 0)) / (1 + e)  # the numerator is 1 or e, to the bit


sigmoid = _gate(
    "sigmoid", _sigmoid,
    lambda x: ops.reciprocal(ops.exp(-x) + 1),
    # σ(1 − σ) is exactly 0 from x = 37 (float64), 17 (float32); σ(x)σ(−x) stays small instead
    lambda x, out: out * ops.sigmoid(-x), "0.622459",
    textbook=(lambda x, out: out * (1 - out),),
    meaning="sigmoid(x) = σ(x) = 1/(1 + e⁻ˣ), with σ′ = σ(1 − σ)",
    symbol="σ", latex=r"\sigma\left({0}\right)", text="σ({0})",
    source="slides, derivatives, error-and-delta",
)  # fmt: skip


def _sech2(x: Value) -> Value:
    """With e = exp(−2|x|) ≤ 1 nothing overflows, and small stays small where 1 − tanh² is 0."""
    e = np.exp(-2 * abs(x))
    return 4 * e / np.square(1 + e)


sech2 = _gate(
    "sech2", _sech2, lambda x: 1 - ops.square(ops.tanh(x)),
    lambda x, out: -2 * ops.tanh(x) * out, "0.786448",
    meaning="sech2(x) = 1/cosh²x = tanh′(x)", symbol="sech²",
    latex=r"\operatorname{{sech}}^2\left({0}\right)",
)  # fmt: skip

relu = _gate(
    "relu", lambda x: np.maximum(x, 0), lambda x: ops.where(x > 0, x, 0),
    lambda x, out: ops.greater(x, 0),
    "0.5", flow="router",
    meaning="relu(x) = max(0, x), with relu′ = 1 for x > 0, else 0",
    latex=r"\max\left(0, {0}\right)", source=SLIDES,
    kinks=(
        Kink("x = 0", "0", "a unit that gives nothing learns nothing; so PyTorch and JAX", at=0.0),
    ),
)  # fmt: skip


def _leaky_relu(x: Value, negative_slope: float = 0.01) -> Value:
    return np.where(x > 0, x, negative_slope * x)[()]


leaky_relu = _gate(
    "leaky_relu", _leaky_relu,
    lambda x, negative_slope: ops.where(x > 0, x, negative_slope * x),
    lambda x, out, negative_slope: ops.where(
        ops.greater(x, 0), out.dtype.type(1), negative_slope
    ),
    "0.5",
    meaning="leaky_relu(x, negative_slope=0.01) = x for x > 0, else negative_slope·x",
    symbol="leaky", source=SLIDES + " (0.01 on one slide, 0.1 on another)",
    kinks=(Kink("x = 0", "negative_slope", "the left-hand derivative, as in PyTorch", at=0.0),),
)  # fmt: skip


def _prelu(x: Value, alpha: Value) -> Value:
    return np.where(x > 0, x, alpha * np.minimum(x, 0))[()]


prelu = operation(
    "prelu",
    _prelu,
    definition=lambda x, alpha: ops.where(x > 0, x, alpha * x),
    local=(
        lambda x, alpha, out: ops.where(ops.greater(x, 0), 1.0, alpha),
        lambda x, alpha, out: ops.where(ops.greater(x, 0), 0.0, x),
    ),
    arity=2,
    meaning="prelu(x, alpha) = x for x > 0, else alpha·x; alpha is learned",
    symbol="prelu",
    latex=r"\operatorname{{prelu}}_{{{1}}}\left({0}\right)",
    flow="scaler",
    kinks=(Kink("x = 0", "alpha", "the left-hand derivative, as in PyTorch"),),
    domain=(REALS, (0.01, 0.9)),
    example=("float(cr.prelu(-2.0, 0.25))", "-0.5"),
    source=SLIDES + ", He et al. 2015 (max(αx, x) equals it only for α ≤ 1)",
)


def _elu(x: Value, alpha: float = 1.0) -> Value:
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))[()]


elu = _gate(
    "elu", _elu,
    lambda x, alpha: ops.where(x > 0, x, alpha * (ops.exp(ops.where(x > 0, 0, x)) - 1)),
    lambda x, out, alpha: ops.where(
        ops.greater(x, 0), 1.0, alpha * ops.exp(ops.where(ops.greater(x, 0), 0, x))
    ),
    "0.5",
    meaning="elu(x, alpha=1) = x for x > 0, else alpha·(eˣ − 1)",
    kinks=(
        Kink("x = 0", "alpha", "the left-hand derivative; no kink with alpha = 1", at=0.0),
    ),
    source=SLIDES,
)  # fmt: skip


def _softplus(x: Value) -> Value:
    """max(x, 0) + ln(1 + e^−|x|): unlike np.logaddexp, a NaN passes without a warning."""
    return np.maximum(x, 0) + np.log1p(np.exp(-abs(x)))


softplus = _gate(
    "softplus", _softplus, lambda x: ops.log(1 + ops.exp(x)),
    lambda x, out: ops.sigmoid(x), "0.974077",
    meaning="softplus(x) = ln(1 + eˣ), with softplus′ = σ",
)  # fmt: skip


def _floor_at(x: Value, low: float) -> Value:
    """x where it matters: below `low` the factor that it meets is 0, and −∞·0 must not be NaN."""
    return np.maximum(x, low)


silu = _gate(
    "silu", lambda x: _floor_at(x, -800.0) * _sigmoid(x), lambda x: x * ops.sigmoid(x),
    lambda x, out: ops.sigmoid(x) * (1 + ops.clip(x, -800.0, 800.0) * ops.sigmoid(-x)), "0.31123",
    textbook=(lambda x, out: ops.sigmoid(x) * (1 + x * (1 - ops.sigmoid(x))),),
    meaning="silu(x) = x·σ(x)", source="Elfwing et al. 2017; Ramachandran et al. 2017 (swish)",
)  # fmt: skip


def _normal_density(x: Value) -> Value:
    return ops.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)


def _normal_cdf(x: Value) -> Value:
    return 0.5 * ops.erfc(-x / math.sqrt(2))


gelu = _gate(
    "gelu", lambda x: _floor_at(x, -40.0) * (0.5 * erfc.value(-x / math.sqrt(2))),
    lambda x: x * 0.5 * (1 + ops.erf(x / math.sqrt(2))),
    lambda x, out: _normal_cdf(x) + ops.clip(x, -40.0, 40.0) * _normal_density(x), "0.345731",
    meaning="gelu(x) = x·Φ(x), Φ the normal distribution function",
    source="Hendrycks and Gimpel 2016",
)  # fmt: skip


def _softsign(x: Value) -> Value:
    if isinstance(x, (int, float)):
        x = np.float64(x)
    if x.dtype.kind != "f":
        x = x.astype(np.float64)
    largest = np.finfo(x.dtype).max / 2  # ∞/(1 + ∞) would be NaN
    bounded = np.clip(x, -largest, largest)
    return bounded / (1 + abs(bounded))


def _softsign_local(x: Value, out: Value) -> Value:
    shrink = 1 / (1 + ops.abs(x))
    return shrink * shrink


softsign = _gate(
    "softsign", _softsign, lambda x: x / (1 + ops.abs(x)), _softsign_local, "0.333333",
    meaning="softsign(x) = x/(1 + |x|)",
)  # fmt: skip


def _within(x: Value, low: Value, high: Value) -> Value:
    inside = True
    if low is not None:
        inside = ops.greater_equal(x, low)
    if high is not None:
        inside = ops.logical_and(inside, ops.less_equal(x, high))
    return ops.logical_or(inside, ops.isnan(x))


def _clip(x: Value, low: Any = None, high: Any = None) -> Value:
    return np.clip(x, low, high)


def _clip_definition(x: Value, low: Any, high: Any) -> Value:
    out = x if low is None else ops.where(x < low, low, x)
    return out if high is None else ops.where(x > high, high, out)


clip = operation(
    "clip",
    _clip,
    definition=_clip_definition,
    local=(lambda x, out, low, high: _within(x, low, high),),
    meaning="clip(x, low, high) = x kept within [low, high]; either bound may be None",
    symbol="clip",
    latex=r"\operatorname{{clip}}\left({0}\right)",
    flow="router",
    kinks=(Kink("x = low and x = high", "1", "at the bound the value still follows x"),),
    domain=(REALS,),
    numpy=(np.clip,),
    example=("float(cr.clip(3.0, -1.0, 1.0))", "1.0"),
)

hard_tanh = _gate(
    "hard_tanh", lambda x: np.clip(x, -1, 1), lambda x: ops.clip(x, -1.0, 1.0),
    lambda x, out: _within(x, -1, 1), "0.5", flow="router",
    meaning="hard_tanh(x) = x kept within [−1, 1]",
    kinks=(Kink("x = ±1", "1", "as clip: at the bound the value still follows x"),),
)  # fmt: skip

# -- rows: softmax and its relatives ----------------------------------------------------------


def _shift(x: Value, axis: Any) -> Value:
    """x minus its largest element; a row of −∞ (or holding +∞) keeps IEEE's answer."""
    largest = np.max(x, axis=axis, keepdims=True, initial=-np.inf)
    return x - np.where(np.isfinite(largest), largest, 0).astype(x.dtype), largest


def _float(x: Value) -> Value:
    x = np.asarray(x)
    return x if x.dtype.kind == "f" else x.astype(np.float64)


def _softmax(x: Value, axis: int = -1, beta: float = 1.0) -> Value:
    with np.errstate(over="ignore", invalid="ignore"):
        shifted, _ = _shift(_float(x) * beta, axis)
        e = np.exp(shifted)
        return e / np.sum(e, axis=axis, keepdims=True)


def _log_softmax(x: Value, axis: int = -1) -> Value:
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        shifted, _ = _shift(_float(x), axis)
        return shifted - np.log(np.sum(np.exp(shifted), axis=axis, keepdims=True))


def _logsumexp(x: Value, axis: Any = None, keepdims: bool = False) -> Value:
    x = _float(x)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        shifted, largest = _shift(x, axis)
        total = np.log(np.sum(np.exp(shifted), axis=axis, keepdims=True))
        out = total + np.where(np.isfinite(largest), largest, 0).astype(x.dtype)
    return out if keepdims else np.squeeze(out, axis=axis)


def _rows(shapes: Any, axis: Any, **rest: Any) -> dict[str, Any]:
    """One axis, counted from the end so that the same rule fits batches of any rank."""
    ndim = len(shapes[0])
    if not isinstance(axis, (int, np.integer)) or not -ndim <= axis < ndim:
        raise np.exceptions.AxisError(axis, ndim)
    return {"axis": int(axis) % ndim - ndim, **rest}


def _softmax_pull(v: Value, x: Value, out: Value, axis: int, beta: float) -> Value:
    """zᵢ = β·σᵢ(vᵢ − v·σ): O(N) time and memory, where the Jacobian has N² entries."""
    return beta * out * (v - ops.sum(v * out, axis=axis, keepdims=True))


softmax = operation(
    "softmax",
    _softmax,
    definition=lambda x, axis, beta: (
        ops.exp(beta * x) / ops.sum(ops.exp(beta * x), axis=axis, keepdims=True)
    ),
    pull=(_softmax_pull,),
    prepare=_rows,
    meaning="softmax(x, axis=-1, beta=1)ᵢ = exp(β·xᵢ) / Σₖ exp(β·xₖ), with Jacobian β·σᵢ(δᵢⱼ − σⱼ)",
    symbol="softmax",
    latex=r"\operatorname{{softmax}}\left({0}\right)",
    flow="mixer",
    domain=(REALS,),
    example=("cr.softmax([0.0, 0.0])", "array([0.5, 0.5])"),
    source="softmax; derivatives, whose e^(−βx) is softmax(-x, beta=β)",
)

log_softmax = operation(
    "log_softmax",
    _log_softmax,
    definition=lambda x, axis: x - ops.log(ops.sum(ops.exp(x), axis=axis, keepdims=True)),
    pull=(
        lambda v, x, out, axis: (
            v - ops.softmax(x, axis=axis) * ops.sum(v, axis=axis, keepdims=True)
        ),
    ),
    prepare=_rows,
    meaning="log_softmax(x, axis=-1)ᵢ = xᵢ − ln Σₖ exp(xₖ), with Jacobian δᵢⱼ − σⱼ",
    symbol="log softmax",
    latex=r"\ln\operatorname{{softmax}}\left({0}\right)",
    flow="mixer",
    domain=(REALS,),
    example=("round(float(cr.log_softmax([0.0, 0.0])[0]), 6)", "-0.693147"),
    source="softmax, part (d)",
)


def _axes(shapes: Any, axis: Any, **rest: Any) -> dict[str, Any]:
    return {"axis": canonical_axes(axis, len(shapes[0])), **rest}


def _logsumexp_pull(v: Value, x: Value, out: Value, axis: Any, keepdims: bool) -> Value:
    if not keepdims:
        v, out = ops.expand_dims(v, axis), ops.expand_dims(out, axis)
    # exp(x − out) alone has out's rounding as its relative error: 2 for 1 at x = 1e17. Divided by
    # its sum it is softmax to the last digit, whatever the shift: so that counts as a constant.
    e = ops.exp(x - ops.stop_gradient(out))
    return v * (e / ops.sum(e, axis=axis, keepdims=True))


logsumexp = operation(
    "logsumexp",
    _logsumexp,
    definition=lambda x, axis, keepdims: ops.log(ops.sum(ops.exp(x), axis=axis, keepdims=keepdims)),
    pull=(_logsumexp_pull,),
    prepare=_axes,
    meaning="logsumexp(x, axis=None, keepdims=False) = ln Σₖ exp(xₖ), with gradient softmax(x)",
    symbol="logsumexp",
    latex=r"\ln \sum e^{{{0}}}",
    flow="mixer",
    domain=(REALS,),
    example=("round(float(cr.logsumexp([1000.0, 1000.0])), 6)", "1000.693147"),
    source="softmax, part (d)",
)
