"""Networks, and how each library trains them: the same weights, rows and steps for everyone.

A trainer's `train(epochs)` begins with the network's own weights and returns the weights after so
many epochs. Each library is used in its quickest form, as its documentation shows it.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import numpy as np

Arrays = list[Any]  # W1, b1, W2, b2, …; a W has shape (in, out)
RATE = {"sgd": 0.01, "adam": 0.001}
BETAS, EPS = (0.9, 0.999), 1e-8


class Unavailable(Exception):
    """Why a library does not take part."""


@dataclass(frozen=True)
class Net:
    """A dense network, its batch and how it is trained. One batch holds all rows unless `rows`."""

    name: str
    widths: tuple[int, ...]
    batch: int
    activation: str = "relu"
    loss: str = "softmax_cross_entropy"  # or mean_squared_error
    output: str = "identity"  # or sigmoid
    optimizer: str = "sgd"
    pieces: int = 1  # of a maxout unit
    rows: int = 0  # shuffled anew each epoch, if more than one batch
    goals: dict[str, float] = field(default_factory=dict, hash=False)

    @property
    def about(self) -> str:
        """The network in a line."""
        rows = f"{self.rows} rows shuffled, " if self.rows else ""
        pieces = f" of {self.pieces}" if self.pieces > 1 else ""
        inside = "-".join(map(str, self.widths))
        if len(self.widths) > 6:
            inside = f"{self.widths[0]}-[{self.widths[1]}]×{len(self.widths) - 2}-{self.widths[-1]}"
        return (
            f"{self.name}: {inside}, {self.activation}{pieces}, {rows}batch {self.batch},"
            f" {self.loss}, {self.optimizer.upper() if self.optimizer == 'sgd' else 'Adam'}"
        )

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """(in, out) of each layer's W."""
        pairs = list(zip(self.widths, self.widths[1:], strict=False))
        return [(i, o * self.pieces) for i, o in pairs[:-1]] + pairs[-1:]

    @property
    def steps(self) -> int:
        """Batches an epoch."""
        return -(-self.rows // self.batch) if self.rows else 1

    @property
    def flops(self) -> float:
        """Of a step's matrix products: forward, ∂W, and ∂x but for the first layer."""
        rows = self.rows / self.steps if self.rows else self.batch
        return sum(2 * rows * i * o * (3 if k else 2) for k, (i, o) in enumerate(self.shapes))

    @cached_property
    def weights(self) -> Arrays:
        """Where everyone begins."""
        random = np.random.default_rng(0)
        gain = 2.0 if self.activation == "relu" else 1.0
        found: Arrays = []
        for i, o in self.shapes:
            found.append((random.normal(size=(i, o)) * np.sqrt(gain / i)).astype(np.float32))
            found.append((random.normal(size=o) * 0.1).astype(np.float32))
        return found

    @cached_property
    def data(self) -> tuple[Any, Any]:
        """Synthetic rows; every class occurs, as scikit-learn wants."""
        if self.name == "xor":
            X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
            return X, np.array([[0], [1], [1], [0]], np.float32)
        random, rows = np.random.default_rng(1), self.rows or self.batch
        X = random.normal(size=(rows, self.widths[0])).astype(np.float32)
        if self.loss == "mean_squared_error":
            return X, X
        classes = self.widths[-1]
        y = random.integers(0, classes, rows)
        y[:classes] = np.arange(classes)
        return X, y

    def order(self, epoch: int) -> Any:
        """The rows in the order in which `fit` visits them; drawn inside everyone's clock."""
        return np.random.default_rng([0, 10000 + epoch]).permutation(self.rows)

    def batches(self, epoch: int) -> Iterator[Any]:
        """The rows' numbers, batch by batch."""
        order = self.order(epoch)
        return (order[k : k + self.batch] for k in range(0, self.rows, self.batch))


NETS = {
    net.name: net
    for net in (
        Net(
            "xor", (2, 2, 1), 4, "sigmoid", "mean_squared_error", "sigmoid",
            goals={"JAX fori_loop": 1.5},
        ),
        Net("digits", (64, 32, 10), 32, goals={"JAX fori_loop": 3.0, "PyTorch eager": 50.0}),
        Net("mnist", (784, 128, 10), 128, goals={"JAX fori_loop": 1.5}),
        Net("mlp512", (784, 512, 512, 10), 128, goals={"JAX fori_loop": 1.35}),
        Net(
            "big", (784, 1024, 1024, 10), 512,
            goals={"JAX fori_loop": 1.15, "PyTorch eager": 1.4},
        ),
        Net("deep", (16, *[16] * 12, 4), 32, "tanh"),
        Net("maxout", (64, 64, 10), 32, "maxout", pieces=3),
        Net("autoencoder", (64, 32, 64), 32, loss="mean_squared_error", optimizer="adam"),
        Net("shuffled", (64, 32, 10), 32, rows=1797),
    )
}  # fmt: skip


class Trainer:
    """A library that trains a network."""

    name = ""
    package = "numpy"
    own_order = False  # its weights cannot be compared: it draws another order or scales the loss

    def __init__(self, net: Net) -> None:
        try:
            self.module = importlib.import_module(self.package)
        except ImportError as error:
            raise Unavailable("not installed") from error
        self.net = net

    def train(self, epochs: int) -> Arrays:
        """The weights after so many epochs, beginning with the network's own."""
        raise NotImplementedError


# -- chainrule --------------------------------------------------------------------------------


class Chainrule(Trainer):
    """`fit`, whose loop over the steps is native."""

    name = "chainrule"
    package = "chainrule"
    compile = True

    def model(self) -> Any:
        """The network in `nn`, with its own weights."""
        nn, net = self.module.nn, self.net
        hidden = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}
        pairs = list(zip(net.widths, net.widths[1:], strict=False))
        stack: list[Any] = []
        for k, (i, o) in enumerate(pairs):
            given = {"weight": net.weights[2 * k].T, "bias": net.weights[2 * k + 1]}
            last = k == len(pairs) - 1
            if net.activation == "maxout" and not last:
                stack.append(nn.Maxout(i, o, net.pieces, **given))
                continue
            stack.append(nn.Linear(i, o, **given))
            if not last:
                stack.append(hidden[net.activation]())
            elif net.output == "sigmoid":
                stack.append(nn.Sigmoid())
        return nn.Sequential(*stack)

    def train(self, epochs: int) -> Arrays:
        net, optim, model = self.net, self.module.optim, self.model()
        kind = {"sgd": optim.SGD, "adam": optim.Adam}[net.optimizer]
        X, y = net.data
        self.module.fit(
            model, X, y, loss=net.loss, optimizer=kind(lr=RATE[net.optimizer]), epochs=epochs,
            batch_size=net.batch, shuffle=bool(net.rows), seed=0, progress=False,
            compile=self.compile,
        )  # fmt: skip
        return [p.value.T for p in model.parameters()]


