"""Golden text and LaTeX of the lectures' circuits; names; gates open and closed; matrix form."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import chainrule as cr
import golden
from chainrule.errors import GradientError
from chainrule.lectures import circuits, flow, worked


def _x(value: float = 0.7) -> cr.Tensor:
    return cr.tensor(value, name="x")


def _squared_after_transfer() -> cr.Tensor:
    a = cr.tensor(0.7, name="a")
    out = cr.sigmoid(a)
    out.name = "out"
    return 0.5 * (out - 1.0) ** 2


def _regression() -> cr.Tensor:
    X, y = np.array([[1.0, 2.0], [3.0, 5.0], [2.0, 1.0]]), np.array([1.0, 2.0, 3.0])
    w = cr.tensor([0.5, -0.25], name="w")
    return cr.losses.squared_error(X @ w, y)


BUILDERS: dict[str, Any] = {
    "S08_regression": _regression,
    "S11_sigmoid": lambda: cr.sigmoid(_x()),
    "S11_tanh": lambda: cr.tanh(_x()),
    "S11_relu": lambda: cr.relu(_x()),
    "S12_leaky_relu": lambda: cr.leaky_relu(_x(-1.0)),
    "S12_prelu": lambda: cr.prelu(_x(-2.0), cr.tensor(0.25, name="alpha")),
    "S12_elu": lambda: cr.elu(_x(-1.0)),
    "S14_boltzmann": lambda: cr.softmax(-cr.tensor([0.5, -1.2, 2.0], name="x"), beta=2.0)[0],
    "S17_squared": _squared_after_transfer,
    "S18_logistic": lambda: cr.losses.logistic(cr.tensor([0.7], name="a"), np.array([1.0])),
    "S24_delta": lambda: 0.5 * (1.0 - cr.sigmoid(cr.tensor(-1.28, name="net"))) ** 2,
    "S01": lambda: circuits.linear().output,
    "S02": lambda: circuits.add_mul().output,
    "S03_closed": lambda: circuits.sigmoid_neuron().output,
    "S03_written": lambda: circuits.written_neuron().output,
    "S06": lambda: cr.maximum(cr.tensor(2.0, name="x"), cr.tensor(2.0, name="y")),
    "S07": lambda: circuits.branch().output,
    "S10": lambda: worked.unit_by_unit().error,
    "S22_sin_sq": lambda: circuits.sin_sq().output,
    "S22_sin_exp": lambda: circuits.sin_exp().output,
    "S23": lambda: circuits.partials().output,
    "S25": lambda: circuits.chain2().output,
    "S16": flow.CIRCUITS["softmax and its loss"],
    "S20_dense": flow.CIRCUITS["dense net"],
}


@pytest.mark.parametrize("name", BUILDERS)
def test_golden_text(name: str) -> None:
    golden.check(f"explain_{name}.txt", str(cr.explain(BUILDERS[name]())))


@pytest.mark.parametrize("name", BUILDERS)
def test_golden_latex(name: str) -> None:
    golden.check(f"explain_{name}.tex", cr.explain(BUILDERS[name]()).latex() + "\n")


@pytest.mark.parametrize("name", BUILDERS)
def test_every_form_is_well_formed(name: str) -> None:
    explanation = cr.explain(BUILDERS[name](), optimizer=cr.optim.Adam())
    ElementTree.fromstring(explanation.mathml())
    latex = explanation.latex()
    assert latex.count("{") == latex.count("}")
    assert explanation._repr_latex_().startswith("$$")
    assert "<math" in explanation._repr_html_()
    assert explanation.html().startswith("<!DOCTYPE html>")


def test_opened_the_neuron_shows_its_four_stages() -> None:
    text = str(cr.explain(circuits.sigmoid_neuron().output, wrt="z", gates="open"))
    golden.check("explain_S03_opened.txt", text)
    for name in ("reciprocal", "exp", "negative"):
        assert f"{name} is a scaler" in text


def test_closed_a_written_sigmoid_is_one_gate() -> None:
    circuit = circuits.written_neuron()
    z = circuit.named["z"]
    text = str(cr.explain(circuit.output, wrt=z, gates="closed"))
    assert "= out · (1 − out)" in text or "out1 · (1 − out1)" in text
    assert z.name is None


def test_an_opened_view_that_disagrees_keeps_the_gates_numbers() -> None:
    x = cr.tensor(-400.0, name="x")
    f = cr.sigmoid(x)
    explanation = cr.explain(f, wrt=x, gates="open")
    assert float(explanation.gradient(x)) == float(f.backward()[x])
    assert explanation.notes != ()
    assert "keep" in str(explanation) or "stays closed" in str(explanation)


def test_names_are_the_users_then_the_callers_then_the_textbooks() -> None:
    given = cr.tensor(1.0, name="given")
    weight = cr.tensor(2.0)
    text = str(cr.explain(cr.tanh(given * weight) * 3.0))
    assert "given" in text
    assert "weight" in text
    assert "∂out1/∂net1" in text
    assert "n1" not in text.replace("net1", "")


def test_a_name_in_the_caller_belongs_to_the_call_only() -> None:
    def inside() -> str:
        local = x
        return str(cr.explain(local * 2.0 + local, wrt=local))

    x = cr.tensor(1.0)
    assert "local" in inside()
    assert x.name is None
    assert "local" not in str(cr.explain(x * 2.0, wrt=x))


def test_constants_are_called_as_the_callers_arrays() -> None:
    samples = np.random.default_rng(0).normal(size=(4, 3))
    W = cr.tensor(np.ones((2, 3)))
    loss = cr.sum(cr.tanh(samples @ W.T))
    text = str(cr.explain(loss, wrt=W))
    assert "∂loss/∂W = δ1ᵀ @ samples" in text
    assert "(2×3 = 2×4 · 4×3)" in text


def mlp(loss: Any, *layers: Any) -> Any:
    X = np.random.default_rng(0).normal(size=(5, 3))
    return loss(cr.nn.Sequential(*layers, seed=0)(X))


def linear(n: int, m: int) -> Any:
    return cr.nn.Linear(n, m, dtype=np.float64)


def test_matrix_form_of_a_dense_net_with_cross_entropy() -> None:
    loss = mlp(
        lambda out: cr.losses.softmax_cross_entropy(out, np.array([0, 1, 1, 0, 1])),
        linear(3, 4), cr.nn.Sigmoid(), linear(4, 4), cr.nn.ReLU(), linear(4, 2),
    )  # fmt: skip
    text = str(cr.explain(loss, wrt="W1"))
    assert "δ1 = ∂loss/∂net1 = (δ2 @ W2) ⊙ σ′(net1)   (5×4)" in text
    assert "δ3 = ∂loss/∂net3 = (softmax(net3) − T) / 5   (5×2)" in text
    assert "σ′(net1) = out1 · (1 − out1)" in text
    assert "Σ(δ1)" in str(cr.explain(loss, wrt="b1"))


@pytest.mark.parametrize(
    "layer",
    [lambda: cr.nn.BatchNorm1d(4, dtype=np.float64), lambda: cr.nn.LayerNorm(4, dtype=np.float64)],
)
def test_the_matrix_forms_circuit_computes_the_gradient(layer: Any) -> None:
    """Each equation is the rules run on symbols: its value is the gradient that it stands for."""
    from chainrule.explain.matrix import _stops, _term
    from chainrule.explain.writer import Writer

    target = np.random.default_rng(1).normal(size=(5, 2))
    loss = mlp(
        lambda out: cr.losses.squared_error(out, target), linear(3, 4), layer(), cr.nn.Tanh(),
        linear(4, 2),
    )  # fmt: skip
    explanation = cr.explain(loss)
    writer = Writer(explanation.flow, explanation.names, "text", 9)
    for node, edges in explanation.flow.received.items():
        if node.size > 1:
            total = sum(np.asarray(_term(writer, edge).formula.value) for edge in edges)
            np.testing.assert_allclose(
                total, explanation.flow.gradients[node], rtol=1e-12, atol=1e-15
            )
    assert _stops(writer, loss, 0)


def test_ties_shares_and_roles_are_said() -> None:
    text = str(cr.explain(BUILDERS["S06"]()))
    assert "maximum shares its gradient: a tie" in text
    assert "maximum is a router: sends its upstream gradient to the winner, 0 to the others" in text


def test_wrong_usage_is_refused_clearly() -> None:
    x = cr.tensor([1.0, 2.0], name="x")
    with pytest.raises(GradientError, match="needs an upstream gradient"):
        cr.explain(x * 2)
    with pytest.raises(TypeError, match="explain needs a tensor"):
        cr.explain(3.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="gates is 'open', 'closed' or None"):
        cr.explain(cr.sum(x), gates="ajar")
    with pytest.raises(TypeError, match="wrt is a tensor, a name, or a list"):
        cr.explain(cr.sum(x), wrt=3)


def test_a_parameter_that_has_moved_is_refused() -> None:
    w = cr.Parameter(1.0, name="w")
    loss = w * 2.0
    w.rebind(3.0)
    with pytest.raises(GradientError, match="updated after this loss was computed"):
        cr.explain(loss)


def test_saving_by_ending(tmp_path: Path) -> None:
    explanation = cr.explain(BUILDERS["S02"]())
    for name, start in (("a.txt", "out by x"), ("a.tex", r"\begin{aligned}"), ("a.mml", "<math"),
                        ("a.html", "<!DOCTYPE html>")):  # fmt: skip
        explanation.save(tmp_path / name)
        assert (tmp_path / name).read_text(encoding="utf-8").startswith(start)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.html", "a.mml", "a.tex", "a.txt"]


def test_the_steps_hold_the_formula_and_the_numbers() -> None:
    step = cr.explain(BUILDERS["S03_closed"](), wrt="z").steps[0]
    assert (step.op, step.input, step.formula) == ("sigmoid", "z", "out1 · (1 − out1)")
    assert step.contribution == step.local * step.upstream


@pytest.mark.parametrize("first", ["chainrule.explain", "chainrule.explain.flow", "chainrule.cli"])
def test_explain_is_the_function_whoever_loads_its_room_first(first: str) -> None:
    code = (
        f"import importlib, chainrule as cr; importlib.import_module({first!r});"
        " print(callable(cr.explain))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"
