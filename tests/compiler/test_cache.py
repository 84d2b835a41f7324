"""The object cache: nothing altered, foreign or torn is loaded, and no failure reaches the user."""

from __future__ import annotations

import errno
import hashlib
import hmac
import os
import stat
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainrule.compiler import cache

KEY, OTHER = cache.key_of("one"), cache.key_of("two")
OBJECT = bytes(range(256)) * 8
MAC, START = cache.HEADER.size, cache.SEALED
posix = pytest.mark.skipif(not cache.POSIX, reason="owners and modes are POSIX's")
root = pytest.mark.skipif(
    not cache.POSIX or os.geteuid() != 0, reason="only root can give a file to another user"
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with one object in it."""
    path = tmp_path / "objects"
    monkeypatch.setenv("CHAINRULE_CACHE_DIR", str(path))
    monkeypatch.delenv("CHAINRULE_CACHE_SIZE", raising=False)
    cache.store(KEY, OBJECT)
    assert cache.lookup(KEY) == OBJECT
    return path


def _file(folder: Path, key: str = KEY) -> Path:
    return folder / f"{key}.o"


# -- tampering ------------------------------------------------------------------------------------


def _flip(place: int) -> Callable[[Path], None]:
    def tamper(folder: Path) -> None:
        data = bytearray(_file(folder).read_bytes())
        data[place] ^= 1
        _file(folder).write_bytes(data)

    return tamper


def _data(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def tamper(folder: Path) -> None:
        _file(folder).write_bytes(change(_file(folder).read_bytes()))

    return tamper


def _sealed_with(secret: bytes, **changes: Any) -> bytes:
    """A whole file as another program might write it."""
    facts = {"magic": cache.MAGIC, "format": cache.FORMAT, "length": len(OBJECT), "key": KEY}
    facts |= changes
    header = struct.pack("<8sIQ", facts["magic"], facts["format"], facts["length"])
    said = header + bytes.fromhex(facts["key"]) + OBJECT
    return header + hmac.digest(secret, said, "sha256") + OBJECT


def _forged(**changes: Any) -> Callable[[Path], None]:
    """MAC and all are right, made with our own secret; only the facts differ."""

    def tamper(folder: Path) -> None:
        secret = (folder / "secret").read_bytes()
        assert _sealed_with(secret) == _file(folder).read_bytes()
        _file(folder).write_bytes(_sealed_with(secret, **changes))

    return tamper


def _another_users(folder: Path) -> None:
    _file(folder).write_bytes(_sealed_with(bytes(32)))


def _secret(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def tamper(folder: Path) -> None:
        place = folder / "secret"
        place.write_bytes(change(place.read_bytes()))

    return tamper


def _mode(name: str, mode: int) -> Callable[[Path], None]:
    return lambda folder: os.chmod(folder / name, mode)


def _link(name: str) -> Callable[[Path], None]:
    def tamper(folder: Path) -> None:
        elsewhere = folder.parent / "elsewhere"
        os.rename(folder / name, elsewhere)
        os.symlink(elsewhere, folder / name)

    return tamper


def _hard_link(name: str) -> Callable[[Path], None]:
    return lambda folder: os.link(folder / name, folder.parent / "second")


def _replaced(name: str, make: Callable[[Path], object]) -> Callable[[Path], None]:
    def tamper(folder: Path) -> None:
        (folder / name).unlink()
        make(folder / name)

    return tamper


def _another_owner(name: str) -> Callable[[Path], None]:
    return lambda folder: os.chown(folder / name, 12345, -1)


def _swapped(folder: Path) -> None:
    """A file that is genuine, under another key's name."""
    cache.store(OTHER, b"another object")
    assert cache.lookup(OTHER) == b"another object"
    os.replace(_file(folder, OTHER), _file(folder))


def _huge(folder: Path) -> None:
    os.truncate(_file(folder), 1 << 40)  # no disk is used, but a reader would allocate it


NAME = f"{KEY}.o"
ANYWHERE: dict[str, Callable[[Path], None]] = {
    "magic, first byte": _flip(0),
    "magic, last byte": _flip(7),
    "format": _flip(8),
    "format, high byte": _flip(11),
    "length": _flip(12),
    "length, high byte": _flip(19),
    "MAC, first byte": _flip(MAC),
    "MAC, middle": _flip(MAC + 15),
    "MAC, last byte": _flip(START - 1),
    "object, first byte": _flip(START),
    "object, middle": _flip(START + 1000),
    "object, last byte": _flip(-1),
    "empty": _data(lambda data: b""),
    "one byte": _data(lambda data: data[:1]),
    "cut in the header": _data(lambda data: data[: MAC - 1]),
    "header alone": _data(lambda data: data[:MAC]),
    "cut in the MAC": _data(lambda data: data[: START - 1]),
    "no object": _data(lambda data: data[:START]),
    "cut in the object": _data(lambda data: data[: START + 100]),
    "last byte missing": _data(lambda data: data[:-1]),
    "a byte too many": _data(lambda data: data + b"\0"),
    "twice": _data(lambda data: data * 2),
    "MAC of zeros": _data(lambda data: data[:MAC] + bytes(32) + data[START:]),
    "MAC without a secret": _data(
        lambda data: data[:MAC] + hashlib.sha256(OBJECT).digest() + OBJECT
    ),
    "object alone": _data(lambda data: data[START:]),
    "text": _data(lambda data: b"no object at all\n"),
    "another user's": _another_users,
    "an older format": _forged(format=cache.FORMAT - 1),
    "a newer format": _forged(format=cache.FORMAT + 1),
    "another program's magic": _forged(magic=b"otherobj"),
    "a length that lies": _forged(length=len(OBJECT) - 1),
    "sealed for another key": _forged(key=OTHER),
    "swapped": _swapped,
    "huge": _huge,
    "missing": lambda folder: _file(folder).unlink(),
    "an empty folder in its place": _replaced(NAME, Path.mkdir),
    "secret altered": _secret(lambda data: bytes([data[0] ^ 1]) + data[1:]),
    "secret of zeros": _secret(lambda data: bytes(32)),
    "secret cut": _secret(lambda data: data[:31]),
    "secret too long": _secret(lambda data: data + b"\0"),
    "secret empty": _secret(lambda data: b""),
    "secret missing": lambda folder: (folder / "secret").unlink(),
    "an empty folder for a secret": _replaced("secret", Path.mkdir),
}
ON_POSIX: dict[str, Callable[[Path], None]] = {
    "written by all": _mode(NAME, 0o606),
    "written by the group": _mode(NAME, 0o620),
    "a link": _link(NAME),
    "a link to nothing": _replaced(NAME, lambda path: path.symlink_to("nothing")),
    "a link to itself": _replaced(NAME, lambda path: path.symlink_to(path)),
    "a link to a device": _replaced(NAME, lambda path: path.symlink_to("/dev/zero")),
    "a hard link": _hard_link(NAME),
    "a pipe": _replaced(NAME, os.mkfifo),
    "secret read by all": _mode("secret", 0o604),
    "secret written by the group": _mode("secret", 0o620),
    "secret a link": _link("secret"),
    "secret a hard link": _hard_link("secret"),
    "secret a pipe": _replaced("secret", os.mkfifo),
}
AS_ROOT = {
    "another user's file": _another_owner(NAME),
    "another user's secret": _another_owner("secret"),
}
CASES = [
    *(pytest.param(tamper, id=name) for name, tamper in ANYWHERE.items()),
    *(pytest.param(tamper, id=name, marks=posix) for name, tamper in ON_POSIX.items()),
    *(pytest.param(tamper, id=name, marks=root) for name, tamper in AS_ROOT.items()),
]


def _in_time(call: Callable[[], Any]) -> Any:
    """A pipe must not hold the caller for ever."""
    answer: list[Any] = []
    thread = threading.Thread(target=lambda: answer.append(call()), daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive(), "it hangs"
    return answer[0]


@pytest.mark.parametrize("tamper", CASES)
def test_what_is_in_doubt_is_not_loaded_but_rewritten(
    folder: Path, tamper: Callable[[Path], None]
) -> None:
    tamper(folder)
    assert _in_time(lambda: cache.lookup(KEY)) is None
    _in_time(lambda: cache.store(KEY, OBJECT))
    assert cache.lookup(KEY) == OBJECT
    about = os.lstat(_file(folder))
    assert stat.S_ISREG(about.st_mode)
    assert about.st_nlink == 1
    assert not [name for name in os.listdir(folder) if name.endswith(".tmp")]


def test_there_are_many_cases() -> None:
    assert len(CASES) >= 50


@posix
def test_a_rewrite_does_not_touch_what_a_link_led_to(folder: Path) -> None:
    victim = folder.parent / "victim"
    victim.write_bytes(b"kept")
    for link in (os.symlink, os.link):
        _file(folder).unlink()
        link(victim, _file(folder))
        cache.store(KEY, OBJECT)
        assert cache.lookup(KEY) == OBJECT
        assert victim.read_bytes() == b"kept"


@given(place=st.integers(0, START + len(OBJECT) - 1), bit=st.integers(0, 7))
def test_no_flipped_bit_is_unsealed(place: int, bit: int) -> None:
    sealed = bytearray(cache._sealed(OBJECT, b"s" * 32, KEY))
    assert cache._unsealed(bytes(sealed), b"s" * 32, KEY) == OBJECT
    sealed[place] ^= 1 << bit
    assert cache._unsealed(bytes(sealed), b"s" * 32, KEY) is None


# -- a folder that cannot be trusted --------------------------------------------------------------


def _to_link(folder: Path) -> None:
    os.rename(folder, folder.parent / "real")
    os.symlink(folder.parent / "real", folder)


def _to_file(folder: Path) -> None:
    os.rename(folder, folder.parent / "real")
    folder.write_bytes(b"kept")


def _to_pipe(folder: Path) -> None:
    os.rename(folder, folder.parent / "real")
    os.mkfifo(folder)


FOLDERS = [
    pytest.param(_mode(".", 0o707), "others may write to it; run chmod go-w '", id="all"),
    pytest.param(_mode(".", 0o720), "others may write to it; run chmod go-w '", id="group"),
    pytest.param(_mode(".", 0o1777), "others may write to it; run chmod go-w '", id="sticky"),
    pytest.param(_to_link, "it is a link or no folder; remove it, or set CHA", id="link"),
    pytest.param(_to_file, "it is a link or no folder; remove it, or set CHA", id="file"),
    pytest.param(_to_pipe, "it is a link or no folder; remove it, or set CHA", id="pipe"),
    pytest.param(
        _another_owner("."),
        "it belongs to another user; set CHAINRULE_CACHE_DIR",
        id="owner",
        marks=root,
    ),
]


@posix
@pytest.mark.parametrize(("tamper", "why"), FOLDERS)
def test_a_folder_in_doubt_is_not_used(
    folder: Path, tamper: Callable[[Path], None], why: str
) -> None:
    tamper(folder)
    before = {path: path.read_bytes() for path in folder.parent.rglob("*") if path.is_file()}
    assert _in_time(lambda: cache.lookup(KEY)) is None
    _in_time(lambda: cache.store(OTHER, OBJECT))
    assert cache.lookup(OTHER) is None
    assert cache.clear() == (0, 0)
    state = cache.state()
    assert not state.usable
    assert state.why_not.startswith(why)
    assert before == {p: p.read_bytes() for p in folder.parent.rglob("*") if p.is_file()}


@posix
def test_a_program_with_borrowed_rights_has_no_cache(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getuid", lambda: os.geteuid() + 1)
    assert cache.lookup(KEY) is None
    assert "another user's rights" in cache.state().why_not


# -- failures -------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["write", "fsync", "open", "replace", "mkdir"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT])
def test_a_failing_disk_is_only_no_cache(
    folder: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    before = sorted(os.listdir(folder))
    monkeypatch.setattr(os, call, fail)
    cache.store(OTHER, OBJECT)
    monkeypatch.setenv("CHAINRULE_CACHE_DIR", str(folder.parent / "new"))
    cache.store(OTHER, OBJECT)
    monkeypatch.undo()
    monkeypatch.setenv("CHAINRULE_CACHE_DIR", str(folder))
    if call != "mkdir":  # the folder was there
        assert sorted(os.listdir(folder)) == before
        assert cache.lookup(OTHER) is None
    assert cache.lookup(KEY) == OBJECT


def test_the_disk_is_full_after_a_few_bytes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, room = os.write, [1000]

    def fill(descriptor: int, data: bytes) -> int:
        count = write(descriptor, data[: min(len(data), 300, room[0])]) if room[0] else 0
        room[0] -= count
        if not count:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return count

    monkeypatch.setattr(os, "write", fill)
    cache.store(KEY, b"new" * 1000)
    assert cache.lookup(KEY) == OBJECT  # the old one, whole
    room[0] = 10_000  # and writes that take a part only are continued
    cache.store(KEY, b"new" * 1000)
    assert cache.lookup(KEY) == b"new" * 1000
    assert len(os.listdir(folder)) == 2


def test_an_interrupted_write_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        cache.store(OTHER, OBJECT)
    assert sorted(os.listdir(folder)) == sorted([NAME, "secret"])


@posix
@pytest.mark.skipif(cache.POSIX and os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_is_read_only_is_still_read(folder: Path) -> None:
    os.chmod(folder, 0o500)
    assert cache.lookup(KEY) == OBJECT
    cache.store(OTHER, OBJECT)
    assert cache.lookup(OTHER) is None
    assert "cannot be written to" in cache.state().why_not


def test_a_place_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("CHAINRULE_CACHE_DIR", str(tmp_path / "file" / "objects"))
    cache.store(KEY, OBJECT)
    assert cache.lookup(KEY) is None
    assert cache.clear() == (0, 0)
    state = cache.state()
    assert not state.usable
    assert state.why_not


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts descriptors in /proc")
def test_no_descriptor_stays_open(folder: Path) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    before = descriptors()
    for tamper in (_flip(-1), _huge, _mode(NAME, 0o606), _replaced(NAME, os.mkfifo)):
        cache.store(KEY, OBJECT)
        tamper(folder)
        assert cache.lookup(KEY) is None
        cache.state()
    _mode(".", 0o777)(folder)
    assert cache.lookup(KEY) is None
    assert descriptors() == before


# -- the bound ------------------------------------------------------------------------------------


def _keys(count: int) -> list[str]:
    return [cache.key_of(str(k)) for k in range(count)]


def test_the_least_recently_used_give_way(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.clear()
    monkeypatch.setenv("CHAINRULE_CACHE_SIZE", "0.0101")  # 10 590 bytes: five objects of 2 100
    keys = _keys(5)
    for age, key in enumerate(keys):
        cache.store(key, OBJECT)
        os.utime(_file(folder, key), (age, age))
    assert [cache.lookup(key) is None for key in keys] == [False] * 5
    for age, key in enumerate(keys):
        os.utime(_file(folder, key), (1000 + age, 1000 + age))
    assert cache.lookup(keys[0]) == OBJECT  # used: now the youngest
    cache.store(OTHER, OBJECT)
    # A sixteenth of the bound is cleared for the next ones too: two objects go, not one.
    assert [cache.lookup(key) is None for key in keys] == [False, True, True, False, False]
    assert cache.lookup(OTHER) == OBJECT
    assert cache.state().bytes <= cache.state().bound == 10590


def test_the_folder_is_not_read_at_every_store(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trim, calls = cache._Folder._trim, []

    def counted(self: Any, bound: int, keep: str) -> int:
        calls.append(keep)
        return trim(self, bound, keep)

    monkeypatch.setattr(cache._Folder, "_trim", counted)
    monkeypatch.setenv("CHAINRULE_CACHE_SIZE", "0.2")  # a hundred objects of 2 100 bytes
    for key in _keys(300):
        cache.store(key, OBJECT)
        assert sum(path.stat().st_size for path in folder.glob("*.o")) <= 209_715
    assert cache.lookup(key) == OBJECT
    assert 40 < len(calls) < 180
    calls.clear()
    monkeypatch.delenv("CHAINRULE_CACHE_SIZE")
    for key in _keys(300):
        cache.store(key, OBJECT)
    assert len(calls) <= 1


def test_what_was_just_stored_stays_whatever_the_clock_says(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    future = time.time() + 1e6
    os.utime(_file(folder), (future, future))
    monkeypatch.setenv("CHAINRULE_CACHE_SIZE", "0.003")
    cache.store(OTHER, OBJECT)
    assert cache.lookup(OTHER) == OBJECT
    assert cache.lookup(KEY) is None


def test_an_object_larger_than_the_bound_is_not_kept(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHAINRULE_CACHE_SIZE", "0.001")
    cache.store(OTHER, OBJECT)
    monkeypatch.delenv("CHAINRULE_CACHE_SIZE")
    assert cache.lookup(OTHER) is None
    assert cache.lookup(KEY) == OBJECT


@pytest.mark.parametrize("text", ["", "many", "-1", "nan", "inf"])
def test_a_bound_that_makes_no_sense_is_the_usual_one(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("CHAINRULE_CACHE_SIZE", text)
    assert cache._bound() == 256 << 20


def test_what_dead_writers_left_is_removed(folder: Path) -> None:
    old, young = (folder / f".{NAME}.{digit * 16}.tmp" for digit in "ab")
    foreign = folder / "notes.tmp"
    for path in (old, young, foreign):
        path.write_bytes(b"torn")
    for path in (old, foreign):
        os.utime(path, (1000, 1000))
    cache._spare.clear()  # as in the next process
    cache.store(OTHER, OBJECT)
    assert not old.exists()
    assert young.exists()
    assert foreign.exists()


# -- where, and how much --------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "off", "OFF", " "])
def test_switched_off(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("CHAINRULE_CACHE_DIR", text)
    cache.store(KEY, OBJECT)
    assert cache.lookup(KEY) is None
    assert cache.clear() == (0, 0)
    state = cache.state()
    assert (state.folder, state.usable) == ("", False)
    assert state.why_not == "switched off by CHAINRULE_CACHE_DIR; unset it"


@pytest.mark.parametrize(
    ("platform", "environment", "expected"),
    [
        ("linux", {"XDG_CACHE_HOME": "/x/cache"}, "/x/cache/chainrule/objects"),
        ("linux", {"XDG_CACHE_HOME": "relative"}, "/home/me/.cache/chainrule/objects"),
        ("linux", {}, "/home/me/.cache/chainrule/objects"),
        ("darwin", {"XDG_CACHE_HOME": "/x"}, "/home/me/Library/Caches/chainrule/objects"),
        ("win32", {"LOCALAPPDATA": "/users/me/local"}, "/users/me/local/chainrule/objects"),
        ("linux", {"CHAINRULE_CACHE_DIR": "~/mine"}, "/home/me/mine"),
    ],
)
@posix
def test_the_platforms_folder(
    monkeypatch: pytest.MonkeyPatch, platform: str, environment: dict[str, str], expected: str
) -> None:
    for name in ("XDG_CACHE_HOME", "CHAINRULE_CACHE_DIR", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": "/home/me", **environment}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(cache.sys, "platform", platform)
    assert cache._place() == expected


def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CHAINRULE_CACHE_DIR", raising=False)
    monkeypatch.delenv("LOCALAPPDATA", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as where nothing is known
    cache.store(KEY, OBJECT)
    assert cache.lookup(KEY) is None
    assert cache.state().why_not.startswith("this user has no home folder")


def test_the_state_and_clearing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "notes.txt").write_text("the user's own", encoding="utf-8")
    cache.store(OTHER, OBJECT)
    size = 2 * (len(OBJECT) + START)
    assert cache.state() == cache.State(str(folder), 2, size, 256 << 20, True, "")
    monkeypatch.setenv("CHAINRULE_CACHE_SIZE", "0")
    assert cache.state().why_not.startswith("CHAINRULE_CACHE_SIZE is 0")
    monkeypatch.delenv("CHAINRULE_CACHE_SIZE")
    assert cache.clear() == (2, size)
    assert os.listdir(folder) == ["notes.txt"]
    assert cache.lookup(KEY) is None
    assert cache.state() == cache.State(str(folder), 0, 0, 256 << 20, True, "")


def test_asking_makes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAINRULE_CACHE_DIR", str(tmp_path / "a" / "b"))
    assert cache.lookup(KEY) is None
    assert cache.clear() == (0, 0)
    assert cache.state().usable
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = cache.shutil.disk_usage(folder)._replace(free=1000)
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda _: usage)
    assert cache.state().why_not.startswith("the disk is full")


@posix
def test_what_is_made_is_for_its_owner_alone(folder: Path) -> None:
    modes = [stat.S_IMODE(os.lstat(p).st_mode) for p in (folder, _file(folder), folder / "secret")]
    assert modes == [0o700, 0o600, 0o600]


def test_secrets_differ(folder: Path) -> None:
    first = (folder / "secret").read_bytes()
    cache.clear()
    cache.store(KEY, OBJECT)
    assert len(first) == 32
    assert (folder / "secret").read_bytes() != first


def test_keys_depend_on_every_part_and_its_place() -> None:
    lists = [("ab", "c"), ("a", "bc"), ("abc",), ("abc", ""), ("", "abc"), ("c", "ab"), ()]
    assert len({cache.key_of(*parts) for parts in lists}) == len(lists)


@pytest.mark.parametrize("key", ["", "../secret", "A" * 64, "0" * 63, "0" * 64 + "\n", "é" * 64])
def test_a_key_is_never_a_path(folder: Path, key: str) -> None:
    with pytest.raises(ValueError, match="64 hexadecimal digits"):
        cache.lookup(key)
    with pytest.raises(ValueError, match="64 hexadecimal digits"):
        cache.store(key, OBJECT)


def test_without_posix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The way by paths, as on Windows."""
    monkeypatch.setattr(cache, "POSIX", False)
    monkeypatch.setenv("CHAINRULE_CACHE_DIR", str(tmp_path / "objects"))
    for tamper in (_flip(START), _link(NAME), _hard_link(NAME), _replaced(NAME, Path.mkdir)):
        (tmp_path / "second").unlink(missing_ok=True)
        cache.store(KEY, OBJECT)
        assert cache.lookup(KEY) == OBJECT
        tamper(tmp_path / "objects")
        assert cache.lookup(KEY) is None
    cache.store(KEY, OBJECT)
    assert cache.clear() == (1, len(OBJECT) + START)
    _to_link(tmp_path / "objects")
    assert not cache.state().usable


# -- several at once ------------------------------------------------------------------------------

WORKER = """
import sys
from chainrule.compiler import cache
keys = [cache.key_of(str(k)) for k in range(20)]
for round in range(10):
    for k, key in enumerate(keys):
        object = bytes([k]) * 5000
        found = cache.lookup(key)
        assert found is None or found == object, (k, found[:10])
        if found is None or round % 3 == 0:
            cache.store(key, object)
"""


def test_processes_that_store_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "objects"
    monkeypatch.setenv("CHAINRULE_CACHE_DIR", str(folder))
    workers = [subprocess.Popen([sys.executable, "-c", WORKER]) for _ in range(2)]
    assert [worker.wait(100) for worker in workers] == [0, 0]
    for k in range(20):
        assert cache.lookup(cache.key_of(str(k))) == bytes([k]) * 5000
    assert len(os.listdir(folder)) == 21
