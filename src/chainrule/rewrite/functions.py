"""Rules about functions: |u|, exponentials, and what is written out under its name again."""

from __future__ import annotations

from collections.abc import Sequence

from ..circuit import Tensor
from ..circuit import vocabulary as ops
from .algebra import (
    Term,
    everywhere,
    factors,
    first,
    from_monomial,
    is_number,
    key,
    monomial,
    named,
    number,
    product,
    same,
    terms,
    total,
)
from .rules import applied, rule

__all__ = ["recognise"]


@rule("u·sign(u) = |u|", everywhere)
def _magnitude(node: Tensor) -> Tensor | None:
    """A number times its sign."""
    if not named(node, "multiply"):
        return None
    coefficient, above, below = factors(node)
    for one in above:
        if named(one, "sign"):
            for other in above:
                if same(one.inputs[0], other):
                    rest = [f for f in above if f is not one and f is not other]
                    return product(coefficient, [*rest, ops.abs(other)], below)
    return None


def _exponent(node: Tensor) -> Tensor | None:
    """u where the node is eᵘ; 0 for a number."""
    if named(node, "exp"):
        return node.inputs[0]
    return number(0) if is_number(node, 1) or is_number(node, -1) else None


def _lowered(node: Tensor, by: Tensor) -> Tensor | None:
    """A sum of numbers ±1 and exponentials, each divided by e^by; None for anything else."""
    out: list[Term] = []
    for sign, term in terms(node):
        exponent = _exponent(term)
        if exponent is None:
            return None
        left = applied("collect like terms", total([(1, exponent), (-1, by)]))
        out.append((sign, number(1) if is_number(left, 0) else ops.exp(left)))
    return total(out)


@rule("divide above and below by eˣ", first)
def _divide_by_exp(node: Tensor) -> Tensor | None:
    """A fraction of sums of exponentials, made symmetric or brought to a numerator of 1."""
    if not named(node, "divide"):
        return None
    above, below = node.inputs
    powers = [e for _, t in terms(below) if (e := _exponent(t)) is not None and e.inputs]
    powers += [t.inputs[0] for _, t in terms(below) if named(t, "exp")]
    if not powers:
        return None
    by = powers[0]
    coefficient, bases = monomial(by)
    if abs(coefficient) == 2:
        by = from_monomial(coefficient / 2, bases)
    new = _lowered(above, by), _lowered(below, by)
    return None if new[0] is None or new[1] is None else ops.divide(*new)


@rule("divide above and below by 2", first)
def _halves(node: Tensor) -> Tensor | None:
    """u/v = (u/2)/(v/2), where sums of exponentials become hyperbolic functions."""
    if not named(node, "divide") or not all(named(x, "add", "subtract") for x in node.inputs):
        return None
    return ops.divide(*[ops.divide(x, 2.0) for x in node.inputs])  # type: ignore[no-any-return]


def recognise(node: Tensor, forms: Sequence[tuple[Tensor, Tensor]]) -> Tensor | None:
    """The expression with every part that equals a form replaced by what it is a form of."""
    wanted = {key(form): gate for form, gate in forms}

    def change(one: Tensor) -> Tensor | None:
        if one.op is None or one.name:
            return None
        found = wanted.get(key(one))
        return found if found is not None and found is not one else None

    return everywhere(node, change)
