"""chainrule: the backpropagation system that shows its work.

>>> import chainrule as cr
>>> x, y, z = cr.tensor(-2.0, name="x"), cr.tensor(5.0, name="y"), cr.tensor(-4.0, name="z")
>>> f = (x + y) * z
>>> f.backward()[x]
array(-4.)
"""

import importlib
import sys
from types import ModuleType
from typing import Any

from . import gradient, linalg, ops
from .circuit import Parameter, Tensor, no_grad
from .errors import (
    ChainruleError,
    CompileError,
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
from .ops import Operation, registry, tensor
from .rewrite import close, open

__version__ = "0.1.0"

__all__ = [
    "ChainruleError",
    "Checkpoint",
    "Comparison",
    "CompileError",
    "DataError",
    "Derivation",
    "Doctor",
    "Drawing",
    "Explanation",
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
    "check",
    "check_grad",
    "close",
    "compare",
    "compile",
    "custom_gate",
    "data",
    "derive",
    "diagnose",
    "draw",
    "estimators",
    "explain",
    "fit",
    "from_sklearn",
    "from_state_dict",
    "grad",
    "gradient",
    "hessian",
    "jacobian",
    "jvp",
    "linalg",
    "load",
    "losses",
    "lr_find",
    "nn",
    "no_grad",
    "open",
    "ops",
    "optim",
    "plot",
    "registry",
    "runs",
    "tensor",
    "value_and_grad",
    "vjp",
]

# The functions of the registry are public under their own names: an operation is written in one
# place, so they are not listed here a second time.
globals().update(registry)
__all__ += list(registry)

# Networks, training and the compiler are loaded when they are first asked for: who wants the
# gradient of a NumPy function need not wait for them.
_LATER = {
    "Checkpoint": "train",
    "Comparison": "compare",
    "Derivation": "derive",
    "Doctor": "diagnose",
    "Drawing": "draw",
    "Explanation": "explain",
    "History": "train",
    "compare": "compare",
    "compile": "compiler.compiled",
    "data": "",
    "check": "diagnose",
    "derive": "derive",
    "diagnose": "diagnose",
    "draw": "draw",
    "estimators": "",
    "exercise": "explain",
    "explain": "explain",
    "fit": "train",
    "from_sklearn": "nn.interchange",
    "from_state_dict": "nn.interchange",
    "load": "nn",
    "losses": "nn",
    "lr_find": "train",
    "nn": "",
    "optim": "nn",
    "plot": "",
    "runs": "",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'chainrule' has no attribute '{name}'")
    room = importlib.import_module(f".{_LATER[name] or name}", __name__)
    value = getattr(room, name) if _LATER[name] else room
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})


class _Package(ModuleType):
    """The package, where a function goes before the room that has its name: `cr.draw` draws.

    Loading a room enters it as an attribute of the package, whoever loads it and when.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, ModuleType) and _LATER.get(name) == name:
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
