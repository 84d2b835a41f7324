"""Optimisers made of optimisers: averages of the weights, gradients of several batches.

A wrapper has the settings of the optimiser inside as its own (`lr`, `clip_norm`, …), so that they
are read, set and shown in one place, and its slots beside its own.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..circuit import Tensor
from ..circuit import vocabulary as ops
from ..errors import quoted
from .base import count
from .optimizer import Optimizer, State
from .schedules import Array, Arrays, fraction, like, stretched

__all__ = ["EMA", "Accumulate"]


class _Wrapper(Optimizer):
    """An optimiser around another."""

    _slot: str
    steps: int
    decay: float

    def __init__(self, optimizer: Optimizer, **settings: Any) -> None:
        name = type(self).__name__
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"{name} wraps an optimizer, as optim.Adam(), not {quoted(optimizer)}")
        self._own = tuple(settings)
        if self._slot in optimizer._slots:
            raise ValueError(f"one {name} is enough; {optimizer!r} has it already")
        self._inner = copy.copy(optimizer)
        self._taken = tuple(k for k in vars(optimizer) if not k.startswith("_"))
        vars(self).update({k: vars(optimizer)[k] for k in self._taken}, **settings)
        self._slots = (*optimizer._slots, self._slot)

    def _inside(self) -> Optimizer:
        """The optimiser inside, with the settings as they are now."""
        inner = copy.copy(self._inner)
        vars(inner).update({name: vars(self)[name] for name in self._taken})
        return inner

    def init(self, params: Mapping[str, Array]) -> State:
        """The state of the optimiser inside before the first update, and the wrapper's slot."""
        own = {name: self._fresh(p) for name, p in params.items()}
        return {**self._inside().init(params), self._slot: own}

    def _within(self, state: State) -> State:
        """The state of the optimiser inside."""
        return {"step": state["step"], **{slot: state[slot] for slot in self._inner._slots}}

    def __repr__(self) -> str:
        own = "".join(f", {name}={vars(self)[name]}" for name in self._own)
        return f"{type(self).__name__}({self._inside()!r}{own})"


class EMA(_Wrapper):
    """Keeps a running mean of the weights, which generalises better than the last of them.

    After update t = 1, 2, … of the optimiser inside, `state["average"]` holds the mean of p₁ … pₜ
    with the weights dᵗ⁻ⁱ, d = `decay`: average ← decay·average + (1 − decay)·p, less the bias that
    its start would have, as in Adam: average ← (1 − w)·average + w·p with w = (1 − d)/(1 − dᵗ), so
    that at first it follows the weights. Training goes on with the weights themselves. `averages`
    gives the means; `fit` shows them to `on_epoch` (what a callback writes to a weight there is not
    kept), measures validation data with them and leaves them in the model. Buffers, as those of
    `BatchNorm1d`, are not averaged. Around `Accumulate`, t counts its steps.

    Raises `ValueError` for a decay outside [0, 1), `TypeError` for what is no optimiser of ours.

    >>> from chainrule.nn.optim import EMA, SGD
    >>> optimizer = EMA(SGD(lr=1.0), decay=0.5)
    >>> params = {"w": np.array([8.0])}
    >>> state = optimizer.init(params)
    >>> for _ in range(3):  # 7, 6, 5
    ...     params, state = optimizer.update(params, {"w": np.array([1.0])}, state)
    >>> optimizer.averages(state)["w"].round(6), round((7 + 2 * 6 + 4 * 5) / 7, 6)
    (array([5.571429]), 5.571429)

    Source: Polyak and Juditsky 1992; Kingma and Ba 2015 for the correction.
    """

    _slot = "average"

    def __init__(self, optimizer: Optimizer, decay: float = 0.999) -> None:
        super().__init__(optimizer, decay=fraction("decay", decay))

    @property
    def every(self) -> int:
        """As of the optimiser inside."""
        return self._inner.every

    def averages(self, state: State) -> Arrays:
        """The running means of the parameters; before the first update, what they start from."""
        return dict(state[self._slot])

    def update(
        self, params: Mapping[str, Array], grads: Mapping[str, Array], state: State
    ) -> tuple[Arrays, State]:
        """The parameters of the optimiser inside, and its state with the average moved."""
        self._check(params, grads, state)
        moved, after = self._inside().update(params, grads, self._within(state))
        step, due = _turn(after["step"], self.every)
        t = step if self.every == 1 else ops.maximum(step, 1)
        w = (1 - self.decay) / (1 - self.decay**t)
        average = {}
        for name, p in moved.items():
            old, share = state[self._slot][name], like(w, p)
            average[name] = _chosen(due, (1 - share) * old + share * p, old)
        return moved, {**after, self._slot: average}

    def _fresh(self, p: Array) -> Array:
        return np.array(p)[()]


