"""The parameters of an MLPClassifier or MLPRegressor as loss, optimiser, batches, start and seed.

Both scikit-learn's and those of `chainrule.estimators` have them under one name with one meaning;
they are read by name, so neither library is imported here.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator
from numbers import Integral
from typing import Any

import numpy as np

from ...circuit import vocabulary as ops
from ...errors import quoted
from ...nn import initializers, losses, optim
from ...nn.base import Layer
from ...nn.layers import Affine
from ...nn.module import Module
from ...nn.sequential import Sequential
from ...nn.solvers import FACTR, Descent, UncorrectedAdam, is_lbfgs
from ...plot.scale import short

__all__ = ["batch", "epochs", "loss", "optimizer", "restarted", "said", "seed"]

Array = Any

DEFAULTS = {"log_loss", "squared_error"}  # what these words mean hangs on the output
OF_OUTPUT = {
    "identity": "squared_error",
    "logistic": "logistic",
    "softmax": "softmax_cross_entropy",
}


def loss(estimator: Any) -> Any:
    """The loss on the network's raw outputs; None where it is none of `losses`."""
    given = getattr(estimator, "loss", "")
    if isinstance(given, str) and given in DEFAULTS:
        return OF_OUTPUT.get(estimator.out_activation_)
    return given if callable(given) or given in losses.LOSSES else None


def batch(estimator: Any, rows: int) -> int | None:
    """The rows of a batch; None for all of them, as L-BFGS has it."""
    if is_lbfgs(estimator.solver):
        return None
    size = 200 if estimator.batch_size == "auto" else int(estimator.batch_size)
    return min(size, rows)


def seed(estimator: Any) -> int:
    """The number that seeds the order of rows: `random_state` where it is one, else 0."""
    given = estimator.random_state
    return int(given) if _is_number(given) else 0


def epochs(estimator: Any) -> int:
    """What `max_iter` allows; of one that `partial_fit` has taught, the epochs that it was given.

    A fit that ended before, as its loss fell by less than `tol`, is run to the end: with the few
    steps that it took no change could show what it is worth.
    """
    done = _done(estimator)
    return done if done > int(estimator.n_iter_) else int(estimator.max_iter)


def _done(estimator: Any) -> int:
    """The epochs taken in all calls together; `n_iter_` counts those of the last one."""
    curve = getattr(estimator, "loss_curve_", None)
    return max(1, len(curve) if curve else int(estimator.n_iter_))


