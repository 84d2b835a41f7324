"""Structural gates and indexing in the few operations that are scheduled and written natively.

What remains: pointwise operations; sum, max, min, argmax and argmin over a tuple of axes; matmul of
[M, K] × [K, N] or [B, M, K] × [B, K, N]; reshape, transpose, broadcast_to; `slice` (start, step and
count of each axis); `gather` and `scatter_add` along one axis; join, cumsum_along and keep.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .graph import Graph, Node, Shape
from .weak import WeakNumbers

__all__ = ["decompose"]


def decompose(graph: Graph) -> Graph:
    """The same function in core operations; what has no such form stays as it is.

    Every rule computes what the operation's own value computes, in the same order: a softmax
    subtracts the row's largest element, and a row of infinities keeps IEEE's answer.
    """
    work = _Work()
    for node in graph.nodes:
        work.enter(node)
    work.out.outputs = [work.number[k] for k in graph.outputs]
    return work.out


class _Work:
    """A new graph, node by node; `number` leads from the old nodes to the new ones."""

    def __init__(self) -> None:
        self.out = Graph()
        self.number: list[int] = []
        self.weak = WeakNumbers()
        self.label = self.origin = ""

    def enter(self, node: Node) -> None:
        """Append what the node becomes."""
        inputs = [self.number[k] for k in node.inputs]
        self.label, self.origin = "", node.origin
        rule = _RULES.get(node.op)
        made = rule(self, node, inputs) if rule is not None else None
        if made is None:
            made = self._copied(node, inputs)
        elif node.label and not self.out.nodes[made].label and made not in inputs:
            self.out.nodes[made].label = node.label
        self.number.append(made)

    def _copied(self, node: Node, inputs: Sequence[int]) -> int:
        if node.op == "input":
            made = self.out.input(node.shape, node.dtype, node.label)
            self.out.nodes[made].params = node.params
        else:
            if len(inputs) > 1:
                inputs = self._strong(inputs)
            made = self.out.add(
                node.op,
                inputs,
                node.params,
                shape=node.shape,
                dtype=node.dtype,
                label=node.label,
                origin=node.origin,
            )
        self.weak.enter(self.out)
        return made

    def _strong(self, inputs: Sequence[int]) -> list[int]:
        """A computed Python number in the dtype of the arrays that it meets; constants stay."""
        kinds = [self.out.nodes[k].dtype for k in inputs if not self.weak[k]]
        if not kinds or len(kinds) == len(inputs):
            return list(inputs)
        return [
            k
            if not self.weak[k] or self.out.nodes[k].op == "constant"
            else self.cast(k, np.result_type(*kinds, self.out.nodes[k].dtype.type(0).item()))
            for k in inputs
        ]

    # -- making nodes -------------------------------------------------------------------------

    def make(
        self, op: str, inputs: Sequence[int], params: Mapping[str, Any], shape: Shape, dtype: Any
    ) -> int:
        made = self.out.add(op, inputs, params, shape=shape, dtype=dtype, origin=self.origin)
        self.weak.enter(self.out)
        return made

    def shape(self, x: int) -> Shape:
        return self.out.nodes[x].shape

    def dtype(self, x: int) -> np.dtype[Any]:
        return self.out.nodes[x].dtype

    def number_of(self, value: float) -> int:
        """A Python number as a constant."""
        params = {"value": np.asarray(value), "weak": True}
        return self.make("constant", (), params, (), np.asarray(value).dtype)

    def constant(self, value: Any) -> int:
        value = np.asarray(value)
        return self.make("constant", (), {"value": value}, value.shape, value.dtype)

    def pointwise(self, op: str, *inputs: int, dtype: Any = None) -> int:
        shape = np.broadcast_shapes(*[self.shape(x) for x in inputs])
        return self.make(op, inputs, {}, shape, dtype or self.dtype(inputs[0]))

    def cast(self, x: int, dtype: Any) -> int:
        if self.dtype(x) == dtype and not self.weak[x]:
            return x
        return self.make("astype", (x,), {"dtype": np.dtype(dtype)}, self.shape(x), dtype)

    def reshape(self, x: int, shape: Sequence[int]) -> int:
        if tuple(shape) == self.shape(x):
            return x
        return self.make("reshape", (x,), {"shape": tuple(shape)}, tuple(shape), self.dtype(x))

    def broadcast(self, x: int, shape: Sequence[int]) -> int:
        if tuple(shape) == self.shape(x):
            return x
        return self.make("broadcast_to", (x,), {"shape": tuple(shape)}, tuple(shape), self.dtype(x))

    def reduce(self, op: str, x: int, axes: Sequence[int]) -> int:
        """Over the axes, which stay with length 1."""
        shape = tuple([1 if k in axes else n for k, n in enumerate(self.shape(x))])
        return self.make(op, (x,), {"axis": tuple(axes), "keepdims": True}, shape, self.dtype(x))


# -- rows -------------------------------------------------------------------------------------


def _shifted(work: _Work, x: int, axes: Sequence[int]) -> tuple[int, int]:
    """x less its largest element, and that; 0 is subtracted where it is not finite."""
    largest = work.reduce("max", x, axes)
    finite = work.pointwise("isfinite", largest, dtype=bool)
    safe = work.pointwise("where", finite, largest, work.number_of(0), dtype=work.dtype(x))
    return work.pointwise("subtract", x, safe), safe


def _softmax(work: _Work, node: Node, inputs: list[int]) -> int | None:
    axes = [node.params["axis"] % len(node.shape)]
    if 0 in node.shape:
        return None
    x = work.cast(inputs[0], node.dtype)
    beta = node.params["beta"]
    if beta != 1:
        x = work.pointwise("multiply", x, work.number_of(beta))
    e = work.pointwise("exp", _shifted(work, x, axes)[0])
    return work.pointwise("divide", e, work.reduce("sum", e, axes))


def _log_softmax(work: _Work, node: Node, inputs: list[int]) -> int | None:
    axes = [node.params["axis"] % len(node.shape)]
    if 0 in node.shape:
        return None
    shifted, _ = _shifted(work, work.cast(inputs[0], node.dtype), axes)
    total = work.reduce("sum", work.pointwise("exp", shifted), axes)
    return work.pointwise("subtract", shifted, work.pointwise("log", total))


def _logsumexp(work: _Work, node: Node, inputs: list[int]) -> int | None:
    x = work.cast(inputs[0], node.dtype)
    if 0 in work.shape(x):
        return None
    shifted, safe = _shifted(work, x, node.params["axis"])
    total = work.reduce("sum", work.pointwise("exp", shifted), node.params["axis"])
    return work.reshape(work.pointwise("add", work.pointwise("log", total), safe), node.shape)


# -- reductions -------------------------------------------------------------------------------


def _sum(work: _Work, node: Node, inputs: list[int]) -> int:
    """In the dtype of the result: NumPy adds small integers and booleans up as 64-bit ones."""
    x = work.cast(inputs[0], node.dtype)
    return work.make("sum", (x,), node.params, node.shape, node.dtype)


def _cumsum(work: _Work, node: Node, inputs: list[int]) -> int:
    x = work.cast(inputs[0], node.dtype)
    return work.make("cumsum_along", (x,), node.params, node.shape, node.dtype)


def _argument(work: _Work, node: Node, inputs: list[int]) -> int:
    """Over one axis, in a tuple: over all axes, over the flattened array."""
    x, axis = inputs[0], node.params["axis"]
    ndim = len(work.shape(x))
    if axis is None:
        x, axis = work.reshape(x, (math.prod(work.shape(x)),)), 0
    axis = int(axis) % max(ndim, 1)
    shape = work.shape(x)
    params = {"axis": (axis,), "keepdims": False}
    made = work.make(node.op, (x,), params, shape[:axis] + shape[axis + 1 :], node.dtype)
    return work.reshape(made, node.shape)


# -- products ---------------------------------------------------------------------------------


def _matmul(work: _Work, node: Node, inputs: list[int]) -> int:
    """Vectors as matrices of one row or column; equal batches along one axis, or rows alone."""
    a, b = [work.cast(x, node.dtype) for x in inputs]
    if len(work.shape(a)) == 1:
        a = work.reshape(a, (1, *work.shape(a)))
    if len(work.shape(b)) == 1:
        b = work.reshape(b, (*work.shape(b), 1))
    (*first, m, k), (*second, _, n) = work.shape(a), work.shape(b)
    if math.prod(second) == 1:  # one matrix for all rows
        a, b = work.reshape(a, (math.prod(first) * m, k)), work.reshape(b, (k, n))
        shape: Shape = (math.prod(first) * m, n)
    else:
        batch = np.broadcast_shapes(tuple(first), tuple(second))
        size = math.prod(batch)
        a = work.reshape(work.broadcast(a, (*batch, m, k)), (size, m, k))
        b = work.reshape(work.broadcast(b, (*batch, k, n)), (size, k, n))
        shape = (size, m, n)
    return work.reshape(work.make("matmul", (a, b), {}, shape, node.dtype), node.shape)


# -- indexing ---------------------------------------------------------------------------------


class _Index:
    """An index in canonical form: a slice of every axis, then positions along merged axes.

    `start`, `step` and `count` describe the slices. Without positions, `shape` is the result's.
    With them, the axes from `low` to `high` of the sliced array are merged into one, and
    `positions` picks along it.
    """

    def __init__(self, shape: Shape, index: Any) -> None:
        parts = _whole(shape, index)
        self.start: list[int] = []
        self.step: list[int] = []
        self.count: list[int] = []
        self.positions: np.ndarray[Any, Any] | None = None
        self.low = self.high = 0
        arrays = any(isinstance(part, np.ndarray) for part in parts)
        picks: list[Any] = []
        for part in parts:
            if part is None:
                continue
            axis = len(self.start)
            if isinstance(part, np.ndarray) or (arrays and not isinstance(part, slice)):
                part = np.asarray(part)
                spread = part.nonzero() if part.dtype.kind == "b" else (part,)
                if not picks:
                    self.low = self.high = axis
                if self.high != axis:
                    raise _NotCanonical
                self.high += len(spread)
                picks += spread
                self._slices(shape[axis : self.high])
            elif isinstance(part, slice):
                start, stop, step = part.indices(shape[axis])
                self._append(start, step, len(range(start, stop, step)))
            else:
                self._append(int(part) % shape[axis], 1, 1)
        if arrays:
            if any(part is None for part in parts):
                raise _NotCanonical
            merged = shape[self.low : self.high]
            if 0 in merged:
                raise _NotCanonical
            wrapped = [p % n for p, n in zip(picks, merged, strict=True)]
            self.positions = np.ravel_multi_index(np.broadcast_arrays(*wrapped), merged)

    def _append(self, start: int, step: int, count: int) -> None:
        self.start.append(start if count else 0)
        self.step.append(step)
        self.count.append(count)

    def _slices(self, lengths: Sequence[int]) -> None:
        for n in lengths:
            self._append(0, 1, n)

    @property
    def params(self) -> dict[str, Shape]:
        return {"start": tuple(self.start), "step": tuple(self.step), "count": tuple(self.count)}

    @property
    def merged(self) -> Shape:
        """The sliced array's shape with the picked axes as one."""
        count = self.count
        size = math.prod(count[self.low : self.high])
        return (*count[: self.low], size, *count[self.high :])

    @property
    def picked(self) -> Shape:
        """The shape of what the positions pick."""
        assert self.positions is not None
        return (*self.count[: self.low], *self.positions.shape, *self.count[self.high :])

    def is_all(self, shape: Shape) -> bool:
        """Whether the slices take every element in its place."""
        return tuple(self.count) == shape and all(
            step == 1 or n <= 1 for step, n in zip(self.step, shape, strict=True)
        )


