"""Phases and barriers, on threads that the test starts itself; tests of the pool are elsewhere."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainrule.compiler.emit import I64, Module
from chainrule.compiler.native import assembly_of, available
from chainrule.compiler.target import target_for
from chainrule.compiler.threads import LINE, MOST_THREADS, STOP_OFFSET, SYNC_BYTES, phase
from pool_programs import (
    ARGUMENTS,
    PROGRAMS,
    Context,
    add_one,
    address,
    constant,
    module_of,
    stencil,
    stencil_by_numpy,
    wait_for,
)

needs_native = pytest.mark.skipif(not available(), reason="no native code on this machine")

ENTRY = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)


class Sync:
    """Memory for programs to meet in, and Python threads to enter them."""

    def __init__(self) -> None:
        self.memory = ctypes.create_string_buffer(SYNC_BYTES + LINE)
        self.address = -(-ctypes.addressof(self.memory) // LINE) * LINE

    def runner(self, threads: int) -> Callable[[int, int], None]:
        def run(entry: int, context: int) -> None:
            program = ENTRY(entry)
            others = [
                threading.Thread(target=program, args=(context, self.address, tid, threads))
                for tid in range(1, threads)
            ]
            for other in others:
                other.start()
            program(context, self.address, 0, threads)
            for other in others:
                other.join()

        return run

    def stop(self, value: int) -> None:
        ctypes.c_int64.from_address(self.address + STOP_OFFSET).value = value


@needs_native
@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize("count", [0, 1, 2, 7, 100])
def test_every_index_is_done_once(threads: int, count: int) -> None:
    ctx = Context(50, count)
    Sync().runner(threads)(address("visits"), ctx.address)
    assert ctx.rest == [50] * count + [0] * (len(ctx.rest) - count)


@needs_native
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_count_known_to_the_compiler(threads: int) -> None:
    ctx = Context(50)
    Sync().runner(threads)(address("seven"), ctx.address)
    assert ctx.rest[:8] == [50] * 7 + [0]


@needs_native
def test_one_thread_takes_the_indices_in_order() -> None:
    ctx = Context(0, 40)
    Sync().runner(1)(address("diary"), ctx.address)
    assert ctx.rest[:41] == [*range(40), 0]


@needs_native
@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_a_phase_sees_all_of_the_one_before_and_bits_do_not_depend_on_threads(threads: int) -> None:
    rounds = 2000 if threads < 3 else 200
    assert stencil(Sync().runner(threads), rounds) == stencil_by_numpy(rounds)


@needs_native
@pytest.mark.parametrize(("threads", "rounds"), [(1, 10), (2, 100_000), (3, 3000), (8, 1000)])
def test_nobody_leaves_a_barrier_before_all_have_come(threads: int, rounds: int) -> None:
    ctx = Context(rounds)
    Sync().runner(threads)(address("meetings"), ctx.address)
    assert ctx.words[1] == 0
    assert ctx.rest[: threads + 1] == [rounds] * threads + [0]


@needs_native
def test_as_many_threads_as_there_may_be() -> None:
    ctx = Context(20)
    Sync().runner(MOST_THREADS)(address("meetings"), ctx.address)
    assert ctx.words[1] == 0
    assert ctx.rest[:MOST_THREADS] == [20] * MOST_THREADS


@needs_native
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["visits", "meetings", "stencil"]),
            st.sampled_from([1, 2, 3, 5]),
            st.integers(0, 5),
        ),
        min_size=2,
        max_size=6,
    )
)
def test_one_sync_serves_other_programs_and_other_numbers_of_threads(
    calls: list[tuple[str, int, int]],
) -> None:
    sync = Sync()
    for name, threads, rounds in calls:
        run = sync.runner(threads)
        if name == "stencil":
            assert stencil(run, rounds) == stencil_by_numpy(rounds)
            continue
        ctx = Context(rounds, 9 if name == "visits" else 0)
        run(address(name), ctx.address)
        assert ctx.words[1] == (9 if name == "visits" else 0)
        assert ctx.rest[:10] == [rounds] * (9 if name == "visits" else threads) + [0] * (
            1 if name == "visits" else 10 - threads
        )


@needs_native
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_stop_ends_all_threads_at_one_step(threads: int) -> None:
    sync, most = Sync(), 10**12
    run = sync.runner(threads)
    for _ in range(5):
        ctx = Context(most)
        steps = threading.Thread(target=run, args=(address("steps"), ctx.address))
        steps.start()
        wait_for(lambda ctx=ctx: ctx.words[1])
        sync.stop(1)
        steps.join(20)
        assert not steps.is_alive()
        assert 0 < ctx.rest[0] < most
        assert ctx.rest[: threads + 1] == [ctx.rest[0]] * threads + [0]
        sync.stop(0)
        sync.runner(1)(address("look"), ctx.address)


@needs_native
def test_threads_agree_on_the_stop_that_a_barrier_saw() -> None:
    """A request between two barriers is for the time after the second."""
    sync, ctx = Sync(), Context(3)
    sync.stop(1)
    sync.runner(2)(address("steps"), ctx.address)
    assert ctx.rest[:2] == [1, 1]  # nobody looked before the first step
    again = Context(3)
    sync.runner(2)(address("steps"), again.address)
    assert again.rest[:2] == [0, 0]
    sync.stop(0)
    sync.runner(1)(address("look"), ctx.address)
    sync.runner(2)(address("steps"), again.address)
    assert again.rest[:2] == [3, 3]


def test_helpers_are_in_a_module_once() -> None:
    lines = module_of("visits", "stencil", "meetings").text().splitlines()
    for name in ("threads.barrier", "threads.wait"):
        assert sum(line.startswith("define") and f"@{name}(" in line for line in lines) == 1


def test_a_single_thread_known_to_the_compiler_costs_nothing() -> None:
    module = Module(target_for("x86_64-unknown-linux-gnu", "generic", ""))
    fn = module.function("alone", ARGUMENTS, internal=False)
    ctx, sync, tid, _ = fn.arguments
    phase(fn, sync, tid, constant(1), 5, lambda index: add_one(fn, fn.at(ctx, index, I64)))
    fn.finish()
    assert list(module.functions) == ["alone"]
    assert "atomic" not in module.text()


@needs_native
@pytest.mark.parametrize(
    ("triple", "cpu", "there", "absent"),
    [
        ("x86_64-unknown-linux-gnu", "x86-64-v3", ["pause", "usleep"], ["mfence"]),
        ("x86_64-pc-windows-msvc", "x86-64-v3", ["pause", "SwitchToThread"], ["usleep"]),
        ("arm64-apple-macosx14", "apple-m1", ["isb", "ldar", "stlr", "_usleep"], ["dmb"]),
        ("aarch64-unknown-linux-gnu", "generic", ["isb", "ldar", "stlr", "usleep"], ["dmb"]),
    ],
)
def test_each_machine_waits_in_its_own_way(
    triple: str, cpu: str, there: list[str], absent: list[str]
) -> None:
    module = Module(target_for(triple, cpu, ""))
    for name in ("stencil", "steps"):
        fn = module.function(name, ARGUMENTS, internal=False)
        PROGRAMS[name](fn)
        fn.finish()
    text = assembly_of(module.text(), module.target).replace("ldapr", "ldar")
    assert [word for word in there if word not in text] == []
    assert [word for word in absent if word in text] == []
