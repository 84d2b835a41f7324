"""`explain`: a gradient with its derivation, read off the edges of the backward loop."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..circuit import Tensor
from ..circuit.names import CallerNames, caller_names
from ..errors import ShapeError
from ..gradient.backward import Edge, why_missing
from ..notation import Style
from ..page import escape, formulas, page
from ..rewrite import close, open
from .chain import Line, is_scalar_flow, lines
from .delta import delta_block
from .flow import Flow, flow_of
from .formula import local_formula
from .matrix import matrix_blocks
from .naming import Names
from .origin import role
from .page import circuit_page
from .paths import Paths, largest_paths
from .steps import Step
from .target import Target, checked, targets
from .unfold import path_block, unfolded_blocks
from .update import Update, update_blocks
from .why import why_block
from .writer import Block, Equation, Writer, as_latex, as_text

LINES = 24  # branches that are printed for one tensor
FORMULAS = 10_000  # edges up to which each record carries its formula
TARGETS = 16  # tensors that are printed where many are asked for
PAGE = 500  # nodes of a circuit that a page steps through


class Explanation:
    """The derivation of one or more gradients; `print` it, or ask for another form.

    It holds the edges that the backward loop yielded (`flow`) and prints them: `.text()`,
    `.latex()`, `.mathml()`, `.html()`, and `.steps` as records. Nothing is written to `.grad`.
    """

    def __init__(
        self,
        flow: Flow,
        names: Names,
        wanted: list[Target],
        *,
        decimals: int = 9,
        update: Update | None = None,
        notes: tuple[str, ...] = (),
    ) -> None:
        self.flow, self.names, self.targets = flow, names, wanted
        self.decimals, self.update, self.notes = decimals, update, notes

    # -- records ------------------------------------------------------------------------------

    @cached_property
    def steps(self) -> list[Step]:
        """One record for each edge on a path to what was asked for, from the output down."""
        return [self._step(edge) for edge in self.edges]

    @cached_property
    def edges(self) -> list[Edge]:
        """The edges of the backward loop on the paths from the output to the targets."""
        below = {target.tensor for target in self.targets}
        for node in self.flow.nodes:
            if any(source in below for source in node.inputs):
                below.add(node)
        return [
            edge
            for node in reversed(self.flow.nodes)
            if node in below
            for edge in self.flow.sent.get(node, ())
            if edge.source in below
        ]

    def _step(self, edge: Edge) -> Step:
        names, op = self.names, edge.node.op
        formula = op.facts.index.text if op.facts.index is not None else ""
        if op.locals and len(self.edges) <= FORMULAS:
            formula = local_formula(edge, names)
        return Step(
            names[edge.node], op.name, names[edge.source], edge.local, edge.upstream,
            edge.contribution, op.facts.flow, formula,
        )  # fmt: skip

    def gradient(self, tensor: Tensor) -> Any:
        """∂output/∂tensor as the loop computed it; None where no gradient comes."""
        return self.flow.gradients.get(tensor)

    def lines(self, tensor: Tensor) -> Iterator[Line]:
        """The chains of factors of a scalar tensor, and of each branch that they start from."""
        return lines(self.flow, self.names, tensor)

    def paths(self, tensor: Tensor, index: Any = None, most: int = 8) -> Paths:
        """The largest paths from a tensor (or one element) to the output, the rest as one sum.

        >>> import chainrule as cr
        >>> x = cr.tensor(3.0, name="x")
        >>> found = cr.explain(x * x + cr.sin(x)).paths(x, most=2)
        >>> [path.contribution for path in found.largest], round(found.rest, 6)
        ([3.0, 3.0], -0.989992)
        """
        place = () if index is None else checked(index, tensor, self.names)
        if index is None and tensor.size != 1:
            raise ShapeError(
                f"{self.names[tensor]} has shape {tensor.shape}: choose one element by index="
            )
        return largest_paths(self.flow, tensor, place or (0,) * tensor.ndim, most)

    def paths_text(self, tensor: Tensor, index: Any = None, most: int = 8) -> str:
        """The largest paths in plain text."""
        if tensor not in self.flow.gradients:
            return why_missing(self.flow.output, tensor)
        place = (0,) * tensor.ndim if index is None else checked(index, tensor, self.names)
        writer = Writer(self.flow, self.names, "text", self.decimals)
        found = self.paths(tensor, index, most)
        title = f"the largest paths from {self.names[self.flow.output]} to {self.names[tensor]}"
        return as_text([path_block(writer, tensor, place, found, title)])

    # -- forms --------------------------------------------------------------------------------

    def blocks(self, style: Style = "text") -> list[Block]:
        """The derivation as blocks of equations in one style."""
        writer = Writer(self.flow, self.names, style, self.decimals)
        found = [Block("", sentences=list(self.notes))] if self.notes else []
        for target in self.targets[:TARGETS]:
            found += self._of(target, writer)
        if len(self.targets) > TARGETS:
            more = len(self.targets) - TARGETS
            found.append(Block("", sentences=[f"… and {more} more tensors: ask for them by wrt="]))
        return found

    def _of(self, target: Target, writer: Writer) -> list[Block]:
        tensor = target.tensor
        if tensor not in self.flow.gradients:
            name = self.names[tensor]
            reason = why_missing(self.flow.output, tensor)
            return [Block(f"{name} has no gradient", sentences=[reason])]
        if tensor is self.flow.output:
            left = writer.gradient(tensor)
            return [Block("", [Equation(left, ("1",), "the output itself, the start")])]
        if target.index is not None and tensor.size > 1:
            found = unfolded_blocks(writer, tensor, target.index)
        elif is_scalar_flow(self.flow, tensor):
            found = list(self._scalar(tensor, writer))
        else:
            found = matrix_blocks(writer, tensor)
        why = why_block(writer, target)
        found += [why] if why is not None else []
        if self.update is not None and tensor.is_leaf:
            found += update_blocks(writer, self.update, target)
        return found

    def _scalar(self, tensor: Tensor, writer: Writer) -> Iterator[Block]:
        branches = lines(self.flow, self.names, tensor)
        explained: set[str] = set()
        roles: dict[str, None] = {}
        for number, line in enumerate(branches):
            if number == LINES:
                rest = "… more branches, up to the output: .lines() gives them all"
                yield Block("", sentences=[rest])
                break
            title = "" if number else f"{self.names[self.flow.output]} by {self.names[tensor]}"
            factors = [e for e in writer.factor_equations(line) if repr(e) not in explained]
            explained |= {repr(equation) for equation in factors}
            edges = [e for chain in line.chains for link in chain.links for e in link.edges[:LINES]]
            roles |= dict.fromkeys(role(edge) for edge in edges[:500])
            yield Block(title, [*writer.line(line), *factors])
        yield Block("", sentences=list(roles))
        delta = delta_block(writer, tensor)
        if delta is not None:
            yield delta

    def text(self) -> str:
        """The derivation in plain text."""
        return as_text(self.blocks("text"))

    def latex(self) -> str:
        """The derivation in LaTeX: one `aligned` environment, without dollar signs."""
        return as_latex(self.blocks("latex"))

    def mathml(self) -> str:
        """The derivation in MathML, converted from the LaTeX."""
        from ..notation.mathml import mathml

        return str(mathml(self.latex()))

    def html(self) -> str:
        """One offline page: the circuit drawn and stepped through, and the derivation in MathML.

        A circuit of more than `PAGE` nodes is not stepped through: the page has the derivation.
        """
        output = self.flow.output
        title = f"The gradient of {self.names[output]}"
        derivation = f"<h2>Derivation</h2>\n{self._repr_html_()}"
        if len(self.flow.nodes) > PAGE:
            return page(title, f"<main><h1>{escape(title)}</h1>\n{derivation}</main>")
        return circuit_page(output, title=title, derivation=derivation, names=self.names)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the explanation to a file: .html, .tex or .mml by its ending, else plain text.

        The file appears whole or not at all.
        """
        to = Path(path)
        forms = {".html": self.html, ".htm": self.html, ".tex": self.latex, ".mml": self.mathml}
        content = forms.get(to.suffix.lower(), self.text)()
        part = to.with_name(f".{to.name}.{os.getpid()}.part")
        try:
            part.write_text(content, encoding="utf-8", newline="\n")
            os.replace(part, to)
        finally:
            part.unlink(missing_ok=True)

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        wanted = ", ".join(self.names[t.tensor] for t in self.targets[:8])
        return f"<Explanation of {self.names[self.flow.output]} by {wanted}; print it>"

    def _repr_latex_(self) -> str:
        return f"$$\n{self.latex()}\n$$"

    def _repr_html_(self) -> str:
        plain = f"<pre>{escape(self.text())}</pre>"
        try:
            return (
                f"{formulas(self.mathml())}\n<details><summary>As text</summary>{plain}</details>"
            )
        except ImportError:
            return plain


