"""Algebra by name: each rule turns an expression into an equal one, or finds nothing to do.

A derivation applies them one at a time, a line each; no rule knows what it is used for.

>>> import chainrule as cr
>>> x = cr.tensor(0.5, name="x")
>>> e = cr.exp(-x)
>>> new = RULES["add and subtract 1"](e / (1 + e))
>>> [node.label for node in circuit_of(new) if node.op]
['negative', 'exp', 'add', 'add', 'subtract', 'divide']
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction

from ..circuit import Tensor, circuit_of
from ..circuit import vocabulary as ops
from .algebra import (
    Change,
    Key,
    Term,
    again,
    everywhere,
    factors,
    first,
    from_monomial,
    is_number,
    key,
    monomial,
    named,
    negated,
    number,
    over,
    power_of,
    powered,
    product,
    same,
    terms,
    times,
    total,
)

__all__ = ["RULES", "circuit_of", "recognise"]

Rule = Callable[[Tensor], Tensor | None]
RULES: dict[str, Rule] = {}


def _rule(name: str, reach: Callable[[Tensor, Change], Tensor | None] | None = None) -> object:
    """Enter a rule; `reach` says where it looks (the whole expression only, if nothing is said)."""

    def enter(change: Change) -> Change:
        def apply(node: Tensor) -> Tensor | None:
            new = reach(node, change) if reach else change(node)
            return None if new is node else new

        apply.__doc__ = change.__doc__
        RULES[name] = apply
        return change

    return enter


def _is_product(node: Tensor) -> bool:
    return named(node, "multiply", "divide", "negative", "reciprocal")


@_rule("1/u = u⁻¹", first)  # type: ignore[operator, untyped-decorator]
def _as_power(node: Tensor) -> Tensor | None:
    """A reciprocal as a power, for the power rule."""
    if named(node, "reciprocal"):
        return ops.power(node.inputs[0], -1.0)  # type: ignore[no-any-return]
    if named(node, "divide") and is_number(node.inputs[0], 1):
        return ops.power(node.inputs[1], -1.0)  # type: ignore[no-any-return]
    return None
