"""Treatments: what is tried against each suspect, and what came of it.

First every suspect's own changes, in the order of causes; then a second change on top of what
helped most; then what helps many runs, where no signature led to what helps this one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..nn import layers
from . import remedies
from .at_start import FALL
from .finding import Evidence, Where, rank
from .flow import HALF, product
from .setup import Change, Outcome, Suspect
from .trials import Trials, residual
from .watching import Story

__all__ = ["MARGIN", "SOUND", "WEAK", "Case", "improved", "treated"]

# What is left to learn from which down nothing is wrong: nine tenths of what a constant answer
# leaves is learnt, so that no change could make more than the margin below.
SOUND = 0.1
# A fault costs at least a tenth of all there is to learn; less is choice of settings.
MARGIN = 0.1
MOST = 0.25  # of what the run left: three quarters of the fault are gone
AIM = 0.03  # of what is left, at which no better remedy is looked for
NEARLY = 0.02  # of what there is to learn: as good, as far as one run can tell
LADDERS = {"learning_rate_too_high": 0.1, "learning_rate_too_low": 10.0}
DECADES = 7  # of rates: from 1e-7, or 1e7, no further change is a choice of rate
# What almost any run has signs of: named only where it recovers the run by itself.
WEAK = frozenset({*LADDERS, "insufficient_capacity"})


@dataclass(eq=False)
class Case:
    """A suspect with the best of its changes."""

    suspect: Suspect
    change: Change | None = None
    outcome: Outcome | None = None

    @property
    def left(self) -> float:
        return residual(self.outcome)


def treated(suspects: Sequence[Suspect], story: Story, trials: Trials) -> list[Case]:
    """Each suspect with the best of what was tried against it."""
    cases = _examined(suspects, trials)
    if not _recovered(cases, trials):
        cases += _second_changes(cases, story, trials)
    if not _recovered(cases, trials):
        cases += _generic(story, trials, suspects)
    return cases


def _examined(suspects: Sequence[Suspect], trials: Trials) -> list[Case]:
    """Each suspect's changes run, until one recovers the run."""
    cases: list[Case] = []
    for suspect in suspects:
        cases.append(_best(suspect, trials))
        if _recovered(cases[-1:], trials):
            break
    return cases


def _best(suspect: Suspect, trials: Trials) -> Case:
    case = Case(suspect)
    if suspect.problem in LADDERS:
        _climb(case, trials)
    for change in suspect.changes:
        if case.left <= AIM:
            break
        _enter(case, trials.attempt([change]))
    return case


def _enter(case: Case, pairs: Sequence[tuple[Change, Outcome]]) -> None:
    """Keep the best, the earlier of those that are about as good."""
    for change, outcome in pairs:
        if case.outcome is None or residual(outcome) < case.left - NEARLY:
            case.change, case.outcome = change, outcome


def _climb(case: Case, trials: Trials) -> None:
    """Learning rates: by tens as long as that helps, then threefold to both sides of the best."""
    setup, tenfold = trials.setup, LADDERS[case.suspect.problem]
    done: dict[float, float] = {}
    before = math.nan if trials.base is None else trials.base.loss

    def attempt(factors: Sequence[float]) -> None:
        pairs = trials.attempt(remedies.rates(setup, factors))
        done.update(zip(factors, (residual(o) for _, o in pairs), strict=False))
        # A rate at which the loss ends higher is none to recommend, whatever the score.
        lower = [pair for pair in pairs if not pair[1].loss > before]
        _enter(case, lower or pairs)

    attempt([tenfold, tenfold**2, tenfold**3])
    k = 4
    while len(done) == k - 1 and k <= DECADES and case.left > SOUND:
        helpless = case.left >= residual(trials.base) - NEARLY
        if not helpless and min(done, key=done.__getitem__) != tenfold ** (k - 1):
            break  # the best lies behind
        attempt([tenfold**k])
        k += 1
    if done and case.left > AIM:
        best = min(done, key=done.__getitem__)
        attempt([best * 3, best / 3])


def _recovered(cases: Sequence[Case], trials: Trials) -> bool:
    """Whether one of them leaves little to learn, or little of what the run left."""
    enough = max(SOUND, MOST * residual(trials.base))
    return any(case.left <= (SOUND if case.suspect.problem in WEAK else enough) for case in cases)


