"""Reverse mode: one loop over the circuit, from the output to the leaves."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from ..circuit import Parameter, Tensor, circuit_of, vocabulary
from ..circuit import vocabulary as ops
from ..errors import GradientError, ShapeError

Array = Any


class Edge(NamedTuple):
    """One factor of the chain rule: what the node sent to one of its inputs."""

    node: Tensor
    position: int  # which input: x*x has two edges to x
    upstream: Any  # ∂L/∂node
    local: Any  # ∂node/∂input, for elementwise operations; None for structural ones
    contribution: Any  # this edge's term of ∂L/∂input

    @property
    def source(self) -> Tensor:
        """The input that receives the contribution."""
        return self.node.inputs[self.position]


def flow_back(
    output: Tensor,
    upstream: Any,
    *,
    wanted: Collection[Tensor] | None = None,
    watch: Callable[[Edge], None] | None = None,
) -> dict[Tensor, Any]:
    """∂L/∂t for every tensor t of the circuit, given `upstream` = ∂L/∂output.

    The pure heart of the system: nothing is stored in the circuit. `upstream` an array gives
    arrays; a tensor gives tensors, whose circuit can be differentiated again. With `wanted`, only
    what leads to those tensors is computed, and only their gradients are kept. `watch` is called
    with each edge's contribution as it is made: explanation and diagnosis see this very loop.
    """
    symbolic = isinstance(upstream, Tensor)
    nodes = circuit_of(output, differentiable=True)
    refuse_stale(nodes)
    needed = _leading_to(wanted, nodes) if wanted is not None else None
    gradients: dict[Tensor, Any] = {output: upstream}
    with np.errstate(all="ignore"):  # the forward pass has warned; gradients follow IEEE silently
        for node in reversed(nodes):
            inputs = node.inputs
            upstream = gradients.get(node)
            if not inputs or upstream is None:
                continue
            if wanted is not None and node not in wanted:
                del gradients[node]
            values = (*inputs, node) if symbolic else [*[x.value for x in inputs], node.value]
            for position, source in enumerate(inputs):
                if not source.requires_grad or (needed is not None and source not in needed):
                    continue
                local, contribution = _contribution(node, position, upstream, values, symbolic)
                if contribution is None:
                    continue
                if not (contribution.__class__ is source.value.__class__ is np.float64):
                    contribution = _fit(contribution, source)
                if watch is not None:
                    watch(Edge(node, position, upstream, local, contribution))
                before = gradients.get(source)
                gradients[source] = contribution if before is None else before + contribution
    return gradients


def _contribution(
    node: Tensor, position: int, upstream: Any, values: Any, symbolic: bool
) -> tuple[Any, Any]:
    """Local × upstream, selected for a router, pulled for a structural operation.

    `values` are those of the inputs, then the node's own.
    """
    op = node.op
    if not op.locals:
        return None, op.pull(position, upstream, values, node.params)
    local = op.locals[position]
    if callable(local):
        local = local(*values, **node.params) if node.params else local(*values)
        if op.is_router:
            return local, _select(local, upstream, symbolic)
        return local, upstream * local
    if local is None:
        return None, None
    return local, upstream if local == 1 else -upstream if local == -1 else upstream * local


def _select(local: Any, upstream: Any, symbolic: bool) -> Any:
    """A router's contribution: upstream where the input won, a share of it on a tie, else 0.

    Selected, never multiplied by a mask: 0·∞ would be NaN.
    """
    if symbolic:
        share = upstream if local.dtype == bool else upstream * local
        return ops.where(ops.not_equal(local, 0), share, 0.0)
    share = upstream if local.dtype == bool else upstream * local
    if isinstance(share, np.generic) and np.ndim(local) == 0:
        return share if local else share.dtype.type(0)
    return np.where(local, share, 0)


def _fit(contribution: Any, source: Tensor) -> Any:
    """Undo broadcasting and promotion: the contribution in the input's own shape and dtype."""
    value = source.value
    if contribution.shape != value.shape:
        contribution = sum_to(contribution, value.shape)
    if contribution.dtype is not value.dtype and contribution.dtype != value.dtype:
        contribution = ops.astype(contribution, dtype=value.dtype)
    return contribution


def sum_to(x: Any, shape: tuple[int, ...]) -> Any:
    """The adjoint of broadcasting: add up the copies, back to `shape`."""
    extra = len(x.shape) - len(shape)
    axes = tuple(
        [k for k, n in enumerate(x.shape) if k < extra or (shape[k - extra] == 1 and n != 1)]
    )
    if not isinstance(x, Tensor):
        summed = np.add.reduce(x, axis=axes).reshape(shape) if axes else x
        return summed if shape else summed[()]
    summed = ops.sum(x, axis=axes, keepdims=True) if axes else x
    return ops.reshape(summed, shape) if summed.shape != shape else summed


def _leading_to(wanted: Collection[Tensor], nodes: list[Tensor]) -> set[Tensor]:
    """The nodes on a path from a wanted tensor; inputs come before users in `nodes`."""
    needed = set(wanted)
    for node in nodes:
        for source in node.inputs:
            if source in needed:
                needed.add(node)
                break
    return needed


