"""Batches: the same rows as fit visits, exact sizes, a thread that ends, errors that surface."""

from __future__ import annotations

import gc
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import chainrule as cr
from chainrule.data import Batches, Standardizer, load_dataset, mapped, read_table, scan
from chainrule.errors import DataError

X = np.arange(60.0).reshape(30, 2)
Y = np.arange(30)


def rows(batches, epoch=1):
    return [row for _, y in batches.epoch(epoch) for row in y.tolist()]


def threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == "chainrule-batches"]


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    yield
    if threads():
        gc.collect()
    assert not threads()


class TestRows:
    @pytest.mark.parametrize("prefetch", [0, 1, 5])
    @pytest.mark.parametrize("epoch", [1, 2])
    def test_arrays_are_visited_as_fit_does(self, prefetch, epoch):
        batches = Batches((X, Y), 7, seed=3, prefetch=prefetch)
        expected = np.random.default_rng([3, 10_000 + epoch]).permutation(30)
        assert rows(batches, epoch) == expected.tolist()
        for part, y in batches.epoch(epoch):
            assert part.dtype == np.float32
            assert y.dtype == np.int64
            assert part[:, 0].tolist() == [2 * row for row in y.tolist()]

    def test_fit_gives_the_same_bytes_as_on_arrays(self):
        target = (X.sum(axis=1, keepdims=True) / 50).astype(np.float32)
        found = []
        for data in ((X, target), (Batches((X, target), 8, seed=5),)):
            model = cr.nn.Sequential(cr.nn.Linear(2, 3, seed=1), cr.nn.Linear(3, 1, seed=2))
            sgd = cr.optim.SGD(lr=1e-5)
            batch = {"batch_size": 8} if len(data) == 2 else {}
            cr.fit(
                model, *data, loss="squared_error", optimizer=sgd, epochs=3, seed=5,
                compile=False, progress=False, **batch,
            )  # fmt: skip
            found.append({k: v.tobytes() for k, v in model.state_dict().items()})
        assert found[0] == found[1]

    def test_memory_map(self, tmp_path):
        X.astype(np.float32).tofile(tmp_path / "X")
        mapped = np.memmap(tmp_path / "X", np.float32, "r", shape=X.shape)
        plain, streamed = (Batches((data, Y), 4) for data in (X, mapped))
        for (a, b), (c, d) in zip(plain.epoch(2), streamed.epoch(2), strict=True):
            assert (a.tobytes(), b.tobytes()) == (c.tobytes(), d.tobytes())

    @pytest.mark.parametrize("size", [1, 4, 30, 64])
    @pytest.mark.parametrize("shuffle", [True, False])
    @pytest.mark.parametrize("weighted", [True, False])
    def test_what_is_read_together_changes_nothing(
        self, tmp_path, monkeypatch, size, shuffle, weighted
    ):
        X.tofile(tmp_path / "X")
        file = np.memmap(tmp_path / "X", float, "r", shape=X.shape)
        options = {"shuffle": shuffle, "prepare": Standardizer.fit(X), "dtype": float}
        if weighted:
            options["sample_weight"] = np.where(Y % 5 == 0, 0, Y)
        one = list(Batches((X, Y), size, **options).epoch(3))
        monkeypatch.setattr("chainrule.data.batches.AHEAD", 100)
        monkeypatch.setattr("chainrule.data.mapped.SEGMENT", 64)
        monkeypatch.setattr("chainrule.data.mapped.BLOCK", 8)
        other = list(Batches((file, Y), size, **options).epoch(3))
        assert [len(batch) for batch in one] == [3 if weighted else 2] * len(one)
        for a, b in zip(one, other, strict=True):
            assert [part.tobytes() for part in a] == [part.tobytes() for part in b]
        seen = sorted(row for batch in one for row in batch[1].tolist())
        assert seen == [row for row in range(30) if not weighted or row % 5]
        if weighted:
            assert all((y == w).all() for _, y, w in one)

    def test_one_batch_of_all_rows_is_in_their_order_as_in_fit(self):
        assert rows(Batches((X, Y), 30)) == rows(Batches((X, Y), 99)) == list(range(30))
        assert rows(Batches((X, Y), 29)) != list(range(30))

    def test_a_part_of_a_table_in_a_file_is_in_a_file(self, monkeypatch):
        monkeypatch.setattr(scan, "LARGE", 100)
        monkeypatch.setattr("chainrule.data.mapped.SEGMENT", 256)
        monkeypatch.setattr("chainrule.data.mapped.BLOCK", 64)
        table = read_table(
            {"a": np.arange(90.0), "b": np.arange(90) % 7, "y": np.arange(90.0)}, "y"
        )
        visit = np.random.default_rng(0).permutation(90)[:50] - 10
        part = table.take(visit)
        assert isinstance(part.features, np.memmap)
        assert (part.features == np.array(table.features)[visit]).all()
        assert part.target.tolist() == (visit % 90).tolist()
        assert not isinstance(table.take([3, 5]).features, np.memmap)
        assert table.take([]).features.shape == (0, 2)
        assert table.take(range(90)).digest() == table.digest()
        columns = [c.tolist() for c in mapped.columns(table.features)]
        assert columns == np.array(table.features).T.tolist()

    def test_table(self):
        table = load_dataset("diabetes")
        batches = Batches(table, 100, prepare=Standardizer.of(table))
        assert (batches.rows, batches.width) == (442, 10)
        assert [y.shape for _, y in batches.epoch(1)] == [(100, 1)] * 4 + [(42, 1)]
        total = sum(part.sum(axis=0, dtype=float) for part, _ in batches.epoch(1))
        assert np.allclose(total, 0, atol=1e-3)

    def test_path(self, tmp_path, monkeypatch):
        monkeypatch.setattr(scan, "LARGE", 100)
        text = "x,c,y\n" + "".join(f"{i},{'ab'[i % 2]},{i % 2}\n" for i in range(50))
        (tmp_path / "t.csv").write_text(text)
        batches = Batches(tmp_path / "t.csv", 8, target="y", categorical=["y"])
        assert isinstance(batches.table.features, np.memmap)
        assert batches.table.digest() == read_table(tmp_path / "t.csv", "y").digest()
        seen = np.concatenate([part for part, _ in batches.epoch(1)])
        assert sorted(seen[:, 0].tolist()) == list(range(50))

    @settings(deadline=None, max_examples=60)
    @given(
        st.lists(st.integers(0, 9), min_size=1, max_size=12).filter(any),
        st.integers(1, 12),
        st.booleans(),
        st.integers(0, 3),
        st.sampled_from(["list", "function", "iterable"]),
    )
    def test_streams_give_each_row_once(self, sizes, batch, shuffle, prefetch, kind):
        ends = np.cumsum(sizes)
        numbers = np.arange(ends[-1])
        blocks = [
            (numbers[e - n : e, None] * [1.0, 2.0], numbers[e - n : e])
            for n, e in zip(sizes, ends, strict=True)
        ]

        class Again:
            def __iter__(self):
                return iter(blocks)

        source = {"list": blocks, "function": lambda: iter(blocks), "iterable": Again()}[kind]
        batches = Batches(source, batch, shuffle=shuffle, prefetch=prefetch)
        assert batches.rows == (len(numbers) if kind == "list" else None)
        found = list(batches.epoch(1))
        lengths = [len(part) for part, _ in found]
        assert lengths[:-1] == [batch] * (len(found) - 1)
        assert sum(lengths) == len(numbers)
        order = [row for _, y in found for row in y.tolist()]
        assert order == rows(batches) if shuffle else order == numbers.tolist()
        assert sorted(order) == numbers.tolist()
        assert all((part[:, 1] == 2 * y).all() for part, y in found)

    def test_streams_are_shuffled_anew_each_epoch(self):
        batches = Batches([(X[k : k + 5], Y[k : k + 5]) for k in range(0, 30, 5)], 4)
        assert rows(batches, 1) == rows(batches, 1)
        assert len({tuple(rows(batches, e)) for e in (1, 2, 3)}) == 3

    def test_a_slow_reader_or_source_changes_nothing(self):
        def slow():
            for k in range(0, 30, 6):
                time.sleep(0.002)
                yield X[k : k + 6], Y[k : k + 6]

        batches = Batches(slow, 4, prefetch=3)
        order = []
        for _, y in batches.epoch(1):
            time.sleep(0.003)
            order += y.tolist()
        quick = Batches(lambda: iter([(X, Y)]), 4)
        assert order == rows(quick)

    def test_first_is_a_sample(self):
        batches = Batches(lambda: iter([(X[:3], Y[:3]), (X[3:], Y[3:])]), 5)
        part, y = batches.first()
        assert (part.shape, y.tolist()) == ((5, 2), [0, 1, 2, 3, 4])
        assert batches.first() is batches.first()


