"""From a graph to one that kernels can be made of: copies where memory must move, products turned.

A last rewriting, still in terms of nodes: what comes out computes the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from .graph import Graph, Node, Shape
from .views import VIEWS, Source, sources, unit_reshape

__all__ = ["copied", "legal", "orders", "together"]

Order = tuple[int, ...]  # the axes of an array from the slowest to the fastest in memory
LONG = 1 << 14  # elements that one loop may add up: longer sums are taken in two


def _c(ndim: int) -> Order:
    return tuple(range(ndim))


class _Rebuilt:
    """A copy of a graph in the making, with the numbers of the old one's nodes in the new one."""

    def __init__(self, old: Graph) -> None:
        self.old, self.new = old, Graph()
        self.at: dict[int, int] = {}

    def keep(self, number: int) -> int:
        """The node as it was, on the new numbers of its inputs."""
        node = self.old.nodes[number]
        made = self.append(node, [self.at[k] for k in node.inputs])
        if node.op == "input":
            self.new.inputs.append(made)
        self.at[number] = made
        return made

    def append(self, like: Node, inputs: Sequence[int]) -> int:
        return self.new.add(
            like.op, inputs, like.params,
            shape=like.shape, dtype=like.dtype, label=like.label, origin=like.origin,
        )  # fmt: skip

    def finish(self) -> Graph:
        self.new.outputs = [self.at[k] for k in self.old.outputs]
        return self.new


def copied(graph: Graph, bound: Sequence[int | None]) -> Graph:
    """With copies before reshapes of what is not in C order, and of outputs that are views.

    `bound[k]` is the input whose memory output k shares, None for an array of its own.
    """
    made = _Rebuilt(graph)
    states = {graph.inputs[i] for i in bound if i is not None}
    for number, node in enumerate(graph.nodes):
        if node.op == "reshape":
            before = graph.nodes[node.inputs[0]]
            plain = before.op not in VIEWS or _c_order_view(graph, node.inputs[0])
            state = _root(graph, node.inputs[0]) in states
            if not unit_reshape(before.shape, node.shape) and (not plain or state):
                _copy(made, node.inputs[0])
        made.keep(number)
    seen: set[int] = set()
    for number in graph.outputs:
        node = graph.nodes[number]
        if node.op in VIEWS or node.op in ("input", "constant") or number in seen:
            made.at[number] = _copy(made, number)
        seen.add(number)
        made.new.outputs.append(made.at[number])
    return made.new


def _copy(made: _Rebuilt, number: int) -> int:
    node = made.old.nodes[number]
    copy = made.new.add(
        "copy", (made.at[number],), shape=node.shape, dtype=node.dtype, label=node.label,
        origin=node.origin,
    )  # fmt: skip
    made.at[number] = copy
    return copy


def _root(graph: Graph, number: int) -> int:
    while graph.nodes[number].op in VIEWS:
        number = graph.nodes[number].inputs[0]
    return number


def _c_order_view(graph: Graph, number: int) -> bool:
    """Whether a chain of views leaves the elements of a whole array in C order: reshapes only."""
    while graph.nodes[number].op in VIEWS:
        if graph.nodes[number].op != "reshape":
            return False
        number = graph.nodes[number].inputs[0]
    return True


def legal(graph: Graph, bound: Sequence[int | None]) -> tuple[Graph, dict[int, Order]]:
    """The graph with long sums split, copies placed and products turned; and each input's order.

    A product whose result is wanted with its axes exchanged is computed as (Bᵀ·Aᵀ)ᵀ, so that it is
    stored in the order in which it is wanted.
    """
    graph = copied(_split_sums(graph), bound)
    states = orders(graph, bound)
    wanted = _wanted(graph, bound, states)
    made, outputs = _Rebuilt(graph), set(graph.outputs)
    for number, node in enumerate(graph.nodes):
        turn = wanted.get(number)
        if node.op != "matmul" or turn is None or turn[-1] == len(turn) - 1:
            made.keep(number)
            continue
        a, b = (_turned(made, k) for k in node.inputs)
        m, n = node.shape[-2:]
        product = made.new.add(
            "matmul", (b, a), shape=(*node.shape[:-2], n, m), dtype=node.dtype,
            label=node.label, origin=node.origin,
        )  # fmt: skip
        made.at[number] = made.new.add(
            "transpose", (product,), {"axes": _swapped(len(node.shape))},
            shape=node.shape, dtype=node.dtype, label=node.label, origin=node.origin,
        )  # fmt: skip
        if number in outputs:  # which is stored as it is, not as a view
            _copy(made, number)
    result = made.finish()
    return result, {made.at[k]: order for k, order in states.items()}


def _swapped(ndim: int) -> Order:
    return (*range(ndim - 2), ndim - 1, ndim - 2)


def _turned(made: _Rebuilt, number: int) -> int:
    node = made.old.nodes[number]
    shape = (*node.shape[:-2], node.shape[-1], node.shape[-2])
    params = {"axes": _swapped(len(shape))}
    return made.new.add("transpose", (made.at[number],), params, shape=shape, dtype=node.dtype)


