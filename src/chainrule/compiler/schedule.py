"""The words of a schedule: arrays, kernels, lanes, phases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from .graph import Graph, Shape
from .groups import Group
from .views import Source, strided

__all__ = ["Access", "Array", "Kernel", "Lane", "Plan", "Stream", "c_strides", "time_of"]


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
    packed: Access | None = None  # and as it is then
    panels: bool = False  # of a pack: whether in panels, or row by row
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
        root, offset, strides = strided(self.graph, number, place)
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
        return sum(time_of(k) for k in self.kernels)


class _Strides(dict[int, Sequence[int]]):
    """Strides of the arrays that nodes lie in."""

    def __init__(self, made: Plan) -> None:
        super().__init__()
        self.made = made

    def __missing__(self, root: int) -> Sequence[int]:
        return self.made.arrays[self.made.home[root]].strides


def c_strides(shape: Shape) -> tuple[int, ...]:
    """The strides of an array in C order, in elements; 0 where an axis has length 1."""
    strides, step = [], 1
    for n in reversed(shape):
        strides.append(step if n != 1 else 0)
        step *= n
    return tuple(reversed(strides))


def time_of(kernel: Kernel) -> float:
    """Nanoseconds, roughly."""
    if kernel.group.kind == "matmul":
        return kernel.flops / 80
    return kernel.flops / 3 + kernel.bytes / 20
