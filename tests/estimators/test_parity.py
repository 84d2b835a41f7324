"""Configured alike and started alike, the estimators do what scikit-learn's do."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import sklearn.neural_network as theirs
from sklearn.datasets import load_diabetes, load_digits, load_iris, load_linnerud, load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import StandardScaler

import chainrule.estimators as ours

TABLES = {"iris": load_iris, "digits": load_digits, "wine": load_wine, "diabetes": load_diabetes}
SOLVERS: dict[str, dict[str, Any]] = {
    "adam": {"solver": "adam"},
    "nesterov": {"solver": "sgd", "learning_rate_init": 0.01},
    "momentum": {"solver": "sgd", "learning_rate_init": 0.01, "nesterovs_momentum": False},
    "plain": {"solver": "sgd", "learning_rate_init": 0.01, "momentum": 0.0},
    "invscaling": {"solver": "sgd", "learning_rate_init": 0.1, "learning_rate": "invscaling"},
    "adaptive": {
        "solver": "sgd", "learning_rate_init": 0.05, "learning_rate": "adaptive",
        "tol": 0.05, "n_iter_no_change": 2,
    },
}  # fmt: skip


def scaled(name: str, rows: int = 10**6) -> tuple[Any, Any]:
    X, y = TABLES[name](return_X_y=True)
    if name == "diabetes":
        y = (y - y.mean()) / y.std()
    return StandardScaler().fit_transform(X)[:rows], y[:rows]


def pair(name: str, **parameters: Any) -> tuple[Any, Any]:
    """Both estimators for a table, fitted alike."""
    kind = "MLPRegressor" if name in ("diabetes", "linnerud") else "MLPClassifier"
    return tuple(
        getattr(room, kind)(
            **{"hidden_layer_sizes": (15,), "shuffle": False, "random_state": 3, **parameters}
        )
        for room in (theirs, ours)
    )  # type: ignore[return-value]


def fitted(models: tuple[Any, Any], *data: Any, **keywords: Any) -> tuple[Any, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for model in models:
            model.fit(*data, **keywords)
    return models


def assert_alike(a: Any, b: Any) -> None:
    assert len(a.loss_curve_) == len(b.loss_curve_) == b.n_iter_
    np.testing.assert_allclose(b.loss_curve_, a.loss_curve_, rtol=0, atol=1e-6)
    assert (b.t_, b.n_layers_, b.n_outputs_) == (a.t_, a.n_layers_, a.n_outputs_)
    assert b.out_activation_ == a.out_activation_
    for mine, other in zip(b.coefs_ + b.intercepts_, a.coefs_ + a.intercepts_, strict=True):
        np.testing.assert_allclose(mine, other, rtol=0, atol=1e-6)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("name", TABLES)
def test_loss_curves_of_twenty_iterations(name: str, solver: str) -> None:
    a, b = fitted(pair(name, max_iter=20, alpha=0.1, **SOLVERS[solver]), *scaled(name, 400))
    assert_alike(a, b)
    assert b.coefs_[0].dtype == np.float64


@pytest.mark.parametrize("name", TABLES)
def test_lbfgs_after_any_number_of_iterations(name: str) -> None:
    X, y = scaled(name, 400)
    (b,) = fitted((pair(name, solver="lbfgs", max_iter=20, alpha=0.1)[1],), X, y)
    for count in (1, 2, 5, 10, 20):
        (a,) = fitted((pair(name, solver="lbfgs", max_iter=count, alpha=0.1)[0],), X, y)
        assert abs(b.loss_curve_[count - 1] - a.loss_) < 1e-6
    assert b.n_iter_ == a.n_iter_ == 20
    assert abs(b.loss_ - a.loss_) < 1e-6


@pytest.mark.parametrize("compile", [True, False])
def test_machine_code_and_numpy_agree(compile: bool) -> None:
    a, b = pair("iris", max_iter=20, activation="tanh", hidden_layer_sizes=(7, 5))
    assert_alike(*fitted((a, b.set_params(compile=compile)), *scaled("iris")))


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
def test_every_activation_starts_and_trains_alike(activation: str) -> None:
    a, b = fitted(pair("wine", activation=activation, max_iter=3), *scaled("wine"))
    assert_alike(a, b)


def test_several_outputs_report_their_mean_and_descend_their_sum() -> None:
    X, y = (StandardScaler().fit_transform(part) for part in load_linnerud(return_X_y=True))
    a, b = fitted(pair("linnerud", max_iter=20, batch_size=8), X, y)
    assert_alike(a, b)
    np.testing.assert_allclose(b.predict(X), a.predict(X))
    _, c = pair("linnerud", max_iter=50, solver="lbfgs", alpha=0.0)
    fitted((c,), X, y)
    assert c.loss_ == pytest.approx(0.5 * np.mean((c.predict(X) - y) ** 2))


def test_weighted_rows() -> None:
    X, y = scaled("iris")
    weight = np.random.default_rng(0).uniform(0.1, 3, len(X))
    assert_alike(*fitted(pair("iris", max_iter=20, alpha=1.0), X, y, sample_weight=weight))


def test_poisson() -> None:
    X = np.random.default_rng(0).normal(size=(90, 3))
    y = np.random.default_rng(1).poisson(np.exp(X[:, 0]))
    a, b = fitted(pair("diabetes", max_iter=20, loss="poisson", early_stopping=True), X, y)
    assert_alike(a, b)
    np.testing.assert_allclose(b.validation_scores_, a.validation_scores_)
    np.testing.assert_allclose(b.predict(X), a.predict(X))
    with pytest.raises(ValueError, match="y ≥ 0"):
        b.fit(X, y - 5)


@pytest.mark.parametrize("name", ["iris", "diabetes"])
def test_early_stopping_holds_out_the_same_rows(name: str) -> None:
    models = pair(name, max_iter=60, early_stopping=True, n_iter_no_change=4, tol=1e-3)
    a, b = fitted(models, *scaled(name))
    assert_alike(a, b)
    np.testing.assert_allclose(b.validation_scores_, a.validation_scores_)
    assert b.best_validation_score_ == pytest.approx(a.best_validation_score_)
    assert b.best_loss_ is None
    assert len(b.validation_loss_curve_) == b.n_iter_


def test_binary_and_multilabel() -> None:
    X, y = scaled("wine")
    assert_alike(*fitted(pair("wine", max_iter=10), X, y == 1))
    several = np.stack([y == 0, X[:, 0] > 0], axis=1).astype(int)
    a, b = fitted(pair("wine", max_iter=40), X, several)
    assert_alike(a, b)
    np.testing.assert_allclose(b.predict_proba(X), a.predict_proba(X))
    np.testing.assert_array_equal(b.predict(X), a.predict(X))


def test_warm_start_and_partial_fit_go_on_alike() -> None:
    X, y = scaled("iris")
    models = pair("iris", max_iter=5, warm_start=True, solver="sgd", learning_rate="invscaling")
    for _ in range(3):
        fitted(models, X, y)
    a, b = models
    assert len(b.loss_curve_) == 15
    np.testing.assert_allclose(b.loss_curve_, a.loss_curve_, rtol=0, atol=1e-9)
    for solver in ("adam", "sgd"):
        a, b = pair("iris", solver=solver, learning_rate="adaptive", tol=0.1, n_iter_no_change=1)
        for _ in range(8):
            for model in (a, b):
                model.partial_fit(X, y, classes=[0, 1, 2])
        np.testing.assert_allclose(b.loss_curve_, a.loss_curve_, rtol=0, atol=1e-9)


def test_verbose_prints_what_scikit_learn_prints(capsys: Any) -> None:
    texts = []
    for model in pair("iris", max_iter=200, verbose=True, tol=0.1, n_iter_no_change=2):
        model.fit(*scaled("iris"))
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1]
    assert "Stopping." in texts[1]
