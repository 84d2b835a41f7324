"""The transfer functions: values, derivatives, Jacobians, and what goes wrong with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

import chainrule as cr

from ..compare import Combination
from .curves import FAR, FUNCTIONS, reading
from .dying import FIT, TOO_HIGH, dead_at_start, deaths, run, starts, tries
from .experiments import cosines, on_iris, share_of_time
from .systems import Check, figures, system
from .zigzag import SHOWN_RATE, best, walks

Array = np.ndarray[Any, Any]


def slope(function: Callable[[Any], Any], x: Array) -> Array:
    """The derivative of an elementwise function at each point."""
    return np.asarray(cr.grad(lambda v: cr.sum(function(v)))(x))


def _against_table(name: str, function: Callable[[Any], Any]) -> Iterator[Check]:
    table = figures()["activations"]
    x, rows = np.array(table["x"], dtype=float), table[name]
    yield Check(f"{name}: value at {table['x']}", function(x), [row["y"] for row in rows])
    yield Check(f"{name}: derivative", slope(function, x), [row["dy"] for row in rows])


@system(
    "S11",
    title="Sigmoid, tanh, ReLU and softmax: value and derivative",
    lecture="all five",
    notes="Computed by forms that stay accurate in the tails, where σ(1 − σ) and 1 − tanh² round"
    " to 0 long before the derivative is 0.",
)
def transfer_functions() -> Iterator[Check]:
    """S11."""
    yield from _against_table("sigmoid", cr.sigmoid)
    yield from _against_table("tanh", cr.tanh)
    yield from _against_table("relu", cr.relu)
    x = np.array(figures()["softmax"]["x"])
    yield Check("softmax: value", cr.softmax(x), figures()["softmax"]["y"])
    yield Check("softmax: Jacobian", cr.jacobian(cr.softmax)(x), figures()["softmax"]["jacobian"])


@system(
    "S12",
    title="Leaky ReLU, PReLU with ∂/∂α, ELU and maxout",
    lecture="slides",
    erratum="Leaky ReLU has slope 0.1 on one slide and 0.01 on another; negative_slope is 0.01"
    " unless given. max(αx, x) is PReLU only for α ≤ 1.",
)
def relatives_of_relu() -> Iterator[Check]:
    """S12."""
    yield from _against_table("leaky_relu_0.01", cr.leaky_relu)
    yield from _against_table("elu_1", cr.elu)
    x = np.array(figures()["activations"]["x"], dtype=float)
    left = x <= 0
    for alpha in (0.1, 0.25):
        leaky = partial(cr.leaky_relu, negative_slope=alpha)
        yield Check(f"leaky, slope {alpha}: value", leaky(x), np.maximum(alpha * x, x))
        yield Check(f"leaky, slope {alpha}: derivative", slope(leaky, x), np.where(left, alpha, 1))
    elu = partial(cr.elu, alpha=0.5)
    curve = 0.5 * np.exp(np.minimum(x, 0))
    yield Check("elu, α = 0.5: value", elu(x), np.where(left, curve - 0.5, x))
    yield Check("elu, α = 0.5: derivative", slope(elu, x), np.where(left, curve, 1))
    yield from _prelu(x)
    yield from _maxout()


def _prelu(x: Array) -> Iterator[Check]:
    """PReLU learns α: its gradient is the sum of x where x is negative."""
    for alpha in (0.25, 1.5):
        v, a = cr.tensor(x), cr.tensor(alpha)
        out = cr.prelu(v, a)
        found = out.sum().backward()
        yield Check(f"prelu, α = {alpha}: value", out, np.where(x > 0, x, alpha * x))
        yield Check(f"prelu, α = {alpha}: ∂/∂x", found[v], np.where(x > 0, 1, alpha))
        yield Check(f"prelu, α = {alpha}: ∂/∂α", found[a], np.sum(np.minimum(x, 0)))
    steep = float(cr.prelu(-2.0, 1.5)) - float(np.maximum(1.5 * -2.0, -2.0))
    yield Check("α = 1.5: prelu(−2) differs from max(αx, x) by", steep, -1.0)


def _maxout() -> Iterator[Check]:
    """max over k of w_k·x + b_k: the winner's piece gets the gradient, the others nothing."""
    rng = np.random.default_rng(12)
    x = rng.normal(size=3)
    for pieces in (2, 5):
        w, b = cr.tensor(rng.normal(size=(pieces, 3))), cr.tensor(rng.normal(size=pieces))
        nets = w @ x + b
        out = cr.sum(cr.maxout(nets, pieces))
        found = out.backward()
        won = np.arange(pieces) == np.argmax(nets.numpy())
        yield Check(f"maxout of {pieces} pieces: value", out, np.max(w.numpy() @ x + b.numpy()))
        yield Check(f"maxout of {pieces} pieces: ∂/∂w", found[w], np.outer(won, x))
        yield Check(f"maxout of {pieces} pieces: ∂/∂b", found[b], won.astype(float))


