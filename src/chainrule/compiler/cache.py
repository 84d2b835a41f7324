"""Compiled objects on disk, from one process to the next: at worst they are compiled anew.

Whoever can put machine code here can run it as us. So the folder and its files must be ours alone,
each is opened once and judged by its descriptor, and an object is loaded only with a MAC under a
secret of this user. What is in doubt is not read but written anew. No failure reaches the caller:
a full disk or a folder that cannot be trusted means no cache, and `state` says why.
"""

from __future__ import annotations

import errno
import hashlib
import hmac
import os
import re
import secrets
import shutil
import stat
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

__all__ = ["State", "clear", "key_of", "lookup", "state", "store"]

MEGABYTE = 1 << 20
BOUND = 256  # megabytes, unless CHAINRULE_CACHE_SIZE says otherwise
LARGEST = 64 * MEGABYTE  # of one object; a larger file is not even read
STALE = 3600.0  # seconds after which a temporary file has lost its writer

# magic, format, length of the object; then the MAC, then the object.
HEADER = struct.Struct("<8sIQ")
MAGIC, FORMAT = b"chainobj", 1
SEALED = HEADER.size + hashlib.sha256().digest_size

SECRET, SECRET_BYTES = "secret", 32
OBJECT_NAME = re.compile(r"[0-9a-f]{64}\.o")
# Every name that the cache gives: the secret, an object's, or either's while it is written.
OURS = re.compile(r"(secret|[0-9a-f]{64}\.o)|\.(secret|[0-9a-f]{64}\.o)\.[0-9a-f]{16}\.tmp")

_spare: dict[tuple[str, int], int] = {}  # folder and bound → bytes to store before it is read again

# Owners, modes and names relative to an open folder; Windows has its per-user folder instead.
POSIX = hasattr(os, "geteuid") and os.open in os.supports_dir_fd
# Neither a link is followed nor a pipe waited for.
READ = os.O_RDONLY
WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL
for _flag in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY", "O_NOINHERIT", "O_NOCTTY"):
    READ |= getattr(os, _flag, 0)
    WRITE |= getattr(os, _flag, 0)


@dataclass(frozen=True)
class State:
    """What is in the cache. `why_not` is empty where it is `usable`."""

    folder: str
    files: int
    bytes: int
    bound: int
    usable: bool
    why_not: str


class _NoCacheError(Exception):
    """There is no cache to use; its text says why, and the repair."""


def key_of(*parts: str) -> str:
    """SHA-256 of texts, each with its length, so that no two lists of texts share a key."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode()
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


def lookup(key: str) -> bytes | None:
    """The object that was stored under the key, or None where there is none that can be trusted."""
    name = _name(key)
    try:
        with _opened() as folder:
            secret = folder.read(SECRET, private=True)
            sealed = folder.read(name)
            if secret is None or len(secret) != SECRET_BYTES or sealed is None:
                return None
            object = _unsealed(sealed, secret, key)
            if object is not None:
                folder.touch(name)
            return object
    except (_NoCacheError, OSError):
        return None


def store(key: str, object: bytes) -> None:
    """Keep an object; the least recently used ones give way where the bound is passed."""
    name = _name(key)
    if len(object) + SEALED > min(_bound(), LARGEST):
        return
    with suppress(_NoCacheError, OSError), _opened(make=True) as folder:
        folder.write(name, _sealed(object, folder.secret(), key))
        folder.keep_within(_bound(), name, len(object) + SEALED)


def clear() -> tuple[int, int]:
    """Remove every object, and the secret; returns how many objects, and their bytes."""
    files = size = 0
    with suppress(_NoCacheError, OSError), _opened() as folder:
        for name, about in list(folder.entries()):
            try:
                folder.remove(name)
            except OSError:
                continue
            if OBJECT_NAME.fullmatch(name):
                files, size = files + 1, size + about.st_size
    return files, size


def state() -> State:
    """What is in the cache, and whether it can be used. Nothing is made or changed."""
    path, files, size = "", 0, 0
    try:
        path = _place()
        with _opened() as folder:
            sizes = [a.st_size for name, a in folder.entries() if OBJECT_NAME.fullmatch(name)]
            files, size = len(sizes), sum(sizes)
        _demand_room(path)
        why_not = ""
    except FileNotFoundError:
        why_not = _why_not_made(path)
    except _NoCacheError as error:
        why_not = str(error)
    except OSError as error:
        why_not = f"{error.strerror or error}; set CHAINRULE_CACHE_DIR to another folder"
    return State(path, files, size, _bound(), not why_not, why_not)


# -- where, and how much --------------------------------------------------------------------------


def _place() -> str:
    """The folder's path, as the environment or the platform has it."""
    asked = os.environ.get("CHAINRULE_CACHE_DIR")
    if asked is not None:
        if asked.strip().lower() in ("", "off"):
            raise _NoCacheError("switched off by CHAINRULE_CACHE_DIR; unset it")
        return os.path.abspath(os.path.expanduser(asked))
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA", "")
    elif sys.platform == "darwin":
        base = os.path.expanduser("~/Library/Caches")
    else:
        base = os.environ.get("XDG_CACHE_HOME", "")
        if not os.path.isabs(base):  # which the standard says to ignore
            base = os.path.expanduser("~/.cache")
    if not os.path.isabs(base):
        raise _NoCacheError("this user has no home folder; set CHAINRULE_CACHE_DIR to a folder")
    return os.path.join(base, "chainrule", "objects")


