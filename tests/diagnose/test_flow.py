"""The backward flow of a network against backpropagation by hand, in NumPy and float64."""

from __future__ import annotations

import copy
import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import chainrule as cr
from chainrule import nn
from chainrule.circuit import vocabulary as ops
from chainrule.diagnose import flow
from chainrule.diagnose.flow import product, read
from chainrule.nn import losses
from chainrule.nn.initializers import constant

Array = Any
RNG = np.random.default_rng(0)
X = RNG.normal(size=(10, 3))
Y = RNG.normal(size=(10, 2))
EXACT = 1e-12


def linear(inputs: int, units: int, **settings: Any) -> nn.Linear:
    return nn.Linear(inputs, units, dtype=np.float64, **settings)


def sigmoid(z: Array) -> Array:
    return 1 / (1 + np.exp(-z))


# Each transfer function, its derivative and the module, written down here a second time.
TRANSFERS: dict[str, tuple[Any, Any, Any]] = {
    "": (lambda z: z, np.ones_like, None),
    "sigmoid": (sigmoid, lambda z: sigmoid(z) * (1 - sigmoid(z)), nn.Sigmoid),
    "tanh": (np.tanh, lambda z: 1 - np.tanh(z) ** 2, nn.Tanh),
    "relu": (lambda z: z * (z > 0), lambda z: 1.0 * (z > 0), nn.ReLU),
    "leaky_relu": (
        lambda z: np.where(z > 0, z, 0.01 * z),
        lambda z: np.where(z > 0, 1, 0.01),
        nn.LeakyReLU,
    ),
    "softplus": (lambda z: np.log1p(np.exp(z)), sigmoid, nn.Softplus),
    "softsign": (lambda z: z / (1 + abs(z)), lambda z: (1 + abs(z)) ** -2.0, nn.Softsign),
}


def dense(widths: list[int], transfers: list[str], seed: int, scale: float = 1.0) -> Any:
    """Linear layers of these widths, a transfer function behind each but the last."""
    parts: list[Any] = []
    rng = np.random.default_rng(seed)
    for k, (a, b) in enumerate(pairwise(widths)):
        layer = linear(a, b)
        layer.weight.rebind(scale * rng.normal(size=(b, a)) / math.sqrt(a))
        layer.bias.rebind(0.3 * rng.normal(size=b))
        parts.append(layer)
        if k < len(transfers) and transfers[k]:
            parts.append(TRANSFERS[transfers[k]][2]())
    return nn.Sequential(*parts)


def by_hand(
    model: Any, transfers: list[str], x: Array, y: Array
) -> tuple[list[Array], list[Array]]:
    """net and δ = ∂L/∂net of each layer, L the mean over rows of Σ (out − y)²/2."""
    layers = [part for part in model if isinstance(part, nn.Linear)]
    nets, out = [], x
    for layer, name in zip(layers, [*transfers, ""], strict=True):
        nets.append(out @ np.asarray(layer.weight.value).T + np.asarray(layer.bias.value))
        out = TRANSFERS[name][0](nets[-1])
    upstream = (out - y) / len(x)
    deltas: list[Array] = []
    for k in reversed(range(len(layers))):
        deltas.insert(0, upstream * TRANSFERS[[*transfers, ""][k]][1](nets[k]))
        upstream = deltas[0] @ np.asarray(layers[k].weight.value)
    return nets, deltas


def rms(a: Array) -> float:
    return float(np.sqrt(np.mean(np.square(a))))


def assert_multiplies(found: Any) -> None:
    """The factors make δ of the first layer, each once."""
    factors = product(found.flows)
    if len(found.flows) < 2:
        assert factors == ()
        return
    assert factors[0].value == found.flows[-1].delta
    assert math.prod(f.value for f in factors) == pytest.approx(found.flows[0].delta, rel=EXACT)
    lost = [-math.log10(f.value) for f in factors[1:] if 0 < f.value < 1]
    shares = [f.share for f in factors[1:] if 0 < f.value < 1]
    np.testing.assert_allclose(shares, np.array(lost) / sum(lost), rtol=1e-9) if lost else None


