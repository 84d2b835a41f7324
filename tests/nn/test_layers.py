"""Modules and layers: closed forms, gradients by central difference, and every promise of apply."""

from __future__ import annotations

import copy
import doctest
import importlib
import math
import pickle
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import chainrule as cr
from chainrule import nn
from chainrule.errors import ShapeError, TraceError, UnknownNameError
from chainrule.ops.neural import mix

F64 = np.float64
FILES = [
    "activations", "base", "initializers", "layers", "module",
    "normalise", "sequential", "storage", "summary", "tensorfile",
]  # fmt: skip
LAYERS = {
    "linear": lambda: nn.Linear(3, 2, seed=1, dtype=F64, bias_init=nn.initializers.normal(1.0)),
    "linear without bias": lambda: nn.Linear(3, 2, False, seed=1, dtype=F64),
    "maxout": lambda: nn.Maxout(3, 2, 3, seed=1, dtype=F64),
    "multiclass": lambda: nn.MulticlassSigmoid(3, 3, seed=1, dtype=F64),
    "multiclass reference": lambda: nn.MulticlassSigmoid(3, 3, True, seed=1, dtype=F64),
    "batch norm": lambda: nn.BatchNorm1d(3, dtype=F64),
    "batch norm eval": lambda: nn.BatchNorm1d(3, dtype=F64).eval(),
    "layer norm": lambda: nn.LayerNorm(3, dtype=F64),
    "layer norm of two axes": lambda: nn.LayerNorm((5, 3), dtype=F64),
    "prelu": lambda: nn.PReLU(dtype=F64),
    "prelu a feature": lambda: nn.PReLU(3, dtype=F64),
    "dropout": lambda: nn.Dropout(0.4).reseed(3),
    "flatten": nn.Flatten,
    "softmax": nn.Softmax,
    "softmax down": lambda: nn.Softmax(axis=0),
    "log softmax": nn.LogSoftmax,
    "leaky": lambda: nn.LeakyReLU(0.2),
    "elu": lambda: nn.ELU(0.7),
    **{
        kind.__name__: kind
        for kind in (nn.Sigmoid, nn.Tanh, nn.ReLU, nn.SELU, nn.GELU, nn.SiLU, nn.Softplus,
                     nn.Softsign, nn.HardTanh)
    },
    "net": lambda: nn.Sequential(
        nn.Linear(3, 4, dtype=F64), nn.Sequential(nn.Tanh(), nn.LayerNorm(4, dtype=F64)),
        nn.Maxout(4, 2, dtype=F64), seed=2,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_of_layers_equal_central_differences(name: str) -> None:
    layer, rng = LAYERS[name](), np.random.default_rng(5)
    point = {**layer.params, "x": rng.normal(size=(5, 3))}
    out = layer.apply({k: v for k, v in point.items() if k != "x"}, point["x"])
    mix_of_outputs = rng.normal(size=out.shape)

    def loss(p: dict[str, Any]) -> Any:
        given = {k: v for k, v in p.items() if k != "x"}
        return (layer.apply(given, p["x"]) * mix_of_outputs).sum()

    gradient = cr.grad(loss)(point)
    assert set(gradient) == set(point)
    for key in point:
        direction, h = rng.normal(size=point[key].shape), 1e-6
        ends = [float(loss({**point, key: point[key] + s * h * direction})) for s in (1, -1)]
        numeric, exact = (ends[0] - ends[1]) / (2 * h), float((gradient[key] * direction).sum())
        assert exact == pytest.approx(numeric, rel=1e-6, abs=1e-8), key
        assert np.abs(gradient[key]).max() > 1e-6, f"{key} has no gradient to compare"


@pytest.mark.parametrize("name", LAYERS)
def test_float32_layers_stay_float32(name: str) -> None:
    layer = LAYERS[name]()
    x = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    params = {k: v.astype(np.float32) for k, v in layer.params.items()}
    params.update({k: v.astype(np.float32) for k, v in layer.named_buffers()})
    assert layer.apply(params, x).dtype == np.float32


@pytest.mark.parametrize("file", FILES)
def test_examples_of_nn_run_as_printed(file: str) -> None:
    assert doctest.testmod(importlib.import_module(f"chainrule.nn.{file}")).failed == 0


# -- closed forms -----------------------------------------------------------------------------


@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 4), st.integers(0, 2**31))
def test_linear_is_x_times_weight_transposed_plus_bias(i: int, o: int, n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    W, b, X = rng.normal(size=(o, i)), rng.normal(size=o), rng.normal(size=(n, i))
    layer = nn.Linear(i, o, bias=b, weight=W, dtype=F64)
    np.testing.assert_allclose(layer(X).numpy(), X @ W.T + b, rtol=1e-13, atol=1e-13)
    assert layer.weight.shape == (o, i)
    assert layer(np.zeros((2, n, i))).shape == (2, n, o)


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4), st.integers(0, 2**31))
def test_maxout_is_the_largest_of_its_pieces(i: int, o: int, pieces: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    W, b = rng.normal(size=(o, pieces, i)), rng.normal(size=(o, pieces))
    layer = nn.Maxout(i, o, pieces, b.ravel(), weight=W.reshape(-1, i), dtype=F64)
    x = rng.normal(size=i)
    expected = [max(W[j, k] @ x + b[j, k] for k in range(pieces)) for j in range(o)]
    np.testing.assert_allclose(layer(x).numpy(), expected, rtol=1e-12, atol=1e-12)


@given(st.integers(2, 6), st.booleans(), st.integers(0, 2**31))
def test_reference_class_gives_the_same_probabilities(k: int, bias: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    b = rng.normal(size=k) if bias else False
    full = nn.MulticlassSigmoid(4, k, bias=b, weight=rng.normal(size=(k, 4)), dtype=F64)
    short = full.reference_form()
    assert short.weight.shape == (k - 1, 4)
    W = full.params["weight"]
    np.testing.assert_array_equal(short.params["weight"], W[1:] - W[0])
    X = rng.normal(size=(7, 4))
    np.testing.assert_array_equal(short(X).numpy()[:, 0], 0)
    expected = full.probabilities(X).numpy()
    np.testing.assert_allclose(short.probabilities(X).numpy(), expected, rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(expected.sum(axis=1), 1)
    again = short.reference_form()
    np.testing.assert_array_equal(again(X).numpy(), short(X).numpy())


def test_two_classes_with_a_reference_are_the_logistic_sigmoid() -> None:
    layer = nn.MulticlassSigmoid(2, 2, True, weight=[[0.3, -2.0]], bias=[0.1], dtype=F64)
    x = np.array([1.5, 0.25])
    sigmoid = 1 / (1 + math.exp(-(0.3 * 1.5 - 2.0 * 0.25 + 0.1)))
    assert float(layer.probabilities(x)[1]) == pytest.approx(sigmoid, rel=1e-14)


def test_batch_norm_follows_the_batch_and_remembers() -> None:
    rng, layer = np.random.default_rng(0), nn.BatchNorm1d(3, momentum=0.3, dtype=F64)
    mean, var = np.zeros(3), np.ones(3)
    for _ in range(4):
        X = rng.normal(size=(6, 3)) * 5 + 2
        out = layer(X).numpy()
        np.testing.assert_allclose(out, (X - X.mean(0)) / np.sqrt(X.var(0) + 1e-5), rtol=1e-12)
        mean, var = 0.7 * mean + 0.3 * X.mean(0), 0.7 * var + 0.3 * X.var(0, ddof=1)
    np.testing.assert_allclose(layer.running_mean, mean, rtol=1e-12)
    np.testing.assert_allclose(layer.running_var, var, rtol=1e-12)
    out = layer.eval()(X[:1]).numpy()
    np.testing.assert_allclose(out, (X[:1] - mean) / np.sqrt(var + 1e-5), rtol=1e-12)
    with pytest.raises(ShapeError, match="1 row has no variance"):
        layer.train()(X[:1])
    with pytest.raises(ShapeError, match="rows, features"):
        layer(X[None])


def test_layer_norm_makes_each_sample_standard() -> None:
    X = np.random.default_rng(0).normal(size=(4, 2, 3)) * 7 + 1
    out = nn.LayerNorm((2, 3), eps=0.0, dtype=F64)(X).numpy().reshape(4, 6)
    np.testing.assert_allclose(out.mean(1), 0, atol=1e-12)
    np.testing.assert_allclose(out.var(1), 1, rtol=1e-12)
    with pytest.raises(ShapeError, match=r"expected last axes \(2, 3\)"):
        nn.LayerNorm((2, 3))(X[:, :1])


# -- randomness -------------------------------------------------------------------------------


@given(st.integers(0, 2**40))
def test_layer_i_with_parameters_draws_from_seed_and_i(seed: int) -> None:
    inner = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 3))
    model = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), inner, nn.Maxout(3, 2), seed=seed)
    for number, name, shape in ((0, "0", (2, 4)), (2, "2.1", (4, 3)), (3, "3", (3, 4))):
        limit = math.sqrt(6 / sum(shape))
        W = np.random.default_rng([seed, number]).uniform(-limit, limit, shape)
        np.testing.assert_array_equal(model.params[f"{name}.weight"], W.T.astype(np.float32))
        assert not model.params[f"{name}.bias"].any()


