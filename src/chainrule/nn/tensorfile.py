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
import re
import stat
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, BinaryIO, NamedTuple

import numpy as np

__all__ = [
    "MAX_HEADER",
    "Entry",
    "Header",
    "Refusal",
    "allocate",
    "demand_room",
    "encode",
    "fill",
    "in_order",
    "open_regular",
    "outline",
    "parse",
    "raw_header",
    "read_header",
    "read_tensors",
    "shown",
    "write_whole",
]

MAX_HEADER = 10 * 2**20
MAX_VALUES = 250_000  # in a header: each is an object in memory, many times its text
MAX_AXES = 32
NUMPY_NAMES = {
    "BOOL": "|b1", "U8": "|u1", "I8": "|i1", "U16": "<u2", "I16": "<i2", "U32": "<u4",
    "I32": "<i4", "U64": "<u8", "I64": "<i8", "F16": "<f2", "F32": "<f4", "F64": "<f8",
    "BF16": "<u2",  # as its bits: NumPy has no such number
}  # fmt: skip
MODEL_DTYPES = ("F16", "F32", "F64")
KEY = "chainrule"
BLANK = "0" * 64
AN_HOUR = 3600.0
Array = np.ndarray[Any, Any]

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
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        _demand_regular(os.stat(path).st_mode)  # first: to open a device may do something to it
        handle = os.open(path, flags)
        try:
            _demand_regular(os.fstat(handle).st_mode)  # it may have been exchanged since
            return os.fdopen(handle, "rb")
        except BaseException:
            os.close(handle)
            raise
    except FileNotFoundError:
        raise Refusal("no such file; check the path") from None
    except OSError as error:
        raise Refusal(f"cannot be read ({error.strerror})") from None
    except ValueError:  # a NUL in the path, or what no path can hold
        raise Refusal("is not a possible path") from None


