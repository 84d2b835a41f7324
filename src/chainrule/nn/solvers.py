"""scikit-learn's solvers as optimisers of `optim`, where their arithmetic is another than ours."""

from __future__ import annotations

from typing import Any

from ..circuit import vocabulary as ops
from . import optim
from .schedules import Array, like

__all__ = ["FACTR", "Descent", "UncorrectedAdam", "is_lbfgs"]

FACTR = 2.220446049250313e-09  # SciPy's own for L-BFGS, which scikit-learn leaves as it is


class Descent(optim.SGD):
    """v ← μ·v + lr·g;  p ← p − v. With nesterov=True: p ← p − (μ·v + lr·g).

    SGD whose velocity holds the learning rate, as scikit-learn's does: the two differ only after
    the rate has changed. μ may be 1.
    """

    def __init__(self, lr: Any, momentum: float, nesterov: bool, **bounds: Any) -> None:
        super().__init__(lr, **bounds)
        self.momentum, self.nesterov = float(momentum), bool(nesterov)
        self._slots = ("velocity",) if momentum else ()

    def _move(self, p: Array, g: Array, lr: Any, step: Any, *slots: Array) -> tuple[Array, ...]:
        g = self._decayed(p, g)
        if not slots:
            return (p - lr * g,)
        v = self.momentum * slots[0] + lr * g
        return p - (self.momentum * v + lr * g if self.nesterov else v), v


class UncorrectedAdam(optim.Adam):
    """p ← p − lrₜ·m/(√v + ε) with lrₜ = lr·√(1 − β₂ᵗ)/(1 − β₁ᵗ): ε meets the uncorrected √v.

    Adam as scikit-learn has it, and as the end of section 2 of the paper proposes.
    """

    def _descended(
        self, p: Array, g: Array, lr: Any, step: Any, m: Array, v: Array
    ) -> tuple[Array, ...]:
        b1, b2 = self.betas
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * (g * g)
        size = lr * like((1 - b2**step) ** 0.5, p) / like(1 - b1**step, p)
        return p - size * m / (ops.sqrt(v) + self.eps), m, v


def is_lbfgs(solver: Any) -> bool:
    """Whether a solver takes all rows at once, and so knows no `partial_fit`."""
    return solver == "lbfgs" or bool(getattr(solver, "full_batch", False))
