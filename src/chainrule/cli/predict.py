"""`chainrule predict`: a trained network applied to the rows of a table."""

from __future__ import annotations

import csv
import io
import json
import sys
import unicodedata
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, cast

import click
import numpy as np

from ..errors import DataError
from .output import demand_place, growing

START = 2**22 + 2**16  # bytes of standard input that may hold the header


unknown_option = click.option(
    "--unknown",
    type=click.Choice(["refuse", "ignore"]),
    default="refuse",
    show_default=True,
    help="What becomes of a category that was not there in training.",
)


@click.command()
@click.argument("model")
@click.argument("data")
@click.option("-o", "--output", metavar="FILE", help="Write there instead of to standard output.")
@click.option("--force", is_flag=True, help="Replace an existing file.")
@click.option("--proba", is_flag=True, help="Add a column with each class's probability.")
@click.option("--json", "as_json", is_flag=True, help="One JSON list instead of CSV.")
@click.option("--jsonl", "as_lines", is_flag=True, help="A JSON object a line instead of CSV.")
@unknown_option
def predict(
    model: str,
    data: str,
    output: str | None,
    force: bool,
    proba: bool,
    as_json: bool,
    as_lines: bool,
    unknown: Any,
) -> None:
    """Apply MODEL, a file that `chainrule train` saved or a run folder, to the rows of DATA.

    DATA is a CSV, Parquet or .npz file, or - for CSV from standard input. Columns are matched by
    name; the target column may be there or not. The answer has a row for each row of DATA. Rows
    are read and answered some at a time, however many there are.

    \b
    chainrule predict iris.safetensors flowers.csv > answers.csv
    cat flowers.csv | chainrule predict runs/iris-1 - --jsonl
    """
    from ..runs.predictor import Predictor

    if as_json and as_lines:
        raise click.UsageError("--json and --jsonl exclude each other")
    if output is not None:
        demand_place(output, force, devices=True)
    predictor = Predictor.at(model)
    if proba and predictor.schema.classes is None:
        raise DataError(
            f"{model}: predicts numbers, so there are no probabilities; leave out --proba"
        )
    parts = (scores for _, scores in predictor.streamed(source(data), unknown))
    records = (record for scores in parts for record in _records(predictor, scores, proba))
    texts = _json(records) if as_json else _lines(records) if as_lines else _csv(records)
    if output is None:
        shown = on_screen if sys.stdout.isatty() else str
        _write(texts, lambda text: click.echo(shown(text), nl=False))
    else:
        with growing(output) as write:
            _write(texts, write)


def source(data: str) -> Any:
    """The rows of a file, or of CSV on standard input."""
    from ..data.sheet import CsvSource
    from ..data.sources import source_of

    if data != "-":
        return source_of(data, None)
    stream = sys.stdin.buffer
    start = stream.read(START)
    return CsvSource(lambda: cast("BinaryIO", _Stream(start, stream)), "standard input")


class _Stream:
    """A stream whose start was read already: it can be opened again, if only once to its end."""

    def __init__(self, start: bytes, rest: BinaryIO) -> None:
        self.start, self.rest = io.BytesIO(start), rest

    def __enter__(self) -> _Stream:
        return self

    def __exit__(self, *error: object) -> None:
        """Standard input is not ours to close."""

    def read(self, size: int) -> bytes:
        return self.start.read(size) or self.rest.read(size)

    def readline(self, size: int) -> bytes:
        line = self.start.readline(size)
        if line.endswith(b"\n") or len(line) >= size:
            return line
        return line + self.rest.readline(size - len(line))


def on_screen(text: str) -> str:
    """The text without what would steer a terminal; lines and tabs stay."""
    return "".join(
        "\ufffd" if unicodedata.category(c) == "Cc" and c not in "\n\t" else c for c in text
    )


def _write(texts: Iterator[str], write: Callable[[str], None]) -> None:
    """Write in large pieces: many small ones would be slow."""
    waiting: list[str] = []
    size = 0
    for text in texts:
        waiting.append(text)
        size += len(text)
        if size >= 1 << 16:
            write("".join(waiting))
            waiting, size = [], 0
    write("".join(waiting))


def _records(predictor: Any, scores: Any, proba: bool) -> Iterator[dict[str, Any]]:
    schema = predictor.schema
    if schema.classes is None:
        for value in scores.tolist():
            yield {schema.target: value}
        return
    names = [f"p({name})" for name in schema.classes]
    for best, row in zip(np.argmax(scores, axis=1).tolist(), scores, strict=True):
        record: dict[str, Any] = {schema.target: schema.classes[best]}
        if proba:
            record.update(zip(names, row.tolist(), strict=True))
        yield record


def _csv(records: Iterator[dict[str, Any]]) -> Iterator[str]:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for number, record in enumerate(records):
        if number == 0:
            writer.writerow(record)
        writer.writerow([f"{v:.9g}" if isinstance(v, float) else v for v in record.values()])
        yield text.getvalue()
        text.seek(0)
        text.truncate()


def _json(records: Iterator[dict[str, Any]]) -> Iterator[str]:
    from .terminal import plain_json

    before = "[\n"
    for record in records:
        yield before + "  " + plain_json(record).replace("\n", "\n  ")
        before = ",\n"
    yield "\n]\n"


def _lines(records: Iterator[dict[str, Any]]) -> Iterator[str]:
    from .terminal import finite

    for record in records:
        yield json.dumps(finite(record), ensure_ascii=False) + "\n"
