"""The layers' arrays under scikit-learn's names, in its shapes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import DataError

__all__ = ["Values"]

Array = np.ndarray[Any, Any]


class Values(list[Array]):
    """The layers' arrays; what is assigned to one reaches the network."""

    def __init__(self, layers: list[Any], name: str) -> None:
        super().__init__(_turned(getattr(layer, name).value) for layer in layers)
        self.parameters = [getattr(layer, name) for layer in layers]

    def __setitem__(self, place: Any, value: Any) -> None:
        parameter = self.parameters[place]
        array = np.asarray(value)
        if array.T.shape != parameter.shape:
            raise DataError(
                f"this array has shape {parameter.shape[::-1]}, not {array.shape}; assign one like"
                " it, and call set_params and fit for another network"
            )
        parameter.rebind(array.T)
        super().__setitem__(place, _turned(parameter.value))

    def replace(self, values: Sequence[Any]) -> None:
        """Every array at once."""
        if len(values) != len(self):
            raise DataError(f"the network has {len(self)} layers, not {len(values)}")
        for place, value in enumerate(values):
            self[place] = value

    def __reduce__(self) -> Any:
        return list, (list(self),)


def _turned(value: Array) -> Array:
    view = np.asarray(value).T
    view.flags.writeable = False
    return view
