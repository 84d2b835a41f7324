"""exp, log, tanh, erf, sin … as LLVM instructions on whole vectors, in float32 and float64.

Every function here is `f(fn, x)`: it writes instructions into `fn` and returns f(x), lane by lane,
for float or double and any number of lanes, 0 for a scalar. exp, log and sqrt are within 2 ulp of
the true value and the others within 4, over the whole range: denormal arguments and results, ±0
(whose sign is kept), ±∞, and NaN for NaN. Without a fused multiply-add the same bounds hold, as
the constants that must multiply exactly have few enough bits.

Nothing calls the C library but sin, cos and tan of |x| > 1e5 and float64 `power`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from .emit import BOOL, F32, F64, Function, Value
from .fits import DOUBLE, HALF_PI, SINGLE, TRIG_LIMIT, Format

__all__ = ["CHEAP", "FUNCTIONS", "call"]


# -- shared steps -----------------------------------------------------------------------------


def _format(x: Value) -> Format:
    return SINGLE if x.type.base == "float" else DOUBLE


def _magic(form: Format) -> float:
    """1.5·2^fraction: added to a small number it rounds it to a whole one, kept in the low bits."""
    return 1.5 * 2.0**form.fraction


def _polynomial(fn: Function, x: Value, coefficients: Sequence[float]) -> Value:
    """c[0] + c[1]·x + …, by Estrin's scheme: a chain of log₂ n steps instead of n."""
    terms = [fn.const(c, x.type) for c in coefficients]
    power = x
    while len(terms) > 1:
        paired = [
            fn.fma(terms[k + 1], power, terms[k]) if k + 1 < len(terms) else terms[k]
            for k in range(0, len(terms), 2)
        ]
        terms = paired
        if len(terms) > 1:
            power = fn.mul(power, power)
    return terms[0]


def _absolute(fn: Function, x: Value) -> Value:
    return fn.intrinsic("fabs", x)


def _with_sign(fn: Function, size: Value, sign: Value) -> Value:
    return fn.intrinsic("copysign", size, sign)


def _at_most(fn: Function, x: Value, bound: float) -> Value:
    """min(x, bound), NaN for NaN."""
    limit = fn.const(bound, x.type)
    return fn.select(fn.compare("ogt", x, limit), limit, x)


def _at_least(fn: Function, x: Value, bound: float) -> Value:
    """max(x, bound), NaN for NaN."""
    limit = fn.const(bound, x.type)
    return fn.select(fn.compare("olt", x, limit), limit, x)


def _is_positive(fn: Function, x: Value) -> Value:
    return fn.compare("ogt", x, fn.const(0.0, x.type))


# -- the exponential and its kin --------------------------------------------------------------


def _halvings(fn: Function, x: Value) -> tuple[Value, Value]:
    """x = n·ln 2 + r with |r| ≤ ln2/2: r, and an integer whose low bits hold n + 2·bias."""
    form = _format(x)
    magic = fn.const(_magic(form) + 2 * form.bias, x.type)
    shifted = fn.fma(x, fn.const(1 / math.log(2), x.type), magic)
    n = fn.sub(shifted, magic)
    r = fn.fma(n, fn.const(-form.ln2[0], x.type), x)
    return fn.fma(n, fn.const(-form.ln2[1], x.type), r), fn.bits(shifted)


def _scales(fn: Function, n: Value, x: Value) -> tuple[Value, Value]:
    """2^⌊n/2⌋ and 2^⌈n/2⌉: 2ⁿ itself may be out of range where its product is not.

    They must be multiplied as floats: adding n to exponent bits breaks NaN and denormals.
    """
    half = fn.binary("lshr", n, fn.const(1, n.type))
    place = fn.const(_format(x).fraction, n.type)
    low, high = (
        fn.convert("bitcast", fn.binary("shl", part, place), x.type)
        for part in (half, fn.sub(n, half))
    )
    return low, high


def _scaled(fn: Function, x: Value, scales: Sequence[Value]) -> Value:
    for scale in scales:
        x = fn.mul(x, scale)
    return x


def _exp_parts(fn: Function, x: Value, *, sign: int = 0) -> tuple[Value, tuple[Value, Value]]:
    """eˣ = eʳ·a·b: r and the scales a, b. `sign` says that x is never of the other one."""
    limit = _format(x).exp_limit
    if sign <= 0:
        x = _at_least(fn, x, -limit)
    if sign >= 0:
        x = _at_most(fn, x, limit)
    r, n = _halvings(fn, x)
    return r, _scales(fn, n, x)


