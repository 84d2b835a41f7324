"""Batches: rows for training from data that memory need not hold, read ahead by a thread."""

from __future__ import annotations

import mmap
import os
import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from typing import Any

import numpy as np

from ..errors import DataError, quoted
from ..nn.base import count
from .arrays import check_features
from .table import Table, read_table

__all__ = ["Batches"]

Array = np.ndarray[Any, Any]
Batch = tuple[Array, Array]

WINDOW = 4096  # rows of a stream that are shuffled together, at least
TOUCHED = 64 * 2**20  # bytes read of a memory map before its pages are given back
PATIENCE = 5.0  # seconds to wait for a thread whose source is busy


class Batches:
    """(X, y) batches of `batch_size` rows, the last one short: what `fit` takes in place of X, y.

    `source` is one of

    - a pair (X, y) of arrays, such as `np.memmap`, or a `Table`: epoch e = 1, 2, … visits
      `np.random.default_rng([seed, 10000 + e]).permutation(n)`, as `fit` on arrays does;
    - a path, with `target` and whatever else `read_table` takes: text is read once, into a
      temporary file of numbers if it is large, which goes with this object;
    - a function that returns an iterator of (X, y) blocks of any length, or an object that can
      be iterated again and again. Blocks of a list come in another order each epoch; then rows
      are shuffled among the next max(4096, 8·batch_size).

    X becomes `dtype`, labels int64, other targets `dtype`; a table's numbers get shape (rows, 1).
    `prepare`, as a `Standardizer`, is applied to each X first. `prefetch` batches are made ahead by
    a thread, which ends when its reader does; 0 makes them in turn. The same seed and epoch give
    the same batches. `rows` is their number, or None for a stream.

    DataError names the block that is none, or has another width, NaN or infinity, or says that
    there are no rows; what the source raises is passed on.

    >>> blocks = [(np.full((3, 2), k), [k, k, k]) for k in range(2)]
    >>> batches = Batches(blocks, batch_size=4, shuffle=False)
    >>> [(X.shape, y.tolist()) for X, y in batches.epoch(1)]
    [((4, 2), [0, 0, 0, 1]), ((2, 2), [1, 1])]
    """

    def __init__(
        self,
        source: Any,
        batch_size: int = 32,
        *,
        seed: int = 0,
        shuffle: bool = True,
        prefetch: int = 2,
        prepare: Callable[[Any], Any] | None = None,
        dtype: Any = np.float32,
        target: str | None = None,
        **reading: Any,
    ) -> None:
        self.batch_size = count("batch_size", batch_size)
        self.seed = count("seed", seed, least=0)
        self.prefetch = count("prefetch", prefetch, least=0)
        self.shuffle, self.prepare, self.dtype = bool(shuffle), prepare, np.dtype(dtype)
        if isinstance(source, (str, os.PathLike)):
            source = read_table(source, target, **reading)
        elif target is not None or reading:
            raise DataError("target and how to read are for a path; give a Table, or leave it out")
        self.table = source if isinstance(source, Table) else None
        self._rows = _rows_of(source)
        self._first: Batch | None = None

    @property
    def rows(self) -> int | None:
        """The number of rows an epoch, or None where only reading could tell."""
        return self._rows.rows

    @property
    def width(self) -> int:
        """The number of features."""
        return int(self.first()[0].shape[1])

    def first(self) -> Batch:
        """A sample: the first rows of the source, a batch at most, as `epoch` would give them."""
        if self._first is None:
            with closing(self._rows.blocks(self.batch_size, None)) as blocks:
                block = next(blocks, None)
            if block is None:
                raise _nothing()
            X, y = (part[: self.batch_size] for part in block)
            self._first = self._made(X, y)
        return self._first

    def epoch(self, epoch: int) -> Generator[Batch, None, None]:
        """The batches of an epoch, from 1; closing the generator ends its thread.

        >>> batches = Batches((np.arange(6.0)[:, None], np.arange(6)), 4)
        >>> sorted(row for X, y in batches.epoch(1) for row in y.tolist())
        [0, 1, 2, 3, 4, 5]
        """
        count("epoch", epoch)
        made = self._batches(epoch)
        return _ahead(made, self.prefetch) if self.prefetch else made

    def __iter__(self) -> Iterator[Batch]:
        return self.epoch(1)

    def __repr__(self) -> str:
        rows = "?" if self.rows is None else self.rows
        return f"Batches({rows} rows, batch_size={self.batch_size}, seed={self.seed})"

    def _batches(self, epoch: int) -> Generator[Batch, None, None]:
        rng = np.random.default_rng([self.seed, 10_000 + epoch]) if self.shuffle else None
        empty = True
        with closing(self._rows.blocks(self.batch_size, rng)) as blocks:
            for X, y in blocks:
                empty = False
                yield self._made(X, y)
        if empty:
            raise _nothing()

    def _made(self, X: Array, y: Array) -> Batch:
        if self.prepare is not None:
            X = self.prepare(X)
        with np.errstate(over="ignore"):
            X = check_features(X).astype(self.dtype, copy=False)
        if np.isinf(X).any():
            raise DataError(f"X holds a number too large for {self.dtype}; standardise the column")
        if y.dtype.kind not in "biuf":
            raise DataError(
                f"y has dtype {y.dtype}; give numbers, or labels from 0:"
                " classes, y = np.unique(y, return_inverse=True)"
            )
        return X, y.astype(np.int64 if y.dtype.kind in "iub" else self.dtype, copy=False)


