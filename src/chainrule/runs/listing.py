"""What run folders hold, read from outside: the list of runs, and how several differ."""

from __future__ import annotations

import json
import math
import os
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import DataError, nearest, quoted

__all__ = ["Listed", "differences", "listing", "named", "read_run", "sort"]

CONFIG, INFO, LINES, LOCK = "config.toml", "run.json", "history.jsonl", ".lock"
MAX_BYTES = 1 << 28  # of a history; what a run writes is far below
SORTS = ("name", "score", "loss", "epochs", "seconds", "started", "status", "data")
STATES = ("running", "finished", "interrupted", "failed")


@dataclass(frozen=True)
class Listed:
    """One run as its folder tells it.

    `status` is running, finished, interrupted or failed as the run has noted it; "died" where it
    says running but no process holds the folder; "damaged" where a file cannot be read, and
    `fault` says which and why. `curves` maps a name to one number an epoch.
    """

    path: str
    name: str
    status: str
    data: str = ""
    score: Mapping[str, Any] = field(default_factory=dict)
    epochs: int = 0
    planned: int | None = None
    seconds: float | None = None
    started: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    curves: Mapping[str, Sequence[float]] = field(default_factory=dict)
    fault: str = ""

    @property
    def loss(self) -> float:
        """The training loss of the last epoch, NaN before the first has ended."""
        values = self.curves.get("loss") or [math.nan]
        return values[-1]

    @property
    def value(self) -> float:
        """The score's value, NaN where there is none."""
        return _number(self.score.get("value"))

    def to_json(self) -> dict[str, Any]:
        """Everything as plain values; NaN and infinities stay floats."""
        return {
            "path": self.path,
            "name": self.name,
            "status": self.status,
            "fault": self.fault or None,
            "data": self.data,
            "score": dict(self.score) or None,
            "loss": self.loss,
            "epochs": self.epochs,
            "planned_epochs": self.planned,
            "seconds": self.seconds,
            "started": self.started,
            "settings": dict(self.settings),
            "curves": {name: list(values) for name, values in self.curves.items()},
        }


def listing(folder: str | os.PathLike[str] = "runs") -> list[Listed]:
    """The runs in a folder, by name; what is no run's folder is left out.

    Raises `DataError` where the folder is not there or cannot be read.
    """
    place = os.fsdecode(folder)
    try:
        names = os.listdir(place)
    except FileNotFoundError:
        raise DataError(
            f"{place}: no such folder; runs are kept by chainrule train, under ./runs"
        ) from None
    except (OSError, ValueError) as error:
        raise DataError(f"{place}: cannot be read ({error})") from None
    paths = [os.path.join(place, name) for name in names]
    return sort([read_run(path) for path in paths if is_run(path)], "name")


def is_run(path: str) -> bool:
    """Whether a folder is, or was meant to be, a run's."""
    return any(os.path.lexists(os.path.join(path, name)) for name in (INFO, CONFIG))


def named(folder: str | os.PathLike[str], names: Iterable[str]) -> list[Listed]:
    """The runs of these names in a folder, or at these paths, in their order.

    Raises `DataError` for a name that is none, with the nearest that is.
    """
    found = []
    for name in names:
        path = os.path.join(os.fsdecode(folder), name)
        path = path if is_run(path) else name
        if not is_run(path):
            known = [run.name for run in listing(folder)] if os.path.isdir(folder) else []
            match = nearest(name, known)
            guess = f"; did you mean {quoted(match)}?" if match else f" in {os.fsdecode(folder)}"
            raise DataError(f"no run {quoted(name)}{guess}")
        found.append(read_run(path))
    return found


def sort(runs: Iterable[Listed], by: str) -> list[Listed]:
    """The runs in order: scores and epochs from the highest down, all else upwards."""
    keys: dict[str, Any] = {
        "name": lambda run: _natural(run.name),
        "score": lambda run: _last(-run.value),
        "loss": lambda run: _last(run.loss),
        "epochs": lambda run: -run.epochs,
        "seconds": lambda run: _last(math.nan if run.seconds is None else run.seconds),
        "started": lambda run: run.started,
        "status": lambda run: run.status,
        "data": lambda run: run.data,
    }
    return sorted(sorted(runs, key=keys["name"]), key=keys[by])


