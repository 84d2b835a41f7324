"""Gradients of arrays in matrix form: each rule run on symbols, with the shapes beside it."""

from __future__ import annotations

import operator
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..circuit import Tensor, record
from ..circuit import vocabulary as ops
from ..gradient.backward import Edge, sum_to
from ..notation import symbol, write
from ..ops.record import Binary, Facts, Unary
from ..rewrite.gates import rebuilt
from .formula import Symbols, local_formula, stand_in, tidied
from .naming import TRANSFER
from .writer import Block, Equation, Writer

LINES = 24  # equations of one tensor
DEEP = 8  # edges that one equation composes before it stops at the next name
FEW = 9  # elements up to which an array is printed


def _sign(name: str, text: str, latex: str, binds: int, arity: int, value: Any) -> Any:
    """A sign of matrix notation that is no operation of the vocabulary: it is only written."""
    local = (lambda x, y, out: y, lambda x, y, out: x) if arity == 2 else (1.0,)
    facts = Facts(
        name=name, value=value, meaning=name, symbol=name, latex=latex, flow="switcher",
        example=("", ""), arity=arity, text=text, binds=binds, local=local,
        domain=((-1.0, 1.0),) * arity,
    )  # fmt: skip
    return (Binary if arity == 2 else Unary)(facts)


HADAMARD = _sign("⊙", "{0} ⊙ {1}", r"{0} \odot {1}", 20, 2, operator.mul)
BRACKETS = _sign("()", "({0:<})", r"\left({0:<}\right)", 100, 1, operator.pos)


def _as_is(inner: Tensor, node: Tensor) -> Tensor:
    """The formula of `inner` standing for `node`: axes of length 1 and copies are not written."""
    binds = 100 if inner.op is None else inner.op.facts.binds
    silent = _sign("same", "{0:<}", "{0:<}", binds, 1, operator.pos)
    return record(silent, (inner,), {}, node.value, True)


@dataclass
class Term:
    """One term of a gradient in symbols: the formula's circuit, and what its leaves are called."""

    formula: Tensor
    called: dict[Tensor, str]
    above: Tensor  # whose gradient it starts from
    slopes: list[Edge]  # edges whose local derivative stands as a symbol, σ′(net1)


def matrix_blocks(writer: Writer, tensor: Tensor) -> list[Block]:
    """∂L/∂W = δᵀ·X with its shapes, then each δ that it rests on, up to the output."""
    flow, names = writer.flow, writer.names
    block = Block(f"{names[flow.output]} by {names[tensor]}, of shape {_shape(tensor)}")
    waiting: list[Tensor] = [tensor]
    slopes: dict[Tensor, Edge] = {}
    for node in waiting:  # grows while it is walked
        if len(block.equations) == LINES:
            block.sentences.append("… and so on up to the output")
            break
        terms = [_term(writer, edge) for edge in flow.received[node]]
        block.equations.append(_equation(writer, node, terms))
        slopes |= {edge.node: edge for term in terms for edge in term.slopes}
        above = dict.fromkeys(t.above for t in terms if t.above is not flow.output)
        waiting += [n for n in above if n not in waiting]
    block.equations += _slope_equations(writer, list(slopes.values()))
    block.equations += _definitions(writer, block)
    return [block]


def _definitions(writer: Writer, block: Block) -> list[Equation]:
    """What n1, n2, … are, where the equations speak of them."""
    written = " ".join(right for equation in block.equations for right in equation.rights)
    found: list[Equation] = []
    unnamed = [n for n in writer.flow.reached if n.op is not None and n not in writer.names.given]
    for node in reversed(unnamed):  # users before inputs, so that a definition's own names follow
        name = writer.name(node)
        if len(found) < LINES and re.search(rf"(?<![\w∂]){re.escape(name)}(?!\d)", written):
            formula = _forward(writer, node)
            written += f" {formula}"
            found.append(Equation(name, (formula,), "forward"))
    return found


def _forward(writer: Writer, node: Tensor) -> str:
    """What a node computes, from the names of its inputs."""
    symbols = Symbols(node, writer.names)
    with np.errstate(all="ignore"):
        made = node.op.record(tuple(symbols.operands), node.params)
    return symbols.text(made, writer.style)


def _stops(writer: Writer, node: Tensor, depth: int) -> bool:
    flow, names = writer.flow, writer.names
    if node is flow.output or node in names.nets or len(flow.received[node]) > 1:
        return True
    return depth >= DEEP and node in names.given


def _term(writer: Writer, edge: Edge) -> Term:
    """What an edge adds to its input's gradient, from the nearest known gradient above."""
    edges = [edge]
    while not _stops(writer, edge.node, len(edges)):
        (edge,) = writer.flow.received[edge.node]
        edges.append(edge)
    top = edge.node
    gradient = writer.flow.gradients[top]
    called: dict[Tensor, str] = {}
    if top is writer.flow.output:
        formula = Tensor(gradient, requires_grad=False)
    else:
        formula = stand_in(top, "")
        formula.value = gradient
        called[formula] = _gradient_name(writer, top)
    term = Term(formula, called, top, [])
    for one in reversed(edges):
        _extend(writer, term, one)
    return term


