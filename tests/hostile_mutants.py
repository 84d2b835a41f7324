"""Mutants of a model file: bytes changed, and what its JSON says changed and signed again.

A digest finds every change of bytes. So that the checks behind it are reached, most mutants change
the header or the architecture as text, duplicate keys included, and get a true digest again.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from chainrule import nn
from chainrule.nn import tensorfile
from model_files import signed

Rng = np.random.Generator


class Pairs(list[Any]):
    """A JSON object as its pairs, among which a key may occur twice; a pair is a list of two."""


class Text(list[Any]):
    """A string that holds JSON: a list of what it says."""


class Raw(str):
    """Text that stands in the JSON as it is."""


class Mutant(NamedTuple):
    """A file, and whether its digest is right again."""

    data: bytes
    signed: bool


# -- what they start from -----------------------------------------------------------------------


def originals() -> list[nn.Sequential]:
    """Models that have every kind of argument: numbers, lists, flags, nesting, an extra."""
    first = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.BatchNorm1d(4), nn.Linear(4, 2), seed=0)
    first.extra = {"classes": ["no", "yes"], "mean": [0.5, -1e-300, 3], "more": {"a": [None, {}]}}
    inner = nn.Sequential(nn.LayerNorm((3,)), nn.Sequential(nn.ELU(2.0), nn.Dropout(0.25)))
    second = nn.Sequential(inner, nn.Maxout(3, 2, dtype=np.float64), nn.Softmax(), seed=0)
    third = nn.Sequential(nn.PReLU(), nn.LeakyReLU(), nn.Linear(2, 1, False, dtype=np.float16))
    columns = nn.Sequential(nn.EmbedColumns(6, [(1, 3, 2)]), nn.Linear(5, 2), seed=0)
    steps = nn.Sequential(nn.LSTM(2, 3, return_sequences=True), nn.GRU(3, 2, num_layers=2))
    return [first, second, third, columns, steps]


# -- bytes ----------------------------------------------------------------------------------------


def _flipped(data: bytes, rng: Rng) -> bytes:
    altered = bytearray(data)
    for place in rng.integers(0, len(data), int(rng.integers(1, 9))):
        altered[place] ^= int(rng.integers(1, 256))
    return bytes(altered)


def _spliced(data: bytes, rng: Rng) -> bytes:
    """A piece cut out, doubled, or put elsewhere."""
    a, b, c = sorted(rng.integers(0, len(data) + 1, 3).tolist())
    pieces = (data[:a] + data[b:], data[:b] + data[a:], data[:a] + data[b:c] + data[a:b] + data[c:])
    return pieces[rng.integers(3)]


def _cut(data: bytes, rng: Rng) -> bytes:
    return data[: rng.integers(len(data))]


def _extended(data: bytes, rng: Rng) -> bytes:
    return data + rng.bytes(int(rng.integers(1, 100)))


def _length(data: bytes, rng: Rng) -> bytes:
    lengths = (0, 1, 2, len(data) - 8, len(data), 10 * 2**20, 2**31, 2**63, 2**64 - 1)
    near = int.from_bytes(data[:8], "little") + int(rng.integers(-9, 10))
    length = max([*lengths, near][rng.integers(len(lengths) + 1)], 0)
    return length.to_bytes(8, "little") + data[8:]


BYTES: list[Callable[[bytes, Rng], bytes]] = [
    _flipped,
    _flipped,
    _spliced,
    _cut,
    _extended,
    _length,
]

# -- what the JSON says ---------------------------------------------------------------------------

NUMBERS = (
    0, 1, -1, 2, 3, 4, 7, 8, 16, 31, 32, 33, 2**31 - 1, 2**31, 2**32 + 1, 2**53 + 1, 2**61,
    2**62 + 1, 2**63 - 1, 2**63, 2**64, 2**64 + 8, 10**30, 7**500, -(7**500), 0.0, -0.0, 1.0,
    1.5, 1e-320, 1e300, -1e308,
)  # fmt: skip
WORDS = (
    "", "F32", "F64", "F16", "BF16", "I64", "Q99", "float32", "float128", "object", "Linear",
    "Sequential", "os.system", "__class__", "__metadata__", "../../etc/passwd", "/dev/zero",
    "a\x00b", "\ud800", "\u202e", "0.weight", "1.weight", "weight", "0" * 64, "f" * 64, "x" * 5000,
    "C:\\x", "%s%n{0}", "\n",
)  # fmt: skip
RAW = ("NaN", "Infinity", "-Infinity", "1e999", "-", "01", "0x10", "'a'", "[1,]", "9" * 5000, "")


def _value(rng: Rng) -> Any:
    kind = int(rng.integers(10))
    if kind < 4:
        return NUMBERS[rng.integers(len(NUMBERS))]
    if kind < 6:
        return WORDS[rng.integers(len(WORDS))]
    if kind == 6:
        return Raw(RAW[rng.integers(len(RAW))])
    if kind == 7:
        return (None, True, False, [], Pairs())[rng.integers(5)]
    if kind == 8:
        return [NUMBERS[k] for k in rng.integers(0, len(NUMBERS), int(rng.integers(1, 40)))]
    depth = int(rng.choice([3, 60, 400, 3000]))
    return Raw(("[" * depth + "]" * depth, '{"a":' * depth + "0" + "}" * depth)[rng.integers(2)])


def _places(node: Any) -> Iterator[tuple[list[Any], int]]:
    """Every value inside, as the list that holds it and its index there."""
    waiting = [node]
    while waiting:
        holder = waiting.pop()
        for k, item in enumerate(holder):
            where, index = (item, 1) if isinstance(holder, Pairs) else (holder, k)
            yield where, index
            if isinstance(where[index], list):
                waiting.append(where[index])


def _replace(places: list[tuple[list[Any], int]], rng: Rng) -> None:
    holder, index = places[rng.integers(len(places))]
    holder[index] = _value(rng)


def _nudge(places: list[tuple[list[Any], int]], rng: Rng) -> None:
    numbers = [(h, k) for h, k in places if type(h[k]) in (int, float)]
    if numbers:
        holder, index = numbers[rng.integers(len(numbers))]
        factor, change = ((1, 1), (1, -1), (2, 0), (-1, 0), (1, 4), (1, -4))[rng.integers(6)]
        holder[index] = holder[index] * factor + change


def _exchange(places: list[tuple[list[Any], int]], rng: Rng) -> None:
    (a, i), (b, k) = (places[j] for j in rng.integers(0, len(places), 2))
    a[i], b[k] = copy.deepcopy(b[k]), copy.deepcopy(a[i])  # copies: one may lie inside the other


def _rearrange(places: list[tuple[list[Any], int]], rng: Rng) -> None:
    """A key, or an item of a list, is dropped, doubled, renamed or moved."""
    holders = [h[k] for h, k in places if isinstance(h[k], list) and h[k]]
    if not holders:
        return
    holder = holders[rng.integers(len(holders))]
    index = int(rng.integers(len(holder)))
    how = int(rng.integers(4))
    if how == 0:
        del holder[index]
    elif how == 1:
        item = holder[index]
        holder.append(list(item) if isinstance(holder, Pairs) else item)
    elif how == 2 and isinstance(holder, Pairs):
        holder[index][0] = WORDS[rng.integers(len(WORDS))]
    else:
        holder.insert(0, holder.pop(index))


STRUCTURE = [_replace, _replace, _nudge, _exchange, _rearrange]


def _text(node: Any) -> str:
    if type(node) is Raw:
        return str(node)
    if type(node) is Text:
        return _quoted(_text(node[0]) if node else "")
    if isinstance(node, Pairs):
        return "{" + ",".join([f"{_quoted(k)}:{_text(v)}" for k, v in node]) + "}"
    if isinstance(node, list):
        return "[" + ",".join(map(_text, node)) + "]"
    if isinstance(node, str):
        return _quoted(node)
    return json.dumps(node) if node is None or isinstance(node, bool) else repr(node)


_quoted = json.encoder.encode_basestring_ascii


def _tree(data: bytes) -> tuple[Pairs, bytes]:
    """The header, in which an architecture is a part as any other, and the bytes behind it."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length], object_pairs_hook=_pairs)
    for key, value in header:
        if key == "__metadata__" and value[0][0] == tensorfile.KEY:
            document = json.loads(value[0][1], object_pairs_hook=_pairs)
            document[-1][1] = tensorfile.BLANK
            value[0][1] = Text([document])
    return header, data[8 + length :]


def _pairs(found: list[tuple[str, Any]]) -> Pairs:
    return Pairs([list(pair) for pair in found])


def _restated(data: bytes, rng: Rng) -> bytes:
    """One to three changes of the header or the architecture, with a digest that fits again."""
    header, body = _tree(data)
    whole = [header]
    for _ in range(int(rng.integers(1, 4))):
        STRUCTURE[rng.integers(len(STRUCTURE))](list(_places(whole)), rng)
    return signed(_text(whole[0]).encode("utf-8", "surrogatepass"), body)


def mutants(files: list[bytes], count: int, seed: int = 0) -> Iterator[Mutant]:
    """`count` mutants of these files: a third of changed bytes, two thirds of changed words."""
    rng = np.random.default_rng(seed)
    for k in range(count):
        data = files[k % len(files)]
        if rng.random() < 1 / 3:
            yield Mutant(BYTES[rng.integers(len(BYTES))](data, rng), False)
        else:
            yield Mutant(_restated(data, rng), True)
