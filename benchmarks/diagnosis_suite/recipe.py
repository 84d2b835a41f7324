"""What a case is made of: data, layers, loss, optimiser and budget, and the goal that is judged.

A recipe is plain data, so that a fault is one `dataclasses.replace`, and the fix is its undoing.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

import chainrule as cr
from chainrule import nn
from chainrule.nn import initializers, losses, optim

Array = np.ndarray[Any, Any]
Init = (
    str | tuple[str, float]
)  # a name, or ("normal", std), ("uniform", limit), ("constant", value)

ACTIVATIONS = {
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "selu": nn.SELU,
    "softmax": nn.Softmax,
}
OPTIMIZERS = {"sgd": optim.SGD, "adam": optim.Adam, "rmsprop": optim.RMSprop}


@dataclass(frozen=True)
class Layer:
    """out = activation(x·Wᵀ + b): W is drawn by `init` and then taken `scale` times."""

    units: int
    activation: str = "linear"
    init: Init = "glorot_uniform"
    scale: float = 1.0
    bias: float | tuple[float, ...] = 0.0
    dropout: float = 0.0

    def modules(self, inputs: int, start: tuple[Array, Array] | None, dtype: Any) -> list[Any]:
        """The layers of `nn` that stand for it; `start` are weights and biases already trained."""
        if start is not None:
            made = nn.Linear(inputs, self.units, start[1], weight=start[0], dtype=dtype)
        elif isinstance(self.bias, tuple):
            made = nn.Linear(inputs, self.units, self.bias, init=self._init(), dtype=dtype)
        else:
            bias = initializers.constant(self.bias)
            made = nn.Linear(inputs, self.units, init=self._init(), bias_init=bias, dtype=dtype)
        follow = [] if self.activation == "linear" else [ACTIVATIONS[self.activation]()]
        return [made, *follow, *([nn.Dropout(self.dropout)] if self.dropout else [])]

    def _init(self) -> Any:
        if isinstance(self.init, tuple):
            return getattr(initializers, self.init[0])(self.init[1])
        return self.init if self.scale == 1 else partial(_scaled, self.init, self.scale)


def _scaled(init: str, scale: float, rng: np.random.Generator, shape: tuple[int, int]) -> Array:
    return scale * initializers.draw(init, rng, shape)


@dataclass(frozen=True, eq=False)
class Recipe:
    """A training run in full: the same recipe gives the same bytes.

    `goal` is what a sound run of it reaches on `truth`, the training data as they should be (None:
    X and y themselves). `task` is "binary", "classes", "multilabel" or "regression".
    """

    X: Array
    y: Array
    layers: tuple[Layer, ...]
    task: str
    loss: str
    goal: float
    optimizer: str = "adam"
    settings: dict[str, Any] = field(default_factory=dict)
    epochs: int = 60
    batch_size: int = 32
    seed: int = 0
    dtype: str = "float32"
    clip: float | None = None  # of a loss on probabilities
    truth: tuple[Array, Array] | None = None
    start: tuple[tuple[Array, Array], ...] | None = None  # trained weights to continue from

    def with_layers(self, places: Any = None, **changes: Any) -> Recipe:
        """The recipe with the hidden layers (or those at `places`) changed."""
        chosen = range(len(self.layers) - 1) if places is None else places
        chosen = {k % len(self.layers) for k in chosen}
        changed = [replace(x, **changes) if k in chosen else x for k, x in enumerate(self.layers)]
        return replace(self, layers=tuple(changed))

    def with_output(self, **changes: Any) -> Recipe:
        """The recipe with its output layer changed."""
        return self.with_layers([-1], **changes)

    def with_settings(self, **changes: Any) -> Recipe:
        """The recipe with other arguments of the optimiser."""
        return replace(self, settings={**self.settings, **changes})

    def lr_times(self, factor: float) -> Recipe:
        """The recipe with so many times the learning rate."""
        return self.with_settings(lr=self.settings["lr"] * factor)

    def model(self) -> nn.Sequential:
        """A new network of these layers, with the weights of the seed."""
        found: list[Any] = []
        inputs = self.X.shape[1]
        for number, layer in enumerate(self.layers):
            start = None if self.start is None else self.start[number]
            found += layer.modules(inputs, start, np.dtype(self.dtype))
            inputs = layer.units
        return nn.Sequential(*found, seed=self.seed)

    def make_optimizer(self) -> Any:
        """A new optimiser."""
        return OPTIMIZERS[self.optimizer](**self.settings)

    @property
    def make_loss(self) -> Any:
        """The loss as `fit` takes it: its name, or the function with its clip."""
        return self.loss if self.clip is None else losses.with_options(self.loss, clip=self.clip)

    @property
    def metric(self) -> str:
        """What the goal is measured in."""
        return "r2" if self.task == "regression" else "accuracy"

    def trained(self) -> tuple[nn.Sequential, Any]:
        """The network after `cr.fit`, and its history; None where `fit` refuses or stops."""
        model, history = self.model(), None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                history = cr.fit(
                    model, self.X, self.y, loss=self.make_loss, optimizer=self.make_optimizer(),
                    epochs=self.epochs, batch_size=self.batch_size, seed=self.seed, progress=False,
                )  # fmt: skip
        except (cr.DataError, cr.GradientError, cr.ShapeError):
            return model, None
        return model, history

    def reached(self) -> float:
        """The metric after training; −∞ where `fit` refuses the data or the loss is not finite."""
        return self.measured(*self.trained())

    def measured(self, model: Any, history: Any) -> float:
        """The metric of a network that this recipe has trained."""
        if history is None:
            return float("-inf")
        X, y = (self.X, self.y) if self.truth is None else self.truth
        return score(model, X, y, self.task, self.make_loss)


def score(model: Any, X: Any, y: Any, task: str, loss: Any) -> float:
    """R² of a regression, else the share of right answers; −∞ for an output that is not finite."""
    y = np.asarray(y)
    with np.errstate(all="ignore"):
        prediction = np.asarray(model.predict(X), dtype=np.float64).reshape(len(y), -1)
    if not np.isfinite(prediction).all():
        return float("-inf")
    if task == "regression":
        return _r2(prediction, np.asarray(y, dtype=np.float64).reshape(len(y), -1))
    if task in ("binary", "classes") and prediction.shape[1] > 1:
        labels = y.argmax(axis=1) if y.ndim == 2 and y.shape[1] > 1 else y.reshape(-1)
        return float(np.mean(prediction.argmax(axis=1) == labels))
    boundary = getattr(losses.get(loss), "boundary", 0.5)
    return float(np.mean((prediction > boundary) == (y.reshape(len(y), -1) > 0.5)))


def _r2(prediction: Array, y: Array) -> float:
    if prediction.shape != y.shape:
        return float("-inf")
    spread = np.square(y - y.mean(axis=0)).sum(axis=0)
    rest = np.square(prediction - y).sum(axis=0)
    return float(np.mean(1 - rest / np.where(spread == 0, 1, spread)))
