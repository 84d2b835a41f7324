"""Elementwise primitives: arithmetic, selection and comparison, and the elementary functions.

A record's `local` is ∂out/∂input in the vocabulary of operations: numbers give numbers, tensors
give circuit. Where two forms exist the one here is the stable one, and `textbook` the lecture's.
"""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np

from ..circuit import vocabulary as ops
from . import special
from .record import Kink, operation

Value = Any
REALS = (-20.0, 20.0)
POSITIVE = (1e-3, 20.0)

# -- arithmetic -------------------------------------------------------------------------------

add = operation(
    "add",
    operator.add,
    plain=np.add,
    meaning="add(x, y) = x + y",
    symbol="+",
    latex="{0} + {1}",
    text="{0} + {1}",
    binds=10,
    flow="distributor",
    arity=2,
    local=(1, 1),
    domain=(REALS, REALS),
    numpy=(np.add,),
    example=("float(cr.add(2.0, 3.0))", "5.0"),
)

subtract = operation(
    "subtract",
    operator.sub,
    plain=np.subtract,
    meaning="subtract(x, y) = x − y",
    symbol="−",
    latex="{0} - {1:>}",
    text="{0} − {1:>}",
    binds=10,
    flow="distributor",
    arity=2,
    local=(1, -1),
    domain=(REALS, REALS),
    numpy=(np.subtract,),
    example=("float(cr.subtract(2.0, 3.0))", "-1.0"),
)

multiply = operation(
    "multiply",
    operator.mul,
    plain=np.multiply,
    meaning="multiply(x, y) = x · y",
    symbol="×",
    latex=r"{0} \cdot {1}",
    text="{0} · {1}",
    binds=20,
    flow="switcher",
    arity=2,
    local=(lambda x, y, out: y, lambda x, y, out: x),
    domain=(REALS, REALS),
    numpy=(np.multiply,),
    example=("float(cr.multiply(2.0, 3.0))", "6.0"),
)

divide = operation(
    "divide",
    operator.truediv,
    plain=np.divide,
    meaning="divide(x, y) = x / y",
    symbol="/",
    latex=r"\frac{{{0:<}}}{{{1:<}}}",
    text="{0} / {1:>}",
    binds=20,
    flow="switcher",
    arity=2,
    local=(lambda x, y, out: 1 / y, lambda x, y, out: -out / y),
    textbook=(lambda x, y, out: 1 / y, lambda x, y, out: -x / y**2),
    domain=(REALS, POSITIVE),
    numpy=(np.divide, np.true_divide),
    example=("float(cr.divide(3.0, 2.0))", "1.5"),
)

negative = operation(
    "negative",
    operator.neg,
    plain=np.negative,
    meaning="negative(x) = −x",
    symbol="×−1",
    latex="-{0}",
    text="−{0}",
    binds=15,
    flow="scaler",
    local=(-1,),
    domain=(REALS,),
    numpy=(np.negative,),
    example=("float(cr.negative(2.0))", "-2.0"),
)


def _power(x: Value, y: Value) -> Value:
    """x**y, with NumPy's integer exponents exact: x**3 is x·x·x for a negative x too."""
    return (
        np.float_power(x, y)
        if isinstance(x, (int, float)) and isinstance(y, (int, float))
        else x**y
    )


power = operation(
    "power",
    _power,
    plain=np.power,
    meaning="power(x, y) = xʸ",
    symbol="xʸ",
    latex="{{{0:>}}}^{{{1:<}}}",
    text="{0:>}^{1:>}",
    binds=40,
    flow="scaler",
    arity=2,
    # x⁰ is 1 at x = 0 too: with exponent 0 the derivative is 0, and 0·0⁻¹ must not make a NaN of it
    local=(
        lambda x, y, out: y * x ** ops.where(ops.equal(y, 0), out.dtype.type(1), y - 1),
        lambda x, y, out: (
            out
            * ops.log(ops.where(ops.logical_and(ops.equal(x, 0), ops.greater_equal(y, 0)), 1, x))
        ),
    ),
    textbook=(lambda x, y, out: y * x ** (y - 1), lambda x, y, out: out * ops.log(x)),
    kinks=(
        Kink("x = 0 with y = 0", "0", "x⁰ is constant, so nothing moves with x"),
        Kink("x = 0 with y ≥ 0, towards y", "0", "the limit of xʸ·log x for y > 0"),
    ),
    domain=((0.1, 4.0), (-3.0, 3.0)),
    numpy=(np.power, np.float_power),
    example=("float(cr.power(2.0, 3.0))", "8.0"),
)

