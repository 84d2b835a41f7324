"""The same function with fewer nodes, bit for bit: every rule here is exact in IEEE arithmetic.

One pass in order: a node's inputs are simplified before it, so a rule looks only at what is near.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..ops import registry
from .graph import Graph, Node, Shape
from .interpret import evaluated
from .weak import WeakNumbers

__all__ = ["POINTWISE", "RULES", "Rule", "simplify"]

LARGEST = 65536  # elements of a folded constant: more is faster computed than loaded

_BLOCKERS = (
    "less", "less_equal", "greater", "greater_equal", "equal", "not_equal", "logical_and",
    "logical_or", "logical_not", "isnan", "isfinite", "sign", "floor", "stop_gradient",
)  # fmt: skip
POINTWISE = frozenset({op.name for op in registry.operations() if op.facts.local} | {*_BLOCKERS})

# One rounding at most, so that one element alone and one among many come out the same.
_EXACT = POINTWISE & {
    "add", "subtract", "multiply", "divide", "negative", "abs", "square", "reciprocal", "sqrt",
    "maximum", "minimum", "relu", "where", "astype", "identity", *_BLOCKERS,
}  # fmt: skip


@dataclass(frozen=True)
class Rule:
    """A rewriting: for a node of one of `ops`, `apply` gives the number of an equal node or None.

    `why` says why it is exact, NaN, ∞ and −0 included.
    """

    name: str
    ops: frozenset[str]
    why: str
    apply: Callable[[_Work, Node], int | None]


def simplify(graph: Graph) -> Graph:
    """The graph with constants folded, equal nodes shared, exact rules applied, dead nodes gone.

    Inputs stay, used or not. The results are the same bit for bit, but for what a NaN carries.
    """
    work = _Work()
    number: list[int] = []
    for node in graph.nodes:
        inputs = tuple([number[k] for k in node.inputs])
        number.append(work.enter(_on(node, inputs)))
    return _living(work.out, [number[k] for k in graph.inputs], [number[k] for k in graph.outputs])


def _on(node: Node, inputs: tuple[int, ...]) -> Node:
    """A node like this one on other inputs."""
    return Node(node.op, inputs, node.params, node.shape, node.dtype, node.label, node.origin)


class _Work:
    """The new graph; `enter` gives the number of a node, of an equal one or of a simpler one."""

    def __init__(self) -> None:
        self.out = Graph()
        self.weak = WeakNumbers()
        self.known: dict[Any, int] = {}

    def enter(self, node: Node) -> int:
        if node.op == "input":
            return self._append(node)
        for rule in _BY_OP.get(node.op, ()):
            made = rule.apply(self, node)
            if made is not None and self._stands_for(made, node):
                return self._named(made, node)
        folded = self._folded(node)
        if folded is not None:
            return self.enter(folded)
        key = (node.op, node.inputs, _key(node.params) if node.params else ())
        found = self.known.get(key)
        if found is not None:
            return self._named(found, node)
        self.known[key] = made = self._append(node)
        return made

    def _append(self, node: Node) -> int:
        self.out.nodes.append(node)
        self.weak.enter(self.out)
        return len(self.out.nodes) - 1

    def _named(self, made: int, node: Node) -> int:
        """A name that the user gave is not lost, unless it would rename an input."""
        there = self.out.nodes[made]
        if node.label and not there.label and there.op not in ("input", "constant"):
            there.label = node.label
        return made

    def _stands_for(self, made: int, node: Node) -> bool:
        there = self.out.nodes[made]
        return (
            there.shape == node.shape
            and there.dtype == node.dtype
            and self.weak[made] == self.weak.would_be(node)
        )

    def _folded(self, node: Node) -> Node | None:
        """The node's value as a constant, where all that it reads is constant."""
        nodes = self.out.nodes
        for k in node.inputs:
            if nodes[k].op != "constant":
                return None
        if node.op in ("constant", "broadcast_to", "call") or math.prod(node.shape) > LARGEST:
            return None
        sources = [nodes[k] for k in node.inputs]
        operands = [evaluated(x, ()) for x in sources]
        try:
            with np.errstate(all="ignore"):
                value = evaluated(node, operands)
        except ArithmeticError:  # of Python numbers: 1/0 raises when it runs
            return None
        params: dict[str, Any] = {"value": np.asarray(value)}
        if (params["value"].shape, params["value"].dtype) != (node.shape, node.dtype):
            return None
        if value.__class__ in (float, int):
            params["weak"] = True
        return replace(node, op="constant", inputs=(), params=params)

    # -- what rules say -----------------------------------------------------------------------

    def node(self, number: int) -> Node:
        return self.out.nodes[number]

    def make(
        self,
        like: Node,
        op: str,
        inputs: Sequence[int],
        params: Mapping[str, Any] | None = None,
        *,
        shape: Shape | None = None,
        dtype: Any = None,
    ) -> int:
        """The number of a new node in the place of `like`, with its shape and dtype by default."""
        return self.enter(
            Node(
                op,
                tuple(inputs),
                params or {},
                like.shape if shape is None else shape,
                like.dtype if dtype is None else np.dtype(dtype),
                "",
                like.origin,
            )
        )

    def spread(self, like: Node, x: int) -> int:
        """x repeated to the shape of `like`."""
        return self.make(
            like, "broadcast_to", (x,), {"shape": like.shape}, dtype=self.node(x).dtype
        )

    def strong(self, x: int) -> int | None:
        """A constant that is a Python number, as the NumPy number that np.asarray makes of it."""
        node = self.node(x)
        if node.op != "constant" or not self.weak[x]:
            return None
        return self.enter(replace(node, params={"value": node.params["value"]}))

    def is_all(self, number: int, value: float) -> bool:
        """Whether the node is a constant, each element of which is this number (+0 is not −0)."""
        node = self.out.nodes[number]
        if node.op == "broadcast_to":
            return self.is_all(node.inputs[0], value)
        if node.op != "constant" or math.prod(node.shape) != 1:
            return False
        there = node.params["value"].reshape(())[()]
        return bool(there == value) and bool(np.signbit(there) == np.signbit(value))

    def inner(self, number: int, op: str) -> Node | None:
        """The node where it is of that operation."""
        node = self.out.nodes[number]
        return node if node.op == op else None


