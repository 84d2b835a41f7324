"""The run as it is, watched from outside: its outcome, the weights along the way, its first steps.

Nothing is built into the training itself: the run is an ordinary `fit` with a callback that keeps
weights at some epochs, and the first steps are done a second time, one by one.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from ..circuit import no_grad
from ..errors import ChainruleError
from ..ops import constant
from ..train.inputs import features, targets
from ..train.run import Divergence, Plan, Run
from ..train.tracing import training
from .finding import Curve
from .flow import Reading, read
from .setup import Outcome, Setup, mean_loss, run
from .signal import Signal, signal

__all__ = ["USUAL", "Story", "Walk", "cast", "constant_loss", "walk", "watched"]

Array = Any

FIRST = 20  # steps that are done again, one by one
UNTIL = 300  # of a run that diverges, to meet the step that does it
KEPT = 14  # epochs whose weights are kept
USUAL = 1e-3  # ‖Δw‖/‖w‖ of a step that suits most networks


@dataclass(eq=False)
class Walk:
    """Some steps one by one: their losses, what each did to its own batch, how long they were."""

    losses: list[float] = field(default_factory=list)
    after: list[float] = field(default_factory=list)  # the same batch's loss after the step
    ratios: list[float] = field(default_factory=list)  # ‖Δw‖/‖w‖ over all weights
    layers: dict[str, float] = field(default_factory=dict)  # ‖Δw‖/‖w‖ by parameter, the median
    cosines: list[float] = field(default_factory=list)  # of each step with the one before
    broke: str = ""
    broken: Mapping[str, Array] | None = None  # the weights whose loss was not finite

    @property
    def overshoot(self) -> float:
        """The share of steps that raised the loss of the very batch they were taken for."""
        pairs = [(b, a) for b, a in zip(self.losses, self.after, strict=True) if b == b]
        return sum(not a <= b for b, a in pairs) / len(pairs) if pairs else 0.0

    @property
    def ratio(self) -> float:
        """The median of ‖Δw‖/‖w‖."""
        known = [r for r in self.ratios if math.isfinite(r)]
        return float(np.median(known)) if known else math.nan


@dataclass(eq=False)
class Story:
    """The run as it was given: how it ended, and what the network was along the way."""

    setup: Setup
    outcome: Outcome
    kept: list[tuple[int, Mapping[str, Array]]]  # (steps done, all values), the start first

    @property
    def diverged(self) -> bool:
        """Whether the run began, and left the finite numbers."""
        return isinstance(self.outcome.refusal, Divergence)

    @property
    def refused(self) -> bool:
        """Whether `fit` would not even begin."""
        return self.outcome.refusal is not None and not self.diverged

    @cached_property
    def start(self) -> Reading:
        """The backward flow before the first step."""
        return self.reading(0)

    @cached_property
    def end(self) -> Reading:
        """The backward flow after the last step; of what diverged, with its last finite weights."""
        return self.reading(len(self.kept) - 1)

    @cached_property
    def constant_loss(self) -> float:
        """The least loss of an answer that does not look at X; NaN where none was found."""
        return constant_loss(self.setup)

    @cached_property
    def signal(self) -> Signal | None:
        """Whether X says anything about y, as far as simple rules can tell."""
        return signal(self.setup.X, self.setup.y, self.setup.task, self.setup.seed)

    @cached_property
    def first(self) -> Walk:
        """The first steps of the run."""
        return walk(self.setup, UNTIL if self.diverged else FIRST)

    @cached_property
    def failing(self) -> Reading | None:
        """The backward flow where the loss was first not finite, if that is among those steps."""
        if self.first.broken is None:
            return None
        model = self.setup.fresh()
        model.load_state_dict({**dict(self.kept[0][1]), **self.first.broken})
        X, y = cast(self.setup)
        return read(model, self.setup.loss, X, y, len(self.first.losses) - 1)

    @cached_property
    def last(self) -> Walk:
        """Steps from where the run ended."""
        return walk(self.setup.changed(model=self.model(len(self.kept) - 1)), FIRST)

    def model(self, k: int) -> Any:
        """The network as it was at one of the kept moments."""
        model = self.setup.fresh()
        model.load_state_dict(self.kept[k][1])
        return model

    def reading(self, k: int) -> Reading:
        """The backward flow at one of the kept moments."""
        X, y = cast(self.setup)
        return read(self.model(k), self.setup.loss, X, y, self.kept[k][0])

    def since(self, test: Any) -> int | None:
        """The first kept moment, in steps done, from which on a test of the reading held."""
        found, known = None, {len(self.kept) - 1: self.end, 0: self.start}
        for k in reversed(range(len(self.kept))):
            if not test(known[k] if k in known else self.reading(k)):
                break
            found = self.kept[k][0]
        return found


class _Keeper:
    """A callback that keeps the weights after some epochs, more of them early on."""

    def __init__(self, setup: Setup) -> None:
        last = max(1, setup.epochs)
        self.wanted = {round(e) for e in np.geomspace(1, last, min(KEPT, last))} | {last}
        self.kept: list[tuple[int, Mapping[str, Array]]] = []
        self.losses: list[float] = []

    def on_epoch(self, moment: Any) -> None:
        self.losses = moment.history.loss
        if moment.epoch in self.wanted:
            self.kept.append((moment.step, _values(moment.model)))


def _values(model: Any) -> dict[str, Array]:
    # A parameter is rebound and never written into: its old value can be kept uncopied.
    return {**{n: p.value for n, p in model.named_parameters()}, **dict(model.named_buffers())}


def watched(setup: Setup, show: Any = None, threads: int | None = None) -> Story:
    """Run it and keep what is needed to tell its story."""
    keeper = _Keeper(setup)
    outcome = run(setup, "as it is", callbacks=[keeper], show=show, threads=threads)
    if outcome.score.error and outcome.model is not None:
        keeper.kept.append((-1, _values(outcome.model)))
        outcome = replace(outcome, curve=Curve("as it is", tuple(keeper.losses)))
    elif outcome.model is not None and outcome.history is not None:
        steps = outcome.history.steps
        if not keeper.kept or keeper.kept[-1][0] != steps or setup.epochs not in keeper.wanted:
            keeper.kept.append((steps, _values(outcome.model)))
        else:
            keeper.kept[-1] = (steps, _values(outcome.model))  # averages, where there are any
    return Story(setup, outcome, [(0, _values(setup.model)), *keeper.kept])


def cast(setup: Setup) -> tuple[Array, Array]:
    """X and y as `fit` takes them; as they are where it would refuse them."""
    try:
        X = features(setup.model, setup.X)
        return X, targets(setup.model, setup.loss, X, setup.y)
    except (ChainruleError, ValueError, TypeError):
        dtype = setup.model.dtype
        X = np.asarray(setup.X)
        return X.astype(dtype) if X.dtype.kind in "fiub" else X, np.asarray(setup.y)


def walk(setup: Setup, most: int) -> Walk:
    """The first steps of a run, one by one, on a copy; it ends where they cannot go on."""
    found = Walk()
    if getattr(setup.optimizer, "full_batch", False):
        return found
    X, y = cast(setup)
    size = min(setup.batch_size or len(X), len(X))
    plan = Plan(X, y, size, setup.epochs, True, setup.seed)
    steps = min(most, setup.steps)
    one = Run(setup.fresh(), setup.loss, copy.deepcopy(setup.optimizer), None)
    one.model.reseed(setup.seed)
    before: Array | None = None
    moved: dict[str, list[float]] = {}
    with training(one.model), warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        for k in range(steps):
            batch = plan.batch(1 + k // plan.steps, k % plan.steps)
            earlier = one.values()
            try:
                value = one.step(*batch)
            except (ChainruleError, ValueError, TypeError) as refused:
                found.broke = str(refused)
                break
            if not math.isfinite(value):
                found.broke, found.broken = f"the loss is {value}", earlier
                found.losses.append(found.losses[-1] if found.losses else math.nan)
                found.after.append(math.inf)
                break
            found.losses.append(value)
            found.after.append(_again(one, batch))
            before = _entered(found, moved, earlier, one.values(), before)
    found.layers = {name: float(np.median(values)) for name, values in moved.items()}
    return found


def _again(one: Run, batch: Any) -> float:
    X, y, _ = batch
    try:
        with no_grad():
            return float(np.sum(one.loss(one.model(constant(X)), y).value))
    except (ChainruleError, ValueError, TypeError):
        return math.inf


def _entered(
    found: Walk, moved: dict[str, list[float]], old: Any, new: Any, before: Array | None
) -> Array:
    """Enter how far a step went, and how its direction compares with the one before."""
    steps = {n: np.asarray(new[n], np.float64) - np.asarray(old[n], np.float64) for n in new}
    for name, step in steps.items():
        length = float(np.linalg.norm(old[name]))
        if length:
            moved.setdefault(name, []).append(float(np.linalg.norm(step)) / length)
    whole = np.concatenate([s.reshape(-1) for s in steps.values()])
    ground = math.sqrt(sum(float(np.square(old[n], dtype=np.float64).sum()) for n in old))
    length = float(np.sqrt(np.square(whole).sum()))
    found.ratios.append(length / ground if ground else math.inf)
    if before is not None:
        scale = length * float(np.sqrt(np.square(before).sum()))
        found.cosines.append(float((whole * before).sum()) / scale if scale else math.nan)
    return whole


def constant_loss(setup: Setup) -> float:
    """The least loss of a constant answer: the mean, the median, the classes' shares, their logs.

    Which of them the loss understands is left to the loss.
    """
    y = np.asarray(setup.y)
    try:
        shape = np.shape(setup.model.predict(cast(setup)[0][:1]))[1:]
    except (ChainruleError, ValueError, TypeError):
        return math.nan
    outputs = int(np.prod(shape)) if shape else 1
    found = [
        mean_loss(setup, np.broadcast_to(c.reshape(shape), (len(y), *shape)).astype(np.float64))
        for c in _constants(y, outputs)
    ]
    return min((f for f in found if math.isfinite(f)), default=math.nan)


def _constants(y: Array, outputs: int) -> list[Array]:
    if y.dtype.kind not in "fiub" or not y.size:
        return []
    with np.errstate(all="ignore"):
        if y.ndim == 1 and outputs > 1:
            if y.dtype.kind == "f" or y.min() < 0 or y.max() >= outputs:
                return []
            share = np.bincount(y.astype(np.int64), minlength=outputs) / len(y)
            return [share, np.log(np.maximum(share, 1e-300))]
        flat = y.reshape(len(y), -1).astype(np.float64)
        if flat.shape[1] != outputs:
            return []
        mean, median = flat.mean(0), np.median(flat, axis=0)
        inside = np.clip(mean, 1e-12, 1 - 1e-12)
        return [mean, median, np.log(inside / (1 - inside)), np.log(inside)]