def explain(
    output: Tensor,
    wrt: Any = None,
    *,
    index: Any = None,
    gates: str | None = None,
    optimizer: Any = None,
    state: Any = None,
    decimals: int = 9,
) -> Explanation:
    """The derivation of ∂output/∂wrt: each factor, where it comes from, and how they combine.

    `wrt` is a tensor, a name, an element as `"W1[3,2]"`, a list of these, or None for all
    variables; `index` chooses an element too. `gates="open"` replaces gates by their definitions,
    `"closed"` recognises definitions as gates. With an `optimizer` (and its `state`; fresh
    otherwise) the update of the parameter is traced and shown. Numbers have `decimals` decimals,
    more where a product needs them to be read back.

    What is printed are the edges that `flow_back` yields, the loop that `backward` runs, with the
    rule objects that compute `.grad`; `.grad` itself is not touched.

    Raises `UnknownNameError` for a name that the circuit does not have, `ShapeError` for an index
    outside it, `GradientError` for an output that is no single number or depends on no variable.

    >>> import chainrule as cr
    >>> x, y = cr.tensor(-2.0, name="x"), cr.tensor(5.0, name="y")
    >>> q = x + y
    >>> f = q * -4.0
    >>> print(cr.explain(f, wrt=x))
    f by x
      ∂f/∂x = ∂f/∂q · ∂q/∂x = (-4) × 1 = -4
      ∂f/∂q = -4   (the other input)
      ∂q/∂x = 1   (passed on unchanged)
    <BLANKLINE>
      multiply is a switcher: sends each input its upstream gradient times the other input
      add is a distributor: hands its upstream gradient to every input unchanged
    <BLANKLINE>
    """
    if not isinstance(output, Tensor):
        raise TypeError(f"explain needs a tensor, the output, not {type(output).__name__}")
    if gates not in (None, "open", "closed"):
        raise ValueError(f"gates is 'open', 'closed' or None, not {gates!r}")
    if isinstance(decimals, bool) or not 0 <= decimals <= 17:
        raise ValueError(f"decimals is a whole number from 0 to 17, not {decimals!r}")
    caller = caller_names()
    shown, notes = _with_gates(output, gates, caller)
    flow = flow_of(shown)
    names = Names(shown, flow.reached, caller)
    wanted = targets(_moved(wrt, output, flow, names), index, flow, names)
    update = None if optimizer is None else Update(optimizer, state)
    return Explanation(flow, names, wanted, decimals=decimals, update=update, notes=notes)


