"""The joint circuit of forward and backward as plain data, for a page that computes it anew.

The backward half is written by the same loop and the same rules as every gradient: given a tensor
upstream, they yield circuit. The page evaluates values only, so it holds no second set of rules.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ..circuit import Tensor, circuit_of
from ..gradient.backward import Edge, flow_back, seed
from ..notation import write
from ..rewrite.gates import successors
from .steps import name_nodes

# What the page's script computes by itself; other gates are opened until only these are left.
KNOWN = frozenset(
    {
        "add", "subtract", "multiply", "divide", "negative", "power", "abs", "sign",
        "floor", "maximum", "minimum", "where", "less", "less_equal", "greater",
        "greater_equal", "equal", "not_equal", "logical_and", "logical_or", "logical_not",
        "isnan", "isfinite", "exp", "expm1", "log", "log1p", "log2", "log10", "sqrt",
        "square", "reciprocal", "sin", "cos", "tan", "arcsin", "arccos", "arctan", "sinh",
        "cosh", "tanh", "sech2", "erf", "erfc", "sigmoid", "softplus", "relu", "leaky_relu",
        "clip", "identity", "stop_gradient", "astype",
    }
)  # fmt: skip
# Of one element they are the value itself.
_SAME = frozenset({"sum", "reshape", "broadcast_to", "transpose"})


class Joint(NamedTuple):
    """The data of the page, and by which numbers it knows the nodes and edges."""

    data: dict[str, Any]
    nodes: dict[Tensor, int]
    edges: dict[tuple[Tensor, int], int]


def joint_circuit(output: Tensor, given: Mapping[Tensor, str] | None = None) -> Joint:
    """Nodes, edges and gradients of a scalar circuit as indices into one list of operations.

    `given` names the nodes. `cells` lists, inputs first, `[operation, inputs, params]` or
    `[null, value, name]` for a leaf. `nodes` are the rows of the circuit with their `value` and
    `gradient` cells; `edges`, in the order of the backward loop, hold the cells of `local`,
    `upstream` and `contribution`. A circuit with arrays, or an operation that the page cannot
    compute, gives `live: False` and its values.

    >>> import chainrule as cr
    >>> x, y = cr.tensor(2.0, name="x"), cr.tensor(3.0, name="y")
    >>> joint = joint_circuit(x * y).data
    >>> [cell[0] for cell in joint["cells"]], joint["live"]
    ([None, None, 'multiply', None, 'multiply', 'multiply'], True)
    """
    nodes = [node for node in circuit_of(output) if node.traced]
    names = {node: given[node] for node in nodes} if given else name_nodes(nodes, output)
    edges: list[Edge] = []
    upstream = Tensor(seed(output), requires_grad=False)
    gradients = flow_back(output, upstream, watch=edges.append)
    parts = [(edge.local, edge.upstream, edge.contribution) for edge in edges]
    everything = [*nodes, *gradients.values(), *[x for part in parts for x in part]]
    cells = _Cells([x for x in everything if isinstance(x, Tensor)])
    rows = [
        {
            "name": names[node],
            "op": node.op.name if node.op else None,
            "symbol": node.op.facts.symbol if node.op else names[node],
            "flow": node.op.facts.flow if node.op else None,
            "formula": write(node, names=names),
            "value": cells.of(node),
            "gradient": cells.of(gradients[node]) if node in gradients else None,
        }
        for node in nodes
    ]
    place = {node: k for k, node in enumerate(nodes)}
    steps = [
        {
            "node": place[edge.node],
            "source": place[edge.source],
            "local": cells.of(edge.local) if edge.local is not None else None,
            "upstream": cells.of(edge.upstream),
            "contribution": cells.of(edge.contribution),
        }
        for edge in edges
    ]
    data = {"cells": cells.list, "nodes": rows, "edges": steps, "live": cells.live}
    links = {(edge.node, edge.position): k for k, edge in enumerate(edges)}
    return Joint(data, place, links)


class _Cells:
    """The list of operations, each tensor once."""

    def __init__(self, tensors: list[Tensor]) -> None:
        self.list: list[list[Any]] = []
        self.live = True
        self._final = _opened(tensors)
        self._place: dict[Tensor, int] = {}
        for node in circuit_of(*self._final.values()):
            self._place[node] = self._cell(node)

    def of(self, value: Any) -> int:
        """The cell of a tensor, or of a plain number."""
        return self._place[self._final[value]] if isinstance(value, Tensor) else self._leaf(value)

    def _cell(self, node: Tensor) -> int:
        self.live &= node.size == 1
        if node.op is None:
            return self._leaf(node.value, node.name if node.requires_grad else None)
        if node.op.name in _SAME:
            return self._place[node.inputs[0]]
        self.live &= node.op.name in KNOWN
        if not self.live:
            return self._leaf(node.value)
        params = {k: v for k, v in node.params.items() if isinstance(v, (int, float))}
        return self._add([node.op.name, [self._place[source] for source in node.inputs], params])

    def _leaf(self, value: Any, name: str | None = None) -> int:
        return self._add([None, _plain(value), name])

    def _add(self, cell: list[Any]) -> int:
        self.list.append(cell)
        return len(self.list) - 1


def _opened(tensors: list[Tensor]) -> dict[Tensor, Tensor]:
    """Each tensor with its successor, gates that the page does not compute opened all the way."""

    def replace(node: Tensor, inputs: tuple[Tensor, ...]) -> Tensor | None:
        if not _is_strange(node):
            return None
        with np.errstate(all="ignore"):
            return node.op.facts.definition(*inputs, **node.params)  # type: ignore[no-any-return]

    final = {tensor: tensor for tensor in tensors}
    while any(_is_strange(node) for node in circuit_of(*final.values())):
        new = successors(list(final.values()), replace)
        final = {tensor: new[last] for tensor, last in final.items()}
    return final


def _is_strange(node: Tensor) -> bool:
    return node.op is not None and node.op.is_gate and node.op.name not in KNOWN | _SAME


def _plain(value: Any) -> Any:
    array = np.asarray(value)
    return array.item() if array.size == 1 else array.tolist()
