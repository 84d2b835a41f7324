"""The record of an operation: every fact about it, stated once, and the recording of its calls."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..circuit import Parameter, Tensor, enter_group, record, state, vocabulary
from ..errors import ShapeError
from .values import advice, constant, gathered, shape_of

Array = Any  # an ndarray or a NumPy scalar
Rule = Callable[..., Any]

FLOWS = {
    "distributor": "hands its upstream gradient to every input unchanged",
    "switcher": "sends each input its upstream gradient times the other input",
    "router": "sends its upstream gradient to the winner, 0 to the others",
    "scaler": "multiplies its upstream gradient by one local derivative",
    "mover": "puts each upstream element back where its input element came from",
    "mixer": "spreads its upstream gradient over a whole row by the local Jacobian",
    "blocker": "lets no gradient pass",
}


@dataclass(frozen=True)
class Kink:
    """A point where the derivative does not exist, the subgradient taken there, and why."""

    where: str
    subgradient: str
    why: str
    at: float | None = None  # the input value, for a function of one variable


@dataclass(frozen=True)
class Index:
    """The index form: `out[o] = combine over terms of the product of their factors`.

    `terms(o, shapes, params)` lists, for the output index `o`, the terms; a term is a tuple of
    factors `(position of the input, index into it)`. Unfolding and notation read it, and a test
    holds it equal to the operation's value and vector–Jacobian product.
    """

    text: str
    terms: Callable[[tuple[int, ...], Sequence[tuple[int, ...]], Mapping[str, Any]], list[Any]]
    combine: str = "sum"  # or "max", "min": a router over its terms


@dataclass(frozen=True, eq=False, slots=True)
class Facts:
    """What an operation states about itself; `Operation` reads nothing else."""

    name: str
    meaning: str  # one line, starting with the formula
    value: Rule  # on plain NumPy values
    symbol: str  # on a drawing's node
    latex: str  # of the value, with {0}, {1} for the inputs; see `text`
    flow: str
    example: tuple[str, str]  # an expression in `cr.` and its printed value
    arity: int | None = 1  # None: any number of inputs
    text: str = ""  # as `latex`, in plain letters; name(…) if empty
    binds: int = 100  # how tightly: 10 as a sum, 15 a sign, 20 a product, 40 a power, 100 a bracket
    local: tuple[Rule | float | None, ...] = ()  # pointwise: ∂out/∂inputᵢ(*inputs, out, **params)
    pull: tuple[Rule, ...] = ()  # structural: upstream -> contribution (upstream, *inputs, out, …)
    index: Index | None = None  # structural
    definition: Rule | None = None  # a gate's textbook form, in the vocabulary: what opens
    textbook: tuple[Rule, ...] = ()  # the textbook local derivatives where `local` is a stable form
    kinks: tuple[Kink, ...] = ()
    domain: tuple[tuple[float, float], ...] = ()  # per input, where tests may sample
    numpy: tuple[Any, ...] = ()  # the NumPy functions it stands for
    plain: Rule | None = None  # on bare numbers and lists, where `value` is a Python operator
    source: str = ""  # lecture or paper
    prepare: Callable[..., dict[str, Any]] | None = None  # canonical params from (shapes, params)


class Operation:
    """An operation of the circuit; calling it computes, and records if a tensor goes in.

    On plain numbers and arrays it returns plain NumPy values, so a derivative rule written in
    operations gives numbers for numbers and circuit for tensors.
    """

    __slots__ = (
        "__dict__",
        "arity",
        "defaults",
        "differentiable",
        "facts",
        "is_router",
        "locals",
        "name",
        "value",
    )

    def __init__(self, facts: Facts) -> None:
        _demand_every_fact(facts)
        self.facts = facts
        self.name = facts.name
        self.value = facts.value
        self.locals = facts.local
        self.arity = facts.arity
        self.defaults = _defaults(facts)
        self.is_router = facts.flow == "router"
        self.differentiable = facts.flow != "blocker"
        self.__dict__["__doc__"] = describe(facts)
        self.__dict__["__name__"] = self.__dict__["__qualname__"] = facts.name
        self.__dict__["__module__"] = "chainrule"

    @property
    def is_gate(self) -> bool:
        """Whether it can be opened into its definition."""
        return self.facts.definition is not None

    def __call__(self, *args: Any, **params: Any) -> Any:
        if self.arity is not None and len(args) != self.arity:
            args = self._bind(args, params)
        for x in args:
            if x.__class__ is list or x.__class__ is tuple:
                args = tuple([gathered(x) if isinstance(x, (list, tuple)) else x for x in args])
                break
        for x in args:
            if isinstance(x, Tensor):
                return self.record(args, params)
        return self.compute(args, params)

    def compute(self, args: Sequence[Any], params: Mapping[str, Any]) -> Any:
        """The value of plain numbers and arrays: no node is left."""
        if not self.defaults.keys() >= params.keys():
            self._complete(params, args)  # raises, naming the argument
        return (self.facts.plain or self.value)(*args, **params)  # NumPy takes any form of params

    def record(self, args: Sequence[Any], params: Mapping[str, Any]) -> Tensor:
        """Compute and leave a node, or a constant where nothing traced goes in."""
        if len(args) == 1:
            inputs: tuple[Tensor, ...] = (args[0],)
            values = [args[0].value]
        else:
            inputs = tuple([x if isinstance(x, Tensor) else constant(x, self.name) for x in args])
            values = [x.value for x in inputs]
        params = self._complete(params, values)
        try:
            value = self.value(*values, **params)
        except (ValueError, IndexError) as error:
            raise self._misfit(inputs, error) from error
        if value.__class__ is np.ndarray and value.ndim == 0:
            value = value[()]
        return record(self, inputs, params, value, self.differentiable)

    def _bind(self, args: tuple[Any, ...], params: dict[str, Any]) -> tuple[Any, ...]:
        """The inputs alone; arguments beyond the arity become parameters by their order."""
        arity = self.arity
        assert arity is not None
        if len(args) < arity:
            raise TypeError(
                f"{self.name}() takes {arity} input{'s' * (arity > 1)}, got {len(args)}"
            )
        if len(args) > arity + len(self.defaults):
            most = arity + len(self.defaults)
            raise TypeError(f"{self.name}() takes at most {most} arguments, got {len(args)}")
        for name, value in zip(self.defaults, args[arity:], strict=False):
            if name in params:
                raise TypeError(f"{self.name}() got two values for '{name}'")
            params[name] = value
        return args[:arity]

    def _complete(self, params: Mapping[str, Any], values: Sequence[Any]) -> Mapping[str, Any]:
        """The parameters with their defaults, in canonical form."""
        if not self.defaults:
            if params:
                raise TypeError(f"{self.name}() takes no argument {', '.join(map(repr, params))}")
            return params
        complete = {**self.defaults, **params}
        if len(complete) > len(self.defaults):
            name = next(name for name in params if name not in self.defaults)
            known = ", ".join(self.defaults)
            raise TypeError(f"{self.name}() has no argument '{name}'; it takes {known}")
        if self.facts.prepare is not None:
            try:
                return self.facts.prepare([shape_of(x) for x in values], **complete)
            except np.exceptions.AxisError as error:
                raise np.exceptions.AxisError(f"{self.name}: {error}") from None
        return complete

    def _misfit(self, inputs: Sequence[Tensor], error: Exception) -> Exception:
        shapes = " and ".join(str(x.shape) for x in inputs)
        if isinstance(error, IndexError):
            return IndexError(f"{self.name}: {error} (input shape {shapes})")
        if isinstance(error, ShapeError):
            return error
        return ShapeError(
            f"{self.name}: shapes {shapes} do not fit: {advice(self.name, inputs, error)}"
        )

    # -- the facts, as the readings ask for them ----------------------------------------------

    def pull(self, position: int, upstream: Any, values: Sequence[Any], params: Any) -> Any:
        """The contribution to the input at `position`, before broadcasting is undone.

        `values` are those of the inputs, then the operation's own.
        """
        rules = self.facts.pull
        if self.arity is None:
            return rules[0](position, upstream, values[:-1], values[-1], **params)
        return rules[position](upstream, *values, **params)

    def __repr__(self) -> str:
        return f"<operation {self.name}: {self.facts.meaning}>"

    def __reduce__(self) -> Any:
        return _by_name, (self.name,)


_MISSING: Any = object()


def _given(*args: Any) -> list[Any]:
    return [x for x in args if x is not _MISSING]


class Unary(Operation):
    """An operation of one input and no parameters: the same call, written out for speed."""

    __slots__ = ()

    def __call__(self, x: Any = _MISSING, *more: Any, **params: Any) -> Any:
        if x is _MISSING or more or params:
            return super().__call__(*_given(x, *more), **params)
        if not isinstance(x, Tensor):
            return self(gathered(x)) if isinstance(x, (list, tuple)) else self.value(x)
        return record(self, (x,), _NO_PARAMS, self.value(x.value), self.differentiable)


class Shaping(Operation):
    """An operation of one input with parameters: the same call, written out for speed."""

    __slots__ = ()

    def __call__(self, x: Any = _MISSING, *more: Any, **params: Any) -> Any:
        if x.__class__ not in _READY:
            return super().__call__(*_given(x, *more), **params)
        if more:
            self._bind((x, *more), params)  # enters them in params
        if not isinstance(x, Tensor):
            return self.compute((x,), params)
        value = x.value
        complete = self._complete(params, (value,))
        try:
            value = self.value(value, **complete)
        except (ValueError, IndexError) as error:
            raise self._misfit((x,), error) from error
        if value.__class__ is np.ndarray and value.ndim == 0:
            value = value[()]
        return record(self, (x,), complete, value, self.differentiable)


class Binary(Operation):
    """An operation of two inputs and no parameters: the same call, written out for speed."""

    __slots__ = ()

    def __call__(self, x: Any = _MISSING, y: Any = _MISSING, *more: Any, **params: Any) -> Any:
        if y is _MISSING or more or params:
            return super().__call__(*_given(x, y, *more), **params)
        if not isinstance(x, Tensor):
            if not isinstance(y, Tensor):
                return self._plain(x, y)
            x = constant(x, self.name)
        elif not isinstance(y, Tensor):
            y = constant(y, self.name)
        try:
            value = self.value(x.value, y.value)
        except ValueError as error:
            raise self._misfit((x, y), error) from error
        return record(self, (x, y), _NO_PARAMS, value, self.differentiable)

    def _plain(self, x: Any, y: Any) -> Any:
        if isinstance(x, (list, tuple)) or isinstance(y, (list, tuple)):
            x, y = (gathered(v) if isinstance(v, (list, tuple)) else v for v in (x, y))
            return self(x, y)
        if isinstance(x, _NUMPY) or (isinstance(y, _NUMPY) and isinstance(x, (int, float))):
            return self.value(x, y)  # Python's operator is NumPy's, and faster on scalars
        return (self.facts.plain or self.value)(x, y)


_NUMPY = (np.ndarray, np.generic)
_READY = {Tensor, Parameter, np.ndarray, np.float64, np.float32}
_NO_PARAMS: Mapping[str, Any] = {}


class Composed:
    """A named function of operations without a rule of its own: it dissolves into a labelled group.

    Each call labels the nodes it makes with the same `Group`, so a drawing can fold them again.
    """

    __slots__ = ("__dict__", "function", "name")

    def __init__(
        self, function: Callable[..., Any], example: tuple[str, str], source: str = ""
    ) -> None:
        self.function = function
        self.name = function.__name__
        example_text = f"\n\n>>> import chainrule as cr\n>>> {example[0]}\n{example[1]}"
        source_text = f"\n\nSource: {source}." if source else ""
        self.__dict__["__doc__"] = inspect.getdoc(function) + example_text + source_text  # type: ignore[operator]
        self.__dict__["__name__"] = self.__dict__["__qualname__"] = self.name
        self.__dict__["__module__"] = "chainrule"
        self.__dict__["__wrapped__"] = function
        self.__dict__["example"] = example

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        before = enter_group(self.name)
        try:
            return self.function(*args, **keywords)
        finally:
            state.group = before

    def __repr__(self) -> str:
        return f"<function {self.name}: {(self.function.__doc__ or '').splitlines()[0]}>"

    def __reduce__(self) -> Any:
        return _by_name, (self.name,)


class Registry(dict[str, Any]):
    """Every operation and composed function by name: what tests, tools and docs walk through."""

    def operations(self) -> list[Operation]:
        """The records, in the order of their definition."""
        return [x for x in self.values() if isinstance(x, Operation)]

    def composed(self) -> list[Composed]:
        """The functions that dissolve, in the order of their definition."""
        return [x for x in self.values() if isinstance(x, Composed)]


registry = Registry()


def _enter(name: str, thing: Any) -> None:
    vocabulary.enter(name, thing)
    registry[name] = thing


def operation(name: str, value: Rule, **facts: Any) -> Operation:
    """Define an operation: state its facts, enter it in the registry and the vocabulary."""
    made = _kind(stated := Facts(name=name, value=value, **facts))(stated)
    _enter(name, made)
    return made


def composed(
    example: tuple[str, str], source: str = ""
) -> Callable[[Callable[..., Any]], Composed]:
    """Define a function of operations that dissolves into a labelled group."""

    def define(function: Callable[..., Any]) -> Composed:
        made = Composed(function, example, source)
        _enter(made.name, made)
        return made

    return define


def _kind(facts: Facts) -> type[Operation]:
    if _defaults(facts):
        return Shaping if facts.arity == 1 else Operation
    return {1: Unary, 2: Binary}.get(facts.arity or 0, Operation)


def _by_name(name: str) -> Any:
    return registry[name]


def _demand_every_fact(facts: Facts) -> None:
    """Refuse a record in which something is missing: readings rely on every fact."""
    missing = [f for f in ("name", "meaning", "symbol", "latex") if not getattr(facts, f)]
    if facts.flow not in FLOWS:
        missing.append(f"flow (one of {', '.join(FLOWS)})")
    if facts.flow != "blocker":
        if not facts.local and not facts.pull:
            missing.append("local (pointwise) or pull (structural)")
        if facts.pull and facts.index is None and facts.definition is None:
            missing.append("index (structural) or definition (gate)")
        if facts.local and len(facts.local) != facts.arity:
            missing.append(f"local for each of the {facts.arity} inputs")
        if facts.arity is not None and len(facts.domain) != facts.arity:
            missing.append("domain for each input")
    if facts.textbook and len(facts.textbook) != len(facts.local):
        missing.append("textbook derivative for each input")
    if missing:
        raise ValueError(f"operation '{facts.name}' lacks {', '.join(missing)}")


def _defaults(facts: Facts) -> dict[str, Any]:
    """The parameters after the inputs, with their defaults, read off the value's signature."""
    if not inspect.isfunction(facts.value):  # a NumPy ufunc or a Python operator: inputs only
        return {}
    signature = inspect.signature(facts.value)
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    named = [p for p in signature.parameters.values() if p.kind in kinds]
    after = named[facts.arity :] if facts.arity is not None else named
    return {p.name: p.default for p in after}


def describe(facts: Facts) -> str:
    """The docstring, written from the facts."""
    lines = [facts.meaning, ""]
    kind = "Elementwise, with NumPy's broadcasting and dtype rules." if facts.local else ""
    if facts.index is not None:
        kind = f"Index form: {facts.index.text}."
    if kind:
        lines += [kind]
    lines += [f"In backward: {facts.flow}: {FLOWS[facts.flow]}."]
    lines += [f"At {k.where} the derivative is {k.subgradient}: {k.why}." for k in facts.kinks]
    if facts.source:
        lines += [f"Source: {facts.source}."]
    lines += ["", ">>> import chainrule as cr", f">>> {facts.example[0]}", facts.example[1]]
    return "\n".join(lines)


__all__ = [
    "FLOWS",
    "Composed",
    "Facts",
    "Index",
    "Kink",
    "Operation",
    "Parameter",
    "composed",
    "operation",
    "registry",
]