def test_single_and_double_networks_start_alike() -> None:
    single, double = (
        nn.Sequential(nn.Linear(3, 5, dtype=t), nn.Linear(5, 2, dtype=t), seed=7).params
        for t in (np.float32, F64)
    )
    for name in single:
        np.testing.assert_array_equal(single[name], double[name].astype(np.float32))


def test_a_seed_draws_only_what_was_not_given_seeded_or_changed() -> None:
    given_, seeded, moved = (
        nn.Linear(2, 2, weight=np.eye(2)),
        nn.Linear(2, 2, seed=9),
        nn.Linear(2, 2),
    )
    moved.weight.rebind(np.ones((2, 2)))
    fresh = nn.Linear(2, 2)
    kept = [layer.params["weight"] for layer in (given_, seeded, moved)]
    model = nn.Sequential(given_, seeded, moved, fresh, copy.deepcopy(nn.Linear(2, 2)), seed=0)
    for layer, weight in zip(model, kept, strict=False):
        np.testing.assert_array_equal(layer.params["weight"], weight)
    for number in (3, 4):
        rng, limit = np.random.default_rng([0, number]), math.sqrt(6 / 4)
        W = rng.uniform(-limit, limit, (2, 2)).T.astype(np.float32)
        np.testing.assert_array_equal(model[number].params["weight"], W)
    again = nn.Sequential(*model, seed=1)  # drawn for good by the first seed
    np.testing.assert_array_equal(again.params["3.weight"], model.params["3.weight"])


