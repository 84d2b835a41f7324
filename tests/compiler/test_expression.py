"""Scalar expressions: made once, folded exactly, and computed as NumPy computes them."""

from __future__ import annotations

import time
from typing import Any

import llvmlite.binding as llvm
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chainrule.compiler.emit import Module, Value
from chainrule.compiler.expression import (
    Builder,
    Expr,
    Unsupported,
    cost,
    emit,
    llvm_type,
    loads,
    walk,
)
from chainrule.compiler.target import target_for
from native_map import host, map_module, run_map

F32, F64, I32, I64 = (np.dtype(t) for t in ("f4", "f8", "i4", "i8"))
BOOL = np.dtype(bool)

# -- made once --------------------------------------------------------------------------------


def test_equal_expressions_are_one_object() -> None:
    b = Builder()
    x, y = b.load("x", F32), b.load("y", F32)
    assert b.load("x", F32) is x
    assert b.load("x", F64) is not x
    assert b.add(x, y) is b.add(y, x)
    assert b.mul(b.exp(x), y) is b.mul(y, b.exp(x))
    assert b.sub(x, y) is not b.sub(y, x)
    assert b.gt(x, y) is b.lt(y, x)
    assert b.const(1, F32) is b.const(1.0, F32)
    assert b.const(0.0, F32) is not b.const(-0.0, F32)
    assert b.const(np.nan, F32) is b.const(np.nan, F32)


def test_a_common_subexpression_is_written_once() -> None:
    b = Builder()
    x = b.load("x", F32)
    root = b.sqrt(b.add(x, b.const(1, F32)))
    module = Module(host())
    fn = module.function("f", [])
    asked: list[Any] = []

    def load(key: Any, dtype: Any) -> Value:
        asked.append((key, dtype))
        return fn.const(3, llvm_type(dtype).of(8))

    memo: dict[Expr, Value] = {}
    first = emit(fn, [b.mul(root, root), root], load, 8, memo)
    assert asked == [("x", F32)]
    assert sum("llvm.sqrt" in line for line in fn.lines) == 1
    written = len(fn.lines)
    assert emit(fn, [root], load, 8, memo) == [first[1]]
    assert len(fn.lines) == written


def test_deep_expressions_need_no_recursion() -> None:
    b = Builder()
    x = b.load("x", F64)
    deep = x
    for k in range(20_000):
        deep = b.add(b.mul(deep, x), b.const(k, F64))
    start = time.perf_counter()
    assert cost(deep) == 40_001
    assert loads(deep) == ["x"]
    fn = Module(host()).function("f", [])
    emit(fn, [deep], lambda key, dtype: fn.const(2, llvm_type(dtype)), 0)
    assert len(fn.lines) == 40_001  # with the block's label
    assert time.perf_counter() - start < 20
    assert "add" in repr(deep)
    del deep, b  # thousands deep: their deallocation must not overflow the stack either


def test_what_is_asked_of_an_expression() -> None:
    b = Builder()
    x, y = b.load(("a", 1), F32), b.load("y", BOOL)
    e = b.select(y, b.div(b.exp(x), b.sqrt(x)), x)
    assert loads(e) == ["y", ("a", 1)]
    assert [n.op for n in walk([e])] == ["load", "load", "exp", "sqrt", "div", "select"]
    assert cost(b.exp(x)) > cost(b.div(x, b.sqrt(x))) > cost(b.mul(x, x)) > 0
    assert cost(b.const(2, F32)) == 0


# -- what may not be built --------------------------------------------------------------------


def test_unsupported_names_the_operation_and_the_reason() -> None:
    b = Builder()
    with pytest.raises(Unsupported, match="float16: native code computes in float32"):
        b.load("x", np.float16)
    with pytest.raises(Unsupported, match="complex128"):
        llvm_type(np.complex128)
    with pytest.raises(Unsupported, match="byte"):
        llvm_type(np.dtype(np.float32).newbyteorder())
    with pytest.raises(Unsupported, match="sqrt: int32 has no native form") as caught:
        b.sqrt(b.load("n", I32))
    assert caught.value.op == "sqrt"
    with pytest.raises(Unsupported):
        b.cast(b.load("y", F32), np.float16)
    with pytest.raises(Unsupported, match="neg: bool"):
        b.neg(b.load("m", BOOL))