class Interpreted(Chainrule):
    """`fit` without native code."""

    name = "chainrule, interpreted"
    compile = False


# -- NumPy by hand ----------------------------------------------------------------------------

Transfer = tuple[Callable[[Any], Any], Callable[[Any, Any, Any], Any]]


def _sigmoid(z: Any) -> Any:
    return 1 / (1 + np.exp(-z))


def _pieces(z: Any, pieces: int) -> Any:
    return z.reshape(len(z), -1, pieces)


def transfer(name: str, pieces: int) -> Transfer:
    """An activation by hand: net ↦ out, and (∂out, net, out) ↦ ∂net."""
    found: dict[str, Transfer] = {
        "identity": (lambda z: z, lambda d, z, h: d),
        "relu": (lambda z: np.maximum(z, 0), lambda d, z, h: d * (h > 0)),
        "tanh": (np.tanh, lambda d, z, h: d * (1 - h * h)),
        "sigmoid": (_sigmoid, lambda d, z, h: d * h * (1 - h)),
        "maxout": (
            lambda z: _pieces(z, pieces).max(-1),
            lambda d, z, h: (d[..., None] * (_pieces(z, pieces) == h[..., None])).reshape(z.shape),
        ),
    }
    return found[name]


def nearness(name: str, z: Any, pieces: int) -> float:
    """How close the nets come to a kink: within rounding of it, its sides may be confused."""
    if name == "relu":
        return float(np.abs(z).min())
    if name == "maxout":
        ordered = np.sort(_pieces(z, pieces), -1)
        return float((ordered[..., -1] - ordered[..., -2]).min())
    return np.inf


