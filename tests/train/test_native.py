"""fit in machine code: the same run as in NumPy, for every model, rule, batch and ending."""

from __future__ import annotations

import copy
import itertools
import json
import os
import pickle
import re
import subprocess
import sys
import threading
import warnings

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.compiler import native as machine
from chainrule.errors import GradientError
from chainrule.nn import losses, optim
from chainrule.train import History, StopTraining, fit, orders
from chainrule.train.history import Numbers
from chainrule.train.native import SLICE
from chainrule.train.run import Plan

pytestmark = pytest.mark.skipif(not machine.available(), reason="needs llvmlite")

RNG = np.random.default_rng(8)
X = RNG.normal(size=(40, 3))
LABELS = RNG.integers(0, 3, 40)
BITS = LABELS % 2
NUMBERS = X @ [1.0, -2.0, 0.5] + 0.1 * RNG.normal(size=40)
COLUMNS = np.stack([NUMBERS, X[:, 0] ** 2], axis=1)
SHARES = np.exp(RNG.normal(size=(40, 3)))
SHARES /= SHARES.sum(1, keepdims=True)
SLOW = pytest.mark.slow


def few(names, chosen):
    """Parameters of which all but the chosen are slow."""
    return [x if x in chosen else pytest.param(x, marks=SLOW) for x in names]


POSIX = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")


def linear(*sizes, dtype=np.float64):
    return [nn.Linear(i, o, dtype=dtype) for i, o in itertools.pairwise(sizes)]


def net(*middle, last=3, width=5, dtype=np.float64):
    """3 inputs, `middle` between two linear layers."""
    first, second = nn.Linear(3, width, dtype=dtype), nn.Linear(width, last, dtype=dtype)
    return nn.Sequential(first, *middle, second, seed=1)


def both(make, X=X, y=LABELS, callbacks=lambda: (), expect="yes", **keywords):
    """The run in machine code and in NumPy: (model, history) of each."""
    defaults = {
        "loss": "softmax_cross_entropy", "optimizer": optim.SGD(lr=0.1), "epochs": 6,
        "batch_size": 7, "progress": False,
    }  # fmt: skip
    found = []
    for compile in (True, False):
        model = make()
        given = {**defaults, **keywords, "callbacks": callbacks()}
        given["optimizer"] = copy.deepcopy(given["optimizer"])
        history = fit(model, X, y, compile=compile, **given)
        found.append((model, history))
    assert found[0][1].compiled == expect
    return found


def close(one, other, tolerance=1e-9):
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert value.dtype == other[name].dtype, name
        np.testing.assert_allclose(value, other[name], rtol=tolerance, atol=tolerance, err_msg=name)


def agree(pair, tolerance=1e-9):
    """Model, losses, metrics and the optimiser's state are the same."""
    (model, history), (other, expected) = pair
    close(model.state_dict(), other.state_dict(), tolerance)
    for name in ("loss", "val_loss", "step_loss"):
        one, two = getattr(history, name), getattr(expected, name)
        np.testing.assert_allclose(one, two, rtol=tolerance, atol=tolerance, err_msg=name)
    assert history.metrics.keys() == expected.metrics.keys()
    for name, values in history.metrics.items():
        np.testing.assert_allclose(values, expected.metrics[name], rtol=1e-6, atol=1e-6)
    assert history.stopped == expected.stopped
    assert history.seed == expected.seed
    assert history.state.keys() == expected.state.keys()
    assert history.state["step"] == expected.state["step"]
    for slot in history.state.keys() - {"step"}:
        close(history.state[slot], expected.state[slot], tolerance)
    for a, b in zip(model.modules(), other.modules(), strict=True):
        assert a.training == b.training
        if isinstance(a, nn.Dropout):
            assert (a.seed, a.number, a.step) == (b.seed, b.number, b.step)


# -- models -----------------------------------------------------------------------------------


class Shared(nn.Module):
    """One layer twice, and a way around it."""

    def __init__(self):
        self.enter = nn.Linear(3, 5, seed=0, dtype=np.float64)
        self.again = nn.Linear(5, 5, seed=1, dtype=np.float64)
        self.leave = nn.Linear(5, 3, seed=2, dtype=np.float64)
        self.scale = nn.Parameter(np.float64(0.7))
        self.idle = nn.Parameter(np.ones(2))

    def forward(self, x):
        h = cr.tanh(self.enter(x))
        h = h + self.scale * cr.tanh(self.again(h))
        return self.leave(cr.tanh(self.again(h)) * 0.5 + h)


def batch_norm(width=5):
    return nn.BatchNorm1d(width, dtype=np.float64)


def deep():
    layers = [x for _ in range(11) for x in (*linear(4, 4), nn.Tanh())]
    return nn.Sequential(*linear(3, 4), nn.Tanh(), *layers, *linear(4, 3), seed=0)


def wide():
    middle = [nn.Tanh(), *linear(17, 33), nn.Sigmoid(), *linear(33, 100), nn.Tanh()]
    return nn.Sequential(*linear(3, 17), *middle, *linear(100, 3), seed=0)


