"""What a compiled function became: its kernels with their work, memory and time, and its stages.

Everything is read off the schedule, which is what runs; nothing is told twice.
"""

from __future__ import annotations

import collections
import ctypes
import functools
import itertools
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .emit import I64, PTR, VOID, Function, Module
from .graph import Graph, typed
from .memory import COUNT, POINTERS
from .native import assembly_of, build, host
from .plan import Kernel, Plan
from .program import Frame, Program, write_alone, write_step
from .segments import Interpreted, Segments
from .small import work_of
from .views import VIEWS

__all__ = ["KernelReport", "Limits", "ProgramReport", "Report", "Stages", "described", "limits"]

NEAR = 4 << 20  # bytes that the caches may hold: the speed of memory does not bound such a kernel


@dataclass(frozen=True)
class Limits:
    """What one core can do: multiply-adds in float32, and bytes copied in memory, per second."""

    flops: float
    copy: float


@dataclass(frozen=True)
class KernelReport:
    """One loop of machine code. `fused` are the operations that it computes, in order, each with
    its note: the user's name, or which step of the chain rule it does."""

    number: int
    kind: str
    domain: tuple[int, ...]
    fused: tuple[tuple[str, str], ...]
    phase: int
    chunks: int
    flops: int
    bytes: int
    dtype: np.dtype[Any]
    seconds: float | None = None  # for all of its rows on one core, where measured

    def __str__(self) -> str:
        size = "×".join(map(str, self.domain)) or "1"
        runs = itertools.groupby(self.fused, key=lambda pair: pair[1])
        names = [(note, " → ".join(name for name, _ in some)) for note, some in runs]
        parts = [f"{what} [{note}]" if note else what for note, what in names]
        pieces = f", {self.chunks} chunks" if self.chunks > 1 else ""
        head = f"{self.number:>4}  {self.kind} {size}{pieces}: {' → '.join(parts)}"
        work = f"{_si(self.flops)}FLOP, {_si(self.bytes)}B"
        return f"{head}\n      {work}{self.speed}"

    @property
    def speed(self) -> str:
        """How fast it ran, and how near to the machine's limit; empty where it was not timed."""
        if not self.seconds:
            return ""
        most = limits()
        peak = most.flops * 4 / self.dtype.itemsize
        text = f", {_si(self.seconds)}s"
        if self.kind == "matmul":
            share = self.flops / self.seconds / peak
            return f"{text}, {_si(self.flops / self.seconds)}FLOP/s ({share:.0%} of the peak)"
        text += f", {_si(self.bytes / self.seconds)}B/s"
        if self.bytes > NEAR:
            text += f" ({self.bytes / self.seconds / most.copy:.0%} of a copy)"
        return text


@dataclass(frozen=True)
class ProgramReport:
    """One program: for which arguments, what runs in machine code, and what in NumPy and why."""

    signature: str
    kernels: tuple[KernelReport, ...]
    numpy: tuple[tuple[str, str], ...]
    flops: int
    bytes: int
    arena: int
    threads: int
    seconds: float
    timings: Mapping[str, float]

    def __str__(self) -> str:
        lines = [f"program for {self.signature}"]
        if self.kernels:
            several = "1 core" if self.threads == 1 else f"{self.threads} cores"
            lines.append(
                f"  {_many(len(self.kernels), 'kernel')} in machine code on {several},"
                f" {_si(self.flops)}FLOP, {_si(self.bytes)}B moved, arena {_si(self.arena)}B"
            )
        how = "from the cache on disk" if self.timings.get("cached") else "compiled"
        spent = ", ".join(
            f"{name} {_si(self.timings[name])}s"
            for name in ("parse", "codegen", "load")
            if self.timings.get(name)
        )
        if self.kernels:
            lines.append(f"  {how} in {_si(self.seconds)}s ({spent})")
        phase = -1
        for kernel in self.kernels:
            if kernel.phase != phase:
                phase = kernel.phase
                lines.append(f"  phase {phase}")
            lines.append(str(kernel))
        if self.numpy:
            lines.append("  in NumPy:")
            lines += [f"    {what}: {why}" for what, why in self.numpy]
        elif self.kernels:
            lines.append("  nothing runs in NumPy")
        return "\n".join(lines)


