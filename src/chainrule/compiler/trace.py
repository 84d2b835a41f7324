"""From a function to its graph: it runs once on tensors that stand for its inputs.

What it computes from them is recorded by the circuit itself, so whatever runs on tensors can be
traced: transformations (their gradients are circuit), networks, losses and optimisers.
"""

from __future__ import annotations

import functools
import inspect
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

import numpy as np

from ..circuit import GIVEN, Reading, Tensor, state
from ..errors import TraceError
from ..gradient.tree import leaves, rebuilt
from ..ops import registry
from ..ops.gather import Picking
from .graph import Graph

__all__ = ["Traced", "signature", "trace"]

Array = Any

_NUMBERS = (float, int, bool)  # Python's: they take the dtype of the array that they meet
_SETTINGS = (str, bytes, type, np.dtype, Enum)


@dataclass(eq=False)
class Traced:
    """A traced function: its graph, and how values go in and come out.

    The graph's inputs are the arguments' leaves in order, then `parameters`: the variables that the
    function closes over and the buffers of modules, whose values are read at each call. `structure`
    is the tree of the result.
    """

    graph: Graph
    structure: Any
    parameters: list[Tensor]
    numbers: list[bool]  # of each output: whether the function itself gives a Python number
    fixed: dict[int, Any]  # by place, what is no number in the result: names and the like

    def inputs(self, args: Sequence[Any], kwargs: Mapping[str, Any] | None = None) -> list[Array]:
        """The values to run the graph on, for arguments of the signature that was traced."""
        given = [_plain(x) for _, x in leaves(_tree(args, kwargs)) if _is_input(x)]
        return given + [parameter.value for parameter in self.parameters]

    def rebuilt(self, outputs: Sequence[Array]) -> Any:
        """The tree of the result with these values, one for each output of the graph."""
        values = iter(
            [v.item() if n else v for v, n in zip(outputs, self.numbers, strict=True)]
            if any(self.numbers)
            else outputs
        )
        if not self.fixed:
            return rebuilt(self.structure, values)
        places = range(len(outputs) + len(self.fixed))
        merged = [self.fixed[k] if k in self.fixed else next(values) for k in places]
        return rebuilt(self.structure, iter(merged))


def trace(
    function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any] | None = None
) -> Traced:
    """The graph of `function(*args, **kwargs)`, recorded while it runs once.

    Every number and array among the arguments is an input, in trees and Modules too; and so is
    every variable that the function closes over. Constants are built in.

    Raises `TraceError`, naming the user's line, where the function asks a traced tensor for its
    value (`if`, `float()`, …), and for arguments that are neither arrays nor plain settings.
    """
    stand_ins = _StandIns()
    birth = Tensor(0.0, requires_grad=False).serial
    tree = _tree(args, kwargs)
    names = _names(function, len(args))
    positional = [stand_ins.tree(x, name) for x, name in zip(tree[0], names, strict=True)]
    named = {name: stand_ins.tree(x, name) for name, x in tree[1].items()}
    with _compiling():
        output = function(*positional, **named)
    return _extract(stand_ins.made, output, birth)


def signature(args: Sequence[Any], kwargs: Mapping[str, Any] | None = None) -> Any:
    """What a compiled program is made for, hashable: the tree of the arguments, the shapes and
    dtypes of the numbers in it, the settings, and the Modules with their modes.

    >>> signature([np.zeros(3)]) == signature([np.ones(3)]) != signature([np.zeros(4)])
    True
    """
    return _key(_tree(args, kwargs))


# -- arguments --------------------------------------------------------------------------------


def _tree(args: Sequence[Any], kwargs: Mapping[str, Any] | None) -> tuple[Any, dict[str, Any]]:
    return tuple(args), dict(sorted((kwargs or {}).items()))


def _is_module(tree: Any) -> bool:
    return hasattr(tree, "named_parameters") and not isinstance(tree, type)


def _is_input(leaf: Any) -> bool:
    """Whether it is a number or an array, and no setting."""
    if isinstance(leaf, (Tensor, np.ndarray, np.generic, float, int)):
        return not isinstance(leaf, Enum)
    return hasattr(leaf, "__array__") and not isinstance(leaf, _SETTINGS)


