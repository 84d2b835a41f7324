"""The statistics of a comparison, against SciPy, and against data of which the truth is planted."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from chainrule.compare.cell import Cell
from chainrule.compare.combination import Combination
from chainrule.compare.findings import of_little, of_ratio
from chainrule.compare.ranking import Place, ranked, speed_ratio
from chainrule.compare.statistics import (
    holm,
    interval,
    p_value,
    paired_p,
    sign_flip_p,
    t_quantile,
    t_tail,
)
from chainrule.errors import UnknownNameError


@pytest.mark.parametrize("df", [1, 2, 3, 4, 5, 9, 30, 101])
def test_students_distribution(df: int) -> None:
    for t in (0.0, 0.1, 1.0, 2.5, 8.0):
        assert t_tail(t, df) == pytest.approx(2 * stats.t.sf(t, df), rel=1e-8, abs=1e-13)
        assert t_tail(-t, df) == t_tail(t, df)
    for confidence in (0.5, 0.95, 0.99):
        wanted = stats.t.ppf(0.5 + confidence / 2, df)
        assert t_quantile(df, confidence) == pytest.approx(wanted, rel=1e-8)


def test_the_interval_and_the_paired_test_are_scipys() -> None:
    rng = np.random.default_rng(1)
    for n in (2, 3, 7, 20):
        a, b = rng.normal(size=(2, n))
        low, high = stats.t.interval(0.95, n - 1, a.mean(), stats.sem(a))
        found = interval(a)
        assert (found.mean, found.low, found.high) == pytest.approx((a.mean(), low, high))
        assert paired_p(a - b) == pytest.approx(stats.ttest_rel(a, b).pvalue)


def test_what_one_value_or_equal_values_say() -> None:
    assert math.isnan(interval([0.5]).low)
    assert math.isnan(interval([]).mean)
    assert interval([0.5, 0.5]).low == 0.5
    assert paired_p([0.3]) == paired_p([0.0, 0.0]) == sign_flip_p([0.0]) == 1.0
    # Two accuracies that are both one row of 100 better are no proof: they are rounded to rows.
    assert paired_p([0.01, 0.01], resolution=0.01) > 0.05
    assert paired_p([0.01, 0.01]) == 0.0


def test_sign_flips_are_counted_exactly_and_drawn_where_there_are_many() -> None:
    d = np.random.default_rng(2).normal(0.4, 1, size=10)
    every = [abs(np.dot(d, [1 - 2 * (k >> j & 1) for j in range(10)])) for k in range(1024)]
    assert sign_flip_p(d) == np.mean(np.array(every) >= abs(d.sum()) - 1e-12)
    many = np.random.default_rng(3).normal(0.25, 1, size=60)
    assert sign_flip_p(many) == pytest.approx(paired_p(many), abs=0.02)
    with pytest.raises(UnknownNameError, match="unknown test 'sign'"):
        p_value([1.0], "sign")


def test_holm() -> None:
    p = [0.001, 0.2, 0.02, 0.03]
    assert holm(p) == pytest.approx([0.004, 0.2, 0.06, 0.06])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


# -- planted data ----------------------------------------------------------------------------------


def rank(scores: np.ndarray, test: str = "t") -> list[Place]:
    """The ranking of scores (combination, seed)."""
    cells = [
        Cell(k, 0.1, seed, score=float(score), train_scores=[0.0, 1.0])
        for k, row in enumerate(scores)
        for seed, score in enumerate(row)
    ]
    names = [Combination(label=f"c{k}") for k in range(len(scores))]
    return ranked(
        names, [0.1] * len(names), cells, level=0.5, test=test, resolution=0.0, seconds={}
    )


@pytest.mark.parametrize(("combinations", "least", "most"), [(2, 0.03, 0.07), (4, 0.015, 0.06)])
def test_equal_ones_are_told_apart_in_a_twentieth_of_comparisons_at_most(
    combinations: int, least: float, most: float
) -> None:
    """The leader is chosen by the same scores: with naive tests against it this would be 20 %."""
    rng, wrong, tries = np.random.default_rng(4), 0, 1000
    for _ in range(tries):
        shared = rng.normal(0.9, 0.05, size=5)  # a seed is good or bad for all: paired
        scores = shared + rng.normal(0, 0.01, size=(combinations, 5))
        wrong += not all(place.tied for place in rank(scores))
    assert least <= wrong / tries <= most


def test_unequal_ones_are_told_apart_though_seeds_differ_more_than_they() -> None:
    rng, found, tries = np.random.default_rng(5), 0, 200
    for _ in range(tries):
        shared = rng.normal(0.9, 0.05, size=5)
        scores = shared + rng.normal(0, 0.005, size=(3, 5)) + np.array([[0.0], [0.0], [-0.03]])
        places = rank(scores)
        assert places[-1].label == "c2"
        found += not places[-1].tied and places[1].tied
    assert found / tries > 0.85


def test_ranks_count_those_before_and_ties_share_the_first() -> None:
    scores = np.array([[0.5, 0.52, 0.51, 0.5], [0.9, 0.91, 0.9, 0.92], [0.9, 0.91, 0.91, 0.92]])
    assert [(p.rank, p.label, p.tied) for p in rank(scores)] == [
        (1, "c2", True), (1, "c1", True), (3, "c0", False),
    ]  # fmt: skip
    assert rank(np.full((1, 3), 0.5))[0].p == 1.0


def test_seeds_that_one_of_two_lacks_are_left_out_of_their_difference() -> None:
    cells = [Cell(0, 0.1, s, score=v, train_scores=[1.0]) for s, v in enumerate((0.9, 0.8, 0.7))]
    cells += [Cell(1, 0.1, s, score=v, train_scores=[1.0]) for s, v in ((0, 0.8), (2, 0.6))]
    names = [Combination("relu"), Combination("tanh")]
    both = ranked(names, [0.1] * 2, cells, level=0.5, test="t", resolution=0.0, seconds={})
    assert both[1].difference.mean == pytest.approx(-0.1)


# -- epochs to a level -----------------------------------------------------------------------------


def test_epochs_to_a_level_lie_between_two_epochs() -> None:
    cell = Cell(0, 0.1, 0, train_scores=[0.1, 0.5, 0.4, 0.9])
    assert [cell.epochs_to(v) for v in (0.05, 0.3, 0.5, 0.65)] == pytest.approx(
        [0.0, 0.5, 1.0, 2.5]
    )
    assert cell.epochs_to(0.95) == math.inf


def test_a_ratio_is_of_pairs_and_says_when_it_is_a_bound() -> None:
    fast = [Cell(0, 0.1, s, train_scores=[0, 0.5, 1.0, 1.0, 1.0]) for s in range(3)]
    slow = [Cell(0, 0.1, s, train_scores=[0, 0.1, 0.2, 0.5, 1.0]) for s in range(3)]
    ratio = speed_ratio(slow, fast, 1.0)
    assert (ratio.times.mean, ratio.at_least) == (pytest.approx(2.0), False)
    never = [Cell(0, 0.1, s, train_scores=[0, 0.1, 0.2, 0.3, 0.4]) for s in range(3)]
    bound = speed_ratio(never, fast, 1.0)
    assert bound.at_least
    assert str(bound).startswith("at least 2×")


def test_a_ratio_is_a_bound_from_above_where_the_faster_one_does_not_get_there() -> None:
    there = [Cell(0, 0.1, s, train_scores=[0, 0.1, 0.2, 0.5, 1.0]) for s in range(3)]
    never = [Cell(0, 0.1, s, train_scores=[0, 0.1, 0.2]) for s in range(3)]
    bound = speed_ratio(there, never, 1.0)
    assert (bound.at_most, bound.at_least) == (True, False)
    assert str(bound).startswith("at most 2×")
    assert of_ratio(bound, 1.0) == "not here: the other did not always get there in time"
    unknown = speed_ratio(never, [*never[:1], *there[1:]], 1.0)
    assert math.isnan(unknown.times.mean)
    assert (str(unknown), of_ratio(unknown, 1.0)) == ("an unknown number of times", "")


def test_little_is_known_to_be_little_only_where_the_interval_says_so() -> None:
    assert [of_little(*ends) for ends in ((-1.6, 0.7), (1.2, 3.0), (math.nan, math.nan))] == [
        "holds here", "not here", "",
    ]  # fmt: skip
    assert of_little(-4.0, 9.0) == "holds partly: up to 9.0 points are not ruled out"
