"""Operations of the user's own, with a local derivative that is checked."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..errors import GradientError
from ..ops import Facts, Operation
from .check import CheckReport, check_grad

Rule = Callable[..., Any]


class CustomGate(Operation):
    """A gate that a user has written: it opens, explains and compiles as the built-in ones do."""

    __slots__ = ()

    def check(self, *args: Any) -> CheckReport:
        """Compare value and derivative with the definition's; `GradientError` says where not."""
        value, expected = self(*args), self.facts.definition(*args)  # type: ignore[misc]
        if not np.allclose(
            np.asarray(value), np.asarray(expected), rtol=1e-9, atol=1e-12, equal_nan=True
        ):
            raise GradientError(f"{self.name}: its value differs from its definition's at {args}")
        return check_grad(self, *args)

    def __reduce__(self) -> Any:
        raise TypeError(
            f"the custom gate '{self.name}' cannot be pickled; define it where it is used"
        )


def custom_gate(
    function: Rule | None = None,
    *,
    local: Rule | Sequence[Rule] | None = None,
    pull: Rule | Sequence[Rule] | None = None,
    value: Rule | None = None,
    domain: tuple[float, float] = (-2.0, 2.0),
    check: bool = True,
) -> Any:
    """A function written in operations as one gate with its own derivative.

    `local(*inputs, out, **params)` is ∂out/∂input of an elementwise gate, one rule for each input;
    `pull(upstream, *inputs, out, **params)` the contribution to an input of any other gate. Both
    are written in operations, so that higher derivatives and compiled code follow. The function is
    the gate's definition: what `cr.open` shows. Its arguments with defaults are parameters. `value`
    may compute the same more accurately on arrays.

    An elementwise gate is checked here at points of `domain`, and any gate with `.check(*args)`.
    Raises `GradientError` naming the point where the derivative is wrong.

    >>> import chainrule as cr
    >>> @cr.custom_gate(local=lambda x, out: 2 * cr.cos(2 * x))
    ... def double_sine(x):
    ...     return cr.sin(2 * x)
    >>> float(cr.grad(double_sine)(0.0))
    2.0
    """
    if function is None:
        return lambda written: custom_gate(
            written, local=local, pull=pull, value=value, domain=domain, check=check
        )
    if (local is None) == (pull is None):
        raise TypeError("custom_gate needs either local= (elementwise) or pull=, and not both")
    gate = CustomGate(_facts(function, _rules(local), _rules(pull), value, domain))
    if check and local is not None:
        low, high = domain
        points = np.random.default_rng(0).uniform(low, high, (gate.arity or 1, 7))
        gate.check(*points)
    return gate


def _rules(rules: Rule | Sequence[Rule] | None) -> tuple[Rule, ...]:
    if rules is None:
        return ()
    return (rules,) if callable(rules) else tuple(rules)


def _facts(
    function: Rule,
    local: tuple[Rule, ...],
    pull: tuple[Rule, ...],
    value: Rule | None,
    domain: tuple[float, float],
) -> Facts:
    arguments = inspect.signature(function).parameters.values()
    arity = sum(1 for p in arguments if p.default is inspect.Parameter.empty)
    name = function.__name__
    for kind, rules in (("local", local), ("pull", pull)):
        if rules and len(rules) != arity:
            raise TypeError(f"{name} has {arity} inputs, but {len(rules)} {kind} rules")
    return Facts(
        name=name,
        value=value or function,
        definition=function,
        meaning=(inspect.getdoc(function) or name).splitlines()[0],
        symbol=name,
        latex=rf"\operatorname{{{{{name}}}}}\left("
        + ", ".join(f"{{{k}}}" for k in range(arity))
        + r"\right)",
        flow="scaler" if local else "mixer",
        arity=arity,
        local=local,
        pull=pull,
        domain=(domain,) * arity,
        example=(name, f"<operation {name}>"),
    )
