"""What is compared: a transfer function, a loss with the output that it needs, an optimiser.

The template stays; the transfer function changes the local derivative, the loss the output layer.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..circuit import vocabulary as ops
from ..errors import DataError, listed, quoted, unknown
from ..nn import Sequential, activations, initializers, layers, losses, optim
from ..nn.base import count

__all__ = ["ACTIVATIONS", "INPUTS", "Combination", "Head", "head", "network"]

# σ and tanh keep the variance with Glorot's draw, the rectifiers with He's, SELU with LeCun's.
_SATURATING = ("sigmoid", "tanh", "softsign", "hard_tanh", "centred_sigmoid", "identity")


class CentredSigmoid(layers.Layer):
    """σ(x) − ½: the sigmoid's slope with outputs that are centred on 0, to tell the two apart.

    >>> float(CentredSigmoid()(0.0))
    0.0
    """

    def forward(self, x: Any) -> Any:
        return ops.sigmoid(x) - 0.5


ACTIVATIONS: dict[str, Callable[[], Any] | None] = {
    **activations.ACTIVATIONS,
    "centred_sigmoid": CentredSigmoid,
    "maxout": None,  # a layer of its own, which has the weights too
    "identity": None,
}
INPUTS = ("standardised", "centred", "positive", "raw")
OUTPUTS: dict[str, Callable[[], Any] | None] = {
    "identity": None,
    "softmax": layers.Softmax,
    "sigmoid": layers.Sigmoid,
    "tanh": layers.Tanh,
}
# The outputs that a loss may follow in a network that tells classes apart, the usual one first.
_OF_CLASSES = {
    "softmax_cross_entropy": ("identity",),
    "logistic": ("identity",),
    "binary_cross_entropy": ("sigmoid", "softmax"),
    "nll": ("softmax",),
    "relative_entropy": ("softmax",),
    **dict.fromkeys(
        ("squared_error", "mean_squared_error", "absolute_error", "huber"),
        ("softmax", "sigmoid", "tanh", "identity"),
    ),
}
_OF_NUMBERS = ("squared_error", "mean_squared_error", "absolute_error", "huber")
CLIP = 1e-7  # float32 rounds probabilities to 0 and 1, where a logarithm of them ends a run


@dataclass(frozen=True)
class Head:
    """The end of a network: the output's transfer function, the loss, and the targets it takes."""

    output: str
    loss: str
    labels: bool  # whether the targets are labels; else a 1 in the place of the class

    def function(self) -> Any:
        """The loss as `fit` takes it."""
        return {"nll": _clipped_nll, "binary_cross_entropy": _clipped_binary}.get(
            self.loss
        ) or losses.get(self.loss)

    def targets(self, y: Any, classes: int) -> Any:
        """What the loss takes of labels (n,), or of standardised numbers (n,)."""
        if classes == 0:
            return np.asarray(y)[:, None]
        return y if self.labels else np.eye(classes)[y]


def _clipped_nll(prediction: Any, target: Any, sample_weight: Any = None) -> Any:
    return losses.nll(prediction, target, sample_weight, clip=CLIP)


_clipped_nll.takes_labels = True  # type: ignore[attr-defined]


def _clipped_binary(prediction: Any, target: Any, sample_weight: Any = None) -> Any:
    return losses.binary_cross_entropy(prediction, target, sample_weight, clip=CLIP)


def head(name: str, classification: bool = True) -> Head:
    """The end of a network that `name` asks for: a loss, or output+loss as `sigmoid+squared_error`.

    Raises `UnknownNameError` for a name, `DataError` for a loss that does not fit the task or the
    output.

    >>> head("squared_error")
    Head(output='softmax', loss='squared_error', labels=False)
    """
    before, _, after = str(name).rpartition("+")
    if after not in losses.LOSSES or after not in _OF_CLASSES:
        raise unknown("loss", after, _OF_CLASSES)
    if before and before not in OUTPUTS:
        raise unknown("output", before, OUTPUTS)
    if not classification and after not in _OF_NUMBERS:
        raise DataError(
            f"'{after}' is a loss of classes, and the target is a number; use one of"
            f" {listed(_OF_NUMBERS)}"
        )
    possible = _OF_CLASSES[after] if classification else ("identity",)
    if before and before not in possible:
        raise DataError(f"'{after}' does not follow the output '{before}'; use {listed(possible)}")
    labels = bool(getattr(losses.LOSSES[after], "takes_labels", False))
    return Head(before or possible[0], after, labels and classification)


