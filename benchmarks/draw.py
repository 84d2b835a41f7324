"""How long drawings take: 300 nodes whole, and 10 000 nodes folded or summarised.

    python benchmarks/draw.py

Every drawing is made, laid out and written as SVG and as text; the circuit itself is made before.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

import common
from common import GOAL_HEAD, Goal, clock, table

common.one_thread()

import numpy as np  # noqa: E402

import chainrule as cr  # noqa: E402


def tangle(count: int, reach: int) -> cr.Tensor:
    """A circuit of about `count` nodes, each using two of the `reach` before it."""
    rng = np.random.default_rng(1)
    nodes = [cr.tensor(float(v), name=f"x{k}") for k, v in enumerate(rng.normal(size=10))]
    while len(nodes) < count - reach:
        i, j = rng.integers(max(0, len(nodes) - reach), len(nodes), 2)
        nodes.append(cr.tanh(nodes[i] + nodes[j]) if len(nodes) % 3 else nodes[i] * nodes[j])
    total = nodes[-1]
    for node in nodes[-reach:-1]:
        total = total + node
    return total


def chain(count: int) -> cr.Tensor:
    """A circuit of about `count` nodes in one line."""
    y = cr.tensor(1.0, name="x")
    for _ in range(count // 4):
        y = y * 1.0001 + 0.0001
    return y


def layers(count: int) -> cr.Tensor:
    """A network of `count` layers, and its loss."""
    blocks = [layer for _ in range(count) for layer in (cr.nn.Linear(16, 16), cr.nn.Tanh())]
    model = cr.nn.Sequential(*blocks, cr.nn.Linear(16, 3), seed=0)
    x = np.random.default_rng(0).normal(size=(8, 16))
    return cr.losses.softmax_cross_entropy(model(x), np.arange(8) % 3)


def seconds(output: cr.Tensor, max_nodes: int, finish: Callable[[cr.Drawing], str]) -> float:
    """The median of five drawings."""
    return (
        median(clock(lambda: finish(cr.draw(output, max_nodes=max_nodes))) for _ in range(5)) / 1e9
    )


def main() -> None:
    """Print each goal and what was measured."""
    cases = [
        ("300 nodes, tangled", tangle(230, 12), 400, 1.0),
        ("300 nodes in a line", chain(300), 400, 1.0),
        ("60 layers, whole", layers(60), 1000, 1.0),
        ("10 000 nodes, summarised", tangle(7500, 60), 300, 5.0),
        ("10 000 nodes in a line, folded", chain(10_000), 300, 5.0),
    ]
    goals = []
    for name, output, most, limit in cases:
        for kind, finish in (("SVG", cr.Drawing.svg), ("text", cr.Drawing.text)):
            goals.append(Goal(f"{name}: {kind}", limit, seconds(output, most, finish), "s"))
    print("\n".join(table(GOAL_HEAD, [goal.row() for goal in goals])))


if __name__ == "__main__":
    main()
