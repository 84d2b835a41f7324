"""What is drawn, before it is known where: boxes with their faces, and the wires between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from ..circuit import Tensor, circuit_of
from ..gradient.backward import Edge, flow_back, seed
from .face import SIDE, Face, clean, face, short

MANY = 100  # from so many nodes on, heat maps have fewer cells
Kind = Literal["gate", "variable", "constant", "fold", "band"]


@dataclass
class Wire:
    """An edge of the circuit: from the box that makes a value to one that uses it."""

    source: int
    target: int
    port: int
    local: str = ""  # ∂target/∂source
    contribution: str = ""  # its term of the source's gradient
    title: str = ""
    live: bool = True  # whether a gradient flows back along it
    label: str = ""  # of a bundle of wires: how many


@dataclass
class Box:
    """A variable, constant or gate, or several gates folded into one box."""

    kind: Kind
    lines: list[str]  # inside it: the symbol, or the name of what is folded
    name: str = ""  # the user's
    value: Face | None = None
    gradient: Face | None = None
    title: str = ""
    ports: int = 0
    label: str = ""  # how a sentence calls it
    node: Tensor | None = field(default=None, repr=False)  # None for several


@dataclass
class Picture:
    """Boxes with inputs before users, their wires, and what must be said about them."""

    boxes: list[Box] = field(default_factory=list)
    wires: list[Wire] = field(default_factory=list)
    output: int = 0
    output_name: str = "out"
    notes: list[str] = field(default_factory=list)
    gradients: bool = True  # whether any were computed
    nodes: int = 0  # of the circuit

    def fans(self) -> list[int]:
        """For each box, how many wires leave it."""
        count = [0] * len(self.boxes)
        for wire in self.wires:
            count[wire.source] += 1
        return count


class Reading:
    """A circuit with its gradients and names, as the drawing asks for them."""

    def __init__(
        self,
        output: Tensor,
        gradients: bool,
        names: Mapping[Tensor, str] | None,
        digits: int,
    ) -> None:
        self.output = output
        self.digits = digits
        self.nodes = circuit_of(output)
        self.side = SIDE if len(self.nodes) <= MANY else SIDE // 2
        self.names = {x: x.name for x in self.nodes if x.name} | dict(names or {})
        self.output_name = self.names.get(output, "out")
        self.edges: dict[tuple[Tensor, int], tuple[str, Face]] = {}  # local, contribution
        self.gradients: dict[Tensor, Any] = {}
        self._faces: dict[Tensor, Face] = {}
        self._slopes: dict[Tensor, Face] = {}
        self.missing = self._why_no_gradient() if gradients else "gradients were not asked for"
        if not self.missing:
            self.gradients = flow_back(output, seed(output), watch=self._keep)

    def _keep(self, edge: Edge) -> None:
        faces = self._local(edge), face(edge.contribution, self.digits, side=0)
        self.edges[edge.node, edge.position] = faces

    def _why_no_gradient(self) -> str:
        if not self.output.requires_grad:
            return "the output depends on no variable"
        if self.output.size != 1:
            return f"it starts from one number, and the output has shape {self.output.shape}"
        return ""

    def name(self, node: Tensor) -> str:
        """What a sentence calls the node."""
        if node in self.names:
            return clean(self.names[node], 60)
        if node is self.output:
            return "out"
        if node.op is None:
            return self.value(node).text
        return str(node.op.name)

    def gradient(self, node: Tensor) -> Face | None:
        """The face of ∂output/∂node; None where none was computed or none arrives."""
        if node not in self.gradients:
            return None
        if node not in self._slopes:
            self._slopes[node] = face(
                self.gradients[node], self.digits, shaped=False, side=self.side
            )
        return self._slopes[node]

    def value(self, node: Tensor) -> Face:
        """The face of the node's value."""
        if node not in self._faces:
            self._faces[node] = face(node.value, self.digits, side=self.side)
        return self._faces[node]

    def title(self, node: Tensor) -> str:
        """The node in full, for a reader who points at it."""
        made = ""
        if node.op is not None:
            inputs = ", ".join(self.name(source) for source in node.inputs[:6])
            made = f" = {node.op.name}({inputs}{', …' if len(node.inputs) > 6 else ''})"
        lines = [f"{self.name(node)}{made} = {self.value(node).full}"]
        if (gradient := self.gradient(node)) is not None:
            out = clean(self.output_name)
            lines.append(f"∂{out}/∂{self.name(node)} = {gradient.full}")
        elif node.traced and not self.missing:
            lines.append("no gradient arrives here")
        return "\n".join(lines)

    def box(self, node: Tensor) -> Box:
        """One node as a box."""
        own = clean(self.names[node]) if node in self.names else ""
        made = Box(
            "gate", [], own, self.value(node), self.gradient(node), self.title(node),
            len(node.inputs), self.name(node),
        )  # fmt: skip
        made.node = node
        if node.op is not None:
            made.lines = [symbol_of(node)]
            return made
        made.kind = "variable" if node.requires_grad else "constant"
        number = made.value if node.size == 1 else None
        if made.kind == "constant":
            made.lines = [own or (number.text if number else "const")]
        else:
            made.lines = [own or "•"]
        if made.kind == "constant" and number is not None and not own:
            made.value = None  # the number itself stands at the wire's beginning
        made.name = ""
        return made

    def wire(self, node: Tensor, position: int, source: int, target: int) -> Wire:
        """One edge as a wire, with its factor of the chain rule."""
        found = self.edges.get((node, position))
        if found is None:
            return Wire(source, target, position, live=False)
        local, contribution = found
        below = self.name(node.inputs[position])
        title = (
            f"∂{self.name(node)}/∂{below} = {local or 'a Jacobian'};"
            f" local × upstream = {contribution.full}"
        )
        return Wire(source, target, position, local or "J", contribution.text, title)

    def _local(self, edge: Edge) -> str:
        if edge.local is None:
            return ""
        local = np.asarray(edge.local)
        if local.size == 1:
            return short(local.reshape(-1)[0], self.digits)
        return face(local, 2, side=0).text.partition(": ")[2]


def symbol_of(node: Tensor) -> str:
    """What stands in a gate."""
    return str(node.op.facts.symbol)


def whole(reading: Reading) -> Picture:
    """Every node a box and every edge a wire."""
    number = {node: k for k, node in enumerate(reading.nodes)}
    wires = [
        reading.wire(node, position, number[source], number[node])
        for node in reading.nodes
        for position, source in enumerate(node.inputs)
    ]
    boxes = [reading.box(node) for node in reading.nodes]
    return framed(reading, boxes, wires, number[reading.output])


def framed(reading: Reading, boxes: list[Box], wires: list[Wire], output: int) -> Picture:
    """A picture with what must be said under it."""
    picture = Picture(
        boxes, wires, output, clean(reading.output_name), nodes=len(reading.nodes),
        gradients=not reading.missing,
    )  # fmt: skip
    boxes[output].name = ""  # it stands at the end of the wire
    if reading.missing:
        picture.notes.append(f"no gradient computed: {reading.missing}")
    return picture
