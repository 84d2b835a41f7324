"""Sums, products and powers seen through: what the named rules of algebra are written in.

Expressions are circuits of scalars. A product is taken apart into an exact coefficient and factors
with exponents, a sum into signed terms; `key` is equal for expressions that differ only in order
and spelling (`1/u`, `u⁻¹`; `u·u`, `u²`).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from fractions import Fraction
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from ..circuit import Tensor
from ..circuit import vocabulary as ops

Key = Hashable
Factor = tuple[Tensor, Fraction]  # a base and its exponent
Term = tuple[int, Tensor]  # a sign and what it stands before

NICE = 1024  # the largest denominator that is calculated with; other numbers stay as written


def number(value: float | Fraction) -> Tensor:
    """A number as a constant of an expression."""
    return Tensor(float(value), requires_grad=False)


def fraction(value: Fraction) -> Tensor:
    """A quotient of whole numbers, kept as one where a float would round it."""
    if (value.denominator & (value.denominator - 1)) == 0:
        return number(value)
    below = Tensor(float(value.denominator), requires_grad=True)  # recorded, so never rounded
    return ops.divide(number(value.numerator), below)  # type: ignore[no-any-return]


def value_of(node: Tensor) -> Fraction | None:
    """The exact value of a plain number, or None where it is a symbol or not calculated with."""
    if node.op is not None or node.name or node.size != 1:
        return None
    value = float(np.asarray(node.value).item())
    if not np.isfinite(value):
        return None
    exact = Fraction(value)
    return exact if exact.denominator <= NICE else None


def is_number(node: Tensor, value: float) -> bool:
    """Whether the node is this plain number."""
    return value_of(node) == value


def named(node: Tensor, *names: str) -> bool:
    """Whether the node is one of these operations, written out (a node with a name is a symbol)."""
    return node.op is not None and not node.name and node.op.name in names


# -- making expressions -----------------------------------------------------------------------


def negated(node: Tensor) -> Tensor:
    """−u, without a double sign."""
    if (value := value_of(node)) is not None:
        return number(-value)
    return node.inputs[0] if named(node, "negative") else ops.negative(node)


def times(factors: Sequence[Tensor]) -> Tensor:
    """The product in this order, without factors of 1; 0 where one of them is 0."""
    kept = [f for f in factors if not is_number(f, 1)]
    if any(is_number(f, 0) for f in kept):
        return number(0)
    if not kept:
        return number(1)
    out = kept[0]
    for factor in kept[1:]:
        out = ops.multiply(out, factor)
    return out


def over(above: Sequence[Tensor], below: Sequence[Tensor]) -> Tensor:
    """The fraction of two products; the product alone where nothing stands below."""
    top, bottom = times(above), times(below)
    p, q = value_of(top), value_of(bottom)
    if p is not None and q:
        return fraction(p / q)
    return top if is_number(bottom, 1) or is_number(top, 0) else ops.divide(top, bottom)


def total(terms: Iterable[Term]) -> Tensor:
    """The signed sum in this order, without terms of 0."""
    out: Tensor | None = None
    for sign, term in terms:
        if is_number(term, 0):
            continue
        if named(term, "negative"):
            sign, term = -sign, term.inputs[0]
        elif (value := value_of(term)) is not None and value < 0 and out is not None:
            sign, term = -sign, number(-value)
        if out is None:
            out = term if sign > 0 else negated(term)
        else:
            out = ops.add(out, term) if sign > 0 else ops.subtract(out, term)
    return number(0) if out is None else out


def powered(base: Tensor, exponent: Fraction) -> Tensor:
    """u^n, with u for n = 1 and the square for n = 2."""
    if exponent == 1:
        return base
    if exponent == 2:
        return ops.square(base)  # type: ignore[no-any-return]
    return ops.power(base, float(exponent))  # type: ignore[no-any-return]


def again(node: Tensor, inputs: Sequence[Tensor]) -> Tensor:
    """The same operation on other inputs, without what 0 and 1 make superfluous."""
    if all(a is b for a, b in zip(inputs, node.inputs, strict=True)):
        return node
    name = node.op.name
    if name == "add":
        return total([(1, inputs[0]), (1, inputs[1])])
    if name == "subtract":
        return total([(1, inputs[0]), (-1, inputs[1])])
    if name == "multiply":
        return times(inputs)
    if name == "divide":
        return over(inputs[:1], inputs[1:])
    if name == "negative":
        return negated(inputs[0])
    if name == "power" and is_number(inputs[1], 1):
        return inputs[0]
    return node.op(*inputs, **node.params)  # type: ignore[no-any-return]


# -- taking expressions apart -----------------------------------------------------------------


def terms(node: Tensor) -> list[Term]:
    """The terms of a sum with their signs, left to right; one term for anything else."""
    found: list[Term] = []
    waiting = [(1, node)]
    while waiting:
        sign, one = waiting.pop()
        if named(one, "add"):
            waiting += [(sign, one.inputs[1]), (sign, one.inputs[0])]
        elif named(one, "subtract"):
            waiting += [(-sign, one.inputs[1]), (sign, one.inputs[0])]
        elif named(one, "negative"):
            waiting.append((-sign, one.inputs[0]))
        else:
            found.append((sign, one))
    return found


def factors(node: Tensor) -> tuple[Fraction, list[Tensor], list[Tensor]]:
    """A product as its number, the factors above and the factors below the line."""
    number_, above, below = Fraction(1), list[Tensor](), list[Tensor]()
    waiting = [(True, node)]
    while waiting:
        up, one = waiting.pop()
        value = value_of(one)
        if value is not None and (up or value):
            number_ = number_ * value if up else number_ / value
        elif named(one, "multiply"):
            waiting += [(up, one.inputs[1]), (up, one.inputs[0])]
        elif named(one, "divide"):
            waiting += [(not up, one.inputs[1]), (up, one.inputs[0])]
        elif named(one, "reciprocal"):
            waiting.append((not up, one.inputs[0]))
        elif named(one, "negative"):
            number_ = -number_
            waiting.append((up, one.inputs[0]))
        else:
            (above if up else below).append(one)
    return number_, above, below


def product(coefficient: Fraction, above: Sequence[Tensor], below: Sequence[Tensor]) -> Tensor:
    """The product with its number first, a sign before it all and a denominator below."""
    size = abs(coefficient)
    top, bottom = Fraction(size.numerator), Fraction(size.denominator)
    if not below and size.denominator in (2, 4, 8):
        top, bottom = size, Fraction(1)
    if coefficient == 0:
        return number(0)
    out = over([number(top), *above], [number(bottom), *below])
    return negated(out) if coefficient < 0 else out


def power_of(node: Tensor) -> Factor:
    """A factor as base and exponent."""
    if named(node, "square"):
        return node.inputs[0], Fraction(2)
    if named(node, "power") and (exponent := value_of(node.inputs[1])) is not None:
        return node.inputs[0], exponent
    return node, Fraction(1)


def monomial(node: Tensor) -> tuple[Fraction, list[Factor]]:
    """A product as its number and its different bases, each with its exponent."""
    coefficient, above, below = factors(node)
    found: dict[Key, Factor] = {}
    waiting = [(f, Fraction(1)) for f in above] + [(f, Fraction(-1)) for f in below]
    while waiting:
        one, outer = waiting.pop(0)
        base, exponent = power_of(one)
        whole = exponent.denominator == 1
        if exponent != 1 and whole and named(base, "multiply", "divide", "negative", "reciprocal"):
            inner, up, down = factors(base)
            coefficient *= inner ** int(exponent * outer)
            waiting += [(f, outer * exponent) for f in up] + [(f, -outer * exponent) for f in down]
            continue
        if exponent == 1 and outer != 1 and (base_value := value_of(base)):
            coefficient *= base_value ** int(outer)
            continue
        label = key(base)
        known, before = found.get(label, (base, Fraction(0)))
        found[label] = (known, before + exponent * outer)
    return coefficient, [f for f in found.values() if f[1]]


def from_monomial(coefficient: Fraction, powers: Sequence[Factor]) -> Tensor:
    """The product of these powers, negative ones below the line."""
    above = [powered(base, n) for base, n in powers if n > 0]
    below = [powered(base, -n) for base, n in powers if n < 0]
    return product(coefficient, above, below)


_keys: WeakKeyDictionary[Tensor, Key] = WeakKeyDictionary()


def key(node: Tensor) -> Key:
    """Equal for expressions that differ only in order and spelling."""
    found = _keys.get(node)
    if found is None:
        found = _keys[node] = _key(node)
    return found


def _key(node: Tensor) -> Key:
    value = value_of(node)
    if value is not None:
        return "number", value
    if node.op is None or node.name:
        return "leaf", node.serial if node.requires_grad or node.name else repr(node.value)
    if named(node, "power") and value_of(node.inputs[1]) is None:
        return "power", key(node.inputs[0]), key(node.inputs[1])
    if node.op.name in ("add", "subtract"):
        parts = [(sign, *_split(term)) for sign, term in terms(node)]
        found = _counted((label, sign * c) for sign, c, label in parts)
        return _product_key(found[0][1], found[0][0]) if len(found) == 1 else _sum_key(found)
    if node.op.name in ("multiply", "divide", "negative", "reciprocal", "square", "power"):
        return _product_key(*_split(node))
    return node.op.name, tuple(key(x) for x in node.inputs), repr(dict(node.params))


def _sum_key(found: list[tuple[Any, Fraction]]) -> Key:
    return "sum", frozenset(found)


def _product_key(coefficient: Fraction, powers: Any) -> Key:
    """One key for one thing: u¹ is u, and a product of nothing is a number."""
    if not powers:
        return "number", coefficient
    if coefficient == 1 and len(powers) == 1:
        ((base, exponent),) = powers
        if exponent == 1:
            return base  # type: ignore[no-any-return]
    return "product", coefficient, powers


def _split(term: Tensor) -> tuple[Fraction, Any]:
    """The coefficient of a term and the powers that it multiplies."""
    coefficient, powers = monomial(term)
    return coefficient, frozenset((key(base), n) for base, n in powers)


def _counted(pairs: Iterator[tuple[Any, Fraction]]) -> list[tuple[Any, Fraction]]:
    found: dict[Any, Fraction] = {}
    for label, coefficient in pairs:
        found[label] = found.get(label, Fraction(0)) + coefficient
    return [(label, c) for label, c in found.items() if c]


def same(a: Tensor, b: Tensor) -> bool:
    """Whether two expressions differ only in order and spelling."""
    return a is b or key(a) == key(b)


def reaches(node: Tensor, leaf: Tensor) -> bool:
    """Whether the expression depends on the leaf."""
    seen, waiting = {node}, [node]
    while waiting:
        one = waiting.pop()
        if one is leaf:
            return True
        fresh = [x for x in one.inputs if x not in seen]
        seen.update(fresh)
        waiting += fresh
    return False


# -- walking expressions ----------------------------------------------------------------------

Change = Callable[[Tensor], Tensor | None]


def first(node: Tensor, change: Change) -> Tensor | None:
    """The expression with its first place changed, seen from the outside and the left."""
    new = change(node)
    if new is not None:
        return new
    if node.name:
        return None
    for position, source in enumerate(node.inputs):
        new = first(source, change)
        if new is not None:
            return again(node, [*node.inputs[:position], new, *node.inputs[position + 1 :]])
    return None


def everywhere(node: Tensor, change: Change) -> Tensor | None:
    """The expression with every place changed, the largest places first."""
    known: dict[Tensor, Tensor] = {}

    def visit(one: Tensor) -> Tensor:
        if one not in known:
            new = change(one)
            if new is None and one.inputs and not one.name:
                new = again(one, [visit(x) for x in one.inputs])
            known[one] = one if new is None else new
        return known[one]

    out = visit(node)
    return None if out is node else out


def replaced(node: Tensor, new: dict[Any, Tensor]) -> Tensor:
    """The expression with tensors exchanged for others."""
    out = everywhere(node, new.get)
    return node if out is None else out
