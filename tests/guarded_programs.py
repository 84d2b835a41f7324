"""Run as a script: random circuits with forbidden pages around every array; a stray access kills.

`python guarded_programs.py first last end|begin`: each array ends (or begins) at the edge of a
readable page. Prints each circuit's number before it runs, so that the last one printed is guilty.
"""

from __future__ import annotations

import ctypes
import mmap
import random
import sys
from typing import Any

import numpy as np

from chainrule.compiler import program
from chainrule.compiler.decompose import decompose
from chainrule.compiler.layout import LINE
from chainrule.compiler.memory import ARENA, COUNT, POINTERS
from chainrule.compiler.simplify import simplify
from chainrule.compiler.trace import trace
from random_circuits import differentiated, disagreement, doubts, random_circuit

PAGE = mmap.PAGESIZE
FORBIDDEN = 0
protect = ctypes.CDLL(None, use_errno=True).mprotect
protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
plain_plan = program.plan


def pages(size: int) -> int:
    """Bytes of the whole pages that hold so many."""
    return -(-size // PAGE) * PAGE


class Guarded:
    """Memory in which some places are followed and preceded by a forbidden page."""

    def __init__(self, sizes: list[int], at_end: bool) -> None:
        self.offsets, total = [], PAGE
        for size in sizes:
            room = pages(max(1, size))
            self.offsets.append(total + (room - size if at_end else 0))
            total += room + PAGE
        self.memory = mmap.mmap(-1, total)
        self.base = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        place = 0
        for size in [*sizes, None]:
            if protect(self.base + place, PAGE, FORBIDDEN):
                raise OSError(ctypes.get_errno(), "mprotect")
            place += PAGE + (pages(max(1, size)) if size is not None else 0)

    def view(self, k: int, shape: tuple[int, ...], dtype: Any) -> np.ndarray[Any, Any]:
        count = int(np.prod(shape, dtype=int))
        return np.frombuffer(self.memory, dtype, count, self.offsets[k]).reshape(shape)


def run(graph: Any, inputs: list[Any], at_end: bool) -> list[Any]:
    """The outputs of the graph's program in guarded memory."""
    held: dict[str, Any] = {}

    def spread(*args: Any, **kwargs: Any) -> Any:
        """The plan with every array of the arena on pages of its own."""
        made = plain_plan(*args, **kwargs)
        arrays = [a for a in made.arrays if a.kind in ("arena", "state", "constant")]
        # Behind each array the arena keeps a line that the last vector of a view may read.
        held["arena"] = Guarded([a.bytes + LINE * a.padded for a in arrays], at_end)
        for array, offset in zip(arrays, held["arena"].offsets, strict=True):
            array.offset = offset
        return made

    program.plan = spread
    made = program.Program(graph, threads=1, cache=False)
    if made.plan is None:  # straight-line code has memory of its own, in one piece
        held["arena"] = Guarded([made.arena], at_end)
    arena = held["arena"]
    outer = [made.graph.nodes[k] for k in (*made.graph.inputs, *made.graph.outputs)]
    sizes = [node.size * node.dtype.itemsize for node in outer]
    around = Guarded(sizes, at_end)
    words = (ctypes.c_int64 * (POINTERS + len(outer)))()
    words[ARENA] = arena.base + (arena.offsets[0] if made.plan is None else 0)
    words[COUNT] = 1
    for array in made.plan.arrays if made.plan is not None else []:
        if array.kind == "constant":
            flat = np.frombuffer(arena.memory, array.dtype, array.length, array.offset)
            strides = [s * array.dtype.itemsize for s in array.strides]
            np.lib.stride_tricks.as_strided(flat, array.shape, strides)[...] = array.value
    views = [around.view(k, node.shape, node.dtype) for k, node in enumerate(outer)]
    for view, value in zip(views, inputs, strict=False):
        view[...] = value
    for k, offset in enumerate(around.offsets):
        words[POINTERS + k] = around.base + offset
    made._alone(ctypes.addressof(words), program._ALONE)
    return [view.copy() for view in views[len(inputs) :]]


def main(first: int, last: int, at_end: bool) -> None:
    for seed in range(first, last):
        choose = random.Random(seed)
        how = choose.choice(["value", "gradient", "gradient", "second", "vjp"])
        circuit = random_circuit(choose, smooth=how == "second")
        print(f"circuit {seed}, {how}", flush=True)
        function, args = differentiated(circuit, how)
        traced = trace(function, args)
        graph = simplify(decompose(traced.graph))
        inputs = traced.inputs(args)
        found = run(graph, inputs, at_end)
        wrong = disagreement(found, function(*args), doubts(graph, inputs))
        if wrong:
            raise SystemExit(f"{wrong}\n{circuit}")
    print("all inside")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "end")
