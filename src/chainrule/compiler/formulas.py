"""The formulas of a kernel: each member's value as a scalar expression of what the kernel loads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from .expression import Builder, Expr, Unsupported
from .groups import REDUCTIONS, Group
from .plan import Plan
from .pointwise import keep_bits, lower

__all__ = ["Formulas", "Given", "Index"]


class Given(NamedTuple):
    """A load's key: the value of a member that the kernel has computed before, by other means."""

    number: int


class Index(NamedTuple):
    """A load's key: Σ strides·index, the number of the element."""

    strides: tuple[int, ...]


class Formulas:
    """Expressions for the members of one group, over the indices of its domain."""

    def __init__(self, plan: Plan, group: Group) -> None:
        self.plan, self.group, self.graph = plan, group, plan.graph
        self.rank = len(group.domain)
        self.builder = Builder()
        self.members = set(group.members)
        self.given: set[int] = set()  # members that are not computed here
        self.stored: set[int] = set()  # members that are read back from memory
        self._made: dict[tuple[int, tuple[int, ...]], Expr] = {}

    def forget(self, number: int | None = None) -> None:
        """Make expressions anew, that of one member or all: what is given has changed."""
        if number is None:
            self._made.clear()
        else:
            self._made.pop((number, self.group.place[number]), None)

    def of(self, number: int) -> Expr:
        """A member's value."""
        return self._value(number, self.group.place[number])

    def operand(self, number: int) -> Expr:
        """What a reduction reduces, in its result's dtype (that of its operand for max and min)."""
        node = self.graph.nodes[number]
        value = self._value(node.inputs[0], self.group.over[number])
        return self.builder.cast(value, node.dtype)

    def _value(self, number: int, axes: tuple[int, ...]) -> Expr:
        """Iterative: an expression may be as deep as the circuit is long."""
        todo = [(number, axes)]
        while todo:
            key = todo[-1]
            if key in self._made:
                todo.pop()
                continue
            needs = self._needs(*key)
            if isinstance(needs, Expr):
                self._made[key] = needs
                todo.pop()
                continue
            missing = [need for need in needs if need not in self._made]
            if missing:
                todo += missing
                continue
            self._made[key] = self._apply(key[0], key[1], [self._made[need] for need in needs])
            todo.pop()
        return self._made[(number, axes)]

    def _needs(
        self, number: int, axes: tuple[int, ...]
    ) -> Expr | list[tuple[int, tuple[int, ...]]]:
        """A leaf as an expression, or the operands of a computed node with their axes."""
        node = self.graph.nodes[number]
        if node.op == "constant" and node.size == 1:
            return self.builder.const(node.params["value"].reshape(())[()], node.dtype)
        source = self.plan.sources[number]
        root = source.root
        if root != number and source.axes is not None:
            there = tuple(-1 if a is None else axes[a] for a in source.axes)
            inside = root in self.members or root in self.plan.lazy
            if inside or self.graph.nodes[root].op == "constant":
                return [(root, there)]
        if number in self.members:
            if number in self.given:
                return self.builder.load(Given(number), node.dtype)
            if number in self.stored:
                return self._load(number, axes)
        elif number not in self.plan.lazy:
            return self._load(number, axes)
        if node.op in REDUCTIONS or node.op == "matmul":
            raise AssertionError(f"{node.op} is given, or not asked for")
        if node.op == "keep":
            return [(node.inputs[0], self._axes(number, axes, node.inputs[0]))]
        return [(source, self._axes(number, axes, source)) for source in node.inputs]

    def _axes(self, reader: int, axes: tuple[int, ...], operand: int) -> tuple[int, ...]:
        """The domain's axes of an operand, which broadcasts to its reader."""
        shape = self.graph.nodes[operand].shape
        extra = len(self.graph.nodes[reader].shape) - len(shape)
        return tuple(axes[a + extra] if n != 1 else -1 for a, n in enumerate(shape))

    def _load(self, number: int, axes: tuple[int, ...]) -> Expr:
        access = self.plan.access(number, axes, self.rank)
        return self.builder.load(access, self.graph.nodes[number].dtype)

    def _apply(self, number: int, axes: tuple[int, ...], operands: list[Expr]) -> Expr:
        node = self.graph.nodes[number]
        if number != self.plan.sources[number].root:
            return operands[0]  # a view of a member: the same number
        if node.op == "copy":
            return operands[0]
        if node.op == "keep":
            strides, step = [0] * self.rank, 1
            for axis, n in zip(reversed(axes), reversed(node.shape), strict=True):
                if axis >= 0:
                    strides[axis] = step
                step *= n
            index = self.builder.load(Index(tuple(strides)), "int64")
            return keep_bits(self.builder, operands[0], index, float(node.params["rate"]))
        weak = [bool(self.graph.nodes[k].params.get("weak")) for k in node.inputs]
        return lower(self.builder, node.op, operands, node.params, node.dtype, weak=weak)


def native(graph: Any, number: int) -> bool:
    """Whether a node has a native form, on its own."""
    node = graph.nodes[number]
    builder = Builder()
    try:
        operands = [
            builder.load(k, graph.nodes[source].dtype) for k, source in enumerate(node.inputs)
        ]
        builder.load(-1, node.dtype)
        if node.op == "keep":
            keep_bits(builder, operands[0], builder.load(-2, "int64"), 0.5)
        elif node.op != "copy" and node.op not in REDUCTIONS:
            weak = [bool(graph.nodes[k].params.get("weak")) for k in node.inputs]
            params: Mapping[str, Any] = node.params
            lower(builder, node.op, operands, params, node.dtype, weak=weak)
    except Unsupported:
        return False
    return True
