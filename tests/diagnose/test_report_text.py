"""A report in words: golden text, nothing wider than a terminal, figures that are the report's."""

from __future__ import annotations

import math
import re

import pytest

import golden
from chainrule.diagnose.finding import Curve, Evidence, Factor, Report, Where
from chainrule.diagnose.report import words
from chainrule.diagnose.report.text import text
from chainrule.draw.face import letters
from diagnose.reports import (
    EXAMPLES,
    NAN,
    dead,
    deep,
    exploding,
    finding,
    flow,
    healthy,
    helped,
    hostile,
    many,
    product,
    score,
    unfinished,
    vanishing,
)
from draw.test_svg import HOSTILE


@pytest.mark.parametrize(
    "name", ["healthy", "dead", "vanishing", "exploding", "unfinished", "deep"]
)
def test_golden(name: str) -> None:
    golden.check(f"diagnose_{name}.txt", str(EXAMPLES[name]()) + "\n")


@pytest.mark.parametrize("name", EXAMPLES)
def test_no_line_is_wider_than_a_terminal(name: str) -> None:
    assert max(letters(line) for line in text(EXAMPLES[name]()).split("\n")) <= 80


def test_a_healthy_run_is_told_in_a_sentence_with_its_advice() -> None:
    parts = text(healthy()).split("\n\n")
    assert len(parts) == 2
    assert parts[0].startswith("Healthy. It reaches")
    assert parts[1].startswith("Advice:\n- relu")


def test_the_verdict_counts_problems_and_notes() -> None:
    assert text(many()).startswith("3 problems, 9 notes: data_fault first.")
    assert words.verdict(vanishing()) == "1 problem, 1 note"
    notes = Report([finding(severity="note")] * 2, "", score(0.9), Curve("", ()))
    assert text(notes).startswith("no problem, 2 notes")


def test_at_most_ten_findings_are_told_and_the_rest_is_counted() -> None:
    told = text(many())
    assert re.findall(r"(?m)^(\d+)\. ", told) == [str(k) for k in range(1, 11)]
    assert "and 2 findings more" in told
    assert "more" not in text(many(10)).partition("Tried")[0]


def test_what_was_tried_is_shortened_and_the_rest_is_counted() -> None:
    told = text(many()).partition("Tried,")[2]
    assert re.findall(r"change (\d+)", told) == [str(k) for k in range(8)]
    assert "and 12 more" in told


def test_the_product_is_the_findings_own_and_multiplies_to_the_whole() -> None:
    factors = vanishing().findings[0].evidence.product
    told = " ".join(text(vanishing()).split())
    terms = re.search(r"δ1 = (\S+) = (.*?) sigmoid′3: lost", told)
    assert terms is not None
    values = [float(v) for v in re.findall(r"(?:^|× )(\S+) \(", terms[2])]
    assert values == [pytest.approx(f.value, rel=0.05) for f in factors]
    assert math.prod(values) == pytest.approx(float(terms[1]), rel=0.05)
    assert terms[2].count("◄") == 1
    assert "(sigmoid′3) ◄" in terms[2]


def test_shares_and_decades_are_those_of_the_factors() -> None:
    blamed = words.lost(vanishing().findings[0].evidence.product)
    assert [f.name for f in blamed] == ["sigmoid′3"]
    assert words.blamed(blamed[0]).startswith("lost 3.9 decades, 41 %")
    assert words.blamed(Factor("W2ᵀ", 1e6, "gain", "2", guilty=True)) == "grew by 6 decades"
    assert words.blamed(Factor("W2ᵀ", NAN, "gain", "2")).startswith("not finite")
    assert [f.name for f in words.lost(product(dead().start))] == ["relu′1", "relu′2", "W3ᵀ"]


def test_several_guilty_factors_are_spoken_of_together() -> None:
    made = [
        Factor(f.name, f.value, f.kind, f.layer, f.share, guilty=f.kind == "slope")
        for f in vanishing().findings[0].evidence.product
    ]
    lost = -sum(math.log10(f.value) for f in made if f.guilty)
    share = sum(f.share for f in made if f.guilty)
    ((names, said),) = words.blames(made)
    assert names == "sigmoid′5, sigmoid′4, sigmoid′3, sigmoid′2, sigmoid′1"
    assert said == f"lost {lost:.2g} decades, {100 * share:.0f} % of all that was lost"
    report = Report(
        [finding(evidence=Evidence("", {}, tuple(made)))], "", score(0.5), Curve("", ())
    )
    assert f"sigmoid′1: {said}" in " ".join(text(report).split())


