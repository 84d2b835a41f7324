"""`chainrule train`: from a table to a trained, saved network, with its held-out score."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import math
import os
import re
import signal
import textwrap
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import click
import numpy as np

from ..data import BUNDLED, Table
from ..errors import DataError, GradientError, quoted
from ..plot import spark
from ..runs import job
from ..runs.config import Settings, read_toml
from ..runs.folder import CONFIG, RunFolder
from .flags import Grouped, settings_flags
from .output import demand_place
from .terminal import confusion_table, console, counted, known, named, number, plain_json

NOTES = 3  # of what to look at next; the report has them all
FEW, FEW_OF = 10, 100_000  # different numbers that may be meant as classes, among so many rows


@click.command(cls=Grouped)
@click.argument("data", required=False)
@settings_flags
@click.option("--linear", is_flag=True, help="No hidden layer.")
@click.option("--config", metavar="FILE", help="Settings from a TOML file; flags go before it.")
@click.option("--run", metavar="DIR", help="The run folder. Default: runs/NAME-N, the next free.")
@click.option("--no-run", is_flag=True, help="No run folder: only the model file.")
@click.option("--resume", metavar="DIR", help="Go on with the run in this folder, to the bit.")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    help="Where to save. Default: the name of DATA, here, as NAME.safetensors.",
)
@click.option("--force", is_flag=True, help="Replace an existing file, or run.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
@click.option("--json", "as_json", is_flag=True, help="The result as JSON on standard output.")
def train(
    data: str | None,
    config: str | None,
    run: str | None,
    no_run: bool,
    resume: str | None,
    output: str | None,
    force: bool,
    quiet: bool,
    as_json: bool,
    linear: bool,
    **options: Any,
) -> int:
    """Train a network on DATA: digits, iris, wine, breast_cancer, diabetes, or a file.

    \b
    chainrule train digits
    chainrule train flowers.csv --target species --hidden 32 --hidden 16
    chainrule train --config runs/flowers-1/config.toml    repeats that run
    chainrule train --resume runs/flowers-1                goes on with it

    Ctrl-C ends training after the step; the model so far is scored and saved, and
    --resume goes on from there. A second Ctrl-C does not wait.
    """
    given = {name: value for name, value in options.items() if value not in (None, ())}
    voice = _Voice(quiet, as_json)
    if resume is not None:
        _demand_alone(given, DATA=data, config=config, run=run, no_run=no_run, linear=linear)
        return _resume(RunFolder.of(resume), output, force, voice)
    if linear and "hidden" in given:
        raise click.UsageError("--linear means no hidden layer; leave out --hidden")
    if no_run and run is not None:
        raise click.UsageError("--no-run means no run folder; leave out --run")
    if linear:
        given["hidden"] = ()
    if data is not None:
        given["data"] = data
    settings = Settings(**{**(read_toml(config) if config is not None else {}), **given})
    if settings.data is None:
        raise click.UsageError("Missing argument 'DATA'.")
    rows = rows_of(settings, None if data is not None else config)
    name = os.path.splitext(os.path.basename(settings.data))[0]
    path = output or f"{name}.safetensors"
    demand_place(path, force)
    folder = None
    if not no_run:
        folder = RunFolder(run, force=force) if run is not None else RunFolder.numbered(name)
        folder.facts = {"output": os.path.abspath(path)}
    return _train(rows, lasting(settings), path, folder, voice)


def rows_of(settings: Settings, named_in: str | None) -> Table:
    """The table; what an error advises is said in the words of the command line."""
    try:
        return job.read(settings)
    except DataError as error:
        text = str(error)
        if f"column {quoted(settings.target)}: " in text:
            text = text.replace(" or the column, or read it with missing='impute'", "")
        text = text.replace("read it with missing='impute'", "give --missing mean")
        if named_in is not None:
            text = text.replace(
                "no such file; check the path", f"no such file; correct data in {named_in}"
            )
        raise DataError(re.sub(r"\bdrop=\['(.*?)'\]", r"--drop '\1'", text)) from None


@dataclasses.dataclass
class _Voice:
    """How much is said."""

    quiet: bool
    as_json: bool

    @property
    def speaks(self) -> bool:
        return not (self.quiet or self.as_json)


def _demand_alone(given: dict[str, Any], **others: Any) -> None:
    """A run goes on with its own settings."""
    names = [name for name, value in others.items() if value] + list(given)
    flags = [name if name == "DATA" else "--" + name.replace("_", "-") for name in names]
    if flags:
        odd = " and ".join(filter(None, [", ".join(flags[:-1]), flags[-1]]))
        raise click.UsageError(f"--resume goes on with the run's own settings; leave out {odd}")


def lasting(settings: Settings) -> Settings:
    """The settings with a path of data that holds from any folder."""
    data = settings.data or ""
    return dataclasses.replace(settings, data=os.path.abspath(data) if _is_file(data) else data)


def _is_file(data: str) -> bool:
    return data not in BUNDLED or os.path.exists(data)


def _resume(folder: RunFolder, output: str | None, force: bool, voice: _Voice) -> int:
    """Go on with a run that was interrupted or killed."""
    info, settings = folder.info, folder.settings()
    if info.get("status") == "finished":
        return _nothing_to_do(folder, info, voice)
    rows = rows_of(settings, folder.place(CONFIG))
    path = output or info.get("output") or f"{rows.name}.safetensors"
    own = _digest(path) is not None and _digest(path) == info.get("output_sha256")
    demand_place(path, force or own)
    folder.facts = {"output": os.path.abspath(path)}
    return _train(rows, settings, os.path.relpath(path), folder, voice, resume=True)


def _nothing_to_do(folder: RunFolder, info: dict[str, Any], voice: _Voice) -> int:
    if voice.as_json:
        click.echo(
            plain_json({"run": folder.path, "status": "finished", "score": info.get("score")})
        )
    elif voice.speaks:
        click.echo(
            f"{folder.path}: finished already, after {counted(info.get('epochs', 0), 'epoch')}"
        )
    return 0


def _train(
    rows: Table,
    settings: Settings,
    path: str,
    folder: RunFolder | None,
    voice: _Voice,
    resume: bool = False,
) -> int:
    """The run, what it saves and what is said about it; the exit status."""
    from .live import display

    keeping: dict[str, Any] = {} if folder is None else {"folder": folder, "resume": resume}
    show: Any = display(lambda: _heading(rows, folder)) if voice.speaks else False
    watching = _doctors(settings)
    if watching:
        keeping["callbacks"] = watching
    began = time.perf_counter()
    try:
        with _terminable(), _warnings_in_a_line():
            trained = job.train_table(rows, settings, progress=show, **keeping)
            seconds = time.perf_counter() - began
            saved = _saved(trained, path, folder)
    except GradientError:
        for line in _suspicions(watching):
            click.echo(line, err=True)
        raise
    except KeyboardInterrupt:
        if folder is None or not folder.has(CONFIG):
            raise
        return _stopped_at_once(folder)
    if voice.as_json:
        click.echo(plain_json(_as_json(trained, path, seconds)))
    elif not voice.quiet:
        _report(trained, path, seconds)
    for what in saved:
        click.echo(f"error: {what}", err=True)
    if trained.history.stopped != "interrupted":
        return 1 if saved else 0
    onward = f"; go on with 'chainrule train --resume {folder.path}'" if folder is not None else ""
    click.echo(
        f"interrupted after step {trained.history.steps} of {trained.steps}:"
        f" {path} holds the model so far{onward}",
        err=True,
    )
    return 130


def _doctors(settings: Settings) -> list[Any]:
    """What watches the layers, where it is asked for."""
    if not settings.doctor:
        return []
    from ..diagnose.live.doctor import Doctor

    return [Doctor()]


def _suspicions(watching: Sequence[Any]) -> list[str]:
    """What a doctor suspects, each in a line; that it suspects nothing, too."""
    if not watching:
        return []
    from ..diagnose.report.words import place

    found = []
    for doctor in watching:
        found += [
            f"doctor: {finding.problem}{f' ({where})' if (where := place(finding.where)) else ''}:"
            f" {finding.evidence.sentence}"
            for finding in doctor.findings
        ] or [f"doctor: nothing looked wrong at {counted(len(doctor.steps), 'look')}"]
    return found


def _stopped_at_once(folder: RunFolder) -> int:
    """Say where the run is after a Ctrl-C that did not wait."""
    if folder.status == "finished":
        what = f"the model is in {folder.path}"
    else:
        what = f"go on with 'chainrule train --resume {folder.path}'"
    click.echo(f"stopped at once; {what}", err=True)
    return 130


def _saved(trained: job.Trained, path: str, folder: RunFolder | None) -> list[str]:
    """Write the model file; what could not be written, of it and of the run folder."""
    faults = []
    if trained.unsaved and folder is not None:
        faults.append(f"{folder.path}: not saved: {', '.join(trained.unsaved)}")
    try:
        trained.save(path)
    except OSError as error:
        faults.append(f"{error.filename or path}: {error.strerror or error}")
        if folder is not None and folder.has("model.safetensors") and not trained.unsaved:
            faults[-1] += f"; the model is in {folder.path}"
        return faults
    if faults:
        faults[-1] += f"; the model is in {path}"
    elif folder is not None:
        with contextlib.suppress(OSError):
            folder.note(output_sha256=_digest(path))
    return faults


def _digest(path: str) -> str | None:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Within, being asked to terminate is a Ctrl-C, once."""
    if threading.current_thread() is not threading.main_thread() or os.name == "nt":
        yield
        return
    asked = False

    def terminate(number: int, frame: Any) -> None:
        nonlocal asked
        if not asked:
            asked = True
            signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _warnings_in_a_line() -> Iterator[None]:
    """Within, a warning is one line on stderr, without a place in the code."""

    def show(message: Any, *place: Any, **more: Any) -> None:
        with contextlib.suppress(OSError):
            click.echo(f"warning: {message}", err=True)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


