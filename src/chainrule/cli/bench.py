"""`chainrule bench`: what a training step costs here, and which kernels it is made of."""

from __future__ import annotations

import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import click
import numpy as np

from ..errors import CompileError, unknown
from .terminal import console, number, plain_json, table

ROUNDS = 5  # of each measurement; the middle one counts
DTYPES = {"float32": np.float32, "float64": np.float64}


class _Widths(click.ParamType):  # type: ignore[type-arg]
    """Two whole numbers or more, with commas."""

    name = "widths"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, ...]:
        """The widths; a tuple is what it is."""
        if isinstance(value, tuple):
            return value
        parts = value.split(",")
        if not all(part.strip().isascii() and part.strip().isdigit() for part in parts):
            self.fail(f"{value!r} is no list of whole numbers, as 64,32,10", param, ctx)
        widths = tuple(map(int, parts))
        if len(widths) < 2 or not all(1 <= n <= 100_000 for n in widths):
            self.fail(f"{value!r}: give two widths or more, each from 1 to 100000", param, ctx)
        return widths


@click.command()
@click.option(
    "--layers",
    type=_Widths(),
    default="64,32,10",
    show_default=True,
    metavar="WIDTHS",
    help="Inputs, hidden layers, outputs.",
)
@click.option(
    "--batch",
    type=click.IntRange(1, 1_000_000),
    default=32,
    show_default=True,
    metavar="ROWS",
    help="Rows of a step.",
)
@click.option(
    "--rows",
    type=click.IntRange(1, 10_000_000),
    metavar="ROWS",
    help="Rows of the data. Default: 64 batches; as many as --batch for one batch of all rows.",
)
@click.option("--activation", default="relu", show_default=True, metavar="NAME")
@click.option("--loss", default="softmax_cross_entropy", show_default=True, metavar="NAME")
@click.option("--optimizer", default="sgd", show_default=True, metavar="NAME")
@click.option("--dtype", type=click.Choice(list(DTYPES)), default="float32", show_default=True)
@click.option(
    "--threads",
    type=click.IntRange(1, 64),
    metavar="N",
    help="Cores to use at most. Default: CHAINRULE_THREADS, or all.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=2.0,
    show_default=True,
    metavar="S",
    help="About how long to measure.",
)
@click.option("--explain", is_flag=True, help="Beside each kernel its step of the chain rule.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs, nothing else.")
def bench(explain: bool, as_json: bool, threads: int | None, **options: Any) -> None:
    """Train a network on random numbers, and time its step and each of the step's kernels.

    \b
    chainrule bench --explain
    chainrule bench --layers 784,128,10 --batch 128 --optimizer adam

    A step's time is the slope between runs of N and of 2N epochs of `fit`, so that compiling and
    starting drop out. Another program on the machine makes every figure worse.
    """
    with _environment("CHAINRULE_THREADS", None if threads is None else str(threads)):
        found = measured(_Work(**options))
    if as_json:
        click.echo(plain_json(found))
    else:
        _show(found, explain)


@contextmanager
def _environment(name: str, value: str | None) -> Iterator[None]:
    """Within, a variable of the environment has this value; None leaves it as it is."""
    before = os.environ.get(name)
    if value is not None:
        os.environ[name] = value
    try:
        yield
    finally:
        if before is not None:
            os.environ[name] = before
        elif value is not None:
            os.environ.pop(name, None)


# -- what is measured -----------------------------------------------------------------------------


