"""The contract: names that other programs are written against."""

from __future__ import annotations

import subprocess
import sys

import pytest

import chainrule as cr

FUNCTIONS = (
    "add", "subtract", "multiply", "divide", "power", "negative", "reciprocal", "square",
    "sqrt", "abs", "sign", "exp", "expm1", "log", "log1p", "sin", "cos", "tan", "arcsin",
    "arccos", "arctan", "sinh", "cosh", "tanh", "erf", "maximum", "minimum", "where", "clip",
    "sum", "mean", "var", "std", "prod", "max", "min", "argmax", "cumsum", "logsumexp",
    "matmul", "dot", "einsum", "outer", "reshape", "transpose", "swapaxes", "squeeze",
    "expand_dims", "broadcast_to", "concatenate", "stack", "split", "take", "pad", "flip",
    "stop_gradient", "no_grad", "sigmoid", "relu", "leaky_relu", "prelu", "elu", "selu", "gelu",
    "silu", "softplus", "softsign", "hard_tanh", "maxout", "softmax", "log_softmax", "one_hot",
    "dropout", "tensor", "grad", "value_and_grad", "vjp", "jvp", "jacobian", "hessian",
    "check_grad", "custom_gate", "open", "close", "compile", "fit", "load",
)  # fmt: skip
LAYERS = (
    "Linear", "Sigmoid", "Tanh", "ReLU", "LeakyReLU", "PReLU", "ELU", "SELU", "GELU", "SiLU",
    "Softplus", "Maxout", "Softmax", "LogSoftmax", "Dropout", "BatchNorm1d", "LayerNorm",
    "Flatten", "Sequential", "Module", "Parameter",
)  # fmt: skip
LOSSES = (
    "squared_error", "mean_squared_error", "absolute_error", "huber", "logistic",
    "binary_cross_entropy", "nll", "softmax_cross_entropy", "relative_entropy", "matching",
)  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_is_public(name: str) -> None:
    assert callable(getattr(cr, name))


@pytest.mark.parametrize("name", LAYERS)
def test_layer_is_public(name: str) -> None:
    assert isinstance(getattr(cr.nn, name), type)


@pytest.mark.parametrize("name", LOSSES)
def test_loss_is_public(name: str) -> None:
    assert callable(getattr(cr.losses, name))


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "RMSprop", "Adagrad"])
def test_optimiser_is_public(name: str) -> None:
    assert isinstance(getattr(cr.optim, name), type)


def test_tensors_have_the_promised_methods() -> None:
    promised = (
        "shape", "ndim", "dtype", "size", "T", "sum", "mean", "max", "min", "reshape", "transpose",
        "numpy", "item", "detach", "backward", "grad",
    )  # fmt: skip
    assert [name for name in promised if not hasattr(cr.Tensor, name)] == []


def test_importing_loads_no_command_line_library() -> None:
    """`import chainrule` must stay quick: what only commands and files need comes when needed."""
    heavy = "{'click', 'rich', 'safetensors'}"
    code = f"import sys, chainrule; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
