"""Counterfactuals: each run once, counted, within a budget; and what Ctrl-C and a clock end."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import optim
from chainrule.diagnose import setup as setups
from chainrule.diagnose import trials as module
from chainrule.diagnose.pasted import pasted
from chainrule.diagnose.setup import Change, Outcome, Setup
from chainrule.diagnose.show import Show
from chainrule.diagnose.task import task_of
from chainrule.diagnose.trials import Trials, residual
from chainrule.nn import losses
from diagnose.planted import CROSS, FAULTY, SIDE, X, bytes_of, net, report, run


def setup_of(model: Any = None, y: Any = SIDE, loss: Any = "logistic", **changes: Any) -> Setup:
    loss = losses.get(loss)
    made = Setup(model or net(), X, y, loss, optim.Adam(lr=0.05), 10, 40, 0, task_of(loss, y, 1))
    return made.changed(**changes)


def trials_of(setup: Setup | None = None, times: float = 5.0, **more: Any) -> Trials:
    return Trials(setup or setup_of(), times, Show(), **more)


def rate(lr: float) -> Change:
    return pasted(f"rate {lr}", f"optimizer = optim.Adam(lr={lr})")


@pytest.fixture
def fitted(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The models that `fit` was called with."""
    models: list[Any] = []

    def counting(model: Any, *data: Any, **settings: Any) -> Any:
        models.append(model)
        return cr.fit(model, *data, **settings)

    monkeypatch.setattr(setups, "fit", counting)
    return models


# -- runs ------------------------------------------------------------------------------------------


def test_each_change_is_run_once_and_answered_in_the_order_asked(fitted):
    trials = trials_of()
    changes = [rate(0.01), rate(0.02), rate(0.01)]
    first = trials.attempt(changes)
    assert [change.name for change, _ in first] == ["rate 0.01", "rate 0.02"]
    again = trials.attempt([rate(0.02), rate(0.03), rate(0.01)])
    assert [change.name for change, _ in again] == ["rate 0.02", "rate 0.03", "rate 0.01"]
    assert again[0][1] is first[1][1]
    assert len(fitted) == trials.runs == len(trials.done) == 3
    assert len(set(map(id, fitted))) == 3
    assert trials.setup.model not in fitted


def test_a_counterfactual_is_fit_with_one_thing_changed_and_the_model_left_alone():
    setup = setup_of()
    before = bytes_of(setup.model)
    ((_, outcome),) = trials_of(setup).attempt([rate(0.2)])
    model = net()
    history = cr.fit(model, X, SIDE, loss="logistic", optimizer=optim.Adam(lr=0.2), epochs=10,
                     batch_size=40, seed=0, progress=False, compile=False)  # fmt: skip
    assert outcome.curve.loss == tuple(history.loss)
    assert bytes_of(outcome.model) == bytes_of(model)
    assert outcome.loss == pytest.approx(float(losses.logistic(model.predict(X), SIDE)), rel=1e-6)
    assert outcome.score.value == np.mean((model.predict(X) > 0) == SIDE)
    assert bytes_of(setup.model) == before


def test_a_change_that_does_not_fit_the_network_is_left_out(fitted):
    trials = trials_of()
    broken = [
        pasted("more layers", "model = nn.Sequential(*model, 3)"),
        pasted("rows", "X = X[::0]"),
    ]
    assert trials.attempt(broken) == []
    assert fitted == []
    assert trials.outcome_of(broken[0]) is None


def test_a_run_that_leaves_the_finite_numbers_is_an_outcome():
    ((_, outcome),) = trials_of().attempt([pasted("no data", "X = X * np.nan")])
    assert outcome.score.error
    assert residual(outcome) == 1.0
    assert outcome.skill == -np.inf


def test_what_several_do_at_once_is_what_they_do_one_by_one(monkeypatch):
    changes = [rate(lr) for lr in (0.001, 0.01, 0.1, 1.0, 10.0)]
    one = trials_of().attempt(changes)
    monkeypatch.setattr(module, "APART", 0.0)
    monkeypatch.setattr(module, "cores", lambda: 3)
    trials = trials_of()
    several = trials.attempt(changes)
    assert trials.runs == 5
    assert [c.name for c, _ in several] == [c.name for c, _ in one]
    assert [o.curve.loss for _, o in several] == [o.curve.loss for _, o in one]
    assert [bytes_of(o.model) for _, o in several] == [bytes_of(o.model) for _, o in one]


def test_the_best_is_what_leaves_least_to_learn_the_earliest_of_equals():
    trials = trials_of(setup_of(epochs=30))
    assert trials.best() is None
    trials.attempt([rate(1e-6), rate(0.1), rate(0.05), rate(1e-7)])
    change, outcome = trials.best()
    left = [residual(o) for _, o in trials.done.values()]
    assert residual(outcome) == min(left)
    assert change.name == list(trials.done)[left.index(min(left))]
    assert residual(None) == 1.0


