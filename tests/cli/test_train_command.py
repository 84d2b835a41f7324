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

import pytest

import chainrule as cr
from chainrule.cli import main
from chainrule.cli.main import COMMANDS
from chainrule.data import load_dataset
from chainrule.runs import job
from chainrule.runs.config import read_toml
from cli.fruit import TEXT

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals and devices")
COMMAND = [sys.executable, "-m", "chainrule"]


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
    assert [p.name for p in folder.glob("*.safetensors")] == ["fruit.safetensors"]
    model = (folder / "fruit.safetensors").read_bytes()
    assert (folder / "runs" / "fruit-1" / "model.safetensors").read_bytes() == model
    assert sorted(os.listdir("data")) == ["fruit.csv"]
    train("data/fruit.csv", "--target", "ripe", "--epochs", "1", "-q", "--no-run", "--force")
    assert (folder / "fruit.safetensors").read_bytes() == model
    assert os.listdir("runs") == ["fruit-1"]


def test_a_run_is_repeated_by_its_settings_and_flags_go_before_them(folder: Path) -> None:
    words = ["--hidden", "5", "--hidden", "4", "--activation", "tanh", "--activation", "relu"]
    words += ["--epochs", "3", "--validation", "0.2", "--batch-norm", "--clip-norm", "1"]
    train("fruit.csv", "--target", "ripe", *words, "-q", "-o", "one")
    (folder / "elsewhere").mkdir()
    os.chdir("elsewhere")
    train("--config", "../runs/fruit-1/config.toml", "-q", "-o", "../two")
    train("--config", "../runs/fruit-1/config.toml", "--seed", "7", "-q", "-o", "../three")
    one, two, three = ((folder / name).read_bytes() for name in ("one", "two", "three"))
    assert one == two
    assert one != three
    first, second = (folder / "runs/fruit-1", folder / "elsewhere/runs/fruit-1")
    assert (first / "config.toml").read_bytes() == (second / "config.toml").read_bytes()
    assert "seed = 7" in (folder / "elsewhere/runs/fruit-2/config.toml").read_text()


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
        words = ["fruit.csv", "--target", "ripe", "--epochs", "2", "-q", "--force"]
        train(*words, "--no-run", status=1)
        train(*words, status=1)
        assert main(["predict", "fruit.safetensors", "fruit.csv", "-o", "answers.csv"]) == 1
    full_run = (
        "error: runs/fruit-2: the run folder cannot be written to (No space left on device;"
        " nothing was changed); choose another place with --run DIR, or --no-run\n"
    )
    one, two = (
        f"error: {name}: No space left on device; nothing was changed\n"
        for name in ("fruit.safetensors", "answers.csv")
    )
    assert capfd.readouterr().err.replace(f"{folder}/", "") == one + full_run + two
    assert os.listdir("runs") == ["fruit-1"]
    assert sorted(os.listdir()) == before
    assert Path("fruit.safetensors").read_bytes() == kept
    assert main(["predict", "fruit.safetensors", "fruit.csv", "-o", "/dev/full", "--force"]) == 1
    assert capfd.readouterr().err == "error: /dev/full: No space left on device\n"


# -- what is printed --------------------------------------------------------------------------


def test_what_train_prints_fits_eighty_columns_and_has_no_escape_codes(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for data in ("digits", "diabetes"):
        train(data, "--epochs", "25", "--hidden", "8", "--batch-size", "256")
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
    code = """
from chainrule.cli import main
assert main("train iris --epochs 2 --linear --no-run".split()) == 0
assert main(["explain", "sigmoid(x)", "x=1"]) == 0
"""
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, capture_output=True, timeout=60, check=False, env=environment)
    assert done.returncode == 0
    printed = done.stdout.decode(encoding)
    assert "?" not in printed
    assert " -> " in printed
    assert "dout/dx" in printed


