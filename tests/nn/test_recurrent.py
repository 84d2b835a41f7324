"""Recurrent layers: against loops written anew, complex steps, closed forms, and real sequences."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.data import load_dataset
from chainrule.errors import ModelFileError, ShapeError

F64 = np.float64
Array = Any
KINDS: dict[str, Any] = {"LSTM": nn.LSTM, "GRU": nn.GRU, "RNN": nn.RNN}
CELLS: dict[str, Any] = {"LSTM": nn.LSTMCell, "GRU": nn.GRUCell, "RNN": nn.RNNCell}


# -- the same thing, written anew ---------------------------------------------------------------


def sigma(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def one_step(kind: str, p: dict[str, Array], end: str, x: Array, h: Array, c: Array) -> Any:
    """One row, one step, from the equations; takes complex numbers."""
    zero = np.zeros(len(p[f"weight_hh{end}"]))
    given = p[f"weight_ih{end}"] @ x + p.get(f"bias_ih{end}", zero)
    back = p[f"weight_hh{end}"] @ h + p.get(f"bias_hh{end}", zero)
    H = len(h)
    if kind == "LSTM":
        i, f, g, o = (given + back).reshape(4, H)
        c = sigma(f) * c + sigma(i) * np.tanh(g)
        return sigma(o) * np.tanh(c), c
    if kind == "GRU":
        r, z = sigma((given + back)[: 2 * H]).reshape(2, H)
        n = np.tanh(given[2 * H :] + r * back[2 * H :])
        return (1 - z) * n + z * h, c
    return np.tanh(given + back), c


def by_hand(layer: Any, p: dict[str, Array], X: Array, lengths: Any = None) -> Array:
    """The outputs of every step, row by row."""
    kind, H = type(layer).__name__, layer.hidden_size
    rows = []
    for row, x in enumerate(X):
        T = len(x) if lengths is None else lengths[row]
        below = list(x[:T])
        for k in range(layer.num_layers):
            sides = []
            for end in (f"_l{k}", f"_l{k}_reverse")[: 1 + layer.bidirectional]:
                h = c = np.zeros(H, X.dtype)
                found = {}
                for t in range(T)[:: -1 if "reverse" in end else 1]:
                    h, c = one_step(kind, p, end, below[t], h, c)
                    found[t] = h
                sides.append(found)
            below = [np.concatenate([side[t] for side in sides]) for t in range(T)]
        rest = [np.zeros_like(below[0])] * (len(x) - T)
        rows.append(below + rest)
    return np.array(rows)


LAYERS = [
    (kind, layers, both, bias)
    for kind in KINDS
    for layers, both, bias in ((1, False, True), (1, True, False), (2, True, True))
]


@pytest.mark.parametrize(("kind", "layers", "both", "bias"), LAYERS)
def test_values_are_those_of_a_loop_written_anew(
    kind: str, layers: int, both: bool, bias: bool
) -> None:
    rng = np.random.default_rng(0)
    layer = KINDS[kind](3, 4, layers, bias=bias, bidirectional=both, seed=1, dtype=F64)
    X = rng.normal(size=(2, 5, 3))
    expected = by_hand(layer, layer.params, X)
    output, state = layer.unroll(X)
    np.testing.assert_allclose(output.numpy(), expected, rtol=1e-13, atol=1e-14)
    h = state[0] if kind == "LSTM" else state
    assert h.shape == (layers * (1 + both), 2, 4)
    last = [expected[:, -1, :4], expected[:, 0, 4:]] if both else [expected[:, -1]]
    np.testing.assert_allclose(layer(X).numpy(), np.hstack(last), rtol=1e-13, atol=1e-14)
    assert sum(p.size for p in layer.parameters()) == sum(map(np.size, layer.params.values()))


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_equal_complex_steps_through_the_loop(kind: str) -> None:
    rng = np.random.default_rng(2)
    layer = KINDS[kind](2, 3, 2, bidirectional=True, seed=3, dtype=F64)
    X, weigh = rng.normal(size=(2, 4, 2)), rng.normal(size=(2, 4, 6))
    point = {**layer.params, "X": X}

    def loss(p: dict[str, Array]) -> complex:
        own = {k: v for k, v in p.items() if k != "X"}
        return complex(np.sum(by_hand(layer, own, p["X"]) * weigh))

    x = cr.tensor(X)
    gradients = cr.sum(layer.unroll(x)[0] * weigh).backward()
    exact = {"X": gradients[x], **{k: gradients[p] for k, p in layer.named_parameters()}}
    for name, value in point.items():
        for _ in range(3):
            direction = rng.normal(size=value.shape)
            moved = {**point, name: value + 1e-30j * direction}
            if name != "X":
                moved["X"] = X.astype(complex)
            numeric = loss(moved).imag / 1e-30
            assert np.sum(exact[name] * direction) == pytest.approx(numeric, rel=1e-12, abs=1e-13)
        assert np.abs(exact[name]).max() > 1e-6, f"{name} has no gradient to compare"


def test_a_linear_chain_has_its_closed_form() -> None:
    """Without inputs and kinks h_T = uᵀ·h₀ > 0, so ∂h_T/∂u = T·uᵀ⁻¹·h₀ and ∂h_T/∂h₀ = uᵀ."""
    T, u = 40, 0.9
    layer = nn.RNN(1, 1, nonlinearity="relu", bias=False, dtype=F64)
    layer.load_state_dict({"weight_ih_l0": [[1.0]], "weight_hh_l0": [[u]]})
    h0 = cr.tensor(np.full((1, 1, 1), 2.0))
    _, h = layer.unroll(np.zeros((1, T, 1)), h0)
    gradients = h.sum().backward()
    assert float(h.numpy().item()) == pytest.approx(u**T * 2, rel=1e-14)
    slope = T * u ** (T - 1) * 2
    assert gradients[layer.weight_hh_l0].item() == pytest.approx(slope, rel=1e-13)
    assert gradients[h0].item() == pytest.approx(u**T, rel=1e-13)


@pytest.mark.parametrize("kind", KINDS)
def test_second_derivatives_go_through_time(kind: str) -> None:
    layer = KINDS[kind](1, 2, seed=0, dtype=F64)
    rng = np.random.default_rng(0)
    X, v = rng.normal(size=(2, 3, 1)), rng.normal(size=layer.weight_hh_l0.shape)

    def slope(u: Any) -> Any:
        own = {**layer.params, "weight_hh_l0": u}
        return cr.grad(lambda u: cr.sum(cr.square(layer.apply({**own, "weight_hh_l0": u}, X))))(u)

    u = np.asarray(layer.weight_hh_l0.value)
    twice = cr.grad(lambda u: cr.sum(slope(u) * v))(u)
    numeric = (slope(u + 1e-5 * v) - slope(u - 1e-5 * v)) / 2e-5
    np.testing.assert_allclose(twice, numeric, rtol=1e-7, atol=1e-9)
    assert np.abs(twice).max() > 1e-3


def test_a_thousand_steps_are_no_recursion() -> None:
    x = cr.tensor(np.random.default_rng(0).normal(size=(1, 1000, 1)))
    layer = nn.LSTM(1, 2, seed=0, forget_bias=12.0, dtype=F64)
    _, (_, cell) = layer.unroll(x)
    gradient = cr.sum(cell).backward()[x]
    assert np.isfinite(gradient).all()
    assert abs(gradient[0, 0, 0]) > 1e-4  # through a thousand open gates


# -- cells --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", CELLS)
def test_a_cell_by_hand_is_a_layer(kind: str) -> None:
    cell, layer = CELLS[kind](3, 4, seed=0, dtype=F64), KINDS[kind](3, 4, dtype=F64)
    layer.load_state_dict({f"{k}_l0": v for k, v in cell.state_dict().items()})
    X = np.random.default_rng(0).normal(size=(2, 5, 3))
    state = None
    for t in range(5):
        state = cell(X[:, t], state)
    h = state[0] if kind == "LSTM" else state
    np.testing.assert_array_equal(h.numpy(), layer(X).numpy())


def test_the_gates_of_a_cell_have_names() -> None:
    cell = nn.LSTMCell(1, 1, seed=0, dtype=F64)
    hidden, _ = cell([[0.5]], ([[0.1]], [[0.2]]))
    words = {"input", "forget", "candidate", "output", "cell", "hidden"}
    text, picture = str(cr.explain(hidden.sum(), wrt="W")), cr.draw(hidden.sum()).text()
    assert all(f"δ_{word}" in text for word in ("input", "forget", "candidate", "output"))
    assert "δ(cell)" in text
    assert all(word in picture for word in words)
    gru = nn.GRUCell(1, 1, seed=0, dtype=F64)
    picture = cr.draw(gru([[0.5]], [[0.1]]).sum()).text()
    assert all(word in picture for word in ("reset", "update", "candidate"))


def test_a_gradient_lists_its_steps_of_time() -> None:
    layer = nn.LSTM(2, 3, seed=0, dtype=F64)
    loss = cr.sum(cr.square(layer(np.random.default_rng(0).normal(size=(2, 3, 2)))))
    text = str(cr.explain(loss, wrt=layer.weight_hh_l0))
    assert "hidden_2ᵀ @ δ_hh_3 + hidden_1ᵀ @ δ_hh_2 + zerosᵀ @ δ_hh_1" in text
    element = str(cr.explain(loss, wrt=layer.weight_hh_l0, index=(4, 1)))
    assert "hidden_2[1,1]" in element
    assert "hidden_1[0,1]" in element


def test_a_cell_refuses_what_does_not_fit() -> None:
    cell = nn.LSTMCell(2, 3)
    with pytest.raises(TypeError, match=r"LSTMCell\(2, 3\): the state is 2 arrays, got 1"):
        cell([[1.0, 2.0]], [[0.0, 0.0, 0.0]])
    with pytest.raises(ShapeError, match=r"expected a state \(1, 3\), got \(2, 3\)"):
        cell([[1.0, 2.0]], (np.zeros((2, 3)), np.zeros((2, 3))))
    with pytest.raises(ShapeError, match="expected 2 features in the last axis, got 3"):
        cell([[1.0, 2.0, 3.0]])
    with pytest.raises(ModelFileError, match="layer 0 is a LSTMCell"):
        nn.Sequential(cell).save("unused.safetensors")


# -- sequences of different lengths ----------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_rows_may_end_early(kind: str) -> None:
    rng = np.random.default_rng(4)
    layer = KINDS[kind](3, 4, 2, bidirectional=True, seed=0, dtype=F64)
    padded = KINDS[kind](3, 4, 2, bidirectional=True, padding_value=-9.0, dtype=F64)
    padded.load_state_dict(layer.state_dict())
    X, lengths = rng.normal(size=(3, 5, 3)), np.array([5, 1, 3])
    for row, T in enumerate(lengths):
        X[row, T:] = -9.0
    output = layer.unroll(X, lengths=lengths)[0]
    np.testing.assert_allclose(
        output.numpy(), by_hand(layer, layer.params, X, lengths), rtol=1e-13, atol=1e-14
    )
    for row, T in enumerate(lengths):
        alone = layer(X[row : row + 1, :T]).numpy()
        np.testing.assert_allclose(padded(X).numpy()[row : row + 1], alone, rtol=1e-13)
    x = cr.tensor(np.where(X == -9.0, np.inf, X))  # selected, so not even ∞ comes through
    gradients = cr.sum(layer.unroll(x, lengths=lengths)[0]).backward()
    assert (gradients[x][1, 1:] == 0).all()
    assert all(np.isfinite(gradients[p]).all() for p in layer.parameters())
    assert (padded.unroll(X)[0].numpy()[1, 1:] == -9.0).all()


@pytest.mark.parametrize(
    ("lengths", "words"),
    [
        ([1, 2], "3 whole numbers"),
        ([1.0, 2.0, 2.0], "float64"),
        ([0, 1, 2], "from 1 to the 2 steps of X, got 0"),
        ([1, 2, 3], "got 1 to 3"),
    ],
)
def test_lengths_that_do_not_fit(lengths: Any, words: str) -> None:
    with pytest.raises(ShapeError, match=words):
        nn.GRU(1, 1).unroll(np.zeros((3, 2, 1)), lengths=np.array(lengths))


# -- as a layer ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((4, 2), r"expected \(rows, time, features\)"),
        ((4, 3, 2, 1), r"got shape \(4, 3, 2, 1\)"),
        ((4, 0, 2), "at least one step of time"),
        ((4, 3, 5), r"expected 2 features in the last axis, got 5 \(input shape \(4, 3, 5\)\)"),
    ],
)
def test_other_shapes_are_refused_by_name(shape: Any, words: str) -> None:
    model = nn.Sequential(nn.ReLU(), nn.LSTM(2, 3))
    with pytest.raises(ShapeError, match=r"layer 1, LSTM\(2, 3\): .*" + words):
        model(np.zeros(shape))
    with pytest.raises(ShapeError, match=r"layer 1, LSTM\(2, 3\)"):
        model.output_shape(shape[1:])


def test_other_arguments_are_refused() -> None:
    for make, words in (
        (lambda: nn.LSTM(2, 3, batch_first=False), "X is .rows, time, features. here"),
        (lambda: nn.LSTM(0, 3), "input_size must be a whole number"),
        (lambda: nn.GRU(2, 3, 0), "num_layers must be a whole number"),
        (lambda: nn.GRU(2, 3, dropout=1.0), "GRU: dropout must be from 0 to below 1"),
        (lambda: nn.RNN(2, 3, nonlinearity="elu"), "'tanh' or 'relu', not 'elu'"),
        (lambda: nn.LSTM(2, 3, forget_bias=np.inf), "forget_bias must be a finite number"),
    ):
        with pytest.raises(ValueError, match=words):
            make()
    for initial in (np.zeros((1, 2, 3)), (np.zeros((1, 2, 3)),), (np.zeros((2, 3)),) * 2):
        with pytest.raises(ShapeError, match=r"a pair \(h, c\), each of shape \(1, 2, 3\)"):
            nn.LSTM(2, 3).unroll(np.zeros((2, 4, 2)), initial)


def test_one_row_one_step_and_no_rows() -> None:
    layer = nn.LSTM(2, 3)
    assert layer(np.zeros((1, 1, 2))).shape == (1, 3)
    assert layer(np.zeros((0, 4, 2))).shape == (0, 3)
    assert layer.unroll(np.zeros((0, 4, 2)), lengths=np.zeros(0, int))[0].shape == (0, 4, 3)


def test_how_parameters_start() -> None:
    drawn = nn.Sequential(nn.Linear(4, 4), nn.LSTM(4, 16), seed=7)[1]
    rng = np.random.default_rng([7, 1])
    for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"):
        value = drawn.params[name]
        np.testing.assert_array_equal(value, rng.uniform(-0.25, 0.25, value.shape).astype("f4"))
    assert [p.name for p in drawn.parameters()] == ["W2", "U2", "b2", "b_h2"]
    opened = nn.LSTM(4, 16, forget_bias=1.0, seed=0)
    both = opened.params["bias_ih_l0"] + opened.params["bias_hh_l0"]
    assert (both[16:32] == 1).all()
    assert (both[:16] != 1).all()
    again = nn.Sequential(nn.LSTM(2, 3, seed=5), seed=9)[0]  # its own seed counts
    np.testing.assert_array_equal(again.weight_hh_l0.value, nn.LSTM(2, 3, seed=5).weight_hh_l0)
    given = nn.LSTM(2, 3)
    given.weight_ih_l0.rebind(np.ones((12, 2)))
    nn.Sequential(copy.deepcopy(given), given, seed=0)
    assert (given.weight_ih_l0.numpy() == 1).all()


def test_dropout_between_layers_only() -> None:
    X = np.ones((4, 3, 2))
    one = nn.LSTM(2, 8, dropout=0.5, seed=0)
    np.testing.assert_array_equal(one(X), one(X))
    two = nn.Sequential(nn.LSTM(2, 8, num_layers=2, dropout=0.5, seed=0)).reseed(0)
    first, second = two(X).numpy(), two(X).numpy()
    assert (first != second).any()
    np.testing.assert_array_equal(two.reseed(0)(X).numpy(), first)
    np.testing.assert_array_equal(two.eval()(X).numpy(), two(X).numpy())


MODELS = [
    lambda: [nn.LSTM(3, 4, forget_bias=1.0, seed=0), nn.Linear(4, 2)],
    lambda: [
        nn.GRU(3, 4, 2, dropout=0.25, bidirectional=True, return_sequences=True, dtype=F64),
        nn.RNN(8, 2, nonlinearity="relu", bias=False, padding_value=0.5, dtype=F64),
    ],
]


@pytest.mark.parametrize("layers", MODELS)
def test_saved_and_loaded_it_is_the_same(layers: Any, tmp_path: Path) -> None:
    model = nn.Sequential(*layers())
    model.save(tmp_path / "model.safetensors")
    loaded = nn.load(tmp_path / "model.safetensors")
    X = np.random.default_rng(0).normal(size=(3, 4, 3))
    assert repr(loaded) == repr(model)
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
    assert model.output_shape((4, 3)) == loaded.predict(X).shape[1:]


def test_the_summary_counts_parameters() -> None:
    model = nn.Sequential(nn.LSTM(8, 32), nn.Linear(32, 10))
    rows = model.summary((8, 8)).splitlines()
    assert rows[1].split() == ["0", "LSTM(8,", "32)", "(n,", "32)", "5,376"]
    assert 5376 == 4 * 32 * (8 + 32 + 2)
    both = nn.Sequential(nn.GRU(8, 4, bidirectional=True, return_sequences=True))
    assert "(n, 5, 8)" in both.summary((5, 8))


# -- training -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_machine_code_trains_as_numpy_does(kind: str) -> None:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(24, 3, 2)), rng.normal(size=(24, 1))
    X[:8, 2] = 0.0
    runs = []
    for compile in (True, False):
        layer = KINDS[kind](2, 3, padding_value=0.0, dtype=F64)
        model = nn.Sequential(layer, nn.Linear(3, 1, dtype=F64), seed=0)
        history = cr.fit(
            model, X, y, loss="squared_error", epochs=3, batch_size=12, compile=compile,
            progress=False,
        )  # fmt: skip
        assert history.compiled.startswith("yes" if compile else "no")
        runs.append((list(history.loss), model.params))
    np.testing.assert_allclose(runs[0][0], runs[1][0], rtol=1e-12)
    for name, value in runs[0][1].items():
        np.testing.assert_allclose(value, runs[1][1][name], rtol=1e-12, atol=1e-13)


def digits() -> tuple[Array, Array, Array, Array]:
    """The bundled digits, each an image read from top to bottom: 8 steps of 8 pixels."""
    data = load_dataset("digits")
    order = np.random.default_rng(0).permutation(len(data.target))
    X, y = (data.features / 16.0).reshape(-1, 8, 8)[order], data.target[order]
    return X[:1437], y[:1437], X[1437:], y[1437:]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_digits_read_row_by_row(kind: str) -> None:
    X, y, Xv, yv = digits()
    model = nn.Sequential(KINDS[kind](8, 32), nn.Linear(32, 10), seed=0)
    cr.fit(
        model, X, y, loss="softmax_cross_entropy", optimizer=cr.optim.Adam(lr=1e-2), epochs=20,
        progress=False,
    )  # fmt: skip
    assert (model.predict(Xv).argmax(1) == yv).mean() > 0.96


def adding(rows: int, seed: int) -> tuple[Array, Array]:
    """Twenty random numbers, two of them marked; the answer is their sum."""
    rng = np.random.default_rng(seed)
    X = np.zeros((rows, 20, 2))
    X[:, :, 0] = rng.random((rows, 20))
    for row in X:
        row[rng.choice(20, 2, replace=False), 1] = 1
    return X, (X[:, :, 0] * X[:, :, 1]).sum(1, keepdims=True)


@pytest.mark.slow
def test_gates_remember_what_a_plain_network_loses() -> None:
    (X, y), (Xv, yv) = adding(2000, 0), adding(500, 1)
    errors = []
    for layer in (nn.LSTM(2, 16, forget_bias=1.0), nn.RNN(2, 16)):
        model = nn.Sequential(layer, nn.Linear(16, 1), seed=0)
        cr.fit(
            model, X, y, loss="mean_squared_error", optimizer=cr.optim.Adam(lr=1e-2), epochs=20,
            batch_size=50, progress=False,
        )  # fmt: skip
        errors.append(float(np.mean((model.predict(Xv) - yv) ** 2)))
    assert errors[0] < 0.01
    assert errors[1] > 0.1  # guessing the mean gives 0.167


def lost(layer: Any) -> float:
    """Decades that a gradient loses on each step back, at the start of training."""
    x = cr.tensor(np.random.default_rng(0).normal(size=(8, 40, 2)))
    norms = np.linalg.norm(cr.sum(layer(x)).backward()[x], axis=(0, 2))
    return float(np.log10(norms[-1] / norms[0])) / 39


def test_gradients_of_a_plain_network_vanish_and_those_of_open_gates_do_not() -> None:
    plain = lost(nn.RNN(2, 16, seed=0, dtype=F64))
    half = lost(nn.LSTM(2, 16, seed=0, dtype=F64))
    opened = lost(nn.LSTM(2, 16, seed=0, forget_bias=3.0, dtype=F64))
    assert plain > 0.2
    assert 0.1 < half < plain
    assert opened < 0.03