class _NotCanonical(Exception):
    """An index that only NumPy's own indexing can follow."""


def _whole(shape: Shape, index: Any) -> list[Any]:
    """The index's components, one for each axis, and None for each new one."""
    parts = list(index) if isinstance(index, tuple) else [index]
    if any(isinstance(part, (bool, np.bool_)) for part in parts):
        raise _NotCanonical
    if any(isinstance(p, np.ndarray) and p.dtype.kind == "b" and not p.ndim for p in parts):
        raise _NotCanonical
    used = sum(
        part.ndim if isinstance(part, np.ndarray) and part.dtype.kind == "b" else 1
        for part in parts
        if part is not None and part is not Ellipsis
    )
    rest = [slice(None)] * (len(shape) - used)
    for place, part in enumerate(parts):
        if part is Ellipsis:
            return [*parts[:place], *rest, *parts[place + 1 :]]
    return parts + rest


def _getitem(work: _Work, node: Node, inputs: list[int]) -> int | None:
    x = inputs[0]
    try:
        index = _Index(work.shape(x), node.params["index"])
    except _NotCanonical:
        return None
    if not index.is_all(work.shape(x)):
        x = work.make("slice", (x,), index.params, tuple(index.count), node.dtype)
    if index.positions is not None:
        x, positions = work.reshape(x, index.merged), work.constant(index.positions)
        x = work.make("gather", (x, positions), {"axis": index.low}, index.picked, node.dtype)
    return work.reshape(x, node.shape)


