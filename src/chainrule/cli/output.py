"""Where a command writes its result: refused before the work, written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator

from ..errors import DataError


def demand_place(path: str, force: bool, *, devices: bool = False, by: str = "-o FILE") -> None:
    """Before any work: a run must not end without a place for its result.

    An existing file needs `force`; a device or a pipe is a place only with `devices`. `by` is the
    flag that names another place. Raises `DataError` with the repair, and `OSError` for a path that
    no file can have.
    """
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        raise DataError(f"{path}: there is no folder '{folder}'; make it, or choose another {by}")
    if os.path.isdir(path):
        raise DataError(f"{path}: is a folder; name a file with {by}")
    if is_special(path):
        if devices:
            return
        raise DataError(f"{path}: is no regular file; choose another with {by}")
    if os.path.exists(path) and not force:
        raise DataError(f"{path}: exists already; use --force to replace it, or {by} for another")
    if not os.access(folder, os.W_OK):
        raise DataError(f"{path}: the folder cannot be written to; choose another with {by}")


def is_special(path: str) -> bool:
    """Whether a device, a pipe or a folder is there; `OSError` for an impossible path."""
    try:
        return not stat.S_ISREG(os.stat(path).st_mode)
    except FileNotFoundError:
        return False


def write_text(path: str, text: str) -> None:
    """A file appears whole or not at all; a device or a pipe is simply written to."""
    from ..nn.tensorfile import write_whole

    if not is_special(path):
        return write_whole(path, text.encode())
    try:
        with open(path, "wb") as file:
            file.write(text.encode())
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None


@contextlib.contextmanager
def growing(path: str) -> Iterator[Callable[[str], None]]:
    """Within, text is written bit by bit; the file appears whole at the end, or not at all.

    A device or a pipe is written to at once. Raises `OSError` naming the path.
    """
    special, real = is_special(path), os.path.realpath(path)
    folder, name = os.path.split(real)
    place = real if special else os.path.join(folder, f".{name[:100]}.{os.urandom(6).hex()}.tmp")
    flags = os.O_WRONLY if special else os.O_WRONLY | os.O_CREAT | os.O_EXCL
    try:
        handle = os.open(place, flags | getattr(os, "O_BINARY", 0), 0o666)
        try:
            yield lambda text: _write_all(handle, text.encode())
            if not special:
                os.fsync(handle)
        finally:
            os.close(handle)
        if not special:
            os.replace(place, real)
    except BaseException as error:
        if not special:
            with contextlib.suppress(OSError):
                os.unlink(place)
        if isinstance(error, OSError) and error.errno is not None:
            what = error.strerror if special else f"{error.strerror}; nothing was changed"
            raise OSError(error.errno, what, path if special else real) from None
        raise


def _write_all(handle: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(handle, rest) :]