ACTIVATIONS = [
    nn.Sigmoid, nn.Tanh, nn.Softplus, nn.GELU, nn.SiLU, nn.Softsign, nn.ELU, nn.SELU, nn.ReLU,
    nn.LeakyReLU, nn.HardTanh, nn.Softmax, nn.LogSoftmax,
]  # fmt: skip
MODELS = {
    **{kind.__name__: lambda kind=kind: net(kind()) for kind in ACTIVATIONS},
    "PReLU": lambda: net(nn.PReLU(dtype=np.float64)),
    "Maxout": lambda: nn.Sequential(nn.Maxout(3, 4, dtype=np.float64), *linear(4, 3), seed=0),
    "MulticlassSigmoid": lambda: nn.Sequential(
        *linear(3, 4),
        nn.Tanh(),
        nn.MulticlassSigmoid(4, 3, reference=True, dtype=np.float64),
        seed=0,
    ),
    "LayerNorm": lambda: net(nn.LayerNorm(5, dtype=np.float64), nn.Tanh()),
    "BatchNorm1d": lambda: net(nn.Tanh(), batch_norm()),
    "two BatchNorm1d": lambda: net(batch_norm(), nn.Tanh(), batch_norm()),
    "Dropout": lambda: net(nn.Dropout(0.4), nn.Tanh(), nn.Dropout(0.2)),
    "Dropout and BatchNorm1d": lambda: net(nn.Dropout(0.4), nn.Tanh(), batch_norm()),
    "Shared": Shared,
    "linear": lambda: nn.Sequential(*linear(3, 3), seed=0),
    "no bias": lambda: nn.Sequential(nn.Linear(3, 3, bias=False, dtype=np.float64), seed=0),
    "one unit": lambda: net(nn.Tanh(), width=1),
    "deep": deep,
    "wide": wide,
}


@pytest.mark.parametrize("name", MODELS)
def test_every_model_trains_as_in_numpy(name):
    size = 8 if "BatchNorm" in name else 7  # no batch of one row
    agree(both(MODELS[name], batch_size=size, optimizer=optim.SGD(lr=0.05, momentum=0.9)))


@pytest.mark.parametrize("name", few(MODELS, ["Tanh", "BatchNorm1d", "Dropout", "wide"]))
def test_every_model_in_float32(name):
    def make():
        model = MODELS[name]()
        for module in model.modules():
            for member, value in list(vars(module)["_members"].items()):
                if isinstance(value, nn.Parameter):
                    setattr(module, member, None)
                    setattr(module, member, nn.Parameter(value.numpy().astype(np.float32)))
        return model

    size = 8 if "BatchNorm" in name else 7
    (model, history), (other, expected) = both(make, batch_size=size, epochs=4)
    assert {p.dtype for p in model.parameters()} == {np.dtype(np.float32)}
    np.testing.assert_allclose(history.loss, expected.loss, rtol=2e-4)
    close(model.params, other.params, 2e-3)


ONE_HOT = np.eye(3)[LABELS]
LAST = {"nll": nn.Softmax, "binary_cross_entropy": nn.Sigmoid, "relative_entropy": nn.Softmax}


@pytest.mark.parametrize("reduced", [ONE_HOT, SHARES, LABELS], ids=["hot", "shares", "labels"])
@pytest.mark.parametrize("name", losses.LOSSES)
def test_every_loss(name, reduced):
    if reduced.ndim == 1 and not losses.get(name).takes_labels:
        pytest.skip("takes numbers")
    last = [LAST[name]()] if name in LAST else []

    def make():
        return nn.Sequential(*linear(3, 5), nn.Tanh(), *linear(5, 3), *last, seed=0)

    agree(both(make, y=reduced, loss=name))


@pytest.mark.parametrize("transfer", ["sigmoid", "softmax"])
def test_matching_losses(transfer):
    agree(both(lambda: net(nn.Tanh()), y=ONE_HOT, loss=losses.matching(transfer)))


def test_a_softmax_as_the_last_layer():
    def make():
        return nn.Sequential(*linear(3, 5), nn.Tanh(), *linear(5, 3), nn.Softmax(), seed=0)

    agree(both(make, y=SHARES, loss="relative_entropy"))
    agree(both(make, y=ONE_HOT, loss="squared_error"))


@pytest.mark.parametrize(
    ("y", "last"),
    [(NUMBERS, 1), (NUMBERS[:, None], 1), (COLUMNS, 2), (np.tile(NUMBERS[:, None], 17), 17)],
)
def test_targets_of_every_shape(y, last):
    agree(both(lambda: net(nn.Tanh(), last=last), y=y, loss="squared_error"))


@pytest.mark.parametrize("y", [LABELS, LABELS[:, None], np.eye(3)[LABELS], SHARES])
def test_labels_and_distributions(y):
    agree(both(lambda: net(nn.Tanh()), y=y))


@pytest.mark.parametrize(("rows", "columns"), [(1, 3), (1, 1), (9, 1), (2, 100)])
def test_few_rows_and_columns(rows, columns):
    def make():
        return nn.Sequential(*linear(columns, 4), nn.Tanh(), *linear(4, 1), seed=0)

    data, y = RNG.normal(size=(rows, columns)), RNG.normal(size=rows)
    agree(both(make, data, y, loss="squared_error", batch_size=2))


def test_rows_of_several_axes():
    images = RNG.normal(size=(20, 2, 3))

    def make():
        return nn.Sequential(nn.Flatten(), *linear(6, 4), nn.Tanh(), *linear(4, 3), seed=0)

    agree(both(make, images, LABELS[:20]))


# -- rules ------------------------------------------------------------------------------------

