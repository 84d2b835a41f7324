"""The loop of a run in machine code: slices of steps in one call, Python only between them.

The step is traced from what the interpreted loop runs: the model, the loss, the backward loop and
the optimiser's own update. Where a number goes wrong, the slice is taken back and the step in
trouble is done by the interpreted loop, which then says what it says.
"""

from __future__ import annotations

import copy
import functools
import math
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..circuit import Tensor
from ..circuit import vocabulary as ops
from ..compiler import native as machine
from ..compiler.compiled import unsupported
from ..compiler.decompose import decompose
from ..compiler.loop import Batches, batched
from ..compiler.loop import Loop as Steps
from ..compiler.plan import Stream
from ..compiler.simplify import simplify
from ..compiler.trace import Traced, trace
from ..errors import CompileError, TraceError
from ..gradient import value_and_grad
from ..gradient.backward import seed as first_upstream
from ..nn import Dropout
from ..nn.optim import Optimizer
from ..ops.neural import keys
from .progress import Silent
from .run import Loop, Plan, Run, diverged, scalar

__all__ = ["NativeLoop", "native"]

Array = Any
SLICE = 0.05  # seconds between two looks at Ctrl-C and the progress bar
ROWS = 1 << 21  # row numbers, and losses, that one call may hold


def native(loop: Loop) -> Loop:
    """The loop in machine code, or as it is where that cannot be; `history.compiled` says which."""
    history = loop.history
    if not machine.available():
        history.compiled = "no: llvmlite is not installed for this platform"
        return loop
    try:
        made = NativeLoop(loop)
    except (TraceError, CompileError) as error:
        history.compiled = f"no: {error}"
        warnings.warn(
            f"this model trains in NumPy, not in machine code: {error}. With compile=False this is"
            " not said",
            RuntimeWarning,
            stacklevel=4,
        )
        return loop
    history.compiled = "yes"
    return made


