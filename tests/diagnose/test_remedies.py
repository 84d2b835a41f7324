"""Remedies: what is run is what is printed, and it changes what it says and nothing else."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim
from chainrule.diagnose import remedies
from chainrule.diagnose.flow import Layer, read
from chainrule.diagnose.pasted import NAMES, pasted
from chainrule.diagnose.setup import Change, Setup
from chainrule.diagnose.task import task_of
from chainrule.nn import layers, losses
from chainrule.nn.initializers import constant
from diagnose.planted import CROSS, CURVE, SIDE, X, bytes_of, deep, net

FAR = X * np.array([30.0, 0.01]) + np.array([500.0, -3.0])


def setup_of(model: Any = None, **changes: Any) -> Setup:
    task = task_of(losses.logistic, SIDE, 1)
    model = net() if model is None else model
    made = Setup(model, X, SIDE, losses.logistic, optim.Adam(lr=0.05), 10, 40, 3, task)
    return made.changed(**changes)


def layers_of(setup: Setup) -> list[Layer]:
    """What the flow reads of the network, as the signatures have it."""
    return read(setup.model, setup.loss, setup.X, setup.y).layers


def by_hand(change: Change, setup: Setup) -> dict[str, Any]:
    """What the code makes of the names that it may use, in a namespace of its own."""
    names: dict[str, Any] = {"np": np, "cr": cr, "nn": nn, "optim": optim, "losses": losses}
    names |= {name: getattr(setup, name) for name in NAMES}
    names["model"], names["optimizer"] = setup.fresh(), copy.deepcopy(setup.optimizer)
    exec(change.code, names)
    return names


BIASED = net(bias_init=constant(7.0))
EVERY: dict[str, tuple[Setup, Any]] = {
    "rate": (setup_of(), lambda s: remedies.rate(s, 3)),
    "rate of a schedule": (
        setup_of(optimizer=optim.SGD(lr=optim.cosine(0.1, 9))), lambda s: remedies.rate(s, 3),
    ),
    "rate of a wrapper": (
        setup_of(optimizer=optim.EMA(optim.SGD(lr=0.1))), lambda s: remedies.rate(s, 3),
    ),
    "steady": (setup_of(optimizer=optim.SGD(lr=optim.cosine(0.1, 9))), remedies.steady),
    "clipped": (setup_of(), remedies.clipped),
    "clipped wrapper": (setup_of(optimizer=optim.EMA(optim.SGD(lr=0.1))), remedies.clipped),
    "longer": (setup_of(), lambda s: remedies.longer(s, 4)),
    "standardised": (setup_of(X=FAR), remedies.standardised),
    "redrawn": (setup_of(), lambda s: remedies.redrawn(s, layers_of(s))),
    "zero bias": (setup_of(BIASED), lambda s: remedies.zero_bias(s, layers_of(s)[:1])),
    "swapped": (setup_of(), lambda s: remedies.swapped(s, (layers.Tanh,), "ReLU")),
    "hidden layer": (setup_of(nn.Sequential(nn.Linear(2, 1), seed=0)), remedies.hidden_layer),
    "wider": (setup_of(), remedies.wider),
}  # fmt: skip


@pytest.mark.parametrize("name", list(EVERY))
def test_the_code_pasted_by_hand_does_what_is_run_and_leaves_the_run_alone(name):
    setup, make = EVERY[name]
    change = make(setup)
    before = bytes_of(setup.model), setup.X.tobytes(), repr(setup.optimizer), setup.optimizer.lr
    found, names = change.apply(setup), by_hand(change, setup)
    assert bytes_of(found.model) == bytes_of(names["model"])
    assert np.array_equal(found.X, names["X"])
    assert repr(found.optimizer) == repr(names["optimizer"])
    assert (found.epochs, found.batch_size) == (names["epochs"], names["batch_size"])
    after = bytes_of(setup.model), setup.X.tobytes(), repr(setup.optimizer), setup.optimizer.lr
    assert after == before
    changed = [
        bytes_of(found.model) != bytes_of(setup.model) or repr(found.model) != repr(setup.model),
        not np.array_equal(found.X, setup.X),
        found.optimizer.lr != setup.optimizer.lr
        or getattr(found.optimizer, "clip_norm", None) is not None,
        found.epochs != setup.epochs,
    ]
    assert sum(changed) == 1
    assert change.name
    kept = found.changed(epochs=1)
    cr.fit(kept.fresh(), kept.X, kept.y, loss=kept.loss, optimizer=kept.optimizer, epochs=1,
           progress=False, compile=False)  # fmt: skip


# -- the optimiser ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("factor", "lr"), [(3, 0.15), (1000, 50.0), (1 / 3, 0.017), (0.01, 5e-4)])
def test_a_rate_is_multiplied_and_all_else_about_the_optimiser_is_kept(factor, lr):
    setup = setup_of(optimizer=optim.Adam(lr=0.05, betas=(0.5, 0.6), weight_decay=0.1))
    found = remedies.rate(setup, factor).apply(setup).optimizer
    assert found.lr == lr
    assert (found.betas, found.weight_decay) == ((0.5, 0.6), 0.1)


def test_a_schedule_is_multiplied_as_a_whole_also_twice():
    schedule = optim.cosine(0.1, 9)
    setup = setup_of(optimizer=optim.SGD(lr=schedule))
    twice = remedies.rate(setup, 3).then(remedies.rate(setup, 10))
    for optimizer in (twice.apply(setup).optimizer, by_hand(twice, setup)["optimizer"]):
        rates = [optimizer.lr(k) for k in range(10)]
        np.testing.assert_allclose(rates, [30 * schedule(k) for k in range(10)])
    assert setup.optimizer.lr is schedule
    steady = remedies.steady(setup).apply(setup)
    assert steady.optimizer.lr == 0.1


def test_what_has_no_rate_gets_none():
    for setup in (setup_of(optimizer=optim.LBFGS()),):
        assert remedies.rate(setup, 3) is None
        assert remedies.rates(setup, (3, 10)) == ()
        assert remedies.steady(setup) is None
    assert remedies.steady(setup_of()) is None


def test_a_rate_of_zero_becomes_one_that_moves():
    found = [remedies.rate(setup_of(optimizer=optim.SGD(lr=0.0)), f) for f in (3, 10)]
    assert len({change.name for change in found}) == 2
    setup = setup_of(optimizer=optim.SGD(lr=0.0))
    assert [change.apply(setup).optimizer.lr for change in found] == [0.003, 0.01]


def test_gradients_are_clipped_once():
    setup = setup_of()
    clipped = remedies.clipped(setup).apply(setup)
    assert clipped.optimizer.clip_norm == 1.0
    assert clipped.optimizer.lr == 0.05
    assert remedies.clipped(clipped) is None
    assert remedies.clipped(setup_of(optimizer=optim.LBFGS())) is None


# -- data and weights ------------------------------------------------------------------------------


def test_inputs_are_standardised_unless_they_are():
    setup = setup_of(X=FAR)
    found = remedies.standardised(setup).apply(setup).X
    np.testing.assert_allclose(found.mean(0), 0, atol=1e-10)
    np.testing.assert_allclose(found.std(0), 1, rtol=1e-10)
    assert remedies.standardised(setup_of(X=found)) is None
    assert remedies.standardised(setup_of(X=np.where(X > 2, np.nan, X))) is None
    idle = np.hstack([FAR, np.full((120, 1), 7.0)])
    found = remedies.standardised(setup_of(X=idle)).apply(setup_of(X=idle)).X
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found[:, 2], 0)


def test_weights_are_drawn_anew_with_the_variance_that_suits_what_follows():
    model = nn.Sequential(nn.Linear(400, 300), nn.ReLU(), nn.Linear(300, 200, seed=9), nn.Tanh())
    setup = setup_of(model, X=np.zeros((4, 400)), y=np.zeros((4, 200)))
    change = remedies.redrawn(setup, layers_of(setup))
    found = change.apply(setup).model
    he, glorot = (np.asarray(found[k].weight.value) for k in (0, 2))
    assert he.std() == pytest.approx(math.sqrt(2 / 400), rel=0.02)
    assert glorot.std() == pytest.approx(math.sqrt(2 / 500), rel=0.02)
    assert abs(glorot).max() <= math.sqrt(6 / 500)
    assert not np.any(found[0].bias.value)
    assert not np.any(found[2].bias.value)
    assert bytes_of(change.apply(setup).model) == bytes_of(found)
    assert found[0].weight.dtype == np.float32
    other = remedies.redrawn(setup.changed(seed=4), layers_of(setup)).apply(setup).model
    assert not np.array_equal(other[0].weight.value, he)
    assert remedies.redrawn(setup, []) is None


def test_only_biases_that_are_not_zero_are_put_to_zero():
    setup = setup_of(BIASED)
    first = layers_of(setup)[:1]
    found = remedies.zero_bias(setup, first).apply(setup).model
    assert not np.any(found[0].bias.value)
    assert np.array_equal(found[0].weight.value, BIASED[0].weight.value)
    assert np.any(setup.model[0].bias.value)
    assert remedies.zero_bias(setup.changed(model=found), first) is None
    bare = nn.Sequential(nn.Linear(2, 1, bias=False), seed=0)
    assert remedies.zero_bias(setup_of(bare), layers_of(setup_of(bare))) is None


def test_the_code_of_a_deep_network_fits_a_terminal():
    setup = setup_of(deep(nn.Sigmoid, 12))
    change = remedies.redrawn(setup, layers_of(setup))
    assert max(len(line) for line in change.code.splitlines()) <= 80 - len("       ")
    assert not np.any(change.apply(setup).model[22].bias.value)


class OwnNames(nn.Module):
    """W·x + b by hand: the first weight is stored as (units, inputs), the second otherwise."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.w = nn.Parameter(rng.normal(size=(300, 2)))
        self.shift = nn.Parameter(np.full((300, 1), -9.0))
        self.v = nn.Parameter(rng.normal(size=(300, 1)))
        self.c = nn.Parameter(np.full(1, 5.0))

    def forward(self, x: Any) -> Any:
        hidden = cr.relu(self.w @ cr.transpose(x) + self.shift)
        return cr.transpose(hidden) @ self.v + self.c


