"""From a formula's text to checked tokens: the first gate, and errors that point at a column.

A character, name, number or neighbourhood that is not on the lists here is an error. Nothing is
executed, and nothing recurses.
"""

from __future__ import annotations

import keyword
import operator
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from chainrule.errors import ExpressionError, listed, nearest, quoted

__all__ = [
    "BINARY",
    "PRODUCT",
    "RENAME",
    "SIGNS",
    "WORDS",
    "Token",
    "pointed",
    "refusal",
    "statements",
    "suggestion",
]

MAX_CHARS = 10_000  # of one text
MAX_DEPTH = 50  # brackets, signs and powers inside one another
MAX_NODES = 2_000  # values, operators and opening brackets of one text
MAX_NAME = 100  # characters of one name
WINDOW = 60  # characters of the text shown in an error

# What a keyword argument may be besides a number.
WORDS: Mapping[str, bool | None] = {"True": True, "False": False, "None": None}
SIGNS: Mapping[str, Callable[[Any], Any]] = {"-": operator.neg, "+": operator.pos}
BINARY: Mapping[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "@": operator.matmul,
    "**": operator.pow,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_CLOSING = {")": "(", "]": "["}
_END = ("", ";", "\n")
_TOKEN = re.compile(
    r"""[ \t\r]*(?:
    (?P<number>(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)(?:[eE][+-]?[0-9]+)?)
    |(?P<symbol>\*\*|<=|>=|[-+*/@<>=(),\[\];\n])
    |(?P<name>.)
    |(?P<end>\Z))""",
    re.VERBOSE,
)
_MIDDLE_DOTS = "\u00b7\u0387"  # Python lets them into names; a reader takes them for a product
PRODUCT = "write a product as '*'"
RENAME = "choose another name"
_HINTS = dict.fromkeys("×⋅" + _MIDDLE_DOTS, PRODUCT) | dict.fromkeys("−–", "write '-'")
_HINTS |= dict.fromkeys("^²³", "write a power as '**'") | {"÷": "write a quotient as '/'"}
_HINTS |= dict.fromkeys("'\"", "text is not available") | {"#": "comments are not available"}
_HINTS |= {".": "attributes are not available"}


# ------------------------------------------------------------------ errors that point


def refusal(source: str, offset: int, problem: str, hint: str = "") -> ExpressionError:
    """The error `problem at column …; hint`, with the place pointed at."""
    where = f"column {offset - source.rfind(chr(10), 0, offset)}"
    if "\n" in source:
        where = f"line {source.count(chr(10), 0, offset) + 1}, {where}"
    return pointed(source, offset, f"{problem} at {where}" + (f"; {hint}" if hint else ""))


def pointed(source: str, offset: int, message: str) -> ExpressionError:
    """The error with `message` over the line that holds `offset`, and a caret under it."""
    first = source.rfind("\n", 0, offset) + 1
    line = source[first:].partition("\n")[0]
    start = max(0, min(offset - first - WINDOW // 2, len(line) - WINDOW))
    shown = line[start : start + WINDOW]
    if start > 0:
        shown = "…" + shown[1:]
    if start + WINDOW < len(line):
        shown = shown[:-1] + "…"
    # Control and direction characters could rearrange the terminal, so they are not echoed.
    shown = "".join(c if c.isprintable() else " " if c in "\t\r" else "�" for c in shown)
    caret = " " * sum(map(_width, shown[: offset - first - start])) + "^"
    return ExpressionError(f"{message}\n  {shown.rstrip()}\n  {caret}")


def _width(char: str) -> int:
    return 0 if unicodedata.combining(char) else 1 + (unicodedata.east_asian_width(char) in "WF")


def suggestion(name: str, known: Iterable[str]) -> str:
    """The known name that is nearest, as a question; else what is known."""
    names = sorted(known)
    if match := nearest(name, names):
        return f"did you mean {quoted(match)}?"
    return f"known: {listed(names, limit=8)}" if names else "there is none"


# ------------------------------------------------------------------ the first gate: tokens


class Token(NamedTuple):
    kind: str  # number, name, symbol or end
    text: str
    start: int

    def __str__(self) -> str:
        return {"": "the end", "\n": "the end of the line"}.get(self.text) or quoted(self.text)

    @property
    def is_value(self) -> bool:
        return self.kind in ("number", "name")


def _tokens(source: str) -> Iterator[Token]:
    if len(source) > MAX_CHARS:
        raise ExpressionError(f"{len(source):,} characters of text; at most {MAX_CHARS:,} are read")
    at, kind = 0, ""
    while kind != "end":
        found = _TOKEN.match(source, at)
        assert found is not None  # some alternative fits any place
        kind = found.lastgroup or ""
        start = found.start(kind)
        text = _name(source, start) if kind == "name" else found[kind]
        yield Token(kind, text, start)
        at = start + len(text)


def _name(source: str, at: int) -> str:
    end = at + source[at].isidentifier()
    while at < end < len(source) and _continues(source[end]):
        end += 1
    if end == at:
        char = source[at]
        shown = quoted(char) if char.isprintable() else f"U+{ord(char):04X}"
        raise refusal(source, at, f"unexpected character {shown}", _HINTS.get(char, ""))
    name = source[at:end]
    if len(name) > MAX_NAME:
        raise refusal(
            source, at, f"a name of {len(name):,} characters", f"at most {MAX_NAME} are read"
        )
    if (plain := unicodedata.normalize("NFKC", name)) != name:
        raise refusal(
            source, at, f"name {quoted(name)} not in plain form", f"write {quoted(plain)}"
        )
    if name.startswith("__"):
        raise refusal(source, at, f"refused name {quoted(name)}", "a name cannot begin with '__'")
    if keyword.iskeyword(name) and name not in WORDS:
        raise refusal(source, at, f"reserved word {quoted(name)}", RENAME)
    return name


def _continues(char: str) -> bool:
    """Whether a name goes on; subscript digits count, so that x₁ is refused as a whole."""
    return "₀" <= char <= "₉" or (("a" + char).isidentifier() and char not in _MIDDLE_DOTS)


@dataclass(slots=True)
class _Level:
    """An open bracket, or the statement around them all."""

    symbol: str = ""
    offset: int = 0
    role: Literal["group", "call", "list"] = "group"
    depth: int = 0  # of the bracket itself
    pending: int = 0  # signs and powers that the next value is inside of


def statements(source: str) -> list[list[Token]]:
    """The tokens of each statement, after every check that needs no tree."""
    return list(_Gate(source).spans())


class _Gate:
    """Checks one text token by token; `levels` holds the brackets still open."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.levels = [_Level()]
        self.nodes = 0

    def error(self, offset: int, problem: str, hint: str = "") -> ExpressionError:
        return refusal(self.source, offset, problem, hint)

    def spans(self) -> Iterator[list[Token]]:
        span: list[Token] = []
        for token in _tokens(self.source):
            inner = self.levels[-1]
            if token.text not in _END:
                self.neighbours(token, span)
                self.brackets(token, span)
                self.limits(token, span)
                span.append(token)
            elif inner.symbol and token.text != "\n":
                raise self.error(inner.offset, f"unclosed {quoted(inner.symbol)}")
            elif span and not inner.symbol:
                self.neighbours(token, span)
                yield span
                span = []

    def neighbours(self, token: Token, span: list[Token]) -> None:
        """A value belongs at the start and after an operator, an operator after a value."""
        if not _ends_value(span):
            if not (token.is_value or token.text in ("(", "[") or token.text in SIGNS):
                raise self.error(token.start, f"expected a value, found {token}")
        elif token.text == "[":
            raise self.error(token.start, f"unexpected {token}", "indexing is not available")
        elif token.text == "(" and span[-1].kind != "name":
            raise self.error(token.start, f"unexpected {token}", PRODUCT)
        elif token.is_value:
            raise self.error(token.start, f"expected an operator, found {token}", PRODUCT)
        elif token.text == "=":
            inner = self.levels[-1]
            first = len(span) == 1 or (inner.role == "call" and span[-2].text in ("(", ","))
            if span[-1].kind != "name" or not first:
                raise self.error(token.start, "unexpected '='", "a statement is name = expression")

    def brackets(self, token: Token, span: list[Token]) -> None:
        if token.text == "[":
            self.levels.append(_Level("[", token.start, "list"))
        elif token.text == "(":
            role: Literal["call", "group"] = "call" if _ends_value(span) else "group"
            self.levels.append(_Level("(", token.start, role))
        elif token.text in _CLOSING and self.levels[-1].symbol == _CLOSING[token.text]:
            self.levels.pop()
        elif token.text in _CLOSING:
            raise self.error(token.start, f"unmatched {token}")
        elif token.text == "," and self.levels[-1].role == "group":
            raise self.error(token.start, "unexpected ','", "a comma belongs in a call or a list")

    def limits(self, token: Token, span: list[Token]) -> None:
        self.nodes += token.is_value or token.text in ("(", "[") or token.text in BINARY
        if self.nodes > MAX_NODES:
            raise self.error(token.start, f"more than {MAX_NODES:,} values and operators")
        inner = self.levels[-1]
        if token.text == "**" or (token.text in SIGNS and not _ends_value(span)):
            inner.pending += 1
        elif token.text in ("(", "["):
            inner.depth = self.levels[-2].depth + self.levels[-2].pending + 1
        elif token.text in BINARY or token.text == ",":
            inner.pending = 0
        if inner.depth + inner.pending > MAX_DEPTH:
            raise self.error(token.start, f"brackets, signs and powers more than {MAX_DEPTH} deep")


def _ends_value(span: list[Token]) -> bool:
    return bool(span) and (span[-1].is_value or span[-1].text in _CLOSING)
