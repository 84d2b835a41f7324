"""A drawing as SVG: no scripts, no fonts or files from elsewhere, readable in light and dark."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from typing import NamedTuple

from ..circuit import Tensor
from .face import Face, letters
from .layout import Cell, Layout, Spacing, arranged
from .paint import curve, data, heat, map_size, n, plain, style, text, width
from .picture import Box, Picture, Wire

RADIUS = 18.0
PORTS = 30.0  # between the wires that arrive at one box
EDGE = 16.0  # white margin


class Keys(NamedTuple):
    """The numbers by which a page knows the nodes and edges of a circuit."""

    nodes: Mapping[Tensor, int]
    edges: Mapping[tuple[Tensor, int], int]  # the using node, and which of its inputs


@dataclass
class _Shape:
    """The measures of one box."""

    body: float  # width of the circle, rectangle or label
    height: float
    stub: float  # the wire after it, on which value and gradient stand
    lead: float  # the wire before it, on which the local derivative stands
    cell: Cell


def _offsets(count: int) -> tuple[float, ...]:
    return tuple((k - (count - 1) / 2) * PORTS for k in range(count))


def _shape(box: Box, labels: list[tuple[str, str]]) -> _Shape:
    """Its measures, given what stands above and below the wires that arrive."""
    ports = _offsets(box.ports)
    body, height = _body(box)
    lead = max((max(width(a, "l"), width(b, "c")) for a, b in labels), default=-12.0) + 12.0
    if not any(a or b for a, b in labels):
        lead = 8.0 if labels else 0.0
    stub = max(_face_width(box.value, "v"), _face_width(box.gradient, "g", "∂ "), 0.0) + 14.0
    above = max(height / 2 + (18.0 if box.name else 0.0), _face_height(box.value) + 7.0)
    below = max(height / 2, 21.0 if box.gradient else 0.0)
    if box.gradient and box.gradient.cells:
        below += map_size(box.gradient)[1] + 2.0
    if ports and any(a for a, _ in labels):
        above = max(above, -ports[0] + 16.0)
    if ports and any(b for _, b in labels):
        below = max(below, ports[-1] + 16.0)
    margin = box.kind == "variable"
    return _Shape(body, height, stub, lead, Cell(above, below, ports, margin))


def _body(box: Box) -> tuple[float, float]:
    if box.kind in ("variable", "constant"):
        kind = "n" if box.kind == "variable" else "k"
        return width(box.lines[0], kind) + 6.0, 18.0
    widest = max(width(line, _inside(box)) for line in box.lines)
    tall = max(2 * RADIUS, (box.ports - 1) * PORTS + 14.0)
    if len(box.lines) == 1 and widest <= 28.0 and box.ports <= 2:
        return 2 * RADIUS, 2 * RADIUS
    return widest + 20.0, max(tall, len(box.lines) * 18.0 + 16.0)


def _inside(box: Box) -> str:
    """The kind of text in a gate: smaller where three letters share a circle."""
    return "t" if box.kind == "gate" and letters(box.lines[0]) == 3 else "s"


def _face_width(face: Face | None, kind: str, mark: str = "") -> float:
    if face is None:
        return 0.0
    return max(width(mark + face.text, kind), float(map_size(face)[0]))


def _face_height(face: Face | None) -> float:
    if face is None:
        return 0.0
    return 14.0 + (map_size(face)[1] + 2.0 if face.cells else 0.0)


class _Column:
    """A layer from left to right: leads, bodies, stubs; the curves run between columns."""

    def __init__(self, shapes: list[_Shape], x: float) -> None:
        self.x = x
        lead = max((s.lead for s in shapes), default=0.0)
        self.body = max((s.body for s in shapes), default=0.0)
        self.left = x + lead
        self.stub = self.left + self.body
        self.end = self.stub + max((s.stub for s in shapes), default=0.0)


class _Canvas:
    """The picture with all its measures, and the pieces of SVG that it becomes."""

    def __init__(self, picture: Picture, keys: Keys | None = None) -> None:
        self.picture = picture
        self.keys = keys or Keys({}, {})
        self.fans = picture.fans()
        arriving: list[list[tuple[str, str]]] = [[] for _ in picture.boxes]
        for wire in picture.wires:
            arriving[wire.target].append(self.on_edge(wire))
        self.shapes = [_shape(box, arriving[k]) for k, box in enumerate(picture.boxes)]
        triples = [(w.source, w.target, w.port) for w in picture.wires]
        cells = [shape.cell for shape in self.shapes]
        self.layout: Layout = arranged(cells, triples, Spacing(10.0, 7.0))
        self.columns = self._columns()
        words = [_legend_text(picture), *picture.notes]
        right = self.columns[-1].end + 24.0 + width(picture.output_name, "o")
        self.width = round(max(right, max(width(t, "h") for t in words)) + 2 * EDGE)
        tall = max(self.layout.y[k] + s.cell.below for k, s in enumerate(self.shapes))
        low = max([tall, *[self.layout.y[k] + 7.0 for k in range(len(self.layout.y))]])
        self.bottom = low + EDGE
        self.height = round(self.bottom + 18.0 * (1 + len(picture.notes)) + EDGE)

    def _columns(self) -> list[_Column]:
        columns: list[_Column] = []
        x = 0.0
        for k, layer in enumerate(self.layout.layers):
            shapes = [self.shapes[item] for item in layer if item < len(self.shapes)]
            columns.append(_Column(shapes, x))
            x = columns[-1].end + self._channel(k)
        return columns

    def _channel(self, rank: int) -> float:
        """Wide enough for its steepest wire."""
        y, steepest = self.layout.y, 0.0
        for route, port in zip(self.layout.routes, self.layout.ports, strict=True):
            step = rank - self.layout.rank[route[0]]
            if 0 <= step < len(route) - 1:
                end = y[route[step + 1]] + (port if step == len(route) - 2 else 0.0)
                steepest = max(steepest, abs(end - y[route[step]]))
        return min(max(26.0, 18.0 + 0.3 * steepest), 130.0)

    def on_edge(self, wire: Wire) -> tuple[str, str]:
        """What stands above and below a wire's end: its factor, and its part of a sum."""
        factor = wire.label or (f"×{wire.local}" if wire.local else "")
        return factor, wire.contribution if self.fans[wire.source] > 1 else ""

    # -- pieces -------------------------------------------------------------------------------

    def wire(self, number: int) -> str:
        """One edge: its line, and what stands at its end."""
        wire, layout = self.picture.wires[number], self.layout
        route, y = layout.routes[number], layout.y
        x, height = self.right(route[0]), y[route[0]]
        path = [f"M{n(x)} {n(height)}"]
        for k, item in enumerate(route[1:], start=1):
            column = self.columns[layout.rank[item]]
            path.append(f"H{n(self.columns[layout.rank[item] - 1].end)}")
            end = y[item] + (layout.ports[number] if k == len(route) - 1 else 0.0)
            path.append(curve(self.columns[layout.rank[item] - 1].end, height, column.x, end))
            height = end
        path.append(f"H{n(self.left(wire.target, layout.ports[number]))}")
        kind = "wire" if wire.live else "wire still"
        user = self.picture.boxes[wire.target].node
        edge = self.keys.edges.get((user, wire.port)) if user is not None else None
        title = f"<title>{plain(wire.title)}</title>" if wire.title else ""
        line = f'<path class="{kind}"{data("edge", edge)} d="{"".join(path)}">{title}</path>'
        start = self.columns[layout.rank[wire.target]]
        middle = (start.x + start.left) / 2
        above, below = self.on_edge(wire)
        pieces = [line]
        if above:
            pieces.append(text("l", middle, height - 4.0, above, "×", data("local", edge)))
        if below:
            pieces.append(text("c", middle, height + 12.0, below, "", data("contribution", edge)))
        return "".join(pieces)

    def left(self, box: int, port: float) -> float:
        """Where a wire meets a box."""
        column, shape = self.columns[self.layout.rank[box]], self.shapes[box]
        middle = column.left + column.body / 2
        if shape.body == shape.height:  # a circle
            return middle - sqrt(max(RADIUS**2 - port**2, 0.0))
        return middle - shape.body / 2

    def right(self, box: int) -> float:
        """Where a box's wire begins."""
        column, shape = self.columns[self.layout.rank[box]], self.shapes[box]
        if self.picture.boxes[box].kind in ("variable", "constant"):
            return column.stub
        return column.left + (column.body + shape.body) / 2

    def box(self, number: int) -> str:
        """One node: its body, name, value and gradient."""
        box, shape = self.picture.boxes[number], self.shapes[number]
        column, y = self.columns[self.layout.rank[number]], self.layout.y[number]
        middle = column.left + column.body / 2
        key = self.keys.nodes.get(box.node) if box.node is not None else None
        parts = [f'<g class="node {box.kind}"{data("node", key)}><title>{plain(box.title)}</title>']
        if box.kind in ("variable", "constant"):
            kind = "n end" if box.kind == "variable" else "k end"
            parts.append(text(kind, column.stub - 5.0, y + 4.0, box.lines[0]))
        else:
            parts += self._gate(box, shape, middle, y)
        centre = (column.stub + column.end) / 2
        if box.value:
            parts.append(text("v", centre, y - 5.0, box.value.text, "", data("value", key)))
            parts.append(heat(box.value, centre, y - 19.0 - map_size(box.value)[1]))
        if box.gradient:
            slope = f"∂ {box.gradient.text}"
            parts.append(text("g", centre, y + 15.0, slope, "∂ ", data("gradient", key)))
            parts.append(heat(box.gradient, centre, y + 21.0))
        if self.fans[number] > 1:
            parts.append(f'<circle class="dot" cx="{n(column.end)}" cy="{n(y)}" r="2.5"/>')
        return "".join(parts) + "</g>"

    def _gate(self, box: Box, shape: _Shape, middle: float, y: float) -> list[str]:
        if shape.body == shape.height:
            body = f'<circle class="body" cx="{n(middle)}" cy="{n(y)}" r="{n(RADIUS)}"/>'
        else:
            x, top = middle - shape.body / 2, y - shape.height / 2
            body = (
                f'<rect class="body" x="{n(x)}" y="{n(top)}" width="{n(shape.body)}"'
                f' height="{n(shape.height)}" rx="{8 if box.kind == "gate" else 4}"/>'
            )
        first = y + 5.0 - 9.0 * (len(box.lines) - 1)
        parts = [body]
        parts += [text(_inside(box), middle, first + 18.0 * k, t) for k, t in enumerate(box.lines)]
        if box.name:
            parts.append(text("n", middle, y - shape.height / 2 - 5.0, box.name))
        return parts

    def tip(self) -> str:
        """The end of the output's wire, with its name."""
        box = self.picture.output
        y = self.layout.y[box]
        start, end = self.right(box), self.columns[-1].end + 10.0
        kind = "wire" if self.picture.gradients else "wire still"
        return (
            f'<path class="{kind}" d="M{n(start)} {n(y)}H{n(end)}"/>'
            f'<path class="tip" d="M{n(end + 6)} {n(y)}l-8 -4v8z"/>'
            + text("o start", end + 10.0, y + 5.0, self.picture.output_name)
        )

    def legend(self) -> str:
        """What the colours mean, and what must be said."""
        x, y = 0.0, self.bottom + 4.0
        lines = [
            text("h start", x, y + 18.0 * (k + 1), t) for k, t in enumerate(self.picture.notes)
        ]
        return _legend(self.picture, x, y) + "".join(lines)


