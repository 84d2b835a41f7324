"""Probabilities that mean what they say: one temperature, found on rows that were held out."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

__all__ = ["temperature"]

BOUND = math.log(1e3)


def temperature(loss: Any, net: Any, targets: Any, weight: Any) -> float:
    """The T > 0 for which `loss`(net/T, targets) is least: class and order stay as they are.

    Logits are divided by T before the sigmoid or softmax: T > 1 takes back confidence that
    held-out rows do not bear out. It is sought between 0.001 and 1000.

    >>> from chainrule.nn import losses
    >>> net, targets = np.full((4, 1), 8.0), np.array([[1.0], [1.0], [1.0], [0.0]])
    >>> T = temperature(losses.logistic, net, targets, None)
    >>> round(1 / (1 + math.exp(-8 / T)), 3)
    0.75

    Source: Guo, Pleiss, Sun and Weinberger 2017.
    """
    from scipy.optimize import minimize_scalar

    net = np.asarray(net, np.float64)
    weights = {} if weight is None else {"sample_weight": weight}

    def at(t: float) -> float:
        return float(loss(net / math.exp(t), targets, **weights))

    return math.exp(minimize_scalar(at, bounds=(-BOUND, BOUND), method="bounded").x)
