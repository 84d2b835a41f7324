"""Large circuits made small: calls as one box, repeated blocks as one with ×12, depths as bands."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from typing import Any

import numpy as np

from ..circuit import Parameter, Tensor
from .face import Face, clean, short
from .picture import Box, Picture, Reading, Wire, framed, symbol_of, whole

Key = tuple[str, Any]  # of a part: a call by name and number, or a node by its serial
BANDS = 12
LAYER = 2  # parameters of a single layer; what has more is a network
SMALL_TREE = 4  # parts in an operand that may vanish in a repeated block
LONGEST_BLOCK = 8  # parts in a block whose repetitions are looked for


@dataclass
class Part:
    """Nodes that share a box."""

    nodes: list[Tensor]
    lines: list[str] = field(default_factory=list)
    times: int = 1
    leaf: bool = False


def pictured(reading: Reading, max_nodes: int, fold: bool | None) -> Picture:
    """The whole circuit if it is small enough, else folded, else summarised by depth."""
    if not fold and (len(reading.nodes) <= max_nodes or fold is False):
        return whole(reading)
    parts = _repeats_folded(_parts(reading), reading)
    if len(parts) <= max_nodes:
        picture = _folded(reading, parts)
        hidden = len(reading.nodes) - len(parts)
        if hidden:
            picture.notes.append(f"folded: {len(reading.nodes)} nodes in {len(parts)} boxes")
        return picture
    return _banded(reading)


# -- parts: the nodes of one call -------------------------------------------------------------


def _parts(reading: Reading) -> list[Part]:
    """Nodes by the call that made them; constants and parameters join the only call that uses them.

    Each part's inputs come before it: where calls are entangled so that this cannot be, their
    nodes stand alone.
    """
    users = _users(reading.nodes)
    loose: set[Any] = set()
    while True:
        owner = _owners(reading.nodes, users, loose)
        parts: dict[Any, Part] = {}
        for node in reading.nodes:
            parts.setdefault(owner[node], Part([])).nodes.append(node)
        ordered, stuck = _ordered(parts, owner)
        stuck += _all_swallowing(parts)
        if not stuck:
            break
        loose |= {key[1] for key in stuck if key[0] == "call"}
    for part in ordered:
        _label(part)
    return ordered


def _all_swallowing(parts: dict[Key, Part]) -> list[Key]:
    """The call that is a network of layers and most of the circuit: one box would say nothing.

    Inside it there are no other labels, so its nodes stand alone, and their repetitions are found.
    """
    total = sum(len(part.nodes) for part in parts.values())
    return [
        key
        for key, part in parts.items()
        if key[0] == "call" and len(part.nodes) > total / 2 and _parameters(part) > LAYER
    ]


def _parameters(part: Part) -> int:
    return len({s for node in part.nodes for s in node.inputs if isinstance(s, Parameter)})


def _users(nodes: list[Tensor]) -> dict[Tensor, list[Tensor]]:
    users: dict[Tensor, list[Tensor]] = {node: [] for node in nodes}
    for node in nodes:
        for source in node.inputs:
            users[source].append(node)
    return users


def _owners(
    nodes: list[Tensor], users: dict[Tensor, list[Tensor]], loose: set[Any]
) -> dict[Tensor, Key]:
    owner: dict[Tensor, Key] = {node: ("node", node.serial) for node in nodes}
    for node in nodes:
        if node.op is not None and node.group is not None and node.group[:2] not in loose:
            owner[node] = ("call", node.group[:2])
    for node in nodes:
        plain = not node.requires_grad and node.size == 1 and not node.name
        if node.op is None and (plain or isinstance(node, Parameter)):
            owners = {owner[user] for user in users[node]}
            if len(owners) == 1 and next(iter(owners))[0] == "call":
                owner[node] = owners.pop()
    return owner


def _ordered(parts: dict[Any, Part], owner: dict[Tensor, Key]) -> tuple[list[Part], list[Any]]:
    """The parts with inputs first, and the keys of those that wait for each other."""
    waits: dict[Any, set[Any]] = {
        key: {owner[s] for n in part.nodes for s in n.inputs} - {key} for key, part in parts.items()
    }
    feeds: dict[Any, list[Any]] = {key: [] for key in parts}
    for key, sources in waits.items():
        for source in sorted(sources):
            feeds[source].append(key)
    ready = [(parts[key].nodes[-1].serial, key) for key, sources in waits.items() if not sources]
    heapify(ready)
    ordered = []
    while ready:
        key = heappop(ready)[1]
        ordered.append(parts[key])
        for user in feeds[key]:
            waits[user].discard(key)
            if not waits[user]:
                heappush(ready, (parts[user].nodes[-1].serial, user))
    return ordered, [key for key, sources in waits.items() if sources]


def _label(part: Part) -> None:
    made = [node for node in part.nodes if node.op is not None]
    part.leaf = not made
    if len(made) == 1 and len(part.nodes) == 1:
        part.lines = [symbol_of(made[0])]
    elif made:
        group = made[0].group
        part.lines = [clean(group.name) if group else symbol_of(made[0])]


# -- repeated blocks --------------------------------------------------------------------------


class _Map:
    """The parts with their neighbours, and which of them only prepare one operand of another."""

    def __init__(self, parts: list[Part]) -> None:
        self.parts = parts
        self.place = {node: k for k, part in enumerate(parts) for node in part.nodes}
        self.before: list[list[int]] = []
        self.after: list[list[int]] = [[] for _ in parts]
        self.size: list[int] = []  # of the tree that a part is the root of; 0 if it is no tree
        for k, part in enumerate(parts):
            sources = dict.fromkeys(self.place[s] for node in part.nodes for s in node.inputs)
            sources.pop(k, None)
            self.before.append(list(sources))
            for source in sources:
                self.after[source].append(k)
        for inputs in self.before:
            trees = all(self.size[s] and len(self.after[s]) == 1 for s in inputs)
            self.size.append(1 + sum(self.size[s] for s in inputs) if trees else 0)

    def main(self, k: int) -> int | None:
        """The input that the part carries on; its others must be small trees of its own."""
        sources = self.before[k]
        if not sources:
            return None
        main = max(sources, key=lambda s: 0 if 0 < self.size[s] <= SMALL_TREE else 1)
        small = all(
            0 < self.size[s] <= SMALL_TREE and len(self.after[s]) == 1 for s in sources if s != main
        )
        return main if small else None

    def tree(self, k: int) -> list[int]:
        """A part that prepares an operand, with all that is before it."""
        return [*[part for s in self.before[k] for part in self.tree(s)], k]

    def with_operands(self, k: int) -> list[int]:
        """A part of a chain with the trees that only it uses."""
        main = self.main(k)
        return [*[part for s in self.before[k] if s != main for part in self.tree(s)], k]

    def sign(self, k: int) -> tuple[str, ...]:
        """What must be equal in two parts for them to count as repetitions."""
        return tuple(" ".join(self.parts[p].lines) for p in self.with_operands(k))


def _repeats_folded(parts: list[Part], reading: Reading) -> list[Part]:
    """Blocks that follow each other three times and more in a straight line, as one part each."""
    there = _Map(parts)
    taken: set[int] = set()
    merged: dict[int, Part] = {}
    for chain in _chains(there, there.place[reading.output]):
        for start, period, times in _runs([there.sign(k) for k in chain]):
            block = chain[start : start + period * times]
            members = [member for k in block for member in there.with_operands(k)]
            taken.update(members)
            nodes = [node for member in members for node in parts[member].nodes]
            symbols = clean(" → ".join(parts[k].lines[0] for k in block[:period]), 60)
            merged[block[-1]] = Part(sorted(nodes, key=lambda n: n.serial), [symbols], times)
    return [merged.get(k, part) for k, part in enumerate(parts) if k in merged or k not in taken]


def _chains(there: _Map, last: int) -> list[list[int]]:
    """Straight lines of parts: each the only user of the one before."""
    chains: dict[int, list[int]] = {}
    for k, part in enumerate(there.parts):
        main = None if part.leaf else there.main(k)
        if main is None:
            continue
        if main in chains and len(there.after[main]) == 1 and main != last:
            chains[k] = chains.pop(main)
            chains[k].append(k)
        else:
            chains[k] = [k]
    return list(chains.values())


def _runs(signs: list[tuple[str, ...]]) -> list[tuple[int, int, int]]:
    """(start, period, times) of the repetitions in a line, longest first at each place."""
    runs, start = [], 0
    while start < len(signs):
        best = (0, 1, 1)
        for period in range(1, min(LONGEST_BLOCK, len(signs) - start) + 1):
            times = 1
            at = start + period
            while signs[at : at + period] == signs[start : start + period]:
                times, at = times + 1, at + period
            if times >= 3:
                best = max(best, (period * times, -period, times))
        covered, period, times = best
        if covered:
            runs.append((start, -period, times))
        start += covered or 1
    return runs


# -- drawing the parts ------------------------------------------------------------------------


def _folded(reading: Reading, parts: list[Part]) -> Picture:
    place = {node: k for k, part in enumerate(parts) for node in part.nodes}
    boxes, wires = [], []
    for k, part in enumerate(parts):
        if len(part.nodes) == 1:
            node = part.nodes[0]
            boxes.append(reading.box(node))
            wires += [reading.wire(node, p, place[s], k) for p, s in enumerate(node.inputs)]
            continue
        sources = [s for node in part.nodes for s in node.inputs if place[s] != k]
        sources = list(dict.fromkeys(sources))
        boxes.append(_part_box(reading, part, place, len(sources)))
        wires += [Wire(place[s], k, p, live=s in reading.gradients) for p, s in enumerate(sources)]
    return framed(reading, boxes, wires, place[reading.output])


def _part_box(reading: Reading, part: Part, place: dict[Tensor, int], ports: int) -> Box:
    inner = {s for node in part.nodes for s in node.inputs}
    ends = [node for node in part.nodes if node is reading.output or node not in inner]
    end = ends[-1]
    counts = Counter(node.op.name for node in part.nodes if node.op is not None)
    made = ", ".join(f"{count} {name}" for name, count in counts.most_common(6))
    title = f"{' '.join(part.lines)}: {len(part.nodes)} nodes ({made})\n{reading.title(end)}"
    box = reading.box(end)
    lines = [*part.lines, f"×{part.times}"] if part.times > 1 else part.lines
    return Box("fold", lines, box.name, box.value, box.gradient, title, ports, box.label)


# -- bands of depth ---------------------------------------------------------------------------


def _banded(reading: Reading) -> Picture:
    """How many of which operation at which depth, from the leaves to the output."""
    depth: dict[Tensor, int] = {}
    for node in reading.nodes:
        depth[node] = max((depth[s] + 1 for s in node.inputs), default=0)
    deepest = max(depth.values())
    bands: dict[int, list[Tensor]] = {}
    for node in reading.nodes:
        band = 0 if not depth[node] else 1 + (depth[node] - 1) * BANDS // deepest
        bands.setdefault(BANDS + 1 if node is reading.output else band, []).append(node)
    boxes, wires = [], []
    order = sorted(bands)
    level = {node: k for k, band in enumerate(order) for node in bands[band]}
    for k, band in enumerate(order):
        boxes.append(_band_box(reading, bands[band], depth, k))
        if k:
            wires.append(Wire(k - 1, k, 0, live=not reading.missing))
    for k, count in enumerate(_passing(reading, level, len(order))):
        wires[k].label = f"{count} wire{'s' * (count != 1)}"
    picture = framed(reading, boxes, wires, len(boxes) - 1)
    most = "without folding: max_nodes" if len(reading.nodes) <= 2000 else "by depth: max_nodes"
    picture.notes.append(
        f"summarised {most} is less than the {len(reading.nodes)} nodes of this circuit;"
        " each box counts operations, with the range of their values and gradients"
    )
    return picture


def _passing(reading: Reading, level: dict[Tensor, int], count: int) -> list[int]:
    """How many wires pass from each band to a later one."""
    change = [0] * (count + 1)
    for node in reading.nodes:
        for source in node.inputs:
            change[level[source]] += 1
            change[level[node]] -= 1
    return [int(n) for n in np.cumsum(change)[: count - 1]]


def _band_box(reading: Reading, nodes: list[Tensor], depth: dict[Tensor, int], k: int) -> Box:
    if nodes == [reading.output]:
        box = reading.box(reading.output)
        box.ports = 1
        return box
    kinds = Counter(_kind(node) for node in nodes)
    lines = [f"{count} {name}" for name, count in kinds.most_common(4)]
    if len(kinds) > 4:
        lines.append(f"… {len(kinds) - 4} more kinds")
    low, high = (pick(depth[node] for node in nodes) for pick in (min, max))
    lines = ([f"depth {low}–{high}" if low < high else f"depth {low}"] if k else []) + lines
    gradients = [reading.gradients[node] for node in nodes if node in reading.gradients]
    sizes = _spread([np.abs(g) for g in gradients])
    return Box(
        "band", lines, "", _spread([node.value for node in nodes]), sizes,
        f"{', '.join(lines)}", 1 if k else 0, "band",
    )  # fmt: skip


def _kind(node: Tensor) -> str:
    if node.op is not None:
        return symbol_of(node)
    return "variables" if node.requires_grad else "constants"


def _spread(values: list[Any]) -> Face | None:
    """The range of many values in one face."""
    ranges = []
    for value in values:
        array = np.asarray(value)
        finite = array if array.ndim == 0 else array.reshape(-1)
        finite = finite[np.isfinite(finite)]
        if finite.size:
            ranges.append((float(finite.min()), float(finite.max())))
    if not ranges:
        return None
    low, high = min(a for a, _ in ranges), max(b for _, b in ranges)
    text = short(low, 3) if low == high else f"{short(low, 3)}…{short(high, 3)}"
    return Face(text, text)
