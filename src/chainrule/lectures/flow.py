"""How gradients flow: along edges, through gates, over ties, and together at branches."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import chainrule as cr

from ..circuit import Tensor, circuit_of
from ..gradient.backward import Edge, sum_to
from . import circuits, worked
from .systems import Check, figures, plain, system


def _softmax_loss() -> Tensor:
    """−ln softmax(x)·t: a circuit with a gate that mixes a whole row."""
    expected = figures()["softmax"]
    loss: Tensor = -cr.sum(cr.log_softmax(cr.tensor(expected["x"])) * np.array(expected["t"]))
    return loss


def _dense() -> Tensor:
    """A small dense net on three rows: matrix products and broadcast biases."""
    rng = np.random.default_rng(4)
    x = rng.normal(size=(3, 2))
    w, b, v = (cr.tensor(rng.normal(size=shape)) for shape in ((2, 4), (4,), (4, 1)))
    error: Tensor = 0.5 * cr.sum(cr.square(cr.tanh(x @ w + b) @ v))
    return error


CIRCUITS: dict[str, Callable[[], Tensor]] = {
    "wx + b": lambda: circuits.linear().output,
    "(x + y)z": lambda: circuits.add_mul().output,
    "sigmoid neuron": lambda: circuits.sigmoid_neuron().output,
    "sigmoid neuron, opened": lambda: cr.open(circuits.sigmoid_neuron().output),
    "x² + xy + y²": lambda: circuits.partials().output,
    "sin(x²)": lambda: circuits.sin_sq().output,
    "sin(exp(−x²))": lambda: circuits.sin_exp().output,
    "xy + x·x + sin x": lambda: circuits.branch().output,
    "two neurons": lambda: circuits.chain2().output,
    "2-2-2 net, unit by unit": lambda: worked.unit_by_unit().error,
    "softmax and its loss": _softmax_loss,
    "softmax and its loss, opened": lambda: cr.open(_softmax_loss()),
    "dense net": _dense,
}


@system(
    "S04",
    title="Gradient = local gradient × upstream gradient, on every edge",
    lecture="slides",
    notes="Local gradients are measured here by differences of the gate alone, so the rule that"
    " backward uses is not its own witness.",
)
def every_edge() -> Iterator[Check]:
    """S04."""
    for name, build in CIRCUITS.items():
        output = build()
        edges = circuits.edges_of(output)
        sent = np.concatenate([np.ravel(edge.contribution) for edge in edges])
        product = np.concatenate([np.ravel(_local_times_upstream(edge)) for edge in edges])
        yield Check(f"{name}: contribution = local × upstream", sent, product)
        measured = np.concatenate([np.ravel(_measured(edge)) for edge in edges])
        yield Check(f"{name}: local measured by differences", sent, measured, 1e-7)
        yield _adds_up(name, output, edges)


def _local_times_upstream(edge: Edge) -> Any:
    """The product in the shape of the input; a structural gate's local is its whole Jacobian."""
    if edge.local is not None:
        full = np.multiply(edge.local, edge.upstream)
        return sum_to(np.asarray(full), edge.source.shape)
    node, position = edge.node, edge.position

    def alone(x: Any) -> Any:
        operands = [*node.inputs[:position], x, *node.inputs[position + 1 :]]
        constants = [o.detach() if isinstance(o, Tensor) and o is not x else o for o in operands]
        return node.op(*constants, **node.params)

    local = cr.jacobian(alone)(edge.source.numpy())
    return np.tensordot(edge.upstream, local, axes=np.ndim(edge.upstream))


def _measured(edge: Edge, step: float = 1e-6) -> Any:
    """upstream · (gate(x + h) − gate(x − h))/2h for each element of the input."""
    node, position = edge.node, edge.position
    values = [np.asarray(x.value, dtype=float) for x in node.inputs]
    found = np.zeros(edge.source.shape)
    for index in np.ndindex(edge.source.shape):
        ends = []
        for h in (step, -step):
            moved = list(values)
            moved[position] = values[position].copy()
            moved[position][index] += h
            ends.append(np.asarray(node.op.value(*moved, **node.params)))
        found[index] = np.sum(edge.upstream * (ends[0] - ends[1])) / (2 * step)
    return found


