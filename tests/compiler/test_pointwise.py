"""Every pointwise operation's native form against its record's value, specials included."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import mpmath
import numpy as np
import pytest

from chainrule.compiler.expression import Builder, Expr, Unsupported, walk
from chainrule.compiler.pointwise import PUBLIC, keep_bits, lower
from chainrule.ops import registry
from native_map import run_map

Array = np.ndarray[Any, Any]
FLOATS = [np.float32, np.float64]
COMPARISONS = ["less", "less_equal", "greater", "greater_equal", "equal", "not_equal"]
LOGICAL = ["logical_and", "logical_or", "logical_not"]

# No rounding but that of one operation, which IEEE fixes: equal to the bit.
EXACT = {
    "add", "subtract", "multiply", "divide", "negative", "sqrt", "maximum", "minimum", "abs",
    "sign", "floor", "identity", "stop_gradient", "where", "isnan", "isfinite", "reciprocal",
    "square", "relu", "clip", "hard_tanh", "leaky_relu", "prelu", "softsign",
    *COMPARISONS, *LOGICAL,
}  # fmt: skip
ULP = 8.0
PARAMS: dict[str, list[dict[str, Any]]] = {
    "leaky_relu": [{"negative_slope": 0.01}, {"negative_slope": -2}],
    "elu": [{"alpha": 1.0}, {"alpha": 1.6732632423543772}],
    "clip": [
        {"low": -1.0, "high": 2.0},
        {"low": None, "high": 0.0},
        {"low": -0.0, "high": None},
        {"low": None, "high": None},
        {"low": 2.0, "high": -1.0},
        {"low": np.nan, "high": 1.0},
    ],
}

# -- every operation has a form ---------------------------------------------------------------


def is_pointwise(op: Any) -> bool:
    return bool(op.facts.local) or (op.facts.flow == "blocker" and not op.defaults)


def test_every_pointwise_operation_is_lowered_and_nothing_else() -> None:
    assert {op.name for op in registry.operations() if is_pointwise(op)} == PUBLIC


def test_what_is_not_pointwise_is_refused_by_name() -> None:
    b = Builder()
    x = b.load(0, np.float32)
    with pytest.raises(Unsupported, match="matmul"):
        lower(b, "matmul", [x, x], {}, np.float32)
    with pytest.raises(Unsupported, match=r"clip: low of shape \(2,\)"):
        lower(b, "clip", [x], {"low": np.zeros(2), "high": None}, np.float32)
    n = b.load(1, np.int64)
    with pytest.raises(Unsupported, match="power: integers need an exponent"):
        lower(b, "power", [n, n], {}, np.int64)
    with pytest.raises(Unsupported, match="float16"):
        lower(b, "exp", [b.load(2, np.int8)], {}, np.float16)


# -- comparing --------------------------------------------------------------------------------


def specials(dtype: Any) -> list[float]:
    info = np.finfo(dtype)
    sizes = [0.0, 1.0, 0.5, 2.0, 3.0, 1e-3, 1e-9, 0.9999, 20.0, 87.0, 104.0, 710.0, 750.0, 1e5,
             1e10, 2.0**24 - 1, 2.0**52 + 1, info.max, info.max / 4, info.tiny, info.tiny * 3,
             info.smallest_subnormal, info.tiny / 7, np.inf]  # fmt: skip
    return [*sizes, *[-x for x in sizes], np.nan]


def over_domain(op: Any, dtype: Any, seed: int = 0) -> list[Array]:
    """The operation's domain, then combinations of special values."""
    rng = np.random.default_rng(seed)
    domain = op.facts.domain or [(-20.0, 20.0)] * op.arity
    inside = [rng.uniform(low, high, 300) for low, high in domain]
    sizes = [np.ldexp(rng.uniform(-1, 1, 100), rng.integers(-40, 12, 100)) for _ in domain]
    special = specials(dtype)
    if op.arity == 1:
        odd = [np.array(special)]
    elif op.arity == 2:
        odd = list(np.array(list(itertools.product(special, special))).T)
    else:
        some = [0.0, -0.0, 1.0, -3.0, np.inf, np.nan]
        odd = list(np.array(list(itertools.product(some, repeat=op.arity))).T)
    with np.errstate(over="ignore"):
        return [
            np.concatenate(parts).astype(dtype) for parts in zip(inside, sizes, odd, strict=True)
        ]


