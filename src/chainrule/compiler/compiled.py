"""compile: a function that runs as machine code, one program for each set of shapes."""

from __future__ import annotations

import functools
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..errors import CompileError
from . import native
from .decompose import decompose
from .expression import Unsupported, llvm_type
from .formulas import native as has_native_form
from .graph import Graph
from .groups import REDUCTIONS
from .interpret import evaluated, interpret
from .moves import MOVES
from .program import Program
from .simplify import simplify
from .trace import Traced, signature, trace
from .views import VIEWS

__all__ = ["Compiled", "compile", "unsupported"]

Array = Any
LIMIT = 64  # programs that one compiled function keeps


def compile(
    function: Callable[..., Any],
    *,
    strict: bool = False,
    threads: int | None = None,
    limit: int = LIMIT,
) -> Compiled:
    """The same function as machine code: traced at its first call, compiled for those shapes.

    Arguments and results are those of `function`: numbers, arrays, Modules, and trees of them.
    Other shapes or dtypes make another program, of which `limit` are kept, the latest used.
    Variables that the function closes over are read at each call. What has no native form runs in
    NumPy, and `.report()` says so; with strict=True it raises `CompileError` instead. `threads`
    bounds the cores used, by default the variable CHAINRULE_THREADS or all. Without llvmlite
    everything runs in NumPy, with one warning.

    Raises `TraceError`, naming the line, where the function looks at a value while it is traced
    (`if`, `float()`, …).

    >>> import chainrule as cr
    >>> f = cr.compile(cr.grad(lambda x: cr.sum(x * x)))
    >>> f(np.array([1.0, 2.0]))
    array([2., 4.])
    """
    if not callable(function):
        raise TypeError(f"compile takes a function, not {type(function).__name__}")
    return Compiled(function, strict, threads, limit)


