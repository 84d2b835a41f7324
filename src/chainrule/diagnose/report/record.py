"""A report as plain values: what `--json` writes and `to_dict` gives."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from ..finding import Curve, Evidence, Factor, Finding, Flow, Proof, Report, Score, Where

__all__ = ["plain", "plain_finding", "plain_value"]


def plain(report: Report) -> dict[str, Any]:
    """Dicts, lists, strings, numbers, true, false and None: what JSON has, and nothing else.

    The keys are those of the report's own fields but `setup` and `change`, and `healthy`. A finding
    has `problem`, `meaning`, `severity`, `where` (`layer`, `units`, `samples`, `columns`, `step`),
    `evidence` (`sentence`, `quantities`, `product`), `remedy` and `verified` (`helped`, `reached`,
    `text`, `before`, `after`, `curves`; None where nothing was run). `tried` is a list of `change`
    and `score`. NaN is None; infinities are the strings "inf" and "-inf".

    >>> from chainrule.diagnose.finding import Curve, Report, Score
    >>> score = Score("r2", float("-inf"), 0.0, float("nan"))
    >>> plain(Report([], "It learns.", score, Curve("", ())))["score"]
    {'metric': 'r2', 'value': '-inf', 'constant': 0.0, 'loss': None, 'error': ''}
    """
    return {
        "healthy": report.healthy,
        "reason": report.reason,
        "findings": [plain_finding(one) for one in report.findings],
        "score": _fields(report.score),
        "curve": _fields(report.curve),
        "start": [_fields(one) for one in report.start],
        "end": [_fields(one) for one in report.end],
        "advice": list(report.advice),
        "tried": [{"change": name, "score": _fields(score)} for name, score in report.tried],
        "facts": plain_value(report.facts),
        "starts": report.starts,
        "unfinished": report.unfinished,
    }


def plain_finding(finding: Finding) -> dict[str, Any]:
    """One finding with the keys that `plain` names."""
    return {
        "problem": finding.problem,
        "meaning": finding.meaning,
        "severity": finding.severity,
        "where": _fields(finding.where),
        "evidence": _evidence(finding.evidence),
        "remedy": finding.remedy,
        "verified": None if finding.verified is None else _proof(finding.verified),
    }


def _evidence(evidence: Evidence) -> dict[str, Any]:
    return {
        "sentence": evidence.sentence,
        "quantities": plain_value(evidence.quantities),
        "product": [_fields(one) for one in evidence.product],
    }


def _proof(proof: Proof) -> dict[str, Any]:
    return {
        "helped": bool(proof.helped),
        "reached": bool(proof.reached),
        "text": str(proof),
        "before": _fields(proof.before),
        "after": _fields(proof.after),
        "curves": [_fields(one) for one in proof.curves],
    }


def _fields(record: Where | Factor | Score | Curve | Flow) -> dict[str, Any]:
    """Every field of a record by its own name."""
    return {one.name: plain_value(getattr(record, one.name)) for one in fields(record)}


def plain_value(value: Any) -> Any:
    """Any measured quantity; what JSON has no form for, by its words."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        if math.isnan(value):
            return None
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {str(name): plain_value(one) for name, one in value.items()}
    if isinstance(value, list | tuple | range):
        return [plain_value(one) for one in value]
    return str(value)
