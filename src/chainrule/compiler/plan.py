"""The schedule: kernels in phases, arrays in memory. Everything but the instructions.

A phase is work between two barriers. Its lanes are independent of each other; the kernels of a lane
follow each other on the same rows, so a chunk of rows goes through all of them while it is warm,
and no barrier is needed between them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from .graph import Graph
from .groups import Group, group
from .legal import legal
from .phases import Phases
from .schedule import Access, Array, Kernel, Lane, Plan, Stream
from .target import KINDS, Kind

__all__ = ["Access", "Array", "Kernel", "Lane", "Plan", "Stream", "plan"]


def plan(
    graph: Graph,
    bound: Sequence[int | None] | None = None,
    streams: Mapping[str, Sequence[Stream]] | None = None,
    kind: Kind = KINDS["avx2"],
    after: Plan | None = None,
) -> Plan:
    """The schedule of a simplified graph.

    `bound[k]` is the input whose memory output k takes over (a state of a loop); `streams` says of
    "inputs" and "outputs" how they move from step to step. `kind` is the machine's.
    A plan `after` another shares its states' memory and has its own behind the other's.
    """
    bound = list(bound) if bound is not None else [None] * len(graph.outputs)
    lawful, orders = legal(graph, bound)
    try:
        return _Planner(lawful, bound, orders, streams or {}, kind).run(after)
    except _StateCircle as circle:
        lawful, orders = legal(_apart(graph, circle.outputs), bound)
        return _Planner(lawful, bound, orders, streams or {}, kind).run(after)


def _apart(graph: Graph, outputs: Sequence[int]) -> Graph:
    """With these outputs computed in memory of their own, and copied at the end."""
    made = Graph(list(graph.nodes), list(graph.inputs), list(graph.outputs))
    for k in outputs:
        node = graph.nodes[graph.outputs[k]]
        made.outputs[k] = made.add(
            "copy", (graph.outputs[k],), shape=node.shape, dtype=node.dtype, label=node.label
        )
    return made


class _Planner(Phases):
    """Groups become kernels: in an order, with their packs."""

    def run(self, after: Plan | None) -> Plan:
        groups = group(self.graph, self.sources, self.lazy)
        member = {n: g for g in groups for n in g.members}
        reads = {id(g): self.reads_of(g) for g in groups}
        stored = self.stored_in(member, reads)
        self._inputs(self._paneled(groups, reads))
        self._outputs(member, stored)
        self._temporaries(groups, stored)
        ordered = self._sorted(groups, reads, stored)
        for one in ordered:
            self._kernel(one, stored)
        self._phases(reads)
        self._chunks()
        self._memory(after)
        return self.made

    def _sorted(
        self, groups: Sequence[Group], reads: Mapping[int, Any], stored: set[int]
    ) -> list[Group]:
        """The groups, each after those it reads, and a state's last writer after its readers.

        Where that is a circle, the new state is written apart and copied over at the end.
        """
        index = {id(g): k for k, g in enumerate(groups)}
        home = {n: k for k, g in enumerate(groups) for n in g.members}
        before: list[set[int]] = [set() for _ in groups]
        for k, g in enumerate(groups):
            before[k] |= {home[root] for _, root, _ in reads[id(g)] if root in home} - {k}
        readers: dict[int, set[int]] = {}
        for g in groups:
            for _, root, _ in reads[id(g)]:
                readers.setdefault(root, set()).add(index[id(g)])
        for k, number in enumerate(self.graph.outputs):
            inside = self.bound[k]
            if inside is None:
                continue
            state = self.graph.inputs[inside]
            writer = home[number]
            before[writer] |= readers.get(state, set()) - {writer}
            if not self._in_place(groups[writer], number, state, reads):
                raise _StateCircle([k])
        order: list[int] = []
        waiting = {k: len(b) for k, b in enumerate(before)}
        after: list[list[int]] = [[] for _ in groups]
        for k, b in enumerate(before):
            for j in b:
                after[j].append(k)
        ready = sorted((k for k, n in waiting.items() if n == 0), reverse=True)
        while ready:
            k = ready.pop()
            order.append(k)
            for j in after[k]:
                waiting[j] -= 1
                if waiting[j] == 0:
                    ready.append(j)
            ready.sort(reverse=True)
        if len(order) < len(groups):
            stuck = {n for k in waiting if k not in set(order) for n in groups[k].members}
            raise _StateCircle(
                [
                    k
                    for k, n in enumerate(self.graph.outputs)
                    if n in stuck and self.bound[k] is not None
                ]
            )
        return [groups[k] for k in order]

    def _in_place(self, one: Group, number: int, state: int, reads: Mapping[int, Any]) -> bool:
        """Whether a kernel reads of a state only the element that it is about to write."""
        shape = self.graph.nodes[state].shape
        place = [d if n != 1 else -1 for d, n in zip(one.place[number], shape, strict=True)]
        return all(
            axes is not None
            and [d if n != 1 else -1 for d, n in zip(axes, shape, strict=True)] == place
            for _, root, axes in reads[id(one)]
            if root == state
        )

    def _kernel(self, one: Group, stored: set[int]) -> None:
        """A kernel for a group, with the pack that a product's second operand may need."""
        made = self.made
        kernel = Kernel(0, one, _chunk_axis(one, self.graph.nodes[one.members[0]].params))
        if one.kind == "matmul":
            self._product(kernel)
        kernel.number = len(made.kernels)
        kernel.stores = [n for n in one.members if n in stored]
        for number in one.members:
            made.owner[number] = kernel.number
        size = math.prod(one.domain)
        if one.kind != "matmul":
            kernel.flops = size * len(one.members)
        kernel.bytes = sum(made.arrays[made.home[n]].bytes for n in kernel.stores)
        made.kernels.append(kernel)


class _StateCircle(Exception):
    """A state's new value would overwrite the old one before everybody has read that."""

    def __init__(self, outputs: Sequence[int]) -> None:
        super().__init__(outputs)
        self.outputs = list(outputs)


def _chunk_axis(one: Group, params: Mapping[str, Any]) -> int | None:
    """The first axis that chunks can be cut from: rows of a loop, columns of a sum over rows."""
    wide = [d for d, n in enumerate(one.domain) if n != 1 and d not in one.reduced]
    if one.kind == "rows":
        wide = wide[:-1]
    if one.kind == "matmul":
        wide = [d for d in wide if d < len(one.domain) - 1]
    if one.kind == "reduce":
        return wide[-1] if wide else None
    if one.kind == "cumsum_along" or (one.kind == "scatter_add" and "axis" in params):
        wide = [d for d in wide if d != params["axis"]]  # along which one element follows another
    return wide[0] if wide else None
