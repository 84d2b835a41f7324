"""Model files: what save writes load reads, and every other file is a ModelFileError."""

from __future__ import annotations

import errno
import json
import os
import stat
import struct
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from chainrule import nn
from chainrule.errors import ModelFileError
from chainrule.nn import storage, tensorfile

F64 = np.float64
EVERY = [
    lambda: [nn.Linear(3, 2), nn.Linear(2, 2, False, dtype=F64), nn.Linear(2, 1, dtype=np.float16)],
    lambda: [nn.Maxout(3, 2, 4), nn.MulticlassSigmoid(2, 3), nn.MulticlassSigmoid(3, 4, True)],
    lambda: [nn.PReLU(), nn.PReLU(3, 0.5, dtype=F64), nn.BatchNorm1d(3, 1e-3, 0.2)],
    lambda: [nn.LayerNorm(3), nn.LayerNorm((3,), 1e-3, dtype=F64), nn.Flatten(), nn.Dropout(0.25)],
    lambda: [nn.Sigmoid(), nn.Tanh(), nn.ReLU(), nn.LeakyReLU(0.1), nn.ELU(2.0), nn.SELU()],
    lambda: [nn.GELU(), nn.SiLU(), nn.Softplus(), nn.Softsign(), nn.HardTanh()],
    lambda: [nn.Softmax(0), nn.LogSoftmax(1)],
    lambda: [nn.Sequential(nn.Linear(3, 3), nn.Sequential(nn.ReLU(), nn.Sequential()))],
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
    X = rng.normal(size=(5, 3))
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))


def test_every_layer_of_the_package_is_in_the_table() -> None:
    kinds = [x for x in vars(nn).values() if isinstance(x, type) and issubclass(x, nn.Module)]
    assert {x.__name__ for x in kinds} - {"Module", "Sequential"} == set(storage.KNOWN)
    used = {type(m).__name__ for layers in EVERY for layer in layers() for m in layer.modules()}
    assert used - {"Sequential"} == set(storage.KNOWN)


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


# -- damage -----------------------------------------------------------------------------------


def test_cut_files_are_refused(path: Path, data: bytes) -> None:
    cuts = np.random.default_rng(0).integers(0, len(data), 200)
    for cut in {0, 7, 8, 9, len(data) - 1, *cuts.tolist()}:
        assert "cut short" in refused(path, data[:cut])


def test_flipped_bytes_are_never_loaded(path: Path, data: bytes) -> None:
    rng = np.random.default_rng(0)
    for place in [*range(16), *rng.integers(0, len(data), 2000)]:
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


# -- hostile headers --------------------------------------------------------------------------

W = {"dtype": "F32", "shape": [2, 1], "data_offsets": [0, 8]}
B = {"dtype": "F32", "shape": [2], "data_offsets": [8, 16]}
LINEAR = {"class": "Linear", "in_features": 1, "out_features": 2, "bias": True, "dtype": "float32"}


def file_of(
    header: Any, document: Any = None, body: bytes = bytes(16), length: int | None = None
) -> bytes:
    """A file with this header and a right digest: only the structure can speak against it."""
    if isinstance(header, dict) and document is not None:
        text = json.dumps({**document, "sha256": tensorfile.BLANK})
        header = {**header, "__metadata__": {"chainrule": text}}
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    found = tensorfile.digest(raw, body, tensorfile.BLANK)
    raw = raw.replace(tensorfile.BLANK.encode(), (found or "").encode()) if found else raw
    return struct.pack("<Q", len(raw) if length is None else length) + raw + body


def document(*layers: Any, **changes: Any) -> dict[str, Any]:
    model = {"class": "Sequential", "layers": list(layers or [LINEAR])}
    return {"format": 1, "model": model, "extra": {}, **changes}


GOOD = {"0.weight": W, "0.bias": B}


def nested(depth: int) -> dict[str, Any]:
    return LINEAR if depth == 0 else {"class": "Sequential", "layers": [nested(depth - 1)]}


