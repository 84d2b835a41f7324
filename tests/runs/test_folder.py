"""The run folder: made once, held by one process, complete at every moment."""

from __future__ import annotations

import dataclasses
import errno
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule.data import Table, load_dataset, read_table
from chainrule.errors import DataError
from chainrule.nn import tensorfile
from chainrule.runs import Predictor, RunFolder, Settings, Trained, train_table
from chainrule.train.checkpoint import Checkpoint

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
SLOW = pytest.mark.slow
IRIS = load_dataset("iris")
KEPT = ("config.toml", "model.safetensors", "history.csv", "history.jsonl", "report.html")


class Act:
    """A callback that does something at one step."""

    def __init__(self, at: int = -1, act: Any = None) -> None:
        self.at, self.act = at, act

    def on_step(self, moment: Any) -> None:
        if moment.step == self.at:
            self.act()


def press() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def run(place: Any, act: Act | None = None, resume: bool = False, **settings: Any) -> Trained:
    """A short run on iris; `act` is there in every run, as a checkpoint asks for the same."""
    return train_table(
        IRIS,
        RunFolder.of(place).settings() if resume else Settings(**{"epochs": 6, **settings}),
        progress=False,
        callbacks=[act or Act()],
        folder=place,
        resume=resume,
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in KEPT}


# -- what is in it --------------------------------------------------------------------------------


def test_a_run_leaves_all_that_is_needed_to_use_and_repeat_it(tmp_path: Path) -> None:
    trained = run(tmp_path / "one")
    folder = RunFolder.of(tmp_path / "one")
    assert {*KEPT, "run.json"} <= set(os.listdir(folder.path))
    assert not {".lock"} & set(os.listdir(folder.path))
    info = folder.info
    assert (info["name"], info["data"], info["status"]) == ("one", "iris", "finished")
    assert (info["epochs"], info["score"]["value"]) == (6, trained.score.value)
    again = Predictor.at(folder.path)
    assert (again.scores(IRIS.features) == trained.predictor.scores(IRIS.features)).all()
    text = Path(folder.place("history.jsonl")).read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["loss"] for line in lines] == trained.history.loss
    assert Path(folder.place("history.csv")).read_text() == trained.history.to_csv()
    repeated = train_table(IRIS, folder.settings(), progress=False, folder=tmp_path / "a" / "one")
    assert repeated.settings == trained.settings
    assert contents(tmp_path / "a" / "one") == contents(tmp_path / "one")


def test_numbered_folders_never_coincide(tmp_path: Path) -> None:
    (tmp_path / "x-7").mkdir()
    (tmp_path / "x-y").mkdir()
    (tmp_path / "xx-9").mkdir()
    with multiprocessing.get_context("fork").Pool(4) as pool:
        made = pool.map(_numbered, [str(tmp_path)] * 40)
    assert len(set(made)) == 40
    assert min(made) == "x-10"
    assert "x-8" in made


def _numbered(root: str) -> str:
    return os.path.basename(RunFolder.numbered("x", root).make().path)


# -- going on -------------------------------------------------------------------------------------


@POSIX
@pytest.mark.parametrize("step", [pytest.param(1, marks=SLOW), 4, 7, pytest.param(23, marks=SLOW)])
@pytest.mark.parametrize(
    "settings",
    [
        {"dropout": 0.3, "batch_norm": True},
        {"validation": 0.1, "optimizer": "sgd", "momentum": 0.9, "class_weight": "balanced"},
    ],
    ids=["dropout", "validation"],
)
def test_a_run_that_was_interrupted_ends_as_the_unbroken_one(
    tmp_path: Path, step: int, settings: dict[str, Any]
) -> None:
    run(tmp_path / "a" / "run", **settings)
    place = tmp_path / "b" / "run"
    half = run(place, Act(step, press), **settings)
    assert (half.history.stopped, half.history.steps) == ("interrupted", step)
    assert RunFolder.of(place).status == "interrupted"
    assert len((place / "history.jsonl").read_text().splitlines()) == half.history.epochs
    run(place, resume=True)
    assert contents(place) == contents(tmp_path / "a" / "run")
    assert RunFolder.of(place).status == "finished"


def test_resuming_a_finished_run_changes_nothing(tmp_path: Path) -> None:
    run(tmp_path / "run")
    before = contents(tmp_path / "run")
    assert run(tmp_path / "run", resume=True).history.epochs == 6
    assert contents(tmp_path / "run") == before


@POSIX
def test_a_second_ctrl_c_does_not_wait_for_the_score(tmp_path: Path) -> None:
    def twice() -> None:
        press()
        press()

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "b" / "run", Act(9, twice), checkpoint_every=0.0)
    folder = RunFolder.of(tmp_path / "b" / "run")
    assert folder.status == "interrupted"
    assert not folder.has("model.safetensors")
    run(folder.path, resume=True)
    run(tmp_path / "a" / "run", checkpoint_every=0.0)
    assert contents(tmp_path / "b" / "run") == contents(tmp_path / "a" / "run")


