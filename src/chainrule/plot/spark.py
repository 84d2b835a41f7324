"""A curve in one line of text, for a terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["spark"]

BLOCKS = "▁▂▃▄▅▆▇█"


def spark(
    values: Sequence[float],
    width: int = 40,
    *,
    span: tuple[float, float] | None = None,
    log: bool = False,
) -> str:
    """A curve as one line of blocks, resampled to `width`: ▁ the least value, █ the greatest.

    `span` sets the least and the greatest, so that several curves can be compared; with `log` equal
    factors are equal steps. `?` stands for what has no place: NaN, infinities, not positive on a
    log scale. Without a span, what has no such number at all is empty.

    >>> spark([0.0, 1.0, float("nan"), 2.0]), spark([1.0, 10.0, 100.0], log=True)
    ('▁▅?█', '▁▅█')
    """
    known = [math.log10(v) if v > 0 else math.nan for v in values] if log else list(values)
    finite = [v for v in known if math.isfinite(v)]
    if not finite and span is None:
        return ""
    picked = known
    if len(known) > width:
        picked = [known[round(k * (len(known) - 1) / max(width - 1, 1))] for k in range(width)]
    low, high = (min(finite), max(finite)) if span is None else span
    if log and span is not None:
        low, high = math.log10(low), math.log10(high)
    reach = (high - low) or 1.0
    return "".join(
        BLOCKS[min(max(round((v - low) / reach * 7), 0), 7)] if math.isfinite(v) else "?"
        for v in picked
    )
