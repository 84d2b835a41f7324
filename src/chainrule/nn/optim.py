"""Optimisers: pure functions from parameters and gradients to better parameters.

    state = optimizer.init(params)
    params, state = optimizer.update(params, gradients, state)

`params` and `gradients` are dicts of arrays by name; nothing is written in place. The rules are
written in operations: given tensors they leave circuit, so that an update can be traced, compiled
and explained. Names, arguments and results follow PyTorch; `lr` may be a schedule, a function of
the number of updates made before (0, 1, 2, …), which `state["step"]` counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..circuit import vocabulary as ops
from ..errors import quoted, unknown
from .base import count
from .optimizer import Optimizer, State, shown
from .schedules import (
    Array,
    Schedule,
    at_least,
    clip_norm,
    clip_value,
    cosine,
    cosine_restarts,
    exponential,
    fraction,
    like,
    one_cycle,
    steps,
    warmup,
)
from .wrappers import EMA, Accumulate

__all__ = [
    "EMA",
    "LBFGS",
    "OPTIMIZERS",
    "SGD",
    "Accumulate",
    "Adagrad",
    "Adam",
    "AdamW",
    "Optimizer",
    "RMSprop",
    "clip_norm",
    "clip_value",
    "cosine",
    "cosine_restarts",
    "exponential",
    "get",
    "one_cycle",
    "steps",
    "warmup",
]


class SGD(Optimizer):
    """v ← μ·v + g;  p ← p − lr·v. With nesterov=True: p ← p − lr·(g + μ·v).

    Without momentum p ← p − lr·g. `state["velocity"]` holds v, where momentum is used.
    Raises `ValueError` for a negative lr or weight_decay, momentum outside [0, 1), and nesterov
    without momentum.

    >>> optimizer = SGD(lr=0.1, momentum=0.9)
    >>> params = {"w": np.array([1.0])}
    >>> state = optimizer.init(params)
    >>> for _ in range(2):
    ...     params, state = optimizer.update(params, {"w": np.array([1.0])}, state)
    >>> params["w"].round(6), state["velocity"]["w"].round(6)
    (array([0.71]), array([1.9]))

    Source: slides, `W += −learning_rate · dW`; Polyak 1964; Sutskever et al. 2013.
    """

    def __init__(
        self,
        lr: float | Schedule = 1e-3,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        *,
        clip_norm: float | None = None,
        clip_value: float | None = None,
    ) -> None:
        super().__init__(lr, weight_decay, clip_norm, clip_value)
        self.momentum = fraction("momentum", momentum)
        self.nesterov = bool(nesterov)
        if nesterov and not momentum:
            raise ValueError("nesterov looks ahead along the momentum; give momentum, as 0.9")
        self._slots = ("velocity",) if momentum else ()

    def _move(self, p: Array, g: Array, lr: Any, step: Any, *slots: Array) -> tuple[Array, ...]:
        g = self._decayed(p, g)
        if not slots:
            return (p - lr * g,)
        v = self.momentum * slots[0] + g
        return p - lr * (g + self.momentum * v if self.nesterov else v), v


class Adam(Optimizer):
    """p ← p − lr·m̂/(√v̂ + ε) with m ← β₁m + (1 − β₁)g, v ← β₂v + (1 − β₂)g², x̂ = x/(1 − βᵗ).

    `state["m"]` and `state["v"]` hold the two running means. Raises `ValueError` for betas outside
    [0, 1) and a negative lr, eps or weight_decay.

    >>> optimizer = Adam(lr=0.1)
    >>> params = {"w": np.array([1.0, 1.0])}
    >>> grads = {"w": np.array([100.0, -0.001])}
    >>> optimizer.update(params, grads, optimizer.init(params))[0]["w"].round(5)
    array([0.9, 1.1])

    Source: Kingma and Ba 2015.
    """

    _slots = ("m", "v")

    def __init__(
        self,
        lr: float | Schedule = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        clip_norm: float | None = None,
        clip_value: float | None = None,
    ) -> None:
        super().__init__(lr, weight_decay, clip_norm, clip_value)
        if not isinstance(betas, (tuple, list)) or len(betas) != 2:
            raise ValueError(f"betas must be two numbers, as (0.9, 0.999); got {quoted(betas)}")
        self.betas = fraction("betas[0]", betas[0]), fraction("betas[1]", betas[1])
        self.eps = at_least(0, "eps", eps)

    def _move(self, p: Array, g: Array, lr: Any, step: Any, *slots: Array) -> tuple[Array, ...]:
        return self._descended(p, self._decayed(p, g), lr, step, *slots)

    def _descended(
        self, p: Array, g: Array, lr: Any, step: Any, m: Array, v: Array
    ) -> tuple[Array, ...]:
        b1, b2 = self.betas
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * (g * g)
        size = lr / like(1 - b1**step, p)
        root = like((1 - b2**step) ** 0.5, p)
        return p - size * m / (ops.sqrt(v) / root + self.eps), m, v


class AdamW(Adam):
    """p ← (1 − lr·λ)·p, then Adam's step: weight decay apart from the running means.

    Arguments, state and errors as Adam's.

    >>> optimizer = AdamW(lr=0.1, weight_decay=0.5)
    >>> params = {"w": np.array([1.0])}
    >>> optimizer.update(params, {"w": np.array([0.0])}, optimizer.init(params))[0]["w"]
    array([0.95])

    Source: Loshchilov and Hutter 2019.
    """

    def __init__(
        self,
        lr: float | Schedule = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        *,
        clip_norm: float | None = None,
        clip_value: float | None = None,
    ) -> None:
        super().__init__(lr, betas, eps, weight_decay, clip_norm=clip_norm, clip_value=clip_value)

    def _move(self, p: Array, g: Array, lr: Any, step: Any, *slots: Array) -> tuple[Array, ...]:
        if self.weight_decay:
            p = p * (1 - lr * self.weight_decay)
        return self._descended(p, g, lr, step, *slots)


class RMSprop(Optimizer):
    """p ← p − lr·g/(√v + ε) with v ← α·v + (1 − α)·g².

    With momentum μ: b ← μ·b + g/(√v + ε), p ← p − lr·b. With centered=True, v − a² stands for v,
    where a ← α·a + (1 − α)·g. `state` holds "v", and "velocity" and "mean" where they are used.
    Raises `ValueError` for alpha or momentum outside [0, 1) and a negative lr, eps or weight_decay.

    >>> optimizer = RMSprop(lr=0.01)
    >>> params = {"w": np.array([1.0])}
    >>> optimizer.update(params, {"w": np.array([5.0])}, optimizer.init(params))[0]["w"].round(6)
    array([0.9])

    Source: Tieleman and Hinton 2012; Graves 2013 (centered).
    """

    def __init__(
        self,
        lr: float | Schedule = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        *,
        clip_norm: float | None = None,
        clip_value: float | None = None,
    ) -> None:
        super().__init__(lr, weight_decay, clip_norm, clip_value)
        self.alpha = fraction("alpha", alpha)
        self.eps = at_least(0, "eps", eps)
        self.momentum = fraction("momentum", momentum)
        self.centered = bool(centered)
        self._slots = ("v", *["velocity"] * bool(momentum), *["mean"] * self.centered)

    def _move(self, p: Array, g: Array, lr: Any, step: Any, *slots: Array) -> tuple[Array, ...]:
        g = self._decayed(p, g)
        old = dict(zip(self._slots, slots, strict=True))
        new = {"v": self.alpha * old["v"] + (1 - self.alpha) * (g * g)}
        spread = new["v"]
        if self.centered:
            new["mean"] = self.alpha * old["mean"] + (1 - self.alpha) * g
            spread = spread - new["mean"] * new["mean"]
        move = g / (ops.sqrt(spread) + self.eps)
        if self.momentum:
            move = new["velocity"] = self.momentum * old["velocity"] + move
        return p - lr * move, *[new[slot] for slot in self._slots]


class Adagrad(Optimizer):
    """p ← p − lrₜ·g/(√s + ε) with s ← s + g² and lrₜ = lr/(1 + (t − 1)·lr_decay).

    `state["sum"]` holds s, from `initial_accumulator_value`. Raises `ValueError` for a negative
    argument.

    >>> optimizer = Adagrad(lr=0.1)
    >>> params = {"w": np.array([1.0])}
    >>> optimizer.update(params, {"w": np.array([5.0])}, optimizer.init(params))[0]["w"].round(6)
    array([0.9])

    Source: Duchi, Hazan and Singer 2011.
    """

    _slots = ("sum",)

    def __init__(
        self,
        lr: float | Schedule = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        *,
        clip_norm: float | None = None,
        clip_value: float | None = None,
    ) -> None:
        super().__init__(lr, weight_decay, clip_norm, clip_value)
        self.lr_decay = at_least(0, "lr_decay", lr_decay)
        self.initial_accumulator_value = at_least(
            0, "initial_accumulator_value", initial_accumulator_value
        )
        self.eps = at_least(0, "eps", eps)

    def _fresh(self, p: Array) -> Array:
        return np.full(np.shape(p), self.initial_accumulator_value, p.dtype)[()]

    def _move(self, p: Array, g: Array, lr: Any, step: Any, *slots: Array) -> tuple[Array, ...]:
        g = self._decayed(p, g)
        total = slots[0] + g * g
        size = lr / like(1 + (step - 1) * self.lr_decay, p)
        return p - size * (g / (ops.sqrt(total) + self.eps)), total


# -- all rows at once -------------------------------------------------------------------------


class LBFGS:
    """Minimises the loss of all rows at once, by curvature that earlier gradients tell.

    For `fit`, which runs SciPy's L-BFGS-B with it: each iteration is an epoch over all rows, of one
    accepted step and the evaluations of its line search. There is no `update`, for a step asks for
    further gradients. It ends after `fit`'s epochs (or `max_iter` of them, or `max_eval`
    evaluations), or where it has converged: every |∂loss/∂p| ≤ `tolerance_grad`, or the loss fell
    by no more than `tolerance_change` of itself (of 1, if it is smaller). `history_size` is how
    many pairs of steps and gradients it remembers; `weight_decay` λ adds ½λ·Σp² to what is
    minimised. `lr` has no say, as the line search finds the length; it is there for code that gives
    one to every optimiser. Raises `ValueError` for an argument out of range.

    >>> from chainrule import fit, nn
    >>> model = nn.Sequential(nn.Linear(1, 1, dtype=np.float64), seed=0)
    >>> X = np.linspace(-1, 1, 20)[:, None]
    >>> history = fit(model, X, 3 * X + 1, loss="squared_error", optimizer=LBFGS(), epochs=50)
    >>> history.stopped, model.predict([[2.0]]).round(4)
    ('converged', array([[7.]]))

    Source: Liu and Nocedal 1989; Byrd, Lu, Nocedal and Zhu 1995 (L-BFGS-B).
    """

    full_batch = True

    def __init__(
        self,
        lr: float = 1.0,
        max_iter: int | None = None,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        history_size: int = 10,
        weight_decay: float = 0.0,
    ) -> None:
        self.lr = lr
        self.max_iter = None if max_iter is None else count("max_iter", max_iter)
        self.max_eval = None if max_eval is None else count("max_eval", max_eval)
        self.tolerance_grad = at_least(0, "tolerance_grad", tolerance_grad)
        self.tolerance_change = at_least(0, "tolerance_change", tolerance_change)
        self.history_size = count("history_size", history_size)
        self.weight_decay = at_least(0, "weight_decay", weight_decay)

    def init(self, params: Mapping[str, Array]) -> State:
        """The state before the first iteration: `step` 0. What it remembers does not outlast a run.

        >>> LBFGS().init({"w": np.ones(2)})
        {'step': 0}
        """
        return {"step": 0}

    __repr__ = shown


# -- by name ----------------------------------------------------------------------------------

OPTIMIZERS: dict[str, type[Optimizer]] = {
    kind.__name__.lower(): kind for kind in (SGD, Adam, AdamW, RMSprop, Adagrad)
}


def get(optimizer: Any) -> Any:
    """The optimiser of that name with its defaults; one that is made passes through.

    Raises `UnknownNameError` with the nearest name, `TypeError` for a class or anything else.

    >>> get("adam")
    Adam(lr=0.001, weight_decay=0.0, clip_norm=None, clip_value=None, betas=(0.9, 0.999), eps=1e-08)
    """
    if isinstance(optimizer, str):
        known: dict[str, Any] = {**OPTIMIZERS, "lbfgs": LBFGS}
        if optimizer not in known:
            raise unknown("optimizer", optimizer, known)
        return known[optimizer]()
    if isinstance(optimizer, LBFGS):
        return optimizer
    if isinstance(optimizer, type) or not all(hasattr(optimizer, x) for x in ("init", "update")):
        raise TypeError(
            f"give an optimizer, as optim.Adam(lr=1e-3), or its name; got {optimizer!r}"
        )
    return optimizer
