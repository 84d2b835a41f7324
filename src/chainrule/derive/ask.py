"""The door: what may be asked for, and who answers."""

from __future__ import annotations

from typing import Any

from ..circuit import Tensor, circuit_of
from ..errors import ExpressionError
from ..ops import Composed, Operation, registry
from .derivation import Derivation
from .examples import EXAMPLES, derive_example
from .functions import derive_circuit, derive_function
from .gates import derive_operation
from .losses import derive_loss
from .rows import derive_log_softmax, derive_logsumexp, derive_softmax
from .symbols import recording


def derive(function: Any, wrt: Any = None, **parameters: float) -> Derivation:
    """The derivative of a function, symbolic: a line per step, each with the rule that makes it.

    `function` is an operation (`cr.sigmoid`), a function of the package (`cr.mean`), a loss
    (`cr.losses.logistic`, `cr.losses.matching(cr.tanh)`), a function of your own written in cr's
    operations, or a tensor, whose circuit is differentiated towards its named leaves. `wrt` chooses
    among the variables by name. `derive(cr.softmax, beta=2.0)` keeps β in the formulas.

    Local derivatives come from the operations' records, and the lines from named rules applied to
    the circuit; no line is stored.

    Raises `ExpressionError` for what cannot be differentiated, `UnknownNameError` for a variable
    that is not there.

    >>> import chainrule as cr
    >>> print(cr.derive(lambda x: cr.sin(x**2)))
    d/dx(sin(x^2))
      = cos(x^2) · d/dx(x^2)      derivative of sin, chain rule
      = cos(x^2) · 2 · x          power rule
      = 2 · cos(x^2) · x          multiply out the signs and numbers
      = 2 · x · cos(x^2)          collect the factors
    """
    if isinstance(function, str) or not (callable(function) or isinstance(function, Tensor)):
        raise TypeError(
            "derive takes a function, an operation or a tensor, as in cr.derive(cr.sigmoid);"
            " the command line reads formulas: chainrule derive 'sin(x**2)'"
        )
    with recording():
        return _answer(function, wrt, parameters)


def _answer(function: Any, wrt: Any, parameters: dict[str, float]) -> Derivation:
    if function is registry["softmax"]:
        return derive_softmax(**parameters)
    if parameters:
        raise TypeError(f"derive: {next(iter(parameters))} is no setting of this derivation")
    if function is registry["log_softmax"]:
        return derive_log_softmax()
    if function is registry["logsumexp"]:
        return derive_logsumexp()
    if isinstance(function, Tensor):
        return _of_circuit(function, wrt)
    if isinstance(function, (Operation, Composed)) and function.name in EXAMPLES:
        return derive_example(function, wrt)
    if isinstance(function, Operation) and _elementwise(function):
        return derive_operation(function, registry, wrt)
    loss = derive_loss(function)
    if loss is not None:
        return loss
    return derive_function(function, wrt, getattr(function, "__name__", "f"))


def _elementwise(op: Operation) -> bool:
    return bool(op.facts.local) or op.facts.flow == "blocker"


def _of_circuit(output: Tensor, wrt: Any) -> Derivation:
    leaves = [node for node in circuit_of(output, differentiable=True) if node.op is None]
    if not leaves:
        raise ExpressionError("derive: the tensor depends on no variable")
    for number, one in enumerate(leaves, start=1):
        if not one.name:
            raise ExpressionError(
                f"derive: variable {number} has no name; give it one, as in cr.tensor(…, name='x')"
            )
    names = [one.name for one in leaves]
    for name in names:
        if names.count(name) > 1:
            raise ExpressionError(f"derive: two variables have the name '{name}'; rename one")
    return derive_circuit(output, leaves, wrt, output.label)
