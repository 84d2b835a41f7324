"""`cr.compile`: what goes in and out, when programs are made, and what happens on errors."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.circuit import state
from chainrule.compiler import native, segments
from chainrule.compiler.compiled import Compiled
from chainrule.ops import registry
from random_circuits import flat

X = np.random.default_rng(0).standard_normal((6, 7))


def same(function: Any, *args: Any, strict: bool = True, **kwargs: Any) -> Compiled:
    """The compiled function, whose results have the shapes, dtypes and values of the plain one."""
    compiled = cr.compile(function, strict=strict)
    with np.errstate(all="ignore"):
        found, expected = compiled(*args, **kwargs), function(*args, **kwargs)
    for x, y in zip(flat(found), flat(expected), strict=True):
        assert (x.shape, x.dtype) == (y.shape, y.dtype)
        np.testing.assert_allclose(x, y, rtol=1e-6 if x.dtype.itemsize < 8 else 1e-13, atol=1e-300)
    return compiled


@cr.compile
def successor(x: Any) -> Any:
    """One more."""
    return x + 1


# -- arguments and results ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "x",
    [
        X[::2, ::-1],
        X.T,
        np.asfortranarray(X),
        np.broadcast_to(np.arange(7.0), (4, 7)),
        np.ndarray((6, 7), float, buffer=bytearray(1 + X.nbytes), offset=1),
        X.astype(np.float32),
        np.arange(5, dtype=np.int32),
        np.arange(5, dtype=np.uint8),
        np.array(2.5),
        np.float32(2.5),
        2.5,
        3,
        True,
    ],
    ids=lambda x: f"{type(x).__name__}{getattr(x, 'strides', '')}",
)
def test_any_memory_of_any_number(x: Any) -> None:
    same(lambda a: (a + a, cr.where(a > 1, a, 0.5), cr.exp(cr.abs(a) * -1.0)), x)


def test_trees_go_in_and_come_out() -> None:
    compiled = cr.compile(lambda a, b: {"sum": a["x"] + b[0], "rest": (a, None, "name", 1.5)})
    out = compiled({"x": X}, [2.0])
    assert out["rest"][1:] == (None, "name", 1.5)
    np.testing.assert_array_equal(out["sum"], X + 2)
    np.testing.assert_array_equal(out["rest"][0]["x"], X)


def test_settings_and_keywords_choose_the_program() -> None:
    compiled = cr.compile(lambda a, mode, *, scale=1.0: a * scale if mode == "up" else a / scale)
    np.testing.assert_array_equal(compiled(X, "up", scale=2.0), X * 2)
    np.testing.assert_array_equal(compiled(X, "down", scale=2.0), X / 2)
    np.testing.assert_array_equal(compiled(X, "down", scale=4.0), X / 4)
    assert len(compiled.programs) == 2


def test_results_are_the_callers_own() -> None:
    compiled = cr.compile(lambda a: (a, a * 2))
    first, doubled = compiled(X)
    assert not np.shares_memory(first, X)
    first[:], doubled[:] = 0, 0
    np.testing.assert_array_equal(compiled(X)[1], X * 2)


def test_special_numbers() -> None:
    x = np.array([np.nan, np.inf, -np.inf, -0.0, 1.0])
    same(lambda a: (cr.max(a), cr.softmax(a), cr.relu(a), cr.logsumexp(a), 1 / a, cr.sum(a)), x)
    rows = np.array([[-np.inf, 0, 1.0], [-np.inf] * 3, [np.inf, 1, 2]])
    same(lambda a: (cr.softmax(a), cr.log_softmax(a), cr.argmax(a, axis=1)), rows)


def test_a_deep_chain() -> None:
    def chain(x: Any) -> Any:
        for _ in range(1500):
            x = cr.sin(x) + 0.1
        return x

    same(chain, X)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: cr.sum(x * 2, axis=0),
        lambda x: cr.grad(lambda y: cr.sum(y * y))(x),
        lambda x: x[:, :1] @ np.ones((1, 2)),
    ],
)
def test_empty_arrays(function: Any) -> None:
    compiled = same(function, np.zeros((0, 3)))
    assert "an array is empty" in str(compiled.report())


def test_numbers_that_only_numpy_has() -> None:
    for dtype in (np.float16, np.longdouble, np.dtype(float).newbyteorder()):
        compiled = same(lambda a: a * 2, X.astype(dtype), strict=False)
        assert compiled.report().programs[0].numpy
        with pytest.raises(cr.CompileError, match="strict=False"):
            cr.compile(lambda a: a * 2, strict=True)(X.astype(dtype))


# -- the whole vocabulary -------------------------------------------------------------------------


@pytest.mark.parametrize("name", [op.name for op in registry.operations()])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_operation_is_native(name: str, dtype: str) -> None:
    op = registry[name]
    rng = np.random.default_rng(0)
    domain = op.facts.domain or ((-2.0, 2.0),) * (op.arity or 2)
    args: list[Any] = [rng.uniform(*bounds, (5, 5)).astype(dtype) for bounds in domain]
    params: dict[str, Any] = {
        "reshape": {"shape": (25,)},
        "broadcast_to": {"shape": (2, 5, 5)},
        "getitem": {"index": (1, slice(None, None, -1))},
        "scatter_add": {"index": slice(1, 6), "shape": (7, 5)},
        "astype": {"dtype": np.float32},
        "clip": {"low": 0.1},
        "join": {"axis": 0},
        "keep": {"shape": (4,)},
    }.get(name, {})
    if name == "keep":
        args = [np.int64(3)]
    if name in ("gather_rows", "gather"):
        args[1] = np.array([1, 0, -1])
    compiled = cr.compile(lambda *xs: op(*xs, **params), strict=True)
    found, expected = np.asarray(compiled(*args)), np.asarray(op(*args, **params))
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    eps = np.finfo(dtype).eps
    scale = np.maximum(np.abs(expected.astype(float)), np.abs(expected.astype(float)).max() / 8)
    assert np.all(np.abs(found.astype(float) - expected.astype(float)) <= 8 * eps * scale)


def scattered(x: Any) -> Any:
    return cr.sum(cr.tanh(x)[np.array([0, 1]), :, np.array([1, 0])] * 2)


def test_what_is_not_native_runs_in_numpy_and_says_so() -> None:
    compiled = same(cr.value_and_grad(scattered), np.ones((2, 3, 2)), strict=False)
    text = str(compiled.report())
    assert "getitem" in text
    assert "has no native form" in text
    assert "kernels in machine code" in text
    with pytest.raises(cr.CompileError, match=r"getitem has no native form.*strict=False"):
        cr.compile(scattered, strict=True)(np.ones((2, 3, 2)))


def test_a_gate_of_ones_own_is_named() -> None:
    @cr.custom_gate(local=lambda x, out: 2 * x, value=lambda x: np.vectorize(lambda z: z * z)(x))
    def my_square(x: Any) -> Any:
        return x * x

    compiled = cr.compile(lambda x: my_square(x) * 2)
    np.testing.assert_allclose(compiled(X), X * X * 2)
    assert "my_square" in str(compiled.report())
    with pytest.raises(cr.CompileError, match="my_square has no native form"):
        cr.compile(lambda x: my_square(x) * 2, strict=True)(X)


def test_without_llvmlite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "available", lambda: False)
    segments._warn_once.cache_clear()
    with pytest.warns(RuntimeWarning, match="llvmlite is not installed"):
        np.testing.assert_array_equal(cr.compile(lambda a: a * 2)(X), X * 2)
    compiled = cr.compile(lambda a: a * 3)  # no second warning
    np.testing.assert_array_equal(compiled(X), X * 3)
    assert "llvmlite is not installed" in str(compiled.report())
    with pytest.raises(cr.CompileError, match="pip install llvmlite"):
        cr.compile(lambda a: a * 2, strict=True)(X)
    segments._warn_once.cache_clear()


# -- programs -------------------------------------------------------------------------------------


def test_the_latest_used_programs_are_kept() -> None:
    compiled = cr.compile(lambda a: a * 2, limit=3)
    for n in (1, 2, 3):
        compiled(np.ones(n))
    compiled(np.ones(1))
    compiled(np.ones(4))  # 2 was used least lately
    before = dict(compiled.programs)
    compiled(np.ones(1)), compiled(np.ones(3)), compiled(np.ones(4))
    assert compiled.programs == before
    assert "3 of at most 3 programs; 1 made room for others" in str(compiled.report())
    compiled(np.ones(2))
    assert compiled.dropped == 2


def test_variables_are_read_at_each_call() -> None:
    w = cr.tensor(np.ones(3), name="w")
    compiled = cr.compile(lambda x: cr.sum(w * x))
    assert compiled(2.0) == 6.0
    w.value = np.full(3, 5.0)
    assert compiled(2.0) == 30.0
    assert len(compiled.programs) == 1
    w.value = np.ones(5)  # of another shape: made anew
    assert compiled(2.0) == 10.0
    assert len(compiled.programs) == 1


def test_what_looks_alike_is_told_apart() -> None:
    """A Python number takes the array's dtype, a 0-d array does not; a list is not its element."""
    x = np.ones(3, np.float32)
    times = cr.compile(lambda a, b: a * b)
    for _ in range(2):
        assert times(x, 2.0).dtype == np.float32
        assert times(x, np.array(2.0)).dtype == np.float64
    assert len(times.programs) == 2
    first = cr.compile(lambda a: a[0] * 2 if isinstance(a, list) else a * 3)
    for _ in range(2):
        np.testing.assert_array_equal(first(x), x * 3)
        np.testing.assert_array_equal(first([x]), x * 2)