def _nothing() -> DataError:
    return DataError("the source of batches has no rows; give at least one")


class _Indexed:
    """Rows that can be had in any order: arrays, memory-mapped ones too."""

    def __init__(self, X: Any, y: Any) -> None:
        self.X, self.y = X, y
        self.rows: int | None = len(X)
        if X.ndim != 2 or y.ndim == 0 or len(X) != len(y):
            raise DataError(
                f"X has shape {X.shape}, y has shape {y.shape}; "
                "give X of shape (rows, columns) and one target for each row"
            )

    def blocks(
        self, size: int, rng: np.random.Generator | None
    ) -> Generator[tuple[Array, Array], None, None]:
        visit = None if rng is None else rng.permutation(len(self.X))
        touched = 0
        for start in range(0, len(self.X), size):
            if visit is None:
                X, y = (np.array(part[start : start + size]) for part in (self.X, self.y))
            else:
                X, y = _picked(self.X, self.y, visit[start : start + size])
            touched += len(X) * max(mmap.PAGESIZE, X[:1].nbytes) if visit is not None else X.nbytes
            if touched > TOUCHED:
                touched = 0
                _give_back(self.X)
            yield X, y


def _picked(X: Any, y: Any, rows: Any) -> tuple[Array, Array]:
    """Those rows in that order, read in the order of the file."""
    order = np.argsort(rows)
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    return np.asarray(X[rows[order]])[back], np.asarray(y[rows])


def _give_back(array: Any) -> None:
    """Tell the system that the pages of a read-only memory map need not stay in memory."""
    mapped = getattr(array, "_mmap", None)
    if mapped is not None and getattr(array, "mode", "") == "r" and hasattr(mapped, "madvise"):
        with suppress(OSError, ValueError):
            mapped.madvise(mmap.MADV_DONTNEED)


