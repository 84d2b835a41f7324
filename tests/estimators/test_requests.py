"""What users of scikit-learn's MLP have asked for: a test each, named after its issue."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import StandardScaler

import chainrule as cr
from chainrule.estimators import MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
X, Y = load_iris(return_X_y=True)
X = StandardScaler().fit_transform(X)
SMALL: dict[str, Any] = {"hidden_layer_sizes": (8,), "random_state": 0, "compile": False}


def small(**parameters: Any) -> MLPClassifier:
    return MLPClassifier(**{**SMALL, "max_iter": 20, **parameters})


def rare() -> tuple[Any, Any]:
    """One class in twenty, hard to tell."""
    rng = np.random.default_rng(0)
    y = (np.arange(400) % 20 == 0).astype(int)
    return rng.normal(size=(400, 2)) + y[:, None], y


# scikit-learn#9113, #10588, #25326
def test_9113_10588_25326_class_weight() -> None:
    X, y = rare()
    found = {
        name: small(class_weight=given, max_iter=150, learning_rate_init=0.01).fit(X, y)
        for name, given in {"none": None, "balanced": "balanced", "dict": {0: 1, 1: 19}}.items()
    }
    recall = {name: model.predict(X)[y == 1].mean() for name, model in found.items()}
    assert recall["none"] < 0.3 < 0.6 < recall["balanced"]
    np.testing.assert_allclose(
        found["dict"].predict_proba(X), found["balanced"].predict_proba(X), atol=1e-3
    )
    by_rows = small(max_iter=150, learning_rate_init=0.01).fit(
        X, y, sample_weight=np.where(y, 10, 400 / 760)
    )
    np.testing.assert_allclose(by_rows.loss_curve_, found["balanced"].loss_curve_)
    with pytest.raises(ValueError, match="needs all rows at once"):
        small(class_weight="balanced").partial_fit(X, y, classes=[0, 1])


# scikit-learn#6175, #7407
def test_6175_7407_dropout() -> None:
    a, b = (small(dropout=0.5, max_iter=5).fit(X, Y) for _ in range(2))
    assert a.loss_curve_ == b.loss_curve_ != small(max_iter=5).fit(X, Y).loss_curve_
    np.testing.assert_array_equal(a.predict_proba(X), a.predict_proba(X))
    deep = small(hidden_layer_sizes=(8, 6), dropout=[0.0, 0.25]).fit(X, Y)
    assert [m.p for m in deep.model_ if isinstance(m, cr.nn.Dropout)] == [0.25]
    with pytest.raises(ValueError, match="2 entries for 1 hidden"):
        small(dropout=[0.1, 0.2]).fit(X, Y)


# scikit-learn#11952, #10665, #26912
def test_11952_10665_26912_leaky_relu_and_every_other_activation() -> None:
    for name in (
        "leaky_relu", "prelu", "elu", "selu", "gelu", "silu", "softplus", "softsign", "hard_tanh",
        "maxout", "sigmoid",
    ):  # fmt: skip
        model = small(activation=name, max_iter=60, learning_rate_init=0.02).fit(X, Y)
        assert model.score(X, Y) > 0.8, name
    layer = small(activation=cr.nn.LeakyReLU(0.3), max_iter=3).fit(X, Y).model_[1]
    assert layer.negative_slope == 0.3
    mixed = small(hidden_layer_sizes=(4, 3), activation=["tanh", "gelu"], max_iter=3).fit(X, Y)
    assert [type(m).__name__ for m in mixed.model_] == [
        "Linear",
        "Tanh",
        "Linear",
        "GELU",
        "Linear",
    ]
    with pytest.raises(ValueError, match="did you mean 'leaky_relu'"):
        small(activation="leakyrelu").fit(X, Y)


# scikit-learn#18507
def test_18507_validation_loss_curve() -> None:
    model = small(max_iter=12).fit(X[::2], Y[::2], validation_data=(X[1::2], Y[1::2]))
    assert len(model.validation_loss_curve_) == len(model.loss_curve_) == 12
    last = -np.log(model.predict_proba(X[1::2])[np.arange(75), Y[1::2]]).mean()
    assert model.validation_loss_curve_[-1] == pytest.approx(last)  # the data's, without penalty
    stopped = small(early_stopping=True).fit(X, Y)
    assert len(stopped.validation_loss_curve_) == stopped.n_iter_ > 5
    assert small().fit(X, Y).validation_loss_curve_ is None


# scikit-learn#25693
def test_25693_early_stopping_with_partial_fit() -> None:
    model = small(early_stopping=True, n_iter_no_change=3, tol=1e-3, learning_rate_init=0.02)
    for _ in range(300):
        model.partial_fit(X, Y, classes=[0, 1, 2])
        if model.stopped_:
            break
    assert 5 < len(model.validation_scores_) < 300
    assert model.best_validation_score_ == max(model.validation_scores_)
    before = model.predict_proba(X)
    with pytest.warns(ConvergenceWarning, match="stopped early"):
        model.partial_fit(X, Y)
    np.testing.assert_array_equal(model.predict_proba(X), before)
    again = pickle.loads(pickle.dumps(model))
    assert again.stopped_
    own = small(early_stopping=True)
    own.partial_fit(X[::2], Y[::2], classes=[0, 1, 2], validation_data=(X[1::2], Y[1::2]))
    assert own.validation_scores_ == [own.score(X[1::2], Y[1::2])]


# scikit-learn#33774
def test_33774_string_labels_with_early_stopping() -> None:
    names = load_iris().target_names[Y]
    model = small(early_stopping=True, max_iter=80, learning_rate_init=0.02).fit(X, names)
    numbers = small(early_stopping=True, max_iter=80, learning_rate_init=0.02).fit(X, Y)
    assert model.validation_scores_ == numbers.validation_scores_
    assert model.score(X, names) == numbers.score(X, Y) > 0.8
    assert model.classes_.tolist() == ["setosa", "versicolor", "virginica"]


# scikit-learn#12505
def test_12505_multilabel_partial_fit() -> None:
    several = np.stack([Y == 0, Y == 1, X[:, 0] > 0], axis=1).astype(int)
    model = small(learning_rate_init=0.05)
    for _ in range(60):
        model.partial_fit(X, several)
    assert model.score(X, several) > 0.5
    assert model.predict(X).shape == model.predict_proba(X).shape == (150, 3)
    with pytest.raises(ValueError, match="3 columns"):
        model.partial_fit(X, several[:, :2])


# scikit-learn#6021
def test_6021_progress(capsys: Any) -> None:
    small(progress=True, max_iter=3).fit(X, Y)
    seen = capsys.readouterr()
    assert "3/3" in seen.err
    assert seen.out == ""
    small(max_iter=3).fit(X, Y)
    assert capsys.readouterr() == ("", "")


# scikit-learn#24524
def test_24524_callbacks_ours_and_theirs() -> None:
    epochs = []

    class Ours:
        def on_epoch(self, moment: Any) -> bool:
            epochs.append(moment.history.loss[-1])
            return moment.epoch == 7

    model = small(callbacks=[Ours()]).fit(X, Y)
    assert model.n_iter_ == 7
    assert epochs == model.loss_curve_

    pytest.importorskip("sklearn.callback")
    told: list[Any] = []

    class Theirs:
        def setup(self, estimator: Any, context: Any) -> None:
            told.append("setup")

        def teardown(self, estimator: Any, context: Any) -> None:
            told.append("teardown")

        def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
            pass

        def on_fit_task_end(
            self, estimator: Any, context: Any, *, X: Any, fitted_estimator: Any
        ) -> bool:
            told.append((context.task_name, float(fitted_estimator.predict_proba(X)[0, 0])))
            return context.task_id == 4 and context.task_name == "epoch"

    model = small().set_callbacks(Theirs()).fit(X, Y)
    assert model.n_iter_ == 5
    assert [one[0] for one in told[1:-1]] == ["epoch"] * 5 + ["fit"]
    assert told[-2][1] == told[-3][1] == pytest.approx(model.predict_proba(X)[0, 0])
    assert (told[0], told[-1]) == ("setup", "teardown")
    assert len({value for _, value in told[1:-1]}) == 5  # each epoch's own network


# scikit-learn#29504
@pytest.mark.parametrize("kind", [MLPRegressor, MLPClassifier])
def test_29504_a_run_that_diverges_names_the_learning_rate(kind: Any) -> None:
    model = kind(**SMALL, solver="sgd", learning_rate_init=1e30, activation="identity")
    with pytest.raises(cr.GradientError, match=r"Lower the learning rate \(it is 1e\+30\)"):
        model.fit(X * 1e3, Y)
    assert np.isfinite(model.coefs_[0]).all()


def test_batch_norm() -> None:
    model = small(batch_norm=True, batch_size=149, max_iter=60, learning_rate_init=0.05).fit(
        X, Y
    )  # 1 row would be left
    assert model.score(X, Y) > 0.9
    assert any(isinstance(m, cr.nn.BatchNorm1d) for m in model.model_)
    np.testing.assert_allclose(model.predict_proba(X[:1]), model.predict_proba(X)[:1])


@pytest.mark.parametrize("solver", ["adamw", "rmsprop", "adagrad", cr.optim.AdamW(lr=0.02)])
def test_every_optimiser(solver: Any) -> None:
    model = small(solver=solver, learning_rate_init=0.02, max_iter=60).fit(X, Y)
    assert model.score(X, Y) > 0.8
    model.partial_fit(X, Y)
    assert len(model.loss_curve_) == 61


def test_schedules_and_clipping() -> None:
    curve = small(learning_rate="cosine", learning_rate_init=0.05).fit(X, Y).loss_curve_
    made = small(learning_rate=cr.optim.cosine(0.05, 20), learning_rate_init=9.0).fit(X, Y)
    assert made.loss_curve_ == curve
    assert small(learning_rate="one_cycle").fit(X, Y).n_iter_ == 20
    bounded = small(solver="sgd", momentum=0.0, clip_norm=1e-6, learning_rate_init=1.0, max_iter=3)
    start = small(solver="sgd", momentum=0.0, clip_norm=1e-9, max_iter=1).fit(X, Y)
    moved = bounded.fit(X, Y).coefs_[0] - start.coefs_[0]
    assert 0 < np.linalg.norm(moved) < 1e-5
    with pytest.raises(ValueError, match="did you mean 'adaptive'"):
        small(learning_rate="adaptve").fit(X, Y)


def test_losses_of_ones_own() -> None:
    y = X[:, 0] * 2
    y[::10] += 50
    robust = MLPRegressor("huber", **SMALL, max_iter=150, learning_rate_init=0.05).fit(X, y)
    plain = MLPRegressor(**SMALL, max_iter=150, learning_rate_init=0.05).fit(X, y)
    error = [np.median(np.abs(m.predict(X) - y)) for m in (robust, plain)]
    assert error[0] < 0.5 * error[1]

    def fourth(prediction: Any, target: Any, sample_weight: Any = None) -> Any:
        return cr.mean((prediction - target) ** 4)

    model = MLPRegressor(fourth, **SMALL, max_iter=2, alpha=0.0, shuffle=False).fit(X, X[:, 0])
    assert model.loss_curve_[0] > model.loss_curve_[1]


def test_calibration_on_request() -> None:
    X, y = load_breast_cancer(return_X_y=True)
    X = StandardScaler().fit_transform(X)
    y = np.where(np.random.default_rng(0).random(len(y)) < 0.1, 1 - y, y)  # nobody can be sure
    sharp: dict[str, Any] = {
        "hidden_layer_sizes": (30,), "solver": "lbfgs", "max_iter": 60, "random_state": 0,
        "alpha": 0.0, "validation_fraction": 0.3, "tol": 0.0,
    }  # fmt: skip
    plain = MLPClassifier(**sharp).fit(X[::2], y[::2])
    model = MLPClassifier(**sharp, calibration="temperature").fit(X[::2], y[::2])
    assert model.temperature_ > 1.5

    def loss(model: Any) -> float:
        return float(-np.mean(model.predict_log_proba(X[1::2])[np.arange(284), y[1::2]]))

    assert loss(model) < 0.7 * loss(plain)
    np.testing.assert_array_equal(
        model.predict(X), model.classes_[model.predict_proba(X).argmax(1)]
    )
    with pytest.raises(ValueError, match="calibration must be"):
        MLPClassifier(**sharp, calibration="platt").fit(X, y)


def test_float32_end_to_end() -> None:
    X, y = (part[:300] for part in load_digits(return_X_y=True))
    model = MLPClassifier((16,), random_state=0, max_iter=5).fit(X.astype(np.float32) / 16, y)
    assert {a.dtype for a in model.coefs_ + model.intercepts_} == {np.dtype(np.float32)}
    assert model.predict_proba(X.astype(np.float32)).dtype == np.float32
    double = MLPClassifier((16,), random_state=0, max_iter=5).fit(X / 16, y)
    np.testing.assert_allclose(model.loss_curve_, double.loss_curve_, rtol=1e-4)
    for kind in (MLPRegressor, lambda **k: MLPRegressor("poisson", **k)):
        fit = kind(**SMALL, max_iter=3).fit(X.astype(np.float32) / 16, y)
        assert fit.predict(X.astype(np.float32) / 16).dtype == np.float32


def test_explain_a_weight() -> None:
    X, y = load_wine(return_X_y=True)
    X = StandardScaler().fit_transform(X)
    model = MLPClassifier((5,), random_state=0, alpha=2.0, max_iter=10).fit(X, y)
    found = model.explain(X, y, "W1[3,2]")
    assert "∂loss/∂W1[3,2]" in str(found)

    def loss(w: float) -> float:
        moved = MLPClassifier((5,), random_state=0, alpha=2.0, max_iter=10).fit(X, y)
        first = np.array(moved.coefs_[0])
        first[2, 3] = w
        moved.coefs_[0] = first
        data = -np.log(moved.predict_proba(X)[np.arange(len(X)), y]).mean()
        return float(data + sum((c**2).sum() for c in moved.coefs_) / len(X))

    w, h = model.coefs_[0][2, 3], 1e-5
    slope = (loss(w + h) - loss(w - h)) / (2 * h)
    assert found.gradient(model.model_[0].weight)[3, 2] == pytest.approx(slope, rel=1e-5)
    assert abs(slope) > 1e-4
