"""The guide says what the diagnosis does: every name in its order, every bar with its value."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from chainrule.diagnose import PROBLEMS, at_start, flow, in_steps, signal, signs, trials, verdict
from chainrule.diagnose.before import columns, judging, labels, twins

TEXT = (Path(__file__).parents[2] / "docs" / "diagnosis.md").read_text(encoding="utf-8")
WORDS = " ".join(TEXT.split())
SHARES = {0.1: "a tenth", 0.25: "a quarter", 0.5: "half", 0.8: "four fifths"}


def test_every_problem_has_its_row_in_the_order_of_causes() -> None:
    assert re.findall(r"^\| `(\w+)` \|", TEXT, flags=re.MULTILINE) == list(PROBLEMS)


@pytest.mark.parametrize(
    "words",
    [
        f"What is left to learn: {SHARES[verdict.SOUND]}.",
        f"only if it brings at least {SHARES[verdict.MARGIN]} more",
        f"has {SHARES[verdict.FAR]} of the skill",
        f"{SHARES[flow.HALF]} of a hidden layer",
        f"f′ ≤ {100 * flow.LEVEL:g} % of its largest value",
        f"Exploding: {at_start.AMPLIFIED:g}-fold",
        f"|mean| over {columns.CENTRE:g} stds",
        f"values over {columns.LARGE:g}**",
        f"all below {columns.SMALL:g}**",
        f"stds {columns.APART:g}-fold apart",
        f"a mean or std over {columns.TARGETS:g}**",
        f"a right answer a probability of {judging.SURE:g}",
        f"an R² of {judging.EXPLAINED:g}",
        f"from {SHARES[in_steps.FEW]} of the rows on",
        f"too high: {SHARES[in_steps.MISSED]} of the steps",
        f"longer than {SHARES[in_steps.FAR]} of the weights",
        f"the best of {signal.SHUFFLES} shuffles",
        f"noted from {100 * labels.NOTED:g} % of the rows on",
        f"more than {SHARES[labels.HALF]} of what lies between",
    ],
)
def test_the_bars_are_those_of_the_code(words: str) -> None:
    assert words in WORDS


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (at_start.FALL, "Vanishing: 10⁻³"),
        (twins.ALIKE, "10⁻⁵ of the largest"),
        (twins.TINY, "shorter than 10⁻³"),
        (signs.GROWN, "grew 10⁶-fold"),
        (trials.SMALL, "2·10¹⁰ multiplications"),
    ],
)
def test_powers_of_ten(value: float, words: str) -> None:
    power = re.search(r"(\d·)?10([⁻⁰-⁹¹²³]+)", words)
    assert power is not None
    exponent = int(power[2].translate(str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")))
    assert value == pytest.approx(float((power[1] or "1")[0]) * 10.0**exponent)
    assert words in WORDS
