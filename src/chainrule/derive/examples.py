"""Small examples on which the structural and composed functions of the registry are written out.

An index form such as out[i] = Σₖ x[i,k] says which input elements an output element is made of; on
three elements or a 2×2 matrix it is an expression of scalars, and is differentiated as one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..circuit import Tensor
from ..circuit import vocabulary as ops
from ..ops import Composed, Operation
from .derivation import Derivation
from .functions import derive_circuit

_SAMPLES = (0.7, 0.4, 1.3, -0.6, 0.9, 0.2)


def leaf(name: str, *shape: int) -> Tensor:
    """A named variable with sample values."""
    size = int(np.prod(shape, dtype=int))
    value = np.array([_SAMPLES[k % len(_SAMPLES)] for k in range(size)]).reshape(shape)
    return Tensor(value[()], requires_grad=True, name=name)


def _one(*shape: int, **params: Any) -> Callable[[Any], tuple[Any, list[Tensor]]]:
    def build(function: Any) -> tuple[Any, list[Tensor]]:
        x = leaf("x", *shape)
        return function(x, **params), [x]

    return build


def _two(first: tuple[int, ...], second: tuple[int, ...]) -> Callable[[Any], Any]:
    def build(function: Any) -> tuple[Any, list[Tensor]]:
        a, b = leaf("a", *first), leaf("b", *second)
        return function(a, b), [a, b]

    return build


def _together(function: Any) -> tuple[Any, list[Tensor]]:
    x, y = leaf("x", 2), leaf("y", 2)
    return function([x, y]), [x, y]


def _joined(function: Any) -> tuple[Any, list[Tensor]]:
    x, y = leaf("x", 2), leaf("y", 2)
    return function(x, y), [x, y]


def _einsum(function: Any) -> tuple[Any, list[Tensor]]:
    a, b = leaf("a", 2, 2), leaf("b", 2)
    return function("ij,j->i", a, b), [a, b]


def _first_part(function: Any) -> tuple[Any, list[Tensor]]:
    x = leaf("x", 4)
    return function(x, 2)[0], [x]


def _one_hot(function: Any) -> tuple[Any, list[Tensor]]:
    x = Tensor(np.array([0.0, 1.0]), requires_grad=True, name="x")
    return ops.identity(Tensor(function(x, 2), requires_grad=False)), [x]


def _keep(function: Any) -> tuple[Any, list[Tensor]]:
    x = Tensor(np.float64(1.0), requires_grad=True, name="x")
    return Tensor(np.asarray(function(1, shape=(2,)), dtype=float), requires_grad=False), [x]


EXAMPLES: Mapping[str, Callable[[Any], tuple[Any, list[Tensor]]]] = {
    "sum": _one(3), "max": _one(3), "min": _one(3), "cumsum_along": _one(3), "cumsum": _one(3),
    "argmax": _one(3), "argmin": _one(3), "mean": _one(3), "var": _one(2), "std": _one(2),
    "prod": _one(3), "matmul": _two((2, 2), (2, 2)), "dot": _two((3,), (3,)),
    "outer": _two((2,), (2,)), "norm": _one(2), "einsum": _einsum, "selu": _one(),
    "maxout": _one(4, pieces=2), "one_hot": _one_hot, "keep": _keep, "dropout": _one(2, key=1),
    "reshape": _one(2, 2, shape=(4,)), "transpose": _one(2, 2),
    "broadcast_to": _one(2, shape=(2, 2)), "getitem": _one(3, index=slice(1, None)),
    "scatter_add": _one(2, index=slice(1, 3), shape=(3,)),
    "join": _joined, "concatenate": _together, "stack": _together, "split": _first_part,
    "expand_dims": _one(2, axis=0), "squeeze": _one(1, 2), "swapaxes": _one(2, 2, axis1=0, axis2=1),
    "flip": _one(2), "take": _one(3, indices=[2, 0]), "pad": _one(1, pad_width=1),
    "ravel": _one(2, 2),
}  # fmt: skip

MOVED = "Each output element is one input element: the derivative is 1 there and 0 elsewhere."


def derive_example(function: Operation | Composed, wrt: Any) -> Derivation:
    """The derivation of a function of the registry on its small example."""
    output, leaves = EXAMPLES[function.name](function)
    notes = []
    if isinstance(function, Operation):
        facts = function.facts
        if facts.index is not None:
            notes.append(f"Index form: {facts.index.text}. Written out here for a small example.")
        if facts.flow == "mover":
            notes.append(MOVED)
        if facts.flow == "blocker":
            notes.append("The value is constant by parts: no gradient passes.")
        notes += [f"At {k.where}: {k.subgradient}: {k.why}." for k in facts.kinks]
    else:
        notes.append((function.function.__doc__ or "").splitlines()[0])
    return derive_circuit(output, leaves, wrt, function.name, notes)
