"""Random graphs of the compiler's core operations, on arrays of at most 64 elements."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

from chainrule.compiler.graph import Graph

Array = np.ndarray[Any, Any]

SMOOTH = ["sigmoid", "tanh", "sech2", "relu", "abs", "negative", "square", "softplus", "erf"]
PAIRS = ["add", "subtract", "multiply", "maximum", "minimum"]


class Maker:
    """Grows a graph from draws. `exact` are nodes computed without rounding: only those are
    compared and ranked, where a last digit would change the answer."""

    def __init__(self, draw: Callable[..., Any], dtype: Any) -> None:
        self.draw, self.dtype = draw, np.dtype(dtype)
        self.graph = Graph()
        self.floats: list[int] = []
        self.exact: list[int] = []
        self.others: list[int] = []
        self.inputs: list[Array] = []

    def pick(self, options: Sequence[Any]) -> Any:
        return options[self.draw(st.integers(0, len(options) - 1))]

    def node(self, op: str, inputs: Sequence[int], params: Any, shape: Any, dtype: Any) -> int:
        return self.graph.add(op, inputs, params, shape=tuple(shape), dtype=dtype)

    def shape(self, number: int) -> tuple[int, ...]:
        return self.graph.nodes[number].shape

    def input(self, shape: Any, rng: np.random.Generator) -> None:
        number = self.graph.input(tuple(shape), self.dtype)
        # Halves: sums and differences of some are exact, and there are ties.
        self.inputs.append(np.asarray(rng.integers(-6, 7, shape) / 2, self.dtype))
        self.floats.append(number)
        self.exact.append(number)

    def moved(self, op: str, x: int, params: Any, shape: Any) -> None:
        made = self.node(op, [x], params, shape, self.dtype)
        self.floats.append(made)
        if x in self.exact:
            self.exact.append(made)

    def grow(self) -> None:
        kinds = [
            "smooth", "pair", "where", "reshape", "transpose", "broadcast", "slice", "spread",
            "sum", "extreme", "argument", "matmul", "gather", "scatter", "join", "cumsum", "keep",
            "constant", "integer", "mixed", "mixed",
        ]  # fmt: skip
        getattr(self, f"_{self.pick(kinds)}")()

    def _smooth(self) -> None:
        x = self.pick(self.floats)
        self.floats.append(self.node(self.pick(SMOOTH), [x], {}, self.shape(x), self.dtype))

    def _constant(self) -> None:
        shape = self.pick([(), (3,), (2, 3), (4,)])
        rng = np.random.default_rng(len(self.graph.nodes))
        made = self.graph.constant(rng.integers(-4, 5, shape).astype(self.dtype) / 2)
        self.graph.nodes[made].dtype = self.dtype
        self.graph.nodes[made].params = {
            "value": np.asarray(self.graph.nodes[made].params["value"], self.dtype)
        }
        self.floats.append(made)
        self.exact.append(made)

    def _partner(self, x: int) -> int | None:
        options = []
        for y in self.floats:
            try:
                shape = np.broadcast_shapes(self.shape(x), self.shape(y))
            except ValueError:
                continue
            if np.prod(shape) <= 64:
                options.append(y)
        return self.pick(options) if options else None

    def _pair(self) -> None:
        x = self.pick(self.floats)
        y = self._partner(x)
        if y is None:
            return
        shape = np.broadcast_shapes(self.shape(x), self.shape(y))
        made = self.node(self.pick(PAIRS), [x, y], {}, shape, self.dtype)
        self.floats.append(self.node("tanh", [made], {}, shape, self.dtype))

    def _where(self) -> None:
        x, y = self.pick(self.exact), self.pick(self.floats)
        try:
            shape = np.broadcast_shapes(self.shape(x), self.shape(y))
        except ValueError:
            return
        if np.prod(shape) > 64:
            return
        number = self.graph.constant(np.asarray(0.5, self.dtype))
        op = self.pick(["less", "greater_equal", "equal", "not_equal"])
        condition = self.node(op, [x, number], {}, self.shape(x), bool)
        self.others.append(condition)
        self.floats.append(self.node("where", [condition, y, x], {}, shape, self.dtype))

    def _reshape(self) -> None:
        x = self.pick(self.floats)
        size = self.graph.nodes[x].size
        options = [(size,), (1, size), (size, 1), (1, size, 1)]
        options += [(k, size // k) for k in (2, 3, 4) if size % k == 0]
        shape = self.pick(options)
        self.moved("reshape", x, {"shape": shape}, shape)

    def _transpose(self) -> None:
        x = self.pick(self.floats)
        axes = tuple(self.draw(st.permutations(range(len(self.shape(x))))))
        self.moved("transpose", x, {"axes": axes}, [self.shape(x)[a] for a in axes])

    def _broadcast(self) -> None:
        x = self.pick(self.floats)
        shape = self.pick([(2,), (3,), (1,)]) + self.shape(x)
        shape = tuple(self.pick([1, 2, 3]) if n == 1 else n for n in shape)
        if np.prod(shape) <= 64:
            self.moved("broadcast_to", x, {"shape": shape}, shape)

    def _cuts(self, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        start, step, count = [], [], []
        for n in shape:
            one = self.pick([1, 1, 2, -1])
            most = -(-n // abs(one))
            many = self.draw(st.integers(1, most))
            low = self.draw(st.integers(0, n - 1 - (many - 1) * abs(one)))
            start.append(low if one > 0 else low + (many - 1) * -one)
            step.append(one)
            count.append(many)
        return {"start": tuple(start), "step": tuple(step), "count": tuple(count)}

    def _slice(self) -> None:
        x = self.pick(self.floats)
        params = self._cuts(self.shape(x))
        self.moved("slice", x, params, params["count"])

    def _spread(self) -> None:
        shape = self.pick([(5,), (2, 4), (3, 3)])
        params = self._cuts(shape)
        fitting = [x for x in self.floats if self.shape(x) == params["count"]]
        if fitting:
            self.moved("scatter_add", self.pick(fitting), {**params, "shape": shape}, shape)

    def _reduced(self, op: str, source: Sequence[int]) -> None:
        x = self.pick(source)
        shape = self.shape(x)
        axes = tuple(a for a in range(len(shape)) if self.draw(st.booleans()))
        keepdims = self.draw(st.booleans())
        out = [1 if a in axes else n for a, n in enumerate(shape) if keepdims or a not in axes]
        params = {"axis": axes, "keepdims": keepdims}
        made = self.node(op, [x], params, out, self.dtype)
        if op != "sum" and x in self.exact:
            self.exact.append(made)
            self.floats.append(made)
        else:
            self.floats.append(self.node("tanh", [made], {}, out, self.dtype))

    def _sum(self) -> None:
        self._reduced("sum", self.floats)

    def _extreme(self) -> None:
        self._reduced(self.pick(["max", "min"]), self.floats)

    def _argument(self) -> None:
        ranked = [x for x in self.exact if self.shape(x)]
        if ranked:
            x = self.pick(ranked)
            axis = self.draw(st.integers(0, len(self.shape(x)) - 1))
            shape = [n for a, n in enumerate(self.shape(x)) if a != axis]
            params = {"axis": (axis,), "keepdims": False}
            op = self.pick(["argmax", "argmin"])
            self.others.append(self.node(op, [x], params, shape, np.int64))

    def _matmul(self) -> None:
        pairs = [
            (x, y)
            for x in self.floats
            for y in self.floats
            if 2 <= len(self.shape(x)) == len(self.shape(y)) <= 3
            and self.shape(x)[-1] == self.shape(y)[-2]
            and self.shape(x)[:-2] == self.shape(y)[:-2]
            and np.prod(self.shape(x)[:-1]) * self.shape(y)[-1] <= 64
        ]
        if pairs:
            x, y = self.pick(pairs)
            shape = (*self.shape(x)[:-1], self.shape(y)[-1])
            made = self.node("matmul", [x, y], {}, shape, self.dtype)
            z = self._partner(made)
            if z is not None and np.broadcast_shapes(shape, self.shape(z)) == shape:
                made = self.node("add", self.pick([[made, z], [z, made]]), {}, shape, self.dtype)
            self.floats.append(self.node("tanh", [made], {}, shape, self.dtype))

    def _positions(self, length: int) -> int:
        rng = np.random.default_rng(len(self.graph.nodes))
        found = rng.integers(-length, length, self.pick([(), (2,), (5,), (2, 2)]))
        if self.draw(st.booleans()):
            return self.graph.constant(found % length)
        self.inputs.append(np.asarray(found))
        return self.graph.input(found.shape, found.dtype)

    def _gather(self) -> None:
        x = self.pick([x for x in self.floats if self.shape(x)])
        axis = self.draw(st.integers(0, len(self.shape(x)) - 1))
        positions = self._positions(self.shape(x)[axis])
        shape = self.shape(x)[:axis] + self.shape(positions) + self.shape(x)[axis + 1 :]
        if 0 < np.prod(shape) <= 64 and self.shape(x)[axis] <= 16:
            made = self.node("gather", [x, positions], {"axis": axis}, shape, self.dtype)
            self.floats.append(made)

    def _scatter(self) -> None:
        length, axis = self.pick([3, 4, 7]), 0
        positions = self._positions(length)
        spread = self.shape(positions)
        fitting = [
            (x, a)
            for x in self.floats
            for a in range(len(self.shape(x)) - len(spread) + 1)
            if self.shape(x)[a : a + len(spread)] == spread
        ]
        if fitting:
            x, axis = self.pick(fitting)
            lead, tail = self.shape(x)[:axis], self.shape(x)[axis + len(spread) :]
            shape = (*lead, length, *tail)
            if np.prod(shape) <= 64:
                params = {"axis": axis, "shape": shape}
                made = self.node("scatter_add", [x, positions], params, shape, self.dtype)
                self.floats.append(self.node("tanh", [made], {}, shape, self.dtype))

    def _join(self) -> None:
        x = self.pick([x for x in self.floats if self.shape(x)])
        axis = self.draw(st.integers(0, len(self.shape(x)) - 1))

        def rest(y: int) -> tuple[int, ...]:
            return self.shape(y)[:axis] + self.shape(y)[axis + 1 :]

        same = [
            y
            for y in self.floats
            if len(self.shape(y)) == len(self.shape(x)) and rest(y) == rest(x)
        ]
        parts = [self.pick(same) for _ in range(self.pick([1, 2, 3]))]
        shape = list(self.shape(x))
        shape[axis] = sum(self.shape(y)[axis] for y in parts)
        if np.prod(shape) <= 64:
            self.floats.append(self.node("join", parts, {"axis": axis}, shape, self.dtype))

    def _cumsum(self) -> None:
        x = self.pick([x for x in self.floats if self.shape(x)])
        axis = self.draw(st.integers(0, len(self.shape(x)) - 1))
        made = self.node("cumsum_along", [x], {"axis": axis}, self.shape(x), self.dtype)
        self.floats.append(self.node("tanh", [made], {}, self.shape(x), self.dtype))

    def _keep(self) -> None:
        shape = self.pick([(3,), (2, 4), ()])
        key = self.graph.constant(np.uint64(self.draw(st.integers(0, 2**64 - 1))))
        params = {"shape": shape, "rate": 0.4}
        self.others.append(self.node("keep", [key], params, shape, bool))

    def _integer(self) -> None:
        """Through another dtype and back."""
        x = self.pick(self.exact)
        kind = np.dtype(self.pick(["int8", "int32", "int64", "bool", "float32", "float64"]))
        made = self.node("astype", [x], {"dtype": kind}, self.shape(x), kind)
        self.others.append(made)
        back = self.node("astype", [made], {"dtype": self.dtype}, self.shape(x), self.dtype)
        self.floats.append(back)
        self.exact.append(back)

    def _mixed(self) -> None:
        """Integers and booleans, moved and reduced."""
        if not self.others:
            return
        x = self.pick(self.others)
        shape, dtype = self.shape(x), self.graph.nodes[x].dtype
        size = int(np.prod(shape))
        op = self.pick(["turn", "max", "min", "slice", "join", "gather", "sum", "where", "spread"])
        params: dict[str, Any] = {}
        inputs, out = [x], shape
        if op == "turn":
            axes = tuple(range(len(shape)))[::-1]
            op, params, out = "transpose", {"axes": axes}, shape[::-1]
        elif op in ("max", "min", "sum"):
            params = {"axis": tuple(range(len(shape) - 1)), "keepdims": False}
            out = shape[-1:]
            if op == "sum":
                x = self.node("astype", [x], {"dtype": np.dtype("int64")}, shape, np.int64)
                inputs, dtype = [x], np.dtype("int64")
        elif op == "slice":
            params = self._cuts(shape)
            out = params["count"]
        elif op == "join":
            flat = self.node("reshape", [x], {"shape": (size,)}, (size,), dtype)
            params, out, inputs = {"axis": 0}, (2 * size,), [flat, flat]
        elif op == "gather" and shape and shape[0] <= 16:
            positions = self._positions(shape[0])
            params, out = {"axis": 0}, self.shape(positions) + shape[1:]
            inputs = [x, positions]
        elif op == "spread" and len(shape) == 1 and dtype.kind != "b":
            params = {"start": (1,), "step": (2,), "count": shape, "shape": (2 * size + 1,)}
            op, out = "scatter_add", params["shape"]
        elif op == "where":
            op, inputs = "not_equal", [x, self.node("reshape", [x], {"shape": shape}, shape, dtype)]
            dtype = np.dtype(bool)
        else:
            return
        if 0 < np.prod(out) <= 64:
            self.others.append(self.node(op, inputs, params, out, dtype))


@st.composite
def programs(draw: Callable[..., Any]) -> tuple[Graph, list[Array]]:
    """A graph of core operations on small arrays, and values for its inputs."""
    made = Maker(draw, draw(st.sampled_from([np.float32, np.float64])))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    for _ in range(draw(st.integers(1, 3))):
        made.input(draw(st.sampled_from([(), (1,), (3,), (4, 2), (2, 3), (2, 2, 3), (4, 4)])), rng)
    if not any(made.shape(x) for x in made.floats):
        made.input((3,), rng)
    for _ in range(draw(st.integers(1, 12))):
        made.grow()
    ends = [*made.floats[-3:], *made.others[-2:]]
    made.graph.outputs = [draw(st.sampled_from(ends)) for _ in range(draw(st.integers(1, 4)))]
    return made.graph, made.inputs
