"""∫ h(z) dz from 0 to a as an operation of the circuit: the general matching loss is made of it."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from ..errors import ShapeError
from ..ops import Facts, Operation
from .rows import Loss, Value, plain

NODES, WEIGHTS = np.polynomial.legendre.leggauss(32)
PANEL, FIXED = 4.0, 64.0  # panels of this width up to there; each later one doubles the distance


def integral(h: Loss) -> Operation:
    """∫ h(z) dz from 0 to a, elementwise: the local derivative is h, so every order is exact."""
    return Operation(
        Facts(
            name="integral",
            meaning="integral(a) = ∫ h(z) dz from 0 to a, with derivative h(a)",
            value=functools.partial(_quadrature, h),
            symbol="∫",
            latex=r"\int_0^{{{0}}} h(z)\,dz",
            flow="scaler",
            local=(lambda a, out: h(a),),
            domain=((-20.0, 20.0),),
            example=("float(cr.nn.losses.matching(cr.tanh)([0.0], [0.5]))", "0.0"),
            source="transfer-and-loss",
        )
    )


def _quadrature(h: Loss, a: Value) -> Any:
    """Gauss–Legendre, 32 nodes a panel; an element's panels end where it is reached."""
    a = np.asarray(a)
    size, sign = np.abs(a), np.where(np.signbit(a), -1, 1).astype(a.dtype)
    largest = float(np.max(size, where=np.isfinite(size), initial=0.0))
    total, low = np.zeros_like(a), 0.0
    while low < largest or low == 0.0:
        high = low + PANEL if low < FIXED else 2 * low
        start, end = np.minimum(size, low), np.minimum(size, high if high < largest else np.inf)
        total = total + _panel(h, sign * start, sign * end)
        low = high
    return total[()]


def _panel(h: Loss, start: Any, end: Any) -> Any:
    """∫ h from `start` to `end`, elementwise."""
    half, middle = (end - start) / 2, (start + end) / 2
    column = (-1, *[1] * half.ndim)
    nodes = NODES.astype(half.dtype).reshape(column)
    weights = WEIGHTS.astype(half.dtype).reshape(column)
    places = middle + half * nodes
    heights = np.asarray(plain(h(places)))
    if heights.shape != places.shape:
        raise ShapeError(
            f"matching: the transfer function made shape {heights.shape} of {places.shape};"
            " it must act on each element"
        )
    return half * np.sum(weights * heights, axis=0)
