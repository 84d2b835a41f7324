"""Checkpoints: a run kept on disk while it lasts, and gone on with to the bit.

Two files take turns, so that the last good checkpoint is there whatever happens to the next: each
is written beside its place, forced to the disk and renamed. They hold tensors and JSON in the
format of model files, and reading one executes nothing.
"""

from __future__ import annotations

import math
import os
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import DataError, ModelFileError
from ..nn.optim import Optimizer
from ..nn.tensorfile import Refusal, encode, open_regular, read_header, read_tensors, write_whole
from .history import History
from .identity import demand_same
from .run import Plan, Run

__all__ = ["Checkpoint", "Kept", "checkpoint"]

Array = Any
FORMAT = 1
NAMES = ("checkpoint-0.safetensors", "checkpoint-1.safetensors")
STORABLE = ("float16", "float32", "float64")


@dataclass(frozen=True)
class Kept:
    """What a checkpoint holds: a document of plain values, and arrays by name."""

    document: dict[str, Any]
    arrays: dict[str, Array]

    def under(self, prefix: str) -> dict[str, Array]:
        """The arrays whose names begin with `prefix.`, by the rest of their names."""
        start = len(prefix) + 1
        return {k[start:]: v for k, v in self.arrays.items() if k.startswith(prefix + ".")}


class Checkpoint:
    """A folder in which `fit` keeps a run: every `every` seconds, at its end, and when it is
    interrupted.

    `fit(…, checkpoint=folder, resume=True)` goes on from there with the same bits as if it had
    never stopped: weights, optimiser state, dropout, order of rows, history, callbacks that have
    `state_dict`. (Machine code and NumPy round differently: with another `compile`, or on another
    machine, it goes on all the same, and agrees to rounding.) The folder is made where it is
    missing. A save that fails (a full disk) is warned about and kept as `error`; training goes on,
    and the last good checkpoint stays.

    Raises `ValueError` for an `every` below 0 and, when the run begins, `DataError` where a run of
    other data, another model or other settings is kept there or one that is longer already, or
    `resume` was not asked for; `TypeError` for a `state_dict` with what no checkpoint can hold.

    >>> import tempfile, numpy as np, chainrule as cr
    >>> folder, X = tempfile.mkdtemp(), np.linspace(-1, 1, 64)[:, None]
    >>> def run(epochs, **keywords):
    ...     model = cr.nn.Sequential(cr.nn.Linear(1, 4), cr.nn.Tanh(), cr.nn.Linear(4, 1), seed=0)
    ...     return cr.fit(model, X, X**2, loss="squared_error", epochs=epochs, **keywords)
    >>> run(3, checkpoint=folder).epochs
    3
    >>> run(9, checkpoint=folder, resume=True).loss == run(9).loss
    True
    """

    def __init__(self, folder: str | os.PathLike[str], every: float = 10.0) -> None:
        if not isinstance(every, (int, float)) or not every >= 0:
            raise ValueError(f"every must be a number of seconds from 0 on, got {every!r}")
        self.folder, self.every = os.fsdecode(folder), float(every)
        self.error: OSError | None = None
        self._number, self._saved = 0, -math.inf
        self._identity: dict[str, Any] = {}

    def __repr__(self) -> str:
        return f"Checkpoint({self.folder!r}, every={self.every:g})"

    # -- a run's beginning --------------------------------------------------------------------

    def begin(self, identity: dict[str, Any], resume: bool) -> Kept | None:
        """What is kept of the run with this identity, if it is to go on; None for a fresh start."""
        self._identity, self._saved, self.error = identity, time.monotonic(), None
        try:
            os.makedirs(self.folder, exist_ok=True)
        except FileExistsError:
            if not os.path.isfile(self.folder):
                raise  # the disk's fault: it cannot say what is there
            raise DataError(
                f"{self.folder!r} is a file; a checkpoint needs a folder of its own"
            ) from None
        found = self.newest()
        if found is None:
            return None
        if not resume:
            raise DataError(
                f"{self.folder!r} holds the checkpoint of an earlier run; pass resume=True to go on"
                " with it, or choose another folder"
            )
        demand_same(found.document["identity"], identity, self.folder)
        self._number = found.document["number"]
        return found

    def newest(self) -> Kept | None:
        """The last good checkpoint in the folder, None where there is none.

        Raises `ModelFileError` where there are checkpoints but none can be read.
        """
        good, faults = [], []
        for path in self.paths():
            try:
                good.append(_read(path))
            except Refusal as refusal:
                faults.append(f"{path!r} {refusal}")
        if faults and not good:
            raise ModelFileError(
                f"no checkpoint can be read: {'; '.join(faults)}. Remove the folder to start afresh"
            )
        return max(good, key=lambda kept: kept.document["number"], default=None)

    def seed(self) -> int | None:
        """The seed of the run that is kept, for one that was left to chance."""
        found = self.newest()
        return None if found is None else int(found.document["identity"]["seed"])

    def paths(self) -> list[str]:
        """The checkpoint files that exist."""
        paths = [os.path.join(self.folder, name) for name in NAMES]
        return [path for path in paths if os.path.lexists(path)]

    # -- while it lasts -----------------------------------------------------------------------

    @property
    def due(self) -> bool:
        """Whether the last save is old enough."""
        return time.monotonic() - self._saved >= self.every

    def rehearse(self, run: Run, callbacks: Iterable[Any]) -> None:
        """Raise `TypeError` now for what a save could not hold later."""
        _described(run, History(), callbacks, 0.0)

    def save(self, run: Run, history: History, callbacks: Iterable[Any], seconds: float) -> None:
        """Keep the run as it is; a failure is warned about, and the last good one stays."""
        number = self._number + 1
        document, arrays = _described(run, history, callbacks, seconds)
        document = {"format": FORMAT, "number": number, "identity": self._identity, **document}
        path = os.path.join(self.folder, NAMES[number % 2])
        try:
            write_whole(path, encode(arrays, document))
        except OSError as error:
            if self.error is None:
                warnings.warn(
                    f"the checkpoint was not saved ({error.strerror or error}: {path}); training"
                    " goes on, and the last good one stays",
                    RuntimeWarning,
                    stacklevel=2,
                )
            self.error = error
        else:
            self._number, self.error = number, None
        self._saved = time.monotonic()


