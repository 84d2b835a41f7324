"""Model files of a stranger: refused with one error, at no cost, and nothing of them is run."""

from __future__ import annotations

import ast
import io
import json
import os
import subprocess
import sys
import time
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import chainrule
from chainrule import nn
from chainrule.errors import ModelFileError
from chainrule.nn import storage, tensorfile
from failing_calls import in_child
from hostile_mutants import Mutant, mutants, originals
from model_files import GOOD, LINEAR, B, W, document, file_of, nested, tensors

posix = pytest.mark.skipif(os.name == "nt", reason="forks, pipes and links as POSIX has them")
ROOM = 100_000  # bytes of objects that any small file may cost


def refused(path: Path, data: bytes) -> str:
    """The message with which a file of these bytes is refused."""
    path.write_bytes(data)
    with pytest.raises(ModelFileError) as caught:
        nn.load(path)
    message = str(caught.value)
    assert message.startswith(repr(str(path)))
    assert message.isprintable()
    assert len(message) < 400 + len(str(path))
    return message


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


def deep(levels: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for _ in range(levels):
        found = {"a": found}
    return found


HUGE = 2**31 - 1
GRU = {**nn.GRU(1, 1).config(), "num_layers": 1000}
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
    "bottomless lists": (file_of(b'{"a":' + b"[" * 100_000), "nested too deep"),
    "bottomless objects": (file_of(b'{"a":' * 100_000), "nested too deep"),
    "number of 10,000 digits": (file_of(b'{"a":' + b"9" * 10_000 + b"}"), "not valid"),
    "NaN": (file_of(b'{"a": NaN}'), "not finite"),
    "infinite by exponent": (file_of(b'{"a": 1e999}'), "not finite"),
    "a million values": (file_of(b'{"a":[' + b"[]," * 1_000_000), "more than 250000 values"),
    "dtype of 900 lists": (
        file_of(b'{"a":{"dtype":' + b"[" * 900 + b"]" * 900 + b',"shape":[],"data_offsets":[]}}'),
        "dtype a list"),
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
    "bytes behind a good file": (file_of(GOOD, document()) + b"x", "1 bytes follow"),
    "key of the architecture twice": (
        file_of({**GOOD, "__metadata__": {"chainrule": '{"format":1,"format":1}'}}),
        "key occurs twice"),
    "key of a layer twice": (
        file_of({**GOOD, "__metadata__": {
            "chainrule": '{"model":{"class":"Sequential","class":"os.system"}}'}}),
        "key occurs twice"),
    "shape twice": (
        file_of(b'{"a":{"dtype":"F32","shape":[1],"shape":[2],"data_offsets":[0,8]}}'),
        "key occurs twice"),
    "no metadata": (file_of(GOOD), "not written by chainrule"),
    "foreign metadata": (file_of({**GOOD, "__metadata__": {"format": "pt"}}), "not written by"),
    "metadata no string": (file_of({**GOOD, "__metadata__": {"chainrule": {}}}), "not written by"),
    "architecture no JSON": (file_of({**GOOD, "__metadata__": {"chainrule": "x"}}), "not valid"),
    "format newer": (file_of(GOOD, document(format=2)), "upgrade chainrule"),
    "format of 4000 digits": (file_of(GOOD, document(format=7**4000)), "upgrade chainrule"),
    "format 0": (file_of(GOOD, document(format=0)), "has format 0, and there is none"),
    "format a list": (file_of(GOOD, document(format=[1])), "has format a list"),
    "extra 51 deep": (file_of(GOOD, document(extra=deep(51))), "nested deeper than 50"),
    "surrogate in the architecture": (
        file_of(b'{"__metadata__":{"chainrule":"{\\"\\ud800\\":1}"}}', body=b""), "not valid"),
    "slope beyond every float": (
        file_of(GOOD, document({"class": "LeakyReLU", "negative_slope": 7**500})), "impossible"),
    "ten thousand layers": (file_of(GOOD, document(*[{"class": "ReLU"}] * 10_001)), "more than"),
    "ten thousand Sequentials": (
        file_of(GOOD, document(*[{"class": "Sequential", "layers": []}] * 10_000)), "more than"),
    "format true": (file_of(GOOD, document(format=True)), "it has format True"),
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
    "tensor lacking": (file_of(GOOD, document(LINEAR, LINEAR)), "lacks tensor '1.weight'"),
    "layers of eight million tensors": (
        file_of(GOOD, document(*[{"class": "GRU", **GRU}] * 1000)), "lacks tensor"),
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
        start = time.process_time()
        message = refused(path, data)
        seconds = time.process_time() - start
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert words in message
    assert peak < 2 * len(data) + (ROOM if len(data) < 20_000 else 20_000_000)
    assert seconds < 2


def test_the_file_that_hostile_ones_start_from_is_good(path: Path) -> None:
    path.write_bytes(file_of(GOOD, document()))
    assert nn.load(path).predict([[1.0]]).tolist() == [[0, 0]]
    path.write_bytes(file_of(GOOD, document(extra=deep(50))))
    assert nn.load(path).extra == deep(50)


def test_a_good_file_costs_twice_its_size(path: Path) -> None:
    nn.Sequential(nn.Linear(500, 1000), nn.Linear(1000, 10), seed=0).save(path)
    nn.load(path)
    tracemalloc.start()
    try:
        nn.load(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 * path.stat().st_size + ROOM


# -- mutants ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    found = []
    for number, model in enumerate(originals()):
        path = tmp_path_factory.mktemp("files") / str(number)
        model.save(path)
        found.append(path.read_bytes())
    return found


def demand_harmless(mutant: Mutant, files: list[bytes]) -> str:
    """The file is refused with one error, or it is a model that can be saved as it is."""
    try:
        model = storage._read(io.BytesIO(mutant.data))
    except tensorfile.Refusal as refusal:
        words = str(refusal)
        assert words.isprintable()
        assert len(words) < 400
        return words.partition(":")[0]
    assert mutant.signed or mutant.data in files, "damage was not found"
    storage._encoded(model)
    return "loaded"


def test_mutants_are_refused(files: list[bytes]) -> None:
    """Any other error, and any warning, would end this; what they say must be of many kinds."""
    met = Counter(demand_harmless(mutant, files) for mutant in mutants(files, 10_000))
    assert met["is altered"] > 3000  # most reach the checks behind the digest
    assert met["is altered or from a newer chainrule"] > 300
    assert met["loaded"] > 100
    assert len(met) > 8


def test_mutants_cost_twice_their_size_at_most(files: list[bytes], path: Path) -> None:
    nn.Sequential(nn.Linear(100, 200), nn.BatchNorm1d(200), nn.Linear(200, 100)).save(path)
    large = path.read_bytes()
    assert len(large) > 150_000
    tracemalloc.start()
    try:
        for mutant in mutants([*files, large], 400, seed=1):
            before = tracemalloc.get_traced_memory()[0]
            tracemalloc.reset_peak()
            with suppress(tensorfile.Refusal):
                storage._read(io.BytesIO(mutant.data))
            peak = tracemalloc.get_traced_memory()[1] - before
            assert peak < 2 * len(mutant.data) + ROOM
    finally:
        tracemalloc.stop()


def test_mutants_as_files_are_refused_by_name(files: list[bytes], path: Path) -> None:
    for mutant in mutants(files, 200, seed=2):
        path.write_bytes(mutant.data)
        message = error_of(path)
        assert message is None or message.startswith(repr(str(path)))


def error_of(path: Path) -> str | None:
    try:
        nn.load(path)
    except ModelFileError as error:
        return str(error)
    return None


@pytest.mark.exhaustive
@posix
def test_a_million_mutants(files: list[bytes]) -> None:
    """As above, where memory beyond what is in use and 100 MB does not exist."""

    def work() -> None:
        import resource

        used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (used + 100_000_000,) * 2)
        slowest = 0.0
        for mutant in mutants(files, 1_000_000, seed=3):
            start = time.process_time()
            demand_harmless(mutant, files)
            slowest = max(slowest, time.process_time() - start)
        assert slowest < 2, slowest

    assert in_child(work, seconds=7200) == 0


# -- nothing is run ---------------------------------------------------------------------------

# Read in a process of its own: an audit hook can never be taken off again.
WATCH = """
import json, sys, warnings
warnings.simplefilter("error")
from chainrule import nn
from chainrule.errors import ModelFileError
good, *hostile = sys.argv[1:]
nn.load(good)  # what is imported lazily is there now
try:
    nn.load(hostile[0])
except ModelFileError:
    pass
events, watching = [], [True]
quiet = ("object.", "builtins.id")
def hook(event, args):
    opened = event == "open" and isinstance(args[0], int)  # a handle that was opened before
    if watching and not opened and not event.startswith(quiet):
        events.append((event, str(args[0]) if args else ""))
sys.addaudithook(hook)
refused = 0
for path in hostile:
    try:
        nn.load(path)
    except ModelFileError:
        refused += 1
nn.load(good)
watching.clear()
print(json.dumps([refused, events]))
"""


def test_loading_opens_one_file_and_runs_nothing(files: list[bytes], tmp_path: Path) -> None:
    """200 hostile files under an audit hook: each is opened, and that is all."""
    paths = [tmp_path / str(number) for number in range(201)]
    hostile = [data for data, _ in HOSTILE.values()]
    hostile += [m.data for m in mutants(files, 2 * (200 - len(hostile)), seed=4) if m.signed]
    for path, data in zip(paths, [files[0], *hostile], strict=False):
        path.write_bytes(data)
    paths = [path for path in paths if path.exists()]
    assert len(paths) > 190
    command = [sys.executable, "-c", WATCH, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.stderr == ""
    refused, events = json.loads(done.stdout)
    assert refused > 150
    assert events == [["open", str(path)] for path in [*paths[1:], paths[0]]]


def test_load_paths_name_nothing_that_runs_code() -> None:
    """No pickle, no eval, no import by name wherever a file of a stranger is read."""
    folder = Path(chainrule.__file__).parent / "nn"
    for name in ("storage.py", "tensorfile.py", "interchange.py"):
        tree = ast.parse((folder / name).read_text(encoding="utf-8"))
        assert not FORBIDDEN & set(words(tree)), name
    bad = ast.parse("import pickle\nfrom marshal import loads\nnp.load(x, allow_pickle=True)")
    assert FORBIDDEN & set(words(bad)) == {"pickle", "marshal", "allow_pickle"}


FORBIDDEN = {
    "pickle", "cPickle", "dill", "marshal", "shelve", "joblib", "eval", "exec", "compile",
    "__import__", "importlib", "import_module", "runpy", "ctypes", "subprocess", "system", "popen",
    "allow_pickle", "globals", "load_module", "yaml", "torch", "sklearn",
}  # fmt: skip


def words(tree: ast.AST) -> Iterator[str]:
    """Every name, attribute, import and keyword of some code."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr.replace("eval", "a mode of models")  # the function is a name
        elif isinstance(node, ast.keyword):
            yield node.arg or ""
        elif isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").partition(".")[0]
            yield from (alias.name for alias in node.names)


# -- names and paths --------------------------------------------------------------------------

OUTSIDE = [
    "../outside", "../../etc/passwd", "/etc/passwd", "/dev/zero", "/dev/stdin", "/proc/self/mem",
    "C:\\Windows\\win.ini", "\\\\server\\share", "file:///etc/passwd", "http://127.0.0.1/", "|id",
    "a\x00b", "", ".", "..", "/", "\ud800", "\u202egnp", "con", "nul", "a" * 5000, "\n", "$HOME",
    "%2e%2e%2fetc", "..\\..\\x", "__class__.__init__", "0.weight.__globals__", "{0.__class__}",
    "`id`", "~/.ssh/id",
]  # fmt: skip


def test_names_of_tensors_open_nothing(tmp_path: Path) -> None:
    """A hundred names that would lead elsewhere, in each place where a name may stand."""
    paths = [tmp_path / str(number) for number in range(1 + 4 * len(OUTSIDE))]
    nn.Sequential(nn.Linear(1, 2)).save(paths[0])
    for number, name in enumerate(OUTSIDE):
        renamed = {name: W, "0.bias": B}
        kinds = (
            file_of(renamed, document()),
            file_of(GOOD, document({**LINEAR, "class": name})),
            file_of(GOOD, document({**LINEAR, name: 1})),
            file_of({**GOOD, "__metadata__": {name: "1"}}),
        )
        for k, data in enumerate(kinds):
            paths[1 + 4 * number + k].write_bytes(data)
    assert len(paths) > 100
    command = [sys.executable, "-c", WATCH, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.stderr == ""
    refused, events = json.loads(done.stdout)
    assert refused == len(paths) - 1
    assert events == [["open", str(path)] for path in [*paths[1:], paths[0]]]


@posix
def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling").symlink_to("none")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "to pipe").symlink_to("pipe")
    for place, message in (
        (tmp_path, "no regular file"),
        (tmp_path / "pipe", "no regular file"),
        (tmp_path / "to pipe", "no regular file"),
        ("/dev/zero", "no regular file"),
        (tmp_path / "none", "no such file"),
        (tmp_path / "dangling", "no such file"),
        (tmp_path / "loop", "cannot be read"),
        ("", "no such file"),
        ("a\0b", "not a possible path"),
        ("\ud800", "not a possible path"),
        ("x" * 5000, "cannot be read"),
    ):
        start = time.process_time()
        with pytest.raises(ModelFileError, match=message):
            nn.load(place)
        assert time.process_time() - start < 5
    save_file({"a": np.ones(2)}, tmp_path / "foreign")
    with pytest.raises(ModelFileError, match="from_state_dict"):
        nn.load(tmp_path / "foreign")


@posix
def test_a_file_exchanged_for_a_pipe_cannot_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look and the opening somebody may put a pipe there."""
    (tmp_path / "file").write_bytes(b"")
    os.mkfifo(tmp_path / "pipe")
    regular = os.stat(tmp_path / "file")
    monkeypatch.setattr(os, "stat", lambda path: regular)
    with pytest.raises(ModelFileError, match="no regular file"):
        nn.load(tmp_path / "pipe")


@posix
def test_a_file_is_loaded_through_links(tmp_path: Path) -> None:
    nn.Sequential(nn.Linear(1, 1, weight=[[2.0]])).save(tmp_path / "file")
    (tmp_path / "link").symlink_to("file")
    os.link(tmp_path / "file", tmp_path / "hard")
    for name in ("link", "hard"):
        assert nn.load(tmp_path / name).predict([[3.0]]).tolist() == [[6.0]]


@posix
def test_a_huge_sparse_file_is_refused_before_it_takes_memory(path: Path) -> None:
    """A terabyte that a header accounts for truly, and the disk does not hold."""
    units = 2**28
    weight = {"dtype": "F32", "shape": [units, 1024], "data_offsets": [0, units * 4096]}
    layer = {**LINEAR, "in_features": 1024, "out_features": units, "bias": False}
    data = file_of({"0.weight": weight}, document(layer), body=b"")
    path.write_bytes(data)
    try:
        os.truncate(path, len(data) + units * 4096)
    except OSError:
        pytest.skip("this disk holds no sparse file of a terabyte")
    start = time.process_time()
    with pytest.raises(ModelFileError, match="this machine's memory has"):
        nn.load(path)
    os.truncate(path, 2**40)
    path.write_bytes(b"")
    os.truncate(path, 2**40)  # all zeros: not even a header
    with pytest.raises(ModelFileError, match="not valid"):
        nn.load(path)
    assert time.process_time() - start < 5


@posix
def test_memory_that_is_not_there_is_a_model_file_error(path: Path) -> None:
    nn.Sequential(nn.Linear(3000, 3000, init="zeros")).save(path)

    def limited() -> None:
        import resource

        used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (used + 10_000_000,) * 2)
        with pytest.raises(ModelFileError, match="larger than the free memory"):
            nn.load(path)

    assert in_child(limited) == 0
