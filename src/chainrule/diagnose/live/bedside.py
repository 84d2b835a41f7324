"""What a doctor saw, for a run's report and its folder: sentences, curves, plain values."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ... import plot
from ...plot import Chart
from ...plot.scale import short
from ..finding import Curve, Finding, Flow, Report
from ..flow import Reading
from ..report.record import plain_finding, plain_value
from ..report.words import counted, place
from ..setup import Setup
from .sample import score

if TYPE_CHECKING:
    from .doctor import Doctor

__all__ = ["plain", "report_of", "section_of"]

UNPROVED = "watched, not proved: cr.diagnose runs the remedies"
TITLE = "What the doctor saw"
LAYERS = 8  # curves in one chart; of more layers some are left out, and it is said


def report_of(
    doctor: Doctor,
    findings: list[Finding],
    setup: Setup,
    start: tuple[Flow, ...],
    reading: Reading,
) -> Report:
    """The findings with what was measured on the probe."""
    facts = {
        "probe rows": len(setup.X),
        "looks": len(doctor.steps),
        "steps": doctor.steps[-1],
        "epochs": doctor.epochs[-1],
        "task": setup.task.kind,
        "loss of the best constant answer": doctor.constant_loss,
    }
    if doctor.stopped:
        facts["stopped"] = doctor.stopped
    return Report(
        findings,
        _reason(doctor, findings),
        score(setup, reading),
        Curve("the probe", tuple(doctor.loss)),
        start,
        reading.flows,
        facts=facts,
        unfinished=UNPROVED,
        setup=setup,
    )


def _reason(doctor: Doctor, findings: list[Finding]) -> str:
    ends = f"{short(doctor.loss[0], 3)} to {short(doctor.loss[-1], 3)}"
    told = f"The loss on the probe went from {ends} in {counted(doctor.steps[-1], 'step')}"
    if not findings:
        looks = counted(len(doctor.steps), "look")
        return f"{told}; at {looks} nothing was seen that held it up."
    return f"{told}; a constant answer has {short(doctor.constant_loss, 3)}."


def section_of(doctor: Doctor) -> tuple[str, list[str], list[tuple[str, Chart, str]]]:
    """Title, sentences and charts."""
    return TITLE, list(_sentences(doctor)), list(_charts(doctor))


def _sentences(doctor: Doctor) -> Iterator[str]:
    if not doctor.steps:
        yield "The run ended before the first look."
        return
    report = doctor.report()
    yield report.reason
    if doctor.stopped:
        yield f"The run was stopped: {doctor.stopped}."
    for finding in report.findings:
        where = f" ({place(finding.where)})" if str(finding.where) else ""
        yield f"{finding.problem}{where}, a suspicion: {finding.evidence.sentence}"
    over = list(dict.fromkeys(problem for _, problem, said in doctor.events if said == "over"))
    for problem in over:
        if problem not in [finding.problem for finding in report.findings]:
            steps = [step for step, name, said in doctor.events if name == problem]
            yield f"{problem} was suspected from step {steps[0]} on and is over since {steps[-1]}."
    if report.findings:
        yield "Nothing was tried: chainrule diagnose runs the remedies and says which one helps."


def _charts(doctor: Doctor) -> Iterator[tuple[str, Chart, str]]:
    if len(doctor.steps) < 2:
        return
    series: dict[str, Any] = {"the probe": (doctor.steps, doctor.loss)}
    reading = f"The loss on the probe, at {len(doctor.steps)} looks."
    if math.isfinite(doctor.constant_loss):
        ends = [doctor.steps[0], doctor.steps[-1]]
        series["a constant answer"] = (ends, [doctor.constant_loss] * 2)
        reading += f" The best answer that does not look at X has {short(doctor.constant_loss, 3)}."
    yield "doctor_loss", plot.lines(series, title="Loss on the probe", x_label="step"), reading
    told = {
        "delta": ("δ by layer", "RMS(∂L/∂net) of each layer; far apart, some layers learn alone."),
        "update": ("Update by layer", "Net movement of the weights a step, as a share of them."),
        "dead": ("Dead units", "The share of units that answer no row of the probe."),
        "saturated": ("Saturated units", "The share of (row, unit) pairs with f′ near 0."),
    }
    for name, (title, reading) in told.items():
        lines = doctor.curves[name]
        if not _speaks(lines, least=0.0):
            continue
        yield f"doctor_{name}", *_chart(doctor, lines, title, reading, name in ("delta", "update"))


def _chart(
    doctor: Doctor, lines: Mapping[str, list[float]], title: str, reading: str, log: bool
) -> tuple[Chart, str]:
    names = list(lines)
    if len(names) > LAYERS:
        places = np.unique(np.linspace(0, len(names) - 1, LAYERS).round().astype(int))
        reading += f" {len(names) - len(places)} of {len(names)} layers are not drawn."
        names = [names[k] for k in places]
    series = {}
    for name in names:
        known = [
            (step, value)
            for step, value in zip(doctor.steps, lines[name], strict=False)
            if math.isfinite(value) and (value > 0 or not log)
        ]
        series[name] = ([step for step, _ in known], [value for _, value in known])
    return plot.lines(series, title=title, x_label="step", log_y=log), reading


def _speaks(lines: Mapping[str, list[float]], least: float) -> bool:
    """Whether a curve says anything: that nobody is dead needs no chart."""
    return any(value > least for line in lines.values() for value in line)


def plain(doctor: Doctor) -> dict[str, Any]:
    """What JSON has: NaN is None, infinities are words."""
    findings = doctor.findings
    return {
        "healthy": not findings,
        "findings": [plain_finding(one) for one in findings],
        "stopped": doctor.stopped,
        "events": [{"step": s, "problem": p, "said": said} for s, p, said in doctor.events],
        "first_seen": dict(doctor.first),
        "epochs": list(doctor.epochs),
        "steps": list(doctor.steps),
        "loss": plain_value(doctor.loss),
        "constant_loss": plain_value(doctor.constant_loss),
        "curves": plain_value(doctor.curves),
    }
