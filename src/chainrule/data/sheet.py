"""Reading a CSV file into cells: bounded, line by line, and refusing what is not a table.

A line of a gigabyte or a header of ten million names is refused after a few megabytes, so a
hostile file costs little. Nothing here knows what a cell means; `schema` does.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import BinaryIO

from ..errors import DataError, listed, nearest, quoted

__all__ = ["MAX_COLUMNS", "MAX_RECORD", "Sheet", "parse_sheet", "read_sheet"]

MAX_RECORD = 4 * 2**20  # bytes of one row of cells, however many lines it spans
MAX_COLUMNS = 100_000

_DISGUISES = {
    b"PK\x03\x04": "a zip or Excel file; export the sheet as CSV",
    b"\x1f\x8b": "a gzip file; decompress it first",
    b"\xff\xfe": "UTF-16 text; save it as UTF-8",
    b"\xfe\xff": "UTF-16 text; save it as UTF-8",
}


@dataclass(frozen=True)
class Sheet:
    """The cells of a CSV file as text, without surrounding spaces or blank lines.

    `lines[i]` is the line of the file on which row i begins.

    >>> import io
    >>> parse_sheet(io.BytesIO(b"a;b\\n1;2\\n"), "two.csv")
    Sheet(name='two.csv', header=['a', 'b'], rows=[['1', '2']], lines=[2])
    """

    name: str
    header: list[str]
    rows: list[list[str]]
    lines: list[int]

    def where(self, row: int) -> str:
        """The place of a row as messages name it: the file and the line."""
        return f"{self.name}, line {self.lines[row]}"

    def index(self, column: str) -> int:
        """The position of the column of that name; DataError if there is none."""
        if column in self.header:
            return self.header.index(column)
        match = nearest(column, self.header)
        guess = f"did you mean {quoted(match)}?" if match else "choose one of them."
        raise DataError(
            f"{self.name}: no column {quoted(column)}; {guess} "
            f"Columns: {listed(self.header)}{_headless(self.header)}"
        )


def read_sheet(path: str | os.PathLike[str]) -> Sheet:
    r"""Read a CSV file: UTF-8, a header line, cells separated by `,` `;` or tab.

    Raises DataError naming the file and line where it is not such a table.

    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "two.csv"
    >>> _ = path.write_text("a,b\n1,2\n")
    >>> read_sheet(path).rows
    [['1', '2']]
    """
    file, name = _open(os.fsdecode(path))
    with file:
        try:
            return parse_sheet(file, name)
        except OSError as error:
            raise DataError(f"{name}: reading failed ({error.strerror})") from None


def parse_sheet(file: BinaryIO, name: str) -> Sheet:
    """Read a CSV table from an open binary file; `name` is how messages call it.

    >>> import io
    >>> parse_sheet(io.BytesIO(b"a,b\\n1,2\\n3,4\\n"), "t.csv").rows
    [['1', '2'], ['3', '4']]
    """
    lines = _Lines(file, name)
    first = next((line for line in lines if line.strip()), None)
    if first is None:
        raise DataError(f"{name}: is empty; the first line must name the columns")
    delimiter = _delimiter(first)
    if first.count(delimiter) >= MAX_COLUMNS:
        raise DataError(f"{lines.here}: more than {MAX_COLUMNS} columns; remove some")
    records = _records(lines, first, delimiter)
    number, header = next(records)
    _check_header(header, f"{name}, line {number}", delimiter)
    sheet = Sheet(name, header, [], [])
    for number, cells in records:
        if len(cells) != len(header):
            raise _ragged(f"{name}, line {number}", len(cells), len(header), delimiter)
        sheet.rows.append(cells)
        sheet.lines.append(number)
    if not sheet.rows:
        raise DataError(f"{name}: has a header but no rows; add rows of data below it")
    return sheet


def _open(path: str) -> tuple[BinaryIO, str]:
    """Open for reading; the name is escaped, for a path may hold anything."""
    name = repr(path)[1:-1]
    if os.path.isdir(path):
        raise DataError(f"{name}: is a folder; give the path of a CSV file")
    try:
        return open(path, "rb"), name
    except FileNotFoundError:
        raise DataError(f"{name}: no such file; check the path") from None
    except OSError as error:
        raise DataError(f"{name}: cannot be opened ({error.strerror})") from None
    except ValueError:
        raise DataError(f"{name}: is not a possible path") from None


class _Lines:
    """The lines of a file as text; `spent` counts the bytes since it was last set to 0."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.file, self.name = file, name
        self.number = self.spent = 0

    @property
    def here(self) -> str:
        return f"{self.name}, line {self.number}"

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        raw = self.file.readline(MAX_RECORD + 1)
        if not raw:
            raise StopIteration
        self.number += 1
        self.spent += len(raw)
        if self.number == 1:
            raw = self._start(raw)
        return self._text(raw)

    def _start(self, raw: bytes) -> bytes:
        for magic, meaning in _DISGUISES.items():
            if raw.startswith(magic):
                raise DataError(f"{self.name}: is {meaning}")
        return raw.removeprefix(b"\xef\xbb\xbf")

    def _text(self, raw: bytes) -> str:
        if b"\0" in raw:
            raise DataError(f"{self.here}: holds a NUL byte, so this is not text; give a CSV file")
        if self.spent > MAX_RECORD:
            raise DataError(
                f"{self.here}: a row of more than {MAX_RECORD} bytes; "
                "check line ends and closing quotes"
            )
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError as error:
            byte = raw[error.start]
            raise DataError(
                f"{self.here}: byte 0x{byte:02x} is not UTF-8; save the file as UTF-8"
            ) from None


