"""Kernels that stand alone do what NumPy does, in any chunks, and touch no memory but their own."""

from __future__ import annotations

import ctypes
import itertools
import math
import mmap
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chainrule.compiler import native
from chainrule.compiler.decompose import decompose
from chainrule.compiler.emit import I64, PTR, VOID, Module
from chainrule.compiler.expression import Unsupported
from chainrule.compiler.graph import Graph
from chainrule.compiler.groups import Group
from chainrule.compiler.interpret import interpret
from chainrule.compiler.memory import ARENA, POINTERS
from chainrule.compiler.moves import ERROR, MOVES
from chainrule.compiler.plan import Access, Array, Kernel, Plan
from chainrule.compiler.target import target_for
from chainrule.compiler.trace import trace
from chainrule.compiler.views import VIEWS, sources

pytestmark = pytest.mark.skipif(not native.available(), reason="needs llvmlite")

DTYPES = ["f4", "f8", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "?"]
rng = np.random.default_rng(0)


def values(shape: Any, dtype: str = "f4") -> Any:
    if dtype == "?":
        return rng.random(shape) < 0.5
    if np.dtype(dtype).kind in "iu":
        low = 0 if np.dtype(dtype).kind == "u" else -100
        return rng.integers(low, 100, shape).astype(dtype)
    return rng.normal(size=shape).astype(dtype)


# -- running a kernel -----------------------------------------------------------------------------


