"""Operations: one record each, and the functions composed of them."""

from . import gates, linalg, neural, numpy_protocol, operators, pointwise, reduce, shape
from .record import (
    Composed,
    Facts,
    Index,
    Kink,
    Operation,
    composed,
    operation,
    registry,
)
from .values import constant, tensor

__all__ = [
    "Composed",
    "Facts",
    "Index",
    "Kink",
    "Operation",
    "composed",
    "constant",
    "gates",
    "linalg",
    "neural",
    "numpy_protocol",
    "operation",
    "operators",
    "pointwise",
    "reduce",
    "registry",
    "shape",
    "tensor",
]