def _heading(rows: Table, folder: RunFolder | None) -> str:
    """What is learnt from, and where the run is kept."""
    classes = rows.schema.classes
    what = _regression(rows) if classes is None else f"{len(classes)} classes"
    text = (
        f"{named(rows.name, 80)}: {counted(rows.rows, 'row')},"
        f" {counted(rows.schema.width, 'feature')}, target {quoted(rows.schema.target)} ({what})"
    )
    return text if folder is None else f"{text}\nrun folder {folder.path}"


def _regression(rows: Table) -> str:
    """That numbers are predicted; where they are few, that they could be classes."""
    different = len(np.unique(rows.target[:FEW_OF]))
    if different > FEW or different * 10 > rows.rows:
        return "regression"
    return f"regression; its {different} values are classes with --task classification"


def _report(trained: Any, path: str, seconds: float) -> None:
    from ..runs.report.advice import advice

    out = console()
    history, score = trained.history, trained.score
    out.print(trained.predictor.model.summary(), highlight=False, markup=False)
    losses, unit = history.loss, "epoch"
    if not losses:  # interrupted within the first epoch
        losses, unit = history.step_loss or [math.nan], "step"
    out.print(
        f"loss {spark(losses, width=24)} {number(losses[0], 4)} → {number(losses[-1], 4)}"
        f" in {counted(len(losses), unit)}, {seconds:.1f} s",
        highlight=False,
    )
    rows = counted(score.rows, "row")
    if score.name == "accuracy":
        wrong = round((1 - score.value) * score.rows)
        out.print(
            f"held-out accuracy {score.value:.2%} on {rows}"
            f" ({wrong} wrong; commonest class: {score.baseline:.2%})",
            highlight=False,
        )
        counts = confusion_table(trained.predictor.schema.classes, score.confusion)
        if counts is not None:
            out.print(counts)
    else:
        out.print(
            f"held-out R² {known(score.value)} on {rows}"
            f" (error ±{number(score.error, 4)}; always the mean: {known(score.baseline)})",
            highlight=False,
        )
    said = [f"note: {sentence}" for sentence in advice(trained)[:NOTES]]
    for sentence in [*_suspicions(trained.observers), *said]:
        width = out.width if out.is_terminal else 80
        lines = textwrap.fill(sentence, width, break_on_hyphens=False)
        out.print(lines, highlight=False, markup=False)
    out.print(f"saved {path}", highlight=False, markup=False)


def _as_json(trained: Any, path: str, seconds: float) -> dict[str, Any]:
    score = trained.score
    return {
        "model": path,
        "score": {
            "name": score.name,
            "value": score.value,
            "baseline": score.baseline,
            "error": score.error,
            "rows": score.rows,
        },
        "confusion": [list(row) for row in score.confusion],
        "train_rows": trained.train_rows,
        "stopped": trained.history.stopped,
        "epochs": len(trained.history.loss),
        "loss": list(trained.history.loss),
        "seconds": seconds,
        "run": None if trained.folder is None else trained.folder.path,
        **({"doctor": trained.observers[0].to_dict()} if trained.observers else {}),
    }
