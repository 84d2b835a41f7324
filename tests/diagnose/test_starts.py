"""How often a fault shows: over draws of the same weights and orders of the rows."""

from __future__ import annotations

import re

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim
from chainrule.diagnose.setup import Setup
from chainrule.diagnose.starts import _start
from chainrule.diagnose.task import Task
from chainrule.diagnose.trials import Trials
from chainrule.nn import losses
from diagnose.planted import CROSS, FAULTY, SIDE, X, bytes_of, net, report, run


def counts(text: str) -> list[int]:
    return [int(n) for n in re.findall(r"\d+", text)]


@pytest.mark.parametrize("name", ["dead_relu", "unscaled_inputs"])
def test_a_fault_of_the_arguments_shows_in_every_start(name):
    found = cr.diagnose(**FAULTY[name](), starts=3, progress=False)
    assert found.starts == f"{name} shows in 3 of 3 starts; the remedy helps in 3 of them."
    assert found.starts in " ".join(str(found).split())
    assert found.to_dict()["starts"] == found.starts
    assert found.facts["runs"] == report(name).facts["runs"] + 4


def test_one_start_says_nothing_of_others():
    assert report("dead_relu").starts == ""


def test_a_sound_run_counts_its_sound_starts():
    found = cr.diagnose(**run(net(), SIDE, "logistic", epochs=30), starts=3, progress=False)
    assert found.healthy
    assert found.starts == "3 of 3 starts are sound."


def test_starts_are_the_same_twice_and_on_any_number_of_threads():
    arguments = run(net(), CROSS, "logistic", optimizer=optim.SGD(lr=100.0))
    found = [
        cr.diagnose(**arguments, starts=3, progress=False, threads=threads).to_dict()
        for threads in (1, 2, 1)
    ]
    assert found[0] == found[1] == found[2]
    assert counts(found[0]["starts"])[1] == 3


def test_a_fault_of_luck_does_not_show_in_every_start():
    """A unit or two that are dead by their draw: in another draw they live."""
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1), seed=0)
    model[0].weight.rebind([[0.02, 0.01], [1.5, -2.0]])
    model[0].bias.rebind([-1.0, -9.0])
    model[2].weight.rebind([[1.0, -1.0]])
    found = cr.diagnose(**run(model, SIDE, "logistic", lr=0.1), starts=4, progress=False)
    assert found.findings[0].problem == "dead_relu"
    shows, of, helps = counts(found.starts)
    assert 1 <= shows <= of == 4
    assert helps <= shows


def test_a_remedy_that_draws_weights_draws_others_in_every_start(monkeypatch):
    """Else one lucky draw would help in every start."""
    drawn: list[bytes] = []
    of = Trials.outcome_of

    def outcome_of(self, change):
        if "drawn anew" in change.name:
            drawn.append(bytes_of(change.apply(self.setup).model))
        return of(self, change)

    monkeypatch.setattr(Trials, "outcome_of", outcome_of)
    found = cr.diagnose(**FAULTY["symmetric_init"](), starts=4, progress=False)
    assert "drawn anew" in found.change.name
    assert len(drawn) == len(set(drawn)) == 3


def test_a_start_has_the_same_weights_in_another_order_and_another_seed():
    model = net()
    before = bytes_of(model)
    setup = Setup(
        model, X, SIDE, losses.logistic, optim.Adam(), 3, 40, 5, Task("binary")
    )  # fmt: skip
    one, again, other = (_start(k).apply(setup) for k in (1, 1, 2))
    assert (one.seed, other.seed) == (6, 7)
    assert bytes_of(one.model) == bytes_of(again.model) != bytes_of(other.model)
    assert bytes_of(model) == before
    for p, q in zip(model.parameters(), one.model.parameters(), strict=True):
        np.testing.assert_array_equal(np.sort(p.value, axis=None), np.sort(q.value, axis=None))
    assert bytes_of(one.model) != before
    assert one.X is X
