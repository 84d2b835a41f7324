"""`chainrule train` and `predict`: what they write, print and leave behind, however they end."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule.cli import main
from chainrule.cli.main import COMMANDS
from chainrule.data import load_dataset
from chainrule.runs import job

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals and devices")
COMMAND = [sys.executable, "-m", "chainrule"]
ROWS = [(x / 7, "ab"[x % 2], "yes" if (x > 20) == (x % 2) else "no") for x in range(42)]
TEXT = "size,colour,ripe\n" + "".join(f"{x:.3f},{c},{r}\n" for x, c, r in ROWS)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    (tmp_path / "fruit.csv").write_text(TEXT, encoding="utf-8")
    return tmp_path


def train(*words: str, status: int = 0) -> None:
    assert main(["train", *words]) == status


def chainrule(*words: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    options = {"capture_output": True, "timeout": 60, **options}
    return subprocess.run([*COMMAND, *words], check=False, **options)


# -- what is written --------------------------------------------------------------------------


def test_the_model_is_named_after_the_data_and_lies_here(folder: Path) -> None:
    (folder / "data").mkdir()
    (folder / "data" / "fruit.csv").write_text(TEXT, encoding="utf-8")
    train("data/fruit.csv", "--target", "ripe", "--epochs", "1", "-q")
    assert [p.name for p in folder.glob("**/*.safetensors")] == ["fruit.safetensors"]
    assert (folder / "fruit.safetensors").is_file()


def test_the_same_seed_gives_the_same_file(folder: Path) -> None:
    for name, seed in [("one", "3"), ("two", "3"), ("three", "4")]:
        train("iris", "--epochs", "3", "--dropout", "0.2", "--seed", seed, "-o", name, "-q")
    one, two, three = (Path(name).read_bytes() for name in ("one", "two", "three"))
    assert one == two
    assert one != three


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace(",", ";"),
        lambda text: text.replace(",", "\t"),
        lambda text: "\ufeff" + text.replace("\n", "\r\n"),
        lambda text: text.replace("\n", "\n\n"),
    ],
    ids=["semicolons", "tabs", "BOM and CRLF", "blank lines"],
)
def test_one_table_however_it_is_written(folder: Path, change: Callable[[str], str]) -> None:
    Path("other.csv").write_bytes(change(TEXT).encode())
    for name in ("fruit", "other"):
        train(f"{name}.csv", "--target", "ripe", "--epochs", "2", "-q")
    assert Path("fruit.safetensors").read_bytes() == Path("other.safetensors").read_bytes()


@POSIX
def test_a_device_is_never_replaced_by_a_file(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo("pipe")
    train("iris", "--epochs", "1", "-o", "pipe", "--force", status=1)
    assert "pipe: is no regular file" in capsys.readouterr().err
    with pytest.raises(OSError, match="is no regular file; nothing was changed"):
        cr.nn.Sequential(cr.nn.Linear(1, 1), seed=0).save("pipe")
    assert Path("pipe").is_fifo()


def test_a_place_that_no_file_can_have_is_refused_before_training(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "train_table", lambda *args, **keywords: pytest.fail("it trained"))
    train("iris", "-o", "a" * 300, status=1)
    train("iris", "-o", str(folder), status=1)


@POSIX
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_leaves_one_line_and_no_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    train("fruit.csv", "--target", "ripe", "--epochs", "1", "-q")
    kept = Path("fruit.safetensors").read_bytes()
    before = sorted(os.listdir())

    def full(*args: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(os, "write", full)
        train("fruit.csv", "--target", "ripe", "--epochs", "2", "-q", "--force", status=1)
        assert main(["predict", "fruit.safetensors", "fruit.csv", "-o", "answers.csv"]) == 1
    assert capfd.readouterr().err == "".join(
        f"error: {folder}/{name}: No space left on device; nothing was changed\n"
        for name in ("fruit.safetensors", "answers.csv")
    )
    assert sorted(os.listdir()) == before
    assert Path("fruit.safetensors").read_bytes() == kept
    assert main(["predict", "fruit.safetensors", "fruit.csv", "-o", "/dev/full", "--force"]) == 1
    assert capfd.readouterr().err == "error: /dev/full: No space left on device\n"


# -- what is printed --------------------------------------------------------------------------


def test_what_train_prints_fits_eighty_columns_and_has_no_escape_codes(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for data in ("digits", "diabetes"):
        train(data, "--epochs", "30")
        printed = capsys.readouterr()
        assert printed.err == ""
        lines = printed.out.splitlines()
        assert max(map(len, lines)) <= 80
        assert not re.search(r"\x1b| $", printed.out, re.MULTILINE)
        assert lines[0].startswith(f"{data}: ")
        assert lines[-1] == f"saved {data}.safetensors"
        assert any("ReLU()" in line for line in lines)
    assert "held-out R² " in printed.out


def test_quiet_prints_nothing(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    train("iris", "--epochs", "2", "--quiet")
    assert capfd.readouterr() == ("", "")
    assert Path("iris.safetensors").exists()


def test_json_is_for_programs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train("iris", "--epochs", "2", "--json")
    found = json.loads(capsys.readouterr().out)
    assert found["stopped"] is None
    assert (found["epochs"], len(found["loss"]), found["score"]["rows"]) == (2, 2, 30)


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_fits_eighty_columns(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command.split(), "--help"]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_a_terminal_without_unicode_is_told_in_words(folder: Path, encoding: str) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = chainrule("train", "iris", "--epochs", "3", env=environment)
    assert done.returncode == 0
    printed = done.stdout.decode(encoding)
    assert "?" not in printed
    assert " -> " in printed
    formula = chainrule("explain", "sigmoid(x)", "x=1", env=environment).stdout.decode(encoding)
    assert "dout/dx" in formula
    assert "?" not in formula


@POSIX
def test_closed_and_abandoned_output(folder: Path) -> None:
    words = " ".join(COMMAND)
    closed = f"{words} train iris --epochs 1 -o closed >&-"
    done = subprocess.run(closed, shell=True, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert Path("closed").exists()
    piped = f"{words} train iris --epochs 1 -o piped | head -1"
    done = subprocess.run(piped, shell=True, capture_output=True, timeout=60, check=False)
    assert done.stdout.startswith(b"iris: 150 rows")
    assert done.stderr == b""


# -- bad settings -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["--lr", "nan"], 1, "error: lr must be a finite number, got nan\n"),
        (["--lr", "inf"], 1, "error: lr must be a finite number, got inf\n"),
        (["--weight-decay", "inf"], 1, "error: weight_decay must be a finite number, got inf\n"),
        (["--dropout", "nan"], 1, "error: dropout must be a finite number, got nan\n"),
        (["--held-out", "nan"], 1, "error: held_out must be a finite number, got nan\n"),
        (["--hidden", "0"], 2, "Invalid value for '--hidden': 0 is not in the range"),
        (["--hidden", str(10**20)], 2, "is not in the range"),
        (["--linear", "--hidden", "8"], 2, "--linear means no hidden layer"),
        (["--lr", "1e30"], 1, "training diverged"),
    ],
)
def test_settings_that_cannot_be(
    folder: Path, capfd: pytest.CaptureFixture[str], words: list[str], status: int, message: str
) -> None:
    train("iris", *words, status=status)
    printed = capfd.readouterr()
    assert message in printed.err
    assert "should not happen" not in printed.err
    assert status == 2 or len(printed.err.splitlines()) == 1
    assert not list(folder.glob("*.safetensors"))


# -- Ctrl-C -----------------------------------------------------------------------------------


@POSIX
def test_ctrl_c_scores_and_saves_the_model_so_far(folder: Path) -> None:
    def ordinary() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)

    process = subprocess.Popen(
        [*COMMAND, "train", "iris", "--epochs", "1000000"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=ordinary,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline().startswith("iris")
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "held-out accuracy" in out
    assert re.fullmatch(
        r"interrupted after step \d+ of 4000000: iris.safetensors holds the model so far\n", err
    )
    predictor = job.Predictor.of(cr.load("iris.safetensors"))
    assert predictor.score(load_dataset("iris")).value > 0.8
    assert sorted(os.listdir()) == ["fruit.csv", "iris.safetensors"]


@POSIX
def test_ctrl_c_within_the_first_epoch(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Press:
        def on_step(self, moment: Any) -> None:
            os.kill(os.getpid(), signal.SIGINT)

    original = job.train_table
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            job,
            "train_table",
            lambda *args, **keywords: original(*args, **keywords, callbacks=[Press()]),
        )
        train("iris", status=130)
        printed = capsys.readouterr()
        assert " in 1 step, " in printed.out
        assert "interrupted after step 1 of 800: iris.safetensors holds" in printed.err
        train("iris", "--json", "--force", status=130)
    found = json.loads(capsys.readouterr().out)
    assert (found["stopped"], found["epochs"]) == ("interrupted", 0)


# -- predict ----------------------------------------------------------------------------------


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
