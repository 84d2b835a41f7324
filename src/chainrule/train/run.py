"""A training run: which rows are visited when, the step, what is measured, the loop of epochs."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..circuit import Parameter, Tensor, no_grad
from ..errors import GradientError
from ..gradient import flow_back
from ..gradient.backward import seed as first_upstream
from ..nn import Module
from ..ops import constant
from .callbacks import Callbacks, Moment
from .history import History
from .metrics import measured
from .progress import Silent

__all__ = [
    "Divergence",
    "Gauges",
    "Interrupt",
    "Loop",
    "Plan",
    "Run",
    "diverged",
    "interruptible",
    "moment",
    "scalar",
]

Array = Any
Batch = tuple[Array, Array, Array | None]  # X, y, and a weight a row where there are weights


@dataclass
class Plan:
    """Which rows are visited when."""

    measured: ClassVar[bool] = True  # whether metrics are read on these rows after an epoch

    X: Array
    y: Array
    size: int
    epochs: int
    shuffle: bool
    seed: int
    weights: Array | None = None

    @property
    def rows(self) -> int:
        """The number of rows an epoch."""
        return len(self.X)

    @property
    def steps(self) -> int:
        """The number of batches an epoch."""
        return -(-self.rows // self.size)

    @property
    def expected(self) -> int:
        """As `steps`, or 0 where it is not known yet: what a display goes by."""
        return self.steps

    @property
    def whole(self) -> bool:
        """Whether one batch holds all rows."""
        return self.size == len(self.X)

    def order(self, epoch: int) -> Array:
        """The order in which an epoch visits the rows, where it is shuffled."""
        return np.random.default_rng([self.seed, 10000 + epoch]).permutation(len(self.X))

    def batch(self, epoch: int, place: int) -> Batch:
        """One batch of an epoch."""
        with closing(self.batches(epoch, place)) as batches:
            return next(batches)

    def batches(self, epoch: int, first: int = 0) -> Generator[Batch, None, None]:
        """The rows of an epoch, batch by batch, from the batch `first` (from 0) on."""
        n, size = len(self.X), self.size
        if size == n:
            if first == 0:
                yield self.X, self.y, self.weights
            return
        order = self.order(epoch) if self.shuffle else None
        for start in range(first * size, n, size):
            rows = slice(start, start + size)
            yield (
                self._take(self.X, rows, order),
                self._take(self.y, rows, order),
                self._take(self.weights, rows, order),
            )

    @staticmethod
    def _take(array: Any, rows: slice, order: Any) -> Any:
        if order is None or array is None:
            return None if array is None else array[rows]
        part = array.take(order[rows], axis=0)
        part.flags.writeable = False  # nobody else holds it: the circuit need not copy it
        return part


class Run:
    """The step and what it moves: parameters, buffers and the optimiser's state."""

    def __init__(self, model: Any, loss: Any, optimizer: Any, state: dict[str, Any] | None) -> None:
        if not isinstance(model, Module):
            raise TypeError(
                f"fit trains a model of chainrule.nn, as nn.Sequential(…), not a"
                f" {type(model).__name__}"
            )
        self.model, self.loss, self.optimizer = model, loss, optimizer
        self.parameters: dict[str, Parameter] = dict(model.named_parameters())
        if not self.parameters:
            raise ValueError(f"{type(model).__name__} has no parameters to train")
        self.wanted = frozenset(self.parameters.values())
        self.state = optimizer.init(self.values()) if state is None else state
        self.full_batch = bool(getattr(optimizer, "full_batch", False))
        # A method that keeps its memory to itself is gone on with by doing the same again.
        buffers = dict(model.named_buffers())
        self.beginning = {**self.values(), **buffers} if self.full_batch else {}
        self.has_buffers = any(True for _ in model.named_buffers())
        self.gradients: Any = {}  # the last step's by name, or a function that finds them
        self.earlier: dict[str, Array] = {}  # the values of the last step with a finite loss
        self.pending: dict[str, Array] = {}  # an update that is being written

    def step(self, X: Array, y: Array, weights: Array | None = None) -> float:
        """Forward, backward, update; the loss before the update, nan or inf without one."""
        before = self.values()
        kept = {**before, **dict(self.model.named_buffers())} if self.has_buffers else before
        loss = self.objective(self.model(constant(X)), y, weights)
        value = scalar(loss)
        if not math.isfinite(value):
            self._restore(self.earlier or kept)
            return value
        self.earlier = kept
        found = flow_back(loss, first_upstream(loss), wanted=self.wanted)
        self.gradients = {
            name: found[p] if p in found else np.zeros_like(p.value)
            for name, p in self.parameters.items()
        }
        after, state = self.optimizer.update(before, self.gradients, self.state)
        self.state, self.pending = state, after
        self.finish()
        return value

    def objective(self, prediction: Any, y: Array, weights: Array | None) -> Any:
        """The loss of a batch: Σ w·l / Σ w over its rows where they are weighted."""
        if weights is None:
            return self.loss(prediction, y)
        return self.loss(prediction, y, sample_weight=weights)

    def finish(self) -> None:
        """Write the update that is pending; after an interrupt, the rest of it."""
        for name, value in self.pending.items():
            self.parameters[name].rebind(value)
        self.pending = {}

    def went_wrong(self) -> bool:
        """Whether the last update left a parameter that is not finite; if so, it is undone."""
        if all(np.isfinite(p.value).all() for p in self.parameters.values()):
            return False
        self._restore(self.earlier)
        return True

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within, the model has the averages of its weights, where the optimiser keeps them."""
        averages = self.averages()
        before = self.values()
        self._restore(averages)
        try:
            yield
        finally:
            if averages:
                self._restore(before)

    def averages(self) -> dict[str, Array]:
        """The weights that the run is judged by and ends with, where they are others."""
        found = getattr(self.optimizer, "averages", None)
        return (found(self.state) or {}) if found is not None else {}

    def settle(self) -> None:
        """Give the model the weights that the run ends with."""
        self._restore(self.averages())

    def values(self) -> dict[str, Array]:
        """The parameters' values by name."""
        return {name: p.value for name, p in self.parameters.items()}

    def _restore(self, values: dict[str, Array]) -> None:
        if len(values) > len(self.parameters):
            self.model.load_state_dict(values)
            return
        for name, value in values.items():
            self.parameters[name].rebind(value)


