"""Several runs on one HTML page: scores, what differs, and their curves over each other."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote

from ... import plot
from ...page import escape, page
from ...plot import Chart
from ...plot.scale import short
from ..evaluation import wilson
from ..listing import Listed, differences
from . import words
from .build import STYLE, figures
from .predictions import table

__all__ = ["comparison"]

CURVES = 8  # runs in one chart
FACTOR = 30


def comparison(runs: Sequence[Listed], *, title: str = "Runs", beside: str = "") -> str:
    """One HTML page about several runs, without scripts; `beside` is the folder it will stand in.

    With it, a run's name is a link to its report.
    """
    differing = differences(runs) if len(runs) > 1 else {}
    parts = [f"<p>{escape(_reading(runs))}</p>", _overview(runs, beside)]
    if differing:
        parts.append(f"<h2>Settings that differ</h2>{_settings(runs, differing)}")
    parts.append(f"<h2>Curves</h2>{figures(_charts(runs))}")
    body = f"<main><h1>{escape(title)}</h1>{''.join(parts)}</main>"
    return page(title, body, style=STYLE)


def _reading(runs: Sequence[Listed]) -> str:
    text = words.counted(len(runs), "run")
    tables = dict.fromkeys(run.data for run in runs)
    if len(tables) > 1:
        return (
            f"{text} of {len(tables)} tables: scores and losses compare only where the data is the"
            " same."
        )
    for what, shown in (("accuracy", "accuracy"), ("r2", "R²")):
        known = [r for r in runs if r.score.get("name") == what and math.isfinite(r.value)]
        if len(known) > 1:
            high = max(run.value for run in known)
            best = words.listed([run.name for run in known if run.value == high])
            value = words.percent(high, 2) if what == "accuracy" else short(high)
            text += f"; the highest {shown} is {value}, of {best}"
    return text + "."


def _overview(runs: Sequence[Listed], beside: str) -> str:
    rows = "".join(
        f'<tr><th scope="row">{_link(run, beside)}</th><td>{escape(run.data)}</td>'
        f"<td>{escape(run.status)}{escape(': ' + run.fault) if run.fault else ''}</td>"
        f'<td class="number">{escape(_score(run))}</td>'
        f'<td class="number">{escape(_known(run.loss))}</td>'
        f'<td class="number">{run.epochs:,}</td></tr>'
        for run in runs
    )
    return table("Runs", ("run", "data", "status", "score", "loss", "epochs"), rows)


def _link(run: Listed, beside: str) -> str:
    path = os.path.join(run.path, "report.html")
    if not beside or not os.path.isfile(path):
        return escape(run.name)
    address = "/".join(quote(part) for part in os.path.relpath(path, beside).split(os.sep))
    return f'<a href="{escape(address)}">{escape(run.name)}</a>'


def _score(run: Listed) -> str:
    if not math.isfinite(run.value):
        return "–"
    if run.score.get("name") == "accuracy":
        return words.percent(run.value, 2)
    return f"R² {short(run.value)}" if run.score.get("name") == "r2" else short(run.value)


def _known(value: float) -> str:
    return short(value) if math.isfinite(value) else "–"


def _settings(runs: Sequence[Listed], differing: dict[str, list[Any]]) -> str:
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th>'
        + "".join(f"<td>{escape(_value(value))}</td>" for value in row)
        + "</tr>"
        for name, row in differing.items()
    )
    return table("Settings that differ", ("setting", *(run.name for run in runs)), rows)


def _value(value: Any) -> str:
    if value is None:
        return "default"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _charts(runs: Sequence[Listed]) -> Iterator[tuple[str, Chart, str]]:
    scored = [run for run in runs if run.score.get("name") == "accuracy"]
    scored = [run for run in scored if math.isfinite(run.value)][:30]
    if len(scored) > 1:
        rows = [(run.name, run.value, *_ends(run)) for run in scored]
        chart = plot.intervals(rows, title="Held-out accuracy", x_label="accuracy")
        reading = (
            "The line is Wilson's 95 % interval, from the number of held-out rows alone. Runs on"
            " the same rows can differ by less than it and still differ."
        )
        yield "score", chart, reading
    for name in dict.fromkeys(name for run in runs for name in run.curves):
        series = {run.name: list(run.curves[name]) for run in runs if run.curves.get(name)}
        shown = dict(list(series.items())[:CURVES])
        if shown:
            chart = plot.lines(shown, title=name, x_label="epoch", log_y=_steep(shown))
            yield name, chart, _ended(name, series, shown)


def _ends(run: Listed) -> tuple[float, float]:
    rows = run.score.get("rows")
    if not isinstance(rows, int) or not 0 < rows < 1 << 53 or not 0 <= run.value <= 1:
        return run.value, run.value
    return wilson(round(run.value * rows), rows)


def _steep(series: dict[str, list[float]]) -> bool:
    """Whether a logarithmic axis shows more."""
    known = [x for values in series.values() for x in values if math.isfinite(x)]
    return bool(known) and min(known) > 0 and max(known) / min(known) >= FACTOR


def _ended(name: str, series: dict[str, list[float]], shown: dict[str, list[float]]) -> str:
    last = {run: values[-1] for run, values in series.items() if math.isfinite(values[-1])}
    text = ""
    if last:
        low, high = min(last, key=lambda k: last[k]), max(last, key=lambda k: last[k])
        text = f"In the end {name} was {short(last[low])}, of {low}"
        text += f", to {short(last[high])}, of {high}." if low != high else "."
    left = len(series) - len(shown)
    return text + (f" {words.counted(left, 'run')} of {len(series)} are not drawn." if left else "")
