"""The vector functions against 50-digit values, on every special value, and with no C library."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainrule.compiler.emit import F32, F64, I64, PTR, Module, Type
from chainrule.compiler.functions import CHEAP, FUNCTIONS, call
from chainrule.compiler.target import KINDS, Target, target_for

llvm = pytest.importorskip("llvmlite.binding")

ONE = [name for name in FUNCTIONS if name != "power"]
TIGHT = {"exp", "log", "sqrt"}
CIRCULAR = {"sin", "cos", "tan"}
DTYPE: dict[str, Any] = {"float": np.float32, "double": np.float64}
BASES = pytest.mark.parametrize("base", [F32, F64], ids=["float32", "float64"])

MP = mpmath.mp.clone()
MP.prec = 170


def near_zero(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """f(x) = x + O(x²) to every digit asked for here where mpmath's own cancels."""
    return lambda x: function(x) if abs(x) > MP.mpf(2) ** -140 else x


EXACT: dict[str, Callable[[Any], Any]] = {
    "exp": MP.exp,
    "expm1": near_zero(MP.expm1),
    "log": MP.log,
    "log1p": near_zero(MP.log1p),
    "log2": lambda x: MP.log(x) / MP.ln2,
    "log10": lambda x: MP.log(x) / MP.ln10,
    "sigmoid": lambda x: 1 / (1 + MP.exp(-x)),
    "tanh": near_zero(MP.tanh),
    "softplus": lambda x: max(x, MP.mpf(0)) + near_zero(MP.log1p)(MP.exp(-abs(x))),
    "sech2": lambda x: MP.sech(x) ** 2,
    "erf": MP.erf,
    "erfc": MP.erfc,
    "sin": MP.sin,
    "cos": MP.cos,
    "tan": MP.tan,
    "sinh": near_zero(MP.sinh),
    "cosh": MP.cosh,
    "arcsin": MP.asin,
    "arccos": MP.acos,
    "arctan": MP.atan,
    "sqrt": MP.sqrt,
}
DOMAIN = {
    **dict.fromkeys(("log", "log2", "log10"), (0.0, np.inf)),
    "sqrt": (0.0, np.inf),
    "log1p": (-1.0, np.inf),
    **dict.fromkeys(("arcsin", "arccos"), (-1.0, 1.0)),
    **dict.fromkeys(CIRCULAR, (-1e5, 1e5)),
}
# f(0), f(−0), f(∞), f(−∞); where f(±0) = ±0 the sign is compared too.
ENDS: dict[str, tuple[float, float, float, float]] = {
    "exp": (1, 1, np.inf, 0),
    "expm1": (0.0, -0.0, np.inf, -1),
    "log": (-np.inf, -np.inf, np.inf, np.nan),
    "log1p": (0.0, -0.0, np.inf, np.nan),
    "log2": (-np.inf, -np.inf, np.inf, np.nan),
    "log10": (-np.inf, -np.inf, np.inf, np.nan),
    "sigmoid": (0.5, 0.5, 1, 0),
    "tanh": (0.0, -0.0, 1, -1),
    "softplus": (np.log(2), np.log(2), np.inf, 0),
    "sech2": (1, 1, 0, 0),
    "erf": (0.0, -0.0, 1, -1),
    "erfc": (1, 1, 0, 2),
    "sin": (0.0, -0.0, np.nan, np.nan),
    "cos": (1, 1, np.nan, np.nan),
    "tan": (0.0, -0.0, np.nan, np.nan),
    "sinh": (0.0, -0.0, np.inf, -np.inf),
    "cosh": (1, 1, np.inf, np.inf),
    "arcsin": (0.0, -0.0, np.nan, np.nan),
    "arccos": (np.pi / 2, np.pi / 2, np.nan, np.nan),
    "arctan": (0.0, -0.0, np.pi / 2, -np.pi / 2),
    "sqrt": (0.0, -0.0, np.inf, np.nan),
}


# -- running it -------------------------------------------------------------------------------


@cache
def host() -> Target:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    features = llvm.get_host_cpu_features().flatten()
    return target_for(llvm.get_default_triple(), llvm.get_host_cpu_name(), features)


