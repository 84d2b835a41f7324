"""Transformations: functions to functions. Each is a few lines over the one backward loop."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..circuit import OFF, Parameter, Tensor, circuit_of, state
from ..circuit import vocabulary as ops
from ..errors import GradientError, ShapeError, TraceError
from ..ops import tensor
from .backward import flow_back, seed
from .tree import leaves, rebuilt, replaced

Function = Callable[..., Any]


class _Trace:
    """One run of a user's function on variables: what went in, what came out."""

    def __init__(self, function: Function, args: Sequence[Any], argnums: Sequence[int]) -> None:
        self.function = function
        chosen = [args[k] for k in argnums]
        # Given tensors, or while a compiler records, gradients are tensors, and circuit again;
        # inside another transformation they are circuit where it goes on.
        self.given = state.compiling or any(
            isinstance(x, Tensor) and not isinstance(x, Parameter) for _, x in leaves(chosen)
        )
        self.symbolic = self.given or state.depth > 0
        self.args = list(args)
        self.variables: list[list[Tensor]] = []
        for k in argnums:
            self.args[k], made = replaced(args[k], functools.partial(_variable, k))
            self.variables.append(made)
        self.trees = chosen
        self.losses: list[Any] = []

    @property
    def flat(self) -> list[Tensor]:
        return [variable for some in self.variables for variable in some]

    def run(self, **keywords: Any) -> Any:
        with _tracing() as self.losses:
            return self.function(*self.args, **keywords)

    def pull(self, output: Any, upstream: Any) -> list[Any]:
        """The gradient of each variable, 0 where the output does not depend on it."""
        if not (isinstance(output, Tensor) and output.requires_grad):
            self._refuse_lost(self.flat)
            return [self._plain(np.zeros(v.shape, v.dtype)[()]) for v in self.flat]
        with _tracing():
            found = flow_back(output, upstream, wanted=set(self.flat))
        self._refuse_lost([v for v in self.flat if v not in found])
        return [
            self._plain(found[v] if v in found else np.zeros(v.shape, v.dtype)[()])
            for v in self.flat
        ]

    def start(self, output: Any, upstream: Any = None) -> Any:
        """The upstream to begin with, a tensor where gradients shall be circuit."""
        if not (isinstance(output, Tensor) and output.requires_grad):
            return None
        if isinstance(upstream, Tensor):
            if upstream.shape != output.shape:
                raise ShapeError(
                    f"upstream has shape {upstream.shape}, but the output has shape {output.shape}"
                )
            return upstream if self.symbolic else upstream.value
        first = seed(output, upstream)
        return Tensor(first, requires_grad=False) if self.symbolic else first

    def structure(self, gradients: Sequence[Any], single: bool) -> Any:
        values = iter(gradients)
        built = [rebuilt(tree, values) for tree in self.trees]
        return built[0] if single else tuple(built)

    def _plain(self, value: Any) -> Any:
        """A tensor where an enclosing circuit may go on; else a NumPy value of its own."""
        if isinstance(value, Tensor):
            return value if value.traced or self.given else np.array(value.value)
        return tensor(value, requires_grad=False) if self.given else np.array(value)

    def _refuse_lost(self, unreached: Sequence[Tensor]) -> None:
        """Raise where a variable is not reached, and became a plain number on the way."""
        for loss in self.losses if unreached else ():
            if not set(unreached).isdisjoint(circuit_of(loss.tensor)):
                raise GradientError(
                    f"the gradient is lost at {loss.site}: {loss.how} turns a traced tensor into a"
                    " plain number; keep the tensor, and use chainrule's or NumPy's functions on it"
                )


def _variable(argument: int, value: Any) -> Tensor:
    if isinstance(value, Tensor):
        if not value.requires_grad and not (state.compiling and value.traced):
            return tensor(value.value, requires_grad=True)
        if isinstance(value.value, int):  # Python's, which is a number like any other
            value = ops.astype(value, dtype=np.dtype(float))
        variable: Tensor = ops.identity(value)
        if not value.requires_grad:  # what was computed from integers alone, say
            _refuse_whole(argument, variable.dtype)
            variable.requires_grad = True
        return variable
    array = np.asarray(value)
    if isinstance(value, (np.ndarray, np.generic)):
        _refuse_whole(argument, array.dtype)
    return tensor(value, requires_grad=True)


def _refuse_whole(argument: int, dtype: np.dtype[Any]) -> None:
    if dtype.kind in "iub":
        raise TraceError(
            f"argument {argument} is an array of {dtype}, which has no gradient;"
            " pass it as .astype(float), or differentiate another argument with argnums"
        )


