"""Where the boxes of a drawing stand: layers from left to right, few crossings, straight wires.

The four steps of Sugiyama's method, in whole-number results that never depend on hashing or time:
ranks by longest path, dummies where a wire passes a layer, order by barycentres, and heights by
medians with the nearest heights that keep the boxes apart. It knows nothing of circuits, and of a
unit of length only that text has another one than SVG.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median

FEW = 18  # up to so many boxes, all leaves stand at the left margin, as on a slide
SWEEPS = 12


@dataclass(frozen=True)
class Cell:
    """A box as the layout sees it: how far it reaches from its wire, and where wires arrive."""

    above: float
    below: float
    ports: tuple[float, ...] = ()  # heights of the arriving wires, from the box's own line
    margin: bool = False  # wants to stand at the left margin if there is room for its wire


@dataclass(frozen=True)
class Spacing:
    """Distances between neighbours in a layer, in the drawing's unit."""

    gap: float  # between two boxes
    lane: float  # half of the room that a passing wire needs
    snap: float = 1.0  # heights are multiples of it


@dataclass
class Layout:
    """Boxes and dummies (numbered from `len(cells)` on) by layer, and the height of each."""

    layers: list[list[int]]
    y: list[float]
    rank: list[int]
    routes: list[list[int]]  # for each wire: its source, the dummies that it passes, its target
    crossings: int = 0
    ports: list[float] = field(default_factory=list)  # for each wire: the height of its port


Wire = tuple[int, int, int]  # source, target, port


def arranged(cells: Sequence[Cell], wires: Sequence[Wire], spacing: Spacing) -> Layout:
    """The layout of boxes whose wires run from lower to higher numbers.

    >>> cell = Cell(10, 10, (0.0,))
    >>> made = arranged([cell] * 3, [(0, 1, 0), (1, 2, 0), (0, 2, 0)], Spacing(4, 3))
    >>> made.rank[:3], made.routes[2], made.crossings
    ([0, 1, 2], [0, 3, 2], 0)
    """
    rank = _ranks(cells, wires)
    graph = _Graph(cells, wires, rank, spacing)
    layers = _first_order(graph)
    crossings = _uncross(graph, layers)
    y = _heights(graph, layers)
    ports = [cells[target].ports[port] for _, target, port in wires]
    return Layout(layers, y, graph.rank, graph.routes, crossings, ports)


# -- ranks ------------------------------------------------------------------------------------


def _ranks(cells: Sequence[Cell], wires: Sequence[Wire]) -> list[int]:
    """Longest path from the leaves; then what hangs on leaves only moves next to its user."""
    users: list[list[int]] = [[] for _ in cells]
    sources: list[list[int]] = [[] for _ in cells]
    for source, target, _ in wires:
        users[source].append(target)
        sources[target].append(source)
    rank = [0] * len(cells)
    for k in range(len(cells)):
        rank[k] = max((rank[s] + 1 for s in sources[k]), default=0)
    few = len(cells) <= FEW
    loose = [False] * len(cells)
    for k in range(len(cells)):
        loose[k] = all(loose[s] for s in sources[k]) and not (few and cells[k].margin)
    for k in reversed(range(len(cells))):
        if loose[k] and users[k]:
            rank[k] = min(rank[u] for u in users[k]) - 1
    return rank


# -- the graph with its dummies ---------------------------------------------------------------


class _Graph:
    """Boxes and dummies, with links between neighbouring layers only.

    The wires that leave one box share their dummies, so that a value used in many places is one
    trunk with branches.
    """

    def __init__(
        self, cells: Sequence[Cell], wires: Sequence[Wire], rank: list[int], spacing: Spacing
    ) -> None:
        self.rank = list(rank)
        self.count = len(cells)
        self.above = [cell.above for cell in cells]
        self.below = [cell.below for cell in cells]
        self.before: list[list[tuple[int, float]]] = [[] for _ in cells]  # (item, port's height)
        self.after: list[list[tuple[int, float]]] = [[] for _ in cells]
        self.spacing = spacing
        trunks: list[list[int]] = [[k] for k in range(self.count)]
        self.routes = [
            self._route(trunks[source], target, cells[target].ports[port])
            for source, target, port in wires
        ]

    def _route(self, trunk: list[int], target: int, port: float) -> list[int]:
        length = self.rank[target] - self.rank[trunk[0]]
        while len(trunk) < length:
            self._link(trunk[-1], self._dummy(self.rank[trunk[-1]] + 1), 0.0)
            trunk.append(len(self.rank) - 1)
        self._link(trunk[length - 1], target, port)
        return [*trunk[:length], target]

    def _dummy(self, rank: int) -> int:
        self.rank.append(rank)
        self.above.append(self.spacing.lane)
        self.below.append(self.spacing.lane)
        self.before.append([])
        self.after.append([])
        return len(self.rank) - 1

    def _link(self, left: int, right: int, port: float) -> None:
        self.before[right].append((left, port))
        self.after[left].append((right, port))

    def apart(self, upper: int, lower: int) -> float:
        """How far two neighbours' lines are from each other at least."""
        passing = upper >= self.count or lower >= self.count
        gap = self.spacing.gap / 2 if passing else self.spacing.gap
        return self.below[upper] + gap + self.above[lower]


