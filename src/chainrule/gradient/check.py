"""Is a gradient right? A comparison with differences of the function itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..circuit import Parameter, Tensor
from ..circuit import vocabulary as ops
from ..errors import GradientError
from .transform import vjp
from .tree import leaves

Array = Any
RELATIVE = 1e-6
ABSOLUTE = 1e-8


@dataclass(frozen=True)
class CheckReport:
    """What `check_grad` found: the element that agrees worst, and how well."""

    checked: int  # elements compared
    kinks: int  # elements where the function has a kink and the gradient is a subgradient
    worst: str  # the element, as in "argument 0 ['w'][2, 5]"
    analytic: float  # the gradient by backpropagation there
    numeric: float  # the same by differences
    step: float  # the step of those differences
    difference: float

    def __str__(self) -> str:
        kinks = f", {self.kinks} at kinks" if self.kinks else ""
        return (
            f"{self.checked} elements agree{kinks}; worst at {self.worst}: backward"
            f" {self.analytic:.12g}, differences {self.numeric:.12g} (step {self.step:.1e})"
        )


@dataclass(frozen=True)
class _Estimate:
    value: float
    error: float
    step: float


def check_grad(
    function: Callable[..., Any],
    *args: Any,
    rtol: float = RELATIVE,
    atol: float = ABSOLUTE,
    max_elements: int = 500,
    seed: int = 0,
) -> CheckReport:
    """Compare the gradient with central differences, element by element, in float64.

    Any result shape: a result that is no scalar is projected on a fixed random direction. Floating
    arrays anywhere in the arguments (and a Module's parameters) are checked; beyond `max_elements`
    a random choice of them. At a kink any subgradient, a value between the two one-sided
    derivatives, is accepted.

    Returns a `CheckReport`; raises `GradientError` naming the worst element, both values and the
    step.

    >>> import chainrule as cr
    >>> cr.check_grad(lambda x: cr.sum(cr.tanh(x)), np.array([0.5, -1.0])).checked
    2
    """
    point = _Point(function, args, seed)
    chosen = point.elements(max_elements, seed)
    worst: CheckReport | None = None
    worst_excess = -math.inf
    kinks = 0
    for element in chosen:
        analytic = point.analytic(element)
        estimate = _ridders(point.line(element))
        difference = abs(analytic - estimate.value)
        allowed = atol + rtol * max(abs(analytic), abs(estimate.value)) + 4 * estimate.error
        excess = difference - allowed
        if not excess <= 0 and _is_subgradient(point.line(element), analytic, rtol, atol):
            kinks += 1
            continue
        if math.isnan(excess):
            excess = math.inf
        if excess > worst_excess:
            worst_excess = excess
            worst = CheckReport(
                len(chosen),
                0,
                point.name(element),
                analytic,
                estimate.value,
                estimate.step,
                difference,
            )
    if worst is None:
        worst = CheckReport(len(chosen), 0, "a kink" if kinks else "nothing", 0.0, 0.0, 0.0, 0.0)
    report = CheckReport(**{**worst.__dict__, "kinks": kinks})
    if worst_excess > 0:
        raise GradientError(
            f"the gradient is wrong at {report.worst}: backward gives {report.analytic:.12g}, but"
            f" differences give {report.numeric:.12g} (step {report.step:.1e})"
        )
    return report


class _Held:
    """Parameters as the leaves of an argument: the function reaches them by itself."""

    def __init__(self, parameters: Sequence[Parameter]) -> None:
        self.parameters = parameters

    def named_parameters(self) -> list[tuple[str, Parameter]]:
        return [(str(k), parameter) for k, parameter in enumerate(self.parameters)]


Element = tuple[int, int]  # which leaf, which flat position


class _Point:
    """The function near one point, as a function of single elements."""

    def __init__(self, function: Callable[..., Any], args: Sequence[Any], seed: int) -> None:
        self.function = function
        self.args = args
        found = [(path, leaf) for path, leaf in leaves(list(args))]
        self.paths = [_spoken(path) for path, leaf in found if _floating(leaf)]
        self.floating = [_floating(leaf) for _, leaf in found]
        self.originals = [leaf for _, leaf in found]
        self.values = [
            np.array(_plain(leaf), dtype=np.float64)
            for leaf, floating in zip(self.originals, self.floating, strict=True)
            if floating
        ]
        self.weights: Array = None
        self.weights = self._weights(seed)
        self.gradients = self._gradients()

    def _call(self, values: Sequence[Array]) -> Any:
        """The function's plain value with other numbers in the floating leaves."""
        return self._with(values, lambda arguments: _plain(self.function(*arguments)))

    def _with(self, values: Sequence[Array], action: Callable[[list[Any]], Any]) -> Any:
        supply = iter(values)
        new: list[Any] = [
            next(supply) if floating else leaf
            for leaf, floating in zip(self.originals, self.floating, strict=True)
        ]
        parameters = [
            (leaf, value)
            for leaf, value in zip(self.originals, new, strict=True)
            if isinstance(leaf, Parameter)
        ]
        arguments = _restored(list(self.args), iter(new))
        with _holding(parameters):
            return action(arguments)

    def _weights(self, seed: int) -> Array:
        shape = np.shape(self._call(self.values))
        return np.ones(()) if shape == () else np.random.default_rng(seed).uniform(0.5, 1.5, shape)

    def _gradients(self) -> list[Array]:
        def differentiate(arguments: list[Any]) -> list[Array]:
            wanted = [x for _, x in leaves(arguments)]
            parameters = [x for x in wanted if isinstance(x, Parameter)]
            others = [
                x
                for x, f in zip(wanted, self.floating, strict=True)
                if f and not isinstance(x, Parameter)
            ]

            def scalar(held: _Held, variables: list[Any]) -> Any:
                supply = iter(variables)
                new = [
                    next(supply) if f and not isinstance(x, Parameter) else x
                    for x, f in zip(wanted, self.floating, strict=True)
                ]
                out = self.function(*_restored(arguments, iter(new)))
                return ops.sum(out * self.weights)

            _, pull = vjp(scalar, _Held(parameters), others)
            by_parameter, by_value = pull(1.0)
            supplies = (iter(by_parameter.values()), iter(by_value))
            return [
                np.asarray(_plain(next(supplies[0] if isinstance(x, Parameter) else supplies[1])))
                for x, f in zip(wanted, self.floating, strict=True)
                if f
            ]

        return self._with(self.values, differentiate)  # type: ignore[no-any-return]

    def elements(self, limit: int, seed: int) -> list[Element]:
        every = [(k, i) for k, value in enumerate(self.values) for i in range(value.size)]
        if len(every) <= limit:
            return every
        picked = np.random.default_rng(seed).choice(len(every), limit, replace=False)
        return [every[int(k)] for k in sorted(picked)]

    def analytic(self, element: Element) -> float:
        return float(self.gradients[element[0]].reshape(-1)[element[1]])

    def name(self, element: Element) -> str:
        shape = self.values[element[0]].shape
        index = ", ".join(str(int(i)) for i in np.unravel_index(element[1], shape)) if shape else ""
        return self.paths[element[0]] + (f"[{index}]" if index else "")

    def line(self, element: Element) -> Line:
        """t ↦ f with the element moved by t, and the scale of the element."""
        leaf, position = element
        here = float(self.values[leaf].reshape(-1)[position])

        def along(t: float) -> Array:
            moved = [value.copy() for value in self.values]
            moved[leaf].reshape(-1)[position] = here + t
            with np.errstate(all="ignore"):
                return np.asarray(self._call(moved), dtype=np.float64) * self.weights

        return Line(along, max(1.0, abs(here)))


@dataclass(frozen=True)
class Line:
    """A function of one number near 0, and the size of a step that matters to it."""

    at: Callable[[float], Array]  # the elements whose sum is the function's value
    scale: float

    def slope(self, a: float, b: float) -> tuple[float, float]:
        """(f(b) − f(a))/(b − a), and how far rounding may have moved it.

        The difference is taken element by element, so that elements which do not move cancel
        exactly, however large they are beside those that do.
        """
        before, after = self.at(a), self.at(b)
        with np.errstate(all="ignore"):
            moved = after - before
            size = np.where(moved != 0, np.maximum(np.abs(after), np.abs(before)), 0.0)
            noise = 8 * np.finfo(np.float64).eps * float(np.sum(size))
            return float(np.sum(moved)) / (b - a), noise / (b - a)


def _ridders(line: Line, rounds: int = 9, shrink: float = 1.7) -> _Estimate:
    """The derivative at 0 by central differences of shrinking steps, extrapolated to step 0.

    Source: C. J. F. Ridders, "Accurate computation of F'(x) and F'(x)F''(x)", 1982.
    """
    step = 0.02 * line.scale
    best = _Estimate(math.nan, math.inf, step)
    before: list[float] = []
    for _ in range(rounds):
        slope, noise = line.slope(-step, step)
        row = [slope]
        factor = shrink * shrink
        for k, old in enumerate(before):
            row.append((row[k] * factor - old) / (factor - 1))
            factor *= shrink * shrink
            error = max(abs(row[k + 1] - row[k]), abs(row[k + 1] - old)) + noise
            if error < best.error:
                best = _Estimate(row[k + 1], error, step)
        before = row if math.isfinite(row[0]) else []
        step /= shrink
    return best


def _is_subgradient(line: Line, analytic: float, rtol: float, atol: float) -> bool:
    """Whether 0 is a kink of the line and `analytic` lies between its one-sided derivatives."""
    step = 1e-6 * line.scale
    (left, noise_left), (right, noise_right) = line.slope(-step, 0.0), line.slope(0.0, step)
    slack = 1e-4 * max(1.0, abs(left), abs(right)) + 4 * (noise_left + noise_right)
    if not math.isfinite(left + right) or abs(left - right) <= slack:
        return False
    # A smooth function's two sides meet as the step shrinks; a kink's do not.
    near = step / 16
    closer = abs(line.slope(0.0, near)[0] - line.slope(-near, 0.0)[0])
    if closer < 0.5 * abs(left - right):
        return False
    return min(left, right) - slack <= analytic <= max(left, right) + slack


def _floating(leaf: Any) -> bool:
    return np.asarray(_plain(leaf)).dtype.kind == "f"


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, Tensor) else value


def _restored(tree: Any, values: Iterator[Any]) -> Any:
    """The tree with new leaves; Modules and their parameters stay what they are."""
    if hasattr(tree, "named_parameters"):
        for _ in tree.named_parameters():
            next(values)
        return tree
    if isinstance(tree, dict):
        return {key: _restored(value, values) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        parts = [_restored(value, values) for value in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
    if tree is None:
        return None
    value = next(values)
    return tree if isinstance(tree, Parameter) else value


@contextmanager
def _holding(parameters: Sequence[tuple[Parameter, Any]]) -> Iterator[None]:
    """Parameters with other values for a while, outside the training clock."""
    before = [parameter.value for parameter, _ in parameters]
    try:
        for parameter, value in parameters:
            parameter.value = _plain(value)
        yield
    finally:
        for (parameter, _), value in zip(parameters, before, strict=True):
            parameter.value = value


def _spoken(path: str) -> str:
    """ "[0]['w']" as "argument 0 ['w']"."""
    first, _, rest = path[1:].partition("]")
    return f"argument {first}" + (f" {rest}" if rest else "")


__all__ = ["CheckReport", "check_grad"]
