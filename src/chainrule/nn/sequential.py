"""Sequential: layers one after the other, and where their randomness starts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..circuit import Parameter
from .base import count
from .module import Module, Shape


def generator(seed: int | None, number: int) -> np.random.Generator:
    """The generator of layer `number` with parameters; of fresh entropy where there is no seed."""
    if seed is None:
        return np.random.default_rng()
    return np.random.default_rng([count("seed", seed, least=0), number])


class Sequential(Module):
    """x ↦ layerₖ(… layer₁(x)): indexed, iterated and sliced like a tuple; names "0", "1", ….

    With `seed`, layer i of those with parameters (i = 0, 1, …, inner ones counted in their places)
    draws its W of shape (in, out) from `np.random.default_rng([seed, i])` unless its weights were
    given, seeded, loaded or trained before, and dropout starts from the same seed: same seed, same
    numbers. Without one, layers keep what they have drawn from fresh entropy.

    >>> from chainrule import nn
    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1), seed=0)
    >>> model([[0.0, 1.0]]).shape, model[0], len(model[:2])
    ((1, 1), Linear(2, 3), 2)
    """

    def __init__(self, *layers: Module, seed: int | None = None) -> None:
        self._take(layers)
        _name(self)
        if seed is not None:
            holders = [m for m in self.modules() if _own(m)]
            for number, layer in enumerate(holders):
                rng = generator(seed, number)
                if hasattr(layer, "draw"):
                    layer.draw(rng)
            generator(seed, 0)
            self.reseed(seed)

    def _take(self, layers: Sequence[Module]) -> None:
        for number, layer in enumerate(layers):
            if not isinstance(layer, Module):
                raise TypeError(f"Sequential: layer {number} is {_advice(layer)}")
            setattr(self, str(number), layer)

    def _layers(self) -> list[Module]:
        return [m for m in self._members.values() if isinstance(m, Module)]

    @property
    def takes_integers(self) -> bool:  # type: ignore[override]
        """Whether the first layer uses whole numbers as such."""
        return any(layer.takes_integers for layer in self._layers()[:1])

    def forward(self, x: Any) -> Any:
        for layer in self._layers():
            x = layer(x)
        return x

    def output_shape(self, shape: Shape | None) -> Shape | None:
        for layer in self._layers():
            shape = layer.output_shape(shape)
        return shape

    def __len__(self) -> int:
        return len(self._layers())

    def __iter__(self) -> Iterator[Module]:
        return iter(self._layers())

    def __getitem__(self, index: int | slice) -> Any:
        if not isinstance(index, slice):
            return self._layers()[index]
        part = Sequential.__new__(Sequential)
        part._take(self._layers()[index])  # the layers keep the names that they have in the whole
        return part


def _own(module: Module) -> list[tuple[str, Parameter]]:
    return [(k, p) for k, p in module._members.items() if isinstance(p, Parameter)]


def _name(model: Module) -> None:
    """Give layers their places, and parameters textbook names: W1, b1, W2, b2, …

    A normalisation's γ, β and a PReLU's α take the number of the layer before them.
    """
    number = 0
    for place, module in model.named_modules():
        if hasattr(module, "place"):
            module.place = place
        symbols: dict[str, str] = getattr(module, "symbols", {})
        number += "W" in symbols.values()
        for attribute, parameter in _own(module):
            symbol = symbols.get(attribute)
            if symbol and (parameter.name or symbol).rstrip("0123456789") == symbol:
                parameter.name = f"{symbol}{max(number, 1)}"


def _advice(layer: Any) -> str:
    if isinstance(layer, type) and issubclass(layer, Module):
        return f"the class {layer.__name__}; call it: {layer.__name__}(…)"
    if isinstance(layer, (list, tuple)):
        return f"a {type(layer).__name__}; give the layers themselves: Sequential(*layers)"
    if callable(layer):
        return "a function; write a Module whose forward calls it"
    return f"a {type(layer).__name__}, not a Module"
