"""The README's picture, made by the package itself: `python docs/make_pictures.py`."""

from __future__ import annotations

from pathlib import Path

from chainrule.cli.explain import build
from chainrule.draw import draw

FILE = Path(__file__).parent / "pictures" / "circuit.svg"
FORMULA, VALUES = "q = x + y; f = q*z", ("x=-2", "y=5", "z=-4")


def picture() -> str:
    """The lecture's first circuit: values above the wires, gradients below."""
    output, _ = build(FORMULA, VALUES)
    return draw(output).svg()


if __name__ == "__main__":
    FILE.write_text(picture(), encoding="utf-8")
