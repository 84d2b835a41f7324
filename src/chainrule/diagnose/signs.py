"""Signatures: what must be measured before a problem may be named.

Each function reads the story of the run and gives a suspect where the signature is there. None of
them decides: whether the run is sick is for its outcome to say, and which suspect is the cause for
the run without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from .at_start import dead, dead_layer, death, exploding, saturated, saturation, vanishing
from .finding import Evidence, Where, rank
from .flow import HALF, product
from .in_steps import capacity, too_high, too_low, zero_probability
from .report.words import figure
from .setup import Suspect
from .watching import Story

__all__ = ["Signature", "consequences", "early", "signs"]

Signature = Callable[[Story], Iterator[Suspect]]

BEFORE: tuple[Signature, ...] = (exploding, saturated, dead, vanishing)
SIGNATURES: tuple[Signature, ...] = (
    zero_probability,
    *BEFORE,
    too_high,
    too_low,
    capacity,
)
GROWN = 1e6  # times the loss before the first step: no noise of batches does that
OVERDONE = frozenset(
    {"learning_rate_too_high", "unscaled_inputs", "unscaled_targets", "exploding_gradient"}
)


def signs(story: Story) -> list[Suspect]:
    """Every suspect whose signature is there, in the order of causes."""
    found = [suspect for signature in SIGNATURES for suspect in signature(story)]
    return sorted(found, key=lambda s: rank(s.problem))


def early(story: Story) -> list[Suspect]:
    """Those that show before the first step."""
    found = [suspect for signature in BEFORE for suspect in signature(story)]
    return sorted(found, key=lambda s: rank(s.problem))


def consequences(story: Story, cause: str) -> list[Suspect]:
    """What was not there at the start and is at the end: true, but not the cause.

    Steps that are too long, and numbers that are too large, kill and flatten units; and they make
    products overflow, unless it was the logarithm of 0 that did.
    """
    if cause not in OVERDONE:
        return []
    found, end = list[Suspect](), story.end
    layer = dead_layer(end)
    if layer is not None and dead_layer(story.start) is None:
        step = story.since(lambda reading: dead_layer(reading) is not None)
        found.append(death(story, end, layer, step, "note"))
    flat = [x for x in end.hidden if x.flow.saturated > HALF]
    if flat and not any(x.flow.saturated > HALF for x in story.start.hidden):
        found.append(saturation(story, end, flat[0], "note"))
    if _overflowed(story) and not any(zero_probability(story)):
        found.append(_overflow(story))
    return found


def _overflowed(story: Story) -> bool:
    score, start = story.outcome.score, story.start
    if score.error:
        return story.diverged
    return not abs(score.loss) <= GROWN * max(abs(start.loss), 1e-300)


def _overflow(story: Story) -> Suspect:
    first, reading = story.first, story.failing or story.end
    begun = figure(first.losses[0]) if first.losses else "its first value"
    ended = story.outcome.score.error.partition(":")[0] or "it was millions of times as large"
    sentence = f"The loss grew from {begun} until {ended}."
    where, quantities = Where(), dict[str, Any]()
    broken = reading.broken
    if broken is not None:
        operands = ", ".join(figure(x) for x in broken.operands)
        sentence += (
            f" The first number that is not finite is {broken.value} at sample {broken.row}, unit"
            f" {broken.unit}, out of {broken.op}{f' of {operands}' if operands else ''}."
        )
        where = Where(broken.layer, units=(broken.unit,), samples=(broken.row,), step=reading.step)
        quantities = {"operation": broken.op, "operands": broken.operands}
    evidence = Evidence(sentence, quantities, product(reading.flows))
    return Suspect("exploding_gradient", where, evidence, (), "note")
