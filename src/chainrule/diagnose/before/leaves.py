"""What leaves a network: its circuit is walked, so that the names of classes do not matter.

Every node is read as an interval and a kind, from the inputs on: a product with weights may be any
number, a sigmoid is from 0 to 1, whatever came before, and reshaping changes neither. Functions
that are written by hand are known by their form: 1/(1 + exp(−x)), exp(z)/Σ exp(z).
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...circuit import Tensor
from ...circuit.order import circuit_of
from ...nn.module import evaluating
from ...ops import registry, tensor

__all__ = ["VIEWS", "Head", "few_rows", "forward", "read_output", "same", "through", "what_leaves"]

Array = Any
INF = math.inf

# What only moves, copies or lets through: the numbers are the same, in another place.
VIEWS = {"reshape", "transpose", "getitem", "identity", "astype", "broadcast_to", "stop_gradient"}
RISING = {
    "exp", "expm1", "log", "log1p", "log2", "log10", "sqrt", "tanh", "erf", "arctan", "arcsin",
    "sinh", "softplus", "sigmoid", "relu", "elu", "leaky_relu", "softsign", "clip", "hard_tanh",
    "sign", "floor",
}  # fmt: skip
FALLING = {"negative", "erfc"}
FIXED = {
    "sin": (-1.0, 1.0), "cos": (-1.0, 1.0), "sech2": (0.0, 1.0), "silu": (-0.2785, INF),
    "gelu": (-0.17, INF), "log_softmax": (-INF, 0.0),
}  # fmt: skip
YES_OR_NO = {"less", "less_equal", "greater", "greater_equal", "equal", "not_equal", "logical_and",
             "logical_or", "logical_not", "isnan", "isfinite", "keep"}  # fmt: skip
KEEPS = {"sum", "max", "min", "where", "maximum", "minimum", "join", "cumsum_along"}
FREE = {"linear", "input", "parameter", "constant"}


@dataclass(frozen=True)
class Head:
    """What an output is: its kind, the range it can take, its width.

    `kind` is the operation that decides ("softmax", "sigmoid", "tanh", "relu", …), "linear" for
    sums of weighted inputs, "bounded" for other forms with a finite range, else "unknown".
    `normalised` says whether every row adds up to 1 (for log_softmax, in exp); `ones` whether it
    is normalised over one unit, and so constant; `twice` whether what is normalised was so before.
    """

    kind: str
    low: float = -INF
    high: float = INF
    width: int = 0
    normalised: bool = False
    ones: bool = False
    twice: bool = False

    @property
    def is_probability(self) -> bool:
        """Whether it can only be from 0 to 1."""
        return self.low >= -1e-9 and self.high <= 1 + 1e-6

    @property
    def bounded(self) -> bool:
        """Whether it cannot be every number."""
        return self.low > -INF or self.high < INF


UNKNOWN = Head("unknown")


def what_leaves(model: Any, X: Array) -> Head:
    """What the model's output is, read from its circuit on a few rows.

    >>> from chainrule import nn
    >>> head = what_leaves(nn.Sequential(nn.Linear(2, 3), nn.Softmax()), [[0.0, 1.0]])
    >>> head.kind, head.low, head.high, head.width, head.normalised
    ('softmax', 0.0, 1.0, 3, True)
    """
    X = np.asarray(X)
    out = forward(model, X)
    # A softmax over as many rows as there are outputs could pass for one over the outputs.
    if np.ndim(out) > 1 and np.shape(out)[0] == np.shape(out)[-1]:
        out = forward(model, np.concatenate([X, X[:1]]))
    return read_output(out)


def read_output(out: Any) -> Head:
    """The same of an output that is there already."""
    if not isinstance(out, Tensor):
        return replace(UNKNOWN, width=int(np.shape(out)[-1]) if np.ndim(out) > 1 else 1)
    width = out.shape[-1] if out.ndim > 1 else 1
    found = _read(out)
    values = np.asarray(out.value, np.float64)
    if found.kind == "log_softmax":
        values = np.exp(np.minimum(values, 0))
    sums = values.sum(-1) if values.ndim > 1 else values
    normalised = bool(np.isfinite(values).all() and (np.abs(sums - 1) < 1e-3).all())
    if found.kind not in ("softmax", "log_softmax"):
        normalised = normalised and width > 1 and bool((values >= -1e-6).all())
    return replace(found, width=int(width), normalised=normalised)


def few_rows(X: Array, rows: int = 3) -> Array:
    """Some rows of X, repeated if need be, with 0 where a number is not finite."""
    X = np.asarray(X)
    some = X[np.arange(rows) % len(X)]
    if some.dtype.kind != "f":
        return some
    return np.nan_to_num(some, nan=0.0, posinf=0.0, neginf=0.0)


def forward(model: Any, X: Array, *, evaluate: bool = True) -> Any:
    """The output, recorded from its very inputs on; nothing of the model moves.

    In evaluation mode, or as a copy in the model's own mode.
    """
    X = np.asarray(X)
    whole = getattr(model, "takes_integers", False) and X.dtype.kind in "iub"
    dtype = model.dtype
    if dtype is not None and not whole:
        X = X.astype(dtype)
    given = X if whole else tensor(X, name="X")
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        if not evaluate:
            return copy.deepcopy(model)(given)
        with evaluating():
            return model(given)


# -- reading ---------------------------------------------------------------------------------------


def _read(out: Tensor) -> Head:
    known: dict[Tensor, Head] = {}
    with np.errstate(all="ignore"):
        for node in circuit_of(out):
            known[node] = _leaf(node) if node.op is None else _node(node, known)
    return known[out]


def _leaf(node: Tensor) -> Head:
    if node.requires_grad or node.dtype.kind not in "fiub" or not node.size:
        return Head("parameter")
    return _ranged("constant", float(np.min(node.value)), float(np.max(node.value)))


def _ranged(kind: str, low: float, high: float) -> Head:
    low = -INF if math.isnan(low) else low
    high = INF if math.isnan(high) else high
    return Head(kind, low, high)


def _node(node: Tensor, known: dict[Tensor, Head]) -> Head:
    name, inputs = node.op.name, [known[x] for x in node.inputs]
    if name in VIEWS:
        return inputs[0]
    if (known_form := _by_hand(node, known)) is not None:
        return known_form
    if name in ("softmax", "log_softmax"):
        return _normalised(node, inputs[0])
    if name in KEEPS:
        return _kept(node, inputs)
    if name in _ARITHMETIC:
        return _arithmetic(name, node, inputs)
    if name in YES_OR_NO:
        return Head("bounded", 0.0, 1.0)
    if name == "matmul":
        return Head("linear")
    if name in FIXED:
        return Head(name, *FIXED[name])
    if name in RISING or name in FALLING:
        return _monotone(node, inputs[0])
    if name in ("square", "abs", "power", "reciprocal", "logsumexp", "prelu"):
        return _curved(node, inputs)
    return UNKNOWN


def _normalised(node: Tensor, given: Head) -> Head:
    """Softmax along an axis: what goes in with a small range leaves with one."""
    name, x = node.op.name, node.inputs[0]
    count = x.shape[node.params.get("axis", -1)] if x.ndim else 1
    apart = given.high - given.low if given.bounded else INF
    most = 1 / (1 + (count - 1) * math.exp(-apart)) if apart < 700 else 1.0
    least = 1 / (1 + (count - 1) * math.exp(apart)) if apart < 700 else 0.0
    twice = given.kind == "softmax"
    if name == "log_softmax":
        low = math.log(least) if least else -INF
        return Head(name, low, math.log(most), ones=count == 1, twice=twice)
    return Head(name, least, most, ones=count == 1, twice=twice)


def _kept(node: Tensor, inputs: list[Head]) -> Head:
    """A choice among numbers, or a sum of them."""
    name = node.op.name
    if name in ("sum", "cumsum_along"):
        (x,) = inputs
        parts = max(1, node.inputs[0].size // max(1, node.size if name == "sum" else 1))
        low, high = min(x.low, x.low * parts), max(x.high, x.high * parts)
        kind = "linear" if x.kind in FREE else "bounded" if x.bounded else "unknown"
        return _ranged(kind, low, high)
    chosen = inputs[1:] if name == "where" else inputs
    kinds = {x.kind for x in chosen}
    if name == "maximum" and len(chosen) == 2 and "constant" in kinds:
        bound = next(x for x in chosen if x.kind == "constant")
        other = chosen[1 - chosen.index(bound)]
        kind = "relu" if bound.low == bound.high == 0 else "bounded"
        return _ranged(kind, max(bound.low, other.low), max(bound.high, other.high))
    low, high = min(x.low for x in chosen), max(x.high for x in chosen)
    if name == "minimum":
        high = min(x.high for x in chosen)
    if name == "maximum":
        low = max(x.low for x in chosen)
    kinds -= {"constant"} if len(kinds) > 1 else set()
    kind = kinds.pop() if len(kinds) == 1 else "linear" if kinds <= FREE else "unknown"
    return _ranged("linear" if kind in FREE and kind != "constant" else kind, low, high)


def _monotone(node: Tensor, x: Head) -> Head:
    """f(low) to f(high), by the operation's own value; the other way round where it falls."""
    name, value = node.op.name, node.op.value
    ends = [_end(value, x.low, node), _end(value, x.high, node)]
    if name == "clip" and x.kind in ("softmax", "sigmoid"):
        return replace(x, low=ends[0], high=ends[1])
    low, high = ends[::-1] if name in FALLING else ends
    low = 0.0 if name == "sqrt" else low
    kind = x.kind if name == "negative" and x.kind in FREE else name
    if name == "negative" and kind == "negative":
        kind = "bounded"
    return _ranged("linear" if kind in FREE else kind, low, high)


