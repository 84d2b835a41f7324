"""`chainrule explain`: a circuit as a table of values, gradients and edge contributions."""

from __future__ import annotations

import inspect
from io import StringIO
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from .. import ops
from ..circuit import Tensor
from ..circuit.names import CallerNames
from ..draw import draw
from ..errors import ExpressionError, nearest
from ..explain import NodeRow, circuit_rows
from ..explain import explain as explain_gradients
from ..explain.naming import Names
from ..rewrite import close, open
from .expression import Program, read, read_bindings, run
from .output import demand_place, write_text
from .terminal import console, number, plain_json, table

# What a formula may call: the differentiable functions of a value or two, and some reductions.
FUNCTIONS = (
    "abs", "arccos", "arcsin", "arctan", "clip", "concatenate", "cos", "cosh", "dot", "elu",
    "erf", "erfc", "exp", "expm1", "gelu", "hard_tanh", "leaky_relu", "log", "log10", "log1p",
    "log2", "log_softmax", "logsumexp", "matmul", "max", "maximum", "maxout", "mean", "min",
    "minimum", "norm", "outer", "prelu", "prod", "reciprocal", "relu", "selu", "sigmoid",
    "sign", "silu", "sin", "sinh", "softmax", "softplus", "softsign", "sqrt", "square", "std",
    "sum", "tan", "tanh", "transpose", "var", "where",
)  # fmt: skip

_STYLES = ("text", "latex", "mathml", "html", "svg", "png", "json")
NOBODY = CallerNames({})  # a command has no variables: names are the formula's own