def test_modules_are_arguments() -> None:
    model = nn.Sequential(nn.Linear(7, 5), nn.Tanh(), nn.Dropout(0.5), nn.Linear(5, 2))
    model.eval()

    def loss(model: Any, x: Any) -> Any:
        return cr.mean(model(x) ** 2)

    compiled = cr.compile(cr.value_and_grad(loss), strict=True)
    for _ in range(2):
        (value, found), (right, expected) = compiled(model, X), cr.value_and_grad(loss)(model, X)
        np.testing.assert_allclose(value, right, rtol=1e-5)
        assert found.keys() == expected.keys()
        for name in found:
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=1e-6)
        for parameter in model.parameters():
            parameter.value = parameter.value * np.float32(0.5)
    assert len(compiled.programs) == 1


def test_compiled_in_compiled_and_differentiated() -> None:
    inner = cr.compile(lambda a: cr.tanh(a) * 2)
    outer = cr.compile(lambda a: cr.sum(inner(a)))
    np.testing.assert_allclose(outer(X), np.sum(np.tanh(X) * 2))
    right = 2 * (1 - np.tanh(X) ** 2)
    np.testing.assert_allclose(cr.grad(outer)(X), right)
    np.testing.assert_allclose(cr.compile(cr.grad(outer))(X), right)
    assert not inner.programs  # it became part of the others
    out = inner(cr.tensor(X))
    assert isinstance(out, cr.Tensor)


