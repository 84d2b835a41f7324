"""What a page and a command say of a run: each sentence where it is true, and none elsewhere."""

from __future__ import annotations

import dataclasses
import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from chainrule.data import Table, load_dataset, read_table
from chainrule.runs import Settings, train_table
from chainrule.runs.report import report
from chainrule.runs.report.advice import advice

RNG = np.random.default_rng(3)


def trained(table: Table, **settings: Any) -> Any:
    made = Settings(**{"epochs": 2, "hidden": (4,), **settings})
    return train_table(table, made, progress=False)


@pytest.fixture(scope="module")
def good() -> Any:
    return trained(load_dataset("iris"), epochs=40, hidden=(16,), lr=0.02)


def told(run: Any, **history: Any) -> str:
    """The advice, where the history were another one."""
    changed = SimpleNamespace(**{**vars(run.history), "steps": run.history.steps, **history})
    return " ".join(advice(dataclasses.replace(run, history=changed)))


def test_a_good_run_is_left_in_peace(good: Any) -> None:
    assert good.score.value > 0.9
    assert advice(good) == []
    assert "Nothing stands out" in report(good)


def test_an_interrupted_run_says_so(good: Any) -> None:
    text = told(good, stopped="interrupted", steps=7)
    assert text.startswith("The run was interrupted after step 7 of 160:")


def test_a_loss_that_still_falls_or_rises_again_is_told(good: Any) -> None:
    falling = [2 - k / 20 for k in range(30)]
    assert "still falling at the end, by 21 % over the last 3 epochs" in told(good, loss=falling)
    assert "still falling" not in told(good, loss=falling, stopped="callback")
    assert "still falling" not in told(good, loss=[1.0] * 30)
    assert "still falling" not in told(good, loss=[1.0] * 10 + [1e-9, 1e-12])
    assert "lowest at epoch 2 of 4" in told(good, val_loss=[1.0, 0.5, 0.6, 0.7])
    assert "lowest" not in told(good, val_loss=[1.0, 0.5, 0.51, 0.52])


def test_a_class_that_is_never_found_is_named() -> None:
    labels = np.array([0] * 150 + [1] * 10)
    table = read_table((RNG.normal(size=(160, 2)), labels), None, task="classification")
    run = trained(table)
    sentences = advice(run)
    assert "It is no better than always answering the commonest class." in sentences
    assert "No held-out row of 1 (0 of 2) was found: try --class-weight balanced." in sentences
    page = report(run)
    assert all(sentence in re.sub("</?code>", "", page) for sentence in sentences)
    assert "try <code>--class-weight balanced</code>.</li>" in page
    assert page.index("What to look at") < page.index("<nav")
    weighed = dataclasses.replace(run, settings=Settings(class_weight="balanced"))
    assert "gather more of them" in " ".join(advice(weighed))
    score = dataclasses.replace(run.score, confusion=((30, 0), (0, 2)), value=1.0)
    assert "1 is rare: 8 of 128 training rows" in " ".join(
        advice(dataclasses.replace(run, score=score))
    )


def test_a_common_class_that_is_never_found_is_not_to_be_weighed(good: Any) -> None:
    confusion = ((10, 0, 0), (10, 0, 0), (0, 0, 10))
    score = dataclasses.replace(good.score, value=2 / 3, confusion=confusion)
    text = " ".join(advice(dataclasses.replace(good, score=score)))
    assert "of versicolor (0 of 10) was found: see for what they were taken." in text


def test_rows_known_better_than_others_and_few_held_out_are_told() -> None:
    noise = RNG.normal(size=(60, 40))
    numbers = RNG.normal(size=60)
    run = trained(read_table((noise, numbers), None), epochs=60, hidden=(32,), lr=0.02)
    text = " ".join(advice(run))
    assert "12 rows held out" in text
    assert "better than the held-out ones: R² " in text
    assert "no better than always answering the mean" in text
    table = read_table((noise, np.arange(60) % 2), None, task="classification")
    run = trained(table, epochs=40, hidden=(32,), lr=0.02)
    text = " ".join(advice(run))
    assert "12 rows held out allow for" in text
    assert "better than the held-out ones: 100 % of them right" in text


def test_one_held_out_row_gives_no_nan() -> None:
    table = read_table((RNG.normal(size=(6, 2)), np.arange(6) * 1.5), None, task="regression")
    run = trained(table)
    assert np.isnan(run.score.value)
    page = report(run)
    assert "R² is unknown" in page
    assert ">unknown<" in page
    assert "nan" not in page.partition("<body>")[2].replace("nance", "")


def test_names_are_cut_on_the_page_and_an_interruption_is_told() -> None:
    kinds = np.array(["L" * 3000, "s"] * 30)
    table = read_table({"x" * 3000: np.arange(60), "kind": kinds}, "kind")
    run = trained(table)
    page = report(run)
    assert "L" * 60 not in page
    assert "x" * 60 not in page
    run.history.stopped = "interrupted"
    page = report(run)
    assert "2 of 2, interrupted" in page
    assert "stopped early" not in page


def test_the_parts_of_the_page_have_names_of_their_own(good: Any) -> None:
    page = report(good)
    regions = re.findall(r'role="region" aria-label="([^"]+)"', page)
    headings = re.findall(r"<h2[^>]*>([^<]+)</h2>", page)
    assert len(regions) >= 2
    assert len({*regions, *headings}) == len(regions) + len(headings)