def _key(value: Any) -> Any:
    """Parameters as a dictionary's key: two are equal where they mean the same to the bit."""
    if isinstance(value, np.ndarray):
        return (value.dtype.str, value.shape, value.tobytes())
    if isinstance(value, (float, int, np.generic)):
        return (type(value), repr(value))
    if isinstance(value, slice):
        return ("slice", _key(value.start), _key(value.stop), _key(value.step))
    if isinstance(value, Mapping):
        return tuple((name, _key(one)) for name, one in value.items())
    if isinstance(value, (tuple, list)):
        return tuple(map(_key, value))
    return value


def _living(graph: Graph, inputs: list[int], outputs: list[int]) -> Graph:
    """The nodes that an output needs, and the inputs."""
    alive = set(inputs)
    waiting = [k for k in outputs if k not in alive]
    while waiting:
        number = waiting.pop()
        if number not in alive:
            alive.add(number)
            waiting += graph.nodes[number].inputs
    moved: dict[int, int] = {}
    out = Graph()
    for number, node in enumerate(graph.nodes):
        if number in alive:
            moved[number] = len(out.nodes)
            out.nodes.append(_on(node, tuple([moved[k] for k in node.inputs])))
    out.inputs = [moved[k] for k in inputs]
    out.outputs = [moved[k] for k in outputs]
    return out


# -- the rules --------------------------------------------------------------------------------

RULES: list[Rule] = []
_BY_OP: dict[str, list[Rule]] = {}


def _rule(ops: str | frozenset[str], why: str) -> Callable[[Any], Any]:
    def define(apply: Callable[[_Work, Node], int | None]) -> Callable[[_Work, Node], int | None]:
        names = frozenset(ops.split()) if isinstance(ops, str) else ops
        made = Rule(apply.__name__.strip("_").replace("_", " "), names, why, apply)
        RULES.append(made)
        for op in names:
            _BY_OP.setdefault(op, []).append(made)
        return apply

    return define


