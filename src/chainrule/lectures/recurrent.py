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


def lstm_step(params: Any, x: Any, cell: Any, out: Any) -> Gates:
    """c = f⊙c₋ + i⊙g and h = o⊙tanh(c): three sigmoid gates, and tanh for what is stored."""
    net = x @ params["W"] + out @ params["U"] + params["b"]
    parts = [net[k * UNITS : (k + 1) * UNITS] for k in range(4)]
    forget, enter, leave = (cr.sigmoid(part) for part in parts[:3])
    candidate = cr.tanh(parts[3])
    cell = forget * cell + enter * candidate
    return Gates(forget, enter, leave, candidate, cell, leave * cr.tanh(cell))


def unrolled(params: Any, sequence: Array, cell: Any, out: Any) -> list[Gates]:
    """The same cell at each time step: one circuit in which the parameters branch."""
    steps: list[Gates] = []
    for x in sequence:
        steps.append(lstm_step(params, x, cell, out))
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
    notes="Why its gates are sigmoids: a gate is a share, from 0 (closed) to 1 (open). The gradient"
    " from step to step is multiplied by the forget gate, so an open one carries it unchanged.",
)
def lstm() -> Iterator[Check]:
    """S33."""
    params, sequence, targets = _start()
    zeros = np.zeros(UNITS)

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
    yield from _carried(params, sequence)


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
