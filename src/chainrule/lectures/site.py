"""A small site: a page for each lecture system, with its figures, and its circuit in steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ..circuit import Tensor
from ..explain.page import circuit_page
from ..page import escape, page
from . import circuits, claims, curves, dying, practice, recurrent, worked, zigzag
from .exhibit import STYLE, Exhibit, coded
from .systems import Check, Result, plain

# The circuit that a system's page shows, where it is one of scalars.
CIRCUITS: dict[str, Callable[[], Tensor]] = {
    "S01": lambda: circuits.linear().output,
    "S02": lambda: circuits.add_mul().output,
    "S03": lambda: circuits.written_neuron().output,
    "S07": lambda: circuits.branch().output,
    "S10": lambda: worked.unit_by_unit().error,
    "S22": lambda: circuits.sin_exp().output,
    "S23": lambda: circuits.partials().output,
    "S25": lambda: circuits.chain2().output,
    "S33": lambda: recurrent.two_steps().error,
}
# The experiments that a page shows, each run when the page is written.
EXPERIMENTS: dict[str, Callable[[], list[Exhibit]]] = {
    "S26": lambda: [
        curves.three_points(),
        zigzag.zig_zag(),
        curves.cost_of_exp(),
        claims.claim("saturation"),
    ],
    "S27": lambda: [zigzag.off_centre(), zigzag.zig_zag()],
    "S28": lambda: [
        curves.three_points(("relu", "leaky_relu", "elu")),
        dying.unlucky(),
        dying.too_high(),
        dying.waking(),
        claims.claim("dead-relu"),
    ],
    "S29": lambda: [claims.functions_on_iris(), claims.claim("relu-6x")],
    "S30": lambda: [claims.maxout_doubles(), claims.worth_it()],
    "S31": practice.exhibits,
}
OUTPUT = {"S10": "E_total", "S25": "E"}
SHOWN = 60  # figures of one check that a page lists

MARK = {"passed": "✓ all figures agree", "failed": "✗ a figure differs", "not yet": "in part"}


def circuit(number: str) -> Tensor:
    """The circuit of a system, its output named as the notes name it."""
    output = CIRCUITS[number]()
    output.name = output.name or OUTPUT.get(number, "f")
    return output


def write_site(folder: Path, results: Sequence[Result]) -> list[Path]:
    """Write `index.html` and a page for each result; each is one file that needs no network.

    Returns the files written. Raises `OSError` where the folder cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pages = {"index": _index(results)}
    pages |= {result.system.id: system_page(result) for result in results}
    return [_write(folder / f"{name}.html", text) for name, text in pages.items()]


def _write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def system_page(result: Result) -> str:
    """The page of one system: its circuit in steps or its experiments, figures, and errata."""
    system = result.system
    title = f"{system.id} {system.title}"
    about = _about(result)
    if system.id not in CIRCUITS:
        shown = "".join(one.html() for one in EXPERIMENTS.get(system.id, list)())
        body = f"<main><h1>{escape(title)}</h1>{about}{shown}{_figures(result)}{_BACK}</main>"
        return page(title, body, style=STYLE if shown else "")
    output = circuit(system.id)
    below = about + _figures(result) + _BACK
    return circuit_page(output, title=title, derivation=below)


_BACK = '<p><a href="index.html">All systems</a></p>'


def _about(result: Result) -> str:
    system = result.system
    parts = [f'<p class="faint">Lecture: {escape(system.lecture)}</p>']
    if system.notes:
        parts.append(f"<p>{coded(system.notes)}</p>")
    if system.erratum:
        parts.append(
            '<p class="erratum"><strong>Where the notes go wrong.</strong> '
            f"{escape(system.erratum)}</p>"
        )
    if system.not_yet:
        parts.append(f'<p class="faint">Not here yet: {escape(system.not_yet)}</p>')
    if result.error:
        parts.append(f'<p class="erratum">{escape(result.error)}</p>')
    return "".join(parts)


def _figures(result: Result) -> str:
    if not result.checks:
        return ""
    rows = "".join(row for check in result.checks for row in _rows(check))
    head = "".join(
        f'<th scope="col">{name}</th>'
        for name in ("figure", "the reference", "here", "difference", "agrees")
    )
    return (
        f"<h2>Figures: {escape(MARK[result.status])}</h2>"
        '<div class="scroll" role="region" aria-label="Figures" tabindex="0"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _rows(check: Check) -> list[str]:
    """A row for each figure of a check; of many, the worst."""
    ours, figure = plain(check.ours), plain(check.figure)
    deviations = check.deviations
    if ours.shape != figure.shape:
        return [_row(check.what, "–", "another shape", np.inf, False)]
    places = list(np.ndindex(figure.shape))
    worst = sorted(places, key=lambda at: -float(deviations[at]))
    shown = places if len(places) <= SHOWN else sorted(worst[:3])
    rows = []
    for at in shown:
        index = "[" + ", ".join(map(str, at)) + "]" if at else ""
        good = bool(deviations[at] <= check.tolerance)
        rows.append(
            _row(
                check.what + index,
                _number(figure[at]),
                _number(ours[at]),
                float(deviations[at]),
                good,
            )
        )
    if len(shown) < len(places):
        more = len(places) - len(shown)
        rows.append(
            f'<tr><td colspan="5" class="faint">and {more} more, none further off</td></tr>'
        )
    return rows


def _row(what: str, figure: str, ours: str, deviation: float, good: bool) -> str:
    mark = "✓" if good else "✗"
    return (
        f'<tr><th scope="row">{escape(what)}</th><td class="number">{escape(figure)}</td>'
        f'<td class="number">{escape(ours)}</td>'
        f'<td class="number">{deviation:.0e}</td><td>{mark}</td></tr>'
    )


def _number(value: object) -> str:
    return f"{value:.15g}" if isinstance(value, (int, float, np.number)) else str(value)


def _index(results: Sequence[Result]) -> str:
    rows = "".join(
        f'<tr><th scope="row"><a href="{escape(r.system.id)}.html">{escape(r.system.id)}</a></th>'
        f"<td>{escape(r.system.title)}</td><td>{escape(r.system.lecture)}</td>"
        f'<td class="number">{r.figures}</td><td>{escape(MARK[r.status])}</td></tr>'
        for r in results
    )
    head = "".join(
        f'<th scope="col">{name}</th>' for name in ("id", "system", "lecture", "figures", "result")
    )
    body = (
        "<main><h1>The lectures, computed</h1>"
        "<p>Each system of five lecture notes on backpropagation, computed anew and compared with"
        " its reference figures. A circuit can be stepped through, and its inputs edited; the"
        f" pages of {', '.join(EXPERIMENTS)} show experiments, run when they were written.</p>"
        '<div class="scroll" role="region" aria-label="Systems" tabindex="0"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div></main>"
    )
    return page("The lectures, computed", body)