def _second_changes(cases: Sequence[Case], story: Story, trials: Trials) -> list[Case]:
    """A second change on top of the first, where one is not enough."""
    found: list[Case] = []
    strong = [c for c in cases if c.change is not None and c.suspect.problem not in WEAK]
    for case in sorted(strong, key=lambda c: c.left)[:3]:
        assert case.change is not None
        place = rank(case.suspect.problem)
        later = [c for c in strong if rank(c.suspect.problem) > place]
        seconds = [c.change for c in later if c.change is not None]
        seconds += [c for c in case.suspect.changes if c is not case.change][:3]
        seconds += remedies.rates(story.setup, (3, 10, 100, 1 / 3, 1 / 10, 1 / 100))
        pairs = {(pair := case.change.then(second)).name: (pair, second) for second in seconds}
        best = Case(case.suspect)
        for change, outcome in trials.attempt([pair for pair, _ in pairs.values()]):
            better = residual(outcome) < min(best.left, case.left - NEARLY)
            if better and _needs_both(outcome, pairs[change.name][1], trials):
                best.change, best.outcome = change, outcome
        if best.change is not None:
            found.append(best)
        if best.left <= SOUND:
            break
    return found


def _needs_both(outcome: Outcome, second: Change, trials: Trials) -> bool:
    """Whether the second change alone learns clearly less: else it is the remedy, not the pair."""
    return all(
        residual(alone) - residual(outcome) >= MARGIN for _, alone in trials.attempt([second])
    )


def _generic(story: Story, trials: Trials, suspects: Sequence[Suspect]) -> list[Case]:
    """What helps many runs, tried where no signature led to what helps this one."""
    setup, found = story.setup, list[Case]()
    if story.refused:
        return []
    signed = {s.problem: s for s in suspects}
    tries: list[tuple[str, Change | None]] = [
        ("unscaled_inputs", remedies.standardised(setup)),
        *(("learning_rate_too_high", c) for c in remedies.rates(setup, (1 / 10, 1 / 3, 1 / 100))),
        *(("learning_rate_too_low", c) for c in remedies.rates(setup, (10, 3, 100))),
        ("init", remedies.redrawn(setup, story.start.layers)),
        ("exploding_gradient", remedies.clipped(setup)),
        ("activation", remedies.swapped(setup, remedies.BENT, "ReLU")),
        ("activation", remedies.swapped(setup, (layers.ReLU,), "Tanh")),
        ("insufficient_capacity", remedies.wider(setup)),
        ("insufficient_capacity", remedies.hidden_layer(setup)),
        ("learning_rate_too_low", remedies.longer(setup, 4)),
    ]
    for problem, change in tries:
        if change is None or change.name in trials.done:
            continue
        for tried, outcome in trials.attempt([change]):
            name = _named(problem, story)
            if name is not None:
                suspect = signed.get(name) or _unsigned(name, story)
                found.append(Case(suspect, tried, outcome))
    return found


def _named(problem: str, story: Story) -> str | None:
    """The name that a change of weights or transfer functions stands for: of the signatures that
    are there by half (of a share), or but for one decade (of δ), the first."""
    if problem not in ("init", "activation"):
        return problem
    flows = [x.flow for x in story.start.hidden]
    if any(flow.saturated > HALF / 2 for flow in flows):
        return "saturation"
    if any(len(flow.dead) > HALF / 2 * flow.units for flow in flows):
        return "dead_relu"
    if story.start.shrinking <= 10 * FALL:
        return "vanishing_gradient"
    if story.start.shrinking >= 10:
        return "exploding_gradient"
    return None


def _unsigned(name: str, story: Story) -> Suspect:
    """A suspect that no signature led to, only the run without it."""
    sentence = "Its signature is weak here; it is named because the run without it learns more."
    return Suspect(name, Where(), Evidence(sentence, {}, product(story.start.flows)))


def improved(case: Case, story: Story, trials: Trials) -> Case:
    """The cause with a second change, where the first alone leaves much to learn."""
    if case.left <= SOUND or case.change is None or case.change.parts > 1:
        return case
    if case.suspect.problem.startswith("learning_rate"):
        return case
    seconds = remedies.rates(story.setup, (3, 10, 1 / 3, 1 / 10))
    for change, outcome in trials.attempt([case.change.then(s) for s in seconds]):
        if residual(outcome) < case.left - MARGIN / 2:
            case = Case(case.suspect, change, outcome)
    return case
