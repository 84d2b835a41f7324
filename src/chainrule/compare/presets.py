"""The lectures' claims on transfer functions and losses, run again and measured here."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from ..errors import unknown
from ..ops import registry
from .combination import Combination
from .comparison import Comparison, compare, plain, save, write
from .findings import HOLDS, NOT, PARTLY, Finding, better, of_little, slower
from .ranking import Place

__all__ = ["PRESETS", "Finding", "Preset", "Replay", "replay"]

RATES = (0.3, 1.0, 3.0, 10.0)
LEVEL = 0.95  # training accuracy

Found = dict[str, Comparison]


@dataclass(frozen=True)
class Preset:
    """A claim, the comparisons that test it, and how they are read."""

    name: str
    claim: str
    systems: str
    setting: str
    runs: dict[str, dict[str, Any]]
    read: Callable[[Found], Iterator[Finding]]


@dataclass(eq=False)
class Replay:
    """A claim run again: `findings` are our figures, `comparisons` what they are read off."""

    preset: Preset
    comparisons: Found = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    interrupted: bool = False
    seconds: float = 0.0

    def __str__(self) -> str:
        from .text import caveats, table

        text = [f"{self.preset.name}: {self.preset.claim}", f"Run: {self.preset.setting}", ""]
        for name, found in self.comparisons.items():
            text += [f"{name}:", table(found), ""]
        text += [f"Measured: {finding}" for finding in self.findings]
        text += ["Unfinished: stopped before its last run."] * self.interrupted
        said = dict.fromkeys(c for found in self.comparisons.values() for c in caveats(found))
        return "\n".join([*text, "", *said])

    def html(self) -> str:
        """One HTML page, offline: the claim, the figures, and each comparison with its curves."""
        from .page import replay_page

        return replay_page(self)

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """The claim, the findings and the comparisons; written to `path` if given."""
        document = {
            "preset": self.preset.name,
            "claim": self.preset.claim,
            "systems": self.preset.systems,
            "findings": [asdict(finding) for finding in self.findings],
            "comparisons": {k: json.loads(v.to_json()) for k, v in self.comparisons.items()},
            "interrupted": self.interrupted,
            "seconds": self.seconds,
        }
        text = json.dumps(plain(document), ensure_ascii=False, allow_nan=False, indent=1)
        if path is not None:
            write(path, text + "\n")
        return text

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write `.html`, `.json` or `.txt`, whichever the name ends in, whole or not at all."""
        save(self, path)


def replay(
    name: str,
    *,
    seeds: int | Sequence[int] = 5,
    jobs: int | None = None,
    progress: bool | None = None,
    **changes: Any,
) -> Replay:
    """Run a claim's comparisons and read them; `changes` go to `compare`, as epochs=10.

    Raises `UnknownNameError` for a name that is not in `PRESETS`. Ctrl-C keeps what is finished.
    """
    if name not in PRESETS:
        raise unknown("preset", name, PRESETS)
    made, began = Replay(PRESETS[name]), time.perf_counter()
    for title, options in made.preset.runs.items():
        options = {"data": "digits", "times": False, **options, **changes}
        try:
            found = compare(seeds=seeds, jobs=jobs, progress=progress, **options)
        except KeyboardInterrupt:
            if not made.comparisons:
                raise
            made.interrupted = True
            break
        made.comparisons[title] = found
        made.interrupted = found.interrupted
        if made.interrupted:
            break
    if not made.interrupted:
        made.findings = list(made.preset.read(made.comparisons))
    made.seconds = time.perf_counter() - began
    return made


def _place(found: Comparison, label: str) -> Place:
    return next(place for place in found.ranking if place.label == label)


# -- the claims ------------------------------------------------------------------------------------

ONE, BEST = "at one rate, 0.3", "each at its best rate"
_SGD: dict[str, Any] = {"optimizers": "sgd", "batch_size": 128, "epochs": 20, "level": LEVEL}
_DEEP: dict[str, Any] = {**_SGD, "hidden": (64, 64)}
_TUNED: dict[str, Any] = {"lr": RATES, "tune": "speed"}


def _six_times(found: Found) -> Iterator[Finding]:
    for where, one in found.items():
        for slow in ("tanh", "sigmoid"):
            yield slower(f"{slow} against ReLU, {where}", one, slow, "relu", claimed=6)


def _tanh_sigmoid(found: Found) -> Iterator[Finding]:
    for where, one in found.items():
        yield slower(f"sigmoid against tanh, {where}", one, "sigmoid", "tanh")
    yield better(f"accuracy of tanh over sigmoid, {BEST}", found[BEST], "tanh", "sigmoid")