def checkpoint(given: Any) -> Checkpoint | None:
    """The checkpoint that `fit` was given: one, a folder's path, or None."""
    if given is None or isinstance(given, Checkpoint):
        return given
    if isinstance(given, (str, os.PathLike)):
        return Checkpoint(given)
    raise TypeError(f"checkpoint must be a folder's path or a Checkpoint, got {given!r}")


# -- contents ------------------------------------------------------------------------------------


def _described(
    run: Run, history: History, callbacks: Iterable[Any], seconds: float
) -> tuple[dict[str, Any], dict[str, Array]]:
    """The state of a run as a document and arrays."""
    arrays: dict[str, Array] = {f"model.{k}": v for k, v in run.values().items()}
    arrays.update({f"beginning.{k}": v for k, v in run.beginning.items()})
    state, own = _taken_apart(run.state)
    arrays.update({f"state.{k}": v for k, v in own.items()})
    buffers, own = _taken_apart(dict(run.model.named_buffers()))
    arrays.update({f"buffers.{k}": v for k, v in own.items()})
    columns = {"loss": history.loss, "step_loss": history.step_loss, "val_loss": history.val_loss}
    columns.update({f"metrics.{k}": v for k, v in history.metrics.items()})
    arrays.update({f"history.{k}": np.array(v, np.float64) for k, v in columns.items()})
    told = []
    for k, callback in enumerate(callbacks):
        plain, own = _taken_apart(_remembered(callback))
        told.append(plain)
        arrays.update({f"callback.{k}.{name}": v for name, v in own.items()})
    lr = getattr(run.optimizer, "lr", None)
    document = {
        "state": state,
        "buffers": buffers,
        "metrics": list(history.metrics),
        "stopped": history.stopped,
        "seconds": seconds,
        "lr": float(lr) if isinstance(lr, (int, float)) else None,
        "random": [[str(m.seed), m.number, int(m.step)] for m in _random(run)],
        "callbacks": told,
    }
    return document, {k: np.array(v, order="C") for k, v in arrays.items()}


