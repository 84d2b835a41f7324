"""`chainrule compare`: what it prints and writes, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from chainrule.cli import main
from chainrule.compare import PRESETS, workers
from chainrule.compare.cell import run
from chainrule.compare.findings import of_ratio
from chainrule.compare.presets import replay
from chainrule.compare.ranking import Ratio
from chainrule.compare.statistics import Interval

SMALL = ["--hidden", "4", "--epochs", "2", "--seeds", "2", "--jobs", "1"]


def compare(*words: str, status: int = 0) -> None:
    assert main(["compare", *words]) == status


def test_the_table_and_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "it.html"
    compare("iris", "--activation", "tanh", "--activation", "relu", *SMALL, "--html", str(page))
    out, err = capsys.readouterr()
    assert "iris: 2 combinations × 2 seeds" in out
    assert "leads" in out
    assert f"saved {page}" in out
    assert err.splitlines()[-1] == "4 of 4 runs"
    assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    compare("iris", *SMALL, "--html", str(page), status=1)
    assert "exists already" in capsys.readouterr().err


def test_json_alone_is_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    compare("iris", "--activation", "tanh", "--lr", "0.1", "--lr", "0.01", *SMALL, "--json")
    out, err = capsys.readouterr()
    assert err == ""
    document = json.loads(out)
    assert document["ranking"][0]["label"] == "tanh"
    assert len(document["tuning"]) == 4


def test_a_csv_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [f"{k / 7},{k % 5},{'yes' if k > 20 else 'no'}" for k in range(42)]
    path = tmp_path / "fruit.csv"
    path.write_text("\n".join(["size,marks,ripe", *rows]) + "\n", encoding="utf-8")
    compare(str(path), "--target", "ripe", "--activation", "tanh", *SMALL, "-q")
    out, err = capsys.readouterr()
    assert "1 combination × 2 seeds" in out
    assert err == ""
    compare(str(path), *SMALL, status=1)
    assert "--target" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        ([], 2, "name DATA, or a claim with --preset"),
        (["iris", "--preset", "maxout"], 2, "name DATA, or a claim with --preset"),
        (["--preset", "maxuot"], 1, "unknown preset 'maxuot'; did you mean 'maxout'?"),
        (["--preset", "maxout", "--loss", "nll"], 1, "leave out --loss"),
        (["irs"], 1, "unknown dataset 'irs'; did you mean 'iris'?"),
        (["iris", "--activation", "rleu"], 1, "unknown activation 'rleu'"),
        (["iris", "--html", "nowhere/it.html"], 1, "there is no folder 'nowhere'"),
    ],
)
def test_bad_commands(
    words: list[str], status: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    compare(*words, status=status)
    err = capsys.readouterr().err
    assert message in err
    assert "Traceback" not in err


def test_control_c_prints_what_is_finished(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done: list[Any] = []

    def interrupted(experiment: Any, task: Any) -> Any:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(task)
        return run(experiment, task)

    monkeypatch.setattr(workers, "run", interrupted)
    compare("iris", "--activation", "tanh", *SMALL[:-4], "--seeds", "3", status=130)
    out, err = capsys.readouterr()
    assert "Unfinished: stopped after 2 of 3 runs." in out
    assert "interrupted" in err


# -- the lectures' claims --------------------------------------------------------------------------


def test_the_list_of_presets(capsys: pytest.CaptureFixture[str]) -> None:
    compare("--list")
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines()] == list(PRESETS)


def test_a_preset_prints_claim_figures_and_verdicts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "dead.html"
    words = ("--preset", "dead-relu", "--seeds", "2", "--epochs", "2", "--jobs", "1")
    compare(*words, "--html", str(page), "-q")
    out = capsys.readouterr().out
    assert out.startswith(f"dead-relu: {PRESETS['dead-relu'].claim}")
    assert "Measured: dead after training at rate 2:" in out
    assert "verdict" in page.read_text(encoding="utf-8")


def test_maxout_doubles_the_parameters_whatever_is_trained() -> None:
    small = {"combinations": _one_rate(PRESETS["maxout"].runs["each at its best rate"])}
    found = replay("maxout", seeds=2, jobs=1, progress=False, epochs=1, compile=False, **small)
    first = found.findings[0]
    assert (first.value, first.verdict) == (2.0, "holds here")
    assert first.figure.startswith("4160 over 2080, 2×; of the network 4490 over 2410")
    assert json.loads(found.to_json())["findings"][0]["value"] == 2.0


def _one_rate(options: dict[str, Any]) -> list[Any]:
    import dataclasses

    return [dataclasses.replace(c, lr=0.3) for c in options["combinations"]]


@pytest.mark.parametrize(
    ("interval", "at_least", "verdict"),
    [
        ((6.5, 5.5, 7.5), False, "holds here"),
        ((2.9, 2.2, 3.9), False, "holds partly: 2.9×, not 6×"),
        ((3.2, 2.9, 3.6), True, "holds partly: at least 3.2×; it did not get there in time"),
        ((2.9, 1.2, 7.1), False, "holds partly: 2.9×, too uncertain for 6×"),
        ((1.0, 0.9, 1.2), False, "not here: the difference may be noise"),
        ((0.5, 0.3, 0.9), False, "not here: the reverse"),
        (
            (0.5, 0.3, 0.9),
            True,
            "not here: it did not get there in time, so how much more it takes is not known",
        ),
    ],
)
def test_verdicts(interval: tuple[float, float, float], at_least: bool, verdict: str) -> None:
    assert of_ratio(Ratio(Interval(*interval), at_least, 5), 6.0) == verdict
