"""`chainrule draw`: formats, files and errors of one line."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from chainrule.cli import main

FORMULA = ("q = x + y; f = q*z", "x=-2", "y=5", "z=-4")


def test_text_by_default(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["draw", *FORMULA]) == 0
    out = capsys.readouterr().out
    assert "├(×)─────→ f" in out
    assert "\x1b" not in out


@pytest.mark.parametrize(
    ("style", "start"), [("svg", "<svg "), ("dot", "digraph "), ("html", "<!DOCTYPE html>")]
)
def test_other_formats(style: str, start: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["draw", *FORMULA, "--format", style]) == 0
    assert capsys.readouterr().out.startswith(start)


def test_gates_open_and_close(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["draw", "sigmoid(x)", "x=1", "--open"]) == 0
    assert "(exp)" in capsys.readouterr().out
    assert main(["draw", "1/(1+exp(-x))", "x=1", "--close"]) == 0
    assert "(σ)" in capsys.readouterr().out


def test_no_gradients(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["draw", *FORMULA, "--no-gradients"]) == 0
    assert "No gradient computed" in capsys.readouterr().out


def test_a_narrow_terminal_gets_a_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["draw", *FORMULA, "--width", "40"]) == 0
    assert "f  -12  ∂ 1   (×) of q ×-4, z ×3" in capsys.readouterr().out


def test_a_file_is_not_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "f.svg"
    assert main(["draw", *FORMULA, "-o", str(path)]) == 0
    ElementTree.fromstring(path.read_text(encoding="utf-8"))
    assert main(["draw", *FORMULA, "-o", str(path)]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "--force" in error
    assert main(["draw", *FORMULA, "-o", str(path), "--force"]) == 0


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["x", "x=1", "y=2"], 1, "'y' has a value"),
        (["x", "x=1", "-o", "picture.gif"], 1, "'.gif'"),
        (["x", "x=1", "-o", "no/such/folder/f.svg"], 1, "No such file"),
        (["x", "x=1", "--format", "png"], 2, "-o FILE"),
        (["x", "x=1", "--format", "gif"], 2, "gif"),
    ],
)
def test_errors(
    arguments: list[str], status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["draw", *arguments]) == status
    error = capsys.readouterr().err
    assert said in error
    assert status == 2 or error.count("\n") == 1
