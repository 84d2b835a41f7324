"""From a table to a trained network and back: what `chainrule train` and `predict` do."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data import Schema, Standardizer, Table, split
from ..errors import DataError, ModelFileError, unknown
from ..nn import Sequential, layers, optim, schedules
from ..nn.base import count
from ..ops import gates
from ..train import History, fit

Floats = NDArray[np.floating[Any]]

ACTIVATIONS: dict[str, type[layers.Module]] = {
    "relu": layers.ReLU,
    "tanh": layers.Tanh,
    "sigmoid": layers.Sigmoid,
    "leaky_relu": layers.LeakyReLU,
    "elu": layers.ELU,
    "selu": layers.SELU,
    "gelu": layers.GELU,
    "silu": layers.SiLU,
    "softplus": layers.Softplus,
}
# σ and tanh keep the variance with Glorot's draw, the rectifiers with He's, SELU with LeCun's.
_INITIALISERS = {"tanh": "glorot_uniform", "sigmoid": "glorot_uniform", "selu": "lecun_normal"}


@dataclass(frozen=True)
class Settings:
    """How to train; the defaults suit tables of a hundred to some ten thousand rows."""

    hidden: tuple[int, ...] | None = None  # None: (128, 64) from a thousand rows on, else (64,)
    activation: str = "relu"
    optimizer: str = "adam"
    lr: float | None = None  # None: 0.003 for adam and adamw, the optimiser's own for others
    schedule: str = "cosine"  # or "constant"
    epochs: int | None = None  # None: about 2000 steps, from 40 to 200 epochs
    batch_size: int = 32
    weight_decay: float = 0.0
    dropout: float = 0.0
    held_out: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        if self.activation not in ACTIVATIONS:
            raise unknown("activation", self.activation, ACTIVATIONS)
        if self.schedule not in ("cosine", "constant"):
            raise unknown("schedule", self.schedule, ("cosine", "constant"))
        if self.optimizer not in optim.OPTIMIZERS:
            raise unknown("optimizer", self.optimizer, optim.OPTIMIZERS)
        for name in ("epochs", "batch_size", "seed"):
            if (value := getattr(self, name)) is not None:
                count(name, value, least=0 if name == "seed" else 1)
        for units in self.hidden or ():
            count("hidden units", units)
        for name in ("lr", "weight_decay", "dropout", "held_out"):
            if not math.isfinite(getattr(self, name) or 0):
                raise DataError(f"{name} must be a finite number, got {getattr(self, name)}")

    def resolved(self, rows: int) -> Settings:
        """The same with what depends on the number of training rows filled in."""
        epochs = self.epochs or min(200, max(40, round(2000 * self.batch_size / rows)))
        hidden = self.hidden if self.hidden is not None else ((128, 64) if rows >= 1000 else (64,))
        usual = 3e-3 if self.optimizer.startswith("adam") else optim.get(self.optimizer).lr
        lr = self.lr if self.lr is not None else usual
        return dataclasses.replace(self, epochs=epochs, hidden=hidden, lr=lr)

    def steps(self, rows: int) -> int:
        """The number of updates of a run on so many training rows."""
        return (self.resolved(rows).epochs or 1) * -(-rows // self.batch_size)


@dataclass(frozen=True)
class Score:
    """How well a network does on rows, beside what a constant answer would reach."""

    name: str  # "accuracy", or "r2"
    value: float
    baseline: float  # always the commonest class; always the mean
    rows: int
    error: float  # cross-entropy per row, or the root mean squared error in the target's units
    confusion: tuple[tuple[int, ...], ...] = ()  # rows: the true class, columns: the predicted


@dataclass
class Trained:
    """A trained network with what is needed to use it on new rows."""

    predictor: Predictor
    history: History
    score: Score  # on held-out rows
    train_rows: int
    settings: Settings

    @property
    def steps(self) -> int:
        """The number of updates of a whole run; `history.steps` says how many were made."""
        return self.settings.steps(self.train_rows)

    def save(self, path: str) -> None:
        """Write the network, its schema and its scaling to one file."""
        score = dataclasses.asdict(self.score)
        for name in ("value", "baseline", "error"):  # JSON has no NaN, as R² of one row is
            score[name] = score[name] if math.isfinite(score[name]) else None
        self.predictor.save(path, score=score)


class Predictor:
    """A network with the schema and the scaling of the table that it learnt from.

    `features` are what `schema.encode(header, rows)` makes of a table, or a `Table`'s: float64 of
    shape (rows, schema.width), unscaled. `scores(features)` are probabilities of shape
    (rows, classes), or values of shape (rows,) in the target's own units; `answers(features)` the
    class names, or the same values. `save(path)` writes one file, and
    `Predictor.of(chainrule.load(path))` reads it, as `chainrule predict` does.

    >>> from chainrule.data import load_dataset
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
        raw = self.model.predict(self.standardizer(features), batch_size=8192)
        if self.schema.classes is not None:
            return gates.softmax(raw.astype(np.float64))  # type: ignore[no-any-return]
        return raw[:, 0].astype(np.float64) * self.target_scale + self.target_mean

    def answers(self, features: Floats) -> list[str] | Floats:
        """The most probable class of each row by name, or the predicted values."""
        scores = self.scores(features)
        if self.schema.classes is None:
            return scores
        return [self.schema.classes[k] for k in np.argmax(scores, axis=1)]

    def score(self, table: Table, train: Table | None = None) -> Score:
        """How well the network does on a table; the baseline comes from `train` if given."""
        known = (train or table).target
        scores = self.scores(table.features)
        if self.schema.classes is not None:
            return _classification(scores, table.target, known, len(self.schema.classes))
        return _regression(scores, table.target, known)

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