def _plain(leaf: Any) -> Array:
    """Its value; a Python number stays one."""
    if isinstance(leaf, Tensor):
        return leaf.value
    return leaf if leaf.__class__ in _NUMBERS else np.asarray(leaf)[()]


def _names(function: Callable[..., Any], count: int) -> list[str]:
    """What the function calls its positional arguments."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    names = [p.name for p in parameters if p.kind in kinds]
    return [names[k] if k < len(names) else f"argument{k}" for k in range(count)]


class _StandIns:
    """Makes the tensors that stand for the inputs, in the order of `gradient.tree.leaves`."""

    def __init__(self) -> None:
        self.made: list[tuple[Tensor, str]] = []

    def tree(self, tree: Any, name: str) -> Any:
        """The argument with its leaves made tensors; a Module's parameters stand for themselves."""
        if isinstance(tree, dict):
            return {key: self.tree(value, f"{name}[{key!r}]") for key, value in tree.items()}
        if isinstance(tree, (list, tuple)):
            parts = [self.tree(value, f"{name}[{k}]") for k, value in enumerate(tree)]
            return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
        if _is_module(tree):
            self.made += [(p, f"{name}.{place}") for place, p in tree.named_parameters()]
            return tree
        return tree if tree is None else self.leaf(tree, name)

    def leaf(self, leaf: Any, name: str) -> Any:
        if not _is_input(leaf):
            _demand_setting(leaf, name)
            return leaf
        value = _plain(leaf)
        if isinstance(value, np.ndarray) and value.flags.writeable:
            value = value.copy()
        made = Tensor(value, requires_grad=False, name=name)
        if made.dtype.kind not in "fiub":
            raise TraceError(
                f"argument {name} holds values of type {made.dtype}, which cannot be compiled;"
                " use real numbers"
            )
        made.requires_grad = made.dtype.kind == "f"  # it may be differentiated
        made.op = GIVEN
        self.made.append((made, name))
        return made


def _demand_setting(leaf: Any, name: str) -> None:
    if not (isinstance(leaf, _SETTINGS) or callable(leaf)):
        raise TraceError(
            f"argument {name} is a {type(leaf).__name__}, which cannot be compiled: pass numbers,"
            " arrays, Modules, and lists, tuples and dicts of them; close over anything else"
        )


def _key(tree: Any) -> Any:
    if isinstance(tree, dict):
        return ("dict", *((key, _key(value)) for key, value in tree.items()))
    if isinstance(tree, (list, tuple)):
        return (type(tree), *map(_key, tree))
    if _is_module(tree):
        kinds = tuple((p.shape, p.dtype) for _, p in tree.named_parameters())
        modes = tuple(m.training for m in tree.modules()) if hasattr(tree, "modules") else ()
        return (weakref.ref(tree), kinds, modes)
    if tree is None or not _is_input(tree):
        if tree is not None:
            _demand_setting(tree, "")
        return (type(tree), tree)
    value = _plain(tree)
    if value.__class__ in _NUMBERS:
        return value.__class__
    return (np.shape(value), value.dtype)


# -- recording --------------------------------------------------------------------------------


@contextmanager
def _compiling() -> Iterator[None]:
    """Inside, this thread records everything and lets no traced value out."""
    before = state.compiling, state.group, state.depth, state.losses
    state.compiling, state.group, state.depth, state.losses = True, None, 0, None
    try:
        yield
    finally:
        state.compiling, state.group, state.depth, state.losses = before


def _extract(inputs: list[tuple[Tensor, str]], output: Any, birth: int) -> Traced:
    """The graph of the tensors that the output depends on."""
    graph = Graph()
    number: dict[Tensor, int] = {}
    for leaf, label in inputs:
        slot = _enter_input(graph, leaf, label)
        number.setdefault(leaf, slot)
    found = [leaf for _, leaf in leaves(output)]
    fixed = {k: leaf for k, leaf in enumerate(found) if isinstance(leaf, (str, bytes))}
    outputs = [_output(leaf) for k, leaf in enumerate(found) if k not in fixed]
    nodes = _circuit(outputs, birth)
    parameters = [x for x in nodes if _is_closed_over(x, birth) and x not in number]
    for parameter in parameters:
        number[parameter] = _enter_input(graph, parameter, parameter.name or "")
    for node in nodes:
        if node not in number:
            number[node] = _enter(graph, node, number, birth)
    graph.outputs = [number[x] for x in outputs]
    return Traced(
        graph,
        rebuilt(output, iter([0] * len(found))),
        parameters,
        [x.value.__class__ in _NUMBERS for x in outputs],
        fixed,
    )


