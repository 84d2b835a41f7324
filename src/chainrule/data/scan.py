"""One pass over a table of any size: what its columns hold, and its cells as plain numbers.

Numbers stand as they are, NaN where a cell is missing; text is numbered in the order in which its
values appear. That goes to a temporary file where it is large, so that memory stays bounded, and
text is parsed once: encoding reads the numbers back.
"""

from __future__ import annotations

import io
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from .cells import Floats, first_text, is_gap

__all__ = ["Chunk", "Found", "Scan", "Source", "Store", "scan"]

LARGE = 32 * 2**20  # bytes of numbers; more go to a temporary file
MAX_TEXTS = 4096  # different values of a column that are told apart; ten times that in a target
MAX_ALL_TEXTS = 2**20  # and of all columns
READ = 2**17  # numbers read back at once


class Chunk(Protocol):
    """Some rows of a table."""

    @property
    def rows(self) -> int: ...
    def matrix(self) -> Floats | None: ...
    def numbers(self, place: int) -> Floats | None: ...
    def cells(self, place: int) -> list[str]: ...
    def where(self, row: int) -> str: ...


class Source(Protocol):
    """A table that can be read again and again, from its first row."""

    name: str
    header: list[str]
    forced: frozenset[str]  # the columns that are categories, whatever they hold

    def chunks(self) -> Iterator[Any]: ...


class Found:
    """What the cells of one column have been so far; `first_…` are (cell, place)."""

    def __init__(self, name: str, text: bool, limit: int) -> None:
        self.name, self.text, self._limit = name, text, limit
        self.late = self.full = False
        self.rows = self.missing = 0
        self.first_missing: tuple[str, str] | None = None
        self.first_infinite: tuple[str, str] | None = None
        self.first_text: tuple[str, str] | None = None
        self.codes: dict[str, int] = {}
        self.gaps: dict[str, str] = {}  # texts that may mean a missing cell, and where one stands

    def take(self, chunk: Chunk, place: int, room: int) -> Floats:
        """The cells of a chunk as numbers, or as the codes of their text."""
        numbers = None if self.text else chunk.numbers(place)
        if numbers is None:
            return self._text(chunk, place, room)
        if not np.isfinite(numbers).all():
            self._odd(numbers, chunk, place)
        self.rows += len(numbers)
        return numbers

    def _odd(self, numbers: Floats, chunk: Chunk, place: int) -> None:
        gaps = np.isnan(numbers)
        self.missing += int(gaps.sum())
        infinite = np.isinf(numbers)
        if self.first_missing is None and gaps.any():
            self.first_missing = _at(chunk, place, int(np.argmax(gaps)))
        if self.first_infinite is None and infinite.any():
            self.first_infinite = _at(chunk, place, int(np.argmax(infinite)))

    def _text(self, chunk: Chunk, place: int, room: int) -> Floats:
        cells = chunk.cells(place)
        self.late = self.late or (not self.text and self.rows > 0)
        if self.first_text is None and chunk.numbers(place) is None:
            row = first_text(cells)
            self.first_text = cells[row], chunk.where(row)
        self.text = True
        self.rows += len(cells)
        for value in dict.fromkeys(cells):
            if value not in self.codes and not self.full:
                self.full = len(self.codes) >= min(self._limit, room)
                self.codes[value] = len(self.codes)
                if is_gap(value):
                    self.gaps[value] = chunk.where(cells.index(value))
        return self._coded(cells)

    def _coded(self, cells: list[str]) -> Floats:
        if self.full:
            return np.full(len(cells), np.nan)
        return np.fromiter(map(self.codes.__getitem__, cells), np.float64, len(cells))


def _at(chunk: Chunk, place: int, row: int) -> tuple[str, str]:
    return chunk.cells(place)[row], chunk.where(row)


class Store:
    """Rows of numbers written one block after the other: in memory, or in a file if large."""

    def __init__(self, width: int, dtype: Any = np.float64) -> None:
        self.width, self.rows, self.dtype = width, 0, np.dtype(dtype)
        self._file: Any = io.BytesIO()
        self._large = False

    def append(self, block: Floats) -> None:
        """Write some rows; DataError where the disk has no room for them."""
        self.rows += len(block)
        try:
            if not self._large and self.rows * self._row > LARGE:
                self._move()
            self._file.write(np.ascontiguousarray(block, self.dtype))
        except OSError as error:
            raise _no_room(error) from None

    @property
    def _row(self) -> int:
        return self.width * int(self.dtype.itemsize)

    def _move(self) -> None:
        """From memory to a file without a name, which goes when it is closed."""
        file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
        file.write(self._file.getbuffer())
        self._file, self._large = file, True

    def blocks(self) -> Iterator[Floats]:
        """The rows in order, some at a time."""
        self._file.seek(0)
        size = max(1, READ // self.width) * self._row
        while raw := self._file.read(size):
            yield np.frombuffer(raw, self.dtype).reshape(-1, self.width)

    def array(self) -> NDArray[Any]:
        """All rows, (rows, width): an array, or a read-only memory map of the file.

        The file is gone when the array is.
        """
        shape = self.rows, self.width
        if self._large:
            self._file.flush()
            array: NDArray[Any] = np.memmap(self._file, self.dtype, "r", shape=shape)
        else:
            array = np.frombuffer(bytearray(self._file.getbuffer()), self.dtype).reshape(shape)
        self.close()
        return array

    def close(self) -> None:
        """Remove the file."""
        self._file.close()

    __del__ = close


def _no_room(error: OSError) -> DataError:
    folder = tempfile.gettempdir()
    try:
        free = shutil.disk_usage(folder).free
    except OSError:
        free = 0
    return DataError(
        f"the encoded table does not fit in {folder} ({free // 2**20} MiB free, {error.strerror});"
        " set TMPDIR to a folder with more room, or use fewer rows or categories"
    )


class Scan:
    """What a pass found: the columns, and their cells in a Store."""

    def __init__(self, source: Source, text: set[str], target: str | None) -> None:
        self.source = source
        self.found = [
            Found(name, name in text, MAX_TEXTS * (16 if name == target else 1))
            for name in source.header
        ]
        self.store = Store(len(source.header))
        self._texts = 0
        for chunk in source.chunks():
            self.store.append(self._taken(chunk))

    def _taken(self, chunk: Chunk) -> Floats:
        if not any(found.text for found in self.found):
            whole = chunk.matrix()
            if whole is not None:
                return self._numbers(whole, chunk)
        block = np.empty((chunk.rows, len(self.found)))
        for place, found in enumerate(self.found):
            before = len(found.codes)
            block[:, place] = found.take(chunk, place, MAX_ALL_TEXTS - self._texts + before)
            self._texts += len(found.codes) - before
        return block

    def _numbers(self, whole: Floats, chunk: Chunk) -> Floats:
        odd = np.atleast_1d(~np.isfinite(whole).all(axis=0))
        for place, found in enumerate(self.found):
            if odd[place]:
                found._odd(whole[:, place], chunk, place)
            found.rows += len(whole)
        return whole

    @property
    def late(self) -> set[str]:
        """The columns that turned out to be text after some rows of numbers."""
        return {found.name for found in self.found if found.late}

    def column(self, place: int) -> NDArray[np.float64]:
        """One column of the store, (rows,)."""
        return np.concatenate([block[:, place].copy() for block in self.store.blocks()])


def scan(source: Source, target: str | None) -> Scan:
    """The pass over a source; a second one where a column of numbers turned out to be text."""
    text = set(source.forced)
    found = Scan(source, text, target)
    while found.late:
        found.store.close()
        text |= found.late
        found = Scan(source, text, target)
    return found
