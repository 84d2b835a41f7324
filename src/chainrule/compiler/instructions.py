"""The instructions of one scalar operation on operands that are written: `expression.emit`'s words.

Every operation means the same on every machine, to the bit; only the functions of functions.py
round differently where there is no fused multiply-add.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .emit import Function, Type, Value
from .functions import call

if TYPE_CHECKING:
    from .expression import Expr

__all__ = ["write"]

DType = np.dtype[Any]


_INSTRUCTIONS = {"and": "and", "or": "or", "xor": "xor", "shl": "shl", "shr": "lshr"}
_PREDICATES = {  # of floats, signed and unsigned integers
    "lt": ("olt", "slt", "ult"),
    "le": ("ole", "sle", "ule"),
    "gt": ("ogt", "sgt", "ugt"),
    "eq": ("oeq", "eq", "eq"),
    "ne": ("une", "ne", "ne"),
}


def write(fn: Function, expr: Expr, values: list[Value], kind: Type, inline: bool) -> Value:
    """The value of `expr` from those of its arguments; `inline` as in `emit`."""
    op, a, b = expr.op, values[0], values[-1]
    source = expr.args[0].dtype
    if op in _PREDICATES:
        return _compare(fn, op, source, a, b)
    if op in _INSTRUCTIONS:
        return fn.binary(_INSTRUCTIONS[op], a, b)
    if op in _METHODS:
        return _METHODS[op](fn, *values)
    if op in ("maximum", "minimum"):
        return _extreme(fn, expr, a, b)
    if op == "cast":
        return _convert(fn, source, expr.dtype, a, kind)
    return call(fn, op, *values, inline=inline)


def _compare(fn: Function, op: str, dtype: DType, a: Value, b: Value) -> Value:
    return fn.compare(_PREDICATES[op]["fiu".index(dtype.kind)], a, b)


def _absolute(fn: Function, a: Value) -> Value:
    if a.type.is_float:
        return fn.intrinsic("fabs", a)
    return fn.select(fn.compare("slt", a, fn.const(0, a.type)), fn.neg(a), a)


def _floor(fn: Function, a: Value) -> Value:
    """Below 2²³ (2⁵²), adding and taking away that number rounds; then one less if that is more."""
    x86 = fn.target.is_x86
    if not x86 or fn.target.kind.name != "plain" or "+sse4.1" in fn.target.features:
        return fn.intrinsic("floor", a)
    large = fn.const(2.0 ** (23 if a.type.bits == 32 else 52), a.type)
    size = _absolute(fn, a)
    near = fn.sub(fn.add(size, large), large)
    near = fn.intrinsic("copysign", near, a)
    one, zero = fn.const(1, a.type), fn.const(0, a.type)
    below = fn.sub(near, fn.select(fn.compare("ogt", near, a), one, zero))
    below = fn.intrinsic("copysign", below, a)
    return fn.select(fn.compare("olt", size, large), below, a)


def _extreme(fn: Function, expr: Expr, a: Value, b: Value) -> Value:
    """Of two that compare equal the second, as NumPy on x86: one `max` instruction's choice."""
    better = "gt" if expr.op == "maximum" else "lt"
    x, y = expr.args
    if not a.type.is_float:
        return fn.select(_compare(fn, better, x.dtype, a, b), a, b)
    if y.is_const and y.payload != 0:
        a, b = b, a  # two that are equal are the same number, and a NaN comes second
    elif y.is_const:
        return fn.select(fn.compare(f"u{better}", a, b), a, b)
    chosen = fn.select(fn.compare(f"o{better}", a, b), a, b)  # b where either is NaN
    if x.is_const or y.is_const:
        return chosen
    return fn.select(fn.compare("uno", a, a), a, chosen)


def _convert(fn: Function, source: DType, dtype: DType, a: Value, kind: Type) -> Value:
    """From one dtype to another; none of them bool as the result."""
    if source.kind == "b":
        if kind.is_float:
            return fn.select(a, fn.const(1, kind), fn.const(0, kind))
        return fn.convert("zext", a, kind)
    if source.kind == "f" and dtype.kind == "f":
        return fn.convert("fpext" if kind.bits > a.type.bits else "fptrunc", a, kind)
    if source.kind == "f":
        return _whole(fn, a, np.iinfo(dtype), kind)
    if dtype.kind == "f":
        return fn.convert("sitofp" if source.kind == "i" else "uitofp", a, kind)
    if kind.bits == a.type.bits:
        return a  # signed and unsigned differ in what is done with them, not in their bits
    if kind.bits < a.type.bits:
        return fn.convert("trunc", a, kind)
    return fn.convert("sext" if source.kind == "i" else "zext", a, kind)


def _whole(fn: Function, a: Value, limits: Any, kind: Type) -> Value:
    """A float without its fraction; the nearest integer that fits where it does not, 0 of NaN.

    LLVM leaves the conversion of what does not fit undefined, so that is converted as 0. Its own
    saturating conversion means the same, but is written lane by lane for lack of an instruction.
    """
    low, high = fn.const(limits.min, a.type), fn.const(2.0 * (limits.max // 2 + 1), a.type)
    too_high = fn.compare("oge", a, high)
    inside = fn.binary("and", fn.compare("oge", a, low), fn.compare("olt", a, high))
    fitting = fn.select(inside, a, fn.const(0, a.type))
    whole = fn.convert("fptosi" if limits.min else "fptoui", fitting, kind)
    whole = fn.select(too_high, fn.const(limits.max, kind), whole)
    if limits.min:
        whole = fn.select(fn.compare("olt", a, low), fn.const(limits.min, kind), whole)
    return whole


_METHODS: Mapping[str, Callable[..., Value]] = {
    "add": Function.add,
    "sub": Function.sub,
    "mul": Function.mul,
    "div": Function.div,
    "neg": Function.neg,
    "abs": _absolute,
    "sqrt": lambda fn, a: fn.intrinsic("sqrt", a),
    "floor": _floor,
    "select": Function.select,
    "not": lambda fn, a: fn.binary("xor", a, fn.const(-1 if a.type.bits > 1 else 1, a.type)),
    "isnan": lambda fn, a: fn.compare("uno", a, a),
    "isfinite": lambda fn, a: fn.compare("olt", _absolute(fn, a), fn.const(np.inf, a.type)),
}
