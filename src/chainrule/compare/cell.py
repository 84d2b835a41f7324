"""One cell: a combination at one rate from one seed, trained by `fit`, and what is read off it."""

from __future__ import annotations

import math
import time
import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import GradientError
from ..nn import layers
from ..ops import tensor
from ..train import fit
from ..train.metrics import METRICS
from .combination import Combination, Head, head, network
from .rows import Rows

__all__ = ["Cell", "Experiment", "Task", "run", "time_epochs"]

Array = Any


@dataclass(frozen=True)
class Experiment:
    """What all cells share; it goes to each worker once."""

    rows: Rows
    combinations: tuple[Combination, ...]
    epochs: int
    batch_size: int | None
    dtype: str
    threads: int | None = None
    compile: bool = True


@dataclass(frozen=True, order=True)
class Task:
    """Which cell: the combination by its place, the rate, the seed; `tuning` on the inner split."""

    seed: int
    combination: int
    lr: float
    tuning: bool = False


@dataclass
class Cell:
    """What one run gave. Curves of scores begin before the first epoch, those of losses after it.

    `score` is accuracy, or R², on the held-out rows after the last epoch; where the run diverged,
    that of a constant answer. `error` says why there is no result at all.
    """

    combination: int
    lr: float
    seed: int
    tuning: bool = False
    score: float = math.nan
    train_scores: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    val_losses: list[float] = field(default_factory=list)
    parameters: int = 0
    dead: float = math.nan  # share of hidden units whose slope is 0 on every training row
    flow: float = math.nan  # ‖∂L/∂W₁‖ over that of the last layer, before training
    diverged: bool = False
    compiled: str = ""
    seconds: float = 0.0
    error: str = ""
    notes: tuple[str, ...] = ()

    @property
    def finished(self) -> bool:
        """Whether it has a score, be it that of a run that diverged."""
        return not self.error and math.isfinite(self.score)

    def epochs_to(self, level: float) -> float:
        """Epochs until the training score first reaches the level, between two by a straight line.

        ∞ where it never does.

        >>> Cell(0, 0.1, 0, train_scores=[0.1, 0.5, 0.9]).epochs_to(0.7)
        1.5
        """
        for k, after in enumerate(self.train_scores):
            if after >= level:
                before = self.train_scores[k - 1] if k else after
                part = (level - before) / (after - before) if after > before else 0.0
                return max(0.0, k - 1 + part) if k else 0.0
        return math.inf


def run(experiment: Experiment, task: Task) -> Cell:
    """Train one cell; Ctrl-C raises KeyboardInterrupt, any other failure is in the cell."""
    cell = Cell(task.combination, task.lr, task.seed, task.tuning)
    began = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught, np.errstate(all="ignore"):
        warnings.simplefilter("always")
        try:
            _train(experiment, task, cell)
        except Exception as problem:  # belongs in the table, beside the cells that did well
            cell.error = f"{type(problem).__name__}: {problem}".replace("\n", " ")
    cell.notes = tuple(dict.fromkeys(str(warning.message) for warning in caught))
    cell.seconds = time.perf_counter() - began
    return cell


def _train(experiment: Experiment, task: Task, cell: Cell) -> None:
    rows = experiment.rows.inner() if task.tuning else experiment.rows
    combination = experiment.combinations[task.combination]
    end, model, data = _prepared(experiment, rows, combination, task.seed)
    X, y, X_held, y_held = data
    metric = "accuracy" if rows.classes else "r2"
    cell.parameters = sum(p.value.size for p in model.parameters())
    cell.flow = _flow(model, end, X, y)
    first = [METRICS[metric](model.predict(part), of) for part, of in ((X, y), (X_held, y_held))]
    cell.train_scores, cell.scores = [first[0]], [first[1]]
    try:
        history = fit(
            model, X, y, loss=end.function(), optimizer=combination.moved_by(task.lr),
            epochs=experiment.epochs, batch_size=experiment.batch_size, seed=task.seed,
            validation_data=(X_held, y_held), metrics=(metric,), progress=False,
            threads=experiment.threads, compile=experiment.compile,
        )  # fmt: skip
    except GradientError:
        cell.diverged, cell.score = True, rows.baseline
        return
    if history.stopped == "interrupted":
        raise KeyboardInterrupt
    cell.train_scores += history.metrics[metric]
    cell.scores += history.metrics[f"val_{metric}"]
    cell.losses, cell.val_losses = list(history.loss), list(history.val_loss)
    cell.score, cell.compiled = cell.scores[-1], history.compiled
    cell.dead = _dead(model, X)