def _zero_centred(found: Found) -> Iterator[Finding]:
    one, other = found.values()
    yield slower("inputs from 0 to 1 against centred ones", one, "positive", "centred")
    yield slower("hidden σ against σ − ½, the same slope", other, "sigmoid", "centred_sigmoid")


def _cross_entropy(found: Found) -> Iterator[Finding]:
    one = found[BEST]
    yield slower(
        "squared error after softmax", one, "softmax+squared_error", "softmax_cross_entropy"
    )
    yield slower("squared error after σ", one, "sigmoid+squared_error", "logistic")
    yield better(
        "accuracy of cross-entropy over squared error, softmax", one,
        "softmax_cross_entropy", "softmax+squared_error",
    )  # fmt: skip
    yield better(
        "accuracy of cross-entropy over squared error, σ", one, "logistic", "sigmoid+squared_error"
    )


def _maxout(found: Found) -> Iterator[Finding]:
    one = found[BEST]
    wide, narrow = _place(one, "maxout 32").parameters, _place(one, "relu 32").parameters
    hidden = (64 + 1) * 64, (64 + 1) * 32
    yield Finding(
        "parameters of the hidden layer, maxout over ReLU of 32 units",
        f"{hidden[0]} over {hidden[1]}, {hidden[0] / hidden[1]:g}×; of the network {wide} over"
        f" {narrow}, {wide / narrow:.2f}×",
        HOLDS if wide - narrow == hidden[0] - hidden[1] else NOT,
        hidden[0] / hidden[1],
    )
    yield better("accuracy of maxout over ReLU of as many units", one, "maxout 32", "relu 32")
    yield better("accuracy of maxout over ReLU of as many parameters", one, "maxout 32", "relu 60")


def _relatives(found: Found) -> Iterator[Finding]:
    one = found[BEST]
    for name in ("leaky_relu", "elu", "maxout"):
        yield better(f"accuracy of {name} over ReLU", one, name, "relu")
        yield slower(f"ReLU against {name}", one, "relu", name)
    tanh = better("accuracy of tanh over ReLU", one, "tanh", "relu")
    yield replace(tanh, verdict=of_little(tanh.low, tanh.high))


def _saturation(found: Found) -> Iterator[Finding]:
    (one,) = found.values()
    for name in ("sigmoid", "tanh", "relu"):
        flow = _place(one, name).median("flow")
        kept = (HOLDS if flow < 0.01 else NOT) if name == "sigmoid" else ""
        yield Finding(
            f"‖∂L/∂W₁‖ over that of the last layer at the start, {name}", f"{flow:.2g}", kept, flow
        )
    yield better("accuracy of ReLU over sigmoid, five layers", one, "relu", "sigmoid")


def _dead(found: Found) -> Iterator[Finding]:
    (one,) = found.values()
    for lr in (0.1, 1.0, 2.0):
        relu = _place(one, f"relu, rate {lr:g}").median("dead")
        leaky = _place(one, f"leaky_relu, rate {lr:g}").median("dead")
        verdict = "" if lr < 2 else _of_dead(relu, leaky)
        figure = f"{_share(relu)} of ReLU's hidden units, {_share(leaky)} of leaky ReLU's"
        yield Finding(f"dead after training at rate {lr:g}", figure, verdict, relu)
    yield better(
        "accuracy of leaky ReLU over ReLU at rate 2", one, "leaky_relu, rate 2", "relu, rate 2"
    )


def _of_dead(relu: float, leaky: float) -> str:
    if not relu > 0:
        return NOT
    if math.isnan(leaky):
        return f"{PARTLY}: at this rate leaky ReLU does not die, it diverges"
    return HOLDS if relu > leaky else NOT


def _share(share: float) -> str:
    return "(all diverged)" if math.isnan(share) else f"{share:.0%}"


def _cost(found: Found) -> Iterator[Finding]:
    (one,) = found.values()
    x = np.random.default_rng(0).normal(size=1_000_000).astype(np.float32)
    base = _op_seconds("relu", x)
    for name in ("sigmoid", "tanh", "elu"):
        times = _op_seconds(name, x) / base
        yield Finding(
            f"a million values through {name} against ReLU, NumPy, on this machine",
            f"{times:.2g}× the time", HOLDS if times > 1.1 else NOT, times,
        )  # fmt: skip
        whole = _place(one, name).seconds_per_epoch / _place(one, "relu").seconds_per_epoch
        verdict = "" if math.isnan(whole) else HOLDS if whole > 1.1 else f"{NOT}: hardly"
        yield Finding(
            f"an epoch of training with {name} against ReLU, on this machine",
            f"{whole:.2f}× the time", verdict, whole,
        )  # fmt: skip