def tensors(**changes: Any) -> dict[str, Any]:
    return {"0.weight": {**W, **changes}, "0.bias": B}


HUGE = 2**31 - 1
HOSTILE: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "cut short: it has only 0 bytes"),
    "header length 2⁶⁴−1": (file_of({}, length=2**64 - 1), "no model file"),
    "header beyond 10 MB": (file_of({}, length=10 * 2**20 + 1), "no model file"),
    "header beyond the file": (file_of({}, length=1000), "cut short"),
    "header of length 0": (file_of(b"", body=b""), "not valid"),
    "header no object": (file_of(b"[1]"), "not valid"),
    "header no JSON": (file_of(b"{'a': 1}"), "not valid"),
    "header no UTF-8": (file_of(b'{"\xff": 1}'), "not valid"),
    "header with a BOM": (file_of(b"\xef\xbb\xbf{}"), "not valid"),
    "two objects": (file_of(b"{}{}"), "not valid"),
    "bottomless lists": (file_of(b'{"a":' + b"[" * 500_000), "nested too deep"),
    "bottomless objects": (file_of(b'{"a":' * 500_000), "nested too deep"),
    "number of 10,000 digits": (file_of(b'{"a":' + b"9" * 10_000 + b"}"), "not valid"),
    "NaN": (file_of(b'{"a": NaN}'), "not finite"),
    "infinite by exponent": (file_of(b'{"a": 1e999}'), "not finite"),
    "key twice": (file_of(b'{"a": {}, "a": {}}'), "a key occurs twice"),
    "metadata twice": (file_of(b'{"__metadata__": {}, "__metadata__": {}}'), "a key occurs twice"),
    "dtype unknown": (file_of(tensors(dtype="Q99"), document()), "dtype 'Q99'"),
    "dtype of integers": (file_of(tensors(dtype="I32"), document()), "dtype 'I32'"),
    "dtype a list": (file_of(tensors(dtype=["F32"]), document()), "dtype"),
    "tensor a number": (file_of({"0.weight": 7}, document()), "not exactly dtype"),
    "tensor with more facts": (file_of(tensors(more=1), document()), "not exactly dtype"),
    "shape negative": (file_of(tensors(shape=[-2, -1]), document()), "impossible shape"),
    "shape of booleans": (file_of(tensors(shape=[2, True]), document()), "impossible shape"),
    "shape of fractions": (file_of(tensors(shape=[2.0, 1]), document()), "impossible shape"),
    "shape of 10⁴ axes": (file_of(tensors(shape=[1] * 10**4), document()), "impossible shape"),
    "shape that wraps to 8 bytes": (file_of(tensors(shape=[2**62 + 1, 2]), document()), "8 bytes"),
    "shape too small": (file_of(tensors(shape=[1, 1]), document()), "8 bytes, which is not"),
    "offsets three": (file_of(tensors(data_offsets=[0, 8, 8]), document()), "impossible offsets"),
    "offsets negative": (file_of(tensors(data_offsets=[-8, 0]), document()), "impossible offsets"),
    "offsets backward": (file_of(tensors(data_offsets=[8, 0]), document()), "outside the file"),
    "offsets beyond": (file_of(tensors(data_offsets=[16, 24]), document()), "outside the file"),
    "overlap": (file_of({**GOOD, "c": {**W}}, document()), "overlap or leave a hole"),
    "hole": (file_of({"0.bias": B}, document()), "overlap or leave a hole"),
    "trailing bytes": (file_of(GOOD, document(), bytes(17)), "1 bytes follow"),
    "no metadata": (file_of(GOOD), "not written by chainrule"),
    "foreign metadata": (file_of({**GOOD, "__metadata__": {"format": "pt"}}), "not written by"),
    "metadata no string": (file_of({**GOOD, "__metadata__": {"chainrule": {}}}), "not written by"),
    "architecture no JSON": (file_of({**GOOD, "__metadata__": {"chainrule": "x"}}), "not valid"),
    "format newer": (file_of(GOOD, document(format=2)), "upgrade chainrule"),
    "format true": (file_of(GOOD, document(format=True)), "has format True"),
    "document with more": (file_of(GOOD, document(code="print()")), "not exactly format"),
    "extra a list": (file_of(GOOD, document(extra=[])), "extra is no object"),
    "model a Linear": (file_of(GOOD, document(model=LINEAR)), "no Sequential"),
    "layers an object": (
        file_of(GOOD, document(model={"class": "Sequential", "layers": {}})), "no list of layers"),
    "layer a string": (file_of(GOOD, document("Linear")), "has no class"),
    "layer from elsewhere": (file_of(GOOD, document({"class": "os.system"})), "not known here"),
    "layer misspelt": (file_of(GOOD, document({**LINEAR, "class": "Linaer"})), "say 'Linear'"),
    "layer of 10⁶ letters": (file_of(GOOD, document({"class": "L" * 10**6})), "not known here"),
    "argument more": (file_of(GOOD, document({**LINEAR, "init": "zeros"})), "not exactly the arg"),
    "argument missing": (file_of(GOOD, document({"class": "Linear"})), "not exactly the arguments"),
    "size zero": (file_of(GOOD, document({**LINEAR, "in_features": 0})), "impossible in_features"),
    "size true": (file_of(GOOD, document({**LINEAR, "in_features": True})), "impossible in_"),
    "layer of 2⁶² weights": (
        file_of(GOOD, document({**LINEAR, "in_features": HUGE, "out_features": HUGE})), "needs"),
    "dtype beside its tensor": (file_of(GOOD, document({**LINEAR, "dtype": "float64"})), "needs"),
    "tensor superfluous": (file_of(GOOD, document({**LINEAR, "bias": False})), "superfluous"),
    "tensor lacking": (file_of(GOOD, document(LINEAR, LINEAR)), "lacks tensor '1.bias'"),
    "nested six deep": (file_of(GOOD, document(nested(6))), "nested deeper"),
    "nested bottomless": (
        file_of({**GOOD, "__metadata__": {"chainrule": '{"a":' * 10**5}}), "nested too deep"),
    "Dropout of everything": (file_of(GOOD, document({"class": "Dropout", "p": 1})), "impossible"),
    "without digest": (
        file_of({**GOOD, "__metadata__": {"chainrule": json.dumps({**document(), "sha256": ""})}}),
        "do not match its digest"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_without_allocating(name: str, path: Path) -> None:
    data, words = HOSTILE[name]
    path.write_bytes(data)
    tracemalloc.start()
    try:
        message = refused(path, data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert words in message
    assert peak < 2_000_000 + 30 * len(data)


def test_the_file_that_hostile_ones_start_from_is_good(path: Path) -> None:
    path.write_bytes(file_of(GOOD, document()))
    assert nn.load(path).predict([[1.0]]).tolist() == [[0, 0]]


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    getattr(os, "mkfifo", os.mkdir)(tmp_path / "pipe")  # Windows has no pipes in folders
    for place, words in (
        (tmp_path, "no regular file"),
        (tmp_path / "pipe", "no regular file"),
        (tmp_path / "none", "no such file"),
        ("a\0b", "not a possible path"),
        ("x" * 5000, "cannot be read"),
    ):
        with pytest.raises(ModelFileError, match=words):
            nn.load(place)
    save_file({"a": np.ones(2)}, tmp_path / "foreign")
    with pytest.raises(ModelFileError, match="load_state_dict"):
        nn.load(tmp_path / "foreign")


def test_loading_opens_one_file_and_runs_nothing(path: Path, data: bytes) -> None:
    nn.load(path)  # what is imported lazily is there now
    events: list[tuple[str, str]] = []
    watching = [True]

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if watching and event in (
            "open",
            "import",
            "exec",
            "compile",
            "os.system",
            "socket.connect",
        ):
            events.append((event, str(args[0])))

    sys.addaudithook(hook)
    try:
        nn.load(path)
    finally:
        watching.clear()
    assert events == [("open", str(path))]


# -- atomicity --------------------------------------------------------------------------------


class Failing:
    """`os.write`, `fsync` and so on, of which the n-th call fails."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fail_at: int, error: BaseException) -> None:
        self.calls: list[str] = []
        for name in ("open", "write", "fsync", "close", "chmod", "replace"):
            real = getattr(os, name)

            def wrapped(*args: Any, name: str = name, real: Any = real, **keywords: Any) -> Any:
                self.calls.append(name)
                if len(self.calls) == fail_at:
                    if name == "close":
                        real(*args)  # as Linux does: the descriptor is gone all the same
                    raise error
                if name == "write":
                    args = (args[0], args[1][:1000])  # short writes are allowed
                return real(*args, **keywords)

            monkeypatch.setattr(tensorfile.os, name, wrapped)


def big(seed: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(20, 30), nn.Linear(30, 2), seed=seed)


def outcome(model: nn.Sequential, path: Path) -> BaseException | None:
    try:
        model.save(path)
    except (OSError, KeyboardInterrupt) as error:
        return error
    return None


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EIO, "I/O error"),
        KeyboardInterrupt(),
    ],
)
def test_a_failure_at_any_call_leaves_one_whole_file(
    error: BaseException, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    big(1).save(path)
    new = path.read_bytes()
    big(0).save(path)
    old, fail_at, seen = path.read_bytes(), 0, []
    while True:
        fail_at += 1
        path.write_bytes(old)
        with monkeypatch.context() as patch:
            failing = Failing(patch, fail_at, error)
            caught = outcome(big(1), path)
        assert os.listdir(path.parent) == [path.name]
        if caught is None:
            break
        seen.append(failing.calls[fail_at - 1])
        replaced = "replace" in failing.calls[: fail_at - 1]
        assert path.read_bytes() == (new if replaced else old)
        if isinstance(caught, OSError) and not replaced:
            assert caught.filename == str(path)
            assert "nothing was changed" in str(caught)
    assert path.read_bytes() == new
    assert set(seen) == {"open", "write", "fsync", "close", "chmod", "replace"}
    assert seen.count("write") > 2
    assert seen.count("fsync") == 2


def test_a_folder_that_cannot_be_synced_is_no_failure(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fsync

    def fsync(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        real(handle)

    monkeypatch.setattr(tensorfile.os, "fsync", fsync)
    small().save(path)
    assert nn.load(path).extra["task"] == "classification"


def test_saving_where_one_cannot_names_the_path(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for place in (tmp_path / "none" / "model", tmp_path / "folder"):
        with pytest.raises(OSError, match="nothing was changed") as caught:
            small().save(place)
        assert caught.value.filename == str(place)
    assert os.listdir(tmp_path) == ["folder"]


@pytest.mark.skipif(np.dtype(np.longdouble) == np.float64, reason="needs a longer float")
def test_a_dtype_that_no_file_holds(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(1, 1, dtype=np.longdouble), seed=0)
    with pytest.raises(ModelFileError, match=r"0.weight is float\d+; a file holds"):
        model.save(tmp_path / "long")
    assert not os.listdir(tmp_path)


def test_extra_must_be_a_dict(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(1, 1), seed=0)
    model.extra = [1]  # type: ignore[assignment]
    with pytest.raises(ModelFileError, match="its extra is a list; give a dict"):
        model.save(tmp_path / "extra")


def test_a_path_may_be_bytes(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path / "model")
    nn.save(nn.Sequential(nn.Linear(1, 1, weight=[[2.0]])), path)  # type: ignore[arg-type]
    assert nn.load(path).predict([[3.0]]).tolist() == [[6.0]]  # type: ignore[arg-type]
