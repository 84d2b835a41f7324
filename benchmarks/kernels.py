"""Single kernels: pointwise chains, cross-entropy, matrix products, scalar circuits, compiling.

    python benchmarks/kernels.py                         # everything, some ten minutes
    python benchmarks/kernels.py --quick
    python benchmarks/kernels.py --only gemm,functions --threads 1 --json kernels.json

chainrule is asked through `cr.compile`. Each section runs in a fresh process for each number of
threads; figures are medians of interleaved rounds. See benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import common
from common import Section, clock, interleaved, middle, number, ratios, repeated

REST = 0.02  # seconds before each measurement: thread pools spin for a while after their work
Kernel = Callable[..., Any]


@dataclass(frozen=True)
class Setting:
    """What a section is run with."""

    engines: list[Any]
    quick: bool
    threads: int

    @property
    def rounds(self) -> int:
        return 3 if self.quick else 7

    def race(self, runs: dict[str, Callable[[], Any]]) -> dict[str, list[float]]:
        """Nanoseconds a call, for each competitor in each round."""
        least = 5e6 if self.quick else 4e7
        timed = {name: repeated(run, least, rest=REST) for name, run in runs.items()}
        return interleaved(timed, self.rounds)


def tried(make: Callable[[], Callable[[], Any]]) -> tuple[Callable[[], Any] | None, Any]:
    """A call that works, with its first result; (None, why) for one that does not.

    A competitor's failure, of whatever kind, is a line of the table and not the end of the run.
    """
    try:
        call = make()
        return call, call()
    except Exception as error:
        text = next(iter(str(error).strip().splitlines()), "")
        return None, f"{type(error).__name__}: {text[:90]}"


def compete(
    setting: Setting, section: Section, makers: dict[str, Callable[[], Any]], case: str
) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """Times of those that work, and their results; the others are named in the section's notes."""
    runs, results = {}, {}
    for name, make in makers.items():
        call, result = tried(make)
        if call is None:
            section.notes.append(f"{name}, {case}: {result}.")
        else:
            runs[name], results[name] = call, result
    return setting.race(runs), results


def line(
    section: Section,
    case: list[str],
    names: Sequence[str],
    times: dict[str, list[float]],
    figure: Callable[[float], float],
    tails: Sequence[str] = (),
) -> None:
    """A row of one figure for each competitor, then everyone's median ratio in the data."""
    cells = [number(figure(middle(times[n]))) if n in times else "–" for n in names]
    section.rows.append([*case, *cells, *tails])
    ours = next((t for n, t in times.items() if n.startswith("chainrule")), None)
    section.data[", ".join(case)] = {
        "ns": times,
        "ratio": {n: middle(ratios(t, ours)) for n, t in times.items()} if ours else {},
    }


def apart(a: Any, b: Any) -> float:
    """The greatest difference, relative to the greatest value."""
    import numpy as np

    from engines import plain

    a, b = plain(a).astype(np.float64), plain(b).astype(np.float64)
    return float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-300))


# -- (a) pointwise chains ---------------------------------------------------------------------

CHAINS: dict[str, tuple[int, Kernel]] = {  # how many arrays come in, and the kernel
    "relu(a·x + b)·c": (4, lambda m, x, a, b, c: m.relu(a * x + b) * c),
    "σ(3 − 2·σ(2·σ(x) − 1))": (
        1,
        lambda m, x: m.sigmoid(3 - 2 * m.sigmoid(2 * m.sigmoid(x) - 1)),
    ),
}
BYTES = {"L1, 16 KiB": 2**14, "L2, 256 KiB": 2**18, "L3, 8 MiB": 2**23, "DRAM, 256 MiB": 2**28}