# -- selection and comparison -----------------------------------------------------------------


def _compare(name: str, python: Any, ufunc: Any, sign: str, latex: str, answer: str) -> Any:
    return operation(
        name,
        python,
        plain=ufunc,
        meaning=f"{name}(x, y) = 1 where x {sign} y, else 0 (boolean, no gradient)",
        symbol=sign,
        latex=f"{{0:>}} {latex} {{1:>}}",
        text=f"{{0:>}} {sign} {{1:>}}",
        binds=5,
        flow="blocker",
        arity=2,
        numpy=(ufunc,),
        example=(f"bool(cr.{name}(1.0, 2.0))", answer),
    )


less = _compare("less", operator.lt, np.less, "<", "<", "True")
less_equal = _compare("less_equal", operator.le, np.less_equal, "≤", r"\le", "True")
greater = _compare("greater", operator.gt, np.greater, ">", ">", "False")
greater_equal = _compare("greater_equal", operator.ge, np.greater_equal, "≥", r"\ge", "False")
equal = _compare("equal", operator.eq, np.equal, "=", "=", "False")
not_equal = _compare("not_equal", operator.ne, np.not_equal, "≠", r"\ne", "True")
logical_and = _compare("logical_and", np.logical_and, np.logical_and, "∧", r"\land", "True")
logical_or = _compare("logical_or", np.logical_or, np.logical_or, "∨", r"\lor", "True")


def _blocker(name: str, function: Any, meaning: str, symbol: str, latex: str, answer: str) -> Any:
    return operation(
        name,
        function,
        meaning=meaning,
        symbol=symbol,
        latex=latex,
        flow="blocker",
        numpy=(function,),
        example=(f"float(cr.{name}(-2.5))", answer),
    )


logical_not = _blocker(
    "logical_not", np.logical_not, "logical_not(x) = 1 where x = 0", "¬", r"\lnot {0}", "0.0"
)
isnan = _blocker(
    "isnan",
    np.isnan,
    "isnan(x) = 1 where x is not a number",
    "NaN?",
    r"[{0}\text{{ is NaN}}]",
    "0.0",
)
isfinite = _blocker(
    "isfinite", np.isfinite, "isfinite(x) = 1 where |x| < ∞", "finite?", r"[|{0}| < \infty]", "1.0"
)
sign = _blocker(
    "sign",
    np.sign,
    "sign(x) = −1, 0 or 1 (constant by parts)",
    "sign",
    r"\operatorname{{sign}} {0}",
    "-1.0",
)
floor = _blocker(
    "floor", np.floor, "floor(x) = the largest integer ≤ x", "⌊⌋", r"\lfloor {0} \rfloor", "-3.0"
)

stop_gradient = operation(
    "stop_gradient",
    np.positive,
    meaning="stop_gradient(x) = x, and no gradient passes",
    symbol="stop",
    latex=r"\operatorname{{stop}}({0})",
    flow="blocker",
    example=("float(cr.stop_gradient(2.0))", "2.0"),
)

identity = operation(
    "identity",
    np.positive,
    meaning="identity(x) = x: the same value as a new variable",
    symbol="=",
    latex="{0}",
    text="{0}",
    binds=5,
    flow="distributor",
    local=(1,),
    domain=(REALS,),
    numpy=(np.positive,),
    example=("float(cr.identity(2.0))", "2.0"),
)


