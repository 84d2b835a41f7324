"""What the benchmarks share: fair timing, aligned tables, and goals that are met or missed.

Everything is timed in interleaved rounds: each round runs every competitor once, and the starting
competitor moves on from round to round, so that a busy moment of the machine falls on all of them.
The garbage collector stays enabled, as it is in use.
"""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
import sys
import timeit
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from time import perf_counter_ns, process_time_ns, sleep
from typing import Any, TypeVar

T = TypeVar("T")
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def one_thread() -> None:
    """Pin the linear algebra libraries to one thread; call it before NumPy is imported."""
    for name in THREADS:
        os.environ[name] = "1"


# -- timing -----------------------------------------------------------------------------------

CLOCKS = {"wall": perf_counter_ns, "processor": process_time_ns}
_now = CLOCKS["wall"]


def choose_clock(name: str) -> None:
    """Count wall time, or processor time only, which other processes disturb less."""
    global _now
    _now = CLOCKS[name]


def clock_name() -> str:
    """Which time is counted."""
    return next(name for name, clock in CLOCKS.items() if clock is _now)


def clock(run: Callable[[], Any]) -> float:
    """Nanoseconds of one call."""
    start = _now()
    run()
    return float(_now() - start)


def statement(source: str, names: Mapping[str, Any]) -> Callable[[int], float]:
    """A measurement of a statement: repetitions ↦ nanoseconds each, without a call around it.

    `timeit` disables the garbage collector before the setup runs, so the setup enables it again.
    """
    setup = "import gc; gc.enable()"
    timer = timeit.Timer(source, setup, timer=_now, globals=dict(names))
    return lambda repetitions: timer.timeit(repetitions) / repetitions


def interleaved(measurements: Mapping[str, Callable[[], T]], rounds: int) -> dict[str, list[T]]:
    """What each measurement gave in each round."""
    names = list(measurements)
    results: dict[str, list[T]] = {name: [] for name in names}
    for number in range(rounds):
        turn = number % max(len(names), 1)
        for name in names[turn:] + names[:turn]:
            results[name].append(measurements[name]())
    return results


def difference(a: Sequence[float], b: Sequence[float]) -> float:
    """The median over rounds of a − b, each pair from one round."""
    return median([x - y for x, y in zip(a, b, strict=True)])


def ratio(a: Sequence[float], b: Sequence[float]) -> float:
    """The median over rounds of a ÷ b, each pair from one round."""
    return median([x / y for x, y in zip(a, b, strict=True)])


def ratios(a: Sequence[float], b: Sequence[float]) -> list[float]:
    """a ÷ b of each round, but for rounds in which noise left no time at all."""
    return [x / y for x, y in zip(a, b, strict=True) if x > 0 and y > 0]


def spread(values: Sequence[float]) -> str:
    """The least and the greatest of some figures."""
    return f"{number(min(values))}–{number(max(values))}" if values else "–"


def middle(values: Sequence[float]) -> float:
    """The median; not a number where nothing was measured."""
    return median(values) if values else math.nan


def repeated(
    run: Callable[[], Any], least: float, most: int = 10**6, rest: float = 0.0
) -> Callable[[], float]:
    """A measurement in nanoseconds a call, repeated so often that a round takes `least` ns.

    `rest` are seconds of sleep before each, for the workers that the last competitor left spinning.
    """
    run()
    once = min(clock(run) for _ in range(3))
    times = max(1, min(most, int(least / max(once, 1.0))))

    def several() -> None:
        for _ in range(times):
            run()

    def measure() -> float:
        sleep(rest)
        return clock(several) / times

    return measure


# -- processes --------------------------------------------------------------------------------


def fresh(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run this interpreter anew, with the same environment but for what is given."""
    command = [sys.executable, *arguments]
    changed = {**os.environ, **environment}
    return subprocess.run(command, capture_output=True, text=True, check=True, env=changed)


def with_threads(threads: int) -> dict[str, str]:
    """The environment that gives every library so many threads; NPROC is XLA's."""
    return dict.fromkeys([*THREADS, "CHAINRULE_THREADS", "NPROC"], str(threads))


def answer(*arguments: str, **environment: str) -> Any:
    """What this interpreter, run anew, printed as JSON on its last line."""
    try:
        return json.loads(fresh(*arguments, **environment).stdout.splitlines()[-1])
    except subprocess.CalledProcessError as error:
        sys.exit(f"{' '.join(arguments)} failed:\n{error.stderr}")


def most_threads() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def thread_counts(text: str) -> list[int]:
    """The thread counts of a command line: "1,2", or "" for one and all."""
    return [int(word) for word in text.split(",")] if text else sorted({1, most_threads()})


# -- results ----------------------------------------------------------------------------------


@dataclass
class Goal:
    """A number with a limit; `at_least` where more is better."""

    name: str
    limit: float
    measured: float
    unit: str
    at_least: bool = False

    @property
    def margin(self) -> float:
        """How many times better than the limit; below 1 it is missed."""
        ends = (self.measured, self.limit) if self.at_least else (self.limit, self.measured)
        return ends[0] / ends[1]

    @property
    def met(self) -> bool:
        """Whether the limit is kept."""
        return self.margin >= 1

    def figure(self, x: float) -> str:
        """A figure with the goal's unit."""
        return f"{number(x)} {self.unit}".rstrip()

    def row(self) -> list[str]:
        """The goal as a line of the summary table."""
        sign = "≥" if self.at_least else "≤"
        return [
            self.name,
            f"{sign} {self.figure(self.limit)}",
            self.figure(self.measured),
            f"{number(self.margin)}×",
            "✓" if self.met else "✗",
        ]


@dataclass
class Section:
    """One experiment: a table, its goals, and what has to be said about it."""

    title: str
    head: list[str]
    rows: list[list[str]] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)

    def text(self) -> str:
        """The section as it is printed."""
        return "\n".join([self.title, *table(self.head, self.rows), *self.notes, ""])


GOAL_HEAD = ["goal", "limit", "measured", "limit kept by", ""]


def number(x: float | None) -> str:
    """A figure with three significant digits; a dash for what does not exist."""
    if x is None:
        return "–"
    if 0 < abs(x) < 0.005 or abs(x) >= 1e6:
        return f"{x:.0e}"
    digits = 0 if abs(x) >= 100 else 1 if abs(x) >= 10 else 2
    return f"{x:,.{digits}f}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Aligned lines: the first column to the left, the others to the right."""
    widths = [max(len(row[k]) for row in [head, *rows]) for k in range(len(head))]
    lines = [_line(row, widths) for row in rows]
    return [_line(head, widths), "  ".join("─" * width for width in widths), *lines]


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = [row[0].ljust(widths[0])]
    cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
    return "  ".join(cells).rstrip()


def load() -> float | None:
    """How many processes wanted a processor during the last minute, where the system tells."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def machine() -> dict[str, Any]:
    """What a reader of the figures must know about where they come from."""
    return {
        "python": platform.python_version(),
        "system": platform.system(),
        "architecture": platform.machine(),
        "processors": os.cpu_count(),
    }
