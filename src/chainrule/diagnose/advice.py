"""General advice on the user's own network, after the lectures' list, each with its figures.

Advice is no finding: nothing need be wrong. It is given where a figure leaves room, and each bar
says how much; a network without such a figure gets none.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..nn.cells import GRUCell, LSTMCell
from ..nn.embedding import EmbedColumns
from ..nn.recurrent import GRU, LSTM
from .finding import Flow
from .flow import LEVELLING
from .remedies import RECTIFIERS
from .report.words import counted, figure, percent
from .setup import Setup

__all__ = ["advice"]

PASSED = 0.5  # of the δ above: a hidden sigmoid whose weights make up for its slope does no harm
LEVEL = 0.25  # of (row, unit) pairs: a quarter of a layer that does not learn from its row
IDLE = 0.05  # of a layer's units: fewer dead ones are room that nobody misses
LARGE = 0.1  # of a weight's length in one step, where a thousandth is usual
MOST_ROWS = 0.5  # whose inputs all have one sign: on most steps the weights of a unit go one way
OFF = 10.0  # times, from the inputs to the last hidden layer, that the start changes the signal
GATED = (LSTM, GRU, LSTMCell, GRUCell)


def advice(setup: Setup, flows: Sequence[Flow]) -> tuple[str, ...]:
    """Sentences on the network at the end of its run; () where its figures leave no room.

    They follow the lectures' order: the transfer functions, the learning rate with ReLU, inputs
    with mean 0, and the variance that the weights start from. The gates of an LSTM or a GRU are
    sigmoids for a reason, and are left alone.
    """
    gates = [name for name, module in setup.model.named_modules() if isinstance(module, GATED)]
    seen = [flow for flow in flows if not any(_inside(flow.layer, gate) for gate in gates)]
    return (
        *_sigmoids(seen),
        *_levelled(seen),
        *_dead(setup, seen),
        *_steps(seen),
        *_inputs(setup, flows),
        *_start(setup, seen),
    )


def _inside(layer: str, module: str) -> bool:
    return not module or layer == module or layer.startswith(f"{module}.")


# -- transfer functions -------------------------------------------------------------------------


def _sigmoids(flows: Sequence[Flow]) -> Iterator[str]:
    """Do not use sigmoid between layers: what it passes of δ, and the sign of what it puts out."""
    found = [
        (flow, above)
        for flow, above in itertools.pairwise(flows)
        if flow.transfer == "sigmoid" and flow.slope * flow.gain < PASSED
    ]
    if not found:
        return
    flow, above = min(found, key=lambda pair: pair[0].slope)
    signs = (
        f" Its outputs are all positive: on {percent(above.one_sign)} of the rows the weight"
        f" gradients of a unit of layer {above.layer} all have one sign."
        if above.one_sign >= MOST_ROWS
        else ""
    )
    yield (
        f"{_named(flow, [one for one, _ in found])} sigmoid: its f′ is {figure(flow.slope, 2)} on"
        f" your rows, of at most 0.25.{signs} tanh passes up to 1 and is centred on 0; ReLU passes"
        " 1 where it is open."
    )


def _levelled(flows: Sequence[Flow]) -> Iterator[str]:
    """tanh where it levels off."""
    found = [
        f for f in flows[:-1] if f.transfer in LEVELLING - {"sigmoid"} and f.saturated >= LEVEL
    ]
    if not found:
        return
    flow = max(found, key=lambda one: one.saturated)
    yield (
        f"{_named(flow, found)} {flow.transfer}: {percent(flow.saturated)} of its (row, unit) pairs"
        " lie where f′ is 4 % of its largest or less. ReLU, leaky ReLU, ELU and maxout do not level"
        " off on their open side."
    )


def _named(worst: Flow, found: Sequence[Flow]) -> str:
    """The layer that is spoken of, and how many others it stands for."""
    more = len(found) - 1
    others = f", like {more} other{'s' if more > 1 else ''}," if more else ""
    return f"Layer {worst.layer}{others} uses"


def _dead(setup: Setup, flows: Sequence[Flow]) -> Iterator[str]:
    """ReLU, with care for the rate: the units that never answer."""
    idle = [flow for flow in flows[:-1] if flow.transfer == "relu" and _share(flow) >= IDLE]
    if not idle:
        return
    counts = ", ".join(
        f"{len(flow.dead)} of {counted(flow.units, 'unit')} of layer {flow.layer}" for flow in idle
    )
    rate = getattr(setup.optimizer, "lr", None)
    than = f" than {rate:g}" if isinstance(rate, (int, float)) else ""
    yield (
        f"Use ReLU and watch the learning rate: {counts} never answer, for their net is ≤ 0 on"
        f" every row. A lower rate{than} may keep more of them; leaky ReLU, ELU and maxout pass a"
        " gradient on that side too."
    )


def _share(flow: Flow) -> float:
    return len(flow.dead) / max(flow.units, 1)


def _steps(flows: Sequence[Flow]) -> Iterator[str]:
    """The length of a step beside that of the weights, where rectifiers can die of it."""
    found = [f for f in flows[:-1] if f.transfer in RECTIFIERS and f.update >= LARGE]
    if not found:
        return
    flow = max(found, key=lambda one: one.update)
    yield (
        f"A step moves the weights of layer {flow.layer} by {percent(flow.update)} of their length,"
        f" where 0.1 % is usual: with {flow.transfer}, try a lower learning rate."
    )


# -- inputs and starting weights ----------------------------------------------------------------


def _inputs(setup: Setup, flows: Sequence[Flow]) -> Iterator[str]:
    """Inputs with mean 0: their signs, and what these do to the first layer's gradients."""
    X = np.asarray(setup.X)
    if X.ndim != 2 or X.dtype.kind not in "fiu" or not X.size or not np.isfinite(X).all():
        return
    if not flows or any(isinstance(m, EmbedColumns) for _, m in setup.model.named_modules()):
        return
    first = flows[0]
    one_sign = (np.ptp(X, axis=0) > 0) & ((X >= 0).all(axis=0) | (X <= 0).all(axis=0))
    if not (one_sign.any() and first.one_sign >= MOST_ROWS):
        return
    columns = int(one_sign.sum())
    yield (
        f"Your inputs are not zero-centred: {columns} of {counted(X.shape[1], 'column')}"
        f" {'has' if columns == 1 else 'have'} one sign on every row. On"
        f" {percent(first.one_sign)} of the rows all inputs share a sign, and with them all weight"
        f" gradients of a unit of layer {first.layer}, so that the steps zig-zag. Subtract the"
        " columns' means: X - X.mean(axis=0)."
    )


