"""Which circuits are small enough to live in registers, and how many instructions a step is."""

from __future__ import annotations

from typing import Any

from .expression import Builder, Unsupported, llvm_type
from .flatops import RULES, product_group
from .graph import Graph, Node
from .pointwise import lower
from .vectors import is_move, size_of

__all__ = ["fits", "work_of"]

MOST_ELEMENTS = 64  # of an array
MOST_WORK = 6000  # instructions of a step that has arrays; a loop is shorter then
MOST_CHOICES = 16  # rows that a position known at run time chooses among
BYTES = 32  # of a vector, as estimates count them

_LONG = frozenset(
    {
        "exp", "expm1", "log", "log1p", "log2", "log10", "sin", "cos", "tan", "arcsin", "arccos",
        "arctan", "tanh", "sinh", "cosh", "erf", "erfc", "sigmoid", "sech2", "softplus", "silu",
        "gelu", "elu", "power",
    }
)  # fmt: skip


def fits(graph: Graph) -> bool:
    """Whether `write_registers` takes the graph: operations with a native form, small arrays.

    Arrays of at most 64 elements, as many operations as make a step of some thousand instructions;
    of scalars any number.
    """
    known: dict[Any, bool] = {}
    builder = Builder()
    if any(not 0 < size_of(node) <= MOST_ELEMENTS for node in graph.nodes):
        return False
    if not all(_native(graph, node, builder, known) for node in graph.nodes):
        return False
    if all(size_of(node) == 1 for node in graph.nodes):
        return True
    return sum(work_of(graph, node) for node in graph.nodes) <= MOST_WORK


def _native(graph: Graph, node: Node, builder: Builder, known: dict[Any, bool]) -> bool:
    """Whether one node has a form here; `known` remembers the answer for others like it."""
    sources = [graph.nodes[k] for k in node.inputs]
    try:
        llvm_type(node.dtype)
    except Unsupported:
        return False
    if node.op in ("input", "constant") or is_move(graph, node):
        return True
    if node.op == "gather":
        axis, x = node.params["axis"], sources[0]
        return sources[1].dtype.kind in "iu" and x.shape[axis] <= MOST_CHOICES
    if node.op == "scatter_add":
        placed = "axis" in node.params and sources[1].dtype.kind in "iu"
        fixed = placed and sources[1].op == "constant"
        return fixed or (placed and size_of(sources[1]) <= MOST_CHOICES)
    if node.op == "matmul":
        return node.dtype.kind in "fiu" and len(node.shape) in (2, 3)
    if node.op in ("argmax", "argmin"):
        return isinstance(node.params["axis"], tuple)
    if node.op == "keep":
        return sources[0].dtype.kind in "iu" and sources[0].size == 1
    if node.op in RULES:
        return True
    constants = [
        x.params["value"].reshape(())[()] if x.op == "constant" and size_of(x) == 1 else None
        for x in sources
    ]
    weak = [bool(x.params.get("weak")) for x in sources]
    key = (
        node.op, node.dtype, repr(node.params),
        *[(x.dtype, w, repr(c)) for x, w, c in zip(sources, weak, constants, strict=True)],
    )  # fmt: skip
    if key not in known:
        operands = [
            builder.load(k, x.dtype) if c is None else builder.const(c, x.dtype)
            for k, (x, c) in enumerate(zip(sources, constants, strict=True))
        ]
        try:
            lower(builder, node.op, operands, node.params, node.dtype, weak=weak)
            known[key] = True
        except Unsupported:
            known[key] = False
    return known[key]


def work_of(graph: Graph, node: Node) -> int:
    """About how many instructions a node is."""
    if node.op in ("input", "constant"):
        return 0
    vectors = _vectors(size_of(node), node)
    sources = [graph.nodes[k] for k in node.inputs]
    if node.op == "matmul":
        depth = sources[0].shape[-1]
        group = product_group(depth, size_of(node))
        return -(-depth // group) * 3 * _vectors(group * size_of(node), node)
    if node.op == "gather" and not is_move(graph, node):
        return 3 * vectors * int(sources[0].shape[node.params["axis"]])
    if node.op == "scatter_add" and not is_move(graph, node):
        return 4 * vectors * size_of(sources[1])
    if node.op == "keep":
        return 40 * vectors
    if node.op in RULES:
        several = 3 * sum(_vectors(size_of(x), x) for x in sources)
        return several * (5 if node.op in ("argmax", "argmin") else 1)
    return vectors * (25 if node.op in _LONG else 5 if node.op == "divide" else 1)


def _vectors(size: int, node: Node) -> int:
    return -(-size * node.dtype.itemsize // BYTES)
