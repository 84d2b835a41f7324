"""`cr.draw` and its Drawing: files, notebooks, what is folded and summarised."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import chainrule as cr
from chainrule.circuit import Tensor
from chainrule.draw import draw
from draw.circuits import LECTURES


def test_draw_is_the_function_whoever_loads_its_room_first() -> None:
    code = (
        "import chainrule.draw.svg, chainrule as cr; x = cr.tensor(2.0);"
        "from chainrule import draw; print(cr.draw(x * x), draw is cr.draw, cr.Drawing)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "True <class 'chainrule.draw.drawing.Drawing'>" in done.stdout


def test_importing_chainrule_does_not_load_it() -> None:
    code = "import sys, chainrule; print('chainrule.draw' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_only_a_tensor_can_be_drawn() -> None:
    with pytest.raises(TypeError, match="takes a tensor, not float"):
        draw(3.0)  # type: ignore[arg-type]


@pytest.mark.parametrize("suffix", [".svg", ".html", ".txt", ".dot", ".SVG"])
def test_save(tmp_path: Path, suffix: str) -> None:
    drawing = draw(LECTURES["S02"]())
    drawing.save(tmp_path / f"x{suffix}")
    expected = {
        ".svg": drawing.svg,
        ".html": drawing.html,
        ".txt": drawing.text,
        ".dot": drawing.dot,
    }
    assert (tmp_path / f"x{suffix}").read_text(encoding="utf-8") == expected[suffix.lower()]()


def test_an_unknown_suffix_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(cr.ChainruleError, match=r"'\.gif'; known: '\.svg'.*'\.png'"):
        draw(LECTURES["S02"]()).save(tmp_path / "x.gif")


def test_png_without_its_library_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    with pytest.raises(cr.ChainruleError, match=r"pip install chainrule\[draw\]"):
        draw(LECTURES["S02"]()).png(tmp_path / "x.png")
    assert not (tmp_path / "x.png").exists()


def test_png(tmp_path: Path) -> None:
    pytest.importorskip("resvg_py")
    draw(LECTURES["S02"]()).save(tmp_path / "x.png")
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")


def test_notebooks_get_the_svg() -> None:
    drawing = draw(LECTURES["S02"]())
    assert drawing._repr_svg_() == drawing.svg()
    assert drawing.svg() in drawing._repr_html_()


def test_names_can_be_given() -> None:
    x, y = cr.tensor(2.0), cr.tensor(3.0, name="y")
    out = x * y
    text = draw(out, names={x: "first", out: "product"}).text()
    assert "first " in text
    assert "→ product" in text


def test_numbers_have_the_digits_asked_for() -> None:
    x = cr.tensor(1 / 3, name="x")
    assert "0.333333333 " in draw(x * 1.0, digits=9).text().replace("\n", " ")


def test_a_stale_parameter_is_refused() -> None:
    weight = cr.Parameter(2.0, name="w")
    loss = weight * 3.0
    weight.rebind(1.0)
    with pytest.raises(cr.GradientError, match="updated after"):
        draw(loss)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_shown(value: float) -> None:
    x = cr.tensor([1.0, value, 3.0], name="x")
    assert "1 not finite" in draw(cr.sum(x)).text()
    assert 'class="bad"' in draw(cr.sum(x)).svg()
    assert f"{value:g}" in draw(cr.tensor(value, name="x") * 1.0).text()


# -- folding ----------------------------------------------------------------------------------


def _network(layers: int) -> Tensor:
    blocks = [layer for _ in range(layers) for layer in (cr.nn.Linear(8, 8), cr.nn.ReLU())]
    model = cr.nn.Sequential(*blocks, cr.nn.Linear(8, 3), seed=0)
    x = np.random.default_rng(0).normal(size=(5, 8)).astype("f4")
    return cr.losses.softmax_cross_entropy(model(x), np.array([0, 1, 0, 1, 1]))


def test_repeated_layers_are_one_box() -> None:
    drawing = draw(_network(12), fold=True)
    assert "[Linear → relu ×12]" in drawing.text()
    assert "[softmax_cross_entropy]" in drawing.text()
    assert drawing.notes[0].startswith("folded: ")
    assert "×12" in drawing.svg()


def test_layers_called_one_by_one_keep_their_names() -> None:
    x: Tensor = cr.tensor(np.ones((2, 4)), name="x", requires_grad=False)
    for _ in range(5):
        x = cr.nn.ReLU()(cr.nn.Linear(4, 4, dtype="float64")(x))
    text = draw(cr.sum(x), fold=True).text()
    assert "[Linear → relu ×5]" in text


def test_a_composed_call_is_one_box() -> None:
    x = cr.tensor([1.0, 2.0, 4.0], name="x")
    text = draw(cr.std(x) * 2.0, fold=True).text()
    assert "[std]" in text
    assert "[std]" not in draw(cr.std(x) * 2.0).text()


def test_small_circuits_are_whole_unless_asked() -> None:
    assert draw(_network(2)).notes == ()
    assert draw(_network(2), max_nodes=10).notes != ()
    assert draw(_network(2), max_nodes=1, fold=False).notes == ()


def test_a_long_chain_becomes_one_box() -> None:
    y = cr.tensor(1.0, name="a")
    for _ in range(2000):
        y = y * 1.0001 + 0.0001
    assert "[× → + ×2000]" in draw(y).text()


def test_what_is_still_too_large_is_summarised_by_depth() -> None:
    rng = np.random.default_rng(1)
    nodes = [cr.tensor(float(v), name=f"x{k}") for k, v in enumerate(rng.normal(size=10))]
    while len(nodes) < 10_000:
        i, j = rng.integers(max(0, len(nodes) - 60), len(nodes), 2)
        made = cr.tanh(nodes[i] + nodes[j]) if len(nodes) % 3 else nodes[i] * 0.9
        nodes.append(made)
    total = nodes[-1]
    for node in nodes[-60:-1]:
        total = total + node
    drawing = draw(total)
    (note,) = drawing.notes
    assert note.startswith("summarised by depth")
    text = drawing.text()
    assert "10 variables]" in text
    assert "wires" in text
    counted = sum(int(n) for n in re.findall(r"(\d+) (?:×|tanh|\+|constants)", text))
    assert counted == drawing._picture.nodes - 10 - 1
