"""Golden text: what was printed once, looked at, and must stay so.

`CHAINRULE_UPDATE_GOLDEN=1 pytest …` writes the files anew; look at the difference.
"""

from __future__ import annotations

import os
from pathlib import Path

FOLDER = Path(__file__).parent / "golden"


def check(name: str, actual: str) -> None:
    """Compare with the golden file of that name, or write it when asked to."""
    path = FOLDER / name
    if os.environ.get("CHAINRULE_UPDATE_GOLDEN"):
        path.write_text(actual, encoding="utf-8")
    assert actual == path.read_text(encoding="utf-8"), f"{name} has changed"
