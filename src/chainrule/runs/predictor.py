"""A trained network with what makes it useful on new rows: schema, scaling, scores."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..data import Schema, Standardizer, Table
from ..data.mapped import blocks
from ..errors import DataError, ModelFileError
from ..nn import Sequential
from ..ops import gates

__all__ = ["Floats", "Predictor", "Score", "scored"]

Floats = NDArray[np.floating[Any]]

CHUNK = 8192  # rows that are answered together


@dataclass(frozen=True)
class Score:
    """How well a network does on rows, beside what a constant answer would reach."""

    name: str  # "accuracy", or "r2"
    value: float
    baseline: float  # always the commonest class; always the mean
    rows: int
    error: float  # cross-entropy per row, or the root mean squared error in the target's units
    confusion: tuple[tuple[int, ...], ...] = ()  # rows: the true class, columns: the predicted


class Predictor:
    """A network with the schema and the scaling of the table that it learnt from.

    `features` are what `schema.encode(header, rows)` makes of a table, or a `Table`'s: float64 of
    shape (rows, schema.width), unscaled. `scores(features)` are probabilities of shape
    (rows, classes), or values of shape (rows,) in the target's own units; `answers(features)` the
    class names, or the same values. `save(path)` writes one file, and
    `Predictor.of(chainrule.load(path))` reads it, as `chainrule predict` does.

    >>> from chainrule.data import load_dataset
    >>> from chainrule.runs import Settings, train_table
    >>> iris = load_dataset("iris")
    >>> predictor = train_table(iris, Settings(epochs=60), progress=False).predictor
    >>> predictor.answers(iris.features[:2]), predictor.scores(iris.features[:2]).shape
    (['setosa', 'setosa'], (2, 3))
    >>> header = [f"{part} (cm)" for part in
    ...           ("petal width", "petal length", "sepal width", "sepal length")]
    >>> predictor.answers(predictor.schema.encode(header, [["0.2", "1.4", "3.5", "5.1"]]))
    ['setosa']
    """

    def __init__(
        self,
        model: Sequential,
        schema: Schema,
        standardizer: Standardizer,
        target_mean: float = 0.0,
        target_scale: float = 1.0,
    ) -> None:
        self.model = model
        self.schema = schema
        self.standardizer = standardizer
        self.target_mean = target_mean
        self.target_scale = target_scale

    def scores(self, features: Floats) -> Floats:
        """Class probabilities, or values in the target's units; in chunks, to save memory."""
        large = isinstance(features, np.ndarray) and len(features) > CHUNK
        parts = blocks(features, CHUNK) if large else [features]
        raw = np.concatenate([self.model.predict(self.standardizer(part)) for part in parts])
        if self.schema.classes is not None:
            logits = raw.astype(np.float64)
            if logits.shape[1] == 1:  # one logit for two classes
                logits = np.concatenate([np.zeros_like(logits), logits], axis=1)
            return gates.softmax(logits)  # type: ignore[no-any-return]
        return raw[:, 0].astype(np.float64) * self.target_scale + self.target_mean

    def answers(self, features: Floats) -> list[str] | Floats:
        """The most probable class of each row by name, or the predicted values."""
        scores = self.scores(features)
        if self.schema.classes is None:
            return scores
        return [self.schema.classes[k] for k in np.argmax(scores, axis=1)]

    def streamed(
        self, source: Any, unknown: Literal["refuse", "ignore"] = "refuse"
    ) -> Iterator[tuple[Any, Floats]]:
        """The rows of a `data` source and their scores, some at a time: memory stays bounded.

        Raises `DataError` as `schema.encode` does; with unknown="ignore" a category that was not
        there in training stands for none.
        """
        try:
            places = self.schema.places(source.header)
        except DataError as error:
            raise DataError(f"{source.name}: {error}") from None
        for chunk in source.chunks():
            yield chunk, self.scores(self.schema.encode_chunk(chunk, places, unknown))

    def score(self, table: Table, train: Table | None = None) -> Score:
        """How well the network does on a table; the baseline comes from `train` if given."""
        known = (train or table).target
        return scored(self.schema, self.scores(table.features), table.target, known)

    def save(self, path: str, **extra: Any) -> None:
        """Write everything to one file that `Predictor.of(chainrule.load(path))` reads back."""
        self.model.extra = {
            **extra,
            "schema": self.schema.to_json(),
            "standardizer": self.standardizer.to_json(),
            "target": [self.target_mean, self.target_scale],
        }
        self.model.save(path)

    @classmethod
    def at(cls, path: str | os.PathLike[str]) -> Predictor:
        """The one in a model file, or in the folder of a run.

        Raises `ModelFileError` and `DataError` naming the path and what is wrong.
        """
        from ..nn import load
        from .folder import RunFolder

        if os.path.isdir(path):
            return RunFolder.of(path).predictor()
        return cls.of(load(path))

    @classmethod
    def of(cls, model: Any) -> Predictor:
        """The predictor that a loaded model carries; `ModelFileError` where it carries none."""
        extra = getattr(model, "extra", None) or {}
        if "schema" not in extra:
            raise ModelFileError(
                "the file holds a network without a table's schema; it was saved by model.save,"
                " not by 'chainrule train'. Use it from Python: chainrule.load(path).predict(X)"
            )
        mean, scale = _two_numbers(extra.get("target"))
        schema = Schema.from_json(extra["schema"])
        standardizer = Standardizer.from_json(extra.get("standardizer"))
        if len(standardizer.mean) != schema.width:
            raise ModelFileError("the file's scaling and schema differ in width; it was altered")
        return cls(model, schema, standardizer, mean, scale)


def scored(schema: Schema, scores: Floats, target: Any, known: Any) -> Score:
    """The score of probabilities or values; the baseline answers what is usual in `known`."""
    if schema.classes is not None:
        return _classification(scores, target, known, len(schema.classes))
    return _regression(scores, target, known)


def _classification(scores: Floats, labels: Any, known: Any, classes: int) -> Score:
    predicted = np.argmax(scores, axis=1)
    confusion = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(confusion, (labels, predicted), 1)
    commonest = int(np.argmax(np.bincount(known, minlength=classes)))
    with np.errstate(divide="ignore"):
        surprise = -np.log(scores[np.arange(len(labels)), labels])
    return Score(
        "accuracy",
        float(np.mean(predicted == labels)),
        float(np.mean(labels == commonest)),
        len(labels),
        float(np.mean(surprise)),
        tuple(tuple(int(n) for n in row) for row in confusion),
    )


def _regression(scores: Floats, target: Any, known: Any) -> Score:
    residual = float(np.mean((scores - target) ** 2))
    spread = float(np.mean((target - np.mean(target)) ** 2))
    constant = float(np.mean((target - np.mean(known)) ** 2))
    return Score(
        "r2",
        1 - residual / spread if spread else float("nan"),
        1 - constant / spread if spread else float("nan"),
        len(target),
        residual**0.5,
    )


def _two_numbers(pair: Any) -> tuple[float, float]:
    good = isinstance(pair, list) and len(pair) == 2
    if not good or not all(isinstance(x, (int, float)) and np.isfinite(x) for x in pair):
        raise ModelFileError("the file's target scaling is damaged or was altered")
    return float(pair[0]), float(pair[1])
