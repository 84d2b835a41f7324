"""Layer: a module rebuilt from plain arguments; what every layer here is, and what they check."""

from __future__ import annotations

import inspect
from typing import Any, ClassVar

import numpy as np

from ..circuit import Tensor
from ..errors import ShapeError, quoted
from .module import Module, Shape

__all__ = ["Layer", "count", "floating"]


class Layer(Module):
    """A module that is rebuilt from a few plain arguments: it can be printed and saved."""

    arguments: ClassVar[tuple[str, ...]] = ()  # the constructor's, each an attribute too
    symbols: ClassVar[dict[str, str]] = {}  # what textbooks call its parameters
    place = ""  # its name in the outermost Sequential

    def config(self) -> dict[str, Any]:
        """The constructor's arguments, plain: `type(layer)(**layer.config())` is such a layer."""
        return {name: _plain(getattr(self, name)) for name in self.arguments}

    def output_shape(self, shape: Shape | None) -> Shape | None:
        return shape

    def __repr__(self) -> str:
        shown, config = [], self.config()
        for name, parameter in inspect.signature(type(self).__init__).parameters.items():
            if name not in config:
                continue
            value = config[name]
            if parameter.default is inspect.Parameter.empty:
                shown.append(str(value))
            elif value != _plain_default(parameter.default):
                shown.append(f"{name}={value!r}")
        return f"{type(self).__name__}({', '.join(shown)})"

    def _where(self) -> str:
        return f"layer {self.place}, {self!r}" if self.place else repr(self)

    def _demand_features(self, shape: Shape, expected: int) -> None:
        """Raise where the last axis has not the length that this layer was built for."""
        if not shape or shape[-1] != expected:
            got = f"got {shape[-1]} (input shape {shape})" if shape else "got a scalar"
            raise ShapeError(
                f"{self._where()}: expected {expected} features in the last axis, {got}"
            )


def _plain(value: Any) -> Any:
    if isinstance(value, np.dtype):
        return str(value.name)
    if isinstance(value, Tensor):  # a bias, of which the constructor asks only whether
        return True
    return False if value is None else value


def _plain_default(value: Any) -> Any:
    return np.dtype(value).name if isinstance(value, type) else value


def count(name: str, value: Any, least: int = 1) -> int:
    """A whole number from `least` on, as an argument of a layer or of `fit`; else `ValueError`.

    >>> count("units", np.int64(3))
    3
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {quoted(value)}")
    return int(value)


def floating(dtype: Any) -> np.dtype[Any]:
    """A floating dtype, which parameters need in order to be trained."""
    found: np.dtype[Any] = np.dtype(dtype)
    if found.kind != "f":
        raise ValueError(f"parameters need a floating dtype such as float32, not {found}")
    return found
