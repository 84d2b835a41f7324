"""What leaves a network and what a loss wants are read from circuits; misfits are named."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import chainrule as cr
from chainrule import nn, optim
from chainrule.diagnose.before.leaves import what_leaves
from chainrule.diagnose.before.outputs import output_suspects
from chainrule.diagnose.before.wants import Want, expects
from chainrule.diagnose.setup import Change, Setup, run
from chainrule.diagnose.task import task_of
from chainrule.nn import losses

RNG = np.random.default_rng(5)
X = RNG.normal(size=(60, 2))
YES = (X[:, :1] > 0).astype(float)
LABELS = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0)
ONE_HOT = np.eye(3)[LABELS]
SEVERAL = np.stack([X[:, 0] > 0, X[:, 1] > 0, X[:, 0] > X[:, 1]], 1).astype(float)
NUMBERS = X[:, :1] - 2 * X[:, 1:]


class Own(nn.Module):
    """A network of the user's own: a layer and any function behind it."""

    def __init__(self, function: Any, units: int = 3) -> None:
        self.layer = nn.Linear(2, units, seed=0)
        self.function = function

    def forward(self, x: Any) -> Any:
        return self.function(self.layer(x))


def chain(units: int, *layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, units), *layers, seed=0)


def setup_of(model: Any, loss: Any, y: Any, **settings: Any) -> Setup:
    loss = losses.get(loss)
    out = np.asarray(model.predict(X[:2]))
    settings = {
        "optimizer": optim.SGD(lr=0.1),
        "epochs": 8,
        "batch_size": 16,
        "seed": 3,
        **settings,
    }
    return Setup(model, X, y, loss, task=task_of(loss, y, out.shape[-1]), **settings)


def softmax_by_hand(z: Any) -> Any:
    e = cr.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def stable_sigmoid(z: Any) -> Any:
    return cr.where(z > 0, 1 / (1 + cr.exp(-z)), cr.exp(z) / (1 + cr.exp(z)))


# -- what leaves -----------------------------------------------------------------------------------

INF = np.inf
HEADS = [
    (lambda z: z, "linear", -INF, INF),
    (lambda z: z + cr.relu(z), "linear", -INF, INF),
    (cr.softmax, "softmax", 0, 1),
    (softmax_by_hand, "softmax", 0, 1),
    (lambda z: cr.exp(z) / cr.exp(z).sum(axis=1, keepdims=True), "softmax", 0, 1),
    (lambda z: cr.exp(cr.log_softmax(z)), "softmax", 0, 1),
    (lambda z: cr.softmax(z.T, axis=0).T, "softmax", 0, 1),
    (cr.log_softmax, "log_softmax", -INF, 0),
    (lambda z: cr.log(cr.softmax(z)), "log_softmax", -INF, 0),
    (lambda z: z - cr.logsumexp(z, axis=-1, keepdims=True), "log_softmax", -INF, 0),
    (lambda z: z - cr.log(cr.exp(z).sum(axis=1, keepdims=True)), "log_softmax", -INF, 0),
    (cr.sigmoid, "sigmoid", 0, 1),
    (lambda z: 1 / (1 + cr.exp(-z)), "sigmoid", 0, 1),
    (lambda z: cr.exp(z) / (1 + cr.exp(z)), "sigmoid", 0, 1),
    (lambda z: cr.reciprocal(1 + cr.exp(-z)), "sigmoid", 0, 1),
    (stable_sigmoid, "sigmoid", 0, 1),
    (lambda z: cr.sigmoid(z).reshape(-1, 3), "sigmoid", 0, 1),
    (
        lambda z: cr.concatenate([cr.sigmoid(z[:, 1:]), cr.sigmoid(z[:, :1])], axis=1),
        "sigmoid",
        0,
        1,
    ),
    (cr.tanh, "tanh", -1, 1),
    (lambda z: 2 * cr.tanh(z), "bounded", -2, 2),
    (lambda z: 0.5 * (1 + cr.tanh(z / 2)), "bounded", 0, 1),
    (lambda z: 1 - cr.sigmoid(z), "bounded", 0, 1),
    (cr.relu, "relu", 0, INF),
    (lambda z: cr.maximum(z, 0), "relu", 0, INF),
    (cr.softplus, "softplus", 0, INF),
    (cr.exp, "exp", 0, INF),
    (cr.square, "square", 0, INF),
    (lambda z: z**2, "square", 0, INF),
    (cr.abs, "abs", 0, INF),
    (cr.elu, "elu", -1, INF),
    (cr.softsign, "softsign", -1, 1),
    (cr.leaky_relu, "leaky_relu", -INF, INF),
    (lambda z: z / (1 + cr.abs(z)), "unknown", -INF, INF),
]


