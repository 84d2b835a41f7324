"""The page's curves: loss, metrics, learning rate; what happened inside, layer by layer."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from ... import plot
from ...plot import Chart
from . import words
from .facts import Facts

__all__ = ["curves", "inside"]

FACTOR = 30  # between a curve's ends, from which on a logarithmic axis is shown as well
FACTORS = (
    "The same losses by their logarithm: equal factors are equal heights, so a late fall is seen as"
    " well as an early one."
)
LAYERS = 8  # curves in one chart; of more layers some are left out, and it is said


def curves(facts: Facts) -> Iterator[tuple[str, Chart, str]]:
    """Name, chart and reading of each curve of the run."""
    history = facts.trained.history
    if not len(history.loss):
        yield from _steps(history)
        return
    yield from _losses(history)
    yield from _metrics(history)
    rates = list(getattr(facts.trained.watch, "learning_rate", None) or ())
    if rates:
        chart = plot.lines({"learning rate": rates}, title="Learning rate", x_label="epoch")
        yield "learning_rate", chart, words.learning_rates(rates)


def _steps(history: Any) -> Iterator[tuple[str, Chart, str]]:
    """The losses of a run that ended within its first epoch."""
    losses = list(history.step_loss)
    chart = plot.lines({"loss": losses}, title="Loss", x_label="step")
    yield "loss", chart, words.curve("loss of a step", losses, "step") if losses else "No step."


def _losses(history: Any) -> Iterator[tuple[str, Chart, str]]:
    series, at = {"training": list(history.loss)}, {}
    reading = words.curve("training loss", list(history.loss))
    if history.val_loss:
        series["validation"] = list(history.val_loss)
        reading = f"{words.validation(history.val_loss)} {reading}"
        found = np.asarray(history.val_loss)
        if np.isfinite(found).any() and len(found) > 1:
            at = {"lowest validation": float(np.nanargmin(found) + 1)}
    chart = plot.lines(series, title="Loss", x_label="epoch", at=at)
    yield "loss", chart, reading
    every = np.concatenate([np.asarray(values, np.float64) for values in series.values()])
    known = every[np.isfinite(every) & (every > 0)]
    if known.size and known.max() / known.min() >= FACTOR:
        chart = plot.lines(series, title="Loss, logarithmic", x_label="epoch", log_y=True, at=at)
        yield "loss_log", chart, FACTORS


def _metrics(history: Any) -> Iterator[tuple[str, Chart, str]]:
    for name, values in history.metrics.items():
        if name.startswith("val_") and name.removeprefix("val_") in history.metrics:
            continue
        if not values:
            continue
        series = {"training": list(values)}
        reading = words.curve(f"{name} on training rows", values)
        if other := history.metrics.get("val_" + name):
            series["validation"] = list(other)
            reading += " " + words.curve(f"{name} on validation rows", other)
        yield f"metric_{name}", plot.lines(series, title=name, x_label="epoch"), reading


def inside(facts: Facts) -> Iterator[tuple[str, Chart, str]]:
    """Gradient norm and update ratio of the layers over time, where they were watched."""
    watch = facts.trained.watch
    if watch is None or not watch.layers:
        return
    named = dict(facts.model.named_modules())
    names = {layer: _layer(layer, named) for layer in watch.layers}
    for curve, title, what, more in (
        ("gradient_norm", "Gradient norm", "gradient norm", ""),
        (
            "update_ratio",
            "Update ratio",
            "update ratio",
            " It is the net movement of a layer's weights a step, as a share of their length.",
        ),
    ):
        values = {names[k]: list(v) for k, v in getattr(watch, curve).items()}
        reading = words.spread(what, values) + more
        shown, left = _picked(values)
        if left:
            reading += f" {words.counted(left, 'layer')} of {len(values)} are not drawn."
        positive = any(math.isfinite(x) and x > 0 for v in shown.values() for x in v)
        chart = plot.lines(
            {name: _known(numbers) for name, numbers in shown.items()},
            title=title,
            x_label="epoch",
            log_y=positive,
        )
        yield curve, chart, reading


def _known(curve: list[float]) -> tuple[list[int], list[float]]:
    """The epochs (from 1) with a number, and their numbers."""
    epochs = [epoch for epoch, value in enumerate(curve, start=1) if math.isfinite(value)]
    return epochs, [curve[epoch - 1] for epoch in epochs]


def _layer(layer: str, named: Any) -> str:
    kind = type(named[layer]).__name__ if layer in named else ""
    return f"{layer} {kind}".strip()


def _picked(values: dict[str, list[float]]) -> tuple[dict[str, list[float]], int]:
    """At most LAYERS curves, evenly chosen from first to last; how many are left out."""
    names = list(values)
    if len(names) <= LAYERS:
        return values, 0
    places = np.unique(np.linspace(0, len(names) - 1, LAYERS).round().astype(int))
    return {names[k]: values[names[k]] for k in places}, len(names) - len(places)