def test_a_method_of_a_module() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(np.full(7, 3.0))

        @cr.compile
        def forward(self, x: Any) -> Any:
            return x * self.w

    model = Scaled()
    np.testing.assert_array_equal(flat(model.forward(X))[0], X * 3)


def test_copies_have_no_programs() -> None:
    successor(X)
    assert pickle.loads(pickle.dumps(successor)) is successor
    other = cr.compile(np.sum)
    other.programs["of this process"] = None  # type: ignore[assignment]
    for twin in (copy.deepcopy(other), pickle.loads(pickle.dumps(other))):
        assert isinstance(twin, Compiled)
        assert not twin.programs
    assert (successor.__name__, successor.__doc__) == ("successor", "One more.")


# -- errors ---------------------------------------------------------------------------------------


def test_control_flow_names_the_line() -> None:
    compiled = cr.compile(lambda a: a + 1 if cr.sum(a) > 0 else a)
    with pytest.raises(cr.TraceError, match=r"test_compile\.py:\d+.*cr\.where"):
        compiled(X)
    assert not compiled.programs
    assert (state.compiling, state.depth) == (False, 0)


def test_an_exception_leaves_nothing_half_made() -> None:
    fail = True

    def function(a: Any) -> Any:
        if fail:
            raise RuntimeError("mine")
        return a * 2

    compiled = cr.compile(function)
    with pytest.raises(RuntimeError, match="mine"):
        compiled(X)
    assert not compiled.programs
    fail = False
    np.testing.assert_array_equal(compiled(X), X * 2)


