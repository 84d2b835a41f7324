"""X and y of an .npz file, with nothing in it run and nothing made of what it only promises."""

from __future__ import annotations

import io
import os
import zipfile
from typing import Any

import numpy as np

from ..errors import DataError, listed, quoted

__all__ = ["load_npz", "unreadable"]

MAX_RATIO, MAX_UNPACKED = 200, 2**28  # of a packed array: beyond both, it is a bomb
MAX_HEADER = 10_000  # bytes of an array's header, as NumPy bounds it
X_NAMES, Y_NAMES = ("X", "x", "features", "data"), ("y", "target", "labels")


def load_npz(path: str | os.PathLike[str]) -> tuple[Any, Any]:
    r"""X and y of an .npz file, which may be called features or data, target or labels.

    Nothing in the file is executed, and no array is made before its header, its length and how
    far it was packed have been checked. DataError says what is wrong.

    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "two.npz")
    >>> np.savez(path, X=np.eye(2), y=[0, 1])
    >>> load_npz(path)[1].tolist()
    [0, 1]
    """
    name = repr(os.fsdecode(path))[1:-1]
    try:
        with zipfile.ZipFile(path) as archive:
            names = [info.filename for info in archive.infolist()[:1000]]
            X, y = (_member(names, known, name) for known in (X_NAMES, Y_NAMES))
            return _array(archive, X, name), _array(archive, y, name)
    except DataError:
        raise
    except Exception as error:  # of zipfile, zlib, lzma or the system: each has its own kinds
        raise unreadable(name, "an .npz file", error) from None


def _member(names: list[str], known: tuple[str, ...], name: str) -> str:
    for known_name in known:
        if f"{known_name}.npy" in names:
            return f"{known_name}.npy"
    if not any(entry.endswith(".npy") for entry in names):
        raise DataError(
            f"{name}: is a zip file without arrays (.npy); export a sheet as CSV, "
            "or save arrays with np.savez(path, X=X, y=y)"
        )
    found = listed(entry.removesuffix(".npy") for entry in names)
    raise DataError(
        f"{name}: no array called {listed(known)}; found {found}. "
        "Save it with np.savez(path, X=X, y=y)"
    )


def _array(archive: zipfile.ZipFile, entry: str, name: str) -> Any:
    info = archive.getinfo(entry)
    place = f"{name}, array {quoted(entry.removesuffix('.npy'))}"
    if info.file_size > MAX_UNPACKED and info.file_size > MAX_RATIO * info.compress_size:
        raise DataError(
            f"{place}: unpacks {info.compress_size} bytes into {info.file_size};"
            " save it with np.savez, which does not pack"
        )
    with archive.open(entry) as file:
        shape, fortran, dtype = _npy_header(file, place)
        size = int(np.prod(shape, dtype=object)) * dtype.itemsize
        if size != info.file_size - file.tell():
            raise DataError(
                f"{place}: its header promises {size} bytes, but {info.file_size - file.tell()}"
                " follow; the file is damaged or was altered"
            )
        data = bytearray(size)
        if file.readinto(data) != size:  # type: ignore[attr-defined]
            raise DataError(f"{place}: ends early; the file is damaged")
        array = np.frombuffer(data, dtype)
        return array.reshape(shape[::-1]).T if fortran else array.reshape(shape)


def _npy_header(file: Any, place: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, order and dtype, which is read no further than MAX_HEADER."""
    try:
        version = np.lib.format.read_magic(file)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        length = file.read(2 if version == (1, 0) else 4)
        size = int.from_bytes(length, "little")
        if size > MAX_HEADER:
            raise ValueError("its header is too long")
        shape, fortran, dtype = read(io.BytesIO(length + file.read(size)))
    except (ValueError, KeyError, SyntaxError, TypeError) as error:
        reason = str(error).split("\n")[0][:80]
        raise DataError(f"{place}: is no array that can be read ({reason})") from None
    if dtype.kind not in "biufUS":
        raise DataError(
            f"{place}: has dtype {quoted(str(dtype))}, which is not read (objects could run code);"
            " save numbers or text"
        )
    return shape, fortran, dtype


def unreadable(name: str, what: str, error: Exception) -> DataError:
    """The error for a file of which the library says no more than that it cannot read it.

    >>> str(unreadable("a.npz", "an .npz file", ValueError("bad magic")))
    'a.npz: cannot be read as an .npz file (bad magic); it is damaged'
    """
    reason = str(error).split("\n")[0][:100] or type(error).__name__
    shown = quoted(reason, 100)[1:-1]
    return DataError(f"{name}: cannot be read as {what} ({shown}); it is damaged")
