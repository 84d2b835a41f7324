"""What targets ask for: labels of classes, distributions, yes or no, or numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Targets", "targets_of"]

Array = Any


@dataclass(frozen=True)
class Targets:
    """What y asks for: "labels" of classes, a "distribution" a row, "several" yes or no a row,
    "binary" 0 and 1, "signs" −1 and 1, "numbers", or "none" of these; its range and its classes."""

    form: str
    low: float = math.nan
    high: float = math.nan
    classes: int = 0
    ones: float = math.nan  # the share of 1 in yes-or-no targets


def targets_of(y: Array, loss: Any, width: int) -> Targets:
    """The form of the targets; numbers that are not finite are left out.

    >>> from chainrule.nn import losses
    >>> targets_of([[1.0, 1.0], [0.0, 1.0]], losses.logistic, 2).form
    'several'
    """
    y = np.asarray(y)
    if y.dtype.kind not in "fiub" or not y.size or y.ndim == 0:
        return Targets("none")
    rows = y.reshape(len(y), -1)
    if rows.dtype.kind == "f":
        rows = rows[np.isfinite(rows).all(1)]
    if not rows.size:
        return Targets("none")
    low, high = float(rows.min()), float(rows.max())
    bits = low >= 0 and high <= 1 and bool(((rows == 0) | (rows == 1)).all())
    ones = float(rows.mean()) if bits else math.nan
    if rows.shape[1] > 1:
        whole = low >= -1e-3 and bool((np.abs(rows.sum(1, dtype=np.float64) - 1) < 1e-3).all())
        form = "distribution" if whole else "several" if bits else "numbers"
        return Targets(form, low, high, rows.shape[1], ones)
    if bits and (width == 1 or not _takes_labels(loss, y, width)):
        return Targets("binary", low, high, 2, ones)
    if low == -1 and high == 1 and bool((np.abs(rows) == 1).all()):
        return Targets("signs", low, high, 2)
    integral = rows.dtype.kind in "iub" or bool((rows == np.floor(rows)).all())
    if integral and _takes_labels(loss, y, width):
        return Targets("labels", low, high, int(high) + 1)
    return Targets("numbers", low, high)


def _takes_labels(loss: Any, y: Array, width: int) -> bool:
    return bool(getattr(loss, "takes_labels", False)) or (y.dtype.kind in "iub" and width > 1)
