"""The doctor watches and changes nothing; what it says is there, and who learns is let be."""

from __future__ import annotations

import contextlib
import copy
import json
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim
from chainrule.cli import main
from chainrule.diagnose import PROBLEMS
from chainrule.errors import DataError, GradientError
from chainrule.runs import RunFolder, Settings, train_table
from chainrule.runs.job import read

large, lost = nn.initializers.normal(2.5), nn.initializers.constant(-30.0)
flatly = nn.initializers.zeros
rng = np.random.default_rng(0)
X = rng.normal(size=(300, 4))
LABELS = (X[:, 0] * X[:, 1] > 0).astype(int)
NUMBERS = (np.sin(2 * X[:, :1]) + X[:, 1:2]).astype(np.float64)


def network(*middle: Any, inputs: int = 4, width: int = 16, last: int = 2, **given: Any) -> Any:
    """Two products, with what stands between them."""
    first = nn.Linear(inputs, width, **given)
    return nn.Sequential(first, *(middle or (nn.ReLU(),)), nn.Linear(width, last), seed=3)


def fit(model: Any, *callbacks: Any, x: Any = X, y: Any = LABELS, **keywords: Any) -> Any:
    given = {"loss": "softmax_cross_entropy", "epochs": 12, "seed": 5, "progress": False}
    return cr.fit(model, x, y, callbacks=list(callbacks), **{**given, **keywords})


# -- watching changes nothing ----------------------------------------------------------------------


def flat(value: Any) -> Any:
    """Whatever a run ends with, as plain bytes."""
    if isinstance(value, dict):
        return {name: flat(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [flat(one) for one in value]
    return value.tobytes() if hasattr(value, "tobytes") else repr(value)


def remains(model: Any, history: Any) -> dict[str, Any]:
    """All that a run leaves behind: weights, buffers, counters, the optimiser's state, losses."""
    draws = [[m.seed, m.number, int(m.step)] for m in model.modules() if hasattr(m, "restart")]
    return {
        "weights": flat({name: p.value for name, p in model.named_parameters()}),
        "buffers": flat(dict(model.named_buffers())),
        "draws": repr(draws),
        "state": flat(history.state),
        "loss": np.array(history.loss).tobytes(),
        "steps": np.array(history.step_loss).tobytes(),
        "val_loss": np.array(history.val_loss).tobytes(),
        "metrics": flat(history.metrics),
        "stopped": history.stopped,
        "modes": [m.training for m in model.modules()],
    }


RUNS: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "sgd": (network, {"optimizer": optim.SGD(lr=0.1)}),
    "momentum": (network, {"optimizer": optim.SGD(lr=0.05, momentum=0.9)}),
    "adam": (network, {"optimizer": optim.Adam(lr=0.01)}),
    "adamw": (network, {"optimizer": optim.AdamW(lr=0.01, weight_decay=0.1)}),
    "rmsprop": (network, {"optimizer": optim.RMSprop(lr=0.01)}),
    "schedule": (network, {"optimizer": optim.Adam(lr=optim.cosine(0.02, 100))}),
    "averages": (network, {"optimizer": optim.EMA(optim.Adam(lr=0.02), decay=0.9)}),
    "dropout": (lambda: network(nn.ReLU(), nn.Dropout(0.3)), {"optimizer": "adam"}),
    "batch norm": (lambda: network(nn.BatchNorm1d(16), nn.Tanh()), {"optimizer": "adam"}),
    "both": (lambda: network(nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.5)), {"batch_size": 40}),
    "double": (
        lambda: nn.Sequential(
            nn.Linear(4, 8, dtype=np.float64), nn.Tanh(), nn.Linear(8, 2, dtype=np.float64), seed=1
        ),
        {"optimizer": "adam"},
    ),
    "full batch": (network, {"batch_size": None}),
    "weighted": (network, {"sample_weight": np.linspace(0.1, 3, 300)}),
    "dead": (lambda: network(bias_init=lost), {"epochs": 5}),
    "measured": (network, {"validation_data": (X[:50], LABELS[:50]), "metrics": ["accuracy"]}),
}  # fmt: skip


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("name", RUNS)
def test_a_watched_run_has_the_same_bits(name: str, native: bool) -> None:
    make, given = RUNS[name]
    found = []
    for callbacks in ([], [cr.Doctor(every=1, detail="full")], [cr.Doctor()]):
        np.random.seed(1)  # noqa: NPY002 - nobody may draw from it
        model = make()
        history = fit(model, *callbacks, compile=native, **copy.deepcopy(given))
        found.append((remains(model, history), np.random.get_state()[1].tobytes()))  # noqa: NPY002
    assert found[1] == found[0]
    assert found[2] == found[0]


