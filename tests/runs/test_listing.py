"""Runs read from outside: those that last, ended, died or are damaged; how they compare."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainrule.cli.main import main
from chainrule.data import load_dataset
from chainrule.errors import DataError
from chainrule.runs import RunFolder, Settings, train_table
from chainrule.runs.listing import SORTS, Listed, differences, listing, named, read_run, sort
from chainrule.runs.report.compared import comparison
from draw.test_svg import HOSTILE
from runs.test_report import elements


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two real runs."""
    root = tmp_path_factory.mktemp("runs")
    for units in (4, 8):
        settings = Settings(data="iris", hidden=[units], epochs=3, validation=0.2)
        folder = RunFolder(root / f"iris-{units}")
        train_table(load_dataset("iris"), settings, progress=False, folder=folder)
    return root


def made(root: Path, name: str, **changes: Any) -> Path:
    """A run's folder, written by hand."""
    place = root / name
    place.mkdir()
    info = {"name": name, "data": "iris", "status": "finished", "epochs": 2, "score": None}
    (place / "run.json").write_text(json.dumps({**info, **changes}), encoding="utf-8")
    (place / "config.toml").write_text('data = "iris"\n', encoding="utf-8")
    lines = ['{"epoch": 1, "loss": 1.0}', '{"epoch": 2, "loss": null}', '{"epoch": 3, "lo']
    (place / "history.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return place


# -- what a folder tells ---------------------------------------------------------------------------


def test_a_real_run_is_read_as_it_was(kept: Path) -> None:
    runs = listing(kept)
    assert [run.name for run in runs] == ["iris-4", "iris-8"]
    run = runs[1]
    info = json.loads((kept / "iris-8" / "run.json").read_text(encoding="utf-8"))
    assert run.status == "finished"
    assert run.value == info["score"]["value"]
    assert run.epochs == run.planned == 3
    assert set(run.curves) == {"loss", "val_loss"}
    assert run.settings["hidden"] == [8]
    assert differences(runs) == {"hidden": [[4], [8]]}


def test_a_line_that_is_being_written_is_left_out(tmp_path: Path) -> None:
    run = read_run(made(tmp_path, "one"))
    assert run.status == "finished"
    assert run.epochs == 2
    assert math.isnan(run.loss)


def test_a_run_whose_process_is_gone_has_died(tmp_path: Path) -> None:
    place = made(tmp_path, "one", status="running")
    assert read_run(place).status == "died"
    (place / ".lock").write_text("1\n", encoding="utf-8")
    assert read_run(place).status == "died"  # process 1 lives, and holds no lock here


def test_a_run_that_a_process_holds_is_running(tmp_path: Path) -> None:
    place = made(tmp_path, "one", status="running")
    code = """
        import sys
        from chainrule.runs import RunFolder
        with RunFolder(sys.argv[1]).held():
            print("held", flush=True)
            sys.stdin.read()
    """
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), str(place)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"held\n"
    assert read_run(place).status == "running"
    assert read_run(place).status == "running"  # looking has taken nothing away
    child.kill()
    child.communicate(timeout=20)
    assert read_run(place).status == "died"


