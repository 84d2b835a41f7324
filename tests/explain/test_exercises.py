"""Exercises: every blank can be worked out, and a wrong answer is told its link."""

from __future__ import annotations

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import chainrule as cr
from chainrule.cli.exercise import exercise as command
from chainrule.explain.exercises import KINDS, exercise

ADD_MUL = ("q = x + y; f = q*z", "x=-2", "y=5", "z=-4")


def circuit() -> cr.Tensor:
    x, y, z = (cr.tensor(v, name=n) for n, v in (("x", -2.0), ("y", 5.0), ("z", -4.0)))
    q = x + y
    q.name = "q"
    f = q * z + q
    f.name = "f"
    return f


@given(seed=st.integers(0, 10**6), most=st.integers(1, 30))
def test_the_solution_is_all_right_and_fills_every_blank(seed: int, most: int) -> None:
    made = exercise(circuit(), seed=seed, most=most)
    assert 1 <= len(made.questions) <= most
    solution = made.solution()
    assert all(mark.right for mark in made.grade(solution))
    assert "[" not in made.text(solution)
    for question in made.questions:
        assert f"[{question.number}]" in made.text()


@given(seed=st.integers(0, 10**6), factor=st.sampled_from([-1.0, 2.0, 0.5, 1.01]))
def test_a_wrong_answer_is_never_right(seed: int, factor: float) -> None:
    made = exercise(circuit(), seed=seed)
    for question in made.questions:
        wrong = question.answer * factor if question.answer else 1.0
        mark = made.grade({question.number: wrong})[0]
        assert not mark.right
        assert mark.message


def test_the_usual_mistakes_are_named() -> None:
    x, y = cr.tensor(2.0, name="x"), cr.tensor(3.0, name="y")
    f = cr.square(x * y) + x
    made = exercise(f, hide=["contribution", "gradient"], most=50)
    by_what = {q.what: q for q in made.questions}
    gradient = by_what["∂out/∂x"]
    assert "branch is missing" in made.grade({gradient.number: 1.0})[0].message
    product = by_what["∂out/∂n2 · ∂n2/∂n1"]
    assert product.answer == 12.0
    inner = by_what["∂out/∂n1 · ∂n1/∂x"]
    assert "local derivative alone" in made.grade({inner.number: 3.0})[0].message
    assert "upstream gradient alone" in made.grade({inner.number: 12.0})[0].message
    assert made.grade({inner.number: -36.0})[0].message == "the size is right, the sign is not"


def test_hints_go_from_the_rule_to_the_answer() -> None:
    made = exercise(circuit(), hide=["value"])
    hints = [made.hint(1) for _ in range(4)]
    assert hints[0] == "q = x + y: put the values of its inputs in"
    assert hints[1] == "q = x + y with x = -2, y = 5"
    assert hints[2] == hints[3] == "q = 3"


def test_arrays_and_unknown_kinds_are_refused() -> None:
    with pytest.raises(cr.ShapeError, match="made of numbers"):
        exercise(cr.sum(cr.tensor(np.ones(3), name="v")))
    with pytest.raises(ValueError, match="cannot hide 'colour'"):
        exercise(circuit(), hide=["colour"])
    with pytest.raises(KeyError, match="no question 99"):
        exercise(circuit()).grade({99: 1.0})


def test_every_kind_can_be_hidden() -> None:
    kinds = {question.kind for question in exercise(circuit(), most=100).questions}
    assert kinds == set(KINDS)


def test_the_command_grades_and_hints() -> None:
    done = CliRunner().invoke(
        command, [*ADD_MUL, "--most", "20", "-a", "1=3", "-a", "2=12", "--hint", "2"]
    )
    assert done.exit_code == 0
    assert "q = x + y = 3" in done.output
    assert "[1] ✓ right" in done.output
    assert "[2] ✗ the size is right, the sign is not" in done.output
    assert "[2] hint: f = q · z: put the values of its inputs in" in done.output


def test_the_command_refuses_an_answer_that_is_none() -> None:
    done = CliRunner().invoke(command, [*ADD_MUL, "-a", "one"])
    assert isinstance(done.exception, cr.ExpressionError)
