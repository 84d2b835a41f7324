"""chainrule: the backpropagation system that shows its work.

>>> import chainrule as cr
>>> x, y, z = cr.tensor(-2.0, name="x"), cr.tensor(5.0, name="y"), cr.tensor(-4.0, name="z")
>>> f = (x + y) * z
>>> f.backward()[x]
array(-4.)
"""

from typing import TYPE_CHECKING, Any

from . import gradient, linalg, nn, ops
from .circuit import Parameter, Tensor, no_grad
from .errors import (
    ChainruleError,
    DataError,
    ExpressionError,
    GradientError,
    ModelFileError,
    ShapeError,
    TraceError,
    UnknownNameError,
)
from .gradient import (
    check_grad,
    custom_gate,
    grad,
    hessian,
    jacobian,
    jvp,
    value_and_grad,
    vjp,
)
from .nn import load, losses, optim
from .ops import Operation, registry, tensor
from .rewrite import close, open
from .train import History, fit

__version__ = "0.1.0"

__all__ = [
    "ChainruleError",
    "DataError",
    "ExpressionError",
    "GradientError",
    "History",
    "ModelFileError",
    "Operation",
    "Parameter",
    "ShapeError",
    "Tensor",
    "TraceError",
    "UnknownNameError",
    "check_grad",
    "close",
    "custom_gate",
    "fit",
    "grad",
    "gradient",
    "hessian",
    "jacobian",
    "jvp",
    "linalg",
    "load",
    "losses",
    "nn",
    "no_grad",
    "open",
    "ops",
    "optim",
    "registry",
    "tensor",
    "value_and_grad",
    "vjp",
]

# The functions of the registry are public under their own names: an operation is written in one
# place, so they are not listed here a second time.
globals().update(registry)
__all__ += list(registry)

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...