def test_biases_and_fans_are_read_off_the_circuit_and_not_off_names():
    setup = setup_of(OwnNames())
    layers = layers_of(setup)
    assert [(x.flow.weight, x.bias_name) for x in layers] == [("w", "shift"), ("v", "c")]
    change = remedies.zero_bias(setup, layers)
    assert change.name == "biases shift, c at 0"
    zeroed = change.apply(setup).model
    assert not np.any(zeroed.shift.value)
    assert not np.any(zeroed.c.value)
    assert np.array_equal(zeroed.w.value, setup.model.w.value)
    found = remedies.redrawn(setup, layers).apply(setup).model
    assert not np.any(found.shift.value)
    assert not np.any(found.c.value)
    assert np.asarray(found.w.value).std() == pytest.approx(1, rel=0.1)  # He: 2 inputs
    limit = math.sqrt(6 / 301)  # Glorot: 300 inputs, one unit
    assert 0.9 * limit < abs(np.asarray(found.v.value)).max() <= limit
    arguments = {"loss": "logistic", "optimizer": optim.Adam(lr=0.05), "epochs": 20, "seed": 0}
    report = cr.diagnose(OwnNames(), X, SIDE, progress=False, **arguments)
    assert [x.problem for x in report.findings] == ["dead_relu"]
    assert report.findings[0].verified
    assert "'shift'" in report.findings[0].remedy


