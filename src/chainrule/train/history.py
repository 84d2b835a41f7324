"""What a training run leaves: the losses and metrics of its epochs and steps."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from array import array
from collections.abc import Iterable, Iterator, MutableSequence, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, SupportsIndex, overload

import numpy as np

__all__ = ["History", "Numbers"]

SHOWN = 1000  # numbers that are printed in full
CHUNK = 1000  # numbers of an array that is worth keeping


class Numbers(MutableSequence[float]):
    """A list of floats, kept as 8 bytes each: what a long run writes millions of.

    It equals a list of the same numbers, prints like one (shortened from 1001 numbers on), and
    slices and sums of it are lists; `np.asarray` copies it at the speed of memory.

    >>> losses = Numbers([0.5, 0.25])
    >>> losses.append(0.125)
    >>> losses, losses[1:], losses == [0.5, 0.25, 0.125], float(np.asarray(losses).mean().round(3))
    ([0.5, 0.25, 0.125], [0.25, 0.125], True, 0.292)
    """

    __slots__ = ("_later", "_now")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, values: Iterable[float] = ()) -> None:
        self._now = array("d")
        self._later: list[np.ndarray[Any, Any]] = []  # behind `_now`, until somebody looks
        self.extend(values)

    @property
    def _data(self) -> array[float]:
        """All of them."""
        if self._later:
            waiting = np.concatenate(self._later, dtype=np.float64)
            self._now.frombytes(waiting.data.cast("B"))
            self._later = []
        return self._now

    def __len__(self) -> int:
        return len(self._now) + sum(map(len, self._later))

    def __iter__(self) -> Iterator[float]:
        return iter(self._data)

    @overload
    def __getitem__(self, place: SupportsIndex) -> float: ...
    @overload
    def __getitem__(self, place: slice) -> list[float]: ...
    def __getitem__(self, place: Any) -> Any:
        if self._later and place == -1:  # as a callback asks after each slice
            return float(self._later[-1][-1])
        found = self._data[place]
        return found.tolist() if isinstance(found, array) else found

    def __setitem__(self, place: Any, value: Any) -> None:
        self._data[place] = array("d", value) if isinstance(place, slice) else value

    def __delitem__(self, place: Any) -> None:
        del self._data[place]

    def insert(self, place: int, value: float) -> None:
        """Put a number before this place."""
        self._data.insert(place, value)

    def append(self, value: float) -> None:
        """Put a number at the end."""
        self._data.append(value)

    def extend(self, values: Iterable[float]) -> None:
        """Put several at the end."""
        if isinstance(values, np.ndarray):
            self.adopt(np.array(values, np.float64))
        else:
            self._data.extend(array("d", values))  # all of them or none

    def adopt(self, values: np.ndarray[Any, Any]) -> None:
        """Put an array's numbers at the end, without a copy: it must not change afterwards."""
        if values.ndim != 1:
            raise TypeError(f"numbers come in one row, not in shape {values.shape}")
        if values.size >= CHUNK:
            self._later.append(values)
        elif values.size:
            self._data.extend(values.tolist())

    def tolist(self) -> list[float]:
        """The numbers as a list."""
        return self._data.tolist()

    copy = tolist

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        if copy is False:
            raise ValueError("an array of these numbers is always a copy, as they may grow")
        whole = np.frombuffer(self._data[:])
        return whole.astype(np.float64 if dtype is None else dtype, copy=False)

    def __add__(self, other: Any) -> list[float]:
        return self.tolist() + list(other) if isinstance(other, (list, Numbers)) else NotImplemented

    def __radd__(self, other: Any) -> list[float]:
        return list(other) + self.tolist() if isinstance(other, list) else NotImplemented

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Numbers):
            return self._data == other._data
        return self.tolist() == other if isinstance(other, list) else NotImplemented

    def __repr__(self) -> str:
        if len(self) <= SHOWN:
            return repr(self.tolist())
        ends = [", ".join(map(repr, part)) for part in (self._data[:3], self._data[-3:])]
        return f"[{ends[0]}, …, {ends[1]}]"

    def __reduce__(self) -> tuple[Any, ...]:
        return Numbers, (self._data,)


@dataclass(eq=False, repr=False)
class History:
    """The record of a run. Lists have one number an epoch, `step_loss` one a step.

    `loss` is the row-weighted mean of an epoch's batch losses, each before its update; `val_loss`
    and `metrics` are measured after the epoch, in evaluation mode. `metrics` maps a name to its
    numbers on the training rows, and "val_" + name to those on the validation rows. `stopped` is
    None for a run to the end, "callback" or "interrupted", and with LBFGS "converged" or "no
    descent"; an epoch that was cut short counts in `step_loss` only. `state` is the optimiser's,
    for `fit(…, state=history.state)`. `compiled` says whether the run was in machine code: "yes",
    or "no" with the reason.

    >>> history = History(loss=[0.5, 0.25], val_loss=[0.75, 0.5])
    >>> history
    History(2 epochs: loss 0.5 → 0.25, val_loss 0.75 → 0.5)
    >>> history.to_csv()
    'epoch,loss,val_loss\\n1,0.5,0.75\\n2,0.25,0.5\\n'
    """

    loss: Numbers = field(default_factory=Numbers)
    val_loss: list[float] = field(default_factory=list)
    metrics: dict[str, list[float]] = field(default_factory=dict)
    step_loss: Numbers = field(default_factory=Numbers)
    stopped: str | None = None
    seconds: float = 0.0
    seed: int | None = None
    state: dict[str, Any] = field(default_factory=dict)
    compiled: str = "no"

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("loss", "step_loss") and not isinstance(value, Numbers):
            value = Numbers(value)
        object.__setattr__(self, name, value)

    @property
    def epochs(self) -> int:
        """The number of whole epochs."""
        return len(self.loss)

    @property
    def steps(self) -> int:
        """The number of updates."""
        return len(self.step_loss)

    def columns(self) -> dict[str, Sequence[float]]:
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


def _finite(values: Sequence[float]) -> list[float | None]:
    return [value if math.isfinite(value) else None for value in values]


def _written(text: str, path: str | os.PathLike[str] | None) -> str:
    if path is not None:
        Path(path).write_text(text, encoding="utf-8")
    return text
