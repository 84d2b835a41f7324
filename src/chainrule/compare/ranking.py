"""From cells to a ranking that says which differences are noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .cell import Cell
from .combination import Combination
from .statistics import Interval, holm, interval, p_value

__all__ = ["Place", "Ratio", "labels", "ranked", "speed_ratio"]

SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Place:
    """One row of a ranking. Places whose difference from the leader may be noise share rank 1."""

    rank: int
    label: str
    combination: Combination
    lr: float
    cells: tuple[Cell, ...]  # the seeds that have a score
    score: Interval
    difference: Interval  # from the leader, seed by seed; 0 for the leader
    p: float  # of that difference, corrected for the number of pairs; 1 for the leader
    tied: bool  # with the leader
    epochs_to_level: float  # the median over the seeds; ∞ where half of them never get there
    reached: int
    seconds_per_epoch: float = math.nan

    @property
    def diverged(self) -> int:
        """The seeds in which the loss, or a weight, was no longer finite."""
        return sum(cell.diverged for cell in self.cells)

    @property
    def parameters(self) -> int:
        """The numbers that are trained."""
        return self.cells[0].parameters

    def median(self, name: str) -> float:
        """The median over the seeds of a number of the cells, as `dead`; nan where none has it."""
        values = [getattr(cell, name) for cell in self.cells]
        values = [value for value in values if not math.isnan(value)]
        return float(np.median(values)) if values else math.nan


def labels(combinations: Sequence[Combination]) -> list[str]:
    """A name for each combination: what sets it apart from the others, or its activation.

    >>> labels([Combination("relu", lr=0.1), Combination("tanh", lr=0.1)])
    ['relu', 'tanh']
    """
    facts = [combination.facts() for combination in combinations]
    several = {k for k in facts[0] if len({f[k] for f in facts}) > 1} or {"activation"}
    plain = ("activation", "loss", "optimizer", "inputs")
    made = []
    for combination, known in zip(combinations, facts, strict=True):
        parts = [v if k in plain else f"{k} {v}" for k, v in known.items() if k in several]
        made.append(combination.label or " · ".join(parts))
    return made


def ranked(
    combinations: Sequence[Combination],
    chosen: Sequence[float],
    cells: Sequence[Cell],
    *,
    level: float,
    test: str,
    resolution: float,
    seconds: dict[int, float],
) -> list[Place]:
    """The combinations that have a score, by their mean, the best first.

    The leader was chosen by the same scores, so all pairs count in Holm's correction, not those
    with the leader alone: where all are equal, 5 % of comparisons at most find one that is worse.
    """
    groups: dict[int, list[Cell]] = {}
    for cell in cells:
        if cell.finished:
            groups.setdefault(cell.combination, []).append(cell)
    if not groups:
        return []
    names = labels(combinations)
    score = {k: interval([c.score for c in group]) for k, group in groups.items()}
    order = sorted(groups, key=lambda k: (-score[k].mean, k))
    pairs = [(a, b) for i, a in enumerate(order) for b in order[i + 1 :]]
    raw = [p_value(_differences(groups[a], groups[b]), test, resolution) for a, b in pairs]
    corrected = dict(zip(pairs, holm(raw), strict=True))
    leader, made = order[0], []
    for place, k in enumerate(order):
        p = corrected.get((leader, k), 1.0)
        tied = p > SIGNIFICANT
        reached = [cell.epochs_to(level) for cell in groups[k]]
        away = _differences(groups[k], groups[leader])
        made.append(
            Place(
                rank=1 if tied else place + 1,
                label=names[k],
                combination=combinations[k],
                lr=chosen[k],
                cells=tuple(groups[k]),
                score=score[k],
                difference=interval(away, resolution=resolution),
                p=p,
                tied=tied,
                epochs_to_level=float(np.median(reached)),
                reached=sum(math.isfinite(v) for v in reached),
                seconds_per_epoch=seconds.get(k, math.nan),
            )
        )
    return made


def _differences(a: Sequence[Cell], b: Sequence[Cell]) -> list[float]:
    """a's score less b's, for each seed that both have."""
    other = {cell.seed: cell.score for cell in b}
    return [cell.score - other[cell.seed] for cell in a if cell.seed in other]


@dataclass(frozen=True)
class Ratio:
    """How many times as many epochs; a bound where one of the two did not get there in time.

    Where neither did, in some seeds, `times` is nan: nothing is known.
    """

    times: Interval
    at_least: bool  # the slower one did not
    seeds: int
    at_most: bool = False  # the faster one did not

    def __str__(self) -> str:
        if math.isnan(self.times.mean):
            return "an unknown number of times"
        text = f"{self.times.mean:.2g}×" if self.times.mean < 9.95 else f"{self.times.mean:.0f}×"
        if math.isfinite(self.times.low):
            text += f" ({self.times.low:.2g} to {self.times.high:.2g})"
        return f"{'at least ' * self.at_least}{'at most ' * self.at_most}{text}"


def speed_ratio(slow: Sequence[Cell], fast: Sequence[Cell], level: float) -> Ratio:
    """The epochs of `slow` to the level over those of `fast`: the geometric mean over the seeds.

    The interval is the t interval of the logarithms. A run that ended below the level counts with
    its whole length, which is too little: the ratio is then "at least", or "at most".
    """
    other = {cell.seed: cell for cell in fast}
    logs, at_least, at_most = [], False, False
    for cell in slow:
        if cell.seed not in other:
            continue
        pair = (cell, other[cell.seed])
        there = [one.epochs_to(level) for one in pair]
        at_least |= math.isinf(there[0])
        at_most |= math.isinf(there[1])
        epochs = [
            min(a, max(1.0, len(one.train_scores) - 1.0))
            for a, one in zip(there, pair, strict=True)
        ]
        logs.append(math.log(max(epochs[0], 1e-3) / max(epochs[1], 1e-3)))
    if at_least and at_most:
        return Ratio(Interval(math.nan, math.nan, math.nan), False, len(logs))
    return Ratio(interval(logs).map(np.exp), at_least, len(logs), at_most)
