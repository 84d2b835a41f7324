"""A reading of the circuit in mpmath: the value of any recorded node at as many digits as you like.

It shares nothing with the code under test but the circuit itself: primitives are looked up in the
table below, gates are opened through their definition, so that no stable form vouches for itself.
Values are NumPy arrays of `mpmath.mpf`, so the structural operations (which only move and add
elements) run as they are.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import mpmath
import numpy as np

from chainrule.circuit import Tensor, circuit_of
from chainrule.ops import Operation

DIGITS = 250  # so that 60 are left of gelu's 1 + erf(−14) = 2e−88
EXTREME_DIGITS = 400  # so that 60 are left of exp(1e−308) − 1

Array = Any


def _boolean(function: Callable[..., bool]) -> Callable[..., bool]:
    return lambda *args: bool(function(*args))


def _power(x: Any, y: Any) -> Any:
    return x ** int(y) if y == int(y) else x**y


def _sign(x: Any) -> Any:
    return mpmath.mpf((x > 0) - (x < 0))


def _erf(x: Any) -> Any:
    return mpmath.erf(x) if abs(x) < 1000 else _sign(x)  # 1 − 1e−434000


def _erfc(x: Any) -> Any:
    return mpmath.erfc(x) if abs(x) < 1000 else 1 - _sign(x)


PRIMITIVES: dict[str, Callable[..., Any]] = {
    "add": operator.add,
    "subtract": operator.sub,
    "multiply": operator.mul,
    "divide": operator.truediv,
    "negative": operator.neg,
    "identity": operator.pos,
    "stop_gradient": operator.pos,
    "power": _power,
    "less": _boolean(operator.lt),
    "less_equal": _boolean(operator.le),
    "greater": _boolean(operator.gt),
    "greater_equal": _boolean(operator.ge),
    "equal": _boolean(operator.eq),
    "not_equal": _boolean(operator.ne),
    "logical_and": lambda x, y: bool(x) and bool(y),
    "logical_or": lambda x, y: bool(x) or bool(y),
    "logical_not": lambda x: not x,
    "isnan": lambda x: False,
    "isfinite": lambda x: True,
    "sign": _sign,
    "floor": mpmath.floor,
    "abs": abs,
    "where": lambda condition, x, y: x if condition else y,
    "maximum": max,
    "minimum": min,
    "erf": _erf,
    "erfc": _erfc,
    "arcsin": mpmath.asin,
    "arccos": mpmath.acos,
    "arctan": mpmath.atan,
    # also exp, log, sin … : mpmath has them under the same name, see `elementwise`
}

# The irrational numbers that rules hold as floats, so that "equal" can mean equal at 60 digits.
_IRRATIONAL: tuple[Callable[[], Any], ...] = (
    lambda: mpmath.log(2),
    lambda: mpmath.log(10),
    lambda: mpmath.sqrt(2),
    lambda: mpmath.sqrt(2 * mpmath.pi),
    lambda: mpmath.sqrt(mpmath.pi),
    lambda: 2 / mpmath.sqrt(mpmath.pi),
    lambda: mpmath.pi,
)


def exactly(value: Any) -> Any:
    """A float as a high-precision number: the irrational one that it rounds, else itself."""
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, mpmath.mpf):
        return value
    number = float(value)
    for irrational in _IRRATIONAL:
        for exact in (irrational(), 1 / irrational()):
            near = float(exact)
            if abs(abs(number) - near) <= 2 * math.ulp(near):
                return math.copysign(1, number) * exact
    return mpmath.mpf(number)


def as_mp(values: Any, constants: bool = False) -> Array:
    """An array of mpf from floats; with `constants`, roundings of irrational numbers are undone."""
    convert = (
        exactly
        if constants
        else (lambda v: v if isinstance(v, (bool, mpmath.mpf)) else mpmath.mpf(float(v)))
    )
    given = (
        np.asarray(values, dtype=object) if isinstance(values, mpmath.mpf) else np.asarray(values)
    )
    out = np.empty(given.shape, dtype=object)
    for place in np.ndindex(given.shape):
        out[place] = convert(given[place])
    return out


def elementwise(name: str) -> Callable[..., Any] | None:
    """The exact function of single numbers under this name, or None."""
    return PRIMITIVES.get(name) or getattr(mpmath, name, None)


def apply(op: Operation, values: Sequence[Array], params: Mapping[str, Any]) -> Array:
    """The value of one operation on arrays of mpf, at the current precision."""
    if op.facts.definition is not None:
        stand_ins = [Tensor(np.full(v.shape, 0.5)[()], requires_grad=True) for v in values]
        with np.errstate(all="ignore"):
            opened = op.facts.definition(*stand_ins, **params)
        return _walk(opened, dict(zip(stand_ins, values, strict=True)))
    if op.name == "astype":
        return values[0]
    if op.facts.local or (op.facts.flow == "blocker" and elementwise(op.name)):
        exact = elementwise(op.name)
        if exact is None:
            raise LookupError(
                f"the primitive '{op.name}' is not in mpmath under its name: add a line to"
                " PRIMITIVES in tests/mp_reading.py (or give it a definition in operations)"
            )
        result = np.frompyfunc(exact, len(values), 1)(*values)
    else:
        result = op.facts.value(*values, **params)
    return np.asarray(result, dtype=object)


def _walk(node: Tensor, known: dict[Tensor, Array]) -> Array:
    for one in circuit_of(node):
        if one not in known:
            if one.op is None:
                known[one] = as_mp(one.value, constants=True)
            else:
                known[one] = apply(one.op, [known[x] for x in one.inputs], one.params)
    return known[node]


def read(node: Tensor, given: Mapping[Tensor, Any], digits: int = DIGITS) -> Array:
    """The value of `node` where the leaves in `given` have these exact values."""
    with mpmath.workdps(digits):
        return _walk(node, {leaf: as_mp(value) for leaf, value in given.items()})


def value_of(
    op: Operation, args: Sequence[Any], params: Mapping[str, Any], digits: int = DIGITS
) -> Array:
    """The exact value of an operation at plain arguments; parameters must be complete."""
    with mpmath.workdps(digits):
        return apply(op, [as_mp(x) for x in args], params)


def floats(values: Array, dtype: Any = np.float64) -> np.ndarray[Any, Any]:
    """Arrays of mpf rounded to a floating dtype; beyond its range they become ±∞."""
    out = np.empty(np.shape(values), dtype=np.float64)
    for place in np.ndindex(out.shape):
        out[place] = float(values[place])
    with np.errstate(over="ignore"):
        return out.astype(dtype)
