"""Outputs that do not fit their loss or their targets, and the output layers that would.

A change is only proposed where the changed network was read again and found sound.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ...circuit import Parameter
from ...errors import ChainruleError, ShapeError
from ...nn import layers
from ..chains import parts_of, rebuilt
from ..finding import Evidence, Where
from ..pasted import pasted
from ..setup import Change, Setup, Suspect
from ..task import Task
from .judging import Pair, judged_pair, loss_name, paired
from .leaves import Head, what_leaves
from .wants import Want, expects

__all__ = [
    "REFUSALS",
    "Head",
    "Want",
    "expects",
    "on_logits",
    "output_suspects",
    "what_leaves",
    "widened",
    "without_last",
]

MOST = 3  # alternatives that are shown
# What a model, a loss or a change raises that is not made for these data.
REFUSALS = (ChainruleError, ValueError, TypeError, IndexError, AttributeError, ArithmeticError)

BINARY, CLASSES = "losses.logistic", "losses.softmax_cross_entropy"
CLIPPED = {
    BINARY: 'losses.with_options("binary_cross_entropy", clip=1e-7)',
    CLASSES: 'losses.with_options("nll", clip=1e-7)',
}
OUTPUT = {BINARY: "Sigmoid", CLASSES: "Softmax"}

Edit = tuple[str, str]  # in words, as code


def output_suspects(setup: Setup) -> list[Suspect]:
    """single_class_softmax and loss_output_mismatch, with the output layers that fit."""
    try:
        pair = paired(setup.model, setup.loss, setup.X, setup.y)
        fault = judged_pair(pair)
    except REFUSALS:  # what the model or y does not let through is another's finding
        return []
    if fault is None:
        return []
    where = Where(layer=_last_name(setup.model))
    evidence = Evidence(fault.sentence, {"output": pair.head.kind, **fault.quantities})
    changes = tuple(_sound(setup, pair))
    return [Suspect(fault.problem, where, evidence, changes, fault.severity)]


def _sound(setup: Setup, pair: Pair) -> Iterator[Change]:
    """The first few edits after which output, loss and targets fit each other."""
    found, seen = 0, set()
    present = f"loss = losses.{loss_name(setup.loss)}"
    for words, code in _edits(setup, pair):
        if words in seen or present in code.splitlines():
            continue
        seen.add(words)
        change = pasted(words, code, _task(pair, code))
        if _fits(change, setup):
            found += 1
            yield change
        if found == MOST:
            return


def _task(pair: Pair, code: str) -> Task | None:
    """What is asked after a change: −1 and 1 become yes or no, numbers the classes they are."""
    if pair.targets.form == "signs" and "y = " in code:
        return Task("binary")
    counted = pair.targets.form == "labels" and isinstance(pair.refusal, ShapeError)
    return Task("classes") if counted or (_whole(pair) and CLASSES in code) else None


def _whole(pair: Pair) -> bool:
    """Whether numbers could be labels: 0, 1, 2, … few of them."""
    t, y = pair.targets, np.asarray(pair.y)
    few = t.form == "numbers" and y.dtype.kind in "iu" and t.low == 0 and 1 < t.high < 1000
    return few and len(np.unique(y)) == t.high + 1


def _fits(change: Change, setup: Setup) -> bool:
    try:
        after = change.apply(setup)
        pair = paired(after.model, after.loss, after.X, after.y)
        return pair.refusal is None and judged_pair(pair) is None
    except REFUSALS:
        return False


# -- by wish, where nothing is at fault by itself -------------------------------------------------


def on_logits(setup: Setup) -> tuple[Change, ...]:
    """The same network with its loss on logits, or else with its probabilities clipped."""
    try:
        return tuple(_on_logits(setup))
    except REFUSALS:
        return ()


def _on_logits(setup: Setup) -> Iterator[Change]:
    pair = paired(setup.model, setup.loss, setup.X, setup.y)
    loss = CLASSES if pair.targets.form in ("labels", "distribution") else BINARY
    for edit in _dropped(setup):
        change = pasted(*_both(edit, _loss(loss)))
        if _fits(change, setup):
            yield change
            break
    change = pasted(*_loss(CLIPPED[loss]))
    if _fits(change, setup):
        yield change


def without_last(setup: Setup) -> tuple[Change, ...]:
    """The network without the transfer function behind its output."""
    found = [pasted(*edit) for edit in _dropped(setup)][:1]
    return tuple(change for change in found if _fits(change, setup))


# -- edits -----------------------------------------------------------------------------------------


def _edits(setup: Setup, pair: Pair) -> Iterator[Edit]:
    """What may help, the least and numerically most stable first."""
    form = pair.targets.form
    if pair.stretched:
        yield "y as a column", "y = y.reshape(-1, 1)"
    if isinstance(pair.refusal, ShapeError) and form != "labels":
        yield from widened(setup, pair.y[:1].size)
    if form == "numbers":
        yield from _for_numbers(setup, pair)
        return
    relabel: Edit | None = None
    if form == "signs":
        if pair.want.kind == "numbers":
            yield from _exchanged(setup, "Tanh")
            yield from _dropped(setup)
        relabel = "y from −1 and 1 to 0 and 1", "y = (y + 1) / 2"
        yield relabel
        if _fits(pasted(*relabel), setup):
            return
    loss = CLASSES if form in ("labels", "distribution") else BINARY
    for edit in _for_classes(setup, pair, loss):
        yield _both(relabel, edit) if relabel else edit
    if form == "binary" and pair.targets.classes == 2 and pair.want.joint:
        yield from _unit_a_class(setup, 2)


def _for_numbers(setup: Setup, pair: Pair) -> Iterator[Edit]:
    squared = _loss("losses.mean_squared_error")
    if _whole(pair) and pair.want.kind in ("logits", "probabilities"):
        yield from _unit_a_class(setup, int(pair.targets.high) + 1)
    yield from _dropped(setup)
    if pair.want.kind == "positive":
        yield _appended("Softplus()", setup)
    yield squared
    for edit in _dropped(setup):
        yield _both(edit, squared)
    yield from _exchanged(setup, "Tanh")
    yield from _stretched(setup, pair)
    for edit in _stretched(setup, pair):
        yield _both(edit, squared)


def _for_classes(setup: Setup, pair: Pair, loss: str) -> Iterator[Edit]:
    """Towards the pair of plain outputs with a loss on logits; then towards probabilities."""
    stable, clipped = _loss(loss), _loss(CLIPPED[loss])
    by_difference = pair.want.kind == "numbers"  # such a loss is kept where it can be
    if by_difference:
        yield from _exchanged(setup, OUTPUT[loss])
    else:
        yield from _dropped(setup)
    if loss_name(setup.loss) != loss.removeprefix("losses."):
        yield stable
        for edit in _dropped(setup):
            yield _both(edit, stable)
    yield from _exchanged(setup, OUTPUT[loss])
    if pair.want.kind != "probabilities" or pair.want.joint != (loss == CLASSES):
        yield clipped
        for edit in _exchanged(setup, OUTPUT[loss]):
            yield _both(edit, clipped)
    yield _appended(f"{OUTPUT[loss]}()", setup)
    if pair.targets.form == "labels" and pair.targets.classes > pair.head.width:
        yield from _unit_a_class(setup, pair.targets.classes)
    if pair.targets.form == "labels" and pair.targets.classes <= pair.head.width:
        row = f"y = np.eye({pair.head.width})[np.asarray(y, int).reshape(-1)]"
        yield "y as rows of one 1", row
    for edit in _stretched(setup, pair):
        yield edit
        yield _both(edit, stable)


def _loss(code: str) -> Edit:
    name = code.split('"')[1] if '"' in code else code.removeprefix("losses.")
    return f"the loss {name}", f"loss = {code}"


def _both(a: Edit, b: Edit) -> Edit:
    return f"{a[0]}, and {b[0]}", f"{a[1]}\n{b[1]}"


def _dropped(setup: Setup) -> Iterator[Edit]:
    """Without the last layer, where that has no weights; or without one behind it that has none."""
    for place, layer in _tail(setup.model):
        name = type(layer).__name__
        yield f"without the last {name}", rebuilt(setup.model, f"del parts[{place}]")


def _exchanged(setup: Setup, kind: str) -> Iterator[Edit]:
    for place, layer in _tail(setup.model):
        name = type(layer).__name__
        words = f"{kind} for the last {name}" if name != kind else f"{kind}() for {layer!r}"
        if repr(layer) == f"{kind}()":
            continue
        yield words, rebuilt(setup.model, f"parts[{place}] = nn.{kind}()")


def _appended(layer: str, setup: Setup) -> Edit:
    chain = type(setup.model) is layers.Sequential
    inside = "*model" if chain else "model"
    return f"{layer} behind the output", f"model = nn.Sequential({inside}, nn.{layer})"


def _stretched(setup: Setup, pair: Pair) -> Iterator[Edit]:
    """A layer of weights behind an output that cannot be taken apart: it leaves the range."""
    if type(setup.model) is layers.Sequential or pair.head.ones:
        return
    width = pair.head.width
    linear = _linear(setup, width, width)
    words = f"Linear({width}, {width}) behind the output"
    yield words, f"model = nn.Sequential(model, {linear})"


def _unit_a_class(setup: Setup, units: int) -> Iterator[Edit]:
    """An output unit for each class, with or without what follows; under the loss on logits."""
    for words, code in widened(setup, units):
        yield words, code
        yield _both((words, code), _loss(CLASSES))
        for edit in _dropped(setup):
            yield _both(_both((words, code), edit), _loss(CLASSES))


def widened(setup: Setup, units: int) -> Iterator[Edit]:
    """The last layer of a chain with `units` outputs, drawn as the run's seed would."""
    parts = parts_of(setup.model)
    places = [k for k, part in enumerate(parts) if any(True for _ in part.parameters())]
    if places and type(parts[places[-1]]) is layers.Linear:
        last = parts[places[-1]]
        linear = _linear(setup, last.in_features, units, before=parts[: places[-1]])
        yield f"{units} output units", rebuilt(setup.model, f"parts[{places[-1]}] = {linear}")


