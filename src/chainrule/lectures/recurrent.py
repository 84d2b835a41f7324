"""An LSTM cell as a circuit of gates, and backpropagation through time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

import chainrule as cr

from .systems import Check, system

Array = np.ndarray[Any, Any]
TIME, INPUTS, UNITS = 5, 2, 3
ROUNDING = 1e-6  # what central differences can show


class Gates(NamedTuple):
    """What a cell computed at one time step."""

    forget: Any
    enter: Any
    leave: Any
    candidate: Any
    cell: Any
    out: Any


def lstm_step(params: Any, x: Any, cell: Any, out: Any, gate: Any = cr.sigmoid) -> Gates:
    """c = f⊙c₋ + i⊙g and h = o⊙tanh(c): three sigmoid gates, and tanh for what is stored."""
    net = x @ params["W"] + out @ params["U"] + params["b"]
    parts = [net[k * UNITS : (k + 1) * UNITS] for k in range(4)]
    forget, enter, leave = (gate(part) for part in parts[:3])
    candidate = cr.tanh(parts[3])
    cell = forget * cell + enter * candidate
    return Gates(forget, enter, leave, candidate, cell, leave * cr.tanh(cell))


def unrolled(
    params: Any, sequence: Array, cell: Any, out: Any, gate: Any = cr.sigmoid
) -> list[Gates]:
    """The same cell at each time step: one circuit in which the parameters branch."""
    steps: list[Gates] = []
    for x in sequence:
        steps.append(lstm_step(params, x, cell, out, gate))
        cell, out = steps[-1].cell, steps[-1].out
    return steps


def _start() -> tuple[dict[str, Array], Array, Array]:
    rng = np.random.default_rng(33)
    params = {
        "W": rng.normal(size=(INPUTS, 4 * UNITS)),
        "U": rng.normal(size=(UNITS, 4 * UNITS)),
        "b": rng.normal(size=4 * UNITS),
    }
    return params, rng.normal(size=(TIME, INPUTS)), rng.normal(size=(TIME, UNITS))


@system(
    "S33",
    title="An LSTM cell as a circuit of gates, and backpropagation through time",
    lecture="slides",
    notes="RNN and LSTM still use the sigmoid, for a reason: a gate multiplies, so it must be a"
    " share, from 0 (forget) to 1 (keep). Along the cell the gradient is ∂c_T/∂c₀ = Π f_t. With f"
    " from 0 to 1 it can fade or last, and never grows; with tanh gates, from −1 to 1, it changes"
    " its sign; with relu gates, which have no bound, it explodes: at net 2 over 20 steps to"
    " 2²⁰ = 1048576. What is stored may have either sign, so the candidate is a tanh. The circuit"
    " above is the cell over two steps with one unit: f, i, g, o are the forget, input, candidate"
    " and output gate, a their nets without what is fed back, u the weights of h_1.",
)
def lstm() -> Iterator[Check]:
    """S33."""
    params, sequence, targets = _start()
    zeros = np.zeros(UNITS)
    yield from _carried(params, sequence)
    yield from _other_gates()
    yield from _two_steps()

    def loss(p: Any) -> Any:
        steps = unrolled(p, sequence, zeros, zeros)
        return 0.5 * sum(cr.sum(cr.square(s.out - y)) for s, y in zip(steps, targets, strict=True))

    report = cr.check_grad(loss, params, max_elements=24)
    what = (
        f"{report.checked} gradients through {TIME} steps by differences; worst at {report.worst}"
    )
    yield Check(what, report.analytic, report.numeric, ROUNDING)
    found, by_hand = cr.grad(loss)(params), _through_time(params, sequence, targets)
    for name in params:
        yield Check(f"∂L/∂{name}: the recursion through time by hand", found[name], by_hand[name])
    steps = unrolled(params, sequence, zeros, zeros)
    gates = np.array([[s.forget, s.enter, s.leave] for s in steps])
    inside = bool(np.all((gates > 0) & (gates < 1)))
    yield Check("every gate lies between 0 and 1", inside, True)
    yield from _layer(params, sequence, targets, by_hand)


def _through_time(p: dict[str, Array], sequence: Array, targets: Array) -> dict[str, Array]:
    """δ of each step from the one after it, in plain NumPy."""
    zeros = np.zeros(UNITS)
    steps = unrolled(p, sequence, zeros, zeros)
    total = {name: np.zeros_like(value) for name, value in p.items()}
    d_cell, d_out = zeros, zeros
    for t in range(TIME - 1, -1, -1):
        s = steps[t]
        before, out_before = (steps[t - 1].cell, steps[t - 1].out) if t else (zeros, zeros)
        d_out = d_out + s.out - targets[t]
        d_cell = d_cell + d_out * s.leave * (1 - np.tanh(s.cell) ** 2)
        delta = np.concatenate(
            [
                d_cell * before * s.forget * (1 - s.forget),
                d_cell * s.candidate * s.enter * (1 - s.enter),
                d_out * np.tanh(s.cell) * s.leave * (1 - s.leave),
                d_cell * s.enter * (1 - s.candidate**2),
            ]
        )
        total["W"] += np.outer(sequence[t], delta)
        total["U"] += np.outer(out_before, delta)
        total["b"] += delta
        d_cell, d_out = d_cell * s.forget, p["U"] @ delta
    return total


def _carried(params: dict[str, Array], sequence: Array) -> Iterator[Check]:
    """Without the detour through h, ∂c_T/∂c₀ is the product of the forget gates."""
    alone = {**params, "U": np.zeros_like(params["U"])}
    zeros, start = np.zeros(UNITS), np.full(UNITS, 0.5)

    def last(cell: Any, p: dict[str, Array]) -> Any:
        return cr.sum(unrolled(p, sequence, cell, zeros)[-1].cell)

    product = np.prod([s.forget for s in unrolled(alone, sequence, start, zeros)], axis=0)
    yield Check("∂c₅/∂c₀ = product of the forget gates", cr.grad(last)(start, alone), product)
    opened = {**alone, "W": np.zeros_like(alone["W"]), "b": np.full(4 * UNITS, 40.0)}
    carried = cr.grad(last)(start, opened)
    yield Check("∂c₅/∂c₀ with the forget gate open", carried, np.ones(UNITS))
    opened["b"] = -opened["b"]
    carried = cr.grad(last)(start, opened)
    yield Check("∂c₅/∂c₀ with the forget gate closed", carried, np.zeros(UNITS))


def _other_gates() -> Iterator[Check]:
    """What a gate that is no share does to ∂c_T/∂c₀ over a long time, at nets of ±2."""
    long, zeros = 20, np.zeros(UNITS)
    params = {"W": np.zeros((INPUTS, 4 * UNITS)), "U": np.zeros((UNITS, 4 * UNITS))}

    def carried(gate: Any, net: float, steps: int) -> Any:
        b = np.zeros(4 * UNITS)
        b[:UNITS] = net
        given = np.zeros((steps, INPUTS))

        def last(cell: Any) -> Any:
            return cr.sum(unrolled({**params, "b": b}, given, cell, zeros, gate)[-1].cell)

        return cr.grad(last)(np.full(UNITS, 0.5))

    share = 1 / (1 + np.exp(-2.0))
    ones = np.ones(UNITS)
    what = "∂c/∂c₀ over 20 steps at net 2, "
    yield Check(what + "sigmoid gate: σ(2)²⁰", carried(cr.sigmoid, 2.0, long), share**long * ones)
    yield Check(what + "relu gate: 2²⁰", carried(cr.relu, 2.0, long), 2.0**long * ones)
    found, odd = carried(cr.tanh, -2.0, long - 1), np.tanh(-2.0) ** (long - 1)
    yield Check("∂c/∂c₀ over 19 steps at net −2, tanh gate: the sign is turned", found, odd * ones)
    yield Check("∂c/∂c₀ behind one closed relu gate", carried(cr.relu, -2.0, 1), 0 * ones)


def _layer(
    params: dict[str, Array], sequence: Array, targets: Array, by_hand: dict[str, Array]
) -> Iterator[Check]:
    """nn.LSTM with the same numbers: its rows are in the order input, forget, candidate, output."""
    order = np.concatenate([np.arange(UNITS) + k * UNITS for k in (1, 0, 3, 2)])
    layer = cr.nn.LSTM(INPUTS, UNITS, return_sequences=True, dtype=np.float64)
    layer.load_state_dict(
        {
            "weight_ih_l0": params["W"].T[order],
            "weight_hh_l0": params["U"].T[order],
            "bias_ih_l0": params["b"][order],
            "bias_hh_l0": 0 * params["b"],
        }
    )
    error = 0.5 * cr.sum(cr.square(layer(sequence[None])[0] - targets))
    gradients = error.backward()
    for name, own in (("W", "weight_ih_l0"), ("U", "weight_hh_l0"), ("b", "bias_ih_l0")):
        figure = by_hand[name].T[order]
        yield Check(f"nn.LSTM: ∂L/∂{own}", gradients[getattr(layer, own)], figure)


# -- the circuit of its page ----------------------------------------------------------------------

NETS = {"f": (0.5, 1.0), "i": (1.0, -0.5), "g": (0.8, 0.6), "o": (0.4, 1.2)}  # at steps 1 and 2
FED_BACK = {"f": 0.5, "i": -0.4, "g": 0.3, "o": 0.2}
CELL, TARGET = 0.25, 0.9


class Cell(NamedTuple):
    """One unit over two steps: all that has a name, and the error."""

    named: dict[str, Any]
    error: Any


def two_steps() -> Cell:
    """c_t = f_t·c_{t−1} + i_t·g_t, h_t = o_t·tanh(c_t), E = ½(h_2 − y)², on scalars."""
    known: dict[str, Any] = {}

    def name(tensor: Any, called: str) -> Any:
        tensor.name = called
        known[called] = tensor
        return tensor

    def gates(step: int, nets: dict[str, Any]) -> None:
        for k, net in nets.items():
            name((cr.tanh if k == "g" else cr.sigmoid)(net), f"{k}_{step}")
        kept = known[f"f_{step}"] * known[f"c_{step - 1}"]
        cell = name(kept + known[f"i_{step}"] * known[f"g_{step}"], f"c_{step}")
        name(known[f"o_{step}"] * cr.tanh(cell), f"h_{step}")

    name(cr.tensor(CELL), "c_0")
    gates(1, {k: name(cr.tensor(a), f"net_{k}1") for k, (a, _) in NETS.items()})
    second = {}
    for k, (_, a) in NETS.items():
        fed_back = name(cr.tensor(FED_BACK[k]), f"u_{k}") * known["h_1"]
        second[k] = name(name(cr.tensor(a), f"a_{k}") + fed_back, f"net_{k}2")
    gates(2, second)
    return Cell(known, name(0.5 * cr.square(known["h_2"] - TARGET), "E"))


def _two_steps() -> Iterator[Check]:
    """One backward pass through time, number by number."""
    named, error = two_steps()
    gradients = error.backward()
    v = {k: float(t) for k, t in named.items()}
    back: dict[str, float] = {"h_2": v["h_2"] - TARGET}
    back["c_2"] = back["h_2"] * v["o_2"] * (1 - np.tanh(v["c_2"]) ** 2)
    back["net_o2"] = back["h_2"] * np.tanh(v["c_2"]) * v["o_2"] * (1 - v["o_2"])
    back["net_f2"] = back["c_2"] * v["c_1"] * v["f_2"] * (1 - v["f_2"])
    back["net_i2"] = back["c_2"] * v["g_2"] * v["i_2"] * (1 - v["i_2"])
    back["net_g2"] = back["c_2"] * v["i_2"] * (1 - v["g_2"] ** 2)
    back["h_1"] = sum(back[f"net_{k}2"] * FED_BACK[k] for k in FED_BACK)
    through_h = back["h_1"] * v["o_1"] * (1 - np.tanh(v["c_1"]) ** 2)
    back["c_1"] = back["c_2"] * v["f_2"] + through_h
    back["c_0"] = back["c_1"] * v["f_1"]
    for name, by_hand in back.items():
        yield Check(f"two steps, one unit: ∂E/∂{name}", gradients[named[name]], by_hand)
