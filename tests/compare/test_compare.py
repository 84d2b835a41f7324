"""Comparisons: what is trained, that it is paired, and what becomes of runs that end badly."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule.compare import Combination, Comparison, compare, workers
from chainrule.compare.cell import Cell, Experiment, Task, run, time_epochs
from chainrule.compare.combination import ACTIVATIONS, INPUTS, head, network
from chainrule.compare.rows import Rows, rows_of
from chainrule.errors import ChainruleError, DataError, UnknownNameError
from chainrule.nn import losses
from page.test_page import elements

QUICK: dict[str, Any] = {
    "epochs": 3, "seeds": 2, "hidden": (4,), "jobs": 1, "times": False, "compile": False,
    "progress": False,
}  # fmt: skip


def quick(data: Any = "iris", **choices: Any) -> Comparison:
    return compare(data, **{**QUICK, **choices})


def without_clock(cells: list[Cell]) -> list[dict[str, Any]]:
    return [{k: v for k, v in asdict(cell).items() if k != "seconds"} for cell in cells]


# -- any transfer function with any loss -----------------------------------------------------------


def test_every_activation_and_loss_trains() -> None:
    every = ["softmax_cross_entropy", "logistic", "sigmoid+squared_error", "nll", "huber"]
    every += ["binary_cross_entropy", "relative_entropy", "identity+mean_squared_error"]
    found = quick(
        combinations=[
            *(Combination(name, hidden=(4,)) for name in ACTIVATIONS),
            *(Combination("tanh", loss, hidden=(4,)) for loss in every[1:]),
        ],
        seeds=1,
        epochs=1,
    )
    assert [cell.error for cell in found.runs if cell.error] == []
    assert len(found.ranking) == len(ACTIVATIONS) + len(every) - 1


def test_numbers_have_losses_of_numbers() -> None:
    found = quick("diabetes", activations="tanh", losses=["squared_error", "huber"], epochs=10)
    assert found.metric == "R²"
    assert 0 < found.ranking[0].score.mean < 0.7
    assert found.baseline == 0.0


def test_the_loss_decides_the_output() -> None:
    assert [head(name).output for name in ("softmax_cross_entropy", "squared_error")] == [
        "identity", "softmax",
    ]  # fmt: skip
    assert head("sigmoid+squared_error").output == "sigmoid"
    assert head("squared_error", classification=False).output == "identity"
    assert head("softmax_cross_entropy").targets(np.array([1]), 3).tolist() == [1]
    assert head("squared_error").targets(np.array([1]), 3).tolist() == [[0, 1, 0]]
    model = network(Combination("maxout", hidden=(4,)), head("nll"), 3, 2, 0, np.float64)
    shapes = [p.shape for p in model.parameters()]
    assert shapes == [(8, 3), (8,), (2, 4), (2,)]
    assert np.allclose(model.predict(np.ones((1, 3))).sum(), 1)


def test_a_clipped_loss_is_the_loss() -> None:
    p, y = np.array([[0.25, 0.75]]), np.array([[0.0, 1.0]])
    for name in ("softmax+binary_cross_entropy", "nll"):
        end = head(name)
        assert float(end.function()(p, y)) == pytest.approx(float(losses.get(end.loss)(p, y)))
        assert np.isfinite(float(end.function()(np.array([[1.0, 0.0]]), y)))


# -- the design ------------------------------------------------------------------------------------


def test_a_seeds_runs_start_from_the_same_numbers_and_see_the_same_rows() -> None:
    made = [network(Combination(a), head("nll"), 5, 3, 7, np.float64) for a in ("relu", "selu")]
    a, b = (next(iter(model.parameters())).value for model in made)
    one = network(Combination("tanh"), head("nll"), 5, 3, 7, np.float64)
    ratio = a / next(iter(one.parameters())).value
    assert np.allclose(ratio, ratio[0, 0])  # he_uniform and glorot_uniform: the same but for scale
    assert not np.allclose(a, b)
    found = quick(combinations=[Combination("tanh", label="a"), Combination("tanh", label="b")])
    cells = found.cells
    assert [c.losses for c in cells["a"]] == [c.losses for c in cells["b"]]
    assert cells["a"][0].losses != cells["a"][1].losses
    assert [p.tied for p in found.ranking] == [True, True]


def test_a_cell_is_what_fit_gives() -> None:
    found = quick(activations="tanh", seeds=[3], lr=0.01)
    rows = rows_of("iris", None, 0.2)
    X, X_held = rows.scaled("standardised")
    model = cr.nn.Sequential(
        cr.nn.Linear(4, 4), cr.nn.Tanh(), cr.nn.Linear(4, 3), seed=3
    )  # fmt: skip
    history = cr.fit(
        model, X, rows.y, loss="softmax_cross_entropy", optimizer=cr.optim.Adam(lr=0.01),
        epochs=3, seed=3, compile=False, metrics=["accuracy"],
        validation_data=(X_held, rows.y_held), progress=False,
    )  # fmt: skip
    (cell,) = found.runs
    assert cell.losses == list(history.loss)
    assert cell.train_scores[1:] == history.metrics["accuracy"]
    assert cell.score == history.metrics["val_accuracy"][-1]
    assert len(cell.scores) == 4  # from before the first epoch on


def test_several_rates_are_tried_on_rows_that_are_not_scored() -> None:
    found = quick(activations=["tanh", "relu"], lr=[1e-4, 0.03], epochs=10)
    assert found.lrs == (0.03, 0.03)
    assert len(found.tuning) == 2 * 2 * 2
    assert "Best at the edge" in str(found)
    rows = rows_of("iris", None, 0.2)
    inner = rows.inner()
    assert (inner.train.rows, inner.held.rows) == (90, 30)
    known = {tuple(row) for row in rows.train.features.tolist()}
    assert all(tuple(row) in known for row in inner.held.features.tolist())
    faster = quick(activations="tanh", lr=[1e-4, 0.03], tune="speed", level=0.8, epochs=10)
    assert faster.lrs == (0.03,)


def test_inputs_are_scaled_by_the_training_rows() -> None:
    rows = rows_of("wine", None, 0.2)
    assert abs(rows.scaled("standardised")[0].mean(axis=0)).max() < 1e-12
    positive, centred = rows.scaled("positive")[0], rows.scaled("centred")[0]
    assert (positive.min(), positive.max()) == (0, 1)
    assert np.allclose(centred, positive - positive.mean(axis=0))
    assert rows.scaled("raw")[0] is rows.train.features
    assert len(INPUTS) == 4


def test_data_of_every_kind(tmp_path: Path) -> None:
    X, y = np.random.default_rng(0).normal(size=(60, 2)), np.arange(60) % 2
    assert quick((X, y), activations="tanh").metric == "accuracy"
    assert quick((X, X[:, 0] * 2.5), activations="tanh").metric == "R²"
    path = tmp_path / "fruit.csv"
    lines = [f"{a},{b},{'no' if label else 'yes'}" for (a, b), label in zip(X, y, strict=True)]
    path.write_text("\n".join(["a,b,ripe", *lines]))
    found = quick(path, target="ripe", activations="tanh")
    assert found.rows == (48, 12)
    xor = quick("xor", activations="tanh")
    assert (xor.data, xor.rows, xor.own) == ("xor", (4, 4), False)


# -- runs that end badly ---------------------------------------------------------------------------


def test_a_run_that_diverges_scores_as_a_constant_answer() -> None:
    choices = [Combination("relu", "huber", "sgd", lr=lr, hidden=(4,)) for lr in (0.1, 1e30)]
    found = quick("diabetes", combinations=choices)
    bad = found.cells["lr 1e+30"]
    assert [(c.diverged, c.score, c.error) for c in bad] == [(True, 0.0, "")] * 2
    assert "2 of 2 runs diverged" in str(found)


def test_a_cell_that_fails_is_named_and_the_others_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    from chainrule.compare import cell

    real = cell.fit

    def fit(*args: Any, **options: Any) -> Any:
        if options["seed"] == 1:
            raise RuntimeError("planted")
        return real(*args, **options)

    monkeypatch.setattr(cell, "fit", fit)
    found = quick(activations=["tanh", "relu"])
    assert "tanh, seed 1: no result: RuntimeError: planted" in str(found)
    assert [len(place.cells) for place in found.ranking] == [1, 1]
    with pytest.raises(ChainruleError, match="no run gave a result; the first one: RuntimeError"):
        quick(activations="tanh", seeds=[1])


def test_control_c_keeps_what_is_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[Task] = []

    def interrupted(experiment: Experiment, task: Task) -> Cell:
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(task)
        return run(experiment, task)

    monkeypatch.setattr(workers, "run", interrupted)
    found = quick(activations=["tanh", "relu"])
    assert (found.interrupted, len(found.runs)) == (True, 3)
    assert "Unfinished: stopped after 3 of 4 runs." in str(found)


@pytest.mark.parametrize(
    ("choices", "error", "message"),
    [
        ({"activations": "rleu"}, UnknownNameError, "unknown activation 'rleu'; did you mean"),
        ({"losses": "hinge"}, UnknownNameError, "unknown loss 'hinge'"),
        ({"losses": "relu+nll"}, UnknownNameError, "unknown output 'relu'"),
        ({"losses": "sigmoid+nll"}, DataError, "'nll' does not follow the output 'sigmoid'"),
        ({"data": "diabetes", "losses": "nll"}, DataError, "'nll' is a loss of classes"),
        ({"lr": []}, DataError, "lr is an empty list"),
        ({"lr": -1.0}, DataError, "lr must be positive, got -1.0"),
        ({"seeds": []}, DataError, "seeds is empty"),
        ({"activations": []}, DataError, "there is nothing to compare"),
        ({"inputs": "scaled"}, UnknownNameError, "unknown inputs 'scaled'"),
        ({"init": "he"}, UnknownNameError, "unknown initialiser 'he'"),
        ({"test": "u"}, UnknownNameError, "unknown test 'u'"),
        ({"tune": "speed"}, DataError, "tune='speed' needs level"),
        ({"data": "irs"}, UnknownNameError, "did you mean 'iris'"),
        ({"data": "iris", "target": "x"}, DataError, "has its own target|with its own target"),
        ({"epochs": 0}, ValueError, "epochs"),
    ],
)
def test_what_cannot_be_compared(choices: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        quick(**{"data": "iris", **choices})


# -- other processes -------------------------------------------------------------------------------


def plan(**choices: Any) -> Experiment:
    rows: Rows = rows_of("iris", None, 0.2)
    made = tuple(Combination(a, hidden=(4,)).resolved() for a in ("tanh", "relu"))
    return Experiment(rows, made, 3, 32, "float32", compile=False, **choices)


TASKS = [Task(seed, k, 0.01) for seed in range(2) for k in range(2)]


def test_the_cells_are_the_same_in_other_processes() -> None:
    here: list[Cell] = []
    there: list[Cell] = []
    assert not workers.run_all(plan(), TASKS, 1, here.append)
    assert not workers.run_all(plan(), TASKS, 2, there.append)
    there.sort(key=lambda cell: (cell.seed, cell.combination))
    assert without_clock(here) == without_clock(there)


def test_a_worker_that_dies_loses_its_cell_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    real = workers._Worker.give

    def give(self: Any, task: Task) -> None:
        real(self, task)
        if task == TASKS[1]:
            self.process.kill()

    monkeypatch.setattr(workers._Worker, "give", give)
    monkeypatch.setattr(workers, "cores", lambda: 2)
    cells: list[Cell] = []
    workers.run_all(plan(), TASKS, 2, cells.append)
    lost = [cell for cell in cells if cell.error]
    assert len(cells) == 4
    assert [(cell.seed, cell.combination) for cell in lost] == [(0, 1)]
    assert "ended with" in lost[0].error


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_control_c_ends_the_workers() -> None:
    code = (
        "import chainrule as cr\n"
        "found = cr.compare('digits', seeds=50, epochs=200, hidden=(64,), jobs=2, compile=False,"
        " progress=True, times=False)\n"
    )
    started = subprocess.Popen(
        [sys.executable, "-c", code], stderr=subprocess.PIPE, start_new_session=True
    )
    children = _children(started.pid)
    started.send_signal(signal.SIGINT)
    _, said = started.communicate(timeout=30)
    assert started.returncode != 0
    assert b"KeyboardInterrupt" in said  # nothing was finished yet
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in children):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _children(pid: int) -> list[int]:
    """The two workers of a process, once they have started."""
    place = Path(f"/proc/{pid}/task/{pid}/children")
    if not place.exists():
        pytest.skip("needs Linux's list of children")
    deadline = time.monotonic() + 40
    while len(found := [int(word) for word in place.read_text().split()]) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def test_little_work_stays_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_run_apart", lambda *_: pytest.fail("it started processes"))
    cells: list[Cell] = []
    workers.run_all(plan(), TASKS, None, cells.append)
    assert len(cells) == 4
    monkeypatch.setattr(workers, "PAYS", 0.0)
    monkeypatch.setattr(workers, "cores", lambda: 2)
    apart: list[Task] = []
    monkeypatch.setattr(workers, "_run_apart", lambda _, tasks, *__: apart.extend(tasks))
    workers.run_all(plan(), TASKS, None, cells.append)
    assert apart == TASKS[1:]  # one cell that takes long by itself is enough


# -- what it leaves --------------------------------------------------------------------------------


def test_the_document_is_json_without_nan_and_the_same_on_every_run() -> None:
    one, two = (json.loads(quick(activations=["tanh", "relu"]).to_json()) for _ in range(2))
    for document in (one, two):
        del document["seconds"]
        for cell in document["cells"]:
            del cell["seconds"]
    assert one == two
    assert {entry["label"] for entry in one["ranking"]} == {"tanh", "relu"}


def test_the_page_holds_no_element_of_the_data(tmp_path: Path) -> None:
    def page(label: str) -> str:
        names = [Combination("tanh", label=label), Combination("relu", label="b")]
        return quick(combinations=names).html()

    assert elements(page("<script>x</script>")) == elements(page("a" * 18))
    found = quick(activations="tanh", seeds=1)
    for ending in ("html", "json", "txt"):
        found.save(tmp_path / f"it.{ending}")
        assert (tmp_path / f"it.{ending}").stat().st_size > 100
    with pytest.raises(UnknownNameError, match="unknown file ending"):
        found.save(tmp_path / "it.pdf")
    assert "One seed: no interval and no test" in str(found)
    assert found._repr_html_().startswith("<h1>iris")


def test_the_clock_is_read_by_itself() -> None:
    seconds, epochs = time_epochs(plan(), TASKS[0], 20)
    assert epochs == 20
    assert math.isnan(seconds) or seconds < 1


def test_compare_is_the_function_and_the_room() -> None:
    import chainrule.compare  # noqa: F401 - entering the room must not hide the function

    assert cr.compare is compare
    assert os.path.basename(os.path.dirname(workers.__file__)) == "compare"
