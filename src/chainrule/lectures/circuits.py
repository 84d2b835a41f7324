"""The small circuits of the notes: a neuron, a product of a sum, functions of functions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

import chainrule as cr

from ..circuit import Tensor, circuit_of
from ..gradient.backward import Edge, flow_back
from .systems import Check, figures, system


class Circuit(NamedTuple):
    """An output and the tensors behind it that have a name in the notes."""

    output: Tensor
    named: dict[str, Tensor]


def variables(name: str) -> dict[str, Tensor]:
    """The variables of a system, at the values where its figures are given."""
    return {key: cr.tensor(float(x), name=key) for key, x in figures()[name]["at"].items()}


def gradient_checks(name: str, circuit: Circuit) -> Iterator[Check]:
    """The value of a circuit, where the figures have it, and every gradient that they list."""
    expected = figures()[name]
    gradients = circuit.output.backward()
    if "f" in expected:
        yield Check("f", circuit.output, expected["f"])
    for key, gradient in expected["grad"].items():
        yield Check(f"∂f/∂{key}", gradients[circuit.named[key]], gradient)


def edges_of(output: Tensor) -> list[Edge]:
    """Every edge of the circuit with the contribution that backward sends along it."""
    edges: list[Edge] = []
    one = np.ones(output.shape)[()]
    flow_back(output, one, watch=edges.append)
    return edges


def linear() -> Circuit:
    """f = wx + b."""
    v = variables("linear")
    g = v["w"] * v["x"]
    g.name = "g"
    return Circuit(g + v["b"], {**v, "g": g})


def add_mul() -> Circuit:
    """f = (x + y)z, through q = x + y."""
    v = variables("add_mul")
    q = v["x"] + v["y"]
    q.name = "q"
    return Circuit(q * v["z"], {**v, "q": q})


def sigmoid_neuron() -> Circuit:
    """f = σ(w₀x₀ + w₁x₁ + w₂), with the sigmoid as one gate."""
    v = variables("sigmoid_neuron")
    z = v["w0"] * v["x0"] + v["w1"] * v["x1"] + v["w2"]
    z.name = "z"
    return Circuit(cr.sigmoid(z), {**v, "z": z})


def written_neuron() -> Circuit:
    """The same neuron with its sigmoid written out by hand."""
    v = variables("sigmoid_neuron")
    z = v["w0"] * v["x0"] + v["w1"] * v["x1"] + v["w2"]
    return Circuit(1 / (1 + cr.exp(-z)), {**v, "z": z})


def partials() -> Circuit:
    """f = x² + xy + y²."""
    v = variables("partials")
    x, y = v["x"], v["y"]
    return Circuit(x**2 + x * y + y**2, v)


def sin_sq() -> Circuit:
    """f = sin(x²)."""
    v = variables("sin_sq")
    return Circuit(cr.sin(v["x"] ** 2), v)


def sin_exp() -> Circuit:
    """f = sin(exp(−x²))."""
    v = variables("sin_exp")
    return Circuit(cr.sin(cr.exp(-(v["x"] ** 2))), v)


def branch() -> Circuit:
    """f = xy + x·x + sin x: x leaves on four edges."""
    v = variables("branch")
    x, y = v["x"], v["y"]
    return Circuit(x * y + x * x + cr.sin(x), v)


def chain2() -> Circuit:
    """Two sigmoid neurons in a row, and the squared error of the second."""
    v = variables("chain2")
    y = cr.sigmoid(v["w1"] * v["x"])
    z = cr.sigmoid(v["w2"] * y)
    return Circuit(0.5 * cr.square(v["d"] - z), {**v, "y": y, "z": z})


@system(
    "S01",
    title="A linear unit: f = wx + b through g = wx",
    lecture="slides",
    notes="Forward gives g and f; backward multiplies along each path from f to a variable.",
)
def linear_unit() -> Iterator[Check]:
    """S01."""
    circuit = linear()
    yield from gradient_checks("linear", circuit)
    v = circuit.named
    gradients = circuit.output.backward()
    yield Check("g", v["g"], -10.0)
    yield Check("∂f/∂g", gradients[v["g"]], 1.0)


@system(
    "S02",
    title="f = (x + y)z: value and gradient on every edge",
    lecture="slides",
    notes="The gradient of q is kept too: every node has one, not only the variables.",
)
def sum_times() -> Iterator[Check]:
    """S02."""
    circuit = add_mul()
    yield Check("q", circuit.named["q"], figures()["add_mul"]["q"])
    yield from gradient_checks("add_mul", circuit)


@system(
    "S03",
    title="Sigmoid neuron, opened into ×−1, exp, +1, 1/x and closed again",
    lecture="slides",
    notes="Opened or closed, the neuron has one gradient; closed, it is a single local σ(1 − σ).",
)
def neuron() -> Iterator[Check]:
    """S03."""
    closed = sigmoid_neuron()
    yield Check("z", closed.named["z"], figures()["sigmoid_neuron"]["z"])
    yield from gradient_checks("sigmoid_neuron", closed)
    opened = cr.open(closed.output)
    yield from _stages(opened)
    yield from _gradients_equal("opened", Circuit(opened, closed.named))
    written = written_neuron()
    again = cr.close(written.output)
    yield Check("gate recognised in 1/(1 + exp(−z))", again.op.name, "sigmoid")
    yield from _gradients_equal("closed", Circuit(again, written.named))
    (edge,) = [e for e in edges_of(again) if e.node is again]
    sigma = figures()["sigmoid_neuron"]["f"]
    yield Check("local gradient of the closed gate, σ(1 − σ)", edge.local, sigma * (1 - sigma))
    yield Check("gate found again after opening", cr.close(opened).op.name, "sigmoid")


def _stages(opened: Tensor) -> Iterator[Check]:
    """The value after each stage of the opened sigmoid, and the gradient that arrives there."""
    expected = figures()["sigmoid_neuron"]["stages"]
    stages = [node for node in circuit_of(opened) if node.op is not None][-5:]
    gradients = opened.backward()
    symbols = [node.op.facts.symbol for node in stages[1:]]
    yield Check("gates inside the sigmoid", symbols, ["×−1", "exp", "+", "1/x"])
    yield Check("value after each stage", [s.item() for s in stages], expected["value"])
    arriving = [float(gradients[stage]) for stage in stages]
    yield Check("upstream gradient of each stage", arriving, expected["upstream_of_stage"])


def _gradients_equal(how: str, circuit: Circuit) -> Iterator[Check]:
    expected: dict[str, float] = figures()["sigmoid_neuron"]["grad"]
    found = circuit.output.backward()
    ours = [float(found[circuit.named[key]]) for key in expected]
    yield Check(f"{how}: gradient in {', '.join(expected)}", ours, list(expected.values()))


@system(
    "S22",
    title="Chain rule on sin(x²) and sin(exp(−x²))",
    lecture="transfer-and-loss",
    notes="The composition is a circuit of one path; its derivative is the product of the locals.",
)
def composed() -> Iterator[Check]:
    """S22."""
    for name, circuit in (("sin_sq", sin_sq()), ("sin_exp", sin_exp())):
        for check in gradient_checks(name, circuit):
            formula = figures()[name]["expr"].removeprefix("f = ")
            yield Check(f"{check.what} of {formula}", check.ours, check.figure)
        product = float(np.prod([edge.local for edge in _path(circuit)]))
        yield Check(f"product of the locals, {name}", product, figures()[name]["grad"]["x"])


def _path(circuit: Circuit) -> list[Edge]:
    return [edge for edge in edges_of(circuit.output) if edge.source.requires_grad]


@system(
    "S23",
    title="Partial derivatives of x² + xy + y²",
    lecture="error-and-delta",
    notes="2x + y and x + 2y: two branches add at each variable.",
)
def partial_derivatives() -> Iterator[Check]:
    """S23."""
    circuit = partials()
    yield from gradient_checks("partials", circuit)
    x, y = (circuit.named[key].item() for key in "xy")
    found = circuit.output.backward()
    yield Check("2x + y", found[circuit.named["x"]], 2 * x + y)
    yield Check("x + 2y", found[circuit.named["y"]], x + 2 * y)
    curvature = cr.hessian(lambda v: v[0] ** 2 + v[0] * v[1] + v[1] ** 2)(np.array([x, y]))
    yield Check("second derivatives", curvature, [[2, 1], [1, 2]])


@system(
    "S25",
    title="Two neurons in a row: each factor and where it comes from",
    lecture="softmax",
    notes="Label and output give −(d − z); forward gives z(1 − z) and y(1 − y); the next layer's"
    " weight and the layer's input complete the product.",
    erratum="∂E/∂z is −(d − z), with its minus sign, and E is measured at the activation z, not at"
    " the net input p₂.",
)
def two_neurons() -> Iterator[Check]:
    """S25."""
    expected = figures()["chain2"]
    circuit = chain2()
    v = circuit.named
    gradients = circuit.output.backward()
    for key in ("y", "z"):
        yield Check(key, v[key], expected[key])
    yield Check("E", circuit.output, expected["E"])
    for key, gradient in expected["grad"].items():
        yield Check(f"∂E/∂{key}", gradients[v[key]], gradient)
    yield from _factors(circuit, expected)


def _factors(circuit: Circuit, expected: dict[str, Any]) -> Iterator[Check]:
    """The factors as backward meets them, edge by edge, and their products."""
    v = circuit.named
    local = {(e.node, e.source): float(e.local) for e in edges_of(circuit.output)}
    y, z, at = expected["y"], expected["z"], expected["at"]
    (p2, w2_edge, from_next) = _net(v["z"], v["w2"], v["y"], local)
    (p1, w1_edge, _) = _net(v["y"], v["w1"], v["x"], local)
    from_label = float(circuit.output.backward()[v["z"]])
    yield Check("∂E/∂z, from the label and the output", from_label, -(at["d"] - z))
    yield Check("∂z/∂p₂, from the forward pass", local[v["z"], p2], z * (1 - z))
    yield Check("∂p₂/∂w₂, the layer's input", w2_edge, y)
    yield Check("∂p₂/∂y, the next layer's weight", from_next, at["w2"])
    yield Check("∂y/∂p₁, from the forward pass", local[v["y"], p1], y * (1 - y))
    yield Check("∂p₁/∂w₁, the layer's input", w1_edge, at["x"])
    delta = from_label * local[v["z"], p2]
    through = delta * from_next * local[v["y"], p1]
    yield Check("product of three factors", delta * w2_edge, expected["grad"]["w2"])
    yield Check("product of five factors", through * w1_edge, expected["grad"]["w1"])


def _net(
    out: Tensor, weight: Tensor, before: Tensor, local: dict[tuple[Tensor, Tensor], float]
) -> tuple[Tensor, float, float]:
    (net,) = out.inputs
    return net, local[net, weight], local[net, before]
