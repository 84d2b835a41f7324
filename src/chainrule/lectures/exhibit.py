"""What an experiment measured, as a page shows it: sentences, a table, pictures."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..page import escape
from ..plot import Chart

__all__ = ["STYLE", "Exhibit", "coded"]

STYLE = """
.charts { display: flex; flex-wrap: wrap; gap: 1rem; margin: 1rem 0; }
.charts figure { margin: 0; max-width: 100%; overflow-x: auto; }
"""


@dataclass(frozen=True, eq=False)
class Exhibit:
    """One experiment: paragraphs with the figures in them, a table, charts, and HTML below them.

    What stands between ` marks in a paragraph is shown as code. `below` is HTML, escaped by its
    maker.
    """

    heading: str
    text: tuple[str, ...]
    head: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    charts: tuple[Chart, ...] = ()
    below: str = ""

    def html(self) -> str:
        """The section of a page."""
        said = "".join(f"<p>{coded(one)}</p>" for one in self.text)
        figures = "".join(f"<figure>{chart.svg()}</figure>" for chart in self.charts)
        drawn = f'<div class="charts">{figures}</div>' if figures else ""
        inside = f"{said}{self._table()}{drawn}{self.below}"
        return f"<section><h2>{escape(self.heading)}</h2>{inside}</section>"

    def _table(self) -> str:
        if not self.rows:
            return ""
        head = "".join(f'<th scope="col">{escape(name)}</th>' for name in self.head)
        rows = "".join(
            f'<tr><th scope="row">{escape(first)}</th>'
            + "".join(_cell(cell) for cell in rest)
            + "</tr>"
            for first, *rest in self.rows
        )
        return (
            f'<div class="scroll" role="region" aria-label="{escape(self.heading)}" tabindex="0">'
            f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
        )


def _cell(text: str) -> str:
    kind = ' class="number"' if re.match(r"[−(]?\d", text) else ""
    return f"<td{kind}>{escape(text)}</td>"


def coded(text: str) -> str:
    """A sentence as HTML, with what stands between ` marks as code.

    >>> coded("`a` < b")
    '<code>a</code> &lt; b'
    """
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))