@pytest.mark.parametrize(("function", "kind", "low", "high"), HEADS)
def test_an_output_is_known_by_its_circuit(function: Any, kind: str, low: float, high: float):
    head = what_leaves(Own(function), X[:3])
    assert (head.kind, head.low, head.high, head.width) == (kind, low, high, 3)
    assert head.normalised == (kind in ("softmax", "log_softmax"))
    assert not head.twice
    assert not head.ones


def test_a_softmax_is_read_with_its_axis_its_units_and_what_goes_into_it():
    assert not what_leaves(Own(lambda z: cr.softmax(z, axis=0)), X[:3]).normalised
    assert what_leaves(Own(cr.softmax, units=1), X[:3]).ones
    assert what_leaves(Own(softmax_by_hand, units=1), X[:3]).ones
    twice = what_leaves(Own(lambda z: cr.softmax(softmax_by_hand(z))), X[:3])
    assert twice.twice
    best = cr.softmax(np.array([1.0, 0.0, 0.0]))  # of what a first softmax can give
    assert np.isclose(twice.high, best.max(), atol=1e-12)


STEPS = {
    "sigmoid": cr.sigmoid, "tanh": cr.tanh, "relu": cr.relu, "softplus": cr.softplus,
    "elu": cr.elu, "silu": cr.silu, "gelu": cr.gelu, "abs": cr.abs, "square": cr.square,
    "exp": lambda z: cr.exp(cr.minimum(z, 3.0)), "negative": lambda z: -z, "half": lambda z: z / 2,
    "less one": lambda z: z - 1, "from two": lambda z: 2 - z, "inverse": lambda z: 1 / (1 + z * z),
    "softmax": cr.softmax, "log_softmax": cr.log_softmax, "leaky": cr.leaky_relu,
    "product": lambda z: z * cr.tanh(z), "clip": lambda z: cr.clip(z, -0.5, 0.5),
    "mean": lambda z: z - z.mean(axis=1, keepdims=True), "sqrt": lambda z: cr.sqrt(cr.abs(z)),
    "join": lambda z: cr.concatenate([z[:, :1], cr.sigmoid(z[:, 1:])], axis=1),
    "cube": lambda z: cr.clip(z, -9, 9) ** 3, "log1p": lambda z: cr.log1p(cr.square(z)),
}  # fmt: skip


@given(st.lists(st.sampled_from(sorted(STEPS)), min_size=1, max_size=5), st.integers(0, 10**6))
def test_no_output_leaves_the_range_that_was_read(steps: list[str], seed: int):
    def function(z: Any) -> Any:
        for step in steps:
            z = STEPS[step](z)
        return z

    model = Own(function)
    rng = np.random.default_rng(seed)
    model.layer.weight.rebind(rng.normal(size=(3, 2)) * 10.0 ** rng.integers(-2, 3))
    head = what_leaves(model, X[:3])
    with np.errstate(all="ignore"):
        out = model.predict(rng.normal(size=(50, 2))).astype(np.float64)
    out = out[np.isfinite(out)]
    slack = 1e-5 * max(1.0, np.abs(out).max(initial=0.0))
    assert not out.size or (out.min() >= head.low - slack and out.max() <= head.high + slack)


# -- what a loss wants -----------------------------------------------------------------------------

