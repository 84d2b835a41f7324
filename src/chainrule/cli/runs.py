"""`chainrule runs`: the runs that are kept in a folder, and how several of them differ."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any

import click

from ..plot import spark
from ..runs.listing import SORTS, Listed, differences, is_run, listing, named, sort
from .output import demand_place, write_text
from .terminal import console, counted, number, plain_json, table
from .terminal import named as _plain

WIDE = 32  # of a curve


@click.command()
@click.argument("names", nargs=-1, metavar="[FOLDER] [NAME]...")
@click.option(
    "--sort",
    "by",
    type=click.Choice(SORTS),
    help="Default: by name; the runs that are named stay in their order.",
)
@click.option("--json", "as_json", is_flag=True, help="JSON for programs, nothing else.")
@click.option("--html", "page", metavar="FILE", help="Write a page with their curves, offline.")
@click.option("--force", is_flag=True, help="Replace an existing file.")
def runs(
    names: tuple[str, ...], by: str | None, as_json: bool, page: str | None, force: bool
) -> None:
    """List the runs in FOLDER (./runs), or compare those that are named.

    \b
    chainrule runs
    chainrule runs --sort score --html all.html
    chainrule runs iris-1 iris-2          the settings that differ, and the curves
    """
    if page is not None:
        demand_place(page, force)
    folder, chosen = _split(names)
    found = named(folder, chosen) if chosen else listing(folder)
    if by is not None:
        found = sort(found, by)
    if page is not None:
        from ..runs.report.compared import comparison

        title = "Comparison of runs" if chosen else f"Runs in {os.path.basename(folder) or folder}"
        beside = os.path.dirname(os.path.abspath(page))
        write_text(page, comparison(found, title=title, beside=beside))
    if as_json:
        differing = differences(found) if chosen else {}
        click.echo(plain_json({"runs": [r.to_json() for r in found], "differences": differing}))
    elif not found:
        click.echo(f"no run in {folder}; chainrule train keeps one there")
    elif chosen:
        _print_compared(found)
    else:
        _print_list(found)
    if page is not None:
        click.echo(f"{counted(len(found), 'run')} in {page}", err=as_json)


def _split(names: Sequence[str]) -> tuple[str, list[str]]:
    """The folder of runs, where the first name is one, and the rest."""
    rest = list(names)
    if rest and os.path.isdir(rest[0]) and not is_run(rest[0]):
        return rest[0], rest[1:]
    if rest and (os.sep in rest[0] or "/" in rest[0]) and not is_run(rest[0]) and len(rest) == 1:
        return rest[0], []
    return "runs", rest


def _print_list(found: Sequence[Listed]) -> None:
    shown = table("run", "data", "status", "score", "loss", "", "epochs", "time", title="")
    for column in (3, 4, 6, 7):
        shown.columns[column].justify = "right"
    for run in found:
        curve = spark(list(run.curves.get("loss") or []), width=16)
        shown.add_row(
            *map(_plain, (run.name, run.data)),
            _status(run),
            _score(run),
            _known(run.loss),
            curve,
            _epochs(run),
            _time(run.seconds),
        )
    out = console()
    out.print(shown)
    for run in found:
        if run.fault:
            out.print(_plain(f"{run.name}: {run.fault}", 400), highlight=False, markup=False)


def _print_compared(found: Sequence[Listed]) -> None:
    shown = table("", *(_plain(run.name) for run in found), title="")
    facts: dict[str, list[str]] = {
        "data": [_plain(run.data) for run in found],
        "status": [_status(run) for run in found],
        "score": [_score(run) for run in found],
        "loss": [_known(run.loss) for run in found],
        "epochs run": [_epochs(run) for run in found],
        "time": [_time(run.seconds) for run in found],
    }
    for name, row in facts.items():
        shown.add_row(name, *row)
    for name, row in differences(found).items():
        if name not in facts:
            shown.add_row(_plain(name), *map(_value, row))
    out = console()
    out.print(shown)
    _print_curves(found, out)


def _print_curves(found: Sequence[Listed], out: Any) -> None:
    """Each curve of each run in a line, on one scale."""
    wide = max(len(_plain(run.name)) for run in found)
    for name in dict.fromkeys(name for run in found for name in run.curves):
        out.print(_plain(name), style="bold", highlight=False, markup=False)
        every = [x for run in found for x in run.curves.get(name, ()) if math.isfinite(x)]
        for run in found:
            values = list(run.curves.get(name) or [])
            if values:
                line = _scaled(values, min(every, default=0), max(every, default=1))
                ends = f"{number(values[0], 4)} → {number(values[-1], 4)}"
                text = f"  {_plain(run.name):<{wide}}  {line}  {ends}"
                out.print(text, highlight=False, markup=False)


def _scaled(values: list[float], low: float, high: float) -> str:
    """A curve of blocks whose lowest and highest stand for the same numbers in every run."""
    return spark(values, WIDE, span=(low, high)).ljust(WIDE)


def _status(run: Listed) -> str:
    if run.status == "died":
        return "died (no process)"
    return run.status


def _score(run: Listed) -> str:
    if not math.isfinite(run.value):
        return "–"
    if run.score.get("name") == "accuracy":
        return f"{run.value:.2%}"
    return f"R² {number(run.value, 4)}"


def _known(value: float) -> str:
    return number(value, 4) if math.isfinite(value) else "–"


def _epochs(run: Listed) -> str:
    whole = run.planned in (None, run.epochs)
    return f"{run.epochs}" if whole else f"{run.epochs}/{run.planned}"


def _time(seconds: float | None) -> str:
    if seconds is None or not math.isfinite(seconds):
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def _value(value: Any) -> str:
    if value is None:
        return "default"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return _plain(", ".join(map(str, value)) if isinstance(value, list) else str(value))