RULES = {
    "SGD": optim.SGD(lr=0.1),
    "momentum": optim.SGD(lr=0.05, momentum=0.9),
    "Nesterov": optim.SGD(lr=0.05, momentum=0.9, nesterov=True),
    "weight decay": optim.SGD(lr=0.1, weight_decay=0.02),
    "clip_norm": optim.SGD(lr=0.3, clip_norm=0.2),
    "clip_value": optim.SGD(lr=0.3, clip_value=0.05, momentum=0.5),
    "both clips": optim.Adam(lr=0.05, clip_value=0.05, clip_norm=0.1),
    "Adam": optim.Adam(lr=0.05),
    "Adam, decay": optim.Adam(lr=0.05, weight_decay=0.1, betas=(0.8, 0.9), eps=1e-6),
    "AdamW": optim.AdamW(lr=0.05, weight_decay=0.1),
    "RMSprop": optim.RMSprop(lr=0.01),
    "RMSprop, all": optim.RMSprop(lr=0.01, momentum=0.8, centered=True, weight_decay=0.01),
    "Adagrad": optim.Adagrad(lr=0.1, lr_decay=0.1, initial_accumulator_value=0.1),
    "cosine": optim.SGD(lr=optim.cosine(0.3, 30, final=0.01)),
    "steps": optim.Adam(lr=optim.steps(0.05, every=7)),
    "exponential": optim.AdamW(lr=optim.exponential(0.1, 0.97)),
    "warmup": optim.SGD(lr=optim.warmup(optim.cosine(0.3, 30), 9), momentum=0.9),
    "own schedule": optim.SGD(lr=lambda k: 0.2 if k < 11 else 0.2 / (k - 9)),
    "warmup of own": optim.SGD(lr=optim.warmup(lambda k: 0.2 if k < 11 else 0.1, 9)),
}


@pytest.mark.parametrize("name", RULES)
def test_every_rule(name):
    # no gradient is noise about 0, which these rules would blow up to a whole step
    agree(both(lambda: net(nn.Tanh()), optimizer=RULES[name], epochs=9))


@pytest.mark.parametrize("name", ["momentum", "Adam", "RMSprop, all", "cosine", "own schedule"])
def test_a_state_continues(name):
    found = []
    for compile in (True, False):
        model, optimizer = net(nn.Tanh(), nn.Dropout(0.2)), RULES[name]
        common = {"loss": "softmax_cross_entropy", "optimizer": optimizer, "batch_size": 7,
                  "epochs": 5, "progress": False}  # fmt: skip
        first = fit(model, X, LABELS, compile=compile, **common)
        second = fit(model, X, LABELS, compile=not compile, state=first.state, seed=3, **common)
        assert second.state["step"] == 60
        found.append((model, second))
    agree(found)


# -- batches ----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", few([1, 7, 8, 32, 39, 40, 41, None], [1, 7, 40]))
@pytest.mark.parametrize("shuffle", [True, False])
def test_batches(size, shuffle):
    agree(both(lambda: net(nn.Tanh()), batch_size=size, shuffle=shuffle, epochs=3, seed=5))


@pytest.mark.parametrize("seed", [1, 2**40])
def test_seeds(seed):
    agree(both(lambda: net(nn.Dropout(0.5)), seed=seed, batch_size=16))


def test_fifty_steps_agree_to_nine_digits():
    agree(both(lambda: net(nn.Tanh(), *linear(5, 5), nn.Sigmoid()), batch_size=8, epochs=10))


def test_the_same_bytes_however_slices_fall(monkeypatch):
    from chainrule.train import native

    runs = []
    for seconds in (SLICE, 1e-5, 3e-4):
        monkeypatch.setattr(native, "SLICE", seconds)
        model = net(nn.Tanh(), nn.Dropout(0.3), dtype=np.float32)
        history = fit(
            model, X, LABELS, loss="softmax_cross_entropy", epochs=60, batch_size=7, progress=False
        )
        bits = {k: v.tobytes() for k, v in model.state_dict().items()}
        runs.append((bits, list(history.step_loss), list(history.loss)))
    assert runs[0] == runs[1] == runs[2]


@pytest.mark.parametrize("shuffle", [True, False])
def test_orders_drawn_ahead_are_those_of_the_plan(monkeypatch, shuffle):
    monkeypatch.setattr(orders, "WORTH", 0)
    plan = Plan(X, LABELS, 7, 9, shuffle, 4)
    drawn, threads = orders.Orders(plan), threading.active_count()
    for first, last in ((1, 1), (1, 2), (3, 5), (2, 3), (9, 9)):
        with drawn.ahead(first, last + 3):
            pass
        each = [plan.order(e) for e in range(first, last + 1)] if shuffle else [np.arange(40)]
        assert drawn.rows(first, last).tolist() == np.concatenate(each).tolist()
    assert threading.active_count() == threads
    agree(both(lambda: net(nn.Tanh()), shuffle=shuffle, epochs=40))
    with pytest.raises(KeyError), drawn.ahead(6, 9):
        raise KeyError
    assert threading.active_count() == threads


# -- what is measured, shown and told ---------------------------------------------------------


def test_validation_and_metrics():
    pair = both(
        lambda: net(nn.Tanh(), batch_norm(), nn.Dropout(0.2)),
        X[:32], LABELS[:32], batch_size=8, metrics=["accuracy"],
        validation_data=(X[32:], LABELS[32:]),
    )  # fmt: skip
    agree(pair)
    assert pair[0][1].epochs == len(pair[0][1].val_loss) == 6


