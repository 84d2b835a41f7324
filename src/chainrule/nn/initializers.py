"""How weights start: each initialiser is a function `(rng, (in, out)) -> array (in, out)`.

They draw in float64 from the generator that they are given, so that float32 and float64 networks
start from the same numbers. Normal draws are not truncated.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from ..errors import ShapeError, UnknownNameError, unknown

__all__ = [
    "BY_NAME",
    "Initializer",
    "constant",
    "draw",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "lecun_normal",
    "lecun_uniform",
    "named",
    "normal",
    "uniform",
    "zeros",
]

Array = np.ndarray[Any, Any]
Shape = tuple[int, int]
Initializer = Callable[[np.random.Generator, Shape], Array]


def glorot_uniform(rng: np.random.Generator, shape: Shape) -> Array:
    """Uniform on (−a, a) with a = √(6/(in + out)): variance 2/(in + out).

    Keeps the variance of activations and of gradients about level through linear and tanh layers.
    Source: Glorot and Bengio 2010, equation 16.

    >>> float(abs(glorot_uniform(np.random.default_rng(0), (2, 4))).max()) <= 1.0
    True
    """
    limit = math.sqrt(6 / (shape[0] + shape[1]))
    return rng.uniform(-limit, limit, shape)


def glorot_normal(rng: np.random.Generator, shape: Shape) -> Array:
    """Normal with mean 0 and variance 2/(in + out), not truncated.

    Source: Glorot and Bengio 2010, equation 12.

    >>> glorot_normal(np.random.default_rng(0), (2, 4)).shape
    (2, 4)
    """
    return rng.normal(0.0, math.sqrt(2 / (shape[0] + shape[1])), shape)


def he_uniform(rng: np.random.Generator, shape: Shape) -> Array:
    """Uniform on (−a, a) with a = √(6/in): variance 2/in, for ReLU, which drops half of it.

    Source: He et al. 2015, equation 10, drawn uniformly.

    >>> float(abs(he_uniform(np.random.default_rng(0), (6, 4))).max()) <= 1.0
    True
    """
    limit = math.sqrt(6 / shape[0])
    return rng.uniform(-limit, limit, shape)


def he_normal(rng: np.random.Generator, shape: Shape) -> Array:
    """Normal with mean 0 and variance 2/in, not truncated.

    Source: He et al. 2015, equation 10.

    >>> he_normal(np.random.default_rng(0), (2, 4)).shape
    (2, 4)
    """
    return rng.normal(0.0, math.sqrt(2 / shape[0]), shape)


def lecun_uniform(rng: np.random.Generator, shape: Shape) -> Array:
    """Uniform on (−a, a) with a = √(3/in): variance 1/in.

    Source: LeCun et al. 1998, Efficient BackProp, equation 16, drawn uniformly.

    >>> float(abs(lecun_uniform(np.random.default_rng(0), (3, 4))).max()) <= 1.0
    True
    """
    limit = math.sqrt(3 / shape[0])
    return rng.uniform(-limit, limit, shape)


def lecun_normal(rng: np.random.Generator, shape: Shape) -> Array:
    """Normal with mean 0 and variance 1/in, not truncated; what SELU asks for.

    Source: LeCun et al. 1998, Efficient BackProp, equation 16.

    >>> lecun_normal(np.random.default_rng(0), (2, 4)).shape
    (2, 4)
    """
    return rng.normal(0.0, math.sqrt(1 / shape[0]), shape)


def zeros(rng: np.random.Generator, shape: Shape) -> Array:
    """0 everywhere: right for biases; hidden units with zero weights stay alike for ever.

    >>> zeros(np.random.default_rng(0), (1, 2))
    array([[0., 0.]])
    """
    return np.zeros(shape)


def constant(value: float) -> Initializer:
    """`value` everywhere.

    >>> constant(0.5)(np.random.default_rng(0), (1, 2))
    array([[0.5, 0.5]])
    """
    return partial(_constant, float(value))


def normal(std: float) -> Initializer:
    """Normal with mean 0 and standard deviation `std`, not truncated.

    >>> normal(0.01)(np.random.default_rng(0), (2, 4)).shape
    (2, 4)
    """
    return partial(_normal, float(std))


def uniform(limit: float) -> Initializer:
    """Uniform on (−limit, limit).

    >>> bool((abs(uniform(0.1)(np.random.default_rng(0), (2, 4))) <= 0.1).all())
    True
    """
    return partial(_uniform, float(limit))


def _constant(value: float, rng: np.random.Generator, shape: Shape) -> Array:
    return np.full(shape, value)


def _normal(std: float, rng: np.random.Generator, shape: Shape) -> Array:
    return rng.normal(0.0, std, shape)


def _uniform(limit: float, rng: np.random.Generator, shape: Shape) -> Array:
    return rng.uniform(-limit, limit, shape)


BY_NAME: dict[str, Initializer] = {
    "glorot_uniform": glorot_uniform,
    "glorot_normal": glorot_normal,
    "he_uniform": he_uniform,
    "he_normal": he_normal,
    "lecun_uniform": lecun_uniform,
    "lecun_normal": lecun_normal,
    "zeros": zeros,
}
_MAKERS = {"constant": "constant(0.1)", "normal": "normal(0.01)", "uniform": "uniform(0.1)"}


def named(init: str | Initializer) -> Initializer:
    """The initialiser of that name, or the function itself.

    Raises `UnknownNameError` naming the nearest one known.

    >>> named("zeros") is zeros
    True
    """
    if callable(init):
        return init
    if init in _MAKERS:
        raise UnknownNameError(
            f"initializer '{init}' needs its number: pass init=nn.initializers.{_MAKERS[init]}"
        )
    if init not in BY_NAME:
        raise unknown("initializer", init, BY_NAME)
    return BY_NAME[init]


def draw(init: str | Initializer, rng: np.random.Generator, shape: Shape) -> Array:
    """The initialiser's array, checked: an initialiser of the user's own may err.

    >>> draw("zeros", np.random.default_rng(0), (2, 1)).tolist()
    [[0.0], [0.0]]
    """
    drawn = np.asarray(named(init)(rng, shape))
    if drawn.shape != shape:
        name = getattr(init, "__name__", str(init))
        raise ShapeError(
            f"initializer {name} gave shape {drawn.shape} for (in, out) = {shape};"
            " it must return an array of shape (in, out)"
        )
    return drawn