def pointwise(setting: Setting) -> Section:
    """GB/s of chains that a fused loop reads and writes once, beside a copy of the same bytes."""
    import numpy as np

    names = [e.name for e in setting.engines]
    section = Section(
        f"(a) Pointwise chains in float32, GB/s of what must be moved; {_threads(setting)}",
        ["chain", "bytes moved", "np.copyto", *names],
    )
    random = np.random.default_rng(0)
    for (formula, (count, kernel)), (place, total) in [
        (c, b) for c in CHAINS.items() for b in BYTES.items()
    ]:
        if setting.quick and total > 2**23:
            continue
        size = total // (4 * (count + 1))
        values = [random.uniform(-1, 1, size).astype(np.float32) for _ in range(count)]
        source, target = np.ones(total // 8, np.float32), np.ones(total // 8, np.float32)
        makers = {"np.copyto": lambda a=target, b=source: partial(np.copyto, a, b)}
        makers |= {e.name: partial(e.run, kernel, values) for e in setting.engines}
        times, results = compete(setting, section, makers, formula)
        line(section, [formula, place], ["np.copyto", *names], times, lambda ns, t=total: t / ns)
        _same(section, results, formula, 1e-5)
    section.notes.append("Everyone but np.copyto returns a new array; at 16 KiB calling decides.")
    return section


def _same(section: Section, results: dict[str, Any], case: str, limit: float) -> None:
    """A note for each result that is not the first engine's."""
    arrays = {name: r for name, r in results.items() if r is not None}
    for name, result in arrays.items():
        off = apart(result, next(iter(arrays.values())))
        if not off <= limit:
            section.notes.append(f"{name} differs in {case}: {off:.0e} of the greatest value.")


def _threads(setting: Setting) -> str:
    return f"{setting.threads} thread{'s' * (setting.threads > 1)}"


# -- (b) softmax and cross-entropy ------------------------------------------------------------


def softmax(setting: Setting) -> Section:
    """Softmax and cross-entropy forward and backward: the loss and ∂loss/∂logits."""
    import numpy as np

    from engines import cross_entropy

    able = [e for e in setting.engines if e.name != "NumPy"]
    names = [e.name for e in able]
    section = Section(
        f"(b) Softmax cross-entropy, loss and gradient, float32, µs; {_threads(setting)}",
        ["rows × classes", *names, "off float64"],
    )
    random = np.random.default_rng(0)
    for rows in (128, 1024) if setting.quick else (128, 1024, 8192):
        for classes in (10, 100, 1000):
            if setting.quick and rows * classes > 10**5:
                continue
            z = random.normal(size=(rows, classes)).astype(np.float32)
            y = random.integers(0, classes, rows)
            makers = {e.name: partial(e.gradient, cross_entropy(e), [z.copy(), y]) for e in able}
            case = f"{rows:,} × {classes:,}"
            times, results = compete(setting, section, makers, case)
            right = np.exp(z.astype(np.float64))
            right /= right.sum(1, keepdims=True)
            right[np.arange(rows), y] -= 1
            off = {n: apart(r[1], right / rows) for n, r in results.items()}
            section.notes += [
                f"{n} is wrong at {case}: {x:.0e}." for n, x in off.items() if x > 1e-5
            ]
            tail = f"{next(iter(off.values())):.0e}" if off else "–"
            line(section, [case], names, times, lambda ns: ns / 1000, [tail])
    if names:
        section.notes.append(f"Off float64: {names[0]}'s gradient, relative to the greatest value.")
    return section


# -- (c) matrix products ----------------------------------------------------------------------

SIZES = ((2048, 2048, 2048), (512, 1024, 784), (128, 128, 784), (32, 32, 64))
PRODUCTS: dict[str, Kernel] = {
    "A·B": lambda m, a, b: a @ b,
    "Aᵀ·B": lambda m, a, b: a.T @ b,
    "A·Bᵀ": lambda m, a, b: a @ b.T,
}


def gemm(setting: Setting) -> Section:
    """GFLOP/s of matrix products M×K by K×N, also of transposed operands."""
    import numpy as np

    from peak import peak

    limit, what = peak(setting.threads)
    most = max(limit() for _ in range(5))
    names = [e.name for e in setting.engines]
    section = Section(
        f"(c) Matrix products in float32, GFLOP/s; {_threads(setting)}",
        ["M × N × K", "product", *names, "of peak"],
        notes=[f"Peak of the machine: {number(most)} GFLOP/s ({what}); chainrule's part of it."],
    )
    random = np.random.default_rng(0)
    for m, n, k in SIZES[2:] if setting.quick else SIZES:
        for form, kernel in PRODUCTS.items():
            a = random.normal(size=(k, m) if form.startswith("Aᵀ") else (m, k)).astype(np.float32)
            b = random.normal(size=(n, k) if form.endswith("Bᵀ") else (k, n)).astype(np.float32)
            makers = {e.name: partial(e.run, kernel, [a, b]) for e in setting.engines}
            times, results = compete(setting, section, makers, form)
            flops = 2 * m * n * k
            part = 100 * flops / middle(times.get(names[0], [])) / most
            case = [f"{m} × {n} × {k}", form]
            line(section, case, names, times, lambda ns, f=flops: f / ns, [f"{part:.0f} %"])
            _same(section, results, f"{form}, {m} × {n} × {k}", 1e-5)
    return section


# -- (d) scalar circuits ----------------------------------------------------------------------

Program = list[tuple[str, int, int]]


def program(nodes: int, leaves: int = 10) -> Program:
    """A random circuit of so many nodes: sums under tanh, so that it stays finite, and products.

    Nodes that nobody reads are added up at the end, so that nothing of it is idle.
    """
    import random

    draw, made, read = random.Random(0), [], set()
    while len(made) < 0.95 * nodes - len(set(range(leaves + len(made))) - read) / 2:
        last = leaves + len(made) - 1
        a, b = (draw.randint(max(0, last - 100), last) for _ in range(2))
        read |= {a, b}
        if draw.random() < 0.5:
            made.append(("*", a, b))
        else:
            made += [("+", a, b), ("tanh", last + 1, last + 1)]
            read.add(last + 1)
    idle = sorted(set(range(leaves + len(made))) - read)
    total = idle[0]
    for k in idle[1:]:
        made.append(("+", total, k))
        total = leaves + len(made) - 1
    return made


def circuit(steps: Program, tanh: Callable[[Any], Any]) -> Callable[[list[Any]], Any]:
    """The program as a function of its leaves."""

    def f(leaves: list[Any]) -> Any:
        values = list(leaves)
        for op, a, b in steps:
            if op == "tanh":
                values.append(tanh(values[a]))
            else:
                values.append(values[a] * values[b] if op == "*" else values[a] + values[b])
        return values[-1]

    return f


def _micrograd(steps: Program, start: list[float]) -> Callable[[], Any]:
    from libraries import Micrograd

    library = Micrograd()
    f = circuit(steps, library.tanh)

    def call() -> Any:
        deep = sys.getrecursionlimit()
        sys.setrecursionlimit(len(steps) + 10_000)  # its ordering recurses
        leaves = [library.leaf(x) for x in start]
        value = f(leaves)
        value.backward()
        sys.setrecursionlimit(deep)
        return value.data, [x.grad for x in leaves]

    return call


def _torch(steps: Program, start: list[float]) -> Callable[[], Any]:
    import torch

    f = circuit(steps, torch.tanh)
    leaves = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in start]

    def call() -> Any:
        value = f(leaves)
        return value.item(), [g.item() for g in torch.autograd.grad(value, leaves)]

    return call


