"""Metrics: what people read beside the loss, on plain predictions and targets."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ..errors import ShapeError, quoted, unknown

__all__ = ["METRICS", "accuracy", "mae", "mse", "r2", "resolve"]

Metric = Callable[[Any, Any], Any]


def accuracy(prediction: Any, target: Any, boundary: float = 0.5) -> float:
    """The share of rows whose class is right: the largest of (n, k), or above `boundary` of (n,).

    `target` holds labels, or distributions of the prediction's shape. `fit` sets the boundary to 0
    where the loss is on logits.

    >>> accuracy([[0.1, 0.9], [0.8, 0.2]], [1, 1])
    0.5
    """
    p, y = np.asarray(prediction), np.asarray(target)
    if p.ndim < 2 or p.shape[-1] == 1:
        return float(np.mean((p.reshape(-1) > boundary) == (_flat(p, y) > 0.5)))
    labels = y.argmax(axis=-1) if y.shape == p.shape else y.reshape(p.shape[:-1])
    return float(np.mean(p.argmax(axis=-1) == labels))


def mse(prediction: Any, target: Any) -> float:
    """The mean of (prediction − target)² over rows and outputs.

    >>> mse([1.0, 2.0], [1.0, 4.0])
    2.0
    """
    return float(np.mean(np.square(_difference(prediction, target))))


def mae(prediction: Any, target: Any) -> float:
    """The mean of |prediction − target| over rows and outputs.

    >>> mae([1.0, 2.0], [1.0, 4.0])
    1.0
    """
    return float(np.mean(np.abs(_difference(prediction, target))))


def r2(prediction: Any, target: Any) -> float:
    """1 − Σ(y − ŷ)²/Σ(y − ȳ)², averaged over outputs; a constant y gives 1 if met, else 0.

    >>> r2([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
    1.0
    """
    rest = np.square(_difference(prediction, target)).reshape(np.shape(prediction)[0], -1).sum(0)
    y = np.asarray(target, dtype=np.float64).reshape(np.shape(prediction)[0], -1)
    spread = np.square(y - y.mean(axis=0)).sum(axis=0)
    constant = spread == 0
    scores = 1 - rest / np.where(constant, 1, spread)
    return float(np.mean(np.where(constant, rest == 0, scores)))


METRICS: dict[str, Metric] = {"accuracy": accuracy, "mae": mae, "mse": mse, "r2": r2}


def resolve(metrics: Iterable[str | Metric], boundary: float) -> dict[str, Metric]:
    """The metrics by name; functions f(prediction, target) under their own."""
    if isinstance(metrics, str) or callable(metrics):
        metrics = [metrics]
    found: dict[str, Metric] = {}
    for metric in metrics:
        if callable(metric):
            found[getattr(metric, "__name__", type(metric).__name__)] = metric
        elif metric == "accuracy":
            found[metric] = functools.partial(accuracy, boundary=boundary)
        elif metric in METRICS:
            found[metric] = METRICS[metric]
        else:
            raise unknown("metric", metric, METRICS)
    return found


def measured(name: str, metric: Metric, prediction: Any, target: Any) -> float:
    """One number, else a `TypeError` that names the metric."""
    value = metric(prediction, target)
    try:
        return float(value)
    except (TypeError, ValueError):
        raise TypeError(
            f"metric {quoted(name)} must return one number, got {quoted(value)}"
        ) from None


def _flat(p: Any, y: Any) -> Any:
    if p.size != y.size:
        raise ShapeError(f"the prediction has shape {p.shape}, the target {y.shape}")
    return y.reshape(-1)


def _difference(prediction: Any, target: Any) -> Any:
    p = np.asarray(prediction, dtype=np.float64)
    return p - _flat(p, np.asarray(target)).reshape(p.shape)
