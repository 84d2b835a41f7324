"""Time to the same score: the estimators beside scikit-learn's, from `fit` to `score`.

    python benchmarks/estimators.py [--rounds 5] [--quick] [--threads 1] [--clock processor]

Each competitor fits the same rows with the same parameters from the same start. What counts is the
time of `fit`, its compilation included (the first round's is from cold, later ones find it on
disk, as a search or a second run does). Scores on held-out rows must agree, or the row says so.
Rounds are interleaved; times are medians, the ratio is the median of the rounds' own.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from typing import Any

import common

if __name__ == "__main__":  # before NumPy is imported
    words = [*sys.argv, "--threads", "1"]
    os.environ.update(common.with_threads(int(words[words.index("--threads") + 1])))

import numpy as np
import sklearn.neural_network as theirs
from sklearn.datasets import load_digits, make_classification
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

import chainrule.estimators as ours
from common import interleaved, middle, ratios, spread

GOAL = 3.0
CLOSE = 0.01  # scores that count as the same


def digits() -> tuple[Any, ...]:
    X, y = load_digits(return_X_y=True)
    return train_test_split(StandardScaler().fit_transform(X), y, random_state=0)  # type: ignore


def synthetic() -> tuple[Any, ...]:
    X, y = make_classification(
        100_000, 50, n_informative=20, n_classes=4, flip_y=0.05, random_state=0
    )
    return train_test_split(StandardScaler().fit_transform(X), y, random_state=0)  # type: ignore


CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "digits, defaults": (digits, {}),
    "digits, defaults, float32": (digits, {"dtype": np.float32}),
    "digits, sgd": (digits, {"solver": "sgd", "learning_rate_init": 0.05}),
    "digits, lbfgs": (digits, {"solver": "lbfgs"}),
    "100 000 × 50, 5 epochs": (synthetic, {"max_iter": 5}),
    "100 000 × 50, 5 epochs, float32": (synthetic, {"max_iter": 5, "dtype": np.float32}),
}


def measured(name: str, rounds: int) -> str:
    """A line of the table."""
    load, given = CASES[name]
    parameters = dict(given)
    dtype = parameters.pop("dtype", np.float64)
    X, Xt, y, yt = load()
    X, Xt = X.astype(dtype), Xt.astype(dtype)
    found: dict[str, float] = {}

    def run(room: Any) -> Any:
        def once() -> float:
            model = room.MLPClassifier(random_state=0, **parameters)
            seconds = common.clock(lambda: model.fit(X, y)) / 1e9
            found[room.__name__] = model.score(Xt, yt)
            return seconds

        return once

    times = interleaved({"theirs": run(theirs), "ours": run(ours)}, rounds)
    a, b = found[theirs.__name__], found[ours.__name__]
    several = ratios(times["theirs"], times["ours"])
    same = "" if abs(a - b) <= CLOSE else ", scores differ"
    return (
        f"| {name} | {middle(times['theirs']):.2f} s | {middle(times['ours']):.2f} s"
        f" | {middle(several):.1f}× ({spread(several)}) | {a:.4f} | {b:.4f}"
        f" | {'✓' if middle(several) >= GOAL and not same else '✗'}{same} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", choices=common.CLOCKS, default="wall")
    parser.add_argument("--only", default="", help="the tables whose names have this in them")
    parser.add_argument("--quick", action="store_true", help="the digits alone, three rounds")
    chosen = parser.parse_args()
    common.choose_clock(chosen.clock)
    warnings.simplefilter("ignore")
    print(f"load {os.getloadavg()[0]:.1f}, {chosen.threads} thread(s), {chosen.clock} time")
    print(f"| table | scikit-learn | chainrule | ratio | score there | score here | ≥ {GOAL:g}× |")
    print("|---|---|---|---|---|---|---|")
    for name in CASES:
        if chosen.only in name and (not chosen.quick or name.startswith("digits")):
            print(measured(name, 3 if chosen.quick else chosen.rounds), flush=True)


if __name__ == "__main__":
    main()
