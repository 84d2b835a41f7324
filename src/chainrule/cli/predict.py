"""`chainrule predict`: a trained network applied to the rows of a CSV file."""

from __future__ import annotations

import csv
import io
import sys
from typing import Any

import click
import numpy as np

from ..data.sheet import Sheet, parse_sheet, read_sheet
from ..errors import DataError
from .output import demand_place, write_text


@click.command()
@click.argument("model")
@click.argument("data")
@click.option("-o", "--output", metavar="FILE", help="Write there instead of to standard output.")
@click.option("--force", is_flag=True, help="Replace an existing file.")
@click.option("--proba", is_flag=True, help="Add a column with each class's probability.")
@click.option("--json", "as_json", is_flag=True, help="One JSON list instead of CSV.")
def predict(
    model: str, data: str, output: str | None, force: bool, proba: bool, as_json: bool
) -> None:
    """Apply MODEL, a file that `chainrule train` saved, to the rows of DATA, a CSV file (or -).

    Columns are matched by name; the target column may be there or not. The answer has a row for
    each row of DATA.

    \b
    chainrule predict iris.safetensors flowers.csv > answers.csv
    """
    from ..nn import load
    from ..runs.job import Predictor

    if output is not None:
        demand_place(output, force, devices=True)
    predictor = Predictor.of(load(model))
    sheet = _sheet(data)
    features = predictor.schema.encode(sheet.header, sheet.rows, where=sheet.where)
    scores = predictor.scores(features)
    classes = predictor.schema.classes
    if proba and classes is None:
        raise DataError(
            f"{model}: predicts numbers, so there are no probabilities; leave out --proba"
        )
    records = _records(predictor, scores, proba)
    text = _json(records) if as_json else _csv(records)
    if output is None:
        click.echo(text, nl=False)
    else:
        write_text(output, text)


def _sheet(data: str) -> Sheet:
    return parse_sheet(sys.stdin.buffer, "standard input") if data == "-" else read_sheet(data)


def _records(predictor: Any, scores: Any, proba: bool) -> list[dict[str, Any]]:
    schema = predictor.schema
    if schema.classes is None:
        return [{schema.target: float(value)} for value in scores]
    records = []
    for row in scores:
        record: dict[str, Any] = {schema.target: schema.classes[int(np.argmax(row))]}
        if proba:
            record |= {f"p({name})": float(p) for name, p in zip(schema.classes, row, strict=True)}
        records.append(record)
    return records


def _csv(records: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(records[0]), lineterminator="\n")
    writer.writeheader()
    for record in records:
        writer.writerow({k: f"{v:.9g}" if isinstance(v, float) else v for k, v in record.items()})
    return text.getvalue()


def _json(records: list[dict[str, Any]]) -> str:
    from .terminal import plain_json

    return plain_json(records) + "\n"
