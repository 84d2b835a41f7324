"""LaTeX of the notation's own subset as MathML: a small converter, strict about what it knows."""

from __future__ import annotations

import re
from html import escape

from ..errors import ExpressionError
from .write import LETTERS

_TOKEN = re.compile(r"\\[A-Za-z]+|\\.|[0-9]+(?:\.[0-9]+)?|\s+|.", re.DOTALL)
NO_BREAK_SPACE = "\N{NO-BREAK SPACE}"
_KEPT = re.compile(r"^ | $")
_GREEK = {name: letter for letter, name in LETTERS.items()}
_OPERATORS = {
    "cdot": "·", "times": "×", "le": "≤", "ge": "≥", "ne": "≠", "land": "∧", "lor": "∨",
    "lnot": "¬", "sum": "∑", "int": "∫", "partial": "∂", "infty": "∞", "lfloor": "⌊",
    "rfloor": "⌋", "sim": "∼", "backslash": "\\", "ldots": "…", "cdots": "⋯", "vdots": "⋮",
    "ddots": "⋱", "odot": "⊙", "to": "→", "_": "_", "{": "{", "}": "}", "%": "%", "$": "$",
    "#": "#", "&": "&", "mid": "∣", "in": "∈", "mathsf T": "T", "top": "⊤", "nabla": "∇",
    "Leftrightarrow": "⇔", "Rightarrow": "⇒", "pm": "±", "approx": "≈", "surd": "√", "cdotp": "·",
}  # fmt: skip
_SPACES = {
    ",": "0.17em",
    ";": "0.28em",
    ":": "0.22em",
    "quad": "1em",
    "qquad": "2em",
    " ": "0.25em",
    "!": "0em",
}
_FUNCTIONS = {
    "ln", "log", "exp", "sin", "cos", "tan", "sinh", "cosh", "tanh", "arcsin", "arccos", "arctan",
    "max", "min", "det", "lim", "arg",
}  # fmt: skip
_WORDS = {"mathrm", "operatorname", "text", "mathsf", "mathbf", "mathit", "textrm"}
_TABLES = {
    "cases": ("{", ""),
    "pmatrix": ("(", ")"),
    "bmatrix": ("[", "]"),
    "matrix": ("", ""),
    "aligned": ("", ""),
    "array": ("", ""),
}
_SILENT = {
    "displaystyle",
    "textstyle",
    "limits",
    "nolimits",
    "big",
    "Big",
    "bigl",
    "bigr",
    "Bigl",
    "Bigr",
}
_STRETCHED = {"(", ")", "[", "]", "|", ".", "{", "}", "⌊", "⌋"}


def mathml(latex: str, *, display: bool = False) -> str:
    """One `<math>` element for a formula written by this package.

    Raises `ExpressionError` naming the first command that is not in the subset.

    >>> mathml(r"\\frac{1}{x}").removeprefix('<math xmlns="http://www.w3.org/1998/Math/MathML">')
    '<mrow><mfrac><mrow><mn>1</mn></mrow><mrow><mi>x</mi></mrow></mfrac></mrow></math>'
    """
    reader = _Reader(_TOKEN.findall(latex))
    body = reader.row(frozenset())
    block = ' display="block"' if display else ""
    return f'<math xmlns="http://www.w3.org/1998/Math/MathML"{block}>{body}</math>'


