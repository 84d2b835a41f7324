"""Derivations: every function has one, each line equals the one before at 60 digits, and the last
is the registry's short form."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping
from typing import Any

import mpmath
import numpy as np
import pytest
from click.testing import CliRunner

import chainrule as cr
import golden
import mp_reading
from chainrule.circuit import Tensor, circuit_of
from chainrule.cli.main import cli
from chainrule.derive.derivation import Part
from chainrule.derive.differentiate import local_of
from chainrule.derive.symbols import is_pending, recording
from chainrule.errors import ExpressionError, UnknownNameError
from chainrule.nn.losses import LOSSES
from chainrule.rewrite.algebra import replaced

DIGITS = 150  # so that 60 are left of a derivative taken numerically
FUNCTIONS = dict(cr.registry.items()) | {f"losses.{n}": f for n, f in LOSSES.items()}
FUNCTIONS |= {f"matching({h})": cr.losses.matching(h) for h in ("identity", "sigmoid", "softmax")}
DERIVED = {name: cr.derive(function) for name, function in FUNCTIONS.items()}
DERIVED["softmax, beta"] = cr.derive(cr.softmax, beta=0.8)
DERIVED["sin(exp(-x**2))"] = cr.derive(lambda x: cr.sin(cr.exp(-(x**2))))
DERIVED["x² + xy + y²"] = cr.derive(lambda x, y: x**2 + x * y + y**2)
DERIVED["relu(wx + b)"] = cr.derive(lambda x, w, b: cr.relu(w * x + b))
DERIVED["softmax(-x)"] = cr.derive(lambda x, y: cr.softmax(cr.stack([-x, y]))[0])
DERIVED["quotients"] = cr.derive(lambda x: (x**3 - 1) / (x**2 + 1) / (2 * cr.exp(x) + x / 3))
# What has no derivative in the ordinary sense: its lines are statements about gradients.
CONVENTIONS = {"stop_gradient"}

each = pytest.mark.parametrize("name", list(DERIVED))


# -- numbers ----------------------------------------------------------------------------------


def leaves_of(nodes: list[Tensor]) -> list[Tensor]:
    found = {x for node in nodes for x in circuit_of(node) if x.op is None and x.requires_grad}
    return sorted((x for x in found if x.name), key=lambda x: x.serial)


def is_known_constant(leaf: Tensor) -> bool:
    """√2, ln 2 and the like: symbols whose value is not free."""
    return not (leaf.name or "").isidentifier()


def points(part: Part, seed: int) -> Iterator[dict[Tensor, Any]]:
    """Random values near the samples, where the part's conditions hold."""
    rng = np.random.default_rng([seed, len(part.steps)])
    nodes = [s.node for s in part.steps] + [c for c, _ in part.conditions]
    leaves = [x for x in leaves_of(nodes) if not is_known_constant(x)]
    free = [x for x in leaves if not _is_parameter(x)]
    signed = bool(part.conditions)  # elsewhere a logarithm or a root may need the sample's sign
    found = 0
    for _ in range(400):
        values: dict[Tensor, Any] = {x: float(x.value) for x in leaves if x not in free}
        for leaf in free:
            base = float(leaf.value)
            spread = rng.uniform(-4, 4) if signed else rng.uniform(0.6, 1.3)
            values[leaf] = base * spread
        if all(bool(_exact(c, values)[()]) == holds for c, holds in part.conditions):
            yield values
            found += 1
        if found == 3:
            return
    assert found or " = " in part.condition, f"no point for {part.heading()}"


def _is_parameter(leaf: Tensor) -> bool:
    return leaf.name in ("alpha", "low", "high", "k", "delta", "lambda", "c")


def _exact(node: Tensor, values: Mapping[Tensor, Any]) -> Any:
    """The value of a line at DIGITS digits; what is pending is differentiated numerically."""
    known = dict(values)
    stand_ins: dict[Any, Tensor] = {}
    for one in circuit_of(node):
        if is_pending(one):
            u, x = one.inputs
            stand_ins[one] = cr.tensor(1.0, name="pending")
            known[stand_ins[one]] = _slope(u, x, values)
    with recording():
        plain = replaced(node, stand_ins) if stand_ins else node
    return mp_reading.read(plain, known, DIGITS)


