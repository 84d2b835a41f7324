"""Gates opened into their definitions, and hand-written definitions closed into gates."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..circuit import OFF, Tensor, circuit_of, record, state
from ..errors import unknown
from ..gradient.backward import refuse_stale
from ..ops import Operation, registry

Which = Any  # None for all, or names, operations and nodes, one or several
DISAGREE = 1e-9


def open(output: Tensor, gates: Which = None) -> Tensor:
    """The same circuit with gates replaced by their definitions, one level deep.

    `gates` chooses by name, operation or node (or a collection of these); all by default. The
    leaves stay the same tensors, so gradients are asked for as before. A gate whose definition
    overflows or rounds so that it disagrees by more than 1e-9 stays closed, with a warning.

    >>> import chainrule as cr
    >>> x = cr.tensor(1.0, name="x")
    >>> opened = cr.open(cr.sigmoid(x))
    >>> [node.op.facts.symbol for node in circuit_of(opened) if node.op]
    ['×−1', 'exp', '+', '1/x']
    """
    chosen = _choice(gates)

    def opened(node: Tensor, inputs: tuple[Tensor, ...]) -> Tensor | None:
        if not (node.op.is_gate and chosen(node)):
            return None
        with np.errstate(all="ignore"):
            new: Tensor = node.op.facts.definition(*inputs, **node.params)
        if _agree(new.value, node.value):
            return new
        warnings.warn(
            f"{node.op.name} stays closed: opened it gives {_short(new.value)} instead of"
            f" {_short(node.value)} (its definition overflows or rounds there)",
            stacklevel=4,
        )
        return None

    return rebuilt(output, opened)


def close(output: Tensor, gates: Which = None) -> Tensor:
    """The same circuit with every definition that a gate stands for replaced by the gate.

    Recognises what `open` leaves and what a hand writes: `1 / (1 + cr.exp(-z))` is `sigmoid(z)`,
    in any order of the terms. Larger definitions are tried first.

    >>> import chainrule as cr
    >>> z = cr.tensor(1.0)
    >>> cr.close(1 / (1 + cr.exp(-z))).op.name
    'sigmoid'
    """
    chosen = _choice(gates)
    candidates = [op for op in registry.operations() if op.is_gate and op.arity == 1 and chosen(op)]

    def closed(node: Tensor, inputs: tuple[Tensor, ...]) -> Tensor | None:
        here = record(node.op, inputs, node.params, node.value, node.op.differentiable)
        for op, params, pattern, variable in _patterns(candidates, here):
            bound: dict[Tensor, Tensor] = {}
            if _match(pattern, here, variable, bound) and variable in bound:
                return op.record((bound[variable],), params)
        return here

    return rebuilt(output, closed)


def rebuilt(
    output: Tensor, replace: Callable[[Tensor, tuple[Tensor, ...]], Tensor | None]
) -> Tensor:
    """The circuit made anew, inputs first; `replace` may answer a node with another tensor.

    Leaves stay themselves; names, sites and groups of replaced nodes pass to their successors.
    """
    return successors([output], replace)[output]


def successors(
    outputs: Collection[Tensor], replace: Callable[[Tensor, tuple[Tensor, ...]], Tensor | None]
) -> dict[Tensor, Tensor]:
    """As `rebuilt`, for several outputs at once: each node of their circuits with its successor."""
    nodes = circuit_of(*outputs)
    refuse_stale(nodes)
    new: dict[Tensor, Tensor] = {}
    with _recording():
        for node in nodes:
            if node.op is None:
                new[node] = node
                continue
            inputs = tuple([new[source] for source in node.inputs])
            answer = replace(node, inputs)
            if answer is None:
                same = all(a is b for a, b in zip(inputs, node.inputs, strict=True))
                answer = node if same else _again(node, inputs)
            if answer is not node and answer.op is not None:
                answer.name = answer.name or node.name
                answer.group = node.group
                answer._mark = node._mark
            new[node] = answer
    return new


def _again(node: Tensor, inputs: tuple[Tensor, ...]) -> Tensor:
    with np.errstate(all="ignore"):
        value = node.op.value(*[x.value for x in inputs], **node.params)
    value = value[()] if isinstance(value, np.ndarray) and value.ndim == 0 else value
    return record(node.op, inputs, node.params, value, node.op.differentiable)


@contextmanager
def _recording() -> Iterator[None]:
    before = state.group
    state.group = None if before is OFF else before
    try:
        yield
    finally:
        state.group = before


def _choice(gates: Which) -> Callable[[Tensor | Operation], bool]:
    """Whether a node or operation is among the chosen gates."""
    if gates is None:
        return lambda thing: True
    several = gates if isinstance(gates, Collection) and not isinstance(gates, str) else [gates]
    names = {g if isinstance(g, str) else g.name for g in several if not isinstance(g, Tensor)}
    nodes = {g for g in several if isinstance(g, Tensor)}
    known = [op.name for op in registry.operations() if op.is_gate]
    for g in several:
        if isinstance(g, str) and g not in known:
            raise unknown("gate", g, known)
    return lambda thing: (
        thing in nodes or ((thing.op.name if isinstance(thing, Tensor) else thing.name) in names)
    )


def _agree(a: Any, b: Any) -> bool:
    return bool(np.allclose(a, b, rtol=DISAGREE, atol=0.0, equal_nan=True))


def _short(value: Any) -> str:
    return f"{float(value):.6g}" if np.ndim(value) == 0 else f"other values of shape {value.shape}"


# -- matching ---------------------------------------------------------------------------------

Pattern = tuple[Operation, dict[str, Any], Tensor, Tensor]


def _patterns(candidates: list[Operation], node: Tensor) -> list[Pattern]:
    """The candidates' definitions traced on a variable of the node's shape, largest first."""
    root = _canonical(node)[0]
    found = []
    for op in candidates:
        for params in _settings(op, node):
            pattern, variable = _traced(op, params, node)
            if pattern is not None and _canonical(pattern)[0] == root:
                found.append((len(circuit_of(pattern)), (op, params, pattern, variable)))
    return [pattern for _, pattern in sorted(found, key=lambda pair: -pair[0])]


def _settings(op: Operation, node: Tensor) -> list[dict[str, Any]]:
    """The parameters to try: the defaults, and each axis where there is a choice of one."""
    if op.facts.pull and "axis" in op.defaults:
        if op.name == "logsumexp":
            return []
        return [{**op.defaults, "axis": axis - node.ndim} for axis in range(node.ndim)]
    return [dict(op.defaults)]


def _traced(op: Operation, params: dict[str, Any], node: Tensor) -> tuple[Tensor | None, Tensor]:
    shape = node.shape if op.facts.pull else ()
    variable = Tensor(np.full(shape, 0.5)[()], requires_grad=True)
    with np.errstate(all="ignore"):
        out = op.facts.definition(variable, **params)  # type: ignore[misc]
    return (out if isinstance(out, Tensor) and out.op is not None else None), variable


COMMUTATIVE = ("add", "multiply")


def _canonical(node: Tensor) -> tuple[str, tuple[Tensor, ...]]:
    """Operation and inputs, with 1/x, x⁻¹ and −x, −1·x and x², x·x each written one way."""
    if node.op is None:
        return "", ()
    name, inputs = node.op.name, tuple(_without_factor_1(source) for source in node.inputs)
    if name == "divide" and _is_constant(inputs[0], 1):
        return "reciprocal", inputs[1:]
    if name == "power" and _is_constant(inputs[1], -1):
        return "reciprocal", inputs[:1]
    if name == "power" and _is_constant(inputs[1], 2):
        return "square", inputs[:1]
    if name == "multiply" and inputs[0] is inputs[1]:
        return "square", inputs[:1]
    if name == "multiply":
        for k in (0, 1):
            if _is_constant(inputs[k], -1):
                return "negative", (inputs[1 - k],)
    return name, inputs


def _without_factor_1(node: Tensor) -> Tensor:
    while node.op is not None and node.op.name == "multiply":
        k = next((k for k in (0, 1) if _is_constant(node.inputs[k], 1)), None)
        if k is None:
            break
        node = node.inputs[1 - k]
    return node


def _is_constant(node: Tensor, value: float) -> bool:
    return not node.traced and node.size == 1 and bool(np.all(np.asarray(node.value) == value))


def _match(pattern: Tensor, node: Tensor, variable: Tensor, bound: dict[Tensor, Tensor]) -> bool:
    """Whether the pattern describes the node, with the variable standing for one tensor."""
    if pattern is variable:
        return bound.setdefault(variable, node) is node
    if not pattern.traced:
        return not node.traced and np.array_equal(np.asarray(pattern.value), np.asarray(node.value))
    name, inputs = _canonical(pattern)
    other, others = _canonical(node)
    if name != other or len(inputs) != len(others) or not _same_params(pattern, node):
        return False
    orders = [others, others[::-1]] if name in COMMUTATIVE else [others]
    for order in orders:
        trial = dict(bound)
        if all(_match(p, n, variable, trial) for p, n in zip(inputs, order, strict=True)):
            bound.update(trial)
            return True
    return False


def _same_params(pattern: Tensor, node: Tensor) -> bool:
    if pattern.op is not node.op:  # another spelling of the same: −1·x for −x
        return True
    return all(
        key in node.params and np.array_equal(value, node.params[key])
        for key, value in pattern.params.items()
    )
