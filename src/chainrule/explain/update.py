"""The optimiser's step in numbers: its own `update`, run on symbols."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..circuit import Tensor
from ..errors import unknown
from ..notation import symbol, write
from .formula import tidied
from .numbers import MOST, decimal, scalar, unit
from .target import Target
from .writer import Block, Equation, Writer

SYMBOLS = {
    "lr": "η", "betas": ("β1", "β2"), "eps": "ε", "momentum": "μ", "weight_decay": "λ",
    "alpha": "α", "lr_decay": "κ",
}  # fmt: skip


@dataclass(frozen=True)
class Update:
    """An optimiser, and its state before the step (None: as `init` makes it)."""

    optimizer: Any
    state: Any = None


def update_blocks(writer: Writer, update: Update, target: Target) -> list[Block]:
    """w⁺ as the optimiser computes it, with what it remembers; formula, then numbers.

    The optimiser's `update` is written in operations: here it is given tensors that stand for the
    parameter, its gradient, the state and the settings, and what it records is written out.
    """
    if target.tensor.size > 1 and target.index is None:
        return [_trace(writer, update, target, numbers=False)]
    return [_trace(writer, update, target, numbers=True)]


def _trace(writer: Writer, update: Update, target: Target, numbers: bool) -> Block:
    name = writer.names[target.tensor]
    params, grads, state = _plain(writer, update, target, name)
    settings: dict[Tensor, str] = {}
    symbolic = _with_symbols(update.optimizer, state, settings)
    given = _leaves(params, f"{name}", settings, name)
    slopes = _leaves(grads, "g", settings, name)
    old = {k: _leaves(v, k, settings, name) for k, v in state.items() if k != "step"}
    step = Tensor(state["step"], requires_grad=True)
    settings[step] = "t"
    moved, after = symbolic.update(given, slopes, {**old, "step": step})
    exact, later = update.optimizer.update(params, grads, state)
    known = dict(settings)
    known[after["step"]] = "t"
    block = Block(f"update by {type(update.optimizer).__name__}")
    digits = _digits(writer, update, (params, grads, state), name, exact[name]) if numbers else 0
    rows = [(slot, after[slot][name], later[slot][name]) for slot in old]
    for slot, node, value in [*rows, (name, moved[name], exact[name])]:
        block.equations.append(_equation(writer, (slot, node, value), known, digits, numbers))
        known[node] = f"{slot}⁺"
    meaning = writer.names[writer.flow.output], name
    block.sentences.append(f"g = ∂{meaning[0]}/∂{meaning[1]}; " + _settings(settings, step))
    return block


def _plain(
    writer: Writer, update: Update, target: Target, name: str
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Parameters, gradients and state as the optimiser takes them, of one element if asked."""
    flow, optimizer = writer.flow, update.optimizer
    everyone = getattr(optimizer, "clip_norm", None) is not None
    nodes = [n for n in flow.nodes if n.is_leaf and n in flow.gradients] if everyone else []
    chosen = {writer.names[n]: n for n in nodes} | {name: target.tensor}
    whole = {key: node.value for key, node in chosen.items()}
    grads = {key: flow.gradients[node] for key, node in chosen.items()}
    state = optimizer.init(whole) if update.state is None else _state(update.state, chosen)
    if target.index is None or everyone:
        return whole, grads, state
    place = target.index
    one = {k: {n: v[place] for n, v in slot.items()} for k, slot in state.items() if k != "step"}
    cut = ({k: v[place] for k, v in part.items()} for part in (whole, grads))
    return next(cut), next(cut), {"step": state["step"], **one}


def _state(state: Mapping[str, Any], chosen: Mapping[str, Tensor]) -> dict[str, Any]:
    """The user's state under our names: by name, else the only entry of the parameter's shape."""
    found: dict[str, Any] = {"step": state["step"]}
    for slot, by_name in state.items():
        if slot != "step":
            found[slot] = {k: _entry(slot, by_name, k, node) for k, node in chosen.items()}
    return found