def _expm1(fn: Function, r: Value, fits: Format | None = None) -> Value:
    """eʳ − 1 for |r| ≤ ln2/2; `fits` of another format, where its precision is enough."""
    series = _polynomial(fn, r, (fits or _format(r)).exp)
    return fn.fma(fn.mul(r, r), series, r)


def _near_one(fn: Function, r: Value, fits: Format | None = None) -> Value:
    """eʳ for |r| ≤ ln2/2: 1 + r before the polynomial is there, half an ulp for a shorter chain."""
    series = _polynomial(fn, r, (fits or _format(r)).exp)
    return fn.fma(fn.mul(r, r), series, fn.add(r, fn.const(1.0, r.type)))


def _exp(fn: Function, x: Value, *, sign: int = 0) -> Value:
    r, scales = _exp_parts(fn, x, sign=sign)
    return _scaled(fn, _near_one(fn, r), scales)


def exp(fn: Function, x: Value) -> Value:
    """eˣ."""
    return _exp(fn, x)


def expm1(fn: Function, x: Value) -> Value:
    """eˣ − 1 = 2ⁿ·(eʳ − 1) + (2ⁿ − 1), which is as exact near 0 as far from it."""
    form = _format(x)
    r, (low, high) = _exp_parts(fn, x)
    bits = fn.bits(high)
    inverse = fn.sub(fn.const(2 * form.bias << form.fraction, bits.type), bits)
    less = fn.sub(low, fn.convert("bitcast", inverse, x.type))
    return _with_sign(fn, fn.mul(fn.fma(_expm1(fn, r), low, less), high), x)


def sigmoid(fn: Function, x: Value) -> Value:
    """1/(1 + e⁻ˣ), as e/(1 + e) with e = exp(−|x|) for negative x: it underflows as eˣ does."""
    e = _exp(fn, fn.neg(_absolute(fn, x)), sign=-1)
    one = fn.const(1.0, x.type)
    return fn.div(fn.select(_is_positive(fn, x), one, e), fn.add(one, e))


def tanh(fn: Function, x: Value) -> Value:
    """m/(m + 2) with m = exp(2|x|) − 1, with the sign of x."""
    form = _format(x)
    size = _absolute(fn, x)
    r, n = _halvings(fn, _at_most(fn, fn.add(size, size), form.tanh_limit))
    biased = fn.sub(n, fn.const(form.bias, n.type))
    scale = fn.binary("shl", biased, fn.const(form.fraction, n.type))
    scale = fn.convert("bitcast", scale, x.type)
    m = fn.fma(_expm1(fn, r), scale, fn.sub(scale, fn.const(1.0, x.type)))
    return _with_sign(fn, fn.div(m, fn.add(m, fn.const(2.0, x.type))), x)


def sech2(fn: Function, x: Value) -> Value:
    """1/cosh² x = 4e/(1 + e)² with e = exp(−2|x|), tanh's derivative; scaled last, to underflow."""
    size = _absolute(fn, x)
    r, scales = _exp_parts(fn, fn.neg(fn.add(size, size)), sign=-1)
    one = fn.const(1.0, x.type)
    near_one = fn.add(_expm1(fn, r), one)
    e = _scaled(fn, near_one, scales)
    square = fn.fma(e, fn.add(e, fn.const(2.0, x.type)), one)
    quotient = fn.div(fn.mul(near_one, fn.const(4.0, x.type)), square)
    return _scaled(fn, quotient, scales)


def sinh(fn: Function, x: Value) -> Value:
    """h − 1/(4h) with h = exp(|x|)/2; x + x³·P(x²) where that would cancel."""
    size = _absolute(fn, x)
    h = _half_exp(fn, size)
    far = fn.sub(h, fn.div(fn.const(0.25, x.type), h))
    z = fn.mul(size, size)
    near = fn.fma(fn.mul(size, z), _polynomial(fn, z, _format(x).sinh), size)
    is_near = fn.compare("olt", size, fn.const(1.0, x.type))
    return _with_sign(fn, fn.select(is_near, near, far), x)


