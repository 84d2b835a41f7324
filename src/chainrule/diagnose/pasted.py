"""Changes whose code is what is run: one text for the user's editor and for the counterfactual."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from .. import nn
from ..nn import losses, optim
from .setup import Change, Setup
from .task import Task

__all__ = ["NAMES", "pasted"]

NAMES = ("model", "X", "y", "loss", "optimizer", "epochs", "batch_size")


def pasted(name: str, code: str, task: Task | None = None) -> Change:
    """The change that this code makes to `model, X, y, loss, optimizer, epochs, batch_size`.

    The model and the optimiser are copies, X and y the run's own: the code binds them anew. `task`
    is what y asks for after a change of its form. Code is the house's own text: what comes from a
    network stands in it as a number or by `repr`.

    >>> pasted("y from 0", "y = y - 1").code
    'y = y - 1'
    """
    return Change(name, code, lambda setup: _executed(code, setup, task))


def _executed(code: str, setup: Setup, task: Task | None) -> Setup:
    import chainrule as cr  # which imports this room

    names: dict[str, Any] = {"np": np, "cr": cr, "nn": nn, "optim": optim, "losses": losses}
    names |= {k: getattr(setup, k) for k in NAMES}
    names["model"], names["optimizer"] = setup.fresh(), copy.copy(setup.optimizer)
    exec(code, names)
    return setup.changed(**{k: names[k] for k in NAMES}, task=task or setup.task)
