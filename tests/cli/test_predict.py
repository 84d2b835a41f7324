"""`chainrule predict`: any number of rows in, as many answers out."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule.cli import main
from chainrule.data import load_dataset
from chainrule.runs import job
from cli.fruit import ROWS, TEXT

COMMAND = [sys.executable, "-m", "chainrule"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fruit.csv").write_text(TEXT, encoding="utf-8")
    return tmp_path


def train(*words: str) -> None:
    assert main(["train", *words]) == 0


def chainrule(*words: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    options = {"capture_output": True, "timeout": 60, **options}
    return subprocess.run([*COMMAND, *words], check=False, **options)


def test_predict_gives_the_answers_of_the_model(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train("fruit.csv", "--target", "ripe", "--epochs", "60", "-q")
    assert main(["predict", "fruit.safetensors", "fruit.csv", "--proba", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found) == len(ROWS)
    right = [row["ripe"] == ripe for row, (_, _, ripe) in zip(found, ROWS, strict=True)]
    assert np.mean(right) > 0.8
    for row in found:
        assert row["ripe"] == max(["no", "yes"], key=lambda name: row[f"p({name})"])
        assert row["p(no)"] + row["p(yes)"] == pytest.approx(1)


def test_predict_reads_standard_input_with_columns_in_any_order(folder: Path) -> None:
    train("fruit.csv", "--target", "ripe", "--epochs", "5", "-q")
    turned = "colour;size\n" + "".join(f"{c};{x:.3f}\n" for x, c, _ in ROWS)
    piped = chainrule("predict", "fruit.safetensors", "-", input=turned.encode())
    plain = chainrule("predict", "fruit.safetensors", "fruit.csv")
    assert piped.stdout == plain.stdout
    assert plain.stdout.decode().splitlines()[0] == "ripe"


def test_predict_writes_a_whole_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train("diabetes", "--epochs", "2", "-q")
    table = load_dataset("diabetes")
    header = ",".join(table.schema.feature_names)
    rows = "\n".join(",".join(map(repr, row)) for row in table.features.tolist())
    Path("rows.csv").write_text(f"{header}\n{rows}\n", encoding="utf-8")
    words = ["predict", "diabetes.safetensors", "rows.csv", "-o", "answers.csv"]
    assert main(words) == 0
    answers = np.loadtxt("answers.csv", skiprows=1)
    expected = job.Predictor.of(cr.load("diabetes.safetensors")).scores(table.features)
    np.testing.assert_allclose(answers, expected, rtol=1e-8)
    assert main(words) == 1
    assert "exists already" in capsys.readouterr().err
    assert main([*words, "--force"]) == 0


def test_a_run_folder_json_lines_and_csv_say_the_same(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train("fruit.csv", "--target", "ripe", "--epochs", "5", "-q")
    outputs = {}
    for flag in ("--json", "--jsonl", ""):
        words = ["predict", "runs/fruit-1", "fruit.csv", "--proba", *flag.split()]
        assert main(words) == 0
        outputs[flag] = capsys.readouterr().out
    listed = json.loads(outputs["--json"])
    assert [json.loads(line) for line in outputs["--jsonl"].splitlines()] == listed
    rows = outputs[""].splitlines()
    assert rows[0] == "ripe,p(no),p(yes)"
    assert rows[1] == ",".join(
        f"{v:.9g}" if isinstance(v, float) else v for v in listed[0].values()
    )
    assert main(["predict", "runs/fruit-1", "fruit.csv", "--json", "--jsonl"]) == 2


def test_a_stranger_among_the_categories(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train("fruit.csv", "--target", "ripe", "--epochs", "1", "-q")
    Path("odd.csv").write_text("size,colour\n1,a\n2,c\n", encoding="utf-8")
    assert main(["predict", "fruit.safetensors", "odd.csv", "-o", "answers.csv"]) == 1
    assert "odd.csv, line 3, column 'colour'" in capsys.readouterr().err
    assert not Path("answers.csv").exists()
    assert main(["predict", "fruit.safetensors", "odd.csv", "--unknown", "ignore"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3


@pytest.mark.parametrize("text", [b"", b"size,colour\n", b"size\n1\n", b"size,colour\n1\n"])
def test_odd_standard_input_is_one_line_of_error(folder: Path, text: bytes) -> None:
    train("fruit.csv", "--target", "ripe", "--epochs", "1", "-q")
    done = chainrule("predict", "fruit.safetensors", "-", input=text)
    assert (done.returncode, done.stdout) == (1, b"")
    assert len(done.stderr.splitlines()) == 1
    assert b"should not happen" not in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX resource limits")
def test_memory_does_not_grow_with_the_rows(folder: Path) -> None:
    """Ten times the rows, at most a quarter more memory."""
    train("fruit.csv", "--target", "ripe", "--linear", "--epochs", "1", "-q")
    code = """
import resource, sys
from chainrule.cli import main
assert main(["predict", "fruit.safetensors", "-"]) == 0
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
"""
    peaks = []
    for count in (20_000, 200_000):
        text = b"size,colour\n" + b"0.25,a\n1.5,b\n" * (count // 2)
        words = [sys.executable, "-c", code]
        done = subprocess.run(words, input=text, capture_output=True, timeout=100, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count(b"\n") == count + 1
        peaks.append(int(done.stderr))
    assert peaks[1] < 1.25 * peaks[0]
