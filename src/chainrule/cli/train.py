"""`chainrule train`: from a table to a trained, saved network, with its held-out score."""

from __future__ import annotations

import os
import time
from typing import Any

import click

from ..errors import DataError
from ..train.data import BUNDLED, Table, load_dataset, read_csv
from .terminal import console, number, plain_json, spark, table


@click.command()
@click.argument("data")
@click.option("--target", metavar="COLUMN", help="The column to predict (for a CSV file).")
@click.option(
    "--task", type=click.Choice(["classification", "regression"]), help="Default: by the target."
)
@click.option(
    "--hidden",
    multiple=True,
    type=click.IntRange(min=1),
    metavar="UNITS",
    help="A hidden layer; repeat for more. Default: 64, or 128 and 64 from a thousand rows on.",
)
@click.option("--linear", is_flag=True, help="No hidden layer.")
@click.option(
    "--activation",
    default="relu",
    show_default=True,
    help="relu, tanh, sigmoid, leaky_relu, elu, selu, gelu, silu, softplus.",
)
@click.option(
    "--optimizer", default="adam", show_default=True, help="sgd, adam, adamw, rmsprop, adagrad."
)
@click.option(
    "--lr",
    type=click.FloatRange(min=0, min_open=True),
    help="Learning rate. Default: 0.003 for adam.",
)
@click.option("--schedule", default="cosine", show_default=True, help="cosine or constant.")
@click.option("--epochs", type=click.IntRange(min=1), help="Default: about 2000 steps.")
@click.option("--batch-size", type=click.IntRange(min=1), default=32, show_default=True)
@click.option("--weight-decay", type=click.FloatRange(min=0), default=0.0, show_default=True)
@click.option(
    "--dropout", type=click.FloatRange(min=0, max=1, max_open=True), default=0.0, show_default=True
)
@click.option(
    "--held-out",
    type=click.FloatRange(min=0, max=1, min_open=True, max_open=True),
    default=0.2,
    show_default=True,
    help="The part of the rows kept for the score.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("-o", "--output", metavar="FILE", help="Where to save. Default: NAME.safetensors.")
@click.option("--force", is_flag=True, help="Replace an existing file.")
@click.option("--json", "as_json", is_flag=True, help="The result as JSON on standard output.")
def train(
    data: str,
    target: str | None,
    task: str | None,
    output: str | None,
    force: bool,
    as_json: bool,
    linear: bool,
    **options: Any,
) -> None:
    """Train a network on DATA: digits, iris, wine, breast_cancer, diabetes, or a CSV file.

    \b
    chainrule train digits
    chainrule train flowers.csv --target species --hidden 32 --hidden 16
    """
    from ..train.job import Settings, train_table

    layers = options.pop("hidden")
    settings = Settings(hidden=() if linear else layers or None, **options)
    rows = read_table(data, target, task)
    path = output or f"{rows.name}.safetensors"
    _refuse_overwriting(path, force)
    if not as_json:
        _announce(rows)
    began = time.perf_counter()
    trained = train_table(rows, settings, progress=False if as_json else None)
    seconds = time.perf_counter() - began
    trained.save(path)
    if as_json:
        click.echo(plain_json(_as_json(trained, path, seconds)))
    else:
        _report(trained, path, seconds)


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


def _refuse_overwriting(path: str, force: bool) -> None:
    """Before any work: a run must not end without a place for its result."""
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        raise DataError(
            f"{path}: there is no folder '{folder}'; make it, or choose another -o FILE"
        )
    if os.path.isdir(path):
        raise DataError(f"{path}: is a folder; name a file with -o FILE")
    if os.path.exists(path) and not force:
        raise DataError(
            f"{path}: exists already; use --force to replace it, or -o FILE for another"
        )
    if not os.access(folder, os.W_OK):
        raise DataError(f"{path}: the folder cannot be written to; choose another with -o FILE")


def _announce(rows: Table) -> None:
    what = "classes" if rows.schema.classes is not None else "regression"
    count = f"{len(rows.schema.classes)} " if rows.schema.classes is not None else ""
    click.echo(
        f"{rows.name}: {rows.rows} rows, {rows.schema.width} features,"
        f" target '{rows.schema.target}' ({count}{what})"
    )


def _report(trained: Any, path: str, seconds: float) -> None:
    out = console()
    history, score = trained.history, trained.score
    out.print(trained.predictor.model.summary(), highlight=False, markup=False)
    first, last = number(history.loss[0], 4), number(history.loss[-1], 4)
    epochs = len(history.loss)
    out.print(
        f"loss {spark(history.loss)} {first} → {last} in {epochs} epochs, {seconds:.1f} s",
        highlight=False,
    )
    if score.name == "accuracy":
        wrong = round((1 - score.value) * score.rows)
        out.print(
            f"held-out accuracy {score.value:.2%} on {score.rows} rows ({wrong} wrong);"
            f" always the commonest class: {score.baseline:.2%}",
            highlight=False,
        )
        _print_confusion(trained, out)
    else:
        out.print(
            f"held-out R² {score.value:.4f} on {score.rows} rows (error ±{number(score.error, 4)});"
            f" always the mean: {score.baseline:.4f}",
            highlight=False,
        )
    out.print(f"saved {path}", highlight=False, markup=False)


def _print_confusion(trained: Any, out: Any) -> None:
    """The true class by row, the predicted by column; not for more classes than fit a screen."""
    classes = trained.predictor.schema.classes
    if len(classes) > 12:
        return
    counts = table("true ╲ predicted", *classes, title="")
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
            "rows": score.rows,
        },
        "confusion": [list(row) for row in score.confusion],
        "train_rows": trained.train_rows,
        "epochs": len(trained.history.loss),
        "loss": list(trained.history.loss),
        "seconds": seconds,
    }
