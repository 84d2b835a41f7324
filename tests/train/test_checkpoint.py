"""A run that stops anywhere goes on to the same bits; what is kept is whole or refused."""

import copy
import errno
import functools
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import chainrule as cr
from chainrule import nn, optim
from chainrule.errors import DataError, GradientError, ModelFileError
from chainrule.train import Checkpoint
from chainrule.train.checkpoint import NAMES
from chainrule.train.identity import words as optimizer_words
from hostile_mutants import mutants

RNG = np.random.default_rng(0)
X = RNG.normal(size=(101, 5)).astype(np.float32)
Y = RNG.integers(0, 3, 101)
WEIGHTS = RNG.random(101)


class Interrupts:
    """Presses Ctrl-C during one step."""

    def __init__(self, at=0):
        self.at = at

    def on_step(self, moment):
        if moment.step == self.at:
            signal.raise_signal(signal.SIGINT)


class Remembers:
    """A callback with a memory: what it has seen, in plain values and arrays."""

    def __init__(self):
        self.seen, self.total, self.best = [], np.zeros(2), float("inf")

    def on_epoch(self, moment):
        self.seen.append(moment.epoch)
        self.total = self.total + np.array([moment.loss, 1.0])
        self.best = min(self.best, moment.loss)

    def state_dict(self):
        return {
            "seen": self.seen, "total": self.total, "best": self.best, "count": np.arange(3),
            "odd": float("nan"), "none": None, "text": "ä",
        }  # fmt: skip

    def load_state_dict(self, state):
        assert state["text"] == "ä"
        assert state["none"] is None
        assert np.isnan(state["odd"])
        assert state["count"].dtype == np.int64
        self.seen, self.total, self.best = state["seen"], state["total"], state["best"]


def network():
    layers = nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.3), nn.Linear(8, 3)
    return nn.Sequential(*layers, seed=1)


def train(model=None, *, optimizer=None, measured=True, **changes):
    model = model or network()
    given_ = {
        "loss": "softmax_cross_entropy", "optimizer": optimizer or optim.Adam(lr=0.01),
        "epochs": 5, "batch_size": 16, "sample_weight": WEIGHTS, "progress": False,
    }  # fmt: skip
    if measured:
        given_ |= {"validation_data": (X, Y), "metrics": ["accuracy"]}
    return model, cr.fit(model, changes.pop("X", X), changes.pop("y", Y), **{**given_, **changes})


def assert_same(one, other):
    (model, history), (twin, again) = one, other
    for name, value in model.state_dict().items():
        assert value.tobytes() == twin.state_dict()[name].tobytes(), name
    assert history.step_loss == again.step_loss
    assert history.columns() == again.columns()
    assert history.state["step"] == again.state["step"]
    for slot in [slot for slot in history.state if slot != "step"]:
        for name, value in history.state[slot].items():
            assert value.tobytes() == again.state[slot][name].tobytes(), (slot, name)


RULES = {
    "adam": lambda: optim.Adam(lr=0.01),
    "momentum with a schedule": lambda: optim.SGD(lr=optim.cosine(0.1, 35), momentum=0.9),
    "averages": lambda: optim.EMA(optim.Adam(lr=0.01), decay=0.9),
    "accumulated": lambda: optim.Accumulate(optim.RMSprop(lr=0.01), steps=3),
}


