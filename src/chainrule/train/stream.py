"""Training on data that comes in batches: more rows than memory holds, or than there ever are.

What differs from arrays is where a batch comes from. Machine code reads batches from a ring, into
which Python copies some at a time; the last, shorter batch of an epoch has a program of its own.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from typing import Any

import numpy as np

from ..errors import DataError
from .inputs import features, targets, weights
from .run import Loop, Plan, diverged
from .step import Step

__all__ = ["NativeStream", "StreamPlan", "is_stream"]

Array = Any
Batch = tuple[Array, Array, Array | None]
Group = tuple[Batch, int]  # some batches as one, and how many they are

LONGEST = 64  # steps of one call
ROOM = 2**22  # bytes of batches in a ring, where that is several
WAIT = 0.1  # seconds for batches of one call


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
        with closing(self._counting(epoch)) as batches:
            for number, batch in enumerate(batches, start=1):
                if number > first:
                    yield self._checked(batch, number)

    def groups(
        self, epoch: int, first: int, most: Callable[[], int]
    ) -> Generator[Group, None, None]:
        """As `batches`, with up to `most()` that are alike as one, and how many they are."""
        with closing(self._counting(epoch)) as batches:
            for number, group in _alike(batches, first, most):
                if number > first:
                    yield self._whole(group, number), len(group)

    def _counting(self, epoch: int) -> Generator[Any, None, None]:
        """The source's batches, whose rows must be as many as they should."""
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
                yield batch
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

    def _whole(self, group: list[Any], number: int) -> Batch:
        """The batches of a group as one, checked together; the first has that number."""
        if len(group) == 1:
            return self._checked(group[0], number)
        try:
            X, y, w = self._checked([np.concatenate(p) for p in zip(*group, strict=True)], number)
            if w is not None and not w.reshape(len(group), -1).any(axis=1).all():
                raise DataError(f"batch {number}: its weights are all 0")
        except (DataError, ValueError):  # which of them it is, each for itself says
            for k, batch in enumerate(group):
                self._checked(batch, number + k)
            raise
        return X, y, w

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


def _alike(
    batches: Iterable[Any], first: int, most: Callable[[], int]
) -> Iterator[tuple[int, list[Any]]]:
    """Batches of the same shapes together, with the number (from 1) of the first of them.

    The first `first` are to be passed over and come one by one; a slow source is not waited for.
    """
    group: list[Any] = []
    start, began = 1, 0.0
    for number, batch in enumerate(batches, start=1):
        if group and _shapes(batch) != _shapes(group[0]):
            yield start, group
            group = []
        if not group:
            start, began = number, time.perf_counter()
        group.append(batch)
        if number <= first or len(group) >= most() or time.perf_counter() - began > WAIT:
            yield start, group
            group = []
    if group:
        yield start, group


def _shapes(batch: Any) -> Any:
    """What two batches must share to be one; something that no other has for what is no batch."""
    if not isinstance(batch, (tuple, list)):
        return object()
    return [(getattr(part, "shape", None), getattr(part, "dtype", None)) for part in batch]