def _autograd(steps: Program, start: list[float]) -> Callable[[], Any]:
    import autograd
    import autograd.numpy as anp

    both = autograd.value_and_grad(circuit(steps, anp.tanh))
    return lambda: both(start)


def _jax(steps: Program, start: list[float]) -> Callable[[], Any]:
    import jax

    both = jax.jit(jax.value_and_grad(circuit(steps, jax.numpy.tanh)))
    return lambda: jax.block_until_ready(both(start))


def _ours(steps: Program, start: list[float], native: bool) -> Callable[[], Any]:
    from engines import ChainruleEngine

    engine = ChainruleEngine()
    both = engine.module.value_and_grad(circuit(steps, engine.module.tanh))
    f = engine.compiled(both) if native else both
    return lambda: f(start)


def scalars(setting: Setting) -> Section:
    """The value and gradient of a circuit of scalars: every node is one number."""
    section = Section(
        "(d) A random circuit of + · tanh on 10 scalars: value and gradient, µs",
        ["nodes", "library", "µs", "ns a node", "÷ chainrule's", "first, ms", "off"],
    )
    start = [0.1 * k - 0.45 for k in range(10)]
    for nodes in (1000,) if setting.quick else (1000, 10_000):
        steps = program(nodes)
        makers: dict[str, Callable[[], Any]] = {}
        if setting.engines[0].jit:
            makers["chainrule"] = partial(_ours, steps, start, True)
        makers["chainrule, interpreted"] = partial(_ours, steps, start, False)
        peers = {"micrograd": _micrograd, "PyTorch eager": _torch, "autograd": _autograd}
        if nodes <= 1000 and not setting.quick:
            peers["JAX jit"] = _jax  # beyond, it compiles for minutes
        makers |= {name: partial(make, steps, start) for name, make in peers.items()}
        _scalar_rows(setting, section, steps, makers)
    section.notes.append("JAX computes in float32; it is given 1,000 nodes only, none if quick.")
    return section