def _end(value: Callable[..., Any], x: float, node: Tensor) -> float:
    return float(value(np.float64(x), **node.params))


def _curved(node: Tensor, inputs: list[Head]) -> Head:
    name, x = node.op.name, inputs[0]
    if name == "reciprocal":
        return _divided(Head("constant", 1.0, 1.0), x)
    if name == "logsumexp":
        return _ranged("linear", x.low, INF)
    if name == "prelu":
        return Head("prelu")
    squares = name in ("square", "abs")
    if name == "power":
        exponent = inputs[1]
        squares = exponent.kind == "constant" and exponent.low == exponent.high
        squares = squares and exponent.low % 2 == 0
        if not squares:
            return _ranged("unknown", 0.0 if x.low >= 0 else -INF, INF)
    most = max(abs(x.low), abs(x.high))
    top = most if name == "abs" else INF if name == "power" else most**2
    return Head("square" if squares and name != "abs" else "abs", 0.0, top)


# -- arithmetic ------------------------------------------------------------------------------------


def _arithmetic(name: str, node: Tensor, inputs: list[Head]) -> Head:
    a, b = inputs
    found = _ARITHMETIC[name](a, b)
    kinds = {a.kind, b.kind}
    if found.bounded:
        return replace(found, kind="bounded")
    if name in ("add", "subtract"):
        return replace(found, kind="linear" if kinds & FREE else "unknown")
    scaled = a.kind in FREE and b.kind in FREE and (name == "multiply" or b.kind != "linear")
    return replace(found, kind="linear" if scaled else "unknown")


