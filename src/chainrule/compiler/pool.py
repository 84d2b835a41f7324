"""The threads that run compiled programs: kept for the life of the process, asleep between runs.

A run is one native call. It holds every worker, hands out the job, takes part as thread 0 and
returns when all are done; nothing can interrupt it half-way. A worker that has had no job for
about a millisecond returns to Python and sleeps on a lock there, so an idle pool costs nothing.

The word in a worker's mailbox says who may change it next:

    IDLE   → HELD    the caller, who wants all workers before it starts any
    HELD   → JOB     the caller, who has all of them       (→ IDLE where one was asleep)
    JOB    → IDLE    the worker, when it is done
    IDLE   → PARKED  the worker, before it goes to sleep   (→ IDLE when it has been woken)
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import os
import threading
import time
from collections.abc import Callable
from functools import cache, partial
from operator import index
from typing import NamedTuple

from .emit import BOOL, I64, PTR, VOID, Function, Module, Type, Value
from .native import Library, build, host
from .threads import LINE, MOST_THREADS, STOP_OFFSET, SYNC_BYTES, await_word, look_for_stop

__all__ = ["Pool", "pool", "run_alone", "thread_count"]

IDLE, HELD, JOB, PARKED = range(4)

# The memory that a pool's threads share, in bytes from its begin.
BUSY = 0  # 1 while a run is going on
ENTRY, CONTEXT, THREADS, NUMBER = (LINE + 8 * k for k in range(4))  # the job; NUMBER counts them
MAIL = 2 * LINE  # a line for each thread: its word, and the number of the last job that it did
DONE = 8  # after the word
SYNC = MAIL + MOST_THREADS * LINE
BLOCK_BYTES = SYNC + SYNC_BYTES

# Entry, context and rounds: see `_emit_dispatch`.
_Dispatch = Callable[[int | None, int | None, int], int]

CLOSED = -1  # what `dispatch` returns when told to send the workers home during a run
LINGER = 1e-3  # seconds that a worker waits for the next job before it sleeps
GOODBYE = 2.0  # seconds that the process waits for its workers at the end


# -- native code ----------------------------------------------------------------------------------


class _Native(NamedTuple):
    """The compiled functions below, and how often a worker may yield in LINGER seconds."""

    library: Library  # keeps the code in memory
    dispatch: Callable[[int, int | None, int | None, int], int]
    work: Callable[[int, int, int], int]
    rounds: int


@cache
def _native() -> _Native:
    module = Module(host())
    _emit_dispatch(module)
    _emit_work(module)
    library = build(module.text())
    word, address = ctypes.c_int64, ctypes.c_void_p
    dispatch = ctypes.CFUNCTYPE(word, address, address, address, word)(library.address("dispatch"))
    work = ctypes.CFUNCTYPE(word, address, word, word)(library.address("work"))
    return _Native(library, dispatch, work, _rounds(work))


def _rounds(work: Callable[[int, int, int], int]) -> int:
    """How many times a waiting worker yields in LINGER seconds, where nobody wants the core.

    Counted, not timed: a worker that shares its core then waits longer, but for the same share
    of the processor, and no system's clock is needed in native code.
    """
    block = _Block(2)
    quickest = min(_seconds(lambda: work(block.address, 1, 50)) for _ in range(3))
    return min(max(int(50 * LINGER / quickest), 10), 10_000)


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _emit_dispatch(module: Module) -> None:
    """`dispatch(block, entry, context, rounds)`: 0 when the program has run on every thread.

    Else nothing was started, and the bits tell which workers sleep: bit 0 for thread 1. Sleepers
    get `rounds` yields' time to wake up. While another run has the workers, the program runs on
    the calling thread alone. No entry sends the workers home, for ever.
    """
    arguments = [(PTR, "block"), (PTR, "entry_"), (PTR, "context"), (I64, "rounds")]
    fn = module.function("dispatch", arguments, I64, internal=False)
    block, entry, context, rounds = fn.arguments
    zero, one = fn.const(0, I64), fn.const(1, I64)
    sync = fn.at(block, SYNC // 8, I64)
    threads = fn.load(fn.at(block, THREADS // 8, I64), I64)
    program = fn.compare("ne", entry, Value("null", PTR))

    many = fn.compare("sgt", threads, one)
    fn.line(f"br {many}, label %several, label %alone")
    fn.label("several")
    mine = _swap(fn, block, 0, 1)
    fn.line(f"br {mine}, label %hold, label %alone")
    fn.label("alone")
    fn.line(f"br {program}, label %single, label %refuse")
    fn.label("refuse")
    fn.line(f"ret i64 {CLOSED}")
    fn.label("single")
    _enter(fn, entry, context, sync, zero, one)
    fn.line("ret i64 0")

    fn.label("hold")

    def hold(tid: Value, asleep: list[Value]) -> list[Value]:
        mail = _mail(fn, block, tid)
        await_word(fn, mail, fn.const(IDLE, I64), rounds)
        missed = fn.binary("xor", _swap(fn, mail, IDLE, HELD), fn.const(True, BOOL))
        bit = fn.binary("shl", fn.convert("zext", missed, I64), fn.sub(tid, one))
        return [fn.binary("or", asleep[0], bit)]

    [asleep] = fn.loop(threads, [zero], hold, start=1)
    fn.line(f"br {fn.compare('eq', asleep, zero)}, label %start, label %release")

    fn.label("release")
    fn.loop(threads, [], lambda tid, _: _let_go(fn, block, tid), start=1)
    _publish(fn, zero, block)
    fn.line(f"ret {asleep}")

    fn.label("start")
    look_for_stop(fn, sync)
    last = fn.at(block, NUMBER // 8, I64)
    number = fn.add(fn.load(last, I64), one)
    fn.store(number, last)
    fn.store(entry, fn.at(block, ENTRY // 8, I64))
    fn.store(context, fn.at(block, CONTEXT // 8, I64))

    def post(tid: Value, _: list[Value]) -> None:
        _publish(fn, fn.const(JOB, I64), _mail(fn, block, tid))

    def collect(tid: Value, _: list[Value]) -> None:
        # Not the word: the worker may be asleep already when this thread comes to look.
        await_word(fn, fn.at(_mail(fn, block, tid), DONE // 8, I64), number, fn.const(-1, I64))

    fn.loop(threads, [], post, start=1)
    with fn.when(program):
        _enter(fn, entry, context, sync, zero, threads)
    fn.loop(threads, [], collect, start=1)
    with fn.when(program):
        _publish(fn, zero, block)
    fn.finish(zero)


def _emit_work(module: Module) -> None:
    """`work(block, tid, rounds)`: do jobs until none has come for so long (0) or home is (1)."""
    arguments = [(PTR, "block"), (I64, "tid"), (I64, "rounds")]
    fn = module.function("work", arguments, I64, internal=False)
    block, tid, rounds = fn.arguments
    mail = _mail(fn, block, tid)
    _swap(fn, mail, PARKED, IDLE)
    fn.line("br label %wait")

    fn.label("wait")
    come = await_word(fn, mail, fn.const(JOB, I64), rounds)
    fn.line(f"br {come}, label %job, label %tired")
    fn.label("tired")
    parked = _swap(fn, mail, IDLE, PARKED)
    fn.line(f"br {parked}, label %sleep, label %wait")
    fn.label("sleep")
    fn.line("ret i64 0")

    fn.label("job")
    entry = fn.load(fn.at(block, ENTRY // 8, I64), PTR)
    number = fn.load(fn.at(block, NUMBER // 8, I64), I64)
    fn.line(f"br {fn.compare('eq', entry, Value('null', PTR))}, label %home, label %program")
    fn.label("program")
    context = fn.load(fn.at(block, CONTEXT // 8, I64), PTR)
    threads = fn.load(fn.at(block, THREADS // 8, I64), I64)
    _enter(fn, entry, context, fn.at(block, SYNC // 8, I64), tid, threads)
    _publish(fn, fn.const(IDLE, I64), mail)
    _publish(fn, number, fn.at(mail, DONE // 8, I64))
    fn.line("br label %wait")
    fn.label("home")
    _publish(fn, number, fn.at(mail, DONE // 8, I64))
    fn.finish(fn.const(1, I64))


def _mail(fn: Function, block: Value, tid: Value) -> Value:
    """The address of a thread's word."""
    lines = fn.at(block, MAIL // 8, I64)
    return fn.at(lines, fn.mul(tid, fn.const(LINE // 8, I64)), I64)


def _swap(fn: Function, address: Value, old: int, new: int) -> Value:
    """i1: the word was `old` and is now `new`; no other thread came between."""
    words = f"cmpxchg {address}, i64 {old}, i64 {new} acq_rel acquire"
    both = fn.new(words, Type("{ i64, i1 }"))
    return fn.new(f"extractvalue {both}, 1", BOOL)


def _let_go(fn: Function, block: Value, tid: Value) -> None:
    """A held worker is free again; a sleeping one is left so."""
    _swap(fn, _mail(fn, block, tid), HELD, IDLE)


def _publish(fn: Function, value: Value, address: Value) -> None:
    """Store a word; who reads it sees all that was written before."""
    fn.line(f"store atomic {value}, {address} release, align 8")


def _enter(
    fn: Function, entry: Value, context: Value, sync: Value, tid: Value, threads: Value
) -> None:
    """Call the program."""
    fn.line(f"call {VOID} {entry.text}({context}, {sync}, {tid}, {threads})")


# -- the pool -------------------------------------------------------------------------------------


class _Block:
    """The memory that the threads of one pool share."""

    def __init__(self, threads: int) -> None:
        self.memory = ctypes.create_string_buffer(BLOCK_BYTES + LINE)
        self.address = -(-ctypes.addressof(self.memory) // LINE) * LINE
        self.word(THREADS).value = threads
        for tid in range(1, threads):
            self.word(MAIL + tid * LINE).value = PARKED

    def word(self, offset: int) -> ctypes.c_int64:
        """One i64 of it."""
        return ctypes.c_int64.from_address(self.address + offset)


class _Team:
    """Workers 1 … threads−1 and the memory that they share with their callers."""

    def __init__(self, native: _Native, threads: int) -> None:
        self.native, self.block = native, _Block(threads)
        self.dispatch: _Dispatch = partial(native.dispatch, self.block.address)
        self.alarms = [threading.Lock() for _ in range(1, threads)]
        self.workers: list[threading.Thread] = []
        for tid, alarm in enumerate(self.alarms, 1):
            alarm.acquire()
            # As daemons they cannot keep a process alive whose end was not told to this module.
            worker = threading.Thread(
                target=_work,
                args=(native, self.block, tid, alarm),
                name=f"chainrule-{tid}of{threads}",
                daemon=True,
            )
            try:
                worker.start()
            except RuntimeError:
                # The system has no more threads to give: the same results come from fewer.
                self.block.word(THREADS).value = tid
                break
            self.workers.append(worker)

    def wake(self, asleep: int) -> bool:
        """Wake these workers; false where one has died and the team is of no use any more."""
        for k, worker in enumerate(self.workers):
            if asleep >> k & 1:
                # It may have been woken already, and be on its way.
                with contextlib.suppress(RuntimeError):
                    self.alarms[k].release()
                if not worker.is_alive():
                    return False
        return True

    def go_home(self, deadline: float) -> None:
        """End every worker, if no run outlasts the deadline; later programs run alone."""
        while asleep := self.dispatch(None, None, self.native.rounds):
            if time.monotonic() > deadline or (asleep != CLOSED and not self.wake(asleep)):
                return
            if asleep == CLOSED:
                if not self.workers:
                    return
                time.sleep(1e-3)
        for worker in self.workers:
            worker.join(max(0.0, deadline - time.monotonic()))


def _work(native: _Native, block: _Block, tid: int, alarm: threading.Lock) -> None:
    """The life of a worker."""
    while True:
        alarm.acquire()
        if native.work(block.address, tid, native.rounds):
            return


class Pool:
    """`run` calls a program on `threads` threads, of which the caller's is one."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._team: _Team | None = None
        self._dispatch: _Dispatch = self._first
        self._starting = threading.Lock()

    def run(self, entry_address: int, ctx_address: int) -> None:
        """Call `entry(ctx, sync, tid, threads)` on every thread; returns when all have returned.

        Python's other threads go on meanwhile. A second caller does not wait for the first: its
        program runs on its own thread alone, and gives the same numbers. Signals are handled after
        the call: let a long program come back every fraction of a second.
        """
        # Interrupted anywhere here, nothing is lost: a job is handed out and done within one call.
        while asleep := self._dispatch(entry_address, ctx_address, 0):
            team = self._present_team()
            while asleep and team.wake(asleep):
                asleep = team.dispatch(entry_address, ctx_address, team.native.rounds)
            if not asleep:
                return
            self._replace(team)

    def request_stop(self) -> None:
        """Have programs that look for it end at their next step, until `clear_stop`."""
        self._stop_word().value = 1

    def clear_stop(self) -> None:
        """Let programs run to their end again."""
        self._stop_word().value = 0

    @property
    def stopping(self) -> bool:
        """Whether a stop is requested."""
        return bool(self._stop_word().value)

    def _stop_word(self) -> ctypes.c_int64:
        return self._present_team().block.word(SYNC + STOP_OFFSET)

    def _present_team(self) -> _Team:
        """The workers, made where there are none."""
        with self._starting:
            if self._team is None:
                self._team = _Team(_native(), self.threads)
                self._dispatch = self._team.dispatch
            return self._team

    def _replace(self, team: _Team) -> None:
        """The next run makes new workers: one of these has died."""
        with self._starting:
            if self._team is team:
                self._team, self._dispatch = None, self._first

    def _first(self, entry: int | None, context: int | None, rounds: int) -> int:
        """`dispatch` while there are no workers."""
        return self._present_team().dispatch(entry, context, rounds)

    def _forget(self) -> None:
        """As in a child process: the workers stayed behind, and nobody holds a lock."""
        self._team, self._dispatch, self._starting = None, self._first, threading.Lock()

    def _close(self, deadline: float) -> None:
        if self._team is not None:
            self.request_stop()
            self._team.go_home(deadline)


_pools: dict[int, Pool] = {}


def pool(threads: int | None = None) -> Pool:
    """The process' pool of so many threads; None for as many as `thread_count()` says."""
    count = thread_count() if threads is None else index(threads)
    found = _pools.get(count)
    if found is None:
        if not 1 <= count <= MOST_THREADS:
            raise ValueError(f"threads={count}: a program runs on 1 to {MOST_THREADS} threads")
        found = _pools.setdefault(count, Pool(count))
    return found


def run_alone(entry_address: int, ctx_address: int) -> None:
    """Call the program on the calling thread only; any number of callers at once."""
    pool(1).run(entry_address, ctx_address)


def thread_count() -> int:
    """How many threads a program runs on where nobody says: CHAINRULE_THREADS, else the cores.

    The cores are those that this process may use, at most MOST_THREADS of them.
    """
    text = os.environ.get("CHAINRULE_THREADS", "").strip()
    if text:
        count = int(text) if text.isascii() and text.isdigit() else 0
        if not 1 <= count <= MOST_THREADS:
            raise ValueError(
                f"CHAINRULE_THREADS={text!r} in the environment: set it to a whole number from 1 "
                f"to {MOST_THREADS}, or unset it to use every core"
            )
        return count
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = getattr(os, "process_cpu_count", os.cpu_count)() or 1
    return min(cores, MOST_THREADS)


def _forget_all() -> None:
    for one in _pools.values():
        one._forget()


def _close_all() -> None:
    """Before the interpreter is taken down: native code must not outlive the memory it is in."""
    deadline = time.monotonic() + GOODBYE
    for one in _pools.values():
        one._close(deadline)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
atexit.register(_close_all)
