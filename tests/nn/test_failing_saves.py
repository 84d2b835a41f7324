"""A save that fails at any of its system calls, or is killed at it, leaves one whole file."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import failing_calls
from chainrule import nn
from chainrule.errors import ModelFileError
from chainrule.nn import tensorfile
from failing_calls import every_failure, every_kill, in_child, power_cuts

posix = pytest.mark.skipif(os.name == "nt", reason="forks and signals as POSIX has them")


def model(seed: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(20, 30), nn.Linear(30, 2), seed=seed)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


@pytest.fixture
def old(path: Path) -> bytes:
    model(0).save(path)
    return path.read_bytes()


@pytest.fixture
def new(path: Path, old: bytes) -> bytes:
    model(1).save(path)
    data = path.read_bytes()
    path.write_bytes(old)
    assert data != old
    return data


# -- every call -------------------------------------------------------------------------------

NO_SPACE = OSError(errno.ENOSPC, "No space left on device")
ERRORS = {
    "no space": NO_SPACE,
    "I/O error": OSError(errno.EIO, "Input/output error"),
    "interrupted call": InterruptedError(errno.EINTR, "Interrupted system call"),
    "no number": OSError("an error without a number"),
    "Ctrl-C": KeyboardInterrupt(),
}


@posix
@pytest.mark.parametrize("name", ERRORS)
@pytest.mark.parametrize("link", [False, True], ids=["file", "link"])
def test_a_failure_at_any_call_leaves_one_whole_file(
    name: str, link: bool, path: Path, old: bytes, new: bytes
) -> None:
    place = path.with_name("latest") if link else path
    if link:
        place.symlink_to(path.name)
    folder = sorted(os.listdir(path.parent))
    seen = []
    for outcome in every_failure(lambda: model(1).save(place), ERRORS[name]):
        assert sorted(os.listdir(path.parent)) == folder
        assert path.read_bytes() == (new if outcome.replaced else old)
        path.write_bytes(old)
        if outcome.failed:
            seen.append(outcome.call)
            demand_one_error(outcome, place)
    assert outcome.error is None
    assert set(seen) >= {"stat", "lstat", "open", "write", "fsync", "close", "chmod", "replace"}
    assert seen.count("write") > 2
    assert seen.count("fsync") == 2


def demand_one_error(outcome: failing_calls.Outcome, path: Path) -> None:
    """One error that names the path and says what holds now; none where nothing was lost."""
    if isinstance(outcome.error, KeyboardInterrupt):
        return
    if outcome.error is None:  # only what sweeps up may fail without a word
        assert outcome.call == "listdir", outcome
        return
    assert isinstance(outcome.error, OSError)
    assert outcome.error.filename == str(path), outcome
    done = "is in place" if outcome.replaced else "nothing was changed"
    assert done in str(outcome.error), outcome


@posix
@pytest.mark.parametrize("error", [NO_SPACE, ERRORS["I/O error"]], ids=["no space", "I/O error"])
def test_a_disk_that_stays_bad(error: OSError, path: Path, old: bytes, new: bytes) -> None:
    for outcome in every_failure(lambda: model(1).save(path), error, lasting=True):
        assert os.listdir(path.parent) == [path.name]
        assert path.read_bytes() == (new if outcome.replaced else old)
        path.write_bytes(old)
        assert not outcome.failed or outcome.error is not None or outcome.call == "listdir"


@posix
def test_a_key_pressed_during_any_call(path: Path, old: bytes, new: bytes) -> None:
    interrupted = []
    for outcome in every_failure(lambda: model(1).save(path), KeyboardInterrupt(), after=True):
        assert os.listdir(path.parent) == [path.name]
        assert path.read_bytes() in (old, new)
        path.write_bytes(old)
        interrupted.append(outcome.call)
    assert {"open", "write", "replace"} <= set(interrupted)


@posix
def test_the_first_save_is_whole_or_absent(path: Path) -> None:
    for outcome in every_failure(lambda: model(1).save(path), NO_SPACE):
        assert os.listdir(path.parent) == ([path.name] if outcome.replaced else [])
        if outcome.replaced:
            nn.load(path)
            path.unlink()


@posix
def test_no_file_handle_is_left_open(path: Path, old: bytes) -> None:
    before = handles()
    for error in (NO_SPACE, KeyboardInterrupt()):
        for _ in every_failure(lambda: model(1).save(path), error):
            assert handles() == before


def handles() -> int:
    return len(os.listdir("/dev/fd"))


# -- kills ------------------------------------------------------------------------------------


@posix
@pytest.mark.parametrize("how", ["before", "after", "half"])
def test_a_kill_at_any_call_leaves_one_whole_file(
    how: str, path: Path, old: bytes, new: bytes
) -> None:
    left = 0
    new_model = model(1)
    for outcome in every_kill(lambda: new_model.save(path), how=how):
        assert path.read_bytes() in (old, new)
        assert outcome.killed or path.read_bytes() == new
        nn.load(path)
        others = [name for name in os.listdir(path.parent) if name != path.name]
        assert all(tensorfile._left_over(name, path.name) for name in others)
        left += len(others)
        for name in others:
            (path.parent / name).unlink()
        path.write_bytes(old)
    assert left > 3  # a killed process cannot clean up after itself


@posix
def test_what_a_kill_left_goes_with_a_later_save(path: Path, old: bytes) -> None:
    hidden = f".{path.name}.{'0a' * 6}.tmp"
    others = [".other.safetensors.0a0a0a0a0a0a.tmp", f".{path.name}.notes.tmp", hidden + "2"]
    for name in [hidden, *others]:
        (path.parent / name).write_bytes(b"half")
    model(1).save(path)
    assert (path.parent / hidden).exists()  # its process may be at work still
    for name in [hidden, *others]:
        os.utime(path.parent / name, (0, 0))
    model(1).save(path)
    assert sorted(os.listdir(path.parent)) == sorted([path.name, *others])


@pytest.mark.slow
@posix
def test_random_kills(path: Path) -> None:
    large = [nn.Sequential(nn.Linear(1000, 2000), seed=seed) for seed in (0, 1)]
    large[0].save(path)
    files = [path.read_bytes()]
    large[1].save(path)
    files.append(path.read_bytes())
    rng = np.random.default_rng(0)
    found = [0, 0]
    began = time.perf_counter()
    in_child(lambda: large[1].save(path))
    lasts = time.perf_counter() - began
    for _ in range(100):
        path.write_bytes(files[0])
        in_child(lambda: large[1].save(path), kill_after=float(rng.uniform(0.0, 1.5 * lasts)))
        found[files.index(path.read_bytes())] += 1
        for name in os.listdir(path.parent):
            assert name == path.name or tensorfile._left_over(name, path.name)
            if name != path.name:
                (path.parent / name).unlink()
    assert min(found) > 0, f"{found}: the kills came all too early or too late"


# -- power cuts -------------------------------------------------------------------------------


def test_a_power_cut_leaves_one_whole_file(path: Path, old: bytes, new: bytes) -> None:
    found = list(power_cuts(lambda: model(1).save(path), path, 1000))
    assert set(found) == {old, new}
    assert found[-1] == new  # what save has promised is there


def test_the_power_cuts_can_tear_a_file(path: Path, old: bytes, new: bytes) -> None:
    """Without fsync, or written in place, files are lost: the check can fail."""

    def careless() -> None:
        handle = os.open(path.with_name("new"), os.O_WRONLY | os.O_CREAT)
        rest = memoryview(new)
        while rest:
            rest = rest[os.write(handle, rest) :]
        os.close(handle)
        os.replace(path.with_name("new"), path)

    found = list(power_cuts(careless, path, 1000))
    assert sum(data not in (old, new) for data in found) > 10


# -- real disks -------------------------------------------------------------------------------


@posix
def test_a_limit_on_the_size_of_files(path: Path, old: bytes) -> None:
    def limited() -> None:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        with pytest.raises(OSError, match="nothing was changed") as caught:
            model(1).save(path)
        assert caught.value.errno == errno.EFBIG

    assert in_child(limited) == 0
    assert path.read_bytes() == old
    assert os.listdir(path.parent) == [path.name]


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "chainrule-test", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, timeout=20)
    except OSError:
        pytest.skip("no mount here")
    if done.returncode:
        pytest.skip("this user may not mount")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True, timeout=20)


def test_a_disk_that_is_really_full(full: Path) -> None:
    path = full / "model"
    model(0).save(path)
    old = path.read_bytes()
    with pytest.raises(OSError, match="nothing was changed") as caught:
        nn.Sequential(nn.Linear(200, 200)).save(path)
    assert caught.value.errno == errno.ENOSPC
    assert path.read_bytes() == old
    assert os.listdir(full) == ["model"]


# -- what else a disk may say -----------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EACCES])
def test_a_folder_that_cannot_be_synced_is_no_failure(
    number: int, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fsync

    def fsync(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(number, "not here")
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    model(0).save(path)
    assert nn.load(path).extra == {}


def test_a_disk_that_takes_nothing_does_not_hang_the_save(
    path: Path, old: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "write", lambda handle, data: 0)
    with pytest.raises(OSError, match="takes no more; nothing was changed"):
        model(1).save(path)
    assert os.listdir(path.parent) == [path.name]


@posix
def test_saving_where_one_cannot_names_the_path(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "pipe")
    for place in ("none/model", "folder", "loop", "pipe", "a\0b", "x" * 300):
        with pytest.raises(OSError, match="nothing was changed") as caught:
            model(0).save(tmp_path / place)
        assert caught.value.filename == str(tmp_path / place)
    assert sorted(os.listdir(tmp_path)) == ["folder", "loop", "pipe"]


@posix
def test_the_longest_names_can_be_saved_under(tmp_path: Path) -> None:
    for name in ("x" * 255, "ß" * 127, "漢" * 85, "😀" * 63):
        model(0).save(tmp_path / name)
        assert len(nn.load(tmp_path / name)) == 2


@pytest.mark.skipif(np.dtype(np.longdouble) == np.float64, reason="needs a longer float")
def test_a_dtype_that_no_file_holds(tmp_path: Path) -> None:
    long = nn.Sequential(nn.Linear(1, 1, dtype=np.longdouble), seed=0)
    with pytest.raises(ModelFileError, match=r"0.weight is float\d+; a file holds"):
        long.save(tmp_path / "long")
    assert not os.listdir(tmp_path)
