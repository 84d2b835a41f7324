"""The README's pictures, made from what the commands really print: `python docs/make_pictures.py`.

The SVG is a page of its own: no font or style is fetched from anywhere.
"""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console
from rich.text import Text

from chainrule.cli.explain import build, show
from chainrule.explain import circuit_rows

FOLDER = Path(__file__).parent / "pictures"
FORMULA, VALUES = "q = x + y; f = q*z", ("x=-2", "y=5", "z=-4")

FORMAT = """<svg viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{
  font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: {char_height}px; line-height: {line_height}px;
}}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
</clipPath>{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">{matrix}</g>
</g>
</svg>
"""


def picture() -> str:
    """`chainrule explain` of the lecture's first circuit, as SVG."""
    console = Console(record=True, width=72, file=io.StringIO(), force_terminal=True)
    call = f'"{FORMULA}" {" ".join(VALUES)}'
    console.print(Text.assemble(("$ ", "dim"), ("chainrule explain ", "bold"), call))
    output, variables = build(FORMULA, VALUES)
    show(circuit_rows(output), list(variables), console)
    return console.export_svg(title="chainrule explain", code_format=FORMAT, unique_id="chainrule")


if __name__ == "__main__":
    (FOLDER / "explain.svg").write_text(picture(), encoding="utf-8")
