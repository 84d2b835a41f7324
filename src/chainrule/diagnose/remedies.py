"""Changes that a diagnosis tries: each in words and as code, and the code is what is run."""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from pprint import pformat
from typing import Any

import numpy as np

from ..nn import layers, optim
from ..plot.scale import short
from .before.columns import standardising
from .chains import parts_of, rebuilt
from .flow import Layer
from .pasted import pasted
from .setup import Change, Setup

__all__ = [
    "BENT",
    "RECTIFIERS",
    "clipped",
    "hidden_layer",
    "longer",
    "named",
    "possible",
    "rate",
    "rates",
    "redrawn",
    "standardised",
    "steady",
    "swapped",
    "wider",
    "zero_bias",
]

# Transfer functions that pass one side: He's variance makes up for the other.
RECTIFIERS = frozenset({"relu", "leaky_relu", "prelu", "elu", "gelu", "silu", "softplus"})
BENT = (layers.Sigmoid, layers.Tanh, layers.HardTanh, layers.Softsign)  # level off on both sides

WIDE = 60  # characters of a literal: its line of code fits a terminal
LEAST = 1e-3  # a learning rate for one of 0, which no factor changes


def possible(*changes: Change | None) -> tuple[Change, ...]:
    """Those of the changes that there are: what cannot be done to a network is None."""
    return tuple(change for change in changes if change is not None)


# -- the optimiser ---------------------------------------------------------------------------------


def rate(setup: Setup, factor: float) -> Change | None:
    """The learning rate times a factor; None for an optimiser that has none."""
    lr = getattr(setup.optimizer, "lr", None)
    if lr is None or getattr(setup.optimizer, "full_batch", False):
        return None
    if callable(lr):
        code = f"optimizer.lr = lambda step, rate=optimizer.lr: {factor!r} * rate(step)"
        return pasted(f"all learning rates × {short(factor)}", code)
    new = _round((lr or LEAST) * factor)
    return pasted(f"learning rate {short(lr)} → {short(new)}", _call(setup.optimizer, lr=new))


def rates(setup: Setup, factors: Sequence[float]) -> tuple[Change, ...]:
    """The same for several factors."""
    return tuple(change for f in factors if (change := rate(setup, f)) is not None)


def steady(setup: Setup) -> Change | None:
    """The rate that a schedule begins with, for the whole run."""
    lr = getattr(setup.optimizer, "lr", None)
    if not callable(lr):
        return None
    first = _round(max(float(lr(k)) for k in range(min(setup.steps, 1000))))
    return pasted(f"a constant learning rate of {short(first)}", f"optimizer.lr = {first!r}")


def clipped(setup: Setup) -> Change | None:
    """Gradients clipped to length 1 together."""
    if getattr(setup.optimizer, "clip_norm", 1) is not None:
        return None
    return pasted("gradients clipped to length 1", _call(setup.optimizer, clip_norm=1.0))


def longer(setup: Setup, factor: int) -> Change:
    """More epochs."""
    epochs = setup.epochs * factor
    return pasted(f"epochs {setup.epochs} → {epochs}", f"epochs = {epochs}")


def named(optimizer: Any) -> str:
    """The optimiser in a line: the call that makes it, without what is as by default."""
    call = _call(optimizer)
    return call.removeprefix("optimizer = optim.") if call else repr(optimizer)


def _call(optimizer: Any, **settings: Any) -> str:
    """The call that makes the optimiser with other settings; what is as by default is left out."""
    kind = type(optimizer)
    plain = "\n".join(f"optimizer.{name} = {value!r}" for name, value in settings.items())
    if getattr(optim, kind.__name__, None) is not kind or hasattr(optimizer, "_inner"):
        return plain
    known = inspect.signature(kind).parameters
    now = {**{k: v for k, v in vars(optimizer).items() if k in known}, **settings}
    own = {k: v for k, v in now.items() if k in settings or v != known[k].default}
    if any(callable(v) for v in own.values()):
        return plain
    return f"optimizer = optim.{kind.__name__}({', '.join(f'{k}={v!r}' for k, v in own.items())})"


def _round(x: float) -> float:
    """Two digits are enough for a rate that somebody will read."""
    return float(f"{x:.2g}") if x and math.isfinite(x) else x


# -- the data --------------------------------------------------------------------------------------


def standardised(setup: Setup) -> Change | None:
    """X less its columns' means, over their stds; None where it is so or holds no numbers."""
    X = np.asarray(setup.X)
    if X.dtype.kind not in "fiub" or not X.size or not np.isfinite(X).all():
        return None
    flat = X.reshape(len(X), -1)
    if (abs(flat.mean(0)) < 0.1).all() and (abs(flat.std(0) - 1) < 0.1).all():
        return None
    return pasted("X standardised", standardising(X))


# -- the weights -----------------------------------------------------------------------------------