def refuse_stale(nodes: list[Tensor]) -> None:
    """Raise where a parameter was updated after the circuit had recorded its old value."""
    changed = [x for x in nodes if x.op is None and isinstance(x, Parameter) and x.updated]
    if not changed:
        return
    first = next((x.serial for x in nodes if x.op is not None), 0)
    if all(parameter.updated < first for parameter in changed):
        return
    for node in nodes:
        for source in node.inputs:
            if isinstance(source, Parameter) and source.updated > node.serial:
                name = f"parameter '{source.name}'" if source.name else "a parameter"
                raise GradientError(
                    f"{name} was updated after this loss was computed; compute the loss again"
                    " before backward or explain"
                )


class Gradients(Mapping[Tensor, np.ndarray[Any, Any]]):
    """∂(output)/∂(tensor) by tensor; a tensor that the output does not depend on says why."""

    def __init__(self, output: Tensor, gradients: Mapping[Tensor, Any]) -> None:
        self._output = output
        self._gradients = gradients

    def __getitem__(self, tensor: Tensor) -> np.ndarray[Any, Any]:
        try:
            return np.asarray(self._gradients[tensor])
        except (KeyError, TypeError):
            raise MissingGradient(why_missing(self._output, tensor)) from None

    def __contains__(self, tensor: object) -> bool:
        return isinstance(tensor, Tensor) and tensor in self._gradients

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self._gradients)

    def __len__(self) -> int:
        return len(self._gradients)

    def __repr__(self) -> str:
        named = [
            f"{t.label}: {np.asarray(g).tolist()}" for t, g in self._gradients.items() if t.name
        ]
        return f"Gradients({{{', '.join(named)}}}, {len(self)} tensors)"


class MissingGradient(GradientError, KeyError):
    """Asked for the gradient of a tensor that the output does not depend on."""

    def __str__(self) -> str:
        return str(self.args[0])


def why_missing(output: Tensor, tensor: Any) -> str:
    """Which link is missing between a tensor and an output, in one sentence."""
    if not isinstance(tensor, Tensor):
        return f"gradients are asked for by tensor, not by {type(tensor).__name__}"
    name = f"tensor '{tensor.name}'" if tensor.name else f"the tensor {tensor!r}"
    if tensor.dtype.kind != "f":
        return f"{name} has no gradient: {tensor.dtype} values are constants; use .astype(float)"
    if not tensor.requires_grad:
        if tensor.op is not None:
            return f"{name} has no gradient: {tensor.op.name} lets no gradient pass"
        return f"{name} has no gradient: it is a constant (requires_grad=False, or detached)"
    nodes = circuit_of(output)
    above = _leading_to([tensor], nodes)
    for node in nodes:
        if node in above and node.op is not None and not node.requires_grad:
            where = f" ({node.site})" if node.site else ""
            return (
                f"{name} has no gradient: every path to it passes {node.op.name}{where}, a blocker"
            )
    return (
        f"{name} is not in the circuit of this output: the output was computed without it"
        f" (or from a copy: .detach(), .numpy() and float() leave the circuit)"
    )


def backward(output: Tensor, upstream: Any = None) -> Gradients:
    """∂(output)/∂(every node of its circuit), stored as `.grad` and returned as a mapping.

    `upstream` is ∂L/∂output, of the output's shape; 1 by default, for a scalar. Gradients are
    overwritten, never accumulated: calling it twice gives the same numbers.

    Raises `GradientError` for a non-scalar without upstream, for an output that depends on no
    variable, and for a parameter that was updated since; `ShapeError` for an upstream of another
    shape.

    >>> import chainrule as cr
    >>> x, y = cr.tensor(-2.0), cr.tensor(5.0)
    >>> gradients = ((x + y) * -4.0).backward()
    >>> gradients[x], y.grad
    (array(-4.), array(-4.))
    """
    gradients = flow_back(output, seed(output, upstream))
    for node, gradient in gradients.items():
        node._gradient = gradient
    return Gradients(output, gradients)


def seed(output: Tensor, upstream: Any = None) -> Any:
    """The upstream gradient that the loop starts from, checked against the output."""
    if not output.requires_grad:
        reason = (
            f"{output.op.name} lets no gradient pass"
            if output.op is not None
            else "it is a constant"
        )
        raise GradientError(
            f"nothing to differentiate: the output {output!r} has no gradient: {reason}"
        )
    if upstream is None:
        if output.shape and output.size != 1:
            raise GradientError(
                f"an output of shape {output.shape} needs an upstream gradient of that shape:"
                f" backward(np.ones({output.shape})), or reduce it first, e.g. with .sum()"
            )
        one = output.dtype.type(1)
        return np.full(output.shape, one) if output.ndim else one
    given = np.asarray(upstream.value if isinstance(upstream, Tensor) else upstream)
    if given.shape != output.shape:
        raise ShapeError(
            f"upstream has shape {given.shape}, but the output has shape {output.shape}"
        )
    return given.astype(output.dtype)[()]


vocabulary.enter("backward", backward)
