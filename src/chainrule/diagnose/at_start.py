"""Signatures in the weights that training starts from: what is wrong before the first step.

Each needs a reading of the network only, so that `consequences` can ask for the same at the end.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..nn import layers
from . import remedies
from .before.outputs import without_last
from .finding import Evidence, Where
from .flow import HALF, Layer, Reading, product, rms
from .report.words import figure
from .setup import Change, Setup, Suspect
from .watching import Story

__all__ = [
    "dead",
    "dead_layer",
    "death",
    "exploding",
    "saturated",
    "saturation",
    "vanishing",
]

FALL = 1e-3  # of δ at the output: three decades on the way to the first layer
AMPLIFIED = 100.0  # times: two decades, where drawn weights keep the size of what they are given


def exploding(story: Story) -> Iterator[Suspect]:
    """δ or the nets grow through the products, before any step has been taken."""
    reading, setup = story.start, story.setup
    growth = _growth(reading)
    if growth < AMPLIFIED:
        return
    guilty = max(reading.layers, key=_gain_forward)
    row, unit, net = reading.layers[-1].worst
    quantities = {
        "growth of the nets, from the inputs on": growth,
        "loss before the first step": reading.loss,
        "loss of the best constant answer": story.constant_loss,
        "‖∂L/∂w‖ before the first step": reading.gradient_norm,
        **{f"RMS net of layer {x.flow.layer}": x.net_rms for x in reading.layers},
    }
    sentence = (
        f"Before the first step the weights already make the nets {figure(growth)} times as large"
        f" as the inputs (sample {row}, unit {unit} of layer {reading.layers[-1].flow.layer}: net ="
        f" {figure(net)}), and the gradients with them; the largest factor is layer"
        f" {guilty.flow.layer}."
    )
    yield Suspect(
        "exploding_gradient",
        Where(guilty.flow.layer, units=(unit,), samples=(row,), step=0),
        Evidence(sentence, quantities, product(reading.flows)),
        remedies.possible(
            remedies.redrawn(setup, reading.layers),
            remedies.clipped(setup),
        ),
    )


def _growth(reading: Reading) -> float:
    """How much larger nets, or δ, become on their way through the products than they began."""
    if not reading.layers:
        return 1.0
    if reading.broken is not None:
        made = ("parameter", "matmul", "add", "multiply")
        return math.inf if reading.broken.op in made else 1.0
    ground = reading.layers[0].inputs_rms
    forward = max(x.net_rms for x in reading.layers) / ground if ground > 0 else 1.0
    # δ may grow by as many decades as it may fall, before that counts like two decades of the nets.
    backward = (
        reading.shrinking * FALL * AMPLIFIED if reading.shrinking == reading.shrinking else 1.0
    )
    return max(forward, backward)


def _gain_forward(layer: Layer) -> float:
    """RMS(net)/RMS(inputs) of a layer: about 1 for drawn weights."""
    return layer.net_rms / layer.inputs_rms if layer.inputs_rms > 0 else 0.0


def saturated(story: Story) -> Iterator[Suspect]:
    """Most (row, unit) pairs of a hidden layer sit where f′ is near 0, before the first step."""
    flows = [x for x in story.start.hidden if x.flow.saturated > HALF]
    if flows:
        yield saturation(story, story.start, flows[0], "problem")


def saturation(story: Story, reading: Reading, layer: Layer, severity: str) -> Suspect:
    """What is said of a layer whose f′ is near 0 on most (row, unit) pairs, at any moment."""
    setup, flow = story.setup, layer.flow
    row, unit, net = layer.worst
    bias = 0.0 if layer.bias is None else rms([layer.bias])
    sentence = (
        f"In layer {flow.layer} {flow.saturated:.0%} of the (row, unit) pairs have a"
        f" {flow.transfer}′ of at most 4 % of its maximum (sample {row}, unit {unit}: net ="
        f" {figure(net)}): the factor {flow.transfer}′ passes on {figure(flow.slope)} of what"
        " arrives."
    )
    quantities = {
        "saturated pairs": flow.saturated,
        f"RMS({flow.transfer}′ ⊙ upstream)/RMS(upstream)": flow.slope,
        "RMS net": layer.net_rms,
        "RMS of the inputs": layer.inputs_rms,
        "RMS of W": rms([layer.weight]),
        "RMS of the biases": bias,
    }
    return Suspect(
        "saturation",
        Where(flow.layer, units=(unit,), samples=(row,), step=reading.step),
        Evidence(sentence, quantities, product(reading.flows)),
        remedies.possible(
            remedies.zero_bias(setup, [layer]) if bias > layer.inputs_rms else None,
            remedies.redrawn(setup, reading.layers),
        ),
        severity,
    )


def dead(story: Story) -> Iterator[Suspect]:
    """Most units of a rectified layer answer no row at all, before the first step."""
    layer = dead_layer(story.start)
    if layer is not None:
        yield death(story, story.start, layer, 0, "problem")


def dead_layer(reading: Reading) -> Layer | None:
    """The first layer of which half the units are dead, or one of a rectified output."""
    for k, layer in enumerate(reading.layers):
        flow = layer.flow
        output = k == len(reading.layers) - 1
        least = max(1, 1 if output else math.ceil(HALF * flow.units))
        rectifiers = ("relu", "hard_tanh") if output else ("relu",)  # else it is `saturated`
        if flow.transfer in rectifiers and len(flow.dead) >= least:
            return layer
    return None


def death(story: Story, reading: Reading, layer: Layer, step: int | None, severity: str) -> Suspect:
    """What is said of a layer with dead units; `step` is None where it is not known since when."""
    setup, flow = story.setup, layer.flow
    biases = layer.bias if layer.bias is not None else np.zeros(flow.units)
    own = np.size(biases) == flow.units
    of_dead = np.asarray(biases).reshape(-1)[list(flow.dead)] if own else np.zeros(0)
    still = "net ≤ 0" if flow.transfer == "relu" else "a net beyond ±1"
    since = "before the first step" if step == 0 else f"since step {step}" if step else "at the end"
    sentence = (
        f"{len(flow.dead)} of {flow.units} units of layer {flow.layer} have {still} on every one of"
        f" the {setup.rows} rows {since}: their factor {flow.transfer}′ is exactly 0, so is every"
        " gradient of their weights, and nothing will wake them."
    )
    quantities: dict[str, Any] = {
        "dead units": len(flow.dead),
        "units": flow.units,
        "rows on which they answer": 0,
        "RMS of the inputs": layer.inputs_rms,
    }
    if len(of_dead):
        quantities["mean bias of the dead units"] = float(np.mean(of_dead))
    return Suspect(
        "dead_relu",
        Where(flow.layer, units=flow.dead, step=step),
        Evidence(sentence, quantities, product(reading.flows)),
        (without_last(setup) if layer is reading.output else ())
        + remedies.possible(
            remedies.zero_bias(setup, [layer]),
            remedies.redrawn(setup, reading.layers),
            remedies.swapped(setup, (layers.ReLU,), "LeakyReLU"),
        ),
        severity,
    )


def vanishing(story: Story) -> Iterator[Suspect]:
    """δ falls a thousandfold from the last to the first layer, before the first step."""
    reading, setup = story.start, story.setup
    fall = reading.shrinking
    if not 0 < fall <= FALL or len(reading.hidden) < 1:
        return
    yield _vanishing(setup, reading, fall)


def _vanishing(setup: Setup, reading: Reading, fall: float) -> Suspect:
    factors = product(reading.flows)
    worst = max((f for f in factors if f.kind != "delta"), key=lambda f: f.share)
    slopes = sum(f.share for f in factors if f.kind == "slope")
    top, first = reading.layers[-1].flow, reading.layers[0].flow
    sentence = (
        f"δ falls from {figure(top.delta)} at the output to {figure(first.delta)} at layer"
        f" {first.layer}: {-math.log10(fall):.1f} decades, {slopes:.0%} of them lost in the local"
        f" derivatives and {1 - slopes:.0%} in the weights. The worst factor is {worst.name} ="
        f" {figure(worst.value)}."
    )
    quantities = {
        "RMS(δ) at the output": top.delta,
        "RMS(δ) at the first layer": first.delta,
        "decades lost": -math.log10(fall),
        "share lost in local derivatives": slopes,
    }
    bent = (layers.Sigmoid, layers.Tanh, layers.HardTanh, layers.Softsign)
    tanh = remedies.swapped(setup, (layers.Sigmoid,), "Tanh")
    relu = remedies.swapped(setup, bent, "ReLU")
    anew = remedies.redrawn(setup, reading.layers)
    return Suspect(
        "vanishing_gradient",
        Where(worst.layer, step=0),
        Evidence(sentence, quantities, factors),
        remedies.possible(
            anew,
            tanh,
            relu,
            _and_redrawn(tanh, reading, "tanh", setup),
            _and_redrawn(relu, reading, "relu", setup),
        ),
    )


def _and_redrawn(
    swap: Change | None, reading: Reading, transfer: str, setup: Setup
) -> Change | None:
    """Another transfer function, with the weights that suit it: one without the other is half."""
    if swap is None:
        return None
    anew = remedies.redrawn(setup, reading.layers, transfer)
    return None if anew is None else swap.then(anew)
