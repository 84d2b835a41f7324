"""compare: transfer functions × losses × optimisers × seeds, trained side by side by `fit`."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from ..errors import ChainruleError, DataError, unknown
from ..nn.base import count
from .cell import Cell, Experiment, Task, time_epochs
from .combination import Combination
from .ranking import Place, Ratio, labels, ranked, speed_ratio
from .rows import Rows, rows_of
from .show import Show, reporter
from .statistics import TESTS
from .workers import run_all

__all__ = ["Comparison", "compare"]

ROUNDS = 3  # of clock readings, one combination after the other in each
TUNE = ("score", "speed")


@dataclass(eq=False)
class Comparison:
    """What a comparison found. `print` shows the ranking; `.save("page.html")` writes the page.

    `cells` maps each combination's label to its runs, a seed each; `ranking` has the combinations
    from best to worst, and says of each whether its difference from the leader is more than noise.
    """

    data: str
    metric: str  # "accuracy", or "R²"
    combinations: tuple[Combination, ...]
    lrs: tuple[float, ...]  # the rate that each was trained at
    runs: list[Cell]
    tuning: list[Cell]
    seeds: tuple[int, ...]
    epochs: int
    batch_size: int | None
    level: float  # the training score of `epochs_to_level`
    rows: tuple[int, int]  # training rows, and those that the score is measured on
    baseline: float
    test: str = "t"
    tune: str = "score"
    own: bool = True  # whether the score is on rows that were not trained on
    interrupted: bool = False
    seconds: float = 0.0
    per_epoch: dict[int, float] = field(default_factory=dict)

    @property
    def labels(self) -> list[str]:
        """The combinations' names."""
        return labels(self.combinations)

    @property
    def cells(self) -> dict[str, list[Cell]]:
        """The runs of each combination by its label."""
        return {
            name: [cell for cell in self.runs if cell.combination == k]
            for k, name in enumerate(self.labels)
        }

    @cached_property
    def ranking(self) -> list[Place]:
        """The combinations that have a score, the best first."""
        resolution = 1 / self.rows[1] if self.metric == "accuracy" else 0.0
        return ranked(
            self.combinations,
            self.lrs,
            self.runs,
            level=self.level,
            test=self.test,
            resolution=resolution,
            seconds=self.per_epoch,
        )

    def speed(self, slow: str, fast: str, level: float | None = None) -> Ratio:
        """How many times as many epochs as `fast` the combination `slow` takes to the level."""
        for label in (slow, fast):
            if label not in self.labels:
                raise unknown("combination", label, self.labels)
        cells, level = self.cells, self.level if level is None else level
        a, b = ([c for c in cells[label] if c.finished] for label in (slow, fast))
        return speed_ratio(a, b, level)

    def __str__(self) -> str:
        from .text import summary

        return summary(self)

    def html(self) -> str:
        """One HTML page, offline: ranking, learning curves, and what the figures can say."""
        from .page import comparison_page

        return comparison_page(self)

    def _repr_html_(self) -> str:
        from .page import body

        return body(self)

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """Everything measured, with null for what is not finite; written to `path` if given.

        What the clock says stands under "seconds" and "seconds_per_epoch" alone; all else is the
        same on every run.
        """
        text = json.dumps(plain(self._document()), ensure_ascii=False, allow_nan=False, indent=1)
        if path is not None:
            write(path, text + "\n")
        return text

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write `.html`, `.json` or `.txt`, whichever the name ends in, whole or not at all."""
        save(self, path)

    def _document(self) -> dict[str, Any]:
        return {
            "data": self.data,
            "metric": self.metric,
            "baseline": self.baseline,
            "rows": {"train": self.rows[0], "scored": self.rows[1], "held_out": self.own},
            "seeds": self.seeds,
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "level": self.level,
            "test": self.test,
            "interrupted": self.interrupted,
            "ranking": [_entry(place) for place in self.ranking],
            "cells": [dataclasses.asdict(cell) for cell in self.runs],
            "tuning": [
                {"combination": c.combination, "lr": c.lr, "seed": c.seed, "score": c.score}
                for c in self.tuning
            ],
            "seconds": self.seconds,
        }


def _entry(place: Place) -> dict[str, Any]:
    return {
        "rank": place.rank,
        "label": place.label,
        **place.combination.facts(),
        "lr": place.lr,
        "parameters": place.parameters,
        "seeds": len(place.cells),
        "diverged": place.diverged,
        "score": dataclasses.asdict(place.score),
        "difference": dataclasses.asdict(place.difference),
        "p": place.p,
        "tied": place.tied,
        "epochs_to_level": place.epochs_to_level,
        "reached": place.reached,
        "dead": place.median("dead"),
        "seconds_per_epoch": place.seconds_per_epoch,
    }


def plain(value: Any) -> Any:
    """The value as JSON can hold it: null in the place of NaN and infinities."""
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def save(found: Any, path: str | os.PathLike[str]) -> None:
    """Write the form that the path's ending asks for: `.html`, `.json` or `.txt`."""
    ending = os.path.splitext(os.fspath(path))[1].lower()
    forms: dict[str, Any] = {".html": found.html, ".json": found.to_json, ".txt": found.__str__}
    if ending not in forms:
        raise unknown("file ending", ending, forms)
    write(path, forms[ending]())


