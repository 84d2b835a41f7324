"""The pool: right numbers whatever happens around a run, and nothing left running after it."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import pool_programs
from chainrule.compiler import pool as pools
from chainrule.compiler.native import available
from chainrule.compiler.pool import Pool, pool, run_alone, thread_count
from chainrule.compiler.threads import MOST_THREADS
from pool_programs import Context, address, stencil, stencil_by_numpy, wait_for

needs_native = pytest.mark.skipif(not available(), reason="no native code on this machine")
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")

TESTS = Path(pool_programs.__file__).parent
# A child process is held to the suite's rule as well; that a fork is rarely safe is known here.
STRICT = ["-W", "error", "-W", "ignore:This process:DeprecationWarning"]


def script(*arguments: str, seconds: float = 60) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *STRICT, *arguments],
        cwd=TESTS,
        capture_output=True,
        text=True,
        timeout=seconds,
    )


@pytest.fixture
def own_pool() -> Iterator[Pool]:
    """A pool of two that no other test has."""
    made = Pool(2)
    yield made
    made._close(time.monotonic() + 5)


# -- how many -------------------------------------------------------------------------------------


def test_the_environment_says_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAINRULE_THREADS", " 3 ")
    assert thread_count() == pool().threads == 3
    monkeypatch.setenv("CHAINRULE_THREADS", "")
    cores = thread_count()
    monkeypatch.delenv("CHAINRULE_THREADS")
    assert thread_count() == cores
    assert 1 <= cores <= MOST_THREADS
    if hasattr(os, "sched_getaffinity"):
        assert cores == min(len(os.sched_getaffinity(0)), MOST_THREADS)


@pytest.mark.parametrize("text", ["0", "-1", "65", "two", "1.5", "²", "1_0", "2 2"])
def test_a_bad_environment_is_named(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAINRULE_THREADS", text)
    with pytest.raises(ValueError, match=r"CHAINRULE_THREADS=.* from 1 to 64"):
        pool()
    assert pool(2).threads == 2  # whoever says a number does not need it


@pytest.mark.parametrize("threads", [0, -1, 65])
def test_a_bad_number_is_named(threads: int) -> None:
    with pytest.raises(ValueError, match=f"threads={threads}: "):
        pool(threads)


def test_one_pool_for_each_number() -> None:
    assert pool(2) is pool(2)
    assert pool(2) is not pool(3)


# -- the numbers ----------------------------------------------------------------------------------


@needs_native
@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_bits_do_not_depend_on_threads(threads: int) -> None:
    run = pool(threads).run
    assert stencil(run, 300) == stencil_by_numpy(300)
    for rounds in range(100):
        assert stencil(run, rounds % 3) == stencil_by_numpy(rounds % 3)


@needs_native
def test_every_thread_takes_part() -> None:
    """Each of them leaves its count at the meetings."""
    for threads in (1, 2, 5):
        ctx = Context(10)
        pool(threads).run(address("meetings"), ctx.address)
        assert ctx.rest[:6] == [10] * threads + [0] * (6 - threads)


@needs_native
def test_alone() -> None:
    ctx = Context(10)
    run_alone(address("meetings"), ctx.address)
    assert ctx.rest[:2] == [10, 0]


@needs_native
def test_many_pools_in_turn() -> None:
    for _ in range(10):
        for threads in (1, 2, 3, 4, 5, 8):
            assert stencil(pool(threads).run, 4) == stencil_by_numpy(4)


@needs_native
def test_as_many_threads_as_there_may_be() -> None:
    ctx = Context(10)
    pool(MOST_THREADS).run(address("meetings"), ctx.address)
    assert ctx.rest[:MOST_THREADS] == [10] * MOST_THREADS
    assert ctx.words[1] == 0


# -- callers at once ------------------------------------------------------------------------------


@needs_native
@pytest.mark.parametrize("sizes", [(2, 2, 2, 2), (1, 2, 3, 8)])
def test_calls_from_several_python_threads(sizes: tuple[int, ...]) -> None:
    results: list[tuple[int, bytes]] = []

    def call(threads: int) -> None:
        run = pool(threads).run
        results.extend((rounds, stencil(run, rounds)) for rounds in list(range(20)) * 8)

    callers = [threading.Thread(target=call, args=(threads,)) for threads in sizes]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(results) == 160 * len(sizes)
    assert all(result == stencil_by_numpy(rounds) for rounds, result in results)


@needs_native
def test_a_second_caller_neither_waits_nor_holds_up_python(own_pool: Pool) -> None:
    first, second = Context(0), Context(1)
    held = threading.Thread(target=own_pool.run, args=(address("hold"), first.address))
    held.start()
    wait_for(lambda: first.words[1])
    own_pool.run(address("hold"), second.address)
    assert held.is_alive()
    assert (first.words[2], second.words[2]) == (2, 1)
    first.words[0] = 1
    held.join(20)
    assert not held.is_alive()
    own_pool.run(address("hold"), second.address)
    assert second.words[2] == 2


@needs_native
@pytest.mark.parametrize("threads", [1, 2])
def test_a_stop_holds_until_it_is_cleared(threads: int) -> None:
    mine = Pool(threads)
    ctx = Context(10**12)
    steps = threading.Thread(target=mine.run, args=(address("steps"), ctx.address))
    steps.start()
    wait_for(lambda: ctx.words[1])
    mine.request_stop()
    steps.join(20)
    assert not steps.is_alive()
    assert ctx.rest[: threads + 1] == [ctx.rest[0]] * threads + [0]
    assert mine.stopping
    later = Context(5)
    mine.run(address("steps"), later.address)
    assert later.rest[0] == 0
    mine.clear_stop()
    assert not mine.stopping
    mine.run(address("steps"), later.address)
    assert later.rest[:threads] == [5] * threads
    mine._close(time.monotonic() + 5)


# -- asleep and awake -----------------------------------------------------------------------------


@needs_native
@pytest.mark.parametrize("threads", [2, 8])
def test_an_idle_pool_uses_no_processor(threads: int) -> None:
    assert stencil(pool(threads).run, 5) == stencil_by_numpy(5)
    time.sleep(0.05)
    before = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - before < 0.01


@needs_native
@pytest.mark.parametrize("threads", [2, 3])
def test_runs_at_the_moment_of_falling_asleep(threads: int) -> None:
    run, dice = pool(threads).run, random.Random(threads)
    for number in range(300):
        time.sleep(dice.choice([0, 0.5, 0.9, 1, 1.1, 2]) * pools.LINGER)
        assert stencil(run, 2) == stencil_by_numpy(2), number


@needs_native
def test_workers_held_in_vain_are_let_go() -> None:
    """One is awake and one asleep: nothing starts, and the first may fall asleep again."""
    mine = Pool(3)
    team = mine._present_team()
    words = [team.block.word(pools.MAIL + tid * pools.LINE) for tid in (1, 2)]

    def one_awake() -> bool:
        wait_for(lambda: [word.value for word in words] == [pools.PARKED] * 2)
        team.alarms[0].release()
        wait_for(lambda: words[0].value == pools.IDLE or team.alarms[0].locked())
        return team.dispatch(address("nothing"), 0, team.native.rounds) == 0b10

    wait_for(one_awake)
    wait_for(lambda: words[0].value == pools.PARKED)
    assert team.block.word(pools.BUSY).value == 0
    ctx = Context(4)
    mine.run(address("meetings"), ctx.address)
    assert ctx.rest[:4] == [4, 4, 4, 0]
    mine._close(time.monotonic() + 5)


class Interruption(Exception):
    """What the signal's handler raises in the middle of anything."""