def _legend_text(picture: Picture) -> str:
    words = ["value above the wire"]
    if picture.gradients:
        words += ["∂ gradient below", "×local derivative on the edge"]
    if any(wire.local == "J" for wire in picture.wires):
        words[-1] += " (J: a Jacobian)"
    if any(box.value and box.value.cells for box in picture.boxes):
        words.append("cells: blue + orange −, darker is larger")
    return " · ".join(words)


def _legend(picture: Picture, x: float, y: float) -> str:
    kinds = ("v", "g", "l", "l") if picture.gradients else ("v", "l")
    words = _legend_text(picture).split(" · ")
    spans = ' <tspan class="h">·</tspan> '.join(
        f'<tspan class="h {kind}">{plain(word)}</tspan>'
        for kind, word in zip(kinds, words, strict=False)
    )
    return f'<text class="h start" x="{n(x)}" y="{n(y)}">{spans}</text>'


def svg(picture: Picture, *, dark: bool = True, keys: Keys | None = None) -> str:
    """The picture as one `<svg>` element; with `dark`, it follows the reader's colour scheme.

    With `keys`, nodes, edges and their numbers carry `data-` attributes for a page's script.
    """
    canvas = _Canvas(picture, keys)
    described = _described(picture)
    mark = f"cr{zlib.crc32(repr(picture).encode('utf-8', 'replace')):08x}"
    body = [
        *[canvas.wire(k) for k in range(len(picture.wires))],
        canvas.tip(),
        *[canvas.box(k) for k in range(len(picture.boxes))],
        canvas.legend(),
    ]
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="cr-drawing" role="img"'
        f' aria-labelledby="{mark}t {mark}d" width="{canvas.width}" height="{canvas.height}"'
        f' viewBox="{n(-EDGE)} {n(-EDGE)} {canvas.width} {canvas.height}">'
    )
    return "\n".join(
        [
            head,
            f'<title id="{mark}t">The circuit of {plain(picture.output_name)}</title>',
            f'<desc id="{mark}d">{plain(described)}</desc>',
            style(dark),
            f'<rect class="paper" x="{n(-EDGE)}" y="{n(-EDGE)}"'
            f' width="{canvas.width}" height="{canvas.height}"/>',
            *body,
            "</svg>\n",
        ]
    )


def _described(picture: Picture, most: int = 40) -> str:
    """The circuit in sentences, for readers who do not see it."""
    sentences = [box.title.replace("\n", ", ") for box in picture.boxes[:most]]
    if len(picture.boxes) > most:
        sentences.append(f"and {len(picture.boxes) - most} more")
    return "; ".join([*sentences, *picture.notes]) + "."
