"""When kernels run: phases between barriers, lanes of kernels on the same rows, chunks of rows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from .groups import REDUCTIONS
from .layout import Layout
from .schedule import Kernel, Lane, time_of

__all__ = ["Phases"]

CHUNK = 20_000.0  # nanoseconds of work in a piece that a thread takes


class Phases(Layout):
    """The phases of a plan in the making, whose kernels are in order."""

    def _touched(self, kernel: Kernel, reads: Mapping[int, Any]) -> list[tuple[int, int | None]]:
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
        for below, axes in self.behind(number):
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
        """Give each kernel its earliest phase, and a lane with those whose rows it follows."""
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
        """Chunks of some ten microseconds of work; one piece where the work is small."""
        for several in self.made.phases:
            for one in several:
                work = sum(time_of(k) for k in one.kernels)
                pieces = max(1, min(64, int(work / CHUNK)))
                grain = max(_grain(k, self.lanes) for k in one.kernels)
                chunk = max(grain, -(-one.rows // pieces))
                # Pieces of one height: a last short one would leave a core waiting.
                pieces = max(1, round(one.rows / (-(-chunk // grain) * grain)))
                pieces += pieces % 2 if pieces > 1 else 0
                step = _step(one)
                one.chunk = min(one.rows, math.ceil(math.ceil(one.rows / pieces) / step) * step)


def _merged(several: list[Lane], phase: list[Lane], lane: dict[int, Lane]) -> Lane:
    """One lane of several on the same rows."""
    first = several[0]
    for other in several[1:]:
        first.kernels += other.kernels
        for kernel in other.kernels:
            lane[kernel.number] = first
        phase.remove(other)
    return first


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
