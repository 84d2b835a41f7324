"""Formulas typed by a user: `q = x + y; f = q*z`, read without ever running them as Python.

A text passes two gates, and neither executes anything. First, token by token: a character, name,
number or neighbourhood that is not on the lists here is an error that points at its column. What
passes is copied as a skeleton in which every name is `n` and every number `0`. Second, Python's
own parser sees that skeleton only and returns its tree; nodes of a closed list become postfix
steps. `run` walks the steps with a stack. Nothing recurses, and every number is a float64, so
`9**9**9` is inf rather than a minute's work.
"""

from __future__ import annotations

import ast
import keyword
import math
import operator
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from chainrule.errors import ExpressionError, listed, nearest, quoted

__all__ = ["Assignment", "Program", "Step", "read", "read_bindings", "run"]

MAX_CHARS = 10_000  # of one text
MAX_DEPTH = 50  # brackets, signs and powers inside one another
MAX_NODES = 2_000  # values, operators and opening brackets of one text
MAX_DIGITS = 400  # of one number
MAX_NAME = 100  # characters of one name
MAX_EXPONENT = 1_000  # written as a number
MAX_WORK = 200_000  # array elements that one run may compute
WINDOW = 60  # characters of the text shown in an error

KeywordValue: TypeAlias = float | bool | None
CONSTANTS: Mapping[str, float] = MappingProxyType({"pi": math.pi, "e": math.e})
_NO_KEYWORDS: Mapping[str, frozenset[str]] = MappingProxyType({})
_WORDS: Mapping[str, bool | None] = {"True": True, "False": False, "None": None}
_SIGNS: Mapping[str, Callable[[Any], Any]] = {"-": operator.neg, "+": operator.pos}
_BINARY: Mapping[str, Callable[[Any, Any], Any]] = {
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
_TO_OPERATOR = re.compile(r"[ )]*")
_MIDDLE_DOTS = "\u00b7\u0387"  # Python lets them into names; a reader takes them for a product
_PRODUCT = "write a product as '*'"
_RENAME = "choose another name"
_HINTS = dict.fromkeys("×⋅" + _MIDDLE_DOTS, _PRODUCT) | dict.fromkeys("−–", "write '-'")
_HINTS |= dict.fromkeys("^²³", "write a power as '**'") | {"÷": "write a quotient as '/'"}
_HINTS |= dict.fromkeys("'\"", "text is not available") | {"#": "comments are not available"}
_HINTS |= {".": "attributes are not available"}


class Step(NamedTuple):
    """One move of the stack machine: take values off the stack, put one back."""

    kind: Literal["constant", "name", "operator", "call", "list"]
    value: Any  # the number, the name, or the operator's symbol
    offset: int
    takes: int = 0
    keywords: tuple[tuple[str, KeywordValue], ...] = ()


@dataclass(frozen=True, slots=True)
class Assignment:
    """`name = expression`, the expression in postfix order."""

    name: str
    offset: int
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Program:
    """A text that was read and found good; `free` variables need values, in order of first use."""

    statements: tuple[Assignment, ...]
    source: str
    free: tuple[str, ...]


def read(
    text: str,
    *,
    functions: Collection[str],
    keywords: Mapping[str, frozenset[str]] = _NO_KEYWORDS,
) -> Program:
    """The program that `text` states, or an ExpressionError that points at the column.

    `functions` are the names that may be called, `keywords` the keyword names each accepts.
    A last expression without a name is called `out`.
    """
    return _Reader(text, functions, keywords).program()


def run(
    program: Program, variables: Mapping[str, Any], functions: Mapping[str, Callable[..., Any]]
) -> dict[str, Any]:
    """The value of every assigned name, in order; whatever fails becomes an ExpressionError.

    Work on arrays is limited by their shapes before it is done. So offer no function whose result
    is as large as a number says, like `zeros(1e9)`: that cannot be foreseen.
    """
    machine = _Machine(program, variables, functions)
    with np.errstate(all="ignore"):
        for statement in program.statements:
            machine.assign(statement)
    return machine.values


def read_bindings(words: Sequence[str]) -> dict[str, float | list[Any]]:
    """The values in words like `x=-2`, `w=[1,2,3]`, `W=[[1,2],[3,4]]`: numbers, lists of them."""
    bindings: dict[str, float | list[Any]] = {}
    for word in words:
        program = read(word, functions=())
        statement = program.statements[0]
        if len(program.statements) > 1 or "=" not in word:
            raise _error(word, statement.offset, "expected one name=number")
        if statement.name in bindings:
            raise _error(word, statement.offset, f"second value for {quoted(statement.name)}")
        bindings[statement.name] = _literal(word, statement.steps)
    return bindings


def _literal(word: str, steps: tuple[Step, ...]) -> float | list[Any]:
    stack: list[tuple[Any, tuple[int, ...]]] = []
    for step in steps:
        taken = [stack.pop() for _ in range(step.takes)][::-1]
        shapes = {shape for _, shape in taken}
        if step.kind == "constant":
            stack.append((step.value, ()))
        elif step.kind == "list":
            if len(shapes) > 1:
                raise _error(word, step.offset, "list with rows of different lengths")
            stack.append(([value for value, _ in taken], (step.takes, *shapes.pop())))
        elif step.kind == "operator" and step.takes == 1 and shapes == {()}:
            stack.append((_SIGNS[step.value](taken[0][0]), ()))
        else:
            raise _error(word, step.offset, "expected a number or a list of numbers")
    value: float | list[Any] = stack.pop()[0]
    return value


# ------------------------------------------------------------------ errors that point


def _error(source: str, offset: int, problem: str, hint: str = "") -> ExpressionError:
    where = f"column {offset - source.rfind(chr(10), 0, offset)}"
    if "\n" in source:
        where = f"line {source.count(chr(10), 0, offset) + 1}, {where}"
    return _pointed(source, offset, f"{problem} at {where}" + (f"; {hint}" if hint else ""))


def _pointed(source: str, offset: int, message: str) -> ExpressionError:
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


def _suggest(name: str, known: Iterable[str]) -> str:
    names = sorted(known)
    if match := nearest(name, names):
        return f"did you mean {quoted(match)}?"
    return f"known: {listed(names, limit=8)}" if names else "there is none"


# ------------------------------------------------------------------ the first gate: tokens


class _Token(NamedTuple):
    kind: str  # number, name, symbol or end
    text: str
    start: int

    def __str__(self) -> str:
        return {"": "the end", "\n": "the end of the line"}.get(self.text) or quoted(self.text)

    @property
    def is_value(self) -> bool:
        return self.kind in ("number", "name")


def _tokens(source: str) -> Iterator[_Token]:
    if len(source) > MAX_CHARS:
        raise ExpressionError(f"{len(source):,} characters of text; at most {MAX_CHARS:,} are read")
    at, kind = 0, ""
    while kind != "end":
        found = _TOKEN.match(source, at)
        assert found is not None  # some alternative fits any place
        kind = found.lastgroup or ""
        start = found.start(kind)
        text = _name(source, start) if kind == "name" else found[kind]
        yield _Token(kind, text, start)
        at = start + len(text)


def _name(source: str, at: int) -> str:
    end = at + source[at].isidentifier()
    while at < end < len(source) and _continues(source[end]):
        end += 1
    if end == at:
        char = source[at]
        shown = quoted(char) if char.isprintable() else f"U+{ord(char):04X}"
        raise _error(source, at, f"unexpected character {shown}", _HINTS.get(char, ""))
    name = source[at:end]
    if len(name) > MAX_NAME:
        raise _error(
            source, at, f"a name of {len(name):,} characters", f"at most {MAX_NAME} are read"
        )
    if (plain := unicodedata.normalize("NFKC", name)) != name:
        raise _error(source, at, f"name {quoted(name)} not in plain form", f"write {quoted(plain)}")
    if name.startswith("__"):
        raise _error(source, at, f"refused name {quoted(name)}", "a name cannot begin with '__'")
    if keyword.iskeyword(name) and name not in _WORDS:
        raise _error(source, at, f"reserved word {quoted(name)}", _RENAME)
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


class _Reader:
    """Reads one text; `levels` holds the brackets still open."""

    def __init__(
        self, source: str, functions: Collection[str], keywords: Mapping[str, frozenset[str]]
    ) -> None:
        self.source = source
        self.functions = functions
        self.keywords = keywords
        self.tokens = {token.start: token for token in _tokens(source)}
        self.levels = [_Level()]
        self.nodes = 0
        self.assigned: dict[str, None] = {}
        self.used: dict[str, None] = {}

    def error(self, offset: int, problem: str, hint: str = "") -> ExpressionError:
        return _error(self.source, offset, problem, hint)

    def program(self) -> Program:
        spans = list(self.spans())
        if not spans:
            raise ExpressionError("there is no expression to read")
        statements = tuple(self.statement(span, span is spans[-1]) for span in spans)
        free = tuple(name for name in self.used if name not in CONSTANTS)
        return Program(statements, self.source, free)

    def spans(self) -> Iterator[list[_Token]]:
        """The tokens of each statement, after every check that needs no tree."""
        span: list[_Token] = []
        for token in self.tokens.values():
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

    def neighbours(self, token: _Token, span: list[_Token]) -> None:
        """A value belongs at the start and after an operator, an operator after a value."""
        if not _ends_value(span):
            if not (token.is_value or token.text in ("(", "[") or token.text in _SIGNS):
                raise self.error(token.start, f"expected a value, found {token}")
        elif token.text == "[":
            raise self.error(token.start, f"unexpected {token}", "indexing is not available")
        elif token.text == "(" and span[-1].kind != "name":
            raise self.error(token.start, f"unexpected {token}", _PRODUCT)
        elif token.is_value:
            raise self.error(token.start, f"expected an operator, found {token}", _PRODUCT)
        elif token.text == "=":
            inner = self.levels[-1]
            first = len(span) == 1 or (inner.role == "call" and span[-2].text in ("(", ","))
            if span[-1].kind != "name" or not first:
                raise self.error(token.start, "unexpected '='", "a statement is name = expression")

    def brackets(self, token: _Token, span: list[_Token]) -> None:
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

    def limits(self, token: _Token, span: list[_Token]) -> None:
        self.nodes += token.is_value or token.text in ("(", "[") or token.text in _BINARY
        if self.nodes > MAX_NODES:
            raise self.error(token.start, f"more than {MAX_NODES:,} values and operators")
        inner = self.levels[-1]
        if token.text == "**" or (token.text in _SIGNS and not _ends_value(span)):
            inner.pending += 1
        elif token.text in ("(", "["):
            inner.depth = self.levels[-2].depth + self.levels[-2].pending + 1
        elif token.text in _BINARY or token.text == ",":
            inner.pending = 0
        if inner.depth + inner.pending > MAX_DEPTH:
            raise self.error(token.start, f"brackets, signs and powers more than {MAX_DEPTH} deep")

    def statement(self, span: list[_Token], is_last: bool) -> Assignment:
        head = span[0]
        named = len(span) > 1 and span[1].text == "="
        if not (named or is_last):
            hint = "only the last one may go without"
            raise self.error(head.start, "expression without a name", hint)
        steps = self.postfix(span[2:] if named else span)
        name = head.text if named else self.spare_name()
        if name in self.assigned:
            raise self.error(head.start, f"second definition of {quoted(name)}", _RENAME)
        if name in self.used:
            raise self.error(head.start, f"{quoted(name)} defined after its first use")
        if name in self.functions or name in _WORDS:
            raise self.error(head.start, f"{quoted(name)} used as a variable", _RENAME)
        self.assigned[name] = None
        return Assignment(name, head.start, steps)

    def spare_name(self) -> str:
        taken = {*self.assigned, *self.used, *self.functions}
        names = ("out", *(f"out_{i}" for i in range(1, len(taken) + 1)))
        return next(name for name in names if name not in taken)

    # -------------------------------------------------------------- the second gate: the tree

    def postfix(self, body: list[_Token]) -> tuple[Step, ...]:
        """The steps of one expression: the tree gives their order, the tokens their content."""
        first, last = body[0].start, body[-1]
        skeleton = [" "] * (last.start + len(last.text) - first)
        for token in body:
            text = {"number": "0", "name": "n"}.get(token.kind, token.text)
            skeleton[token.start - first : token.start - first + len(text)] = text
        text = f"({''.join(skeleton)})"
        # No name, literal or text of the user's is in it, so neither a warning nor a limit of
        # Python's can be met; the exceptions are caught all the same.
        try:
            tree = ast.parse(text, mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            hint = "in a call, name=number comes last"
            raise self.error(first, "cannot read the expression", hint) from None
        steps: list[Step] = []
        todo: list[Step | ast.expr] = [tree]
        while todo:
            item = todo.pop()
            if isinstance(item, Step):
                steps.append(item)
            else:
                step, inner = self.step(item, text, first - 1)
                todo += [step, *reversed(inner)]
        return tuple(steps)

    def step(self, node: ast.expr, text: str, base: int) -> tuple[Step, list[ast.expr]]:
        """A node of the closed list as its step, with the nodes that it takes values from."""
        at = base + node.col_offset
        match node:
            case ast.Constant():
                return Step("constant", self.number(self.tokens[at]), at), []
            case ast.Name():
                return Step("name", self.variable(self.tokens[at]), at), []
            case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=inner):
                return Step("operator", self.tokens[at].text, at, 1), [inner]
            case ast.List(elts=[_, *_] as items):
                return Step("list", "[", at, len(items)), items
            case ast.Call(func=ast.Name(), args=values, keywords=named):
                name = self.function(self.tokens[at])
                given = self.given(name, named, base)
                return Step("call", name, at, len(values), given), values
            case ast.BinOp(left=left, right=right) | ast.Compare(left=left, comparators=[right]):
                at = base + _operator(text, left)
                symbol = self.tokens[at].text
                if symbol == "**":
                    self.exponent(right, base)
                return Step("operator", symbol, at, 2), [left, right]
            case ast.Compare(comparators=[middle, *_]):
                at = base + _operator(text, middle)
                raise self.error(at, "chained comparison", "put one part in brackets")
        raise self.error(at, "cannot read the expression")

    def number(self, token: _Token) -> float:
        if sum(c.isdigit() for c in token.text) > MAX_DIGITS:
            raise self.error(token.start, f"a number of more than {MAX_DIGITS} digits")
        try:
            value = float(token.text)
        except ValueError:  # a misplaced underscore
            raise self.error(token.start, f"malformed number {token}") from None
        if math.isinf(value):
            raise self.error(token.start, "a number too large for float64")
        return value

    def exponent(self, node: ast.expr, base: int) -> None:
        _, node = _unsigned(node)
        if isinstance(node, ast.Constant):
            token = self.tokens[base + node.col_offset]
            if self.number(token) > MAX_EXPONENT:
                raise self.error(token.start, f"an exponent beyond ±{MAX_EXPONENT:,}")

    def variable(self, token: _Token) -> str:
        name = token.text
        if name in _WORDS:
            raise self.error(token.start, f"unexpected {token}", "it can only be a keyword's value")
        if name in self.functions:
            raise self.error(
                token.start, f"function {token} used as a variable", f"write {name}(…)"
            )
        if name not in self.assigned:
            self.used[name] = None
        return name

    def function(self, token: _Token) -> str:
        name = token.text
        if name in self.functions:
            return name
        if name in self.assigned or name in self.used or name in CONSTANTS:
            problem = f"variable {token} used as a function"
            raise self.error(token.start, problem, f"write a product as {name}*(…)")
        raise self.error(token.start, f"unknown function {token}", _suggest(name, self.functions))

    def given(
        self, name: str, items: list[ast.keyword], base: int
    ) -> tuple[tuple[str, KeywordValue], ...]:
        """Keyword arguments: names that the function allows, with plain values."""
        given: dict[str, KeywordValue] = {}
        for item in items:
            token = self.tokens[base + item.col_offset]
            allowed = self.keywords.get(name, frozenset())
            if token.text not in allowed:
                problem = f"unknown keyword {token} of {quoted(name)}"
                raise self.error(token.start, problem, _suggest(token.text, allowed))
            if token.text in given:
                raise self.error(token.start, f"second value for keyword {token}")
            given[token.text] = self.plain_value(token, item.value, base)
        return tuple(given.items())

    def plain_value(self, name: _Token, node: ast.expr, base: int) -> KeywordValue:
        sign, inner = _unsigned(node)
        token = self.tokens[base + inner.col_offset]
        if isinstance(inner, ast.Constant):
            number = self.number(token)
            whole = token.text.isdigit() and number < 2**53  # an axis is an int
            return sign * (int(number) if whole else number)
        if inner is node and isinstance(inner, ast.Name) and token.text in _WORDS:
            return _WORDS[token.text]
        raise self.error(token.start, f"expected a number, True, False or None for {name}")


def _ends_value(span: list[_Token]) -> bool:
    return bool(span) and (span[-1].is_value or span[-1].text in _CLOSING)


def _operator(text: str, left: ast.expr) -> int:
    """Where the operator stands: after its left operand and the brackets around that."""
    found = _TO_OPERATOR.match(text, left.end_col_offset or 0)
    return found.end() if found else 0


def _unsigned(node: ast.expr) -> tuple[int, ast.expr]:
    """A node without the signs before it, and their product."""
    sign = 1
    while isinstance(node, ast.UnaryOp):
        sign = -sign if isinstance(node.op, ast.USub) else sign
        node = node.operand
    return sign, node


# ------------------------------------------------------------------ the stack machine


class _Machine:
    """Walks the steps; numbers meet as NumPy float64, which overflow to inf and never raise."""

    def __init__(
        self,
        program: Program,
        variables: Mapping[str, Any],
        functions: Mapping[str, Callable[..., Any]],
    ) -> None:
        self.source = program.source
        self.variables = variables
        self.functions = functions
        self.values: dict[str, Any] = {}
        self.work = 0

    def assign(self, statement: Assignment) -> None:
        name = statement.name
        if name in self.variables:
            problem = f"value given for {quoted(name)}, which is computed"
            raise _error(self.source, statement.offset, problem, f"leave out {name}=…")
        stack: list[Any] = []
        for step in statement.steps:
            rest = len(stack) - step.takes
            stack[rest:] = [self.attempt(step, stack[rest:])]
        self.values[name] = stack.pop()

    def attempt(self, step: Step, taken: list[Any]) -> Any:
        if step.kind == "name" and not self.knows(step.value):
            raise self.missing(step)
        try:
            if taken:
                self.spend(_work(step, taken))
            value = self.value(step, taken)
            self.spend(math.prod(_shape(value)) if step.kind == "call" else 0)
            return value
        except Exception as error:  # whatever a function, or an operand's own operator, raises
            reason = str(error).partition("\n")[0][:200] or type(error).__name__
            problem = f"cannot compute {quoted(step.value)}"
            raise _error(self.source, step.offset, problem, reason) from error

    def spend(self, work: int) -> None:
        self.work += work
        if self.work > MAX_WORK:
            raise ExpressionError(f"more than {MAX_WORK:,} array elements in all")

    def knows(self, name: str) -> bool:
        return name in self.values or name in self.variables or name in CONSTANTS

    def missing(self, step: Step) -> ExpressionError:
        match = nearest(step.value, self.variables)
        guess = f"; did you mean {quoted(match)}?" if match else ""
        message = f"no value for {quoted(step.value)}: add {step.value}=<number>{guess}"
        return _pointed(self.source, step.offset, message)

    def value(self, step: Step, taken: list[Any]) -> Any:
        if step.kind == "constant":
            return np.float64(step.value)
        if step.kind == "name":
            return self.lookup(step.value)
        if step.kind == "operator":
            operate: Callable[..., Any] = (_SIGNS if step.takes == 1 else _BINARY)[step.value]
            return operate(*_operands(taken))
        taken = [float(v) if isinstance(v, np.float64) else v for v in taken]
        if step.kind == "call":
            return self.functions[step.value](*taken, **dict(step.keywords))
        plain = all(type(v) is float for v in taken)
        return np.array(taken) if plain else np.stack(taken)

    def lookup(self, name: str) -> Any:
        if name in self.values:
            return self.values[name]
        value = self.variables[name] if name in self.variables else CONSTANTS[name]
        return np.asarray(value, np.float64) if isinstance(value, list) else _number(value)


def _number(value: Any) -> Any:
    plain = (bool, int, float, np.bool_, np.integer)
    return np.float64(value) if isinstance(value, plain) else value


def _operands(taken: list[Any]) -> list[Any]:
    """Two numbers meet as float64; beside a tensor or an array, a number is a Python float."""
    values = [_number(value) for value in taken]
    if all(isinstance(value, np.float64) for value in values):
        return values
    return [float(value) if isinstance(value, np.float64) else value for value in values]


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(getattr(value, "shape", ()))


def _work(step: Step, taken: list[Any]) -> int:
    """A bound on the array elements that a step will compute, from the shapes that it meets."""
    shapes = [_shape(value) for value in taken]
    if not any(shapes):
        return 0
    sizes = [math.prod(shape) for shape in shapes]
    if step.value == "@" and all(shapes):
        return sizes[0] * sizes[1] // max(1, shapes[0][-1])
    if step.kind == "operator":
        return math.prod(np.broadcast_shapes(*shapes))
    # A function of several arrays may take their outer product before its size can be seen.
    outer = math.prod(sizes) > 20 * MAX_WORK
    return MAX_WORK + 1 if step.kind == "call" and outer else sum(sizes)
