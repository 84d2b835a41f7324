"""`chainrule diagnose`: the run that it looks at, what it says and writes, and how it ends."""

from __future__ import annotations

import csv
import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from chainrule.cli import diagnose as command
from chainrule.cli import main
from chainrule.cli.repair import Repair, repair
from chainrule.diagnose import diagnosis
from chainrule.diagnose.verdict import Verdict
from chainrule.runs.config import Settings, read_toml
from chainrule.runs.folder import RunFolder
from cli.fruit import TEXT

COMMAND = [sys.executable, "-m", "chainrule"]
SLOW = ["iris", "--lr", "1e-6", "--epochs", "20"]


def diagnose(*words: str, status: int = 0) -> None:
    assert main(["diagnose", *words]) == status


def as_json(capsys: pytest.CaptureFixture[str], *words: str, status: int = 0) -> Any:
    capsys.readouterr()
    diagnose(*words, "--json", status=status)
    return json.loads(capsys.readouterr().out)


def losses(run: Path) -> list[float]:
    lines = (run / "history.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["loss"] for line in lines]


# -- the run ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        "--epochs 40",
        "--epochs 40 --hidden 5 --hidden 4 --activation tanh --seed 3 --validation 0.2"
        " --optimizer sgd --momentum 0.9 --dtype float64 --batch-size 8",
        "--epochs 40 --batch-norm --dropout 0.2 --clip-norm 1 --ema 0.9 --accumulate 2"
        " --label-smoothing 0.1 --schedule one-cycle",
        "--epochs 40 --loss logistic --categories embedding --stream on",
        "--epochs 40 --lr find",
        "--epochs 80 --linear --optimizer lbfgs",
    ],
)
def test_the_run_that_is_diagnosed_is_the_run(
    words: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # What is made of it is another matter, and takes its time.
    monkeypatch.setattr(diagnosis, "judge", lambda story, static, trials: Verdict([], ""))
    fruit = ["fruit.csv", "--target", "ripe", *words.split()]
    assert main(["train", *fruit, "-q"]) == 0
    told = as_json(capsys, "runs/fruit-1")
    # To the bit; a run of a few dozen steps, which is not compiled here, to rounding.
    assert told["curve"]["loss"] == losses(folder / "runs" / "fruit-1")
    config = folder / "runs" / "fruit-1" / "config.toml"
    assert as_json(capsys, str(config))["curve"] == told["curve"]
    if "stream" not in words:  # which is nothing to a diagnosis, and so no flag of it
        assert as_json(capsys, *fruit)["curve"] == told["curve"]


def test_a_short_run_and_numbers_to_rounding(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "diabetes", "--epochs", "3", "-q"]) == 0
    told = as_json(capsys, "runs/diabetes-1")
    known = losses(folder / "runs" / "diabetes-1")
    np.testing.assert_allclose(told["curve"]["loss"], known, rtol=1e-6)
    assert told["score"]["metric"] == "r2"


def test_flags_go_before_the_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "iris", "--epochs", "20", "-q"]) == 0
    assert as_json(capsys, "runs/iris-1")["healthy"]
    slow = as_json(capsys, "runs/iris-1", "--lr", "1e-6")
    assert slow["findings"][0]["problem"] == "learning_rate_too_low"


def test_what_is_left_aside_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--patience", "3", "--class-weight", "balanced", "--schedule", "plateau"]
    told = as_json(capsys, "iris", "--epochs", "6", *words)
    assert [line.split(":")[1].split(" = ")[0].strip() for line in told["advice"][:3]] == [
        "class_weight",
        "patience",
        "schedule",
    ]
    assert told["facts"]["epochs"] == 6


# -- what is said -----------------------------------------------------------------------------