def _linear(setup: Setup, inputs: int, units: int, before: Any = None) -> str:
    """The code of a layer whose weights are those of `Sequential(…, seed=seed)` in its place."""
    above = [setup.model] if before is None else before
    number = sum(
        any(isinstance(p, Parameter) for p in m._members.values())
        for part in above
        for m in part.modules()
    )
    dtype = getattr(setup.model.dtype, "name", "float64")
    drawn = f"np.random.default_rng([{setup.seed}, {number}]), ({inputs}, {units})"
    weight = f"nn.initializers.glorot_uniform({drawn}).T.copy()"
    return f"nn.Linear({inputs}, {units}, weight={weight}, dtype=np.{dtype})"


# -- the tail of a chain ---------------------------------------------------------------------------


def _tail(model: Any) -> list[tuple[int, Any]]:
    """The places of the layers without weights behind the last one that has some, last first."""
    parts, found = parts_of(model), []
    for place in reversed(range(len(parts))):
        if any(True for _ in parts[place].parameters()):
            break
        found.append((place, parts[place]))
    return found


def _last_name(model: Any) -> str:
    """The last layer of a chain by its place; "output" for another model."""
    name = ""
    while type(model) is layers.Sequential and len(model):
        name = f"{name}.{len(model) - 1}" if name else f"{len(model) - 1}"
        model = model[-1]
    return name or "output"
