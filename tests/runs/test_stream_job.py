"""A table that memory need not hold trains as one that it does, in bounded memory."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chainrule.data import Table, load_dataset, mapped, read_table, scan
from chainrule.errors import DataError
from chainrule.runs import RunFolder, Settings, Trained, job, train_table

KEPT = ("config.toml", "model.safetensors", "history.csv", "history.jsonl", "report.html")
VARIETY = [
    ("wine", {"batch_norm": True, "dropout": 0.2}),
    ("wine", {"class_weight": "balanced", "validation": 0.2, "dtype": "float64"}),
    ("breast_cancer", {"loss": "logistic", "class_weight": "balanced", "patience": 2}),
    ("diabetes", {"validation": 0.1, "schedule": "plateau"}),
    ("diabetes", {"batch_size": 1000, "optimizer": "sgd"}),
]


@pytest.fixture
def interpreted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "fit", functools.partial(job.fit, compile=False))


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred bytes are much, and read in many pieces."""
    monkeypatch.setattr(scan, "LARGE", 100)
    monkeypatch.setattr(mapped, "BLOCK", 200)
    monkeypatch.setattr(mapped, "SEGMENT", 500)
    monkeypatch.setattr("chainrule.data.batches.AHEAD", 2000)


def in_a_file(table: Table) -> Table:
    """The same table, as one that is too large for memory is read."""
    found = Table(
        mapped.kept(iter([table.features]), table.schema.width, np.float64),
        table.target, table.schema, table.name,
    )  # fmt: skip
    assert isinstance(found.features, np.memmap)
    return found


def run(data: str | Table, **settings: Any) -> Trained:
    table = load_dataset(data) if isinstance(data, str) else data
    return train_table(table, Settings(**{"epochs": 4, **settings}), progress=False)


def weights(trained: Trained) -> dict[str, Any]:
    return dict(trained.predictor.model.state_dict())


def assert_same(one: Trained, other: Trained) -> None:
    again = weights(other)
    for name, value in weights(one).items():
        assert value.tobytes() == again[name].tobytes(), name
    assert one.history.columns() == other.history.columns()
    assert one.score == other.score


@pytest.mark.usefixtures("interpreted")
@pytest.mark.parametrize(("name", "settings"), VARIETY)
def test_rows_that_are_streamed_train_as_those_in_memory_to_the_bit(
    name: str, settings: dict[str, Any]
) -> None:
    assert_same(*(run(name, stream=stream, **settings) for stream in ("on", "off")))


@pytest.mark.parametrize(("name", "settings"), VARIETY[1:4])
def test_in_machine_code_they_agree(name: str, settings: dict[str, Any]) -> None:
    one, other = (run(name, stream=stream, **settings) for stream in ("on", "off"))
    again = weights(other)
    for key, value in weights(one).items():
        np.testing.assert_allclose(value, again[key], rtol=1e-3, atol=1e-5)


@pytest.mark.usefixtures("interpreted")
@pytest.mark.parametrize(("name", "settings"), [VARIETY[1], VARIETY[3]])
@pytest.mark.parametrize("stream", ["auto", "off"])
def test_a_table_in_a_file_gives_the_same_network(
    name: str, settings: dict[str, Any], stream: str, large: None
) -> None:
    table = load_dataset(name)
    one = run(in_a_file(table), stream=stream, **settings)
    assert one.settings.stream == ("on" if stream == "auto" else "off")
    for part in (one.train, one.held_out, one.validation):
        assert part is not None
        assert isinstance(part.features, np.memmap)
    assert_same(one, run(table, stream="off", **settings))


def test_auto_streams_what_lies_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("diabetes", epochs=1).settings.stream == "off"
    monkeypatch.setattr(scan, "LARGE", 1000)
    text = "a,b,y\n" + "".join(f"{i},{i * i % 7},{i / 9}\n" for i in range(90))
    (tmp_path / "t.csv").write_text(text)
    table = read_table(tmp_path / "t.csv", "y")
    assert run(table).settings.stream == "on"