KILLED = """
import os, signal, sys
from chainrule.nn import tensorfile
from chainrule.cli import main

count, kill = 0, int(sys.argv[1])
write = os.write

def deadly(handle, data):
    global count
    count += 1
    if count == kill:  # half of a file is written, and no more
        write(handle, bytes(data)[: len(data) // 2])
        os.kill(os.getpid(), signal.SIGKILL)
    return write(handle, data)

os.write = deadly
main(["train", "iris", "--epochs", "6", "--checkpoint-every", "0", "-q"])
"""


@POSIX
@pytest.mark.parametrize("kill", [3, pytest.param(5, marks=SLOW), 8, pytest.param(14, marks=SLOW)])
def test_a_run_that_was_killed_within_a_write_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kill: int
) -> None:
    from chainrule.cli import main

    monkeypatch.chdir(tmp_path)
    words = [sys.executable, "-c", KILLED, str(kill)]
    done = subprocess.run(words, capture_output=True, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert RunFolder.of("runs/iris-1").status == "running"
    assert main(["train", "--resume", "runs/iris-1", "-q"]) == 0
    (tmp_path / "whole").mkdir()
    monkeypatch.chdir(tmp_path / "whole")
    assert main(["train", "iris", "--epochs", "6", "--checkpoint-every", "0", "-q"]) == 0
    assert contents(tmp_path / "runs/iris-1") == contents(tmp_path / "whole/runs/iris-1")
    model = Path("iris.safetensors").read_bytes()
    assert (tmp_path / "iris.safetensors").read_bytes() == model


# -- what must not happen -------------------------------------------------------------------------


def test_a_folder_is_held_by_one_process(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run").make()
    with folder.held():
        for resume in (False, True):
            with pytest.raises(DataError, match=f"process {os.getpid()} is writing this run"):
                train_table(
                    IRIS, Settings(epochs=1), progress=False, folder=folder.path, resume=resume
                )
    assert os.listdir(folder.path) == []


def test_the_lock_of_a_dead_process_is_taken_over(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run").make()
    code = f"""
import os
from chainrule.runs import RunFolder
with RunFolder({folder.path!r}).held():
    os._exit(0)
"""
    subprocess.run([sys.executable, "-c", code], timeout=60, check=True)
    assert (tmp_path / "run" / ".lock").exists()
    with folder.held():
        assert (tmp_path / "run" / ".lock").read_text() == f"{os.getpid()}\n"


def test_a_run_is_replaced_only_by_force(tmp_path: Path) -> None:
    run(tmp_path / "run")
    (tmp_path / "run" / "notes.txt").write_text("mine")
    before = contents(tmp_path / "run")
    with pytest.raises(DataError, match="holds a run already; go on with it by --resume"):
        run(tmp_path / "run", epochs=2)
    assert contents(tmp_path / "run") == before
    run(RunFolder(tmp_path / "run", force=True), epochs=2)
    assert RunFolder.of(tmp_path / "run").info["epochs"] == 2
    assert (tmp_path / "run" / "notes.txt").read_text() == "mine"
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match="holds other files and no run"):
        run(RunFolder(tmp_path / "other", force=True))
    assert os.listdir(tmp_path / "other") == ["notes.txt"]


def altered(table: Table, change: str) -> Table:
    features, target = table.features.copy(), table.target.copy()
    if change == "a value":
        features[3, 1] += 1
    elif change == "a label":
        target[0] = 1
    elif change == "a row":
        return table.take(range(table.rows - 1))
    else:
        columns = list(table.schema.columns)
        columns[2] = dataclasses.replace(columns[2], name="other")
        schema = dataclasses.replace(table.schema, columns=tuple(columns))
        return dataclasses.replace(table, schema=schema)
    return dataclasses.replace(table, features=features, target=target)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("a value", "values in 'sepal width (cm)'"),
        ("a label", "values in the target 'species'"),
        ("a row", "it had 150 rows and has 149"),
        ("a column", "the column 'petal length (cm)' is gone"),
    ],
)
def test_data_that_has_changed_is_refused_by_name(tmp_path: Path, change: str, said: str) -> None:
    settings = Settings(epochs=1)
    train_table(IRIS, settings, progress=False, folder=tmp_path / "run")
    before = contents(tmp_path / "run")
    with pytest.raises(DataError) as caught:
        train_table(
            altered(IRIS, change), settings, progress=False, folder=tmp_path / "run", resume=True
        )
    assert said in str(caught.value)
    assert contents(tmp_path / "run") == before


