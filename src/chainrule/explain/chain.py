"""The chain of factors: a gradient as sums of products of local derivatives, branch by branch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..circuit import Tensor
from ..gradient.backward import Edge
from .flow import Flow, factor
from .naming import Names
from .numbers import scalar

LONG = 200  # edges from which a chain's middle is one link
ENDS = 8  # edges at either end of such a chain that stay links


@dataclass(frozen=True)
class Link:
    """∂above/∂below: one factor of a chain, made of one edge or of several trivial ones."""

    above: Tensor
    below: Tensor
    edges: tuple[Edge, ...]
    value: float


@dataclass(frozen=True)
class Chain:
    """One term of a gradient: ∂output/∂head times a link for each step down to the tensor.

    `head` is the branch where the chain starts, whose own gradient is explained on its own line;
    None where it starts at the output. `contribution` is what the backward loop added.
    """

    head: Tensor | None
    upstream: float
    links: tuple[Link, ...]
    contribution: float

    @property
    def factors(self) -> list[float]:
        """The numbers that are multiplied."""
        start = [] if self.head is None else [self.upstream]
        return start + [link.value for link in self.links]


@dataclass(frozen=True)
class Line:
    """∂output/∂tensor = the sum of its chains: one edge out of the tensor, one chain."""

    tensor: Tensor
    chains: tuple[Chain, ...]
    gradient: float


def is_scalar_flow(flow: Flow, tensor: Tensor) -> bool:
    """Whether everything between a tensor and the output is single numbers."""
    seen, waiting = {tensor}, [tensor]
    while waiting:
        node = waiting.pop()
        if node.value.__class__ is not np.float64 and node.size != 1:
            return False
        for edge in flow.received[node]:
            if edge.node not in seen:
                seen.add(edge.node)
                waiting.append(edge.node)
    return True


def lines(flow: Flow, names: Names, tensor: Tensor) -> Iterator[Line]:
    """The line of a tensor, then those of the branches that its chains start from, each once.

    A circuit of n edges gives at most n terms in all, however many paths it has: a branch is
    explained once and then stands as one factor.

    >>> import chainrule as cr
    >>> from chainrule.circuit.names import CallerNames
    >>> from chainrule.explain.flow import flow_of
    >>> x = cr.tensor(3.0, name="x")
    >>> flow = flow_of(cr.sin(x * x) * 2)
    >>> names = Names(flow.output, flow.nodes, CallerNames({}))
    >>> [len(line.chains) for line in lines(flow, names, x)]
    [2, 1]
    """
    waiting, seen = [tensor], {tensor}
    while waiting:
        line = _line(flow, names, waiting.pop(0))
        yield line
        for chain in line.chains:
            if chain.head is not None and chain.head not in seen:
                seen.add(chain.head)
                waiting.append(chain.head)


def _line(flow: Flow, names: Names, tensor: Tensor) -> Line:
    received = flow.received[tensor]
    several = len(received) > 1
    chains = [_chain(flow, names, edge, several) for edge in received]
    return Line(tensor, tuple(chains), scalar(flow.gradients[tensor]))


def _chain(flow: Flow, names: Names, edge: Edge, several: bool) -> Chain:
    edges = flow.chain(edge)
    top = edges[0].node
    # Two edges from one node, as in x·x, start at it: what lies above is one and the same.
    if several and sum(e.node is edge.node for e in flow.received[edge.source]) > 1:
        edges, top = [edge], edge.node
    head = None if top is flow.output else top
    links = tuple(_long(edges) if len(edges) > LONG else links_of(edges, names))
    return Chain(head, scalar(flow.gradients[top]), links, scalar(edge.contribution))


def _long(edges: list[Edge]) -> Iterator[Link]:
    """The ends of a very long chain edge by edge, and its middle as one factor."""
    yield from (link_of([e]) for e in edges[:ENDS])
    yield _middle(edges[ENDS:-ENDS])
    yield from (link_of([e]) for e in edges[-ENDS:])


def _middle(edges: list[Edge]) -> Link:
    """Edges without a branch as one factor: what comes out of them over what goes in."""
    upstream, sent = scalar(edges[0].upstream), scalar(edges[-1].contribution)
    if not (math.isfinite(upstream) and math.isfinite(sent) and upstream and sent):
        return link_of(edges)
    return Link(edges[0].node, edges[-1].source, tuple(edges), sent / upstream)


def links_of(edges: list[Edge], names: Names) -> Iterator[Link]:
    """The edges grouped into links between nodes that the reader knows by name.

    A group keeps its inner nodes apart, under their numbers, where more than one of its factors is
    more than a number: then the product would hide a step.
    """
    inner = [e.source for e in edges[:-1]]
    known = any(node in names.given for node in inner)
    start = 0
    for k, edge in enumerate(edges):
        last = k == len(edges) - 1
        if not (last or edge.source in names.given):
            continue
        group = edges[start : k + 1]
        start = k + 1
        if known and sum(not is_trivial(e) for e in group) <= 1:
            yield link_of(group)
        else:
            yield from (link_of([e]) for e in group)


def link_of(edges: list[Edge]) -> Link:
    """Edges that follow each other, the highest first, as one factor: their product."""
    value = math.prod([float(factor(e)) for e in edges])
    return Link(edges[0].node, edges[-1].source, tuple(edges), value)


def is_trivial(edge: Edge) -> bool:
    """Whether the factor is a plain number: ±1, or the constant that the input is multiplied by."""
    node = edge.node
    if node.op.locals and not callable(node.op.locals[edge.position]):
        return True
    if not node.op.locals:
        return node.size == edge.source.size == 1
    others = [x for k, x in enumerate(node.inputs) if k != edge.position]
    linear = node.op.name == "multiply" or (node.op.name == "divide" and edge.position == 0)
    return linear and not any(x.traced for x in others)
