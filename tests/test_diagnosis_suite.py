"""The suite that judges a diagnosis: drawn from its seed alone, and true to what it claims."""

from __future__ import annotations

import dataclasses
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import chainrule as cr

QUICK = ("dead_relu/1", "unscaled_targets/2", "insufficient_capacity/1", "sound/sparse")


@pytest.fixture(scope="module", autouse=True)
def benchmarks(project: Path) -> Iterator[None]:
    """The benchmarks are scripts beside each other, no package."""
    sys.path.insert(0, str(project / "benchmarks"))
    yield
    sys.path.remove(str(project / "benchmarks"))


@pytest.fixture(scope="module")
def suite() -> dict[str, Any]:
    """The recorded suite by id."""
    import diagnosis_suite

    return {case.id: case for case in diagnosis_suite.cases(0)}


def differing(case: Any) -> set[str]:
    """The fields in which a faulty recipe is not its sound one."""
    fields = [f.name for f in dataclasses.fields(case.recipe)]
    pairs = [(name, getattr(case.recipe, name), getattr(case.fix, name)) for name in fields]
    return {name for name, a, b in pairs if a is not b and not _same(a, b)}


def _same(a: Any, b: Any) -> bool:
    return np.array_equal(a, b) if isinstance(a, np.ndarray) else bool(a == b)


# -- what is in it ----------------------------------------------------------------------------


def test_every_problem_is_planted_and_half_of_the_runs_are_sound(suite: dict[str, Any]) -> None:
    import diagnosis_suite

    planted = Counter(case.problems[0] for case in suite.values() if not case.sound)
    assert set(planted) == set(diagnosis_suite.PROBLEMS)
    assert min(planted.values()) >= 3
    assert sum(planted.values()) == len(suite) / 2 >= 48
    assert all({*case.problems, *case.acceptable} <= set(planted) for case in suite.values())


@pytest.mark.parametrize("sound", [True, False])
def test_both_halves_are_mixed(suite: dict[str, Any], sound: bool) -> None:
    half = [case.recipe for case in suite.values() if case.sound is sound]
    assert sum(recipe.task == "regression" for recipe in half) >= len(half) / 3
    assert {recipe.optimizer for recipe in half} >= {"sgd", "adam"}
    assert {recipe.dtype for recipe in half} == {"float32", "float64"}
    assert {1, 2, 3} < {len(recipe.layers) for recipe in half}
    assert max(len(recipe.layers) for recipe in half) >= 10


def test_a_seed_gives_the_same_suite_again_and_another_seed_another(suite: dict[str, Any]) -> None:
    import diagnosis_suite

    for key in (*QUICK, "zero_probability/1", "sound/continued"):
        case, again = suite[key], diagnosis_suite.drawn(key, 0, suite[key].attempt)
        other = diagnosis_suite.drawn(key, 7, suite[key].attempt)
        assert case.X.tobytes() == again.X.tobytes()
        assert case.y.tobytes() == again.y.tobytes()
        assert case.recipe.layers == again.recipe.layers
        assert case.recipe.seed == again.recipe.seed
        assert case.X.shape != other.X.shape or case.X.tobytes() != other.X.tobytes()


def test_what_is_recorded_is_what_is_listed(suite: dict[str, Any]) -> None:
    import diagnosis_suite

    assert set(diagnosis_suite.recorded()["0"]) == set(diagnosis_suite.entries()) == set(suite)


def test_a_fault_changes_one_thing(suite: dict[str, Any]) -> None:
    """An output layer goes with its loss, data with their truth."""
    for case in suite.values():
        if case.sound:
            continue
        changed = differing(case) - {"truth", "clip"}
        assert changed, f"{case.id} plants nothing"
        assert len(changed) == 1 or changed in ({"layers", "loss"}, {"X", "y"}), case.id


# -- what it claims ---------------------------------------------------------------------------


@pytest.mark.parametrize("key", QUICK)
def test_the_outcome_says_what_the_case_claims(suite: dict[str, Any], key: str) -> None:
    import diagnosis_suite

    assert diagnosis_suite.holds(suite[key])


def test_a_case_that_is_not_what_it_claims_is_not_kept(suite: dict[str, Any]) -> None:
    import diagnosis_suite

    case = suite["dead_relu/1"]
    assert not diagnosis_suite.holds(dataclasses.replace(case, recipe=case.fix))
    assert not diagnosis_suite.holds(dataclasses.replace(case, fix=case.recipe))
    assert not diagnosis_suite.holds(
        dataclasses.replace(diagnosis_suite.twin(case), recipe=case.recipe)
    )


