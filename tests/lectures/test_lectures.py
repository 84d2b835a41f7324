"""Every system of the lectures gives its figures, and a wrong figure does not pass unseen."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule.errors import UnknownNameError
from chainrule.lectures import SYSTEMS, Check, Result, System, choose, figures, run
from chainrule.lectures.systems import plain, system

NUMBERS = [f"S{k:02}" for k in range(1, 35)]
NOT_YET: set[str] = set()
GIVEN = (  # what goes in, by its path in the file; all else comes out
    "/at$|^/worked_2_2_2/(weights|b1|b2|inputs|targets|eta)$|^/activations/x$|^/softmax/[xvt]$"
    "|^/losses(/logistic_extreme)?/[ay]$|^/relative_entropy/(y|logits)$"
    "|^/delta_003/(y|yhat_rounded|x)$"
)


@cache
def result_of(number: str) -> Result:
    return run(SYSTEMS[number])


@pytest.mark.parametrize("number", NUMBERS)
def test_a_system_gives_its_figures(number: str) -> None:
    result = result_of(number)
    assert result.error == ""
    wrong = [f"{c.what}: {c.ours} is not {c.figure}" for c in result.checks if not c.passed]
    assert not wrong
    assert result.status == ("not yet" if number in NOT_YET else "passed")


def test_no_system_is_lost() -> None:
    assert sorted(SYSTEMS) == NUMBERS
    assert [s.id for s in choose()] == NUMBERS


def test_what_exists_is_compared_with_something() -> None:
    empty = {n for n in NUMBERS if not result_of(n).checks}
    assert empty == set()


def test_every_reference_figure_is_compared() -> None:
    """A figure that no system looks at would be a system half done."""
    seen = {
        float(x)
        for n in NUMBERS
        for check in result_of(n).checks
        if plain(check.figure).dtype.kind in "fiu"
        for x in plain(check.figure).ravel()
    }
    unseen = [(path, x) for path, x in _leaves(figures()) if x not in seen]
    assert unseen == []


def _leaves(tree: Any, path: str = "") -> Iterator[tuple[str, float]]:
    if re.search(GIVEN, path):
        return
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from _leaves(value, f"{path}/{key}")
    elif isinstance(tree, list):
        for value in tree:
            yield from _leaves(value, path)
    elif isinstance(tree, (int, float)):
        yield path, float(tree)


def test_training_on_keeps_the_four_ways_apart() -> None:
    after = {c.what: float(c.figure) for c in result_of("S10").checks if "after 1 step" in c.what}
    assert len(after) == len(set(after.values())) == 4


def test_a_planted_wrong_figure_is_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(figures()["linear"], "f", -7.000001)
    result = run(SYSTEMS["S01"])
    assert result.failed
    assert [check.what for check in result.checks if not check.passed] == ["f"]


@pytest.mark.parametrize("key", ["E_after_1", "E_after_9999", "E_after_10000"])
def test_the_error_of_one_step_earlier_is_not_taken_for_right(key: str) -> None:
    fixed = figures()["worked_2_2_2"]["trained_on"]["simultaneous_biases_fixed"]
    others = [v for k, v in fixed.items() if k.startswith("E") and k != key]
    assert not any(Check("E", fixed[key], other).passed for other in others)


# -- a comparison ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "figure"),
    [
        (1.0, 1.0 + 1e-13),
        (1e6, 1e6 + 1e-7),
        (np.inf, np.inf),
        ([1.0, 2.0], np.array([1.0, 2.0])),
        ("router", "router"),
        (["×−1", "exp"], ["×−1", "exp"]),
        (True, True),
        (3, 3.0),
    ],
)
def test_what_agrees(ours: Any, figure: Any) -> None:
    assert Check("it", ours, figure).passed


@pytest.mark.parametrize(
    ("ours", "figure"),
    [
        (1.0, 1.0 + 1e-11),
        (0.0, 1e-11),
        (np.nan, 1.0),
        (np.nan, np.nan),
        (np.inf, 1.0),
        (1.0, np.inf),
        (-np.inf, np.inf),
        ([1.0, 2.0], [1.0, 2.5]),
        ([1.0, 1.0], 1.0),
        (1.0, [1.0, 1.0]),
        ([], [1.0]),
        ("router", "switcher"),
        (False, True),
        ("1.0", 1.0),
    ],
)
def test_what_does_not_agree(ours: Any, figure: Any) -> None:
    assert not Check("it", ours, figure).passed


def test_a_tensor_is_read_without_leaving_a_trace() -> None:
    x = cr.tensor([1.0, 2.0])
    check = Check("x²", x * x, [1.0, 4.0])
    assert (check.passed, check.count, check.deviation) == (True, 2, 0.0)


def test_the_deviation_is_relative_above_one() -> None:
    assert Check("it", 101.0, 100.0).deviation == pytest.approx(0.01)
    assert Check("it", 0.02, 0.01).deviation == pytest.approx(0.01)


# -- running --------------------------------------------------------------------------------------


def _system(*checks: Check, not_yet: str = "", error: Exception | None = None) -> System:
    def compute() -> Iterator[Check]:
        yield from checks
        if error is not None:
            raise error

    return System("S99", "a system of the test", "none", compute, not_yet=not_yet)


RIGHT, WRONG = Check("right", 1.0, 1.0), Check("wrong", 1.0, 2.0)


@pytest.mark.parametrize(
    ("made", "status"),
    [
        (_system(RIGHT), "passed"),
        (_system(RIGHT, WRONG), "failed"),
        (_system(), "failed"),
        (_system(not_yet="no"), "not yet"),
        (_system(RIGHT, not_yet="no"), "not yet"),
        (_system(WRONG, not_yet="no"), "failed"),
        (_system(RIGHT, error=ValueError("broken")), "failed"),
    ],
)
def test_the_status_of_a_run(made: System, status: str) -> None:
    assert run(made).status == status


def test_a_run_that_breaks_off_says_why_and_keeps_what_it_had() -> None:
    result = run(_system(RIGHT, error=ValueError("broken")))
    assert (result.error, result.checks) == ("ValueError: broken", (RIGHT,))


def test_a_number_is_given_once() -> None:
    with pytest.raises(ValueError, match="'S01' is already defined"):
        system("S01", title="again", lecture="none")(lambda: iter(()))


@pytest.mark.parametrize("given", ["S03", "s03", "S3", "3", "03"])
def test_the_ways_to_write_a_number(given: str) -> None:
    assert [s.id for s in choose([given])] == ["S03"]


@pytest.mark.parametrize("given", ["S99", "S0", "", "S", "Sigmoid", "S1.0", "S-1", "S²"])
def test_an_unknown_number(given: str) -> None:
    with pytest.raises(UnknownNameError, match="unknown lecture system"):
        choose(["S01", given])


def test_an_unknown_number_comes_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'S10'"):
        choose(["S10x"])
