"""Batches that come one by one train as the same rows in arrays do."""

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim
from chainrule.errors import DataError, GradientError
from chainrule.train import stream

RNG = np.random.default_rng(0)
X = RNG.normal(size=(103, 5)).astype(np.float32)
Y = RNG.integers(0, 3, 103)
WEIGHTS = RNG.random(103).astype(np.float32)


class Source:
    """Rows in the order in which fit visits those of arrays; says when it was left."""

    batch_size = 16

    def __init__(self, rows=None, weights=None, X=X, seed=0):
        self.rows, self.weights, self.X, self.seed = rows, weights, X, seed
        self.left = self.asked = 0

    def first(self):
        return self.cut(np.arange(2))

    def cut(self, rows):
        weights = [] if self.weights is None else [self.weights[rows]]
        return (self.X[rows], Y[rows], *weights)

    def epoch(self, number):
        self.asked += 1
        try:
            order = np.random.default_rng([self.seed, 10000 + number]).permutation(len(X))
            for start in range(0, len(X), 16):
                yield self.cut(order[start : start + 16])
        finally:
            self.left += 1


class Reads:
    """Somebody who looks at every step's weights."""

    def __init__(self):
        self.seen = []

    def on_step(self, moment):
        self.seen.append(float(moment.model[0].weight.value.sum()))


def network(dropout=0.3):
    layers = nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 3)
    return nn.Sequential(*layers, seed=1)


def train(*data, model=None, **changes):
    model = model or network()
    options = {
        "loss": "softmax_cross_entropy", "optimizer": optim.Adam(lr=0.01), "epochs": 4,
        "validation_data": (X, Y), "progress": False,
    }  # fmt: skip
    return model, cr.fit(model, *data, **{**options, **changes})


def assert_same(one, other):
    (model, history), (twin, again) = one, other
    for name, value in model.state_dict().items():
        assert value.tobytes() == twin.state_dict()[name].tobytes(), name
    assert history.step_loss == again.step_loss
    assert history.loss == again.loss
    assert history.val_loss == again.val_loss


@pytest.mark.parametrize("compiled", [True, False], ids=["native", "numpy"])
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
@pytest.mark.parametrize("rows", [103, None], ids=["known", "unknown"])
def test_a_stream_trains_as_arrays_do(compiled, weights, rows):
    source = Source(rows, weights)
    streamed = train(source, compile=compiled)
    whole = train(X, Y, sample_weight=weights, batch_size=16, compile=compiled)
    assert streamed[1].compiled.startswith("yes" if compiled else "no")
    if compiled:  # two programs of one step: the same numbers to rounding
        np.testing.assert_allclose(streamed[1].step_loss, whole[1].step_loss, rtol=1e-5)
    else:
        assert_same(streamed, whole)
    assert source.asked == source.left


@pytest.mark.parametrize("width", [5, 100])
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
@pytest.mark.parametrize("several", [1, 2, 5, 64])
def test_steps_of_one_call_read_their_own_batches(several, weights, width, monkeypatch):
    monkeypatch.setattr(stream, "LONGEST", several, raising=False)
    wide = RNG.normal(size=(103, width)).astype(np.float32)
    layers = nn.Linear(width, 8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, 3)
    source = Source(103, weights, wide)
    held = {"validation_data": (wide, Y)}
    streamed = train(source, **held, model=nn.Sequential(*layers, seed=1))
    options = {"sample_weight": weights, "batch_size": 16, **held}
    layers = nn.Linear(width, 8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, 3)
    whole = train(wide, Y, model=nn.Sequential(*layers, seed=1), **options)
    np.testing.assert_allclose(streamed[1].step_loss, whole[1].step_loss, rtol=1e-5)


def test_what_goes_wrong_within_a_call_leaves_the_weights_of_the_last_finite_loss():
    class Spoilt(Source):
        def cut(self, rows):
            X = super().cut(rows)[0]
            return X, np.where(rows[:, None] == 50, 1e30, X[:, :3]).astype(np.float32)

    def ends(data, **options):
        model = nn.Sequential(nn.Linear(5, 3), seed=0)
        options |= {"loss": "squared_error", "optimizer": optim.SGD(lr=1e3), "epochs": 3}
        with np.errstate(all="ignore"), pytest.raises(GradientError, match="diverged") as caught:
            cr.fit(model, *data, progress=False, **options)
        return str(caught.value), model.state_dict()

    for seed in range(4):
        pairs = [ends([Spoilt(103, seed=seed)], seed=seed, compile=c) for c in (True, False)]
        (one, found), (other, expected) = pairs
        assert one == other
        for name, value in found.items():
            np.testing.assert_allclose(value, expected[name], rtol=1e-4)


