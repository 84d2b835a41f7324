"""How values come into a circuit: variables, constants, lists; and what is said of a misfit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..circuit import Tensor, refuse, state, vocabulary
from ..errors import TraceError


def shape_of(x: Any) -> tuple[int, ...]:
    """The shape of a tensor, an array or a number, without NumPy's dispatch."""
    return x.shape if hasattr(x, "shape") else np.shape(x)


def gathered(values: Sequence[Any]) -> Any:
    """A list as an array; tensors anywhere in it are stacked, so that none is lost."""
    if not any(isinstance(x, (Tensor, list, tuple)) for x in values):
        return np.asarray(values)
    parts = [gathered(x) if isinstance(x, (list, tuple)) else x for x in values]
    if any(isinstance(x, Tensor) for x in parts):
        return vocabulary.stack(parts)
    return np.asarray(values)


def constant(value: Any, name: str = "") -> Tensor:
    """A plain number or array as a constant of the circuit.

    Python numbers stay Python numbers, so that they do not promote float32; a writeable array is
    copied, so that a later write into it cannot make the recorded circuit wrong.
    """
    if isinstance(value, (float, int)):
        return Tensor(value, requires_grad=False)
    if isinstance(value, (list, tuple)) and isinstance(made := gathered(value), Tensor):
        return made
    array = np.asarray(value)
    if array.dtype.kind not in "fiub":
        what = "complex numbers" if array.dtype.kind == "c" else f"values of type {array.dtype}"
        raise TraceError(f"{name or 'tensor'}: {what} are not supported; use real numbers")
    if array.flags.writeable and array is value:
        array = array.copy()
    return Tensor(array[()], requires_grad=False)


def tensor(
    value: Any,
    requires_grad: bool | None = None,
    *,
    name: str | None = None,
    dtype: Any = None,
) -> Tensor:
    """A variable of the circuit, holding a copy of `value`.

    Python numbers and nested lists become float64, integers too, so `tensor(-2)` is differentiable;
    arrays keep their dtype, and integer and boolean arrays are constants. `requires_grad=False`
    makes a constant of any value.

    Raises `TraceError` for strings, objects and complex numbers, for ragged lists, and for
    `requires_grad=True` on an integer array.

    >>> import chainrule as cr
    >>> x = cr.tensor(-2, name="x")
    >>> (x * x).backward()[x]
    array(-4.)
    """
    if isinstance(value, Tensor):
        if state.compiling and value.traced:
            raise refuse(
                "tensor() of a traced tensor",
                "it would be a constant. Use the tensor itself, or cr.stop_gradient(tensor)",
            )
        value = value.value
    typed = isinstance(value, (np.ndarray, np.generic)) or hasattr(value, "__array__")
    try:
        array = np.array(value, dtype=dtype)
    except (ValueError, TypeError) as error:
        ragged = "inhomogeneous" in str(error)
        why = "its rows differ in length" if ragged else str(error)
        raise TraceError(f"tensor: not a rectangular array of numbers: {why}") from error
    if array.dtype.kind not in "fiub":
        what = "complex numbers" if array.dtype.kind == "c" else f"values of type {array.dtype}"
        raise TraceError(f"tensor: {what} are not supported; use real numbers")
    if not typed and dtype is None and array.dtype.kind in "iu":
        array = array.astype(np.float64)
    floating = array.dtype.kind == "f"
    if requires_grad and not floating:
        raise TraceError(
            f"an array of {array.dtype} has no gradient; use .astype(float), or requires_grad=False"
        )
    return Tensor(
        array[()], requires_grad=floating if requires_grad is None else requires_grad, name=name
    )


def advice(name: str, inputs: Sequence[Tensor], error: Exception) -> str:
    """Which axis is at fault, and what would mend it."""
    shapes = [x.shape for x in inputs]
    if name == "matmul" and not all(shapes):
        return "a scalar has no axis to sum over; multiply by it with *"
    if name == "matmul":
        a, b = shapes
        inner = b[-2] if len(b) > 1 else b[-1]
        if a[-1] != inner:
            text = (
                f"the last axis of the first has {a[-1]}, the matching axis of the second {inner}"
            )
            fits = len(b) > 1 and b[-1] == a[-1]
            return text + ("; transpose the second: a @ b.T" if fits else "")
    if len(shapes) == 2 and "broadcast" in str(error):
        a, b = shapes
        for axis in range(1, min(len(a), len(b)) + 1):
            if a[-axis] != b[-axis] and 1 not in (a[-axis], b[-axis]):
                return (
                    f"axis {-axis} has {a[-axis]} against {b[-axis]}; lengths must be equal or 1"
                    " (add an axis with x[:, None], or reshape)"
                )
    return str(error)
