"""The competitors behind one small interface: chainrule, PyTorch eager, HIPS autograd, micrograd.

Each is used as its own documentation does, in its quickest form (PyTorch with fused `addmm` and
`mse_loss`, and updates in place). A library that cannot be imported is named, and left out.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

Names = dict[str, Any]
Step = Callable[[], list[Any]]  # one training step; returns the weights after it
RATE = 0.5


class Library:
    """What every experiment asks of a library; a method that it lacks is left as None."""

    name = ""
    package = ""
    arrays = True  # micrograd has scalars only
    deepest = 10**5  # the longest chain that the growth experiment asks of it

    def __init__(self) -> None:
        self.module = importlib.import_module(self.package)

    @property
    def version(self) -> str:
        """The version, "?" where none is recorded."""
        try:
            return getattr(self.module, "__version__", None) or version(self.package)
        except PackageNotFoundError:
            return "?"

    def leaf(self, value: Any) -> Any:
        """A variable of the library, holding `value`."""
        raise NotImplementedError

    def constant(self, value: Any) -> Any:
        """A value that needs no gradient."""
        return value

    def pull(self, output: Any) -> None:
        """Backward from a scalar."""
        output.backward()

    def functions(self) -> Names:
        """The library's functions by the names that the statements use."""
        return {}

    def xor(self, weights: list[Any], x: Any, t: Any) -> Step:
        """One step of gradient descent of a 2-2-1 sigmoid net on the mean squared error."""
        raise NotImplementedError


FUNCTIONS = ("sin", "exp", "tanh", "maximum", "sum", "reshape")


class NumPy(Library):
    """Bare NumPy: the work itself, without bookkeeping; derivatives written by hand."""

    name = "NumPy"
    package = "numpy"

    def leaf(self, value: Any) -> Any:
        return value

    def functions(self) -> Names:
        return {name: getattr(np, name) for name in FUNCTIONS}

    def xor(self, weights: list[Any], x: Any, t: Any) -> Step:
        w1, b1, w2, b2 = [w.copy() for w in weights]

        def step() -> list[Any]:
            h = 1 / (1 + np.exp(-(x @ w1 + b1)))
            out = 1 / (1 + np.exp(-(h @ w2 + b2)))
            d2 = (out - t) * (2 / t.size) * out * (1 - out)
            d1 = d2 @ w2.T * h * (1 - h)
            moves = (x.T @ d1, d1.sum(0), h.T @ d2, d2.sum(0))
            for w, g in zip((w1, b1, w2, b2), moves, strict=True):
                w -= RATE * g
            return [w1, b1, w2, b2]

        return step


class Chainrule(Library):
    """The library that is measured."""

    name = "chainrule"
    package = "chainrule"
    deepest = 10**6

    def leaf(self, value: Any) -> Any:
        return self.module.tensor(value, requires_grad=True)

    def constant(self, value: Any) -> Any:
        return self.module.tensor(value, requires_grad=False)

    def functions(self) -> Names:
        return {name: getattr(self.module, name) for name in (*FUNCTIONS, "sigmoid", "relu")}

    def xor(self, weights: list[Any], x: Any, t: Any) -> Step:
        cr, x, t = self.module, self.constant(x), self.constant(t)
        parameters = [cr.Parameter(w) for w in weights]
        w1, b1, w2, b2 = parameters

        def step() -> list[Any]:
            h = cr.sigmoid(x @ w1 + b1)
            out = cr.sigmoid(h @ w2 + b2)
            loss = cr.mean(cr.square(out - t))
            loss.backward()
            for p in parameters:
                p.rebind(p.value - RATE * p.grad)
            return [p.value for p in parameters]

        return step


class PyTorch(Library):
    """PyTorch in eager mode, on one thread of the CPU."""

    name = "PyTorch"
    package = "torch"

    def __init__(self) -> None:
        super().__init__()
        self.module.set_num_threads(1)

    def leaf(self, value: Any) -> Any:
        return self.module.tensor(value, requires_grad=True)

    def constant(self, value: Any) -> Any:
        return self.module.tensor(value)

    def functions(self) -> Names:
        return {name: getattr(self.module, name) for name in (*FUNCTIONS, "sigmoid", "relu")}

    def xor(self, weights: list[Any], x: Any, t: Any) -> Step:
        torch, x, t = self.module, self.constant(x), self.constant(t)
        parameters = [self.leaf(w) for w in weights]
        w1, b1, w2, b2 = parameters
        plain = [p.detach().numpy() for p in parameters]

        def step() -> list[Any]:
            h = torch.sigmoid(torch.addmm(b1, x, w1))
            out = torch.sigmoid(torch.addmm(b2, h, w2))
            loss = torch.nn.functional.mse_loss(out, t)
            loss.backward()
            with torch.no_grad():
                for p in parameters:
                    p.sub_(p.grad, alpha=RATE)
                    p.grad = None
            return plain

        return step


