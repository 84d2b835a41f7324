"""A disk that fails: run a save in which the k-th system call goes wrong, for every k.

    for outcome in every_failure(lambda: model.save(path), OSError(errno.ENOSPC, "…")):
        assert path.read_bytes() in (old, new)

`every_failure` lets call 1 fail, then call 2, …, and ends with the run in which nothing failed.
`every_kill` does the same in forked children that are killed at the k-th call, before it, after it
or with half of a write done. `power_cuts` records one save and gives what a disk may hold after the
power went, when what was never synced may or may not have reached it.

What the save calls must be functions of `os` (as `write_whole` does): `CALLS` names those that are
watched, whichever thread makes them. Writes are cut into pieces of `SHORT` bytes, as a system may.
"""

from __future__ import annotations

import os
import signal
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

CALLS = (
    "open", "write", "fsync", "close", "stat", "lstat", "fstat", "chmod", "fchmod", "replace",
    "rename", "link", "unlink", "remove", "mkdir", "rmdir", "scandir", "listdir", "utime",
)  # fmt: skip
SHORT = 1000
Save = Callable[[], object]


@dataclass
class Outcome:
    """One run of the save."""

    number: int  # of the call that went wrong, from 1
    calls: list[str]  # the names of the calls, up to that one and beyond
    error: BaseException | None = None  # what the save raised; None where it said nothing
    killed: bool = False

    @property
    def failed(self) -> bool:
        """Whether a call did go wrong: the last run is the one in which none did."""
        return len(self.calls) >= self.number

    @property
    def call(self) -> str:
        """The name of the call that went wrong, "" if none did."""
        return self.calls[self.number - 1] if self.failed else ""

    @property
    def replaced(self) -> bool:
        """Whether the new file is in its place: it was put there before, or nothing was said."""
        silent = self.error is None and not self.killed
        return silent or "replace" in self.calls[: self.number - 1]


@contextmanager
def watched(before: Callable[[int, str, Any, tuple[Any, ...]], Any]) -> Iterator[list[str]]:
    """Within, calls of `os` go through `before(number, name, real, args)`, which may do anything.

    It returns None to let the call go on, or its result in a list.
    """
    made: list[str] = []
    lock = threading.Lock()

    def wrapper(name: str, real: Any) -> Any:
        def call(*args: Any, **keywords: Any) -> Any:
            with lock:
                made.append(name)
                number = len(made)
            if name == "write":
                args = (args[0], bytes(args[1][:SHORT]))
            done = before(number, name, real, args)
            return real(*args, **keywords) if done is None else done[0]

        return call

    real = {name: getattr(os, name) for name in CALLS if hasattr(os, name)}
    with mock.patch.multiple(os, **{name: wrapper(name, real[name]) for name in real}):
        yield made


def every_failure(
    save: Save, error: BaseException, *, lasting: bool = False, after: bool = False
) -> Iterator[Outcome]:
    """Run `save` with `error` raised in place of its 1st, 2nd, … call, until none is reached.

    With `lasting` opening, writing and syncing fail from then on as well, as on a disk that stays
    full; with `after` the call is made first, as when a key is pressed during it. Whoever iterates
    puts things back before the next run. The last outcome has `failed` False.
    """
    number = 0
    while True:
        number += 1
        outcome = _failing(save, error, number, lasting, after)
        yield outcome
        if not outcome.failed:
            return


def _failing(save: Save, error: BaseException, at: int, lasting: bool, after: bool) -> Outcome:
    def before(number: int, name: str, real: Any, args: tuple[Any, ...]) -> None:
        stays = lasting and number > at and name in ("open", "write", "fsync")
        if number != at and not stays:
            return
        if after or name == "close":  # as Linux does: the descriptor is gone all the same
            real(*args)
        raise error

    with watched(before) as calls:
        outcome = Outcome(at, calls)
        try:
            save()
        except (OSError, KeyboardInterrupt) as caught:
            outcome.error = caught
    return outcome


def every_kill(save: Save, *, how: str = "before") -> Iterator[Outcome]:
    """Run `save` in forked children that SIGKILL ends at the 1st, 2nd, … call, until one is done.

    `how`: "before" the call, "after" it, or "half": a write leaves half of its bytes.
    """
    number = 0
    while True:
        number += 1
        outcome = _killed(save, number, how)
        yield outcome
        if not outcome.failed:
            return