# -- δ, nets and gradients -------------------------------------------------------------------------


@given(
    widths=st.lists(st.integers(1, 6), min_size=2, max_size=6),
    names=st.lists(st.sampled_from(list(TRANSFERS)), min_size=4, max_size=4),
    rows=st.integers(1, 40),
    chunk=st.sampled_from([7, 4096]),
    seed=st.integers(0, 10_000),
)
def test_every_delta_is_that_of_backpropagation_by_hand(widths, names, rows, chunk, seed):
    transfers = names[: len(widths) - 2]
    model = dense(widths, transfers, seed)
    rng = np.random.default_rng(seed + 1)
    x, y = rng.normal(size=(rows, widths[0])), rng.normal(size=(rows, widths[-1]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flow, "CHUNK", chunk)
        found = read(model, losses.squared_error, x, y)
    nets, deltas = by_hand(model, transfers, x, y)
    assert [f.units for f in found.flows] == widths[1:]
    assert [f.transfer for f in found.flows] == [*transfers, ""]
    np.testing.assert_allclose([f.delta for f in found.flows], list(map(rms, deltas)), rtol=EXACT)
    np.testing.assert_allclose([x.net_rms for x in found.layers], list(map(rms, nets)), rtol=EXACT)
    inputs = [x, *(TRANSFERS[t][0](z) for t, z in zip(transfers, nets[:-1], strict=True))]
    for layer, delta, below in zip(found.layers, deltas, inputs, strict=True):
        np.testing.assert_allclose(layer.gradient, delta.T @ below, rtol=1e-10, atol=1e-14)
        named = found.gradients[layer.flow.weight.replace("weight", "bias")]
        np.testing.assert_allclose(named, delta.sum(0), rtol=1e-10, atol=1e-14)
    if all(f.delta > 0 for f in found.flows):
        assert_multiplies(found)


def test_more_rows_than_a_chunk_are_all_of_them():
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(2 * flow.CHUNK + 5, 3)), rng.normal(size=(2 * flow.CHUNK + 5, 2))
    y[-3:] += 1e4  # the last, small chunk decides
    model = dense([3, 5, 2], ["tanh"], 0)
    found = read(model, losses.squared_error, x, y)
    nets, deltas = by_hand(model, ["tanh"], x, y)
    np.testing.assert_allclose([f.delta for f in found.flows], list(map(rms, deltas)), rtol=1e-10)
    assert len(found.prediction) == len(x)
    assert sum(found.flows[0].counts) == nets[0].size
    row, unit, net = found.layers[0].worst
    assert abs(net) == pytest.approx(abs(nets[0]).max(), rel=EXACT)
    assert nets[0][row, unit] == pytest.approx(net, rel=EXACT)


class Rowwise(nn.Module):
    """x·W, with the weights stored as (inputs, units), and square."""

    def __init__(self) -> None:
        self.w = nn.Parameter(np.random.default_rng(5).normal(size=(3, 3)))
        self.v = nn.Parameter(np.random.default_rng(6).normal(size=(3, 2)))

    def forward(self, x: Any) -> Any:
        return ops.relu(x @ self.w - 0.4) @ self.v


class Columnwise(nn.Module):
    """W·x, the rows of X as columns."""

    def __init__(self) -> None:
        self.w = nn.Parameter(np.random.default_rng(5).normal(size=(3, 3)).T.copy())
        self.v = nn.Parameter(np.random.default_rng(6).normal(size=(3, 2)).T.copy())

    def forward(self, x: Any) -> Any:
        return ops.transpose(self.v @ ops.relu(self.w @ ops.transpose(x) - 0.4))