class NumPy(Trainer):
    """Derivatives by hand; in float64 and watching for kinks, the reference of everyone."""

    name = "NumPy by hand"

    def __init__(self, net: Net, dtype: Any = np.float32, watch: bool = False) -> None:
        super().__init__(net)
        self.dtype, self.watch, self.margin = np.dtype(dtype), watch, np.inf
        last = len(net.shapes) - 1
        self.names = [net.activation] * last + [net.output]
        self.transfers = [transfer(name, net.pieces) for name in self.names]

    def train(self, epochs: int) -> Arrays:
        net, (X, y) = self.net, self.net.data
        X = X.astype(self.dtype)
        y = y.astype(self.dtype) if y.dtype.kind == "f" else y
        weights = [w.astype(self.dtype) for w in net.weights]
        update = _Adam(weights) if net.optimizer == "adam" else _descend
        for epoch in range(1, epochs + 1):
            if not net.rows:
                update(weights, self.gradients(weights, X, y))
                continue
            for rows in net.batches(epoch):
                update(weights, self.gradients(weights, X[rows], y[rows]))
        return weights

    def gradients(self, weights: Arrays, X: Any, y: Any) -> Arrays:
        """Forward and backward."""
        nets, outs = [], [X]
        for k, (act, _) in enumerate(self.transfers):
            z = outs[-1] @ weights[2 * k]
            z += weights[2 * k + 1]
            if self.watch:
                self.margin = min(self.margin, nearness(self.names[k], z, self.net.pieces))
            nets.append(z)
            outs.append(act(z))
        d = self.upstream(outs[-1], y)
        found: Arrays = []
        for k in range(len(nets) - 1, -1, -1):
            d = self.transfers[k][1](d, nets[k], outs[k + 1])
            found += [d.sum(0), outs[k].T @ d]
            if k:
                d = d @ weights[2 * k].T
        return found[::-1]

    def upstream(self, out: Any, y: Any) -> Any:
        """∂loss/∂out."""
        if self.net.loss == "mean_squared_error":
            return (out - y) * self.dtype.type(2 / out.size)
        e = np.exp(out - out.max(1, keepdims=True))
        e /= e.sum(1, keepdims=True)
        e[np.arange(len(y)), y] -= 1
        e /= self.dtype.type(len(y))
        return e


def _descend(weights: Arrays, gradients: Arrays) -> None:
    for w, g in zip(weights, gradients, strict=True):
        g *= g.dtype.type(RATE["sgd"])
        w -= g


class _Adam:
    """Adam by hand, in place."""

    def __init__(self, weights: Arrays) -> None:
        self.step = 0
        self.means = [(np.zeros_like(w), np.zeros_like(w)) for w in weights]

    def __call__(self, weights: Arrays, gradients: Arrays) -> None:
        self.step += 1
        (b1, b2), lr = BETAS, RATE["adam"]
        size, root = lr / (1 - b1**self.step), (1 - b2**self.step) ** 0.5
        for w, g, (m, v) in zip(weights, gradients, self.means, strict=True):
            m *= b1
            m += (1 - b1) * g
            v *= b2
            v += (1 - b2) * (g * g)
            w -= size * m / (np.sqrt(v) / root + EPS)


# -- JAX --------------------------------------------------------------------------------------


class _JAX(Trainer):
    package = "jax"

    def __init__(self, net: Net) -> None:
        super().__init__(net)
        self.numpy = importlib.import_module("jax.numpy")
        X, y = net.data
        self.X, self.y = self.numpy.asarray(X), self.numpy.asarray(y)

    def begin(self) -> Any:
        """(step, weights, running means)."""
        weights = [self.numpy.array(w) for w in self.net.weights]
        means = 2 * (self.net.optimizer == "adam")
        return 0, weights, *([self.numpy.zeros_like(w) for w in weights] for _ in range(means))

    def loss(self, weights: Any, X: Any, y: Any) -> Any:
        """The network's loss of a batch."""
        net, nn, jnp = self.net, self.module.nn, self.numpy
        act = {"relu": nn.relu, "tanh": jnp.tanh, "sigmoid": nn.sigmoid}
        h, last = X, len(weights) // 2 - 1
        for k in range(last + 1):
            h = h @ weights[2 * k] + weights[2 * k + 1]
            if k < last and net.activation == "maxout":
                h = h.reshape(len(h), -1, net.pieces).max(-1)
            elif k < last or net.output == "sigmoid":
                h = act[net.activation](h)
        if net.loss == "mean_squared_error":
            return jnp.mean((h - y) ** 2)
        return -jnp.mean(jnp.take_along_axis(nn.log_softmax(h), y[:, None], 1))

    def step(self, state: Any, X: Any, y: Any) -> Any:
        """The state after a step."""
        number, weights, *means = state
        gradients = self.module.grad(self.loss)(weights, X, y)
        if not means:
            moved = [w - RATE["sgd"] * g for w, g in zip(weights, gradients, strict=True)]
            return number, moved
        (b1, b2), lr, number = BETAS, RATE["adam"], number + 1
        m = [b1 * m + (1 - b1) * g for m, g in zip(means[0], gradients, strict=True)]
        v = [b2 * v + (1 - b2) * g * g for v, g in zip(means[1], gradients, strict=True)]
        size, root = lr / (1 - b1**number), (1 - b2**number) ** 0.5
        moved = [
            w - size * mean / (self.numpy.sqrt(square) / root + EPS)
            for w, mean, square in zip(weights, m, v, strict=True)
        ]
        return number, moved, m, v

    def gathered(self, state: Any, X: Any, y: Any, rows: Any) -> Any:
        """The state after a step on some rows."""
        return self.step(state, X[rows], y[rows])


