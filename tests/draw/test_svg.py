"""The SVG: golden pictures, every node and edge once, nothing on top of anything, no way in."""

from __future__ import annotations

import re
from collections import Counter
from itertools import combinations, pairwise
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given

import chainrule as cr
import golden
from chainrule.circuit import Tensor, circuit_of
from chainrule.draw import draw
from chainrule.draw.face import letters, short
from chainrule.draw.paint import EM, SIZES
from draw.circuits import LECTURES, circuits

NS = "{http://www.w3.org/2000/svg}"
GOLDEN = ("S01", "S02", "S03_closed", "S03_opened", "S10", "S25", "matrices")


def _parsed(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)


@pytest.mark.parametrize("name", GOLDEN)
def test_golden(name: str) -> None:
    golden.check(f"draw_{name}.svg", draw(LECTURES[name]()).svg())


def test_the_bytes_are_the_same_each_time() -> None:
    drawing = draw(LECTURES["S10"]())
    assert drawing.svg() == drawing.svg() == draw(LECTURES["S10"]()).svg()


# -- what is there ----------------------------------------------------------------------------


def _boxes(root: ElementTree.Element) -> list[ElementTree.Element]:
    return [g for g in root.iter(f"{NS}g") if "node" in (g.get("class") or "").split()]


def _wires(root: ElementTree.Element) -> list[ElementTree.Element]:
    return [p for p in root.iter(f"{NS}path") if (p.get("class") or "").startswith("wire")]


@given(circuits())
def test_every_node_and_edge_is_there_once(output: Tensor) -> None:
    root = _parsed(draw(output).svg())
    nodes = circuit_of(output)
    assert len(_boxes(root)) == len(nodes)
    assert len(_wires(root)) == sum(len(node.inputs) for node in nodes) + 1  # and the output's
    symbols = Counter(node.op.facts.symbol for node in nodes if node.op)
    texts = Counter(t.text for t in root.iter(f"{NS}text") if t.get("class") in ("s", "t"))
    assert texts == Counter({s.replace("-", "−"): n for s, n in symbols.items()})


@given(circuits())
def test_the_values_and_gradients_are_those_of_the_nodes(output: Tensor) -> None:
    root = _parsed(draw(output).svg())
    nodes = circuit_of(output)
    shown = _texts(root, "v")
    expected = Counter(short(n.value, 4) for n in nodes if n.op or n.requires_grad)
    assert shown == expected
    if not output.requires_grad:
        return
    found = output.backward()
    slopes = _texts(root, "g")
    assert slopes == Counter(f"∂ {short(found[n], 4)}" for n in found)


def _texts(root: ElementTree.Element, kind: str) -> Counter[str]:
    texts = [t for t in root.iter(f"{NS}text") if t.get("class") == kind]
    return Counter((t.text or "").replace("−", "-") for t in texts)


def test_x_times_x_has_two_wires() -> None:
    x = cr.tensor(3.0, name="x")
    root = _parsed(draw(x * x).svg())
    assert len(_wires(root)) == 3
    contributions = [t.text for t in root.iter() if t.get("class") == "c"]
    assert contributions == ["3", "3"]


def test_without_gradients_it_says_so() -> None:
    x = cr.tensor(3.0, name="x", requires_grad=False)
    y = cr.tensor(3.0, name="y")
    for drawing in (draw(y * 2.0, gradients=False), draw(y * np.ones(3)), draw(x)):
        svg = drawing.svg()
        assert "no gradient computed: " in svg
        assert "∂" not in svg.replace("∂ gradient", "")
        assert 'class="g"' not in svg


def test_drawing_stores_nothing() -> None:
    x = cr.tensor(3.0, name="x")
    draw(x * x).svg()
    assert x.grad is None


def test_a_gradient_that_does_not_arrive_is_not_a_zero() -> None:
    x = cr.tensor(3.0, name="x")
    root = _parsed(draw(cr.stop_gradient(x) * x).svg())
    assert any("no gradient arrives here" in (t.text or "") for t in root.iter(f"{NS}title"))


# -- where it is ------------------------------------------------------------------------------


