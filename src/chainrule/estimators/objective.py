"""What an estimator minimises, and what it reports of it: scikit-learn's loss, with our parts."""

from __future__ import annotations

from typing import Any

from ..circuit import state
from ..circuit import vocabulary as ops
from ..circuit.state import OFF
from ..nn import losses
from ..nn.rows import log_where, loss, pair, reduced
from .network import affine

__all__ = ["Objective", "poisson_deviance"]


@loss()
def poisson_deviance(
    prediction: Any, target: Any, sample_weight: Any = None, reduction: str = "mean"
) -> Any:
    """Σ y ln(y/ŷ) − y + ŷ on a = ln ŷ, with derivative ŷ − y: half the Poisson deviance.

    `prediction` and `target` are (n,) or (n, k); y = 0 contributes ŷ.

    >>> round(float(poisson_deviance([0.0, 0.0], [1.0, 0.0])), 6)
    0.5

    Source: Nelder and Wedderburn 1972.
    """
    a, y = pair(prediction, target)
    own = y * log_where(ops.not_equal(y, 0), y) - y
    return reduced(ops.exp(a) - y * a + own, 1, sample_weight, reduction)


class Objective:
    """L(prediction, target) + ½α·Σ‖W‖²/n: a loss for `fit` that scikit-learn would report.

    n is the number of rows of the batch, or the sum of their weights; biases are left alone. Where
    nothing is recorded, as on validation rows, it is the data's loss without the penalty.
    `outputs` k > 1 reports 1/k of the data's loss, whose derivative stays that of the sum.
    """

    def __init__(self, model: Any, term: Any, alpha: float, outputs: int = 1) -> None:
        self.model, self.term, self.alpha, self.outputs = model, term, alpha, outputs
        self.takes_labels = getattr(term, "takes_labels", False)
        self.boundary = getattr(term, "boundary", 0.5)

    def __call__(self, prediction: Any, target: Any, sample_weight: Any = None) -> Any:
        weights = {} if sample_weight is None else {"sample_weight": sample_weight}
        found = self.term(prediction, target, **weights)
        if state.group is OFF:
            return found / self.outputs
        if self.outputs > 1:
            found = found + ops.stop_gradient(found / self.outputs - found)
        if not self.alpha:
            return found
        rows = prediction.shape[0] if sample_weight is None else ops.sum(sample_weight)
        return found + 0.5 * self.alpha * self._squares() / rows

    def _squares(self) -> Any:
        """Σ‖W‖². The weights are asked of the model each time: a traced step lends it others."""
        return sum(ops.sum(ops.square(layer.weight)) for layer in affine(self.model))


def term(name: Any, default: str, own: Any) -> Any:
    """The data's part: scikit-learn's word for it, one of `nn.losses`, or a function."""
    return own if isinstance(name, str) and name == default else losses.get(name)
