"""Recurrent layers: a cell unrolled over time, so that backward is the engine's own loop.

The parameters are the same at each step, so they branch in the circuit, and their gradients add up
over time: backpropagation through time is nothing else. X is (rows, time, features).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from ..circuit import Tensor
from ..circuit import vocabulary as ops
from ..errors import ShapeError, quoted
from ..ops import constant
from .base import count
from .cells import GRUCell as _GRUCell
from .cells import LSTMCell as _LSTMCell
from .cells import (
    Recurrent,
    State,
    finite_bias,
    gru_step,
    lstm_step,
    relu_step,
    start,
    tanh_step,
)
from .layers import Dropout
from .module import Shape

__all__ = ["GRU", "LSTM", "RNN", "Unrolled"]


class Unrolled(Recurrent):
    """What LSTM, GRU and RNN share: layers of cells, one after the other, over all steps."""

    arguments: ClassVar[tuple[str, ...]] = (
        "input_size", "hidden_size", "num_layers", "bias", "dropout", "bidirectional",
        "return_sequences", "padding_value", "dtype",
    )  # fmt: skip

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True,
        batch_first: bool = True, dropout: float = 0.0, bidirectional: bool = False, *,
        return_sequences: bool = False, padding_value: float | None = None,
        seed: int | None = None, dtype: Any = np.float32,
    ) -> None:  # fmt: skip
        kind = type(self).__name__
        if batch_first is not True:
            raise ValueError(
                f"{kind}: X is (rows, time, features) here, as fit takes batches of rows; leave out"
                " batch_first, and turn data of (time, rows, features) by X.transpose(1, 0, 2)"
            )
        if not 0 <= dropout < 1:
            raise ValueError(f"{kind}: dropout must be from 0 to below 1, got {quoted(dropout)}")
        self.symbols = {}  # type: ignore[misc]
        self._sizes(input_size, hidden_size, bias)
        self.num_layers = count("num_layers", num_layers)
        self.dropout, self.bidirectional = float(dropout), bool(bidirectional)
        self.return_sequences = bool(return_sequences)
        self.padding_value = None if padding_value is None else float(padding_value)
        for layer in range(self.num_layers):
            inputs = self.input_size if layer == 0 else self._width
            for suffix in self._suffixes(layer):
                self._add(suffix, inputs, dtype)
        self._begin(seed)
        if dropout and self.num_layers > 1:
            self.between = Dropout(self.dropout)

    @property
    def _width(self) -> int:
        """Units that a step gives: of both directions."""
        return self.hidden_size * (1 + self.bidirectional)

    def _suffixes(self, layer: int) -> list[str]:
        """What ends the names of a layer's parameters, for each direction."""
        return [f"_l{layer}", f"_l{layer}_reverse"][: 1 + self.bidirectional]

    def config(self) -> dict[str, Any]:
        return {**super().config(), "padding_value": self.padding_value}

    # -- through time -------------------------------------------------------------------------

    def forward(self, x: Any) -> Any:
        outputs, states = self._run(x, None, None)
        if self.return_sequences:
            return ops.stack(outputs, axis=1)
        return side_by_side([state[0] for state in states[-1 - self.bidirectional :]])

    def unroll(self, x: Any, initial: Any = None, *, lengths: Any = None) -> tuple[Any, Any]:
        """(output, h) or, for an LSTM, (output, (h, c)): all steps, and the state behind the last.

        `output` is (n, time, units), h and c are (layers · directions, n, hidden_size), as PyTorch
        gives them with batch_first=True. `initial` is such a state (zeros by default). `lengths`
        (n,) says how many steps of each row there are: behind them the state stays as it is and
        the output is 0 (or `padding_value`). For the last states alone call the layer itself.

        Raises `ShapeError` where X, the state or `lengths` does not fit.
        """
        self._demand_sequences(np.shape(x))
        x = x if isinstance(x, Tensor) else constant(np.asarray(x, self.dtype))
        outputs, states = self._run(x, self._given(initial, x), lengths)
        found = tuple(ops.stack(part, axis=0) for part in zip(*states, strict=True))
        return ops.stack(outputs, axis=1), found if self.states > 1 else found[0]

    def _run(self, x: Any, initial: list[State] | None, lengths: Any) -> tuple[list[Any], Any]:
        """The last layer's outputs by time, and the last state of each layer and direction."""
        self._demand_sequences(x.shape)
        steps = range(x.shape[1])
        alive = self._alive(x, lengths)
        xs = [x[:, t] for t in steps]
        if alive is not None:  # what stands behind a row's end never enters, be it NaN or infinite
            xs = [ops.where(here, one, 0.0) for here, one in zip(alive, xs, strict=True)]
        zero = start((x.shape[0], self.hidden_size), x.dtype)
        states: list[State] = []
        for layer in range(self.num_layers):
            if layer and self.dropout:
                xs = [self.between(x) for x in xs]
            sides = []
            for suffix in self._suffixes(layer):
                state = (zero,) * self.states if initial is None else initial[len(states)]
                side, state = self._direction(xs, state, suffix, alive)
                sides.append(side)
                states.append(state)
            xs = [side_by_side(several) for several in zip(*sides, strict=True)]
        if alive is not None:
            rest = self.padding_value or 0.0
            xs = [ops.where(here, one, rest) for here, one in zip(alive, xs, strict=True)]
        return xs, states

    def _direction(
        self, xs: list[Any], state: State, suffix: str, alive: list[Any] | None
    ) -> tuple[list[Any], State]:
        """One layer in one direction: its hidden states by time, and its last state."""
        weights, tail = self.weights(suffix), suffix.removeprefix("_l0")
        found: list[Any] = [None] * len(xs)
        order = range(len(xs))
        for t in reversed(order) if suffix.endswith("reverse") else order:
            new = self._step(xs[t], state, weights, f"_{t + 1}{tail}")
            if alive is not None:  # selected: the rows that have ended keep their state
                new = tuple(ops.where(alive[t], a, b) for a, b in zip(new, state, strict=True))
            state = new
            found[t] = state[0]
        return found, state

    def _step(self, x: Any, state: State, weights: Any, suffix: str) -> State:
        return self.step(x, state, weights, suffix)

    # -- what is given ------------------------------------------------------------------------

    def _alive(self, x: Any, lengths: Any) -> list[Any] | None:
        """For each step the rows (n, 1) that it belongs to; None where all rows are whole."""
        n, time = x.shape[:2]
        if lengths is not None:
            return self._within(lengths, n, time)
        if self.padding_value is None:
            return None
        differs = ops.astype(ops.not_equal(x, self.padding_value), x.dtype)
        real = ops.greater(ops.sum(differs, axis=-1, keepdims=True), 0.0)
        return [real[:, t] for t in range(time)]

    def _within(self, lengths: Any, n: int, time: int) -> list[Any]:
        found = np.asarray(lengths.value if isinstance(lengths, Tensor) else lengths)
        if found.shape != (n,) or found.dtype.kind not in "iu":
            raise ShapeError(
                f"{self._where()}: lengths must be {n} whole numbers, one for each row, got"
                f" {found.dtype} of shape {found.shape}"
            )
        if n and not (found.min() >= 1 and found.max() <= time):
            raise ShapeError(
                f"{self._where()}: lengths must be from 1 to the {time} steps of X, got"
                f" {found.min()} to {found.max()}"
            )
        return [(t < found)[:, None] for t in range(time)]

    def _given(self, initial: Any, x: Any) -> list[State] | None:
        """An initial state by layer and direction."""
        if initial is None:
            return None
        parts = initial if self.states > 1 else (initial,)
        shape = (self.num_layers * (1 + self.bidirectional), x.shape[0], self.hidden_size)
        shapes = [np.shape(p) for p in parts] if isinstance(parts, (tuple, list)) else [()]
        if shapes != [shape] * self.states:
            what = "a state h" if self.states == 1 else "a pair (h, c), each"
            raise ShapeError(f"{self._where()}: expected {what} of shape {shape}, got {shapes}")
        parts = [p if isinstance(p, Tensor) else constant(np.asarray(p, x.dtype)) for p in parts]
        return [tuple(p[k] for p in parts) for k in range(shape[0])]

    def _demand_sequences(self, shape: Shape) -> None:
        if len(shape) != 3 or not shape[1]:
            raise ShapeError(
                f"{self._where()}: expected (rows, time, features) with at least one step of time,"
                f" got shape {tuple(shape)}"
            )
        self._demand_features(shape, self.input_size)

    def output_shape(self, shape: Shape | None) -> Shape | None:
        if shape is not None:
            self._demand_sequences((1, *shape))
        if not self.return_sequences:
            return (self._width,)
        return None if shape is None else (shape[0], self._width)