def test_without_a_seed_two_layers_differ() -> None:
    assert not np.array_equal(nn.Linear(3, 3).params["weight"], nn.Linear(3, 3).params["weight"])


VARIANCES = {
    "glorot_uniform": 2 / 500, "glorot_normal": 2 / 500, "he_uniform": 2 / 200,
    "he_normal": 2 / 200, "lecun_uniform": 1 / 200, "lecun_normal": 1 / 200,
}  # fmt: skip


@pytest.mark.parametrize("name", VARIANCES)
def test_initializers_have_their_variance(name: str) -> None:
    drawn = nn.Linear(200, 300, init=name, seed=0, dtype=F64).params["weight"]
    assert drawn.var() == pytest.approx(VARIANCES[name], rel=0.02)  # 60,000 draws: σ ≤ 0.6 %
    assert abs(drawn.mean()) < 4 * math.sqrt(VARIANCES[name] / drawn.size)
    bound = math.sqrt(3 * VARIANCES[name])
    assert (np.abs(drawn).max() <= bound) == name.endswith("uniform")


def test_initializers_by_maker_and_their_errors() -> None:
    layer = nn.Linear(2, 3, init=nn.initializers.constant(0.5), bias_init=lambda rng, s: np.ones(s))
    assert (layer.params["weight"] == 0.5).all()
    assert (layer.params["bias"] == 1).all()
    limited = nn.Linear(9, 9, init=nn.initializers.uniform(0.1)).params["weight"]
    assert 0.05 < np.abs(limited).max() <= 0.1
    with pytest.raises(UnknownNameError, match="did you mean 'he_normal'"):
        nn.Linear(2, 3, init="he_norml")
    with pytest.raises(UnknownNameError, match=r"nn.initializers.normal\(0.01\)"):
        nn.Linear(2, 3, init="normal")
    with pytest.raises(ShapeError, match=r"\(in, out\) = \(2, 3\)"):
        nn.Linear(2, 3, init=lambda rng, shape: np.ones((3, 2)))


