"""One element of a gradient, unfolded into scalars: by sample and by path, the largest first."""

from __future__ import annotations

import math

import numpy as np

from ..circuit import Tensor
from .naming import TRANSFER
from .numbers import agreeing
from .paths import Hop, Index, Path, Paths, Shares, largest_paths, shares
from .writer import Block, Equation, Writer

SHOWN = 6  # contributions and paths that are printed one by one


def unfolded_blocks(writer: Writer, tensor: Tensor, index: Index) -> list[Block]:
    """The element's contributions by sample, then by path, each list with the sum of its rest."""
    found = []
    spread = shares(writer.flow, tensor, index)
    title = f"{writer.names[writer.flow.output]} by {_at(writer.names[tensor], index)}"
    if spread is not None:
        found.append(_by_sample(writer, tensor, index, spread, title))
        title = "by path"
    paths = largest_paths(writer.flow, tensor, index, SHOWN)
    found.append(path_block(writer, tensor, index, paths, title))
    return found


def _by_sample(writer: Writer, tensor: Tensor, index: Index, spread: Shares, title: str) -> Block:
    values = spread.contributions
    order = np.argsort(-np.abs(values), kind="stable")
    block = Block(title)
    for k in order[:SHOWN].tolist():
        hop = Hop(spread.edge, spread.below, spread.places[k], float(spread.factors[k]))
        names, numbers = (
            [_gradient_at(writer, hop.edge.node, hop.above)],
            [float(spread.upstream[k])],
        )
        if other := label(writer, hop):
            names.append(other)
            numbers.append(hop.factor)
        block.equations.append(
            _product(writer, names, numbers, float(values[k]), _sample(spread.places[k]))
        )
    shown, rest = values[order[:SHOWN]].tolist(), values[order[SHOWN:]]
    left = writer.gradient_at(tensor, index)
    gradient = float(np.asarray(writer.flow.gradients[tensor])[index])
    block.equations.append(_total(writer, left, shown, math.fsum(rest), len(rest), gradient))
    return block


def path_block(
    writer: Writer, tensor: Tensor, index: Index, paths: Paths, title: str = ""
) -> Block:
    """The largest paths as products, and the sum with the rest."""
    block = Block(title)
    for path in paths.largest:
        block.equations.append(_path(writer, path))
    left = writer.gradient_at(tensor, index)
    shown = [path.contribution for path in paths.largest]
    count = 0 if paths.complete else -1
    block.equations.append(_total(writer, left, shown, paths.rest, count, paths.gradient))
    if not paths.sure:
        block.sentences.append("the search ended at its budget: a larger path may be in the rest")
    return block


def _path(writer: Writer, path: Path) -> Equation:
    names, numbers = [], []
    for hop in reversed(path.hops):
        if other := label(writer, hop):
            names.append(other)
            numbers.append(hop.factor)
    if path.end is not writer.flow.output:
        names.insert(0, _gradient_at(writer, path.end, path.place))
        numbers.insert(0, path.last)
    sample = _sample(path.place) if path.place else ""
    if not names:
        names, numbers = ["1"], [path.contribution]
    return _product(writer, names, numbers, path.contribution, sample)


def _product(
    writer: Writer, names: list[str], numbers: list[float], result: float, remark: str
) -> Equation:
    symbols = writer.dot.join(names[:12]) + ("" if len(names) <= 12 else writer.dot + "…")
    if len(numbers) > 12:
        numbers = [*numbers[:11], math.prod(numbers[11:])]
    texts, sign, total = agreeing(numbers, result, writer.decimals, math.prod)
    rights = [writer.product(texts), writer.digits(total)]
    return Equation(symbols, tuple(rights[len(texts) == 1 :]), remark, sign)