def test_a_weight_reads_the_same_whichever_way_it_is_stored_and_multiplied():
    one, other = Rowwise(), Columnwise()
    found, turned = (read(m, losses.squared_error, X, Y) for m in (one, other))
    for a, b in zip(found.layers, turned.layers, strict=True):
        np.testing.assert_array_equal(a.weight, b.weight)
        np.testing.assert_allclose(a.gradient, b.gradient, rtol=1e-10)
        assert (a.flow.units, a.flow.dead, a.worst[:2]) == (b.flow.units, b.flow.dead, b.worst[:2])
        assert a.inputs_rms == pytest.approx(b.inputs_rms, rel=EXACT)
        assert a.flow.delta == pytest.approx(b.flow.delta, rel=EXACT)
    np.testing.assert_array_equal(found.layers[0].dead_rows, turned.layers[0].dead_rows)
    np.testing.assert_array_equal(found.layers[0].weight, one.w.value.T)
    assert [f.units for f in found.flows] == [3, 2]
    assert found.layers[0].inputs_rms == pytest.approx(rms(X), rel=EXACT)


@given(seed=st.integers(0, 1000), rows=st.integers(2, 30))
def test_networks_of_all_kinds_of_parts_have_factors_that_multiply(seed, rows):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(rows, 3)), rng.normal(size=(rows, 2))
    f64 = {"dtype": np.float64}
    normed = nn.Sequential(
        linear(3, 5), nn.BatchNorm1d(5, **f64), nn.Tanh(), linear(5, 4), nn.LayerNorm(4, **f64),
        nn.Sigmoid(), linear(4, 2), seed=seed,
    )  # fmt: skip
    nested = nn.Sequential(
        nn.Sequential(linear(3, 4), nn.ELU()), nn.Dropout(0.5),
        nn.Sequential(nn.Sequential(linear(4, 4), nn.SiLU()), linear(4, 2)), seed=seed,
    )  # fmt: skip
    pieces = nn.Sequential(nn.Maxout(3, 4, **f64), linear(4, 2), seed=seed)
    for model, depth in ((normed, 3), (nested, 3), (pieces, 2)):
        found = read(model, losses.squared_error, x, y)
        assert len(found.flows) == depth
        assert_multiplies(found)
        assert found.flows[-1].delta == pytest.approx(
            rms(cr.grad(lambda out: losses.squared_error(out, y))(model.predict(x))), rel=1e-9
        )


def test_names_of_layers_are_those_of_the_model():
    inner = nn.Sequential(nn.Sequential(linear(4, 4), nn.SiLU()), linear(4, 2))
    found = read(nn.Sequential(linear(3, 4), inner, seed=0), losses.squared_error, X, Y)
    assert [f.layer for f in found.flows] == ["0", "1.0.0", "1.1"]
    assert [f.weight for f in found.flows] == ["0.weight", "1.0.0.weight", "1.1.weight"]


# -- dead and saturated ----------------------------------------------------------------------------


@given(seed=st.integers(0, 10_000), shift=st.floats(-4, 4), chunk=st.sampled_from([3, 4096]))
def test_dead_and_flat_are_what_counting_every_row_gives(seed, shift, chunk):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(17, 3)), rng.normal(size=(17, 2))
    names = ["relu", "tanh", "sigmoid", "softsign"]
    model = dense([3, 6, 5, 4, 4, 2], names, seed, scale=3.0)
    model[0].bias.rebind(np.asarray(model[0].bias.value) - shift)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flow, "CHUNK", chunk)
        found = read(model, losses.squared_error, x, y)
    nets, _ = by_hand(model, names, x, y)
    dead = tuple(u for u in range(6) if all(nets[0][r, u] <= 0 for r in range(17)))
    assert found.flows[0].dead == dead
    np.testing.assert_array_equal(found.layers[0].dead_rows, (nets[0] <= 0).mean(0))
    assert math.isnan(found.flows[0].saturated)
    for k, most in ((1, 1.0), (2, 0.25), (3, 1.0)):
        slopes = TRANSFERS[names[k]][1](nets[k])
        flat = sum(s <= 0.04 * most for s in slopes.reshape(-1)) / slopes.size
        assert found.flows[k].saturated == pytest.approx(flat, abs=EXACT)
        assert found.flows[k].dead == ()
    same = [(row >= 0).all() or (row <= 0).all() for row in x]
    assert found.flows[0].one_sign == np.mean(same)


