"""What a factor is and where its number comes from, in a few words."""

from __future__ import annotations

from ..circuit import Tensor
from ..gradient.backward import Edge
from ..ops.record import FLOWS
from .chain import Link, is_trivial
from .flow import Flow, factor
from .naming import TRANSFER, Names


def origin(link: Link, flow: Flow, names: Names) -> str:
    """Where the number of a factor is taken from, as a lecturer says it."""
    telling = [e for e in link.edges if not is_trivial(e)]
    if not telling:
        edge = link.edges[-1]
        factors = [_other(e, names) for e in link.edges if _is_product(e)]
        if not factors:
            return "passed on unchanged" if link.value == 1 else "a constant factor"
        return _operand(edge, link, names) if _is_product(edge) else "a constant factor"
    edge = telling[0]
    op = edge.node.op
    if link.above is flow.output and _is_loss(link, names):
        return "from the label and the output"
    if op.is_router:
        return _route(edge)
    if _is_product(edge):
        return _operand(edge, link, names)
    called = op.facts.symbol if op.name == "sigmoid" else op.name
    return f"the slope of {called}, from the forward pass"


def _is_loss(link: Link, names: Names) -> bool:
    """Whether the link leads from the output to the last layer's result."""
    below = link.below
    if link.edges[0].node.op.name in TRANSFER:
        return False
    return below.op is not None and (below in names.nets or below.op.name in TRANSFER)


def _is_product(edge: Edge) -> bool:
    return edge.node.op.name in ("multiply", "matmul") and len(edge.node.inputs) == 2


def _other(edge: Edge, names: Names) -> Tensor:
    return edge.node.inputs[1 - edge.position]


def _operand(edge: Edge, link: Link, names: Names) -> str:
    """The other input of a product: a weight on the way down, a layer's input at its end."""
    other = _other(edge, names)
    in_layer = link.above in names.nets
    if link.below.op is not None:
        return "the next layer's weight" if in_layer and other.is_leaf else "the other input"
    if not in_layer:
        return "the other input"
    return "the layer's input" + ("" if other.is_leaf else ", from the forward pass")


def _route(edge: Edge) -> str:
    share = float(factor(edge))
    if share == 1:
        return f"{edge.node.op.name} routes its gradient here"
    if share == 0:
        return f"{edge.node.op.name} routes nothing here"
    return f"{edge.node.op.name} shares its gradient: a tie"


def role(edge: Edge) -> str:
    """The part that a gate plays in the flow: `add is a distributor: …`.

    >>> import chainrule as cr
    >>> from chainrule.explain.flow import flow_of
    >>> x = cr.tensor(2.0)
    >>> role(flow_of(x + 1.0).received[x][0])
    'add is a distributor: hands its upstream gradient to every input unchanged'
    """
    op = edge.node.op
    return f"{op.name} is a {op.facts.flow}: {FLOWS[op.facts.flow]}"
