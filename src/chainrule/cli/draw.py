"""`chainrule draw`: a formula's circuit, values above the wires and gradients below."""

from __future__ import annotations

import os
import sys
import webbrowser
from collections.abc import Callable
from pathlib import Path
from tempfile import mkdtemp

import click

from ..draw import Drawing
from ..draw import draw as drawn
from ..errors import ChainruleError, quoted
from ..rewrite import close
from ..rewrite import open as open_gates
from .explain import build
from .terminal import console

_STYLES = ("text", "svg", "dot", "html", "png")


@click.command()
@click.argument("formula")
@click.argument("values", nargs=-1, metavar="[NAME=NUMBER]...")
@click.option(
    "--format", "style", type=click.Choice(_STYLES), help="By default that of FILE, else text."
)
@click.option("-o", "--output", "target", metavar="FILE", help="Where to write the drawing.")
@click.option("--force", is_flag=True, help="Write over an existing file.")
@click.option("--open", "opened", is_flag=True, help="Open gates such as sigmoid.")
@click.option("--close", "closed", is_flag=True, help="Close hand-written gates.")
@click.option("--show", is_flag=True, help="Show the drawing in the browser.")
@click.option("--no-gradients", is_flag=True, help="Draw the forward pass only.")
@click.option("--width", type=click.IntRange(min=20), help="Columns for text; the terminal's.")
def draw(
    formula: str,
    values: tuple[str, ...],
    style: str | None,
    target: str | None,
    force: bool,
    opened: bool,
    closed: bool,
    show: bool,
    no_gradients: bool,
    width: int | None,
) -> None:
    """Draw the circuit of FORMULA at the given values.

    The value stands above each wire, the gradient below, the local derivative on the edge.
    Statements are separated by semicolons; the last one is drawn.

    \b
    chainrule draw "q = x + y; f = q*z" x=-2 y=5 z=-4
    chainrule draw "sigmoid(w*x + b)" w=2 x=-1 b=3 --open -o neuron.svg
    """
    path = _target(target, style, force)
    output, _ = build(formula, values)
    if closed:
        output = close(output)
    if opened:
        output = open_gates(output)
    made = drawn(output, gradients=not no_gradients)
    if path is not None:
        _save(made, path, style)
    elif not show:
        _print(made, style or "text", width)
    if show:
        _show(made)


def _target(target: str | None, style: str | None, force: bool) -> Path | None:
    if target is None:
        if style == "png":
            raise click.UsageError("--format png needs a file: -o FILE")
        return None
    path = Path(target)
    if path.exists() and not force:
        raise ChainruleError(f"{quoted(target)} exists; write over it with --force")
    return path


def _save(made: Drawing, path: Path, style: str | None) -> None:
    if style is None:
        made.save(path)
    elif style == "png":
        made.png(path)
    else:
        path.write_text(_written(made, style), encoding="utf-8", newline="\n")


def _written(made: Drawing, style: str) -> str:
    writers: dict[str, Callable[[], str]] = {
        "text": made.text,
        "svg": made.svg,
        "dot": made.dot,
        "html": made.html,
    }
    return writers[style]()


def _print(made: Drawing, style: str, width: int | None) -> None:
    """To the terminal: as wide as it is, in colour where that is wanted."""
    if style != "text":
        click.echo(_written(made, style), nl=False)
        return
    terminal = sys.stdout.isatty()
    columns = width or (console().width if terminal else None)
    colour = terminal and "NO_COLOR" not in os.environ
    click.echo(made.text(columns, colour=colour), nl=False, color=colour)


def _show(made: Drawing) -> None:
    page = Path(mkdtemp(prefix="chainrule-")) / "circuit.html"
    made.save(page)
    webbrowser.open(page.as_uri())
    click.echo(f"shown in the browser: {page}", err=True)
