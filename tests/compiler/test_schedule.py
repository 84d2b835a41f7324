"""What the compiler decides, as text: stages, kernels, phases, memory; and the report of it."""

from __future__ import annotations

import re
from typing import Any

import llvmlite.binding as llvm
import numpy as np
import pytest

import chainrule as cr
import golden
from chainrule import losses
from chainrule.compiler.compiled import compile
from chainrule.compiler.decompose import decompose
from chainrule.compiler.emit import Module
from chainrule.compiler.graph import Graph
from chainrule.compiler.legal import legal
from chainrule.compiler.plan import Plan, plan
from chainrule.compiler.program import write_entry, write_step
from chainrule.compiler.report import limits, schedule
from chainrule.compiler.simplify import simplify
from chainrule.compiler.target import target_for
from chainrule.compiler.trace import trace

RNG = np.random.default_rng(0)
W, C = RNG.standard_normal((10, 16), dtype=np.float32), np.zeros(10, np.float32)
X, Y = RNG.standard_normal((32, 16), dtype=np.float32), RNG.integers(0, 10, 32)


def loss(w: Any, c: Any, x: Any, y: Any) -> Any:
    return losses.softmax_cross_entropy(cr.tanh(x @ w.T + c), y)


def planned(function: Any, *args: Any) -> Plan:
    return plan(simplify(decompose(trace(function, args).graph)))


def kernels(function: Any, *args: Any) -> list[tuple[str, ...]]:
    """For each kernel its kind and the operations fused into it, in the order of the schedule."""
    made = planned(function, *args)
    return [
        (k.group.kind, *[made.graph.nodes[n].op for n in k.group.members])
        for lanes in made.phases
        for lane in lanes
        for k in lane.kernels
    ]


# -- golden text ----------------------------------------------------------------------------------


def test_stages_before_machine_code() -> None:
    made = planned(cr.value_and_grad(loss, argnums=(0, 1)), W, C, X, Y)
    traced = trace(cr.value_and_grad(loss, argnums=(0, 1)), (W, C, X, Y)).graph
    texts = [traced, simplify(decompose(traced)), schedule(made)]
    golden.check("compiler_stages.txt", "\n\n".join(map(str, texts)) + "\n")


def test_machine_code_of_one_loop() -> None:
    """For one fixed processor, whatever runs this."""
    target = target_for("x86_64-unknown-linux-gnu", "haswell", "+avx2,+fma")
    module = Module(target)
    made = plan(
        simplify(decompose(trace(lambda a, b: a * b + 1.0, (X, X)).graph)), kind=target.kind
    )
    write_entry(module, write_step(module, made, "k"), "entry")
    golden.check("compiler_loop.ll", module.functions["k0"] + "\n")


# -- what is decided ------------------------------------------------------------------------------


def test_what_follows_a_product_is_done_where_it_is_stored() -> None:
    found = kernels(lambda w, x, c: cr.relu(x @ w.T + c), W, X, C)
    assert ("matmul", "matmul", "add", "relu") in found
    assert [kind for kind, *_ in found] == ["pack", "matmul"]


def test_a_chain_is_one_loop() -> None:
    found = kernels(lambda x: cr.sum(cr.tanh(x * 2 + 1) ** 2), X)
    assert len(found) == 1
    assert found[0][0] == "reduce"


def test_a_softmax_is_one_kernel_on_rows() -> None:
    assert [kind for kind, *_ in kernels(lambda x: cr.softmax(x * 2), X)] == ["rows"]


def test_views_cost_nothing() -> None:
    assert len(kernels(lambda x: x.T[::2, 1:, None] + 1, X)) == 1


def test_long_sums_are_taken_in_two() -> None:
    """So that they can be shared by threads, and lose no more digits than NumPy's."""

    def sums(shape: tuple[int, ...], **params: Any) -> list[str]:
        graph = simplify(decompose(trace(lambda x: cr.sum(x, **params), (np.ones(shape),)).graph))
        made, _ = legal(graph, [None])
        return [f"{node.op}{node.shape}" for node in made.nodes if node.op != "input"]

    assert sums((100, 100)) == ["sum()"]
    assert sums((200, 100)) == ["sum(200,)", "sum()"] or sums((200, 100))[-1] == "sum()"
    assert sums((32, 64, 128)) == ["sum(32,)", "sum()"]
    assert sums((40_000,)) == ["reshape(10, 4000)", "sum(10,)", "sum()"]
    assert sums((20_011,))[-1] == "sum()"  # a prime
    assert sums((32, 64, 128), keepdims=True)[-1] == "copy(1, 1, 1)"


def test_long_sums_are_exact_enough() -> None:
    for shape in ((1_000_003,), (999, 1001), (3, 500_000), (500_000, 3), (70, 80, 90)):
        x = RNG.random(shape, dtype=np.float32)
        found = compile(lambda x: cr.sum(x), strict=True)(x)
        exact = np.sum(x, dtype=np.float64)
        assert abs(found - exact) < 1e-4 * exact


def test_arrays_that_live_together_lie_apart() -> None:
    made = planned(cr.grad(loss, argnums=(0, 1)), W, C, X, Y)
    placed = [a for a in made.arrays if a.kind in ("arena", "constant") and a.last >= 0]
    for k, a in enumerate(placed):
        assert a.offset + a.bytes <= made.arena
        for b in placed[:k]:
            fixed = "constant" in (a.kind, b.kind)
            together = fixed or (a.first <= b.last and b.first <= a.last)
            apart = a.offset + a.bytes <= b.offset or b.offset + b.bytes <= a.offset
            assert apart or not together


