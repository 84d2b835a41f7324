"""The tensors of a state dict as layers: which belong together, what they are, in what order."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from itertools import islice, pairwise
from typing import Any, NamedTuple

import numpy as np

from ..errors import listed, quoted
from .tensorfile import Refusal

__all__ = ["Group", "chained", "demand_known", "groups_of", "numbers", "ordered", "shown", "stem"]

Array = np.ndarray[Any, Any]


class Group(NamedTuple):
    """The tensors of one layer, by their last names, and the name that they share."""

    name: str
    tensors: dict[str, Array]

    @property
    def kind(self) -> str:
        """What its tensors say that it is."""
        names, weight = set(self.tensors), self.tensors.get("weight")
        if names == {"running_mean", "running_var"} or names == {*_NORM, *_RUNNING}:
            return "batch norm"
        if weight is not None and names <= _NORM:
            if weight.ndim == 2:
                return "dense"
            if weight.ndim == 1 and names == _NORM:
                return "layer norm"
        return ""

    @property
    def width(self) -> tuple[int, int]:
        """How many features go in and come out."""
        if self.kind == "dense":
            units, inputs = self.tensors["weight"].shape
            return inputs, units
        features = len(next(iter(self.tensors.values())))
        return features, features


_NORM = {"weight", "bias"}
_RUNNING = {"running_mean", "running_var"}


def groups_of(tensors: dict[str, Array]) -> list[Group]:
    """The tensors by their prefixes; PyTorch's counts of batches are of no use here."""
    found: dict[str, dict[str, Array]] = {}
    of_keras = any(_keras(name)[1] in _OF_KERAS for name in tensors)
    for name, value in (_renamed(tensors) if of_keras else tensors).items():
        prefix, _, last = name.rpartition(".")
        if last == "num_batches_tracked":
            continue
        if value.dtype.kind != "f":
            raise Refusal(f"has {quoted(name)} of {value.dtype}; weights are floating numbers")
        found.setdefault(prefix, {})[last] = value
    if not found:
        raise Refusal("has no tensors; give the state dict of a network")
    return [Group(name, inner) for name, inner in found.items()]


_OF_KERAS = {
    "kernel": "weight",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def _keras(name: str) -> tuple[str, str]:
    """Layer and tensor of a name as Keras gives it: "sequential/dense_1/kernel", once with ":0"."""
    layer, _, last = re.sub(r":[0-9]+$", "", name).replace("/", ".").rpartition(".")
    return layer, last


def _renamed(tensors: dict[str, Array]) -> dict[str, Array]:
    """Keras's tensors under PyTorch's names, each kernel (in, out) turned to a weight (out, in).

    Keras counts "dense", "dense_1", "dense_2": the first of them becomes "dense_0".
    """
    layers = {_keras(name)[0] for name in tensors}
    counted = {layer.rstrip("0123456789") for layer in layers}
    first = {layer: f"{layer}_0" for layer in layers if f"{layer}_" in counted}
    found = {}
    for name, value in tensors.items():
        layer, last = _keras(name)
        turned = value.T if last == "kernel" and value.ndim == 2 else value
        found[f"{first.get(layer, layer)}.{_OF_KERAS.get(last, last)}"] = turned
    if len(found) < len(tensors):
        raise Refusal("has two tensors of one layer and kind; keep one of them")
    return found


def demand_known(group: Group) -> None:
    """Refuse what is none of the layers that a dense network has, or not whole."""
    shapes = {name: value.shape for name, value in group.tensors.items()}
    if not group.kind:
        raise Refusal(
            f"has {quoted(group.name)} with {shown(shapes)}, which is no Linear, BatchNorm1d or"
            " LayerNorm; build the network and give it as model="
        )
    outputs = {shape[:1] if name == "weight" else shape for name, shape in shapes.items()}
    if len(outputs) > 1 or len(min(outputs)) != 1 or any(0 in shape for shape in shapes.values()):
        raise Refusal(f"has {quoted(group.name)} with {shown(shapes)}, which do not fit")


# -- the order of layers ----------------------------------------------------------------------

Fits = Callable[[Group | None, Group, int], bool]  # the one before, this one, its place
MAX_GROUPS, MAX_STEMS, MAX_TRIES = 2000, 20, 10_000


def stem(name: str) -> str:
    """The name with a # for each number: like names have the same."""
    return re.sub(r"[0-9]+", "#", name)


def numbers(name: str) -> list[int]:
    """The numbers in the name."""
    return [int(digits[:18]) for digits in re.findall(r"[0-9]+", name)]


def _natural(groups: list[Group]) -> list[Group]:
    """In the order of their names, numbers as numbers."""
    return sorted(groups, key=lambda group: (stem(group.name), numbers(group.name)))


def ordered(groups: list[Group], fits: Fits, misfit: Callable[[list[Group]], str]) -> list[Group]:
    """The one order that keeps the numbers of like names and in which every layer fits."""
    queues: dict[str, list[Group]] = {}
    for group in _natural(groups):
        queues.setdefault(stem(group.name), []).append(group)
    found: list[list[Group]] = []
    if len(groups) <= MAX_GROUPS and len(queues) <= MAX_STEMS:
        found = list(islice(_orders(list(queues.values()), fits), 2))
        if not found:
            raise Refusal(misfit(_natural(groups)))
    if len(found) != 1:
        raise Refusal(
            f"does not say the order of {listed([g.name for g in groups], 6)}: their names have no"
            " numbers, and their shapes fit in several ways; number the names"
        )
    return found[0]


class _Chosen(NamedTuple):
    """The layers of an order that is being made, from its last to its first."""

    group: Group
    before: _Chosen | None


def _orders(queues: list[list[Group]], fits: Fits) -> Iterator[list[Group]]:
    """The orders that fit, found depth first; each queue keeps its own."""
    total = sum(map(len, queues))
    waiting: list[tuple[tuple[int, ...], _Chosen | None]] = [((0,) * len(queues), None)]
    for _ in range(MAX_TRIES):
        if not waiting:
            return
        taken, chosen = waiting.pop()
        place = sum(taken)
        if place == total:
            yield _listed(chosen)
        for k, queue in enumerate(queues):
            if taken[k] == len(queue):
                continue
            if fits(chosen.group if chosen else None, queue[taken[k]], place):
                more = (*taken[:k], taken[k] + 1, *taken[k + 1 :])
                waiting.append((more, _Chosen(queue[taken[k]], chosen)))
    raise Refusal("has too many layers whose names have no numbers; number the names")


def _listed(chosen: _Chosen | None) -> list[Group]:
    found = []
    while chosen is not None:
        found.append(chosen.group)
        chosen = chosen.before
    return found[::-1]


def chained(groups: list[Group]) -> list[Group]:
    """The layers in order, each taking as many features as the one before gives."""
    return ordered(groups, _chains, _unchained)


def _chains(before: Group | None, group: Group, place: int) -> bool:
    return before is None or before.width[1] == group.width[0]


def _unchained(groups: list[Group]) -> str:
    """Which two layers do not chain."""
    a, b = next((a, b) for a, b in pairwise(groups) if not _chains(a, b, 1))
    return (
        f"has layers that do not chain: {quoted(a.name)} gives {a.width[1]} features, and"
        f" {quoted(b.name)} takes {b.width[0]}"
    )


def shown(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Names with their shapes, as a message has them."""
    return ", ".join(f"{name[:40]} {list(shape)}" for name, shape in list(shapes.items())[:4])
