"""Callbacks that watch a number: training that ends, or slows down, where it no longer improves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ..errors import UnknownNameError, listed, quoted
from ..nn.base import count
from ..nn.schedules import at_least, fraction
from .callbacks import Moment
from .history import History

__all__ = ["EarlyStopping", "ReduceLROnPlateau"]

LOWER = ("loss", "mae", "mse")  # better where they are lower
HIGHER = ("accuracy", "r2")


class _Watcher:
    """Watches one number of the history, from the first epoch of a run or where it was resumed."""

    _memory: tuple[str, ...] = ()  # what a checkpoint keeps, by attribute

    def __init__(self, monitor: str, mode: str | None) -> None:
        self.monitor, self.mode = monitor, _mode(monitor, mode)
        self._history: History | None = None  # of the run that is watched
        self._loaded = False  # whether the memory is of the run that is about to begin
        self._reset()

    def state_dict(self) -> dict[str, Any]:
        """What it remembers of the run, as plain values and arrays, for a checkpoint."""
        return {name: getattr(self, name) for name in self._memory}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with the next run as one that is resumed from there."""
        for name in self._memory:
            setattr(self, name, state[name])
        self._history, self._loaded = None, True

    def _reset(self) -> None:
        raise NotImplementedError

    def _begin(self, moment: Moment) -> None:
        """Forget an earlier run, unless this is the one that was resumed."""
        if moment.history is self._history:
            return
        if not self._loaded:
            self._reset()
        self._history, self._loaded = moment.history, False

    def _value(self, moment: Moment) -> float:
        """The number of this epoch."""
        known = moment.history.last()
        if self.monitor in known:
            return known[self.monitor]
        held_out = self.monitor.startswith("val_") and not moment.history.val_loss
        repair = "give fit validation_data" if held_out else f"add it to fit's metrics, or {_SPELL}"
        raise UnknownNameError(
            f"{type(self).__name__} watches {quoted(self.monitor)}, which this run does not"
            f" measure: {repair}. Measured: {listed(known)}"
        )

    def __repr__(self) -> str:
        settings = {k: v for k, v in vars(self).items() if not k.startswith("_")}
        shown = [f"{k}={v!r}" for k, v in settings.items() if k not in self._memory]
        return f"{type(self).__name__}({', '.join(shown)})"


_SPELL = "watch 'loss'"


def _mode(monitor: str, mode: str | None) -> str:
    """ "min" or "max"; by the monitor's name where it is not said."""
    if mode is None:
        name = monitor.removeprefix("val_")
        if name not in (*LOWER, *HIGHER):
            raise ValueError(f"say mode='min' or mode='max' for the metric {quoted(monitor)}")
        return "min" if name in LOWER else "max"
    if mode not in ("min", "max"):
        raise ValueError(f"mode must be 'min' or 'max', got {quoted(mode)}")
    return mode


class EarlyStopping(_Watcher):
    """Ends training after `patience` epochs in a row in which `monitor` was not better.

    Better than the best so far by more than `min_delta`: lower for losses and errors, higher for
    "accuracy" and "r2"; for a metric of your own say `mode`. NaN is never better. With
    `restore_best` the model ends with the parameters and buffers of the best epoch, whatever ended
    the run. `best_epoch` and `best_value` tell of it. It starts anew with each call of `fit`;
    checkpoints keep what it remembers.

    Raises `ValueError` for an argument out of range and, after the first epoch,
    `UnknownNameError` where the run does not measure the monitor.

    >>> import numpy as np, chainrule as cr
    >>> rng = np.random.default_rng(0)
    >>> X, y = rng.normal(size=(60, 8)), rng.normal(size=60)  # nothing can be learnt from noise
    >>> model = cr.nn.Sequential(cr.nn.Linear(8, 32), cr.nn.Tanh(), cr.nn.Linear(32, 1), seed=0)
    >>> stop = EarlyStopping(patience=5)
    >>> history = cr.fit(model, X[:40], y[:40], loss="squared_error", epochs=500,
    ...                  validation_data=(X[40:], y[40:]), callbacks=[stop])
    >>> history.stopped, history.epochs == stop.best_epoch + 5
    ('callback', True)
    >>> loss = cr.losses.squared_error(model.predict(X[40:]), y[40:])
    >>> bool(np.isclose(loss, min(history.val_loss)))
    True

    Source: Prechelt 1998.
    """

    _memory = ("best_epoch", "best_value", "waited", "_best")

    def __init__(
        self,
        monitor: str = "val_loss",
        patience: int = 10,
        min_delta: float = 0.0,
        mode: str | None = None,
        restore_best: bool = True,
    ) -> None:
        super().__init__(monitor, mode)
        self.patience = count("patience", patience)
        self.min_delta = at_least(0, "min_delta", min_delta)
        self.restore_best = bool(restore_best)

    def _reset(self) -> None:
        self.best_epoch: int | None = None
        self.best_value: float | None = None
        self.waited = 0  # epochs since the best
        self._best: dict[str, Any] | None = None

    def on_epoch(self, moment: Moment) -> bool:
        """Whether to stop here."""
        self._begin(moment)
        value = self._value(moment)
        if not self._better(value):
            self.waited += 1
            return self.waited >= self.patience
        self.best_epoch, self.best_value, self.waited = moment.epoch, value, 0
        if self.restore_best:
            self._best = moment.model.state_dict()
        return False

    def on_end(self, moment: Moment) -> None:
        """Give the model the best epoch's parameters and buffers."""
        self._begin(moment)
        if self._best is not None:
            moment.model.load_state_dict(self._best)

    def _better(self, value: float) -> bool:
        if math.isnan(value) or self.best_value is None:
            return not math.isnan(value)
        gain = self.best_value - value if self.mode == "min" else value - self.best_value
        return gain > self.min_delta


