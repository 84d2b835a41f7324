"""What a comparison says of a claim: a figure with its interval, and the verdict that it bears.

No verdict is stronger than its interval: a difference that may be noise supports nothing, an
interval too wide supports no figure, and a bound supports what it bounds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from .comparison import Comparison
from .ranking import Ratio
from .statistics import Interval, interval

__all__ = ["HOLDS", "NOT", "PARTLY", "Finding", "better", "of_little", "of_ratio", "slower"]

HOLDS, PARTLY, NOT = "holds here", "holds partly", "not here"
MAYBE_NOISE = "the difference may be noise"
LITTLE = 1.0  # percentage points that are "not much"


@dataclass(frozen=True)
class Finding:
    """A figure measured here, with its 95 % interval where it has one, and what it says."""

    what: str
    figure: str
    verdict: str = ""  # "" where the figure only goes with another one
    value: float = math.nan
    low: float = math.nan
    high: float = math.nan

    def __str__(self) -> str:
        return f"{self.what}: {self.figure}" + (f"  → {self.verdict}" if self.verdict else "")


def slower(what: str, found: Comparison, slow: str, fast: str, claimed: float = 1.0) -> Finding:
    """How many times as many epochs: against a claim of `claimed` times, or of more than one."""
    ratio = found.speed(slow, fast)
    times = ratio.times
    return Finding(what, f"{ratio} the epochs", of_ratio(ratio, claimed), *_ends(times))


def of_ratio(ratio: Ratio, claimed: float) -> str:
    """What a ratio says of a claim of `claimed` times as many epochs.

    >>> of_ratio(Ratio(Interval(2.9, 1.2, 7.1), False, 5), 6.0)
    'holds partly: 2.9×, too uncertain for 6×'
    """
    times = ratio.times
    if math.isnan(times.low):
        return ""
    if times.low <= 1 and ratio.at_least:
        return f"{NOT}: it did not get there in time, so how much more it takes is not known"
    if times.low <= 1:
        return f"{NOT}: the reverse" if times.high < 1 else f"{NOT}: {MAYBE_NOISE}"
    if ratio.at_most:
        return f"{NOT}: the other did not always get there in time"
    if times.high >= claimed and times.low >= claimed / 2:  # a wide interval supports no figure
        return HOLDS
    if ratio.at_least:
        return f"{PARTLY}: at least {times.mean:.2g}×; it did not get there in time"
    less = "not" if times.high < claimed else "too uncertain for"
    return f"{PARTLY}: {times.mean:.2g}×, {less} {claimed:g}×"


def better(what: str, found: Comparison, good: str, other: str) -> Finding:
    """How much higher the score of `good` is, in percentage points, seed by seed."""
    away = _difference(found, good, other)
    points = Interval(*(100 * v for v in (away.mean, away.low, away.high)))
    figure = f"{points.mean:+.1f} points ({points.low:+.1f} to {points.high:+.1f})".replace(
        "-", "−"
    )
    return Finding(what, figure, _of_difference(points), *_ends(points))


def _of_difference(points: Interval) -> str:
    if math.isnan(points.low):
        return ""
    if points.low > 0:
        return HOLDS
    return f"{NOT}: the reverse" if points.high < 0 else f"{NOT}: {MAYBE_NOISE}"


def _difference(found: Comparison, good: str, other: str) -> Interval:
    score = {c.seed: c.score for c in found.cells[other] if c.finished}
    away = [c.score - score[c.seed] for c in found.cells[good] if c.finished and c.seed in score]
    return interval(away, resolution=1 / found.rows[1])


def _ends(found: Interval) -> tuple[float, float, float]:
    return found.mean, found.low, found.high


def of_little(low: float, high: float) -> str:
    """Whether a gain, in percentage points, is known to be little."""
    if math.isnan(low):
        return ""
    if high <= LITTLE:
        return HOLDS
    return NOT if low > LITTLE else f"{PARTLY}: up to {high:.1f} points are not ruled out"
