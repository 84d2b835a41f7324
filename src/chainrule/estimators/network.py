"""From an estimator's settings to a network of `nn`, started as scikit-learn starts its own."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from .. import nn
from ..errors import quoted, unknown
from ..nn import activations, initializers
from ..nn.layers import Affine

__all__ = ["ACTIVATIONS", "affine", "build", "draw", "each"]

# The words of scikit-learn, and every activation here; identity adds no layer.
ACTIVATIONS: dict[str, Callable[[], nn.Module] | None] = {
    "identity": None,
    "logistic": nn.Sigmoid,
    **activations.ACTIVATIONS,
    "maxout": None,  # a layer of its own, in place of Linear
}


def each(name: str, value: Any, count: int) -> list[Any]:
    """A setting for each of `count` hidden layers: one for all, or a list of as many.

    >>> each("dropout", 0.5, 2), each("activation", ["tanh", "relu"], 2)
    ([0.5, 0.5], ['tanh', 'relu'])
    """
    if isinstance(value, str) or not isinstance(value, Iterable) or isinstance(value, nn.Module):
        return [value] * count
    several = list(value)
    if len(several) != count:
        raise ValueError(
            f"{name} has {len(several)} entries for {count} hidden layers; give one for each, or"
            " one for all"
        )
    return several


def build(
    units: Sequence[int],
    activation: Any,
    dropout: Any,
    batch_norm: Any,
    dtype: np.dtype[Any],
) -> nn.Sequential:
    """Linear, then for each hidden layer BatchNorm1d, activation and Dropout where asked for.

    `units` are the widths from the inputs to the outputs. The network ends with the outputs' net
    inputs: logits, or predictions. All weights are 0; see `draw`.
    """
    hidden = len(units) - 2
    layers: list[nn.Module] = []
    for k, (kind, rate, normal) in enumerate(
        zip(
            each("activation", activation, hidden),
            each("dropout", dropout, hidden),
            each("batch_norm", batch_norm, hidden),
            strict=True,
        )
    ):
        layers.append(_affine(kind, units[k], units[k + 1], dtype))
        layers += [nn.BatchNorm1d(units[k + 1], dtype=dtype)] if normal else []
        layers += _activation(kind, dtype)
        layers += [nn.Dropout(rate)] if rate else []
    layers.append(nn.Linear(units[-2], units[-1], init="zeros", dtype=dtype))
    return nn.Sequential(*layers).eval()


def _affine(kind: Any, inputs: int, outputs: int, dtype: Any) -> nn.Module:
    made = nn.Maxout if kind == "maxout" else nn.Linear
    return made(inputs, outputs, init="zeros", dtype=dtype)


def _activation(kind: Any, dtype: Any) -> list[nn.Module]:
    if isinstance(kind, nn.Module):
        return [copy.deepcopy(kind)]
    if not isinstance(kind, str):
        raise ValueError(f"activation must be a name or a layer of nn, got {quoted(kind)}")
    if kind not in ACTIVATIONS:
        raise unknown("activation", kind, ACTIVATIONS)
    if kind == "prelu":
        return [nn.PReLU(dtype=dtype)]
    made = ACTIVATIONS[kind]
    return [] if made is None else [made()]


def affine(model: nn.Module) -> list[Any]:
    """The layers with `weight` and `bias` that scikit-learn calls `coefs_` and `intercepts_`."""
    return [layer for layer in model.modules() if isinstance(layer, Affine)]


def draw(model: nn.Module, random: np.random.RandomState, activation: Any, init: Any) -> None:
    """Start weights as scikit-learn does, with the same draws in the same order; or by `init`.

    Without `init` both W and b are uniform on (−a, a) with a = √(6/(in + out)), or √(2/(in + out))
    around logistic units. With one (a name or a function of `nn.initializers`) biases are 0.
    """
    layers = affine(model)
    kinds = each("activation", activation, len(layers) - 1)
    for layer, kind in zip(layers, [*kinds, kinds[-1] if kinds else None], strict=True):
        outputs, inputs = layer.weight.shape
        if init is not None:
            start: Any = random
            layer.weight.rebind(initializers.draw(init, start, (inputs, outputs)).T)
            continue
        bound = math.sqrt((2 if kind in ("logistic", "sigmoid") else 6) / (inputs + outputs))
        layer.weight.rebind(random.uniform(-bound, bound, (inputs, outputs)).T)
        layer.bias.rebind(random.uniform(-bound, bound, outputs))
