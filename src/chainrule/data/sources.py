"""Where tables come from besides CSV: data frames, columns, arrays, Parquet and .npz files."""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from ..errors import DataError, quoted
from .cells import Floats, number_name, with_gaps
from .npz import load_npz, unreadable
from .scan import Chunk, Source
from .sheet import CsvSource

__all__ = ["Chosen", "FrameSource", "PairSource", "ParquetSource", "source_of"]

Maker = Callable[[], "Floats | list[str]"]

CELLS = 2**17  # of a chunk
MAX_CELLS = 2**31  # of a Parquet file, whose header may promise anything
_PLAIN = (".csv", ".tsv", ".txt")
_EXTRA = "pip install 'chainrule[data]'"


class ValueChunk:
    """Some rows of columns that are arrays of numbers, or lists of text; rows count from 0."""

    def __init__(self, name: str, columns: Sequence[Maker], start: int, rows: int) -> None:
        self._name, self._makers, self._start, self.rows = name, columns, start, rows
        self._made: dict[int, Floats | list[str]] = {}

    def _column(self, place: int) -> Floats | list[str]:
        """The column, made when it is asked for: a column of dates may be left out."""
        if place not in self._made:
            self._made[place] = self._makers[place]()
        return self._made[place]

    def matrix(self) -> Floats | None:
        return None

    def numbers(self, place: int) -> Floats | None:
        column = self._column(place)
        return with_gaps(column) if isinstance(column, list) else column

    def cells(self, place: int) -> list[str]:
        column = self._column(place)
        if isinstance(column, list):
            return column
        return [number_name(value) if value - value == 0 else _odd(value) for value in column]

    def where(self, row: int) -> str:
        return f"{self._name}, row {self._start + row} (from 0)"


def _odd(value: float) -> str:
    return "" if value != value else str(value)


