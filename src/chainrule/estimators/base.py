"""What the classifier and the regressor share: parameters in, `fit`, attributes out."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from .. import nn
from ..errors import DataError
from ..explain import Explanation
from ..explain import explain as explain_gradient
from ..nn.optim import LBFGS
from ..ops import constant
from ..train import fit
from . import solvers
from .coefs import Values
from .listening import CallbackSupport, listening, own, with_callbacks
from .network import affine, build, draw
from .objective import Objective
from .rows import Rows, row_weights, validation
from .settings import check
from .sparse import ROWS, SparseBatches, dense, is_large, parts
from .watch import Record, Rules, Watch

__all__ = ["MLP", "stochastic"]

Array = np.ndarray[Any, Any]


class MLP(CallbackSupport, BaseEstimator):  # type: ignore[misc]
    """A network of `nn` behind scikit-learn's interface; see `MLPClassifier` and `MLPRegressor`."""

    _default_loss: ClassVar[str]
    model_: nn.Sequential
    n_outputs_: int
    _state: dict[str, Any] | None

    def _take(self, parameters: dict[str, Any]) -> None:
        """Keep the constructor's arguments as they are, under their own names."""
        for name, value in parameters.items():
            if name not in ("self", "__class__"):
                setattr(self, name, value)

    # -- what a classifier and a regressor do differently ---------------------------------------

    def _encoded(self, y: Array, dtype: Any) -> Array:
        """Targets as the loss takes them."""
        raise NotImplementedError

    def _term(self) -> Any:
        """The data's part of the loss."""
        raise NotImplementedError

    def _measured(self, rows: Rows, net: Array) -> float:
        """The score that early stopping goes by."""
        raise NotImplementedError

    def _weighted(self, y: Array, given: Array | None, incremental: bool) -> Array | None:
        """The weights of rows for the loss."""
        return given

    def _learn_targets(self, y: Array, fresh: bool, classes: Any) -> None:
        """Take from y what outlasts the call."""
        raise NotImplementedError

    def _stratified(self, rows: Rows) -> Array | None:
        """What a held-out part shall have in the same shares as the rest."""
        return None

    _y_numeric: ClassVar[bool] = False
    _reported: int = 1  # outputs whose loss is reported as a mean

    # -- learning -------------------------------------------------------------------------------

    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, *, validation_data: Any = None
    ) -> Self:
        """Train on X of shape (n, features), dense or sparse, or a data frame, and y.

        `sample_weight` has a weight a row. `validation_data` = (Xv, yv), or with weights as a
        third, are rows to measure on after each epoch: `validation_loss_curve_`, and what
        `early_stopping` goes by, instead of `validation_fraction` of the rows.

        Raises `ValueError` (`DataError` among it) for data or parameters that do not fit, and
        `GradientError`, naming the learning rate, where training diverges.
        """
        self._fit(X, y, sample_weight, validation_data, incremental=False)
        return self

    def _partial_fit(
        self, X: Any, y: Any, sample_weight: Any, validation_data: Any, classes: Any = None
    ) -> Self:
        self._fit(X, y, sample_weight, validation_data, incremental=True, classes=classes)
        return self

    @with_callbacks  # type: ignore[untyped-decorator]
    def _fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        validation_data: Any,
        incremental: bool,
        classes: Any = None,
    ) -> None:
        units = check(self)
        fresh = not hasattr(self, "model_") or not (self.warm_start or incremental)
        X, y = self._checked(X, y, reset=fresh)
        self._learn_targets(y, fresh, classes)
        given = row_weights(sample_weight, X)
        rows = Rows(X, self._encoded(y, X.dtype), self._weighted(y, given, incremental), given)
        self._random_state = check_random_state(self.random_state)
        self._prepare([X.shape[1], *units, self.n_outputs_], X.dtype, fresh)
        if incremental and self._record.stopped:
            warnings.warn(
                "training has stopped early and the best weights are back: this partial_fit did"
                " nothing. Stop calling it where stopped_ is True, or call fit to begin again",
                ConvergenceWarning,
                stacklevel=5,
            )
            return
        training, held_out = self._parted(rows, validation_data, incremental)
        self._train(training, held_out, 1 if incremental else self.max_iter, incremental)

    def _checked(self, X: Any, y: Any, reset: bool) -> tuple[Any, Array]:
        """X and y as arrays; X in float64 or float32, dense or as rows of a sparse matrix."""
        X, y = validate_data(
            self, X, y, accept_sparse=["csr"], multi_output=True, y_numeric=self._y_numeric,
            dtype=(np.float64, np.float32), reset=reset,
        )  # fmt: skip
        return X, np.asarray(y.todense() if hasattr(y, "todense") else y)

    def _prepare(self, units: list[int], dtype: Any, fresh: bool) -> None:
        """The network and the record, made or gone on with."""
        old = None if fresh else self.model_
        dtype = np.dtype(dtype) if old is None else old.dtype
        model = build(units, self.activation, self.dropout, self.batch_norm, dtype)
        if old is None:
            draw(model, self._random_state, self.activation, self.init)
            self.model_, self._record, self._state = model, Record(), None
            self.n_layers_, self.t_ = len(units), 0
        elif repr(model) != repr(old):
            values, wanted = old.state_dict().values(), model.state_dict()
            if [v.shape for v in values] != [v.shape for v in wanted.values()]:
                raise DataError(
                    f"the network that is gone on with has layers of {self._widths()} units, the"
                    f" parameters and data now ask for {units}; set warm_start=False, or call fit"
                    " on a clone"
                )
            model.load_state_dict(dict(zip(wanted, values, strict=True)))
            self.model_, self._state = model, None

    def _widths(self) -> list[int]:
        layers = affine(self.model_)
        return [layers[0].in_features, *[len(c[0]) for c in self.coefs_]]

    def _parted(
        self, rows: Rows, validation_data: Any, incremental: bool
    ) -> tuple[Rows, Rows | None]:
        """The rows to learn from, and those to measure on, where there are any."""
        if validation_data is not None:
            return rows, self._given_rows(validation_data)
        if not self.early_stopping and self._calibration is None:
            return rows, None
        random: Any = self._random_state
        if incremental:  # the same rows each time that the same table comes
            if not hasattr(self, "_split_seed"):
                self._split_seed = int(random.randint(2**31 - 1))
            random = self._split_seed
        kept, out = train_test_split(
            np.arange(rows.X.shape[0]), random_state=random, test_size=self.validation_fraction,
            stratify=self._stratified(rows),
        )  # fmt: skip
        if len(out) < 2:
            raise DataError(
                "the validation set is too small: increase validation_fraction or the number of"
                " rows, or give validation_data"
            )
        return rows.take(kept), rows.take(out)

    def _given_rows(self, data: Any) -> Rows:
        if not isinstance(data, (tuple, list)) or len(data) not in (2, 3):
            raise DataError("validation_data must be a pair (Xv, yv), or (Xv, yv, sample_weight)")
        X, y = self._checked(data[0], data[1], reset=False)
        given = row_weights(data[2] if len(data) == 3 else None, X)
        return Rows(X, self._encoded(y, X.dtype), self._weighted(y, given, False), given)

    def _train(self, rows: Rows, held_out: Rows | None, epochs: int, incremental: bool) -> None:
        """One call of `fit`, and its results in the attributes."""
        count = rows.X.shape[0]
        size = self._batch(count)
        record, steps = self._record, -(-count // size)
        rule = solvers.optimizer(self, record.rate if incremental else None, steps)
        if not incremental:
            record.rate, record.stopped = None, False
        scored = held_out if self.early_stopping else None
        rules = self._rules(rule)
        watch = Watch(record, rules, rule, count, self._score_on(scored) if scored else None)
        seed = self._seed()
        callbacks = [watch, *listening(self, rows, epochs), *own(self.callbacks)]
        stopped = None
        try:
            with np.errstate(over="ignore", invalid="ignore"):  # a GradientError says it better
                history = fit(
                    self.model_,
                    **self._data(rows, size, seed),
                    # Curvature is told by values too: they must be those of what is descended.
                    loss=self._objective(self._reported if watch.rules.stops else 1),
                    optimizer=rule,
                    epochs=epochs,
                    validation_data=validation(held_out),
                    seed=seed,
                    callbacks=callbacks,
                    progress=self.progress,
                    compile=self._compiled(epochs * steps, size),
                    threads=self.threads,
                    state=self._state if incremental else None,
                )
            stopped, self._state = history.stopped, history.state
        finally:
            self._enter(watch)
        if watch.rules.stops is False and self._reported > 1:  # what is descended is the sum
            self.loss_ = float(self._loss(rows, self._reported))
        self._finish(watch, stopped, epochs, incremental)
        if self._calibration is not None:
            self._calibrate(held_out)

    def _data(self, rows: Rows, size: int, seed: int) -> dict[str, Any]:
        """Arrays for `fit`; or batches, where X is sparse and large and the solver takes them."""
        if is_large(rows.X) and not solvers.is_lbfgs(self.solver):
            batches = SparseBatches(rows.X, rows.targets, rows.weight, size, self.shuffle, seed)
            return {"X": batches}
        return {
            "X": dense(rows.X), "y": rows.targets, "sample_weight": rows.weight,
            "batch_size": size, "shuffle": self.shuffle,
        }  # fmt: skip

    def _batch(self, count: int) -> int:
        """The rows of a batch; with batch_norm no batch has only one."""
        if self.batch_size == "auto":
            size = min(200, count)
        else:
            size = min(self.batch_size, count)
            if self.batch_size > count:
                warnings.warn(
                    f"batch_size={self.batch_size} is more than the {count} rows: one batch holds"
                    " them all",
                    stacklevel=6,
                )
        if np.any(self.batch_norm):
            size = min(max(size, 2), count)
            while count % size == 1 and size < count:
                size += 1
        return size

    def _rules(self, rule: Any) -> Rules:
        lr = getattr(rule, "lr", 0.0)
        start = self.learning_rate_init if isinstance(self.solver, str) else lr
        adjusted = solvers.adjusts(self)
        if adjusted != "constant" and callable(lr):
            raise ValueError(
                f"learning_rate={adjusted!r} sets the rate between epochs, and the solver's own is"
                " a schedule; leave one of them out"
            )
        return Rules(
            self.tol, self.n_iter_no_change, adjusted, start, self.power_t,
            stops=not isinstance(rule, LBFGS), verbose=bool(self.verbose),
        )  # fmt: skip

    def _objective(self, outputs: int) -> Objective:
        return Objective(self.model_, self._term(), self.alpha, outputs)

    def _loss(self, rows: Rows, outputs: int = 1) -> Any:
        """The loss of these rows with its circuit; of several outputs the sum, or their mean."""
        X = constant(dense(rows.X).astype(self.model_.dtype, copy=False), "X")
        return self._objective(outputs)(self.model_(X), rows.targets, rows.weight)

    def _seed(self) -> int:
        """For the order of rows and for dropout; each call of partial_fit has another."""
        return (int(self._random_state.randint(2**31 - 1)) + self.t_) % 2**32

    def _compiled(self, steps: int, size: int) -> bool:
        """Whether machine code is worth its compilation: by what the steps would take in NumPy."""
        if self.compile != "auto":
            return bool(self.compile)
        weights = sum(p.size for p in self.model_.parameters())
        step = STEP * len(list(self.model_.modules())) + 6 * weights * size / FLOPS
        # Few of the iterations that L-BFGS may take are taken, each with all rows in its products.
        worth = 10 * WORTH if solvers.is_lbfgs(self.solver) else WORTH
        return steps * step > worth

    # -- what is left ---------------------------------------------------------------------------

    def _enter(self, watch: Watch) -> None:
        """The attributes that say how the run went, whichever way it ended."""
        record = self._record
        self.n_iter_ = watch.epochs
        self.t_ = record.rows
        self.loss_curve_ = record.loss_curve
        self.validation_loss_curve_ = record.validation_loss_curve or None
        if record.loss_curve:
            self.loss_ = record.loss_curve[-1]
        if not watch.rules.stops:
            return
        early = self.early_stopping
        self.best_loss_ = None if early else record.best_loss
        self.validation_scores_ = record.validation_scores if early else None
        self.best_validation_score_ = record.best_score if early else None

    def _finish(self, watch: Watch, stopped: str | None, epochs: int, incremental: bool) -> None:
        """Best weights back, and the warnings that scikit-learn gives."""
        record = self._record
        record.stopped = watch.ended and self.early_stopping
        self.stopped_ = watch.ended or stopped == "callback"
        if record.best and (watch.ended or not incremental):
            self.model_.load_state_dict(record.best)
        if stopped == "interrupted":
            warnings.warn("Training interrupted by user.", stacklevel=6)
        elif not watch.rules.stops and stopped in (None, "no descent"):
            self._warn_lbfgs(stopped, epochs)
        elif stopped is None and watch.rules.stops and not incremental:
            warnings.warn(
                f"Stochastic Optimizer: Maximum iterations ({epochs}) reached and the optimization"
                " hasn't converged yet. Raise max_iter, or scale the columns of X",
                ConvergenceWarning,
                stacklevel=6,
            )

    def _warn_lbfgs(self, stopped: str | None, epochs: int) -> None:
        end = "its line search found no lower loss" if stopped else (
            f"max_iter={epochs} iterations" if self.n_iter_ >= epochs
            else f"max_fun={self.max_fun} evaluations"
        )  # fmt: skip
        warnings.warn(
            f"lbfgs failed to converge after {self.n_iter_} iterations: {end}. Raise max_iter or"
            " max_fun, or scale the columns of X",
            ConvergenceWarning,
            stacklevel=7,
        )

    def _score_on(self, rows: Rows) -> Any:
        X = dense(rows.X)

        def score(model: Any) -> float:
            net = model.predict(X, batch_size=ROWS)
            return self._measured(rows, net) if np.isfinite(net).all() else math.nan

        return score

    @property
    def _calibration(self) -> Any:
        return getattr(self, "calibration", None)

    def _calibrate(self, held_out: Rows | None) -> None:
        raise NotImplementedError

    # -- scikit-learn's names for the weights -----------------------------------------------------

    @property
    def coefs_(self) -> list[Array]:
        """The weights of each layer, of shape (in, out): `model_`'s transposed, read-only.

        Assign an array to an element, or a list to the attribute, to change the network.
        """
        return Values(self._layers("coefs_"), "weight")

    @coefs_.setter
    def coefs_(self, values: Sequence[Any]) -> None:
        Values(self._layers("coefs_"), "weight").replace(values)

    @property
    def intercepts_(self) -> list[Array]:
        """The biases of each layer, of shape (out,): those of `model_`, read-only."""
        return Values(self._layers("intercepts_"), "bias")

    @intercepts_.setter
    def intercepts_(self, values: Sequence[Any]) -> None:
        Values(self._layers("intercepts_"), "bias").replace(values)

    def _layers(self, name: str) -> list[Any]:
        if "model_" not in vars(self):
            raise AttributeError(f"this {type(self).__name__} has no {name} before it is fitted")
        return affine(self.model_)

    # -- answers --------------------------------------------------------------------------------

    def _net(self, X: Any) -> Array:
        """The network's raw outputs, of shape (n, outputs)."""
        check_is_fitted(self)
        X = validate_data(
            self, X, accept_sparse=["csr"], dtype=(np.float64, np.float32), reset=False
        )
        found = [self.model_.predict(part) for part in parts(X)]
        return found[0] if len(found) == 1 else np.concatenate(found)

    def explain(
        self, X: Any, y: Any, wrt: Any = None, *, sample_weight: Any = None, **how: Any
    ) -> Explanation:
        """The derivation of ∂loss/∂`wrt` of the fitted network on these rows, penalty and all.

        `wrt` is a parameter's name, "W1", or one element's, "W1[3,2]": the weight from input 2 to
        unit 3 of the first layer, `coefs_[0][2, 3]`. Further arguments go to `chainrule.explain`.

        >>> import numpy as np
        >>> from chainrule.estimators import MLPRegressor
        >>> X, y = np.array([[0.0], [1.0], [2.0]]), np.array([1.0, 3.0, 5.0])
        >>> model = MLPRegressor(solver="lbfgs", tol=0.5, random_state=0).fit(X, y)
        >>> print(model.explain(X, y, "b2[0]"))  # doctest: +ELLIPSIS
        loss by b2...
        """
        check_is_fitted(self)
        X, y = self._checked(X, y, reset=False)
        given = row_weights(sample_weight, X)
        weight = self._weighted(y, given, incremental=False)
        loss = self._loss(Rows(X, self._encoded(y, X.dtype), weight, given))
        loss.name = "loss"
        return explain_gradient(loss, wrt, **how)

    def save(self, path: Any, *, overwrite: bool = True) -> None:
        """Write the fitted network to a .safetensors file, which `chainrule.load` reads.

        It holds `model_`: architecture and weights. Classes and parameters are the estimator's,
        which pickle and joblib keep.
        """
        check_is_fitted(self)
        self.model_.save(path, overwrite=overwrite)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


# Measured on two cores: what the interpreter takes for a layer's part of a step, what NumPy's
# products do a second, and what a compilation costs, between one from the cache and one from cold.
STEP, FLOPS, WORTH = 200e-6, 2e10, 0.15


def stochastic(estimator: Any) -> bool:
    """Whether there is a `partial_fit`; `AttributeError` with the reason where there is none."""
    if solvers.is_lbfgs(estimator.solver):
        raise AttributeError(
            f"partial_fit is only available for stochastic optimizers; {estimator.solver} takes all"
            " rows at once. Choose solver='adam' or 'sgd'"
        )
    return True
