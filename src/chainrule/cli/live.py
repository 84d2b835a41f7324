"""How `chainrule train` shows that it lives: a status and a loss curve, or plain lines.

On a terminal the status and the curve are drawn in place; elsewhere there is a line an epoch, one a
second at most. A display that cannot be written to falls silent: it never ends a run.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click
import numpy as np

from ..train.progress import Outline, Silent, shown

__all__ = ["Curve", "Display", "Log", "curve", "display"]

REFRESH = 0.1  # seconds between two drawings
SHARE = 20  # a drawing may take this part of the time: 1/20
LINES = 1.0  # seconds between two plain lines
STEPS = 10.0  # … and within an epoch
COLOURS = ("cyan", "yellow")
Heading = Callable[[], str]
LOG_SPAN = 20.0  # losses that differ by more are drawn on a logarithmic axis


class _Clock(Silent):
    """How fast the run is, and how long it will last."""

    outline: Outline
    epoch_now = 1
    steps = 0
    numbers: Mapping[str, float]

    def begin(self, outline: Outline) -> None:
        self.outline, self.numbers = outline, {}
        self.start: tuple[float, int] | None = None

    def step(self, epoch: int, steps: int) -> None:
        """Note where the run is; speeds count from the first time on."""
        self.epoch_now, self.steps = min(epoch, self.outline.epochs), steps
        if self.start is None:
            self.start = time.monotonic(), steps

    def epoch(self, epoch: int, numbers: Mapping[str, float]) -> None:
        self.numbers = dict(numbers)
        self.step(epoch, epoch * self.outline.steps)

    def epochs(self, first: int, losses: Sequence[float]) -> None:
        self.epoch(len(losses), {"loss": losses[-1]})

    @property
    def total(self) -> int:
        """All steps of the run; 0 while nobody knows."""
        return self.outline.epochs * self.outline.steps

    def pace(self) -> float:
        """Steps a second; 0 before it is known."""
        began, steps = self.start or (0.0, 0)
        passed = time.monotonic() - began
        return (self.steps - steps) / passed if passed > 0 and self.steps > steps else 0.0

    def status(self) -> str:
        """The numbers of the last epoch, the learning rate, the speed and the time left."""
        outline, pace = self.outline, self.pace()
        parts = [shown(self.numbers)] if self.numbers else []
        if (rate := outline.rate(self.steps)) is not None:
            parts.append(f"lr {rate:.3g}")
        if pace:
            parts.append(f"{_thousands(pace * outline.rows / max(1, outline.steps))} rows/s")
            if self.total:
                parts.append(f"{_span((self.total - self.steps) / pace)} left")
        return "  ".join(parts)


class Log(_Clock):
    """A line an epoch on standard output, thinned to one a second."""

    def __init__(self, heading: Heading = str) -> None:
        self.heading, self.quiet, self.logged = heading, False, -1

    def begin(self, outline: Outline) -> None:
        super().begin(outline)
        self._print(self.heading())
        self.printed = time.monotonic()

    def step(self, epoch: int, steps: int) -> None:
        super().step(epoch, steps)
        if time.monotonic() - self.printed >= STEPS:
            where = f"step {steps}/{self.total}" if self.total else f"step {steps}"
            self._line(f"epoch {epoch}/{self.outline.epochs}  {where}")

    def epoch(self, epoch: int, numbers: Mapping[str, float]) -> None:
        super().epoch(epoch, numbers)
        if time.monotonic() - self.printed >= LINES:
            self._line(f"epoch {epoch}/{self.outline.epochs}")

    def _line(self, where: str) -> None:
        self.printed, self.logged = time.monotonic(), self.steps
        self._print(f"{where}  {self.status()}".rstrip())

    def close(self) -> None:
        """The last epoch's line, where there were lines at all."""
        if 0 <= self.logged < self.steps:
            self._line(f"epoch {self.epoch_now}/{self.outline.epochs}")

    def _print(self, text: str) -> None:
        if self.quiet or not text:
            return
        try:
            click.echo(text)
        except OSError:  # a reader that has gone, a disk that is full
            self.quiet = True


