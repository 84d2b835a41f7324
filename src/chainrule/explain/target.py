"""What is asked for: a tensor, a name, `"W1[3,2]"`, a list of these, or every variable."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..circuit import Tensor
from ..errors import ShapeError, UnknownNameError, quoted, unknown
from .flow import Flow
from .naming import Names

Index = tuple[int, ...]


@dataclass(frozen=True)
class Target:
    """A tensor whose gradient is explained, or one element of it."""

    tensor: Tensor
    index: Index | None = None


def targets(wrt: Any, index: Any, flow: Flow, names: Names) -> list[Target]:
    """The targets that `wrt` names; all variables of the circuit where it is None.

    Raises `UnknownNameError` with the nearest name, `ShapeError` for an index that does not fit.
    """
    if wrt is None:
        found = [Target(n) for n in flow.nodes if n.is_leaf and n.requires_grad]
    elif isinstance(wrt, (list, tuple, set)):
        found = [_target(one, flow, names) for one in wrt]
    else:
        found = [_target(wrt, flow, names)]
    if index is None:
        return found
    if len(found) != 1:
        raise ValueError(f"index={index} needs one tensor in wrt, not {len(found)}")
    place = index if isinstance(index, tuple) else (index,)
    return [Target(found[0].tensor, checked(place, found[0].tensor, names))]


def checked(index: Any, tensor: Tensor, names: Names) -> Index:
    """The index with whole numbers from 0, one for each axis, else an error."""
    name = names.get(tensor, tensor.label)
    try:
        place = tuple(int(i) for i in index)
    except (TypeError, ValueError):
        raise ShapeError(f"an index is whole numbers, as (3, 2), not {quoted(index)}") from None
    fits = len(place) == tensor.ndim and all(
        -n <= i < n for i, n in zip(place, tensor.shape, strict=True)
    )
    if not fits:
        raise ShapeError(f"{name} has shape {tensor.shape}; there is no element {list(place)}")
    return tuple(i % n for i, n in zip(place, tensor.shape, strict=True))


def _target(wrt: Any, flow: Flow, names: Names) -> Target:
    if isinstance(wrt, Tensor):
        return Target(wrt)
    if not isinstance(wrt, str):
        raise TypeError(f"wrt is a tensor, a name, or a list of these, not {type(wrt).__name__}")
    match = re.fullmatch(r"\s*([^\[\]]+?)\s*(?:\[([-\d,\s]+)\])?\s*", wrt)
    name = match[1] if match else wrt
    tensor = next(_named(name, flow, names), None)
    if tensor is None:
        raise unknown("tensor", name, sorted({names[n] for n in flow.reached}))
    if match is None or match[2] is None:
        return Target(tensor)
    return Target(tensor, checked(match[2].strip(" ,").split(","), tensor, names))


def _named(name: str, flow: Flow, names: Names) -> Iterator[Tensor]:
    yield from (n for n in flow.reached if names[n] == name)
    yield from (n for n in flow.nodes if n.name == name)
    yield from (t for t, given in names.caller.tensors.items() if given == name)


def element(value: Any, index: Index | None) -> float:
    """One element of an array, or the only one."""
    array = np.asarray(value)
    return float(array[index] if index is not None else array.reshape(-1)[0])


__all__ = ["Index", "Target", "UnknownNameError", "checked", "element", "targets"]
