"""compile: a function that runs as machine code, one program for each set of shapes."""

from __future__ import annotations

import functools
import itertools
import sys
import threading
import types
from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from typing import Any

import numpy as np

from ..circuit import Tensor, state
from .decompose import decompose
from .program import Program
from .report import Report, Stages, described
from .segments import runner, unsupported
from .simplify import simplify
from .threads import MOST_THREADS
from .trace import signature, trace

__all__ = ["Compiled", "compile", "unsupported"]

LIMIT = 64  # programs that one compiled function keeps


def compile(
    function: Callable[..., Any],
    *,
    strict: bool = False,
    threads: int | None = None,
    limit: int = LIMIT,
) -> Compiled:
    """The same function as machine code: traced at its first call, compiled for those shapes.

    Arguments and results are those of `function`: numbers, arrays, Modules, and trees of them.
    Other shapes or dtypes make another program, of which `limit` are kept, the latest used.
    Variables that the function closes over are read at each call; anything else that it closes over
    is built in as it is when traced, so pass a Module whose mode changes as an argument. What has
    no native form runs in NumPy, and `.report()` says so; with strict=True it raises `CompileError`
    instead. `threads` bounds the cores used, by default the variable CHAINRULE_THREADS or all.
    Without llvmlite everything runs in NumPy, with one warning. On tensors the function itself
    runs, so that what is compiled can be differentiated and be part of another compiled function.

    Raises `TraceError`, naming the line, where the function looks at a value while it is traced
    (`if`, `float()`, …).

    >>> import chainrule as cr
    >>> f = cr.compile(cr.grad(lambda x: cr.sum(x * x)))
    >>> f(np.array([1.0, 2.0]))
    array([2., 4.])
    """
    if not callable(function):
        raise TypeError(f"compile takes a function, not {type(function).__name__}")
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise ValueError(f"limit={limit!r}: how many programs are kept is a whole number from 1")
    if threads is not None and not (isinstance(threads, int) and 1 <= threads <= MOST_THREADS):
        raise ValueError(f"threads={threads!r}: a program runs on 1 to {MOST_THREADS} threads")
    return Compiled(function, strict, threads, limit)