def test_lbfgs_and_batches_have_the_same_bits() -> None:
    pytest.importorskip("scipy")
    batches = cr.data.Batches((X, LABELS), batch_size=32)
    for given in ({"optimizer": optim.LBFGS()}, {"x": batches, "y": None}):
        plain, watched, doctor = network(), network(), cr.Doctor(every=1)
        bare = fit(plain, **given)
        assert remains(watched, fit(watched, doctor, **given)) == remains(plain, bare)
        assert doctor.epochs == [0, *range(1, bare.epochs + 1)]


class Counting(nn.Module):
    """A layer of somebody's that remembers how often it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.seen = nn.Linear(4, 2, seed=0), [0]

    def forward(self, x: Any) -> Any:
        self.seen[0] += 1
        return self.inner(x)


def test_what_a_module_remembers_is_not_of_the_looks() -> None:
    plain, watched = Counting(), Counting()
    fit(plain, compile=False)
    fit(watched, cr.Doctor(every=1), compile=False)
    assert watched.seen == plain.seen


def test_the_given_arrays_and_the_optimiser_stay_as_they_are() -> None:
    rule, weights = optim.SGD(lr=0.1), np.ones(300)
    before = (copy.deepcopy(vars(rule)), X.tobytes(), LABELS.tobytes(), weights.tobytes())
    fit(network(), cr.Doctor(every=1), optimizer=rule, sample_weight=weights)
    assert (vars(rule), X.tobytes(), LABELS.tobytes(), weights.tobytes()) == before


# -- the curves are the engine's ------------------------------------------------------------------


def test_the_first_look_is_what_the_formulas_give() -> None:
    model, doctor = network(nn.Tanh(), last=1), cr.Doctor()
    weights = {k: np.array(p.value, np.float64) for k, p in model.named_parameters()}
    fit(model, doctor, y=NUMBERS, loss="mean_squared_error")
    rows = X[doctor.rows]
    net = rows @ weights["0.weight"].T + weights["0.bias"]
    out = np.tanh(net)
    error = out @ weights["2.weight"].T + weights["2.bias"] - NUMBERS[doctor.rows]
    top = 2 * error / error.size
    upstream = top @ weights["2.weight"]
    below = upstream * (1 - out**2)
    rms = lambda a: math.sqrt(np.square(a).mean())  # noqa: E731
    first = {
        name: {k: line[0] for k, line in lines.items()} for name, lines in doctor.curves.items()
    }
    assert doctor.loss[0] == pytest.approx(np.square(error).mean(), rel=1e-5)
    assert first["delta"] == pytest.approx({"0": rms(below), "2": rms(top)}, rel=1e-4)
    assert first["gain"]["0"] == pytest.approx(rms(upstream) / rms(top), rel=1e-4)
    assert first["slope"]["0"] == pytest.approx(rms(below) / rms(upstream), rel=1e-4)
    assert first["gradient"]["2"] == pytest.approx(np.linalg.norm(top.T @ out), rel=1e-4)


def test_the_update_is_the_movement_since_the_last_look() -> None:
    kept, doctor = [], cr.Doctor(every=2)

    class Keeper:
        def on_begin(self, moment: Any) -> None:
            self.on_epoch(moment)

        def on_epoch(self, moment: Any) -> None:
            kept.append(np.array(moment.model.params["0.weight"], np.float64))

    fit(network(), doctor, Keeper(), epochs=4, batch_size=100)
    moved = np.linalg.norm(kept[2] - kept[0]) / np.linalg.norm(kept[0]) / 6
    assert doctor.steps == [0, 6, 12]
    assert math.isnan(doctor.curves["update"]["0"][0])
    assert doctor.curves["update"]["0"][1] == pytest.approx(moved, rel=1e-6)


def test_weighted_rows_are_drawn_as_often_as_they_count() -> None:
    weights = np.where(LABELS == 1, 9.0, 1.0)
    doctor = cr.Doctor(detail="full")
    fit(network(), doctor, sample_weight=weights)
    share = np.average(LABELS, weights=weights)
    assert len(doctor.rows) == 2048
    assert LABELS[doctor.rows].mean() == pytest.approx(share, abs=4 * math.sqrt(share / 2048))


def test_looks_take_no_more_rows_than_they_may() -> None:
    rows, early = 24_000, {1, 2, 4, 6, 8, 13, 20}
    x, y = rng.normal(size=(rows, 3)), rng.integers(0, 2, rows)
    for detail, size, share in (("probe", 256, 0.004), ("full", 2048, 0.04)):
        doctor = cr.Doctor(detail=detail)
        fit(network(inputs=3), doctor, x=x, y=y, epochs=20, batch_size=500)
        assert len(doctor.rows) == size
        more = set(doctor.epochs) - early - {0}
        assert more
        assert size * len(more) <= share * 20 * rows
        assert all(epoch in doctor.epochs for epoch in early)
    doctor = cr.Doctor()
    fit(network(), doctor, epochs=400, batch_size=None)
    assert len(doctor.steps) <= 1 + 8 + 400 * 300 * 0.004 / 256
    assert doctor.epochs[-1] == 400


# -- what is wrong, and what is not ----------------------------------------------------------------


def deep(transfer: Any, layers: int = 8, **given: Any) -> Any:
    parts: list[Any] = [nn.Linear(4, 16, **given), transfer()]
    for _ in range(layers):
        parts += [nn.Linear(16, 16, **given), transfer()]
    return nn.Sequential(*parts, nn.Linear(16, 2), seed=0)


FAULTS: dict[str, tuple[str, Callable[[], Any], dict[str, Any]]] = {
    "dead from the start": (
        "dead_relu", lambda: network(bias_init=lost), {},
    ),
    "saturated": (
        "saturation",
        lambda: network(nn.Tanh(), bias_init=nn.initializers.constant(9.0)),
        {"optimizer": optim.SGD(lr=0.01)},
    ),
    "vanishing": ("vanishing_gradient", lambda: deep(nn.Sigmoid), {"optimizer": "sgd"}),
    "exploding": (
        "exploding_gradient",
        lambda: deep(nn.ReLU, init=large),
        {"optimizer": optim.SGD(lr=1e-12)},
    ),
    "steps too long": ("learning_rate_too_high", network, {"optimizer": optim.Adam(lr=30.0)}),
    "steps too short": (
        "learning_rate_too_low",
        network,
        {"optimizer": optim.SGD(lr=1e-7), "y": 1 - LABELS},  # it begins above a constant answer
    ),
    "one unit of softmax": (
        "single_class_softmax",
        lambda: nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1), nn.Softmax(), seed=0),
        {"loss": "mean_squared_error", "y": LABELS[:, None].astype(float)},
    ),
    "twins": (
        "symmetric_init",
        lambda: nn.Sequential(
            nn.Linear(4, 8, init=flatly), nn.Tanh(), nn.Linear(8, 2, init=flatly), seed=0
        ),
        {"optimizer": optim.SGD(lr=0.01)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_what_is_wrong_is_suspected(name: str) -> None:
    problem, make, given = FAULTS[name]
    doctor = cr.Doctor()
    fit(make(), doctor, **{"epochs": 20, **given})
    found = doctor.findings
    assert [f.problem for f in found][:1] == [problem]
    assert {f.severity for f in found} == {"note"}
    assert all(f.verified is None and f.problem in PROBLEMS for f in found)
    assert found[0].evidence.sentence
    assert found[0].remedy
    assert doctor.first[problem] == found[0].where.step
    assert problem in [event[1] for event in doctor.events]
    report = doctor.report()
    assert not report.healthy
    assert "not proved" in report.unfinished
    assert problem in str(doctor)
    assert problem in report.html()


def test_a_death_is_dated() -> None:
    y = NUMBERS - 20
    once = lambda k: np.where(k < 1, 0.3, 1e-6)  # noqa: E731
    given = {"x": np.abs(X), "y": y, "loss": "mean_squared_error", "compile": False}
    doctor = cr.Doctor(every=1)
    fit(network(last=1), doctor, optimizer=optim.SGD(lr=once), **given)
    (found,) = [f for f in doctor.findings if f.problem == "dead_relu"]
    assert found.where.step == 10  # the end of the first epoch; before the first step most lived
    assert "lived" in found.evidence.sentence
    dead = cr.Doctor(every=1)
    fit(network(bias_init=lost), dead)
    assert dead.findings[0].where.step == 0
    assert "lived" not in dead.findings[0].evidence.sentence


SOUND: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "adam": (network, {}),
    "a short run": (network, {"epochs": 1}),
    "two epochs": (network, {"epochs": 2}),
    "dropout": (lambda: network(nn.ReLU(), nn.Dropout(0.5), width=64), {"epochs": 40}),
    "batch norm": (lambda: network(nn.BatchNorm1d(16), nn.ReLU()), {"epochs": 30}),
    "tanh": (lambda: network(nn.Tanh()), {"epochs": 60}),
    "deep": (lambda: deep(nn.ReLU), {"epochs": 60}),
    "numbers": (lambda: network(last=1), {"y": NUMBERS, "loss": "mean_squared_error"}),
    "large numbers": (
        lambda: network(last=1),
        {"y": 1e4 * NUMBERS, "loss": "mean_squared_error", "optimizer": optim.Adam(lr=1.0),
         "epochs": 60},
    ),
    "learnt by heart": (lambda: network(width=64), {"epochs": 400, "batch_size": None}),
    "many dead, and it learns": (
        lambda: network(width=64, bias_init=nn.initializers.normal(3.0)), {"epochs": 40},
    ),
    "averages": (network, {"optimizer": optim.EMA(optim.Adam(lr=0.02), 0.9), "epochs": 30}),
    "rare class": (
        network,
        {"y": (X[:, 0] > 1.6).astype(int), "sample_weight": np.where(X[:, 0] > 1.6, 10.0, 0.5),
         "epochs": 40},
    ),
    "noisy": (network, {"y": np.where(rng.random(300) < 0.3, 1 - LABELS, LABELS), "epochs": 40}),
    "bumpy": (network, {"optimizer": optim.SGD(lr=0.3, momentum=0.9), "epochs": 60}),
}  # fmt: skip


@pytest.mark.parametrize("detail", ["probe", "full"])
@pytest.mark.parametrize("name", SOUND)
def test_a_run_that_learns_is_let_be(name: str, detail: str) -> None:
    make, given = SOUND[name]
    doctor = cr.Doctor(detail=detail, stop=True)
    history = fit(make(), doctor, **given)
    assert doctor.events == []
    assert doctor.findings == []
    assert doctor.healthy
    assert history.stopped is None
    assert doctor.stopped == ""
    assert "nothing was seen" in str(doctor)


def test_steps_that_are_too_long_at_first_are_taken_back() -> None:
    doctor = cr.Doctor()
    fit(network(), doctor, optimizer=optim.SGD(lr=0.8, momentum=0.9), epochs=60)
    told = [(problem, said == "over") for _, problem, said in doctor.events]
    assert told == [("learning_rate_too_high", False), ("learning_rate_too_high", True)]
    assert doctor.loss[doctor.steps.index(doctor.events[0][0])] > doctor.loss[0]
    assert doctor.healthy


def test_what_a_run_gets_over_is_taken_back() -> None:
    late = lambda k: np.where(k < 250, 1e-9, 0.05)  # noqa: E731
    doctor = cr.Doctor(every=1)
    given = {"optimizer": optim.Adam(lr=late), "compile": False, "y": 1 - LABELS}
    fit(network(), doctor, epochs=40, **given)
    told = [(problem, said == "over") for _, problem, said in doctor.events]
    assert told == [("learning_rate_too_low", False), ("learning_rate_too_low", True)]
    assert doctor.events[0][0] == 210  # half of the planned run after its first epoch
    assert doctor.findings == []
    assert "is over since" in " ".join(doctor.section()[1])


# -- divergence ------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
def test_a_run_that_diverges_is_looked_at_once_more() -> None:
    model, doctor = network(), cr.Doctor()
    with pytest.raises(GradientError):
        fit(model, doctor, optimizer=optim.SGD(lr=1e25))
    assert doctor.findings[0].problem == "learning_rate_too_high"
    assert "left the finite numbers" in doctor.findings[0].evidence.sentence
    assert json.dumps(doctor.to_dict(), allow_nan=False)
    looks = list(doctor.steps)
    assert doctor.findings
    assert doctor.steps == looks


@pytest.mark.filterwarnings("ignore")
def test_a_logarithm_of_zero_is_named() -> None:
    def loss(p: Any, y: Any) -> Any:
        return -cr.mean(cr.log(p) * y)

    model = nn.Sequential(nn.Linear(4, 1), nn.ReLU(), seed=0)
    doctor = cr.Doctor()
    with pytest.raises(GradientError):
        fit(model, doctor, loss=loss, y=np.ones((300, 1)))
    found = doctor.findings[0]
    assert found.problem == "zero_probability"
    row = found.where.samples[0]
    assert (
        f"sample {row}," in found.evidence.sentence or f"sample {row} " in found.evidence.sentence
    )
    assert model.predict(X[row : row + 1]).item() == 0


# -- stopping --------------------------------------------------------------------------------------


def test_a_hopeless_run_is_stopped_and_would_have_stayed_so() -> None:
    make = FAULTS["dead from the start"][1]
    stopped, doctor = make(), cr.Doctor(stop=True, every=1, patience=4)
    history = fit(stopped, doctor, epochs=50)
    assert history.stopped == "callback"
    assert "every unit of layer 0 is dead" in doctor.stopped
    assert history.epochs == 4  # before the first step nothing can have stood still
    whole = make()
    fit(whole, epochs=50)
    for name in ("0.weight", "0.bias"):
        assert stopped.params[name].tobytes() == whole.params[name].tobytes()
    answers = whole.predict(X)
    assert (answers == answers[0]).all()
    assert doctor.report().facts["stopped"] == doctor.stopped
    assert [f.problem for f in doctor.findings] == ["dead_relu"]


def test_a_run_without_any_gradient_is_stopped() -> None:
    _, make, given = FAULTS["one unit of softmax"]
    doctor = cr.Doctor(stop=True)
    history = fit(make(), doctor, epochs=50, **given)
    assert history.stopped == "callback"
    assert "exactly 0" in doctor.stopped
    assert doctor.findings[0].problem == "single_class_softmax"


@pytest.mark.parametrize(
    ("make", "given"),
    [
        (lambda: network(nn.ReLU(), nn.Dropout(0.2), bias_init=lost), {}),
        (lambda: network(nn.BatchNorm1d(16), nn.ReLU()), {}),
        (lambda: network(bias_init=lost), {"optimizer": optim.AdamW(lr=0.01, weight_decay=0.1)}),
        (FAULTS["dead from the start"][1], {"optimizer": optim.EMA(optim.Adam(), 0.9)}),
        (FAULTS["saturated"][1], {"optimizer": "sgd"}),
        (FAULTS["steps too short"][1], FAULTS["steps too short"][2]),
        (lambda: network(bias_init=nn.initializers.constant(-2.0)), {}),
    ],
    ids=["dropout", "batch norm", "decay", "averages", "saturated", "slow", "nearly dead"],
)  # fmt: skip
def test_nothing_else_is_stopped(make: Any, given: dict[str, Any]) -> None:
    history = fit(make(), cr.Doctor(stop=True, every=1, patience=2), epochs=30, **given)
    assert history.stopped is None
    assert history.epochs == 30


def test_a_unit_that_one_row_outside_the_probe_wakes_is_not_dead() -> None:
    x = np.abs(rng.normal(size=(3000, 4)))
    outside = np.setdiff1d(np.arange(3000), probe_of(x))[0]
    x[outside] = 100.0
    bias = nn.initializers.constant(-60.0)
    model = nn.Sequential(
        nn.Linear(4, 6, init=nn.initializers.constant(0.2), bias_init=bias),
        nn.ReLU(),
        nn.Linear(6, 2),
        seed=0,
    )
    y, doctor = rng.integers(0, 2, 3000), cr.Doctor(stop=True, every=1)
    history = fit(model, doctor, x=x, y=y, epochs=8, optimizer=optim.SGD(lr=1e-6))
    assert outside not in doctor.rows
    assert history.stopped is None


def probe_of(x: Any) -> Any:
    doctor = cr.Doctor()
    fit(network(), doctor, x=x, y=np.arange(len(x)) % 2, epochs=1)
    return doctor.rows


def test_a_run_that_has_solved_its_task_is_not_hopeless() -> None:
    y = np.zeros((300, 1))
    model = nn.Sequential(nn.Linear(4, 1, init=nn.initializers.zeros), seed=0)
    history = fit(model, cr.Doctor(stop=True, every=1), y=y, loss="mean_squared_error", epochs=9)
    assert history.stopped is None  # every gradient is exactly 0, for there is no error left


# -- checkpoints -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["dead from the start", "steps too short", "vanishing"])
def test_a_resumed_run_is_seen_as_one(name: str, tmp_path: Path) -> None:
    problem, make, given = FAULTS[name]
    whole = cr.Doctor(every=2)
    fit(make(), whole, **{**given, "epochs": 20})
    parts = [cr.Doctor(every=2) for _ in range(3)]
    for doctor, epochs in zip(parts, (7, 20, 20), strict=True):
        fit(make(), doctor, **{**given, "epochs": epochs}, checkpoint=tmp_path, resume=True)
    for doctor in parts[1:]:  # the last one had nothing left to do
        told = doctor.to_dict()
        odd = {7}  # the first part ended with a look at epoch 7
        keep = [k for k, epoch in enumerate(doctor.epochs) if epoch not in odd]
        assert [doctor.steps[k] for k in keep] == whole.steps
        assert [doctor.loss[k] for k in keep] == whole.loss
        assert told["findings"] == whole.to_dict()["findings"] != []
        assert doctor.findings[0].problem == problem
        assert str(doctor.report().start) == str(whole.report().start)


def test_one_doctor_sees_one_run_after_another() -> None:
    doctor = cr.Doctor()
    fit(FAULTS["dead from the start"][1](), doctor)
    assert not doctor.healthy
    fit(network(), doctor)
    assert doctor.healthy
    assert doctor.events == []
    assert doctor.steps[0] == 0


# -- other doors -----------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
def test_an_estimator_takes_it() -> None:
    from sklearn.base import clone

    doctor = cr.Doctor()
    made = cr.estimators.MLPClassifier(callbacks=[doctor], random_state=0, max_iter=20)
    bare = cr.estimators.MLPClassifier(random_state=0, max_iter=20)
    made.fit(X, LABELS)
    bare.fit(X, LABELS)
    assert doctor.healthy
    assert len(doctor.steps) > 5
    assert [a.tobytes() for a in made.coefs_] == [a.tobytes() for a in bare.coefs_]
    again = clone(made).fit(X, LABELS)
    assert again.predict(X).tolist() == bare.predict(X).tolist()
    read = pickle.loads(pickle.dumps(made))
    assert read.predict(X).tolist() == bare.predict(X).tolist()


@pytest.mark.parametrize(
    ("make", "x"),
    [
        (lambda: nn.Sequential(nn.LSTM(3, 5), nn.Linear(5, 2), seed=0), (60, 7, 3)),
        (lambda: nn.Sequential(nn.Flatten(), nn.Maxout(21, 8), nn.Linear(8, 2),
                               seed=0), (60, 7, 3)),
        (lambda: nn.Sequential(nn.Linear(3, 8), nn.GELU(), nn.LayerNorm(8), nn.Linear(8, 2),
                               seed=0), (60, 3)),
    ],
    ids=["lstm", "maxout", "layer norm"],
)  # fmt: skip
def test_other_networks_are_watched_too(make: Any, x: Any) -> None:
    values = rng.normal(size=x)
    y = np.arange(60) % 2
    model, doctor = make(), cr.Doctor(every=1)
    fit(model, doctor, x=values, y=y, epochs=3)
    assert doctor.curves["delta"]
    assert len(doctor.steps) == 4
    assert all(len(line) == 4 for lines in doctor.curves.values() for line in lines.values())
    assert str(doctor)


def test_given_rows_are_the_probe() -> None:
    doctor = cr.Doctor(X[:40], LABELS[:40], loss="softmax_cross_entropy")
    model = network()
    before = cr.losses.softmax_cross_entropy(model.predict(X[:40]), LABELS[:40])
    fit(model, doctor, x=cr.data.Batches((X, LABELS), batch_size=50), y=None)
    assert doctor.loss[0] == pytest.approx(float(before), rel=1e-6)


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"detail": "all"}, ValueError, "'probe' or 'full'"),
        ({"every": 0}, ValueError, "every"),
        ({"every": "often"}, ValueError, "every"),
        ({"patience": 0}, ValueError, "patience"),
        ({"X": X}, TypeError, "X and y together"),
        ({"loss": "mse_"}, ValueError, "mse_"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_refused(given: Any, error: Any, words: str) -> None:
    with pytest.raises(error, match=words):
        cr.Doctor(**given)


def test_before_a_run_there_is_nothing_to_tell() -> None:
    doctor = cr.Doctor()
    assert str(doctor) == "the doctor has seen no run yet"
    with pytest.raises(ValueError, match="give it to fit"):
        doctor.report()
    assert doctor.to_dict()["steps"] == []
    assert doctor.section()[2] == []


# -- the command line ------------------------------------------------------------------------------


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    lines = [
        f"{a:.5f},{b:.5f},{'yes' if k else 'no'}"
        for (a, b), k in zip(X[:, :2], LABELS, strict=True)
    ]
    (tmp_path / "cross.csv").write_text("\n".join(["a,b,k", *lines]))
    return tmp_path


def chainrule(*words: str) -> int:
    return int(main(["train", "cross.csv", "--target", "k", *words]))


def test_a_run_folder_has_what_the_doctor_saw(table: Path, capsys: Any) -> None:
    assert chainrule("--doctor", "--run", "watched", "--epochs", "20") == 0
    assert "doctor: nothing looked wrong at" in capsys.readouterr().out
    told = json.loads((table / "watched" / "doctor.json").read_text())
    assert told["healthy"]
    assert told["steps"][0] == 0
    assert list(told["curves"]["delta"]) == ["0", "2"]
    page = (table / "watched" / "report.html").read_text()
    for words in ("What the doctor saw", "δ by layer", "--doctor"):
        assert words in page
    assert chainrule("--run", "bare", "--epochs", "20", "-o", "bare.safetensors") == 0
    assert not (table / "bare" / "doctor.json").exists()
    assert "What the doctor saw" not in (table / "bare" / "report.html").read_text()
    weights = [cr.load(table / name / "model.safetensors") for name in ("watched", "bare")]
    assert flat(dict(weights[0].params)) == flat(dict(weights[1].params))


@pytest.mark.filterwarnings("ignore")
def test_a_run_of_the_command_line_that_diverges_is_explained(table: Path, capsys: Any) -> None:
    assert chainrule("--doctor", "--run", "wild", "--optimizer", "sgd", "--lr", "300") == 1
    said = capsys.readouterr().err
    assert "doctor: learning_rate_too_high" in said
    assert "Traceback" not in said
    told = json.loads((table / "wild" / "doctor.json").read_text())
    assert told["findings"][0]["problem"] == "learning_rate_too_high"


class Cut:
    """Ctrl-C at the end of an epoch, once."""

    def __init__(self, epoch: int = 0) -> None:
        self.epoch = epoch

    def on_epoch(self, moment: Any) -> None:
        if moment.epoch == self.epoch:
            raise KeyboardInterrupt


def test_a_kept_run_goes_on_with_its_doctor(table: Path) -> None:
    settings = Settings(data="cross.csv", target="k", epochs=9, doctor=True, checkpoint_every=0)
    rows, seen = read(settings), []
    for folder, cut in (("whole", 0), ("cut", 4)):
        for epoch in (cut, 0)[: 1 + bool(cut)]:
            doctor, given = cr.Doctor(every=1), {"folder": folder, "resume": not epoch and cut > 0}
            with contextlib.suppress(KeyboardInterrupt):
                train_table(rows, settings, callbacks=[doctor, Cut(epoch)], progress=False, **given)
        seen.append(json.loads((table / folder / "doctor.json").read_text()))
        assert "What the doctor saw" in (table / folder / "report.html").read_text()
    assert seen[0] == seen[1]
    assert seen[0]["epochs"] == [*range(10)]
    assert RunFolder.of("cut").settings().doctor


def test_settings_that_want_a_doctor_say_how_to_give_one(table: Path) -> None:
    settings = Settings(data="cross.csv", target="k", doctor=True)
    with pytest.raises(DataError, match=r"callbacks=\[cr.Doctor\(\)\]"):
        train_table(read(settings), settings, progress=False)


def test_the_result_as_json_has_the_doctors(table: Path, capsys: Any) -> None:
    assert chainrule("--doctor", "--no-run", "--json", "--epochs", "5") == 0
    assert json.loads(capsys.readouterr().out)["doctor"]["healthy"] is True