def targets() -> dict[str, Target]:
    """This machine, and the same without fused multiply-add."""
    found = {"host": host()}
    if host().is_x86:
        found["plain"] = Target(host().triple, "x86-64", "", KINDS["plain"])
    return found


def modules(names: Sequence[str], kind: Type, target: Target, inline: bool = False) -> Module:
    """For each name `run_name(out, x, y, n)`: a loop over n numbers, a multiple of the lanes."""
    module = Module(target)
    for name in names:
        pointers = [(PTR, f"{letter} noalias") for letter in ("out", "x", "y")]
        fn = module.function(f"run_{name}", [*pointers, (I64, "n")], internal=False)
        out, x, y, count = fn.arguments
        inputs = (x, y) if name == "power" else (x,)

        def body(i: Any, _: Any, fn=fn, name=name, out=out, inputs=inputs) -> None:  # type: ignore[no-untyped-def]
            operands = [fn.load(fn.at(source, i, kind), kind) for source in inputs]
            fn.store(call(fn, name, *operands, inline=inline), fn.at(out, i, kind))

        fn.loop(count, [], body, step=max(1, kind.lanes))
        fn.finish()
    return module


class Native:
    """The functions in one type for one target, on arrays."""

    def __init__(self, names: Sequence[str], kind: Type, target: Target, inline: bool) -> None:
        self.kind = kind
        parsed = llvm.parse_assembly(modules(names, kind, target, inline).text())
        parsed.verify()
        machine = llvm.Target.from_triple(target.triple).create_target_machine(
            cpu=target.cpu, features=target.features, opt=3
        )
        self.engine = llvm.create_mcjit_compiler(parsed, machine)
        self.engine.finalize_object()

    def __call__(self, name: str, x: Any, y: Any = 0.0) -> Any:
        dtype, lanes = DTYPE[self.kind.base], max(1, self.kind.lanes)
        x, y = np.broadcast_arrays(np.asarray(x, dtype).ravel(), np.asarray(y, dtype))
        padded = np.zeros((3, -(-x.size // lanes) * lanes), dtype)
        padded[1, : x.size], padded[2, : x.size] = x, y
        address = self.engine.get_function_address(f"run_{name}")
        run = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 3, ctypes.c_int64)(address)
        run(*(row.ctypes.data for row in padded), padded.shape[1])
        return padded[0, : x.size]


@cache
def native(base: Type, where: str = "host", width: int = 1, inline: bool = False) -> Native:
    """All functions; `width` in the target's vectors, 0 for a scalar."""
    target = targets()[where]
    return Native(list(FUNCTIONS), base.of(target.lanes(base.bits) * width), target, inline)


WHERE = pytest.mark.parametrize("where", ["host", "plain"])


@pytest.fixture(autouse=True)
def _skip_missing(request: pytest.FixtureRequest) -> None:
    where = getattr(request.node, "callspec", None) and request.node.callspec.params.get("where")
    if where and where not in targets():
        pytest.skip(f"this machine has no target {where!r}")


# -- how far from the truth ---------------------------------------------------------------------


def ulps(got: float, exact: Any, dtype: Any) -> float:
    """|got − exact| in units of the last place of a result that is rounded rightly."""
    info = np.finfo(dtype)
    digits, lowest = info.nmant + 1, info.minexp - info.nmant
    if np.isnan(got):
        return np.inf
    if np.isinf(got):
        edge = MP.mpf(2) ** info.maxexp * (1 - MP.mpf(2) ** (-digits - 1))
        return 0.0 if abs(exact) >= edge and (got > 0) == (exact > 0) else np.inf
    exponent = MP.frexp(abs(exact))[1] - digits if exact else lowest
    return float(abs(MP.mpf(float(got)) - exact) / MP.mpf(2) ** max(exponent, lowest))


@cache
def samples(name: str, base: Type, count: int = 90) -> tuple[Any, list[Any]]:
    """Arguments over every exponent, near the breakpoints and at the ends; the true values."""
    dtype, random = DTYPE[base.base], np.random.default_rng(sum(map(ord, name)))
    info = np.finfo(dtype)
    top = float(-np.log(info.smallest_subnormal))
    edges = np.array([0.5, 0.75, 1, 2, 2**0.5, 2**0.5 - 1, 2**0.5 + 1, 2 / 3, 4 / 3, np.log(2) / 2])
    turns = random.integers(1, 63000, count) * (np.pi / 2)
    bounds = [np.log(float(info.max)), np.log(2 * float(info.max)), -np.log(float(info.tiny)), top]
    raw = np.concatenate(
        [
            2.0 ** random.uniform(info.minexp - info.nmant, info.maxexp, 4 * count),
            *(random.uniform(0, high, count) for high in (0.7, 2, 4, 11, 30, top)),
            edges,
            np.repeat(edges, 12) * (1 + random.normal(0, 20 * float(info.eps), 12 * edges.size)),
            np.repeat(bounds, 8) * (1 + random.normal(0, 20 * float(info.eps), 8 * 4)),
            turns,
            [float(info.max), float(info.tiny), float(info.smallest_subnormal)],
        ]
    )
    raw = np.concatenate([raw, -raw])
    with np.errstate(over="ignore"):
        x = raw.astype(dtype)
    low, high = DOMAIN.get(name, (-np.inf, np.inf))
    # mpmath cannot go where the result leaves every range: those are ends, tested beside.
    if name in {"exp", "expm1", "sinh", "cosh", "sigmoid", "softplus", "sech2", "tanh", "erf"}:
        low, high = -1.2 * top, 1.2 * top
    if name == "erfc":
        low, high = -30.0, 30.0
    x = x[(x > low) & (x < high) | (np.abs(x) == 1) & (abs(low) == 1) & (high == 1)]
    return x, [EXACT[name](MP.mpf(float(value))) for value in x]


@BASES
@WHERE
@pytest.mark.parametrize("name", ONE)
def test_within_the_promised_ulps_of_the_true_value(name: str, base: Type, where: str) -> None:
    x, exact = samples(name, base)
    assert len(x) > 300
    got = native(base, where)(name, x)
    errors = [ulps(g, e, DTYPE[base.base]) for g, e in zip(got, exact, strict=True)]
    worst = int(np.argmax(errors))
    bound = 2.0 if name in TIGHT else 4.0
    assert errors[worst] <= bound, (
        f"{name}({x[worst]!r}) = {got[worst]!r}, off by {errors[worst]:.2f} ulp"
    )


@BASES
@pytest.mark.parametrize("name", ONE)
def test_every_width_and_the_scalar_give_the_same_bits(name: str, base: Type) -> None:
    x = np.concatenate([samples(name, base)[0], [0.0, -0.0, np.inf, -np.inf, np.nan, 3e5, -7e8]])
    one = native(base)(name, x)
    for width, inline in ((2, False), (0, False), (1, True)):
        again = native(base, width=width, inline=inline)(name, x)
        np.testing.assert_array_equal(again, one)
        real = ~np.isnan(one)
        np.testing.assert_array_equal(np.signbit(again[real]), np.signbit(one[real]))


@BASES
@WHERE
@pytest.mark.parametrize("name", ONE)
def test_zeros_infinities_and_nan(name: str, base: Type, where: str) -> None:
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan])
    got = native(base, where)(name, x)
    expected = np.array([*ENDS[name], np.nan], DTYPE[base.base])
    np.testing.assert_array_max_ulp(got[~np.isnan(expected)], expected[~np.isnan(expected)], 2)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(expected))
    if ENDS[name][0] == 0:
        np.testing.assert_array_equal(np.signbit(got[:2]), [False, True])


