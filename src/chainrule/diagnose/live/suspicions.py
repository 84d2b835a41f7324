"""Signatures in a run that is not over: suspicions, for what would repair it has not been tried.

A run that learns has no suspicion, whatever its layers look like: a signature counts while the loss
is no lower than that of the best constant answer, on the probe and in training alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .. import at_start, in_steps, remedies
from ..finding import Evidence, Where, rank
from ..flow import Layer, Reading
from ..report.words import figure, percent
from ..setup import Suspect
from ..watching import USUAL, Story

__all__ = ["View", "fixed", "held_for", "suspects"]

Array = Any

LEAST = 0.01  # of a constant answer's loss: what a network must gain to have learnt anything
ABOVE = 1.05  # times where it began: more than the probe's rows differ by
GROWN = 1e6  # the growth of the loss that needs no second look
# Parts of the planned run for which a signature, overlong steps and a plateau must last.
PART, LONG, MOST = 0.1, 0.25, 0.5


@dataclass(eq=False)
class View(Story):
    """What is known at one look: the story of a run whose start and end are this moment."""

    now: Reading
    ground: float  # the loss of the best constant answer on the probe
    first_loss: float  # the probe's, before the first step
    training: float  # the mean loss of the last epoch; NaN before the first one's end
    training_first: float  # the loss of the first step
    update: float  # ‖Δw‖/‖w‖ a step since the last look
    lived: bool = True  # whether no layer was dead before the first step
    well_begun: bool = True  # whether no signature was there before the first step
    check: Callable[[], tuple[Suspect, ...]] = tuple  # what can be seen without running anything
    failed: bool = False  # whether the run has left the finite numbers

    @property
    def start(self) -> Reading:
        """As `now`."""
        return self.now

    @property
    def end(self) -> Reading:
        """As `now`."""
        return self.now

    @property
    def failing(self) -> None:
        """Not known: of what diverged, the last finite weights are `now`."""
        return

    @property
    def constant_loss(self) -> float:
        """As `ground`."""
        return self.ground

    @property
    def static(self) -> tuple[Suspect, ...]:
        """What can be seen in the network and the probe; it is asked for only in trouble."""
        return self.check() if self.now.step else ()

    @property
    def stuck(self) -> bool:
        """Whether nothing is learnt so far: a constant answer would do as well, or better.

        Where a constant answer has no error at all, there is nothing else to learn.
        """
        bar = self.bar
        if self.constant_loss == 0:
            return False
        return not self.now.loss < bar and not self.training < bar

    @property
    def bar(self) -> float:
        """The loss below which something has been learnt."""
        ground = self.constant_loss if math.isfinite(self.constant_loss) else self.first_loss
        return ground - LEAST * abs(ground)


def suspects(view: View) -> list[Suspect]:
    """Every suspicion that this look gives, in the order of causes.

    What can be seen without running anything is suspected only of a run that is in trouble.
    """
    found = [s for read in SIGNATURES for s in read(view)]
    if not found and view.stuck and view.now.step:
        found = list(plateau(view))
    if found:
        found += view.static
    kinds = {s.problem: s for s in reversed(found)}
    return sorted(kinds.values(), key=lambda s: (not _is_cause(s, view), rank(s.problem)))


def _is_cause(suspect: Suspect, view: View) -> bool:
    """Steps that are too long kill units and blow up weights; what was there before did not."""
    begun = view.well_begun and not view.static
    return suspect.problem == "learning_rate_too_high" and begun


# -- the signatures --------------------------------------------------------------------------------


def zero_probability(view: View) -> Iterator[Suspect]:
    """The loss takes the logarithm of 0, or a clip stands where it would."""
    yield from in_steps.zero_probability(view)


def overlarge(view: View) -> Iterator[Suspect]:
    """The loss is above where it began and above a constant answer's, or the run diverged."""
    reading, ground = view.now, max(view.first_loss, view.constant_loss)
    over = reading.loss > ABOVE * ground and view.training > ABOVE * view.training_first
    # Weights that began well and are now too large were made so by the steps.
    grown = view.well_begun and view.stuck and any(at_start.exploding(view))
    if not (over or grown or view.failed) or math.isnan(ground) or not reading.step:
        return
    slower = remedies.rate(view.setup, 0.1)
    told = "The loss is above where it began" if over else "The steps made the weights too large"
    told = "The run left the finite numbers" if view.failed else told
    sentence = (
        f"{told}: the loss on the probe was {figure(view.first_loss)} before the first step and is"
        f" {figure(reading.loss)} after step {reading.step}; a constant answer has"
        f" {figure(view.constant_loss)}. A step moves the weights by {_percent(view.update)} of"
        " their length (0.1 % is usual)."
    )
    quantities = {
        "loss before the first step": view.first_loss,
        "loss now": reading.loss,
        "loss of the best constant answer": view.constant_loss,
        "‖Δw‖/‖w‖ a step": view.update,
    }
    changes = () if slower is None else (slower,)
    yield Suspect("learning_rate_too_high", Where(), Evidence(sentence, quantities), changes)


