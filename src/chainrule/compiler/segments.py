"""What runs a graph: one program; programs with NumPy between them; or NumPy alone."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..errors import CompileError
from . import native
from .expression import Unsupported, llvm_type
from .formulas import native as has_native_form
from .graph import Graph
from .groups import REDUCTIONS
from .interpret import evaluated, interpret
from .moves import MOVES
from .program import Program
from .views import VIEWS

__all__ = ["Interpreted", "Runner", "Segments", "runner", "unsupported"]

Array = Any
Runner = Callable[[Sequence[Array]], list[Array]]


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
    if node.op == "scatter_add" and not node.params.keys() & {"start", "axis"}:
        return "scatter_add at an index that mixes arrays with other parts has no native form"
    if node.op in VIEWS or node.op in MOVES:
        return ""
    if node.op == "matmul":
        fine = node.dtype.kind == "f" and all(
            graph.nodes[k].dtype == node.dtype for k in node.inputs
        )
        return "" if fine else f"matmul of {node.dtype} has no native form"
    if node.op in REDUCTIONS or has_native_form(graph, number):
        return ""
    name = node.params["operation"].name if node.op == "call" else node.op
    return f"{name} has no native form"


class Interpreted:
    """The graph by NumPy, and why."""

    def __init__(self, graph: Graph, why: str) -> None:
        self.graph, self.why = graph, why

    def __call__(self, inputs: Sequence[Array]) -> list[Array]:
        return interpret(self.graph, inputs)


def runner(graph: Graph, strict: bool, threads: int | None) -> Program | Segments | Interpreted:
    """What runs a simplified graph on this machine; with `strict` a program or `CompileError`."""
    if not native.available():
        if strict:
            raise CompileError("llvmlite is not installed: pip install llvmlite")
        _warn_once()
        return Interpreted(graph, "llvmlite is not installed")
    missing = unsupported(graph)
    if strict and missing:
        number, why = next(iter(missing.items()))
        origin = graph.nodes[number].origin
        within = f" (in {origin})" if origin and origin not in why else ""
        raise CompileError(f"{why}{within}; compile with strict=False to run it in NumPy")
    if any(node.size == 0 for node in graph.nodes):
        return Interpreted(graph, "an array is empty, so there is next to nothing to do")
    return Segments(graph, missing, threads) if missing else Program(graph, threads=threads)


class Segments:
    """Native programs, with nodes that NumPy computes between them."""

    def __init__(self, graph: Graph, missing: dict[int, str], threads: int | None) -> None:
        self.graph, self.missing = graph, missing
        stage: list[int] = []
        for number, node in enumerate(graph.nodes):
            ready = [stage[k] + (k in missing and number not in missing) for k in node.inputs]
            stage.append(max(ready, default=0))
        self.constants = {
            n: evaluated(node, []) for n, node in enumerate(graph.nodes) if node.op == "constant"
        }
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
        part = Graph()
        at: dict[int, int] = {}
        ins: list[int] = []
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
                    if other.params.get("weak"):
                        part.nodes[at[source]].params = {"slot": len(ins), "weak": True}
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
        values.update(self.constants)
        for program, ins, outs, python in self.stages:
            if program is not None:
                results = program([values[k] for k in ins])
                values.update(zip(outs, results, strict=True))
            for number in python:
                node = graph.nodes[number]
                values[number] = evaluated(node, [values[k] for k in node.inputs])
        return [np.array(values[k]) for k in graph.outputs]
