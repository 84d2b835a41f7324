"""What a diagnosis says: findings with their evidence, remedies and proofs, in one report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

__all__ = [
    "PROBLEMS",
    "Curve",
    "Evidence",
    "Factor",
    "Finding",
    "Flow",
    "Proof",
    "Report",
    "Score",
    "Where",
    "rank",
    "several",
]

# Every problem that a diagnosis knows, by its one name, and what the name says. They stand in the
# order of causes: what is earlier brings about what is later, and is not brought about by it.
PROBLEMS: Mapping[str, str] = MappingProxyType(
    {
        "data_fault": "inputs or labels carry no usable signal",
        "single_class_softmax": "softmax over one unit is 1 whatever goes in, so no gradient flows",
        "loss_output_mismatch": "the output is not what the loss, or the targets, expect",
        "zero_probability": "the loss takes the logarithm of a probability that is 0",
        "symmetric_init": "units of a layer are twins: they get the same gradient for ever",
        "unscaled_inputs": "a column of X is off-centre or of another scale",
        "unscaled_targets": "the targets dwarf what the network puts out at first",
        "exploding_gradient": "the products of the chain grow until they overflow",
        "saturation": "units sit where the local derivative of their transfer function is near 0",
        "dead_relu": "units have net ≤ 0 for every training row: their gradient is exactly 0",
        "vanishing_gradient": "δ shrinks a thousandfold and more on its way to the first layer",
        "learning_rate_too_high": "each step goes beyond the minimum it aims at",
        "learning_rate_too_low": "the steps are too small, or too few, to arrive",
        "insufficient_capacity": "the network stands still, and cannot say more than it does",
    }
)


_RANKS = {problem: k for k, problem in enumerate(PROBLEMS)}


def rank(problem: str) -> int:
    """A problem's place in the order of causes: 0 is what nothing else brings about."""
    return _RANKS[problem]


@dataclass(frozen=True)
class Where:
    """The place of a fault: a layer, its units, rows of the data, columns of X, a step.

    Units, samples and columns count from 0; an empty tuple says nothing about them. `step` is the
    number of steps done when the fault was first seen (0: before training), None if not known.
    """

    layer: str = ""
    units: tuple[int, ...] = ()
    samples: tuple[int, ...] = ()
    columns: tuple[int, ...] = ()
    step: int | None = None

    def __str__(self) -> str:
        named = (("unit", self.units), ("sample", self.samples), ("column", self.columns))
        parts = [self.layer] if self.layer else []
        parts += [several(word, numbers) for word, numbers in named if numbers]
        if self.step is not None:
            parts.append("before the first step" if self.step == 0 else f"since step {self.step}")
        return ", ".join(parts)


def several(word: str, numbers: Sequence[object], most: int = 6) -> str:
    """The first few by name or number: `unit 3`, `units 0, 1 and 5 more`."""
    shown = ", ".join(str(n) for n in numbers[:most])
    more = f" and {len(numbers) - most} more" if len(numbers) > most else ""
    return f"{word}{'s' if len(numbers) > 1 else ''} {shown}{more}"


@dataclass(frozen=True)
class Factor:
    """One factor of the chain that carries δ back, as a ratio of root mean squares.

    `kind` is "delta" (δ at the output, the first factor), "gain" (RMS(Wᵀδ)/RMS(δ) of a layer's
    weights) or "slope" (RMS(f′ ⊙ upstream)/RMS(upstream) of a transfer function). `share` is the
    part of all lost decades that this factor lost, 0 where it lost none; `guilty` marks those that
    do the harm. The factors of a product multiply to δ at the first layer.
    """

    name: str
    value: float
    kind: str
    layer: str
    share: float = 0.0
    guilty: bool = False


@dataclass(frozen=True, eq=False)
class Evidence:
    """What was measured: a sentence, the quantities by name, the product that shows it."""

    sentence: str
    quantities: dict[str, Any] = field(default_factory=dict)
    product: tuple[Factor, ...] = ()


@dataclass(frozen=True)
class Score:
    """How good a network is on the training rows, in the user's own units.

    `value` is the metric ("accuracy" or "r2") of the run, NaN where it did not live; `constant` is
    that of the best constant answer; `loss` the mean loss, NaN likewise; `error` says in the words
    of `fit` why a run did not live, or "".
    """

    metric: str
    value: float
    constant: float
    loss: float
    error: str = ""

    @property
    def skill(self) -> float:
        """0 for the best constant answer, 1 for no error; −inf where the run did not live."""
        if self.value != self.value:
            return float("-inf")
        if self.constant >= 1:
            return 0.0
        return (self.value - self.constant) / (1 - self.constant)

    def __str__(self) -> str:
        if self.value != self.value:
            return "diverged" if "diverg" in self.error or not self.error else "cannot be trained"
        name = {"r2": "R²"}.get(self.metric, self.metric)
        return f"{name} {self.value:.3g}" if abs(self.value) < 1e4 else f"{name} {self.value:.1e}"


