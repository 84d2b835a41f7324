"""How near is near enough: one table for all tests, by dtype."""

from __future__ import annotations

from typing import Any

import numpy as np

DTYPES = (np.float64, np.float32)

VALUE = {np.float64: 2.0**-43, np.float32: 2.0**-14}  # 512 ulp: gelu's tail has condition x² = 400
DERIVATIVE = {np.float64: 1e-11, np.float32: 2e-4}  # up to the third
DIFFERENCE = 2e-6  # a derivative from central differences, relative to the terms it is made of
PROOF = 1e-50  # two formulas read at high precision


def assert_near(
    got: Any, expected: Any, tolerance: float, scale: Any = 0.0, what: str = ""
) -> None:
    """Elementwise |got − expected| ≤ tolerance · max(|expected|, scale); ∞ and NaN must agree."""
    single = np.asarray(got).dtype == np.float32
    denormal = 2.0 ** (
        -139 if single else -1064
    )  # 1024 of the smallest units: x·0 where x·1e−46 was due
    got, expected = np.asarray(got, dtype=np.float64), np.asarray(expected, dtype=np.float64)
    assert got.shape == expected.shape, f"{what}: shape {got.shape}, expected {expected.shape}"
    with np.errstate(invalid="ignore"):
        error = np.abs(got - expected)
        fine = error <= tolerance * np.maximum(np.abs(expected), scale) + denormal
    same = (got == expected) | (np.isnan(got) & np.isnan(expected))
    wrong = ~(np.where(np.isfinite(expected), fine, False) | same)
    if wrong.any():
        place = tuple(int(i) for i in np.argwhere(wrong)[0]) if wrong.ndim else ()
        raise AssertionError(
            f"{what} at {place}: got {got[place]!r}, expected {expected[place]!r}"
            f" (error {error[place]:.3g}, tolerance {tolerance:.3g})"
        )