def test_a_unit_that_one_row_of_the_last_chunk_wakes_is_not_dead(monkeypatch):
    monkeypatch.setattr(flow, "CHUNK", 4)
    model = nn.Sequential(linear(1, 2), nn.ReLU(), linear(2, 1), seed=0)
    model[0].weight.rebind([[1.0], [1.0]])
    model[0].bias.rebind([-5.0, -50.0])
    x = np.zeros((9, 1))
    assert read(model, losses.squared_error, x, x).flows[0].dead == (0, 1)
    x[8] = 6.0
    found = read(model, losses.squared_error, x, x)
    assert found.flows[0].dead == (1,)
    np.testing.assert_allclose(found.layers[0].dead_rows, [8 / 9, 1])


def test_a_dead_layer_in_the_middle_ends_the_product_with_its_zero():
    layers = [linear(3, 4), nn.ReLU(), linear(4, 4, bias_init=constant(-99.0)), nn.ReLU()]
    found = read(nn.Sequential(*layers, linear(4, 2), seed=0), losses.squared_error, X, Y)
    factors = product(found.flows)
    assert [f.name for f in factors] == ["δ3", "W3ᵀ", "relu′2"]
    assert [f.guilty for f in factors] == [False, False, True]
    assert math.prod(f.value for f in factors) == found.flows[0].delta == 0


# -- what is not finite ----------------------------------------------------------------------------


def network() -> Any:
    return nn.Sequential(linear(3, 5), nn.Tanh(), linear(5, 2), seed=0)


def planted(array: Array, place: tuple[int, ...], value: float) -> Array:
    array = np.array(array, np.float64)
    array[place] = value
    return array


@pytest.mark.parametrize(("place", "value"), [((7, 1), np.nan), ((0, 2), -np.inf)])
def test_a_cell_that_is_no_number_is_found_where_it_is(place, value):
    broken = read(network(), losses.squared_error, planted(X, place, value), Y).broken
    assert (broken.op, broken.row, broken.unit) == ("input", *place)
    np.testing.assert_equal(broken.value, value)


def test_rows_are_counted_over_the_chunks(monkeypatch):
    monkeypatch.setattr(flow, "CHUNK", 4)
    broken = read(network(), losses.squared_error, planted(X, (9, 0), np.inf), Y).broken
    assert (broken.op, broken.row, broken.unit) == ("input", 9, 0)


def test_a_target_that_is_no_number_is_found_though_the_network_is_sound():
    broken = read(network(), losses.squared_error, X, planted(Y, (3, 1), np.nan)).broken
    assert (broken.op, broken.row, broken.unit) == ("input", 3, 1)


@pytest.mark.parametrize(("layer", "place"), [(0, (4, 1)), (2, (1, 3))])
def test_a_weight_that_is_no_number_is_named_by_its_layer_and_unit(layer, place):
    model = network()
    model[layer].weight.rebind(planted(model[layer].weight.value, place, np.nan))
    broken = read(model, losses.squared_error, X, Y).broken
    assert (broken.op, broken.layer, broken.unit) == ("parameter", str(layer), place[0])


