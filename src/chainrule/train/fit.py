"""fit: the training loop. Forward, backward, update, for every batch of every epoch."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..circuit import Parameter, Tensor, no_grad
from ..errors import GradientError
from ..gradient import flow_back
from ..gradient.backward import seed as first_upstream
from ..nn import Module, losses, optim
from ..nn.base import count
from ..ops import constant
from .callbacks import Callbacks, Moment
from .history import History
from .inputs import features, targets, validation
from .metrics import measured, resolve
from .progress import Silent, reporter

__all__ = ["fit"]

Array = Any
CHUNK = 1024  # rows that are measured at once, at least


def fit(
    model: Any,
    X: Any,
    y: Any,
    *,
    loss: Any,
    optimizer: Any = "adam",
    epochs: int = 10,
    batch_size: int | None = 32,
    validation_data: Any = None,
    shuffle: bool = True,
    seed: int | None = 0,
    callbacks: Iterable[Any] | None = (),
    metrics: Iterable[Any] | None = (),
    progress: bool | None = None,
    compile: bool = True,
    state: dict[str, Any] | None = None,
) -> History:
    """Train the model in place: p ← update(p, ∂loss/∂p) for every batch, `epochs` times.

    X has rows (n, …), y a target for each: both are cast to the parameters' dtype, labels to
    integers. `loss` is a name in `nn.losses` or f(prediction, target); `optimizer` a name or one of
    `optim`, whose state starts fresh unless `state` continues an earlier one. `batch_size` None, or
    n and more, takes all rows at once.

    Epoch e = 1, 2, … visits `np.random.default_rng([seed, 10000 + e]).permutation(n)` in order, the
    last batch short; the natural order where shuffle=False or one batch holds all rows. `seed` also
    restarts dropout. The same seed gives the same bytes; None takes a new one, kept in the History.

    `metrics` are names ("accuracy", "mae", "mse", "r2") or f(prediction, target), measured after
    each epoch in evaluation mode, on the training rows and on `validation_data` = (Xv, yv).
    Callbacks may have `on_step`, `on_epoch` and `on_end`, each given a `Moment`; returning True or
    raising `StopTraining` ends the run. Any other exception of theirs is passed on: the model is
    then as the last step left it. Ctrl-C ends the run after the current step, and History.stopped
    says "interrupted"; a second Ctrl-C does not wait. `progress` None shows a bar if stderr is a
    terminal, True prints lines where it is none, False shows nothing. `compile` chooses native code
    where it is available; the results agree.

    Raises `DataError` for data that cannot be learnt from, `ShapeError` for shapes that do not
    meet, `UnknownNameError` for a name, `ValueError` for an argument out of range, and
    `GradientError` where the loss is no longer finite: the model then has its last parameters with
    a finite loss.

    >>> from chainrule import nn
    >>> model = nn.Sequential(nn.Linear(1, 1), seed=0)
    >>> X = np.linspace(-1, 1, 20)[:, None]
    >>> history = fit(model, X, 3 * X + 1, loss="squared_error", optimizer=optim.SGD(lr=0.5))
    >>> history.epochs, model.predict([[2.0]]).round(1)
    (10, array([[6.3]], dtype=float32))

    Source: slides, mini-batch SGD: sample a batch, forward, backward, update.
    """
    run = _Run(model, losses.get(loss), optim.get(optimizer), state)
    epochs = count("epochs", epochs)
    X = features(model, X)
    y = targets(model, run.loss, X, y)
    size = len(X) if batch_size is None else min(count("batch_size", batch_size), len(X))
    held_out = validation(model, run.loss, validation_data)
    seed = _fresh_seed() if seed is None else count("seed", seed, least=0)
    plan = _Plan(X, y, size, epochs, bool(shuffle), seed)
    gauges = _Gauges(
        run,
        plan,
        held_out,
        resolve(() if metrics is None else metrics, getattr(run.loss, "boundary", 0.5)),
        max(size, CHUNK),
    )
    return _train(run, plan, gauges, Callbacks(() if callbacks is None else callbacks), progress)


@dataclass(frozen=True)
class _Plan:
    """Which rows are visited when."""

    X: Array
    y: Array
    size: int
    epochs: int
    shuffle: bool
    seed: int

    @property
    def steps(self) -> int:
        """The number of batches an epoch."""
        return -(-len(self.X) // self.size)

    def batches(self, epoch: int) -> Iterator[tuple[Array, Array]]:
        """The rows of an epoch, batch by batch."""
        n, size = len(self.X), self.size
        if size == n:
            yield self.X, self.y
            return
        order = None
        if self.shuffle:
            order = np.random.default_rng([self.seed, 10000 + epoch]).permutation(n)
        for start in range(0, n, size):
            rows: Any = slice(start, start + size)
            yield self._take(self.X, rows, order), self._take(self.y, rows, order)

    @staticmethod
    def _take(array: Array, rows: Any, order: Any) -> Array:
        if order is None:
            return array[rows]
        part = array.take(order[rows], axis=0)
        part.flags.writeable = False  # nobody else holds it: the circuit need not copy it
        return part


class _Run:
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
        self.state = optimizer.init(self._values()) if state is None else state
        self.has_buffers = any(True for _ in model.named_buffers())
        self.gradients: dict[str, Array] = {}
        self.earlier: dict[str, Array] = {}  # the values of the last step with a finite loss
        self.pending: dict[str, Array] = {}  # an update that is being written

    def step(self, X: Array, y: Array) -> float:
        """Forward, backward, update; the loss before the update, nan or inf without one."""
        before = self._values()
        kept = {**before, **dict(self.model.named_buffers())} if self.has_buffers else before
        loss = self.loss(self.model(constant(X)), y)
        value = _scalar(loss)
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

    def _values(self) -> dict[str, Array]:
        return {name: p.value for name, p in self.parameters.items()}

    def _restore(self, values: dict[str, Array]) -> None:
        if len(values) > len(self.parameters):
            self.model.load_state_dict(values)
            return
        for name, value in values.items():
            self.parameters[name].rebind(value)


def _scalar(loss: Any) -> float:
    if not isinstance(loss, Tensor):
        raise TypeError(
            f"the loss returned {type(loss).__name__}, not a tensor; write it in chainrule's or"
            " NumPy's functions of the prediction, so that it can be differentiated"
        )
    value = loss.value
    return float(value if value.size == 1 else np.sum(value)) + 0.0  # −0 would look odd


class _Gauges:
    """What is measured after each epoch."""

    def __init__(
        self, run: _Run, plan: _Plan, held_out: Any, metrics: dict[str, Any], chunk: int
    ) -> None:
        self.run, self.plan, self.held_out = run, plan, held_out
        self.metrics, self.chunk = metrics, chunk

    def read(self, history: History) -> None:
        """Append this epoch's numbers."""
        if self.metrics:
            self._read(history, "", self.plan.X, self.plan.y)
        if self.held_out is not None:
            X, y = self.held_out
            prediction = self._read(history, "val_", X, y)
            with no_grad():
                loss = self.run.loss(constant(prediction), y)
            history.val_loss.append(_scalar(loss))

    def _read(self, history: History, prefix: str, X: Array, y: Array) -> Array:
        prediction = self.run.model.predict(X, batch_size=self.chunk)
        for name, metric in self.metrics.items():
            values = history.metrics.setdefault(prefix + name, [])
            values.append(measured(name, metric, prediction, y))
        return prediction


