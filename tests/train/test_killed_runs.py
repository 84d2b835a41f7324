"""A run that is killed anywhere, or whose disk fails at any call, goes on to the same bits."""

from __future__ import annotations

import errno
import functools
import os
import shutil
import signal
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim
from failing_calls import every_failure, every_kill, in_child

pytestmark = pytest.mark.skipif(os.name == "nt", reason="forks and signals as POSIX has them")

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4)).astype(np.float32)
Y = RNG.integers(0, 3, 60)


class Steps:
    """Wants to see each step, so that each is followed by a save."""

    def on_step(self, moment):
        return False


def train(folder=None, *, epochs=8, compiled=True, dropout=0.2):
    layers = nn.Linear(4, 6), nn.Tanh(), nn.Dropout(dropout), nn.Linear(6, 3)
    model = nn.Sequential(*layers, seed=1)
    kept = {"checkpoint": cr.Checkpoint(folder, every=0), "resume": True} if folder else {}
    history = cr.fit(
        model, X, Y, loss="softmax_cross_entropy", optimizer=optim.Adam(lr=0.01), epochs=epochs,
        batch_size=16, callbacks=[Steps()], validation_data=(X, Y), progress=False,
        compile=compiled, **kept,
    )  # fmt: skip
    return model, history


@functools.cache
def unbroken(epochs=8, compiled=True):
    return train(epochs=epochs, compiled=compiled)


def assert_same(one, other):
    (model, history), (twin, again) = one, other
    for name, value in model.state_dict().items():
        assert value.tobytes() == twin.state_dict()[name].tobytes(), name
    assert history.step_loss == again.step_loss
    assert history.columns() == again.columns()
    for slot in ("m", "v"):
        for name, value in history.state[slot].items():
            assert value.tobytes() == again.state[slot][name].tobytes()


# -- every system call ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "lasting"), [(errno.ENOSPC, True), (errno.EIO, False)], ids=["no space", "I/O error"]
)
def test_a_disk_that_fails_at_any_call_costs_nothing_but_the_checkpoint(tmp_path, number, lasting):
    error = OSError(number, os.strerror(number))
    whole = unbroken(2, compiled=False)
    done = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the disk's, one a failure
        save = lambda: done.append(train(tmp_path, epochs=2, compiled=False))  # noqa: E731
        for outcome in every_failure(save, error, lasting=lasting):
            if outcome.error is None:
                assert_same(whole, done[-1])
            else:  # the folder could not be made, or an old checkpoint not be read
                assert not outcome.calls[: outcome.number - 1].count("write")
            assert_same(whole, train(tmp_path, epochs=2, compiled=False))
            assert not [path for path in tmp_path.iterdir() if "tmp" in path.name]
            for path in tmp_path.iterdir():
                path.unlink()
            if outcome.number > 32:  # the later saves are as the first two
                break
    assert len(done) > 20


@pytest.mark.parametrize("how", ["before", "after", "half"])
def test_a_kill_at_any_call_of_a_save(tmp_path, how):
    whole = unbroken(1, compiled=False)
    for outcome in every_kill(lambda: train(tmp_path, epochs=1, compiled=False), how=how):
        assert_same(whole, train(tmp_path, epochs=1, compiled=False))
        shutil.rmtree(tmp_path)
        if not outcome.failed or outcome.number > 30:
            break


# -- at random moments ------------------------------------------------------------------------

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


def kill_at_random(folder: Path, times: int, seed: int) -> tuple[int, int]:
    """Runs that are killed again and again, then finished; how many kills, and how many hit.

    Every third run is one in machine code: to compile it takes a child most of its time.
    """
    rng = np.random.default_rng(seed)
    lasts = [timed(folder / f"whole {c}", compiled=c) for c in (False, True)]
    kills = hits = run = 0
    while kills < times:
        run += 1
        place, compiled = folder / str(run), run % 3 == 0
        for _ in range(int(rng.integers(1, 4))):
            wait, how = rng.uniform(0, lasts[compiled]), SIGNALS[int(rng.integers(3))]
            status = in_child(
                lambda p=place, c=compiled: quietly(p, compiled=c), kill_after=(wait, how)
            )
            assert status == 0 or os.WTERMSIG(status) in SIGNALS or os.WEXITSTATUS(status) == 130
            kills += 1
            hits += status != 0
        assert_same(unbroken(compiled=compiled), train(place, compiled=compiled))
        shutil.rmtree(place)
    return kills, hits


def timed(folder: Path, compiled: bool) -> float:
    """The seconds that a whole run takes in a child."""
    unbroken(compiled=compiled)
    began = time.perf_counter()
    assert in_child(lambda: train(folder, compiled=compiled)) == 0
    return time.perf_counter() - began


def quietly(folder: Path, compiled: bool) -> None:
    """A run for a child, which says by its status whether Ctrl-C ended it."""
    if train(folder, compiled=compiled)[1].stopped is not None:
        raise KeyboardInterrupt


def test_runs_killed_at_random_moments(tmp_path):
    assert kill_at_random(tmp_path, 12, seed=0)[0] >= 12


@pytest.mark.slow
def test_runs_killed_at_300_random_moments(tmp_path):
    kills, hits = kill_at_random(tmp_path, 300, seed=1)
    assert kills >= 300
    assert hits > 30


@pytest.mark.exhaustive
def test_runs_killed_at_2000_random_moments(tmp_path):
    assert kill_at_random(tmp_path, 2000, seed=2)[0] >= 2000