@needs_native
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timer signals on this system")
@pytest.mark.parametrize("threads", [2, 3])
def test_an_interrupted_caller_leaves_the_pool_whole(threads: int) -> None:
    """As Ctrl-C would, at many moments: workers asleep, waking, holding a job."""
    mine, dice = Pool(threads), random.Random(threads)
    rounds, caught, during = 3, 0, False

    def interrupt(*_: object) -> None:
        if during:
            raise Interruption

    expected = stencil_by_numpy(rounds)
    assert stencil(mine.run, rounds) == expected
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for number in range(400):
            if number % 2:
                time.sleep(1.5 * pools.LINGER)
            try:
                during = True
                signal.setitimer(signal.ITIMER_REAL, dice.uniform(1e-6, 200e-6))
                for _ in range(200):
                    mine.run(address("nothing"), 0)
                during = False
            except Interruption:
                during = False
                caught += 1
            signal.setitimer(signal.ITIMER_REAL, 0)
            ctx = Context(2)
            mine.run(address("meetings"), ctx.address)
            assert ctx.rest[: threads + 1] == [2] * threads + [0], number
    finally:
        signal.signal(signal.SIGALRM, before)
    assert caught > 100
    mine._close(time.monotonic() + 5)


@needs_native
def test_dead_workers_are_replaced(own_pool: Pool) -> None:
    assert stencil(own_pool.run, 3) == stencil_by_numpy(3)
    team = own_pool._present_team()
    wait_for(lambda: team.block.word(pools.MAIL + pools.LINE).value == pools.PARKED)
    # Send the worker home behind the pool's back, then forget that it went.
    team.go_home(time.monotonic() + 5)
    assert not team.workers[0].is_alive()
    team.block.word(pools.MAIL + pools.LINE).value = pools.PARKED
    team.block.word(pools.BUSY).value = 0
    ctx = Context(4)
    own_pool.run(address("meetings"), ctx.address)
    assert ctx.rest[:3] == [4, 4, 0]
    assert own_pool._present_team() is not team


