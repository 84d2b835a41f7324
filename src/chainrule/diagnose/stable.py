"""The pair of plain outputs and a loss on logits, which takes no logarithm of a probability."""

from __future__ import annotations

from collections.abc import Iterator

from .judging import paired
from .outputs import BINARY, CLASSES, CLIPPED, REFUSALS, _both, _dropped, _fits, _loss
from .pasted import pasted
from .setup import Change, Setup

__all__ = ["on_logits", "without_last"]


def on_logits(setup: Setup) -> tuple[Change, ...]:
    """The same network with its loss on logits, or else with its probabilities clipped."""
    try:
        return tuple(_changes(setup))
    except REFUSALS:
        return ()


def _changes(setup: Setup) -> Iterator[Change]:
    pair = paired(setup.model, setup.loss, setup.X, setup.y)
    loss = CLASSES if pair.targets.form in ("labels", "distribution") else BINARY
    for edit in _dropped(setup):
        change = pasted(*_both(edit, _loss(loss)))
        if _fits(change, setup):
            yield change
            break
    change = pasted(*_loss(CLIPPED[loss]))
    if _fits(change, setup):
        yield change


def without_last(setup: Setup) -> tuple[Change, ...]:
    """The network without the transfer function behind its output."""
    found = [pasted(*edit) for edit in _dropped(setup)][:1]
    return tuple(change for change in found if _fits(change, setup))
