"""diagnose: run it, look at it, and prove what would repair it."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..errors import ChainruleError, ShapeError, quoted
from ..nn.base import count
from .advice import advice
from .before.check import static_suspects
from .finding import Flow, Report
from .outside.others import adopted
from .remedies import named
from .setup import Setup, Suspect
from .show import reporter
from .starts import starts_of
from .task import task_of
from .trials import Trials
from .verdict import Verdict, judge, sound, unproved
from .watching import Story, watched

__all__ = ["diagnose"]

FINDINGS = 10


def diagnose(
    model: Any,
    X: Any,
    y: Any,
    *,
    loss: Any = None,
    optimizer: Any = None,
    epochs: int | None = None,
    batch_size: int | str | None = "auto",
    seed: int | None = None,
    budget: float = 5.0,
    seconds: float | None = None,
    starts: int = 1,
    from_start: bool | None = None,
    activations: Any = None,
    progress: bool | None = None,
    threads: int | None = None,
) -> Report:
    """What is wrong with this training run, where, by what evidence, and what repairs it.

    A copy of the model is trained as `fit` would train it with the same arguments, from its present
    weights; the model itself is not touched. A run is called sick only where one change, at the
    same seed, order of the rows and number of steps, learns clearly more: each remedy in the report
    was run, or says that it was not. Numbers are those of the training rows.

    `model` is a Module, a fitted MLP of scikit-learn or of `chainrule.estimators` (whose loss,
    solver, epochs and batches count where none are given; its fit is run again from the weights
    that its `random_state` drew, or goes on from the fitted ones with `from_start=False`, and where
    no number tells how they were drawn), a model file, or the weights of a dense network of
    another library with their `activations`. X and y as for `fit`, or data frames.

    `budget` is how many times the work of the run itself may be spent on counterfactuals; what fits
    in about ten seconds of a slow core always is. It is counted, not timed, so the report is the
    same each time, on any number of `threads`. `seconds` ends it by the clock: the report then says
    that it is unfinished, as it does after Ctrl-C. `starts` above 1 repeats run and remedy from
    that many starts: other draws of the same weights, other orders of the rows.

    Raises `TypeError` for what is no network, no loss or no data, `DataError`, `ShapeError` and
    `ValueError` as `fit` does for arguments that no change of the network would mend.

    >>> import chainrule as cr
    >>> X = np.random.default_rng(0).normal(size=(200, 2))
    >>> y = (X[:, 0] * X[:, 1] > 0).astype(int)
    >>> layers = cr.nn.Linear(2, 16, bias_init=cr.nn.initializers.constant(-9.0)), cr.nn.ReLU()
    >>> model = cr.nn.Sequential(*layers, cr.nn.Linear(16, 2), seed=0)
    >>> report = diagnose(model, X, y, loss="softmax_cross_entropy", epochs=30, seed=0)
    >>> report.findings[0].problem, str(report.findings[0].where)
    ('dead_relu', '0, units 0, 1, 2, 3, 4, 5 and 10 more, before the first step')

    Source: the slides' "in practice"; Wardat et al. 2022 and Zhang et al. 2021 for the problems.
    """
    times = _positive("budget", budget)
    until = math.inf if seconds is None else time.monotonic() + _positive("seconds", seconds)
    starts = count("starts", starts)
    threads = None if threads is None else count("threads", threads)
    meant = adopted(
        model, X, y, loss, optimizer, epochs, batch_size, seed,
        from_start=from_start, activations=activations,
    )  # fmt: skip
    if not [*meant.model.parameters()]:
        raise ValueError(f"{type(meant.model).__name__} has no parameters to train")
    setup = Setup(
        meant.model, meant.X, meant.y, meant.loss, copy.deepcopy(meant.optimizer), meant.epochs,
        meant.batch_size, meant.seed, task_of(meant.loss, meant.y, _outputs(meant.model, meant.X)),
    )  # fmt: skip
    show = reporter(progress)
    trials = Trials(setup, times, show, until, threads)
    try:
        with trials.interruptible(), np.errstate(all="ignore"):
            return _reported(setup, trials, starts, meant.said)
    finally:
        show.close()


def _reported(setup: Setup, trials: Trials, starts: int, said: Sequence[str]) -> Report:
    static = static_suspects(setup)
    trials.show.begin("as it is")
    story = watched(setup, trials.watcher(), trials.threads)
    outcome = trials.base = story.outcome
    trials.show.ran("as it is", outcome.score)
    if outcome.score.error and not story.diverged and not static:
        raise outcome.refusal or ValueError(outcome.score.error)
    if outcome.interrupted:
        trials.stop()
    else:
        verdict = judge(story, static, trials)
    if outcome.interrupted or (trials.stopped and not verdict.findings and not sound(story)):
        verdict = unproved(story, static)
    begun = not outcome.score.error or story.diverged
    start = _moving(story.start.flows, story.first.layers) if begun else ()
    end = _moving(story.end.flows, story.last.layers) if begun else ()
    again = ""
    if starts > 1 and begun and not trials.stopped:
        again = starts_of(setup, verdict, trials, starts)
    return Report(
        findings=verdict.findings[:FINDINGS],
        reason=verdict.reason,
        score=outcome.score,
        curve=outcome.curve,
        start=start,
        end=end,
        advice=(
            *said,
            *_harmless(static, verdict),
            *(() if outcome.score.error else advice(setup, end)),
        ),
        tried=tuple((name, o.score) for name, (_, o) in trials.done.items()),
        facts=_facts(setup, trials) | (_losses(story) if begun else {}),
        starts=again,
        unfinished=trials.stopped,
        setup=setup,
        change=verdict.change,
    )


def _moving(flows: Sequence[Flow], moved: dict[str, float]) -> tuple[Flow, ...]:
    """The flows, with how far a step moves the weights of each."""
    return tuple(replace(f, update=moved.get(f.weight, math.nan)) for f in flows)


def _harmless(static: Sequence[Suspect], verdict: Verdict) -> tuple[str, ...]:
    """What was seen before training and did no harm: unusual settings that work."""
    if verdict.findings:
        return ()
    return tuple(
        f"Seen before training, without harm here: {suspect.evidence.sentence}"
        for suspect in static
        if suspect.problem != "unscaled_inputs"  # of which the advice speaks itself
    )


def _facts(setup: Setup, trials: Trials) -> dict[str, Any]:
    """What was run, in the words of the call."""
    return {
        "rows": setup.rows,
        "columns": int(np.prod(np.shape(setup.X)[1:])),
        "task": setup.task.kind,
        "loss": getattr(setup.loss, "__name__", type(setup.loss).__name__),
        "optimizer": named(setup.optimizer),
        "epochs": setup.epochs,
        "batch_size": setup.batch_size,
        "steps": setup.steps,
        "seed": setup.seed,
        "runs": 1 + trials.runs,
        **({"not tried for want of budget": tuple(trials.refused)} if trials.refused else {}),
    }


def _losses(story: Story) -> dict[str, Any]:
    """The loss before the first step, beside that of answers that do not look at X."""
    found = {"loss before the first step": story.start.loss}
    found["loss of the best constant answer"] = story.constant_loss
    units = story.start.output.flow.units if story.start.output else 1
    if story.setup.task.kind in ("classes", "binary"):
        found["ln K"] = math.log(max(2, units))
    return found


def _outputs(model: Any, X: Any) -> int:
    """How many outputs a row has; 1 where the network does not take X, which `fit` will say."""
    try:
        rows = np.zeros((1, *np.shape(X)[1:]), model.dtype)
        with np.errstate(all="ignore"):
            return int(np.prod(np.shape(model.predict(rows))[1:]))
    except ShapeError:
        raise  # another X is meant, or another network
    except (ChainruleError, ValueError, TypeError, IndexError):
        return 1


def _positive(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
        raise ValueError(f"{name} must be a number above 0, got {quoted(value)}")
    return float(value)
