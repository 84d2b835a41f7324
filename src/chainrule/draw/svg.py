"""A drawing as SVG: no scripts, no fonts or files from elsewhere, readable in light and dark."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from html import escape
from math import sqrt

from .face import Face, letters
from .layout import Cell, Layout, Spacing, arranged
from .picture import Box, Picture, Wire

# The size of each kind of text, in pixels; a letter is taken to be EM of it wide.
SIZES = {"s": 15, "n": 12, "v": 13, "g": 13, "l": 10, "c": 10, "k": 12, "o": 14, "h": 11}
EM = 0.62
RADIUS = 18.0
PORTS = 30.0  # between the wires that arrive at one box
CELL = 4  # side of a heat map's cell
EDGE = 16.0  # white margin

LIGHT = {
    "ink": "#1f2328", "paper": "#ffffff", "gate": "#f3f5f8", "line": "#59636e",
    "pale": "#aab2bb", "v": "#1a7f37", "g": "#c4232c", "l": "#656d76",
}  # fmt: skip
DARK = {
    "ink": "#e6edf3", "paper": "#0d1117", "gate": "#1c2330", "line": "#9aa4af",
    "pale": "#555f6b", "v": "#4ac26b", "g": "#ff8e86", "l": "#9aa4af",
}  # fmt: skip
FONT = "system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue','DejaVu Sans',Arial,sans-serif"


def _colours(c: dict[str, str], scope: str) -> str:
    rules = {
        "text": f"fill:{c['ink']}",
        ".paper": f"fill:{c['paper']}",
        ".body": f"fill:{c['gate']};stroke:{c['line']}",
        ".wire": f"stroke:{c['line']}",
        ".still": f"stroke:{c['pale']}",
        ".dot,.tip": f"fill:{c['line']}",
        ".v,.plus": f"fill:{c['v']}",
        ".g,.c,.minus": f"fill:{c['g']}",
        ".l,.k,.h": f"fill:{c['l']}",
        ".bad": f"fill:{c['ink']}",
    }
    return "".join(
        f"{','.join(f'{scope} {one}' for one in selector.split(','))}{{{rule}}}"
        for selector, rule in rules.items()
    )


def _style(dark: bool) -> str:
    sizes = "".join(f".cr-drawing .{name}{{font-size:{size}px}}" for name, size in SIZES.items())
    fixed = (
        f".cr-drawing text{{font-family:{FONT};text-anchor:middle}}"
        ".cr-drawing .wire{fill:none;stroke-width:1.5}.cr-drawing .body{stroke-width:1.5}"
        ".cr-drawing .g,.cr-drawing .c{font-style:italic}"
        ".cr-drawing .n,.cr-drawing .o{font-weight:600}"
        ".cr-drawing .end{text-anchor:end}.cr-drawing .start{text-anchor:start}"
    )
    media = f"@media(prefers-color-scheme:dark){{{_colours(DARK, '.cr-drawing')}}}" if dark else ""
    return f"<style>{sizes}{fixed}{_colours(LIGHT, '.cr-drawing')}{media}</style>"


def width(text: str, kind: str) -> float:
    """How wide a text of a kind is taken to be, in pixels."""
    return letters(text) * SIZES[kind] * EM


def plain(text: str) -> str:
    """Text for SVG: escaped, with a true minus sign."""
    return escape(text.replace("-", "−"), quote=True)


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


def _shape(box: Box, arriving: list[Wire], branches: bool, final: bool) -> _Shape:
    ports = _offsets(box.ports)
    body, height = _body(box)
    labels = [_on_edge(wire) for wire in arriving]
    lead = max((max(width(a, "l"), width(b, "c")) for a, b in labels), default=-12.0) + 12.0
    if not any(a or b for a, b in labels):
        lead = 8.0 if arriving else 0.0
    stub = max(_face_width(box.value, "v"), _face_width(box.gradient, "g", "∂ "), 0.0) + 14.0
    above = max(height / 2 + (18.0 if box.name else 0.0), _face_height(box.value) + 7.0)
    below = max(height / 2, 21.0 if box.gradient else 0.0)
    if box.gradient and box.gradient.cells:
        below += len(box.gradient.cells) * CELL + 2.0
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
    text = max(width(line, "s") for line in box.lines)
    tall = max(2 * RADIUS, (box.ports - 1) * PORTS + 14.0)
    if len(box.lines) == 1 and text <= 28.0 and box.ports <= 2:
        return 2 * RADIUS, 2 * RADIUS
    return text + 20.0, max(tall, len(box.lines) * 18.0 + 16.0)


def _on_edge(wire: Wire) -> tuple[str, str]:
    """What stands above and below the end of a wire."""
    return (wire.label or (f"×{wire.local}" if wire.local else "")), wire.contribution


def _face_width(face: Face | None, kind: str, mark: str = "") -> float:
    if face is None:
        return 0.0
    map_width = len(face.cells[0]) * CELL if face.cells else 0
    return max(width(mark + face.text, kind), float(map_width))


def _face_height(face: Face | None) -> float:
    if face is None:
        return 0.0
    return 14.0 + (len(face.cells) * CELL + 2.0 if face.cells else 0.0)


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

    def __init__(self, picture: Picture) -> None:
        self.picture = picture
        self.fans = picture.fans()
        arriving: list[list[Wire]] = [[] for _ in picture.boxes]
        for wire in picture.wires:
            if self.fans[wire.source] < 2:
                wire.contribution = ""  # it is the whole gradient, which stands there already
            arriving[wire.target].append(wire)
        self.shapes = [
            _shape(box, arriving[k], self.fans[k] > 1, k == picture.output)
            for k, box in enumerate(picture.boxes)
        ]
        triples = [(w.source, w.target, w.port) for w in picture.wires]
        cells = [shape.cell for shape in self.shapes]
        self.layout: Layout = arranged(cells, triples, Spacing(10.0, 7.0))
        self.columns = self._columns()
        legend = "value above the wire    ∂ gradient below    ×local derivative"
        words = [_legend_text(picture), *picture.notes, legend]
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

    # -- pieces -------------------------------------------------------------------------------

    def wire(self, number: int) -> str:
        """One edge: its line, and what stands at its end."""
        wire, layout = self.picture.wires[number], self.layout
        route, y = layout.routes[number], layout.y
        x, height = self.right(route[0]), y[route[0]]
        path = [f"M{_n(x)} {_n(height)}"]
        for k, item in enumerate(route[1:], start=1):
            column = self.columns[layout.rank[item]]
            path.append(f"H{_n(self.columns[layout.rank[item] - 1].end)}")
            end = y[item] + (layout.ports[number] if k == len(route) - 1 else 0.0)
            path.append(_curve(self.columns[layout.rank[item] - 1].end, height, column.x, end))
            height = end
        path.append(f"H{_n(self.left(wire.target, layout.ports[number]))}")
        kind = "wire" if wire.live else "wire still"
        title = f"<title>{plain(wire.title)}</title>" if wire.title else ""
        line = f'<path class="{kind}" d="{"".join(path)}">{title}</path>'
        start = self.columns[layout.rank[wire.target]]
        middle = (start.x + start.left) / 2
        above, below = _on_edge(wire)
        return line + "".join(
            _text(kind, middle, height + dy, text)
            for kind, dy, text in (("l", -4.0, above), ("c", 12.0, below))
            if text
        )

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
        parts = [f'<g class="node {box.kind}"><title>{plain(box.title)}</title>']
        if box.kind in ("variable", "constant"):
            kind = "n end" if box.kind == "variable" else "k end"
            parts.append(_text(kind, column.stub - 5.0, y + 4.0, box.lines[0]))
        else:
            parts += self._gate(box, shape, middle, y)
        centre = (column.stub + column.end) / 2
        if box.value:
            parts.append(_text("v", centre, y - 5.0, box.value.text))
            parts.append(_heat(box.value, centre, y - 19.0 - CELL * len(box.value.cells)))
        if box.gradient:
            parts.append(_text("g", centre, y + 15.0, f"∂ {box.gradient.text}"))
            parts.append(_heat(box.gradient, centre, y + 21.0))
        if self.fans[number] > 1:
            parts.append(f'<circle class="dot" cx="{_n(column.end)}" cy="{_n(y)}" r="2.5"/>')
        return "".join(parts) + "</g>"

    def _gate(self, box: Box, shape: _Shape, middle: float, y: float) -> list[str]:
        if shape.body == shape.height:
            body = f'<circle class="body" cx="{_n(middle)}" cy="{_n(y)}" r="{_n(RADIUS)}"/>'
        else:
            x, top = middle - shape.body / 2, y - shape.height / 2
            body = (
                f'<rect class="body" x="{_n(x)}" y="{_n(top)}" width="{_n(shape.body)}"'
                f' height="{_n(shape.height)}" rx="{8 if box.kind == "gate" else 4}"/>'
            )
        first = y + 5.0 - 9.0 * (len(box.lines) - 1)
        parts = [body]
        parts += [_text("s", middle, first + 18.0 * k, t) for k, t in enumerate(box.lines)]
        if box.name:
            parts.append(_text("n", middle, y - shape.height / 2 - 5.0, box.name))
        return parts

    def tip(self) -> str:
        """The end of the output's wire, with its name."""
        box = self.picture.output
        column, y = self.columns[self.layout.rank[box]], self.layout.y[box]
        start, end = self.right(box), self.columns[-1].end + 10.0
        kind = "wire" if self.picture.gradients else "wire still"
        return (
            f'<path class="{kind}" d="M{_n(start)} {_n(y)}H{_n(end)}"/>'
            f'<path class="tip" d="M{_n(end + 6)} {_n(y)}l-8 -4v8z"/>'
            + _text("o start", end + 10.0, y + 5.0, self.picture.output_name)
        )

    def legend(self) -> str:
        """What the colours mean, and what must be said."""
        x, y = 0.0, self.bottom + 4.0
        lines = [_text("h start", x, y + 18.0 * (k + 1), t) for k, t in enumerate(self.picture.notes)]
        return _legend(self.picture, x, y) + "".join(lines)


