"""check_grad: it finds what is wrong, and is silent where nothing is."""

from __future__ import annotations

import numpy as np
import pytest

import chainrule as cr

SPREAD = [-7.24140765, 16.48165071, -1.76979529, 1.69843287, -19.61035895, 9.10838767]


@pytest.mark.parametrize("name", ["cosh", "expm1", "exp", "sinh"])
def test_elements_of_very_different_size_raise_no_alarm(name: str) -> None:
    report = cr.check_grad(cr.registry[name], np.array(SPREAD))
    assert (report.checked, report.kinks) == (len(SPREAD), 0)


@pytest.mark.parametrize("factor", [1.001, -1.0, 0.0])
def test_a_wrong_gradient_is_named_with_both_values(factor: float) -> None:
    gate = cr.custom_gate(local=lambda x, out: factor * cr.cos(x), check=False)(lambda x: cr.sin(x))
    with pytest.raises(
        cr.GradientError, match=r"wrong at argument 0\[1\]: backward gives .*differences"
    ):
        cr.check_grad(gate, np.array([np.pi / 2, 0.1]))


def test_one_wrong_element_among_large_ones_is_found() -> None:
    """The sum of the outputs is 1e9: only element-wise differences can see an error of 1e-3."""
    local = lambda x, out: cr.exp(x) * cr.where(x < 0, 1.001, 1.0)  # noqa: E731
    gate = cr.custom_gate(local=local, check=False)(lambda x: cr.exp(x))
    with pytest.raises(cr.GradientError, match=r"argument 0\[0\]"):
        cr.check_grad(gate, np.array([-1.0, 20.0, 20.5]))


@pytest.mark.parametrize(
    ("function", "point"),
    [
        (cr.relu, 0.0),
        (cr.abs, 0.0),
        (lambda x: cr.maximum(x, 1.0), 1.0),
        (lambda x: cr.clip(x, 0, 1), 1.0),
    ],
)
def test_any_subgradient_passes_at_a_kink(function: object, point: float) -> None:
    cr.check_grad(function, np.array([point]))


def test_a_value_outside_the_subgradients_does_not_pass_at_a_kink() -> None:
    gate = cr.custom_gate(local=lambda x, out: 2.0 + 0 * x, check=False)(lambda x: cr.relu(x))
    with pytest.raises(cr.GradientError):
        cr.check_grad(gate, np.array([0.0]))


def test_a_module_and_nested_arguments_are_checked_by_name() -> None:
    model = cr.nn.Sequential(cr.nn.Linear(3, 2), cr.nn.Tanh(), seed=0)
    before = model.params
    report = cr.check_grad(lambda m, d: cr.sum(m(d["x"][0])), model, {"x": [np.ones((4, 3))]})
    assert report.checked == 3 * 2 + 2 + 12
    assert all(np.array_equal(before[name], value) for name, value in model.params.items())


def test_a_large_array_is_sampled() -> None:
    assert cr.check_grad(lambda x: cr.sum(x * x), np.ones(2000), max_elements=50).checked == 50


def test_a_custom_gate_with_another_value_is_refused() -> None:
    with pytest.raises(cr.GradientError, match="differs from its definition"):
        cr.custom_gate(local=lambda x, out: cr.cos(x), value=lambda x: np.sin(x) + 1)(
            lambda x: cr.sin(x)
        )


def test_a_custom_gate_with_two_inputs_and_a_parameter_works_to_second_order() -> None:
    @cr.custom_gate(
        local=(
            lambda x, y, out, power: power * x ** (power - 1) * y,
            lambda x, y, out, power: x**power,
        ),
        domain=(0.5, 2.0),
    )
    def scaled_power(x: object, y: object, power: float = 3.0) -> object:
        """scaled_power(x, y) = xᵖ·y"""
        return x**power * y

    assert float(cr.grad(scaled_power, argnums=1)(2.0, 5.0, 2.0)) == 4.0
    assert float(cr.grad(cr.grad(scaled_power))(2.0, 5.0)) == 60.0
    opened = cr.open(scaled_power(cr.tensor(2.0), cr.tensor(5.0)))
    assert opened.op.name == "multiply"
    assert float(opened) == 40.0
