"""Columns and labels that no network can use as they are: found, placed, and mended by a change."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from chainrule import nn, optim
from chainrule.diagnose.before.check import static_suspects
from chainrule.diagnose.before.columns import column_facts, column_suspects
from chainrule.diagnose.before.labels import conflicts, data_suspects
from chainrule.diagnose.setup import Setup, Suspect, run
from chainrule.diagnose.task import Task, task_of
from chainrule.nn import losses

RNG = np.random.default_rng(11)
X = RNG.normal(size=(80, 3))
YES = (X[:, :1] > 0).astype(float)
LABELS = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0)
NUMBERS = X @ [[1.0], [2.0], [0.5]]


def chain(units: int = 1, inputs: int = 3, **settings: Any) -> nn.Sequential:
    layers = nn.Linear(inputs, 8, **settings), nn.Tanh(), nn.Linear(8, units, **settings)
    return nn.Sequential(*layers, seed=0)


def setup_of(X: Any, y: Any, loss: Any = "logistic", model: Any = None) -> Setup:
    loss, y = losses.get(loss), np.asarray(y)
    model = model or chain()
    last = model[-1] if isinstance(model, nn.Sequential) else None
    units = getattr(last, "out_features", 1)
    task = task_of(loss, y, units)
    return Setup(model, X, y, loss, optim.SGD(lr=0.1), 8, 16, 0, task)


def runs(setup: Setup, suspect: Suspect) -> list[Any]:
    """What comes of each change; the code gives the same data and weights."""
    found = []
    for change in suspect.changes:
        after = change.apply(setup)
        scope = {"X": setup.X, "y": setup.y, "model": setup.fresh(), "np": np, "nn": nn}
        exec(change.code, scope)
        assert np.array_equal(after.X, scope["X"])
        assert np.array_equal(after.y, scope["y"])
        mine, theirs = after.model.state_dict(), scope["model"].state_dict()
        assert all(np.array_equal(mine[k], theirs[k]) for k in theirs)
        found.append(run(after))
    return found


def only(suspects: list[Suspect], problem: str) -> Suspect:
    (suspect,) = suspects
    assert suspect.problem == problem
    return suspect


# -- columns ---------------------------------------------------------------------------------------

TABLES = hnp.arrays(
    np.float64, hnp.array_shapes(min_dims=2, max_dims=2, max_side=6),
    elements=st.floats(-1e6, 1e6) | st.sampled_from([0.0, 1.0, np.nan, np.inf]),
)  # fmt: skip


@given(TABLES)
def test_facts_are_those_of_the_finite_cells(table: Any):
    facts = column_facts(table)
    assert facts.broken == tuple((int(r), int(c)) for r, c in np.argwhere(~np.isfinite(table)))
    for k, column in enumerate(table.T):
        finite = column[np.isfinite(column)]
        if not finite.size:
            assert k in facts.constant
            continue
        scale = 1e-9 * max(1.0, np.abs(finite).max())
        assert abs(facts.mean[k] - finite.mean()) <= scale
        assert abs(facts.std[k] - finite.std()) <= 1e-6 * max(1.0, np.abs(finite).max())
        assert (facts.low[k], facts.high[k]) == (finite.min(), finite.max())
        assert (k in facts.constant) == (finite.min() == finite.max())


def test_a_column_far_from_0_loses_no_digits():
    column = 1e8 + RNG.normal(size=(5000, 1))
    assert np.isclose(column_facts(column).std[0], column.std(), rtol=1e-9)


@pytest.mark.parametrize(
    ("scale", "shift", "off"),
    [
        ([500, 1, 1], [0, 0, 0], "off-scale"),
        ([1, 1, 1], [9, 0, 0], "off-centre"),
        ([500, 1, 1], [2e4, 0, 0], "off-centre"),
        ([1e-3, 1e-3, 1e-3], [0, 0, 0], "off-scale"),
    ],
)
def test_columns_off_centre_or_off_scale_are_standardised(scale: Any, shift: Any, off: str):
    setup = setup_of(X * scale + shift, YES)
    suspect = only(static_suspects(setup), "unscaled_inputs")
    assert 0 in suspect.where.columns
    assert 0 in suspect.evidence.quantities[off]
    after = suspect.changes[0].apply(setup)
    assert np.allclose(after.X, (X - X.mean(0)) / X.std(0))
    assert static_suspects(after) == []
    assert runs(setup, suspect)[0].model is not None


def test_stds_far_apart_name_both_columns():
    setup = setup_of(X * [6.0, 1.0, 0.05], YES)
    suspect = only(static_suspects(setup), "unscaled_inputs")
    assert set(suspect.where.columns) == {0, 2}
    assert np.isclose(
        suspect.evidence.quantities["ratio of stds"], 120 * X[:, 0].std() / X[:, 2].std()
    )


def test_flags_sparse_constant_and_rare_large_values_are_no_fault():
    n = 400
    normal, number = RNG.normal(size=(n, 2)), np.arange(n)
    table = np.column_stack([
        normal[:, 0],
        number < 392,  # a flag, its mean 7 stds from 0
        RNG.integers(0, 5, n),  # counts
        np.where(number % 50 == 7, 1e-3 * normal[:, 0], 0),  # mostly 0: its std tells how often
        np.ones(n),
        np.where(number == 9, 30.0, normal[:, 1] / 2),  # one outlier is no scale
    ])  # fmt: skip
    table[7, 3] = 0.5
    setup = setup_of(table, (table[:, :1] > 0) * 1.0, model=chain(inputs=6))
    assert column_suspects(setup) == []
    table[:, 5] *= 20
    assert only(column_suspects(setup), "unscaled_inputs").where.columns == (5,)


def test_a_constant_column_stays_when_the_others_are_standardised():
    table = np.column_stack([X * 1000, np.full(80, 7.25)])
    setup = setup_of(table, YES, model=chain(inputs=4))
    after = only(static_suspects(setup), "unscaled_inputs").changes[0].apply(setup)
    assert np.array_equal(after.X[:, 3], np.zeros(80))
    assert np.allclose(after.X[:, :3].std(0), 1)


def test_what_a_network_scales_by_itself_is_no_fault():
    batch = nn.Sequential(nn.BatchNorm1d(3), *chain())

    class Scaled(nn.Module):
        def __init__(self) -> None:
            self.inside = chain()

        def forward(self, x: Any) -> Any:
            return self.inside((x - 2000.0) / 300.0)

    raw = X * 300 + 2000
    assert column_suspects(setup_of(raw, YES, model=batch)) == []
    assert column_suspects(setup_of(raw, YES, model=Scaled())) == []
    only(column_suspects(setup_of(X, YES, model=Scaled())), "unscaled_inputs")


def test_images_share_one_scale():
    images = RNG.integers(0, 256, (40, 4, 4)).astype(np.float32)
    model = nn.Sequential(nn.Flatten(), *chain(inputs=16))
    setup = setup_of(images, YES[:40], model=model)
    suspect = only(static_suspects(setup), "unscaled_inputs")
    after = suspect.changes[0].apply(setup)
    assert np.isclose(after.X.mean(), 0, atol=1e-6)
    assert np.isclose(after.X.std(), 1)
    assert runs(setup, suspect)[0].model is not None


def test_large_targets_are_standardised_where_the_output_is_free():
    setup = setup_of(X, NUMBERS * 300 + 1000, "mean_squared_error")
    suspect = only(static_suspects(setup), "unscaled_targets")
    assert np.isclose(suspect.evidence.quantities["mean"], setup.y.mean())
    (after,) = runs(setup, suspect)
    assert after.score.value > 0.5 > run(setup).score.skill
    relu = nn.Sequential(*chain(), nn.ReLU())
    bounded = static_suspects(setup_of(X, np.abs(NUMBERS) * 300, "mean_squared_error", relu))
    assert only(bounded, "unscaled_targets").changes == ()
    assert static_suspects(setup_of(X, NUMBERS, "mean_squared_error")) == []


# -- cells and labels ------------------------------------------------------------------------------


def test_cells_that_are_no_numbers_are_placed_and_left_out():
    broken, targets = X.copy(), YES.copy()
    broken[3, 1], broken[7, 0], targets[5] = np.nan, -np.inf, np.nan
    setup = setup_of(broken, targets)
    suspect = only(static_suspects(setup), "data_fault")
    assert (suspect.where.samples, suspect.where.columns) == ((3, 5, 7), (0, 1))
    assert suspect.evidence.quantities["cells"] == 3
    assert "NaN in 2 cells, the first in row 3, column 1" in suspect.evidence.sentence
    after = suspect.changes[0].apply(setup)
    assert np.array_equal(after.X, np.delete(X, [3, 5, 7], 0))
    assert runs(setup, suspect)[0].model is not None
    assert run(setup).score.error


@pytest.mark.parametrize(
    ("labels", "units", "word"),
    [
        (LABELS + 1, 3, "counted from 0"),
        (LABELS * 2, 3, "numbered from 0"),
        (LABELS - 1, 3, "numbered from 0"),
        (np.array(["red", "green", "blue"])[LABELS], 3, "numbered from 0"),
        (LABELS, 2, "3 output units"),
    ],
)
def test_labels_out_of_range_are_counted_anew_or_the_output_widened(labels, units, word):
    setup = setup_of(X, labels, "softmax_cross_entropy", chain(units))
    suspect = only(static_suspects(setup), "data_fault")
    assert word in suspect.changes[0].name
    (after,) = runs(setup, suspect)
    assert not after.score.error
    assert after.curve.loss[-1] < after.curve.loss[0]
    assert run(setup).score.error


def test_what_says_nothing_is_a_fault_without_a_change():
    for table, y in ((X, YES * 0), (X, np.full(80, 3.5)), (np.ones((80, 3)), YES)):
        assert (
            only(static_suspects(setup_of(table, y, "squared_error")), "data_fault").changes == ()
        )


def test_contradictions_are_a_problem_where_they_take_half_of_what_can_be_learnt():
    both = np.concatenate([X, X])
    suspect = only(static_suspects(setup_of(both, np.concatenate([YES, 1 - YES]))), "data_fault")
    found = suspect.evidence.quantities
    assert (suspect.severity, found["best"], found["share"], suspect.changes) == (
        "problem",
        0.5,
        1,
        (),
    )
    other = np.where(np.arange(80)[:, None] < 60, 1 - YES, YES)
    setup = setup_of(both, np.concatenate([YES, other]))
    suspect = only(static_suspects(setup), "data_fault")
    assert suspect.severity == "problem"
    assert suspect.evidence.quantities["best"] == 1 - 60 / 160
    assert len(suspect.changes[0].apply(setup).X) == 40
    assert runs(setup, suspect)[0].score.value >= 0.9


def test_noise_on_equal_rows_is_a_note_and_few_conflicts_are_nothing():
    table = np.tile([[0.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [1.0, 1.0, 0.0]], (40, 1))
    xor = (table[:, :1] != table[:, 1:2]).astype(float)
    noisy = np.where(np.arange(160)[:, None] % 41 < 4, 1 - xor, xor)
    suspect = only(static_suspects(setup_of(table, noisy)), "data_fault")
    assert suspect.severity == "note"
    assert 0.85 < suspect.evidence.quantities["best"] < 0.95
    assert static_suspects(setup_of(table, xor)) == []
    once = np.concatenate([X, X[:1]])
    assert static_suspects(setup_of(once, np.concatenate([YES, 1 - YES[:1]]))) == []


@given(
    hnp.arrays(np.float64, st.tuples(st.integers(2, 12), st.integers(1, 3)),
               elements=st.sampled_from([-0.0, 0.0, 1.0, 2.0])),
    st.sampled_from(["classes", "binary", "labels", "regression"]),
    st.randoms(use_true_random=False),
)  # fmt: skip
def test_conflicts_and_the_best_score_are_those_of_brute_force(table: Any, kind: str, rng: Any):
    columns = 2 if kind == "labels" else 1
    y = np.array([[rng.randint(0, 1) for _ in range(columns)] for _ in table], float)
    y = y[:, 0].astype(int) if kind == "classes" else y
    task = Task(kind)
    rows, best = conflicts(table, y, task)
    truth = task.truth(y).reshape(len(y), -1)
    equal = [[bool((a == b).all()) for b in table] for a in table]
    torn = [k for k, same in enumerate(equal) if any((truth[k] != t).any() for t in truth[same])]
    assert rows.tolist() == torn
    answers = []
    for same in equal:
        group = truth[same]
        if kind == "regression":
            answers.append(group.mean(0))
        elif kind == "classes":
            names, counts = np.unique(group, return_counts=True)
            answers.append([names[counts.argmax()]])
        else:
            answers.append((group.mean(0) > 0.5).astype(int))
    answers = np.array(answers)
    if kind == "regression":
        spread = np.square(truth - truth.mean(0)).sum()
        expected = 1 - np.square(truth - answers).sum() / spread if spread else 1.0
    else:
        expected = np.mean(truth == answers)
    assert np.isclose(best, expected)


def test_more_columns_than_are_mixed_are_compared_whole():
    wide = np.tile(RNG.normal(size=(4, 40)), (3, 1))
    wide[5, 39] += 1e-9  # differs from its twins in one place only
    y = np.array([0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0])
    rows, _ = conflicts(wide, y, Task("classes"))
    assert rows.tolist() == [2, 6, 10]


ODD = [
    (np.array([["a", "b"]] * 4), [0, 1, 0, 1]),
    (np.array([1.0, 2.0, 3.0, 4.0]), [0, 1, 0, 1]),
    (np.zeros((0, 3)), np.zeros((0, 1))),
    (X[:4], [0.0, 1.0]),
    (X[:4], np.array(1.0)),
    (X[:4], np.array([None, 1, "x", 2.0], dtype=object)),
    (X[:4], np.array([1j, 0, 0, 1])),
    (X[:4], np.full(4, np.nan)),
    (np.full((4, 3), np.nan), [0, 1, 0, 1]),
    (X[:4, :2], [0, 1, 0, 1]),
    (X[:4], np.array(["2020-01-01"] * 4, dtype="datetime64[D]")),
    (np.array([[1, [2]], [3, 4]], dtype=object), [0, 1]),
    (X[:1], [[1.0]]),
    (X[:4] * 1e300, [0, 1, 0, 1]),
]


@pytest.mark.parametrize("loss", ["logistic", "softmax_cross_entropy", "mean_squared_error"])
@pytest.mark.parametrize("k", range(len(ODD)))
def test_odd_data_are_reported_and_never_raise(k: int, loss: str):
    table, y = ODD[k][0], np.asarray(ODD[k][1])
    found = losses.get(loss)
    setup = Setup(chain(2), table, y, found, optim.SGD(), 2, None, 0, Task("classes"))
    suspects = static_suspects(setup)
    one_row = len(table) == 1 and loss != "softmax_cross_entropy"
    assert suspects or one_row or run(setup).model is not None


@given(st.integers(0, 10**6))
def test_clean_data_are_left_alone(seed: int):
    rng = np.random.default_rng(seed)
    table = rng.normal(size=(50, 3))
    assert data_suspects(setup_of(table, (table[:, :1] > 0.1) * 1.0)) == []
    assert column_suspects(setup_of(table, table[:, :1], "huber")) == []
