"""How large one path can be at most: for each element, over all ways on to where paths end."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..circuit import Tensor
from ..gradient.backward import Edge, sum_to
from .flow import Flow

Array = np.ndarray[Any, Any]
WORK = 2e8  # multiplications up to which a largest product is sought exactly


def ends(flow: Flow) -> set[Tensor]:
    """The nodes where a path ends: above them no matrix product waits, or a whole row is mixed.

    Their gradient stands as the last factor, ∂L/∂net of the last layer: with softmax and cross
    entropy above, every class touches every other, and its terms would say nothing.
    """
    product_above: set[Tensor] = set()
    mixed: set[Tensor] = set()
    for node in reversed(flow.nodes):
        for edge in flow.received.get(node, ()):
            if edge.node.op.facts.flow == "mixer":
                mixed.add(node)
            elif edge.node.op.name == "matmul" or edge.node in product_above:
                product_above.add(node)
    found = {n for n in flow.nodes if n in flow.gradients and n not in product_above}
    array = any(n.size > 1 for n in flow.gradients)
    has_products = bool(product_above)
    return (found if array and has_products else {flow.output}) | mixed | {flow.output}


class Bounds:
    """|the largest path| from each element on, or a number above it; computed when asked for."""

    def __init__(self, flow: Flow, last: set[Tensor]) -> None:
        self.flow, self.last = flow, last
        self._known: dict[Tensor, Array] = {}

    def of(self, node: Tensor) -> Array:
        """The bounds of a node's elements, in its shape, found without recursion."""
        waiting = [node]
        while waiting:
            top = waiting[-1]
            if top in self._known:
                waiting.pop()
                continue
            edges = [] if top in self.last else self.flow.received[top]
            unknown = [e.node for e in edges if e.node not in self._known]
            if unknown:
                waiting += unknown
                continue
            self._known[waiting.pop()] = self._bound(top, edges)
        return self._known[node]

    def _bound(self, node: Tensor, edges: list[Edge]) -> Array:
        if node in self.last:
            return np.abs(np.asarray(self.flow.gradients[node], dtype=np.float64))
        bound = np.zeros(node.shape)
        with np.errstate(all="ignore"):
            for edge in edges:
                bound = np.maximum(bound, _through(edge, self._known[edge.node]))
        return np.where(np.isnan(bound), np.inf, bound)


def _through(edge: Edge, above: Array) -> Array:
    """The bound of an edge's input: the largest |local| · bound over the elements that use it."""
    node, shape = edge.node, edge.source.shape
    if node.op.locals:
        product = np.abs(np.asarray(edge.local, dtype=np.float64)) * above
        return _largest_to(np.broadcast_to(product, node.shape), shape)
    operands = [np.abs(np.asarray(x.value, dtype=np.float64)) for x in node.inputs]
    if node.op.name == "matmul" and all(x.ndim == 2 for x in operands):
        a, b = operands
        if a.shape[0] * a.shape[1] * b.shape[1] <= WORK:
            return _largest_product(above, b) if edge.position == 0 else (
                _largest_product(above.T, a.T).T
            )  # fmt: skip
    signed = [x.value for x in node.inputs] if node.op.facts.flow == "router" else operands
    pulled = node.op.pull(edge.position, above, [*signed, node.value], node.params)
    return np.abs(np.asarray(sum_to(np.asarray(pulled), shape), dtype=np.float64))


def _largest_product(above: Array, b: Array) -> Array:
    """maxⱼ above[i,j]·b[k,j] for each i, k: a matrix product with max in the place of Σ."""
    found = np.zeros((above.shape[0], b.shape[0]))
    part = np.empty_like(found)
    for column, weights in zip(above.T, b.T, strict=True):
        np.multiply(column[:, None], weights[None, :], out=part)
        np.maximum(found, part, out=found)
    return found


def _largest_to(x: Array, shape: tuple[int, ...]) -> Array:
    """The largest over the axes along which `shape` was broadcast."""
    lead = x.ndim - len(shape)
    axes = tuple(k for k, n in enumerate(x.shape) if k < lead or (shape[k - lead] == 1 and n != 1))
    return np.max(x, axis=axes).reshape(shape) if axes else x
