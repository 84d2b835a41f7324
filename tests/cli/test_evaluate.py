"""`chainrule evaluate`: scores with their uncertainty, against scikit-learn's where it is there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainrule.cli import main
from chainrule.data import load_dataset
from chainrule.runs import evaluation


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(name: str, path: str) -> None:
    """A bundled dataset as a CSV file with its target."""
    table = load_dataset(name)
    classes = table.schema.classes
    target = table.target.tolist() if classes is None else [classes[k] for k in table.target]
    header = ",".join([*table.schema.feature_names, table.schema.target])
    rows = [",".join(map(str, [*x, y])) for x, y in zip(table.features, target, strict=True)]
    Path(path).write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")


def evaluated(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["evaluate", *words, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_a_classifier_is_scored_as_scikit_learn_scores_it(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    assert main(["train", "iris", "--epochs", "8", "-q"]) == 0
    written("iris", "iris.csv")
    found = evaluated(capsys, "runs/iris-1", "iris.csv")
    assert main(["predict", "runs/iris-1", "iris.csv", "--proba", "--json"]) == 0
    answers = json.loads(capsys.readouterr().out)
    table = load_dataset("iris")
    names = list(table.schema.classes or ())
    predicted = [names.index(row["species"]) for row in answers]
    chances = [[row[f"p({name})"] for name in names] for row in answers]
    assert found["value"] == metrics.accuracy_score(table.target, predicted)
    assert found["log_loss"] == pytest.approx(metrics.log_loss(table.target, chances))
    assert found["confusion"] == metrics.confusion_matrix(table.target, predicted).tolist()
    expected = metrics.precision_recall_fscore_support(table.target, predicted)
    for k, one in enumerate(found["classes"]):
        mine = [one["precision"], one["recall"], one["f1"], one["rows"]]
        assert mine == pytest.approx([float(part[k]) for part in expected])
    assert found == {**evaluated(capsys, "iris.safetensors", "iris"), "model": "runs/iris-1",
                     "data": "iris.csv"}  # fmt: skip
    assert main(["evaluate", "runs/iris-1", "iris.csv"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"accuracy {found['value']:.2%} on 150 rows (95% interval ")
    assert max(map(len, lines)) <= 80


def test_a_regression_is_scored_as_scikit_learn_scores_it(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    assert main(["train", "diabetes", "--epochs", "8", "-q"]) == 0
    written("diabetes", "rows.csv")
    found = evaluated(capsys, "diabetes.safetensors", "rows.csv")
    assert main(["predict", "diabetes.safetensors", "rows.csv", "--json"]) == 0
    answers = [row["progression"] for row in json.loads(capsys.readouterr().out)]
    target = load_dataset("diabetes").target
    assert found["value"] == pytest.approx(metrics.r2_score(target, answers))
    assert found["rmse"] == pytest.approx(metrics.mean_squared_error(target, answers) ** 0.5)
    assert found["mae"] == pytest.approx(metrics.mean_absolute_error(target, answers))
    assert found["interval"][0] < found["value"] < found["interval"][1]
    assert main(["evaluate", "diabetes.safetensors", "rows.csv"]) == 0
    assert "mean absolute" in capsys.readouterr().out


@given(st.integers(1, 200), st.data())
def test_wilsons_interval_solves_its_equation(rows: int, data: st.DataObject) -> None:
    """Its ends are the shares q with |p − q| = z√(q(1−q)/n)."""
    right = data.draw(st.integers(0, rows))
    p = right / rows
    for q in evaluation.wilson(right, rows):
        assert 0 <= q <= 1
        assert abs(p - q) == pytest.approx(evaluation.Z * (q * (1 - q) / rows) ** 0.5, abs=1e-7)


def test_the_bootstrap_covers_what_it_promises(monkeypatch: pytest.MonkeyPatch) -> None:
    """R² of a known law lies within the interval in about 95 of 100 samples."""
    monkeypatch.setattr(evaluation, "RESAMPLES", 250)
    rng, hits = np.random.default_rng(0), 0
    for seed in range(100):
        x = rng.normal(size=150)
        y = x + rng.normal(size=150)  # the best prediction, x, has R² = 1/2
        low, high = evaluation.bootstrap(x, y, seed)
        hits += low <= 0.5 <= high
    assert 88 <= hits <= 100


def test_one_row_and_a_constant_target_have_no_interval() -> None:
    assert np.isnan(evaluation.bootstrap(np.ones(1), np.ones(1))).all()
    assert np.isnan(evaluation.bootstrap(np.ones(5), np.ones(5))).all()


def test_classes_written_as_numbers(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = "".join(f"{x},{x % 2}\n" for x in range(20))
    Path("bits.csv").write_text(f"x,bit\n{rows}", encoding="utf-8")
    assert main(["train", "bits.csv", "--target", "bit", "--epochs", "1", "-q"]) == 0
    Path("again.csv").write_text("bit,x\n1.0,3\n0,2\n", encoding="utf-8")
    assert evaluated(capsys, "runs/bits-1", "again.csv")["rows"] == 2
    assert main(["evaluate", "runs/bits-1", "iris"]) == 1
    assert "has other columns or classes" in capsys.readouterr().err