class TestThread:
    def test_it_runs_ahead_and_no_further(self):
        made = []

        def source():
            for k in range(30):
                made.append(k)
                yield X[k : k + 1], Y[k : k + 1]

        epoch = Batches(source, 1, shuffle=False, prefetch=3).epoch(1)
        next(epoch)
        time.sleep(0.2)
        assert 4 <= len(made) <= 8
        epoch.close()

    @pytest.mark.parametrize("leave", ["break", "close", "raise", "forget"])
    def test_it_ends_when_nobody_reads(self, leave):
        closed = threading.Event()

        def endless():
            try:
                while True:
                    yield X, Y
            finally:
                closed.set()

        epoch = Batches(endless, 3).epoch(1)
        next(epoch)
        assert len(threads()) == 1
        if leave == "raise":
            with pytest.raises(KeyError):
                _raise_while(epoch)
        elif leave == "close":
            epoch.close()
        del epoch
        gc.collect()
        assert closed.wait(2)
        assert not threads()

    def test_it_does_not_start_before_it_is_asked(self):
        epoch = Batches((X, Y), 3).epoch(1)
        assert not threads()
        epoch.close()

    @pytest.mark.parametrize("prefetch", [0, 2])
    def test_errors_of_the_source_are_passed_on(self, prefetch):
        def broken():
            yield X, Y
            raise OSError("the disk is gone")

        batches = Batches(broken, 30, shuffle=False, prefetch=prefetch)
        seen = []
        with pytest.raises(OSError, match="the disk is gone"):
            seen.extend(batches.epoch(1))
        assert len(seen) == 1

    def test_a_stopped_fit_leaves_no_thread(self):
        batches = Batches(lambda: iter([(X, Y[:, None] / 30)] * 100), 5)
        model = cr.nn.Sequential(cr.nn.Linear(2, 1), seed=0)

        class Stop:
            def on_step(self, moment):
                return moment.step >= 3

        history = cr.fit(
            model, batches, loss="squared_error", optimizer=cr.optim.SGD(lr=1e-6), epochs=2,
            callbacks=[Stop()], progress=False,
        )  # fmt: skip
        assert history.steps == 3


