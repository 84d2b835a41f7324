"""Networks that others have trained, as Sequentials: MLPs of scikit-learn, PyTorch's and Keras's.

Only numbers are taken over: no library of theirs is imported, and a file is read with the suspicion
of `chainrule.nn.tensorfile`. What comes out predicts what went in, and can be trained on, explained
and saved.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from os import PathLike, fsdecode
from typing import Any

import numpy as np

from ..errors import DataError, listed, quoted, unknown
from . import activations, layers
from .groups import Group, chained, demand_known, groups_of, numbers, ordered, shown, stem
from .module import Module
from .sequential import Sequential
from .storage import reading
from .tensorfile import (
    Refusal,
    allocate,
    in_order,
    open_regular,
    outline,
    raw_header,
)

__all__ = ["from_sklearn", "from_state_dict"]

Array = np.ndarray[Any, Any]
Activation = str | Module | None

ACTIVATIONS: dict[str, Callable[[], Module] | None] = {
    "identity": None,
    "none": None,
    "logistic": layers.Sigmoid,
    **{name: kind for name, kind in activations.ACTIVATIONS.items() if name != "prelu"},
    "softmax": layers.Softmax,
    "log_softmax": layers.LogSoftmax,
}


# -- scikit-learn -----------------------------------------------------------------------------


def from_sklearn(estimator: Any, *, probabilities: bool = False) -> Sequential:
    """A fitted MLPClassifier or MLPRegressor of scikit-learn as a Sequential, in evaluation mode.

    `predict` gives raw outputs of shape (n, k), so that the loss named in `extra["loss"]` goes on
    training: a regressor's values, and a classifier's logits, whose softmax (more than two classes)
    or sigmoid (two, or several labels) are scikit-learn's `predict_proba`; with two classes it is
    one logit, that of the second. `probabilities=True` appends that Softmax or Sigmoid.
    `extra["classes"]` has the classes, and `extra["features"]` the names of the columns if known.

    A Pipeline of StandardScalers and such an estimator is taken as well: each scaler goes into the
    first layer as W/scale and b − W·mean/scale. The weights keep their dtype; with a scaler they
    are float64, as what is large and cancels would lose digits.

    Raises `DataError` for what is not fitted, and for other estimators and steps, naming them.

    >>> from sklearn.neural_network import MLPRegressor
    >>> X, y = np.array([[0.0], [1.0], [2.0]]), np.array([1.0, 3.0, 5.0])
    >>> mlp = MLPRegressor(hidden_layer_sizes=[4], solver="lbfgs", tol=0.1, random_state=0)
    >>> mlp = mlp.fit(X, y)
    >>> model = from_sklearn(mlp)
    >>> bool(np.allclose(model.predict(X)[:, 0], mlp.predict(X), atol=1e-6))
    True
    >>> model.extra["loss"]
    'squared_error'
    """
    scalers, mlp = _steps(estimator)
    weights = [np.array(w).T for w in mlp.coefs_]
    biases = [np.array(b) for b in mlp.intercepts_]
    for scaler in reversed(scalers):
        weights[0], biases[0] = _folded(scaler, weights[0], biases[0])
    if scalers:
        weights = [w.astype(np.float64) for w in weights]
    hidden = _activation_of_sklearn(mlp.activation)
    parts: list[Module] = []
    for weight, bias in zip(weights, biases, strict=True):
        parts += [*_made(hidden if parts else None), _linear(weight, bias)]
    output, loss = _output_of_sklearn(mlp)
    if probabilities and output is not None:
        parts += [output]
        loss = "nll" if loss == "softmax_cross_entropy" else "binary_cross_entropy"
    model = Sequential(*parts)
    model.extra = _facts(estimator, mlp, loss)
    return model.eval()


def _steps(estimator: Any) -> tuple[list[Any], Any]:
    """The scalers in front, and the fitted network behind them."""
    steps = getattr(estimator, "steps", None)
    if not isinstance(steps, list) or not steps:
        return [], _fitted_mlp(estimator)
    *front, (_, mlp) = steps
    found = []
    for name, step in front:
        if step is None or (isinstance(step, str) and step == "passthrough"):
            continue
        if type(step).__name__ != "StandardScaler":
            raise DataError(
                f"step {quoted(name)} of the pipeline is a {type(step).__name__}; only a"
                " StandardScaler can go into the network: apply that step to the data, and give the"
                " network alone"
            )
        if not hasattr(step, "n_features_in_"):
            raise DataError(f"step {quoted(name)} of the pipeline is not fitted; call fit first")
        found.append(step)
    return found, _fitted_mlp(mlp)


def _fitted_mlp(estimator: Any) -> Any:
    kind = type(estimator).__name__
    if not all(hasattr(estimator, name) for name in ("activation", "hidden_layer_sizes")):
        what = f"the class {estimator.__name__}" if isinstance(estimator, type) else f"a {kind}"
        raise DataError(
            f"expected a fitted MLPClassifier or MLPRegressor of scikit-learn, got {what}"
        )
    if not all(hasattr(estimator, n) for n in ("coefs_", "intercepts_", "out_activation_")):
        raise DataError(f"this {kind} is not fitted: call its fit(X, y) first")
    return estimator


def _folded(scaler: Any, weight: Array, bias: Array) -> tuple[Array, Array]:
    """The layer on data that is not scaled: W·(x − mean)/scale + b."""
    count = weight.shape[1]
    mean = np.zeros(count) if scaler.mean_ is None or not scaler.with_mean else scaler.mean_
    scale = np.ones(count) if scaler.scale_ is None else scaler.scale_
    if len(mean) != count or len(scale) != count:
        raise DataError(f"the scaler has {len(scale)} columns, and the network {count} inputs")
    wide = weight.astype(np.float64) / scale
    return wide, bias.astype(np.float64) - wide @ mean


def _activation_of_sklearn(name: Any) -> Activation:
    known = ("identity", "logistic", "relu", "tanh")
    if name not in known:
        raise unknown("activation of a scikit-learn network", name, known)
    return str(name)


def _output_of_sklearn(mlp: Any) -> tuple[Module | None, str]:
    """What turns its raw outputs into what it predicts, and the loss on the raw ones."""
    found = {
        "identity": (None, "squared_error"),
        "logistic": (layers.Sigmoid(), "logistic"),
        "softmax": (layers.Softmax(), "softmax_cross_entropy"),
    }
    if mlp.out_activation_ not in found:
        raise DataError(
            f"the outputs of this {type(mlp).__name__} pass through"
            f" {quoted(mlp.out_activation_)}, for which there is no layer here"
        )
    return found[mlp.out_activation_]


def _facts(estimator: Any, mlp: Any, loss: str) -> dict[str, Any]:
    classes = getattr(mlp, "classes_", None)
    facts: dict[str, Any] = {
        "source": f"scikit-learn {type(mlp).__name__}",
        "task": "regression" if classes is None else "classification",
        "loss": loss,
    }
    if classes is not None:
        facts["classes"] = np.asarray(classes).tolist()
    columns = getattr(estimator, "feature_names_in_", None)
    return facts if columns is None else {**facts, "features": [str(name) for name in columns]}


def _linear(weight: Array, bias: Array | None) -> layers.Linear:
    units, inputs = weight.shape
    given = False if bias is None else bias
    return layers.Linear(inputs, units, given, weight=weight, dtype=weight.dtype)


def _made(activation: Activation) -> list[Module]:
    """The layer of that name, or the layer given; nothing for the identity."""
    if isinstance(activation, Module):
        return [copy.deepcopy(activation)]  # it may stand in several places
    if activation is None:
        return []
    if activation not in ACTIVATIONS:
        raise unknown("activation", activation, ACTIVATIONS)
    make = ACTIVATIONS[activation]
    return [] if make is None else [make()]


# -- state dicts ------------------------------------------------------------------------------


_DTYPES = ("F16", "BF16", "F32", "F64", "I64")  # the last for num_batches_tracked


def from_state_dict(
    source: str | PathLike[str] | Mapping[str, Any],
    activations: Activation | Sequence[Activation] = None,
    *,
    model: Sequential | None = None,
    eps: float = 1e-5,
) -> Sequential:
    """A dense network from its weights: a .safetensors file, or a mapping of arrays or tensors.

    Names are as PyTorch gives them: "0.weight", "layers.2.bias", "fc1.weight", "3.running_mean".
    Tensors of one prefix are a layer: `weight` (out, in) is a Linear, `running_mean` a BatchNorm1d,
    a `weight` (n,) with its `bias` a LayerNorm, these two with `eps`. Layers stand in the order of
    the numbers in their names (fc2 before fc10), and each must take what the one before gives;
    where names have no numbers the shapes must leave one order only.

    Keras's paths do as well: "dense/kernel" (in, out), "sequential/dense_1/bias", where "dense"
    comes before "dense_1" and a Dense layer's own activation is said like any other. A network with
    its normalisations ("gamma", "beta", "moving_mean") needs `model`.

    A state dict does not say which activations stand between, so they must be said: one name for
    all places, or a list of names and layers, "identity" for none. There is a place at each gap in
    the numbers of a Sequential ("0", "2", "4"), or between every two Linears where there are no
    such gaps; one more in a list is for the end. Or give `model`, a Sequential to be filled in and
    given back, in its dtype: its layers with parameters take the groups in order.

    float16, float32 and float64 are kept, bfloat16 becomes float32. The result is in evaluation
    mode. Raises `ModelFileError` naming the file, tensor or layer that does not fit; a file cannot
    run code, whoever made it.

    >>> model = from_state_dict({"0.weight": [[1.0, -1.0]], "2.weight": [[3.0]]}, "relu")
    >>> model.predict([[5.0, 1.0], [1.0, 5.0]])
    array([[12.],
           [ 0.]])
    """
    if not isinstance(source, Mapping):
        path = fsdecode(source)
        with reading(repr(path)):
            return _network(groups_of(_read(path)), activations, model, eps)
    with reading("the state dict"):
        tensors = {str(name): _array(value) for name, value in source.items()}
        return _network(groups_of(tensors), activations, model, eps)


def _read(path: str) -> dict[str, Array]:
    """The tensors of any safetensors file."""
    with open_regular(path) as file:
        raw, room = raw_header(file)
        entries, _ = outline(raw, room, _DTYPES)
        arrays = allocate(entries)
        for _ in in_order(file, entries, arrays):
            pass
    for name, entry in entries.items():
        if entry.dtype == "BF16":
            arrays[name] = _widened(arrays[name])
    return arrays


def _widened(bits: Array) -> Array:
    """bfloat16 is the upper half of a float32."""
    wide: Array = (bits.astype(np.uint32) << 16).view(np.float32)
    return wide


def _array(value: Any) -> Array:
    """A value of a mapping as an array; a tensor of PyTorch is one by its own methods."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value.float() if str(value.dtype) == "torch.bfloat16" else value
    return np.array(value)


