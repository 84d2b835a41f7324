"""The docs that are written by a program are what the program writes today."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import chainrule as cr

DOCS = Path(__file__).parent.parent / "docs"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_is_up_to_date_and_whole() -> None:
    page = load("make_reference").reference()
    assert (DOCS / "operations.md").read_text(encoding="utf-8") == page
    # The example of CONTRIBUTING, when it has run in this process, is no part of the package.
    names = set(cr.registry) - {"mish"}
    assert [name for name in names if f"### `{name}`" not in page] == []


def test_the_picture_is_what_the_package_draws() -> None:
    picture = load("make_pictures").picture()
    assert (DOCS / "pictures" / "circuit.svg").read_text(encoding="utf-8") == picture
