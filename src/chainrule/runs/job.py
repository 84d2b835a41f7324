"""From a table to a trained network: what `chainrule train` does, and every comparison."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import json
import math
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data import BUNDLED, Batches, Standardizer, Table, load_dataset, read_table, split
from ..data.mapped import blocks, is_mapped, kept
from ..errors import DataError, quoted
from ..train import History, fit
from ..train.progress import Several, Silent
from . import network as parts
from .config import Settings
from .folder import DOCTOR, MODEL, REPORT, Recorder, RunFolder
from .network import ACTIVATIONS, network
from .predictor import Floats, Predictor, Score

__all__ = [
    "ACTIVATIONS",
    "Predictor",
    "Score",
    "Settings",
    "Trained",
    "network",
    "read",
    "train_table",
]

_TABLES = (".csv", ".tsv", ".txt", ".parquet", ".pq", ".npz")
WATCHED = 5000  # epochs; a longer run keeps no curves of its layers
GRADIENTS = 250  # epochs at most of which a run keeps the layers' gradients


@dataclass
class Trained:
    """A trained network with what is needed to use it on new rows, and to report on it."""

    predictor: Predictor
    history: History
    score: Score  # on held-out rows
    settings: Settings  # resolved
    train: Table  # the rows that were learnt from
    held_out: Table
    validation: Table | None = None  # watched while training, taken from the training rows
    watch: Any = None  # gradient norms and update ratios by layer and epoch, if they were kept
    observers: tuple[Any, ...] = ()  # callbacks with a `section` of their own for the report
    folder: RunFolder | None = None
    unsaved: tuple[str, ...] = ()  # what could not be written into the folder, and why

    @property
    def train_rows(self) -> int:
        """The number of rows that were learnt from."""
        return self.train.rows

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


def read(settings: Settings) -> Table:
    """The table that the settings name: a bundled dataset, or a file with its target column.

    Raises `DataError` where it cannot be learnt from, as `data.read_table` says.

    >>> read(Settings(data="iris")).rows
    150
    """
    data, target = settings.data, settings.target
    if data is None:
        raise DataError("the settings name no data")
    if data in BUNDLED and not os.path.exists(data):
        if target is not None or settings.task is not None:
            raise DataError(
                f"'{data}' is a bundled dataset with its own target; leave out --target and --task"
            )
        return load_dataset(data)
    if not data.lower().endswith(_TABLES) and not os.path.exists(data):
        load_dataset(data)  # raises, naming the nearest dataset
    if os.path.isdir(data):
        raise DataError(f"{data}: is a folder; give the path of a table")
    if target is None and not data.lower().endswith(".npz"):
        raise DataError(f"{data}: say which column to predict, with --target COLUMN")
    return read_table(
        data,
        target,
        task=settings.task,
        missing="refuse" if settings.missing == "refuse" else "impute",
        categories="embedding" if settings.categories == "embedding" else "one-hot",
        categorical=settings.categorical,
        drop=settings.drop,
    )


def train_table(
    table: Table,
    settings: Settings | None = None,
    *,
    progress: bool | Silent | None = None,
    callbacks: Sequence[Any] = (),
    folder: RunFolder | str | os.PathLike[str] | None = None,
    resume: bool = False,
) -> Trained:
    """Train a network on a table, holding out a part of the rows to score it on.

    Features are standardised with the training rows' mean and deviation, a regression target too:
    all at once, or in `Batches` where the settings `stream` them, as they do for a table in a file.
    Both visit the same rows in the same order.

    With a `folder` the run is kept there while it lasts: settings, checkpoints, history, and at the
    end the model and a report. `resume` goes on with what is there as if it had never stopped, to
    the bit; a run that was killed before its first checkpoint begins afresh. A callback that has
    `section()` = (title, sentences, [(name, chart, reading), …]) gets a section of the report, and
    its `to_dict()` the file `doctor.json`: so has `cr.Doctor`. What cannot be written at the end,
    as where the disk is full, is told by `Trained.unsaved`, and the network is there.

    Raises `DataError` for a table that cannot be split or settings that do not fit it, and before
    any training for a folder that cannot be made or written to, that holds another run, or that
    another process is writing; for `resume`, where the table has changed since.

    >>> from chainrule.data import load_dataset
    >>> trained = train_table(load_dataset("wine"), Settings(epochs=20), progress=False)
    >>> trained.score.value > 0.8
    True
    """
    job = _Job.of(table, settings or Settings())
    if job.settings.doctor and not _observers(callbacks):
        raise DataError("the setting doctor wants one to be given: callbacks=[cr.Doctor()]")
    if folder is None:
        return job.run(progress, callbacks)
    if not isinstance(folder, RunFolder):
        folder = RunFolder(folder)
    with _opened(folder, job, resume):
        return _kept(folder, job, progress, callbacks, resume)


@dataclass
class _Job:
    """A table in its parts, the settings that fit them, and a network with its first weights."""

    table: Table
    settings: Settings
    train: Table
    held_out: Table
    validation: Table | None
    predictor: Predictor

    @classmethod
    def of(cls, table: Table, settings: Settings) -> _Job:
        rest, held_out = split(table, settings.held_out, settings.seed)
        share = settings.resolved(rest.rows, table.task).validation
        train, validation = split(rest, share, settings.seed) if share else (rest, None)
        settings = settings.resolved(train.rows, table.task)
        streams = _streams(settings, table)
        settings = dataclasses.replace(settings, stream="on" if streams else "off")
        _demand_fitting(settings, table, validation)
        _demand_extras(settings)
        made = cls(table, settings, train, held_out, validation, _untrained(train, settings))
        if settings.lr == "find":
            made.settings = dataclasses.replace(settings, lr=made.found_rate())
        return made

    def targets(self, part: Table) -> Any:
        """What the loss takes as the target: labels, or standardised numbers as a column."""
        if part.task == "classification":
            if self.settings.loss == "logistic":
                return part.target.astype(np.float64)[:, None]
            return part.target
        found: Floats = part.target  # type: ignore[assignment]
        return ((found - self.predictor.target_mean) / self.predictor.target_scale)[:, None]

    def weights(self, part: Table) -> Any:
        """n/(k·nₖ) for a row of class k where classes are balanced, else None."""
        if self.settings.class_weight is None:
            return None
        counts = np.bincount(self.train.target, minlength=self.classes)
        return self.train.rows / (np.count_nonzero(counts) * np.maximum(counts, 1))[part.target]

    @property
    def classes(self) -> int:
        return len(self.table.schema.classes or ())

    def arguments(self) -> dict[str, Any]:
        """What `fit` is given of the rows, the loss and the batches."""
        given = {
            "loss": parts.loss(self.settings),
            "batch_size": self.settings.batch_size,
            "seed": self.settings.seed,
            "threads": self.settings.threads,
        }
        if self.validation is not None:
            held = self.scaled(self.validation), self.targets(self.validation)
            weights = self.weights(self.validation)
            given["validation_data"] = held if weights is None else (*held, weights)
        if self.settings.stream == "on":
            return {**given, "X": self.batches()}
        rows = {"X": self.scaled(self.train), "y": self.targets(self.train)}
        return {**given, **rows, "sample_weight": self.weights(self.train)}

    def scaled(self, part: Table) -> Any:
        """The standardised features; of a table in a file in another one."""
        scaled, dtype = self.predictor.standardizer, self.predictor.model.dtype
        if not is_mapped(part.features):
            return scaled(part.features)
        return kept(map(scaled, blocks(part.features)), part.features.shape[1], dtype)

    def batches(self) -> Batches:
        """The training rows, standardised as they are read."""
        return Batches(
            (self.train.features, self.targets(self.train)),
            self.settings.batch_size,
            seed=self.settings.seed,
            prepare=self.predictor.standardizer,
            dtype=self.predictor.model.dtype,
            sample_weight=self.weights(self.train),
        )

    def found_rate(self) -> float:
        """The learning rate that a short trial on a copy of the network suggests."""
        from ..train.finder import lr_find

        trial = parts.optimizer(dataclasses.replace(self.settings, lr=1e-3, schedule="constant"), 1)
        given = self.arguments()
        model = _untrained(self.train, self.settings).model
        names = given.keys() & {"X", "y", "loss", "batch_size", "seed"}
        found = lr_find(model, **{name: given[name] for name in names}, optimizer=trial)
        if found.suggestion is None:
            raise DataError(f"a trial found {found}; give a learning rate, as lr = 0.003")
        return float(f"{found.suggestion:.3g}")

    def callbacks(self) -> list[Any]:
        """What the settings ask to be done between epochs."""
        from ..train.stopping import EarlyStopping, ReduceLROnPlateau

        found: list[Any] = []
        if self.settings.schedule == "plateau":
            found.append(ReduceLROnPlateau())
        if self.settings.patience is not None:
            found.append(EarlyStopping(patience=self.settings.patience))
        return found

    def watch(self) -> Any:
        """What measures the layers for the report; a very long run is not stopped so often."""
        from .watch import Watch

        if (self.settings.epochs or 1) > WATCHED or self.settings.optimizer == "lbfgs":
            return None
        epochs = self.settings.epochs or 1
        return Watch(self.predictor.model, every=-(-epochs // GRADIENTS), last=epochs)

    def run(
        self, progress: bool | Silent | None, callbacks: Sequence[Any], **keeping: Any
    ) -> Trained:
        """The run itself, and its score."""
        settings, predictor = self.settings, self.predictor
        own = self.callbacks() if settings.watched else []
        watch = self.watch() if keeping else None
        own += [watch] if watch is not None else []
        if settings.tensorboard and keeping:
            own.append(_board(keeping["checkpoint"].folder, watch))
        with np.errstate(over="ignore", invalid="ignore"):  # divergence has an error of its own
            history = fit(
                predictor.model,
                **self.arguments(),
                optimizer=parts.optimizer(settings, settings.steps(self.train.rows)),
                epochs=settings.epochs or 1,
                callbacks=[*own, *callbacks],
                progress=progress,
                **keeping,
            )
        if keeping and isinstance(progress, Silent) and progress.hurried:
            raise KeyboardInterrupt
        score = predictor.score(self.held_out, self.train)
        return Trained(
            predictor,
            history,
            score,
            settings,
            self.train,
            self.held_out,
            self.validation,
            watch,
            _observers(callbacks),
        )


def _observers(callbacks: Sequence[Any]) -> tuple[Any, ...]:
    """The callbacks that have something to say in the report."""
    return tuple(one for one in callbacks if callable(getattr(one, "section", None)))


def _board(folder: str, watch: Any) -> Any:
    from .tensorboard import TensorBoard

    return TensorBoard(os.path.join(folder, "tensorboard"), watch)


def _streams(settings: Settings, table: Table) -> bool:
    """Whether the training rows are read in batches."""
    if settings.optimizer == "lbfgs":
        if settings.stream == "on":
            raise DataError("lbfgs needs all rows at once; leave out the setting stream")
        return False
    return settings.stream == "on" or (settings.stream == "auto" and is_mapped(table.features))


def _demand_extras(settings: Settings) -> None:
    """Raise `DataError` now for an optional package that the run would miss later."""
    needs = {
        "scipy": ("sklearn", f"optimizer {settings.optimizer}", settings.optimizer == "lbfgs"),
        "matplotlib": ("plots", f"plots as {settings.plots}", settings.plots in ("png", "pdf")),
        "tensorboardX": ("tensorboard", "tensorboard", settings.tensorboard),
    }
    for package, (extra, what, wanted) in needs.items():
        if wanted and importlib.util.find_spec(package) is None:
            raise DataError(f"{what} needs {package}: pip install 'chainrule[{extra}]'")


def _demand_fitting(settings: Settings, table: Table, validation: Table | None) -> None:
    classes = table.schema.classes
    if settings.watched and validation is None:
        what = "patience" if settings.patience is not None else "the schedule plateau"
        raise DataError(f"{what} needs rows to watch; give a validation share above 0")
    if settings.loss == "logistic" and len(classes or ()) != 2:
        raise DataError(
            f"loss logistic tells two classes apart, and '{table.schema.target}' has"
            f" {len(classes or ())}; use softmax_cross_entropy"
        )
    if classes is None and (settings.class_weight or settings.label_smoothing):
        name = "class_weight" if settings.class_weight else "label_smoothing"
        raise DataError(f"{name} is for classes, and '{table.schema.target}' is a number")
    if settings.label_smoothing and settings.loss != "softmax_cross_entropy":
        raise DataError("label_smoothing goes with the loss softmax_cross_entropy")


def _untrained(train: Table, settings: Settings) -> Predictor:
    standardizer = Standardizer.of(train, "median" if settings.missing == "median" else "mean")
    classes = train.schema.classes
    outputs = 1 if classes is None or settings.loss == "logistic" else len(classes)
    model = network(train.schema.width, outputs, settings, train.schema.blocks)
    if classes is not None:
        return Predictor(model, train.schema, standardizer)
    with np.errstate(over="ignore", invalid="ignore"):
        mean, scale = float(np.mean(train.target)), float(np.std(train.target))
    if not math.isfinite(scale):
        raise DataError(
            f"column {quoted(train.schema.target)} has numbers up to"
            f" {np.abs(train.target).max():.3g}, whose deviation is too large to compute; divide"
            " them"
        )
    return Predictor(model, train.schema, standardizer, mean, scale if scale > 0 else 1.0)


# -- with a folder --------------------------------------------------------------------------------


@contextlib.contextmanager
def _opened(folder: RunFolder, job: _Job, resume: bool) -> Iterator[None]:
    """Within, the folder is this process's, and says what the run is."""
    if not resume:
        folder.make()
    begun = False
    try:
        with folder.held():
            if resume:
                folder.demand_same_data(job.table)
            else:
                _begin(folder, job)
            begun = True
            yield
    finally:
        if not begun:
            folder.discard()