class Display(_Clock):
    """Status and loss curve on the terminal, drawn in place; gone when the run is over."""

    def __init__(self, heading: Heading = str, console: Any = None) -> None:
        from rich.console import Console

        self.heading = heading
        self.console = console or Console(stderr=True)
        self.screen: Any = None
        self.wait, self.drawn = REFRESH, -math.inf

    def begin(self, outline: Outline) -> None:
        from rich.live import Live

        super().begin(outline)
        Log(self.heading).begin(outline)
        self.screen = Live(console=self.console, auto_refresh=False, transient=True)
        self._safely(self.screen.start)
        self._draw()

    def step(self, epoch: int, steps: int) -> None:
        super().step(epoch, steps)
        if time.monotonic() - self.drawn >= self.wait:
            self._draw()

    def close(self) -> None:
        if self.screen is not None:
            self._safely(self.screen.stop)
            self.screen = None

    def _draw(self) -> None:
        if self.screen is None:
            return
        began = time.monotonic()
        self._safely(lambda: self.screen.update(self.picture(), refresh=True))
        self.drawn = time.monotonic()
        self.wait = max(REFRESH, SHARE * (self.drawn - began))

    def _safely(self, draw: Any) -> None:
        try:
            draw()
        except (OSError, ValueError):  # the terminal has gone
            self.screen = None

    def picture(self) -> Any:
        """What is drawn: two lines, and the curve below where there is room."""
        from rich.text import Text

        outline, width = self.outline, max(20, min(self.console.width - 1, 100))
        share = self.steps / self.total if self.total else (self.epoch_now - 1) / outline.epochs
        steps = f"{self.steps}/{self.total}" if self.total else str(self.steps)
        head = f"epoch {self.epoch_now}/{outline.epochs}  step {steps}"
        bar = _bar(share, max(0, width - len(head) - 8))
        lines = [Text(f"{head}  {bar} {share:4.0%}"), Text(self.status())]
        height = min(14, self.console.height - 6)
        if height >= 3 and width >= 40:
            lines += self._curves(width, height)
        for line in lines:
            line.truncate(width)
            line.no_wrap = True
        return Text("\n").join(lines)

    def _curves(self, width: int, height: int) -> list[Any]:
        history = self.outline.history
        if history is None:
            return []
        if history.epochs >= 2:
            series, what = {"loss": np.asarray(history.loss)}, "epoch"
            if len(history.val_loss) >= 2:
                series["val_loss"] = np.array(history.val_loss)
        elif history.steps >= 2:
            series, what = {"loss": np.asarray(history.step_loss)}, "step"
        else:
            return []
        return curve(series, width, height, what)


def display(heading: Heading) -> Silent:
    """A display where stderr is a terminal that can be drawn on; else a log.

    What `heading` gives when the run begins is said first, on standard output.
    """
    try:
        if sys.stderr.isatty():
            made = Display(heading)
            if not made.console.is_dumb_terminal:
                return made
    except (AttributeError, ValueError):  # no stderr, or a closed one
        pass
    return Log(heading)


# -- curves ---------------------------------------------------------------------------------------

_DOTS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])


class Curve:
    """Curves in Braille dots, two by four to a character; a later curve is dotted.

    >>> Curve(4, 1, (0.0, 1.0)).drawn(np.array([0.0, 1.0])).rows()
    ['⣀⠤⠒⠉']
    """

    def __init__(self, width: int, height: int, span: tuple[float, float]) -> None:
        self.width, self.height = width, height
        self.low, self.high = span
        self.cells = np.zeros((height, width), np.int64)
        self.owner = np.full((height, width), -1)
        self.curves = 0

    def drawn(self, values: Any) -> Curve:
        """The values from left to right, joined."""
        across, down = 2 * self.width, 4 * self.height
        places = np.linspace(0, len(values) - 1, across)
        heights = np.interp(places, np.arange(len(values)), values)
        share = np.clip((heights - self.low) / ((self.high - self.low) or 1.0), 0.0, 1.0)
        dots = np.rint((1 - share) * (down - 1)).astype(int)
        for x in range(0, across, 1 + self.curves):
            before = dots[x - 1] if x else dots[0]
            top, bottom = sorted((int(dots[x]), int((dots[x] + before) // 2)))
            for y in range(top, bottom + 1):
                self.cells[y // 4, x // 2] |= _DOTS[y % 4, x % 2]
                self.owner[y // 4, x // 2] = self.curves
        self.curves += 1
        return self

    def rows(self) -> list[str]:
        """The characters, a line each."""
        return ["".join(chr(0x2800 + cell) if cell else " " for cell in row) for row in self.cells]


def curve(series: Mapping[str, Any], width: int, height: int, what: str) -> list[Any]:
    """The series as lines of text with an axis, the first solid and the second dotted."""
    from rich.text import Text

    finite = np.concatenate([values[np.isfinite(values)] for values in series.values()])
    if finite.size == 0:
        return []
    low, high = float(finite.min()), float(finite.max())
    steep = low > 0 and high / low > LOG_SPAN
    scale = np.log if steep else np.asarray
    labels = [f"{high:.3g}", *[""] * (height - 2), f"{low:.3g}"]
    margin = max(map(len, labels))
    canvas = Curve(width - margin - 2, height, (float(scale(low)), float(scale(high))))
    for values in series.values():
        canvas.drawn(scale(np.where(np.isfinite(values), values, high)))
    lines = []
    for label, row, owners in zip(labels, canvas.rows(), canvas.owner, strict=True):
        line = Text(f"{label:>{margin}} │", style="dim")
        for character, owner in zip(row, owners, strict=True):
            line.append(character, style=f"not dim {COLOURS[owner]}" if owner >= 0 else "")
        lines.append(line)
    legend = Text(" " * (margin + 2), style="")
    for k, name in enumerate(series):
        legend.append(f"{'┄┄' if k else '──'} {name}  ", style=COLOURS[k])
    length = len(next(iter(series.values())))
    legend.append(f"{what} 1 to {length}{', logarithmic' if steep else ''}", style="dim")
    return [*lines, legend]


def _bar(share: float, width: int) -> str:
    done = round(share * width)
    return "━" * done + "─" * (width - done)


def _thousands(value: float) -> str:
    return f"{value:,.0f}".replace(",", " ") if value >= 10 else f"{value:.2g}"


def _span(seconds: float) -> str:
    """A time as a clock shows it.

    >>> _span(59.6), _span(3700)
    ('1:00', '1:01:40')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
