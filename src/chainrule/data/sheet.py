"""Reading a CSV file into cells: bounded, line by line, and refusing what is not a table.

A line of a gigabyte or a header of ten million names is refused after a few megabytes, so a
hostile file costs little. Nothing here knows what a cell means; `schema` does.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from operator import methodcaller
from typing import BinaryIO

from ..errors import DataError, listed, nearest, quoted
from .cells import Floats, as_numbers, with_gaps

__all__ = [
    "MAX_COLUMNS",
    "MAX_RECORD",
    "CsvSource",
    "Sheet",
    "TextChunk",
    "no_column",
    "parse_sheet",
    "read_sheet",
]

BLOCK = 2**20  # bytes read at once

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
        raise no_column(self.name, self.header, column)


def no_column(name: str, header: list[str], column: str) -> DataError:
    """The error for a column that a table has not.

    >>> str(no_column("t.csv", ["x"], "y"))
    "t.csv: no column 'y'; choose one of them. Columns: 'x'"
    """
    match = nearest(column, header)
    guess = f"did you mean {quoted(match)}?" if match else "choose one of them."
    return DataError(
        f"{name}: no column {quoted(column)}; {guess} Columns: {listed(header)}{_headless(header)}"
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
    with file, _reading(name):
        return parse_sheet(file, name)


def parse_sheet(file: BinaryIO, name: str) -> Sheet:
    """Read a CSV table from an open binary file; `name` is how messages call it.

    >>> import io
    >>> parse_sheet(io.BytesIO(b"a,b\\n1,2\\n3,4\\n"), "t.csv").rows
    [['1', '2'], ['3', '4']]
    """
    lines = _Lines(file, name)
    header, delimiter, records = _head(lines)
    sheet = Sheet(name, header, [], [])
    for number, cells in _checked(records, name, len(header), delimiter):
        sheet.rows.append([*map(str.strip, cells)])
        sheet.lines.append(number)
    if not sheet.rows:
        raise _no_rows(name)
    return sheet


class CsvSource:
    """A CSV file that is read as often as asked for, a block of about a megabyte at a time.

    `opened()` gives the file from its beginning. What a block may cost is bounded; one without
    quotes or blank lines is split at once, any other goes through the csv module record by record,
    which then names the line of a fault.
    """

    forced: frozenset[str] = frozenset()

    def __init__(self, opened: Callable[[], BinaryIO], name: str) -> None:
        self._opened, self.name = opened, name
        with opened() as file, _reading(name):
            self.header = _head(_Lines(file, name))[0]

    @classmethod
    def at(cls, path: str | os.PathLike[str]) -> CsvSource:
        """The file at a path; DataError where it cannot be read."""
        path = os.fsdecode(path)
        return cls(lambda: _open(path)[0], repr(path)[1:-1])

    def chunks(self) -> Iterator[TextChunk]:
        """The rows in order; DataError where the file has none, or a line is no row."""
        with self._opened() as file, _reading(self.name):
            lines = _Lines(file, self.name)
            header, delimiter, _ = _head(lines)
            empty = True
            while chunk := self._next(lines, len(header), delimiter):
                empty = False
                yield chunk
            if empty:
                raise _no_rows(self.name)

    def _next(self, lines: _Lines, width: int, delimiter: str) -> TextChunk | None:
        lines.skip_blank()
        number, block = lines.number, lines.block()
        text = _plain_text(block)
        if text is not None:
            rows = text.removesuffix("\n").split("\n")
            if _regular(rows, width, delimiter):
                cells = delimiter.join(rows).split(delimiter)
                lines.number += len(rows)
                found = range(number + 1, number + 1 + len(rows))
                plain = text.isascii() and "_" not in text
                return TextChunk(self.name, cells, width, found, plain)
        lines.unread(block)
        return self._careful(lines, width, delimiter)

    def _careful(self, lines: _Lines, width: int, delimiter: str) -> TextChunk | None:
        """The next rows by the csv module; None at the end of the file."""
        first = next(lines, None)
        if first is None:
            return None
        cells: list[str] = []
        found: list[int] = []
        size = 0
        records = _records(lines, first, delimiter)
        for number, record in _checked(records, self.name, width, delimiter):
            cells += record
            found.append(number)
            size += lines.spent
            if size >= BLOCK or len(cells) >= BLOCK // 8:
                break
        lines.spent = 0
        return TextChunk(self.name, cells, width, found, False) if found else None


class TextChunk:
    """Some rows of a file as text; `lines[i]` is the line on which row i begins."""

    def __init__(
        self, name: str, cells: list[str], width: int, lines: Sequence[int], plain: bool
    ) -> None:
        self._name, self._cells, self._width = name, cells, width
        self._lines, self._plain = lines, plain

    @property
    def rows(self) -> int:
        return len(self._lines)

    def matrix(self) -> Floats | None:
        """All cells as numbers, (rows, columns), if all are numbers."""
        numbers = as_numbers(self._cells, plain=self._plain)
        return None if numbers is None else numbers.reshape(self.rows, self._width)

    def numbers(self, place: int) -> Floats | None:
        """A column as numbers, NaN where there is none; None if it holds text."""
        return with_gaps(self._cells[place :: self._width], plain=self._plain)

    def cells(self, place: int) -> list[str]:
        """A column as text."""
        return [*map(str.strip, self._cells[place :: self._width])]

    def where(self, row: int) -> str:
        """The place of a row as messages name it."""
        return f"{self._name}, line {self._lines[row]}"


def _plain_text(block: bytes) -> str | None:
    """The text of a block that can be split as it stands: no quote, no lone CR, UTF-8."""
    if not block or b'"' in block or b"\0" in block:
        return None
    if b"\r" in block:
        block = block.replace(b"\r\n", b"\n")
    try:
        return None if b"\r" in block else block.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _regular(rows: list[str], width: int, delimiter: str) -> bool:
    """Whether all lines have `width` cells, none of them blank or longer than csv allows."""
    if max(map(len, rows)) > csv.field_size_limit():
        return False
    if width == 1:
        return all(map(str.strip, rows)) and not any(delimiter in row for row in rows)
    counts = set(map(methodcaller("count", delimiter), rows))
    return counts == {width - 1}


def _head(lines: _Lines) -> tuple[list[str], str, Iterator[tuple[int, list[str]]]]:
    """The names of the columns, the separator, and the rows to come."""
    first = next(lines, None)
    if first is not None and not first.strip():
        lines.skip_blank()
        first = next((line for line in lines if line.strip()), None)
    if first is None:
        raise DataError(f"{lines.name}: is empty; the first line must name the columns")
    delimiter = _delimiter(first)
    if first.count(delimiter) >= MAX_COLUMNS:
        raise DataError(f"{lines.here}: more than {MAX_COLUMNS} columns; remove some")
    records = _records(lines, first, delimiter)
    number, header = next(records)
    header = [*map(str.strip, header)]
    lines.spent = 0
    _check_header(header, f"{lines.name}, line {number}", delimiter)
    return header, delimiter, records


def _checked(
    records: Iterator[tuple[int, list[str]]], name: str, width: int, delimiter: str
) -> Iterator[tuple[int, list[str]]]:
    for number, cells in records:
        if len(cells) != width:
            raise _ragged(f"{name}, line {number}", len(cells), width, delimiter)
        yield number, cells


def _no_rows(name: str) -> DataError:
    return DataError(f"{name}: has a header but no rows; add rows of data below it")


@contextmanager
def _reading(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(f"{name}: reading failed ({error.strerror})") from None


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
        self._ahead = io.BytesIO()  # what a block took from the file and gave back

    def block(self) -> bytes:
        """Whole lines, about BLOCK bytes of them; nothing at the end or for a longer line."""
        raw = self._ahead.read() + self.file.read(BLOCK)
        self._ahead = io.BytesIO()
        if len(raw) < BLOCK:  # short of the end, or a pipe that gave little
            while more := self.file.read(BLOCK):
                raw += more
                if len(raw) >= BLOCK:
                    break
        end = raw.rfind(b"\n") + 1 if len(raw) >= BLOCK else len(raw)
        self._ahead = io.BytesIO(raw[end:])
        return raw[:end]

    def unread(self, block: bytes) -> None:
        """Give back what `block` took, so that it is read again line by line."""
        self._ahead = io.BytesIO(block + self._ahead.read())

    def skip_blank(self) -> None:
        """Go on to the next line that holds something, without looking at each."""
        while block := self.block():
            rest = block.lstrip(b" \t\r\n")
            cut = block.rfind(b"\n", 0, len(block) - len(rest)) + 1
            self.number += block.count(b"\n", 0, cut)
            if rest or not cut:
                self.unread(block[cut:])
                return

    def _line(self) -> bytes:
        raw = self._ahead.readline(MAX_RECORD + 1)
        if raw.endswith(b"\n") or len(raw) > MAX_RECORD:
            return raw
        return raw + self.file.readline(MAX_RECORD + 1 - len(raw))

    @property
    def here(self) -> str:
        return f"{self.name}, line {self.number}"

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        raw = self._line()
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
                yield number, cells
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
