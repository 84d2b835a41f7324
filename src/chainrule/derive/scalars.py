"""A circuit of arrays as circuits of scalars, one for each element of its output.

Elementwise operations act element by element, structural ones as their index form says, and rows
such as softmax by their definition: so what differentiates scalars differentiates everything.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..circuit import Tensor, circuit_of
from ..circuit import vocabulary as ops
from ..errors import TraceError
from ..ops import Operation
from ..rewrite.algebra import number, times, total
from .symbols import symbol

Cells = np.ndarray[Any, Any]  # of tensors, 0-d each
LARGEST = 4096  # cells of one node


def cells_of(values: Any, make: Any) -> Cells:
    """An object array of tensors, one for each element."""
    array = np.asarray(values)
    if array.size > LARGEST:
        raise TraceError(
            f"derive: {array.shape} is too large to write out element by element; use a small"
            " example of the same function"
        )
    out = np.empty(array.shape, dtype=object)
    for place in np.ndindex(array.shape):
        out[place] = make(place, array[place])
    return out


def variables(leaf: Tensor) -> Cells:
    """Named scalars for the elements of a leaf: x_1, x_2 … or x_12 for row 1, column 2."""
    name = leaf.name or "x"
    wide = any(n > 9 for n in leaf.shape)

    def make(place: tuple[int, ...], value: Any) -> Tensor:
        index = (",".join if wide else "".join)(str(i + 1) for i in place)
        return symbol(f"{name}_{index}" if place else name, float(value))

    return cells_of(leaf.value, make)


def scalar_cells(output: Tensor, known: dict[Tensor, Cells]) -> Cells:
    """The cells of the output, given those of the variables; what is not given is a constant."""
    for node in circuit_of(output):
        if node not in known:
            known[node] = _cells(node, [known[x] for x in node.inputs])
    return known[output]


def _cells(node: Tensor, inputs: list[Cells]) -> Cells:
    if node.op is None or not any(_traced(c) for c in inputs):
        return cells_of(node.value, lambda place, value: number(float(value)))
    op: Operation = node.op
    if op.name == "astype":
        return inputs[0]
    if op.facts.index is not None:
        return _by_index(node, inputs)
    if op.locals or (op.facts.flow == "blocker" and op.arity is not None and not op.defaults):
        spread = np.broadcast_arrays(*inputs)
        return _filled(
            node.shape, lambda place: _again(op, [c[place] for c in spread], node.params)
        )
    if op.facts.definition is not None:
        stand_ins = [Tensor(x.value, requires_grad=True) for x in node.inputs]
        opened = op.facts.definition(*stand_ins, **node.params)
        return scalar_cells(opened, dict(zip(stand_ins, inputs, strict=True)))
    return cells_of(node.value, lambda place, value: number(float(value)))


def _traced(cells: Cells) -> bool:
    return any(c.traced for c in cells.flat)


def _again(op: Operation, operands: Any, params: Mapping[str, Any]) -> Tensor:
    if op.name == "where" and not operands[0].traced:
        chosen: Tensor = operands[1 if bool(operands[0].value) else 2]
        return chosen
    if op.name == "multiply":
        return times(operands)  # softmax's β = 1 is not worth a factor
    return op(*operands, **params)  # type: ignore[no-any-return]


def _filled(shape: tuple[int, ...], make: Any) -> Cells:
    out = np.empty(shape, dtype=object)
    for place in np.ndindex(shape):
        out[place] = make(place)
    return out


def _by_index(node: Tensor, inputs: list[Cells]) -> Cells:
    """out[o] = the sum (or the largest) over terms of the product of their factors."""
    index, shapes = node.op.facts.index, [x.shape for x in node.inputs]
    pick = {"max": ops.maximum, "min": ops.minimum}.get(index.combine)

    def make(place: tuple[int, ...]) -> Tensor:
        found: list[Tensor] = []
        for term in index.terms(place, shapes, node.params):
            cells = [inputs[position][where] for position, where in term]
            one: Tensor = cells[0]
            for cell in cells[1:]:
                one = ops.multiply(one, cell)
            found.append(one)
        if pick is None:
            return total((1, one) for one in found)
        out = found[0]
        for one in found[1:]:
            out = pick(out, one)
        return out

    return _filled(node.shape, make)
