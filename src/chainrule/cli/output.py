"""Where a command writes its result: refused before the work, written whole or not at all."""

from __future__ import annotations

import os
import stat

from ..errors import DataError


def demand_place(path: str, force: bool, *, devices: bool = False) -> None:
    """Before any work: a run must not end without a place for its result.

    An existing file needs `force`; a device or a pipe is a place only with `devices`. Raises
    `DataError` with the repair, and `OSError` for a path that no file can have.
    """
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        raise DataError(
            f"{path}: there is no folder '{folder}'; make it, or choose another -o FILE"
        )
    if os.path.isdir(path):
        raise DataError(f"{path}: is a folder; name a file with -o FILE")
    if is_special(path):
        if devices:
            return
        raise DataError(f"{path}: is no regular file; choose another with -o FILE")
    if os.path.exists(path) and not force:
        raise DataError(
            f"{path}: exists already; use --force to replace it, or -o FILE for another"
        )
    if not os.access(folder, os.W_OK):
        raise DataError(f"{path}: the folder cannot be written to; choose another with -o FILE")


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
