"""Training by LBFGS: SciPy's L-BFGS-B on the loss of all rows, each iteration an epoch."""

from __future__ import annotations

import contextlib
import importlib
import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..circuit import Tensor, state
from ..errors import ChainruleError, CompileError, DataError, TraceError
from ..gradient import value_and_grad
from ..gradient.backward import seed as first_upstream
from ..nn import Dropout
from ..ops import constant
from .run import Divergence, Loop, Run, scalar
from .tracing import undisturbed

__all__ = ["LBFGSLoop"]

Array = Any
MOST = 2**31 - 1  # what SciPy counts to


class LBFGSLoop(Loop):
    """As `Loop`, with each step found by SciPy's L-BFGS-B: its iterate, and the loss there.

    What `LBFGS` says about its end is `history.stopped`: "converged", "no descent" where its line
    search found no lower loss (as in float32 near a minimum), None after all epochs. The model
    holds an accepted iterate at any time a callback or the user sees it. What SciPy remembers of
    earlier gradients cannot be kept, so a run that is resumed starts over: the path is the same.
    """

    def __init__(self, loop: Loop, compile: bool = True, threads: int | None = None) -> None:
        super().__init__(**{name: getattr(loop, name) for name in Loop.__dataclass_fields__})
        minimizer()  # which may be missing: before any work
        _demand_one_function(self.run)
        self.objective = Objective(self)
        if compile:
            self.history.compiled = self.objective.compile(threads)

    def epochs(self) -> str | None:
        """Every iteration, until the optimiser or somebody else ends it."""
        rule = self.run.optimizer
        limit = min(self.plan.epochs, rule.max_iter or self.plan.epochs)
        start = self.objective.packed(self.run.values())
        try:
            found = minimizer()(
                self.objective,
                start,
                method="L-BFGS-B",
                jac=True,
                callback=self._iterated,
                options={
                    "maxiter": limit,
                    "maxfun": rule.max_eval or MOST,
                    "maxcor": rule.history_size,
                    "gtol": rule.tolerance_grad,
                    "ftol": rule.tolerance_change,
                },
            )
        except _EndedEarly as ended:
            return ended.why
        if not self.history.epochs:  # nothing moved: the start is the iterate, and has its epoch
            with contextlib.suppress(_EndedEarly):
                self._iterated(start)
        if found.status == 0:
            return "converged"
        return "no descent" if found.status == 2 else None

    def _iterated(self, x: Array) -> None:
        """Enter an accepted iterate, and ask who looks whether to go on."""
        run, history = self.run, self.history
        value = self.objective.accept(x)
        run.state = {"step": run.state["step"] + 1}
        epoch = history.epochs + 1
        history.step_loss.append(value)
        self.show.step(epoch, history.steps)
        if stopped := self.asked("on_step", epoch):
            raise _EndedEarly(stopped)
        history.loss.append(value)
        if stopped := self.end_of(epoch):
            raise _EndedEarly(stopped)
        self.keep()