def scalar(loss: Any) -> float:
    """The loss as a number; `TypeError` where a loss returned no tensor."""
    if not isinstance(loss, Tensor):
        raise TypeError(
            f"the loss returned {type(loss).__name__}, not a tensor; write it in chainrule's or"
            " NumPy's functions of the prediction, so that it can be differentiated"
        )
    value = loss.value
    return float(value if value.size == 1 else np.sum(value)) + 0.0  # −0 would look odd


class Gauges:
    """What is measured after each epoch."""

    def __init__(
        self, run: Run, plan: Plan, held_out: Any, metrics: dict[str, Any], chunk: int
    ) -> None:
        self.run, self.plan, self.held_out = run, plan, held_out
        self.metrics, self.chunk = metrics, chunk

    @property
    def wanted(self) -> bool:
        """Whether there is anything to measure."""
        return bool(self.metrics) or self.held_out is not None

    def read(self, history: History) -> None:
        """Append this epoch's numbers."""
        if self.metrics and self.plan.measured:
            self._read(history, "", self.plan.X, self.plan.y)
        if self.held_out is not None:
            X, y, weights = self.held_out
            prediction = self._read(history, "val_", X, y)
            with no_grad():
                loss = self.run.objective(constant(prediction), y, weights)
            history.val_loss.append(scalar(loss))

    def _read(self, history: History, prefix: str, X: Array, y: Array) -> Array:
        prediction = self.run.model.predict(X, batch_size=self.chunk)
        for name, metric in self.metrics.items():
            values = history.metrics.setdefault(prefix + name, [])
            values.append(measured(name, metric, prediction, y))
        return prediction


