"""What every optimiser is: its settings, its state, and one step for all parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import ShapeError, quoted
from .schedules import Array, Arrays, Schedule, above, at_least, clip_norm, clip_value, like

__all__ = ["Optimizer", "State", "shown"]

State = dict[str, Any]


class Optimizer:
    """An update rule: `_slots` names what it remembers for each parameter, `_move` takes a step.

    `clip_value` bounds each gradient element and `clip_norm` the length of all gradients together,
    value first; `weight_decay` λ adds λ·p to the gradient of each parameter p.
    """

    _slots: tuple[str, ...] = ()

    def __init__(
        self,
        lr: float | Schedule,
        weight_decay: float,
        clip_norm: float | None,
        clip_value: float | None,
    ) -> None:
        self.lr = lr if callable(lr) else at_least(0, "lr", lr)
        self.weight_decay = at_least(0, "weight_decay", weight_decay)
        self.clip_norm = None if clip_norm is None else above(0, "clip_norm", clip_norm)
        self.clip_value = None if clip_value is None else above(0, "clip_value", clip_value)

    def init(self, params: Mapping[str, Array]) -> State:
        """The state before the first update: `step` 0, and zeros for each parameter.

        >>> from chainrule.nn.optim import SGD
        >>> SGD(lr=0.1, momentum=0.9).init({"w": np.ones(2)})
        {'step': 0, 'velocity': {'w': array([0., 0.])}}
        """
        fresh = {slot: {name: self._fresh(p) for name, p in params.items()} for slot in self._slots}
        return {"step": 0, **fresh}

    def update(
        self, params: Mapping[str, Array], grads: Mapping[str, Array], state: State
    ) -> tuple[Arrays, State]:
        """The parameters and the state after one step; the arguments stay as they are.

        Raises `ShapeError` where the names of `grads` or `state` are not those of `params`, or a
        gradient has not the shape of its parameter.

        >>> from chainrule.nn.optim import SGD
        >>> optimizer = SGD(lr=0.1)
        >>> params = {"w": np.array([1.0, 2.0])}
        >>> params, state = optimizer.update(params, {"w": np.ones(2)}, optimizer.init(params))
        >>> params["w"], state
        (array([0.9, 1.9]), {'step': 1})
        """
        self._check(params, grads, state)
        grads = self._clipped(grads)
        lr = self.lr(state["step"]) if callable(self.lr) else self.lr
        step = state["step"] + 1
        moved: Arrays = {}
        after: State = {"step": step, **{slot: {} for slot in self._slots}}
        for name, p in params.items():
            g = grads[name]
            if g.shape != p.shape:
                raise ShapeError(
                    f"the gradient of {quoted(name)} has shape {g.shape}, the parameter {p.shape}"
                )
            slots = [state[slot][name] for slot in self._slots]
            moved[name], *slots = self._move(p, g, like(lr, p), step, *slots)
            for slot, value in zip(self._slots, slots, strict=True):
                after[slot][name] = value
        return moved, after

    @property
    def every(self) -> int:
        """How many calls of `update` make a step: more than 1 where gradients are accumulated."""
        return 1

    def averages(self, state: State) -> Arrays:
        """The parameters to use in place of the last ones; {} where the optimiser averages none.

        >>> from chainrule.nn.optim import SGD
        >>> SGD(lr=0.1).averages({"step": 0})
        {}
        """
        return {}

    def _fresh(self, p: Array) -> Array:
        return np.zeros(np.shape(p), p.dtype)[()]

    def _move(self, p: Array, g: Array, lr: Any, step: Any, *slots: Array) -> tuple[Array, ...]:
        """The new parameter, then the new slots."""
        raise NotImplementedError

    def _decayed(self, p: Array, g: Array) -> Array:
        return g + self.weight_decay * p if self.weight_decay else g

    def _clipped(self, grads: Mapping[str, Array]) -> Mapping[str, Array]:
        if self.clip_value is not None:
            grads = clip_value(grads, self.clip_value)
        return grads if self.clip_norm is None else clip_norm(grads, self.clip_norm)

    def _check(self, params: Mapping[str, Any], grads: Mapping[str, Any], state: State) -> None:
        if grads.keys() != params.keys():
            _misnamed("gradients", grads, params)
        if "step" not in state:
            raise ValueError(f"the state was not made by {type(self).__name__}.init: no 'step'")
        for slot in self._slots:
            if slot not in state:
                raise ValueError(
                    f"the state was not made by {type(self).__name__}.init: no '{slot}'"
                )
            if state[slot].keys() != params.keys():
                _misnamed(f"the state's '{slot}'", state[slot], params)

    def __repr__(self) -> str:
        return shown(self)


def shown(optimizer: Any) -> str:
    """The call that makes it: every setting by name, a schedule by its function's."""
    settings = ", ".join(
        f"{name}={getattr(value, '__name__', value)}"
        for name, value in vars(optimizer).items()
        if not name.startswith("_")
    )
    return f"{type(optimizer).__name__}({settings})"


def _misnamed(what: str, given: Mapping[str, Any], params: Mapping[str, Any]) -> None:
    odd = sorted(given.keys() ^ params.keys())[0]
    side = "lack" if odd in params else "have no parameter for"
    raise ShapeError(f"{what} {side} {quoted(odd)}; give one array for each parameter")