class _Reader:
    """Reads tokens from the left; each method returns the markup of what it has read."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens = tokens
        self.at = 0

    def peek(self) -> str:
        """The next token that is no space; empty at the end."""
        while self.at < len(self.tokens) and self.tokens[self.at].isspace():
            self.at += 1
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def take(self, expected: str = "") -> str:
        """Move past the next token, which must be `expected` if that is given."""
        token = self.peek()
        if expected and token != expected:
            raise ExpressionError(f"MathML: expected {expected!r}, found {token or 'the end'!r}")
        self.at += 1
        return token

    def row(self, ends: frozenset[str]) -> str:
        """Everything up to one of the ends, which stays."""
        parts: list[str] = []
        while (token := self.peek()) and token not in ends:
            if token in ("}", r"\right"):
                raise ExpressionError(f"MathML: {token!r} closes nothing")
            parts.append(self.scripted())
        if not self.peek() and ends:
            raise ExpressionError(f"MathML: the formula ends before {' or '.join(sorted(ends))}")
        return f"<mrow>{''.join(parts)}</mrow>"

    def scripted(self) -> str:
        """One atom with its index and exponent."""
        base = "<mrow></mrow>" if self.peek() in ("_", "^") else self.atom()
        scripts: dict[str, str] = {}
        while self.peek() in ("_", "^"):
            sign = self.take()
            scripts[sign] = self.atom()
        if len(scripts) == 2:
            return f"<msubsup>{base}{scripts['_']}{scripts['^']}</msubsup>"
        if "_" in scripts:
            return f"<msub>{base}{scripts['_']}</msub>"
        return f"<msup>{base}{scripts['^']}</msup>" if "^" in scripts else base

    def atom(self) -> str:
        """A group, a command, a number, a letter or a sign."""
        token = self.take()
        if not token:
            raise ExpressionError("MathML: the formula ends too early")
        if token == "{":
            body = self.row(frozenset("}"))
            self.take("}")
            return body
        if token.startswith("\\"):
            return self.command(token[1:])
        if token[:1].isdigit():
            return f"<mn>{token}</mn>"
        if token.isalpha():
            return f"<mi>{escape(token)}</mi>"
        return f"<mo>{escape({'-': '−', '*': '∗', chr(39): '′'}.get(token, token))}</mo>"

    def command(self, name: str) -> str:
        """What a backslash begins."""
        if name in ("frac", "tfrac", "dfrac"):
            return f"<mfrac>{self.atom()}{self.atom()}</mfrac>"
        if name == "sqrt":
            return f"<msqrt>{self.atom()}</msqrt>"
        if name == "hat":
            return f"<mover>{self.atom()}<mo>^</mo></mover>"
        if name in _WORDS:
            word = escape(self.words())
            if name == "text":  # MathML drops the spaces at its ends, so they must not break
                return f"<mtext>{_KEPT.sub(NO_BREAK_SPACE, word)}</mtext>"
            return f"<mi>{word}</mi>"
        if name == "left":
            return self.fenced()
        if name == "begin":
            return self.table()
        if name in _GREEK:
            return f"<mi>{_GREEK[name]}</mi>"
        if name in _FUNCTIONS:
            return f"<mi>{name}</mi>"
        if name in _OPERATORS:
            return f"<mo>{escape(_OPERATORS[name])}</mo>"
        if name in _SPACES:
            return f'<mspace width="{_SPACES[name]}"/>'
        if name in _SILENT:
            return ""
        raise ExpressionError(f"MathML: the LaTeX command \\{name} is not known here")

    def words(self) -> str:
        """The text of a group, as it stands; of one letter where there is no group."""
        if self.peek() not in ("{", ""):
            return self.take()
        self.take("{")
        depth, out = 1, list[str]()
        while self.at < len(self.tokens):
            token = self.tokens[self.at]
            self.at += 1
            depth += (token == "{") - (token == "}")
            if depth == 0:
                return "".join(out)
            out.append(
                token
                if token[:1] != "\\"
                else _OPERATORS.get(token[1:], _GREEK.get(token[1:], " "))
            )
        raise ExpressionError("MathML: a text group is not closed")

    def fence(self) -> str:
        token = self.take().removeprefix("\\")
        sign = _OPERATORS.get(token, token)
        if sign not in _STRETCHED:
            raise ExpressionError(f"MathML: {token!r} is no bracket")
        return "" if sign == "." else f'<mo stretchy="true">{escape(sign)}</mo>'

    def fenced(self) -> str:
        """\\left( … \\right)."""
        opening = self.fence()
        body = self.row(frozenset([r"\right"]))
        self.take(r"\right")
        return f"<mrow>{opening}{body}{self.fence()}</mrow>"

    def table(self) -> str:
        """\\begin{cases} … \\end{cases} and its relatives."""
        kind = self.words()
        if kind not in _TABLES:
            raise ExpressionError(f"MathML: the LaTeX environment {kind} is not known here")
        ends = frozenset(["&", r"\\", r"\end"])
        rows: list[list[str]] = [[]]
        while True:
            rows[-1].append(self.row(ends))
            token = self.take()
            if token == r"\\":
                rows.append([])
            elif token == r"\end":
                break
        if self.words() != kind:
            raise ExpressionError(f"MathML: {kind} is not closed")
        body = "".join(
            "<mtr>" + "".join(f"<mtd>{cell}</mtd>" for cell in row) + "</mtr>" for row in rows
        )
        left, right = (f'<mo stretchy="true">{s}</mo>' if s else "" for s in _TABLES[kind])
        style = ' columnalign="left"' if kind in ("aligned", "cases") else ""
        return f"<mrow>{left}<mtable{style}>{body}</mtable>{right}</mrow>"
