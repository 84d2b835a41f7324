"""A training run as a value: everything that decides it, one change to it, and what came of it."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..errors import ChainruleError
from ..train import fit
from ..train.progress import Silent
from .finding import Curve, Evidence, Score, Where
from .task import Task

__all__ = ["Change", "Outcome", "Setup", "Suspect", "judged", "mean_loss", "run", "scored"]

Array = Any

TINY = 60  # steps up to which a run is over sooner than its program is compiled


@dataclass(frozen=True, eq=False)
class Setup:
    """What a run starts from. The model is never trained itself: each run takes a copy.

    `task` says how the answers are judged; it is found once, from the run as it was given.
    """

    model: Any
    X: Array
    y: Array
    loss: Callable[..., Any]
    optimizer: Any
    epochs: int
    batch_size: int | None
    seed: int
    task: Task

    @property
    def rows(self) -> int:
        """The number of training rows."""
        return len(self.X)

    @property
    def steps(self) -> int:
        """The number of updates of the whole run."""
        return self.epochs * self.steps_of_epoch

    @property
    def steps_of_epoch(self) -> int:
        """The number of batches of an epoch."""
        if self.batch_size is None or getattr(self.optimizer, "full_batch", False):
            return 1
        return -(-self.rows // min(self.batch_size, max(1, self.rows)))

    @property
    def boundary(self) -> float:
        """The output from which on a single unit says yes."""
        return float(getattr(self.loss, "boundary", 0.5))

    @property
    def work(self) -> float:
        """What the run costs, in multiplications: by count, so that a budget of it is the same
        on every machine and in every run."""
        size = sum(int(np.size(p.value)) for p in self.model.parameters())
        return 6.0 * size * self.rows * self.epochs + 20_000.0 * self.steps

    def fresh(self) -> Any:
        """A copy of the model, as the run finds it."""
        return copy.deepcopy(self.model)

    def changed(self, **changes: Any) -> Setup:
        """The same run with other parts."""
        return replace(self, **changes)


@dataclass(frozen=True, eq=False)
class Change:
    """One change to a run: in words, as code that can be pasted, and as what is run.

    The code speaks of `model, X, y, loss, optimizer, epochs, batch_size` and `np, cr, nn, optim,
    losses`; running it above the call of `fit` does what `apply` does.
    """

    name: str
    code: str
    apply: Callable[[Setup], Setup]
    parts: int = 1  # how many changes it is made of

    def then(self, other: Change) -> Change:
        """Both, one after the other; the code of the second must not rest on the run it changes."""
        return Change(
            f"{self.name}, and {other.name}",
            f"{self.code}\n{other.code}",
            lambda setup: other.apply(self.apply(setup)),
            self.parts + other.parts,
        )


@dataclass(frozen=True, eq=False)
class Suspect:
    """A problem whose signature was seen, with the changes that would remove its cause.

    The changes are alternatives, the least one first. `severity` is "note" for what is true but
    would not by itself spoil a run.
    """

    problem: str
    where: Where
    evidence: Evidence
    changes: tuple[Change, ...] = ()
    severity: str = "problem"


@dataclass(frozen=True, eq=False)
class Outcome:
    """What came of a run: its score, its losses, and the trained copy (None where none lived)."""

    score: Score
    curve: Curve
    model: Any = None
    history: Any = None
    interrupted: bool = False
    refusal: Exception | None = None  # what `fit` raised

    @property
    def skill(self) -> float:
        """0 for the best constant answer, 1 for no error."""
        return self.score.skill

    @property
    def loss(self) -> float:
        """The mean loss on the training rows after the run."""
        return self.score.loss


def run(
    setup: Setup,
    name: str = "",
    *,
    callbacks: Any = (),
    show: Silent | None = None,
    threads: int | None = None,
) -> Outcome:
    """Train a copy by `fit` and judge it; what cannot be trained is an outcome too."""
    model, refusal, history = setup.fresh(), None, None
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            history = fit(
                model, setup.X, setup.y, loss=setup.loss, optimizer=copy.deepcopy(setup.optimizer),
                epochs=setup.epochs, batch_size=setup.batch_size, seed=setup.seed,
                callbacks=callbacks, progress=show or False, compile=setup.steps > TINY,
                threads=threads,
            )  # fmt: skip
    except (ChainruleError, ValueError, TypeError, ArithmeticError) as refused:
        refusal = refused
    told = tuple(history.loss) if history is not None else ()
    if refusal is not None:
        error = str(refusal) or type(refusal).__name__
        score = Score(setup.task.metric, math.nan, setup.task.constant(setup.y), math.nan, error)
        return Outcome(score, Curve(name, told), model, refusal=refusal)
    return Outcome(
        judged(setup, model),
        Curve(name, told),
        model,
        history,
        history is not None and history.stopped == "interrupted",
    )


def judged(setup: Setup, model: Any) -> Score:
    """The metric and the mean loss of a model on the training rows, in evaluation mode."""
    task = setup.task
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            prediction = np.asarray(model.predict(setup.X))
            return scored(setup, prediction, mean_loss(setup, prediction))
        except (ChainruleError, ValueError, TypeError) as refused:
            constant = task.constant(setup.y)
            return Score(task.metric, math.nan, constant, math.nan, str(refused))


def scored(setup: Setup, prediction: Array, loss: float) -> Score:
    """The metric of a prediction of all rows, NaN where a number is not finite, beside its loss."""
    task, value = setup.task, math.nan
    if prediction.size and np.isfinite(prediction).all():
        value = task.score(prediction, setup.y, setup.boundary)
    return Score(task.metric, value, task.constant(setup.y), loss)


def mean_loss(setup: Setup, prediction: Array) -> float:
    """The loss of predictions against the targets, NaN where it refuses them."""
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            found = setup.loss(prediction, setup.y)
        return float(np.mean(np.asarray(getattr(found, "value", found), np.float64)))
    except (ChainruleError, ValueError, TypeError):
        return math.nan
