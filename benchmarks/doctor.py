"""What it costs to watch a training run with `cr.Doctor`.

    python benchmarks/doctor.py            # a few minutes
    python benchmarks/doctor.py --quick    # fewer rounds and epochs
    python benchmarks/doctor.py --clock processor --json doctor.json

A 784-128-10 network learns 60,000 synthetic rows in batches of 128, in machine code: without a
callback, with one that does nothing, and with a doctor in both details; all start from the same
weights and must end with the same bits. On a busy machine, count processor time.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from statistics import median
from time import sleep
from typing import Any

import common
from common import Goal, Section, clock, interleaved, number, ratio

common.one_thread()

import numpy as np  # noqa: E402  (the number of threads is read when NumPy is imported)

import chainrule as cr  # noqa: E402
from chainrule import nn, optim  # noqa: E402

ROWS, INPUTS, CLASSES, BATCH = 60_000, 784, 10, 128


class Idle:
    """A callback that is told of each epoch: what being told costs, without a look."""

    def on_epoch(self, moment: Any) -> None:
        """Nothing."""


WATCHERS: dict[str, Callable[[], list[Any]]] = {
    "off": list,
    "off, again": list,
    "a callback that does nothing": lambda: [Idle()],
    "Doctor()": lambda: [cr.Doctor()],
    'Doctor(detail="full")': lambda: [cr.Doctor(detail="full")],
}
# Without a doctor nothing of it is there: what "off, again" differs by is the noise of the others.
GOALS = {"Doctor()": 1.05, 'Doctor(detail="full")': 1.25}


def rows() -> tuple[Any, Any]:
    """Ten clouds of points, half hidden in noise: something that is learnt, and not at once."""
    random = np.random.default_rng(0)
    middles = random.normal(size=(CLASSES, INPUTS)).astype(np.float32)
    y = random.integers(0, CLASSES, ROWS)
    noise = random.standard_normal((ROWS, INPUTS), dtype=np.float32)
    return 0.1 * middles[y] + noise, y


def network() -> Any:
    """The network, with the same weights each time."""
    return nn.Sequential(nn.Linear(INPUTS, 128), nn.ReLU(), nn.Linear(128, CLASSES), seed=0)


def run(X: Any, y: Any, epochs: int, threads: int, callbacks: list[Any]) -> tuple[Any, Any]:
    """One training; the model and its history."""
    model = network()
    history = cr.fit(
        model, X, y, loss="softmax_cross_entropy", optimizer=optim.SGD(lr=0.05), epochs=epochs,
        batch_size=BATCH, seed=0, callbacks=callbacks, progress=False, threads=threads,
    )  # fmt: skip
    return model, history


def timed(X: Any, y: Any, epochs: int, threads: int, make: Callable[[], list[Any]]) -> float:
    """Nanoseconds of one training."""
    sleep(0.2)  # for what the last one left spinning
    return clock(lambda: run(X, y, epochs, threads, make()))


def costs(rounds: int, epochs: int, threads: int) -> Section:
    """The time of each beside that of a run nobody watches, and that all bits agree."""
    X, y = rows()
    ends = {name: run(X, y, 1, threads, make()) for name, make in WATCHERS.items()}
    bits = {
        name: b"".join(p.value.tobytes() for p in model.parameters())
        for name, (model, _) in ends.items()
    }
    measured = {
        name: partial(timed, X, y, epochs, threads, make) for name, make in WATCHERS.items()
    }
    times = interleaved(measured, rounds)
    clock_of = f"{common.clock_name()} time"
    title = f"Watching 784-128-10, {ROWS:,} rows, {epochs} epochs, batches of {BATCH}"
    section = Section(f"{title}, threads: {threads}, {clock_of}", ["", "s", "÷ off", "same bits"])
    for name, taken in times.items():
        own, same = ratio(taken, times["off"]), bits[name] == bits["off"]
        section.rows.append([name, number(median(taken) / 1e9), f"{own:.3f}", "✓" if same else "✗"])
        section.data[name] = {"ns": taken, "ratio": own, "same_bits": same}
        if name in GOALS:
            section.goals.append(Goal(f"{name} ÷ off", GOALS[name], own, "×"))
    doctors = {name: make()[0] for name, make in WATCHERS.items() if name.startswith("Doctor")}
    for name, doctor in doctors.items():
        run(X, y, epochs, threads, [doctor])
        looked = len(doctor.steps) * len(doctor.rows)
        share = f"{looked:,} of {ROWS * epochs:,} rows trained"
        section.notes.append(f"{name}: {len(doctor.steps)} looks, {share}")
    section.data["compiled"] = ends["off"][1].compiled
    return section


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table and the goals; 1 where a goal is missed or bits differ."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds and epochs")
    parser.add_argument("--threads", type=int, default=1, help="of the training program")
    parser.add_argument("--clock", choices=sorted(common.CLOCKS), default="wall")
    parser.add_argument("--json", metavar="FILE", help="write every measurement there")
    given = parser.parse_args(arguments)
    common.choose_clock(given.clock)
    rounds, epochs = (3, 2) if given.quick else (7, 10)
    section = costs(rounds, epochs, given.threads)
    print(section.text())
    print("\n".join(common.table(common.GOAL_HEAD, [goal.row() for goal in section.goals])))
    if given.json:
        found = {"machine": common.machine(), "data": section.data}
        found["goals"] = [asdict(goal) for goal in section.goals]
        with open(given.json, "w", encoding="utf-8") as file:
            json.dump(found, file, indent=1)
    same = all(section.data[name]["same_bits"] for name in WATCHERS)
    return 0 if same and all(goal.met for goal in section.goals) else 1


if __name__ == "__main__":
    sys.exit(main())