class Accumulate(_Wrapper):
    """One step for every `steps` batches, with the mean of their gradients.

    For a loss that is a mean over rows, `steps` batches of n rows move the weights as one batch of
    steps·n rows does. Clipping, weight decay and schedules see the mean and count steps, not
    batches. `state["gradients"]` holds the sum so far, `state["step"]` counts the calls; what is
    summed when a run ends waits there for the next. Batches count alike, whatever their rows.

    Raises `ValueError` unless steps ≥ 1, `TypeError` for what is no optimiser of ours.

    >>> from chainrule.nn.optim import SGD, Accumulate
    >>> optimizer = Accumulate(SGD(lr=0.5), steps=2)
    >>> params = {"w": np.array([1.0])}
    >>> state = optimizer.init(params)
    >>> for gradient in (1.0, 3.0):
    ...     params, state = optimizer.update(params, {"w": np.array([gradient])}, state)
    ...     print(params["w"], state["gradients"]["w"])
    [1.] [1.]
    [0.] [0.]
    """

    _slot = "gradients"

    def __init__(self, optimizer: Optimizer, steps: int) -> None:
        super().__init__(optimizer, steps=count("steps", steps))
        if callable(self.lr):
            self.lr = stretched(self.lr, self.steps)

    @property
    def every(self) -> int:
        """`steps`."""
        return self.steps

    def averages(self, state: State) -> Arrays:
        """Those of the optimiser inside."""
        return self._inside().averages(self._within(state))

    def update(
        self, params: Mapping[str, Array], grads: Mapping[str, Array], state: State
    ) -> tuple[Arrays, State]:
        """The same parameters and a larger sum; at every `steps`-th call a step, and a sum of 0."""
        self._check(params, grads, state)
        total = {name: state[self._slot][name] + g for name, g in grads.items()}
        calls = state["step"]
        before, due = _turn(calls, self.steps)[0], _turn(calls + 1, self.steps)[1]
        if due is False:
            return dict(params), {**state, "step": calls + 1, self._slot: total}
        inner = self._inside()
        inner.lr = self.lr(calls) if callable(self.lr) else self.lr
        mean = {name: g / self.steps for name, g in total.items()}
        moved, after = inner.update(params, mean, {**self._within(state), "step": before})
        slots = {
            slot: {name: _chosen(due, new, state[slot][name]) for name, new in after[slot].items()}
            for slot in inner._slots
        }
        rest = {name: ops.where(due, 0, g) for name, g in total.items()}
        moved = {name: _chosen(due, p, params[name]) for name, p in moved.items()}
        return moved, {"step": calls + 1, **slots, self._slot: rest}


def _turn(calls: Any, every: int) -> tuple[Any, Any]:
    """The number of steps after so many calls, and whether the last call made one."""
    if every == 1:
        return calls, True
    if not isinstance(calls, Tensor):
        return calls // every, calls % every == 0
    steps = ops.floor(calls / every)
    return steps, ops.equal(steps * every, calls)


def _chosen(due: Any, new: Array, old: Array) -> Array:
    """The new value where a step is due: selected, so that nothing of the other one is left."""
    return (new if due else old) if isinstance(due, bool) else ops.where(due, new, old)
