"""One file of tensors, read with suspicion and written whole or not at all.

The format is safetensors: eight bytes with the header's length, a JSON header that gives each
tensor's dtype, shape and place, then the tensors' bytes. Before anything of the size that a header
claims is allocated, the header must account for every byte of the file exactly once. What is
refused here is a `Refusal`; `chainrule.nn.storage` adds the file's name.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import stat
from contextlib import suppress
from typing import Any, BinaryIO, NamedTuple

import numpy as np

MAX_HEADER = 10 * 2**20
MAX_AXES = 32
ITEM_SIZES = {"F16": 2, "F32": 4, "F64": 8}
NUMPY_NAMES = {"F16": "<f2", "F32": "<f4", "F64": "<f8"}
KEY = "chainrule"
BLANK = "0" * 64

RESAVE = "save the model again, or take an unharmed copy"


class Refusal(Exception):
    """Why a file is not read, with the repair."""


class Entry(NamedTuple):
    """Where the header says that a tensor lies."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


class Header(NamedTuple):
    """A header that has been checked: its raw bytes, its tensors and our own document."""

    raw: bytes
    entries: dict[str, Entry]
    document: dict[str, Any]


# -- reading ----------------------------------------------------------------------------------


def open_regular(path: str) -> BinaryIO:
    """The file, open for reading; folders, devices and pipes are refused before they can block."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise Refusal("is no regular file; give the path of a model file")
        return open(path, "rb")
    except FileNotFoundError:
        raise Refusal("no such file; check the path") from None
    except OSError as error:
        raise Refusal(f"cannot be read ({error.strerror})") from None
    except ValueError:  # a NUL in the path
        raise Refusal("is not a possible path") from None


def read_header(file: BinaryIO) -> Header:
    """The checked header of a file."""
    size = os.fstat(file.fileno()).st_size
    start = file.read(8)
    if len(start) < 8:
        raise Refusal(f"is cut short: it has only {size} bytes; {RESAVE}")
    length = int.from_bytes(start, "little")
    if length > MAX_HEADER:
        raise Refusal(f"is no model file, or altered: its header would have {length} bytes")
    if length > size - 8:
        raise Refusal(f"is cut short: its header should have {length} bytes; {RESAVE}")
    raw = file.read(length)
    if len(raw) != length:
        raise Refusal(f"is cut short; {RESAVE}")
    return parse(raw, size - 8 - length)


def parse(raw: bytes, room: int) -> Header:
    """The header in `raw`, which must describe exactly the `room` bytes that follow it."""
    header = strict_json(raw, "header")
    metadata = header.pop("__metadata__", None)
    entries = {name: _entry(name, facts, room) for name, facts in header.items()}
    _demand_every_byte(entries, room)
    text = metadata.get(KEY) if isinstance(metadata, dict) and len(metadata) == 1 else None
    if not isinstance(text, str):
        raise Refusal(
            "was not written by chainrule's save: it has no architecture. Build the model, read the"
            " tensors with safetensors.numpy.load_file and give them to model.load_state_dict"
        )
    document = strict_json(text.encode("utf-8", "replace"), "architecture")
    return Header(raw, entries, document)


def strict_json(raw: bytes, what: str) -> dict[str, Any]:
    """The JSON object in `raw`; duplicate keys, NaN, ∞ and bottomless nesting are refused."""
    try:
        if not raw.startswith(b"{"):
            raise ValueError("no JSON object")
        text, number = raw.decode("utf-8"), _finite
        found = json.loads(
            text, object_pairs_hook=_unique, parse_constant=number, parse_float=number
        )
    except (ValueError, RecursionError) as error:
        reason = "nested too deep" if isinstance(error, RecursionError) else str(error)[:80]
        raise Refusal(f"is altered or no model file: its {what} is not valid ({reason})") from None
    return found  # type: ignore[no-any-return]


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key occurs twice")
    return found


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError("a number is not finite")
    return value


def _entry(name: str, facts: Any, room: int) -> Entry:
    """A tensor's entry, each field of the type and within the bounds that it must have."""
    where = f"is altered: tensor {name[:60]!r} has"
    if not isinstance(facts, dict) or set(facts) != {"dtype", "shape", "data_offsets"}:
        raise Refusal(f"{where} not exactly dtype, shape and data_offsets")
    dtype, shape, offsets = facts["dtype"], facts["shape"], facts["data_offsets"]
    if not isinstance(dtype, str) or dtype not in ITEM_SIZES:
        raise Refusal(f"{where} dtype {str(dtype)[:20]!r}; models hold {', '.join(ITEM_SIZES)}")
    if not isinstance(shape, list) or len(shape) > MAX_AXES or not all(map(_natural, shape)):
        raise Refusal(f"{where} an impossible shape")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(map(_natural, offsets)):
        raise Refusal(f"{where} impossible offsets")
    begin, end = offsets
    if begin > end or end > room:
        raise Refusal(f"is cut short: tensor {name[:60]!r} lies outside the file; {RESAVE}")
    if end - begin != math.prod(shape) * ITEM_SIZES[dtype]:
        raise Refusal(f"{where} {end - begin} bytes, which is not what its shape and dtype need")
    return Entry(dtype, tuple(shape), begin, end)


