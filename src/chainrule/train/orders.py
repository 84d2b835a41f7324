"""The orders in which epochs visit the rows: kept while they are needed, drawn ahead of time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from .run import Plan

__all__ = ["Orders"]

Array = Any
WORTH = 1 << 13  # rows to order for which a thread is worth its start


class Orders:
    """Row numbers of whole epochs, one after the other, as `Plan.order` gives them."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._natural = None if plan.shuffle else np.arange(len(plan.X))
        self._drawn: dict[int, Array] = {}
        self._memory = np.empty(0, np.int64)

    def rows(self, first: int, last: int) -> Array:
        """The rows of the epochs `first` … `last`, valid until the next call; earlier ones go.

        Where rows are not shuffled they are those of one epoch, which are those of any.
        """
        if self._natural is not None:
            return self._natural
        drawn = {e: order for e, order in list(self._drawn.items()) if e >= first}
        self._drawn = drawn
        for epoch in range(first, last + 1):
            if epoch not in drawn:
                drawn[epoch] = self.plan.order(epoch)
        orders = [drawn[epoch] for epoch in range(first, last + 1)]
        if len(orders) == 1:
            return orders[0]
        count = len(orders) * len(self.plan.X)
        if len(self._memory) < count:
            self._memory = np.empty(2 * count, np.int64)
        # Fresh memory would cost more than the copy.
        return np.concatenate(orders, out=self._memory[:count])

    @contextmanager
    def ahead(self, first: int, last: int) -> Iterator[None]:
        """Within, another thread draws what is missing of these epochs; it ends before this does.

        Native code that runs meanwhile needs no interpreter, so the drawing takes no time where a
        core is free.
        """
        last = min(last, self.plan.epochs)
        missing = [e for e in range(first, last + 1) if e not in self._drawn]
        if self._natural is not None or len(missing) * len(self.plan.X) < WORTH:
            yield
            return
        over = threading.Event()
        thread = threading.Thread(
            target=self._draw, args=(missing, over), name="chainrule row orders", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:  # no thread is to be had, as at the interpreter's end
            yield
            return
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _draw(self, epochs: list[int], over: threading.Event) -> None:
        try:
            for epoch in epochs:
                if over.is_set():
                    return
                self._drawn[epoch] = self.plan.order(epoch)
        except MemoryError:  # `rows` will say so, if it comes to that
            return
