"""What makes a run the same run: its data, its model and its settings, in words and digests."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Mapping
from types import CodeType, FunctionType, MethodType
from typing import Any

import numpy as np

from ..errors import DataError, listed
from ..nn import Module
from ..nn.optim import Optimizer
from .run import Plan, Run

__all__ = ["demand_same", "digest", "identity", "words"]

Array = Any
PACKAGE = __name__.partition(".")[0] + "."
DEPTH = 6  # of what holds what: deeper settings go by their type


def identity(
    run: Run, plan: Plan, held_out: Any, callbacks: Iterable[Any], metrics: Mapping[str, Any]
) -> dict[str, Any]:
    """What must be equal for a run to go on; the number of epochs may grow."""
    return {
        "data": digest([plan.X, plan.y, plan.weights]),
        "rows": plan.rows,
        "source": _order_of(getattr(plan, "source", None)),
        "validation data": digest(held_out or []),
        "model": repr(run.model),
        "parameters": {k: [p.dtype.name, *p.shape] for k, p in run.model.named_parameters()},
        "loss": words(run.loss),
        "optimizer": words(run.optimizer),
        "batch_size": plan.size,
        "shuffle": plan.shuffle,
        "seed": plan.seed,
        "callbacks": [type(callback).__name__ for callback in callbacks],
        "metrics": [f"{name}: {words(metric)}" for name, metric in metrics.items()],
    }


def _order_of(source: Any) -> list[str]:
    """What a source of batches says of its order; of its data, the first batch has been read."""
    return [f"{k}={words(getattr(source, k))}" for k in ("seed", "shuffle") if hasattr(source, k)]


def demand_same(kept: Mapping[str, Any], now: Mapping[str, Any], folder: str) -> None:
    """Raise `DataError`, naming what differs, unless the kept run is this one."""
    changed = [name for name in now if kept.get(name) != now[name]]
    if not changed:
        return
    small = [k for k in changed if isinstance(now[k], (int, bool)) or k in ("loss", "optimizer")]
    detail = f" ({small[0]} was {kept.get(small[0])}, is {now[small[0]]})" if small else ""
    raise DataError(
        f"the run kept in {folder!r} had other settings: {listed(changed)} differ{detail}; give the"
        " same to go on with it, or choose another folder"
    )


def digest(arrays: Iterable[Array | None]) -> str:
    """A digest of arrays: of their shapes, dtypes and bytes."""
    found = hashlib.blake2b(digest_size=16)
    for array in arrays:
        if array is None:
            found.update(b"none")
            continue
        found.update(f"{array.dtype.str}{array.shape}".encode())
        for start in range(0, len(array), 1 << 14):  # a memory map stays on disk
            found.update(np.ascontiguousarray(array[start : start + (1 << 14)]).data)
    return found.hexdigest()


# -- settings in words ---------------------------------------------------------------------------


def words(value: Any, depth: int = DEPTH) -> str:
    """A setting with all that it holds: a function with what it closes over, an object with its
    attributes. What functions read from their module is not seen.

    >>> from chainrule.nn import optim
    >>> words(optim.exponential(0.1, 0.9))
    'chainrule.nn.schedules.exponential.<locals>.<lambda>(0.9, 0.1)'
    """
    if value is None or isinstance(value, (bool, int, float, str, bytes, np.generic)):
        return repr(value)
    if depth == 0:
        return type(value).__name__
    if isinstance(value, np.ndarray):
        plain = value.dtype.kind in "biufc"
        return (
            f"array({value.dtype}, {value.shape}, {digest([value.reshape(-1)]) if plain else ''})"
        )
    if isinstance(value, Mapping):
        return f"{{{_several(value.items(), depth - 1)}}}"
    if isinstance(value, (set, frozenset)):  # whose order is another one in each process
        return f"[{', '.join(sorted(words(v, depth - 1) for v in value))}]"
    if isinstance(value, (tuple, list)):
        return f"[{_several(value, depth - 1)}]"
    if isinstance(value, functools.partial):
        given = sorted(value.keywords.items())
        return f"{words(value.func, depth - 1)}{words([*value.args, *given], depth - 1)}"
    if isinstance(value, MethodType):
        return f"{words(value.__self__, depth - 1)}.{value.__name__}"
    if isinstance(value, FunctionType):
        return _function(value, depth - 1)
    if isinstance(value, Module):
        return repr(value)
    if hasattr(value, "__wrapped__"):  # as by functools.cache
        return words(value.__wrapped__, depth - 1)
    return _object(value, depth - 1)


def _several(values: Iterable[Any], depth: int) -> str:
    return ", ".join(words(value, depth) for value in values)


def _function(function: FunctionType, depth: int) -> str:
    """Its name and the values that it closes over; its defaults and constants where it is not
    ours, for two lambdas have one name."""
    held = [cell.cell_contents for cell in function.__closure__ or () if _full(cell)]
    if not function.__module__.startswith(PACKAGE):
        held += [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).items()]
        held += _constants(function.__code__, function.__doc__)
    return f"{function.__module__}.{function.__qualname__}({_several(held, depth)})"


def _full(cell: Any) -> bool:
    """Whether a cell holds something already."""
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


def _constants(code: CodeType, text: str | None = None) -> list[Any]:
    """The names and plain constants of a function's code, less its docstring."""
    found: list[Any] = [".".join(code.co_names)]
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            found += _constants(constant)
        elif constant != text:
            found.append(constant)
    return found


def _object(value: Any, depth: int) -> str:
    """An object of somebody's: its type and its attributes."""
    own = getattr(value, "__dict__", None)
    name = getattr(value, "__qualname__", type(value).__name__)
    if isinstance(value, type) or not isinstance(own, dict):
        return str(name)
    hidden = isinstance(value, Optimizer)
    shown = {k: v for k, v in sorted(own.items()) if hidden or not k.startswith("_")}
    return f"{name}({', '.join(f'{k}={words(v, depth)}' for k, v in shown.items())})"