class Compiled:
    """A function and its programs; calling it runs the one for the arguments' shapes."""

    def __init__(
        self,
        function: Callable[..., Any],
        strict: bool = False,
        threads: int | None = None,
        limit: int = LIMIT,
    ) -> None:
        self.function, self.strict, self.threads, self.limit = function, strict, threads, limit
        self.programs: dict[Any, Specialised] = {}
        self.dropped = 0  # programs that had to make room for others
        # Of calls with arrays and numbers alone: by the quick key, and the latest.
        self._flat: dict[Any, Specialised] = {}
        self._latest: Specialised | None = None
        self._clock = itertools.count(1).__next__
        self._lock = threading.Lock()
        functools.update_wrapper(self, function, updated=())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if state.compiling or state.depth:
            return self.function(*args, **kwargs)
        key = None
        if not kwargs:
            latest = self._latest
            if latest is not None and (outputs := latest.at_once(args)) is not None:
                latest.used = self._clock()
                return latest.rebuilt(outputs)
            key = _quick_key(args)
            made = self._flat.get(key) if key is not None else None
            if made is not None and not made.outgrown:
                made.used, self._latest = self._clock(), made
                return made.rebuilt(made.runner([*args, *[p.value for p in made.parameters]]))
        if _has_tensor((args, kwargs)):
            return self.function(*args, **kwargs)
        made = self._specialised(args, kwargs)
        if key is not None:
            with self._lock:
                if self.programs.get(made.key) is made:
                    self._flat[key] = self._latest = made
        return made(args, kwargs)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        """As a function in a class: a method."""
        return self if instance is None else types.MethodType(self, instance)

    def _specialised(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Specialised:
        """The program for these arguments, made where there is none."""
        key = signature(args, kwargs)
        made = self.programs.get(key)
        if made is None or made.outgrown:
            with self._lock:
                made = self.programs.get(key)
                if made is None or made.outgrown:
                    made = self.programs[key] = Specialised(self, key, args, kwargs)
                    self._flat, self._latest = {}, None
                    while len(self.programs) > self.limit:
                        oldest = min(self.programs, key=lambda k: self.programs[k].used)
                        del self.programs[oldest]
                        self.dropped += 1
        made.used = self._clock()
        return made

    def _of(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Specialised]:
        """The program for some arguments, or all where none are given."""
        if args or kwargs:
            return [self._specialised(args, kwargs)]
        return sorted(self.programs.values(), key=lambda one: one.used)

    def report(self, *args: Any, measure: bool = False, **kwargs: Any) -> Report:
        """What was compiled: for each program its kernels, what was fused into each, work, memory.

        With arguments, of the program for them, which is compiled if need be. With measure=True
        every kernel is timed on its own, against what the machine can do.
        """
        if args or kwargs:
            some = [self._specialised(args, kwargs)]
        else:
            some = sorted(self.programs.values(), key=lambda one: one.used)
        parts = [described(one.graph, one.runner, one.seconds, measure) for one in some]
        return Report(_name(self.function), parts, len(self.programs), self.limit, self.dropped)

    @property
    def stages(self) -> Stages:
        """The texts of every stage, from the circuit to the machine's code, of the latest program.

        `stages(*args)` are those of the program for these arguments.
        """
        latest = max(self.programs.values(), key=lambda one: one.used, default=None)
        if latest is None:
            return Stages(None, self._staged)
        return Stages((latest.traced.graph, latest.graph, latest.runner), self._staged)

    def _staged(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Stages:
        self._specialised(args, kwargs)
        return self.stages

    def __repr__(self) -> str:
        count = len(self.programs)
        return f"<compiled {_name(self.function)}: {count} of at most {self.limit} programs>"

    def __reduce__(self) -> Any:
        """A copy has no programs yet. What a module knows by its name is found there."""
        module = sys.modules.get(getattr(self.function, "__module__", None) or "")
        name = getattr(self.function, "__qualname__", "")
        found: Any = module
        for part in name.split("."):
            found = getattr(found, part, None)
        if found is self:
            return name
        return Compiled, (self.function, self.strict, self.threads, self.limit)


def _name(function: Any) -> str:
    return getattr(function, "__name__", None) or type(function).__name__


class Specialised:
    """The program for one signature."""

    def __init__(
        self, owner: Compiled, key: Any, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> None:
        self.key, self.used = key, owner._clock()
        start = perf_counter()
        self.traced = trace(owner.function, args, kwargs)
        self.parameters = self.traced.parameters
        self.kinds = [(p.shape, p.dtype) for p in self.parameters]
        self.graph = simplify(decompose(self.traced.graph))
        self.runner = runner(self.graph, owner.strict, owner.threads)
        # Not where a number is Python's: a 0-d array has its shape and dtype, but another meaning.
        weak = any(self.graph.nodes[k].params.get("weak") for k in self.graph.inputs)
        self.quick = isinstance(self.runner, Program) and not weak
        self.seconds = perf_counter() - start
        plain = self.traced.structure.__class__ is int and not self.traced.fixed
        self.single = plain and not any(self.traced.numbers)

    @property
    def outgrown(self) -> bool:
        """Whether a variable that the function closes over has another shape than when traced."""
        for parameter, kind in zip(self.parameters, self.kinds, strict=True):
            if (parameter.shape, parameter.dtype) != kind:
                return True
        return False

    def at_once(self, args: Sequence[Any]) -> list[Any] | None:
        """The outputs for arguments of which each is an input, where they need no preparation."""
        if not self.quick:
            return None
        if self.parameters:
            args = [*args, *[p.value for p in self.parameters]]
        return self.runner.at_once(args)  # type: ignore[union-attr]

    def __call__(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        return self.rebuilt(self.runner(self.traced.inputs(args, kwargs)))

    def rebuilt(self, outputs: list[Any]) -> Any:
        """The function's result with these values."""
        if self.single:
            x = outputs[0]
            return x if x.ndim else x[()]
        return self.traced.rebuilt([x if x.ndim else x[()] for x in outputs])


def _quick_key(args: Sequence[Any]) -> Any:
    """The signature of arguments that are all arrays and Python's numbers; None of others."""
    key: list[Any] = []
    for x in args:
        kind = x.__class__
        if kind is np.ndarray:
            key.append(x.shape)
            key.append(x.dtype)
        elif kind is float or kind is int:
            key.append(kind)
        else:
            return None
    return tuple(key)


def _has_tensor(tree: Any) -> bool:
    """Whether a tensor is among the arguments; a Module's parameters are its own affair."""
    if isinstance(tree, Tensor):
        return True
    if isinstance(tree, dict):
        return any(map(_has_tensor, tree.values()))
    return isinstance(tree, (list, tuple)) and any(map(_has_tensor, tree))
