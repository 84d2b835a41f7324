"""LBFGS: minima that are known otherwise, the same path as SciPy's own, and how runs end."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

import chainrule as cr
from chainrule import nn, optim
from chainrule.errors import ChainruleError, DataError, GradientError
from chainrule.train import StopTraining

rng = np.random.default_rng(0)
X = rng.normal(size=(60, 4))
LABELS = (X @ [1.0, -2.0, 0.5, 0.0] + 0.3 * rng.normal(size=60) > 0).astype(int) + (X[:, 3] > 1)
TARGET = X @ rng.normal(size=(4, 2)) + np.sin(X[:, :2])


def network(*, dtype=np.float64, outputs=3, middle=None):
    parts = [nn.Linear(4, 8, dtype=dtype), middle or nn.Tanh(), nn.Linear(8, outputs, dtype=dtype)]
    return nn.Sequential(*parts, seed=0)


def train(model, y=LABELS, *, rule=None, loss="softmax_cross_entropy", epochs=40, **keywords):
    rule = rule or optim.LBFGS()
    keywords = {"progress": False, "batch_size": None, **keywords}
    return cr.fit(model, X, y, loss=loss, optimizer=rule, epochs=epochs, **keywords)


@pytest.mark.parametrize("compile", [True, False])
def test_a_line_meets_least_squares(compile):
    model = nn.Sequential(nn.Linear(4, 2, dtype=np.float64), seed=0)
    rule = optim.LBFGS(tolerance_grad=1e-10, tolerance_change=0)
    history = train(model, TARGET, loss="squared_error", rule=rule, epochs=200, compile=compile)
    expected = np.linalg.lstsq(np.c_[X, np.ones(60)], TARGET, rcond=None)[0]
    np.testing.assert_allclose(model[0].weight.value, expected[:4].T, atol=1e-9)
    np.testing.assert_allclose(model[0].bias.value, expected[4], atol=1e-9)
    assert history.stopped == "converged"
    assert history.compiled == ("yes" if compile else "no")


def by_hand(x, w, decay):
    """Softmax regression in plain NumPy: Σ w·nll / Σ w + ½·decay·‖x‖², and its gradient."""
    weight, bias = x[:12].reshape(3, 4), x[12:]
    logits = X @ weight.T + bias
    truth = np.eye(3)[LABELS]
    value = -(w * (truth * log_softmax(logits, axis=1)).sum(1)).sum() / w.sum()
    delta = (softmax(logits, axis=1) - truth) * (w / w.sum())[:, None]
    return value + 0.5 * decay * x @ x, np.r_[(delta.T @ X).ravel(), delta.sum(0)] + decay * x


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("compile", [True, False])
def test_it_takes_the_path_of_scipy_on_a_gradient_by_hand(weighted, compile):
    w = rng.uniform(0.1, 3, size=60) if weighted else np.ones(60)
    values = []
    options = {"maxiter": 15, "maxcor": 5, "gtol": 1e-6, "ftol": 1e-12}
    model = nn.Sequential(nn.Linear(4, 3, dtype=np.float64), seed=0)
    start = np.r_[model[0].weight.value.ravel(), model[0].bias.value]
    found = minimize(
        by_hand, start, args=(w, 1e-3), jac=True, method="L-BFGS-B", options=options,
        callback=lambda x: values.append(by_hand(x, w, 0)[0]),
    )  # fmt: skip
    rule = optim.LBFGS(
        tolerance_grad=1e-6, tolerance_change=1e-12, history_size=5, weight_decay=1e-3
    )
    given = {"sample_weight": w} if weighted else {}
    history = train(model, rule=rule, epochs=15, compile=compile, **given)
    assert history.epochs == found.nit
    np.testing.assert_allclose(history.loss, values, rtol=1e-9)
    np.testing.assert_allclose(model[0].weight.value.ravel(), found.x[:12], rtol=1e-6)
    assert history.state == {"step": found.nit}


def test_the_history_ends_with_the_loss_of_the_model():
    model = network()
    history = train(model, validation_data=(X, LABELS), metrics=["accuracy"])
    loss = nn.losses.softmax_cross_entropy(model.predict(X), LABELS)
    np.testing.assert_allclose(history.loss[-1], loss, rtol=1e-12)
    np.testing.assert_allclose(history.val_loss, history.loss, rtol=1e-12)
    assert history.loss == history.step_loss
    assert len(history.metrics["val_accuracy"]) == history.epochs
    assert (np.diff(history.loss) <= 0).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_compiled_and_interpreted_agree(dtype):
    results = []
    for compile in (True, False):
        model = network(dtype=dtype)
        results.append((train(model, epochs=8, compile=compile), model))
        assert model.dtype == dtype
    loss, other = (np.asarray(history.loss) for history, _ in results)
    np.testing.assert_allclose(loss, other, rtol=1e-9 if dtype == np.float64 else 2e-3)


def test_batch_norm_keeps_its_averages_once_an_iteration():
    results = []
    for compile in (True, False):
        model = network(middle=nn.BatchNorm1d(8, dtype=np.float64))
        seen = []
        keep = Told(on_epoch=lambda m, seen=seen: seen.append(m.model[0].weight.value.copy()))
        train(model, epochs=3, compile=compile, callbacks=[keep])
        mean, bias = np.zeros(8), 0.0
        before = network(middle=nn.BatchNorm1d(8, dtype=np.float64))
        for weight in seen:  # the bias of a layer before a normalisation has gradient 0
            mean = 0.9 * mean + 0.1 * (X @ weight.T + before[0].bias.value + bias).mean(0)
        np.testing.assert_allclose(model[1].running_mean, mean, rtol=1e-9, atol=1e-12)
        results.append(model.state_dict())
    for name, value in results[0].items():
        np.testing.assert_allclose(value, results[1][name], rtol=1e-6, atol=1e-9)


class Told:
    def __init__(self, **methods):
        vars(self).update(methods)


@pytest.mark.parametrize("event", ["on_step", "on_epoch"])
def test_a_callback_ends_it_at_an_iterate(event):
    def stop(moment):
        assert set(moment.gradients) == {"0.weight", "0.bias", "2.weight", "2.bias"}
        if moment.step == 3:
            raise StopTraining

    model = network()
    history = train(model, callbacks=[Told(**{event: stop})])
    whole = network()
    same = train(whole, epochs=3)
    assert history.stopped == "callback"
    assert history.steps == 3
    assert history.epochs == (3 if event == "on_epoch" else 2)
    assert history.step_loss == same.step_loss
    np.testing.assert_array_equal(model[0].weight.value, whole[0].weight.value)


def test_an_interrupt_keeps_the_last_iterate():
    model, kept = network(), []

    def interrupt(moment):
        kept[:] = [moment.model[0].weight.value.copy()]
        if moment.epoch == 4:
            raise KeyboardInterrupt

    history = train(model, callbacks=[Told(on_epoch=interrupt)])
    assert (history.stopped, history.epochs) == ("interrupted", 4)
    np.testing.assert_array_equal(model[0].weight.value, kept[0])


def test_gradients_told_are_those_of_the_iterate():
    def check(moment):
        moment.model.train()
        loss = nn.losses.softmax_cross_entropy(moment.model(X), LABELS)
        g = loss.backward()[moment.model[0].weight]
        np.testing.assert_allclose(moment.gradients["0.weight"], g, rtol=1e-10, atol=1e-14)

    train(network(), epochs=3, callbacks=[Told(on_epoch=check)])


def test_iterations_are_bounded_by_both():
    assert train(network(), epochs=5).epochs == 5
    assert train(network(), rule=optim.LBFGS(max_iter=4), epochs=5).epochs == 4
    assert train(network(), rule=optim.LBFGS(max_eval=3), epochs=50).epochs <= 4
    assert train(network(), rule="lbfgs", epochs=2, batch_size=7).steps == 2  # all rows at once


def test_a_start_at_rest_has_one_epoch():
    model = nn.Sequential(nn.Linear(4, 2, dtype=np.float64, weight=np.zeros((2, 4))), seed=0)
    history = train(model, np.zeros((60, 2)), loss="squared_error")
    assert (history.stopped, history.loss) == ("converged", [0.0])


def steep(prediction, target):
    """Beyond 1 in any prediction there is no finite loss."""
    return cr.mean(cr.square(prediction - target)) - cr.mean(cr.log(1 - prediction))


@pytest.mark.parametrize("compile", [True, False])
def test_a_trial_beyond_the_finite_numbers_is_shortened(compile):
    model = nn.Sequential(nn.Linear(4, 2, dtype=np.float64, weight=np.zeros((2, 4))), seed=0)
    history = train(model, 30 * TARGET, loss=steep, epochs=60, compile=compile)
    assert np.isfinite(history.loss).all()
    assert (np.diff(history.loss) <= 0).all()
    assert model.predict(X).max() < 1
    assert history.loss[-1] < 0.8 * float(np.mean(np.square(30 * TARGET)))


def test_a_start_beyond_the_finite_numbers_is_refused():
    model = nn.Sequential(nn.Linear(4, 2, dtype=np.float64, weight=np.full((2, 4), 50.0)), seed=0)
    before = model.state_dict()
    with pytest.raises(GradientError, match=r"not finite at the start .* scale the columns"):
        train(model, TARGET, loss=steep)
    np.testing.assert_array_equal(model[0].weight.value, before["0.weight"])


def test_dropout_is_refused():
    with pytest.raises(DataError, match="layer '1' is dropout"):
        train(network(middle=nn.Dropout(0.5)))
    assert train(network(middle=nn.Dropout(0.0)), epochs=1).epochs == 1


def test_without_scipy_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    model = network()
    before = model[0].weight.value
    with pytest.raises(ChainruleError, match=r"pip install 'chainrule\[sklearn\]'"):
        train(model)
    assert model[0].weight.value is before


def looks(prediction, target):
    weight = 2.0 if float(prediction[0, 0]) > -1e9 else 1.0
    return weight * nn.losses.softmax_cross_entropy(prediction, target)


def test_what_cannot_be_compiled_trains_in_numpy_and_says_so():
    with pytest.warns(RuntimeWarning, match="trains in NumPy") as told:
        history = train(network(), loss=looks, epochs=3)
    assert told[0].filename == __file__
    assert history.compiled.startswith("no: ")
    assert history.epochs == 3


def test_settings_out_of_range():
    for settings in (
        {"max_iter": 0}, {"max_eval": 1.5}, {"tolerance_grad": -1}, {"history_size": 0},
        {"tolerance_change": np.nan}, {"weight_decay": -1},
    ):  # fmt: skip
        with pytest.raises(ValueError, match=next(iter(settings))):
            optim.LBFGS(**settings)