def test_dropout_mask_follows_seed_layer_and_step() -> None:
    model, x = nn.Sequential(nn.Dropout(0.3), nn.Dropout(0.3), seed=5), np.ones(200)
    second, first = model[1], cr.tensor(x)
    for step in range(3):
        mask = cr.dropout(first, 0.3, key=mix(5, 1, step)).numpy()
        np.testing.assert_array_equal(second(x).numpy(), mask)
        assert set(mask) == {0.0, 1 / 0.7}
    model.reseed(5, step=1)
    np.testing.assert_array_equal(second(x).numpy(), cr.dropout(first, 0.3, key=mix(5, 1, 1)))
    assert not np.array_equal(model[0](x).numpy(), second(x).numpy())
    np.testing.assert_array_equal(model.eval()(x).numpy(), x)
    with pytest.raises(ValueError, match="below 1"):
        nn.Dropout(1.0)


# -- modules ----------------------------------------------------------------------------------


class Tied(nn.Module):
    """A module of the user's own: parameters and modules interleaved, and one shared."""

    def __init__(self) -> None:
        self.first = nn.Linear(2, 2, seed=0)
        self.scale = nn.Parameter(np.float32(2.0))
        self.second = nn.Linear(2, 2, seed=1)
        self.second.weight = self.first.weight
        self.register_buffer("count", np.zeros(1))

    def forward(self, x: Any) -> Any:
        return self.second(self.first(x)) * self.scale


def test_members_are_registered_in_order_and_shared_ones_once() -> None:
    model = Tied()
    names = [name for name, _ in model.named_parameters()]
    assert names == ["first.weight", "first.bias", "scale", "second.bias"]
    assert [name for name, _ in model.named_modules()] == ["", "first", "second"]
    assert list(model.state_dict()) == [*names, "count"]
    twin = copy.deepcopy(model)
    assert twin.second.weight is twin.first.weight is not model.first.weight


def test_attributes_that_would_be_lost_are_refused() -> None:
    model = Tied()
    with pytest.raises(TypeError, match=r"\.scale\.rebind"):
        model.scale = np.ones(())
    with pytest.raises(TypeError, match=r"nn\.Sequential"):
        model.parts = [nn.ReLU()]
    with pytest.raises(AttributeError, match="'Tied' object has no attribute 'third'"):
        _ = model.third
    model.scale = None
    del model.second
    assert [name for name, _ in model.named_parameters()] == ["first.weight", "first.bias"]
    assert model.scale is None
    with pytest.raises(NotImplementedError, match="Module has no forward"):
        nn.Module()(1.0)