@pytest.mark.parametrize(
    ("args", "error"),
    [
        ((X, X), cr.ShapeError),
        ((X,), TypeError),
        ((X, X.T.astype(complex)), cr.TraceError),
        ((X, object()), cr.TraceError),
        ((X, np.array(["a"])), cr.TraceError),
        ((X, [1.0, 2.0]), cr.ShapeError),
        ((X, 2**70), cr.TraceError),
    ],
    ids=lambda x: getattr(x, "__name__", None),
)
def test_wrong_arguments_are_one_error(args: Any, error: Any) -> None:
    compiled = cr.compile(lambda a, b: a @ b)
    compiled(X, X.T)
    with pytest.raises(error) as raised:
        compiled(*args)
    assert "\n" not in str(raised.value)
    np.testing.assert_allclose(compiled(X, X.T), X @ X.T)


def test_an_index_out_of_bounds_is_an_error() -> None:
    compiled = cr.compile(lambda a, i: cr.take(a, i, axis=0), strict=True)
    np.testing.assert_array_equal(compiled(X, np.array([1, -1])), X[[1, -1]])
    with pytest.raises(IndexError, match="out of bounds for axis 0 with size 6"):
        compiled(X, np.array([1, 6]))
    np.testing.assert_array_equal(compiled(X, np.array([0, 5])), X[[0, 5]])


def test_options_are_checked() -> None:
    with pytest.raises(TypeError, match="takes a function, not int"):
        cr.compile(3)  # type: ignore[arg-type]
    for limit in (0, -1, 1.5, True):
        with pytest.raises(ValueError, match="limit="):
            cr.compile(np.sum, limit=limit)  # type: ignore[arg-type]
    for threads in (0, -1, 65, 1.5):
        with pytest.raises(ValueError, match="threads="):
            cr.compile(np.sum, threads=threads)  # type: ignore[arg-type]


def test_a_number_that_no_longer_fits_is_one_error() -> None:
    compiled = cr.compile(lambda n: n + 1)
    assert compiled(3) == 4
    with pytest.raises((OverflowError, cr.TraceError)):
        compiled(2**70)
    assert compiled(4) == 5


# -- threads and processes ------------------------------------------------------------------------


def test_many_python_threads_call_one_function() -> None:
    compiled = cr.compile(cr.value_and_grad(lambda a, b: cr.sum(cr.tanh(a @ b))))
    rng = np.random.default_rng(0)
    several = [rng.standard_normal((20 + k % 3, 30)) for k in range(6)]
    b = rng.standard_normal((30, 40))
    expected = [cr.value_and_grad(lambda a, b: cr.sum(cr.tanh(a @ b)))(a, b) for a in several]
    first = [compiled(a, b) for a in several]
    wrong: list[int] = []

    def work(k: int) -> None:
        for _ in range(100):
            value, gradient = compiled(several[k], b)
            if value != first[k][0] or not np.array_equal(gradient, first[k][1]):
                wrong.append(k)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    for (value, gradient), (right, exact) in zip(first, expected, strict=True):
        np.testing.assert_allclose(value, right)
        np.testing.assert_allclose(gradient, exact)


def test_threads_that_compile_at_once_make_one_program_each() -> None:
    traces: list[int] = []

    def function(a: Any) -> Any:
        traces.append(a.shape[0])
        return cr.exp(a)

    compiled = cr.compile(function)
    start = threading.Barrier(8)

    def work(n: int) -> None:
        start.wait()
        np.testing.assert_allclose(compiled(np.ones(n)), np.exp(np.ones(n)))

    threads = [threading.Thread(target=work, args=(1 + k % 4,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(traces) == [1, 2, 3, 4]


def test_importing_loads_no_compiler() -> None:
    code = (
        "import sys, chainrule; chainrule.sum([1.0]);"
        "print([m for m in sys.modules if m.startswith(('llvmlite', 'chainrule.compiler'))]);"
        "chainrule.compile(sum); print('llvmlite' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]", "False"]