@pytest.mark.parametrize("compiled", [True, False], ids=["native", "numpy"])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("size", [16, None], ids=["batches", "whole"])
def test_an_interrupted_run_goes_on_to_the_bit(tmp_path, compiled, rule, size):
    common = {"compile": compiled, "batch_size": size, "measured": rule != "accumulated"}
    unbroken = train(optimizer=RULES[rule](), **common)
    steps = unbroken[1].steps
    for place, at in enumerate(sorted({1, steps // 3, steps * 4 // 5, steps - 1, steps})):
        folder = tmp_path / str(place)
        kept = {**common, "checkpoint": folder, "resume": True}
        first = train(optimizer=RULES[rule](), callbacks=[Interrupts(at)], **kept)
        assert first[1].steps == at
        assert_same(unbroken, train(optimizer=RULES[rule](), callbacks=[Interrupts()], **kept))


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.integers(1, 34), min_size=1, max_size=4, unique=True).map(sorted))
def test_a_run_stopped_several_times_goes_on_to_the_bit(tmp_path_factory, stops):
    folder = tmp_path_factory.mktemp("kept")
    for at in [*stops, 0]:
        last = train(
            checkpoint=Checkpoint(folder, every=0), resume=True,
            callbacks=[Interrupts(at), memory := Remembers()],
        )  # fmt: skip
    unbroken = train(callbacks=[Interrupts(), whole := Remembers()])
    assert_same(unbroken, last)
    assert memory.seen == whole.seen
    assert (memory.total == whole.total).all()
    assert memory.best == whole.best


@pytest.mark.parametrize("rows", [101, 16], ids=["batches", "whole"])
def test_epochs_that_ended_within_a_slice_are_entered(tmp_path, rows):
    """Many epochs run in one call of machine code, and Ctrl-C comes during it."""
    data = {"X": X[:rows], "y": Y[:rows], "sample_weight": None, "measured": False}

    def press():
        while not any(tmp_path.glob("checkpoint*")):  # after the first slice
            time.sleep(0.01)
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGINT)

    presser = threading.Thread(target=press)
    presser.start()
    first = train(checkpoint=Checkpoint(tmp_path, every=0), epochs=10**6, **data)[1]
    presser.join()
    assert first.stopped == "interrupted"
    per_epoch = -(-rows // 16)
    assert first.epochs == first.steps // per_epoch > 8
    more = {"epochs": first.epochs + 3, **data}
    assert_same(train(**more), train(checkpoint=tmp_path, resume=True, **more))


def test_a_finished_run_is_only_read(tmp_path):
    done = train(checkpoint=tmp_path)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    again = train(checkpoint=tmp_path, resume=True)
    assert_same(done, again)
    assert again[1].stopped is None
    assert len(files) == 1


def test_a_run_can_be_made_longer(tmp_path):
    train(checkpoint=tmp_path, epochs=2)
    assert_same(train(epochs=5), train(checkpoint=tmp_path, resume=True, epochs=5))


def test_a_run_that_a_callback_ended_stays_ended(tmp_path):
    class Stops:
        def on_epoch(self, moment):
            return moment.epoch == 2

    first = train(checkpoint=tmp_path, callbacks=[Stops()])
    again = train(checkpoint=tmp_path, callbacks=[Stops()], resume=True)
    assert_same(first, again)
    assert again[1].stopped == "callback"


def test_a_seed_left_to_chance_is_kept(tmp_path):
    first = train(checkpoint=tmp_path, seed=None, callbacks=[Interrupts(9)])
    again = train(checkpoint=tmp_path, seed=None, resume=True, callbacks=[Interrupts()])
    assert_same(train(seed=first[1].seed), again)


def test_lbfgs_goes_on_by_doing_the_same_again(tmp_path):
    def model(seed):
        return nn.Sequential(nn.Linear(5, 4, dtype=float), nn.Tanh(), nn.Linear(4, 3, dtype=float),
                             seed=seed)  # fmt: skip

    common = {"measured": False, "sample_weight": None, "epochs": 12}
    unbroken = train(model(0), optimizer=optim.LBFGS(), **common)
    train(model(0), optimizer=optim.LBFGS(), checkpoint=tmp_path, callbacks=[Interrupts(5)],
          **common)  # fmt: skip
    again = train(model(7), optimizer=optim.LBFGS(), checkpoint=tmp_path, resume=True,
                  callbacks=[Interrupts()], **common)  # fmt: skip
    assert_same(unbroken, again)


# -- what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"X": X + 1}, "data"),
        ({"y": Y[::-1]}, "data"),
        ({"sample_weight": WEIGHTS[::-1]}, "data"),
        ({"validation_data": (X, Y[::-1])}, "validation data"),
        ({"batch_size": 8}, "batch_size was 16, is 8"),
        ({"seed": 3}, "seed was 0, is 3"),
        ({"shuffle": False}, "shuffle"),
        ({"optimizer": optim.Adam(lr=0.02)}, "optimizer"),
        ({"optimizer": optim.Adam(lr=optim.cosine(0.01, 9))}, "optimizer"),
        ({"loss": lambda p, y, sample_weight=None: (p * p).mean()}, "loss"),
        ({"model": nn.Sequential(nn.Linear(5, 3), seed=0)}, "model"),
        ({"callbacks": [Remembers()]}, "callbacks"),
        ({"metrics": ["accuracy", "accuracy_of_mine"]}, "metrics"),
        ({"metrics": []}, "metrics"),
        ({"epochs": 1}, "has 14 steps, and epochs=1 is 7"),
    ],
)
def test_another_run_is_refused_by_name(tmp_path, changes, named):
    train(checkpoint=tmp_path, epochs=2)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    if "metrics" in changes:
        changes = {"metrics": [wrong if "_" in name else name for name in changes["metrics"]]}
    with pytest.raises(DataError, match=named):
        train(**{"checkpoint": tmp_path, "resume": True, **changes})
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def wrong(prediction, target):
    return float((prediction.argmax(axis=1) != target).mean())