def _total(
    writer: Writer, left: str, shown: list[float], rest: float, count: int, gradient: float
) -> Equation:
    parts = [*shown, rest] if count else shown
    texts, sign, total = agreeing(parts, gradient, writer.decimals, math.fsum)
    if count == 0:
        remark = "all of them"
    elif count > 0:
        remark = f"the last number is the sum of the other {count}"
    else:
        remark = "the last number is the sum of all other paths"
    terms = writer.sum([writer.digits(t) for t in texts]) if texts else "0"
    return Equation(left, (terms, writer.digits(total)), remark, sign)


# -- what a factor is called ------------------------------------------------------------------


def label(writer: Writer, hop: Hop) -> str:
    """The other factor of a product with its index, a slope at an element, or nothing for 1."""
    node = hop.edge.node
    op = node.op
    if op.facts.index is not None and op.facts.index.combine == "sum":
        others = _other_factors(hop)
        return writer.dot.join(_element(writer, t, i) for t, i in others)
    if hop.factor == 1 and not callable(_local(hop)):
        return ""
    below = hop.edge.source
    if op.name in TRANSFER:
        inner = _element(writer, below, hop.below)
        if writer.style == "text":
            return f"{op.facts.symbol}′({inner})"
        word = op.name.replace("_", " ")
        name = r"\sigma" if op.facts.symbol == "σ" else rf"\operatorname{{{word}}}"
        return rf"{name}'\left({inner}\right)"
    if op.name == "multiply":
        other = 1 - hop.edge.position
        return _element(writer, node.inputs[other], _broadcast(hop.above, node.inputs[other]))
    return writer.fraction(_element(writer, node, hop.above), _element(writer, below, hop.below))


def _local(hop: Hop) -> object:
    locals_ = hop.edge.node.op.locals
    return locals_[hop.edge.position] if locals_ else None


def _other_factors(hop: Hop) -> list[tuple[Tensor, Index]]:
    """The factors that the index form names beside the element itself."""
    node, position = hop.edge.node, hop.edge.position
    shapes = [x.shape for x in node.inputs]
    if len(shapes) == 1:  # the index form of a mover or a sum has one factor only, the element
        return []
    terms = node.op.facts.index.terms(hop.above, shapes, node.params)
    for term in terms:
        if (position, hop.below) in term:
            return [(node.inputs[p], i) for p, i in term if (p, i) != (position, hop.below)]
    return []


def _broadcast(above: Index, operand: Tensor) -> Index:
    own = above[len(above) - operand.ndim :] if operand.ndim else ()
    return tuple(0 if n == 1 else i for i, n in zip(own, operand.shape, strict=True))


def _element(writer: Writer, node: Tensor, index: Index) -> str:
    """`W2[0,3]`: a tensor's name with the index; a moved element under its own tensor's name."""
    while node.op is not None and node.op.facts.flow == "mover" and node not in writer.names.given:
        terms = node.op.facts.index.terms(index, [x.shape for x in node.inputs], node.params)
        if len(terms) != 1:
            break
        position, index = terms[0][0]
        node = node.inputs[position]
    return writer.element(writer.names[node], index)


def _gradient_at(writer: Writer, node: Tensor, place: Index) -> str:
    """δ1[5,2], or ∂L/∂name[5,2]; a matrix product goes by the net that its bias makes of it."""
    named = node
    while named not in writer.names.given and len(writer.flow.received[named]) == 1:
        (edge,) = writer.flow.received[named]
        if edge.node.op.name != "add" or edge.node.shape != named.shape:
            break
        named = edge.node
    if named not in writer.names.nets:
        return writer.gradient_at(node, place)
    inside = ",".join(map(str, place))
    if writer.style == "text":
        return f"{writer.names.delta(named)}[{inside}]" if place else writer.names.delta(named)
    delta = writer.delta(named)
    return f"{{{delta}}}[{inside}]" if place else delta


def _sample(place: Index) -> str:
    return f"sample {place[0]}" if len(place) > 1 else f"element {place[0]}" if place else ""


def _at(name: str, index: Index) -> str:
    return f"{name}[{','.join(map(str, index))}]" if index else name