@contextmanager
def _tracing() -> Iterator[list[Any]]:
    """Inside, plain conversions are remembered and transformations know that they are nested."""
    before, group = state.losses, state.group
    state.losses, state.group = [], None if group is OFF else group
    state.depth += 1
    try:
        yield state.losses
    finally:
        state.losses, state.group = before, group
        state.depth -= 1


def _numbers(argnums: int | Sequence[int], args: Sequence[Any]) -> tuple[list[int], bool]:
    single = isinstance(argnums, (int, np.integer))
    numbers: list[Any] = [argnums] if isinstance(argnums, (int, np.integer)) else list(argnums)
    for k in numbers:
        if not isinstance(k, (int, np.integer)) or not -len(args) <= k < len(args):
            raise TypeError(
                f"argnums={argnums!r}, but the function was called with {len(args)} arguments"
            )
    return [int(k) % len(args) for k in numbers], single


def _value_of(output: Any, trace: _Trace) -> Any:
    if isinstance(output, Tensor):
        return (
            output
            if trace.given or (state.depth > 0 and output.traced)
            else np.array(output.value)[()]
        )
    return output


def value_and_grad(function: Function, argnums: int | Sequence[int] = 0) -> Function:
    """x ↦ (f(x), ∂f/∂x) for a function with a scalar result.

    NumPy values in, NumPy values out; tensors in, tensors out, so transformations nest. Arguments
    may be nested lists, tuples and dicts of arrays, or a Module; `argnums` picks which to
    differentiate, a tuple of them gives a tuple. An unused argument has gradient 0.

    Raises `GradientError` where the result is no scalar, or where `float()` and the like lose the
    gradient (naming the line), `TraceError` for integer arrays.

    >>> import chainrule as cr
    >>> cr.value_and_grad(lambda x: x * x)(3.0)
    (np.float64(9.0), array(6.))
    """

    @functools.wraps(function)
    def differentiated(*args: Any, **keywords: Any) -> Any:
        numbers, single = _numbers(argnums, args)
        trace = _Trace(function, args, numbers)
        output = trace.run(**keywords)
        if isinstance(output, Tensor) and output.size != 1:
            raise GradientError(
                f"grad needs a scalar result, not shape {output.shape}; reduce it, e.g. with"
                " .sum(), or use cr.jacobian"
            )
        if not isinstance(output, (Tensor, int, float, np.generic, np.ndarray)):
            raise GradientError(f"grad needs a scalar result, not {type(output).__name__}")
        gradients = trace.pull(output, trace.start(output))
        return _value_of(output, trace), trace.structure(gradients, single)

    return differentiated


def grad(function: Function, argnums: int | Sequence[int] = 0) -> Function:
    """x ↦ ∂f/∂x for a function with a scalar result; see `value_and_grad`.

    >>> import chainrule as cr
    >>> cr.grad(cr.grad(lambda x: x**3))(2.0)
    array(12.)
    """
    both = value_and_grad(function, argnums)

    @functools.wraps(function)
    def gradient(*args: Any, **keywords: Any) -> Any:
        return both(*args, **keywords)[1]

    return gradient


def vjp(function: Function, *primals: Any) -> tuple[Any, Function]:
    """(f(x), pull) with pull(u) = uᵀ·J: reverse mode at one point, for any shape of result.

    `pull` returns one gradient for one primal, else a tuple.

    >>> import chainrule as cr
    >>> value, pull = cr.vjp(lambda x: x * x, np.array([1.0, 2.0]))
    >>> pull(np.array([1.0, 10.0]))
    array([ 2., 40.])
    """
    trace = _Trace(function, primals, range(len(primals)))
    output = trace.run()
    parts = [part for _, part in leaves(output)]

    def pull(upstream: Any) -> Any:
        ups = [u for _, u in leaves(upstream)] if len(parts) != 1 else [upstream]
        if len(ups) != len(parts):
            raise ShapeError(f"the result has {len(parts)} arrays, the upstream {len(ups)}")
        if any(isinstance(u, Tensor) for u in ups):
            trace.symbolic = True
        each = [trace.pull(p, trace.start(p, u)) for p, u in zip(parts, ups, strict=True)]
        return trace.structure(
            [_total(column) for column in zip(*each, strict=True)], len(primals) == 1
        )

    return rebuilt(output, iter([_value_of(part, trace) for part in parts])), pull


