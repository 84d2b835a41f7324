"""A remedy as settings: what a config can say of one change to a run, and what it cannot.

The change is applied to the run, and the run before and after it are compared.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..nn import EmbedColumns, layers, optim
from ..nn.activations import ACTIVATIONS
from ..nn.initializers import BY_NAME, draw
from ..plot.scale import short
from ..runs.config import Settings, rules
from ..runs.network import LOSSES, drawn_by

__all__ = ["Repair", "repair"]

OF_OPTIMIZER = ("momentum", "weight_decay", "clip_norm", "clip_value")
PROBES = 64  # steps at which two schedules of rates are compared


@dataclass(frozen=True)
class Repair:
    """The repaired settings, what differs in them by name, and what settings cannot say."""

    settings: Settings
    changed: tuple[str, ...]
    unsaid: tuple[str, ...]

    def lines(self, old: Settings) -> list[str]:
        """Each change in words.

        >>> before, after = Settings(lr=10.0), Settings(lr=3.3)
        >>> Repair(after, ("lr",), ()).lines(before)
        ['lr: 10 → 3.3']
        """
        return [
            f"{name}: {_word(getattr(old, name))} → {_word(getattr(self.settings, name))}"
            for name in self.changed
        ]


def repair(before: Any, after: Any, settings: Settings) -> Repair:
    """The settings whose run is `after` where the resolved `settings` are those of `before`.

    Both are runs as values, `diagnose.setup.Setup`. What came of the comparison is a proposal: only
    a run with the new settings shows whether they do what the change did.
    """
    found: dict[str, Any] = {}
    unsaid = [name for name in ("X", "y") if _differ(getattr(before, name), getattr(after, name))]
    unsaid = [f"what the remedy does to {name}" for name in unsaid]
    if after.epochs != before.epochs:
        found["epochs"] = int(after.epochs)
    if after.batch_size != before.batch_size:
        found["batch_size"] = int(after.batch_size or after.rows)
    for part in (_loss, _optimizer, _network):
        said, missing = part(before, after, settings)
        found |= said
        unsaid += missing
    new = dataclasses.replace(settings, **found)
    changed = [name for name in rules() if getattr(new, name) != getattr(settings, name)]
    return Repair(new, tuple(changed), tuple(unsaid))


Said = tuple[dict[str, Any], list[str]]


def _differ(a: Any, b: Any) -> bool:
    return a is not b and not np.array_equal(np.asarray(a), np.asarray(b))


def _word(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(_word, value)) or "none"
    if isinstance(value, float):
        return short(value)
    return "not set" if value is None else str(value)


# -- the loss and the optimiser -------------------------------------------------------------------


def _loss(before: Any, after: Any, settings: Settings) -> Said:
    if after.loss is before.loss or after.loss == before.loss:
        return {}, []
    name = after.loss if isinstance(after.loss, str) else getattr(after.loss, "__name__", "")
    kind = next((kind for kind, names in LOSSES.items() if settings.loss in names), "")
    if name in LOSSES.get(kind, ()):
        return {"loss": name, "label_smoothing": 0.0}, []
    return {}, [f"the loss {name}"]


def _optimizer(before: Any, after: Any, settings: Settings) -> Said:
    old, new = before.optimizer, after.optimizer
    found, unsaid = _rate(before, after, settings)
    kinds = {kind: name for name, kind in {**optim.OPTIMIZERS, "lbfgs": optim.LBFGS}.items()}
    if type(new) is not type(old):
        name = kinds.get(type(new))
        if name is None:
            return found, [f"the optimizer {type(new).__name__}"]
        # A wrapper about the old one says what the settings would lay about the new one too.
        found |= {"optimizer": name, "ema": None, "accumulate": 1}
    for key in sorted(_own(old).keys() | _own(new).keys()):
        value = _own(new).get(key)
        if key in OF_OPTIMIZER:
            if _own(old).get(key) != value:
                found[key] = value if value or key in ("clip_norm", "clip_value") else _off(key)
        elif key in _own(old) and key in _own(new) and _own(old)[key] != value:
            unsaid.append(f"{key}={value!r} of the optimizer")
    return found, unsaid


def _own(optimizer: Any) -> dict[str, Any]:
    """The optimiser's settings but for its rate."""
    return {k: v for k, v in vars(optimizer).items() if not k.startswith("_") and k != "lr"}


def _off(name: str) -> Any:
    return Settings.__dataclass_fields__[name].default


