"""The closed table of a model file: which layers it may name, with which arguments and tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from . import layers
from .base import Layer
from .embedding import EmbedColumns, segments
from .module import Shape
from .recurrent import GRU, LSTM, RNN
from .tensorfile import Refusal

__all__ = ["DTYPES", "KNOWN", "Spec"]

Config = Mapping[str, Any]
Tensors = dict[str, Shape]


def _size(value: Any) -> bool:
    return type(value) is int and 1 <= value < 2**31


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e300  # NaN and ∞ are not


def _share(value: Any) -> bool:
    return _number(value) and 0 <= value < 1


def _rate(value: Any) -> bool:
    return _number(value) and 0 <= value <= 1


def _positive(value: Any) -> bool:
    return _number(value) and value >= 0


def _axis(value: Any) -> bool:
    return type(value) is int and abs(value) <= 32


def _dtype(value: Any) -> bool:
    return value in DTYPES if isinstance(value, str) else False


def _lengths(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and 1 <= len(value) <= 32 and all(map(_size, value))


def _blocks(value: Any) -> bool:
    """Blocks of an EmbedColumns: in order and apart, which `_embedded` checks against the width."""
    if not isinstance(value, (list, tuple)) or not 1 <= len(value) <= 10_000:
        return False
    if not all(isinstance(b, (list, tuple)) and len(b) == 3 for b in value):
        return False
    return all(type(b[0]) is int and b[0] >= 0 and _size(b[1]) and _size(b[2]) for b in value)


DTYPES = {"float16": "F16", "float32": "F32", "float64": "F64"}


class Spec(NamedTuple):
    """A layer that a file may name.

    An argument that a layer was given after files with it had been written stands in `added` as
    well, with the value that those files mean.
    """

    kind: type[Layer]
    arguments: dict[str, Callable[[Any], bool]]
    tensors: Callable[[Config], Tensors] = lambda config: {}
    added: Config = MappingProxyType({})


def _affine(units: Callable[[Config], int]) -> Callable[[Config], Tensors]:
    def tensors(config: Config) -> Tensors:
        weight: Tensors = {"weight": (units(config), config["in_features"])}
        return {**weight, "bias": (units(config),)} if config["bias"] else weight

    return tensors


def _normalised(shape: Callable[[Config], Shape], *names: str) -> Callable[[Config], Tensors]:
    return lambda config: {name: shape(config) for name in ("weight", "bias", *names)}


def _embedded(config: Config) -> Tensors:
    try:
        segments(config["width"], config["blocks"])
    except ValueError as error:
        raise Refusal(f"is altered: {error}") from None
    return {f"table{k}": (block[1], block[2]) for k, block in enumerate(config["blocks"])}


def _recurrent(gates: int) -> Callable[[Config], Tensors]:
    """The parameters of each layer and direction, `gates` blocks of rows in each."""

    def tensors(config: Config) -> Tensors:
        units, sides = config["hidden_size"], 1 + config["bidirectional"]
        rows, found = gates * units, dict[str, Shape]()
        for layer in range(config["num_layers"]):
            inputs = units * sides if layer else config["input_size"]
            for end in (f"_l{layer}", f"_l{layer}_reverse")[:sides]:
                found |= {f"weight_ih{end}": (rows, inputs), f"weight_hh{end}": (rows, units)}
                if config["bias"]:
                    found |= {f"bias_ih{end}": (rows,), f"bias_hh{end}": (rows,)}
        return found

    return tensors


_RECURRENT: dict[str, Callable[[Any], bool]] = {
    "input_size": _size, "hidden_size": _size, "bias": _flag, "dropout": _share,
    "num_layers": lambda value: _size(value) and value <= 1000, "bidirectional": _flag,
    "return_sequences": _flag, "padding_value": lambda value: value is None or _number(value),
    "dtype": _dtype,
}  # fmt: skip
_LINEAR = {"in_features": _size, "bias": _flag, "dtype": _dtype}
_TABLE = [
    Spec(
        layers.Linear,
        {**_LINEAR, "out_features": _size},
        _affine(lambda config: config["out_features"]),
    ),
    Spec(
        layers.Maxout,
        {**_LINEAR, "out_features": _size, "pieces": _size},
        _affine(lambda config: config["out_features"] * config["pieces"]),
    ),
    Spec(
        layers.MulticlassSigmoid,
        {**_LINEAR, "classes": lambda value: _size(value) and value > 1, "reference": _flag},
        _affine(lambda config: config["classes"] - config["reference"]),
    ),
    Spec(
        layers.PReLU,
        {"num_parameters": _size, "init": _number, "dtype": _dtype},
        lambda config: {"weight": (config["num_parameters"],)},
    ),
    Spec(
        layers.BatchNorm1d,
        {"num_features": _size, "eps": _positive, "momentum": _rate, "dtype": _dtype},
        _normalised(lambda config: (config["num_features"],), "running_mean", "running_var"),
    ),
    Spec(
        layers.LayerNorm,
        {"normalized_shape": _lengths, "eps": _positive, "dtype": _dtype},
        _normalised(lambda config: tuple(config["normalized_shape"])),
    ),
    Spec(LSTM, _RECURRENT, _recurrent(4)),
    Spec(GRU, _RECURRENT, _recurrent(3)),
    Spec(
        RNN,
        {**_RECURRENT, "nonlinearity": lambda value: value in ("tanh", "relu")},
        _recurrent(1),
    ),
    Spec(EmbedColumns, {"width": _size, "blocks": _blocks, "dtype": _dtype}, _embedded),
    Spec(layers.Dropout, {"p": _share}),
    Spec(layers.LeakyReLU, {"negative_slope": _number}),
    Spec(layers.ELU, {"alpha": _number}),
    Spec(layers.Softmax, {"axis": _axis}),
    Spec(layers.LogSoftmax, {"axis": _axis}),
    *[
        Spec(kind, {})
        for kind in (
            layers.Sigmoid, layers.Tanh, layers.ReLU, layers.SELU, layers.GELU, layers.SiLU,
            layers.Softplus, layers.Softsign, layers.HardTanh, layers.Flatten,
        )
    ],
]  # fmt: skip
KNOWN = {spec.kind.__name__: spec for spec in _TABLE}
