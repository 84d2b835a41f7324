"""The register of lecture systems: each one computes its figures anew and compares them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import numpy as np

from ..circuit import Tensor
from ..errors import unknown

TOLERANCE = 1e-12


@cache
def figures() -> dict[str, Any]:
    """The reference figures by system: computed at 50 digits, rounded to float64."""
    text = resources.files(__package__).joinpath("figures.json").read_text(encoding="utf-8")
    return dict(json.loads(text))


@dataclass(frozen=True)
class Check:
    """One comparison: what was computed here, and the figure that it must have.

    Both may be numbers, arrays, or words for a structural fact. It passes where every element has
    |ours − figure| ≤ tolerance · max(1, |figure|).
    """

    what: str
    ours: Any
    figure: Any
    tolerance: float = TOLERANCE

    @property
    def deviations(self) -> np.ndarray[Any, Any]:
        """|ours − figure| / max(1, |figure|) of each element; ∞ where they cannot be compared."""
        ours, figure = plain(self.ours), plain(self.figure)
        if ours.shape != figure.shape:
            return np.full(figure.shape, np.inf)
        equal = np.asarray(ours == figure)
        if figure.dtype.kind not in "fiub" or ours.dtype.kind not in "fiub":
            return np.where(equal, 0.0, np.inf)
        with np.errstate(invalid="ignore"):
            error = abs(ours.astype(float) - figure) / np.maximum(1.0, abs(figure.astype(float)))
        return np.where(equal, 0.0, np.where(np.isnan(error), np.inf, error))

    @property
    def deviation(self) -> float:
        """The largest of the deviations."""
        return float(np.max(self.deviations, initial=0.0))

    @property
    def passed(self) -> bool:
        """Whether every element is within the tolerance."""
        return self.deviation <= self.tolerance

    @property
    def count(self) -> int:
        """How many figures it compares."""
        return int(plain(self.figure).size)


def plain(value: Any) -> np.ndarray[Any, Any]:
    """The value as an array, read without leaving a trace in the circuit."""
    return np.asarray(value.value if isinstance(value, Tensor) else value)


Compute = Callable[[], Iterator[Check]]


@dataclass(frozen=True)
class System:
    """One thing that the lecture notes describe, and the function that computes it."""

    id: str
    title: str
    lecture: str
    compute: Compute
    notes: str = ""
    erratum: str = ""  # where the notes go wrong, and what is right
    not_yet: str = ""  # what of the system does not exist yet; its checks cover the rest


@dataclass(frozen=True)
class Result:
    """What running a system gave."""

    system: System
    checks: tuple[Check, ...]
    error: str  # the message of an exception that ended the run, or ""
    seconds: float

    @property
    def figures(self) -> int:
        """How many figures were compared."""
        return sum(check.count for check in self.checks)

    @property
    def worst(self) -> float:
        """The largest deviation among them."""
        return max((check.deviation for check in self.checks), default=0.0)

    @property
    def failed(self) -> bool:
        """Whether a figure is wrong, the run broke off, or nothing at all was compared."""
        nothing = not self.checks and not self.system.not_yet
        return bool(self.error) or nothing or not all(check.passed for check in self.checks)

    @property
    def status(self) -> str:
        """ "failed", "not yet" (what exists passes, the rest is missing) or "passed"."""
        if self.failed:
            return "failed"
        return "not yet" if self.system.not_yet else "passed"


SYSTEMS: dict[str, System] = {}


def system(
    id: str, *, title: str, lecture: str, notes: str = "", erratum: str = "", not_yet: str = ""
) -> Callable[[Compute], Compute]:
    """Enter a function that yields checks into the register under the system's number."""

    def enter(compute: Compute) -> Compute:
        if id in SYSTEMS:
            raise ValueError(f"the lecture system '{id}' is already defined")
        SYSTEMS[id] = System(id, title, lecture, compute, notes, erratum, not_yet)
        return compute

    return enter


def choose(ids: Iterable[str] = ()) -> list[System]:
    """The systems with these numbers; all of them in order when none are given.

    `s3` and `3` are read as `S03`. Raises `UnknownNameError` with the nearest that exists.
    """
    wanted = {given: _number(given) for given in ids}
    for given, name in wanted.items():
        if name not in SYSTEMS:
            raise unknown("lecture system", given, sorted(SYSTEMS))
    return [SYSTEMS[name] for name in wanted.values() or sorted(SYSTEMS)]


def _number(given: str) -> str:
    digits = given.upper().removeprefix("S")
    return f"S{int(digits):02}" if digits.isdecimal() else given


def run(chosen: System) -> Result:
    """Compute one system. An exception is a result too: a system that breaks off has failed."""
    start = time.perf_counter()
    checks: list[Check] = []
    error = ""
    try:
        checks.extend(chosen.compute())
    except Exception as problem:  # whatever went wrong belongs in the table, beside the others
        error = f"{type(problem).__name__}: {problem}"
    return Result(chosen, tuple(checks), error, time.perf_counter() - start)