def cosh(fn: Function, x: Value) -> Value:
    """h + 1/(4h) with h = exp(|x|)/2."""
    h = _half_exp(fn, _absolute(fn, x))
    return fn.add(h, fn.div(fn.const(0.25, x.type), h))


def _half_exp(fn: Function, x: Value) -> Value:
    """eˣ/2 for x ≥ 0, also where eˣ overflows and its half does not."""
    r, scales = _exp_parts(fn, x, sign=1)
    return _scaled(fn, fn.mul(_near_one(fn, r), fn.const(0.5, x.type)), scales)


# -- logarithms -------------------------------------------------------------------------------


def _significand(fn: Function, x: Value) -> tuple[Value, Value]:
    """x = m·2ᵉ: m − 1 with m in [log_start, 2·log_start), and e + bias as an integer."""
    form = _format(x)
    kind, bits = x.type.as_int, fn.bits(x)
    start = fn.bits(fn.const(form.log_start, x.type))
    one = fn.const(form.bias << form.fraction, kind)
    raised = fn.add(bits, fn.sub(one, start))
    exponent = fn.binary("lshr", raised, fn.const(form.fraction, kind))
    inside = fn.binary("and", raised, fn.const((1 << form.fraction) - 1, kind))
    m = fn.convert("bitcast", fn.add(inside, start), x.type)
    return fn.sub(m, fn.const(1.0, x.type)), exponent


def _as_float(fn: Function, whole: Value, less: Value, like: Value) -> Value:
    """A small whole number as a float, minus `less`: or-ed into the low bits of a large one."""
    form = _format(like)
    large = fn.bits(fn.const(2.0**form.fraction, like.type))
    joined = fn.convert("bitcast", fn.binary("or", whole, large), like.type)
    return fn.sub(joined, less)


def _exponent_offset(form: Format) -> float:
    return 2.0**form.fraction + form.bias


def _log_tail(fn: Function, f: Value) -> Value:
    """log(1 + f) − f for 1 + f in [log_start, 2·log_start)."""
    form = _format(f)
    minus_half = fn.const(-0.5, f.type)
    square = fn.mul(f, f)
    if form is SINGLE:
        return fn.mul(square, fn.fma(f, _polynomial(fn, f, form.log), minus_half))
    s = fn.div(f, fn.add(f, fn.const(2.0, f.type)))
    z = fn.mul(s, s)
    half_square = fn.mul(square, fn.const(0.5, f.type))
    series = fn.fma(z, _polynomial(fn, z, form.log), half_square)
    return fn.fma(s, series, fn.neg(half_square))


def _log_parts(fn: Function, x: Value) -> tuple[Value, Value]:
    """x = (1 + f)·2ᵉ for positive x, denormal too: e, as a float, and f."""
    form = _format(x)
    smallest = 2.0 ** (1 - form.bias)
    tiny = fn.compare("olt", x, fn.const(smallest, x.type))
    up = form.fraction + 1
    larger = fn.mul(x, fn.const(2.0**up, x.type))
    f, exponent = _significand(fn, fn.select(tiny, larger, x))
    offset = _exponent_offset(form)
    less = fn.select(tiny, fn.const(offset + up, x.type), fn.const(offset, x.type))
    return _as_float(fn, exponent, less, x), f


def _log_ends(fn: Function, x: Value, inside: Value) -> Value:
    """`inside` for 0 < x < ∞; −∞ at 0, ∞ at ∞, NaN below 0 and for NaN."""
    zero, infinity = fn.const(0.0, x.type), fn.const(math.inf, x.type)
    result = fn.select(fn.compare("olt", x, infinity), inside, x)
    below = fn.select(
        fn.compare("oeq", x, zero), fn.const(-math.inf, x.type), fn.const(math.nan, x.type)
    )
    return fn.select(fn.compare("ole", x, zero), below, result)


def _log_sum(fn: Function, e: Value, f: Value) -> Value:
    """e·ln 2 + log(1 + f), the smaller parts first."""
    high, low = (fn.const(part, f.type) for part in _format(f).ln2)
    return fn.fma(e, high, fn.add(f, fn.fma(e, low, _log_tail(fn, f))))


def log(fn: Function, x: Value) -> Value:
    """ln x."""
    return _log_ends(fn, x, _log_sum(fn, *_log_parts(fn, x)))


