"""NumPy's own functions on tensors: `np.sin(t)` and `np.concatenate([t, u])` record as well."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..circuit import Tensor, vocabulary
from ..circuit import vocabulary as ops
from .record import registry

# NumPy functions that are no ufuncs, by the vocabulary's word; arguments are named alike.
WORDS: dict[Callable[..., Any], str] = {
    np.sum: "sum",
    np.mean: "mean",
    np.var: "var",
    np.std: "std",
    np.prod: "prod",
    np.max: "max",
    np.min: "min",
    np.amax: "max",
    np.amin: "min",
    np.argmax: "argmax",
    np.argmin: "argmin",
    np.cumsum: "cumsum",
    np.clip: "clip",
    np.where: "where",
    np.dot: "dot",
    np.einsum: "einsum",
    np.outer: "outer",
    np.linalg.norm: "norm",
    np.reshape: "reshape",
    np.transpose: "transpose",
    np.swapaxes: "swapaxes",
    np.squeeze: "squeeze",
    np.expand_dims: "expand_dims",
    np.broadcast_to: "broadcast_to",
    np.concatenate: "concatenate",
    np.stack: "stack",
    np.split: "split",
    np.take: "take",
    np.pad: "pad",
    np.flip: "flip",
    np.ravel: "ravel",
}

# Questions about a shape or a dtype, which a compiled function may ask.
OUTLINES: tuple[Callable[..., Any], ...] = (
    np.shape,
    np.ndim,
    np.size,
    np.zeros_like,
    np.ones_like,
    np.empty_like,
    np.iscomplexobj,
)

# Questions about a value, not computations with it: answered from the plain array.
QUESTIONS: tuple[Callable[..., Any], ...] = (
    np.full_like,
    np.allclose,
    np.isclose,
    np.array_equal,
    np.array_repr,
    np.array_str,
    np.array2string,
    np.result_type,
    np.any,
    np.all,
    np.count_nonzero,
    np.argsort,
    np.may_share_memory,
    np.shares_memory,
)

# ufunc.reduce of these is a reduction that has a word of its own
REDUCTIONS = {np.add: "sum", np.multiply: "prod", np.maximum: "max", np.minimum: "min"}

_IGNORED: dict[str, tuple[Any, ...]] = {
    "dtype": (None,),
    "out": (None,),
    "casting": ("same_kind",),
    "order": ("K", "C"),
    "subok": (True,),
}
_RENAMED = {"a_min": "low", "a_max": "high", "min": "low", "max": "high", "newshape": "shape"}


def _ufuncs() -> dict[Any, str]:
    return {
        function: op.name
        for op in registry.operations()
        for function in op.facts.numpy
        if isinstance(function, np.ufunc)
    }


UFUNCS = _ufuncs()


def numpy_ufunc(ufunc: Any, method: str, inputs: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
    """What `np.sin(t)` becomes: the recorded operation of the same name."""
    if method == "reduce" and ufunc in REDUCTIONS:
        axis = keywords.get("axis", 0)
        rest = {k: v for k, v in keywords.items() if k != "axis"}
        return getattr(ops, REDUCTIONS[ufunc])(
            *inputs, axis=axis, **_accepted(ufunc.__name__, rest)
        )
    if method != "__call__":
        raise TypeError(
            f"np.{ufunc.__name__}.{method} has no rule for tensors; use {_nearest('sum')}"
        )
    if "out" in keywords:
        raise TypeError(
            f"np.{ufunc.__name__}(…, out=) writes into an array, which a circuit cannot follow;"
            " use its return value"
        )
    if ufunc not in UFUNCS:
        raise TypeError(_no_rule(f"np.{ufunc.__name__}"))
    return getattr(ops, UFUNCS[ufunc])(*inputs, **_accepted(ufunc.__name__, keywords))


def numpy_function(function: Any, args: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
    """What `np.concatenate([t, u])` becomes."""
    if function in WORDS:
        return getattr(ops, WORDS[function])(*args, **_accepted(function.__name__, keywords))
    if function in OUTLINES:
        outlines = [x.value if isinstance(x, Tensor) else x for x in args]
        return function(*outlines, **keywords)
    if function in QUESTIONS:
        return function(*_plain(args), **{k: _plain(v) for k, v in keywords.items()})
    raise TypeError(_no_rule(_full_name(function)))


def _accepted(name: str, keywords: Mapping[str, Any]) -> dict[str, Any]:
    """The keywords that the words know, in their spelling; NumPy's defaults pass unseen."""
    kept = {}
    for key, value in keywords.items():
        default = isinstance(value, (str, bool, type(None))) and value in _IGNORED.get(key, ())
        if default or value is np._NoValue:
            continue
        if key in ("dtype", "out", "where", "initial", "casting", "order", "subok"):
            raise TypeError(f"np.{name}(…, {key}=) is not supported for tensors; leave it out")
        kept[_RENAMED.get(key, key)] = value
    return kept


def _plain(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.numpy()
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(one) for one in value)
    return value


def _full_name(function: Any) -> str:
    module = getattr(function, "__module__", "numpy").replace("numpy", "np", 1)
    return f"{module}.{function.__name__}"


def _no_rule(name: str) -> str:
    return (
        f"{name} has no rule for tensors; the nearest that has is {_nearest(name.split('.')[-1])}"
    )


def _nearest(name: str) -> str:
    names = [str(n) for n in registry]
    found = difflib.get_close_matches(name, names, n=1, cutoff=0.0)
    return f"cr.{found[0]}"


vocabulary.enter("numpy_ufunc", numpy_ufunc)
vocabulary.enter("numpy_function", numpy_function)
