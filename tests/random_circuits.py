"""Random circuits for the compiler's tests: Python functions over the whole vocabulary.

A circuit is written line by line, and each line is run as it is written, so that it only holds what
NumPy can compute with moderate, finite numbers. Its text can be run again by hand.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import chainrule as cr
from chainrule.compiler.graph import Graph
from chainrule.compiler.interpret import evaluated

Array = Any
SIZES = (1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 64, 65, 100)
SMALL = (1, 1, 2, 3)
LARGE = (1, 2, 5, 24, 130, 257, 512, 1000, 2049, 4100)
MODERATE = 1e3

SMOOTH = (
    "cr.tanh({})", "cr.sigmoid({})", "cr.sin({})", "cr.cos({})", "cr.exp(-cr.square({}))",
    "cr.softplus({})", "cr.silu({})", "cr.gelu({})", "cr.erf({})", "cr.arctan({})",
    "cr.log1p(cr.square({}))", "cr.expm1(-cr.abs({}))", "cr.sqrt(1.5 + cr.square({}))",
    "cr.sech2({})", "cr.softsign({})", "-{}", "2.5 * {}", "{} - 0.5", "1 / (2 + cr.square({}))",
    "(1.0 + cr.square({})) ** 0.7", "{} ** 2", "cr.square({})", "cr.reciprocal(3.0 + cr.abs({}))",
    "cr.log(1.25 + cr.abs({}))", "cr.identity({})", "cr.sinh(cr.tanh({}))", "cr.erfc({})",
    "cr.arcsin(0.9 * cr.tanh({}))", "cr.log2(2.0 + cr.abs({}))", "cr.cosh(cr.sin({}))",
    "cr.stop_gradient({}) * 2", "cr.tan(0.5 * cr.tanh({}))", "cr.arccos(0.9 * cr.sin({}))",
    "cr.log10(3.0 + cr.square({}))",
)  # fmt: skip
KINKED = (
    "cr.relu({})", "cr.leaky_relu({})", "cr.elu({})", "cr.selu({})", "cr.abs({})",
    "cr.hard_tanh({})", "cr.clip({}, -0.4, 0.6)", "cr.prelu({}, 0.25)", "cr.maximum({}, 0.1)",
    "cr.minimum(0.3, {})", "cr.where({0} > 0.2, {0}, -0.5)", "cr.sign({})", "cr.floor({})",
)  # fmt: skip
PAIRS = (
    "{} + {}", "{} - {}", "{} * {}", "{} / (1.5 + cr.square({}))", "cr.maximum({}, {})",
    "cr.minimum({}, {})", "cr.where({0} < {1}, {1}, {0})", "({0} > {1}) * {0}",
    "cr.where(cr.logical_and({0} > 0, {1} > 0), {0}, {1})",
    "cr.where(cr.logical_or({0} > 0.5, cr.logical_not({1} >= 0)), {0} * {1}, {1})",
    "(1.5 + cr.square({})) ** cr.tanh({})", "cr.where(cr.not_equal({0}, {1}), {0} + {1}, {0})",
)  # fmt: skip


@dataclass
class Circuit:
    """`function(*args)` and its source."""

    text: str
    args: list[Array]

    @property
    def function(self) -> Callable[..., Any]:
        names: dict[str, Any] = {"cr": cr, "np": np}
        exec(self.text, names)
        return names["f"]  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        kinds = ", ".join(f"{x.dtype}{list(x.shape)}" for x in map(np.asarray, self.args))
        return f"arguments: {kinds}\n{self.text}"


class _Writer:
    def __init__(
        self, choose: random.Random, dtype: Any, smooth: bool, sizes: Sequence[int], most: int
    ) -> None:
        self.choose, self.dtype, self.smooth = choose, np.dtype(dtype), smooth
        self.sizes, self.most = sizes, most
        self.numbers = np.random.default_rng(choose.randrange(1 << 16))
        self.lines: list[str] = []
        self.values: dict[str, Any] = {}
        self.args: dict[str, Any] = {}

    # -- values -------------------------------------------------------------------------------

    def argument(self, shape: Sequence[int], kind: str = "f", classes: int = 0) -> str:
        """A new argument, sometimes not contiguous; with `classes`, integers below that."""
        name = f"x{len(self.args)}"
        value: Any = self.numbers.standard_normal(shape).astype(self.dtype)
        if kind == "i":
            low, high = (0, classes) if classes else (-4, 5)
            value = self.numbers.integers(low, high, shape)
            value = value.astype(self.choose.choice(["int64", "int32", "int8", "uint8"]))
        if kind == "b":
            value = np.asarray(value > 0)
        value = np.asarray(value)
        if value.ndim > 1 and self.choose.random() < 0.2:
            value = np.asfortranarray(value)
        self.args[name] = self.values[name] = value
        return name

    def try_line(self, text: str) -> str | None:
        """The name of a new value, if it can be computed and is moderate."""
        names = {"cr": cr, "np": np, **self.values}
        try:
            with np.errstate(all="ignore"):
                value = eval(text, names)
        except Exception:
            return None
        array = np.asarray(value)
        fine = array.dtype.kind in "fib" and 0 < array.size <= 10 * self.most
        if not fine or (array.dtype.kind == "f" and array.dtype != self.dtype):
            return None
        if not np.all(np.isfinite(array)) or np.max(np.abs(array.astype(float))) > MODERATE:
            return None
        name = f"v{len(self.values)}"
        self.lines.append(f"{name} = {text}")
        self.values[name] = value
        return name

    def floats(self) -> list[str]:
        return [k for k, v in self.values.items() if np.asarray(v).dtype == self.dtype]

    def pick(self, test: Callable[[Any], bool] = lambda _: True) -> str | None:
        """One of the latest values that pass."""
        names = [k for k in self.floats() if test(self.values[k])]
        if not names:
            return None
        return self.choose.choice(names[-4:] if self.choose.random() < 0.7 else names)

    def shape(self, name: str) -> tuple[int, ...]:
        return np.shape(self.values[name])

    def size(self) -> int:
        return self.choose.choice(self.sizes)

    # -- lines --------------------------------------------------------------------------------

    def unary(self) -> str | None:
        x = self.pick()
        kinked = not self.smooth and self.choose.random() < 0.3
        return x and self.choose.choice(KINKED if kinked else SMOOTH).format(x)

    def pair(self) -> str | None:
        """Two values that broadcast, one of them perhaps a new argument."""
        x = self.pick()
        if x is None:
            return None
        shape = self.shape(x)
        if self.choose.random() < 0.4:
            cut = self.choose.randrange(len(shape) + 1)
            other = [n if self.choose.random() < 0.6 else 1 for n in shape[cut:]]
            y: str | None = self.argument(other)
        else:

            def fits(v: Any) -> bool:
                try:
                    np.broadcast_shapes(np.shape(v), shape)
                except ValueError:
                    return False
                return True

            y = self.pick(fits)
        pairs = PAIRS[:4] + PAIRS[10:11] if self.smooth else PAIRS
        both = [x, y] if self.choose.random() < 0.5 else [y, x]
        return y and self.choose.choice(pairs).format(*both)

    def reduction(self) -> str | None:
        x = self.pick(lambda v: np.ndim(v) > 0)
        if x is None:
            return None
        ndim = len(self.shape(x))
        axes = [a for a in range(ndim) if self.choose.random() < 0.5]
        axis: Any = self.choose.choice([None, tuple(axes) or -1, self.choose.randrange(ndim)])
        keep = self.choose.choice([True, False])
        names = ["sum", "mean", "var", "std", "logsumexp", "sum", "mean", "norm"]
        if not self.smooth:
            names += ["max", "min", "prod"]
        name = self.choose.choice(names)
        if name == "norm":
            axis = axis if isinstance(axis, int) else None
            return f"cr.norm({x} + 0.3, axis={axis}, keepdims={keep})"
        inside = f"cr.tanh({x}) + 0.2" if name == "prod" else x
        if name == "std":
            inside = f"{x} * np.arange(1.0, {self.shape(x)[-1]} + 1).astype({x}.dtype)"
            axis = -1
        return f"cr.{name}({inside}, axis={axis}, keepdims={keep})"

    def rows(self) -> str | None:
        x = self.pick(lambda v: np.ndim(v) > 0)
        if x is None:
            return None
        axis = self.choose.choice([-1, -1, self.choose.randrange(len(self.shape(x)))])
        return self.choose.choice(
            [
                f"cr.softmax({x}, axis={axis})",
                f"cr.log_softmax({x}, axis={axis})",
                f"({x} - cr.mean({x}, axis={axis}, keepdims=True))"
                f" / cr.sqrt(cr.var({x}, axis={axis}, keepdims=True) + 0.1)",
                f"cr.cumsum({x}, axis={axis}) * 0.1",
                f"{x} - cr.logsumexp({x}, axis={axis}, keepdims=True)",
            ]
        )

    def product(self) -> str | None:
        """A matrix product in one of its many forms, scaled by its depth."""
        x = self.pick(lambda v: np.ndim(v) > 0)
        if x is None:
            return None
        shape = self.shape(x)
        k, n = shape[-1], self.size()
        scale = f"{1 / np.sqrt(k):.3f} * "
        form = self.choose.randrange(7)
        if form == 0:
            return f"{scale}({x} @ {self.argument((k, n))})"
        if form == 1:
            return f"{scale}({x} @ {self.argument((n, k))}.T)"
        if form == 2:
            return f"{scale}({x} @ {self.argument((k,))})"
        if form == 3 and len(shape) == 2:
            return f"{scale}({self.argument((shape[0], n))}.T @ {x})"
        if form == 4 and len(shape) == 2:
            return f"{scale}({x}.T @ {x})"
        if form == 5 and len(shape) > 2:
            batch = [m if self.choose.random() < 0.6 else 1 for m in shape[:-2]]
            return f"{scale}({x} @ {self.argument((*batch, k, n))})"
        if form == 6 and len(shape) == 2:
            return f"{scale}cr.einsum('ij,kj->{self.choose.choice(['ik', 'ki'])}', {x}, {x})"
        return f"{scale}cr.outer({x}, {x})" if len(shape) == 1 else None

    def move(self) -> str | None:
        """Something that only moves elements."""
        x = self.pick(lambda v: np.ndim(v) > 0)
        if x is None:
            return None
        shape, choose = self.shape(x), self.choose
        ndim, size = len(shape), int(np.prod(shape))
        axis = choose.randrange(ndim)
        n = shape[axis]
        axes = choose.sample(range(ndim), ndim)
        half = n // 2
        low, high = sorted((choose.randrange(n + 1), choose.randrange(n + 1)))
        step = choose.choice([1, 1, 2, 3, -1, -2])
        cut = f"{low}:{high}:{step}" if step > 0 else f"::{step}"
        before = ":, " * axis
        picks = [choose.randrange(-n, n) for _ in range(choose.choice([1, 3, 8]))]
        factors = [d for d in range(1, min(size, 5000) + 1) if size % d == 0]
        divisor = choose.choice(factors)
        y = self.pick(lambda v: np.shape(v) == shape)
        return choose.choice(
            [
                f"cr.transpose({x}, {tuple(axes)})",
                f"cr.reshape({x}, ({divisor}, {size // divisor}))",
                f"cr.reshape({x}, ({size},))",
                f"{x}[{before}{cut}]",
                f"{x}[{before}{low % n}]",
                f"{x}[..., None]",
                f"cr.flip({x}, axis={axis})",
                f"cr.take({x}, np.array({picks}), axis={axis})",
                f"{x}[np.array({[p % shape[0] for p in picks]})]",
                f"cr.concatenate([{x}, {y}], axis={axis})",
                f"cr.stack([{x}, {y}], axis={choose.randrange(ndim + 1)})",
                f"cr.pad({x}, {[(choose.randrange(3), choose.randrange(3)) for _ in shape]})",
                f"cr.broadcast_to({x}, {(choose.choice([1, 2, 3]), *shape)})",
                f"cr.expand_dims({x}, {axis})",
                f"cr.squeeze({x})",
                f"cr.swapaxes({x}, {axis}, {ndim - 1})",
                f"cr.split({x}, [{half}], axis={axis})[1]",
                f"cr.ravel({x})",
            ]
        )

    def whole(self) -> str | None:
        """Something with integers and booleans."""
        x = self.pick(lambda v: np.ndim(v) > 0)
        if x is None:
            return None
        shape, choose = self.shape(x), self.choose
        axis = choose.randrange(len(shape))
        last = shape[-1]
        form = choose.randrange(7)
        if form == 0:
            labels = self.argument(shape[:-1], "i", last)
            return f"{x} * cr.one_hot({labels}, {last}, dtype={x}.dtype)"
        if form == 1:
            return f"cr.where({self.argument(shape, 'b')}, {x}, 0.5)"
        if form == 2:
            return f"{x} + cr.astype({self.argument(shape[-1:], 'i')}, {x}.dtype)"
        if form == 3:
            return f"cr.argmax({x}, axis={choose.choice([axis, None])})"
        if form == 4:
            return f"{x} * cr.equal({x}, cr.max({x}, axis={axis}, keepdims=True))"
        if form == 5:
            return f"cr.sum({x} > 0.1, axis={axis})"
        return f"cr.argmin({x}, axis={axis})"


def random_circuit(
    choose: random.Random,
    *,
    lines: int = 8,
    smooth: bool = False,
    sizes: Sequence[int] = SIZES,
) -> Circuit:
    """A circuit of about so many lines; `smooth` ones have second derivatives everywhere."""
    most = 150_000 if sizes is LARGE else 4000  # elements of the first argument
    dtype = choose.choice(["float32", "float64"])
    writer = _Writer(choose, dtype, smooth, sizes, most)
    ndim = choose.choice([0, 1, 1, 2, 2, 2, 2, 3, 3, 4])
    shape = [writer.size() for _ in range(ndim)]
    while np.prod(shape) > most:
        shape[choose.randrange(ndim)] = choose.choice([1, 2, 3, 7])
    writer.argument(shape)
    kinds = [writer.unary, writer.unary, writer.pair, writer.pair, writer.reduction, writer.rows]
    kinds += [writer.product, writer.move, writer.move]
    if not smooth:
        kinds.append(writer.whole)
    for _ in range(lines):
        text = choose.choice(kinds)()
        if text is not None and "None]," not in text:
            writer.try_line(text)
    made = [k for k in writer.values if k.startswith("v")]
    used = set(" ".join(writer.lines).replace("(", " ").replace(")", " ").split())
    outs = [k for k in made if k not in used][-3:] or [writer.floats()[-1]]
    loose = [k for k in outs if k in writer.floats()]
    if not loose:
        outs.append(writer.floats()[-1])
    body = "".join(f"    {line}\n" for line in writer.lines)
    arguments = ", ".join(writer.args)
    text = f"def f({arguments}):\n{body}    return [{', '.join(outs)}]\n"
    return Circuit(text, list(writer.args.values()))


# -- what is done with a circuit --------------------------------------------------------------


def differentiated(circuit: Circuit, how: str) -> tuple[Callable[..., Any], list[Array]]:
    """A transformation of the circuit's function, and its arguments."""
    f, args = circuit.function, circuit.args
    floats = [k for k, x in enumerate(args) if x.dtype.kind == "f"]

    def loss(*xs: Any) -> Any:
        outs = [y for y in f(*xs) if y.dtype.kind == "f"]
        total: Any = 0.0
        for k, y in enumerate(outs):
            total = total + cr.mean(cr.sin(y + 0.3 * k) if k % 2 else y * y)
        return total

    if how == "value":
        return f, args
    if how == "gradient":
        return cr.value_and_grad(loss, argnums=tuple(floats)), args
    if how == "second":

        def norm(*xs: Any) -> Any:
            found = cr.grad(loss, argnums=tuple(floats))(*xs)
            total: Any = 0.0
            for g in found:
                total = total + cr.sum(g * g)
            return total

        return cr.grad(norm, argnums=tuple(floats)), args
    tangents = [np.cos(np.arange(x.size)).reshape(x.shape).astype(x.dtype) for x in args]
    if how == "jvp":

        def forward(*xs: Any) -> Any:
            primals = [xs[k] for k in floats]

            def inner(*some: Any) -> Any:
                full = list(xs)
                for k, x in zip(floats, some, strict=True):
                    full[k] = x
                return loss(*full)

            return cr.jvp(inner, primals, [tangents[k] for k in floats])

        return forward, args
    if how == "vjp":

        def backward(*xs: Any) -> Any:
            out, pull = cr.vjp(lambda x: loss(x, *xs[1:]), xs[0])
            return out, pull(np.asarray(1.5, args[0].dtype))

        return backward, args

    if how == "jacobian":
        return lambda *xs: cr.jacobian(lambda x: cr.tanh(cr.ravel(_first(f, x, xs))[:3]))(
            xs[0]
        ), args
    if how == "hessian":
        return lambda *xs: cr.hessian(lambda x: loss(x, *xs[1:]))(xs[0]), args
    raise ValueError(how)


