"""Changes that a diagnosis tries: each as words, as code to paste, and as what is run."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..nn import initializers, layers, optim
from ..plot.scale import short
from .setup import Change, Setup

__all__ = [
    "clipped",
    "hidden_layer",
    "longer",
    "rate",
    "rates",
    "redrawn",
    "swapped",
    "wider",
    "zero_bias",
]

Array = Any

STEEP = {"relu", "leaky_relu", "prelu", "elu", "gelu", "silu", "softplus"}  # He's variance suits
STILL = {layers.Sigmoid, layers.Tanh, layers.HardTanh, layers.Softsign}


# -- the optimiser ---------------------------------------------------------------------------------


def rate(setup: Setup, factor: float) -> Change | None:
    """The learning rate times a factor; None for an optimiser that has none."""
    lr = getattr(setup.optimizer, "lr", None)
    if lr is None or getattr(setup.optimizer, "full_batch", False):
        return None
    if callable(lr):
        word = f"all learning rates × {short(factor)}"
        code = f"rate = optimizer.lr\noptimizer.lr = lambda step: {factor!r} * rate(step)"
        return Change(word, code, lambda s: _optimized(s, lr=_times(s.optimizer.lr, factor)))
    new = _round(lr * factor)
    return Change(
        f"learning rate {short(lr)} → {short(new)}",
        _call(setup.optimizer, lr=new),
        lambda s: _optimized(s, lr=new),
    )


def rates(setup: Setup, factors: Sequence[float]) -> tuple[Change, ...]:
    """The same for several factors."""
    return tuple(change for f in factors if (change := rate(setup, f)) is not None)


def clipped(setup: Setup) -> Change | None:
    """Gradients clipped to length 1 together."""
    if not hasattr(setup.optimizer, "clip_norm") or setup.optimizer.clip_norm is not None:
        return None
    return Change(
        "gradients clipped to length 1",
        _call(setup.optimizer, clip_norm=1.0),
        lambda s: _optimized(s, clip_norm=1.0),
    )


def longer(setup: Setup, factor: int) -> Change:
    """More epochs."""
    epochs = setup.epochs * factor
    return Change(
        f"epochs {setup.epochs} → {epochs}", f"epochs = {epochs}", lambda s: s.changed(epochs=epochs)
    )


def _times(schedule: Any, factor: float) -> Any:
    def times(step: Any) -> Any:
        return factor * schedule(step)

    return times


def _optimized(setup: Setup, **settings: Any) -> Setup:
    optimizer = copy.copy(setup.optimizer)
    vars(optimizer).update(settings)
    return setup.changed(optimizer=optimizer)


def _call(optimizer: Any, **settings: Any) -> str:
    """The call that makes the optimiser with other settings; what is as by default is left out."""
    kind = type(optimizer)
    if getattr(optim, kind.__name__, None) is not kind or hasattr(optimizer, "_inner"):
        return "\n".join(f"optimizer.{name} = {value!r}" for name, value in settings.items())
    known = inspect.signature(kind).parameters
    now = {**{k: v for k, v in vars(optimizer).items() if k in known}, **settings}
    own = {k: v for k, v in now.items() if k in settings or v != known[k].default}
    if any(callable(v) for v in own.values()):
        return "\n".join(f"optimizer.{name} = {value!r}" for name, value in settings.items())
    return f"optimizer = optim.{kind.__name__}({', '.join(f'{k}={v!r}' for k, v in own.items())})"


def _round(x: float) -> float:
    """Two digits are enough for a rate that somebody will read."""
    return float(f"{x:.2g}") if x and math.isfinite(x) else x


# -- the weights -----------------------------------------------------------------------------------


def redrawn(setup: Setup, transfers: Mapping[str, str], why: str = "") -> Change | None:
    """Every weight of a layer drawn anew, its biases 0: He where a rectifier follows, else Glorot.

    `transfers` has the transfer function behind each weight by the weight's name.
    """
    if not transfers:
        return None
    inits = {
        name: "he_normal" if transfer in STEEP else "glorot_uniform"
        for name, transfer in transfers.items()
    }
    seed = setup.seed
    code = (
        f"p = dict(model.named_parameters())\n"
        f"for k, (name, init) in enumerate({inits!r}.items()):\n"
        f"    draw = nn.initializers.BY_NAME[init]\n"
        f"    p[name].rebind(draw(np.random.default_rng([{seed}, k]), p[name].shape[::-1]).T)\n"
        f'    bias = p.get(name.replace("weight", "bias"))\n'
        f"    if bias is not None and bias is not p[name]:\n"
        f"        bias.rebind(np.zeros(bias.shape))"
    )
    kinds = " and ".join(sorted({k.partition("_")[0].capitalize() for k in inits.values()}))
    return Change(
        why or f"weights drawn anew after {kinds}, biases 0", code, lambda s: _redrawn(s, inits)
    )


def _redrawn(setup: Setup, inits: Mapping[str, str]) -> Setup:
    model = setup.fresh()
    p = dict(model.named_parameters())
    for k, (name, init) in enumerate(inits.items()):
        draw = initializers.BY_NAME[init]
        rng = np.random.default_rng([setup.seed, k])
        p[name].rebind(draw(rng, p[name].shape[::-1]).T)
        bias = p.get(name.replace("weight", "bias"))
        if bias is not None and bias is not p[name]:
            bias.rebind(np.zeros(bias.shape))
    return setup.changed(model=model)


def zero_bias(setup: Setup, weights: Sequence[str]) -> Change | None:
    """The biases of these layers at 0."""
    own = dict(setup.model.named_parameters())
    names = [n.replace("weight", "bias") for n in weights]
    names = [n for n in names if n in own and n not in weights and np.any(own[n].value)]
    if not names:
        return None

    def apply(s: Setup) -> Setup:
        model = s.fresh()
        p = dict(model.named_parameters())
        for name in names:
            p[name].rebind(np.zeros(p[name].shape))
        return s.changed(model=model)

    code = (
        f"p = dict(model.named_parameters())\nfor name in {names!r}:\n"
        "    p[name].rebind(np.zeros(p[name].shape))"
    )
    return Change(f"{'biases' if len(names) > 1 else 'bias'} {', '.join(names)} at 0", code, apply)


# -- the layers ------------------------------------------------------------------------------------


def swapped(setup: Setup, kinds: tuple[type, ...], to: str) -> Change | None:
    """Hidden transfer functions of these kinds exchanged for another; the weights stay."""
    places = [k for k, layer in enumerate(_chain(setup.model)) if type(layer) in kinds]
    places = [k for k in places if k < _last_linear(setup.model)]
    if not places:
        return None
    code = (
        f"parts = list(model)\nfor k in {places!r}:\n    parts[k] = nn.{to}()\n"
        "model = nn.Sequential(*parts)"
    )

    def apply(s: Setup) -> Setup:
        parts = list(s.fresh())
        for k in places:
            parts[k] = getattr(layers, to)()
        return s.changed(model=layers.Sequential(*parts))

    old = " and ".join(sorted({kind.__name__ for kind in {type(_chain(setup.model)[k]) for k in places}}))
    return Change(f"{to} for {old} in the hidden layers", code, apply)


def hidden_layer(setup: Setup, units: int = 32) -> Change | None:
    """A hidden layer of tanh units before the last one, which is drawn anew for it."""
    parts, last = _chain(setup.model), _last_linear(setup.model)
    if last < 0 or type(parts[last]) is not layers.Linear:
        return None
    inputs, outputs = parts[last].in_features, parts[last].out_features
    dtype = f"np.{parts[last].weight.dtype.name}"
    return _rebuilt(
        setup,
        f"a hidden layer of {units} tanh units",
        f"parts = list(model)\n"
        f"parts[{last}:{last + 1}] = [\n"
        f"    nn.Linear({inputs}, {units}, seed={setup.seed}, dtype={dtype}), nn.Tanh(),\n"
        f"    nn.Linear({units}, {outputs}, seed={setup.seed + 1}, dtype={dtype}),\n"
        f"]\nmodel = nn.Sequential(*parts)",
        lambda parts: [
            *parts[:last],
            layers.Linear(inputs, units, seed=setup.seed, dtype=parts[last].weight.dtype),
            layers.Tanh(),
            layers.Linear(units, outputs, seed=setup.seed + 1, dtype=parts[last].weight.dtype),
            *parts[last + 1 :],
        ],
    )


def wider(setup: Setup, factor: int = 4, least: int = 32) -> Change | None:
    """Every hidden layer with more units, all weights drawn anew."""
    parts = _chain(setup.model)
    places = [k for k, layer in enumerate(parts) if type(layer) is layers.Linear]
    if len(places) < 2 or any(
        any(True for _ in layer.parameters()) for k, layer in enumerate(parts) if k not in places
    ):
        return None
    sizes = [parts[places[0]].in_features]
    sizes += [max(least, factor * parts[k].out_features) for k in places[:-1]]
    sizes += [parts[places[-1]].out_features]
    dtype = f"np.{parts[places[0]].weight.dtype.name}"
    steep = [k + 1 < len(parts) and type(parts[k + 1]).__name__ in ("ReLU", "LeakyReLU") for k in places]
    inits = ["he_normal" if s else "glorot_uniform" for s in steep]
    lines = "".join(
        f"parts[{k}] = nn.Linear({a}, {b}, init={init!r}, seed={setup.seed + i}, dtype={dtype})\n"
        for i, (k, a, b, init) in enumerate(
            zip(places, sizes[:-1], sizes[1:], inits, strict=True)
        )
    )  # fmt: skip

    def build(parts: list[Any]) -> list[Any]:
        for i, (k, a, b, init) in enumerate(zip(places, sizes[:-1], sizes[1:], inits, strict=True)):
            parts[k] = layers.Linear(
                a, b, init=init, seed=setup.seed + i, dtype=parts[k].weight.dtype
            )
        return parts

    widths = ", ".join(str(s) for s in sizes[1:-1])
    code = f"parts = list(model)\n{lines}model = nn.Sequential(*parts)"
    return _rebuilt(setup, f"{widths} hidden units", code, build)


def _rebuilt(setup: Setup, name: str, code: str, build: Any) -> Change:
    return Change(
        name, code, lambda s: s.changed(model=layers.Sequential(*build(list(s.fresh()))))
    )


def _chain(model: Any) -> list[Any]:
    """The layers of a plain chain; nothing for a model that is no `Sequential`."""
    return list(model) if type(model) is layers.Sequential else []


def _last_linear(model: Any) -> int:
    """The place of the last layer with weights in a plain chain, −1 where there is none."""
    places = [k for k, layer in enumerate(_chain(model)) if isinstance(layer, layers.Affine)]
    return places[-1] if places else -1