class NativeStream(Loop):
    """As `Loop` on batches that come one by one, their steps in machine code."""

    def __init__(self, loop: Loop, threads: int | None = None) -> None:
        super().__init__(**{name: getattr(loop, name) for name in Loop.__dataclass_fields__})
        from .native import Pace

        self.threads = threads
        self.told = any(self.callbacks.methods.values())
        self.each_step = bool(self.callbacks.methods["on_step"])
        self.rings: dict[tuple[Any, ...], Ring] = {}
        self.active: Ring | None = None
        self.before: tuple[Ring, int] | None = None  # what was active before, and its steps done
        first = self._ring(self.plan.batch(1, 0), 1)  # what cannot be compiled is found now
        self.longest, self.pace = first.longest, Pace(first.step.loop.crew.work)

    def epochs(self) -> str | None:
        """Every epoch from where the history ends."""
        try:
            return super().epochs()
        finally:
            self.ready()

    def ready(self) -> None:
        """Bring the run's own values up to date."""
        if self.active is not None:
            self.active.step.save()

    def steps(self, epoch: int) -> str | None:
        """As `Loop.steps`, some at a time."""
        assert isinstance(self.plan, StreamPlan)
        stopped = None
        with closing(self.plan.groups(epoch, self.done_of(epoch), self._several)) as groups:
            for batches, count in groups:
                self._run(batches, count, epoch)
                self.show.step(epoch, self.history.steps)
                if stopped := self.asked("on_step", epoch):
                    break
                self.keep()
        return self.close(epoch, stopped)

    def _several(self) -> int:
        """How many steps the next call may take."""
        if self.each_step or self.interrupt.asked:
            return 1
        return min(self.pace.steps, self.longest)

    def _run(self, batches: Batch, count: int, epoch: int) -> None:
        """The steps on some batches, their losses entered."""
        ring, note = self._activated(batches, count), self.history.step_loss.append
        now, done = min(count, ring.longest), ring.step.done
        with self.pace.timed(now):
            losses = ring.run(_part(batches, slice(0, now * ring.size)), now).tolist()
        for k, value in enumerate(losses):
            if not math.isfinite(value):
                value, now = self._again(ring, done + k, batches, k), k + 1
                if not math.isfinite(value):
                    what = f"the loss is {value}"
                    raise diverged(self.run, what, self.history.steps + 1, epoch)
                note(value)
                break
            note(value)
        else:
            self._told_of(ring.step)
        if now < count:
            self._run(_part(batches, slice(now * ring.size, None)), count - now, epoch)

    def _activated(self, batches: Batch, count: int) -> Ring:
        """The ring for these batches, with the run's newest values."""
        ring = self._ring(batches, count)
        if ring is not self.active:
            self.ready()
            if self.active is not None:
                self.before = self.active, self.active.step.done
            ring.step.load()
            ring.step.marks = []
            self.active = ring
        elif self.told:
            ring.step.refresh()
        return ring

    def _told_of(self, step: Step) -> None:
        """Let callbacks see the last step."""
        if self.each_step:
            step.save_model()
        elif self.told:
            self.run.gradients = functools.partial(step.gradients_of, step.done)

    def went_wrong(self) -> bool:
        """Whether the last update left a parameter that is not finite; if so, it is undone."""
        if self.active is None:
            return self.run.went_wrong()
        if self.active.step.finite():
            return False
        step = self.active.step
        self.ready()
        self.run.earlier, self.active, self.before = step.before(step.done), None, None
        return self.run.went_wrong()

    def end_of(self, epoch: int) -> str | None:
        """What an epoch is measured by, and who is told."""
        self.ready()
        return super().end_of(epoch)

    def _again(self, ring: Ring, done: int, batches: Batch, place: int) -> float:
        """The step whose loss was not finite, interpreted: it says what is wrong and undoes."""
        step = ring.step
        if done > step.marks[0].done:
            self.run.earlier = step.before(done)
        elif self.before is not None:
            other, last = self.before
            self.run.earlier = other.step.before(last)
        step.rewind(done)
        step.save()
        self.active = self.before = None
        return self.run.step(*_part(batches, slice(place * ring.size, (place + 1) * ring.size)))

    def _ring(self, batches: Batch, count: int) -> Ring:
        """The ring for batches of this shape."""
        one = _part(batches, slice(0, len(batches[0]) // count))
        key = tuple(None if part is None else (part.shape, part.dtype.str) for part in one)
        if key not in self.rings:
            self.ready()
            self.rings[key] = Ring(self, one)
        return self.rings[key]


class Ring:
    """The program for batches of one size, and the memory from which it reads them.

    Step number s reads place s mod `places`, so that the batches of the last two calls are there
    when a step is taken back.
    """

    def __init__(self, loop: NativeStream, batch: Batch) -> None:
        self.size = len(batch[0])
        usual = self.size == loop.plan.size and not loop.each_step
        room = ROOM // (2 * sum(part.nbytes for part in batch if part is not None))
        self.longest = max(1, min(LONGEST, room)) if usual else 1
        self.places = 2 * self.longest
        held = [None if p is None else np.concatenate([p] * self.places) for p in batch]
        X, y, w = held
        plan = Plan(X, y, self.size, 1 << 62, False, loop.plan.seed, w)
        self.held = held
        self.step = Step(loop.run, plan, loop.each_step, loop.threads, loop.history.steps)

    def run(self, batches: Batch, count: int) -> Array:
        """The losses of the steps on so many batches."""
        done = self.step.done
        first = done % self.places * self.size
        for held, given in zip(self.held, batches, strict=True):
            if held is not None and given is not None:
                room = len(held) - first
                held[first : first + len(given)] = given[:room]
                held[: max(0, len(given) - room)] = given[room:]
        return self.step.run(done, count)


def _part(batch: Batch, rows: slice) -> Batch:
    X, y, w = (None if part is None else part[rows] for part in batch)
    return X, y, w
