"""Exercises: a circuit with some of its numbers hidden, graded link by link."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ..circuit import Tensor, circuit_of
from ..errors import ShapeError
from ..gradient.backward import Edge, flow_back
from ..gradient.backward import seed as first_upstream
from ..notation import number, write
from .steps import name_nodes

Kind = Literal["value", "local", "contribution", "gradient"]
KINDS: tuple[Kind, ...] = ("value", "local", "contribution", "gradient")


@dataclass(frozen=True)
class Question:
    """One hidden number: what it is, its answer, and the hints in order."""

    number: int
    kind: Kind
    what: str  # as in "∂f/∂q"
    answer: float
    hints: tuple[str, ...]
    mistakes: tuple[tuple[float, str], ...]  # wrong numbers that have a known cause


@dataclass(frozen=True)
class Mark:
    """The grade of one answer, and what to look at where it is wrong."""

    number: int
    right: bool
    message: str


class Exercise:
    """A circuit whose hidden numbers are asked for, in an order in which each can be worked out."""

    def __init__(self, title: str, lines: Sequence[tuple[str, Question | None]]) -> None:
        self.title = title
        self._lines = lines
        self.questions = [question for _, question in lines if question is not None]
        self._hinted = dict.fromkeys((q.number for q in self.questions), 0)

    def text(self, answers: Mapping[int, float] | None = None) -> str:
        """The circuit with blanks `[1]`, `[2]`, …; right answers are filled in."""
        known = {m.number for m in self.grade(answers or {}) if m.right}
        lines = [self.title, ""]
        for text, question in self._lines:
            if question is None:
                lines.append(text)
            elif question.number in known:
                lines.append(f"{text} = {number(question.answer)}")
            else:
                lines.append(f"{text} = [{question.number}]")
        return "\n".join(lines)

    __str__ = text

    def grade(self, answers: Mapping[int, float]) -> list[Mark]:
        """A mark for each answer: right to three digits, or which link went wrong.

        >>> import chainrule as cr
        >>> x, y = cr.tensor(2.0, name="x"), cr.tensor(3.0, name="y")
        >>> exercise(cr.multiply(x, y), hide=["gradient"]).grade({1: -3.0})[0].message
        'the size is right, the sign is not'
        """
        by_number = {question.number: question for question in self.questions}
        for key in answers:
            if key not in by_number:
                raise KeyError(f"there is no question {key}; they are 1 to {len(by_number)}")
        return [_marked(by_number[key], float(value)) for key, value in sorted(answers.items())]

    def hint(self, number_: int) -> str:
        """The next hint for a question: the rule, then its numbers, then the answer."""
        if number_ not in self._hinted:
            raise KeyError(f"there is no question {number_}; they are 1 to {len(self.questions)}")
        question = self.questions[number_ - 1]
        level = min(self._hinted[number_], len(question.hints) - 1)
        self._hinted[number_] += 1
        return question.hints[level]

    def solution(self) -> dict[int, float]:
        """Every answer by its number."""
        return {question.number: question.answer for question in self.questions}


def exercise(
    output: Tensor, *, hide: Sequence[str] = KINDS, seed: int = 0, most: int = 12
) -> Exercise:
    """Hide numbers of a scalar circuit, at most `most` of them, chosen by the seed.

    `hide` are the kinds to choose from: forward values, local derivatives, contributions of edges,
    gradients of nodes.

    Raises `ShapeError` where a node is an array, `ValueError` for an unknown kind.

    >>> import chainrule as cr
    >>> x, y = cr.tensor(2.0, name="x"), cr.tensor(3.0, name="y")
    >>> print(exercise(x * y, hide=["gradient"]))
    Work out the blanks, from the output back.
    <BLANKLINE>
    x = 2
    y = 3
    out = x · y = 6
    local derivative ∂out/∂x = 3
    contribution of ∂out/∂x to ∂out/∂x = 3
    local derivative ∂out/∂y = 2
    contribution of ∂out/∂y to ∂out/∂y = 2
    gradient of x, ∂out/∂x = [1]
    gradient of y, ∂out/∂y = [2]
    """
    wrong = [kind for kind in hide if kind not in KINDS]
    if wrong:
        raise ValueError(f"cannot hide '{wrong[0]}'; choose from {', '.join(KINDS)}")
    facts = _facts(output)
    candidates = [k for k, fact in enumerate(facts) if fact.kind in hide]
    picked = set(candidates)
    if len(candidates) > most:
        rng = np.random.default_rng(seed)
        picked = {int(k) for k in rng.choice(candidates, most, replace=False)}
    numbers = itertools.count(1)
    lines: list[tuple[str, Question | None]] = []
    for k, fact in enumerate(facts):
        if k in picked and fact.kind is not None:
            question = Question(
                next(numbers), fact.kind, fact.what, fact.answer, fact.hints, fact.mistakes
            )
            lines.append((fact.blank, question))
        else:
            lines.append((fact.line, None))
    return Exercise("Work out the blanks, from the output back.", lines)


@dataclass(frozen=True)
class _Fact:
    line: str  # with the number
    blank: str = ""  # without it
    kind: Kind | None = None
    what: str = ""
    answer: float = math.nan
    hints: tuple[str, ...] = ()
    mistakes: tuple[tuple[float, str], ...] = ()


def _facts(output: Tensor) -> list[_Fact]:
    """Everything that the circuit has to tell, in the order in which it can be worked out."""
    nodes = [node for node in circuit_of(output) if node.traced]
    for node in nodes:
        if node.size != 1:
            raise ShapeError(
                f"an exercise is made of numbers; '{node.label}' has shape {node.shape}"
            )
    names = name_nodes(nodes, output)
    edges: list[Edge] = []
    gradients = flow_back(
        output, Tensor(first_upstream(output), requires_grad=False), watch=edges.append
    )
    facts = [_value_fact(node, names) for node in nodes]
    told: set[Tensor] = {output}
    for k, edge in enumerate(edges):
        facts += _edge_facts(edge, names, names[output])
        done = all(later.source is not edge.source for later in edges[k + 1 :])
        if done and edge.source not in told:
            told.add(edge.source)
            terms = [_plain(e.contribution) for e in edges if e.source is edge.source]
            facts.append(_gradient_fact(edge.source, gradients, terms, names, names[output]))
    forward, backward = facts[: len(nodes)], facts[len(nodes) :]
    return (
        forward
        + [f for f in backward if f.kind != "gradient"]
        + [f for f in backward if f.kind == "gradient"]
    )


def _plain(value: Any) -> float:
    return float(np.asarray(value.value if isinstance(value, Tensor) else value))


def _value_fact(node: Tensor, names: Mapping[Tensor, str]) -> _Fact:
    name, value = names[node], _plain(node)
    if node.op is None:
        return _Fact(f"{name} = {number(value)}")
    formula = write(node, names={n: names[n] for n in node.inputs if n in names})
    inputs = ", ".join(f"{names[n]} = {number(_plain(n))}" for n in node.inputs if n in names)
    hints = (
        f"{name} = {formula}: put the values of its inputs in",
        f"{name} = {formula} with {inputs}",
        f"{name} = {number(value)}",
    )
    blank = f"{name} = {formula}"
    return _Fact(f"{blank} = {number(value)}", blank, "value", name, value, hints)


def _edge_facts(edge: Edge, names: Mapping[Tensor, str], output: str) -> list[_Fact]:
    node, source = names[edge.node], names[edge.source]
    upstream, contribution = _plain(edge.upstream), _plain(edge.contribution)
    if edge.local is None:
        return [_Fact(f"∂{node}/∂{source}: contribution {number(contribution)}")]
    local = _plain(edge.local)
    rule = write(edge.local, names=names, expand=False) if isinstance(edge.local, Tensor) else ""
    link = f"∂{node}/∂{source}"
    facts = edge.node.op.facts
    of_local = (
        f"{link} = {rule}" if rule else f"{link} is a constant: it does not depend on {source}"
    )
    return [
        _Fact(
            f"local derivative {link} = {number(local)}",
            f"local derivative {link}",
            "local",
            link,
            local,
            (
                f"differentiate {facts.meaning.splitlines()[0]}; the gate is a {facts.flow}",
                of_local,
                f"{link} = {number(local)}",
            ),
            (
                (
                    upstream * local,
                    "that is local × upstream already: the local derivative alone, please",
                ),
            ),
        ),
        _Fact(
            f"contribution of {link} to ∂{output}/∂{source} = {number(contribution)}",
            f"contribution of {link} to ∂{output}/∂{source}",
            "contribution",
            f"∂{output}/∂{node} · ∂{node}/∂{source}",
            contribution,
            (
                f"local × upstream = ∂{node}/∂{source} × ∂{output}/∂{node}",
                f"{of_local} = {number(local)}; ∂{output}/∂{node} = {number(upstream)}",
                f"{number(local)} × {number(upstream)} = {number(contribution)}",
            ),
            (
                (local, "this is the local derivative alone: multiply it by the upstream gradient"),
                (
                    upstream,
                    "this is the upstream gradient alone: multiply it by the local one",
                ),
            ),
        ),
    ]


def _gradient_fact(
    node: Tensor,
    gradients: Mapping[Tensor, Any],
    terms: Sequence[float],
    names: Mapping[Tensor, str],
    output: str,
) -> _Fact:
    what = f"∂{output}/∂{names[node]}"
    answer = _plain(gradients[node])
    sum_ = " + ".join(number(term) for term in terms)
    hints = (
        f"{what} is the sum of the contributions of {names[node]}'s {len(terms)} edges",
        f"{what} = {sum_}",
        f"{what} = {number(answer)}",
    )
    subsets = [
        (sum(some), "a branch is missing: gradients add up where a value is used more than once")
        for size in range(1, min(len(terms), 6))
        for some in itertools.combinations(terms[:8], size)
    ]
    blank = f"gradient of {names[node]}, {what}"
    return _Fact(
        f"{blank} = {number(answer)}", blank, "gradient", what, answer, hints, tuple(subsets)
    )


def _same(a: float, b: float) -> bool:
    """Equal to the three digits that a student writes down."""
    return math.isclose(a, b, rel_tol=5e-4, abs_tol=1e-12) or (math.isnan(a) and math.isnan(b))


def _marked(question: Question, given: float) -> Mark:
    if _same(given, question.answer):
        return Mark(question.number, True, "right")
    if _same(-given, question.answer):
        return Mark(question.number, False, "the size is right, the sign is not")
    for wrong, why in question.mistakes:
        if _same(given, wrong):
            return Mark(question.number, False, why)
    return Mark(question.number, False, f"not yet: look at {question.what} again")


__all__ = ["Exercise", "Mark", "Question", "exercise"]
