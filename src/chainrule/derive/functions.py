"""Any function of tensors: traced, written out in scalars where it has arrays, differentiated."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..circuit import Tensor, circuit_of
from ..errors import ExpressionError, unknown
from ..rewrite.algebra import reaches
from .cases import cases, opened_selections, selects
from .chain import plain_chain, start
from .derivation import Derivation, Part
from .scalars import scalar_cells, variables
from .symbols import pending, readable, symbol

MOST_NODES, DEEPEST = 400, 36  # of a circuit that is written out


def derive_function(function: Callable[..., Any], wrt: Any, name: str) -> Derivation:
    """The derivation of a function of scalars, its arguments named as in its signature."""
    inputs = [symbol(n, v) for n, v in _named_arguments(function)]
    output = function(*inputs)
    if not isinstance(output, Tensor):
        raise ExpressionError(f"derive: {name} returned no tensor; write it in cr's functions")
    return derive_circuit(output, inputs, wrt, name)


def _named_arguments(function: Callable[..., Any]) -> list[tuple[str, float]]:
    """The arguments without defaults, with sample values apart from one another."""
    found: list[tuple[str, float]] = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            raise ExpressionError("derive: name the arguments instead of *args")
        if parameter.default is parameter.empty and parameter.kind in (
            parameter.POSITIONAL_ONLY,
            parameter.POSITIONAL_OR_KEYWORD,
        ):
            found.append((parameter.name, 0.7 + 0.4 * len(found)))
    if not found:
        raise ExpressionError("derive: the function takes no argument to differentiate towards")
    return found


def derive_circuit(
    output: Tensor, leaves: Sequence[Tensor], wrt: Any, name: str, notes: Sequence[str] = ()
) -> Derivation:
    """The derivation of a circuit towards its leaves, or those of them that `wrt` names."""
    _refuse_large(output)
    chosen = _chosen(leaves, wrt)
    parts: list[Part] = []
    if not any(node.shape for node in circuit_of(output)):
        u = unnamed(output)
        several = len(leaves) > 1
        for leaf in chosen:
            parts += parts_of(u, leaf, f"∂/∂{leaf.name}" if len(chosen) > 1 else "", several)
        return Derivation(name, tuple(parts), tuple(notes))
    cells = {leaf: variables(leaf) for leaf in leaves}
    known: dict[Tensor, Any] = dict(cells)
    elements = scalar_cells(unnamed(output), known)
    for leaf in chosen:
        parts += _element_parts(elements, cells[leaf])
    return Derivation(name, tuple(parts), tuple(notes))


def _refuse_large(output: Tensor) -> None:
    """A formula that nobody could read is not written out."""
    depth: dict[Tensor, int] = {}
    nodes = circuit_of(output)
    for node in nodes:
        depth[node] = 1 + max((depth[x] for x in node.inputs), default=0)
    if len(nodes) > MOST_NODES or depth[output] > DEEPEST:
        raise ExpressionError(
            f"derive: a formula of {len(nodes)} nodes, {depth[output]} deep, is too large to write"
            f" out (at most {MOST_NODES} and {DEEPEST}); derive a part of it"
        )


def _chosen(leaves: Sequence[Tensor], wrt: Any) -> Sequence[Tensor]:
    if wrt is None:
        return leaves
    by_name = {leaf.name or "": leaf for leaf in leaves}
    names = [wrt] if isinstance(wrt, (str, Tensor)) else list(wrt)
    keys = [one.name or "" if isinstance(one, Tensor) else one for one in names]
    for one in keys:
        if one not in by_name:
            raise unknown("variable", one, by_name)
    return [by_name[one] for one in keys]


def _element_parts(elements: Any, cells: Any) -> list[Part]:
    """One output element towards an input that it depends on, and towards one that it does not."""
    found: list[Part] = []
    seen: set[bool] = set()
    for place in np.ndindex(elements.shape):
        for x in cells.flat:
            touched = reaches(elements[place], x)
            if touched in seen or (not touched and elements.size == 1):
                continue
            seen.add(touched)
            where = ",".join(str(i + 1) for i in place)
            title = f"∂out[{where}]/∂{x.name}" if place else f"∂/∂{x.name}"
            found += parts_of(elements[place], x, title, True)
        if len(seen) == 2:
            break
    if not found and elements.size and cells.size:
        x = cells.flat[0]
        found = parts_of(elements.flat[0], x, f"∂/∂{x.name}", True)
    return sorted(found, key=lambda part: not reaches(part.steps[0].node.inputs[0], part.variable))


def parts_of(u: Tensor, x: Tensor, title: str, partial: bool) -> list[Part]:
    """The chains of one scalar towards one variable, a part for each case."""
    u = readable(u)
    split = opened_selections(u, magnitudes=False)
    body = u if split is None else split
    if not selects(body):
        return [plain_chain(start(u, x, partial)).part(title, x)]
    found = []
    for conditions, left in cases(body):
        chain = start(u, x, partial)
        chain.add("definition", pending(body, x, partial))
        chain.add("by cases", pending(left, x, partial))
        found.append(plain_chain(chain).part(title, x, conditions))
    return found


def unnamed(output: Tensor) -> Tensor:
    """The circuit without its inner nodes' names, so that every line is written out."""

    known: dict[Tensor, Tensor] = {}
    for node in circuit_of(output):
        inputs = [known[x] for x in node.inputs]
        same = all(a is b for a, b in zip(inputs, node.inputs, strict=True))
        if node.op is None or (same and not node.name):
            known[node] = node
        else:
            known[node] = node.op(*inputs, **node.params)
    return known[output]
