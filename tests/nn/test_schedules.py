"""Schedules against formulas of their own, on plain numbers, traced and in a compiled run."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import chainrule as cr
from chainrule import nn
from chainrule.nn import optim
from chainrule.nn.schedules import stretched
from chainrule.train.tracing import is_ours


def one_cycle_by_hand(k, top, total, pct=0.3, anneal="cos", div=25.0, final=1e4, three=False):
    """PyTorch's OneCycleLR as its documentation tells it: phase after phase."""
    phases = [(pct * total - 1, top / div, top)]
    if three:
        phases += [(2 * pct * total - 2, top, top / div), (total - 1, top / div, top / div / final)]
    else:
        phases += [(total - 1, top, top / div / final)]
    begin = 0.0
    for number, (end, start, goal) in enumerate(phases):
        if k <= end or number == len(phases) - 1:
            x = (k - begin) / (end - begin)
            if anneal == "linear":
                return start + x * (goal - start)
            return goal + (start - goal) / 2 * (1 + math.cos(math.pi * x))
        begin = end
    raise AssertionError


@given(
    st.integers(10, 200),
    st.floats(0.15, 0.45),
    st.sampled_from(["cos", "linear"]),
    st.booleans(),
    st.floats(1.5, 50),
)
def test_one_cycle(total, pct, anneal, three, div):
    settings = {"pct_start": pct, "anneal_strategy": anneal, "three_phase": three}
    schedule = optim.one_cycle(0.7, total, div_factor=div, final_div_factor=1e3, **settings)
    for k in range(total):
        expected = one_cycle_by_hand(k, 0.7, total, pct, anneal, div, 1e3, three)
        assert schedule(k) == pytest.approx(expected, rel=1e-10, abs=1e-14)
        assert type(schedule(k)) is float
    assert schedule(total + 5) == pytest.approx(0.7 / div / 1e3, rel=1e-9)


def test_one_cycle_at_its_edges():
    # total 10, pct 0.3: the documentation's turn is at 2; values by hand
    found = [optim.one_cycle(1.0, 10, anneal_strategy="linear")(k) for k in range(10)]
    fall = np.linspace(1, 4e-6, 8)
    np.testing.assert_allclose(found, [0.04, 0.52, *fall], rtol=1e-12)
    assert optim.one_cycle(1.0, 1, pct_start=0)(0) == pytest.approx(1 / 25 / 1e4, rel=1e-6)
    short = [optim.one_cycle(1.0, 3)(k) for k in range(3)]  # no room for a rise
    assert short[0] == pytest.approx(one_cycle_by_hand(0, 1.0, 3))
    assert short[0] > short[1] > short[2]


def restarts_by_hand(k, lr, length, factor, final):
    while k >= length:
        k, length = k - length, length * factor
    return final + (lr - final) * (1 + math.cos(math.pi * k / length)) / 2


@given(st.integers(1, 30), st.integers(1, 4), st.integers(0, 5000))
def test_cosine_restarts(length, factor, k):
    schedule = optim.cosine_restarts(0.5, length, factor, final=0.01)
    expected = restarts_by_hand(k, 0.5, length, factor, 0.01)
    assert schedule(k) == pytest.approx(expected, rel=1e-9)
    assert type(schedule(k)) is float


@pytest.mark.parametrize("length", [1, 3, 7, 10, 1000])
@pytest.mark.parametrize("factor", [2, 3, 5, 10])
def test_a_restart_comes_at_its_step_exactly(length, factor):
    schedule, begin = optim.cosine_restarts(1.0, length, factor), 0
    for cycle in range(8):
        assert schedule(begin) == 1.0
        begin += length * factor**cycle
        assert begin == length or length == 1 or schedule(begin - 1) < 0.5


SCHEDULES = {
    "one cycle": optim.one_cycle(0.1, 20),
    "three phases": optim.one_cycle(0.1, 20, anneal_strategy="linear", three_phase=True),
    "restarts": optim.cosine_restarts(0.1, 3, 2, final=0.01),
    "even restarts": optim.cosine_restarts(0.1, 5),
    "warmed": optim.warmup(optim.one_cycle(0.1, 20), 4),
    "stretched": stretched(optim.steps(0.1, 2, 0.5), 3),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_is_part_of_the_compiled_step(name):
    schedule = SCHEDULES[name]
    assert is_ours(schedule)
    compiled = cr.compile(schedule, strict=True)
    for k in range(25):
        assert float(compiled(np.int64(k))) == pytest.approx(schedule(k), rel=1e-12)


@pytest.mark.parametrize("name", ["one cycle", "restarts", "stretched"])
def test_a_run_is_the_same_compiled(name):
    schedule, rng = SCHEDULES[name], np.random.default_rng(0)
    X, results = rng.normal(size=(40, 3)), []
    for compile in (True, False):
        model = nn.Sequential(nn.Linear(3, 1, dtype=np.float64), seed=0)
        rule = optim.SGD(lr=schedule, momentum=0.5)
        settings = {"epochs": 6, "batch_size": 11, "progress": False, "compile": compile}
        cr.fit(model, X, X.sum(1), loss="squared_error", optimizer=rule, **settings)
        results.append(model.params)
    for key, value in results[0].items():
        np.testing.assert_allclose(value, results[1][key], rtol=1e-12)


def test_float32_stays_float32():
    for schedule in SCHEDULES.values():
        rule = optim.Adam(lr=schedule)
        params = {"w": np.ones(2, np.float32)}
        after, _ = rule.update(params, params, rule.init(params))
        assert after["w"].dtype == np.float32


def test_arguments_out_of_range():
    for wrong in (
        {"lr_max": 0}, {"steps": 0}, {"steps": 1.5}, {"pct_start": 1.0}, {"pct_start": -0.1},
        {"anneal_strategy": "cosine"}, {"div_factor": 0}, {"final_div_factor": 0},
    ):  # fmt: skip
        with pytest.raises(ValueError, match=next(iter(wrong))):
            optim.one_cycle(**{"lr_max": 0.1, "steps": 10, **wrong})
    with pytest.raises(ValueError, match=r"below 0.5 with three_phase"):
        optim.one_cycle(0.1, 10, pct_start=0.5, three_phase=True)
    for wrong in ({"length": 0}, {"factor": 0}, {"factor": 1.5}, {"final": -1}, {"lr": -1}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            optim.cosine_restarts(**{"lr": 0.1, "length": 10, **wrong})