@needs_native
def test_fewer_threads_where_the_system_gives_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    start, started = threading.Thread.start, 0

    def sparing(thread: threading.Thread) -> None:
        nonlocal started
        if started == 2:
            raise RuntimeError("can't start new thread")
        started += 1
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", sparing)
    mine, ctx = Pool(8), Context(10)
    mine.run(address("meetings"), ctx.address)
    assert ctx.rest[:4] == [10, 10, 10, 0]
    mine._close(time.monotonic() + 5)


@needs_native
def test_a_closed_pool_still_runs_programs() -> None:
    mine = Pool(3)
    assert stencil(mine.run, 3) == stencil_by_numpy(3)
    workers = mine._present_team().workers
    mine._close(time.monotonic() + 5)
    assert not any(worker.is_alive() for worker in workers)
    mine.clear_stop()
    assert stencil(mine.run, 3) == stencil_by_numpy(3)


# -- other processes ------------------------------------------------------------------------------


def check_children(method: str, rounds: int, seconds: float) -> None:
    done = script("pool_programs.py", method, str(rounds), seconds=seconds)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@needs_native
@needs_fork
def test_children_by_fork() -> None:
    check_children("fork", 10, 60)


@needs_native
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_children_by_a_new_interpreter(method: str) -> None:
    if method not in pool_programs.multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} on this system")
    check_children(method, 1, 60)


@needs_native
@needs_fork
@pytest.mark.exhaustive
def test_many_children_by_fork() -> None:
    for _ in range(50):
        check_children("fork", 10, 60)


@needs_native
@pytest.mark.exhaustive
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_many_children_by_a_new_interpreter(method: str) -> None:
    for _ in range(84):  # of six children each
        check_children(method, 1, 60)


# The first to be registered is the last to be called: a worker left over ends the process with 10.
BEGIN = """
import atexit, os, sys, threading, time
def left_over():
    if any(thread.name.startswith('chainrule-') for thread in threading.enumerate()):
        os._exit(10)
atexit.register(left_over)
from pool_programs import *
mine = pool(3)
assert stencil(mine.run, 3) == stencil_by_numpy(3)
"""

ENDINGS = {
    "normal": ("", 0, ""),
    "asleep": ("time.sleep(0.02)", 0, ""),
    "sys.exit": ("sys.exit(7)", 7, ""),
    "exception": ("raise LookupError('the end')", 1, "LookupError: the end"),
    "os._exit": ("os._exit(8)", 8, ""),
    "KeyboardInterrupt": ("raise KeyboardInterrupt", None, "KeyboardInterrupt"),
    "in another thread": (
        "threading.Thread(target=lambda: [stencil(mine.run, 3) for _ in range(300)]).start()",
        0,
        "",
    ),
    "in a daemon": (
        "ctx = Context(10**12)\n"
        "threading.Thread(target=mine.run, args=(address('steps'), ctx.address), daemon=True)"
        ".start()\nwait_for(lambda: ctx.words[1])",
        0,
        "",
    ),
    "late": (
        "from chainrule.compiler import pool as pools\n"
        "atexit.unregister(pools._close_all)\n"
        "atexit.register(lambda: stencil(mine.run, 3) == stencil_by_numpy(3) or os._exit(9))\n"
        "atexit.register(pools._close_all)",
        0,
        "",
    ),
    "after a fork": (
        "child = os.fork()\n"
        "assert stencil(mine.run, 3) == stencil_by_numpy(3)\n"
        "if child: sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
        "sys.exit(6)",
        6,
        "",
    ),
}


def check_ending(name: str, times: int) -> None:
    code, status, said = ENDINGS[name]
    for _ in range(times):
        done = script("-c", BEGIN + code, seconds=30)
        if status is None:  # KeyboardInterrupt: 130, or killed by the signal
            assert done.returncode in (130, -2, 1, 0xC000013A)
        else:
            assert done.returncode == status, done.stderr
        lines = done.stderr.strip().splitlines()
        assert (lines[-1] if lines else "") == said


@needs_native
@pytest.mark.parametrize("name", ENDINGS)
def test_the_end_of_a_process(name: str) -> None:
    if name == "after a fork" and not hasattr(os, "fork"):
        pytest.skip("no fork on this system")
    check_ending(name, 1)


@needs_native
@pytest.mark.exhaustive
@pytest.mark.parametrize("name", ENDINGS)
def test_the_end_of_many_processes(name: str) -> None:
    if name == "after a fork" and not hasattr(os, "fork"):
        pytest.skip("no fork on this system")
    check_ending(name, 20)
