"""The layers: an affine map, what normalises or drops, and the chain of them.

Rows of X are samples and the last axis holds features: net = x·Wᵀ + b with W of shape (out, in), so
W[j, i] joins input i to unit j. All of them are used as `layer(X)`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..circuit import Parameter, Tensor, refuse, state
from ..circuit import vocabulary as ops
from ..errors import ShapeError
from ..ops.neural import mix
from .activations import (
    ELU,
    GELU,
    SELU,
    HardTanh,
    LeakyReLU,
    LogSoftmax,
    PReLU,
    ReLU,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Softsign,
    Tanh,
)
from .base import Layer, count, floating
from .initializers import Initializer, draw
from .module import Module, Shape, frozen
from .normalise import BatchNorm1d, LayerNorm
from .sequential import Sequential, generator

__all__ = [
    "ELU",
    "GELU",
    "SELU",
    "Affine",
    "BatchNorm1d",
    "Dropout",
    "Flatten",
    "HardTanh",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "LogSoftmax",
    "Maxout",
    "Module",
    "MulticlassSigmoid",
    "PReLU",
    "ReLU",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Softsign",
    "Tanh",
]


class Affine(Layer):
    """What Linear, Maxout and MulticlassSigmoid share: net = x·Wᵀ + b, and how W is drawn.

    W is drawn with shape (in, units) in float64 and stored as its transpose: from
    `default_rng([seed, i])` in a `Sequential(seed=)`, where i counts the layers with parameters,
    from `default_rng([seed, 0])` with a seed of its own, else from fresh entropy. `init` is a name
    or a function of `chainrule.nn.initializers`, `bias_init` the same with shape (1, units).
    """

    symbols = {"weight": "W", "bias": "b"}  # noqa: RUF012 - a constant
    _drawn: set[str]  # what was drawn without a seed, not given

    def _build(
        self, inputs: int, units: int, *, weight: Any, bias: Any, init: Any, bias_init: Any,
        seed: int | None, dtype: Any,
    ) -> None:  # fmt: skip
        self.in_features = count("in_features", inputs)
        self._init: str | Initializer = "glorot_uniform" if init is None else init
        self._bias_init: str | Initializer = "zeros" if bias_init is None else bias_init
        rng = generator(seed, 0)
        start = _start(weight, (units, inputs), self._init, rng, "weight")
        self.weight = Parameter(start.astype(floating(dtype), copy=False), name="W")
        self.bias: Parameter | None = None
        drawn = {"weight"} if weight is None else set()
        if bias is not None and bias is not False:
            given = None if bias is True else bias
            start = _start(given, (units,), self._bias_init, rng, "bias")
            self.bias = Parameter(start.astype(floating(dtype), copy=False), name="b")
            drawn |= {"bias"} if given is None else set()
        self._drawn = drawn if seed is None else set()

    def draw(self, rng: np.random.Generator) -> None:
        """Draw again, for good, what was neither given nor changed since it was first drawn."""
        units, inputs = self.weight.shape
        fresh = self._fresh()
        if "weight" in fresh:
            self.weight.rebind(_start(None, (units, inputs), self._init, rng, "weight"))
        if self.bias is not None and "bias" in fresh:
            self.bias.rebind(_start(None, (units,), self._bias_init, rng, "bias"))

    def _fresh(self) -> set[str]:
        """What is as it was first drawn: never rebound, by a seed, by training or by hand."""
        return {k for k in self._drawn if getattr(getattr(self, k), "updated", 1) == 0}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_drawn": self._fresh()}  # a copy's parameters count as new

    def net(self, x: Any) -> Any:
        """The pre-activation x·Wᵀ + b, of shape (…, units)."""
        self._demand_features(x.shape, self.in_features)
        product = x @ self.weight.T
        return product if self.bias is None else product + self.bias

    def _shape(self, shape: Shape | None, units: int) -> Shape:
        if shape is None:
            return (units,)
        self._demand_features(shape, self.in_features)
        return (*shape[:-1], units)


def _start(
    given: Any, shape: Shape, init: str | Initializer, rng: np.random.Generator, what: str
) -> np.ndarray[Any, Any]:
    """The given values, checked, or drawn ones: (units, in) for weights, (units,) for biases."""
    if given is None:
        drawn_shape = (shape[1], shape[0]) if len(shape) == 2 else (1, shape[0])
        return np.ascontiguousarray(draw(init, rng, drawn_shape).T.reshape(shape))
    values = np.asarray(given.value if isinstance(given, Tensor) else given)
    if values.shape != shape:
        raise ShapeError(
            f"{what} must have shape {shape}, got {values.shape}; a weight is (out, in)"
        )
    return np.array(values)


class Linear(Affine):
    """net = x·Wᵀ + b: `weight` W has shape (out_features, in_features), `bias` b (out_features,).

    x of shape (…, in_features) gives (…, out_features). W starts glorot_uniform and b at 0 (see
    `Affine`), or as given by `weight=` and `bias=` (an array; `bias=False` leaves it out).

    Raises `ShapeError` where the last axis of x, or a given array, does not fit.

    >>> layer = Linear(2, 1, weight=[[3.0, -1.0]], bias=[0.5])
    >>> layer([[1.0, 2.0]]).numpy()
    array([[1.5]], dtype=float32)
    """

    arguments = ("in_features", "out_features", "bias", "dtype")

    def __init__(
        self, in_features: int, out_features: int, bias: Any = True, *,
        init: str | Initializer | None = None, bias_init: str | Initializer | None = None,
        weight: Any = None, seed: int | None = None, dtype: Any = np.float32,
    ) -> None:  # fmt: skip
        self.out_features = count("out_features", out_features)
        self._build(
            in_features, self.out_features, weight=weight, bias=bias, init=init,
            bias_init=bias_init, seed=seed, dtype=dtype,
        )  # fmt: skip

    def forward(self, x: Any) -> Any:
        return self.net(x)

    def output_shape(self, shape: Shape | None) -> Shape | None:
        return self._shape(shape, self.out_features)


class Maxout(Affine):
    """Unit j gives max over its pieces k of (w_{jk}·x + b_{jk}): a learned convex activation.

    A linear layer of out_features·pieces units, the pieces of a unit beside each other, then
    `chainrule.maxout`: `weight` has shape (out_features·pieces, in_features), so two pieces double
    the parameters of a linear layer. Arguments as `Linear`. Source: Goodfellow et al. 2013.

    >>> layer = Maxout(1, 1, weight=[[1.0], [-1.0]])
    >>> layer([[-3.0], [2.0]]).numpy()
    array([[3.],
           [2.]], dtype=float32)
    """

    arguments = ("in_features", "out_features", "pieces", "bias", "dtype")

    def __init__(
        self, in_features: int, out_features: int, pieces: int = 2, bias: Any = True, *,
        init: str | Initializer | None = None, bias_init: str | Initializer | None = None,
        weight: Any = None, seed: int | None = None, dtype: Any = np.float32,
    ) -> None:  # fmt: skip
        self.out_features = count("out_features", out_features)
        self.pieces = count("pieces", pieces)
        self._build(
            in_features, self.out_features * self.pieces, weight=weight, bias=bias, init=init,
            bias_init=bias_init, seed=seed, dtype=dtype,
        )  # fmt: skip

    def forward(self, x: Any) -> Any:
        return ops.maxout(self.net(x), self.pieces)

    def output_shape(self, shape: Shape | None) -> Shape | None:
        return self._shape(shape, self.out_features)


class MulticlassSigmoid(Affine):
    """Logits aᵢ = wᵢ·x + bᵢ of k classes, whose softmax are the classes' probabilities.

    Only differences of logits matter, so k−1 weight vectors say as much as k: with
    `reference=True` the first class is the reference, its logit is 0, and `weight` has k−1 rows.
    With two classes that is the logistic sigmoid. Gives logits of shape (…, classes) either way:
    train with `softmax_cross_entropy`; `probabilities(X)` is their softmax.

    >>> layer = MulticlassSigmoid(1, 2, weight=[[1.0], [3.0]])
    >>> layer([[1.0]]).numpy(), layer.reference_form()([[1.0]]).numpy()
    (array([[1., 3.]], dtype=float32), array([[0., 2.]], dtype=float32))
    """

    arguments = ("in_features", "classes", "reference", "bias", "dtype")

    def __init__(
        self, in_features: int, classes: int, reference: bool = False, bias: Any = True, *,
        init: str | Initializer | None = None, bias_init: str | Initializer | None = None,
        weight: Any = None, seed: int | None = None, dtype: Any = np.float32,
    ) -> None:  # fmt: skip
        self.classes = count("classes", classes, least=2)
        self.reference = bool(reference)
        self._build(
            in_features, self.classes - self.reference, weight=weight, bias=bias, init=init,
            bias_init=bias_init, seed=seed, dtype=dtype,
        )  # fmt: skip

    def forward(self, x: Any) -> Any:
        net = self.net(x)
        if not self.reference:
            return net
        return ops.concatenate([np.zeros((*net.shape[:-1], 1), net.dtype), net], axis=-1)

    def probabilities(self, X: Any) -> Tensor:
        """The softmax of the logits: k probabilities a row, of sum 1."""
        found: Tensor = ops.softmax(self(X))
        return found

    def reference_form(self) -> MulticlassSigmoid:
        """The same probabilities from k−1 weight vectors: w̃ᵢ = wᵢ − w₁ and b̃ᵢ = bᵢ − b₁."""
        weight = np.asarray(self.weight.value)
        bias: Any = False if self.bias is None else np.asarray(self.bias.value)
        if not self.reference:
            weight = weight[1:] - weight[0]
            bias = bias if bias is False else bias[1:] - bias[0]
        return MulticlassSigmoid(
            self.in_features, self.classes, True, bias, weight=weight, dtype=self.dtype
        )

    def output_shape(self, shape: Shape | None) -> Shape | None:
        return self._shape(shape, self.classes)


class Dropout(Layer):
    """x/(1 − p) where kept, else 0, in training mode; x itself in evaluation mode.

    Which elements fall follows from (seed, number of the layer, number of the call) by integer
    arithmetic: `model.reseed(seed)` starts again, and each call in training mode is the next step.
    Without a seed it starts from fresh entropy. Source: Srivastava et al. 2014.

    >>> layer = Dropout(0.5).reseed(0)
    >>> sorted(set(layer([1.0] * 100).numpy().tolist())), layer.eval()([1.0]).numpy()
    ([0.0, 2.0], array([1.]))
    """

    arguments = ("p",)

    def __init__(self, p: float = 0.5) -> None:
        if not 0 <= p < 1:
            raise ValueError(f"Dropout: p must be from 0 to below 1, got {p}")
        self.p = float(p)
        self.restart(int(np.random.default_rng().integers(2**63)), 0, 0)

    def restart(self, seed: int, number: int, step: int = 0) -> None:
        """Begin at `step` of the masks of this seed and layer number."""
        self.seed, self.number, self.step = int(seed), number, step

    def next_key(self) -> int:
        """The key of this call's mask; the counter moves on, except in a pure `apply`."""
        if state.compiling:
            raise refuse(
                f"{self._where()} in training mode",
                "its mask would stay the same for ever. Use model.eval(), or"
                " cr.dropout(x, rate, key=key) with a key that you give",
            )
        key = mix(self.seed, self.number, self.step)
        self.step += not frozen()
        return key

    def forward(self, x: Any) -> Any:
        if not self.training or self.p == 0:
            return x
        return ops.dropout(x, self.p, key=self.next_key())


class Flatten(Layer):
    """Each sample as one row of features: (n, a, b, …) becomes (n, a·b·…).

    >>> import numpy as np
    >>> Flatten()(np.zeros((5, 2, 3))).shape
    (5, 6)
    """

    def forward(self, x: Any) -> Any:
        if x.ndim == 0:
            raise ShapeError("Flatten: expected a batch of samples, got a scalar")
        return ops.reshape(x, (x.shape[0], math.prod(x.shape[1:])))

    def output_shape(self, shape: Shape | None) -> Shape | None:
        return None if shape is None else (math.prod(shape),)
