"""Columns of X, and targets, as a first layer meets them: off-centre, off-scale, or constant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...circuit import Tensor
from ...circuit.order import circuit_of
from ...plot.scale import short
from ..finding import Evidence, Where
from ..pasted import pasted
from ..setup import Change, Setup, Suspect
from .judging import loss_name
from .leaves import few_rows, forward, through, what_leaves
from .wants import expects

__all__ = ["Columns", "column_facts", "column_suspects", "standardising"]

Array = Any

# A sum Σ w·x is meant for inputs of about 1: weights are drawn, and rates chosen, for that.
CENTRE = 5.0  # |mean| in stds: beyond, the bias direction outweighs all that differs between rows
LARGE = 20.0  # values beyond ask for steps 400 times smaller than values of 1
SMALL = 0.01  # a column that never exceeds it moves its weights 10 000 times too slowly
APART = 50.0  # stds: the best steps of two columns are then 2500-fold apart
USUAL = 2.0  # root mean square: below it, a value over 20 is an outlier and not the scale
TARGETS = 10.0  # a mean or std of targets: outputs start within about 1 of 0
SAMPLE = 1000  # rows that are enough to see what a layer is given
CELLS = 2**17  # cells that are read at a time


@dataclass(frozen=True)
class Columns:
    """The columns of a table: mean, std, min and max of the finite cells; what is odd in them."""

    mean: Array
    std: Array
    low: Array
    high: Array
    constant: tuple[int, ...]  # one value in every row
    flags: tuple[int, ...]  # few small whole numbers, as 0 and 1
    sparse: tuple[int, ...]  # 0 in more than half of the rows
    broken: tuple[tuple[int, int], ...]  # row and column of each cell that is NaN or infinite

    @property
    def off_centre(self) -> tuple[int, ...]:
        """The columns whose mean is more than five stds from 0."""
        odd = np.abs(self.mean) > CENTRE * self.std
        return self._of_numbers(odd)

    @property
    def off_scale(self) -> tuple[int, ...]:
        """The columns with values over 20, or with none above 0.01."""
        most = np.maximum(np.abs(self.low), np.abs(self.high))
        usual = np.sqrt(self.mean**2 + self.std**2)
        return self._of_numbers(((most > LARGE) & (usual > USUAL)) | (most < SMALL))

    @property
    def spread(self) -> float:
        """The largest std over the smallest, of columns of numbers that are mostly not 0."""
        left = {*self.constant, *self.flags, *self.sparse}
        stds = [s for k, s in enumerate(self.std) if k not in left and s > 0]
        return float(max(stds) / min(stds)) if len(stds) > 1 else 1.0

    def _of_numbers(self, odd: Array) -> tuple[int, ...]:
        left = {*self.constant, *self.flags}
        return tuple(int(k) for k in np.flatnonzero(odd) if int(k) not in left)


def column_facts(X: Array) -> Columns:
    """Mean, std, min and max of each column, over its finite cells; what is constant or broken.

    >>> facts = column_facts([[2000.0, 1.0], [2010.0, 1.0]])
    >>> facts.off_centre, facts.constant
    ((0,), (1,))
    """
    rows = np.asarray(X)
    rows = rows.reshape(len(rows), -1)
    if rows.dtype.kind != "f":
        rows = rows.astype(np.float64)
    broken: tuple[tuple[int, int], ...] = ()
    with np.errstate(all="ignore"):
        mean, std, low, high = _moments(rows)
        if not np.isfinite(std).all():
            finite = np.isfinite(rows)
            broken = tuple((int(r), int(c)) for r, c in np.argwhere(~finite))
            mean, std, low, high = _finite_moments(rows, finite)
    constant = np.flatnonzero(~(low < high))
    some = rows[:: max(1, len(rows) // SAMPLE)]
    sparse = np.flatnonzero((some != 0).mean(0) < 0.5)
    small = (low < high) & (low >= -10) & (high <= 10) & (some[:20] == np.floor(some[:20])).all(0)
    flags = [k for k in np.flatnonzero(small) if (rows[:, k] == np.floor(rows[:, k])).all()]
    return Columns(
        mean, std, low, high, _places(constant), _places(flags), _places(sparse), broken
    )  # fmt: skip


def _moments(rows: Array) -> tuple[Array, Array, Array, Array]:
    """Mean, std, min and max, in float64 and a few rows at a time, which stay in the cache.

    Measured from the first row, so that a column far from 0 loses no digits.
    """
    origin = rows[0].astype(np.float64)
    total, squares = np.zeros(len(origin)), np.zeros(len(origin))
    low, high = origin.copy(), origin.copy()
    step = max(1, CELLS // max(1, len(origin)))
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        apart = part - origin
        total += apart.sum(0)
        squares += np.einsum("nk,nk->k", apart, apart)
        np.minimum(low, part.min(0), out=low)
        np.maximum(high, part.max(0), out=high)
    mean = total / len(rows)
    return origin + mean, np.sqrt(np.maximum(squares / len(rows) - mean**2, 0)), low, high


def _finite_moments(rows: Array, finite: Array) -> tuple[Array, Array, Array, Array]:
    """The same over the finite cells."""
    count = np.maximum(finite.sum(0), 1)
    mean = np.where(finite, rows, 0).sum(0, dtype=np.float64) / count
    std = np.sqrt(np.where(finite, (rows - mean) ** 2, 0).sum(0) / count)
    low, high = np.where(finite, rows, np.inf).min(0), np.where(finite, rows, -np.inf).max(0)
    return mean, std, low.astype(np.float64), high.astype(np.float64)


def _places(columns: Any) -> tuple[int, ...]:
    return tuple(int(k) for k in columns)


def column_suspects(setup: Setup, facts: Columns | None = None) -> list[Suspect]:
    """unscaled_inputs and unscaled_targets, each with the data standardised."""
    return [*_inputs(setup, facts), *_targets(setup)]


# -- inputs ----------------------------------------------------------------------------------------


def _inputs(setup: Setup, facts: Columns | None) -> list[Suspect]:
    X = np.asarray(setup.X)
    given = facts or column_facts(X)
    if any(
        getattr(m, "takes_integers", False) or hasattr(m, "tables") for m in setup.model.modules()
    ):
        return []  # whole numbers that name rows of a table have no scale
    seen = _as_the_first_layer_sees(setup)
    facts = given if seen is None else column_facts(seen)
    apart = facts.spread if facts.spread > APART else 0.0
    columns = sorted({*facts.off_centre, *facts.off_scale})
    if apart:
        columns = sorted({*columns, *_ends(facts)})
    if not columns:
        return []
    worst = max(columns, key=lambda k: _harm(facts, k))
    evidence = Evidence(_sentence(facts, columns, worst, apart), _quantities(facts, worst, apart))
    changes = () if given.broken else (pasted("X standardised", standardising(X)),)
    where = Where(layer=_first_name(setup.model), columns=tuple(columns))
    return [Suspect("unscaled_inputs", where, evidence, changes)]


def _as_the_first_layer_sees(setup: Setup) -> Array | None:
    """What the first product with weights is given; None where that is X as it is."""
    try:
        given = _first_factor(forward(setup.model, few_rows(setup.X)))
        if given is None or through(given).op is None:
            return None
        out = forward(setup.model, np.asarray(setup.X)[:SAMPLE], evaluate=False)
        given = _first_factor(out)
    except Exception:  # a model that cannot be run has other troubles
        return None
    return None if given is None else np.asarray(given.value)


def _first_factor(out: Any) -> Tensor | None:
    if not isinstance(out, Tensor):
        return None
    for node in circuit_of(out):
        if node.op is None or node.op.name != "matmul":
            continue
        weights = [_is_weight(x) for x in node.inputs]
        if any(weights):
            return node.inputs[weights.index(True) - 1]
    return None


def _is_weight(x: Tensor) -> bool:
    x = through(x)
    return x.op is None and x.requires_grad and x.name != "X"


def _ends(facts: Columns) -> tuple[int, int]:
    """The columns of the smallest and of the largest std among those that are compared."""
    left = {*facts.constant, *facts.flags, *facts.sparse}
    kept = [k for k in range(len(facts.std)) if k not in left and facts.std[k] > 0]
    return min(kept, key=lambda k: facts.std[k]), max(kept, key=lambda k: facts.std[k])


def _harm(facts: Columns, k: int) -> float:
    """How far a column is from mean 0 and std 1, in either direction."""
    size = float(np.hypot(facts.mean[k], facts.std[k]))
    return max(size, 1 / size if size else 0.0, abs(float(facts.mean[k])) / float(facts.std[k]))


def _sentence(facts: Columns, columns: list[int], worst: int, apart: float) -> str:
    name = "column" if len(columns) == 1 else "columns"
    shown = ", ".join(str(k) for k in columns[:6])
    more = f" and {len(columns) - 6} more" if len(columns) > 6 else ""
    parts = [f"{name} {shown}{more} of X {_what(facts, columns)}: column {worst} has mean"
             f" {short(facts.mean[worst])}, std {short(facts.std[worst])}, values from"
             f" {short(facts.low[worst])} to {short(facts.high[worst])}"]  # fmt: skip
    if apart:
        parts.append(f"stds are {short(apart)}-fold apart")
    if facts.constant:
        parts.append(f"{len(facts.constant)} columns are constant and left out")
    return "; ".join(parts)


def _what(facts: Columns, columns: list[int]) -> str:
    verb = "is" if len(columns) == 1 else "are"
    centre, scale = set(facts.off_centre) & {*columns}, set(facts.off_scale) & {*columns}
    if centre and scale:
        return f"{verb} off-centre or off-scale"
    return f"{verb} off-centre" if centre else f"{verb} off-scale" if scale else "differ in scale"


def _quantities(facts: Columns, worst: int, apart: float) -> dict[str, Any]:
    return {
        "column": worst,
        "mean": float(facts.mean[worst]),
        "std": float(facts.std[worst]),
        "min": float(facts.low[worst]),
        "max": float(facts.high[worst]),
        "ratio of stds": apart or facts.spread,
        "off-centre": facts.off_centre,
        "off-scale": facts.off_scale,
        "constant": facts.constant,
    }


def standardising(X: Array) -> str:
    """The code that gives each column of X mean 0 and std 1; pixels share one scale."""
    exact = ", dtype=np.float64" if X.dtype.kind == "f" and X.dtype.itemsize < 8 else ""
    if X.ndim > 2:  # pixels share one scale
        return f"X = (X - X.mean({exact[2:]})) / X.std({exact[2:]})"
    return (
        f"X = (X - X.mean(axis=0{exact})) / "
        f"np.where(np.ptp(X, axis=0) > 0, X.std(axis=0{exact}), 1)"
    )


def _first_name(model: Any) -> str:
    """The place of the first layer with weights of its own."""
    names = [name for name, p in model.named_parameters() if p.ndim == 2]
    return names[0].rpartition(".")[0] if names else ""


# -- targets ---------------------------------------------------------------------------------------


def _targets(setup: Setup) -> list[Suspect]:
    y = np.asarray(setup.y)
    if setup.task.kind != "regression" or y.dtype.kind not in "fiub" or not y.size:
        return []
    facts = column_facts(y)
    left = {*facts.constant}
    odd = [
        k
        for k in range(len(facts.std))
        if k not in left and max(abs(facts.mean[k]), facts.std[k]) > TARGETS
    ]
    if not odd:
        return []
    worst = max(odd, key=lambda k: max(abs(facts.mean[k]), facts.std[k]))
    mean, std = float(facts.mean[worst]), float(facts.std[worst])
    sentence = (
        f"the targets have mean {short(mean)} and std {short(std)}, while outputs start within"
        f" about 1 of 0: the first {loss_name(setup.loss)} is mostly the distance to their mean"
    )
    quantities = {"mean": mean, "std": std, "min": float(facts.low[worst]),
                  "max": float(facts.high[worst])}  # fmt: skip
    changes: tuple[Change, ...] = ()
    if not facts.broken and _can_be_any_number(setup):
        std_code = (
            "y.std(axis=0)" if not left else "np.where(np.ptp(y, axis=0) > 0, y.std(axis=0), 1)"
        )
        code = f"y = (y - y.mean(axis=0)) / {std_code}  # predictions are then in stds of y"
        changes = (pasted("y standardised", code),)
    columns = tuple(odd) if y.ndim > 1 and len(facts.std) > 1 else ()
    return [
        Suspect("unscaled_targets", Where(columns=columns), Evidence(sentence, quantities), changes)
    ]


def _can_be_any_number(setup: Setup) -> bool:
    """Whether neither the output nor the loss minds numbers below 0."""
    try:
        head = what_leaves(setup.model, few_rows(setup.X))
        want = expects(setup.loss, setup.y, (4, head.width))
    except Exception:  # another finding says why
        return False
    return not head.bounded and want.kind == "numbers"
