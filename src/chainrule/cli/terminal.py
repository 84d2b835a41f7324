"""What the commands share: the console, tables, numbers and JSON."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..draw.face import clean


def console() -> Console:
    """Standard output: coloured and fitted on a terminal, plain and uncut elsewhere."""
    if sys.stdout.isatty():
        return Console(soft_wrap=False)
    return Console(width=10_000, no_color=True, highlight=False, legacy_windows=False)


def table(*columns: str, title: str) -> Table:
    """A table without vertical rules; numbers are aligned by the caller's columns.

    Its words are shown as they are: brackets and colons mean nothing in them.
    """
    made = _Table(title=title or None, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for column in columns:
        made.add_column(Text(column), overflow="fold")
    return made


class _Table(Table):
    """A table whose cells are no markup."""

    def add_row(self, *cells: Any, **more: Any) -> None:
        super().add_row(*(Text(c) if isinstance(c, str) else c for c in cells), **more)


def named(text: object, most: int = 40) -> str:
    """A name from a file as a terminal may show it: on one line, harmless, not too long."""
    return clean(text, most)


def confusion_table(classes: Sequence[str], confusion: Sequence[Sequence[int]]) -> Table | None:
    """The true class by row, the predicted by column; not for more classes than fit a screen."""
    if len(classes) > 12:
        return None
    classes = [named(name) for name in classes]
    counts = table("true ╲ predicted", *classes, title="")
    counts.show_edge = False
    for column in counts.columns[1:]:
        column.justify = "right"
    for name, row in zip(classes, confusion, strict=True):
        counts.add_row(name, *[str(n) if n else "·" for n in row])
    return counts


def number(value: Any, digits: int = 9) -> str:
    """A number to nine significant digits; an array by its elements, or its shape when large."""
    if value is None:
        return "–"
    array = np.asarray(value)
    if array.dtype == bool and array.size == 1:
        return "1" if array.item() else "0"
    if array.ndim == 0:
        return f"{array.item():.{digits}g}"
    if array.size <= 12:
        return np.array2string(
            array,
            separator=", ",
            max_line_width=10_000,
            formatter={"float_kind": lambda x: f"{x:.{digits}g}"},
        ).replace("\n", "")
    return f"array {array.shape}"


def known(value: float, digits: int = 4) -> str:
    """A score with so many decimals, or that it is unknown.

    >>> known(0.75), known(float("nan"))
    ('0.7500', 'unknown')
    """
    return f"{value:.{digits}f}" if math.isfinite(value) else "unknown"


def counted(count: int, what: str) -> str:
    """How many there are: `1 row`, `1797 rows`.

    >>> counted(1, "row"), counted(1797, "row")
    ('1 row', '1797 rows')
    """
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def plain_json(value: Any) -> str:
    """JSON that any reader takes: NaN and infinities, which JSON lacks, become strings."""
    return json.dumps(finite(value), ensure_ascii=False, indent=2)


def finite(value: Any) -> Any:
    """The value with NaN and infinities as strings, for JSON."""
    if isinstance(value, dict):
        return {key: finite(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