@BASES
@pytest.mark.parametrize("name", sorted(set(DOMAIN) - CIRCULAR))
def test_nan_outside_the_domain(name: str, base: Type) -> None:
    low, high = DOMAIN[name]
    dtype = DTYPE[base.base]
    outside = [np.nextafter(dtype(low), dtype(-np.inf)), dtype(-2.5), np.finfo(dtype).min]
    if high == 1.0:
        outside += [np.nextafter(dtype(1), dtype(2)), np.finfo(dtype).max]
    assert np.isnan(native(base)(name, outside)).all()
    if name == "log1p":
        assert native(base)(name, [-1.0])[0] == -np.inf


@BASES
def test_what_saturates_does_so_exactly_and_never_overshoots(base: Type) -> None:
    run, x = native(base), np.linspace(0, 60, 20001)
    for name in ("tanh", "erf", "sigmoid"):
        y = run(name, x)
        assert (y <= 1).all()
        assert y[-1] == 1
    assert (run("sech2", x)[x < 40] > 0).all(), "small must not be rounded to zero"
    assert (run("sigmoid", -x) > 0).all()


@BASES
def test_exact_where_a_reader_expects_it(base: Type) -> None:
    run, powers = native(base), np.arange(-120, 121)
    np.testing.assert_array_equal(run("log2", 2.0**powers), powers)
    np.testing.assert_array_equal(run("exp", [0.0]), [1.0])
    np.testing.assert_array_equal(run("arccos", [1.0]), [0.0])
    np.testing.assert_array_equal(run("log", [1.0]), [0.0])


