"""What every pointwise operation means in native code: its record's value, as scalar expressions.

Each form here says in `Builder`'s words what the record's `value` says in NumPy's, with the same
choices at kinks, NaN, infinities and signed zeros. Tests hold the two equal.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..ops.neural import _GOLDEN
from .expression import Builder, Expr, Unsupported

__all__ = ["PUBLIC", "keep_bits", "lower"]

DType = np.dtype[Any]
BOOLEAN, FLOAT64 = np.dtype(np.bool_), np.dtype(np.float64)
Params = Mapping[str, Any]


def lower(
    b: Builder,
    op: str,
    args: Sequence[Expr],
    params: Params,
    dtype: Any,
    *,
    weak: Sequence[bool] = (),
) -> Expr:
    """`op` of `args`, as the record's value computes it: a number of `dtype`, the traced result's.

    The operands come with their own dtypes and are promoted as NumPy promotes them; `weak` says
    which of them are Python numbers, which take the others' dtype. Raises `Unsupported` where the
    operation or the dtypes have no native form.
    """
    dtype = np.dtype(dtype)
    weak = [*weak, *[False] * (len(args) - len(weak))]
    if op in _COMPARISONS:
        x, y = _promoted(b, args, weak)
        return _compare(b, _COMPARISONS[op], x, y)
    if op in _LOGICAL:
        return _LOGICAL[op](b, *[b.cast(x, BOOLEAN) for x in args])
    if op == "where":
        condition, x, y = args
        return b.select(b.cast(condition, BOOLEAN), b.cast(x, dtype), b.cast(y, dtype))
    if op in _TESTS:
        return _TESTS[op](b, args[0])
    if op in _WITH_PARAMS:
        return b.cast(_WITH_PARAMS[op](b, args[0], params, dtype), dtype)
    if op in _PLAIN:
        return _PLAIN[op](b, *[b.cast(x, dtype) for x in args])
    raise Unsupported(op, "it is not a pointwise operation with a native form")


# -- comparisons ------------------------------------------------------------------------------

_COMPARISONS = {
    "less": "lt",
    "less_equal": "le",
    "greater": "gt",
    "greater_equal": "ge",
    "equal": "eq",
    "not_equal": "ne",
}


def _promoted(b: Builder, args: Sequence[Expr], weak: Sequence[bool]) -> list[Expr]:
    """Two operands in the dtype in which NumPy compares them; 64-bit integers stay as they are."""
    python = [x.dtype.type(0).item() if w else x.dtype for x, w in zip(args, weak, strict=True)]
    common = np.result_type(*python)
    for x, is_weak in zip(args, weak, strict=True):
        if is_weak and x.is_const and common.kind in "iu" and not _within(x.payload, common):
            # a Python integer that the other's dtype cannot hold is compared as what it is
            common = np.result_type(*[x.dtype for x in args])
    if common.kind == "f" and all(x.dtype.kind in "iu" for x in args):
        return list(args)  # int64 with uint64, which NumPy compares exactly
    return [b.cast(x, common) for x in args]


def _within(value: Any, dtype: DType) -> bool:
    limits = np.iinfo(dtype)
    return limits.min <= int(value) <= limits.max


def _compare(b: Builder, op: str, x: Expr, y: Expr) -> Expr:
    """x op y; where one is signed and the other not, a negative number is less than every other."""
    if x.dtype == y.dtype:
        return getattr(b, op)(x, y)  # type: ignore[no-any-return]
    if x.dtype.kind == "u":
        return _compare(b, {"lt": "gt", "le": "ge", "gt": "lt", "ge": "le"}.get(op, op), y, x)
    negative = b.lt(x, b.const(0, x.dtype))
    return b.select(
        negative,
        b.const(op in ("lt", "le", "ne"), BOOLEAN),
        getattr(b, op)(b.cast(x, np.uint64), b.cast(y, np.uint64)),
    )


_LOGICAL: Mapping[str, Callable[..., Expr]] = {
    "logical_and": Builder.and_,
    "logical_or": Builder.or_,
    "logical_not": Builder.not_,
}
_TESTS: Mapping[str, Callable[[Builder, Expr], Expr]] = {
    "isnan": Builder.isnan,
    "isfinite": Builder.isfinite,
}

# -- arithmetic -------------------------------------------------------------------------------


def _power(b: Builder, x: Expr, y: Expr) -> Expr:
    """As NumPy's `**`: exponents 0, ½, 1, 2 and −1 are no powers, and integers are multiplied.

    Small whole exponents are products too, for a power costs twenty times as much.
    """
    if x.dtype.kind == "f":
        exponent = float(y.payload) if y.is_const else math.nan
        if exponent in (0.0, 1.0, 2.0, 3.0, 4.0):
            return _product(b, x, int(exponent))
        if exponent == 0.5:
            return b.sqrt(x)
        return _reciprocal(b, x) if exponent == -1.0 else b.power(x, y)
    if not y.is_const or y.payload < 0:
        raise Unsupported("power", "integers need an exponent that is constant and at least 0")
    return _product(b, x, int(y.payload))


def _product(b: Builder, x: Expr, count: int) -> Expr:
    """x·x·…, `count` times, by squaring; 1 for none."""
    out = b.const(1, x.dtype)
    while count:
        if count & 1:
            out = b.mul(out, x)
        if count := count >> 1:
            x = b.mul(x, x)
    return out


def _sign(b: Builder, x: Expr) -> Expr:
    """−1, +0 or 1; NaN of NaN."""
    zero, one = b.const(0, x.dtype), b.const(1, x.dtype)
    if x.dtype.kind == "u":
        return b.select(b.gt(x, zero), one, zero)
    below = b.select(b.lt(x, zero), b.const(-1, x.dtype), b.select(b.eq(x, zero), zero, x))
    return b.select(b.gt(x, zero), one, below)


def _same(b: Builder, x: Expr) -> Expr:
    return x


def _square(b: Builder, x: Expr) -> Expr:
    return b.mul(x, x)


def _reciprocal(b: Builder, x: Expr) -> Expr:
    return b.div(b.const(1, x.dtype), x)


# -- transfer functions -----------------------------------------------------------------------


def _falling(b: Builder, x: Expr) -> Expr:
    """e^−|x| ≤ 1: one expression for x and −x, which sigmoid and softplus share."""
    return b.exp(b.neg(b.abs(x)))


def _sigmoid(b: Builder, x: Expr) -> Expr:
    """With e = e^−|x|: 1/(1 + e) for x ≥ 0, else e/(1 + e); σ(−x) is made of the same two."""
    e, one = _falling(b, x), b.const(1, x.dtype)
    upper = b.div(one, b.add(e, one))
    return b.select(b.ge(x, b.const(0, x.dtype)), upper, b.mul(e, upper))


def _sech2(b: Builder, x: Expr) -> Expr:
    """4e/(1 + e)² with e = e^−2|x|."""
    e = b.exp(b.mul(b.const(-2, x.dtype), b.abs(x)))
    return b.div(b.mul(b.const(4, x.dtype), e), _square(b, b.add(e, b.const(1, x.dtype))))


def _relu(b: Builder, x: Expr) -> Expr:
    return b.maximum(x, b.const(0, x.dtype))


def _softplus(b: Builder, x: Expr) -> Expr:
    return b.add(_relu(b, x), b.log1p(_falling(b, x)))


def _silu(b: Builder, x: Expr) -> Expr:
    return b.mul(b.maximum(x, b.const(-800, x.dtype)), _sigmoid(b, x))


def _gelu(b: Builder, x: Expr) -> Expr:
    scaled = b.div(b.neg(x), b.const(math.sqrt(2), x.dtype))
    half = b.mul(b.const(0.5, x.dtype), b.erfc(scaled))
    return b.mul(b.maximum(x, b.const(-40, x.dtype)), half)


def _softsign(b: Builder, x: Expr) -> Expr:
    largest = b.const(np.finfo(x.dtype).max / 2, x.dtype)
    bounded = b.minimum(b.maximum(x, b.neg(largest)), largest)
    return b.div(bounded, b.add(b.const(1, x.dtype), b.abs(bounded)))


def _prelu(b: Builder, x: Expr, alpha: Expr) -> Expr:
    zero = b.const(0, x.dtype)
    return b.select(b.gt(x, zero), x, b.mul(alpha, b.minimum(x, zero)))


# -- with parameters --------------------------------------------------------------------------


def _number(op: str, name: str, params: Params) -> Any:
    """A parameter that must be one number."""
    value = params[name]
    if np.ndim(value):
        raise Unsupported(op, f"{name} of shape {np.shape(value)}; only a number has a native form")
    return value


def _leaky_relu(b: Builder, x: Expr, params: Params, dtype: DType) -> Expr:
    x = b.cast(x, dtype)
    slope = b.const(_number("leaky_relu", "negative_slope", params), dtype)
    return b.select(b.gt(x, b.const(0, dtype)), x, b.mul(slope, x))


def _elu(b: Builder, x: Expr, params: Params, dtype: DType) -> Expr:
    x = x if x.dtype.kind == "f" else b.cast(x, dtype)
    zero = b.const(0, x.dtype)
    grown = b.cast(b.expm1(b.minimum(x, zero)), dtype)  # alpha may be wider than x
    scaled = b.mul(b.const(_number("elu", "alpha", params), dtype), grown)
    return b.select(b.gt(x, zero), b.cast(x, dtype), scaled)


def _clip(b: Builder, x: Expr, params: Params, dtype: DType) -> Expr:
    """A Python integer that the dtype cannot hold bounds nothing, or everything."""
    x = b.cast(x, dtype)
    for name, bound in (("low", b.maximum), ("high", b.minimum)):
        if (value := _number("clip", name, params)) is None:
            continue
        if dtype.kind in "iu" and not _within(value, dtype):
            limits = np.iinfo(dtype)
            value = min(max(int(value), limits.min), limits.max)
        x = bound(x, b.const(value, dtype))
    return x


def _hard_tanh(b: Builder, x: Expr, params: Params, dtype: DType) -> Expr:
    return _clip(b, x, {"low": -1, "high": 1}, dtype)


def _astype(b: Builder, x: Expr, params: Params, dtype: DType) -> Expr:
    return b.cast(x, dtype)


_WITH_PARAMS: Mapping[str, Callable[[Builder, Expr, Params, DType], Expr]] = {
    "leaky_relu": _leaky_relu,
    "elu": _elu,
    "clip": _clip,
    "hard_tanh": _hard_tanh,
    "astype": _astype,
}
_PLAIN: Mapping[str, Callable[..., Expr]] = {
    "add": Builder.add,
    "subtract": Builder.sub,
    "multiply": Builder.mul,
    "divide": Builder.div,
    "negative": Builder.neg,
    "power": _power,
    "maximum": Builder.maximum,
    "minimum": Builder.minimum,
    "abs": Builder.abs,
    "sign": _sign,
    "floor": Builder.floor,
    "identity": _same,
    "stop_gradient": _same,
    "exp": Builder.exp,
    "expm1": Builder.expm1,
    "log": Builder.log,
    "log1p": Builder.log1p,
    "log2": Builder.log2,
    "log10": Builder.log10,
    "sqrt": Builder.sqrt,
    "sin": Builder.sin,
    "cos": Builder.cos,
    "tan": Builder.tan,
    "arcsin": Builder.arcsin,
    "arccos": Builder.arccos,
    "arctan": Builder.arctan,
    "tanh": Builder.tanh,
    "sinh": Builder.sinh,
    "cosh": Builder.cosh,
    "erf": Builder.erf,
    "erfc": Builder.erfc,
    "reciprocal": _reciprocal,
    "square": _square,
    "sigmoid": _sigmoid,
    "sech2": _sech2,
    "relu": _relu,
    "prelu": _prelu,
    "softplus": _softplus,
    "silu": _silu,
    "gelu": _gelu,
    "softsign": _softsign,
}

PUBLIC = frozenset({"where", *_COMPARISONS, *_LOGICAL, *_TESTS, *_WITH_PARAMS, *_PLAIN})

# -- random bits ------------------------------------------------------------------------------


def keep_bits(b: Builder, key: Expr, index: Expr, rate: float) -> Expr:
    """Whether element `index` (from 0) is kept under this key: `ops.keep`'s bits."""

    def word(value: int) -> Expr:
        return b.const(np.uint64(value), np.uint64)

    def mixed(z: Expr, places: int, factor: int) -> Expr:
        return b.mul(b.xor(z, b.shr(z, word(places))), word(factor))

    place = b.add(b.cast(index, np.uint64), word(1))
    z = b.add(b.mul(place, word(_GOLDEN)), b.cast(key, np.uint64))
    z = mixed(z, 30, 0xBF58476D1CE4E5B9)
    z = mixed(z, 27, 0x94D049BB133111EB)
    z = b.xor(z, b.shr(z, word(31)))
    top = b.cast(b.shr(z, word(32)), np.int64)  # 32 bits: signed comparison, which machines have
    return b.ge(top, b.const(round(rate * 2**32), np.int64))
