"""The backward flow of a network at one moment: δ of every layer and the factors that made it.

A layer is a product with a parameter, whatever module it is written in; its net is what goes into
the transfer function behind it, or the network's output. All of it is read from the one backward
loop of the engine, over all rows, in evaluation mode.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..circuit import Tensor
from ..errors import ChainruleError
from ..gradient import flow_back
from ..nn.module import evaluating
from ..ops import constant
from .finding import Factor, Flow
from .nodes import NonFinite, Place, first_broken, layer_of, layers_of

__all__ = ["HALF", "LEVEL", "LEVELLING", "Layer", "Reading", "product", "read", "rms", "steepest"]

Array = Any

CHUNK = 4096  # rows that are taken at once
BINS = 40
LEVEL = 0.04  # of its maximum, from which down a local derivative counts as saturated
HALF = 0.5  # a layer is as good as lost when most of it is dead or saturated
LEVELLING = frozenset({"sigmoid", "tanh", "hard_tanh", "softsign"})


@dataclass(eq=False)
class Layer:
    """What was measured at a layer: its flow, its parameters, and the gradient of its weights."""

    flow: Flow
    weight: Array = None  # of shape (units, inputs) as it acts, whichever way it is stored
    bias: Array = None
    gradient: Array = None  # ∂L/∂weight, of the weight's shape
    inputs_rms: float = math.nan
    net_rms: float = math.nan
    upstream: float = math.nan  # RMS(∂L/∂out)
    dead_rows: Array = None  # per unit, the share of rows with f′ = 0, for a rectifier
    worst: tuple[int, int, float] = (0, 0, math.nan)  # row, unit and net of largest |net|
    still: float = math.nan  # the share of rows whose δ is exactly 0
    bias_name: str = ""  # of the bias among the model's parameters
    inputs_first: bool = False  # the weight is stored as (inputs, units)


@dataclass(eq=False)
class Reading:
    """The whole network at one moment, and the step since which it is so."""

    layers: list[Layer]
    loss: float
    gradients: dict[str, Array] = field(default_factory=dict)
    prediction: Array = None
    broken: NonFinite | None = None
    step: int = 0

    @property
    def flows(self) -> tuple[Flow, ...]:
        """The layers' flows, from the first layer to the output."""
        return tuple(layer.flow for layer in self.layers)

    @property
    def hidden(self) -> list[Layer]:
        """The layers below the output."""
        return self.layers[:-1]

    @property
    def output(self) -> Layer | None:
        """The last layer."""
        return self.layers[-1] if self.layers else None

    @property
    def gradient_norm(self) -> float:
        """‖∂L/∂p‖ over all parameters together."""
        with np.errstate(all="ignore"):
            total = sum(
                float(np.square(g, dtype=np.float64).sum()) for g in self.gradients.values()
            )
        return math.sqrt(total) if math.isfinite(total) else math.inf

    @property
    def shrinking(self) -> float:
        """RMS(δ) of the first layer over that of the last: the product of all factors."""
        deltas = [layer.flow.delta for layer in self.layers]
        return deltas[0] / deltas[-1] if len(deltas) > 1 and deltas[-1] > 0 else math.nan


def read(model: Any, loss: Any, X: Array, y: Array, step: int = 0) -> Reading:
    """The backward flow over all rows of X; what is not finite is found, not raised."""
    n, parts = len(X), list[_Part]()
    names = {p: name for name, p in model.named_parameters()}
    with evaluating(), warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        for start in range(0, max(n, 1), CHUNK):
            rows = slice(start, start + CHUNK)
            parts.append(_part(model, loss, X[rows], y[rows], names, start, n))
    return _joined(parts, names, n, step)


@dataclass(eq=False)
class _Part:
    """What one chunk of rows gave."""

    places: list[Place]
    gradients: dict[Tensor, Array]
    loss: float
    share: float
    prediction: Array
    broken: NonFinite | None


def _part(
    model: Any, loss: Any, X: Array, y: Array, names: dict[Any, str], start: int, n: int
) -> _Part:
    out = model(constant(X))
    share = len(X) / max(n, 1)
    places = layers_of(out, names)
    try:
        error = loss(out, y)
    except (ChainruleError, ValueError, TypeError):
        return _Part(
            places, {}, math.nan, share, out.value, first_broken(out, places, names, start)
        )
    value = float(np.sum(error.value))
    upstream = np.full(error.shape, share, error.value.dtype)[()]
    gradients = flow_back(error, upstream)
    return _Part(
        places, gradients, value, share, out.value, first_broken(error, places, names, start)
    )


