"""The optimisers: PyTorch's figures, recurrences by hand, purity, tracing, clipping, schedules."""

from __future__ import annotations

import numpy as np
import pytest

import chainrule as cr
from chainrule.errors import ShapeError, UnknownNameError
from chainrule.nn.optim import (
    OPTIMIZERS,
    SGD,
    Adagrad,
    Adam,
    AdamW,
    RMSprop,
    clip_norm,
    clip_value,
    cosine,
    exponential,
    get,
    steps,
    warmup,
)

START = np.array([1.0, -0.5, 2.0])


def gradient(w, k):
    return w * np.array([1.0, 2.0, 0.5]) + np.array([0.1 * k, -0.2, 0.3])


def run(optimizer, count=5, dtype=np.float64):
    params = {"w": START.astype(dtype)}
    state = optimizer.init(params)
    for k in range(count):
        grads = {"w": gradient(params["w"], k).astype(dtype)}
        params, state = optimizer.update(params, grads, state)
    return params["w"], state


# Five steps in float64, computed once by PyTorch 2.13.
PYTORCH = [
    (SGD(lr=0.1), [0.5000000000000001, -0.096608, 1.4118304375000001]),
    (SGD(lr=0.1, momentum=0.9), [-0.19588000000000005, 0.448252, 0.4846054374999999]),
    (
        SGD(lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
        [-0.3782955538484492, 0.3455639887127376, 0.03274955361943997],
    ),
    (Adam(lr=0.1), [0.5000000049568427, -0.019381494924545495, 1.5021190045482795]),
    (
        Adam(lr=0.1, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.1),
        [0.5011115271951077, -0.02627544439724462, 1.5037163787766563],
    ),
    (AdamW(lr=0.1), [0.49604742944890357, -0.018019716941990366, 1.4931859957348685]),
    (
        AdamW(lr=0.1, weight_decay=0.2),
        [0.42434602911533975, 0.006326105648527716, 1.330563676433033],
    ),
    (RMSprop(lr=0.1), [-0.3999999886999995, 0.10793627853041987, -0.24153523550318137]),
    (
        RMSprop(lr=0.1, alpha=0.9, eps=1e-3, weight_decay=0.1, momentum=0.5, centered=True),
        [-0.4238979539367187, 0.1431902741280549, 0.2532695337302013],
    ),
    (Adagrad(lr=0.1), [0.6703688611999679, -0.21392794579816557, 1.6843807906316748]),
    (
        Adagrad(
            lr=0.1, lr_decay=0.1, weight_decay=0.1, initial_accumulator_value=0.5, eps=1e-3
        ),
        [0.7392978657377474, -0.26476186584814204, 1.739103320515232],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("optimizer", "expected"), PYTORCH, ids=lambda x: str(x)[:40])
def test_five_steps_as_in_pytorch(optimizer, expected):
    w, state = run(optimizer)
    np.testing.assert_allclose(w, expected, rtol=1e-12, atol=1e-13)
    assert state["step"] == 5


def test_sgd_by_hand():
    w = START.copy()
    for k in range(5):
        w = w - 0.1 * gradient(w, k)
    assert (run(SGD(lr=0.1))[0] == w).all()


def test_momentum_by_hand():
    w, v = START.copy(), np.zeros(3)
    for k in range(5):
        v = 0.5 * v + gradient(w, k)
        w = w - 0.1 * v
    assert (run(SGD(lr=0.1, momentum=0.5))[0] == w).all()


def test_adam_by_hand():
    w, m, v = START.copy(), np.zeros(3), np.zeros(3)
    for t in range(1, 6):
        g = gradient(w, t - 1)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        w = w - 0.1 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    np.testing.assert_allclose(run(Adam(lr=0.1))[0], w, rtol=1e-13)


def test_gradient_descent_on_a_line_meets_least_squares():
    # W := W − α(1/m)Σ(Wx − y)x, against the normal equations
    rng = np.random.default_rng(0)
    x = np.c_[rng.normal(size=(50, 2)), np.ones(50)]
    y = x @ [2.0, -1.0, 0.5] + 0.1 * rng.normal(size=50)
    params, optimizer = {"w": np.zeros(3)}, SGD(lr=0.3)
    state = optimizer.init(params)
    slope = cr.grad(lambda w: cr.nn.losses.squared_error(x @ w, y))
    for _ in range(400):
        params, state = optimizer.update(params, {"w": slope(params["w"])}, state)
    np.testing.assert_allclose(params["w"], np.linalg.lstsq(x, y, rcond=None)[0], atol=1e-12)


EVERY = [optimizer for optimizer, _ in PYTORCH]


@pytest.mark.parametrize("optimizer", EVERY, ids=lambda x: str(x)[:40])
def test_update_is_pure_and_keeps_the_dtype(optimizer):
    w, state = run(optimizer, 2, np.float32)
    before = {"w": w.copy()}
    grads = {"w": np.ones(3, np.float32)}
    kept = {slot: {"w": array["w"].copy()} for slot, array in state.items() if slot != "step"}
    once, after = optimizer.update({"w": w}, grads, state)
    again, _ = optimizer.update({"w": w}, grads, state)
    assert (once["w"] == again["w"]).all()
    assert (w == before["w"]).all()
    assert once["w"].dtype == np.float32
    for slot, arrays in kept.items():
        assert (state[slot]["w"] == arrays["w"]).all()
        assert after[slot]["w"].dtype == np.float32


@pytest.mark.parametrize("optimizer", EVERY, ids=lambda x: str(x)[:40])
def test_tensors_leave_circuit_with_the_same_values(optimizer):
    w, state = run(optimizer, 2)
    g = gradient(w, 2)
    plain, _ = optimizer.update({"w": w}, {"w": g}, state)
    traced = {
        slot: value if slot == "step" else {"w": cr.tensor(value["w"])}
        for slot, value in state.items()
    }
    traced["step"] = cr.tensor(2.0)
    tensors = {"w": cr.tensor(w)}, {"w": cr.tensor(g)}
    moved, after = optimizer.update(*tensors, traced)
    np.testing.assert_allclose(moved["w"].numpy(), plain["w"], rtol=1e-15)
    assert moved["w"].op is not None
    assert float(after["step"]) == 3
    moved["w"].sum().backward()
    assert tensors[1]["w"].grad.shape == (3,)  # an update can be differentiated


def test_a_scalar_parameter():
    params, optimizer = {"w": np.float32(1.0)}, Adam(lr=0.5)
    params, _ = optimizer.update(params, {"w": np.float32(2.0)}, optimizer.init(params))
    assert params["w"] == pytest.approx(0.5, rel=1e-6)
    assert params["w"].dtype == np.float32


# -- schedules --------------------------------------------------------------------------------


def test_a_schedule_counts_the_updates_made_before():
    seen = []

    def schedule(step):
        seen.append(step)
        return 0.1 / (1 + step)

    w, _ = run(SGD(lr=schedule), 3)
    assert seen == [0, 1, 2]
    expected = START.copy()
    for k in range(3):
        expected = expected - 0.1 / (1 + k) * gradient(expected, k)
    np.testing.assert_allclose(w, expected, rtol=1e-15)


def test_schedules_by_hand():
    assert [steps(1.0, 3, 0.5)(k) for k in (0, 2, 3, 6)] == [1.0, 1.0, 0.5, 0.25]
    assert exponential(2.0, 0.5)(2) == 0.5
    assert cosine(1.0, 10, 0.2)(0) == 1.0
    assert cosine(1.0, 10, 0.2)(5) == pytest.approx(0.6)
    assert cosine(1.0, 10, 0.2)(99) == pytest.approx(0.2)
    assert warmup(exponential(1.0, 0.5), 2)(0) == 0.5
    assert warmup(exponential(1.0, 0.5), 2)(3) == 0.125


@pytest.mark.parametrize(
    "schedule", [steps(1.0, 2), exponential(1.0, 0.9), cosine(1.0, 9), warmup(cosine(1.0, 9), 3)]
)
def test_schedules_can_be_traced_and_leave_float32_alone(schedule):
    for step in (0, 1, 4):
        assert float(schedule(cr.tensor(float(step)))) == pytest.approx(schedule(step), rel=1e-15)
        assert isinstance(schedule(step), float)
    assert run(SGD(lr=schedule), 2, np.float32)[0].dtype == np.float32


# -- clipping ---------------------------------------------------------------------------------


def test_clipping_by_value_and_norm():
    grads = {"a": np.array([3.0, -0.5]), "b": np.array(-4.0)}
    clipped = clip_value(grads, 1.0)
    assert clipped["a"].tolist() == [1.0, -0.5]
    assert clipped["b"] == -1.0
    shorter = clip_norm(grads, 2.0)
    length = np.sqrt(sum(np.sum(g**2) for g in shorter.values()))
    assert length == pytest.approx(2.0)
    assert (clip_norm(grads, 100.0)["a"] == grads["a"]).all()
    assert (clip_norm({"a": np.zeros(2)}, 1.0)["a"] == 0).all()
    huge = clip_norm({"a": np.array([3e200, 4e200])}, 1.0)["a"]
    np.testing.assert_allclose(huge, [0.6, 0.8])
    assert clip_norm({"a": np.ones(2, np.float32)}, 1.0)["a"].dtype == np.float32


def test_an_optimizer_clips_before_it_moves():
    params = {"w": np.zeros(2)}
    optimizer = SGD(lr=1.0, clip_norm=1.0)
    moved, _ = optimizer.update(params, {"w": np.array([3.0, 4.0])}, optimizer.init(params))
    np.testing.assert_allclose(moved["w"], [-0.6, -0.8])
    optimizer = SGD(lr=1.0, clip_value=1.0)
    moved, _ = optimizer.update(params, {"w": np.array([3.0, 0.5])}, optimizer.init(params))
    assert moved["w"].tolist() == [-1.0, -0.5]


# -- errors and names -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SGD(lr=-1), "lr must be at least 0, got -1"),
        (lambda: SGD(lr=np.nan), "lr must be finite"),
        (lambda: SGD(lr="fast"), "lr must be a number, got 'fast'"),
        (lambda: SGD(lr=0.1, momentum=1.0), "momentum must be at least 0 and below 1"),
        (lambda: SGD(lr=0.1, nesterov=True), "give momentum"),
        (lambda: SGD(lr=0.1, weight_decay=-0.1), "weight_decay must be at least 0"),
        (lambda: SGD(lr=0.1, clip_norm=0), "clip_norm must be above 0"),
        (lambda: Adam(betas=(0.9, 1.0)), r"betas\[1\] must be"),
        (lambda: Adam(betas=0.9), "betas must be two numbers"),
        (lambda: Adam(eps=-1e-8), "eps must be"),
        (lambda: RMSprop(alpha=1.5), "alpha must be"),
        (lambda: Adagrad(lr_decay=-1), "lr_decay must be"),
        (lambda: steps(0.1, every=0), "every must be above 0"),
    ],
)
def test_arguments_out_of_range(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_names_that_do_not_meet():
    optimizer = Adam()
    state = optimizer.init({"w": START})
    with pytest.raises(ShapeError, match="gradients lack 'w'"):
        optimizer.update({"w": START}, {}, state)
    with pytest.raises(ShapeError, match="gradients have no parameter for 'b'"):
        optimizer.update({"w": START}, {"w": START, "b": START}, state)
    with pytest.raises(ShapeError, match="state's 'm'"):
        optimizer.update({"w": START, "b": START}, {"w": START, "b": START}, state)
    with pytest.raises(ValueError, match=r"not made by Adam\.init: no 'm'"):
        optimizer.update({"w": START}, {"w": START}, SGD(lr=0.1).init({"w": START}))
    with pytest.raises(ValueError, match="no 'step'"):
        optimizer.update({"w": START}, {"w": START}, {})


def test_by_name():
    for name, kind in OPTIMIZERS.items():
        assert type(get(name)) is kind
    made = Adam()
    assert get(made) is made
    with pytest.raises(UnknownNameError, match="did you mean 'adam'"):
        get("Adm")
    with pytest.raises(TypeError, match="give an optimizer"):
        get(Adam)
    with pytest.raises(TypeError, match="give an optimizer"):
        get(None)


def test_a_gradient_of_another_shape_is_refused_rather_than_broadcast():
    params = {"w": np.ones(2)}
    for optimizer in (SGD(), Adam()):
        with pytest.raises(ShapeError, match=r"the gradient of 'w' has shape \(2, 2\).*\(2,\)"):
            optimizer.update(params, {"w": np.ones((2, 2))}, optimizer.init(params))


@pytest.mark.parametrize("lr", [float("nan"), float("inf"), -0.1, "0.1", None])
def test_a_schedule_checks_its_learning_rate_when_it_is_made(lr):
    for make in (lambda: steps(lr, 2), lambda: exponential(lr, 0.5), lambda: cosine(lr, 4)):
        with pytest.raises(ValueError, match="lr must be"):
            make()
