"""Batches: rows for training from data that memory need not hold, read ahead by a thread."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from typing import Any

import numpy as np

from ..errors import DataError, quoted
from ..nn.base import count
from . import mapped
from .arrays import check_features
from .table import Table, read_table

__all__ = ["Batches"]

Array = np.ndarray[Any, Any]
Batch = tuple[Array, ...]  # X, y, and a weight a row where there are weights

WINDOW = 4096  # rows of a stream that are shuffled together, at least
AHEAD = 2**22  # bytes of arrays or tables that are read together
PATIENCE = 5.0  # seconds to wait for a thread whose source is busy


class Batches:
    """(X, y) batches of `batch_size` rows, the last one short: what `fit` takes in place of X, y.

    `source` is one of

    - a pair (X, y) of arrays, such as `np.memmap`, or a `Table`: epoch e = 1, 2, … visits
      `np.random.default_rng([seed, 10000 + e]).permutation(n)`, as `fit` on arrays does, and the
      natural order where one batch holds all rows;
    - a path, with `target` and whatever else `read_table` takes: text is read once, into a
      temporary file of numbers if it is large, which goes with this object;
    - a function that returns an iterator of (X, y) blocks of any length, or an object that can
      be iterated again and again. Blocks of a list come in another order each epoch; then rows
      are shuffled among the next max(4096, 8·batch_size).

    X becomes `dtype`, labels int64, other targets `dtype`; a table's numbers get shape (rows, 1).
    `prepare`, as a `Standardizer`, is applied first, to the rows of one or more batches together.
    With `sample_weight`, (n,), of arrays or a table, batches are (X, y, w); rows of weight 0 are
    left out. `prefetch` batches or more are made ahead by a thread, which ends when its reader
    does; 0 makes them in turn. The same seed and epoch give the same batches. `rows` is their
    number, or None for a stream.

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
        sample_weight: Any = None,
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
        if sample_weight is not None:
            self._rows.weigh(np.asarray(sample_weight))
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
            self._first = self._made(*(part[: self.batch_size] for part in block))
        return self._first

    def epoch(self, epoch: int) -> Generator[Batch, None, None]:
        """The batches of an epoch, from 1; closing the generator ends its thread.

        >>> batches = Batches((np.arange(6.0)[:, None], np.arange(6)), 4)
        >>> sorted(row for X, y in batches.epoch(1) for row in y.tolist())
        [0, 1, 2, 3, 4, 5]
        """
        count("epoch", epoch)
        blocks = self._blocks(epoch)
        return self._cut(_ahead(blocks, self._depth) if self.prefetch else blocks)

    def __iter__(self) -> Iterator[Batch]:
        return self.epoch(1)

    def __repr__(self) -> str:
        rows = "?" if self.rows is None else self.rows
        return f"Batches({rows} rows, batch_size={self.batch_size}, seed={self.seed})"

    @property
    def _depth(self) -> int:
        """How many blocks hold the batches that shall be ready."""
        return -(-self.prefetch * self.batch_size // self._rows.together(self.batch_size))

    def _cut(self, blocks: Generator[Batch, None, None]) -> Generator[Batch, None, None]:
        """The batches of blocks, of which each but the last holds whole batches."""
        size = self.batch_size
        with closing(blocks):
            for block in blocks:
                for start in range(0, len(block[0]), size):
                    yield tuple([part[start : start + size] for part in block])

    def _blocks(self, epoch: int) -> Generator[Batch, None, None]:
        rng = np.random.default_rng([self.seed, 10_000 + epoch]) if self.shuffle else None
        empty = True
        with closing(self._rows.blocks(self.batch_size, rng)) as blocks:
            for block in blocks:
                empty = False
                yield self._made(*block)
        if empty:
            raise _nothing()

    def _made(self, X: Array, y: Array, *weights: Array) -> Batch:
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
        y = y.astype(np.int64 if y.dtype.kind in "iub" else self.dtype, copy=False)
        return X, y, *weights


def _nothing() -> DataError:
    return DataError("the source of batches has no rows; give at least one")


class _Indexed:
    """Rows that can be had in any order: arrays, memory-mapped ones too."""

    def __init__(self, X: Any, y: Any) -> None:
        self.X, self.y = X, y
        self.weights: Any = None
        self.chosen: Any = None  # the rows to visit, where they are not all
        if X.ndim != 2 or y.ndim == 0 or len(X) != len(y):
            raise DataError(
                f"X has shape {X.shape}, y has shape {y.shape}; "
                "give X of shape (rows, columns) and one target for each row"
            )

    @property
    def rows(self) -> int | None:
        """How many are visited."""
        return len(self.X if self.chosen is None else self.chosen)

    def weigh(self, weights: Array) -> None:
        """Let each row have a weight; one of 0 says nothing, and a batch of them has no mean."""
        if weights.shape != (len(self.X),):
            raise DataError(
                f"sample_weight has shape {weights.shape}, expected ({len(self.X)},):"
                " one weight for each row"
            )
        self.weights = weights
        if not weights.all():
            self.chosen = np.flatnonzero(weights)

    def together(self, size: int) -> int:
        """The rows that are read together: whole batches."""
        row = int(self.X[:1].nbytes)
        return size * max(1, AHEAD // max(1, size * row))

    def blocks(
        self, size: int, rng: np.random.Generator | None
    ) -> Generator[tuple[Array, ...], None, None]:
        """Whole batches in the order of the generator, or in the natural one."""
        parts = [part for part in (self.X, self.y, self.weights) if part is not None]
        count, several = self.rows or 0, self.together(size)
        visit = None if rng is None or size >= count else rng.permutation(count)
        if visit is None and self.chosen is None:
            together = zip(*(mapped.blocks(part, several) for part in parts), strict=True)
            yield from (tuple(np.array(part) for part in block) for block in together)
            return
        visit = np.arange(count) if visit is None else visit
        for start in range(0, count, several):
            rows = visit[start : start + several]
            rows = rows if self.chosen is None else self.chosen[rows]
            yield tuple(mapped.gather(part, rows) for part in parts)


class _Stream:
    """Rows that come in blocks, from the beginning each time."""

    rows: int | None = None

    def __init__(self, source: Any) -> None:
        self.source = source
        if isinstance(source, (list, tuple)):
            self.rows = sum(len(_block(block, k)[0]) for k, block in enumerate(source))

    def weigh(self, weights: Array) -> None:
        """Refuse weights of rows that are not known by number."""
        raise DataError("sample_weight is for arrays and tables; leave it out")

    def together(self, size: int) -> int:
        """The rows of a block, at least."""
        return size

    def blocks(
        self, size: int, rng: np.random.Generator | None
    ) -> Generator[tuple[Array, ...], None, None]:
        """Whole batches, shuffled within a window where there is a generator."""
        window = size if rng is None else size * -(-max(WINDOW, 8 * size) // size)
        for X, y in _regrouped(self._source(rng), window):
            if rng is None:
                yield X, y
                continue
            visit, several = rng.permutation(len(X)), size * max(1, WINDOW // 8 // size)
            for start in range(0, len(X), several):
                rows = visit[start : start + several]
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


def _ahead(blocks: Generator[Batch, None, None], depth: int) -> Generator[Batch, None, None]:
    """The same blocks, made by a thread that is at most `depth` ahead and ends with its reader."""
    ready: queue.Queue[Any] = queue.Queue(depth)
    stopped = threading.Event()
    thread = threading.Thread(
        target=_make, args=(blocks, ready, stopped), name="chainrule-batches", daemon=True
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
    blocks: Generator[Batch, None, None], ready: queue.Queue[Any], stopped: threading.Event
) -> None:
    """Fill the queue until the blocks end or nobody reads them."""

    def put(kind: str, value: Any = None) -> bool:
        while not stopped.is_set():
            with suppress(queue.Full):
                ready.put((kind, value), timeout=0.05)
                return True
        return False

    try:
        with closing(blocks):
            for block in blocks:
                if not put("block", block):
                    return
        put("end")
    except BaseException as error:  # whatever it is, the reader raises it
        put("error", error)
