"""Whether X says anything about y: what is there is seen, what is not there is not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.neighbors import KNeighborsRegressor

from chainrule.diagnose import signal as module
from chainrule.diagnose.signal import signal
from chainrule.diagnose.task import Task

Array = Any
RNG = np.random.default_rng(0)
X = RNG.normal(size=(160, 3))
NOISE = RNG.normal(size=160)
REGRESSION, BINARY, CLASSES = Task("regression"), Task("binary"), Task("classes")


@pytest.mark.parametrize(
    ("y", "task"),
    [
        (X @ np.array([1.0, -2.0, 0.5]), REGRESSION),
        (X[:, 0] * X[:, 1], REGRESSION),
        (X[:, :2] ** 2 + NOISE[:, None], REGRESSION),
        ((X[:, 0] > 0).astype(int), BINARY),
        ((X[:, 0] * X[:, 1] > 0).astype(int), BINARY),
        ((X[:, 0] > 0).astype(int) + (X[:, 1] > 0), CLASSES),
        (np.eye(2)[(X[:, 0] > 0).astype(int)], CLASSES),
        ((X > 0).astype(int), Task("labels")),
        (0.7 * X[:, 0] + NOISE, REGRESSION),
    ],
)
def test_what_is_there_is_seen_in_every_form(y, task):
    found = signal(X, y, task)
    assert found.there
    assert found.found > found.chance
    assert found.share == pytest.approx(0.01)
    loose = np.random.default_rng(3).permutation(y)
    assert not signal(X, loose, task).there


def test_chance_is_called_a_signal_no_more_often_than_it_says():
    """A shuffle does best of 100 once in 100 times: of 60 draws of noise a few at most."""
    rng = np.random.default_rng(1)
    seen = [signal(rng.normal(size=(60, 3)), rng.normal(size=60), REGRESSION, k) for k in range(60)]
    assert sum(found.there for found in seen) <= 4


def test_few_rows_text_and_cells_that_are_no_numbers_say_nothing():
    assert signal(X[:39], NOISE[:39], REGRESSION) is None
    assert signal(X[:40], NOISE[:40], REGRESSION) is not None
    assert signal(np.full((80, 2), "a"), NOISE[:80], REGRESSION) is None
    assert signal(np.where(X > 2, np.nan, X), NOISE, REGRESSION) is None
    assert signal(X, np.where(NOISE > 2, np.inf, NOISE), REGRESSION) is None
    assert signal(X, np.full(160, "a"), REGRESSION) is None


def test_what_is_constant_carries_nothing():
    for x, y in ((np.ones((160, 3)), NOISE), (X, np.ones(160))):
        found = signal(x, y, REGRESSION)
        assert (found.found, found.there) == (0.0, False)


def test_scale_centre_and_idle_columns_change_nothing():
    y = X[:, 0] + 0.5 * NOISE
    plain = signal(X, y, REGRESSION)
    moved = signal(X * [1e-6, 300, 1] + [5, -4e4, 0], 7 * y - 1e3, REGRESSION)
    idle = signal(np.hstack([X, np.full((160, 2), 3.0)]), y, REGRESSION)
    for other in (moved, idle):
        assert other.found == pytest.approx(plain.found, abs=1e-6)
        assert other.share == plain.share


def test_a_plane_is_seen_however_far_the_targets_are_from_zero():
    """Of many columns the nearest rows say little, so that the plane must."""
    wide = np.random.default_rng(6).normal(size=(160, 30))
    y = wide @ np.linspace(-1, 1, 30)
    near, far = signal(wide, y, REGRESSION), signal(wide, y + 1e6, REGRESSION)
    assert near.found > 0.9
    assert far.found == pytest.approx(near.found, abs=1e-6)


def test_the_same_seed_gives_the_same_answer():
    y = 0.2 * X[:, 0] + NOISE
    assert signal(X, y, REGRESSION, 4) == signal(X, y, REGRESSION, 4)
    assert signal(X, y, REGRESSION, 4) != signal(X, y, REGRESSION, 5)


def test_images_are_rows_of_numbers():
    y = X[:, 0] + 0.5 * NOISE
    images = np.repeat(X, 4, axis=1).reshape(160, 3, 2, 2)
    assert signal(images, y, REGRESSION).there


def test_the_rules_predict_rows_that_they_have_not_seen_as_scikit_learn_does():
    x = (X - X.mean(0)) / X.std(0)
    y = x[:, 0] * x[:, 1] + x[:, 2]
    plane, nearest = module._plane(x), module._nearest(x)
    for k in range(module.FOLDS):
        held = np.arange(k, 160, module.FOLDS)
        seen = np.setdiff1d(np.arange(160), held)
        ones = np.column_stack([x, np.ones(160)])
        ridge = Ridge(alpha=1e-3 * len(seen), fit_intercept=False).fit(ones[seen], y[seen])
        np.testing.assert_allclose((plane @ y)[held], ridge.predict(ones[held]), rtol=1e-8)
        near = KNeighborsRegressor(module.NEAREST).fit(x[seen], y[seen])
        np.testing.assert_allclose((nearest @ y)[held], near.predict(x[held]), rtol=1e-8)
        assert not plane[np.ix_(held, held)].any()
        assert not nearest[np.ix_(held, held)].any()


def test_many_rows_and_columns_are_bounded(monkeypatch):
    monkeypatch.setattr(module, "ROWS", 100)
    monkeypatch.setattr(module, "COLUMNS", 2)
    assert signal(X, X[:, 0], REGRESSION).there
    assert not signal(X, X[:, 2] * 1.0, REGRESSION).there
