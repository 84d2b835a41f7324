"""Counterfactuals: the same run with one thing changed, within a budget that is counted."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..errors import ChainruleError
from ..train.cores import cores
from ..train.progress import Silent
from ..train.run import Interrupt, interruptible
from .setup import Change, Outcome, Setup, run
from .show import Show

__all__ = ["Trials", "residual"]

Array = Any

SMALL = 2e10  # multiplications that always fit: ten seconds of a slow core
APART = 3e9  # multiplications from which on several runs at once are worth the threads
ROWS = 40  # rows from which on a part of them can be held out
FOLDS = 4


def residual(outcome: Outcome | None) -> float:
    """What is left to learn: 0 for no error, 1 for the best constant answer, and for worse."""
    if outcome is None:
        return 1.0
    return 1.0 - min(1.0, max(0.0, outcome.skill))


class Stop(Silent):
    """A reporter that ends its run when it is told to, or is late, as a second Ctrl-C would."""

    def __init__(self, interrupt: Interrupt, until: float) -> None:
        self.interrupt, self.until = interrupt, until

    def step(self, epoch: int, steps: int) -> None:
        if self.interrupt.asked or time.monotonic() > self.until:
            raise KeyboardInterrupt

    def epochs(self, first: int, losses: Sequence[float]) -> None:
        self.step(first, 0)


class Trials:
    """Runs changes of one setup, each once, and keeps what came of them.

    After Ctrl-C, or at the end of the time, nothing more is run: `stopped` says why, and what is
    asked for is answered from what is there.
    """

    def __init__(
        self, setup: Setup, times: float, show: Show, until: float = float("inf"),
        threads: int | None = None,
    ) -> None:  # fmt: skip
        self.setup, self.show, self.until, self.threads = setup, show, until, threads
        self.base: Outcome | None = None  # the run as it is, when it is over
        self.left = max(times * setup.work, SMALL)
        self.done: dict[str, tuple[Change, Outcome]] = {}
        self.refused: list[str] = []  # what the budget had no room for
        self.runs = 0
        self.stopped = ""
        self.interrupt = Interrupt()
        self._held: dict[str, Array | None] = {}

    def attempt(self, changes: Iterable[Change]) -> list[tuple[Change, Outcome]]:
        """The outcomes of changes, those that the budget has room for, in their order."""
        changes = list({change.name: change for change in changes}.values())
        fresh: list[tuple[Change, Setup]] = []
        for change in changes:
            if change.name in self.done or change.name in self.refused or self.stopped:
                continue
            setup = self._applied(change)
            if setup is None:
                continue
            if setup.work > self.left:
                self.refused.append(change.name)
                continue
            self.left -= setup.work
            fresh.append((change, setup))
        for (change, _), outcome in zip(fresh, self._run(fresh), strict=False):
            self.done[change.name] = (change, outcome)
        return [self.done[c.name] for c in changes if c.name in self.done]

    def _applied(self, change: Change) -> Setup | None:
        try:
            return change.apply(self.setup)
        except (ChainruleError, ValueError, TypeError, IndexError, AttributeError):
            return None  # it does not fit this network

    def _run(self, fresh: list[tuple[Change, Setup]]) -> list[Outcome]:
        """The outcomes, of the first few where it was stopped."""
        outcomes: list[Outcome] = []
        at_once = min(len(fresh), cores())
        try:
            if at_once < 2 or sum(setup.work for _, setup in fresh) < APART:
                for change, setup in fresh:
                    outcomes += [self._one(change, setup, self.threads)]
                return outcomes
            with ThreadPoolExecutor(at_once) as pool:
                waiting = [pool.submit(self._one, c, s, 1) for c, s in fresh]
                try:
                    for future in waiting:
                        outcomes.append(future.result())
                except BaseException:
                    self.interrupt.asked = True
                    raise
        except KeyboardInterrupt:
            self.stop()
        return outcomes

    def outcome_of(self, change: Change) -> Outcome | None:
        """The outcome of one change, whatever the budget says; None where it does not fit."""
        setup = None if self.stopped else self._applied(change)
        found = self._run([(change, setup)]) if setup is not None else []
        return found[0] if found else None

    def watcher(self) -> Silent:
        """What ends a run that is late, or for which Ctrl-C was pressed."""
        return Stop(self.interrupt, self.until)

    def stop(self) -> None:
        """Run nothing more."""
        late = time.monotonic() > self.until
        self.stopped = "the time was over" if late else "it was interrupted"

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Within, Ctrl-C ends the run under way at its step, and no other begins; what is measured
        between two runs is measured to its end. A second Ctrl-C does not wait.

        As in `fit`, it is left to whoever else handles it.
        """
        with interruptible(self._pressed):
            yield

    def _pressed(self, number: int, frame: Any) -> None:
        self.interrupt.press(number, frame)
        self.stop()

    def _one(self, change: Change, setup: Setup, threads: int | None) -> Outcome:
        self.show.begin(change.name)
        outcome = run(setup, change.name, show=self.watcher(), threads=threads)
        if outcome.interrupted:
            raise KeyboardInterrupt
        self.runs += 1
        self.show.ran(change.name, outcome.score)
        return outcome

    def best(self) -> tuple[Change, Outcome] | None:
        """The change that leaves least to learn, the earliest of equals."""
        return min(self.done.values(), key=lambda pair: residual(pair[1]), default=None)

    def held_out(self, change: Change | None) -> Array | None:
        """What is left to learn of each row by networks that have not seen it; None if unknown.

        A network that is given more steps or units fits any noise: what counts is what it knows of
        rows that it was not trained on. Each quarter of the rows is asked of a run on the others,
        one of them where the budget has no room for four (the rest is NaN); the mean is 0 for no
        error and 1 for the best constant answer.
        """
        name = change.name if change is not None else ""
        if name not in self._held:
            self._held[name] = self._apart(change)
        return self._held[name]

    def _apart(self, change: Change | None) -> Array | None:
        setup = self.setup if change is None else self._applied(change)
        if setup is None or self.stopped or not separable(setup):
            return None
        order = np.random.default_rng([setup.seed, 4]).permutation(setup.rows)
        X, y = np.asarray(setup.X), np.asarray(setup.y)
        parts: list[tuple[Change, Setup]] = []
        folds = FOLDS if (FOLDS - 1) * setup.work <= self.left else 1
        for k in range(folds):
            seen = np.sort(np.delete(order, np.s_[k::FOLDS]))
            name = f"{change.name if change is not None else 'as it is'}, on other rows {k + 1}"
            part = Change(name, "", lambda s: s)
            parts.append((part, setup.changed(X=X[seen], y=y[seen])))
        self.left -= sum(part.work for _, part in parts)
        found = self._run(parts)
        if len(found) < folds:
            return None
        left = np.full(setup.rows, np.nan)
        for k, outcome in enumerate(found):
            rows = order[k::FOLDS]
            left[rows] = 1.0
            if not outcome.score.error:
                said = outcome.model.predict(X[rows])
                left[rows] = setup.task.left(said, y, rows, setup.boundary)
        return left


def separable(setup: Setup) -> bool:
    """Whether rows can be held out: there are enough of them, and they are not a truth table."""
    if setup.rows < ROWS or np.asarray(setup.X).dtype.kind not in "fiub":
        return False
    flat = np.asarray(setup.X).reshape(setup.rows, -1)
    return len(np.unique(flat[: 10 * ROWS], axis=0)) >= ROWS // 2