# -- order within the layers ------------------------------------------------------------------


def _first_order(graph: _Graph) -> list[list[int]]:
    """The order in which a walk back from the last box meets them: inputs from top to bottom."""
    layers: list[list[int]] = [[] for _ in range(max(graph.rank, default=0) + 1)]
    seen = [False] * len(graph.rank)
    for root in reversed(range(graph.count)):
        waiting = [(root, False)]
        while waiting:
            item, done = waiting.pop()
            if done:
                layers[graph.rank[item]].append(item)
            elif not seen[item]:
                seen[item] = True
                waiting.append((item, True))
                inputs = sorted(graph.before[item], key=lambda link: link[1], reverse=True)
                waiting.extend((source, False) for source, _ in inputs)
    return layers


def _uncross(graph: _Graph, layers: list[list[int]]) -> int:
    """Sort the layers by barycentres, to and fro, and keep the best order seen."""
    best, fewest = [list(layer) for layer in layers], _crossings(graph, layers)
    for sweep in range(SWEEPS):
        if not fewest:
            break
        _sort_by_neighbours(graph, layers, forward=sweep % 2 == 0)
        if len(graph.rank) < 600:
            _swap_neighbours(graph, layers)
        if (now := _crossings(graph, layers)) < fewest:
            best, fewest = [list(layer) for layer in layers], now
    layers[:] = best
    return fewest


def _sort_by_neighbours(graph: _Graph, layers: list[list[int]], forward: bool) -> None:
    steps = range(1, len(layers)) if forward else range(len(layers) - 2, -1, -1)
    for k in steps:
        fixed = layers[k - 1] if forward else layers[k + 1]
        place = {item: float(p) for p, item in enumerate(fixed)}
        own = {item: float(p) for p, item in enumerate(layers[k])}
        links = graph.before if forward else graph.after

        def centre(
            item: int,
            place: dict[int, float] = place,
            own: dict[int, float] = own,
            links: list[list[tuple[int, float]]] = links,
            forward: bool = forward,
        ) -> float:
            if not links[item]:
                return own[item]
            tilt = 0.0 if forward else 1e-3  # two wires to one box: the upper port's comes first
            return sum(place[o] + tilt * p for o, p in links[item]) / len(links[item])

        layers[k].sort(key=centre)


def _swap_neighbours(graph: _Graph, layers: list[list[int]]) -> None:
    for k, layer in enumerate(layers):
        left = {x: p for p, x in enumerate(layers[k - 1])} if k else {}
        right = {x: p for p, x in enumerate(layers[k + 1])} if k + 1 < len(layers) else {}
        ends = {x: (_ends(graph.before[x], left), _ends(graph.after[x], right)) for x in layer}
        for i in range(len(layer) - 1):
            a, b = ends[layer[i]], ends[layer[i + 1]]
            now = sum(_pairs(x, y) for x, y in zip(a, b, strict=True))
            if now and sum(_pairs(y, x) for x, y in zip(a, b, strict=True)) < now:
                layer[i], layer[i + 1] = layer[i + 1], layer[i]


def _ends(links: list[tuple[int, float]], place: dict[int, int]) -> list[float]:
    return sorted(place[other] + 1e-4 * port for other, port in links)


def _pairs(upper: list[float], lower: list[float]) -> int:
    """How often a wire of the upper item ends below one of the lower item."""
    return sum(len(upper) - bisect_right(upper, end) for end in lower)


