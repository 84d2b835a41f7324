"""Sequences: digits read row by row, and a sum whose terms lie many steps back.

    python examples/sequences.py

The digits need little memory. The adding problem needs it: of 20 random numbers two are marked, and
the answer is their sum. Whoever guesses the mean has a mean squared error of 0.167.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import chainrule as cr
from chainrule import nn
from chainrule.data import load_dataset

STEPS = 20


def digits() -> None:
    """Each image from top to bottom: 8 steps of 8 pixels; a fifth is held out."""
    data = load_dataset("digits")
    order = np.random.default_rng(0).permutation(len(data.target))
    X, y = (data.features / 16).reshape(-1, 8, 8)[order], data.target[order]
    cut = len(y) * 4 // 5
    for kind in (nn.LSTM, nn.GRU, nn.RNN):
        model = nn.Sequential(kind(8, 32), nn.Linear(32, 10), seed=0)
        history = cr.fit(
            model, X[:cut], y[:cut], loss="softmax_cross_entropy",
            optimizer=cr.optim.Adam(lr=0.01), epochs=20, progress=False,
        )  # fmt: skip
        right = float((model.predict(X[cut:]).argmax(1) == y[cut:]).mean())
        print(f"digits, {kind.__name__:4} {right:.1%} of the held-out, {history.seconds:.1f} s")


def adding(rows: int, seed: int) -> tuple[Any, Any]:
    """Rows of (number, mark) by step, and the sum of the two marked numbers."""
    rng = np.random.default_rng(seed)
    X = np.zeros((rows, STEPS, 2))
    X[:, :, 0] = rng.random((rows, STEPS))
    for row in X:
        row[rng.choice(STEPS, 2, replace=False), 1] = 1
    return X, (X[:, :, 0] * X[:, :, 1]).sum(1, keepdims=True)


def memory() -> None:
    """The same training for a plain network and for one with gates."""
    (X, y), (Xv, yv) = adding(2000, 0), adding(500, 1)
    for layer in (nn.RNN(2, 16), nn.LSTM(2, 16, forget_bias=1.0)):
        model = nn.Sequential(layer, nn.Linear(16, 1), seed=0)
        history = cr.fit(
            model, X, y, loss="mean_squared_error", optimizer=cr.optim.Adam(lr=0.01), epochs=20,
            batch_size=50, progress=False,
        )  # fmt: skip
        error = float(np.mean((model.predict(Xv) - yv) ** 2))
        name = type(layer).__name__
        print(f"adding, {name:4} error {error:.4f} on the held-out, {history.seconds:.1f} s")


if __name__ == "__main__":
    digits()
    memory()
