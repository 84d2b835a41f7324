"""Advice names the user's own figures, and is silent where these leave no room."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from chainrule import nn
from chainrule.diagnose.advice import LARGE, LEVEL, advice
from chainrule.diagnose.finding import Flow
from chainrule.diagnose.flow import read
from chainrule.diagnose.setup import Setup, run
from chainrule.diagnose.task import task_of
from chainrule.nn import losses, optim

Array = np.ndarray[Any, Any]
ROWS, UNITS = 120, 16


def rows(low: float = -1.0, high: float = 1.0, columns: int = 6) -> tuple[Array, Array]:
    x = np.random.default_rng(5).uniform(low, high, size=(ROWS, columns))
    return x, (x[:, 0] > x[:, 1]).astype(np.int64)


def made(model: Any, x: Array, y: Array, lr: float = 0.1, epochs: int = 3) -> Setup:
    loss = losses.softmax_cross_entropy
    return Setup(model, x, y, loss, optim.SGD(lr=lr), epochs, 32, 0, task_of(loss, y, 2))


def net(*transfer: Any, columns: int = 6, init: Any = "he_uniform") -> Any:
    parts: list[Any] = []
    for one in transfer:
        width = columns if not parts else UNITS
        parts += [nn.Linear(width, UNITS, init=init, dtype=np.float64), one]
    return nn.Sequential(*parts, nn.Linear(UNITS, 2, dtype=np.float64), seed=0)


def advised(setup: Setup) -> tuple[tuple[str, ...], tuple[Flow, ...], Any]:
    trained = run(setup).model
    flows = read(trained, setup.loss, setup.X, setup.y).flows
    return advice(setup, flows), flows, trained


def the(sentences: tuple[str, ...], word: str) -> str:
    (one,) = [sentence for sentence in sentences if word in sentence]
    return one


# -- silence ------------------------------------------------------------------------------------


@pytest.mark.parametrize("transfer", [nn.ReLU, nn.Tanh, nn.ELU, nn.LeakyReLU])
def test_nothing_is_said_where_the_figures_leave_no_room(transfer: Any) -> None:
    said, _, _ = advised(made(net(transfer(), transfer()), *rows()))
    assert said == ()


def test_no_layer_no_advice() -> None:
    assert advice(made(net(nn.ReLU()), *rows()), ()) == ()


def test_the_gates_of_an_lstm_are_left_alone() -> None:
    x = np.random.default_rng(0).normal(size=(40, 5, 3)).astype(np.float32)
    y = (x[:, 0, 0] > 0).astype(np.int64)
    model = nn.Sequential(nn.LSTM(3, 8, return_sequences=False), nn.Linear(8, 2), seed=0)
    setup = made(model, x, y)
    flows = read(model, setup.loss, x, y).flows
    assert any(flow.transfer == "sigmoid" for flow in flows)  # or nothing would be shown here
    assert advice(setup, flows) == ()


def test_a_sigmoid_output_is_no_hidden_sigmoid() -> None:
    x, y = rows()
    model = nn.Sequential(nn.Linear(6, 1, dtype=np.float64), nn.Sigmoid(), seed=0)
    loss = losses.binary_cross_entropy
    setup = Setup(model, x, y, loss, optim.SGD(), 1, 32, 0, task_of(loss, y, 1))
    assert advice(setup, read(model, loss, x, y[:, None]).flows) == ()


# -- transfer functions -------------------------------------------------------------------------


def test_a_hidden_sigmoid_is_named_with_its_slope_and_its_sign() -> None:
    setup = made(net(nn.Sigmoid(), init="glorot_uniform"), *rows())
    said, flows, model = advised(setup)
    w1, b1, w2, b2 = (np.asarray(p.value) for p in model.parameters())
    out = 1 / (1 + np.exp(-(setup.X @ w1.T + b1)))
    logits = out @ w2.T + b2
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    upstream = (p - np.eye(2)[setup.y]) @ w2
    slope = np.linalg.norm(out * (1 - out) * upstream) / np.linalg.norm(upstream)
    (sentence,) = said
    assert f"Layer 0 uses sigmoid: its f′ is {slope:.2g} on your rows" in sentence
    assert "on 100 % of the rows the weight gradients of a unit of layer 2" in sentence
    assert flows[0].slope == pytest.approx(slope)


def test_of_several_sigmoids_the_worst_is_named() -> None:
    said, flows, _ = advised(
        made(net(nn.Sigmoid(), nn.Sigmoid(), nn.Sigmoid(), init="glorot_uniform"), *rows())
    )
    sentence = the(said, "sigmoid")
    worst = min(flows[:-1], key=lambda flow: flow.slope)
    assert sentence.startswith(f"Layer {worst.layer}, like 2 others, uses sigmoid")


def test_a_sigmoid_whose_weights_make_up_for_its_slope_is_left_alone() -> None:
    setup = made(net(nn.Sigmoid()), *rows())
    _, flows, _ = advised(setup)
    enough = 0.5 / flows[0].slope
    for gain, some in ((0.99 * enough, True), (1.01 * enough, False)):
        assert bool(advice(setup, (replace(flows[0], gain=gain), flows[1]))) is some


def test_a_tanh_that_levels_off_is_named_with_its_share() -> None:
    x, y = rows()
    setup = made(net(nn.Tanh()), 30 * x, y, lr=1e-3)
    said, _, model = advised(setup)
    w1, b1, *_ = (np.asarray(p.value) for p in model.parameters())
    flat = 1 - np.tanh(setup.X @ w1.T + b1) ** 2 <= 0.04
    assert f"tanh: {100 * flat.mean():.0f} % of its (row, unit) pairs" in the(said, "Layer 0")


@pytest.mark.parametrize(("share", "some"), [(LEVEL - 0.01, False), (LEVEL, True)])
def test_less_than_a_quarter_saturated_is_not_worth_a_word(share: float, some: bool) -> None:
    setup = made(net(nn.Tanh()), *rows())
    _, flows, _ = advised(setup)
    assert bool(advice(setup, (replace(flows[0], saturated=share), flows[1]))) is some


# -- ReLU and the rate --------------------------------------------------------------------------


def test_units_that_never_answer_are_counted() -> None:
    model = net(nn.ReLU())
    bias = np.zeros(UNITS)
    bias[[2, 5, 11]] = -50.0
    model[0].bias.rebind(bias)
    said, _, trained = advised(made(model, *rows(), lr=0.05))
    w1, b1, *_ = (np.asarray(p.value) for p in trained.parameters())
    assert int(np.sum((rows()[0] @ w1.T + b1 <= 0).all(axis=0))) == 3
    (sentence,) = said
    assert "3 of 16 units of layer 0 never answer" in sentence
    assert "A lower rate than 0.05" in sentence


def test_one_unit_of_many_is_not_missed() -> None:
    setup = made(net(nn.ReLU()), *rows())
    _, flows, _ = advised(setup)
    for units, some in ((20, True), (21, False)):
        one = replace(flows[0], dead=(3,), units=units)
        assert bool(advice(setup, (one, flows[1]))) is some


def test_an_optimiser_without_a_rate_is_not_asked_for_one() -> None:
    setup = made(net(nn.ReLU()), *rows())
    _, flows, _ = advised(setup)
    idle = (replace(flows[0], dead=(1, 2)), flows[1])
    (sentence,) = advice(setup.changed(optimizer=object()), idle)
    assert "A lower rate may keep" in sentence


@pytest.mark.parametrize(("update", "some"), [(LARGE, True), (0.09, False), (float("nan"), False)])
def test_a_step_as_long_as_a_tenth_of_the_weights_is_named(update: float, some: bool) -> None:
    setup = made(net(nn.ReLU()), *rows())
    _, flows, _ = advised(setup)
    said = advice(setup, (replace(flows[0], update=update), flows[1]))
    assert bool(said) is some
    assert not some or "by 10 % of their length" in said[0]


# -- inputs and starting weights ----------------------------------------------------------------


def test_inputs_of_one_sign_are_counted() -> None:
    x, y = rows(0.1, 1.0)
    x = np.column_stack([x, np.full(ROWS, 3.0)])  # a constant column has no sign to speak of
    x[:36, 0] *= -1  # on these rows, and in this column, the signs are mixed
    said, flows, _ = advised(made(net(nn.ReLU(), columns=7), x, y))
    sentence = the(said, "zero-centred")
    assert "5 of 7 columns have one sign on every row. On 70 % of the rows" in sentence
    assert flows[0].one_sign == pytest.approx(0.7)


def test_most_rows_must_be_of_one_sign() -> None:
    x, y = rows(0.1, 1.0)
    x[: ROWS // 2 + 1, 0] *= -1
    assert advised(made(net(nn.ReLU()), x, y))[0] == ()


def test_the_repair_that_is_named_ends_the_advice() -> None:
    X, y = rows(0.1, 1.0)
    said, _, _ = advised(made(net(nn.ReLU()), X, y))
    code = the(said, "zero-centred").rpartition(": ")[2].removesuffix(".")
    assert advised(made(net(nn.ReLU()), eval(code, {"X": X}), y))[0] == ()


@pytest.mark.parametrize("odd", ["nan", "text"])
def test_data_that_cannot_be_judged_get_no_advice(odd: str) -> None:
    x, y = rows(0.1, 1.0)
    setup = made(net(nn.ReLU()), x, y)
    _, flows, _ = advised(setup)
    spoilt: Any = x.copy()
    if odd == "nan":
        spoilt[3, 1] = np.nan
    else:
        spoilt = spoilt.astype(str)
    assert advice(setup.changed(X=spoilt), flows) == ()


@pytest.mark.parametrize(
    ("scale", "word"), [(1e-3, "shrinks 1,000 times"), (1e3, "grows 1,000 times"), (0.2, "")]
)
def test_a_start_that_does_not_keep_the_signal(scale: float, word: str) -> None:
    def scaled(rng: Any, shape: tuple[int, int]) -> Array:
        drawn = rng.normal(size=shape)
        return scale * np.sqrt(2 / shape[0]) * drawn / np.sqrt(np.mean(drawn**2))

    setup = made(net(nn.ReLU(), init=scaled), *rows())
    flows = read(setup.model, setup.loss, setup.X, setup.y).flows
    said = [one for one in advice(setup, flows) if "start" in one]
    assert len(said) == bool(word)
    variance = scale**2 * 2 / 6
    for one in said:
        assert word in one
        assert f"variance {variance:.2g}".replace("e-0", "e-").replace("e+0", "e") in one
        assert "init='he_uniform' draws them with 2/in" in one


def test_many_layers_that_each_lose_little_lose_much() -> None:
    """Half of He's variance keeps 0.7 of the signal: after ten layers 0.03."""
    deep = net(*[nn.ReLU() for _ in range(10)], init="lecun_uniform")
    flat = net(nn.ReLU(), init="lecun_uniform")
    for model, some in ((deep, True), (flat, False)):
        setup = made(model, *rows())
        flows = read(model, setup.loss, setup.X, setup.y).flows
        assert any("keep the size" in one for one in advice(setup, flows)) is some