@system(
    "S13",
    title="The derivative of each transfer function, line by line",
    lecture="derivatives, error-and-delta, slides",
    notes="What is compared: the chain rule on the opened definition, and the last line of the"
    " derivation, against the short form. `chainrule derive sigmoid` prints every line.",
    erratum="tanh's derivation writes sin and cos for sinh and cosh. In softmax's, the line for"
    " i = j carries a stray −σⱼσᵢ, and the one before it drops a factor e^{xⱼ}. One line of the"
    " sigmoid's drops the inner minus sign.",
)
def short_forms() -> Iterator[Check]:
    """S13."""
    x = np.array([-2.0, -0.3, 0.0, 0.7, 3.0])
    short: dict[Any, Callable[[Array], Array]] = {
        cr.sigmoid: lambda s: s * (1 - s),
        cr.tanh: lambda t: 1 - t**2,
        cr.relu: lambda r: (r > 0).astype(float),
    }
    for gate, form in short.items():
        yield Check(f"{gate.name}: opened", slope(gate.facts.definition, x), form(gate(x)))
        for part in cr.derive(gate).parts:  # one; of relu, x > 0 and x ≤ 0
            at = float(part.variable) * (-1 if "≤" in part.condition else 1)
            yield Check(f"{gate.name}: derived, at {at:.3g}", part.result, cr.grad(gate)(at))
    definition = cr.softmax.facts.definition
    s = cr.softmax(x)
    jacobian = cr.jacobian(lambda v: definition(v, axis=-1, beta=1.0))(x)
    yield Check("softmax: opened, σᵢ(δᵢⱼ − σⱼ)", jacobian, np.diag(s) - np.outer(s, s))


@system(
    "S14",
    title="Softmax with β, in physics' form exp(−βx)",
    lecture="derivatives",
    notes="softmax(x, beta=b) is the field's exp(b·x); physics' form is softmax(-x, beta=b).",
    erratum="The lines mix e^{−βx} with e^{x}: with β the Jacobian has a factor −β.",
)
def boltzmann() -> Iterator[Check]:
    """S14."""
    x = np.array(figures()["softmax"]["x"])
    for beta in (2.0, -0.5):
        expected = figures()[f"softmax_boltzmann_beta_{beta}"]
        form = partial(_physics, beta=beta)
        yield Check(f"β = {beta}: value", form(x), expected["y"])
        yield Check(f"β = {beta}: Jacobian", cr.jacobian(form)(x), expected["jacobian"])
        s = form(x)
        by_hand = -beta * (np.diag(s) - np.outer(s, s))
        yield Check(f"β = {beta}: −β·σᵢ(δᵢⱼ − σⱼ)", cr.jacobian(form)(x), by_hand)


def _physics(x: Any, beta: float) -> Any:
    return cr.softmax(-x, beta=beta)


WIDE = 200_000  # as a Jacobian this would take 320 GB


@system(
    "S15",
    title="Softmax's N×N Jacobian, and vector × Jacobian in O(N)",
    lecture="softmax",
    notes=f"zᵢ = σᵢ(vᵢ − v·σ) needs no matrix: at N = {WIDE} the Jacobian would take 320 GB.",
    erratum="The matrix prints an off-diagonal entry without its minus sign, as does the line"
    " before it. The quotient rule is written with f² below, which is g²; the first Jacobian is"
    " printed transposed.",
)
def jacobian_and_product() -> Iterator[Check]:
    """S15."""
    expected = figures()["softmax"]
    x, v = np.array(expected["x"]), np.array(expected["v"])
    jacobian = cr.jacobian(cr.softmax)(x)
    yield Check("Jacobian", jacobian, expected["jacobian"])
    yield Check("symmetric", jacobian, jacobian.T)
    yield Check("columns add up to 0", jacobian.sum(axis=0), np.zeros(len(x)))
    _, pull = cr.vjp(cr.softmax, x)
    yield Check("v × Jacobian", pull(v), expected["vjp"])
    yield Check("σᵢ(vᵢ − v·σ) by hand", pull(v), cr.softmax(x) * (v - v @ cr.softmax(x)))
    wide, upstream = np.random.default_rng(15).normal(size=(2, WIDE))
    s, pull = cr.vjp(cr.softmax, wide)
    yield Check(f"v × Jacobian at N = {WIDE}: sum", np.sum(pull(upstream)), 0.0)
    worst = np.max(abs(pull(upstream) - s * (upstream - upstream @ s)))
    yield Check(f"v × Jacobian at N = {WIDE}: largest difference from σᵢ(vᵢ − v·σ)", worst, 0.0)