def _network(
    groups: list[Group],
    activations: Activation | Sequence[Activation],
    model: Sequential | None,
    eps: float,
) -> Sequential:
    if model is not None:
        if activations is not None:
            raise TypeError("from_state_dict: give activations or a model, not both")
        return _filled(model, groups)
    for group in groups:
        demand_known(group)
    order = chained(groups)
    return Sequential(*_with_activations(order, _places(order), activations, eps)).eval()


# -- activations ------------------------------------------------------------------------------


def _places(groups: list[Group]) -> list[int]:
    """After which of the layers an activation stands."""
    counted = [numbers(group.name) for group in groups]
    stems = {stem(group.name) for group in groups}
    of_sequential = len(stems) == 1 and min(stems).rpartition(".")[2] == "#"  # fc2, fc10: no gap
    steps = enumerate(pairwise(counted) if of_sequential else ())
    gaps = [k for k, (a, b) in steps if a[:-1] == b[:-1] and b[-1] - a[-1] > 1]
    if gaps:
        return gaps
    if all(group.kind == "dense" for group in groups):
        return list(range(len(groups) - 1))
    raise Refusal(
        "does not say on which side of its normalisations the activations stand, as its numbers"
        " have no gaps; build the network and give it as model="
    )


def _with_activations(
    groups: list[Group],
    places: list[int],
    activations: Activation | Sequence[Activation],
    eps: float,
) -> Iterator[Module]:
    chosen = dict(zip(places, _chosen(activations, groups, places), strict=False))
    if isinstance(activations, (list, tuple)) and len(activations) > len(places):
        chosen[len(groups) - 1] = activations[-1]
    for place, group in enumerate(groups):
        yield _layer(group, eps)
        yield from _made(chosen.get(place))


