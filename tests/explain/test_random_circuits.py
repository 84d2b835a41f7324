"""Random programs: what is printed adds up, multiplies, and reads back from the text."""

from __future__ import annotations

import itertools
import math
import re
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import chainrule as cr
from chainrule.explain.flow import flow_of
from chainrule.explain.paths import largest_paths
from chainrule.gradient.backward import Edge

UNARY = [
    cr.sin, cr.tanh, cr.sigmoid, cr.softplus, cr.relu, cr.square, cr.exp, cr.arctan, cr.abs,
    lambda t: 2.0 - t / 3, lambda t: -t, lambda t: cr.log(1.5 + cr.cos(t)), cr.silu,
]  # fmt: skip
BINARY = [
    lambda s, t: s + t, lambda s, t: s - t, lambda s, t: s * t, lambda s, t: s / (1 + t * t),
    cr.maximum, cr.minimum, lambda s, t: cr.where(s > t, s, cr.sin(t)),
]  # fmt: skip
steps = st.lists(
    st.tuples(st.booleans(), st.integers(0, 30), st.integers(0, 30), st.integers(0, 30)),
    min_size=1, max_size=9,
)  # fmt: skip
EVERYTHING = settings(max_examples=300, suppress_health_check=list(HealthCheck))


def program(plan: list[Any], values: list[float]) -> tuple[Any, list[Any]]:
    """A scalar circuit grown step by step; results are kept small, so that nothing overflows."""
    variables = [cr.tensor(v, name=f"x{k}") for k, v in enumerate(values)]
    made = list(variables)
    for binary, which, a, b in plan:
        one, other = made[-1 - a % len(made)], made[-1 - b % len(made)]
        result = BINARY[which % 7](one, other) if binary else UNARY[which % 13](one)
        made.append(cr.tanh(result) if abs(float(result.value)) > 20 else result)
    return made[-1] + 0.5 * made[0], variables


values = st.lists(st.floats(-2, 2).filter(lambda v: abs(v) > 1e-3), min_size=3, max_size=3)


@EVERYTHING
@given(plan=steps, at=values)
def test_contributions_add_up_to_the_gradient(plan: list[Any], at: list[float]) -> None:
    output, _ = program(plan, at)
    flow = flow_of(output)
    own = output.backward()
    for node, edges in flow.received.items():
        terms = [float(e.contribution) for e in edges]
        scale = sum(map(abs, terms))
        assert abs(math.fsum(terms) - float(own[node])) <= 1e-12 * scale


@EVERYTHING
@given(plan=steps, at=values)
def test_paths_and_their_rest_add_up(plan: list[Any], at: list[float]) -> None:
    output, variables = program(plan, at)
    flow = flow_of(output)
    for x in variables:
        if x in flow.gradients:
            found = largest_paths(flow, x, (), most=5)
            sizes = [abs(path.contribution) for path in found.largest]
            total = math.fsum([*(p.contribution for p in found.largest), found.rest])
            scale = sum(sizes) + abs(found.rest) + abs(found.gradient)
            assert abs(total - found.gradient) <= 1e-12 * scale
            assert all(a >= b * (1 - 1e-12) for a, b in itertools.pairwise(sizes))


NUMBER = r"-?(?:[0-9.]+(?:e[+-]?[0-9]+)?|inf|nan)"
FACTOR = rf"(?:\({NUMBER}\)|{NUMBER})"
PRODUCT = re.compile(rf"= ({FACTOR}(?: × {FACTOR})+)\n?\s*= ({NUMBER})(?=\s|$)")


@EVERYTHING
@given(plan=steps, at=values)
def test_products_read_back_from_the_text_give_the_printed_result(
    plan: list[Any], at: list[float]
) -> None:
    output, variables = program(plan, at)
    text = str(cr.explain(output, wrt=[x for x in variables if x in flow_of(output).gradients]))
    for factors, result in PRODUCT.findall(text):
        read = math.prod(float(x.strip("()")) for x in factors.split(" × "))
        assert abs(read - float(result)) <= last_digit(result), (factors, result)


def last_digit(text: str) -> float:
    """One unit of the last digit; stripped zeros count as printed up to the ninth."""
    mantissa, _, exponent = text.partition("e")
    decimals = len(mantissa.partition(".")[2])
    return float(10.0 ** (int(exponent or 0) - decimals)) * (1 + 1e-6)


def test_the_steps_are_the_edges_of_the_loop_and_its_rule_objects(monkeypatch: Any) -> None:
    """The rule that computes `.grad` is the rule that is printed: change it, and both change."""
    x = cr.tensor(0.7, name="x")
    f = cr.sin(x)
    before = cr.explain(f, wrt=x)
    assert before.steps[0].local == np.cos(0.7)
    monkeypatch.setattr(cr.sin, "locals", (lambda x, out: 3.0 * x,))
    after = cr.explain(f, wrt=x)
    assert after.steps[0].local == 3.0 * 0.7
    assert "2.1" in str(after)
    assert f.backward()[x] == after.steps[0].contribution
    assert [type(edge) for edge in after.edges] == [Edge]