PROBABILITIES, JOINT = Want("probabilities"), Want("probabilities", joint=True)
WANTS = [
    ("squared_error", Want("numbers")),
    ("mean_squared_error", Want("numbers")),
    ("absolute_error", Want("numbers")),
    ("huber", Want("numbers")),
    ("logistic", Want("logits")),
    ("binary_cross_entropy", PROBABILITIES),
    ("nll", JOINT),
    ("relative_entropy", JOINT),
    ("softmax_cross_entropy", Want("logits", joint=True)),
    (losses.matching("softmax"), Want("logits", joint=True)),
    (losses.matching("sigmoid"), Want("logits")),
    (losses.with_options("nll", clip=1e-7), JOINT),
    (losses.with_options("binary_cross_entropy", clip=1e-7), PROBABILITIES),
    (lambda p, y: -(y * cr.log(p)).mean(), JOINT),
    (lambda p, y: -(y * cr.log(cr.clip(p, 1e-7, 1))).sum(axis=1).mean(), JOINT),
    (lambda p, y: -cr.log((p * y).sum(axis=1)).mean(), JOINT),
    (lambda p, y: -(y * cr.log(p) + (1 - y) * cr.log(1 - p)).mean(), PROBABILITIES),
    (lambda p, y: -(y * cr.log(p + 1e-9) + (1 - y) * cr.log(1 - p + 1e-9)).mean(), PROBABILITIES),
    (lambda p, y: -((1 - p) ** 2 * y * cr.log(p)).mean(), PROBABILITIES),
    (
        lambda a, y: (cr.log(cr.exp(a).sum(axis=1)) - (a * y).sum(axis=1)).mean(),
        Want("logits", True),
    ),
    (lambda a, y: -(y * cr.log(cr.softmax(a))).mean(), Want("logits", True)),
    (lambda a, y: (cr.log(1 + cr.exp(a)) - a * y).mean(), Want("logits")),
    (lambda a, y: cr.log1p(cr.exp(-a * y)).mean(), Want("logits")),
    (lambda a, y: -(y * cr.log(cr.sigmoid(a))).mean(), Want("logits")),
    (lambda p, y: ((p - y) ** 2).mean(), Want("numbers")),
    (lambda p, y: cr.abs(y - p.reshape(-1, 3)).mean(), Want("numbers")),
    (lambda p, y: (p - y * cr.log(p)).mean(), Want("positive")),
    (lambda p, y: cr.maximum(0, 1 - y * p).mean(), Want("unknown")),
]


@pytest.mark.parametrize(("loss", "want"), WANTS)
def test_a_loss_is_known_by_what_it_does_first(loss: Any, want: Want):
    assert expects(losses.get(loss), ONE_HOT) == want


def test_labels_and_faulty_targets_do_not_hide_what_a_loss_wants():
    gathered = expects(lambda p, y: -cr.log(p[np.arange(len(y)), y]).mean(), LABELS, (4, 3))
    assert gathered == JOINT
    assert expects(losses.nll, LABELS + 7, (4, 3)) == JOINT
    assert expects(losses.logistic, 2 * YES - 1, (4, 1)) == Want("logits")
    assert expects(losses.softmax_cross_entropy, np.array(["a", "b"]), (4, 3)).joint


# -- sound pairs -----------------------------------------------------------------------------------

