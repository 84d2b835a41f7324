"""lr_find: its suggestions train, the model stays as it is, and it says when it cannot tell."""

from __future__ import annotations

import functools

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim
from chainrule.errors import DataError, GradientError
from chainrule.train import LRFind, finder, lr_find

rng = np.random.default_rng(0)
X = rng.normal(size=(300, 5))
CLASSES = (X[:, 0] * X[:, 1] > 0).astype(int) + (X[:, 2] > 1)
NUMBERS = np.sin(X[:, :1]) + X[:, 1:2] * X[:, 2:3]


def network(*, outputs=3, deep=False, extra=()):
    if deep:
        middle = [nn.Linear(5, 32, init="he_uniform"), nn.ReLU(), *extra]
        middle += [nn.Linear(32, 32, init="he_uniform"), nn.ReLU(), nn.Linear(32, outputs)]
    else:
        middle = [nn.Linear(5, 32), nn.Tanh(), *extra, nn.Linear(32, outputs)]
    return nn.Sequential(*middle, seed=0)


find = functools.partial(lr_find, compile=False)


def final(model, y, loss, rule, epochs=30):
    settings = {"epochs": epochs, "progress": False, "compile": False}
    return cr.fit(model, X, y, loss=loss, optimizer=rule, **settings).loss[-1]


