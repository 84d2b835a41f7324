"""How well a trained network answers rows whose answer is known: scores with their uncertainty."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data import Schema
from ..errors import DataError, listed, quoted
from .predictor import Floats, Predictor, Score, scored

__all__ = ["ClassScore", "Evaluation", "bootstrap", "evaluate", "targets", "wilson"]

Z = 1.959963984540054  # 95 % of a normal distribution lie within ±Z deviations
RESAMPLES = 1000
DRAWS = 10**8  # row numbers that a bootstrap draws at most; of many rows it needs fewer resamples


@dataclass(frozen=True)
class ClassScore:
    """One class: precision is right/predicted as it, recall right/really it, f1 between them."""

    name: str
    precision: float  # NaN where it was never predicted
    recall: float  # NaN where no row is of it
    f1: float
    rows: int


@dataclass(frozen=True)
class Evaluation:
    """A score with its 95 % interval, and what is behind it."""

    score: Score
    low: float
    high: float
    classes: tuple[ClassScore, ...] = ()
    mae: float | None = None  # of a regression, in the target's units

    def to_json(self) -> dict[str, Any]:
        """The numbers as plain values; `error` by its own name."""
        score = self.score
        found = {
            "name": score.name,
            "value": score.value,
            "interval": [self.low, self.high],
            "baseline": score.baseline,
            "rows": score.rows,
        }
        if not self.classes:
            return {**found, "rmse": score.error, "mae": self.mae}
        return {
            **found,
            "log_loss": score.error,
            "classes": [dataclasses.asdict(one) for one in self.classes],
            "confusion": [list(row) for row in score.confusion],
        }


def evaluate(predictor: Predictor, scores: Floats, target: Any) -> Evaluation:
    """The evaluation of scores, as `Predictor.scores` gives them, against known targets.

    Accuracy with Wilson's interval, precision, recall and log loss; or R² with a bootstrap
    interval (1000 resamples of the rows, fewer of very many), RMSE and MAE. Baselines always
    answer the rows' own commonest class, or their mean.

    >>> from chainrule.data import load_dataset
    >>> from chainrule.runs import Settings, train_table
    >>> iris = load_dataset("iris")
    >>> predictor = train_table(iris, Settings(epochs=60), progress=False).predictor
    >>> found = evaluate(predictor, predictor.scores(iris.features), iris.target)
    >>> found.low < found.score.value < found.high, found.classes[0].name
    (True, 'setosa')
    """
    score = scored(predictor.schema, scores, target, target)
    if predictor.schema.classes is None:
        low, high = bootstrap(scores, target)
        mae = float(np.mean(np.abs(scores - target)))
        return Evaluation(score, low, high, mae=mae)
    confusion = np.array(score.confusion)
    low, high = wilson(int(np.trace(confusion)), score.rows)
    return Evaluation(score, low, high, tuple(_by_class(predictor.schema.classes, confusion)))


def wilson(right: int, rows: int) -> tuple[float, float]:
    """The 95 % interval of a share: (p + z²/2n ± z√(p(1−p)/n + z²/4n²)) / (1 + z²/n).

    >>> [round(x, 3) for x in wilson(8, 10)]
    [0.49, 0.943]

    NaN for no rows. Source: Wilson 1927.
    """
    if rows == 0:
        return math.nan, math.nan
    p, z = right / rows, Z * Z / rows
    middle, half = p + z / 2, math.sqrt(z * p * (1 - p) + z * z / 4)
    return max(0.0, (middle - half) / (1 + z)), min(1.0, (middle + half) / (1 + z))


def bootstrap(prediction: Floats, target: Floats, seed: int = 0) -> tuple[float, float]:
    """The 95 % interval of R²: percentiles over rows drawn again with replacement.

    NaN for one row, or rows whose target never changes. Source: Efron 1979.
    """
    n, rng = len(target), np.random.default_rng(seed)
    centred = target - np.mean(target)
    squares = np.stack([(prediction - target) ** 2, centred, centred**2])
    values = []
    for _ in range(int(np.clip(DRAWS // n, 100, RESAMPLES))):
        residual, total, spread = squares[:, rng.integers(0, n, n)].sum(axis=1)
        variance = spread - total * total / n
        if variance > 0:
            values.append(1 - residual / variance)
    if not values:
        return math.nan, math.nan
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def targets(schema: Schema, chunk: Any, place: int) -> Any:
    """The target column of some rows: labels by the schema's classes, or numbers.

    Raises `DataError` naming the row for what is no class of the model, or no finite number.
    """
    if schema.classes is None:
        return _numbers(schema, chunk, place)
    labels = {name: label for label, name in enumerate(schema.classes)}
    cells = [_named(cell, labels) for cell in chunk.cells(place)]
    for row, cell in enumerate(cells):
        if cell not in labels:
            raise DataError(
                f"{chunk.where(row)}, column {quoted(schema.target)}: {quoted(cell)} is no class of"
                f" the model; its classes: {listed(schema.classes)}"
            )
    return np.array([labels[cell] for cell in cells], np.int64)


def _named(cell: str, labels: dict[str, int]) -> str:
    """The class that a cell names: 1, 1.0 and 1e0 are the same."""
    if cell in labels:
        return cell
    try:
        number = float(cell)
    except ValueError:
        return cell
    return str(int(number)) if number.is_integer() else repr(number)


def _numbers(schema: Schema, chunk: Any, place: int) -> Any:
    numbers = chunk.numbers(place)
    if numbers is not None and np.isfinite(numbers).all():
        return numbers
    cells = chunk.cells(place)
    row = next(row for row, cell in enumerate(cells) if not _is_number(cell))
    raise DataError(
        f"{chunk.where(row)}, column {quoted(schema.target)}: {quoted(cells[row])} is not a finite"
        " number; the target must be known to evaluate"
    )


def _is_number(cell: str) -> bool:
    try:
        return math.isfinite(float(cell))
    except ValueError:
        return False


def _by_class(names: tuple[str, ...], confusion: Any) -> list[ClassScore]:
    found = []
    for k, name in enumerate(names):
        right, predicted, rows = confusion[k, k], confusion[:, k].sum(), confusion[k].sum()
        both = predicted + rows
        found.append(
            ClassScore(
                name,
                float(right / predicted) if predicted else math.nan,
                float(right / rows) if rows else math.nan,
                float(2 * right / both) if both else math.nan,
                int(rows),
            )
        )
    return found