def _added(a: Head, b: Head) -> Head:
    return _ranged("bounded", a.low + b.low, a.high + b.high)


def _subtracted(a: Head, b: Head) -> Head:
    return _ranged("bounded", a.low - b.high, a.high - b.low)


def _multiplied(a: Head, b: Head) -> Head:
    corners = [_times(x, y) for x in (a.low, a.high) for y in (b.low, b.high)]
    return _ranged("bounded", min(corners), max(corners))


def _times(x: float, y: float) -> float:
    return 0.0 if x == 0 or y == 0 else x * y


def _divided(a: Head, b: Head) -> Head:
    if b.low < 0 < b.high:
        return UNKNOWN
    ends = [(1 / x if x else (INF if b.low >= 0 else -INF)) for x in (b.low, b.high)]
    return _multiplied(a, Head("bounded", min(ends), max(ends)))


_ARITHMETIC: dict[str, Callable[[Head, Head], Head]] = {
    "add": _added,
    "subtract": _subtracted,
    "multiply": _multiplied,
    "divide": _divided,
}


# -- forms written by hand -------------------------------------------------------------------------


def through(node: Tensor) -> Tensor:
    """The node behind all views of it."""
    while node.op is not None and node.op.name in VIEWS and node.op.name != "getitem":
        node = node.inputs[0]
    return node


