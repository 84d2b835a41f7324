"""What a loss wants: it is run on a symbolic prediction, and its circuit says what it does first.

A logarithm of the prediction wants probabilities, a softplus or softmax of it logits, a difference
with the targets numbers of their kind. So a loss of the user's own is read like one of the house.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...circuit import Tensor
from ...circuit.order import circuit_of
from ...errors import ChainruleError
from ...ops import tensor
from .leaves import VIEWS, through

__all__ = ["Want", "expects"]

Array = Any
EPSILON = 0.01  # what is added to a probability so that its logarithm stays finite is less

_LOGS = {"log", "log2", "log10"}
_ONE_LOGIT = {"softplus", "sigmoid"}
_LOGITS = {"softmax", "log_softmax", "logsumexp"}


@dataclass(frozen=True)
class Want:
    """What a loss expects: "logits", "probabilities", "positive" numbers, "numbers" or "unknown".

    `joint` where the outputs of a row together are one distribution, as in cross-entropy over
    classes; without it each output is asked a question of its own.
    """

    kind: str
    joint: bool = False

    def __str__(self) -> str:
        if self.kind == "probabilities":
            return "probabilities that add up to 1" if self.joint else "probabilities from 0 to 1"
        return {"positive": "numbers above 0", "unknown": "what it does not tell"}.get(
            self.kind, self.kind
        )


def expects(loss: Callable[..., Any], y: Array, shape: tuple[int, ...] = ()) -> Want:
    """What the loss takes its prediction for, given targets; `shape` is the prediction's.

    >>> import chainrule as cr
    >>> expects(cr.losses.logistic, [[1.0], [0.0]])
    Want(kind='logits', joint=False)
    >>> expects(lambda p, y: -(y * cr.log(p)).mean(), [[1.0, 0.0], [0.0, 1.0]])
    Want(kind='probabilities', joint=True)
    """
    y = np.asarray(y)
    shape = tuple(shape) or (y.shape if y.ndim > 1 else (len(y), 1))
    for targets in _targets(y, shape):
        found = _traced(loss, targets, shape)
        if found is not None:
            return _verdict({*_uses(*found)})
    return Want("unknown")


def _targets(y: Array, shape: tuple[int, ...]) -> Iterator[Array]:
    """The targets themselves, then such as a loss might take instead of faulty ones."""
    rows, width = shape[0], shape[-1]
    if y.dtype.kind in "fiub":
        yield y[np.arange(rows) % len(y)]
    yield np.zeros(rows, np.int64)
    some = np.zeros(shape)
    some[..., 0] = 1.0
    yield some
    yield np.resize([0.0, 1.0], (rows, 1)) if width == 1 else np.zeros(shape)
    yield np.zeros(rows)


def _traced(loss: Callable[..., Any], y: Array, shape: tuple[int, ...]) -> Any:
    """The prediction's stand-in and the loss's node; None where the loss refuses."""
    start = np.resize(np.linspace(0.3, 0.6, 7), shape)
    prediction = tensor(start / start.sum(-1, keepdims=True) if shape[-1] > 1 else start)
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            out = loss(prediction, y)
    except (ChainruleError, ValueError, TypeError, IndexError, ArithmeticError):
        return None
    return (prediction, out) if isinstance(out, Tensor) and out.op is not None else None


def _verdict(uses: set[str]) -> Want:
    if "logits" in uses:
        return Want("logits", joint=True)
    if "logit" in uses:
        return Want("logits")
    if "log" in uses or "log of the rest" in uses:
        both = bool(uses & {"log of the rest", "rest"})
        if both or uses == {"log"}:
            return Want("probabilities", joint=not both)
        return Want("positive")
    return Want("numbers") if uses == {"difference"} else Want("unknown")


def _uses(prediction: Tensor, out: Tensor) -> Iterator[str]:
    """What is done to the prediction first, behind views, choices, signs and small additions."""
    users: dict[Tensor, list[tuple[Tensor, int]]] = {}
    for node in circuit_of(out):
        for place, source in enumerate(node.inputs):
            users.setdefault(source, []).append((node, place))
    waiting, seen = [(prediction, "p")], {(prediction, "p")}
    while waiting:
        node, form = waiting.pop()
        for user, place in users.get(node, ()):
            step = _step(user, place, form)
            if step is None:
                continue
            if not step.startswith("→"):
                yield step
            elif (user, step[1:]) not in seen:
                seen.add((user, step[1:]))
                waiting.append((user, step[1:]))


def _step(user: Tensor, place: int, form: str) -> str | None:
    """The use that this is, or "→" and the form in which the prediction goes on.

    The forms are p, its negative, 1 − p, p times targets (and sums of that), and e^p.
    """
    name = user.op.name
    if name in VIEWS or name == "clip" or name == "join":
        return "→" + form
    if name == "where":
        return "→" + form if place else None
    if name in ("maximum", "minimum") and _small(_other(user, place)):
        return "→" + form
    if user.op.facts.flow == "blocker":
        return None
    if form in ("exp", "exps"):
        return _after_exp(name, form)
    if form == "1-p" and name not in (*_LOGS, "add"):
        return "rest"
    if name in _LOGITS:
        return "logits"
    if name in _ONE_LOGIT:
        return "logit"
    if name == "exp":
        return "→exp"
    if name in _LOGS:
        return "log of the rest" if form == "1-p" else "log"
    if name == "log1p":
        return "log of the rest" if form == "-p" else "other"
    if name == "negative":
        return {"p": "→-p", "-p": "→p"}.get(form, "other")
    if name in ("sum", "max") and form in ("picked", "p"):
        return "→picked" if form == "picked" else "other" if name == "sum" else "→p"
    if name in ("add", "subtract", "multiply"):
        return _combined(name, user, place, form)
    return "other"


def _after_exp(name: str, form: str) -> str:
    """Σ exp and 1 + exp are on their way to a logarithm, or to a quotient."""
    if form == "exps":
        return "logits" if name in (*_LOGS, "divide", "add") else "other"
    if name == "sum":
        return "→exps"
    return "logit" if name in ("log1p", "add", "divide", "reciprocal") else "other"


def _combined(name: str, user: Tensor, place: int, form: str) -> str:
    other = _other(user, place)
    if name == "multiply":
        given = other.op is None and not other.requires_grad
        return "→picked" if form in ("p", "-p") and given else "other"
    if form == "1-p":
        return "→1-p" if _small(other) else "rest"
    if form == "-p":
        return "→1-p" if name == "add" and _one(other) else "difference"
    if form != "p":
        return "other"
    if name == "subtract" and place == 1:
        return "→1-p" if _one(other) else "difference"
    return "→p" if _small(other) else "difference"


def _other(user: Tensor, place: int) -> Tensor:
    return through(user.inputs[1 - place])


def _small(x: Tensor) -> bool:
    return x.op is None and not x.requires_grad and bool(np.all(np.abs(x.value) <= EPSILON))


def _one(x: Tensor) -> bool:
    return x.op is None and x.size == 1 and bool(np.all(x.value == 1))
