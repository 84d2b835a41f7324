"""Why a gradient is zero, tiny, huge or not a number: the link that does it, with its values."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..circuit import Tensor
from ..gradient.backward import Edge
from .fan import fan
from .naming import TRANSFER
from .numbers import decimal
from .paths import Hop, Path, largest_paths
from .target import Target
from .unfold import label
from .writer import Block, Writer

SMALL, LARGE = 1e-6, 1e6  # beyond these a gradient asks for a reason
LOOKED_AT = 400  # elements that the search for a zero visits
SATURATED = 0.01  # a slope below this is called saturated
SHOWN = 6


@dataclass(frozen=True)
class Factor:
    """One factor of the largest path, and how many decades it takes away (or adds, if < 0)."""

    label: str
    value: float
    hop: Hop | None

    @property
    def decades(self) -> float:
        """−log₁₀ of its size: the decades of all factors add up to those of the whole."""
        return -math.log10(abs(self.value)) if self.value else math.inf


def why_block(writer: Writer, target: Target) -> Block | None:
    """The reason for a gradient that is 0, not finite, or beyond 1e±6; None for any other."""
    gradient = np.asarray(writer.flow.gradients[target.tensor], dtype=np.float64)
    whole = gradient if target.index is None else gradient[target.index]
    name = writer.names[target.tensor]
    if not np.all(np.isfinite(whole)):
        return Block(f"why the gradient of {name} is not finite", sentences=_not_finite(writer))
    largest = float(np.max(np.abs(whole), initial=0.0))
    index = target.index
    if index is None:
        at = int(np.argmax(np.abs(gradient))) if gradient.size else 0
        index = tuple(int(i) for i in np.unravel_index(at, gradient.shape)) if gradient.ndim else ()
    if largest == 0:
        return Block(f"why the gradient of {name} is 0", sentences=_zero(writer, target, index))
    if SMALL < largest < LARGE:
        return None
    word = "small" if largest <= SMALL else "large"
    sentences = _decades(writer, target.tensor, index)
    return Block(f"why the gradient of {name} is {word}", sentences=sentences)


# -- zero -------------------------------------------------------------------------------------


def _zero(writer: Writer, target: Target, index: tuple[int, ...]) -> list[str]:
    if not np.size(writer.flow.gradients[target.tensor]):
        return ["the tensor has no elements"]
    found = list(_killers(writer, target.tensor, index))
    if not found:
        return ["its contributions are not 0, but they cancel"]
    said = list(dict.fromkeys(sentence for sentence, _ in found))
    more = [f"… and {len(said) - SHOWN} more such links"] if len(said) > SHOWN else []
    return _dead_units(writer, [hop for _, hop in found if hop is not None]) + said[:SHOWN] + more


def _killers(
    writer: Writer, tensor: Tensor, index: tuple[int, ...]
) -> Iterator[tuple[str, Hop | None]]:
    """The links at which a gradient that arrives becomes 0, nearest to the tensor first."""
    flow = writer.flow
    waiting, seen = [(tensor, index)], {(tensor, index)}
    for node, place in _growing(waiting):
        for edge in flow.received[node]:
            places, factors = fan(edge, place)
            above = np.asarray(flow.gradients[edge.node], dtype=np.float64).reshape(-1)
            if not len(places):
                yield _no_factor(writer, edge, place), None
            for k, factor in zip(places.tolist(), factors.tolist(), strict=True):
                spot = tuple(int(i) for i in np.unravel_index(k, edge.node.shape))
                hop = Hop(edge, place, spot, float(factor))
                if above[k] == 0 and factor != 0 and (edge.node, spot) not in seen:
                    seen.add((edge.node, spot))
                    waiting.append((edge.node, spot))
                elif above[k] != 0 and factor == 0:
                    yield _killed(writer, hop), hop
                elif factor * above[k] == 0 and above[k] != 0:
                    product = f"{decimal(factor)} × {decimal(above[k])}"
                    name = writer.element(writer.names[edge.node], spot)
                    yield f"at {name}: {product} is below the smallest number", hop


def _growing(waiting: list[Any]) -> Iterator[Any]:
    k = 0
    while k < min(len(waiting), LOOKED_AT):
        yield waiting[k]
        k += 1


def _no_factor(writer: Writer, edge: Edge, place: tuple[int, ...]) -> str:
    op, names = edge.node.op, writer.names
    others = [names[x] for k, x in enumerate(edge.node.inputs) if k != edge.position]
    if op.facts.flow == "router" or not others:
        return f"{op.name} does not choose element {list(place)}: it routes nothing here"
    return f"{op.name}: the other factor, of {' and '.join(others)}, is 0 for every element"


def _killed(writer: Writer, hop: Hop) -> str:
    """What makes a factor 0: a dead unit, a loser of a router, a product with 0, a saturation."""
    edge, names = hop.edge, writer.names
    node, op = edge.node, edge.node.op
    value = _value(edge.source, hop.below)
    net = writer.element(names[edge.source], hop.below)
    site = f" ({node.site})" if node.site else ""
    if op.name == "relu":
        return f"relu is off: {net} = {decimal(value)}, not above 0, so its slope is 0"
    if op.is_router:
        return f"{op.name} routes nothing to {net} = {decimal(value)}{site}"
    if op.name in TRANSFER:
        return f"{op.name} is saturated: at {net} = {decimal(value)} its slope is rounded to 0"
    if op.facts.index is not None and op.facts.index.combine == "sum":
        return f"{op.name}: the other factor {label(writer, hop)} is 0{site}"
    if op.name == "multiply":
        other = node.inputs[1 - edge.position]
        return f"multiply: the other input {names[other]} is 0{site}"
    return f"{op.name}: its slope at {net} = {decimal(value)} is 0{site}"


def _value(node: Tensor, index: tuple[int, ...]) -> float:
    return float(np.asarray(node.value)[index])


def _dead_units(writer: Writer, hops: list[Hop]) -> list[str]:
    """Which of the units that are off here are off on every row."""
    units: dict[Tensor, set[int]] = {}
    for hop in hops:
        if hop.edge.node.op.name == "relu" and hop.edge.node.ndim == 2:
            units.setdefault(hop.edge.source, set()).add(hop.below[1])
    found = []
    for net, some in units.items():
        off = ~np.any(np.asarray(net.value) > 0, axis=0)
        dead = sorted(unit for unit in some if off[unit])
        if dead:
            rows, listed = net.shape[0], ", ".join(map(str, dead[:10]))
            name = writer.names[net]
            found.append(f"dead unit {listed} of {name}: off on all {rows} samples")
    return found


# -- small and large --------------------------------------------------------------------------


def factors(writer: Writer, path: Path) -> list[Factor]:
    """The factors of a path other than 1, from the output down, with their decades."""
    found = [Factor(label(writer, hop) or "", hop.factor, hop) for hop in reversed(path.hops)]
    if path.end is not writer.flow.output:
        found.insert(0, Factor(writer.gradient_at(path.end, path.place), path.last, None))
    return [factor for factor in found if factor.value != 1]


def _decades(writer: Writer, tensor: Tensor, index: tuple[int, ...]) -> list[str]:
    """How many decades each link of the largest path takes or adds; they add up to the whole."""
    best = largest_paths(writer.flow, tensor, index, 1).largest
    if not best:
        return []
    path = best[0]
    parts = factors(writer, path)
    total = -math.log10(abs(path.contribution)) if path.contribution else math.inf
    verb = "loses" if total > 0 else "gains"
    rows = [
        f"the largest path is {decimal(path.contribution, 3)}: it {verb} {abs(total):.2f} decades"
        f" over {len(parts)} factors"
    ]
    ranked = sorted(parts, key=lambda f: -f.decades * math.copysign(1, total))
    rows += [
        f"{-f.decades:+.2f} decades   {f.label} = {decimal(f.value, 4)}{_saturation(writer, f)}"
        for f in ranked[:SHOWN]
    ]
    if len(ranked) > SHOWN:
        rest = sum(factor.decades for factor in ranked[SHOWN:])
        rows.append(f"{-rest:+.2f} decades   the other {len(ranked) - SHOWN} factors")
    return rows + _by_kind(parts)


def _saturation(writer: Writer, factor: Factor) -> str:
    hop = factor.hop
    if hop is None or hop.edge.node.op.name not in TRANSFER or abs(factor.value) > SATURATED:
        return ""
    name = writer.element(writer.names[hop.edge.source], hop.below)
    value = _value(hop.edge.source, hop.below)
    return f" ({hop.edge.node.op.name} is saturated at {name} = {decimal(value, 4)})"


def _by_kind(parts: list[Factor]) -> list[str]:
    """The decades of all slopes together, and of all that is multiplied."""
    slopes = [f for f in parts if f.hop is not None and f.hop.edge.node.op.name in TRANSFER]
    if not slopes or len(slopes) == len(parts):
        return []
    taken = sum(f.decades for f in slopes)
    other = sum(f.decades for f in parts) - taken
    return [
        f"slopes of transfer functions: {-taken:+.2f} decades; weights, inputs and the rest:"
        f" {-other:+.2f} decades"
    ]


# -- not a number -----------------------------------------------------------------------------


def _not_finite(writer: Writer) -> list[str]:
    """The first operation that made a NaN or an infinity, forward, else backward."""
    flow = writer.flow
    for node in flow.nodes:
        value = np.asarray(node.value)
        if value.dtype.kind != "f" or np.all(np.isfinite(value)):
            continue
        if node.op is None:
            return [f"{writer.names[node]} is given with {_first_bad(value)[1]} in it"]
        place, bad = _first_bad(value)
        return [f"the forward pass makes {bad} first in {_made(writer, node, place)}"]
    for node in reversed(flow.nodes):
        for edge in flow.sent.get(node, ()):
            contribution = np.asarray(edge.contribution)
            if not np.all(np.isfinite(contribution)):
                return [_bad_edge(writer, edge)]
    return []


def _first_bad(value: Any) -> tuple[tuple[int, ...], str]:
    bad = ~np.isfinite(value)
    place = tuple(int(i) for i in np.argwhere(bad)[0]) if bad.ndim else ()
    return place, f"{float(value[place]):g}"


def _made(writer: Writer, node: Tensor, place: tuple[int, ...]) -> str:
    """`log at n3[0,2], from x = 0 (file.py:12)`."""
    at = writer.element(writer.names[node], place)
    operands = []
    for source in node.inputs:
        if source.shape == node.shape:
            operands.append(f"{writer.names[source]} = {decimal(_value(source, place))}")
        elif source.size == 1:
            operands.append(f"{writer.names[source]} = {decimal(np.asarray(source.value).item())}")
        else:
            operands.append(f"{writer.names[source]} of shape {source.shape}")
    site = f" ({node.site})" if node.site else ""
    return f"{node.op.name}, at {at}, from {', '.join(operands)}{site}"


def _bad_edge(writer: Writer, edge: Edge) -> str:
    node = edge.node
    place, bad = _first_bad(np.asarray(edge.contribution))
    upstream = np.asarray(edge.upstream)
    local = np.asarray(edge.local) if edge.local is not None else None
    site = f" ({node.site})" if node.site else ""
    inner = writer.element(writer.names[edge.source], place)
    value = decimal(_value(edge.source, place))
    ratio = f"∂{writer.names[node]}/∂{writer.names[edge.source]}"
    numbers = ""
    if local is not None and upstream.shape == edge.source.shape:
        at = np.broadcast_to(local, upstream.shape)[place]
        numbers = f": local {decimal(at)} × upstream {decimal(upstream[place])}"
    return (
        f"the backward pass makes {bad} first on {ratio} of {node.op.name}, at {inner} ="
        f" {value}{numbers}{site}"
    )