def _random(run: Run) -> list[Any]:
    """The layers that draw random numbers."""
    return [module for module in run.model.modules() if hasattr(module, "restart")]


def _remembered(callback: Any) -> Any:
    """What a callback remembers of the run, None where it has no memory."""
    return callback.state_dict() if hasattr(callback, "state_dict") else None


def _taken_apart(value: Any) -> tuple[Any, dict[str, Array]]:
    """A value as JSON holds it, and its arrays by number."""
    arrays: dict[str, Array] = {}
    return _without_arrays(value, arrays), arrays


def _without_arrays(value: Any, arrays: dict[str, Array]) -> Any:
    """The value as JSON holds it, with its arrays and odd floats put aside by number."""
    if isinstance(value, dict):
        return {"dict": [[_without_arrays(one, arrays) for one in pair] for pair in value.items()]}
    if isinstance(value, (list, tuple)):
        kind = "list" if isinstance(value, list) else "tuple"
        return {kind: [_without_arrays(v, arrays) for v in value]}
    if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind in "biuf":
        kind = "array" if isinstance(value, np.ndarray) else "scalar"
        if value.dtype.name in STORABLE:
            arrays[name := str(len(arrays))] = np.asarray(value)
            return {kind: name}
        if value.dtype.kind != "f":
            return {kind: [value.dtype.str, list(value.shape), value.ravel().tolist()]}
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": repr(value)}
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    raise TypeError(
        f"a checkpoint cannot hold a {type(value).__name__}, as a callback's state_dict or the"
        " optimizer's state has; use numbers, strings, lists, dicts and arrays of them"
    )


def _with_arrays(value: Any, arrays: Mapping[str, Array]) -> Any:
    """What `_without_arrays` took apart."""
    if not isinstance(value, dict):
        return value
    ((kind, held),) = value.items()
    if kind == "dict":
        pairs = [[_with_arrays(one, arrays) for one in pair] for pair in held]
        return dict(pairs)
    if kind in ("list", "tuple"):
        several = [_with_arrays(v, arrays) for v in held]
        return several if kind == "list" else tuple(several)
    if kind == "float":
        return float(held)
    if isinstance(held, str):
        found = arrays[held].copy()
    else:
        found = np.array(held[2], np.dtype(held[0])).reshape(held[1])
    return found if kind == "array" else found[()]


# -- going on ------------------------------------------------------------------------------------


def restore(kept: Kept, run: Run, plan: Plan, history: History, callbacks: Iterable[Any]) -> None:
    """Put the run, its history and its callbacks back to where they were.

    Raises `DataError` where it is further than the run shall go, `ModelFileError` where the
    checkpoint contradicts itself: somebody wrote to it.
    """
    _demand_no_less(kept, run, plan)
    try:
        _restore(kept, run, history, callbacks)
        _demand_possible(plan, history)
    except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError) as error:
        raise ModelFileError(
            f"the checkpoint is damaged or was altered ({type(error).__name__}: {error}); remove"
            " its folder to start afresh"
        ) from error


def _restore(kept: Kept, run: Run, history: History, callbacks: Iterable[Any]) -> None:
    document = kept.document
    if run.full_batch:
        run.beginning = kept.under("beginning")
        run.model.load_state_dict(run.beginning)
        return
    buffers = _with_arrays(document["buffers"], kept.under("buffers"))
    run.model.load_state_dict({**kept.under("model"), **buffers})
    state = _with_arrays(document["state"], kept.under("state"))
    if isinstance(run.optimizer, Optimizer):
        _demand_alike(run.state, state, "the optimizer's state")
    run.state = state
    if document["lr"] is not None:
        run.optimizer.lr = document["lr"]
    for module, (seed, number, step) in zip(_random(run), document["random"], strict=True):
        module.restart(int(seed), number, step)
    columns = kept.under("history")
    history.loss, history.step_loss = columns["loss"], columns["step_loss"]
    history.val_loss = columns["val_loss"].tolist()
    history.metrics = {name: columns[f"metrics.{name}"].tolist() for name in document["metrics"]}
    history.stopped = "callback" if document["stopped"] == "callback" else None
    for k, (callback, plain) in enumerate(zip(callbacks, document["callbacks"], strict=True)):
        if plain is not None:
            _remind(callback, _with_arrays(plain, kept.under(f"callback.{k}")))


