"""`chainrule lectures`: every system of the lecture notes, computed now and compared."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..errors import UnknownNameError
from .terminal import plain_json

if TYPE_CHECKING:
    from ..lectures import Check, Result, System

WIDTH = 100  # of the table where the output is no terminal
SHOWN = 20  # elements of one check; of a larger one only the worst is shown
MARKS = {"passed": "✓", "failed": "✗", "not yet": "not yet"}
STYLES = {"passed": "green", "failed": "bold red", "not yet": "yellow"}


@click.command()
@click.argument("ids", nargs=-1, metavar="[IDS]...")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs, nothing else.")
@click.option(
    "--html", "folder", metavar="FOLDER", help="Write a site: a page for each system, offline."
)
@click.pass_context
def lectures(
    context: click.Context, ids: tuple[str, ...], as_json: bool, folder: str | None
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
    start = time.perf_counter()
    results = _run(chosen, quiet=as_json)
    seconds = time.perf_counter() - start
    if folder is not None:
        from ..lectures.site import write_site

        written = write_site(Path(folder), results)
        click.echo(f"{len(written)} pages in {folder}: open {written[0]}", err=as_json)
    if as_json:
        click.echo(plain_json(_document(results, seconds)))
    else:
        _print(results, seconds, in_detail=bool(ids))
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


def _print(results: Sequence[Result], seconds: float, in_detail: bool) -> None:
    """The table, or each system's figures, on what standard output can show."""
    console = Console(highlight=False, soft_wrap=False)
    if not console.is_terminal:
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
    click.echo("\n".join(lines), color=console.is_terminal)


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
