"""Operations of the registry: opened into their definition, differentiated, closed again.

`STEPS` names the rules of algebra that lead from the raw derivative to the textbook's short form,
in order; it holds no line. What is not named there follows the general order of `chain.TIDY`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..circuit import Tensor
from ..circuit import vocabulary as ops
from ..ops import Operation
from ..rewrite import recognise
from ..rewrite.algebra import same
from .cases import cases, opened_selections, selects
from .chain import Chain, plain_chain, start
from .derivation import Condition, Derivation, Part
from .differentiate import local_of
from .symbols import pending, readable, symbol

NUMBERS = "multiply out the signs and numbers"

# Before differentiating: how the definition is rewritten.
BEFORE: Mapping[str, Sequence[str]] = {
    "sigmoid": ("1/u = u⁻¹",),
    "tanh": ("divide above and below by eˣ", "divide above and below by 2", "recognise"),
    "sqrt": ("√u = u^½",),
}
STEPS: Mapping[str, Sequence[str]] = {
    "sigmoid": (
        NUMBERS, "u⁻ⁿ = 1/uⁿ", "split into a product of two fractions", "add and subtract 1",
        "split the fraction", "u/u = 1", "recognise",
    ),
    "tanh": (
        "u·u = u²", "split the fraction", "u/u = 1", "u²/v² = (u/v)²", "recognise",
    ),
    "tan": (
        NUMBERS, "u·u = u²", "split the fraction", "u/u = 1", "u²/v² = (u/v)²", "recognise",
    ),
    "reciprocal": (NUMBERS, "u⁻ⁿ = 1/uⁿ"),
    "sinh": (NUMBERS, "recognise"),
    "cosh": (NUMBERS, "recognise"),
    "sqrt": ("u^½ = √u", "collect the factors"),
    "sech2": (NUMBERS, "recognise"),
    "softplus": ("collect the factors", "divide above and below by eˣ", "recognise"),
    "silu": ("factor out",),
    "softsign": ("u·sign(u) = |u|", "collect like terms"),
}  # fmt: skip

# Other functions that a derivation may meet written out; a gate's own name comes first.
_RELATED: Mapping[str, Sequence[str]] = {
    "tanh": ("sinh", "cosh"), "sinh": ("cosh",), "cosh": ("sinh",), "softplus": ("sigmoid",),
}  # fmt: skip
# Records without a definition that are short for something differentiated more plainly.
_OPENED: Mapping[str, Any] = {
    "expm1": lambda x: ops.exp(x) - 1,
    "log1p": lambda x: ops.log(1 + x),
    "erfc": lambda x: 1 - ops.erf(x),
}


_SHORT = {"negative_slope": "alpha"}  # a parameter's letter in formulas


def derive_operation(op: Operation, registry: Mapping[str, Any], wrt: str | None) -> Derivation:
    """The derivation of an elementwise operation, towards each of its inputs."""
    inputs, params = _arguments(op)
    parts: list[Part] = []
    locals_ = op.facts.local or (0,) * (op.arity or 1)
    wanted = [k for k, rule in enumerate(locals_) if rule is not None]
    for k in wanted:
        if wrt is None or inputs[k].name == wrt:
            parts += _parts(op, inputs, k, params, registry, len(wanted) > 1)
    return Derivation(op.name, tuple(parts), _notes(op))


def _notes(op: Operation) -> tuple[str, ...]:
    return tuple(
        f"At {k.where} the derivative is taken to be {_SHORT.get(k.subgradient, k.subgradient)}:"
        f" {k.why}."
        for k in op.facts.kinks
    )


def _arguments(op: Operation) -> tuple[list[Tensor], dict[str, Any]]:
    """Named variables inside the operation's domain, and its parameters as symbols."""
    names = _input_names(op)
    domains = op.facts.domain or ((-20.0, 20.0),)
    inputs = []
    for k, name in enumerate(names):
        low, high = domains[k if len(domains) > 1 else 0]
        sample = 0.7 - 0.3 * k
        inputs.append(symbol(name, sample if low < sample < high else (low + high) / 2))
    if op.name == "where":
        inputs[0] = ops.not_equal(inputs[0], 0.0)
    params: dict[str, Any] = {}
    for name, default in op.defaults.items():
        if isinstance(default, float):
            params[name] = symbol(_SHORT.get(name, name), default)
        else:
            params[name] = default
    if op.name == "clip":
        params = {"low": symbol("low", -1.0), "high": symbol("high", 1.0)}
    if op.name == "astype":
        params = {"dtype": np.float64}
    return inputs, params


