"""Optimisers around optimisers: means by hand, one large batch, compiled as in NumPy, in fit."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import chainrule as cr
from chainrule import nn
from chainrule.nn import optim
from chainrule.nn.optim import EMA, OPTIMIZERS, SGD, Accumulate, Adam

rng = np.random.default_rng(0)
START = {"w": rng.normal(size=(3, 2)), "b": rng.normal(size=2)}
WRAPPERS = {
    "ema": lambda inner: EMA(inner, decay=0.9),
    "accumulate": lambda inner: Accumulate(inner, steps=3),
    "ema of accumulate": lambda inner: EMA(Accumulate(inner, steps=2), decay=0.5),
    "accumulate of ema": lambda inner: Accumulate(EMA(inner, decay=0.5), steps=2),
}
INSIDE = {
    **OPTIMIZERS,
    "momentum": lambda: SGD(lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    "centred": lambda: optim.RMSprop(momentum=0.5, centered=True, clip_norm=0.5),
    "scheduled": lambda: Adam(lr=optim.warmup(optim.cosine(0.1, 5), 3), weight_decay=0.1),
}
every = pytest.mark.parametrize("inside", INSIDE)
wrapped = pytest.mark.parametrize("wrapper", WRAPPERS)


def gradient(params, k):
    return {name: np.cos(3 * p + k) for name, p in params.items()}


def walk(optimizer, calls, params=START):
    state, path = optimizer.init(params), [params]
    for k in range(calls):
        params, state = optimizer.update(params, gradient(params, k), state)
        path.append(params)
    return path, state


def alike(one, other, tolerance=1e-12):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_allclose(one[name], other[name], rtol=tolerance, atol=tolerance)


# -- averages ---------------------------------------------------------------------------------


@every
@settings(max_examples=10, deadline=None)
@given(decay=st.floats(0, 0.999), calls=st.integers(1, 12))
def test_the_average_is_the_weighted_mean_of_all_weights(inside, decay, calls):
    optimizer = EMA(INSIDE[inside](), decay)
    path, state = walk(optimizer, calls)
    plain, _ = walk(INSIDE[inside](), calls)
    alike(path[-1], plain[-1], 0)  # training itself goes on as without
    shares = decay ** np.arange(calls - 1, -1, -1.0)
    for name, average in optimizer.averages(state).items():
        several = [p[name] for p in path[1:]]
        mean = np.tensordot(shares / shares.sum(), several, axes=1)
        np.testing.assert_allclose(average, mean, rtol=1e-12, atol=1e-12)


def test_the_average_before_any_update_is_the_start():
    optimizer = EMA(Adam())
    alike(optimizer.averages(optimizer.init(START)), START, 0)
    assert Adam().averages(Adam().init(START)) == {}


def test_averages_of_accumulated_steps_count_steps():
    inside = SGD(lr=0.1, momentum=0.9)
    one, other = EMA(Accumulate(inside, 3), 0.7), Accumulate(EMA(inside, 0.7), 3)
    for calls in (2, 3, 7, 9):
        (path, state), (same, also) = walk(one, calls), walk(other, calls)
        alike(path[-1], same[-1], 0)
        alike(one.averages(state), other.averages(also))
    steps, shares = [path[k]["w"] for k in (3, 6, 9)], 0.7 ** np.array([2.0, 1, 0])
    expected = np.tensordot(shares / shares.sum(), steps, axes=1)
    np.testing.assert_allclose(one.averages(state)["w"], expected, rtol=1e-12)


# -- accumulation -----------------------------------------------------------------------------


@every
def test_a_step_is_made_of_the_mean_at_every_third_call(inside):
    optimizer, inner = Accumulate(INSIDE[inside](), 3), INSIDE[inside]()
    params, state = START, optimizer.init(START)
    reference, known = START, inner.init(START)
    for k in range(9):
        if k % 3 == 0:
            several = [gradient(reference, k + j) for j in range(3)]
            mean = {name: np.mean([g[name] for g in several], axis=0) for name in START}
            reference, known = inner.update(reference, mean, known)
        before = params
        params, state = optimizer.update(params, gradient(params, k), state)
        assert state["step"] == k + 1
        if k % 3 < 2:
            alike(params, before, 0)
            assert np.any(state["gradients"]["w"])
        else:
            alike(params, reference)
            assert not np.any(state["gradients"]["w"])
            for slot in known.keys() - {"step"}:
                alike(state[slot], known[slot])


DATA = rng.normal(size=(48, 4))
LABELS = rng.integers(0, 3, size=48)


def network():
    parts = [nn.Linear(4, 5, dtype=np.float64), nn.Tanh(), nn.Linear(5, 3, dtype=np.float64)]
    return nn.Sequential(*parts, seed=0)


def train(optimizer, **keywords):
    model = network()
    settings = {"epochs": 4, "batch_size": 8, "shuffle": False, "progress": False, **keywords}
    loss = "softmax_cross_entropy"
    history = cr.fit(model, DATA, LABELS, loss=loss, optimizer=optimizer, **settings)
    return model, history


@pytest.mark.parametrize(
    ("inside", "compile"),
    [*((name, False) for name in INSIDE), ("adam", True), ("centred", True), ("scheduled", True)],
)
def test_batches_add_up_to_one_large_batch(inside, compile):
    small, history = train(Accumulate(INSIDE[inside](), 3), compile=compile)
    large, _ = train(INSIDE[inside](), batch_size=24, compile=compile)
    alike(small.params, large.params)
    assert history.compiled == ("yes" if compile else "no")
    assert (history.steps, history.state["step"]) == (24, 24)


def test_what_is_summed_at_a_runs_end_waits_for_the_next():
    optimizer = Accumulate(Adam(lr=0.1), 4)
    whole, _ = train(optimizer, epochs=4)
    model = network()
    state = None
    for _ in range(4):  # 6 batches each
        state = cr.fit(
            model, DATA, LABELS, loss="softmax_cross_entropy", optimizer=optimizer, state=state,
            epochs=1, batch_size=8, shuffle=False, progress=False,
        ).state  # fmt: skip
    alike(model.params, whole.params, 0)


# -- all of them ------------------------------------------------------------------------------


@every
@pytest.mark.parametrize(
    "wrapper",
    [
        pytest.param("ema", marks=pytest.mark.slow),
        pytest.param("accumulate", marks=pytest.mark.slow),
        pytest.param("accumulate of ema", marks=pytest.mark.slow),
        "ema of accumulate",
    ],
)
def test_compiled_as_in_numpy(inside, wrapper):
    """One update as machine code, at each place of a turn, against the same on plain arrays."""
    optimizer = WRAPPERS[wrapper](INSIDE[inside]())
    compiled = cr.compile(
        lambda params, grads, state: optimizer.update(params, grads, state), strict=True
    )
    params, state = START, optimizer.init(START)
    for k in range(7):
        grads = gradient(params, k)
        given = {**state, "step": np.int64(state["step"])}
        found, after = compiled(params, grads, given)
        params, state = optimizer.update(params, grads, state)
        alike(found, params)
        assert after.keys() == state.keys()
        assert after["step"] == state["step"] == k + 1
        for slot in state.keys() - {"step"}:
            alike(after[slot], state[slot])


@every
@wrapped
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_update_is_pure_and_keeps_the_dtype(inside, wrapper, dtype):
    optimizer = WRAPPERS[wrapper](INSIDE[inside]())
    params = {name: p.astype(dtype) for name, p in START.items()}
    state = optimizer.init(params)
    settings = dict(vars(optimizer))
    for k in range(4):
        grads = {name: g.astype(dtype) for name, g in gradient(params, k).items()}
        kept = copy.deepcopy((params, grads, state))
        once = optimizer.update(params, grads, state)
        again = optimizer.update(params, grads, state)
        for before, now in zip(kept, (params, grads, state), strict=True):
            np.testing.assert_equal(now, before)
        np.testing.assert_equal(once, again)
        params, state = once
        slots = [slot for name, slot in state.items() if name != "step"]
        assert {p.dtype for tree in (params, *slots) for p in tree.values()} == {np.dtype(dtype)}
    assert vars(optimizer) == settings


@pytest.mark.parametrize(
    ("inside", "wrapper"), [*(("adam", name) for name in WRAPPERS), ("scheduled", "ema")]
)
def test_in_fit_compiled_as_interpreted(inside, wrapper):
    results = []
    for compile in (True, False):
        optimizer = WRAPPERS[wrapper](INSIDE[inside]())
        model, history = train(optimizer, compile=compile, batch_size=20, shuffle=True, epochs=3)
        results.append((model.params, history.state, list(history.loss)))
    alike(results[0][0], results[1][0], 1e-10)
    assert results[0][1]["step"] == results[1][1]["step"] == 9
    for slot in results[0][1].keys() - {"step"}:
        alike(results[0][1][slot], results[1][1][slot], 1e-10)
    np.testing.assert_allclose(results[0][2], results[1][2], rtol=1e-10)


@pytest.mark.parametrize("compile", [True, False])
@pytest.mark.parametrize("steps", [1, 2])
def test_a_schedule_of_ones_own_counts_steps(compile, steps):
    asked = []

    def falling(step):
        asked.append(step)
        return 0.1 / (1 + step)

    small, _ = train(Accumulate(SGD(lr=falling), 3 * steps), compile=compile)
    large, _ = train(SGD(lr=falling), batch_size=24 * steps, compile=compile)
    alike(small.params, large.params)
    assert max(asked) <= 8


@pytest.mark.parametrize("compile", [True, False])
def test_clipping_and_decay_see_the_mean(compile):
    rule = {"lr": 0.5, "clip_norm": 0.01, "clip_value": 0.005, "weight_decay": 0.1}
    small, _ = train(EMA(Accumulate(SGD(**rule), 3)), compile=compile)
    large, _ = train(EMA(SGD(**rule)), compile=compile, batch_size=24)
    alike(small.params, large.params)


@pytest.mark.parametrize("compile", [True, False])
def test_fit_ends_with_the_averages_and_validates_with_them(compile):
    optimizer = EMA(SGD(lr=0.5), decay=0.8)
    model, history = train(optimizer, compile=compile, validation_data=(DATA, LABELS))
    alike(model.params, optimizer.averages(history.state), 0)
    loss = nn.losses.softmax_cross_entropy(model.predict(DATA), LABELS)
    np.testing.assert_allclose(history.val_loss[-1], loss, rtol=1e-12)
    last, _ = train(SGD(lr=0.5), compile=compile)
    assert np.abs(last.params["0.weight"] - model.params["0.weight"]).max() > 1e-4


@pytest.mark.parametrize("compile", [True, False])
def test_settings_changed_while_it_runs_take_effect(compile):
    class Halve:
        def on_epoch(self, moment):
            moment.optimizer.lr /= 2
            moment.optimizer.clip_norm = 0.01 if moment.epoch == 2 else None

    paths = []
    for wrap in (lambda x: x, lambda x: EMA(Accumulate(x, 1), decay=0.0)):
        optimizer = wrap(SGD(lr=0.4, momentum=0.5))
        model, _ = train(optimizer, compile=compile, callbacks=[Halve()])
        paths.append(model.params)
        assert optimizer.lr == 0.4 / 16
    alike(*paths)


def test_they_show_how_they_are_made():
    made = EMA(Accumulate(SGD(lr=0.1), steps=4), decay=0.99)
    assert repr(made) == (
        "EMA(Accumulate(SGD(lr=0.1, weight_decay=0.0, clip_norm=None, clip_value=None,"
        " momentum=0.0, nesterov=False), steps=4), decay=0.99)"
    )
    assert (made.lr, made.every, made.decay, made.steps) == (0.1, 4, 0.99, 4)
    assert optim.get(made) is made


def test_what_cannot_be_wrapped_is_refused():
    for wrong in ("adam", Adam, None, optim.LBFGS()):
        with pytest.raises(TypeError, match="wraps an optimizer"):
            EMA(wrong)
    with pytest.raises(ValueError, match="one EMA is enough"):
        EMA(Accumulate(EMA(Adam()), 2))
    with pytest.raises(ValueError, match="one Accumulate is enough"):
        Accumulate(Accumulate(Adam(), 2), 2)
    for wrong in (0, 1.5, True):
        with pytest.raises(ValueError, match="steps must be a whole number"):
            Accumulate(Adam(), wrong)
    with pytest.raises(ValueError, match="decay must be at least 0 and below 1"):
        EMA(Adam(), 1.0)
    with pytest.raises(ValueError, match="no 'average'"):
        EMA(Adam()).update(START, START, Adam().init(START))