def _joined(parts: list[_Part], names: dict[Any, str], n: int, step: int) -> Reading:
    gradients: dict[str, Array] = {}
    for part in parts:
        for parameter, name in names.items():
            if parameter in part.gradients:
                g = np.asarray(part.gradients[parameter])
                gradients[name] = gradients[name] + g if name in gradients else g
    for parameter, name in names.items():
        gradients.setdefault(name, np.zeros_like(np.asarray(parameter.value)))
    loss = sum(part.loss * part.share for part in parts)
    broken = next((part.broken for part in parts if part.broken is not None), None)
    layers = list(_measured(parts, names, gradients, n))
    prediction = np.concatenate([np.atleast_1d(part.prediction) for part in parts])
    return Reading(layers, loss, gradients, prediction, broken, step)


def _measured(
    parts: list[_Part], names: dict[Any, str], gradients: dict[str, Array], n: int
) -> Iterator[Layer]:
    count = min(len(part.places) for part in parts)
    above = math.nan
    found: list[Layer] = []
    for k in reversed(range(count)):
        several = [(part, part.places[k]) for part in parts]
        layer = _layer(several, names, gradients, above, last=k == count - 1)
        above = layer.flow.delta
        found.append(layer)
    yield from reversed(found)


def _layer(
    several: list[tuple[_Part, Place]],
    names: dict[Any, str],
    gradients: dict[str, Array],
    above: float,
    last: bool,
) -> Layer:
    place = several[0][1]
    nets = [p.rows(p.net.value) for _, p in several]
    units = nets[0].shape[-1]
    delta = rms(_of(part, p.net) for part, p in several)
    outs = [(part, p.net if p.out is None else p.out) for part, p in several]
    upstream = rms(_of(part, out) for part, out in outs)
    slopes = [_slope(p) for _, p in several]
    dead, dead_rows, saturated = _still(place, slopes, units)
    inputs = [p.inputs for _, p in several]
    name = names[place.weight]
    weight = np.asarray(place.weight.value)
    gradient = gradients[name]
    if weight.ndim == 2 and place.inputs_first:
        weight, gradient = weight.T, gradient.T
    edges, counts = _histogram(nets)
    flow = Flow(
        layer=layer_of(name),
        transfer=place.out.op.name if place.out is not None else "",
        weight=name,
        units=units,
        delta=delta,
        gain=math.nan if last else _ratio(upstream, above),
        slope=math.nan if last else _ratio(delta, upstream),
        dead=dead,
        saturated=saturated,
        one_sign=_one_sign(inputs),
        edges=edges,
        counts=counts,
    )
    return Layer(
        flow, weight, None if place.bias is None else np.asarray(place.bias.value), gradient,
        rms(inputs), rms(nets), upstream, dead_rows, _worst(nets),
        _share_still([p.rows(_of(part, p.net)) for part, p in several]),
        names.get(place.bias, ""), place.inputs_first,
    )  # fmt: skip


def _share_still(deltas: list[Array]) -> float:
    flat = [np.asarray(d).reshape(len(d), -1) for d in deltas if np.ndim(d)]
    rows = sum(len(d) for d in flat)
    return sum(int((d == 0).all(1).sum()) for d in flat) / rows if rows else math.nan


def _of(part: _Part, node: Tensor) -> Array:
    """∂L/∂node in this chunk; 0 where none arrived."""
    found = part.gradients.get(node)
    return np.zeros(node.shape) if found is None else np.asarray(found)


def _slope(place: Place) -> Array | None:
    """f′ at every net, by the engine's own rule; None for what is no function of one number."""
    node = place.out
    if node is None or node.op.arity != 1 or not node.op.locals or not callable(node.op.locals[0]):
        return None
    net = np.asarray(node.inputs[0].value)
    slope = node.op.locals[0](net, np.asarray(node.value), **node.params)
    return place.rows(np.broadcast_to(np.asarray(slope), net.shape))


def steepest(node: Tensor) -> float:
    """f′ at 0, the largest of a function that levels off on both sides."""
    zero = np.zeros(())
    out = node.op.record((constant(zero),), node.params).value
    return float(np.asarray(node.op.locals[0](zero, out, **node.params)))


