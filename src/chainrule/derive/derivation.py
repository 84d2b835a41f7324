"""What `derive` answers: a derivation in parts, each a chain of equal lines with their rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..circuit import Tensor, circuit_of
from ..notation import Style, write
from ..notation.mathml import mathml
from ..notation.words import words
from ..page import escape, formulas, page
from .symbols import constant_names

# A comparison, written out, and whether it holds in this part.
Condition = tuple[Tensor, bool]

_OPPOSITE = {"greater": "≤", "greater_equal": "<", "less": "≥", "less_equal": ">"}
_OPPOSITE |= {"equal": "≠", "not_equal": "="}
_LATEX = {"≤": r"\le", "≥": r"\ge", "≠": r"\ne"}


def formula(node: Tensor, style: Style = "text") -> str:
    """An expression as a line shows it, with √2 and ln 2 under their names."""
    return write(node, style, names=constant_names(circuit_of(node), style))


@dataclass(frozen=True)
class Step:
    """One line: an expression equal to the line before, and the rule that made it.

    `node` is the expression as a circuit over named leaves with sample values; the first line of a
    chain has no rule. `grid` holds the entries where the line is a matrix.
    """

    rule: str
    node: Tensor
    grid: tuple[tuple[Tensor, ...], ...] = ()

    @property
    def text(self) -> str:
        """The line in plain letters."""
        if not self.grid:
            return formula(self.node)
        rows = [[formula(entry) for entry in row] for row in self.grid]
        widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
        padded = [[t.ljust(w) for t, w in zip(row, widths, strict=True)] for row in rows]
        return "\n".join("[ " + "   ".join(row) + " ]" for row in padded)

    @property
    def latex(self) -> str:
        """The line in LaTeX's math mode."""
        if not self.grid:
            return formula(self.node, "latex")
        rows = [" & ".join(formula(entry, "latex") for entry in row) for row in self.grid]
        return r"\begin{pmatrix} " + r" \\ ".join(rows) + r" \end{pmatrix}"


@dataclass(frozen=True)
class Part:
    """One chain of lines: for one variable, and for one case where the function has several."""

    title: str
    variable: Tensor
    steps: tuple[Step, ...]
    conditions: tuple[Condition, ...] = ()

    @property
    def condition(self) -> str:
        """When the chain holds, as `x > 0`; empty where it always does."""
        return ", ".join(_said(one, "text") for one in self.conditions)

    @property
    def result(self) -> Tensor:
        """The last line's expression."""
        return self.steps[-1].node

    def heading(self, style: Style = "text") -> str:
        """The title and the condition."""
        cases = ", ".join(_said(one, style) for one in self.conditions)
        if style == "latex":
            title = [words(self.title)] if self.title else []
            return r",\quad ".join([*title, *([cases] if cases else [])])
        return ", ".join([self.title] * bool(self.title) + ([f"for {cases}"] if cases else []))


def _said(condition: Condition, style: Style) -> str:
    """A condition, or its opposite: `x ≤ 0` for a failed `x > 0`."""
    node, holds = condition
    if holds:
        return formula(node, style)
    opposite = _OPPOSITE.get(node.op.name if node.op else "")
    if opposite is None:
        text = formula(node, style)
        return f"not {text}" if style == "text" else rf"\lnot\left({text}\right)"
    sign = opposite if style == "text" else _LATEX.get(opposite, opposite)
    left, right = (write(x, style, expand=not x.name) for x in node.inputs)
    return f"{left} {sign} {right}"


@dataclass(frozen=True)
class Derivation:
    """The derivative of a function, a line per rule.

    `parts` are the chains (one for each variable and case), `steps` all their lines, `notes` what
    is said beside them: the choice at a kink, the meaning of an index form.

    >>> import chainrule as cr
    >>> print(cr.derive(cr.square))
    d/dx(x²)
      = d/dx(x · x)      definition
      = x + x            product rule
      = 2 · x            collect like terms
    """

    name: str
    parts: tuple[Part, ...]
    notes: tuple[str, ...] = ()

    @property
    def steps(self) -> tuple[Step, ...]:
        """The lines of all parts, in order."""
        return tuple(step for part in self.parts for step in part.steps)

    @property
    def result(self) -> Tensor:
        """The last line of the last part."""
        return self.parts[-1].result

    def text(self) -> str:
        """All lines in plain letters, each rule beside its line."""
        blocks = [_block(part) for part in self.parts]
        return "\n\n".join([*blocks, *(["\n".join(self.notes)] if self.notes else [])])

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        return f"<derivation of {self.name}: {len(self.steps)} lines>"

    def latex(self) -> str:
        """The chains in LaTeX, each an `aligned` block; math mode, without delimiters."""
        lines: list[str] = []
        for part in self.parts:
            heading = part.heading("latex")
            lines += [rf"&{heading}:"] if heading else []
            lines += _latex_lines(part.steps)
        notes = [f"&{words(note)}" for note in self.notes]
        return r"\begin{aligned}" + " \\\\\n".join([*lines, *notes]) + r"\end{aligned}"

    def _repr_latex_(self) -> str:
        return f"$\\displaystyle {self.latex()}$"

    def mathml(self) -> str:
        """The chains as one MathML element."""
        return mathml(self.latex(), display=True)

    def html(self) -> str:
        """One offline page: the chains in MathML, and the same in plain letters."""
        title = f"The derivative of {self.name}"
        return page(
            title,
            f"<main><h1>{escape(title)}</h1>\n{self._repr_html_()}\n"
            f"<details><summary>As text</summary><pre>{escape(self.text())}</pre></details></main>",
        )

    def _repr_html_(self) -> str:
        return formulas(self.mathml())


def _latex_lines(steps: Sequence[Step]) -> list[str]:
    lines = [f"&{steps[0].latex}"]
    return lines + [rf"&\quad = {step.latex} && {words(step.rule)}" for step in steps[1:]]


def _block(part: Part) -> str:
    """A chain with the rules in a column."""
    shown = [step.text for step in part.steps]
    column = min(max((len(text) for text in shown[1:] if "\n" not in text), default=0), 70) + 4
    lines = shown[0].split("\n")
    for step, text in zip(part.steps[1:], shown[1:], strict=True):
        first, *rest = text.split("\n")
        lines.append(f"  = {first.ljust(column)}  {step.rule}")
        lines += [f"    {line}" for line in rest]
    heading = part.heading()
    return "\n".join([heading + ":", *["  " + line for line in lines]] if heading else lines)