def log2(fn: Function, x: Value) -> Value:
    """log₂ x, exact at powers of two."""
    e, f = _log_parts(fn, x)
    one_plus = fn.add(f, _log_tail(fn, f))
    return _log_ends(fn, x, fn.fma(one_plus, fn.const(1 / math.log(2), x.type), e))


def log10(fn: Function, x: Value) -> Value:
    """log₁₀ x."""
    e, f = _log_parts(fn, x)
    one_plus = fn.add(f, _log_tail(fn, f))
    high, low = (fn.const(part, x.type) for part in _format(x).log10_2)
    rest = fn.fma(one_plus, fn.const(1 / math.log(10), x.type), fn.mul(e, low))
    return _log_ends(fn, x, fn.fma(e, high, rest))


def _log1p(fn: Function, x: Value, total: Value) -> Value:
    """log(1 + x) for finite x > −1, given 1 + x rounded: what the sum lost is added to f."""
    form = _format(x)
    one = fn.const(1.0, x.type)
    of_x = fn.sub(total, one)
    lost = fn.add(fn.sub(one, fn.sub(total, of_x)), fn.sub(x, of_x))
    f, exponent = _significand(fn, total)
    # 2⁻ᵉ is 0 rather than out of range for the largest x, where what was lost is nothing.
    biased = fn.sub(fn.const(2 * form.bias, exponent.type), exponent)
    biased = fn.intrinsic("smax", biased, fn.const(0, exponent.type))
    scale = fn.binary("shl", biased, fn.const(form.fraction, exponent.type))
    f = fn.fma(lost, fn.convert("bitcast", scale, x.type), f)
    less = fn.const(_exponent_offset(form), x.type)
    return _log_sum(fn, _as_float(fn, exponent, less, x), f)


def log1p(fn: Function, x: Value) -> Value:
    """log(1 + x), exact near 0."""
    total = fn.add(x, fn.const(1.0, x.type))
    return _with_sign(fn, _log_ends(fn, total, _log1p(fn, x, total)), x)


def softplus(fn: Function, x: Value) -> Value:
    """log(1 + eˣ) = max(x, 0) + log1p(exp(−|x|))."""
    e = _exp(fn, fn.neg(_absolute(fn, x)), sign=-1)
    total = fn.add(e, fn.const(1.0, x.type))
    positive = fn.select(_is_positive(fn, x), x, fn.const(0.0, x.type))
    return fn.add(positive, _log1p(fn, e, total))


# -- the error function -----------------------------------------------------------------------


def _square(fn: Function, x: Value) -> tuple[Value, Value]:
    """x² as a rounded square and what its rounding lost."""
    if fn.target.kind.fma:
        square = fn.mul(x, x)
        return square, fn.fma(x, x, fn.neg(square))
    kind = x.type.as_int
    kept = fn.binary("and", fn.bits(x), fn.const(_format(x).square_mask, kind))
    front = fn.convert("bitcast", kept, x.type)
    exact = fn.mul(front, front)
    rest = fn.mul(fn.sub(x, front), fn.add(x, front))
    square = fn.add(exact, rest)
    return square, fn.sub(rest, fn.sub(square, exact))


def _erfc(fn: Function, size: Value, fits: Format) -> Value:
    """erfc of x ≥ ¾ as exp(−x²)·Q(t)/(1 + 2x), scaled last, so that it underflows smoothly."""
    x = _at_most(fn, size, fits.erfc_limit)
    one, centre = fn.const(1.0, x.type), fn.const(fits.erfc_centre, x.type)
    t = fn.div(fn.sub(x, centre), fn.add(x, centre))
    double = fn.add(x, x)
    below = fn.add(double, one)
    # The constant term comes last: every step of Estrin's scheme would round it.
    series = fn.fma(t, _polynomial(fn, t, fits.erfc[1:]), fn.const(fits.erfc[0], x.type))
    quotient = fn.div(series, below)
    square, lost = _square(fn, x)
    r, scales = _exp_parts(fn, fn.neg(square), sign=-1)
    m = _expm1(fn, fn.sub(r, lost), fits)
    # What 1 + 2x lost in rounding goes with the small part of the exponential.
    missing = fn.div(fn.sub(double, fn.sub(below, one)), below)
    return _scaled(fn, fn.fma(quotient, fn.sub(m, missing), quotient), scales)