def _natural(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _demand_every_byte(entries: dict[str, Entry], room: int) -> None:
    """Every byte belongs to one tensor: no hole, no overlap, nothing behind the last."""
    end = 0
    for entry in sorted(entries.values(), key=lambda entry: (entry.begin, entry.end)):
        if entry.begin != end:
            raise Refusal(f"is altered: its tensors overlap or leave a hole at byte {end}")
        end = entry.end
    if end != room:
        raise Refusal(f"is altered: {room - end} bytes follow the last tensor")


def read_tensors(file: BinaryIO, header: Header) -> dict[str, np.ndarray[Any, Any]]:
    """The tensors as views of the bytes read, once their digest has been found right."""
    room = max((entry.end for entry in header.entries.values()), default=0)
    body = file.read(room)
    if len(body) != room:
        raise Refusal(f"is cut short; {RESAVE}")
    recorded = header.document.get("sha256")
    if not isinstance(recorded, str) or digest(header.raw, body, recorded) != recorded:
        raise Refusal(f"is altered or damaged: its contents do not match its digest; {RESAVE}")
    return {name: _view(body, entry) for name, entry in header.entries.items()}


def _view(body: bytes, entry: Entry) -> np.ndarray[Any, Any]:
    size = math.prod(entry.shape)
    return np.frombuffer(body, NUMPY_NAMES[entry.dtype], size, entry.begin).reshape(entry.shape)


def digest(raw: bytes, body: bytes, recorded: str) -> str | None:
    """SHA-256 of the file with the recorded digest blanked; None where that is no digest.

    It finds damage, not malice: whoever alters a file on purpose can write a new digest.
    """
    mark = recorded.encode("utf-8", "replace")
    if len(mark) != len(BLANK):
        return None
    found = hashlib.sha256(len(raw).to_bytes(8, "little"))
    found.update(raw.replace(mark, BLANK.encode()))
    found.update(body)
    return found.hexdigest()


# -- writing ----------------------------------------------------------------------------------


def encode(tensors: dict[str, np.ndarray[Any, Any]], document: dict[str, Any]) -> bytes:
    """The file's bytes, the same for the same contents; the document gets its digest."""
    from safetensors.numpy import save

    text = json.dumps({**document, "sha256": BLANK}, allow_nan=False, separators=(",", ":"))
    blank = save(tensors, metadata={KEY: text})
    place = blank.rindex(BLANK.encode(), 0, 8 + int.from_bytes(blank[:8], "little"))
    found = hashlib.sha256(blank).hexdigest().encode()
    return blank[:place] + found + blank[place + len(found) :]


def write_whole(path: str, data: bytes) -> None:
    """Put `data` at `path` whole or not at all: a temporary file beside it, fsync, rename, fsync.

    Raises `OSError` naming the path; the old file is then untouched and the temporary one gone.
    What is there and no regular file (a device, a pipe) is refused: a rename would destroy it.
    """
    path = os.path.realpath(path)  # through a link, to the file that it stands for
    mode = _mode(path)
    if mode is not None and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise OSError(errno.EINVAL, "is no regular file; nothing was changed", path)
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f".{name[:100]}.{os.urandom(6).hex()}.tmp")
    try:
        _write(temporary, data, mode)
        os.replace(temporary, path)
    except BaseException as error:
        with suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError) and error.errno is not None:
            text = f"{error.strerror or error}; nothing was changed"
            raise OSError(error.errno, text, path) from error
        raise
    _sync_folder(folder)


def _mode(path: str) -> int | None:
    """The old file's kind and permissions; the new one shall keep them."""
    try:
        return os.stat(path).st_mode
    except OSError:
        return None


def _write(path: str, data: bytes, mode: int | None) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    handle = os.open(path, flags, 0o666)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(handle, rest[: 2**30]) :]
        os.fsync(handle)
    finally:
        os.close(handle)
    if mode is not None:
        os.chmod(path, stat.S_IMODE(mode))


def _sync_folder(folder: str) -> None:
    """Make the rename itself safe, where the system can."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(handle)
