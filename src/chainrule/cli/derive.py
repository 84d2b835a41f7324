"""`chainrule derive`: the derivative of a gate, a loss or a formula, symbolic, a rule a line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from .. import ops
from ..circuit import Tensor
from ..derive import Derivation
from ..derive import derive as derivation_of
from ..errors import ExpressionError, nearest
from ..nn import losses
from .explain import FUNCTIONS, keywords_of
from .expression import read, read_bindings, run
from .output import demand_place, write_text
from .terminal import plain_json


@click.command()
@click.argument("what", metavar="NAME-OR-FORMULA")
@click.argument("values", nargs=-1, metavar="[NAME=NUMBER]...")
@click.option("--wrt", multiple=True, metavar="NAME", help="Only towards these variables.")
@click.option(
    "--format",
    "style",
    type=click.Choice(["text", "latex", "mathml", "html", "json"]),
    default="text",
    show_default=True,
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.option("-o", "--output", "target", metavar="FILE", help="Write there.")
@click.option("--force", is_flag=True, help="Replace an existing file.")
def derive(
    what: str,
    values: tuple[str, ...],
    wrt: tuple[str, ...],
    style: str,
    as_json: bool,
    target: str | None,
    force: bool,
) -> None:
    """Print the derivative of a gate, a loss or a formula of your own, line by line.

    Each line is equal to the one before; beside it stands the rule that made it. Values are not
    needed; give one to make a variable a vector.

    \b
    chainrule derive sigmoid
    chainrule derive softmax_cross_entropy
    chainrule derive "sin(exp(-x**2))"
    chainrule derive "x**2 + x*y + y**2" --wrt x
    """
    if target is not None:
        demand_place(target, force)
    found = answer(what, values, list(wrt) or None)
    forms: dict[str, Callable[[], str]] = {
        "text": found.text,
        "latex": found.latex,
        "mathml": found.mathml,
        "html": found.html,
        "json": lambda: plain_json(_as_json(found)),
    }
    text = forms["json" if as_json else style]()
    if target is None:
        click.echo(text)
    else:
        write_text(target, text + "\n")


def answer(what: str, values: tuple[str, ...], wrt: Any = None) -> Derivation:
    """The derivation of a name of the registry or the losses, else of a formula."""
    name = what.strip()
    if not values and name in ops.registry:
        return derivation_of(ops.registry[name], wrt)
    if not values and name in losses.LOSSES:
        return derivation_of(losses.LOSSES[name], wrt)
    known = [*ops.registry, *losses.LOSSES]
    if not values and name.isidentifier() and len(name) > 2 and (match := nearest(name, known)):
        raise ExpressionError(f"no function '{name}'; did you mean '{match}'?")
    functions = {name: ops.registry[name] for name in FUNCTIONS}
    keywords = {name: keywords_of(function) for name, function in functions.items()}
    program = read(what, functions=functions, keywords=keywords)
    given = read_bindings(values)
    unknown = [one for one in given if one not in program.free]
    if unknown:
        raise ExpressionError(f"'{unknown[0]}' has a value but is not in the formula")
    samples = {one: given.get(one, 0.7 + 0.4 * k) for k, one in enumerate(program.free)}
    variables = {one: ops.tensor(value, name=one) for one, value in samples.items()}
    output = run(program, variables, functions)[program.statements[-1].name]
    if not isinstance(output, Tensor) or not output.requires_grad:
        raise ExpressionError(f"'{what}' has no variable, so there is nothing to differentiate")
    return derivation_of(output, wrt)


def _as_json(found: Derivation) -> dict[str, Any]:
    return {
        "name": found.name,
        "parts": [
            {
                "title": part.title,
                "variable": part.variable.name,
                "condition": part.condition,
                "steps": [
                    {"rule": step.rule, "text": step.text, "latex": step.latex}
                    for step in part.steps
                ],
            }
            for part in found.parts
        ],
        "notes": list(found.notes),
    }
