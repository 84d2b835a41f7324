"""Reductions over axes: sum, max and min, running sums, and what is composed of them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..circuit import vocabulary as ops
from .record import Index, Kink, composed, operation
from .values import shape_of

Value = Any
Shape = tuple[int, ...]


def canonical_axes(axis: Any, ndim: int) -> Shape:
    """The axes as a sorted tuple of non-negative numbers; None means all."""
    if axis is None:
        return tuple(range(ndim))
    if axis.__class__ is int and -ndim <= axis < ndim:
        return (axis % ndim,)
    axes = (axis,) if isinstance(axis, (int, np.integer)) else tuple(axis)
    for one in axes:
        if not isinstance(one, (int, np.integer)):
            raise TypeError(f"axis must be an integer or a tuple of integers, not {one!r}")
        if not -ndim <= one < ndim:
            raise np.exceptions.AxisError(int(one), ndim)
    positive = tuple(sorted(int(one) % ndim for one in axes))
    if len(set(positive)) < len(positive):
        raise ValueError(f"axis {axis} names an axis twice")
    return positive


def prepare_axes(shapes: Sequence[Shape], axis: Any, **rest: Any) -> dict[str, Any]:
    """`axis` as a sorted tuple of non-negative numbers."""
    return {"axis": canonical_axes(axis, len(shapes[0])), **rest}


def kept(x: Value, axis: Shape, keepdims: bool) -> Value:
    """A reduced value with its reduced axes back, of length 1."""
    return x if keepdims or not x.shape else ops.expand_dims(x, axis)


def _reduced(o: Shape, shapes: Sequence[Shape], params: Mapping[str, Any]) -> list[Any]:
    """The input indices that a reduction's output index gathers, one term each."""
    shape, axis = shapes[0], params["axis"]
    others = (
        iter(o) if not params["keepdims"] else iter([i for k, i in enumerate(o) if k not in axis])
    )
    choices: list[Iterable[int]] = [
        range(n) if k in axis else (next(others),) for k, n in enumerate(shape)
    ]
    return [((0, index),) for index in itertools.product(*choices)]


def _sum(x: Value, axis: Any = None, keepdims: bool = False) -> Value:
    return np.add.reduce(x, axis=axis, keepdims=keepdims)  # type: ignore[call-overload]


sum_ = operation(
    "sum",
    _sum,
    meaning="sum(x, axis=None, keepdims=False) = Σ of the elements along the axes",
    symbol="Σ",
    latex=r"\sum {0}",
    text="Σ({0:<})",
    binds=20,
    flow="distributor",
    pull=(
        lambda v, x, out, axis, keepdims: ops.broadcast_to(kept(v, axis, keepdims), shape=x.shape),
    ),
    index=Index("out[i] = Σₖ x[i,k]", _reduced),
    prepare=prepare_axes,
    domain=((-20.0, 20.0),),
    example=("float(cr.sum([1.0, 2.0, 3.0]))", "6.0"),
)


def _extreme(name: str, function: Any, default: str, answer: str) -> Any:
    def value(x: Value, axis: Any = None, keepdims: bool = False) -> Value:
        return function(x, axis=axis, keepdims=keepdims)

    def pull(v: Value, x: Value, out: Value, axis: Shape, keepdims: bool) -> Value:
        """Equal shares to the winners; a NaN counts as one, so that it is not lost."""
        v, out = kept(v, axis, keepdims), kept(out, axis, keepdims)
        winners = ops.logical_or(ops.equal(x, out), ops.isnan(x))
        count = ops.sum(ops.astype(winners, dtype=v.dtype), axis=axis, keepdims=True)
        return ops.where(winners, v / count, 0)

    return operation(
        name,
        value,
        meaning=f"{name}(x, axis=None, keepdims=False) = the {default} element along the axes",
        symbol=name,
        latex=rf"\{name} {{0}}",
        text=f"{name}({{0:<}})",
        binds=20,
        flow="router",
        pull=(pull,),
        index=Index(f"out[i] = {name}ₖ x[i,k]", _reduced, combine=name),
        prepare=prepare_axes,
        kinks=(Kink("a tie", "an equal share for each winner", "as maximum; shares add up to 1"),),
        domain=((-20.0, 20.0),),
        example=(f"float(cr.{name}([1.0, 3.0, 2.0]))", answer),
        source="slides, the max gate is a gradient router",
    )


max_ = _extreme("max", np.max, "largest", "3.0")
min_ = _extreme("min", np.min, "smallest", "1.0")


def _prepare_cumsum(shapes: Sequence[Shape], axis: Any) -> dict[str, Any]:
    return {"axis": canonical_axes(axis, len(shapes[0]))[0]}