class JAXLoop(_JAX):
    """`jax.lax.fori_loop`: all steps in one compiled call."""

    name = "JAX fori_loop"

    def __init__(self, net: Net) -> None:
        super().__init__(net)
        self.many = self.module.jit(self.epochs if net.rows else self.repeated)

    def repeated(self, epochs: Any, state: Any, X: Any, y: Any) -> Any:
        """All epochs of one batch."""
        step = lambda _, state: self.step(state, X, y)  # noqa: E731
        return self.module.lax.fori_loop(0, epochs, step, state)

    def epochs(self, orders: Any, state: Any, X: Any, y: Any) -> Any:
        """All epochs: the full batches in an inner loop, then the short one."""
        loop, net = self.module.lax.fori_loop, self.net
        full = net.rows // net.batch

        def epoch(k: Any, state: Any) -> Any:
            order = orders[k]
            whole = order[: full * net.batch].reshape(full, net.batch)
            state = loop(0, full, lambda b, s: self.gathered(s, X, y, whole[b]), state)
            rest = order[full * net.batch :]
            return self.gathered(state, X, y, rest) if len(rest) else state

        return loop(0, len(orders), epoch, state)

    def train(self, epochs: int) -> Arrays:
        amount: Any = epochs
        if self.net.rows:
            amount = np.stack([self.net.order(k) for k in range(1, epochs + 1)])
        state = self.many(amount, self.begin(), self.X, self.y)
        return [np.asarray(w) for w in state[1]]


class JAXStep(_JAX):
    """`jax.jit`: one compiled call a step, which may reuse the old weights' memory."""

    name = "JAX jit a step"

    def __init__(self, net: Net) -> None:
        super().__init__(net)
        self.one = self.module.jit(self.gathered if net.rows else self.step, donate_argnums=0)

    def train(self, epochs: int) -> Arrays:
        state = self.begin()
        for epoch in range(1, epochs + 1):
            if not self.net.rows:
                state = self.one(state, self.X, self.y)
                continue
            for rows in self.net.batches(epoch):
                state = self.one(state, self.X, self.y, rows)
        return [np.asarray(w) for w in state[1]]


# -- PyTorch ----------------------------------------------------------------------------------


class Torch(Trainer):
    """Eager: fused `addmm`, updates in place."""

    name = "PyTorch eager"
    package = "torch"

    def __init__(self, net: Net) -> None:
        super().__init__(net)
        self.X, self.y = map(self.module.from_numpy, net.data)

    def loss(self, weights: Any, X: Any, y: Any) -> Any:
        """The network's loss of a batch."""
        torch, net = self.module, self.net
        act = {"relu": torch.relu, "tanh": torch.tanh, "sigmoid": torch.sigmoid}
        h, last = X, len(weights) // 2 - 1
        for k in range(last + 1):
            h = torch.addmm(weights[2 * k + 1], h, weights[2 * k])
            if k < last and net.activation == "maxout":
                h = h.view(len(h), -1, net.pieces).max(-1).values
            elif k < last or net.output == "sigmoid":
                h = act[net.activation](h)
        functional = torch.nn.functional
        if net.loss == "mean_squared_error":
            return functional.mse_loss(h, y)
        return functional.cross_entropy(h, y)

    def begin(self) -> Callable[[Any, Any], Any]:
        """A step on fresh weights, `self.weights`."""
        torch = self.module
        weights = [torch.tensor(w, requires_grad=True) for w in self.net.weights]
        self.weights = weights
        if self.net.optimizer == "adam":
            adam = torch.optim.Adam(weights, lr=RATE["adam"], betas=BETAS, eps=EPS, fused=True)

            def step(X: Any, y: Any) -> None:
                adam.zero_grad()
                self.loss(weights, X, y).backward()
                adam.step()

            return step

        def descend(X: Any, y: Any) -> None:
            gradients = torch.autograd.grad(self.loss(weights, X, y), weights)
            with torch.no_grad():
                for w, g in zip(weights, gradients, strict=True):
                    w.sub_(g, alpha=RATE["sgd"])

        return descend

    def train(self, epochs: int) -> Arrays:
        step = self.begin()
        for epoch in range(1, epochs + 1):
            if not self.net.rows:
                step(self.X, self.y)
                continue
            for rows in map(self.module.from_numpy, self.net.batches(epoch)):
                step(self.X[rows], self.y[rows])
        return [w.detach().numpy() for w in self.weights]


