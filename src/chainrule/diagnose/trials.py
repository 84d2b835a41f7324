"""Counterfactuals: the same run with one thing changed, within a budget that is counted."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from ..errors import ChainruleError
from ..train.progress import Silent
from .setup import Change, Outcome, Setup, judged, run

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
    """A reporter that ends its run when it is told to, as a second Ctrl-C would."""

    def __init__(self, told: threading.Event) -> None:
        self.told = told

    def step(self, epoch: int, steps: int) -> None:
        if self.told.is_set():
            raise KeyboardInterrupt

    def epochs(self, first: int, losses: Sequence[float]) -> None:
        self.step(first, 0)


class Trials:
    """Runs changes of one setup, each once, and keeps what came of them."""

    def __init__(self, setup: Setup, times: float, show: Any, base: Outcome) -> None:
        self.setup, self.base, self.show = setup, base, show
        self.left = max(times * setup.work, SMALL)
        self.done: dict[str, tuple[Change, Outcome]] = {}
        self.refused: list[str] = []  # what the budget had no room for
        self.runs = 0
        self._held: dict[str, float] = {}

    def attempt(self, changes: Iterable[Change]) -> list[tuple[Change, Outcome]]:
        """The outcomes of changes, those that the budget has room for, in their order."""
        changes = list(dict.fromkeys(changes))
        fresh: list[tuple[Change, Setup]] = []
        for change in changes:
            if change.name in self.done or change.name in self.refused:
                continue
            setup = self._applied(change)
            if setup is None or setup.work > self.left:
                self.refused.append(change.name)
            else:
                self.left -= setup.work
                fresh.append((change, setup))
        for (change, _), outcome in zip(fresh, self._run([s for _, s in fresh]), strict=True):
            self.done[change.name] = (change, outcome)
        return [self.done[c.name] for c in changes if c.name in self.done]

    def _applied(self, change: Change) -> Setup | None:
        try:
            return change.apply(self.setup)
        except (ChainruleError, ValueError, TypeError, IndexError):
            return None  # it does not fit this network

    def _run(self, setups: list[Setup]) -> list[Outcome]:
        self.runs += len(setups)
        at_once = min(len(setups), cores())
        if at_once < 2 or sum(s.work for s in setups) < APART:
            return [self._one(setup, None) for setup in setups]
        told = threading.Event()
        with ThreadPoolExecutor(at_once) as pool:
            waiting = [pool.submit(self._one, setup, told) for setup in setups]
            try:
                return [future.result() for future in waiting]
            except KeyboardInterrupt:
                told.set()
                raise

    def _one(self, setup: Setup, told: threading.Event | None) -> Outcome:
        outcome = run(setup, show=Stop(told) if told else None, threads=1 if told else None)
        if outcome.interrupted:
            raise KeyboardInterrupt
        self.show.ran(outcome)
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
        if setup is None or not separable(setup):
            return float("nan")
        order = np.random.default_rng([setup.seed, 4]).permutation(setup.rows)
        seen, unseen = np.sort(order[setup.rows // 4 :]), np.sort(order[: setup.rows // 4])
        X, y = np.asarray(setup.X), np.asarray(setup.y)
        self.runs += 1
        outcome = run(setup.changed(X=X[seen], y=y[seen]))
        if outcome.interrupted:
            raise KeyboardInterrupt
        if outcome.score.error:
            return -1.0
        self.show.ran(outcome)
        skill = judged(setup.changed(X=X[unseen], y=y[unseen]), outcome.model).skill
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