def test_load_state_dict_names_every_fault_and_changes_nothing() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), seed=0)
    before = model.state_dict()
    state = {**before, "0.weight": np.ones((3, 2)), "0.bias": np.ones(4), "typo": np.ones(1)}
    del state["1.running_var"]
    with pytest.raises(UnknownNameError) as caught:
        model.load_state_dict(state)
    for part in ("missing '1.running_var'", "unexpected 'typo'", "'0.bias' has shape (4,)"):
        assert part in str(caught.value)
    with pytest.raises(ShapeError, match=r"'0.bias' has shape \(4,\), expected \(3,\)"):
        model.load_state_dict({**before, "0.weight": before["0.weight"] + 1, "0.bias": np.ones(4)})
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
    new = {name: np.float64(7) + value for name, value in before.items()}
    model.load_state_dict(new)
    new["0.weight"][:] = 0  # a copy was taken
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, (before[name] + np.float32(7)).astype(np.float32))


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_are_equal_and_independent(clone: Any) -> None:
    layers = [make() for make in LAYERS.values() if make is not nn.Flatten]
    for layer in [*layers, nn.Linear(3, 2, init=nn.initializers.normal(0.1))]:
        twin, X = clone(layer), np.random.default_rng(0).normal(size=(5, 3))
        np.testing.assert_array_equal(twin.predict(X), layer.predict(X))
        for parameter in twin.parameters():
            parameter.rebind(parameter.numpy() + 1)
        for name, value in layer.params.items():
            np.testing.assert_array_equal(twin.params[name], value + 1)


def test_training_flag_is_recursive_and_predict_keeps_it() -> None:
    model = nn.Sequential(nn.Sequential(nn.Dropout(0.5)), nn.Linear(2, 1), seed=0)
    assert model.eval() is model
    assert not any(m.training for m in model.modules())
    assert model.train() is model
    model[1].eval()
    X = np.random.default_rng(0).normal(size=(7, 2))
    for size in (None, 1, 3, 7, 100):
        out = model.predict(X, batch_size=size)
        assert type(out) is np.ndarray
        np.testing.assert_allclose(out, model[1](X).numpy(), rtol=1e-6)
    assert [m.training for m in model.modules()] == [True, True, True, False]
    assert model[0][0].step == 0
    assert model.predict(X[:0], batch_size=2).shape == (0, 1)
    with pytest.raises(ValueError, match="at least 1"):
        model.predict(X, batch_size=0)
    assert model.predict(cr.tensor(X)).shape == (7, 1)


def test_plain_inputs_are_cast_and_tensors_left() -> None:
    layer = nn.Linear(2, 1, seed=0)
    for plain in ([[1, 2]], np.array([[True, False]]), np.float64([[1, 2]]), [[1.0, 2.0]]):
        assert layer(plain).dtype == np.float32
    assert layer(cr.tensor([[1.0, 2.0]])).dtype == np.float64
    assert nn.Sequential(nn.ReLU(), layer)([[1, 2]]).dtype == np.float32
    assert nn.Linear(2, 1, dtype=F64)(np.float32([[1, 2]])).dtype == np.float64
    with pytest.raises(TraceError, match="the input"):
        layer([["a", "b"]])

    class Pick(nn.Module):
        takes_integers = True

        def __init__(self) -> None:
            self.rows = nn.Parameter(np.eye(3))

        def forward(self, x: Any) -> Any:
            return self.rows[x.numpy()]

    assert nn.Sequential(Pick())([2, 0]).numpy().tolist() == [[0, 0, 1], [1, 0, 0]]


def test_a_wrong_last_dimension_names_layer_expected_and_got() -> None:
    model = nn.Sequential(nn.Sequential(nn.Linear(2, 3)), nn.PReLU(4))
    with pytest.raises(ShapeError) as caught:
        model(np.ones((5, 4)))
    text = (
        "layer 0.0, Linear(2, 3): expected 2 features in the last axis, got 4 (input shape (5, 4))"
    )
    assert str(caught.value) == text
    with pytest.raises(ShapeError, match=r"layer 1, PReLU\(num_parameters=4\): expected 4"):
        model(np.ones((5, 2)))
    with pytest.raises(ShapeError, match="got a scalar"):
        nn.Linear(1, 1)(1.0)
    with pytest.raises(ShapeError, match=r"shape \(3, 2\), got \(2, 3\)"):
        nn.Linear(2, 3, weight=np.ones((2, 3)))
    for wrong in (0, -1, 2.0, True):
        with pytest.raises(ValueError, match="in_features must be a whole number"):
            nn.Linear(wrong, 1)


# -- apply ------------------------------------------------------------------------------------


def net(seed: int = 0) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(2, 3, dtype=F64), nn.Tanh(), nn.Linear(3, 1, dtype=F64), seed=seed
    )