def test_a_worse_answer_than_a_constant_leaves_all_to_learn():
    score = setups.Score("r2", -3.0, 0.0, 1.0)
    assert residual(Outcome(score, setups.Curve("", ()))) == 1.0


# -- the budget ------------------------------------------------------------------------------------


def test_the_budget_is_counted_in_work_and_what_it_refuses_is_said(monkeypatch, fitted):
    monkeypatch.setattr(module, "SMALL", 0.0)
    setup = setup_of()
    trials = trials_of(setup, times=2.5)
    done = trials.attempt([rate(0.01), rate(0.02), rate(0.03), rate(0.04)])
    assert [c.name for c, _ in done] == ["rate 0.01", "rate 0.02"]
    assert trials.refused == ["rate 0.03", "rate 0.04"]
    assert len(fitted) == 2
    assert trials.left == pytest.approx(0.5 * setup.work)
    half = pasted("half as long", "epochs = 5")
    assert [c.name for c, _ in trials.attempt([half])] == ["half as long"]
    assert trials.attempt([rate(0.03)]) == []


def test_what_is_small_is_never_refused(fitted):
    trials = trials_of(times=1e-9)
    assert len(trials.attempt([rate(0.01), rate(0.02)])) == 2
    assert trials.refused == []


def test_a_report_says_what_the_budget_had_no_room_for(monkeypatch, fitted):
    monkeypatch.setattr(module, "SMALL", 0.0)
    found = cr.diagnose(**run(net(), CROSS, "logistic", lr=1e-4), budget=2.0, progress=False)
    assert found.facts["not tried for want of budget"]
    assert found.facts["runs"] == len(fitted)
    assert not found.unfinished
    work = found.setup.work
    assert len(found.tried) * work <= 2.0 * work
    larger = cr.diagnose(**run(net(), CROSS, "logistic", lr=1e-4), budget=50.0, progress=False)
    assert len(larger.tried) > len(found.tried)


def test_work_counts_rows_weights_and_steps():
    setup = setup_of()
    assert setup.steps == 30
    assert setup.changed(batch_size=None).steps == 10
    assert setup.changed(batch_size=1000).steps == 10
    assert setup.changed(batch_size=7).steps == 180
    assert setup.changed(optimizer=optim.LBFGS()).steps == 10
    longer = setup.changed(epochs=20)
    assert longer.work == pytest.approx(2 * setup.work)


# -- rows held back --------------------------------------------------------------------------------


def test_rows_held_back_tell_what_is_known_from_what_is_learnt_by_heart():
    trials = trials_of(setup_of(epochs=60))
    known = trials.held_out(None)
    assert known.shape == (120,)
    assert known.mean() < 0.3
    assert trials.runs == 4
    assert trials.held_out(None) is known
    rng = np.random.default_rng(5)
    loose = rng.integers(0, 2, (120, 1)).astype(float)
    setup = setup_of(net(units=64), loose, epochs=60)
    trials = trials_of(setup)
    ((change, outcome),) = trials.attempt([pasted("long", "epochs = 400")])
    assert outcome.skill > 0.5
    assert trials.held_out(change).mean() > 0.6


def test_truth_tables_and_few_rows_are_not_divided():
    table = np.array([[0, 0], [0, 1], [1, 0], [1, 1]] * 30, float)
    for X_ in (table, X[:20]):
        setup = setup_of(y=SIDE[: len(X_)]).changed(X=X_)
        assert not module.separable(setup)
        trials = trials_of(setup)
        assert trials.held_out(None) is None
        assert trials.runs == 0
    assert module.separable(setup_of())


# -- the end of the time, and Ctrl-C ---------------------------------------------------------------


@pytest.mark.parametrize("seconds", [1e-9, 0.02, 0.1])
def test_a_clock_ends_a_diagnosis_and_the_report_says_so(seconds):
    arguments = run(net(), CROSS, "logistic", epochs=400, lr=1e-5)
    before = bytes_of(arguments["model"])
    found = cr.diagnose(**arguments, seconds=seconds, progress=False)
    assert found.unfinished == "the time was over"
    assert "time was over" in str(found)
    assert found.to_dict()["unfinished"] == found.unfinished
    assert bytes_of(arguments["model"]) == before
    for finding in found.findings:  # what was not run is not called verified
        assert finding.verified is None or finding.verified.curves[1].loss


def test_enough_seconds_leave_the_report_as_it_is():
    again = cr.diagnose(**FAULTY["dead_relu"](), seconds=600.0, progress=False)
    assert again.to_dict() == report("dead_relu").to_dict()