def ulps(got: Array, expected: Array) -> Array:
    """The distance in units of the expected number's last place; 0 where both are NaN, or equal."""
    wide = np.longdouble
    with np.errstate(all="ignore"):
        unit = np.spacing(np.abs(expected)).astype(wide)
        error = np.abs(got.astype(wide) - expected.astype(wide)) / unit
    same = (got == expected) | (np.isnan(got) & np.isnan(expected))
    return np.where(same, 0.0, np.where(np.isfinite(error), error, np.inf)).astype(np.float64)


MP: dict[str, Callable[..., Any]] = {
    "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
    "silu": lambda x: x / (1 + mpmath.exp(-x)),
    "softplus": lambda x: mpmath.log1p(mpmath.exp(x)),
    "sech2": lambda x: mpmath.sech(x) ** 2,
    "gelu": lambda x: x * mpmath.erfc(-x / mpmath.sqrt(2)) / 2,
    "power": mpmath.power,
    "arcsin": mpmath.asin,
    "arccos": mpmath.acos,
    "arctan": mpmath.atan,
    "log2": lambda x: mpmath.log(x, 2),
}


def truth(name: str, operands: Sequence[Array], place: int, dtype: Any) -> float:
    """The function itself, where NumPy's value does not settle the matter."""
    with mpmath.workdps(60):
        arguments = [mpmath.mpf(float(x[place])) for x in operands]
        value = MP.get(name, getattr(mpmath, name, None))(*arguments)  # type: ignore[misc]
        return float(dtype(float(value))) if mpmath.im(value) == 0 else np.nan


def check(op: Any, operands: Sequence[Array], got: Array, params: Mapping[str, Any]) -> None:
    with np.errstate(all="ignore"):
        expected = np.asarray(op.value(*operands, **params))
    assert got.dtype == expected.dtype
    if op.name in EXACT or expected.dtype.kind != "f":
        np.testing.assert_array_equal(got, expected)
        signs = (expected == 0) & (np.signbit(got) != np.signbit(expected))
        assert not signs.any(), [x[signs][:3] for x in operands]
        return
    error = ulps(got, expected)
    for place in np.flatnonzero(error > ULP):
        right = np.array(truth(op.name, operands, int(place), got.dtype.type), got.dtype)
        error[place] = ulps(got[place], right)
    worst = int(np.argmax(error))
    at = [x[worst] for x in operands]
    assert error[worst] <= ULP, f"{op.name}{at}: {got[worst]}, expected {expected[worst]}"
    signs = (expected == 0) & (got == 0) & (np.signbit(got) != np.signbit(expected))
    assert not signs.any(), [x[signs][:3] for x in operands]


def native(name: str, operands: Sequence[Array], params: Mapping[str, Any], dtype: Any) -> Array:
    def build(b: Builder, *loads: Expr) -> list[Expr]:
        return [lower(b, name, loads, params, dtype)]

    return run_map(build, operands)[0]


FLOAT_OPS = sorted(PUBLIC - {"astype"})


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", FLOAT_OPS)
def test_on_floats(name: str, dtype: Any) -> None:
    op = registry[name]
    operands = over_domain(op, dtype)
    for params in PARAMS.get(name, [{}]):
        with np.errstate(all="ignore"):
            result = np.asarray(op.value(*operands, **params)).dtype
        check(op, operands, native(name, operands, params, result), params)


# -- integers and bools -----------------------------------------------------------------------

INTEGERS = ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?"]
# NumPy negates an unsigned |x| modulo 2ⁿ in these; the native form is the function's.
WRAPS = {"sigmoid", "silu", "softplus", "sech2", "gelu"}


def integers(dtype: Any, count: int, seed: int) -> Array:
    rng = np.random.default_rng(seed)
    if dtype.kind == "b":
        return rng.integers(0, 2, count).astype(bool)
    limits = np.iinfo(dtype)
    x = rng.integers(max(-9, limits.min), 9, count).astype(dtype)
    x[:4] = [limits.max, limits.min, 0, limits.max - 1]
    return x


