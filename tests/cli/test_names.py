"""Names that come from a stranger's table: they never steer a terminal, nor break a table."""

from __future__ import annotations

import json
import os
import sys
import unicodedata
from pathlib import Path

import pytest

from chainrule.cli import main
from chainrule.cli.predict import on_screen
from chainrule.cli.terminal import confusion_table, console, table
from chainrule.runs.listing import Listed

CLASSES = ("\x1b[2Jclear", "[bold]fat[/bold]", "[/oops]", ":smile:", "two\nlines", "L" * 3000)
ROWS = [(k % 7, k % 6) for k in range(60)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    text = "a,kind\n" + "".join(f'{a},"{CLASSES[b]}"\n' for a, b in ROWS)
    (tmp_path / "odd.csv").write_text(text, encoding="utf-8", newline="")
    return tmp_path


def harmless(text: str) -> bool:
    return all(c == "\n" or unicodedata.category(c) != "Cc" for c in text)


def test_neither_train_nor_evaluate_lets_a_class_steer_the_terminal(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = ["train", "odd.csv", "--target", "kind", "--epochs", "1", "--hidden", "4"]
    assert main(train) == 0
    assert main(["evaluate", "runs/odd-1", "odd.csv"]) == 0
    shown = capsys.readouterr().out
    assert harmless(shown)
    assert max(map(len, shown.splitlines())) < 300
    for name in ("[bold]fat[/bold]", "[/oops]", ":smile:", "\ufffd[2Jclear", "two\ufffdlines"):
        assert shown.count(name) >= 5, name


def test_a_table_shows_its_words_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    shown = table("[red]", "count", title="")
    shown.add_row("[/] :cat: [b]x[/b]", "3")
    console().print(shown)
    counts = confusion_table(("[/x]", "\x9b2J"), ((1, 0), (0, 1)))
    console().print(counts)
    text = capsys.readouterr().out
    assert "[red]" in text
    assert "[/] :cat: [b]x[/b]" in text
    assert text.count("[/x]") == 2
    assert harmless(text)


def test_a_run_of_an_odd_name_is_listed(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from chainrule.cli import runs

    odd = Listed("x", "[/x]\x1b[2J", "damaged", data="[b]d.csv", fault="\x1b]0;title\x07")
    monkeypatch.setattr(runs, "listing", lambda folder: [odd])
    monkeypatch.setattr(runs, "named", lambda folder, names: [odd, odd])
    assert main(["runs"]) == main(["runs", "one", "two"]) == 0
    text = capsys.readouterr().out
    assert harmless(text)
    assert "[b]d.csv" in text
    assert "[/x]\ufffd[2J" in text


def test_answers_are_exact_in_a_file_and_harmless_on_a_screen(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert on_screen('a\x1b[2J,"\x9b1m",é\t\n') == 'a\ufffd[2J,"\ufffd1m",é\t\n'
    main(["train", "odd.csv", "--target", "kind", "--epochs", "1", "--no-run", "-q"])
    assert main(["predict", "odd.safetensors", "odd.csv", "--proba", "--jsonl"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[0])["p(\x1b[2Jclear)"] >= 0


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_answers_on_a_terminal_hold_no_escape_sequence(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    main(["train", "odd.csv", "--target", "kind", "--epochs", "1", "--no-run", "-q"])
    ours, theirs = os.openpty()
    with open(theirs, "w", encoding="utf-8") as screen:
        monkeypatch.setattr(sys, "stdout", screen)
        (folder / "one.csv").write_text("a\n1\n", encoding="utf-8")
        assert main(["predict", "odd.safetensors", "one.csv", "--proba"]) == 0
        monkeypatch.undo()
    read = os.read(ours, 1 << 16)
    os.close(ours)
    assert b"[2Jclear" in read
    assert b"\x1b" not in read
