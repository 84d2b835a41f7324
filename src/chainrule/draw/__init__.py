"""Drawings of circuits: one layout, as SVG, HTML, terminal text, DOT and PNG."""

from .drawing import Drawing, draw

__all__ = ["Drawing", "draw"]
