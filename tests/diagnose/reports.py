"""Reports made by hand: what a diagnosis can say, each kind of it once."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from chainrule.diagnose.finding import (
    Curve,
    Evidence,
    Factor,
    Finding,
    Flow,
    Proof,
    Report,
    Score,
    Where,
)

NAN, INF = math.nan, math.inf


def score(value: float, loss: float = 0.1, error: str = "") -> Score:
    return Score("accuracy", value, 0.5, loss, error)


def falling(name: str, first: float, last: float, epochs: int = 40) -> Curve:
    return Curve(name, tuple(np.geomspace(first, last, epochs).tolist()))


def flow(layer: str, transfer: str, delta: float, **more: Any) -> Flow:
    """A layer whose pre-activations are spread as a bell from −6 to 6."""
    edges = np.linspace(-6.0, 6.0, 41)
    counts = np.round(400 * np.exp(-0.5 * ((edges[1:] + edges[:-1]) / 4) ** 2)).astype(int)
    facts: dict[str, Any] = {
        "weight": f"{layer}.weight", "units": 16, "gain": 0.9, "slope": 0.4, "dead": (),
        "saturated": NAN, "one_sign": 0.0, "edges": tuple(edges.tolist()),
        "counts": tuple(counts.tolist()), "update": 1e-3,
    }  # fmt: skip
    return Flow(layer, transfer, delta=delta, **{**facts, **more})


def chain(top: float, gains: list[float], slopes: list[float], transfer: str) -> tuple[Flow, ...]:
    """Layers "0", "2", …, first layer first, whose δ follow from the factors."""
    delta, made = top, []
    count = len(gains) + 1
    made.append(flow(str(2 * count - 2), "", top, gain=NAN, slope=NAN, units=1))
    for k in range(count - 2, -1, -1):
        delta *= gains[k] * slopes[k]
        made.append(flow(str(2 * k), transfer, delta, gain=gains[k], slope=slopes[k]))
    return tuple(reversed(made))


def product(flows: tuple[Flow, ...], guilty: int | None = None) -> tuple[Factor, ...]:
    """The factors of these flows, from the output down; the guilty one by its place."""
    made = [Factor(f"δ{len(flows)}", flows[-1].delta, "delta", flows[-1].layer)]
    for k in range(len(flows) - 2, -1, -1):
        made.append(Factor(f"W{k + 2}ᵀ", flows[k].gain, "gain", flows[k + 1].layer))
        made.append(Factor(f"{flows[k].transfer}′{k + 1}", flows[k].slope, "slope", flows[k].layer))
    logs = [-math.log10(f.value) if 0 < f.value < INF else 0.0 for f in made]
    lost = [0.0, *(max(0.0, x) for x in logs[1:])]
    share = [x / sum(lost) if sum(lost) else 0.0 for x in lost]
    return tuple(
        Factor(f.name, f.value, f.kind, f.layer, share[k], k == guilty) for k, f in enumerate(made)
    )


def finding(problem: str = "dead_relu", **parts: Any) -> Finding:
    return Finding(
        problem,
        parts.get("severity", "problem"),
        parts.get("where", Where("0", (1, 2, 5), step=12)),
        parts.get("evidence", Evidence("13 of 16 units have net ≤ 0 for all 200 rows.")),
        parts.get("remedy", "optimizer = optim.SGD(lr=0.01)"),
        parts.get("verified"),
    )


def helped(before: float = 0.5, after: float = 0.98, reached: bool = True) -> Proof:
    curves = (falling("as it is", 0.7, 0.69), falling("with the remedy", 0.7, 0.004))
    return Proof(score(before, 0.69), score(after, 0.004), True, reached, curves)


FACTS = {"rows": 200, "columns": 2, "steps": 400, "optimiser": "SGD, lr 0.1"}


def healthy() -> Report:
    flows = chain(0.3, [1.1, 0.9], [0.6, 0.7], "tanh")
    return Report(
        [],
        "It reaches accuracy 0.98 where the best constant answer has 0.5, and the loss has levelled"
        " off.",
        score(0.98),
        falling("the run", 0.7, 0.05),
        flows,
        flows,
        ("relu trains faster than tanh as a rule; here both reach 0.98.",),
        facts=FACTS,
    )


def dead() -> Report:
    start = chain(0.3, [1.1, 0.9], [0.6, 0.7], "relu")
    below = flow("0", "relu", 0.0, slope=0.0, dead=tuple(range(13)), update=0.0)
    end = (below, *start[1:])
    evidence = Evidence(
        "13 of 16 units of layer 0 have net ≤ 0 for all 200 training rows, so relu′ is 0 and so is"
        " the gradient of their weights.",
        {"dead units": 13, "of": 16, "largest net of a dead unit": -0.31, "step size": 4.2},
        product(end, 4),
    )
    remedy = (
        "# The units died in one large step: take smaller ones.\noptimizer = optim.SGD(lr=0.01)"
    )
    found = finding(
        where=Where("0", tuple(range(13)), step=12),
        evidence=evidence,
        remedy=remedy,
        verified=helped(),
    )
    return Report(
        [found],
        "The network does no better than a constant answer.",
        score(0.5, 0.693),
        falling("the run", 0.7, 0.69),
        start,
        end,
        ("He initialisation keeps RMS(net) near 1 through relu layers.",),
        (("learning rate ÷ 10", score(0.98, 0.004)), ("learning rate × 10", score(NAN, NAN))),
        FACTS,
        starts="This fault shows in 4 of 5 starts.",
    )


def vanishing() -> Report:
    slopes = [0.05, 0.04, 1.2e-4, 0.06, 0.05]
    start = chain(0.31, [0.9, 0.8, 1.1, 0.9, 0.7], slopes, "sigmoid")
    end = tuple(
        flow(
            f.layer, f.transfer, f.delta, gain=f.gain, slope=f.slope, saturated=0.84, units=f.units
        )
        for f in start
    )
    evidence = Evidence(
        "RMS(δ) falls from 0.31 at the output to 1.3e-11 at the first layer: 10.4 decades, 3.9 of"
        " them at one transfer function.",
        {"decades": 10.4, "layers": 6, "loss at the end": 0.69},
        product(start, 6),
    )
    tried = Proof(score(0.5, 0.69), score(0.51, 0.68), False, False, (falling("tried", 0.7, 0.68),))
    return Report(
        [
            finding("vanishing_gradient", where=Where("4"), evidence=evidence, verified=helped(
                0.5, 0.8, reached=False), remedy="for layer in model:\n    layer.reset(nn.he)"),
            finding("saturation", severity="note", where=Where("4", step=0), verified=tried,
                    evidence=Evidence("84 % of the (row, unit) pairs have sigmoid′ ≤ 4 %.")),
        ],
        "The first layers do not move: what reaches them is nothing.",
        score(0.5, 0.69),
        falling("the run", 0.7, 0.69),
        start,
        end,
        facts=FACTS,
    )  # fmt: skip


def exploding() -> Report:
    start = chain(1e3, [1e3, INF], [1.0, 1.0], "relu")
    end = tuple(
        flow(f.layer, f.transfer, NAN, gain=NAN, slope=NAN, edges=(), counts=(), update=INF)
        for f in start
    )
    factors = (
        Factor("δ3", 1e3, "delta", "4"),
        Factor("W3ᵀ", INF, "gain", "4", guilty=True),
        Factor("relu′2", NAN, "slope", "2"),
    )
    evidence = Evidence(
        "W3ᵀδ overflows at step 3.", {"largest": INF, "least": -INF, "of": NAN}, factors
    )
    return Report(
        [finding("exploding_gradient", where=Where("4", (0,), (17,), step=3), evidence=evidence)],
        "The run stopped at step 3 with a loss that is not a number.",
        score(NAN, NAN, "the loss is nan at step 3: training diverged"),
        Curve("the run", (1e3, 1e150, INF, NAN)),
        start,
        end,
        facts={"rows": 200, "loss": NAN},
    )  # fmt: skip


def unfinished() -> Report:
    found = finding("learning_rate_too_high", remedy="", where=Where())
    return Report(
        [found], "It stands at the constant answer.", score(0.5), Curve("the run", ()),
        unfinished="stopped by Ctrl-C before the remedies were run",
    )  # fmt: skip


def many(count: int = 12) -> Report:
    names = ("data_fault", "unscaled_inputs", "dead_relu", "learning_rate_too_low")
    return Report(
        [
            finding(names[k % 4], where=Where(str(k)), severity="problem" if k < 3 else "note")
            for k in range(count)
        ],
        "Much is wrong with it.",
        score(0.4),
        falling("the run", 1.0, 0.9),
        tried=tuple((f"change {k}", score(0.5 + k / 100)) for k in range(20)),
    )


def deep(layers: int = 60) -> Report:
    flows = chain(0.3, [0.5] * (layers - 1), [1e-8] * (layers - 1), "tanh")
    evidence = Evidence("δ falls below what a float can hold.", product=product(flows, 60))
    return Report(
        [finding("vanishing_gradient", evidence=evidence, where=Where(flows[28].layer))],
        "Nothing reaches the first layer.",
        score(0.5),
        falling("the run", 0.7, 0.69),
        flows,
        flows,
    )


def hostile(name: str) -> Report:
    """A report whose every free word is this."""
    flows = tuple(flow(f"{name}{k}", name, 0.1, weight=name, dead=(0,)) for k in range(3))
    factors = tuple(Factor(f"{name}{k}", 0.5, "gain", name, 0.5, k == 1) for k in range(3))
    proof = Proof(score(0.5), score(NAN, NAN, name), True, True, (Curve(name, (1.0, 0.5)),) * 2)
    refused = Proof(score(0.5), score(0.5), False, False)
    evidence = Evidence(name, {name: name, f"{name}2": [name, 1]}, factors)
    found = [
        finding(
            where=Where(f"{name}0"), evidence=evidence, remedy=f"{name}\n{name}", verified=proof
        ),
        finding("data_fault", where=Where(name), evidence=Evidence(name), verified=refused),
    ]
    return Report(
        found, name, score(NAN, NAN, name), Curve(name, (1.0, 0.5)), flows, flows, (name,) * 2,
        ((name, score(0.5)),), {name: name}, name, name,
    )  # fmt: skip


EXAMPLES = {
    "healthy": healthy,
    "dead": dead,
    "vanishing": vanishing,
    "exploding": exploding,
    "unfinished": unfinished,
    "many": many,
    "deep": deep,
}