def _raise_while(epoch):
    for _ in epoch:
        raise KeyError


class TestErrors:
    @pytest.mark.parametrize(
        ("source", "found"),
        [
            (lambda: iter([]), "the source of batches has no rows"),
            ([(X[:0], Y[:0])], "the source of batches has no rows"),
            (lambda: iter([(X, Y), (X[:, :1], Y)]), "block 1 (from 0) has 1 columns, the first"),
            (lambda: iter([X]), "block 0 (from 0) is a ndarray, not a pair (X, y)"),
            (lambda: iter([(X, Y[:2])]), "X has shape (30, 2), y has shape (2,)"),
            (lambda: iter([(X, Y.astype(str))]), "y has dtype <U"),
            (lambda: iter([(X / np.nan, Y)]), "X holds NaN at row 0, column 0"),
            (lambda: iter([(X + 1e300, Y)]), "too large for float32"),
        ],
    )
    def test_bad_blocks(self, source, found):
        with np.errstate(invalid="ignore"), pytest.raises(DataError) as caught:
            list(Batches(source, 64).epoch(1))
        assert found in str(caught.value)

    @pytest.mark.parametrize("source", [iter([(X, Y)]), (k for k in [(X, Y)]), 5])
    def test_what_cannot_be_read_twice(self, source):
        with pytest.raises(DataError, match="cannot be read twice"):
            Batches(source)

    def test_arrays_that_do_not_fit(self):
        with pytest.raises(DataError, match=r"X has shape \(30, 2\), y has shape \(29,\)"):
            Batches((X, Y[1:]))

    def test_arguments(self):
        for wrong in ({"batch_size": 0}, {"seed": -1}, {"prefetch": -1}):
            with pytest.raises(ValueError, match="must be a whole number"):
                Batches((X, Y), **wrong)
        with pytest.raises(DataError, match="for a path"):
            Batches((X, Y), target="y")
        with pytest.raises(DataError, match=r"sample_weight has shape \(29,\), expected \(30,\)"):
            Batches((X, Y), sample_weight=Y[1:])
        with pytest.raises(DataError, match="sample_weight is for arrays and tables"):
            Batches(lambda: iter([(X, Y)]), sample_weight=Y)
        with pytest.raises(DataError, match="no rows"):
            list(Batches((X, Y), sample_weight=0 * Y).epoch(1))
