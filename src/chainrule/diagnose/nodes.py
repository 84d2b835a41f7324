"""A network's layers in its circuit, and the first node of it that is not finite.

A layer is a product with a parameter, whatever module it is written in; its net is what goes into
the transfer function behind it, or the network's output. The circuit is walked, not the modules.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..circuit import Parameter, Tensor, circuit_of
from ..explain.naming import TRANSFER

__all__ = ["NonFinite", "Place", "first_broken", "layer_of", "layers_of"]

Array = Any

PRODUCTS = frozenset({"matmul", "dot"})
VIEWS = frozenset({"transpose", "reshape"})
MOST = 400  # layers that are looked at: an unrolled network repeats itself


@dataclass(eq=False)
class Place:
    """A layer's nodes in one circuit."""

    weight: Parameter
    product: Tensor
    net: Tensor
    out: Tensor | None
    bias: Parameter | None
    left: bool  # W·x: the rows of X are columns in the product
    turned: bool  # and in the net

    def rows(self, value: Any) -> Array:
        """The net, or what has its shape, with a row for each row of X."""
        return np.swapaxes(value, -1, -2) if self.turned else np.asarray(value)

    @property
    def inputs(self) -> Array:
        """What the weight is multiplied with, row by row."""
        value = np.asarray(self.product.inputs[1 if self.left else 0].value)
        return np.swapaxes(value, -1, -2) if self.left else value

    @property
    def inputs_first(self) -> bool:
        """Whether the weight is stored as (inputs, units)."""
        node, other = self.product.inputs[0 if self.left else 1], not self.left
        while node is not self.weight:
            other ^= node.op.name == "transpose"
            node = node.inputs[0]
        return other


@dataclass(frozen=True)
class NonFinite:
    """The first number that is not finite: the operation that made it, from what, and where."""

    op: str
    layer: str
    row: int
    unit: int
    value: float
    operands: tuple[float, ...]


def layer_of(name: str) -> str:
    """The layer that a parameter of this name belongs to: itself, where no module holds it.

    >>> layer_of("2.weight"), layer_of("w")
    ('2', 'w')
    """
    return name.rpartition(".")[0] or name


def layers_of(out: Tensor, names: dict[Any, str]) -> list[Place]:
    """The products with a parameter on the way to the output, each with its transfer function."""
    nodes = circuit_of(out, differentiable=True)
    users: dict[Tensor, list[Tensor]] = {}
    for node in nodes:
        for source in node.inputs:
            users.setdefault(source, []).append(node)
    behind: dict[Tensor, Parameter] = {}  # what only a parameter goes into, through views
    for node in nodes:
        if isinstance(node, Parameter) and node in names:
            behind[node] = node
        elif len(node.inputs) == 1 and node.inputs[0] in behind:
            behind[node] = behind[node.inputs[0]]
    found: list[Place] = []
    for node in nodes:  # only now: a bias may come after the product that it is added to
        if node.op is not None and node.op.name in PRODUCTS and len(found) < MOST:
            weights = [behind[x] for x in node.inputs if x in behind]
            if len(weights) == 1 and len(node.shape) > 1:
                found.append(_place(weights[0], node, out, users, behind))
    return found


def _place(
    weight: Parameter,
    node: Tensor,
    out: Tensor,
    users: dict[Tensor, list[Tensor]],
    behind: dict[Tensor, Parameter],
) -> Place:
    """From a product to its net and on to what its transfer function makes of it."""
    left = node.inputs[0] in behind
    place = Place(weight, node, node, None, None, left, left)
    here, bare = node, True  # bare: nothing but a view of the product so far
    while here is not out:
        following = [u for u in users.get(here, []) if u.op is not None]
        if not following:
            break
        # A normalisation uses its input several times: what leads on is the last of them.
        here = following[-1]
        name = here.op.name
        if name == "add" and place.bias is None and bare:
            bias = [behind[x] for x in here.inputs if x in behind]
            place.bias = bias[0] if bias else None
        bare = bare and name in VIEWS
        if name in PRODUCTS:
            break
        if name in TRANSFER:
            place.out = here
            place.net = here.inputs[0]
            return place
        place.net = here
        place.turned ^= name == "transpose"
    return place  # linear: the next product takes the net as it is


def first_broken(
    end: Tensor, places: list[Place], names: dict[Any, str], start: int
) -> NonFinite | None:
    """The first node of the circuit that is not finite though all that goes into it is."""
    if np.isfinite(end.value).all() and all(np.isfinite(p.net.value).all() for p in places):
        return None
    layer = ""
    products = {p.product: layer_of(names[p.weight]) for p in places}
    for node in circuit_of(end):
        layer = products.get(node, layer)
        value = np.asarray(node.value)
        if value.dtype.kind != "f" or np.isfinite(value).all():
            continue
        place = tuple(int(k) for k in np.argwhere(~np.isfinite(value))[0])
        if node in names:  # no row of X brought it about
            module, unit = layer_of(names[node]), (*place, 0)[0]
            return NonFinite("parameter", module, start, unit, float(value[place]), ())
        operands = tuple(
            float(np.broadcast_to(np.asarray(x.value), value.shape)[place])
            for x in (() if node in products else node.inputs)
            if np.asarray(x.value).dtype.kind == "f" and _stretches(x.value, value.shape)
        )
        row = start + place[0] if place else start
        unit = place[-1] if len(place) > 1 else 0
        name = node.op.name if node.op is not None else "input"
        return NonFinite(name, layer, row, unit, float(value[place]), operands)
    return None


def _stretches(value: Any, shape: tuple[int, ...]) -> bool:
    try:
        return np.broadcast_shapes(np.shape(value), shape) == shape
    except ValueError:
        return False