def _still(
    place: Place, slopes: list[Array | None], units: int
) -> tuple[tuple[int, ...], Array, float]:
    """Units without any derivative, the share of rows for each, and the share of flat pairs."""
    node = place.out
    if node is None or any(slope is None for slope in slopes):
        return (), None, math.nan
    flat = [np.asarray(slope).reshape(-1, units) for slope in slopes]
    rows = sum(len(f) for f in flat)
    zero = sum((f == 0).sum(0) for f in flat)
    share = zero / max(rows, 1)
    rectifier = node.op.name in ("relu", "hard_tanh")
    dead = tuple(int(u) for u in np.flatnonzero(zero == rows)) if rectifier and rows else ()
    if node.op.name not in LEVELLING:
        return dead, share if rectifier else None, math.nan
    limit = LEVEL * steepest(node)
    below = sum(int((f <= limit).sum()) for f in flat)
    return dead, share if rectifier else None, below / max(rows * units, 1)


def _histogram(nets: list[Array]) -> tuple[tuple[float, ...], tuple[int, ...]]:
    low = min((float(net.min()) for net in nets if net.size), default=0.0)
    high = max((float(net.max()) for net in nets if net.size), default=0.0)
    if not (math.isfinite(low) and math.isfinite(high) and math.isfinite(high - low)):
        return (), ()
    if high <= low:
        room = max(abs(low), 1.0) * 0.5
        low, high = low - room, high + room
    edges = np.linspace(low, high, BINS + 1)
    if not (np.diff(edges) > 0).all():
        return (), ()
    counts = sum(np.histogram(np.asarray(net, np.float64), edges)[0] for net in nets)
    return tuple(edges.tolist()), tuple(int(c) for c in np.asarray(counts))


def _one_sign(inputs: list[Array]) -> float:
    """The share of rows whose inputs all have one sign: so have a unit's weight gradients then."""
    flat = [x.reshape(-1, x.shape[-1]) for x in inputs if x.ndim > 1 and x.size]
    same = sum(int(((x >= 0).all(1) | (x <= 0).all(1)).sum()) for x in flat if x.shape[1] > 1)
    rows = sum(len(x) for x in flat)
    return same / rows if rows else math.nan


def _worst(nets: list[Array]) -> tuple[int, int, float]:
    start, found = 0, (0, 0, 0.0)
    for net in nets:
        flat = np.abs(net.reshape(-1, net.shape[-1]))
        if flat.size:
            row, unit = np.unravel_index(int(np.nanargmax(np.nan_to_num(flat))), flat.shape)
            value = float(net.reshape(flat.shape)[row, unit])
            if not abs(value) <= abs(found[2]):
                found = (start + int(row), int(unit), value)
        start += len(net)
    return found


def rms(arrays: Iterable[Array]) -> float:
    """√(mean of squares) over all entries of several arrays; NaN where there are none."""
    total, count = 0.0, 0
    with np.errstate(all="ignore"):
        for a in arrays:
            total += float(np.square(np.asarray(a, np.float64)).sum())
            count += int(np.size(a))
    return math.sqrt(total / count) if count and total == total else math.nan


def _ratio(a: float, b: float) -> float:
    return a / b if b else math.nan


def product(flows: tuple[Flow, ...]) -> tuple[Factor, ...]:
    """δ at the output times every factor down to the first layer, in the order of the flow.

    They multiply to δ of the first layer; an exact 0 is the last of them. The decades that a factor
    loses are −log₁₀ of it; each one's `share` is its part of all that is lost. Where the whole
    falls a thousandfold, or grows so, the worst factor is `guilty`, and with it all that are at
    least half as bad.
    """
    if len(flows) < 2:
        return ()
    top = flows[-1]
    made = [Factor(f"δ{len(flows)}", top.delta, "delta", top.layer)]
    for k in range(len(flows) - 2, -1, -1):
        flow, above = flows[k], flows[k + 1]
        made.append(Factor(f"W{k + 2}ᵀ", flow.gain, "gain", above.layer))
        if flow.transfer:
            made.append(Factor(f"{flow.transfer}′{k + 1}", flow.slope, "slope", flow.layer))
    zero = next((k for k, f in enumerate(made) if f.value == 0), len(made))
    made = made[: zero + 1]
    logs = [0.0 if f.kind == "delta" else _decades(f.value) for f in made]
    whole = sum(logs)
    lost = sum(max(0.0, -x) for x in logs)
    worst = max(logs) if whole >= 3 else min(logs)
    return tuple(
        Factor(
            f.name, f.value, f.kind, f.layer,
            share=max(0.0, -x) / lost if lost else 0.0,
            guilty=abs(whole) >= 3 and f.kind != "delta" and x * worst > 0 and x / worst >= 0.5,
        )
        for f, x in zip(made, logs, strict=True)
    )  # fmt: skip


def _decades(value: float) -> float:
    if value == 0:
        return -400.0  # less than any number has: the share of an exact 0 is all of it
    return math.log10(value) if math.isfinite(value) and value > 0 else 0.0