class Falling:
    """A schedule of somebody's, as an object."""

    def __init__(self, lr):
        self.lr = lr

    def __call__(self, step):
        return self.lr / (step + 1)

    def method(self, step):
        return self.lr


def fall(lr, step):
    return lr / (step + 1)


def table(rates):
    return lambda step: rates[min(step, len(rates) - 1)]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (optim.one_cycle(0.1, 100), optim.one_cycle(0.1, 200)),
        (optim.warmup(optim.one_cycle(0.1, 100), 5), optim.warmup(optim.one_cycle(0.2, 100), 5)),
        (Falling(0.1), Falling(0.2)),
        (Falling(0.1).method, Falling(0.2).method),
        (functools.partial(fall, 0.1), functools.partial(fall, 0.2)),
        (lambda step: 0.1 / (step + 1), lambda step: 0.2 / (step + 1)),
        (lambda step, lr=0.1: lr, lambda step, lr=0.2: lr),
        (table([0.1, 0.2]), table([0.1, 0.3])),
        (table(np.array([0.1, 0.2])), table(np.array([0.1, 0.3]))),
        (table({0: 0.1, 1: 0.2}), table({0: 0.1, 1: 0.3})),
    ],
)
def test_schedules_are_told_apart_by_all_that_they_hold(one, other):
    def words(lr):
        return optimizer_words(optim.EMA(optim.Adam(lr)))

    assert words(one) != words(other)
    assert words(one) == words(copy.deepcopy(one))


def test_words_are_the_same_in_every_process_and_end():
    assert optimizer_words({0, 8}) == optimizer_words({8, 0})
    assert optimizer_words(lambda step: step in {0, 8}).count("[0, 8]") == 1
    cyclic = {"mine": 1}
    cyclic["self"] = [cyclic]
    assert optimizer_words(cyclic) == optimizer_words(cyclic)
    assert optimizer_words(functools.cache(Falling(0.1).method)) == optimizer_words(
        Falling(0.1).method
    )


def test_a_schedule_that_changed_is_refused(tmp_path):
    train(checkpoint=tmp_path, epochs=1, optimizer=optim.Adam(optim.one_cycle(0.01, 7)))
    with pytest.raises(DataError, match="optimizer"):
        train(checkpoint=tmp_path, epochs=2, optimizer=optim.Adam(optim.one_cycle(0.01, 14)),
              resume=True)  # fmt: skip


def test_what_a_checkpoint_cannot_hold_is_said_before_training(tmp_path):
    class Odd(Remembers):
        def state_dict(self):
            return {"seen": {1, 2}}

    model, told = network(), []
    Odd.on_step = lambda self, moment: told.append(moment.step)
    with pytest.raises(TypeError, match="cannot hold a set, as a callback's"):
        train(model, checkpoint=tmp_path, callbacks=[Odd()])
    assert told == []
    assert list(tmp_path.iterdir()) == []