def test_a_product_that_overflows_is_found_at_its_row_and_unit():
    model = network()
    model[0].weight.rebind(np.zeros((5, 3)))
    model[0].weight.rebind(planted(model[0].weight.value, (0, 0), 1.0))
    x = np.zeros((10, 3))
    x[6, 0] = 9.0  # tanh is 1 to rounding there and 0 elsewhere
    model[2].weight.rebind(planted(np.zeros((2, 5)), (1, 0), 1.7e308))
    model[2].bias.rebind([0.0, 1.7e308])
    broken = read(model, losses.squared_error, x, Y).broken
    assert (broken.op, broken.layer, broken.row, broken.unit) == ("add", "2", 6, 1)
    assert broken.value == math.inf
    model[0].bias.rebind(np.full(5, 9.0))
    model[2].weight.rebind(np.full((2, 5), 1.7e308))
    broken = read(model, losses.squared_error, x, Y).broken
    assert (broken.op, broken.layer, broken.operands) == ("matmul", "2", ())


class Rectified(nn.Module):
    def __init__(self) -> None:
        self.hidden = linear(3, 2, seed=1)

    def forward(self, x: Any) -> Any:
        return ops.relu(self.hidden(x))


def test_the_logarithm_of_zero_is_found_at_its_sample_and_unit_with_its_operand():
    model = Rectified()
    out = np.maximum(X @ np.asarray(model.hidden.weight.value).T, 0)
    model.hidden.bias.rebind(np.zeros(2))
    broken = read(model, lambda p, t: -cr.mean(t * ops.log(p)), X, np.abs(Y)).broken
    assert (broken.op, broken.row, broken.unit) == ("log", *np.argwhere(out == 0)[0])
    assert (broken.value, broken.operands) == (-math.inf, (0.0,))


def test_a_division_by_zero_has_both_of_its_operands():
    y = np.zeros_like(Y)
    y[4, 1] = 3.0
    broken = read(network(), lambda p, t: cr.mean((0 * p + 1) / (0 * p + (t - 3))), X, y).broken
    assert (broken.op, broken.row, broken.unit, broken.operands) == ("divide", 4, 1, (1.0, 0.0))


def test_a_product_of_square_matrices_is_said_to_have_no_operands():
    model = nn.Sequential(linear(3, 3), seed=0)
    model[0].weight.rebind(np.full((3, 3), 1e308))
    broken = read(model, losses.squared_error, np.full((3, 3), 9.0), np.ones((3, 3))).broken
    assert (broken.op, broken.operands) == ("matmul", ())


def test_a_loss_that_refuses_its_targets_leaves_a_reading_without_gradients():
    found = read(network(), losses.softmax_cross_entropy, X, np.full(10, 7))
    assert math.isnan(found.loss)
    assert found.gradient_norm == 0
    assert [f.units for f in found.flows] == [5, 2]
    assert found.broken is None


# -- it only looks ---------------------------------------------------------------------------------


def test_reading_leaves_gradients_parameters_buffers_modes_and_dropout_as_they_are():
    f64 = {"dtype": np.float64}
    parts = linear(3, 5), nn.BatchNorm1d(5, **f64), nn.ReLU(), nn.Dropout(0.5), linear(5, 2)
    model = nn.Sequential(*parts, seed=0)
    cr.fit(model, X, Y, loss="squared_error", epochs=2, progress=False)
    losses.squared_error(model(X), Y).backward()
    twin = copy.deepcopy(model)
    grads = {n: np.array(p.grad) for n, p in model.named_parameters()}
    read(model, losses.squared_error, X, Y)
    state, before = dict(model.state_dict()), dict(twin.state_dict())
    assert all(np.asarray(state[k]).tobytes() == np.asarray(before[k]).tobytes() for k in before)
    assert all(np.array_equal(grads[n], p.grad) for n, p in model.named_parameters())
    assert all(part.training for part in model)
    np.testing.assert_array_equal(model(X).numpy(), twin(X).numpy())  # the same units drop out


def test_a_model_whose_parameters_have_no_gradient_keeps_none():
    model = network()
    read(model, losses.squared_error, X, Y)
    assert [p.grad for p in model.parameters()] == [None] * 4
