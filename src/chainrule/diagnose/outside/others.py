"""The door of `diagnose`: a network of whatever origin, its data and its training as one run."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from os import PathLike
from typing import Any

from ...errors import DataError, UnknownNameError, listed, quoted
from ...nn import load, losses, optim
from ...nn.base import count
from ...nn.interchange import from_sklearn, from_state_dict
from ...nn.module import Module
from . import settings, table

__all__ = ["Adopted", "adopted"]

Array = Any


@dataclass(frozen=True, eq=False)
class Adopted:
    """A run with everything that decides it, whoever made the network.

    `said` are sentences on what was taken from the network's own settings, and on what is not as it
    was there. `columns` and `classes` are names, () where nobody knows any. What the network does
    not bring with it is as in `fit`.
    """

    model: Module
    X: Array
    y: Array
    loss: Any = None
    optimizer: Any = "adam"
    epochs: int = 10
    batch_size: int | None = 32
    seed: int = 0
    said: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()


def adopted(
    model: Any,
    X: Any,
    y: Any,
    loss: Any = None,
    optimizer: Any = None,
    epochs: int | None = None,
    batch_size: int | str | None = "auto",
    seed: int | None = None,
    *,
    from_start: bool | None = False,
    activations: Any = None,
) -> Adopted:
    """The run that is meant, for a network of chainrule, scikit-learn, PyTorch or Keras.

    A Module stays as it is. A fitted MLPClassifier or MLPRegressor of scikit-learn or of
    `chainrule.estimators`, also at the end of a Pipeline, brings loss, solver, epochs, batches and
    seed with it; X passes through the steps before it. `from_start` puts it back to the weights
    that its `random_state` drew, so that the fit itself is run again; without it the run goes on
    from the fitted ones; None does so where that is a number. A path or a mapping with
    `activations` is read by `from_state_dict`; a path alone is a model file of chainrule.

    What is given counts before what the network brings; "auto", None and None in `batch_size`,
    `loss` and the others mean the network's own, else those of `fit`. X and y may be data frames:
    strings in y become the numbers of their classes, and gaps NaN.

    Raises `TypeError` for what cannot be diagnosed, saying what can, and for a missing loss;
    `DataError` for columns that are no numbers and classes that the network does not know.
    """
    if activations is not None and not isinstance(model, (str, PathLike, Mapping)):
        raise TypeError("activations= is for the weights of a file or a state dict; leave it out")
    found = _own(model, X, y, from_start, activations)
    if len(found.y) != len(found.X):
        raise DataError(
            f"X has {len(found.X)} rows, y has {len(found.y)} rows; give one target for each row"
        )
    return replace(
        found,
        loss=_loss(found.loss if loss is None else loss),
        optimizer=optim.get(found.optimizer if optimizer is None else optimizer),
        epochs=found.epochs if epochs is None else count("epochs", epochs),
        batch_size=found.batch_size if batch_size == "auto" else _batch(batch_size),
        seed=found.seed if seed is None else count("seed", seed, least=0),
    )


def _batch(given: Any) -> int | None:
    return None if given is None else count("batch_size", given)


def _loss(given: Any) -> Any:
    if given is None:
        raise TypeError(
            "diagnose needs the loss that this network is trained with: loss= one of"
            f" {listed(losses.LOSSES)}, or f(prediction, target)"
        )
    return losses.get(given)


def _own(model: Any, X: Any, y: Any, from_start: bool | None, activations: Any) -> Adopted:
    if isinstance(model, (str, PathLike)) and activations is None:
        model = load(model)
    elif isinstance(model, (str, PathLike, Mapping)):
        model = from_state_dict(model, activations)
    if isinstance(model, Module):
        if from_start:
            raise TypeError(
                "from_start= is for fitted estimators; of a network it is not known how it was"
                " drawn: give it as it was before training"
            )
        return _of_module(model, X, y)
    steps = getattr(model, "steps", None)
    last = steps[-1][1] if isinstance(steps, list) and steps else model
    if not all(hasattr(last, name) for name in ("hidden_layer_sizes", "activation", "solver")):
        raise TypeError(_advice(model, last))
    if not all(hasattr(last, name) for name in ("coefs_", "intercepts_", "out_activation_")):
        kind = type(last).__name__
        raise TypeError(f"this {kind} is not fitted; diagnose takes one after its fit(X, y)")
    if from_start is None:
        from_start = isinstance(getattr(last, "random_state", None), Integral)
    return _of_estimator(model, last, X, y, from_start)


def _advice(model: Any, last: Any) -> str:
    kind = f"the class {model.__name__}" if isinstance(model, type) else f"a {type(model).__name__}"
    if last is not model:
        kind += f" that ends with a {type(last).__name__}"
    known = (
        "diagnose takes a network of chainrule.nn, a fitted MLPClassifier or MLPRegressor of"
        " scikit-learn or of chainrule.estimators (in a Pipeline too), and the weights of a dense"
        " PyTorch or Keras network (a .safetensors file or a state dict) with activations="
    )
    if hasattr(model, "best_estimator_"):
        return f"{known}; got {kind}: give its best_estimator_"
    if hasattr(model, "regressor_"):
        return f"{known}; got {kind}: give its regressor_, and y as its transformer_ makes it"
    if hasattr(model, "state_dict"):
        return f"{known}; got {kind}: give its state_dict(), and activations='relu' or the like"
    if hasattr(model, "get_weights"):
        return (
            f"{known}; got {kind}: give {{w.path: np.array(w) for w in model.weights}}, and"
            " activations='relu' or the like"
        )
    return f"{known}; got {kind}"


# -- networks ---------------------------------------------------------------------------------


def _of_module(model: Module, X: Any, y: Any) -> Adopted:
    """As it is; what an import or a run has left in `extra` says the loss and the classes."""
    extra = model.extra if isinstance(getattr(model, "extra", None), dict) else {}
    rows, columns = table.features(X)
    targets, classes, said = table.targets(y, extra.get("classes"))
    known = extra.get("features")
    if not columns and isinstance(known, list) and len(known) == rows.shape[-1]:
        columns = tuple(map(str, known))
    loss = extra.get("loss")
    loss = loss if isinstance(loss, str) and loss in losses.LOSSES else None
    return Adopted(model, rows, targets, loss, said=said, columns=columns, classes=classes)


# -- estimators -------------------------------------------------------------------------------


def _of_estimator(model: Any, last: Any, X: Any, y: Any, from_start: bool) -> Adopted:
    """The estimator's network with the training that its parameters describe."""
    theirs = not isinstance(getattr(last, "model_", None), Module)
    rows, columns, said = _through(model, last, X)
    network = _network(last, theirs)
    targets, classes, more = table.encoded(y, last)
    said += more
    size = settings.batch(last, len(rows))
    seed = settings.seed(last)
    if from_start:
        network, seed = settings.restarted(network, last, theirs)
    return Adopted(
        network,
        rows,
        targets,
        settings.loss(last),
        settings.optimizer(last, len(rows), size),
        settings.epochs(last),
        size,
        seed,
        (*said, *settings.said(last, len(rows), size, from_start, theirs)),
        columns,
        classes,
    )


