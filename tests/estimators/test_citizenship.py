"""Good citizens of scikit-learn: pipelines, searches, clones, pickles, frames and sparse X."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import polars
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_iris
from sklearn.exceptions import DataConversionWarning
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import chainrule as cr
from chainrule.estimators import MLPClassifier, MLPRegressor
from chainrule.estimators import sparse as sparse_rows

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
X, Y = load_iris(return_X_y=True)
SMALL: dict[str, Any] = {
    "hidden_layer_sizes": (8,), "random_state": 0, "compile": False, "max_iter": 20,
    "learning_rate_init": 0.05,
}  # fmt: skip


def test_pipeline_grid_search_in_two_processes_and_cross_validation() -> None:
    model = make_pipeline(StandardScaler(), MLPClassifier(**SMALL))
    grid = {"mlpclassifier__activation": ["tanh", "leaky_relu"], "mlpclassifier__dropout": [0.0]}
    found = GridSearchCV(model, grid, cv=3, n_jobs=2).fit(X, Y)
    assert found.best_score_ > 0.9
    regressor = make_pipeline(StandardScaler(), MLPRegressor(**SMALL))
    data, y = load_diabetes(return_X_y=True)
    assert cross_val_score(regressor, data, (y - 150) / 80, cv=3).mean() > 0.3


def test_clone_keeps_every_parameter_and_nothing_learnt() -> None:
    solver = cr.optim.AdamW(lr=0.1)
    model = MLPClassifier(**SMALL, solver=solver, activation=[cr.nn.LeakyReLU(0.2)]).fit(X, Y)
    other = clone(model)
    assert not hasattr(other, "model_")
    assert repr(other.solver) == repr(solver)
    assert other.fit(X, Y).loss_curve_ == model.loss_curve_


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_are_small_hold_no_program_and_learn_on(copied: Any) -> None:
    model = MLPClassifier((8,), random_state=0, max_iter=20, compile=True).fit(X, Y)
    other = copied(model)
    np.testing.assert_array_equal(other.predict_proba(X), model.predict_proba(X))
    parameters = sum(c.nbytes for c in model.coefs_ + model.intercepts_)
    data = pickle.dumps(model)
    assert len(data) < 3 * parameters + 8000  # weights, the optimiser's two means, settings
    assert b"compiler" not in data
    for one in (model, other):
        one.partial_fit(X, Y)
    np.testing.assert_array_equal(other.predict_proba(X), model.predict_proba(X))


def test_frames_keep_their_names() -> None:
    names = ["a", "b", "c", "d"]
    frame = pandas.DataFrame(X, columns=names)
    species = pandas.Series(np.array(["x", "y", "z"])[Y])
    model = MLPClassifier(**SMALL).fit(frame, species)
    assert model.feature_names_in_.tolist() == names
    assert model.loss_curve_ == MLPClassifier(**SMALL).fit(X, Y).loss_curve_
    with pytest.raises(ValueError, match="in the same order"):
        model.predict(frame[names[::-1]])
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        model.predict(X)
    frames = polars.DataFrame(dict(zip(names, X.T, strict=True)))
    other = MLPClassifier(**SMALL).fit(frames, polars.Series(species.to_list()))
    np.testing.assert_array_equal(other.predict(frames), model.predict(frame))


@pytest.mark.parametrize("form", [sparse.csr_matrix, sparse.csc_matrix, sparse.csr_array])
def test_sparse_rows(form: Any) -> None:
    model, other = (MLPClassifier(**SMALL) for _ in range(2))
    other.fit(form(X), Y)
    assert other.loss_curve_ == model.fit(X, Y).loss_curve_
    np.testing.assert_array_equal(other.predict_proba(form(X)), model.predict_proba(X))


@pytest.mark.parametrize("weighted", [True, False])
def test_large_sparse_rows_are_made_dense_batch_by_batch(
    monkeypatch: pytest.MonkeyPatch, weighted: bool
) -> None:
    weight = (np.arange(150) % 3).astype(float) if weighted else None
    model, other = (MLPClassifier(**SMALL, batch_size=32) for _ in range(2))
    model.fit(X, Y, weight)
    widest = []
    monkeypatch.setattr(sparse_rows, "LARGE", 100)
    dense = sparse_rows.dense
    monkeypatch.setattr(sparse_rows, "dense", lambda x: widest.append(x.shape[0]) or dense(x))
    other.fit(sparse.csr_matrix(X), Y, weight)
    assert max(widest) <= 32
    np.testing.assert_allclose(other.loss_curve_, model.loss_curve_)
    np.testing.assert_allclose(other.predict_proba(X), model.predict_proba(X))


def test_weights_can_be_set_by_scikit_learns_names() -> None:
    model = MLPRegressor(**SMALL).fit(X, Y)
    with pytest.raises(ValueError, match="read-only"):
        model.coefs_[0][0, 0] = 1
    model.coefs_[1] = np.zeros((8, 1))
    model.intercepts_ = [model.intercepts_[0], [2.5]]
    assert model.predict(X[:2]).tolist() == [2.5, 2.5]
    with pytest.raises(ValueError, match=r"shape \(8, 1\), not \(3, 1\)"):
        model.coefs_[1] = np.zeros((3, 1))


def test_the_network_saves_and_loads(tmp_path: Path) -> None:
    model = MLPClassifier(**SMALL).fit(X, Y)
    model.save(tmp_path / "iris.safetensors")
    loaded = cr.load(tmp_path / "iris.safetensors")
    assert loaded.predict(X).argmax(1).tolist() == model.predict(X).tolist()


def test_a_network_that_is_gone_on_with_keeps_its_shape() -> None:
    model = MLPClassifier(**{**SMALL, "warm_start": True}).fit(X, Y)
    model.set_params(activation="tanh", dropout=0.1).fit(X, Y)
    assert len(model.loss_curve_) == 40
    with pytest.raises(ValueError, match="warm_start=False"):
        model.set_params(hidden_layer_sizes=(9,)).fit(X, Y)
    with pytest.raises(ValueError, match="same classes"):
        model.set_params(hidden_layer_sizes=(8,)).fit(X[:100], Y[:100])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("alpha", -1), ("batch_size", 0), ("learning_rate_init", 0), ("max_iter", 0),
        ("momentum", 1.5), ("beta_1", 1.0), ("epsilon", 0), ("n_iter_no_change", 0.5),
        ("validation_fraction", 1), ("shuffle", 3), ("solver", "adm"), ("activation", "rel"),
        ("hidden_layer_sizes", (3, 0)), ("learning_rate", 0.1), ("compile", "yes"),
    ],
)  # fmt: skip
def test_parameters_out_of_range_are_named(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name) as error:
        MLPClassifier(**{**SMALL, name: value}).fit(X, Y)
    assert "\n" not in str(error.value)


def test_lbfgs_has_no_partial_fit() -> None:
    model = MLPRegressor(**{**SMALL, "solver": "lbfgs"})
    assert not hasattr(model, "partial_fit")
    with pytest.raises(AttributeError, match="partial_fit"):
        model.partial_fit(X, Y)


def test_without_scikit_learn_one_line_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['sklearn'] = None\n"
        "import chainrule as cr\n"
        "try: cr.estimators\n"
        "except ImportError as error: print(error)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    wanted = "chainrule.estimators needs scikit-learn: pip install 'chainrule[sklearn]'\n"
    assert (said.stdout, said.stderr) == (wanted, "")


def test_classes_that_changed_are_named_as_they_are_written() -> None:
    names = np.array(["setosa", "virginica", "versicolor"])[Y]
    model = MLPClassifier(**{**SMALL, "max_iter": 1}, warm_start=True).fit(X, names)
    with pytest.raises(ValueError, match=r"warm_start can only be used .* now 'x', 'y', 'z'$"):
        model.fit(X, np.array(["x", "y", "z"])[Y])
    with pytest.raises(ValueError, match=r"classes not in `self.classes_`: 'x', 'y', 'z'; known"):
        model.set_params(warm_start=False).partial_fit(X, np.array(["x", "y", "z"])[Y])


def test_a_column_of_classes_is_warned_about_once() -> None:
    with pytest.warns(DataConversionWarning) as seen:
        MLPClassifier(**{**SMALL, "max_iter": 1}, class_weight="balanced").fit(X, Y[:, None])
    assert sum(issubclass(one.category, DataConversionWarning) for one in seen) == 1


def test_callbacks_have_their_own_floating_point_settings() -> None:
    told: list[Any] = []

    class Looks:
        def on_epoch(self, moment: Any) -> bool:
            told.append(np.geterr())
            return len(told) == 2

    with np.errstate(over="warn", under="raise"):
        settings = np.geterr()
        model = MLPClassifier(**SMALL, callbacks=Looks()).fit(X, Y)
    assert told == [settings, settings]
    assert (model.n_iter_, model.stopped_) == (2, True)
    with pytest.raises(TypeError, match="has no method on_step"):
        MLPClassifier(**SMALL, callbacks=[1]).fit(X, Y)


def test_divergence_is_a_value_error_as_there() -> None:
    model = MLPRegressor(**{**SMALL, "solver": "sgd", "learning_rate_init": 1e6})
    with pytest.raises(ValueError, match="training diverged"):
        model.fit(X, X[:, 0])
