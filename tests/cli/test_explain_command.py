"""`chainrule explain`: tables, chains of factors, forms for other programs, files, errors."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

import golden
from chainrule.cli.main import main

CIRCUIT = ("q = x + y; f = q*z", "x=-2", "y=5", "z=-4")


def run(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["explain", *words]) == 0
    return capsys.readouterr().out


def test_the_text_has_both_tables_and_the_chains(capsys: pytest.CaptureFixture[str]) -> None:
    text = run(capsys, *CIRCUIT)
    golden.check("explain_command.txt", text)
    assert "∂f/∂x = ∂f/∂q · ∂q/∂x = (-4) × 1 = -4" in text
    assert text.rstrip().endswith("∂f/∂z = 3")


def test_the_names_of_the_chains_are_those_of_the_table(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = run(capsys, "sigmoid(w*x) * 2", "w=1", "x=2", "--wrt", "w")
    assert "n1     w × x" in text
    assert "∂n1/∂w" in text
    assert "net1" not in text


def test_opened_and_closed(capsys: pytest.CaptureFixture[str]) -> None:
    opened = run(capsys, "f = sigmoid(x)", "x=1", "--open")
    assert "reciprocal: scaler" in opened
    closed = run(capsys, "f = 1/(1 + exp(-x))", "x=1", "--close")
    assert "sigmoid: scaler" in closed
    assert "∂f/∂x = f · (1 − f) = 0.196611933" in closed


def test_the_largest_paths(capsys: pytest.CaptureFixture[str]) -> None:
    text = run(capsys, "f = x*y + x*x + sin(x)", "x=1.3", "y=2", "--wrt", "x", "--paths")
    assert "the largest paths from f to x" in text
    assert "2 + 1.3 + 1.3 + 0.267498829 = 4.867498829   (all of them)" in text


def test_latex_mathml_html_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert r"\frac{\partial f}{\partial x}" in run(capsys, *CIRCUIT, "--format", "latex")
    ElementTree.fromstring(run(capsys, *CIRCUIT, "--format", "mathml"))
    assert "<!DOCTYPE html>" in run(capsys, *CIRCUIT, "--format", "html")
    assert json.loads(run(capsys, *CIRCUIT, "--json"))["gradients"] == {"x": -4, "y": -4, "z": 3}


def test_arrays_are_explained_in_matrix_form(capsys: pytest.CaptureFixture[str]) -> None:
    text = run(capsys, "sum(tanh(W @ x))", "W=[[1, 2], [3, 4]]", "x=[0.1, 0.2]")
    assert "of shape 2×2" in text


def test_a_file_is_written_and_not_overwritten(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "out.txt"
    assert run(capsys, *CIRCUIT, "-o", str(path)) == ""
    assert "∂f/∂x" in path.read_text(encoding="utf-8")
    assert main(["explain", *CIRCUIT, "-o", str(path)]) == 1
    assert "--force" in capsys.readouterr().err
    assert run(capsys, *CIRCUIT, "-o", str(path), "--force", "--format", "json") == ""
    assert json.loads(path.read_text(encoding="utf-8"))["output"] == "f"


def test_an_unknown_variable_offers_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "f = alpha*2", "alpha=1", "--wrt", "alpa"]) == 1
    assert "did you mean 'alpha'?" in capsys.readouterr().err