def orders(graph: Graph, bound: Sequence[int | None]) -> dict[int, Order]:
    """The memory order of each input that is a state: as the first product that streams it wants.

    Only a state, which lives in the program's own memory from step to step, may choose.
    """
    states = {graph.inputs[i] for i in bound if i is not None}
    found = {number: _c(len(graph.nodes[number].shape)) for number in states}
    origin = sources(graph)
    settled: set[int] = set()
    for node in graph.nodes:
        if node.op != "matmul":
            continue
        root, axes = origin[node.inputs[1]]
        if root not in states or root in settled or axes is None or None in axes:
            continue
        found[root] = tuple(sorted(range(len(axes)), key=lambda a: axes[a]))  # type: ignore[arg-type, return-value]
        settled.add(root)
    # What moves together lies alike: an optimiser's slots follow the parameter that they belong to.
    leader = together(graph, origin)
    leaders = {leader(number): found[number] for number in settled}
    for number in states - settled:
        order = leaders.get(leader(number))
        if order is not None and len(order) == len(found[number]):
            found[number] = order
    return found


def together(graph: Graph, origin: Sequence[Source]) -> Callable[[int], int]:
    """Classes of arrays that meet element by element, as a function to their representative."""
    parent = list(range(len(graph.nodes)))

    def find(x: int) -> int:
        while parent[x] != x:
            parent[x] = parent[parent[x]]
            x = parent[x]
        return x

    for number, node in enumerate(graph.nodes):
        if node.op in VIEWS or node.op in ("matmul", "input", "constant"):
            continue
        for source in node.inputs:
            root, axes = origin[source]
            same = graph.nodes[root].shape == node.shape
            if same and axes is not None and all(a is None or a == k for k, a in enumerate(axes)):
                parent[find(number)] = find(root)
    return find


def _wanted(
    graph: Graph, bound: Sequence[int | None], states: dict[int, Order]
) -> dict[int, Order]:
    """The order in which each computed array would best lie: its last reader's."""
    origin = sources(graph)
    wanted: dict[int, Order] = {}

    def want(number: int, order: Order) -> None:
        """That `number`, read with its axes in `order`, lies so."""
        root, axes = origin[number]
        if axes is None or root in wanted:
            return
        rank = {axis: place for place, axis in enumerate(order)}
        known = [a for a, axis in enumerate(axes) if axis is not None]
        loose = [a for a, axis in enumerate(axes) if axis is None]
        wanted[root] = tuple(loose + sorted(known, key=lambda a: rank[axes[a]]))  # type: ignore[index]

    for k, number in enumerate(graph.outputs):
        inside = bound[k]
        ndim = len(graph.nodes[number].shape)
        want(number, _c(ndim) if inside is None else states[graph.inputs[inside]])
    for number in range(len(graph.nodes) - 1, -1, -1):
        node = graph.nodes[number]
        if node.op == "matmul":
            want(node.inputs[1], _c(len(graph.nodes[node.inputs[1]].shape)))
        elif node.op not in VIEWS and node.inputs and number in wanted:
            for source in node.inputs:
                if graph.nodes[source].shape == node.shape:
                    want(source, wanted[number])
    return wanted


def _split_sums(graph: Graph) -> Graph:
    """Sums over everything of long arrays in two: over the last axes first, then over the rest."""
    made = _Rebuilt(graph)
    for number, node in enumerate(graph.nodes):
        source = graph.nodes[node.inputs[0]] if node.inputs else node
        whole = node.op in ("sum", "max", "min") and node.size == 1 and source.size > LONG
        if not whole:
            made.keep(number)
            continue
        x, shape = made.at[node.inputs[0]], source.shape
        first = _cut(shape)
        if not first:
            shape = _folded(source.size)
            first = len(shape) - 1
            x = made.new.add("reshape", (x,), {"shape": shape}, shape=shape, dtype=source.dtype)
        for axes in (range(first, len(shape)), range(first)):
            if axes:
                shape = shape[: axes[0]]
                params = {"axis": tuple(axes), "keepdims": False}
                x = made.new.add(
                    node.op, (x,), params, shape=shape, dtype=node.dtype, label=node.label,
                    origin=node.origin,
                )  # fmt: skip
        if node.shape:
            params = {"shape": node.shape}
            x = made.new.add("reshape", (x,), params, shape=node.shape, dtype=node.dtype)
        made.at[number] = x
    return made.finish()


def _cut(shape: Shape) -> int:
    """The first of the last axes that hold enough elements for a sum of their own; 0 for none."""
    held = 1
    for axis in range(len(shape) - 1, 0, -1):
        held *= shape[axis]
        if held >= 512:
            return axis if math.prod(shape[:axis]) > 1 else 0
    return 0


def _folded(size: int) -> Shape:
    """Rows of a long vector, as near to 4096 columns as divides it; one row where nothing does."""
    for columns in range(min(size, 4096), 511, -1):
        if size % columns == 0:
            return size // columns, columns
    return (size,)
