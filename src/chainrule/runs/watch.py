"""What the layers did in training: gradient norms and how far the weights moved, by epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["Watch", "rate"]

Array = Any


class Watch:
    """A callback for `fit` that keeps three curves a layer, with one number an epoch.

    A layer is what parameters named alike before the last dot share: `0.weight` and `0.bias` are
    layer `0`. With w the layer's parameters as one vector, before an epoch of s steps and after it:

    - `gradient_norm[layer]`: ‖∂loss/∂w‖ of the epoch's last step, of its batch alone;
    - `weight_norm[layer]`: ‖w_after‖;
    - `update_ratio[layer]`: ‖w_after − w_before‖ / (s · ‖w_before‖), the net movement a step, as a
      share of the weights. Steps to and fro cancel, so it never exceeds the mean length of the
      single steps (in units of the same ‖w_before‖).

    NaN stands for what is not known: the first epoch's ratio where `Watch` was not given the model,
    a ratio to weights that were all 0, the gradient of an optimiser that tells none. Gradients cost
    most: with `every` they are asked for in each `every`-th epoch only, counted so that the epoch
    `last` is one of them, and are NaN in between.
    `learning_rate` has the rate of each epoch's last step where the optimiser has one.

    It asks for one look an epoch, so a native run stops in Python at each epoch's end and finds the
    last step's gradients once more. A checkpoint keeps all of it, and a resumed run gives the same
    curves.

    >>> import numpy as np, chainrule as cr
    >>> from chainrule.runs.watch import Watch
    >>> model = cr.nn.Sequential(cr.nn.Linear(1, 4), cr.nn.Tanh(), cr.nn.Linear(4, 1), seed=0)
    >>> watch, X = Watch(model), np.linspace(-1, 1, 64)[:, None]
    >>> _ = cr.fit(model, X, X**2, loss="squared_error", epochs=3, callbacks=[watch], seed=0)
    >>> watch.layers, len(watch.update_ratio["0"]), watch.gradient_norm["2"][0] > 0
    (['0', '2'], 3, True)
    """

    CURVES = ("gradient_norm", "weight_norm", "update_ratio")

    def __init__(self, model: Any = None, *, every: int = 1, last: int = 0) -> None:
        self.every, self.last = every, last
        self.gradient_norm: dict[str, list[float]] = {}
        self.weight_norm: dict[str, list[float]] = {}
        self.update_ratio: dict[str, list[float]] = {}
        self.learning_rate: list[float] = []
        self._before: dict[str, Array] = {} if model is None else _values(model)
        self._step = 0

    @property
    def layers(self) -> list[str]:
        """The layers in the model's order."""
        return list(self.gradient_norm)

    @property
    def epochs(self) -> int:
        """How many epochs were watched."""
        return len(next(iter(self.gradient_norm.values()), []))

    def on_epoch(self, moment: Any) -> None:
        """Measure the epoch that has just ended."""
        after, steps = _values(moment.model), moment.step - self._step
        asked = (self.last - moment.epoch) % self.every == 0
        gradients = (moment.gradients or {}) if asked else {}
        for layer, names in _grouped(after).items():
            known = all(name in gradients for name in names)
            slope = _norm([gradients[name] for name in names]) if known else math.nan
            length = _norm([after[name] for name in names])
            ratio = _moved(self._before, after, names) / max(steps, 1)
            for curve, value in zip(self.CURVES, (slope, length, ratio), strict=True):
                getattr(self, curve).setdefault(layer, []).append(value)
        found = rate(moment.optimizer, moment.step)
        if found is not None:
            self.learning_rate.append(found)
        # A parameter is rebound and never written into, so its old value can be kept uncopied.
        self._before, self._step = after, moment.step

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        curves = {name: dict(getattr(self, name)) for name in self.CURVES}
        return {
            **{name: {k: np.array(v) for k, v in curve.items()} for name, curve in curves.items()},
            "learning_rate": np.array(self.learning_rate, np.float64),
            "before": dict(self._before),
            "step": self._step,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        for name in self.CURVES:
            curves = {k: np.asarray(v, np.float64).tolist() for k, v in state[name].items()}
            setattr(self, name, curves)
        self.learning_rate = np.asarray(state["learning_rate"], np.float64).tolist()
        self._before = {k: np.asarray(v) for k, v in state["before"].items()}
        self._step = int(state["step"])


def _values(model: Any) -> dict[str, Array]:
    return {name: parameter.value for name, parameter in model.named_parameters()}


def _grouped(names: Mapping[str, Any]) -> dict[str, list[str]]:
    """Parameter names by layer; a model's own parameters are the layer `model`."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(name.rpartition(".")[0] or "model", []).append(name)
    return found


def _norm(parts: list[Array]) -> float:
    """The length of several arrays as one vector, in float64."""
    # Not a product: a linear algebra library would wake all its threads for it.
    return math.sqrt(sum(float(np.square(part, dtype=np.float64).sum()) for part in parts))


def _moved(before: Mapping[str, Array], after: Mapping[str, Array], names: list[str]) -> float:
    if any(name not in before for name in names):
        return math.nan
    ground = _norm([before[name] for name in names])
    steps = [np.subtract(after[name], before[name], dtype=np.float64) for name in names]
    return _norm(steps) / ground if ground else math.nan


def rate(optimizer: Any, step: int) -> float | None:
    """The learning rate of a run's last step: a number, or what the schedule gave for it."""
    found = getattr(optimizer, "lr", None)
    if callable(found):
        found = found(max(step - 1, 0))
    try:
        return None if found is None else float(found)
    except (TypeError, ValueError):
        return None