def _is_number(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


# -- the optimiser ----------------------------------------------------------------------------


class _OnMatrices:
    """λ·W is added for matrices W only: scikit-learn's penalty leaves biases alone."""

    def _decayed(self, p: Array, g: Array) -> Array:
        return super()._decayed(p, g) if len(p.shape) > 1 else g  # type: ignore[misc]


class SGD(_OnMatrices, Descent):
    """scikit-learn's SGD, with its penalty."""


class Adam(_OnMatrices, UncorrectedAdam):
    """scikit-learn's Adam, with its penalty.

    Where gradients are as small as ε it differs thirtyfold from ours in the first steps.
    """


def optimizer(estimator: Any, rows: int, size: int | None) -> Any:
    """The solver with its settings; `alpha` is a weight decay of alpha/(rows of a batch)."""
    own = estimator
    if not isinstance(own.solver, str):
        return copy.deepcopy(optim.get(own.solver))
    if own.solver == "lbfgs":
        return optim.LBFGS(
            max_eval=own.max_fun, tolerance_grad=own.tol, tolerance_change=FACTR,
            weight_decay=_decay(own, rows),
        )  # fmt: skip
    more: dict[str, Any] = {name: getattr(own, name, None) for name in ("clip_norm", "clip_value")}
    lr, own_decay = _rate(own, rows, size or rows), getattr(own, "weight_decay", None)
    if own.solver == "sgd":
        more["weight_decay"] = _decay(own, size or rows)
        return SGD(lr, own.momentum, own.nesterovs_momentum and own.momentum, **more)
    if own.solver == "adam":
        betas = (own.beta_1, own.beta_2)
        return Adam(lr, betas, own.epsilon, _decay(own, size or rows), **more)
    if own_decay is not None:
        more["weight_decay"] = own_decay
    if own.solver == "adamw":
        more |= {"betas": (own.beta_1, own.beta_2), "eps": own.epsilon}
    return optim.OPTIMIZERS[own.solver](lr, **more)


def _decay(own: Any, rows: int) -> float:
    """alpha/rows, and a weight decay of the solver's own, which scikit-learn's have not."""
    return float(own.alpha / rows + (getattr(own, "weight_decay", None) or 0.0))


def _rate(own: Any, rows: int, size: int) -> Any:
    """The learning rate, or the schedule that sets it; "adaptive" stays where it begins."""
    start, word, steps = own.learning_rate_init, own.learning_rate, -(-rows // size)
    if callable(word):
        return word
    if word in ("cosine", "one_cycle"):
        return getattr(optim, word)(start, own.max_iter * steps)
    if word != "invscaling" or own.solver == "adam":  # Adam takes no notice of the word
        return start

    def inverse(step: Any) -> Any:
        seen = ops.floor(step / steps) * rows + 1.0
        return start * seen**-own.power_t

    return inverse


# -- the start --------------------------------------------------------------------------------


def restarted(network: Any, estimator: Any, theirs: bool) -> tuple[Module, int]:
    """The network as `random_state` drew it, and the seed of the fit.

    Layer by layer W, then b, uniform on (−a, a) with a = √(6/(in + out)), or √(2/(in + out)) around
    logistic units: scikit-learn's draws in its order. What is not drawn is as in a new layer.
    """
    random = np.random.RandomState(seed(estimator) % 2**32)
    fresh = Sequential(*[_fresh(layer) for layer in network])
    fresh.extra = dict(network.extra)
    layers: list[Any] = [m for m in fresh.modules() if isinstance(m, Affine)]
    kinds, init = _kinds(estimator, len(layers) - 1), getattr(estimator, "init", None)
    for layer, kind in zip(layers, [*kinds, kinds[-1] if kinds else None], strict=True):
        outputs, inputs = layer.weight.shape
        if init is not None:
            drawn: Any = random
            layer.weight.rebind(initializers.draw(init, drawn, (inputs, outputs)).T)
            layer.bias.rebind(np.zeros(outputs))
            continue
        bound = math.sqrt((2 if kind in ("logistic", "sigmoid") else 6) / (inputs + outputs))
        layer.weight.rebind(random.uniform(-bound, bound, (inputs, outputs)).T)
        layer.bias.rebind(random.uniform(-bound, bound, outputs))
    own = seed(estimator) if theirs else int(random.randint(2**31 - 1))
    return fresh.eval(), own


def _fresh(layer: Any) -> Any:
    """A layer with the same arguments; one of the user's own class as it is."""
    return type(layer)(**layer.config()) if isinstance(layer, Layer) else copy.deepcopy(layer)


def _kinds(estimator: Any, hidden: int) -> list[Any]:
    given = estimator.activation
    if isinstance(given, (str, Module)) or not isinstance(given, Iterable):
        return [given] * hidden
    return list(given)


# -- what is not as it was ----------------------------------------------------------------------


def said(own: Any, rows: int, size: int | None, from_start: bool, theirs: bool) -> tuple[str, ...]:
    """Sentences on where the run comes from, and on what it does otherwise than the fit did."""
    told = [_beginning(own, from_start), *_length(own)]
    if own.alpha:
        told.append(_penalty(own, rows, size))
    if not is_lbfgs(own.solver):
        if own.learning_rate == "adaptive" and own.solver != "adam":
            told.append(
                "learning_rate='adaptive' is held at the rate that it begins with,"
                f" {short(own.learning_rate_init)}."
            )
        if size is not None and size < rows and (theirs or not own.shuffle):
            told.append(
                "The rows are visited in another order than there."
                if own.shuffle
                else "shuffle=False is left aside: the rows are shuffled."
            )
        if own.early_stopping:
            told.append(
                "early_stopping held some of the rows back there; here all rows are trained on."
            )
    if getattr(own, "class_weight", None) is not None:
        told.append(f"class_weight={quoted(own.class_weight)} is left aside.")
    told.append(
        "Its parameters have other names than the remedies: lr is learning_rate_init there, epochs"
        " max_iter, the layers of model hidden_layer_sizes and activation."
    )
    return tuple(told)


def _beginning(own: Any, from_start: bool) -> str:
    if not from_start:
        return "The run goes on from the fitted weights; from_start=True runs the fit itself again."
    if _is_number(own.random_state):
        return f"The weights are those that random_state={own.random_state} drew before the fit."
    return (
        "random_state is no number, so the fit's own start is lost: the weights are drawn from 0 in"
        " its place."
    )


def _length(own: Any) -> Iterator[str]:
    done, most = _done(own), epochs(own)
    if done < most and not is_lbfgs(own.solver):
        what = "score no longer rose" if own.early_stopping else "loss no longer fell"
        yield (
            f"The fit ended after {done} of {most} epochs, as its {what} by tol={short(own.tol)};"
            f" here all {most} are run."
        )


def _penalty(own: Any, rows: int, size: int | None) -> str:
    if not isinstance(own.solver, str) or own.solver not in ("sgd", "adam", "lbfgs"):
        return f"alpha={short(own.alpha)} is left aside; the solver's own weight_decay stays."
    share = own.alpha / (size or rows)
    where = "weights and biases" if own.solver == "lbfgs" else "weights, not of biases"
    return f"alpha={short(own.alpha)} is a weight decay of {short(share)} of the {where}."