def _where(condition: Value, x: Value, y: Value) -> Value:
    """np.where, with a fast way for scalars of one dtype."""
    if condition.__class__ is np.bool_ and x.__class__ is y.__class__ and isinstance(x, np.generic):
        return x if condition else y
    out: Any = np.where(condition, x, y)
    return out[()]


where = operation(
    "where",
    _where,
    plain=np.where,
    meaning="where(condition, x, y) = x where the condition holds, else y",
    symbol="where",
    latex=r"\begin{{cases}} {1} & {0} \\ {2} & \text{{else}} \end{{cases}}",
    flow="router",
    arity=3,
    local=(
        None,
        lambda condition, x, y, out: ops.not_equal(condition, 0),
        lambda condition, x, y, out: ops.equal(condition, 0),
    ),
    domain=((0.0, 1.0), REALS, REALS),
    example=("cr.where([True, False], [1.0, 2.0], [3.0, 4.0])", "array([1., 4.])"),
)


def _extreme(name: str, ufunc: Any, first_loses: str, second_loses: str, sign: str) -> Any:
    def local(word: str) -> Any:
        return lambda x, y, out: ops.where(
            getattr(ops, word)(x, y), 0.0, ops.where(ops.equal(x, y), 0.5, out.dtype.type(1))
        )

    return operation(
        name,
        ufunc,
        meaning=f"{name}(x, y) = x if x {sign} y, else y",
        symbol=name[:3],
        latex=rf"\{name[:3]}({{0}}, {{1}})",
        flow="router",
        arity=2,
        local=(local(first_loses), local(second_loses)),
        kinks=(
            Kink(
                "x = y",
                "½ for each",
                "equal shares treat the two inputs alike, and add up to 1",
            ),
        ),
        domain=(REALS, REALS),
        numpy=(ufunc,),
        example=(f"float(cr.{name}(2.0, 3.0))", "3.0" if name == "maximum" else "2.0"),
        source="slides, question 1: the max gate with two equal inputs",
    )


maximum = _extreme("maximum", np.maximum, "less", "greater", ">")
minimum = _extreme("minimum", np.minimum, "greater", "less", "<")

abs_ = operation(
    "abs",
    np.absolute,
    meaning="abs(x) = |x|",
    symbol="|x|",
    latex=r"\left|{0}\right|",
    text="|{0}|",
    flow="scaler",
    local=(lambda x, out: ops.sign(x),),
    kinks=(Kink("x = 0", "0", "the middle of [−1, 1], and the minimum stays put", at=0.0),),
    domain=(REALS,),
    numpy=(np.absolute, np.fabs),
    example=("float(cr.abs(-2.0))", "2.0"),
)

# -- elementary functions ---------------------------------------------------------------------


def _function(name: str, ufunc: Any, local: Any, domain: Any, value: str, **facts: Any) -> Any:
    """A function of one variable that NumPy has under the same name."""
    return operation(
        name,
        ufunc,
        local=(local,),
        domain=(domain,),
        flow="scaler",
        numpy=(ufunc,),
        **{
            "meaning": f"{name}(x)",
            "symbol": name,
            "latex": rf"\{name}\left({{0}}\right)",
            "example": (f"round(float(cr.{name}(0.5)), 6)", value),
            **facts,
        },
    )