def _slope(u: Tensor, x: Tensor, values: Mapping[Tensor, Any]) -> Any:
    """∂u/∂x by a central difference of high order, far below 60 digits of error."""
    with mpmath.workdps(DIGITS):
        if x not in values:
            return mpmath.mpf(0)

        def function(t: Any) -> Any:
            return mp_reading.read(u, {**values, x: t}, DIGITS)[()]

        at, h, order = mpmath.mpf(values[x]), mpmath.mpf(10) ** -11, 4
        total = mpmath.mpf(0)
        for k in range(1, order + 1):
            c = 2 * (-1) ** (k + 1) * mpmath.factorial(order) ** 2
            c /= k * mpmath.factorial(order - k) * mpmath.factorial(order + k)
            total += c * (function(at + k * h) - function(at - k * h)) / 2
        return total / h


def assert_equal(a: Any, b: Any, what: str) -> None:
    with mpmath.workdps(DIGITS):
        for one, other in zip(np.ravel(a), np.ravel(b), strict=True):
            one, other = (mpmath.mpf(v) if isinstance(v, bool) else v for v in (one, other))
            scale = max(abs(one), abs(other), mpmath.mpf(10) ** -3)
            assert abs(one - other) <= scale * mpmath.mpf(10) ** -60, what


@each
def test_each_line_equals_the_one_before(name: str) -> None:
    if name in CONVENTIONS:
        return
    for number, part in enumerate(DERIVED[name].parts):
        for values in points(part, number):
            first = _exact(part.steps[0].node, values)
            for step in part.steps[1:]:
                line = _exact(step.node, values)
                assert_equal(first, line, f"{name}: {step.rule}: {step.text} at {values}")


# -- the last line ----------------------------------------------------------------------------

POINTWISE = [op for op in cr.registry.operations() if op.facts.local]


@pytest.mark.parametrize("op", POINTWISE, ids=lambda op: op.name)
def test_the_last_line_is_the_registrys_short_form(op: cr.Operation) -> None:
    for number, part in enumerate(DERIVED[op.name].parts):
        closed = part.steps[0].node.inputs[0]
        if closed.op is None:
            continue
        if closed.op is not op:  # eˣ − 1 is what expm1 is written as
            closed = op(part.variable)
        position = next(k for k, x in enumerate(closed.inputs) if x is part.variable)
        with recording():
            target = local_of(closed, position)
        for values in points(part, number):
            got, wanted = _exact(part.result, values), _exact(target, values)
            assert_equal(got, wanted, f"{op.name}: {part.steps[-1].text}")


LAST_LINES = {
    "sigmoid": ["σ(x) · (1 − σ(x))"],
    "tanh": ["1 − tanh(x)²"],
    "relu": ["1", "0"],
    "softplus": ["σ(x)"],
    "silu": ["σ(x) · (1 + x · (1 − σ(x)))"],
    "softsign": ["1 / (1 + |x|)²"],
    "leaky_relu": ["1", "alpha"],
    "elu": ["1", "alpha · exp(x)"],
    "losses.squared_error": ["a − y", "(σ(a) − y) · σ(a) · (1 − σ(a))"],
    "losses.absolute_error": ["1", "-1"],
    "losses.huber": ["delta", "−delta", "a − y"],
    "losses.logistic": ["σ(a) − y"],
    "losses.softmax_cross_entropy": ["σ_i − t_i"],
    "losses.nll": ["−t_i / z_i"],
    "losses.relative_entropy": ["−y_i / p_i"],
    "losses.binary_cross_entropy": ["−y / p + (1 − y) / (1 − p)"],
    "matching(identity)": ["a − y", "(σ(a) − y) · σ(a) · (1 − σ(a))"],
    "matching(sigmoid)": ["σ(a) − y"],
    "matching(softmax)": ["σ_i − y_i"],
    "log_softmax": ["1 − σ_i", "−σ_j"],
    "x² + xy + y²": ["2 · x + y", "x + 2 · y"],
    "sin(exp(-x**2))": ["−2 · x · cos(exp(−x²)) · exp(−x²)"],
}


