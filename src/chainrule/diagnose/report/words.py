"""What a report says in words and figures, on the terminal as on the page."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from numbers import Real
from typing import Any

import numpy as np

from ...plot.scale import short
from ..finding import Curve, Factor, Finding, Proof, Report, Score, Where

__all__ = [
    "blamed", "blames", "carried", "counted", "decades", "figure", "folded", "headline", "known",
    "log_of", "lost", "names", "percent", "place", "power", "said", "scored", "steep", "verdict",
    "verified",
]  # fmt: skip

SEVERAL, NAMES = 3, 6  # factors that are spoken of together, and how many of them by name
FACTORS = 14  # of a product that are written out
STEEP = 30.0  # between a curve's ends, from which on equal factors are shown as equal heights


# -- the verdict ---------------------------------------------------------------------------------


def headline(report: Report) -> str:
    """What was found, in a line that needs no second one."""
    if report.healthy:
        return "Nothing found so far." if report.unfinished else "Healthy."
    first = report.findings[0].problem
    rest = " first" if len(report.findings) > 1 else ""
    return f"{verdict(report)}: {first}{rest}."


def verdict(report: Report) -> str:
    """How many problems and notes there are.

    >>> from chainrule.diagnose.finding import Curve, Report, Score
    >>> verdict(Report([], "It learns.", Score("accuracy", 1.0, 0.5, 0.1), Curve("run", ())))
    'no problem'
    """
    problems = sum(one.severity == "problem" for one in report.findings)
    notes = len(report.findings) - problems
    found = counted(problems, "problem") if problems else "no problem"
    return f"{found}, {counted(notes, 'note')}" if notes else found


def counted(count: int, what: str) -> str:
    """How many there are: `1 unit`, `12 units`."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def place(where: Where) -> str:
    """The place of a fault, as a reader looks for it."""
    return f"layer {where}" if where.layer else str(where)


# -- figures -------------------------------------------------------------------------------------


def figure(value: float, digits: int = 3) -> str:
    """A number in few letters; what is not finite as NaN or ∞.

    >>> figure(2.134e-9), figure(float("-inf")), figure(float("nan"))
    ('2.13e-9', '−∞', 'NaN')
    """
    if math.isfinite(value):
        return short(value, digits)
    return "NaN" if math.isnan(value) else "∞" if value > 0 else "−∞"


def said(value: Any, most: int = 6) -> str:
    """A quantity of any kind in few letters.

    >>> said(0.125), said([1, 2.5]), said("SGD"), said(range(9))
    ('0.125', '1, 2.5', 'SGD', '0, 1, 2, 3, 4, 5 and 3 more')
    """
    if isinstance(value, bool | str | None):
        return str(value)
    if isinstance(value, Real):
        return figure(float(value), 4)
    if isinstance(value, np.ndarray):
        value = value.ravel().tolist()
    if isinstance(value, list | tuple | range):
        more = f" and {len(value) - most} more" if len(value) > most else ""
        return ", ".join(said(one) for one in value[:most]) + more
    return str(value)


def known(value: float, digits: int = 3) -> str:
    """A number, or – where there is none to speak of."""
    return "–" if math.isnan(value) else figure(value, digits)


def percent(share: float) -> str:
    """A share in percent, – where it is not known.

    >>> percent(0.125), percent(0.0004), percent(float("nan"))
    ('12 %', '0.04 %', '–')
    """
    if math.isnan(share):
        return "–"
    return f"{figure(100 * share, 2)} %" if share < 0.1 else f"{100 * share:.0f} %"


def power(log: float, digits: int = 2) -> str:
    """10 to that power as a number, also where it is too small or too large for a float.

    >>> power(-412.7), power(-2.0), power(float("-inf"))
    ('2e-413', '0.01', '0')
    """
    if log == -math.inf:
        return "0"
    if not math.isfinite(log) or abs(log) < 300:
        return figure(10.0**log if math.isfinite(log) else log, digits)
    exponent = math.floor(log)
    return f"{10 ** (log - exponent):.{digits}g}e{exponent}"


# -- the product ---------------------------------------------------------------------------------


def log_of(factors: Iterable[Factor]) -> float:
    """log₁₀ of the product, which itself may be too small for a float; −∞ where a factor is 0."""
    values = [abs(f.value) for f in factors]
    if any(math.isnan(v) for v in values) or (0 in values and math.inf in values):
        return math.nan
    return sum(decades(v) for v in values)


def decades(value: float) -> float:
    """log₁₀ of a size; −∞ for 0."""
    return math.log10(value) if value > 0 else -math.inf


