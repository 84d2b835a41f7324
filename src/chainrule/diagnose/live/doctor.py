"""Doctor: a callback that watches a run while it lasts, by a second program on a few rows."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ...errors import quoted
from ...nn import losses
from ...nn.base import count
from ...plot import Chart
from ..before.check import static_suspects
from ..finding import Curve, Finding, Flow, Report
from ..flow import Reading, read
from ..setup import Outcome, Setup, Suspect
from ..watching import constant_loss
from . import bedside, suspicions
from .sample import alike, copied, drawn, entered, moved, score

__all__ = ["Doctor"]

Array = Any

# Rows, and what looks may take of all rows trained: in NumPy a row costs some seven times as much.
PROBE = {"probe": (256, 0.004), "full": (2048, 0.04)}
EARLY = 8  # looks that any run is worth, the more of them the earlier
KEPT = 400  # looks after which they become rarer


class Doctor:
    """A callback for `fit` that looks at δ, layer by layer, between epochs; it changes nothing.

    A look is one forward and backward pass of a copy of the network, in evaluation mode, over a
    probe: 256 of the training rows, drawn once by the run's seed in proportion to their weights
    (with detail="full" 2048). The training program is never touched, so a run that is watched has
    the same bits as one that is not. `every` "auto" looks before the first step, after some eight
    epochs that lie closer together early on, and besides as often as looks take at most 0.4 %
    (full: 4 %) of the rows that were trained: counted, not timed, so that it is the same each time;
    a number looks after every so many epochs. X, y and `loss` are those of the run unless given, as
    for a source of batches, whose probe is else its first batch.

    `steps` and `epochs` say when it looked; `loss` is the probe's. `curves[name][layer]` has for
    each look "delta" (RMS ∂L/∂net), "gain" and "slope" (the factors that brought δ here from the
    layer above), "dead" and "saturated" (shares of units, and of (row, unit) pairs), "update"
    (‖Δw‖/‖w‖ a step, net since the last look) and "gradient" (‖∂L/∂w‖).

    `findings` are suspicions, as notes that nobody has verified: their signature was seen at
    `patience` looks in a row and for a tenth of the planned run (overlong steps a quarter, a
    plateau half), while the network has learnt nothing that a constant answer would not do as well.
    What a run gets over is taken back; `first` keeps the step at which the signature of each was
    first seen, `events` what was said when.
    `report()` is a `Report` of them; `cr.diagnose` tries the remedies.

    `stop=True` ends a run that no step can change any more, and `stopped` says why: at `patience`
    looks in a row the gradients of all parameters, or of all up to a layer without a living unit,
    are exactly 0, these parameters have not moved by a bit, and one pass over all training rows
    agrees: its answers stay one constant whatever follows. Where that would not follow, nothing is
    stopped: weight decay moves weights, and dropout, batch norm and averaged weights make training
    see another network than evaluation.

    >>> import chainrule as cr
    >>> X = np.random.default_rng(0).normal(size=(200, 2))
    >>> y = (X[:, 0] * X[:, 1] > 0).astype(int)
    >>> layers = cr.nn.Linear(2, 16, bias_init=cr.nn.initializers.constant(-9.0)), cr.nn.ReLU()
    >>> model, doctor = cr.nn.Sequential(*layers, cr.nn.Linear(16, 2), seed=0), Doctor(stop=True)
    >>> _ = cr.fit(model, X, y, loss="softmax_cross_entropy", epochs=30, callbacks=[doctor])
    >>> [(finding.problem, finding.severity, str(finding.verified)) for finding in doctor.findings]
    [('dead_relu', 'note', 'None')]
    >>> doctor.stopped
    'every unit of layer 0 is dead on all rows: only a constant is left to learn'
    """

    CURVES = ("delta", "gain", "slope", "dead", "saturated", "update", "gradient")

    def __init__(
        self,
        X: Any = None,
        y: Any = None,
        *,
        loss: Any = None,
        every: int | str = "auto",
        detail: str = "probe",
        stop: bool = False,
        patience: int = 3,
    ) -> None:
        if (X is None) != (y is None):
            raise TypeError("Doctor needs X and y together, or neither")
        if detail not in PROBE:
            raise ValueError(f"detail must be 'probe' or 'full', got {quoted(detail)}")
        self.given = None if X is None else (X, y)
        self.objective = None if loss is None else losses.get(loss)
        self.every = every if every == "auto" else count("every", every)
        self.detail, self.stop = detail, bool(stop)
        self.patience = count("patience", patience)
        self._reset()

    def _reset(self) -> None:
        self.epochs: list[int] = []
        self.steps: list[int] = []
        self.loss: list[float] = []
        self.curves: dict[str, dict[str, list[float]]] = {name: {} for name in self.CURVES}
        self.first: dict[str, int] = {}
        self.events: list[tuple[int, str, str]] = []  # step, problem, what was said
        self.stopped = ""
        self.constant_loss = math.nan  # of the best constant answer on the probe
        self._found: dict[str, Finding] = {}
        self._told: list[str] = []  # the problems that are said and not taken back
        self._streaks: dict[str, tuple[int, int]] = {}  # looks in a row, and the first one's step
        self._still = (0, 0)  # looks in a row at which nothing can change, and when all rows agreed
        self._before: dict[str, Array] = {}
        self._update = math.nan  # ‖Δw‖/‖w‖ a step, up to the last look
        self._start: tuple[Flow, ...] = ()
        self._early: set[int] = set()  # epochs that are looked at whatever it costs
        self._rows: Array = None  # the probe's, by their place in X
        self._setup: Setup | None = None
        self._reading: Reading | None = None
        self._well_begun = True  # whether no signature was there before the first step
        self._static: tuple[Suspect, ...] | None = None
        self._moment: Any = None  # the last one of a run that is not over

    # -- what fit calls ----------------------------------------------------------------------------

    def on_begin(self, moment: Any) -> None:
        """Choose the probe, and look at the network before its first step."""
        if moment.step == 0:
            self._reset()
        epochs = moment.plan.epochs
        self._early = {round(e) for e in np.geomspace(1, epochs, min(EARLY, epochs))}
        self._moment = moment
        self._prepare(moment)
        if moment.step == 0:
            self._look(moment, 0)

    def on_epoch(self, moment: Any) -> bool:
        """Look where a look is due; whether the run is to end."""
        self._moment = moment
        if self._due(moment):
            self._look(moment, moment.epoch)
            return self._hopeless(moment)
        return False

    def on_end(self, moment: Any) -> None:
        """Look at what the run ends with, where that was not seen yet."""
        self._moment = moment
        if self.steps[-1:] != [moment.step]:
            self._look(moment, moment.epoch)
        elif self._reading is None:  # a run that was resumed where it had ended
            self._again(moment)
        self._moment = None

    def _due(self, moment: Any) -> bool:
        if self.every != "auto":
            return bool(moment.epoch % self.every == 0)
        if moment.epoch in self._early:
            return True
        since, size = moment.step - (self.steps or [0])[-1], moment.plan.size
        rows = len(self._setup.X) if self._setup is not None else 0
        share = PROBE[self.detail][1]
        return bool(since * size * share >= rows and since * KEPT >= moment.step)

    # -- a look ------------------------------------------------------------------------------------

    def _prepare(self, moment: Any) -> None:
        """Draw the probe, and measure the best constant answer on it."""
        self._rows, self._setup = drawn(moment, self.given, self.objective, PROBE[self.detail][0])
        self.constant_loss = constant_loss(self._setup)

    @np.errstate(all="ignore")  # numbers that are too large are what is looked for
    def _look(self, moment: Any, epoch: int) -> None:
        reading = self._read(moment)
        values = {name: p.value for name, p in moment.model.named_parameters()}
        since = max(1, moment.step - (self.steps or [0])[-1])
        whole, parts = moved(self._before, values)
        steps = {name: way / since for name, way in parts.items()}
        self._enter(epoch, moment.step, reading, steps)
        self._update = whole / since
        self._stillness(reading, values)
        view = self._view(moment, reading)
        self._note(view, self._counted(view))
        # A parameter is rebound and never written into, so its old value can be kept uncopied.
        self._before = values

    def _read(self, moment: Any) -> Reading:
        """The backward flow of a copy of the network, over the probe."""
        if self._setup is None:
            self._prepare(moment)
        assert self._setup is not None
        setup = self._setup = self._setup.changed(model=copied(moment.model))
        self._reading = read(setup.model, setup.loss, setup.X, setup.y, moment.step)
        return self._reading

    def _again(self, moment: Any) -> None:
        """Say again what the last look found, which a checkpoint keeps by name alone."""
        view = self._view(moment, self._read(moment))
        self._note(view, {s.problem: s for s in suspicions.suspects(view)})

    def _enter(self, epoch: int, step: int, reading: Reading, steps: Mapping[str, float]) -> None:
        """One number more on each curve."""
        if not self.steps:
            self._start = reading.flows
        self.epochs.append(epoch)
        self.steps.append(step)
        self.loss.append(reading.loss)
        entered(self.curves, len(self.steps), reading, steps)

    def _view(self, moment: Any, reading: Reading, failed: bool = False) -> suspicions.View:
        history, setup = moment.history, self._setup
        assert setup is not None
        steps = history.step_loss
        outcome = Outcome(score(setup, reading), Curve("", tuple(history.loss)), setup.model)
        return suspicions.View(
            setup,
            outcome,
            [(moment.step, dict(setup.model.named_parameters()))],
            reading,
            self.constant_loss,
            self.loss[0],
            history.loss[-1] if len(history.loss) else math.nan,
            steps[0] if len(steps) else math.nan,
            self._update,
            well_begun=self._well_begun,
            check=self._checked,
            lived=not any(f.dead and len(f.dead) * 2 >= f.units for f in self._start[:-1]),
            failed=failed,
        )

    def _checked(self) -> tuple[Suspect, ...]:
        """What `check` would say; it is asked once."""
        if self._static is None and self._setup is not None:
            found = static_suspects(self._setup)
            self._static = tuple(s for s in found if s.severity == "problem")
        return self._static or ()

    # -- what is said of it ------------------------------------------------------------------------

    def _counted(self, view: suspicions.View) -> dict[str, Suspect]:
        """What this look suspects, and for how many looks in a row now."""
        step, found = view.now.step, {s.problem: s for s in suspicions.suspects(view)}
        streaks = {problem: self._streaks.get(problem, (0, step)) for problem in found}
        self._streaks = {problem: (looks + 1, since) for problem, (looks, since) in streaks.items()}
        if step == 0:
            self._well_begun = not found
        return found

    def _note(self, view: suspicions.View, found: Mapping[str, Suspect]) -> None:
        """Say what has lasted, and take back what is over."""
        step, plan = view.now.step, self._moment.plan
        planned = plan.epochs * max(1, plan.expected)
        told: dict[str, Finding] = {}
        for problem, suspect in found.items():
            looks, since = self._streaks.get(problem, (1, step))
            # What cannot change any more need not be waited for.
            least = 0.0 if self._still[0] >= self.patience else suspicions.held_for(suspect, view)
            if least == 0 or (looks >= self.patience and step - since >= least * planned):
                told[problem] = self._finding(suspect, since)
                self.first.setdefault(problem, since)
        self.events += [(step, problem, "over") for problem in self._told if problem not in told]
        self.events += [
            (step, problem, finding.evidence.sentence)
            for problem, finding in told.items()
            if problem not in self._told
        ]
        self._found, self._told = told, list(told)

    def _finding(self, suspect: Suspect, since: int) -> Finding:
        where, evidence = suspect.where, suspect.evidence
        if self.given is None and where.samples and self._rows is not None:
            # A sample goes by its place in X, not in the probe.
            rows = tuple(int(self._rows[k]) for k in where.samples)
            old, new = f"sample {where.samples[0]},", f"sample {rows[0]},"
            evidence = dataclasses.replace(evidence, sentence=evidence.sentence.replace(old, new))
            where = dataclasses.replace(where, samples=rows)
        where = dataclasses.replace(where, step=since)
        remedy = suspect.changes[0].code if suspect.changes else ""
        return Finding(suspect.problem, "note", where, evidence, remedy)

    # -- what cannot get better --------------------------------------------------------------------

    def _stillness(self, reading: Reading, values: Mapping[str, Array]) -> None:
        """Count the looks in a row at which the network cannot change, and did not."""
        why, names = suspicions.fixed(reading)
        before = self._before
        kept = [n for n in names if n in before and np.array_equal(before[n], values[n])]
        there = bool(why) and len(kept) == len(names)
        self._still = (self._still[0] + 1 if there else 0, self._still[1] if there else 0)

    def _hopeless(self, moment: Any) -> bool:
        """Whether nothing can change any more: all rows are asked before it is said."""
        looks, asked = self._still
        if not self.stop or looks < max(self.patience, 2 * asked) or not alike(moment):
            return False
        if hasattr(moment.plan, "source") or self._setup is None:
            return False  # a source of batches: not all rows can be asked
        view = self._view(moment, self._reading or Reading([], math.nan))
        if not view.stuck:
            return False
        self._still = (looks, looks)
        X, y = moment.rows
        reading = read(copied(moment.model), moment.loss_function, X, y, moment.step)
        why, _ = suspicions.fixed(reading)
        if why:
            self.stopped = f"{why}: only a constant is left to learn"
        return bool(why)

    # -- the result --------------------------------------------------------------------------------

    @property
    def findings(self) -> list[Finding]:
        """What is suspected now, cause first; nothing where the run learns."""
        self._broken_off()
        return list(self._found.values())

    def _broken_off(self) -> None:
        """Look at a run that diverged: `fit` leaves its last finite weights in the model."""
        moment = self._moment
        if moment is None or moment.history.stopped != "diverged":
            return
        moment = dataclasses.replace(moment, step=moment.history.steps)
        if self.steps[-1:] != [moment.step]:
            self._look(moment, moment.history.epochs)
        view = self._view(moment, self._read(moment), failed=True)
        self._note(view, {s.problem: s for s in suspicions.suspects(view)})
        self._moment = None

    @property
    def rows(self) -> Array:
        """The places in X of the probe's rows; None before the run."""
        return self._rows

    @property
    def healthy(self) -> bool:
        """Whether nothing is suspected."""
        return not self.findings

    def report(self) -> Report:
        """The findings with the flow of δ at the first and the last look.

        Raises `ValueError` before the first look.
        """
        findings = self.findings
        if self._reading is None or self._setup is None:
            raise ValueError("the doctor has seen no run yet; give it to fit as a callback")
        return bedside.report_of(self, findings, self._setup, self._start, self._reading)

    def section(self) -> tuple[str, list[str], list[tuple[str, Chart, str]]]:
        """What a run's report shows: a title, sentences, and charts by name with their readings."""
        return bedside.section_of(self)

    def to_dict(self) -> dict[str, Any]:
        """The curves, what was said when and the findings, as plain values for JSON."""
        return bedside.plain(self)

    def __str__(self) -> str:
        return str(self.report()) if self.steps else "the doctor has seen no run yet"

    # -- for a checkpoint --------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {
            "epochs": list(self.epochs),
            "steps": list(self.steps),
            "loss": np.array(self.loss, np.float64),
            "curves": {
                name: {layer: np.array(line, np.float64) for layer, line in lines.items()}
                for name, lines in self.curves.items()
            },
            "first": dict(self.first),
            "events": [list(event) for event in self.events],
            "stopped": self.stopped,
            "streaks": {problem: list(streak) for problem, streak in self._streaks.items()},
            "still": list(self._still),
            "told": list(self._told),
            "before": dict(self._before),
            "update": self._update,
            "well_begun": self._well_begun,
            "start": [dataclasses.asdict(flow) for flow in self._start],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self._reset()
        self.epochs, self.steps = list(state["epochs"]), list(state["steps"])
        self.loss = np.asarray(state["loss"], np.float64).tolist()
        self.curves = {
            name: {layer: np.asarray(line).tolist() for layer, line in lines.items()}
            for name, lines in state["curves"].items()
        }
        self.first, self.stopped = dict(state["first"]), str(state["stopped"])
        self.events = [(int(step), str(p), str(said)) for step, p, said in state["events"]]
        self._streaks = {p: (int(n), int(step)) for p, (n, step) in state["streaks"].items()}
        self._still = (int(state["still"][0]), int(state["still"][1]))
        self._before = {name: np.asarray(v) for name, v in state["before"].items()}
        self._update = float(state["update"])
        self._start = tuple(Flow(**flow) for flow in state["start"])
        self._told, self._well_begun = list(state["told"]), bool(state["well_begun"])