exp = _function(
    "exp", np.exp, lambda x, out: out, REALS, "1.648721",
    meaning="exp(x) = eˣ", latex="e^{{{0:<}}}", text="exp({0:<})",
    binds=40,
)  # fmt: skip
expm1 = _function(
    "expm1", np.expm1, lambda x, out: ops.exp(x), REALS, "0.648721",
    meaning="expm1(x) = eˣ − 1, exact for small x", latex="e^{{{0:<}}} - 1",
    text="exp({0:<}) − 1", binds=10, symbol="eˣ−1",
)  # fmt: skip
log = _function(
    "log", np.log, lambda x, out: 1 / x, POSITIVE, "-0.693147",
    meaning="log(x) = ln x", latex=r"\ln\left({0}\right)", text="ln({0})", symbol="ln",
)  # fmt: skip
log1p = _function(
    "log1p", np.log1p, lambda x, out: 1 / (1 + x), (-0.99, 20.0), "0.405465",
    meaning="log1p(x) = ln(1 + x), exact for small x",
    latex=r"\ln\left(1 + {0}\right)", text="ln(1 + {0})", symbol="ln(1+x)",
)  # fmt: skip
sqrt = _function(
    "sqrt", np.sqrt, lambda x, out: 0.5 / out, POSITIVE, "0.707107",
    meaning="sqrt(x) = √x", latex=r"\sqrt{{{0}}}", text="√({0})", symbol="√",
)  # fmt: skip
sin = _function(
    "sin", np.sin, lambda x, out: ops.cos(x), REALS, "0.479426", meaning="sin(x), x in radians"
)
cos = _function(
    "cos", np.cos, lambda x, out: -ops.sin(x), REALS, "0.877583", meaning="cos(x), x in radians"
)
arcsin = _function(
    "arcsin", np.arcsin, lambda x, out: 1 / ops.sqrt((1 - x) * (1 + x)), (-0.999, 0.999),
    "0.523599",
    textbook=(lambda x, out: 1 / ops.sqrt(1 - x**2),),
    meaning="arcsin(x): the angle in [−π/2, π/2] whose sine is x",
)  # fmt: skip
arccos = _function(
    "arccos", np.arccos, lambda x, out: -1 / ops.sqrt((1 - x) * (1 + x)), (-0.999, 0.999),
    "1.047198",
    textbook=(lambda x, out: -1 / ops.sqrt(1 - x**2),),
    meaning="arccos(x): the angle in [0, π] whose cosine is x",
)  # fmt: skip
arctan = _function(
    "arctan", np.arctan, lambda x, out: 1 / (1 + x * x), REALS, "0.463648",
    meaning="arctan(x): the angle in [−π/2, π/2] whose tangent is x",
)  # fmt: skip
tanh = _function(
    "tanh", np.tanh, lambda x, out: ops.sech2(x), REALS, "0.462117",
    # 1 − tanh² is exactly 0 from |x| = 19 (float64): "small" would be read as "dead"
    textbook=(lambda x, out: 1 - out**2,),
    definition=lambda x: (ops.exp(2 * x) - 1) / (ops.exp(2 * x) + 1),
    meaning="tanh(x) = (e²ˣ − 1)/(e²ˣ + 1), with tanh′ = 1 − tanh²",
    source="derivatives (where sin and cos are written for sinh and cosh)",
)  # fmt: skip


def _erf(x: Value) -> Value:
    """Of one number by the C library, forty times faster than a pass over an array of one."""
    return np.float64(math.erf(x)) if isinstance(x, float) else special.erf(x)


def _erfc(x: Value) -> Value:
    return np.float64(math.erfc(x)) if isinstance(x, float) else special.erfc(x)


erf = operation(
    "erf",
    _erf,
    meaning="erf(x) = 2/√π · ∫₀ˣ exp(−t²) dt",
    symbol="erf",
    latex=r"\operatorname{{erf}}\left({0}\right)",
    flow="scaler",
    local=(lambda x, out: 2 / math.sqrt(math.pi) * ops.exp(-x * x),),
    domain=((-6.0, 6.0),),
    example=("round(float(cr.erf(0.5)), 6)", "0.5205"),
)

erfc = operation(
    "erfc",
    _erfc,
    meaning="erfc(x) = 1 − erf(x), exact in the tail",
    symbol="erfc",
    latex=r"\operatorname{{erfc}}\left({0}\right)",
    flow="scaler",
    local=(lambda x, out: -2 / math.sqrt(math.pi) * ops.exp(-x * x),),
    domain=((-6.0, 6.0),),
    example=("round(float(cr.erfc(0.5)), 6)", "0.4795"),
)
