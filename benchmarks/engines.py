"""How each library evaluates a function of arrays: eagerly, or compiled where it compiles.

A kernel is written once, `lambda m, x, y: m.relu(x * y)`, in a library's words `m`, and is given
that library's own arrays. Every engine's callable waits for its result.
"""

from __future__ import annotations

import importlib
import inspect
import os
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

Kernel = Callable[..., Any]
Run = Callable[[], Any]


class Engine:
    """A library that evaluates kernels; `run` and `gradient` return a call to be timed."""

    name = ""
    package = ""
    jit = False  # whether the first call takes long

    def __init__(self) -> None:
        self.module = importlib.import_module(self.package)
        self.words: Any = self.module

    def array(self, value: Any) -> Any:
        """The library's array of these numbers."""
        return value

    def run(self, kernel: Kernel, values: Sequence[Any]) -> Run:
        """The kernel's value."""
        raise NotImplementedError

    def gradient(self, kernel: Kernel, values: Sequence[Any]) -> Run:
        """(value, gradient) by the first argument, of a kernel that gives a scalar."""
        raise NotImplementedError


class NumPyEngine(Engine):
    """One NumPy call after the other; what it lacks is written by hand."""

    name = "NumPy"
    package = "numpy"

    def __init__(self) -> None:
        super().__init__()
        words = {name: getattr(np, name) for name in ("exp", "log", "tanh", "sin", "sqrt")}
        self.words = SimpleNamespace(
            relu=lambda x: np.maximum(x, 0), sigmoid=lambda x: 1 / (1 + np.exp(-x)), **words
        )

    def run(self, kernel: Kernel, values: Sequence[Any]) -> Run:
        return lambda: kernel(self.words, *values)

    def gradient(self, kernel: Kernel, values: Sequence[Any]) -> Run:
        raise NotImplementedError("NumPy has no gradients")


class ChainruleEngine(Engine):
    """`cr.compile`; where a chainrule has none, its functions as they are."""

    name = "chainrule"
    package = "chainrule"

    def __init__(self) -> None:
        super().__init__()
        self.compiles = hasattr(self.module, "compile")
        self.jit = self.compiles
        if not self.compiles:
            self.name = "chainrule, interpreted"

    def compiled(self, f: Callable[..., Any]) -> Callable[..., Any]:
        """The function in native code, on as many threads as the environment says."""
        if not self.compiles:
            return f
        compile = self.module.compile
        threads = os.environ.get("CHAINRULE_THREADS")
        if threads and "threads" in inspect.signature(compile).parameters:
            return compile(f, threads=int(threads))  # type: ignore[no-any-return]
        return compile(f)  # type: ignore[no-any-return]

    def run(self, kernel: Kernel, values: Sequence[Any]) -> Run:
        f = self.compiled(lambda *arrays: kernel(self.words, *arrays))
        return lambda: f(*values)

    def gradient(self, kernel: Kernel, values: Sequence[Any]) -> Run:
        both = self.module.value_and_grad(lambda *arrays: kernel(self.words, *arrays))
        f = self.compiled(both)
        return lambda: f(*values)


class TorchEngine(Engine):
    """PyTorch eager, without recording where no gradient is wanted."""

    name = "PyTorch eager"
    package = "torch"

    def array(self, value: Any) -> Any:
        return self.module.from_numpy(value) if isinstance(value, np.ndarray) else value

    def run(self, kernel: Kernel, values: Sequence[Any]) -> Run:
        arrays = [self.array(v) for v in values]

        def call() -> Any:
            with self.module.inference_mode():
                return kernel(self.words, *arrays)

        return call

    def gradient(self, kernel: Kernel, values: Sequence[Any]) -> Run:
        arrays = [self.array(v) for v in values]
        first = arrays[0].requires_grad_()

        def call() -> Any:
            value = kernel(self.words, *arrays)
            return value, *self.module.autograd.grad(value, first)

        return call


class TorchCompiled(TorchEngine):
    """torch.compile."""

    name = "torch.compile"
    jit = True

    def run(self, kernel: Kernel, values: Sequence[Any]) -> Run:
        arrays = [self.array(v) for v in values]
        f = self.module.compile(lambda *arrays: kernel(self.words, *arrays), dynamic=False)

        def call() -> Any:
            with self.module.no_grad():
                return f(*arrays)

        return call

    def gradient(self, kernel: Kernel, values: Sequence[Any]) -> Run:
        both = self.module.func.grad_and_value(lambda *arrays: kernel(self.words, *arrays))
        f = self.module.compile(both, dynamic=False)
        arrays = [self.array(v) for v in values]

        def call() -> Any:
            with self.module.no_grad():
                gradient, value = f(*arrays)
                return value, gradient

        return call


class JAXEngine(Engine):
    """`jax.jit`."""

    name = "JAX jit"
    package = "jax"
    jit = True

    def __init__(self) -> None:
        super().__init__()
        numpy, nn = importlib.import_module("jax.numpy"), self.module.nn
        words = {name: getattr(numpy, name) for name in ("exp", "log", "tanh", "sin", "sqrt")}
        self.words = SimpleNamespace(
            relu=nn.relu, sigmoid=nn.sigmoid, log_softmax=nn.log_softmax, numpy=numpy, **words
        )

    def array(self, value: Any) -> Any:
        return self.words.numpy.asarray(value) if isinstance(value, np.ndarray) else value

    def _timed(self, f: Callable[..., Any], values: Sequence[Any]) -> Run:
        f, wait = self.module.jit(f), self.module.block_until_ready
        arrays = [self.array(v) for v in values]
        return lambda: wait(f(*arrays))

    def run(self, kernel: Kernel, values: Sequence[Any]) -> Run:
        return self._timed(lambda *arrays: kernel(self.words, *arrays), values)

    def gradient(self, kernel: Kernel, values: Sequence[Any]) -> Run:
        both = self.module.value_and_grad(lambda *arrays: kernel(self.words, *arrays))
        return self._timed(both, values)


ENGINES: tuple[type[Engine], ...] = (
    ChainruleEngine, NumPyEngine, TorchEngine, TorchCompiled, JAXEngine,
)  # fmt: skip


def engines(wanted: Sequence[str]) -> tuple[list[Engine], list[str]]:
    """The engines that are there, and the names of those that are not."""
    found, missing = [], []
    for kind in ENGINES:
        if kind.name in wanted:
            try:
                found.append(kind())
            except ImportError:
                missing.append(kind.name)
    return found, missing


def cross_entropy(engine: Engine) -> Kernel:
    """(logits, labels) ↦ the mean of −log softmax at the labels, in the engine's quickest words."""
    if engine.package == "torch":
        return lambda m, z, y: m.nn.functional.cross_entropy(z, y)
    if engine.package == "jax":
        return lambda m, z, y: (
            -m.numpy.mean(m.numpy.take_along_axis(m.log_softmax(z), y[:, None], 1))
        )
    return lambda m, z, y: m.losses.softmax_cross_entropy(z, y)


def plain(value: Any) -> Any:
    """A library's array as NumPy's."""
    return np.asarray(value.detach() if hasattr(value, "detach") else value)
