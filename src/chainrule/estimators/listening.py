"""scikit-learn's own callbacks (its `set_callbacks`, from 1.9 on), told by ours."""

from __future__ import annotations

import copy
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


from ..train import Moment

__all__ = ["CallbackSupport", "listening", "with_callbacks"]


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
