""" "In practice": the slides' advice, given to networks by their own figures, and followed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

import chainrule as cr

from .. import nn
from ..diagnose.advice import advice
from ..diagnose.finding import Flow
from ..diagnose.flow import read
from ..diagnose.report.words import figure, percent
from ..diagnose.setup import Outcome, Setup, run
from ..diagnose.task import task_of
from ..nn import losses, optim
from .dying import iris, standardised
from .exhibit import Exhibit
from .systems import Check, system

Array = np.ndarray[Any, Any]
UNITS, EPOCHS = 16, 30


@dataclass(frozen=True, eq=False)
class Case:
    """A network on iris after its run, and what it is advised."""

    name: str
    setup: Setup
    outcome: Outcome
    flows: tuple[Flow, ...]
    said: tuple[str, ...]


def case(name: str, x: Array, transfer: Any, rate: float, **init: Any) -> Case:
    """16 hidden units, SGD with batches of 32, 30 epochs."""
    y = iris()[1]
    model = nn.Sequential(
        nn.Linear(4, UNITS, dtype=np.float64, **init), transfer,
        nn.Linear(UNITS, 3, dtype=np.float64), seed=0,
    )  # fmt: skip
    loss = losses.softmax_cross_entropy
    setup = Setup(model, x, y, loss, optim.SGD(lr=rate), EPOCHS, 32, 0, task_of(loss, y, 3))
    outcome = run(setup)
    flows = read(outcome.model, loss, x, y).flows
    return Case(name, setup, outcome, flows, advice(setup, flows))


@cache
def cases() -> tuple[Case, ...]:
    """Networks that leave room, and one that took the advice."""
    return (
        case("sigmoid, iris in cm", iris()[0], nn.Sigmoid(), 0.1),
        case("ReLU at rate 0.3, iris in cm", iris()[0], nn.ReLU(), 0.3, init="he_uniform"),
        case(
            "ReLU from tiny weights, standardised", standardised(), nn.ReLU(), 0.1,
            init=lambda rng, shape: 1e-3 * rng.normal(size=shape),
        ),
        case("ReLU at rate 0.1, standardised", standardised(), nn.ReLU(), 0.1, init="he_uniform"),
    )  # fmt: skip


@system(
    "S31",
    title="Advice for practice, on a user's own net and with the evidence",
    lecture="slides",
    notes="The slides' list: ReLU with care for the rate, its relatives, tanh, no sigmoid but in"
    " gates, data with mean 0. It is advice where a network's own figures leave room for it, and"
    " none where they do not. Four small nets on iris; `chainrule diagnose` gives it on yours.",
)
def in_practice() -> Iterator[Check]:
    """S31."""
    sigmoid, relu, tiny, sound = cases()
    slope, dead = _slope_by_hand(sigmoid), _dead_by_hand(relu)
    yield Check("sigmoid: RMS of f′ over δ's way, by hand", sigmoid.flows[0].slope, slope)
    yield Check("sigmoid: the advice names it", _says(sigmoid, f"f′ is {figure(slope, 2)}"), True)
    alike = np.mean(np.all(iris()[0] >= 0, axis=1))
    share = f"On {percent(float(alike))} of the rows"
    yield Check("rows whose inputs all have one sign, by hand", sigmoid.flows[0].one_sign, alike)
    yield Check("sigmoid: the advice names them", _says(sigmoid, share), True)
    yield Check("ReLU: dead units, by hand", len(relu.flows[0].dead), dead)
    yield Check("ReLU: some are", dead > 0, True)
    count = f"{dead} of {UNITS} units"
    yield Check("ReLU: the advice names how many", _says(relu, count), True)
    yield Check("tiny weights: the advice names He's", _says(tiny, "init='he_uniform'"), True)
    yield Check("what is advised where all is well", len(sound.said), 0)
    yield Check("and that network learns", sound.outcome.skill > 0.9, True)


def _says(one: Case, words: str) -> bool:
    return any(words in sentence for sentence in one.said)


def _parts(one: Case) -> tuple[Array, ...]:
    """W and b of both layers after the run."""
    return tuple(np.asarray(p.value) for p in one.outcome.model.parameters())


def _slope_by_hand(one: Case) -> float:
    """RMS(f′ ⊙ upstream)/RMS(upstream) of the hidden layer, by the formula in plain NumPy."""
    w1, b1, w2, b2 = _parts(one)
    out = np.asarray(cr.sigmoid(one.setup.X @ w1.T + b1))
    delta = np.asarray(cr.softmax(out @ w2.T + b2)) - np.eye(3)[one.setup.y]
    upstream = delta @ w2
    return float(np.linalg.norm(out * (1 - out) * upstream) / np.linalg.norm(upstream))


def _dead_by_hand(one: Case) -> int:
    w1, b1, *_ = _parts(one)
    return int(np.sum(np.all(one.setup.X @ w1.T + b1 <= 0, axis=0)))


def exhibits() -> list[Exhibit]:
    """The four networks with their scores, and what each is advised."""
    rows = tuple(
        (one.name, percent(one.outcome.score.value), figure(one.outcome.loss), str(len(one.said)))
        for one in cases()
    )
    about = (
        f"{UNITS} hidden units, SGD with batches of 32, {EPOCHS} epochs. A network may do well and"
        " leave room all the same: advice is no finding, and each sentence has its figure.",
    )
    head = ("network", "training accuracy", "mean loss", "sentences")
    first = Exhibit("Four networks on iris, and what their figures advise", about, head, rows)
    silent = ("Nothing: its figures leave no room.",)
    return [first, *(Exhibit(one.name, one.said or silent) for one in cases())]
