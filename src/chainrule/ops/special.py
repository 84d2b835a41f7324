"""The error function and its complement, which NumPy does not provide.

For |x| < 0.75 the odd polynomial erf(x) = x + x·P(x²) is used; beyond it
erfc(x) = exp(-x²)·erfcx(x), where erfcx varies slowly enough for one polynomial.
Everything is computed in float64, block by block so that the temporaries stay in cache.
"""

from __future__ import annotations

from typing import Any, TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

__all__ = ["erf", "erfc"]

_Floats: TypeAlias = NDArray[np.float64]
_Scalar: TypeAlias = float | np.number[Any] | np.bool_

_BLOCK = 8192  # elements, so that each temporary is 64 KiB
_CUT = 0.75
_ERF_END, _ERFC_END = 6.0, 28.0  # beyond, erf is ±1 and erfc 0 or 2 to the last bit

# Both tables were made for this module with mpmath at 50 digits: the function is interpolated at
# Chebyshev nodes, the series rewritten in powers, each coefficient rounded once. Highest first.

# P(z) = erf(√z)/√z - 1 for 0 ≤ z ≤ 0.75², degree 10.
_CENTRE = (
    1.1472499701094691e-08, -1.5940066854661717e-07, 1.643068417974155e-06, -1.4924196305569617e-05,
    0.00012055289567541706, -0.0008548326188759752, 0.005223977615420539, -0.026866170644428485,
    0.11283791670952596, -0.37612638903183715, 0.1283791670955126,
)  # fmt: skip
# (Q(t) - Q(0))/t, degree 18, and Q(0), where Q(t) = (x + 0.5)·erfcx(x) and t = (x - 3)/(x + 3)
# for 0.75 ≤ x ≤ 28. Q stays within 0.57 and 0.65, so all but Q(0) adds little rounding.
_TAIL = (
    4.374741222967501e-08, -3.80761739535714e-08, -3.071539970626294e-07, 1.5266268576672524e-07,
    1.7381604649947749e-06, -3.537538763651307e-07, -1.0051640176105248e-05, 2.471207369165474e-06,
    6.255007547919663e-05, -5.2579230686401736e-05, -0.00038991619806800565, 0.000944345099806877,
    0.0012646959130528364, -0.011885257453692231, 0.03415401367180828, -0.05963683170786095,
    0.06482257935138185, -0.023781147176722396, -0.06781055306229057,
)  # fmt: skip
_TAIL_0 = 0.6265040291348648


def _polynomial(coefficients: tuple[float, ...], x: _Floats) -> _Floats:
    value = x * coefficients[0]
    for coefficient in coefficients[1:-1]:
        value += coefficient
        value *= x
    value += coefficients[-1]
    return value


def _centre(x: _Floats) -> _Floats:
    """erf(x), accurate for |x| < _CUT. Exactly odd, so the sign of zero survives."""
    value = _polynomial(_CENTRE, x * x)
    value *= x
    value += x
    return value


def _tail(x: _Floats) -> _Floats:
    """erfc(x), accurate for _CUT ≤ x ≤ _ERFC_END."""
    # exp turns the absolute rounding error of x² into a relative one, so recover it: `high` has
    # 24 bits, its square is exact, x² = square + rest, and exp(-rest) = 1 - rest as |rest| < 1e-13.
    square = x * x
    high = x.astype(np.float32).astype(np.float64)
    rest = (high * high - square) + (x - high) * (x + high)
    t = (x - 3.0) / (x + 3.0)
    value = _polynomial(_TAIL, t) * t
    value -= rest * (value + _TAIL_0)
    value += _TAIL_0
    value /= x + 0.5
    value *= np.exp(-square)
    return value


def _block(x: _Floats, complement: bool) -> _Floats:
    end = _ERFC_END if complement else _ERF_END
    x = np.clip(x, -end, end)
    value = 1.0 - _centre(x) if complement else _centre(x)
    large = np.abs(x) >= _CUT
    if large.any():
        x = x[large]
        tail = _tail(np.abs(x))
        signed = np.where(x < 0.0, 2.0 - tail, tail) if complement else np.copysign(1.0 - tail, x)
        value[large] = signed
    return value


def _apply(x: Any, complement: bool) -> Any:
    array = np.asarray(float(x) if isinstance(x, int) else x)
    kind, size = array.dtype.kind, array.dtype.itemsize
    if kind not in "biuf" or size > 8:
        raise TypeError(f"erf and erfc take real numbers of up to 64 bits, not {array.dtype}")
    flat = array.ravel()
    out = np.empty(flat.shape, array.dtype.newbyteorder("=") if kind == "f" else np.float64)
    for start in range(0, flat.size, _BLOCK):
        part = slice(start, start + _BLOCK)
        out[part] = _block(flat[part].astype(np.float64), complement)
    return out.reshape(array.shape) if isinstance(x, np.ndarray) or array.ndim else out[0]


@overload
def erf(x: _Scalar) -> np.floating[Any]: ...
@overload
def erf(x: NDArray[Any]) -> NDArray[np.floating[Any]]: ...
def erf(x: Any) -> Any:
    """The error function, 2/√π · ∫₀ˣ exp(-s²) ds, elementwise. Integers become float64."""
    return _apply(x, complement=False)


@overload
def erfc(x: _Scalar) -> np.floating[Any]: ...
@overload
def erfc(x: NDArray[Any]) -> NDArray[np.floating[Any]]: ...
def erfc(x: Any) -> Any:
    """1 - erf(x), elementwise, without the cancellation: accurate far into the tail."""
    return _apply(x, complement=True)
