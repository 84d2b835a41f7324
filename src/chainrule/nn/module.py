"""Module: a function with parameters. Everything a network can do is here; layers only compute."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from os import PathLike
from typing import Any, Self

import numpy as np

from ..circuit import Parameter, Reading, Tensor, enter_group, no_grad, refuse, state
from ..errors import ShapeError, UnknownNameError, listed
from ..ops import constant

__all__ = ["Module", "Parameter", "Shape", "frozen", "moved"]

Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]


class _Context(threading.local):
    """What holds for this thread only: values that stand in for parameters, and how to run."""

    given: Mapping[Any, Any] = {}
    evaluating: bool = False
    frozen: bool = False  # nothing is counted or averaged: the call is pure
    moved: dict[Any, Any] | None = None  # where a traced step leaves its buffers' new values


_context = _Context()


def frozen() -> bool:
    """Whether a pure call is running, in which no layer may count or average anything."""
    return _context.frozen


def moved() -> dict[Any, Any] | None:
    """The new values of buffers, by (id of the module, attribute), where a step is traced."""
    return _context.moved


@contextmanager
def evaluating() -> Iterator[None]:
    """Within, this thread sees every module in evaluation mode; no module is touched."""
    with _during(evaluating=True):
        yield


@contextmanager
def _during(**changes: Any) -> Iterator[None]:
    before = {name: getattr(_context, name) for name in changes}
    _context.__dict__.update(changes)
    try:
        yield
    finally:
        _context.__dict__.update(before)


class Module:
    """A function with parameters: write `forward`, assign Parameters and Modules as attributes.

    They are registered in the order of assignment under their attributes' names, so a Module knows
    its parameters, saves and loads them and nests. `model(X)` calls `forward`; a plain `X` is cast
    to the parameters' dtype first (a tensor is left as it is), and the result is a tensor.

    >>> import numpy as np
    >>> from chainrule import nn
    >>> class Scale(nn.Module):
    ...     def __init__(self):
    ...         self.factor = nn.Parameter(np.float64(3.0))
    ...     def forward(self, x):
    ...         return self.factor * x
    >>> Scale()([1.0, 2.0]).numpy()
    array([3., 6.])
    """

    # A module that uses whole numbers as such (an embedding) sets this: they are not cast then.
    takes_integers: bool = False

    _members: dict[str, Parameter | Module]
    _buffers: dict[str, Array]
    _training: bool
    extra: dict[str, Any]

    def __new__(cls, *args: Any, **keywords: Any) -> Self:
        module = super().__new__(cls)
        module.__dict__.update(_members={}, _buffers={}, _training=True, extra={})
        return module

    def __init__(self) -> None:
        """Takes nothing; a subclass need not call it."""

    # -- attributes ---------------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, (Parameter, Module)):
            self.__dict__.pop(name, None)
            self._members[name] = value
            return
        if name in self._members:
            if value is not None:
                raise TypeError(
                    f"'{name}' is a {type(self._members[name]).__name__}; give it a new value with"
                    f" .{name}.rebind(array), another Parameter or Module, or None to remove it"
                )
            del self._members[name]
        elif name in self._buffers:
            self._buffers[name] = np.array(value, dtype=self._buffers[name].dtype)
            return
        elif isinstance(value, (list, tuple)) and any(
            isinstance(x, (Parameter, Module)) for x in value
        ):
            raise TypeError(
                f"'{name}' is a {type(value).__name__} of modules or parameters, which would not be"
                " trained or saved; use nn.Sequential, or an attribute for each"
            )
        object.__setattr__(self, name, value)

    def __getattr__(self, name: str) -> Any:
        own = self.__dict__
        if name in own["_members"]:
            member = own["_members"][name]
            return _context.given.get(member, member) if _context.given else member
        if name in own["_buffers"]:
            buffer = own["_buffers"][name]
            if state.compiling:  # a program looks it up at each call
                buffer = Reading(lambda: own["_buffers"][name], name=name)
            return _context.given.get((id(self), name), buffer) if _context.given else buffer
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")

    def __delattr__(self, name: str) -> None:
        for registered in (self._members, self._buffers):
            if name in registered:
                del registered[name]
                return
        object.__delattr__(self, name)

    def __dir__(self) -> Iterable[str]:
        return [*super().__dir__(), *self._members, *self._buffers]

    def register_buffer(self, name: str, value: Any) -> None:
        """Keep an array that is saved with the parameters but not trained."""
        self.__dict__.pop(name, None)
        self._buffers[name] = np.array(value)

    # -- walking ------------------------------------------------------------------------------

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """This module under the name "", then all inside it, each once, in order."""
        seen: set[int] = set()
        waiting: list[tuple[str, Module]] = [(prefix, self)]
        while waiting:
            name, module = waiting.pop()
            if id(module) in seen:
                continue
            seen.add(id(module))
            yield name, module
            inner = [(k, m) for k, m in module._members.items() if isinstance(m, Module)]
            waiting += [(f"{name}.{k}" if name else k, m) for k, m in reversed(inner)]

    def modules(self) -> Iterator[Module]:
        """This module, then all inside it, each once, in order."""
        return (module for _, module in self.named_modules())

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """("0.weight", parameter) and so on, in order of assignment; a shared one once."""
        seen: set[Parameter] = set()
        for name, parameter in _walk(self, "", set()):
            if parameter not in seen:
                seen.add(parameter)
                yield name, parameter

    def parameters(self) -> Iterator[Parameter]:
        """The parameters in order; a shared one once."""
        return (parameter for _, parameter in self.named_parameters())

    def named_buffers(self) -> Iterator[tuple[str, Array]]:
        """("1.running_mean", array) and so on: what is saved but not trained."""
        for name, (module, attribute) in self._buffer_places().items():
            yield name, module._buffers[attribute]

    def _buffer_places(self) -> dict[str, tuple[Module, str]]:
        return {
            f"{prefix}.{name}" if prefix else name: (module, name)
            for prefix, module in self.named_modules()
            for name in module._buffers
        }

    @property
    def dtype(self) -> np.dtype[Any] | None:
        """The dtype of the first parameter, which plain inputs are cast to; None without one."""
        for parameter in self.parameters():
            found: np.dtype[Any] = _context.given.get(parameter, parameter).dtype
            return found
        return None

    # -- values -------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Array]:
        """A copy of every parameter and buffer by name, parameters first."""
        values = {name: np.array(p.value) for name, p in self.named_parameters()}
        values.update({name: np.array(value) for name, value in self.named_buffers()})
        return values

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the values of a `state_dict`, cast to this module's dtypes.

        Raises `UnknownNameError` where a name is missing or unexpected and `ShapeError` where a
        shape differs; the one message names all of them, and nothing is changed.
        """
        own: dict[str, Any] = {**dict(self.named_parameters()), **dict(self.named_buffers())}
        self._take_over(own, state)

    def _take_over(self, own: Mapping[str, Any], given: Mapping[str, Any]) -> None:
        """Set parameters and buffers, once all that is given is known to fit."""
        _demand_same(given, {name: value.shape for name, value in own.items()})
        new = {name: np.array(given[name], dtype=value.dtype) for name, value in own.items()}
        places = self._buffer_places()
        for name, value in own.items():
            if isinstance(value, Parameter):
                value.rebind(new[name])
            else:
                module, attribute = places[name]
                module._buffers[attribute] = new[name]

    def load_buffers(self, values: Mapping[str, Array]) -> None:
        """Set buffers by their names in `named_buffers`."""
        places = self._buffer_places()
        for name, value in values.items():
            module, attribute = places[name]
            module._buffers[attribute] = value

    @property
    def params(self) -> dict[str, Array]:
        """A copy of every parameter's value by name; assign such a dict to set them.

        In a function that is compiled the parameters themselves, which are read at each call.
        """
        if state.compiling:
            return dict(self.named_parameters())  # type: ignore[arg-type]
        return {name: np.array(p.value) for name, p in self.named_parameters()}

    @params.setter
    def params(self, values: Mapping[str, Any]) -> None:
        self._take_over(dict(self.named_parameters()), values)

    # -- calling ------------------------------------------------------------------------------

    def forward(self, *inputs: Any) -> Any:
        """What the module computes, from tensors to a tensor; every module defines it."""
        raise NotImplementedError(f"{type(self).__name__} has no forward method; define it")

    def __call__(self, *inputs: Any) -> Tensor:
        for x in inputs:
            if not isinstance(x, Tensor):
                dtype, whole = self.dtype, not self.takes_integers
                inputs = tuple([_as_tensor(x, dtype, whole) for x in inputs])
                break
        if any(isinstance(member, Module) for member in self._members.values()):
            return self.forward(*inputs)  # type: ignore[no-any-return]  # its parts label the nodes
        before = enter_group(type(self).__name__)
        try:
            out: Tensor = self.forward(*inputs)
        finally:
            state.group = before
        return out

    def apply(self, params: Mapping[str, Any], *inputs: Any) -> Tensor:
        """`model(X)` with other parameters: pure, and differentiable where they are tensors.

        `params` has an array or tensor for each name of `model.params`; a name of `named_buffers`
        may be given too. Nothing of the module changes: in training mode running averages stay,
        and dropout draws the mask of the present step (`reseed(seed, step=…)` chooses it).

        Raises as `load_state_dict` does.

        >>> import numpy as np, chainrule as cr
        >>> from chainrule import nn
        >>> model = nn.Linear(2, 1, weight=[[1.0, 2.0]], dtype=np.float64)
        >>> slope = cr.grad(lambda params: model.apply(params, [[3.0, 4.0]]).sum())(model.params)
        >>> slope["weight"]
        array([[3., 4.]])
        """
        with self.using(params), _during(frozen=True):
            return self(*inputs)

    @contextmanager
    def using(self, params: Mapping[str, Any]) -> Iterator[Self]:
        """Within, this thread computes with `params` in place of the module's own.

        As `apply`, but dropout and running averages move on, as in a step of training.
        """
        places: dict[str, Any] = dict(self.named_parameters())
        shapes = {name: parameter.shape for name, parameter in places.items()}
        for name, (module, attribute) in self._buffer_places().items():
            if name in params:
                places[name] = (id(module), attribute)
                shapes[name] = module._buffers[attribute].shape
        _demand_same(params, shapes)
        given = {
            places[name]: value if isinstance(value, Tensor) else constant(np.asarray(value), name)
            for name, value in params.items()
        }
        with _during(given={**_context.given, **given}):
            yield self

    @contextmanager
    def stepping(self, params: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """As `using`, for a step that is traced: the buffers' new values come out by name."""
        moved: dict[Any, Any] = {}
        found: dict[str, Any] = {}
        with self.using(params), _during(moved=moved):
            yield found
        for name, (module, attribute) in self._buffer_places().items():
            if name in params:
                found[name] = moved.get((id(module), attribute), params[name])

    def predict(self, X: Any, batch_size: int | None = None) -> Array:
        """The raw outputs for X as a plain array, in evaluation mode and without recording.

        `batch_size` rows at a time, so that memory stays small; all at once where it is None. The
        module's own mode is not touched.

        >>> from chainrule import nn
        >>> nn.Linear(1, 1, weight=[[2.0]]).predict([[1.0], [3.0]], batch_size=1)
        array([[2.],
               [6.]], dtype=float32)
        """
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        if state.compiling:
            raise refuse(".predict()", "it gives a plain array; call the model itself")
        rows = X.value if isinstance(X, Tensor) else np.asarray(X)
        with no_grad(), _during(evaluating=True):
            if batch_size is None or np.ndim(rows) == 0 or len(rows) <= batch_size:
                return np.array(_value(self(rows)))
            starts = range(0, len(rows), batch_size)
            return np.concatenate([_value(self(rows[k : k + batch_size])) for k in starts])

    # -- modes --------------------------------------------------------------------------------

    @property
    def training(self) -> bool:
        """Whether dropout drops and batches are normalised by themselves; see `train`, `eval`."""
        return self._training and not _context.evaluating

    @training.setter
    def training(self, mode: bool) -> None:
        self._training = bool(mode)

    def train(self, mode: bool = True) -> Self:
        """Training mode, here and in all modules inside; returns the module."""
        for module in self.modules():
            module._training = bool(mode)
        return self

    def eval(self) -> Self:
        """Evaluation mode, here and in all modules inside; returns the module."""
        return self.train(False)

    def reseed(self, seed: int, step: int = 0) -> Self:
        """Start the randomness of dropout again from `seed`, at its `step`-th call."""
        random = [m for m in self.modules() if hasattr(m, "restart")]
        for number, module in enumerate(random):
            module.restart(seed, number, step)
        return self

    # -- describing and saving ----------------------------------------------------------------

    def output_shape(self, shape: Shape | None) -> Shape | None:
        """The shape of one sample's output, given its input's; None where it is not known."""
        return None

    def summary(self, input_shape: int | Iterable[int] | None = None) -> str:
        """A table of the layers with their output shapes and their numbers of parameters.

        `input_shape` is the shape of one sample, such as 64 or (8, 8), without the batch axis n.

        >>> from chainrule import nn
        >>> print(nn.Sequential(nn.Linear(64, 32), nn.Maxout(32, 10)).summary())
        layer  type            output   parameters
        0      Linear(64, 32)  (n, 32)       2,080
        1      Maxout(32, 10)  (n, 10)         660 = 2 × 330
        total                                2,740
        """
        from .summary import table

        return table(self, input_shape)

    def save(self, path: str | PathLike[str], *, overwrite: bool = True) -> None:
        """Write the architecture, the weights and `model.extra` to one .safetensors file.

        The file appears whole or not at all: an old one at `path` stays until the new one is safe
        on the disk. See `chainrule.load` and `chainrule.nn.storage`.
        """
        from .storage import save

        save(self, path, overwrite=overwrite)

    def __repr__(self) -> str:
        inner = [(k, m) for k, m in self._members.items() if isinstance(m, Module)]
        if not inner:
            return f"{type(self).__name__}()"
        lines = [f"({name}): {module!r}".replace("\n", "\n  ") for name, module in inner]
        return "\n  ".join([f"{type(self).__name__}(", *lines]) + "\n)"


def _walk(module: Module, prefix: str, above: set[int]) -> Iterator[tuple[str, Parameter]]:
    """Parameters in order of assignment, those of inner modules in their modules' places."""
    if id(module) in above:
        return
    for name, member in module._members.items():
        if isinstance(member, Parameter):
            yield prefix + name, member
        else:
            yield from _walk(member, f"{prefix}{name}.", above | {id(module)})


def _value(out: Any) -> Array:
    return np.asarray(out.value if isinstance(out, Tensor) else out)


def _as_tensor(x: Any, dtype: np.dtype[Any] | None, whole: bool) -> Tensor:
    """A plain input as a constant of the circuit, in the parameters' dtype."""
    if isinstance(x, Tensor):
        return x
    array = np.asarray(x)
    castable = array.dtype.kind in ("fiub" if whole else "f")
    if dtype is not None and castable and array.dtype != dtype:
        array = array.astype(dtype)
        array.setflags(write=False)  # ours alone, so that it is not copied again
    return constant(array, "the input")


def _demand_same(given: Mapping[str, Any], expected: Mapping[str, Shape]) -> None:
    """Raise one error that names every missing, unexpected and misshapen entry."""
    missing = [name for name in expected if name not in given]
    extra = [name for name in given if name not in expected]
    shapes = {k: np.shape(v.value if isinstance(v, Tensor) else v) for k, v in given.items()}
    wrong = [
        f"'{name}' has shape {shapes[name]}, expected {shape}"
        for name, shape in expected.items()
        if name in given and shapes[name] != shape
    ]
    faults = ["missing " + listed(missing)] if missing else []
    faults += ["unexpected " + listed(extra)] if extra else []
    faults += wrong[:20]
    if not faults:
        return
    kind: Callable[[str], Exception] = UnknownNameError if missing or extra else ShapeError
    raise kind(f"the values do not fit this module: {'; '.join(faults)}. Nothing was changed")