def _entry(slot: str, by_name: Mapping[str, Any], name: str, node: Tensor) -> Any:
    if name in by_name:
        return by_name[name]
    fitting = [value for value in by_name.values() if np.shape(value) == node.shape]
    if len(fitting) != 1:
        raise unknown(f"parameter in the state's '{slot}'", name, by_name)
    return fitting[0]


def _with_symbols(optimizer: Any, state: Mapping[str, Any], known: dict[Tensor, str]) -> Any:
    """A copy of the optimiser whose settings are symbols; settings of 0 stay numbers."""
    made = copy.copy(optimizer)
    for attribute, letters in SYMBOLS.items():
        value: Any = getattr(optimizer, attribute, None)
        if attribute == "lr":
            rate = value(state["step"]) if callable(value) else value
            leaf = _symbol(float(rate), "η", known)
            made.lr = lambda step, leaf=leaf: leaf
        elif isinstance(letters, tuple) and value is not None:
            pairs = zip(value, letters, strict=True)
            setattr(made, attribute, tuple(_symbol(x, s, known) for x, s in pairs))
        elif value:
            setattr(made, attribute, _symbol(value, str(letters), known))
    return made


def _symbol(value: Any, letter: str, known: dict[Tensor, str]) -> Tensor:
    leaf = Tensor(float(value), requires_grad=True)
    known[leaf] = letter
    return leaf


def _leaves(
    values: Mapping[str, Any], letter: str, known: dict[Tensor, str], name: str
) -> dict[str, Tensor]:
    made = {k: Tensor(v, requires_grad=True) for k, v in values.items()}
    for key, leaf in made.items():
        known[leaf] = letter if key == name else f"{letter}({key})" if letter == "g" else key
    return made


def _equation(
    writer: Writer, row: tuple[str, Tensor, Any], known: dict[Tensor, str], digits: int,
    numbers: bool,
) -> Equation:  # fmt: skip
    slot, node, value = row
    style = writer.style
    left = f"{{{symbol(slot, style)}}}^{{+}}" if style == "latex" else f"{slot}⁺"
    symbols = {leaf: _letter(letter, writer) for leaf, letter in known.items()}
    formula = write(_tidy(node, known), style, names=symbols)
    if not numbers:
        return Equation(left, (formula,), f"shape {np.shape(value)}")
    printed = {
        leaf: writer.digits(decimal(scalar(leaf.value), digits)) for leaf in known if leaf.size == 1
    }
    in_numbers = write(_tidy(node, known), style, names=printed)
    return Equation(left, (formula, in_numbers, writer.number(scalar(value), digits)))


def _letter(letter: str, writer: Writer) -> str:
    if letter.endswith("⁺") and writer.style == "latex":
        return f"{{{symbol(letter[:-1], 'latex')}}}^{{+}}"
    return symbol(letter, writer.style)


def _tidy(node: Tensor, known: Mapping[Tensor, str]) -> Tensor:
    """The formula tidied down to what has a name, which stays the very tensor."""
    return tidied(node, keep=known)


def _settings(known: Mapping[Tensor, str], step: Tensor) -> str:
    order = ("η", "μ", "β1", "β2", "ε", "λ", "α", "κ")
    values = {letter: leaf for leaf, letter in known.items() if letter in order}
    parts = [f"{s} = {float(values[s].value):.9g}" for s in order if s in values]
    return ", ".join([*parts, f"t = {int(step.value) + 1}"])


def _digits(writer: Writer, update: Update, given: Any, name: str, exact: Any) -> int:
    """The fewest decimals from which the printed numbers give the printed result again."""
    params, grads, state = given
    if not np.isfinite(scalar(exact)) or any(np.size(v) > 1 for v in params.values()):
        return writer.decimals

    def rounded(values: Any, d: int) -> Any:
        if isinstance(values, Mapping):
            return {k: v if k == "step" else rounded(v, d) for k, v in values.items()}
        return np.float64(decimal(scalar(values), d))

    for d in range(writer.decimals, MOST + 1):
        again, _ = update.optimizer.update(rounded(params, d), rounded(grads, d), rounded(state, d))
        error = scalar(again[name]) - float(decimal(scalar(exact), d))
        if abs(error) <= unit(scalar(exact), d):
            return d
    return writer.decimals