def test_apply_computes_with_the_given_values_and_changes_nothing() -> None:
    model, other, X = net(0), net(1), np.random.default_rng(0).normal(size=(4, 2))
    before = {name: (p, p.value) for name, p in model.named_parameters()}
    np.testing.assert_array_equal(model.apply(other.params, X).numpy(), other(X).numpy())
    tensors = {name: cr.tensor(value) for name, value in other.params.items()}
    gradients = model.apply(tensors, X).sum().backward()
    own = other(X).sum().backward()
    for name, parameter in other.named_parameters():
        np.testing.assert_array_equal(gradients[tensors[name]], own[parameter])
    for name, parameter in model.named_parameters():
        assert before[name][0] is parameter
        assert before[name][1] is parameter.value
        assert parameter.grad is None
    with pytest.raises(UnknownNameError, match=r"missing '0.bias', '2.weight'.*unexpected 'x'"):
        model.apply({"0.weight": np.ones((3, 2)), "x": 1.0, "2.bias": np.ones(1)}, X)
    with pytest.raises(ShapeError, match=r"expected \(3, 2\)"):
        model.apply({**model.params, "0.weight": np.ones((2, 3))}, X)


def test_apply_nests_under_grad_and_inside_itself() -> None:
    model, X = nn.Linear(1, 1, dtype=F64, weight=[[0.5]]), [[2.0]]

    def cubed(w: Any) -> Any:
        return model.apply({"weight": w, "bias": np.zeros(1)}, X).sum() ** 3

    hessian = cr.hessian(cubed)(np.array([[0.5]]))
    assert hessian.item() == pytest.approx(6 * 0.5 * 2.0**3)

    class Twice(nn.Module):
        def __init__(self) -> None:
            self.inner = nn.Linear(1, 1, dtype=F64, weight=[[3.0]])

        def forward(self, x: Any) -> Any:
            other = self.inner.apply({"weight": 10 * self.inner.weight, "bias": np.ones(1)}, x)
            return self.inner(x) + other

    twice = Twice()
    given_ = {"inner.weight": np.array([[2.0]]), "inner.bias": np.zeros(1)}
    assert twice.apply(given_, [1.0]).item() == 2 + 20 + 1
    assert twice([1.0]).item() == 3 + 30 + 1


