"""The worked 2-2-2 example: each number on the way, both layers' updates, and training on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

import chainrule as cr

from ..circuit import Tensor
from ..gradient.backward import flow_back
from .circuits import edges_of
from .systems import Check, figures, system

Array = np.ndarray[Any, Any]
Gradients = Mapping[Tensor, Array]
STEPS = 10_000


class Net(NamedTuple):
    """The circuit of the example, unit by unit, as the slides draw it."""

    weights: list[Tensor]  # w1 … w8
    biases: list[Tensor]  # b1 and b2, each shared by its layer
    net_h: list[Tensor]
    out_h: list[Tensor]
    net_o: list[Tensor]
    out_o: list[Tensor]
    errors: list[Tensor]
    error: Tensor


def unit_by_unit() -> Net:
    """The example's forward pass in scalars, every quantity under its name in the slides."""
    given = figures()["worked_2_2_2"]
    w = [cr.tensor(x, name=f"w{k}") for k, x in enumerate(given["weights"], start=1)]
    b1, b2 = (cr.tensor(given[key], name=key) for key in ("b1", "b2"))
    inputs = given["inputs"]
    net_h = [_net(w[2 * j : 2 * j + 2], inputs, b1, f"net_h{j + 1}") for j in (0, 1)]
    out_h = [_sigmoid(net, f"out_h{j + 1}") for j, net in enumerate(net_h)]
    net_o = [_net(w[2 * k + 4 : 2 * k + 6], out_h, b2, f"net_o{k + 1}") for k in (0, 1)]
    out_o = [_sigmoid(net, f"out_o{k + 1}") for k, net in enumerate(net_o)]
    errors = [0.5 * (t - out) ** 2 for t, out in zip(given["targets"], out_o, strict=True)]
    return Net(w, [b1, b2], net_h, out_h, net_o, out_o, errors, errors[0] + errors[1])


def _net(weights: list[Tensor], inputs: list[Any], bias: Tensor, name: str) -> Tensor:
    net: Tensor = weights[0] * inputs[0] + weights[1] * inputs[1] + bias
    net.name = name
    return net


def _sigmoid(net: Tensor, name: str) -> Tensor:
    out: Tensor = cr.sigmoid(net)
    out.name = name
    return out


@system(
    "S10",
    title="The worked 2-2-2 example, updated once and trained on",
    lecture="slides",
    notes="All updates of a step use gradients taken at the same weights (simultaneous). The"
    " biases' gradients, which the slides leave out, are here too.",
    erratum="out_o1 is σ(net_o1), where net_h1 stands in the exponent; −0.019049119 is"
    " −0.019049118, and it is ∂E_o2/∂out_h1. The example's public page reports 0.291027924"
    " after one step, which belongs to sequential updates, beside weights of simultaneous ones; its"
    " 0.0000351085 is the simultaneous error after 9 999 steps.",
)
def worked_example() -> Iterator[Check]:
    """S10."""
    given = figures()["worked_2_2_2"]
    net = unit_by_unit()
    yield from _forward(net, given)
    gradients = net.error.backward()
    yield from _backward(net, gradients, given)
    yield from _update(net, gradients, given)
    yield from _trained_on(given)


def _values(tensors: list[Tensor]) -> list[float]:
    return [float(t.value) for t in tensors]


def _gradients(tensors: list[Tensor], found: Gradients) -> list[float]:
    return [float(found[t]) for t in tensors]


def _forward(net: Net, given: dict[str, Any]) -> Iterator[Check]:
    for key in ("net_h", "out_h", "net_o", "out_o"):
        yield Check(key, _values(getattr(net, key)), given[key])
    yield Check("E_o1, E_o2", _values(net.errors), given["E"])
    yield Check("E_total", net.error, given["E_total"])


