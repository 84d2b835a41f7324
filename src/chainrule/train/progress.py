"""How a training run shows that it lives: a bar on a terminal, lines elsewhere, or nothing."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from ..errors import quoted
from .history import History

__all__ = ["Bar", "Lines", "Outline", "Several", "Silent", "reporter"]

REFRESH = 0.1  # seconds between two drawings of the bar


@dataclass(frozen=True, eq=False)
class Outline:
    """What a run will be, as far as a display needs it."""

    epochs: int
    steps: int  # of an epoch
    rows: int = 0
    optimizer: Any = None
    history: History | None = None  # as it grows; one that goes on begins with what was kept

    def rate(self, step: int) -> float | None:
        """The learning rate after so many steps; None where the optimiser has none.

        >>> from chainrule import optim
        >>> Outline(1, 10, optimizer=optim.SGD(lr=optim.cosine(0.5, 10))).rate(5)
        0.25
        """
        lr = getattr(self.optimizer, "lr", None)
        return float(lr(step) if callable(lr) else lr) if lr is not None else None


class Silent:
    """Shows nothing; the others do what they do in its methods."""

    hurried = False  # whether the run was told to stop within a step

    def begin(self, outline: Outline) -> None:
        """A run is about to begin, or to go on."""

    def hurry(self) -> None:
        """A second Ctrl-C: the run stops within a step."""
        self.hurried = True

    def step(self, epoch: int, steps: int) -> None:
        """`steps` steps are done, the last of them in this epoch."""

    def epoch(self, epoch: int, numbers: Mapping[str, float]) -> None:
        """An epoch is done, with these losses and metrics."""

    def epochs(self, first: int, losses: Sequence[float]) -> None:
        """The epochs from `first` to the last in `losses` are done, and nothing was measured."""

    def close(self) -> None:
        """The run is over, for whatever reason."""


class Several(Silent):
    """Tells each of several what it is told; each is what `fit` takes as progress."""

    def __init__(self, parts: Iterable[bool | Silent | None]) -> None:
        self.chosen = list(parts)
        self.parts: list[Silent] = []

    def begin(self, outline: Outline) -> None:
        facts = [getattr(outline, field.name) for field in fields(outline)]
        self.parts = [reporter(part, *facts) for part in self.chosen]

    def step(self, epoch: int, steps: int) -> None:
        for part in self.parts:
            part.step(epoch, steps)

    def epoch(self, epoch: int, numbers: Mapping[str, float]) -> None:
        for part in self.parts:
            part.epoch(epoch, numbers)

    def epochs(self, first: int, losses: Sequence[float]) -> None:
        for part in self.parts:
            part.epochs(first, losses)

    def close(self) -> None:
        for part in self.parts:
            part.close()


class Lines(Silent):
    """A line an epoch on stderr."""

    def __init__(self, epochs: int) -> None:
        self.total = epochs

    def epoch(self, epoch: int, numbers: Mapping[str, float]) -> None:
        """Print `epoch 3/20  loss 0.1234`."""
        print(f"epoch {epoch}/{self.total}  {shown(numbers)}", file=sys.stderr, flush=True)

    def epochs(self, first: int, losses: Sequence[float]) -> None:
        """Print a line for each."""
        for epoch in range(first, len(losses) + 1):
            self.epoch(epoch, {"loss": losses[epoch - 1]})


class Bar(Silent):
    """A bar on stderr, drawn ten times a second at most, that stays with the last numbers."""

    def __init__(self, epochs: int, steps_per_epoch: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self.steps_per_epoch = steps_per_epoch
        self.drawn = time.monotonic()
        self.bar: Any = Progress(
            TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
            BarColumn(),
            TextColumn("{task.fields[numbers]}"),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=Console(stderr=True),
            auto_refresh=False,
        )
        total = epochs * steps_per_epoch
        self.task = self.bar.add_task("", total=total, epoch=1, epochs=epochs, numbers="")
        self.bar.start()

    def step(self, epoch: int, steps: int) -> None:
        """Move the bar, if the last drawing is old enough."""
        now = time.monotonic()
        if now - self.drawn >= REFRESH:
            self.drawn = now
            self.bar.update(self.task, completed=steps, epoch=epoch, refresh=True)

    def epoch(self, epoch: int, numbers: Mapping[str, float]) -> None:
        """Keep the epoch's numbers for the next drawing."""
        done = epoch * self.steps_per_epoch
        self.bar.update(self.task, completed=done, epoch=epoch, numbers=shown(numbers))

    def epochs(self, first: int, losses: Sequence[float]) -> None:
        """Keep the last one's loss."""
        self.epoch(len(losses), {"loss": losses[-1]})

    def close(self) -> None:
        """Draw the last state and leave it on the screen."""
        self.bar.refresh()
        self.bar.stop()


def shown(numbers: Mapping[str, float]) -> str:
    """The numbers in four digits, with their names.

    >>> shown({"loss": 0.123456, "accuracy": 1.0})
    'loss 0.1235  accuracy 1'
    """
    return "  ".join(f"{name} {value:.4g}" for name, value in numbers.items())


def reporter(
    progress: bool | Silent | None,
    epochs: int,
    steps_per_epoch: int,
    rows: int = 0,
    optimizer: Any = None,
    history: History | None = None,
) -> Silent:
    """None: a bar if stderr is a terminal, else nothing. True: else lines. False: nothing.

    A `Silent` of the caller's own is told how the run begins, and is what it reports to.

    >>> type(reporter(False, 1, 1)).__name__
    'Silent'
    """
    if isinstance(progress, Silent):
        progress.begin(Outline(epochs, steps_per_epoch, rows, optimizer, history))
        return progress
    if progress is not None and not isinstance(progress, bool):
        raise ValueError(f"progress must be None, True or False, got {quoted(progress)}")
    if progress is False:
        return Silent()
    if _on_terminal():
        return Bar(epochs, steps_per_epoch)
    return Lines(epochs) if progress else Silent()


def _on_terminal() -> bool:
    try:
        return bool(sys.stderr.isatty())
    except (AttributeError, ValueError):  # no stderr, or a closed one
        return False
