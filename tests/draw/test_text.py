"""The drawing in characters, its list, and DOT."""

from __future__ import annotations

import re

import pytest
from hypothesis import given

import chainrule as cr
import golden
from chainrule.circuit import Tensor, circuit_of
from chainrule.draw import draw
from chainrule.draw.face import letters
from draw.circuits import LECTURES, circuits
from draw.test_svg import GOLDEN, HOSTILE


@pytest.mark.parametrize("name", GOLDEN)
def test_golden(name: str) -> None:
    golden.check(f"draw_{name}.txt", draw(LECTURES[name]()).text())


@given(circuits())
def test_every_gate_is_there_once(output: Tensor) -> None:
    nodes = circuit_of(output)
    text = draw(output).text()
    gates = [n for n in nodes if n.op]
    found = re.findall(r"\((?:\+|×|tanh|max|where|0\.5)\)", text)
    assert len(found) == len(gates)
    for node in nodes:
        if node.name and node is not output:
            assert len(re.findall(rf"(?<!\w){node.name} ", text)) == 1


@given(circuits())
def test_no_stroke_ends_in_the_air(output: Tensor) -> None:
    """Every line character meets, in each of its directions, a line or a text."""
    lines = draw(output).text().splitlines()
    right, left = "─╰╭├┬┴┼", "─╯╮┤┬┴┼"
    for line in lines:
        for k, c in enumerate(line):
            if c in right:
                assert k + 1 < len(line)
                assert line[k + 1] != " "
            if c in left:
                assert k > 0
                assert line[k - 1] in "─╰╭├┬┴┼│" or line[k - 1].isalnum() or line[k - 1] in ") "


def test_too_wide_becomes_a_list() -> None:
    drawing = draw(LECTURES["S03_opened"]())
    text = drawing.text(width=80)
    assert max(map(letters, text.splitlines())) <= 80
    assert text.splitlines()[8] == "z    1       ∂ 0.1966   (+) of n3 ×1, w2 ×1"
    assert drawing.text(width=500) == drawing.text()


def test_without_gradients_it_says_so() -> None:
    text = draw(LECTURES["S02"](), gradients=False).text()
    assert "∂" not in text
    assert text.endswith("\nNo gradient computed: gradients were not asked for.\n")


def test_colours_are_only_where_wanted() -> None:
    drawing = draw(LECTURES["S02"]())
    assert "\x1b[" not in drawing.text()
    coloured = drawing.text(colour=True)
    assert re.sub(r"\x1b\[[\d;]*m", "", coloured) == drawing.text()
    assert "\x1b[32m-12\x1b[0m" in coloured


def _dot_strings(dot: str) -> list[str]:
    """The quoted strings of DOT text, read as its grammar says; the rest must hold none."""
    strings = re.findall(r'"((?:[^"\\]|\\.)*)"', dot)
    rest = re.sub(r'"(?:[^"\\]|\\.)*"', "S", dot)
    assert '"' not in rest
    assert (rest.count("{"), rest.count("}")) == (1, 1)
    assert rest.count("[") == rest.count("]")
    return strings


@pytest.mark.parametrize("name", [*HOSTILE, "back\\slash\\", '\\"', "\\N{}"], ids=repr)
def test_dot_is_balanced_whatever_the_names(name: str) -> None:
    x = cr.tensor(2.0, name=name)
    strings = _dot_strings(draw(x * x).dot())
    assert len(strings) == 2 + 2 + 2 + 1  # fonts, boxes, edges, the output's name


@given(circuits())
def test_dot_has_every_node_and_edge(output: Tensor) -> None:
    dot = draw(output).dot()
    nodes = circuit_of(output)
    assert len(re.findall(r"^  b\d+ \[", dot, re.M)) == len(nodes)
    assert len(re.findall(r"^  b\d+ -> b\d+", dot, re.M)) == sum(len(n.inputs) for n in nodes)


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_name_cannot_steer_the_terminal(name: str) -> None:
    text = draw(cr.tensor(2.0, name=name) * 3.0).text()
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", text)
