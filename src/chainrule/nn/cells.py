"""Recurrent cells: one step of time as a circuit of named gates, from which the layers unroll.

Parameters have PyTorch's names, shapes and order of gates, so that its state dicts fit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from ..circuit import Parameter, Tensor
from ..circuit import vocabulary as ops
from ..errors import ShapeError
from ..ops import constant
from .base import Layer, count, floating
from .module import Shape
from .sequential import generator

__all__ = ["Cell", "GRUCell", "LSTMCell", "RNNCell", "Recurrent", "Weights"]

State = tuple[Any, ...]  # the hidden state, and an LSTM's cell state behind it
Weights = tuple[Any, Any, Any, Any]  # Wᵀ, Uᵀ, b, b′; the biases None where there are none
LETTERS = {"weight_ih": "W", "weight_hh": "U", "bias_ih": "b", "bias_hh": "b_h"}


def named(tensor: Any, name: str) -> Any:
    """The fresh result of an operation, under its textbook name."""
    tensor.name = name
    return tensor


def _net(x: Any, h: Any, weights: Weights, suffix: str) -> Any:
    """net = W·x + U·h + b + b′ of all gates at once."""
    W, U, b, b_h = weights
    net = named(x @ W, f"net_ih{suffix}") + named(h @ U, f"net_hh{suffix}")
    return named(net if b is None else net + (b + b_h), f"net{suffix}")


def _parts(net: Any, names: Sequence[str], units: int, suffix: str) -> list[Any]:
    """The gates' nets, beside each other in the last axis of `net`."""
    return [
        named(net[..., k * units : (k + 1) * units], f"net_{name}{suffix}")
        for k, name in enumerate(names)
    ]


# -- one step of each kind ----------------------------------------------------------------------


def lstm_step(x: Any, state: State, weights: Weights, suffix: str = "") -> State:
    """c = f⊙c₋ + i⊙g and h = o⊙tanh(c), with i, f, o = σ(net) and g = tanh(net)."""
    h, c = state
    nets = _parts(_net(x, h, weights, suffix), LSTMCell.gates, h.shape[-1], suffix)
    enter, forget = named(ops.sigmoid(nets[0]), f"input{suffix}"), ops.sigmoid(nets[1])
    candidate = named(ops.tanh(nets[2]), f"candidate{suffix}")
    leave = named(ops.sigmoid(nets[3]), f"output{suffix}")
    kept = named(forget, f"forget{suffix}") * c
    cell = named(kept + enter * candidate, f"cell{suffix}")
    told = named(ops.tanh(cell), f"tanh_cell{suffix}")
    return named(leave * told, f"hidden{suffix}"), cell


def gru_step(x: Any, state: State, weights: Weights, suffix: str = "") -> State:
    """h = (1 − z)⊙n + z⊙h₋; r, z = σ(W·x + b + U·h₋ + b′), n = tanh(W·x + b + r⊙(U·h₋ + b′))."""
    (h,), (W, U, b, b_h) = state, weights
    units = h.shape[-1]
    given, fed_back = named(x @ W, f"net_ih{suffix}"), named(h @ U, f"net_hh{suffix}")
    if b is not None:
        given, fed_back = given + b, fed_back + b_h
    shared = named(given[..., : 2 * units] + fed_back[..., : 2 * units], f"net{suffix}")
    nets = _parts(shared, GRUCell.gates[:2], units, suffix)
    reset = named(ops.sigmoid(nets[0]), f"reset{suffix}")
    update = named(ops.sigmoid(nets[1]), f"update{suffix}")
    net = given[..., 2 * units :] + reset * fed_back[..., 2 * units :]
    candidate = named(ops.tanh(named(net, f"net_candidate{suffix}")), f"candidate{suffix}")
    return (named((1 - update) * candidate + update * h, f"hidden{suffix}"),)


def tanh_step(x: Any, state: State, weights: Weights, suffix: str = "") -> State:
    """h = tanh(W·x + b + U·h₋ + b′)."""
    return (named(ops.tanh(_net(x, state[0], weights, suffix)), f"hidden{suffix}"),)


def relu_step(x: Any, state: State, weights: Weights, suffix: str = "") -> State:
    """h = relu(W·x + b + U·h₋ + b′)."""
    return (named(ops.relu(_net(x, state[0], weights, suffix)), f"hidden{suffix}"),)


