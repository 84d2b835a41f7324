"""The page of a diagnosis: its figures are the report's, it is shut, a browser shows it quietly."""

from __future__ import annotations

import math
import re
from html import unescape
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

import chainrule as cr
from chainrule.diagnose.finding import Curve, Factor, Where
from chainrule.diagnose.report.page import body_of, page_of
from chainrule.diagnose.report.pictures import flat_zones, flow_picture, losses, nets, span_of
from diagnose.reports import (
    EXAMPLES,
    INF,
    NAN,
    chain,
    dead,
    deep,
    exploding,
    flow,
    hostile,
    many,
    unfinished,
    vanishing,
)
from draw.test_svg import HOSTILE
from page_checks import contrast

NS = "{http://www.w3.org/2000/svg}"


def read(html: str) -> str:
    """What a reader reads."""
    body = html.partition("<body>")[2]
    bare = re.sub(r"<(style|title|desc)>.*?</\1>", " ", body, flags=re.DOTALL)
    return unescape(" ".join(re.sub(r"<[^>]+>", " ", bare).split()))


# -- its words and figures -------------------------------------------------------------------------


def test_the_verdict_stands_on_top() -> None:
    assert read(page_of(dead())).startswith("1 problem: dead_relu The network does no better than")
    assert read(page_of(EXAMPLES["healthy"]())).startswith("Healthy It reaches accuracy 0.98")
    assert "Unfinished: stopped by Ctrl-C" in read(page_of(unfinished()))


def test_a_finding_has_evidence_product_remedy_and_proof() -> None:
    told = read(page_of(dead()))
    for part in (
        "Layer 0, units 0, 1, 2, 3, 4, 5 and 7 more, since step 12",
        "13 of 16 units of layer 0 have net ≤ 0",
        "0 δ1 = 0.3 δ3 × 0.9 W3ᵀ × 0.7 relu′2 × 0.9 W2ᵀ × 0 relu′1 ◄",
        "largest net of a dead unit −0.31",
        "optimizer = optim.SGD(lr=0.01)",
        "Verified: accuracy 0.5 → 0.98 (same seed, order and budget)",
        "This fault shows in 4 of 5 starts.",
        "learning rate × 10 diverged –",
        "He initialisation",
    ):
        assert part in told
    assert page_of(dead()).count('class="factor guilty"') == 1


def test_every_finding_is_on_the_page() -> None:
    assert re.findall(r"<h2>(\d+)\.", page_of(many())) == [str(k) for k in range(1, 13)]


def test_the_remedy_is_code_as_it_was_given() -> None:
    (code, _) = re.findall(r"<pre[^>]*><code>(.*?)</code></pre>", page_of(vanishing()), re.DOTALL)
    assert unescape(code) == vanishing().findings[0].remedy


def test_a_notebook_gets_the_body_with_its_style() -> None:
    html = dead()._repr_html_()
    assert html == body_of(dead())
    assert html.startswith('<div class="cr-diagnosis"><style>')
    assert "<html" not in html


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_same_report_is_the_same_page(name: str) -> None:
    assert page_of(EXAMPLES[name]()) == page_of(EXAMPLES[name]())


# -- the stream of δ -------------------------------------------------------------------------------


def pieces(svg: str) -> list[tuple[str, list[float]]]:
    """Each part of the stream with the numbers of its path, from the output down."""
    root = ElementTree.fromstring(svg)
    return [
        (p.get("class") or "", [float(n) for n in re.findall(r"-?[\d.]+", p.get("d") or "")])
        for p in root.iter(f"{NS}path")
    ]


def widths(piece: list[float]) -> tuple[float, float]:
    """How wide a part begins and ends."""
    left, _, right, narrow, _, end = piece
    return right - left, narrow - end


def test_the_stream_is_as_wide_as_log_delta() -> None:
    flows = chain(1.0, [0.1, 0.1], [0.1, 0.01], "tanh")
    ends = [widths(p) for _, p in pieces(flow_picture(flows, span_of(flows)))]
    logs = [0, -1, -3, -4, -5]  # after the gain and after the slope of either link
    assert flows[0].delta == pytest.approx(1e-5)
    wide = [ends[0][0], *(end for _, end in ends)]
    fitted = np.polyfit(logs, wide, 1)
    assert np.polyval(fitted, logs) == pytest.approx(wide, abs=0.2)
    assert fitted[0] > 10
    for (_, end), (start, _) in pairwise(ends):
        assert end == pytest.approx(start)