def side_by_side(parts: Sequence[Any]) -> Any:
    """What each direction gives, in one last axis."""
    return parts[0] if len(parts) == 1 else ops.concatenate(parts, axis=-1)


class LSTM(Unrolled):
    """x ↦ h of the last step, of h = o⊙tanh(c), c = f⊙c₋ + i⊙g: long memory behind sigmoid gates.

    X is (rows, time, input_size): rows first, as `fit` takes them (PyTorch's default is time
    first). Gives the last hidden state (n, hidden_size), or that of every step (n, time,
    hidden_size) with `return_sequences=True`, as a layer above needs it; `unroll` gives both, and
    takes an initial state. `bidirectional=True` reads backwards too and puts both side by side.

    Parameters are PyTorch's, so its state dicts fit: `weight_ih_l0` W (4·hidden_size, input_size),
    `weight_hh_l0` U (4·hidden_size, hidden_size), `bias_ih_l0` b, `bias_hh_l0` b′, rows in the
    order input, forget, candidate, output; then `_l0_reverse`, `_l1`, …. All start uniform on
    (−1/√H, 1/√H); `forget_bias` (1.0 is common) starts the forget gates' b + b′ at that number.
    `dropout` drops between layers. A step whose features all are `padding_value` is skipped: the
    state stays, the output there is `padding_value`.

    Raises `ShapeError` for X of another rank, without steps, or with other features.

    >>> layer = LSTM(2, 3, seed=0)
    >>> layer(np.ones((5, 4, 2))).shape, LSTM(2, 3, return_sequences=True)(np.ones((5, 4, 2))).shape
    ((5, 3), (5, 4, 3))
    >>> output, (h, c) = layer.unroll(np.ones((5, 4, 2)))
    >>> output.shape, h.shape, bool((h[0].numpy() == layer(np.ones((5, 4, 2))).numpy()).all())
    ((5, 4, 3), (1, 5, 3), True)

    Source: Hochreiter and Schmidhuber 1997; Gers, Schmidhuber and Cummins 2000.
    """

    gates = _LSTMCell.gates
    states = 2
    step = staticmethod(lstm_step)

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True,
        batch_first: bool = True, dropout: float = 0.0, bidirectional: bool = False, *,
        return_sequences: bool = False, padding_value: float | None = None,
        forget_bias: float | None = None, seed: int | None = None, dtype: Any = np.float32,
    ) -> None:  # fmt: skip
        self.forget_bias = finite_bias(forget_bias)
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional,
            return_sequences=return_sequences, padding_value=padding_value, seed=seed, dtype=dtype,
        )  # fmt: skip


