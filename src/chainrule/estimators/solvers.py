"""The solver that an estimator's parameters name, as an optimiser of `optim`."""

from __future__ import annotations

import copy
from typing import Any

from ..errors import quoted, unknown
from ..nn import optim
from ..nn.solvers import FACTR, Descent, UncorrectedAdam, is_lbfgs

__all__ = ["ADJUSTED", "SCHEDULES", "Descent", "UncorrectedAdam", "is_lbfgs", "optimizer"]

ADJUSTED = ("invscaling", "adaptive")  # learning rates that are set between epochs
SCHEDULES = ("cosine", "one_cycle")  # learning rates that are functions of the step
NAMES = ("lbfgs", *optim.OPTIMIZERS)


def optimizer(estimator: Any, rate: float | None, steps: int) -> Any:
    """The optimiser that an estimator's parameters describe.

    `rate` is the learning rate that an earlier call has come to, or None; `steps` are the updates
    of an epoch. A made optimiser is copied: its own learning rate counts, and its clipping.
    """
    own = estimator
    if not isinstance(own.solver, str):
        made = copy.deepcopy(optim.get(own.solver))
        if rate is not None:
            made.lr = rate
        return made
    if own.solver == "lbfgs":
        return optim.LBFGS(
            max_eval=own.max_fun, tolerance_grad=own.tol, tolerance_change=FACTR,
            weight_decay=own.weight_decay or 0.0,
        )  # fmt: skip
    lr = own.learning_rate_init if rate is None else rate
    if rate is None and (callable(own.learning_rate) or own.learning_rate in SCHEDULES):
        lr = _schedule(own, steps)
    bounds = {"clip_norm": own.clip_norm, "clip_value": own.clip_value}
    if own.weight_decay is not None:
        bounds["weight_decay"] = own.weight_decay
    return _named(own, lr, bounds)


def _named(own: Any, lr: Any, bounds: dict[str, Any]) -> Any:
    betas = (own.beta_1, own.beta_2)
    if own.solver == "sgd":
        return Descent(lr, own.momentum, own.nesterovs_momentum, **bounds)
    if own.solver == "adam":
        return UncorrectedAdam(lr, betas, own.epsilon, **bounds)
    if own.solver == "adamw":
        return optim.AdamW(lr, betas, own.epsilon, **bounds)
    if own.solver not in optim.OPTIMIZERS:
        raise unknown("solver", own.solver, NAMES)
    return optim.OPTIMIZERS[own.solver](lr, **bounds)


def _schedule(own: Any, steps: int) -> Any:
    """A function of the number of updates; the named ones span `max_iter` epochs."""
    if callable(own.learning_rate):
        return own.learning_rate
    made = getattr(optim, own.learning_rate)
    return made(own.learning_rate_init, own.max_iter * steps)


def check(own: Any) -> None:
    """Refuse a solver or a learning rate that is not known."""
    if isinstance(own.solver, str) and own.solver not in NAMES:
        raise unknown("solver", own.solver, NAMES)
    known = ("constant", *ADJUSTED, *SCHEDULES)
    if isinstance(own.learning_rate, str) and own.learning_rate not in known:
        raise unknown("learning_rate", own.learning_rate, known)
    if not isinstance(own.learning_rate, str) and not callable(own.learning_rate):
        raise ValueError(
            f"learning_rate must be a word ({', '.join(known)}) or a schedule of optim, got"
            f" {quoted(own.learning_rate)}; a number goes into learning_rate_init"
        )


def adjusts(own: Any) -> str:
    """The rule that sets the learning rate between epochs, or "constant".

    As in scikit-learn, Adam and L-BFGS take no notice of `learning_rate="adaptive"` and
    "invscaling"; the other solvers do.
    """
    free = own.solver == "adam" or is_lbfgs(own.solver)
    return own.learning_rate if own.learning_rate in ADJUSTED and not free else "constant"