def test_nothing_more_is_run_when_it_has_been_stopped(fitted):
    trials = trials_of()
    trials.attempt([rate(0.01)])
    trials.stop()
    assert trials.stopped == "it was interrupted"
    assert [c.name for c, _ in trials.attempt([rate(0.01), rate(0.02)])] == ["rate 0.01"]
    assert trials.outcome_of(rate(0.03)) is None
    assert len(fitted) == 1


CHILD = """
import importlib, os, signal, sys
import numpy as np
import chainrule as cr
from diagnose.planted import FAULTY

def diagnosed(**more):
    return cr.diagnose(**FAULTY["dead_relu"](), progress=False, **more)

def pressed(module, name, call, times=1, **more):
    "What comes of a diagnosis when Ctrl-C is pressed as a function is called."
    holder = importlib.import_module("chainrule.diagnose." + module)
    *above, last = name.split(".")
    for part in above:
        holder = getattr(holder, part)
    own, count = getattr(holder, last), [0]
    def calling(*args, **settings):
        count[0] += 1
        if count[0] == call:
            for _ in range(times):
                os.kill(os.getpid(), signal.SIGINT)
        return own(*args, **settings)
    setattr(holder, last, calling)
    try:
        return diagnosed(**more), count[0]
    finally:
        setattr(holder, last, own)

signal.signal(signal.SIGINT, signal.default_int_handler)
"""


def child(code: str, project: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", CHILD + textwrap.dedent(code)],
        capture_output=True, text=True, timeout=120,
        env={**os.environ, "PYTHONPATH": str(project / "tests")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_ctrl_c_at_any_moment_returns_what_is_known_so_far(project):
    out = child(
        """
        whole = diagnosed()
        assert not whole.unfinished and whole.findings[0].verified
        moments = [
            ("diagnosis", "static_suspects", 1), ("setup", "fit", 1), ("setup", "judged", 1),
            ("diagnosis", "judge", 1), ("watching", "read", 1), ("watching", "walk", 1),
            ("setup", "fit", 2), ("setup", "judged", 2), ("trials", "Trials._applied", 1),
            ("diagnosis", "advice", 1),
        ]
        for module, name, call in moments:
            report, calls = pressed(module, name, call)
            assert calls >= call, (name, calls)
            assert report.unfinished == "it was interrupted", name
            assert "interrupted" in str(report)
            report.to_dict()
            runs = report.facts["runs"]
            assert 1 <= runs <= whole.facts["runs"], name
            proved = [f for f in report.findings if f.verified is not None]
            assert len(report.tried) <= runs - 1 and (runs > 1 or not proved), name
            print(name, call, runs, [f.problem for f in report.findings])
            assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        assert diagnosed().to_dict() == whole.to_dict()
        """,
        project,
    ).splitlines()
    assert len(out) == 10
    assert out[3] == "judge 1 1 ['dead_relu']"  # named by its signature, nothing is proved


def test_a_second_ctrl_c_does_not_wait(project):
    out = child(
        """
        try:
            pressed("watching", "read", 1, times=2)
        except KeyboardInterrupt:
            print("at once")
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        """,
        project,
    )
    assert out == "at once\n"


def test_starts_that_were_not_run_to_their_end_are_not_counted(project):
    out = child(
        """
        runs = diagnosed().facts["runs"]
        for more in range(1, 6):
            report, _ = pressed("setup", "fit", runs + more, starts=3)
            print(report.unfinished or "whole", "|", report.starts)
        """,
        project,
    ).splitlines()
    counts = [line.partition(" of ")[2].split(" ")[0] for line in out]
    assert counts == ["1", "1", "2", "2", "3"]
    assert [line.partition(" | ")[0] for line in out] == ["it was interrupted"] * 4 + ["whole"]


def test_somebody_elses_handler_of_ctrl_c_is_left_to_them(project):
    out = child(
        """
        told = []
        signal.signal(signal.SIGINT, lambda *_: told.append("mine"))
        report, _ = pressed("watching", "read", 1)
        print(told, report.unfinished or "whole")
        """,
        project,
    )
    assert out == "['mine'] whole\n"


def test_a_diagnosis_runs_in_another_thread_than_the_first():
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        arguments = {**FAULTY["dead_relu"](), "progress": False}
        found = pool.submit(lambda: cr.diagnose(**arguments)).result()
    assert found.to_dict() == report("dead_relu").to_dict()


def test_progress_goes_to_stderr_and_says_what_is_run(capsys):
    found = cr.diagnose(**FAULTY["dead_relu"](), progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert lines[0].startswith("as it is: accuracy ")
    assert len(lines) == found.facts["runs"]
    cr.diagnose(**FAULTY["dead_relu"](), progress=None)
    assert capsys.readouterr() == ("", "")
