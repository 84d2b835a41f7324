"""What a training step costs, beside JAX, PyTorch, scikit-learn and NumPy by hand.

    python benchmarks/training.py                        # every network, some twenty minutes
    python benchmarks/training.py --quick                # a few minutes
    python benchmarks/training.py --nets digits,mnist --threads 2 --json training.json

A step's time is the slope between N and 2N epochs, so that compiling and entering drop out; each
network runs in a fresh process for each number of threads. See benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from time import sleep
from typing import Any

import common
from common import Goal, Section, clock, interleaved, middle, number, ratios, spread

REST = 0.03  # seconds before each measurement: thread pools spin for a while after their work
MOST = 2_000_000  # epochs of a measurement, so that a history of the losses stays small
OURS = "chainrule"


# -- one network, one number of threads: a process of its own ---------------------------------


def measured(net_name: str, peers: Sequence[str], rounds: int, quick: bool) -> dict[str, Any]:
    """Every figure of one network, with the threads that the environment allows."""
    import trainers
    from peak import peak

    net = trainers.NETS[net_name]
    limit, what = peak(int(common.os.environ["CHAINRULE_THREADS"]))
    found: dict[str, Any] = {"about": net.about, "flops": net.flops, "peak_of": what}
    joining, found["absent"], found["first"] = _joining(net, peers)
    least = 4e7 if quick else 3e8
    found["agreement"] = agreement(net, joining, quick)
    found["epochs"] = {name: epochs_for(t.train, least) for name, t in joining.items()}
    runs: dict[str, Callable[[], float]] = {
        name: _slope(t.train, found["epochs"][name], net.steps) for name, t in joining.items()
    }
    found["rounds"] = interleaved({**runs, "peak": limit}, rounds)
    found["versions"] = {t.package: _version(t.package) for t in joining.values()}
    return found


def _joining(
    net: Any, peers: Sequence[str]
) -> tuple[dict[str, Any], dict[str, str], dict[str, float]]:
    """The trainers that take part, why the others do not, and nanoseconds of each one's first."""
    import trainers

    joining, absent, first = {}, {}, {}
    for kind in trainers.TRAINERS:
        if kind.name not in peers:
            continue
        try:
            trainer = kind(net)
            first[kind.name] = clock(lambda trainer=trainer: trainer.train(1))
            joining[kind.name] = trainer
        except trainers.Unavailable as error:
            absent[kind.name] = str(error)
    return joining, absent, first


def epochs_for(train: Callable[[int], Any], least: float) -> int:
    """So many epochs that they take `least` nanoseconds longer than none do."""
    epochs = 1
    while True:
        slope = max(_least(train, 2 * epochs) - _least(train, epochs), 1.0)
        if slope >= least / 4 or epochs >= MOST:
            return max(1, min(MOST, math.ceil(epochs * least / slope)))
        epochs = min(MOST, epochs * 8)


def _least(train: Callable[[int], Any], epochs: int) -> float:
    return min(clock(lambda: train(epochs)) for _ in range(2))


def _slope(train: Callable[[int], Any], epochs: int, steps: int) -> Callable[[], float]:
    """A measurement of a step in nanoseconds, (t(2N) − t(N)) ÷ N."""
    train(epochs)
    train(2 * epochs)  # what is compiled for a shape is compiled now

    def measure() -> float:
        sleep(REST)
        short = clock(lambda: train(epochs))
        return (clock(lambda: train(2 * epochs)) - short) / (epochs * steps)

    return measure


def agreement(net: Any, joining: Mapping[str, Any], quick: bool) -> list[dict[str, Any]]:
    """How far everyone's weights are from NumPy's in float64 after a few epochs, and after more."""
    import numpy as np

    import trainers

    long = 10 if quick and net.flops > 1e9 else 100
    after = (2, 5) if net.rows else (3, long)
    found = []
    for epochs in after:
        reference = trainers.NumPy(net, np.float64, watch=True)
        right = reference.train(epochs)
        start = zip(right, net.weights, strict=True)
        weights = {name: t.train(epochs) for name, t in joining.items() if not t.own_order}
        weights.setdefault("NumPy by hand", trainers.NumPy(net).train(epochs))
        apart = {name: _apart(w, right) for name, w in weights.items()}
        if {OURS, "chainrule, interpreted"} <= weights.keys():
            apart["compiled − interpreted"] = _apart(
                weights[OURS], weights["chainrule, interpreted"]
            )
        found.append(
            {
                "epochs": epochs,
                "apart": apart,
                "moved": max(float(np.abs(a - b).max()) for a, b in start),
                "margin": float(reference.margin) if reference.margin < np.inf else None,
            }
        )
    return found


