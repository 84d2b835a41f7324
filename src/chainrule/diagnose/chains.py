"""Chains of layers, of chains in them too: their parts, and the code that puts others together."""

from __future__ import annotations

from typing import Any

from ..nn import layers

__all__ = ["parts_of", "rebuilt"]


def parts_of(model: Any) -> list[Any]:
    """The layers of a chain, those of chains in it in their places; none of another model."""
    if type(model) is not layers.Sequential:
        return []
    return [
        leaf
        for part in model
        for leaf in (parts_of(part) if type(part) is layers.Sequential else [part])
    ]


def _listing(model: Any, name: str = "model") -> str:
    """The same as code."""
    chains = [type(part) is layers.Sequential for part in model]
    if not any(chains):
        return f"*{name}"
    return ", ".join(
        _listing(part, f"{name}[{k}]") if chain else f"{name}[{k}]"
        for k, (part, chain) in enumerate(zip(model, chains, strict=True))
    )


def rebuilt(model: Any, edit: str) -> str:
    """The code that edits `parts`, the list of a chain's layers, and makes a chain of them."""
    return f"parts = [{_listing(model)}]\n{edit}\nmodel = nn.Sequential(*parts)"
