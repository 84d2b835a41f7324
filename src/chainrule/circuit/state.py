"""What a thread remembers while it records: whether it records, under which label, what it lost."""

from __future__ import annotations

import itertools
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import CodeType
from typing import Any, NamedTuple

from ..errors import TraceError

PACKAGE = str(Path(__file__).resolve().parent.parent) + os.sep


Mark = tuple[CodeType, int]


class Group(NamedTuple):
    """The label that the nodes of one call share: of a composed function, or of a module."""

    name: str
    number: int
    mark: Mark | None = None  # the line of the call, found once for all its nodes


class Site(NamedTuple):
    """The line of the user's program where something happened."""

    filename: str
    line: int

    def __str__(self) -> str:
        return f"{self.filename}:{self.line}"


class Loss(NamedTuple):
    """A place where a traced tensor was turned into a plain value, out of the circuit's sight."""

    tensor: Any
    how: str
    site: Site


OFF = Group("not recording", 0)


class State(threading.local):
    """Per thread: one thread's `no_grad` is not another's."""

    group: Group | None = None  # the label of what is recorded; OFF where nothing is
    depth: int = 0  # how many transformations are running, one inside the other
    losses: list[Loss] | None = None  # None outside every transformation
    compiling: bool = False  # a compiler records: every traced value will be another one later


state = State()


def user_frame(depth: int = 1) -> Mark:
    """The code and instruction of the nearest frame outside this package.

    Two references instead of a file and a line: they cost a fraction of a microsecond, and the
    line is worked out only when somebody asks.
    """
    frame = sys._getframe(depth)
    while (code := frame.f_code).co_filename.startswith(PACKAGE) and frame.f_back is not None:
        frame = frame.f_back
    return code, frame.f_lasti


def site_of(mark: Mark | None) -> Site | None:
    """The line that an instruction belongs to."""
    if mark is None:
        return None
    code, instruction = mark
    line = code.co_firstlineno
    for start, end, number in code.co_lines():
        if start <= instruction < end and number is not None:
            line = number
    return Site(code.co_filename, line)


# What to write instead, in a function that is compiled.
_INSTEAD: Mapping[str, str] = {
    "bool()": "an `if`, `while`, `and` or `or` cannot depend on it. Choose by value with"
    " cr.where(condition, x, y), and combine conditions with cr.logical_and and cr.logical_or",
    "an index": "a range, a shape or a list index cannot depend on it. Make it a plain number"
    " outside the compiled function (closed over, or a default argument)",
}
_KEEP = "keep the tensor, and use chainrule's or NumPy's functions on it"


def refuse(what: str, instead: str) -> TraceError:
    """The error for what a function that is being compiled cannot do, at the user's line."""
    return TraceError(f"{what} at {site_of(user_frame(2))} cannot be compiled: {instead}")


def lose(tensor: Any, how: str) -> None:
    """A traced tensor becomes a plain value here.

    Inside a transformation it is remembered, where a gradient could have come back; while a
    compiler records it is refused, for the value would be built into the program for all inputs.
    """
    if state.compiling:
        raise refuse(f"{how} of a traced tensor", _INSTEAD.get(how, _KEEP))
    if state.losses is not None and tensor.requires_grad:
        site = site_of(user_frame(2))
        assert site is not None
        state.losses.append(Loss(tensor, how, site))


_group_numbers = itertools.count(1).__next__


def enter_group(name: str) -> Group | None:
    """Label what is recorded from here on, unless an outer call does; returns what to go back to.

    The outermost name is the one that the user wrote: `cr.std(x)`, not the `mean` inside it.
    """
    before = state.group
    if before is None:
        state.group = Group(name, _group_numbers(), user_frame(3))
    return before


@contextmanager
def no_grad() -> Iterator[None]:
    """Record nothing inside: results are constants, and no memory is kept for backward.

    Usable as `with cr.no_grad():` and as a decorator `@cr.no_grad()`; it holds for this thread.

    >>> import chainrule as cr
    >>> x = cr.tensor(2.0)
    >>> with cr.no_grad():
    ...     y = x * 3.0
    >>> y.requires_grad
    False
    """
    before = state.group
    state.group = OFF
    try:
        yield
    finally:
        state.group = before
