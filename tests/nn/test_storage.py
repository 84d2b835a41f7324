"""Model files: what save writes load reads, and every other file is a ModelFileError."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file

from chainrule import nn
from chainrule.errors import ModelFileError
from chainrule.nn import known, tensorfile

F64 = np.float64
EVERY = [
    lambda: [nn.Linear(3, 2), nn.Linear(2, 2, False, dtype=F64), nn.Linear(2, 1, dtype=np.float16)],
    lambda: [nn.Maxout(3, 2, 4), nn.MulticlassSigmoid(2, 3), nn.MulticlassSigmoid(3, 4, True)],
    lambda: [nn.PReLU(), nn.PReLU(3, 0.5, dtype=F64), nn.BatchNorm1d(3, 1e-3, 0.2)],
    lambda: [nn.LayerNorm(3), nn.LayerNorm((3,), 1e-3, dtype=F64), nn.Flatten(), nn.Dropout(0.25)],
    lambda: [nn.EmbedColumns(3, [(1, 2, 4)]), nn.Linear(5, 3)],
    lambda: [nn.Sigmoid(), nn.Tanh(), nn.ReLU(), nn.LeakyReLU(0.1), nn.ELU(2.0), nn.SELU()],
    lambda: [nn.GELU(), nn.SiLU(), nn.Softplus(), nn.Softsign(), nn.HardTanh()],
    lambda: [nn.Softmax(0), nn.LogSoftmax(1)],
    lambda: [nn.Sequential(nn.Linear(3, 3), nn.Sequential(nn.ReLU(), nn.Sequential()))],
    lambda: [nn.LSTM(3, 4, return_sequences=True), nn.GRU(4, 2, padding_value=0.5), nn.Tanh()],
    lambda: [nn.RNN(3, 2, 2, "relu", False, dropout=0.25, bidirectional=True, dtype=F64)],
    list,
]  # fmt: skip


def small(seed: int = 0) -> nn.Sequential:
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.BatchNorm1d(4), nn.Linear(4, 2), seed=seed)
    model.extra = {"task": "classification", "classes": ["no", "yes"], "mean": [0.5, -1e-300, 3]}
    return model


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


@pytest.fixture
def data(path: Path) -> bytes:
    small().save(path)
    return path.read_bytes()


def refused(path: Path, data: bytes) -> str:
    """The message with which a file of these bytes is refused."""
    path.write_bytes(data)
    with pytest.raises(ModelFileError) as caught:
        nn.load(path)
    message = str(caught.value)
    assert message.startswith(repr(str(path)))
    assert "\n" not in message
    assert len(message) < 400 + len(str(path))
    return message


# -- round trips ------------------------------------------------------------------------------


@pytest.mark.parametrize("layers", EVERY)
def test_every_layer_comes_back_as_it_was(
    layers: Callable[[], list[nn.Module]], path: Path
) -> None:
    rng = np.random.default_rng(0)
    model = nn.Sequential(*layers())
    model.load_state_dict({k: rng.random(v.shape) for k, v in model.state_dict().items()})
    model.save(path)
    loaded = nn.load(path)
    assert repr(loaded) == repr(model)
    assert not loaded.training
    assert [p.name for p in loaded.parameters()] == [p.name for p in model.parameters()]
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(loaded.state_dict()[name], value, strict=True)
    through_time = any(hasattr(layer, "unroll") for layer in model)
    X = rng.normal(size=(5, 4, 3) if through_time else (5, 3))
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))


def test_every_layer_of_the_package_is_in_the_table() -> None:
    kinds = [x for x in vars(nn).values() if isinstance(x, type) and issubclass(x, nn.Module)]
    cells = {"LSTMCell", "GRUCell", "RNNCell"}  # steps of a loop of one's own: no Sequential's
    assert {x.__name__ for x in kinds} - {"Module", "Sequential"} - cells == set(known.KNOWN)
    used = {type(m).__name__ for layers in EVERY for layer in layers() for m in layer.modules()}
    assert used - {"Sequential"} == set(known.KNOWN)


def test_extra_comes_back_as_json_holds_it(path: Path) -> None:
    model = small()
    model.extra = {
        "a": (1, 2.5, None, True),
        "n": np.float32(0.5),
        "v": np.arange(3),
        "Ωß": {"": "\ud800"},
    }
    model.save(path)
    assert nn.load(path).extra == {
        "a": [1, 2.5, None, True],
        "n": 0.5,
        "v": [0, 1, 2],
        "Ωß": {"": "\ud800"},
    }
    for wrong, words in (
        ({"x": [1, float("nan")]}, r"extra\['x'\]\[1\] holds nan"),
        ({"x": {1: 2}}, "keys that are no strings"),
        ({"x": object()}, "holds a object"),
        ({"x": "y" * 11_000_000}, "too large"),
    ):
        model.extra = wrong
        with pytest.raises(ModelFileError, match=words):
            model.save(path)
    deep: list[Any] = []
    for _ in range(100):
        deep = [deep]
    model.extra = {"deep": deep}
    with pytest.raises(ModelFileError, match="nested too deep"):
        model.save(path)


def test_files_are_the_same_bytes_and_plain_safetensors(path: Path, data: bytes) -> None:
    for _ in range(3):
        small().save(path)
        assert path.read_bytes() == data
    nn.load(path).save(path)
    assert path.read_bytes() == data
    for name, value in load_file(path).items():  # the package reads what we wrote
        np.testing.assert_array_equal(value, small().state_dict()[name], strict=True)


def test_models_that_cannot_be_rebuilt_say_what_to_do(path: Path) -> None:
    class Mine(nn.Linear):
        pass

    shared, relu = nn.Linear(2, 2), nn.ReLU()
    deep: nn.Module = nn.Sequential()
    for _ in range(5):
        deep = nn.Sequential(deep)
    odd = nn.Sequential(nn.Linear(2, 2))
    odd[0].weight = nn.Parameter(np.ones((5, 5), np.float32))
    slope = nn.Sequential(nn.LeakyReLU(float("inf")))
    for model, words in (
        (nn.Linear(2, 2), r"it is a Linear, not a Sequential; .*state_dict"),
        (nn.Sequential(nn.ReLU(), Mine(2, 2)), r"layer 1 is a Mine of your own; .*load_state_dict"),
        (nn.Sequential(shared, nn.Sequential(shared)), r"layers 0 and 1\.0 share their weights"),
        (deep, "nested deeper than 5"),
        (odd, "do not fit"),
        (slope, "not finite"),
    ):
        with pytest.raises(ModelFileError, match=words):
            model.save(path)
        assert not path.exists()
    nn.Sequential(relu, shared, relu).save(path)
    assert len(nn.load(path)) == 3


@pytest.mark.skipif(os.name == "nt", reason="links and permissions as POSIX has them")
def test_save_replaces_through_links_and_keeps_permissions(path: Path, data: bytes) -> None:
    link = path.with_name("latest")
    link.symlink_to(path.name)
    path.chmod(0o640)
    small(1).save(link)
    assert link.is_symlink()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    np.testing.assert_array_equal(nn.load(link).params["0.weight"], small(1).params["0.weight"])
    with pytest.raises(FileExistsError, match="overwrite=True"):
        small().save(path, overwrite=False)
    nn.save(small(), path.with_name("new"), overwrite=False)
    assert path.with_name("new").read_bytes() == data


# -- files of earlier versions ----------------------------------------------------------------


def test_a_file_of_format_1_loads_for_ever(path: Path) -> None:
    """Written by the first version; neither file is ever to be written again."""
    told = json.loads((GOLDEN / "model_format_1.json").read_text(encoding="utf-8"))
    data = (GOLDEN / "model_format_1.safetensors").read_bytes()
    path.write_bytes(data)
    assert hashlib.sha256(data).hexdigest() == FORMAT_1
    model = nn.load(path)
    assert len(model) == len(told["out"])
    for number, out in enumerate(told["out"], 1):
        X = np.array(told["x"], np.float32)
        np.testing.assert_allclose(model[:number].predict(X), out, rtol=1e-6, atol=1e-6)
    assert model.extra == told["extra"]


def test_an_argument_added_later_has_a_value_in_older_files(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nn.Sequential(nn.Sigmoid()).save(path)

    class Steeper(nn.Sigmoid):  # as a later version's Sigmoid
        arguments = ("slope",)

        def __init__(self, slope: float = 1.0) -> None:
            self.slope = slope

    for added in ({}, {"slope": 1.0}):
        spec = known.Spec(Steeper, {"slope": known._number}, added=added)
        monkeypatch.setitem(known.KNOWN, "Sigmoid", spec)
        if not added:
            with pytest.raises(ModelFileError, match="not exactly the arguments"):
                nn.load(path)
    assert nn.load(path)[0].slope == 1.0


FORMAT_1 = "93ea52a91efb3d1fded3165e88e3f7260ba71c470763fcb3158fe4633109d9bc"
GOLDEN = Path(__file__).parent.parent / "golden"


# -- damage -----------------------------------------------------------------------------------


def test_cut_files_are_refused(path: Path, data: bytes) -> None:
    cuts = np.random.default_rng(0).integers(0, len(data), 200)
    for cut in {0, 7, 8, 9, len(data) - 1, *cuts.tolist()}:
        assert "cut short" in refused(path, data[:cut])


def test_flipped_bytes_are_never_loaded(path: Path, data: bytes) -> None:
    rng = np.random.default_rng(0)
    for place in [*range(16), *rng.integers(0, len(data), 300)]:
        altered = bytearray(data)
        altered[place] ^= int(rng.integers(1, 256))
        refused(path, bytes(altered))


@given(st.binary(max_size=300))
def test_random_bytes_are_refused(noise: bytes) -> None:
    with pytest.raises(tensorfile.Refusal):
        tensorfile.parse(noise, 0)
    with pytest.raises(tensorfile.Refusal):
        tensorfile.parse(b"{" + noise, 8)


def test_digest_finds_what_the_structure_allows(path: Path, data: bytes) -> None:
    for altered in (
        data[:-4] + b"\x00\x00\x80\x3f",  # another weight
        data.replace(b"classification", b"classificatiom"),
        data.replace(b'"Tanh', b'"ReLU').replace(b'\\"Tanh', b'\\"ReLU'),
    ):
        assert altered != data
        assert "do not match its digest" in refused(path, altered)
