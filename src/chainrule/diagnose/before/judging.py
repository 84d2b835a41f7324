"""Whether an output, a loss and targets are made for each other: a sentence where they are not."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...circuit import Tensor
from ...circuit.order import circuit_of
from ...errors import ChainruleError, ShapeError
from ...plot.scale import short
from .leaves import Head, few_rows, forward, what_leaves
from .targets import Targets, targets_of
from .wants import Want, expects

__all__ = ["Fault", "Pair", "judged_pair", "loss_name", "paired"]

Array = Any

SURE = 0.99  # a probability that an output must be able to give the right answer
EXPLAINED = 0.99  # the R² that targets must leave possible: what is lost below would not be seen

KINDS = {
    "softmax": "a softmax",
    "log_softmax": "a log-softmax",
    "linear": "a plain weighted sum",
    "bounded": "a bounded function",
    "square": "a square",
    "abs": "an absolute value",
    "exp": "an exponential",
    "relu": "a ReLU",
}


@dataclass(frozen=True)
class Fault:
    """What is wrong with a pair of output and loss."""

    problem: str
    sentence: str
    quantities: Mapping[str, Any] = field(default_factory=dict)
    severity: str = "problem"


@dataclass(frozen=True)
class Pair:
    """An output, what the loss wants of it, what y asks for; `refusal` is the loss's own error."""

    head: Head
    want: Want
    targets: Targets
    loss: Callable[..., Any]
    y: Array
    refusal: Exception | None = None
    stretched: bool = False  # the loss compares each prediction with the targets of all rows


def paired(model: Any, loss: Any, X: Array, y: Array) -> Pair:
    """Both sides read on a few rows; raises what the model raises."""
    some = few_rows(X, 4)
    head, out = what_leaves(model, few_rows(X)), forward(model, some)
    shape = tuple(np.shape(out)) or (4, 1)
    y = np.asarray(y)
    refusal, stretched = _tried(loss, out, y[np.arange(4) % max(1, len(y))] if y.ndim else y)
    want = expects(loss, y, shape if len(shape) > 1 else (*shape, 1))
    return Pair(head, want, targets_of(y, loss, head.width), loss, y, refusal, stretched)


def _tried(loss: Any, out: Any, y: Array) -> tuple[Exception | None, bool]:
    """The loss's refusal of a few rows; and whether (n, 1) met (n,) and became (n, n)."""
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            found = loss(out, y)
    except (ChainruleError, ValueError, TypeError, IndexError, ArithmeticError) as error:
        return error, False
    if not isinstance(found, Tensor) or np.shape(out) != (4, 1) or np.shape(y) != (4,):
        return None, False
    return None, any(node.shape == (4, 4) for node in circuit_of(found))


def loss_name(loss: Any) -> str:
    """How a sentence names the loss."""
    name = str(getattr(loss, "__name__", ""))
    return name if name.partition("(")[0].isidentifier() and name != "<lambda>" else "the loss"


# -- the verdict -----------------------------------------------------------------------------------


def judged_pair(pair: Pair) -> Fault | None:
    """What is wrong with the pair; None where it is sound, or where nothing can be said."""
    for rule in (_one_unit, _shape, _axis, _twice, _several, _relabel):
        found = rule(pair)
        if found is not None:
            return found
    rules = {
        "logits": _logits,
        "probabilities": _probabilities,
        "positive": _positive,
        "numbers": _numbers,
    }
    return rules[pair.want.kind](pair) if pair.want.kind in rules else None


def _mismatch(sentence: str, severity: str = "problem", **quantities: Any) -> Fault:
    return Fault("loss_output_mismatch", sentence, quantities, severity)


def _kind(head: Head) -> str:
    return KINDS.get(head.kind, f"a {head.kind.replace('_', ' ')}")


def _one_unit(pair: Pair) -> Fault | None:
    head, want = pair.head, pair.want
    where = ""
    if head.ones and head.kind in ("softmax", "log_softmax"):
        where = f"the output is {_kind(head)} over one unit"
    elif want.kind == "logits" and want.joint and head.width == 1:
        where = f"{loss_name(pair.loss)} takes the softmax of one unit"
    if not where:
        return None
    return Fault(
        "single_class_softmax",
        f"{where}: p = e^a/e^a = 1 for every row, its derivative p(1 − p) is 0, so every gradient"
        " is exactly 0",
        {"width": head.width, "p": 1.0, "p(1 − p)": 0.0},
    )


