"""The interactive page in a real browser: it computes what the engine computes, and stays shut."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule.circuit import circuit_of
from chainrule.explain.joint import KNOWN, joint_circuit
from chainrule.explain.page import circuit_page
from chainrule.page import escape, page, script_data
from draw.test_svg import HOSTILE
from page_checks import contrast


def neuron() -> cr.Tensor:
    """The lecture's sigmoid neuron, its gates written out."""
    values = {"w0": 2.0, "x0": -1.0, "w1": -3.0, "x1": -2.0, "w2": -3.0}
    v = {name: cr.tensor(value, name=name) for name, value in values.items()}
    f = 1 / (1 + cr.exp(-(v["w0"] * v["x0"] + v["w1"] * v["x1"] + v["w2"])))
    f.name = "f"
    return f


class _Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, tuple[str, ...]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, tuple(sorted(name for name, _ in attrs))))


def elements(html: str) -> list[tuple[str, tuple[str, ...]]]:
    parser = _Elements()
    parser.feed(html)
    return parser.found


@pytest.mark.parametrize("payload", HOSTILE)
def test_no_name_becomes_an_element_or_a_handler(payload: str) -> None:
    def made(name: str) -> str:
        x = cr.tensor(2.0, name=name)
        return circuit_page(x * cr.sin(x), title=name)

    assert elements(made(payload)) == elements(made("harmless"))


def test_escaped_text_and_data_cannot_end_their_place() -> None:
    assert escape("<\x00\u202e>") == "&lt;��&gt;"
    data = script_data({"</script>": ["\u2028", math.inf, math.nan]})
    assert "<" not in data
    assert json.loads(data) == {"</script>": ["\u2028", "Infinity", "NaN"]}


def test_a_page_may_load_nothing_and_run_only_its_own_script() -> None:
    html = page("t", "<p>x</p>", data={}, script="1;")
    assert "default-src 'none'" in html
    assert "script-src 'sha256-" in html
    assert "unsafe-inline" not in html


def test_the_page_of_the_worked_size_is_small() -> None:
    assert len(circuit_page(neuron(), title="t").encode()) < 300_000


def test_gates_that_the_page_does_not_know_are_opened() -> None:
    x = cr.tensor(0.7, name="x")
    joint = joint_circuit(cr.gelu(x) + cr.elu(x) + cr.silu(x) + cr.softsign(x) + cr.selu(x)).data
    assert joint["live"]
    assert {cell[0] for cell in joint["cells"]} <= KNOWN | {None}


def test_a_circuit_of_arrays_is_shown_but_not_recomputed() -> None:
    x = cr.tensor([1.0, 2.0], name="x")
    joint = joint_circuit(cr.sum(x * x)).data
    assert not joint["live"]
    assert "as they were computed" in circuit_page(cr.sum(x * x), title="arrays")


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Iterator[Any]:
    """Open a page's HTML; at the end: no error, no message, no request but the file itself."""
    tab = browser.new_page()
    noise: list[str] = []
    tab.on("console", lambda message: noise.append(message.text))
    tab.on("pageerror", lambda error: noise.append(str(error)))
    tab.on("request", lambda request: noise.append(request.url) if request.url != url else None)
    url = (tmp_path / "page.html").as_uri()

    def open_page(html: str) -> Any:
        (tmp_path / "page.html").write_text(html, encoding="utf-8")
        tab.goto(url)
        return tab

    yield open_page
    tab.close()
    assert noise == []


def test_the_browser_steps_through_the_golden_numbers(opened: Any) -> None:
    tab = opened(circuit_page(neuron(), title="neuron"))
    steps = len(tab.evaluate("chainrule.steps"))
    told = [tab.inner_text("#sentence")]
    for _ in range(steps - 1):
        tab.keyboard.press("ArrowRight")
        told.append(tab.inner_text("#sentence"))
    assert told[0] == "Forward: w0 = 2"
    assert "Forward: f = 1 / n7 = 0.731058579" in told
    assert any("0.367879441 × -0.534446645 = -0.196611933" in line for line in told)
    assert "-3 × 0.196611933 = -0.5898358" in " ".join(told)
    assert tab.is_disabled("#next")
    tab.click("#first")
    assert tab.inner_text("#step") == f"1 of {steps}"