def same(a: Tensor, b: Tensor, depth: int = 6) -> bool:
    """Whether two nodes are one, or were computed alike from the same ones."""
    a, b = through(a), through(b)
    if a is b:
        return True
    if a.op is None or b.op is None:
        leaves = a.op is b.op and not a.requires_grad and not b.requires_grad
        return leaves and a.shape == b.shape and bool(np.array_equal(a.value, b.value))
    if depth == 0 or a.op is not b.op or a.shape != b.shape or len(a.inputs) != len(b.inputs):
        return False
    return all(same(x, y, depth - 1) for x, y in zip(a.inputs, b.inputs, strict=True))


def _is(node: Tensor, name: str) -> bool:
    return node.op is registry[name]


def _by_hand(node: Tensor, known: dict[Tensor, Head]) -> Head | None:
    """a/Σa and a/(1 + a) of numbers above 0; 1/(1 + exp); x − ln Σ exp(x); exp and log of them."""
    if _is(node, "exp") and known[node.inputs[0]].kind == "log_softmax":
        given = known[node.inputs[0]]
        return replace(given, kind="softmax", low=math.exp(given.low), high=math.exp(given.high))
    if _is(node, "log") and known[node.inputs[0]].kind == "softmax":
        return replace(known[node.inputs[0]], kind="log_softmax", low=-INF, high=0.0)
    if _is(node, "subtract"):
        return _log_ratio(*node.inputs)
    if _is(node, "reciprocal"):
        return _logistic(None, through(node.inputs[0]), known)
    if not _is(node, "divide"):
        return None
    above, below = node.inputs[0], through(node.inputs[1])
    if _is(below, "sum") and same(above, below.inputs[0]) and known[below.inputs[0]].low >= 0:
        parts = below.inputs[0].size // max(1, below.size)
        power = _exponent(below.inputs[0])
        twice = power is not None and known[power].kind == "softmax"
        return Head("softmax", 0.0, 1.0, ones=parts == 1, twice=twice)
    return _logistic(above, below, known)


def _logistic(above: Tensor | None, below: Tensor, known: dict[Tensor, Head]) -> Head | None:
    """A number above 0 over itself and a constant above 0; or 1 over 1 and such a number."""
    if not _is(below, "add"):
        return None
    for one, other in (below.inputs, below.inputs[::-1]):
        plain = known[one].kind == "constant" and known[one].low > 0
        if not plain or known[other].low < 0 or known[other].kind == "constant":
            continue
        if above is None or (known[above].kind == "constant" and same(above, one)):
            return Head("sigmoid" if _is(through(other), "exp") else "bounded", 0.0, 1.0)
        if same(above, other):
            return Head("sigmoid" if _is(through(other), "exp") else "bounded", 0.0, 1.0)
    return None


def _exponent(node: Tensor) -> Tensor | None:
    node = through(node)
    return node.inputs[0] if _is(node, "exp") else None


def _log_ratio(x: Tensor, total: Tensor) -> Head | None:
    total = through(total)
    if _is(total, "logsumexp") and same(x, total.inputs[0]):
        return Head("log_softmax", -INF, 0.0)
    if _is(total, "log") and _is(through(total.inputs[0]), "sum"):
        power = _exponent(through(total.inputs[0]).inputs[0])
        if power is not None and same(x, power):
            return Head("log_softmax", -INF, 0.0)
    return None
