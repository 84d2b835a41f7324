"""Where arrays lie: strides, padding, the panels that products read, places in the arena."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .graph import Graph, Node
from .groups import ALONE, Group
from .legal import together
from .reads import Reads
from .schedule import Access, Array, Kernel, Plan, Stream, c_strides
from .target import Kind
from .views import unit_reshape

__all__ = ["Layout"]

LINE = 64  # bytes: of a cache line, and of the widest vector
NEAR = 16_384  # bytes of a panel that stay in the first cache beside what else a tile reads


class Layout(Reads):
    """The arrays of a plan in the making. `bound[k]` is the input whose memory output k takes."""

    def __init__(
        self,
        graph: Graph,
        bound: list[int | None],
        orders: Mapping[int, tuple[int, ...]],
        streams: Mapping[str, Sequence[Stream]],
        kind: Kind,
    ) -> None:
        super().__init__(graph)
        self.bound, self.orders, self.streams, self.kind = bound, orders, streams, kind
        self.lanes = kind.vector_bytes // 4
        self.made = Plan(graph, self.sources, [], [], [], {}, {}, lazy=self.lazy)

    def _array(self, number: int, strides: tuple[int, ...], length: int, **facts: Any) -> Array:
        node = self.graph.nodes[number]
        array = Array(
            len(self.made.arrays), node.dtype, node.shape, strides, max(1, length), **facts
        )
        self.made.arrays.append(array)
        self.made.home[number] = array.number
        return array

    def _paneled(
        self, groups: Sequence[Group], reads: Mapping[int, Any]
    ) -> dict[int, tuple[int, int]]:
        """The states that lie in panels as products read them: (the axis cut, the panels' width).

        Only where every other reader and the writer is a product whose columns are these panels.
        """
        states = {self.graph.inputs[i] for i in self.bound if i is not None}
        written = {
            self.graph.outputs[k]: self.graph.inputs[i]
            for k, i in enumerate(self.bound)
            if i is not None
        }
        leader = together(self.graph, self.sources)
        cut: dict[int, tuple[int, int]] = {}  # class -> columns' axis, width
        barred: set[int] = set()
        for node in self.graph.nodes:
            if node.op == "matmul":
                root, axes = self.sources[node.inputs[1]]
                shape = self.graph.nodes[root].shape
                if (
                    root in states
                    and len(shape) == 2
                    and 1 not in shape
                    and axes in ((0, 1), (1, 0))
                ):
                    column = axes.index(1)
                    cut.setdefault(leader(root), (column, self._wide(shape[column], node)))
                if self.sources[node.inputs[0]].root in states:
                    barred.add(leader(self.sources[node.inputs[0]].root))

        def demand(one: Group, state: int, axes: Sequence[int] | None) -> None:
            column, width = cut.get(leader(state), (-1, 0))
            fits = (
                column >= 0
                and axes is not None
                and one.kind == "matmul"
                and len(one.domain) == 2
                and axes[column] == 1
                and axes[1 - column] == 0
                and width == self._wide(one.domain[1], self.graph.nodes[one.members[0]])
            )
            if not fits:
                barred.add(leader(state))

        for one in groups:
            for number, root, axes in reads[id(one)]:
                if root in states and self.graph.nodes[number].op != "matmul":
                    demand(one, root, axes)
            for number in one.members:
                if number in written:
                    demand(one, written[number], one.place[number])
        return {
            state: cut[leader(state)]
            for state in states
            if leader(state) in cut and leader(state) not in barred
        }

    def _wide(self, columns: int, node: Node) -> int:
        """The width of a product's panels."""
        lanes = self.kind.vector_bytes // node.dtype.itemsize
        return self.kind.tile(columns, lanes)[1] * lanes

    def _inputs(self, paneled: Mapping[int, tuple[int, int]]) -> None:
        """Arrays of inputs and constants."""
        states = {i for i in self.bound if i is not None}
        streams = self.streams.get("inputs", ())
        for i, number in enumerate(self.graph.inputs):
            node = self.graph.nodes[number]
            if number in paneled:
                column, width = paneled[number]
                kept = node.shape[1 - column]
                strides: tuple[int, ...] = (1, width) if column == 0 else (width, 1)
                length = -(-node.shape[column] // width) * width * kept
                self._array(
                    number, strides, length, kind="state", slot=i, padded=True,
                    panels=(column, width),
                )  # fmt: skip
            elif i in states:
                strides, length, padded = self._laid(number, self.orders[number], whole=False)
                self._array(number, strides, length, kind="state", slot=i, padded=padded)
            else:
                strides = c_strides(node.shape)
                stream = streams[i] if i < len(streams) else Stream()
                self._array(number, strides, node.size, kind="input", slot=i, stream=stream)
        # A number is part of the code, but what is read by strides must lie somewhere.
        addressed = {
            self.sources[k].root
            for node in self.graph.nodes
            for k in node.inputs
            if node.op == "matmul" or node.op in ALONE or self.sources[k].axes is None
        }
        for number, node in enumerate(self.graph.nodes):
            if node.op == "constant" and (node.size != 1 or number in addressed):
                value = np.ascontiguousarray(node.params["value"])
                strides = c_strides(node.shape)
                self._array(number, strides, node.size, kind="constant", value=value)

    def _outputs(self, member: Mapping[int, Group], stored: set[int]) -> None:
        """Arrays of outputs: the caller's, or the state's that they replace."""
        streams = self.streams.get("outputs", ())
        for k, number in enumerate(self.graph.outputs):
            inside = self.bound[k]
            if inside is not None:
                self.made.home[number] = self.made.home[self.graph.inputs[inside]]
                continue
            node = self.graph.nodes[number]
            stream = streams[k] if k < len(streams) else Stream()
            strides = c_strides(node.shape)
            self._array(number, strides, node.size, kind="output", slot=k, stream=stream)

    def _temporaries(self, groups: Sequence[Group], stored: set[int]) -> None:
        """Arrays in the arena, each in the order in which its kernel goes through it."""
        whole = self._regrouped()
        for one in groups:
            for number in one.members:
                if number in stored and number not in self.made.home:
                    place = one.place[number]
                    order = tuple(sorted(range(len(place)), key=lambda a: (place[a], a)))
                    if number in whole:
                        order = tuple(range(len(place)))
                    strides, length, padded = self._laid(number, order, number in whole)
                    padded = padded and number not in whole
                    self._array(number, strides, length, kind="arena", padded=padded)

    def _regrouped(self) -> set[int]:
        """The nodes that a reshape regroups, so that they must lie in C order without gaps."""
        found = set()
        for node in self.graph.nodes:
            if node.op == "reshape":
                source = node.inputs[0]
                if not unit_reshape(self.graph.nodes[source].shape, node.shape):
                    found.add(self.sources[source].root)
        return found

    def _laid(
        self, number: int, order: Sequence[int], whole: bool
    ) -> tuple[tuple[int, ...], int, bool]:
        """Strides, length in memory, and whether vectors may run over the end of a row.

        Rows are padded to whole vectors, off powers of two.
        """
        node = self.graph.nodes[number]
        vector = LINE // max(1, node.dtype.itemsize)
        wide = [a for a in order if node.shape[a] != 1]
        strides, step = [0] * len(node.shape), 1
        for axis in reversed(wide):
            strides[axis] = step
            step *= node.shape[axis]
            if step == node.shape[axis] and len(wide) > 1 and not whole and step * 2 > vector:
                step = -(-step // vector) * vector
                if step % (512 // node.dtype.itemsize) == 0:  # rows would meet in one cache set
                    step += vector
        rows = len(wide) < 2 or strides[wide[-2]] % vector == 0
        return tuple(strides), -(-step // vector) * vector, rows

    def _product(self, kernel: Kernel) -> None:
        """The two operands' accesses over (batch…, m, k) and (batch…, k, n)."""
        made, node = self.made, self.graph.nodes[kernel.group.members[0]]
        for position, source in enumerate(node.inputs):
            rank = len(self.graph.nodes[source].shape)
            kernel.operands[position] = made.access(source, range(rank), rank)
        m, n = node.shape[-2:]
        depth = self.graph.nodes[node.inputs[0]].shape[-1]
        kernel.flops = 2 * math.prod(node.shape) * depth
        a, b = kernel.operands[0], kernel.operands[1]
        if self._across(a, m, n, depth, node.dtype.itemsize):
            kernel.operands[0] = self._turned(node.inputs[0], a)
        if b.panel > 0:
            return
        if n > 1 and (
            b.panel or b.strides[-1] != 1 or self._far(b, m, n, depth, node.dtype.itemsize)
        ):
            kernel.operands[1] = self._packed(node.inputs[1], b)

    def _far(self, b: Access, m: int, n: int, depth: int, size: int) -> bool:
        """Whether rows of an operand lie so far apart that a panel of it does not stay near."""
        lanes = self.kind.vector_bytes // size
        panel = self.kind.tile(n, lanes)[1] * lanes
        near = depth * panel * size <= NEAR and b.strides[-2] * size % 4096
        return m >= 24 and n > panel and not near

    def _across(self, a: Access, m: int, n: int, depth: int, size: int) -> bool:
        """Whether a tile would go through its operand across far rows, many times."""
        far = a.strides[-2] == 1 and a.strides[-1] * size >= 1024
        often = m >= 24 and n * size >= 512
        return (
            far and often and (depth >= 256 or (depth >= 64 and a.strides[-1] * size % 4096 == 0))
        )

    def _turned(self, source: int, old: Access) -> Access:
        """A copy of an operand whose rows lie in one piece each."""
        made, node = self.made, self.graph.nodes[source]
        for kernel in made.kernels:
            done = kernel.packed if kernel.packs == old and not kernel.panels else None
            if done is not None and made.arrays[done.array].shape == node.shape:
                return done
        strides, length, padded = self._laid(source, range(len(node.shape)), whole=False)
        array = Array(
            len(made.arrays), node.dtype, node.shape, strides, length, "arena", padded=padded
        )
        made.arrays.append(array)
        new = Access(array.number, 0, strides)
        group = Group("pack", node.shape)
        kernel = Kernel(len(made.kernels), group, len(node.shape) - 2, copy=(old, new))
        kernel.packs, kernel.packed, kernel.bytes = old, new, 2 * array.bytes
        made.kernels.append(kernel)
        return new

    def _packed(self, source: int, old: Access) -> Access:
        """A copy of an operand in panels as wide as a tile, each in one piece."""
        made, node = self.made, self.graph.nodes[source]
        for kernel in made.kernels:
            done = kernel.packed if kernel.packs == old and kernel.panels else None
            if done is not None and made.arrays[done.array].shape == node.shape:
                return done
        *batch, depth, columns = node.shape
        lanes = self.kind.vector_bytes // node.dtype.itemsize
        wide = self.kind.tile(columns, lanes)[1] * lanes
        panels = -(-columns // wide)
        one = panels * depth * wide
        steps = [one * math.prod(batch[k + 1 :]) for k in range(len(batch))]
        array = Array(
            len(made.arrays), node.dtype, node.shape, (*steps, wide, 1), one * math.prod(batch),
            "arena", padded=True,
        )  # fmt: skip
        made.arrays.append(array)
        new = Access(array.number, 0, array.strides, depth)
        *outer, s_depth, s_column = old.strides
        inner = made.arrays[old.array].panels[1] if old.panel else depth
        for down, d_count, d_width in _segments(depth, inner):
            for first, count, width in _segments(columns, wide):
                jump = -old.panel * inner if old.panel else 0  # from one of its panels to the next
                start = old.offset + first * s_column + (down // inner) * jump
                origin = Access(
                    old.array, start, (*outer, wide * s_column, jump, s_depth, s_column)
                )
                target = Access(
                    array.number, first * depth + down * wide,
                    (*steps, wide * depth, inner * wide, wide, 1),
                )  # fmt: skip
                domain = (*batch, count, d_count, d_width, width)
                # Chunks are panels, or runs of rows of the only one.
                axis = max(range(len(domain) - 1), key=lambda a: (domain[a] > 1, -a))
                one_ = Group("pack", domain)
                kernel = Kernel(len(made.kernels), one_, axis, copy=(origin, target))
                kernel.packs, kernel.packed, kernel.bytes = old, new, 2 * array.bytes
                kernel.panels = True
                made.kernels.append(kernel)
        return new

    def _memory(self, after: Plan | None) -> None:
        """Places in the arena: states and constants for good, temporaries while they live."""
        made, at = self.made, 0
        for kind in ("state", "constant"):
            for array in made.arrays:
                if array.kind == kind:
                    array.offset, at = at, at + _lines(array.bytes)
            if kind == "state" and after is not None:
                at = max(at, after.arena)
        placed: list[Array] = []
        some = [a for a in made.arrays if a.kind == "arena"]
        base = at
        for array in sorted(some, key=lambda a: -a.bytes):
            spot = base
            for other in sorted(placed, key=lambda a: a.offset):
                apart = other.last < array.first or array.last < other.first
                if apart or other.offset + _lines(other.bytes) <= spot:
                    continue
                if spot + _lines(array.bytes) <= other.offset:
                    break
                spot = other.offset + _lines(other.bytes)
            array.offset = spot
            placed.append(array)
            at = max(at, spot + _lines(array.bytes))
        made.arena = at


def _segments(length: int, width: int) -> list[tuple[int, int, int]]:
    """(first, how many, how wide): whole panels, then the rest."""
    full, rest = divmod(length, width)
    found = [(0, full, width), (full * width, 1, rest)]
    return [(first, count, wide) for first, count, wide in found if count and wide]


def _lines(size: int) -> int:
    """Whole cache lines, and one between arrays so that a vector past the end stays inside."""
    return -(-size // LINE) * LINE + LINE
