"""The circuit as the compiler sees it: a list of nodes with shapes and dtypes, printed as text."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = ["Graph", "Node"]

Shape = tuple[int, ...]


@dataclass(eq=False, slots=True)
class Node:
    """A value: `op` applied to earlier nodes, by number.

    `op` is the name of a registered operation, or "input" (params: slot) or "constant" (params:
    value). `label` is the user's name or the layer's, `origin` an annotation of the reading that
    made it (which step of the chain rule it does); the compiler only carries them.
    """

    op: str
    inputs: tuple[int, ...]
    params: Mapping[str, Any]
    shape: Shape
    dtype: np.dtype[Any]
    label: str = ""
    origin: str = ""

    @property
    def size(self) -> int:
        return math.prod(self.shape)


@dataclass(eq=False)
class Graph:
    """Nodes in an order in which each follows its inputs; `inputs` and `outputs` are numbers."""

    nodes: list[Node] = field(default_factory=list)
    inputs: list[int] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)

    def add(
        self,
        op: str,
        inputs: Sequence[int] = (),
        params: Mapping[str, Any] | None = None,
        *,
        shape: Shape,
        dtype: Any,
        label: str = "",
        origin: str = "",
    ) -> int:
        """Append a node; its number."""
        node = Node(op, tuple(inputs), params or {}, tuple(shape), np.dtype(dtype), label, origin)
        self.nodes.append(node)
        return len(self.nodes) - 1

    def input(self, shape: Shape, dtype: Any, label: str = "") -> int:
        """Append an input; its number. Inputs are given in this order."""
        number = self.add(
            "input", params={"slot": len(self.inputs)}, shape=shape, dtype=dtype, label=label
        )
        self.inputs.append(number)
        return number

    def constant(self, value: Any, label: str = "") -> int:
        """Append a constant; its number."""
        array = np.asarray(value)
        return self.add(
            "constant", params={"value": array}, shape=array.shape, dtype=array.dtype, label=label
        )

    def users(self) -> list[list[int]]:
        """For each node, the nodes that read it (twice where twice)."""
        found: list[list[int]] = [[] for _ in self.nodes]
        for number, node in enumerate(self.nodes):
            for source in node.inputs:
                found[source].append(number)
        return found

    def fingerprint(self) -> str:
        """A digest of all that code is made from: equal for equal graphs, in any process."""
        digest = hashlib.sha256()
        for node in self.nodes:
            parts = [node.op, str(node.inputs), str(node.shape), node.dtype.str]
            for name, value in node.params.items():
                array = isinstance(value, np.ndarray)
                exact = value.dtype.str + value.tobytes().hex() if array else repr(value)
                parts.append(f"{name}={exact}")
            digest.update("\0".join(parts).encode() + b"\n")
        digest.update(f"{self.inputs} {self.outputs}".encode())
        return digest.hexdigest()

    def __str__(self) -> str:
        lines = []
        for number, node in enumerate(self.nodes):
            operands = [f"%{k}" for k in node.inputs]
            operands += [f"{k}={_short(v)}" for k, v in node.params.items()]
            name = f"  ; {node.label}" if node.label else ""
            kind = typed(node.dtype, node.shape)
            lines.append(f"%{number} = {node.op}({', '.join(operands)}) : {kind}{name}")
        outs = ", ".join(f"%{k}" for k in self.outputs)
        return "\n".join([*lines, f"return {outs}"])


def typed(dtype: np.dtype[Any], shape: Shape) -> str:
    """As f32[128, 10]."""
    short = {"f": "f", "i": "i", "u": "u"}.get(dtype.kind)
    name = f"{short}{dtype.itemsize * 8}" if short else dtype.name
    return f"{name}[{', '.join(map(str, shape))}]"


def _short(value: Any) -> str:
    if isinstance(value, np.ndarray):
        if value.size == 1:
            return repr(value.reshape(())[()].item())
        return f"array{value.shape}"
    return repr(value)
