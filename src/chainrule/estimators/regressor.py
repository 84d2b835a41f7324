"""MLPRegressor: numbers, one or several a row."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import column_or_1d

from .. import nn
from ..circuit import vocabulary as ops
from ..errors import DataError
from .base import MLP, Array, stochastic
from .objective import poisson_deviance, term
from .rows import Rows

__all__ = ["MLPRegressor"]


class MLPRegressor(RegressorMixin, MLP):  # type: ignore[misc]
    """A network for numbers, with scikit-learn's parameters, attributes and loss, and more.

    Everything that scikit-learn's `MLPRegressor` takes means here what it means there. `loss` is
    "squared_error", "poisson", another name in `nn.losses`, or f(prediction, target[,
    sample_weight]); what else is taken beyond it is listed at `MLPClassifier`, all but
    `class_weight` and `calibration`. With several outputs `loss_` is their mean, and what is
    descended is their sum, as there.

    >>> from chainrule.data import load_dataset
    >>> table = load_dataset("diabetes")
    >>> model = MLPRegressor(hidden_layer_sizes=(16,), solver="lbfgs", random_state=0, tol=0.01)
    >>> X = (table.features - table.features.mean(0)) / table.features.std(0)
    >>> y = (table.target - table.target.mean()) / table.target.std()
    >>> model.fit(X, y).score(X, y) > 0.5
    True
    """

    _default_loss = "squared_error"
    _y_numeric = True

    def __init__(
        self,
        loss: Any = "squared_error",
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        *,
        solver: Any = "adam",
        alpha: float = 0.0001,
        batch_size: Any = "auto",
        learning_rate: Any = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: Any = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        dropout: Any = 0.0,
        batch_norm: Any = False,
        init: Any = None,
        weight_decay: float | None = None,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        callbacks: Any = None,
        progress: bool | None = False,
        compile: Any = "auto",
        threads: int | None = None,
    ) -> None:
        self._take(locals())

    # -- targets --------------------------------------------------------------------------------

    def _learn_targets(self, y: Array, fresh: bool, classes: Any) -> None:
        outputs = 1 if y.ndim == 1 else y.shape[1]
        if not fresh and outputs != self.n_outputs_:
            raise DataError(f"y has {outputs} columns, and the network {self.n_outputs_} outputs")
        if self.loss == "poisson" and (y < 0).any():
            raise DataError("loss='poisson' needs y ≥ 0, and y holds a negative number")
        self.n_outputs_ = outputs
        self.out_activation_ = "exp" if self.loss == "poisson" else "identity"

    def _encoded(self, y: Array, dtype: Any) -> Array:
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        return np.asarray(y, dtype).reshape(len(y), -1)

    def _term(self) -> Any:
        if self.loss == "poisson":
            return poisson_deviance
        return term(self.loss, self._default_loss, nn.losses.squared_error)

    @property
    def _reported(self) -> int:  # type: ignore[override]
        return self.n_outputs_ if self.loss == self._default_loss else 1

    def _measured(self, rows: Rows, net: Array) -> float:
        return float(r2_score(rows.targets, self._answer(net), sample_weight=rows.given))

    def _answer(self, net: Array) -> Array:
        return np.asarray(ops.exp(net)) if self.out_activation_ == "exp" else net

    # -- learning and answers -------------------------------------------------------------------

    @available_if(stochastic)  # type: ignore[untyped-decorator]
    def partial_fit(
        self, X: Any, y: Any, sample_weight: Any = None, *, validation_data: Any = None
    ) -> Self:
        """One epoch over these rows, from where the last call ended.

        With `early_stopping`, each call measures on `validation_data`, or on `validation_fraction`
        of its rows that it leaves out; once the score has not improved for `n_iter_no_change`
        calls, the best weights return, `stopped_` is True, and further calls only warn.
        """
        return self._partial_fit(X, y, sample_weight, validation_data)

    def predict(self, X: Any) -> Array:
        """The prediction of each row, (n,), or (n, k) for k outputs."""
        found = self._answer(self._net(X))
        return found.ravel() if found.shape[1] == 1 else found

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
