"""One run of the suite, and how it is chosen: by its outcome, never by a detector.

A sound run is kept if it reaches its goal. A faulty one is kept if the recipe reaches the goal at
the same seed *without* the change, and misses it clearly with the change. Otherwise another draw is
tried, so what is chosen follows from the seed alone.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from diagnosis_suite.crossed import crossed
from diagnosis_suite.faults import FAULTS, Fault
from diagnosis_suite.recipe import Recipe, score
from diagnosis_suite.sound import SOUND, TWICE, Sound

ATTEMPTS = 40
MARGIN = 0.05  # by how much a faulty run must miss its goal
KEPT = Path(__file__).with_name("kept.json")  # which draw was kept, by seed and case
# Only these may end in numbers that are not finite: anything else would be another fault as well.
MAY_OVERFLOW = (
    "data_fault", "exploding_gradient", "learning_rate_too_high", "unscaled_inputs",
    "unscaled_targets", "zero_probability",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A training run, what is wrong with it, and what repairs it.

    `problems` is empty for a sound run; `acceptable` are further names that hold. `fix` is the
    recipe without the planted change, and `fixable` whether a user could undo it.
    """

    id: str
    title: str
    what: str
    problems: tuple[str, ...]
    acceptable: tuple[str, ...]
    fixable: bool
    recipe: Recipe = field(repr=False)
    fix: Recipe | None = field(repr=False)
    attempt: int = 0

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    X = property(lambda self: self.recipe.X)
    y = property(lambda self: self.recipe.y)
    loss = property(lambda self: self.recipe.make_loss)
    epochs = property(lambda self: self.recipe.epochs)
    batch_size = property(lambda self: self.recipe.batch_size)
    seed = property(lambda self: self.recipe.seed)
    dtype = property(lambda self: self.recipe.dtype)
    task = property(lambda self: self.recipe.task)
    metric = property(lambda self: self.recipe.metric)
    threshold = property(lambda self: self.recipe.goal)

    def model(self) -> Any:
        """A new network, with the weights of the seed."""
        return self.recipe.model()

    def optimizer(self) -> Any:
        """A new optimiser."""
        return self.recipe.make_optimizer()

    def score(self, model: Any, X: Any = None, y: Any = None, loss: Any = None) -> float:
        """The metric of a network, on data of its own where a remedy has changed them."""
        X, y = (self.X if X is None else X), (self.y if y is None else y)
        return score(model, X, y, self.task, self.loss if loss is None else loss)

    def settings(self) -> dict[str, Any]:
        """What `cr.fit` and `cr.diagnose` are given beside model, X and y, all of it new."""
        return {
            "loss": self.loss,
            "optimizer": self.optimizer(),
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "seed": self.seed,
        }

    @cached_property
    def steps(self) -> int:
        """The number of updates."""
        return self.recipe.epochs * -(-len(self.recipe.X) // self.recipe.batch_size)


# -- what there is ----------------------------------------------------------------------------


def entries() -> dict[str, Fault | Sound]:
    """Every row of the suite by its id: problem/number, or sound/name."""
    found: dict[str, Fault | Sound] = {}
    for fault in FAULTS:
        number = 1 + sum(key.startswith(f"{fault.problem}/") for key in found)
        found[f"{fault.problem}/{number}"] = fault
    for kind in SOUND:
        name = "sound/" + kind.name.replace(",", "").replace(" ", "-").lower()
        found[name] = kind
        if kind.name in TWICE:
            found[f"{name}/2"] = kind
    return found


def drawn(key: str, seed: int, attempt: int) -> Case:
    """The case of this id at one draw, kept or not."""
    entry = (crossed() if key.startswith("crossed/") else entries())[key]
    again = key.rpartition("/")[2] if key.startswith("sound/") and key.count("/") == 2 else ""
    text = f"{entry.problem if isinstance(entry, Fault) else 'sound'}: {entry.name}{again}"
    rng = np.random.default_rng([seed, zlib.crc32(text.encode()), attempt])
    if isinstance(entry, Sound):
        recipe = entry.recipe(rng)
        return Case(key, entry.name, entry.what, (), (), False, recipe, None, attempt)
    whole = entry.base(rng)
    recipe = entry.change(whole, rng)
    about = entry.name, entry.what, (entry.problem,), entry.also, entry.fixable
    return Case(key, *about, recipe, whole, attempt)


def twin(case: Case) -> Case:
    """The recipe of a faulty run without its fault: a sound run like any other."""
    assert case.fix is not None, f"{case.id} is sound already"
    return Case(
        f"twin/{case.id}", case.title, "nothing", (), (), False, case.fix, None, case.attempt
    )


# -- what is kept -----------------------------------------------------------------------------


def holds(case: Case) -> bool:
    """Whether the outcome of training says what the case claims."""
    if case.fix is None:
        return case.recipe.reached() >= case.recipe.goal
    if case.fix.reached() < case.threshold:
        return False
    reached = case.recipe.reached()
    if not np.isfinite(reached) and case.problems[0] not in MAY_OVERFLOW:
        return False
    return reached <= case.recipe.goal - MARGIN


def chosen(key: str, seed: int) -> Case:
    """The first draw that holds; the recorded one where the seed has been drawn before."""
    known = recorded().get(str(seed), {})
    if key in known:
        return drawn(key, seed, known[key])
    for attempt in range(ATTEMPTS):
        case = drawn(key, seed, attempt)
        if holds(case):
            return case
    raise RuntimeError(f"{key}: none of {ATTEMPTS} draws at seed {seed} does what it claims")


def recorded() -> dict[str, dict[str, int]]:
    """Seed ↦ id ↦ the draw that was kept: what spares the suite its trainings."""
    return json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.exists() else {}


def record(seed: int, found: Sequence[Case]) -> None:
    """Write down which draws were kept."""
    whole = {**recorded(), str(seed): {case.id: case.attempt for case in found}}
    KEPT.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
