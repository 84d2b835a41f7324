"""Functions of neural networks that dissolve into operations: maxout, one-hot, dropout, SELU."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..circuit import Tensor, state
from ..circuit import vocabulary as ops
from ..errors import DataError, ShapeError
from .record import composed, operation
from .reduce import canonical_axes

Value = Any

SELU_ALPHA = 1.6732632423543772
SELU_SCALE = 1.0507009873554805


@composed(("round(float(cr.selu(-1.0)), 6)", "-1.111331"), source="Klambauer et al. 2017")
def selu(x: Value) -> Value:
    """selu(x) = 1.0507·elu(x, 1.6733): keeps mean 0 and variance 1 through deep nets."""
    return SELU_SCALE * ops.elu(x, alpha=SELU_ALPHA)


@composed(
    ("cr.maxout([1.0, 4.0, 2.0, 3.0], 2)", "array([4., 3.])"), source="Goodfellow et al. 2013"
)
def maxout(x: Value, pieces: int, axis: int = -1) -> Value:
    """maxout(x, pieces, axis=-1): the largest of each unit's `pieces` neighbours along an axis.

    The axis of length units·pieces becomes units; ties share the gradient as `max` does.
    """
    shape = np.shape(x.value if isinstance(x, Tensor) else x)
    axis = canonical_axes(axis, len(shape))[0]
    if pieces < 1 or shape[axis] % pieces:
        raise ShapeError(
            f"maxout: axis {axis} of length {shape[axis]} has no whole {pieces} pieces"
        )
    grouped = (*shape[:axis], shape[axis] // pieces, pieces, *shape[axis + 1 :])
    return ops.max(ops.reshape(x, grouped), axis=axis + 1)


@composed(("cr.one_hot([0, 2], 3)", "array([[1., 0., 0.],\n       [0., 0., 1.]])"))
def one_hot(labels: Value, classes: int, dtype: Any = np.float64) -> Value:
    """one_hot(labels, classes)[i, k] = 1 where labels[i] = k, else 0; a plain array.

    Raises `DataError` naming the first label that is not an integer in 0 … classes−1; in a compiled
    function, where the result is a tensor, such a label gives a row of 0.
    """
    if state.compiling and isinstance(labels, Tensor) and labels.traced:
        row = ops.reshape(labels, (*labels.shape, 1))
        return ops.astype(ops.equal(row, np.arange(classes)), dtype=np.dtype(dtype))
    plain = np.asarray(labels.value if isinstance(labels, Tensor) else labels)
    whole = plain.astype(np.int64) if plain.dtype.kind in "iub" else np.rint(plain).astype(np.int64)
    wrong = (whole != plain) | (whole < 0) | (whole >= classes)
    if np.any(wrong):
        where = tuple(int(i) for i in np.argwhere(wrong)[0])
        value = plain[where]
        raise DataError(
            f"label {value} at {where[0] if len(where) == 1 else where} is not an integer"
            f" from 0 to {classes - 1}"
        )
    return np.eye(classes, dtype=dtype)[whole]


_MASK64 = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15


def mix(*numbers: int) -> int:
    """A 64-bit key from integers, each of them changing all bits (SplitMix64's finaliser)."""
    key = 0
    for number in numbers:
        key = _finish((key + (number & _MASK64) + _GOLDEN) & _MASK64)
    return key


def _finish(z: int) -> int:
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK64
    return z ^ (z >> 31)


def keys(seed: int, number: int, steps: Any) -> Any:
    """`mix(seed, number, step)` for an array of steps."""
    start = np.uint64(mix(seed, number))
    z = np.asarray(steps).astype(np.uint64) + start + np.uint64(_GOLDEN)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _bernoulli(key: Value, shape: Any, rate: float = 0.5) -> Value:
    """Element i is dropped where the top 32 bits of SplitMix64(key + i·γ) fall below rate·2³²."""
    count = int(np.prod(shape, dtype=np.int64))
    z = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(_GOLDEN) + np.uint64(key)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return ((z >> np.uint64(32)) >= np.uint64(round(rate * 2**32))).reshape(shape)


keep = operation(
    "keep",
    _bernoulli,
    meaning="keep(key, shape, rate=0.5): True with probability 1 − rate, in integer arithmetic",
    symbol="keep",
    latex=r"\operatorname{{keep}}({0})",
    flow="blocker",
    example=("cr.keep(1, (4,)).shape", "(4,)"),
    source="Steele, Lea and Flood 2014 (SplitMix64, used as a counter-based generator)",
)


@composed(
    ("cr.dropout(cr.tensor([1.0, 2.0]), 0.0, key=1).numpy()", "array([1., 2.])"),
    source="Srivastava et al. 2014",
)
def dropout(x: Value, rate: float = 0.5, *, key: Value = 0) -> Value:
    """dropout(x, rate=0.5, key=0) = x/(1 − rate) where kept, else 0; the key decides which.

    The same key gives the same bits on every machine; use another key for each step.
    """
    if not 0 <= rate < 1:
        raise ValueError(f"dropout: rate must be from 0 to below 1, got {rate}")
    shape = np.shape(x.value if isinstance(x, Tensor) else x)
    return ops.where(ops.keep(key, shape=shape, rate=float(rate)), x / (1 - rate), 0.0)
