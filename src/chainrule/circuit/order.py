"""In which order the nodes of a circuit are visited."""

from __future__ import annotations

from operator import attrgetter

from .node import Tensor

_birth = attrgetter("serial")


def circuit_of(*outputs: Tensor, differentiable: bool = False) -> list[Tensor]:
    """Every node that the outputs depend on, themselves included, inputs before users.

    A node can only be made after its inputs and never changes them, so the order of birth is a
    topological order: collecting with a stack and sorting by serial number visits a shared node
    once and needs no recursion, however deep or wide the circuit is. With `differentiable=True`
    only the nodes that a gradient can reach.

    >>> import chainrule as cr
    >>> x = cr.tensor(3.0, name="x")
    >>> [node.label for node in circuit_of(x * x)]
    ['x', 'multiply']
    """
    seen = set(outputs)
    waiting = list(outputs)
    while waiting:
        for source in waiting.pop().inputs:
            if source not in seen and (source.requires_grad or not differentiable):
                seen.add(source)
                waiting.append(source)
    return sorted(seen, key=_birth)