def _shape(pair: Pair) -> Fault | None:
    if pair.stretched:
        return _mismatch(
            "the prediction has shape (n, 1), the targets (n,): their difference becomes (n, n),"
            " so that each prediction is held against the targets of all rows",
            prediction="(n, 1)",
            targets="(n,)",
        )
    if not isinstance(pair.refusal, ShapeError):
        return None
    wanted = np.shape(pair.y)[1:]
    shape = f"(n, {', '.join(map(str, wanted))})" if wanted else "(n,)"
    return _mismatch(
        f"the output has {pair.head.width} numbers a row, y has shape {shape}:"
        f" {loss_name(pair.loss)} cannot hold one against the other",
        width=pair.head.width,
        targets=int(np.prod(wanted)),
    )


def _axis(pair: Pair) -> Fault | None:
    head = pair.head
    if head.kind not in ("softmax", "log_softmax") or head.normalised:
        return None
    return _mismatch(
        f"the output is {_kind(head)} along another axis than the last: a row's {head.width}"
        " outputs do not add up to 1",
        width=head.width,
    )


def _twice(pair: Pair) -> Fault | None:
    head = pair.head
    if not head.twice or head.kind != "softmax":
        return None
    return _mismatch(
        f"the output is a softmax of a softmax: of {head.width} classes none can get more than"
        f" {short(head.high)} or less than {short(head.low)}",
        most=head.high,
        least=head.low,
    )


def _several(pair: Pair) -> Fault | None:
    if pair.targets.form != "several":
        return None
    if not pair.want.joint and pair.head.kind not in ("softmax", "log_softmax"):
        return None
    rows = np.asarray(pair.y).reshape(len(pair.y), -1)
    share = float(np.mean(rows.sum(1) != 1))
    who = (
        _kind(pair.head)
        if pair.head.kind == "softmax"
        else f"the softmax of {loss_name(pair.loss)}"
    )
    return _mismatch(
        f"{share:.0%} of the rows of y have several labels or none, but {who} shares out 1 among"
        " all outputs: more than one of them can never be near 1",
        share=share,
    )


def _relabel(pair: Pair) -> Fault | None:
    """Targets beyond 0 and 1 for a question that is answered by yes or no."""
    want, t = pair.want, pair.targets
    if want.joint or want.kind not in ("logits", "probabilities"):
        return None
    if t.form == "none" or (t.low >= 0 and t.high <= 1) or not _rewards_nonsense(pair):
        return None
    return _mismatch(
        f"y goes from {short(t.low)} to {short(t.high)}, but {loss_name(pair.loss)} needs targets"
        " from 0 to 1",
        low=t.low,
        high=t.high,
    )


def _rewards_nonsense(pair: Pair) -> bool:
    """Whether the loss refuses the targets, or falls below 0 for some prediction."""
    y = np.asarray(pair.y)[:200].astype(np.float64)
    y = y.reshape(len(y), -1)
    far = 30.0 if pair.want.kind == "logits" else 1 - 1e-9
    near = -30.0 if pair.want.kind == "logits" else 1e-9
    low, high = np.full_like(y, near), np.full_like(y, far)
    for tried in (np.where(y > 0, high, low), np.where(y > 0, low, high), high, low):
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                found = pair.loss(tried, y)
            if float(np.mean(np.asarray(getattr(found, "value", found)))) < -1e-6:
                return True
        except (ChainruleError, ValueError, TypeError, IndexError):
            return True
    return False


# -- by what the loss wants ------------------------------------------------------------------------


def _logits(pair: Pair) -> Fault | None:
    head, name = pair.head, loss_name(pair.loss)
    if not head.bounded or (head.kind == "log_softmax" and pair.want.joint):
        return None
    reach, floor = _reach(pair)
    if reach >= SURE:
        if head.kind != "relu":
            return None
        return _mismatch(
            f"the last layer is a ReLU before {name}: a unit with net ≤ 0 on every row gets no"
            " gradient any more, and no logit can be below 0",
            "note",
            low=head.low,
        )
    meant = (
        "probabilities"
        if head.is_probability and head.kind in ("sigmoid", "softmax")
        else "numbers"
    )
    return _mismatch(
        f"the output is {_kind(head)}, {meant} {_range(head)}, but {name} takes logits and makes"
        f" probabilities of them: no right answer can get more than {short(reach)}, and the loss of"
        f" a row cannot fall below {short(floor)}",
        low=head.low,
        high=head.high,
        reach=reach,
        floor=floor,
    )


