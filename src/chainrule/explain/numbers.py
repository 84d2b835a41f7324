"""Printed numbers that hold: a product read back from the text gives the printed result."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

MOST = 20  # decimals beyond which float64 has no more to say
FIXED = (1e-4, 1e7)  # between these a number is printed with fixed decimals, elsewhere with an e


def decimal(value: Any, decimals: int = 9) -> str:
    """A number to so many decimals without trailing zeros; very small or large ones with an e.

    >>> decimal(0.74136506955), decimal(-4.0), decimal(4.539580773595e-05)
    ('0.74136507', '-4', '4.53958077e-05')
    """
    x = float(value)
    if not math.isfinite(x) or x == 0:
        return f"{x + 0.0:g}"
    if FIXED[0] <= abs(x) < FIXED[1]:
        text = f"{x:.{decimals}f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    mantissa, _, exponent = f"{x:.{min(max(decimals - 1, 0), 16)}e}".partition("e")
    mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
    return f"{mantissa}e{exponent}"


def unit(value: float, decimals: int) -> float:
    """One unit of the last digit that `decimal` prints."""
    x = abs(float(value))
    if x == 0 or FIXED[0] <= x < FIXED[1]:
        return 10.0**-decimals
    return float(10.0 ** (math.floor(math.log10(x)) - decimals + 1))


def bracketed(text: str) -> str:
    """A negative number in brackets, as a factor or a later term needs it."""
    return f"({text})" if text.startswith(("-", "−")) else text


def agreeing(
    parts: Sequence[float], result: float, decimals: int, combine: Callable[[list[float]], float]
) -> tuple[list[str], str, str]:
    """The parts, the sign = or ≈, and the result, to as many decimals as it takes to agree.

    Rounded factors multiply to a rounded product only if they carry enough digits; from `decimals`
    on, digits are added until the line read back agrees to one unit of its last printed digit.

    >>> agreeing([1 / 3, 300.0], 100.0, 2, math.prod)
    (['0.3333333333333333', '300'], '=', '100')
    """
    if not all(map(math.isfinite, [*parts, result])):
        return [decimal(x, decimals) for x in parts], "=", decimal(result, decimals)
    for digits in range(decimals, MOST + 1):
        texts, total = [decimal(x, digits) for x in parts], decimal(result, digits)
        read = combine([float(text) for text in texts])
        if abs(read - float(total)) <= unit(result, digits):
            return texts, "=", total
    texts, total = [decimal(x, decimals) for x in parts], decimal(result, decimals)
    return texts, "≈", total


def scalar(value: Any) -> float:
    """The one element of a value as a float."""
    return float(np.asarray(value).reshape(-1)[0])
