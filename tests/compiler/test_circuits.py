"""Random circuits, and what is differentiated of them: machine code gives what NumPy gives."""

from __future__ import annotations

import dataclasses
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chainrule.compiler import native, segments
from chainrule.compiler.compiled import compile
from chainrule.compiler.decompose import decompose
from chainrule.compiler.emit import Module
from chainrule.compiler.graph import Graph
from chainrule.compiler.interpret import interpret
from chainrule.compiler.native import assembly_of
from chainrule.compiler.plan import plan
from chainrule.compiler.program import write_entry, write_step
from chainrule.compiler.simplify import simplify
from chainrule.compiler.target import KINDS, Target, target_for
from chainrule.compiler.trace import trace
from random_circuits import (
    LARGE,
    SMALL,
    Circuit,
    differentiated,
    disagreement,
    doubts,
    flat,
    random_circuit,
)

AVX512 = "+avx512f,+avx512vl,+avx512dq,+avx512bw,+avx2,+fma"
HOW = ["value", "value", "gradient", "gradient", "gradient", "second", "jvp", "vjp"]
GUARDED = Path(__file__).parent.parent / "guarded_programs.py"


def check(choose: random.Random) -> None:
    """One random circuit, compiled and compared; strictly: nothing may run in NumPy."""
    how = choose.choice(HOW)
    lines = choose.choice([3, 5, 8, 12])
    circuit = random_circuit(choose, lines=lines, smooth=how == "second")
    compare(circuit, how, threads=1)


def compare(circuit: Circuit, how: str, threads: int, *, strict: bool = True) -> list[Any]:
    """The compiled function's results, which are those of the function itself."""
    with np.errstate(all="ignore"):
        return _compared(circuit, how, threads, strict)


def _compared(circuit: Circuit, how: str, threads: int, strict: bool) -> list[Any]:
    function, args = differentiated(circuit, how)
    compiled = compile(function, strict=strict, threads=threads)
    found, expected = compiled(*args), function(*args)
    (made,) = compiled.programs.values()
    inputs = made.traced.inputs(args, {})
    doubt = doubts(made.graph, inputs)
    wrong = disagreement(found, expected, doubt)
    assert not wrong, f"compiled: {wrong}\n{how}, {circuit}"
    wrong = disagreement(interpret(made.graph, inputs), expected, doubt)
    assert not wrong, f"interpreted: {wrong}\n{how}, {circuit}"
    return flat(found)


@settings(max_examples=100)
@given(st.randoms(use_true_random=False))
def test_compiled_equals_eager(choose: random.Random) -> None:
    check(choose)


@pytest.mark.exhaustive
@pytest.mark.parametrize("seed", range(1000))
def test_a_thousand_more(seed: int) -> None:
    check(random.Random(seed))