def test_a_report_in_the_terminal_and_as_a_page(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    diagnose(*SLOW, "--html", "it.html")
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith("1 problem: learning_rate_too_low.")
    assert "Verified: accuracy" in out
    assert "█" in out
    assert "\x1b" not in out
    assert out.endswith("saved it.html\n")
    page = (folder / "it.html").read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>")
    assert "learning_rate_too_low" in page
    diagnose(*SLOW, "--html", "it.html", status=1)
    assert "it.html: exists already; use --force to replace it, or --html FILE for" in (
        capsys.readouterr().err
    )


def test_a_sound_run_has_nothing_to_repair(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    diagnose("iris", "--apply")
    out = capsys.readouterr().out
    assert out.startswith("Healthy. ")
    assert out.endswith("nothing to repair\n")
    assert os.listdir(folder) == ["fruit.csv"]


def test_only_a_terminal_has_colours(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "console", lambda: Console(force_terminal=True, width=80))
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    diagnose(*SLOW, "-q")
    coloured = capsys.readouterr().out
    monkeypatch.setenv("NO_COLOR", "1")
    diagnose(*SLOW, "-q")
    plain = capsys.readouterr().out
    assert "\x1b[1;31m1. learning_rate_too_low (problem)" in coloured
    assert "\x1b[36m       optimizer.lr = lambda step" in coloured
    assert not any(f"\x1b[{n}m" in plain or f";{n}m" in plain for n in range(30, 40))


def test_a_terminal_without_these_letters(folder: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [*COMMAND, "diagnose", *SLOW], capture_output=True, env=environment, check=True, timeout=120
    )
    assert b"learning_rate_too_low" in done.stdout
    assert b"?" not in done.stdout


def test_places_are_named_as_in_the_table(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    random = np.random.default_rng(0)
    made = [(f"{a:.3f}", f"{b:.3f}") for a, b in random.normal(size=(12, 2))] * 12
    rows = [(*row, "xy"[k]) for row, k in zip(made, random.integers(2, size=144), strict=True)]
    text = "length,width,kind\n" + "".join(",".join(row) + "\n" for row in rows)
    (folder / "torn.csv").write_text(text, encoding="utf-8")
    told = as_json(capsys, "torn.csv", "--target", "kind", "--epochs", "10")
    (finding,) = told["findings"]
    assert finding["problem"] == "data_fault"
    found = finding["where"]["rows"]
    with (folder / "torn.csv").open(encoding="utf-8") as file:
        table = list(csv.reader(file))[1:]
    assert len(found) == len(finding["where"]["samples"]) > 50
    for row in found:
        same = {other[2] for other in table if other[:2] == table[row][:2]}
        assert same == {"x", "y"}
    # Most rows are left where they were, so that a wrong order would be seen.
    assert found != finding["where"]["samples"]
    diagnose("torn.csv", "--target", "kind", "--epochs", "10")
    assert f"rows {found[0]}," in capsys.readouterr().out


def test_columns_are_named_and_steer_no_terminal(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "\x1b[2Jone,[red]two,k\n" + "".join(f"1,2,{'xy'[k % 2]}\n" for k in range(40))
    (folder / "odd.csv").write_text(text, encoding="utf-8")
    told = as_json(capsys, "odd.csv", "--target", "k", "--epochs", "2")
    assert told["findings"][0]["where"]["names"] == ["\x1b[2Jone", "[red]two"]
    diagnose("odd.csv", "--target", "k", "--epochs", "2", "--html", "odd.html")
    out = capsys.readouterr().out
    assert "columns \ufffd[2Jone, [red]two" in " ".join(out.split())
    assert "\x1b" not in out + (folder / "odd.html").read_text(encoding="utf-8")


# -- the repair -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "changed"),
    [
        (SLOW, {"lr"}),
        (["iris", *["--hidden", "16"] * 8, "--activation", "sigmoid", "--epochs", "30"],
         {"activation"}),
        (["ring.csv", "--target", "inside", "--linear", "--epochs", "200"],
         {"hidden", "activation"}),
    ],
)  # fmt: skip
def test_training_with_the_repaired_settings_does_what_was_verified(
    words: list[str], changed: set[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = np.random.default_rng(0).normal(size=(200, 2))
    rows = [(f"{a:.4f},{b:.4f},{'ny'[int(a * a + b * b < 1.4)]}\n") for a, b in places]
    (folder / "ring.csv").write_text("a,b,inside\n" + "".join(rows), encoding="utf-8")
    assert main(["train", *words, "-q"]) == 0
    run = folder / "runs" / os.listdir("runs")[0]
    told = as_json(capsys, str(run), "--apply")
    proof, path = told["findings"][0]["verified"], run / "config.repaired.toml"
    assert told["repaired"]["config"] == str(path)
    before, after = read_toml(run / "config.toml"), read_toml(path)
    differ = {k for k in after if after[k] != before.get(k)}
    assert set(told["repaired"]["settings"]) == differ >= changed

    train = ["train", "--config", str(path), "-o", "two.safetensors", "--json"]
    assert main(train) == 0
    trained = json.loads(capsys.readouterr().out)
    if not differ & {"hidden", "init"}:  # the remedy's very run: the same weights and steps
        assert trained["loss"] == proof["curves"][1]["loss"]
    again = as_json(capsys, trained["run"])
    assert again["curve"]["loss"] == trained["loss"]
    assert again["score"]["value"] >= proof["after"]["value"] - 0.05
    assert again["score"]["value"] >= proof["before"]["value"] + 0.1


def test_repaired_settings_are_not_replaced_unasked(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "mine.toml").write_text('data = "iris"\nlr = 1e-6\nepochs = 20\n', encoding="utf-8")
    diagnose("mine.toml", "--apply")
    lines = capsys.readouterr().out.splitlines()
    assert lines[-4].startswith("repaired: lr: 1e-6 → 0.")
    shown = re.fullmatch(r"run once with .*: (accuracy \S+) \(the remedy: (.*)\)", lines[-3])
    assert shown is not None
    assert shown[1] == shown[2]
    words = lines[-1].split()
    assert words[:2] == ["chainrule", "train"]
    assert main(words[1:]) == 0
    first = (folder / "mine.repaired.toml").read_bytes()
    capsys.readouterr()
    diagnose("mine.toml", "--apply", status=1)
    assert "mine.repaired.toml: exists already; use --force" in capsys.readouterr().err
    (folder / "mine.repaired.toml").write_text("kept")
    diagnose("mine.toml", "--apply", "--force")
    assert (folder / "mine.repaired.toml").read_bytes() == first


def test_what_settings_cannot_say_is_not_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def partly(before: Any, after: Any, settings: Settings) -> Repair:
        found = repair(before, after, settings)
        return Repair(found.settings, found.changed, ("what the remedy does to X",))

    monkeypatch.setattr(command, "repair", partly)
    diagnose(*SLOW, "--apply", status=1)
    assert "settings cannot say what the remedy does to X" in capsys.readouterr().err
    monkeypatch.setattr(
        command, "repair", lambda before, after, settings: Repair(settings, ("lr",), ())
    )
    told = as_json(capsys, *SLOW, "--apply", status=1)
    assert "the run comes to accuracy 0.075, the remedy itself to" in told["repaired"]["refused"]
    assert told["repaired"]["config"] is None
    assert os.listdir(folder) == ["fruit.csv"]


# -- how it ends ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        ([], 2, "Missing argument"),
        (["fruit.csv"], 1, "say which column to predict, with --target COLUMN"),
        (["fruit.csv", "--target", "rip"], 1, "did you mean 'ripe'?"),
        (["none.csv", "--target", "x"], 1, "none.csv: no such file"),
        (["runs/none"], 1, "runs/none: no such file or run folder; check the path"),
        (["none.toml"], 1, "none.toml: no such file; check the path"),
        (["bare.toml"], 1, "bare.toml: names no data; write data = 'FILE' into it"),
        (["empty.csv", "--target", "a"], 1, "empty.csv: is empty"),
        (["folder"], 1, "folder: holds no run: there is no config.toml"),
        (["irs"], 1, "did you mean 'iris'?"),
        (["iris", "--linear", "--hidden", "3"], 2, "leave out --hidden"),
        (["iris", "--budget", "nan"], 2, "budget must be a finite number"),
        (["iris", "--seconds", "0"], 2, "seconds must be above 0"),
        (["iris", "--starts", "0"], 2, "0 is not in the range x>=1"),
        (["iris", "--lr", "-1"], 2, "lr must be above 0"),
        (["iris", "--html", "none/it.html"], 1, "there is no folder 'none'; make it, or"),
        (["iris", "--html", "folder"], 1, "is a folder; name a file with --html FILE"),
        (["iris", "--plots", "svg"], 2, "No such option"),
    ],
)
def test_bad_commands(
    words: list[str],
    status: int,
    message: str,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (folder / "empty.csv").touch()
    (folder / "folder").mkdir()
    (folder / "bare.toml").write_text("lr = 0.1\n")
    before = sorted(os.listdir(folder))
    diagnose(*words, status=status)
    out, err = capsys.readouterr()
    assert message in " ".join(err.split())
    assert "Traceback" not in err
    assert out == ""
    assert sorted(os.listdir(folder)) == before


def test_data_that_have_changed_since_the_run(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "fruit.csv", "--target", "ripe", "--epochs", "1", "-q"]) == 0
    (folder / "fruit.csv").write_text(TEXT.replace("0.143", "0.144"), encoding="utf-8")
    diagnose("runs/fruit-1", status=1)
    assert "the data has changed since the run began" in capsys.readouterr().err


def test_a_run_that_diverged_is_diagnosed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--optimizer", "sgd", "--lr", "100", "--schedule", "constant", "--epochs", "20"]
    assert main(["train", "diabetes", *words, "-q"]) == 1
    assert RunFolder.of("runs/diabetes-1").status == "failed"
    told = as_json(capsys, "runs/diabetes-1")
    assert told["findings"][0]["problem"] == "learning_rate_too_high"
    assert told["score"]["error"]


def test_the_clock_ends_a_diagnosis(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = as_json(capsys, "digits", "--lr", "1e-6", "--seconds", "0.01", "--apply", status=1)
    assert told["unfinished"] == "the time was over"
    assert "not whole" in told["repaired"]["refused"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_ctrl_c_shows_what_is_known_so_far(folder: Path) -> None:
    words = ["diagnose", "digits", "--lr", "1e-6", "--epochs", "40", "--apply"]
    # It is stopped in a run of 40 epochs of 45 steps, which lasts longer than is waited.
    script = (
        "import sys\n"
        "from chainrule.diagnose.trials import Trials\n"
        "run = Trials._run\n"
        "def told(self, fresh):\n"
        "    print('first', file=sys.stderr, flush=True)\n"
        "    return run(self, fresh)\n"
        "Trials._run = told\n"
        "from chainrule.cli import main\n"
        f"sys.exit(main({words!r}))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    process.stderr.readline()
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Unfinished: it was interrupted" in out.decode()
    assert "interrupted: this is what was known so far" in err.decode()
    assert "Traceback" not in err.decode()
    assert not (folder / "digits.repaired.toml").exists()


def test_a_full_disk_loses_no_report(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(path: str, data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    monkeypatch.setattr("chainrule.nn.tensorfile.write_whole", full)
    diagnose("iris", "--epochs", "20", "--html", "it.html", status=1)
    out, err = capsys.readouterr()
    assert out.startswith("Healthy.")
    assert err == "error: it.html: No space left on device\n"
