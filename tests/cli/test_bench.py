"""`chainrule bench`: its figures hang together, and what it says of each kernel is right."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from typing import Any

import pytest

from chainrule.cli.main import main
from chainrule.compiler import native

pytestmark = pytest.mark.skipif(not native.available(), reason="llvmlite is not here")
QUICK = ("--seconds", "0.02")


@pytest.fixture
def figures(capsys: pytest.CaptureFixture[str]) -> Callable[..., dict[str, Any]]:
    def call(*args: str) -> dict[str, Any]:
        assert main(["bench", "--json", *QUICK, *args]) == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    return call


def test_the_figures_hang_together(figures: Callable[..., dict[str, Any]]) -> None:
    found = figures("--layers", "20,12,5", "--batch", "16", "--threads", "1")
    # Forward and ∂W of both layers, δ of the first: 2 FLOPs a multiply-add.
    flops = 2 * 16 * (2 * 20 * 12 + 3 * 12 * 5)
    assert found["step"]["flops"] == flops
    assert found["step"]["flops_per_second"] == pytest.approx(flops / found["step"]["seconds"])
    reached = found["step"]["flops_per_second"] / found["peak"]["flops_per_second"]
    assert found["peak"]["share"] == pytest.approx(reached)
    assert reached > 0
    longer = found["numpy"]["seconds"] / found["step"]["seconds"]
    assert found["numpy"]["times_as_long"] == pytest.approx(longer)
    assert 0 < found["compile"]["cached"] < found["compile"]["cold"]
    assert found["threads"] == 1
    assert found["network"]["rows"] == 64 * 16
    kernels = found["kernels"]
    assert sum(kernel["share"] for kernel in kernels) == pytest.approx(1)
    assert sum(kernel["flops"] for kernel in kernels) == flops
    assert all(kernel["seconds"] > 0 for kernel in kernels)
    assert [kernel["phase"] for kernel in kernels] == sorted(k["phase"] for k in kernels)


def test_explain_says_the_chain_rule(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--explain", "--layers", "20,12,5", *QUICK]) == 0
    printed = capsys.readouterr().out
    lines = [re.sub(r"\s+", " ", line.strip()) for line in printed.splitlines()]
    assert re.fullmatch(
        r"20-12-5, relu, softmax_cross_entropy, sgd, float32, batch 32 of 2048 rows, on \d+ cores?",
        lines[0],
    )
    for kernel, step in (
        ("matmul, add, relu", "net1 = X·W1ᵀ + b1, h1 = relu(net1)"),
        ("matmul, where", "δ1 = (δ2·W2) ⊙ relu′(net1)"),
        ("matmul, multiply, subtract", "∂L/∂W2 = δ2ᵀ·h1, then W2 ← W2 − lr·∂L/∂W2"),
        ("matmul, multiply, subtract", "∂L/∂W1 = δ1ᵀ·X, then W1 ← W1 − lr·∂L/∂W1"),
    ):
        (line,) = [line for line in lines if line.endswith(step)]
        assert re.match(rf"\d+ {kernel} ", line), line


def test_without_explain_nothing_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--layers", "6,3", *QUICK]) == 0
    assert "∂L" not in capsys.readouterr().out


def test_a_step_in_registers_has_no_kernels(
    figures: Callable[..., dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    tiny = ("--layers", "2,2,1", "--rows", "4", "--loss", "squared_error")
    found = figures(*tiny)
    assert found["kernels"] == []
    assert found["network"]["batch"] == 4  # not the 32 that are usual: there are no more rows
    assert main(["bench", *tiny, *QUICK]) == 0
    assert "straight-line code in registers" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("loss", "optimizer"), [("nll", "adam"), ("binary_cross_entropy", "rmsprop"), ("huber", "sgd")]
)
def test_every_kind_of_loss_has_data_to_train_on(
    loss: str, optimizer: str, figures: Callable[..., dict[str, Any]]
) -> None:
    args = ("--layers", "4,3", "--batch", "8", "--dtype", "float64")
    found = figures(*args, "--loss", loss, "--optimizer", optimizer)
    assert found["network"]["loss"] == loss
    assert found["kernels"]


@pytest.mark.parametrize(
    ("args", "status", "message"),
    [
        (["--layers", "3"], 2, "'3': give two widths or more"),
        (["--layers", "3,x"], 2, "'3,x' is no list of whole numbers, as 64,32,10"),
        (["--layers", "3,0"], 2, "each from 1 to 100000"),
        (["--activation", "relo"], 1, "unknown activation 'relo'; did you mean 'relu'?"),
        (["--optimizer", "adm"], 1, "unknown optimizer 'adm'; did you mean 'adam'?"),
        (["--loss", "squarederror"], 1, "did you mean 'squared_error'?"),
        (["--threads", "0"], 2, "0 is not in the range"),
    ],
)
def test_what_cannot_be_is_refused(
    args: list[str], status: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *args, *QUICK]) == status
    assert message in capsys.readouterr().err


def test_the_environment_is_left_as_it_was(
    figures: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHAINRULE_CACHE_DIR", "off")
    monkeypatch.delenv("CHAINRULE_THREADS", raising=False)
    found = figures("--layers", "4,3", "--threads", "1")
    assert os.environ["CHAINRULE_CACHE_DIR"] == "off"
    assert "CHAINRULE_THREADS" not in os.environ
    assert found["compile"]["cached"] < found["compile"]["cold"]


def test_without_llvmlite_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(native, "available", lambda: False)
    assert main(["bench", *QUICK]) == 1
    assert capsys.readouterr().err.startswith("error: no machine code can be made here")