def _reach(pair: Pair) -> tuple[float, float]:
    """The probability that every right answer can get, and the mean loss that is left at best."""
    head = pair.head
    if pair.want.joint:
        p = 1 / (1 + (head.width - 1) * math.exp(-min(700.0, head.high - head.low)))
        return p, -math.log(p)
    yes, no = _sigmoid(head.high), 1 - _sigmoid(head.low)
    ones = 0.5 if math.isnan(pair.targets.ones) else pair.targets.ones
    least = min(yes if ones else 1.0, no if ones < 1 else 1.0)
    left = [s * -math.log(max(p, 1e-300)) for s, p in ((ones, yes), (1 - ones, no)) if s]
    return least, sum(left)


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-max(-700.0, min(700.0, x))))


def _range(head: Head) -> str:
    low, high = head.low > -math.inf, head.high < math.inf
    if low and high:
        return f"from {short(head.low)} to {short(head.high)}"
    return f"of {short(head.low)} and more" if low else f"of {short(head.high)} and less"


def _probabilities(pair: Pair) -> Fault | None:
    head, want, name = pair.head, pair.want, loss_name(pair.loss)
    if not head.is_probability:
        if head.kind == "unknown":
            return None
        return _mismatch(
            f"the output is {_kind(head)}, which can be {_reaching(head)}, but {name} takes the"
            f" logarithm of {want}",
            low=head.low,
            high=head.high,
        )
    reach = _most(pair)
    if reach < SURE:
        return _mismatch(
            f"the output is {_kind(head)} and stays {_range(head)}: no right answer can get a"
            f" probability above {short(reach)} from {name}",
            low=head.low,
            high=head.high,
            reach=reach,
        )
    if not want.joint or head.normalised:
        return None
    if head.width > 1:
        return _mismatch(
            f"the output is {_kind(head)} for each class by itself, but {name} takes {want}: it"
            " only raises the right class, and every output at 1 is its optimum",
            low=head.low,
            high=head.high,
        )
    if pair.targets.form != "binary" or pair.targets.ones == 1:
        return None
    return _mismatch(
        f"the output is one unit, of which {name} takes the logarithm for the rows of class 1 only:"
        " rows of class 0 have no part in the loss",
        ones=pair.targets.ones,
    )


def _most(pair: Pair) -> float:
    """The probability that every right answer can get."""
    head, ones = pair.head, pair.targets.ones
    if pair.want.joint:
        return head.high
    return min(head.high if ones != 0 else 1.0, 1 - head.low if ones != 1 else 1.0)


def _reaching(head: Head) -> str:
    if head.low < 0:
        return "negative" if head.high <= 1 else "negative, and above 1"
    return "above 1"


def _positive(pair: Pair) -> Fault | None:
    head = pair.head
    if head.low >= 0 or head.kind == "unknown":
        return None
    return _mismatch(
        f"the output is {_kind(head)}, which can be negative, but {loss_name(pair.loss)} takes its"
        " logarithm",
        low=head.low,
    )


def _numbers(pair: Pair) -> Fault | None:
    head, t = pair.head, pair.targets
    if not head.bounded or t.form == "none" or (t.low >= head.low and t.high <= head.high):
        return None
    y = np.asarray(pair.y).reshape(len(pair.y), -1).astype(np.float64)
    y = y[np.isfinite(y).all(1)]
    spread = float(np.square(y - y.mean(0)).sum())
    lost = float(np.square(y - np.clip(y, head.low, head.high)).sum())
    best = 1 - lost / spread if spread else 1.0 if not lost else -math.inf
    if best >= EXPLAINED:
        return None
    share = float(np.mean((y < head.low) | (y > head.high)))
    return _mismatch(
        f"the output is {_kind(head)} and gives only numbers {_range(head)}, but {share:.0%} of the"
        f" targets are outside (from {short(t.low)} to {short(t.high)}): no weights reach an R²"
        f" above {short(best)}",
        low=head.low,
        high=head.high,
        outside=share,
        best=best,
    )
