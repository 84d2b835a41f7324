"""Scalar expressions: what one element of a fused loop computes, kept apart from how it is written.

A `Builder` makes every distinct expression once, so `is` is equality and a common subexpression is
computed once. Nothing is simplified that IEEE arithmetic could tell apart (but a NaN's bits).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from ..ops.special import erf, erfc
from .emit import BOOL, Function, Type, Value
from .instructions import write

__all__ = ["Builder", "Expr", "Unsupported", "cost", "emit", "llvm_type", "loads", "walk"]

DType = np.dtype[Any]
BOOLEAN = np.dtype(np.bool_)


class Unsupported(Exception):
    """An operation has no native form here; `op` names it and `why` says what is missing."""

    def __init__(self, op: str, why: str) -> None:
        super().__init__(f"{op}: {why}")
        self.op, self.why = op, why


@dataclass(frozen=True, eq=False, slots=True, repr=False)
class Expr:
    """`op` applied to `args`, a number of `dtype`; equality is identity, within one `Builder`.

    `payload` is the value of a "const" and the key of a "load". Arguments have smaller `number`s.
    """

    op: str
    args: tuple[Expr, ...]
    dtype: DType
    payload: Any
    number: int

    @property
    def is_const(self) -> bool:
        return self.op == "const"

    def __repr__(self) -> str:
        """This node alone: an expression may be too deep, and too shared, to be written out."""
        inside = [f"#{x.number}" for x in self.args]
        inside += [] if self.payload is None else [repr(self.payload)]
        return f"<#{self.number} = {self.op}({', '.join(inside)}) : {self.dtype}>"


@cache
def llvm_type(dtype: Any) -> Type:
    """The machine's type of one such number in a register; a bool is one bit there.

    Raises `Unsupported` for float16, long double, complex numbers and objects.
    """
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return BOOL
    if not dtype.isnative:
        raise Unsupported(str(dtype), "the bytes are in another machine's order; use astype")
    if dtype.kind in "iu":
        return Type(f"i{dtype.itemsize * 8}")
    if dtype.kind == "f" and dtype.itemsize in (4, 8):
        return Type("float" if dtype.itemsize == 4 else "double")
    raise Unsupported(str(dtype), "native code computes in float32, float64, integers and bool")


# -- meaning in NumPy, by which constants are folded ------------------------------------------


def _shift_right(x: Any, y: Any) -> Any:
    """Logical: zeros come in from the left, for signed numbers too."""
    unsigned = np.dtype(f"u{x.dtype.itemsize}")
    return (x.view(unsigned) >> y.view(unsigned)).view(x.dtype)


_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "exp": np.exp, "expm1": np.expm1, "log": np.log, "log1p": np.log1p, "log2": np.log2,
    "log10": np.log10, "tanh": np.tanh, "erf": erf, "erfc": erfc, "sin": np.sin, "cos": np.cos,
    "tan": np.tan, "sinh": np.sinh, "cosh": np.cosh, "arcsin": np.arcsin, "arccos": np.arccos,
    "arctan": np.arctan, "power": np.power,
}  # fmt: skip
_NUMPY: Mapping[str, Callable[..., Any]] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "neg": np.negative,
    "abs": np.absolute, "sqrt": np.sqrt, "floor": np.floor,
    "maximum": lambda x, y: x if x > y else y, "minimum": lambda x, y: x if x < y else y,
    "lt": np.less, "le": np.less_equal, "eq": np.equal, "ne": np.not_equal,
    "isnan": np.isnan, "isfinite": np.isfinite,
    "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor, "not": np.invert,
    "shl": np.left_shift, "shr": _shift_right, **_FUNCTIONS,
}  # fmt: skip

# -- building ---------------------------------------------------------------------------------


def _function(name: str) -> Callable[[Builder, Expr], Expr]:
    """A method: the function of one float."""

    def method(self: Builder, x: Expr) -> Expr:
        self._demand(name, "f", x)
        return self._make(name, (x,))

    method.__name__, method.__doc__ = name, f"NumPy's {name}."
    return method


class Builder:
    """Makes expressions, each distinct one once; folds constants as NumPy computes them.

    The operands of an operation have one dtype (`cast` makes it so), which is the result's; a
    comparison's is bool. In bool, `add` and `maximum` mean or, `mul` and `minimum` and.
    """

    def __init__(self) -> None:
        self._made: dict[Any, Expr] = {}

    # -- leaves -------------------------------------------------------------------------------

    def load(self, key: Hashable, dtype: Any) -> Expr:
        """A number from outside; `emit` asks for it by its key."""
        return self._enter("load", (), np.dtype(dtype), key, key)

    def const(self, value: Any, dtype: Any) -> Expr:
        """A number known now."""
        dtype = np.dtype(dtype)
        with np.errstate(all="ignore"):
            exact = np.asarray(value).astype(dtype)[()]
        if np.ndim(exact):
            raise ValueError(f"const: one number is needed, got shape {np.shape(value)}")
        return self._enter("const", (), dtype, exact, exact.tobytes())  # +0 is not −0

    # -- arithmetic ---------------------------------------------------------------------------

    def add(self, x: Expr, y: Expr) -> Expr:
        """x + y."""
        self._demand("add", "fiub", x, y)
        if x.dtype == BOOLEAN:
            return self.or_(x, y)
        if y.op == "neg":
            return self.sub(x, y.args[0])
        if x.op == "neg":
            return self.sub(y, x.args[0])
        x, y = _ordered(x, y)
        if _is(y, -0.0):
            return x
        return self._make("add", (x, y))

    def sub(self, x: Expr, y: Expr) -> Expr:
        """x − y."""
        self._demand("sub", "fiu", x, y)
        if y.op == "neg":
            return self.add(x, y.args[0])
        if _is(y, 0.0):
            return x
        if _is(x, -0.0):
            return self.neg(y)
        return self._make("sub", (x, y))

    def mul(self, x: Expr, y: Expr) -> Expr:
        """x · y."""
        self._demand("mul", "fiub", x, y)
        if x.dtype == BOOLEAN:
            return self.and_(x, y)
        x, y = _ordered(x, y)
        if _is(y, 1):
            return x
        if _is(y, 0) and y.dtype.kind != "f":
            return y
        if y.dtype.kind != "u" and _is(y, -1):
            return self.neg(x)
        if x.op == "neg" and (y.op == "neg" or y.is_const):
            return self.mul(x.args[0], self.neg(y))
        return self._make("mul", (x, y))

    def div(self, x: Expr, y: Expr) -> Expr:
        """x / y, of floats."""
        self._demand("div", "f", x, y)
        if _is(y, 1):
            return x
        if y.is_const and (inverse := _exact_inverse(y.payload)) is not None:
            return self.mul(x, self.const(inverse, y.dtype))
        return self._make("div", (x, y))

    def neg(self, x: Expr) -> Expr:
        """−x."""
        self._demand("neg", "fiu", x)
        return x.args[0] if x.op == "neg" else self._make("neg", (x,))

    def abs(self, x: Expr) -> Expr:
        """|x|."""
        self._demand("abs", "fiub", x)
        if x.dtype.kind in "ub" or x.op == "abs":
            return x
        return self.abs(x.args[0]) if x.op == "neg" else self._make("abs", (x,))

    def sqrt(self, x: Expr) -> Expr:
        """√x, rounded correctly."""
        self._demand("sqrt", "f", x)
        return self._make("sqrt", (x,))

    def floor(self, x: Expr) -> Expr:
        """The largest integer ≤ x."""
        self._demand("floor", "fiub", x)
        return x if x.dtype.kind != "f" or x.op == "floor" else self._make("floor", (x,))

    def maximum(self, x: Expr, y: Expr) -> Expr:
        """The larger; NaN if either is; y where they are equal (of two zeros, the second)."""
        return self._extreme("maximum", x, y)

    def minimum(self, x: Expr, y: Expr) -> Expr:
        """The smaller; NaN if either is; y where they are equal."""
        return self._extreme("minimum", x, y)

    def _extreme(self, op: str, x: Expr, y: Expr) -> Expr:
        self._demand(op, "fiub", x, y)
        if x.dtype == BOOLEAN:
            return self.or_(x, y) if op == "maximum" else self.and_(x, y)
        for z in (x, y):
            if z.is_const and z.payload != z.payload:
                return z  # NaN
        return x if x is y else self._make(op, (x, y))

    exp, expm1 = _function("exp"), _function("expm1")
    log, log1p, log2, log10 = map(_function, ("log", "log1p", "log2", "log10"))
    tanh, sinh, cosh = map(_function, ("tanh", "sinh", "cosh"))
    sin, cos, tan = map(_function, ("sin", "cos", "tan"))
    arcsin, arccos, arctan = map(_function, ("arcsin", "arccos", "arctan"))
    erf, erfc = _function("erf"), _function("erfc")

    def power(self, x: Expr, y: Expr) -> Expr:
        """xʸ of floats, as C's pow."""
        self._demand("power", "f", x, y)
        return self._make("power", (x, y))

    # -- comparison and choice ----------------------------------------------------------------

    def lt(self, x: Expr, y: Expr) -> Expr:
        """x < y."""
        return self._order("lt", x, y)

    def le(self, x: Expr, y: Expr) -> Expr:
        """x ≤ y."""
        return self._order("le", x, y)

    def gt(self, x: Expr, y: Expr) -> Expr:
        """x > y."""
        return self._order("lt", y, x)

    def ge(self, x: Expr, y: Expr) -> Expr:
        """x ≥ y."""
        return self._order("le", y, x)

    def _order(self, op: str, x: Expr, y: Expr) -> Expr:
        self._demand(op, "fiub", x, y)
        if x.dtype == BOOLEAN:
            return self.and_(self.not_(x), y) if op == "lt" else self.or_(self.not_(x), y)
        if x.dtype.kind == "f":
            negated = x.op == "neg", y.op == "neg"
            if any(negated) and (all(negated) or x.is_const or y.is_const):
                x, y = self.neg(y), self.neg(x)
        elif x is y:
            return self.const(op == "le", BOOLEAN)
        return self._make(op, (x, y), BOOLEAN)

    def eq(self, x: Expr, y: Expr) -> Expr:
        """x = y."""
        self._demand("eq", "fiub", x, y)
        if x.dtype == BOOLEAN:
            return self.not_(self.xor(x, y))
        return self._make("eq", _ordered(x, y), BOOLEAN)

    def ne(self, x: Expr, y: Expr) -> Expr:
        """x ≠ y; True where either is NaN."""
        self._demand("ne", "fiub", x, y)
        if x.dtype == BOOLEAN:
            return self.xor(x, y)
        return self._make("ne", _ordered(x, y), BOOLEAN)

    def isnan(self, x: Expr) -> Expr:
        """Whether x is not a number."""
        self._demand("isnan", "fiub", x)
        return self._make("isnan", (x,), BOOLEAN) if x.dtype.kind == "f" else self.false

    def isfinite(self, x: Expr) -> Expr:
        """Whether |x| < ∞."""
        self._demand("isfinite", "fiub", x)
        return self._make("isfinite", (x,), BOOLEAN) if x.dtype.kind == "f" else self.true

    def select(self, condition: Expr, yes: Expr, no: Expr) -> Expr:
        """yes where the condition holds, else no; nothing of the other is in the result."""
        self._demand("select", "b", condition)
        self._demand("select", "fiub", yes, no)
        if condition.op == "not":
            condition, yes, no = condition.args[0], no, yes
        if condition.is_const:
            return yes if condition.payload else no
        if yes is no:
            return yes
        if yes.dtype == BOOLEAN:
            if yes.is_const:
                if yes.payload:
                    return self.or_(condition, no)
                return self.and_(self.not_(condition), no)
            if no.is_const and no.payload:
                return self.or_(self.not_(condition), yes)
            if no.is_const:
                return self.and_(condition, yes)
        return self._make("select", (condition, yes, no), yes.dtype)

    # -- bits ---------------------------------------------------------------------------------

    @property
    def true(self) -> Expr:
        return self.const(True, BOOLEAN)

    @property
    def false(self) -> Expr:
        return self.const(False, BOOLEAN)

    def and_(self, x: Expr, y: Expr) -> Expr:
        """Bit by bit, of integers or bools."""
        self._demand("and", "iub", x, y)
        x, y = _ordered(x, y)
        if x is y or _is_ones(y):
            return x
        return y if _is(y, 0) else self._make("and", (x, y))

    def or_(self, x: Expr, y: Expr) -> Expr:
        """Bit by bit, of integers or bools."""
        self._demand("or", "iub", x, y)
        x, y = _ordered(x, y)
        if x is y or _is(y, 0):
            return x
        return y if _is_ones(y) else self._make("or", (x, y))

    def xor(self, x: Expr, y: Expr) -> Expr:
        """Bit by bit, of integers or bools."""
        self._demand("xor", "iub", x, y)
        x, y = _ordered(x, y)
        if x is y:
            return self.const(0, x.dtype)
        if _is(y, 0):
            return x
        return self.not_(x) if _is_ones(y) else self._make("xor", (x, y))

    def not_(self, x: Expr) -> Expr:
        """Every bit the other way."""
        self._demand("not", "iub", x)
        if x.op == "not":
            return x.args[0]
        if x.op in ("eq", "ne"):
            return self._make("ne" if x.op == "eq" else "eq", x.args, BOOLEAN)
        if x.op in ("lt", "le") and x.args[0].dtype.kind != "f":  # NaN is neither < nor ≥
            return self._order("le" if x.op == "lt" else "lt", x.args[1], x.args[0])
        return self._make("not", (x,))

    def shl(self, x: Expr, y: Expr) -> Expr:
        """x · 2ʸ, bits falling off the left; 0 ≤ y < the width."""
        return self._shift("shl", x, y)

    def shr(self, x: Expr, y: Expr) -> Expr:
        """The bits moved right by y places, zeros coming in; 0 ≤ y < the width."""
        return self._shift("shr", x, y)

    def _shift(self, op: str, x: Expr, y: Expr) -> Expr:
        self._demand(op, "iu", x, y)
        if y.is_const and not 0 <= int(y.payload) < x.dtype.itemsize * 8:
            raise ValueError(f"{op}: a shift by {y.payload} does not fit {x.dtype}")
        return x if _is(y, 0) else self._make(op, (x, y))

    def cast(self, x: Expr, dtype: Any) -> Expr:
        """x in another dtype, as NumPy's astype; to bool, whether x ≠ 0.

        From float to integer, what does not fit becomes the nearest that does, and NaN 0 (NumPy
        leaves both to the machine).
        """
        dtype = np.dtype(dtype)
        llvm_type(dtype)
        if x.dtype == dtype:
            return x
        if dtype == BOOLEAN:
            return self.ne(x, self.const(0, x.dtype))
        if x.is_const and (dtype.kind not in "iu" or _fits(x.payload, dtype)):
            return self.const(x.payload, dtype)
        if x.op == "cast" and x.args[0].dtype == dtype and np.can_cast(dtype, x.dtype):
            return x.args[0]  # there and back without loss
        return self._make("cast", (x,), dtype)

    # -- making -------------------------------------------------------------------------------

    def _demand(self, op: str, kinds: str, *operands: Expr) -> None:
        """Raise unless the operands have one dtype of these kinds."""
        dtype = operands[0].dtype
        if dtype.kind not in kinds:
            raise Unsupported(op, f"{dtype} has no native form")
        if any(x.dtype != dtype for x in operands):
            raise TypeError(f"{op}: operands of {', '.join(str(x.dtype) for x in operands)}; cast")

    def _make(self, op: str, args: tuple[Expr, ...], dtype: DType | None = None) -> Expr:
        dtype = dtype or args[0].dtype
        if op in _NUMPY and all(x.is_const for x in args):
            with np.errstate(all="ignore"):
                return self.const(_NUMPY[op](*[x.payload for x in args]), dtype)
        return self._enter(op, args, dtype, None, None)

    def _enter(
        self, op: str, args: tuple[Expr, ...], dtype: DType, payload: Any, key: Hashable
    ) -> Expr:
        identity = (op, args, dtype, key)
        found = self._made.get(identity)
        if found is None:
            llvm_type(dtype)
            found = self._made[identity] = Expr(op, args, dtype, payload, len(self._made))
        return found


