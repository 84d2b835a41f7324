"""What is watched is what happened: against numbers worked out by hand, native and interpreted."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule.runs.watch import Watch

X = np.linspace(-1, 1, 48)[:, None]


def network() -> Any:
    return cr.nn.Sequential(cr.nn.Linear(1, 6), cr.nn.Tanh(), cr.nn.Linear(6, 1), seed=0)


class Weights:
    """Each epoch's parameters and last gradients."""

    def __init__(self) -> None:
        self.kept: list[tuple[dict[str, Any], dict[str, Any]]] = []

    def on_epoch(self, moment: Any) -> None:
        values = {k: np.array(p.value, np.float64) for k, p in moment.model.named_parameters()}
        slopes = {k: np.array(g, np.float64) for k, g in moment.gradients.items()}
        self.kept.append((values, slopes))


def fit(model: Any, *callbacks: Any, epochs: int = 4, **keywords: Any) -> Any:
    given = {"optimizer": cr.optim.Adam(lr=0.01), "batch_size": 16, "seed": 0, **keywords}
    return cr.fit(
        model, X, X**2, loss="squared_error", epochs=epochs, callbacks=list(callbacks), **given
    )


def whole(values: dict[str, Any], layer: str) -> Any:
    return np.concatenate([v.ravel() for k, v in values.items() if k.startswith(layer + ".")])


@pytest.mark.parametrize("native", [True, False])
def test_the_numbers_are_those_of_the_definition(native: bool) -> None:
    model, weights = network(), Weights()
    first = {k: np.array(p.value, np.float64) for k, p in model.named_parameters()}
    watch = Watch(model)
    fit(model, watch, weights, compile=native)
    before = first
    for epoch, (after, slopes) in enumerate(weights.kept):
        for layer in ("0", "2"):
            moved = np.linalg.norm(whole(after, layer) - whole(before, layer))
            ratio = moved / np.linalg.norm(whole(before, layer)) / 3  # 48 rows in 3 steps
            assert watch.update_ratio[layer][epoch] == pytest.approx(ratio, rel=1e-9)
            norm = np.linalg.norm(whole(slopes, layer))
            assert watch.gradient_norm[layer][epoch] == pytest.approx(norm, rel=1e-9)
            length = np.linalg.norm(whole(after, layer))
            assert watch.weight_norm[layer][epoch] == pytest.approx(length, rel=1e-9)
        before = after


def test_with_one_step_an_epoch_the_ratio_is_the_steps() -> None:
    model = network()
    watch = Watch(model)
    start = {k: np.array(p.value) for k, p in model.named_parameters()}
    fit(model, watch, optimizer=cr.optim.SGD(lr=0.1), batch_size=48, epochs=1)
    expected = 0.1 * watch.gradient_norm["2"][0] / np.linalg.norm(whole(start, "2"))
    assert watch.update_ratio["2"][0] == pytest.approx(expected, rel=1e-5)


def test_without_the_model_the_first_ratio_is_unknown() -> None:
    watch = Watch()
    fit(network(), watch, epochs=2)
    assert math.isnan(watch.update_ratio["0"][0])
    assert watch.update_ratio["0"][1] > 0


def test_watching_changes_no_bit() -> None:
    plain, watched = network(), network()
    fit(plain)
    fit(watched, Watch(watched))
    assert all(np.array_equal(plain.params[k], watched.params[k]) for k in plain.params)


def test_the_learning_rate_is_that_of_the_last_step() -> None:
    watch = Watch()
    schedule = cr.optim.cosine(0.1, 12)
    fit(network(), watch, optimizer=cr.optim.SGD(lr=schedule))
    assert watch.learning_rate == [float(schedule(step)) for step in (2, 5, 8, 11)]


def test_a_resumed_run_has_the_same_curves(tmp_path: Path) -> None:
    model = network()
    straight = Watch(model)
    fit(model, straight, epochs=6)
    for epochs in (3, 6):
        model = network()
        resumed = Watch(model)
        fit(model, resumed, epochs=epochs, checkpoint=tmp_path, resume=True)
    for curve in Watch.CURVES:
        assert getattr(resumed, curve) == getattr(straight, curve)
    assert resumed.learning_rate == straight.learning_rate


def test_a_layer_is_what_shares_a_prefix_and_zero_weights_have_no_ratio() -> None:
    class Own(cr.nn.Module):
        def __init__(self) -> None:
            self.scale = cr.Parameter(np.zeros((1, 1)))

        def forward(self, x: Any) -> Any:
            return x * self.scale

    model = Own()
    watch = Watch(model)
    fit(model, watch, epochs=2)
    assert watch.layers == ["model"]
    assert math.isnan(watch.update_ratio["model"][0])
    assert watch.update_ratio["model"][1] > 0


def test_gradients_may_be_asked_for_in_some_epochs_only() -> None:
    """Every third of ten epochs, the last among them; all else is as without."""
    X = np.linspace(-1, 1, 48)[:, None]

    def run(**options: int) -> Watch:
        model = cr.nn.Sequential(cr.nn.Linear(1, 4), cr.nn.Tanh(), cr.nn.Linear(4, 1), seed=0)
        watch = Watch(model, **options)
        cr.fit(model, X, X**2, loss="squared_error", epochs=10, callbacks=[watch], progress=False)
        return watch

    each, some = run(), run(every=3, last=10)
    assert some.update_ratio == each.update_ratio
    assert some.weight_norm == each.weight_norm
    for layer in ("0", "2"):
        known = [k for k, v in enumerate(some.gradient_norm[layer], start=1) if np.isfinite(v)]
        assert known == [1, 4, 7, 10]
        assert [some.gradient_norm[layer][k - 1] for k in known] == [
            each.gradient_norm[layer][k - 1] for k in known
        ]