# -- what cells and layers share ----------------------------------------------------------------


class Recurrent(Layer):
    """Parameters of cells, drawn as PyTorch draws them: uniform on (−1/√H, 1/√H), biases too.

    From `default_rng([seed, i])` in a `Sequential(seed=)`, where i counts the layers with
    parameters, else from `default_rng([seed, 0])` or fresh entropy; in float64, in the order and
    the shape in which they are stored.
    """

    gates: ClassVar[tuple[str, ...]]  # in the order of the rows of a weight
    states: ClassVar[int] = 1  # an LSTM carries two
    input_size: int
    hidden_size: int
    bias: bool
    forget_bias: float | None = None
    _drawn: set[str]

    def _sizes(self, input_size: int, hidden_size: int, bias: bool) -> None:
        self.input_size = count("input_size", input_size)
        self.hidden_size = count("hidden_size", hidden_size)
        self.bias = bool(bias)

    def _add(self, suffix: str, inputs: int, dtype: Any) -> None:
        """The parameters of one more cell, as zeros until they are drawn."""
        units = self.hidden_size
        rows = len(self.gates) * units
        shapes: dict[str, Shape] = {"weight_ih": (rows, inputs), "weight_hh": (rows, units)}
        if self.bias:
            shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
        for word, shape in shapes.items():
            name = symbol = word + suffix
            if suffix in ("", "_l0"):
                symbol = self.symbols[name] = LETTERS[word]
            setattr(self, name, Parameter(np.zeros(shape, floating(dtype)), name=symbol))

    def _begin(self, seed: int | None) -> None:
        """Draw everything; what no seed was given for, a `Sequential(seed=)` draws again."""
        rng, limit = generator(seed, 0), self.hidden_size**-0.5
        for name, parameter in self._members.items():
            if isinstance(parameter, Parameter):
                start = rng.uniform(-limit, limit, parameter.shape)
                parameter.value = self._opened(name, start).astype(parameter.dtype)
        names = {k for k, p in self._members.items() if isinstance(p, Parameter)}
        self._drawn = names if seed is None else set()

    def _opened(self, name: str, start: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """A bias whose forget gates begin at `forget_bias`, all of it in the first of the two."""
        if self.forget_bias is not None and name.startswith("bias"):
            units = self.hidden_size
            own = self.forget_bias if name.startswith("bias_ih") else 0.0
            start[units : 2 * units] = own
        return start

    def draw(self, rng: np.random.Generator) -> None:
        """Draw again, for good, what was not changed since it was first drawn."""
        limit = self.hidden_size**-0.5
        for name in [k for k in self._members if k in self._fresh()]:
            parameter = getattr(self, name)
            parameter.rebind(self._opened(name, rng.uniform(-limit, limit, parameter.shape)))

    def _fresh(self) -> set[str]:
        return {k for k in self._drawn if getattr(getattr(self, k), "updated", 1) == 0}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_drawn": self._fresh()}  # a copy's parameters count as new

    def weights(self, suffix: str = "") -> Weights:
        """Wᵀ, Uᵀ, b and b′ of one cell, as a step takes them."""
        b, b_h = (
            (getattr(self, f"bias_ih{suffix}"), getattr(self, f"bias_hh{suffix}"))
            if self.bias
            else (None, None)
        )
        return getattr(self, f"weight_ih{suffix}").T, getattr(self, f"weight_hh{suffix}").T, b, b_h

    @staticmethod
    def step(x: Any, state: State, weights: Weights, suffix: str = "") -> State:
        """The state after one more x."""
        raise NotImplementedError


def finite_bias(value: Any) -> float | None:
    """`forget_bias` as a plain number, or None."""
    if value is None:
        return None
    if not math.isfinite(value):
        raise ValueError(f"forget_bias must be a finite number or None, got {value}")
    return float(value)


# -- the cells ----------------------------------------------------------------------------------


class Cell(Recurrent):
    """What the cells share: `cell(x, state)` is one step, x of shape (n, input_size)."""

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, *, seed: int | None = None,
        dtype: Any = np.float32,
    ) -> None:  # fmt: skip
        self.symbols = {}  # type: ignore[misc]
        self._sizes(input_size, hidden_size, bias)
        self._add("", self.input_size, dtype)
        self._begin(seed)

    arguments = ("input_size", "hidden_size", "bias", "dtype")

    def __call__(self, x: Any, *state: Any) -> Any:
        """The new state, for `cell(x)`, `cell(x, h)` or `cell(x, (h, c))`; from zeros without."""
        if len(state) == 1 and (state[0] is None or isinstance(state[0], tuple)):
            state = state[0] or ()
        if len(state) not in (0, self.states):
            raise TypeError(f"{self._where()}: the state is {self.states} arrays, got {len(state)}")
        new: Any = super().__call__(x, *state)
        return new

    def forward(self, x: Any, *state: Any) -> Any:
        self._demand_features(x.shape, self.input_size)
        shape = (*x.shape[:-1], self.hidden_size)
        state = state or tuple(start(shape, x.dtype) for _ in range(self.states))
        for part in state:
            if part.shape != shape:
                raise ShapeError(f"{self._where()}: expected a state {shape}, got {part.shape}")
        new = self.step(x, state, self.weights())
        return new[0] if self.states == 1 else new

    def output_shape(self, shape: Shape | None) -> Shape | None:
        if shape is not None:
            self._demand_features(shape, self.input_size)
        return (*(shape or (0,))[:-1], self.hidden_size)


