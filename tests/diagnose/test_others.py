"""Networks of others come to the diagnosis with the training that they had."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn.neural_network as theirs
from scipy.sparse import csr_array
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.datasets import load_diabetes, load_iris, load_wine
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import chainrule as cr
import chainrule.estimators as ours
from chainrule import nn
from chainrule.diagnose.outside.others import Adopted, adopted
from chainrule.errors import DataError, ModelFileError, UnknownNameError
from chainrule.nn import losses, optim

GOLDEN = Path(__file__).parent.parent / "golden"


def scaled(name: str) -> tuple[Any, Any]:
    X, y = {"iris": load_iris, "wine": load_wine, "diabetes": load_diabetes}[name](return_X_y=True)
    if name == "diabetes":
        y = (y - y.mean()) / y.std()
    return StandardScaler().fit_transform(X), y


def fitted(estimator: Any, X: Any, y: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it has not converged
        return estimator.fit(X, y)


def run(found: Adopted, compile: bool = False) -> cr.History:
    return cr.fit(
        found.model, found.X, found.y, loss=found.loss, optimizer=found.optimizer,
        epochs=found.epochs, batch_size=found.batch_size, seed=found.seed, progress=False,
        compile=compile,
    )  # fmt: skip


def weights(estimator: Any) -> list[Any]:
    return [p for pair in zip(estimator.coefs_, estimator.intercepts_, strict=True) for p in pair]


def assert_same_weights(model: Any, estimator: Any, atol: float = 1e-9) -> None:
    for mine, other in zip(model.parameters(), weights(estimator), strict=True):
        np.testing.assert_allclose(np.asarray(mine.value).T, other, rtol=0, atol=atol)


# -- the fit run again ------------------------------------------------------------------------

SOLVERS: dict[str, dict[str, Any]] = {
    "adam": {"solver": "adam", "learning_rate_init": 0.01},
    "adam, other settings": {"solver": "adam", "beta_1": 0.5, "beta_2": 0.9, "epsilon": 0.1},
    "nesterov": {"solver": "sgd", "learning_rate_init": 0.01},
    "momentum": {"solver": "sgd", "learning_rate_init": 0.01, "nesterovs_momentum": False},
    "plain": {"solver": "sgd", "learning_rate_init": 0.01, "momentum": 0.0},
    "whole momentum": {"solver": "sgd", "learning_rate_init": 1e-3, "momentum": 1.0},
    "invscaling": {
        "solver": "sgd", "learning_rate_init": 0.1, "learning_rate": "invscaling", "power_t": 0.2},
}  # fmt: skip


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("name", ["iris", "diabetes"])
def test_the_fit_of_scikit_learn_is_run_again(name: str, solver: str) -> None:
    """In one batch there is no order of rows: losses, without the penalty, and weights agree."""
    X, y = scaled(name)
    make = theirs.MLPRegressor if name == "diabetes" else theirs.MLPClassifier
    mlp = make(
        hidden_layer_sizes=(7, 5), alpha=0.0, random_state=3, batch_size=500, max_iter=30,
        n_iter_no_change=30, **SOLVERS[solver],
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlp.fit(X, y)
    found = adopted(mlp, X, y, from_start=True)
    assert (found.epochs, found.batch_size) == (30, len(X))
    history = run(found)
    np.testing.assert_allclose(history.loss, mlp.loss_curve_, rtol=0, atol=1e-9)
    assert_same_weights(found.model, mlp)


@pytest.mark.parametrize("solver", ["adam", "nesterov"])
@pytest.mark.parametrize("compile", [False, True], ids=["numpy", "native"])
def test_alpha_is_a_decay_of_the_weights_only(solver: str, compile: bool) -> None:
    X, y = scaled("wine")
    mlp = theirs.MLPClassifier(
        (6,), alpha=30.0, random_state=1, max_iter=40, activation="logistic", **SOLVERS[solver]
    )
    found = adopted(fitted(mlp, X, y), X, y, from_start=True)
    history = run(found, compile)
    assert_same_weights(found.model, mlp)
    penalties = 15.0 * sum(np.square(w).sum() for w in mlp.coefs_) / len(X)
    before_last = mlp.loss_curve_[-1] - history.loss[-1]  # its penalty, a step before the end
    assert before_last == pytest.approx(penalties, rel=0.05)
    assert any("alpha=30 is a weight decay of 0.1685 of the weights, not" in s for s in found.said)


def test_several_batches_differ_by_the_order_of_rows_only() -> None:
    X, y = scaled("diabetes")
    mlp = fitted(
        theirs.MLPRegressor(hidden_layer_sizes=(8,), batch_size=32, random_state=0, max_iter=15),
        X,
        y,
    )
    found = adopted(mlp, X, y, from_start=True)
    assert found.batch_size == 32
    np.testing.assert_allclose(run(found).loss, mlp.loss_curve_, rtol=0.02)
    assert "The rows are visited in another order than there." in found.said


def test_lbfgs_is_run_again() -> None:
    X, y = scaled("iris")
    mlp = theirs.MLPClassifier((5,), solver="lbfgs", alpha=0.0, random_state=0, max_iter=12)
    found = adopted(fitted(mlp, X, y), X, y, from_start=True)
    assert isinstance(found.optimizer, optim.LBFGS)
    assert found.batch_size is None
    assert run(found).loss[-1] == pytest.approx(mlp.loss_, abs=1e-9)
    assert_same_weights(found.model, mlp)


@pytest.mark.parametrize("shown", ["classifier", "regressor", "everything"])
def test_our_own_estimators_are_run_again_batch_by_batch(shown: str) -> None:
    """Ours say their seed, so that the order of rows and dropout are the same too."""
    X, y = scaled("diabetes" if shown == "regressor" else "wine")
    more: dict[str, Any] = {
        "classifier": {},
        "regressor": {"solver": "sgd", "learning_rate_init": 0.01},
        "everything": {
            "activation": ["prelu", "sigmoid"], "dropout": 0.1, "batch_norm": True,
            "init": "he_normal", "solver": "adamw", "learning_rate": "cosine", "clip_norm": 1.0,
            "weight_decay": 0.1,
        },
    }[shown]  # fmt: skip
    kind = ours.MLPRegressor if shown == "regressor" else ours.MLPClassifier
    mlp = kind(
        hidden_layer_sizes=(6, 5), alpha=0.0, batch_size=40, random_state=2, max_iter=8,
        compile=False, **more,
    )  # fmt: skip
    found = adopted(fitted(mlp, X, y), X, y, from_start=True)
    history = run(found)
    np.testing.assert_allclose(history.loss, mlp.loss_curve_, rtol=0, atol=1e-12)
    for mine, other in zip(found.model.parameters(), mlp.model_.parameters(), strict=True):
        np.testing.assert_allclose(mine.value, other.value, rtol=0, atol=1e-12)


def test_a_fit_that_ended_early_is_run_to_the_end() -> None:
    X, y = scaled("iris")
    mlp = theirs.MLPClassifier((4,), random_state=0, alpha=0.0, tol=0.1, max_iter=80).fit(X, y)
    assert mlp.n_iter_ < 40
    again = adopted(mlp, X, y, from_start=True)
    assert again.epochs == 80
    ended = f"The fit ended after {mlp.n_iter_} of 80 epochs, as its loss no longer fell by tol=0.1"
    assert any(ended in sentence for sentence in again.said)
    np.testing.assert_allclose(run(again).loss[: mlp.n_iter_], mlp.loss_curve_, rtol=0, atol=1e-9)
    steps = theirs.MLPRegressor(hidden_layer_sizes=(4,), random_state=0)
    for _ in range(3):
        steps.partial_fit(X, y)
    assert adopted(steps, X, y, from_start=True).epochs == 3


def test_without_from_start_the_run_goes_on_from_the_fitted_weights() -> None:
    X, y = scaled("wine")
    mlp = fitted(theirs.MLPClassifier((5,), random_state=4, max_iter=25), X, y)
    found = adopted(mlp, X, y)
    assert_same_weights(found.model, mlp, atol=0)
    assert found.said[0].startswith("The run goes on from the fitted weights; from_start=True")
    assert (found.loss, found.seed, found.epochs) == (losses.softmax_cross_entropy, 4, 25)
    copied = adopted(fitted(ours.MLPClassifier((5,), random_state=4, max_iter=9), X, y), X, y)
    assert_same_weights(copied.model, ours_of(X, y), atol=0)


def ours_of(X: Any, y: Any) -> Any:
    return fitted(ours.MLPClassifier((5,), random_state=4, max_iter=9), X, y)


def test_the_network_that_is_given_stays_as_it_is() -> None:
    X, y = scaled("wine")
    mlp = fitted(ours.MLPClassifier((5,), random_state=4, max_iter=3), X, y)
    before = mlp.model_.state_dict()
    for from_start in (False, True):
        run(adopted(mlp, X, y, from_start=from_start))
    for name, value in mlp.model_.state_dict().items():
        assert (value == before[name]).all()


@pytest.mark.parametrize("state", [None, np.random.RandomState(5)])
def test_a_start_that_nobody_knows_is_said(state: Any) -> None:
    X, y = scaled("iris")
    mlp = fitted(theirs.MLPClassifier((4,), random_state=state, max_iter=3), X, y)
    a, b = (adopted(mlp, X, y, from_start=True) for _ in range(2))
    assert "random_state is no number, so the fit's own start is lost" in a.said[0]
    assert a.seed == 0
    for p, q in zip(a.model.parameters(), b.model.parameters(), strict=True):
        assert (p.value == q.value).all()


def test_what_is_left_aside_is_said() -> None:
    X, y = scaled("iris")
    mlp = ours.MLPClassifier(
        (4,), solver="sgd", learning_rate="adaptive", batch_size=50, shuffle=False,
        early_stopping=True, class_weight="balanced", max_iter=3, random_state=0,
    )  # fmt: skip
    words = " ".join(adopted(fitted(mlp, X, y), X, y).said)
    for part in (
        "'adaptive' is held at the rate that it begins with, 0.001",
        "shuffle=False is left aside",
        "early_stopping held some of the rows back",
        "class_weight='balanced' is left aside",
    ):
        assert part in words
    made = ours.MLPClassifier((4,), solver=optim.RMSprop(lr=0.02), max_iter=3, random_state=0)
    found = adopted(fitted(made, X, y), X, y)
    assert isinstance(found.optimizer, optim.RMSprop)
    assert found.optimizer.lr == 0.02
    assert any("alpha=0.0001 is left aside; the solver's own" in s for s in found.said)


def test_what_the_caller_says_counts_first() -> None:
    X, y = scaled("iris")
    mlp = fitted(theirs.MLPClassifier((4,), random_state=0, max_iter=3), X, y)
    found = adopted(
        mlp, X, y, loss="nll", optimizer=optim.SGD(lr=0.5), epochs=7, batch_size=None, seed=9
    )
    assert found.loss is losses.nll
    assert isinstance(found.optimizer, optim.SGD)
    assert (found.epochs, found.batch_size, found.seed) == (7, None, 9)


# -- targets and columns ----------------------------------------------------------------------


@pytest.mark.parametrize("make", [np.asarray, pd.Series, lambda y: pl.Series(list(y)), list])
@pytest.mark.parametrize("kind", [theirs.MLPClassifier, ours.MLPClassifier])
def test_classes_are_encoded_as_the_estimator_has_them(kind: Any, make: Any) -> None:
    X, y = scaled("iris")
    y = np.array(["setosa", "versicolor", "virginica"])[y]
    for rows in (slice(0, 100), slice(0, 150)):
        words = make(y[rows])
        mlp = fitted(kind((4,), random_state=0, max_iter=40), X[rows], np.asarray(words))
        found = adopted(mlp, X[rows], words)
        assert found.y.tolist() == np.unique(y[rows], return_inverse=True)[1].tolist()
        assert found.classes == tuple(np.unique(y[rows]))
        name = "logistic" if len(found.classes) == 2 else "softmax_cross_entropy"
        assert found.loss is losses.get(name)
        assert "y is encoded as 'setosa' → 0, 'versicolor' → 1" in found.said[0]
        right = np.mean(np.asarray(mlp.predict(X[rows])) == y[rows])
        net = found.model.predict(found.X)
        chosen = net[:, 0] > 0 if net.shape[1] == 1 else net.argmax(1)
        assert np.mean(chosen == found.y) == right


def test_other_targets() -> None:
    X, y = scaled("iris")
    tens = fitted(theirs.MLPClassifier((4,), random_state=0, max_iter=3), X, y * 10)
    assert adopted(tens, X, y * 10).y.tolist() == y.tolist()
    labels = (X[:, :2] > 0).astype(int)
    several = fitted(theirs.MLPClassifier((4,), random_state=0, max_iter=3), X, labels)
    found = adopted(several, X, labels)
    assert found.loss is losses.logistic
    assert (found.y == labels).all()
    numbers = fitted(
        theirs.MLPRegressor(hidden_layer_sizes=(4,), random_state=0, max_iter=3), X, X[:, :2]
    )
    assert adopted(numbers, X, X[:, :2]).y.shape == (150, 2)
    with pytest.raises(DataError, match=r"y\[3\] is 7, and this estimator was fitted on 0, 10, 20"):
        adopted(tens, X, [0, 10, 20, 7] + [0] * 146)
    with pytest.raises(DataError, match=r"y holds 'a' at row 0 \(from 0\), .*; a regression"):
        adopted(numbers, X, ["a"] * 150)


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame])
def test_columns_have_their_names(frame: Any) -> None:
    values = {"height": [1.0, 2.0, 3.0, 4.0], "age": [3, 1, 2, 5], "member": [True, False] * 2}
    X, y = frame(values), [0, 1, 0, 1]
    mlp = fitted(theirs.MLPClassifier((3,), random_state=0, max_iter=2), X, y)
    found = adopted(mlp, X, y)
    assert found.columns == ("height", "age", "member")
    assert found.X.tolist() == [[1, 3, 1], [2, 1, 0], [3, 2, 1], [4, 5, 0]]
    plain = adopted(mlp, found.X, y)  # the estimator remembers them
    assert plain.columns == found.columns
    model = nn.Sequential(nn.Linear(3, 2), seed=0)
    assert adopted(model, X, y, "softmax_cross_entropy").columns == found.columns
    with pytest.raises(DataError, match="'size' is not in its place"):
        adopted(mlp, frame({"size": [1.0] * 4, "age": [1] * 4, "member": [True] * 4}), y)


@pytest.mark.parametrize(
    "column",
    [
        pd.DataFrame({"a": pd.array([1, None], "Int64"), "b": [1.0, 2.0]}),
        pl.DataFrame({"a": [1, None], "b": [1.0, 2.0]}),
        np.array([[1, 1.0], [None, 2.0]], object),
        [[1, 1.0], [float("nan"), 2.0]],
    ],
)
def test_gaps_are_left_for_the_diagnosis_to_find(column: Any) -> None:
    model = nn.Sequential(nn.Linear(2, 1), seed=0)
    found = adopted(model, column, [1.0, 2.0], "squared_error")
    np.testing.assert_array_equal(found.X, [[1, 1], [np.nan, 2]])


def test_columns_that_are_no_numbers_are_named() -> None:
    model = nn.Sequential(nn.Linear(2, 1), seed=0)
    for X, words in (
        (pd.DataFrame({"a": [1, 2], "town": ["x", "y"]}), "X, column 'town', holds 'x' at row 0"),
        ([["1", 2.0]], "X holds '1' at row 0, column 0"),
        (np.array([[1.0, "2"]], object), "X holds '2' at row 0, column 1"),
        ([[1.0], [1.0, 2.0]], "ragged"),
    ):
        with pytest.raises(DataError, match=words):
            adopted(model, X, [0.0, 1.0], "squared_error")


@pytest.mark.parametrize(
    ("X", "y", "words"),
    [
        (None, [1.0], "X is of type NoneType; give an array of shape"),
        ({"a": [1.0]}, [1.0], "X is of type dict"),
        ([1.0, 2.0], [1.0, 2.0], r"X has shape \(2,\); give an array of shape \(rows, columns\)"),
        (np.zeros((0, 1)), [], r"X has shape \(0, 1\); give at least one row"),
        ([[1.0], [2.0]], [1.0], "X has 2 rows, y has 1 rows; give one target for each row"),
        ([[1.0]], None, "y is of type NoneType; give an array with one target a row"),
        ([[1.0], [2.0]], [[1.0], [2.0, 3.0]], "y is ragged"),
        ([[1.0]], [["a", "b"]], "y holds text in 2 columns"),
        ([[1.0]], [1j], "y holds 1j at row 0"),
    ],
)
def test_what_is_no_table_is_refused_in_one_line(X: Any, y: Any, words: str) -> None:
    model = nn.Sequential(nn.Linear(1, 1), seed=0)
    with pytest.raises(DataError, match=words) as caught:
        adopted(model, X, y, "squared_error")
    assert "\n" not in str(caught.value)


def test_sparse_rows_are_made_dense() -> None:
    X, y = scaled("iris")
    mlp = fitted(theirs.MLPClassifier((3,), random_state=0, max_iter=2), csr_array(X), y)
    assert (adopted(mlp, csr_array(X), y).X == X).all()


def test_rows_pass_through_the_steps_before() -> None:
    X, y = load_iris(return_X_y=True, as_frame=True)
    mlp = theirs.MLPClassifier((4,), random_state=0, max_iter=20)
    pipe = fitted(make_pipeline(StandardScaler(), "passthrough", PCA(3), mlp), X, y)
    found = adopted(pipe, X, y, from_start=True)
    np.testing.assert_allclose(found.X, pipe[:-1].transform(X))
    assert found.columns == ("pca0", "pca1", "pca2")
    assert found.said[0].startswith("X has passed through 'standardscaler', 'pca' of the pipeline")
    assert run(found).loss[0] == pytest.approx(mlp.loss_curve_[0], abs=1e-4)  # but for alpha
    named = fitted(
        make_pipeline(ColumnTransformer([("s", StandardScaler(), list(X.columns[:2]))]), mlp), X, y
    )
    assert adopted(named, X, y).columns == ("s__sepal length (cm)", "s__sepal width (cm)")


# -- networks and weights ---------------------------------------------------------------------


def test_a_module_passes_through() -> None:
    model = nn.Sequential(nn.Linear(2, 2), seed=0)
    X = np.ones((4, 2))
    found = adopted(model, X, [0, 1, 1, 0], "softmax_cross_entropy")
    assert found.model is model
    assert found.X is X
    assert isinstance(found.optimizer, optim.Adam)
    assert (found.epochs, found.batch_size, found.seed, found.said) == (10, 32, 0, ())
    with pytest.raises(TypeError, match=r"needs the loss .* 'squared_error'"):
        adopted(model, X, [0, 1, 1, 0])
    with pytest.raises(UnknownNameError, match="did you mean 'squared_error'"):
        adopted(model, X, [0, 1, 1, 0], "squared_eror")


def test_an_imported_or_saved_model_knows_its_loss_and_classes(tmp_path: Path) -> None:
    X, y = scaled("iris")
    words = np.array(["setosa", "versicolor", "virginica"])[y]
    mlp = fitted(theirs.MLPClassifier((4,), random_state=0, max_iter=3), X, words)
    model = cr.from_sklearn(mlp)
    model.save(tmp_path / "iris.safetensors")
    for given in (model, tmp_path / "iris.safetensors", str(tmp_path / "iris.safetensors")):
        found = adopted(given, X, words)
        assert found.loss is losses.softmax_cross_entropy
        assert found.y.tolist() == y.tolist()
    with pytest.raises(DataError, match=r"y\[0\] is 'rose', and the classes are 'setosa', 'vers"):
        adopted(model, X, ["rose"] * 150)


def test_strings_for_a_network_without_classes_are_sorted() -> None:
    model = nn.Sequential(nn.Linear(1, 2), seed=0)
    found = adopted(model, [[1.0], [2.0], [3.0]], ["b", "a", "b"], "softmax_cross_entropy")
    assert found.y.tolist() == [1, 0, 1]
    assert found.classes == ("a", "b")
    with pytest.raises(DataError, match=r"y\[1\] is None, and y has 'a', 'b'"):
        adopted(model, [[1.0]] * 3, ["b", None, "a"], "softmax_cross_entropy")


@pytest.mark.parametrize(
    ("name", "said"),
    [("torch_sequential", "relu"), ("keras_dense", ["relu", "tanh", "softmax"])],
)
def test_weights_of_pytorch_and_keras_are_read(name: str, said: Any) -> None:
    expected = json.loads((GOLDEN / f"{name.partition('_')[0]}_expected.json").read_text())
    X = np.array(expected["x"])
    found = adopted(GOLDEN / f"{name}.safetensors", X, [0, 1, 2, 0, 1, 2], "nll", activations=said)
    np.testing.assert_allclose(found.model.predict(found.X), expected[name], rtol=1e-5, atol=1e-6)


def test_a_state_dict_is_read() -> None:
    tensors = {"0.weight": np.eye(2), "2.weight": np.ones((1, 2))}
    found = adopted(tensors, [[1.0, -1.0]], [1.0], "squared_error", activations="relu")
    assert found.model.predict(found.X).tolist() == [[1.0]]
    with pytest.raises(ModelFileError, match="which activations stand behind '0'"):
        adopted(tensors, [[1.0, -1.0]], [1.0], "squared_error")
    with pytest.raises(ModelFileError, match=r"use chainrule\.from_state_dict"):
        adopted(GOLDEN / "torch_named.safetensors", [[1.0]], [1.0], "squared_error")


# -- what cannot be diagnosed -----------------------------------------------------------------


def test_what_cannot_be_diagnosed_says_what_can() -> None:
    X, y = scaled("iris")
    mlp = fitted(theirs.MLPClassifier((4,), random_state=0, max_iter=3), X, y)
    torch = SimpleNamespace(state_dict=dict)
    keras = SimpleNamespace(get_weights=list, weights=[])
    search = GridSearchCV(mlp, {"alpha": [1.0]}, cv=2)
    turned = TransformedTargetRegressor(theirs.MLPRegressor(max_iter=2))
    for model, words in (
        (
            LinearRegression(),
            "diagnose takes a network of chainrule.nn, .* got a LinearRegression$",
        ),
        (None, "got a NoneType"),
        (nn.Linear, "got the class Linear"),
        (theirs.MLPClassifier(), "this MLPClassifier is not fitted; diagnose takes one after"),
        (theirs.MLPClassifier, "got the class MLPClassifier$"),
        (ours.MLPRegressor(), "this MLPRegressor is not fitted"),
        (make_pipeline(StandardScaler(), LinearRegression()), "ends with a LinearRegression"),
        (fitted(search, X, y), "give its best_estimator_"),
        (fitted(turned, X, y), "give its regressor_, and y as its transformer_"),
        (torch, r"give its state_dict\(\), and activations='relu'"),
        (keras, r"give {w.path: np.array\(w\) for w in model.weights}"),
    ):
        with pytest.raises(TypeError, match=words):
            adopted(model, X, y, "squared_error")


def test_arguments_that_do_not_belong() -> None:
    X, y = scaled("iris")
    mlp = fitted(theirs.MLPClassifier((4,), random_state=0, max_iter=3), X, y)
    model = cr.from_sklearn(mlp)
    with pytest.raises(TypeError, match="activations= is for the weights"):
        adopted(mlp, X, y, activations="relu")
    with pytest.raises(TypeError, match="from_start= is for fitted estimators"):
        adopted(model, X, y, from_start=True)
    with pytest.raises(
        DataError, match=r"X has shape \(150, 2\), and this network takes 4 columns"
    ):
        adopted(mlp, X[:, :2], y)
    for name in ("epochs", "batch_size"):
        with pytest.raises(ValueError, match=f"{name} must be a whole number of at least 1, got 0"):
            adopted(model, X, y, **{name: 0})


def test_a_loss_that_is_none_of_ours_is_asked_for() -> None:
    X = np.random.default_rng(0).normal(size=(40, 2))
    y = np.random.default_rng(1).poisson(np.exp(X[:, 0]))
    mlp = fitted(ours.MLPRegressor(loss="poisson", random_state=0, max_iter=3), X, y)
    with pytest.raises(TypeError, match="needs the loss"):
        adopted(mlp, X, y)
    assert adopted(mlp, X, y, loss=lambda a, t: cr.mean(cr.exp(a) - t * a)).epochs == 3
    other = fitted(theirs.MLPRegressor(loss="poisson", random_state=0, max_iter=3), X, y)
    with pytest.raises(TypeError, match=r"MLPRegressor cannot be diagnosed: the outputs .* 'exp'"):
        adopted(other, X, y)


def test_scikit_learn_is_not_imported_for_a_network_of_ours() -> None:
    import subprocess

    code = (
        "import sys, chainrule as cr\nfrom chainrule.diagnose.outside.others import adopted\n"
        "adopted(cr.nn.Sequential(cr.nn.Linear(1, 1)), [[1.0]], [1.0], 'squared_error')\n"
        "assert 'sklearn' not in sys.modules and 'narwhals' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
