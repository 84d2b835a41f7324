"""`draw`: a circuit with the value above each wire and the gradient below."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from shutil import get_terminal_size

from ..circuit import Tensor
from ..errors import ChainruleError, listed, quoted
from .dot import dot
from .fold import pictured
from .paint import plain
from .picture import Picture, Reading
from .svg import Keys, svg
from .text import text

Where = str | os.PathLike[str]


class Drawing:
    """A drawn circuit: `.svg()`, `.html()`, `.text()`, `.dot()`, `.png(path)` and `.save(path)`.

    In a notebook it shows itself. Its `notes` say what the picture leaves out.
    """

    def __init__(self, picture: Picture) -> None:
        self._picture = picture

    @property
    def notes(self) -> tuple[str, ...]:
        """What must be said beside the picture: no gradient, folded, summarised."""
        return tuple(self._picture.notes)

    def svg(self, keys: Keys | None = None) -> str:
        """The drawing as one `<svg>` element, which follows the reader's light or dark scheme.

        With `keys`, its nodes and edges carry numbers by which a page's script finds them.
        """
        return svg(self._picture, keys=keys)

    def html(self) -> str:
        """The drawing as a page of its own, which loads nothing."""
        title = plain(self._picture.output_name)
        style = (
            "body{margin:0;padding:1rem;background:#fff}main{overflow:auto}"
            "@media(prefers-color-scheme:dark){body{background:#0d1117}}"
        )
        return (
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f"<title>The circuit of {title}</title>\n"
            '<meta name="viewport" content="width=device-width">\n'
            '<meta name="color-scheme" content="light dark">\n'
            f"<style>{style}</style>\n</head>\n<body>\n<main>\n{self.svg()}</main>\n</body>\n</html>\n"
        )

    def text(self, width: int | None = None, *, colour: bool = False) -> str:
        """The drawing in characters; a list, one line a node, where it is wider than `width`.

        >>> import chainrule as cr
        >>> x = cr.tensor(3.0, name="x")
        >>> print(draw(cr.exp(x) * 2.0).text(width=20))
        x    3      ∂ 40.17
        n1   20.09  ∂ 2      (exp) of x ×20.09
        out  40.17  ∂ 1      (×) of n1 ×2, 2
        <BLANKLINE>
        """
        return text(self._picture, width, colour)

    def dot(self) -> str:
        """The drawing as text in Graphviz's language."""
        return dot(self._picture)

    def png(self, path: Where, *, zoom: float = 2.0) -> None:
        """Write the drawing as an image; needs `pip install chainrule[draw]`.

        Raises `ChainruleError` where the library that paints is missing.
        """
        try:
            import resvg_py  # type: ignore[import-not-found,unused-ignore]
        except ImportError:
            raise ChainruleError(
                "a PNG needs a library that paints SVG: pip install chainrule[draw]"
                " (.svg, .html, .txt and .dot need nothing)"
            ) from None
        painted = resvg_py.svg_to_bytes(svg_string=svg(self._picture, dark=False), zoom=zoom)
        Path(path).write_bytes(bytes(painted))

    def save(self, path: Where) -> None:
        """Write the drawing in the format of the path's suffix: .svg .html .txt .dot .png.

        Raises `ChainruleError` for any other suffix.
        """
        suffix = Path(path).suffix.lower()
        writers = {".svg": self.svg, ".html": self.html, ".txt": self.text, ".dot": self.dot}
        if suffix == ".png":
            self.png(path)
        elif suffix in writers:
            Path(path).write_text(writers[suffix](), encoding="utf-8", newline="\n")
        else:
            known = listed([*writers, ".png"])
            raise ChainruleError(f"a drawing is not saved as {quoted(suffix)}; known: {known}")

    def __str__(self) -> str:
        return self.text(get_terminal_size((100, 24)).columns)

    def __repr__(self) -> str:
        return f"<Drawing of {self._picture.nodes} nodes in {len(self._picture.boxes)} boxes>"

    def _repr_svg_(self) -> str:
        return self.svg()

    def _repr_html_(self) -> str:
        return f'<div style="overflow:auto">{self.svg()}</div>'


def draw(
    output: Tensor,
    *,
    gradients: bool = True,
    max_nodes: int = 300,
    names: Mapping[Tensor, str] | None = None,
    fold: bool | None = None,
    digits: int = 4,
) -> Drawing:
    """The circuit of `output`: values above the wires, gradients below, local derivatives between.

    Gradients are computed for the picture and stored nowhere; where there are none, the drawing
    says so. Beyond `max_nodes` (or with `fold=True`) calls and layers become one box each and
    repeated blocks one with ×12; what is still larger is summarised by depth. `names` maps tensors
    to what shall stand for them; `digits` are the significant ones that are shown.

    Raises `GradientError` where a parameter was updated after the circuit was computed.

    >>> import chainrule as cr
    >>> x, y, z = (cr.tensor(v, name=n) for n, v in (("x", -2.0), ("y", 5.0), ("z", -4.0)))
    >>> print(draw((x + y) * z).text())
         -2
    x ─────────×1─╮      3
        ∂ -4      ├(+)───────╮
         5   ╭─×1─╯     ∂ -4 ╰─×-4─╮     -12
    y ───────╯                     ├(×)─────→ out
        ∂ -4                 ╭─×3──╯     ∂ 1
         -4                  │
    z ───────────────────────╯
        ∂ 3
    <BLANKLINE>
    """
    if not isinstance(output, Tensor):
        raise TypeError(f"draw() takes a tensor, not {type(output).__name__}")
    reading = Reading(output, gradients, names, digits)
    return Drawing(pictured(reading, max_nodes, fold))