def _apart(a: Sequence[Any], b: Sequence[Any]) -> float:
    """The greatest difference of two lists of weights; infinite where one is not finite."""
    worst = max(float(abs(x - y).max()) for x, y in zip(a, b, strict=True))
    return worst if math.isfinite(worst) else math.inf


def _version(package: str) -> str:
    module = sys.modules[package.partition(".")[0]]
    return str(getattr(module, "__version__", "?"))


# -- what is printed --------------------------------------------------------------------------

HEAD = ["library", "µs a step", "range", "÷ chainrule's", "range", "GFLOP/s", "of peak"]


def section(net: Any, threads: int, found: Mapping[str, Any]) -> Section:
    """A network's figures as a table, with the goals of agreement."""
    checks, rounds = found["agreement"], found["rounds"]
    unit = "epochs" if net.rows else "steps"
    head = [*HEAD, "first, ms", "N", *(f"off, {c['epochs']} {unit}" for c in checks)]
    work = f"{net.flops:,.0f} FLOP a step in matrix products"
    title = f"{found['about']}; {threads} thread{'s' * (threads > 1)}; {work}"
    limit = max(rounds["peak"])
    result = Section(title, head, data={**found, "threads": threads})
    for name in found["epochs"]:
        slower = ratios(rounds[name], rounds.get(OURS, rounds[name]))
        times = [t for t in rounds[name] if t > 0]  # the others are noise
        rate = net.flops / middle(times)
        cells = [number(middle(times) / 1000), spread([t / 1000 for t in times])]
        cells += [
            number(middle(slower)),
            spread(slower),
            number(rate),
            f"{100 * rate / limit:.0f} %",
        ]
        cells += [number(found["first"][name] / 1e6), f"{found['epochs'][name]:,}"]
        cells += [_tiny(c["apart"].get(name)) for c in checks]
        result.rows.append([name, *cells])
    result.notes = [f"{name}: {why}." for name, why in found["absent"].items()]
    result.notes += [
        f"{name}: {lost} of {len(rounds[name])} rounds were lost in noise and are left out."
        for name in found["epochs"]
        if (lost := sum(t <= 0 for t in rounds[name]))
    ]
    result.notes += _notes(found, limit, unit)
    result.goals += _agreement_goals(net, checks, unit)
    return result


def _tiny(x: float | None) -> str:
    return "–" if x is None else f"{x:.0e}"


def _notes(found: Mapping[str, Any], limit: float, unit: str) -> list[str]:
    peaks = found["rounds"]["peak"]
    lines = [f"Peak of the machine: {number(limit)} GFLOP/s ({found['peak_of']})."]
    if min(peaks) < 0.8 * limit:
        lines[0] += f" It was {spread(peaks)} in the rounds: other work took the processors."
    for check in found["agreement"]:
        line = f"After {check['epochs']} {unit} weights have moved by up to {check['moved']:.0e}"
        if "compiled − interpreted" in check["apart"]:
            line += (
                f"; compiled and interpreted are {_tiny(check['apart']['compiled − interpreted'])}"
            )
            line += " apart"
        if check["margin"] is not None:
            line += f"; a net input came within {check['margin']:.0e} of a kink"
        lines.append(line + ".")
    return lines


def _agreement_goals(net: Any, checks: Sequence[Mapping[str, Any]], unit: str) -> list[Goal]:
    """chainrule's distance from float64 may be a few times NumPy's own in float32.

    Where a net comes within float32's rounding of a kink, a mask may flip rightly: no goal there.
    """
    goals = []
    for check in checks:
        apart, margin = check["apart"], check["margin"]
        if OURS in apart and (margin is None or margin > 1e-6):
            limit = max(1e-6, 4 * apart["NumPy by hand"])
            name = f"{net.name}: off float64 after {check['epochs']} {unit}"
            goals.append(Goal(name, limit, apart[OURS], ""))
    return goals


def speed_goals(net: Any, sections: Sequence[Section]) -> list[Goal]:
    """How many times quicker chainrule is than a peer, each with its own best number of threads.

    A peer must not be beaten by threads that hinder it. Rounds are compared one by one where both
    are best with the same number, else their medians.
    """
    goals = []
    for peer, least in net.goals.items():
        both = [s.data["rounds"] for s in sections if {peer, OURS} <= s.data["rounds"].keys()]
        if not both:
            continue
        theirs = min(both, key=lambda rounds: _usual(rounds[peer]))
        ours = min(both, key=lambda rounds: _usual(rounds[OURS]))
        quicker = _usual(theirs[peer]) / _usual(ours[OURS])
        if theirs is ours:
            quicker = middle(ratios(ours[peer], ours[OURS]))
        goals.append(Goal(f"{net.name}: {peer} ÷ chainrule", least, quicker, "×", at_least=True))
    return goals