def test_callbacks_see_each_step_and_may_change_the_rate():
    class Slows(Reads):
        def on_epoch(self, moment):
            moment.optimizer.lr /= 2

    runs = [
        (*train(Source(103), compile=c, callbacks=[r := Slows()], model=network(0)), r)
        for c in (True, False)
    ]
    (_, one, seen), (_, other, looked) = runs
    np.testing.assert_allclose(one.step_loss, other.step_loss, rtol=2e-5)
    np.testing.assert_allclose(seen.seen, looked.seen, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("compiled", [True, False], ids=["native", "numpy"])
def test_a_stream_goes_on_to_the_bit(tmp_path, compiled):
    class Stops:
        def __init__(self, at=0):
            self.at = at

        def on_step(self, moment):
            if moment.step == self.at:
                raise RuntimeError("pulled the plug")

    unbroken = train(Source(), compile=compiled, callbacks=[Stops()])
    keeper = {"checkpoint": cr.Checkpoint(tmp_path, every=0), "compile": compiled}
    for at in (3, 10, 20):
        with pytest.raises(RuntimeError, match="plug"):
            train(Source(), callbacks=[Stops(at)], resume=True, **keeper)
    assert_same(unbroken, train(Source(), callbacks=[Stops()], resume=True, **keeper))


@pytest.mark.parametrize("compiled", [True, False], ids=["native", "numpy"])
def test_divergence_leaves_the_last_finite_weights(compiled):
    model = nn.Sequential(nn.Linear(5, 3), seed=0)
    options = {"loss": "squared_error", "optimizer": optim.SGD(lr=1e30), "progress": False}

    class Line(Source):
        def cut(self, rows):
            return self.X[rows], self.X[rows, :3]

    with np.errstate(all="ignore"), pytest.raises(GradientError, match="diverged"):
        cr.fit(model, Line(103), compile=compiled, **options)
    assert all(np.isfinite(p.value).all() for p in model.parameters())


def test_a_stream_in_another_order_is_another_run(tmp_path):
    def batches(**order):
        return cr.data.Batches((X, Y), batch_size=16, **order)

    train(batches(), checkpoint=tmp_path, epochs=1)
    for order in ({"seed": 3}, {"shuffle": False}):
        with pytest.raises(DataError, match="'source' differ"):
            train(batches(**order), checkpoint=tmp_path, resume=True)
    train(batches(), checkpoint=tmp_path, resume=True)


def test_what_a_source_may_not_do():
    class Shrinks(Source):
        def epoch(self, number):
            yield from [self.cut(np.arange(16))] * (3 - number)

    with pytest.raises(DataError, match="epoch 2 has 16 rows, an earlier one had 32"):
        train(Shrinks(), compile=False)

    class Uneven(Source):
        sizes: tuple = ()

        def epoch(self, number):
            yield from (self.cut(np.arange(size)) for size in self.sizes)

    Uneven.sizes = 10, 10, 16
    with pytest.raises(DataError, match="batch 1 of epoch 1 is short of the source's batch_size"):
        train(Uneven(), compile=False)
    Uneven.sizes = 16, 20
    with pytest.raises(DataError, match="batch 2 of epoch 1 has 20 rows, more than the source's"):
        train(Uneven(), compile=False)

    class Bad(Source):
        def epoch(self, number):
            yield self.cut(np.arange(16))
            yield self.X[:16] * np.nan, Y[:16]

    with pytest.raises(DataError, match="batch 2: X holds NaN at row 0"):
        train(Bad(), compile=False)

    class Odd(Source):
        def epoch(self, number):
            yield X

    with pytest.raises(DataError, match="batch 1 is no pair"):
        train(Odd(), compile=False)

    class Empty(Source):
        def epoch(self, number):
            yield from ()

    with pytest.raises(DataError, match="no rows"):
        train(Empty(), compile=False)
    with pytest.raises(TypeError, match="leave out y"):
        train(Source(), Y)