def redrawn(setup: Setup, read: Sequence[Layer], hidden: str = "") -> Change | None:
    """Every weight of a layer drawn anew, its biases 0: He where a rectifier follows, else Glorot.

    `hidden` is the transfer function of the hidden layers, where that is changed as well.
    """
    drawn = {x.flow.weight: x for x in read if np.ndim(x.weight) == 2}
    if not drawn:
        return None
    last = [*drawn][-1]
    follows = {
        n: x.flow.transfer if n == last else hidden or x.flow.transfer for n, x in drawn.items()
    }
    inits = {n: "he_normal" if f in RECTIFIERS else "glorot_uniform" for n, f in follows.items()}
    first = [n for n, x in drawn.items() if x.inputs_first]
    draw = "draw(rng, p[name].shape[::-1]).T"
    if first:
        draw = f"draw(rng, p[name].shape) if name in {first!r} else {draw}"
    code = (
        "p = dict(model.named_parameters())\n"
        f"inits = {pformat(inits, width=WIDE, sort_dicts=False)}\n"
        "for k, (name, init) in enumerate(inits.items()):\n"
        "    draw = nn.initializers.BY_NAME[init]\n"
        f"    rng = np.random.default_rng([{setup.seed}, k])\n"
        f"    p[name].rebind({draw})"
    )
    biases = _biases(read)
    if biases:
        names = pformat(biases, width=WIDE, compact=True)
        code += f"\nfor name in {names}:\n    p[name].rebind(np.zeros(p[name].shape))"
    kinds = " and ".join(sorted({k.partition("_")[0].capitalize() for k in inits.values()}))
    return pasted(f"weights drawn anew after {kinds}, biases 0", code)


def zero_bias(setup: Setup, read: Sequence[Layer]) -> Change | None:
    """The biases of these layers at 0."""
    own = dict(setup.model.named_parameters())
    names = [n for n in _biases(read) if np.any(own[n].value)]
    if not names:
        return None
    code = (
        f"p = dict(model.named_parameters())\nfor name in {names!r}:\n"
        "    p[name].rebind(np.zeros(p[name].shape))"
    )
    return pasted(f"{'biases' if len(names) > 1 else 'bias'} {', '.join(names)} at 0", code)


def _biases(read: Sequence[Layer]) -> list[str]:
    """The names of the layers' biases, each once: one may be that of several products."""
    return [*dict.fromkeys(x.bias_name for x in read if x.bias_name)]


# -- the layers ------------------------------------------------------------------------------------


def swapped(setup: Setup, kinds: tuple[type, ...], to: str) -> Change | None:
    """Hidden transfer functions of these kinds exchanged for another; the weights stay."""
    chain, last = parts_of(setup.model), _last_linear(setup.model)
    places = [k for k, layer in enumerate(chain) if type(layer) in kinds and k < last]
    if not places or all(type(chain[k]).__name__ == to for k in places):
        return None
    old = " and ".join(sorted({type(chain[k]).__name__ for k in places}))
    return _edited(
        setup,
        f"{to} for {old} in the hidden layers",
        f"for k in {places!r}:\n    parts[k] = nn.{to}()",
    )


def hidden_layer(setup: Setup, units: int = 32) -> Change | None:
    """A hidden layer of tanh units before the last one, which is drawn anew for it."""
    parts, last = parts_of(setup.model), _last_linear(setup.model)
    if last < 0 or type(parts[last]) is not layers.Linear:
        return None
    inputs, outputs = parts[last].in_features, parts[last].out_features
    dtype = f"np.{parts[last].weight.dtype.name}"
    return _edited(
        setup,
        f"a hidden layer of {units} tanh units",
        f"parts[{last}:{last + 1}] = [\n"
        f"    nn.Linear({inputs}, {units}, seed={setup.seed}, dtype={dtype}), nn.Tanh(),\n"
        f"    nn.Linear({units}, {outputs}, seed={setup.seed + 1}, dtype={dtype}),\n"
        f"]",
    )


def wider(setup: Setup, factor: int = 4, least: int = 32) -> Change | None:
    """Every hidden layer with more units, all weights drawn anew; not for an autoencoder, which is
    narrow on purpose."""
    if np.shape(setup.X) == np.shape(setup.y) and np.array_equal(setup.X, setup.y):
        return None
    parts = parts_of(setup.model)
    places = [k for k, layer in enumerate(parts) if type(layer) is layers.Linear]
    others = [layer for k, layer in enumerate(parts) if k not in places]
    if len(places) < 2 or any(True for layer in others for _ in layer.parameters()):
        return None
    sizes = [parts[places[0]].in_features]
    sizes += [max(least, factor * parts[k].out_features) for k in places[:-1]]
    sizes += [parts[places[-1]].out_features]
    dtype = f"np.{parts[places[0]].weight.dtype.name}"
    lines = []
    for i, (k, a, b) in enumerate(zip(places, sizes[:-1], sizes[1:], strict=True)):
        steep = k + 1 < len(parts) and type(parts[k + 1]) in (layers.ReLU, layers.LeakyReLU)
        init = ', init="he_normal"' if steep else ""
        seed = f"seed={setup.seed + i}"
        lines.append(f"parts[{k}] = nn.Linear({a}, {b}, {seed}, dtype={dtype}{init})")
    return _edited(
        setup, f"{', '.join(str(s) for s in sizes[1:-1])} hidden units", "\n".join(lines)
    )


def _edited(setup: Setup, name: str, edit: str) -> Change:
    return pasted(name, rebuilt(setup.model, edit))


def _last_linear(model: Any) -> int:
    """The place of the last layer with weights in a plain chain, −1 where there is none."""
    places = [k for k, layer in enumerate(parts_of(model)) if isinstance(layer, layers.Affine)]
    return places[-1] if places else -1
