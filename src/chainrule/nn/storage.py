"""Model files: one .safetensors file with the weights, the architecture and what training added.

The architecture is a list of layers by name with their plain arguments, rebuilt from the closed
table in `known`: no pickle, no eval, no import by name. So a file that you did not make cannot run
code; it can still hold a model that is wrong. A SHA-256 over the whole file finds damage (a cut, a
flipped bit, a hasty edit), not malice: whoever alters a file on purpose can write a new digest.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from ..errors import ModelFileError, nearest
from . import layers
from .base import Layer
from .known import DTYPES, KNOWN, Spec
from .module import Module, Shape
from .sequential import Sequential
from .tensorfile import (
    MAX_HEADER,
    Header,
    Refusal,
    demand_room,
    encode,
    fill,
    open_regular,
    parse,
    read_header,
    shown,
    write_whole,
)

__all__ = ["load", "save"]

FORMAT = 1
MAX_DEPTH = 5  # of Sequentials in each other
MAX_LAYERS = 10_000
MAX_NESTING = 50  # of lists and dicts in extra


class Planned(NamedTuple):
    """One layer of a file, checked but not built: nothing of its size exists yet."""

    place: str
    spec: Spec
    config: dict[str, Any]


# -- saving -----------------------------------------------------------------------------------


def save(model: Module, path: str | os.PathLike[str], *, overwrite: bool = True) -> None:
    """Write `model`, a Sequential of this package's layers, to one file at `path`.

    Architecture, weights, running averages and `model.extra` (a dict of what JSON can hold) are
    kept; the state of an optimiser is not. The same model gives the same bytes. The file appears
    whole or not at all, replacing an old one unless `overwrite=False`.

    Raises `ModelFileError` for a model that cannot be rebuilt from the table of layers, with the
    way out, and `OSError` where the disk is full or the folder not writable; the old file is then
    untouched.

    >>> import os, tempfile
    >>> from chainrule import nn
    >>> path = os.path.join(tempfile.mkdtemp(), "model.safetensors")
    >>> nn.save(nn.Sequential(nn.Linear(2, 1, weight=[[3.0, 4.0]])), path)
    >>> nn.load(path)([[1.0, 1.0]]).numpy()
    array([[7.]], dtype=float32)
    """
    path = os.fsdecode(path)
    if not overwrite and os.path.lexists(path):
        raise FileExistsError(17, "the file exists; pass overwrite=True to replace it", path)
    try:
        data = _encoded(model)
    except Refusal as refusal:
        raise ModelFileError(f"this model cannot be saved: {refusal}") from None
    write_whole(path, data)


def _encoded(model: Module) -> bytes:
    if type(model) is not Sequential:
        raise Refusal(f"it is a {type(model).__name__}, not a Sequential; {_WAY_OUT}")
    if not isinstance(model.extra, dict):
        raise Refusal(f"its extra is a {type(model.extra).__name__}; give a dict")
    document = {"format": FORMAT, "model": _described(model, "", 1), "extra": _plain(model.extra)}
    _demand_own_weights(model)
    tensors = {name: np.ascontiguousarray(value) for name, value in model.state_dict().items()}
    for name, value in tensors.items():
        if value.dtype.name not in DTYPES:
            raise Refusal(f"{name} is {value.dtype}; a file holds {', '.join(DTYPES)}")
    data = encode(tensors, document)
    length = int.from_bytes(data[:8], "little")
    if length > MAX_HEADER:
        raise Refusal(f"its extra is too large: {length} bytes of header, at most {MAX_HEADER}")
    try:  # what save writes, load reads
        _plan(parse(data[8 : 8 + length], len(data) - 8 - length))
    except Refusal as refusal:
        raise Refusal(f"its layers and their arguments do not fit: the file {refusal}") from None
    return data


_WAY_OUT = "keep its numbers with np.savez(path, **model.state_dict()) and model.load_state_dict"


def _described(model: Module, place: str, depth: int) -> dict[str, Any]:
    """The architecture as plain data; only exact classes of the table can be rebuilt from it."""
    if type(model) is Sequential:
        if depth > MAX_DEPTH:
            raise Refusal(f"Sequentials are nested deeper than {MAX_DEPTH}; flatten them")
        parts = enumerate(model)
        inner = [_described(m, f"{place}.{k}" if place else str(k), depth + 1) for k, m in parts]
        return {"class": "Sequential", "layers": inner}
    spec = KNOWN.get(type(model).__name__)
    if spec is None or type(model) is not spec.kind or not isinstance(model, Layer):
        raise Refusal(f"layer {place} is a {type(model).__name__} of your own; {_WAY_OUT}")
    return {"class": type(model).__name__, **_plain(model.config(), place)}


def _demand_own_weights(model: Module) -> None:
    """Refuse shared weights: they would come back as separate ones."""
    seen: dict[Any, str] = {}
    for place, module in _leaves(model, ""):
        for value in [module, *module._members.values()]:
            if value in seen and (value is not module or module._members):
                raise Refusal(f"layers {seen[value]} and {place} share their weights; {_WAY_OUT}")
            seen[value] = place


def _leaves(model: Module, prefix: str) -> Iterator[tuple[str, Module]]:
    for number, layer in enumerate(model if isinstance(model, Sequential) else []):
        place = f"{prefix}{number}"
        if isinstance(layer, Sequential):
            yield from _leaves(layer, place + ".")
        else:
            yield place, layer


def _plain(value: Any, where: str = "extra", depth: int = 0) -> Any:
    """`value` as JSON holds it: tuples become lists, NumPy scalars and arrays Python's numbers."""
    if depth > MAX_NESTING:
        raise Refusal(f"{where[:60]} is nested too deep for a file")
    if isinstance(value, (np.generic, np.ndarray)):
        value = value.tolist()
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(x, f"{where}[{k}]", depth + 1) for k, x in enumerate(value)]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: _plain(x, f"{where}[{key!r}]", depth + 1) for key, x in value.items()}
    what = f"{value} (not finite)" if isinstance(value, float) else f"a {type(value).__name__}"
    what = "a dict with keys that are no strings" if isinstance(value, dict) else what
    raise Refusal(f"{where} holds {what}, which a file cannot; use strings, numbers, lists, dicts")


