"""A stack machine for postfix steps: each takes values off the stack and puts one back.

Nothing recurses, and numbers meet as NumPy float64, which overflow to inf and never raise: so
`9**9**9` is inf rather than a minute's work.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from chainrule.errors import ExpressionError, nearest, quoted

from .tokens import BINARY, SIGNS, pointed, refusal

__all__ = ["CONSTANTS", "Assignment", "KeywordValue", "Machine", "Step"]

MAX_WORK = 200_000  # array elements that one run may compute

KeywordValue: TypeAlias = float | bool | None
CONSTANTS: Mapping[str, float] = MappingProxyType({"pi": math.pi, "e": math.e})


class Step(NamedTuple):
    """One move of the stack machine: take values off the stack, put one back."""

    kind: Literal["constant", "name", "operator", "call", "list"]
    value: Any  # the number, the name, or the operator's symbol
    offset: int
    takes: int = 0
    keywords: tuple[tuple[str, KeywordValue], ...] = ()


@dataclass(frozen=True, slots=True)
class Assignment:
    """`name = expression`, the expression in postfix order."""

    name: str
    offset: int
    steps: tuple[Step, ...]


class Machine:
    """Walks the steps of one program; `values` holds what its statements assigned."""

    def __init__(
        self,
        source: str,
        variables: Mapping[str, Any],
        functions: Mapping[str, Callable[..., Any]],
    ) -> None:
        self.source = source
        self.variables = variables
        self.functions = functions
        self.values: dict[str, Any] = {}
        self.work = 0

    def assign(self, statement: Assignment) -> None:
        name = statement.name
        if name in self.variables:
            problem = f"value given for {quoted(name)}, which is computed"
            raise refusal(self.source, statement.offset, problem, f"leave out {name}=…")
        stack: list[Any] = []
        for step in statement.steps:
            rest = len(stack) - step.takes
            stack[rest:] = [self.attempt(step, stack[rest:])]
        self.values[name] = stack.pop()

    def attempt(self, step: Step, taken: list[Any]) -> Any:
        if step.kind == "name" and not self.knows(step.value):
            raise self.missing(step)
        try:
            if taken:
                self.spend(_work(step, taken))
            value = self.value(step, taken)
            self.spend(math.prod(_shape(value)) if step.kind == "call" else 0)
            return value
        except Exception as error:  # whatever a function, or an operand's own operator, raises
            reason = str(error).partition("\n")[0][:200] or type(error).__name__
            problem = f"cannot compute {quoted(step.value)}"
            raise refusal(self.source, step.offset, problem, reason) from error

    def spend(self, work: int) -> None:
        self.work += work
        if self.work > MAX_WORK:
            raise ExpressionError(f"more than {MAX_WORK:,} array elements in all")

    def knows(self, name: str) -> bool:
        return name in self.values or name in self.variables or name in CONSTANTS

    def missing(self, step: Step) -> ExpressionError:
        match = nearest(step.value, self.variables)
        guess = f"; did you mean {quoted(match)}?" if match else ""
        message = f"no value for {quoted(step.value)}: add {step.value}=<number>{guess}"
        return pointed(self.source, step.offset, message)

    def value(self, step: Step, taken: list[Any]) -> Any:
        if step.kind == "constant":
            return np.float64(step.value)
        if step.kind == "name":
            return self.lookup(step.value)
        if step.kind == "operator":
            operate: Callable[..., Any] = (SIGNS if step.takes == 1 else BINARY)[step.value]
            return operate(*_operands(taken))
        taken = [float(v) if isinstance(v, np.float64) else v for v in taken]
        if step.kind == "call":
            return self.functions[step.value](*taken, **dict(step.keywords))
        plain = all(type(v) is float for v in taken)
        return np.array(taken) if plain else np.stack(taken)

    def lookup(self, name: str) -> Any:
        if name in self.values:
            return self.values[name]
        value = self.variables[name] if name in self.variables else CONSTANTS[name]
        return np.asarray(value, np.float64) if isinstance(value, list) else _number(value)


def _number(value: Any) -> Any:
    plain = (bool, int, float, np.bool_, np.integer)
    return np.float64(value) if isinstance(value, plain) else value


def _operands(taken: list[Any]) -> list[Any]:
    """Two numbers meet as float64; beside a tensor or an array, a number is a Python float."""
    values = [_number(value) for value in taken]
    if all(isinstance(value, np.float64) for value in values):
        return values
    return [float(value) if isinstance(value, np.float64) else value for value in values]


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(getattr(value, "shape", ()))


def _work(step: Step, taken: list[Any]) -> int:
    """A bound on the array elements that a step will compute, from the shapes that it meets."""
    shapes = [_shape(value) for value in taken]
    if not any(shapes):
        return 0
    sizes = [math.prod(shape) for shape in shapes]
    if step.value == "@" and all(shapes):
        return sizes[0] * sizes[1] // max(1, shapes[0][-1])
    if step.kind == "operator":
        return math.prod(np.broadcast_shapes(*shapes))
    # A function of several arrays may take their outer product before its size can be seen.
    outer = math.prod(sizes) > 20 * MAX_WORK
    return MAX_WORK + 1 if step.kind == "call" and outer else sum(sizes)