def write(path: str | os.PathLike[str], text: str) -> None:
    """A file appears whole or not at all."""
    from ..nn.tensorfile import write_whole

    write_whole(os.fspath(path), text.encode())


def compare(
    data: Any,
    *,
    target: Any = None,
    task: str | None = None,
    activations: Sequence[str] = ("sigmoid", "tanh", "relu"),
    losses: Sequence[str] | None = None,
    optimizers: Sequence[Any] = ("adam",),
    lr: float | Sequence[float] | None = None,
    hidden: Sequence[int] = (32,),
    init: str = "matched",
    inputs: str | Sequence[str] = "standardised",
    combinations: Iterable[Combination] | None = None,
    seeds: int | Sequence[int] = 5,
    epochs: int = 20,
    batch_size: int | None = 32,
    held_out: float = 0.2,
    split_seed: int = 0,
    level: float | None = None,
    tune: str = "score",
    test: str = "t",
    jobs: int | None = None,
    times: bool = True,
    dtype: str = "float32",
    compile: bool = True,
    progress: bool | None = None,
) -> Comparison:
    """Train each activation × loss × optimizer from each seed, and rank them by held-out score.

    `data` is a bundled dataset's name or "xor", a CSV file or data frame with its `target`, a
    `Table`, or (X, y). A loss is a name of `nn.losses`, or output+loss as "sigmoid+squared_error";
    losses on logits get logits. For what is no product of choices give `combinations`, each a
    `Combination`, in place of activations … inputs.

    A seed's runs share one split, the order of the rows and, but for the initialiser's scale, the
    starting weights: differences are taken seed by seed. A `lr` of several rates gives each
    combination its best on a quarter of the training rows, from two seeds; `tune="speed"` takes the
    one that first reaches `level` instead. With one rate, the result holds for that rate.

    `ranking` has 95 % intervals over the seeds, and the paired `test` ("t", or "sign_flip") with
    Holm's correction over all pairs; a combination whose p is above 0.05 is tied with the leader.
    `level` is a training score; its default is 95 % of the way from a constant answer to the best
    final one. `jobs` processes, as many as pay by default, change no figure. `times` takes
    the seconds per epoch, one combination at a time, after all else.

    Raises `UnknownNameError` and `DataError` for what cannot be compared. A run that diverges
    scores as a constant answer; one that fails or whose process dies is named, and left out.
    Ctrl-C keeps what is finished, with `interrupted` set.

    >>> found = compare("iris", activations=["tanh", "relu"], seeds=2, epochs=5, times=False)
    >>> sorted(found.cells), found.metric
    (['relu', 'tanh'], 'accuracy')

    Source: transfer-and-loss, "what are the best transfer functions and loss functions?"
    """
    rows = rows_of(data, target, held_out, split_seed, task)
    own = combinations is not None
    given = tuple(combinations or ()) if own else _product(
        rows, activations, losses, optimizers, inputs, lr=lr, hidden=_layers(hidden), init=init
    )  # fmt: skip
    if not given:
        raise DataError("there is nothing to compare; give at least one combination")
    chosen = tuple(dict.fromkeys(c.resolved(rows.classes > 0) for c in given))
    _demand_choices(test, tune, level)
    size = None if batch_size is None else count("batch_size", batch_size)
    kind = str(np.dtype(dtype))
    plan = Experiment(rows, chosen, count("epochs", epochs), size, kind, compile=compile)
    return _compared(plan, _seeds(seeds), level, tune, test, _jobs(jobs), times, progress)


def _product(
    rows: Rows, activations: Any, losses: Any, optimizers: Any, inputs: Any, **same: Any
) -> tuple[Combination, ...]:
    usual = "softmax_cross_entropy" if rows.classes else "squared_error"
    several = (_several(v) for v in (activations, losses or usual, optimizers, inputs))
    rates = same.pop("lr")
    same["lr"] = tuple(rates) if isinstance(rates, (Sequence, np.ndarray)) else rates
    return tuple(
        Combination(activation, loss, optimizer, inputs=how, **same)
        for loss, optimizer, how, activation in _turned(*several)
    )


def _turned(activations: Any, losses: Any, optimizers: Any, inputs: Any) -> Any:
    return itertools.product(losses, optimizers, inputs, activations)


def _several(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, (list, tuple)) else (value,)


def _layers(hidden: Any) -> tuple[int, ...]:
    return tuple(_several(hidden))


def _jobs(jobs: int | None) -> int | None:
    return None if jobs is None else count("jobs", jobs)