def test_mixed_dtypes_and_impossible_shifts_are_refused() -> None:
    b = Builder()
    with pytest.raises(TypeError, match="add: operands of float32, float64; cast"):
        b.add(b.load("x", F32), b.load("y", F64))
    with pytest.raises(ValueError, match="shift by 32 does not fit int32"):
        b.shl(b.load("n", I32), b.const(32, I32))
    with pytest.raises(ValueError, match=r"got shape \(2,\)"):
        b.const([1, 2], F32)


# -- identities -------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [F32, F64])
def test_identities_that_ieee_keeps(dtype: Any) -> None:
    b = Builder()
    x, y, p = b.load("x", dtype), b.load("y", dtype), b.load("p", BOOL)

    def c(value: Any) -> Expr:
        return b.const(value, dtype)

    assert b.mul(x, c(1)) is x
    assert b.mul(c(-1), x) is b.neg(x)
    assert b.div(x, c(1)) is x
    assert b.div(x, c(4)) is b.mul(x, c(0.25))
    assert b.sub(x, c(0.0)) is x
    assert b.add(x, c(-0.0)) is x
    assert b.sub(c(-0.0), x) is b.neg(x)
    assert b.neg(b.neg(x)) is x
    assert b.add(x, b.neg(y)) is b.sub(x, y)
    assert b.sub(x, b.neg(y)) is b.add(x, y)
    assert b.mul(b.neg(x), b.neg(y)) is b.mul(x, y)
    assert b.mul(b.neg(x), c(3)) is b.mul(x, c(-3))
    assert b.abs(b.neg(x)) is b.abs(x)
    assert b.abs(b.abs(x)) is b.abs(x)
    assert b.maximum(x, x) is x
    assert b.ge(b.neg(x), c(0)) is b.le(x, c(-0.0))
    assert b.lt(b.neg(x), b.neg(y)) is b.gt(x, y)
    assert b.not_(b.not_(p)) is p
    assert b.not_(b.eq(x, y)) is b.ne(x, y)
    assert b.select(p, x, x) is x
    assert b.select(b.const(True, BOOL), x, y) is x
    assert b.select(b.not_(p), x, y) is b.select(p, y, x)
    assert b.select(p, b.const(True, BOOL), b.const(False, BOOL)) is p
    assert b.cast(x, dtype) is x
    assert b.cast(b.cast(p, dtype), BOOL).dtype == BOOL
    assert b.floor(b.floor(x)) is b.floor(x)


@pytest.mark.parametrize("dtype", [F32, F64])
def test_no_identity_that_ieee_breaks(dtype: Any) -> None:
    b = Builder()
    x, y = b.load("x", dtype), b.load("y", dtype)
    zero = b.const(0.0, dtype)
    assert b.add(x, zero).op == "add"  # −0 + 0 is +0
    assert b.sub(x, b.const(-0.0, dtype)).op == "sub"
    assert b.sub(zero, x).op == "sub"
    assert b.mul(x, zero).op == "mul"
    assert b.sub(x, x).op == "sub"
    assert b.eq(x, x).op == "eq"
    assert b.neg(b.sub(x, y)).op == "neg"
    assert b.not_(b.lt(x, y)).op == "not"
    assert b.div(x, b.const(3, dtype)).op == "div"
    huge = 2.0 ** (np.finfo(dtype).maxexp - 1)
    assert b.div(x, b.const(huge, dtype)).op == "div"  # 1/y is denormal
    assert b.maximum(x, y) is not b.maximum(y, x)  # of two zeros the second