def _prepared(
    experiment: Experiment, rows: Rows, combination: Combination, seed: int
) -> tuple[Head, Any, tuple[Array, Array, Array, Array]]:
    end = head(combination.loss, rows.classes > 0)
    X, X_held = rows.scaled(combination.inputs)
    outputs = rows.classes or 1
    model = network(combination, end, X.shape[1], outputs, seed, np.dtype(experiment.dtype))
    y, y_held = (end.targets(of, rows.classes) for of in (rows.y, rows.y_held))
    return end, model, (X, y, X_held, y_held)


def _flow(model: Any, end: Head, X: Array, y: Array) -> float:
    """How much of the gradient comes through to the first layer, before any training."""
    inputs = tensor(np.asarray(X, model.dtype), requires_grad=False)
    targets = y if end.labels else np.asarray(y, model.dtype)
    found = end.function()(model(inputs), targets).backward()
    weights = [m.weight for m in model if isinstance(m, layers.Affine)]
    lengths = [float(np.linalg.norm(found[w])) for w in (weights[0], weights[-1])]
    return lengths[0] / lengths[1] if lengths[1] else math.nan


def _dead(model: Any, X: Array) -> float:
    """The share of hidden units that pass no gradient on any row: slope exactly 0 everywhere."""
    state, dead, units = np.asarray(X, model.dtype), 0, 0
    parts = list(model)
    last = max(k for k, part in enumerate(parts) if isinstance(part, layers.Affine))
    for part in parts[:last]:
        if isinstance(part, layers.Affine):
            state = part(state).numpy()
            maxout = isinstance(part, layers.Maxout)  # a maximum has a winner on every row
            units += state.shape[1] if maxout else 0
        else:
            net = tensor(state)
            out = part(net)
            slope = out.sum().backward()[net]
            dead += int(np.sum(~np.any(slope, axis=0)))
            units += state.shape[1]
            state = out.numpy()
    return dead / units if units else 0.0


TIMED_SECONDS = 0.1  # of training at least, in one reading of the clock
MOST_TIMED = 4096


def time_epochs(experiment: Experiment, task: Task, epochs: int | None = None) -> tuple[float, int]:
    """The seconds of an epoch, and over how many epochs that was measured.

    Training alone, on one thread, nothing measured on the way: the time of a long run less that of
    a run of one epoch, which holds the tracing and compiling. Runs in this process, by itself.
    """
    begins = [_timed(experiment, task, 1) for _ in range(2 if epochs is None else 1)]
    once, found = begins[-1], 0.0  # the first one may have compiled
    length = epochs or 16
    while not found >= TIMED_SECONDS:
        length = length if epochs else min(MOST_TIMED, 4 * length)
        found = _timed(experiment, task, 1 + length) - once
        if epochs or length == MOST_TIMED or math.isnan(found):
            break
    return (found / length if found > 0 else math.nan), length


def _timed(experiment: Experiment, task: Task, epochs: int) -> float:
    """The seconds of a whole call of `fit`; nan where the run diverged."""
    combination = experiment.combinations[task.combination]
    end, model, (X, y, _, _) = _prepared(experiment, experiment.rows, combination, task.seed)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            history = fit(
                model, X, y, loss=end.function(), optimizer=combination.moved_by(task.lr),
                epochs=epochs, batch_size=experiment.batch_size, seed=task.seed,
                progress=False, threads=1, compile=experiment.compile,
            )  # fmt: skip
        except GradientError:
            return math.nan
    if history.stopped == "interrupted":
        raise KeyboardInterrupt
    return history.seconds