def _seeds(seeds: Any) -> tuple[int, ...]:
    if isinstance(seeds, Iterable):
        chosen = tuple(dict.fromkeys(count("seed", seed, least=0) for seed in seeds))
        if not chosen:
            raise DataError("seeds is empty; give at least one")
        return chosen
    return tuple(range(count("seeds", seeds)))


def _demand_choices(test: str, tune: str, level: float | None) -> None:
    if test not in TESTS:
        raise unknown("test", test, TESTS)
    if tune not in TUNE:
        raise unknown("tune", tune, TUNE)
    if level is not None and not (math.isfinite(level) and level <= 1):
        raise DataError(f"level is {level}, expected a training score of at most 1, as 0.95")
    if tune == "speed" and level is None:
        raise DataError("tune='speed' needs level, the training score to be reached, as 0.95")


def _compared(
    plan: Experiment, seeds: tuple[int, ...], level: float | None, tune: str, test: str,
    jobs: int | None, times: bool, progress: bool | None,
) -> Comparison:  # fmt: skip
    began = time.perf_counter()
    search = [
        Task(seed, k, lr, tuning=True)
        for seed in seeds[:2]
        for k, combination in enumerate(plan.combinations)
        for lr in combination.rates
        if len(combination.rates) > 1
    ]
    show = reporter(progress, len(search) + len(seeds) * len(plan.combinations))
    tuning: list[Cell] = []
    runs: list[Cell] = []
    try:
        interrupted = bool(search) and run_all(plan, search, jobs, _into(tuning, show))
        lrs = _best_rates(plan, tuning, tune, level)
        tasks = [Task(s, k, lr) for s in seeds for k, lr in enumerate(lrs)]
        interrupted = interrupted or run_all(plan, tasks, jobs, _into(runs, show))
        runs.sort(key=lambda cell: (cell.combination, cell.seed))
        tuning.sort(key=lambda cell: (cell.combination, cell.lr, cell.seed))
        _demand_results(runs, interrupted)
        made = Comparison(
            plan.rows.train.name,
            "accuracy" if plan.rows.classes else "R²",
            plan.combinations,
            tuple(lrs),
            runs,
            tuning,
            seeds,
            plan.epochs,
            plan.batch_size,
            _level(plan, runs) if level is None else float(level),
            (plan.rows.train.rows, plan.rows.held.rows),
            plan.rows.baseline,
            test,
            tune,
            plan.rows.own,
            interrupted,
        )
        if times and not interrupted:
            show.say("reading the clock")
            made.interrupted = _read_clock(plan, lrs, seeds[0], made.per_epoch)
    finally:
        show.close()
    made.seconds = time.perf_counter() - began
    return made


def _into(cells: list[Cell], show: Show) -> Any:
    def report(cell: Cell) -> None:
        cells.append(cell)
        show.step(cell)

    return report


def _demand_results(runs: list[Cell], interrupted: bool) -> None:
    if any(cell.finished for cell in runs):
        return
    if interrupted or not runs:
        raise KeyboardInterrupt
    raise ChainruleError(f"no run gave a result; the first one: {runs[0].error}")


def _best_rates(
    plan: Experiment, tuning: list[Cell], tune: str, level: float | None
) -> list[float]:
    """The rate of each combination: the only one, or the best on the validation part."""

    def merit(k: int, lr: float) -> tuple[float, ...]:
        cells = [c for c in tuning if (c.combination, c.lr) == (k, lr) and c.finished]
        if not cells:
            return (-math.inf, -math.inf)
        score = float(np.mean([cell.score for cell in cells]))
        if tune == "speed":
            return (-float(np.mean([cell.epochs_to(level or 0.0) for cell in cells])), score)
        losses = [cell.val_losses[-1] if cell.val_losses else math.inf for cell in cells]
        return (score, -float(np.mean(losses)))

    return [
        max(combination.rates, key=lambda lr, k=k: merit(k, lr))  # type: ignore[misc]
        for k, combination in enumerate(plan.combinations)
    ]


def _level(plan: Experiment, runs: list[Cell]) -> float:
    """95 % of the way from a constant answer to the best mean final training score."""
    final: dict[int, list[float]] = {}
    for cell in runs:
        if cell.finished and not cell.diverged:
            final.setdefault(cell.combination, []).append(cell.train_scores[-1])
    best = max((float(np.mean(scores)) for scores in final.values()), default=1.0)
    start = plan.rows.start
    return start + 0.95 * (best - start)


def _read_clock(plan: Experiment, lrs: Sequence[float], seed: int, into: dict[int, float]) -> bool:
    """Seconds per epoch of each combination: the median of rounds in which all take their turn."""
    readings: dict[int, list[float]] = {}
    lengths: dict[int, int | None] = dict.fromkeys(range(len(lrs)))
    try:
        for _ in range(ROUNDS):
            for k, lr in enumerate(lrs):
                seconds, lengths[k] = time_epochs(plan, Task(seed, k, lr), lengths[k])
                readings.setdefault(k, []).append(seconds)
    except KeyboardInterrupt:
        return True
    into.update({k: float(np.median(values)) for k, values in readings.items()})
    return False
