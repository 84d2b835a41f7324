"""The operators of tensors: `x * y` records the operation that `cr.multiply(x, y)` records."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..circuit import Tensor
from .linalg import matmul
from .pointwise import (
    abs_,
    add,
    divide,
    greater,
    greater_equal,
    less,
    less_equal,
    multiply,
    negative,
    power,
    subtract,
)
from .record import Operation

BINARY = {
    "add": add,
    "sub": subtract,
    "mul": multiply,
    "truediv": divide,
    "pow": power,
    "matmul": matmul,
}
COMPARISONS = {"lt": less, "le": less_equal, "gt": greater, "ge": greater_equal}
UNARY = {"neg": negative, "abs": abs_}


def _forward(op: Operation) -> Callable[[Tensor, Any], Tensor]:
    call = type(op).__call__
    return lambda x, y: call(op, x, y)


def _reflected(op: Operation) -> Callable[[Tensor, Any], Tensor]:
    call = type(op).__call__
    return lambda x, y: call(op, y, x)


def _unary(op: Operation) -> Callable[[Tensor], Tensor]:
    call = type(op).__call__
    return lambda x: call(op, x)


def install() -> None:
    """Give `Tensor` its operators."""
    for name, op in BINARY.items():
        setattr(Tensor, f"__{name}__", _forward(op))
        setattr(Tensor, f"__r{name}__", _reflected(op))
    for name, op in COMPARISONS.items():
        setattr(Tensor, f"__{name}__", _forward(op))
    for name, op in UNARY.items():
        setattr(Tensor, f"__{name}__", _unary(op))


install()