SOUND = {
    "logits": (chain(3), "softmax_cross_entropy", LABELS),
    "logits, rows": (chain(3), "softmax_cross_entropy", ONE_HOT),
    "softmax": (chain(3, nn.Softmax()), "nll", LABELS),
    "softmax, clipped": (chain(3, nn.Softmax()), losses.with_options("nll", clip=1e-7), ONE_HOT),
    "softmax, entropy": (chain(3, nn.Softmax()), "relative_entropy", ONE_HOT),
    "softmax, squares": (chain(3, nn.Softmax()), "squared_error", ONE_HOT),
    "softmax, each": (chain(3, nn.Softmax()), "binary_cross_entropy", ONE_HOT),
    "log-softmax is idempotent": (chain(3, nn.LogSoftmax()), "softmax_cross_entropy", LABELS),
    "leaky logits": (chain(3, nn.LeakyReLU()), "softmax_cross_entropy", LABELS),
    "one logit": (chain(1), "logistic", YES),
    "one logit, flat": (chain(1), "logistic", YES[:, 0]),
    "sigmoid": (chain(1, nn.Sigmoid()), "binary_cross_entropy", YES),
    "sigmoid, squares": (chain(1, nn.Sigmoid()), "mean_squared_error", YES),
    "several": (chain(3), "logistic", SEVERAL),
    "several, sigmoids": (chain(3, nn.Sigmoid()), "binary_cross_entropy", SEVERAL),
    "several, squares": (chain(3, nn.Sigmoid()), "mean_squared_error", SEVERAL),
    "numbers": (chain(1), "mean_squared_error", NUMBERS),
    "numbers, huber": (chain(1), "huber", NUMBERS),
    "numbers, absolute": (chain(1), "absolute_error", NUMBERS),
    "above 0": (chain(1, nn.ReLU()), "mean_squared_error", np.abs(NUMBERS)),
    "signs": (chain(1, nn.Tanh()), "mean_squared_error", 2 * YES - 1),
    "signs, plain": (chain(1), "squared_error", 2 * YES - 1),
    "labels as numbers": (chain(1), "squared_error", LABELS),
    "nested": (
        nn.Sequential(chain(8), nn.Sequential(nn.Linear(8, 3), nn.Softmax())), "nll", LABELS,
    ),
    "view": (Own(lambda z: cr.softmax(z.T, axis=0).T), "nll", LABELS),
    "flat": (Own(lambda z: cr.squeeze(z, axis=1), 1), "logistic", YES[:, 0]),
    "p and 1 − p": (
        Own(lambda z: cr.concatenate([cr.sigmoid(z[:, :1]), 1 - cr.sigmoid(z[:, :1])], axis=1)),
        "nll", YES[:, 0].astype(int),
    ),
    "own loss": (chain(3, nn.Softmax()), lambda p, y: -(y * cr.log(p)).sum(axis=1).mean(), ONE_HOT),
    "own signs": (chain(1), lambda a, y: cr.softplus(-y * a).mean(), 2 * YES - 1),
    "own hinge": (chain(1), lambda a, y: cr.maximum(0, 1 - y * a).mean(), 2 * YES - 1),
    "steep tanh": (Own(lambda z: 10 * cr.tanh(z)), "softmax_cross_entropy", LABELS),
    "few outside": (chain(1, nn.ReLU()), "mean_squared_error",
                    np.where(np.arange(60)[:, None] == 3, -0.01, np.abs(NUMBERS))),
}  # fmt: skip


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_pair_is_left_alone(name: str):
    assert output_suspects(setup_of(*SOUND[name])) == []


# -- faults ----------------------------------------------------------------------------------------

