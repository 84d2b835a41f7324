"""What callbacks are told in machine code is what they are told in NumPy."""

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim
from chainrule.errors import GradientError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 4))
Y = RNG.integers(0, 3, 50)


class Listens:
    """Notes the gradients that it is told of."""

    def __init__(self):
        self.seen, self.moments = [], []

    def note(self, moment):
        self.seen.append({k: np.array(v) for k, v in moment.gradients.items()})
        self.moments.append(moment)


class AfterSteps(Listens):
    on_step = Listens.note


class AfterEpochs(Listens):
    on_epoch = Listens.note


class AtTheEnd(Listens):
    on_end = Listens.note


class Asks(AfterEpochs):
    """As `AfterEpochs`, and changes what it may: weights, the rate, dropout's place."""

    def on_epoch(self, moment):
        self.note(moment)
        weight = moment.model[0].weight
        weight.rebind(weight.value * 0.5)
        moment.optimizer.lr *= 0.9


def train(*callbacks, compiled, size=16, **changes):
    layers = nn.Linear(4, 5, bias=False, dtype=float), nn.BatchNorm1d(5, dtype=float), nn.Tanh()
    layers = *layers, nn.Dropout(0.25), nn.Linear(5, 3, dtype=float)
    model = nn.Sequential(*layers, seed=1)
    history = cr.fit(
        model, X, Y, loss="softmax_cross_entropy", epochs=5, batch_size=size, callbacks=callbacks,
        progress=False, compile=compiled,
        **{"optimizer": optim.Adam(lr=0.01), "sample_weight": 1 + Y, **changes},
    )  # fmt: skip
    return model, history


def assert_close(one, other):
    assert len(one.seen) == len(other.seen) > 0
    for mine, theirs in zip(one.seen, other.seen, strict=True):
        assert mine.keys() == theirs.keys()
        for name in mine:
            np.testing.assert_allclose(mine[name], theirs[name], rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("kind", [AfterSteps, AfterEpochs, AtTheEnd, Asks])
@pytest.mark.parametrize("size", [16, None], ids=["batches", "whole"])
def test_gradients_are_those_of_the_step(kind, size):
    native, plain = kind(), kind()
    (one, history), (other, twin) = (
        train(listener, compiled=compiled, size=size)
        for listener, compiled in ((native, True), (plain, False))
    )
    assert history.compiled == "yes"
    assert_close(native, plain)
    for name, value in one.state_dict().items():
        np.testing.assert_allclose(value, other.state_dict()[name], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(history.step_loss, twin.step_loss, rtol=1e-10)


def test_asking_changes_no_bit():
    asked, silent = train(AfterEpochs(), compiled=True), train(compiled=True)
    assert asked[1].step_loss == silent[1].step_loss
    for name, value in asked[0].state_dict().items():
        assert value.tobytes() == silent[0].state_dict()[name].tobytes(), name


def test_averages_are_shown_and_training_goes_on_with_the_weights():
    class Looks:
        def __init__(self):
            self.weights = []

        def on_epoch(self, moment):
            self.weights.append(moment.model[0].weight.value.copy())
            assert moment.gradients

    looks = [Looks(), Looks()]
    rule = {"optimizer": optim.EMA(optim.Adam(lr=0.01), decay=0.9)}
    runs = [train(look, compiled=c, **rule) for look, c in zip(looks, (True, False), strict=True)]
    plain = train(compiled=True)
    np.testing.assert_allclose(looks[0].weights, looks[1].weights, rtol=1e-9)
    assert runs[0][1].step_loss == plain[1].step_loss
    assert (runs[0][0][0].weight.value == looks[0].weights[-1]).all()
    assert (runs[0][0][0].weight.value != plain[0][0].weight.value).all()


def test_a_moment_that_has_passed_says_so():
    class Keeps:
        def on_epoch(self, moment):
            self.first = getattr(self, "first", moment)

    train(keeper := Keeps(), compiled=True)
    with pytest.raises(GradientError, match="within the callback"):
        _ = keeper.first.gradients