def _total(terms: Sequence[Any]) -> Any:
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def jvp(function: Function, primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """(f(x), J·v): forward mode, as reverse mode differentiated by its upstream.

    `primals` and `tangents` are sequences of one tree an argument. u ↦ uᵀJ is linear, so pulling v
    back through it gives J·v: no operation needs a second rule.

    >>> import chainrule as cr
    >>> cr.jvp(lambda x: x**2, (3.0,), (1.0,))
    (np.float64(9.0), array(6.))
    """
    if not isinstance(primals, (tuple, list)) or not isinstance(tangents, (tuple, list)):
        raise TypeError("jvp takes primals and tangents as tuples: jvp(f, (x,), (v,))")
    trace = _Trace(function, primals, range(len(primals)))
    directions = [v for _, v in leaves(list(tangents))]
    if len(directions) != len(trace.flat):
        raise ShapeError(f"{len(trace.flat)} primal arrays, but {len(directions)} tangents")
    for variable, v in zip(trace.flat, directions, strict=True):
        if np.shape(v) != variable.shape:
            raise ShapeError(f"a tangent has shape {np.shape(v)}, its primal {variable.shape}")
    given = trace.given or any(isinstance(v, Tensor) for v in directions)
    trace.symbolic = True
    output = trace.run()
    if not (isinstance(output, Tensor) and output.requires_grad):
        trace._refuse_lost(trace.flat)
        return _value_of(output, trace), np.zeros(np.shape(output))
    u = Tensor(np.zeros(output.shape, output.dtype)[()], requires_grad=True)
    with _tracing():
        pulled = flow_back(output, u, wanted=set(trace.flat))
        along: Any = 0.0
        for variable, v in zip(trace.flat, directions, strict=True):
            if variable in pulled:
                along = along + ops.sum(pulled[variable] * v)
        nested = given or state.depth > 1
        one: Any = np.ones((), along.dtype)[()]
        found = flow_back(along, Tensor(one, requires_grad=False) if nested else one, wanted={u})
    tangent = found.get(u, np.zeros(output.shape, output.dtype)[()])
    if isinstance(tangent, Tensor) and not (given or tangent.traced):
        tangent = tangent.value
    return _value_of(output, trace), tangent if isinstance(tangent, Tensor) else np.array(tangent)


def jacobian(function: Function, argnums: int | Sequence[int] = 0) -> Function:
    """x ↦ ∂fᵢ/∂xⱼ, of shape f(x).shape + x.shape: a backward pass for each element of the result.

    >>> import chainrule as cr
    >>> cr.jacobian(lambda x: x * x)(np.array([1.0, 2.0]))
    array([[2., 0.],
           [0., 4.]])
    """

    @functools.wraps(function)
    def jacobian_at(*args: Any, **keywords: Any) -> Any:
        numbers, single = _numbers(argnums, args)
        trace = _Trace(function, args, numbers)
        output = trace.run(**keywords)
        parts = [rows_of(trace, part, single) for _, part in leaves(output)]
        return rebuilt(output, iter(parts))

    def rows_of(trace: _Trace, output: Any, single: bool) -> Any:
        shape = np.shape(output.value if isinstance(output, Tensor) else output)
        size = int(np.prod(shape, dtype=np.int64))
        rows = []
        for k in range(size):
            basis = np.zeros(size)
            basis[k] = 1
            upstream = trace.start(output, basis.reshape(shape))
            rows.append(trace.pull(output, upstream))
        stacked = [
            _stack(list(column), shape, v)
            for column, v in zip(
                zip(*rows, strict=True) if rows else [()] * len(trace.flat), trace.flat, strict=True
            )
        ]
        return trace.structure(stacked, single)

    return jacobian_at


def _stack(rows: list[Any], shape: tuple[int, ...], variable: Tensor) -> Any:
    whole = shape + variable.shape
    if not rows:
        return np.zeros(whole, variable.dtype)
    if any(isinstance(row, Tensor) for row in rows):
        return ops.reshape(ops.stack(rows), whole)
    return np.stack(rows).reshape(whole)


def hessian(function: Function, argnums: int = 0) -> Function:
    """x ↦ ∂²f/∂xᵢ∂xⱼ, of shape x.shape + x.shape, for a function with a scalar result.

    >>> import chainrule as cr
    >>> cr.hessian(lambda x: x[0] ** 2 * x[1])(np.array([1.0, 2.0]))
    array([[4., 2.],
           [2., 0.]])
    """
    return jacobian(grad(function, argnums), argnums)