@dataclass
class _Work:
    """A network, its data and how it is trained."""

    layers: tuple[int, ...]
    batch: int
    rows: int | None
    activation: str
    loss: str
    optimizer: str
    dtype: str
    seconds: float

    def __post_init__(self) -> None:
        from ..nn import Linear, Sequential, Sigmoid, Softmax, losses, optim
        from ..runs.job import ACTIVATIONS

        if self.activation not in ACTIVATIONS:
            raise unknown("activation", self.activation, ACTIVATIONS)
        self.rule, self.objective = optim.get(self.optimizer), losses.get(self.loss)
        self.rule.lr = 1e-3  # so that no run of any length diverges
        modules: list[Any] = []
        for wide, narrow in itertools.pairwise(self.layers):
            linear = Linear(wide, narrow, dtype=DTYPES[self.dtype])
            modules += [linear, ACTIVATIONS[self.activation]()]
        ends = {"nll": Softmax, "relative_entropy": Softmax, "binary_cross_entropy": Sigmoid}
        modules[-1:] = [ends[self.loss]()] if self.loss in ends else []
        self.model = Sequential(*modules, seed=0)
        self.start = self.model.state_dict()
        self._draw()

    def _draw(self) -> None:
        """Rows of random numbers, and targets as the loss wants them: 64 batches, fewer if wide."""
        several = min(64, max(4, (1 << 22) // (self.batch * self.layers[0])))
        rng, rows = np.random.default_rng(0), self.rows or several * self.batch
        self.batch = min(self.batch, rows)
        self.steps = -(-rows // self.batch)
        self.X = rng.normal(size=(rows, self.layers[0])).astype(self.dtype)
        outputs = self.layers[-1]
        if getattr(self.objective, "takes_labels", False):
            self.y = rng.integers(0, outputs, rows)
        else:
            self.y = rng.uniform(size=(rows, outputs)).astype(self.dtype)

    def train(self, epochs: int, compile: bool = True) -> Any:
        """A run from the same weights; its `History`."""
        from ..train import fit

        self.model.load_state_dict(self.start)
        return fit(
            self.model, self.X, self.y, loss=self.objective, optimizer=self.rule, epochs=epochs,
            batch_size=self.batch, progress=False, compile=compile,
        )  # fmt: skip

    def loop(self) -> Any:
        """The loop that `fit` runs, for one epoch."""
        from ..train.callbacks import Callbacks
        from ..train.history import History
        from ..train.inputs import features, targets
        from ..train.native import NativeLoop
        from ..train.progress import Silent
        from ..train.run import Gauges, Interrupt, Loop, Plan, Run

        self.model.load_state_dict(self.start)
        run = Run(self.model, self.objective, self.rule, None)
        X = features(self.model, self.X)
        y = targets(self.model, self.objective, X, self.y)
        plan = Plan(X, y, self.batch, 1, True, 0)
        parts = (Gauges(run, plan, None, {}, self.batch), Callbacks(()), Silent())
        return NativeLoop(Loop(run, plan, *parts, History(), Interrupt()))


def measured(work: _Work) -> dict[str, Any]:
    """Every figure, as `--json` has them."""
    from ..compiler import native, report

    if not native.available():
        raise CompileError(
            "no machine code can be made here: llvmlite is not installed, or not for this platform"
        )
    history = work.train(1)
    if history.compiled != "yes":
        raise CompileError(f"this network is not compiled: {history.compiled}")
    cold, cached = _compiling(work)
    ours = _slope(work.train, work.seconds / 2) / work.steps
    numpy = _slope(lambda n: work.train(n, compile=False), work.seconds / 4) / work.steps
    loop = work.loop()
    loop.epochs()  # so that each kernel has the operands that it would have
    program = loop.step.loop
    threads = 1 if program.pool is None else program.pool.threads
    flops = _flops(program.graphs[0])
    peak = report.limits().flops * 4 / np.dtype(work.dtype).itemsize * threads
    return {
        "network": {
            "layers": list(work.layers),
            "activation": work.activation,
            "loss": work.loss,
            "optimizer": work.optimizer,
            "dtype": work.dtype,
            "batch": work.batch,
            "rows": len(work.X),
        },
        "threads": threads,
        "step": {"seconds": ours, "flops": flops, "flops_per_second": flops / ours},
        "peak": {"flops_per_second": peak, "share": flops / ours / peak},
        "numpy": {"seconds": numpy, "times_as_long": numpy / ours},
        "compile": {"cold": cold, "cached": cached},
        "kernels": _kernels(program, list(loop.run.parameters), work.seconds / 4),
    }


def _flops(graph: Any) -> int:
    """Of the matrix products alone, two for each multiply-add."""
    products = [node for node in graph.nodes if node.op == "matmul"]
    return sum(2 * node.size * graph.nodes[node.inputs[0]].shape[-1] for node in products)


def _compiling(work: _Work) -> tuple[float, float]:
    """Seconds to the finished program, with an empty cache and with what that left in it."""
    with (
        tempfile.TemporaryDirectory(prefix="chainrule-bench-") as folder,
        _environment("CHAINRULE_CACHE_DIR", os.path.join(folder, "cache")),
    ):
        return _clock(work.loop), min(_clock(work.loop) for _ in range(3))


def _slope(train: Callable[[int], Any], seconds: float) -> float:
    """Seconds of an epoch: what N more of them take, divided by N."""
    epochs, each = 1, seconds / (3 * ROUNDS)
    while (spent := _clock(train, epochs)) < each and epochs < 1 << 20:
        epochs = max(2 * epochs, min(16 * epochs, int(epochs * each / spent)))
    rounds = [(_clock(train, epochs), _clock(train, 2 * epochs)) for _ in range(ROUNDS)]
    # Noise may leave no slope of a short measurement: a whole run is then an upper bound.
    slope = statistics.median(long - short for short, long in rounds)
    return (slope if slope > 0 else min(long for _, long in rounds) / 2) / epochs


def _clock(call: Callable[..., Any], *args: Any) -> float:
    start = time.perf_counter()
    call(*args)
    return time.perf_counter() - start


def _kernels(program: Any, parameters: list[str], seconds: float) -> list[dict[str, Any]]:
    """Each kernel of a whole batch's step: what it does, and its time alone on one core."""
    from ..train.annotate import annotated

    if not program.plans:
        return []
    plan = program.plans[0]
    names = annotated(plan, parameters)
    times = _times(program, seconds)
    total = sum(times.values())
    found = []
    for phase, lanes in enumerate(plan.phases):
        for lane in lanes:
            for kernel in lane.kernels:
                ops = [plan.graph.nodes[n].op for n in kernel.group.members]
                spent, product = times[kernel.number], kernel.group.kind == "matmul"
                found.append(
                    {
                        "number": kernel.number,
                        "phase": phase,
                        "kind": kernel.group.kind,
                        "domain": list(kernel.group.domain),
                        "fused": ops,
                        "chunk": lane.chunk,
                        "chunks": lane.chunks,
                        "flops": kernel.flops if product else 0,
                        "bytes": kernel.bytes,
                        "seconds": spent,
                        "share": spent / total,
                        "step": names[kernel.number],
                    }
                )
    return found


def _times(program: Any, seconds: float) -> dict[int, float]:
    """Seconds of each kernel for all of its rows on one core, the best of some runs."""
    from ..compiler import native
    from ..compiler.emit import Module
    from ..compiler.memory import COUNT
    from ..compiler.pool import run_alone
    from ..compiler.program import write_alone, write_step

    module = Module(program.target)
    write_step(module, program.plans[0], "k")
    entries = write_alone(module, program.plans[0], "k")
    library = native.build(module.text(), cache=False)
    context, found = program.frame.context, {}
    for kernel, name in entries.items():
        each = seconds / len(entries)
        address, count, best, spent = library.address(name), 1, float("inf"), 0.0
        while spent < each:
            context[COUNT] = count
            took = _clock(run_alone, address, program.frame.address)
            spent += took
            best = min(best, took / count)
            count *= 4 if took < each / 10 else 1
        found[kernel] = best
    return found


# -- what is shown --------------------------------------------------------------------------------


def _show(found: dict[str, Any], explain: bool) -> None:
    out, net, threads = console(), found["network"], found["threads"]
    cores = "1 core" if threads == 1 else f"{threads} cores"
    step, numpy, compile = found["step"], found["numpy"], found["compile"]
    reached, peak = number(100 * found["peak"]["share"], 2), found["peak"]["flops_per_second"]
    lines = [
        f"{'-'.join(map(str, net['layers']))}, {net['activation']}, {net['loss']},"
        f" {net['optimizer']}, {net['dtype']}, batch {net['batch']} of {net['rows']} rows,"
        f" on {cores}",
        f"native    {_si(step['seconds'])}s a step, {_si(1 / step['seconds'])}steps/s,"
        f" {_si(step['flops_per_second'])}FLOP/s: {reached}% of the peak, {_si(peak)}FLOP/s",
        f"NumPy     {_si(numpy['seconds'])}s a step, {numpy['times_as_long']:.3g} times as long",
        f"compiled  in {_si(compile['cold'])}s, from the cache in {_si(compile['cached'])}s",
    ]
    for line in lines:
        out.print(line, highlight=False, markup=False)
    if not found["kernels"]:
        out.print("the step is straight-line code in registers, not cut into kernels")
        return
    out.print(_table(found, explain), markup=False)
    out.print(
        "Each kernel alone on one core: FLOP/s of a product, of others the bytes that they store.",
        highlight=False,
    )


def _table(found: dict[str, Any], explain: bool) -> Any:
    last = ["chain rule"] if explain else []
    shown = table("phase", "kernel", "size", "chunks", "time", "rate", "share", *last, title="")
    for column in shown.columns[3:7]:
        column.justify = "right"
    for kernel in found["kernels"]:
        work, unit = (kernel["flops"], "FLOP") if kernel["flops"] else (kernel["bytes"], "B")
        what = [kernel["step"]] if explain else []
        shown.add_row(
            str(kernel["phase"]),
            _fused(kernel),
            "×".join(map(str, kernel["domain"])) or "1",
            str(kernel["chunks"]),
            f"{_si(kernel['seconds'])}s",
            f"{_si(work / kernel['seconds'])}{unit}/s",
            f"{kernel['share']:.0%}",
            *what,
        )
    return shown


def _fused(kernel: dict[str, Any]) -> str:
    """The operations of a kernel, the first of them where they are many."""
    fused = kernel["fused"] or [kernel["kind"]]
    more = f" and {len(fused) - 4} more" if len(fused) > 5 else ""
    return f"{', '.join(fused[:4] if more else fused)}{more}"


def _si(x: float) -> str:
    """A number to three digits, with the prefix of its unit.

    >>> _si(0.0000036), _si(74_200_000_000)
    ('3.6 µ', '74.2 G')
    """
    for power, prefix in ((9, "G"), (6, "M"), (3, "k"), (0, ""), (-3, "m"), (-6, "µ")):
        if abs(x) >= 0.9995 * 10.0**power:
            return f"{number(x / 10.0**power, 3)} {prefix}"
    return f"{number(x * 1e9, 3)} n"
