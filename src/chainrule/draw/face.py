"""How a value looks on a wire: a number, or a tensor's shape, range and little heat map."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import Any

import numpy as np

SIDE = 12  # a heat map has at most so many rows and columns
NAME = 24  # characters of a name that are shown
_JOINERS = "\u200c\u200d"  # needed inside words and emoji


@dataclass(frozen=True)
class Face:
    """A value in a few letters, in full for the reader who points at it, and as cells if large."""

    text: str
    full: str
    cells: tuple[tuple[float, ...], ...] = ()  # −1…1 of the largest magnitude; NaN where not finite


def face(value: Any, digits: int = 4, *, shaped: bool = True, side: int = SIDE) -> Face:
    """The face of a number or an array.

    Its shape is left out if the reader knows it; its heat map has `side` cells a side at most.

    >>> face(-4.0).text, face(1 / 3).text
    ('-4', '0.3333')
    >>> face(np.arange(6.0).reshape(2, 3)).text
    '2×3: 0…5'
    """
    array = np.asarray(value)
    if array.dtype == bool:
        array = array.astype(int)
    if array.size == 1:
        one = array.reshape(-1)[0]
        shape = "×".join(map(str, array.shape))
        text, full = short(one, digits), short(one, 17)
        return Face(f"[{text}]" if shape else text, f"shape {shape}: {full}" if shape else full)
    shape = "×".join(map(str, array.shape))
    if array.ndim == 1:
        shape = f"({shape})"
    if not array.size:
        return Face(f"{shape}: empty", f"shape {array.shape}: empty")
    text = f"{shape}: " * shaped + _range(array, min(digits, 3))
    return Face(
        text, f"shape {array.shape}: {_elements(array)}", _cells(array, side) if side else ()
    )


def short(number: Any, digits: int) -> str:
    """A number to so many significant digits, as few letters as it takes.

    >>> short(0.30000000000000004, 17), short(0.30000000000000004, 4), short(1e-12, 4)
    ('0.30000000000000004', '0.3', '1e-12')
    """
    if digits >= 17:
        text = repr(float(number))
        return text.removesuffix(".0")
    mantissa, e, exponent = f"{float(number):.{digits}g}".partition("e")
    return f"{mantissa}e{int(exponent)}" if e else mantissa


def _range(array: Any, digits: int) -> str:
    """The least and the greatest finite element, and how many are not finite."""
    finite = array[np.isfinite(array)]
    bad = array.size - finite.size
    if not finite.size:
        return "no finite element"
    low, high = (short(x, digits) for x in (finite.min(), finite.max()))
    text = low if low == high else f"{low}…{high}"
    return f"{text}, {bad} not finite" if bad else text


def _elements(array: Any) -> str:
    if array.size <= 12:
        return " ".join(np.array2string(array, separator=", ", max_line_width=10_000).split())
    with np.errstate(all="ignore"):
        return f"{_range(array, 6)}, mean {short(np.mean(array), 6)}"


def _cells(array: Any, side: int) -> tuple[tuple[float, ...], ...]:
    """The elements, or a sample of them in rows and columns, as shares of the largest."""
    table = array.reshape(1, -1) if array.ndim == 1 else array.reshape(-1, array.shape[-1])
    rows, columns = (
        np.unique(np.linspace(0, n - 1, min(n, side)).round().astype(int)) for n in table.shape
    )
    picked = table[np.ix_(rows, columns)].astype(float)
    picked[~np.isfinite(picked)] = np.nan
    largest = np.nanmax(np.abs(picked)) if np.isfinite(picked).any() else 1.0
    scaled = picked / (largest or 1.0)
    return tuple(tuple(float(x) for x in row) for row in scaled)


def clean(text: object, limit: int = NAME) -> str:
    """A name that is safe to show: one line, no control or direction marks, not too long.

    >>> clean("two\\nlines"), clean("a" * 30)
    ('two\ufffdlines', 'aaaaaaaaaaaaaaaaaaaaaaa…')
    """
    kept = str(text)[: limit + 1]
    shown = "".join(
        c if c in _JOINERS or unicodedata.category(c) not in _HIDDEN else "\ufffd" for c in kept
    )
    return shown[: limit - 1] + "…" if len(shown) > limit else shown


_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def letters(text: str) -> int:
    """How many columns a text takes in a terminal: wide letters count twice, accents nothing.

    >>> letters("abc"), letters("数"), letters("e\u0301")
    (3, 2, 1)
    """
    return sum(
        0 if unicodedata.combining(c) or c in _JOINERS
        else 2 if unicodedata.east_asian_width(c) in "WF"
        else 1
        for c in text
    )  # fmt: skip
