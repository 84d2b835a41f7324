"""The δ form: δ = ∂E/∂net of each unit, from the output back, as the notes write it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..circuit import Tensor
from ..gradient.backward import Edge
from .chain import Link, link_of, links_of
from .flow import Flow, factor
from .naming import Names
from .numbers import agreeing, scalar
from .writer import Block, Equation, Writer, factor_brackets


@dataclass(frozen=True)
class Share:
    """What one unit above sends to an output below: δ of its net times the weight between."""

    net: Tensor
    link: Link


def delta_block(writer: Writer, tensor: Tensor, most: int = 24) -> Block | None:
    """∂E/∂w = δ · input, then each δ it rests on; None where no net lies on the way.

    δ_j = h′(net_j) · Σₖ δₖ w_kj for a hidden unit; ∂E/∂out · h′(net) at the output.
    """
    flow, names = writer.flow, writer.names
    if not names.nets:
        return None
    starts = [_to_net(flow, names, edge) for edge in flow.received[tensor]]
    shares = [share for share in starts if share is not None]
    if not shares or len(shares) < len(starts) or len(shares) > most:
        return None
    block = Block("δ form")
    block.equations.append(_sum_of_shares(writer, writer.gradient(tensor), shares, tensor))
    waiting = list(dict.fromkeys(share.net for share in shares))
    done = set(waiting)
    for net in waiting:  # grows while it is walked
        equation, above = _delta(writer, net)
        block.equations.append(equation)
        fresh = [n for n in above if n not in done]
        if len(done) + len(fresh) > most:
            block.sentences.append("… and so on up to the output")
            break
        done |= set(fresh)
        waiting += fresh
    return block


def _to_net(flow: Flow, names: Names, edge: Edge) -> Share | None:
    """The way from an edge up to the nearest net, if nothing branches before it."""
    edges = [edge]
    while edge.node not in names.nets:
        received = flow.received[edge.node]
        if edge.node is flow.output or len(received) != 1:
            return None
        (edge,) = received
        edges.append(edge)
    return Share(edge.node, link_of(edges[::-1]))


def _sum_of_shares(writer: Writer, left: str, shares: list[Share], tensor: Tensor) -> Equation:
    symbols = writer.sum([_share_symbols(writer, share) for share in shares])
    values = [_share_values(writer.flow, share) for share in shares]
    result = scalar(writer.flow.gradients[tensor])
    products, sign, total = _products(writer, values, result)
    return Equation(left, (symbols, products, total), sign=sign)


def _share_symbols(writer: Writer, share: Share) -> str:
    formula = factor_brackets(writer.formula(share.link), writer.style)
    delta = writer.delta(share.net)
    return writer.dot.join([delta, formula]) if formula else delta


def _share_values(flow: Flow, share: Share) -> list[float]:
    return [scalar(flow.gradients[share.net]), share.link.value]


def _products(writer: Writer, values: list[list[float]], result: float) -> tuple[str, str, str]:
    """Σ of products of two numbers each, to enough decimals that it can be read back."""
    flat = [x for pair in values for x in pair]

    def read(numbers: list[float]) -> float:
        return math.fsum(a * b for a, b in zip(numbers[::2], numbers[1::2], strict=True))

    texts, sign, total = agreeing(flat, result, writer.decimals, read)
    pairs = [writer.product(pair) for pair in zip(texts[::2], texts[1::2], strict=True)]
    return " + ".join(pairs), sign, writer.digits(total)


def _delta(writer: Writer, net: Tensor) -> tuple[Equation, list[Tensor]]:
    """The equation of a δ, and the nets that it rests on."""
    flow, names = writer.flow, writer.names
    received = flow.received[net]
    left = writer.delta(net)
    if net is flow.output or len(received) != 1:
        return _plain(writer, net, left), []
    (slope,) = received
    out = slope.node
    shares = [_to_net(flow, names, edge) for edge in flow.received[out]]
    known = [share for share in shares if share is not None]
    if out is flow.output or not known or len(known) < len(shares):
        return _at_output(writer, net, left), []
    symbols = writer.sum([_share_symbols(writer, share) for share in known])
    local = factor_brackets(writer.formula(link_of([slope])), writer.style) or writer.number(
        float(factor(slope))
    )
    values = [_share_values(flow, share) for share in known]
    sums, sign, total = _products(writer, values, scalar(flow.gradients[out]))
    open_, close = (r"\left(", r"\right)") if writer.style == "latex" else ("(", ")")
    texts, sign, total = agreeing(
        [scalar(flow.gradients[out]), float(factor(slope))],
        scalar(flow.gradients[net]), writer.decimals, math.prod,
    )  # fmt: skip
    rights = (
        f"{open_}{symbols}{close}{writer.dot}{local}",
        f"{open_}{sums}{close}{writer.times}{writer.digits(texts[1])}",
        writer.product(texts),
        writer.digits(total),
    )
    return Equation(left, rights, sign=sign), [share.net for share in known]


def _plain(writer: Writer, net: Tensor, left: str) -> Equation:
    value = writer.number(scalar(writer.flow.gradients[net]))
    return Equation(left, (writer.gradient(net), value))


def _at_output(writer: Writer, net: Tensor, left: str) -> Equation:
    """∂E/∂out · h′(net) for a unit of the last layer."""
    flow = writer.flow
    (slope,) = flow.received[net]
    if slope.node is flow.output:
        return _plain(writer, net, left)
    upstream, local = scalar(flow.gradients[slope.node]), float(factor(slope))
    texts, sign, total = agreeing(
        [upstream, local], scalar(flow.gradients[net]), writer.decimals, math.prod
    )
    links = next(iter(links_of([slope], writer.names)))
    symbols = writer.dot.join([writer.gradient(slope.node), writer.ratio(links.above, links.below)])
    return Equation(left, (symbols, writer.product(texts), writer.digits(total)), sign=sign)
