"""A circuit as rows: each node with its value and gradient, each edge with its factor."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..circuit import Tensor, circuit_of
from ..gradient.backward import Edge, flow_back, seed


@dataclass(frozen=True)
class Step:
    """One edge of the backward flow: local × upstream = contribution to the input's gradient."""

    node: str
    op: str
    input: str
    local: Any  # None for an operation whose Jacobian is not elementwise
    upstream: Any
    contribution: Any
    flow: str
    formula: str = ""  # the local derivative, or the index form, in symbols


@dataclass
class NodeRow:
    """One node: what it computes, its value, its gradient, and the steps to its inputs."""

    name: str
    formula: str
    op: str | None
    value: Any
    gradient: Any  # ∂output/∂node; None where no gradient comes
    steps: list[Step] = field(default_factory=list)
    received: list[Any] = field(default_factory=list)  # the contributions that its gradient sums


def circuit_rows(output: Tensor) -> list[NodeRow]:
    """The rows of the circuit of `output`, inputs before users, read off the backward loop itself.

    >>> import chainrule as cr
    >>> x, y = cr.tensor(2.0, name="x"), cr.tensor(3.0, name="y")
    >>> [(row.name, row.formula, float(row.gradient)) for row in circuit_rows(x * y)]
    [('x', 'x', 3.0), ('y', 'y', 2.0), ('out', 'x × y', 1.0)]
    """
    nodes = [node for node in circuit_of(output) if node.traced]
    names = name_nodes(nodes, output)
    edges: list[Edge] = []
    gradients: dict[Tensor, Any] = {}
    if output.requires_grad:
        gradients = flow_back(output, seed(output), watch=edges.append)
    rows = {
        node: NodeRow(
            names[node],
            _formula(node, names),
            node.op.name if node.op else None,
            node.value,
            gradients.get(node),
        )
        for node in nodes
    }
    for edge in edges:
        rows[edge.node].steps.append(_step(edge, names))
        rows[edge.source].received.append(edge.contribution)
    return list(rows.values())


def name_nodes(nodes: list[Tensor], output: Tensor) -> dict[Tensor, str]:
    """A name for each node: its own, `out` for the output, n1, n2, … for the rest."""
    names: dict[Tensor, str] = {}
    taken = Counter(node.name for node in nodes if node.name)
    free = (f"n{k}" for k in range(1, len(nodes) + len(taken) + 2) if f"n{k}" not in taken)
    for node in nodes:
        if node.name:
            names[node] = node.name
        elif node is output and "out" not in taken:
            names[node] = "out"
        else:
            names[node] = next(free)
    return names


def _formula(node: Tensor, names: dict[Tensor, str]) -> str:
    """The operation with its inputs, as a person writes it: `x + y`, `exp(n1)`."""
    if node.op is None:
        return names[node]
    operands = [names.get(source) or _constant(source) for source in node.inputs]
    symbol = node.op.facts.symbol
    if node.op.name == "power":
        return f"{operands[0]}^{operands[1]}"
    if len(operands) == 2 and len(symbol) == 1:
        return f"{operands[0]} {symbol} {operands[1]}"
    if node.op.name == "negative":
        return f"−{operands[0]}"
    if node.op.name == "reciprocal":
        return f"1/{operands[0]}"
    if node.op.name == "square":
        return f"{operands[0]}²"
    shown = {k: v for k, v in node.params.items() if np.ndim(v) == 0 and v is not None}
    settings = [
        f"{key}={value}" for key, value in shown.items() if value != node.op.defaults.get(key)
    ]
    return f"{node.op.name}({', '.join(operands + settings)})"


def _constant(node: Tensor) -> str:
    value = np.asarray(node.value)
    return f"{value.item():.9g}" if value.size == 1 else f"array{value.shape}"


def _step(edge: Edge, names: dict[Tensor, str]) -> Step:
    return Step(
        names[edge.node],
        edge.node.op.name,
        names.get(edge.source) or _constant(edge.source),
        edge.local,
        edge.upstream,
        edge.contribution,
        edge.node.op.facts.flow,
    )