def _begin(folder: RunFolder, job: _Job) -> None:
    folder.demand_free()
    folder.clear()
    try:
        folder.begin(job.settings, job.table)
    except OSError as error:
        raise DataError(
            f"{folder.path}: the run folder cannot be written to ({error.strerror}); choose another"
            " place with --run DIR, or --no-run"
        ) from None


def _kept(
    folder: RunFolder,
    job: _Job,
    progress: bool | Silent | None,
    callbacks: Sequence[Any],
    resume: bool,
) -> Trained:
    from ..train.checkpoint import Checkpoint

    recorder, checkpoint = Recorder(folder), Checkpoint(folder.path, job.settings.checkpoint_every)
    show = Several([recorder, progress])
    folder.note(status="running", **folder.facts)
    try:
        with _said_once():
            trained = job.run(show, callbacks, checkpoint=checkpoint, resume=True)
        trained.folder = folder
        trained.unsaved = tuple(_saved(trained, folder, checkpoint.error))
    except BaseException as error:
        stopped = isinstance(error, KeyboardInterrupt)
        with contextlib.suppress(OSError):
            _write_observed(folder, _observers(callbacks))
        with contextlib.suppress(OSError):
            folder.note(
                status="interrupted" if stopped else "failed",
                **({} if stopped else {"error": str(error)[:500]}),
            )
        raise
    return trained


