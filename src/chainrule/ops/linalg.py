"""Products of arrays: matmul with its batches, dot, outer, einsum, and norms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..circuit import Tensor
from ..circuit import vocabulary as ops
from ..errors import ShapeError
from .record import Index, composed, operation

Value = Any
Shape = tuple[int, ...]


def _columns(x: Value, row: bool) -> Value:
    """A vector as a matrix of one row or one column; a matrix as it is."""
    if len(np.shape(_plain(x))) > 1:
        return x
    return ops.reshape(x, (1, -1) if row else (-1, 1))


def _plain(x: Value) -> Value:
    return x.value if isinstance(x, Tensor) else x


def _transposed(x: Value) -> Value:
    return x.T if len(x.shape) == 2 else ops.swapaxes(x, -1, -2)


def _matrix_upstream(v: Value, a: Value, b: Value) -> Value:
    """The upstream gradient with the axes back that a vector operand dropped."""
    if len(b.shape) == 1:
        v = ops.expand_dims(v, -1)
    if len(a.shape) == 1:
        v = ops.expand_dims(v, -2)
    return v


def _pull_first(v: Value, a: Value, b: Value, out: Value) -> Value:
    """∂L/∂A = V·Bᵀ; the loop adds up broadcast batches."""
    gradient = _matrix_upstream(v, a, b) @ _transposed(_columns(b, row=False))
    return ops.squeeze(gradient, -2) if len(a.shape) == 1 else gradient


def _pull_second(v: Value, a: Value, b: Value, out: Value) -> Value:
    """∂L/∂B = Aᵀ·V; the loop adds up broadcast batches."""
    gradient = _transposed(_columns(a, row=True)) @ _matrix_upstream(v, a, b)
    return ops.squeeze(gradient, -1) if len(b.shape) == 1 else gradient


def _matmul_terms(o: Shape, shapes: Sequence[Shape], params: Mapping[str, Any]) -> list[Any]:
    a, b = shapes
    batch = np.broadcast_shapes(a[:-2], b[:-2])
    rest = list(o[len(batch) :])
    row = (rest.pop(0),) if len(a) > 1 else ()
    column = (rest.pop(0),) if len(b) > 1 else ()

    def place(shape: Shape) -> Shape:
        own = o[len(batch) - (len(shape) - 2) : len(batch)] if len(shape) > 2 else ()
        return tuple(0 if n == 1 else i for i, n in zip(own, shape[:-2], strict=True))

    return [((0, (*place(a), *row, k)), (1, (*place(b), k, *column))) for k in range(a[-1])]


matmul = operation(
    "matmul",
    np.matmul,
    arity=2,
    meaning="matmul(A, B) = A·B, batched over leading axes as NumPy's @",
    symbol="@",
    latex="{0}\\,{1:>}",
    text="{0} @ {1:>}",
    binds=20,
    flow="switcher",
    pull=(_pull_first, _pull_second),
    index=Index("out[i,j] = Σₖ A[i,k]·B[k,j]", _matmul_terms),
    domain=((-3.0, 3.0), (-3.0, 3.0)),
    numpy=(np.matmul,),
    example=("float(cr.matmul([1.0, 2.0], [3.0, 4.0]))", "11.0"),
)


@composed(("float(cr.dot([1.0, 2.0], [3.0, 4.0]))", "11.0"))
def dot(a: Value, b: Value) -> Value:
    """dot(a, b) = Σₖ a[…,k]·b[…,k,j], NumPy's rules; a scalar multiplies."""
    na, nb = len(np.shape(_plain(a))), len(np.shape(_plain(b)))
    if na == 0 or nb == 0:
        return ops.multiply(a, b)
    if nb <= 2:
        return ops.matmul(a, b)
    letters = "abcdefghijklmnopqrstuvw"
    left, right = letters[: na - 1] + "z", letters[na - 1 : na + nb - 3]
    last = letters[na + nb - 3]
    return ops.einsum(f"{left},{right}z{last}->{left[:-1]}{right}{last}", a, b)


