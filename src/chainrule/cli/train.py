"""`chainrule train`: from a table to a trained, saved network, with its held-out score."""

from __future__ import annotations

import math
import os
import time
from typing import Any

import click

from ..data import BUNDLED, Table, load_dataset, read_csv
from ..errors import DataError
from .output import demand_place
from .terminal import console, counted, number, plain_json, spark, table


@click.command()
@click.argument("data")
@click.option("--target", metavar="COLUMN", help="The column to predict (for a CSV file).")
@click.option(
    "--task", type=click.Choice(["classification", "regression"]), help="Default: by the target."
)
@click.option(
    "--hidden",
    multiple=True,
    type=click.IntRange(min=1, max=100_000),
    metavar="UNITS",
    help="A hidden layer; repeat for more. Default: 64, or 128 and 64 from a thousand rows on.",
)
@click.option("--linear", is_flag=True, help="No hidden layer.")
@click.option(
    "--activation",
    default="relu",
    metavar="NAME",
    show_default=True,
    help="relu, tanh, sigmoid, leaky_relu, elu, selu, gelu, silu, softplus.",
)
@click.option(
    "--optimizer",
    default="adam",
    metavar="NAME",
    show_default=True,
    help="sgd, adam, adamw, rmsprop, adagrad.",
)
@click.option(
    "--lr",
    type=click.FloatRange(min=0, min_open=True),
    metavar="RATE",
    help="Learning rate. Default: 0.003 for adam.",
)
@click.option(
    "--schedule",
    default="cosine",
    metavar="NAME",
    show_default=True,
    help="cosine (the learning rate falls to 0) or constant.",
)
@click.option(
    "--epochs", type=click.IntRange(min=1), metavar="N", help="Default: about 2000 steps."
)
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    metavar="ROWS",
    default=32,
    show_default=True,
    help="Rows of a step.",
)
@click.option(
    "--weight-decay",
    type=click.FloatRange(min=0),
    metavar="RATE",
    default=0.0,
    show_default=True,
    help="How strongly weights are drawn to 0.",
)
@click.option(
    "--dropout",
    type=click.FloatRange(min=0, max=1, max_open=True),
    metavar="SHARE",
    default=0.0,
    show_default=True,
    help="The share of hidden units that a step leaves out.",
)
@click.option(
    "--held-out",
    type=click.FloatRange(min=0, max=1, min_open=True, max_open=True),
    metavar="SHARE",
    default=0.2,
    show_default=True,
    help="The share of rows kept for the score; nothing is learnt or chosen by them.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    metavar="N",
    default=0,
    show_default=True,
    help="The same seed gives the same file.",
)
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    help="Where to save. Default: the name of DATA, here, as NAME.safetensors.",
)
@click.option("--force", is_flag=True, help="Replace an existing file.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
@click.option("--json", "as_json", is_flag=True, help="The result as JSON on standard output.")
def train(
    data: str,
    target: str | None,
    task: str | None,
    output: str | None,
    force: bool,
    quiet: bool,
    as_json: bool,
    linear: bool,
    **options: Any,
) -> int:
    """Train a network on DATA: digits, iris, wine, breast_cancer, diabetes, or a CSV file.

    \b
    chainrule train digits
    chainrule train flowers.csv --target species --hidden 32 --hidden 16

    Ctrl-C ends training after the step; the model so far is scored and saved.
    """
    from ..runs.job import Settings, train_table

    layers = options.pop("hidden")
    if linear and layers:
        raise click.UsageError("--linear means no hidden layer; leave out --hidden")
    settings = Settings(hidden=() if linear else layers or None, **options)
    rows = read_table(data, target, task)
    path = output or f"{os.path.splitext(os.path.basename(data))[0]}.safetensors"
    demand_place(path, force)
    silent = quiet or as_json
    if not silent:
        _announce(rows)
    began = time.perf_counter()
    trained = train_table(rows, settings, progress=False if silent else None)
    seconds = time.perf_counter() - began
    trained.save(path)
    if as_json:
        click.echo(plain_json(_as_json(trained, path, seconds)))
    elif not quiet:
        _report(trained, path, seconds)
    if trained.history.stopped != "interrupted":
        return 0
    click.echo(
        f"interrupted after step {trained.history.steps} of {trained.steps}:"
        f" {path} holds the model so far",
        err=True,
    )
    return 130


def read_table(data: str, target: str | None, task: str | None) -> Table:
    """A bundled dataset by name, or a CSV file with its target column."""
    if data in BUNDLED and not os.path.exists(data):
        if target is not None or task is not None:
            raise DataError(
                f"'{data}' is a bundled dataset with its own target; leave out --target and --task"
            )
        return load_dataset(data)
    if not data.lower().endswith((".csv", ".tsv", ".txt")) and not os.path.exists(data):
        load_dataset(data)  # raises, naming the nearest dataset
    if target is None:
        raise DataError(f"{data}: say which column to predict, with --target COLUMN")
    return read_csv(data, target, task=task)


def _announce(rows: Table) -> None:
    classes = rows.schema.classes
    what = "regression" if classes is None else f"{len(classes)} classes"
    click.echo(
        f"{rows.name}: {counted(rows.rows, 'row')}, {counted(rows.schema.width, 'feature')},"
        f" target '{rows.schema.target}' ({what})"
    )


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
        _print_confusion(trained, out)
    else:
        out.print(
            f"held-out R² {score.value:.4f} on {rows}"
            f" (error ±{number(score.error, 4)}; always the mean: {score.baseline:.4f})",
            highlight=False,
        )
    out.print(f"saved {path}", highlight=False, markup=False)


def _print_confusion(trained: Any, out: Any) -> None:
    """The true class by row, the predicted by column; not for more classes than fit a screen."""
    classes = trained.predictor.schema.classes
    if len(classes) > 12:
        return
    counts = table("true ╲ predicted", *classes, title="")
    counts.show_edge = False
    for column in counts.columns[1:]:
        column.justify = "right"
    for name, row in zip(classes, trained.score.confusion, strict=True):
        counts.add_row(name, *[str(n) if n else "·" for n in row])
    out.print(counts)


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
    }
