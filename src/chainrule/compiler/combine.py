"""How reductions combine: two numbers, a tree of them, the lanes of a vector."""

from __future__ import annotations

from typing import Any

import numpy as np

from .emit import Function, Value
from .expression import Builder, emit, llvm_type

__all__ = ["WAYS", "across", "combined", "combined_tree", "identity", "start_of"]

WAYS = 4  # accumulators of a sum: as many additions are under way


def identity(kind: str, dtype: np.dtype[Any]) -> Any:
    """What changes nothing: −0 for sums of floats, the far end for max and min."""
    if kind == "sum":
        return -0.0 if dtype.kind == "f" else 0
    if dtype.kind == "f":
        return -np.inf if kind == "max" else np.inf
    if dtype.kind == "b":
        return kind == "min"
    info = np.iinfo(dtype)
    return info.min if kind == "max" else info.max


def combined(fn: Function, kind: str, dtype: np.dtype[Any], a: Value, b: Value) -> Value:
    """a + b, or the larger or smaller of the two, as NumPy's reductions take it."""
    builder = Builder()
    x, y = builder.load(0, dtype), builder.load(1, dtype)
    expr = {"sum": builder.add, "max": builder.maximum, "min": builder.minimum}[kind](x, y)
    return emit(fn, [expr], lambda key, _: (a, b)[key], a.type.lanes)[0]


def across(fn: Function, kind: str, dtype: np.dtype[Any], vector: Value) -> Value:
    """All lanes of a vector combined, in a tree."""
    lanes = vector.type.lanes
    while lanes > 1:
        half = lanes // 2
        low = fn.shuffle(vector, vector, list(range(half)))
        high = fn.shuffle(vector, vector, list(range(half, lanes)))
        vector, lanes = combined(fn, kind, dtype, low, high), half
    return fn.extract(vector, 0) if vector.type.lanes else vector


def combined_tree(fn: Function, kind: str, dtype: np.dtype[Any], parts: list[Value]) -> Value:
    """All of the parts combined, in pairs."""
    while len(parts) > 1:
        pairs = [parts[k : k + 2] for k in range(0, len(parts), 2)]
        parts = [p[0] if len(p) == 1 else combined(fn, kind, dtype, *p) for p in pairs]
    return parts[0]


def start_of(fn: Function, kind: str, dtype: np.dtype[Any], lanes: int) -> Value:
    """An accumulator before anything is in it."""
    return fn.const(identity(kind, dtype), llvm_type(dtype).of(lanes))