def _start(setup: Setup, flows: Sequence[Flow]) -> Iterator[str]:
    """He's variance for rectifiers, 1/in for the others: what the start makes of the signal."""
    weights = {name: np.asarray(p.value) for name, p in setup.model.named_parameters()}
    hidden = [f for f in flows[:-1] if f.weight in weights and weights[f.weight].ndim == 2]
    factors = [_kept(weights[flow.weight], flow) for flow in hidden]
    whole = math.prod(factors)
    if not hidden or not 0 < whole < math.inf or 1 / OFF < whole < OFF:
        return
    worst = (min if whole < 1 else max)(range(len(hidden)), key=factors.__getitem__)
    flow = hidden[worst]
    variance = float(np.mean(np.square(weights[flow.weight], dtype=np.float64)))
    he = flow.transfer in RECTIFIERS
    name, wanted = ("he_uniform", "2/in") if he else ("glorot_uniform", "2/(in + out)")
    size = f"shrinks {_large(1 / whole)}" if whole < 1 else f"grows {_large(whole)}"
    yield (
        f"The weights that the run starts from do not keep the size of the signal: it {size} times"
        f" on its way through {counted(len(hidden), 'hidden layer')}, most in layer {flow.layer},"
        f" whose weights have variance {figure(variance, 2)}. init='{name}' draws them with"
        f" {wanted}."
    )


def _large(times: float) -> str:
    return f"{times:,.0f}" if times < 1e6 else figure(times, 2)


def _kept(weight: Any, flow: Flow) -> float:
    """The factor on the RMS of the signal: 1 where in·Var is 2 for a rectifier, 1 for the rest."""
    inputs = weight.shape[1] if weight.shape[0] == flow.units else weight.shape[0]
    variance = float(np.mean(np.square(weight, dtype=np.float64)))
    return math.sqrt(inputs * variance / (2 if flow.transfer in RECTIFIERS else 1))
