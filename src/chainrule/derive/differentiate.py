"""The rules of differentiation, one application at a time, from the outside in.

Every local derivative comes from its operation's record, run on symbols: there is no table of
derivatives here, only the names of the rules and what makes a line readable.
"""

from __future__ import annotations

from typing import Any

from ..circuit import Tensor
from ..circuit import vocabulary as ops
from ..errors import TraceError
from ..rewrite import applied
from ..rewrite.algebra import (
    everywhere,
    first,
    named,
    negated,
    number,
    over,
    reaches,
    terms,
    times,
    total,
    value_of,
)
from .symbols import PARTIAL, is_pending, pending, readable

_NAMES = {
    "reciprocal": "power rule",
    "square": "power rule",
    "sqrt": "power rule",
    "identity": "write it out",
    "integral": "fundamental theorem",
}


def step(line: Tensor) -> tuple[str, Tensor] | None:
    """The rule that the first pending derivative asks for, and the line after it; None at the end.

    >>> import chainrule as cr
    >>> from chainrule.notation import write
    >>> x = cr.tensor(2.0, name="x")
    >>> rule, line = step(pending(cr.sin(x * x), x))
    >>> rule, write(line)
    ('derivative of sin, chain rule', 'cos(x · x) · d/dx(x · x)')
    """
    names: list[str] = []

    def change(node: Tensor) -> Tensor | None:
        if not is_pending(node):
            return None
        u, x = node.inputs
        name, new = _carried_out(u, x, node.op is PARTIAL)
        names.append(name)
        return new

    new = first(line, change)
    return None if new is None else (names[0], new)


def local_of(node: Tensor, position: int) -> Tensor:
    """∂node/∂input from the record, in its textbook form, written in symbols."""
    facts = node.op.facts
    rules = facts.textbook or facts.local
    if not rules:
        raise TraceError(f"derive: {node.op.name} has no elementwise derivative to write down")
    rule = rules[position]
    local: Any = rule(*node.inputs, node, **node.params) if callable(rule) else rule
    if isinstance(local, Tensor) and local.dtype == bool:
        local = ops.where(local, 1.0, 0.0)
    made = local if isinstance(local, Tensor) else number(0 if local is None else local)
    return _tidy(made, node.inputs)


def _tidy(local: Tensor, operands: tuple[Tensor, ...]) -> Tensor:
    """u for u¹ and the square for u^2: how the record's formula is read, not what goes into it."""

    def change(node: Tensor) -> Tensor | None:
        if node in operands:
            return node
        if named(node, "power") and value_of(node.inputs[1]) == 1:
            return node.inputs[0]
        if named(node, "power") and value_of(node.inputs[1]) == 2:
            return ops.square(node.inputs[0])  # type: ignore[no-any-return]
        return None

    out = everywhere(local, change)
    return readable(local if out is None else out)


def _carried_out(u: Tensor, x: Tensor, partial: bool) -> tuple[str, Tensor]:
    """One rule applied to ∂u/∂x."""
    if u is x:
        return "the variable itself", number(1)
    if not reaches(u, x):
        return "constant rule", number(0)
    if u.op.facts.flow == "blocker":
        return "constant by parts, no gradient passes", number(0)
    name, moving = u.op.name, [k for k, source in enumerate(u.inputs) if reaches(source, x)]
    special = _SPECIAL.get(name)
    if special is not None:
        answer = special(u, x, partial, moving)
        if answer is not None:
            return answer
    parts = [_term(u, k, x, partial) for k in moving]
    return _named(u, moving, x), total((1, part) for part in parts)


def _inner(source: Tensor, x: Tensor, partial: bool) -> Tensor:
    return number(1) if source is x else pending(source, x, partial)


def _term(u: Tensor, position: int, x: Tensor, partial: bool) -> Tensor:
    """Local times what is still to be differentiated: the chain rule for one input."""
    return times([local_of(u, position), _inner(u.inputs[position], x, partial)])


def _named(u: Tensor, moving: list[int], x: Tensor) -> str:
    name = u.op.name
    plain = _NAMES.get(name)
    if name == "power":
        plain = "power and exponential rule"
        if len(moving) == 1:
            plain = "exponential rule" if moving[0] else "power rule"
    if plain is None:
        plain = {"exp": "exp rule", "log": "log rule"}.get(name, f"derivative of {u.op.name}")
    return plain + (", chain rule" if any(u.inputs[k] is not x for k in moving) else "")


def _product(u: Tensor, x: Tensor, partial: bool, moving: list[int]) -> tuple[str, Tensor] | None:
    """(ab)′ = a′b + ab′; a constant factor stays in front."""
    if len(moving) == 1:
        k = moving[0]
        return "constant factor", times([local_of(u, k), _inner(u.inputs[k], x, partial)])
    a, b = u.inputs
    left = times([_inner(a, x, partial), local_of(u, 0)])
    return "product rule", total([(1, left), (1, times([local_of(u, 1), _inner(b, x, partial)]))])


def _quotient(u: Tensor, x: Tensor, partial: bool, moving: list[int]) -> tuple[str, Tensor] | None:
    """(a/b)′ = (a′b − ab′)/b²: the record's two locals over one denominator."""
    a, b = u.inputs
    if moving == [0]:
        return "constant factor", over([_inner(a, x, partial)], [b])
    tail = applied("multiply out the signs and numbers", local_of(u, 1))
    second = times([tail, _inner(b, x, partial)])
    if moving == [1]:
        return ("power rule" if b is x else "power rule, chain rule"), second
    one = times([local_of(u, 0), _inner(a, x, partial)])
    return "quotient rule", applied("common denominator", total([(1, one), (1, second)]))


def _sign(u: Tensor, x: Tensor, partial: bool, moving: list[int]) -> tuple[str, Tensor] | None:
    return "constant factor", negated(_inner(u.inputs[0], x, partial))


def _plain_sum(u: Tensor, x: Tensor, partial: bool, moving: list[int]) -> tuple[str, Tensor] | None:
    if u.op.name == "series":
        return "sum rule", total((1, _inner(u.inputs[k], x, partial)) for k in moving)
    every = terms(u)
    kept = [(sign, one) for sign, one in every if reaches(one, x)]
    rule = "sum rule" if len(kept) == len(every) else "sum rule, constants drop out"
    return rule, total((sign, _inner(one, x, partial)) for sign, one in kept)


_SPECIAL = {
    "multiply": _product,
    "divide": _quotient,
    "negative": _sign,
    "add": _plain_sum,
    "subtract": _plain_sum,
    "series": _plain_sum,
}