def _with_gates(
    output: Tensor, gates: str | None, caller: CallerNames
) -> tuple[Tensor, tuple[str, ...]]:
    """The circuit with its gates opened or closed, unless its gradients then disagree."""
    if gates is None:
        return output, ()
    with _named_by(caller), warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        shown = (open if gates == "open" else close)(output)
    notes = tuple(str(w.message) for w in said)
    worst = _disagreement(output, shown)
    if worst is None:
        return shown, notes
    return output, (*notes, worst)


@contextmanager
def _named_by(caller: CallerNames) -> Iterator[None]:
    """Within, nodes carry the caller's names, which their successors then inherit."""
    nameless = [n for n in caller.tensors if n.name is None and n.op is not None]
    for node in nameless:
        node.name = caller.tensors[node]
    try:
        yield
    finally:
        for node in nameless:
            node.name = None


def _disagreement(output: Tensor, other: Tensor) -> str | None:
    """Where the gradients of two views differ by more than 1e-9, in a sentence."""
    ours, theirs = flow_of(output).gradients, flow_of(other).gradients
    for leaf, gradient in ours.items():
        if leaf.is_leaf and leaf in theirs:
            same = np.allclose(theirs[leaf], gradient, rtol=1e-9, atol=0.0, equal_nan=True)
            if not same:
                return (
                    f"the opened view disagrees: its gradient of {leaf.label} is"
                    f" {np.asarray(theirs[leaf]).tolist()!s:.40} where the gate's is"
                    f" {np.asarray(gradient).tolist()!s:.40} (its definition overflows or rounds"
                    " there); the gates stay closed and keep their numbers"
                )
    return None


def _moved(wrt: Any, output: Tensor, flow: Flow, names: Names) -> Any:
    """`wrt` in a rebuilt circuit: a node that was replaced is found again by its name."""
    if isinstance(wrt, (list, tuple)):
        return [_moved(one, output, flow, names) for one in wrt]
    if not isinstance(wrt, Tensor) or wrt in flow.gradients or wrt.is_leaf:
        return wrt
    if wrt is output:
        return flow.output
    name = wrt.name or names.caller.tensors.get(wrt)
    if flow.output is not output and name is not None:
        return next((node for node in flow.nodes if names[node] == name), wrt)
    return wrt
