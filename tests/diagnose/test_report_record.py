"""A report as JSON: whole, with stable keys, and legal whatever was measured."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from chainrule.diagnose.finding import Curve, Evidence, Flow, Report
from chainrule.diagnose.report.record import plain
from diagnose.reports import EXAMPLES, dead, exploding, finding, hostile, score, vanishing
from draw.test_svg import HOSTILE


@pytest.mark.parametrize("name", EXAMPLES)
def test_it_goes_through_json_and_back(name: str) -> None:
    record = EXAMPLES[name]().to_dict()
    assert json.loads(json.dumps(record, allow_nan=False)) == record


def test_every_field_is_there_by_its_own_name() -> None:
    record = plain(dead())
    objects = {"setup", "change"}  # what was run, which is no value
    assert set(record) == ({field.name for field in fields(Report)} - objects) | {"healthy"}
    assert set(record["start"][0]) == {field.name for field in fields(Flow)}
    assert list(record["findings"][0]) == [
        "problem", "meaning", "severity", "where", "evidence", "remedy", "verified",
    ]  # fmt: skip
    assert set(record["findings"][0]["where"]) == {"layer", "units", "samples", "columns", "step"}
    assert set(record["findings"][0]["evidence"]) == {"sentence", "quantities", "product"}
    assert set(record["findings"][0]["verified"]) == {
        "helped", "reached", "text", "before", "after", "curves",
    }  # fmt: skip


def test_the_figures_are_the_reports_to_the_last_digit() -> None:
    report = vanishing()
    record = json.loads(json.dumps(plain(report)))
    first = report.findings[0]
    product = record["findings"][0]["evidence"]["product"]
    assert [f["value"] for f in product] == [f.value for f in first.evidence.product]
    assert [f["share"] for f in product] == [f.share for f in first.evidence.product]
    assert [f["delta"] for f in record["start"]] == [f.delta for f in report.start]
    assert record["findings"][0]["verified"]["curves"][1]["loss"] == list(
        first.verified.curves[1].loss  # type: ignore[union-attr]
    )
    assert record["tried"] == []
    assert record["findings"][1]["verified"]["text"] == "tried, did not help"


def test_what_json_lacks_is_none_or_a_word() -> None:
    record = plain(exploding())
    assert record["findings"][0]["evidence"]["quantities"] == {
        "largest": "inf", "least": "-inf", "of": None,
    }  # fmt: skip
    assert record["curve"]["loss"] == [1e3, 1e150, "inf", None]
    assert record["end"][0]["delta"] is None
    assert record["score"]["value"] is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float32(0.5), 0.5),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (np.array([[1.0, np.nan]]), [[1.0, None]]),
        ({1: (2, np.inf)}, {"1": [2, "inf"]}),
        (range(2), [0, 1]),
        (np.float64("-inf"), "-inf"),
        (None, None),
        (1 + 2j, "(1+2j)"),
        (np.array(["a"]), ["a"]),
    ],
)
def test_quantities_of_any_kind(value: Any, expected: Any) -> None:
    found = finding(evidence=Evidence("", {"x": value}))
    record = plain(Report([found], "", score(0.5), Curve("", ())))
    quantity = record["findings"][0]["evidence"]["quantities"]["x"]
    assert quantity == expected
    assert type(quantity) is type(expected)
    json.dumps(record, allow_nan=False)


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_name_stays_what_it_is(name: str) -> None:
    record = json.loads(json.dumps(plain(hostile(name)), allow_nan=False))
    assert record["reason"] == name
    assert record["findings"][0]["evidence"]["quantities"][name] == name