def train_table(
    table: Table,
    settings: Settings | None = None,
    *,
    progress: bool | None = None,
    callbacks: Sequence[Any] = (),
) -> Trained:
    """Train a network on a table, holding out a part of the rows to score it on.

    Features are standardised with the training rows' mean and deviation, a regression target too.

    >>> from chainrule.data import load_dataset
    >>> trained = train_table(load_dataset("wine"), Settings(epochs=20), progress=False)
    >>> trained.score.value > 0.8
    True
    """
    settings = settings or Settings()
    train, held_out = split(table, settings.held_out, settings.seed)
    settings = settings.resolved(train.rows)
    predictor = _untrained(train, settings)
    target: Floats = train.target  # type: ignore[assignment]
    if table.task == "regression":
        target = ((target - predictor.target_mean) / predictor.target_scale)[:, None]
    with np.errstate(over="ignore", invalid="ignore"):  # divergence has an error of its own
        history = fit(
            predictor.model,
            predictor.standardizer(train.features),
            target,
            loss="softmax_cross_entropy" if table.task == "classification" else "squared_error",
            optimizer=_optimizer(settings, train.rows),
            epochs=settings.epochs or 1,
            batch_size=settings.batch_size,
            seed=settings.seed,
            callbacks=callbacks,
            progress=progress,
        )
    score = predictor.score(held_out, train)
    return Trained(predictor, history, score, train.rows, settings)


def _untrained(train: Table, settings: Settings) -> Predictor:
    standardizer = Standardizer.fit(train.features)
    outputs = 1 if train.schema.classes is None else len(train.schema.classes)
    model = network(train.schema.width, outputs, settings)
    if train.task == "classification":
        return Predictor(model, train.schema, standardizer)
    mean, scale = float(np.mean(train.target)), float(np.std(train.target))
    return Predictor(model, train.schema, standardizer, mean, scale if scale > 0 else 1.0)


def network(inputs: int, outputs: int, settings: Settings) -> Sequential:
    """A dense network: hidden layers with their activation, and a linear output layer."""
    init = _INITIALISERS.get(settings.activation, "he_uniform")
    stack: list[Any] = []
    for units in settings.hidden or ():
        stack += [layers.Linear(inputs, units, init=init), ACTIVATIONS[settings.activation]()]
        if settings.dropout:
            stack.append(layers.Dropout(settings.dropout))
        inputs = units
    return Sequential(*stack, layers.Linear(inputs, outputs), seed=settings.seed)


def _optimizer(settings: Settings, rows: int) -> Any:
    """The optimiser by name; its learning rate falls to 0 along a half cosine, or stays."""
    kind = type(optim.get(settings.optimizer))
    lr: Any = settings.lr
    options = {"weight_decay": settings.weight_decay} if settings.weight_decay else {}
    return kind(
        lr=schedules.cosine(lr, settings.steps(rows)) if settings.schedule == "cosine" else lr,
        **options,
    )


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
