"""Kernels that differ only in where their arrays lie are compiled once.

A circuit that is unrolled over time has the same kernels at each step, and machine code costs LLVM
some milliseconds a kernel. From `SEVERAL` on they become one function that is given the places.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from .emit import Module

__all__ = ["share"]

# With its places as numbers LLVM knows that two arrays lie apart: few kernels are worth that.
SEVERAL = 4
PLACE = re.compile(r"( = getelementptr i8, ptr %\w+, i64) (\d+)$", re.MULTILINE)


def share(module: Module, prefix: str) -> None:
    """Let the kernels of this prefix that have one form call one function."""
    alike: dict[str, list[str]] = {}
    for name, text in module.functions.items():
        if re.fullmatch(rf"{prefix}\d+(\.\w+)?", name):
            form = PLACE.sub(r"\1 #", text.replace(f"@{name}(", "@(", 1))
            alike.setdefault(form, []).append(name)
    for form, names in alike.items():
        if len(names) >= SEVERAL:
            _share(module, form, names)


def _share(module: Module, form: str, names: list[str]) -> None:
    """One function for all of `names`, which become calls of it."""
    shared = f"{names[0]}.shared"
    head, body = form.split("\n", 1)
    start, end = head.index("(") + 1, head.rindex(")")
    taken = head[start:end].split(", ")
    *pieces, last = body.split(" #\n")
    body = "".join(f"{piece} %place{k}\n" for k, piece in enumerate(pieces)) + last
    more = [f"i64 %place{k}" for k in range(len(pieces))]
    opening = f"{head[:start]}{', '.join([*taken, *more])}{head[end:]}"
    passed = [f"{part.split()[0]} {part.split()[-1]}" for part in taken]
    places = {name: PLACE.findall(module.functions[name]) for name in names}
    module.functions[shared] = f"{opening.replace('@(', f'@{shared}(')}\n{body}"
    for name in names:
        call = f"call void @{shared}({_listed(passed, (at for _, at in places[name]))})"
        own = head.replace("@(", f"@{name}(")
        module.functions[name] = f"{own}\nentry:\n  {call}\n  ret void\n}}"


def _listed(passed: list[str], places: Iterable[str]) -> str:
    return ", ".join([*passed, *[f"i64 {at}" for at in places]])
