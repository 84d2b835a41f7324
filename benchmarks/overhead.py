"""What recording and differentiating cost, beside PyTorch eager, HIPS autograd and micrograd.

    python benchmarks/overhead.py            # a few minutes
    python benchmarks/overhead.py --quick    # half a minute: fewer rounds, shorter chains
    python benchmarks/overhead.py --only xor,deep --json overhead.json

Everything runs in one process on one thread; see benchmarks/README.md for how to read it.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import re
import sys
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import common
from common import Goal, Section, clock, difference, interleaved, number, ratio

common.one_thread()

import numpy as np  # noqa: E402  (the number of threads is read when NumPy is imported)

from libraries import Library, NumPy, importable  # noqa: E402

# -- (a) one recorded operation ---------------------------------------------------------------

OPERATIONS = (
    "x + y", "x * y", "x / y", "x + 2", "2 * x", "-x", "sin(x)", "exp(x)", "tanh(x)",
    "maximum(x, y)", "A + B", "A * B", "A + 2", "A + v", "tanh(A)", "A @ B", "sum(A)",
    "sum(A, 0)", "reshape(A, (2, 8))", "A.T", "v[1]", "A[1:3]",
)  # fmt: skip


def operands(library: Library) -> dict[str, Any]:
    """The names that the statements speak of: two scalars, two 4×4 matrices, a vector of 4."""
    names = dict(library.functions())
    names |= {"x": library.leaf(np.float64(1.5)), "y": library.leaf(np.float64(2.5))}
    if library.arrays:
        a, b = np.linspace(0.1, 1.6, 16).reshape(4, 4), np.linspace(1.0, 2.5, 16).reshape(4, 4)
        names |= {"A": library.leaf(a), "B": library.leaf(b), "v": library.leaf(a[0].copy())}
    return names


def known(source: str, names: dict[str, Any]) -> bool:
    """Whether a library has every word of a statement (attributes belong to the arrays)."""
    words = set(compile(source, "<statement>", "eval").co_names) - {"T"}
    return words <= names.keys()


def operation_costs(libraries: Sequence[Library], quick: bool) -> Section:
    """Nanoseconds of each operation, and how much of chainrule's is not NumPy's work."""
    everyone = [NumPy(), *libraries]
    names = {library.name: operands(library) for library in everyone}
    rounds, repetitions = (7, 500) if quick else (25, 2000)
    head = ["µs an operation", "bare NumPy", *(x.name for x in libraries), "chainrule − NumPy"]
    section = Section("(a) One recorded operation, float64", head)
    own = []
    for source in OPERATIONS:
        times = _statement_times(source, names, rounds, repetitions)
        extra = difference(times["chainrule"], times["NumPy"]) / 1000
        own.append(extra)
        cells = [median(times[x.name]) / 1000 if x.name in times else None for x in everyone]
        section.rows.append([source, *map(number, cells), number(extra)])
        section.data[source] = {**{k: median(t) for k, t in times.items()}, "extra": extra * 1000}
    worst = OPERATIONS[own.index(max(own))]
    section.goals = [
        Goal("bookkeeping an operation, median", 1.5, median(own), "µs"),
        Goal(f"bookkeeping an operation, worst: {worst}", 1.5, max(own), "µs"),
    ]
    return section


def _statement_times(
    source: str, names: dict[str, dict[str, Any]], rounds: int, repetitions: int
) -> dict[str, list[float]]:
    runs = {k: common.statement(source, n) for k, n in names.items() if known(source, n)}
    return interleaved({k: partial(run, repetitions) for k, run in runs.items()}, rounds)


# -- (b) a small training step ----------------------------------------------------------------


def xor_start() -> tuple[list[Any], Any, Any]:
    """The same weights, inputs and targets for everyone."""
    random = np.random.default_rng(1)
    weights = [random.normal(size=s) for s in ((2, 2), (2,), (2, 1), (1,))]
    inputs = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    return weights, inputs, np.array([[0.0], [1.0], [1.0], [0.0]])


def xor_step(libraries: Sequence[Library], quick: bool) -> Section:
    """Forward, backward and update of the 2-2-1 net that learns XOR; all must agree."""
    everyone = [NumPy(), *libraries]
    gaps = xor_disagreement(everyone)
    rounds, steps = (9, 50) if quick else (41, 100)
    runs = {x.name: x.xor(*xor_start()) for x in everyone}

    def several(step: Callable[[], Any]) -> Callable[[], float]:
        return lambda: clock(lambda: [step() for _ in range(steps)]) / steps

    times = interleaved({name: several(step) for name, step in runs.items()}, rounds)
    section = Section(
        "(b) One XOR training step, 2-2-1, batch of 4, float64",
        ["µs a step", "time", "÷ chainrule", "weights differ after 100 steps by"],
    )
    for name, taken in times.items():
        own = ratio(taken, times["chainrule"])
        section.rows.append([name, number(median(taken) / 1000), number(own), f"{gaps[name]:.0e}"])
        section.data[name] = {"ns": median(taken), "ratio": own, "difference": gaps[name]}
    if "PyTorch" in times:
        faster = ratio(times["PyTorch"], times["chainrule"])
        section.goals.append(Goal("XOR step, PyTorch ÷ chainrule", 3.0, faster, "×", at_least=True))
    widest = max(gaps.values())
    section.goals.append(Goal("XOR weights after 100 steps differ by", 1e-9, widest, ""))
    section.notes = ["NumPy: derivatives written by hand, no engine. micrograd: sample by sample."]
    return section


def xor_disagreement(everyone: Sequence[Library]) -> dict[str, float]:
    """The largest difference of a weight from the hand-written step's, after 100 steps."""
    after = {}
    for library in everyone:
        step = library.xor(*xor_start())
        after[library.name] = [np.array(w) for w in [step() for _ in range(100)][-1]]
    reference = after["NumPy"]
    return {
        name: max(float(np.abs(a - b).max()) for a, b in zip(found, reference, strict=True))
        for name, found in after.items()
    }


