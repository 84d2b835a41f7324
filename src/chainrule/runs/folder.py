"""A run's folder: its settings, checkpoints, history, model and report, each written whole."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import math
import os
import platform
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data import Table, mapped
from ..errors import DataError, listed, quoted
from ..nn.tensorfile import write_whole
from ..train import History
from ..train.progress import Outline, Silent
from .config import Settings, read_toml

if TYPE_CHECKING:
    from .predictor import Predictor

__all__ = ["Recorder", "RunFolder", "fingerprint"]

CONFIG, MODEL, INFO, LOCK = "config.toml", "model.safetensors", "run.json", ".lock"
LINES, CSV, REPORT = "history.jsonl", "history.csv", "report.html"
DOCTOR = "doctor.json"
CHECKPOINTS = ("checkpoint-0.safetensors", "checkpoint-1.safetensors")
FILES = (CONFIG, MODEL, INFO, LINES, CSV, REPORT, DOCTOR, *CHECKPOINTS)
NOTE_EVERY = 5.0  # seconds between two looks of others at how far a run is
MAX_NAMED = 2000  # columns whose digests are kept one by one


class RunFolder:
    """The folder in which a run keeps what it is, while it lasts and afterwards.

    `RunFolder(path)` is one to be made or one that is there; `RunFolder.numbered("iris")` the next
    free `runs/iris-N`. Nothing is touched before `make`, or `held`, which lets one process at a
    time write. Whatever is written appears whole or not at all.

    >>> import tempfile
    >>> folder = RunFolder.numbered("iris", tempfile.mkdtemp()).make()
    >>> os.path.basename(folder.path), folder.info
    ('iris-1', {})
    """

    def __init__(self, path: str | os.PathLike[str], *, force: bool = False) -> None:
        self.path = os.fsdecode(path)
        self.force = force
        self._number: tuple[str, str] | None = None
        self.facts: dict[str, Any] = {}  # what run.json shall say besides
        self._made = False  # whether this object made the folder

    @classmethod
    def numbered(cls, name: str, under: str | os.PathLike[str] = "runs") -> RunFolder:
        """The next free `NAME-N` in a folder; two runs that ask at once get different ones."""
        root = os.fsdecode(under)
        found = cls(os.path.join(root, f"{name}-N"))
        found._number = (root, name)
        return found

    @classmethod
    def of(cls, path: str | os.PathLike[str]) -> RunFolder:
        """The folder of a run that is there; `DataError` where none is."""
        found = cls(path)
        if not os.path.isdir(found.path):
            raise DataError(f"{found.path}: no such folder; give the folder of a run")
        if not os.path.isfile(found.place(CONFIG)):
            raise DataError(f"{found.path}: holds no run: there is no {CONFIG}")
        return found

    def __repr__(self) -> str:
        return f"RunFolder({self.path!r})"

    def place(self, name: str) -> str:
        """The path of a file in the folder."""
        return os.path.join(self.path, name)

    def has(self, name: str) -> bool:
        """Whether the file is there."""
        return os.path.isfile(self.place(name))

    # -- making -------------------------------------------------------------------------------

    def make(self) -> RunFolder:
        """Make the folder, unless it is there; `DataError` where it cannot be made."""
        try:
            self._make()
        except OSError as error:
            place = error.filename or self.path
            raise DataError(
                f"{place}: the run folder cannot be made ({error.strerror or error}); choose"
                " another place with --run DIR, or --no-run"
            ) from None
        return self

    def _make(self) -> None:
        if self._number is not None:
            self._make_numbered(*self._number)
            return
        try:
            os.makedirs(self.path)
            self._made = True
        except FileExistsError:
            if not os.path.isdir(self.path):
                raise DataError(
                    f"{self.path}: is no folder; choose another with --run DIR"
                ) from None

    def _make_numbered(self, root: str, name: str) -> None:
        os.makedirs(root, exist_ok=True)
        taken = re.compile(re.escape(name) + r"-(\d{1,9})")
        matches = [taken.fullmatch(entry) for entry in os.listdir(root)]
        number = 1 + max((int(match[1]) for match in matches if match), default=0)
        while True:
            self.path = os.path.join(root, f"{name}-{number}")
            with contextlib.suppress(FileExistsError):
                os.mkdir(self.path)  # of two that try at once, one succeeds
                self._made, self._number = True, None
                return
            number += 1

    def demand_free(self) -> None:
        """Raise `DataError` where another run is there and may not be replaced, or other files."""
        entries = set(os.listdir(self.path)) - {LOCK}
        if not entries:
            return
        if CONFIG not in entries and INFO not in entries:
            raise DataError(
                f"{self.path}: holds other files and no run; choose another with --run DIR"
            )
        if not self.force:
            raise DataError(
                f"{self.path}: holds a run already; go on with it by --resume, choose another"
                " with --run DIR, or --force to replace it"
            )

    def clear(self) -> None:
        """Remove the files of an earlier run."""
        for name in FILES:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.place(name))

    def discard(self) -> None:
        """Remove the folder again, if it was made here and nothing came of it."""
        if self._made:
            with contextlib.suppress(OSError):
                self.clear()
                os.rmdir(self.path)

    # -- one process at a time ----------------------------------------------------------------

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Within, no other process writes here; the system frees the lock of one that has died.

        Raises `DataError` with the number of the process that has it.
        """
        file = self._locked()
        try:
            file.truncate(0)
            file.write(f"{os.getpid()}\n".encode())
            file.flush()
            yield
        finally:
            if os.name != "nt":  # an open file cannot be removed there
                with contextlib.suppress(OSError):
                    os.unlink(self.place(LOCK))
            file.close()

    def _locked(self) -> Any:
        path = self.place(LOCK)
        while True:
            try:
                file = open(path, "a+b")  # noqa: SIM115 - kept open while the lock is held
            except OSError as error:
                raise DataError(
                    f"{self.path}: the run folder cannot be written to ({error.strerror});"
                    " choose another with --run DIR"
                ) from None
            try:
                _seize(file)
            except OSError:
                file.seek(0)
                owner = file.read(20).decode("ascii", "replace").strip() or "of unknown number"
                file.close()
                raise DataError(
                    f"{self.path}: process {owner} is writing this run; wait for it, or choose"
                    " another folder with --run DIR"
                ) from None
            if _same_file(file, path):
                return file
            file.close()  # the one who held it has removed it meanwhile

    # -- contents -----------------------------------------------------------------------------

    def write(self, name: str, data: str | bytes) -> None:
        """Put a file into the folder whole or not at all; `OSError` naming it."""
        write_whole(self.place(name), data.encode() if isinstance(data, str) else data)

    @property
    def info(self) -> dict[str, Any]:
        """What `run.json` says; empty where there is none, `DataError` where it is damaged."""
        try:
            with open(self.place(INFO), encoding="utf-8") as file:
                found = json.load(file)
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise DataError(f"{self.place(INFO)}: cannot be read ({error})") from None
        if not isinstance(found, dict):
            raise DataError(f"{self.place(INFO)}: holds no JSON object; it was altered")
        for name, kind in _NOTED.items():
            if not isinstance(found.get(name, kind()), kind):
                raise DataError(
                    f"{self.place(INFO)}: {name} is {quoted(found[name])}; it was altered, remove"
                    " the file"
                )
        return found

    def note(self, **changes: Any) -> None:
        """Change what `run.json` says."""
        text = json.dumps({**self.info, **changes}, indent=2, ensure_ascii=False, allow_nan=False)
        self.write(INFO, text + "\n")

    @property
    def status(self) -> str:
        """running, finished, interrupted or failed."""
        return str(self.info.get("status", "running"))

    def settings(self) -> Settings:
        """The resolved settings of the run."""
        return Settings(**read_toml(self.place(CONFIG)))

    def predictor(self) -> Predictor:
        """The trained network; `DataError` where the run has not come so far."""
        from ..nn import load
        from .predictor import Predictor

        if not self.has(MODEL):
            raise DataError(
                f"{self.path}: has no model yet ({self.status}); go on with"
                f" chainrule train --resume {self.path}"
            )
        return Predictor.of(load(self.place(MODEL)))

    def begin(self, settings: Settings, table: Table) -> None:
        """Write what the run is, before its first step."""
        self.write(CONFIG, settings.to_toml())
        self.note(
            name=os.path.basename(os.path.abspath(self.path)),
            data=settings.data or table.name,
            status="running",
            score=None,
            epochs=0,
            planned_epochs=settings.epochs,
            seconds=0.0,
            started=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            versions=_versions(),
            fingerprint=fingerprint(table),
            **self.facts,
        )

    def demand_same_data(self, table: Table) -> None:
        """Raise `DataError` saying what has changed where the run began on another table."""
        before = self.info.get("fingerprint")
        if before is None:
            return
        changed = _difference(before, fingerprint(table))
        if changed:
            raise DataError(
                f"{self.path}: the data has changed since the run began: {changed}; put the old"
                " data back, or start a new run"
            )

    def write_history(self, history: History) -> None:
        """The whole history, a line an epoch as JSON and as CSV."""
        self.write(LINES, "".join(_lines(history, 0)))
        self.write(CSV, history.to_csv())