def test_he_is_drawn_by_the_inputs_of_a_weight_that_is_stored_as_inputs_by_units():
    class Turned(nn.Module):
        def __init__(self) -> None:
            self.w = nn.Parameter(np.ones((2, 400)))
            self.v = nn.Parameter(np.ones((400, 1)))

        def forward(self, x: Any) -> Any:
            return cr.relu(x @ self.w) @ self.v

    setup = setup_of(Turned())
    found = remedies.redrawn(setup, layers_of(setup)).apply(setup).model
    assert np.asarray(found.w.value).std() == pytest.approx(1, rel=0.1)


def test_a_bias_that_is_reshaped_on_its_way_is_found():
    class Reshaped(nn.Module):
        def __init__(self) -> None:
            self.w, self.b = nn.Parameter(np.ones((3, 2))), nn.Parameter(np.ones(3))
            self.v = nn.Parameter(np.ones((1, 3)))

        def forward(self, x: Any) -> Any:
            net = self.w @ cr.transpose(x) + self.b.reshape(3, 1)
            return cr.transpose(self.v @ cr.relu(net))

    setup = setup_of(Reshaped())
    assert [x.bias_name for x in layers_of(setup)] == ["b", ""]


def test_a_bias_behind_a_turned_product_is_found():
    class Late(nn.Module):
        def __init__(self) -> None:
            self.w, self.b = nn.Parameter(np.ones((1, 2))), nn.Parameter(np.ones(1))

        def forward(self, x: Any) -> Any:
            return cr.transpose(self.w @ cr.transpose(x)) + self.b

    setup = setup_of(Late())
    assert [x.bias_name for x in layers_of(setup)] == ["b"]


# -- layers ----------------------------------------------------------------------------------------