class Compiled:
    """A function and its programs; calling it runs the one for the arguments' shapes."""

    def __init__(
        self, function: Callable[..., Any], strict: bool, threads: int | None, limit: int
    ) -> None:
        self.function, self.strict, self.threads, self.limit = function, strict, threads, limit
        self.programs: OrderedDict[Any, _Specialised] = OrderedDict()
        self._lock = threading.Lock()
        functools.update_wrapper(self, function, updated=())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        key = signature(args, kwargs)
        made = self.programs.get(key)
        if made is None:
            made = self._specialise(key, args, kwargs)
        return made(args, kwargs)

    def _specialise(self, key: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> _Specialised:
        with self._lock:
            made = self.programs.get(key)
            if made is None:
                made = _Specialised(
                    trace(self.function, args, kwargs), self.strict, self.threads
                )
                self.programs[key] = made
                while len(self.programs) > self.limit:
                    self.programs.popitem(last=False)
            return made

    def __repr__(self) -> str:
        name = getattr(self.function, "__name__", "function")
        return f"<compiled {name}: {len(self.programs)} of at most {self.limit} programs>"


class _Specialised:
    """The program for one signature."""

    def __init__(self, traced: Traced, strict: bool, threads: int | None) -> None:
        self.traced = traced
        self.graph = simplify(decompose(traced.graph))
        self.runner = runner(self.graph, strict, threads)

    def __call__(self, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        outputs = self.runner(self.traced.inputs(args, kwargs))
        return self.traced.rebuilt([x if x.ndim else x[()] for x in outputs])


@functools.cache
def _warn_once() -> None:
    warnings.warn(
        "llvmlite is not installed for this platform, so compiled functions run in NumPy: the same"
        " results, without the speed",
        RuntimeWarning,
        stacklevel=5,
    )


def unsupported(graph: Graph) -> dict[int, str]:
    """The nodes that have no native form, each with the reason."""
    found: dict[int, str] = {}
    for number, node in enumerate(graph.nodes):
        if node.op in ("input", "constant"):
            continue
        why = _missing(graph, number)
        if why:
            found[number] = why
    return found


def _missing(graph: Graph, number: int) -> str:
    node = graph.nodes[number]
    try:
        for k in (number, *node.inputs):
            llvm_type(graph.nodes[k].dtype)
    except Unsupported as error:
        return str(error)
    if node.op in VIEWS or node.op in MOVES:
        return ""
    if node.op == "matmul":
        fine = node.dtype.kind == "f" and all(
            graph.nodes[k].dtype == node.dtype for k in node.inputs
        )
        return "" if fine else f"matmul of {node.dtype} has no native form"
    if node.op in REDUCTIONS or has_native_form(graph, number):
        return ""
    return f"{node.op} has no native form"


def runner(
    graph: Graph, strict: bool, threads: int | None
) -> Callable[[Sequence[Array]], list[Array]]:
    """What runs a simplified graph: a program, programs with NumPy between them, or NumPy alone."""
    if not native.available():
        if strict:
            raise CompileError("llvmlite is not installed: pip install llvmlite")
        _warn_once()
        return functools.partial(interpret, graph)
    empty = any(node.size == 0 for node in graph.nodes)
    missing = unsupported(graph)
    if strict and missing:
        number, why = next(iter(missing.items()))
        node = graph.nodes[number]
        origin = f" (in {node.origin})" if node.origin else ""
        raise CompileError(f"{why}{origin}; compile with strict=False to run it in NumPy")
    if empty:
        return functools.partial(interpret, graph)
    return Segments(graph, missing, threads) if missing else Program(graph, threads=threads)


class Segments:
    """Native programs, with nodes that NumPy computes between them."""

    def __init__(self, graph: Graph, missing: dict[int, str], threads: int | None) -> None:
        self.graph, self.missing = graph, missing
        stage: list[int] = []
        for number, node in enumerate(graph.nodes):
            ready = [stage[k] + (k in missing and number not in missing) for k in node.inputs]
            stage.append(max(ready, default=0))
        self.stages: list[tuple[Program | None, list[int], list[int], list[int]]] = []
        for at in range(max(stage, default=0) + 1):
            mine = [n for n, s in enumerate(stage) if s == at]
            python = [n for n in mine if n in missing]
            compiled = {n for n in mine if n not in missing} - set(graph.inputs)
            compiled = {n for n in compiled if graph.nodes[n].op != "constant"}
            self.stages.append((*self._cut(compiled, stage, threads), python))

    def _cut(
        self, nodes: set[int], stage: Sequence[int], threads: int | None
    ) -> tuple[Program | None, list[int], list[int]]:
        """A program for some nodes, what it reads and what it leaves to others."""
        graph, users = self.graph, self.graph.users()
        outs = [
            n
            for n in sorted(nodes)
            if n in set(graph.outputs) or any(user not in nodes for user in users[n])
        ]
        if not outs:
            return None, [], []
        part, at, ins = Graph(), {}, []
        for number in sorted(nodes):
            node = graph.nodes[number]
            for source in node.inputs:
                if source in at:
                    continue
                other = graph.nodes[source]
                if other.op == "constant":
                    at[source] = part.add(
                        "constant", (), other.params, shape=other.shape, dtype=other.dtype
                    )
                else:
                    at[source] = part.input(other.shape, other.dtype, other.label)
                    ins.append(source)
            at[number] = part.add(
                node.op, [at[k] for k in node.inputs], node.params, shape=node.shape,
                dtype=node.dtype, label=node.label, origin=node.origin,
            )  # fmt: skip
        part.outputs = [at[n] for n in outs]
        return Program(part, threads=threads), ins, outs

    def __call__(self, inputs: Sequence[Array]) -> list[Array]:
        graph = self.graph
        values: dict[int, Array] = dict(zip(graph.inputs, inputs, strict=True))
        for number, node in enumerate(graph.nodes):
            if node.op == "constant":
                values[number] = evaluated(node, [])
        for program, ins, outs, python in self.stages:
            if program is not None:
                results = program([values[k] for k in ins])
                values.update(zip(outs, results, strict=True))
            for number in python:
                node = graph.nodes[number]
                values[number] = evaluated(node, [values[k] for k in node.inputs])
        return [np.array(values[k]) for k in graph.outputs]