@_rule("constant", "the same numbers, written once and repeated")
def _uniform_constant(work: _Work, node: Node) -> int | None:
    value = node.params["value"]
    if value.size < 2:
        return None
    if any(value.strides):  # else it is one number already, repeated
        bits = np.ascontiguousarray(value).reshape(-1).view(np.uint8).reshape(value.size, -1)
        if (bits[-1] != bits[0]).any() or (bits != bits[0]).any():
            return None
    first = {"value": np.asarray(value[(0,) * value.ndim])}
    return work.spread(node, work.make(node, "constant", (), first, shape=()))


@_rule("identity stop_gradient", "they return their input")
def _identity(work: _Work, node: Node) -> int | None:
    (x,) = node.inputs
    return work.strong(x) or x


@_rule("multiply", "x·1 is x, with its sign and its NaN")
def _times_one(work: _Work, node: Node) -> int | None:
    x, y = node.inputs
    if not work.is_all(y, 1):
        x, y = y, x
    if not work.is_all(y, 1) or work.node(x).dtype != node.dtype:
        return None
    return x if work.node(x).shape == node.shape or work.weak[x] else work.spread(node, x)


@_rule("divide", "x/1 is x, with its sign and its NaN")
def _over_one(work: _Work, node: Node) -> int | None:
    x, y = node.inputs
    return x if work.is_all(y, 1) else None


@_rule("subtract", "x − 0 is x, and −0 − 0 is −0")
def _minus_zero(work: _Work, node: Node) -> int | None:
    x, y = node.inputs
    return x if work.is_all(y, 0.0) else None


@_rule("add", "x + (−0) is x, for x = +0 too")
def _plus_negative_zero(work: _Work, node: Node) -> int | None:
    x, y = node.inputs
    return x if work.is_all(y, -0.0) else y if work.is_all(x, -0.0) else None


@_rule("negative", "the sign bit changes twice")
def _double_negative(work: _Work, node: Node) -> int | None:
    inner = work.inner(node.inputs[0], "negative")
    return inner.inputs[0] if inner is not None else None


@_rule("astype", "the dtype is the same")
def _same_dtype(work: _Work, node: Node) -> int | None:
    (x,) = node.inputs
    return work.strong(x) or x


@_rule("transpose", "elements only move, and come to the same place")
def _transposes(work: _Work, node: Node) -> int | None:
    (x,), axes = node.inputs, node.params["axes"]
    if tuple(axes) == tuple(range(len(axes))):
        return x
    inner = work.inner(x, "transpose")
    if inner is None:
        return None
    both = tuple([inner.params["axes"][k] for k in axes])
    return work.make(node, "transpose", inner.inputs, {"axes": both})


@_rule("reshape", "elements keep their order")
def _reshapes(work: _Work, node: Node) -> int | None:
    (x,) = node.inputs
    if work.node(x).shape == node.shape:
        return work.strong(x) or x
    inner = work.inner(x, "reshape")
    if inner is None:
        return None
    return work.make(node, "reshape", inner.inputs, {"shape": node.shape})


@_rule("reshape", "a reduced axis of length 1 may stay or go")
def _reduction_in_shape(work: _Work, node: Node) -> int | None:
    inner = work.node(node.inputs[0])
    if inner.op not in ("sum", "max", "min"):
        return None
    before, axes = work.node(inner.inputs[0]).shape, inner.params["axis"]
    kept = tuple([1 if k in axes else n for k, n in enumerate(before)])
    gone = tuple([n for k, n in enumerate(before) if k not in axes])
    if node.shape not in (kept, gone):
        return None
    params = {"axis": axes, "keepdims": node.shape == kept}
    return work.make(node, inner.op, inner.inputs, params)


@_rule("broadcast_to", "the same element is repeated")
def _broadcasts(work: _Work, node: Node) -> int | None:
    (x,) = node.inputs
    if (strong := work.strong(x)) is not None:
        return work.spread(node, strong)
    if work.node(x).shape == node.shape:
        return x
    inner = work.inner(x, "broadcast_to")
    return None if inner is None else work.spread(node, inner.inputs[0])


