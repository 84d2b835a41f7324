"""Sentences in math mode: words as text, mathematical signs as the commands that mean them."""

from __future__ import annotations

import re

from .write import LETTERS

_ESCAPED = {"\\": r"\backslash ", **{c: "\\" + c for c in "_{}%$#&"}}
_SUPERSCRIPTS = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿˣʸᵖᵀʲⁱ", "0123456789+-nxypTji", strict=True))
_SUBSCRIPTS = dict(zip("₀₁₂₃₄₅₆₇₈₉ᵢⱼₖₙₗ", "0123456789ijknl", strict=True))
_SIGNS = {
    "⊙": r"\odot ", "∂": r"\partial ", "−": "-", "×": r"\times ", "·": r"\cdot ", "Σ": r"\Sigma ",
    "′": "'", "≈": r"\approx ", "∞": r"\infty ", "~": r"\sim ", "√": r"\surd ",
    "±": r"\pm ", "∫": r"\int ",
    "½": r"\tfrac{1}{2}", "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "→": r"\to ", "…": r"\ldots ",
    "∧": r"\land ", "∨": r"\lor ", "¬": r"\lnot ", "Π": r"\Pi ", "⌊": r"\lfloor ", "⌋": r"\rfloor ",
    "^": r"\hat{}", "\\": r"\backslash ",
    **{letter: f"\\{name} " for letter, name in LETTERS.items()},
}  # fmt: skip
_PARTS = re.compile(
    f"([{''.join(_SUPERSCRIPTS)}]+|[{''.join(_SUBSCRIPTS)}]+|[{re.escape(''.join(_SIGNS))}])"
)


def words(text: str) -> str:
    """A sentence in math mode: its words as text, its signs as signs.

    >>> words("W1 has shape 2×3")
    '\\\\text{W1 has shape 2}\\\\times \\\\text{3}'
    >>> words("u⁻ⁿ")
    '\\\\text{u}^{-n}'
    """
    return "".join(_part(part) for part in _PARTS.split(text) if part)


def _part(part: str) -> str:
    if part in _SIGNS:
        return _SIGNS[part]
    if part[0] in _SUPERSCRIPTS:
        return f"^{{{''.join(_SUPERSCRIPTS[c] for c in part)}}}"
    if part[0] in _SUBSCRIPTS:
        return f"_{{{''.join(_SUBSCRIPTS[c] for c in part)}}}"
    return rf"\text{{{''.join(_ESCAPED.get(c, c) for c in part)}}}"
