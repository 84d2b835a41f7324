"""Early stopping and falling rates: by hand on given numbers, in fit, and across a checkpoint."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import chainrule as cr
from chainrule import nn
from chainrule.errors import UnknownNameError
from chainrule.nn import optim
from chainrule.train import Moment, StopTraining
from chainrule.train.history import History
from chainrule.train.stopping import EarlyStopping, ReduceLROnPlateau

NAN = math.nan


class Model:
    """What the callbacks see of a model: its weights are the number of the epoch."""

    epoch = 0

    def state_dict(self):
        return {"w": np.array([float(self.epoch)])}

    def load_state_dict(self, state):
        self.epoch = int(state["w"][0])


def feed(callback, values, monitor="val_loss", lr=1.0, history=None):
    """The values epoch by epoch, as fit tells them; where it stopped, the model, the rates."""
    model, optimizer, rates = Model(), SimpleNamespace(lr=lr), []
    history = History() if history is None else history
    columns = getattr(history, monitor, None)
    columns = history.metrics.setdefault(monitor, []) if columns is None else columns
    moment = None
    for value in values:
        history.loss.append(0.5)
        columns.append(value)
        model.epoch = history.epochs
        moment = Moment(model, history, history.epochs, history.epochs, 0.5, {}, optimizer)
        stopped = callback.on_epoch(moment)
        rates.append(optimizer.lr)
        if stopped:
            break
    if moment is not None:
        callback.on_end(moment)
    return history.epochs, model.epoch, rates


# -- early stopping ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "settings", "stop", "best"),
    [
        ([5, 4, 3, 2, 1], {}, 5, 5),
        ([5, 4, 4, 4, 9], {"patience": 2}, 4, 2),
        ([5, 4, 4.5, 3, 4, 4, 4], {"patience": 3}, 7, 4),
        ([5, 4.95, 4.9, 4.85, 4], {"patience": 2, "min_delta": 0.1}, 3, 1),
        ([5, 4.85, 4.7, 4.7, 4.69], {"patience": 2, "min_delta": 0.1}, 5, 3),
        ([NAN, 3, NAN, NAN, 1], {"patience": 2}, 4, 2),
        ([NAN, NAN, NAN], {"patience": 3}, 3, None),
        ([math.inf, 3, 2], {"patience": 1}, 3, 3),
        ([1, 2, 3], {"patience": 1, "mode": "max"}, 3, 3),
    ],
)
def test_where_it_stops_and_what_it_restores(values, settings, stop, best):
    callback = EarlyStopping(**settings)
    epochs, restored, _ = feed(callback, values)
    assert (epochs, callback.best_epoch) == (stop, best)
    assert restored == (best or stop)
    assert callback.best_value == (None if best is None else values[best - 1])


@pytest.mark.parametrize("monitor", ["accuracy", "val_accuracy", "val_r2"])
def test_accuracy_is_better_where_it_is_higher(monitor):
    callback = EarlyStopping(monitor, patience=2)
    assert feed(callback, [0.5, 0.9, 0.8, 0.7, 1.0], monitor)[:2] == (4, 2)


def test_without_restoring_the_last_weights_stay():
    callback = EarlyStopping(patience=2, restore_best=False)
    assert feed(callback, [3, 1, 2, 2, 2])[:2] == (4, 4)
    assert (callback.best_epoch, callback.best_value) == (2, 1)


def test_each_run_starts_anew():
    callback = EarlyStopping(patience=3)
    feed(callback, [0.1, 5, 5, 5])
    assert feed(callback, [3, 2, 1])[:2] == (3, 3)
    assert callback.best_value == 1
    # a run that ends before its first epoch has nothing to restore
    model = Model()
    model.epoch = 77
    callback.on_end(Moment(model, History(), 1, 3, 0.5, {}, None))
    assert model.epoch == 77


@settings(max_examples=50, deadline=None)
@given(st.data())
@pytest.mark.parametrize("kind", [EarlyStopping, ReduceLROnPlateau])
def test_a_resumed_run_goes_on_to_the_bit(kind, data):
    values = data.draw(st.lists(st.sampled_from([1.0, 2.0, 2.5, NAN, 0.5]), min_size=2, max_size=9))
    cut = data.draw(st.integers(0, len(values)))

    def make():
        if kind is EarlyStopping:
            return EarlyStopping(patience=3)
        return ReduceLROnPlateau(patience=1, cooldown=1, factor=0.5)

    whole, first, second = make(), make(), make()
    expected = feed(whole, values)
    history = History()
    *_, rates = feed(_NoEnd(first), values[:cut], history=history)
    second.load_state_dict(first.state_dict())
    if kind is EarlyStopping and first.waited == 3:
        return
    resumed = History(loss=list(history.loss), val_loss=list(history.val_loss))
    lr = rates[-1] if rates else 1.0
    epochs, restored, more = feed(second, values[cut:], history=resumed, lr=lr)
    assert second.state_dict().keys() == whole.state_dict().keys()
    np.testing.assert_equal(second.state_dict(), whole.state_dict())
    if cut < len(values):
        assert (epochs, restored, rates + more) == expected
    plain = {k: v for k, v in whole.state_dict().items() if not isinstance(v, dict)}
    json.dumps(plain)


class _NoEnd:
    def __init__(self, callback):
        self.on_epoch = callback.on_epoch

    def on_end(self, moment):
        pass


# -- falling rates ----------------------------------------------------------------------------


def test_rates_as_in_pytorch():
    # By hand from the rule of torch.optim.lr_scheduler.ReduceLROnPlateau.
    values = [1.0, 0.99995, 1.0, 1.0, 0.5, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6]
    callback = ReduceLROnPlateau(factor=0.5, patience=2)
    # 0.99995 is no improvement by a share of 1e-4: the third in a row, at epoch 4, reduces
    assert feed(callback, values)[2] == [1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.125]
    assert callback.reductions == [[4, 0.5], [8, 0.25], [11, 0.125]]
    callback = ReduceLROnPlateau(factor=0.5, patience=2, threshold_mode="abs", threshold=0)
    assert feed(callback, values)[2][:5] == [1, 1, 1, 1, 1]
    callback = ReduceLROnPlateau(factor=0.1, patience=0, cooldown=2, min_lr=0.05)
    rates = feed(callback, [1.0] * 7)[2]
    np.testing.assert_allclose(rates, [1, 0.1, 0.1, 0.1, 0.05, 0.05, 0.05], rtol=1e-15)
    callback = ReduceLROnPlateau("val_accuracy", factor=0.5, patience=1, threshold=0.1)
    assert feed(callback, [0.5, 0.54, 0.54, 0.6, 0.6], "val_accuracy")[2] == [1, 1, 0.5, 0.5, 0.5]
    assert feed(ReduceLROnPlateau(patience=0), [NAN, 1.0])[2] == [0.1, 0.1]


# -- in fit -----------------------------------------------------------------------------------

rng = np.random.default_rng(1)
X, NOISE = rng.normal(size=(60, 6)), rng.normal(size=60)


def train(*, epochs=60, seed=0, model=None, **keywords):
    parts = [nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 1)]
    model = model or nn.Sequential(*parts, seed=seed)
    settings = {"loss": "squared_error", "optimizer": optim.Adam(lr=0.02), "progress": False}
    settings["validation_data"] = (X[40:], NOISE[40:])
    history = cr.fit(model, X[:40], NOISE[:40], epochs=epochs, **{**settings, **keywords})
    return model, history


@pytest.mark.parametrize("compile", [True, False])
def test_fit_ends_with_the_best_weights(compile):
    stop = EarlyStopping(patience=4)
    model, history = train(callbacks=[stop], compile=compile)
    assert history.stopped == "callback"
    assert history.epochs == stop.best_epoch + 4
    assert stop.best_value == min(history.val_loss)
    loss = nn.losses.squared_error(model.predict(X[40:]), NOISE[40:])
    np.testing.assert_allclose(loss, stop.best_value, rtol=1e-6)
    shorter, _ = train(epochs=stop.best_epoch, compile=compile)
    for name, value in shorter.params.items():
        np.testing.assert_array_equal(model.params[name], value)
    again, other = train(callbacks=[stop], compile=compile)  # the same callback, a second time
    assert other.loss == history.loss
    np.testing.assert_array_equal(again.params["0.weight"], model.params["0.weight"])


def test_buffers_are_restored_with_the_weights():
    def net():
        return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 1), seed=0)

    stop = EarlyStopping(patience=3)
    model, _ = train(model=net(), callbacks=[stop])
    shorter, _ = train(model=net(), epochs=stop.best_epoch)
    for name, value in shorter.state_dict().items():
        np.testing.assert_array_equal(model.state_dict()[name], value)


def test_the_best_averages_are_restored():
    stop = EarlyStopping(patience=3)
    model, history = train(
        optimizer=optim.EMA(optim.Adam(lr=0.02), decay=0.9), callbacks=[stop], epochs=200
    )
    assert history.stopped == "callback"
    loss = nn.losses.squared_error(model.predict(X[40:]), NOISE[40:])
    np.testing.assert_allclose(loss, min(history.val_loss), rtol=1e-6)


@pytest.mark.parametrize("compile", [True, False])
def test_a_lower_rate_is_what_the_next_epoch_takes(compile):
    rule = optim.SGD(lr=0.4)
    slower = ReduceLROnPlateau(patience=0, threshold=1.0, factor=0.5)  # nothing is good enough
    model, _ = train(optimizer=rule, callbacks=[slower], epochs=4, compile=compile)
    assert slower.reductions == [[2, 0.2], [3, 0.1], [4, 0.05]]
    assert rule.lr == 0.4
    by_hand = optim.SGD(lr=lambda step: [0.4, 0.4, 0.2, 0.1][step // 2])
    same, _ = train(optimizer=by_hand, epochs=4, compile=compile)
    np.testing.assert_allclose(model.params["0.weight"], same.params["0.weight"], rtol=1e-6)


@pytest.mark.parametrize("compile", [True, False])
def test_resumed_from_a_checkpoint_to_the_bit(tmp_path, compile):
    def callbacks():
        return [EarlyStopping(patience=6), ReduceLROnPlateau(patience=1, factor=0.7)]

    class Break:
        def on_epoch(self, moment):
            if moment.epoch == 5 and not done:
                done.append(True)
                raise KeyboardInterrupt

    done = [True]
    rule = {"optimizer": optim.Adam(lr=0.02), "compile": compile}
    whole, expected = train(callbacks=[*callbacks(), Break()], **rule)
    done.clear()
    rule = {"optimizer": optim.Adam(lr=0.02), "compile": compile, "checkpoint": tmp_path / "kept"}
    _, first = train(callbacks=[*callbacks(), Break()], **rule)
    assert first.stopped == "interrupted"
    rule["optimizer"] = optim.Adam(lr=0.02)
    again = [*callbacks(), Break()]
    model, history = train(callbacks=again, resume=True, **rule)
    assert history.val_loss == expected.val_loss
    assert history.epochs == again[0].best_epoch + 6
    for name, value in whole.state_dict().items():
        np.testing.assert_array_equal(model.state_dict()[name], value)


def test_with_lbfgs():
    stop = EarlyStopping(patience=3)
    model, history = train(optimizer="lbfgs", callbacks=[stop])
    assert history.stopped == "callback"
    loss = nn.losses.squared_error(model.predict(X[40:]), NOISE[40:])
    np.testing.assert_allclose(loss, min(history.val_loss), rtol=1e-6)


# -- what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [EarlyStopping, ReduceLROnPlateau])
def test_a_number_that_is_not_measured(kind):
    with pytest.raises(UnknownNameError, match=r"'val_loss'.*give fit validation_data"):
        train(callbacks=[kind()], validation_data=None)
    with pytest.raises(UnknownNameError, match=r"'accuracy'.*add it to fit's metrics"):
        train(callbacks=[kind("accuracy")])


def test_a_rate_that_is_no_number():
    for rule in (optim.SGD(lr=optim.cosine(0.1, 10)), "lbfgs"):
        with pytest.raises(ValueError, match="lowers a learning rate that is a number"):
            train(optimizer=rule, callbacks=[ReduceLROnPlateau()])


@pytest.mark.parametrize("kind", [EarlyStopping, ReduceLROnPlateau])
def test_settings_out_of_range(kind):
    with pytest.raises(ValueError, match="say mode='min' or mode='max'"):
        kind("val_f1")
    with pytest.raises(ValueError, match="mode must be"):
        kind(mode="maximum")
    with pytest.raises(ValueError, match="patience"):
        kind(patience=-1)
    assert kind("val_f1", mode="max").mode == "max"
    for wrong in ({"factor": 1.0}, {"threshold_mode": "x"}, {"cooldown": -1}, {"min_lr": -1}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            ReduceLROnPlateau(**wrong)
    with pytest.raises(ValueError, match="min_delta"):
        EarlyStopping(min_delta=-0.1)


def test_they_show_how_they_are_made():
    assert repr(EarlyStopping(patience=3)) == (
        "EarlyStopping(monitor='val_loss', mode='min', patience=3, min_delta=0.0,"
        " restore_best=True)"
    )
    assert repr(ReduceLROnPlateau("loss")).startswith(
        "ReduceLROnPlateau(monitor='loss', mode='min'"
    )


def test_stopping_by_an_exception_of_another_callback_restores_as_well():
    class Leave:
        def on_epoch(self, moment):
            if moment.epoch == 3:
                raise StopTraining

    stop = EarlyStopping(patience=50)
    model, _ = train(callbacks=[stop, Leave()])
    shorter, _ = train(epochs=stop.best_epoch)
    np.testing.assert_array_equal(model.params["0.weight"], shorter.params["0.weight"])
