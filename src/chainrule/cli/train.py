"""`chainrule train`: from a table to a trained, saved network, with its held-out score."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import math
import os
import re
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import click

from ..data import BUNDLED, Table
from ..errors import DataError
from ..runs import job
from ..runs.config import Rule, Settings, read_toml, rules
from ..runs.folder import RunFolder
from .output import demand_place
from .terminal import confusion_table, console, counted, number, plain_json, spark


class _Number(click.FloatRange):
    """A number, or one of a few words."""

    def __init__(self, rule: Rule) -> None:
        super().__init__(rule.low, rule.high, min_open=rule.open_low, max_open=rule.open_high)
        self.words = rule.names

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        return value if value in self.words else super().convert(value, param, ctx)


def _flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """An option for each setting; what is not given on the command line is None."""
    for name, rule in reversed(rules().items()):
        if name != "data":
            command = _flag(name, rule)(command)
    return command


def _flag(name: str, rule: Rule) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    flag = "--" + name.replace("_", "-")
    default = Settings.__dataclass_fields__[name].default
    if rule.kind is bool:
        return click.option(f"{flag}/--no-{flag[2:]}", name, default=None, help=rule.meaning)
    return click.option(
        flag,
        name,
        type=_type(rule),
        multiple=rule.many,
        metavar=_metavar(name, rule),
        help=rule.meaning,
        show_default=str(default) if default is not None else False,
    )


def _type(rule: Rule) -> Any:
    if rule.kind is int:
        return click.IntRange(
            None if rule.low is None else int(rule.low),
            None if rule.high is None else int(rule.high),
        )
    return _Number(rule) if rule.kind is float else str


def _metavar(name: str, rule: Rule) -> str:
    special = {"target": "COLUMN", "hidden": "UNITS", "batch_size": "ROWS", "lr": "RATE"}
    return special.get(name) or {int: "N", float: "X", str: "NAME"}[rule.kind]


@click.command()
@click.argument("data", required=False)
@_flags
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
        _demand_alone(given, data, config, run, no_run, linear)
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
    rows = _read(settings)
    name = os.path.splitext(os.path.basename(settings.data))[0]
    path = output or f"{name}.safetensors"
    demand_place(path, force)
    folder = None
    if not no_run:
        folder = RunFolder(run, force=force) if run is not None else RunFolder.numbered(name)
        folder.facts = {"output": os.path.abspath(path)}
    return _train(rows, _lasting(settings), path, folder, voice)


def _read(settings: Settings) -> Table:
    """The table; what an error advises is said in the words of the command line."""
    try:
        return job.read(settings)
    except DataError as error:
        text = str(error).replace("read it with missing='impute'", "give --missing mean")
        raise DataError(re.sub(r"\bdrop=\['(.*?)'\]", r"--drop '\1'", text)) from None


@dataclasses.dataclass
class _Voice:
    """How much is said."""

    quiet: bool
    as_json: bool

    @property
    def speaks(self) -> bool:
        return not (self.quiet or self.as_json)


def _demand_alone(given: dict[str, Any], *others: Any) -> None:
    """A run goes on with its own settings."""
    if given or any(others):
        odd = f"--{next(iter(given)).replace('_', '-')}" if given else "the other settings"
        raise click.UsageError(f"--resume goes on with the run's own settings; leave out {odd}")


def _lasting(settings: Settings) -> Settings:
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
    rows = _read(settings)
    path = output or info.get("output") or f"{rows.name}.safetensors"
    own = _digest(path) is not None and _digest(path) == info.get("output_sha256")
    demand_place(path, force or own)
    folder.facts = {"output": os.path.abspath(path)}
    return _train(rows, settings, os.path.relpath(path), folder, voice, resume=True)


def _nothing_to_do(folder: RunFolder, info: dict[str, Any], voice: _Voice) -> int:
    if voice.as_json:
        click.echo(plain_json({"run": folder.path, "status": "finished", "score": info["score"]}))
    elif voice.speaks:
        click.echo(f"{folder.path}: finished already, after {counted(info['epochs'], 'epoch')}")
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
    began = time.perf_counter()
    try:
        with _terminable(), _warnings_in_a_line():
            trained = job.train_table(rows, settings, progress=show, **keeping)
    except KeyboardInterrupt:
        if folder is None or not folder.has("config.toml"):
            raise
        click.echo(
            f"stopped at once; go on with 'chainrule train --resume {folder.path}'", err=True
        )
        return 130
    seconds = time.perf_counter() - began
    saved = _saved(trained, path, folder)
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
    what = "regression" if classes is None else f"{len(classes)} classes"
    text = (
        f"{rows.name}: {counted(rows.rows, 'row')}, {counted(rows.schema.width, 'feature')},"
        f" target '{rows.schema.target}' ({what})"
    )
    return text if folder is None else f"{text}\nrun folder {folder.path}"


def _report(trained: Any, path: str, seconds: float) -> None:
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
            f"held-out R² {score.value:.4f} on {rows}"
            f" (error ±{number(score.error, 4)}; always the mean: {score.baseline:.4f})",
            highlight=False,
        )
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
    }