def exploding(view: View) -> Iterator[Suspect]:
    """The nets, or δ, grow a hundredfold through the layers, or are no longer finite."""
    if not view.stuck:
        return
    for suspect in at_start.exploding(view):
        layers = view.now.layers
        sentence = (
            f"The nets grow to {figure(max(x.net_rms for x in layers))} (RMS) from inputs of"
            f" {figure(layers[0].inputs_rms)}, and ‖∂L/∂w‖ is {figure(view.now.gradient_norm)};"
            f" the largest factor is layer {suspect.where.layer}."
        )
        yield _retold(suspect, sentence)


def saturated(view: View) -> Iterator[Suspect]:
    """Most (row, unit) pairs of a hidden layer have a local derivative near 0."""
    if view.stuck:
        yield from at_start.saturated(view)


def dead(view: View) -> Iterator[Suspect]:
    """Half of a rectified layer's units, or more, answer no row of the probe."""
    if not view.stuck:
        return
    for suspect in at_start.dead(view):
        layer = _layer(view.now, suspect.where.layer)
        flow = layer.flow
        sentence = (
            f"{len(flow.dead)} of {flow.units} units of layer {flow.layer} have net ≤ 0 on all"
            f" {view.setup.rows} rows of the probe: their factor {flow.transfer}′ is exactly 0, and"
            " so is every gradient of their weights."
        )
        if view.lived:
            sentence += " Before the first step they lived: a step that is too long kills so."
        yield _retold(suspect, sentence)


def _layer(reading: Reading, name: str) -> Layer:
    """The layer of that name."""
    return next(x for x in reading.layers if x.flow.layer == name)


def vanishing(view: View) -> Iterator[Suspect]:
    """δ falls a thousandfold and more on its way to the first layer."""
    if view.stuck:
        yield from at_start.vanishing(view)


def plateau(view: View) -> Iterator[Suspect]:
    """The loss is that of a constant answer, and no layer says why.

    What can be seen without running anything is asked; else it is only said that the steps so far
    did not arrive, which is what `learning_rate_too_low` means.
    """
    reading = view.now
    sentence = (
        f"After step {reading.step} the loss on the probe is {figure(reading.loss)}, that of a"
        f" constant answer {figure(view.constant_loss)}: nothing is learnt so far. ‖∂L/∂w‖ is"
        f" {figure(reading.gradient_norm)}, and a step moves the weights by {_percent(view.update)}"
        " of their length (0.1 % is usual)."
    )
    if view.static:
        first = view.static[0]
        yield _retold(first, f"{sentence} {first.evidence.sentence}")
        return
    quantities = {
        "loss": reading.loss,
        "loss of the best constant answer": view.constant_loss,
        "‖∂L/∂w‖": reading.gradient_norm,
        "‖Δw‖/‖w‖ a step": view.update,
    }
    faster = remedies.rate(view.setup, 10.0) if view.update < USUAL else None
    change = faster or remedies.longer(view.setup, 10)
    yield Suspect("learning_rate_too_low", Where(), Evidence(sentence, quantities), (change,))


SIGNATURES: tuple[Callable[[View], Iterator[Suspect]], ...] = (
    zero_probability,
    overlarge,
    exploding,
    saturated,
    dead,
    vanishing,
)


def held_for(suspect: Suspect, view: View) -> float:
    """The part of the planned run for which a suspicion must have lasted before it is told."""
    if view.failed or suspect.problem == "zero_probability":
        return 0.0
    if suspect.problem == "learning_rate_too_high" and view.now.loss > GROWN * view.first_loss > 0:
        return 0.0
    if suspect.problem == "learning_rate_too_high":
        return LONG  # momentum and schedules get over a rough beginning
    named = {"dead_relu", "saturation", "vanishing_gradient", "exploding_gradient"}
    return PART if suspect.problem in named else MOST


# -- what cannot get better ------------------------------------------------------------------------


def fixed(reading: Reading) -> tuple[str, frozenset[str]]:
    """Why no step can change anything, and the parameters that then stand still; "" where one can.

    Either every gradient is exactly 0 on all rows; or a whole layer is dead, so that every row has
    the same answer, and the gradients of it and of all layers before it are exactly 0: what is
    left to learn is a constant. Or no answer is finite.
    """
    prediction = np.asarray(reading.prediction)
    if prediction.size and not np.isfinite(prediction).any():
        return "no answer of the network is finite", frozenset()
    zero = frozenset(name for name, g in reading.gradients.items() if not np.any(g))
    if reading.gradients and len(zero) == len(reading.gradients):
        return "the gradient of every parameter is exactly 0 on all rows", zero
    for k, layer in enumerate(reading.hidden):
        flow = layer.flow
        before = {x.flow.weight for x in reading.layers[: k + 1]}
        same = prediction.size and bool((prediction == prediction[:1]).all())
        if flow.dead and len(flow.dead) == flow.units and before <= zero and same:
            return f"every unit of layer {flow.layer} is dead on all rows", zero
    return "", frozenset()


def _retold(suspect: Suspect, sentence: str) -> Suspect:
    return replace(suspect, evidence=replace(suspect.evidence, sentence=sentence))


def _percent(x: float) -> str:
    return percent(x) if math.isfinite(x) else "an unknown part"
