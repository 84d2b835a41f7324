"""Every snippet of the README and the docs is run: Python, and commands with their output."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from doctest import ELLIPSIS, NORMALIZE_WHITESPACE
from pathlib import Path

import pytest
from sybil import Example, Sybil
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser, SkipParser

CHAINRULE = [sys.executable, "-m", "chainrule"]


def run_console(example: Example) -> str | None:
    """Run each `$ chainrule …` of a console block; `…` alone on a line stands for any lines."""
    folder = example.namespace.setdefault("folder", None) or example.namespace["tmp"]
    for command, expected in _commands(example.parsed):
        words = shlex.split(command)
        assert words[0] == "chainrule", f"only chainrule commands are run, not {command!r}"
        done = subprocess.run(
            CHAINRULE + words[1:],
            capture_output=True,
            text=True,
            encoding="utf-8",
            cwd=folder,
            env={**os.environ, "PYTHONIOENCODING": "utf-8", "NO_COLOR": "1"},
            timeout=120,
        )
        actual = _trimmed(done.stdout + done.stderr)
        if not re.fullmatch(_pattern(_trimmed(expected)), actual, flags=re.DOTALL):
            return f"$ {command}\nprinted:\n{actual}\n\nexpected:\n{expected}"
    return None


def _commands(block: str) -> list[tuple[str, str]]:
    parts = re.split(r"^\$ (.*)$", block, flags=re.MULTILINE)[1:]
    return list(zip(parts[::2], parts[1::2], strict=True))


def _trimmed(text: str) -> str:
    lines = [line.strip() for line in text.strip().splitlines()]
    return "\n".join(line for line in lines if line)


def _pattern(expected: str) -> str:
    lines = [re.escape(line).replace("…", ".*?") for line in expected.splitlines()]
    return r"\s*".join(lines) + r"\s*"


def _setup(namespace: dict[str, object]) -> None:
    import tempfile

    from chainrule.ops import registry

    namespace["tmp"] = tempfile.mkdtemp(prefix="chainrule-docs-")
    namespace["registered"] = set(registry)


def _teardown(namespace: dict[str, object]) -> None:
    """What a document has defined must not be there for other tests."""
    import shutil

    from chainrule.circuit import vocabulary
    from chainrule.ops import registry

    for name in set(registry) - namespace["registered"]:  # type: ignore[operator]
        del registry[name]
        del vocabulary.__dict__[name]
    shutil.rmtree(str(namespace["tmp"]), ignore_errors=True)


pytest_collect_file = Sybil(
    parsers=[
        PythonCodeBlockParser(doctest_optionflags=ELLIPSIS | NORMALIZE_WHITESPACE),
        CodeBlockParser(language="console", evaluator=run_console),
        SkipParser(),
    ],
    patterns=["*.md"],
    path=str(Path(__file__).parent),
    excludes=["CHANGELOG.md", "**/.venv*/**"],
    setup=_setup,
    teardown=_teardown,
).pytest()


@pytest.fixture(scope="session")
def project() -> Path:
    """The folder of the checkout."""
    return Path(__file__).parent
