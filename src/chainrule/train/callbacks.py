"""Callbacks: what a training run tells others, and how they end it."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import quoted
from .history import History

__all__ = ["Callbacks", "Moment", "StopTraining"]

Array = Any


class StopTraining(Exception):
    """Raise it in a callback to end training there; what has been learnt stays."""


@dataclass(frozen=True, eq=False)
class Moment:
    """What a callback is told: where the run is and what the last step did."""

    model: Any
    history: History
    epoch: int  # 1, 2, …
    step: int  # 1, 2, …, through all epochs
    loss: float  # the step's, before its update
    slopes: Any = field(repr=False)  # the gradients, or what finds them
    optimizer: Any = None
    loss_function: Any = field(default=None, repr=False)
    plan: Any = field(default=None, repr=False)  # the run's rows, batch size, epochs and seed

    @property
    def rows(self) -> tuple[Array, Array]:
        """X and y of the run, cast and read-only; of a source of batches the first one."""
        return self.plan.X, self.plan.y

    @functools.cached_property
    def gradients(self) -> dict[str, Array]:
        """The step's gradients by parameter name; in machine code they are found when asked for."""
        return self.slopes() if callable(self.slopes) else self.slopes  # type: ignore[no-any-return]


class Callbacks:
    """The callbacks' methods by event."""

    EVENTS = ("on_step", "on_epoch", "on_end", "on_begin")

    def __init__(self, callbacks: Iterable[Any]) -> None:
        several = list(callbacks) if isinstance(callbacks, Iterable) else [callbacks]
        self.all = several
        self.methods: dict[str, list[Any]] = {event: [] for event in self.EVENTS}
        for callback in several:
            found = [event for event in self.EVENTS if callable(getattr(callback, event, None))]
            if not found:
                raise TypeError(
                    f"callback {quoted(callback)} has no method {', '.join(self.EVENTS)}"
                )
            for event in found:
                self.methods[event].append(getattr(callback, event))

    def tell(self, event: str, moment: Moment) -> bool:
        """Call all of them; whether one asks to stop."""
        answers = [self._ask(method, moment) for method in self.methods[event]]
        return any(answers)

    @staticmethod
    def _ask(method: Any, moment: Moment) -> bool:
        try:
            answer = method(moment)
        except StopTraining:
            return True
        return isinstance(answer, (bool, np.bool_)) and bool(answer)
