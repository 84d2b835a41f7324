"""What is asked for, and how good an answer is: against scikit-learn's metrics."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.metrics import accuracy_score, r2_score

import chainrule as cr
from chainrule.diagnose.finding import Score
from chainrule.diagnose.task import Task, task_of
from chainrule.nn import losses

LABELS = np.array([0, 2, 1, 2, 2])
YES = np.array([0, 1, 1, 0, 1])
ONE_HOT = np.eye(3)[LABELS]
SEVERAL = np.array([[0, 1, 1], [1, 1, 0], [0, 0, 0], [1, 0, 1], [0, 1, 0]])
NUMBERS = np.array([[0.5], [-2.0], [3.0], [0.1], [7.0]])

FORMS: list[tuple[str, Any, int, Task]] = [
    ("softmax_cross_entropy", LABELS, 3, Task("classes")),
    ("softmax_cross_entropy", LABELS[:, None], 3, Task("classes")),
    ("softmax_cross_entropy", ONE_HOT, 3, Task("classes")),
    ("softmax_cross_entropy", YES, 2, Task("classes")),
    ("softmax_cross_entropy", SEVERAL, 3, Task("labels")),
    ("softmax_cross_entropy", YES[:, None], 1, Task("binary")),
    ("nll", LABELS, 3, Task("classes")),
    ("nll", ONE_HOT, 3, Task("classes")),
    ("logistic", YES, 1, Task("binary")),
    ("logistic", YES[:, None], 1, Task("binary")),
    ("logistic", YES[:, None].astype(bool), 1, Task("binary")),
    ("logistic", YES[:, None].astype(float), 1, Task("binary")),
    ("logistic", SEVERAL, 3, Task("labels")),
    ("binary_cross_entropy", SEVERAL.astype(float), 3, Task("labels")),
    ("binary_cross_entropy", ONE_HOT, 3, Task("classes")),
    ("squared_error", YES[:, None], 1, Task("binary")),
    ("squared_error", 2 * YES[:, None] - 1, 1, Task("binary", 0.0)),
    ("squared_error", ONE_HOT, 3, Task("classes")),
    ("squared_error", LABELS, 1, Task("regression")),
    ("squared_error", NUMBERS, 1, Task("regression")),
    ("squared_error", NUMBERS[:, 0], 1, Task("regression")),
    ("absolute_error", np.hstack([NUMBERS, NUMBERS]), 2, Task("regression")),
    ("huber", NUMBERS.reshape(5, 1, 1), 1, Task("regression")),
    ("softmax_cross_entropy", np.array(["a", "b", "a", "b", "a"]), 2, Task("classes")),
    ("squared_error", np.zeros((0, 1)), 1, Task("classes")),
]


@pytest.mark.parametrize(("loss", "y", "outputs", "task"), FORMS)
def test_loss_and_targets_say_what_is_asked_for(loss, y, outputs, task):
    assert task_of(losses.get(loss), y, outputs) == task
    assert task_of(losses.get(loss), y.tolist(), outputs).kind == task.kind or not y.size


def test_a_function_of_the_users_own_asks_what_its_targets_say():
    def own(prediction: Any, target: Any) -> Any:
        return cr.mean((prediction - target) ** 2)

    assert task_of(own, NUMBERS, 1).kind == "regression"
    assert task_of(own, YES[:, None], 1).kind == "binary"
    assert task_of(own, LABELS, 3).kind == "classes"
    assert task_of(own, LABELS.astype(float)[:, None], 3).kind == "classes"
    assert task_of(own, YES, 2).kind == "classes"
    assert task_of(own, LABELS, 2).kind == "regression"  # 2 is none of two classes
    assert task_of(own, NUMBERS[:, 0], 2).kind == "regression"


def test_cells_that_are_no_numbers_do_not_hide_what_the_others_say():
    assert task_of(losses.logistic, np.array([[0.0], [np.nan], [1.0]]), 1) == Task("binary")
    assert task_of(losses.squared_error, np.array([[0.5], [np.inf]]), 1) == Task("regression")


def test_the_metric_is_accuracy_but_for_regression():
    kinds = ("classes", "binary", "labels", "regression")
    assert [Task(kind).metric for kind in kinds] == ["accuracy"] * 3 + ["r2"]


@given(seed=st.integers(0, 10_000), n=st.integers(1, 40), k=st.integers(2, 5))
def test_scores_are_those_of_scikit_learn(seed, n, k):
    rng = np.random.default_rng(seed)
    labels, out = rng.integers(0, k, n), rng.normal(size=(n, k))
    expected = accuracy_score(labels, out.argmax(1))
    assert Task("classes").score(out, labels) == pytest.approx(expected)
    assert Task("classes").score(out, np.eye(k)[labels]) == pytest.approx(expected)
    assert Task("classes").score(out, labels[:, None]) == pytest.approx(expected)

    yes, p = rng.integers(0, 2, n), rng.random(size=(n, 1))
    assert Task("binary").score(p, yes) == pytest.approx(accuracy_score(yes, p[:, 0] > 0.5))
    logits = rng.normal(size=n)
    expected = accuracy_score(yes, logits > 0)
    assert Task("binary").score(logits, yes[:, None], boundary=0.0) == pytest.approx(expected)
    assert Task("binary", 0.0).score(logits, 2 * yes - 1) == pytest.approx(expected)

    several = rng.integers(0, 2, (n, k))
    expected = np.mean([accuracy_score(several[:, j], out[:, j] > 0) for j in range(k)])
    assert Task("labels").score(out, several, boundary=0.0) == pytest.approx(expected)

    if n > 1:
        y = rng.normal(size=(n, k)) * [10.0, *[1.0] * (k - 1)]
        expected = r2_score(y, out, multioutput="variance_weighted")
        assert Task("regression").score(out, y) == pytest.approx(expected)
        expected = r2_score(y[:, 0], out[:, 0])
        assert Task("regression").score(out[:, :1], y[:, 0]) == pytest.approx(expected)


@given(seed=st.integers(0, 10_000), n=st.integers(2, 40), k=st.integers(2, 5))
def test_the_constant_answer_is_the_best_one_that_does_not_look(seed, n, k):
    rng = np.random.default_rng(seed)
    X, labels = np.zeros((n, 1)), rng.integers(0, k, n)
    dummy = DummyClassifier(strategy="most_frequent").fit(X, labels)
    assert Task("classes").constant(labels) == pytest.approx(dummy.score(X, labels))
    assert Task("classes").constant(np.eye(k)[labels]) == pytest.approx(dummy.score(X, labels))

    several = rng.integers(0, 2, (n, k))
    shares = [max(np.mean(c == v) for v in (0, 1)) for c in several.T]
    assert Task("labels").constant(several) == pytest.approx(np.mean(shares))
    assert Task("binary").constant(several[:, 0]) == pytest.approx(shares[0])
    assert Task("binary", 0.0).constant(2 * several[:, :1] - 1) == pytest.approx(shares[0])

    y = rng.normal(size=n)
    dummy = DummyRegressor().fit(X, y)
    assert Task("regression").constant(y) == pytest.approx(dummy.score(X, y), abs=1e-9)


def test_targets_that_are_all_alike_leave_nothing_to_learn():
    ones = np.ones(6, int)
    assert Task("classes").constant(ones) == Task("binary").constant(ones) == 1.0
    assert Task("regression").score(ones[:, None], ones) == 1.0
    assert Task("regression").score(0 * ones[:, None], ones) == 0.0
    assert Score("accuracy", 1.0, 1.0, 0.0).skill == 0.0


def test_answers_of_another_form_than_the_targets_have_no_score():
    assert np.isnan(Task("regression").score(np.zeros((5, 1)), np.hstack([NUMBERS, NUMBERS])))
    assert np.isnan(Task("labels").score(np.zeros((5, 2)), SEVERAL))


def test_of_a_mean_and_its_variance_the_mean_is_judged():
    both = np.hstack([np.full((5, 1), 9.0), NUMBERS + 0.1])
    regression = Task("regression")
    assert regression.score(both, NUMBERS) == regression.score(NUMBERS + 0.1, NUMBERS)
    rows = np.array([1, 3])
    np.testing.assert_allclose(
        regression.left(both[rows], NUMBERS, rows),
        regression.left(NUMBERS[rows] + 0.1, NUMBERS, rows),
    )


def test_text_has_a_constant_answer_too_and_nothing_has_none():
    assert Task("classes").constant(np.array(["a", "b", "a"])) == pytest.approx(2 / 3)
    assert Task("classes").constant(np.zeros((0,))) == 0.0


@pytest.mark.parametrize(
    ("value", "skill"), [(0.5, 0.0), (1.0, 1.0), (0.75, 0.5), (0.25, -0.5), (np.nan, -np.inf)]
)
def test_skill_counts_from_the_constant_answer(value, skill):
    assert Score("accuracy", value, 0.5, 0.1).skill == skill


@given(seed=st.integers(0, 10_000), n=st.integers(4, 40), k=st.integers(2, 5))
def test_what_is_left_to_learn_is_one_on_average_for_the_constant_answer(seed, n, k):
    rng = np.random.default_rng(seed)
    rows = np.arange(n)
    y = rng.normal(size=(n, 2))
    mean = np.broadcast_to(y.mean(0), y.shape)
    assert Task("regression").left(mean, y, rows).mean() == pytest.approx(1.0)
    assert Task("regression").left(y, y, rows).max() == 0.0
    some = rng.permutation(n)[: n // 2]
    np.testing.assert_allclose(
        Task("regression").left(0 * y[some], y, some),
        np.square(y[some]).sum(1) / np.square(y - y.mean(0)).sum(1).mean(),
    )
    labels = np.append(rng.integers(0, k, n - 2), [0, 1])
    best = np.eye(k)[[np.bincount(labels).argmax()] * n]
    assert Task("classes").left(best, labels, rows).mean() == pytest.approx(1.0)
    assert not Task("classes").left(np.eye(k)[labels], labels, rows).any()
    yes = np.append(rng.integers(0, 2, n - 2), [0, 1])
    best = np.full((n, 1), float(yes.mean() > 0.5))
    assert Task("binary").left(best, yes, rows).mean() == pytest.approx(1.0)
