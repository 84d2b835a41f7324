"""The sentences beside the plots: what the numbers say, and nothing that they do not."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from ...plot.scale import short

__all__ = [
    "counted",
    "curve",
    "known",
    "learning_rates",
    "listed",
    "percent",
    "spread",
    "validation",
]


def counted(count: int, what: str) -> str:
    """How many there are: `1 row`, `1,797 rows`, `2 classes`.

    >>> counted(1, "row"), counted(1797, "row"), counted(3, "class")
    ('1 row', '1,797 rows', '3 classes')
    """
    plural = what + ("es" if what.endswith("s") else "s")
    plural = what[:-1] + "ies" if what.endswith("ry") else plural
    return f"{count:,} {what if count == 1 else plural}"


def percent(share: float, digits: int = 1) -> str:
    """A share in percent.

    >>> percent(0.96666), percent(1.0), percent(float("nan"))
    ('96.7 %', '100 %', 'unknown')
    """
    if not math.isfinite(share):
        return "unknown"
    text = f"{100 * share:.{digits}f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text).replace("-", "−") + " %"


def known(number: float) -> str:
    """A number in few letters, or that it is unknown.

    >>> known(0.25), known(float("nan"))
    ('0.25', 'unknown')
    """
    return "unknown" if math.isnan(number) else short(number)


def listed(names: Sequence[str]) -> str:
    """Names in a sentence: `a`, `a and b`, `a, b and c`."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]])) if names else ""


def curve(name: str, values: Sequence[float], unit: str = "epoch") -> str:
    """How a falling or rising curve went.

    >>> curve("training loss", [2.0, 1.0, 0.5])
    'The training loss fell from 2 to 0.5 over 3 epochs.'
    >>> curve("training loss", [2.0, 0.4, 0.5])
    'The training loss fell from 2 to 0.5 over 3 epochs; it was lowest, 0.4, at epoch 2.'
    """
    found = np.asarray(values, np.float64)
    good = np.flatnonzero(np.isfinite(found))
    if not len(good):
        return f"The {name} was never a finite number."
    first, last = found[good[0]], found[good[-1]]
    if len(good) == 1:
        return f"The {name} was {short(last)}."
    way = "fell" if last < first else "rose" if last > first else "went"
    text = f"The {name} {way} from {short(first)} to {short(last)} over {counted(len(found), unit)}"
    best = int(good[np.argmin(found[good]) if last <= first else np.argmax(found[good])])
    if found[best] != last:
        word = "lowest" if last <= first else "highest"
        text += f"; it was {word}, {short(found[best])}, at {unit} {best + 1}"
    return text + "."


def validation(values: Sequence[float]) -> str:
    """Where the validation loss was lowest, and what it has done since.

    >>> validation([1.0, 0.5, 0.56])
    'The validation loss was lowest, 0.5, at epoch 2 and has risen by 12 % since.'
    """
    found = np.asarray(values, np.float64)
    good = np.flatnonzero(np.isfinite(found))
    if not len(good):
        return "The validation loss was never a finite number."
    best, last = int(good[np.argmin(found[good])]), int(good[-1])
    low = found[best]
    if best == last:
        return f"The validation loss was lowest, {short(low)}, at the last epoch, {best + 1}."
    rise = (found[last] - low) / abs(low) if low else math.inf
    since = f"by {percent(rise, 0)}" if 0.005 <= rise < 1e4 else f"to {short(found[last])}"
    return (
        f"The validation loss was lowest, {short(low)}, at epoch {best + 1} and has risen"
        f" {since} since."
    )


def learning_rates(rates: Sequence[float]) -> str:
    """Where the learning rate began and ended.

    >>> learning_rates([0.1, 0.1]), learning_rates([0.1, 0.05, 0.0])
    ('The learning rate was 0.1 throughout.', 'The learning rate went from 0.1 to 0.')
    """
    first, last = short(rates[0], 3), short(rates[-1], 3)
    if min(rates) == max(rates):
        return f"The learning rate was {first} throughout."
    text = f"The learning rate went from {first} to {last}"
    if max(rates) > max(rates[0], rates[-1]):
        text += f" by way of {short(max(rates), 3)} at epoch {int(np.argmax(rates)) + 1}"
    return text + "."


def spread(what: str, curves: Mapping[str, Sequence[float]]) -> str:
    """The layers with the largest and the smallest number in the last epoch.

    >>> spread("gradient norm", {"0": [1.0, 0.1], "2": [1.0, 0.4]})
    'In the last epoch the gradient norm was largest in layer 2, 0.4, and smallest in layer 0, \
0.1: a factor of 4.'
    """
    last = {name: values[-1] for name, values in curves.items() if len(values)}
    last = {name: value for name, value in last.items() if math.isfinite(value)}
    if not last:
        return f"The {what} of the last epoch is not known."
    high, low = max(last, key=lambda k: last[k]), min(last, key=lambda k: last[k])
    if high == low:
        return f"In the last epoch the {what} was {short(last[high], 3)} in layer {high}."
    text = (
        f"In the last epoch the {what} was largest in layer {high}, {short(last[high], 3)}, and"
        f" smallest in layer {low}, {short(last[low], 3)}"
    )
    return text + (f": a factor of {short(last[high] / last[low], 2)}." if last[low] > 0 else ".")
