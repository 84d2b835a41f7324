"""What a reader should look at next: said where the numbers say it, and only there."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from ...draw.face import clean
from ..evaluation import wilson
from . import words

__all__ = ["advice"]

FEW = 30  # held-out rows that say little
PROBED = 2000  # training rows that are answered, to be compared with the held-out ones
GAP = {"accuracy": 0.05, "r2": 0.1}  # between the two, from which it is told
RARE = 10  # times that the commonest class is larger
FALL = 0.05  # of the loss over the last tenth of the epochs, from which it was still falling
RISE = 1.05  # of the validation loss over its least


def advice(trained: Any) -> list[str]:
    """Sentences about what `train_table` returned, the most important first; often none.

    They tell of an interrupted run, a score of few rows or no better than a constant answer,
    classes that are never found or rare, training rows that are known better, and a run that
    ended too early or too late. Training rows are probed, 2000 at most.

    >>> from chainrule.data import load_dataset
    >>> from chainrule.runs import Settings, train_table
    >>> trained = train_table(load_dataset("iris"), Settings(epochs=60), progress=False)
    >>> advice(trained)
    []
    """
    parts = (_interrupted, _few, _constant, _classes, _beyond, _falling, _rising)
    return [sentence for part in parts for sentence in part(trained)]


def _interrupted(trained: Any) -> Iterator[str]:
    history = trained.history
    if history.stopped == "interrupted":
        yield (
            f"The run was interrupted after step {history.steps:,} of {trained.steps:,}: all of"
            " this is about the model so far; --resume goes on."
        )


def _few(trained: Any) -> Iterator[str]:
    score = trained.score
    if score.rows >= FEW:
        return
    text = f"The score is a rough guess: {words.counted(score.rows, 'row')} held out"
    if score.name == "accuracy":
        low, high = wilson(round(score.value * score.rows), score.rows)
        text += f" allow for {words.percent(low, 0)} to {words.percent(high, 0)}"
    yield f"{text}. Gather more rows, or hold out more with --held-out."


def _constant(trained: Any) -> Iterator[str]:
    score = trained.score
    if score.name != "accuracy":
        if score.value <= 0:
            yield "It is no better than always answering the mean."
        return
    low, _ = wilson(round(score.value * score.rows), score.rows)
    if score.value <= score.baseline:
        yield "It is no better than always answering the commonest class."
    elif low <= score.baseline:
        yield (
            "It may be no better than always answering the commonest class: the score's interval"
            f" reaches down to {words.percent(low)}."
        )


def _classes(trained: Any) -> Iterator[str]:
    """Classes of which no row was found, or of which there are few."""
    names = trained.predictor.schema.classes
    if names is None:
        return
    confusion = np.array(trained.score.confusion)
    rows, hits = confusion.sum(axis=1), np.diag(confusion)
    lost = [k for k in range(len(names)) if rows[k] and not hits[k]]
    counts = np.bincount(trained.train.target, minlength=len(names))
    weighed = trained.settings.class_weight is not None
    repair = "gather more of them" if weighed else "try --class-weight balanced"
    if lost and 2 * counts[lost].min() >= counts.mean():  # weights would change little
        repair = "see for what they were taken"
    if lost:
        some = words.listed([f"{clean(names[k], 40)} (0 of {rows[k]})" for k in lost[:3]])
        more = f" and {len(lost) - 3} classes more" if len(lost) > 3 else ""
        yield f"No held-out row of {some}{more} was found: {repair}."
        return
    few, many = int(counts.min()), int(counts.max())
    if few * RARE < many:
        yield (
            f"{clean(names[int(np.argmin(counts))], 40)} is rare: {few:,} of"
            f" {trained.train.rows:,} training rows. Read each class's recall, for accuracy says"
            " little here."
        )


def _beyond(trained: Any) -> Iterator[str]:
    train, score = trained.train, trained.score
    places = np.unique(np.linspace(0, train.rows - 1, min(train.rows, PROBED)).astype(np.int64))
    learnt = trained.predictor.score(train.take(places)).value
    beyond = score.value
    if score.name == "accuracy":
        beyond = wilson(round(score.value * score.rows), score.rows)[1]
    if not (learnt > max(beyond, 0.5) and learnt - score.value > GAP[score.name]):
        return
    told = {
        "accuracy": f"{words.percent(learnt)} of them right",
        "r2": f"R² {learnt:.3g} on them",
    }
    yield (
        f"It knows the training rows better than the held-out ones: {told[score.name]}. Try"
        " --patience 20, --dropout 0.2, --weight-decay 0.01, fewer --hidden units, or more rows."
    )


def _falling(trained: Any) -> Iterator[str]:
    history = trained.history
    watched = [v for v in history.val_loss if v is not None] or history.loss
    last = len(watched) // 10
    if history.stopped or not last:
        return
    before, now = watched[-1 - last], watched[-1]
    if math.isfinite(before) and now < (1 - FALL) * before and before > watched[0] / 1000:
        yield (
            f"The loss was still falling at the end, by {words.percent(1 - now / before, 0)} over"
            f" the last {words.counted(last, 'epoch')}: try more --epochs."
        )


def _rising(trained: Any) -> Iterator[str]:
    values, settings = np.asarray(trained.history.val_loss, np.float64), trained.settings
    if settings.patience is not None or not np.isfinite(values).all() or len(values) < 2:
        return
    best = int(np.argmin(values))
    if values[-1] > RISE * values[best]:
        yield (
            f"The validation loss was lowest at epoch {best + 1} of {len(values)} and rose"
            " afterwards: --patience 20 keeps the best weights."
        )