def _rate(before: Any, after: Any, settings: Settings) -> Said:
    old, new = getattr(before.optimizer, "lr", None), getattr(after.optimizer, "lr", None)
    if new is None or new is old or new == old:
        return {}, []
    if not callable(new):
        return {"lr": float(new), **({"schedule": "constant"} if callable(old) else {})}, []
    if not callable(old) or not isinstance(settings.lr, float):
        return {}, ["its schedule of learning rates"]
    steps = np.unique(np.linspace(0, max(before.steps - 1, 0), PROBES).astype(int)).tolist()
    pairs = [(float(old(step)), float(new(step))) for step in steps]
    ratios = [b / a for a, b in pairs if a]
    if not ratios or not np.allclose(ratios, ratios[0], rtol=1e-6):
        return {}, ["its schedule of learning rates"]
    return {"lr": float(f"{settings.lr * ratios[0]:.9g}")}, []


# -- the network ----------------------------------------------------------------------------------


def _network(before: Any, after: Any, settings: Settings) -> Said:
    """The hidden layers, their transfer functions and how they are drawn, read off the chain."""
    if after.model is before.model:
        return {}, []
    chain = list(after.model) if isinstance(after.model, layers.Sequential) else []
    stages = _stages(chain)
    if stages is None:
        return {}, ["the network that the remedy builds"]
    hidden = tuple(stage.units for stage in stages)
    names = tuple(stage.activation for stage in stages)
    known = settings.activations(len(settings.hidden or ()))
    found: dict[str, Any] = {}
    if hidden != settings.hidden:
        found["hidden"] = hidden
    if names != known:
        found["activation"] = names[0] if len(set(names)) == 1 else names
    found |= {name: value for name, value in _extras(chain) if value != getattr(settings, name)}
    if hidden != settings.hidden:
        return found, []
    return _start(before, after, settings, found)


def _start(before: Any, after: Any, settings: Settings, found: dict[str, Any]) -> Said:
    """How the weights of a network of the same sizes are drawn."""
    old = _weights(before.model)
    new = _weights(after.model)
    if all(map(np.array_equal, old, new)):
        if not all(map(np.array_equal, _biases(before.model), _biases(after.model))):
            return found, ["other biases to start from"]
        with_found = dataclasses.replace(settings, **found)
        drawn = _drawn(settings)
        if len(drawn) == 1 and _drawn(with_found) != drawn:
            found["init"] = drawn.pop()  # the weights stay those that suit the old function
        return found, []
    name = _initializer(new[:-1])
    if name is None or _drawn(settings) == {name}:
        return found, ["other weights to start from, drawn as they are now"]
    return {**found, "init": name}, []


def _drawn(settings: Settings) -> set[str]:
    """How the hidden layers of these settings are drawn."""
    names = settings.activations(len(settings.hidden or ()))
    return {drawn_by(settings, name) for name in names}


def _initializer(hidden: list[Any]) -> str | None:
    """The initialiser that draws weights of these sizes, by their spread and their ends."""
    names = rules()["init"].names
    best = min(names, key=lambda name: sum(_unlike(name, W) for W in hidden), default=None)
    return best if hidden else None


def _unlike(name: str, W: Any) -> float:
    """How far the spread and the largest of such weights, on a log scale, are from W's."""
    other = draw(BY_NAME[name], np.random.default_rng(0), W.shape[::-1])
    sizes = [(np.std(x), np.abs(x).max()) for x in (W, other)]
    return sum(abs(math.log((a + 1e-30) / (b + 1e-30))) for a, b in zip(*sizes, strict=True))


def _weights(model: Any) -> list[Any]:
    return [layer.weight.value for layer in model if isinstance(layer, layers.Affine)]


def _biases(model: Any) -> list[Any]:
    own = [layer.bias for layer in model if isinstance(layer, layers.Affine)]
    return [bias.value for bias in own if bias is not None]


@dataclass(frozen=True)
class _Stage:
    units: int
    activation: str


NAMES = {kind: name for name, kind in ACTIVATIONS.items()}
PASSED = (layers.BatchNorm1d, layers.Dropout, EmbedColumns)


def _stages(chain: list[Any]) -> list[_Stage] | None:
    """Each hidden layer with its transfer function; None for what settings do not build."""
    stages: list[_Stage] = []
    units: int | None = None
    for layer in chain:
        if isinstance(layer, layers.Affine):
            if units is not None:
                return None  # two linear layers, and nothing between them
            units = int(layer.weight.shape[0])
        elif type(layer) in NAMES:
            if units is None or layer.config() != type(layer)().config():
                return None
            stages.append(_Stage(units, NAMES[type(layer)]))
            units = None
        elif not isinstance(layer, PASSED):
            return None
    return stages if units is not None else None


def _extras(chain: list[Any]) -> Iterator[tuple[str, Any]]:
    """Normalisation and dropout, where the chain has them for all hidden layers or for none."""
    yield "batch_norm", any(isinstance(layer, layers.BatchNorm1d) for layer in chain)
    shares = {float(layer.p) for layer in chain if isinstance(layer, layers.Dropout)}
    if len(shares) < 2:
        yield "dropout", shares.pop() if shares else 0.0
