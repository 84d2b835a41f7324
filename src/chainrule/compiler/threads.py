"""Phases and barriers: how the threads of one program share its work.

Every thread enters the program with the same `sync`, SYNC_BYTES of memory that were zero once and
begin at a multiple of LINE; nothing else is asked of it. One number in it, the generation, counts
the barriers passed since then. Whoever has not yet reached the next barrier holds the generation
still, so all threads read the same number and no thread keeps a count of its own: the same `sync`
serves any program and any number of threads, one call after the other.
"""

from __future__ import annotations

from collections.abc import Callable

from .emit import BOOL, I32, I64, PTR, VOID, Function, Module, Value

__all__ = [
    "LINE",
    "MOST_THREADS",
    "STOP_OFFSET",
    "SYNC_BYTES",
    "await_word",
    "barrier",
    "look_for_stop",
    "phase",
    "stop_requested",
]

MOST_THREADS = 64

# Two cache lines: x86 fetches them in pairs, Apple's lines are this long.
LINE = 128

STOP_OFFSET = 0  # the request to stop, which anybody may write at any time
GENERATION = 1 * LINE  # barriers passed; the stop that all threads have agreed on lies beside it
AGREED = GENERATION + 8
CLAIMS = 2 * LINE  # two counters of claimed chunks, used by even and by odd generations
ARRIVED = 4 * LINE  # a line for each thread: the generation that it is ready for
SYNC_BYTES = ARRIVED + MOST_THREADS * LINE

# About 1 µs. Where two threads share one core a longer spin delays the one that is waited for.
PAUSES = 40
SPIN = 2000  # pauses of a barrier, some 30 µs: as long as the piece of work that is waited for


def phase(
    fn: Function,
    sync: Value,
    tid: Value,
    threads: Value,
    count: int | Value,
    body: Callable[[Value], None],
) -> None:
    """`body(index)` for every index in range(count), each on one thread; then a barrier.

    Threads claim the next index when they are free, so that a core lost to another program costs
    its share of the work and no more; a single thread takes the indices in order. What was written
    in the phase is visible to every thread after it. All threads must come to the same phases in
    the same order with the same count, and a body holds no phase or barrier.
    """
    if threads.is_constant and int(threads.text) == 1:
        fn.loop(count, [], lambda index, _: body(index))
        return
    last = Value(str(count), I64) if isinstance(count, int) else count
    many = fn.compare("sgt", threads, fn.const(1, I64))
    # The other counter is set to 0 while this one is in use: see the barrier.
    parity = fn.binary("and", _read(fn, sync, GENERATION), fn.const(1, I64))
    place = fn.mul(parity, fn.const(LINE, I64))
    claims = _byte(fn, _byte(fn, sync, CLAIMS), place)
    before, head, claim, have, work, again, done = (
        fn.block,
        *map(fn.fresh, ("next", "claim", "have", "work", "again", "done")),
    )
    taken = Value(f"%{fn.fresh('taken')}", I64)
    index = Value(f"%{fn.fresh('index')}", I64)
    following = Value(f"%{fn.fresh('following')}", I64)
    fn.line(f"br label %{head}")
    fn.label(head)
    fn.line(f"{taken.text} = phi i64 [0, %{before}], [{following.text}, %{again}]")
    fn.line(f"br {many}, label %{claim}, label %{have}")
    fn.label(claim)
    # No ordering: what a chunk reads was published by the barrier before.
    claimed = fn.new(f"atomicrmw add {claims}, i64 1 monotonic, align 8", I64)
    fn.line(f"br label %{have}")
    fn.label(have)
    fn.line(f"{index.text} = phi i64 [{taken.text}, %{head}], [{claimed.text}, %{claim}]")
    more = fn.compare("slt", index, last)
    fn.line(f"br {more}, label %{work}, label %{done}")
    fn.label(work)
    body(index)
    fn.line(f"br label %{again}")
    fn.label(again)
    fn.line(f"{following.text} = add nsw {taken}, 1")
    fn.line(f"br label %{head}")
    fn.label(done)
    with fn.when(many):
        _meet(fn, sync, tid, threads)