def _killed(save: Save, at: int, how: str) -> Outcome:
    def before(number: int, name: str, real: Any, args: tuple[Any, ...]) -> None:
        os_write(told, f"{name}\n".encode())
        if number != at:
            return
        if how == "after":
            with suppress(OSError):  # a call may fail by itself: a file that is not there
                real(*args)
        elif how == "half" and name == "write":
            real(args[0], args[1][: len(args[1]) // 2])
        os.kill(os.getpid(), signal.SIGKILL)

    def child() -> None:
        with watched(before):
            save()

    os_write, (heard, told) = os.write, os.pipe()
    status = in_child(child)
    os.close(told)
    with open(heard, encoding="ascii") as pipe:
        calls = pipe.read().split()
    killed = os.WIFSIGNALED(status)
    assert killed == (len(calls) >= at), f"the child ended with status {status}"
    assert killed or status == 0, f"the save failed by itself: status {status}"
    return Outcome(at, calls, killed=killed)


def in_child(
    work: Callable[[], object],
    *,
    kill_after: float | tuple[float, signal.Signals] | None = None,
    seconds: float = 60.0,
) -> int:
    """The wait status of a forked child that did `work`: exit 0 if all went well, 130 for Ctrl-C.

    With `kill_after` it is killed after so many seconds (by SIGKILL, or by the signal given with
    them); that it takes longer than `seconds` is an `AssertionError`.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside other threads
        # Ctrl-C waits until it can be caught: a child that escaped would go on as the test itself.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            work()
            code = 0
        except KeyboardInterrupt:
            code = 130
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    if kill_after is not None:
        after = kill_after if isinstance(kill_after, tuple) else (kill_after, signal.SIGKILL)
        time.sleep(after[0])
        os.kill(child, after[1])
    return _waited(child, seconds)


def _waited(child: int, seconds: float) -> int:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    raise AssertionError(f"the child did not end within {seconds} s")


# -- power cuts ---------------------------------------------------------------------------------


@dataclass
class _Inode:
    """The bytes of a file: what is safe, and the writes that no fsync has followed yet."""

    safe: bytes = b""
    pending: list[bytes] = field(default_factory=list)

    def after_a_cut(self, rng: np.random.Generator) -> bytes:
        """Any of the unsynced writes may be missing: zeros before a later one, else the end."""
        kept = [rng.random() < 0.5 for _ in self.pending]
        data, last = bytearray(self.safe), max((k for k, x in enumerate(kept) if x), default=-1)
        for piece, there in zip(self.pending[: last + 1], kept, strict=False):
            data += piece if there else bytes(len(piece))
        return bytes(data)


def power_cuts(save: Save, path: Path, times: int, seed: int = 0) -> Iterator[bytes | None]:
    """What `path` may hold after a power cut during `save`, `times` times; None for no file.

    One save is recorded; then power goes at a random call. Data that was not synced is lost in
    random pieces, and of the folder's changes (create, rename) a random number of the last ones
    since it was synced. The last of what is given is the file when the save had ended.
    """
    old = path.read_bytes() if path.exists() else None
    log = _recorded(save)
    rng = np.random.default_rng(seed)
    for k in range(times):
        cut = len(log) if k == times - 1 else int(rng.integers(len(log) + 1))
        yield _replayed(log[:cut], os.path.realpath(path), old, rng)


def _recorded(save: Save) -> list[tuple[Any, ...]]:
    """What `save` asks of the disk, call by call."""
    log: list[tuple[Any, ...]] = []
    opened: dict[int, str] = {}

    def before(number: int, name: str, real: Any, args: tuple[Any, ...]) -> Any:
        if name == "open":
            handle = real(*args)
            opened[handle] = os.fsdecode(args[0])
            kind = "create" if args[1] & os.O_CREAT else "look"
            log.append((kind, opened[handle]))
            return [handle]
        if name == "write":
            log.append(("write", opened[args[0]], args[1]))
        elif name == "fsync":
            log.append(("sync", opened[args[0]]))
        elif name in ("replace", "rename"):
            log.append(("move", os.fsdecode(args[0]), os.fsdecode(args[1])))
        elif name in ("unlink", "remove"):
            log.append(("drop", os.fsdecode(args[0])))
        return None

    with watched(before):
        save()
    return log


def _replayed(
    log: list[tuple[Any, ...]], path: str, old: bytes | None, rng: np.random.Generator
) -> bytes | None:
    names: dict[str, _Inode] = {} if old is None else {path: _Inode(old)}
    safe, history = dict(names), [dict(names)]  # the folder as synced, and as it went on since
    for kind, place, *more in log:
        if kind == "write":
            names[place].pending.append(more[0])
        elif kind == "sync" and place in names:
            inode = names[place]
            inode.safe, inode.pending = inode.safe + b"".join(inode.pending), []
        elif kind == "sync":
            safe = dict(names)
            history = [safe]
        elif kind == "create":
            names[place] = _Inode()
        elif kind == "move":
            names[more[0]] = names.pop(place)
        elif kind == "drop":
            names.pop(place, None)
        history.append(dict(names))
    found = history[int(rng.integers(len(history)))].get(path)
    return None if found is None else found.after_a_cut(rng)