def _ordered(x: Expr, y: Expr) -> tuple[Expr, Expr]:
    """The operands of a commutative operation in one order: a constant last."""
    return (y, x) if (x.is_const, x.number) > (y.is_const, y.number) else (x, y)


def _is(x: Expr, value: float) -> bool:
    """Whether x is this constant; for floats, with its sign of zero."""
    if not x.is_const or x.payload != value:
        return False
    return x.dtype.kind != "f" or bool(np.signbit(x.payload) == np.signbit(value))


def _is_ones(x: Expr) -> bool:
    """Whether x is the constant with every bit set."""
    return x.is_const and bool(np.invert(x.payload) == 0)


def _exact_inverse(value: Any) -> Any:
    """1/value where that is a normal power of two, so that multiplying by it divides exactly."""
    if not np.isfinite(value) or abs(np.frexp(value)[0]) != 0.5:
        return None
    with np.errstate(over="ignore"):
        inverse = 1 / value
    tiny = np.finfo(value.dtype).tiny
    return inverse if np.isfinite(inverse) and abs(inverse) >= tiny else None


def _fits(value: Any, dtype: DType) -> bool:
    """Whether a conversion to this integer type is defined."""
    if value.dtype.kind != "f":
        return True
    limits = np.iinfo(dtype)
    return bool(np.isfinite(value)) and limits.min <= int(value) <= limits.max


