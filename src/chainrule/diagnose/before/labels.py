"""Faults of the data: cells that are no numbers, labels that are none, contradictions."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...errors import ChainruleError, quoted
from ...plot.scale import short
from ...train import inputs
from ..finding import Evidence, Where
from ..pasted import pasted
from ..setup import Change, Setup, Suspect
from .columns import Columns, column_facts
from .leaves import few_rows, forward
from .outputs import widened

__all__ = ["conflicts", "data_suspects", "refused"]

Array = Any
SHOWN = 100  # places that a finding names

# Labels that differ for equal X cannot be learnt. Where that takes away more than half of what lies
# between the best constant answer and no error, the data are at fault: no network can be more than
# half right. Above, it is noise, which sound data have too: a note, from 5 % of the rows on.
HALF = 0.5
NOTED = 0.05


def data_suspects(setup: Setup, facts: Columns | None = None) -> list[Suspect]:
    """data_fault: no numbers, no variety, labels that are none, or that contradict each other."""
    X, y = np.asarray(setup.X), np.asarray(setup.y)
    facts = facts or column_facts(X)
    found = [*_cells(X, y, facts), *_targets(setup, y), *_alike(X, facts)]
    if any(s.severity == "problem" for s in found) or len(X) != len(y):
        return found
    return [*found, *_contradictions(setup, facts)]


def refused(setup: Setup, facts: Columns | None = None) -> list[Suspect]:
    """data_fault in the words of `fit`, where it would not begin with these data.

    Of columns that are known to be finite a few rows are shown to it.
    """
    X = setup.X
    try:
        known = facts is not None and not facts.broken and _fit_into(setup.model.dtype, facts)
        inputs.features(setup.model, X[:4] if known else X)
        inputs.targets(setup.model, setup.loss, X, setup.y)
    except (ChainruleError, ValueError, TypeError) as error:
        return [_fault(f"fit refuses the data: {error}")]
    return []


def _fault(
    sentence: str,
    *changes: Change,
    samples: Any = (),
    columns: Any = (),
    severity: str = "problem",
    **quantities: Any,
) -> Suspect:
    where = Where(
        samples=tuple(int(k) for k in samples[:SHOWN]),
        columns=tuple(int(k) for k in columns[:SHOWN]),
    )
    return Suspect("data_fault", where, Evidence(sentence, quantities), changes, severity)


def _fit_into(dtype: Any, facts: Columns) -> bool:
    """Whether no cell is too large for the parameters' dtype."""
    most = max(float(np.abs(facts.low).max()), float(np.abs(facts.high).max()))
    return dtype is None or most < float(np.finfo(dtype).max)


# -- cells -----------------------------------------------------------------------------------------


def _cells(X: Array, y: Array, facts: Columns) -> list[Suspect]:
    """NaN and infinities; the rows that hold them are left out."""
    rows = {row for row, _ in facts.broken}
    in_y: set[int] = set()
    if y.dtype.kind == "f" and y.ndim and not np.isfinite(y).all():
        in_y = {int(k) for k in np.flatnonzero(~np.isfinite(y.reshape(len(y), -1)).all(1))}
    bad = sorted(rows | in_y)
    if not bad:
        return []
    columns = sorted({column for _, column in facts.broken})
    parts = []
    if rows:
        row, column = facts.broken[0]
        value = X.reshape(len(X), -1)[row, column]
        parts.append(f"X holds {_word(value)} in {len(facts.broken)} cells, the first in row {row},"
                     f" column {column}")  # fmt: skip
    if in_y:
        row = min(in_y)
        value = y.reshape(len(y), -1)[row]
        parts.append(f"y holds {_word(value[~np.isfinite(value)][0])} in {len(in_y)} rows, first"
                     f" in row {row}")  # fmt: skip
    changes = []
    if len(X) == len(y) and len(X) - len(bad) >= 2:
        code = _kept(X, bool(rows), "X") + _kept(y, bool(in_y), "y")
        keep = f"keep = {' & '.join(code)}\nX, y = X[keep], y[keep]"
        changes.append(pasted(f"without the {len(bad)} rows that hold them", keep))
    return [
        _fault(
            f"{'; '.join(parts)}: fit refuses them, for every sum that they enter, and every weight"
            " after a step, would be NaN",
            *changes, samples=bad, columns=columns, cells=len(facts.broken) + len(in_y),
            rows=len(bad), share=len(bad) / len(X),
        )
    ]  # fmt: skip