def _scalar_rows(
    setting: Setting, section: Section, steps: Program, makers: dict[str, Callable[[], Any]]
) -> None:
    first: dict[str, float] = {}
    runs, results = {}, {}
    for name, make in makers.items():
        got: list[Any] = []
        first[name] = clock(lambda make=make, got=got: got.extend(tried(make)))
        if got[0] is None:
            section.notes.append(f"{name}: {got[1]}.")
        else:
            runs[name], results[name] = got
    times = setting.race(runs)
    ours, right = next(iter(times.values())), results["chainrule, interpreted"][1]
    for name, ns in times.items():
        off = apart([float(g) for g in results[name][1]], [float(g) for g in right])
        slower = middle(ratios(ns, ours))
        us = middle(ns) / 1000
        cells = [number(us), number(1000 * us / len(steps)), number(slower)]
        cells += [number(first[name] / 1e6), f"{off:.0e}"]
        section.rows.append([f"{len(steps):,}", name, *cells])
        section.data[f"{len(steps)}, {name}"] = {"ns": ns, "ratio": slower, "off": off}


# -- (e) vectorised functions -----------------------------------------------------------------

FUNCTIONS = {  # where they are sampled
    "exp": (-87.0, 88.0), "log": (1e-30, 1e3), "tanh": (-9.0, 9.0), "sigmoid": (-30.0, 30.0),
    "sin": (-10.0, 10.0), "sqrt": (0.0, 1e6),
}  # fmt: skip


def functions(setting: Setting) -> Section:
    """Elements a nanosecond of single functions, and the greatest error in units of last place."""
    import numpy as np

    from engines import NumPyEngine, plain

    size = 2**16
    names = [e.name for e in setting.engines]
    section = Section(
        f"(e) Functions of {size:,} float32: Gelem/s (greatest error in ulp); {_threads(setting)}",
        ["function", *names],
    )
    random = np.random.default_rng(0)
    for name, (low, high) in FUNCTIONS.items():
        x = random.uniform(low, high, size).astype(np.float32)
        kernel = lambda m, x, name=name: getattr(m, name)(x)  # noqa: E731
        makers = {e.name: partial(e.run, kernel, [x]) for e in setting.engines}
        times, results = compete(setting, section, makers, name)
        right = kernel(NumPyEngine().words, x.astype(np.float64))
        ulp = np.spacing(np.abs(right).astype(np.float32)).astype(np.float64)
        errors = {n: float((np.abs(plain(r) - right) / ulp).max()) for n, r in results.items()}
        line(section, [name], names, times, lambda ns: size / ns)
        row = section.rows[-1]
        row[1:] = [
            f"{cell} ({errors[n]:.1f})" if n in errors else cell
            for cell, n in zip(row[1:], names, strict=True)
        ]
        section.data[name]["ulp"] = errors
    return section


# -- (f) compile times ------------------------------------------------------------------------