@pytest.mark.parametrize("name", sorted(PUBLIC - {"astype", "where", "clip"}))
def test_on_integers_and_bools_as_far_as_numpy_takes_them(name: str) -> None:
    op = registry[name]
    taken: list[tuple[list[Array], Array]] = []
    for kinds in itertools.product(INTEGERS if op.arity == 1 else ["i4", "u8", "i8", "?"],
                                   repeat=op.arity):  # fmt: skip
        dtypes = [np.dtype(k) for k in kinds]
        if name in WRAPS and any(t.kind == "u" for t in dtypes):
            continue
        operands = [integers(t, 60, seed) for seed, t in enumerate(dtypes)]
        try:
            with np.errstate(all="ignore"):
                expected = np.asarray(op.value(*operands, **PARAMS.get(name, [{}])[0]))
        except (TypeError, ValueError, OverflowError):
            continue  # NumPy has no such operation
        if expected.dtype == np.float16:
            with pytest.raises(Unsupported):
                lower(b := Builder(), name, [b.load(0, dtypes[0])], {}, np.float16)
            continue
        if name == "power" and expected.dtype.kind in "iu":
            continue
        taken.append((operands, expected))
    assert taken or name in {"power"}
    params = PARAMS.get(name, [{}])[0]
    for operands, expected in taken:
        got = native(name, operands, params, expected.dtype)
        check(op, operands, got, params)


@pytest.mark.parametrize("exponent", [0, 1, 2, 3, 7])
def test_whole_powers_of_integers(exponent: int) -> None:
    x = integers(np.dtype("i4"), 50, 0)
    (got,) = run_map(
        lambda b, n: [
            lower(b, "power", [n, b.const(exponent, "i8")], {}, "i4", weak=[False, True])
        ],
        [x],
    )
    np.testing.assert_array_equal(got, x**exponent)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("exponent", [0, 1, 2, 3, 4, -1, 0.5, 1.5, -2, 10, np.inf])
def test_powers_with_a_constant_exponent(exponent: float, dtype: Any) -> None:
    x = np.array([*specials(dtype), *np.random.default_rng(0).normal(0, 3, 60)]).astype(dtype)
    (got,) = run_map(
        lambda b, v: [
            lower(b, "power", [v, b.const(exponent, "f8")], {}, dtype, weak=[False, True])
        ],
        [x],
    )
    with np.errstate(all="ignore"):
        error = ulps(got, x ** float(exponent))
    assert error.max() <= ULP, x[np.argmax(error)]
    with np.errstate(all="ignore"):
        zero = x ** float(exponent) == 0
        np.testing.assert_array_equal(np.signbit(got)[zero], np.signbit(x ** float(exponent))[zero])


@pytest.mark.parametrize("low", [None, -3, 2, -1000])
@pytest.mark.parametrize("high", [None, 5, 2**40])
@pytest.mark.parametrize("dtype", ["i1", "u1", "i4", "i8"])
def test_integers_are_clipped_by_bounds_that_they_cannot_hold(
    dtype: str, low: int | None, high: int | None
) -> None:
    x = integers(np.dtype(dtype), 40, 0)
    got = native("clip", [x], {"low": low, "high": high}, x.dtype)
    np.testing.assert_array_equal(got, np.clip(x, low, high))


# -- promotion --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["add", "divide", "maximum", "power", *COMPARISONS])
@pytest.mark.parametrize(
    ("array", "number"),
    [("f4", 0.1), ("f8", 0.1), ("i4", 0.1), ("f4", 3), ("u1", 3), ("?", 2), ("f4", True),
     ("i8", 2**40), ("u1", 300), ("i1", -129), ("u8", -1)],
)  # fmt: skip
def test_python_numbers_take_the_dtype_of_what_they_meet(
    name: str, array: str, number: float
) -> None:
    op = registry[name]
    x = np.array([0.1, 0, 1, 2, 3, 0.5, 7, 255, 300], "f8").astype("u1").astype(array)
    if array.startswith("f"):
        x = np.array([0.1, 0, 1, 2, 3, 0.5, 7, -0.1, 0.30000001192], array)
    for flipped in (False, True):
        pair: list[Any] = [number, x] if flipped else [x, number]
        try:
            with np.errstate(all="ignore"):
                expected = np.asarray(op.value(*pair))
        except (OverflowError, ValueError):
            assert name not in COMPARISONS
            continue
        if name == "power" and (expected.dtype.kind != "f" or flipped):
            continue

        def build(
            b: Builder, v: Expr, flipped: bool = flipped, dtype: Any = expected.dtype
        ) -> list[Expr]:
            c = b.const(number, np.asarray(number).dtype)
            args, weak = ([c, v], [True, False]) if flipped else ([v, c], [False, True])
            return [lower(b, name, args, {}, dtype, weak=weak)]

        (got,) = run_map(build, [x])
        if name == "power":
            assert ulps(got, expected).max() <= ULP
        else:
            np.testing.assert_array_equal(got, expected, strict=True)


