"""Networks of scikit-learn, PyTorch and Keras predict here what they predict there."""

from __future__ import annotations

import json
import os
import time
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import chainrule as cr
from chainrule import nn
from chainrule.errors import DataError, ModelFileError, UnknownNameError
from hostile_mutants import mutants

GOLDEN = Path(__file__).parent.parent / "golden"
CLOSE = {"rtol": 1e-6, "atol": 1e-6}


# -- scikit-learn -----------------------------------------------------------------------------

neural_network = pytest.importorskip("sklearn.neural_network")


def data(kind: str, dtype: Any = np.float64) -> tuple[Any, Any]:
    X = np.random.default_rng(0).normal(size=(60, 3)).astype(dtype)
    total = X.sum(1)
    targets = {
        "regression": total,
        "outputs": np.stack([total, X[:, 0] ** 2], axis=1),
        "binary": np.where(total > 0, "yes", "no"),
        "multiclass": np.digitize(total, [-1, 1]) * 10,
        "multilabel": (X[:, :2] > 0).astype(int),
    }
    return X, targets[kind]


def fitted(kind: str, activation: str = "relu", dtype: Any = np.float64, **more: Any) -> Any:
    X, y = data(kind, dtype)
    regression = kind in ("regression", "outputs")
    make = neural_network.MLPRegressor if regression else neural_network.MLPClassifier
    mlp = make(
        hidden_layer_sizes=(5, 4), activation=activation, max_iter=20, random_state=0, **more
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it has not converged
        return mlp.fit(X, y)


def same_predictions(estimator: Any, X: Any, **tolerances: float) -> nn.Sequential:
    """Raw outputs and probabilities are scikit-learn's."""
    raw = cr.from_sklearn(estimator)
    tolerances = tolerances or CLOSE
    if not hasattr(estimator, "predict_proba"):
        expected = estimator.predict(X)
        np.testing.assert_allclose(raw.predict(X).reshape(expected.shape), expected, **tolerances)
        return raw
    expected = estimator.predict_proba(X)
    out = cr.from_sklearn(estimator, probabilities=True).predict(X)
    ours = np.concatenate([1 - out, out], axis=1) if out.shape[1] == 1 else out
    np.testing.assert_allclose(ours, expected, **tolerances)
    logits = raw.predict(X)
    turned = cr.softmax(logits) if logits.shape[1] == 3 else cr.sigmoid(logits)
    np.testing.assert_allclose(np.asarray(turned), out, **tolerances)
    return raw


@pytest.mark.parametrize("kind", ["regression", "outputs", "binary", "multiclass", "multilabel"])
@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
def test_every_mlp_predicts_the_same(kind: str, activation: str) -> None:
    mlp = fitted(kind, activation)
    model = same_predictions(mlp, data(kind)[0])
    assert model.dtype == np.float64
    assert not model.training
    losses = {"regression": "squared_error", "outputs": "squared_error", "binary": "logistic"}
    losses |= {"multiclass": "softmax_cross_entropy", "multilabel": "logistic"}
    assert model.extra["loss"] == losses[kind]
    if hasattr(mlp, "classes_"):
        assert model.extra["classes"] == mlp.classes_.tolist()


def test_float32_stays(tmp_path: Path) -> None:
    model = same_predictions(fitted("multiclass", dtype=np.float32), data("multiclass", "f4")[0])
    assert model.dtype == np.float32
    assert all(p.dtype == np.float32 for p in model.parameters())


def test_classes_are_predicted_through_extra(tmp_path: Path) -> None:
    mlp, X = fitted("binary"), data("binary")[0]
    cr.from_sklearn(mlp).save(tmp_path / "model")
    model = cr.load(tmp_path / "model")
    found = [model.extra["classes"][int(k)] for k in model.predict(X)[:, 0] > 0]
    assert found == mlp.predict(X).tolist()


def test_an_imported_network_is_trained_on_and_explained() -> None:
    mlp, (X, y) = fitted("multiclass"), data("multiclass")
    model = cr.from_sklearn(mlp)
    target = np.searchsorted(mlp.classes_, y)
    loss = getattr(cr.losses, model.extra["loss"])
    before = float(loss(model.predict(X), target))
    adam = cr.optim.Adam(lr=0.01)
    cr.fit(model, X, target, loss=model.extra["loss"], optimizer=adam, epochs=20, batch_size=20)
    assert float(loss(model.predict(X), target)) < 0.9 * before
    value = cr.sum(model(X[:1]))
    assert "W1" in str(cr.explain(value, wrt=model[0].weight))


@pytest.mark.parametrize("kind", ["regression", "binary", "multiclass"])
@pytest.mark.parametrize("scaler", [{}, {"with_mean": False}, {"with_std": False}])
def test_a_scaler_goes_into_the_first_layer(kind: str, scaler: dict[str, bool]) -> None:
    pipeline = pytest.importorskip("sklearn.pipeline")
    from sklearn.preprocessing import StandardScaler

    X, y = data(kind)
    X = X * [1.0, 1e-3, 50.0] + [0.0, 5.0, -1e4]
    X[:, 1] = 7.0 if kind == "binary" else X[:, 1]  # a constant column has scale 1
    mlp = fitted(kind, alpha=0.1)
    whole = pipeline.make_pipeline(StandardScaler(**scaler), "passthrough", mlp)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole.fit(X, y)
    model = same_predictions(whole, X)
    assert [type(layer).__name__ for layer in model] == ["Linear", "ReLU"] * 2 + ["Linear"]


def test_a_scaler_in_float32_loses_nothing() -> None:
    """What is large and cancels needs the digits of float64, in which the fold is made."""
    pipeline = pytest.importorskip("sklearn.pipeline")
    from sklearn.preprocessing import StandardScaler

    X, y = data("regression")
    X = (X + 1000.0).astype(np.float32)
    whole = pipeline.make_pipeline(StandardScaler(), fitted("regression"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole.fit(X, y)
    scaler, mlp = whole[0], whole[1]
    assert mlp.coefs_[0].dtype == np.float32
    out = (X.astype(np.float64) - scaler.mean_) / scaler.scale_
    for k, (weight, bias) in enumerate(zip(mlp.coefs_, mlp.intercepts_, strict=True)):
        out = (np.maximum(out, 0) if k else out) @ weight.astype(np.float64) + bias
    model = cr.from_sklearn(whole)
    np.testing.assert_allclose(model.predict(X), out, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(whole.predict(X), out[:, 0], atol=1e-3)  # its own float32


def test_what_cannot_be_imported_says_why() -> None:
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    mlp = fitted("regression")
    odd = SimpleNamespace(**{**vars(mlp), "out_activation_": "exp"})
    for estimator, words in (
        (neural_network.MLPRegressor(), "MLPRegressor is not fitted: call its fit"),
        (neural_network.MLPRegressor, "got the class MLPRegressor"),
        (LinearRegression(), "got a LinearRegression"),
        (None, "got a NoneType"),
        (make_pipeline(PCA(), mlp), "step 'pca' of the pipeline is a PCA"),
        (make_pipeline(StandardScaler(), mlp), "step 'standardscaler' of the pipeline is not fit"),
        (make_pipeline(StandardScaler().fit(np.eye(2)), mlp), "2 columns, and the network 3 in"),
        (odd, "pass through 'exp'"),
    ):
        with pytest.raises(DataError, match=words):
            cr.from_sklearn(estimator)
    odd = SimpleNamespace(**{**vars(mlp), "activation": "swish"})
    with pytest.raises(UnknownNameError, match="'swish'"):
        cr.from_sklearn(odd)


# -- PyTorch ----------------------------------------------------------------------------------

# Each written by PyTorch 2.13 with what it predicted for "x"; see the end of this file.
EXPECTED = json.loads((GOLDEN / "torch_expected.json").read_text())
SAID: dict[str, Any] = {
    "torch_sequential": "relu",
    "torch_norms": ["gelu", nn.ELU(), "softmax"],
    "torch_named": "tanh",
    "torch_listed": ("sigmoid", "sigmoid"),
    "torch_bfloat16": nn.SiLU(),
    "torch_float16": "tanh",
}


@pytest.mark.parametrize("name", SAID)
def test_a_state_dict_of_pytorch_predicts_the_same(name: str, tmp_path: Path) -> None:
    path = GOLDEN / f"{name}.safetensors"
    model = cr.from_state_dict(path, SAID[name])
    close = {"rtol": 3e-3, "atol": 3e-3} if name == "torch_float16" else CLOSE
    np.testing.assert_allclose(model.predict(EXPECTED["x"]), EXPECTED[name], **close)
    dtypes = {"torch_float16": np.float16, "torch_listed": np.float64}
    assert model.dtype == dtypes.get(name, np.float32)
    assert not model.training
    model.save(tmp_path / "model")
    again = cr.load(tmp_path / "model")
    np.testing.assert_array_equal(again.predict(EXPECTED["x"]), model.predict(EXPECTED["x"]))


def test_a_given_network_is_filled_in() -> None:
    """By order, where its own names are others; float16 widened to its dtype."""
    model = nn.Sequential(nn.Linear(4, 8), nn.Sequential(nn.Tanh(), nn.Linear(8, 2)))
    assert cr.from_state_dict(GOLDEN / "torch_float16.safetensors", model=model) is model
    np.testing.assert_allclose(model.predict(EXPECTED["x"]), EXPECTED["torch_float16"], **CLOSE)
    norms = nn.Sequential(
        nn.Linear(4, 8), nn.BatchNorm1d(8), nn.GELU(), nn.Dropout(0.2), nn.Linear(8, 6),
        nn.LayerNorm(6), nn.ELU(), nn.Linear(6, 2), nn.Softmax(),
    )  # fmt: skip
    cr.from_state_dict(GOLDEN / "torch_norms.safetensors", model=norms)
    np.testing.assert_allclose(norms.predict(EXPECTED["x"]), EXPECTED["torch_norms"], **CLOSE)


def test_a_recurrent_network_is_filled_in() -> None:
    """The tensors of an LSTM have PyTorch's names and order here."""
    model = nn.Sequential(nn.LSTM(3, 5, num_layers=2), nn.Linear(5, 2))
    cr.from_state_dict(GOLDEN / "torch_lstm.safetensors", model=model)
    out = model.predict(np.array(EXPECTED["x_lstm"]))
    np.testing.assert_allclose(out, EXPECTED["torch_lstm"], **CLOSE)


def test_a_mapping_of_tensors_is_taken_too() -> None:
    class Tensor:  # as PyTorch's: NumPy has no bfloat16
        dtype = "torch.bfloat16"

        def __init__(self, values: Any) -> None:
            self.values = values

        def detach(self) -> Tensor:
            return self

        cpu = detach

        def float(self) -> Any:
            return np.array(self.values, np.float32)

    model = cr.from_state_dict({"weight": Tensor([[2.0]]), "bias": Tensor([1.0])})
    assert model.predict([[3.0]]).tolist() == [[7.0]]
    assert model.dtype == np.float32


def dense(*sizes: int, names: list[str]) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    shapes = zip(names, sizes[1:], sizes, strict=False)
    return {f"{name}.weight": rng.normal(size=(out, n)).astype("f4") for name, out, n in shapes}


def test_layers_stand_in_the_order_of_their_numbers() -> None:
    names = [f"fc{k}" for k in range(1, 13)]
    tensors = dense(*[3] * 13, names=names)
    shuffled = dict(sorted(tensors.items()))  # fc1, fc10, fc11, …
    assert next(iter(shuffled)) == "fc1.weight"
    model = cr.from_state_dict(shuffled, "identity")
    x = np.ones((1, 3), np.float32)
    for name in names:
        x = x @ tensors[f"{name}.weight"].T
    np.testing.assert_allclose(model.predict(np.ones((1, 3))), x, rtol=1e-4)


def test_names_without_numbers_stand_as_their_shapes_allow() -> None:
    tensors = dense(3, 5, 4, 2, names=["input", "hidden", "output"])
    model = cr.from_state_dict(dict(sorted(tensors.items())), "tanh")
    assert [getattr(layer, "in_features", 0) for layer in model] == [3, 0, 5, 0, 4]
    blocks = dense(3, 5, 5, 5, 2, names=["net.blocks.0.a", "net.blocks.2.a", "mid", "out"])
    with pytest.raises(ModelFileError, match=r"fit in several ways; number the names"):
        cr.from_state_dict(blocks, "tanh")


def test_activations_stand_in_the_gaps() -> None:
    tensors = dense(3, 5, 4, 2, names=["0", "1", "4"])

    def kinds(*said: Any) -> str:
        return " ".join(type(layer).__name__ for layer in cr.from_state_dict(tensors, *said))

    assert kinds("relu") == "Linear Linear ReLU Linear"
    assert kinds(["tanh", "softmax"]) == "Linear Linear Tanh Linear Softmax"
    assert kinds([nn.LeakyReLU(0.3)]) == "Linear Linear LeakyReLU Linear"
    assert kinds("none") == "Linear Linear Linear"


# -- Keras ------------------------------------------------------------------------------------

# Each written by Keras 3.15 with what it predicted for "x"; see the end of this file.
OF_KERAS = json.loads((GOLDEN / "keras_expected.json").read_text())


@pytest.mark.parametrize(
    ("name", "said"),
    [("keras_dense", ["relu", "tanh", "softmax"]), ("keras_named", "relu")],
)
def test_a_dense_network_of_keras_predicts_the_same(name: str, said: Any) -> None:
    model = cr.from_state_dict(GOLDEN / f"{name}.safetensors", said)
    np.testing.assert_allclose(model.predict(OF_KERAS["x"]), OF_KERAS[name], **CLOSE)
    assert model.dtype == np.float32


def test_normalisations_of_keras_fill_a_given_network() -> None:
    net = nn.Sequential(
        nn.Linear(4, 6), nn.ELU(), nn.BatchNorm1d(6, 1e-3), nn.Linear(6, 5, False), nn.SiLU(),
        nn.LayerNorm(5, 1e-3), nn.Dropout(0.2), nn.Linear(5, 2),
    )  # fmt: skip
    path = GOLDEN / "keras_norm.safetensors"
    out = cr.from_state_dict(path, model=net).predict(OF_KERAS["x"])
    np.testing.assert_allclose(out, OF_KERAS["keras_norm"], **CLOSE)
    with pytest.raises(ModelFileError, match="which side of its normalisations"):
        cr.from_state_dict(path, "elu")


def of_keras(*sizes: int, names: list[str]) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    shapes = zip(names, sizes, sizes[1:], strict=False)
    return {f"{name}/kernel": rng.normal(size=shape).astype("f4") for name, *shape in shapes}


def test_keras_counts_from_a_name_without_a_number() -> None:
    names = ["dense", *[f"dense_{k}" for k in range(1, 12)]]
    tensors = of_keras(*[3] * 13, names=names)
    x = np.ones((1, 3), np.float32)
    for name in names:
        x = x @ tensors[f"{name}/kernel"]
    for again in (dict(sorted(tensors.items())), {f"{k}:0": v for k, v in tensors.items()}):
        model = cr.from_state_dict(again, "identity")
        np.testing.assert_allclose(model.predict(np.ones((1, 3))), x, rtol=1e-4)


def norm(*names: str, n: int = 5) -> dict[str, Any]:
    return {name: np.ones(n, np.float32) for name in names}


FC = dense(3, 5, 2, names=["fc1", "fc2"])
WRONG: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "not said": (FC, {}, "which activations stand behind 'fc1'; pass activations='relu'"),
    "too many": (FC, {"activations": ["relu"] * 3}, "1 places for activations, and 3 were given"),
    "no chain": (
        dense(3, 5, 2, names=["fc1", "x"]) | dense(4, 2, names=["fc2"]),
        {"activations": "relu"}, "do not chain: 'fc1' gives 5 features, and 'fc2' takes 4"),
    "empty": ({}, {}, "has no tensors"),
    "convolution": (
        {"0.weight": np.ones((8, 3, 3, 3))}, {}, r"'0' with weight \[8, 3, 3, 3\], which is no"),
    "recurrent": ({"rnn.weight_ih_l0": np.ones((8, 3))}, {}, "'rnn' with weight_ih_l0"),
    "bias alone": ({"0.bias": np.ones(3)}, {}, "which is no Linear"),
    "bias of another length": (
        {"0.weight": np.ones((2, 3)), "0.bias": np.ones(3)}, {}, "which do not fit"),
    "bias a scalar": ({"0.weight": np.ones((2, 3)), "0.bias": np.ones(())}, {}, "do not fit"),
    "no units": ({"0.weight": np.ones((0, 3))}, {}, "do not fit"),
    "averages of another length": (
        norm("0.weight", "0.bias", "0.running_mean") | {"0.running_var": np.ones(4)}, {},
        "do not fit"),
    "integers": ({"0.weight": np.ones((2, 3), np.int64)}, {}, "of int64; weights are floating"),
    "norms without gaps": (
        FC | norm("bn1.weight", "bn1.bias", "bn1.running_mean", "bn1.running_var"),
        {"activations": "relu"}, "which side of its normalisations"),
    "model of another shape": (
        FC, {"model": nn.Sequential(nn.Linear(3, 5, False), nn.Linear(5, 3, False))},
        r"'fc2' with weight \[2, 5\], and layer 1 of the model takes weight \[3, 5\]"),
    "model with a bias": (
        FC, {"model": nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 2))}, r"weight \[5, 3\], b"),
    "model of other layers": (
        FC, {"model": nn.Sequential(nn.Linear(3, 5))}, "has 2 layers, and the model 1 with"),
    "no order": (
        dense(*[3] * 4, names=["a", "b", "c"]), {"activations": "relu"}, "number the names"),
    "kernel of a convolution": (
        {"conv2d/kernel": np.ones((3, 3, 1, 8), np.float32)}, {},
        r"'conv2d' with weight \[3, 3, 1, 8\], which is no"),
    "a kernel and a weight": (
        of_keras(3, 2, names=["a"]) | dense(3, 2, names=["a"]), {}, "two tensors of one layer"),
    "no order, no chain": (
        dense(*[3] * 12, names=list("abcdefghijk")) | dense(7, 8, names=["l"]),
        {"activations": "relu"}, "number the names|do not chain"),
    "a thousand names": (
        dense(*[3] * 1001, names=["x" * k for k in range(1000)]), {"activations": "relu"},
        "number the names"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("file", [False, True], ids=["mapping", "file"])
def test_what_does_not_fit_is_named(name: str, file: bool, tmp_path: Path) -> None:
    tensors, keywords, words = WRONG[name]
    source: Any = tensors
    if file:
        source = tmp_path / "weights.safetensors"
        save_file(tensors, source)
    start = time.process_time()
    with pytest.raises(ModelFileError, match=words) as caught:
        cr.from_state_dict(source, **keywords)
    assert time.process_time() - start < 3
    message = str(caught.value)
    assert message.startswith(repr(str(source)) if file else "the state dict ")
    assert "\n" not in message
    if "model" in keywords:  # nothing was changed
        assert all(layer.weight.updated == 0 for layer in keywords["model"])


def test_wrong_arguments() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'relu'"):
        cr.from_state_dict(FC, "rleu")
    with pytest.raises(TypeError, match="activations or a model"):
        cr.from_state_dict(FC, "relu", model=nn.Sequential())


@pytest.mark.parametrize("name", ["torch_norms", "torch_named", "torch_bfloat16", "keras_named"])
def test_hostile_files_of_weights_are_refused(name: str, tmp_path: Path) -> None:
    """Any other error, and any warning, would end this; what loads has changed names or numbers."""
    path, said = tmp_path / "weights", SAID.get(name, "relu")
    refused = 0
    for mutant in mutants([(GOLDEN / f"{name}.safetensors").read_bytes()], 300):
        path.write_bytes(mutant.data)
        try:
            cr.from_state_dict(path, said)
        except ModelFileError:
            refused += 1
    assert 150 < refused < 300


def test_a_path_of_weights_that_is_no_file(tmp_path: Path) -> None:
    getattr(os, "mkfifo", os.mkdir)(tmp_path / "pipe")  # Windows has no pipes in folders
    for name in ("none", ".", "pipe"):
        with pytest.raises(ModelFileError, match=r"no such file|no regular file"):
            cr.from_state_dict(tmp_path / name)


# The files were written once, in an environment with PyTorch, by save_file(net.state_dict()) of
#   torch_sequential  Sequential(Linear(4, 8), ReLU(), Linear(8, 8), ReLU(), Linear(8, 3))
#   torch_norms       Sequential(Linear(4, 8), BatchNorm1d(8), GELU(), Dropout(0.2), Linear(8, 6),
#                     LayerNorm(6), ELU(), Linear(6, 2), Softmax(-1)), running averages moved
#   torch_named       attributes fc1, fc2, fc10 of 8 units each, tanh between them, 3 outputs
#   torch_listed      a ModuleList `layers` of three, sigmoid between them, the last without bias,
#                     in float64
#   torch_lstm        attributes lstm, an LSTM(3, 5, num_layers=2), and fc, Linear(5, 2), on its end
#   torch_bfloat16, torch_float16   Sequential(Linear(4, 8), SiLU() or Tanh(), Linear(8, 2))
# and the expected outputs by the same nets in evaluation mode, the last two widened to float32.
#
# Those of Keras by save_file({w.path: np.array(w) for w in net.weights}) of
#   keras_dense       Sequential of Dense(8, "relu"), Dense(8, "tanh"), Dense(3, "softmax")
#   keras_named       Dense layers hidden1 and hidden2 of 4 units with "relu", and out of 1
#   keras_norm        Sequential of Dense(6, "elu"), BatchNormalization, Dense(5, "silu") without
#                     bias, LayerNormalization, Dropout(0.2), Dense(2)
# each weight moved by noise after it was drawn.