def test_constants_fold_as_numpy_computes() -> None:
    b = Builder()

    def c(value: Any, dtype: Any = F32) -> Expr:
        return b.const(value, dtype)

    assert b.add(c(0.1), c(0.2)) is c(np.float32(0.1) + np.float32(0.2))
    assert b.div(c(1), c(0)) is c(np.inf)
    assert np.isnan(b.sqrt(c(-1)).payload)
    assert b.exp(c(0.5)) is c(np.exp(np.float32(0.5)))
    assert b.erfc(c(2, F64)).payload == pytest.approx(0.004677734981047266, rel=1e-14)
    assert b.add(c(200, np.uint8), c(100, np.uint8)) is c(44, np.uint8)
    assert b.shr(c(-1, I32), c(28, I32)) is c(15, I32)
    assert b.lt(c(1), c(np.nan)) is b.false
    assert b.maximum(c(0.0), c(-0.0)) is c(-0.0)
    assert b.minimum(c(-0.0), c(0.0)) is c(0.0)
    assert b.maximum(c(3), c(np.nan)) is c(np.nan)
    assert b.cast(c(2.7), I32) is c(2, I32)
    assert b.cast(c(-1, I32), np.uint64) is c(2**64 - 1, np.uint64)
    assert b.cast(c(np.nan), I32).op == "cast"  # the machine's conversion says what that is
    assert b.cast(c(np.nan), BOOL) is b.true
    assert b.isfinite(b.load("n", I32)) is b.true


# -- against NumPy ----------------------------------------------------------------------------

FLOATS = [0.0, -0.0, 1.0, -1.0, 2.0, 0.5, -3.25, 1e-5, 1e20, -1e-30, 1e30, np.inf, -np.inf, np.nan]
INTEGERS = [0, 1, -1, 2, 3, -7, 100, 2**31 - 1, -(2**31), 12345, -999, 64, 5, -2]
BOOLS = [True, False]
DTYPES = [F32, F64, I32, I64, np.dtype("u8"), np.dtype("i1"), np.dtype("u2"), BOOL]