def _first(f: Callable[..., Any], x: Any, xs: Sequence[Any]) -> Any:
    """The first result that holds floats."""
    return next(y for y in f(x, *xs[1:]) if y.dtype.kind == "f")


# -- how exact it can be ----------------------------------------------------------------------

EXACT = frozenset(
    {
        "input", "constant", "negative", "abs", "relu", "where", "maximum", "minimum", "max", "min",
        "reshape", "transpose", "broadcast_to", "slice", "gather", "getitem", "join", "identity",
        "stop_gradient", "less", "less_equal", "greater", "greater_equal", "equal", "not_equal",
        "logical_and", "logical_or", "logical_not", "isnan", "isfinite", "sign", "floor", "argmax",
        "argmin", "copy", "clip", "hard_tanh", "keep",
    }
)  # fmt: skip
RUNS = 6
ULPS = 4  # of a function, against NumPy's own few


def doubts(graph: Graph, inputs: Sequence[Array], seed: int = 0) -> list[Array]:
    """For each output, how far it moves when each rounding in the graph is another one.

    Every computed element is moved by a few ulp, a sum by ulps of what it adds up. So a mask whose
    argument lies within rounding of 0 flips here too, and its consequences count as doubt.
    """
    plain = _run(graph, inputs, None)
    found = [np.zeros(x.shape) for x in plain]
    for run in range(RUNS):
        moved = _run(graph, inputs, np.random.default_rng(seed + run))
        for at, (a, b) in enumerate(zip(plain, moved, strict=True)):
            with np.errstate(invalid="ignore"):
                found[at] = np.maximum(found[at], np.abs(a.astype(float) - b.astype(float)))
    # Where a moved rounding leads to no number at all, nothing is certain.
    found = [np.where(np.isnan(x), np.inf, x) for x in found]
    return [np.maximum(x, np.sqrt(np.mean(x * x))) if x.size else x for x in found]