def _remind(callback: Any, memory: Any) -> None:
    try:
        callback.load_state_dict(memory)
    except Exception as error:  # whatever a callback of somebody's says of it
        raise ValueError(
            f"{type(callback).__name__} refuses its memory: {type(error).__name__}: {error}"
        ) from error


def _demand_alike(own: Any, found: Any, what: str) -> None:
    """What an optimiser remembers has the names, shapes and dtypes of its beginning."""
    if isinstance(own, dict):
        if own.keys() != found.keys():
            raise ValueError(f"{what} holds {[*found]}, not {[*own]}")
        for name in own:
            _demand_alike(own[name], found[name], f"{what}'s {name}")
    elif isinstance(own, int):
        if not _natural(found):
            raise ValueError(f"{what} is {found}, no number of steps")
    elif (found.shape, found.dtype) != (np.shape(own), own.dtype):
        raise ValueError(f"{what} is {found.dtype} of shape {found.shape}")


def _demand_no_less(kept: Kept, run: Run, plan: Plan) -> None:
    """The run that is kept is no longer than it shall become."""
    done, asked = kept.arrays["history.step_loss"].size, plan.epochs * plan.steps
    if done > asked and not run.full_batch:
        raise DataError(
            f"the run that is kept has {done} steps, and epochs={plan.epochs} is {asked}; give as"
            " many epochs or more, or choose another folder"
        )


def _demand_possible(plan: Plan, history: History) -> None:
    """The numbers of losses are those of a run that stopped somewhere."""
    rest = history.steps - history.epochs * plan.steps
    columns = {len(v) for k, v in history.columns().items() if k != "loss"}
    if not 0 <= rest <= plan.steps or columns - {history.epochs, history.epochs - 1}:
        raise ValueError(f"{history.steps} steps are not {history.epochs} epochs and a part of one")


def _natural(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _number(value: Any) -> bool:
    return type(value) in (int, float) and value >= 0


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _draws(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(one, list)
        and len(one) == 3
        and isinstance(one[0], str)
        and one[0].isdecimal()
        and len(one[0]) < 30
        and all(map(_natural, one[1:]))
        for one in value
    )


# What a document holds, and what each part may be.
_PARTS: dict[str, Callable[[Any], bool]] = {
    "format": lambda value: type(value) is int and value == FORMAT,
    "sha256": lambda value: isinstance(value, str),
    "number": _natural,
    "identity": lambda value: isinstance(value, dict) and _natural(value.get("seed")),
    "state": lambda value: isinstance(value, dict),
    "buffers": lambda value: isinstance(value, dict),
    "metrics": _texts,
    "stopped": lambda value: value is None or isinstance(value, str),
    "seconds": _number,
    "lr": lambda value: value is None or _number(value),
    "random": _draws,
    "callbacks": lambda value: isinstance(value, list),
}


def _read(path: str) -> Kept:
    """A checkpoint file that is whole and ours; `Refusal` says why another is not."""
    with open_regular(path) as file:
        header = read_header(file)
        arrays = read_tensors(file, header)
    if "history.step_loss" not in arrays:
        raise Refusal("is no checkpoint, or one of another version of chainrule")
    document = header.document
    if document.keys() != _PARTS.keys() or not _PARTS["format"](document["format"]):
        raise Refusal("is no checkpoint, or one of another version of chainrule")
    for name, valid in _PARTS.items():
        if not valid(document[name]):
            raise Refusal(f"is altered: its {name} is impossible")
    return Kept(document, arrays)