@dataclass
class Loop:
    """Epochs of steps; each method says why the run ended early, or None."""

    run: Run
    plan: Plan
    gauges: Gauges
    callbacks: Callbacks
    show: Silent
    history: History
    interrupt: Interrupt
    checkpoint: Any = None
    began: float = 0.0  # what `time.perf_counter` said then

    def epochs(self) -> str | None:
        """Every epoch from where the history ends."""
        for epoch in range(self.history.epochs + 1, self.plan.epochs + 1):
            if stopped := self.steps(epoch) or self.end_of(epoch):
                return stopped
            self.keep()
        return None

    def steps(self, epoch: int) -> str | None:
        """Every batch of an epoch that is not done yet, and its mean loss over rows."""
        run, history, stopped = self.run, self.history, None
        with closing(self.plan.batches(epoch, self.done_of(epoch))) as batches:
            for X, y, weights in batches:
                value = run.step(X, y, weights)
                if not math.isfinite(value):
                    raise diverged(run, f"the loss is {value}", history.steps + 1, epoch)
                history.step_loss.append(value)
                self.show.step(epoch, history.steps)
                if stopped := self.asked("on_step", epoch):
                    break
                if not self.closing:  # else it is kept when the epoch is closed
                    self.keep()
        return self.close(epoch, stopped)

    def done_of(self, epoch: int) -> int:
        """How many batches of the epoch under way are done."""
        return self.history.steps - ((epoch - 1) * self.plan.steps if epoch > 1 else 0)

    def close(self, epoch: int, stopped: str | None) -> str | None:
        """Enter an epoch's mean loss unless it was cut short; why it was."""
        if self.went_wrong():
            raise diverged(self.run, "a parameter is not finite", self.history.steps, epoch)
        if stopped is None:
            self.history.loss.append(self.mean(epoch))
        return stopped

    def went_wrong(self) -> bool:
        """Whether the last update left a parameter that is not finite; if so, it is undone."""
        return self.run.went_wrong()

    def mean(self, epoch: int) -> float:
        """The row-weighted mean of an epoch's losses."""
        plan, total = self.plan, 0.0
        for k, value in enumerate(self.history.step_loss[(epoch - 1) * plan.steps :]):
            total += value * min(plan.size, plan.rows - k * plan.size)
        return total / plan.rows

    def end_of(self, epoch: int) -> str | None:
        """What an epoch is measured by, and who is told."""
        with self.run.averaged():
            self.gauges.read(self.history)
            self.show.epoch(epoch, self.history.last())
            return self.asked("on_epoch", epoch)

    def keep(self) -> None:
        """Save a checkpoint where one is due."""
        if self.checkpoint is not None and self.checkpoint.due:
            self.ready()
            self.save()

    def ready(self) -> None:
        """Bring the run's own values up to date, where a program has newer ones."""

    def save(self) -> None:
        """Save a checkpoint, if there shall be any."""
        if self.checkpoint is not None:
            seconds = time.perf_counter() - self.began
            self.checkpoint.save(self.run, self.history, self.callbacks.all, seconds)

    def asked(self, event: str, epoch: int) -> str | None:
        """Whether a callback or Ctrl-C ends the run."""
        if self.callbacks.methods[event] and self.callbacks.tell(
            event, moment(self.run, self.history, epoch, self.plan)
        ):
            return "callback"
        if not self.interrupt.asked:
            return None
        if event == "on_step" and self.closing:
            return None  # the epoch is closed first
        return "interrupted"

    @property
    def closing(self) -> bool:
        """Whether the last step was the last of its epoch, as far as that is known."""
        steps = self.plan.expected
        return steps > 0 and self.history.steps % steps == 0


def moment(run: Run, history: History, epoch: int, plan: Plan) -> Moment:
    """What callbacks are told after the step that the history ends with."""
    last = history.step_loss[-1] if history.step_loss else math.nan
    return Moment(
        run.model, history, epoch, history.steps, last, run.gradients, run.optimizer, run.loss, plan
    )


class Divergence(GradientError):
    """A run has left the finite numbers."""


def diverged(run: Run, what: str, step: int, epoch: int) -> Divergence:
    """The error of a run that has left the finite numbers, with what to do about it."""
    if step == 1 and what.startswith("the loss"):  # nothing was updated: no rate is to blame
        return Divergence(
            f"{what} at step 1, before any update: training diverged. Look at the loss (log of 0, a"
            " division), at the initial weights and at the data; cr.diagnose says which. The model"
            " has the parameters that it had"
        )
    lr = getattr(run.optimizer, "lr", None)
    now = f" (it is {lr:g})" if isinstance(lr, float) else ""
    return Divergence(
        f"{what} at step {step}, in epoch {epoch}: training diverged. Lower the learning rate{now},"
        " scale the columns of X, or clip gradients with clip_norm=1; the model has its last"
        " parameters with a finite loss"
    )


class Interrupt:
    """Whether Ctrl-C was pressed; the second time it does not wait for the step's end."""

    asked = False

    def press(self, number: int, frame: Any) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


@contextmanager
def interruptible(press: Callable[[int, Any], None]) -> Iterator[None]:
    """Within, Ctrl-C calls `press`, unless somebody else handles it."""
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, press)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
