"""All settings of a training run, each declared once: its default, its meaning, its range.

The command line, TOML files and Python read the same declaration.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import ChainruleError, DataError, nearest, quoted, unknown
from ..nn import optim
from ..nn.base import count
from .network import ACTIVATIONS, LOSSES, SCHEDULES

__all__ = ["Rule", "Settings", "read_toml", "rules"]

_OPTIMIZERS = (*optim.OPTIMIZERS, "lbfgs")
MAX_BYTES = 2**20  # of a settings file


@dataclass(frozen=True)
class Rule:
    """What a setting means and what it may be; its name and default are its field's."""

    meaning: str
    kind: type  # bool, int, float or str
    low: float | None = None
    high: float | None = None
    open_low: bool = False
    open_high: bool = False
    names: tuple[str, ...] = ()  # the words that it may be; for a number: instead of one
    many: bool = False  # several of them, one for each layer
    what: str = ""  # how messages call one of several

    @property
    def span(self) -> str:
        """The range in words.

        >>> Rule("", float, low=0, high=1, open_high=True).span
        'at least 0 and below 1'
        """
        parts = []
        if self.low is not None:
            parts.append(f"{'above' if self.open_low else 'at least'} {self.low:g}")
        if self.high is not None:
            parts.append(f"{'below' if self.open_high else 'at most'} {self.high:g}")
        return " and ".join(parts)

    def checked(self, name: str, value: Any) -> Any:
        """One value as it is kept; `DataError` or `UnknownNameError` where it cannot be."""
        if self.kind is bool:
            if not isinstance(value, bool):
                raise DataError(f"{name} must be true or false, got {quoted(value)}")
            return value
        if isinstance(value, str) and self.names:
            if value not in self.names:
                raise unknown(name, value, self.names)
            return value
        return self._text(name, value) if self.kind is str else self._number(name, value)

    def _text(self, name: str, value: Any) -> str:
        if not isinstance(value, str) or not value:
            raise DataError(f"{name} must be text, got {quoted(value)}")
        return value

    def _number(self, name: str, value: Any) -> Any:
        if self.kind is int:
            try:
                value = count(self.what or name, value, least=int(self.low or 0))
            except ValueError as error:
                raise DataError(str(error)) from None
        elif isinstance(value, bool) or not isinstance(value, (int, float)):
            raise DataError(f"{name} must be a number, got {quoted(value)}")
        elif not math.isfinite(value):
            raise DataError(f"{name} must be a finite number, got {value}")
        if not self._within(value):
            raise DataError(f"{self.what or name} must be {self.span}, got {value}")
        return self.kind(value)

    def _within(self, value: float) -> bool:
        low, high = self.low, self.high
        above = low is None or value > low or (value == low and not self.open_low)
        return above and (high is None or value < high or (value == high and not self.open_high))


def _setting(default: Any, meaning: str, kind: type, **facts: Any) -> Any:
    return dataclasses.field(default=default, metadata={"rule": Rule(meaning, kind, **facts)})


