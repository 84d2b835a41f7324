"""fit: the training loop. Forward, backward, update, for every batch of every epoch."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..nn import losses, optim
from ..nn.base import count
from . import checkpoint as checkpoints
from .callbacks import Callbacks
from .history import History
from .identity import identity
from .inputs import features, frozen, targets, validation, weighable, weights
from .metrics import resolve
from .progress import Silent, reporter
from .run import Divergence, Gauges, Interrupt, Loop, Plan, Run, interruptible, moment
from .stream import StreamPlan, is_stream
from .tracing import training

__all__ = ["fit"]

Array = Any
CHUNK = 1024  # rows that are measured at once, at least


def fit(
    model: Any,
    X: Any,
    y: Any = None,
    *,
    loss: Any,
    optimizer: Any = "adam",
    epochs: int = 10,
    batch_size: int | None = 32,
    validation_data: Any = None,
    shuffle: bool = True,
    seed: int | None = 0,
    callbacks: Iterable[Any] | None = (),
    metrics: Iterable[Any] | None = (),
    progress: bool | Silent | None = None,
    compile: bool = True,
    threads: int | None = None,
    state: dict[str, Any] | None = None,
    sample_weight: Any = None,
    checkpoint: Any = None,
    resume: bool = False,
) -> History:
    """Train the model in place: p ← update(p, ∂loss/∂p) for every batch, `epochs` times.

    X has rows (n, …), y a target for each: both are cast to the parameters' dtype, labels to
    integers. `loss` is a name in `nn.losses` or f(prediction, target); `optimizer` a name or one of
    `optim`, whose state starts fresh unless `state` continues an earlier one. `batch_size` None, or
    n and more, takes all rows at once.

    Epoch e = 1, 2, … visits `np.random.default_rng([seed, 10000 + e]).permutation(n)` in order, the
    last batch short; the natural order where shuffle=False or one batch holds all rows. `seed` also
    restarts dropout. The same seed gives the same bytes; None takes a new one, kept in the History.

    X may be `data.Batches` in place of X and y, for data larger than memory: their batches are
    taken as they come (`batch_size`, `shuffle` are theirs), and metrics are measured on
    `validation_data` only.

    `sample_weight` has a number ≥ 0 for each row: a batch's loss is Σ w·l / Σ w, which the loss is
    asked for as loss(prediction, target, sample_weight=w). A row of weight 0 is as if not there.

    `metrics` are names ("accuracy", "mae", "mse", "r2") or f(prediction, target), measured after
    each epoch in evaluation mode, on the training rows and on `validation_data` = (Xv, yv), or
    (Xv, yv, weights) for a weighted `val_loss`.
    Callbacks may have `on_begin`, `on_step`, `on_epoch` and `on_end`, each given a `Moment`;
    returning True or raising `StopTraining` ends the run. Any other exception of theirs is passed
    on: the model is then as the last step left it. Ctrl-C ends the run after the current step, and
    History.stopped says "interrupted"; a second Ctrl-C does not wait. `progress` None shows a bar
    if stderr is a terminal, True prints lines where it is none, False shows nothing. `compile`
    chooses machine code where it can be had; the results agree, and `History.compiled` says which
    it was. `threads` bounds its cores (by default CHAINRULE_THREADS, or all) and changes no bit.

    Raises `DataError` for data that cannot be learnt from, `ShapeError` for shapes that do not
    meet, `UnknownNameError` for a name, `ValueError` for an argument out of range, and
    `GradientError` where the loss is no longer finite: the model then has its last parameters with
    a finite loss.

    >>> from chainrule import nn
    >>> model = nn.Sequential(nn.Linear(1, 1), seed=0)
    >>> X = np.linspace(-1, 1, 20)[:, None]
    >>> history = fit(model, X, 3 * X + 1, loss="squared_error", optimizer=optim.SGD(lr=0.5))
    >>> history.epochs, model.predict([[2.0]]).round(1)
    (10, array([[6.3]], dtype=float32))

    Source: slides, mini-batch SGD: sample a batch, forward, backward, update.
    """
    run = Run(model, losses.get(loss), optim.get(optimizer), state)
    epochs = count("epochs", epochs)
    held_out = validation(model, run.loss, validation_data)
    keeper = checkpoints.checkpoint(checkpoint)
    if seed is None:
        seed = keeper.seed() if keeper and resume else None
        seed = _fresh_seed() if seed is None else seed
    seed = count("seed", seed, least=0)
    if threads is not None:
        threads = count("threads", threads)
    plan: Plan
    if is_stream(X):
        if y is not None or sample_weight is not None:
            raise TypeError("Batches hold X, y and weights; leave out y and sample_weight")
        plan = StreamPlan(X, model, run.loss, epochs, seed)
    else:
        plan = _plan(run, (X, y, sample_weight), epochs, batch_size, bool(shuffle), seed)
    gauges = Gauges(
        run,
        plan,
        held_out,
        resolve(() if metrics is None else metrics, getattr(run.loss, "boundary", 0.5)),
        max(plan.size, CHUNK),
    )
    told = Callbacks(() if callbacks is None else callbacks)
    if keeper is None and resume:
        raise ValueError("resume needs a checkpoint: the folder in which the run is kept")
    kept = None
    if keeper is not None:
        keeper.rehearse(run, told.all)
        kept = keeper.begin(identity(run, plan, held_out, told.all, gauges.metrics), resume)
    history = History(seed=plan.seed)
    rows = plan.rows if plan.expected else len(plan.X)
    show = reporter(progress, plan.epochs, plan.expected, rows, run.optimizer, history)
    loop = Loop(run, plan, gauges, told, show, history, Interrupt(), keeper)
    return _train(loop, kept, compile, threads)


def _plan(
    run: Run, data: tuple[Any, Any, Any], epochs: int, batch_size: Any, shuffle: bool, seed: int
) -> Plan:
    """The plan for arrays, checked and cast."""
    X = features(run.model, data[0])
    y = targets(run.model, run.loss, X, data[1])
    if data[2] is not None:
        weighable(run.loss)
    X, y, w = _weighed(X, y, weights(run.model, data[2], len(X)))
    size = len(X)
    if batch_size is not None and not run.full_batch:
        size = min(count("batch_size", batch_size), len(X))
    return Plan(X, y, size, epochs, shuffle, seed, w)


def _weighed(X: Array, y: Array, w: Array | None) -> tuple[Array, Array, Array | None]:
    """Without the rows of weight 0: they say nothing, and a batch of them would have no mean."""
    if w is None or w.all():
        return X, y, w
    heavy = np.flatnonzero(w)
    return frozen(X[heavy]), frozen(y[heavy]), frozen(w[heavy])


def _train(loop: Loop, kept: Any, compile: bool, threads: int | None) -> History:
    """The run between its beginning and its end, whichever way it ends."""
    run, history = loop.run, loop.history
    loop.began = time.perf_counter()
    try:
        with _training_mode(run.model, loop.plan.seed), interruptible(loop.interrupt.press):
            if kept is not None:
                checkpoints.restore(kept, run, loop.plan, history, loop.callbacks.all)
                loop.began -= kept.document["seconds"]
            try:
                if history.stopped != "callback" and loop.callbacks.tell(
                    "on_begin", moment(run, history, history.epochs, loop.plan)
                ):
                    history.stopped = "callback"
                if history.stopped != "callback":
                    history.stopped = _kind(loop, compile, threads).epochs()
                    loop.save()
            except KeyboardInterrupt:
                run.finish()
                loop.show.hurry()
                history.stopped = "interrupted"
            except Divergence:
                history.stopped = "diverged"  # for who was told of the run; nobody is given it
                raise
            if loop.interrupt.asked:  # even where the run ended by itself at that moment
                history.stopped = "interrupted"
    finally:
        history.seconds = time.perf_counter() - loop.began
        history.state = run.state
        loop.show.close()
    run.settle()
    loop.callbacks.tell("on_end", moment(run, history, max(1, history.epochs), loop.plan))
    return history


def _kind(loop: Loop, compile: bool, threads: int | None) -> Loop:
    """The loop that runs: interpreted, in machine code, or as the optimiser needs it."""
    if loop.run.full_batch:
        from .lbfgs import LBFGSLoop

        return LBFGSLoop(loop, compile=compile, threads=threads)
    if not compile:
        return loop
    from .native import native  # the compiler is loaded when it is needed

    return native(loop, threads)


@contextmanager
def _training_mode(model: Any, seed: int) -> Iterator[None]:
    """Within, training mode, with dropout's randomness started anew; each layer's mode returns."""
    with training(model):
        model.reseed(seed)
        yield


def _fresh_seed() -> int:
    return int(np.random.SeedSequence().generate_state(1, np.uint32)[0])