def chain(nodes: int) -> Kernel:
    """So many pointwise nodes, none of which is another's equal."""

    def kernel(m: Any, x: Any) -> Any:
        y = x
        for k in range(nodes // 4):
            y = m.tanh(y * (1 + 1 / (k + 2)) + x) - 0.5
        return y

    return kernel


def first_call(what: str, engine: str) -> dict[str, float]:
    """Seconds of the first and of a second call in this process, imports left out."""
    import numpy as np

    import engines
    import trainers

    if what == "digits":
        kind = next(kind for kind in trainers.TRAINERS if kind.name == engine)
        trainer = kind(trainers.NETS["digits"])
        call = partial(trainer.train, 1)
    else:
        made = next(kind for kind in engines.ENGINES if kind.name == engine)()
        made.run(lambda m, x: x + x, [np.ones(3, np.float32)])()  # what is loaded on first use
        x = np.linspace(-1, 1, 1024, dtype=np.float32)
        call = made.run(chain(int(what)), [x])
    return {"first": clock(call) / 1e9, "second": clock(call) / 1e9}


def compiling(setting: Setting) -> Section:
    """What the first call costs: with nothing cached, from the disk, and then the second."""
    section = Section(
        "(f) Compiling: the first call in a fresh process, ms",
        ["what", "library", "cold", "cached on disk", "second call"],
    )
    cases = [("digits", "chainrule"), ("digits", "JAX fori_loop"), ("1000", "chainrule")]
    cases += [("1000", "JAX jit"), ("10000", "chainrule")]
    if not setting.quick:
        cases += [("digits", "torch.compile"), ("1000", "torch.compile")]
    words = {"digits": "a digits step", "1000": "1,000 nodes", "10000": "10,000 nodes"}
    present = {e.package for e in setting.engines}
    for what, engine in cases:
        package = {"J": "jax", "t": "torch"}.get(engine[0], "chainrule")
        if package not in present:
            continue
        cold, cached = _cold_and_cached(what, engine, setting.rounds)
        seconds = [[r["first"] for r in cold], [r["first"] for r in cached]]
        seconds.append([r["second"] for r in cached])
        section.rows.append([words[what], engine, *(number(1000 * middle(s)) for s in seconds)])
        section.data[f"{what}, {engine}"] = {"cold": cold, "cached": cached}
    section.notes.append("Peers keep what their defaults keep on disk: JAX nothing.")
    if not setting.engines[0].jit:
        section.notes.append("This chainrule has no compiler: its calls are interpreted.")
    return section


def _cold_and_cached(what: str, engine: str, rounds: int) -> tuple[list[Any], list[Any]]:
    """First calls with an empty cache, each followed by one that finds it filled."""
    cold, cached = [], []
    for _ in range(1 if engine == "torch.compile" else rounds):
        with tempfile.TemporaryDirectory() as place:
            empty = dict.fromkeys(CACHES, place)
            for found in (cold, cached):
                found.append(common.answer(__file__, "--first", what, engine, **empty))
    return cold, cached


# Where programs keep what they compiled, by the words of their systems.
CACHES = ("CHAINRULE_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA", "TORCHINDUCTOR_CACHE_DIR")


# -- the whole --------------------------------------------------------------------------------

SECTIONS: dict[str, tuple[Callable[[Setting], Section], bool]] = {  # and whether threads matter
    "pointwise": (pointwise, True),
    "softmax": (softmax, True),
    "gemm": (gemm, True),
    "scalars": (scalars, False),
    "functions": (functions, False),
    "compiling": (compiling, False),
}


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds, smaller sizes")
    everything = ",".join(SECTIONS)
    parser.add_argument("--only", default=everything, help=f"some of {everything}")
    parser.add_argument("--peers", default="all", help="as jax,torch,numpy; all by default")
    parser.add_argument("--threads", default="", help="as 1,2; one and all by default")
    parser.add_argument("--json", metavar="FILE", help="write every figure to FILE as well")
    parser.add_argument("--section", help=argparse.SUPPRESS)
    parser.add_argument("--first", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


def one(name: str, quick: bool, peers: str) -> dict[str, Any]:
    """A section, run in this process."""
    import engines

    words = [w.strip().lower() for w in peers.split(",")]
    kinds = [k.name for k in engines.ENGINES]
    wanted = [n for n in kinds if peers == "all" or any(w in n.lower() for w in words)]
    found, missing = engines.engines(["chainrule", *wanted])
    setting = Setting(found, quick, int(os.environ["CHAINRULE_THREADS"]))
    section = SECTIONS[name][0](setting)
    section.notes += [f"{missed} is not installed." for missed in missing]
    section.notes = list(dict.fromkeys(section.notes))
    return asdict(section)


def main() -> None:
    """Run what the command line asks for."""
    asked = arguments()
    if asked.first:
        print(json.dumps(first_call(*asked.first)))
        return
    if asked.section:
        print(json.dumps(one(asked.section, asked.quick, asked.peers)))
        return
    chosen = asked.only.split(",")
    unknown = [name for name in chosen if name not in SECTIONS]
    if unknown:
        sys.exit(f"no section is named {', '.join(unknown)}; there are {', '.join(SECTIONS)}")
    machine, before, sections = common.machine(), common.load(), []
    print(f"Python {machine['python']}, {machine['system']} {machine['architecture']},", end=" ")
    print(f"{machine['processors']} processors; medians of interleaved rounds.\n", flush=True)
    for name in chosen:
        counts = common.thread_counts(asked.threads)
        for threads in counts if SECTIONS[name][1] else counts[:1]:
            told = ["--section", name, "--peers", asked.peers, *["--quick"] * asked.quick]
            found = common.answer(__file__, *told, **common.with_threads(threads))
            sections.append(Section(**found))
            print(sections[-1].text(), flush=True)
    after = common.load()
    if before is not None and after is not None:
        other = "; other work was running before: repeat this on an idle machine" * (before > 0.5)
        print(f"Load of the machine: {before:.1f} before, {after:.1f} after{other}.")
    if asked.json:
        figures = {"machine": machine, "sections": {s.title: s.data for s in sections}}
        Path(asked.json).write_text(json.dumps(figures, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