def _extent(text: ElementTree.Element) -> tuple[float, float, float, float]:
    kind, *more = (text.get("class") or "").split()
    size = SIZES[kind]
    wide = letters("".join(text.itertext())) * size * EM
    x, y = float(text.get("x") or 0), float(text.get("y") or 0)
    left = x - wide if "end" in more else x if "start" in more else x - wide / 2
    return left, y - 0.75 * size, left + wide, y + 0.2 * size


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _no_text_on_text(svg: str) -> None:
    root = _parsed(svg)
    texts = [(_extent(t), "".join(t.itertext())) for t in root.iter(f"{NS}text")]
    for (a, one), (b, other) in combinations(texts, 2):
        assert not _overlap(a, b), f"{one!r} lies on {other!r}"
    x, y, wide, tall = map(float, (root.get("viewBox") or "").split())
    for (left, top, right, bottom), words in texts:
        assert x <= left < right <= x + wide, words
        assert y <= top < bottom <= y + tall, words


@pytest.mark.parametrize("name", LECTURES)
def test_no_label_lies_on_another(name: str) -> None:
    _no_text_on_text(draw(LECTURES[name]()).svg())


@given(circuits())
def test_no_label_lies_on_another_in_any_circuit(output: Tensor) -> None:
    _no_text_on_text(draw(output).svg())


@given(circuits())
def test_no_body_lies_on_another_and_wires_run_to_the_right(output: Tensor) -> None:
    root = _parsed(draw(output).svg())
    bodies = []
    for circle in root.iter(f"{NS}circle"):
        if circle.get("class") == "body":
            x, y, r = (float(circle.get(key) or 0) for key in ("cx", "cy", "r"))
            bodies.append((x - r, y - r, x + r, y + r))
    for rect in root.iter(f"{NS}rect"):
        if rect.get("class") == "body":
            x, y, w, h = (float(rect.get(key) or 0) for key in ("x", "y", "width", "height"))
            bodies.append((x, y, x + w, y + h))
    assert not any(_overlap(a, b) for a, b in combinations(bodies, 2))
    for wire in _wires(root):
        xs = _abscissae(wire.get("d") or "")
        assert xs == sorted(xs)


def _abscissae(path: str) -> list[float]:
    xs = []
    for command, numbers in re.findall(r"([MHC])([^MHC]*)", path):
        values = [float(n) for n in numbers.split()]
        xs += values if command == "H" else values[::2]
    return xs


# -- what may not be there --------------------------------------------------------------------

PIECES = (
    "<script>alert(1)</script>", '"onload="alert(1)', "'><img src=x onerror=alert(1)>",
    "&amp;&lt;", "]]><svg onload=alert(1)>", "<!--", "-->", "<?xml?>",
    "</title><script>x</script>", "{}*{color:red}", "javascript:alert(1)", "\u202egnirts",
    "\u2066iso", "\x00\x01\x1b[31m", "a\nb\r\tc", "\ud800", "\ufffe\uffff", "שלום", "数数数",
    "e\u0301" * 20,
)  # fmt: skip
HOSTILE = [
    *PIECES,
    *(a + b for a, b in pairwise(PIECES)),
    *("x" * 30 + piece for piece in PIECES),
    *(piece * 9 + "y" for piece in PIECES),
    "&#x3c;b&#x3e;",
]


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_name_adds_nothing(name: str) -> None:
    def made(name: str) -> ElementTree.Element:
        x = cr.tensor(2.0, name=name)
        y = x * x
        y.name = name
        z = y + x
        return _parsed(draw(z, names={z: name}).svg().encode("utf-8").decode("utf-8"))

    plain, hostile = made("plain"), made(name)
    assert [e.tag for e in hostile.iter()] == [e.tag for e in plain.iter()]
    assert [sorted(e.keys()) for e in hostile.iter()] == [sorted(e.keys()) for e in plain.iter()]
    text = "".join(hostile.itertext())
    assert not re.search(r"[\x00-\x08\x0b-\x1f\u202a-\u202e\u2066-\u2069]", text)


def test_there_are_enough_hostile_names() -> None:
    assert len(HOSTILE) >= 80


def test_nothing_is_fetched_and_nothing_runs() -> None:
    html = draw(LECTURES["S10"]()).html()
    assert "<script" not in html
    assert not re.search(r"(href|src|url\()", html)
    assert re.findall(r"https?://[^\"' ]+", html) == ["http://www.w3.org/2000/svg"]


def test_it_speaks_to_readers_who_do_not_see_it() -> None:
    root = _parsed(draw(LECTURES["S02"]()).svg())
    assert root.get("role") == "img"
    ids = (root.get("aria-labelledby") or "").split()
    title, desc = (next(e for e in root.iter() if e.get("id") == name) for name in ids)
    assert title.text == "The circuit of out"
    assert "q = add(x, y) = 3, ∂out/∂q = −4" in (desc.text or "")
