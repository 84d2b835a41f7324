"""How a diagnosis shows that it lives: a line that moves on a terminal, lines elsewhere."""

from __future__ import annotations

import sys
from typing import Any

from ..errors import quoted
from .finding import Score

__all__ = ["Show", "reporter"]


class Show:
    """Shows nothing; the others do what they do in its methods."""

    def begin(self, what: str) -> None:
        """A run is about to begin."""

    def ran(self, what: str, score: Score) -> None:
        """A run is over."""

    def close(self) -> None:
        """All is done."""


class Lines(Show):
    """A line on stderr for each run that is over."""

    def ran(self, what: str, score: Score) -> None:
        print(f"{what}: {score}", file=sys.stderr, flush=True)


class Spinner(Show):
    """A line on stderr that goes away at the end: the report says all that it said."""

    def __init__(self) -> None:
        from rich.console import Console

        self.done = 0
        self.status: Any = Console(stderr=True).status("watching the run")
        self.status.start()

    def begin(self, what: str) -> None:
        from rich.text import Text

        self.status.update(Text(f"run {self.done + 1}: {what}"))

    def ran(self, what: str, score: Score) -> None:
        self.done += 1

    def close(self) -> None:
        self.status.stop()


def reporter(progress: bool | None) -> Show:
    """None: a moving line on a terminal, else nothing. True: else lines. False: nothing."""
    if progress is not None and not isinstance(progress, bool):
        raise ValueError(f"progress must be None, True or False, got {quoted(progress)}")
    if progress is False:
        return Show()
    try:
        terminal = bool(sys.stderr.isatty())
    except (AttributeError, ValueError):  # there is none, or it is closed
        return Show()
    if terminal:
        return Spinner()
    return Lines() if progress else Show()