_NOTED = {"status": str, "epochs": int, "output": str, "output_sha256": str, "fingerprint": dict}


class Recorder(Silent):
    """Keeps `history.jsonl` up to date while a run lasts: a line an epoch.

    A write that fails is kept as `error` and not tried again before the end; training goes on.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.error: OSError | None = None
        self.history: History | None = None
        self.file: Any = None
        self.written = 0
        self.noted = time.monotonic()

    def begin(self, outline: Outline) -> None:
        self.history = outline.history

    def epoch(self, epoch: int, numbers: Mapping[str, float]) -> None:
        self._catch_up()

    def epochs(self, first: int, losses: Sequence[float]) -> None:
        self._catch_up()

    def close(self) -> None:
        if self.file is not None:
            with contextlib.suppress(OSError):
                self.file.close()

    def _catch_up(self) -> None:
        history = self.history
        if history is None or self.error is not None:
            return
        try:
            if self.file is None:  # at first, and after a resume: exactly what is so far
                self.folder.write(LINES, "".join(_lines(history, 0)))
                self.file = open(self.folder.place(LINES), "ab", buffering=0)  # noqa: SIM115
            else:
                self.file.write("".join(_lines(history, self.written)).encode())
            self.written = history.epochs
            if time.monotonic() - self.noted >= NOTE_EVERY:
                self.noted = time.monotonic()
                self.folder.note(epochs=history.epochs)
        except OSError as error:
            self.error = error


def _lines(history: History, after: int) -> Iterator[str]:
    """The epochs after so many, each as a line of JSON."""
    columns = {name: values[after:] for name, values in history.columns().items()}
    for k, numbers in enumerate(zip(*columns.values(), strict=True), start=after + 1):
        row = {
            name: value if math.isfinite(value) else None
            for name, value in zip(columns, numbers, strict=True)
        }
        yield json.dumps({"epoch": k, **row}) + "\n"


# -- what was learnt from -------------------------------------------------------------------------


def fingerprint(table: Table) -> dict[str, Any]:
    """Digests of a table, fine enough to say what has changed: its rows, columns and target."""
    schema = table.schema
    names = schema.feature_names
    columns = {}
    if len(names) <= MAX_NAMED:
        found = mapped.columns(table.features)
        columns = {name: _digest(values) for name, values in zip(names, found, strict=True)}
    return {
        "rows": table.rows,
        "columns": columns,
        "features": _digest(table.features),
        "target": {"name": schema.target, "values": _digest(table.target)},
        "classes": None if schema.classes is None else _digest_text(schema.classes),
    }


def _digest(array: Any) -> str:
    found = hashlib.blake2b(str(array.shape).encode(), digest_size=8)
    for block in mapped.blocks(array):
        found.update(np.ascontiguousarray(block).data)
    return found.hexdigest()


def _digest_text(names: Sequence[str]) -> str:
    return hashlib.blake2b("\0".join(names).encode(), digest_size=8).hexdigest()


def _difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What has changed, in words; empty where nothing has."""
    old, new = before["columns"], now["columns"]
    if gone := [name for name in old if name not in new]:
        return f"the column {listed(gone, 3)} is gone"
    if more := [name for name in new if name not in old]:
        return f"the column {listed(more, 3)} is new"
    if before["rows"] != now["rows"]:
        return f"it had {before['rows']} rows and has {now['rows']}"
    if before["target"]["name"] != now["target"]["name"]:
        return f"the target was {quoted(before['target']['name'])}"
    if changed := [name for name in new if new[name] != old[name]]:
        return f"values in {listed(changed, 3)}"
    if before["classes"] != now["classes"]:
        return "its classes"
    if before["target"] != now["target"]:
        return f"values in the target {quoted(now['target']['name'])}"
    return "" if before["features"] == now["features"] else "its values"


# -- the system -----------------------------------------------------------------------------------


def _seize(file: Any) -> None:
    """Lock the open file for this process, or raise `OSError` at once."""
    if os.name == "nt":
        import msvcrt

        file.seek(1 << 20)  # behind the text, which others may read
        getattr(msvcrt, "locking")(file.fileno(), getattr(msvcrt, "LK_NBLCK"), 1)  # noqa: B009
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _same_file(file: Any, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False


def _versions() -> dict[str, str]:
    package = sys.modules[__name__.partition(".")[0]]
    return {
        "chainrule": str(package.__version__),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }
