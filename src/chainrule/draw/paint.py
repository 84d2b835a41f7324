"""The brush of SVG drawings: sizes, colours for light and dark, texts, curves and heat maps."""

from __future__ import annotations

from html import escape

from .face import Face, letters

# The size of each kind of text, in pixels; a letter is taken to be EM of it wide.
SIZES = {"s": 15, "t": 12, "n": 12, "v": 13, "g": 13, "l": 10, "c": 10, "k": 12, "o": 14, "h": 11}
EM = 0.62
CELL, LARGE_CELL = 4, 8  # side of a heat map's cell

LIGHT = {
    "ink": "#1f2328", "paper": "#ffffff", "gate": "#f3f5f8", "line": "#59636e",
    "pale": "#aab2bb", "v": "#1a7f37", "g": "#c4232c", "l": "#656d76",
    "plus": "#0a58ca", "minus": "#c2570c",
}  # fmt: skip
DARK = {
    "ink": "#e6edf3", "paper": "#0d1117", "gate": "#1c2330", "line": "#9aa4af",
    "pale": "#555f6b", "v": "#4ac26b", "g": "#ff8e86", "l": "#9aa4af",
    "plus": "#6cb0ff", "minus": "#f0a35e",
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
        ".l,.k,.h": f"fill:{c['l']}",  # first: a word of the legend is also of its kind
        ".v": f"fill:{c['v']}",
        ".g,.c": f"fill:{c['g']}",
        ".plus": f"fill:{c['plus']}",
        ".minus": f"fill:{c['minus']}",
        ".bad": f"fill:{c['ink']}",
    }
    return "".join(
        f"{','.join(f'{scope} {one}' for one in selector.split(','))}{{{rule}}}"
        for selector, rule in rules.items()
    )


def style(dark: bool) -> str:
    """The style sheet of one drawing, which touches nothing outside it."""
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


def _side(face: Face) -> int:
    """Of a heat map's cell: larger where there are few."""
    return max(CELL, min(LARGE_CELL, 36 // max(len(face.cells), len(face.cells[0]))))


def map_size(face: Face) -> tuple[int, int]:
    """Width and height of a heat map, in pixels."""
    if not face.cells:
        return 0, 0
    return len(face.cells[0]) * _side(face), len(face.cells) * _side(face)


def data(name: str, key: int | None) -> str:
    """An attribute by which a page's script finds an element; none without a key."""
    return "" if key is None else f' data-{name}="{key}"'


def text(kind: str, x: float, y: float, words: str, lead: str = "", attribute: str = "") -> str:
    """A text of a kind, which is its class, on the line at `y`.

    With an attribute, what follows `lead` is an element of its own that a script may rewrite.
    """
    inside = plain(words)
    if attribute:
        inside = f"{plain(lead)}<tspan{attribute}>{plain(words.removeprefix(lead))}</tspan>"
    return f'<text class="{kind}" x="{n(x)}" y="{n(y)}">{inside}</text>'


def curve(x: float, y: float, to_x: float, to_y: float) -> str:
    """A path on to a place, level at both ends."""
    if y == to_y:
        return f"H{n(to_x)}"
    middle = (x + to_x) / 2
    return f"C{n(middle)} {n(y)} {n(middle)} {n(to_y)} {n(to_x)} {n(to_y)}"


def heat(face: Face, centre: float, top: float) -> str:
    """A tensor's cells: one path for each sign and strength."""
    if not face.cells:
        return ""
    side, left = _side(face), centre - map_size(face)[0] / 2
    columns = [n(left + k * side) for k in range(len(face.cells[0]))]
    square = f"h{side}v{side}h-{side}z"
    shades: dict[tuple[str, int], list[str]] = {}
    for row, line in enumerate(face.cells):
        y = n(top + row * side)
        for x, share in zip(columns, line, strict=True):
            kind = "bad" if share != share else "plus" if share >= 0 else "minus"
            level = 10 if kind == "bad" else round(abs(share) * 9) + 1
            shades.setdefault((kind, level), []).append(f"M{x} {y}{square}")
    return "".join(
        f'<path class="{kind}" fill-opacity="{n(level / 10)}" d="{"".join(spots)}"/>'
        for (kind, level), spots in sorted(shades.items())
    )


def n(x: float) -> str:
    """A coordinate to a tenth of a pixel."""
    return f"{x + 0.0:.1f}".removesuffix(".0") if abs(x) >= 0.05 else "0"
