"""Formulas typed by a user: `q = x + y; f = q*z`, read without ever running them as Python.

A text passes two gates, and neither executes anything. First, token by token (`tokens`): whatever
is not on the lists there is an error that points at its column. What passes is copied as a skeleton
in which every name is `n` and every number `0`. Second, Python's own parser sees that skeleton only
and returns its tree; nodes of a closed list become postfix steps. `run` walks the steps with a
stack (`machine`). Nothing recurses, and every number is a float64.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from chainrule.errors import ExpressionError, quoted

from .machine import CONSTANTS, Assignment, KeywordValue, Machine, Step
from .tokens import RENAME, SIGNS, WORDS, Token, refusal, statements, suggestion

__all__ = ["Assignment", "Program", "Step", "read", "read_bindings", "run"]

MAX_DIGITS = 400  # of one number
MAX_EXPONENT = 1_000  # written as a number

_NO_KEYWORDS: Mapping[str, frozenset[str]] = MappingProxyType({})
_TO_OPERATOR = re.compile(r"[ )]*")


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
    machine = Machine(program.source, variables, functions)
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
            raise refusal(word, statement.offset, "expected one name=number")
        if statement.name in bindings:
            raise refusal(word, statement.offset, f"second value for {quoted(statement.name)}")
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
                raise refusal(word, step.offset, "list with rows of different lengths")
            stack.append(([value for value, _ in taken], (step.takes, *shapes.pop())))
        elif step.kind == "operator" and step.takes == 1 and shapes == {()}:
            stack.append((SIGNS[step.value](taken[0][0]), ()))
        else:
            raise refusal(word, step.offset, "expected a number or a list of numbers")
    value: float | list[Any] = stack.pop()[0]
    return value


class _Reader:
    """Reads one text: checked tokens, then their tree, become steps."""

    def __init__(
        self, source: str, functions: Collection[str], keywords: Mapping[str, frozenset[str]]
    ) -> None:
        self.source = source
        self.functions = functions
        self.keywords = keywords
        self.spans = statements(source)
        self.tokens = {token.start: token for span in self.spans for token in span}
        self.assigned: dict[str, None] = {}
        self.used: dict[str, None] = {}

    def error(self, offset: int, problem: str, hint: str = "") -> ExpressionError:
        return refusal(self.source, offset, problem, hint)

    def program(self) -> Program:
        if not self.spans:
            raise ExpressionError("there is no expression to read")
        read = tuple(self.statement(span, span is self.spans[-1]) for span in self.spans)
        free = tuple(name for name in self.used if name not in CONSTANTS)
        return Program(read, self.source, free)

    def statement(self, span: list[Token], is_last: bool) -> Assignment:
        head = span[0]
        named = len(span) > 1 and span[1].text == "="
        if not (named or is_last):
            hint = "only the last one may go without"
            raise self.error(head.start, "expression without a name", hint)
        steps = self.postfix(span[2:] if named else span)
        name = head.text if named else self.spare_name()
        if name in self.assigned:
            raise self.error(head.start, f"second definition of {quoted(name)}", RENAME)
        if name in self.used:
            raise self.error(head.start, f"{quoted(name)} defined after its first use")
        if name in self.functions or name in WORDS:
            raise self.error(head.start, f"{quoted(name)} used as a variable", RENAME)
        self.assigned[name] = None
        return Assignment(name, head.start, steps)

    def spare_name(self) -> str:
        taken = {*self.assigned, *self.used, *self.functions}
        names = ("out", *(f"out_{i}" for i in range(1, len(taken) + 1)))
        return next(name for name in names if name not in taken)

    def postfix(self, body: list[Token]) -> tuple[Step, ...]:
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

    def number(self, token: Token) -> float:
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

    def variable(self, token: Token) -> str:
        name = token.text
        if name in WORDS:
            raise self.error(token.start, f"unexpected {token}", "it can only be a keyword's value")
        if name in self.functions:
            raise self.error(
                token.start, f"function {token} used as a variable", f"write {name}(…)"
            )
        if name not in self.assigned:
            self.used[name] = None
        return name

    def function(self, token: Token) -> str:
        name = token.text
        if name in self.functions:
            return name
        if name in self.assigned or name in self.used or name in CONSTANTS:
            problem = f"variable {token} used as a function"
            raise self.error(token.start, problem, f"write a product as {name}*(…)")
        raise self.error(token.start, f"unknown function {token}", suggestion(name, self.functions))

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
                raise self.error(token.start, problem, suggestion(token.text, allowed))
            if token.text in given:
                raise self.error(token.start, f"second value for keyword {token}")
            given[token.text] = self.plain_value(token, item.value, base)
        return tuple(given.items())

    def plain_value(self, name: Token, node: ast.expr, base: int) -> KeywordValue:
        sign, inner = _unsigned(node)
        token = self.tokens[base + inner.col_offset]
        if isinstance(inner, ast.Constant):
            number = self.number(token)
            whole = token.text.isdigit() and number < 2**53  # an axis is an int
            return sign * (int(number) if whole else number)
        if inner is node and isinstance(inner, ast.Name) and token.text in WORDS:
            return WORDS[token.text]
        raise self.error(token.start, f"expected a number, True, False or None for {name}")


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
