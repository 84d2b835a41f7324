"""Who reads what: the arrays behind each kernel, through views and what is computed again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .graph import Graph
from .groups import ALONE, LAZY, REDUCTIONS, Group
from .views import VIEWS, Source, sources

__all__ = ["Read", "Reads"]

CHEAP = frozenset({"add", "subtract", "multiply", "negative", "astype", "abs", "square"})

# (member, array's node, the domain's axes that its axes follow; None where all of it is read)
Read = tuple[int, int, tuple[int, ...] | None]


class Reads:
    """A legal graph, and what its kernels read of each other."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.sources = sources(graph)
        self.lazy = _lazy(graph, self.sources)

    def reads_of(self, one: Group) -> list[Read]:
        """(member, array's node, the domain's axes that its axes follow) from outside the group."""
        inside = set(one.members)
        found: list[Read] = []
        for number in one.members:
            product = self.graph.nodes[number].op == "matmul" or one.kind in ALONE
            for root, axes in self.behind(number):
                if root in inside:
                    continue
                if product or axes is None or self.graph.nodes[number].op in REDUCTIONS:
                    found.append((number, root, None))
                else:
                    place = one.place[number]
                    found.append((number, root, tuple(-1 if a is None else place[a] for a in axes)))
        return found

    def behind(self, number: int) -> list[tuple[int, tuple[int | None, ...] | None]]:
        """The stored nodes that a node's value is computed from, with axes as its own."""
        found: list[tuple[int, tuple[int | None, ...] | None]] = []
        todo: list[tuple[int, tuple[int | None, ...] | None]] = []
        node = self.graph.nodes[number]
        apart = node.op == "matmul" or node.op in ALONE or node.op in REDUCTIONS
        for source in node.inputs:
            root, axes = self.sources[source]
            extra = 0 if apart else len(node.shape) - len(self.graph.nodes[source].shape)
            todo.append((root, _shifted(axes, extra)))
        while todo:
            root, axes = todo.pop()
            below = self.graph.nodes[root]
            if root not in self.lazy:
                if below.op != "constant" or below.size > 1:
                    found.append((root, axes))
                continue
            for source in below.inputs:
                deeper, inner = self.sources[source]
                extra = len(below.shape) - len(self.graph.nodes[source].shape)
                inner = _shifted(inner, extra)
                if axes is None or inner is None:
                    todo.append((deeper, None))
                else:
                    todo.append((deeper, tuple(None if a is None else axes[a] for a in inner)))
        return found

    def stored_in(self, member: Mapping[int, Group], reads: Mapping[int, Any]) -> set[int]:
        """The nodes that must lie in memory: outputs, and what another kernel reads."""
        found = set(self.graph.outputs)
        for several in reads.values():
            found.update(root for _, root, _ in several)
        return {n for n in found if n in member}


def _lazy(graph: Graph, origin: Sequence[Source]) -> set[int]:
    """Cheap nodes that each of their readers can compute again, at the very element that it reads.

    Comparisons, and what one reader makes of inputs alone: where it lies in the order of nodes says
    nothing about where it is wanted (a decayed average, before the gradient that it meets).
    """
    outputs, users = set(graph.outputs), graph.users()
    found: set[int] = set()
    for number, node in enumerate(graph.nodes):
        if number in outputs:
            continue
        roots = [origin[k].root for k in node.inputs]
        given = all(graph.nodes[k].op in ("input", "constant") for k in roots)
        once = node.op in CHEAP and given and node.shape and len(users[number]) == 1
        if node.op in LAZY or once:
            found.add(number)
    for node in reversed(graph.nodes):
        if node.op in VIEWS:
            continue
        for source in node.inputs:
            root, axes = origin[source]
            if axes is None or node.op == "matmul" or node.op in ALONE:
                found.discard(root)
    return found


def _shifted(axes: tuple[int | None, ...] | None, extra: int) -> tuple[int | None, ...] | None:
    return None if axes is None else tuple(None if a is None else a + extra for a in axes)