def _cumsum_terms(o: Shape, shapes: Sequence[Shape], params: Mapping[str, Any]) -> list[Any]:
    axis = params["axis"]
    return [((0, (*o[:axis], k, *o[axis + 1 :])),) for k in range(o[axis] + 1)]


def _cumsum_pull(v: Value, x: Value, out: Value, axis: int) -> Value:
    return ops.flip(ops.cumsum_along(ops.flip(v, axis), axis=axis), axis)


cumsum_along = operation(
    "cumsum_along",
    lambda x, axis=-1: np.cumsum(x, axis=axis),
    meaning="cumsum_along(x, axis=-1): running sums along one axis",
    symbol="Σ…",
    latex=r"\operatorname{{cumsum}}\left({0}\right)",
    flow="distributor",
    pull=(_cumsum_pull,),
    index=Index("out[i] = Σ x[k] for k ≤ i", _cumsum_terms),
    prepare=_prepare_cumsum,
    domain=((-20.0, 20.0),),
    example=("cr.cumsum_along([1.0, 2.0, 3.0])", "array([1., 3., 6.])"),
)


@composed(("cr.cumsum([1.0, 2.0, 3.0])", "array([1., 3., 6.])"))
def cumsum(x: Value, axis: int | None = None) -> Value:
    """cumsum(x, axis=None)ᵢ = Σ x[k] for k ≤ i; over the flattened array when axis is None."""
    if axis is None:
        x, axis = ops.reshape(x, -1), 0
    return ops.cumsum_along(x, axis=axis)


def _argument(name: str, function: Any, which: str, answer: str) -> Any:
    def value(x: Value, axis: int | None = None, keepdims: bool = False) -> Value:
        return function(x, axis=axis, keepdims=keepdims)

    return operation(
        name,
        value,
        meaning=f"{name}(x, axis=None) = the index of the {which} element (no gradient)",
        symbol=name,
        latex=rf"\operatorname{{{{{name}}}}}\left({{0}}\right)",
        flow="blocker",
        example=(f"int(cr.{name}([1.0, 3.0, 2.0]))", answer),
    )


argmax = _argument("argmax", np.argmax, "largest", "1")
argmin = _argument("argmin", np.argmin, "smallest", "0")


def _count(x: Value, axis: Any) -> int:
    shape = shape_of(x)
    return math.prod([shape[k] for k in canonical_axes(axis, len(shape))])


@composed(("float(cr.mean([1.0, 2.0, 6.0]))", "3.0"))
def mean(x: Value, axis: Any = None, keepdims: bool = False) -> Value:
    """mean(x, axis=None, keepdims=False) = Σ x / n over the axes."""
    return ops.divide(ops.sum(x, axis=axis, keepdims=keepdims), _count(x, axis))


@composed(("float(cr.var([1.0, 2.0, 6.0]))", "4.666666666666667"))
def var(x: Value, axis: Any = None, ddof: int = 0, keepdims: bool = False) -> Value:
    """var(x, axis=None, ddof=0, keepdims=False) = Σ(x − mean)² / (n − ddof) over the axes."""
    squares = ops.square(ops.subtract(x, ops.mean(x, axis=axis, keepdims=True)))
    return ops.divide(ops.sum(squares, axis=axis, keepdims=keepdims), _count(x, axis) - ddof)


@composed(("float(cr.std([1.0, 3.0]))", "1.0"))
def std(x: Value, axis: Any = None, ddof: int = 0, keepdims: bool = False) -> Value:
    """std(x, axis=None, ddof=0, keepdims=False) = √var; its gradient is not finite at 0."""
    return ops.sqrt(ops.var(x, axis=axis, ddof=ddof, keepdims=keepdims))


@composed(("float(cr.prod([2.0, 3.0, 4.0]))", "24.0"))
def prod(x: Value, axis: Any = None, keepdims: bool = False) -> Value:
    """prod(x, axis=None, keepdims=False) = Π of the elements along the axes.

    Multiplied pairwise as a tree: no division, so a zero among the factors has the right gradient.
    """
    shape = shape_of(x)
    axes = canonical_axes(axis, len(shape))
    rest = [k for k in range(len(shape)) if k not in axes]
    out = ops.transpose(x, (*axes, *rest))
    out = ops.reshape(out, (_count(x, axis), *[shape[k] for k in rest]))
    if out.shape[0] == 0:
        return np.prod(np.empty(shape), axis=axis, keepdims=keepdims)
    while out.shape[0] > 1:
        half = out.shape[0] // 2
        product = out[:half] * out[half : 2 * half]
        out = ops.concatenate([product, out[2 * half :]]) if out.shape[0] % 2 else product
    final = tuple(1 if k in axes else n for k, n in enumerate(shape)) if keepdims else out.shape[1:]
    return ops.reshape(out, final)
