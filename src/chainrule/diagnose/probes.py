"""Small questions to a network: can it learn two rows, and what do its inputs do to its steps?"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from .finding import Evidence
from .flow import Reading, product
from .setup import Change, Setup, Suspect
from .trials import Trials
from .watching import Story

__all__ = ["enriched", "two_rows"]

# Faults that show in the factors between the output's δ and the first layer's.
CHAINED = frozenset(
    {"single_class_softmax", "loss_output_mismatch", "symmetric_init", "unscaled_inputs"}
)
STEPS = 200  # updates in which two rows ought to be learnt


def two_rows(setup: Setup, trials: Trials) -> dict[str, Any]:
    """What the network makes of two rows that differ in X and y, trained on them alone.

    A network that cannot even learn two rows by heart has a fault of its own; one that can is
    stopped by the data, or by the number of its units and steps.
    """
    X, y = np.asarray(setup.X), np.asarray(setup.y)
    if X.dtype.kind not in "fiub" or y.dtype.kind not in "fiub" or len(X) < 2 or trials.stopped:
        return {}
    flat, targets = X.reshape(len(X), -1), y.reshape(len(y), -1)
    with np.errstate(all="ignore"):
        unlike = (flat != flat[0]).any(1) & (targets != targets[0]).any(1)
    if not unlike.any():
        return {}
    rows = [0, int(np.flatnonzero(unlike)[0])]
    small = setup.changed(X=X[rows], y=y[rows], epochs=min(STEPS, setup.steps), batch_size=None)
    outcome = trials.outcome_of(Change("two rows alone", "", lambda _: small))
    if outcome is None:
        return {}
    return {
        "rows learnt by heart": tuple(rows),
        "skill on these two rows": max(-1.0, outcome.skill),
        "loss on these two rows": outcome.loss,
    }


def enriched(suspect: Suspect, story: Story) -> Evidence:
    """The evidence of what was seen before training, with what the backward flow says of it."""
    evidence = suspect.evidence
    if story.refused:
        return evidence
    quantities = dict(evidence.quantities)
    if suspect.problem == "unscaled_inputs":
        quantities |= _of_inputs(story.start, story)
    if suspect.problem == "unscaled_targets":
        quantities |= {
            "loss before the first step": story.start.loss,
            "loss of the best constant answer": story.constant_loss,
        }
    return replace(
        evidence,
        quantities=quantities,
        product=evidence.product
        or (product(story.start.flows) if suspect.problem in CHAINED else ()),
    )


def _of_inputs(reading: Reading, story: Story) -> dict[str, Any]:
    """How unevenly the columns pull at the first layer, and whether its steps zig-zag."""
    if not reading.layers or np.ndim(reading.layers[0].gradient) != 2:
        return {}
    first = reading.layers[0]
    with np.errstate(all="ignore"):
        pull = np.sqrt(np.square(first.gradient, dtype=np.float64).mean(0))
    found: dict[str, Any] = {}
    if pull.size and np.isfinite(pull).all() and pull.min() > 0:
        found["RMS(∂L/∂W1), the strongest column over the weakest"] = float(pull.max() / pull.min())
    if first.flow.one_sign == first.flow.one_sign:
        found["rows whose inputs all have one sign"] = first.flow.one_sign
    if any(c == c for c in story.first.cosines):
        found["cosine of successive steps"] = float(np.nanmean(story.first.cosines))
    return {k: v for k, v in found.items() if not (isinstance(v, float) and math.isnan(v))}
