"""The reference of operations, written from the registry: `python docs/make_reference.py`."""

from __future__ import annotations

import inspect
from pathlib import Path

import chainrule as cr
from chainrule import ops
from chainrule.ops import Composed, Operation
from chainrule.ops.record import FLOWS

FILE = Path(__file__).parent / "operations.md"
ROOMS = {
    "pointwise": "Arithmetic, selection and elementary functions",
    "gates": "Gates and transfer functions",
    "reduce": "Reductions",
    "linalg": "Products of arrays",
    "shape": "Shape, indexing and joining",
    "neural": "Networks",
}


def reference() -> str:
    """The page: a section for each room of operations, an entry for each record."""
    parts = [
        "# Operations",
        "",
        "Written from the registry by `docs/make_reference.py`; each example is run. Each has a",
        "role in the backward flow, one of:",
        "",
        *[f"- **{name}**: {meaning}." for name, meaning in FLOWS.items()],
    ]
    for room, title in ROOMS.items():
        parts += ["", f"## {title}"]
        parts += [entry(thing) for thing in cr.registry.values() if _room(thing) == room]
    return "\n".join(parts) + "\n"


def _room(thing: Operation | Composed) -> str:
    """The module that holds it, the first of them; none for what a user has added."""
    rooms = {room: vars(getattr(ops, room)).values() for room in ROOMS}
    return next((room for room, things in rooms.items() if any(thing is x for x in things)), "")


def entry(thing: Operation | Composed) -> str:
    """One operation: its docstring as text, its example as a snippet."""
    text, _, example = inspect.getdoc(thing).partition("\n>>> import chainrule as cr\n")
    source = ""
    if isinstance(thing, Composed):
        example, _, source = example.partition("\n\n")
    first, _, rest = text.strip().partition("\n")
    lines = ["", f"### `{thing.name}`", "", f"{first}"]
    if rest.strip():
        lines += ["", rest.strip()]
    if source:
        lines += ["", source]
    lines += ["", "```python", ">>> import chainrule as cr", *example.strip().splitlines(), "```"]
    return "\n".join(lines)


if __name__ == "__main__":
    FILE.write_text(reference(), encoding="utf-8")