class ReduceLROnPlateau(_Watcher):
    """lr ← max(min_lr, factor·lr) after more than `patience` epochs in a row without improvement.

    An improvement passes the best so far by more than `threshold`, of the best itself
    (`threshold_mode` "rel") or as it is ("abs"); `mode` as in `EarlyStopping`; NaN is none. For
    `cooldown` epochs after a reduction none is counted. PyTorch's names and figures, which counts
    `patience` so: with 0 the first epoch without improvement reduces. `reductions` lists each
    epoch with its new rate. After the run the optimiser has its own learning rate again. It starts
    anew with each call of `fit`; checkpoints keep what it remembers.

    Raises `ValueError` for an argument out of range and where the learning rate is a schedule,
    `UnknownNameError` where the run does not measure the monitor.

    >>> import numpy as np, chainrule as cr
    >>> X = np.linspace(-1, 1, 32)[:, None]
    >>> model = cr.nn.Sequential(cr.nn.Linear(1, 1), seed=0)
    >>> slower = ReduceLROnPlateau(monitor="loss", factor=0.5, patience=3)
    >>> history = cr.fit(model, X, np.sign(X), loss="squared_error", epochs=40, batch_size=8,
    ...                  optimizer=cr.optim.SGD(lr=0.4), callbacks=[slower])
    >>> [rate for _, rate in slower.reductions][:3]
    [0.2, 0.1, 0.05]
    """

    _memory = ("reductions", "_lr", "_best", "_bad", "_cooling")

    def __init__(
        self,
        monitor: str = "val_loss",
        mode: str | None = None,
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float = 0.0,
    ) -> None:
        super().__init__(monitor, mode)
        self.factor = fraction("factor", factor)
        self.patience = count("patience", patience, least=0)
        self.threshold = at_least(0, "threshold", threshold)
        if threshold_mode not in ("rel", "abs"):
            raise ValueError(f"threshold_mode must be 'rel' or 'abs', got {quoted(threshold_mode)}")
        self.threshold_mode = threshold_mode
        self.cooldown = count("cooldown", cooldown, least=0)
        self.min_lr = at_least(0, "min_lr", min_lr)

    def _reset(self) -> None:
        self.reductions: list[list[float]] = []
        self._lr: float | None = None  # the optimiser's own
        self._best: float | None = None
        self._bad = self._cooling = 0

    def on_epoch(self, moment: Moment) -> None:
        """Lower `moment.optimizer.lr` if it is time."""
        self._begin(moment)
        optimizer = moment.optimizer
        lr = self._rate(optimizer)
        self._lr = lr if self._lr is None else self._lr
        value = self._value(moment)
        if self._better(value):
            self._best, self._bad = value, 0
        else:
            self._bad += 1
        if self._cooling:
            self._cooling, self._bad = self._cooling - 1, 0
        if self._bad <= self.patience:
            return
        self._cooling, self._bad = self.cooldown, 0
        lower = max(self.factor * lr, self.min_lr)
        if lower < lr:
            optimizer.lr = lower
            self.reductions = [*self.reductions, [moment.epoch, lower]]

    def on_end(self, moment: Moment) -> None:
        """Give the optimiser its own learning rate back."""
        self._begin(moment)
        if self._lr is not None:
            moment.optimizer.lr = self._lr

    def _better(self, value: float) -> bool:
        if math.isnan(value) or self._best is None:
            return not math.isnan(value)
        best = self._best
        step = self.threshold * (best if self.threshold_mode == "rel" else 1)
        return value < best - step if self.mode == "min" else value > best + step

    @staticmethod
    def _rate(optimizer: Any) -> float:
        lr = getattr(optimizer, "lr", None)
        if not isinstance(lr, float) or getattr(optimizer, "full_batch", False):
            raise ValueError(
                f"ReduceLROnPlateau lowers a learning rate that is a number; {optimizer!r} has none"
            )
        return lr
