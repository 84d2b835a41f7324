"""Transfer functions as layers: each is one word of the vocabulary, with its formula there."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..circuit import Parameter
from ..circuit import vocabulary as ops
from .base import Layer, count, floating


class Sigmoid(Layer):
    """σ(x) = 1/(1 + e⁻ˣ), elementwise; see `chainrule.sigmoid`.

    >>> float(Sigmoid()(0.0))
    0.5
    """

    def forward(self, x: Any) -> Any:
        return ops.sigmoid(x)


class Tanh(Layer):
    """tanh(x), elementwise.

    >>> float(Tanh()(0.0))
    0.0
    """

    def forward(self, x: Any) -> Any:
        return ops.tanh(x)


class ReLU(Layer):
    """max(0, x), elementwise, with derivative 0 at 0.

    >>> ReLU()([-1.0, 2.0]).numpy()
    array([0., 2.])
    """

    def forward(self, x: Any) -> Any:
        return ops.relu(x)


class LeakyReLU(Layer):
    """x for x > 0, else negative_slope·x, elementwise.

    >>> LeakyReLU(0.1)([-1.0, 2.0]).numpy()
    array([-0.1,  2. ])
    """

    arguments = ("negative_slope",)

    def __init__(self, negative_slope: float = 0.01) -> None:
        self.negative_slope = float(negative_slope)

    def forward(self, x: Any) -> Any:
        return ops.leaky_relu(x, negative_slope=self.negative_slope)


class PReLU(Layer):
    """x for x > 0, else α·x with a learned α: one for all, or one a feature of the last axis.

    `weight` is α, of shape (num_parameters,). Source: He et al. 2015.

    >>> PReLU(init=0.5)([-1.0, 2.0]).numpy()
    array([-0.5,  2. ], dtype=float32)
    """

    arguments = ("num_parameters", "init", "dtype")
    symbols = {"weight": "α"}  # noqa: RUF012 - a constant

    def __init__(
        self, num_parameters: int = 1, init: float = 0.25, *, dtype: Any = np.float32
    ) -> None:
        self.num_parameters = count("num_parameters", num_parameters)
        self.init = float(init)
        self.weight = Parameter(np.full(self.num_parameters, self.init, floating(dtype)), name="α")

    def forward(self, x: Any) -> Any:
        if self.num_parameters > 1:
            self._demand_features(x.shape, self.num_parameters)
        return ops.prelu(x, self.weight)


class ELU(Layer):
    """x for x > 0, else alpha·(eˣ − 1), elementwise.

    >>> ELU()([0.0, 2.0]).numpy()
    array([0., 2.])
    """

    arguments = ("alpha",)

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = float(alpha)

    def forward(self, x: Any) -> Any:
        return ops.elu(x, alpha=self.alpha)


class SELU(Layer):
    """1.0507·elu(x, 1.6733), elementwise; weights start best with init="lecun_normal".

    >>> float(SELU()(0.0))
    0.0
    """

    def forward(self, x: Any) -> Any:
        return ops.selu(x)


class GELU(Layer):
    """x·Φ(x), elementwise, Φ the normal distribution function.

    >>> float(GELU()(0.0))
    0.0
    """

    def forward(self, x: Any) -> Any:
        return ops.gelu(x)


class SiLU(Layer):
    """x·σ(x), elementwise.

    >>> float(SiLU()(0.0))
    0.0
    """

    def forward(self, x: Any) -> Any:
        return ops.silu(x)


class Softplus(Layer):
    """ln(1 + eˣ), elementwise.

    >>> round(float(Softplus()(0.0)), 6)
    0.693147
    """

    def forward(self, x: Any) -> Any:
        return ops.softplus(x)


class Softsign(Layer):
    """x/(1 + |x|), elementwise.

    >>> float(Softsign()(1.0))
    0.5
    """

    def forward(self, x: Any) -> Any:
        return ops.softsign(x)


class HardTanh(Layer):
    """x kept within [−1, 1], elementwise.

    >>> float(HardTanh()(3.0))
    1.0
    """

    def forward(self, x: Any) -> Any:
        return ops.hard_tanh(x)


class Softmax(Layer):
    """exp(xᵢ)/Σₖ exp(xₖ) along an axis. For training, end with logits and use a loss on logits.

    >>> Softmax()([0.0, 0.0]).numpy()
    array([0.5, 0.5])
    """

    arguments = ("axis",)

    def __init__(self, axis: int = -1) -> None:
        self.axis = int(axis)

    def forward(self, x: Any) -> Any:
        return ops.softmax(x, axis=self.axis)


class LogSoftmax(Layer):
    """xᵢ − ln Σₖ exp(xₖ) along an axis.

    >>> round(float(LogSoftmax()([0.0, 0.0])[0]), 6)
    -0.693147
    """

    arguments = ("axis",)

    def __init__(self, axis: int = -1) -> None:
        self.axis = int(axis)

    def forward(self, x: Any) -> Any:
        return ops.log_softmax(x, axis=self.axis)


# The elementwise ones by their functions' names, for settings that name them.
ACTIVATIONS: dict[str, type[Layer]] = {
    "relu": ReLU,
    "tanh": Tanh,
    "sigmoid": Sigmoid,
    "leaky_relu": LeakyReLU,
    "prelu": PReLU,
    "elu": ELU,
    "selu": SELU,
    "gelu": GELU,
    "silu": SiLU,
    "softplus": Softplus,
    "softsign": Softsign,
    "hard_tanh": HardTanh,
}
