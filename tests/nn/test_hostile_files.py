"""Model files of a stranger: refused with one error, at no cost, and nothing of them is run."""

from __future__ import annotations

import ast
import copy
import errno
import json
import os
import resource
import socket
import struct
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from failing_calls import in_child
from model_files import B, GOOD, LINEAR, W, document, file_of, nested, signed, tensors
from safetensors.numpy import save_file

import chainrule
from chainrule import nn
from chainrule.errors import ModelFileError
from chainrule.nn import tensorfile

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
    "shape a hundred lists deep": (
        file_of(b'{"a":{"dtype":' + b"[" * 900 + b"]" * 900 + b',"shape":[],"data_offsets":[0,0]}}'),
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
        file_of({**GOOD, "__metadata__": {"chainrule": '{"format":1,"format":1}'}}), "key occurs twice"),
    "key of a layer twice": (
        file_of({**GOOD, "__metadata__": {
            "chainrule": '{"model":{"class":"Sequential","class":"os.system"}}'}}), "key occurs twice"),
    "shape twice": (
        file_of(b'{"a":{"dtype":"F32","shape":[1],"shape":[2],"data_offsets":[0,8]}}'), "occurs twice"),
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
        start = time.perf_counter()
        message = refused(path, data)
        seconds = time.perf_counter() - start
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