@pytest.mark.parametrize("size", [7, 40])
@pytest.mark.parametrize("epochs", [1, 4])
def test_lines_are_the_same(capsys, size, epochs):
    shown = []
    for compile in (True, False):
        fit(net(nn.Tanh()), X, LABELS, loss="softmax_cross_entropy", epochs=epochs,
            batch_size=size, progress=True, compile=compile)  # fmt: skip
        shown.append(capsys.readouterr().err)
    assert shown[0] == shown[1]
    assert shown[0].count("\n") == epochs


class Watch:
    """Notes all that it is told; then does what it is for."""

    def __init__(self, act=lambda moment: None, events=("on_step", "on_epoch", "on_end")):
        self.seen = []
        for event in events:
            setattr(self, event, self._told(event, act))

    def _told(self, event, act):
        def told(moment):
            numbers = [moment.epoch, moment.step, moment.history.epochs, moment.loss]
            first = next(iter(moment.model.parameters())).numpy()
            slopes = [g.sum() for g in moment.gradients.values()]
            self.seen.append((event, [*numbers, first.sum(), *slopes]))
            return act(moment) if event != "on_end" else None

        return told


def watched(events, act=lambda moment: None, **keywords):
    """Both runs with a watch each; they must see the same."""
    watches = []

    def make():
        watches.append(Watch(act, events))
        return [watches[-1]]

    pair = both(lambda: net(nn.Tanh(), nn.Dropout(0.2)), callbacks=make, **keywords)
    agree(pair)
    assert [event for event, _ in watches[0].seen] == [event for event, _ in watches[1].seen]
    for (_, one), (_, other) in zip(watches[0].seen, watches[1].seen, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)
    return pair


EVENTS = [("on_step",), ("on_epoch",), ("on_end",), ("on_step", "on_epoch", "on_end")]


@pytest.mark.parametrize("events", EVENTS)
@pytest.mark.parametrize("optimizer", [optim.SGD(lr=0.1, momentum=0.5)])
def test_callbacks_are_told_the_same(events, optimizer):
    watched(events, optimizer=optimizer)
    watched(events, optimizer=optimizer, batch_size=None)


def stop(moment):
    return moment.step >= 12


def stop_by_raising(moment):
    if moment.step >= 12:
        raise StopTraining


@pytest.mark.parametrize("act", [stop, stop_by_raising])
@pytest.mark.parametrize("events", [("on_step",), ("on_epoch", "on_end")])
def test_a_callback_stops(act, events):
    pair = watched(events, act)
    assert pair[0][1].stopped == "callback"
    assert pair[0][1].steps == 12


def clip_weights(moment):
    weight = next(iter(moment.model.parameters()))
    weight.rebind(np.clip(weight.numpy(), -0.2, 0.2))


def load_the_start(moment):
    if moment.step % 6 == 0:
        moment.model.load_state_dict(net(nn.Tanh(), nn.Dropout(0.2)).state_dict())


def reseed(moment):
    if moment.step % 12 == 0:
        moment.model.reseed(99)


def less_dropout(moment):
    moment.model[2].p = 0.5 if moment.step < 13 else 0.0


def rate(moment):
    OPTIMIZER.lr = 0.1 / moment.step


def schedule(moment):
    OPTIMIZER.lr = optim.cosine(0.1, 20) if moment.step > 13 else (lambda k: 0.05 + 0.001 * k)


def momentum(moment):
    OPTIMIZER.momentum = 0.9 - 0.02 * moment.epoch


def decay(moment):
    OPTIMIZER.weight_decay, OPTIMIZER.clip_norm = 0.01 * moment.epoch, 1.0


def evaluating(moment):
    moment.model.eval()


OPTIMIZER = optim.SGD(lr=0.1, momentum=0.9)
ACTS = [
    clip_weights, load_the_start, reseed, less_dropout, rate, schedule, momentum, decay, evaluating
]  # fmt: skip


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("event", few(["on_step", "on_epoch"], ["on_epoch"]))
def test_what_a_callback_changes_holds_from_the_next_step(act, event):
    found = []
    for compile in (True, False):
        OPTIMIZER.__init__(lr=0.1, momentum=0.9)
        model, watch = net(nn.Tanh(), nn.Dropout(0.2)), Watch(act, (event,))
        history = fit(
            model, X, LABELS, loss="softmax_cross_entropy", optimizer=OPTIMIZER, epochs=4,
            batch_size=7, progress=False, callbacks=[watch], compile=compile,
        )  # fmt: skip
        found.append((model, history))
    agree(found)


def test_running_averages_that_a_callback_sets():
    def set_them(moment):
        moment.model[1].running_mean = np.full(5, float(moment.step))

    def make():
        return [Watch(set_them, ("on_step",))]

    agree(both(lambda: net(batch_norm(), nn.Tanh()), batch_size=8, callbacks=make))


def test_a_layer_whose_setting_a_callback_changes():
    class Scaled(nn.Module):
        def __init__(self):
            self.inner = nn.Linear(3, 3, seed=0, dtype=np.float64)
            self.factor = 1.0

        def forward(self, x):
            return self.inner(x) * self.factor

    def cool(moment):
        moment.model.factor = moment.model.factor * 0.9

    agree(both(Scaled, callbacks=lambda: [Watch(cool, ("on_epoch",))]))