def test_a_rate_is_found_in_the_same_way(large: None) -> None:
    table = load_dataset("diabetes")
    rates = [run(t, lr="find", epochs=1).settings.lr for t in (table, in_a_file(table))]
    assert rates[0] == pytest.approx(rates[1])


def test_what_needs_all_rows_at_once() -> None:
    with pytest.raises(DataError, match="lbfgs needs all rows at once"):
        run("diabetes", optimizer="lbfgs", stream="on")


@pytest.mark.parametrize("name", ["wine", "diabetes"])
def test_the_report_reads_a_file_in_pieces(name: str, tmp_path: Path, large: None) -> None:
    table = load_dataset(name)
    for place, data in (("a", table), ("b", in_a_file(table))):
        settings = Settings(epochs=2, stream="on")
        train_table(data, settings, progress=False, folder=tmp_path / place / "run")
    one, other = ((tmp_path / place / "run" / "report.html").read_text() for place in "ab")
    assert one == other


# -- going on -------------------------------------------------------------------------------------


class Press:
    """Presses Ctrl-C after a step."""

    def __init__(self, at: int) -> None:
        self.at = at

    def on_step(self, moment: Any) -> None:
        if moment.step == self.at:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
@pytest.mark.parametrize("step", [4, 11])
@pytest.mark.parametrize(("name", "settings"), VARIETY[:2])
def test_a_streamed_run_goes_on_to_the_bit(
    name: str, settings: dict[str, Any], step: int, tmp_path: Path, large: None
) -> None:
    table = in_a_file(load_dataset(name))

    def go(place: Path, at: int, resume: bool = False) -> Trained:
        given = RunFolder.of(place).settings() if resume else Settings(epochs=4, **settings)
        kept: dict[str, Any] = {"folder": place, "resume": resume, "callbacks": [Press(at)]}
        return train_table(table, given, progress=False, **kept)

    whole, broken = (tmp_path / place / "run" for place in "ab")
    go(whole, -1)
    half = go(broken, step)
    assert (half.history.stopped, half.history.steps) == ("interrupted", step)
    go(broken, -1, resume=True)
    assert [(whole / n).read_bytes() for n in KEPT] == [(broken / n).read_bytes() for n in KEPT]
    assert RunFolder.of(broken).settings().stream == "on"


# -- memory ---------------------------------------------------------------------------------------

PEAK = """
import sys, chainrule.cli
try:
    chainrule.cli.main(sys.argv[1:])
finally:
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    print("peak", status["VmHWM"].split()[0], file=sys.stderr)
"""


def peak(folder: Path, *arguments: str) -> float:
    """Run a command there; the most memory that it held, in MB."""
    done = subprocess.run(
        [sys.executable, "-c", PEAK, *arguments], cwd=folder, capture_output=True, text=True,
        timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return int(done.stderr.split()[-1]) * 1024 / 1e6


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="reads /proc")
def test_200_mb_pass_in_less_than_300(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    with open(tmp_path / "big.csv", "w") as file:
        file.write(",".join(f"x{k}" for k in range(50)) + ",y\n")
        for _ in range(245):
            x = rng.random((2000, 50))
            rows = np.char.mod("%.5f", np.column_stack([x, 10 * x[:, 0] + x[:, 1]])).tolist()
            file.write("".join(",".join(row) + "\n" for row in rows))
    assert os.path.getsize(tmp_path / "big.csv") > 199e6
    trained = peak(tmp_path, "train", "big.csv", "--target", "y", "--epochs", "1", "--run", "run")
    score = RunFolder.of(tmp_path / "run").info["score"]
    evaluated = peak(tmp_path, "evaluate", "run", "big.csv")
    predicted = peak(tmp_path, "predict", "run", "big.csv", "-o", "answers.csv")
    assert (trained < 300, evaluated < 300, predicted < 300) == (True,) * 3, (
        trained, evaluated, predicted,
    )  # fmt: skip
    assert score["value"] > 0.95