# -- (c) backward against forward -------------------------------------------------------------

LAYERS, WIDTH, BATCH = 20, 256, 128


def deep_net(library: Library, activation: str, dtype: Any) -> Callable[[], Any]:
    """A forward pass of the deep net, on variables made once."""
    random = np.random.default_rng(2)
    scale = 1 / np.sqrt(WIDTH)
    shapes = [(WIDTH, WIDTH)] * LAYERS
    weights = [library.leaf((random.normal(size=s) * scale).astype(dtype)) for s in shapes]
    biases = [library.leaf(np.zeros(WIDTH, dtype)) for _ in shapes]
    x = library.constant(random.normal(size=(BATCH, WIDTH)).astype(dtype))
    functions = library.functions()
    rectify = functions.get("relu") or (lambda h: functions["maximum"](h, 0))
    act = functions["tanh"] if activation == "tanh" else rectify

    def forward() -> Any:
        h = x
        for w, b in zip(weights, biases, strict=True):
            h = act(h @ w + b)
        return functions["sum"](h)

    return forward


def both_passes(library: Library, forward: Callable[[], Any]) -> Callable[[], tuple[float, float]]:
    """A measurement of one forward and one backward pass."""

    def measure() -> tuple[float, float]:
        outputs: list[Any] = []
        ahead = clock(lambda: outputs.append(forward()))
        return ahead, clock(lambda: library.pull(outputs[0]))

    return measure


def deep_ratio(libraries: Sequence[Library], quick: bool) -> Section:
    """How much longer backward takes than forward where the arithmetic dominates."""
    section = Section(
        f"(c) Backward ÷ forward, {LAYERS} layers of {WIDTH}, batch {BATCH}",
        ["activation, dtype", "library", "forward ms", "backward ms", "ratio"],
    )
    for activation in ("tanh", "relu"):
        for dtype in (np.float32, np.float64):
            _deep_rows(section, libraries, activation, dtype, rounds=7 if quick else 25)
    section.notes = ["From the second pass on PyTorch adds into .grad; the others begin anew."]
    return section