class NativeLoop(Loop):
    """As `Loop`, with the steps between two looks from Python done in one call."""

    def __init__(self, loop: Loop) -> None:
        super().__init__(**{name: getattr(loop, name) for name in Loop.__dataclass_fields__})
        told = any(self.callbacks.methods.values())
        self.step = _Step(self.run, self.plan, gradients=told)
        self.total = 0.0  # of the present epoch's losses, times their rows

    def epochs(self) -> str | None:
        """Every epoch, in slices that end where somebody in Python wants to look."""
        plan, done, pace = self.plan, 0, _Pace()
        every = bool(self.callbacks.methods["on_step"])
        looks = every or bool(self.callbacks.methods["on_epoch"]) or self.gauges.wanted
        longest = max(1, ROWS // (1 if plan.whole else plan.size))
        self.step.load()
        try:
            while done < plan.steps * plan.epochs:
                most = min(pace.steps, longest, plan.steps * plan.epochs - done)
                if looks:
                    most = 1 if every else min(most, plan.steps - done % plan.steps)
                with pace.timed(most):
                    losses = self.step.run(done, most)
                trouble = self._trouble(done, losses)
                if trouble is not None:
                    losses = self._replayed(done, trouble, losses)
                done += len(losses)
                self.history.step_loss.extend(losses.tolist())
                if looks:
                    self.step.save()
                if stopped := self._looked(losses, done, every, looks):
                    return stopped
                if looks:
                    self.step.refresh()
        finally:
            self.step.save()
        return None

    def _looked(self, losses: Array, done: int, every: bool, looks: bool) -> str | None:
        """Whether somebody who looks after a slice ends the run."""
        epoch, place = divmod(done, self.plan.steps)
        if place:
            self.show.step(epoch + 1, done)
        if every and (stopped := self.asked("on_step", epoch + bool(place))):
            return stopped
        self._count(losses, done)
        if looks and not place:
            return self.end_of(epoch)
        return "interrupted" if self.interrupt.asked else None

    def _count(self, losses: Array, done: int) -> None:
        """Enter the mean losses of the epochs that a slice completes."""
        history, plan, first = self.history, self.plan, done - len(losses)
        if plan.whole:
            history.loss.extend(losses.tolist())
            self._show(first + 1, done + 1)
            return
        while first < done:
            epoch, place = divmod(first, plan.steps)
            count = min(done - first, plan.steps - place)
            rows = np.full(count, float(plan.size))
            if place + count == plan.steps:
                rows[-1] = len(plan.X) - plan.size * (plan.steps - 1)
            part = losses[first - done + len(losses) :][:count]
            self.total += float(np.dot(part.astype(np.float64), rows))
            first += count
            if place + count == plan.steps:
                history.loss.append(self.total / len(plan.X))
                self.total = 0.0
                self._show(epoch + 1, epoch + 2)

    def _show(self, first: int, end: int) -> None:
        """Epochs that nobody measures are shown here; the others at their end."""
        looks = self.callbacks.methods["on_epoch"] or self.callbacks.methods["on_step"]
        if type(self.show) is Silent or self.gauges.wanted or looks:
            return
        for epoch in range(first, end):
            self.show.epoch(epoch, {"loss": self.history.loss[epoch - 1]})

    def _trouble(self, done: int, losses: Array) -> int | None:
        """The first step of a slice whose loss, or what it leaves, is not finite."""
        wrong = np.flatnonzero(~np.isfinite(losses))
        high = int(wrong[0]) if len(wrong) else len(losses)
        if len(wrong):
            # A parameter that is no number shows at the end of its epoch, before the next loss.
            if high == 0 or (done + high) % self.plan.steps:
                return high
            self.step.rewind(done + high)
        if self.step.finite():
            return high if len(wrong) else None
        low = 0  # all is well after `low` steps, not after `high`
        while high - low > 1:
            middle = (low + high) // 2
            self.step.rewind(done + middle)
            low, high = (middle, high) if self.step.finite() else (low, middle)
        return high - 1

    def _replayed(self, done: int, trouble: int, losses: Array) -> Array:
        """The slice up to its step in trouble, which the interpreted loop does, or refuses.

        That loop goes back to the parameters of the last finite loss, so it does the step before
        as well.
        """
        at = done + trouble
        first = max(0, at - 1)
        self.step.rewind(first)
        self.step.save()
        for step in range(first, at + 1):
            epoch, place = divmod(step, self.plan.steps)
            value = self.run.step(*self.plan.batch(epoch + 1, place))
            wrong = "" if math.isfinite(value) else f"the loss is {value}"
            if not wrong and self.run.went_wrong():
                wrong = "a parameter is not finite"
            if wrong:
                self.history.step_loss.extend(float(x) for x in losses[: step - done])
                self.step.live = False
                raise diverged(self.run, wrong, step + 1, epoch + 1)
        self.step.load()
        return np.append(losses[:trouble], np.array(value, losses.dtype))


class _Pace:
    """How many steps make a slice: as many as fit its time, found by doubling."""

    def __init__(self) -> None:
        self.steps = 8

    @contextmanager
    def timed(self, count: int) -> Iterator[None]:
        start = time.perf_counter()
        yield
        seconds = max(time.perf_counter() - start, 1e-7)
        rate = count / seconds
        self.steps = int(max(1, min(SLICE * rate, 8 * max(count, self.steps))))


class _Step:
    """The traced step: its program, and the values that go in and come out."""

    def __init__(self, run: Run, plan: Plan, gradients: bool) -> None:
        self.run_, self.plan, self.gradients = run, plan, gradients
        self.names = list(run.parameters)
        self.slots = [slot for slot in run.state if slot != "step"]
        self.buffers = list(dict(run.model.named_buffers()))
        self.ours = isinstance(run.optimizer, Optimizer)
        self.random = [m for m in run.model.modules() if isinstance(m, Dropout) and m.p]
        self.settings = self._settings()
        if not self.ours or any(not isinstance(run.state[s], dict) for s in self.slots):
            raise CompileError("the optimizer is not one of chainrule.optim")
        self._build()
        self.written: dict[str, Array] = {}
        self.base = int(run.state["step"])
        self.done = 0  # steps of this run
        self.marks: list[tuple[int, Array]] = []
        self.start = {layer: layer.step for layer in self.random}
        self.live = True  # whether the run's values are here

    # -- tracing -------------------------------------------------------------------------------

    def _build(self) -> None:
        plan = self.plan
        full = len(plan.X) // plan.size
        rest = 0 if plan.whole else len(plan.X) % plan.size
        self.calls = self._calls()
        traced = [self._traced(n) for n in ([plan.size, rest] if rest else [plan.size])]
        graphs = [simplify(decompose(t.graph)) for t in traced]
        for graph in graphs:
            if missing := unsupported(graph):
                raise CompileError(next(iter(missing.values())))
        self.outside = traced[0].parameters
        states = len(self.names) * (1 + len(self.slots)) + len(self.buffers)
        own = states + 2 + len(self.calls)  # then X and y, then what the step closes over
        if not plan.whole:
            graphs = [batched(g, [own, own + 1], len(plan.X)) for g in graphs]
        inputs = [Stream()] * states
        inputs += [Stream("step", 1), Stream("step", 1) if self._scheduled else Stream()]
        inputs += [Stream("step", 1)] * len(self.calls)
        inputs += [Stream()] * (2 + len(self.outside))
        inputs += [Stream("row", 1)] * (not plan.whole)
        outputs = [Stream("step", 1)] + [Stream()] * (len(graphs[0].outputs) - 1)
        bound: list[int | None] = [None, *range(states)]
        bound += [None] * (len(graphs[0].outputs) - len(bound))
        again = plan.whole or not plan.shuffle
        batches = Batches(plan.size, full, rest, again)
        self.loop = Steps(graphs, bound, {"inputs": inputs, "outputs": outputs}, batches)
        self.first = {"step": states, "lr": states + 1, "keys": states + 2, "X": own}
        self.loop.give(own, plan.X)
        self.loop.give(own + 1, plan.y)
        nodes = graphs[0].nodes
        self.loss_type = nodes[graphs[0].outputs[0]].dtype
        self.slopes = [
            np.zeros(nodes[k].shape, nodes[k].dtype) for k in graphs[0].outputs[1 + states :]
        ]
        for k, slope in enumerate(self.slopes):
            self.loop.into(1 + states + k, slope)

    @property
    def _scheduled(self) -> bool:
        return callable(self.run_.optimizer.lr)

    def _calls(self) -> list[Dropout]:
        """The dropout layers in the order in which one step asks them for a key."""
        if not self.random:
            return []
        order: list[Dropout] = []
        with _keys_from(self.random, order.append):
            self.run_.model(self.plan.X[: min(2, len(self.plan.X))])
        return order

    def _traced(self, rows: int) -> Traced:
        """The step on the first `rows` rows: loss, new parameters, new slots, gradients."""
        run, plan, names = self.run_, self.plan, self.names
        optimizer = copy.copy(run.optimizer)

        def step(
            values: list[Any], slots: list[list[Any]], buffers: list[Any], number: Any, lr: Any,
            given: list[Any], X: Any, y: Any,
        ) -> list[Any]:  # fmt: skip
            averages: list[Any] = []

            def objective(parameters: list[Any]) -> Any:
                source = iter(given)
                own = dict(zip(names, parameters, strict=True))
                own.update(zip(self.buffers, buffers, strict=True))
                keys_ = _keys_from(self.random, lambda layer: next(source))
                with keys_, run.model.stepping(own) as moved:
                    loss = run.loss(run.model(X), y)
                averages[:] = [moved[name] for name in self.buffers]
                if not isinstance(loss, Tensor):
                    scalar(loss)  # which says what is wrong
                if loss.size != 1:
                    first_upstream(loss)
                return loss

            loss, gradients = value_and_grad(objective)(values)
            loss = ops.reshape(loss, ()) if loss.shape else loss
            optimizer.lr = lr
            state = {
                slot: dict(zip(names, several, strict=True))
                for slot, several in zip(self.slots, slots, strict=True)
            }
            after, state = optimizer.update(
                dict(zip(names, values, strict=True)),
                dict(zip(names, gradients, strict=True)),
                {"step": number, **state},
            )
            after_all = [after[name] for name in names]
            after_all += [state[slot][name] for slot in self.slots for name in names]
            return [loss, *after_all, *averages, *(gradients if self.gradients else [])]

        values = [run.parameters[name].value for name in names]
        slots = [[run.state[slot][name] for name in names] for slot in self.slots]
        given = [np.uint64(0) for _ in self.calls]
        X, y = plan.X[:rows], plan.y[:rows]
        buffers = list(dict(run.model.named_buffers()).values())
        return trace(step, (values, slots, buffers, np.int64(0), np.float64(0.1), given, X, y))

    # -- running -------------------------------------------------------------------------------

    def run(self, done: int, count: int) -> Array:
        """`count` steps after `done` of them; their losses."""
        # Two slices back, so that the step before any of this slice's can be done again.
        self.marks = [*self.marks[-1:], (done, self.loop.snapshot())]
        return self._steps(done, count)

    def rewind(self, done: int) -> None:
        """The states as they were after `done` steps, of this slice or the one before."""
        at, states = next(mark for mark in reversed(self.marks) if mark[0] <= done)
        self.loop.restore(states)
        self._steps(at, done - at)

    def _steps(self, done: int, count: int) -> Array:
        losses = np.zeros(max(1, count), self.loss_type)
        if count == 0:
            self.done = done
            return losses[:0]
        loop, plan = self.loop, self.plan
        loop.into(0, losses)
        number = self.base + done
        loop.give(self.first["step"], np.arange(number, number + count))
        lr = self.run_.optimizer.lr
        if self._scheduled:
            lr = np.array([float(lr(k)) for k in range(number, number + count)])
        loop.give(self.first["lr"], np.asarray(lr, np.float64))
        for k, layer in enumerate(self.calls):
            loop.give(self.first["keys"] + k, self._keys(k, layer, done, count))
        for k, tensor in enumerate(self.outside):
            loop.give(self.first["X"] + 2 + k, tensor.value)
        epoch, place = divmod(done, plan.steps)
        if plan.whole:
            loop.run(0, count, 0, 0)
        else:
            last = (done + count - 1) // plan.steps
            if plan.shuffle:
                rows = np.concatenate([plan.order(e + 1) for e in range(epoch, last + 1)])
            else:
                rows = np.arange(len(plan.X))
            loop.give(self.first["X"] + 2 + len(self.outside), rows)
            loop.run(0, count, place, place * plan.size)
        self.done = done + count
        return losses

    def _keys(self, k: int, layer: Dropout, done: int, count: int) -> Array:
        """The keys of the k-th call in a step, for `count` steps."""
        several = self.calls.count(layer)
        place = self.calls[:k].count(layer)
        steps = self.start[layer] + np.arange(done, done + count) * several + place
        return keys(layer.seed, layer.number, steps)

    def finite(self) -> bool:
        """Whether every parameter is."""
        return self.loop.finite(range(len(self.names)))

    # -- what Python sees ----------------------------------------------------------------------

    def load(self) -> None:
        """Take parameters and state from the run."""
        run = self.run_
        for k, value in enumerate(self._values()):
            self.loop.give(k, value)
        self.written = {name: run.parameters[name].value for name in self.names}
        self.done = int(run.state["step"]) - self.base

    def _values(self) -> list[Array]:
        run = self.run_
        values = [run.parameters[name].value for name in self.names]
        values += [run.state[slot][name] for slot in self.slots for name in self.names]
        return values + list(dict(run.model.named_buffers()).values())

    def save(self) -> None:
        """Give parameters and state to the run, as the last step left them."""
        if not self.live:
            return
        run, count = self.run_, len(self.names)
        for k, name in enumerate(self.names):
            run.parameters[name].rebind(self.loop.take(k))
            self.written[name] = run.parameters[name].value
        state: dict[str, Any] = {"step": self.base + self.done}
        for s, slot in enumerate(self.slots, 1):
            state[slot] = {n: self.loop.take(s * count + k)[()] for k, n in enumerate(self.names)}
        run.state = state
        first = count * (1 + len(self.slots))
        run.model.load_buffers({n: self.loop.take(first + k) for k, n in enumerate(self.buffers)})
        if self.gradients:
            run.gradients = {n: g.copy()[()] for n, g in zip(self.names, self.slopes, strict=True)}
        for layer in self.random:
            layer.step = self.start[layer] + self.done * self.calls.count(layer)

    def refresh(self) -> None:
        """Take what a callback has changed: parameters, or the optimiser's settings."""
        run = self.run_
        if self._settings() != self.settings:
            self.settings = self._settings()
            self._build()
            self.load()
        elif any(run.parameters[n].value is not v for n, v in self.written.items()):
            self.load()

    def _settings(self) -> dict[str, Any]:
        """What the program has built in; a learning rate that is a number is read at each slice."""
        settings = dict(vars(self.run_.optimizer))
        settings["lr"] = callable(settings.get("lr"))
        return settings


@contextmanager
def _keys_from(layers: list[Dropout], source: Callable[[Dropout], Any]) -> Iterator[None]:
    """Within, dropout layers ask `source` for their keys; for None it is 0."""

    def ask(layer: Dropout) -> Any:
        key = source(layer)
        return np.uint64(0) if key is None else key

    for layer in layers:
        layer.next_key = functools.partial(ask, layer)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for layer in layers:
            del layer.next_key  # type: ignore[method-assign]

