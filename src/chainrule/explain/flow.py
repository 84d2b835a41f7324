"""One run of the backward loop, kept: every edge with its factor, by node and by input."""

from __future__ import annotations

import gc
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from typing import Any

import numpy as np

from ..circuit import Tensor, circuit_of
from ..gradient.backward import Edge, flow_back, seed


@dataclass
class Flow:
    """The edges that `flow_back` yields while it computes the gradients: nothing is re-computed.

    Every number that an explanation prints is `local`, `upstream` or `contribution` of one of these
    edges, or a product of them. The loop and the rule objects are those of `Tensor.backward`, so an
    explanation cannot disagree with `.grad`; and nothing is written there.
    """

    output: Tensor
    gradients: dict[Tensor, Any]
    edges: list[Edge]  # in the order of the loop, from the output down

    @cached_property
    def nodes(self) -> list[Tensor]:
        """Every node of the circuit, constants too, inputs before users."""
        return circuit_of(self.output)

    @cached_property
    def reached(self) -> list[Tensor]:
        """The nodes that a gradient reaches, inputs before users."""
        return sorted(self.gradients, key=attrgetter("serial"))

    @cached_property
    def received(self) -> dict[Tensor, list[Edge]]:
        """The edges that end at each tensor: their contributions add up to its gradient."""
        found: dict[Tensor, list[Edge]] = defaultdict(list)
        for edge in self.edges:
            found[edge.node.inputs[edge.position]].append(edge)
        return found

    @cached_property
    def sent(self) -> dict[Tensor, list[Edge]]:
        """The edges that start at each node."""
        found: dict[Tensor, list[Edge]] = defaultdict(list)
        for edge in self.edges:
            found[edge.node].append(edge)
        return found

    def chain(self, edge: Edge) -> list[Edge]:
        """The edges from `edge` up to the output or the nearest branch, the highest first."""
        edges = [edge]
        while edge.node is not self.output and len(self.received[edge.node]) == 1:
            (edge,) = self.received[edge.node]
            edges.append(edge)
        return edges[::-1]


def flow_of(output: Tensor) -> Flow:
    """The flow of the gradient from `output` to everything that it depends on.

    >>> import chainrule as cr
    >>> x = cr.tensor(3.0, name="x")
    >>> flow = flow_of(x * x)
    >>> [float(edge.contribution) for edge in flow.received[x]], x.grad
    ([3.0, 3.0], None)
    """
    edges: list[Edge] = []
    with _without_garbage():
        gradients = flow_back(output, seed(output), watch=edges.append)
        flow = Flow(output, gradients, edges)
        _ = flow.received
    return flow


@contextmanager
def _without_garbage() -> Iterator[None]:
    """Many small records are made and none is dropped: looking for garbage would only cost."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def factor(edge: Edge) -> Any:
    """∂node/∂input of an edge between single numbers, the pulled 1 where the rule is a pull."""
    if edge.local.__class__ is np.float64:
        return edge.local
    if edge.local is not None:
        return np.asarray(edge.local, dtype=np.float64).reshape(-1)[0]
    node = edge.node
    values = [*[x.value for x in node.inputs], node.value]
    one = np.ones(node.shape, node.dtype)[()]
    with np.errstate(all="ignore"):
        pulled = node.op.pull(edge.position, one, values, node.params)
    return np.asarray(pulled, dtype=np.float64).reshape(-1)[0]
