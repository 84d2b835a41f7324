"""`chainrule lectures`: every system of the lecture notes, computed now and compared."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..errors import UnknownNameError
from .output import demand_place, write_text
from .terminal import plain_json

if TYPE_CHECKING:
    from ..circuit import Tensor
    from ..lectures import Check, Result, System

WIDTH = 100  # of the table where the output is no terminal
SHOWN = 20  # elements of one check; of a larger one only the worst is shown
MARKS = {"passed": "✓", "failed": "✗", "not yet": "not yet"}
STYLES = {"passed": "green", "failed": "bold red", "not yet": "yellow"}


@click.command()
@click.argument("ids", nargs=-1, metavar="[IDS]...")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs, nothing else.")
@click.option(
    "--format",
    "style",
    type=click.Choice(["text", "json", "latex", "mathml", "html", "svg", "png"]),
    default="text",
    help="text or json: the figures. The others: the circuit of one system, derived or drawn.",
)
@click.option("-o", "--output", "target", metavar="FILE", help="Write there.")
@click.option("--force", is_flag=True, help="Replace an existing file.")
@click.option(
    "--html", "folder", metavar="FOLDER", help="Write a site: a page for each system, offline."
)
@click.pass_context
def lectures(
    context: click.Context,
    ids: tuple[str, ...],
    as_json: bool,
    style: str,
    target: str | None,
    force: bool,
    folder: str | None,
) -> None:
    """Compute every system of the lecture notes and compare it with its reference figures.

    With IDS (S01 to S34) only those, and each figure beside ours. Exit status 0 where all agree,
    1 where one does not, 2 for an unknown system.
    """
    from ..lectures import choose  # the figures and networks are loaded by this command alone

    try:
        chosen = choose(ids)
    except UnknownNameError as error:
        raise click.UsageError(str(error), context) from None
    if target is not None:
        demand_place(target, force)
    as_json |= style == "json"
    if style not in ("text", "json"):
        _give(_circuit_of(chosen, context), style, target, context)
        return
    start = time.perf_counter()
    results = _run(chosen, quiet=as_json or target is not None)
    seconds = time.perf_counter() - start
    if folder is not None:
        from ..lectures.site import write_site

        written = write_site(Path(folder), results)
        click.echo(f"{len(written)} pages in {folder}: open {written[0]}", err=as_json)
    text = plain_json(_document(results, seconds)) if as_json else None
    if target is not None:
        write_text(target, (text or _printed(results, seconds, bool(ids), plain=True)) + "\n")
    else:
        shown = text or _printed(results, seconds, bool(ids))
        click.echo(shown, color="\x1b[" in shown)  # rich has decided whether colour is wanted
    context.exit(1 if any(result.failed for result in results) else 0)


def _run(chosen: Sequence[System], quiet: bool) -> list[Result]:
    """Run the systems; where somebody watches a terminal, say which one is running."""
    from ..lectures import run

    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        return [run(system) for system in chosen]
    results = []
    with console.status("") as status:
        for system in chosen:
            status.update(f"{system.id} {system.title}")
            results.append(run(system))
    return results


# -- for people ---------------------------------------------------------------------------------


def _circuit_of(chosen: Sequence[System], context: click.Context) -> Tensor:
    """The circuit of the one system that was chosen."""
    from ..lectures.site import CIRCUITS, circuit

    if len(chosen) != 1 or chosen[0].id not in CIRCUITS:
        known = ", ".join(CIRCUITS)
        raise click.UsageError(f"this format shows the circuit of one system: {known}", context)
    return circuit(chosen[0].id)


def _give(output: Tensor, style: str, target: str | None, context: click.Context) -> None:
    """A circuit, derived or drawn, in a form for other programs."""
    from ..draw import draw
    from ..explain import explain

    if style == "png":
        if target is None:
            raise click.UsageError("png is an image: say where, with -o FILE", context)
        draw(output).png(target)
        return
    explanation = explain(output)
    forms: dict[str, Callable[[], str]] = {
        "latex": explanation.latex,
        "mathml": explanation.mathml,
        "html": explanation.html,
        "svg": draw(output).svg,
    }
    text = forms[style]()
    if target is None:
        click.echo(text)
    else:
        write_text(target, text + "\n")


def _printed(
    results: Sequence[Result], seconds: float, in_detail: bool, *, plain: bool = False
) -> str:
    """The table, or each system's figures, as standard output can show it."""
    console = Console(highlight=False, soft_wrap=False)
    if plain or not console.is_terminal:
        console = Console(highlight=False, width=WIDTH, color_system=None)
    with console.capture() as captured:
        if in_detail:
            for result in results:
                _print_figures(console, result)
        else:
            console.print(_table(results))
            console.print()
        console.print(_summary(results, seconds))
    lines = [line.rstrip() for line in captured.get().splitlines()]
    return "\n".join(lines)