def _demand_regular(mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise Refusal("is no regular file; give the path of a model file")


def read_header(file: BinaryIO, dtypes: Sequence[str] = MODEL_DTYPES) -> Header:
    """The checked header of a file that `save` wrote; the file is left where its tensors begin."""
    raw, room = raw_header(file)
    return parse(raw, room, dtypes)


def raw_header(file: BinaryIO) -> tuple[bytes, int]:
    """The bytes of the header, and how many follow it; nothing is read that is not there."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
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
    return raw, size - 8 - length


def parse(raw: bytes, room: int, dtypes: Sequence[str] = MODEL_DTYPES) -> Header:
    """The header in `raw`, which must describe exactly the `room` bytes that follow it."""
    entries, metadata = outline(raw, room, dtypes)
    text = metadata.get(KEY) if isinstance(metadata, dict) and len(metadata) == 1 else None
    if not isinstance(text, str):
        raise Refusal(
            "was not written by chainrule's save: it has no architecture. If it holds a dense"
            " network, use chainrule.from_state_dict; else build the model, read the tensors with"
            " safetensors.numpy.load_file and give them to model.load_state_dict"
        )
    document = strict_json(text.encode("utf-8", "surrogatepass"), "architecture")
    return Header(raw, entries, document)


def outline(raw: bytes, room: int, dtypes: Sequence[str]) -> tuple[dict[str, Entry], Any]:
    """The tensors of any safetensors file, checked against its length, and its metadata."""
    header = strict_json(raw, "header")
    metadata = header.pop("__metadata__", None)
    entries = {name: _entry(name, facts, room, dtypes) for name, facts in header.items()}
    _demand_every_byte(entries, room)
    return entries, metadata


def strict_json(raw: bytes, what: str) -> dict[str, Any]:
    """The JSON object in `raw`; duplicate keys, NaN, ∞ and bottomless nesting are refused."""
    try:
        if not raw.startswith(b"{"):
            raise ValueError("no JSON object")
        if sum(map(raw.count, (b",", b"[", b"{"))) > MAX_VALUES:
            raise ValueError(f"more than {MAX_VALUES} values")
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


def _entry(name: str, facts: Any, room: int, dtypes: Sequence[str]) -> Entry:
    """A tensor's entry, each field of the type and within the bounds that it must have."""
    where = f"is altered: tensor {name[:60]!r} has"
    if not isinstance(facts, dict) or set(facts) != {"dtype", "shape", "data_offsets"}:
        raise Refusal(f"{where} not exactly dtype, shape and data_offsets")
    dtype, shape, offsets = facts["dtype"], facts["shape"], facts["data_offsets"]
    if not isinstance(dtype, str) or dtype not in dtypes:
        raise Refusal(f"{where} dtype {shown(dtype)}; expected one of {', '.join(dtypes)}")
    if not isinstance(shape, list) or len(shape) > MAX_AXES or not all(map(_natural, shape)):
        raise Refusal(f"{where} an impossible shape")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(map(_natural, offsets)):
        raise Refusal(f"{where} impossible offsets")
    begin, end = offsets
    if begin > end or end > room:
        raise Refusal(f"is cut short: tensor {name[:60]!r} lies outside the file; {RESAVE}")
    if end - begin != math.prod(shape) * np.dtype(NUMPY_NAMES[dtype]).itemsize:
        raise Refusal(f"{where} {end - begin} bytes, which is not what its shape and dtype need")
    return Entry(dtype, tuple(shape), begin, end)


def shown(value: Any) -> str:
    """A stranger's value in a message: short, and never walked through."""
    if value is None or isinstance(value, (bool, float)):
        return repr(value)
    if isinstance(value, int):
        return str(value) if abs(value) < 10**20 else "a huge number"
    return repr(value[:20]) if isinstance(value, str) else f"a {type(value).__name__}"


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


def read_tensors(file: BinaryIO, header: Header) -> dict[str, Array]:
    """The tensors as arrays of their own, their digest found right."""
    tensors = allocate(header.entries)
    fill(file, header, tensors)
    return tensors


def demand_room(entries: Mapping[str, Entry]) -> None:
    """Refuse more than this machine has before any of it is taken (a file may be sparse)."""
    needed, there = sum(entry.end - entry.begin for entry in entries.values()), _memory()
    if needed > there:
        raise Refusal(f"holds {needed} bytes of tensors; this machine's memory has {there}")


def allocate(entries: Mapping[str, Entry]) -> dict[str, Array]:
    """Room for each tensor, if this machine has it."""
    demand_room(entries)
    return {
        name: np.empty(entry.shape, np.dtype(NUMPY_NAMES[entry.dtype]).newbyteorder("="))
        for name, entry in entries.items()
    }


def _memory() -> float:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows; a system that does not say
        return math.inf


def fill(file: BinaryIO, header: Header, arrays: Mapping[str, Array]) -> None:
    """Read the tensors into arrays of their shapes and dtypes, and demand the digest.

    They are filled in place, so that no byte of the file is in memory twice; where the digest is
    wrong they hold what must not be used.
    """
    recorded = header.document.get("sha256")
    found = _begun(header.raw, recorded)
    for part in in_order(file, header.entries, arrays):
        found.update(part)
    if found.hexdigest() != recorded:
        raise Refusal(f"is altered or damaged: its contents do not match its digest; {RESAVE}")


def in_order(
    file: BinaryIO, entries: Mapping[str, Entry], arrays: Mapping[str, Array]
) -> Iterator[memoryview]:
    """Fill each array from the file, as the tensors lie in it, and give its bytes as they lie."""
    for name in sorted(entries, key=lambda name: entries[name].begin):
        part = arrays[name].reshape(-1).view(np.uint8).data
        if file.readinto(part) != part.nbytes:  # type: ignore[attr-defined]
            raise Refusal(f"is cut short; {RESAVE}")
        yield part
        if sys.byteorder == "big":
            arrays[name].byteswap(inplace=True)


def _begun(raw: bytes, recorded: Any) -> hashlib._Hash:
    """SHA-256 of the file as far as the header, in which the recorded digest is blanked.

    It finds damage, not malice: whoever alters a file on purpose can write a new digest.
    """
    mark = recorded.encode("utf-8", "replace") if isinstance(recorded, str) else b""
    blank = raw.replace(mark, BLANK.encode()) if len(mark) == len(BLANK) else b""
    return hashlib.sha256(len(raw).to_bytes(8, "little") + blank)


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
    Only where the folder cannot be synced after the rename the new file is in place, which the
    message says. What is there and no regular file (a device, a pipe) is refused: a rename would
    destroy it. A process that is killed leaves a hidden file `.NAME.….tmp`; the first save of the
    same name an hour later removes it.
    """
    try:
        target, mode = _target(path)
        folder, name = os.path.split(target)
        _sweep(folder, name)
        temporary = os.path.join(folder, f"{_stem(name)}{os.urandom(6).hex()}.tmp")
        try:
            _write(temporary, data, mode)
            os.replace(temporary, target)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise
    except OSError as error:
        raise _naming(error, path, "nothing was changed") from error
    try:
        _sync_folder(folder)
    except OSError as error:
        note = "the new file is in place, but a power cut might still undo it"
        raise _naming(error, path, note) from error


def _naming(error: OSError, path: str, note: str) -> OSError:
    return OSError(error.errno or errno.EIO, f"{error.strerror or error}; {note}", path)


def _target(path: str) -> tuple[str, int | None]:
    """The file that a link stands for, and the mode of the old one, which the new one shall keep.

    A disk that cannot say what is there is believed to have something: only "no such file" is new.
    """
    try:
        target = os.path.realpath(path, strict=True)
        mode = os.stat(target).st_mode
    except FileNotFoundError:
        return os.path.realpath(path), None
    except ValueError:  # a NUL, or what no path can hold
        raise OSError(errno.EINVAL, "is not a possible path") from None
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise OSError(errno.EINVAL, "is no regular file")
    return target, mode


def _stem(name: str) -> str:
    return f".{name[:50]}."  # 255 bytes hold it and what follows, in any script


def _sweep(folder: str, name: str) -> None:
    """Remove what saves of this name left that were killed, when none can be at work any more."""
    with suppress(OSError):
        for entry in os.listdir(folder or "."):
            place = os.path.join(folder, entry)
            if _left_over(entry, name) and os.lstat(place).st_mtime < time.time() - AN_HOUR:
                os.unlink(place)


def _left_over(entry: str, name: str) -> bool:
    rest = entry.removeprefix(_stem(name))
    return rest != entry and re.fullmatch(r"[0-9a-f]{12}\.tmp", rest) is not None


def _write(path: str, data: bytes, mode: int | None) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    handle = os.open(path, flags, 0o666)
    try:
        rest = memoryview(data)
        while rest:
            written = os.write(handle, rest[: 2**30])
            if written < 1:
                raise OSError(errno.EIO, "the disk takes no more")
            rest = rest[written:]
        os.fsync(handle)
    finally:
        os.close(handle)
    if mode is not None:
        os.chmod(path, stat.S_IMODE(mode))


def _sync_folder(folder: str) -> None:
    """Make the rename itself safe, where the system can and lets us."""
    if os.name == "nt":
        return
    unable = (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES, errno.EPERM)
    try:
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        if error.errno not in unable:
            raise