def _network(last: Any, theirs: bool) -> Module:
    if not theirs:
        return copy.deepcopy(last.model_)  # type: ignore[no-any-return]
    try:
        return from_sklearn(last)
    except (DataError, UnknownNameError) as error:
        raise TypeError(f"this {type(last).__name__} cannot be diagnosed: {error}") from None


def _through(model: Any, last: Any, X: Any) -> tuple[Array, tuple[str, ...], tuple[str, ...]]:
    """X as the network itself sees it, the names of its columns, and by which way it came."""
    _demand_same_columns(model, X)
    given, names = table.features(X) if last is model else (X, ())
    said: tuple[str, ...] = ()
    if last is not model:
        steps = [name for name, step in model.steps[:-1] if step not in (None, "passthrough")]
        given, names = table.features(_stepped(model, X))
        if steps:
            said = (
                f"X has passed through {listed(steps)} of the pipeline: the diagnosis sees what the"
                " network sees.",
            )
    width = int(getattr(last, "n_features_in_", given.shape[-1]))
    if given.ndim != 2 or given.shape[1] != width:
        raise DataError(f"X has shape {given.shape}, and this network takes {width} columns")
    if not names:
        known = getattr(last, "feature_names_in_", None)
        names = tuple(map(str, known)) if known is not None else _named(model, last, width)
    return given, names, said


def _stepped(pipeline: Any, X: Any) -> Any:
    for _, step in pipeline.steps[:-1]:
        if step is None or (isinstance(step, str) and step == "passthrough"):
            continue
        X = step.transform(X)
    return X


def _named(model: Any, last: Any, width: int) -> tuple[str, ...]:
    """The names that the steps of a pipeline give to their columns, where all of them do."""
    if last is model or getattr(model, "feature_names_in_", None) is None:
        return ()
    names: Any = model.feature_names_in_
    try:
        for _, step in model.steps[:-1]:
            if step is not None and not isinstance(step, str):
                names = step.get_feature_names_out(names)
    except (AttributeError, ValueError):
        return ()
    return tuple(map(str, names)) if len(names) == width else ()


def _demand_same_columns(model: Any, X: Any) -> None:
    """A frame must have the columns of the fit, in their order, as scikit-learn asks."""
    known, names = getattr(model, "feature_names_in_", None), table.names(X)
    if known is None or not names or list(names) == [str(n) for n in known]:
        return
    wrong: Sequence[str] = [n for n in names if n not in known] or list(names)
    raise DataError(
        f"X has the columns {listed(names, 6)}, and the network was fitted on"
        f" {listed(map(str, known), 6)}, in this order; {quoted(wrong[0])} is not in its place"
    )
