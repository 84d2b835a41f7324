"""Rules of algebra: what they make is equal to what they were given, at 60 digits."""

from __future__ import annotations

from typing import Any

import mpmath
import numpy as np
import pytest

import chainrule as cr
import mp_reading
from chainrule.circuit import Tensor
from chainrule.notation import write
from chainrule.rewrite import RULES
from chainrule.rewrite.algebra import key, same

X, Y, Z = cr.tensor(0.7, name="x"), cr.tensor(0.4, name="y"), cr.tensor(1.3, name="z")
E = cr.exp(-X)
EXPRESSIONS: list[Tensor] = [
    1 / (1 + E),
    cr.reciprocal(1 + E),
    -1.0 * (1 + E) ** -2.0 * E * -1.0,
    E / (1 + E) ** 2,
    E / (1 + E),
    (X + Y) / Z,
    (1 + E - 1) / (1 + E),
    cr.cos(X) * cr.cos(X) / (cr.sin(X) * cr.sin(X)),
    cr.square(cr.sin(X)) / cr.square(cr.cos(X)),
    X * cr.sign(X) + Y,
    X * Y + X * Z - X,
    X * (Y - Z) * (X + 1),
    2 * X + 3 * X - X / 2,
    X / Y - Z / (Y * Y),
    (cr.exp(2 * X) - 1) / (cr.exp(2 * X) + 1),
    (cr.exp(X) - cr.exp(-X)) / (cr.exp(X) + cr.exp(-X)),
    cr.exp(X) / (1 + cr.exp(X)),
    X / 3 + Y / 7 - (X + Y) / 3,
    cr.sqrt(X * Y) / cr.sqrt(Z),
    X**-0.5 * X**0.5 * Y**3,
    (-X * -(Y * -Z)) / -2,
    (X * Y) ** 2 / X,
    (X - X) * Y + Z,
    X * Y / (X * Z),
    (1 + E) / (1 + E) + X,
]


@pytest.mark.parametrize("rule", list(RULES))
@pytest.mark.parametrize("number", range(len(EXPRESSIONS)))
def test_every_rule_keeps_the_value(rule: str, number: int) -> None:
    before = EXPRESSIONS[number]
    after = RULES[rule](before)
    if after is None:
        return
    rng = np.random.default_rng(number)
    for _ in range(3):
        values: dict[Tensor, Any] = {leaf: rng.uniform(0.2, 2) for leaf in (X, Y, Z)}
        a, b = (mp_reading.read(node, values, 90)[()] for node in (before, after))
        with mpmath.workdps(90):
            error = abs(a - b)
            assert error <= mpmath.mpf(10) ** -60 * max(1, abs(a)), write(after)


@pytest.mark.parametrize("rule", list(RULES))
def test_every_rule_does_something_somewhere(rule: str) -> None:
    made = [RULES[rule](expression) for expression in EXPRESSIONS]
    assert any(one is not None for one in made)


def test_same_sees_through_order_and_spelling() -> None:
    assert same(1 / (1 + E), cr.reciprocal(E + 1))
    assert same(X * Y / Z, Y / Z * X)
    assert same(X * X, cr.square(X))
    assert same(X + X, 2 * X)
    assert same(X - Y, -Y + X)
    assert not same(X - Y, Y - X)
    assert not same(cr.exp(X), cr.exp(Y))
    assert key(X**Y) != key(X**Z)
