"""How well `cr.diagnose` tells sound training runs from faulty ones, beside other tools' rules.

    python benchmarks/diagnosis.py                     # the recorded suite, some minutes
    python benchmarks/diagnosis.py --seed 7            # another suite of the same kind
    python benchmarks/diagnosis.py --only dead_relu,sound/sparse --json diagnosis.json
    python benchmarks/diagnosis.py --peers             # the suite and the peers' rules alone
    python benchmarks/diagnosis.py --crossed           # runs of which everything is drawn
    python benchmarks/diagnosis.py --audit             # are the labels right?

A remedy is judged by what it does: the code that is shown is executed, the network is trained anew
with what it leaves, and the metric is compared with the goal. See diagnosis_suite/README.md.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import warnings
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import common

if __name__ == "__main__":  # before NumPy is imported: small products gain nothing by more
    os.environ.update(common.with_threads(1))
    CACHE = tempfile.TemporaryDirectory()  # nothing is compiled yet: the same for every run
    os.environ["CHAINRULE_CACHE_DIR"] = CACHE.name

import numpy as np

import chainrule as cr
from chainrule import nn
from chainrule.nn import losses, optim
from common import middle, number, table
from diagnosis_suite import PROBLEMS, Case, cases, drawn, twin
from diagnosis_suite.audit import audited
from diagnosis_suite.peers import PEERS
from diagnosis_suite.watching import watch

OURS = "chainrule"
SHORT = [  # PROBLEMS, for heads of columns
    "dr", "sa", "vg", "eg", "lh", "ll", "ui", "ut", "si", "lo", "sc", "zp", "df", "ic",
]  # fmt: skip
LEAST_ROWS = 0.5  # a remedy that leaves out more of the rows than it keeps has not cleaned data


# -- one case ---------------------------------------------------------------------------------


def judged(key: tuple[str, int, bool], seed: int, ours: bool, peers: bool) -> dict[str, Any]:
    """Everything that is measured of one case."""
    case = drawn(key[0], seed, key[1])
    case = twin(case) if key[2] else case
    seconds = []
    for _ in range(2):  # the first compiles, the second has it from the cache
        start = perf_counter()
        trained = case.recipe.trained()
        seconds.append(perf_counter() - start)
    found: dict[str, Any] = {
        "id": case.id, "title": case.title, "what": case.what, "problems": case.problems,
        "acceptable": case.acceptable, "fixable": case.fixable, "task": case.task,
        "metric": case.metric, "goal": case.threshold, "reached": case.recipe.measured(*trained),
        "steps": case.steps, "fit_seconds": seconds, "tools": {},
    }  # fmt: skip
    if peers:
        run = watch(case)
        for name, rules in PEERS.items():
            said = rules(run)
            found["tools"][name] = {
                "said": [t for t, _ in said],
                "may": [sorted(m) for _, m in said],
            }
    if ours:
        found |= diagnosed(case)
    return found


def diagnosed(case: Case) -> dict[str, Any]:
    """What `cr.diagnose` says of it, and what its remedy reaches."""
    start = perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            report = cr.diagnose(case.model(), case.X, case.y, **case.settings())
    except Exception as error:  # the benchmark goes on, and says so
        return {"error": f"{type(error).__name__}: {error}", "seconds": perf_counter() - start}
    seconds = perf_counter() - start
    names = [] if report.healthy else [finding.problem for finding in report.findings]
    said = {"said": names, "may": [[name] for name in names]}
    helped = [f for f in report.findings if f.verified is not None and f.verified.helped]
    found: dict[str, Any] = {"seconds": seconds, OURS: said, "verified": bool(helped)}
    if report.findings and not report.healthy:
        best = helped[0] if helped else report.findings[0]
        if best.remedy is not None:
            found["remedy"] = code_of(best.remedy)
            found["remedied"] = remedied(case, found["remedy"])
    return found


def code_of(remedy: Any) -> str:
    """The Python of a remedy: itself, its `code`, or the last of a pair of words and code."""
    if isinstance(remedy, tuple):
        remedy = remedy[-1]
    return str(getattr(remedy, "code", remedy))


def remedied(case: Case, code: str) -> dict[str, Any]:
    """The metric after training with what the pasted code leaves; why not, where it cannot be."""
    names: dict[str, Any] = {
        "model": case.model(), "X": case.X.copy(), "y": case.y.copy(), **case.settings(),
        "cr": cr, "nn": nn, "optim": optim, "losses": losses, "np": np,
    }  # fmt: skip
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exec(code, names)
            kept = {k: names[k] for k in ("loss", "optimizer", "epochs", "batch_size", "seed")}
            cr.fit(names["model"], names["X"], names["y"], progress=False, **kept)
        if len(names["X"]) < LEAST_ROWS * len(case.X):
            return {"why": "it leaves out most of the rows"}
        return {"reached": case.score(names["model"], names["X"], names["y"], names["loss"])}
    except Exception as error:  # a remedy that cannot be run is none
        return {"why": f"{type(error).__name__}: {error}"}


# -- what it adds up to -----------------------------------------------------------------------


def right(row: dict[str, Any], may: list[list[str]], strict: bool = False) -> list[bool]:
    """Of each finding, whether it may mean what is wrong."""
    names = set(row["problems"]) | (set() if strict else set(row["acceptable"]))
    return [bool(names & set(each)) for each in may]


def reached_goal(row: dict[str, Any]) -> bool:
    """Whether the remedy brings the run to its goal."""
    return bool(row.get("remedied", {}).get("reached", -np.inf) >= row["goal"])


def tool_rows(rows: list[dict[str, Any]], tools: list[str]) -> list[list[str]]:
    """For each tool: faulty runs flagged, right names, and false alarms."""
    faulty = [row for row in rows if row["problems"]]
    sound = [row for row in rows if not row["problems"]]
    classes = [row for row in sound if row["task"] != "regression"]
    lines = []
    for tool in tools:
        findings = [(row, verdict(row, tool)["may"]) for row in faulty]
        counts = [
            share(sum(any(may) for _, may in findings), len(faulty)),
            share(sum(any(right(row, may)) for row, may in findings), len(faulty)),
            share(sum(any(right(row, may)[:1]) for row, may in findings), len(faulty)),
            share(sum(any(right(row, may, True)[:1]) for row, may in findings), len(faulty)),
            share(sum(bool(verdict(row, tool)["said"]) for row in sound), len(sound)),
            share(sum(bool(verdict(row, tool)["said"]) for row in classes), len(classes)),
            number(float(np.mean([len(may[0]) for _, may in findings if any(may)] or [0]))),
        ]
        lines.append([tool, *counts])
    return lines


def verdict(row: dict[str, Any], tool: str) -> dict[str, Any]:
    """What a tool says of a case; "failed" is no name, and on a sound run a false alarm."""
    if tool == OURS and "error" in row:
        return {"said": ["failed"], "may": [[]]}
    found: dict[str, Any] = row.get(OURS) if tool == OURS else row["tools"][tool]  # type: ignore[assignment]
    return found or {"said": [], "may": []}


def share(part: int, whole: int) -> str:
    """Part of a whole: "45 of 75 (60 %)"."""
    return f"{part} of {whole}" + (f" ({100 * part / whole:.0f} %)" if whole else "")


TOOL_HEAD = [
    "tool", "faulty flagged", "a right name", "the first is right", "the first is the cause",
    "sound flagged", "sound classifiers", "names it may mean",
]  # fmt: skip


def case_row(row: dict[str, Any]) -> list[str]:
    """A case as a line of the long table."""
    said = verdict(row, OURS)
    marks = right(row, said["may"])
    if row["problems"]:
        mark = "✓" if marks[:1] == [True] else "behind" if any(marks) else "✗"
    else:
        mark = "✗" if said["said"] else "✓"
    remedy = row.get("remedied", {})
    after = number_or(remedy.get("reached")) if "reached" in remedy else "–"
    names = row.get("error", "")[:40] or ", ".join(said["said"]) or "sound"
    return [
        row["id"], names, mark, "yes" if row.get("verified") else "", number_or(row["reached"]),
        after, number_or(row["goal"]), number(row.get("seconds")), str(row["steps"]),
    ]  # fmt: skip


CASE_HEAD = ["case", "said", "", "verified", "reached", "remedied", "goal", "s", "steps"]


def number_or(value: Any) -> str:
    """A metric, or a dash for one that is not finite."""
    return "–" if value is None or not np.isfinite(value) else f"{value:.3f}"


def confusion(rows: list[dict[str, Any]]) -> list[str]:
    """Truth × first finding."""
    heads = dict(zip(PROBLEMS, SHORT, strict=True))
    counts = Counter(
        ((row["problems"] or ("sound",))[0], (verdict(row, OURS)["said"] or ["sound"])[0])
        for row in rows
    )
    named = [*PROBLEMS, "sound", "failed"]
    lines = [
        [f"{heads.get(truth, '')} {truth}".strip(), *(str(counts[truth, x] or "·") for x in named)]
        for truth in named[:-1]
    ]
    return table(["truth \\ first finding", *SHORT, "sound", "failed"], lines)


def summary(rows: list[dict[str, Any]]) -> list[str]:
    """Remedies and time, in a few lines."""
    fixable = [row for row in rows if row["problems"] and row["fixable"]]
    good = sum(bool(row.get("verified")) and reached_goal(row) for row in fixable)
    any_ = sum(reached_goal(row) for row in fixable)
    wrong = [row for row in rows if row["problems"] and row.get("verified")]
    failed = [row["id"] for row in rows if "error" in row]
    return [
        f"a verified remedy that reaches the goal: {share(good, len(fixable))} that can be undone",
        f"a remedy that reaches it, verified or not: {share(any_, len(fixable))}",
        f"verified, but misses the goal: {sum(not reached_goal(row) for row in wrong)}",
        cost(rows),
        *([f"failed: {', '.join(failed)}"] if failed else []),
    ]


def cost(rows: list[dict[str, Any]]) -> str:
    """Time, beside that of training once."""
    timed = [row for row in rows if "seconds" in row]
    ratios = [[row["seconds"] / row["fit_seconds"][k] for row in timed] for k in (0, 1)]
    return (
        f"cr.diagnose takes {number(middle([row['seconds'] for row in timed]))} s (median),"
        f" {number(middle(ratios[0]))} trainings that compile or {number(middle(ratios[1]))} that"
        f" need not; {number(sum(row['seconds'] for row in timed))} s in all"
    )


# -- command line -----------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0, help="which suite")
    parser.add_argument("--only", default="", help="ids, or beginnings of ids, with commas")
    parser.add_argument("--jobs", type=int, default=common.most_threads())
    parser.add_argument("--quick", action="store_true", help="every third case")
    parser.add_argument(
        "--twins", action="store_true", help="faulty recipes without their fault, too"
    )
    parser.add_argument("--crossed", action="store_true", help="cases of which everything is drawn")
    parser.add_argument("--peers", action="store_true", help="the peers' rules alone")
    parser.add_argument("--audit", action="store_true", help="try generic repairs on faulty runs")
    parser.add_argument("--no-peers", action="store_true", help="cr.diagnose alone")
    parser.add_argument("--json", help="write everything there")
    chosen = parser.parse_args()
    if chosen.audit:
        audit(chosen)
        return
    ours = not chosen.peers and hasattr(cr, "diagnose")
    if not ours and not chosen.peers:
        print("This chainrule has no cr.diagnose: only the suite and the peers' rules are run.\n")
    rows = measured(chosen, ours)
    report(rows, ours, not chosen.no_peers)
    if chosen.json:
        whole = {"seed": chosen.seed, "machine": common.machine(), "cases": plain(rows)}
        Path(chosen.json).write_text(json.dumps(whole, indent=1, allow_nan=False), encoding="utf-8")


def plain(value: Any) -> Any:
    """The value as JSON has it: null for a number that is not finite."""
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if np.isfinite(value) else None
    return value


def audit(chosen: Any) -> None:
    """Print which generic repairs reach each faulty run's goal."""
    faulty = [case for case in suite_of(chosen) if not case.sound]
    with ProcessPoolExecutor(chosen.jobs) as pool:
        found = list(pool.map(audited, faulty))
    lines = [[key, ", ".join(works) or "–", ", ".join(others)] for key, works, others in found]
    print("\n".join(table(["case", "what reaches the goal", "though for another problem"], lines)))


