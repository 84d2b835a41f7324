"""Who else is told of a run: callbacks of `chainrule.fit`, and scikit-learn's own (from 1.9 on)."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterable
from typing import Any

try:
    from sklearn.callback import CallbackSupportMixin as CallbackSupport
    from sklearn.callback import with_callbacks
except ImportError:  # before 1.9

    class CallbackSupport:  # type: ignore[no-redef]
        """scikit-learn has no callbacks yet."""

    def with_callbacks(method: Any) -> Any:
        """The method as it is."""
        return method


import numpy as np

from ..train import Moment
from ..train.callbacks import Callbacks

__all__ = ["CallbackSupport", "listening", "own", "with_callbacks"]


def own(callbacks: Any) -> list[Any]:
    """The user's callbacks, each told under the floating-point settings that hold here.

    `fit` of an estimator silences overflow in its steps; what happens in a callback is not of them.
    """
    if callbacks is None:
        return []
    several = list(callbacks) if isinstance(callbacks, Iterable) else [callbacks]
    return [_Undisturbed(one) if _told(one) else one for one in several]


def _told(callback: Any) -> list[str]:
    return [event for event in Callbacks.EVENTS if callable(getattr(callback, event, None))]


class _Undisturbed:
    """A callback that does not notice what NumPy's warnings are set to around it."""

    def __init__(self, callback: Any) -> None:
        settings = np.geterr()
        for event in _told(callback):
            method = getattr(callback, event)
            setattr(self, event, functools.partial(self._tell, settings, method))

    @staticmethod
    def _tell(settings: Any, method: Any, moment: Moment) -> Any:
        with np.errstate(**settings):
            return method(moment)


def listening(estimator: Any, rows: Any, epochs: int) -> list[Any]:
    """What tells scikit-learn's callbacks of each epoch; nothing where there are none."""
    begin = getattr(estimator, "_init_callback_context", None)
    if begin is None:
        return []
    context = begin(max_subtasks=epochs)
    return [_Teller(estimator, context, rows)] if getattr(context, "_callbacks", True) else []


class _Teller:
    """A callback of `fit` that ends one of scikit-learn's tasks an epoch, and begins the next."""

    def __init__(self, estimator: Any, context: Any, rows: Any) -> None:
        self.estimator, self.context = estimator, context
        metadata = None if rows.given is None else {"sample_weight": rows.given}
        self.told = {"estimator": estimator, "X": rows.X, "y": rows.targets, "metadata": metadata}
        context.call_on_fit_task_begin(**self.told)

    def on_epoch(self, moment: Moment) -> bool:
        task = self.context.subcontext(task_name="epoch")
        task.call_on_fit_task_begin(**self.told)
        stop = task.call_on_fit_task_end(
            **self.told, reconstruction_attributes=lambda: {"model_": copy.deepcopy(moment.model)}
        )
        return bool(stop)

    def on_end(self, moment: Moment) -> None:
        self.context.call_on_fit_task_end(
            **self.told, reconstruction_attributes=lambda: {"model_": moment.model}
        )