def test_two_moments_share_one_scale() -> None:
    early, late = chain(1.0, [0.1], [0.1], "tanh"), chain(1e-3, [0.1], [0.1], "tanh")
    span = span_of(early, late)
    first, later = (widths(pieces(flow_picture(f, span))[0][1])[0] for f in (early, late))
    assert later < first / 2


def test_the_guilty_factor_is_coloured_where_it_acts() -> None:
    report = vanishing()
    factors = [f for f in report.findings[0].evidence.product if f.guilty]
    svg = flow_picture(report.start, span_of(report.start), factors)
    kinds = [kind for kind, _ in pieces(svg)]
    assert [k for k, kind in enumerate(kinds) if kind == "guilty"] == [5]  # slope of the third link
    assert "× 0.00012 (sigmoid′3) ◄" in svg
    assert "guilty" not in [kind for kind, _ in pieces(flow_picture(report.start, (0, 1)))]


def test_a_link_that_has_another_value_at_this_moment_is_not_blamed() -> None:
    flows = chain(1.0, [0.1], [0.1], "tanh")
    elsewhere = Factor("tanh′1", 1e-9, "slope", "0", guilty=True)
    assert [k for k, _ in pieces(flow_picture(flows, (0, 1), [elsewhere]))] == ["stream"] * 2


def test_zero_ends_the_stream_and_no_number_is_dotted() -> None:
    below = flow("0", "relu", 0.0, gain=0.0, slope=0.0)
    flows = (below, flow("2", "relu", 0.0, slope=0.0), flow("4", "", 1.0, gain=NAN, slope=NAN))
    found = pieces(flow_picture(flows, span_of(flows)))
    assert [kind for kind, _ in found] == ["stream", "stream", "still", "still"]
    assert widths(found[1][1])[1] == 0
    wild = (flow("0", "relu", NAN), flow("2", "relu", INF, gain=INF), flow("4", "", 1.0, gain=NAN))
    assert {kind for kind, _ in pieces(flow_picture(wild, span_of(wild)))} == {"wild"}


def test_a_deep_network_is_folded_but_not_at_the_fault() -> None:
    report = deep()
    guilty = [f for f in report.findings[0].evidence.product if f.guilty]
    svg = flow_picture(report.start, span_of(report.start), guilty)
    shown = [int(k) for k in re.findall(r">layer (\d+)<", svg)]
    assert len(shown) == 12
    assert {0, 8, 110, 118, 58, 60} <= set(shown)
    assert re.findall(r"… (\d+) layers between", svg) == ["24", "24"]
    assert len(report.start) == len(shown) + 48


def test_pictures_of_every_report_are_whole_and_without_wild_numbers() -> None:
    for name, make in EXAMPLES.items():
        for svg in re.findall(r"<svg.*?</svg>", page_of(make()), re.DOTALL):
            ElementTree.fromstring(svg)
            drawn = " ".join(re.findall(r' (?:d|x|y|width|height)="([^"]*)"', svg))
            assert not re.search(r"nan|inf|\de[+-]?\d", drawn), name


# -- nets and losses -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["relu", "tanh", "sigmoid", "softsign", "hard_tanh"])
def test_flat_zones_are_where_the_derivative_says(name: str) -> None:
    zones = flat_zones(name, -9.0, 11.0)
    slope = cr.grad(lambda x: cr.sum(getattr(cr, name)(x)))
    net = np.linspace(-9.0, 11.0, 1777)
    found = np.asarray(slope(net))
    flat = found <= (0 if name == "relu" else 0.04 * float(found.max()))
    inside = np.zeros_like(flat)
    for _, low, high in zones:
        inside |= (net >= low) & (net <= high)
    assert np.mean(flat != inside) < 0.002
    assert 0.1 < flat.mean() < 0.95