def barrier(fn: Function, sync: Value, tid: Value, threads: Value) -> None:
    """No thread goes on before all have come here; then each sees what all wrote before it."""
    if threads.is_constant and int(threads.text) == 1:
        return
    with fn.when(fn.compare("sgt", threads, fn.const(1, I64))):
        _meet(fn, sync, tid, threads)


def stop_requested(fn: Function, sync: Value, threads: Value) -> Value:
    """i1: whether a stop was requested before the last barrier; every thread gets one answer.

    The request itself may come between the readings of two threads, of which one would leave and
    the other wait for it at the next barrier. So thread 0 looks while the others wait, and all
    read what it saw. A single thread looks for itself.
    """
    if threads.is_constant and int(threads.text) == 1:
        place = fn.const(STOP_OFFSET, I64)
    else:
        many = fn.compare("sgt", threads, fn.const(1, I64))
        place = fn.select(many, fn.const(AGREED, I64), fn.const(STOP_OFFSET, I64))
    return fn.compare("ne", _read(fn, sync, place), fn.const(0, I64))


def look_for_stop(fn: Function, sync: Value) -> None:
    """Agree on whether a stop is requested now; for one thread while no other runs or all wait."""
    _write(fn, _read(fn, sync, STOP_OFFSET), sync, AGREED)


def await_word(fn: Function, address: Value, value: Value, rounds: Value) -> Value:
    """i1: wait until the i64 at `address` is `value`; false after `rounds` yields of the core.

    −1 rounds wait for ever. What was written before the value was stored is visible after true.
    """
    _define_await(fn.module)
    return fn.call("threads.await", BOOL, [address, value, rounds])


def _meet(fn: Function, sync: Value, tid: Value, threads: Value) -> None:
    """The barrier for more than one thread."""
    _define_barrier(fn.module)
    fn.call("threads.barrier", VOID, [sync, tid, threads])


def _define_barrier(module: Module) -> None:
    """Each thread says that it has come; thread 0 has seen all and says so."""
    if "threads.barrier" in module.functions:
        return
    arguments = [(PTR, "sync"), (I64, "tid"), (I64, "threads")]
    fn = module.function("threads.barrier", arguments, inline=False)
    sync, tid, threads = fn.arguments
    zero = fn.const(0, I64)
    now = _read(fn, sync, GENERATION)
    following = fn.add(now, fn.const(1, I64))
    leads = fn.compare("eq", tid, zero)
    with fn.when(leads):
        # The counter of the next phase: its last use ended with the barrier before this one.
        parity = fn.binary("and", following, fn.const(1, I64))
        place = fn.mul(parity, fn.const(LINE, I64))
        _write(fn, zero, _byte(fn, sync, CLAIMS), place)

        def wait(other: Value, _: list[Value]) -> None:
            line = _byte(fn, _byte(fn, sync, ARRIVED), fn.mul(other, fn.const(LINE, I64)))
            _wait(fn, line, following)

        fn.loop(threads, [], wait, start=1)
        look_for_stop(fn, sync)
        _write(fn, following, sync, GENERATION, "release")
    with fn.when(fn.compare("ne", tid, zero)):
        line = _byte(fn, _byte(fn, sync, ARRIVED), fn.mul(tid, fn.const(LINE, I64)))
        _write(fn, following, line, 0, "release")
        _wait(fn, _byte(fn, sync, GENERATION), following)
    fn.finish()


