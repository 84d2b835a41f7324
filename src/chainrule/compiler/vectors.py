"""Arrays as flat vectors: their lanes, and the numbers of the elements that a node reads.

An array lies in a vector in C order, padded to a power of two. What only moves elements costs
nothing by itself: it is an index map, and the next operation that computes takes its operand's
lanes in that order, by one shuffle.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .emit import Function, Value
from .graph import Graph, Node
from .interpret import slices_of

__all__ = [
    "NOBODY",
    "ZERO",
    "Index",
    "View",
    "is_move",
    "lanes_for",
    "shuffled",
    "size_of",
    "views",
]

Index = np.ndarray[Any, np.dtype[np.int64]]
ZERO, NOBODY = -1, -2  # in an index map: the number 0; a lane that is not read


def size_of(node: Node) -> int:
    """The number of its elements."""
    return math.prod(node.shape)  # without NumPy: a circuit of scalars has very many nodes


def lanes_for(size: int) -> int:
    """The lanes of the vector that holds an array: a power of two; 0 for one number alone."""
    return 0 if size == 1 else 1 << (size - 1).bit_length()


class View(NamedTuple):
    """A node as elements of another: `elements` has the node's shape, and numbers root's."""

    root: int
    elements: Index


def is_move(graph: Graph, node: Node) -> bool:
    """Whether the operation only places elements, known before it runs, of one input."""
    if node.op == "gather":
        return graph.nodes[node.inputs[1]].op == "constant"
    if node.op == "scatter_add":
        return "start" in node.params
    return node.op in ("reshape", "transpose", "broadcast_to", "slice", "copy")


def views(graph: Graph) -> list[View]:
    """Each node through all that only moves elements; a computed node is its own root."""
    found: list[View] = []
    single: Index = np.zeros((), np.int64)
    for number, node in enumerate(graph.nodes):
        if is_move(graph, node):
            root, index = found[node.inputs[0]]
            found.append(View(root, np.asarray(_moved(graph, node, index))))
        elif not node.shape:
            found.append(View(number, single))
        else:
            found.append(View(number, np.arange(node.size, dtype=np.int64).reshape(node.shape)))
    return found


def _moved(graph: Graph, node: Node, index: Index) -> Index:
    """The operation done to the numbers of the elements."""
    params = node.params
    if node.op == "reshape":
        return index.reshape(node.shape)
    if node.op == "transpose":
        return index.transpose(params["axes"])
    if node.op == "broadcast_to":
        return np.broadcast_to(index, node.shape)
    if node.op == "slice":
        return index[slices_of(params)]
    if node.op == "gather":
        positions = graph.nodes[node.inputs[1]].params["value"]
        return np.asarray(np.take(index, positions.astype(np.int64), axis=params["axis"]))
    if node.op == "scatter_add":
        out = np.full(node.shape, ZERO, np.int64)
        out[slices_of(params)] = index
        return out
    return index


def shuffled(fn: Function, value: Value, picks: Sequence[int]) -> Value:
    """The lanes with these numbers, ZERO for a 0, NOBODY for any; one number alone for one."""
    lanes = lanes_for(len(picks))
    kind = value.type.scalar
    if not lanes:
        if picks[0] < 0:
            return fn.const(0, kind)
        return fn.extract(value, picks[0]) if value.type.lanes else value
    if not value.type.lanes:
        value = fn.splat(value, lanes)
    width = value.type.lanes
    mask = [width if k == ZERO else -1 if k == NOBODY else k for k in picks]
    other = fn.const(0, value.type) if ZERO in picks else value
    return fn.shuffle(value, other, mask + [-1] * (lanes - len(picks)))