@pytest.mark.parametrize("name", ["", "leaky_relu", "elu", "gelu", "softmax", "prelu", "reshape"])
def test_what_does_not_level_off_has_no_zone(name: str) -> None:
    assert flat_zones(name, -5.0, 5.0) == []


def test_a_chart_of_nets_has_the_flows_counts() -> None:
    one = dead().end[0]
    chart = nets(one, "after the last step")
    assert chart is not None
    assert chart.marks[0].heights.tolist() == list(one.counts)  # type: ignore[union-attr]
    assert chart.zones == (("relu′ = 0", -6.0, 0.0),)
    assert nets(flow("0", "relu", 1.0, edges=(), counts=()), "") is None


def test_the_nets_are_those_of_the_moment_that_the_finding_speaks_of() -> None:
    assert "net of layer 4, before the first step" in page_of(vanishing())  # its note: step 0
    assert "net of layer 4, after the last step" in page_of(vanishing())
    assert "net of layer 4, before the first step" in page_of(exploding())  # later: no counts
    report = dead()
    object.__setattr__(report.findings[0], "where", Where("nowhere"))
    assert "net of layer" not in page_of(report)


def test_losses_that_lie_close_start_at_zero_and_far_ones_are_logarithmic() -> None:
    close = losses([Curve("a", (0.7, 0.69))], "Loss")
    far = losses([Curve("a", (0.7, 0.6)), Curve("a", (0.7, 1e-4))], "Loss")
    assert close is not None
    assert far is not None
    assert (close.y.low, close.y.log, far.y.log) == (0.0, False, True)
    assert len(far.marks) == 2
    assert losses([Curve("a", ())], "Loss") is None
    wild = losses([Curve("a", (1.0, math.inf, NAN))], "Loss")
    assert wild is not None
    assert wild.notes == ("2 values are not finite",)


# -- a stranger's names ----------------------------------------------------------------------------


class Elements(HTMLParser):
    """Every element, and every attribute that an element has."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}


def elements(html: str) -> Elements:
    parser = Elements()
    parser.feed(html)
    return parser


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_no_name_becomes_an_element_or_a_handler(name: str) -> None:
    found, plain = elements(page_of(hostile(name))), elements(page_of(hostile("n" * len(name))))
    assert [t for t in found.tags if t != "text"] == [t for t in plain.tags if t != "text"]
    assert found.attributes <= plain.attributes | {"transform", "x", "y"}
    assert not found.attributes & {"href", "src", "style", "onclick", "onload", "onerror"}


# -- in a browser ----------------------------------------------------------------------------------


PAGES = {**EXAMPLES, "hostile": lambda: hostile("<img src=x onerror=alert(1)>" * 12)}


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize(("scheme", "width"), [("light", 390), ("dark", 390), ("dark", 1180)])
def test_a_browser_shows_it_without_a_word_or_a_request(
    browser: Any, tmp_path: Path, name: str, scheme: str, width: int
) -> None:
    path, noise = tmp_path / "diagnosis.html", []
    path.write_text(page_of(PAGES[name]()), encoding="utf-8")
    tab = browser.new_page(viewport={"width": width, "height": 844}, color_scheme=scheme)
    tab.on("console", lambda message: noise.append(message.text))
    tab.on("pageerror", lambda error: noise.append(str(error)))
    tab.on("dialog", lambda dialog: noise.append(dialog.message))
    tab.on("request", lambda request: noise.append(request.url))
    tab.goto(path.as_uri())
    assert noise == [path.as_uri()]
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert contrast(tab, "td, th, p, h1, h2, h3, dt, dd, li, summary, small, b, .kind") >= 4.5
    assert tab.evaluate("document.querySelectorAll('img, script, a, iframe').length") == 0
    assert tab.evaluate(_SPILT) == []
    tab.close()


# Texts of pictures that reach out of their picture.
_SPILT = """() => [...document.querySelectorAll('svg.cr-flow text')].filter((text) => {
  const own = text.getBoundingClientRect();
  const all = text.ownerSVGElement.getBoundingClientRect();
  return own.left < all.left - 1 || own.right > all.right + 1;
}).map((text) => text.textContent)"""
