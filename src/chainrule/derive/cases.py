"""A function with corners, case by case: selections decided one way and the other."""

from __future__ import annotations

from collections.abc import Iterator

from ..circuit import Tensor, circuit_of
from ..circuit import vocabulary as ops
from ..rewrite.algebra import everywhere, key, named
from .derivation import Condition
from .symbols import is_pending

DEEPEST = 4  # selections that are decided; beyond, the rest keeps its `where`


def opened_selections(node: Tensor, magnitudes: bool) -> Tensor | None:
    """max, min, and the gates that select, written with `where`; |u| too, if asked for.

    >>> import chainrule as cr
    >>> from chainrule.notation import write
    >>> write(opened_selections(cr.relu(cr.tensor(0.5, name="x")), True))
    'where(x > 0, x, 0)'
    """

    def change(one: Tensor) -> Tensor | None:
        if one.op is None or one.name:
            return None
        if one.op.name == "abs" and magnitudes:
            (u,) = one.inputs
            return ops.where(ops.greater(u, 0.0), u, ops.negative(u))  # type: ignore[no-any-return]
        if one.op.name in ("maximum", "minimum"):
            a, b = (_opened(x, magnitudes) for x in one.inputs)
            wins = ops.greater(a, b) if one.op.name == "maximum" else ops.less(a, b)
            return ops.where(wins, a, b)  # type: ignore[no-any-return]
        if one.op.is_gate and one.op.facts.kinks:
            return _opened(one.op.facts.definition(*one.inputs, **one.params), magnitudes)
        return None

    return everywhere(node, change)


def _opened(node: Tensor, magnitudes: bool) -> Tensor:
    new = opened_selections(node, magnitudes)
    return node if new is None else new


def cases(node: Tensor) -> Iterator[tuple[tuple[Condition, ...], Tensor]]:
    """Each combination of decided selections, and the expression that is left under it."""
    waiting: list[tuple[tuple[Condition, ...], Tensor]] = [((), node)]
    while waiting:
        known, one = waiting.pop()
        condition = _first_condition(one)
        if condition is None or len(known) >= DEEPEST:
            yield known, one
            continue
        waiting += [
            ((*known, (condition, holds)), decided(one, condition, holds))
            for holds in (False, True)
        ]


def _first_condition(node: Tensor) -> Tensor | None:
    """The condition of the outermost selection that is itself free of selections."""
    for one in reversed(circuit_of(node)):
        if named(one, "where") and one.inputs[0].op is not None and not selects(one.inputs[0]):
            return one.inputs[0]
    return None


def decided(node: Tensor, condition: Tensor, holds: bool) -> Tensor:
    """The expression where this comparison is known to hold, or to fail."""
    label = key(condition)

    def change(one: Tensor) -> Tensor | None:
        if named(one, "where") and key(one.inputs[0]) == label:
            return decided(one.inputs[1 if holds else 2], condition, holds)
        return None

    out = everywhere(node, change)
    return node if out is None else out


def selects(node: Tensor) -> bool:
    """Whether a selection that depends on a variable is left in the expression."""
    return any(
        named(one, "where") and one.inputs[0].op is not None and not is_pending(one)
        for one in circuit_of(node)
    )
