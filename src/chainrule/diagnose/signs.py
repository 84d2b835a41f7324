"""Signatures: what must be measured before a problem may be named.

Each function reads the story of the run and gives a suspect where the signature is there. None of
them decides: whether the run is sick is for its outcome to say, and which suspect is the cause for
the run without it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ..nn import layers
from ..plot.scale import short
from . import remedies
from .before.outputs import on_logits, without_last
from .finding import PROBLEMS, Evidence, Flow, Where
from .flow import Layer, Reading, product
from .setup import Change, Setup, Suspect
from .watching import Story

__all__ = ["ORDER", "Signature", "consequences", "early", "signs", "transfers"]

Array = Any

ORDER = tuple(PROBLEMS)

HALF = 0.5  # a layer is as good as lost when most of it is
FEW = 0.1  # of the rows: what is lost there is a tenth of the data
FALL = 1e-3  # of δ at the output: three decades on the way to the first layer
GROWN = 1e6
AMPLIFIED = 100.0

Signature = Callable[[Story], Iterator[Suspect]]


def signs(story: Story) -> list[Suspect]:
    """Every suspect whose signature is there, in the order of causes."""
    found = [suspect for signature in SIGNATURES for suspect in signature(story)]
    return sorted(found, key=lambda s: ORDER.index(s.problem))


def early(story: Story) -> list[Suspect]:
    """Those that show before the first step."""
    found = [suspect for signature in BEFORE for suspect in signature(story)]
    return sorted(found, key=lambda s: ORDER.index(s.problem))


# -- in the weights that training starts from ------------------------------------------------------


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
        f"Before the first step the weights already make the nets {_shown(growth)} times as large"
        f" as the inputs (sample {row}, unit {unit} of layer {reading.layers[-1].flow.layer}: net ="
        f" {_shown(net)}), and the gradients with them; the largest factor is layer"
        f" {guilty.flow.layer}."
    )
    yield Suspect(
        "exploding_gradient",
        Where(guilty.flow.layer, units=(unit,), samples=(row,), step=0),
        Evidence(sentence, quantities, product(reading.flows)),
        _changes(
            remedies.redrawn(setup, transfers(reading)),
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
    backward = reading.shrinking / 10 if reading.shrinking == reading.shrinking else 1.0
    return max(forward, backward)


def _gain_forward(layer: Layer) -> float:
    """RMS(net)/RMS(inputs) of a layer: about 1 for drawn weights."""
    return layer.net_rms / layer.inputs_rms if layer.inputs_rms > 0 else 0.0


def saturated(story: Story) -> Iterator[Suspect]:
    """Most (row, unit) pairs of a hidden layer sit where f′ is near 0, before the first step."""
    flows = [x for x in story.start.hidden if x.flow.saturated > HALF]
    if flows:
        yield _saturation(story, story.start, flows[0], "problem")


def _saturation(story: Story, reading: Reading, layer: Layer, severity: str) -> Suspect:
    setup, flow = story.setup, layer.flow
    row, unit, net = layer.worst
    bias = 0.0 if layer.bias is None else _rms(layer.bias)
    sentence = (
        f"In layer {flow.layer} {flow.saturated:.0%} of the (row, unit) pairs have a"
        f" {flow.transfer}′ of at most 4 % of its maximum (sample {row}, unit {unit}: net ="
        f" {short(net, 3)}): the factor {flow.transfer}′ passes on {_shown(flow.slope)} of what"
        " arrives."
    )
    quantities = {
        "saturated pairs": flow.saturated,
        f"RMS({flow.transfer}′ ⊙ upstream)/RMS(upstream)": flow.slope,
        "RMS net": layer.net_rms,
        "RMS of the inputs": layer.inputs_rms,
        "RMS of W": _rms(layer.weight),
        "RMS of the biases": bias,
    }
    return Suspect(
        "saturation",
        Where(flow.layer, units=(unit,), samples=(row,), step=reading.step),
        Evidence(sentence, quantities, product(reading.flows)),
        _changes(
            remedies.zero_bias(setup, [flow.weight]) if bias > layer.inputs_rms else None,
            remedies.redrawn(setup, transfers(reading)),
        ),
        severity,
    )


def dead(story: Story) -> Iterator[Suspect]:
    """Most units of a rectified layer answer no row at all, before the first step."""
    layer = _dead_layer(story.start)
    if layer is not None:
        yield _death(story, story.start, layer, 0, "problem")


def _dead_layer(reading: Reading) -> Layer | None:
    for k, layer in enumerate(reading.layers):
        flow = layer.flow
        output = k == len(reading.layers) - 1
        least = max(1, 1 if output else math.ceil(HALF * flow.units))
        rectifiers = ("relu", "hard_tanh") if output else ("relu",)  # else it is `saturated`
        if flow.transfer in rectifiers and len(flow.dead) >= least:
            return layer
    return None


def _death(story: Story, reading: Reading, layer: Layer, step: int | None, how: str) -> Suspect:
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
        + _changes(
            remedies.zero_bias(setup, [flow.weight]),
            remedies.redrawn(setup, transfers(reading)),
            remedies.swapped(setup, (layers.ReLU,), "LeakyReLU"),
        ),
        how,
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
        f"δ falls from {short(top.delta, 3)} at the output to {short(first.delta, 3)} at layer"
        f" {first.layer}: {-math.log10(fall):.1f} decades, {slopes:.0%} of them lost in the local"
        f" derivatives and {1 - slopes:.0%} in the weights. The worst factor is {worst.name} ="
        f" {_shown(worst.value)}."
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
    anew = remedies.redrawn(setup, transfers(reading))
    return Suspect(
        "vanishing_gradient",
        Where(worst.layer, step=0),
        Evidence(sentence, quantities, factors),
        _changes(
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
    own = transfers(reading)
    last = list(own)[-1]
    anew = remedies.redrawn(setup, {n: t if n == last else transfer for n, t in own.items()})
    return None if anew is None else swap.then(anew)


# -- in the steps ----------------------------------------------------------------------------------


def too_high(story: Story) -> Iterator[Suspect]:
    """Steps raise the very loss they were taken for, or the run ends no better than a constant."""
    first, last, outcome = story.first, story.last, story.outcome
    diverged = bool(outcome.score.error)
    stuck = not outcome.loss <= story.constant_loss
    over = max(first.overshoot, last.overshoot)
    large = max((r for r in (first.ratio, last.ratio) if r == r), default=0.0)
    if not (diverged or over > 0.25 or (stuck and large > 1e-2) or large > 0.1):
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
            f"Step {k + 1} takes the loss of its own batch from {short(first.losses[k], 3)} to"
            f" {short(first.after[k], 3)}: it goes beyond the minimum that −∂L/∂w points to."
        )
    parts.append(
        f"{first.overshoot:.0%} of the first {len(first.losses)} steps raise the loss that they"
        f" were taken for; a step moves the weights by {_percent(first.ratio)} of their length"
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
    if story.outcome.score.error or story.reading(len(story.kept) - 1).gradient_norm == 0:
        return
    changes = _changes(remedies.steady(story.setup), remedies.longer(story.setup, 10))
    last = story.last
    losses = story.outcome.curve.loss
    fall = losses[0] - losses[-1] if len(losses) > 1 else math.nan
    late = losses[len(losses) // 2] - losses[-1] if len(losses) > 3 else math.nan
    sentence = (
        f"A step moves the weights by {_percent(last.ratio)} of their length at the end (0.1 % is"
        f" usual); the loss fell from {_shown(losses[0])} to {_shown(losses[-1])} in all"
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
        f" {', '.join(_shown(x) for x in broken.operands)} = {broken.value} in the loss, at sample"
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
    sure = ((p < 1e-6) | (p > 1 - 1e-6)).all(1)
    if sure.mean() < FEW:
        return None
    row = int(np.flatnonzero(sure)[0])
    sentence = (
        f"On {sure.mean():.0%} of the rows the {output.flow.transfer} is 0 or 1 to rounding (sample"
        f" {row}: p = {_shown(float(p[row].max()))}), where the logarithm is clipped: on"
        f" {output.still:.0%} of the rows δ is exactly 0, right or wrong, at a mean loss of"
        f" {_shown(reading.loss)} against {_shown(story.constant_loss)} for a constant answer."
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
    blocked = _dead_layer(end) is not None or any(f.saturated > HALF for f in hidden)
    if blocked or end.gradient_norm == 0:
        return  # it stands still for another reason
    changes = _changes(
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
        f"{what}; at the end ‖∂L/∂w‖ is {_shown(end.gradient_norm)} ({_percent(rest)} of what it"
        f" was at first) at a loss of {_shown(end.loss)}, against {_shown(story.constant_loss)} for"
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


# -- what came of it -------------------------------------------------------------------------------


def consequences(story: Story, cause: str) -> list[Suspect]:
    """What was not there at the start and is at the end: true, but not the cause.

    Steps that are too long, and numbers that are too large, kill and flatten units; and they make
    products overflow, unless it was the logarithm of 0 that did.
    """
    if cause not in OVERDONE:
        return []
    found, end = list[Suspect](), story.end
    layer = _dead_layer(end)
    if layer is not None and _dead_layer(story.start) is None:
        step = story.since(lambda reading: _dead_layer(reading) is not None)
        found.append(_death(story, end, layer, step, "note"))
    flat = [x for x in end.hidden if x.flow.saturated > HALF]
    if flat and not any(x.flow.saturated > HALF for x in story.start.hidden):
        found.append(_saturation(story, end, flat[0], "note"))
    if _overflowed(story) and not any(zero_probability(story)):
        found.append(_overflow(story))
    return found


OVERDONE = frozenset(
    {"learning_rate_too_high", "unscaled_inputs", "unscaled_targets", "exploding_gradient"}
)


def _overflowed(story: Story) -> bool:
    score, start = story.outcome.score, story.start
    if score.error:
        return "not finite" in score.error or "nan" in score.error or "inf" in score.error
    return not abs(score.loss) <= GROWN * max(abs(start.loss), 1e-300)


def _overflow(story: Story) -> Suspect:
    first, reading = story.first, story.failing or story.end
    begun = _shown(first.losses[0]) if first.losses else "its first value"
    ended = story.outcome.score.error.partition(":")[0] or "it was millions of times as large"
    sentence = f"The loss grew from {begun} until {ended}."
    where, quantities = Where(), dict[str, Any]()
    broken = reading.broken
    if broken is not None:
        operands = ", ".join(_shown(x) for x in broken.operands)
        sentence += (
            f" The first number that is not finite is {broken.value} at sample {broken.row}, unit"
            f" {broken.unit}, out of {broken.op}{f' of {operands}' if operands else ''}."
        )
        where = Where(broken.layer, units=(broken.unit,), samples=(broken.row,), step=reading.step)
        quantities = {"operation": broken.op, "operands": broken.operands}
    evidence = Evidence(sentence, quantities, product(reading.flows))
    return Suspect("exploding_gradient", where, evidence, (), "note")


def transfers(reading: Reading) -> dict[str, str]:
    """The transfer function behind each weight matrix, by the weight's name."""
    return {x.flow.weight: x.flow.transfer for x in reading.layers if np.ndim(x.weight) == 2}


def _rms(array: Array) -> float:
    with np.errstate(all="ignore"):
        return float(np.sqrt(np.square(array, dtype=np.float64).mean()))


def _changes(*several: Change | None) -> tuple[Change, ...]:
    return tuple(change for change in several if change is not None)


def _shown(x: float) -> str:
    return short(x, 3) if math.isfinite(x) else str(x)


def _percent(x: float) -> str:
    return f"{short(100 * x, 2)} %" if math.isfinite(x) else str(x)


BEFORE: tuple[Signature, ...] = (exploding, saturated, dead, vanishing)
SIGNATURES: tuple[Signature, ...] = (
    zero_probability,
    *BEFORE,
    too_high,
    too_low,
    capacity,
)
