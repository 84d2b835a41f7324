"""From one element of an input to the elements of the output that use it, and how much.

Pointwise operations say it by their `local`, structural ones by their index form: where the index
form is a sum of products, the output is affine in each input, so the value of the operation at an
input that is 1 at the element and 0 elsewhere, less its value at 0, lists the factors. What is
neither (max, softmax) is read off its pull. Nothing of an operation is known here by name, but that
matmul's column is one row or column of the other matrix, which saves a product.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..circuit import Tensor
from ..gradient.backward import Edge, flow_back

Array = np.ndarray[Any, Any]


def fan(edge: Edge, index: tuple[int, ...]) -> tuple[Array, Array]:
    """The flat numbers of the node's elements that use the input's element, and ∂element/∂input.

    >>> import chainrule as cr
    >>> from chainrule.explain.flow import flow_of
    >>> x = cr.tensor([[1.0, 2.0], [3.0, 4.0]])
    >>> (edge,) = flow_of(cr.sum(cr.sum(x, axis=0))).received[x]
    >>> fan(edge, (1, 0))
    (array([0]), array([1.]))
    """
    op = edge.node.op
    with np.errstate(all="ignore"):
        if op.locals:
            return _pointwise(edge, index)
        if op.name == "matmul" and all(x.ndim == 2 for x in edge.node.inputs):
            return _matmul(edge, index)
        form = op.facts.index
        column = _by_value(edge, index) if form and form.combine == "sum" else _pulled(edge, index)
    flat = column.reshape(-1)
    places = np.flatnonzero(flat)
    return places, flat[places].astype(np.float64)


def _pointwise(edge: Edge, index: tuple[int, ...]) -> tuple[Array, Array]:
    """The copies that broadcasting makes of the element, each with its own local derivative."""
    shape, own = edge.node.shape, edge.source.shape
    lead = len(shape) - len(own)
    axes = [np.arange(n) for n in shape[:lead]]
    for n, m, i in zip(shape[lead:], own, index, strict=True):
        axes.append(np.arange(n) if n != m else np.array([i]))
    if not shape:
        return np.array([0]), np.array([float(edge.local)])
    grid = np.ix_(*axes)
    places = np.ravel_multi_index(np.broadcast_arrays(*grid), shape).reshape(-1)
    local = np.broadcast_to(edge.local, shape)[grid]
    return places, np.asarray(local, dtype=np.float64).reshape(-1)


def _matmul(edge: Edge, index: tuple[int, ...]) -> tuple[Array, Array]:
    a, b = (x.value for x in edge.node.inputs)
    rows, columns = edge.node.shape
    i, j = index
    if edge.position == 0:
        return i * columns + np.arange(columns), b[j].astype(np.float64)
    return np.arange(rows) * columns + j, a[:, i].astype(np.float64)


def _by_value(edge: Edge, index: tuple[int, ...]) -> Array:
    node = edge.node
    values = [x.value for x in node.inputs]
    values[edge.position] = _one(edge.source.shape, index)
    column = np.asarray(node.op.value(*values, **node.params))
    if len(values) == 1:
        return column
    values[edge.position] = np.zeros(edge.source.shape)  # what the other inputs give by themselves
    return np.asarray(column - node.op.value(*values, **node.params))


def _pulled(edge: Edge, index: tuple[int, ...]) -> Array:
    """The pull is linear in its upstream: its derivative by that is the Jacobian's column."""
    node = edge.node
    upstream = Tensor(np.zeros(node.shape), requires_grad=True)
    values = [*[np.asarray(x.value) for x in node.inputs], np.asarray(node.value)]
    pulled = node.op.pull(edge.position, upstream, values, node.params)
    if not isinstance(pulled, Tensor) or not pulled.requires_grad:
        return np.zeros(node.shape)
    found = flow_back(pulled, _one(pulled.shape, index), wanted={upstream})
    return np.asarray(found.get(upstream, np.zeros(node.shape)))


def _one(shape: tuple[int, ...], index: tuple[int, ...]) -> Array:
    one = np.zeros(shape)
    one[index] = 1.0
    return one
