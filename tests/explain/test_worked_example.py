"""The slides' 2-2-2 example: every printed figure, to nine digits, stands in the explanation."""

from __future__ import annotations

import numpy as np
import pytest

import chainrule as cr
from chainrule.explain.numbers import decimal
from chainrule.lectures import circuits, figures, worked

GIVEN = figures()["worked_2_2_2"]


@pytest.fixture(scope="module")
def text() -> str:
    net = worked.unit_by_unit()
    E = net.error
    return str(cr.explain(E, optimizer=cr.optim.SGD(lr=GIVEN["eta"])))


@pytest.mark.parametrize(
    "key",
    ["out_h", "dE_dout_o", "dout_dnet_o", "delta_o", "dE_dout_h", "dE_o_dout_h1", "delta_h",
     "grad_w", "new_weights_biases_fixed"],
)  # fmt: skip
def test_every_figure_of_the_slides_is_printed(text: str, key: str) -> None:
    missing = [x for x in GIVEN[key] if f"{decimal(x)}" not in text]
    assert missing == []


@pytest.mark.parametrize("key", ["grad_b1", "grad_b2"])
def test_the_biases_that_the_slides_leave_out_are_there(text: str, key: str) -> None:
    assert decimal(GIVEN[key]) in text


def test_the_chain_of_w5_is_the_slides_own_line() -> None:
    E = worked.unit_by_unit().error
    text = str(cr.explain(E, wrt="w5", optimizer=cr.optim.SGD(lr=0.5)))
    assert "∂E/∂w5 = ∂E/∂out_o1 · ∂out_o1/∂net_o1 · ∂net_o1/∂w5" in text
    assert "= 0.74136507 × 0.186815602 × 0.593269992" in text
    assert "∂E/∂w5 = δ_o1 · out_h1 = 0.138498562 × 0.593269992 = 0.082167041" in text
    assert "w5⁺ = w5 − η · g = 0.4 − 0.5 · 0.082167041 = 0.35891648" in text


def test_the_hidden_delta_is_shown_with_its_sum() -> None:
    E = worked.unit_by_unit().error
    text = str(cr.explain(E, wrt="w1"))
    assert "out_h1 · (1 − out_h1)" in text
    assert "((-0.038098237) × 0.5 + 0.138498562 × 0.4) × 0.241300709" in text
    assert "= 0.008771355" in text


def test_each_factor_says_where_it_comes_from() -> None:
    """S25: label and output; forward pass; next layer's weight; forward pass; layer input."""
    circuit = circuits.chain2()
    E, y, z = circuit.output, circuit.named["y"], circuit.named["z"]
    assert (y.name, z.name) == (None, None)  # named by the variables of this very frame
    text = str(cr.explain(E, wrt="w1"))
    assert "∂E/∂z = 0.5 · 2 · (d − z) · (−1) = 0.036367848   (from the label and" in text
    assert "∂z/∂net2 = z · (1 − z) = 0.223224519   (the slope of σ, from the forward pass)" in text
    assert "∂net2/∂y = w2 = -1.1   (the next layer's weight)" in text
    assert "∂net1/∂w1 = x = 0.8   (the layer's input)" in text


@pytest.mark.parametrize(
    "optimizer",
    [cr.optim.SGD(lr=0.5), cr.optim.SGD(lr=0.5, momentum=0.9, nesterov=True),
     cr.optim.Adam(lr=0.1), cr.optim.AdamW(lr=0.1), cr.optim.RMSprop(lr=0.1, momentum=0.5),
     cr.optim.RMSprop(centered=True), cr.optim.Adagrad(lr=0.1, lr_decay=0.1),
     cr.optim.Adam(lr=lambda step: 0.1 / (step + 1)), cr.optim.SGD(lr=0.5, clip_norm=0.01)],
    ids=repr,
)  # fmt: skip
def test_the_update_shown_is_the_optimisers_own(optimizer: object) -> None:
    net = worked.unit_by_unit()
    params = {w.name: w.value for w in [*net.weights, *net.biases]}
    gradients = net.error.backward()
    grads = {w.name: gradients[w] for w in [*net.weights, *net.biases]}
    state = optimizer.init(params)
    for _ in range(2):
        new, after = optimizer.update(params, grads, state)
        text = str(cr.explain(net.error, wrt="w5", optimizer=optimizer, state=state, decimals=12))
        assert "update by" in text
        assert any(decimal(new["w5"], d) in text for d in range(12, 21))
        state = after


def test_the_state_shows_m_v_and_the_bias_corrections() -> None:
    E = worked.unit_by_unit().error
    text = str(cr.explain(E, wrt="w5", optimizer=cr.optim.Adam(lr=0.5)))
    assert "m⁺ = β1 · m + (1 − β1) · g = 0.9 · 0 + (1 − 0.9) · 0.082167041 = 0.008216704" in text
    assert "v⁺ = β2 · v + (1 − β2) · g · g" in text
    assert "w5⁺ = w5 − η / (1 − β1^t) · m⁺ / (√(v⁺) / (1 − β2^t)^0.5 + ε)" in text


def test_explain_writes_no_gradient() -> None:
    net = worked.unit_by_unit()
    str(cr.explain(net.error, optimizer=cr.optim.SGD()))
    assert all(w.grad is None for w in net.weights)
    assert all(w.name == f"w{k}" for k, w in enumerate(net.weights, start=1))


def test_numbers_are_those_of_backward() -> None:
    net = worked.unit_by_unit()
    explanation = cr.explain(net.error)
    gradients = net.error.backward()
    for tensor in net.weights + net.biases:
        np.testing.assert_array_equal(explanation.gradient(tensor), gradients[tensor])
