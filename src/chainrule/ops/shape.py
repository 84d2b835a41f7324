"""Structural operations: the same elements in another place; indexing, joining and splitting."""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..circuit import Tensor, refuse, state, vocabulary
from ..circuit import vocabulary as ops
from ..errors import ShapeError
from .gather import gathered_by, is_traced_index
from .record import Index, composed, operation
from .reduce import canonical_axes

Value = Any
Shape = tuple[int, ...]
REALS = (-20.0, 20.0)


def _moved(mapping: Any) -> Any:
    """Index terms of an operation that only moves elements: `mapping(numbers, params)` moves the
    flat numbers of the input's elements as the operation moves the elements."""

    def terms(o: Shape, shapes: Sequence[Shape], params: Mapping[str, Any]) -> list[Any]:
        numbers = np.arange(int(np.prod(shapes[0], dtype=np.int64))).reshape(shapes[0])
        where = np.asarray(mapping(numbers, **params))[o]
        return [((0, tuple(int(i) for i in np.unravel_index(where, shapes[0]))),)]

    return terms


def _mover(name: str, value: Any, pull: Any, form: str, **facts: Any) -> Any:
    return operation(
        name,
        value,
        pull=(pull,),
        index=Index(form, _moved(value)),
        **{"flow": "mover", "domain": (REALS,), **facts},
    )


def _lengths(shape: Any) -> Shape:
    """A shape given as an integer or a sequence of them."""
    if isinstance(shape, (tuple, list)):
        return tuple([n if n.__class__ is int else operator.index(n) for n in shape])
    return (operator.index(shape),) if np.ndim(shape) == 0 else tuple(map(operator.index, shape))


