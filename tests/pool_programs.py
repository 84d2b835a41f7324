"""Small compiled programs for the tests of threads; as a script, runs them in child processes."""

from __future__ import annotations

import multiprocessing
import sys
import threading
import time
from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

from chainrule.compiler.emit import F64, I64, PTR, Function, Module, Value
from chainrule.compiler.native import Library, build, host
from chainrule.compiler.pool import pool
from chainrule.compiler.threads import await_word, barrier, look_for_stop, phase, stop_requested

Run = Callable[[int, int], None]  # (entry, context)

ARGUMENTS = [(PTR, "ctx"), (PTR, "sync"), (I64, "tid"), (I64, "threads")]
CELLS = 60
CHUNK = 3
WORDS = 512


def constant(value: int) -> Value:
    return Value(str(value), I64)


def add_one(fn: Function, address: Value) -> None:
    """Not atomic: two threads at it lose counts."""
    fn.store(fn.add(fn.load(address, I64), constant(1)), address)


def write_visits(fn: Function, count: int | None = None) -> None:
    """ctx = rounds, count, visits …: add 1 to visits[i] for each i of count, in every round."""
    ctx, sync, tid, threads = fn.arguments
    rounds, last, visits = fn.load(ctx, I64), fn.load(fn.at(ctx, 1, I64), I64), fn.at(ctx, 2, I64)

    def visit(index: Value) -> None:
        add_one(fn, fn.at(visits, index, I64))

    def once(_: Value, __: list[Value]) -> None:
        phase(fn, sync, tid, threads, last if count is None else count, visit)

    fn.loop(rounds, [], once)


def write_diary(fn: Function) -> None:
    """ctx = written, count, diary …: append each index of the count as it comes."""
    ctx, sync, tid, threads = fn.arguments

    def write(index: Value) -> None:
        written = fn.load(ctx, I64)
        fn.store(index, fn.at(fn.at(ctx, 2, I64), written, I64))
        add_one(fn, ctx)

    phase(fn, sync, tid, threads, fn.load(fn.at(ctx, 1, I64), I64), write)