def differences(runs: Sequence[Listed]) -> dict[str, list[Any]]:
    """The settings that are not the same in all runs, with each run's value (None: the default)."""
    names = dict.fromkeys(name for run in runs for name in run.settings)
    table = {name: [run.settings.get(name) for run in runs] for name in names}
    return {name: row for name, row in table.items() if any(one != row[0] for one in row)}


# -- reading one folder ------------------------------------------------------------------------


def read_run(path: str | os.PathLike[str]) -> Listed:
    """The run in a folder; one that cannot be read is "damaged", never an error."""
    place = os.fsdecode(path)
    name = os.path.basename(os.path.abspath(place))
    try:
        info = _info(os.path.join(place, INFO))
        settings = _settings(os.path.join(place, CONFIG))
        curves = _curves(os.path.join(place, LINES))
    except (OSError, ValueError) as error:
        return Listed(place, name, "damaged", fault=str(error)[:300])
    status = str(info.get("status"))
    if status not in STATES:
        fault = f"{INFO}: unknown status {quoted(info.get('status'))}"
        return Listed(place, name, "damaged", fault=fault)
    if status == "running" and not _held(os.path.join(place, LOCK)):
        status = "died"
    score = info.get("score")
    planned = info.get("planned_epochs")
    return Listed(
        place,
        name,
        status,
        _text(info.get("data")),
        score if isinstance(score, dict) else {},
        max(map(len, curves.values()), default=0),
        planned if isinstance(planned, int) else None,
        _number(info["seconds"]) if info.get("seconds") else None,
        _text(info.get("started")),
        settings,
        curves,
        _text(info.get("error")) if status == "failed" else "",
    )


def _info(path: str) -> dict[str, Any]:
    text = _read(path)
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{INFO}: is not JSON ({error})") from None
    if not isinstance(found, dict):
        raise ValueError(f"{INFO}: holds no JSON object")
    return found


def _settings(path: str) -> dict[str, Any]:
    text = _read(path)
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{CONFIG}: is not TOML ({error})") from None


def _curves(path: str) -> dict[str, list[float]]:
    """The history by name; a last line that is being written, or was cut short, is left out."""
    if not os.path.exists(path):
        return {}
    curves: dict[str, list[float]] = {}
    lines = _read(path).split("\n")[:-1]
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            raise ValueError(f"{LINES}: line {number} is not JSON") from None
        if not isinstance(row, dict):
            raise ValueError(f"{LINES}: line {number} holds no JSON object")
        for name, value in row.items():
            if name != "epoch":
                curves.setdefault(name, [math.nan] * (number - 1)).append(_number(value))
    return curves


def _read(path: str) -> str:
    """The text of a regular file; never waits for a pipe, never takes in what is far too large."""
    name = os.path.basename(path)
    try:
        if not os.path.isfile(path):
            raise ValueError(f"{name}: is missing")
        if os.path.getsize(path) > MAX_BYTES:
            raise ValueError(f"{name}: is larger than {MAX_BYTES} bytes")
        with open(path, encoding="utf-8") as file:
            return file.read()
    except UnicodeDecodeError:
        raise ValueError(f"{name}: is not UTF-8 text") from None
    except OSError as error:
        raise ValueError(f"{name}: cannot be read ({error.strerror})") from None


def _held(path: str) -> bool:
    """Whether a process that lives holds the folder's lock."""
    try:
        with open(path, "r+b") as file:
            return not _free(file)
    except OSError:
        return False


def _free(file: Any) -> bool:
    """Whether nobody has locked the file; a lock taken to find out ends with the file."""
    try:
        if os.name == "nt":
            import msvcrt

            file.seek(1 << 20)  # where the run folder's own lock is
            getattr(msvcrt, "locking")(file.fileno(), getattr(msvcrt, "LK_NBLCK"), 1)  # noqa: B009
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _number(value: Any) -> float:
    good = isinstance(value, (int, float)) and not isinstance(value, bool)
    try:
        return float(value) if good else math.nan
    except OverflowError:
        return math.nan


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _last(value: float) -> tuple[bool, float]:
    """A key by which what is unknown comes last."""
    return math.isnan(value), value


def _natural(name: str) -> list[tuple[int, int, str]]:
    """A key by which iris-2 stands before iris-10."""
    parts = re.split(r"(\d{1,18})", name)
    return [(1, int(p), "") if p.isascii() and p.isdigit() else (0, 0, p) for p in parts]