def _run(graph: Graph, inputs: Sequence[Array], rng: Any) -> list[Array]:
    values: list[Any] = []
    given = iter(inputs)
    for node in graph.nodes:
        operands = [values[k] for k in node.inputs]
        if node.op == "input":
            value: Any = next(given)
            value = value if node.params.get("weak") else np.asarray(value, node.dtype)[()]
        else:
            value = evaluated(node, operands)
        rounded = node.op not in EXACT and node.dtype.kind == "f"
        if rng is not None and rounded and value.__class__ is not float:
            size, terms = np.abs(value), 1.0
            if node.op in ("sum", "cumsum_along", "scatter_add"):
                size = evaluated(node, [np.abs(operands[0]), *operands[1:]])
                terms = np.size(operands[0]) / max(1, np.size(value))
            elif node.op == "matmul":
                size = np.abs(operands[0]) @ np.abs(operands[1])
                terms = operands[0].shape[-1]
            elif node.op in ("add", "subtract"):
                size = np.abs(operands[0]) * 0.25 + np.abs(operands[1]) * 0.25 + np.abs(value)
            eps = max(ULPS, np.sqrt(terms) / 2) * float(np.finfo(node.dtype).eps)
            signs = rng.choice([-eps, eps], np.shape(value))
            value = np.asarray(value + size * signs, node.dtype)[()]
        values.append(value)
    return [np.asarray(values[k]) for k in graph.outputs]


