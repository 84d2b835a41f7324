"""Hostile files: refused within two seconds and 300 MB, in a process of its own; and how much
memory an honest file of 200 MB takes."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import zipfile
import zlib

import numpy as np
import pytest

LIMIT = 300  # MB, of a process with Python, NumPy and chainrule in it

CHILD = """
import json, sys, time
from chainrule.data import Batches, Standardizer, read_table
from chainrule.errors import DataError
out = []
for path in sys.argv[2:]:
    began, found = time.process_time(), "read"
    try:
        table = read_table(path, "y")
        if sys.argv[1] == "stream":
            batches = Batches(table, 256, prepare=Standardizer.of(table))
            found = sum(len(X) for X, y in batches.epoch(1))
    except DataError as error:
        found = str(error)
    status = open("/proc/self/status").read()  # ru_maxrss would count the parent before exec
    peak = int(status.split("VmHWM:")[1].split()[0]) // 1024
    out.append([found, time.process_time() - began, peak])
print(json.dumps(out))
"""


def run(mode: str, *paths: str, seconds: float = 100) -> list[tuple[str, float, int]]:
    import json

    done = subprocess.run(
        [sys.executable, "-c", CHILD, mode, *paths], capture_output=True, timeout=seconds, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return [tuple(found) for found in json.loads(done.stdout)]


def npy(shape: tuple[int, ...], dtype: str = "<f8", data: bytes = b"") -> bytes:
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}}}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


def zipped(**entries: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries.items():
            archive.writestr(name.replace("__", "."), data)
    return out.getvalue()


def bomb(size: int, head: bytes = b"") -> bytes:
    """A zip whose X.npy is `size` zeros after a header, packed a thousandfold without making them
    all at once."""
    out = io.BytesIO()
    with (
        zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("X.npy", "w", force_zip64=True) as file,
    ):
        file.write(head)
        for _ in range(size // 2**20):
            file.write(bytes(2**20))
    with zipfile.ZipFile(out, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("y.npy", npy((3,), data=bytes(24)))
    return out.getvalue()


Y = npy((3,), data=bytes(24))
LONG = 12 * 2**20
NESTED = zipped(inner=zipped(inner=zipped(inner=b"0" * 10**6)))

BOMBS: dict[str, bytes] = {
    "npz_nested.npz": NESTED,
    "npz_nested_as_array.npz": zipped(X__npy=NESTED, y__npy=Y),
    "npz_thousandfold.npz": bomb(320 * 2**20, npy((40 * 2**20, 1))),
    "npz_huge_shape.npz": zipped(X__npy=npy((10**12, 3)), y__npy=Y),
    "npz_overflowing_shape.npz": zipped(X__npy=npy((2**62, 2**62)), y__npy=Y),
    "npz_negative_shape.npz": zipped(X__npy=npy((-3, 2)), y__npy=Y),
    "npz_huge_header.npz": zipped(X__npy=b"\x93NUMPY\x02\x00" + b"\xff" * 4 + b"0", y__npy=Y),
    "npz_deep_header.npz": zipped(
        X__npy=b"\x93NUMPY\x01\x00" + struct.pack("<H", 9000) + b"(" * 9000, y__npy=Y
    ),
    "npz_code_in_header.npz": zipped(X__npy=npy((3, 1)).replace(b"3, 1", b"f()1"), y__npy=Y),
    "npz_objects.npz": zipped(X__npy=npy((3, 1), "|O", b"cos\nsystem\n"), y__npy=Y),
    "npz_structured.npz": zipped(X__npy=npy((3, 1), "|V8", bytes(24)), y__npy=Y),
    "npz_cut.npz": zipped(X__npy=npy((3, 1), data=bytes(24)), y__npy=Y)[:150],
    "npz_short.npz": zipped(X__npy=npy((3, 1), data=bytes(20)), y__npy=Y),
    "npz_long_text.npz": zipped(X__npy=npy((3, 1), "<U999999999"), y__npy=Y),
    "npz_many_names.npz": zipped(**{f"a{k}": b"" for k in range(5000)}),
    "npz_bad_crc.npz": zipped(X__npy=npy((3, 1), data=bytes(24)), y__npy=Y).replace(
        struct.pack("<I", zlib.crc32(npy((3, 1), data=bytes(24)))), b"abcd"
    ),
    "one.npy": npy((10**12,)),
    "long_line.csv": b"x,y\n" + b"9" * LONG,
    "long_header.csv": b"x" * LONG,
    "long_quote.csv": b'x,y\n1,"' + b"a" * LONG,
    "long_quote_of_lines.csv": b'x,y\n1,"' + b"a\n" * (LONG // 2),
    "many_columns.csv": b"a," * 10_000_000 + b"y\n",
    "many_columns_in_a_row.csv": b"a,y\n" + b"1," * 10_000_000,
    "numbered_columns.csv": b",".join(b"c%d" % k for k in range(600_000)) + b"\n",
    "zip.csv": zipped(a=b"0" * 10**7),
    "gzip.csv": b"\x1f\x8b" + bytes(100),
    "zeros.csv": b"x,y\n" + bytes(LONG),
    "spaces.csv": b" " * LONG,
    "blank_lines.csv": b"\n" * LONG,
    "blank_lines_below.csv": b"x,y\n" + b"\n" * LONG,
    "carriage_returns.csv": b"x,y\r" * (LONG // 8),
    "huge_numbers.csv": b"x,y\n" + b"9" * 130_000 + b",1\n1,2\n",
    "random.parquet": b"PAR1" + np.random.default_rng(0).bytes(10_000) + b"PAR1",
    "footer.parquet": b"PAR1" + b"\xff" * 100 + struct.pack("<I", 2**31 - 1) + b"PAR1",
}


def test_there_are_enough():
    assert len(BOMBS) >= 30


@pytest.mark.skipif(sys.platform != "linux", reason="measures through /proc")
def test_refused_soon_and_small(tmp_path):
    paths = []
    for name, data in BOMBS.items():
        paths.append(str(tmp_path / name))
        (tmp_path / name).write_bytes(data)
    for path, (found, seconds, peak) in zip(paths, run("read", *paths), strict=True):
        name = os.path.basename(path)
        assert name in found, (name, found)
        assert "\n" not in found
        assert len(found) < 800, found
        assert seconds < 2, (name, seconds)
        assert peak < LIMIT, (name, peak)


def test_rows_of_a_parquet_file_are_bounded(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    same = pa.DictionaryArray.from_arrays(pa.array(np.zeros(10**6, np.int8)), pa.array(["a"]))
    table = pa.table({"x": pa.chunked_array([same] * 20), "y": pa.chunked_array([same] * 20)})
    pq.write_table(table, tmp_path / "t.parquet")
    assert os.path.getsize(tmp_path / "t.parquet") < 10**5
    from chainrule.data import sources

    before, sources.MAX_CELLS = sources.MAX_CELLS, 10**7
    try:
        with pytest.raises(ValueError, match="more than 10000000 cells"):
            sources.source_of(tmp_path / "t.parquet", "y")
    finally:
        sources.MAX_CELLS = before


def _large(path, size: int) -> int:
    """A CSV file of numbers; how many rows it has."""
    values = np.random.default_rng(0).normal(size=(10_000, 20))
    block = "".join(",".join(f"{v:.5f}" for v in row) + "\n" for row in values).encode()
    rows = 0
    with open(path, "wb") as file:
        file.write((",".join(f"x{k}" for k in range(19)) + ",y\n").encode())
        while file.tell() < size:
            file.write(block)
            rows += len(values)
    return rows


@pytest.mark.skipif(sys.platform != "linux", reason="measures through /proc")
@pytest.mark.slow
def test_a_large_file_is_streamed(tmp_path):
    """Read, standardised and gone through once in random order, within 300 MB in all."""
    rows = _large(tmp_path / "t.csv", 200 * 10**6)
    [(found, _, peak)] = run("stream", str(tmp_path / "t.csv"), seconds=400)
    assert found == rows
    assert peak < LIMIT