# -- reading ----------------------------------------------------------------------------------


def walk(exprs: Iterable[Expr], known: Mapping[Expr, Any] | None = None) -> list[Expr]:
    """Every distinct expression below these, arguments first; not below those `known`."""
    order: list[Expr] = []
    seen = set(known or ())
    stack = list(exprs)[::-1]
    while stack:
        top = stack[-1]
        waiting = [] if top in seen else [x for x in top.args if x not in seen]
        if waiting:
            stack.extend(reversed(waiting))
            continue
        stack.pop()
        if top not in seen:
            seen.add(top)
            order.append(top)
    return order


def loads(expr: Expr) -> list[Any]:
    """The keys of the loads below, each once, in the order in which they are needed."""
    return [x.payload for x in walk([expr]) if x.op == "load"]


_COST = {"const": 0, "div": 5, "sqrt": 5, "maximum": 2, "minimum": 2}


def cost(expr: Expr) -> int:
    """About how many instructions compute it, common subexpressions counted once."""
    return sum(20 if x.op in _FUNCTIONS else _COST.get(x.op, 1) for x in walk([expr]))


# -- writing ----------------------------------------------------------------------------------


def emit(
    fn: Function,
    exprs: Sequence[Expr],
    load: Callable[[Any, DType], Value],
    lanes: int,
    memo: MutableMapping[Expr, Value] | None = None,
    *,
    inline: bool = True,
) -> list[Value]:
    """Write the expressions, every value with so many lanes (0: scalars), each distinct one once.

    `load(key, dtype)` gives a load's value, with these lanes. `memo` holds what is written already
    and is added to: keep it for as long as the block written into dominates what follows. With
    `inline` the cheap functions are written in place; without, all are called, for smaller code.
    """
    memo = {} if memo is None else memo
    for x in walk(exprs, memo):
        kind = llvm_type(x.dtype).of(lanes)
        if x.op == "load":
            value = load(x.payload, x.dtype)
        elif x.is_const:
            value = fn.const(x.payload, kind)
        else:
            value = write(fn, x, [memo[a] for a in x.args], kind, inline)
        assert value.type == kind, f"{x.op} {x.payload!r}: {value.type} where {kind} is needed"
        memo[x] = value
    return [memo[x] for x in exprs]