def _scatter_add(work: _Work, node: Node, inputs: list[int]) -> int | None:
    shape = node.shape
    if "index" not in node.params:
        return None  # along one axis already, by a traced index
    try:
        index = _Index(shape, node.params["index"])
    except _NotCanonical:
        return None
    x = inputs[0]
    if index.positions is None:
        picked = np.broadcast_to(np.empty(()), shape)[node.params["index"]]
        x = work.reshape(work.broadcast(x, picked.shape), index.count)
    else:
        x = work.broadcast(x, index.picked)
        params = {"axis": index.low, "shape": index.merged}
        positions = work.constant(index.positions)
        x = work.make("scatter_add", (x, positions), params, index.merged, node.dtype)
        x = work.reshape(x, index.count)
    if index.is_all(shape):
        return x
    return work.make("scatter_add", (x,), {**index.params, "shape": shape}, shape, node.dtype)


_RULES: dict[str, Callable[[_Work, Node, list[int]], int | None]] = {
    "softmax": _softmax,
    "log_softmax": _log_softmax,
    "logsumexp": _logsumexp,
    "sum": _sum,
    "cumsum_along": _cumsum,
    "argmax": _argument,
    "argmin": _argument,
    "matmul": _matmul,
    "getitem": _getitem,
    "scatter_add": _scatter_add,
}