def _table(results: Sequence[Result]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("id")
    table.add_column("system", ratio=1)
    table.add_column("figures", justify="right")
    table.add_column("worst", justify="right")
    table.add_column("")
    for result in results:
        system = result.system
        worst = _size(result.worst) if result.figures else "–"
        mark = Text(MARKS[result.status], style=STYLES[result.status], no_wrap=True)
        table.add_row(system.id, _described(result), str(result.figures), worst, mark)
    return table


def _described(result: Result) -> Text:
    """The title, with what failed, what is missing and where the notes go wrong below it."""
    system = result.system
    text = Text(system.title)
    if result.error:
        text.append(f"\n{result.error}", style="red")
    for check in result.checks:
        if not check.passed:
            text.append(f"\nwrong: {check.what}", style="red")
    if system.not_yet:
        text.append(f"\nnot yet: {system.not_yet}", style="dim")
    if system.erratum:
        text.append(f"\nerratum: {system.erratum}", style="dim")
    return text


def _summary(results: Sequence[Result], seconds: float) -> Text:
    states = [result.status for result in results]
    counts = [f"{states.count(state)} {state}" for state in MARKS if state in states]
    figures = sum(result.figures for result in results)
    systems = f"{len(results)} system{'s' * (len(results) != 1)}"
    return Text(f"{systems}: {', '.join(counts)}; {figures} figures in {seconds:.1f} s")


def _print_figures(console: Console, result: Result) -> None:
    system = result.system
    head = Text(f"{system.id}  {system.title}  ", style="bold")
    head.append(MARKS[result.status], style=STYLES[result.status])
    console.print(head)
    console.print(f"Lecture: {system.lecture}", style="dim", markup=False)
    for label, text in (("", system.notes), ("Erratum: ", system.erratum)):
        if text:
            console.print(label + text, style="dim", markup=False)
    if system.not_yet:
        console.print(f"Not yet: {system.not_yet}", style="yellow", markup=False)
    if result.error:
        console.print(result.error, style="red", markup=False)
    if result.checks:
        console.print(_figures(result))
    console.print()


def _figures(result: Result) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("what", ratio=1)
    for heading in ("ours", "figure"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("off by", justify="right", no_wrap=True)
    table.add_column("")
    for check in result.checks:
        for what, ours, figure, deviation in _rows(check):
            state = "passed" if deviation <= check.tolerance else "failed"
            mark = Text(MARKS[state], style=STYLES[state])
            table.add_row(Text(what), ours, figure, _size(deviation), mark)
    return table


def _rows(check: Check) -> Iterator[tuple[str, str, str, float]]:
    """A line for each element of a check, or for the worst one of many."""
    from ..lectures.systems import plain

    ours, figure, deviations = plain(check.ours), plain(check.figure), check.deviations
    if ours.shape != figure.shape:
        yield check.what, f"shape {ours.shape}", f"shape {figure.shape}", math.inf
        return
    places = list(np.ndindex(figure.shape))
    what = check.what
    if len(places) > SHOWN:
        what = f"{what}: worst of {len(places)}"
        places = [tuple(map(int, np.unravel_index(np.argmax(deviations), figure.shape)))]
    for place in places:
        index = f" [{', '.join(map(str, place))}]" if place else ""
        yield f"{what}{index}", digits(ours[place]), digits(figure[place]), float(deviations[place])


def _size(deviation: float) -> str:
    return f"{deviation:.0e}" if deviation else "0"


def digits(value: Any) -> str:
    """A number to 15 significant digits; a word as it is."""
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    return f"{value:.15g}" if isinstance(value, (int, float, np.number)) else str(value)


# -- for programs -------------------------------------------------------------------------------


def _document(results: Sequence[Result], seconds: float) -> dict[str, Any]:
    states = [result.status for result in results]
    counts = {state.replace(" ", "_"): states.count(state) for state in MARKS}
    return {**counts, "seconds": round(seconds, 3), "systems": [_entry(r) for r in results]}


def _entry(result: Result) -> dict[str, Any]:
    system = result.system
    texts = ("id", "title", "lecture", "notes", "erratum", "not_yet")
    return {
        **{key: getattr(system, key) for key in texts},
        "status": result.status,
        "error": result.error,
        "figures": result.figures,
        "worst": result.worst,
        "checks": [_check(check) for check in result.checks],
    }


def _check(check: Check) -> dict[str, Any]:
    from ..lectures.systems import plain

    return {
        "what": check.what,
        "ours": plain(check.ours).tolist(),
        "figure": plain(check.figure).tolist(),
        "tolerance": check.tolerance,
        "deviation": check.deviation,
        "passed": check.passed,
    }
