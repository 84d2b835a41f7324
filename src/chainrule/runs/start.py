"""A run before its first step: the untrained network with the arrays and arguments of its `fit`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data import Table, split
from . import network as parts
from .config import Settings
from .job import _Job as Job

__all__ = ["Start", "start"]


@dataclass(frozen=True, eq=False)
class Start:
    """What a run of `train_table` gives to `fit`: with it `fit` does the same steps, to the bit.

    X is standardised, and a target of numbers too. `settings` are resolved. `features` names the
    columns of X, `rows` has the place in the table of each row of X. `aside` says which of the
    settings act on training by other ways than these arrays and arguments.
    """

    settings: Settings
    model: Any
    X: Any
    y: Any
    loss: Any
    optimizer: Any
    features: tuple[str, ...]
    rows: Any
    aside: tuple[str, ...]

    def arguments(self) -> dict[str, Any]:
        """The keywords of `fit`, and of what takes the same."""
        return {
            "loss": self.loss,
            "optimizer": self.optimizer,
            "epochs": self.settings.epochs,
            "batch_size": self.settings.batch_size,
            "seed": self.settings.seed,
        }


def start(table: Table, settings: Settings) -> Start:
    """The run of these settings on a table, as it is before the first step.

    Rows that the settings would stream from a file are there all at once. Raises `DataError` as
    `train_table` does.

    >>> from chainrule.data import load_dataset
    >>> from chainrule.runs import train_table
    >>> from chainrule.train import fit
    >>> given = Settings(epochs=3, hidden=(4,))
    >>> it = start(load_dataset("iris"), given)
    >>> history = fit(it.model, it.X, it.y, **it.arguments())
    >>> history.loss == train_table(load_dataset("iris"), given).history.loss
    True
    """
    # What only keeps or draws a run is nothing to its steps.
    job = Job.of(table, dataclasses.replace(settings, tensorboard=False, plots=None))
    return Start(
        dataclasses.replace(job.settings, tensorboard=settings.tensorboard, plots=settings.plots),
        job.predictor.model,
        job.scaled(job.train),
        job.targets(job.train),
        parts.loss(job.settings),
        parts.optimizer(job.settings, job.settings.steps(job.train.rows)),
        job.train.schema.feature_names,
        _rows(table, job.settings),
        tuple(_aside(job.settings)),
    )


def _rows(table: Table, settings: Settings) -> Any:
    """The places in the table of the rows that are learnt from, in their order."""
    places = dataclasses.replace(table, features=np.arange(table.rows, dtype=np.float64)[:, None])
    rest, _ = split(places, settings.held_out, settings.seed)
    if settings.validation:
        rest, _ = split(rest, settings.validation, settings.seed)
    return rest.features[:, 0].astype(np.int64)


def _aside(settings: Settings) -> list[str]:
    said = []
    if settings.class_weight is not None:
        said.append(f"class_weight = {settings.class_weight}: every row counts the same")
    if settings.patience is not None:
        said.append(f"patience = {settings.patience}: all {settings.epochs} epochs are run")
    if settings.schedule == "plateau":
        said.append(f"schedule = plateau: the learning rate stays at {settings.lr:g}")
    return said