@POSIX
def test_closed_and_abandoned_output(folder: Path) -> None:
    words = " ".join(COMMAND)
    closed = f"{words} train iris --linear --epochs 1 -o closed >&-"
    done = subprocess.run(closed, shell=True, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert Path("closed").exists()
    piped = f"{words} train iris --linear --epochs 1 -o piped | head -1"
    done = subprocess.run(piped, shell=True, capture_output=True, timeout=60, check=False)
    assert done.stdout.startswith(b"iris: 150 rows")
    assert done.stderr == b""


# -- bad settings -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["--lr", "nan"], 2, ": lr must be a finite number, got nan\n"),
        (["--lr", "inf"], 2, ": lr must be a finite number, got inf\n"),
        (["--weight-decay", "inf"], 2, ": weight_decay must be a finite number, got inf\n"),
        (["--dropout", "nan"], 2, ": dropout must be a finite number, got nan\n"),
        (["--held-out", "nan"], 2, ": held_out must be a finite number, got nan\n"),
        (["--hidden", "0"], 2, "Invalid value for '--hidden': hidden units must be a whole"),
        (["--hidden", str(10**20)], 2, "at least 1 and at most 100000, got 1"),
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
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_scores_and_saves_the_model_so_far(folder: Path, sent: signal.Signals) -> None:
    def ordinary() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)

    process = subprocess.Popen(
        [*COMMAND, "train", "iris", "--epochs", "1000000"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=ordinary,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline().startswith("iris")
    lines, deadline = folder / "runs/iris-1/history.jsonl", time.monotonic() + 60
    while not lines.exists() or lines.stat().st_size < 20_000:  # some hundred epochs
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(sent)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "held-out accuracy" in out
    assert re.fullmatch(
        r"interrupted after step \d+ of 4000000: iris.safetensors holds the model so far;"
        r" go on with 'chainrule train --resume runs/iris-1'\n", err,
    )  # fmt: skip
    predictor = job.Predictor.of(cr.load("iris.safetensors"))
    assert predictor.score(load_dataset("iris")).value > 0.8
    assert sorted(os.listdir()) == ["fruit.csv", "iris.safetensors", "runs"]
    info = json.loads((folder / "runs/iris-1/run.json").read_text())
    assert info["status"] == "interrupted"
    assert len(lines.read_text().splitlines()) == info["epochs"]


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


# -- going on -----------------------------------------------------------------------------------


@POSIX
def test_resume_goes_on_and_replaces_its_own_file_only(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Press:
        def on_step(self, moment: Any) -> None:
            if moment.step == 7:
                os.kill(os.getpid(), signal.SIGINT)

    original = job.train_table
    words = ["fruit.csv", "--target", "ripe", "--epochs", "4", "--batch-size", "8"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            job,
            "train_table",
            lambda *args, **keywords: original(*args, **keywords, callbacks=[Press()]),
        )
        train(*words, status=130)
        assert capsys.readouterr().err.endswith("'chainrule train --resume runs/fruit-1'\n")
        kept = Path("fruit.safetensors").read_bytes()
        Path("fruit.safetensors").write_bytes(b"another's")
        train("--resume", "runs/fruit-1", status=1)
        assert "exists already" in capsys.readouterr().err
        Path("fruit.safetensors").write_bytes(kept)
        train("--resume", "runs/fruit-1")
    train("--resume", "runs/fruit-1")
    assert "runs/fruit-1: finished already, after 4 epochs" in capsys.readouterr().out
    train(*words, "-q", "-o", "whole", "--run", "other/fruit-1")
    assert Path("whole").read_bytes() == Path("fruit.safetensors").read_bytes()
    for name in ("history.csv", "history.jsonl", "config.toml"):
        assert Path("runs/fruit-1", name).read_bytes() == Path("other/fruit-1", name).read_bytes()
    (folder / "fruit.csv").write_text(TEXT.replace("0.143", "0.144"), encoding="utf-8")
    info = json.loads(Path("runs/fruit-1/run.json").read_text())
    Path("runs/fruit-1/run.json").write_text(json.dumps({**info, "status": "interrupted"}))
    train("--resume", "runs/fruit-1", status=1)
    assert "the data has changed since the run began: values in 'size'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["--linear"],
        ["--optimizer", "sgd", "--momentum", "0.9", "--schedule", "step", "--clip-value", "0.5"],
        ["--ema", "0.9", "--accumulate", "2", "--dtype", "float64", "--threads", "1"],
        ["--loss", "logistic", "--class-weight", "balanced", "--init", "glorot_normal"],
        ["--patience", "2", "--validation", "0.2"],
        ["--schedule", "plateau", "--label-smoothing", "0.1"],
        ["--schedule", "one-cycle", "--categories", "embedding"],
        ["--drop", "colour", "--plots", "svg", "--tensorboard"],
    ],
    ids=lambda words: words[0][2:],
)
def test_every_setting_trains_a_model_that_predicts(folder: Path, words: list[str]) -> None:
    train("fruit.csv", "--target", "ripe", "--epochs", "3", "-q", *words)
    assert main(["predict", "runs/fruit-1", "fruit.csv", "-o", "answers.csv"]) == 0
    assert len(Path("answers.csv").read_text().splitlines()) == 43
    train("--config", "runs/fruit-1/config.toml", "-q", "-o", "again")
    assert Path("again").read_bytes() == Path("fruit.safetensors").read_bytes()


def test_a_learning_rate_that_was_found_is_kept_in_the_settings(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train("iris", "--lr", "find", "--epochs", "20", "--json")
    assert json.loads(capsys.readouterr().out)["score"]["value"] > 0.8
    rate = job.Settings(**read_toml("runs/iris-1/config.toml")).lr
    assert isinstance(rate, float)
    assert 1e-4 < rate < 1
    train("--config", "runs/iris-1/config.toml", "-q", "-o", "again")
    assert Path("again").read_bytes() == Path("iris.safetensors").read_bytes()


def test_missing_cells_are_filled_in_where_asked(folder: Path) -> None:
    (folder / "gaps.csv").write_text(TEXT.replace("0.143", ""), encoding="utf-8")
    train("gaps.csv", "--target", "ripe", "-q", status=1)
    train("gaps.csv", "--target", "ripe", "--missing", "median", "--epochs", "2", "-q")
    assert main(["evaluate", "gaps.safetensors", "gaps.csv"]) == 0
