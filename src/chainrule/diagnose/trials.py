"""Counterfactuals: the same run with one thing changed, within a budget that is counted."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ..errors import ChainruleError
from ..train.progress import Silent
from .setup import Change, Outcome, Setup, judged, run
from .show import Show

__all__ = ["Trials", "residual"]

SMALL = 2e10  # multiplications that always fit: ten seconds of a slow core
APART = 3e9  # multiplications from which on several runs at once are worth the threads
ROWS = 40  # rows from which on a quarter of them can be held out


def residual(outcome: Outcome | None) -> float:
    """What is left to learn: 0 for no error, 1 for the best constant answer, and for worse."""
    if outcome is None:
        return 1.0
    return 1.0 - min(1.0, max(0.0, outcome.skill))


class Stop(Silent):
    """A reporter that ends its run when it is told to, or is late, as a second Ctrl-C would."""

    def __init__(self, told: threading.Event, until: float) -> None:
        self.told, self.until = told, until

    def step(self, epoch: int, steps: int) -> None:
        if self.told.is_set() or time.monotonic() > self.until:
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
        self._held: dict[str, float] = {}

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
        told = threading.Event()
        at_once = min(len(fresh), cores())
        try:
            if at_once < 2 or sum(setup.work for _, setup in fresh) < APART:
                for change, setup in fresh:
                    outcomes += [self._one(change, setup, told, self.threads)]
                return outcomes
            with ThreadPoolExecutor(at_once) as pool:
                waiting = [pool.submit(self._one, c, s, told, 1) for c, s in fresh]
                try:
                    for future in waiting:
                        outcomes.append(future.result())
                except BaseException:
                    told.set()
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
        """What ends a run that is late."""
        return Stop(threading.Event(), self.until)

    def stop(self) -> None:
        """Run nothing more."""
        late = time.monotonic() > self.until
        self.stopped = "the time was over" if late else "it was interrupted"

    def _one(
        self, change: Change, setup: Setup, told: threading.Event, threads: int | None
    ) -> Outcome:
        self.show.begin(change.name)
        outcome = run(setup, change.name, show=Stop(told, self.until), threads=threads)
        if outcome.interrupted:
            raise KeyboardInterrupt
        self.runs += 1
        self.show.ran(change.name, outcome.score)
        return outcome

    def best(self) -> tuple[Change, Outcome] | None:
        """The change that leaves least to learn, the earliest of equals."""
        return min(self.done.values(), key=lambda pair: residual(pair[1]), default=None)

    def held_out(self, change: Change | None) -> float:
        """The skill on a quarter of the rows, trained on the others; NaN where that says nothing.

        A network that is given more steps or units fits any noise: what counts is what it knows of
        rows that it has not seen.
        """
        name = change.name if change is not None else ""
        if name not in self._held:
            self._held[name] = self._apart(change)
        return self._held[name]

    def _apart(self, change: Change | None) -> float:
        setup = self.setup if change is None else self._applied(change)
        if setup is None or self.stopped or not separable(setup):
            return float("nan")
        order = np.random.default_rng([setup.seed, 4]).permutation(setup.rows)
        seen, unseen = np.sort(order[setup.rows // 4 :]), np.sort(order[: setup.rows // 4])
        X, y = np.asarray(setup.X), np.asarray(setup.y)
        name = f"{change.name if change is not None else 'as it is'}, on three quarters of the rows"
        part = Change(name, "", lambda s: s)
        found = self._run([(part, setup.changed(X=X[seen], y=y[seen]))])
        if not found:
            return float("nan")
        if found[0].score.error:
            return -1.0
        skill = judged(setup.changed(X=X[unseen], y=y[unseen]), found[0].model).skill
        return max(-1.0, skill)


def separable(setup: Setup) -> bool:
    """Whether rows can be held out: there are enough of them, and they are not a truth table."""
    if setup.rows < ROWS or np.asarray(setup.X).dtype.kind not in "fiub":
        return False
    flat = np.asarray(setup.X).reshape(setup.rows, -1)
    return len(np.unique(flat[: 10 * ROWS], axis=0)) >= ROWS // 2


def cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