class Scaled:
    """An optimiser of somebody's, with other numbers in its state than one array a parameter."""

    lr = 0.05

    def init(self, params):
        return {
            "step": 0, "counts": {name: np.int64(0) for name in params},
            "rest": {"scale": 1.0, "seen": [0, 0], "norm": np.float32(1), 7: (1, 2)},
        }  # fmt: skip

    def update(self, params, grads, state):
        rest = state["rest"]
        assert (type(rest["norm"]), type(rest["seen"]), rest[7]) == (np.float32, list, (1, 2))
        lr = self.lr * rest["scale"] * float(rest["norm"])
        after = {name: p - lr * grads[name] for name, p in params.items()}
        rest = {
            **rest, "scale": rest["scale"] * 0.9, "norm": rest["norm"] * np.float32(0.99),
            "seen": [rest["seen"][1], state["step"]],
        }  # fmt: skip
        counts = {name: k + 1 for name, k in state["counts"].items()}
        return after, {"step": state["step"] + 1, "counts": counts, "rest": rest}


def test_an_optimizer_of_ones_own_goes_on_with_all_that_it_keeps(tmp_path):
    common = {"optimizer": Scaled(), "compile": False}
    model, history = train(**common)
    train(**common, checkpoint=tmp_path, callbacks=[Interrupts(9)])
    twin, again = train(**common, checkpoint=tmp_path, callbacks=[Interrupts()], resume=True)
    assert history.step_loss == again.step_loss
    assert history.state == again.state
    assert (model.params["0.weight"] == twin.params["0.weight"]).all()


def test_buffers_that_count_are_kept(tmp_path):
    class Counts(nn.Module):
        def __init__(self):
            self.inner = nn.Linear(5, 3, seed=0)
            self.register_buffer("calls", np.int64(0))
            self.register_buffer("seen", np.zeros(3, bool))

        def forward(self, x):
            self.calls = self.calls + 1
            self.seen = np.arange(3) < self.calls // 4
            return self.inner(x)

    common = {"compile": False, "measured": False}
    unbroken = train(Counts(), **common)
    train(Counts(), **common, checkpoint=tmp_path, callbacks=[Interrupts(9)])
    again = train(Counts(), **common, checkpoint=tmp_path, callbacks=[Interrupts()], resume=True)
    assert_same(unbroken, again)


@pytest.mark.parametrize("seed", [0, 3])
def test_a_seed_that_is_not_given_is_that_of_the_run(tmp_path, seed):
    train(checkpoint=tmp_path, seed=seed, epochs=1)
    assert train(checkpoint=tmp_path, seed=None, epochs=1, resume=True)[1].seed == seed


def test_lbfgs_goes_on_twice_with_the_model_that_was_trained(tmp_path):
    common = {"optimizer": "lbfgs", "measured": False, "sample_weight": None}
    layers = nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)
    model = nn.Sequential(*layers, seed=1)
    unbroken = train(copy.deepcopy(model), epochs=9, **common)
    for epochs in (3, 6, 9):
        again = train(model, epochs=epochs, checkpoint=tmp_path, resume=True, **common)
    assert_same(unbroken, again)


@pytest.mark.parametrize("compiled", [True, False])
def test_whoever_reads_gradients_finds_them_after_a_run_that_was_killed(tmp_path, compiled):
    class Reads(Remembers):
        def __init__(self, last):
            super().__init__()
            self.last, self.norms = last, []

        def on_epoch(self, moment):
            super().on_epoch(moment)
            assert moment.history.stopped is None
            self.norms.append(sum(float((g * g).sum()) for g in moment.gradients.values()))
            if moment.epoch == self.last:
                raise RuntimeError("the power is gone")

    unbroken, broken, again = Reads(0), Reads(3), Reads(0)
    train(callbacks=[unbroken], compile=compiled)
    keeper = Checkpoint(tmp_path, every=0)
    with pytest.raises(RuntimeError, match="power"):
        train(callbacks=[broken], compile=compiled, checkpoint=keeper)
    train(callbacks=[again], compile=compiled, checkpoint=keeper, resume=True)
    assert again.norms == unbroken.norms[2:]