def _train(
    run: _Run, plan: _Plan, gauges: _Gauges, callbacks: Callbacks, progress: bool | None
) -> History:
    """The run between its beginning and its end, whichever way it ends."""
    history = History(seed=plan.seed)
    show = reporter(progress, plan.epochs, plan.steps)
    began = time.perf_counter()
    try:
        with _training_mode(run.model, plan.seed), _interrupts() as interrupt:
            loop = _Loop(run, plan, gauges, callbacks, show, history, interrupt)
            try:
                history.stopped = loop.epochs()
            except KeyboardInterrupt:
                run.finish()
                history.stopped = "interrupted"
    finally:
        history.seconds = time.perf_counter() - began
        history.state = run.state
        show.close()
    callbacks.tell("on_end", _moment(run, history, max(1, history.epochs)))
    return history


@dataclass(frozen=True)
class _Loop:
    """Epochs of steps; each method says why the run ended early, or None."""

    run: _Run
    plan: _Plan
    gauges: _Gauges
    callbacks: Callbacks
    show: Silent
    history: History
    interrupt: _Interrupt

    def epochs(self) -> str | None:
        """Every epoch."""
        for epoch in range(1, self.plan.epochs + 1):
            if stopped := self.steps(epoch) or self.end_of(epoch):
                return stopped
        return None

    def steps(self, epoch: int) -> str | None:
        """Every batch of an epoch, and its mean loss over rows."""
        run, history, total, stopped = self.run, self.history, 0.0, None
        for X, y in self.plan.batches(epoch):
            value = run.step(X, y)
            if not math.isfinite(value):
                raise _diverged(run, f"the loss is {value}", history.steps + 1, epoch)
            total += value * len(X)
            history.step_loss.append(value)
            self.show.step(epoch, history.steps)
            if stopped := self.asked("on_step", epoch):
                break
        if run.went_wrong():
            raise _diverged(run, "a parameter is not finite", history.steps, epoch)
        if stopped is None:
            history.loss.append(total / len(self.plan.X))
        return stopped

    def end_of(self, epoch: int) -> str | None:
        """What an epoch is measured by, and who is told."""
        self.gauges.read(self.history)
        self.show.epoch(epoch, self.history.last())
        return self.asked("on_epoch", epoch)

    def asked(self, event: str, epoch: int) -> str | None:
        """Whether a callback or Ctrl-C ends the run."""
        if self.callbacks.methods[event] and self.callbacks.tell(
            event, _moment(self.run, self.history, epoch)
        ):
            return "callback"
        return "interrupted" if self.interrupt.asked else None


def _moment(run: _Run, history: History, epoch: int) -> Moment:
    last = history.step_loss[-1] if history.step_loss else math.nan
    return Moment(run.model, history, epoch, history.steps, last, run.gradients)


def _diverged(run: _Run, what: str, step: int, epoch: int) -> GradientError:
    lr = getattr(run.optimizer, "lr", None)
    now = f" (it is {lr:g})" if isinstance(lr, float) else ""
    return GradientError(
        f"{what} at step {step}, in epoch {epoch}: training diverged. Lower the learning rate{now},"
        " scale the columns of X, or clip gradients with clip_norm=1; the model has its last"
        " parameters with a finite loss"
    )


class _Interrupt:
    """Whether Ctrl-C was pressed; the second time it does not wait for the step's end."""

    asked = False

    def press(self, number: int, frame: Any) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


@contextmanager
def _interrupts() -> Iterator[_Interrupt]:
    """Within, Ctrl-C waits for the end of the step, unless somebody else handles it."""
    interrupt = _Interrupt()
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield interrupt
        return
    signal.signal(signal.SIGINT, interrupt.press)
    try:
        yield interrupt
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def _training_mode(model: Any, seed: int) -> Iterator[None]:
    """Within, training mode, with dropout's randomness started anew; each layer's mode returns."""
    modes = [(module, module.training) for module in model.modules()]
    model.train()
    model.reseed(seed)
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def _fresh_seed() -> int:
    return int(np.random.SeedSequence().generate_state(1, np.uint32)[0])