def flat(tree: Any) -> list[Array]:
    """The arrays of a result."""
    if isinstance(tree, (list, tuple)):
        return list(itertools.chain.from_iterable(flat(x) for x in tree))
    if isinstance(tree, dict):
        return flat(list(tree.values()))
    return [np.asarray(tree.numpy() if isinstance(tree, cr.Tensor) else tree)]


def disagreement(found: Any, expected: Any, doubt: Sequence[Array]) -> str:
    """Where two results differ by more than rounding can explain; empty if nowhere."""
    xs, ys = flat(found), flat(expected)
    if len(xs) != len(ys):
        return f"{len(xs)} results instead of {len(ys)}"
    for k, (x, y, d) in enumerate(zip(xs, ys, doubt, strict=True)):
        if x.shape != y.shape or x.dtype != y.dtype:
            return f"result {k} is {x.dtype}{x.shape} instead of {y.dtype}{y.shape}"
        if x.dtype.kind != "f":
            wrong = (x != y) & (d == 0)
            if wrong.any():
                return f"result {k} differs at {np.argwhere(wrong)[0]}"
            continue
        with np.errstate(invalid="ignore"):
            gap = np.abs(x.astype(float) - y.astype(float))
        limits = np.finfo(x.dtype)
        bound = 4 * d + 4 * float(limits.eps) * np.abs(y) + float(limits.tiny)
        same = (gap <= bound) | (np.isnan(x) & np.isnan(y)) | (x == y)
        if not same.all():
            at = tuple(np.argwhere(~same)[0])
            return f"result {k} at {at}: {x[at]!r} instead of {y[at]!r}, doubt {d[at]:.2g}"
    return ""