def _crossings(graph: _Graph, layers: list[list[int]]) -> int:
    total = 0
    for left, right in pairwise(layers):
        place = {item: float(p) for p, item in enumerate(right)}
        passed: list[float] = []
        for item in left:
            ends = [place[o] + 1e-4 * port for o, port in graph.after[item]]
            total += sum(len(passed) - bisect_right(passed, end) for end in ends)
            for end in ends:
                insort(passed, end)
    return total


# -- heights ----------------------------------------------------------------------------------


def _heights(graph: _Graph, layers: list[list[int]]) -> list[float]:
    """Each item as near to the median of its neighbours as the order allows."""
    y = [0.0] * len(graph.rank)
    offsets = [_offsets(graph, layer) for layer in layers]
    for layer, offset in zip(layers, offsets, strict=True):
        middle = offset[-1] / 2
        for item, o in zip(layer, offset, strict=True):
            y[item] = o - middle
    last = len(layers) - 1
    for sweep in range(SWEEPS):
        forward = sweep % 2 == 1
        for k in range(last + 1) if forward else range(last, -1, -1):
            _settle(graph, layers[k], offsets[k], y, forward)
    for layer, offset in zip(layers, offsets, strict=True):
        _settle(graph, layer, offset, y, True, leaves=True)
    top = min(y[x] - graph.above[x] for layer in layers for x in layer[:1])
    _snap(graph, layers, y, top)
    for layer in layers:
        _straighten(graph, layer, y)
    return y


def _offsets(graph: _Graph, layer: list[int]) -> list[float]:
    """How far each item's line is below the first one's, when they stand as close as they may."""
    offsets = [0.0]
    for upper, lower in pairwise(layer):
        offsets.append(offsets[-1] + graph.apart(upper, lower))
    return offsets


def _settle(
    graph: _Graph,
    layer: list[int],
    offsets: list[float],
    y: list[float],
    forward: bool,
    *,
    leaves: bool = False,
) -> None:
    """Move a layer's items towards their neighbours before or after it; or only its leaves."""
    wishes, weights = [], []
    for item in layer:
        links = graph.before[item] if forward else graph.after[item]
        sign, weight = (-1.0 if forward else 1.0), 8.0 if item >= graph.count else 1.0
        if leaves:
            links, sign = ([], 1.0) if graph.before[item] else (graph.after[item], 1.0)
            weight = 1e-3
        wish = median([y[o] + sign * port for o, port in links]) if links else y[item]
        wishes.append(wish)
        weights.append(weight if links else 1.0 if leaves else 1e-3)
    for item, height in zip(layer, _nearest(wishes, weights, offsets), strict=True):
        y[item] = height


def _nearest(wishes: list[float], weights: list[float], offsets: list[float]) -> list[float]:
    """The heights nearest to the wishes that keep the distances: pooled adjacent violators."""
    blocks: list[tuple[float, float, int]] = []  # mean, weight, how many items
    for wish, weight, offset in zip(wishes, weights, offsets, strict=True):
        mean, mass, size = wish - offset, weight, 1
        while blocks and blocks[-1][0] > mean:
            m, w, n = blocks.pop()
            mean, mass, size = (m * w + mean * mass) / (w + mass), w + mass, size + n
        blocks.append((mean, mass, size))
    means = [mean for mean, _, size in blocks for _ in range(size)]
    return [mean + offset for mean, offset in zip(means, offsets, strict=True)]


def _snap(graph: _Graph, layers: list[list[int]], y: list[float], top: float) -> None:
    """Heights from zero down, in whole steps that keep the distances."""
    step = graph.spacing.snap
    for layer in layers:
        floor = float("-inf")
        for k, item in enumerate(layer):
            height = round((y[item] - top) / step + 1e-6) * step
            if k:
                height = max(height, floor + graph.apart(layer[k - 1], item))
            y[item] = floor = height


def _straighten(graph: _Graph, layer: list[int], y: list[float]) -> None:
    """Take the small steps out of wires that could be straight."""
    near = min(graph.above, default=0.0)
    for k, item in enumerate(layer):
        links, sign = (graph.before[item], -1) if graph.before[item] else (graph.after[item], 1)
        if len(links) != 1:
            continue
        wish = y[links[0][0]] + sign * links[0][1]
        high = y[layer[k - 1]] + graph.apart(layer[k - 1], item) if k else 0.0
        low = y[layer[k + 1]] - graph.apart(item, layer[k + 1]) if k + 1 < len(layer) else wish
        if abs(wish - y[item]) <= near and max(high, graph.above[item]) <= wish <= low:
            y[item] = wish
