"""One run of the backward loop, kept: every edge with its factor, by node and by input."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
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
    nodes: list[Tensor]
    gradients: dict[Tensor, Any]
    sent: dict[Tensor, list[Edge]] = field(default_factory=lambda: defaultdict(list))
    received: dict[Tensor, list[Edge]] = field(default_factory=lambda: defaultdict(list))

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
    flow = Flow(output, circuit_of(output), {})
    sent, received = flow.sent, flow.received

    def watch(edge: Edge) -> None:
        sent[edge.node].append(edge)
        received[edge.source].append(edge)

    flow.gradients = flow_back(output, seed(output), watch=watch)
    return flow


def factor(edge: Edge) -> Any:
    """∂node/∂input of an edge between single numbers, the pulled 1 where the rule is a pull."""
    if edge.local is not None:
        return np.asarray(edge.local, dtype=np.float64).reshape(-1)[0]
    node = edge.node
    values = [*[x.value for x in node.inputs], node.value]
    one = np.ones(node.shape, node.dtype)[()]
    with np.errstate(all="ignore"):
        pulled = node.op.pull(edge.position, one, values, node.params)
    return np.asarray(pulled, dtype=np.float64).reshape(-1)[0]