def _gradient_name(writer: Writer, node: Tensor) -> str:
    return writer.delta(node) if node in writer.names.nets else writer.gradient(node)


def _extend(writer: Writer, term: Term, edge: Edge) -> None:
    """One edge further down: the rule of its operation, applied to the symbols so far."""
    node, source = edge.node, edge.source
    with np.errstate(all="ignore"):
        if node.op.locals:
            term.formula = _times_local(writer, term, edge)
        else:
            symbols = Symbols(node, writer.names)
            values = [*symbols.operands, symbols.out]
            term.formula = node.op.pull(edge.position, term.formula, values, node.params)
            term.called |= {t: symbol(n, writer.style) for t, n in symbols.called.items()}
        if term.formula.shape != source.shape:
            term.formula = sum_to(term.formula, source.shape)


def _times_local(writer: Writer, term: Term, edge: Edge) -> Tensor:
    local = edge.node.op.locals[edge.position]
    if not callable(local):
        return term.formula if local == 1 else -term.formula
    value = np.asarray(edge.local)
    if value.size == 1 and term.formula.size == 1:
        return term.formula * float(value.reshape(-1)[0])
    leaf = Tensor(value, requires_grad=True)
    op = edge.node.op
    if op.name in TRANSFER or (op.is_gate and op.arity == 1 and op.is_router):
        term.slopes.append(edge)
        term.called[leaf] = _slope_name(writer, edge)
    elif op.is_router:
        term.called[leaf] = _choice_name(writer, edge)
    else:
        return _times_rule(writer, term, edge)
    return HADAMARD(term.formula, leaf)  # type: ignore[no-any-return]


def _times_rule(writer: Writer, term: Term, edge: Edge) -> Tensor:
    """Upstream times the textbook rule of the operation, written out."""
    facts = edge.node.op.facts
    rule = (facts.textbook or facts.local)[edge.position]
    symbols = Symbols(edge.node, writer.names)
    made = rule(*symbols.operands, symbols.out, **edge.node.params)
    term.called |= {t: symbol(n, writer.style) for t, n in symbols.called.items()}
    if isinstance(made, Tensor) and made.size == 1 and not made.traced:
        return term.formula * made
    return HADAMARD(term.formula, made)  # type: ignore[no-any-return]


def _slope_name(writer: Writer, edge: Edge) -> str:
    """h′(net): the derivative of a transfer function at its net."""
    facts = edge.node.op.facts
    inner = writer.name(edge.source)
    if writer.style == "text":
        return f"{facts.symbol}′({inner})"
    letter = r"\sigma" if facts.symbol == "σ" else rf"\operatorname{{{_ascii(facts.name)}}}"
    return rf"{letter}'\left({inner}\right)"


def _choice_name(writer: Writer, edge: Edge) -> str:
    """The mask of a router: 1 where it passes the gradient on, 0 elsewhere."""
    op = edge.node.op
    which = writer.name(edge.source) if edge.source in writer.names else "this input"
    if writer.style == "text":
        return f"[{op.name} takes {which}]"
    return rf"\left[\text{{{_ascii(op.name)} takes }} {which}\right]"


def _ascii(name: str) -> str:
    return name.replace("_", " ")


def _equation(writer: Writer, node: Tensor, terms: list[Term]) -> Equation:
    gradient = writer.flow.gradients[node]
    left = _gradient_name(writer, node)
    known = _cross_entropy(writer, node)
    written = [known] if known else [_written(writer, term) for term in terms]
    formula = writer.sum(written)
    rights = [formula]
    if node in writer.names.nets:
        rights.insert(0, writer.gradient(node))
    if np.size(gradient) <= FEW:
        rights.append(_array(writer, gradient))
    return Equation(left, tuple(rights), _shapes(terms, node, bool(known)))


def _shapes(terms: list[Term], node: Tensor, known: bool) -> str:
    """The shapes that meet in a matrix product, or the shape of the result."""
    here = _shape(node)
    if known or len(terms) != 1:
        return here
    tidy = _tidy(terms[0])
    if tidy.op is not None and tidy.op.name == "matmul":
        a, b = tidy.inputs
        return f"{here} = {_shape(a)} · {_shape(b)}"
    if tidy.op is not None and tidy.op.name == "sum":
        return f"{here}: the copies added up, from {_shape(tidy.inputs[0])}"
    return here


def _shape(x: Tensor) -> str:
    return "×".join(map(str, x.shape)) or "scalar"


