"""What an explanation costs: a long scalar circuit, a diamond, and one element of a large net.

    python benchmarks/explain.py             # a few seconds
    python benchmarks/explain.py --json explain.json

Everything runs in one process on one thread; the time is from `cr.explain` to its printed text.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import common

common.one_thread()

import numpy as np  # noqa: E402  (the number of threads is read when NumPy is imported)

import chainrule as cr  # noqa: E402

GOAL = 1.0  # seconds


def long_chain(nodes: int = 100_000) -> tuple[Any, Any]:
    """A scalar circuit of so many nodes in a row."""
    x = h = cr.tensor(1.1, name="x")
    for _ in range(nodes // 2):
        h = cr.sin(h + 0.1)
    return h, x


def branched(nodes: int = 100_000) -> tuple[Any, Any]:
    """A scalar circuit of so many nodes in which every third node branches."""
    x = h = cr.tensor(1.0, name="x")
    for _ in range(nodes // 3):
        h = 0.5 * h + cr.sin(h)
    return h, x


def large_net() -> tuple[Any, Any]:
    """One element of the first weight of a 784-512-512-10 net on 128 samples."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(128, 784))
    sizes = (784, 512, 512, 10)
    layers = [cr.nn.Linear(n, m, dtype=np.float64) for n, m in pairwise(sizes)]
    model = cr.nn.Sequential(layers[0], cr.nn.ReLU(), layers[1], cr.nn.ReLU(), layers[2], seed=0)
    return cr.losses.softmax_cross_entropy(model(X), rng.integers(0, 10, 128)), "W1[3,2]"


CASES: dict[str, Callable[[], tuple[Any, Any]]] = {
    "scalar circuit, 100 000 nodes in a row": long_chain,
    "scalar circuit, 100 000 nodes, branching": branched,
    "one element, 784-512-512-10, 128 samples": large_net,
}


def measure(build: Callable[[], tuple[Any, Any]], rounds: int) -> list[float]:
    """Seconds of each round, the first (which warms up) left out."""
    output, wrt = build()
    times = []
    for _ in range(rounds + 1):
        start = perf_counter()
        str(cr.explain(output, wrt=wrt))
        times.append(perf_counter() - start)
    return times[1:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    found = {name: measure(build, given.rounds) for name, build in CASES.items()}
    for name, times in found.items():
        verdict = "met" if median(times) < GOAL else "MISSED"
        print(f"{name:44} {median(times):7.3f} s   goal {GOAL:g} s: {verdict}")
    if given.json:
        given.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