def _chosen(
    activations: Activation | Sequence[Activation], groups: list[Group], places: list[int]
) -> list[Activation]:
    count = len(places)
    if activations is None:
        if not count:
            return []
        behind = listed([groups[place].name for place in places], 6)
        raise Refusal(
            f"does not say which activations stand behind {behind}; pass activations='relu', or a"
            f" list of {count} ('identity' for none), or the network as model="
        )
    if isinstance(activations, (str, Module)):
        if isinstance(activations, Module) and list(activations.parameters()):
            raise Refusal("cannot fill an activation with parameters; give the network as model=")
        return [activations] * count
    if len(activations) not in (count, count + 1):
        raise Refusal(
            f"has {count} places for activations, and {len(activations)} were given; one more is"
            " for the end"
        )
    return list(activations)[:count]


def _layer(group: Group, eps: float) -> Module:
    values = group.tensors
    if group.kind == "dense":
        return _linear(values["weight"], values.get("bias"))
    width, dtype = group.width[0], next(iter(values.values())).dtype
    norm: Module = (
        layers.BatchNorm1d(width, eps, dtype=dtype)
        if group.kind == "batch norm"
        else layers.LayerNorm(width, eps, dtype=dtype)
    )
    norm.load_state_dict({**norm.state_dict(), **values})
    return norm