def _prepare_reshape(shapes: Sequence[Shape], shape: Any) -> dict[str, Any]:
    old = shapes[0]
    wanted = _lengths(shape)
    size = math.prod(old)
    if wanted.count(-1) == 1:
        rest = -math.prod(wanted)
        if rest and size % rest == 0:
            wanted = tuple(size // rest if n == -1 else n for n in wanted)
    if min(wanted, default=0) < 0 or math.prod(wanted) != size:
        raise ShapeError(f"reshape: {size} elements of shape {old} cannot become shape {wanted}")
    return {"shape": wanted}


reshape = _mover(
    "reshape",
    lambda x, shape: np.asarray(x).reshape(shape),
    lambda v, x, out, shape: ops.reshape(v, shape=x.shape),
    "out[flat order] = x[flat order]",
    prepare=_prepare_reshape,
    meaning="reshape(x, shape): the same elements in another shape (C order); −1: whatever fits",
    symbol="reshape",
    latex=r"\operatorname{{reshape}}({0})",
    example=("cr.reshape([1.0, 2.0], (2, 1)).shape", "(2, 1)"),
)


def _prepare_transpose(shapes: Sequence[Shape], axes: Any) -> dict[str, Any]:
    ndim = len(shapes[0])
    if axes is None:
        return {"axes": tuple(reversed(range(ndim)))}
    order = tuple(int(k) % ndim if -ndim <= k < ndim else int(k) for k in axes)
    if sorted(order) != list(range(ndim)):
        raise ShapeError(f"transpose: axes {tuple(axes)} are no permutation of {ndim} axes")
    return {"axes": order}


transpose = _mover(
    "transpose",
    lambda x, axes=None: np.asarray(x).transpose(axes),
    lambda v, x, out, axes: ops.transpose(v, axes=tuple(map(axes.index, range(len(axes))))),
    "out[j,i] = x[i,j]",
    prepare=_prepare_transpose,
    meaning="transpose(x, axes=None): the axes permuted, reversed when none are given",
    symbol="ᵀ",
    latex="{{{0:>}}}^{{\\mathsf T}}",
    text="{0:>}ᵀ",
    binds=40,
    example=("cr.transpose([[1.0, 2.0]]).shape", "(2, 1)"),
)


def _prepare_broadcast(shapes: Sequence[Shape], shape: Any) -> dict[str, Any]:
    return {"shape": _lengths(shape)}


SMALL = 4096  # elements up to which a copy is made faster than NumPy's view of repeated strides


def _broadcast_to(x: Value, shape: Shape) -> Value:
    if not isinstance(x, (np.ndarray, np.generic)) or math.prod(_lengths(shape)) > SMALL:
        return np.broadcast_to(x, shape)
    out = np.empty(shape, x.dtype)
    out[...] = x
    return out


broadcast_to = _mover(
    "broadcast_to",
    _broadcast_to,
    lambda v, x, out, shape: v,  # the loop undoes broadcasting: it adds the copies up
    "out[k,i] = x[i]",
    prepare=_prepare_broadcast,
    flow="distributor",
    meaning="broadcast_to(x, shape): x repeated along new axes and axes of length 1",
    symbol="broadcast",
    latex=r"\operatorname{{broadcast}}({0})",
    example=("cr.broadcast_to([1.0], (2,))", "array([1., 1.])"),
)

# -- indexing ---------------------------------------------------------------------------------


def _plain_index(one: Any) -> Any:
    """One component of an index, free of tensors and safe from later writes."""
    if isinstance(one, Tensor):
        if state.compiling and one.traced:
            raise refuse(
                "getitem with a traced index", "write x[index], or cr.take(x, index, axis)"
            )
        one = one.value
    if isinstance(one, (list, np.ndarray)):
        array = np.array(one)
        if array.size == 0 and array.dtype.kind == "f":
            array = array.astype(np.int64)
        if array.dtype.kind not in "iub":
            raise IndexError(f"an index must hold integers or booleans, not {array.dtype}")
        return array
    return one


def _prepare_index(shapes: Sequence[Shape], index: Any, **rest: Any) -> dict[str, Any]:
    if index.__class__ is int or index.__class__ is slice:
        return {"index": index, **rest}
    if isinstance(index, tuple):
        return {"index": tuple([_plain_index(one) for one in index]), **rest}
    return {"index": _plain_index(index), **rest}


getitem = _mover(
    "getitem",
    lambda x, index: x[index],
    lambda v, x, out, index: ops.scatter_add(v, index=index, shape=x.shape),
    "out[i] = x[index[i]]",
    prepare=_prepare_index,
    meaning="getitem(x, index) = x[index]: basic and advanced indexing as NumPy's",
    symbol="[ ]",
    latex="{{{0:>}}}_{{[\\cdot]}}",
    text="{0:>}[…]",
    binds=50,
    example=("float(cr.getitem(cr.tensor([1.0, 2.0]), 1))", "2.0"),
)


def _is_basic(index: Any) -> bool:
    parts = index if isinstance(index, tuple) else (index,)
    return all(p is None or p is Ellipsis or isinstance(p, (int, np.integer, slice)) for p in parts)


def _scatter_add(x: Value, index: Any, shape: Any) -> Value:
    out = np.zeros(shape, dtype=x.dtype)
    if _is_basic(index):
        out[index] = x
    else:
        np.add.at(out, index, x)
    return out


def _scatter_terms(o: Shape, shapes: Sequence[Shape], params: Mapping[str, Any]) -> list[Any]:
    shape = params["shape"]
    numbers = np.arange(int(np.prod(shape, dtype=np.int64))).reshape(shape)[params["index"]]
    sources = np.argwhere(
        np.broadcast_to(numbers, shapes[0]) == np.ravel_multi_index(o, shape)
        if shape
        else numbers == 0
    )
    return [((0, tuple(int(i) for i in source)),) for source in sources]


scatter_add = operation(
    "scatter_add",
    _scatter_add,
    meaning="scatter_add(x, index, shape): zeros with x added at `index`; repeats add up",
    symbol="scatter",
    latex=r"\operatorname{{scatter}}({0})",
    flow="mover",
    pull=(lambda v, x, out, index, shape: ops.getitem(v, index=index),),
    index=Index("out[index[i]] = Σ x[i]", _scatter_terms),
    prepare=_prepare_index,
    domain=(REALS,),
    example=(
        "cr.scatter_add(cr.tensor([1.0, 2.0]), [0, 0], (2,)).numpy()",
        "array([3., 0.])",
    ),
)


def _at(x: Tensor, index: Any) -> Value:
    """What x[index] becomes."""
    return gathered_by(x, index) if is_traced_index(index) else ops.getitem(x, index)


vocabulary.enter("at", _at)

# -- joining ----------------------------------------------------------------------------------


def _concatenate(*arrays: Value, axis: int = 0) -> Value:
    return np.concatenate(arrays, axis=axis)


def _prepare_concatenate(shapes: Sequence[Shape], axis: int) -> dict[str, Any]:
    axis = canonical_axes(axis, len(shapes[0]))[0]
    first = shapes[0]
    for number, shape in enumerate(shapes):
        if len(shape) != len(first) or any(
            n != m for k, (n, m) in enumerate(zip(first, shape, strict=True)) if k != axis
        ):
            raise ShapeError(
                f"concatenate: array {number} of shape {shape} does not fit the first, of shape"
                f" {first}: all axes but {axis} must agree"
            )
    return {"axis": axis}


def _offset(shapes: Sequence[Shape], position: int, axis: int) -> int:
    return sum(shape[axis] for shape in shapes[:position])


def _concatenate_pull(
    position: int, v: Value, operands: Sequence[Value], out: Value, axis: int
) -> Value:
    shapes = [np.shape(x) for x in operands]
    start = _offset(shapes, position, axis)
    return ops.getitem(
        v, index=(slice(None),) * axis + (slice(start, start + shapes[position][axis]),)
    )


def _concatenate_terms(o: Shape, shapes: Sequence[Shape], params: Mapping[str, Any]) -> list[Any]:
    axis = params["axis"]
    k = o[axis]
    for position, shape in enumerate(shapes):
        if k < shape[axis]:
            return [((position, (*o[:axis], k, *o[axis + 1 :])),)]
        k -= shape[axis]
    raise IndexError(f"no element {o}")


join = operation(
    "join",
    _concatenate,
    arity=None,
    meaning="join(x, y, …, axis=0): arrays one after the other along an axis",
    symbol="concat",
    latex=r"\left[{0}, \ldots\right]",
    flow="mover",
    pull=(_concatenate_pull,),
    index=Index("out[offset + i] = x[i]", _concatenate_terms),
    prepare=_prepare_concatenate,
    domain=(REALS,),
    example=("cr.join([1.0], [2.0], axis=0)", "array([1., 2.])"),
)


@composed(("cr.concatenate([[1.0], [2.0, 3.0]])", "array([1., 2., 3.])"))
def concatenate(arrays: Sequence[Value], axis: int | None = 0) -> Value:
    """concatenate(arrays, axis=0): one after the other along an axis (None: flattened)."""
    if len(arrays) == 0:
        raise ShapeError("concatenate: needs at least one array")
    if axis is None:
        arrays, axis = [ops.reshape(x, -1) for x in arrays], 0
    if any(np.ndim(_value(x)) == 0 for x in arrays):
        raise ShapeError("concatenate: scalars cannot be joined; use cr.stack, or reshape(1) each")
    return ops.join(*arrays, axis=axis)


def _value(x: Value) -> Value:
    return x.value if isinstance(x, Tensor) else x


@composed(("cr.stack([[1.0, 2.0], [3.0, 4.0]], axis=1)", "array([[1., 3.],\n       [2., 4.]])"))
def stack(arrays: Sequence[Value], axis: int = 0) -> Value:
    """stack(arrays, axis=0): arrays of one shape along a new axis."""
    shapes = {np.shape(_value(x)) for x in arrays}
    if len(shapes) != 1:
        found = ", ".join(str(s) for s in sorted(shapes)) or "none"
        raise ShapeError(f"stack: needs arrays of one shape, got {found}")
    return ops.join(*[ops.expand_dims(x, axis) for x in arrays], axis=axis)


@composed(("[len(part) for part in cr.split([1.0, 2.0, 3.0], [1])]", "[1, 2]"))
def split(x: Value, indices_or_sections: Any, axis: int = 0) -> list[Value]:
    """split(x, n or cut points, axis=0): a list of parts; n must divide the length."""
    shape = np.shape(_value(x))
    axis = canonical_axes(axis, len(shape))[0]
    length = shape[axis]
    if isinstance(indices_or_sections, (int, np.integer)):
        parts = int(indices_or_sections)
        if parts < 1 or length % parts:
            raise ShapeError(f"split: axis {axis} of length {length} has no {parts} equal parts")
        cuts = list(range(0, length + 1, length // parts)) if length else [0] * (parts + 1)
    else:
        cuts = [0, *(int(c) for c in indices_or_sections), length]
    before = (slice(None),) * axis
    return [ops.getitem(_array(x), (*before, slice(a, b))) for a, b in itertools.pairwise(cuts)]


def _array(x: Value) -> Value:
    return x if isinstance(x, Tensor) else np.asarray(x)


@composed(("cr.expand_dims([1.0, 2.0], -1).shape", "(2, 1)"))
def expand_dims(x: Value, axis: Any) -> Value:
    """expand_dims(x, axis): new axes of length 1 at the given places of the result."""
    shape = np.shape(_value(x))
    count = 1 if isinstance(axis, (int, np.integer)) else len(axis)
    axes = canonical_axes(axis, len(shape) + count)
    old = iter(shape)
    return ops.reshape(x, [1 if k in axes else next(old) for k in range(len(shape) + count)])


@composed(("cr.squeeze([[1.0, 2.0]]).shape", "(2,)"))
def squeeze(x: Value, axis: Any = None) -> Value:
    """squeeze(x, axis=None): without the axes of length 1, or without the given ones."""
    shape = np.shape(_value(x))
    if axis is None:
        return ops.reshape(x, [n for n in shape if n != 1])
    axes = canonical_axes(axis, len(shape))
    for k in axes:
        if shape[k] != 1:
            raise ShapeError(f"squeeze: axis {k} has length {shape[k]}, not 1 (shape {shape})")
    return ops.reshape(x, [n for k, n in enumerate(shape) if k not in axes])


@composed(("cr.swapaxes([[1.0, 2.0]], 0, 1).shape", "(2, 1)"))
def swapaxes(x: Value, axis1: int, axis2: int) -> Value:
    """swapaxes(x, axis1, axis2): two axes exchanged."""
    ndim = len(np.shape(_value(x)))
    order = list(range(ndim))
    a, b = canonical_axes(axis1, ndim)[0], canonical_axes(axis2, ndim)[0]
    order[a], order[b] = order[b], order[a]
    return ops.transpose(x, order)


@composed(("cr.flip([1.0, 2.0])", "array([2., 1.])"))
def flip(x: Value, axis: Any = None) -> Value:
    """flip(x, axis=None): the elements in reverse order along the axes."""
    ndim = len(np.shape(_value(x)))
    axes = canonical_axes(axis, ndim)
    backwards = slice(None, None, -1)
    return ops.getitem(
        _array(x), tuple(backwards if k in axes else slice(None) for k in range(ndim))
    )


@composed(("cr.take([1.0, 2.0, 3.0], [2, 0])", "array([3., 1.])"))
def take(x: Value, indices: Any, axis: int | None = None) -> Value:
    """take(x, indices, axis=None): the elements at `indices` along an axis (None: flattened)."""
    if axis is None:
        x, axis = ops.reshape(x, -1), 0
    axis = canonical_axes(axis, len(np.shape(_value(x))))[0]
    plain = isinstance(indices, (int, np.integer, Tensor))
    chosen = indices if plain else np.asarray(indices)
    index = (slice(None),) * axis + (chosen,)
    return _at(_array(x), index)


@composed(("cr.pad([1.0], 1)", "array([0., 1., 0.])"))
def pad(x: Value, pad_width: Any, mode: str = "constant", constant_values: float = 0.0) -> Value:
    """pad(x, pad_width, constant_values=0): a border of constants; pad_width as NumPy's."""
    if mode != "constant":
        raise ValueError(f"pad: mode '{mode}' is not supported; use 'constant'")
    shape = np.shape(_value(x))
    widths = np.broadcast_to(np.asarray(pad_width, dtype=np.int64), (len(shape), 2)).tolist()
    if min((w for pair in widths for w in pair), default=0) < 0:
        raise ValueError(f"pad: widths cannot be negative, got {pad_width}")
    whole = tuple(n + before + after for n, (before, after) in zip(shape, widths, strict=True))
    inside = tuple(slice(before, before + n) for n, (before, _) in zip(shape, widths, strict=True))
    padded = ops.scatter_add(_array(x), index=inside, shape=whole)
    if constant_values == 0:
        return padded
    border = np.full(whole, constant_values, dtype=padded.dtype)
    border[inside] = 0
    return padded + border


@composed(("cr.ravel([[1.0, 2.0]]).shape", "(2,)"))
def ravel(x: Value) -> Value:
    """ravel(x): the elements as one axis, in C order."""
    return ops.reshape(x, -1)


# -- dtype ------------------------------------------------------------------------------------


astype = operation(
    "astype",
    lambda x, dtype: np.asarray(x).astype(dtype)[()],
    meaning="astype(x, dtype): the same values in another dtype; the gradient comes back in x's",
    symbol="cast",
    latex="{0}",
    text="{0}",
    binds=5,
    flow="distributor",
    local=(1,),
    domain=(REALS,),
    example=("cr.astype(1.5, 'float32').dtype", "dtype('float32')"),
)
