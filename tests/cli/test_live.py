"""The live display: status and curve on a terminal, lines elsewhere, never a reason to fail."""

from __future__ import annotations

import io
import os
import re
import signal
import sys
import time
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from chainrule import optim
from chainrule.cli import live
from chainrule.train import History
from chainrule.train.progress import Outline, Several


def outline(epochs: int = 10, steps: int = 4, history: History | None = None) -> Outline:
    rate = optim.cosine(0.1, epochs * steps)
    return Outline(epochs, steps, 120, optim.SGD(lr=rate), history or History())


def picture(history: History, width: int = 80, height: int = 24) -> list[str]:
    shown = live.Display(console=Console(file=io.StringIO(), width=width, height=height))
    live._Clock.begin(shown, outline(history=history))
    shown.start = time.monotonic() - 1, 0
    shown.epoch(history.epochs, history.last())
    return str(shown.picture()).splitlines()


def falling(epochs: int) -> History:
    losses = [0.9**k for k in range(epochs)]
    return History(loss=losses, val_loss=[loss + 0.1 for loss in losses])


def test_the_picture_has_all_that_one_asks_of_a_run() -> None:
    lines = picture(falling(5))
    assert re.match(r"epoch 5/10  step 20/40  ━+─+  50%$", lines[0])
    assert re.match(
        r"loss 0\.6561  val_loss 0\.7561  lr 0\.05  \d+ rows/s  0:01 left$", lines[1].rstrip()
    )
    assert "── loss  ┄┄ val_loss  epoch 1 to 5" in lines[-1]
    assert sum("│" in line for line in lines) == 14


@pytest.mark.parametrize(("width", "height"), [(80, 24), (200, 50), (40, 12), (25, 5), (79, 8)])
def test_the_picture_fits_any_terminal(width: int, height: int) -> None:
    lines = picture(falling(9), width, height)
    assert len(lines) < height
    assert max(map(len, lines)) < width


def test_a_curve_falls_where_its_numbers_fall() -> None:
    """The topmost dots of each column, from left to right, never rise."""
    canvas = live.Curve(30, 6, (0.0, 1.0)).drawn(np.linspace(1, 0, 17))
    tops = [int(np.argmax(canvas.owner[:, x] >= 0)) for x in range(30)]
    assert (tops[0], tops[-1]) == (0, 5)
    assert tops == sorted(tops)


@pytest.mark.parametrize("values", [[np.nan, np.nan], [1.0, 1.0], [np.inf, 1.0, 2.0], [0.0, 1e300]])
def test_odd_numbers_are_drawn_without_complaint(values: list[float]) -> None:
    live.curve({"loss": np.array(values)}, 40, 5, "epoch")


def test_lines_are_thinned_to_one_a_second(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(live.time, "monotonic", lambda: now[0])
    log = live.Log(lambda: "heading")
    log.begin(outline(epochs=100))
    for epoch in range(1, 101):
        now[0] += 0.25
        log.epoch(epoch, {"loss": 1 / epoch})
    log.close()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "heading"
    assert [line.split()[1] for line in lines[1:4]] == ["4/100", "8/100", "12/100"]
    assert lines[-1].startswith("epoch 100/100  loss 0.01  lr 0")
    assert len(lines) == 1 + 25


def test_a_quick_run_has_no_lines(capsys: pytest.CaptureFixture[str]) -> None:
    log = live.Log(lambda: "heading")
    log.begin(outline())
    log.epochs(1, [0.5, 0.25])
    log.close()
    assert capsys.readouterr().out == "heading\n"


class Gone(io.StringIO):
    """A terminal whose reader has gone."""

    def write(self, text: str) -> int:
        raise BrokenPipeError(32, "Broken pipe")

    def isatty(self) -> bool:
        return True


def test_a_reader_that_has_gone_ends_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", Gone())
    shown = live.Display(lambda: "heading", Console(file=Gone(), force_terminal=True))
    several = Several([live.Log(lambda: "heading"), shown])
    several.begin(outline())
    for epoch in (1, 2):
        several.epoch(epoch, {"loss": 0.5})
    several.close()


@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX terminal")
@pytest.mark.parametrize("plain", [False, True], ids=["colour", "NO_COLOR"])
def test_on_a_terminal(tmp_path: Any, monkeypatch: pytest.MonkeyPatch, plain: bool) -> None:
    """Through a pseudo-terminal: the display is drawn, and gone at the end; the report stays."""
    import pty

    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "24")
    monkeypatch.setenv("NO_COLOR", "1") if plain else monkeypatch.delenv("NO_COLOR", False)
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(tmp_path)
        words = ["train", "iris", "--epochs", "300000", "--validation", "0.1", "--linear"]
        os.execv(sys.executable, [sys.executable, "-m", "chainrule", *words])
    seen = b""
    deadline = time.monotonic() + 60
    pressed = False
    while time.monotonic() < deadline:
        try:
            part = os.read(terminal, 65536)
        except OSError:  # the other side has closed
            break
        seen += part
        if not pressed and b"epoch 1 to" in seen:
            os.write(terminal, b"\x03")
            pressed = True
    if not pressed:
        os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    text = seen.decode()
    assert os.waitstatus_to_exitcode(status) == 130, text
    assert "rows/s" in text
    assert re.search(r"epoch \d+/300000  step \d+/1200000", text)
    assert ("\x1b[36m" in text) != plain
    assert "interrupted after step" in text.splitlines()[-1] + text.splitlines()[-2]
    assert "held-out accuracy" in text
