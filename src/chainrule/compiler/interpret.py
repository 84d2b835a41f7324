"""What a graph means: each node's own NumPy value, one after the other.

Compiled code is compared with this, and this runs where code cannot be compiled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import ShapeError
from ..ops import registry
from .graph import Graph, Node

__all__ = ["evaluated", "interpret", "slices_of"]

Array = Any


def interpret(graph: Graph, inputs: Sequence[Array]) -> list[Array]:
    """The outputs for these inputs, one for each of `graph.inputs`, by NumPy.

    A value is forgotten after its last use. Raises `ShapeError` where an input has another shape
    than the graph was made for.
    """
    values: dict[int, Array] = {}
    if len(inputs) != len(graph.inputs):
        raise ShapeError(f"the program has {len(graph.inputs)} inputs, and {len(inputs)} are given")
    for place, (number, value) in enumerate(zip(graph.inputs, inputs, strict=True)):
        values[number] = _given(graph.nodes[number], value, place)
    last = _last_uses(graph)
    for number, node in enumerate(graph.nodes):
        if node.op == "input":
            continue
        values[number] = evaluated(node, [values[k] for k in node.inputs])
        for source in last.get(number, ()):
            del values[source]
    return [np.asarray(values[k]) for k in graph.outputs]


def evaluated(node: Node, operands: Sequence[Array]) -> Array:
    """The value of one node on those of its inputs, as NumPy's scalar where it has no axes."""
    params = node.params
    if node.op == "constant":
        return _number(params["value"]) if params.get("weak") else params["value"][()]
    if node.op in _OWN:
        value = _OWN[node.op](node, operands)
    elif node.op == "call":
        value = params["operation"].value(*operands, **params["params"])
    else:
        value = registry[node.op].value(*operands, **params)
    return value[()] if value.__class__ is np.ndarray and value.ndim == 0 else value


def slices_of(params: Mapping[str, Any]) -> tuple[slice, ...]:
    """The basic index that `start`, `step` and `count` of each axis name."""
    triples = zip(params["start"], params["step"], params["count"], strict=True)
    found = []
    for start, step, count in triples:
        stop = start + step * count
        found.append(slice(start, None if stop < 0 else stop, step))
    return tuple(found)


def _scatter_add(node: Node, operands: Sequence[Array]) -> Array:
    params = node.params
    if "start" in params:
        out = np.zeros(params["shape"], operands[0].dtype)
        out[slices_of(params)] = operands[0]
        return out
    if "index" in params:
        return registry["scatter_add"].value(*operands, **params)
    x, index = operands
    out = np.zeros(params["shape"], x.dtype)
    np.add.at(out, (slice(None),) * params["axis"] + (index,), x)
    return out


def _argument(node: Node, operands: Sequence[Array]) -> Array:
    """`axis` is one axis in a tuple in a decomposed graph."""
    axis = node.params["axis"]
    if isinstance(axis, tuple):
        (axis,) = axis
    return registry[node.op].value(*operands, axis=axis, keepdims=node.params["keepdims"])


# The operations that only graphs have, and those that have another form there.
_OWN: dict[str, Callable[[Node, Sequence[Array]], Array]] = {
    "slice": lambda node, x: x[0][slices_of(node.params)],
    "gather": lambda node, x: np.take(x[0], x[1], axis=node.params["axis"]),
    "scatter_add": _scatter_add,
    "argmax": _argument,
    "argmin": _argument,
}


def _number(value: Array) -> Any:
    """A Python number, which takes the dtype of the array that it meets."""
    return np.asarray(value).item()


def _given(node: Node, value: Array, place: int) -> Array:
    if np.shape(value) != node.shape:
        name = f"'{node.label}'" if node.label else place
        raise ShapeError(f"input {name} has shape {np.shape(value)}, but {node.shape} was compiled")
    if node.params.get("weak"):
        return _number(value)
    return np.asarray(value, node.dtype)[()]


def _last_uses(graph: Graph) -> dict[int, list[int]]:
    """By node, the inputs that nobody reads after it."""
    user: dict[int, int] = {}
    for number, node in enumerate(graph.nodes):
        for source in node.inputs:
            user[source] = number
        user.setdefault(number, number)
    kept = set(graph.outputs)
    last: dict[int, list[int]] = {}
    for source, number in user.items():
        if source not in kept:
            last.setdefault(number, []).append(source)
    return last