@_rule("reshape transpose", "an array of equal elements has no order")
def _moved_repetition(work: _Work, node: Node) -> int | None:
    inner = work.inner(node.inputs[0], "broadcast_to")
    if inner is None or work.node(inner.inputs[0]).shape:
        return None
    return work.spread(node, inner.inputs[0])


@_rule("sum", "NumPy adds one element to 0, which makes +0 of −0 and changes nothing else")
def _sum_of_one(work: _Work, node: Node) -> int | None:
    (x,) = node.inputs
    inner = work.node(x)
    if inner.dtype != node.dtype or any(inner.shape[k] != 1 for k in node.params["axis"]):
        return None
    flat = work.make(node, "reshape", (x,), {"shape": node.shape})
    if node.dtype.kind != "f":
        return flat
    zero = work.make(node, "constant", (), {"value": np.zeros((), node.dtype)}, shape=())
    return work.make(node, "add", (flat, zero))


@_rule("max min", "the extreme of one element is that element")
def _extreme_of_one(work: _Work, node: Node) -> int | None:
    (x,) = node.inputs
    if any(work.node(x).shape[k] != 1 for k in node.params["axis"]):
        return None
    return work.make(node, "reshape", (x,), {"shape": node.shape})


@_rule("greater", "max(x, 0) > 0 exactly where x > 0, and both are false for NaN")
def _mask_of_relu(work: _Work, node: Node) -> int | None:
    x, zero = node.inputs
    known = work.known.get(("relu", (x,), ()))
    if known is None or not (work.is_all(zero, 0.0) or work.is_all(zero, -0.0)):
        return None
    return work.make(node, "greater", (known, zero))


@_rule("not_equal equal", "a boolean differs from 0 where it holds")
def _boolean_against_zero(work: _Work, node: Node) -> int | None:
    x, zero = node.inputs
    if work.node(x).dtype != bool or not work.is_all(zero, 0):
        return None
    if node.op == "not_equal":
        return x
    return work.make(node, "logical_not", (x,), shape=work.node(x).shape)


@_rule("where", "both ways lead to the same, or only one is ever taken")
def _one_way(work: _Work, node: Node) -> int | None:
    condition, x, y = node.inputs
    if x == y or work.is_all(condition, 1):
        return x
    return y if work.is_all(condition, 0) else None


@_rule("where", "to choose by the contrary is to choose the other")
def _contrary(work: _Work, node: Node) -> int | None:
    condition, x, y = node.inputs
    inner = work.inner(condition, "logical_not")
    return None if inner is None else work.make(node, "where", (*inner.inputs, y, x))


@_rule(POINTWISE, "NumPy repeats the operand by itself")
def _implicit_broadcast(work: _Work, node: Node) -> int | None:
    if len(node.inputs) == 1 or all(work.node(k).op != "broadcast_to" for k in node.inputs):
        return None
    inputs = list(node.inputs)
    shapes = [work.node(k).shape for k in inputs]
    for place, k in enumerate(inputs):
        inner = work.inner(k, "broadcast_to")
        if inner is None or work.weak[inner.inputs[0]]:
            continue
        small = work.node(inner.inputs[0]).shape
        if np.broadcast_shapes(*shapes[:place], small, *shapes[place + 1 :]) == node.shape:
            inputs[place], shapes[place] = inner.inputs[0], small
    if tuple(inputs) == node.inputs:
        return None
    return work.enter(_on(node, tuple(inputs)))


@_rule(_EXACT, "equal elements have equal results, rounded alike")
def _pointwise_of_repetition(work: _Work, node: Node) -> int | None:
    sources = []
    for k in node.inputs:
        inner = work.inner(k, "broadcast_to")
        sources.append(k if inner is None or work.weak[inner.inputs[0]] else inner.inputs[0])
    if tuple(sources) == node.inputs or any(work.node(k).shape for k in sources):
        return None
    return work.spread(node, work.enter(replace(node, inputs=tuple(sources), shape=())))
