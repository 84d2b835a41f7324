"""`check`: what it finds, what it notes, what it refuses; and units that start as twins."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import chainrule as cr
from chainrule import nn, optim
from chainrule.diagnose.before.check import check, static_suspects
from chainrule.diagnose.before.twins import twin_suspects
from chainrule.diagnose.finding import PROBLEMS
from chainrule.diagnose.setup import Setup, run
from chainrule.diagnose.task import task_of
from chainrule.errors import DataError, ShapeError, UnknownNameError
from chainrule.nn import initializers, losses

RNG = np.random.default_rng(2)
X = RNG.normal(size=(60, 2))
YES = (X[:, :1] * X[:, 1:] > 0).astype(float)
LABELS = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0)


def chain(first: Any = None, last: Any = None, units: int = 1, transfer: Any = None) -> Any:
    return nn.Sequential(
        nn.Linear(2, 6, init=first), transfer or nn.Tanh(), nn.Linear(6, units, init=last), seed=0
    )


def setup_of(model: Any, y: Any = YES, loss: Any = "logistic", **settings: Any) -> Setup:
    loss = losses.get(loss)
    task = task_of(loss, y, 1)
    return Setup(model, X, y, loss, optim.SGD(lr=0.5), 20, 16, 0, task).changed(**settings)


# -- the answer ------------------------------------------------------------------------------------


def test_a_sound_start_has_no_finding_and_says_so():
    found = check(chain(), "logistic", X, YES)
    assert found.healthy
    assert list(found) == []
    assert found.notes == ()
    assert str(found) == "nothing is wrong that can be seen before training"


def test_a_check_is_a_sequence_of_findings_cause_first_and_none_is_verified():
    model = nn.Sequential(*chain("zeros", "zeros"), nn.Sigmoid())
    found = check(model, losses.logistic, X * [500, 1] + [2000, 0], YES)
    assert isinstance(found, Sequence)
    names = [finding.problem for finding in found]
    assert names == ["loss_output_mismatch", "symmetric_init", "unscaled_inputs"]
    assert names == sorted(names, key=list(PROBLEMS).index)
    assert [finding.verified for finding in found] == [None] * 3
    assert found[-1].problem == names[-1]
    assert len(found[:2]) == 2
    assert not found.healthy
    assert "2. symmetric_init" in str(found)
    assert "X = (X - X.mean(axis=0))" in str(found)


def test_remedies_one_after_the_other_make_it_sound():
    scope = {
        "model": nn.Sequential(*chain("zeros", "zeros"), nn.Sigmoid()),
        "X": X * [500, 1] + [2000, 0], "y": YES, "loss": losses.logistic,
        "np": np, "cr": cr, "nn": nn, "losses": losses, "optim": optim,
    }  # fmt: skip
    for problem in ("loss_output_mismatch", "symmetric_init", "unscaled_inputs"):
        found = check(scope["model"], scope["loss"], scope["X"], scope["y"])
        assert found[0].problem == problem
        exec(found[0].remedy, scope)
    assert check(scope["model"], scope["loss"], scope["X"], scope["y"]).healthy


def test_nothing_is_changed():
    model = chain("zeros", "zeros")
    model.train()
    batch = nn.Sequential(nn.BatchNorm1d(2), nn.Dropout(0.5), *chain())
    for m in (model, batch):
        before, table, y = m.state_dict(), X.copy(), YES.copy()
        check(m, "logistic", X, YES)
        after = m.state_dict()
        assert m.training
        assert all(np.array_equal(before[k], after[k]) for k in before)
        assert np.array_equal(X, table)
        assert np.array_equal(YES, y)
        assert all(p.grad is None for p in m.parameters())


def test_the_same_check_twice_is_the_same_text():
    model = chain("zeros", "zeros")
    assert str(check(model, "logistic", X * 300, YES)) == str(
        check(model, "logistic", X * 300, YES)
    )


# -- notes -----------------------------------------------------------------------------------------


class Forked(nn.Module):
    """A layer that is not used, and one that the gradient does not come back to."""

    def __init__(self) -> None:
        self.used = nn.Linear(2, 3, seed=0)
        self.idle = nn.Linear(2, 3, seed=1)
        self.cut = nn.Linear(2, 3, seed=2)

    def forward(self, x: Any) -> Any:
        return self.used(x) + self.cut(x).detach()


def test_parameters_that_no_gradient_reaches_are_named():
    found = check(Forked(), "softmax_cross_entropy", X, LABELS)
    assert found.healthy
    (note,) = found.notes
    assert all(name in note for name in ("idle.weight", "idle.bias", "cut.weight", "cut.bias"))
    assert "used" not in note


def test_constant_columns_and_rare_classes_are_noted():
    table = np.column_stack([X[:, 0], np.full(60, 0.1)])
    rare = (np.arange(60)[:, None] < 2).astype(float)
    found = check(chain(), "logistic", table, rare)
    assert found.healthy
    assert any("column 1 of X" in note for note in found.notes)
    assert any("class 1 has 2 of 60 rows" in note and "96.7%" in note for note in found.notes)


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "word"),
    [
        (lambda: check("net", "logistic", X, YES), TypeError, "chainrule.nn"),
        (lambda: check(chain(), "logistc", X, YES), UnknownNameError, "did you mean"),
        (lambda: check(chain(), 3, X, YES), UnknownNameError, "unknown loss"),
        (lambda: check(chain(), "logistic", X[:, 0], YES), DataError, "Reshape your data"),
        (lambda: check(chain(), "logistic", X[:0], YES[:0]), DataError, "0 rows"),
        (lambda: check(chain(), "logistic", X, YES[:9]), DataError, "60 rows, y has 9 rows"),
        (lambda: check(chain(), "logistic", X, 1.0), DataError, "no rows"),
        (lambda: check(chain(), "logistic", [[1, 2], [3]], [0, 1]), DataError, "X is no array"),
        (lambda: check(chain(), "logistic", [["a", "b"]] * 2, [0, 1]), DataError, "strings"),
        (lambda: check(chain(), "logistic", X[:, :1], YES), ShapeError, "features"),
        (lambda: check(chain(), "logistic", None, YES), DataError, "X"),
    ],
)
def test_what_cannot_be_checked_is_refused_in_one_clear_line(call: Any, error: Any, word: str):
    with pytest.raises(error, match=word) as caught:
        call()
    assert "\n" not in str(caught.value)


# -- twins -----------------------------------------------------------------------------------------

CONSTANT = initializers.constant(0.5)
TWINS = {
    "all zero": chain("zeros", "zeros"),
    "all zero, relu": chain("zeros", "zeros", transfer=nn.ReLU()),
    "constant": chain(CONSTANT, CONSTANT),
    "constant, several outputs": chain(CONSTANT, CONSTANT, units=3),
    "tiny": chain(initializers.normal(1e-6), initializers.normal(1e-6)),
}
NO_TWINS = {
    "zero output": chain(None, "zeros"),
    "zero hidden": chain("zeros", None),
    "constant output": chain(None, CONSTANT),
    "constant hidden": chain(CONSTANT, None),
    "one layer of zeros": nn.Sequential(nn.Linear(2, 3, init="zeros")),
    "small": chain(initializers.normal(0.01), initializers.normal(0.01)),
    "one unit": nn.Sequential(nn.Linear(2, 1, init=CONSTANT), nn.Tanh(), nn.Linear(1, 1)),
}


@pytest.mark.parametrize("name", TWINS)
def test_twins_are_found_and_drawn_anew(name: str):
    setup = setup_of(TWINS[name])
    (suspect,) = twin_suspects(setup)
    assert suspect.problem == "symmetric_init"
    assert suspect.where.layer == "0"
    before = setup.model.state_dict()
    after = suspect.changes[0].apply(setup)
    assert twin_suspects(after) == []
    assert all(np.array_equal(before[k], v) for k, v in setup.model.state_dict().items())
    model = copy.deepcopy(setup.model)
    exec(suspect.changes[0].code, {"np": np, "nn": nn, "model": model})
    own = model.state_dict()
    assert all(np.array_equal(own[k], v) for k, v in after.model.state_dict().items())
    if "several" not in name:
        outcome = run(after)
        assert outcome.curve.loss[-1] < outcome.curve.loss[0]


@pytest.mark.parametrize("name", NO_TWINS)
def test_a_zero_layer_alone_makes_no_twins(name: str):
    assert twin_suspects(setup_of(NO_TWINS[name])) == []


def test_half_a_layer_of_twins_is_named_by_its_units():
    model = chain()
    weight, last = np.array(model[0].weight.value), np.array(model[2].weight.value)
    weight[[1, 4]], last[:, [1, 4]] = weight[2], last[:, [2]]
    model[0].weight.rebind(weight)
    model[2].weight.rebind(last)
    (suspect,) = twin_suspects(setup_of(model))
    assert suspect.where.units == (1, 2, 4)
    last[:, 1] += 0.5
    model[2].weight.rebind(last)
    assert twin_suspects(setup_of(model)) == []


@given(st.integers(0, 10**6), st.sampled_from(["tanh", "relu", "sigmoid"]), st.integers(1, 3))
def test_units_that_are_found_stay_twins_when_trained_and_others_do_not(seed, transfer, pairs):
    rng = np.random.default_rng(seed)
    layer = {"tanh": nn.Tanh, "relu": nn.ReLU, "sigmoid": nn.Sigmoid}[transfer]()
    model = chain(transfer=layer)
    weight, last = rng.normal(size=(6, 2)), rng.normal(size=(1, 6))
    for k in range(pairs):
        weight[2 * k + 1], last[:, 2 * k + 1] = weight[2 * k], last[:, 2 * k]
    model[0].weight.rebind(weight)
    model[2].weight.rebind(last)
    setup = setup_of(model)
    found = twin_suspects(setup)
    trained = np.array(run(setup).model[0].weight.value)
    for k in range(3):
        apart = np.abs(trained[2 * k + 1] - trained[2 * k]).max()
        assert apart < 1e-5 if k < pairs else apart > 1e-3
    assert [s.where.units for s in found] == ([tuple(range(2 * pairs))] if 2 * pairs >= 3 else [])


def test_a_wide_layer_of_zeros_is_read_without_comparing_all_with_all():
    wide = nn.Sequential(
        nn.Linear(2, 3000, init="zeros"), nn.Tanh(), nn.Linear(3000, 1, init="zeros")
    )
    (suspect,) = twin_suspects(setup_of(wide))
    assert len(suspect.where.units) == 3000
    assert suspect.evidence.quantities["rank of ∂L/∂W"] == 0


def test_static_suspects_are_in_order_with_notes_last():
    rectified = nn.Sequential(*chain(units=3), nn.ReLU())
    suspects = static_suspects(
        setup_of(rectified, LABELS, "softmax_cross_entropy", X=X * 400)
    )  # fmt: skip
    assert [s.problem for s in suspects] == ["unscaled_inputs", "loss_output_mismatch"]
    assert [s.severity for s in suspects] == ["problem", "note"]
