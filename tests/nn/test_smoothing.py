"""Label smoothing: value and gradient at 50 digits, compiled, in fit; losses with options."""

from __future__ import annotations

import functools
import pickle

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import chainrule as cr
from chainrule import nn
from chainrule.nn import losses
from chainrule.nn.losses import softmax_cross_entropy, with_options

RNG = np.random.default_rng(5)
LOGITS = np.r_[RNG.normal(scale=3, size=(4, 5)), [[900.0, -900, 0, 1, 2]]]
LABELS = np.array([0, 4, 2, 2, 1])
SHARES = RNG.dirichlet(np.ones(5), size=5)


def at_50_digits(logits, targets, share):
    """Row by row −Σ t ln softmax(a) with t = (1 − ε)·target + ε/k, and softmax(a) − t."""
    values, slopes = [], []
    with mp.workdps(50):
        for a, target in zip(logits.tolist(), targets.tolist(), strict=True):
            a, k = [mp.mpf(x) for x in a], len(a)
            total = mp.log(mp.fsum(mp.exp(x) for x in a))
            t = [(1 - mp.mpf(share)) * mp.mpf(x) + mp.mpf(share) / k for x in target]
            values.append(float(-mp.fsum(s * (x - total) for s, x in zip(t, a, strict=True))))
            norm = mp.fsum(t)
            slopes.append([float(norm * mp.exp(x - total) - s) for s, x in zip(t, a, strict=True)])
    return np.array(values), np.array(slopes)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.37, 1.0])
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("compiled", [False, True])
def test_value_and_gradient_at_50_digits(share, soft, compiled):
    target = SHARES if soft else LABELS
    values, slopes = at_50_digits(LOGITS, SHARES if soft else np.eye(5)[LABELS], share)
    both = cr.value_and_grad(lambda a, t: softmax_cross_entropy(a, t, label_smoothing=share))
    value, slope = (cr.compile(both, strict=True) if compiled else both)(LOGITS, target)
    np.testing.assert_allclose(value, values.mean(), rtol=1e-14)
    np.testing.assert_allclose(slope, slopes / 5, rtol=1e-13, atol=2e-17 if soft else 1e-17)


@settings(max_examples=25, deadline=None)
@given(st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_labels_are_distributions_of_certainty(share, seed):
    rng = np.random.default_rng(seed)
    a, labels, w = rng.normal(size=(6, 3)), rng.integers(0, 3, 6), rng.uniform(0.1, 2, 6)
    smooth = functools.partial(softmax_cross_entropy, a, label_smoothing=share)
    mixed = (1 - share) * np.eye(3)[labels] + share / 3
    for keywords in ({}, {"sample_weight": w}, {"reduction": "none"}, {"reduction": "sum"}):
        expected = softmax_cross_entropy(a, mixed, **keywords)
        np.testing.assert_allclose(smooth(labels, **keywords), expected, rtol=1e-12)
        np.testing.assert_allclose(smooth(np.eye(3)[labels], **keywords), expected, rtol=1e-12)


def test_float32_stays_float32():
    a = cr.tensor(LOGITS.astype(np.float32))
    loss = softmax_cross_entropy(a, LABELS, label_smoothing=0.1)
    assert loss.dtype == np.float32
    assert loss.backward()[a].dtype == np.float32


def test_a_share_out_of_range():
    for share in (-0.1, 1.5, np.nan):
        with pytest.raises(ValueError, match="label_smoothing must be from 0 to 1"):
            softmax_cross_entropy(LOGITS, LABELS, label_smoothing=share)


# -- in fit -----------------------------------------------------------------------------------

X = RNG.normal(size=(60, 4))
Y = (X[:, 0] > 0).astype(int) + (X[:, 1] > 1)


def train(loss, y=Y, **keywords):
    layers = [nn.Linear(4, 8, dtype=np.float64), nn.Tanh(), nn.Linear(8, 3, dtype=np.float64)]
    model = nn.Sequential(*layers, seed=0)
    settings = {"optimizer": cr.optim.SGD(lr=0.5), "epochs": 5, "progress": False, **keywords}
    return model, cr.fit(model, X, y, loss=loss, **settings)


@pytest.mark.parametrize("compile", [True, False])
@pytest.mark.parametrize(
    "loss",
    [
        functools.partial(softmax_cross_entropy, label_smoothing=0.2),
        with_options("softmax_cross_entropy", label_smoothing=0.2),
        with_options(with_options(softmax_cross_entropy, label_smoothing=0.9), label_smoothing=0.2),
    ],
    ids=["partial", "name", "twice"],
)
def test_fit_takes_it_as_the_loss_itself(loss, compile):
    given = {"validation_data": (X, Y), "metrics": ["accuracy"], "compile": compile}
    model, history = train(loss, sample_weight=np.linspace(0.1, 1, 60), **given)
    mixed = 0.8 * np.eye(3)[Y] + 0.2 / 3
    other, expected = train(
        "softmax_cross_entropy", mixed, sample_weight=np.linspace(0.1, 1, 60), compile=compile
    )
    assert history.compiled == ("yes" if compile else "no")
    np.testing.assert_allclose(history.loss, expected.loss, rtol=1e-12)
    for name, value in other.params.items():
        np.testing.assert_allclose(model.params[name], value, rtol=1e-10, atol=1e-12)
    assert history.metrics["accuracy"][-1] > 0.5


def test_a_label_is_still_a_label():
    with pytest.raises(cr.DataError, match="7"):
        train(
            functools.partial(softmax_cross_entropy, label_smoothing=0.2),
            np.where(X[:, 0] > 0, 7, 0),
        )


@pytest.mark.parametrize("name", ["huber", "binary_cross_entropy", "nll"])
def test_options_keep_what_fit_asks_a_loss(name):
    options = {"huber": {"delta": 2.0}}.get(name, {"clip": 1e-6})
    plain, made = losses.get(name), with_options(name, **options)
    assert (made.takes_labels, made.boundary) == (plain.takes_labels, plain.boundary)
    assert made.__doc__ == plain.__doc__
    p, y = np.array([[0.2, 0.8], [0.5, 0.5]]), np.array([1, 0])
    y = y if plain.takes_labels else np.eye(2)[y]
    assert float(made(p, y)) == float(plain(p, y, **options))
    again = pickle.loads(pickle.dumps(made))
    assert float(again(p, y)) == float(made(p, y))
    assert losses.get(made) is made


def test_options_that_a_loss_has_not():
    with pytest.raises(TypeError, match="softmax_cross_entropy has no option 'smoothing'; it has"):
        with_options("softmax_cross_entropy", smoothing=0.1)
    with pytest.raises(TypeError, match="squared_error has no option 'delta'; it has: none"):
        with_options("squared_error", delta=0.1)
    with pytest.raises(cr.UnknownNameError):
        with_options("softmax", label_smoothing=0.1)
    own = functools.partial(lambda a, y, k: cr.mean(k * cr.square(a - y)), k=2)
    assert losses.get(own) is own