def _adds_up(name: str, output: Tensor, edges: list[Edge]) -> Check:
    """The contributions that arrive at each node add up to its gradient."""
    arriving: dict[Tensor, Any] = defaultdict(float)
    for edge in edges:
        arriving[edge.source] = arriving[edge.source] + edge.contribution
    gradients = output.backward()
    nodes = [n for n in circuit_of(output, differentiable=True) if n is not output]
    ours = np.concatenate([np.ravel(gradients[node]) for node in nodes])
    total = np.concatenate([np.ravel(arriving[node]) for node in nodes])
    return Check(f"{name}: contributions add up", ours, total)


@system(
    "S05",
    title="Patterns of backward flow: distributor, router, switcher",
    lecture="slides",
    notes="Each gate states its own pattern; here it is seen at work on x = 3, y = −1 with the"
    " upstream gradient 2.",
)
def patterns() -> Iterator[Check]:
    """S05."""
    gates = (
        (cr.add, "distributor", [2, 2]),
        (cr.maximum, "router", [2, 0]),
        (cr.minimum, "router", [0, 2]),
        (cr.multiply, "switcher", [2 * -1, 2 * 3]),
    )
    for gate, pattern, sent in gates:
        x, y = cr.tensor(3.0), cr.tensor(-1.0)
        found = gate(x, y).backward(2.0)
        yield Check(f"{gate.name}: pattern", gate.facts.flow, pattern)
        yield Check(f"{gate.name}: sent to x and y", [found[x], found[y]], sent)


@system(
    "S06",
    title="Max gate on a tie: equal shares among the winners",
    lecture="slides",
    notes="Between the two one-sided derivatives every value is a subgradient. Equal shares treat"
    " the inputs alike and keep the sum of the contributions equal to the upstream gradient;"
    " PyTorch's maximum and amax and JAX do the same. There is no switch.",
)
def ties() -> Iterator[Check]:
    """S06."""
    for gate in (cr.maximum, cr.minimum):
        x, y = cr.tensor(2.0), cr.tensor(2.0)
        found = gate(x, y).backward()
        yield Check(f"{gate.name}(2, 2): shares", [found[x], found[y]], [0.5, 0.5])
    rows = (
        ("max", cr.max, [1.0, 3.0, 3.0, 2.0], [0, 0.5, 0.5, 0]),
        ("max", cr.max, [5.0, 4.0, 5.0, 5.0], [1 / 3, 0, 1 / 3, 1 / 3]),
        ("min", cr.min, [1.0, 3.0, 1.0], [0.5, 0, 0.5]),
        ("maxout by twos", lambda v: cr.sum(cr.maxout(v, 2)), [4.0, 4, 1, 2], [0.5, 0.5, 0, 1]),
    )
    for name, gate, row, shares in rows:
        found = cr.grad(gate)(np.array(row))
        yield Check(f"{name} of {row}: shares", found, shares)
    yield Check("relu at 0, where the constant 0 ties", cr.grad(cr.relu)(0.0), 0.0)


@system(
    "S07",
    title="Gradients add at branches, broadcasting included",
    lecture="slides",
    notes="Broadcasting is a branch: one number feeds many places, so its contributions add.",
)
def branches() -> Iterator[Check]:
    """S07."""
    circuit = circuits.branch()
    yield from circuits.gradient_checks("branch", circuit)
    x = circuit.named["x"]
    arriving = [e.contribution for e in circuits.edges_of(circuit.output) if e.source is x]
    yield Check("edges into x", len(arriving), 4)
    yield Check("sum of what they carry", sum(arriving), figures()["branch"]["grad"]["x"])
    yield from _broadcast_branches()


def _broadcast_branches() -> Iterator[Check]:
    rng = np.random.default_rng(7)
    rows, upstream = rng.normal(size=(4, 3)), rng.normal(size=(4, 3))
    shapes: tuple[tuple[int, ...], ...] = ((), (3,), (4, 1), (1, 3))
    for shape in shapes:
        b = cr.tensor(rng.normal(size=shape))
        found = cr.multiply(rows, b).backward(upstream)
        copies = np.zeros(shape)
        for index in np.ndindex(4, 3):  # each copy in turn, added where it came from
            own = index[2 - len(shape) :]
            place = tuple(i if n > 1 else 0 for i, n in zip(own, shape, strict=True))
            copies[place] += rows[index] * upstream[index]
        yield Check(f"rows × b, b of shape {shape}: sum of the copies", plain(found[b]), copies)