def _input_names(op: Operation) -> list[str]:
    if op.name == "prelu":
        return ["x", "alpha"]
    return {1: ["x"], 2: ["x", "y"], 3: ["c", "x", "y"]}[op.arity or 1]


def _parts(
    op: Operation,
    inputs: list[Tensor],
    position: int,
    params: dict[str, Any],
    registry: Mapping[str, Any],
    several: bool,
) -> list[Part]:
    x = inputs[position]
    plain = {name: v.value if isinstance(v, Tensor) else v for name, v in params.items()}
    closed: Tensor = op(*inputs, **plain)
    definition = op.facts.definition or _OPENED.get(op.name)
    opened = readable(definition(*inputs, **params)) if definition else None
    body = closed if opened is None else opened
    magnitudes = op.name == "abs"
    split = opened_selections(body, magnitudes) if magnitudes or op.facts.kinks else None
    body = body if split is None else split
    title = f"∂/∂{x.name}" if several else ""
    if selects(body):
        return [
            _case(closed, body, part, x, title, conditions, several)
            for conditions, part in cases(body)
        ]
    chain = start(closed, x, several)
    if opened is not None:
        chain.add("definition", pending(opened, x, several))
    _replay(chain, op, closed, body, x, registry)
    return [chain.part(title, x)]


def _case(
    closed: Tensor,
    body: Tensor,
    left: Tensor,
    x: Tensor,
    title: str,
    conditions: tuple[Condition, ...],
    several: bool,
) -> Part:
    """The chain of one case: the selection is decided, then differentiated."""
    chain = start(closed, x, several)
    chain.add("definition", pending(body, x, several))
    chain.add("by cases", pending(left, x, several))
    return plain_chain(chain).part(title, x, conditions)


def _replay(
    chain: Chain,
    op: Operation,
    closed: Tensor,
    opened: Tensor,
    x: Tensor,
    registry: Mapping[str, Any],
) -> None:
    """The named steps, or the general order; at the end, gates written out get their names back."""
    position = next(k for k, source in enumerate(closed.inputs) if source is x)
    forms = [(opened, closed)]
    related = [registry[name] for name in _RELATED.get(op.name, ())]
    forms += [(f.facts.definition(x), f(x)) for f in related]
    for rule in BEFORE.get(op.name, ()):
        if rule == "recognise":
            u = chain.line.inputs[0]
            new = _recognised(u, forms)
            chain.add("recognise " + " and ".join(_RELATED[op.name]), pending(new, x))
            forms.insert(0, (new, closed))
        else:
            chain.inside(rule)
    chain.differentiate()
    if op.facts.flow == "blocker":
        return
    target = local_of(closed, position)
    steps = STEPS.get(op.name)
    for rule in steps or ():
        if rule == "recognise":
            chain.recognise(_recognition(chain.line, forms), forms)
        else:
            chain.apply(rule)
    if steps is None:
        plain_chain(chain, target)
        if opened is not closed and not same(chain.line, target):
            chain.recognise(_recognition(chain.line, forms), forms)


def _recognised(u: Tensor, forms: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    new = recognise(u, forms[1:])
    return u if new is None else new


def _recognition(line: Tensor, forms: Sequence[tuple[Tensor, Tensor]]) -> str:
    """Which function the line hides, for the rule's name."""
    found = [gate.op.name for form, gate in forms if recognise(line, [(form, gate)]) is not None]
    return "recognise " + " and ".join(dict.fromkeys(found))
