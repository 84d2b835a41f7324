"""`chainrule exercise`: a circuit with blanks, answers graded link by link."""

from __future__ import annotations

import sys
from typing import Any

import click

from ..errors import ExpressionError
from ..explain.exercises import KINDS, Exercise, Mark
from ..explain.exercises import exercise as make
from .explain import build
from .terminal import plain_json


@click.command()
@click.argument("formula")
@click.argument("values", nargs=-1, metavar="[NAME=NUMBER]...")
@click.option(
    "--hide", multiple=True, type=click.Choice(KINDS), help="What to hide; repeat. Default: all."
)
@click.option(
    "--most", type=click.IntRange(1, 100), default=8, show_default=True, help="Blanks at the most."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option(
    "-a",
    "--answer",
    "answers",
    multiple=True,
    metavar="N=NUMBER",
    help="Grade this answer; repeat.",
)
@click.option(
    "--hint", "hints", multiple=True, type=int, metavar="N", help="The next hint for blank N."
)
@click.option("--solution", is_flag=True, help="Show every answer.")
@click.option("--json", "as_json", is_flag=True, help="Questions, marks and hints as JSON.")
def exercise(
    formula: str,
    values: tuple[str, ...],
    hide: tuple[str, ...],
    most: int,
    seed: int,
    answers: tuple[str, ...],
    hints: tuple[int, ...],
    solution: bool,
    as_json: bool,
) -> None:
    """Hide numbers in the circuit of FORMULA, and grade the answers.

    On a terminal it asks for each blank; `?` gives the next hint, an empty line leaves off.

    \b
    chainrule exercise "q = x + y; f = q*z" x=-2 y=5 z=-4
    chainrule exercise "q = x + y; f = q*z" x=-2 y=5 z=-4 --answer 1=3 --hint 2
    """
    output, _ = build(formula, values)
    made = make(output, hide=hide or KINDS, seed=seed, most=most)
    given = made.solution() if solution else _given(answers)
    try:
        marks = made.grade(given)
        told = [(number, made.hint(number)) for number in hints]
    except KeyError as error:
        raise ExpressionError(str(error.args[0])) from None
    if as_json:
        click.echo(plain_json(_as_json(made, given, marks, told)))
        return
    click.echo(made.text(given))
    for mark in [] if solution else marks:
        click.echo(f"[{mark.number}] {'✓' if mark.right else '✗'} {mark.message}")
    for number, hint in told:
        click.echo(f"[{number}] hint: {hint}")
    if not (answers or hints or solution) and sys.stdin.isatty():
        _ask(made)


def _as_json(
    made: Exercise, given: dict[int, float], marks: list[Mark], told: list[tuple[int, str]]
) -> dict[str, Any]:
    return {
        "text": made.text(given),
        "questions": [{"number": q.number, "kind": q.kind, "what": q.what} for q in made.questions],
        "marks": [{"number": m.number, "right": m.right, "message": m.message} for m in marks],
        "hints": [{"number": number, "hint": hint} for number, hint in told],
    }


def _given(answers: tuple[str, ...]) -> dict[int, float]:
    given = {}
    for answer in answers:
        number, _, value = answer.partition("=")
        try:
            given[int(number)] = float(value.replace("−", "-"))
        except ValueError:
            raise ExpressionError(f"--answer {answer}: expected N=NUMBER, as in 1=-4") from None
    return given


def _ask(made: Exercise) -> None:
    """Ask for each blank until it is right; `?` for a hint, an empty line to leave off."""
    right = 0
    for question in made.questions:
        while True:
            said = click.prompt(f"[{question.number}]", default="", show_default=False).strip()
            if not said:
                click.echo(f"{right} of {len(made.questions)} right")
                return
            if said == "?":
                click.echo(f"    {made.hint(question.number)}")
                continue
            try:
                mark = made.grade({question.number: float(said.replace("−", "-"))})[0]
            except ValueError:
                click.echo("    a number, please; ? for a hint")
                continue
            click.echo(f"    {'✓' if mark.right else '✗'} {mark.message}")
            if mark.right:
                right += 1
                break
    click.echo(f"all {len(made.questions)} right")
