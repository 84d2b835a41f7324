"""The machine's own limit: multiply-adds a second from registers alone, with no memory behind them.

What no float32 code on this machine can exceed; a fraction of it says how much is left to win.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import Any

ROUNDS = 200_000  # of the loop, some 2 ms


def peak(threads: int) -> tuple[Callable[[], float], str]:
    """A measurement of float32 GFLOP/s on so many threads, and what it runs."""
    try:
        loop, flops, kept = _multiply_adds()
    except (ImportError, RuntimeError) as error:
        return _product(), f"a NumPy product of 1024² as a stand-in ({type(error).__name__})"
    pool = ThreadPoolExecutor(threads)

    def measure(kept: Any = kept) -> float:
        """The engine must outlive its code, hence `kept`."""
        for _ in pool.map(loop, [ROUNDS] * threads):  # the workers are there, the clock is up
            pass
        rounds = 10 * ROUNDS
        start = perf_counter()
        for _ in pool.map(loop, [rounds] * threads):
            pass
        return threads * rounds * flops / (perf_counter() - start) / 1e9

    return measure, "multiply-adds on registers"


def _multiply_adds() -> tuple[Callable[[int], Any], int, Any]:
    """A loop of independent multiply-adds in native code, its FLOPs a round, its owner."""
    import llvmlite.binding as llvm

    from chainrule.compiler import emit, target

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    cpu, features = llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()
    host = target.target_for(llvm.get_default_triple(), cpu, features)
    module = emit.Module(host)
    lanes = host.lanes(32)
    sums = min(host.kind.registers - 4, 24)  # enough in flight to hide the latency on two units
    arguments = [(emit.I64, "rounds"), (emit.F32, "a"), (emit.F32, "b"), (emit.PTR, "out")]
    f = module.function("multiply_adds", arguments, internal=False)
    rounds, a, b, out = f.arguments
    a, b = f.splat(a, lanes), f.splat(b, lanes)
    start = [f.const(k, emit.F32.of(lanes)) for k in range(sums)]
    ends = f.loop(rounds, start, lambda i, values: [f.fma(x, a, b) for x in values])
    total = ends[0]
    for end in ends[1:]:
        total = f.add(total, end)
    f.store(total, out)  # or nothing would need to be computed
    f.finish()
    machine = llvm.Target.from_triple(host.triple).create_target_machine(
        cpu=cpu, features=features, opt=3
    )
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(module.text()), machine)
    engine.finalize_object()
    kind = ctypes.CFUNCTYPE(
        None, ctypes.c_int64, ctypes.c_float, ctypes.c_float, ctypes.POINTER(ctypes.c_float)
    )
    native = kind(engine.get_function_address("multiply_adds"))

    def loop(rounds: int) -> None:
        native(
            rounds, 0.5, 1.0, (ctypes.c_float * lanes)()
        )  # tends to 2: no denormals, no overflow

    return loop, 2 * lanes * sums, engine


def _product() -> Callable[[], float]:
    import numpy as np

    a = np.ones((1024, 1024), np.float32)

    def measure() -> float:
        start = perf_counter()
        for _ in range(5):
            a @ a
        return 5 * 2 * 1024**3 / (perf_counter() - start) / 1e9

    return measure