def _backward(net: Net, found: Gradients, given: dict[str, Any]) -> Iterator[Check]:
    yield Check("∂E/∂out_o", _gradients(net.out_o, found), given["dE_dout_o"])
    local = {(e.node, e.source): float(e.local) for e in edges_of(net.error)}
    slopes = [local[out, before] for out, before in zip(net.out_o, net.net_o, strict=True)]
    yield Check("∂out_o/∂net_o", slopes, given["dout_dnet_o"])
    yield Check("δ_o = ∂E/∂net_o", _gradients(net.net_o, found), given["delta_o"])
    yield Check("∂E/∂out_h", _gradients(net.out_h, found), given["dE_dout_h"])
    shares = [float(error.backward()[net.out_h[0]]) for error in net.errors]
    yield Check("∂E_o1/∂out_h1, ∂E_o2/∂out_h1", shares, given["dE_o_dout_h1"])
    yield Check("δ_h = ∂E/∂net_h", _gradients(net.net_h, found), given["delta_h"])
    for k, gradient in enumerate(given["grad_w"]):
        yield Check(f"∂E/∂w{k + 1}", found[net.weights[k]], gradient)
    for key, bias in zip(("b1", "b2"), net.biases, strict=True):
        yield Check(f"∂E/∂{key}, shared by its layer", found[bias], given[f"grad_{key}"])


def _update(net: Net, found: Gradients, given: dict[str, Any]) -> Iterator[Check]:
    for k, weight in enumerate(net.weights):
        new = weight.item() - given["eta"] * float(found[weight])
        yield Check(f"w{k + 1} after the update", new, given["new_weights_biases_fixed"][k])


# -- training on --------------------------------------------------------------------------------

# Four trainings side by side on a leading axis. A step shares out a layer's bias gradients by its
# matrix: 0 keeps the biases fixed, ones train one bias for the layer, the identity one a unit.
RUNS = (
    "simultaneous_biases_fixed",
    "simultaneous_biases_shared",
    "simultaneous_biases_unit",
    "sequential_biases_fixed",
)
SHARING = np.array([np.zeros((2, 2)), np.ones((2, 2)), np.eye(2), np.zeros((2, 2))])
SEQUENTIAL = np.array([False, False, False, True])[:, None, None]


class State(NamedTuple):
    """The four trainings' weights, of shape (run, in, out), and biases, of shape (run, 1, out)."""

    w1: Array
    b1: Array
    w2: Array
    b2: Array


def _start(given: dict[str, Any]) -> State:
    layers = np.array(given["weights"]).reshape(2, 2, 2).transpose(0, 2, 1)
    runs = np.ones((len(RUNS), 1, 1))
    b1, b2 = (np.full((1, 2), given[key]) for key in ("b1", "b2"))
    return State(runs * layers[0], runs * b1, runs * layers[1], runs * b2)


def _step(state: State, x: Tensor, targets: Array, eta: float) -> tuple[State, Array]:
    """One update of all runs; also the outputs before it.

    Backward starts at the outputs, where ∂E/∂out = out − target arrives, and takes the output
    layer first. δ_o then goes on through the output weights: the old ones, or where the update is
    sequential the ones just changed.
    """
    w1, b1, w2, b2 = (cr.tensor(value) for value in state)
    out_h = cr.sigmoid(x @ w1 + b1)
    net_o = out_h @ w2 + b2
    out_o = cr.sigmoid(net_o)
    above = flow_back(out_o, out_o.numpy() - targets, wanted={w2, b2, net_o})
    new_w2 = state.w2 - eta * above[w2]
    new_b2 = state.b2 - eta * above[b2] @ SHARING
    carried = out_h @ np.where(SEQUENTIAL, new_w2, state.w2)
    below = flow_back(carried, above[net_o], wanted={w1, b1})
    new_w1 = state.w1 - eta * below[w1]
    new_b1 = state.b1 - eta * below[b1] @ SHARING
    return State(new_w1, new_b1, new_w2, new_b2), out_o.numpy()


def _trained_on(given: dict[str, Any]) -> Iterator[Check]:
    x = cr.tensor([given["inputs"]], requires_grad=False)
    targets = np.array(given["targets"])
    state = _start(given)
    outputs: dict[int, Array] = {}
    for done in range(STEPS + 1):
        state, outputs[done] = _step(state, x, targets, given["eta"])
    for k, run in enumerate(RUNS):
        expected, label = given["trained_on"][run], run.replace("_", " ")
        for after in (1, STEPS - 1, STEPS):
            what = f"{label}: E after {after} step{'s' * (after > 1)}"
            error = 0.5 * np.sum((targets - outputs[after][k]) ** 2)
            yield Check(what, error, expected[f"E_after_{after}"])
        yield Check(f"{label}: outputs", outputs[STEPS][k, 0], expected["out_o"])