def test_hidden_transfer_functions_are_exchanged_and_the_outputs_own_is_not():
    model = nn.Sequential(*deep(nn.Sigmoid, 2), nn.Sigmoid(), seed=0)
    setup = setup_of(model)
    found = remedies.swapped(setup, (layers.Sigmoid,), "Tanh").apply(setup).model
    kinds = [type(part).__name__ for part in found if not isinstance(part, nn.Linear)]
    assert kinds == ["Tanh", "Tanh", "Sigmoid"]
    old = [np.asarray(p.value) for p in model.parameters()]
    assert all(np.array_equal(p.value, q) for p, q in zip(found.parameters(), old, strict=True))
    assert remedies.swapped(setup, (layers.ReLU,), "Tanh") is None
    assert remedies.swapped(setup.changed(model=found), (layers.Tanh,), "Tanh") is None


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_capacity_is_added_in_the_networks_own_form(dtype):
    single = setup_of(nn.Sequential(nn.Linear(2, 1, dtype=dtype), nn.Sigmoid(), seed=0))
    found = remedies.hidden_layer(single).apply(single).model
    assert [type(part).__name__ for part in found] == ["Linear", "Tanh", "Linear", "Sigmoid"]
    assert {p.dtype for p in found.parameters()} == {np.dtype(dtype)}
    assert found.predict(X).shape == (120, 1)

    hidden = nn.Linear(2, 3, dtype=dtype), nn.ReLU(), nn.Linear(3, 1, dtype=dtype)
    setup = setup_of(nn.Sequential(*hidden, seed=0))
    found = remedies.wider(setup).apply(setup).model
    assert (found[0].out_features, found[2].in_features) == (32, 32)
    assert {p.dtype for p in found.parameters()} == {np.dtype(dtype)}
    assert found.predict(X).shape == (120, 1)


class Own(nn.Module):
    def __init__(self) -> None:
        self.inner = nn.Linear(2, 1, seed=0)

    def forward(self, x: Any) -> Any:
        return self.inner(x)


def test_what_cannot_be_rebuilt_gets_no_such_change():
    setup = setup_of(Own())
    assert remedies.swapped(setup, (layers.Tanh,), "ReLU") is None
    assert remedies.hidden_layer(setup) is None
    assert remedies.wider(setup) is None
    normed = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 1), seed=0)
    assert remedies.wider(setup_of(normed)) is None


# -- pasting ---------------------------------------------------------------------------------------


def test_a_chain_of_chains_is_rebuilt_flat_with_its_own_weights():
    inner = nn.Sequential(nn.Linear(2, 5, seed=1), nn.Sigmoid())
    model = nn.Sequential(inner, nn.Sequential(nn.Linear(5, 5, seed=2), nn.Sigmoid()),
                          nn.Linear(5, 1, seed=3))  # fmt: skip
    setup = setup_of(model)
    for change in (remedies.swapped(setup, (layers.Sigmoid,), "Tanh"), remedies.wider(setup),
                   remedies.hidden_layer(setup)):  # fmt: skip
        assert change is not None
        made, pasted_by_hand = change.apply(setup).model, by_hand(change, setup)["model"]
        assert bytes_of(made) == bytes_of(pasted_by_hand)
        assert made.predict(X).shape == (len(X), 1)
    swapped = remedies.swapped(setup, (layers.Sigmoid,), "Tanh").apply(setup).model
    assert [type(layer).__name__ for layer in swapped] == [
        "Linear", "Tanh", "Linear", "Tanh", "Linear",
    ]  # fmt: skip
    assert np.array_equal(swapped[2].weight.numpy(), model[1][0].weight.numpy())


def test_two_changes_are_one_text_that_does_both():
    setup = setup_of(BIASED, X=FAR)
    both = remedies.standardised(setup).then(remedies.rate(setup, 10))
    found, names = both.apply(setup), by_hand(both, setup)
    assert found.optimizer.lr == names["optimizer"].lr == 0.5
    assert np.array_equal(found.X, names["X"])
    assert both.name == "X standardised, and learning rate 0.05 → 0.5"
    assert both.code.count("\n") >= 1


def test_pasted_code_works_on_copies_and_its_own_names():
    setup = setup_of()
    code = "model[0].bias.rebind(np.ones(12))\noptimizer.lr = 9.0\nX = X + 1\nepochs = 2\nk = 5"
    found = pasted("all of it", code).apply(setup)
    assert (found.optimizer.lr, found.epochs, setup.optimizer.lr, setup.epochs) == (
        9.0,
        2,
        0.05,
        10,
    )
    assert not np.any(setup.model[0].bias.value)
    np.testing.assert_array_equal(found.X, X + 1)
    assert found.y is setup.y
    assert found.task is setup.task


def test_a_change_of_the_targets_form_says_what_they_ask_for_now():
    task = task_of(losses.squared_error, CURVE, 1)
    found = pasted("numbers", "y = y * 3.5", task).apply(setup_of(y=CROSS))
    assert found.task.kind == "regression"
