"""The local derivative as a formula: the operation's own rule, run on symbols."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from ..circuit import Tensor
from ..gradient.backward import Edge
from ..notation import Style, symbol, write
from ..rewrite.gates import rebuilt
from .naming import Names


def stand_in(node: Tensor, name: str) -> Tensor:
    """A symbol for a node: its value under its name, without the circuit behind it."""
    return Tensor(node.value, requires_grad=True, name=name)


class Symbols:
    """The inputs and the output of an operation as symbols, and what each is called."""

    def __init__(self, node: Tensor, names: Names) -> None:
        self.names = names
        self.called: dict[Tensor, str] = {}
        self._made: dict[Tensor, Tensor] = {}
        self.operands = [self._operand(source) for source in node.inputs]
        self.out = self._leaf(node)

    def _leaf(self, node: Tensor) -> Tensor:
        if node.op is None and not node.requires_grad and node.size == 1 and not node.name:
            return node  # a number stands for itself
        if node not in self._made:
            self._made[node] = made = stand_in(node, self.names[node])
            self.called[made] = self.names[node]
        return self._made[node]

    def _operand(self, node: Tensor) -> Tensor:
        """A name that the reader knows, else the formula of one operation on such names."""
        known = self.names.given
        if node.op is None or node in known or node in self._made:
            return self._leaf(node)
        if not all(x.op is None or x in known for x in node.inputs) or node.op.arity is None:
            return self._leaf(node)
        inputs = tuple(self._leaf(x) for x in node.inputs)
        with np.errstate(all="ignore"):
            made: Tensor = node.op.record(inputs, node.params)
        self._made[node] = made
        return made

    def text(self, tensor: Any, style: Style) -> str:
        """A formula in these symbols, in plain letters or LaTeX."""
        if not isinstance(tensor, Tensor):
            return f"{float(tensor):.9g}"
        called = {t: symbol(name, style) for t, name in self.called.items()}
        return write(tensor, style, names=called)


def local_formula(edge: Edge, names: Names, style: Style = "text") -> str:
    """∂node/∂input as the textbook writes it, from the record's textbook rule, else its own.

    A router's local derivative is a choice, 1, 0 or a share, and prints as the number it takes.

    >>> import chainrule as cr
    >>> from chainrule.circuit.names import CallerNames
    >>> from chainrule.explain.flow import flow_of
    >>> x = cr.tensor(1.0, name="x")
    >>> flow = flow_of(cr.sigmoid(x))
    >>> names = Names(flow.output, flow.nodes, CallerNames({}))
    >>> local_formula(flow.received[x][0], names)
    'out · (1 − out)'
    """
    facts = edge.node.op.facts
    rule = (facts.textbook or facts.local)[edge.position] if facts.local else None
    if not callable(rule):
        return f"{float(rule):g}".replace("-", "−") if rule is not None else ""
    if edge.node.op.is_router:
        return ""
    symbols = Symbols(edge.node, names)
    with np.errstate(all="ignore"):
        made = rule(*symbols.operands, symbols.out, **edge.node.params)
        tidy = tidied(made) if isinstance(made, Tensor) else made
    return symbols.text(tidy, style)


def tidied(formula: Tensor, keep: Collection[Tensor] = ()) -> Tensor:
    """The formula without factors 1, exponents 1, double transposes: as one would write it.

    What is in `keep` stays as it is, unless it is the formula itself.
    """

    def simpler(node: Tensor, inputs: tuple[Tensor, ...]) -> Tensor | None:
        return node if node in keep and node is not formula else _simpler(node, inputs)

    return rebuilt(formula, simpler)


def _simpler(node: Tensor, inputs: tuple[Tensor, ...]) -> Tensor | None:
    name = node.op.name
    if name in ("identity", "astype"):
        return inputs[0]
    if name == "power" and _is(inputs[1], 1):
        return inputs[0]
    if name in ("multiply", "divide") and _is(inputs[1], 1) and inputs[0].shape == node.shape:
        return inputs[0]
    if name == "multiply" and _is(inputs[0], 1) and inputs[1].shape == node.shape:
        return inputs[1]
    if name in ("reshape", "broadcast_to") and inputs[0].shape == node.shape:
        return inputs[0]
    if name == "transpose" and inputs[0].op is not None:
        return _transposed(inputs[0], node.params)
    return None


def _transposed(inner: Tensor, params: Mapping[str, Any]) -> Tensor | None:
    """(Aᵀ)ᵀ = A and (A·B)ᵀ = Bᵀ·Aᵀ, for matrices."""
    if inner.ndim != 2 or tuple(params["axes"]) != (1, 0):
        return None
    if inner.op.name == "transpose":
        return inner.inputs[0]
    if inner.op.name == "matmul" and all(x.ndim == 2 for x in inner.inputs):
        a, b = (x.inputs[0] if _is_transpose(x) else x.T for x in inner.inputs)
        return b @ a
    return None


def _is_transpose(node: Tensor) -> bool:
    return node.op is not None and node.op.name == "transpose" and node.ndim == 2


def _is(node: Tensor, value: float) -> bool:
    return not node.traced and node.size == 1 and bool(np.all(np.asarray(node.value) == value))
