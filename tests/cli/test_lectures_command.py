"""`chainrule lectures`: the table, the figures of one system, JSON and exit statuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from chainrule.cli.lectures import digits, lectures
from chainrule.lectures import SYSTEMS, System, figures


@pytest.fixture
def missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """S31 as a system of which nothing is there yet."""
    made = System("S31", "A system to come", "slides", lambda: iter(()), not_yet="all of it")
    monkeypatch.setitem(SYSTEMS, "S31", made)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch, missing: None) -> None:
    """Three systems instead of all: one that passes, one with an erratum, one that is missing."""
    for number in set(SYSTEMS) - {"S01", "S14", "S31"}:
        monkeypatch.delitem(SYSTEMS, number)


@pytest.fixture
def called() -> Callable[..., Result]:
    def call(*args: str) -> Result:
        return CliRunner().invoke(lectures, list(args))

    return call


def _without_time(text: str) -> str:
    return text[: text.rindex(" in ")] if " in " in text else text


TABLE = """\
id   system                                                                  figures  worst
S01  A linear unit: f = wx + b through g = wx                                      6      0  ✓
S14  Softmax with β, in physics' form exp(−βx)                                    72  1e-16  ✓
     erratum: The lines mix e^{−βx} with e^{x}: with β the Jacobian has a
     factor −β.
S31  A system to come                                                              0      –  not yet
     not yet: all of it
"""

FIGURES = """\
S01  A linear unit: f = wx + b through g = wx  ✓
Lecture: slides
Forward gives g and f; backward multiplies along each path from f to a variable.
what   ours  figure  off by
f        -7      -7       0  ✓
∂f/∂w     5       5       0  ✓
∂f/∂x    -2      -2       0  ✓
∂f/∂b     1       1       0  ✓
g       -10     -10       0  ✓
∂f/∂g     1       1       0  ✓

1 system: 1 passed; 6 figures"""


@pytest.mark.usefixtures("few")
def test_the_table(called: Callable[..., Result]) -> None:
    result = called()
    assert result.exit_code == 0
    assert result.stdout.startswith(TABLE)
    last = result.stdout.splitlines()[-1]
    assert _without_time(last) == "3 systems: 2 passed, 1 not yet; 78 figures"


def test_the_figures_of_one_system(called: Callable[..., Result]) -> None:
    result = called("S01")
    assert result.exit_code == 0
    assert _without_time(result.stdout) == FIGURES


def test_figures_have_fifteen_digits(called: Callable[..., Result]) -> None:
    text = called("S3").stdout
    assert "0.731058578630005" in text
    assert "upstream gradient of each stage [2]" in text


def test_of_many_elements_the_worst_is_shown(called: Callable[..., Result]) -> None:
    assert "contributions add up: worst of 59" in called("S04").stdout


@pytest.mark.usefixtures("missing")
def test_an_erratum_and_what_is_missing_are_said(called: Callable[..., Result]) -> None:
    text = called("S31", "S25").stdout
    assert "Not yet: " in text
    assert "Erratum: ∂E/∂z is −(d − z)" in text
    assert "2 systems: 1 passed, 1 not yet;" in text


def test_a_wrong_figure_is_marked_and_the_status_is_1(
    called: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, few: None
) -> None:
    monkeypatch.setitem(figures()["linear"], "f", -7.5)
    detailed, table = called("S01"), called()
    assert (detailed.exit_code, table.exit_code) == (1, 1)
    (line,) = [line for line in detailed.stdout.splitlines() if line.startswith("f ")]
    assert line.split() == ["f", "-7", "-7.5", "7e-02", "✗"]
    assert "S01  A linear unit: f = wx + b through g = wx" in table.stdout
    assert "wrong: f\n" in table.stdout
    assert "1 passed, 1 failed, 1 not yet" in table.stdout


def test_a_system_that_breaks_off_fails(
    called: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(figures()["linear"], "f")
    monkeypatch.delitem(figures()["linear"], "grad")
    result = called("S01")
    assert result.exit_code == 1
    assert "KeyError: 'grad'" in result.stdout


def test_an_array_of_another_shape_fails(
    called: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(figures()["linear"], "f", [1.0, 2.0])
    result = called("S01")
    assert result.exit_code == 1
    assert "shape (2,)" in result.stdout


@pytest.mark.parametrize(("given", "meant"), [("S99", "S"), ("S10x", "S10'?")])
def test_an_unknown_system_is_wrong_usage(
    given: str, meant: str, called: Callable[..., Result]
) -> None:
    result = called("S01", given)
    assert result.exit_code == 2
    assert f"unknown lecture system '{given}'; did you mean '{meant}" in result.stderr
    assert result.stdout == ""


@pytest.mark.usefixtures("missing")
def test_json(called: Callable[..., Result]) -> None:
    result = called("--json", "S01", "S16", "S31")
    assert result.exit_code == 0
    document: dict[str, Any] = json.loads(result.stdout, parse_constant=pytest.fail)
    assert [document[key] for key in ("passed", "failed", "not_yet")] == [2, 0, 1]
    first, second, third = document["systems"]
    assert (first["id"], first["status"], first["figures"]) == ("S01", "passed", 6)
    assert first["checks"][0] == {
        "what": "f",
        "ours": -7.0,
        "figure": -7,
        "tolerance": 1e-12,
        "deviation": 0.0,
        "passed": True,
    }
    assert any(check["ours"] == "inf" for check in second["checks"])
    assert (third["status"], third["checks"]) == ("not yet", [])


def test_json_of_a_failure(called: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(figures()["linear"], "f", -7.5)
    result = called("S01", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["systems"][0]["status"] == "failed"


@pytest.mark.usefixtures("few")
def test_colour_only_where_it_is_wanted(
    called: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "\x1b" not in called().stdout
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    assert "\x1b[" in called().stdout
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[32m" not in called().stdout


@pytest.mark.parametrize(
    ("value", "text"),
    [(1 / 3, "0.333333333333333"), (5, "5"), (True, "yes"), (False, "no"), ("exp", "exp")],
)
def test_digits(value: Any, text: str) -> None:
    assert digits(value) == text


@pytest.mark.parametrize(
    ("style", "holds"),
    [
        ("latex", r"\frac{\partial f}{\partial x}"),
        ("mathml", "<math"),
        ("svg", "<svg"),
        ("html", "<main"),
    ],
)
def test_a_system_is_given_in_other_forms(
    called: Callable[..., Result], style: str, holds: str, tmp_path: Path
) -> None:
    assert holds in called("S02", "--format", style).stdout
    place = tmp_path / "out"
    assert called("S02", "--format", style, "-o", str(place)).exit_code == 0
    assert holds in place.read_text(encoding="utf-8")


def test_a_form_of_a_circuit_needs_one_system_that_has_one(called: Callable[..., Result]) -> None:
    for words in (("S02", "S03"), ("S31",), ()):
        result = called(*words, "--format", "svg")
        assert result.exit_code == 2
        assert "the circuit of one system: S01, S02" in result.stderr


def test_the_table_can_go_into_a_file(called: Callable[..., Result], tmp_path: Path) -> None:
    place = tmp_path / "s01.txt"
    assert called("S01", "-o", str(place)).exit_code == 0
    assert "∂f/∂w" in place.read_text(encoding="utf-8")
