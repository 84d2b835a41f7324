"""The colours of charts in light and dark, told apart without red and green, and by dashes too."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .chart import Cells

__all__ = ["COLOURS", "DASHES", "LEVELS", "LIGHT", "SHAPES", "STYLE", "strengths"]

# After Okabe and Ito (2008), made darker or lighter for 3:1 on the ground.
_ON_LIGHT = ("#0a64b4", "#b8500a", "#00785a", "#a03c7d", "#7a6200", "#3f7fa0", "#5b5f66", "#7a3e00")
_ON_DARK = ("#66b7ff", "#f0a35e", "#3fcf9f", "#e79ccb", "#e3c64d", "#9ad3ee", "#b6bdc6", "#d9ad7c")
COLOURS = _ON_LIGHT
DASHES = ("", "7 3", "2 3", "9 3 2 3", "4 2", "12 4", "1 2.5", "9 3 2 3 2 3")
SHAPES = ("o", "s", "^", "D", "v", "P", "X", "*")  # as matplotlib names them
# Ten strengths of a cell; the step before the last two leaves out what no text reads well on.
LEVELS = (0.07, 0.13, 0.2, 0.27, 0.35, 0.43, 0.51, 0.58, 0.88, 1.0)

LIGHT = {
    "ink": "#1f2328", "paper": "#ffffff", "faint": "#59636e", "line": "#d8dee4",
    "plus": "#0a4f96", "minus": "#8f3d00",
}  # fmt: skip
_DARK = {
    "ink": "#e6edf3", "paper": "#0d1117", "faint": "#9198a1", "line": "#2b323b",
    "plus": "#6cb0ff", "minus": "#f0a35e",
}  # fmt: skip
_FONT = "system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue','DejaVu Sans',Arial,sans-serif"


def _scheme(c: dict[str, str], series: tuple[str, ...]) -> str:
    rules = [
        ("text", f"fill:{c['ink']}"),
        (".paper,.on", f"fill:{c['paper']}"),
        (".q", f"fill:{c['faint']}"),
        (".grid", f"stroke:{c['line']}"),
        (".axis,.rule", f"stroke:{c['faint']}"),
        (".bad", f"fill:{c['faint']}"),
        (".plus", f"fill:{c['plus']}"),
        (".minus", f"fill:{c['minus']}"),
    ]
    for k, colour in enumerate(series):
        rules += [(f".c{k}", f"stroke:{colour}"), (f".d{k}", f"fill:{colour}")]
    return "".join(
        f"{','.join(f'.cr-chart {one}' for one in names.split(','))}{{{rule}}}"
        for names, rule in rules
    )


def _style() -> str:
    dashes = "".join(
        f".cr-chart .c{k}{{stroke-dasharray:{dash}}}" for k, dash in enumerate(DASHES) if dash
    )
    fixed = (
        f".cr-chart{{max-width:100%;height:auto}}.cr-chart text{{font:12px {_FONT}}}"
        ".cr-chart .t{font-size:14px;font-weight:600}.cr-chart .end{text-anchor:end}"
        ".cr-chart .mid{text-anchor:middle}.cr-chart .line{fill:none;stroke-width:2;"
        "stroke-linejoin:round;stroke-linecap:round}.cr-chart .band{fill-opacity:.18}"
        ".cr-chart .grid,.cr-chart .axis{fill:none}.cr-chart .rule{fill:none;"
        "stroke-dasharray:3 3}.cr-chart .dots{fill-opacity:.55}.cr-chart .bars{fill-opacity:.85}"
    )
    dark = f"@media(prefers-color-scheme:dark){{{_scheme(_DARK, _ON_DARK)}}}"
    return f"<style>{fixed}{dashes}{_scheme(LIGHT, _ON_LIGHT)}{dark}</style>"


STYLE = _style()  # the same in every chart: a page names one hash for all of them


def strengths(cells: Cells) -> tuple[NDArray[np.str_], NDArray[np.int64]]:
    """The colour and one of ten strengths for each cell; no colour at 0."""
    values = cells.values
    first = np.eye(*values.shape) == 1 if cells.split else values >= 0
    kinds = np.where(np.isfinite(values), np.where(first, "plus", "minus"), "bad")
    kinds = np.where(values == 0, "", kinds)
    size = np.where(np.isfinite(values), np.abs(values), 0.0)
    largest = np.full(values.shape, size.max(initial=0.0))
    if cells.split:
        for part in (first, ~first):
            largest[part] = size[part].max(initial=0.0)
    share = np.divide(size, largest, out=np.zeros_like(size), where=largest > 0)
    return kinds, np.clip(np.ceil(share * 10) - 1, 0, 9).astype(np.int64)