FAULTS = {
    "softmax into logits": (chain(3, nn.Softmax()), "softmax_cross_entropy", LABELS),
    "sigmoid into logits": (chain(1, nn.Sigmoid()), "logistic", YES),
    "sigmoids into softmax": (chain(3, nn.Sigmoid()), "softmax_cross_entropy", ONE_HOT),
    "tanh into logits": (chain(3, nn.Tanh()), "softmax_cross_entropy", LABELS),
    "relu into one logit": (chain(1, nn.ReLU()), "logistic", YES),
    "logits into nll": (chain(3), "nll", LABELS),
    "sigmoids into nll": (chain(3, nn.Sigmoid()), "nll", LABELS),
    "relu into nll": (chain(3, nn.ReLU()), losses.with_options("nll", clip=1e-7), LABELS),
    "log-softmax into nll": (chain(3, nn.LogSoftmax()), "nll", LABELS),
    "logit into probability": (chain(1), "binary_cross_entropy", YES),
    "tanh into probability": (chain(1, nn.Tanh()), "binary_cross_entropy", YES),
    "softmax twice": (chain(3, nn.Softmax(), nn.Softmax()), "nll", LABELS),
    "softmax over the rows": (chain(3, nn.Softmax(axis=0)), "nll", LABELS),
    "relu, targets below 0": (chain(1, nn.ReLU()), "mean_squared_error", NUMBERS),
    "sigmoid, targets beyond": (chain(1, nn.Sigmoid()), "squared_error", 5 * NUMBERS),
    "tanh, targets beyond": (chain(1, nn.Tanh()), "huber", 5 * NUMBERS),
    "sigmoid, signs": (chain(1, nn.Sigmoid()), "mean_squared_error", 2 * YES - 1),
    "several under softmax": (chain(3, nn.Softmax()), "binary_cross_entropy", SEVERAL),
    "several under its loss": (chain(3), "softmax_cross_entropy", SEVERAL),
    "several under nll": (chain(3, nn.Softmax()), "nll", SEVERAL),
    "signs under logistic": (chain(1), "logistic", 2 * YES - 1),
    "signs under probabilities": (chain(1, nn.Sigmoid()), "binary_cross_entropy", 2 * YES - 1),
    "classes as one question": (chain(1), "logistic", LABELS),
    "labels held against rows": (chain(3), "mean_squared_error", LABELS),
    "rows too narrow": (chain(2), "softmax_cross_entropy", ONE_HOT),
    "numbers too many": (chain(3), "mean_squared_error", NUMBERS),
    "numbers under logistic": (chain(1), "logistic", NUMBERS),
    "n × n": (chain(1), lambda p, y: ((p - y) ** 2).mean(), NUMBERS[:, 0]),
    "nested": (nn.Sequential(nn.Linear(2, 8, seed=1), nn.Sequential(nn.Linear(8, 3, seed=2),
               nn.Softmax())), "softmax_cross_entropy", LABELS),
    "own sigmoid": (Own(lambda z: 1 / (1 + cr.exp(-z)), 1), "logistic", YES),
    "own softmax": (Own(softmax_by_hand), "softmax_cross_entropy", LABELS),
    "own logits": (Own(lambda z: z), "nll", LABELS),
    "own relu": (Own(cr.relu, 1), "mean_squared_error", NUMBERS),
    "own view": (Own(lambda z: cr.softmax(z.T, axis=0).T.reshape(-1, 3)), "softmax_cross_entropy",
                 LABELS),
    "own loss": (chain(3), lambda p, y: -(y * cr.log(p)).sum(axis=1).mean(), ONE_HOT),
    "own rates": (chain(1), lambda p, y: (p - y * cr.log(p)).mean(), np.abs(NUMBERS)),
}  # fmt: skip
ONE_UNIT = {
    "softmax": (chain(1, nn.Softmax()), "binary_cross_entropy", YES),
    "softmax, squares": (chain(1, nn.Softmax()), "mean_squared_error", YES),
    "softmax, nll": (chain(1, nn.Softmax()), "nll", YES[:, 0].astype(int)),
    "softmax, numbers": (chain(1, nn.Softmax()), "mean_squared_error", NUMBERS),
    "loss": (chain(1), "softmax_cross_entropy", YES[:, 0].astype(int)),
    "by hand": (Own(softmax_by_hand, 1), "binary_cross_entropy", YES),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_mismatch_is_named_and_each_change_trains(name: str):
    setup = setup_of(*FAULTS[name])
    (suspect,) = output_suspects(setup)
    assert (suspect.problem, suspect.severity) == ("loss_output_mismatch", "problem")
    assert suspect.changes
    demand_real(setup, suspect.changes)


@pytest.mark.parametrize("name", ONE_UNIT)
def test_a_softmax_over_one_unit_is_named(name: str):
    setup = setup_of(*ONE_UNIT[name])
    (suspect,) = output_suspects(setup)
    assert suspect.problem == "single_class_softmax"
    assert bool(suspect.changes) == (name != "by hand")  # what is always 1 cannot be mended behind
    demand_real(setup, suspect.changes)


def test_a_rectified_logit_is_a_note():
    (suspect,) = output_suspects(setup_of(chain(3, nn.ReLU()), "softmax_cross_entropy", LABELS))
    assert suspect.severity == "note"
    assert "parts[3]" in suspect.changes[0].code


def demand_real(setup: Setup, changes: tuple[Change, ...]) -> None:
    """The code does what `apply` does, to the bit; the network is sound after it, and learns."""
    before = setup.model.state_dict()
    for change in changes:
        after = change.apply(setup)
        names = {k: getattr(setup, k) for k in ("X", "y", "loss", "epochs", "batch_size")}
        names |= {"model": copy.deepcopy(setup.model), "optimizer": copy.copy(setup.optimizer)}
        scope = {**names, "np": np, "cr": cr, "nn": nn, "optim": optim, "losses": losses}
        exec(change.code, scope)
        same(after.model.state_dict(), scope["model"].state_dict())
        assert not {*after.model.parameters()} & {*setup.model.parameters()}
        assert output_suspects(after) == []
        mine, theirs = run(after), run(setup.changed(**{k: scope[k] for k in names}))
        assert mine.curve.loss == theirs.curve.loss
        assert mine.model is not None
        assert len(mine.curve.loss) == setup.epochs
        assert mine.curve.loss[-1] < mine.curve.loss[0]
        same(mine.model.state_dict(), theirs.model.state_dict())
    same(setup.model.state_dict(), before)


def same(a: dict[str, Any], b: dict[str, Any]) -> None:
    assert list(a) == list(b)
    assert all(np.array_equal(a[name], b[name]) for name in a)


def test_present_weights_stay_and_a_new_layer_is_drawn_as_the_seed_would():
    setup = setup_of(chain(1), "softmax_cross_entropy", YES[:, 0].astype(int), seed=9)
    (suspect,) = output_suspects(setup)
    wider = next(c for c in suspect.changes if "output units" in c.name).apply(setup).model
    assert np.array_equal(wider[0].weight.value, setup.model[0].weight.value)
    drawn = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2), seed=9)
    assert np.array_equal(wider[2].weight.value, drawn[2].weight.value)


