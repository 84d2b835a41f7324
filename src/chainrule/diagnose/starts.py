"""How often a fault shows: the same run, and its remedy, from other starts."""

from __future__ import annotations

import numpy as np

from .setup import Change, Setup
from .treatment import MARGIN, SOUND
from .trials import Trials, residual
from .verdict import Verdict

__all__ = ["starts_of"]


def starts_of(setup: Setup, verdict: Verdict, trials: Trials, starts: int) -> str:
    """In how many of so many starts the fault shows, and its remedy helps; the first is the run's.

    A start has the run's own weights, those of each matrix in another order, so that they are of
    the same spread; and another seed for the order of the rows.
    """
    finding = verdict.findings[0] if verdict.findings else None
    name = finding.problem if finding is not None else ""
    remedy = verdict.change
    shows = helps = int(finding is not None)
    if finding is not None and not finding.verified:
        helps = 0
    done = 1
    for k in range(1, starts):
        other = _start(k)
        before = trials.outcome_of(other)
        # The start comes last: it shuffles what the remedy draws, which has a seed of its own.
        after = trials.outcome_of(remedy.then(other)) if remedy is not None else None
        if before is None or trials.stopped:
            break  # without its remedy a start says nothing of it
        done += 1
        sick = residual(before) > SOUND
        gain = residual(before) - residual(after) if after is not None else 0.0
        shows += sick and (gain >= MARGIN or after is None)
        helps += sick and gain >= MARGIN
    if finding is None:
        return f"{done - shows} of {done} starts are sound."
    text = f"{name} shows in {shows} of {done} starts"
    return f"{text}; the remedy helps in {helps} of them." if remedy is not None else f"{text}."


def _start(k: int) -> Change:
    """Another start, the same for the same number."""

    def apply(setup: Setup) -> Setup:
        model = setup.fresh()
        rng = np.random.default_rng([setup.seed, 6, k])
        for _, p in model.named_parameters():
            p.rebind(rng.permutation(np.ravel(p.value)).reshape(p.shape))
        return setup.changed(model=model, seed=setup.seed + k)

    return Change(f"start {k + 1}", "", apply)
