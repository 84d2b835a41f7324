"""LaTeX as MathML: valid, escaped, and strict about what it does not know."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest

import chainrule as cr
from chainrule.errors import ExpressionError
from chainrule.notation import mathml, write

SPACE = "{http://www.w3.org/1998/Math/MathML}"


@pytest.mark.parametrize("op", cr.registry.operations(), ids=lambda op: op.name)
def test_every_template_of_the_registry_converts(op: cr.Operation) -> None:
    latex = op.facts.latex.format("u_1", "u_2", "u_3")
    root = ElementTree.fromstring(mathml(latex))
    assert root.tag == SPACE + "math"


@pytest.mark.parametrize(
    ("latex", "tag"),
    [
        (r"\frac{1}{x}", "mfrac"),
        ("x^2", "msup"),
        ("x_{12}", "msub"),
        ("x_1^2", "msubsup"),
        (r"\sqrt{x}", "msqrt"),
        (r"\begin{cases} x & x > 0 \\ 0 & \text{else} \end{cases}", "mtable"),
        (r"\left|x\right|", "mo"),
        (r"\mathrm{net}_{h1}", "mi"),
    ],
)
def test_structure(latex: str, tag: str) -> None:
    assert ElementTree.fromstring(mathml(latex)).find(f".//{SPACE}{tag}") is not None


def test_names_of_the_user_are_escaped() -> None:
    x = cr.tensor(1.0, name="a<b>&c_{d}")
    text = mathml(write(x * x, "latex"))
    assert "<b>" not in text
    ElementTree.fromstring(text)


@pytest.mark.parametrize("latex", [r"\newcommand{x}", r"\begin{tikzpicture} \end{tikzpicture}"])
def test_unknown_commands_are_named(latex: str) -> None:
    with pytest.raises(ExpressionError, match=r"newcommand|tikzpicture"):
        mathml(latex)


@pytest.mark.parametrize("latex", ["{x", "x}", r"\left(x", r"x\right)", r"\frac{1}", r"\text{a"])
def test_what_does_not_balance_is_refused(latex: str) -> None:
    with pytest.raises(ExpressionError):
        mathml(latex)