# -- beyond the reduction, and powers -------------------------------------------------------------


@BASES
@WHERE
@pytest.mark.parametrize("name", sorted(CIRCULAR))
def test_large_angles_take_the_library_and_leave_their_neighbours(
    name: str, base: Type, where: str
) -> None:
    dtype, run = DTYPE[base.base], native(base, where)
    near = np.linspace(-99999, 99999, 32).astype(dtype)
    mixed = np.stack([near, near * dtype(1e7)], axis=1).ravel()
    got = run(name, mixed)
    np.testing.assert_array_equal(got[::2], run(name, near))
    for value, result in zip(mixed[1::2], got[1::2], strict=True):
        assert ulps(result, EXACT[name](MP.mpf(float(value))), dtype) <= 4


SPECIAL = [0.0, 1.0, 2.0, 3.0, 0.5, 1 / 3, np.inf, 1e-45, 3.4e38, 1e30, 2.0**24 - 1, 2.0**31]
SPECIAL += [8388609.0, 0.99999994, 1.0000001]


@BASES
@WHERE
def test_power_has_numpys_special_cases(base: Type, where: str) -> None:
    dtype = DTYPE[base.base]
    values = np.array([*SPECIAL, *(-v for v in SPECIAL), np.nan], dtype)
    x, y = (grid.ravel() for grid in np.meshgrid(values, values))
    with np.errstate(all="ignore"):
        expected = np.power(x.astype(np.float64), y.astype(np.float64)).astype(dtype)
    got = native(base, where)("power", x, y)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(expected))
    real = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(got[real]), np.signbit(expected[real]))
    np.testing.assert_array_max_ulp(got[real], expected[real], 1)


@BASES
@WHERE
def test_power_within_four_ulp(base: Type, where: str) -> None:
    dtype, random = DTYPE[base.base], np.random.default_rng(7)
    top = float(np.log(np.finfo(dtype).max))
    x = np.exp(random.uniform(-top, top, 600)).astype(dtype)
    y = (random.uniform(-1.1, 1.1, 600) * top / np.maximum(np.abs(np.log(x)), 1e-3)).astype(dtype)
    x[::3], y[::3] = -x[::3], np.round(y[::3])
    got = native(base, where)("power", x, y)
    for a, b, result in zip(x, y, got, strict=True):
        exact = MP.power(MP.mpf(float(a)), MP.mpf(float(b)))
        assert ulps(result, exact.real, dtype) <= 4, f"{a!r} ** {b!r} = {result!r}"


# -- what they are as functions of real numbers ---------------------------------------------------


@given(st.lists(st.floats(width=32), min_size=1, max_size=20))
def test_symmetries_hold_to_the_bit(values: list[float]) -> None:
    run, x = native(F32), np.array(values, np.float32)
    for name in ("tanh", "erf", "sinh", "arctan", "sin", "tan", "arcsin"):
        np.testing.assert_array_equal(run(name, -x), -run(name, x))
    for name in ("cosh", "cos", "sech2"):
        np.testing.assert_array_equal(run(name, -x), run(name, x))


# -- what is emitted --------------------------------------------------------------------------


CROSS = {
    "avx512": ("x86_64-unknown-linux-gnu", "znver4", "+avx512f,+avx512vl,+avx512dq,+avx512bw"),
    "neon": ("arm64-apple-darwin", "apple-m1", ""),
    "plain": ("x86_64-unknown-linux-gnu", "x86-64", ""),
}


