"""Every error that chainrule raises on purpose, and the words they share.

    ChainruleError
    ├── DataError          (ValueError)   a table, file or array cannot be learnt from
    ├── ShapeError         (ValueError)   two shapes do not fit each other
    ├── GradientError      (ValueError)   a gradient is wrong, lost or out of date
    ├── UnknownNameError   (ValueError)   a name is not one of those known
    ├── ExpressionError    (ValueError)   a formula cannot be read
    ├── ModelFileError     (ValueError)   a model file is damaged, altered or hostile
    ├── TraceError         (TypeError)    a traced value was used as a plain one
    └── CompileError                      native code cannot be made or loaded

A message is one line: it names the place, says what was found, and gives the repair.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

__all__ = [
    "ChainruleError",
    "CompileError",
    "DataError",
    "ExpressionError",
    "GradientError",
    "ModelFileError",
    "ShapeError",
    "TraceError",
    "UnknownNameError",
    "listed",
    "nearest",
    "quoted",
    "unknown",
]


class ChainruleError(Exception):
    """Any error that chainrule raises on purpose; catch it to catch them all."""


class DataError(ChainruleError, ValueError):
    """A table, file or array cannot be learnt from as it is."""


class ShapeError(ChainruleError, ValueError):
    """Two shapes do not fit each other."""


class GradientError(ChainruleError, ValueError):
    """A gradient is wrong, lost, or belongs to values that have changed since."""


class UnknownNameError(ChainruleError, ValueError):
    """A name is not one of those known."""


class ExpressionError(ChainruleError, ValueError):
    """A formula cannot be read."""


class ModelFileError(ChainruleError, ValueError):
    """A model file is damaged, altered or hostile."""


class TraceError(ChainruleError, TypeError):
    """A traced value was used where only a plain one can serve."""


class CompileError(ChainruleError):
    """Native code cannot be made of a program, or not be loaded into this process."""


def unknown(kind: str, name: object, known: Iterable[str]) -> UnknownNameError:
    """The error for a name that is not in `known`, with the nearest one that is.

    >>> str(unknown("dataset", "irs", ["iris", "wine"]))
    "unknown dataset 'irs'; did you mean 'iris'? Known: 'iris', 'wine'"
    """
    names = list(known)
    match = nearest(name, names)
    guess = f"; did you mean {quoted(match)}?" if match is not None else "."
    return UnknownNameError(f"unknown {kind} {quoted(name)}{guess} Known: {listed(names)}")


def nearest(name: object, known: Iterable[str]) -> str | None:
    """The entry of `known` that is spelt most like `name`, whatever its case, or None.

    >>> nearest("Adm", ["sgd", "adam"])
    'adam'
    """
    from difflib import get_close_matches

    # difflib is slow, and the names may come from a stranger's file.
    folded = {entry[:100].casefold(): entry for entry in islice(known, 1000)}
    matches = get_close_matches(str(name)[:100].casefold(), folded, n=1)
    return folded[matches[0]] if matches else None


def listed(names: Iterable[str], limit: int = 20) -> str:
    """The names in quotes and separated by commas, cut after `limit` of them.

    >>> listed(["a", "b", "c"], limit=2)
    "'a', 'b' and 1 more"
    """
    quotes = [quoted(name) for name in names]
    rest = len(quotes) - limit
    return ", ".join(quotes[:limit]) + (f" and {rest} more" if rest > 0 else "")


def quoted(value: object, limit: int = 60) -> str:
    r"""The value as it may stand in a message: quoted, escaped, on one line and short.

    >>> print(quoted("two\nlines"))
    'two\nlines'
    """
    if isinstance(value, str) and len(value) > limit:
        value = value[: limit - 1] + "…"
    text = repr(value)
    return text if len(text) <= 4 * limit else text[: 4 * limit] + "…"