def _at_far_points(name: str, function: Callable[[Any], Any]) -> Check:
    return Check(
        f"{name}′(−10), {name}′(0), {name}′(10)", slope(function, FAR), _table_at_far(name)
    )


def _table_at_far(name: str) -> list[float]:
    table = figures()["activations"]
    return [table[name][table["x"].index(x)]["dy"] for x in FAR.tolist()]


def _far_points() -> Iterator[Check]:
    """All six: the local derivative on the edge, and what comes back for an upstream of 1."""
    named = {"leaky_relu": "leaky_relu_0.01", "elu": "elu_1"}
    for name, function in FUNCTIONS.items():
        found = reading(function, FAR)
        maxout = [-0.5, 0.25, 1.0]  # of max(x, −x/2): at 0 the two share
        figure = maxout if name == "maxout" else _table_at_far(named.get(name, name))
        yield Check(f"{name}: local derivative at −10, 0, 10", found.local, figure)
        yield Check(f"{name}: comes back for an upstream of 1", found.back, figure)


@system(
    "S26",
    title="Sigmoid's problems: saturation, outputs of one sign, the cost of exp",
    lecture="slides",
    notes="With inputs that are all positive, every row moves a neuron's weights all up or all"
    " down: consecutive steps go nearly along one line, to and fro. The time of exp is that of"
    " this machine. `chainrule compare --preset saturation`, zero-centred and exp-cost measure all"
    " three on digits.",
)
def sigmoid_problems() -> Iterator[Check]:
    """S26."""
    yield from _far_points()
    inputs = np.random.default_rng(26).uniform(0.1, 1.0, size=(20, 6))  # a sigmoid layer's outputs
    signs = np.sign(_row_gradients(inputs))
    yield Check("inputs all positive: rows of mixed sign", _mixed_rows(signs), 0)
    centred = inputs - inputs.mean(axis=0)
    some = _mixed_rows(np.sign(_row_gradients(centred)))
    yield Check("inputs centred: some rows of mixed sign", some > 0, True)
    yield from _zig_zag()
    times = share_of_time(cr.sigmoid, cr.relu)
    yield Check("a million sigmoids take longer than a million ReLUs, here", times > 1, True)


def _zig_zag() -> Iterator[Check]:
    """How alike in direction consecutive steps of SGD are, row by row: 1 is one and the same line.

    The figures were measured here first; those for independent directions in 6 dimensions have a
    mean |cos| of 0.34.
    """
    rng = np.random.default_rng(26)
    x, y = rng.uniform(0.1, 1.0, size=(200, 6)), rng.integers(0, 2, size=200)
    for name, inputs, (alike, back) in (
        ("inputs all positive", x, (0.834291964473007, 0.402010050251256)),
        ("inputs centred", x - x.mean(axis=0), (0.323570907180948, 0.0301507537688442)),
    ):
        found = cosines(inputs, y)
        yield Check(f"{name}: mean |cos| of consecutive steps", np.mean(abs(found)), alike)
        yield Check(f"{name}: steps that turn back, cos < −0.7", np.mean(found < -0.7), back)
    for (name, of), (alike, at_one, at_best) in zip(
        walks().items(), ((1.0, 109, 109), (0.45, 95, 49)), strict=True
    ):
        one = of[SHOWN_RATE]
        yield Check(f"two inputs {name}: steps with gradients of one sign", one.one_sign, alike)
        yield Check(f"two inputs {name}: steps at rate {SHOWN_RATE:g}", one.arrived, at_one)
        yield Check(f"two inputs {name}: steps at the best rate", best(of).arrived, at_best)