# -- loading ----------------------------------------------------------------------------------


def load(path: str | os.PathLike[str]) -> Sequential:
    """The model that `save` wrote, in evaluation mode, with its `extra`.

    Nothing in the file is executed, and nothing of the size that it claims is allocated before its
    header, architecture and shapes have been checked against each other and against its length.
    Dropout starts again from seed 0.

    Raises `ModelFileError` naming the file and the repair where it is missing, cut short, damaged,
    altered, or not a model file of this package.
    """
    path = os.fsdecode(path)
    with reading(repr(path)), open_regular(path) as file:
        return _read(file)


def _read(file: BinaryIO) -> Sequential:
    header = read_header(file)
    plan = _plan(header)
    demand_room(header.entries)
    model = _built(header.document["model"], iter(plan))
    _fill(model, file, header)
    model.extra = header.document["extra"]
    return model.reseed(0).eval()


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Within, whatever keeps `what` from being read is a `ModelFileError` that names it."""
    try:
        yield
    except Refusal as refusal:
        raise ModelFileError(f"{what} {refusal}") from None
    except OSError as error:
        raise ModelFileError(f"{what} cannot be read ({error.strerror})") from None
    except MemoryError:
        raise ModelFileError(f"{what} holds a model larger than the free memory") from None


def _plan(header: Header) -> list[Planned]:
    """The layers in order, their arguments checked, their tensors exactly those of the header."""
    document = header.document
    _demand_format(document.get("format"))
    if set(document) != {"format", "model", "extra", "sha256"}:
        raise Refusal("is altered: its document has not exactly format, model, extra and sha256")
    if not isinstance(document["extra"], dict) or _deeper(document["extra"], MAX_NESTING):
        raise Refusal(f"is altered: its extra is no object, or nested deeper than {MAX_NESTING}")
    model = document["model"]
    if not isinstance(model, dict) or model.get("class") != "Sequential":
        raise Refusal("is altered: its model is no Sequential")
    modules = list(islice(_planned(model, "", 1), MAX_LAYERS + 1))
    if len(modules) > MAX_LAYERS:
        raise Refusal(f"has more than {MAX_LAYERS} layers")
    plan = [planned for planned in modules if planned is not None]
    _demand_tensors(plan, header)
    return plan


def _demand_format(found: Any) -> None:
    """A format that this version reads: every one that there has been, and none that will be."""
    if type(found) is int and found > FORMAT:
        raise Refusal(
            f"has format {shown(found)}, and this version of chainrule reads format {FORMAT};"
            " upgrade chainrule"
        )
    if type(found) is not int or found < 1:
        raise Refusal(f"is altered: it has format {shown(found)}, and there is none")


def _deeper(value: Any, limit: int) -> bool:
    """Whether lists and objects are nested deeper than `limit`, found level by level."""
    level = [value]
    for _ in range(limit + 1):
        inner = [x.values() if isinstance(x, dict) else x for x in level]
        level = [x for values in inner for x in values if isinstance(x, (dict, list))]
    return bool(level)


def _planned(model: Any, place: str, depth: int) -> Iterator[Planned | None]:
    """The layers in order, and None for each Sequential, which counts as well."""
    where = f"is altered or from a newer chainrule: layer {place or 'model'}"
    if not isinstance(model, dict) or not isinstance(model.get("class"), str):
        raise Refusal(f"{where} has no class")
    name, config = model["class"], {key: value for key, value in model.items() if key != "class"}
    if name == "Sequential":
        if set(config) != {"layers"} or not isinstance(config["layers"], list):
            raise Refusal(f"{where}, a Sequential, has no list of layers")
        if depth > MAX_DEPTH:
            raise Refusal(f"{where} is nested deeper than {MAX_DEPTH} Sequentials")
        yield None
        for number, layer in enumerate(config["layers"]):
            yield from _planned(layer, f"{place}.{number}" if place else str(number), depth + 1)
        return
    if name not in KNOWN:
        guess = nearest(name, KNOWN)
        hint = f" (did it say {guess!r}?)" if guess else ""
        raise Refusal(f"{where} is a {name[:60]!r}, not known here{hint}")
    spec = KNOWN[name]
    config = {**spec.added, **config}
    if set(config) != set(spec.arguments):
        raise Refusal(f"{where}, a {name}, has not exactly the arguments of its class")
    for argument, valid in spec.arguments.items():
        if not valid(config[argument]):
            raise Refusal(f"{where}, a {name}, has an impossible {argument}")
    yield Planned(place, spec, config)


def _demand_tensors(plan: list[Planned], header: Header) -> None:
    """Each layer has its tensors, and there are no others; the first fault ends it."""
    left = dict(header.entries)
    for layer in plan:
        for own, shape in layer.spec.tensors(layer.config).items():
            name, dtype = f"{layer.place}.{own}", DTYPES[layer.config["dtype"]]
            if name not in left:
                raise Refusal(f"is altered: it lacks tensor {name!r} for its architecture")
            entry = left.pop(name)
            if (entry.shape, entry.dtype) != (shape, dtype):
                raise Refusal(
                    f"is altered: tensor {name!r} is {entry.dtype} of shape {list(entry.shape)},"
                    f" but its layer needs {dtype} of shape {list(shape)}"
                )
    for name in left:
        raise Refusal(f"is altered: it has a superfluous tensor {name[:60]!r} for its architecture")


def _built(model: Any, plan: Iterator[Planned]) -> Sequential:
    inner = [
        _built(layer, plan) if layer["class"] == "Sequential" else _layer(next(plan))
        for layer in model["layers"]
    ]
    return Sequential(*inner)


def _layer(planned: Planned) -> Layer:
    """The layer with zeros in place of a draw: the file's numbers take their place."""
    kind: Callable[..., Layer] = planned.spec.kind
    if not issubclass(planned.spec.kind, layers.Affine):
        return kind(**planned.config)

    def zeros(rng: object, shape: Shape) -> np.ndarray[Any, Any]:
        return np.zeros(shape[::-1], planned.config["dtype"]).T  # (in, units), stored transposed

    return kind(**planned.config, init=zeros, bias_init=zeros)


def _fill(model: Sequential, file: BinaryIO, header: Header) -> None:
    """Read every number into its place: nobody else has seen the model yet."""
    parameters = dict(model.named_parameters())
    places = {name: parameter.value for name, parameter in parameters.items()}
    fill(file, header, {**places, **dict(model.named_buffers())})
    for parameter in parameters.values():
        parameter.rebind(parameter.value)  # loaded, so that no seed draws it again
