"""Why a gradient is zero, missing, small, large or not a number: one test for each cause."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

import chainrule as cr
from chainrule.errors import UnknownNameError

HERE = r"\(.*test_why\.py:\d+\)"


def why(output: cr.Tensor, wrt: object) -> str:
    return str(cr.explain(output, wrt=wrt))


def layer(n: int, m: int, **more: object) -> cr.nn.Linear:
    return cr.nn.Linear(n, m, dtype=np.float64, **more)


def test_a_dead_unit() -> None:
    w = cr.tensor(3.0, name="w")
    assert "relu is off: net1 = -6, not above 0" in why(cr.relu(w * -2.0), w)


def test_a_unit_that_is_dead_on_every_sample() -> None:
    X = np.random.default_rng(0).normal(size=(5, 3))
    model = cr.nn.Sequential(layer(3, 4, bias=[-50.0, 0, 0, 0]), cr.nn.ReLU(), layer(4, 2), seed=0)
    loss = cr.losses.softmax_cross_entropy(model(X), np.array([0, 1, 1, 0, 1]))
    text = why(loss, "W1[0,1]")
    assert "dead unit 0 of net1: off on all 5 samples" in text
    assert "why the gradient of W1 is 0" in text


def test_a_saturated_gate_with_its_value() -> None:
    x = cr.tensor(-800.0, name="x")
    assert "sigmoid is saturated: at x = -800 its slope is rounded to 0" in why(cr.sigmoid(x), x)
    y = cr.tensor(-20.0, name="y")
    text = why(cr.sigmoid(cr.sigmoid(y) * 3), y)
    assert "(sigmoid is saturated at y = -20)" in text


def test_the_decades_of_a_product_of_small_factors_add_up_to_the_whole() -> None:
    h = x = cr.tensor(0.5, name="x")
    for _ in range(4):
        h = cr.sigmoid(0.5 * h + 5)
    text = why(h, x)
    whole = float(re.search(r"it loses ([\d.]+) decades", text)[1])  # type: ignore[index]
    parts = [float(p) for p in re.findall(r"^  ([+-][\d.]+) decades ", text, re.MULTILINE)]
    assert sum(parts) == pytest.approx(-whole, abs=0.06)
    assert whole == pytest.approx(-math.log10(float(h.backward()[x])), abs=0.005)
    kinds = re.search(r"slopes.*: (-[\d.]+) decades; .* the rest: (-[\d.]+) decades", text)
    assert kinds is not None
    assert float(kinds[2]) == pytest.approx(4 * math.log10(0.5), abs=0.006)


def test_a_huge_gradient_names_what_makes_it_large() -> None:
    x = cr.tensor(1e-4, name="x")
    text = why(1 / x, x)
    assert "it gains 8.00 decades" in text


def test_an_integer_input() -> None:
    i, b = cr.tensor(np.array([1, 2]), name="i"), cr.tensor(2.0)
    assert "int64 values are constants; use .astype(float)" in why(cr.sum(i * b), i)


def test_a_constant_input() -> None:
    c, b = cr.tensor(1.0, requires_grad=False, name="c"), cr.tensor(2.0)
    assert "it is a constant (requires_grad=False, or detached)" in why(c * b, c)


def test_a_tensor_that_is_not_in_the_circuit() -> None:
    a, b = cr.tensor(1.0, name="a"), cr.tensor(2.0)
    assert "'a' is not in the circuit of this output" in why(b * 2.0, a)
    assert ".detach()" in why(b * a.detach(), a)


def test_a_blocker_on_every_path_with_its_line() -> None:
    a, b = cr.tensor(1.0, name="a"), cr.tensor(2.0)
    output = cr.stop_gradient(a * 2) + b
    assert re.search(rf"every path to it passes stop_gradient {HERE}, a blocker", why(output, a))


def test_a_router_that_takes_another_input() -> None:
    a, b = cr.tensor(1.0, name="a"), cr.tensor(2.0, name="b")
    assert re.search(rf"maximum routes nothing to a = 1 {HERE}", why(cr.maximum(a, b), a))
    v = cr.tensor([1.0, 3.0], name="v")
    assert "max does not choose element [0]" in why(cr.max(v), "v[0]")


def test_a_product_with_zero() -> None:
    a, b = cr.tensor(0.0, name="a"), cr.tensor(2.0, name="b")
    assert re.search(rf"multiply: the other input a is 0 {HERE}", why(a * b, b))
    W, X = cr.tensor(np.ones((2, 3)), name="W"), np.array([[1.0, 0.0], [2.0, 0.0]])
    assert "matmul: the other factor c1[0,1] is 0" in why(cr.sum(X @ W), "W[1,2]")


def test_contributions_that_cancel() -> None:
    a = cr.tensor(2.0, name="a")
    assert "its contributions are not 0, but they cancel" in why(a * 3 - a * 3, a)


def test_an_underflow() -> None:
    a = cr.tensor(1e-200, name="a")
    b = cr.square(a)
    assert "is below the smallest number" in why(b * 1e-200 * a, b)


def test_the_first_nan_of_the_forward_pass_with_operands_and_line() -> None:
    a, b = cr.tensor(-1.0, name="a"), cr.tensor(1.0, name="b")
    with np.errstate(invalid="ignore"):
        output = cr.log(a) * b
    text = why(output, b)
    assert re.search(rf"makes nan first in log, at n1, from a = -1 {HERE}", text)


def test_the_first_nan_of_an_array_names_the_element() -> None:
    x = cr.tensor([1.0, 0.0, 2.0], name="x")
    with np.errstate(divide="ignore"):
        output = cr.sum(1.0 / x)
    found = rf"makes inf first in divide, at \w+\[1\], from .*x = 0 {HERE}"
    assert re.search(found, why(output, x))


def test_the_first_nan_of_the_backward_pass() -> None:
    a = cr.tensor(0.0, name="a")
    root = cr.sqrt(a * a)
    text = why(root, a)
    found = rf"backward pass makes inf first on ∂output/∂n1 of sqrt, at n1 = 0.*{HERE}"
    assert re.search(found, text)


def test_an_unknown_name_offers_the_nearest() -> None:
    w5 = cr.tensor(1.0, name="w5")
    with pytest.raises(UnknownNameError, match=r"unknown tensor 'w55'; did you mean 'w5'\?"):
        cr.explain(w5 * 2, wrt="w55")


def test_an_ordinary_gradient_gives_no_reason() -> None:
    x = cr.tensor(2.0)
    assert "why" not in why(x * x, x)
