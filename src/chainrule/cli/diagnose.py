"""`chainrule diagnose`: what is wrong with a run, where, and what repairs it."""

from __future__ import annotations

import dataclasses
import functools
import os
import re
import shlex
from dataclasses import dataclass
from typing import Any

import click
from rich.text import Text

from ..data import Table
from ..diagnose.finding import Report, Where, several
from ..diagnose.setup import run as tried
from ..diagnose.treatment import MARGIN
from ..errors import ChainruleError, DataError
from ..runs.config import Rule, Settings, read_toml
from ..runs.folder import CONFIG, RunFolder
from ..runs.start import Start, start
from .flags import HEADINGS, Grouped, Setting, settings_flags
from .output import demand_place, write_text
from .repair import repair
from .terminal import console, named, plain_json
from .train import lasting, rows_of

KEPT = ("checkpoint_every", "plots", "doctor", "tensorboard", "stream")  # nothing to a run's steps
POSITIVE: dict[str, Any] = {"kind": float, "low": 0, "open_low": True}
MANY = Rule("How much work counterfactuals may be.", **POSITIVE)
LONG = Rule("How long a diagnosis may take.", **POSITIVE)


@click.command(cls=Grouped)
@click.argument("subject", metavar="RUN|CONFIG|DATA")
@functools.partial(settings_flags, without=KEPT)
@click.option("--linear", is_flag=True, help="No hidden layer.")
@click.option(
    "--budget", type=Setting("budget", MANY), default=5.0, metavar="TIMES",
    help="Counterfactuals may be so many times the run's own work.  [default: 5]",
)  # fmt: skip
@click.option(
    "--seconds", type=Setting("seconds", LONG), metavar="SECONDS",
    help="End by the clock; the report then says that it is unfinished.",
)  # fmt: skip
@click.option(
    "--starts", type=click.IntRange(min=1), default=1, metavar="N",
    help="Look at the run from so many starts: other weights, other orders of the rows.",
)  # fmt: skip
@click.option(
    "--apply", "repairs", is_flag=True, help="Write the repaired settings: NAME.repaired.toml."
)
@click.option("--html", "page", metavar="FILE", help="Write the report as a page, offline.")
@click.option("--force", is_flag=True, help="Replace an existing file.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs, nothing else.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing while it runs.")
def diagnose(
    subject: str,
    linear: bool,
    budget: float,
    seconds: float | None,
    starts: int,
    repairs: bool,
    page: str | None,
    force: bool,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> int:
    """Train a network under watch; say what is wrong with the run, and prove what repairs it.

    \b
    chainrule diagnose runs/flowers-1            the run that was, once more
    chainrule diagnose settings.toml --lr 10     flags go before the file
    chainrule diagnose flowers.csv --target species --hidden 32 --html page.html
    chainrule diagnose runs/flowers-1 --apply    the repair as settings, tried

    The same flags as those of chainrule train say what the run is; the scores are those of the
    rows trained on. Ctrl-C shows what is known so far.
    """
    given = {name: value for name, value in options.items() if value not in (None, ())}
    if linear and "hidden" in given:
        raise click.UsageError("--linear means no hidden layer; leave out --hidden")
    if linear:
        given["hidden"] = ()
    case = _case(subject, given)
    if page is not None:
        demand_place(page, force, by="--html FILE")
    if repairs:
        _demand_free(case.repaired, force)
    report = _report(case, budget, seconds, starts, not (quiet or as_json))
    done = _Repaired()
    if not as_json:
        _show(report)
    if repairs:
        done = _apply(report, case)
    if as_json:
        click.echo(plain_json(_as_json(report, done if repairs else None)))
    else:
        for line in done.lines:
            click.echo(line)
    if page is not None:
        write_text(page, report.html())
        if not as_json:
            click.echo(f"saved {page}")
    if done.refused:
        click.echo(f"error: {done.refused}", err=True)
    if report.unfinished and "interrupted" in report.unfinished:
        click.echo("interrupted: this is what was known so far", err=True)
        return 130
    return 1 if done.refused else 0


# -- what is diagnosed ----------------------------------------------------------------------------


@dataclass
class _Case:
    """A run to be diagnosed: where it comes from, its table, and itself before the first step."""

    table: Table
    run: Start
    repaired: str  # where its repaired settings are written


def _case(subject: str, given: dict[str, Any]) -> _Case:
    """The run that a folder, a settings file, or data with flags stand for."""
    folder = RunFolder.of(subject) if os.path.isdir(subject) else None
    if os.path.dirname(subject) and not os.path.exists(subject):
        raise DataError(f"{subject}: no such file or run folder; check the path")
    path = folder.place(CONFIG) if folder is not None else subject
    kept = folder is not None or subject.lower().endswith(".toml")
    settings = Settings(**({**read_toml(path), **given} if kept else {**given, "data": subject}))
    if settings.data is None:
        raise DataError(f"{path}: names no data; write data = 'FILE' into it")
    table = rows_of(settings, path if kept else None)
    if folder is not None and not given.keys() & {*HEADINGS["Data"]}:
        folder.demand_same_data(table)
    stem = os.path.splitext(path if kept else os.path.basename(path))[0]
    return _Case(table, start(table, lasting(settings)), f"{stem}.repaired.toml")


def _demand_free(path: str, force: bool) -> None:
    """The repaired settings have a fixed name, so there is no other place for them."""
    if os.path.exists(path) and not force:
        raise DataError(f"{path}: exists already; use --force to replace it, or rename it")
    demand_place(path, force)


def _report(case: _Case, budget: float, seconds: float | None, starts: int, speaks: bool) -> Report:
    """The diagnosis, in the names of the table."""
    from ..diagnose import diagnose

    run = case.run
    try:
        report = diagnose(
            run.model, run.X, run.y, **run.arguments(),
            budget=budget, seconds=seconds, starts=starts,
            threads=run.settings.threads, progress=None if speaks else False,
        )  # fmt: skip
    except ChainruleError:
        raise
    except ValueError as error:  # what `fit` refuses
        raise DataError(f"{case.table.name}: {error}") from None
    aside = tuple(f"Left aside in the diagnosis: {what}." for what in run.aside)
    findings = [dataclasses.replace(f, where=_placed(f.where, run)) for f in report.findings]
    return dataclasses.replace(report, findings=findings, advice=aside + report.advice)


@dataclass(frozen=True)
class Placed(Where):
    """A place whose columns have names, and whose samples are rows of a table.

    >>> str(Placed(samples=(3,), columns=(0,), names=("age",), rows=(17,)))
    'sample 3, column 0; column age; row 17 of the table (from 0)'
    """

    names: tuple[str, ...] = ()
    rows: tuple[int, ...] = ()

    def __str__(self) -> str:
        parts = [super().__str__()]
        if self.names:
            parts.append(several("column", [named(name) for name in self.names]))
        if self.rows:
            parts.append(several("row", self.rows) + " of the table (from 0)")
        return "; ".join(parts)


def _placed(where: Where, run: Start) -> Where:
    names = tuple(run.features[k] for k in where.columns if k < len(run.features))
    rows = tuple(int(run.rows[k]) for k in where.samples if k < len(run.rows))
    if not names and not rows:
        return where
    return Placed(**vars(where), names=names, rows=rows)


# -- what is said ---------------------------------------------------------------------------------


# What is in colour on a terminal; the rest of a report is plain.
STYLES = {
    r"^\d+\. \w+ \(problem\)": "bold red",
    r"^\d+\. \w+ \(note\)": "bold yellow",
    r"\S+ \([^()]*\) ◄": "red",
    r"^ {3}Remedy:\n(?P<code>(?: {7}.*\n)+)": "",
    r"^ {3}Verified:": "bold green",
    r"^ {3}(?:Tried, did not help|Not verified):": "bold yellow",
}


def _show(report: Report) -> None:
    """The report; on a terminal the verdict, the guilty factors and the code are in colour."""
    words = str(report)
    shown = Text(words, no_wrap=True, overflow="ignore")
    verdict = len(re.split("[:.]", words, maxsplit=1)[0])
    shown.stylize("bold green" if report.healthy else "bold red", 0, verdict)
    for pattern, style in STYLES.items():
        for found in re.finditer(pattern, words, re.MULTILINE):
            code = found.re.groups
            shown.stylize("cyan" if code else style, *found.span(code))
    console().print(shown, soft_wrap=True, highlight=False)


def _as_json(report: Report, done: _Repaired | None) -> dict[str, Any]:
    found = report.to_dict()
    for one, finding in zip(found["findings"], report.findings, strict=True):
        place = finding.where
        one["where"]["names"] = list(getattr(place, "names", ()))
        one["where"]["rows"] = list(getattr(place, "rows", ()))
    if done is not None:
        found["repaired"] = {"config": done.path, "settings": done.changes, "refused": done.refused}
    return found


# -- the repair -----------------------------------------------------------------------------------


def _own_name(case: _Case) -> str:
    """A model file that does not stand in the way of that of the run before."""
    return f"{os.path.splitext(os.path.basename(case.table.name))[0]}.repaired.safetensors"


@dataclass
class _Repaired:
    """What came of `--apply`: the file and what is said of it, or why there is none."""

    path: str | None = None
    changes: dict[str, Any] = dataclasses.field(default_factory=dict)
    lines: tuple[str, ...] = ()
    refused: str = ""


def _apply(report: Report, case: _Case) -> _Repaired:
    """The first remedy as settings, which are run once before they are written."""
    if report.unfinished and report.change is None:
        return _Repaired(refused="the diagnosis is not whole: no settings were written")
    if report.healthy:
        return _Repaired(lines=("nothing to repair",))
    proof = report.findings[0].verified
    if report.change is None or proof is None or not proof.helped:
        return _Repaired(refused="no remedy was verified, so there are no settings to write")
    found = repair(report.setup, report.change.apply(report.setup), case.run.settings)
    if found.unsaid:
        what = " and ".join(found.unsaid)
        return _Repaired(refused=f"settings cannot say {what}: nothing was written")
    if not found.changed:
        return _Repaired(refused="settings cannot say the remedy: nothing was written")
    new = start(case.table, found.settings)
    again = report.setup.changed(
        model=new.model, X=new.X, y=new.y, loss=new.loss, optimizer=new.optimizer,
        epochs=new.settings.epochs, batch_size=new.settings.batch_size, seed=new.settings.seed,
    )  # fmt: skip
    outcome = tried(again, threads=new.settings.threads)
    if outcome.interrupted:
        raise KeyboardInterrupt
    said = "; ".join(found.lines(case.run.settings))
    if not outcome.skill >= proof.after.skill - MARGIN / 2:
        return _Repaired(
            refused=f"settings do not say it all: with {said} the run comes to {outcome.score}, the"
            f" remedy itself to {proof.after}; nothing was written"
        )
    write_text(case.repaired, new.settings.to_toml())
    changes = {name: getattr(new.settings, name) for name in found.changed}
    return _Repaired(
        case.repaired,
        changes,
        (
            f"repaired: {said}",
            f"run once with these settings: {outcome.score} (the remedy: {proof.after})",
            f"saved {case.repaired}; train with it:",
            f"chainrule train --config {shlex.quote(case.repaired)}"
            f" -o {shlex.quote(_own_name(case))}",
        ),
    )