@pytest.mark.parametrize("name", LAST_LINES)
def test_short_forms_are_written_as_the_lectures_write_them(name: str) -> None:
    assert [part.steps[-1].text for part in DERIVED[name].parts] == LAST_LINES[name]


def test_matching_loss_of_any_transfer_function() -> None:
    derivation = cr.derive(cr.losses.matching(cr.tanh))
    assert derivation.steps[-1].text == "tanh(a) − y"
    assert "fundamental theorem" in [step.rule for step in derivation.steps]


@pytest.mark.parametrize("name", list(LOSSES))
def test_loss_formulas_are_those_of_the_losses(name: str) -> None:
    """Value and gradient of the formula derived from, against the loss that is trained with."""
    for part in DERIVED[f"losses.{name}"].parts[-1:]:
        formula, x = part.steps[0].node.inputs
        given = {leaf.name: float(leaf.value) for leaf in leaves_of([formula])}
        row = [f"{x.name[0]}_{n}" for n in "ijk"] if x.name.endswith("_i") else []
        if "sigmoid" in part.title or "(σ" in part.steps[0].text:
            continue
        prediction = cr.tensor([[given[n] for n in row]] if row else [given[x.name]])
        letter = {"nll": "t", "softmax_cross_entropy": "t"}.get(name, "y")
        targets = [given.get(f"{letter}_{n}") for n in "ijk"] if row else [given["y"]]
        if row and targets[2] is None:
            targets[2] = 1 - targets[0] - targets[1]
        loss = LOSSES[name](prediction, np.array([targets] if row else targets), reduction="sum")
        scale = given.get("k", 1.0)  # the mean over k outputs; one is given here
        assert float(loss) == pytest.approx(float(formula.value) * scale, rel=1e-12)
        loss.backward()
        if not part.conditions or all(bool(c.value) == h for c, h in part.conditions):
            assert prediction.grad.ravel()[0] == pytest.approx(
                float(part.result.value) * scale, rel=1e-12
            )


# -- the lectures' chains ---------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sigmoid", "tanh", "relu", "softmax"])
def test_text_is_as_it_was_read(name: str) -> None:
    golden.check(f"derive_{name}.txt", str(DERIVED[name]) + "\n")


def test_sigmoid_takes_the_lectures_steps_in_order() -> None:
    rules = [step.rule for step in DERIVED["sigmoid"].steps]
    order = [
        "definition", "1/u = u⁻¹", "power rule, chain rule", "exp rule, chain rule",
        "multiply out the signs and numbers", "u⁻ⁿ = 1/uⁿ",
        "split into a product of two fractions", "add and subtract 1", "split the fraction",
        "recognise sigmoid",
    ]  # fmt: skip
    assert [rules.index(rule) for rule in order] == sorted(rules.index(rule) for rule in order)


def test_softmax_has_both_cases_the_jacobian_and_the_product_in_o_of_n() -> None:
    titles = [part.title for part in DERIVED["softmax"].parts]
    assert titles[:2] == ["i = j", "i ≠ j"]
    ends = [part.steps[-1].text for part in DERIVED["softmax"].parts]
    assert ends[0] == "σ_i · (1 − σ_i)"
    assert ends[1] == "−σ_i · σ_j"
    assert ends[3] == "σ_i · (v_i − Σₖ v_k · σ_k)"
    assert len(DERIVED["softmax"].parts[2].steps[-1].grid) == 3


# -- every function of the house --------------------------------------------------------------


@each
def test_every_derivation_has_lines_and_rules(name: str) -> None:
    derivation = DERIVED[name]
    assert derivation.parts
    for part in derivation.parts:
        assert len(part.steps) >= 2
        assert part.steps[0].rule == ""
        assert all(step.rule for step in part.steps[1:])
        assert not any(is_pending(node) for node in circuit_of(part.result))


