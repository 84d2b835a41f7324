"""Fusion: which nodes share a kernel. Each group is one loop over one domain, or one product.

A node joins the kernel that makes its operands if it reads them element by element (or, after a
reduction along the last axis, row by row); so bias, activation, mask and update end up where a
product is stored.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, field

from .graph import Graph, Shape
from .views import VIEWS, Source

__all__ = ["ALONE", "LAZY", "REDUCTIONS", "Group", "behind", "group"]

REDUCTIONS = frozenset({"sum", "max", "min"})
ALONE = frozenset({"gather", "scatter_add", "join", "cumsum_along", "argmax", "argmin"})
# Cheaper to compute again where they are read than to store and load.
LAZY = frozenset(
    {
        "less", "less_equal", "greater", "greater_equal", "equal", "not_equal", "logical_and",
        "logical_or", "logical_not", "isnan", "isfinite",
    }
)  # fmt: skip


@dataclass(eq=False)
class Group:
    """Nodes that one kernel computes.

    `kind` is "map" (a loop), "rows" (a loop over rows with reductions along them), "reduce" (a loop
    with reductions along `reduced` axes), "matmul", or an operation alone. `place[n][a]`
    is the axis of the domain that axis `a` of member n follows, −1 for one of length 1.
    """

    kind: str
    domain: Shape
    members: list[int] = field(default_factory=list)
    place: dict[int, tuple[int, ...]] = field(default_factory=dict)
    reduced: tuple[int, ...] = ()
    after: set[int] = field(default_factory=set)  # members that follow from a reduction's result
    over: dict[int, tuple[int, ...]] = field(default_factory=dict)  # reduction -> operand's place

    def enter(self, number: int, place: tuple[int, ...]) -> None:
        """One more member."""
        self.members.append(number)
        self.place[number] = place


def behind(graph: Graph, origin: Sequence[Source], lazy: Set[int], number: int) -> list[Source]:
    """The arrays that a node's value is computed from, through views and nodes that are lazy.

    Axes are the node's own; of a product, a reduction or a node that stands alone its operand's.
    """
    found: list[Source] = []
    todo = list(_operands(graph, origin, number))
    while todo:
        root, axes = todo.pop()
        if root not in lazy:
            found.append(Source(root, axes))
            continue
        for below, inner in _operands(graph, origin, root):
            outer = None
            if axes is not None and inner is not None:
                outer = tuple(None if a is None else axes[a] for a in inner)
            todo.append(Source(below, outer))
    return found


def _operands(graph: Graph, origin: Sequence[Source], reader: int) -> Iterator[Source]:
    """A node's operands, with axes as their reader's, which may have more of them in front."""
    node = graph.nodes[reader]
    apart = node.op == "matmul" or node.op in ALONE or node.op in REDUCTIONS
    for operand in node.inputs:
        root, axes = origin[operand]
        extra = 0 if apart else len(node.shape) - len(graph.nodes[operand].shape)
        if axes is not None:
            axes = tuple(None if a is None else a + extra for a in axes)
        yield Source(root, axes)


class _Fusion:
    """The state of grouping: nodes are visited in order."""

    def __init__(self, graph: Graph, origin: Sequence[Source], lazy: Set[int]) -> None:
        self.graph, self.lazy, self.sources = graph, lazy, origin
        self.groups: list[Group] = []
        self.home: dict[int, int] = {}  # node -> number of its group
        self.before: list[int] = []  # of each group, as bits, the groups that it waits for
        self.uses = [len(x) for x in graph.users()]

    def shape(self, number: int) -> Shape:
        return self.graph.nodes[number].shape

    # -- what a node reads ---------------------------------------------------------------------

    def reads(self, number: int) -> list[Source]:
        """The arrays behind a node's inputs, with axes as the node's own."""
        return behind(self.graph, self.sources, self.lazy, number)

    # -- joining -------------------------------------------------------------------------------

    def fitted(
        self, where: int, number: int, reads: list[Source], shape: Shape
    ) -> tuple[int, ...] | None:
        """The place of a node's axes in a group's domain, if all of its reads allow it."""
        group = self.groups[where]
        place = [-1] * len(shape)
        for root, axes in reads:
            home = self.home.get(root, -1)
            if home != where:
                continue
            if axes is None:
                return None
            for a, axis in enumerate(axes):
                axis_there = group.place[root][a]
                if axis is None or axis_there < 0:
                    continue
                if place[axis] not in (-1, axis_there):
                    return None
                place[axis] = axis_there
        free = [d for d in range(len(group.domain)) if d not in place]
        for axis, n in enumerate(shape):
            if n == 1 or place[axis] >= 0:
                continue
            fits = [d for d in free if group.domain[d] == n]
            if not fits:
                return None
            place[axis] = fits[0]
            free.remove(fits[0])
        used = [d for d in place if d >= 0]
        if len(set(used)) < len(used):
            return None
        if any(n != 1 and group.domain[d] != n for n, d in zip(shape, place, strict=True)):
            return None
        return tuple(place)

    def candidates(self, reads: list[Source]) -> list[int]:
        """The groups that a node may join, products first and then the latest.

        None of the other groups that the node reads may wait for the one that it joins.
        """
        homes = {self.home[root] for root, _ in reads if root in self.home}
        free = [g for g in homes if not any(self.before[h] >> g & 1 for h in homes if h != g)]
        return sorted(free, key=lambda g: (self.groups[g].kind == "matmul", g), reverse=True)

    def follow(self, where: int, reads: list[Source]) -> None:
        """Note that a group, and all that wait for it, wait for those that it reads now."""
        new = 0
        for root, _ in reads:
            home = self.home.get(root, where)
            if home != where:
                new |= 1 << home | self.before[home]
        new &= ~self.before[where]
        if new:
            self.before[where] |= new
            for k, before in enumerate(self.before):
                if before >> where & 1:
                    self.before[k] |= new

    def pointwise(self, number: int) -> None:
        """Put an elementwise node where it belongs."""
        reads, shape = self.reads(number), self.shape(number)
        for where in self.candidates(reads):
            group = self.groups[where]
            if group.kind in ALONE:
                continue
            place = self.fitted(where, number, reads, shape)
            if place is None or not self._covers(group, number, reads, place):
                continue
            group.enter(number, place)
            if any(root in group.after for root, _ in reads):
                group.after.add(number)
            self.home[number] = where
            self.follow(where, reads)
            return
        self.open("map", shape, number)

    def _covers(
        self, group: Group, number: int, reads: list[Source], place: tuple[int, ...]
    ) -> bool:
        """Whether the node has a value at each point of the domain, or at each row, as it must."""
        wide = {d for d, n in enumerate(group.domain) if n != 1}
        used = {d for d in place if d >= 0}
        if group.kind in ("map", "matmul"):
            return used == wide
        follows = any(root in group.after for root, _ in reads)
        if group.kind == "rows":
            return used == wide or (used == wide - {len(group.domain) - 1} and follows)
        return used == wide - set(group.reduced) and follows

    def reduction(self, number: int) -> None:
        """Put a reduction behind its operand's loop, or open a loop for it."""
        node = self.graph.nodes[number]
        shape = self.shape(node.inputs[0])
        axes = tuple(a for a in node.params["axis"] if shape[a] != 1)
        reads = self.reads(number)
        kept = [a for a in range(len(shape)) if a not in node.params["axis"]]
        for where in self.candidates(reads):
            group = self.groups[where]
            place = self.fitted(where, number, reads, shape)
            if place is None or not axes:
                continue
            wide = {d for d, n in enumerate(group.domain) if n != 1}
            if {d for d in place if d >= 0} != wide:
                continue
            reduced = {place[a] for a in axes}
            last = {max(wide)}
            if group.kind == "map" and reduced == last and len(wide) > 1:
                group.kind = "rows"
            elif group.kind == "map" and self._private(group, reads):
                group.kind, group.reduced = "reduce", tuple(sorted(reduced))
            elif not (group.kind == "rows" and reduced == last):
                continue
            self._enter_reduction(where, number, place, kept)
            self.follow(where, reads)
            return
        long = [a for a in range(len(shape)) if shape[a] != 1]
        kind = "rows" if set(axes) == set(long[-1:]) and len(long) > 1 else "reduce"
        reduced_axes = axes if kind == "reduce" else ()
        self.groups.append(Group(kind, shape, reduced=reduced_axes))
        self.before.append(0)
        self.follow(len(self.groups) - 1, reads)
        place = tuple(a if n != 1 else -1 for a, n in enumerate(shape))
        self._enter_reduction(len(self.groups) - 1, number, place, kept)

    def _private(self, group: Group, reads: list[Source]) -> bool:
        """Whether a loop serves this reduction alone, so that its order may be changed."""
        return all(self.uses[m] <= 1 for m in group.members) and len(reads) >= 1

    def _enter_reduction(
        self, where: int, number: int, over: tuple[int, ...], kept: list[int]
    ) -> None:
        """With keepdims the reduced axes are there with length 1."""
        node = self.graph.nodes[number]
        places = iter([over[a] for a in kept])
        if node.params["keepdims"]:
            axes = node.params["axis"]
            place = tuple(-1 if a in axes else next(places) for a in range(len(node.shape)))
        else:
            place = tuple(places)
        group = self.groups[where]
        group.enter(number, place)
        group.after.add(number)
        group.over[number] = over
        self.home[number] = where

    def open(self, kind: str, domain: Shape, number: int) -> None:
        """A group of its own."""
        group = Group(kind, domain)
        group.enter(number, tuple(a if n != 1 else -1 for a, n in enumerate(self.shape(number))))
        self.groups.append(group)
        self.before.append(0)
        self.home[number] = len(self.groups) - 1
        self.follow(len(self.groups) - 1, self.reads(number))


def group(graph: Graph, origin: Sequence[Source], lazy: Set[int]) -> list[Group]:
    """The kernels of a legal graph; `origin` are its nodes' sources.

    The `lazy` nodes are computed again by each of their readers instead of being stored.
    """
    fusion = _Fusion(graph, origin, lazy)
    outputs = set(graph.outputs)
    for number, node in enumerate(graph.nodes):
        if node.op in ("input", "constant") or node.op in VIEWS:
            continue
        if number not in outputs and number in lazy:
            continue
        if node.op in REDUCTIONS:
            fusion.reduction(number)
        elif node.op == "matmul" or node.op in ALONE:
            fusion.open("matmul" if node.op == "matmul" else node.op, node.shape, number)
        else:
            fusion.pointwise(number)
    return fusion.groups
