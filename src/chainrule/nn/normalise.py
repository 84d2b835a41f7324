"""Layers that give features mean 0 and variance 1: over the batch, or over each sample."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..circuit import Parameter, refuse, state
from ..circuit import vocabulary as ops
from ..errors import ShapeError
from .base import Layer, count, floating
from .module import Shape, frozen, moved


class BatchNorm1d(Layer):
    """(x − mean)/√(var + eps)·γ + β with each feature's mean and biased variance over the batch.

    x is (rows, num_features); `weight` γ starts at 1 and `bias` β at 0. In training mode
    `running_mean` and `running_var` (unbiased) move by `momentum` towards the batch's, and in
    evaluation mode they are used in its place, as in PyTorch. Source: Ioffe and Szegedy 2015.

    Raises `ShapeError` for another shape and for a batch of one row in training mode.

    >>> BatchNorm1d(1, eps=0.0)([[1.0], [3.0]]).numpy()
    array([[-1.],
           [ 1.]], dtype=float32)
    """

    arguments = ("num_features", "eps", "momentum", "dtype")
    symbols = {"weight": "γ", "bias": "β"}  # noqa: RUF012 - a constant

    running_mean: Any
    running_var: Any

    def __init__(
        self, num_features: int, eps: float = 1e-5, momentum: float = 0.1, *,
        dtype: Any = np.float32,
    ) -> None:  # fmt: skip
        self.num_features = count("num_features", num_features)
        self.eps, self.momentum = float(eps), float(momentum)
        start = np.ones(self.num_features, floating(dtype))
        self.weight = Parameter(start, name="γ")
        self.bias = Parameter(0 * start, name="β")
        self.register_buffer("running_mean", 0 * start)
        self.register_buffer("running_var", start)

    def forward(self, x: Any) -> Any:
        self._demand_features(x.shape, self.num_features)
        if x.ndim != 2:
            raise ShapeError(f"{self._where()}: expected (rows, features), got shape {x.shape}")
        if self.training:
            if x.shape[0] < 2:
                raise ShapeError(
                    f"{self._where()}: a batch of {x.shape[0]} row has no variance to train with;"
                    " use larger batches (or another batch_size, so that the last has two rows)"
                )
            mean = ops.mean(x, axis=0)
            centred = x - mean
            var = ops.mean(ops.square(centred), axis=0)
            self._remember(mean, var, x.shape[0])
        else:
            centred, var = x - self.running_mean, self.running_var
        return centred / ops.sqrt(var + self.eps) * self.weight + self.bias

    def _remember(self, mean: Any, var: Any, rows: int) -> None:
        if frozen():
            return
        rate, unbiased = self.momentum, rows / (rows - 1)
        after = moved()
        if after is not None:
            own = {name: (id(self), name) for name in ("running_mean", "running_var")}
            old = {name: after.get(key, getattr(self, name)) for name, key in own.items()}
            after[own["running_mean"]] = (1 - rate) * old["running_mean"] + rate * mean
            after[own["running_var"]] = (1 - rate) * old["running_var"] + rate * var * unbiased
            return
        if state.compiling:
            raise refuse(
                f"{self._where()} in training mode",
                "it moves its running averages at every call. Use model.eval(), or"
                " model.apply(params, X), which changes nothing",
            )
        self.running_mean = (1 - rate) * self.running_mean + rate * mean.value
        self.running_var = (1 - rate) * self.running_var + rate * var.value * unbiased


class LayerNorm(Layer):
    """(x − mean)/√(var + eps)·γ + β with each sample's mean and biased variance over its last axes.

    `normalized_shape` is their shape, an int for one; `weight` γ starts at 1, `bias` β at 0.
    Source: Ba, Kiros and Hinton 2016.

    >>> LayerNorm(2, eps=0.0)([[1.0, 3.0]]).numpy()
    array([[-1.,  1.]], dtype=float32)
    """

    arguments = ("normalized_shape", "eps", "dtype")
    symbols = {"weight": "γ", "bias": "β"}  # noqa: RUF012 - a constant

    def __init__(
        self, normalized_shape: Any, eps: float = 1e-5, *, dtype: Any = np.float32
    ) -> None:
        lengths = [normalized_shape] if np.ndim(normalized_shape) == 0 else normalized_shape
        self.normalized_shape = tuple([count("normalized_shape", n) for n in lengths])
        if not self.normalized_shape:
            raise ValueError("normalized_shape must name at least one axis")
        self.eps = float(eps)
        start = np.ones(self.normalized_shape, floating(dtype))
        self.weight = Parameter(start, name="γ")
        self.bias = Parameter(0 * start, name="β")

    def forward(self, x: Any) -> Any:
        last = self.normalized_shape
        if x.shape[-len(last) :] != last:
            raise ShapeError(f"{self._where()}: expected last axes {last}, got shape {x.shape}")
        axes = tuple(range(x.ndim - len(last), x.ndim))
        centred = x - ops.mean(x, axis=axes, keepdims=True)
        var = ops.mean(ops.square(centred), axis=axes, keepdims=True)
        return centred / ops.sqrt(var + self.eps) * self.weight + self.bias

    def output_shape(self, shape: Shape | None) -> Shape | None:
        return self.normalized_shape if shape is None else shape