def start(shape: Shape, dtype: Any) -> Tensor:
    """The state before the first step: zeros."""
    zeros = np.zeros(shape, dtype)
    zeros.flags.writeable = False
    found: Tensor = named(constant(zeros), "zeros")
    return found


class LSTMCell(Cell):
    """One step of an LSTM: c′ = f⊙c + i⊙g and h′ = o⊙tanh(c′).

    i, f, o = σ(W·x + b + U·h + b′) and g = tanh(W·x + b + U·h + b′), each with its own rows.
    `cell(x, (h, c))` gives (h′, c′), each (n, hidden_size); without a state it starts from zeros.
    Parameters are PyTorch's: `weight_ih` (4·hidden_size, input_size) W, `weight_hh` U, `bias_ih` b
    and `bias_hh` b′, rows in the order i, f, g, o. `forget_bias` starts the forget gates' b + b′ at
    that number. In a circuit the gates are called input, forget, candidate and output.

    Raises `ShapeError` where x or the state does not fit.

    >>> import chainrule as cr
    >>> cell = LSTMCell(1, 1, dtype=np.float64, seed=0)
    >>> h, c = cell([[1.0]], cell([[0.5]]))
    >>> h.shape, [name for name in ("forget", "input") if name in str(cr.explain(c.sum()))]
    ((1, 1), ['forget', 'input'])

    Source: Hochreiter and Schmidhuber 1997; the forget gate: Gers, Schmidhuber and Cummins 2000.
    """

    gates = ("input", "forget", "candidate", "output")
    states = 2
    step = staticmethod(lstm_step)

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, *,
        forget_bias: float | None = None, seed: int | None = None, dtype: Any = np.float32,
    ) -> None:  # fmt: skip
        self.forget_bias = finite_bias(forget_bias)
        super().__init__(input_size, hidden_size, bias, seed=seed, dtype=dtype)


class GRUCell(Cell):
    """One step of a GRU: h′ = (1 − z)⊙n + z⊙h.

    r, z = σ(W·x + b + U·h + b′) and n = tanh(W·x + b + r⊙(U·h + b′)), each with its own rows.
    `cell(x, h)` gives h′ of shape (n, hidden_size). Parameters as `LSTMCell`'s, three gates in the
    order r, z, n, called reset, update and candidate in a circuit.

    >>> GRUCell(2, 3)([[1.0, 2.0]]).shape
    (1, 3)

    Source: Cho et al. 2014.
    """

    gates = ("reset", "update", "candidate")
    step = staticmethod(gru_step)


class RNNCell(Cell):
    """One step of a plain recurrent network: h′ = tanh(W·x + b + U·h + b′).

    `cell(x, h)` gives h′ of shape (n, hidden_size). Source: Elman 1990.

    >>> RNNCell(2, 3)([[1.0, 2.0]]).shape
    (1, 3)
    """

    gates = ("hidden",)
    step = staticmethod(tanh_step)
