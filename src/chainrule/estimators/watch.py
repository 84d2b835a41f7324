"""What is looked at after each epoch: the curves, scikit-learn's rules for stopping and rates."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..train import Moment

__all__ = ["Record", "Rules", "Watch"]

FACTOR, SMALLEST = 5.0, 1e-6  # what an adaptive rate is divided by, and where that ends


@dataclass
class Record:
    """What outlasts a call of `fit` or `partial_fit`, for the next one to go on with."""

    loss_curve: list[float] = field(default_factory=list)
    validation_loss_curve: list[float] = field(default_factory=list)
    validation_scores: list[float] = field(default_factory=list)
    best_loss: float = math.inf
    best_score: float = -math.inf
    best: dict[str, Any] = field(default_factory=dict)  # the state of the model with that score
    waited: int = 0  # epochs without progress
    rows: int = 0  # that were visited, through all epochs
    rate: float | None = None  # the learning rate, once a rule has set it
    stopped: bool = False


@dataclass(frozen=True)
class Rules:
    """When to stop, and how the learning rate changes."""

    tol: float
    patience: float
    learning_rate: str  # "constant", "invscaling" or "adaptive"
    start: float  # the learning rate to begin with
    power: float
    stops: bool = True
    verbose: bool = False


class Watch:
    """A callback of `fit`: enters an epoch into the record, and ends the run where rules say so.

    `score` measures the model on held-out rows, or is None: then the training loss decides.
    """

    def __init__(
        self,
        record: Record,
        rules: Rules,
        optimizer: Any,
        rows: int,
        score: Callable[[Any], float] | None,
    ) -> None:
        self.record, self.rules, self.optimizer = record, rules, optimizer
        self.rows, self.score = rows, score
        self.epochs = 0
        self.ended = False

    def on_epoch(self, moment: Moment) -> bool:
        """Whether the run ends here."""
        record, rules = self.record, self.rules
        self.epochs += 1
        record.rows += self.rows
        record.loss_curve.append(float(moment.history.loss[-1]))
        if moment.history.val_loss:
            record.validation_loss_curve.append(float(moment.history.val_loss[-1]))
        if rules.verbose:
            print(f"Iteration {self.epochs}, loss = {record.loss_curve[-1]:.8f}")
        if not rules.stops:
            return False
        self._count(moment.model)
        if rules.learning_rate == "invscaling":
            self._set(rules.start / (record.rows + 1) ** rules.power)
        if record.waited > rules.patience:
            self.ended = self._ends()
            record.waited = record.waited if self.ended else 0
        return self.ended

    def _count(self, model: Any) -> None:
        """Enter the score, and how long there has been no progress."""
        record, tol = self.record, self.rules.tol
        if self.score is None:
            loss = record.loss_curve[-1]
            record.waited = record.waited + 1 if loss > record.best_loss - tol else 0
            record.best_loss = min(record.best_loss, loss)
            return
        score = self.score(model)
        record.validation_scores.append(score)
        if self.rules.verbose:
            print(f"Validation score: {score:f}")
        record.waited = record.waited + 1 if score < record.best_score + tol else 0
        if score > record.best_score:
            record.best_score, record.best = score, model.state_dict()

    def _ends(self) -> bool:
        """Whether there is nothing left to try; an adaptive rate is lowered first."""
        rules, what = self.rules, "Validation score" if self.score else "Training loss"
        why = (
            f"{what} did not improve more than tol={rules.tol:f} for {rules.patience} consecutive"
            " epochs."
        )
        if rules.learning_rate != "adaptive":
            self._say(f"{why} Stopping.")
            return True
        if self.optimizer.lr <= SMALLEST:
            self._say(f"{why} Learning rate too small. Stopping.")
            return True
        self._set(self.optimizer.lr / FACTOR)
        self._say(f"{why} Setting learning rate to {self.optimizer.lr:f}")
        return False

    def _set(self, rate: float) -> None:
        self.optimizer.lr = self.record.rate = rate

    def _say(self, text: str) -> None:
        if self.rules.verbose:
            print(text)

    # -- for a checkpoint ----------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """The record, in plain values and arrays."""
        own = {k: v for k, v in vars(self.record).items() if k != "best"}
        for name in ("best_loss", "best_score"):
            own[name] = own[name] if math.isfinite(own[name]) else None
        best = {f"best.{name}": value for name, value in self.record.best.items()}
        return {**own, **best, "epochs": self.epochs}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        own = dict(state)
        self.epochs = own.pop("epochs")
        best = {k.removeprefix("best."): own.pop(k) for k in list(own) if k.startswith("best.")}
        for name, none in (("best_loss", math.inf), ("best_score", -math.inf)):
            own[name] = none if own[name] is None else own[name]
        vars(self.record).update(own, best=best)
        if self.record.rate is not None:
            self.optimizer.lr = self.record.rate
