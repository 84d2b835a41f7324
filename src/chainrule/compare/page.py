"""The page of a comparison: ranking, learning curves with their spread, and how to read them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import plot
from ..page import escape, page
from .text import caveats, headings, line, title

if TYPE_CHECKING:
    from .comparison import Comparison
    from .findings import Finding
    from .presets import Replay
    from .ranking import Place

__all__ = ["body", "comparison_page", "replay_page"]

STYLE = """
.charts { display: flex; flex-wrap: wrap; gap: 1rem; margin: 1rem 0; }
.charts figure { margin: 0; max-width: 100%; overflow-x: auto; }
.finding { font-weight: 600; }
"""


def comparison_page(found: Comparison) -> str:
    """The whole page of one comparison."""
    return page(title(found), f"<main>{body(found)}</main>", style=STYLE)


def replay_page(made: Replay) -> str:
    """The page of a claim run again."""
    preset = made.preset
    parts = [
        f"<h1>{escape(preset.claim)}</h1>",
        f'<p class="faint">Lecture systems: {escape(preset.systems)}</p>',
        f"<p>{escape(preset.setting)}.</p>",
        _findings(made.findings),
        *(body(found, name) for name, found in made.comparisons.items()),
    ]
    if made.interrupted:
        parts.insert(3, '<p class="erratum">Unfinished: stopped before its last run.</p>')
    return page(preset.claim, f"<main>{''.join(parts)}</main>", style=STYLE)


def _findings(findings: list[Finding]) -> str:
    rows = "".join(
        f'<tr><th scope="row">{escape(one.what)}</th><td class="number">{escape(one.figure)}</td>'
        f"<td>{escape(one.verdict)}</td></tr>"
        for one in findings
    )
    return _table(["measured here", "figure, 95 % interval", "verdict"], rows, "Findings")


def body(found: Comparison, heading: str = "") -> str:
    """The inside of the page, for a notebook too."""
    level = 2 if heading else 1
    shown = f"{heading}: {title(found)}" if heading else title(found)
    rows = "".join(_row(line(found, place)) for place in found.ranking)
    head = [name or ("rank" if k == 0 else "combination") for k, name in enumerate(headings(found))]
    charts = "".join(f"<figure>{chart.svg()}</figure>" for chart in _charts(found))
    notes = "".join(f"<li>{escape(text)}</li>" for text in caveats(found))
    return (
        f"<h{level}>{escape(shown)}</h{level}>{_table(head, rows, 'Ranking')}"
        f'<div class="charts">{charts}</div><ul>{notes}</ul>'
    )


def _row(cells: list[str]) -> str:
    rank, name, *rest = (escape(cell) for cell in cells)
    numbers = "".join(f'<td class="number">{cell}</td>' for cell in rest)
    return f'<tr><td class="number">{rank}</td><th scope="row">{name}</th>{numbers}</tr>'


def _table(head: list[str], rows: str, label: str) -> str:
    names = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    return (
        f'<div class="scroll" role="region" aria-label="{label}" tabindex="0"><table>'
        f"<thead><tr>{names}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _charts(found: Comparison) -> list[plot.Chart]:
    """Scores by epoch on both parts of the rows, the losses of each kind, and the final scores."""
    places = [place for place in found.ranking if not all(c.diverged for c in place.cells)]
    where = "held-out" if found.own else "scored"
    made = [
        _curves(places, "train_scores", f"Training {found.metric}", found.metric),
        _curves(places, "scores", f"{where} {found.metric}".capitalize(), found.metric),
    ]
    for kind in dict.fromkeys(place.combination.loss for place in places):
        of_kind = [place for place in places if place.combination.loss == kind]
        made.append(_curves(of_kind, "losses", f"Training loss: {kind}", "loss", log=True))
    rows = [(place.label, place.score) for place in found.ranking]
    spans = [
        (label, s.mean, *((s.low, s.high) if math.isfinite(s.low) else (s.mean, s.mean)))
        for label, s in rows
    ]
    return [*made, plot.intervals(spans, title=f"Final {found.metric}", x_label=found.metric)]


def _curves(
    places: list[Place], name: str, heading: str, label: str, log: bool = False
) -> plot.Chart:
    series = {place.label: _band(place, name) for place in places}
    series = {label: band for label, band in series.items() if band is not None}
    return plot.lines(series, title=heading, x_label="epoch", y_label=label, log_y=log)


def _band(place: Place, name: str) -> Any:
    """Epochs, the mean over the seeds, and the least and the greatest of them."""
    curves = [getattr(cell, name) for cell in place.cells if not cell.diverged]
    if not curves or not curves[0]:
        return None
    values = np.array(curves)
    first = 1 if name == "losses" else 0
    epochs = np.arange(first, first + values.shape[1])
    return epochs, values.mean(axis=0), values.min(axis=0), values.max(axis=0)
