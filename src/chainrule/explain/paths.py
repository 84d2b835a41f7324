"""The largest paths from one element to the output, by best-first search; the rest as one sum."""

from __future__ import annotations

import heapq
import itertools
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..circuit import Tensor
from ..gradient.backward import Edge
from .bound import Bounds, ends
from .fan import fan
from .flow import Flow

Array = np.ndarray[Any, Any]
Index = tuple[int, ...]
BUDGET = 20_000  # elements that one search expands at most


class Hop(NamedTuple):
    """One factor of a path: from an element of an edge's input to an element of its node."""

    edge: Edge
    below: Index
    above: Index
    factor: float


@dataclass(frozen=True)
class Path:
    """A product of factors from an element up to `end`, whose gradient there is the last factor."""

    hops: tuple[Hop, ...]
    end: Tensor
    place: Index
    last: float  # ∂output/∂end at the place; 1 where the end is the output
    contribution: float


@dataclass(frozen=True)
class Paths:
    """The largest paths in order of size, and what all others add up to.

    `rest` is exact: what the search has not opened is a product so far times a gradient that the
    backward loop has summed already. `sure` is False where the search ended at its budget, so that
    a larger path may be among the rest.
    """

    largest: tuple[Path, ...]
    rest: float
    gradient: float
    complete: bool  # whether there are no others
    sure: bool


class _Group:
    """The elements that one element feeds through one edge, the most promising first."""

    def __init__(
        self, flow: Flow, bounds: Bounds, edge: Edge, below: Index, product: float, trail: Any,
        promised: float,
    ) -> None:  # fmt: skip
        places, factors = fan(edge, below)
        gradient = np.asarray(flow.gradients[edge.node], dtype=np.float64).reshape(-1)
        products = product * factors
        if len(places) > 1 or len(flow.received[edge.source]) > 1:
            promise = np.abs(products) * bounds.of(edge.node).reshape(-1)[places]
            order = np.argsort(-promise, kind="stable")
            places, factors, products = places[order], factors[order], products[order]
            self.promise = promise[order]
        else:
            self.promise = np.full(len(places), promised)  # the only way on: no need to compare
        exact = products * gradient[places]
        self.after = [*np.cumsum(exact[::-1])[::-1].tolist(), 0.0]  # the sum from each one on
        self.edge, self.below, self.trail = edge, below, trail
        self.places, self.factors, self.products = places, factors, products
        self.next = 0

    @property
    def left(self) -> float:
        """What the elements that were not taken yet add up to."""
        return float(self.after[self.next])


def largest_paths(flow: Flow, tensor: Tensor, index: Index = (), most: int = 8) -> Paths:
    """The `most` largest paths of one element of a tensor, in absolute value.

    Works from the element towards the output. A partial path promises at most |its product| times
    a bound of what may follow, and the greatest promise is opened first: however many paths there
    are, as many elements are looked at as the largest few need.

    >>> import chainrule as cr
    >>> from chainrule.explain.flow import flow_of
    >>> x = cr.tensor(1.0)
    >>> y = x
    >>> for _ in range(100):
    ...     y = y + 0.5 * y
    >>> found = largest_paths(flow_of(y), x, most=2)
    >>> [path.contribution for path in found.largest], found.rest == found.gradient - 1.5
    ([1.0, 0.5], True)
    """
    last = ends(flow) - {tensor}
    bounds = Bounds(flow, last)
    gradient = float(np.asarray(flow.gradients[tensor])[index])
    heap: list[tuple[float, int, _Group]] = []
    ticket = itertools.count()

    def enter(group: _Group) -> None:
        if group.next < len(group.places):
            heapq.heappush(heap, (-float(group.promise[group.next]), next(ticket), group))

    for edge in flow.received[tensor]:
        enter(_Group(flow, bounds, edge, index, 1.0, None, np.inf))
    found: list[Path] = []
    for _ in range(BUDGET):
        if not heap or len(found) == most:
            break
        promised, _, group = heapq.heappop(heap)
        k = group.next
        group.next += 1
        enter(group)
        node = group.edge.node
        place = tuple(int(i) for i in np.unravel_index(int(group.places[k]), node.shape))
        hop = Hop(group.edge, group.below, place, float(group.factors[k]))
        trail, product = (group.trail, hop), float(group.products[k])
        if node in last or node is flow.output:
            found.append(_path(flow, node, place, product, trail))
            continue
        for edge in flow.received[node]:
            enter(_Group(flow, bounds, edge, place, product, trail, -promised))
    rest = math.fsum(group.left for _, _, group in heap)
    return Paths(tuple(found), rest, gradient, not heap, not heap or len(found) == most)


def _path(flow: Flow, end: Tensor, place: Index, product: float, trail: Any) -> Path:
    hops: list[Hop] = []
    while trail is not None:
        trail, hop = trail
        hops.append(hop)
    last = float(np.asarray(flow.gradients[end])[place])
    return Path(tuple(hops[::-1]), end, place, last, product * last)


class Shares(NamedTuple):
    """One element's gradient where its way first spreads: a product for each element it feeds."""

    edge: Edge
    below: Index
    places: list[Index]
    factors: Array
    upstream: Array

    @property
    def contributions(self) -> Array:
        """Factor times upstream gradient, one for each element that is fed."""
        return self.factors * self.upstream


def shares(flow: Flow, tensor: Tensor, index: Index) -> Shares | None:
    """The contributions of one element by sample: where the first operation spreads it.

    None where it never feeds more than one element before its way branches.
    """
    node, place, product = tensor, index, 1.0
    while len(flow.received[node]) == 1:
        (edge,) = flow.received[node]
        places, factors = fan(edge, place)
        if len(places) > 1:
            gradient = np.asarray(flow.gradients[edge.node], dtype=np.float64).reshape(-1)
            spots = [
                tuple(int(i) for i in np.unravel_index(int(p), edge.node.shape)) for p in places
            ]
            return Shares(edge, place, spots, product * factors, gradient[places])
        if not len(places) or edge.node is flow.output:
            return None
        node, product = edge.node, product * float(factors[0])
        place = tuple(int(i) for i in np.unravel_index(int(places[0]), node.shape))
    return None