@click.command()
@click.argument("formula")
@click.argument("values", nargs=-1, metavar="[NAME=NUMBER]...")
@click.option(
    "--wrt", multiple=True, metavar="NAME", help="Only these variables' gradients at the end."
)
@click.option(
    "--open", "opened", is_flag=True, help="Open gates such as sigmoid into their definition."
)
@click.option(
    "--close", "closed", is_flag=True, help="Close hand-written gates, e.g. 1/(1+exp(-z))."
)
@click.option("--paths", is_flag=True, help="Each variable's largest paths, the rest as one sum.")
@click.option("--format", "style", type=click.Choice(_STYLES), default="text", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.option("-o", "--output", "target", metavar="FILE", help="Write to FILE.")
@click.option("--force", is_flag=True, help="Write over an existing FILE.")
def explain(
    formula: str,
    values: tuple[str, ...],
    wrt: tuple[str, ...],
    opened: bool,
    closed: bool,
    paths: bool,
    style: str,
    as_json: bool,
    target: str | None,
    force: bool,
) -> None:
    """Print the circuit of FORMULA at the given values, forward and backward.

    Each node shows its operation, value and gradient; each edge its local derivative times the
    upstream gradient. Statements are separated by semicolons; the last one is differentiated.

    \b
    chainrule explain "q = x + y; f = q*z" x=-2 y=5 z=-4
    chainrule explain "1/(1 + exp(-(w*x + b)))" w=2 x=-1 b=-3
    chainrule explain "softmax(x) @ [0, 0, 1]" "x=[1, 2, 3]"
    """
    if target is not None:
        demand_place(target, force)
    output, variables = build(formula, values)
    if closed:
        output = close(output)
    if opened:
        output = open(output)
    chosen = _chosen(wrt, variables)
    style = "json" if as_json else style
    if target is None and style == "text":
        show(output, chosen, variables, console(), paths=paths)
        return
    if style == "png":
        if target is None:
            raise click.UsageError("--format png writes an image: say where, with -o FILE")
        draw(output).png(target)
        return
    text = _written(output, chosen, variables, style, paths)
    if target is None:
        click.echo(text)
    else:
        write_text(target, text + "\n")


def _written(
    output: Tensor, chosen: list[str], variables: dict[str, Tensor], style: str, paths: bool
) -> str:
    """The explanation in a form for other programs, or the printed one as a file has it."""
    if style == "svg":
        return draw(output).svg()
    if style == "json":
        return plain_json(_as_json(circuit_rows(output), chosen))
    if style == "text":
        page = Console(file=StringIO(), width=10_000, no_color=True, highlight=False)
        show(output, chosen, variables, page, paths=paths)
        return str(page.file.getvalue()).rstrip("\n")  # type: ignore[attr-defined]
    explanation = explain_gradients(output, wrt=[variables[name] for name in chosen])
    forms = {
        "latex": explanation.latex,
        "mathml": explanation.mathml,
        "html": explanation.html,
    }
    return forms[style]()


def build(formula: str, values: tuple[str, ...]) -> tuple[Tensor, dict[str, Tensor]]:
    """The circuit that a formula makes at the given values, and its variables by name."""
    functions = {name: ops.registry[name] for name in FUNCTIONS}
    keywords = {name: keywords_of(function) for name, function in functions.items()}
    program = read(formula, functions=functions, keywords=keywords)
    bindings = read_bindings(values)
    _refuse_unused(program, bindings, formula)
    variables = {name: ops.tensor(value, name=name) for name, value in bindings.items()}
    results = run(program, variables, functions)
    for name, value in results.items():
        if isinstance(value, Tensor) and value.name is None:
            value.name = name
    last = program.statements[-1]
    output = results[last.name]
    if not isinstance(output, Tensor) or not output.requires_grad:
        raise ExpressionError(
            f"'{last.name}' depends on no variable, so there is nothing to differentiate;"
            " use a name in the formula and give its value, as in x=2"
        )
    if output.size != 1:
        raise ExpressionError(
            f"'{last.name}' has shape {output.shape}, and a gradient starts from one number;"
            f" end with a scalar, as in sum({last.name})"
        )
    return output, variables


def keywords_of(function: Any) -> frozenset[str]:
    """The settings that a function takes beside its inputs."""
    if isinstance(function, ops.Operation):
        return frozenset(function.defaults)
    parameters = list(inspect.signature(function).parameters.values())
    return frozenset(p.name for p in parameters if p.default is not inspect.Parameter.empty)


def _refuse_unused(program: Program, bindings: dict[str, Any], formula: str) -> None:
    for name in bindings:
        if name not in program.free:
            match = nearest(name, program.free)
            guess = f"; did you mean '{match}'?" if match else ""
            raise ExpressionError(f"'{name}' has a value but is not in the formula{guess}")


def _chosen(wrt: tuple[str, ...], variables: dict[str, Tensor]) -> list[str]:
    for name in wrt:
        if name not in variables:
            match = nearest(name, variables)
            guess = f"; did you mean '{match}'?" if match else f"; there are {', '.join(variables)}"
            raise ExpressionError(f"--wrt {name}: no variable of that name{guess}")
    return list(wrt) or list(variables)


def show(
    output: Tensor,
    chosen: list[str],
    variables: dict[str, Tensor],
    out: Console,
    *,
    paths: bool = False,
) -> None:
    """Print the circuit, its edges, the chosen gradients, and each as a chain of factors."""
    rows = circuit_rows(output)
    out.print(_circuit_table(rows))
    explanation = explain_gradients(output, wrt=[variables[name] for name in chosen])
    explanation.names = Names(explanation.flow.output, explanation.flow.reached, NOBODY, False)
    texts = [explanation.text()]
    if paths:
        texts = [explanation.paths_text(variables[name]) for name in chosen]
    for text in texts:
        out.print(text, highlight=False, markup=False, soft_wrap=True)
    out.print(_edge_table(rows))
    by_name = {row.name: row for row in rows}
    for name in chosen:
        out.print(_sentence(rows[-1].name, name, by_name.get(name)), highlight=False, markup=False)


def _circuit_table(rows: list[NodeRow]) -> Table:
    """The circuit forward: a row for each node."""
    circuit = table("node", "operation", "value", f"∂{rows[-1].name}/∂node", title="")
    for row in rows:
        circuit.add_row(row.name, row.formula, number(row.value), number(row.gradient))
    return circuit


def _edge_table(rows: list[NodeRow]) -> Table:
    """The circuit backward: a row for each edge, from the output down."""
    edges = table("edge", "local × upstream", "= contribution", "gate", title="")
    for row in reversed(rows):
        for step in row.steps:
            factor = number(step.local) if step.local is not None else "Jacobian"
            edges.add_row(
                f"∂{step.node}/∂{step.input}",
                f"{factor} × {number(step.upstream)}",
                number(step.contribution),
                f"{step.op}: {step.flow}",
            )
    return edges


def _sentence(output: str, name: str, row: NodeRow | None) -> str:
    """∂f/∂x = a + b = c, the branches added up."""
    if row is None or row.gradient is None:
        return f"∂{output}/∂{name} = 0 (it is not reached)"
    total = number(row.gradient)
    if len(row.received) > 1:
        terms = " + ".join(_bracketed(number(term)) for term in row.received)
        return f"∂{output}/∂{row.name} = {terms} = {total}"
    return f"∂{output}/∂{row.name} = {total}"


def _bracketed(text: str) -> str:
    return f"({text})" if text.startswith("-") else text


def _as_json(rows: list[NodeRow], chosen: list[str]) -> dict[str, Any]:
    by_name = {row.name: row for row in rows}
    return {
        "output": rows[-1].name,
        "value": _json(rows[-1].value),
        "gradients": {
            name: _json(by_name[name].gradient) if name in by_name else 0.0 for name in chosen
        },
        "nodes": [
            {
                "name": row.name,
                "operation": row.op,
                "formula": row.formula,
                "value": _json(row.value),
                "gradient": _json(row.gradient),
                "edges": [
                    {
                        "input": step.input,
                        "local": _json(step.local),
                        "upstream": _json(step.upstream),
                        "contribution": _json(step.contribution),
                        "flow": step.flow,
                    }
                    for step in row.steps
                ],
            }
            for row in rows
        ],
    }


def _json(value: Any) -> Any:
    return None if value is None else np.asarray(value).tolist()