def test_typed_inputs_move_every_value_and_gradient(opened: Any) -> None:
    tab = opened(circuit_page(neuron(), title="neuron"))
    tab.fill("input[data-input=w0]", "0.5")
    tab.fill("input[data-input=x1]", "nonsense")
    assert tab.get_attribute("input[data-input=x1]", "aria-invalid") == "true"
    values = {"w0": 0.5, "x0": -1.0, "w1": -3.0, "x1": -2.0, "w2": -3.0}

    def f(w0: Any, x0: Any, w1: Any, x1: Any, w2: Any) -> Any:
        return 1 / (1 + cr.exp(-(w0 * x0 + w1 * x1 + w2)))

    gradients = cr.grad(f, argnums=(0, 1, 2, 3, 4))(*values.values())
    for k, gradient in enumerate(gradients):
        shown = float(tab.inner_text(f"td[data-gradient='{k}']"))
        assert shown == pytest.approx(float(gradient), rel=1e-8)


def test_what_hovering_tells_follows_the_inputs(opened: Any) -> None:
    tab = opened(circuit_page(neuron(), title="neuron"))
    title = "g[data-node='0'] > title"
    assert tab.text_content(title) == "w0 = 2\n∂f/∂w0 = -0.196611933"
    tab.fill("input[data-input=w0]", "3")
    assert tab.text_content(title).startswith("w0 = 3\n∂f/∂w0 = -0.25")


def test_branches_are_added_as_they_come(opened: Any) -> None:
    x, y = cr.tensor(1.3, name="x"), cr.tensor(2.0, name="y")
    tab = opened(circuit_page(x * y + x * x + cr.sin(x), title="branches"))
    tab.keyboard.press("End")
    told = tab.evaluate(
        "chainrule.steps.map((_, k) =>"
        " (chainrule.go(k), document.getElementById('sentence').textContent))"
    )
    assert any("0.267498829 + 1.3 + 1.3 + 2 = 4.86749883" in line for line in told)


def test_the_script_computes_what_numpy_computes(opened: Any) -> None:
    tab = opened(circuit_page(neuron(), title="neuron"))
    points = [-745.0, -40.0, -3.5, -1.0, -0.3, 0.0, 0.2, 0.9, 1.0, 2.5, 6.0, 30.0, 700.0]
    for name in sorted(KNOWN):
        op = cr.registry[name]
        arity = op.arity or 1
        params = {k: v for k, v in op.defaults.items() if isinstance(v, (int, float))}
        args = [points] if arity == 1 else [points, points[::-1], points][:arity]
        if name == "astype":
            continue
        script = (
            "([name, rows, params]) => rows.map((row) => {"
            " const y = chainrule.OPERATIONS[name](...row, params);"
            " return Number.isFinite(y) ? y : String(y); })"
        )
        rows = [list(row) for row in zip(*args, strict=True)]
        theirs = [float(y) for y in tab.evaluate(script, [name, rows, params])]
        with np.errstate(all="ignore"):
            ours = np.asarray(op(*[np.array(a) for a in args], **params), dtype=float)
        np.testing.assert_allclose(theirs, ours, rtol=2e-13, atol=1e-300, err_msg=name)


def test_every_cell_equals_the_engine_for_all_scalar_gates(opened: Any) -> None:
    x = cr.tensor(0.7, name="x")
    total = x
    for op in cr.registry.operations():
        if op.facts.local and op.arity == 1 and op.differentiable and op.name != "astype":
            low, high = op.facts.domain[0]
            total = total + op(cr.clip(x, low, high) * 0.9)
    tab = opened(circuit_page(total, title="all"))
    values = tab.evaluate("chainrule.values()")
    joint = joint_circuit(total).data
    gradient = total.backward()[x]
    place = joint["nodes"][0]["gradient"]
    assert values[place] == pytest.approx(float(gradient), rel=1e-11)
    assert len(circuit_of(total)) > 50


def test_it_fits_a_phone_and_works_in_the_dark(browser: Any, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    output = neuron()
    path.write_text(cr.explain(output).html(), encoding="utf-8")
    for scheme in ("light", "dark"):
        tab = browser.new_page(viewport={"width": 390, "height": 844}, color_scheme=scheme)
        tab.goto(path.as_uri())
        assert tab.evaluate("document.documentElement.scrollWidth") <= 390
        assert contrast(tab, "td, th, p, h1, h2, label") >= 4.5
        tab.close()
