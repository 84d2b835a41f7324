"""Scores with the defaults, beside scikit-learn's: repeated five-fold cross-validation.

    python benchmarks/scores.py [--repeats 5] [--json FILE]

Both estimators get the same folds and the same `random_state`, with the columns standardised and as
they are. The difference of two scores on one fold is noise and signal; its mean over all folds is
called "within noise" where it is less than two standard errors from 0, the standard error taken as
the corrected one of Nadeau and Bengio (2003), for folds of one table share rows.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import warnings
from typing import Any

import common

if __name__ == "__main__":  # before NumPy is imported: small products gain nothing by more
    os.environ.update(common.with_threads(1))

import numpy as np
import sklearn.neural_network as theirs
from sklearn.datasets import (
    load_breast_cancer,
    load_diabetes,
    load_digits,
    load_iris,
    load_wine,
)
from sklearn.model_selection import RepeatedKFold, RepeatedStratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import chainrule.estimators as ours

TABLES = {
    "iris": load_iris,
    "wine": load_wine,
    "breast_cancer": load_breast_cancer,
    "digits": load_digits,
    "diabetes": load_diabetes,
}


def scores(name: str, scaled: bool, repeats: int) -> tuple[Any, Any]:
    """Both estimators' scores on every fold."""
    X, y = TABLES[name](return_X_y=True)
    regression = name == "diabetes"
    kind = "MLPRegressor" if regression else "MLPClassifier"
    make = RepeatedKFold if regression else RepeatedStratifiedKFold
    folds = make(n_splits=5, n_repeats=repeats, random_state=0)
    found = []
    for room in (theirs, ours):
        model = getattr(room, kind)(random_state=0)
        pipeline = make_pipeline(StandardScaler(), model) if scaled else model
        found.append(cross_val_score(pipeline, X, y, cv=folds))
    return found[0], found[1]


def row(name: str, scaled: bool, repeats: int) -> dict[str, Any]:
    """A line of the table."""
    a, b = scores(name, scaled, repeats)
    d = b - a
    error = float(d.std(ddof=1)) * math.sqrt(
        1 / len(d) + 1 / 4
    )  # a fold tests a quarter of the rest
    return {
        "data": name,
        "columns": "standardised" if scaled else "raw",
        "scikit-learn": f"{a.mean():.4f} ± {a.std(ddof=1):.4f}",
        "chainrule": f"{b.mean():.4f} ± {b.std(ddof=1):.4f}",
        "difference": f"{d.mean():+.4f} ± {d.std(ddof=1):.4f}",
        "": "within noise" if abs(d.mean()) <= 2 * error or not d.any() else "apart",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", default=",".join(TABLES))
    parser.add_argument("--json")
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    rows = []
    for name in chosen.only.split(","):
        for scaled in (True, False):
            rows.append(row(name, scaled, chosen.repeats))
            if len(rows) == 1:
                print("| " + " | ".join(rows[0]) + " |\n|" + "---|" * len(rows[0]))
            print("| " + " | ".join(rows[-1].values()) + " |", flush=True)
    if chosen.json:
        with open(chosen.json, "w", encoding="utf-8") as file:
            json.dump(
                {"numpy": np.__version__, "python": sys.version, "rows": rows}, file, indent=1
            )


if __name__ == "__main__":
    main()