@pytest.mark.parametrize("seed", range(20))
def test_without_vectors_beyond_the_plainest(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """128-bit vectors and no fused multiply-add."""
    monkeypatch.setenv("CHAINRULE_CPU", "plain")
    check(random.Random(seed))


@pytest.mark.exhaustive
@pytest.mark.parametrize("seed", range(1000, 1300))
@pytest.mark.parametrize("cpu", ["plain", "avx2"])
def test_narrower_machines(seed: int, cpu: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAINRULE_CPU", cpu)
    check(random.Random(seed))


def on_threads(seed: int) -> bool:
    """One thread and two give the same, to the last bit; whether the second had anything to do."""
    circuit = random_circuit(random.Random(seed), lines=4, sizes=LARGE)
    function, args = differentiated(circuit, "gradient")
    alone, together = (compile(function, threads=n) for n in (1, 2))
    with np.errstate(all="ignore"):
        for one, two in zip(flat(alone(*args)), flat(together(*args)), strict=True):
            np.testing.assert_array_equal(one, two)
        compare(circuit, "gradient", 2)
    return together.report().programs[0].threads == 2


def test_threads_change_no_bit() -> None:
    """Circuits large enough to be cut into chunks."""
    assert sum(on_threads(seed) for seed in range(100, 112)) >= 2


@pytest.mark.exhaustive
@pytest.mark.parametrize("seed", range(112, 260))
def test_large_circuits(seed: int) -> None:
    on_threads(seed)


@pytest.mark.parametrize("seed", range(20))
def test_any_part_may_run_in_numpy(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever operations have no native form: the rest is compiled around them."""
    choose = random.Random(seed)
    circuit = random_circuit(choose)

    def some(graph: Graph) -> dict[int, str]:
        nodes = [n for n, node in enumerate(graph.nodes) if node.op not in ("input", "constant")]
        return {n: "left out" for n in nodes if choose.random() < 0.3}

    monkeypatch.setattr(segments, "unsupported", some)
    compare(circuit, choose.choice(["value", "gradient"]), 1, strict=False)


def test_many_small_values() -> None:
    """Straight-line code, which circuits of many small arrays become."""
    straight = 0
    for seed in range(25):
        circuit = random_circuit(random.Random(seed), lines=30, sizes=SMALL)
        compare(circuit, "gradient", 1)
        compiled = compile(differentiated(circuit, "gradient")[0])
        straight += "straight" in compiled.stages(*circuit.args).schedule
    assert straight >= 3


@pytest.mark.parametrize(
    ("triple", "cpu", "features", "registers"),
    [
        ("x86_64-unknown-linux-gnu", "skylake-avx512", AVX512, r"%zmm\d"),
        ("aarch64-unknown-linux-gnu", "apple-m1", "", r"\bv\d+\.4s"),
    ],
)
def test_code_for_machines_that_are_not_here(
    triple: str, cpu: str, features: str, registers: str
) -> None:
    """It is made and assembled; it cannot be run."""
    target = target_for(triple, cpu, features)
    wide = 0
    for seed in range(6):
        function, args = differentiated(random_circuit(random.Random(seed), lines=6), "gradient")
        made = plan(simplify(decompose(trace(function, args).graph)), kind=target.kind)
        module = Module(target)
        write_entry(module, write_step(module, made, "k"), "entry")
        wide += bool(re.search(registers, assembly_of(module.text(), target)))
    assert wide >= 3


@pytest.mark.parametrize("how", ["jacobian", "hessian"])
def test_whole_derivatives(how: str) -> None:
    """Of small circuits: the program has a row for each result."""
    made = 0
    for seed in range(60):
        circuit = random_circuit(random.Random(seed), lines=4, smooth=True)
        if circuit.args[0].size <= (60 if how == "jacobian" else 12):
            compare(circuit, how, 1)
            made += 1
    assert made > 5


@pytest.mark.skipif(sys.platform != "linux", reason="forbids pages by the system's own call")
@pytest.mark.parametrize(
    ("first", "last"), [(0, 20), pytest.param(20, 200, marks=pytest.mark.exhaustive)]
)
@pytest.mark.parametrize("edge", ["end", "begin"])
def test_no_access_outside_any_buffer(first: int, last: int, edge: str) -> None:
    """With forbidden pages around every input, output and array of the arena."""
    command = [sys.executable, str(GUARDED), str(first), str(last), edge]
    done = subprocess.run(command, capture_output=True, text=True)
    last_lines = "\n".join(done.stdout.splitlines()[-4:])
    assert done.returncode == 0, f"ended with {done.returncode} after\n{last_lines}\n{done.stderr}"
    assert done.stdout.endswith("all inside\n")


def test_the_comparison_can_fail() -> None:
    """Results that are off by a few thousand ulp are told from rounding, in nearly all circuits."""
    noticed = 0
    for seed in range(40):
        circuit = random_circuit(random.Random(seed), lines=5)
        function, args = differentiated(circuit, "gradient")
        compiled = compile(function, threads=1)
        found = flat(compiled(*args))
        (made,) = compiled.programs.values()
        doubt = doubts(made.graph, made.traced.inputs(args, {}))
        off = [(x * (1 + 4000 * np.finfo(x.dtype).eps)).astype(x.dtype) for x in found]
        noticed += bool(disagreement(off, found, doubt))
    assert noticed >= 36


@pytest.mark.parametrize("kind", ["avx512", "neon"])
def test_the_code_for_other_vectors(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As written for machines that this one need not be: LLVM splits or joins the vectors."""
    narrow = native.target_for

    def other(triple: str, cpu: str, features: str) -> Target:
        return dataclasses.replace(narrow(triple, cpu, features), kind=KINDS[kind])

    monkeypatch.setattr(native, "target_for", other)
    native._host.cache_clear()
    try:
        assert native.host().kind.name == kind
        for seed in range(2000, 2012):
            check(random.Random(seed))
    finally:
        native._host.cache_clear()
