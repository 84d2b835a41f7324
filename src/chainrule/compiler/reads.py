"""Who reads what: the arrays behind each kernel, through views and what is computed again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .graph import Graph
from .groups import ALONE, LAZY, REDUCTIONS, Group, behind
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

    def behind(self, number: int) -> list[Source]:
        """The arrays that a node's value is computed from; a single constant is no array."""
        nodes = self.graph.nodes
        found = behind(self.graph, self.sources, self.lazy, number)
        return [s for s in found if nodes[s.root].op != "constant" or nodes[s.root].size > 1]

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