class _Stream:
    """Rows that come in blocks, from the beginning each time."""

    rows: int | None = None

    def __init__(self, source: Any) -> None:
        self.source = source
        if isinstance(source, (list, tuple)):
            self.rows = sum(len(_block(block, k)[0]) for k, block in enumerate(source))

    def blocks(
        self, size: int, rng: np.random.Generator | None
    ) -> Generator[tuple[Array, Array], None, None]:
        """Exactly `size` rows at a time, shuffled within a window where there is a generator."""
        window = size if rng is None else size * -(-max(WINDOW, 8 * size) // size)
        for X, y in _regrouped(self._source(rng), window):
            visit = np.arange(len(X)) if rng is None else rng.permutation(len(X))
            for start in range(0, len(X), size):
                rows = visit[start : start + size]
                yield X[rows], y[rows]

    def _source(self, rng: np.random.Generator | None) -> Iterator[tuple[Array, Array]]:
        if isinstance(self.source, Sequence):
            visit = range(len(self.source)) if rng is None else rng.permutation(len(self.source))
            found: Iterable[Any] = (self.source[int(k)] for k in visit)
        else:
            found = self.source() if callable(self.source) else self.source
        width = None
        for number, block in enumerate(found):
            X, y = _block(block, number)
            width = X.shape[1] if width is None else width
            if X.shape[1] != width:
                raise DataError(
                    f"block {number} (from 0) has {X.shape[1]} columns, the first has {width};"
                    " give the same columns"
                )
            if len(X):
                yield X, y


def _block(block: Any, number: int) -> tuple[Array, Array]:
    if not isinstance(block, (tuple, list)) or len(block) != 2:
        kind = type(block).__name__
        raise DataError(f"block {number} (from 0) is a {kind}, not a pair (X, y)")
    X, y = np.asarray(block[0]), np.asarray(block[1])
    if X.ndim != 2 or y.ndim == 0 or len(X) != len(y):
        raise DataError(
            f"block {number} (from 0): X has shape {X.shape}, y has shape {y.shape};"
            " give X of shape (rows, columns) and one target for each row"
        )
    return X, y


def _regrouped(
    blocks: Iterator[tuple[Array, Array]], size: int
) -> Generator[tuple[Array, Array], None, None]:
    """The same rows, `size` at a time."""
    parts: list[tuple[Array, Array]] = []
    held = 0
    for X, y in blocks:
        parts.append((X, y))
        held += len(X)
        while held >= size:
            X, y = (np.concatenate(part) for part in zip(*parts, strict=True))
            yield X[:size], y[:size]
            parts, held = [(X[size:], y[size:])], held - size
    if held:
        X, y = (np.concatenate(part) for part in zip(*parts, strict=True))
        yield X, y


def _rows_of(source: Any) -> _Indexed | _Stream:
    if isinstance(source, Table):
        numbers = source.schema.classes is None
        return _Indexed(source.features, source.target[:, None] if numbers else source.target)
    if isinstance(source, (tuple, list)) and len(source) == 2 and _arrays(source):
        X, y = (part if isinstance(part, np.ndarray) else np.asarray(part) for part in source)
        return _Indexed(X, y)
    if callable(source) or isinstance(source, Sequence):
        return _Stream(source)
    if isinstance(source, Iterable) and iter(source) is not source:
        return _Stream(source)
    raise DataError(
        f"a {type(source).__name__} cannot be read twice; give a function that returns such an"
        f" iterator, a pair (X, y) of arrays, a Table or a path, not {quoted(source)}"
    )


def _arrays(pair: Sequence[Any]) -> bool:
    """Whether these are X and y, rather than two blocks of both."""
    blocks = all(isinstance(part, (tuple, list)) and len(part) == 2 for part in pair)
    return isinstance(pair[0], np.ndarray) or (isinstance(pair, tuple) and not blocks)


def _ahead(batches: Generator[Batch, None, None], depth: int) -> Generator[Batch, None, None]:
    """The same batches, made by a thread that is at most `depth` ahead and ends with its reader."""
    ready: queue.Queue[Any] = queue.Queue(depth)
    stopped = threading.Event()
    thread = threading.Thread(
        target=_make, args=(batches, ready, stopped), name="chainrule-batches", daemon=True
    )
    thread.start()
    try:
        while True:
            kind, value = ready.get()
            if kind == "end":
                return
            if kind == "error":
                raise value
            yield value
    finally:
        stopped.set()
        thread.join(PATIENCE)


def _make(
    batches: Generator[Batch, None, None], ready: queue.Queue[Any], stopped: threading.Event
) -> None:
    """Fill the queue until the batches end or nobody reads them."""

    def put(kind: str, value: Any = None) -> bool:
        while not stopped.is_set():
            with suppress(queue.Full):
                ready.put((kind, value), timeout=0.05)
                return True
        return False

    try:
        with closing(batches):
            for batch in batches:
                if not put("batch", batch):
                    return
        put("end")
    except BaseException as error:  # whatever it is, the reader raises it
        put("error", error)