def erfc(fn: Function, x: Value) -> Value:
    """1 − erf x = 2/√π · ∫ₓ^∞ exp(−t²) dt, without cancellation."""
    if (fits := _format(x)) is SINGLE:
        # The errors of seven roundings add up here: float64 with float32's short polynomials.
        x = fn.convert("fpext", x, F64.of(x.type.lanes))
    size = _absolute(fn, x)
    one = fn.const(1.0, x.type)
    is_near = fn.compare("olt", size, fn.const(0.75, x.type))
    right = fn.select(is_near, fn.sub(one, _erf_near(fn, size, fits)), _erfc(fn, size, fits))
    left = fn.sub(fn.const(2.0, x.type), right)
    negative = fn.compare("olt", x, fn.const(0.0, x.type))
    result = fn.select(negative, left, right)
    return fn.convert("fptrunc", result, F32.of(x.type.lanes)) if fits is SINGLE else result


def _erf_near(fn: Function, x: Value, fits: Format) -> Value:
    """erf x = x + x·P(x²) for |x| ≤ 1."""
    return fn.fma(x, _polynomial(fn, fn.mul(x, x), fits.erf), x)


def erf(fn: Function, x: Value) -> Value:
    """2/√π · ∫₀ˣ exp(−t²) dt: a polynomial below 1, else 1 − erfc."""
    size = _absolute(fn, x)
    one = fn.const(1.0, x.type)
    far = fn.sub(one, _erfc(fn, size, _format(x)))
    near = fn.compare("olt", size, one)
    return _with_sign(fn, fn.select(near, _erf_near(fn, size, _format(x)), far), x)


# -- trigonometry -----------------------------------------------------------------------------


def _quarter_turns(fn: Function, x: Value) -> tuple[Value, Value]:
    """x = n·π/2 + r with |r| ≤ π/4: r, and an integer whose low bits are those of n.

    float32 is reduced in float64, where two parts of π/2 are enough for |x| ≤ 1e5.
    """
    single = _format(x) is SINGLE
    wide = fn.convert("fpext", x, F64.of(x.type.lanes)) if single else x
    magic = fn.const(_magic(DOUBLE), wide.type)
    shifted = fn.fma(wide, fn.const(2 / math.pi, wide.type), magic)
    n = fn.sub(shifted, magic)
    r = fn.fma(n, fn.const(-HALF_PI[0], wide.type), wide)
    if single:
        r = fn.fma(n, fn.const(-(HALF_PI[1] + HALF_PI[2]), wide.type), r)
        whole = fn.convert("fptrunc", n, x.type)
        moved = fn.add(whole, fn.const(_magic(SINGLE), x.type))
        return fn.convert("fptrunc", r, x.type), fn.bits(moved)
    # The second part is exact too, but its difference is not: what that loses is kept.
    second = fn.mul(n, fn.const(HALF_PI[1], wide.type))
    near = fn.sub(r, second)
    of_r = fn.add(near, second)
    lost = fn.sub(fn.sub(r, of_r), fn.sub(second, fn.sub(of_r, near)))
    third = fn.fma(n, fn.const(-HALF_PI[2], wide.type), lost)
    rest = fn.fma(n, fn.const(-HALF_PI[3], wide.type), third)
    return fn.add(near, rest), fn.bits(shifted)


def _circular(name: str) -> Callable[[Function, Value], Value]:
    """sin, cos or tan of |x| ≤ 1e5 here; where any lane is larger, the C library for those."""

    def circular(fn: Function, x: Value) -> Value:
        zero = fn.const(0.0, x.type)
        large = fn.compare("ogt", _absolute(fn, x), fn.const(TRIG_LIMIT, x.type))
        r, n = _quarter_turns(fn, fn.select(large, zero, x))
        form, whole = _format(x), n.type
        z = fn.mul(r, r)
        sine = fn.fma(fn.mul(r, z), _polynomial(fn, z, form.sin), r)
        bent = fn.fma(z, _polynomial(fn, z, form.cos), fn.const(-0.5, x.type))
        cosine = fn.fma(z, bent, fn.const(1.0, x.type))
        odd = fn.compare("ne", fn.binary("and", n, fn.const(1, whole)), fn.const(0, whole))
        if name == "cos":
            size = fn.select(odd, sine, cosine)
            n = fn.add(n, fn.const(1, whole))
        else:
            size = fn.select(odd, cosine, sine)
        if name == "tan":
            size = fn.div(size, fn.select(odd, sine, cosine))
            n = fn.add(n, n)
        # Bit 1 of n says the sign: moved to the sign's place and changed there.
        two = fn.binary("and", n, fn.const(2, whole))
        sign = fn.binary("shl", two, fn.const(x.type.bits - 2, whole))
        inside = fn.convert("bitcast", fn.binary("xor", fn.bits(size), sign), x.type)
        if name != "cos":
            inside = fn.select(fn.compare("oeq", x, zero), x, inside)
        return _or_library(fn, name, x, large, inside)

    circular.__name__ = circular.__qualname__ = name
    return circular