def _array(writer: Writer, value: Any) -> str:
    array = np.asarray(value)
    if array.ndim == 0:
        return writer.number(float(array))
    if writer.style == "text":
        return "[" + ", ".join(_array(writer, part) for part in array) + "]"
    rows = array if array.ndim == 2 else array.reshape(1, -1)
    inner = r" \\ ".join(" & ".join(writer.number(float(x)) for x in row) for row in rows)
    return rf"\begin{{bmatrix}} {inner} \end{{bmatrix}}"


def _written(writer: Writer, term: Term) -> str:
    formula = _tidy(term)
    called = dict(term.called)
    for node in _leaves(formula):
        if node not in called and node.size > 1:
            array = np.asarray(node.value)
            flat = array.reshape(-1)
            same = np.all(flat == flat[0])
            name = writer.number(float(flat[0])) if same else _constant(writer, node)
            called[node] = name
    return write(formula, writer.style, names=called)


def _constant(writer: Writer, node: Tensor) -> str:
    return symbol(writer.names.constant(node), writer.style)


def _leaves(formula: Tensor) -> list[Tensor]:
    seen, waiting = {formula}, [formula]
    while waiting:
        for source in waiting.pop().inputs:
            if source not in seen:
                seen.add(source)
                waiting.append(source)
    return [node for node in seen if node.op is None]


def _tidy(term: Term) -> Tensor:
    formula = tidied(term.formula, keep=term.called)
    return rebuilt(formula, _in_matrix_notation) if formula.op is not None else formula


def _in_matrix_notation(node: Tensor, inputs: tuple[Tensor, ...]) -> Tensor | None:
    """⊙ for elementwise products, brackets where ⊙ and @ meet, no signs for mere broadcasting."""
    name, inner = node.op.name, inputs[0]
    if name == "broadcast_to" or (name == "reshape" and _squeezed(inner) == _squeezed(node)):
        return _as_is(inner, node)
    if name == "matmul":
        return ops.matmul(*[BRACKETS(x) if _is_op(x, "⊙") else x for x in inputs])  # type: ignore[no-any-return]
    if name not in ("⊙", "multiply"):
        return None
    for k in (0, 1):
        if not inputs[k].traced and np.ptp(np.asarray(inputs[k].value)) == 0:
            value, other = float(np.asarray(inputs[k].value).flat[0]), inputs[1 - k]
            return _as_is(other, node) if value == 1 else value * other
    if min(x.size for x in inputs) == 1:
        return None
    return HADAMARD(*[BRACKETS(x) if _is_op(x, "matmul") else x for x in inputs])  # type: ignore[no-any-return]


def _squeezed(x: Tensor) -> list[int]:
    return [n for n in x.shape if n != 1]


def _is_op(x: Tensor, name: str) -> bool:
    while x.op is not None and x.op.name == "same":
        (x,) = x.inputs
    return x.op is not None and bool(x.op.name == name)


def _slope_equations(writer: Writer, slopes: list[Edge]) -> list[Equation]:
    """σ′(net1) = out1 · (1 − out1) for each slope that stands as a symbol."""
    made = []
    for edge in slopes:
        formula = local_formula(edge, writer.names, writer.style)
        if edge.node.op.is_router:
            inner = writer.name(edge.source)
            formula = f"[{inner} > 0]" if edge.node.op.name == "relu" else ""
        if formula:
            made.append(Equation(_slope_name(writer, edge), (formula,), "elementwise"))
    return made


def _cross_entropy(writer: Writer, net: Tensor) -> str | None:
    """(softmax(net) − T)·scale where log_softmax and a choice of classes follow, if it holds."""
    flow = writer.flow
    received = flow.received[net]
    if len(received) != 1 or received[0].node.op.name != "log_softmax":
        return None
    logs = received[0].node
    above = flow.received[logs]
    if len(above) != 1 or above[0].node.op.name != "where" or logs not in flow.gradients:
        return None
    chosen = np.asarray(above[0].node.inputs[0].value) != 0
    sent = np.broadcast_to(flow.gradients[logs], chosen.shape)
    scales = -sent[chosen]
    hard = np.all(chosen.sum(axis=-1) == 1) and np.all(sent[~chosen] == 0)
    if not scales.size or not hard or np.any(scales != scales[0]) or scales[0] == 0:
        return None
    inner, scale = writer.name(net), float(scales[0])
    latex = writer.style == "latex"
    soft = rf"\operatorname{{softmax}}\left({inner}\right)" if latex else f"softmax({inner})"
    difference = rf"\left({soft} - T\right)" if latex else f"({soft} − T)"
    if scale == 1:
        return f"{soft} - T" if latex else f"{soft} − T"
    whole = round(1 / scale)
    if abs(whole * scale - 1) < 1e-6:
        return rf"\frac{{1}}{{{whole}}} {difference}" if latex else f"{difference} / {whole}"
    return f"{writer.number(scale)}{writer.dot}{difference}"
