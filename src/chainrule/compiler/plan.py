"""The schedule: kernels in phases, arrays in memory. Everything but the instructions.

A phase is work between two barriers. Its lanes are independent of each other; the kernels of a lane
follow each other on the same rows, so a chunk of rows goes through all of them while it is warm,
and no barrier is needed between them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from .graph import Graph, Shape
from .groups import ALONE, LAZY, REDUCTIONS, Group, group
from .legal import legal, together
from .target import KINDS, Kind
from .views import VIEWS, Source, sources, strided, unit_reshape

__all__ = ["Access", "Array", "Kernel", "Lane", "Plan", "Stream", "plan"]

CHEAP = frozenset({"add", "subtract", "multiply", "negative", "astype", "abs", "square"})
LINE = 64  # bytes: of a cache line, and of the widest vector
NEAR = 16_384  # bytes of a panel that stay in the first cache beside what else a tile reads
CHUNK = 20_000.0  # nanoseconds of work in a piece that a thread takes


class Stream(NamedTuple):
    """How an input or output moves from step to step: `stride` elements by "step" or by "row"."""

    by: str = "fixed"
    stride: int = 0


class Access(NamedTuple):
    """Where the element at index (i, j, …) of a domain lies: array, offset, strides, in elements.

    With `panel` the last axis comes in panels as wide as a tile: inside one its stride is 1, from
    panel to panel it is `panel` for each column.
    """

    array: int
    offset: int
    strides: tuple[int, ...]
    panel: int = 0


@dataclass(eq=False)
class Array:
    """Memory of one array. `slot` is its place among the program's pointers, or −1 in the arena."""

    number: int
    dtype: np.dtype[Any]
    shape: Shape
    strides: tuple[int, ...]  # of the logical axes, in elements
    length: int  # elements, with what is padded
    kind: str  # "arena", "state", "input", "output", "constant"
    slot: int = -1
    offset: int = 0  # bytes, in the arena
    padded: bool = False  # whether whole vectors may be read and written past the end of a row
    first: int = 1 << 30  # phases of its life
    last: int = -1
    value: Any = None  # of a constant
    stream: Stream = field(default_factory=Stream)
    panels: tuple[int, int] = (-1, 0)  # the axis that comes in panels, and their width

    @property
    def bytes(self) -> int:
        return self.length * self.dtype.itemsize


@dataclass(eq=False)
class Kernel:
    """A group with its memory: `axis` is the domain's axis that chunks are cut from, if any."""

    number: int
    group: Group
    axis: int | None
    stores: list[int] = field(default_factory=list)  # the members whose values leave the kernel
    operands: dict[int, Access] = field(default_factory=dict)  # of a product: 0 and 1
    copy: tuple[Access, Access] | None = None  # of a pack: from, to
    packs: Access | None = None  # the operand as it was
    packed: Access = Access(-1, 0, ())  # and as it is then
    flops: int = 0
    bytes: int = 0

    @property
    def rows(self) -> int:
        """How many rows there are to cut."""
        return 1 if self.axis is None else self.group.domain[self.axis]


