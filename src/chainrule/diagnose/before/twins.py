"""Units that start alike: the same weights in and out, so the same gradient at every step."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...circuit import Tensor
from ...circuit.order import circuit_of
from ...gradient import flow_back
from ...plot.scale import short
from ..finding import Evidence, Where
from ..nodes import layer_of, layers_of
from ..pasted import pasted
from ..remedies import RECTIFIERS
from ..setup import Setup, Suspect
from .leaves import few_rows, forward

__all__ = ["twin_suspects", "unreached"]

Array = Any

ROWS = 32
ALIKE = 1e-5  # of the largest entry: rounding aside, gradients of twins are equal
TINY = 1e-3  # a layer whose sums stay below: its units are all the same near 0


def twin_suspects(setup: Setup) -> list[Suspect]:
    """symmetric_init, where at least half of a layer's units have a twin, or all weights are tiny.

    An objective that weighs every output differently tells twins from others: their gradients agree
    only if their outgoing weights do. A zero output layer alone makes none.
    """
    out = forward(setup.model, few_rows(setup.X, min(ROWS, max(4, len(setup.X)))))
    if not isinstance(out, Tensor) or not out.requires_grad:
        return []
    layers = _layers(setup.model, out)
    if not all(np.isfinite(values).all() for _, values, _ in layers):
        return []  # a weight that is no number is another fault
    redraw = pasted("weights drawn anew", _redrawn(setup, out))
    for name, values, gradients in layers:
        units = _twins(values, gradients)
        if len(values) > 1 and 2 * len(units) >= len(values):
            rank = int(np.linalg.matrix_rank(gradients))
            sentence = (
                f"{len(units)} of {len(values)} units of layer {name or 0} have a twin with the"
                " same weights in and out: net, f′, δ and every gradient are equal, for ever;"
                f" together they do the work of {_different(values, units)}"
            )
            facts = {"units": len(values), "twins": len(units), "rank of ∂L/∂W": rank}
            where = Where(layer=name, units=tuple(units), step=0)
            return [Suspect("symmetric_init", where, Evidence(sentence, facts), (redraw,))]
    return _tiny(layers, redraw)


def _layers(model: Any, out: Tensor) -> list[tuple[str, Array, Array]]:
    """Each layer's weights with its bias, a row a unit, and their gradients."""
    weigh = np.random.default_rng(0).normal(size=out.shape).astype(out.dtype)
    with np.errstate(all="ignore"):
        flow = flow_back(out, weigh)
    names = {p: name for name, p in model.named_parameters()}
    found: dict[str, tuple[str, Array, Array]] = {}
    for place in layers_of(out, names):
        name, weight, bias = names[place.weight], place.weight, place.bias
        if weight.ndim != 2 or weight not in flow or name in found:
            continue
        by_unit = np.transpose if place.inputs_first else np.asarray
        values, slopes = [by_unit(weight.value)], [by_unit(flow[weight])]
        if bias is not None and bias in flow and bias.size == len(values[0]):
            values.append(np.reshape(bias.value, (-1, 1)))
            slopes.append(np.reshape(flow[bias], (-1, 1)))
        found[name] = layer_of(name), np.concatenate(values, 1), np.concatenate(slopes, 1)
    return [*found.values()]


def _twins(values: Array, gradients: Array) -> tuple[int, ...]:
    """The units that have at least one other with the same weights and the same gradient."""
    known: dict[bytes, int] = {}
    number = np.array([known.setdefault((v + 0.0).tobytes(), len(known)) for v in values])
    most = float(np.abs(gradients).max(initial=0.0))
    step = ALIKE * most if most > 0 and np.isfinite(most) else 1.0
    weigh = np.random.default_rng(1).normal(size=gradients.shape[1])
    found: set[int] = set()
    for k in np.flatnonzero(np.bincount(number) > 1):
        alike = np.flatnonzero(number == k)
        alike = alike[np.argsort(gradients[alike] @ weigh, kind="stable")]  # twins come together
        apart = np.abs(np.diff(gradients[alike], axis=0)).max(1) <= step
        found |= {int(unit) for unit in (*alike[:-1][apart], *alike[1:][apart])}
    return tuple(sorted(found))


def _different(values: Array, units: tuple[int, ...]) -> int:
    """How many different units there are."""
    return len(values) - len(units) + len(np.unique(values[list(units)], axis=0))


def _tiny(layers: list[tuple[str, Array, Array]], redraw: Any) -> list[Suspect]:
    """All weights near 0, behind one another: every unit's sum is 0 as far as it can be seen."""
    sizes = [float(np.sqrt(np.square(values).sum(1)).max()) for _, values, _ in layers]
    if len(layers) < 2 or max(sizes) >= TINY:
        return []
    sentence = (
        f"no unit's weights are longer than {short(max(sizes))}: for inputs of about 1 every net is"
        " below a thousandth, where the units of a layer do not differ and no gradient comes back"
    )
    facts = {"longest weight vector": max(sizes), "layers": len(layers)}
    where = Where(layer=layers[0][0], step=0)
    return [Suspect("symmetric_init", where, Evidence(sentence, facts), (redraw,))]


def _redrawn(setup: Setup, out: Tensor) -> str:
    """All weight matrices anew, as `Sequential(seed=seed)` numbers and draws them."""
    ops = {node.op.name for node in circuit_of(out) if node.op is not None}
    steep = ops & {*RECTIFIERS, "maximum"}  # which is how a ReLU is written by hand
    init = "he_normal" if steep else "glorot_uniform"
    names = {p: name for name, p in setup.model.named_parameters()}
    places = [x for x in layers_of(out, names) if x.weight.ndim == 2]
    weights = {names[x.weight]: x.inputs_first for x in places}
    draw = f"nn.initializers.{init}(rng, p[name].shape[::-1]).T.copy()"
    if first := [name for name, inputs_first in weights.items() if inputs_first]:
        plain = f"nn.initializers.{init}(rng, p[name].shape)"
        draw = f"{plain} if name in {first!r} else {draw}"
    return (
        "p = dict(model.named_parameters())\n"
        f"for number, name in enumerate({[*weights]!r}):\n"
        f"    rng = np.random.default_rng([{setup.seed}, number])\n"
        f"    p[name].rebind({draw})"
    )


def unreached(model: Any, out: Tensor) -> list[str]:
    """The names of the parameters that `out` does not depend on: no gradient will ever reach them.

    >>> from chainrule import nn
    >>> model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    >>> unreached(model, model[1](model[0]([[1.0, 2.0]]).detach()))
    ['0.weight', '0.bias']
    """
    met = set(circuit_of(out, differentiable=True))
    return [name for name, p in model.named_parameters() if p not in met]
