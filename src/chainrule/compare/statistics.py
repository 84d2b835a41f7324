"""When is a difference more than noise: Student's t, sign flips, and Holm's correction.

Scores of one seed belong together (the same starting weights, the same order of rows), so tests
are on the differences seed by seed, whose spread is smaller than that of the scores.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from ..errors import unknown

__all__ = [
    "TESTS",
    "Interval",
    "holm",
    "interval",
    "paired_p",
    "sign_flip_p",
    "t_quantile",
    "t_tail",
]

EXACT = 14  # up to so many differences all 2ⁿ sign flips are counted
FLIPS = 20_000  # drawn where there are more
TESTS = ("t", "sign_flip")


@dataclass(frozen=True)
class Interval:
    """A mean with its confidence interval; the ends are nan where one value alone says nothing."""

    mean: float
    low: float
    high: float

    def map(self, function: Any) -> Interval:
        """The same through an increasing function, as exp."""
        return Interval(*(float(function(v)) for v in (self.mean, self.low, self.high)))


def t_tail(t: float, df: int) -> float:
    """P(|T| > |t|) for Student's distribution with `df` degrees of freedom, a whole number.

    >>> round(t_tail(2.7764451, 4), 6)
    0.05

    Source: Abramowitz and Stegun 1964, 26.7.3 and 26.7.4.
    """
    if math.isinf(t):
        return 0.0
    angle = math.atan(abs(t) / math.sqrt(df))
    sine, cosine = math.sin(angle), math.cos(angle)
    total, term = 0.0, cosine if df % 2 else 1.0
    for k in range(1 if df % 2 else 0, df - 1, 2):
        total += term
        term *= cosine**2 * (k + 1) / (k + 2)
    inside = 2 / math.pi * (angle + sine * total) if df % 2 else sine * total
    return max(0.0, 1 - inside)


@cache
def t_quantile(df: int, confidence: float = 0.95) -> float:
    """The t with P(|T| ≤ t) = confidence, by bisection.

    >>> round(t_quantile(4), 4), round(t_quantile(1), 4)
    (2.7764, 12.7062)
    """
    low, high = 0.0, 1.0
    while t_tail(high, df) > 1 - confidence:
        high *= 2
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if t_tail(middle, df) > 1 - confidence else (low, middle)
    return high


def interval(
    values: Sequence[float], confidence: float = 0.95, resolution: float = 0.0
) -> Interval:
    """The mean of the values ± t·s/√n, with s at least resolution/√12.

    `resolution` is the step in which the values can change, as 1/rows of an accuracy: values that
    agree by rounding are not without spread.

    >>> found = interval([0.9, 0.92, 0.94])
    >>> round(found.mean, 6), round(found.low, 6), round(found.high, 6)
    (0.92, 0.870317, 0.969683)
    """
    array = np.asarray(values, dtype=np.float64)
    n = len(array)
    mean = float(array.mean()) if n else math.nan
    if n < 2 or not np.isfinite(array).all():
        return Interval(mean, math.nan, math.nan)
    half = t_quantile(n - 1, confidence) * _spread(array, resolution) / math.sqrt(n)
    return Interval(mean, mean - half, mean + half)


def _spread(array: Any, resolution: float) -> float:
    if not array.any():
        return 0.0
    spread = float(array.std(ddof=1))
    rounding = 1e-12 * float(np.abs(array).max(initial=0.0))
    return max(spread if spread > rounding else 0.0, resolution / math.sqrt(12))


def paired_p(differences: Sequence[float], resolution: float = 0.0) -> float:
    """The two-sided p of the paired t test: how often chance alone gives a mean so far from 0.

    1 for a single difference, and where all are 0.

    >>> round(paired_p([1.0, 2.0, 3.0]), 4)
    0.0742
    """
    array = np.asarray(differences, dtype=np.float64)
    if len(array) < 2 or not array.any():
        return 1.0
    spread = _spread(array, resolution)
    mean = float(array.mean())
    if spread == 0:
        return 0.0
    return t_tail(mean / (spread / math.sqrt(len(array))), len(array) - 1)


def sign_flip_p(differences: Sequence[float]) -> float:
    """The share of sign flips of the differences whose mean is as far from 0 as theirs.

    Assumes only that a difference is as likely to be −d as d. All 2ⁿ flips up to n = 14, beyond
    that 20 000 drawn with a fixed seed. Of five differences the least p is 2/32: six are needed for
    5 %.

    >>> sign_flip_p([1.0, 2.0, 3.0, 4.0, 5.0])
    0.0625
    """
    array = np.asarray(differences, dtype=np.float64)
    n = len(array)
    if n == 0 or not array.any():
        return 1.0
    found = abs(float(array.sum())) * (1 - 1e-12)
    if n <= EXACT:
        bits = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
        return float(np.mean(np.abs((2 * bits - 1) @ array) >= found))
    signs = np.random.default_rng(0).integers(0, 2, size=(FLIPS, n)) * 2 - 1
    return float((1 + np.sum(np.abs(signs @ array) >= found)) / (1 + FLIPS))


def p_value(differences: Sequence[float], test: str, resolution: float = 0.0) -> float:
    """The p of the test of that name."""
    if test not in TESTS:
        raise unknown("test", test, TESTS)
    return paired_p(differences, resolution) if test == "t" else sign_flip_p(differences)


def holm(ps: Sequence[float]) -> list[float]:
    """Each p made larger, so that all tests together are wrong as seldom as one alone would be.

    The k-th smallest of m is multiplied by m − k + 1 and is no less than those before it.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]

    Source: Holm 1979.
    """
    adjusted = [0.0] * len(ps)
    least = 0.0
    for place, k in enumerate(sorted(range(len(ps)), key=lambda k: ps[k])):
        least = max(least, min(1.0, (len(ps) - place) * ps[k]))
        adjusted[k] = least
    return adjusted