def _saved(trained: Trained, folder: RunFolder, failed: OSError | None) -> Iterator[str]:
    """Write what the run leaves; yields what could not be written.

    A run of which something is missing is noted as one to go on with: that writes it again.
    """
    whole = failed is None
    if failed is not None:
        yield f"the last checkpoint ({failed.strerror or failed})"
    history, score = trained.history, trained.score
    from .report import report, save_charts

    contents: dict[str, Callable[[], Any]] = {
        "the history": lambda: folder.write_history(history),
        "the model": lambda: trained.save(folder.place(MODEL)),
        "the report": lambda: folder.write(REPORT, report(trained)),
        "what the doctor saw": lambda: _write_observed(folder, trained.observers),
        "the plots": lambda: (
            save_charts(trained, folder.place("plots"), trained.settings.plots)
            if trained.settings.plots
            else None
        ),
        "its record": lambda: folder.note(
            status="finished" if whole and history.stopped != "interrupted" else "interrupted",
            score=json.loads(json.dumps(_plain(score))),
            epochs=history.epochs,
            seconds=round(history.seconds, 3),
        ),
    }
    for what, write in contents.items():
        try:
            write()
        except OSError as error:
            whole = False
            yield f"{what} ({error.strerror or error})"


def _write_observed(folder: RunFolder, observers: Sequence[Any]) -> None:
    """What the first observer saw, as JSON."""
    for observer in observers[:1]:
        text = json.dumps(observer.to_dict(), indent=1, ensure_ascii=False, allow_nan=False)
        folder.write(DOCTOR, text + "\n")


def _plain(score: Score) -> dict[str, Any]:
    found = {name: getattr(score, name) for name in ("name", "value", "baseline", "error", "rows")}
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in found.items()
    }


@contextlib.contextmanager
def _said_once() -> Iterator[None]:
    """Within, a checkpoint that fails is told in one line; the run's end tells it again."""
    with warnings.catch_warnings():
        warnings.filterwarnings("default", message="the checkpoint was not saved")
        yield