def test_a_run_that_fails_says_so(tmp_path: Path) -> None:
    with pytest.raises(cr.GradientError):
        run(tmp_path / "run", lr=1e30, optimizer="sgd")
    info = RunFolder.of(tmp_path / "run").info
    assert info["status"] == "failed"
    assert "diverged" in info["error"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
def test_a_folder_that_cannot_be_written_to_is_refused_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(*args: Any, **keywords: Any) -> Any:
        raise OSError(code, os.strerror(code), "runs")

    monkeypatch.setattr("chainrule.runs.job.fit", lambda *a, **k: pytest.fail("it trained"))
    for broken in ("mkdir", "write"):
        with monkeypatch.context() as disk:
            disk.setattr(os, broken, refuse)
            with pytest.raises(
                DataError, match=r"choose another place with --run DIR, or --no-run"
            ):
                run(RunFolder.numbered("x", tmp_path))
        assert os.listdir(tmp_path) == []


def test_a_disk_that_fills_up_ends_nothing_but_the_saving(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training goes on, one warning is given, the last good checkpoint stays, all is told."""
    unbroken = run(tmp_path / "a" / "run")
    write = tensorfile._write

    def full(path: str, *rest: Any) -> None:
        if filled:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(path, *rest)

    filled: list[bool] = []
    monkeypatch.setattr(tensorfile, "_write", full)
    place = tmp_path / "b" / "run"
    with warnings.catch_warnings(record=True) as said:
        broken = run(place, Act(10, lambda: filled.append(True)), checkpoint_every=0.0)
    assert [str(one.message)[:32] for one in said] == ["the checkpoint was not saved (No"]
    assert broken.history.loss == unbroken.history.loss
    assert [what.split(" (")[0] for what in broken.unsaved] == [
        "the last checkpoint", "the history", "the model", "the report", "its record",
    ]  # fmt: skip
    kept = Checkpoint(str(place)).newest()
    assert kept is not None
    assert len(kept.under("history")["step_loss"]) in (9, 10)
    filled.clear()
    run(place, resume=True)
    run(tmp_path / "c" / "run", checkpoint_every=0.0)
    assert contents(place) == contents(tmp_path / "c" / "run")


def test_what_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        RunFolder.of(tmp_path / "none")
    with pytest.raises(DataError, match=r"holds no run: there is no config\.toml"):
        RunFolder.of(tmp_path)
    (tmp_path / "config.toml").write_text("epochs = 3\n")
    with pytest.raises(DataError, match="has no model yet"):
        Predictor.at(tmp_path)
    (tmp_path / "run.json").write_text("[")
    with pytest.raises(DataError, match=r"run\.json: cannot be read"):
        _ = RunFolder.of(tmp_path).info


@pytest.mark.parametrize(
    "text",
    [
        '{"status": 3}',
        '{"output": 5}',
        '{"fingerprint": [1]}',
        '{"epochs": "many"}',
        '{"status": "finished", "output_sha256": 1}',
    ],
)
def test_a_record_with_odd_values_is_told_in_a_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"run\.json: \w+ is .*; it was altered, remove the file"):
        _ = RunFolder(tmp_path).info


def test_a_run_whose_report_could_not_be_written_is_gone_on_with(
    tmp_path: Path, monkeypatch: Any
) -> None:
    """Room is made on the disk, and `--resume` writes what is missing."""
    whole, place = tmp_path / "a" / "run", tmp_path / "b" / "run"
    run(whole)

    write = RunFolder.write

    def full(folder: RunFolder, name: str, *rest: Any) -> None:
        if name == "report.html":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(folder, name, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(RunFolder, "write", full)
        broken = run(place)
    assert [what.split(" (")[0] for what in broken.unsaved] == ["the report"]
    assert RunFolder.of(place).status == "interrupted"
    assert run(place, resume=True).unsaved == ()
    assert RunFolder.of(place).status == "finished"
    assert contents(place) == contents(whole)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("a fault")], ids=repr)
def test_whatever_ends_the_saving_is_noted(tmp_path: Path, monkeypatch: Any, error: Any) -> None:
    def ends(folder: RunFolder, *rest: Any) -> None:
        raise error

    monkeypatch.setattr(RunFolder, "write_history", ends)
    with pytest.raises(type(error)):
        run(tmp_path / "run")
    stopped = isinstance(error, KeyboardInterrupt)
    assert RunFolder.of(tmp_path / "run").status == ("interrupted" if stopped else "failed")


def test_a_target_too_large_to_scale_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    table = read_table({"x": np.arange(40.0), "y": np.arange(40.0) * 1e200}, "y")
    with pytest.raises(DataError, match=r"column 'y' has numbers up to 3\.9e.201, whose dev"):
        train_table(table, Settings(epochs=1), progress=False, folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()