def _word(value: Any) -> str:
    return "NaN" if np.isnan(value) else "an infinity"


def _kept(array: Array, broken: bool, name: str) -> list[str]:
    if not broken:
        return []
    if array.ndim == 1:
        return [f"np.isfinite({name})"]
    axes = "1" if array.ndim == 2 else str(tuple(range(1, array.ndim)))
    return [f"np.isfinite({name}).all(axis={axes})"]


# -- targets ---------------------------------------------------------------------------------------


def _targets(setup: Setup, y: Array) -> list[Suspect]:
    if y.dtype.kind not in "fiub":
        return _words(setup, y)
    rows = y.reshape(len(y), -1) if y.ndim else y.reshape(1, 1)
    finite = rows[np.isfinite(rows).all(1)]
    if len(finite) and (finite == finite[0]).all():
        value = short(float(finite[0, 0])) if finite.shape[1] == 1 else "the same"
        return [_fault(f"y is {value} in every row: there is nothing to tell apart", value=value)]
    if getattr(setup.loss, "takes_labels", False) and rows.shape[1] == 1:
        return _out_of_range(setup, rows[:, 0])
    return []


def _words(setup: Setup, y: Array) -> list[Suspect]:
    """Labels that are text, or otherwise no numbers."""
    first = quoted(y.flat[0].item() if hasattr(y.flat[0], "item") else y.flat[0])
    try:
        distinct = len(np.unique(y))
    except TypeError:
        distinct = 0
    changes = []
    if distinct and getattr(setup.loss, "takes_labels", False):
        relabel = "y = np.unique(y, return_inverse=True)[1]"
        changes.append(pasted(f"the {distinct} labels numbered from 0", relabel))
    told = refused(setup)
    why = told[0].evidence.sentence if told else f"y holds {first}, which is no number"
    return [_fault(why, *changes, first=first, distinct=distinct)]


def _out_of_range(setup: Setup, labels: Array) -> list[Suspect]:
    """Labels that are no class of the output, counted from 0."""
    outputs = _outputs(setup)
    wrong = ~((labels >= 0) & (labels < outputs) & (labels == np.floor(labels)))
    wrong &= np.isfinite(labels)
    if outputs < 2 or not wrong.any():  # over one output a softmax is at fault, not the labels
        return []
    row = int(np.argmax(wrong))
    known = np.unique(labels[np.isfinite(labels)])
    whole = bool((known == np.floor(known)).all())
    changes = []
    if whole and known[0] == 1 and known[-1] <= outputs:
        changes.append(pasted("labels counted from 0", "y = y - 1"))
    elif len(known) <= outputs:
        relabel = "y = np.unique(y, return_inverse=True)[1].reshape(-1)"
        changes.append(pasted(f"the {len(known)} labels numbered from 0", relabel))
    elif whole and known[0] >= 0:
        changes += [pasted(*edit) for edit in widened(setup, int(known[-1]) + 1)]
    return [
        _fault(
            f"label {short(float(labels[row]))} at row {row} is none of the {outputs} classes"
            f" 0 … {outputs - 1} of the output; labels go from {short(float(known[0]))} to"
            f" {short(float(known[-1]))}",
            *changes, samples=np.flatnonzero(wrong), outputs=outputs, low=float(known[0]),
            high=float(known[-1]), share=float(np.mean(wrong)),
        )
    ]  # fmt: skip


def _outputs(setup: Setup) -> int:
    try:
        return int(np.shape(forward(setup.model, few_rows(setup.X, 2)))[-1])
    except Exception:  # what is wrong with the model is another's finding
        return 0


# -- inputs that say nothing, or contradict --------------------------------------------------------


def _alike(X: Array, facts: Columns) -> list[Suspect]:
    if len(X) < 2 or len(facts.constant) < len(facts.std):
        return []
    return [
        _fault(
            f"all {len(facts.std)} columns of X are constant: the rows are alike, so one answer is"
            " given to all of them",
            columns=facts.constant, rows=len(X),
        )
    ]  # fmt: skip