class Autograd(Library):
    """HIPS autograd; leaves are boxes made by hand where its `grad` would hide the forward pass."""

    name = "autograd"
    package = "autograd"

    def __init__(self) -> None:
        super().__init__()
        self.numpy = importlib.import_module("autograd.numpy")
        self.core = importlib.import_module("autograd.core")
        self.tracer = importlib.import_module("autograd.tracer")

    def leaf(self, value: Any) -> Any:
        return self.tracer.new_box(value, 0, self.core.VJPNode.new_root())

    def pull(self, output: Any) -> None:
        self.core.backward_pass(1.0, output._node)

    def functions(self) -> Names:
        return {name: getattr(self.numpy, name) for name in FUNCTIONS}

    def xor(self, weights: list[Any], x: Any, t: Any) -> Step:
        anp = self.numpy

        def sigmoid(a: Any) -> Any:
            return 1 / (1 + anp.exp(-a))

        def loss(parameters: list[Any]) -> Any:
            w1, b1, w2, b2 = parameters
            h = sigmoid(x @ w1 + b1)
            return anp.mean((sigmoid(h @ w2 + b2) - t) ** 2)

        gradient = self.module.grad(loss)
        parameters = [w.copy() for w in weights]

        def step() -> list[Any]:
            for p, g in zip(parameters, gradient(parameters), strict=True):
                p -= RATE * g
            return parameters

        return step


class Micrograd(Library):
    """micrograd: scalars only; it lacks the sigmoid, which is added the way its own nodes are."""

    name = "micrograd"
    package = "micrograd"
    arrays = False
    deepest = 10**3  # its ordering recurses

    def __init__(self) -> None:
        super().__init__()
        self.Value = importlib.import_module("micrograd.engine").Value

    def leaf(self, value: Any) -> Any:
        return self.Value(float(value))

    def sigmoid(self, a: Any) -> Any:
        """The node of σ(a) and its derivative."""
        out = self.Value(1 / (1 + math.exp(-a.data)), (a,), "σ")

        def backward() -> None:
            a.grad += out.data * (1 - out.data) * out.grad

        out._backward = backward
        return out

    def tanh(self, a: Any) -> Any:
        """The node of tanh(a) and its derivative."""
        t = math.tanh(a.data)
        out = self.Value(t, (a,), "tanh")

        def backward() -> None:
            a.grad += (1 - t * t) * out.grad

        out._backward = backward
        return out

    def unit(self, inputs: Iterable[Any], weights: Iterable[Any], bias: Any) -> Any:
        """One sigmoid unit."""
        pairs = zip(inputs, weights, strict=True)
        return self.sigmoid(sum((a * w for a, w in pairs), bias))

    def xor(self, weights: list[Any], x: Any, t: Any) -> Step:
        w1, b1, w2, b2 = [np.vectorize(self.Value, otypes=[object])(w) for w in weights]
        parameters = [p for w in (w1, b1, w2, b2) for p in w.flat]
        rows, targets = x.tolist(), t[:, 0].tolist()

        def step() -> list[Any]:
            loss = 0.0
            for row, target in zip(rows, targets, strict=True):
                h = [self.unit(row, w1[:, k], b1[k]) for k in range(2)]
                loss = loss + (self.unit(h, w2[:, 0], b2[0]) - target) ** 2 * 0.25
            for p in parameters:
                p.grad = 0
            loss.backward()  # type: ignore[attr-defined]
            for p in parameters:
                p.data -= RATE * p.grad
            return [np.vectorize(lambda p: p.data)(w) for w in (w1, b1, w2, b2)]

        return step


def importable() -> tuple[list[Library], list[str]]:
    """chainrule and the competitors that are there, and the names of those that are not."""
    found: list[Library] = [Chainrule()]
    missing = []
    for kind in (PyTorch, Autograd, Micrograd):
        try:
            found.append(kind())
        except ImportError:
            missing.append(kind.name)
    return found, missing