def _wait(fn: Function, address: Value, value: Value) -> None:
    """Until the i64 at `address` is `value`: a long spin, then sleep, so that the other may run.

    A core that is only yielded goes to whoever else wants it for a whole slice of the scheduler's;
    one that is slept on takes over the thread that is waited for, if that one was pushed aside.
    """
    name = "threads.wait"
    if name not in fn.module.functions:
        inner = fn.module.function(name, [(PTR, "address"), (I64, "value")], inline=False)
        inner.line("br label %round")
        inner.label("round")
        inner.line("br label %look")
        inner.label("look")
        inner.line("%paused = phi i64 [0, %round], [%more, %pause]")
        found = _read(inner, inner.arguments[0], 0, "acquire")
        there = inner.compare("eq", found, inner.arguments[1])
        inner.line(f"br {there}, label %done, label %pause")
        inner.label("pause")
        _pause(inner)
        inner.line("%more = add nuw i64 %paused, 1")
        patient = inner.compare("ult", Value("%more", I64), inner.const(SPIN, I64))
        inner.line(f"br {patient}, label %look, label %sleep")
        inner.label("sleep")
        if inner.target.is_windows:
            inner.call("SwitchToThread", I32, [])
        else:
            inner.call("usleep", I32, [inner.const(1, I32)])
        inner.line("br label %round")
        inner.label("done")
        inner.finish()
    fn.call(name, VOID, [address, value])


def _define_await(module: Module) -> None:
    """Look, pause, look …, then give the core away and begin again."""
    if "threads.await" in module.functions:
        return
    arguments = [(PTR, "address"), (I64, "value"), (I64, "rounds")]
    fn = module.function("threads.await", arguments, BOOL, inline=False)
    address, value, rounds = fn.arguments
    fn.line("br label %round")
    fn.label("round")
    fn.line("%gone = phi i64 [0, %entry], [%next, %yield]")
    fn.line("br label %look")
    fn.label("look")
    fn.line("%paused = phi i64 [0, %round], [%more, %pause]")
    there = fn.compare("eq", _read(fn, address, 0, "acquire"), value)
    fn.line(f"br {there}, label %true, label %pause")
    fn.label("pause")
    _pause(fn)
    fn.line("%more = add nuw i64 %paused, 1")
    patient = fn.compare("ult", Value("%more", I64), fn.const(PAUSES, I64))
    fn.line(f"br {patient}, label %look, label %tired")
    fn.label("tired")
    over = fn.compare("eq", Value("%gone", I64), rounds)
    fn.line(f"br {over}, label %false, label %yield")
    fn.label("yield")
    fn.call("SwitchToThread" if fn.target.is_windows else "sched_yield", I32, [])
    fn.line("%next = add i64 %gone, 1")
    fn.line("br label %round")
    fn.label("true")
    fn.line("ret i1 true")
    fn.label("false")
    fn.finish(fn.const(False, BOOL))


def _pause(fn: Function) -> None:
    """A short wait that leaves the core's resources to others."""
    if fn.target.is_x86:
        fn.call("llvm.x86.sse2.pause", VOID, [])
    elif fn.target.triple.startswith(("aarch64", "arm64")):
        # `yield` takes no time on most of these cores; `isb sy` takes about as long as a pause.
        fn.call("llvm.aarch64.isb", VOID, [fn.const(15, I32)])


def _byte(fn: Function, base: Value, offset: Value | int) -> Value:
    """The address so many bytes further."""
    if offset == 0:
        return base
    offset = Value(str(offset), I64) if isinstance(offset, int) else offset
    return fn.new(f"getelementptr i8, {base}, {offset}", PTR)


def _read(fn: Function, base: Value, offset: Value | int, order: str = "monotonic") -> Value:
    """An i64 that another thread may be writing."""
    return fn.new(f"load atomic i64, {_byte(fn, base, offset)} {order}, align 8", I64)


def _write(
    fn: Function, value: Value, base: Value, offset: Value | int, order: str = "monotonic"
) -> None:
    """An i64 that another thread may be reading."""
    fn.line(f"store atomic {value}, {_byte(fn, base, offset)} {order}, align 8")
