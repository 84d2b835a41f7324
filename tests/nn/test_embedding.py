"""EmbedColumns: blocks through their matrices, numbers untouched; compiled, saved, refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import chainrule as cr
from chainrule import nn
from chainrule.errors import ModelFileError, ShapeError


@st.composite
def layouts(draw):
    """(width, blocks) with numbers between, before and after the blocks."""
    place, blocks = draw(st.integers(0, 2)), []
    for _ in range(draw(st.integers(1, 3))):
        categories, dim = draw(st.integers(1, 4)), draw(st.integers(1, 3))
        blocks.append((place, categories, dim))
        place += categories + draw(st.integers(0, 2))
    return place + draw(st.integers(0, 2)), blocks


@given(layouts(), st.integers(0, 2**32))
def test_values(layout, seed):
    width, blocks = layout
    layer = nn.EmbedColumns(width, blocks, seed=1, dtype=np.float64)
    X = np.random.default_rng(seed).normal(size=(3, width))
    parts, place = [], 0
    for k, (start, categories, _) in enumerate(blocks):
        table = getattr(layer, f"table{k}").value
        parts += [X[:, place:start], X[:, start : start + categories] @ table]
        place = start + categories
    expected = np.concatenate([*parts, X[:, place:]], axis=1)
    assert np.allclose(layer(X).numpy(), expected, rtol=1e-12)
    assert layer.output_shape((width,)) == (expected.shape[1],)


def _trained(compile):
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 3, 200)
    X = np.c_[rng.normal(size=200), np.eye(3)[codes], rng.normal(size=(200, 2))]
    y = (X[:, 0] * (codes - 1) + X[:, 4])[:, None]
    model = nn.Sequential(
        nn.EmbedColumns(6, [(1, 3, 2)]), nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 1), seed=0
    )
    history = cr.fit(model, X, y, loss="squared_error", epochs=15, compile=compile, progress=False)
    return model, history, X


def test_it_compiles_and_learns():
    (_, native, _), (_, plain, _) = (_trained(compile) for compile in (True, False))
    assert (native.compiled, plain.compiled) == ("yes", "no")
    assert native.loss == pytest.approx(plain.loss, rel=1e-4)
    assert native.loss[-1] < 0.7 * native.loss[0]


def test_model_file(tmp_path):
    model, _, X = _trained(True)
    model.save(tmp_path / "m.safetensors")
    again = cr.load(tmp_path / "m.safetensors")
    assert again.predict(X).tobytes() == model.predict(X).tobytes()
    assert repr(again) == repr(model)


def test_a_sequentials_seed_draws_it():
    one, two = (nn.Sequential(nn.EmbedColumns(3, [(0, 3, 2)]), seed=7) for _ in range(2))
    assert one[0].table0.value.tobytes() == two[0].table0.value.tobytes()
    kept = nn.EmbedColumns(3, [(0, 3, 2)], seed=1)
    start = kept.table0.value.copy()
    nn.Sequential(kept, seed=7)
    assert kept.table0.value.tolist() == start.tolist()


@pytest.mark.parametrize(
    ("width", "blocks", "found"),
    [
        (3, [(0, 4, 1)], "does not fit"),
        (5, [(2, 2, 1), (1, 1, 1)], "does not fit"),
        (5, [(0, 3, 1), (2, 2, 1)], "does not fit"),
        (5, [(0, 3)], "a block is (start, categories, dim)"),
        (5, [(0, 0, 1)], "a block's categories must be a whole number of at least 1"),
        (5, [(0, 2, 0)], "a block's dim must be"),
        (5, [(-1, 2, 1)], "a block's start must be"),
    ],
)
def test_blocks_that_do_not_fit(width, blocks, found):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is compared below
        nn.EmbedColumns(width, blocks)
    assert found in str(caught.value)


def test_another_width():
    with pytest.raises(ShapeError, match="expected 3 features in the last axis, got 2"):
        nn.EmbedColumns(3, [(0, 2, 1)])(np.zeros((1, 2)))


def test_overlapping_blocks_in_a_file_are_refused(tmp_path, monkeypatch):
    model = nn.Sequential(nn.EmbedColumns(4, [(0, 2, 1), (2, 2, 1)]), seed=0)
    model[0].blocks = ((0, 2, 1), (1, 2, 1))
    with pytest.raises(ModelFileError, match="does not fit"):
        model.save(tmp_path / "m.safetensors")
