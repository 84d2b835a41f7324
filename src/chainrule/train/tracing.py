"""What tracing a step must leave alone, and how it knows that one trace stands for all steps."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..compiler.trace import Traced
from ..errors import CompileError
from ..nn import Dropout, schedules
from .run import Run

__all__ = [
    "demand_unchanged",
    "is_foreign",
    "is_ours",
    "keys_from",
    "plain",
    "same",
    "training",
    "undisturbed",
]

PACKAGE = __name__.partition(".")[0] + "."
COUNTERS = frozenset({"seed", "number", "step"})  # of a Dropout, which has its own way of moving


def plain(module: Any) -> dict[str, Any]:
    """The settings of a module: its mode, and its attributes that are plain."""
    return {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, (bool, int, float, str, tuple))
        and not (isinstance(module, Dropout) and name in COUNTERS)
    }


def demand_unchanged(before: Mapping[str, Any], after: Mapping[str, Any], owner: Any) -> None:
    """Refuse an owner whose attributes are other objects after a step than before it."""
    for name in {**before, **after}:
        if name not in before or name not in after or before[name] is not after[name]:
            raise CompileError(
                f"{type(owner).__name__} sets its '{name}' in a step, which machine code cannot"
            )


@contextmanager
def undisturbed(run: Run) -> Iterator[None]:
    """Within, the model runs in order to be traced; no module remembers that it did."""
    before = [(module, plain(module)) for module in run.model.modules()]
    try:
        yield
    finally:
        for module, settings in before:
            vars(module).update(settings)


@contextmanager
def training(model: Any) -> Iterator[None]:
    """Within, training mode; each layer's own mode returns."""
    modes = [(module, module.training) for module in model.modules()]
    model.train()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def same(one: Traced, other: Traced) -> bool:
    """Whether two traces are of one step, constants and all."""
    return one.graph.fingerprint() == other.graph.fingerprint()


def is_foreign(run: Run) -> bool:
    """Whether code that is not ours runs in a step: it may count, or draw random numbers."""
    modules = [type(module) for module in run.model.modules()]
    return not all(
        getattr(part, "__module__", type(part).__module__).startswith(PACKAGE)
        for part in [*modules, run.loss, type(run.optimizer)]
    )


def is_ours(lr: Any) -> bool:
    """Whether a schedule is ours and so reads nothing that changes: it is a part of the step."""
    if not callable(lr) or getattr(lr, "__module__", "") != schedules.__name__:
        return False
    inner = [cell.cell_contents for cell in getattr(lr, "__closure__", None) or ()]
    return all(is_ours(value) for value in inner if callable(value))


@contextmanager
def keys_from(layers: list[Dropout], source: Callable[[Dropout], Any]) -> Iterator[None]:
    """Within, dropout layers ask `source` for their keys; for None it is 0."""

    def ask(layer: Dropout) -> Any:
        key = source(layer)
        return np.uint64(0) if key is None else key

    for layer in layers:
        layer.next_key = functools.partial(ask, layer)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for layer in layers:
            del layer.next_key
