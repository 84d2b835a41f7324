"""A run's numbers as TensorBoard event files, written by tensorboardX."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any

from ..errors import DataError
from .watch import Watch, rate

__all__ = ["TensorBoard"]


class TensorBoard:
    """A callback for `fit` that writes a run's numbers for TensorBoard, a point an epoch.

    Scalars: `loss`, `val_loss`, each metric, `lr` where the optimiser has one, and with a `watch`
    (which must stand before it among the callbacks) `gradient_norm/LAYER` and `update_ratio/LAYER`.
    A resumed run goes on in a file of its own; what a killed one had written beyond is purged.

    Raises `DataError` at once, before any training, where tensorboardX is not installed.

    >>> import tempfile, numpy as np, chainrule as cr
    >>> from chainrule.runs.tensorboard import TensorBoard
    >>> folder, X = tempfile.mkdtemp(), np.ones((4, 1))
    >>> model = cr.nn.Sequential(cr.nn.Linear(1, 1), seed=0)
    >>> board = TensorBoard(folder)
    >>> _ = cr.fit(model, X, X, loss="squared_error", epochs=2, callbacks=[board])
    >>> [name.startswith("events.out.tfevents") for name in os.listdir(folder)]
    [True]
    """

    def __init__(self, folder: str | os.PathLike[str], watch: Watch | None = None) -> None:
        try:
            from tensorboardX import SummaryWriter
        except ImportError:
            raise DataError(
                "TensorBoard files are written by tensorboardX; install it with"
                " pip install 'chainrule[tensorboard]', or leave TensorBoard out"
            ) from None
        self.folder, self.watch = os.fsdecode(folder), watch
        self._make = SummaryWriter
        self._writer: Any = None

    def on_epoch(self, moment: Any) -> None:
        """Write the epoch's numbers."""
        if self._writer is None:
            earlier = {"purge_step": moment.epoch} if moment.epoch > 1 else {}
            # The name alone has the second of the clock: a run resumed within it would overwrite.
            suffix = f".{os.getpid()}-{moment.epoch}"
            self._writer = self._make(self.folder, flush_secs=5, filename_suffix=suffix, **earlier)
        for name, value in self._scalars(moment).items():
            self._writer.add_scalar(name, value, moment.epoch)

    def on_end(self, moment: Any) -> None:
        """Close the file."""
        self.close()

    def close(self) -> None:
        """Write what is waiting and close the file; calling it twice does nothing."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _scalars(self, moment: Any) -> Mapping[str, float]:
        found = dict(moment.history.last())
        lr = rate(moment.optimizer, moment.step)
        if lr is not None:
            found["lr"] = lr
        for curve in ("gradient_norm", "update_ratio") if self.watch is not None else ():
            for layer, values in getattr(self.watch, curve).items():
                if values and math.isfinite(values[-1]):
                    found[f"{curve}/{layer}"] = values[-1]
        return found
