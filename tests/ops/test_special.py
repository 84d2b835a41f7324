"""erf and erfc against mpmath, with the error counted in units in the last place."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chainrule.ops.special import erf, erfc

FLOAT_TYPES = [np.float64, np.float32]
LIMIT = {np.float64: 4.0, np.float32: 1.0}
PAIRS = pytest.mark.parametrize(("ours", "exact"), [(erf, mpmath.erf), (erfc, mpmath.erfc)])
BOTH = pytest.mark.parametrize("function", [erf, erfc])
DTYPES = pytest.mark.parametrize("dtype", FLOAT_TYPES)


@pytest.fixture(autouse=True)
def _no_floating_point_errors() -> Iterator[None]:
    with np.errstate(all="raise", under="ignore"), warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def ulps(got: Any, exact: mpmath.mpf) -> float:
    """The error of `got` in units in the last place of the exact value, in the dtype of `got`."""
    info = np.finfo(got.dtype)
    exponent = int(mpmath.frexp(exact)[1]) - 1 if exact else int(info.minexp)
    unit = mpmath.ldexp(1, max(exponent, int(info.minexp)) - info.nmant)
    return float(abs(mpmath.mpf(float(got)) - exact) / unit)


def worst(ours: Callable[..., Any], exact: Callable[..., Any], xs: Any) -> tuple[float, float]:
    """The largest error over `xs`, and where it is."""
    got = ours(xs)
    assert got.dtype == xs.dtype
    with mpmath.workdps(40):
        return max(
            (ulps(y, exact(mpmath.mpf(float(x)))), float(x)) for x, y in zip(xs, got, strict=True)
        )


def test_ulps_is_the_right_yardstick() -> None:
    one = mpmath.mpf(1)
    assert ulps(np.float64(1.0), one) == 0.0
    assert ulps(np.nextafter(1.0, 2.0), one) == 1.0
    assert ulps(np.nextafter(np.float32(1), np.float32(2)), one) == 1.0
    assert ulps(np.float64(5e-324), mpmath.mpf(0)) == 1.0
    assert ulps(np.float64(0.0), mpmath.mpf(5e-324)) == 1.0


@PAIRS
@DTYPES
@pytest.mark.parametrize(
    ("low", "high"),
    [(-28, -6), (-6, -0.75), (-0.75, 0.75), (0.75, 1.5), (1.5, 4), (4, 10), (10, 26), (26, 27.5)],
)
def test_error_on_a_jittered_grid(
    ours: Any, exact: Any, dtype: Any, low: float, high: float
) -> None:
    rng = np.random.default_rng(20)
    step = (high - low) / 600
    xs = (np.arange(600) * step + low + rng.uniform(0.0, step, 600)).astype(dtype)
    error, where = worst(ours, exact, xs)
    assert error <= LIMIT[dtype], where


@PAIRS
@DTYPES
def test_error_over_all_magnitudes_down_to_denormals(ours: Any, exact: Any, dtype: Any) -> None:
    info = np.finfo(dtype)
    low = np.log2(float(info.smallest_subnormal))
    xs = np.exp2(np.random.default_rng(21).uniform(low, 0.0, 500))
    edges = [info.smallest_subnormal, info.smallest_normal, info.eps, info.eps / 2]
    xs = np.concatenate([xs, -xs, edges]).astype(dtype)
    error, where = worst(ours, exact, xs)
    assert error <= LIMIT[dtype], where


@PAIRS
@DTYPES
def test_error_where_the_method_changes(ours: Any, exact: Any, dtype: Any) -> None:
    seams = np.array([0.75, -0.75, 6.0, -6.0, 28.0, -28.0, 3.0], dtype)
    inf = dtype(np.inf)
    xs = np.concatenate([seams, np.nextafter(seams, inf), np.nextafter(seams, -inf)])
    error, where = worst(ours, exact, xs)
    assert error <= LIMIT[dtype], where


def test_the_tail_of_erfc_reaches_the_last_denormal() -> None:
    xs = np.linspace(26.5, 27.3, 400)
    got = erfc(xs)
    assert worst(erfc, mpmath.erfc, xs)[0] <= LIMIT[np.float64]
    assert np.all(np.diff(got) <= 0.0)
    denormal = got[(got > 0.0) & (got < np.finfo(np.float64).smallest_normal)]
    assert denormal.size > 200
    assert denormal.min() < 1e-322


@PAIRS
@given(x=st.floats(allow_nan=False, allow_infinity=False))
@example(x=0.75)
@example(x=26.543)
@example(x=1.7976931348623157e308)
def test_any_double(ours: Any, exact: Any, x: float) -> None:
    y = ours(x)
    assert type(y) is np.float64
    if abs(x) < 40.0:
        with mpmath.workdps(40):
            assert ulps(y, exact(mpmath.mpf(x))) <= 4.0
    else:
        assert y == (np.sign(x) if ours is erf else 1.0 - np.sign(x))


@PAIRS
@given(x=st.floats(-30.0, 30.0))
def test_any_double_of_moderate_size(ours: Any, exact: Any, x: float) -> None:
    with mpmath.workdps(40):
        assert ulps(ours(x), exact(mpmath.mpf(x))) <= 4.0


@PAIRS
@given(x=st.floats(-12.0, 12.0, width=32))
def test_any_single(ours: Any, exact: Any, x: float) -> None:
    y = ours(np.float32(x))
    assert type(y) is np.float32
    with mpmath.workdps(40):
        assert ulps(y, exact(mpmath.mpf(x))) <= 1.0


@given(x=st.floats(allow_nan=False) | st.floats(-7.0, 7.0))
@example(x=1.0)
@example(x=-1.0)
@example(x=0.012528291475734754)
@example(x=-0.0)
def test_symmetry(x: float) -> None:
    assert erf(-x) == -erf(x)
    assert np.signbit(erf(x)) == np.signbit(x)
    eps = np.finfo(np.float64).eps
    assert abs(erfc(-x) - (2.0 - erfc(x))) <= eps
    if x >= 0.75:  # exact in this direction: 2 - erfc(-x) has lost the low bits of erfc(x)
        assert erfc(-x) == 2.0 - erfc(x)
    assert abs(erf(x) + erfc(x) - 1.0) <= eps


@DTYPES
def test_exact_values(dtype: Any) -> None:
    xs = np.array([np.inf, -np.inf, 0.0, -0.0, np.nan, 1e30, -1e30], dtype)
    np.testing.assert_array_equal(erf(xs), np.array([1, -1, 0, 0, np.nan, 1, -1], dtype))
    np.testing.assert_array_equal(erfc(xs), np.array([0, 2, 1, 1, np.nan, 0, 2], dtype))
    assert np.signbit(erf(xs)).tolist()[:4] == [False, True, False, True]
    assert not np.signbit(erfc(xs[0]))


def test_nan_among_numbers_stays_alone() -> None:
    xs = np.tile([0.1, np.nan, 2.0, -2.0], 5)
    for function in (erf, erfc):
        np.testing.assert_array_equal(np.isnan(function(xs)), np.isnan(xs))


@BOTH
@DTYPES
@pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 0, 2), (7,), (2, 3), (2, 1, 3, 2)])
def test_arrays_keep_shape_and_dtype(function: Any, dtype: Any, shape: tuple[int, ...]) -> None:
    xs = np.asarray(np.random.default_rng(22).normal(0.0, 2.0, shape), dtype)
    before = xs.copy()
    xs.flags.writeable = False
    got = function(xs)
    assert isinstance(got, np.ndarray)
    assert got.shape == shape
    assert got.dtype == dtype
    assert not np.shares_memory(got, xs)
    np.testing.assert_array_equal(xs, before)


@BOTH
@pytest.mark.parametrize(
    ("x", "expected"),
    [
        (0.5, np.float64),
        (np.float64(0.5), np.float64),
        (np.float32(0.5), np.float32),
        (np.float16(0.5), np.float16),
        (3, np.float64),
        (10**30, np.float64),
        (True, np.float64),
        (np.int8(3), np.float64),
        (np.bool_(True), np.float64),
    ],
)
def test_scalars_give_numpy_scalars(function: Any, x: Any, expected: type) -> None:
    got = function(x)
    assert type(got) is expected
    assert got == expected(function(np.array([float(x)]))[0])


@BOTH
@pytest.mark.parametrize("dtype", [np.int8, np.uint64, np.int64, np.bool_])
def test_integer_arrays_become_float64(function: Any, dtype: Any) -> None:
    xs = np.array([0, 1, 1, 0], dtype)
    got = function(xs)
    assert got.dtype == np.float64
    np.testing.assert_array_equal(got, function(xs.astype(np.float64)))


@BOTH
def test_memory_layout_does_not_matter(function: Any) -> None:
    xs = np.random.default_rng(23).normal(0.0, 2.0, (30, 40))
    expected = function(xs)
    np.testing.assert_array_equal(function(np.asfortranarray(xs)), expected)
    np.testing.assert_array_equal(function(xs.T), expected.T)
    np.testing.assert_array_equal(function(xs[::-2, ::3]), expected[::-2, ::3])
    np.testing.assert_array_equal(function(xs.astype(">f8")), expected)
    assert function(xs.astype(">f8")).dtype.isnative
    np.testing.assert_array_equal(function(xs.tolist()), expected)


@BOTH
@pytest.mark.parametrize("size", [8191, 8192, 8193, 20000])
def test_neighbours_and_blocks_do_not_matter(function: Any, size: int) -> None:
    xs = np.random.default_rng(24).normal(0.0, 2.0, size)
    got = function(xs)
    picked = np.r_[0:5, size // 2, size - 5 : size]
    assert got[picked].tolist() == [function(x) for x in xs[picked]]


@BOTH
@pytest.mark.parametrize("x", [1j, np.array([1j]), "1", None, np.array([object()])])
def test_only_real_numbers(function: Any, x: Any) -> None:
    with pytest.raises(TypeError, match="real numbers"):
        function(x)
