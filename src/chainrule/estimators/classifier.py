"""MLPClassifier: logits, and the classes and probabilities that are read off them."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets, type_of_target, unique_labels
from sklearn.utils.validation import column_or_1d

from .. import nn
from ..circuit import vocabulary as ops
from ..errors import DataError, listed, quoted
from .base import MLP, Array, stochastic
from .calibration import temperature
from .objective import term
from .rows import Rows

__all__ = ["MLPClassifier"]


class MLPClassifier(ClassifierMixin, MLP):  # type: ignore[misc]
    """A network for classes, with scikit-learn's parameters, attributes and loss, and more.

    Everything that scikit-learn's `MLPClassifier` takes means here what it means there. Beyond it:

    * `loss`: "log_loss", a name in `nn.losses`, or f(logits, targets[, sample_weight]).
    * `activation`: any of `nn`'s by name or as a layer, or a list with one for each hidden layer.
    * `solver`: also "adamw", "rmsprop", "adagrad", or one of `optim` as it is made, with its own
      learning rate.
    * `learning_rate`: also "cosine" or "one_cycle" over `max_iter` epochs, or one of
      `optim`'s schedules.
    * `class_weight`: None, "balanced", or a dict from class to weight.
    * `dropout`, `batch_norm`: one for all hidden layers, or a list.
    * `init`: a name in `nn.initializers`; None starts as scikit-learn does, from the same draws.
    * `weight_decay`, `clip_norm`, `clip_value`: the solver's. `alpha` is a part of the loss.
    * `calibration`: "temperature" makes `predict_proba` fit held-out rows (`temperature_`).
    * `callbacks`, `progress`, `compile` (True, False, or "auto": where it pays), `threads`: as in
      `chainrule.fit`.

    Attributes are scikit-learn's, and `model_`, an `nn.Sequential` that ends with logits;
    `validation_loss_curve_`; `stopped_`, whether training ended early.

    >>> from chainrule.data import load_dataset
    >>> iris = load_dataset("iris")
    >>> model = MLPClassifier((16,), solver="lbfgs", random_state=0, max_iter=1000)
    >>> model.fit(iris.features, iris.target).score(iris.features, iris.target) > 0.97
    True
    """

    _default_loss = "log_loss"

    def __init__(
        self,
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
        loss: Any = "log_loss",
        class_weight: Any = None,
        dropout: Any = 0.0,
        batch_norm: Any = False,
        init: Any = None,
        weight_decay: float | None = None,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        calibration: str | None = None,
        callbacks: Any = None,
        progress: bool | None = False,
        compile: Any = "auto",
        threads: int | None = None,
    ) -> None:
        self._take(locals())

    # -- targets --------------------------------------------------------------------------------

    def _learn_targets(self, y: Array, fresh: bool, classes: Any) -> None:
        y = _column(y, warn=True)
        kind = _kind(y)
        if fresh or not hasattr(self, "classes_"):
            self._multilabel = kind.startswith("multilabel")
            self.classes_ = self._first_classes(y, classes)
            few = len(self.classes_) <= 2 and not self._multilabel
            self.n_outputs_ = 1 if few else len(self.classes_)
            self.out_activation_ = "logistic" if few or self._multilabel else "softmax"
        elif self._multilabel and (y.ndim != 2 or y.shape[1] != len(self.classes_)):
            raise DataError(f"y must have {len(self.classes_)} columns of 0 and 1, as before")
        elif not self._multilabel:
            self._demand_known(y, classes)

    def _first_classes(self, y: Array, classes: Any) -> Array:
        if self._multilabel:
            return np.arange(y.shape[1])
        found = unique_labels(y) if classes is None else unique_labels(np.asarray(classes))
        self._demand_among(y, found)
        return np.asarray(found)

    def _demand_known(self, y: Array, classes: Any) -> None:
        if classes is not None and not np.array_equal(unique_labels(classes), self.classes_):
            raise DataError(
                f"classes is not the same as on the last call: {_words(classes)}, before"
                f" {_words(self.classes_)}"
            )
        if self.warm_start and not np.array_equal(unique_labels(y), self.classes_):
            raise DataError(
                "warm_start can only be used where `y` has the same classes as in the previous"
                f" call to fit: previously {_words(self.classes_)}, now {_words(np.unique(y))}"
            )
        self._demand_among(y, self.classes_)

    @staticmethod
    def _demand_among(y: Array, classes: Array) -> None:
        odd = np.setdiff1d(y, classes)
        if len(odd):
            raise DataError(
                f"`y` has classes not in `self.classes_`: {_words(odd)}; known are"
                f" {_words(classes)}"
            )

    def _encoded(self, y: Array, dtype: Any) -> Array:
        y = _column(y)
        if self._multilabel:
            return np.asarray(y, dtype)
        if self.n_outputs_ == 1:
            second = (y == self.classes_[-1]) & (len(self.classes_) > 1)
            return np.asarray(second, dtype)[:, None]
        places: Array = np.searchsorted(self.classes_, y)
        return places

    def _term(self) -> Any:
        softmax = self.out_activation_ == "softmax"
        own = nn.losses.softmax_cross_entropy if softmax else nn.losses.logistic
        return term(self.loss, self._default_loss, own)

    def _weighted(self, y: Array, given: Array | None, incremental: bool) -> Array | None:
        if self.class_weight is None:
            return given
        if incremental and isinstance(self.class_weight, str):
            raise ValueError(
                f"class_weight={self.class_weight!r} needs all rows at once, which partial_fit has"
                " not; give a dict from sklearn.utils.class_weight.compute_class_weight"
            )
        found: Array = compute_sample_weight(self.class_weight, _column(y))
        return found if given is None else found * given

    def _stratified(self, rows: Rows) -> Array | None:
        binary = self.n_outputs_ == 1 and not self._multilabel
        return rows.targets[:, 0] if binary else None

    def _measured(self, rows: Rows, net: Array) -> float:
        chosen = self._chosen(net)
        truth = rows.targets[:, 0] if net.shape[1] == 1 and not self._multilabel else rows.targets
        return float(accuracy_score(truth, chosen, sample_weight=rows.given))

    def _chosen(self, net: Array) -> Array:
        """Numbers of classes, or 0 and 1 for each label."""
        if self.out_activation_ == "softmax":
            best: Array = net.argmax(axis=1)
            return best
        chosen: Array = (net > 0).astype(int)
        return chosen if self._multilabel else chosen[:, 0]

    # -- learning -------------------------------------------------------------------------------

    @available_if(stochastic)  # type: ignore[untyped-decorator]
    def partial_fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        classes: Any = None,
        *,
        validation_data: Any = None,
    ) -> Self:
        """One epoch over these rows, from where the last call ended.

        The first call needs all `classes` (for labels in columns it need not say them). With
        `early_stopping`, each call measures on `validation_data`, or on `validation_fraction` of
        its rows that it leaves out; once the score has not improved for `n_iter_no_change` calls,
        the best weights return, `stopped_` is True, and further calls only warn.
        """
        first = classes is None and not hasattr(self, "classes_")
        if first and not type_of_target(y).startswith("multilabel"):
            raise ValueError("classes must be passed on the first call to partial_fit.")
        return self._partial_fit(X, y, sample_weight, validation_data, classes)

    def _calibrate(self, held_out: Rows | None) -> None:
        if self.calibration != "temperature":
            raise ValueError(
                f"calibration must be None or 'temperature', got {quoted(self.calibration)}; for"
                " other ways put the estimator into sklearn.calibration.CalibratedClassifierCV"
            )
        assert held_out is not None
        net = self._net(held_out.X)
        self.temperature_ = temperature(self._term(), net, held_out.targets, held_out.weight)

    # -- answers --------------------------------------------------------------------------------

    def predict(self, X: Any) -> Array:
        """The class of each row, or 0 and 1 for each label."""
        chosen = self._chosen(self._net(X))
        return chosen if self._multilabel else self.classes_[chosen * (len(self.classes_) > 1)]

    def predict_proba(self, X: Any) -> Array:
        """The probability of each class, columns as in `classes_`; calibrated if asked for."""
        net = self._net(X) / getattr(self, "temperature_", 1.0)
        if self.out_activation_ == "softmax":
            return np.asarray(ops.softmax(net))
        p = np.asarray(ops.sigmoid(net))
        return p if self._multilabel and p.shape[1] > 1 else np.hstack([1 - p, p])

    def predict_log_proba(self, X: Any) -> Array:
        """ln `predict_proba`, without rounding small ones to −∞."""
        net = self._net(X) / getattr(self, "temperature_", 1.0)
        if self.out_activation_ == "softmax":
            return np.asarray(ops.log_softmax(net))
        p = -np.asarray(ops.softplus(-net))
        if self._multilabel and p.shape[1] > 1:
            return p
        return np.hstack([-np.asarray(ops.softplus(net)), p])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


def _words(classes: Any) -> str:
    return listed(np.asarray(classes).tolist())


def _column(y: Array, warn: bool = False) -> Array:
    return column_or_1d(y, warn=warn) if y.ndim == 2 and y.shape[1] == 1 else y


def _kind(y: Array) -> str:
    check_classification_targets(y)
    kind = str(type_of_target(y))
    if kind == "multiclass-multioutput":
        raise DataError(
            "y has several columns of classes; give columns of 0 and 1, or put the estimator into"
            " sklearn.multioutput.MultiOutputClassifier"
        )
    return kind
