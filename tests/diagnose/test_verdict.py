"""The verdict: outcome before signature, cause before consequence, and no proof without a run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim
from chainrule.diagnose.before.check import static_suspects
from chainrule.diagnose.finding import PROBLEMS
from chainrule.diagnose.setup import run as run_of
from chainrule.diagnose.show import Show
from chainrule.diagnose.signs import signs
from chainrule.diagnose.treatment import MARGIN
from chainrule.diagnose.trials import Trials, residual
from chainrule.diagnose.verdict import judge
from chainrule.diagnose.watching import watched
from chainrule.nn.initializers import constant, zeros
from diagnose.planted import CROSS, CURVE, FAULTY, LABELS, SIDE, X, net, report, run


def diagnose(*run_: Any, **more: Any) -> Any:
    return cr.diagnose(**run(*run_, **more), progress=False)


def names(found: Any) -> list[str]:
    return [finding.problem for finding in found.findings]


# -- what a report may say -------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(FAULTY))
def test_findings_and_proofs_agree_with_each_other(name):
    found = report(name)
    assert not found.healthy
    assert len(set(names(found))) == len(found.findings) <= 10
    assert set(names(found)) <= set(PROBLEMS)
    assert all(finding.severity in ("problem", "note") for finding in found.findings)
    tried = dict(found.tried)
    for finding in found.findings:
        proof = finding.verified
        if proof is None:
            continue
        assert proof.before == found.score
        assert any(score is proof.after for score in tried.values())
        left = 1 - min(1.0, max(0.0, proof.after.skill))
        before = 1 - min(1.0, max(0.0, proof.before.skill))
        gain = before - left
        assert proof.helped is (gain >= MARGIN or (bool(proof.before.error) and left < 1))
        assert bool(proof) is proof.helped
        assert proof.helped or not proof.reached
        assert proof.curves[0] is found.curve


@pytest.mark.parametrize("name", list(FAULTY))
def test_the_change_of_a_report_is_its_first_remedy_and_gives_its_proof(name):
    found = report(name)
    first = found.findings[0]
    assert found.change.code == first.remedy
    assert found.change.name in found.reason
    outcome = run_of(found.change.apply(found.setup))
    assert outcome.score == first.verified.after


def test_a_cause_stands_before_what_follows_from_it():
    """Steps of this length throw the tanh units into saturation; they were sound at the start."""
    found = report("learning_rate_too_high")
    assert names(found)[0] == "learning_rate_too_high"
    assert "saturation" in names(found)[1:]
    assert all(finding.severity == "note" for finding in found.findings[1:])
    assert all(flow.saturated < 0.5 for flow in found.start[:-1])
    assert any(flow.saturated > 0.5 for flow in found.end[:-1])


def test_units_that_long_steps_kill_are_a_consequence():
    found = diagnose(net(transfer=nn.ReLU), CURVE, "squared_error", optimizer=optim.SGD(lr=8.0))
    assert names(found)[0] == "learning_rate_too_high"
    assert found.findings[0].verified
    assert not any(flow.dead for flow in found.start[:-1] if len(flow.dead) * 2 >= flow.units)


def test_a_pair_of_changes_of_which_one_does_it_alone_is_that_one():
    """Half of the units are flat at the start, which does no harm: the steps do."""
    model = net(transfer=nn.HardTanh)
    found = diagnose(
        model, CURVE, "squared_error", X=3 * X, optimizer=optim.SGD(lr=30.0), epochs=15
    )
    assert found.start[0].saturated > 0.5
    assert names(found)[0] == "learning_rate_too_high"
    assert ", and " not in found.change.name
    assert "dead_relu" not in names(found)  # there is no such unit in it


@pytest.mark.parametrize("name", list(FAULTY))
def test_neither_part_of_a_pair_does_as_well_alone(name):
    found = report(name)
    parts = found.change.name.split(", and ")
    tried = dict(found.tried)
    alone = [1 - max(0.0, tried[part].skill) for part in parts if part in tried]
    left = 1 - max(0.0, found.findings[0].verified.after.skill)
    assert len(parts) == 1 or all(other - left > 0.02 for other in alone)


def test_raw_inputs_that_saturate_are_named_by_the_inputs():
    """tanh is flat from the first row on, and the columns are why."""
    raw = X * np.array([300, 400]) + np.array([9000, -5000])
    found = diagnose(net(), SIDE, "logistic", X=raw)
    assert found.start[0].saturated > 0.9
    assert names(found)[0] == "unscaled_inputs"
    assert found.findings[0].where.columns == (0, 1)


# -- outcome first ---------------------------------------------------------------------------------


def test_signs_of_a_fault_in_a_run_that_learns_are_none():
    """Two thirds of the units are dead at the start, and a third is enough."""
    model = net(units=48, transfer=nn.ReLU)
    bias = np.zeros(48)
    bias[:30] = -40.0
    model[0].bias.rebind(bias)
    found = diagnose(model, SIDE, "logistic", epochs=40)
    assert len(found.start[0].dead) >= 30
    assert found.healthy


def test_columns_of_odd_scale_in_a_run_that_learns_are_none():
    found = diagnose(net(), SIDE, "logistic", X=X * 25.0, epochs=40)
    assert found.healthy


def test_an_output_layer_that_starts_at_zero_is_sound():
    hidden = nn.Linear(2, 12)
    model = nn.Sequential(hidden, nn.Tanh(), nn.Linear(12, 1, init=zeros), seed=0)
    assert diagnose(model, SIDE, "logistic", epochs=30).healthy


def test_a_sure_output_at_a_low_loss_is_no_saturation():
    model = net(nn.Sigmoid())
    found = diagnose(model, SIDE, "binary_cross_entropy", epochs=40, lr=0.3)
    assert found.healthy
    assert found.score.loss < 0.05


def test_sparse_is_not_dead():
    """Each unit answers a few rows only, and every row has its unit."""
    rng = np.random.default_rng(0)
    model = nn.Sequential(nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 2), seed=0)
    weights = rng.normal(size=(64, 2))
    model[0].weight.rebind(weights / np.linalg.norm(weights, axis=1, keepdims=True))
    model[0].bias.rebind(np.full(64, -1.2))
    found = diagnose(model, LABELS, "softmax_cross_entropy", epochs=40)
    hidden = np.maximum(X @ np.asarray(model[0].weight.value).T - 1.2, 0)
    assert (hidden == 0).mean() > 0.8
    assert found.healthy


def test_a_rare_class_that_is_ignored_is_not_called_learnt():
    rare = (X[:, :1] * X[:, 1:] > 1.5).astype(float)
    assert 0.01 < rare.mean() < 0.1
    model = net()
    model[2].bias.rebind([-6.0])
    found = diagnose(model, rare, "logistic", optimizer=optim.SGD(lr=1e-5))
    assert found.score.value >= 0.9  # as good as always answering no
    assert "sound" not in found.reason


@pytest.mark.parametrize("seed", range(3))
def test_sound_runs_of_other_seeds_have_no_finding(seed):
    model = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 1), seed=seed)
    assert diagnose(model, SIDE, "logistic", epochs=30, seed=seed).healthy
    model = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 1), seed=seed)
    assert diagnose(model, CURVE, "squared_error", epochs=60, seed=seed).healthy


# -- look-alikes: each leaves the loss where it was ------------------------------------------------

STUCK = ("dead_relu", "saturation", "vanishing_gradient", "learning_rate_too_low")


@pytest.mark.parametrize("name", STUCK)
def test_runs_whose_loss_stands_still_alike_have_names_apart(name):
    found = report(name)
    losses = found.curve.loss
    assert losses[-1] > 0.8 * losses[0]
    assert names(found)[0] == name


def test_a_fault_with_a_short_rate_on_top_needs_two_changes():
    model = net(transfer=nn.ReLU, bias_init=constant(-30.0))
    found = diagnose(model, CROSS, "logistic", lr=1e-4)
    assert names(found)[0] == "dead_relu"
    assert found.findings[0].verified
    assert ", and " in found.change.name
    assert "in two parts" in found.reason
    places: dict[str, Any] = {"model": model, "np": np, "nn": nn, "optim": optim}
    exec(found.findings[0].remedy, places)
    assert places["optimizer"].lr > 1e-4
    assert np.max(places["model"][0].bias.value) >= 0


# -- the parts -------------------------------------------------------------------------------------


def test_a_judgement_says_the_same_of_the_same_story():
    setup = report("dead_relu").setup
    story, static = watched(setup), static_suspects(setup)
    one, other = (judge(story, static, Trials(setup, 5.0, Show())) for _ in range(2))
    assert one.reason == other.reason
    assert [f.remedy for f in one.findings] == [f.remedy for f in other.findings]


def test_signatures_only_suspect_and_name_no_sound_run():
    """A suspect is no finding: many a sound run has some."""
    found = diagnose(net(), SIDE, "logistic", epochs=30)
    story = watched(found.setup)
    suspects = signs(story)
    assert all(s.problem in PROBLEMS and s.evidence.sentence for s in suspects)
    order = [list(PROBLEMS).index(s.problem) for s in suspects]
    assert order == sorted(order)
    assert found.healthy


def test_a_run_that_data_make_hopeless_is_not_said_to_have_been_tried_otherwise():
    found = diagnose(net(), np.ones((120, 1)), "logistic")
    assert names(found) == ["data_fault"]
    assert found.facts["runs"] == 1
    assert found.findings[0].verified is None
    assert "tried" not in found.reason


def test_what_a_watch_keeps_is_the_run_itself():
    setup = report("dead_relu").setup
    story = watched(setup)
    model = setup.fresh()
    history = cr.fit(
        model, setup.X, setup.y, loss=setup.loss, optimizer=setup.optimizer, epochs=setup.epochs,
        batch_size=setup.batch_size, seed=setup.seed, progress=False, compile=False,
    )  # fmt: skip
    assert story.outcome.curve.loss == tuple(history.loss)
    assert story.kept[0][0] == 0
    assert story.kept[-1][0] == history.steps
    for p, q in zip(story.model(len(story.kept) - 1).parameters(), model.parameters(), strict=True):
        np.testing.assert_array_equal(p.value, q.value)
    for p, q in zip(story.model(0).parameters(), setup.model.parameters(), strict=True):
        np.testing.assert_array_equal(p.value, q.value)
    first = story.first.losses[:3]
    assert np.mean(first) == pytest.approx(history.loss[0], rel=1e-6)
    assert residual(story.outcome) > 0.9
