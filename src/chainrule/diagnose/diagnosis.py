"""diagnose: run it, look at it, and prove what would repair it."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from ..nn import losses, optim
from ..nn.base import count
from .check import static_suspects
from .finding import Report
from .setup import Setup
from .task import task_of
from .trials import Trials
from .verdict import judge
from .watching import watched

__all__ = ["diagnose"]


class Quiet:
    def ran(self, outcome: Any) -> None: ...
    def close(self) -> None: ...


def diagnose(
    model: Any,
    X: Any,
    y: Any,
    *,
    loss: Any,
    optimizer: Any = "adam",
    epochs: int = 10,
    batch_size: int | None = 32,
    seed: int = 0,
    budget: float = 5,
    progress: Any = None,
) -> Report:
    made = losses.get(loss)
    chosen = copy.deepcopy(optim.get(optimizer))
    y = np.asarray(y)
    X = np.asarray(X)
    try:
        outputs = int(np.prod(np.shape(model.predict(np.zeros((1, *X.shape[1:]))))[1:]) or 1)
    except Exception:
        outputs = 1
    setup = Setup(
        model, X, y, made, chosen, count("epochs", epochs), batch_size, seed,
        task_of(made, y, outputs),
    )  # fmt: skip
    static = static_suspects(setup)
    story = watched(setup)
    trials = Trials(setup, budget, Quiet(), story.outcome)
    verdict = judge(story, static, trials)
    dead = story.outcome.score.error and "diverged" not in story.outcome.score.error
    return Report(
        verdict.findings,
        verdict.reason,
        story.outcome.score,
        story.outcome.curve,
        () if dead else story.start.flows,
        () if dead else story.end.flows,
        (),
        tuple((name, o.score) for name, (_, o) in trials.done.items()),
    )
