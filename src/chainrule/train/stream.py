"""Training on data that comes in batches: more rows than memory holds, or than there ever are.

What differs from arrays is where a batch comes from. In machine code one step is one call: the
batch is copied to where the program reads, and the last, shorter one has a program of its own.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Generator
from contextlib import closing
from typing import Any

import numpy as np

from ..errors import DataError
from .inputs import features, targets, weights
from .run import Loop, Plan
from .step import Step

__all__ = ["NativeStream", "StreamPlan", "is_stream"]

Array = Any
Batch = tuple[Array, Array, Array | None]


def is_stream(X: Any) -> bool:
    """Whether X is a source of batches and no array."""
    return all(callable(getattr(X, name, None)) for name in ("first", "epoch"))


class StreamPlan(Plan):
    """As `Plan`, for a source with `first()`, `epoch(e)`, `batch_size` and `rows`.

    `X` and `y` are a small sample, for shapes. Where the source does not know its rows they are
    counted: in the first epoch, or by reading once more where a run goes on in a later one.
    """

    measured = False

    def __init__(self, source: Any, model: Any, loss: Any, epochs: int, seed: int) -> None:
        self.source, self.model, self.loss = source, model, loss
        X, y, w = self._checked(source.first(), 1)
        super().__init__(X, y, source.batch_size, epochs, True, seed, w)
        self.counted = source.rows

    @property
    def rows(self) -> int:
        """The number of rows an epoch."""
        if self.counted is None:
            with closing(self.source.epoch(1)) as batches:
                self.counted = sum(len(batch[0]) for batch in batches)
        return int(self.counted)

    @property
    def expected(self) -> int:
        """The batches an epoch, 0 where rows were not counted yet."""
        return 0 if self.counted is None else self.steps

    @property
    def whole(self) -> bool:
        """Never: rows may be others in every epoch."""
        return False

    def batches(self, epoch: int, first: int = 0) -> Generator[Batch, None, None]:
        """The batches of an epoch, checked one by one, from the batch `first` (from 0) on."""
        seen = 0
        with closing(self.source.epoch(epoch)) as batches:
            for number, batch in enumerate(batches, start=1):
                self._demand_full(epoch, number, seen)
                seen += len(batch[0])
                if seen > number * self.size:
                    raise DataError(
                        f"batch {number} of epoch {epoch} has {len(batch[0])} rows, more than the"
                        f" source's batch_size={self.size}; give the largest number of rows there"
                    )
                if number > first:
                    yield self._checked(batch, number)
        if seen == 0:
            raise DataError(f"the batches of epoch {epoch} have no rows; give at least one")
        if self.counted is None:
            self.counted = seen
        if seen != self.counted:
            raise DataError(
                f"epoch {epoch} has {seen} rows, an earlier one had {self.counted}; the source must"
                " give the same rows each time it is asked"
            )

    def _demand_full(self, epoch: int, number: int, seen: int) -> None:
        """Only the last batch may be short: places in an epoch are counted by `batch_size`."""
        if seen < (number - 1) * self.size:
            raise DataError(
                f"batch {number - 1} of epoch {epoch} is short of the source's"
                f" batch_size={self.size}, and not the last; only the last batch may have fewer"
            )

    def _checked(self, batch: Any, number: int) -> Batch:
        if not isinstance(batch, (tuple, list)) or len(batch) not in (2, 3):
            raise DataError(f"batch {number} is no pair (X, y), nor (X, y, sample_weight)")
        try:
            X = features(self.model, batch[0])
            y = targets(self.model, self.loss, X, batch[1])
            w = weights(self.model, batch[2] if len(batch) == 3 else None, len(X))
        except DataError as error:
            raise DataError(f"batch {number}: {error}") from None
        return X, y, w


class NativeStream(Loop):
    """As `Loop` on batches that come one by one, each step in machine code."""

    def __init__(self, loop: Loop, threads: int | None = None) -> None:
        super().__init__(**{name: getattr(loop, name) for name in Loop.__dataclass_fields__})
        self.threads = threads
        self.told = any(self.callbacks.methods.values())
        self.each_step = bool(self.callbacks.methods["on_step"])
        self.programs: dict[tuple[Any, ...], tuple[Step, Plan]] = {}
        self.active: Step | None = None
        self._program(self.plan.batch(1, 0))  # what cannot be compiled is found now

    def epochs(self) -> str | None:
        """Every epoch from where the history ends."""
        try:
            return super().epochs()
        finally:
            self.ready()

    def ready(self) -> None:
        """Bring the run's own values up to date."""
        if self.active is not None:
            self.active.save()

    def step_on(self, X: Array, y: Array, weights: Array | None) -> float:
        """One step on a batch, and its loss before the update."""
        step, plan = self._program((X, y, weights))
        if step is not self.active:
            self.ready()
            step.load()
            self.active = step
        elif self.told:
            step.refresh()
        for held, given in zip((plan.X, plan.y, plan.weights), (X, y, weights), strict=True):
            if held is not None:
                np.copyto(held, given)
        done = step.done
        value = float(step.run(done, 1)[0])
        if not math.isfinite(value):
            return self._again(step, done, (X, y, weights))
        if self.each_step:
            step.save_model()
        elif self.told:
            self.run.gradients = functools.partial(step.gradients_of, step.done)
        return value

    def went_wrong(self) -> bool:
        """Whether the last update left a parameter that is not finite; if so, it is undone."""
        step = self.active
        if step is None:
            return self.run.went_wrong()
        if step.finite():
            return False
        self.ready()
        self.run.earlier, self.active = step.before(step.done), None
        return self.run.went_wrong()

    def end_of(self, epoch: int) -> str | None:
        """What an epoch is measured by, and who is told."""
        self.ready()
        return super().end_of(epoch)

    def _again(self, step: Step, done: int, batch: Batch) -> float:
        """The step whose loss was not finite, interpreted: it says what is wrong and undoes."""
        step.rewind(done)
        step.save()
        if len(step.marks) > 1:
            self.run.earlier = step.before(done)
        self.active = None
        return self.run.step(*batch)

    def _program(self, batch: Batch) -> tuple[Step, Plan]:
        """The program for batches of this shape, with the arrays that it reads."""
        key = tuple(None if part is None else (part.shape, part.dtype.str) for part in batch)
        if key not in self.programs:
            X, y, w = (None if part is None else np.array(part) for part in batch)
            plan = Plan(X, y, len(X), 1 << 62, False, self.plan.seed, w)  # type: ignore[arg-type]
            self.ready()
            step = Step(self.run, plan, self.each_step, self.threads, self.history.steps)
            self.programs[key] = step, plan
        return self.programs[key]
