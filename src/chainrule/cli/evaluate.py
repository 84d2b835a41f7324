"""`chainrule evaluate`: how well a trained network answers rows whose answer is known."""

from __future__ import annotations

import math
import os
from typing import Any

import click
import numpy as np

from ..errors import DataError, quoted
from .predict import source, unknown_option
from .terminal import confusion_table, console, counted, known, named, number, plain_json, table


@click.command()
@click.argument("model")
@click.argument("data")
@click.option("--json", "as_json", is_flag=True, help="The numbers as JSON.")
@unknown_option
def evaluate(model: str, data: str, as_json: bool, unknown: str) -> None:
    """Score MODEL, a model file or a run folder, on the rows of DATA, which hold the target.

    DATA is a CSV, Parquet or .npz file, a bundled dataset, or - for CSV from standard input.
    Intervals hold the score of such rows in 95 of 100 cases: Wilson's for an accuracy, a
    bootstrap's for R².

    \b
    chainrule evaluate runs/flowers-1 new_flowers.csv
    """
    from ..runs.evaluation import evaluate as evaluated
    from ..runs.predictor import Predictor

    predictor = Predictor.at(model)
    found = evaluated(predictor, *_answers(predictor, data, unknown))
    if as_json:
        click.echo(plain_json({"model": model, "data": data, **found.to_json()}))
    else:
        _report(predictor, found)


def _answers(predictor: Any, data: str, unknown: str) -> tuple[Any, Any]:
    """The scores of the rows, and their targets."""
    from ..data import BUNDLED, load_dataset
    from ..runs.evaluation import targets

    schema = predictor.schema
    if data in BUNDLED and not os.path.exists(data):
        bundled = load_dataset(data)
        if (bundled.schema.columns, bundled.schema.classes) != (schema.columns, schema.classes):
            raise DataError(f"'{data}' has other columns or classes than the model was trained on")
        return predictor.scores(bundled.features), bundled.target
    rows = source(data)
    if schema.target not in rows.header:
        raise DataError(
            f"{rows.name}: has no column {quoted(schema.target)}, the target, which must be known"
            " to evaluate; chainrule predict needs none"
        )
    place = rows.header.index(schema.target)
    parts = [
        (scores, targets(schema, chunk, place))
        for chunk, scores in predictor.streamed(rows, unknown)
    ]
    scores, known = zip(*parts, strict=True)
    return np.concatenate(scores), np.concatenate(known)


def _report(predictor: Any, found: Any) -> None:
    out, score = console(), found.score
    rows = counted(score.rows, "row")
    if not found.classes:
        span = f"95% interval {number(found.low, 4)} to {number(found.high, 4)}"
        span = span if math.isfinite(found.low) else "it needs rows whose target differs"
        out.print(f"R² {known(score.value)} on {rows} ({span})", highlight=False)
        error, mae = number(score.error, 4), number(found.mae, 4)
        out.print(f"error ±{error} (RMSE), {mae} (mean absolute)", highlight=False)
        return
    span = f"95% interval {found.low:.2%} to {found.high:.2%}"
    out.print(f"accuracy {score.value:.2%} on {rows} ({span})", highlight=False)
    out.print(f"commonest class {score.baseline:.2%}, log loss {score.error:.4g}", highlight=False)
    by_class = table("class", "precision", "recall", "F1", "rows", title="")
    by_class.show_edge = False
    for column in by_class.columns[1:]:
        column.justify = "right"
    for one in found.classes:
        shares = [_share(value) for value in (one.precision, one.recall, one.f1)]
        by_class.add_row(named(one.name), *shares, str(one.rows))
    out.print(by_class)
    counts = confusion_table(predictor.schema.classes, score.confusion)
    if counts is not None:
        out.print(counts)


def _share(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2%}"
