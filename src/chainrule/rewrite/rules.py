"""Algebra by name: each rule turns an expression into an equal one, or finds nothing to do.

A derivation applies them one at a time, a line each; no rule knows what it is used for.

>>> import chainrule as cr
>>> from chainrule.notation import write
>>> x = cr.tensor(0.5, name="x")
>>> write(RULES["add and subtract 1"](cr.exp(-x) / (1 + cr.exp(-x))))
'(1 + exp(−x) − 1) / (1 + exp(−x))'
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

from ..circuit import Tensor
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

__all__ = ["RULES", "Rule", "applied", "rule"]

Rule = Callable[[Tensor], Tensor | None]
RULES: dict[str, Rule] = {}

_ONE = Fraction(1)


def rule(
    name: str, reach: Callable[[Tensor, Change], Tensor | None] | None = None
) -> Callable[[Change], Change]:
    """Enter a rule; `reach` says where it looks: at the whole expression if nothing is said."""

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


def _is_sum(node: Tensor) -> bool:
    return named(node, "add", "subtract")


def applied(name: str, node: Tensor) -> Tensor:
    """The expression after a rule, or as it was where the rule finds nothing to do."""
    new = RULES[name](node)
    return node if new is None else new


# -- products and powers ----------------------------------------------------------------------


@rule("1/u = u⁻¹", first)
def _as_power(node: Tensor) -> Tensor | None:
    """A reciprocal as a power, for the power rule."""
    if named(node, "reciprocal"):
        return ops.power(node.inputs[0], -1.0)  # type: ignore[no-any-return]
    if named(node, "divide") and is_number(node.inputs[0], 1):
        return ops.power(node.inputs[1], -1.0)  # type: ignore[no-any-return]
    return None


@rule("√u = u^½", first)
def _root_as_power(node: Tensor) -> Tensor | None:
    """A root as a power, for the power rule."""
    return ops.power(node.inputs[0], 0.5) if named(node, "sqrt") else None


@rule("u^½ = √u", everywhere)
def _power_as_root(node: Tensor) -> Tensor | None:
    """Powers of ½ and −½ as roots."""
    if named(node, "power") and is_number(node.inputs[1], 0.5):
        return ops.sqrt(node.inputs[0])  # type: ignore[no-any-return]
    if named(node, "power") and is_number(node.inputs[1], -0.5):
        return ops.reciprocal(ops.sqrt(node.inputs[0]))  # type: ignore[no-any-return]
    return None


@rule("multiply out the signs and numbers", everywhere)
def _numbers(node: Tensor) -> Tensor | None:
    """Every product with one sign before it and one number at its head."""
    if not _is_product(node):
        return None
    coefficient, above, below = factors(node)
    name = "multiply out the signs and numbers"
    above, below = ([applied(name, f) for f in side] for side in (above, below))
    new = product(coefficient, above, below)
    return node if _alike(new, node) else new


def _alike(a: Tensor, b: Tensor) -> bool:
    """Whether two expressions are written alike, order and all."""
    if a is b:
        return True
    if a.op is not b.op or len(a.inputs) != len(b.inputs):
        return False
    if not a.inputs:
        return key(a) == key(b)
    return all(_alike(x, y) for x, y in zip(a.inputs, b.inputs, strict=True))


@rule("u⁻ⁿ = 1/uⁿ", everywhere)
def _negative_powers(node: Tensor) -> Tensor | None:
    """Negative powers of a product below the line."""
    if not _is_product(node) and not named(node, "power"):
        return None
    coefficient, above, below = factors(node)
    split = [power_of(f) for f in above]
    if all(n > 0 for _, n in split):
        return None
    top = [f for f, (_, n) in zip(above, split, strict=True) if n > 0]
    bottom = [powered(base, -n) for base, n in split if n < 0]
    return product(coefficient, top, [*bottom, *below])


@rule("u·u = u²", everywhere)
def _squares(node: Tensor) -> Tensor | None:
    """Equal factors above the line as a power, and below it as another."""
    if not _is_product(node):
        return None
    coefficient, above, below = factors(node)
    above, below = ([applied("u·u = u²", f) for f in side] for side in (above, below))
    return product(coefficient, _gathered(above), _gathered(below))


def _gathered(side: Sequence[Tensor]) -> list[Tensor]:
    return [powered(base, n) for base, n in monomial(times(side))[1]] if len(side) > 1 else [*side]


@rule("u²/v² = (u/v)²", first)
def _square_of_fraction(node: Tensor) -> Tensor | None:
    """A fraction of squares as the square of a fraction."""
    if not named(node, "divide"):
        return None
    (a, n), (b, m) = (power_of(x) for x in node.inputs)
    return powered(over([a], [b]), n) if n == m and n > 1 else None


@rule("cancel", everywhere)
def _cancel(node: Tensor) -> Tensor | None:
    """Factors that stand above and below the line."""
    if not named(node, "divide"):
        return None
    coefficient, above, below = factors(node)
    bases = {key(power_of(f)[0]) for f in above} & {key(power_of(f)[0]) for f in below}
    if not bases:
        return None
    left = from_monomial(*monomial(over(above, below)))
    return product(coefficient, *factors(left)[1:])


@rule("collect the factors", everywhere)
def _collect(node: Tensor) -> Tensor | None:
    """A product with its number first, plain powers next, each base once."""
    if not _is_product(node):
        return None
    coefficient, powers = monomial(node)
    inner = [(applied("collect the factors", base), n) for base, n in powers]
    new = from_monomial(coefficient, sorted(inner, key=lambda f: len(f[0].inputs) > 0))
    return node if _alike(new, node) else new


# -- fractions --------------------------------------------------------------------------------


@rule("split into a product of two fractions")
def _split_product(node: Tensor) -> Tensor | None:
    """a·b/u² = a/u · b/u, with a = 1 where only one factor stands above."""
    coefficient, above, below = factors(node)
    doubled = [power_of(f) for f in below]
    if len(doubled) != 1 or doubled[0][1] != 2 or not above:
        return None
    base = doubled[0][0]
    plain = [f for f in above if f.op is None]  # single letters stay in front
    above = [f for f in above if f.op is not None]
    head, rest = (above[:1], above[1:]) if len(above) > 1 else ([], above)
    pair = [over(head or [number(1)], [base]), over(rest, [base])]
    return product(coefficient, [*plain, *pair], [])


@rule("add and subtract 1", first)
def _add_and_subtract(node: Tensor) -> Tensor | None:
    """u/(1 + u) = (1 + u − 1)/(1 + u)."""
    if not named(node, "divide"):
        return None
    above, below = node.inputs
    ones = [(s, t) for s, t in terms(below) if is_number(t, 1)]
    rest = total((s, t) for s, t in terms(below) if not is_number(t, 1))
    if len(ones) != 1 or ones[0][0] != 1 or not same(rest, above):
        return None
    return ops.divide(ops.subtract(below, 1.0), below)  # type: ignore[no-any-return]


@rule("split the fraction", first)
def _split_fraction(node: Tensor) -> Tensor | None:
    """(u ± v)/w = u/w ± v/w."""
    if not named(node, "divide") or not _is_sum(node.inputs[0]):
        return None
    above, below = node.inputs
    return again(above, [ops.divide(x, below) for x in above.inputs])


@rule("u/u = 1", everywhere)
def _whole(node: Tensor) -> Tensor | None:
    """A fraction of equals."""
    return number(1) if named(node, "divide") and same(*node.inputs) else None


@rule("common denominator")
def _common_denominator(node: Tensor) -> Tensor | None:
    """A sum of fractions as one fraction."""
    parts = [(sign, *monomial(term)) for sign, term in terms(node)]
    if len(parts) < 2:
        return None
    depth: dict[Key, tuple[Tensor, Fraction]] = {}
    for _, _, powers in parts:
        for base, n in powers:
            if n < 0 and -n > depth.get(key(base), (base, Fraction(0)))[1]:
                depth[key(base)] = (base, -n)
    if not depth:
        return None
    tops: list[Term] = []
    for sign, coefficient, powers in parts:
        missing = {key(base): (base, n) for base, n in depth.values()}
        for base, n in powers:
            if key(base) in missing:
                missing[key(base)] = (base, missing[key(base)][1] + n)
        above = [(base, n) for base, n in powers if n > 0 and key(base) not in depth]
        left = [(base, n) for base, n in missing.values() if n]
        tops.append((sign, from_monomial(coefficient, [*above, *left])))
    return over([total(tops)], [powered(base, n) for base, n in depth.values()])


# -- sums -------------------------------------------------------------------------------------


@rule("factor out")
def _factor_out(node: Tensor) -> Tensor | None:
    """ab + ac = a(b + c)."""
    if not _is_sum(node):
        return _inside_fraction(node, _factor_out)
    parts = [(sign, *monomial(term)) for sign, term in terms(node)]
    shared = [
        (base, min(dict_[key(base)] for dict_ in _exponents(parts)))
        for base, _ in parts[0][2]
        if all(key(base) in dict_ for dict_ in _exponents(parts))
    ]
    shared = [(base, n) for base, n in shared if n > 0]
    if not shared:
        return None
    gone = {key(base): n for base, n in shared}
    rest = [
        (
            sign,
            from_monomial(
                c, [(b, n - gone.get(key(b), 0)) for b, n in powers if n != gone.get(key(b))]
            ),
        )
        for sign, c, powers in parts
    ]
    return times([from_monomial(_ONE, shared), total(rest)])


def _exponents(parts: Sequence[tuple[int, Fraction, Any]]) -> list[dict[Key, Fraction]]:
    return [{key(base): n for base, n in powers} for _, _, powers in parts]


def _inside_fraction(node: Tensor, rule: Rule) -> Tensor | None:
    """A rule for sums applied above the line."""
    if named(node, "divide") and _is_sum(node.inputs[0]):
        new = rule(node.inputs[0])
        return None if new is None else over([new], [node.inputs[1]])
    return None


@rule("multiply out")
def _multiply_out(node: Tensor) -> Tensor | None:
    """a(b + c) = ab + ac, all the way, above the line too."""
    if named(node, "divide"):
        above = total(_expanded(node.inputs[0]))
        return None if _alike(above, node.inputs[0]) else over([above], [node.inputs[1]])
    new = total(_expanded(node))
    return None if _alike(new, node) else new


def _expanded(node: Tensor) -> list[Term]:
    """The terms of an expression without brackets."""
    found: list[Term] = []
    for sign, term in terms(node):
        coefficient, above, below = factors(term)
        rows: list[tuple[int, list[Tensor]]] = [(sign, [])]
        for factor in above:
            inner = _expanded(factor) if _is_sum(factor) else [(1, factor)]
            rows = [(s * t, [*done, one]) for s, done in rows for t, one in inner]
        found += [(s, product(coefficient, row, below)) for s, row in rows]
    return found


@rule("collect like terms", everywhere)
def _like_terms(node: Tensor) -> Tensor | None:
    """2u + 3u = 5u and u − u = 0."""
    if not _is_sum(node):
        return None
    found: dict[Key, tuple[Fraction, Tensor]] = {}
    count = 0
    for sign, term in terms(node):
        coefficient, powers = monomial(term)
        rest = from_monomial(_ONE, powers)
        before = found.get(key(rest), (Fraction(0), rest))
        found[key(rest)] = (before[0] + sign * coefficient, before[1])
        count += 1
    if len(found) == count:
        return None
    left = sorted(((c, rest) for c, rest in found.values() if c), key=lambda pair: pair[0] < 0)
    return total((1 if c > 0 else -1, product(abs(c), *factors(rest)[1:])) for c, rest in left)