def write_stencil(fn: Function) -> None:
    """ctx = rounds, 1 unused, a[CELLS], b[CELLS]: b from a's neighbours, then a from b's."""
    ctx, sync, tid, threads = fn.arguments
    rounds = fn.load(ctx, I64)
    a, b = fn.at(ctx, 2, I64), fn.at(ctx, 2 + CELLS, I64)

    def step(old: Value, new: Value) -> None:
        def chunk(index: Value) -> None:
            first = fn.mul(index, constant(CHUNK))
            for k in range(CHUNK):
                here = fn.add(first, constant(k))
                left = fn.binary("srem", fn.add(here, constant(CELLS - 1)), constant(CELLS))
                right = fn.binary("srem", fn.add(here, constant(1)), constant(CELLS))
                x = fn.mul(fn.load(fn.at(old, left, F64), F64), fn.const(0.3, F64))
                y = fn.mul(fn.load(fn.at(old, right, F64), F64), fn.const(0.7, F64))
                fn.store(fn.add(x, y), fn.at(new, here, F64))

        phase(fn, sync, tid, threads, CELLS // CHUNK, chunk)

    def both(_: Value, __: list[Value]) -> None:
        step(a, b)
        step(b, a)

    fn.loop(rounds, [], both)


def write_meetings(fn: Function) -> None:
    """ctx = rounds, missed, counts …: count a round, meet, and see that all others counted it."""
    ctx, sync, tid, threads = fn.arguments
    rounds, counts = fn.load(ctx, I64), fn.at(ctx, 2, I64)
    mine = fn.at(counts, tid, I64)

    def meet(number: Value, _: list[Value]) -> None:
        fn.store(fn.add(number, constant(1)), mine)
        barrier(fn, sync, tid, threads)

        def look(other: Value, _: list[Value]) -> None:
            there = fn.load(fn.at(counts, other, I64), I64)
            with fn.when(fn.compare("sle", there, number)):
                add_one(fn, fn.at(ctx, 1, I64))

        fn.loop(threads, [], look)

    fn.loop(rounds, [], meet)


def write_steps(fn: Function) -> None:
    """ctx = most, begun, steps …: each thread counts its steps until a stop is seen."""
    ctx, sync, tid, threads = fn.arguments
    most, begun = fn.load(ctx, I64), fn.at(ctx, 1, I64)
    mine = fn.at(fn.at(ctx, 2, I64), tid, I64)
    head, step, end = "head", "step", "out"
    fn.line(f"br label %{head}")
    fn.label(head)
    stop = stop_requested(fn, sync, threads)
    late = fn.compare("sge", fn.load(mine, I64), most)
    fn.line(f"br {fn.binary('or', stop, late)}, label %{end}, label %{step}")
    fn.label(step)
    add_one(fn, mine)
    fn.store(constant(1), begun)
    barrier(fn, sync, tid, threads)
    fn.line(f"br label %{head}")
    fn.label(end)


def write_hold(fn: Function) -> None:
    """ctx = go, begun, threads: say how many threads there are and wait for go."""
    ctx, _, tid, threads = fn.arguments
    with fn.when(fn.compare("eq", tid, constant(0))):
        fn.store(threads, fn.at(ctx, 2, I64))
        fn.line(f"store atomic i64 1, {fn.at(ctx, 1, I64)} release, align 8")
    await_word(fn, ctx, constant(1), constant(-1))


def write_nothing(fn: Function) -> None:
    """Return."""


PROGRAMS: dict[str, Callable[[Function], None]] = {
    "visits": write_visits,
    "seven": lambda fn: write_visits(fn, 7),
    "diary": write_diary,
    "stencil": write_stencil,
    "meetings": write_meetings,
    "steps": write_steps,
    "hold": write_hold,
    "nothing": write_nothing,
    "look": lambda fn: look_for_stop(fn, fn.arguments[1]),
}


def module_of(*names: str) -> Module:
    module = Module(host())
    for name in names:
        fn = module.function(name, ARGUMENTS, internal=False)
        PROGRAMS[name](fn)
        fn.finish()
    return module


@cache
def library() -> Library:
    return build(module_of(*PROGRAMS).text())


@cache
def addresses() -> dict[str, int]:
    return {name: library().address(name) for name in PROGRAMS}


def address(name: str) -> int:
    # LLVM is asked once, before any fork: its Python binding holds a lock while it answers.
    return addresses()[name]


class Context:
    """WORDS words of memory that a program works on."""

    def __init__(self, *words: int) -> None:
        self.words: NDArray[np.int64] = np.zeros(WORDS, np.int64)
        self.words[: len(words)] = words

    @property
    def address(self) -> int:
        return int(self.words.ctypes.data)

    @property
    def rest(self) -> list[int]:
        """All behind the first two."""
        return [int(x) for x in self.words[2:]]


def stencil(run: Run, rounds: int) -> bytes:
    """What the stencil makes of one start, bit by bit."""
    ctx = Context(rounds)
    cells = ctx.words[2 : 2 + CELLS].view(np.float64)
    cells[:] = np.arange(CELLS) ** 2 % 17 - 5.5
    run(address("stencil"), ctx.address)
    return cells.tobytes()


@cache
def stencil_by_numpy(rounds: int) -> bytes:
    cells = np.arange(CELLS) ** 2 % 17 - 5.5
    for _ in range(2 * rounds):
        cells = np.roll(cells, 1) * 0.3 + np.roll(cells, -1) * 0.7
    return cells.tobytes()


def wait_for(ready: Callable[[], object], seconds: float = 20.0) -> None:
    """Return when it is so; fail after so long."""
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(1e-4)


# -- child processes ------------------------------------------------------------------------------


def right_in_child(threads: int) -> None:
    """Exit code 0 where a child's pool works, twice, and after a nap."""
    for _ in range(2):
        if stencil(pool(threads).run, 20) != stencil_by_numpy(20):
            sys.exit(3)
    time.sleep(0.003)
    if stencil(pool(threads).run, 3) != stencil_by_numpy(3):
        sys.exit(4)


def children(method: str, rounds: int) -> None:
    """Processes made by a method, by 1, 2 and 8 threads, before and after the parent's first run.

    In every other round another Python thread is running a program while the process is made.
    """
    context = multiprocessing.get_context(method)
    stencil(pool(2).run, 0)
    for number in range(rounds):
        for threads in (1, 2, 8):
            for ran_before in (False, True):
                mine = pool(threads)
                if ran_before:
                    right_in_child(threads)
                neighbour = threading.Thread(target=stencil, args=(pool(2).run, 2000))
                if number % 2:
                    neighbour.start()
                child = context.Process(target=right_in_child, args=(threads,))
                child.start()
                if stencil(mine.run, 5) != stencil_by_numpy(5):
                    sys.exit(5)
                child.join(30)
                if child.exitcode != 0:
                    print(f"{method}: {threads=} {ran_before=} {number=}: {child.exitcode}")
                    child.kill()
                    sys.exit(6)
                if number % 2:
                    neighbour.join()


if __name__ == "__main__":
    children(sys.argv[1], int(sys.argv[2]))
