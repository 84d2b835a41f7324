"""`fit` with a weight for each row: Σ w·l / Σ w of every batch."""

import numpy as np
import pytest

import chainrule as cr
from chainrule import losses, nn, optim
from chainrule.errors import DataError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 4))
Y = RNG.integers(0, 3, 40)
W = RNG.random(40)


def train(X, y, w=None, *, compiled=False, loss="softmax_cross_entropy", size=16, **options):
    model = nn.Sequential(nn.Linear(4, 3, dtype=np.float64), seed=1)
    options = {"optimizer": optim.SGD(lr=0.3), "epochs": 3, "progress": False, **options}
    history = cr.fit(
        model, X, y, loss=loss, batch_size=size, sample_weight=w, compile=compiled, **options
    )
    return model, history


@pytest.mark.parametrize("compiled", [True, False], ids=["native", "numpy"])
@pytest.mark.parametrize("size", [16, None], ids=["batches", "whole"])
def test_a_step_is_that_of_the_weighted_mean(compiled, size):
    model, history = train(X, Y, W, compiled=compiled, size=size, shuffle=False, epochs=1)
    W1, b = nn.Sequential(nn.Linear(4, 3, dtype=np.float64), seed=1)[0].params.values()
    found = []
    for start in range(0, 40, size or 40):
        rows = slice(start, start + (size or 40))
        z = X[rows] @ W1.T + b
        p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
        t, w = np.eye(3)[Y[rows]], W[rows] / W[rows].sum()
        found.append(-(w * np.log((p * t).sum(1))).sum())
        delta = w[:, None] * (p - t)
        W1, b = W1 - 0.3 * delta.T @ X[rows], b - 0.3 * delta.sum(0)
    np.testing.assert_allclose(history.step_loss, found, rtol=1e-12)
    np.testing.assert_allclose(model[0].weight.value, W1, rtol=1e-12)
    np.testing.assert_allclose(model[0].bias.value, b, rtol=1e-11)


@pytest.mark.parametrize("compiled", [True, False], ids=["native", "numpy"])
def test_equal_weights_change_nothing(compiled):
    one, other = (train(X, Y, w, compiled=compiled) for w in (None, np.full(40, 0.25)))
    np.testing.assert_allclose(one[1].step_loss, other[1].step_loss, rtol=1e-13)
    np.testing.assert_allclose(one[0][0].weight.value, other[0][0].weight.value, rtol=1e-12)


def test_a_row_of_weight_0_is_as_if_not_there():
    w = W * (np.arange(40) % 3 > 0)
    one, other = train(X, Y, w), train(X[w > 0], Y[w > 0], w[w > 0])
    assert one[1].step_loss == other[1].step_loss
    assert (one[0][0].weight.value == other[0][0].weight.value).all()


def test_whole_weights_are_rows_said_twice():
    w = RNG.integers(1, 4, 40)
    again = np.repeat(np.arange(40), w)
    one, other = train(X, Y, w, size=None), train(X[again], Y[again], size=None)
    np.testing.assert_allclose(one[1].loss, other[1].loss, rtol=1e-13)


@pytest.mark.parametrize("name", ["squared_error", "huber", "absolute_error"])
def test_losses_of_numbers_are_weighted_too(name):
    target = X[:, :3] * 2 + 1
    history = train(X, target, W, loss=name, size=None, epochs=1)[1]
    start = nn.Sequential(nn.Linear(4, 3, dtype=np.float64), seed=1).predict(X)
    expected = getattr(losses, name)(start, target, sample_weight=W)
    assert history.loss[0] == pytest.approx(float(expected), rel=1e-14)


def test_the_validation_loss_is_weighted():
    weighted = train(X, Y, validation_data=(X, Y, W))[1]
    plain = train(X, Y, validation_data=(X, Y))[1]
    assert weighted.step_loss == plain.step_loss
    assert weighted.val_loss != plain.val_loss
    model = train(X, Y)[0]
    expected = float(losses.softmax_cross_entropy(model.predict(X), Y, sample_weight=W))
    assert weighted.val_loss[-1] == pytest.approx(expected, rel=1e-14)


def test_a_column_of_weights_and_integers_will_do():
    assert train(X, Y, W[:, None])[1].loss == train(X, Y, W)[1].loss
    assert train(X, Y, np.ones(40, int))[1].epochs == 3


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        (W[:-1], r"sample_weight has shape \(39,\), expected \(40,\)"),
        (np.tile(W, (2, 1)).T, r"sample_weight has shape \(40, 2\)"),
        (-W, "sample_weight is -0.[0-9]+ at row 0"),
        (W * 0, "sample_weight is 0 for every row"),
        (np.where(np.arange(40) == 7, np.nan, W), "sample_weight holds NaN at row 7"),
        (np.where(np.arange(40) == 7, np.inf, W), "sample_weight holds infinity at row 7"),
        (["a"] * 40, "sample_weight holds strings"),
    ],
)
def test_weights_that_are_none(weights, said):
    with pytest.raises(DataError, match=said):
        train(X, Y, weights)


def test_a_loss_without_weights_is_refused_before_training():
    def mine(prediction, target):
        return losses.softmax_cross_entropy(prediction, target)

    with pytest.raises(TypeError, match=r"'mine' takes no sample_weight; define it as f\("):
        train(X, Y, W, loss=mine)

    def weighable(prediction, target, sample_weight=None):
        return losses.softmax_cross_entropy(prediction, target, sample_weight)

    assert train(X, Y, W, loss=weighable)[1].loss == train(X, Y, W)[1].loss


def test_weights_too_large_for_the_dtype():
    model = nn.Sequential(nn.Linear(4, 3), seed=1)
    with pytest.raises(DataError, match=r"sample_weight .* too large for the model's float32"):
        cr.fit(model, X, Y, loss="softmax_cross_entropy", sample_weight=W * 1e300)