def callees(assembly: str) -> set[str]:
    """The names that are called or jumped to, without the shared functions and local labels."""
    assert not re.search(r"callq?\s+[*]|blr\s", assembly), "a call through a register has no name"
    found = re.findall(r"^\s+(?:callq?|jmp|bl|b)\s+([A-Za-z_][\w.@$]*)", assembly, re.MULTILINE)
    return {
        name.lstrip("_").split("@")[0] for name in found if not re.search(r"[.]v?\d*f\d\d", name)
    }


@BASES
@pytest.mark.parametrize("kind", sorted(CROSS))
def test_no_library_calls_but_the_named_ones(kind: str, base: Type) -> None:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    triple, cpu, features = CROSS[kind]
    target = target_for(triple, cpu, features)
    assert target.kind.name == kind
    machine = llvm.Target.from_triple(triple).create_target_machine(
        cpu=cpu,
        features=features,
        opt=3,
        codemodel="small",  # names the callee in the call itself
    )
    allowed = {"float": {"sinf", "cosf", "tanf"}, "double": {"sin", "cos", "tan", "pow"}}[base.base]
    lanes = target.lanes(base.bits)
    module = modules(list(FUNCTIONS), base.of(lanes), target)
    assert callees(machine.emit_assembly(llvm.parse_assembly(module.text()))) == allowed
    inlined = modules(sorted(CHEAP), base.of(lanes), target, inline=True)
    assert callees(machine.emit_assembly(llvm.parse_assembly(inlined.text()))) == set()


def test_a_shared_function_is_emitted_once_a_type() -> None:
    module = modules(["tanh", "erf"], F32.of(8), host())
    fn = module.function("again", [(F32.of(8), "x"), (F32, "y")], F32.of(8))
    x, y = fn.arguments
    call(fn, "tanh", call(fn, "tanh", x))
    call(fn, "tanh", y)
    fn.finish(x)
    text = module.text()
    assert text.count("define internal <8 x float> @tanh.v8f32(") == 1
    assert text.count("define internal float @tanh.f32(") == 1
    assert text.count("call <8 x float> @tanh.v8f32(") == 3
    llvm.parse_assembly(text).verify()


def test_only_the_cheap_ones_are_written_in_place() -> None:
    shared = {
        (name, base): f"@{name}." in modules([name], base.of(4), host(), inline=True).text()
        for name in FUNCTIONS
        for base in (F32, F64)
    }
    inlined = {key for key, is_shared in shared.items() if not is_shared}
    assert inlined == {(name, F32) for name in CHEAP} | {("sqrt", F64)}


# -- long -----------------------------------------------------------------------------------------


def wide(name: str, x: Any) -> Any:
    """f of a float32 array in extended precision, or float64 where there is none."""
    import scipy.special

    if name in {"erf", "erfc"}:
        return getattr(scipy.special, name)(x.astype(np.float64))
    x = x.astype(np.longdouble)
    e = np.exp(-np.abs(x))
    if name == "sigmoid":
        return np.where(x > 0, 1, e) / (1 + e)
    if name == "softplus":
        return np.maximum(x, 0) + np.log1p(e)
    if name == "sech2":
        return (2 * e / (1 + e * e)) ** 2
    return getattr(np, name)(x)


@pytest.mark.exhaustive
@WHERE
@pytest.mark.parametrize("name", ONE)
def test_sixteen_million_float32(name: str, where: str) -> None:
    bound = 2.0 if name in TIGHT else 4.0
    for start in range(0, 2**32, 2**28):
        bits = np.arange(start + start // 2**28, start + 2**28, 256, dtype=np.uint64)
        x = bits.astype(np.uint32).view(np.float32)
        low, high = DOMAIN.get(name, (-np.inf, np.inf))
        x = x[(x >= low) & (x <= high)]
        if not x.size:
            continue
        got = native(F32, where)(name, x)
        with np.errstate(all="ignore"):
            exact = wide(name, x)
            rounded = exact.astype(np.float32)
            unit = np.ldexp(1.0, np.maximum(np.frexp(np.abs(exact))[1] - 24, -149))
            error = np.where(got == rounded, 0, np.abs(got - exact) / unit)
        worst = int(np.argmax(np.where(np.isnan(error), np.inf, error)))
        assert error[worst] <= bound, f"{name}({x[worst]!r}) = {got[worst]!r}: {error[worst]} ulp"