DAMAGES = {
    "no JSON": ("run.json", b"{"),
    "a list": ("run.json", b"[]"),
    "another status": ("run.json", b'{"status": "great"}'),
    "deep": ("run.json", b"[" * 100_000),
    "no UTF-8": ("run.json", b"\xff"),
    "no TOML": ("config.toml", b"= ="),
    "a bad line": ("history.jsonl", b"nonsense\n"),
    "a number a line": ("history.jsonl", b"1\n"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_run_is_listed_as_such(damage: str, tmp_path: Path) -> None:
    name, content = DAMAGES[damage]
    made(tmp_path, "good")
    (made(tmp_path, "bad") / name).write_bytes(content)
    bad, good = listing(tmp_path)
    assert (bad.status, good.status) == ("damaged", "finished")
    assert name in bad.fault
    assert "\n" not in bad.fault


@pytest.mark.parametrize("name", ["run.json", "config.toml"])
def test_a_missing_or_odd_file_is_damage(name: str, tmp_path: Path) -> None:
    place = made(tmp_path, "one")
    (place / name).unlink()
    assert name in read_run(place).fault
    os.mkfifo(place / name)  # would be waited for for ever
    assert read_run(place).status == "damaged"


@given(st.binary(max_size=60), st.sampled_from(["run.json", "config.toml", "history.jsonl"]))
def test_no_bytes_make_a_traceback(content: bytes, name: str) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as root:
        (made(Path(root), "one") / name).write_bytes(content)
        (run,) = listing(root)
        run.to_json()
        comparison([run, run])


@pytest.mark.parametrize("value", [None, 3, "x", [1], {"value": "high"}, {"value": 1e400}, True])
@pytest.mark.parametrize("key", ["score", "seconds", "data", "started", "planned_epochs", "epochs"])
def test_fields_of_another_kind_are_let_be(key: str, value: Any, tmp_path: Path) -> None:
    run = read_run(made(tmp_path, "one", **{key: value}))
    assert run.status == "finished"
    comparison([run, run])
    assert main(["runs", str(tmp_path)]) == 0


def test_orders() -> None:
    def one(name: str, value: float, loss: float) -> Listed:
        return Listed("", name, "finished", score={"value": value}, curves={"loss": [loss]})

    runs = [one("r-10", 0.5, 0.1), one("r-2", math.nan, 0.3), one("r-1", 0.9, math.nan)]
    assert [run.name for run in sort(runs, "name")] == ["r-1", "r-2", "r-10"]
    assert [run.name for run in sort(runs, "score")] == ["r-1", "r-10", "r-2"]
    assert [run.name for run in sort(runs, "loss")] == ["r-10", "r-2", "r-1"]
    assert all(len(sort(runs, by)) == 3 for by in SORTS)


def test_a_name_that_is_none_is_corrected(kept: Path) -> None:
    with pytest.raises(DataError, match="did you mean 'iris-4'"):
        named(kept, ["irs-4"])
    with pytest.raises(DataError, match="no such folder"):
        listing(kept / "nowhere")


# -- the command -----------------------------------------------------------------------------------


def test_the_command_lists_and_compares(kept: Path, capsys: Any, tmp_path: Path) -> None:
    assert main(["runs", str(kept)]) == 0
    out = capsys.readouterr().out
    assert "iris-4" in out
    assert "finished" in out
    page = tmp_path / "page.html"
    assert main(["runs", str(kept), "iris-8", "iris-4", "--html", str(page)]) == 0
    out = capsys.readouterr().out
    assert out.index("iris-8") < out.index("iris-4")
    assert "hidden" in out
    assert "activation" not in out
    html = page.read_text(encoding="utf-8")
    assert html.count('class="cr-chart"') == 3  # accuracy, loss, val_loss
    assert f'href="{os.path.relpath(kept, tmp_path)}/iris-8/report.html"' in html
    assert main(["runs", str(kept), "--html", str(page)]) == 1
    assert "--force" in capsys.readouterr().err


def test_the_command_gives_json(kept: Path, capsys: Any) -> None:
    assert main(["runs", str(kept), "iris-4", "iris-8", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [run["name"] for run in found["runs"]] == ["iris-4", "iris-8"]
    assert found["differences"] == {"hidden": [[4], [8]]}
    assert tomllib.loads((kept / "iris-4" / "config.toml").read_text())["hidden"] == [4]


def test_no_runs_is_said(tmp_path: Path, capsys: Any) -> None:
    assert main(["runs", str(tmp_path)]) == 0
    assert "no run in" in capsys.readouterr().out
    assert main(["runs", str(tmp_path / "nowhere" / "at")]) == 1
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("name", HOSTILE[::4])
def test_a_hostile_run_adds_nothing(name: str, tmp_path: Path, capsys: Any) -> None:
    def page(name: str) -> str:
        runs = [
            Listed(
                "x", name + end, "damaged", data=name, fault=name, score={"name": name, "value": 1},
                settings={name: name + end}, curves={name: [1.0, 2.0]},
            )
            for end in "ab"
        ]  # fmt: skip
        return comparison(runs, title=name, beside="x")

    hostile, plain = elements(page(name)), elements(page("n" * len(name)))
    assert set(hostile.tags) == set(plain.tags)
    assert hostile.attributes <= plain.attributes | {"transform", "x", "y"}
    assert hostile.links == plain.links == set()
    made(tmp_path, "one", data=name, error=name, status="failed")
    assert main(["runs", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert not any(ord(c) < 32 and c != "\n" for c in out)
