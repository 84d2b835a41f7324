"""Arrays that may lie in a file: rows read some at a time, and their memory given back.

What is read of a memory map stays in memory until the system wants it elsewhere. Here it is given
back at once, so that a pass over a table takes what its blocks take, whatever its size.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .scan import Store

__all__ = ["blocks", "columns", "gather", "is_mapped", "kept", "taken"]

Array = NDArray[Any]

BLOCK = 2**19  # numbers read together
SEVERAL = 2**21  # numbers of columns read together
SEGMENT = 2**24  # bytes of a file from which rows are picked before its memory is given back


def is_mapped(array: Any) -> bool:
    """Whether the array lies in a file.

    >>> is_mapped(np.zeros(3))
    False
    """
    return isinstance(array, np.memmap)


def blocks(array: Array, size: int | None = None) -> Iterator[Array]:
    """The rows in order, `size` at a time, or so many that they hold half a million numbers.

    A block of a file is good until the next one is asked for.

    >>> [len(block) for block in blocks(np.zeros((5, 2)), 2)]
    [2, 2, 1]
    """
    rows = size or max(1, BLOCK // max(1, int(np.prod(array.shape[1:]))))
    for start in range(0, len(array), rows):
        yield np.asarray(array[start : start + rows])
        _give_back(array)


def columns(array: Array) -> Iterator[Array]:
    """Each column of an array (n, d) as an array (n,), in order.

    >>> [column.tolist() for column in columns(np.array([[1, 2], [3, 4]]))]
    [[1, 3], [2, 4]]
    """
    if not is_mapped(array):
        yield from array.T
        return
    several = max(1, SEVERAL // max(1, len(array)))
    for start in range(0, array.shape[1], several):
        yield from _columns(array, slice(start, min(start + several, array.shape[1])))


def _columns(array: Array, which: slice) -> Array:
    out, done = np.empty((which.stop - which.start, len(array)), array.dtype), 0
    for part in blocks(array):
        out[:, done : done + len(part)] = part[:, which].T
        done += len(part)
    return out


def gather(array: Array, rows: NDArray[np.int64]) -> Array:
    """`array[rows]`, in memory; of a file, read in the order in which they lie there.

    >>> gather(np.arange(5), np.array([3, 0])).tolist()
    [3, 0]
    """
    if not is_mapped(array):
        return array[rows]
    order = np.argsort(rows)
    sorted_rows = rows[order]
    several = max(1, SEGMENT // max(1, array[:1].nbytes))
    cuts = np.searchsorted(sorted_rows, np.arange(several, len(array), several))
    out = np.empty((len(rows), *array.shape[1:]), array.dtype)
    for places in np.split(order, cuts):
        if len(places):
            out[places] = array[rows[places]]
            _give_back(array)
    return out


def taken(array: Array, rows: NDArray[np.int64]) -> Array:
    """`array[rows]`; of a file in another temporary file, unless they are few.

    `array` has shape (n, d), of float64 where it lies in a file.
    """
    if not is_mapped(array):
        return array[rows]
    several = max(1, BLOCK // array.shape[1])
    parts = (gather(array, rows[k : k + several]) for k in range(0, len(rows), several))
    return kept(parts, array.shape[1], array.dtype)


def kept(parts: Iterator[Array], width: int, dtype: Any) -> Array:
    """Blocks of rows as one array, (n, width): in a temporary file where it is large."""
    store = Store(width, dtype)
    for part in parts:
        store.append(part)
    return store.array()


def _give_back(array: Any) -> None:
    """Tell the system that what was read of a read-only memory map need not stay in memory."""
    mapped = getattr(array, "_mmap", None)
    if mapped is not None and getattr(array, "mode", "") == "r" and hasattr(mapped, "madvise"):
        with suppress(OSError, ValueError):
            mapped.madvise(mmap.MADV_DONTNEED)