@pytest.mark.parametrize("event", ["on_step", "on_epoch"])
def test_what_a_callback_leaves_as_it_stops_stays(event):
    def back(moment):
        if moment.step >= 6:
            for parameter in moment.model.parameters():
                parameter.rebind(np.full(parameter.shape, 0.5))
            return True
        return None

    pair = both(lambda: net(nn.Tanh()), callbacks=lambda: [Watch(back, (event,))])
    assert all((value == 0.5).all() for value in pair[0][0].params.values())


@pytest.mark.parametrize("event", ["on_step", "on_epoch"])
def test_an_exception_of_a_callback_leaves_the_last_step(event):
    def fail(moment):
        if moment.step == 10:
            raise LookupError("mine")

    left = []
    for compile in (True, False):
        model = net(nn.Tanh(), batch_norm(), nn.Dropout(0.2))
        with pytest.raises(LookupError, match="mine"):
            fit(model, X, LABELS, loss="softmax_cross_entropy", batch_size=8, compile=compile,
                callbacks=[Watch(fail, (event,))], progress=False)  # fmt: skip
        left.append(model.state_dict())
    close(*left)


def test_an_exception_of_a_schedule_leaves_the_last_step():
    def schedule(k):
        if k == 17:
            raise LookupError("mine")
        return 0.1

    left = []
    for compile in (True, False):
        model = net(nn.Tanh())
        with pytest.raises(LookupError, match="mine"):
            fit(model, X, LABELS, loss="softmax_cross_entropy", batch_size=7, compile=compile,
                optimizer=optim.SGD(lr=schedule), progress=False)  # fmt: skip
        left.append(model.state_dict())
    close(*left)


# -- divergence -------------------------------------------------------------------------------


def fragile(prediction, target):
    """A loss that is infinite where a prediction passes 3, and smooth before."""
    return cr.mean(cr.square(prediction - 10.0)) - 0 * cr.sum(cr.log(3.0 - prediction))


def poison(prediction, target):
    """A loss that is well, while its slope is not from some value on."""
    return cr.mean(cr.square(prediction - 10.0)) + 0 * cr.sum(
        cr.sqrt(cr.maximum(prediction - 2.0, -1.0) * 0.0)
    )


def divergence(make, y=NUMBERS, finite=True, **keywords):
    """The error and what it leaves, in machine code and in NumPy."""
    defaults = {"epochs": 200, "batch_size": 10, "progress": False}
    found = []
    for compile in (True, False):
        model, given = make(), {**defaults, **keywords}
        if "callbacks" in given:
            given["callbacks"] = given["callbacks"]()
        with pytest.raises(GradientError) as error, np.errstate(all="ignore"):
            fit(model, X, y, compile=compile, **given)
        found.append((str(error.value), model.state_dict(), model.training))
    (text, left, mode), (expected, others, other_mode) = found
    assert text == expected
    assert mode == other_mode
    close(left, others, 1e-7)
    assert all(np.isfinite(value).all() for value in left.values()) or not finite
    return text