def conflicts(X: Array, y: Array, task: Any) -> tuple[Array, float]:
    """The rows whose X stands elsewhere with another y; and the best score that X leaves possible.

    >>> from chainrule.diagnose.task import Task
    >>> X, y = np.array([[0.0], [0.0], [1.0]]), np.array([0, 1, 1])
    >>> rows, best = conflicts(X, y, Task("classes"))
    >>> rows.tolist(), round(best, 3)
    ([0, 1], 0.667)
    """
    group = _groups(X)
    n, truth = len(group), np.asarray(task.truth(y)).reshape(len(y), -1)
    groups = int(group.max()) + 1
    if groups == n:
        return np.array([], int), 1.0
    first = np.full(groups, -1)
    first[group[::-1]] = np.arange(n)[::-1]
    differs = (truth != truth[first[group]]).any(1)
    torn = np.zeros(groups, bool)
    torn[group[differs]] = True
    counts = np.bincount(group)
    if task.kind == "classes":
        _, names = np.unique(truth[:, 0], return_inverse=True)
        pairs, times = np.unique(group * (names.max() + 1) + names, return_counts=True)
        most = np.zeros(groups, int)
        np.maximum.at(most, pairs // (names.max() + 1), times)
        best = float(most.sum() / n)
    else:
        means = [np.bincount(group, column) / counts for column in truth.T.astype(np.float64)]
        inside = np.stack(means, 1)
        if task.kind == "regression":
            spread = float(np.square(truth - truth.mean(0)).sum())
            best = 1 - float(np.square(truth - inside[group]).sum()) / spread if spread else 1.0
        else:
            best = float((np.maximum(inside, 1 - inside).mean(1) * counts).sum() / n)
    return np.flatnonzero(torn[group]), best


def _groups(X: Array, columns: int = 16) -> Array:
    """A number for each row, the same for equal rows: by a mix of some columns, then by all."""
    rows = np.asarray(X).reshape(len(X), -1)
    some = rows[:: max(1, len(rows) // 500)].astype(np.float64)
    mix = np.zeros(len(rows))
    for column in np.argsort(-some.std(0))[:columns]:
        with np.errstate(all="ignore"):
            mix = 0.618 * mix + rows[:, column]  # elementwise: equal rows give equal bits
    number = np.unique(mix, return_inverse=True)[1].reshape(-1)
    shared = np.flatnonzero(np.bincount(number)[number] > 1)
    known: dict[bytes, int] = {}
    for k in shared:
        row = rows[k] + 0.0 if rows.dtype.kind == "f" else rows[k]  # −0 is 0
        number[k] = len(rows) + known.setdefault(row.tobytes(), len(known))
    return np.unique(number, return_inverse=True)[1].reshape(-1)


def _contradictions(setup: Setup, facts: Columns) -> list[Suspect]:
    X, y, task = np.asarray(setup.X), np.asarray(setup.y), setup.task
    if y.dtype.kind not in "fiub" or facts.broken or len(X) < 4:
        return []
    rows, best = conflicts(X, y, task)
    constant = task.constant(y)
    skill = (best - constant) / (1 - constant) if constant < 1 else 1.0
    share = len(rows) / len(X)
    if skill >= HALF and (share < NOTED or skill > 1 - NOTED):
        return []
    changes = []
    if len(X) - len(rows) >= max(2, len(X) // 10):
        table = "X" if X.ndim == 2 else "X.reshape(len(X), -1)"
        code = (
            f"group = np.unique({table}, axis=0, return_inverse=True)[1].reshape(-1)\n"
            "answers = np.unique(np.column_stack([group, y.reshape(len(y), -1)]), axis=0)\n"
            "keep = np.bincount(answers[:, 0].astype(int))[group] == 1\n"
            "X, y = X[keep], y[keep]"
        )
        changes.append(pasted(f"without the {len(rows)} rows in conflict", code))
    name = {"r2": "R²"}.get(task.metric, task.metric)
    return [
        _fault(
            f"{share:.0%} of the rows stand elsewhere in X with another y: from X alone no network"
            f" can reach an {name} above {short(best)}"
            f" ({short(constant)} without X)",
            *changes, samples=rows, severity="problem" if skill < HALF else "note",
            share=share, rows=len(rows), best=best, constant=constant,
        )
    ]  # fmt: skip
