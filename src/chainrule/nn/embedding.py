"""EmbedColumns: categories of a table as learned vectors, beside its numbers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from ..circuit import Parameter
from ..circuit import vocabulary as ops
from ..errors import quoted
from .base import Layer, count, floating
from .module import Shape
from .sequential import generator

__all__ = ["Block", "EmbedColumns", "segments"]

Block = tuple[int, int, int]  # the first feature, the categories, the length of their vectors


class EmbedColumns(Layer):
    """out = [numbers, x[:, block]·E, …]: each one-hot block through its matrix E, the rest as is.

    A block is (start, categories, dim): features start … start + categories − 1 are one-hot, and
    E of shape (categories, dim), the parameter `table0`, `table1`, …, gives each category a
    vector. A row of zeros, an unknown category, gives the zero vector. x of shape (…, width) gives
    (…, width − Σ categories + Σ dim), columns in their order. E starts from N(0, 1/dim), so that a
    vector has length 1 on average, drawn as the weights of `Linear` are.

    Raises `ValueError` for blocks that overlap or do not fit `width`, `ShapeError` where the last
    axis of x is not `width`.

    >>> layer = EmbedColumns(3, [(1, 2, 1)])
    >>> layer.table0.rebind([[5.0], [7.0]])
    >>> layer([[0.5, 0.0, 1.0]]).numpy()
    array([[0.5, 7. ]], dtype=float32)

    Source: Guo and Berkhahn 2016, Entity Embeddings of Categorical Variables.
    """

    arguments = ("width", "blocks", "dtype")

    def __init__(
        self, width: int, blocks: Iterable[Iterable[int]], *, seed: int | None = None,
        dtype: Any = np.float32,
    ) -> None:  # fmt: skip
        self.width = count("width", width)
        found = [tuple(block) for block in blocks]
        self.blocks: tuple[Block, ...] = tuple(found)  # type: ignore[arg-type]
        segments(self.width, self.blocks)
        kind, rng = floating(dtype), generator(seed, 0)
        for number, (_, categories, dim) in enumerate(self.blocks):
            start = _start(rng, categories, dim).astype(kind)
            setattr(self, f"table{number}", Parameter(start, name=f"E{number + 1}"))
        self._seeded = seed is not None

    def draw(self, rng: np.random.Generator) -> None:
        """Draw again what was neither seeded nor changed since it was first drawn."""
        for number, (_, categories, dim) in enumerate(self.blocks):
            table = getattr(self, f"table{number}")
            if not self._seeded and getattr(table, "updated", 1) == 0:
                table.rebind(_start(rng, categories, dim))

    def forward(self, x: Any) -> Any:
        self._demand_features(x.shape, self.width)
        parts, number = [], 0
        for start, stop, dim in segments(self.width, self.blocks):
            part = x if (start, stop) == (0, self.width) else x[..., start:stop]
            if dim:
                part = part @ getattr(self, f"table{number}")
                number += 1
            parts.append(part)
        return parts[0] if len(parts) == 1 else ops.concatenate(parts, axis=-1)

    def output_shape(self, shape: Shape | None) -> Shape | None:
        widths = [dim or stop - start for start, stop, dim in segments(self.width, self.blocks)]
        if shape is not None:
            self._demand_features(shape, self.width)
        return (*(shape or (0,))[:-1], sum(widths))


def segments(width: int, blocks: Iterable[Block]) -> list[tuple[int, int, int]]:
    """The features from left to right as (start, stop, dim); dim 0 marks plain numbers.

    Raises `ValueError` for a block that is none, overlaps the one before, or ends beyond `width`.

    >>> segments(4, [(1, 2, 5)])
    [(0, 1, 0), (1, 3, 5), (3, 4, 0)]
    """
    found, place = [], 0
    for block in blocks:
        if len(block) != 3:
            raise ValueError(f"a block is (start, categories, dim), got {quoted(block)}")
        start = count("a block's start", block[0], least=0)
        stop = start + count("a block's categories", block[1])
        if start < place or stop > width:
            raise ValueError(
                f"block {quoted(block)} does not fit: blocks stand in order, apart, "
                f"and within width {width}"
            )
        found += [(place, start, 0)] if start > place else []
        found.append((start, stop, count("a block's dim", block[2])))
        place = stop
    return found + ([(place, width, 0)] if width > place else [])


def _start(rng: np.random.Generator, categories: int, dim: int) -> np.ndarray[Any, Any]:
    return rng.normal(0.0, dim**-0.5, (categories, dim))
