"""A public suite of sound and faulty training runs, each generated from a seed. See README.md.

>>> from diagnosis_suite import cases
>>> case = cases(seed=0)[0]
>>> cr.fit(case.model(), case.X, case.y, **case.settings())
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from diagnosis_suite.case import Case, chosen, drawn, entries, holds, record, recorded, twin
from diagnosis_suite.crossed import crossed as kinds

__all__ = ["PROBLEMS", "Case", "cases", "drawn", "entries", "holds", "record", "recorded", "twin"]

PROBLEMS = (
    "dead_relu", "saturation", "vanishing_gradient", "exploding_gradient",
    "learning_rate_too_high", "learning_rate_too_low", "unscaled_inputs", "unscaled_targets",
    "symmetric_init", "loss_output_mismatch", "single_class_softmax", "zero_probability",
    "data_fault", "insufficient_capacity",
)  # fmt: skip


def cases(
    seed: int = 0, only: Sequence[str] = (), jobs: int = 1, *, crossed: bool = False
) -> list[Case]:
    """The suite of that seed, faulty runs first; `only` are ids or beginnings of ids.

    With `crossed`, cases of which everything is drawn, in place of the listed ones.

    A seed that is not recorded trains every run, and its twin, once or more: about a minute.
    """
    every = kinds() if crossed else entries()
    keys = [key for key in every if not only or key.startswith(tuple(only))]
    find = partial(chosen, seed=seed)
    if jobs == 1 or set(keys) <= recorded().get(str(seed), {}).keys():
        return [find(key) for key in keys]
    with ProcessPoolExecutor(jobs) as pool:
        return [drawn(c, seed, k) for c, k in pool.map(partial(_place, seed=seed), keys)]


def _place(key: str, seed: int) -> tuple[str, int]:
    return key, chosen(key, seed).attempt