def _deep_rows(
    section: Section, libraries: Sequence[Library], activation: str, dtype: Any, rounds: int
) -> None:
    able = [x for x in libraries if x.arrays]
    runs = {x.name: both_passes(x, deep_net(x, activation, dtype)) for x in able}
    times = interleaved(runs, rounds)
    case = f"{activation}, {np.dtype(dtype).name}"
    for name, pairs in times.items():
        ahead, back = zip(*pairs, strict=True)
        found = ratio(back, ahead)
        cells = [number(median(t) / 1e6) for t in (ahead, back)]
        section.rows.append([case, name, *cells, number(found)])
        facts = {"forward": median(ahead), "backward": median(back), "ratio": found}
        section.data[f"{name}, {case}"] = facts
        if name == "chainrule":
            section.goals.append(Goal(f"backward ÷ forward, {case}", 2.5, found, "×"))


# -- (d) growth -------------------------------------------------------------------------------


def chain(library: Library, nodes: int) -> Callable[[], Any]:
    """y ← y·x, one node after the other; x is 1, shared by all of them."""
    x = library.leaf(np.float64(1.0))

    def forward() -> Any:
        y = x
        for _ in range(nodes):
            y = y * x
        return y

    return forward


def diamonds(library: Library, nodes: int) -> Callable[[], Any]:
    """y ← (y + y)·½: two paths a diamond, 2^(nodes/2) paths in all."""
    x = library.leaf(np.float64(1.0))

    def forward() -> Any:
        y = x
        for _ in range(nodes // 2):
            y = (y + y) * 0.5
        return y

    return forward


def growth(libraries: Sequence[Library], quick: bool) -> Section:
    """Time a node for ever longer circuits: a linear engine keeps it."""
    sizes = [10**3, 10**4, 10**5, 10**6]
    section = Section(
        "(d) Growth: µs a node",
        ["circuit", "library", "nodes", "forward", "÷ 10³", "backward", "÷ 10³"],
    )
    for shape in (chain, diamonds):
        for library in libraries:
            longest = library.deepest // (10 if quick else 1)
            lengths = [n for n in sizes if n <= max(longest, 10**3)]
            _growth_rows(section, library, shape, lengths)
    section.notes = ["The others are asked for 10⁵ nodes at most; micrograd recurses: 10³."]
    return section


def _growth_rows(section: Section, library: Library, shape: Any, sizes: list[int]) -> None:
    rounds = 3
    deep = sys.getrecursionlimit()
    sys.setrecursionlimit(max(deep, 5000))  # micrograd's 10³ nodes need a little more than usual
    runs = {str(n): _per_node(library, shape(library, n), n, sizes[-1]) for n in sizes}
    times = interleaved(runs, rounds)
    sys.setrecursionlimit(deep)
    first = times[str(sizes[0])]
    growths = []
    for n in sizes:
        ahead, back = ([pair[k] for pair in times[str(n)]] for k in (0, 1))
        slower = [ratio(t, [pair[k] for pair in first]) for k, t in enumerate((ahead, back))]
        growths.append(slower)
        cells = [f"{n:,}", number(median(ahead) / 1000), number(slower[0])]
        cells += [number(median(back) / 1000), number(slower[1])]
        section.rows.append([shape.__name__, library.name, *cells])
        section.data[f"{library.name}, {shape.__name__}, {n}"] = {
            "forward": median(ahead), "backward": median(back), "growth": slower,
        }  # fmt: skip
    if library.name == "chainrule":
        for word, found in zip(("forward", "backward"), growths[-1], strict=True):
            goal = f"{shape.__name__} of {sizes[-1]:,} nodes ÷ of 1,000, {word}"
            section.goals.append(Goal(goal, 2.0, found, "×"))


def _per_node(
    library: Library, forward: Callable[[], Any], nodes: int, most: int
) -> Callable[[], tuple[float, float]]:
    """Both passes a node; short circuits are repeated, so that a round takes long enough."""
    measure = both_passes(library, forward)
    repetitions = max(1, min(20, most // nodes // 5))

    def per_node() -> tuple[float, float]:
        pairs = [measure() for _ in range(repetitions)]
        return median([p[0] for p in pairs]) / nodes, median([p[1] for p in pairs]) / nodes

    return per_node


# -- (e) memory -------------------------------------------------------------------------------


def memory(libraries: Sequence[Library], quick: bool) -> Section:
    """Bytes a node of a scalar chain, each library in a fresh process."""
    nodes = 10**5 if quick else 10**6
    section = Section(
        "(e) Memory of a chain of scalars, bytes a node",
        ["library", "nodes", "by the process", "by Python's allocator", "after backward"],
    )
    for library in libraries:
        n = min(nodes, library.deepest)
        if n < 10**5:
            section.notes.append(f"{library.name}: chains of {n:,} nodes are too short to weigh.")
            continue
        found = json.loads(common.fresh(__file__, "--weigh", library.name, str(n)).stdout)
        keys = ("process", "allocator", "allocator_after_backward")
        section.rows.append([library.name, f"{n:,}", *(number(found[k]) for k in keys)])
        section.data[library.name] = {**found, "nodes": n}
    value = sys.getsizeof(np.float64(1.0))
    net = section.data["chainrule"]["allocator"] - value
    section.goals.append(Goal(f"memory a node, without its value's {value}", 500, net, "bytes"))
    section.notes.append("Python's allocator does not see what PyTorch keeps in C++.")
    return section


def weigh(name: str, nodes: int) -> dict[str, float]:
    """Bytes a node in this process: resident memory first, then, again, what Python allocated."""
    library = next(x for x in importable()[0] if x.name == name)
    library.pull(chain(library, 10)())  # what is loaded on first use is not the circuit's
    gc.collect()
    before = resident()
    kept = [chain(library, nodes)()]
    process = resident() - before
    kept.clear()
    tracemalloc.start()
    start = tracemalloc.get_traced_memory()[0]
    kept = [chain(library, nodes)()]
    built = tracemalloc.get_traced_memory()[0] - start
    library.pull(kept[0])
    after = tracemalloc.get_traced_memory()[0] - start
    return {
        "process": process / nodes,
        "allocator": built / nodes,
        "allocator_after_backward": after / nodes,
    }


def resident() -> int:
    """Bytes of memory that the process holds; its peak where the system tells no more."""
    pages = Path("/proc/self/statm")
    if pages.exists():
        return int(pages.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


# -- (f) import -------------------------------------------------------------------------------


def import_time(libraries: Sequence[Library], quick: bool) -> Section:
    """Milliseconds of an import in a fresh process, NumPy's own import taken off."""
    for library in libraries:
        imported(library.package)  # writes the bytecode, warms the file cache
    runs = {x.name: partial(imported, x.package) for x in libraries}
    times = interleaved(runs, 3 if quick else 9)
    section = Section(
        "(f) Import in a fresh process, ms", ["library", "whole", "NumPy's part", "own part"]
    )
    for name, pairs in times.items():
        whole, part = ([pair[k] for pair in pairs] for k in (0, 1))
        own = difference(whole, part)
        section.rows.append([name, number(median(whole)), number(median(part)), number(own)])
        section.data[name] = {"whole": median(whole), "numpy": median(part), "own": own}
    own = section.data["chainrule"]["own"]
    section.goals = [Goal("import beyond NumPy's own", 150, own, "ms")]
    return section


def imported(package: str) -> tuple[float, float]:
    """Milliseconds of `import package` and, inside it, of `import numpy`."""
    report = common.fresh("-X", "importtime", "-c", f"import {package}").stderr
    lines = re.findall(r"import time:\s+\d+ \|\s+(\d+) \|\s+(\S+)", report)
    took = {name: int(microseconds) / 1000 for microseconds, name in lines}
    return took[package], took.get("numpy", 0.0)


# -- the whole --------------------------------------------------------------------------------

EXPERIMENTS = {
    "operation": operation_costs,
    "xor": xor_step,
    "deep": deep_ratio,
    "growth": growth,
    "memory": memory,
    "import": import_time,
}


def introduction(libraries: Sequence[Library], missing: Sequence[str]) -> list[str]:
    """What is compared, and under which conditions."""
    machine = common.machine()
    lines = [
        f"Python {machine['python']}, NumPy {np.__version__}, {machine['system']}"
        f" {machine['architecture']}, {machine['processors']} processors, one thread used",
        "Compared: " + ", ".join(f"{x.name} {x.version}" for x in libraries),
    ]
    torch = next((x.module for x in libraries if x.name == "PyTorch"), None)
    if torch is not None:
        lines.append(f"torch threads: {torch.get_num_threads()}")
    if missing:
        lines.append(f"Not installed here, so not compared: {', '.join(missing)}")
    lines.append(
        f"Medians of interleaved rounds, {common.clock_name()} time;"
        " the garbage collector is enabled."
    )
    return lines


def conclusion(sections: Sequence[Section], before: float | None) -> list[str]:
    """The goals in one table, and what may not be concluded."""
    goals = [goal for section in sections for goal in section.goals]
    missed = [goal for goal in goals if not goal.met]
    lines = ["Goals", *common.table(common.GOAL_HEAD, [goal.row() for goal in goals]), ""]
    lines.append(f"{len(goals) - len(missed)} of {len(goals)} goals are met.")
    lines += [f"Missed: {g.name}: {g.figure(g.measured)} of {g.figure(g.limit)}." for g in missed]
    lines += _against_peers(sections)
    after = common.load()
    if before is not None and after is not None:
        busy = max(before, after) > 1.3
        advice = "; other work was running: trust ratios, not times" if busy else ""
        lines.append(f"Load of the machine: {before:.1f} before, {after:.1f} after{advice}.")
    return lines


def _against_peers(sections: Sequence[Section]) -> list[str]:
    """Where chainrule stands beside each competitor, slower as plainly as faster."""
    found = {section.title[:3]: section.data for section in sections}
    lines = []
    for name, facts in found.get("(b)", {}).items():
        if name != "chainrule":
            word = "shorter" if facts["ratio"] > 1 else "longer"
            factor = max(facts["ratio"], 1 / facts["ratio"])
            lines.append(f"XOR step: chainrule's is {number(factor)}× {word} than {name}'s.")
    operations = found.get("(a)", {}).values()
    for name in ("PyTorch", "autograd", "micrograd"):
        both = [o[name] / o["chainrule"] for o in operations if name in o]
        if both:
            wins = sum(r > 1 for r in both)
            lines.append(
                f"One operation: {name} takes {number(median(both))}× chainrule's time in the"
                f" median; chainrule is quicker in {wins} of {len(both)}."
            )
    return lines


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds, shorter chains")
    parser.add_argument(
        "--clock", choices=common.CLOCKS, default="wall", help="what to count; wall time by default"
    )
    parser.add_argument("--json", metavar="FILE", help="write every figure to FILE as well")
    everything = ",".join(EXPERIMENTS)
    parser.add_argument("--only", default=everything, help=f"some of {everything}")
    parser.add_argument("--weigh", nargs=2, metavar=("LIBRARY", "NODES"), help=argparse.SUPPRESS)
    return parser.parse_args()


def report(chosen: Sequence[str], quick: bool) -> dict[str, Any]:
    """Run the experiments, print each as it ends, and return every figure."""
    before = common.load()
    libraries, missing = importable()
    print("\n".join(introduction(libraries, missing)), end="\n\n", flush=True)
    sections = []
    for name in chosen:
        sections.append(EXPERIMENTS[name](libraries, quick))
        print(sections[-1].text(), flush=True)
    print("\n".join(conclusion(sections, before)))
    return {
        "machine": common.machine(),
        "clock": common.clock_name(),
        "numpy": np.__version__,
        "libraries": {x.name: x.version for x in libraries},
        "missing": missing,
        "experiments": {s.title: s.data for s in sections},
        "goals": [{**asdict(g), "met": g.met} for s in sections for g in s.goals],
    }


def main() -> None:
    """Run what the command line asks for."""
    asked = arguments()
    if asked.weigh:
        print(json.dumps(weigh(asked.weigh[0], int(asked.weigh[1]))))
        return
    chosen = asked.only.split(",")
    unknown = [name for name in chosen if name not in EXPERIMENTS]
    if unknown:
        sys.exit(f"no experiment is named {', '.join(unknown)}; there are {', '.join(EXPERIMENTS)}")
    common.choose_clock(asked.clock)
    figures = report(chosen, asked.quick)
    if asked.json:
        Path(asked.json).write_text(json.dumps(figures, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