def _op_seconds(name: str, x: Any) -> float:
    """The least of several readings: what others take from the machine only adds to it."""
    function, readings = registry[name], []
    for _ in range(7):
        began = time.perf_counter()
        function(x)
        readings.append(time.perf_counter() - began)
    return min(readings)


_AT_RATES = tuple(
    Combination(name, "softmax_cross_entropy", "sgd", lr, (64, 64), label=f"{name}, rate {lr:g}")
    for lr in (0.1, 1.0, 2.0)
    for name in ("relu", "leaky_relu")
)
_WIDTHS = tuple(
    Combination(name, "softmax_cross_entropy", "sgd", RATES, (units,), label=f"{name} {units}")
    for name, units in (("maxout", 32), ("relu", 32), ("relu", 60))
)
_LOSSES = (
    "softmax_cross_entropy", "softmax+squared_error", "logistic", "sigmoid+squared_error",
)  # fmt: skip

PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(
            "relu-6x",
            "ReLU converges about six times faster than sigmoid and tanh.",
            "S29",
            "digits, 64-64-64-10, SGD, batches of 128; epochs to 95 % training accuracy",
            {
                ONE: {**_DEEP, "lr": 0.3, "epochs": 40},
                BEST: {**_DEEP, **_TUNED},
            },
            _six_times,
        ),
        Preset(
            "tanh-sigmoid",
            "Do not use sigmoid: tanh is better.",
            "S29",
            "digits, 64-64-64-10, SGD, batches of 128; epochs to 95 % training accuracy",
            {
                ONE: {**_DEEP, "activations": ("sigmoid", "tanh"), "lr": 0.3, "epochs": 40},
                BEST: {**_DEEP, **_TUNED, "activations": ("sigmoid", "tanh")},
            },
            _tanh_sigmoid,
        ),
        Preset(
            "zero-centred",
            "Data, and outputs of hidden units, that are not zero-centred make training slower.",
            "S26, S27",
            "digits, one hidden layer of 32, SGD at the best rate of each; epochs to 95 %",
            {
                "the data": {
                    **_SGD,
                    **_TUNED,
                    "activations": "tanh",
                    "inputs": ("positive", "centred"),
                },
                "the hidden units": {
                    **_SGD,
                    **_TUNED,
                    "activations": ("sigmoid", "centred_sigmoid"),
                },
            },
            _zero_centred,
        ),
        Preset(
            "cross-entropy",
            "The matching loss, cross-entropy, is better than squared error after softmax or σ.",
            "S17, S18, S21",
            "digits, one hidden layer of 32 tanh units, SGD at the best rate of each; epochs to"
            " 95 %",
            {BEST: {**_SGD, **_TUNED, "activations": "tanh", "losses": _LOSSES}},
            _cross_entropy,
        ),
        Preset(
            "maxout",
            "Maxout generalises ReLU, and doubles the parameters of each unit.",
            "S12, S30",
            "digits, one hidden layer, SGD at the best rate of each by validation accuracy",
            {BEST: {**_SGD, "combinations": _WIDTHS}},
            _maxout,
        ),
        Preset(
            "leaky-relu",
            "Try leaky ReLU, maxout or ELU; try tanh, but do not expect much.",
            "S29",
            "digits, 64-64-64-10, SGD at the best rate of each by validation accuracy",
            {
                BEST: {
                    **_DEEP,
                    "lr": RATES,
                    "activations": ("relu", "leaky_relu", "elu", "maxout", "tanh"),
                }
            },
            _relatives,
        ),
        Preset(
            "saturation",
            "Saturated sigmoids kill the gradient: little of it arrives at the first layers.",
            "S26",
            "digits, five hidden layers of 32, SGD at the best rate of each",
            {BEST: {**_SGD, "lr": RATES, "hidden": (32,) * 5}},
            _saturation,
        ),
        Preset(
            "dead-relu",
            "A ReLU dies when the learning rate is too high; leaky ReLU does not.",
            "S28",
            "digits, 64-64-64-10, SGD at three rates",
            {"at three rates": {**_SGD, "combinations": _AT_RATES}},
            _dead,
        ),
        Preset(
            "exp-cost",
            "exp is expensive: sigmoid, tanh and ELU cost more than ReLU.",
            "S26",
            "a million values; and digits, hidden layers of 256 and 256, batches of 128",
            {
                "time": {
                    **_SGD,
                    "activations": ("relu", "sigmoid", "tanh", "elu"),
                    "lr": 0.1,
                    "hidden": (256, 256),
                    "epochs": 3,
                    "times": True,
                }
            },
            _cost,
        ),
    )
}