@dataclass(frozen=True)
class Report:
    """Of a compiled function: `programs`, each a `ProgramReport`, from the least lately used."""

    name: str
    programs: list[ProgramReport]
    kept: int
    limit: int
    dropped: int

    def __str__(self) -> str:
        dropped = f"; {self.dropped} made room for others" if self.dropped else ""
        head = f"{self.name}: {self.kept} of at most {_many(self.limit, 'program')}{dropped}"
        if not self.programs:
            return f"{head}\nnothing is compiled before the first call"
        return "\n\n".join([head, *map(str, self.programs)])

    __repr__ = __str__


def described(graph: Graph, runner: Any, seconds: float, measure: bool) -> ProgramReport:
    """The report of one program."""
    programs: list[Program] = []
    numpy: tuple[tuple[str, str], ...] = ()
    if isinstance(runner, Program):
        programs = [runner]
    elif isinstance(runner, Segments):
        programs = [program for program, *_ in runner.stages if program is not None]
        numpy = tuple(
            (f"{graph.nodes[n].op} {typed(graph.nodes[n].dtype, graph.nodes[n].shape)}", why)
            for n, why in runner.missing.items()
        )
    elif isinstance(runner, Interpreted):
        numpy = (("everything", runner.why),)
    kernels: list[KernelReport] = []
    timings: dict[str, float] = {}
    phases = 0
    for program in programs:
        times = timed(program) if measure else {}
        if program.plan is None:
            kernels.append(_straight_line(program, len(kernels), phases, times.get(0)))
            phases += 1
        else:
            kernels += _kernels(program.plan, times, len(kernels), phases)
            phases += len(program.plan.phases)
        for name, value in program.library.timings.items():
            timings[name] = (
                min(timings.get(name, 1), value)
                if name == "cached"
                else (timings.get(name, 0.0) + value)
            )
    inputs = [graph.nodes[n] for n in graph.inputs]
    names = [f"{node.label or 'input'} {typed(node.dtype, node.shape)}" for node in inputs]
    return ProgramReport(
        ", ".join(names) or "no arguments",
        tuple(kernels),
        numpy,
        sum(k.flops for k in kernels),
        sum(k.bytes for k in kernels),
        sum(p.arena for p in programs),
        max([1 if p.pool is None else p.pool.threads for p in programs], default=1),
        seconds,
        timings,
    )


def _kernels(made: Plan, times: Mapping[int, float], first: int, phases: int) -> list[KernelReport]:
    found = []
    for phase, lanes in enumerate(made.phases):
        for lane in lanes:
            for kernel in lane.kernels:
                nodes = [made.graph.nodes[n] for n in kernel.group.members]
                fused = tuple((node.op, node.label or node.origin) for node in nodes)
                if kernel.copy is not None:
                    fused = (("an operand into panels", ""),)
                found.append(
                    KernelReport(
                        first + kernel.number,
                        kernel.group.kind,
                        tuple(kernel.group.domain),
                        fused,
                        phases + phase,
                        lane.chunks,
                        _flops(made, kernel),
                        _bytes(made, kernel),
                        nodes[0].dtype if nodes else np.dtype(np.float32),
                        times.get(kernel.number),
                    )
                )
    return found


def _flops(made: Plan, kernel: Kernel) -> int:
    """One for each operation at each element, and those of a product."""
    points = math.prod(kernel.group.domain)
    if kernel.copy is not None:
        return 0
    if kernel.group.kind == "matmul":
        return kernel.flops + points * (len(kernel.group.members) - 1)
    return points * len(kernel.group.members)


def _straight_line(
    program: Program, number: int, phase: int, seconds: float | None
) -> KernelReport:
    """A program without loops, as one kernel."""
    graph = program.graph
    done = [n for n in graph.nodes if n.op not in VIEWS and n.op not in ("input", "constant")]
    counts = collections.Counter(node.op for node in done)
    fused = tuple((f"{count} {op}", "") for op, count in counts.most_common())
    ends = [graph.nodes[n] for n in [*graph.inputs, *graph.outputs]]
    size = sum(node.size * node.dtype.itemsize for node in ends)
    work = sum(work_of(graph, node) for node in done)
    kinds = [node.dtype for node in done if node.dtype.kind == "f"]
    dtype = kinds[0] if kinds else np.dtype(np.float64)
    return KernelReport(number, "straight line", (), fused, phase, 1, work, size, dtype, seconds)


