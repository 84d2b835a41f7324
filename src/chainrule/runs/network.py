"""What settings build: the network, its loss, and the optimiser with its schedule."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from functools import partial, update_wrapper
from typing import TYPE_CHECKING, Any

from ..errors import DataError
from ..nn import EmbedColumns, Sequential, layers, losses, optim, schedules
from ..nn.activations import ACTIVATIONS

if TYPE_CHECKING:
    from .config import Settings

__all__ = ["ACTIVATIONS", "LOSSES", "SCHEDULES", "drawn_by", "loss", "network", "optimizer"]

# σ and tanh keep the variance with Glorot's draw, the rectifiers with He's, SELU with LeCun's.
_INITIALISERS = {
    **dict.fromkeys(("tanh", "sigmoid", "softsign", "hard_tanh"), "glorot_uniform"),
    "selu": "lecun_normal",
}

LOSSES = {  # by task; the first is the default
    "classification": ("softmax_cross_entropy", "logistic"),
    "regression": ("squared_error", "mean_squared_error", "absolute_error", "huber"),
}
SCHEDULES = ("cosine", "constant", "step", "one-cycle", "plateau")


def network(
    inputs: int, outputs: int, settings: Settings, blocks: Sequence[tuple[int, int, int]] = ()
) -> Sequential:
    """A dense network: hidden layers with their activation, and a linear output layer.

    `blocks` are the one-hot features that become learned vectors first, as `EmbedColumns` has them.
    """
    stack: list[Any] = []
    if blocks:
        stack.append(EmbedColumns(inputs, blocks, dtype=settings.dtype))
        inputs += sum(length - categories for _, categories, length in blocks)
    hidden = settings.hidden or ()
    for units, name in zip(hidden, settings.activations(len(hidden)), strict=True):
        init = drawn_by(settings, name)
        stack.append(layers.Linear(inputs, units, init=init, dtype=settings.dtype))
        if settings.batch_norm:
            stack.append(layers.BatchNorm1d(units, dtype=settings.dtype))
        stack.append(ACTIVATIONS[name]())
        if settings.dropout:
            stack.append(layers.Dropout(settings.dropout))
        inputs = units
    last = layers.Linear(inputs, outputs, dtype=settings.dtype)
    return Sequential(*stack, last, seed=settings.seed)


def drawn_by(settings: Settings, activation: str) -> str:
    """The initialiser of a hidden layer with this transfer function.

    >>> from chainrule.runs import Settings
    >>> drawn_by(Settings(), "tanh"), drawn_by(Settings(init="he_normal"), "tanh")
    ('glorot_uniform', 'he_normal')
    """
    return settings.init or _INITIALISERS.get(activation, "he_uniform")


def loss(settings: Settings) -> Any:
    """The loss by name, with label smoothing where it is asked for."""
    found = losses.get(settings.loss or "")
    if not settings.label_smoothing:
        return found
    smoothed = partial(found, label_smoothing=settings.label_smoothing)
    return update_wrapper(smoothed, found)


def optimizer(settings: Settings, steps: int) -> Any:
    """The optimiser by name, for so many updates; wrapped where steps are gathered or averaged."""
    options: dict[str, Any] = {
        name: value
        for name in ("momentum", "weight_decay", "clip_norm", "clip_value")
        if (value := getattr(settings, name))
    }
    if settings.optimizer == "lbfgs":
        return _lbfgs(settings, options)
    kind: Any = optim.OPTIMIZERS[settings.optimizer]
    if settings.momentum and "momentum" not in inspect.signature(kind).parameters:
        raise DataError(f"{settings.optimizer} has no momentum setting; use sgd or rmsprop")
    made = kind(lr=_rate(settings, steps), **options)
    if settings.accumulate > 1:
        made = optim.Accumulate(made, settings.accumulate)
    return optim.EMA(made, decay=settings.ema) if settings.ema else made


def _lbfgs(settings: Settings, options: dict[str, Any]) -> Any:
    """L-BFGS finds its own way: what bounds or schedules a step is refused."""
    odd = [name for name in options if name != "weight_decay"]
    odd += [
        name for name, off in (("accumulate", 1), ("ema", None)) if getattr(settings, name) != off
    ]
    if odd:
        raise DataError(f"lbfgs does not go with {odd[0]}; leave it out, or use another optimizer")
    return optim.LBFGS(**options)


def _rate(settings: Settings, steps: int) -> Any:
    """The learning rate: a number, or a function of the updates made before."""
    lr: Any = settings.lr
    if settings.schedule == "cosine":
        return schedules.cosine(lr, steps)
    if settings.schedule == "step":  # two falls to a tenth, at a third and at two thirds
        return schedules.steps(lr, every=max(1, -(-steps // 3)))
    if settings.schedule == "one-cycle":
        return optim.one_cycle(lr, steps)
    return lr