def _row_gradients(inputs: Array) -> Array:
    """The gradient of one sigmoid neuron's weights, for each row by itself."""
    rng = np.random.default_rng(1)
    targets = rng.integers(0, 2, size=len(inputs))
    w = rng.normal(size=inputs.shape[1])

    def loss(v: Any, x: Array, y: Any) -> Any:
        return 0.5 * cr.square(cr.sigmoid(x @ v) - y)

    return np.array([cr.grad(loss)(w, x, y) for x, y in zip(inputs, targets, strict=True)])


def _mixed_rows(signs: Array) -> int:
    return int(np.sum(np.any(signs != signs[:, :1], axis=1)))


@system(
    "S28",
    title="The dead ReLU: x = −10, 0, 10, an unlucky start, too large a step",
    lecture="slides",
    notes="A unit whose net input is negative on every row passes no gradient, so no step of"
    " gradient descent can bring it back. Then the same in a net on iris, at a fit rate and at one"
    " that is too high; leaky units stay alive. `chainrule compare` counts the dead units of any"
    " net, and its preset dead-relu those on digits.",
)
def dead_relu() -> Iterator[Check]:
    """S28."""
    yield _at_far_points("relu", cr.relu)
    rng = np.random.default_rng(28)
    x, y = rng.uniform(0, 1, size=(30, 2)), np.ones(30)
    unlucky = (np.array([-1.0, -0.5]), -0.1)  # its net input is negative on every row
    yield Check("unlucky start: gradient", np.hstack(_unit_gradient(*unlucky, x, y)), np.zeros(3))
    w, b = np.array([0.5, 0.5]), 0.0
    alive = np.hstack(_unit_gradient(w, b, x, 0 * y))
    yield Check("a start with live rows: gradient is not 0", bool(np.all(alive > 0)), True)
    w, b = w - 50 * alive[:2], b - 50 * alive[2]
    after = np.hstack(_unit_gradient(w, b, x, 0 * y))
    yield Check("after one step at rate 50: gradient", after, np.zeros(3))
    yield from _dead_at_start()
    yield from _dies_in_a_step()
    yield from _dead_in_a_net()


def _dead_at_start() -> Iterator[Check]:
    """Positive rows have some units dead at the start; centred ones, without a bias, cannot."""
    for name, x in starts().items():
        share = dead_at_start(x)
        if "centred" in name:
            yield Check(f"{name}: share of units dead at the start", share, 0.0)
        else:
            yield Check(f"{name}: some units are dead at the start", share > 0, True)


def _dies_in_a_step() -> Iterator[Check]:
    """Units of a net on iris, by the step that kills them, and what wakes the first."""
    yield Check(f"rate {FIT:g}: units that die", len(deaths(run("relu", FIT))), 0)
    made = run("relu", TOO_HIGH)
    first = deaths(made)[0]
    unit, step = first.unit, first.step
    yield Check(f"rate {TOO_HIGH:g}: the first unit that dies", unit, 15)
    yield Check("the step that kills it", step, 2)
    net, delta = made[step - 1].net[:, unit], made[step].delta[:, unit]
    yield Check("its largest net before is above 0", bool(net.max() > 0), True)
    yield Check("its δ on every row after", delta, np.zeros(len(delta)))
    moved = made[-1].weights["W1"][unit] - made[step].weights["W1"][unit]
    yield Check("how far its weights move from then on", moved, np.zeros(4))
    for one, wakes in zip(tries(), (False, True, True, False, True), strict=True):
        yield Check(f"{one.name}: awake", one.rows > 0, wakes)


def _dead_in_a_net() -> Iterator[Check]:
    """The share of 16 hidden units that are dead after 30 epochs on iris, by seed."""
    rates = (0.3, 10.0)
    nets = [
        Combination(name, "softmax_cross_entropy", "sgd", lr, (16,), label=f"{name}, rate {lr:g}")
        for name in ("relu", "leaky_relu")
        for lr in rates
    ]
    for label, cells in on_iris(combinations=nets, epochs=30).cells.items():
        dead = [16 * cell.dead for cell in cells]
        figure = [5, 5] if label == "relu, rate 10" else [0, 0]
        yield Check(f"{label}: dead units of 16, by seed", dead, figure)


def _unit_gradient(w: Array, b: Any, x: Array, y: Array) -> tuple[Array, Array]:
    def loss(weights: Any, bias: Any) -> Any:
        return cr.mean(0.5 * cr.square(cr.relu(x @ weights + bias) - y))

    found: tuple[Array, Array] = cr.grad(loss, (0, 1))(w, b)
    return found
