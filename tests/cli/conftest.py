"""What the tests of commands share."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.fruit import TEXT


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with the table of fruit, for a terminal of 80 columns."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    (tmp_path / "fruit.csv").write_text(TEXT, encoding="utf-8")
    return tmp_path