def _bytes(made: Plan, kernel: Kernel) -> int:
    """What is read and written, each array once."""
    if kernel.copy is not None:
        return kernel.bytes
    arrays = {made.home[n] for n in kernel.stores}
    arrays |= {access.array for access in kernel.operands.values()}
    members = set(kernel.group.members)
    todo = [k for n in members for k in made.graph.nodes[n].inputs]
    seen: set[int] = set()
    while todo:
        root = made.sources[todo.pop()].root
        if root in members or root in seen:
            continue
        seen.add(root)
        if root in made.lazy:
            todo += made.graph.nodes[root].inputs
        elif root in made.home:
            arrays.add(made.home[root])
    return sum(made.arrays[a].bytes for a in arrays)


# -- time -----------------------------------------------------------------------------------------


def timed(program: Program, budget: float = 0.02) -> dict[int, float]:
    """Seconds of each kernel for all of its rows on one core, the best of some runs.

    On numbers of our own: the time of these loops does not hang on the values.
    """
    made, module = program.plan, Module(program.target)
    if made is None:
        return {0: _best_call(program, budget)}
    write_step(module, made, "k")
    names = write_alone(module, made, "k")
    _write_all(module, made)
    library = build(module.text(), cache=False)
    graph = made.graph
    frame = Frame([made], len(graph.inputs) + len(graph.outputs))
    rng = np.random.default_rng(0)
    arrays = []
    for at, n in enumerate([*graph.inputs, *graph.outputs]):
        node = graph.nodes[n]
        values = rng.uniform(0.1, 1.0, node.shape).astype(node.dtype)
        arrays.append(np.ascontiguousarray(values))
        frame.words[POINTERS + at] = arrays[-1].ctypes.data
    # Once through all kernels in order, so that each has the operands that it would have.
    _call(library.address("all"), frame)
    return {number: _best(library.address(name), frame, budget) for number, name in names.items()}


def _best_call(program: Program, budget: float) -> float:
    """Seconds of a program that is one piece, called from Python."""
    rng = np.random.default_rng(0)
    nodes = [program.graph.nodes[n] for n in program.graph.inputs]
    inputs = [rng.uniform(0.1, 1.0, node.shape).astype(node.dtype) for node in nodes]
    best, spent = math.inf, 0.0
    while spent < budget:
        took = _clock(lambda: program(inputs))
        best, spent = min(best, took), spent + took
    return best


def _write_all(module: Module, made: Plan) -> None:
    """Every kernel after the other."""
    fn = module.function("all", [(PTR, "ctx"), (PTR, "sync"), (I64, "tid"), (I64, "threads")],
                         internal=False)  # fmt: skip
    for lanes in made.phases:
        for lane in lanes:
            for kernel in lane.kernels:
                fn.call(f"k{kernel.number}.alone", VOID, fn.arguments)
    fn.finish()


def _call(address: int, frame: Frame) -> None:
    word = ctypes.c_int64
    ctypes.CFUNCTYPE(None, word, word, word, word)(address)(frame.address, 0, 0, 1)


def _best(address: int, frame: Frame, budget: float) -> float:
    """Seconds of one round."""
    count, best, spent = 1, math.inf, 0.0
    while spent < budget:
        frame.words[COUNT] = count
        start = time.perf_counter()
        _call(address, frame)
        took = time.perf_counter() - start
        spent += took
        best = min(best, took / count)
        if took < budget / 10:
            count *= 4
    frame.words[COUNT] = 1
    return best


@functools.cache
def limits() -> Limits:
    """Of one core of this machine, measured once in a twentieth of a second."""
    module = Module(host())
    chains = 12
    fn = module.function("peak", [(I64, "rounds"), (PTR, "out")], internal=False)
    rounds, out = fn.arguments
    lanes = module.target.lanes(32)
    _peak(fn, rounds, out, chains, lanes)
    peak = build(module.text()).function("peak", None, ctypes.c_int64, ctypes.c_void_p)
    place = np.zeros(64, np.float32)
    turns = 50_000
    least = min(_clock(lambda: peak(turns, place.ctypes.data)) for _ in range(20))
    source = np.ones(4 << 20, np.float64)
    target = np.ones_like(source)
    copy = min(_clock(lambda: np.copyto(target, source)) for _ in range(3))
    return Limits(2.0 * chains * lanes * turns / least, 2.0 * source.nbytes / copy)


def _peak(fn: Function, rounds: Any, out: Any, chains: int, lanes: int) -> None:
    """Independent chains of multiply-adds, as many as hide each other's latency."""
    from .emit import F32

    kind = F32.of(lanes)
    start = [fn.const(k / 16, kind) for k in range(chains)]
    factor = fn.splat(fn.load(out, F32), lanes)
    sums = fn.loop(rounds, start, lambda _, xs: [fn.fma(x, factor, factor) for x in xs])
    total = sums[0]
    for x in sums[1:]:
        total = fn.add(total, x)
    fn.store(fn.extract(total, 0), fn.at(out, 1, F32))
    fn.finish()


