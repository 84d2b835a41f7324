"""What a training run leaves: the losses and metrics of its epochs and steps."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["History"]


@dataclass(eq=False, repr=False)
class History:
    """The record of a run. Lists have one number an epoch, `step_loss` one a step.

    `loss` is the row-weighted mean of an epoch's batch losses, each before its update; `val_loss`
    and `metrics` are measured after the epoch, in evaluation mode. `metrics` maps a name to its
    numbers on the training rows, and "val_" + name to those on the validation rows. `stopped` is
    None for a run to the end, "callback" or "interrupted"; an epoch that was cut short counts in
    `step_loss` only. `state` is the optimiser's, for `fit(…, state=history.state)`. `compiled` says whether the run
    was in machine code: "yes", or "no" with the reason.

    >>> history = History(loss=[0.5, 0.25], val_loss=[0.75, 0.5])
    >>> history
    History(2 epochs: loss 0.5 → 0.25, val_loss 0.75 → 0.5)
    >>> history.to_csv()
    'epoch,loss,val_loss\\n1,0.5,0.75\\n2,0.25,0.5\\n'
    """

    loss: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    metrics: dict[str, list[float]] = field(default_factory=dict)
    step_loss: list[float] = field(default_factory=list)
    stopped: str | None = None
    seconds: float = 0.0
    seed: int | None = None
    state: dict[str, Any] = field(default_factory=dict)
    compiled: str = "no"

    @property
    def epochs(self) -> int:
        """The number of whole epochs."""
        return len(self.loss)

    @property
    def steps(self) -> int:
        """The number of updates."""
        return len(self.step_loss)

    def columns(self) -> dict[str, list[float]]:
        """Every list with one number an epoch, by name."""
        validation = {"val_loss": self.val_loss} if self.val_loss else {}
        return {"loss": self.loss, **validation, **self.metrics}

    def last(self) -> dict[str, float]:
        """The numbers of the last epoch by name.

        >>> History(loss=[0.5, 0.25]).last()
        {'loss': 0.25}
        """
        return {name: values[-1] for name, values in self.columns().items() if values}

    def to_csv(self, path: str | os.PathLike[str] | None = None) -> str:
        """A line an epoch, with a header; written to `path` where one is given."""
        columns = self.columns()
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["epoch", *columns])
        writer.writerows(
            [k, *row] for k, row in enumerate(zip(*columns.values(), strict=True), start=1)
        )
        return _written(text.getvalue(), path)

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """Everything but the optimiser's state; a number that is not finite becomes null.

        >>> History(loss=[0.5], stopped="callback").to_json()[:52]
        '{"epochs": 1, "loss": [0.5], "val_loss": [], "metric'
        """
        content = {
            "epochs": self.epochs,
            "loss": _finite(self.loss),
            "val_loss": _finite(self.val_loss),
            "metrics": {name: _finite(values) for name, values in self.metrics.items()},
            "step_loss": _finite(self.step_loss),
            "stopped": self.stopped,
            "seconds": self.seconds,
            "seed": self.seed,
        }
        return _written(json.dumps(content, allow_nan=False), path)

    def __repr__(self) -> str:
        many = "epoch" if self.epochs == 1 else "epochs"
        shown = [f"{k} {v[0]:.6g} → {v[-1]:.6g}" for k, v in self.columns().items() if v]
        text = f"{self.epochs} {many}" + (": " + ", ".join(shown) if shown else "")
        return f"History({text}{f'; stopped: {self.stopped}' if self.stopped else ''})"


def _finite(values: list[float]) -> list[float | None]:
    return [value if math.isfinite(value) else None for value in values]


def _written(text: str, path: str | os.PathLike[str] | None) -> str:
    if path is not None:
        Path(path).write_text(text, encoding="utf-8")
    return text