def _bound() -> int:
    """In bytes."""
    try:
        asked = float(os.environ.get("CHAINRULE_CACHE_SIZE", BOUND))
        return int(asked * MEGABYTE) if asked >= 0 else BOUND * MEGABYTE
    except (ValueError, OverflowError):  # also of nan and inf
        return BOUND * MEGABYTE


def _demand_room(path: str) -> None:
    if _bound() == 0:
        raise _NoCacheError("CHAINRULE_CACHE_SIZE is 0; unset it, or give megabytes")
    if not os.access(path, os.W_OK | os.X_OK):
        raise _NoCacheError("it cannot be written to; set CHAINRULE_CACHE_DIR to another folder")
    if shutil.disk_usage(path).free < MEGABYTE:
        raise _NoCacheError("the disk is full; make room, or set CHAINRULE_CACHE_DIR to another")


def _why_not_made(path: str) -> str:
    """Why a folder that is not there yet could not be made; empty where it could."""
    above = next(folder for folder in Path(path).parents if os.path.lexists(folder))
    try:
        if not above.is_dir():
            return f"{above} is no folder; set CHAINRULE_CACHE_DIR to another place"
        _demand_room(str(above))
    except _NoCacheError as error:
        return str(error)
    return ""


# -- the folder -----------------------------------------------------------------------------------