def folded(factors: Sequence[Factor], most: int = FACTORS) -> list[tuple[Factor, ...]]:
    """The factors one by one, but runs of harmless ones together where there are too many.

    >>> made = [Factor(f"W{k}", 0.5, "gain", "0", guilty=k == 9) for k in range(20)]
    >>> [len(group) for group in folded(made, 8)]
    [1, 1, 7, 1, 8, 1, 1]
    """
    if len(factors) <= most:
        return [(f,) for f in factors]
    guilty = [k for k, f in enumerate(factors) if f.guilty][: most - 4]
    kept = {0, 1, len(factors) - 2, len(factors) - 1, *guilty}
    groups: list[list[Factor]] = []
    for k, factor in enumerate(factors):
        if k in kept or k - 1 in kept:
            groups.append([])
        groups[-1].append(factor)
    return [tuple(group) for group in groups]


def carried(factors: Sequence[Factor]) -> str:
    """What came of the product: δ at the first layer, by name and value."""
    return f"δ1 = {power(log_of(factors))}"


def blamed(factor: Factor) -> str:
    """What a factor did to δ, in decades.

    >>> blamed(Factor("relu′3", 1e-4, "slope", "2", share=0.5))
    'lost 4 decades, 50 % of all that was lost'
    >>> blamed(Factor("W2ᵀ", 0.0, "gain", "1"))
    'exactly 0: nothing flows past it'
    """
    if factor.value == 0:
        return "exactly 0: nothing flows past it"
    if not math.isfinite(factor.value):
        return "not finite: what comes after it is no number"
    log = decades(abs(factor.value))
    if factor.share > 0 and log < 0:
        part = f", {percent(factor.share)} of all that was lost"
        return f"lost {short(-log, 2)} decades{part}"
    return f"{'lost' if log < 0 else 'grew by'} {short(abs(log), 2)} decades"


def lost(factors: Sequence[Factor], most: int = 4) -> list[Factor]:
    """The factors to be named: the guilty ones, else those that lost most."""
    guilty = [f for f in factors if f.guilty and f.kind != "delta"]
    if guilty:
        return guilty[:most]
    return sorted((f for f in factors if f.share > 0), key=lambda f: -f.share)[:most]


def blames(factors: Sequence[Factor]) -> list[tuple[str, str]]:
    """The names of the factors that did it, and what they did: together, where it was several.

    >>> made = [Factor(f"tanh′{k}", 0.1, "slope", "0", 0.2, guilty=True) for k in (3, 2, 1)]
    >>> blames(made)
    [('tanh′3, tanh′2, tanh′1', 'lost 3 decades, 60 % of all that was lost')]
    """
    named = lost(factors)
    guilty = [f for f in factors if f.guilty and f.kind != "delta" and 0 < f.value < 1]
    if len(guilty) < SEVERAL or not all(f in guilty for f in named):
        return [(f.name, blamed(f)) for f in named]
    share = min(1.0, sum(f.share for f in guilty))
    whole = Factor("", 10.0 ** log_of(guilty), "slope", "", share)
    more = f" and {len(guilty) - NAMES} more" if len(guilty) > NAMES else ""
    return [(", ".join(f.name for f in guilty[:NAMES]) + more, blamed(whole))]


def claims(finding: Finding) -> bool:
    """Whether there is a remedy to speak of: what follows from another fault has none."""
    return finding.severity == "problem" or bool(finding.remedy or finding.verified)


def verified(proof: Proof | None) -> str:
    """What the run with the remedy showed.

    >>> verified(None)
    'Not verified: nothing was run.'
    """
    if proof is None:
        return "Not verified: nothing was run."
    if not proof.helped:
        return f"Tried, did not help: {proof.after} with it, {proof.before} without."
    more = "" if proof.reached else "; another change went further"
    return f"Verified: {proof} (same seed, order and budget){more}"


def names(curves: Sequence[Curve]) -> list[str]:
    """The curves' names; two without names are before and after.

    >>> names([Curve("as it is", ()), Curve("", ())])
    ['as it is', 'after']
    """
    usual = ("before", "after") if len(curves) == 2 else ("loss",) * len(curves)
    return [curve.name or name for curve, name in zip(curves, usual, strict=True)]


def steep(curves: Iterable[Curve]) -> bool:
    """Whether losses are all positive and so far apart that only a log scale shows them."""
    values = [v for curve in curves for v in curve.loss if math.isfinite(v)]
    return bool(values) and min(values) > 0 and max(values) / min(values) >= STEEP


def scored(score: Score) -> str:
    """The score beside that of the best constant answer, and the loss.

    >>> scored(Score("accuracy", 0.9, 0.5, 0.25))
    'accuracy 0.9 where the best constant answer has 0.5, loss 0.25'
    """
    parts = [str(score)]
    if score.error:
        parts[0] += f" ({score.error.strip().rstrip('.')})"
    if math.isfinite(score.constant):
        parts[0] += f" where the best constant answer has {figure(score.constant)}"
    if math.isfinite(score.loss):
        parts.append(f"loss {figure(score.loss)}")
    return ", ".join(parts)
