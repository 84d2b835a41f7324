"""The loop of a run in machine code: slices of steps in one call, Python only between them.

Where a number goes wrong, the slice is taken back and the step in trouble is done by the
interpreted loop, which then says what it says.
"""

from __future__ import annotations

import functools
import math
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..compiler import native as machine
from ..errors import CompileError, GradientError, TraceError
from .run import Loop, diverged
from .step import Step

__all__ = ["NativeLoop", "Pace", "native"]

Array = Any
SLICE = 0.1  # seconds between two looks at Ctrl-C and the progress bar
ROWS = 1 << 21  # row numbers, and losses, that one call may hold


def native(loop: Loop, threads: int | None = None) -> Loop:
    """The loop in machine code, or as it is where that cannot be; `history.compiled` says which."""
    history = loop.history
    if not machine.available():
        history.compiled = "no: llvmlite is not installed for this platform"
        return loop
    try:
        made = _made(loop, threads)
    except (TraceError, CompileError) as error:
        history.compiled = f"no: {error}"
        warnings.warn(
            f"this model trains in NumPy, not in machine code: {error}. With compile=False this is"
            " not said",
            RuntimeWarning,
            stacklevel=5,
        )
        return loop
    history.compiled = "yes"
    return made


def _made(loop: Loop, threads: int | None) -> Loop:
    from .stream import NativeStream, StreamPlan

    kind = NativeStream if isinstance(loop.plan, StreamPlan) else NativeLoop
    return kind(loop, threads)