def _is_closed_over(node: Tensor, birth: int) -> bool:
    """Whether it is a variable from outside, or a buffer of a module."""
    outside = node.op is None and node.requires_grad and node.serial < birth
    return outside or isinstance(node, Reading)


def _output(leaf: Any) -> Tensor:
    if isinstance(leaf, Tensor):
        return leaf
    if not _is_input(leaf) or np.asarray(leaf).dtype.kind not in "fiub":
        raise TraceError(
            f"a compiled function returned a {type(leaf).__name__}; return tensors, arrays and"
            " numbers, in lists, tuples and dicts"
        )
    return Tensor(_plain(leaf), requires_grad=False)


def _circuit(outputs: Sequence[Tensor], birth: int) -> list[Tensor]:
    """The nodes that the outputs depend on, inputs first. What was computed before the trace began
    is a value like any other: its own circuit is not entered."""
    seen = set(outputs)
    waiting = list(outputs)
    while waiting:
        node = waiting.pop()
        if node.serial < birth:
            continue
        for source in node.inputs:
            if source not in seen:
                seen.add(source)
                waiting.append(source)
    return sorted(seen, key=lambda node: node.serial)


def _enter_input(graph: Graph, leaf: Tensor, label: str) -> int:
    entered = graph.input(leaf.shape, leaf.dtype, label)
    if leaf.value.__class__ in _NUMBERS:
        graph.nodes[entered].params = {**graph.nodes[entered].params, "weak": True}
    return entered


def _enter(graph: Graph, node: Tensor, number: Mapping[Tensor, int], birth: int) -> int:
    label, dtype = node.name or "", node.dtype
    if dtype.kind not in "fiub":
        raise TraceError(f"a value of type {dtype} cannot be compiled: an integer left 64 bits")
    if node.op is None or node.serial < birth:
        params: dict[str, Any] = {"value": np.asarray(node.value)}
        if node.value.__class__ in _NUMBERS:
            params["weak"] = True
        return graph.add("constant", (), params, shape=node.shape, dtype=dtype, label=label)
    op, params = str(node.op.name), dict(node.params)
    origin = node.group.name if node.group is not None else ""
    sources = [number[x] for x in node.inputs]
    if registry.get(op) is not node.op and not isinstance(node.op, Picking):  # a custom gate
        opened = _opened(graph, node, sources, origin or op)
        if opened is not None:
            return opened
        op, params = "call", {"operation": node.op, "params": params}
    return graph.add(
        op, sources, params, shape=node.shape, dtype=dtype, label=label, origin=origin
    )  # fmt: skip


def _opened(graph: Graph, gate: Tensor, sources: Sequence[int], origin: str) -> int | None:
    """A gate that is in no registry as what its value computes; None where that cannot be traced.

    Then it stays a `call`, which only the interpreter can make.
    """
    value = functools.partial(gate.op.value, **gate.params)
    try:
        with np.errstate(all="ignore"):
            inner = trace(value, [x.value for x in gate.inputs])
    except Exception:  # the user's own code, which need not know tensors
        return None
    if inner.parameters or len(inner.graph.outputs) != 1:
        return None
    result = inner.graph.nodes[inner.graph.outputs[0]]
    if (result.shape, result.dtype) != (gate.shape, gate.dtype):
        return None
    number = dict(zip(inner.graph.inputs, sources, strict=True))
    for k, node in enumerate(inner.graph.nodes):
        if k not in number:
            inputs = [number[x] for x in node.inputs]
            graph.nodes.append(replace(node, inputs=tuple(inputs), origin=origin))
            number[k] = len(graph.nodes) - 1
    return number[inner.graph.outputs[0]]