def test_apply_restores_after_an_error_and_keeps_threads_apart() -> None:
    model, X = net(), np.ones((1, 2))
    expected = model(X).item()
    with pytest.raises(ShapeError):
        model.apply({k: v + 1 for k, v in model.params.items()}, np.ones((1, 3)))
    assert model(X).item() == expected
    wrong: list[float] = []

    def work(shift: float) -> None:
        params = {k: v + shift for k, v in model.params.items()}
        right = model.apply(params, X).item()
        wrong.extend(shift for _ in range(100) if model.apply(params, X).item() != right)
        wrong.extend(shift for _ in range(20) if model(X).item() != expected)

    threads = [threading.Thread(target=work, args=(shift,)) for shift in (0.0, 0.5, -1.0, 2.0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_apply_is_pure_in_training_mode_and_using_is_a_step() -> None:
    model = nn.Sequential(nn.BatchNorm1d(4), nn.Dropout(0.5), seed=0)
    X, before = np.random.default_rng(0).normal(size=(8, 4)), model.state_dict()
    first = model.apply(model.params, X).numpy()
    np.testing.assert_array_equal(model.apply(model.params, X).numpy(), first)
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
    with model.using(model.params) as same:
        np.testing.assert_array_equal(same(X).numpy(), first)
    assert model[1].step == 1
    assert not np.array_equal(model.state_dict()["0.running_mean"], before["0.running_mean"])
    shifted = {**model.state_dict(), "0.running_mean": np.full(4, 100.0)}
    assert (model.eval().apply(shifted, X).numpy() < -50).all()
    with model.using(shifted):  # what an outer call gives and an inner one does not, holds on
        inner = model[0].apply(model[0].params, X)
    assert (inner.numpy() < -50).all()


def test_params_can_be_set_and_grad_takes_the_module_itself() -> None:
    model, X = net(), np.ones((3, 2))
    gradient = cr.grad(lambda m: m(X).sum())(model)
    assert list(gradient) == list(model.params)
    model.params = {name: np.zeros_like(value) for name, value in model.params.items()}
    assert not model(X).numpy().any()
    with pytest.raises(UnknownNameError, match="missing"):
        model.params = {}


# -- containers and summaries -----------------------------------------------------------------


def test_sequential_is_a_tuple_of_layers() -> None:
    model = net()
    assert len(model) == 3
    assert list(model) == [model[0], model[1], model[-1]]
    tail = model[1:]
    assert isinstance(tail, nn.Sequential)
    assert tail[1] is model[2]
    assert [p.name for p in model.parameters()] == ["W1", "b1", "W2", "b2"]
    assert repr(model).splitlines()[1] == "  (0): Linear(2, 3, dtype='float64')"
    for wrong, advice in (
        (nn.ReLU, r"call it: ReLU"),
        ([nn.ReLU()], r"\*layers"),
        (np.tanh, "forward"),
    ):
        with pytest.raises(TypeError, match=advice):
            nn.Sequential(wrong)
    for seed in (-1, 1.5, True):
        with pytest.raises(ValueError, match="seed must be"):
            nn.Sequential(nn.ReLU(), seed=seed)
    named = nn.Sequential(nn.PReLU(), net(), nn.LayerNorm(1), nn.Linear(1, 1))
    names = [p.name for p in named.parameters()]
    assert names == ["α1", "W1", "b1", "W2", "b2", "γ2", "β2", "W3", "b3"]
    mine = nn.Linear(1, 1)
    mine.weight = nn.Parameter(np.ones((1, 1)), name="slope")
    assert [p.name for p in nn.Sequential(mine).parameters()] == ["slope", "b1"]
    assert nn.Sequential()([1.0]).numpy().tolist() == [1.0]


@pytest.mark.parametrize("name", LAYERS)
def test_layers_print_as_they_are_made(name: str) -> None:
    layer = LAYERS[name]()
    for part in layer.modules():
        if not isinstance(part, nn.Sequential):
            made = eval(repr(part), dict(vars(nn)))
            assert made.config() == part.config()
            assert repr(made) == repr(part)


def test_layers_print_and_refuse_arguments() -> None:
    model = nn.Sequential(nn.ReLU(), nn.LeakyReLU(0.1), nn.Maxout(2, 3, 4, False))
    assert repr(model) == (
        "Sequential(\n  (0): ReLU()\n  (1): LeakyReLU(negative_slope=0.1)\n"
        "  (2): Maxout(2, 3, pieces=4, bias=False)\n)"
    )
    with pytest.raises(TypeError, match="argument"):
        nn.ReLU(3)


def test_flatten_keeps_rows_even_where_there_are_none() -> None:
    assert nn.Flatten()(np.zeros((0, 2, 3))).shape == (0, 6)
    assert nn.Flatten()(np.zeros((4, 2, 3))).shape == (4, 6)


def test_summary_counts_and_shows_that_maxout_doubles() -> None:
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 32), nn.BatchNorm1d(32), nn.Sequential(nn.ReLU()),
        nn.Maxout(32, 10, 2), Tied(),
    )  # fmt: skip
    lines = [line.split() for line in model.summary((8, 8)).splitlines()]
    names = ["0", "1", "2", "3.0", "4", "5", "5.first", "5.second", "total"]
    assert [line[0] for line in lines[1:]] == names
    assert lines[1][2:4] == ["(n,", "64)"]
    assert " ".join(lines[5]) == "4 Maxout(32, 10) (n, 10) 660 = 2 × 330"
    total = sum(p.size for p in model.parameters())
    assert lines[-1] == ["total", f"{total:,}"]
    assert total == 64 * 32 + 32 + 64 + 660 + 9
    assert "?" in nn.Sequential(nn.ReLU()).summary()
    with pytest.raises(ShapeError, match="expected 64 features"):
        model.summary((8, 9))