def test_a_kernel_comes_after_all_that_fill_what_it_reads() -> None:
    """Two packs fill the panels of one operand: whole panels, and the rest."""
    rng = np.random.default_rng(0)
    x0, x1 = rng.standard_normal((9, 1, 65)), rng.standard_normal((9, 65, 100))
    function = cr.grad(lambda a, b: cr.sum(cr.sin(a @ b)))
    np.testing.assert_allclose(compile(function)(x0, x1), function(x0, x1), rtol=1e-10)
    made = planned(function, x0, x1)
    phase = {}
    for number, lanes in enumerate(made.phases):
        for position, lane in enumerate(lanes):
            for kernel in lane.kernels:
                phase[kernel.number] = (number, position)
    for kernel in made.kernels:
        for access in kernel.operands.values():
            for other in made.kernels:
                if other.copy is not None and other.copy[1].array == access.array:
                    mine, its = phase[kernel.number], phase[other.number]
                    assert its[0] < mine[0] or its == mine


def test_one_pack_does_not_serve_two_shapes() -> None:
    """A repeated number has the same strides in any shape."""

    def function(x: Any) -> Any:
        y = cr.tanh(x @ cr.broadcast_to(2.0, (7, 2)).astype(x.dtype))
        return y @ cr.broadcast_to(2.0, (2, 7)).astype(x.dtype)

    x = RNG.standard_normal((3, 7))
    np.testing.assert_allclose(
        compile(function)(x), np.tanh(x @ np.full((7, 2), 2.0)) @ np.full((2, 7), 2.0)
    )
    jacobian = cr.jacobian(lambda a: cr.tanh(a[:3] @ np.ones((7, 2))))
    x = RNG.standard_normal((6, 7))
    np.testing.assert_allclose(compile(jacobian)(x), jacobian(x), rtol=1e-12)


def test_a_turned_product_may_be_a_result() -> None:
    """A column is computed as a row, and is stored nevertheless."""
    a, b = RNG.standard_normal((33, 15)), RNG.standard_normal((1, 15))
    np.testing.assert_allclose(compile(lambda a, b: a @ b.T)(a, b), a @ b.T, rtol=1e-13)


# -- the report -----------------------------------------------------------------------------------


def test_report_tells_everything_once() -> None:
    compiled = compile(cr.value_and_grad(loss))
    assert "nothing is compiled before the first call" in str(compiled.report())
    compiled(W, C, X, Y)
    (program,) = compiled.report().programs
    text = str(compiled.report())
    assert "w f32[10, 16], c f32[10], x f32[32, 16], y i64[32]" in text
    assert "matmul 32×10: matmul → add → tanh" in text
    assert "softmax_cross_entropy" in text
    assert re.search(r"compiled in [\d.]+ m?s \(.*codegen|from the cache on disk in", text)
    assert "nothing runs in NumPy" in text
    assert program.flops >= 2 * 2 * 32 * 10 * 16
    assert program.flops == sum(kernel.flops for kernel in program.kernels)
    assert {kernel.kind for kernel in program.kernels} >= {"matmul", "rows"}
    assert all(kernel.seconds is None for kernel in program.kernels)


def test_report_of_one_set_of_shapes() -> None:
    compiled = compile(lambda x: x * 2)
    compiled(X)
    assert "x f64[3]" in str(compiled.report(np.ones(3)))
    assert len(compiled.report().programs) == 2
    assert len(compiled.report(X).programs) == 1


def test_measured_kernels_keep_to_the_machines_limits() -> None:
    most = limits()
    assert 1e9 < most.flops < 1e13
    assert 1e8 < most.copy < 1e13
    compiled = compile(lambda a: cr.tanh(a @ a))
    compiled(np.ones((64, 64), np.float32))
    report = compiled.report(measure=True)
    (kernel,) = [k for k in report.programs[0].kernels if k.kind == "matmul"]
    assert kernel.seconds is not None
    assert 0 < kernel.flops / kernel.seconds < 3 * most.flops  # a noisy machine may wobble
    assert "of the peak" in str(report)


def test_a_reading_may_annotate_kernels() -> None:
    """The note of a node is printed beside its operation; the compiler knows no reading."""
    graph = Graph()
    x = graph.input((4, 4), np.float64, "x")
    y = graph.add("tanh", (x,), shape=(4, 4), dtype=np.float64, label="h", origin="layer 1")
    z = graph.add("square", (y,), shape=(4, 4), dtype=np.float64, origin="∂E/∂h")
    graph.outputs = [z]
    from chainrule.compiler.program import Program
    from chainrule.compiler.report import described

    report = described(graph, Program(graph), 0.0, False)
    assert "tanh [h] → square [∂E/∂h]" in str(report)


# -- stages of a compiled function ----------------------------------------------------------------


def test_stages_are_texts() -> None:
    compiled = compile(lambda x: cr.tanh(x) * 2)
    assert "nothing is compiled yet" in str(compiled.stages)
    with pytest.raises(ValueError, match="nothing is compiled yet"):
        _ = compiled.stages.ir
    stages = compiled.stages(X)
    assert "tanh" in stages.circuit
    assert "tanh" in stages.simplified
    assert "k0 map" in stages.schedule
    module = llvm.parse_assembly(stages.ir)
    module.verify()
    assert {"entry", "k0"} <= {f.name for f in module.functions}
    assert not re.search(r"\b(fast|nnan|ninf|reassoc|contract)\b", stages.ir)
    assert "entry:" in stages.assembly
    for title in ("circuit", "simplified", "schedule", "ir"):
        assert f"== {title} ==" in str(stages)
    compiled(np.ones(3))
    assert "f64[3]" in compiled.stages.circuit  # of the latest
    assert "f32[32, 16]" in compiled.stages(X).circuit