# -- a network that is given ------------------------------------------------------------------


def _filled(model: Sequential, groups: list[Group]) -> Sequential:
    """The network with the groups' values, in the order of its layers with parameters."""
    holders = [(name, m) for name, m in model.named_modules() if _shapes(m)]
    if len(holders) != len(groups):
        raise Refusal(f"has {len(groups)} layers, and the model {len(holders)} with parameters")

    def fits(before: Group | None, group: Group, place: int) -> bool:
        given = {name: value.shape for name, value in group.tensors.items()}
        return given == _shapes(holders[place][1])

    def misfit(groups: list[Group]) -> str:
        place = next((k for k, g in enumerate(groups) if not fits(None, g, k)), 0)
        given = {name: value.shape for name, value in groups[place].tensors.items()}
        name, module = holders[place]
        return (
            f"has {quoted(groups[place].name)} with {shown(given)}, and layer {name} of the model"
            f" takes {shown(_shapes(module))}"
        )

    own = {group.name: group for group in groups}
    same = [own[name] for name, _ in holders if name in own]
    whole = len(same) == len(groups) and all(fits(None, g, k) for k, g in enumerate(same))
    order = same if whole else ordered(groups, fits, misfit)
    for (_, module), group in zip(holders, order, strict=True):
        module.load_state_dict(group.tensors)
    return model.eval()


def _shapes(module: Module) -> dict[str, tuple[int, ...]]:
    """The module's own tensors, without those of modules inside."""
    return {k: v.shape for k, v in module.state_dict().items() if "." not in k}