def test_a_change_is_told_whole_beside_its_score() -> None:
    name = "ReLU for Sigmoid in the hidden layers, and weights drawn anew after He, biases 0"
    report = Report([finding()], "", score(0.5), Curve("", ()), tried=((name, score(0.96)),))
    assert f"accuracy 0.96 {name}" in " ".join(text(report).split())


def test_a_product_too_small_for_a_float_has_its_exponent() -> None:
    factors = deep().findings[0].evidence.product
    assert math.prod(f.value for f in factors) == 0.0
    log = sum(math.log10(f.value) for f in factors)
    assert words.log_of(factors) == pytest.approx(log)
    mantissa, _, exponent = words.power(log).partition("e")
    assert math.log10(float(mantissa)) + int(exponent) == pytest.approx(log, abs=0.05)


def test_folding_keeps_the_guilty_and_loses_no_factor() -> None:
    factors = deep().findings[0].evidence.product
    groups = words.folded(factors)
    assert [f for group in groups for f in group] == list(factors)
    assert len(groups) <= 14
    assert [g for g in groups if any(f.guilty for f in g)] == [(factors[60],)]


def test_zero_and_infinite_factors_are_said_as_they_are() -> None:
    assert "δ1 = 0 = 0.3 (δ3)" in text(dead())
    assert "exactly 0: nothing flows past it" in text(dead())
    assert "δ1 = NaN = 1000 (δ3) × ∞ (W3ᵀ) ◄ × NaN (relu′2)" in text(exploding())
    assert words.power(words.log_of([Factor("a", math.inf, "gain", "")])) == "∞"
    assert words.power(words.log_of([Factor("a", k, "gain", "") for k in (0.0, math.inf)])) == "NaN"


def test_what_was_verified_is_told_as_it_went() -> None:
    assert "Verified: accuracy 0.5 → 0.98 (same seed, order and budget)\n" in text(dead())
    assert "another change went further" in " ".join(text(vanishing()).split())
    assert "Tried, did not help: accuracy 0.51 with it, accuracy 0.5 without." in text(vanishing())
    assert "Not verified: nothing was run." in text(unfinished())


def test_the_remedy_can_be_cut_out_and_run() -> None:
    found = re.search(r"Remedy:\n((?:       .*\n)+)", text(vanishing()))
    assert found is not None
    code = "\n".join(line[7:] for line in found[1].splitlines())
    assert code == vanishing().findings[0].remedy
    compile(code, "remedy", "exec")


def test_before_and_after_are_drawn_on_one_scale() -> None:
    report = Report([finding(verified=helped())], "", score(0.5), Curve("", ()))
    before, after = (line.split()[-5] for line in text(report).split("\n") if "  loss " in line)
    assert set(before) == {"█"}
    assert (after[0], after[-1]) == ("█", "▁")


def test_the_flow_is_told_from_the_output_down_with_bars_of_log_delta() -> None:
    table = text(vanishing()).partition("Backward flow before")[2].split("\n")[1:]
    rows = [line.split() for line in table[1:7]]
    assert [row[0] for row in rows] == ["10", "8", "6", "4", "2", "0"]
    assert [row[2] for row in rows] == [words.figure(f.delta, 2) for f in vanishing().start[::-1]]
    lengths = [len(row[-1]) for row in rows]
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[0] == 8


def test_an_unfinished_report_says_so() -> None:
    assert text(unfinished()).split("\n\n")[-1].startswith("Unfinished: stopped by Ctrl-C")
    report = unfinished()
    report.findings.clear()
    assert text(report).startswith("Nothing found so far.")


def test_nothing_at_all_can_be_told() -> None:
    empty = finding(evidence=Evidence(""), where=Where(), remedy="")
    flows = (flow("0", "", NAN, edges=(), counts=()),)
    report = Report([empty], "", score(NAN, NAN), Curve("", (NAN, math.inf)), flows)
    assert text(report).startswith("1 problem: dead_relu.")


@pytest.mark.parametrize("name", [*HOSTILE, "数" * 90, "\x1b[31m\r\n"], ids=range(len(HOSTILE) + 2))
def test_a_hostile_name_neither_orders_the_terminal_about_nor_breaks_a_line(name: str) -> None:
    told = text(hostile(name))
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", told)
    code = re.compile(r"       \S")
    wide = [line for line in told.split("\n") if letters(line) > 80 and not code.match(line)]
    assert wide == []
