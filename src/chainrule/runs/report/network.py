"""The network drawn: a box a layer, its weights as a little heat map, what flows between."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ...draw.face import clean, face, letters
from ...draw.paint import heat, map_size, n, plain, style, text
from .facts import Facts

__all__ = ["drawn"]

SHOWN = 13  # layers; of more, the middle ones are one box
GAP, EDGE, TOP, TALL = 54.0, 12.0, 16.0, 156.0


class _Box(NamedTuple):
    """One layer: its lines of text, and its weights if it has a matrix."""

    name: str
    lines: tuple[str, ...]
    weights: Any
    flow: str  # how many numbers a row has behind it
    told: str


def drawn(facts: Facts) -> str:
    """The layers from left to right, as one `<svg>` element."""
    boxes = _folded(_boxes(facts))
    widths = [_width(box) for box in boxes]
    x, parts = EDGE, []
    for k, (box, wide) in enumerate(zip(boxes, widths, strict=True)):
        parts.append(_painted(box, x, wide))
        x += wide
        if k + 1 < len(boxes):
            parts.append(_arrow(x, box.flow))
            x += GAP
    told = plain("; then ".join(box.told for box in boxes))
    total, height = x + EDGE, TOP + TALL + EDGE
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="cr-drawing" role="img"'
        f' aria-label="The network: {told}" width="{n(total)}" height="{n(height)}"'
        f' viewBox="0 0 {n(total)} {n(height)}"><title>The network</title>{style(dark=True)}'
        f'<rect class="paper" width="{n(total)}" height="{n(height)}"/>{"".join(parts)}</svg>'
    )


def _boxes(facts: Facts) -> list[_Box]:
    width = facts.schema.width
    names = [clean(name, 16) for name in facts.schema.feature_names[:4]]
    if width > 4:
        names[3:] = [f"and {width - 3} more"]
    shape: Any = (width,)
    first = f"{width} {'feature' if width == 1 else 'features'}"
    boxes = [_Box("input", (first, *names), None, _flow(shape), first)]
    layers = list(facts.model) if hasattr(facts.model, "__iter__") else [facts.model]
    for k, layer in enumerate(layers):
        shape = layer.output_shape(shape)
        boxes.append(_layer(str(k), layer, shape))
    return [*boxes, _output(facts)]


def _layer(name: str, layer: Any, shape: Any) -> _Box:
    parameters = list(layer.named_parameters())
    size = sum(int(np.size(p.value)) for _, p in parameters)
    matrix = next((p.value for _, p in parameters if np.ndim(p.value) == 2), None)
    kind = type(layer).__name__
    lines = [kind]
    if matrix is not None:
        lines.append(f"{matrix.shape[0]} × {matrix.shape[1]} weights")
    elif size:
        lines.append(f"{size:,} parameters")
    if matrix is not None and size > matrix.size:
        lines.append(f"{size - matrix.size:,} biases")
    told = f"layer {name}, {kind}" + (f" with {size:,} parameters" if size else "")
    return _Box(name, tuple(lines), matrix, _flow(shape), told)


def _output(facts: Facts) -> _Box:
    if facts.classes is None:
        return _Box("output", (clean(facts.target, 20),), None, "", f"output {facts.target}")
    count = len(facts.classes)
    names = [clean(name, 16) for name in facts.classes[:6]]
    if count > 6:
        names[5:] = [f"and {count - 5} more"]
    return _Box("output", ("softmax", *names), None, "", f"output: {count} classes")


def _flow(shape: Any) -> str:
    return "×".join(map(str, shape)) if shape else ""


def _folded(boxes: list[_Box]) -> list[_Box]:
    if len(boxes) <= SHOWN:
        return boxes
    left = len(boxes) - SHOWN + 1
    half = SHOWN // 2
    middle = _Box("…", (f"{left} more layers",), None, boxes[half + left - 1].flow, f"{left} more")
    return [*boxes[:half], middle, *boxes[half + left :]]


def _width(box: _Box) -> float:
    widest = max(letters(line) for line in box.lines) * 11 * 0.6 + 20
    if box.weights is not None:
        widest = max(widest, map_size(face(box.weights, side=24))[0] + 20)
    return max(64.0, widest)


def _painted(box: _Box, x: float, wide: float) -> str:
    middle = x + wide / 2
    frame = (
        f'<rect class="body" x="{n(x)}" y="{n(TOP)}" width="{n(wide)}" height="{n(TALL)}" rx="6"/>'
    )
    parts = [text("n", middle, TOP + 17, box.name)]
    top = TOP + 34
    if box.weights is not None:
        seen = face(box.weights, side=20)
        high = map_size(seen)[1]
        parts.append(text("n", middle, top, box.lines[0]))
        parts.append(heat(seen, middle, top + 8 + max(0.0, (80 - high) / 2)))
        lines, top = box.lines[1:], TOP + TALL - 13.0 * (len(box.lines) - 1) + 5
    else:
        lines = box.lines
        parts.append(text("n", middle, top, lines[0]))
        lines, top = lines[1:], top + 18
    parts += [text("h", middle, top + 13.0 * k, line) for k, line in enumerate(lines)]
    title = f"<title>{plain(box.told)}</title>"
    return f"<g>{title}{frame}{''.join(parts)}</g>"


def _arrow(x: float, flow: str) -> str:
    y = TOP + TALL / 2
    return (
        f'<path class="wire" d="M{n(x)} {n(y)}H{n(x + GAP - 6)}"/>'
        f'<path class="tip" d="M{n(x + GAP)} {n(y)}l-8 -4v8z"/>'
        + text("l", x + GAP / 2 - 2, y - 7, flow)
    )
