"""Matrix products against NumPy: all transpositions, odd sizes, panels, every machine."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import chainrule as cr
from chainrule.compiler import native
from chainrule.compiler.emit import Module
from chainrule.compiler.plan import plan
from chainrule.compiler.product import split
from chainrule.compiler.program import write_entry, write_step
from chainrule.compiler.simplify import simplify
from chainrule.compiler.target import target_for
from chainrule.compiler.trace import trace

pytestmark = pytest.mark.skipif(not native.available(), reason="llvmlite is not installed")

RNG = np.random.default_rng(7)


def product(m: int, n: int, k: int, turned: tuple[bool, bool], dtype: str) -> None:
    """Compare A·B with NumPy's in double precision: each sum to a few roundings of its terms."""
    a = RNG.standard_normal((k, m) if turned[0] else (m, k)).astype(dtype)
    b = RNG.standard_normal((n, k) if turned[1] else (k, n)).astype(dtype)
    compiled = cr.compile(
        lambda a, b: (a.T if turned[0] else a) @ (b.T if turned[1] else b), strict=True
    )
    found = compiled(a, b)
    left, right = (a.T if turned[0] else a), (b.T if turned[1] else b)
    exact = left.astype(np.float64) @ right.astype(np.float64)
    bound = np.abs(left).astype(np.float64) @ np.abs(right) * np.finfo(dtype).eps * (2 + k**0.5)
    assert found.dtype == dtype
    assert (np.abs(found - exact) <= bound + np.finfo(dtype).tiny).all()


@pytest.mark.parametrize("turned", list(itertools.product((False, True), repeat=2)))
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("m", "n", "k"),
    [(1, 1, 1), (7, 5, 3), (17, 33, 9), (64, 10, 100), (50, 129, 31), (130, 48, 300), (25, 24, 1)],
)
def test_every_transposition(m: int, n: int, k: int, turned: tuple[bool, bool], dtype: str) -> None:
    product(m, n, k, turned, dtype)


@pytest.mark.parametrize("turned", [(False, False), (True, True)])
def test_deeper_than_2048(turned: tuple[bool, bool]) -> None:
    product(30, 70, 2500, turned, "float32")
    product(40, 20, 2049, turned, "float64")


@given(
    st.integers(1, 70), st.integers(1, 70), st.integers(1, 70),
    st.tuples(st.booleans(), st.booleans()), st.sampled_from(["float32", "float64"]),
)  # fmt: skip
def test_any_size(m: int, n: int, k: int, turned: tuple[bool, bool], dtype: str) -> None:
    product(m, n, k, turned, dtype)


def test_a_row_far_from_the_next() -> None:
    """Rows a power of two apart meet in one set of the cache: they are packed in panels."""
    product(64, 1024, 40, (False, False), "float32")


def test_batches_and_what_is_fused() -> None:
    a, b = RNG.standard_normal((3, 9, 5)), RNG.standard_normal((3, 5, 11))
    c = RNG.standard_normal(11)
    found = cr.compile(lambda a, b, c: cr.tanh(a @ b + c) * 2.0, strict=True)(a, b, c)
    np.testing.assert_allclose(found, np.tanh(a @ b + c) * 2.0, rtol=1e-13, atol=1e-14)


def test_numbers_that_are_not_finite() -> None:
    """Nothing of the padding gets into a result, and nothing of a row into another."""
    a, b = np.ones((20, 10), np.float32), np.ones((10, 11), np.float32)
    a[3, 2], a[5, 5], b[1, 10] = np.nan, np.inf, -np.inf
    with np.errstate(invalid="ignore"):
        exact = a @ b
        found = cr.compile(lambda a, b: a @ b, strict=True)(a, b)
    np.testing.assert_array_equal(found, exact)


@given(st.integers(1, 500), st.integers(1, 20))
def test_balanced_tiles(count: int, most: int) -> None:
    tiles = split(count, most)
    heights = [height for height, _ in tiles]
    assert sum(height * many for height, many in tiles) == count
    assert max(heights) <= most
    assert max(heights) - min(heights) <= 1


AVX512 = "+avx512f,+avx512vl,+avx512dq,+avx512bw,+avx2,+fma"
MACHINES = [
    ("x86_64-unknown-linux-gnu", "znver4", AVX512, "zmm"),
    ("x86_64-unknown-linux-gnu", "haswell", "+avx2,+fma", "ymm"),
    ("aarch64-unknown-linux-gnu", "apple-m1", "+neon", "fmla"),
    ("x86_64-unknown-linux-gnu", "x86-64", "", "mulps"),
]  # fmt: skip


@pytest.mark.parametrize(("triple", "cpu", "features", "word"), MACHINES)
def test_a_step_of_a_network_for_every_machine(
    triple: str, cpu: str, features: str, word: str
) -> None:
    """The code of a whole step exists for each instruction set and calls no library function."""

    def step(W1, W2, X, y):  # type: ignore[no-untyped-def]
        def loss(W1, W2):  # type: ignore[no-untyped-def]
            return cr.sum(cr.square(cr.tanh(X @ W1.T) @ W2.T - y))

        value, (d1, d2) = cr.value_and_grad(loss, argnums=(0, 1))(W1, W2)
        return value, W1 - 0.1 * d1, W2 - 0.1 * d2

    shapes = [(33, 20), (10, 33), (48, 20), (48, 10)]
    traced = trace(step, [RNG.standard_normal(s).astype(np.float32) for s in shapes])
    target = target_for(triple, cpu, features)
    made = plan(simplify(traced.graph), [None, 0, 1], kind=target.kind)
    module = Module(target)
    write_entry(module, write_step(module, made, "k"), "entry")
    text = native.assembly_of(module.text(), target)
    assert word in text
    calls = [line.split()[-1] for line in text.splitlines() if "call" in line.split()[:1]]
    outside = [c for c in calls if c.strip("*@PLT").endswith(("f", "exp", "tanh")) and "k" not in c]
    assert not outside
