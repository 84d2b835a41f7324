"""The verdict: outcome first, then signatures, then what the run without the fault would be.

A run is *sick* only where a change of one thing, at the same seed, data order and budget, learns
clearly more. A problem is *named* only where its signature was measured. Of several, the cause is
the first in the order of causes that recovers the run by itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .finding import Evidence, Finding, Proof, Where, rank
from .probes import enriched, two_rows
from .setup import Change, Suspect, judged
from .signs import consequences, early, signs
from .treatment import MARGIN, SOUND, WEAK, Case, improved, treated
from .trials import Trials, residual
from .watching import USUAL, Story

__all__ = ["Verdict", "judge", "sound", "unproved"]

# A run is under way that has four fifths of the skill that the same number of steps could have
# brought, and half of the fall in loss: a score of classes is often good long before the loss is.
# Where even the first steps move the weights by less than a thousandth, the bar is nine tenths.
FAR, NEAR, HALF_WAY = 0.8, 0.9, 0.5
# What no start, rate or size of the network could make up for: said first where nothing helps.
STRUCTURAL = frozenset(
    {"data_fault", "single_class_softmax", "loss_output_mismatch", "zero_probability"}
)
GROWING = frozenset({"insufficient_capacity", "learning_rate_too_low"})  # whose cure fits any noise


@dataclass(eq=False)
class Verdict:
    """What was found, and one sentence on the whole."""

    findings: list[Finding]
    reason: str
    change: Change | None = None  # the remedy of the first


def judge(story: Story, static: Sequence[Suspect], trials: Trials) -> Verdict:
    """Findings, cause first, or none and why."""
    if sound(story):
        return Verdict([], _sound(story))
    suspects = _merged(static, _signs(story))
    if suspects and suspects[0].problem == "data_fault" and not suspects[0].changes:
        case = Case(suspects[0])  # no change of the network could make up for it
        return Verdict([_finding(case, story, trials)], _no_remedy(story, trials))
    return _decided(story, treated(suspects, story, trials), trials)


def sound(story: Story) -> bool:
    """Whether so much is learnt that no change could learn clearly more."""
    return not story.outcome.score.error and residual(story.outcome) <= SOUND


def unproved(story: Story, static: Sequence[Suspect]) -> Verdict:
    """What was seen until the diagnosis was stopped: suspects, none of them proved."""
    seen = _merged(static, () if story.refused else early(story))
    found = [
        Finding(s.problem, "note", s.where, s.evidence, s.changes[0].code if s.changes else "")
        for s in seen
    ]
    steps = story.outcome.history.steps if story.outcome.history is not None else 0
    reason = (
        f"The diagnosis was stopped after {steps} of {story.setup.steps} steps of the run"
        if story.outcome.interrupted
        else "The diagnosis was stopped before a remedy was proved"
    )
    seen_so_far = "what is listed was seen, not proved" if found else "nothing was found until then"
    return Verdict(found, f"{reason}: {seen_so_far}.")


def _signs(story: Story) -> list[Suspect]:
    """What the run itself shows; a run that could not even begin shows nothing."""
    return [] if story.refused else signs(story)


def _merged(static: Sequence[Suspect], dynamic: Sequence[Suspect]) -> list[Suspect]:
    """One suspect a problem, the first that was found, in the order of causes."""
    found: dict[str, Suspect] = {}
    for suspect in [*static, *dynamic]:
        if suspect.severity == "problem":
            found.setdefault(suspect.problem, suspect)
    twins = found.get("symmetric_init")
    deep = found.get("vanishing_gradient")
    if twins is not None and deep is not None:
        tiny = "twins" not in twins.evidence.quantities
        if tiny and len(deep.evidence.product) > 4:  # two hidden layers: the chain is what fails
            del found["symmetric_init"]
    return sorted(found.values(), key=lambda s: rank(s.problem))


# -- deciding --------------------------------------------------------------------------------------


def _decided(story: Story, cases: list[Case], trials: Trials) -> Verdict:
    before = residual(story.outcome)
    failed = bool(story.outcome.score.error)
    live = [c for c in cases if c.outcome is not None and not c.outcome.score.error]
    real = [c for c in live if (failed and c.left < 1) or before - c.left >= MARGIN]
    real = [c for c in real if _holds(c, story, trials)]
    if real:
        return _sick(story, cases, real, trials)
    if failed or before > 1 - MARGIN:
        return _helpless(story, cases, trials)
    silent = _silent(story, trials)
    if silent is not None and not _known_elsewhere(story, trials):
        return Verdict([silent], _no_remedy(story, trials))
    return Verdict([], _floor(story, trials))


def _helpless(story: Story, cases: list[Case], trials: Trials) -> Verdict:
    """What to say of a run that learns nothing, where no change helps either."""
    signed = [c for c in cases if c.suspect.evidence.quantities]
    structural = [c for c in signed if c.suspect.problem in STRUCTURAL]
    silent = None if structural else _silent(story, trials)
    if silent is not None:
        return Verdict([silent], _no_remedy(story, trials))
    strong = [c for c in signed if c.suspect.problem not in WEAK]
    guesses = [Case(_guess(c.suspect), c.change, c.outcome) for c in cases]
    for several in (structural, strong, signed, guesses):
        if several:
            finding = _finding(several[0], story, trials)
            finding.evidence.quantities.update(two_rows(story.setup, trials))
            return Verdict([finding], _no_remedy(story, trials))
    if story.outcome.score.error:  # `fit` refuses it, and nothing is known but its sentence
        refused = Suspect("data_fault", Where(), Evidence(story.outcome.score.error, {}))
        return Verdict([_finding(Case(refused), story, trials)], _no_remedy(story, trials))
    return Verdict([], _floor(story, trials))


def _guess(suspect: Suspect) -> Suspect:
    """A suspect that neither a signature nor a change speaks for, which its sentence says."""
    sentence = "Nothing that was measured points to it, and nothing that was tried helps: a guess."
    return replace(suspect, evidence=Evidence(sentence, {}, suspect.evidence.product))


def _known_elsewhere(story: Story, trials: Trials) -> bool:
    """Whether the network, as it is or at its best, knows something of rows that it has not seen:
    two standard errors more than a constant answer."""
    best = trials.best()
    for left in (trials.held_out(None), trials.held_out(best[0] if best is not None else None)):
        if left is None or float(np.nanmean(left)) < 1 - 2 * _error(left):
            return True
    return False


def _told(story: Story) -> bool:
    """Whether X is known to tell of y, so that learning y is no fit of noise."""
    return story.signal is not None and story.signal.there


def _silent(story: Story, trials: Trials) -> Finding | None:
    """data_fault, where X says nothing about y."""
    setup, found = story.setup, story.signal
    if found is None or found.there:
        return None
    sentence = (
        "What a plane, or the nearest rows, learn from some of the rows tells nothing of the others"
        f" (R² {found.found:.3f}; with y shuffled it is up to {found.chance:.3f}): X says nothing"
        " about y. Labels that were shuffled, shifted or joined to the wrong rows look like this."
    )
    quantities: dict[str, Any] = {
        "R² on rows not seen": found.found,
        "largest R² for y shuffled": found.chance,
        "share of shuffles that do as well": found.share,
        **two_rows(setup, trials),
    }
    repair = "# compare rows of X and y with their source: do they still belong together?"
    return Finding("data_fault", "problem", Where(), Evidence(sentence, quantities), repair)


def _holds(case: Case, story: Story, trials: Trials) -> bool:
    """Whether a gain is more than a better fit of noise, and more than a matter of patience."""
    problem, signed = case.suspect.problem, bool(case.suspect.evidence.quantities)
    assert case.outcome is not None
    if not signed and story.outcome.skill >= HALF_WAY * case.outcome.skill:
        return False  # a name without a signature is for a run that fails
    if not signed and case.outcome.loss >= (1 - MARGIN) * story.outcome.loss:
        return False  # a score of few rows that changes at an equal loss is luck
    if problem == "learning_rate_too_low" and _under_way(case, story):
        return False
    if residual(story.outcome) > 1 - MARGIN and case.left <= 0.5 and problem not in GROWING:
        return True
    silent = story.signal is not None and not story.signal.there
    if problem not in GROWING and signed and not (silent and problem not in STRUCTURAL):
        return True
    if residual(story.outcome) > 1 - MARGIN and _told(story):
        return True
    own, other = trials.held_out(None), trials.held_out(case.change)
    if own is None or other is None:
        return True
    gain = np.minimum(own, 1 / MARGIN) - np.minimum(other, 1 / MARGIN)  # no single row decides
    return float(np.nanmean(gain)) >= max(MARGIN / 2, 2 * _error(gain))


def _error(values: Any) -> float:
    """The standard error of a mean."""
    known = values[np.isfinite(values)]
    return float(known.std(ddof=1) / math.sqrt(len(known)))


def _under_way(case: Case, story: Story) -> bool:
    """Whether the run has made most of the way that the better one makes, in score and in loss."""
    assert case.outcome is not None
    short = max(r for r in (story.first.ratio, story.last.ratio, 0.0) if r == r) < USUAL
    if story.outcome.skill < (NEAR if short else FAR) * case.outcome.skill:
        return False
    ground, best = story.constant_loss, case.outcome.loss
    if not (math.isfinite(ground) and math.isfinite(best)) or ground <= best:
        return True
    return (ground - story.outcome.loss) / (ground - best) >= HALF_WAY


def _signed(cause: Case, cases: list[Case]) -> Case:
    """The change that recovers the run, under the name of a signature that no change could test."""
    untested = [c for c in cases if c.change is None and c.suspect.evidence.quantities]
    if not untested:
        return cause
    return Case(untested[0].suspect, cause.change, cause.outcome)


def _sick(story: Story, cases: list[Case], real: list[Case], trials: Trials) -> Verdict:
    least = min(c.left for c in real)
    near = [c for c in real if c.left <= max(SOUND, least + MARGIN)]
    cause = min(near, key=lambda c: (rank(c.suspect.problem), c.left))
    if not cause.suspect.evidence.quantities:
        cause = _signed(cause, cases)
    cause = improved(cause, story, trials)
    findings = [_finding(cause, story, trials)]
    names = {cause.suspect.problem}
    if not story.outcome.score.error or story.diverged:
        for suspect in consequences(story, cause.suspect.problem):
            if suspect.problem not in names:
                names.add(suspect.problem)
                findings.append(_finding(Case(suspect), story, trials))
    assert cause.change is not None
    assert cause.outcome is not None
    reason = (
        f"The cause is {cause.suspect.problem}. One change"
        f"{', in two parts,' if cause.change.parts > 1 else ''} takes the run from"
        f" {story.outcome.score} to {cause.outcome.score}: {cause.change.name}."
    )
    return Verdict(findings, reason, cause.change)


def _finding(case: Case, story: Story, trials: Trials) -> Finding:
    suspect, before = case.suspect, story.outcome
    change, outcome = case.change, case.outcome
    if change is None and suspect.changes:
        done = [trials.done[c.name] for c in suspect.changes if c.name in trials.done]
        change, outcome = min(done, key=lambda p: residual(p[1]), default=(None, None))
        change = change or suspect.changes[0]
    proof = None
    if outcome is not None:
        gain = residual(before) - residual(outcome)
        helped = not outcome.score.error and (
            gain >= MARGIN or (bool(before.score.error) and residual(outcome) < 1)
        )
        best = trials.best()
        proof = Proof(
            before.score,
            outcome.score,
            helped,
            helped and residual(outcome) <= residual(best[1] if best else outcome) + MARGIN / 2,
            (before.curve, outcome.curve),
        )
    return Finding(
        suspect.problem,
        suspect.severity,
        suspect.where,
        enriched(suspect, story),
        change.code if change is not None else "",
        proof,
    )


# -- in words --------------------------------------------------------------------------------------


def _sound(story: Story) -> str:
    score = story.outcome.score
    if judged_start(story) >= 1 - SOUND:
        return (
            f"The network was already trained: {score} after the run, and as good before it,"
            f" against {score.constant:.3g} for the best constant answer."
        )
    return (
        f"The run is sound: {score}, against {score.constant:.3g} for the best constant answer, so"
        f" {score.skill:.0%} of what there was to learn is learnt."
    )


def judged_start(story: Story) -> float:
    """The skill before the first step."""
    return judged(story.setup, story.model(0)).skill


def _floor(story: Story, trials: Trials) -> str:
    score, best = story.outcome.score, trials.best()
    if trials.stopped:
        return (
            f"The run comes to {score}, against {score.constant:.3g} for the best constant answer;"
            " whether a change of it learns more was not tried to the end."
        )
    text = f"The run is sound: {score}, against {score.constant:.3g} for the best constant answer"
    if best is None:
        return f"{text}."
    if story.outcome.skill - judged_start(story) < MARGIN / 2:
        text = text.replace("The run is sound:", "The network was already trained, and is sound:")
    change, outcome = best
    if residual(story.outcome) - residual(outcome) < MARGIN:
        return f"{text}, and none of {len(trials.done)} changes learns clearly more."
    if "learning rate" in change.name or "epochs" in change.name:
        return (
            f"{text}, and still on its way: with {change.name} it comes to {outcome.score}. It is"
            " not finished rather than sick."
        )
    return (
        f"{text}; what fits the rows better ({change.name}: {outcome.score}) does not know more of"
        " rows held back."
    )


def _no_remedy(story: Story, trials: Trials) -> str:
    tried = "no change of the network could make up for that"
    if trials.done or trials.stopped:
        tried = "no change that was tried helps" if trials.done else "no change has been tried"
    score = story.outcome.score
    if score.error:
        return f"The run {score}, and {tried}."  # "diverged", "cannot be trained"
    if score.constant >= 1:
        return f"There is nothing to learn: a constant answer has {score} as well."
    if residual(story.outcome) > 1 - MARGIN:
        return f"The run learns nothing ({score}), and {tried}."
    if story.signal is not None and not story.signal.there:
        return f"The run learns its rows by heart ({score}): nothing of it holds on other rows."
    return f"The run comes to {score}, and {tried}."
