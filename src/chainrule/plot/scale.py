"""Axes: which numbers they span, where their ticks stand and how these are written."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Scale", "scale", "short"]

Floats = NDArray[np.float64]
LARGEST = 8.9e307  # half of the largest float: the difference of two such still is one
FAR = 1e4
SMALLEST = 1e-290  # a span that can be divided into ticks


def short(number: float, digits: int = 4) -> str:
    """A number in few letters, as chainrule's drawings write it.

    >>> short(0.30000000000000004), short(-1e-12), short(1797.0, 3), short(float("nan"))
    ('0.3', '−1e-12', '1797', 'nan')
    """
    number = float(number)
    if number.is_integer() and abs(number) < 1e5:
        return str(int(number)).replace("-", "−")
    mantissa, e, exponent = f"{number:.{digits}g}".partition("e")
    mantissa = mantissa.replace("-", "−")
    return f"{mantissa}e{int(exponent)}" if e else mantissa


@dataclass(frozen=True)
class Scale:
    """The span of an axis and whether it counts in factors; `ticks` are its places and words."""

    low: float
    high: float
    log: bool = False

    def share(self, values: Any) -> Any:
        """How far along the axis values lie, 0 at its low end and 1 at its high end.

        NaN where a value is not finite, or not positive on a log axis; never beyond ±FAR.
        """
        known = np.asarray(values, dtype=np.float64)
        known = np.where(np.isfinite(known), np.clip(known, -LARGEST, LARGEST), np.nan)
        if self.log:
            known = np.log10(np.where(known > 0, known, np.nan))
            low, high = math.log10(self.low), math.log10(self.high)
        else:
            low, high = self.low, self.high
        span = high - low
        with np.errstate(over="ignore"):  # a span may be a millionth of the largest value
            return np.clip(known / span - low / span, -FAR, FAR)

    def ticks(self, most: int = 6) -> list[tuple[float, str]]:
        """At most about `most` ticks at 1, 2 or 5 times a power of ten.

        >>> [word for _, word in Scale(0.0, 1.1).ticks()]
        ['0', '0.2', '0.4', '0.6', '0.8', '1']
        >>> [word for _, word in Scale(1e-4, 10.0, log=True).ticks()]
        ['0.0001', '0.001', '0.01', '0.1', '1', '10']
        """
        places = self._decades(most) if self.log else []
        if len(places) >= 2:
            return [(place, short(place)) for place in places]
        return _linear(self.low, self.high, most)

    def _decades(self, most: int) -> list[float]:
        first = math.ceil(math.log10(self.low) - 1e-9)
        last = math.floor(math.log10(self.high) + 1e-9)
        if last - first >= 2:
            every = -(-(last - first + 1) // most)
            return [10.0**k for k in range(first, last + 1, every)]
        steps = (1, 2, 5) if last - first >= 0 else (1, 2, 3, 4, 5, 6, 7, 8, 9)
        places = [m * 10.0**k for k in range(first - 1, last + 2) for m in steps]
        return [p for p in places if self.low * (1 - 1e-9) <= p <= self.high * (1 + 1e-9)][
            : most + 3
        ]


def _linear(low: float, high: float, most: int) -> list[tuple[float, str]]:
    rough = high / most - low / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [(k * step, _word(k, step)) for k in range(first, last + 1)]


def _word(k: int, step: float) -> str:
    """The k-th multiple of a step, with no more digits than the step asks for."""
    value = k * step
    if value == 0:
        return "0"
    digits = max(1, math.floor(math.log10(abs(value))) - math.floor(math.log10(step)) + 1)
    text = f"{value:.{digits}g}"
    if 1e-4 <= abs(value) < 1e5:
        return f"{float(text):.12f}".rstrip("0").rstrip(".").replace("-", "−")
    return short(value, digits)


def scale(
    parts: Iterable[Any], *, log: bool = False, zero: bool = False, pad: float = 0.04
) -> Scale:
    """The scale that shows all finite values (on a log axis: the positive ones) with some air.

    >>> scale([[1.0, 3.0], [2.0, float("inf")]], pad=0)
    Scale(low=1.0, high=3.0, log=False)
    """
    lows, highs = [], []
    for part in parts:
        array = np.asarray(part, dtype=np.float64)
        shown = array[np.isfinite(array) & ((array > 0) | (not log))]
        if shown.size:
            lows.append(float(shown.min()))
            highs.append(float(shown.max()))
    if not lows:
        return Scale(1.0, 10.0, log) if log else Scale(0.0, 1.0)
    low, high = (min(max(end, -LARGEST), LARGEST) for end in (min(lows), max(highs)))
    return _factors(low, high, pad) if log else _span(low, high, zero, pad)


def _factors(low: float, high: float, pad: float) -> Scale:
    # Below lie the subnormal numbers, whose powers of ten are rounded to each other.
    bottom, top = (max(math.log10(end), -306.0) for end in (low, high))
    air = max((top - bottom) * pad, 0.0 if top - bottom > 0.1 else 0.15)
    return Scale(10.0 ** max(bottom - air, -307.0), 10.0 ** min(top + air, 307.9), log=True)


def _span(low: float, high: float, zero: bool, pad: float) -> Scale:
    if zero:
        low, high = min(low, 0.0), max(high, 0.0)
    least = max(SMALLEST, 1e-12 * max(abs(low), abs(high)))  # ticks closer would all read alike
    if high - low < least:
        air = 0.5 * max(abs(low), abs(high)) if max(abs(low), abs(high)) > 1e-280 else 0.5
        return Scale(max(low - air, -LARGEST), min(high + air, LARGEST))
    air = (high - low) * pad
    bottom = low if zero and low == 0 else max(low - air, -LARGEST)
    return Scale(bottom, high if zero and high == 0 else min(high + air, LARGEST))
