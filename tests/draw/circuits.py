"""Circuits that the tests of drawings share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from hypothesis import strategies as st

import chainrule as cr
from chainrule.circuit import Tensor
from chainrule.lectures.circuits import (
    add_mul,
    branch,
    chain2,
    linear,
    partials,
    sigmoid_neuron,
    sin_exp,
    sin_sq,
)
from chainrule.lectures.worked import unit_by_unit


def matrices() -> Tensor:
    """A layer with a squared error: tensors of several shapes."""
    weight = cr.tensor(np.linspace(-1, 1, 12).reshape(3, 4), name="W")
    x = cr.tensor(np.linspace(0, 2, 8).reshape(4, 2), name="X")
    return cr.sum(cr.relu(weight @ x + cr.tensor([1.0, -2.0], name="b")) ** 2)


LECTURES: dict[str, Callable[[], Tensor]] = {
    "S01": lambda: linear().output,
    "S02": lambda: add_mul().output,
    "S03_closed": lambda: sigmoid_neuron().output,
    "S03_opened": lambda: cr.open(sigmoid_neuron().output),
    "S07": lambda: branch().output,
    "S10": lambda: unit_by_unit().error,
    "S22_square": lambda: sin_sq().output,
    "S22_exp": lambda: sin_exp().output,
    "S23": lambda: partials().output,
    "S25": lambda: chain2().output,
    "matrices": matrices,
}


@st.composite
def circuits(draw: st.DrawFn, most: int = 25) -> Tensor:
    """Random circuits of scalars, with fan-out, constants and repeated operands."""
    nodes = [
        cr.tensor(draw(st.floats(-2, 2)), name=f"x{k}") for k in range(draw(st.integers(1, 4)))
    ]
    for _ in range(draw(st.integers(1, most))):
        a, b = (nodes[draw(st.integers(0, len(nodes) - 1))] for _ in "ab")
        kind = draw(st.integers(0, 5))
        made = (
            a + b if kind == 0 else a * b if kind == 1 else cr.tanh(a) if kind == 2
            else a * 0.5 if kind == 3 else cr.maximum(a, b) if kind == 4
            else cr.where(a.value > 0, a, b)
        )  # fmt: skip
        nodes.append(made)
    return nodes[-1]
