"""Signatures in the steps and at the end of the run: too long, too short, at rest, the log of 0."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from . import remedies
from .at_start import dead_layer
from .before.outputs import on_logits
from .finding import Evidence, Flow, Where
from .flow import HALF, Reading, product
from .report.words import figure, percent
from .setup import Suspect
from .watching import Story

__all__ = ["capacity", "too_high", "too_low", "zero_probability"]

# A step along −∂L/∂w that is short enough lowers its own batch's loss, whatever noise the batches
# have; momentum makes some miss, not one in four.
MISSED = 0.25
FAR = 0.1  # of the weights' length in a step: ten such leave nothing of what was learnt
LONG = 1e-2  # the same where the run ends above a constant answer: ten times what is usual
FEW = 0.1  # of the rows: what is lost there is a tenth of the data
CERTAIN = 1e-6  # from 0 or 1: a probability of which a clip leaves no gradient in float32


def too_high(story: Story) -> Iterator[Suspect]:
    """Steps raise the very loss they were taken for, or the run ends no better than a constant."""
    first, last, outcome = story.first, story.last, story.outcome
    diverged = bool(outcome.score.error)
    stuck = not outcome.loss <= story.constant_loss
    over = max(first.overshoot, last.overshoot)
    large = max((r for r in (first.ratio, last.ratio) if r == r), default=0.0)
    if not (diverged or over > MISSED or (stuck and large > LONG) or large > FAR):
        return
    if remedies.rate(story.setup, 1.0) is None:
        return
    yield Suspect(
        "learning_rate_too_high",
        Where(step=0 if first.overshoot >= last.overshoot else None),
        Evidence(*_of_steps(story, diverged)),
    )


def _of_steps(story: Story, diverged: bool) -> tuple[str, dict[str, Any]]:
    first, last = story.first, story.last
    pairs = enumerate(zip(first.losses, first.after, strict=True))
    k = next((k for k, (before, after) in pairs if not after <= before), None)
    lr = getattr(story.setup.optimizer, "lr", math.nan)
    parts = []
    if k is not None:
        parts.append(
            f"Step {k + 1} takes the loss of its own batch from {figure(first.losses[k])} to"
            f" {figure(first.after[k])}: it goes beyond the minimum that −∂L/∂w points to."
        )
    parts.append(
        f"{first.overshoot:.0%} of the first {len(first.losses)} steps raise the loss that they"
        f" were taken for; a step moves the weights by {percent(first.ratio)} of their length"
        " (0.1 % is usual)."
    )
    if diverged:
        parts.append("The run left the finite numbers.")
    quantities = {
        "learning rate": lr if isinstance(lr, float) else "a schedule",
        "steps that raise their own loss, at first": first.overshoot,
        "steps that raise their own loss, at the end": last.overshoot,
        "‖Δw‖/‖w‖ of a step, at first": first.ratio,
        "‖Δw‖/‖w‖ of a step, at the end": last.ratio,
        "cosine of successive steps": float(np.mean(first.cosines)) if first.cosines else math.nan,
    }
    return " ".join(parts), quantities


def too_low(story: Story) -> Iterator[Suspect]:
    """The loss still falls at the end, and the steps are short."""
    if story.outcome.score.error or story.end.gradient_norm == 0:
        return
    changes = remedies.possible(remedies.steady(story.setup), remedies.longer(story.setup, 10))
    last = story.last
    losses = story.outcome.curve.loss
    fall = losses[0] - losses[-1] if len(losses) > 1 else math.nan
    late = losses[len(losses) // 2] - losses[-1] if len(losses) > 3 else math.nan
    sentence = (
        f"A step moves the weights by {percent(last.ratio)} of their length at the end (0.1 % is"
        f" usual); the loss fell from {figure(losses[0])} to {figure(losses[-1])} in all"
        if losses
        else "The run is shorter than an epoch"
    )
    fallen = losses and fall > 1e-6 * abs(losses[0])  # else it is rounding
    if fallen and late == late:
        sentence += f", {late / fall:.0%} of that in the second half of the run"
    quantities = {
        "‖Δw‖/‖w‖ of a step, at first": story.first.ratio,
        "‖Δw‖/‖w‖ of a step, at the end": last.ratio,
        "updates": story.setup.steps,
        "share of the fall in the second half": late / fall if fallen else math.nan,
        "cosine of successive steps": float(np.mean(last.cosines)) if last.cosines else math.nan,
    }
    yield Suspect("learning_rate_too_low", Where(), Evidence(f"{sentence}.", quantities), changes)


def zero_probability(story: Story) -> Iterator[Suspect]:
    """The loss takes the logarithm of 0 at finite weights; or a clip stands where it would."""
    readings = [story.start, *([story.failing] if story.failing else []), story.end]
    found = [x for x in map(_log_of_zero, readings) if x is not None]
    found += [x for x in (_clipped(r, story) for r in readings) if x is not None]
    if found:
        where, evidence = found[0]
        yield Suspect("zero_probability", where, evidence, on_logits(story.setup))


def _log_of_zero(reading: Reading) -> tuple[Where, Evidence] | None:
    broken = reading.broken
    if broken is None or broken.op not in ("log", "log1p", "divide") or not broken.operands:
        return None
    if not all(math.isfinite(x) for x in broken.operands):
        return None
    sentence = (
        f"The first number that is not finite is {broken.op} of"
        f" {', '.join(figure(x) for x in broken.operands)} = {broken.value} in the loss, at sample"
        f" {broken.row}, while every weight is finite."
    )
    quantities = {"operation": broken.op, "operand": broken.operands[-1]}
    step = reading.step if reading.step >= 0 else None
    where = Where("loss", samples=(broken.row,), step=step)
    return where, Evidence(sentence, quantities, product(reading.flows))


def _clipped(reading: Reading, story: Story) -> tuple[Where, Evidence] | None:
    output = reading.output
    if output is None or output.flow.transfer not in ("sigmoid", "softmax"):
        return None
    if not output.still >= FEW or output.flow.units < 1 or reading.loss <= story.constant_loss:
        return None
    p = np.asarray(reading.prediction, np.float64).reshape(len(reading.prediction), -1)
    if p.shape[1] == 1 and output.flow.transfer == "softmax":
        return None  # it is 1 for ever, whatever the loss
    sure = ((p < CERTAIN) | (p > 1 - CERTAIN)).all(1)
    if sure.mean() < FEW:
        return None
    row = int(np.flatnonzero(sure)[0])
    sentence = (
        f"On {sure.mean():.0%} of the rows the {output.flow.transfer} is 0 or 1 to rounding (sample"
        f" {row}: p = {figure(float(p[row].max()))}), where the logarithm is clipped: on"
        f" {output.still:.0%} of the rows δ is exactly 0, right or wrong, at a mean loss of"
        f" {figure(reading.loss)} against {figure(story.constant_loss)} for a constant answer."
    )
    quantities = {
        "rows with a probability of 0 or 1": float(sure.mean()),
        "rows with δ = 0": output.still,
        "loss": reading.loss,
    }
    where = Where(output.flow.layer, samples=(row,), step=max(reading.step, 0))
    return where, Evidence(sentence, quantities, product(reading.flows))


def capacity(story: Story) -> Iterator[Suspect]:
    """The gradients have come to rest at a high loss, with no unit dead, flat or twin."""
    if story.outcome.score.error:
        return
    end, start = story.end, story.start
    hidden = [x.flow for x in end.hidden]
    blocked = dead_layer(end) is not None or any(f.saturated > HALF for f in hidden)
    if blocked or end.gradient_norm == 0:
        return  # it stands still for another reason
    changes = remedies.possible(
        remedies.hidden_layer(story.setup) if not _bent(hidden) else None,
        remedies.wider(story.setup) if _bent(hidden) else None,
    )
    if not changes:
        return
    rest = end.gradient_norm / start.gradient_norm if start.gradient_norm else math.nan
    what = (
        "No transfer function stands between the layers, so the network is linear in X"
        if not _bent(hidden)
        else f"The hidden layers have {', '.join(str(f.units) for f in hidden)} units"
    )
    sentence = (
        f"{what}; at the end ‖∂L/∂w‖ is {figure(end.gradient_norm)} ({percent(rest)} of what it"
        f" was at first) at a loss of {figure(end.loss)}, against {figure(story.constant_loss)} for"
        " the best constant answer."
    )
    quantities = {
        "‖∂L/∂w‖ at the end": end.gradient_norm,
        "‖∂L/∂w‖ at first": start.gradient_norm,
        "hidden units": sum(f.units for f in hidden),
    }
    yield Suspect("insufficient_capacity", Where(), Evidence(sentence, quantities), changes)


def _bent(hidden: Sequence[Flow]) -> bool:
    return any(flow.transfer for flow in hidden)