def suite_of(chosen: Any) -> list[Case]:
    """The cases that the command line asks for."""
    only = [word for word in chosen.only.split(",") if word]
    suite = cases(chosen.seed, only, chosen.jobs, crossed=chosen.crossed)
    suite = suite[::3] if chosen.quick else suite
    if not suite:
        sys.exit(f"no case begins with {chosen.only}; ids are like dead_relu/1 or sound/sparse")
    return suite


def measured(chosen: Any, ours: bool) -> list[dict[str, Any]]:
    """Every case, judged in processes of their own."""
    suite = suite_of(chosen)
    keys = [(case.id, case.attempt, False) for case in suite]
    if chosen.twins:
        keys += [(case.id, case.attempt, True) for case in suite if not case.sound]
    work = partial(judged, seed=chosen.seed, ours=ours, peers=not chosen.no_peers)
    if chosen.jobs == 1:
        return [work(key) for key in keys]
    with ProcessPoolExecutor(chosen.jobs) as pool:
        return list(pool.map(work, keys))


def report(rows: list[dict[str, Any]], ours: bool, peers: bool) -> None:
    """Print the tables."""
    faulty = sum(bool(row["problems"]) for row in rows)
    numbers = sum(row["task"] == "regression" for row in rows)
    print(f"{len(rows)} runs: {faulty} faulty, {len(rows) - faulty} sound; {numbers} regressions\n")
    if ours:
        print("\n".join([*table(CASE_HEAD, [case_row(row) for row in rows]), ""]))
        print("\n".join([*confusion(rows), ""]))
        print("\n".join([*summary(rows), ""]))
    tools = [*([OURS] if ours else []), *(PEERS if peers else [])]
    print("\n".join(table(TOOL_HEAD, tool_rows(rows, tools))))
    if peers:
        print("The peers' rules are re-stated by us from what is published: an approximation.")


if __name__ == "__main__":
    main()