DIVERGING = {
    "first step": optim.SGD(lr=1e200),
    "later": optim.SGD(lr=1e20),
    "slowly": optim.SGD(lr=3.0),
    "Adam": optim.Adam(lr=1e150),
    "momentum": optim.SGD(lr=2.5, momentum=0.9),
    "scheduled": optim.SGD(lr=lambda k: 0.01 if k < 33 else 1e300),
    "cosine": optim.SGD(lr=optim.cosine(1e9, 100)),
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("size", few([10, 7, 40], [7]))
@pytest.mark.parametrize("name", DIVERGING)
def test_divergence(name, size):
    divergence(
        lambda: net(last=1), loss="squared_error", optimizer=DIVERGING[name], batch_size=size
    )


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("lr", few([0.003, 0.01, 0.05], [0.01]))
@pytest.mark.parametrize("size", [10, 40, 3])
def test_a_loss_that_ends(lr, size):
    text = divergence(
        lambda: net(nn.Tanh(), last=1), loss=fragile, optimizer=optim.SGD(lr=lr), batch_size=size
    )
    assert "the loss is nan" in text or "the loss is inf" in text


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_divergence_with_running_averages():
    text = divergence(
        lambda: net(nn.Tanh(), batch_norm(), last=1), loss=fragile, batch_size=8,
        optimizer=optim.Adam(lr=0.05),
    )  # fmt: skip
    assert "step" in text


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("events", EVENTS)
def test_divergence_under_callbacks(events):
    divergence(
        lambda: net(nn.Tanh(), last=1), loss=fragile, optimizer=optim.SGD(lr=0.02),
        callbacks=lambda: [Watch(events=events)],
    )  # fmt: skip


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("event", ["on_step", "on_epoch"])
def test_divergence_by_what_a_callback_sets(event):
    def ruin(moment):
        if moment.step == 8:
            moment.model[0].weight.rebind(np.full((5, 3), 1e200))

    divergence(
        lambda: net(last=1), loss="squared_error", optimizer=optim.SGD(lr=0.01),
        callbacks=lambda: [Watch(ruin, (event,))],
    )  # fmt: skip


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("event", ["on_step", "on_epoch"])
def test_divergence_after_the_rate_was_changed(event):
    def ruin(moment):
        RUINED.lr = 0.01 if moment.step < 8 else 1e200

    RUINED = optim.SGD(lr=0.01)
    found = []
    for compile in (True, False):
        RUINED.lr = 0.01
        model = net(last=1)
        with pytest.raises(GradientError) as error, np.errstate(all="ignore"):
            fit(
                model, X, NUMBERS, loss="squared_error", optimizer=RUINED, batch_size=10, epochs=30,
                progress=False, callbacks=[Watch(ruin, (event,))], compile=compile,
            )  # fmt: skip
        found.append((str(error.value), model.state_dict()))
    assert found[0][0] == found[1][0]
    close(found[0][1], found[1][1])


class Edge(nn.Module):
    """`idle` decays to 0.5, where its slope is no number while the loss is well once more."""

    def __init__(self, start):
        self.line = nn.Linear(3, 1, seed=0, dtype=np.float64)
        self.idle = nn.Parameter(np.full(2, start))

    def forward(self, x):
        above = cr.where(cr.greater(self.idle, 0.5), 1.0, 0.0)
        return self.line(x) + 0 * cr.sum(cr.sqrt((self.idle - 0.5) * above))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("size", [10, 7, 40])
@pytest.mark.parametrize("steps", range(8, 13))
def test_a_slope_that_is_no_number(size, steps):
    text = divergence(
        lambda: Edge(0.5 / 0.95 ** (steps - 0.5)), loss="squared_error", batch_size=size,
        optimizer=optim.SGD(lr=0.05, weight_decay=1.0),
    )  # fmt: skip
    batches = -(-40 // size)
    at_the_end = (steps + 1) % batches == 0
    assert ("a parameter is not finite" if at_the_end else "the loss is nan") in text


class Aside(nn.Module):
    """`idle` becomes infinite at the step with a giant rate, and the loss never hears of it."""

    def __init__(self):
        self.line = nn.Linear(3, 1, seed=0, dtype=np.float64)
        self.idle = nn.Parameter(np.zeros(2))

    def forward(self, x):
        seen = cr.where(cr.less(cr.abs(self.idle), 1e100), self.idle * 1e155, 0.0)
        return self.line(x) + cr.sum(seen - cr.stop_gradient(seen)) * 1e155


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("size", [10, 7, 40])
@pytest.mark.parametrize("events", [(), ("on_epoch",), ("on_step",)])
def test_a_parameter_that_ends_while_the_loss_is_well(size, events):
    def loss(prediction, target):
        return 1e-300 * cr.mean(cr.square(prediction[:, 0] - target))

    text = divergence(
        Aside, loss=loss, batch_size=size, epochs=300, finite=False,
        optimizer=optim.SGD(lr=lambda k: 1e300 if k == 13 else 0.01),
        callbacks=lambda: [Watch(events=events)] if events else [],
    )  # fmt: skip
    assert "a parameter is not finite" in text


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_run_that_recovers_is_not_ended():
    """Trouble that the interpreted loop does not see either way ends alike."""
    pair = both(
        lambda: net(nn.Tanh(), last=1), y=NUMBERS, loss=fragile, optimizer=optim.SGD(lr=1e-5)
    )
    agree(pair)


# -- Ctrl-C -----------------------------------------------------------------------------------

INTERRUPTED = """
import os, signal, sys, threading, time
import numpy as np
from chainrule import nn
from chainrule.train import fit
from chainrule.nn import optim

sizes, rows, batch, presses, extra = {sizes}, {rows}, {batch}, {presses}, {extra!r}
rng = np.random.default_rng(0)
X = rng.normal(size=(rows, sizes[0])); y = rng.integers(0, sizes[-1], rows)

def make():
    layers = []
    for a, b in zip(sizes[:-1], sizes[1:]):
        layers += [nn.Linear(a, b), nn.Tanh()]
    if extra:
        layers += [nn.BatchNorm1d(sizes[-1]), nn.Dropout(0.1)]
    return nn.Sequential(*layers[:None if extra else -1], seed=0)

def run(optimizer=optim.SGD(lr=1e-3), **keywords):
    return fit(model, X, y, loss="softmax_cross_entropy", optimizer=optimizer, batch_size=batch,
               progress=False, **keywords)

model = make()
run(epochs=2)  # compiled and cached
pressed = []
def press():
    for _ in range(presses):
        pressed.append(time.perf_counter())
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.001)
model = make()
timer = threading.Timer(0.7, press)
timer.start()
threads = threading.active_count() - 1
history = run(epochs=10**9)
late = time.perf_counter() - pressed[0]
assert history.stopped == "interrupted", history
left = model.state_dict()
assert history.state["step"] == history.steps
model = make()
if batch == rows:
    run(epochs=history.steps)
def rate(k):
    if k == history.steps:
        raise LookupError
    return 1e-3
try:
    batch < rows and run(epochs=10**9, optimizer=optim.SGD(lr=rate))
except LookupError:
    pass
same = all((left[k] == v).all() for k, v in model.state_dict().items())
assert same, "the model is not that of so many steps"
assert threading.active_count() == threads
print(late, history.steps)
"""


def interrupted(**keywords):
    program = INTERRUPTED.format(**{"presses": 1, "extra": False, **keywords})
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    seconds, steps = done.stdout.split()
    assert float(seconds) < 0.5
    assert int(steps) > 0


@POSIX
@pytest.mark.parametrize("presses", [1, 2])
def test_ctrl_c_ends_a_run_of_a_tiny_net(presses):
    interrupted(sizes=(2, 3, 2), rows=4, batch=4, presses=presses)


@POSIX
def test_ctrl_c_ends_a_run_with_batches_and_averages():
    interrupted(sizes=(20, 16, 4), rows=70, batch=8, extra=True)


@POSIX
@pytest.mark.slow
def test_ctrl_c_ends_a_run_of_a_big_net():
    interrupted(sizes=(600, 1200, 1200, 10), rows=512, batch=256)


# -- threads ----------------------------------------------------------------------------------

THREADED = """
import hashlib, sys
import numpy as np
from chainrule import nn
from chainrule.train import fit
rng = np.random.default_rng(0)
X = rng.normal(size=(300, 200)); y = rng.integers(0, 10, 300)
model = nn.Sequential(nn.Linear(200, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(),
                      nn.Linear(256, 10), seed=0)
history = fit(model, X, y, loss="softmax_cross_entropy", batch_size=128, epochs=4, progress=False)
assert history.compiled == "yes"
digest = hashlib.sha256(np.asarray(history.step_loss).tobytes())
for value in model.state_dict().values():
    digest.update(value.tobytes())
print(digest.hexdigest())
"""


def test_the_same_bytes_with_any_number_of_threads():
    found = set()
    for threads in ("1", "2", "3"):
        done = subprocess.run(
            [sys.executable, "-c", THREADED], capture_output=True, text=True, timeout=100,
            env={**os.environ, "CHAINRULE_THREADS": threads}, check=True,
        )  # fmt: skip
        found.add(done.stdout)
    assert len(found) == 1


def test_runs_in_several_threads_at_once():
    models = [net(nn.Tanh()) for _ in range(4)]

    def train(model):
        fit(model, X, LABELS, loss="softmax_cross_entropy", batch_size=7, epochs=30, progress=False)

    threads = [threading.Thread(target=train, args=(m,)) for m in models]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first = models[0].state_dict()
    assert all((v == first[k]).all() for m in models for k, v in m.state_dict().items())


# -- what stays in NumPy ----------------------------------------------------------------------


def branching(prediction, target):
    if float(cr.sum(prediction)) > 1e9:
        prediction = prediction * 2.0
    return losses.softmax_cross_entropy(prediction, target)


class Own:
    """An optimiser that is not one of ours."""

    lr = 0.1

    def init(self, params):
        return {"step": 0}

    def update(self, params, grads, state):
        moved = {name: p - 0.1 * grads[name] for name, p in params.items()}
        return moved, {"step": state["step"] + 1}


class Counting(optim.SGD):
    """One that remembers in itself, not in its state."""

    count = 0

    def _move(self, p, g, lr, step, *slots):
        self.count = self.count + 1
        return (p - lr / self.count * g,)


class Noisy(nn.Module):
    def __init__(self):
        self.inner = nn.Linear(3, 3, seed=0, dtype=np.float64)
        self.rng = np.random.default_rng(0)

    def forward(self, x):
        return self.inner(x + 0.01 * self.rng.normal(size=3))


class Annealed(nn.Module):
    def __init__(self):
        self.inner = nn.Linear(3, 3, seed=0, dtype=np.float64)
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return self.inner(x) * (1 + 1 / self.calls)


def held(model):
    weight = model[0].weight

    def loss(prediction, target):
        penalty = 0.1 * cr.sum(cr.square(weight))
        return losses.softmax_cross_entropy(prediction, target) + penalty

    return loss


IN_NUMPY = {
    "branch": (net, {"loss": branching}, rf"{__file__}:\d+"),
    "own optimizer": (net, {"optimizer": Own()}, "not one of chainrule.optim"),
    "counting optimizer": (net, {"optimizer": Counting(lr=0.1)}, "Counting sets its 'count'"),
    "noise": (Noisy, {}, "another one each time"),
    "counter": (Annealed, {}, "Annealed sets its 'calls'"),
    "parameter": (net, {"loss": held}, "holds the parameter 'W1' itself"),
}


@pytest.mark.parametrize("name", IN_NUMPY)
def test_what_cannot_be_compiled_trains_in_numpy_and_says_so(name):
    make, given, reason = IN_NUMPY[name]
    found = []
    for compile in (True, False):
        model, keywords = make(), {"loss": "softmax_cross_entropy", **copy.deepcopy(given)}
        if keywords["loss"] is held:
            keywords["loss"] = held(model)
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            history = fit(model, X, LABELS, progress=False, epochs=2, compile=compile, **keywords)
        found.append((model, history))
        if compile:
            (warning,) = seen
            assert warning.category is RuntimeWarning
            assert warning.filename == __file__
            assert re.search(reason, str(warning.message))
            assert history.compiled[4:] in str(warning.message)
        else:
            assert not seen
            assert history.compiled == "no"
    if name != "noise":  # whose generator was asked while it was tried
        agree(found, 1e-12)


def test_a_loss_may_take_parameters_from_the_model():
    for compile in (True, False):
        model = net(nn.Tanh())

        def loss(prediction, target, model=model):
            penalty = 0.1 * cr.sum(cr.square(model[0].weight))
            return losses.softmax_cross_entropy(prediction, target) + penalty

        history = fit(model, X, LABELS, loss=loss, progress=False, compile=compile)
        assert history.compiled == ("yes" if compile else "no")
        if compile:
            first = model
    close(first.params, model.params)


def test_what_a_loss_closes_over_is_read_as_the_run_goes():
    def run(compile):
        weight, model = cr.tensor(np.float64(1.0)), net(nn.Tanh())

        def loss(prediction, target):
            return losses.softmax_cross_entropy(prediction, target) * weight

        def lighter(moment):
            weight.rebind(np.float64(1.0 / moment.epoch)) if hasattr(weight, "rebind") else None

        return model, fit(
            model, X, LABELS, loss=loss, progress=False, compile=compile, epochs=4,
            callbacks=[Watch(lighter, ("on_epoch",))],
        )  # fmt: skip

    agree([run(True), run(False)])


def test_fit_in_a_function_that_is_traced():
    model = net(nn.Tanh())
    before = model.state_dict()

    def train(x):
        fit(model, X, LABELS, loss="softmax_cross_entropy", progress=False, epochs=1)
        return x * 2

    with pytest.raises(cr.errors.TraceError, match="cannot be compiled"):
        cr.compile(train, strict=True)(np.ones(2))
    close(model.state_dict(), before)


def test_a_matching_loss_that_is_an_integral():
    with pytest.warns(RuntimeWarning, match="integral"):
        agree(both(lambda: net(nn.Tanh()), y=ONE_HOT, loss=losses.matching("tanh"),
                   expect="no: integral has no native form"))  # fmt: skip


# -- what a run leaves ------------------------------------------------------------------------


def test_numbers_are_a_list():
    values = [0.5, -1.0, 3.25]
    numbers = Numbers(values)
    assert numbers == values
    assert values == numbers
    assert numbers == Numbers(values)
    assert numbers != [0.5]
    assert numbers != tuple(values)
    assert repr(numbers) == repr(values)
    assert (numbers[0], numbers[-1], numbers[1:]) == (0.5, 3.25, [-1.0, 3.25])
    assert numbers + values == values + numbers == values * 2
    assert (min(numbers), sorted(numbers), 3.25 in numbers) == (-1.0, [-1.0, 0.5, 3.25], True)
    assert (numbers.index(3.25), numbers.count(0.5), list(reversed(numbers))) == (
        2, 1, [3.25, -1.0, 0.5],
    )  # fmt: skip
    with pytest.raises(IndexError):
        numbers[3]
    with pytest.raises(TypeError):
        numbers.append("x")
    with pytest.raises(TypeError):
        hash(numbers)
    assert not Numbers()
    assert np.asarray(Numbers()).shape == (0,)


def test_numbers_change_as_a_list():
    numbers, values = Numbers(), []
    for one in (numbers, values):
        one.append(1.0)
        one.extend(np.arange(4, dtype=np.float32))
        one.extend(x * 0.5 for x in range(3))
        one.extend(np.array([]))
        one.extend(np.arange(3000.0))
        assert (one[-1], len(one)) == (2999.0, 3008)
        one.extend(np.arange(2000, dtype=np.float32))
        one.append(5.0)
        one.insert(1, 9.0)
        one[0], one[2:4] = 7.0, [6.0, 5.0, 4.0]
        del one[-1]
        one += [2.0]
        one.pop(0)
        one.reverse()
    assert numbers == values
    with pytest.raises(TypeError):
        numbers.extend([1.0, "x"])
    numbers.extend(numbers)
    assert numbers == values * 2
    numbers.clear()
    assert numbers == []


def test_numbers_travel():
    numbers = Numbers(np.linspace(0, 1, 5))
    for other in (pickle.loads(pickle.dumps(numbers)), copy.deepcopy(numbers), copy.copy(numbers)):
        assert other == numbers
        other.append(1.0)
        assert len(numbers) == 5
    array = np.asarray(numbers)
    numbers.append(2.0)  # an array in use holds no lock on it
    assert array.tolist() == numbers[:5]
    assert np.asarray(numbers, np.float32).dtype == np.float32
    assert json.loads(json.dumps(list(numbers))) == numbers
    history = History(loss=[0.5], step_loss=numbers)
    again = pickle.loads(pickle.dumps(history))
    assert again.step_loss == numbers
    assert again.to_json() == history.to_json()
    assert again.to_csv() == "epoch,loss\n1,0.5\n"


def test_long_numbers_are_shown_in_short():
    numbers = Numbers(range(2000))
    assert repr(numbers) == "[0.0, 1.0, 2.0, …, 1997.0, 1998.0, 1999.0]"


def test_the_threads_argument():
    """The same bytes with any number of them, and a number below one is refused."""
    X = RNG_THREADS.normal(size=(256, 128))
    y = RNG_THREADS.integers(0, 10, 256)

    def weights(threads):
        model = nn.Sequential(nn.Linear(128, 256), nn.Tanh(), nn.Linear(256, 10), seed=0)
        history = fit(
            model, X, y, loss="softmax_cross_entropy", batch_size=128, epochs=3, threads=threads,
            progress=False,
        )  # fmt: skip
        assert history.compiled == "yes"
        return b"".join(value.tobytes() for value in model.state_dict().values())

    assert weights(1) == weights(2) == weights(None)
    with pytest.raises(ValueError, match="threads must be a whole number of at least 1, got 0"):
        weights(0)


RNG_THREADS = np.random.default_rng(11)