class GRU(Unrolled):
    """x ↦ h of the last step, of h = (1 − z)⊙n + z⊙h₋: memory with one state and three gates.

    r, z = σ(W·x + b + U·h₋ + b′), n = tanh(W·x + b + r⊙(U·h₋ + b′)). Arguments, shapes and
    errors as `LSTM`'s; rows of the parameters in the order reset, update, candidate.

    >>> GRU(2, 3)(np.ones((5, 4, 2))).shape
    (5, 3)

    Source: Cho et al. 2014; r inside the product, as PyTorch has it.
    """

    gates = _GRUCell.gates
    step = staticmethod(gru_step)


class RNN(Unrolled):
    """x ↦ h of the last step, of h = tanh(W·x + b + U·h₋ + b′); relu with `nonlinearity="relu"`.

    Arguments, shapes and errors as `LSTM`'s. Its gradient is multiplied by Uᵀ·tanh′ at each step
    back, so it vanishes or explodes over long lags; see `LSTM`.

    >>> RNN(2, 3)(np.ones((5, 4, 2))).shape
    (5, 3)

    Source: Elman 1990.
    """

    arguments = (*Unrolled.arguments[:3], "nonlinearity", *Unrolled.arguments[3:])
    gates = ("hidden",)
    _steps: ClassVar[dict[str, Any]] = {"tanh": tanh_step, "relu": relu_step}

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, nonlinearity: str = "tanh",
        bias: bool = True, batch_first: bool = True, dropout: float = 0.0,
        bidirectional: bool = False, *, return_sequences: bool = False,
        padding_value: float | None = None, seed: int | None = None, dtype: Any = np.float32,
    ) -> None:  # fmt: skip
        if nonlinearity not in self._steps:
            raise ValueError(f"RNN: nonlinearity is 'tanh' or 'relu', not {quoted(nonlinearity)}")
        self.nonlinearity = nonlinearity
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional,
            return_sequences=return_sequences, padding_value=padding_value, seed=seed, dtype=dtype,
        )  # fmt: skip

    def _step(self, x: Any, state: State, weights: Any, suffix: str) -> State:
        return self._steps[self.nonlinearity](x, state, weights, suffix)  # type: ignore[no-any-return]
