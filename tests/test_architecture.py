"""The arrows of the house point down only: who may import whom is checked on the code itself."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "chainrule"

# Each room with the rooms that it may know. docs/architecture.md draws the same.
ROOMS: dict[str, set[str]] = {
    "errors": set(),
    "circuit": {"errors"},
    "ops": {"circuit", "errors"},
    "linalg": {"ops"},
    "gradient": {"ops", "circuit", "errors"},
    "compiler": {"gradient", "ops", "circuit", "errors"},
    "rewrite": {"gradient", "ops", "circuit", "errors"},
    "notation": {"ops", "circuit", "errors"},
    "page": set(),
    "nn": {"gradient", "ops", "circuit", "errors"},
    "draw": {"notation", "gradient", "ops", "circuit", "errors"},
    "explain": {"draw", "page", "notation", "rewrite", "gradient", "ops", "circuit", "errors"},
    "derive": {"page", "notation", "rewrite", "gradient", "ops", "circuit", "errors"},
    "data": {"nn", "errors"},
    "plot": {"page", "errors"},
    "train": {"compiler", "plot", "data", "nn", "gradient", "ops", "circuit", "errors"},
    "estimators": {"train", "data", "explain", "nn", "gradient", "ops", "circuit", "errors"},
    "runs": {"train", "plot", "data", "draw", "page", "nn", "ops", "circuit", "errors"},
    "compare": {"runs", "train", "plot", "data", "page", "nn", "ops", "circuit", "errors"},
    "diagnose": {
        "explain",
        "train",
        "plot",
        "draw",
        "data",
        "page",
        "notation",
        "nn",
        "gradient",
        "ops",
        "circuit",
        "errors",
    },
    "lectures": {
        "diagnose",
        "plot",
        "compare",
        "runs",
        "derive",
        "draw",
        "page",
        "data",
        "train",
        "nn",
        "explain",
        "rewrite",
        "gradient",
        "ops",
        "circuit",
        "errors",
    },
}
ABOVE_ALL = {"cli", "__init__", "__main__"}  # the doors: they may open every room


def _room(path: Path) -> str:
    first = path.relative_to(SOURCE).parts[0]
    return first.removesuffix(".py")


def _imported_rooms(path: Path) -> set[str]:
    """The rooms that a file imports from, at the top or inside a function."""
    depth = len(path.relative_to(SOURCE).parts)
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            module = (node.module or "").split(".")
            if node.level == 0 and module[0] == "chainrule":
                found |= {module[1]} if len(module) > 1 else {a.name for a in node.names}
            elif node.level == depth:
                found |= {module[0]} if node.module else {a.name for a in node.names}
        elif isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("chainrule.")}
    return found


FILES = sorted(SOURCE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_point_down(path: Path) -> None:
    room = _room(path)
    if room in ABOVE_ALL:
        return
    assert room in ROOMS, f"a new room '{room}': say in ROOMS whom it may know"
    forbidden = _imported_rooms(path) - ROOMS[room] - {room}
    assert not forbidden, f"{room} must not know {sorted(forbidden)}"


def test_the_rooms_have_an_order() -> None:
    """No circle: every room knows only rooms that stand before it in the list."""
    order = list(ROOMS)
    for room, known in ROOMS.items():
        assert all(order.index(other) < order.index(room) for other in known), room


TESTS = sorted(Path(__file__).parent.rglob("test_*.py"))


@pytest.mark.parametrize("path", TESTS, ids=lambda p: p.stem)
def test_no_test_is_shadowed_by_a_later_one(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for scope in [tree, *[n for n in ast.walk(tree) if isinstance(n, ast.ClassDef)]]:
        names = [n.name for n in scope.body if isinstance(n, ast.FunctionDef)]
        assert len(names) == len(set(names)), "two functions of one name"