class FrameSource:
    """A pandas, polars, Arrow or other data frame that narwhals knows, or a dict of columns."""

    def __init__(self, frame: Any, name: str = "frame") -> None:
        self.name = name
        self._frame = _frame(frame)
        self.header = _names(self._frame.columns, name)
        if len(self._frame) == 0:
            raise DataError(f"{name}: the table has no rows; add rows of data")
        self.forced = _categories(self._frame)

    def chunks(self) -> Iterator[ValueChunk]:
        size = max(1, CELLS // len(self.header))
        for start in range(0, len(self._frame), size):
            part = self._frame[start : start + size]
            yield ValueChunk(self.name, _makers(part, self.name), start, len(part))


class ParquetSource:
    """A Parquet file, read some rows at a time by pyarrow."""

    def __init__(self, path: str, name: str) -> None:
        self.name, self._path = name, path
        with self._file() as file:
            self.header = _names(file.schema_arrow.names, name)
            rows = file.metadata.num_rows
            if rows == 0:
                raise DataError(f"{name}: the table has no rows; add rows of data")
            if rows * len(self.header) > MAX_CELLS:
                raise DataError(
                    f"{name}: {rows} rows of {len(self.header)} columns are more than {MAX_CELLS}"
                    " cells; give a part of it"
                )
            kinds = zip(self.header, file.schema_arrow.types, strict=True)
            self.forced = frozenset(n for n, kind in kinds if str(kind).startswith("dictionary"))

    def _file(self) -> Any:
        try:
            from pyarrow import ArrowException
            from pyarrow.parquet import ParquetFile
        except ImportError:
            raise DataError(f"{self.name}: Parquet needs pyarrow; {_EXTRA}") from None
        try:
            return ParquetFile(self._path)
        except (ArrowException, OSError, ValueError) as error:
            raise unreadable(self.name, "a Parquet file", error) from None

    def chunks(self) -> Iterator[ValueChunk]:
        from pyarrow import ArrowException, Table

        start, size = 0, max(1, CELLS // len(self.header))
        with self._file() as file:
            try:
                for batch in file.iter_batches(size):
                    columns = _makers(_frame(Table.from_batches([batch])), self.name)
                    yield ValueChunk(self.name, columns, start, batch.num_rows)
                    start += batch.num_rows
            except (ArrowException, OSError) as error:
                raise unreadable(self.name, "a Parquet file", error) from None


class PairSource:
    """Features and target as two arrays; the columns are called x0, x1, … and `target`.

    A memory-mapped array is read some rows at a time.
    """

    forced: frozenset[str] = frozenset()

    def __init__(self, X: Any, y: Any, target: str, name: str = "arrays") -> None:
        self.name = name
        self._X, self._y = np.asanyarray(X), np.asanyarray(y)
        if self._X.ndim != 2 or 0 in self._X.shape:
            raise DataError(f"{name}: X has shape {self._X.shape}, expected (rows, columns)")
        if self._y.shape[:1] != self._X.shape[:1] or self._y.size != len(self._X):
            raise DataError(
                f"{name}: X has {len(self._X)} rows, y has shape {self._y.shape};"
                " give one target for each row"
            )
        self.header = [*(f"x{k}" for k in range(self._X.shape[1])), target]

    def chunks(self) -> Iterator[ValueChunk]:
        size = max(1, CELLS // len(self.header))
        for start in range(0, len(self._X), size):
            block = np.asarray(self._X[start : start + size])
            y = np.asarray(self._y[start : start + size]).reshape(-1)
            arrays = zip([*block.T, y], self.header, strict=True)
            columns = [partial(_values, array, self.name, name) for array, name in arrays]
            yield ValueChunk(self.name, columns, start, len(y))


class Chosen:
    """A source without some of its columns, and with some that are categories."""

    def __init__(self, source: Source, marked: frozenset[str], drop: Sequence[str]) -> None:
        self._source, self.name = source, source.name
        self.header = [name for name in source.header if name not in drop]
        self.forced = (source.forced | marked) - set(drop)
        self._places = [source.header.index(name) for name in self.header]

    def chunks(self) -> Iterator[Chunk]:
        chunks = self._source.chunks()
        if len(self.header) == len(self._source.header):
            return chunks
        return (_Part(chunk, self._places) for chunk in chunks)


class _Part:
    """Some columns of a chunk."""

    def __init__(self, chunk: Chunk, places: Sequence[int]) -> None:
        self._chunk, self._places = chunk, places
        self.rows, self.where = chunk.rows, chunk.where

    def matrix(self) -> Floats | None:
        return None

    def numbers(self, place: int) -> Floats | None:
        return self._chunk.numbers(self._places[place])

    def cells(self, place: int) -> list[str]:
        return self._chunk.cells(self._places[place])


def source_of(source: Any, target: str | None) -> Source:
    """The source behind a path, a frame, a dict of columns, or a pair (X, y)."""
    if isinstance(source, (str, os.PathLike)):
        return _file_source(os.fspath(source), target)
    if isinstance(source, (tuple, list)) and len(source) == 2:
        X, y = source
        if hasattr(X, "columns") or isinstance(X, Mapping):
            return FrameSource(_joined(X, y, target or "y"))
        return PairSource(X, y, target or "y")
    return FrameSource(source)


def _file_source(path: str, target: str | None) -> Source:
    name = repr(path)[1:-1]
    start = _start(path)
    lower = path.lower()
    if start == b"PAR1":
        return ParquetSource(path, name)
    if lower.endswith((".parquet", ".pq")) and start:
        raise DataError(f"{name}: is not a Parquet file; name it after what it holds")
    if start == b"PK\x03\x04" and not lower.endswith((*_PLAIN, ".xlsx", ".ods")):
        X, y = load_npz(path)
        return PairSource(X, y, target or "y", name)
    if lower.endswith(".npz") and start:
        raise DataError(f"{name}: is not an .npz file; name it after what it holds")
    if start == b"\x93NUM":
        raise DataError(f"{name}: one array only; save both with np.savez(path, X=X, y=y)")
    return CsvSource.at(path)


def _start(path: str) -> bytes:
    """The first four bytes; none where it cannot be read, which the CSV reader then says."""
    try:
        with open(path, "rb") as file:
            return file.read(4)
    except (OSError, ValueError):
        return b""


def _frame(frame: Any) -> Any:
    """The frame as narwhals sees it."""
    if isinstance(frame, Mapping):
        return _Columns(frame)
    try:
        import narwhals as nw
    except ImportError:
        raise DataError(
            f"a {type(frame).__name__} needs narwhals; {_EXTRA}, or give a dict of columns"
        ) from None
    try:
        found = nw.from_native(frame)
        found = found.collect() if isinstance(found, nw.LazyFrame) else found
        _names(found.columns, "frame")
    except TypeError:
        raise DataError(
            f"a {type(frame).__name__} is no table; give a path, a data frame, a dict of columns,"
            " or a pair (X, y)"
        ) from None
    except nw.exceptions.NarwhalsError as error:
        reason = " ".join(str(error).split())[:100]
        raise DataError(f"frame: cannot be read ({reason}); repair the frame") from None
    return found


class _Columns:
    """A dict of columns, with what is asked of a frame."""

    def __init__(self, columns: Mapping[Any, Any]) -> None:
        if not columns:
            raise DataError("the dict holds no columns; give at least two")
        self._data = {str(k): _one_column(v, str(k)) for k, v in columns.items()}
        self.columns = list(self._data)
        lengths = {k: len(v) for k, v in self._data.items()}
        first, size = next(iter(lengths.items()))
        for k, length in lengths.items():
            if length != size:
                raise DataError(
                    f"column {quoted(k)} has {length} rows, column {quoted(first)} {size};"
                    " make them equal"
                )

    def __len__(self) -> int:
        return len(self._data[self.columns[0]])

    def __getitem__(self, rows: slice) -> _Columns:
        return _Columns({k: v[rows] for k, v in self._data.items()})

    def items(self) -> Iterable[tuple[str, Any]]:
        return self._data.items()


def _one_column(values: Any, name: str) -> Any:
    array = np.asarray(values, dtype=None if isinstance(values, np.ndarray) else object)
    if array.ndim != 1:
        raise DataError(f"column {quoted(name)} has shape {array.shape}, expected one dimension")
    return array


def _makers(frame: Any, name: str) -> list[Maker]:
    if isinstance(frame, _Columns):
        return [partial(_values, values, name, column) for column, values in frame.items()]
    return [partial(_series, column, name, str(column.name)) for column in frame.iter_columns()]


def _series(series: Any, name: str, column: str) -> Floats | list[str]:
    """A narwhals series as numbers or text."""
    import narwhals as nw

    kind = series.dtype
    if kind.is_numeric():
        numbers = series.cast(nw.Float64)
        if numbers.null_count():  # a gap of pandas' nullable columns is no NaN yet
            filled = [float("nan") if value is None else value for value in numbers.to_list()]
            return np.array([_number(value) for value in filled])
        return np.asarray(numbers.to_numpy(), dtype=np.float64)
    if kind.is_temporal():
        raise _dates(name, column, str(kind))
    if isinstance(kind, (nw.Boolean, nw.String, nw.Categorical, nw.Enum, nw.Object, nw.Unknown)):
        values = series.to_list()
        return _texts(values, name, column)
    raise DataError(
        f"{name}, column {quoted(column)}: holds {kind}, which is neither number nor category; "
        "make columns of it, or remove it"
    )


def _number(value: Any) -> float:
    try:
        return float(value)
    except TypeError:  # pandas' NA
        return float("nan")


def _values(values: Any, name: str, column: str) -> Floats | list[str]:
    """A NumPy column as numbers or text."""
    kind = values.dtype.kind
    if kind in "iuf":
        with np.errstate(over="ignore"):  # a long double beyond float64 is found as infinite
            return values.astype(np.float64)  # type: ignore[no-any-return]
    if kind in "mM":
        raise _dates(name, column, str(values.dtype))
    if kind in "bUSO":
        return _texts(values.tolist(), name, column)
    raise DataError(f"{name}, column {quoted(column)}: has dtype {values.dtype}; give real numbers")


def _texts(values: list[Any], name: str, column: str) -> list[str]:
    for value in values:
        if isinstance(value, (datetime.date, datetime.time, datetime.timedelta)):
            raise _dates(name, column, type(value).__name__)
        if isinstance(value, (list, tuple, dict, set, np.ndarray, complex)):
            kind = type(value).__name__
            raise DataError(
                f"{name}, column {quoted(column)}: holds a {kind}, which is neither number nor "
                "category; make columns of it, or remove it"
            )
    return [_text(value) for value in values]


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value.strip()
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return ""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace").strip()
    if isinstance(value, (float, np.floating)):
        return _odd(float(value)) if value - value != 0 else number_name(float(value))
    return str(value)


def _dates(name: str, column: str, kind: str) -> DataError:
    return DataError(
        f"{name}, column {quoted(column)}: holds dates or times ({kind}); replace it by numbers "
        f"(year, month, weekday, days since a start), or leave it out with drop=[{quoted(column)}]"
    )


def _names(names: Sequence[Any], name: str) -> list[str]:
    header = [str(entry).strip() for entry in names]
    for place, column in enumerate(header):
        if not column or column in header[:place]:
            fault = "has no name" if not column else f"is a second {quoted(column)}"
            raise DataError(f"{name}: column {place} (from 0) {fault}; rename it")
    return header


def _categories(frame: Any) -> frozenset[str]:
    """The columns whose dtype says that they are categories."""
    if isinstance(frame, _Columns):
        return frozenset()
    import narwhals as nw

    kinds = (nw.Categorical, nw.Enum)
    return frozenset(str(k).strip() for k, v in frame.schema.items() if isinstance(v, kinds))


def _joined(X: Any, y: Any, target: str) -> dict[str, Any]:
    """The columns of a frame and a series beside them."""
    frame = _frame(X)
    if isinstance(frame, _Columns):
        columns = dict(frame.items())
    else:
        columns = {str(column.name): _series_values(column) for column in frame.iter_columns()}
    if target in columns:
        raise DataError(f"X has a column {quoted(target)} too; give target=, another name")
    return {**columns, target: np.asarray(y).reshape(-1)}


def _series_values(series: Any) -> Any:
    return series.to_numpy() if series.dtype.is_numeric() else np.array(series.to_list(), object)
