"""Views: nodes that move no data. Which array a node really reads, and along which axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from .graph import Graph, Node, Shape

__all__ = ["VIEWS", "Source", "sources", "strided", "unit_reshape"]

VIEWS = frozenset({"reshape", "transpose", "broadcast_to", "slice"})


class Source(NamedTuple):
    """The computed node behind a chain of views.

    `axes[a]` is the reader's axis that axis `a` of the root follows, None where the root's axis has
    length 1 and its index is 0. `axes` is None where the chain slices or regroups elements: then
    only strides can tell.
    """

    root: int
    axes: tuple[int | None, ...] | None


def unit_reshape(before: Shape, after: Shape) -> bool:
    """Whether a reshape only adds or drops axes of length 1."""
    return [n for n in before if n != 1] == [n for n in after if n != 1]


def sources(graph: Graph) -> list[Source]:
    """For each node the array that reading it reads; a computed node is its own source."""
    found: list[Source] = []
    for number, node in enumerate(graph.nodes):
        if node.op in VIEWS:
            found.append(_through(node, graph.nodes[node.inputs[0]], found[node.inputs[0]]))
        else:
            axes = tuple(a if n != 1 else None for a, n in enumerate(node.shape))
            found.append(Source(number, axes))
    return found


def _through(view: Node, before: Node, source: Source) -> Source:
    """The source of a view, from that of what it views."""
    if source.axes is None:
        return source
    moved: dict[int, int] = {}
    if view.op == "transpose":
        moved = {axis: k for k, axis in enumerate(view.params["axes"])}
    elif view.op == "broadcast_to":
        extra = len(view.shape) - len(before.shape)
        moved = {axis: axis + extra for axis in range(len(before.shape))}
    elif view.op == "reshape" and unit_reshape(before.shape, view.shape):
        there = [k for k, n in enumerate(view.shape) if n != 1]
        here = [k for k, n in enumerate(before.shape) if n != 1]
        moved = dict(zip(here, there, strict=True))
    else:
        return Source(source.root, None)
    axes = tuple(None if axis is None else moved[axis] for axis in source.axes)
    return Source(source.root, axes)


def strided(
    graph: Graph, number: int, place: dict[int, Sequence[int]]
) -> tuple[int, int, tuple[int, ...]]:
    """(root, offset, strides of the node's axes) in elements; `place[root]` are the root's strides.

    Reshapes that regroup axes ask for a root that lies in C order without gaps, which the
    legaliser sees to.
    """
    chain = []
    while graph.nodes[number].op in VIEWS:
        chain.append(number)
        number = graph.nodes[number].inputs[0]
    root, offset = number, 0
    shape, strides = graph.nodes[root].shape, tuple(place[root])
    for view in reversed(chain):
        node = graph.nodes[view]
        if node.op == "transpose":
            strides = tuple(strides[axis] for axis in node.params["axes"])
        elif node.op == "broadcast_to":
            extra = len(node.shape) - len(shape)
            strides = (0,) * extra + tuple(
                0 if n == 1 else s for n, s in zip(shape, strides, strict=True)
            )
        elif node.op == "slice":
            start, step = node.params["start"], node.params["step"]
            offset += sum(a * s for a, s in zip(start, strides, strict=True))
            strides = tuple(k * s for k, s in zip(step, strides, strict=True))
        elif unit_reshape(shape, node.shape):
            kept = iter([s for n, s in zip(shape, strides, strict=True) if n != 1])
            strides = tuple(next(kept) if n != 1 else 0 for n in node.shape)
        else:
            strides = _c_order(node.shape)
        shape = node.shape
    return root, offset, strides


def _c_order(shape: Shape) -> tuple[int, ...]:
    strides, step = [], 1
    for n in reversed(shape):
        strides.append(step)
        step *= n
    return tuple(reversed(strides))