@pytest.mark.parametrize("deep", [False, True], ids=["tanh", "relu"])
@pytest.mark.parametrize(
    "rule",
    [
        "sgd",
        "adam",
        pytest.param("momentum", marks=pytest.mark.slow),
        pytest.param("ema", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("task", ["classes", "numbers"])
def test_the_suggestion_trains_and_a_hundredth_of_it_does_not(deep, rule, task):
    def make(lr):
        return {
            "sgd": lambda: optim.SGD(lr=lr),
            "momentum": lambda: optim.SGD(lr=lr, momentum=0.9),
            "adam": lambda: optim.Adam(lr=lr),
            "ema": lambda: optim.EMA(optim.AdamW(lr=lr)),
        }[rule]()

    y, loss = (
        (CLASSES, "softmax_cross_entropy") if task == "classes" else (NUMBERS, "squared_error")
    )
    outputs = 3 if task == "classes" else 1
    found = lr_find(
        network(outputs=outputs, deep=deep), X, y, loss=loss, optimizer=make(1.0), compile=False
    )
    start = found.smoothed[0]
    assert found.suggestion is not None, str(found)
    good = final(network(outputs=outputs, deep=deep), y, loss, make(found.suggestion))
    slow = final(network(outputs=outputs, deep=deep), y, loss, make(found.suggestion / 100))
    assert good < 0.7 * slow
    assert good < 0.7 * start


@pytest.mark.parametrize("compile", [True, False])
def test_the_model_stays_as_it_is_to_the_bit(compile):
    model = network(extra=[nn.BatchNorm1d(32), nn.Dropout(0.2)])
    model.eval()
    layer = model[3]
    before, values = model.state_dict(), [p.value for p in model.parameters()]
    counters = layer.seed, layer.number, layer.step
    rule = optim.Adam(lr=0.5)
    lr_find(model, X, CLASSES, loss="softmax_cross_entropy", optimizer=rule, compile=compile)
    assert all(p.value is value for p, value in zip(model.parameters(), values, strict=True))
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
    assert (layer.seed, layer.number, layer.step) == counters
    assert not model.training
    assert rule.lr == 0.5


def test_the_model_stays_as_it_is_after_an_error():
    model = network()
    values = [p.value for p in model.parameters()]

    def broken(prediction, target):
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        lr_find(model, X, CLASSES, loss=broken)
    with pytest.raises(DataError):
        lr_find(model, X, CLASSES + 7, loss="softmax_cross_entropy")
    with pytest.raises(GradientError), np.errstate(all="ignore"):
        lr_find(model, X, CLASSES, loss=lambda p, t: cr.sum(p) * np.inf)
    assert all(p.value is value for p, value in zip(model.parameters(), values, strict=True))


def test_rates_grow_evenly_and_losses_are_those_of_fit():
    found = find(network(), X, CLASSES, loss="softmax_cross_entropy", low=1e-4, high=1.0)
    rates = 1e-4 * 1e4 ** (np.arange(len(found.lrs)) / 99)
    np.testing.assert_allclose(found.lrs, rates, rtol=1e-10)
    same = optim.Adam(lr=optim.exponential(1e-4, 1e4 ** (1 / 99)))
    history = cr.fit(
        network(),
        X,
        CLASSES,
        loss="softmax_cross_entropy",
        optimizer=same,
        progress=False,
        compile=False,
    )
    np.testing.assert_allclose(found.losses, history.step_loss[: len(found.losses)], rtol=1e-5)
    again = find(network(), X, CLASSES, loss="softmax_cross_entropy", low=1e-4, high=1.0)
    assert again.suggestion == found.suggestion


def test_noise_has_no_suggestion():
    noise = np.random.default_rng(1).normal(size=(300, 1))
    found = lr_find(
        nn.Sequential(nn.Linear(5, 1, weight=np.zeros((1, 5))), seed=0), X, noise,
        loss="squared_error", optimizer="sgd", high=1e-2,
    )  # fmt: skip
    assert found.suggestion is None
    assert "did not clearly fall" in found.reason
    assert str(found).startswith("no learning rate: ")
    assert "svg" in found._repr_svg_()


def test_a_fall_without_an_end_is_told():
    found = find(network(outputs=1), X, NUMBERS, loss="squared_error", high=3e-3, steps=150)
    assert "no end to the fall was seen up to 0.003" in found.reason
    assert 3e-4 <= found.suggestion <= 3e-3


def curve(fall_at, lowest_at, explodes_at, noise=0.0):
    """Losses over 100 rates that fall around one place and explode at another."""
    k = np.arange(100)
    losses = 2 - 1.5 / (1 + np.exp(-(k - fall_at) / 2)) + 0.003 * np.abs(k - lowest_at)
    losses = losses + noise * np.random.default_rng(0).normal(size=100)
    return np.where(k < explodes_at, losses, losses + 0.5 * (k - explodes_at) ** 2)


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_what_it_reads_from_known_curves(noise):
    rates = 1e-7 * 1e8 ** (np.arange(100) / 99)
    found = finder._judged(rates, curve(70, 75, 82, noise), 10.0, 100)
    assert "where the loss fell fastest" in found.reason
    assert rates[66] <= found.suggestion <= rates[74]
    found = finder._judged(rates, curve(40, 75, 82, noise), 10.0, 100)
    assert "a tenth of where the loss was lowest" in found.reason
    assert rates[58] <= found.suggestion <= rates[70]


def test_the_chart_and_the_words():
    found = find(network(), X, CLASSES, loss="softmax_cross_entropy")
    assert isinstance(found, LRFind)
    assert str(found).startswith(f"lr = {found.suggestion:.2g}: ")
    svg = found.chart().svg()
    assert svg.lstrip().startswith("<svg")
    assert "learning rate" in svg
    assert f"{found.suggestion:.2g}" in svg
    assert cr.lr_find is lr_find


def test_weights_reach_fit():
    w = np.r_[np.ones(150), np.zeros(150)]
    found = find(network(), X, CLASSES, loss="softmax_cross_entropy", sample_weight=w)
    half = find(network(), X[:150], CLASSES[:150], loss="softmax_cross_entropy")
    np.testing.assert_allclose(found.losses, half.losses, rtol=1e-4)


def test_arguments_out_of_range():
    for wrong, match in (
        ({"low": 0.0}, "low"), ({"low": 1.0, "high": 0.1}, "low must be below high"),
        ({"steps": 5}, "steps"), ({"optimizer": "lbfgs"}, "no learning rate to find"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=match):
            find(network(), X, CLASSES, loss="softmax_cross_entropy", **wrong)