@dataclass(frozen=True, eq=False)
class Curve:
    """The mean loss of each epoch; what diverged ends early."""

    name: str
    loss: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Proof:
    """A remedy that was run: the same seed, data order and budget, with and without it.

    True where it helped; as text, before and after, or "tried, did not help". `reached` says
    whether the run with it is as good as any that was tried.
    """

    before: Score
    after: Score
    helped: bool
    reached: bool
    curves: tuple[Curve, ...] = ()

    def __bool__(self) -> bool:
        return self.helped

    def __str__(self) -> str:
        if not self.helped:
            return "tried, did not help"
        after = str(self.after)
        if self.before.value == self.before.value:  # else it was no number of that metric
            after = after.removeprefix("accuracy ").removeprefix("R² ")
        return f"{self.before} → {after}"


@dataclass(frozen=True, eq=False)
class Finding:
    """One fault: what, how bad, where, by what evidence; what repairs it, and whether that was run.

    `severity` is "problem" or, for what follows from one or does no harm by itself, "note".
    `remedy` is Python that can be pasted above the call of `fit`, in the names `model, X, y, loss,
    optimizer, epochs` and `np, cr, nn, optim, losses`. `verified` is None where nothing was run.
    """

    problem: str
    severity: str
    where: Where
    evidence: Evidence
    remedy: str
    verified: Proof | None = None

    @property
    def meaning(self) -> str:
        """What the problem's name says."""
        return PROBLEMS[self.problem]


@dataclass(frozen=True, eq=False)
class Flow:
    """A layer's part in the backward flow, over the training rows at one moment.

    `edges` and `counts` are the histogram of the layer's nets, its pre-activations. `delta` is
    RMS(∂L/∂net); `gain` and `slope` are the factors that brought it here from the layer above (NaN
    for the output layer's). `dead` are the units with a local derivative of exactly 0 on every row;
    `saturated` is the share of (row, unit) pairs with f′ ≤ 4 % of its maximum, NaN for a transfer
    function that does not level off. `one_sign` is the share of rows whose inputs to the layer all
    have one sign, so that a unit's weight gradients do too. `update` is ‖Δw‖/‖w‖ of a step, NaN if
    unknown.
    """

    layer: str  # as it stands in the model: "0", "hidden"
    transfer: str  # "relu", …; "" for an output without one
    weight: str  # the name of the weight matrix: "0.weight", or ""
    units: int
    delta: float
    gain: float
    slope: float
    dead: tuple[int, ...]
    saturated: float
    one_sign: float
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    update: float = float("nan")


@dataclass(eq=False)
class Report:
    """What `diagnose` found: findings, cause first; `healthy` where there is none.

    `reason` is one sentence on the whole, `advice` general sentences on the user's own network.
    `score` is the run's, `curve` its losses; `start` and `end` show the backward flow before the
    first and after the last step. `tried` has every counterfactual that was run: its change in
    words and its score. `unfinished` says why a report is not whole, "" where it is; `starts` how
    often the fault shows over seeds, where that was asked for. `setup` is the run as a value, and
    `change` the first remedy as what can be applied to it.
    """

    findings: list[Finding]
    reason: str
    score: Score
    curve: Curve
    start: tuple[Flow, ...] = ()
    end: tuple[Flow, ...] = ()
    advice: tuple[str, ...] = ()
    tried: tuple[tuple[str, Score], ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)  # rows, columns, steps, optimiser …
    starts: str = ""
    unfinished: str = ""
    setup: Any = None  # the `setup.Setup` that was run
    change: Any = None  # the `setup.Change` that the first finding's remedy is

    @property
    def healthy(self) -> bool:
        """Whether nothing is wrong, as far as the diagnosis came."""
        return not self.findings

    def __str__(self) -> str:
        from .report.text import text

        return text(self)

    def html(self) -> str:
        """One offline page: the flow of δ, the findings, before and after."""
        from .report.page import page_of

        return page_of(self)

    def _repr_html_(self) -> str:
        from .report.page import body_of

        return body_of(self)

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values for JSON; NaN and infinities as None and words."""
        from .report.record import plain

        return plain(self)
