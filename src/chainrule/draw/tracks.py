"""The uprights between two layers of a text drawing: each on a track where it meets no other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass
class Net:
    """One source's row, the rows that it feeds, and the track of its upright."""

    name: int
    row: int
    rows: tuple[int, ...]
    track: int = 0
    enters: int = 0  # the track where the first half of a divided net ends; 0 for a whole one
    leaves: bool = False  # the first half of a divided net: it ends at the second's upright

    @property
    def straight(self) -> bool:
        """Whether it needs no upright."""
        return self.rows == (self.row,)

    @property
    def span(self) -> tuple[int, int]:
        """The rows that its upright covers."""
        return min(self.row, *self.rows), max(self.row, *self.rows)


def tracked(nets: Sequence[Net]) -> list[Net]:
    """Each net with a track, from 1 on, so that no two wires run along each other.

    A net whose source has the row of another's target must turn first; where two wait for each
    other, one takes a detour over a free row.

    >>> down, up = Net(0, 0, (3,)), Net(1, 2, (1,))
    >>> [net.track for net in tracked([down, up])]
    [1, 2]
    >>> swap = tracked([Net(0, 0, (3,)), Net(1, 3, (0,))])
    >>> len(swap)
    3
    """
    done = [net for net in nets if net.straight]
    waiting = [net for net in nets if not net.straight]
    halves: dict[int, Net] = {}
    while waiting:
        ready = [net for net in waiting if not _blocked(net, waiting, halves.get(id(net)))]
        if not ready:
            first, second = _divided(waiting[0], [*done, *waiting])
            halves[id(second)] = first
            waiting[:1] = [first, second]
            continue
        for net in ready:
            waiting.remove(net)
            net.track = _track(net, done, halves.get(id(net)))
            net.enters = halves[id(net)].track if id(net) in halves else 0
            done.append(net)
    return done


def _blocked(net: Net, others: Sequence[Net], first: Net | None) -> bool:
    """Whether another, which leaves a row that this one arrives at, has still to turn."""
    return any(
        other is first or (other.name != net.name and other.row in net.rows) for other in others
    )


def _track(net: Net, done: Sequence[Net], first: Net | None) -> int:
    track = 1 + max(
        (other.track for other in done if not other.straight and other.row in net.rows), default=0
    )
    if first is not None:
        track = max(track, first.track + 1)
    low, high = net.span
    while any(
        other.track == track and other.span[0] <= high and low <= other.span[1]
        for other in done
        if not other.straight
    ):
        track += 1
    return track


def _divided(net: Net, nets: Sequence[Net]) -> tuple[Net, Net]:
    """A net in two: to a row that nobody uses, and from there on."""
    used = {row for other in nets for row in (other.row, *other.rows)}
    low, high = net.span
    middle = (low + high) // 2
    free = min(
        (r for r in range(low, max(used) + 2) if r not in used), key=lambda r: abs(r - middle)
    )
    first = Net(net.name, net.row, (free,), leaves=True)
    return first, Net(net.name, free, net.rows)