@each
def test_latex_balances_and_mathml_parses(name: str) -> None:
    derivation = DERIVED[name]
    latex = derivation.latex()
    plain = latex.replace(r"\{", "").replace(r"\}", "")
    assert plain.count("{") == plain.count("}")
    assert latex.count(r"\left") == latex.count(r"\right")
    assert latex.count(r"\begin{") == latex.count(r"\end{")
    ElementTree.fromstring(derivation.mathml())
    assert derivation._repr_latex_().startswith("$")


# What KaTeX's strict mode was seen to accept in these formulas: another command or sign has to be
# tried there before it joins the list.
ACCEPTED = {
    "Pi", "Sigma", "alpha", "arccos", "arcsin", "arctan", "begin", "beta", "cdot", "cos",
    "cosh", "delta", "end", "frac", "ge", "hat", "infty", "land", "ldots", "le", "left",
    "lfloor", "ln", "lnot", "log", "lor", "mathrm", "mathsf", "max", "min", "ne", "odot",
    "operatorname", "partial", "pi", "pm", "qquad", "quad", "rfloor", "right", "sigma", "sin",
    "sinh", "sqrt", "sum", "surd", "tan", "tanh", "text", "tfrac", "times",
}  # fmt: skip


@each
def test_latex_holds_only_what_strict_readers_accept(name: str) -> None:
    latex = DERIVED[name].latex()
    assert set(re.findall(r"\\([A-Za-z]+)", latex)) <= ACCEPTED
    assert {sign for sign in latex if not sign.isascii()} <= set("σ−")


def test_derive_is_the_function_whatever_was_imported() -> None:
    import chainrule.derive

    assert callable(cr.derive)
    assert cr.derive(cr.exp).result.op.name == "exp"
    assert chainrule.Derivation is type(cr.derive(cr.exp))


# -- asking -----------------------------------------------------------------------------------


def test_a_tensor_is_derived_towards_its_named_leaves() -> None:
    x = cr.tensor([1.0, 2.0], name="x")
    found = cr.derive(cr.sum(x * x))
    assert found.steps[-1].text == "2 · x_1"


def test_wrt_chooses() -> None:
    found = cr.derive(lambda x, y: x * y, wrt="y")
    assert [part.variable.name for part in found.parts] == ["y"]
    with pytest.raises(UnknownNameError, match="variable"):
        cr.derive(lambda x, y: x * y, wrt="z")


def test_what_cannot_be_derived_says_so() -> None:
    with pytest.raises(TypeError, match="chainrule derive"):
        cr.derive("sin(x)")
    with pytest.raises(ExpressionError, match="no argument"):
        cr.derive(lambda: cr.tensor(1.0))
    with pytest.raises(ExpressionError, match="no name"):
        cr.derive(cr.tensor(1.0) * 2)
    with pytest.raises(ExpressionError, match="no tensor"):
        cr.derive(lambda x: 3.0)


def test_derive_works_inside_no_grad() -> None:
    with cr.no_grad():
        assert cr.derive(cr.sigmoid).steps[-1].text == "σ(x) · (1 − σ(x))"


# -- the command ------------------------------------------------------------------------------


def command(*args: str) -> Any:
    return CliRunner().invoke(cli, ["derive", *args])


def test_command_derives_a_formula() -> None:
    done = command("sin(exp(-x**2))")
    assert done.exit_code == 0
    assert done.output.splitlines()[0] == "d/dx(sin(exp(−x^2)))"


@pytest.mark.parametrize("style", ["text", "latex", "mathml", "json"])
@pytest.mark.parametrize("what", ["sigmoid", "softmax_cross_entropy", "q = x + y; f = q*z"])
def test_command_formats(style: str, what: str) -> None:
    done = command(what, "--format", style)
    assert done.exit_code == 0, done.output
    assert done.output


def test_command_refuses_what_it_does_not_know() -> None:
    assert command("maxx(x)").exit_code != 0
    assert command("x*y", "--wrt", "z").exit_code != 0
    assert command("1/2").exit_code != 0
    assert "sigmoid" in str(command("sigmoidd").exception)
