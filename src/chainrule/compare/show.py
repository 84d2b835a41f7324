"""How a comparison shows that it lives: a line that moves on a terminal, lines elsewhere."""

from __future__ import annotations

import sys
from typing import Any

from ..errors import quoted
from .cell import Cell

__all__ = ["Show", "reporter"]


class Show:
    """Shows nothing; the others do what they do in its methods."""

    def step(self, cell: Cell) -> None:
        """A cell is done."""

    def say(self, what: str) -> None:
        """Something else is going on."""

    def close(self) -> None:
        """All is done."""


class Lines(Show):
    """A line on stderr for each tenth of the cells, and for each that failed."""

    def __init__(self, total: int) -> None:
        self.total, self.done = total, 0

    def step(self, cell: Cell) -> None:
        before, self.done = self.done, self.done + 1
        if cell.error:
            print(f"seed {cell.seed}: {cell.error}", file=sys.stderr, flush=True)
        if self.done * 10 // self.total > before * 10 // self.total:
            print(f"{self.done} of {self.total} runs", file=sys.stderr, flush=True)


class Bar(Show):
    """A bar on stderr that goes away at the end: the result says all that it said."""

    def __init__(self, total: int) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        self.bar: Any = Progress(
            MofNCompleteColumn(),
            TextColumn("runs"),
            BarColumn(),
            TextColumn("{task.fields[last]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self.task = self.bar.add_task("", total=total, last="")
        self.bar.start()

    def step(self, cell: Cell) -> None:
        last = cell.error or f"seed {cell.seed}: {cell.score:.4g}"
        self.bar.update(self.task, advance=1, last=last)

    def say(self, what: str) -> None:
        self.bar.update(self.task, last=what)

    def close(self) -> None:
        self.bar.stop()


def reporter(progress: bool | None, total: int) -> Show:
    """None: a bar if stderr is a terminal, else nothing. True: else lines. False: nothing."""
    if progress is not None and not isinstance(progress, bool):
        raise ValueError(f"progress must be None, True or False, got {quoted(progress)}")
    if progress is False:
        return Show()
    if _on_terminal():
        return Bar(total)
    return Lines(total) if progress else Show()


def _on_terminal() -> bool:
    try:
        return bool(sys.stderr.isatty())
    except (AttributeError, ValueError):  # no stderr, or a closed one
        return False