def saturated(x: np.ndarray[Any, Any], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """What `cast` promises where NumPy's astype is left to the machine."""
    if x.dtype.kind != "f" or dtype.kind not in "iu":
        return x.astype(dtype)
    limits = np.iinfo(dtype)
    exact = [0 if np.isnan(v) else float(np.clip(v, -1e30, 1e30)) for v in x]
    return np.array([min(max(int(v), limits.min), limits.max) for v in exact], dtype)


UNARY = {"neg": "fiu", "abs": "fiub", "sqrt": "f", "floor": "fiub", "isnan": "fiub",
         "isfinite": "fiub", "not_": "iub"}  # fmt: skip
BINARY = {"add": "fiub", "sub": "fiu", "mul": "fiub", "div": "f", "maximum": "fiub",
          "minimum": "fiub", "lt": "fiub", "le": "fiub", "gt": "fiub", "ge": "fiub", "eq": "fiub",
          "ne": "fiub", "and_": "iub", "or_": "iub", "xor": "iub"}  # fmt: skip
MEANING = {
    "neg": np.negative, "abs": np.absolute, "sqrt": np.sqrt, "floor": np.floor, "isnan": np.isnan,
    "isfinite": np.isfinite, "not_": np.invert, "add": np.add, "sub": np.subtract,
    "mul": np.multiply, "div": np.divide, "lt": np.less, "le": np.less_equal, "gt": np.greater,
    "ge": np.greater_equal, "eq": np.equal, "ne": np.not_equal, "and_": np.bitwise_and,
    "or_": np.bitwise_or, "xor": np.bitwise_xor,
    "maximum": lambda x, y: np.where((x > y) | (x != x), x, y),  # NumPy's, with its tie
    "minimum": lambda x, y: np.where((x < y) | (x != x), x, y),
}  # fmt: skip


def samples(dtype: np.dtype[Any], count: int, seed: int) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(seed)
    pool: list[Any] = FLOATS if dtype.kind == "f" else INTEGERS if dtype.kind != "b" else BOOLS
    with np.errstate(over="ignore"):
        return np.array([pool[k] for k in rng.integers(0, len(pool), count)]).astype(dtype)


class Program:
    """A random program, built as expressions and computed by NumPy at once."""

    def __init__(self, data: st.DataObject, b: Builder, inputs: list[Expr], arrays: list[Any]):
        self.data, self.b = data, b
        self.pool: list[tuple[Expr, np.ndarray[Any, Any]]] = list(zip(inputs, arrays, strict=True))
        self.count = len(arrays[0])

    def pick(self, dtype: Any = None) -> tuple[Expr, np.ndarray[Any, Any]]:
        fitting = [p for p in self.pool if dtype is None or p[0].dtype == dtype]
        if fitting and (dtype is None or self.data.draw(st.integers(0, 3))):
            return fitting[self.data.draw(st.integers(0, len(fitting) - 1))]
        pool = FLOATS if dtype.kind == "f" else INTEGERS if dtype.kind != "b" else BOOLS
        value = np.array(self.data.draw(st.sampled_from(pool))).astype(dtype)[()]
        return self.b.const(value, dtype), np.full(self.count, value, dtype)

    def step(self) -> None:
        x, a = self.pick()
        kind = x.dtype.kind
        choice = self.data.draw(st.sampled_from(["unary", "binary", "binary", "select", "cast"]))
        if choice == "unary":
            op = self.data.draw(st.sampled_from([o for o in UNARY if kind in UNARY[o]]))
            made = getattr(self.b, op)(x), np.asarray(MEANING[op](a))
        elif choice == "binary":
            op = self.data.draw(st.sampled_from([o for o in BINARY if kind in BINARY[o]]))
            y, c = self.pick(x.dtype)
            if self.data.draw(st.booleans()):
                x, y, a, c = y, x, c, a
            made = getattr(self.b, op)(x, y), np.asarray(MEANING[op](a, c))
        elif choice == "select":
            p, c = self.pick(BOOL)
            y, d = self.pick(x.dtype)
            made = self.b.select(p, x, y), np.where(c, a, d)
        else:
            dtype = self.data.draw(st.sampled_from(DTYPES))
            made = self.b.cast(x, dtype), saturated(a, dtype)
        assert made[0].dtype == made[1].dtype, made
        self.pool.append(made)


@settings(max_examples=25)
@given(st.data())
@pytest.mark.parametrize("plain", [False, True])
def test_random_programs_agree_with_numpy_to_the_bit(plain: bool, data: st.DataObject) -> None:
    dtypes = data.draw(st.lists(st.sampled_from(DTYPES), min_size=2, max_size=4))
    arrays = [samples(t, 37, seed) for seed, t in enumerate(dtypes)]
    expected: list[np.ndarray[Any, Any]] = []

    def build(b: Builder, *inputs: Expr) -> list[Expr]:
        program = Program(data, b, list(inputs), arrays)
        with np.errstate(all="ignore"):
            for _ in range(data.draw(st.integers(1, 14))):
                program.step()
        results = program.pool[len(arrays) :]
        expected.extend(v for _, v in results)
        return [e for e, _ in results]

    for got, wanted in zip(run_map(build, arrays, plain=plain), expected, strict=True):
        np.testing.assert_array_equal(got, wanted)
        if wanted.dtype.kind == "f":
            zeros = wanted == 0
            np.testing.assert_array_equal(np.signbit(got[zeros]), np.signbit(wanted[zeros]))


@pytest.mark.parametrize("dtype", ["i1", "i4", "u4", "i8", "u8", "u2"])
def test_shifts_are_logical(dtype: str) -> None:
    rng = np.random.default_rng(0)
    limits = np.iinfo(dtype)
    x = rng.integers(limits.min, limits.max, 50, dtype=dtype, endpoint=True)
    by = rng.integers(0, limits.bits, 50, dtype=dtype)
    left, right, fixed = run_map(
        lambda b, p, q: [b.shl(p, q), b.shr(p, q), b.shr(p, b.const(3, dtype))], [x, by]
    )
    unsigned = f"u{x.itemsize}"
    np.testing.assert_array_equal(left, np.left_shift(x, by))
    np.testing.assert_array_equal(
        right.view(unsigned), x.view(unsigned) >> by.view(unsigned), strict=True
    )
    np.testing.assert_array_equal(fixed.view(unsigned), x.view(unsigned) >> np.array(3, unsigned))


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("dtype", [F32, F64])
def test_floor_of_every_size(dtype: Any, plain: bool) -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal(400) * 2.0 ** rng.integers(-3, 56, 400)
    exact = np.array([0.0, -0.0, 0.5, -0.5, 2**23 + 1, -(2**52) - 1, np.inf, -np.inf, np.nan])
    x = np.concatenate([x, np.rint(x), exact]).astype(dtype)
    (got,) = run_map(lambda b, p: [b.floor(p)], [x], plain=plain)
    np.testing.assert_array_equal(got, np.floor(x))
    np.testing.assert_array_equal(np.signbit(got), np.signbit(np.floor(x)))


@pytest.mark.parametrize("source", [F32, F64])
@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"])
def test_floats_become_the_nearest_integer_that_fits(source: Any, dtype: str) -> None:
    limits = np.iinfo(dtype)
    ends = np.array([limits.min, limits.max], np.float64)
    near = [ends + d for d in (-1.5, -1, -0.5, 0, 0.5, 1, 1.5)]
    x = np.concatenate([*near, ends * 0.999, ends * 2, FLOATS]).astype(source)
    (got,) = run_map(lambda b, v: [b.cast(v, dtype)], [x])
    np.testing.assert_array_equal(got, saturated(x, np.dtype(dtype)))


# -- the code ---------------------------------------------------------------------------------


def assembly(build: Any, dtype: Any, triple: str, cpu: str, features: str) -> str:
    """The code of a map of one array, for any machine."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    target = target_for(triple, cpu, features)
    b = Builder()
    module = llvm.parse_assembly(map_module(target, b, build(b, b.load(0, dtype)), 1).text())
    module.verify()
    machine = llvm.Target.from_triple(triple).create_target_machine(
        cpu=cpu, features=features, opt=3
    )
    return str(machine.emit_assembly(module))


MACHINES = {
    "avx512": (
        "x86_64-unknown-linux-gnu",
        "znver4",
        "+avx512f,+avx512vl,+avx512dq,+avx512bw,+avx2,+fma",
    ),
    "avx2": ("x86_64-unknown-linux-gnu", "haswell", "+avx2,+fma"),
    "neon": ("arm64-apple-macosx", "apple-m1", ""),
    "plain": ("x86_64-unknown-linux-gnu", "x86-64", ""),
}


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("dtype", [F32, F64])
def test_no_machine_calls_a_library_for_arithmetic(machine: str, dtype: Any) -> None:
    def build(b: Builder, x: Expr) -> list[Expr]:
        one = b.const(1, dtype)
        return [
            b.floor(x),
            b.sqrt(b.abs(x)),
            b.maximum(x, b.neg(x)),
            b.minimum(x, one),
            b.cast(x, I32),
            b.select(b.and_(b.isfinite(x), b.ge(x, one)), x, one),
        ]

    code = assembly(build, dtype, *MACHINES[machine])
    words = {line.split()[0] for line in code.splitlines() if line.strip()}
    assert not words & {"call", "callq", "bl"}


def test_a_bound_is_one_instruction() -> None:
    code = assembly(lambda b, x: [b.maximum(x, b.const(-2, F32))], F32, *MACHINES["avx2"])
    words = [line.split()[0] for line in code.splitlines() if line.strip()]
    assert words.count("vmaxps") == 1
    assert not [w for w in words if w.startswith(("vcmp", "vblend"))]
