"""What the peers' rules look at: a run's curves, and its tensors at some of its epochs."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import chainrule as cr
from chainrule import nn
from diagnosis_suite.case import Case

Array = np.ndarray[Any, Any]
SAMPLES = 20  # epochs that are looked at: their callbacks look at every one, or at every fifth


@dataclass(frozen=True)
class Shot:
    """One moment: gradients of a batch and parameters by name, and what each layer gives."""

    epoch: int
    step: int
    loss: float
    gradients: dict[str, Array]
    parameters: dict[str, Array]
    layers: list[tuple[str, Array, Array]]  # an activation's name, its input and its output


@dataclass
class Watched:
    """A run as a callback sees it; `refused` where `fit` would not take the data."""

    case: Case
    shots: list[Shot] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    step_loss: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    refused: bool = False
    overflowed: bool = False

    @property
    def weights(self) -> list[str]:
        """The names of the weights (not the biases), first layer first."""
        if not self.shots:
            return []
        return [name for name, p in self.shots[0].parameters.items() if p.ndim == 2]

    @property
    def not_finite(self) -> bool:
        """Whether a NaN or an infinity has come up: in the data, they are there from the start."""
        data = not all(
            np.isfinite(np.asarray(a, dtype=float)).all() for a in (self.case.X, self.case.y)
        )
        return self.overflowed or data


def watch(case: Case) -> Watched:
    """Train the case once more, looking at it as a callback would."""
    run = Watched(case)
    every = max(1, case.epochs // SAMPLES)
    model = case.model()

    def on_epoch(moment: Any) -> None:
        run.loss.append(moment.history.loss[-1])
        run.accuracy.append(_accuracy(case, model))
        if moment.epoch == 1 or moment.epoch % every == 0 or moment.epoch == case.epochs:
            run.shots.append(_shot(case, model, moment))

    watcher = type("Watcher", (), {"on_epoch": staticmethod(on_epoch)})()
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            history = cr.fit(
                model, case.X, case.y, callbacks=[watcher], progress=False, **case.settings()
            )
            run.step_loss = list(history.step_loss)
        except cr.GradientError:
            run.overflowed = True
        except (cr.DataError, cr.ShapeError):
            run.refused = True
    return run


def _accuracy(case: Case, model: Any) -> float:
    """Keras' accuracy: of a regression, the share of outputs that are equal to their targets."""
    if case.task == "regression":
        return 0.0
    return max(0.0, case.score(model, *(case.recipe.truth or (None, None))))


def _shot(case: Case, model: Any, moment: Any) -> Shot:
    parameters = {name: np.array(p.value) for name, p in model.named_parameters()}
    gradients = {name: np.array(moment.gradients[name]) for name in parameters}
    return Shot(
        moment.epoch, moment.step, moment.loss, gradients, parameters, layers_of(model, case.X)
    )


def layers_of(model: Any, X: Any) -> list[tuple[str, Array, Array]]:
    """Each activation's name, input and output on X; the last layer's, if linear, too."""
    found: list[tuple[str, Array, Array]] = []
    value, net = np.asarray(X, dtype=model.dtype), None
    model.eval()
    try:
        with cr.no_grad(), np.errstate(all="ignore"):
            for layer in model:
                out = np.asarray(layer(value).value)
                if isinstance(layer, nn.Linear):
                    if net is not None:
                        found.append(("linear", net, net))
                    net = out
                elif net is not None and not isinstance(layer, nn.Dropout):
                    found.append((type(layer).__name__.lower(), net, out))
                    net = None
                value = out
    finally:
        model.train()
    return found if net is None else [*found, ("linear", net, net)]
