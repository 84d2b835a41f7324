"""Indexing with an index that is traced itself: in a function that is compiled, labels are inputs.

Elsewhere an index is plain, and a parameter of `getitem`. Here it is an input of the node, so that
the program reads it anew at each call.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..circuit import Tensor, record, refuse, state
from ..circuit import vocabulary as ops
from .values import constant

__all__ = ["Picking", "gathered_by", "is_traced_index"]

Value = Any
Shape = tuple[int, ...]


class Picking:
    """An operation on an array and integer positions along one of its axes.

    It is known to the compiler alone: `gather` takes the elements at the positions, `scatter_add`
    adds elements up there; each pulls gradients back by the other.
    """

    locals = ()
    is_router = False
    differentiable = True

    def __init__(self, name: str, value: Callable[..., Value]) -> None:
        self.name, self.value = name, value

    def __call__(self, x: Value, positions: Value, **params: Any) -> Tensor:
        pair = [v if isinstance(v, Tensor) else constant(v, self.name) for v in (x, positions)]
        value = self.value(pair[0].value, pair[1].value, **params)
        return record(self, (pair[0], pair[1]), params, value[()], True)

    def pull(
        self, position: int, upstream: Value, values: Sequence[Value], params: Mapping[str, Any]
    ) -> Value:
        """The contribution to the array; positions are integers and have none."""
        x, positions, _ = values
        if self is GATHER:
            return SCATTER(upstream, positions, axis=params["axis"], shape=x.shape)
        return GATHER(upstream, positions, axis=params["axis"])


def _scattered(x: Value, positions: Value, axis: int, shape: Shape) -> Value:
    out = np.zeros(shape, np.asarray(x).dtype)
    index: Any = (*[slice(None)] * axis, positions)
    np.add.at(out, index, x)
    return out


GATHER = Picking("gather", lambda x, positions, axis: np.take(x, positions, axis=axis))
SCATTER = Picking("scatter_add", _scattered)


def is_traced_index(index: Any) -> bool:
    """Whether a compiler records, and some of the index depends on an input."""
    if not state.compiling:
        return False
    parts = index if isinstance(index, tuple) else (index,)
    return any(isinstance(part, Tensor) and part.traced for part in parts)


def gathered_by(x: Value, index: Any) -> Tensor:
    """x[index], where integer arrays stand side by side and the rest of the index are slices.

    The axes that they index are made one, and so are the positions. Where one is out of range the
    program fails as NumPy does: a position that is none cannot come out as that of another element.
    """
    shape: Shape = x.shape
    parts = list(index) if isinstance(index, tuple) else [index]
    for place, part in enumerate(parts):
        if part is Ellipsis:
            parts[place : place + 1] = [slice(None)] * (len(shape) - len(parts) + 1)
            break
    parts += [slice(None)] * (len(shape) - len(parts))
    picks = [k for k, part in enumerate(parts) if not isinstance(part, slice)]
    low, high = picks[0], picks[-1] + 1
    arrays = [_integers(part) for part in parts[low:high]]
    if len(picks) < high - low or len(parts) > len(shape):
        raise refuse(
            "indexing with a traced tensor", "put integer arrays side by side, with slices around"
        )
    x = ops.getitem(x, tuple([part if isinstance(part, slice) else slice(None) for part in parts]))
    lengths = shape[low:high]
    flat: Value = 0
    inside: Value = True
    for positions, n in zip(arrays, lengths, strict=True):
        wrapped = ops.where(ops.less(positions, 0), ops.add(positions, n), positions)
        fine = ops.logical_and(ops.greater_equal(wrapped, 0), ops.less(wrapped, n))
        flat, inside = ops.add(ops.multiply(flat, n), wrapped), ops.logical_and(inside, fine)
    size = math.prod(lengths)
    merged = ops.reshape(x, (*x.shape[:low], size, *x.shape[high:]))
    return GATHER(merged, ops.where(inside, flat, size), axis=low)


def _integers(part: Any) -> Value:
    """A component that picks, as an integer array or tensor."""
    if isinstance(part, slice):
        return part
    if part is None:
        raise refuse("indexing with a traced tensor", "add the new axis afterwards, with reshape")
    made = part if isinstance(part, Tensor) else np.asarray(part)
    if made.dtype.kind == "b":
        raise refuse(
            "indexing with a boolean mask that is traced, or beside a traced index",
            "the shape would depend on it. Select by value: cr.where(mask, x, 0)",
        )
    if made.dtype.kind not in "iu":
        raise IndexError(f"an index must hold integers or booleans, not {made.dtype}")
    return made if isinstance(part, Tensor) else made.astype(np.int64)