def _usual(times: Sequence[float]) -> float:
    """The median of what is more than noise."""
    positive = [t for t in times if t > 0]
    return middle(positive) if positive else math.inf


def standing() -> str:
    """Whether chainrule's native path is there at all."""
    import chainrule

    if hasattr(chainrule, "compile"):
        return "chainrule compiles."
    return "This chainrule has no compiler: its fit interprets, whatever compile says."


# -- the whole --------------------------------------------------------------------------------


def arguments(nets: Sequence[str], peers: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds, shorter runs")
    parser.add_argument("--nets", default=",".join(nets), help=f"some of {','.join(nets)}")
    parser.add_argument(
        "--peers", default="all", help=f"words of the names to keep; there are: {'; '.join(peers)}"
    )
    parser.add_argument("--threads", default="", help="as 1,2; one and all by default")
    parser.add_argument("--rounds", type=int, help="5 by default, 3 with --quick")
    parser.add_argument("--json", metavar="FILE", help="write every figure to FILE as well")
    parser.add_argument("--only", metavar="JSON", help=argparse.SUPPRESS)
    return parser.parse_args()


def chosen_peers(text: str, names: Sequence[str]) -> list[str]:
    """The competitors that a word of the command line means; chainrule always."""
    if text == "all":
        return list(names)
    words = [word.strip().lower() for word in text.split(",") if word.strip()]
    unmatched = [w for w in words if not any(w in name.lower() for name in names)]
    if unmatched:
        sys.exit(f"no peer is named {', '.join(unmatched)}; there are {'; '.join(names)}")
    return [n for n in names if n == OURS or any(w in n.lower() for w in words)]


def main() -> None:
    """Run what the command line asks for."""
    import trainers

    names = [kind.name for kind in trainers.TRAINERS]
    asked = arguments(list(trainers.NETS), names)
    if asked.only:
        print(json.dumps(measured(**json.loads(asked.only))))
        return
    nets, peers = asked.nets.split(","), chosen_peers(asked.peers, names)
    unknown = [name for name in nets if name not in trainers.NETS]
    if unknown:
        sys.exit(f"no net is named {', '.join(unknown)}; there are {', '.join(trainers.NETS)}")
    counts = common.thread_counts(asked.threads)
    rounds = asked.rounds or (3 if asked.quick else 5)
    machine, before, sections = common.machine(), common.load(), []
    print(f"Python {machine['python']}, {machine['system']} {machine['architecture']},", end=" ")
    print(f"{machine['processors']} processors. {standing()}")
    print(f"Medians of {rounds} interleaved rounds, ranges beside them; float32.\n", flush=True)
    for name in nets:
        net, beside = trainers.NETS[name], []
        for threads in counts:
            task = {"net_name": name, "peers": peers, "rounds": rounds, "quick": asked.quick}
            environment = common.with_threads(threads)
            found = common.answer(__file__, "--only", json.dumps(task), **environment)
            beside.append(section(net, threads, found))
            print(beside[-1].text(), flush=True)
        beside[-1].goals = speed_goals(net, beside) + beside[-1].goals
        sections += beside
    conclude(sections, before)
    if asked.json:
        figures = {
            "machine": machine,
            "rounds": rounds,
            "experiments": {s.title: s.data for s in sections},
            "goals": [{**asdict(g), "met": g.met} for s in sections for g in s.goals],
        }
        Path(asked.json).write_text(json.dumps(figures, indent=2, ensure_ascii=False) + "\n")


def conclude(sections: Sequence[Section], before: float | None) -> None:
    """The goals in one table, met or missed, and how busy the machine was."""
    goals = [goal for s in sections for goal in s.goals]
    if goals:
        print("\n".join(["Goals", *common.table(common.GOAL_HEAD, [g.row() for g in goals])]))
        print(f"\n{sum(g.met for g in goals)} of {len(goals)} goals are met.")
    print(f"Ratios: each library with its own best number of threads. {standing()}")
    versions = {k: v for s in sections for k, v in s.data["versions"].items()}
    print("Versions: " + ", ".join(f"{k.partition('.')[0]} {v}" for k, v in versions.items()) + ".")
    after = common.load()
    if before is not None and after is not None:
        other = "; other work was running before: repeat this on an idle machine" * (before > 0.5)
        print(f"Load of the machine: {before:.1f} before, {after:.1f} after{other}.")


if __name__ == "__main__":
    main()