@dataclass(frozen=True)
class Combination:
    """One way to train: everything that may differ between two rows of a comparison.

    `loss` is a loss, or output+loss. `lr` is one rate, or several of which the best on a validation
    part is taken. `init` "matched" draws weights as suits the transfer function, else it is a name
    of `nn.initializers` for all hidden layers. `inputs`: "standardised" columns, "centred" (range 0
    to 1 less each column's mean), "positive" (range 0 to 1) or "raw". `label` is its name in
    tables, by default what sets it apart from the others.

    >>> Combination("relu").resolved().lr
    (0.003,)
    """

    activation: str = "relu"
    loss: str = "softmax_cross_entropy"
    optimizer: Any = "adam"
    lr: float | tuple[float, ...] | None = None
    hidden: tuple[int, ...] = (32,)
    init: str = "matched"
    inputs: str = "standardised"
    label: str = ""

    def resolved(self, classification: bool = True) -> Combination:
        """The same with each choice checked and filled in; errors name the choice."""
        if self.activation not in ACTIVATIONS:
            raise unknown("activation", self.activation, ACTIVATIONS)
        if self.inputs not in INPUTS:
            raise unknown("inputs", self.inputs, INPUTS)
        if self.init not in ("matched", *initializers.BY_NAME):
            raise unknown("initialiser", self.init, ("matched", *initializers.BY_NAME))
        head(self.loss, classification)
        hidden = (self.hidden,) if isinstance(self.hidden, int) else tuple(self.hidden)
        for units in hidden:
            count("hidden units", units)
        made = optim.get(self.optimizer)
        return dataclasses.replace(self, hidden=hidden, lr=self._rates(made))

    def _rates(self, made: Any) -> tuple[float, ...]:
        rates = self.lr
        if rates is None:
            if not isinstance(self.optimizer, str):
                rates = getattr(made, "lr", None)
            else:
                rates = {"sgd": 0.1, "adagrad": 0.03}.get(self.optimizer, 0.003)
        given: tuple[Any, ...] = tuple(rates) if isinstance(rates, Sequence) else (rates,)
        if not given:
            raise DataError("lr is an empty list; give one learning rate or several")
        for rate in given:
            if isinstance(rate, bool) or not isinstance(rate, (int, float)):
                raise DataError(f"lr must be a number or several, got {quoted(rate)}")
            if not (math.isfinite(rate) and rate > 0):
                raise DataError(f"lr must be positive, got {rate}")
        return tuple(sorted({float(rate) for rate in given}))

    def moved_by(self, lr: float) -> Any:
        """The optimiser at this rate."""
        made = copy.copy(optim.get(self.optimizer))
        made.lr = lr
        return made

    @property
    def rates(self) -> tuple[float, ...]:
        """The learning rates of a resolved combination."""
        return self.lr if isinstance(self.lr, tuple) else (float(self.lr or 0),)

    def facts(self) -> dict[str, str]:
        """What it is, field by field, in words."""
        return {
            "activation": self.activation,
            "loss": self.loss,
            "optimizer": optimizer_name(self.optimizer),
            "lr": ", ".join(f"{rate:g}" for rate in self.rates),
            "hidden": "-".join(map(str, self.hidden)) or "none",
            "init": self.init,
            "inputs": self.inputs,
        }


def optimizer_name(optimizer: Any) -> str:
    """`sgd`, or `sgd(momentum=0.9)` with what differs from the optimiser's defaults.

    >>> optimizer_name(optim.SGD(lr=0.1, momentum=0.9))
    'sgd(momentum=0.9)'
    """
    if isinstance(optimizer, str):
        return optimizer
    usual, name = {}, type(optimizer).__name__
    if name.lower() in optim.OPTIMIZERS:
        usual = vars(optim.get(name.lower()))
    own = {
        k: v for k, v in vars(optimizer).items() if k != "lr" and k[0] != "_" and usual.get(k) != v
    }
    inside = ", ".join(f"{k}={v}" for k, v in own.items())
    return f"{name.lower()}({inside})" if inside else name.lower()


def network(
    combination: Combination, end: Head, inputs: int, outputs: int, seed: int, dtype: Any
) -> Sequential:
    """The dense network of a combination: hidden layers, a linear output layer, the output.

    Weights are drawn from (seed, layer), so that those of two combinations of one seed are the same
    numbers but for their scale.
    """
    init = initialiser(combination)
    stack: list[Any] = []
    for units in combination.hidden:
        kind = layers.Maxout if combination.activation == "maxout" else layers.Linear
        stack.append(kind(inputs, units, init=init, dtype=dtype))
        made = ACTIVATIONS[combination.activation]
        if made is not None:
            stack.append(made())
        inputs = units
    stack.append(layers.Linear(inputs, outputs, dtype=dtype))
    last = OUTPUTS[end.output]
    return Sequential(*stack, *([last()] if last else []), seed=seed)


def initialiser(combination: Combination) -> str:
    """The name of the initialiser of the hidden layers."""
    if combination.init != "matched":
        return combination.init
    if combination.activation == "selu":
        return "lecun_normal"
    if combination.activation in (*_SATURATING, "maxout"):
        return "glorot_uniform"
    return "he_uniform"