class NativeLoop(Loop):
    """As `Loop`, with the steps between two looks from Python done in one call."""

    def __init__(self, loop: Loop, threads: int | None = None) -> None:
        super().__init__(**{name: getattr(loop, name) for name in Loop.__dataclass_fields__})
        done = self.history.steps
        self.each_step = bool(self.callbacks.methods["on_step"])
        self.step = Step(self.run, self.plan, self.each_step, threads=threads, done=done)
        self.told = any(self.callbacks.methods.values())
        self.last_alone = False  # whether an epoch's last step is a slice of its own
        self.each_epoch = bool(self.callbacks.methods["on_epoch"]) or self.gauges.wanted
        self.looks = self.each_step or self.each_epoch
        self.diverged = False
        # The losses of steps whose epoch is not entered yet.
        entered = self.history.epochs * self.plan.steps
        self.open = [np.array(self.history.step_loss[entered:])] if done > entered else []

    def epochs(self) -> str | None:
        """Every epoch, in slices that end where somebody in Python wants to look."""
        step = self.step
        step.load()
        try:
            return self._slices()
        finally:
            if not self.diverged:
                if step.marks and step.done > self.history.steps >= step.marks[-1].done:
                    step.rewind(self.history.steps)  # an interrupt came before they were noted
                step.save()

    def _slices(self) -> str | None:
        plan, step, pace = self.plan, self.step, Pace(self.step.loop.crew.work)
        done, total = step.done, plan.steps * plan.epochs
        if sum(map(len, self.open)) == plan.steps:  # the run stopped before it closed this epoch
            self._count(done)
            if self.looks and (stopped := self.end_of(done // plan.steps)):
                return stopped
        longest = max(1, ROWS // (1 if plan.whole else plan.size))
        while done < total:
            count = min(pace.steps, longest, total - done)
            if self.each_epoch:
                left = plan.steps - done % plan.steps
                count = min(count, left - 1 if self.last_alone and left > 1 else left)
            if self.each_step or self.interrupt.asked:
                count = 1
            with pace.timed(count):
                losses = step.run(done, count)
            self._note(self._mended(done, losses))
            done = step.done
            if self.looks:
                step.save_model()
            if self.told and not self.each_step:
                self.run.gradients = functools.partial(self._gradients, done)
            if stopped := self._looked(done):
                return stopped
            self.keep()
            if self.looks:
                step.refresh()
        return None

    def _gradients(self, done: int) -> dict[str, Array]:
        """The last step's gradients; who asks once will ask again, and then it is one step more."""
        self.last_alone = True
        return self.step.gradients_of(done)

    def ready(self) -> None:
        """Bring the run's own values up to date."""
        self.step.save()

    def end_of(self, epoch: int) -> str | None:
        """As `Loop.end_of`; averages of weights are in the optimiser's state."""
        if self.run.averages():
            self.step.save()
        return super().end_of(epoch)

    def _looked(self, done: int) -> str | None:
        """Whether somebody who looks after a slice ends the run."""
        epoch, place = divmod(done, self.plan.steps)
        self.show.step(epoch + bool(place), done)
        stopped = self.asked("on_step", epoch + bool(place)) if self.each_step else None
        if stopped is None and self.interrupt.asked and place:
            stopped = "interrupted"
        if stopped or (self.each_step and not place):
            self._demand_finite(done)
        if stopped == "interrupted":
            self._count(done)  # the epochs that ended before it
        if stopped:
            return stopped
        self._count(done)
        if self.looks and not place:
            return self.end_of(epoch)
        return "interrupted" if self.interrupt.asked else None

    def _note(self, losses: Array) -> None:
        """Enter the losses of steps that are done."""
        self.open.append(losses)
        self.history.step_loss.adopt(losses)

    def _count(self, done: int) -> None:
        """Enter the mean losses of the epochs that are complete, summed as `Loop` sums them."""
        history, plan, steps = self.history, self.plan, self.plan.steps
        count = sum(map(len, self.open)) // steps
        if count == 0:
            return
        losses = self.open[0] if len(self.open) == 1 else np.concatenate(self.open)
        rest = losses[count * steps :]
        self.open = [rest] if len(rest) else []
        if plan.whole:
            history.loss.adopt(losses)
        else:
            rows = np.full(steps, float(plan.size))
            rows[-1] = len(plan.X) - plan.size * (steps - 1)
            terms = losses[: count * steps].reshape(count, steps) * rows
            if steps < count:
                totals = terms[:, 0].copy()
                for k in range(1, steps):
                    totals += terms[:, k]
            else:
                totals = np.add.accumulate(terms, axis=1)[:, -1]
            history.loss.adopt(totals / len(plan.X))
        if not self.looks:  # else `end_of` shows it
            self.show.epochs(done // steps - count + 1, history.loss)

    # -- where a number goes wrong -------------------------------------------------------------

    def _mended(self, done: int, losses: Array) -> Array:
        """The losses of a slice; up to a step in trouble, which the interpreted loop does again.

        As there, a loss is looked at after each step, a parameter after each epoch.
        """
        trouble = self._trouble(done, losses)
        if trouble is None:
            return losses
        self._note(losses[:trouble])
        at = done + trouble
        earlier = self.step.before(at) if at else {}
        self.step.rewind(at)
        self.step.save()
        self.run.earlier = earlier
        epoch, place = divmod(at, self.plan.steps)
        value = self.run.step(*self.plan.batch(epoch + 1, place))
        if not math.isfinite(value):
            raise self._refused(f"the loss is {value}", at)
        if place + 1 == self.plan.steps and self.run.went_wrong():
            raise self._refused("a parameter is not finite", at)
        self.step.load()
        return np.array([value])

    def _trouble(self, done: int, losses: Array) -> int | None:
        """The first step of a slice with a loss, or at an epoch's end a parameter, not finite."""
        well = np.isfinite(losses)
        count = len(losses) if well.all() else int(np.argmin(well))
        end = self._bad_end(done, done + count, there=count == len(losses))
        if end is not None:
            return end - 1 - done
        return count if count < len(losses) else None

    def _bad_end(self, first: int, last: int, there: bool) -> int | None:
        """The first end of an epoch in (first, last] where a parameter is not finite.

        A parameter that is not finite stays so: all rules add to what is there. `there` says that
        the states are those after `last` steps; so they are again if there is no such end.
        """
        steps, step = self.plan.steps, self.step
        low, high = first // steps, last // steps  # all is well at the end of epoch `low`
        if low == high or self.each_step:
            return None
        if not there:
            step.rewind(last)
        if step.finite():
            return None
        step.rewind(high * steps)
        if step.finite():
            step.rewind(last)
            return None
        while high - low > 1:
            middle = (low + high) // 2
            step.rewind(middle * steps)
            low, high = (middle, high) if step.finite() else (low, middle)
        return high * steps

    def _demand_finite(self, done: int) -> None:
        """Refuse the last step if it left a parameter that is not finite, and undo it."""
        self.step.save_model()
        if all(np.isfinite(p.value).all() for p in self.run.parameters.values()):
            return
        self.run.earlier = self.step.before(done)
        self.run.went_wrong()
        raise self._refused("a parameter is not finite", done - 1)

    def _refused(self, what: str, at: int) -> GradientError:
        """The error of the step after `at` of them, which the run has undone."""
        self.diverged = True
        return diverged(self.run, what, at + 1, at // self.plan.steps + 1)


class Pace:
    """How many steps make a slice: as many as fit its time, found by doubling."""

    def __init__(self, work: float) -> None:
        """`work` is what one step should take, in seconds; 0 where it is next to nothing."""
        self.steps = max(1, min(8, int(SLICE / work))) if work else 8

    @contextmanager
    def timed(self, count: int) -> Iterator[None]:
        start = time.perf_counter()
        yield
        seconds = max(time.perf_counter() - start, 1e-7)
        rate = count / seconds
        self.steps = int(max(1, min(SLICE * rate, 8 * max(count, self.steps))))
