"""Nested lists, tuples and dicts of arrays: taken apart into leaves and put together again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ..circuit import Tensor

Tree = Any


def _is_module(tree: Tree) -> bool:
    return hasattr(tree, "named_parameters") and not isinstance(tree, type)


def leaves(tree: Tree, path: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves in order, each with its path; a Module's leaves are its parameters.

    >>> list(leaves({"w": 1.0, "b": [2.0, 3.0]}))
    [("['w']", 1.0), ("['b'][0]", 2.0), ("['b'][1]", 3.0)]
    """
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from leaves(value, f"{path}[{key!r}]")
    elif isinstance(tree, (list, tuple)):
        for number, value in enumerate(tree):
            yield from leaves(value, f"{path}[{number}]")
    elif _is_module(tree):
        for name, parameter in tree.named_parameters():
            yield f"{path}[{name!r}]", parameter
    elif tree is not None:
        yield path, tree


def rebuilt(tree: Tree, values: Iterator[Any]) -> Tree:
    """A tree of the same structure with other leaves; a Module becomes a dict by parameter name."""
    if isinstance(tree, dict):
        return {key: rebuilt(value, values) for key, value in tree.items()}
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*[rebuilt(value, values) for value in tree])
    if isinstance(tree, (list, tuple)):
        return type(tree)([rebuilt(value, values) for value in tree])
    if _is_module(tree):
        return {name: next(values) for name, _ in tree.named_parameters()}
    return None if tree is None else next(values)


def replaced(tree: Tree, make: Callable[[Any], Any]) -> tuple[Tree, list[Tensor]]:
    """The tree with its leaves made variables, and these in order; a Module stays itself."""
    if _is_module(tree):
        return tree, [parameter for _, parameter in tree.named_parameters()]
    if isinstance(tree, (dict, list, tuple)):
        parts = list(tree.values()) if isinstance(tree, dict) else list(tree)
        made = [replaced(part, make) for part in parts]
        variables = [variable for _, some in made for variable in some]
        values = [part for part, _ in made]
        if isinstance(tree, dict):
            return dict(zip(tree, values, strict=True)), variables
        return _like(tree, values), variables
    if tree is None:
        return None, []
    variable = make(tree)
    return variable, [variable]


def _like(tree: Any, values: list[Any]) -> Any:
    return type(tree)(*values) if hasattr(tree, "_fields") else type(tree)(values)
