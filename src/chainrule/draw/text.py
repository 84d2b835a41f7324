"""A drawing for the terminal: the same layers in box-drawing characters, or a list if too wide."""

from __future__ import annotations

from functools import reduce
from operator import or_

from .face import letters
from .layout import Cell, Layout, Spacing, arranged
from .picture import Box, Picture
from .tracks import Net, tracked

UP, DOWN, LEFT, RIGHT = 1, 2, 4, 8
_STROKES = {
    UP | DOWN: "│", LEFT | RIGHT: "─", UP: "│", DOWN: "│", LEFT: "─", RIGHT: "─",
    UP | RIGHT: "╰", DOWN | RIGHT: "╭", UP | LEFT: "╯", DOWN | LEFT: "╮",
    UP | DOWN | RIGHT: "├", UP | DOWN | LEFT: "┤", LEFT | RIGHT | DOWN: "┬",
    LEFT | RIGHT | UP: "┴", UP | DOWN | LEFT | RIGHT: "┼",
}  # fmt: skip
_COLOURS = {"v": "\x1b[32m", "g": "\x1b[3;31m", "l": "\x1b[2m"}


def ports(count: int) -> tuple[float, ...]:
    """The rows where wires arrive, around the gate's own row 0, which one wire has to itself.

    >>> ports(1), ports(2), ports(3)
    ((0,), (-1, 1), (-1, 0, 1))
    """
    half = count // 2
    return tuple(k for k in range(-half, half + 1) if k or count % 2)


class _Grid:
    """Characters by place: texts, and strokes that join where they belong to one wire."""

    def __init__(self) -> None:
        self.strokes: dict[tuple[int, int], dict[int, int]] = {}  # (row, column): {net: arms}
        self.texts: dict[tuple[int, int], tuple[str, str]] = {}

    def across(self, row: int, start: int, end: int, net: int) -> None:
        """A horizontal stroke over the columns `start` to `end`, both included."""
        for column in range(start, end + 1):
            arms = (LEFT if column > start else 0) | (RIGHT if column < end else 0)
            self.arm(row, column, arms, net)

    def along(self, column: int, start: int, end: int, net: int) -> None:
        """A vertical stroke over the rows `start` to `end`."""
        for row in range(start, end + 1):
            arms = (UP if row > start else 0) | (DOWN if row < end else 0)
            self.arm(row, column, arms, net)

    def arm(self, row: int, column: int, arms: int, net: int) -> None:
        """Let a net's stroke at a place reach in more directions."""
        here = self.strokes.setdefault((row, column), {})
        here[net] = here.get(net, 0) | arms

    def put(self, row: int, column: int, text: str, style: str = "") -> None:
        """Write a text over whatever is there; wide letters take two places."""
        place = column
        for c in text:
            size = letters(c)
            if not size:
                before, kind = self.texts.get((row, place - 1), ("", style))
                self.texts[row, place - 1] = before + c, kind
                continue
            self.texts[row, place] = c, style
            if size == 2:
                self.texts[row, place + 1] = "", style
            place += size

    def lines(self, colour: bool) -> list[str]:
        """The rows from the first used to the last."""
        rows: dict[int, dict[int, tuple[str, str]]] = {}
        for (row, column), here in self.strokes.items():
            rows.setdefault(row, {})[column] = _stroke(here), ""
        for (row, column), written in self.texts.items():
            rows.setdefault(row, {})[column] = written
        return [_line(rows.get(row, {}), colour) for row in range(min(rows), max(rows) + 1)]


def _line(places: dict[int, tuple[str, str]], colour: bool) -> str:
    """One row: its letters where they stand, blanks between them."""
    parts, at, now = [], 0, ""
    for column in sorted(places):
        letter, style = places[column]
        if colour and style != now:
            parts.append("\x1b[0m" if now else "")
        parts.append(" " * (column - at))
        if colour and style != now:
            parts.append(_COLOURS.get(style, ""))
            now = style
        parts.append(letter)
        at = column + 1
    return ("".join(parts) + ("\x1b[0m" if now else "")).rstrip()


def _stroke(here: dict[int, int]) -> str:
    """The character for the arms that all wires have at a place."""
    arms = list(here.values())
    if any(a & (UP | DOWN) == a for a in arms) and any(a & (LEFT | RIGHT) == a for a in arms):
        return "│"  # two wires cross: the upright one passes over
    return _STROKES.get(reduce(or_, arms), " ")