def _delimiter(header: str) -> str:
    """The separator that is most frequent outside quotes; a comma where there is none."""
    bare = re.sub(r'"[^"]*"', "", header)
    return max(",;\t", key=bare.count)


def _records(lines: _Lines, first: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The rows that are not blank, each with the line it begins on."""
    number = lines.number
    options = {"delimiter": delimiter, "skipinitialspace": True, "strict": True}
    try:
        for cells in csv.reader(chain([first], lines), **options):  # type: ignore[arg-type]
            if len(cells) > 1 or (cells and cells[0].strip()):
                yield number, [cell.strip() for cell in cells]
            number = lines.number + 1
            lines.spent = 0
    except csv.Error as error:
        raise DataError(f"{lines.name}, line {number}: {_complaint(str(error))}") from None


def _complaint(error: str) -> str:
    """What the csv module found wrong, with the repair."""
    if "new-line" in error:
        return "line ends are a lone CR; save the file with LF or CRLF line ends"
    if "field limit" in error:
        limit = csv.field_size_limit()
        return f"a cell of more than {limit} characters; shorten it or close its quote"
    if "unexpected end" in error:
        return "the file ends inside a quoted cell; close the quote"
    return "text after a closing quote; double the quotes inside a quoted cell"


def _check_header(header: list[str], where: str, delimiter: str) -> None:
    seen: dict[str, int] = {}
    for place, column in enumerate(header, start=1):
        if not column:
            raise DataError(
                f"{where}: column {place} has no name; "
                f"name it or remove the extra {quoted(delimiter)}"
            )
        if column in seen:
            raise DataError(
                f"{where}: two columns, {seen[column]} and {place}, are named {quoted(column)}; "
                f"rename one{_headless(header)}"
            )
        seen[column] = place


def _headless(header: list[str]) -> str:
    """The advice for a file whose first line is data already."""
    numbers = sum(re.fullmatch(r"[-+]?\d*\.?\d+", column) is not None for column in header)
    return " (the first line looks like data: add a header)" if 2 * numbers > len(header) else ""


def _ragged(where: str, found: int, expected: int, delimiter: str) -> DataError:
    mark = quoted(delimiter)
    return DataError(
        f"{where}: found {found} {'cell' if found == 1 else 'cells'}, expected {expected} as in "
        f"the header; correct the row, or quote a cell that holds {mark}"
    )
