"""A circuit written as a formula, in plain letters or LaTeX, from its operations' own notation."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from ..circuit import Tensor

Style = Literal["text", "latex"]

ATOM = 100
DEEPEST = 40  # levels that are written out; what lies deeper is an ellipsis

GREEK = (
    "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda",
    "mu", "nu", "xi", "pi", "rho", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega",
    "Gamma", "Delta", "Theta", "Lambda", "Xi", "Pi", "Sigma", "Phi", "Psi", "Omega",
)  # fmt: skip
LETTERS = dict(zip("αβγδεζηθικλμνξπρστυφχψωΓΔΘΛΞΠΣΦΨΩ", GREEK, strict=True))
_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")


class _Slot:
    """An operand in a template, which knows whether it needs brackets there.

    `{0}` puts brackets around what binds less than the operation, `{0:>}` also around what binds
    as tightly, `{0:<}` never. Inside a template that brings its own brackets there are none.
    """

    def __init__(self, text: str, binds: int, outer: int, style: Style) -> None:
        self.text, self.binds, self.outer, self.style = text, binds, outer, style

    def __format__(self, spec: str) -> str:
        loose = self.binds <= self.outer if spec == ">" else self.binds < self.outer
        if spec == "<" or not loose or (self.outer == ATOM and not spec):
            return self.text
        return f"({self.text})" if self.style == "text" else rf"\left({self.text}\right)"


def write(
    node: Tensor,
    style: Style = "text",
    *,
    names: Mapping[Tensor, str] | None = None,
    expand: bool = True,
) -> str:
    """The formula of a node, its inputs by name where they have one, else written out in turn.

    `names` maps tensors to what shall stand for them (names, or numbers for a line of values); a
    tensor's own name counts otherwise. The node itself is written out even if it has a name, unless
    `expand=False`.

    >>> import chainrule as cr
    >>> x, w = cr.tensor(2.0, name="x"), cr.tensor(3.0, name="w_1")
    >>> write((x + 1) * w), write(1 / (x * x + w), "latex")
    ('(x + 1) · w_1', '\\\\frac{1}{x \\\\cdot x + w_{1}}')
    """
    known = names or {}
    return _written(node, style, known, DEEPEST, root=expand)[0]


def _written(
    node: Tensor, style: Style, names: Mapping[Tensor, str], depth: int, root: bool = False
) -> tuple[str, int]:
    """The text and how tightly it binds."""
    if not root or node.op is None:
        if node in names:
            return names[node], _binding_of_text(names[node])
        if node.name:
            return symbol(node.name, style), ATOM
    if node.op is None:
        text = number(node.value, style=style)
        return text, _binding_of_text(text)
    if depth == 0:
        return ("…" if style == "text" else r"\ldots"), ATOM
    facts = node.op.facts
    operands = [_written(source, style, names, depth - 1) for source in node.inputs]
    slots: list[Any] = [_Slot(text, binds, facts.binds, style) for text, binds in operands]
    if node.op.arity is None:
        slots = [", ".join(text for text, _ in operands)]
    template = facts.latex if style == "latex" else facts.text or _call(node.op.name, len(slots))
    return template.format(*slots), facts.binds


def _call(name: str, count: int) -> str:
    return f"{name}({', '.join(f'{{{k}:<}}' for k in range(count))})"


def _binding_of_text(text: str) -> int:
    """A negative number needs the brackets that a sign needs."""
    return 15 if text[:1] in "-−" else ATOM


def number(value: Any, digits: int = 9, style: Style = "text") -> str:
    """A number to so many significant digits; an array as its elements, or its shape if large.

    >>> number(0.1 + 0.2), number(-1e-12), number(1e-12, style="latex")
    ('0.3', '-1e-12', '1 \\\\cdot 10^{-12}')
    """
    array = np.asarray(value)
    if array.dtype == bool and array.size == 1:
        return "1" if array.item() else "0"
    if array.size != 1 or array.ndim:
        if array.size > 12:
            return f"array {array.shape}" if style == "text" else rf"\text{{array }}{array.shape}"
        parts = array.tolist()
        return _nested(parts, digits, style)
    text = f"{array.item():.{digits}g}"
    if style == "latex":
        mantissa, e, exponent = text.partition("e")
        text = rf"{mantissa} \cdot 10^{{{int(exponent)}}}" if e else mantissa
        text = {"inf": r"\infty", "-inf": r"-\infty", "nan": r"\mathrm{NaN}"}.get(text, text)
    return text


def _nested(parts: Any, digits: int, style: Style) -> str:
    if isinstance(parts, list):
        return "[" + ", ".join(_nested(part, digits, style) for part in parts) + "]"
    return number(parts, digits, style)


def symbol(name: str, style: Style = "text") -> str:
    """A name as a formula's letter: `w_1` and `w1` become w₁ in LaTeX, `theta` becomes θ.

    >>> symbol("net_h1", "latex"), symbol("w5", "latex"), symbol("theta", "latex")
    ('\\\\mathrm{net}_{h1}', 'w_{5}', '\\\\theta')
    """
    if style == "text":
        return name
    match = re.fullmatch(r"(.+?)_?([0-9₀-₉]+|(?<=_).+)", name)
    base, index = (match[1].rstrip("_"), match[2]) if match else (name, "")
    index = index.translate(_SUBSCRIPTS)
    letter = _letter(base)
    return f"{letter}_{{{_escaped(index)}}}" if index else letter


def _letter(base: str) -> str:
    if base in GREEK:
        return f"\\{base}"
    if base in LETTERS:
        return f"\\{LETTERS[base]}"
    return base if len(base) == 1 and base.isalnum() else rf"\mathrm{{{_escaped(base)}}}"


def _escaped(text: str) -> str:
    """Text that is safe in LaTeX's math mode, whatever characters a user has put in a name."""
    special = {
        "\\": r"\backslash ",
        "^": r"\hat{}",
        "~": r"\sim ",
        **{c: "\\" + c for c in "_{}%$#&"},
    }
    return "".join(special.get(c, c) for c in text)
