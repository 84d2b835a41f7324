"""Names for the nodes of a circuit: the user's, else the variable's, else the textbook's."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

import numpy as np

from ..circuit import Tensor
from ..circuit.names import CallerNames

# The transfer functions of the vocabulary: what goes in is a net, what comes out an out.
TRANSFER = frozenset(
    {
        "sigmoid", "tanh", "relu", "leaky_relu", "prelu", "elu", "gelu", "silu", "softplus",
        "softsign", "hard_tanh", "softmax", "log_softmax",
    }
)  # fmt: skip


class Names(Mapping[Tensor, str]):
    """Every node's name, no two alike; `given` holds those that a reader knows.

    A tensor's own name counts first, then what the caller's variable is called, then net1, out1, …
    for what goes into a transfer function and comes out of it (the last layer's net too), then the
    output's `out`, and n1, n2, … for the rest.
    """

    def __init__(
        self, output: Tensor, nodes: Sequence[Tensor], caller: CallerNames, textbook: bool = True
    ) -> None:
        nodes = [node for node in nodes if node.traced]
        self.caller = caller
        self.given: dict[Tensor, str] = {}
        self.nets: set[Tensor] = set()
        self._taken: set[str] = set()
        self._constants: dict[Tensor, str] = {}
        for node in nodes:
            if node.name:
                self._give(node, node.name)
        for node in nodes:
            if node not in self.given and node in caller.tensors:
                self._give(node, caller.tensors[node])
        self._find_nets(nodes, output, textbook)
        self._nodes = nodes
        self._last = {} if output in self.given else {output: self._free("out")}

    def _give(self, node: Tensor, name: str) -> None:
        self.given[node] = self._free(name)

    def _free(self, name: str) -> str:
        """The name, or the first of name_2, name_3, … that no other node has."""
        free, k = name, 2
        while free in self._taken:
            free, k = f"{name}_{k}", k + 1
        self._taken.add(free)
        return free

    @cached_property
    def _numbers(self) -> dict[Tensor, int]:
        """1, 2, … for the nodes without a name, past what a user calls n1, n2, …"""
        rest = [n for n in self._nodes if n not in self.given and n not in self._last]
        used = {int(name[1:]) for name in self._taken if re.fullmatch(r"n[1-9]\d*", name)}
        free = (k for k in itertools.count(1) if k not in used) if used else itertools.count(1)
        return dict(zip(rest, free, strict=False))

    def _find_nets(self, nodes: Sequence[Tensor], output: Tensor, textbook: bool) -> None:
        activations = [
            n for n in nodes if n.op is not None and n.op.name in TRANSFER and n.requires_grad
        ]
        fed = {node.inputs[0]: node for node in activations if node.inputs[0].op is not None}
        affine = _affine(nodes) - {source for n in fed for source in n.inputs} - {output}
        last, pending = "", False  # the layer's number, and whether its net awaits its activation
        for node in nodes:
            if node not in fed and node not in affine:
                continue
            self.nets.add(node)
            normed = pending and node in fed and node not in affine
            if not normed:
                last = _layer(node) or str(len(self.nets))
            pending = node not in fed
            if textbook:
                self._name_layer(node, fed.get(node), "norm" if normed else "net", last)

    def _name_layer(self, net: Tensor, out: Tensor | None, word: str, number: str) -> None:
        if net not in self.given:
            self._give(net, f"{word}{number}")
        if out is None or out in self.given or out.op.name == "log_softmax":
            return
        name = self.given[net]
        own = name.replace("net", "out", 1) if name.startswith("net") else f"out{number}"
        self._give(out, own)

    # -- as a mapping -------------------------------------------------------------------------

    def __getitem__(self, node: Tensor) -> str:
        name = self.given.get(node) or self._last.get(node)
        if name:
            return name
        number = self._numbers.get(node)
        return f"n{number}" if number else self.constant(node)

    def __contains__(self, node: object) -> bool:
        return node in self.given or node in self._last or node in self._numbers

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self._nodes)

    def __len__(self) -> int:
        return len(self._nodes)

    def constant(self, node: Tensor) -> str:
        """How a constant is called: its name, the caller's array, its value, or c1, c2, …"""
        if node in self._constants:
            return self._constants[node]
        name = node.name or self.caller.tensors.get(node) or self.caller.of_constant(node.value)
        if name is None and node.size == 1:
            return f"{float(np.asarray(node.value).item()):.9g}"
        name = self._free(name or f"c{len(self._constants) + 1}")
        self._constants[node] = name
        return name

    def delta(self, node: Tensor) -> str:
        """The name of ∂output/∂net: δ1 for net1, δ_o1 for net_o1, δ(z) for another name."""
        rest = re.fullmatch(r"net(_?\w*)", self[node])
        return f"δ{rest[1]}" if rest else f"δ({self[node]})"


def _affine(nodes: Sequence[Tensor]) -> set[Tensor]:
    """Products of a matrix with a parameter, plus the bias where one is added."""
    found: set[Tensor] = set()
    for node in nodes:
        if node.op is None or not node.requires_grad:
            continue
        if node.op.name == "matmul" and any(map(_is_weight, node.inputs)):
            found.add(node)
        elif node.op.name == "add":
            a, b = node.inputs
            for product, bias in ((a, b), (b, a)):
                if product in found and bias.is_leaf:
                    found.discard(product)
                    found.add(node)
    return found


def _is_weight(node: Tensor) -> bool:
    if node.op is not None and node.op.name == "transpose":
        node = node.inputs[0]
    return node.is_leaf and node.requires_grad and node.ndim > 1


def _layer(node: Tensor) -> str:
    """The number of the layer, read from the name of its weight: W2 gives 2."""
    waiting, steps = [node], 0
    while waiting and steps < 8:
        steps += 1
        for source in waiting.pop(0).inputs:
            if source.is_leaf and source.name and (m := re.fullmatch(r"W(\d+)", source.name)):
                return m[1]
            if source.op is not None and source.op.name in ("matmul", "transpose", "add"):
                waiting.append(source)
    return ""
