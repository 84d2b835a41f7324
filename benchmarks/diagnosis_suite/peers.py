"""Published rules of other tools, re-stated: what each would say of the same runs.

Thresholds are those of the tools' papers and code, named with each. The re-statement is ours and
an approximation: tensors are sampled at some twenty epochs, losses on logits count as their fused
Keras forms, and a finding is mapped generously, to every problem that its text could mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from diagnosis_suite.watching import Watched

Finding = tuple[str, frozenset[str]]  # what the tool says, and the problems it may mean
GRADIENT = "vanishing_gradient", "saturation"
RATE_HIGH, RATE_LOW = "learning_rate_too_high", "learning_rate_too_low"
STUCK = (
    RATE_LOW, RATE_HIGH, "vanishing_gradient", "symmetric_init", "dead_relu",
    "single_class_softmax", "saturation", "insufficient_capacity", "data_fault",
)  # fmt: skip


def finding(text: str, *problems: str) -> Finding:
    """What is said, with every name that would count as right."""
    return text, frozenset(problems)


# -- AutoTrainer ------------------------------------------------------------------------------


def auto_trainer(run: Watched) -> list[Finding]:
    """AUTOTRAINER. Source: Zhang et al., ICSE 2021 and TDSC 2024 (shiningrain/AUTOTRAINER).

    Rules on gradients and slow convergence are asked only where accuracy stays below 0.6; that of
    a regression always does.
    """
    found = list(_output_of_auto_trainer(run))
    if run.not_finite or any(loss >= 1e3 for loss in run.loss):
        found.append(finding("explode", "exploding_gradient", RATE_HIGH, "unscaled_inputs",
                             "unscaled_targets", "zero_probability", "data_fault"))  # fmt: skip
    if any(loss < 0 for loss in run.loss):
        found.append(finding("negative loss", "data_fault"))
    if not run.accuracy:
        return found
    swings = np.abs(np.diff(run.accuracy)) >= 0.03
    if len(swings) and swings.mean() >= 0.2:
        found.append(finding("oscillating", RATE_HIGH))
    if max(run.accuracy) < 0.6:
        found += _gradients_of_auto_trainer(run)
    return found


def _gradients_of_auto_trainer(run: Watched) -> Iterator[Finding]:
    first, last = run.weights[0], run.weights[-1]
    for shot in run.shots:
        every = np.concatenate([g.reshape(-1) for g in shot.gradients.values()])
        norms = [float(np.linalg.norm(shot.gradients[name])) for name in (first, last)]
        ratio = norms[0] / norms[1] if norms[1] else np.inf if norms[0] else 1.0
        if ratio < 1e-3 and norms[0] < 1e-4:
            yield finding("vanish", *GRADIENT, "symmetric_init")
            break
        if ratio > 70:
            yield finding("explode", "exploding_gradient")
            break
        if np.mean(every == 0) >= 0.7:
            yield finding("dying", "dead_relu")
            break
    for _, _, out in run.shots[-1].layers[:-1]:
        if np.abs(out).mean() >= 10:
            yield finding("hidden outputs above 10", "unscaled_inputs", "exploding_gradient")
            break
    rises = np.diff(run.accuracy)
    if not (rises >= 0.01).any():
        yield finding("slow convergence", RATE_LOW, "symmetric_init", "vanishing_gradient")


def _output_of_auto_trainer(run: Watched) -> Iterator[Finding]:
    """A lookup of loss, activation and width, and outputs that add up to more than 1.1."""
    ending, units = run.case.recipe.layers[-1].activation, run.case.recipe.layers[-1].units
    if ending == "softmax" and units == 1:
        yield finding("improper activation", "single_class_softmax", "loss_output_mismatch")
    elif run.case.task == "classes" and run.shots:
        logits = run.case.recipe.loss in ("softmax_cross_entropy", "logistic")
        name, _, out = run.shots[-1].layers[-1]
        if (logits and name != "linear") or (not logits and (out.sum(axis=1) > 1.1).any()):
            yield finding("improper activation", "loss_output_mismatch")


# -- DeepDiagnosis ----------------------------------------------------------------------------


def deep_diagnosis(run: Watched) -> list[Finding]:
    """DeepDiagnosis, which stops at its first symptom. Source: Wardat et al., ICSE 2022."""
    if run.not_finite:
        return [finding("numerical error", "exploding_gradient", "zero_probability", "data_fault",
                        RATE_HIGH, "unscaled_inputs", "unscaled_targets")]  # fmt: skip
    outside = list(_targets_outside(run))
    if outside:
        return outside
    for index, shot in enumerate(run.shots):
        last = index == len(run.shots) - 1
        said = next(_symptoms(run, shot, last, run.shots[index - 1] if index else None), None)
        if said is not None:
            return [said]
    return list(_rate_of_updates(run))


def _rate_of_updates(run: Watched) -> Iterator[Finding]:
    """lr·‖g‖/‖w‖ a hundred times off 10⁻³: the median of the run, to be charitable."""
    lr = run.case.recipe.settings["lr"]
    rates = [
        lr * _norm(shot.gradients[name] for name in run.weights)
        / max(_norm(shot.parameters[name] for name in run.weights), 1e-300)
        for shot in run.shots
    ]  # fmt: skip
    middle = float(np.median(rates)) if rates else 1e-3
    if middle > 1e-1:
        yield finding("learning rate out of range", RATE_HIGH)
    if middle < 1e-5:
        yield finding("learning rate out of range", RATE_LOW)


def _norm(arrays: Iterable[Any]) -> float:
    return float(np.sqrt(sum(float(np.square(a, dtype=np.float64).sum()) for a in arrays)))


def _targets_outside(run: Watched) -> Iterator[Finding]:
    low, high = {"sigmoid": (0, 1), "softmax": (0, 1), "tanh": (-1, 1), "relu": (0, np.inf)}.get(
        run.case.recipe.layers[-1].activation, (-np.inf, np.inf)
    )
    y = run.case.y
    if run.case.task != "classes" and (y.min() < low or y.max() > high):
        yield finding("out of range", "loss_output_mismatch")


def _symptoms(run: Watched, shot: Any, last: bool, before: Any) -> Iterator[Finding]:
    for kind, net, out in shot.layers[:-1]:
        if kind == "relu" and last and np.mean(out <= 0) >= 0.7:
            yield finding("dead node", "dead_relu")
        if kind in ("tanh", "sigmoid") and np.mean(np.abs(net) > 5) > 0.5:
            yield finding("saturated activation", "saturation", "unscaled_inputs")
    for name in run.weights:
        g, w = shot.gradients[name], shot.parameters[name]
        if g.mean() == 0 or w.mean() == 0:
            yield finding("a mean of exactly 0", *STUCK)
        if np.abs(g).mean() < 1e-7:
            yield finding("vanishing gradient", *GRADIENT, "symmetric_init")
        if shot is run.shots[0] and not 1e-5 < w.var() < 10:
            yield finding("weights not properly initialised", "symmetric_init", "saturation",
                          "exploding_gradient")  # fmt: skip
        if before is not None and np.array_equal(w, before.parameters[name]):
            yield finding("unchanged weight", *STUCK)


# -- Umlaut -----------------------------------------------------------------------------------


def umlaut(run: Watched) -> list[Finding]:
    """Umlaut, whose checks are constants. Source: Schoop et al., CHI 2021 (BerkeleyHCI/umlaut)."""
    found, recipe = [], run.case.recipe
    if not np.isfinite(run.case.X).all():
        found.append(finding("NaN in the input", "data_fault"))
    elif np.abs(run.case.X).max() > 1:
        found.append(finding("input not normalised", "unscaled_inputs"))
    if recipe.layers[-1].activation != "softmax" and recipe.loss != "softmax_cross_entropy":
        found.append(finding("missing softmax", "loss_output_mismatch"))
    if recipe.settings["lr"] > 0.01:
        found.append(finding("learning rate high", RATE_HIGH))
    if recipe.settings["lr"] < 1e-7:
        found.append(finding("learning rate low", RATE_LOW))
    hidden = recipe.layers[:-1]
    if any(layer.activation == "linear" for layer in hidden):
        found.append(finding("missing activation", "insufficient_capacity"))
    return found


# -- SageMaker Debugger -----------------------------------------------------------------------


def sagemaker(run: Watched) -> list[Finding]:
    """Amazon SageMaker Debugger's built-in rules, with their default thresholds."""
    found = []
    if run.not_finite:
        found.append(finding("exploding tensor", "exploding_gradient", RATE_HIGH,
                             "zero_probability", "unscaled_inputs", "unscaled_targets",
                             "data_fault"))  # fmt: skip
    found += _tensors_of_sagemaker(run)
    losses_ = np.asarray(run.step_loss)
    if len(losses_) > 10 and (losses_[10:] > losses_[:-10] * 0.999).mean() > 0.5:
        found.append(finding("loss not decreasing", *STUCK))
    if run.case.task in ("binary", "classes") and run.case.y.ndim <= 2:
        counts = np.unique(run.case.y.reshape(-1), return_counts=True)[1]
        if len(counts) < 2 or counts.max() / counts.min() > 10:
            found.append(finding("class imbalance", "data_fault"))
    return found