def _body(box: Box) -> str:
    if box.kind in ("variable", "constant"):
        return f"{box.lines[0]} "
    text = ", ".join(box.lines) if box.kind == "band" else " ".join(box.lines)
    return f"({text})" if box.kind == "gate" else f"[{text}]"


class _Sheet:
    """The picture measured in characters."""

    def __init__(self, picture: Picture) -> None:
        self.picture = picture
        self.bodies = [_body(box) for box in picture.boxes]
        wires = picture.wires
        self.locals = [w.label or (f"×{w.local}" if w.local else "") for w in wires]
        cells = [_cell(box, b) for box, b in zip(picture.boxes, self.bodies, strict=True)]
        triples = [(w.source, w.target, w.port) for w in wires]
        self.layout: Layout = arranged(cells, triples, Spacing(0.0, 0.5))
        self.row = [round(y) for y in self.layout.y]
        self.grid = _Grid()
        self._columns()

    def _columns(self) -> None:
        """Where each layer's leads, bodies and stubs begin, and the channel's tracks after it."""
        layout, count = self.layout, len(self.bodies)
        leads = [0] * count
        for wire, text in zip(self.picture.wires, self.locals, strict=True):
            several = self.picture.boxes[wire.target].ports > 1
            leads[wire.target] = max(leads[wire.target], letters(text) + 1 + several)
        x = 0
        self.x, self.left, self.stub, self.end = [], [], [], []
        self.nets: list[list[Net]] = []
        for rank, layer in enumerate(layout.layers):
            own = [item for item in layer if item < count]
            self.x.append(x)
            self.left.append(x + max((leads[k] for k in own), default=0))
            body = max((_breadth(self.picture.boxes[k], self.bodies[k]) for k in own), default=0)
            self.stub.append(self.left[-1] + body)
            stub = max((_stub(self.picture.boxes[k]) for k in own), default=0)
            self.end.append(self.stub[-1] + stub)
            self.nets.append(self._nets(rank))
            x = self.end[-1] + max((net.track for net in self.nets[-1]), default=0) + 2

    def _nets(self, rank: int) -> list[Net]:
        """The wires of one channel: from each item the rows that it feeds."""
        rows: dict[int, set[int]] = {}
        for route, port in zip(self.layout.routes, self.layout.ports, strict=True):
            step = rank - self.layout.rank[route[0]]
            if 0 <= step < len(route) - 1:
                last = step == len(route) - 2
                row = self.row[route[step + 1]] + (round(port) if last else 0)
                rows.setdefault(route[step], set()).add(row)
        nets = [Net(item, self.row[item], tuple(sorted(ends))) for item, ends in rows.items()]
        return tracked(sorted(nets, key=lambda net: net.row))

    def drawn(self, colour: bool) -> list[str]:
        """The lines of the drawing."""
        for rank, nets in enumerate(self.nets):
            for net in nets:
                self._channel(net, self.end[rank], self.x[rank + 1])
        for item in range(len(self.bodies), len(self.row)):
            rank = self.layout.rank[item]
            self.grid.across(self.row[item], self.x[rank] - 1, self.end[rank] + 1, item)
        for k in range(len(self.bodies)):
            self._box(k)
        for k in range(len(self.picture.wires)):
            self._local(k)
        return self.grid.lines(colour)

    def _channel(self, net: Net, start: int, stop: int) -> None:
        """A source's row, its upright, and the rows that it feeds."""
        column = start + net.track
        if net.rows == (net.row,):
            self.grid.across(net.row, start, stop, net.name)
            return
        if net.enters:
            self.grid.across(net.row, start + net.enters, column, net.name)
        else:
            self.grid.across(net.row, start, column, net.name)
        self.grid.along(column, min(net.row, *net.rows), max(net.row, *net.rows), net.name)
        for row in net.rows:
            if not net.leaves:
                self.grid.across(row, column, stop, net.name)

    def _box(self, k: int) -> None:
        box, row, rank = self.picture.boxes[k], self.row[k], self.layout.rank[k]
        stub, left, grid = self.stub[rank], self.left[rank], self.grid
        body = self.bodies[k]
        size = letters(body)
        leaf = box.kind in ("variable", "constant")
        column = stub - size if leaf else left + (stub - left - size) // 2
        end = self.end[rank] + (0 if k == self.picture.output else 1)
        if end > stub:
            grid.across(row, column + size, end, k)
        self._lead(k, column)
        grid.put(row, column, body, "l" if box.kind == "constant" else "")
        if box.name:
            high = _name_row(box, body)
            grid.put(row - high, column + (size - letters(box.name)) // 2, box.name)
        for face, place, style, mark in (
            (box.value, row - 1, "v", ""),
            (box.gradient, row + 1, "g", "∂ "),
        ):
            if face:
                text = mark + face.text
                room = self.end[rank] - stub - letters(text)
                grid.put(place, stub + max(room, 0) // 2 + 1, text, style)
        if k == self.picture.output:
            grid.put(row, self.end[rank], f"→ {self.picture.output_name}")

    def _lead(self, k: int, body: int) -> None:
        """The wires into a box, which meet at a bar before it if there are several."""
        box, row, rank = self.picture.boxes[k], self.row[k], self.layout.rank[k]
        if not box.ports:
            return
        rows = [row + round(port) for port in ports(box.ports)]
        bar = body - 1
        for place in rows:
            self.grid.across(place, self.x[rank] - 1, bar, k)
        if len(rows) > 1:
            self.grid.along(bar, rows[0], rows[-1], k)
            self.grid.arm(row, bar, RIGHT, k)

    def _local(self, number: int) -> None:
        wire, text = self.picture.wires[number], self.locals[number]
        if text:
            rank = self.layout.rank[wire.target]
            row = self.row[wire.target] + round(self.layout.ports[number])
            self.grid.put(row, self.x[rank], text, "l")


def _breadth(box: Box, body: str) -> int:
    return max(letters(body), letters(box.name))


def _name_row(box: Box, body: str) -> int:
    """How far above the gate its name stands: clear of the wires if it is broader than the gate."""
    reach = box.ports // 2
    return reach + 1 if not reach or letters(box.name) > letters(body) else 1


def _cell(box: Box, body: str) -> Cell:
    rows = ports(box.ports)
    reach = max((abs(row) for row in rows), default=0)
    above = max(reach, 1 if box.value else 0, _name_row(box, body) if box.name else 0)
    below = max(reach, 1 if box.gradient else 0)
    return Cell(above + 0.5, below + 0.5, rows, box.kind == "variable")


def _stub(box: Box) -> int:
    value = letters(box.value.text) if box.value else 0
    gradient = letters(box.gradient.text) + 2 if box.gradient else 0
    return max(value, gradient) + 2


def text(picture: Picture, width: int | None = None, colour: bool = False) -> str:
    """The picture in characters; a list of its boxes where it would be wider than `width`."""
    sheet = _Sheet(picture)
    lines = sheet.drawn(False)
    if width is not None and max(letters(line) for line in lines) > width:
        lines = listed(picture)
    elif colour:
        lines = sheet.grid.lines(True)
    notes = [note[0].upper() + note[1:] + "." for note in picture.notes]
    return "\n".join([*lines, *([""] if notes else []), *notes]) + "\n"


def listed(picture: Picture) -> list[str]:
    """One line a box, inputs first: its name, what it is made of, value and gradient."""
    names = _numbered(picture)
    inputs: list[list[str]] = [[] for _ in picture.boxes]
    for wire in picture.wires:
        local = wire.label or (f"×{wire.local}" if wire.local else "")
        inputs[wire.target].append(f"{names[wire.source]}{f' {local}' if local else ''}")
    rows = []
    for k, box in enumerate(picture.boxes):
        if box.kind == "constant" and not box.value:
            continue
        made = "" if box.kind == "variable" else f"{_body(box)} of {', '.join(inputs[k])}"
        value = box.value.text if box.value else ""
        rows.append((names[k], value, f"∂ {box.gradient.text}" if box.gradient else "", made))
    sizes = [max(letters(row[c]) for row in rows) for c in range(3)]
    return [
        "  ".join([*(t + " " * (n - letters(t)) for t, n in zip(row, sizes, strict=False)), row[3]])
        .rstrip() for row in rows
    ]  # fmt: skip


def _numbered(picture: Picture) -> list[str]:
    """A name for each box: its own, else n1, n2, …"""
    names, free = [], 0
    for k, box in enumerate(picture.boxes):
        if k == picture.output:
            names.append(picture.output_name)
        elif box.kind in ("variable", "constant") or box.name:
            names.append(box.name or box.lines[0])
        else:
            free += 1
            names.append(f"n{free}")
    return names
