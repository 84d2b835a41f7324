"""Faults that can be seen before training: the circuit, the data and the weights as they start."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np

from ...circuit import Tensor
from ...errors import ChainruleError, DataError, ShapeError, quoted
from ...nn import losses, optim
from ...nn.module import Module
from ...train import inputs
from ..finding import Finding, rank
from ..report.words import place
from ..setup import Setup, Suspect
from ..task import task_of
from .columns import Columns, column_facts, column_suspects
from .labels import data_suspects, refused
from .leaves import few_rows, forward
from .outputs import REFUSALS, output_suspects
from .twins import twin_suspects, unreached

__all__ = ["Check", "check", "static_suspects"]

Array = Any

RARE = 0.05  # a class of fewer rows: an accuracy of 95 % says nothing about it


@dataclass(frozen=True, eq=False)
class Check(Sequence[Finding]):
    """What `check` found: a sequence of findings, cause first; nothing was run, none is verified.

    `healthy` where there is none; `notes` are sentences on what is no fault by itself.
    """

    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()

    @property
    def healthy(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    @overload
    def __getitem__(self, index: int) -> Finding: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Finding]: ...
    def __getitem__(self, index: int | slice) -> Finding | Sequence[Finding]:
        return self.findings[index]

    def __len__(self) -> int:
        return len(self.findings)

    def __str__(self) -> str:
        parts = [_told(k, finding) for k, finding in enumerate(self.findings, 1)]
        if not parts:
            parts = ["nothing is wrong that can be seen before training"]
        return "\n".join([*parts, *[f"note: {sentence}" for sentence in self.notes]])

    def __repr__(self) -> str:
        return str(self)


def _told(number: int, finding: Finding) -> str:
    where = f" ({place(finding.where)})" if str(finding.where) else ""
    word = ", a note" if finding.severity == "note" else ""
    lines = [f"{number}. {finding.problem}{word}{where}: {finding.evidence.sentence}"]
    if finding.remedy:
        lines += ["   remedy:", *[f"       {line}" for line in finding.remedy.splitlines()]]
    return "\n".join(lines)


def check(model: Module, loss: Callable[..., Any] | str, X: Array, y: Array) -> Check:
    """Whether model, loss and data are made for each other, before a step is taken.

    The circuit of the output and that of the loss are walked, so names and views hide nothing: an
    output that the loss or the targets do not fit, columns off-centre or off-scale, cells and
    labels that are none, units that start as twins, parameters that no gradient reaches.

    Raises `TypeError` for what is no model or loss, `DataError` for X and y that are no table and
    its targets, `ShapeError` where the model or the loss cannot take them.

    >>> import chainrule as cr
    >>> X = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    >>> model = cr.nn.Sequential(cr.nn.Linear(2, 1), cr.nn.Sigmoid(), seed=0)
    >>> found = check(model, "logistic", X, np.array([[0.0], [1.0], [1.0], [0.0]]))
    >>> found[0].problem, found.healthy
    ('loss_output_mismatch', False)
    >>> print(found[0].remedy)
    parts = [*model]
    del parts[1]
    model = nn.Sequential(*parts)
    """
    if not isinstance(model, Module):
        raise TypeError(f"check needs a model made of chainrule.nn, not {quoted(model)}")
    function = losses.get(loss)
    X, y = _entered(X, "X"), _entered(y, "y")
    _demand_rows(model, X, y)
    out = _demand_output(model, X)
    width = np.shape(out)[-1] if np.ndim(out) > 1 else 1
    setup = Setup(
        model, X, y, function, optim.SGD(), 1, None, 0, task_of(function, y, int(width))
    )  # fmt: skip
    facts = column_facts(X)
    findings = [_finding(suspect) for suspect in static_suspects(setup, facts)]
    return Check(tuple(findings), tuple(_notes(setup, facts, out)))


def static_suspects(setup: Setup, facts: Columns | None = None) -> list[Suspect]:
    """All that is suspect before the first step, cause first; notes last. It never raises.

    What cannot be read is left to what `fit` says of it.
    """
    try:
        facts = facts or column_facts(np.asarray(setup.X))
    except REFUSALS:
        return _tried(lambda: refused(setup))
    found: list[Suspect] = []
    for reading in (
        lambda: data_suspects(setup, facts),
        lambda: output_suspects(setup),
        lambda: twin_suspects(setup),
        lambda: column_suspects(setup, facts),
    ):
        found += _tried(reading)
    if not any(s.problem in ("data_fault", "loss_output_mismatch") for s in found):
        found += _tried(lambda: refused(setup, facts))
    return sorted(found, key=lambda s: (s.severity == "note", rank(s.problem)))


def _tried(reading: Callable[[], list[Suspect]]) -> list[Suspect]:
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            return reading()
    except REFUSALS:
        return []


def _finding(suspect: Suspect) -> Finding:
    remedy = suspect.changes[0].code if suspect.changes else ""
    return Finding(suspect.problem, suspect.severity, suspect.where, suspect.evidence, remedy)


# -- the door --------------------------------------------------------------------------------------


def _entered(x: Any, name: str) -> Array:
    if isinstance(x, Tensor):
        return np.asarray(x.value)
    if hasattr(x, "toarray"):
        raise DataError(f"{name} is sparse; convert it with {name}.toarray()")
    try:
        return np.asarray(x)
    except ValueError as error:
        raise DataError(f"{name} is no array: {error}") from None


def _demand_rows(model: Module, X: Array, y: Array) -> None:
    """X as `fit` takes it but for single cells, and one target a row."""
    if X.dtype.kind not in "fiub" or X.ndim < 2 or not X.size:
        inputs.features(model, X)  # raises, in the words of `fit`
    if X.ndim < 2:
        raise DataError(f"X has shape {X.shape}, expected (rows, columns)")
    if not y.ndim or len(y) != len(X):
        found = f"{len(y)} rows" if y.ndim else "no rows"
        raise DataError(f"X has {len(X)} rows, y has {found}; give one target for each row")


def _demand_output(model: Module, X: Array) -> Any:
    try:
        return forward(model, few_rows(X, 4))
    except ChainruleError:
        raise
    except (ValueError, IndexError) as error:
        raise ShapeError(f"the model cannot take X of shape {X.shape}: {error}") from error


# -- notes -----------------------------------------------------------------------------------------


def _notes(setup: Setup, facts: Columns, out: Any) -> list[str]:
    """What has no name among the problems, but is worth a sentence."""
    said: list[str] = []
    if 0 < len(facts.constant) < len(facts.std):
        columns = ", ".join(str(k) for k in facts.constant[:6])
        more = f" and {len(facts.constant) - 6} more" if len(facts.constant) > 6 else ""
        verb = "s" if len(facts.constant) == 1 else ""
        names = "column" if verb else "columns"
        said.append(f"{names} {columns}{more} of X hold{verb} the same in every row; leave out")
    if missed := _out_of_reach(setup, out):
        said.append(f"no gradient reaches {', '.join(missed)}: the loss does not depend on it")
    return said + _imbalance(setup)


def _out_of_reach(setup: Setup, out: Any) -> list[str]:
    if not isinstance(out, Tensor):
        return [name for name, _ in setup.model.named_parameters()]
    y = setup.y[np.arange(4) % len(setup.y)]
    try:
        error = setup.loss(out, y)
    except REFUSALS:
        error = out
    return unreached(setup.model, error if isinstance(error, Tensor) else out)


def _imbalance(setup: Setup) -> list[str]:
    y = np.asarray(setup.y)
    if setup.task.kind not in ("classes", "binary") or y.dtype.kind not in "fiub":
        return []
    names, counts = np.unique(setup.task.truth(y), return_counts=True)
    if len(names) < 2 or counts.min() >= RARE * len(y):
        return []
    rare, most = names[counts.argmin()], counts.max() / len(y)
    return [
        f"class {rare} has {counts.min()} of {len(y)} rows; always answering class"
        f" {names[counts.argmax()]} scores {most:.1%}"
    ]