def test_ctrl_c_at_the_very_end_is_not_swallowed(tmp_path, monkeypatch):
    class Ends:
        def on_epoch(self, moment):
            signal.raise_signal(signal.SIGINT)
            return True

    _, history = train(callbacks=[Ends()], epochs=3, checkpoint=tmp_path)
    assert (history.epochs, history.stopped) == (1, "interrupted")
    _, history = train(callbacks=[Ends()], epochs=3, checkpoint=tmp_path, resume=True)
    assert (history.epochs, history.stopped) == (1, "callback")  # which it was, too

    def saved(*args):
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Checkpoint, "save", saved)
    keeper = Checkpoint(tmp_path / "other")
    assert train(epochs=3, checkpoint=keeper)[1].stopped == "interrupted"


def test_an_earlier_run_is_not_overwritten_by_mistake(tmp_path):
    train(checkpoint=tmp_path, epochs=1)
    with pytest.raises(DataError, match="pass resume=True"):
        train(checkpoint=tmp_path)


def test_bad_arguments(tmp_path):
    with pytest.raises(ValueError, match="resume needs a checkpoint"):
        train(resume=True)
    with pytest.raises(TypeError, match="folder's path"):
        train(checkpoint=3)
    with pytest.raises(ValueError, match="every"):
        Checkpoint(tmp_path, every=-1)
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="is a file"):
        train(checkpoint=tmp_path / "file")


# -- damage -----------------------------------------------------------------------------------


def keep_two(folder):
    train(checkpoint=Checkpoint(folder, every=0), callbacks=[Interrupts(12)])
    paths = [folder / name for name in NAMES]
    assert all(path.exists() for path in paths)
    return paths


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "gone"])
def test_the_last_good_checkpoint_wins(tmp_path, damage):
    for path in keep_two(tmp_path):
        whole = path.read_bytes()
        flipped = whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:]
        hurt = {"cut": whole[:-5], "flipped": flipped, "empty": b""}
        path.write_bytes(hurt[damage]) if damage != "gone" else path.unlink()
        again = train(checkpoint=tmp_path, resume=True, callbacks=[Interrupts()])
        assert_same(train(), again)


def test_two_damaged_checkpoints_are_said_so(tmp_path):
    for path in keep_two(tmp_path):
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ModelFileError, match=r"no checkpoint can be read: .*Remove the folder"):
        train(checkpoint=tmp_path, resume=True, callbacks=[Interrupts()])


def test_a_model_file_is_no_checkpoint(tmp_path):
    network().save(tmp_path / NAMES[0])
    with pytest.raises(ModelFileError, match="is no checkpoint"):
        train(checkpoint=tmp_path, resume=True)


def test_a_full_disk_is_warned_about_once_and_training_goes_on(tmp_path, monkeypatch):
    real, told = os.write, []

    def full(handle, data):
        if os.readlink(f"/proc/self/fd/{handle}").startswith(str(tmp_path)):
            told.append(handle)
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(handle, data)

    if not Path("/proc/self/fd").exists():
        pytest.skip("needs /proc")
    monkeypatch.setattr(os, "write", full)
    keeper = Checkpoint(tmp_path, every=0)
    with pytest.warns(RuntimeWarning, match="No space left") as seen:
        result = train(checkpoint=keeper, callbacks=[Interrupts()])
    assert len(seen) == 1 < len(told)
    assert keeper.error.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []
    assert_same(train(), result)


def test_a_read_only_folder_is_one_error(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    tmp_path.chmod(0o500)
    with pytest.warns(RuntimeWarning, match="not saved"):
        train(checkpoint=tmp_path)


def test_altered_checkpoints_are_refused_or_harmless(tmp_path):
    """Bytes changed, and documents changed and signed again: one kind of error, nothing else."""
    folder = tmp_path / "run"
    with np.errstate(all="ignore"):
        train(checkpoint=folder, epochs=2, callbacks=[Remembers()], compile=False)
    (path,) = folder.iterdir()
    whole, refused = path.read_bytes(), 0
    for mutant in mutants([whole], 300, seed=5):
        path.write_bytes(mutant.data)
        with np.errstate(all="ignore"):
            try:
                train(checkpoint=folder, epochs=2, callbacks=[Remembers()], compile=False,
                      resume=True)  # fmt: skip
            except (ModelFileError, DataError, GradientError):
                refused += 1
        for other in folder.iterdir():
            other.unlink()
    assert refused > 200
