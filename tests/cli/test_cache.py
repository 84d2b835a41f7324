"""`chainrule cache`: what it shows of the folder, and that it empties nothing but its own."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from chainrule.cli.main import main
from chainrule.compiler import cache

OBJECT = bytes(300_000)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with two objects."""
    monkeypatch.setenv("CHAINRULE_CACHE_DIR", str(tmp_path / "objects"))
    monkeypatch.delenv("CHAINRULE_CACHE_SIZE", raising=False)
    for name in ("one", "two"):
        cache.store(cache.key_of(name), OBJECT)
    return tmp_path / "objects"


def test_it_shows_the_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache"]) == 0
    assert capsys.readouterr().out == (
        f"folder   {folder}\nfiles    2\nsize     0.572 of 256 MB\nusable   yes\n"
    )
    assert cache.lookup(cache.key_of("one")) == OBJECT


def test_it_empties_the_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "notes.txt").write_text("the user's own", encoding="utf-8")
    assert main(["cache", "--clear"]) == 0
    assert capsys.readouterr().out == (
        f"removed  2 objects, 0.572 MB\n"
        f"folder   {folder}\nfiles    0\nsize     0 of 256 MB\nusable   yes\n"
    )
    assert os.listdir(folder) == ["notes.txt"]
    assert main(["cache", "--clear"]) == 0
    assert "removed  0 objects, 0 MB" in capsys.readouterr().out


def test_json_is_for_programs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    size = 2 * (len(OBJECT) + cache.SEALED)
    assert main(["cache", "--json"]) == 0
    expected = {"folder": str(folder), "files": 2, "bytes": size, "bound": 256 << 20}
    expected |= {"usable": True, "why_not": ""}
    assert json.loads(capsys.readouterr().out) == expected
    assert main(["cache", "--json", "--clear"]) == 0
    expected |= {"files": 0, "bytes": 0, "removed": {"files": 2, "bytes": size}}
    assert json.loads(capsys.readouterr().out) == expected


def test_it_says_why_there_is_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CHAINRULE_CACHE_DIR", "off")
    monkeypatch.setenv("CHAINRULE_CACHE_SIZE", "64")
    assert main(["cache"]) == 0
    assert capsys.readouterr().out == (
        "folder   -\nfiles    0\nsize     0 of 64 MB\n"
        "usable   no: switched off by CHAINRULE_CACHE_DIR; unset it\n"
    )


@pytest.mark.skipif(not cache.POSIX, reason="modes are POSIX's")
def test_a_folder_that_others_may_write_to_is_left_alone(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.chmod(0o777)
    assert main(["cache", "--clear"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("removed  0 objects")
    assert f"usable   no: others may write to it; run chmod go-w '{folder}'" in printed
    assert len(os.listdir(folder)) == 3
