"""Small runs with one known fault each, and sound ones, of data made here."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

import chainrule as cr
from chainrule import nn, optim
from chainrule.circuit import vocabulary as ops
from chainrule.nn.initializers import constant, normal

X = np.random.default_rng(0).normal(size=(120, 2))
CROSS = (X[:, :1] * X[:, 1:] > 0).astype(float)
SIDE = (X[:, :1] + X[:, 1:] > 0).astype(float)
CURVE = X[:, :1] - 0.5 * X[:, 1:] ** 2
LABELS = SIDE[:, 0].astype(int)


def net(
    *last: Any, units: int = 12, outputs: int = 1, transfer: Any = nn.Tanh, **first: Any
) -> Any:
    hidden = nn.Linear(2, units, **first)
    return nn.Sequential(hidden, transfer(), nn.Linear(units, outputs), *last, seed=0)


def deep(transfer: Any, depth: int, units: int = 8, **every: Any) -> Any:
    parts = [nn.Linear(2, units, **every), transfer()]
    for _ in range(depth - 1):
        parts += [nn.Linear(units, units, **every), transfer()]
    return nn.Sequential(*parts, nn.Linear(units, 1, **every), seed=0)


def blind_logarithm(p: Any, target: Any) -> Any:
    """A cross-entropy by the book: it takes the logarithm of whatever comes."""
    return -cr.mean(target * ops.log(p) + (1 - target) * ops.log(1 - p))


def run(model: Any, y: Any, loss: Any, epochs: int = 20, lr: float = 0.05, **more: Any) -> Any:
    arguments = {
        "model": model, "X": X, "y": y, "loss": loss, "optimizer": optim.Adam(lr=lr),
        "epochs": epochs, "batch_size": 40, "seed": 0,
    }  # fmt: skip
    return {**arguments, **more}


def sure(bias: float) -> Any:
    """A network that is certain from the start, of the same for every row."""
    output = nn.Linear(12, 1, bias_init=constant(bias))
    return nn.Sequential(nn.Linear(2, 12), nn.Tanh(), output, nn.Sigmoid(), seed=0)


def twins() -> Any:
    half = constant(0.5)
    return nn.Sequential(nn.Linear(2, 8, init=half), nn.Tanh(), nn.Linear(8, 1, init=half))


FAULTY: dict[str, Callable[[], dict[str, Any]]] = {
    "data_fault": lambda: run(net(outputs=2), LABELS + 1, "softmax_cross_entropy"),
    "single_class_softmax": lambda: run(net(nn.Softmax()), SIDE, "squared_error"),
    "loss_output_mismatch": lambda: run(net(nn.ReLU()), CURVE - 1.5, "squared_error", lr=0.1),
    "zero_probability": lambda: run(sure(900.0), SIDE, blind_logarithm),
    "symmetric_init": lambda: run(twins(), CROSS, "logistic", lr=0.1),
    "unscaled_inputs": lambda: run(
        net(), SIDE, "logistic", X=X * np.array([300, 400]) + np.array([9000, -5000])
    ),
    "unscaled_targets": lambda: run(net(), 500 * CURVE + 9000, "squared_error", lr=0.1),
    "exploding_gradient": lambda: run(
        deep(nn.ReLU, 6, init=normal(3.0)), CURVE, "squared_error", lr=0.01
    ),
    "saturation": lambda: run(net(bias_init=constant(40.0)), CROSS, "logistic", lr=0.1),
    "dead_relu": lambda: run(
        net(transfer=nn.ReLU, bias_init=constant(-30.0)), CROSS, "logistic", lr=0.1
    ),
    "vanishing_gradient": lambda: run(
        deep(nn.Sigmoid, 6), SIDE, "logistic", optimizer=optim.SGD(lr=0.1)
    ),
    "learning_rate_too_high": lambda: run(net(), CROSS, "logistic", optimizer=optim.SGD(lr=300.0)),
    "learning_rate_too_low": lambda: run(net(), CROSS, "logistic", lr=5e-5),
    "insufficient_capacity": lambda: run(nn.Sequential(nn.Linear(2, 1), seed=0), CROSS, "logistic"),
}


@cache
def report(name: str) -> Any:
    """The diagnosis of a faulty run, made once for all tests."""
    return cr.diagnose(**FAULTY[name](), progress=False)


def bytes_of(value: Any) -> bytes:
    """Everything that an array, or a model's parameters and buffers, hold."""
    if isinstance(value, np.ndarray):
        return repr(value.dtype).encode() + value.tobytes()
    state = value.state_dict()
    return b"".join(n.encode() + np.asarray(state[n]).tobytes() for n in sorted(state))