@composed(("cr.outer([1.0, 2.0], [3.0])", "array([[3.],\n       [6.]])"))
def outer(a: Value, b: Value) -> Value:
    """outer(a, b)[i,j] = a[i]·b[j], both flattened."""
    return ops.reshape(a, (-1, 1)) * ops.reshape(b, (1, -1))


@composed(("float(cr.norm([3.0, 4.0]))", "5.0"))
def norm(x: Value, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Value:
    """norm(x, ord=None, axis=None, keepdims=False) = (Σ|x|ᵖ)^(1/p); p = 2 and Frobenius by default.

    For vectors: ord 1, 2, inf, -inf, 0 or any p; for matrices: None, 'fro', 1, inf. At x = 0 the
    2-norm's gradient is 0, the middle of its subgradients.
    """
    dims = len(np.shape(_plain(x))) if axis is None else len(np.atleast_1d(axis))
    if ord in (None, "fro") or (ord == 2 and dims == 1):
        total = ops.sum(ops.square(x), axis=axis, keepdims=keepdims)
        positive = ops.not_equal(total, 0)  # the untaken branch is √1, so no 0·∞ arises at x = 0
        return ops.where(positive, ops.sqrt(ops.where(positive, total, 1)), total)
    if dims == 1:
        return _vector_norm(x, ord, axis, keepdims)
    if dims == 2 and ord in (1, np.inf):
        rows, columns = (0, 1) if axis is None else axis
        sum_over, max_over = (rows, columns) if ord == 1 else (columns, rows)
        sums = ops.sum(ops.abs(x), axis=sum_over, keepdims=True)
        largest = ops.max(sums, axis=max_over, keepdims=True)
        return largest if keepdims else ops.squeeze(largest, (rows, columns))
    raise ValueError(
        f"norm: ord={ord!r} is not supported for {dims} axes; use None, 'fro', 1 or inf"
    )


def _vector_norm(x: Value, ord: Any, axis: Any, keepdims: bool) -> Value:
    if ord == np.inf:
        return ops.max(ops.abs(x), axis=axis, keepdims=keepdims)
    if ord == -np.inf:
        return ops.min(ops.abs(x), axis=axis, keepdims=keepdims)
    if ord == 0:
        nonzero = ops.astype(ops.not_equal(x, 0), dtype=np.float64)
        return ops.sum(nonzero, axis=axis, keepdims=keepdims)
    if ord == 1:
        return ops.sum(ops.abs(x), axis=axis, keepdims=keepdims)
    if isinstance(ord, str):
        raise ValueError(f"norm: ord={ord!r} is for matrices; use a number for vectors")
    return ops.power(ops.sum(ops.power(ops.abs(x), ord), axis=axis, keepdims=keepdims), 1 / ord)


# -- einsum -----------------------------------------------------------------------------------


@composed(("cr.einsum('ij,j->i', [[1.0, 2.0]], [3.0, 4.0])", "array([11.])"))
def einsum(subscripts: str, *operands: Value) -> Value:
    """einsum(subscripts, *operands): Einstein's sum, NumPy's notation with '->' and '...'.

    Composed of transpose, reshape, sum and matmul, two operands at a time from the left, so that
    gradients, drawings and compiled code follow from theirs.
    """
    terms, result = _parse(subscripts, [np.shape(_plain(x)) for x in operands])
    current, labels = _diagonal(operands[0], terms[0])
    for number, operand in enumerate(operands[1:], start=1):
        other, other_labels = _diagonal(operand, terms[number])
        later = set(result).union(*terms[number + 1 :])
        current, labels = _contract(current, labels, other, other_labels, later)
    current, labels = _sum_away(current, labels, set(result))
    missing = [label for label in result if label not in labels]
    if missing:
        raise ShapeError(f"einsum: output index '{missing[0]}' is in no operand of '{subscripts}'")
    return ops.transpose(current, [labels.index(label) for label in result])


def _parse(subscripts: str, shapes: Sequence[Shape]) -> tuple[list[str], str]:
    """The operands' labels and the result's; '...' becomes capital letters from the right."""
    text = subscripts.replace(" ", "")
    inputs, arrow, result = text.partition("->")
    terms = inputs.split(",")
    if len(terms) != len(shapes):
        raise ShapeError(f"einsum: '{subscripts}' names {len(terms)} operands, got {len(shapes)}")
    free = [c for c in "ZYXWVUTSRQPONMLKJIHGFEDCBA" if c not in text]
    widest = 0
    for k, (term, shape) in enumerate(zip(terms, shapes, strict=True)):
        extra = len(shape) - len(term.replace("...", ""))
        if ("..." not in term and extra) or extra < 0:
            raise ShapeError(f"einsum: '{term}' does not fit operand {k} of shape {shape}")
        widest = max(widest, extra)
        terms[k] = term.replace("...", "".join(reversed(free[:extra])))
    ellipsis = "".join(reversed(free[:widest]))
    if not arrow:
        counts = "".join(terms)
        result = ("..." if ellipsis else "") + "".join(
            sorted(c for c in set(counts) if counts.count(c) == 1 and c not in ellipsis)
        )
    result = result.replace("...", ellipsis)
    bad = [c for c in "".join(terms) + result if not c.isalpha()]
    if bad or len(set(result)) < len(result):
        raise ShapeError(f"einsum: '{subscripts}' is not a valid subscript string")
    _check_lengths(subscripts, terms, shapes, set(ellipsis))
    return terms, result


def _check_lengths(
    subscripts: str, terms: Sequence[str], shapes: Sequence[Shape], broadcast: set[str]
) -> None:
    length: dict[str, int] = {}
    for k, (term, shape) in enumerate(zip(terms, shapes, strict=True)):
        for label, n in zip(term, shape, strict=True):
            known = length.setdefault(label, n)
            if known != n and not (label in broadcast and 1 in (known, n)):
                raise ShapeError(
                    f"einsum: index '{label}' of '{subscripts}' has length {known} in one operand"
                    f" and {n} in operand {k} of shape {shape}"
                )
            length[label] = max(known, n)


def _diagonal(x: Value, labels: str) -> tuple[Value, str]:
    """An operand with each label once: a repeated label takes the diagonal."""
    x = x if isinstance(x, Tensor) else np.asarray(x)
    for label in dict.fromkeys(labels):
        while labels.count(label) > 1:
            first = labels.index(label)
            second = labels.index(label, first + 1)
            rest = [k for k in range(len(labels)) if k not in (first, second)]
            x = ops.transpose(x, [first, second, *rest])
            along = np.arange(x.shape[0])
            x = ops.getitem(x, (along, along))
            labels = label + "".join(labels[k] for k in rest)
    return x, labels


def _sum_away(x: Value, labels: str, keep: set[str]) -> tuple[Value, str]:
    gone = tuple(k for k, label in enumerate(labels) if label not in keep)
    if not gone:
        return x, labels
    return ops.sum(x, axis=gone), "".join(c for c in labels if c in keep)


def _contract(a: Value, la: str, b: Value, lb: str, later: set[str]) -> tuple[Value, str]:
    """One batched matmul: labels in both are the batch if wanted later, else summed over."""
    a, la = _sum_away(a, la, later | set(lb))
    b, lb = _sum_away(b, lb, later | set(la))
    batch = [c for c in la if c in lb and c in later]
    inner = [c for c in la if c in lb and c not in later]
    rows = [c for c in la if c not in lb]
    columns = [c for c in lb if c not in la]
    size_a, size_b = dict(zip(la, a.shape, strict=True)), dict(zip(lb, b.shape, strict=True))
    a = _matrix(a, la, batch, rows, inner, size_a)
    b = _matrix(b, lb, batch, inner, columns, size_b)
    product = ops.matmul(a, b)
    shape = [max(size_a[c], size_b[c]) for c in batch] + [size_a[c] for c in rows]
    return (
        ops.reshape(product, shape + [size_b[c] for c in columns]),
        "".join(batch + rows + columns),
    )


def _matrix(
    x: Value,
    labels: str,
    batch: list[str],
    rows: list[str],
    columns: list[str],
    size: dict[str, int],
) -> Value:
    x = ops.transpose(x, [labels.index(c) for c in batch + rows + columns])
    product = [int(np.prod([size[c] for c in part], dtype=np.int64)) for part in (rows, columns)]
    return ops.reshape(x, [size[c] for c in batch] + product)