@pytest.mark.slow
def test_crossed_cases_are_drawn_anew_and_hold(suite: dict[str, Any]) -> None:
    import diagnosis_suite

    only = ("crossed/single_class_softmax", "crossed/sound/5")
    found = diagnosis_suite.cases(3, only, crossed=True)
    assert [case.sound for case in found] == [False] * 3 + [True]
    assert not {case.id for case in found} & set(suite)
    assert len({case.X.tobytes() for case in found}) == len(found)
    assert all(diagnosis_suite.holds(case) for case in found[2:])


@pytest.mark.slow
def test_every_recorded_case_holds(suite: dict[str, Any]) -> None:
    import diagnosis_suite

    assert [case.id for case in suite.values() if not diagnosis_suite.holds(case)] == []


@pytest.mark.slow
def test_another_seed_gives_a_whole_suite(suite: dict[str, Any]) -> None:
    import diagnosis_suite

    assert [case.id for case in diagnosis_suite.cases(7)] == list(suite)


# -- how a diagnosis is judged ----------------------------------------------------------------


def test_a_remedy_is_judged_by_running_its_code(suite: dict[str, Any]) -> None:
    import diagnosis

    case = suite["unscaled_targets/2"]
    good = diagnosis.remedied(case, "y = (y - y.mean()) / y.std()")
    assert good["reached"] >= case.threshold > diagnosis.remedied(case, "pass")["reached"]
    assert "NameError" in diagnosis.remedied(case, "y = scaled(y)")["why"]
    assert "rows" in diagnosis.remedied(case, "X, y = X[:9], y[:9]")["why"]


def test_a_report_is_judged(suite: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    import diagnosis

    case = suite["unscaled_targets/2"]
    code = "y = (y - y.mean()) / y.std()"

    def says(problem: str, *, helped: bool = True) -> Any:
        verified = SimpleNamespace(helped=helped, before=0.0, after=1.0)
        finding = SimpleNamespace(problem=problem, verified=verified, remedy=code)
        return lambda *args, **options: SimpleNamespace(healthy=False, findings=[finding])

    def row(report: Any) -> dict[str, Any]:
        monkeypatch.setattr(cr, "diagnose", report, raising=False)
        return diagnosis.judged((case.id, case.attempt, False), 0, ours=True, peers=False)

    found = row(says("unscaled_targets"))
    assert diagnosis.case_row(found)[1:4] == ["unscaled_targets", "✓", "yes"]
    assert diagnosis.reached_goal(found)
    assert diagnosis.case_row(row(says("data_fault", helped=False)))[1:4] == ["data_fault", "✗", ""]
    healthy = row(lambda *args, **options: SimpleNamespace(healthy=True, findings=[]))
    assert diagnosis.case_row(healthy)[1:3] == ["sound", "✗"]
    failed = row(lambda *args, **options: 1 / 0)
    assert "ZeroDivisionError" in diagnosis.case_row(failed)[1]
    assert any(case.id in line for line in diagnosis.summary([failed]))
    assert diagnosis.tool_rows([failed], ["chainrule"])[0][1:3] == ["0 of 1 (0 %)"] * 2
    assert (
        diagnosis.tool_rows([{**failed, "problems": ()}], ["chainrule"])[0][5] == "1 of 1 (100 %)"
    )


def test_peers_say_what_their_rules_say(suite: dict[str, Any]) -> None:
    from diagnosis_suite.peers import PEERS
    from diagnosis_suite.watching import watch

    dead, broken, sparse = (
        {name: [text for text, _ in rules(run)] for name, rules in PEERS.items()}
        for run in (watch(suite[key]) for key in ("dead_relu/1", "data_fault/1", "sound/sparse"))
    )
    assert "dying" in dead["AutoTrainer"]
    assert "dead ReLU" in dead["SageMaker rules"]
    assert "NaN in the input" in broken["Umlaut"]
    assert broken["DeepDiagnosis"] == ["numerical error"]
    assert sparse["DeepDiagnosis"] == ["dead node"]  # it counts zeros, not units
    assert "dead ReLU" not in sparse["SageMaker rules"]