@dataclass(eq=False)
class Lane:
    """Kernels on the same rows, `chunk` rows at a time."""

    kernels: list[Kernel]
    rows: int
    chunk: int = 0

    @property
    def chunks(self) -> int:
        return -(-self.rows // self.chunk)


@dataclass(eq=False)
class Plan:
    """A graph with its kernels, phases and arrays."""

    graph: Graph
    sources: list[Source]
    kernels: list[Kernel]
    phases: list[list[Lane]]
    arrays: list[Array]
    home: dict[int, int]  # node -> array, for those in memory
    owner: dict[int, int]  # node -> kernel
    arena: int = 0  # bytes
    lazy: set[int] = field(default_factory=set)

    def access(self, number: int, axes: Sequence[int], rank: int) -> Access:
        """How a kernel reads node `number`, whose axis a follows the domain's axis axes[a]."""
        place = _Strides(self)
        root, offset, strides = strided(self.graph, number, place)  # type: ignore[arg-type]
        there = [0] * rank
        for axis, stride, n in zip(axes, strides, self.graph.nodes[number].shape, strict=True):
            if axis >= 0 and n != 1:
                there[axis] = stride
        array = self.arrays[self.home[root]]
        along, _ = array.panels
        panel = 0
        if along >= 0:
            kept = array.shape[1 - along]
            panel = kept if there[-1] == 1 else -kept
        return Access(self.home[root], offset, tuple(there), panel)

    @property
    def work(self) -> float:
        """A rough time in nanoseconds on one core, to choose threads and chunks by."""
        return sum(_time(k) for k in self.kernels)


class _Strides(dict[int, Sequence[int]]):
    """Strides of the arrays that nodes lie in."""

    def __init__(self, made: Plan) -> None:
        super().__init__()
        self.made = made

    def __missing__(self, root: int) -> Sequence[int]:
        return self.made.arrays[self.made.home[root]].strides


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


class _Planner:
    def __init__(
        self,
        graph: Graph,
        bound: list[int | None],
        orders: Mapping[int, tuple[int, ...]],
        streams: Mapping[str, Sequence[Stream]],
        kind: Kind,
    ) -> None:
        self.graph, self.bound, self.orders, self.kind = graph, bound, orders, kind
        self.lanes = kind.vector_bytes // 4
        self.streams = streams
        self.sources = sources(graph)
        self.lazy = _lazy(graph, self.sources)
        self.made = Plan(graph, self.sources, [], [], [], {}, {}, lazy=self.lazy)

    def run(self, after: Plan | None) -> Plan:
        groups = group(self.graph, lambda n: n in self.lazy)
        member = {n: g for g in groups for n in g.members}
        reads = {id(g): self._reads(g) for g in groups}
        stored = self._stored(member, reads)
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

    # -- who reads what ------------------------------------------------------------------------

    def _reads(self, one: Group) -> list[tuple[int, int, tuple[int, ...] | None]]:
        """(member, array's node, the domain's axes that its axes follow) from outside the group."""
        inside = set(one.members)
        found: list[tuple[int, int, tuple[int, ...] | None]] = []
        for number in one.members:
            product = self.graph.nodes[number].op == "matmul" or one.kind in ALONE
            for root, axes in self._behind(number):
                if root in inside:
                    continue
                if product or axes is None or self.graph.nodes[number].op in REDUCTIONS:
                    found.append((number, root, None))
                else:
                    place = one.place[number]
                    found.append((number, root, tuple(-1 if a is None else place[a] for a in axes)))
        return found

    def _behind(self, number: int) -> list[tuple[int, tuple[int | None, ...] | None]]:
        """The stored nodes that a node's value is computed from, with axes as its own."""
        found: list[tuple[int, tuple[int | None, ...] | None]] = []
        todo: list[tuple[int, tuple[int | None, ...] | None]] = []
        node = self.graph.nodes[number]
        apart = node.op == "matmul" or node.op in ALONE or node.op in REDUCTIONS
        for source in node.inputs:
            root, axes = self.sources[source]
            extra = 0 if apart else len(node.shape) - len(self.graph.nodes[source].shape)
            todo.append((root, _shifted(axes, extra)))
        while todo:
            root, axes = todo.pop()
            below = self.graph.nodes[root]
            if root not in self.lazy:
                if below.op != "constant" or below.size > 1:
                    found.append((root, axes))
                continue
            for source in below.inputs:
                deeper, inner = self.sources[source]
                extra = len(below.shape) - len(self.graph.nodes[source].shape)
                inner = _shifted(inner, extra)
                if axes is None or inner is None:
                    todo.append((deeper, None))
                else:
                    todo.append((deeper, tuple(None if a is None else axes[a] for a in inner)))
        return found

    def _stored(self, member: Mapping[int, Group], reads: Mapping[int, Any]) -> set[int]:
        """The nodes that must lie in memory: outputs, and what another kernel reads."""
        found = set(self.graph.outputs)
        for several in reads.values():
            found.update(root for _, root, _ in several)
        return {n for n in found if n in member}

    # -- arrays --------------------------------------------------------------------------------

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
                if root in states and len(shape) == 2 and 1 not in shape and axes in ((0, 1), (1, 0)):
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

    def _wide(self, columns: int, node: Any) -> int:
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
                strides = (1, width) if column == 0 else (width, 1)
                length = -(-node.shape[column] // width) * width * kept
                self._array(
                    number, strides, length, kind="state", slot=i, padded=True,
                    panels=(column, width),
                )  # fmt: skip
            elif i in states:
                strides, length, padded = self._laid(number, self.orders[number], whole=False)
                self._array(number, strides, length, kind="state", slot=i, padded=padded)
            else:
                strides = _c_strides(node.shape)
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
                strides = _c_strides(node.shape)
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
            strides = _c_strides(node.shape)
            self._array(number, strides, node.size, kind="output", slot=k, stream=stream)

    def _temporaries(self, groups: Sequence[Group], stored: set[int]) -> None:
        """Arrays in the arena, each in the order in which its kernel goes through it."""
        whole = self._regrouped()
        for one in groups:
            for number in one.members:
                if number in stored and number not in self.made.home:
                    place = one.place[number]
                    order = tuple(sorted(range(len(place)), key=lambda a: (place[a], a)))  # noqa: B023
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

    # -- kernels -------------------------------------------------------------------------------

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

    def _in_place(
        self, one: Group, number: int, state: int, reads: Mapping[int, Any]
    ) -> bool:
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

    def _product(self, kernel: Kernel) -> None:
        """The two operands' accesses over (batch…, m, k) and (batch…, k, n)."""
        made, node = self.made, self.graph.nodes[kernel.group.members[0]]
        for position, source in enumerate(node.inputs):
            rank = len(self.graph.nodes[source].shape)
            kernel.operands[position] = made.access(source, range(rank), rank)
        m, n = node.shape[-2:]
        depth = self.graph.nodes[node.inputs[0]].shape[-1]
        kernel.flops = 2 * math.prod(node.shape) * depth
        b = kernel.operands[1]
        if b.panel > 0:
            return
        if n > 1 and (b.panel or b.strides[-1] != 1 or self._far(b, m, n, depth, node.dtype.itemsize)):
            kernel.operands[1] = self._packed(node.inputs[1], b)

    def _far(self, b: Access, m: int, n: int, depth: int, size: int) -> bool:
        """Whether rows of an operand lie so far apart that a panel of it does not stay near."""
        lanes = self.kind.vector_bytes // size
        panel = self.kind.tile(n, lanes)[1] * lanes
        near = depth * panel * size <= NEAR and b.strides[-2] * size % 4096
        return m >= 24 and n > panel and not near

    def _packed(self, source: int, old: Access) -> Access:
        """A copy of an operand in panels as wide as a tile, each in one piece."""
        made, node = self.made, self.graph.nodes[source]
        for kernel in made.kernels:
            same = kernel.copy is not None and kernel.packs == old
            if same and made.arrays[kernel.packed.array].shape == node.shape:
                return kernel.packed
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
                made.kernels.append(kernel)
        return new

    # -- phases --------------------------------------------------------------------------------

    def _touched(
        self, kernel: Kernel, reads: Mapping[int, Any]
    ) -> list[tuple[int, int | None]]:
        """(array read, its strides along the chunk axis or None where all of it is read)."""
        if kernel.copy is not None:
            old = kernel.copy[0]
            assert kernel.axis is not None
            return [(old.array, old.strides[kernel.axis])]
        found: list[tuple[int, int | None]] = []
        product = kernel.group.kind == "matmul"
        if product:
            for position, access in kernel.operands.items():
                domain = len(kernel.group.domain)
                along = None
                if kernel.axis is not None and (position == 0 or kernel.axis < domain - 2):
                    along = access.strides[kernel.axis]
                found.append((access.array, along))
        for number, root, axes in reads[id(kernel.group)]:
            if product and number == kernel.group.members[0]:
                continue
            array = self.made.arrays[self.made.home[root]]
            if axes is None or kernel.axis is None:
                node = self.graph.nodes[number]
                if node.op in REDUCTIONS and kernel.axis is not None:
                    found.append((array.number, self._along(kernel, number, root)))
                else:
                    found.append((array.number, None))
                continue
            here = [a for a, axis in enumerate(axes) if axis == kernel.axis]
            along = array.strides[here[0]] if here else None
            found.append((array.number, along))
        return found

    def _along(self, kernel: Kernel, number: int, root: int) -> int | None:
        """The stride with which a reduction's operand moves along the chunk axis."""
        group_ = kernel.group
        if group_.kind != "rows" or kernel.axis is None:
            return None
        for below, axes in self._behind(number):
            if below == root and axes is not None:
                here = group_.over[number]
                for a, axis in enumerate(axes):
                    if axis is not None and here[axis] == kernel.axis:
                        return self.made.arrays[self.made.home[root]].strides[a]
        return None

    def _written(self, kernel: Kernel) -> dict[int, int | None]:
        """Array written -> its stride along the chunk axis."""
        if kernel.copy is not None:
            assert kernel.axis is not None
            return {kernel.copy[1].array: kernel.copy[1].strides[kernel.axis]}
        found: dict[int, int | None] = {}
        for number in kernel.stores:
            array = self.made.arrays[self.made.home[number]]
            place = kernel.group.place[number]
            here = [a for a, axis in enumerate(place) if axis == kernel.axis]
            found[array.number] = array.strides[here[0]] if here else None
        return found

    def _phases(self, reads: Mapping[int, Any]) -> None:
        """Give each kernel the earliest phase, and a lane there with those whose rows it follows."""
        phase: dict[int, int] = {}
        lane: dict[int, Lane] = {}
        writers: dict[int, list[tuple[int, int | None]]] = {}  # several packs may fill one array
        readers: dict[int, list[tuple[int, int | None]]] = {}
        phases: list[list[Lane]] = []
        for kernel in self.made.kernels:
            touched, written = self._touched(kernel, reads), self._written(kernel)
            needs: list[tuple[int, bool]] = []
            for array, along in touched:
                for other, stride in writers.get(array, ()):
                    needs.append((other, along is not None and along == stride))
            for array, along in written.items():
                for other, stride in readers.get(array, ()):
                    needs.append((other, along is not None and along == stride))
            at = max((phase[k] for k, _ in needs), default=0)
            last = [(k, same) for k, same in needs if phase[k] == at]
            joined = {id(lane[k]): lane[k] for k, _ in last}
            follows = all(
                same and lane[k].rows == kernel.rows and kernel.axis is not None for k, same in last
            )
            if last and not follows:
                at, joined = at + 1, {}
            while len(phases) <= at:
                phases.append([])
            if joined:
                home = _merged(list(joined.values()), phases[at], lane)
            else:
                home = Lane([], kernel.rows)
                phases[at].append(home)
            home.kernels.append(kernel)
            phase[kernel.number], lane[kernel.number] = at, home
            for array, along in touched:
                readers.setdefault(array, []).append((kernel.number, along))
                self._lives(array, at)
            for array, along in written.items():
                writers.setdefault(array, []).append((kernel.number, along))
                self._lives(array, at)
        for several in phases:
            for one in several:
                one.kernels.sort(key=lambda k: k.number)
        self.made.phases = phases

    def _lives(self, array: int, phase: int) -> None:
        one = self.made.arrays[array]
        one.first, one.last = min(one.first, phase), max(one.last, phase)

    def _chunks(self) -> None:
        """Chunks of some ten microseconds of work, in whole tiles; few pieces where work is small."""
        for several in self.made.phases:
            for one in several:
                work = sum(_time(k) for k in one.kernels)
                pieces = max(1, min(64, int(work / CHUNK)))
                grain = max(_grain(k, self.lanes) for k in one.kernels)
                chunk = max(grain, -(-one.rows // pieces))
                # Pieces of one height: a last short one would leave a core waiting.
                pieces = max(1, round(one.rows / (-(-chunk // grain) * grain)))
                pieces += pieces % 2 if pieces > 1 else 0
                one.chunk = min(one.rows, -(-(-(-one.rows // pieces)) // _step(one)) * _step(one))

    # -- memory --------------------------------------------------------------------------------

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


class _StateCircle(Exception):
    """A state's new value would overwrite the old one before everybody has read that."""

    def __init__(self, outputs: Sequence[int]) -> None:
        super().__init__(outputs)
        self.outputs = list(outputs)


def _segments(length: int, width: int) -> list[tuple[int, int, int]]:
    """(first, how many, how wide): whole panels, then the rest."""
    full, rest = divmod(length, width)
    found = [(0, full, width), (full * width, 1, rest)]
    return [(first, count, wide) for first, count, wide in found if count and wide]


def _merged(several: list[Lane], phase: list[Lane], lane: dict[int, Lane]) -> Lane:
    """One lane of several on the same rows."""
    first = several[0]
    for other in several[1:]:
        first.kernels += other.kernels
        for kernel in other.kernels:
            lane[kernel.number] = first
        phase.remove(other)
    return first


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


def _shifted(axes: tuple[int | None, ...] | None, extra: int) -> tuple[int | None, ...] | None:
    return None if axes is None else tuple(None if a is None else a + extra for a in axes)


def _c_strides(shape: Shape) -> tuple[int, ...]:
    strides, step = [], 1
    for n in reversed(shape):
        strides.append(step if n != 1 else 0)
        step *= n
    return tuple(reversed(strides))


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


def _grain(kernel: Kernel, lanes: int) -> int:
    """The fewest rows worth a chunk: a product reads all of its second operand for each."""
    if kernel.group.kind == "matmul" and kernel.axis == len(kernel.group.domain) - 2:
        return 24
    return _columns(kernel, lanes)


def _columns(kernel: Kernel, lanes: int) -> int:
    """Where chunks run along vectors they must end with one."""
    alone = [d for d, n in enumerate(kernel.group.domain) if n != 1]
    if kernel.copy is not None:
        return 16 if 1 in (access.strides[kernel.axis or 0] for access in kernel.copy) else 1
    if kernel.group.kind == "rows" and kernel.rows % lanes == 0:
        return lanes
    return 8 * lanes if kernel.group.kind == "reduce" or len(alone) == 1 else 1


def _step(lane: Lane) -> int:
    """Chunks are a multiple of this."""
    return max(_columns(k, 8) for k in lane.kernels)


def _lines(size: int) -> int:
    """Whole cache lines, and one between arrays so that a vector past the end stays inside."""
    return -(-size // LINE) * LINE + LINE


def _time(kernel: Kernel) -> float:
    """Nanoseconds, roughly."""
    if kernel.group.kind == "matmul":
        return kernel.flops / 80
    return kernel.flops / 3 + kernel.bytes / 20