class _EndedEarly(Exception):
    """Leaves SciPy's loop: a callback or the user has ended the run."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class Objective:
    """x ↦ (loss of all rows, its gradient), x all parameters as one vector of float64."""

    def __init__(self, loop: Loop) -> None:
        self.run, self.plan = loop.run, loop.plan
        self.names = list(loop.run.parameters)
        self.buffers = list(dict(loop.run.model.named_buffers()))
        self.evaluate: Callable[..., list[Array]] = self._evaluated
        self.decay = loop.run.optimizer.weight_decay
        self.latest: tuple[Array, float, list[Array]] | None = None  # x, the loss, and the rest
        self.iterate: tuple[Array, float, Array] | None = None  # x, objective, gradient

    def compile(self, threads: int | None) -> str:
        """Evaluate in machine code from here on; "yes", or why that cannot be."""
        from ..compiler import native as machine
        from ..compiler.compiled import compile  # the compiler is loaded when it is needed

        if not machine.available():
            return "no: llvmlite is not installed for this platform"
        made = compile(self._evaluated, strict=True, threads=threads)
        try:
            with undisturbed(self.run), _quiet():
                made(*self._given(self._values(self.packed(self.run.values()))))
        except (TraceError, CompileError) as error:
            warnings.warn(
                f"this model trains in NumPy, not in machine code: {error}. With compile=False this"
                " is not said",
                RuntimeWarning,
                stacklevel=6,
            )
            return f"no: {error}"
        self.evaluate = made
        return "yes"

    def __call__(self, x: Array) -> tuple[float, Array]:
        """The objective and its gradient: with weight decay, where the loss has none.

        A trial that leaves the finite numbers is told as a bowl around the last iterate instead.
        Raises `GradientError` where the start is already outside.
        """
        value, slope = self._decayed(x)
        if not (math.isfinite(value) and np.isfinite(slope).all()):
            if self.iterate is None:
                raise _no_start(value)
            return self._bowl(x, *self.iterate)
        if self.iterate is None:
            self.iterate = x.copy(), value, slope
        return value, slope

    def accept(self, x: Array) -> float:
        """Make x the run's parameters, with the gradients and buffers found there; the loss."""
        run = self.run
        self.iterate = x.copy(), *self._decayed(x)
        loss, rest = self._at(x)
        buffers, slopes = rest[: len(self.buffers)], rest[len(self.buffers) :]
        run.gradients = dict(zip(self.names, slopes, strict=True))
        values = zip(self.names, self._values(x), strict=True)
        run.pending = {name: value.copy() for name, value in values}
        run.model.load_buffers(dict(zip(self.buffers, buffers, strict=True)))
        run.finish()
        return loss

    def _decayed(self, x: Array) -> tuple[float, Array]:
        loss, rest = self._at(x)
        slope = np.concatenate([np.ravel(g) for g in rest[len(self.buffers) :]], dtype=np.float64)
        return loss + 0.5 * self.decay * float(x @ x), slope + self.decay * x

    @staticmethod
    def _bowl(x: Array, centre: Array, low: float, slope: Array) -> tuple[float, Array]:
        """A paraboloid so steep that the line search's next trial is a tenth as far away."""
        away = x - centre
        rise = max(4 * abs(float(slope @ away)), 1e-3 * (1 + abs(low)))
        return low + rise, (2 * rise / float(away @ away)) * away

    def packed(self, arrays: Mapping[str, Array]) -> Array:
        """Arrays by parameter as one vector."""
        return np.concatenate([np.ravel(arrays[name]) for name in self.names], dtype=np.float64)

    def _values(self, x: Array) -> list[Array]:
        """The parameters that the vector holds, each in its own shape and dtype."""
        values, start = [], 0
        for parameter in self.run.parameters.values():
            part = x[start : start + parameter.size].reshape(parameter.shape)
            values.append(part.astype(parameter.dtype, copy=False))
            start += parameter.size
        return values

    def _at(self, x: Array) -> tuple[float, list[Array]]:
        """The loss at x, then the buffers' new values and the gradients; the latest is kept."""
        if self.latest is None or not np.array_equal(self.latest[0], x):
            with _quiet():
                loss, *rest = self.evaluate(*self._given(self._values(x)))
            self.latest = x.copy(), float(loss) + 0.0, rest
        return self.latest[1], self.latest[2]

    def _given(self, values: list[Array]) -> tuple[Any, ...]:
        buffers = [value for _, value in self.run.model.named_buffers()]
        plan = self.plan
        return values, buffers, plan.X, plan.y, plan.weights

    def _evaluated(
        self, values: list[Any], buffers: list[Any], X: Any, y: Any, weights: Any
    ) -> list[Any]:
        """Loss, the buffers' new values, gradients: traced where it is compiled."""
        run, moved = self.run, list[Any]()

        def objective(parameters: list[Any]) -> Any:
            own = dict(zip(self.names, parameters, strict=True))
            own.update(zip(self.buffers, buffers, strict=True))
            with run.model.stepping(own) as after:
                rows = X if isinstance(X, Tensor) else constant(X)
                loss = run.objective(run.model(rows), y, weights)
            moved[:] = [_plain(after[name]) for name in self.buffers]
            if not isinstance(loss, Tensor):
                scalar(loss)  # which says what is wrong
            if loss.size != 1:
                first_upstream(loss)
            return loss

        loss, slopes = value_and_grad(objective)(values)
        return [loss, *moved, *slopes]


def _quiet() -> np.errstate:
    """Within, a trial may leave the finite numbers without a warning."""
    return np.errstate(over="ignore", invalid="ignore", divide="ignore")


def _plain(x: Any) -> Any:
    """A buffer's new value: an array, or the traced tensor where the evaluation is compiled."""
    return x.value if isinstance(x, Tensor) and not state.compiling else x


def minimizer() -> Any:
    """SciPy's `minimize`; `ChainruleError` where SciPy is not installed."""
    try:
        return importlib.import_module("scipy.optimize").minimize
    except ImportError:
        raise ChainruleError(
            "LBFGS needs SciPy: pip install 'chainrule[sklearn]', or train with optimizer=\"adam\""
        ) from None


def _demand_one_function(run: Run) -> None:
    """Refuse dropout: each evaluation would be one of another function."""
    for name, module in run.model.named_modules():
        if isinstance(module, Dropout) and module.p:
            raise DataError(
                f"layer '{name}' is dropout, which makes each evaluation one of another function,"
                ' and LBFGS descends one: set its p to 0, or train with optimizer="adam"'
            )


def _no_start(value: float) -> Divergence:
    return Divergence(
        f"the loss or its gradient is not finite at the start (loss {value:g}): scale the columns"
        " of X, or start from smaller weights; the model is as it was"
    )