def _or_library(fn: Function, name: str, x: Value, large: Value, inside: Value) -> Value:
    """`inside`, but the C library's result in the lanes that are `large`, if there are any."""
    some = fn.intrinsic("vector.reduce.or", large, kind=BOOL) if x.type.lanes else large
    before = fn.block
    with fn.when(some):
        outside = fn.select(large, fn.intrinsic(name, x), inside)
        after = fn.block
    return fn.new(f"phi {x.type} [{inside.text}, %{before}], [{outside.text}, %{after}]", x.type)


def _half_range(fn: Function, size: Value) -> tuple[Value, Value]:
    """arcsin s for s = √((1 − size)/2) where size > ½, else for s = size; and which it is."""
    half = fn.const(0.5, size.type)
    big = fn.compare("ogt", size, half)
    over = fn.mul(fn.sub(fn.const(1.0, size.type), size), half)
    z = fn.select(big, over, fn.mul(size, size))
    s = fn.select(big, fn.intrinsic("sqrt", z), size)
    return fn.fma(fn.mul(s, z), _polynomial(fn, z, _format(size).arcsin), s), big


def arcsin(fn: Function, x: Value) -> Value:
    """arcsin x; above ½ as π/2 − 2·arcsin √((1 − |x|)/2). NaN outside [−1, 1]."""
    near, big = _half_range(fn, _absolute(fn, x))
    high, low = (fn.const(part, x.type) for part in _format(x).half_pi)
    far = fn.add(high, fn.fma(near, fn.const(-2.0, x.type), low))
    return _with_sign(fn, fn.select(big, far, near), x)


def arccos(fn: Function, x: Value) -> Value:
    """arccos x; beyond ½ as 2·arcsin √((1 − |x|)/2), or π less that. NaN outside [−1, 1]."""
    near, big = _half_range(fn, _absolute(fn, x))
    high, low = (fn.const(part, x.type) for part in _format(x).half_pi)
    middle = fn.add(high, fn.sub(low, _with_sign(fn, near, x)))
    right = fn.add(near, near)
    left = fn.add(fn.add(high, high), fn.sub(fn.add(low, low), right))
    negative = fn.compare("olt", x, fn.const(0.0, x.type))
    return fn.select(big, fn.select(negative, left, right), middle)


def arctan(fn: Function, x: Value) -> Value:
    """arctan x, as π/4 + arctan (x − 1)/(x + 1) and π/2 − arctan 1/x above tan π/8, tan 3π/8."""
    form, size = _format(x), _absolute(fn, x)

    def number(value: Any) -> Value:
        return fn.const(value, x.type)

    middle = fn.compare("ogt", size, number(math.sqrt(2) - 1))
    top = fn.compare("ogt", size, number(math.sqrt(2) + 1))

    def pick(high: Value, between: Value, low: Value) -> Value:
        return fn.select(top, high, fn.select(middle, between, low))

    one = number(1.0)
    above = pick(number(-1.0), fn.sub(size, one), size)
    t = fn.div(above, pick(size, fn.add(size, one), one))
    high, low = (pick(number(p), number(p / 2), number(0.0)) for p in form.half_pi)
    z = fn.mul(t, t)
    tail = fn.fma(fn.mul(t, z), _polynomial(fn, z, form.arctan), low)
    return _with_sign(fn, fn.add(high, fn.add(t, tail)), x)


# -- powers -----------------------------------------------------------------------------------


def sqrt(fn: Function, x: Value) -> Value:
    """√x, correctly rounded."""
    return fn.intrinsic("sqrt", x)