def test_the_floor_of_the_loss_is_the_least_that_any_weights_reach():
    (suspect,) = output_suspects(setup_of(chain(3, nn.Softmax()), "softmax_cross_entropy", LABELS))
    found = suspect.evidence.quantities
    assert np.isclose(found["floor"], losses.softmax_cross_entropy(np.eye(3), [0, 1, 2]))
    (suspect,) = output_suspects(setup_of(chain(1, nn.Sigmoid()), "logistic", YES))
    assert np.isclose(suspect.evidence.quantities["floor"], losses.logistic(YES, YES))
    (suspect,) = output_suspects(setup_of(chain(1, nn.ReLU()), "mean_squared_error", NUMBERS))
    kept = NUMBERS[NUMBERS < 0]
    spread = np.square(NUMBERS - NUMBERS.mean()).sum()
    assert np.isclose(suspect.evidence.quantities["best"], 1 - np.square(kept).sum() / spread)
    assert np.isclose(suspect.evidence.quantities["outside"], np.mean(NUMBERS < 0))


@given(st.sampled_from(["reshape", "transpose", "take", "join", "astype", "twice"]),
       st.sampled_from(["sigmoid", "softmax", "tanh"]))  # fmt: skip
def test_views_hide_no_mismatch(view: str, transfer: str):
    views = {
        "reshape": lambda z: z.reshape(-1, 1, 3).reshape(-1, 3),
        "transpose": lambda z: z.T.T,
        "take": lambda z: z[:, [0, 1, 2]],
        "join": lambda z: cr.concatenate([z[:, :2], z[:, 2:]], axis=1),
        "astype": lambda z: z.astype(np.float64),
        "twice": lambda z: cr.squeeze(cr.expand_dims(z, 1), 1),
    }
    function = {"sigmoid": cr.sigmoid, "softmax": cr.softmax, "tanh": cr.tanh}[transfer]
    model = Own(lambda z: views[view](function(z)))
    (suspect,) = output_suspects(setup_of(model, "softmax_cross_entropy", LABELS))
    assert suspect.problem == "loss_output_mismatch"
    assert suspect.evidence.quantities["output"] == transfer