def _tensors_of_sagemaker(run: Watched) -> Iterator[Finding]:
    if not run.shots:
        return
    variances = [run.shots[0].parameters[name].var() for name in run.weights]
    if max(variances) > 10 * min(variances):
        yield finding("poor weight initialisation", "symmetric_init", "saturation",
                      "exploding_gradient", "vanishing_gradient")  # fmt: skip
    shot = run.shots[-1]
    for kind, net, out in shot.layers[:-1]:
        if kind == "relu" and np.mean((out > 0).mean(axis=0) < 0.01) > 0.5:
            yield finding("dead ReLU", "dead_relu")
        tanh = kind == "tanh" and np.mean(np.abs(net) > 9.4999) > 0.5
        sigmoid = kind == "sigmoid" and np.mean((net < -23) | (net > 16.99999)) > 0.5
        if tanh or sigmoid:
            yield finding("saturated activation", "saturation", "unscaled_inputs")
    if any(np.abs(shot.gradients[name]).mean() < 1e-7 for name in run.weights):
        yield finding("vanishing gradient", *GRADIENT, "symmetric_init")


PEERS: dict[str, Callable[[Watched], list[Finding]]] = {
    "AutoTrainer": auto_trainer,
    "DeepDiagnosis": deep_diagnosis,
    "Umlaut": umlaut,
    "SageMaker rules": sagemaker,
}