_SHARE: dict[str, Any] = {"low": 0, "high": 1, "open_high": True}
_POSITIVE: dict[str, Any] = {"low": 0, "open_low": True}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to train; the defaults suit tables of a hundred to some ten thousand rows.

    None stands for what `resolved` works out from the table. Raises `DataError` for a value out
    of its range and `UnknownNameError` for a name, each naming the setting.

    >>> Settings(optimizer="adm")
    Traceback (most recent call last):
        ...
    chainrule.errors.UnknownNameError: unknown optimizer 'adm'; did you mean 'adam'? Known: ...
    """

    data: str | None = _setting(None, "A bundled dataset by name, or a file.", str)
    target: str | None = _setting(None, "The column to predict (for a file).", str)
    task: str | None = _setting(
        None,
        "classification or regression. Default: by the target.",
        str,
        names=("classification", "regression"),
    )
    missing: str = _setting(
        "refuse",
        "What becomes of missing cells: refuse, mean or median (filled in, and a feature says so).",
        str,
        names=("refuse", "mean", "median"),
    )
    categories: str = _setting(
        "one-hot",
        "one-hot, or embedding: a learned vector for each category.",
        str,
        names=("one-hot", "embedding"),
    )
    categorical: tuple[str, ...] = _setting(
        (), "A column that is a category though it holds numbers; repeat for more.", str, many=True
    )
    drop: tuple[str, ...] = _setting((), "A column to leave out; repeat for more.", str, many=True)
    hidden: tuple[int, ...] | None = _setting(
        None,
        "A hidden layer; repeat for more. Default: 64, or 128 and 64 from a thousand rows on.",
        int,
        low=1,
        high=100_000,
        many=True,
        what="hidden units",
    )
    activation: str | tuple[str, ...] = _setting(
        "relu",
        f"{', '.join(ACTIVATIONS)}; repeat for one a layer.",
        str,
        names=tuple(ACTIVATIONS),
        many=True,
    )
    batch_norm: bool = _setting(
        False, "Normalise each hidden layer over the batch, before its activation.", bool
    )
    dropout: float = _setting(
        0.0, "The share of hidden units that a step leaves out.", float, **_SHARE
    )
    init: str | None = _setting(
        None,
        "How hidden weights are drawn. Default: He, Glorot or LeCun, by the activation.",
        str,
        names=(
            "he_uniform", "he_normal", "glorot_uniform", "glorot_normal",
            "lecun_uniform", "lecun_normal",
        ),
    )  # fmt: skip
    loss: str | None = _setting(
        None,
        f"{', '.join(LOSSES['classification'])} (two classes), or for numbers"
        f" {', '.join(LOSSES['regression'])}. Default: the first of its kind.",
        str,
        names=tuple(name for names in LOSSES.values() for name in names),
    )
    class_weight: str | None = _setting(
        None, "balanced: a rare class counts as much as a common one.", str, names=("balanced",)
    )
    label_smoothing: float = _setting(
        0.0, "The share of each label that is spread over all classes.", float, **_SHARE
    )
    optimizer: str = _setting("adam", f"{', '.join(_OPTIMIZERS)}.", str, names=_OPTIMIZERS)
    lr: float | str | None = _setting(
        None,
        "Learning rate, or find: by a short trial. Default: 0.003 for adam.",
        float,
        names=("find",),
        **_POSITIVE,
    )
    schedule: str = _setting(
        "cosine",
        "cosine (the learning rate falls to 0), constant, step, one-cycle, or plateau.",
        str,
        names=SCHEDULES,
    )
    momentum: float | None = _setting(None, "Momentum, of sgd and rmsprop.", float, **_SHARE)
    weight_decay: float = _setting(0.0, "How strongly weights are drawn to 0.", float, low=0)
    clip_norm: float | None = _setting(
        None, "The greatest length of all gradients together.", float, **_POSITIVE
    )
    clip_value: float | None = _setting(
        None, "The greatest element of a gradient.", float, **_POSITIVE
    )
    ema: float | None = _setting(
        None, "Keep a running mean of the weights with this decay, as 0.999.", float, **_SHARE
    )
    batch_size: int = _setting(32, "Rows of a step.", int, low=1)
    accumulate: int = _setting(1, "Steps whose gradients make one update.", int, low=1)
    epochs: int | None = _setting(None, "Default: about 2000 steps.", int, low=1)
    patience: int | None = _setting(
        None,
        "Stop early: after so many epochs without a better validation loss; the best weights stay.",
        int,
        low=1,
    )
    validation: float | None = _setting(
        None,
        "The share of the training rows to watch, not learn from. Default: 0.1 where patience"
        " or plateau need it, else 0.",
        float,
        **_SHARE,
    )
    held_out: float = _setting(
        0.2,
        "The share of rows kept for the score; nothing is learnt or chosen by them.",
        float,
        open_low=True,
        **_SHARE,
    )
    seed: int = _setting(0, "The same seed gives the same file.", int, low=0)
    dtype: str = _setting("float32", "float32 or float64.", str, names=("float32", "float64"))
    threads: int | None = _setting(
        None, "Cores to use; they change no bit. Default: all.", int, low=1
    )
    stream: str = _setting(
        "auto",
        "on: read the rows from their file again in each epoch, so that memory need not hold them;"
        " off; or auto: where the table has more than 32 MiB of numbers.",
        str,
        names=("auto", "on", "off"),
    )
    checkpoint_every: float = _setting(
        10.0, "Seconds between two checkpoints in the run folder.", float, low=0
    )
    plots: str | None = _setting(
        None, "svg, png or pdf: the report's plots as files too.", str, names=("svg", "png", "pdf")
    )
    doctor: bool = _setting(
        False, "Watch the layers while the run lasts, and report what looks wrong.", bool
    )
    tensorboard: bool = _setting(False, "Write the run for TensorBoard too.", bool)

    def __post_init__(self) -> None:
        for name, rule in rules().items():
            object.__setattr__(self, name, _kept(name, rule, getattr(self, name)))

    @property
    def watched(self) -> bool:
        """Whether something in training is decided by validation rows."""
        return self.patience is not None or self.schedule == "plateau"

    def activations(self, layers: int) -> tuple[str, ...]:
        """The activation of each hidden layer; `DataError` where there are more, or fewer."""
        if isinstance(self.activation, str):
            return (self.activation,) * layers
        if len(self.activation) != layers:
            raise DataError(
                f"activation names {len(self.activation)} functions, hidden layers: {layers};"
                " name one, or one for each"
            )
        return self.activation

    def resolved(self, rows: int, task: str | None = None) -> Settings:
        """The same with what depends on the training rows and the task filled in.

        >>> Settings().resolved(1500).hidden, Settings().resolved(100).epochs
        ((128, 64), 200)
        """
        if task and self.loss is not None and self.loss not in LOSSES[task]:
            raise DataError(
                f"loss {self.loss} is not for {task}; choose {' or '.join(LOSSES[task])}"
            )
        epochs = self.epochs or min(200, max(40, round(2000 * self.batch_size / rows)))
        hidden = self.hidden if self.hidden is not None else ((128, 64) if rows >= 1000 else (64,))
        self.activations(len(hidden))
        usual = 3e-3 if self.optimizer.startswith("adam") else optim.get(self.optimizer).lr
        lr = self.lr if self.lr is not None else usual
        validation = self.validation
        if validation is None:
            validation = 0.1 if self.watched else 0.0
        loss = self.loss or (LOSSES[task][0] if task else None)
        return dataclasses.replace(
            self, epochs=epochs, hidden=hidden, lr=lr, validation=validation, loss=loss
        )

    def steps(self, rows: int) -> int:
        """The number of steps of a run on so many training rows."""
        return (self.resolved(rows).epochs or 1) * -(-rows // self.batch_size)

    def to_toml(self) -> str:
        """The settings as `chainrule train --config FILE` reads them; what is None is left out.

        >>> print(Settings(seed=7).to_toml().splitlines()[-1])
        tensorboard = false
        """
        from textwrap import wrap

        lines = ["# Settings of a training run: chainrule train --config FILE repeats it."]
        for name, rule in rules().items():
            value = getattr(self, name)
            if value is not None and not (value == () and name in ("drop", "categorical")):
                lines += ["", *wrap(rule.meaning, 98, initial_indent="# ", subsequent_indent="# ")]
                lines.append(f"{name} = {_toml(value)}")
        return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    """A value as TOML writes it, a list on one line."""
    import tomli_w

    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return tomli_w.dumps({"x": value}).removeprefix("x = ").rstrip("\n")


def rules() -> dict[str, Rule]:
    """The rule of each setting by name, in their order."""
    return dict(_rules())


def _rules() -> Iterator[tuple[str, Rule]]:
    for field in dataclasses.fields(Settings):
        yield field.name, field.metadata["rule"]


def _kept(name: str, rule: Rule, value: Any) -> Any:
    """A setting as it is kept: lists become tuples, one name alone stays a name."""
    field = Settings.__dataclass_fields__[name]
    if value is None:
        if field.default is None:
            return None
        raise DataError(f"{name} must not be empty; leave it out for {field.default!r}")
    if not rule.many:
        return rule.checked(name, value)
    if isinstance(value, str) and rule.names:
        return rule.checked(name, value)
    if not isinstance(value, (tuple, list)):
        raise DataError(f"{name} must be a list, got {quoted(value)}")
    several = tuple(rule.checked(name, one) for one in value)
    if rule.names:
        return several[0] if len(several) == 1 else several or field.default
    return several


def read_toml(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The settings in a TOML file, by name, each checked; a data file is found from there.

    Raises `DataError` naming the file, what was found and the repair: a file that cannot be read,
    that is no TOML, a key that is no setting (with the nearest that is), a value out of range.
    """
    import tomllib

    place = os.fsdecode(path)
    try:
        found = tomllib.loads(_text(place))
    except tomllib.TOMLDecodeError as error:
        raise DataError(f"{place}: is not TOML: {error}") from None
    known = rules()
    for key in found:
        if key not in known:
            match = nearest(key, known)
            guess = f"did you mean {quoted(match)}?" if match else "see chainrule train --help"
            raise DataError(f"{place}: no setting {quoted(key)}; {guess}")
    _checked(found, place)
    return _placed(found, os.path.dirname(os.path.abspath(place)))


def _checked(found: Mapping[str, Any], place: str) -> None:
    try:
        Settings(**found)
    except ChainruleError as error:
        raise DataError(f"{place}: {error}") from None


def _placed(found: dict[str, Any], folder: str) -> dict[str, Any]:
    """A relative path of data means a file beside the settings, unless it is a dataset's name."""
    data = found.get("data")
    if data is not None and (os.path.exists(beside := os.path.join(folder, data))):
        found["data"] = beside
    return found


def _text(place: str) -> str:
    try:
        with open(place, "rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise DataError(f"{place}: no such file; check the path") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{place}: cannot be read ({error})") from None
    if len(raw) > MAX_BYTES:
        raise DataError(f"{place}: more than {MAX_BYTES} bytes; this is no settings file")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise DataError(f"{place}: is not UTF-8 text; give a TOML file") from None
