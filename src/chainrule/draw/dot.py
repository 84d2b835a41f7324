"""A drawing as DOT text, for whoever has Graphviz: nothing here needs it."""

from __future__ import annotations

from .picture import Box, Picture

_SHAPES = {
    "gate": "circle", "variable": "plaintext", "constant": "plaintext", "fold": "box",
    "band": "box",
}  # fmt: skip


def dot(picture: Picture) -> str:
    r"""The picture as a directed graph, values and gradients in the nodes' labels.

    >>> import chainrule as cr
    >>> from chainrule.draw import draw
    >>> x = cr.tensor(2.0, name="x")
    >>> print(draw(x * x).dot())
    digraph circuit {
      rankdir=LR;
      node [fontname="sans-serif"];
      edge [fontname="sans-serif", fontsize=10];
      b0 [shape=plaintext, label="x\n2\n∂ 4"];
      b1 [shape=circle, label="×\n4\n∂ 1"];
      b0 -> b1 [label="×2"];
      b0 -> b1 [label="×2"];
      out [shape=plaintext, label="out"];
      b1 -> out;
    }
    <BLANKLINE>
    """
    lines = [
        "digraph circuit {",
        "  rankdir=LR;",
        '  node [fontname="sans-serif"];',
        '  edge [fontname="sans-serif", fontsize=10];',
    ]
    for k, box in enumerate(picture.boxes):
        lines.append(f"  b{k} [shape={_SHAPES[box.kind]}, label={_quoted(*_label(box))}];")
    for wire in picture.wires:
        text = wire.label or (f"×{wire.local}" if wire.local else "")
        label = f" [label={_quoted(text)}]" if text else " [style=dotted]"
        lines.append(f"  b{wire.source} -> b{wire.target}{label};")
    lines.append(f"  out [shape=plaintext, label={_quoted(picture.output_name)}];")
    lines.append(f"  b{picture.output} -> out;")
    if picture.notes:
        lines.append(f"  label={_quoted(*picture.notes)};")
    return "\n".join([*lines, "}\n"])


def _label(box: Box) -> list[str]:
    parts = [box.name, *box.lines] if box.name else list(box.lines)
    if box.value:
        parts.append(box.value.text)
    if box.gradient:
        parts.append(f"∂ {box.gradient.text}")
    return parts


def _quoted(*lines: str) -> str:
    """A DOT string of several lines; nothing in them can end it or act as an escape."""
    escaped = [line.replace("\\", "\\\\").replace('"', '\\"') for line in lines]
    return '"' + "\\n".join(escaped) + '"'
