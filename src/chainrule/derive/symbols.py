"""The words that only a derivation needs: d/dx(…) still to be done, Σₖ, a name for a part."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..circuit import OFF, Tensor, record, state
from ..circuit import vocabulary as ops
from ..gradient.backward import flow_back
from ..notation import write
from ..ops import Facts, Operation, constant, registry
from ..rewrite.algebra import everywhere, named, reaches, value_of


class Derivative(Operation):
    """d/dx(u), not yet carried out; its value is what the backward loop makes of u."""

    __slots__ = ()

    def __call__(self, *args: Any, **params: Any) -> Tensor:
        u, x = args
        return record(self, (u, x), {}, slope(u, x), True)


def slope(u: Tensor, x: Tensor) -> Any:
    """∂u/∂x as a number, by the loop that computes every gradient."""
    if not u.requires_grad or not reaches(u, x):
        return np.float64(0.0)
    return flow_back(u, np.float64(1.0), wanted=[x]).get(x, np.float64(0.0))


def _operator(letter: str, latex: str) -> Derivative:
    return Derivative(
        Facts(
            name="derivative",
            meaning="derivative(u, x) = ∂u/∂x, still to be carried out",
            value=lambda u, x: np.nan,
            symbol="d/dx",
            latex=rf"\frac{{{{{latex}}}}}{{{{{latex} {{1}}}}}}\left({{0}}\right)",
            text=f"{letter}/{letter}{{1}}({{0:<}})",
            flow="blocker",
            arity=2,
            example=("str(cr.derive(cr.sin)).splitlines()[0]", "'…'"),
        )
    )


ORDINARY, PARTIAL = _operator("d", "d"), _operator("∂", r"\partial")


def pending(u: Tensor, x: Tensor, partial: bool = False) -> Tensor:
    """The expression d/dx(u), or ∂/∂x(u).

    >>> x = symbol("x")
    >>> write(pending(x * x, x))
    'd/dx(x · x)'
    """
    return (PARTIAL if partial else ORDINARY)(u, x)


def is_pending(node: Tensor) -> bool:
    """Whether the node is a derivative still to be carried out."""
    return isinstance(node.op, Derivative)


def symbol(name: str, value: float = 0.7) -> Tensor:
    """A variable with a name; the value is only a sample."""
    return Tensor(np.float64(value), requires_grad=True, name=name)


def abbreviation(name: str, node: Tensor) -> Tensor:
    """The same expression under a name of its own, as σᵢ for eˣⁱ/Σ."""
    out: Tensor = registry["identity"](node)
    out.name = name
    return out


def series(terms: Sequence[Tensor], index: str = "k") -> Tensor:
    """Σₖ of the terms, written by its last one, whose index stands for all.

    >>> write(series([symbol("x_i"), symbol("x_k")]))
    'Σₖ x_k'
    """
    general = terms[-1]
    plain, latex = ({"{": "{{", "}": "}}"}, write(general, "latex", expand=not general.name))
    body = write(general, expand=not general.name)
    small = {"k": "ₖ", "j": "ⱼ", "i": "ᵢ"}.get(index, index)
    escaped = str.maketrans(plain)
    op = Operation(
        Facts(
            name="series",
            meaning="series(…) = Σ of the terms",
            value=_added,
            symbol="Σ",
            latex=rf"\sum_{{{{{index}}}}} {latex.translate(escaped)}",
            text=f"Σ{small} {body.translate(escaped)}",
            binds=15,
            flow="distributor",
            arity=None,
            pull=(lambda position, v, operands, out: v,),
            definition=_total,
            domain=((-20.0, 20.0),),
            example=("", ""),
        )
    )
    return op(*terms)  # type: ignore[no-any-return]


def _added(*values: Any) -> Any:
    out = values[0]
    for value in values[1:]:
        out = out + value
    return out


def _total(*tensors: Tensor) -> Any:
    return _added(*tensors)


@contextmanager
def recording() -> Iterator[None]:
    """Expressions are circuits, so they are recorded even inside `no_grad`; overflow is no news."""
    before = state.group
    state.group = None if before is OFF else before
    try:
        with np.errstate(all="ignore"):
            yield
    finally:
        state.group = before


# Constants that formulas hold as floats, and how they are written.
_KNOWN: tuple[tuple[float, str, str], ...] = (
    (math.log(2), "ln 2", r"\ln 2"),
    (math.log(10), "ln 10", r"\ln 10"),
    (math.sqrt(2), "√2", r"\sqrt{2}"),
    (math.sqrt(2 * math.pi), "√(2π)", r"\sqrt{2\pi}"),
    (2 / math.sqrt(math.pi), "2/√π", r"\tfrac{2}{\sqrt{\pi}}"),
    (-2 / math.sqrt(math.pi), "−2/√π", r"-\tfrac{2}{\sqrt{\pi}}"),
)


def readable(node: Tensor) -> Tensor:
    """A record's formula as a person writes it: 1 + u, not u + 1, and √2 as a symbol.

    >>> write(readable(registry["exp"](symbol("x")) + 1))
    '1 + exp(x)'
    """

    def change(one: Tensor) -> Tensor | None:
        if named(one, "add") and value_of(one.inputs[1]) is not None and one.inputs[0].op:
            left = everywhere(one.inputs[0], change)
            return ops.add(one.inputs[1], one.inputs[0] if left is None else left)  # type: ignore[no-any-return]
        if one.op is None and not one.requires_grad and one.size == 1 and not one.name:
            value = float(np.asarray(one.value).item())
            if np.isfinite(value) and value_of(one) is None:
                name = next((text for v, text, _ in _KNOWN if v == value), f"{value:.9g}")
                return _constant_symbol(name, value)
        return None

    new = everywhere(node, change)
    return node if new is None else new


@functools.lru_cache(maxsize=1024)
def _constant_symbol(name: str, value: float) -> Tensor:
    """One symbol for one number, so that like terms are seen to be alike."""
    return symbol(name, value)


def constant_names(nodes: Sequence[Tensor], style: str) -> Mapping[Tensor, str]:
    """How the well-known constants among the nodes are written."""
    found = {}
    for node in nodes:
        if node.op is None and (node.name or not node.requires_grad) and node.size == 1:
            for value, text, latex in _KNOWN:
                if node.name in (None, text) and np.asarray(node.value).item() == value:
                    found[node] = text if style == "text" else latex
    return found


__all__ = [
    "Derivative",
    "abbreviation",
    "constant",
    "constant_names",
    "is_pending",
    "pending",
    "readable",
    "recording",
    "series",
    "slope",
    "symbol",
]
