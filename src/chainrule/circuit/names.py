"""What the user's own variables call the tensors and arrays that they hold."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import FrameType
from typing import Any

import numpy as np

from .node import Tensor
from .state import PACKAGE

LARGEST = 10_000_000  # elements up to which a constant is compared with the caller's arrays


class CallerNames:
    """The variables of one frame, read once: tensors by identity, constants by their values.

    >>> x, samples = Tensor(2.0, requires_grad=True), np.arange(3.0)
    >>> names = CallerNames({"x": x, "samples": samples})
    >>> names.tensors[x], names.of_constant(np.arange(3.0))
    ('x', 'samples')
    """

    def __init__(self, variables: Mapping[str, Any]) -> None:
        self.tensors: dict[Tensor, str] = {}
        self._arrays: list[tuple[str, np.ndarray[Any, Any]]] = []
        for name, value in variables.items():
            if name.startswith("_"):
                continue
            if isinstance(value, Tensor):
                self.tensors.setdefault(value, name)
            elif isinstance(value, np.ndarray) and value.ndim and value.dtype.kind in "fiub":
                self._arrays.append((name, value))

    def of_constant(self, value: Any) -> str | None:
        """The caller's name of an array with these values; a constant holds a copy of it."""
        if np.ndim(value) == 0 or np.size(value) > LARGEST:
            return None
        for name, array in self._arrays:
            same = array.shape == value.shape
            if same and np.array_equal(array.astype(value.dtype, copy=False), value):
                return name
        return None


def caller_names() -> CallerNames:
    """The variables of the nearest frame outside this package: its locals before its globals.

    Read at the time of the call and not kept, so a name is what the variable is called there and
    then.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(PACKAGE):
        frame = frame.f_back
    if frame is None:
        return CallerNames({})
    inner = dict(frame.f_locals)
    outer = {k: v for k, v in frame.f_globals.items() if k not in inner}
    return CallerNames({**inner, **outer})
