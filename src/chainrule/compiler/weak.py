"""Python numbers in a graph: they take the dtype of the array that they meet, as in NumPy."""

from __future__ import annotations

from .graph import Graph, Node

__all__ = ["WeakNumbers"]

# Python's own operators, whose result on Python numbers is one again.
_OPERATORS = frozenset({"add", "subtract", "multiply", "divide", "negative"})


class WeakNumbers:
    """Which nodes of a growing graph are Python numbers: constants and inputs that are marked
    `weak`, and what Python's operators make of such alone."""

    def __init__(self) -> None:
        self._flags: list[bool] = []

    def enter(self, graph: Graph) -> None:
        """Look at the nodes that were appended since."""
        for node in graph.nodes[len(self._flags) :]:
            self._flags.append(self.would_be(node))

    def would_be(self, node: Node) -> bool:
        """Whether a node on those that are known is one."""
        if node.op in _OPERATORS:
            return all(self._flags[k] for k in node.inputs)
        return bool(node.params.get("weak"))

    def __getitem__(self, number: int) -> bool:
        return self._flags[number]