def _legend_text(picture: Picture) -> str:
    words = ["value above the wire"]
    if picture.gradients:
        words += ["∂ gradient below", "×local derivative on the edge"]
    return " · ".join(words)


def _legend(picture: Picture, x: float, y: float) -> str:
    kinds = ("v", "g", "l")
    words = _legend_text(picture).split(" · ")
    spans = ' <tspan class="h">·</tspan> '.join(
        f'<tspan class="{kind}" font-size="11" style="font-size:11px">{plain(word)}</tspan>'
        for kind, word in zip(kinds, words, strict=False)
    )
    return f'<text class="h start" x="{_n(x)}" y="{_n(y)}">{spans}</text>'


def _text(kind: str, x: float, y: float, text: str) -> str:
    return f'<text class="{kind}" x="{_n(x)}" y="{_n(y)}">{plain(text)}</text>'


def _curve(x: float, y: float, to_x: float, to_y: float) -> str:
    if y == to_y:
        return f"H{_n(to_x)}"
    middle = (x + to_x) / 2
    return f"C{_n(middle)} {_n(y)} {_n(middle)} {_n(to_y)} {_n(to_x)} {_n(to_y)}"


def _heat(face: Face, centre: float, top: float) -> str:
    """A tensor's cells: one path for each sign and strength."""
    if not face.cells:
        return ""
    left = centre - len(face.cells[0]) * CELL / 2
    shades: dict[tuple[str, int], list[str]] = {}
    for row, line in enumerate(face.cells):
        for column, share in enumerate(line):
            kind = "bad" if share != share else "plus" if share >= 0 else "minus"
            level = 10 if kind == "bad" else round(abs(share) * 9) + 1
            spot = f"M{_n(left + column * CELL)} {_n(top + row * CELL)}h{CELL}v{CELL}h-{CELL}z"
            shades.setdefault((kind, level), []).append(spot)
    return "".join(
        f'<path class="{kind}" fill-opacity="{_n(level / 10)}" d="{"".join(spots)}"/>'
        for (kind, level), spots in sorted(shades.items())
    )


def _n(x: float) -> str:
    return f"{x:.1f}".removesuffix(".0").replace("-0", "0") if abs(x) < 0.05 else (
        f"{x:.1f}".removesuffix(".0")
    )


def svg(picture: Picture, *, dark: bool = True) -> str:
    """The picture as one `<svg>` element; with `dark`, it follows the reader's colour scheme."""
    canvas = _Canvas(picture)
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
        f' viewBox="{_n(-EDGE)} {_n(-EDGE)} {canvas.width} {canvas.height}">'
    )
    return "\n".join(
        [
            head,
            f'<title id="{mark}t">The circuit of {plain(picture.output_name)}</title>',
            f'<desc id="{mark}d">{plain(described)}</desc>',
            _style(dark),
            f'<rect class="paper" x="{_n(-EDGE)}" y="{_n(-EDGE)}"'
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