def power(fn: Function, x: Value, y: Value) -> Value:
    """xʸ, with NumPy's special cases; float64 by the C library, lane by lane."""
    if _format(x) is DOUBLE:
        return fn.intrinsic("pow", x, y)
    kind = F64.of(x.type.lanes)
    zero, one = fn.const(0.0, kind), fn.const(1.0, kind)
    base, exponent = (fn.convert("fpext", operand, kind) for operand in (x, y))
    # |x|ʸ = 2^(y·log₂|x|) in float64, whose range has room for every intermediate.
    size = _absolute(fn, base)
    f, biased = _significand(fn, size)
    e = _as_float(fn, biased, fn.const(_exponent_offset(DOUBLE), kind), size)
    one_plus = fn.add(f, _log_tail(fn, f))
    logarithm = _log_ends(fn, size, fn.fma(one_plus, fn.const(1 / math.log(2), kind), e))
    v = fn.mul(exponent, logarithm)
    # ±1 to ±∞ is 1: 0·∞ is meant as 0.
    is_unit = fn.compare("oeq", size, one)
    ordered = fn.compare("ord", exponent, exponent)
    v = fn.select(fn.binary("and", is_unit, ordered), zero, v)
    v = _at_most(fn, _at_least(fn, v, -200.0), 200.0)
    magic = fn.const(_magic(DOUBLE) + DOUBLE.bias, kind)
    shifted = fn.add(v, magic)
    r = fn.mul(fn.sub(v, fn.sub(shifted, magic)), fn.const(math.log(2), kind))
    bits = fn.binary("shl", fn.bits(shifted), fn.const(DOUBLE.fraction, kind.as_int))
    result = fn.mul(_near_one(fn, r, SINGLE), fn.convert("bitcast", bits, kind))
    # Sign and domain of a negative base. Every float32 from 2^31 on is an even whole number.
    whole, even = _is_whole(fn, exponent), _is_whole(fn, fn.mul(exponent, fn.const(0.5, kind)))
    odd = fn.binary("and", whole, fn.binary("xor", even, fn.const(True, even.type)))
    result = fn.select(odd, _with_sign(fn, result, base), result)
    finite = fn.compare("ogt", base, fn.const(-math.inf, kind))
    negative = fn.binary("and", fn.compare("olt", base, zero), finite)
    no_root = fn.binary("and", negative, fn.binary("xor", whole, fn.const(True, whole.type)))
    result = fn.select(no_root, fn.const(math.nan, kind), result)
    trivial = fn.binary("or", fn.compare("oeq", base, one), fn.compare("oeq", exponent, zero))
    return fn.convert("fptrunc", fn.select(trivial, one, result), x.type)


def _is_whole(fn: Function, x: Value) -> Value:
    """Whether a float64 that was a float32 is a whole number; ±∞ is, NaN is not."""
    magic = fn.const(_magic(DOUBLE), x.type)
    rounded = fn.sub(fn.add(x, magic), magic)
    large = fn.compare("ogt", _absolute(fn, x), fn.const(2.0**31, x.type))
    return fn.binary("or", large, fn.compare("oeq", rounded, x))


FUNCTIONS: dict[str, Callable[..., Value]] = {
    **{
        function.__name__: function
        for function in (
            *(exp, expm1, log, log1p, log2, log10, sigmoid, tanh, softplus, sech2, erf, erfc),
            *(sinh, cosh, arcsin, arccos, arctan, sqrt, power),
        )
    },
    **{name: _circular(name) for name in ("sin", "cos", "tan")},
}

# Short enough to be written where they are used; sqrt is one instruction.
CHEAP = frozenset({"exp", "sigmoid", "tanh", "sqrt", "log"})


def call(fn: Function, name: str, *operands: Value, inline: bool = False) -> Value:
    """f(operands), written here if `inline` and f is cheap, else by a function that is shared.

    The shared one is emitted once a module for each type, as `tanh.v8f32`. A call spills every
    vector that is alive across it, on most systems; an inlined one costs a millisecond of
    compilation.
    """
    kind = operands[0].type
    if name == "sqrt" or (inline and name in CHEAP and kind.base == "float"):
        return FUNCTIONS[name](fn, *operands)
    symbol = f"{name}.{kind.suffix}"
    if symbol not in fn.module.functions:
        arguments = [(kind, letter) for letter in ("x", "y")[: len(operands)]]
        shared = fn.module.function(symbol, arguments, kind, inline=False)
        shared.finish(FUNCTIONS[name](shared, *shared.arguments))
    return fn.call(symbol, kind, operands)