def test_arrays_of_two_dtypes_promote_as_numpy_does() -> None:
    rng = np.random.default_rng(0)
    pairs = [("f4", "f8"), ("i4", "f4"), ("?", "f4"), ("i8", "u8"), ("u1", "i1"), ("u4", "i4")]
    for first, second in pairs:
        x = (rng.normal(0, 3, 40)).astype("i8").astype(first)
        y = (rng.normal(0, 3, 40)).astype("i8").astype(second)
        for pair in ([x, y], [y, x]):
            for name in ["add", "multiply", "where", *COMPARISONS]:
                operands = [pair[0] > 0, *pair] if name == "where" else pair
                expected = np.asarray(registry[name].value(*operands))
                got = native(name, operands, {}, expected.dtype)
                np.testing.assert_array_equal(got, expected, strict=True)


def test_signed_and_unsigned_of_64_bits_compare_exactly() -> None:
    signed = np.array([-1, 0, 5, 2**63 - 1, -(2**63), 2**53 + 1, 7], "i8")
    unsigned = np.array([2**64 - 1, 0, 5, 2**63, 2**63, 2**53, 8], "u8")
    for name in COMPARISONS:
        for x, y in itertools.product([signed, unsigned], repeat=2):
            x, y = x.repeat(len(y)), np.tile(y, len(x))
            expected = registry[name].value(x, y)
            np.testing.assert_array_equal(native(name, [x, y], {}, bool), expected)


@pytest.mark.parametrize("source", ["f4", "f8", "i1", "i4", "i8", "u1", "u8", "?"])
def test_astype(source: str) -> None:
    x = np.array([0.0, 1.0, 2.7, 100.4, 3.0, 5.5, 0.3, 127.0]).astype(source)
    if source[0] in "fi":
        x = np.concatenate([x, -x])
    for result in ["f4", "f8", "i1", "i4", "i8", "u8", "?"]:
        if result == "u8" and source[0] == "f":
            x = abs(x)  # of a negative float, NumPy's answer is the machine's
        dtype = np.dtype(result)
        got = native("astype", [x], {"dtype": dtype}, dtype)
        np.testing.assert_array_equal(got, x.astype(dtype), strict=True)


def test_elu_computes_in_the_precision_of_its_input() -> None:
    x = np.linspace(-5, 5, 50).astype(np.float32)
    wide = np.float64(1.1)
    got = native("elu", [x], {"alpha": wide}, np.float64)
    np.testing.assert_allclose(got, registry["elu"].value(x, wide), rtol=8 * 2**-23)
    assert got.dtype == np.float64


# -- what is shared ---------------------------------------------------------------------------


def test_a_sigmoid_and_its_derivative_share_one_exponential_and_one_quotient() -> None:
    b = Builder()
    x = b.load(0, np.float32)
    s = lower(b, "sigmoid", [x], {}, np.float32)
    minus = lower(b, "sigmoid", [b.neg(x)], {}, np.float32)
    softplus = lower(b, "softplus", [b.neg(x)], {}, np.float32)
    ops = [n.op for n in walk([s, minus, b.mul(s, minus), softplus])]
    assert (ops.count("exp"), ops.count("div"), ops.count("mul")) == (1, 1, 2)


def test_sigmoid_stays_small_where_its_textbook_derivative_is_lost() -> None:
    x = np.array([-80.0, -20.0, 0.0, 20.0, 80.0], np.float32)

    def build(b: Builder, v: Expr) -> list[Expr]:
        return [
            b.mul(
                lower(b, "sigmoid", [v], {}, np.float32),
                lower(b, "sigmoid", [b.neg(v)], {}, np.float32),
            )
        ]

    (got,) = run_map(build, [x])
    exact = 1 / (2 * np.cosh(x.astype(np.float64) / 2)) ** 2
    np.testing.assert_allclose(got, exact, rtol=1e-6)


# -- random bits ------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.999999])
@pytest.mark.parametrize("dtype", ["u8", "i8"])
def test_keep_bits_are_those_of_the_operation(rate: float, dtype: str) -> None:
    for key in [0, 1, 0x123456789ABCDEF, 2**63 - 1]:
        index = np.arange(1000, dtype=np.int64)
        keys = np.full(1000, key, dtype)
        (got,) = run_map(lambda b, k, i: [keep_bits(b, k, i, rate)], [keys, index])
        np.testing.assert_array_equal(got, registry["keep"].value(key, (1000,), rate=rate))