def _clock(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


# -- stages ---------------------------------------------------------------------------------------


class Stages:
    """The program's texts: `circuit`, `simplified`, `schedule`, `ir` and `assembly`."""

    def __init__(self, made: tuple[Graph, Graph, Any] | None, again: Callable[..., Stages]) -> None:
        self._made, self._again = made, again

    def __call__(self, *args: Any, **kwargs: Any) -> Stages:
        """Of the program for these arguments, compiled if need be."""
        return self._again(args, kwargs)

    def _there(self) -> tuple[Graph, Graph, Any]:
        if self._made is None:
            raise ValueError("nothing is compiled yet: call the function, or use .stages(*args)")
        return self._made

    @property
    def _programs(self) -> list[Program]:
        runner = self._there()[2]
        if isinstance(runner, Program):
            return [runner]
        stages = runner.stages if isinstance(runner, Segments) else []
        return [program for program, *_ in stages if program is not None]

    @property
    def circuit(self) -> str:
        """As the function was traced."""
        return str(self._there()[0])

    @property
    def simplified(self) -> str:
        """In core operations, with fewer nodes."""
        return str(self._there()[1])

    @property
    def schedule(self) -> str:
        """Phases, kernels and where the arrays lie."""
        texts = [
            f"{p.graph}\n\nstraight-line code" if p.plan is None else schedule(p.plan)
            for p in self._programs
        ]
        return "\n\n".join(texts) or "everything runs in NumPy"

    @property
    def ir(self) -> str:
        """What LLVM is given."""
        return "\n".join(p.ir for p in self._programs)

    @property
    def assembly(self) -> str:
        """What LLVM makes of it for this machine."""
        return "\n".join(assembly_of(p.ir, p.target) for p in self._programs)

    def __str__(self) -> str:
        if self._made is None:
            return "nothing is compiled yet: call the function, or print .stages(*args)"
        titles = ("circuit", "simplified", "schedule", "ir")
        return "\n\n".join(f"== {t} ==\n{getattr(self, t).rstrip()}" for t in titles)

    __repr__ = __str__


def schedule(made: Plan) -> str:
    """A plan as text: the graph it follows, phases with their lanes and kernels, and memory."""
    lines = [str(made.graph), ""]
    for phase, lanes in enumerate(made.phases):
        lines.append(f"phase {phase}")
        for lane in lanes:
            whole = lane.chunks == 1
            cut = "in one piece" if whole else f"{lane.rows} rows by {lane.chunk}"
            lines.append(f"  lane, {cut}")
            lines += [f"    {_kernel_line(made, kernel)}" for kernel in lane.kernels]
    lines.append("arrays")
    lines += [f"  {_array_line(array)}" for array in made.arrays]
    lines.append(f"arena {made.arena} bytes")
    return "\n".join(lines)


def _kernel_line(made: Plan, kernel: Kernel) -> str:
    size = "×".join(map(str, kernel.group.domain)) or "1"
    if kernel.copy is not None:
        old, new = kernel.copy
        return f"k{kernel.number} {kernel.group.kind} {size}: a{old.array} into a{new.array}"
    nodes = ", ".join(f"%{n} {made.graph.nodes[n].op}" for n in kernel.group.members)
    stores = ", ".join(f"%{n} in a{made.home[n]}" for n in kernel.stores)
    return f"k{kernel.number} {kernel.group.kind} {size}: {nodes}; stores {stores}"


def _array_line(array: Any) -> str:
    where = f"at {array.offset}" if array.slot < 0 or array.kind == "state" else f"{array.slot}"
    strides = ", ".join(map(str, array.strides))
    kind = typed(array.dtype, array.shape)
    return f"a{array.number} {kind} {array.kind} {where}, strides ({strides})"


def _si(x: float) -> str:
    """A number with three digits and the prefix of its unit: 1.23 M."""
    if x == 0:
        return "0 "
    for power, prefix in ((9, "G"), (6, "M"), (3, "k"), (0, ""), (-3, "m"), (-6, "µ"), (-9, "n")):
        if abs(x) >= 0.9995 * 10.0**power or power == -9:
            return f"{x / 10.0**power:.3g} {prefix}"
    raise AssertionError


def _many(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"