class TorchCompiled(Torch):
    """`torch.compile` of the whole step: forward, backward and update in one call."""

    name = "torch.compile"

    def __init__(self, net: Net) -> None:
        super().__init__(net)
        gradient = self.module.func.grad(self.loss)

        def descend(weights: Any, X: Any, y: Any) -> Any:
            found = gradient(weights, X, y)
            return [w - RATE["sgd"] * g for w, g in zip(weights, found, strict=True)]

        self.whole = self.module.compile(
            gradient if net.optimizer == "adam" else descend, dynamic=False
        )

    def begin(self) -> Callable[[Any, Any], Any]:
        torch = self.module
        self.weights = [torch.tensor(w) for w in self.net.weights]
        if self.net.optimizer == "adam":
            adam = torch.optim.Adam(self.weights, lr=RATE["adam"], betas=BETAS, eps=EPS, fused=True)

            def step(X: Any, y: Any) -> None:
                for w, g in zip(self.weights, self.whole(self.weights, X, y), strict=True):
                    w.grad = g
                adam.step()

            return step

        def descend(X: Any, y: Any) -> None:
            self.weights = self.whole(self.weights, X, y)

        return descend

    def train(self, epochs: int) -> Arrays:
        try:
            with self.module.no_grad():
                return super().train(epochs)
        except Exception as error:
            if "dynamo" in str(type(error)) or "inductor" in str(type(error)):
                why = next(iter(str(error).strip().splitlines()), type(error).__name__)
                raise Unavailable(f"not available: {why[:80]}") from error
            raise


# -- scikit-learn -----------------------------------------------------------------------------


class ScikitLearn(Trainer):
    """MLPClassifier or MLPRegressor, continued from the network's weights by `warm_start`."""

    name = "scikit-learn"
    package = "sklearn.neural_network"

    def __init__(self, net: Net) -> None:
        super().__init__(net)
        if net.activation == "maxout" or net.output != "identity":
            raise Unavailable("cannot express it")
        self.own_order = bool(net.rows) or net.loss == "mean_squared_error"
        regression = net.loss == "mean_squared_error"
        kind = self.module.MLPRegressor if regression else self.module.MLPClassifier
        name = {"sigmoid": "logistic"}.get(net.activation, net.activation)
        self.make = partial(
            kind, hidden_layer_sizes=net.widths[1:-1], activation=name, solver=net.optimizer,
            learning_rate_init=RATE[net.optimizer], alpha=0.0, momentum=0.0, tol=0.0,
            batch_size=net.batch, shuffle=bool(net.rows), n_iter_no_change=np.inf,
            warm_start=True, random_state=0,
        )  # fmt: skip

    def train(self, epochs: int) -> Arrays:
        X, y = self.net.data
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it has not converged, and is not meant to
            model = self.make(max_iter=1).fit(X, y)
            del model._optimizer
            model.coefs_ = [w.copy() for w in self.net.weights[::2]]
            model.intercepts_ = [b.copy() for b in self.net.weights[1::2]]
            model.set_params(max_iter=epochs).fit(X, y)
        return [w for pair in zip(model.coefs_, model.intercepts_, strict=True) for w in pair]


TRAINERS: tuple[type[Trainer], ...] = (
    Chainrule, Interpreted, JAXLoop, JAXStep, Torch, TorchCompiled, ScikitLearn, NumPy,
)  # fmt: skip