@contextmanager
def _opened(make: bool = False) -> Iterator[_Folder]:
    """The folder, held open and found to be ours; FileNotFoundError where there is none."""
    path = _place()
    if make and not os.path.lexists(path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with suppress(FileExistsError):  # another process was faster
            os.mkdir(path, 0o700)
    if not POSIX:
        _demand_ours(os.lstat(path), path)
        yield _Folder(path, None)
        return
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise _NoCacheError(
                "it is a link or no folder; remove it, or set CHAINRULE_CACHE_DIR to a folder"
            ) from None
        raise
    try:
        _demand_ours(os.fstat(descriptor), path)
        yield _Folder(path, descriptor)
    finally:
        os.close(descriptor)


def _demand_ours(about: os.stat_result, path: str) -> None:
    if not stat.S_ISDIR(about.st_mode) or _is_link(about):
        raise _NoCacheError(
            "it is a link or no folder; remove it, or set CHAINRULE_CACHE_DIR to a folder"
        )
    if not POSIX:
        return
    if os.getuid() != os.geteuid():
        raise _NoCacheError("the program runs with another user's rights than its caller's")
    if about.st_uid != os.geteuid():
        raise _NoCacheError("it belongs to another user; set CHAINRULE_CACHE_DIR to one of yours")
    if about.st_mode & 0o022:
        raise _NoCacheError(f"others may write to it; run chmod go-w '{path}' and clear it")


def _is_link(about: os.stat_result) -> bool:
    """Also Windows' junctions."""
    return stat.S_ISLNK(about.st_mode) or bool(getattr(about, "st_file_attributes", 0) & 0x400)


class _Folder:
    """A folder that is ours; names are looked up in it by its descriptor, never by the path."""

    def __init__(self, path: str, descriptor: int | None) -> None:
        self.path, self.descriptor = path, descriptor

    def _at(self, name: str) -> str:
        return name if self.descriptor is not None else os.path.join(self.path, name)

    def read(self, name: str, private: bool = False) -> bytes | None:
        """A file of ours, whole; None where there is none, or the least doubt of it.

        A `private` one must not even be readable by others.
        """
        try:
            if not POSIX and _is_link(os.lstat(self._at(name))):
                return None
            descriptor = os.open(self._at(name), READ, dir_fd=self.descriptor)
        except OSError:
            return None
        try:
            about = os.fstat(descriptor)
            if not stat.S_ISREG(about.st_mode) or about.st_nlink != 1 or about.st_size > LARGEST:
                return None
            if POSIX and about.st_uid != os.geteuid():
                return None
            if POSIX and about.st_mode & (0o077 if private else 0o022):
                return None
            parts, left = [], about.st_size
            while left and (part := os.read(descriptor, left)):
                parts.append(part)
                left -= len(part)
            return b"".join(parts)
        finally:
            os.close(descriptor)

    def write(self, name: str, data: bytes) -> None:
        """The file appears whole or not at all, in place of whatever was there."""
        temporary = self._at(f".{name}.{secrets.token_hex(8)}.tmp")
        descriptor = os.open(temporary, WRITE, 0o600, dir_fd=self.descriptor)
        try:
            try:
                view = memoryview(data)
                while view:
                    view = view[os.write(descriptor, view) :]
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            try:
                self._replace(temporary, name)
            except (IsADirectoryError, PermissionError):
                os.rmdir(self._at(name), dir_fd=self.descriptor)  # only where it is empty
                self._replace(temporary, name)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary, dir_fd=self.descriptor)
            raise

    def _replace(self, temporary: str, name: str) -> None:
        here = self.descriptor
        os.replace(temporary, self._at(name), src_dir_fd=here, dst_dir_fd=here)

    def secret(self) -> bytes:
        """This user's key of the MACs, made at the first use.

        Of two processes that make it at once the last one wins; what the other has stored by then
        is compiled once more.
        """
        for _ in range(2):
            secret = self.read(SECRET, private=True)
            if secret is not None and len(secret) == SECRET_BYTES:
                return secret
            self.write(SECRET, secrets.token_bytes(SECRET_BYTES))
        raise _NoCacheError("its secret cannot be kept")

    def touch(self, name: str) -> None:
        """Note that it was used now."""
        with suppress(OSError):
            os.utime(self._at(name), dir_fd=self.descriptor)

    def remove(self, name: str) -> None:
        """Remove one file."""
        os.unlink(self._at(name), dir_fd=self.descriptor)

    def entries(self) -> Iterator[tuple[str, os.stat_result]]:
        """The files that the cache has made; a user's own files are never among them."""
        with os.scandir(self.path if self.descriptor is None else self.descriptor) as found:
            for entry in found:
                if not OURS.fullmatch(entry.name):
                    continue
                with suppress(OSError):  # another process has just removed it
                    about = entry.stat(follow_symlinks=False)
                    if stat.S_ISREG(about.st_mode):
                        yield entry.name, about

    def keep_within(self, bound: int, name: str, size: int) -> None:
        """See that the bound holds after `name`, of so many bytes, was stored.

        The folder is read through at a process' first store and then only when what it adds could
        pass the bound, were three others adding as much: 10 000 files are slow to look at.
        """
        place = (self.path, bound)
        left = _spare.get(place, 0) - size
        _spare[place] = left if left > 0 else self._trim(bound, name) // 4

    def _trim(self, bound: int, keep: str) -> int:
        """Remove what was used longest ago where the bound is passed, and dead writers' files.

        Returns the bytes that are left below the bound.
        """
        now, objects = time.time(), []
        for name, about in list(self.entries()):
            if OBJECT_NAME.fullmatch(name):
                objects.append((about.st_mtime_ns, name, about.st_size))
            elif name != SECRET and now - about.st_mtime > STALE:
                with suppress(OSError):
                    self.remove(name)
        total = sum(size for _, _, size in objects)
        if total > bound:
            # A little more than needed, so that the next store need not do it again.
            for _, name, size in sorted(objects):
                if total > bound - bound // 16 and name != keep:
                    with suppress(OSError):
                        self.remove(name)
                    total -= size
        return bound - total


# -- one file -------------------------------------------------------------------------------------


def _name(key: str) -> str:
    name = f"{key}.o"
    if not OBJECT_NAME.fullmatch(name):
        raise ValueError(f"a key is 64 hexadecimal digits, not {key!r}; make it with key_of")
    return name


def _mac(header: bytes, object: bytes, secret: bytes, key: str) -> bytes:
    """Over the key too, so that no file serves for another."""
    made = hmac.new(secret, header + bytes.fromhex(key), "sha256")
    made.update(object)
    return made.digest()


def _sealed(object: bytes, secret: bytes, key: str) -> bytes:
    header = HEADER.pack(MAGIC, FORMAT, len(object))
    return header + _mac(header, object, secret, key) + object


def _unsealed(sealed: bytes, secret: bytes, key: str) -> bytes | None:
    header, mac, object = sealed[: HEADER.size], sealed[HEADER.size : SEALED], sealed[SEALED:]
    if header != HEADER.pack(MAGIC, FORMAT, len(object)):
        return None
    return object if hmac.compare_digest(mac, _mac(header, object, secret, key)) else None