class Memory:
    """Arrays that a kernel sees: each ends, or begins, where a page does that nobody may touch."""

    def __init__(self, guarded: str = "") -> None:
        self.guarded = guarded
        self.kept: list[Any] = []

    def place(self, array: Any) -> int:
        """The address of a copy."""
        size = array.nbytes
        if not self.guarded:
            plain = ctypes.create_string_buffer(size + 64)
            address = ctypes.addressof(plain)
            self.kept.append(plain)
        else:
            page = mmap.PAGESIZE
            pages = -(-size // page) + 2
            buffer = mmap.mmap(-1, pages * page)
            start = ctypes.addressof(ctypes.c_char.from_buffer(buffer))
            protect = ctypes.CDLL(None).mprotect
            protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
            assert protect(start, page, 0) == 0
            assert protect(start + (pages - 1) * page, page, 0) == 0
            address = start + (pages - 1) * page - size if self.guarded == "end" else start + page
            self.kept.append(buffer)
        ctypes.memmove(address, array.ctypes.data, size)
        return address


class Program:
    """One node of a graph as kernels, everything else of it inputs, constants and views.

    There is a kernel for each variant: its chunks' axis, and the order of the result in memory.
    """

    def __init__(
        self, graph: Graph, variants: Sequence[tuple[int | None, Sequence[int]]] = ((None, ()),)
    ) -> None:
        self.graph, self.variants = graph, variants
        self.node = graph.nodes[graph.outputs[0]]
        made = [self._planned(axis, order) for axis, order in variants]
        self.plan = made[0][0]
        self.runs = built(made)

    def _planned(self, axis: int | None, order: Sequence[int]) -> tuple[Plan, Kernel]:
        graph, node, (number,) = self.graph, self.node, self.graph.outputs
        place = tuple(k if n != 1 else -1 for k, n in enumerate(node.shape))
        plan = Plan(graph, sources(graph), [], [], [], {}, {})
        for k, other in enumerate(graph.nodes):
            if other.op == "input":
                self._array(plan, k, "input", slot=graph.inputs.index(k))
            elif other.op == "constant" and other.size != 1:
                self._array(plan, k, "constant", value=other.params["value"])
            else:
                assert k == number or other.op in VIEWS or other.op == "constant", other.op
        self._array(plan, number, "output", order, slot=0)
        group = Group(node.op, node.shape, [number], {number: place})
        return plan, Kernel(0, group, axis, [number])

    def _array(
        self, plan: Plan, number: int, kind: str, order: Sequence[int] = (), **facts: Any
    ) -> None:
        node = self.graph.nodes[number]
        strides, step = [0] * len(node.shape), 1
        for axis in reversed(order or range(len(node.shape))):
            strides[axis] = step if node.shape[axis] != 1 else 0
            step *= node.shape[axis]
        at = sum(a.bytes + 64 for a in plan.arrays if a.kind == "constant")
        facts["offset"] = at if kind == "constant" else 0
        made = len(plan.arrays)
        plan.arrays.append(
            Array(made, node.dtype, node.shape, tuple(strides), node.size, kind, **facts)
        )
        plan.home[number] = made

    def __call__(
        self, inputs: Sequence[Any], variant: int = 0, chunk: int | None = None, guarded: str = ""
    ) -> tuple[Any, int]:
        """The result, and the word for errors."""
        node, memory, (axis, order) = self.node, Memory(guarded), self.variants[variant]
        arena = np.zeros(64 + sum(a.bytes + 64 for a in self.plan.arrays), np.uint8)
        for array in self.plan.arrays:
            if array.kind == "constant":
                raw = np.ascontiguousarray(array.value).view(np.uint8).reshape(-1)
                arena[array.offset : array.offset + raw.size] = raw
        words = np.zeros(POINTERS + len(inputs) + 1, np.int64)
        words[ARENA] = memory.place(arena)
        for k, value in enumerate(inputs):
            words[POINTERS + k] = memory.place(np.ascontiguousarray(value))
        order = tuple(order) or tuple(range(len(node.shape)))
        out = np.full([node.shape[a] for a in order], 85, np.uint8).astype(node.dtype)
        words[POINTERS + len(inputs)] = memory.place(out)
        result = out.transpose(np.argsort(order))
        run_chunks(self.runs[variant], words, result, axis, chunk)
        return result, int(words[ERROR])


def module_of(kernels: Sequence[tuple[Plan, Kernel]], target: Any) -> Module:
    """A module with the kernels, and for each a function `entry…` that calls it."""
    module = Module(target)
    arguments = [(PTR, "ctx"), (I64, "lo"), (I64, "hi"), (I64, "step"), (I64, "row")]
    for k, (plan, kernel) in enumerate(kernels):
        MOVES[kernel.group.kind](module, plan, kernel, f"kernel{k}")
        entry = module.function(f"entry{k}", arguments, internal=False)
        entry.call(f"kernel{k}", VOID, entry.arguments)
        entry.finish()
    return module


def built(kernels: Sequence[tuple[Plan, Kernel]]) -> list[Any]:
    module = module_of(kernels, native.host())
    library = native.build(module.text(), cache=False)
    prototype = ctypes.CFUNCTYPE(None, ctypes.c_void_p, *[ctypes.c_int64] * 4)
    runs = [prototype(library.address(f"entry{k}")) for k in range(len(kernels))]
    for run in runs:
        run.library = library  # type: ignore[attr-defined]
    return runs


def check(
    graph: Graph,
    inputs: Sequence[Any],
    axes: Sequence[int] = (),
    orders: Sequence[Sequence[int]] = ((),),
    sides: Sequence[str] = ("",),
) -> None:
    """The kernel gives the interpreter's bits: whole, and in chunks along each of these axes."""
    (expected,) = interpret(graph, inputs)
    shape = graph.nodes[graph.outputs[0]].shape
    wide = [a for a in axes if shape[a] != 1]
    variants = list(itertools.product([None, *wide], orders))
    program = Program(graph, variants)
    for k, variant in enumerate(variants):
        chunks = (None, 1, 3) if variant[0] is not None else (None,)
        for chunk, side in itertools.product(chunks, sides):
            found, error = program(inputs, k, chunk, side)
            assert error == 0
            assert found.dtype == expected.dtype
            message = f"axis and order {variant} in chunks of {chunk}"
            np.testing.assert_array_equal(found, expected, err_msg=message)


def run_chunks(run: Any, words: Any, out: Any, axis: int | None, chunk: int | None) -> None:
    """All chunks, none of which may write outside of its share.

    `out` becomes what the result's memory holds; its axes are the result's, in any order in memory.
    """
    n = 1 if axis is None else out.shape[axis]
    address, flat = int(words[-1]), out.base if out.base is not None else out
    for lo in range(0, n, max(chunk or n, 1)):
        hi = min(n, lo + (chunk or n))
        before = out.copy()
        run(words.ctypes.data, lo, hi, 0, 0)
        ctypes.memmove(flat.ctypes.data, address, flat.nbytes)
        if axis is not None:
            others = [k for k in range(n) if not lo <= k < hi]
            np.testing.assert_array_equal(out.take(others, axis), before.take(others, axis))


def view(graph: Graph, number: int, how: str) -> int:
    """A view of a node of rank 2 with its axes exchanged, turned round, …"""
    node = graph.nodes[number]
    if how == "transpose":
        params: Any = {"axes": (1, 0)}
        return graph.add("transpose", (number,), params, shape=node.shape[::-1], dtype=node.dtype)
    if how == "slice":
        count = tuple(-(-n // 2) for n in node.shape)
        start = tuple(2 * (n - 1) for n in count)
        params = {"start": (start[0], 0), "step": (-2, 2), "count": count}
        return graph.add("slice", (number,), params, shape=count, dtype=node.dtype)
    if how == "broadcast":
        shape = (3, *node.shape[1:])
        first: Any = {"start": (0, 0), "step": (1, 1), "count": (1, node.shape[1])}
        row = graph.add("slice", (number,), first, shape=(1, node.shape[1]), dtype=node.dtype)
        return graph.add("broadcast_to", (row,), {"shape": shape}, shape=shape, dtype=node.dtype)
    return number


VIEWS_OF_TWO = ["", "transpose", "slice", "broadcast"]


# -- pack -----------------------------------------------------------------------------------------


class Pack:
    """A copy with other strides; a kernel for each axis that chunks are cut from."""

    def __init__(
        self,
        shape: Sequence[int],
        source: Sequence[int],
        dtype: str,
        axes: Sequence[int | None] = (None,),
    ) -> None:
        self.shape, self.order, self.dtype = tuple(shape), source, np.dtype(dtype)
        self.axes = axes
        size = math.prod(shape)
        graph = Graph()
        graph.input((size,), dtype)
        strides, step = [0] * len(shape), 1
        for a in reversed(source):
            strides[a] = step
            step *= shape[a]
        target = tuple(math.prod(shape[k + 1 :]) for k in range(len(shape)))
        plan = Plan(graph, [], [], [], [], {}, {})
        plan.arrays = [
            Array(0, self.dtype, (size,), (1,), size, "input", slot=0),
            Array(1, self.dtype, self.shape, target, size, "output", slot=0),
        ]
        copy = (Access(0, 0, tuple(strides)), Access(1, 0, target))
        group = Group("pack", self.shape)
        self.kernels = [(plan, Kernel(0, group, axis, copy=copy)) for axis in axes]

    def check(self, *chunks: int, sides: Sequence[str] = ("",)) -> None:
        runs = built(self.kernels)
        for axis, run in zip(self.axes, runs, strict=True):
            sizes = (None, *chunks) if axis is not None else (None,)
            for chunk, side in itertools.product(sizes, sides):
                memory = Memory(side)
                x = values(math.prod(self.shape), self.dtype.str[1:].replace("b1", "?"))
                out = np.zeros(self.shape, self.dtype)
                words = np.zeros(POINTERS + 2, np.int64)
                words[POINTERS:] = memory.place(x), memory.place(out)
                run_chunks(run, words, out, axis, chunk)
                turned = x.reshape([self.shape[a] for a in self.order])
                expected = turned.transpose(np.argsort(self.order))
                np.testing.assert_array_equal(out, expected, err_msg=f"{axis=} {chunk=}")


@pytest.mark.parametrize("dtype", DTYPES)
def test_pack_transposes_every_dtype(dtype: str) -> None:
    for shape in [(37, 19), (3, 50), (2, 2)]:
        Pack(shape, (1, 0), dtype).check()


@pytest.mark.parametrize(
    ("rows", "columns"), [(1, 5), (2, 9), (5, 3), (8, 8), (17, 16), (16, 17), (23, 31), (64, 10)]
)
def test_pack_at_every_edge(rows: int, columns: int) -> None:
    Pack((rows, columns), (1, 0), "f4", (None, 0, 1)).check(7, 16)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_pack_with_batches(order: tuple[int, ...]) -> None:
    Pack((3, 10, 21), order, "f4", (None, 0, 1, 2)).check(8)


def test_one_transposition_in_a_module() -> None:
    pack = Pack((64, 64), (1, 0), "f4", (None, 0, 1))
    module = module_of(pack.kernels, native.host())
    assert sum(name.startswith("transpose") for name in module.functions) == 1


MACHINES = [
    (
        "x86_64-unknown-linux-gnu",
        "znver4",
        "+avx512f,+avx512vl,+avx512dq,+avx512bw,+avx2,+fma",
        {"f4": 16, "f8": 8, "i2": 16, "i1": 16},
    ),
    ("x86_64-unknown-linux-gnu", "x86-64-v2", "+sse4.2", {"f4": 4, "f8": 2, "i2": 8, "i1": 16}),
    ("arm64-apple-darwin", "apple-m1", "+neon", {"f4": 4, "f8": 2, "i2": 8, "i1": 16}),
]


@pytest.mark.parametrize(("triple", "cpu", "features", "sizes"), MACHINES)
def test_blocks_are_shuffled_right_for_every_machine(
    triple: str, cpu: str, features: str, sizes: dict[str, int]
) -> None:
    """The shuffles, carried out here on the numbers of the elements; and LLVM takes them."""
    target = target_for(triple, cpu, features)
    for dtype, size in sizes.items():
        module = module_of(Pack((64, 64), (1, 0), dtype).kernels, target)
        (name,) = [name for name in module.functions if name.startswith("transpose")]
        assert name.endswith(f"_{size}")
        assert shuffled(module.functions[name]) == [
            [row * size + column for row in range(size)] for column in range(size)
        ]
        assert "transpose" in native.assembly_of(module.text(), target)


def shuffled(text: str) -> list[list[int]]:
    """What a block's stores hold, where element e of row r of the source is r·size + e."""
    size = int(re.findall(r"store <(\d+) x", text)[0])
    values: dict[str, list[int]] = {}
    loads = re.findall(r"(%v\d+) = load <(\d+) x \w+>, ptr (%v\d+)", text)
    wide = int(loads[0][1])
    addresses = dict.fromkeys(address for _, _, address in loads)
    places: dict[str, int] = {}
    for line in text.splitlines():  # addresses: a row further on, or half a row
        found = re.match(r"  (%v\d+) = getelementptr \w+, ptr (%v\d+), i64 (\S+)", line)
        if found and found[1] in addresses:
            after, before, step = found.groups()
            half = int(step) if step.isdigit() else 0
            places[after] = places[before] + (half or size) if before in places else 0
    for name, _, address in loads:
        values[name] = [places[address] + k for k in range(wide)]
    shuffles = r"(%v\d+) = shufflevector <.*?> (%v\d+), <.*?> (%v\d+), <\d+ x i32> <(.*)>"
    stored: list[list[int]] = []
    for line in text.splitlines():
        if found := re.search(shuffles, line):
            both = values[found[2]] + values[found[3]]
            picks = [int(word.split()[1]) for word in found[4].split(", ")]
            values[found[1]] = [both[k] for k in picks]
        elif found := re.search(r"store <.*?> (%v\d+)", line):
            stored.append(values[found[1]])
    return stored


# -- gather and scatter ---------------------------------------------------------------------------


def picking(
    shape: Sequence[int],
    index: Any,
    axis: int,
    dtype: str = "f4",
    how: str = "",
    given: bool = True,
) -> tuple[Graph, list[Any]]:
    """A gather; its index an input, or a constant."""
    graph = Graph()
    x = graph.input(tuple(shape), dtype)
    source = view(graph, x, how) if how else x
    before = graph.nodes[source].shape
    position = graph.input(index.shape, index.dtype) if given else graph.constant(index)
    out = (*before[:axis], *index.shape, *before[axis + 1 :])
    number = graph.add("gather", (source, position), {"axis": axis}, shape=out, dtype=dtype)
    graph.outputs = [number]
    return graph, [values(shape, dtype), *([index] if given else [])]


@pytest.mark.parametrize("dtype", DTYPES)
def test_gather_every_dtype(dtype: str) -> None:
    index = rng.integers(-6, 6, 9)
    for axis in (0, 1):
        check(*picking((6, 6), index, axis, dtype), axes=(0, 1))


@pytest.mark.parametrize("how", VIEWS_OF_TWO)
def test_gather_from_views(how: str) -> None:
    index = np.array([0, 2, 1, 1, -1])
    for axis in (0, 1):
        check(*picking((7, 9), index, axis, "f4", how), axes=(0, 1), orders=[(0, 1), (1, 0)])


@pytest.mark.parametrize("kind", ["i1", "u1", "i2", "i4", "u4", "i8"])
def test_gather_by_every_integer(kind: str) -> None:
    low = 0 if kind[0] == "u" else -5
    check(*picking((5, 3), rng.integers(low, 5, (4, 3)).astype(kind), 0), axes=(0, 1, 2))


def test_gather_in_the_middle_by_constants() -> None:
    index = np.array([[3, 0], [1, 1], [2, 2]])
    check(*picking((2, 4, 5), index, 1, given=False), axes=(0, 1, 2, 3))
    check(*picking((2, 4, 5), -index, 1, given=False), axes=(1, 3))
    check(*picking((2, 4, 5), index[:0], 1, given=False))


def test_getitem_as_it_is_traced() -> None:
    def pick(x: Any) -> Any:
        return x[np.arange(12), np.arange(12) % 5]

    x = values((12, 5))
    check(decompose(trace(pick, [x]).graph), [x], axes=(0,))


def adding(
    shape: Sequence[int], index: Any, axis: int, dtype: str = "f4", given: bool = True
) -> tuple[Graph, list[Any]]:
    graph = Graph()
    out = tuple(shape)
    before = (*out[:axis], *index.shape, *out[axis + 1 :])
    x = graph.input(before, dtype)
    position = graph.input(index.shape, index.dtype) if given else graph.constant(index)
    params = {"axis": axis, "shape": out}
    graph.outputs = [graph.add("scatter_add", (x, position), params, shape=out, dtype=dtype)]
    return graph, [values(before, dtype), *([index] if given else [])]


@pytest.mark.parametrize("dtype", DTYPES)
def test_scatter_every_dtype(dtype: str) -> None:
    index = rng.integers(-6, 6, 29)
    for axis in (0, 1):
        check(*adding((6, 6), index, axis, dtype), axes=(0, 1))


def test_scatter_adds_in_the_order_of_the_index() -> None:
    """Float addition is not associative: the sums must be NumPy's to the last bit."""
    for shape, axis in [((3,), 0), ((3, 21), 0), ((2, 3, 9), 1), ((2, 3), 1)]:
        index = rng.integers(0, 3, (20, 5))
        for given_ in (True, False):
            check(*adding(shape, index, axis, given=given_), axes=range(len(shape)))


@pytest.mark.parametrize(
    ("start", "step", "count"),
    [((1, 2), (1, 1), (3, 4)), ((6, 0), (-2, 3), (4, 3)), ((2, 8), (3, -4), (2, 3)),
     ((0, 0), (1, 1), (0, 3))],
)  # fmt: skip
@pytest.mark.parametrize("dtype", ["f4", "f8", "i4", "?"])
def test_scatter_into_slices(start: Any, step: Any, count: Any, dtype: str) -> None:
    for how in ("", "transpose"):
        graph = Graph()
        x = graph.input(count[::-1] if how else count, dtype)
        params = {"start": start, "step": step, "count": count, "shape": (7, 9)}
        source = view(graph, x, how)
        graph.outputs = [graph.add("scatter_add", (source,), params, shape=(7, 9), dtype=dtype)]
        check(graph, [values(graph.nodes[x].shape, dtype)], axes=(0, 1), orders=[(0, 1), (1, 0)])


def test_scatter_of_one_number() -> None:
    graph = Graph()
    one = graph.constant(np.float32(2.5))
    x = graph.add("broadcast_to", (one,), {"shape": (2, 3)}, shape=(2, 3), dtype="f4")
    params = {"start": (1, 0), "step": (1, 1), "count": (2, 3), "shape": (4, 4)}
    graph.outputs = [graph.add("scatter_add", (x,), params, shape=(4, 4), dtype="f4")]
    check(graph, [], axes=(0, 1))


def test_an_index_that_only_numpy_follows_is_refused() -> None:
    graph = Graph()
    x = graph.input((2,), "f4")
    params = {"index": ([0, 1], None), "shape": (3,)}
    graph.outputs = [graph.add("scatter_add", (x,), params, shape=(3,), dtype="f4")]
    with pytest.raises(Unsupported, match="index"):
        Program(graph)


@pytest.mark.parametrize("bad", [5, -6, 1 << 40, -(1 << 62)])
@pytest.mark.parametrize("make", [picking, adding])
def test_out_of_bounds_is_reported(make: Any, bad: int) -> None:
    """The error's word names the node; nothing outside is read or written."""
    index = np.array([0, 1, bad, 2])
    for given_ in (True, False):
        graph, inputs = make((5, 3), index, 0, given=given_)
        out, error = Program(graph)(inputs)
        assert error == 1 + graph.outputs[0]
        good = np.where(index == bad, 0, index)
        known, _ = make((5, 3), good, 0, given=False)
        np.testing.assert_array_equal(out, interpret(known, inputs[:1])[0])


@pytest.mark.parametrize("make", [picking, adding])
def test_nothing_to_pick_from(make: Any) -> None:
    graph, inputs = make((0, 3), np.array([0, 0]), 0)
    assert Program(graph)(inputs)[1] == 1 + graph.outputs[0]
    graph, inputs = make((0, 3), np.zeros(0, int), 0)
    assert Program(graph)(inputs)[1] == 0


# -- join -----------------------------------------------------------------------------------------


def joining(parts: Sequence[tuple[Any, str]], axis: int, how: str = "") -> tuple[Graph, list[Any]]:
    graph = Graph()
    inputs = [graph.input(shape, dtype) for shape, dtype in parts]
    numbers = [view(graph, x, how) for x in inputs]
    shapes = [graph.nodes[k].shape for k in numbers]
    shape = list(shapes[0])
    shape[axis] = sum(s[axis] for s in shapes)
    dtype = np.result_type(*[d for _, d in parts])
    graph.outputs = [graph.add("join", numbers, {"axis": axis}, shape=tuple(shape), dtype=dtype)]
    return graph, [values(s, d) for s, d in parts]


@pytest.mark.parametrize("dtype", DTYPES)
def test_join_every_dtype(dtype: str) -> None:
    check(*joining([((5, 3), dtype), ((5, 11), dtype), ((5, 0), dtype)], 1), axes=(0, 1))


@pytest.mark.parametrize("how", VIEWS_OF_TWO)
def test_join_views(how: str) -> None:
    for axis in (0, 1):
        graph, inputs = joining([((9, 9), "f4"), ((9, 9), "f4"), ((9, 9), "f4")], axis, how)
        check(graph, inputs, axes=(0, 1), orders=[(0, 1), (1, 0)])


def test_join_converts() -> None:
    for dtypes in [("f4", "f8"), ("?", "f4"), ("i4", "f8", "?"), ("i2", "i8"), ("u1", "f4")]:
        check(*joining([((4, 13), d) for d in dtypes], 0), axes=(0, 1))
        check(*joining([((4, 13), d) for d in dtypes], 1, "transpose"), axes=(0, 1))


def test_join_with_a_number() -> None:
    graph = Graph()
    x, one = graph.input((4, 19), "f4"), graph.constant(np.array(1.5))
    wide = graph.add("broadcast_to", (one,), {"shape": (4, 18)}, shape=(4, 18), dtype="f8")
    graph.outputs = [graph.add("join", (x, wide), {"axis": 1}, shape=(4, 37), dtype="f8")]
    check(graph, [values((4, 19))], axes=(0, 1))


# -- along an axis --------------------------------------------------------------------------------


def summing(shape: Sequence[int], axis: int, dtype: str, how: str = "") -> tuple[Graph, list[Any]]:
    graph = Graph()
    x = graph.input(tuple(shape), dtype)
    number = view(graph, x, how) if how else x
    out = graph.nodes[number].shape
    graph.outputs = [graph.add("cumsum_along", (number,), {"axis": axis}, shape=out, dtype=dtype)]
    return graph, [values(shape, dtype)]


@pytest.mark.parametrize("dtype", ["f4", "f8", "i8", "u8"])
@pytest.mark.parametrize("how", VIEWS_OF_TWO)
def test_running_sums(dtype: str, how: str) -> None:
    for axis in (0, 1):
        graph, inputs = summing((13, 21), axis, dtype, how)
        check(graph, inputs, axes=(1 - axis,), orders=[(0, 1), (1, 0)])


def test_running_sums_of_other_shapes() -> None:
    for shape, axis in [((7,), 0), ((1,), 0), ((3, 1, 5), 1), ((2, 4, 9), 1), ((0, 3), 0)]:
        others = [a for a in range(len(shape)) if a != axis and shape[a] > 1]
        check(*summing(shape, axis, "f4"), axes=others)
    graph, _ = summing((2, 2), 0, "f4")
    minus = np.full((2, 2), -0.0, "f4")
    assert np.signbit(Program(graph)([minus])[0]).all()


def searching(
    op: str, x: Any, axis: int, how: str = "", keepdims: bool = False
) -> tuple[Graph, list[Any]]:
    graph = Graph()
    source = graph.input(x.shape, x.dtype)
    number = view(graph, source, how) if how else source
    before = graph.nodes[number].shape
    out = (*before[:axis], *([1] if keepdims else []), *before[axis + 1 :])
    params = {"axis": (axis,), "keepdims": keepdims}
    graph.outputs = [graph.add(op, (number,), params, shape=out, dtype="i8")]
    return graph, [x]


@pytest.mark.parametrize("op", ["argmax", "argmin"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_arguments_with_many_ties(op: str, dtype: str) -> None:
    for axis in (0, 1):
        x = rng.integers(0, 4, (11, 37)).astype(dtype)
        check(*searching(op, x, axis), axes=(0,))
        check(*searching(op, x, axis, keepdims=True), axes=(1 - axis,))


@pytest.mark.parametrize("op", ["argmax", "argmin"])
@pytest.mark.parametrize("how", VIEWS_OF_TWO)
def test_arguments_of_views(op: str, how: str) -> None:
    for axis in (0, 1):
        check(*searching(op, values((13, 21)), axis, how), axes=(0,))


@pytest.mark.parametrize("op", ["argmax", "argmin"])
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_arguments_find_the_first_nan(op: str, data: Any) -> None:
    numbers = st.sampled_from([0.0, -0.0, 1.0, np.inf, -np.inf, np.nan])
    dtype = data.draw(st.sampled_from(["f4", "f8"]))
    n = data.draw(st.integers(1, 40))
    x = np.array(data.draw(st.lists(numbers, min_size=2 * n, max_size=2 * n)), dtype)
    check(*searching(op, x, 0))
    check(*searching(op, x.reshape(2, n), 0))
    check(*searching(op, x.reshape(n, 2), 1))


def test_argument_of_extremes_and_of_one_number() -> None:
    for dtype in ("i4", "i8", "u8", "u4", "i1"):
        info = np.iinfo(dtype)
        x = np.array([0, info.min, info.max, 1, info.max, info.min] * 9, dtype)
        for op in ("argmax", "argmin"):
            check(*searching(op, x, 0))
    graph = Graph()
    x0 = graph.input((), "f4")
    graph.outputs = [
        graph.add("argmax", (x0,), {"axis": (0,), "keepdims": False}, shape=(), dtype="i8")
    ]
    assert Program(graph)([np.float32(3)])[0] == 0


# -- any shapes -----------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_shape(data: Any) -> None:
    rank = data.draw(st.integers(1, 3))
    shape = [data.draw(st.integers(1, 20)) for _ in range(rank)]
    axis = data.draw(st.integers(0, rank - 1))
    dtype = data.draw(st.sampled_from(["f4", "f8", "i1"]))
    index = rng.integers(-shape[axis], shape[axis], data.draw(st.sampled_from([(), (5,), (2, 3)])))
    index = np.asarray(index)
    kind = data.draw(st.sampled_from(["gather", "scatter", "join", "arg", "pack"]))
    if kind == "pack":
        order = data.draw(st.permutations(range(rank)))
        Pack(shape, order, dtype, (axis,)).check(data.draw(st.integers(1, 20)))
        return
    graph, inputs = {
        "gather": lambda: picking(shape, index, axis, dtype),
        "scatter": lambda: adding(shape, index, axis, dtype),
        "join": lambda: joining([(tuple(shape), dtype)] * 2, axis),
        "arg": lambda: searching("argmax", values(shape, dtype), axis),
    }[kind]()
    out = len(graph.nodes[graph.outputs[0]].shape)
    axes = [data.draw(st.integers(0, out - 1))] if out else []
    order = data.draw(st.permutations(range(out)))
    check(graph, inputs, axes, [order])


# -- nothing outside is touched -------------------------------------------------------------------


def guarded_cases() -> Iterator[tuple[Graph, list[Any], Sequence[int]]]:
    for dtype in ("f4", "i2"):
        for axis in (0, 1):
            index = rng.integers(-9, 9, 13)
            yield *picking((9, 9), index, axis, dtype), (0, 1)
            yield *adding((9, 9), index, axis, dtype), (0, 1)
            for how in ("", "transpose"):
                yield *joining([((9, 9), dtype)] * 2, axis, how), (0, 1)
            yield *searching("argmax", values((9, 19), dtype), axis), (0,)
        for start, step in [((0, 1), (1, 2)), ((8, 9), (-1, -2))]:
            graph = Graph()
            x = graph.input((9, 5), dtype)
            params = {"start": start, "step": step, "count": (9, 5), "shape": (9, 10)}
            graph.outputs = [graph.add("scatter_add", (x,), params, shape=(9, 10), dtype=dtype)]
            yield graph, [values((9, 5), dtype)], (0, 1)
    for axis in (0, 1):
        yield *summing((9, 19), axis, "f4"), (1 - axis,)


@pytest.mark.skipif(sys.platform == "win32", reason="needs mprotect")
def test_memory_at_the_edge_of_a_page() -> None:
    """In a process of its own, which a kernel that touches other memory would end."""
    done = subprocess.run(
        [sys.executable, "-W", "error", __file__], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip().endswith("all inside")


def main() -> None:
    sides = ("end", "start")
    for graph, inputs, axes in guarded_cases():
        check(graph, inputs, axes, sides=sides)
    for dtype in ("f4", "f8", "i2"):
        for shape in [(19, 37), (3, 5), (8, 16)]:
            Pack(shape, (1, 0), dtype, (None, 0, 1)).check(8, sides=sides)
    wild = np.array([1 << 60, -(1 << 60), 12345, 3])
    for make in (picking, adding):
        graph, inputs = make((5, 3), wild, 0)
        program = Program(graph)
        for side in sides:
            assert program(inputs, guarded=side)[1]
    print("all inside")


if __name__ == "__main__":
    main()
