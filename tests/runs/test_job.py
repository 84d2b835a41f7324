"""From a table to a trained network and back, in Python."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

import chainrule as cr
from chainrule.data import load_dataset, split
from chainrule.errors import DataError, ModelFileError, UnknownNameError
from chainrule.runs.job import Predictor, Settings, Trained, network, train_table


def trained(name: str = "iris", **settings: object) -> Trained:
    return train_table(load_dataset(name), Settings(**{"epochs": 5, **settings}), progress=False)


@pytest.mark.parametrize("name", ["iris", "diabetes"])
def test_a_saved_predictor_gives_the_same_numbers(name: str, tmp_path: Path) -> None:
    table, predictor = load_dataset(name), trained(name).predictor
    predictor.save(str(tmp_path / "model"))
    again = Predictor.of(cr.load(tmp_path / "model"))
    assert np.array_equal(again.scores(table.features), predictor.scores(table.features))
    assert again.schema == predictor.schema


def test_the_held_out_rows_teach_nothing() -> None:
    table = load_dataset("iris")
    _, held_out = split(table, 0.2, 0)
    mask = (table.features[:, None] == held_out.features[None]).all(-1).any(1)
    spoilt = dataclasses.replace(table, features=np.where(mask[:, None], 1e3, table.features))
    runs = [train_table(t, Settings(epochs=3), progress=False) for t in (table, spoilt)]
    one, two = (run.predictor.model.params for run in runs)
    assert all((one[name] == two[name]).all() for name in one)


def test_the_score_is_of_the_held_out_rows_and_its_parts_agree() -> None:
    run = trained(epochs=30)
    confusion = np.array(run.score.confusion)
    assert confusion.sum() == run.score.rows == 30
    assert run.train_rows == 120
    assert run.score.value == pytest.approx(np.trace(confusion) / 30)
    assert run.score.baseline == pytest.approx(1 / 3)
    assert run.steps == run.history.steps == 30 * 4


def test_a_regression_answers_in_the_units_of_the_target() -> None:
    table, run = load_dataset("diabetes"), trained("diabetes", epochs=40)
    answers = np.asarray(run.predictor.answers(table.features))
    assert abs(answers.mean() - table.target.mean()) < 10
    residual = table.target - answers
    score = run.predictor.score(table)
    assert score.error == pytest.approx(float(np.sqrt(np.mean(residual**2))))
    assert score.value == pytest.approx(1 - np.var(residual) / np.var(table.target), abs=1e-2)


@pytest.mark.parametrize("field", ["value", "baseline", "error"])
@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_score_that_is_not_finite_does_not_lose_the_model(
    field: str, number: float, tmp_path: Path
) -> None:
    run = trained(epochs=1)
    run.score = dataclasses.replace(run.score, **{field: number})
    run.save(str(tmp_path / "model"))
    assert cr.load(tmp_path / "model").extra["score"][field] is None


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"activation": "relo"}, UnknownNameError, "did you mean 'relu'"),
        ({"optimizer": "adm"}, UnknownNameError, "did you mean 'adam'"),
        ({"schedule": "cosin"}, UnknownNameError, "did you mean 'cosine'"),
        ({"hidden": (0,)}, ValueError, "hidden units must be a whole number of at least 1, got 0"),
        ({"hidden": (2.5,)}, ValueError, "hidden units must be a whole number"),
        ({"epochs": 0}, ValueError, "epochs must be a whole number of at least 1"),
        ({"batch_size": "8"}, ValueError, "batch_size must be a whole number"),
        ({"seed": -1}, ValueError, "seed must be a whole number of at least 0"),
        ({"lr": float("nan")}, DataError, "lr must be a finite number"),
        ({"weight_decay": float("inf")}, DataError, "weight_decay must be a finite number"),
    ],
)
def test_settings(settings: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Settings(**settings)


def test_the_network_has_its_layers_in_order() -> None:
    kinds = [
        type(layer).__name__
        for layer in network(4, 3, Settings(hidden=(5, 6), activation="tanh", dropout=0.1))
    ]
    assert kinds == ["Linear", "Tanh", "Dropout", "Linear", "Tanh", "Dropout", "Linear"]
    assert [type(layer).__name__ for layer in network(4, 3, Settings(hidden=()))] == ["Linear"]


def test_a_network_without_a_schema_is_no_predictor() -> None:
    with pytest.raises(ModelFileError, match="without a table's schema"):
        Predictor.of(cr.nn.Sequential(cr.nn.Linear(1, 1), seed=0))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"optimizer": "lbfgs"},
            r"lbfgs needs scipy: pip install 'chainrule\[sklearn\]'",
        ),
        ({"plots": "png"}, r"plots as png needs matplotlib: pip install 'chainrule\[plots\]'"),
        ({"tensorboard": True}, r"tensorboard needs tensorboardX: .*chainrule\[tensorboard\]'"),
    ],
)
def test_a_package_that_is_missing_is_said_before_anything_is_made(
    tmp_path, monkeypatch, settings, said
):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DataError, match=said):
        train_table(load_dataset("iris"), Settings(**settings), folder=tmp_path / "run")
    assert list(tmp_path.iterdir()) == []
