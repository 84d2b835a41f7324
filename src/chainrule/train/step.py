"""One step of training in machine code: what it is traced from, what goes in and comes out.

It is traced from what the interpreted loop runs: the model, the loss, the backward loop and the
optimiser's own update.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..circuit import Tensor
from ..circuit import vocabulary as ops
from ..compiler.compiled import unsupported
from ..compiler.decompose import decompose
from ..compiler.loop import Batches, batched
from ..compiler.loop import Loop as Steps
from ..compiler.plan import Stream
from ..compiler.simplify import simplify
from ..compiler.trace import Traced, trace
from ..errors import CompileError, GradientError
from ..gradient import value_and_grad
from ..gradient.backward import seed as first_upstream
from ..nn import Dropout
from ..nn.optim import Optimizer
from ..ops.neural import keys
from .orders import Orders
from .run import Plan, Run, scalar
from .tracing import (
    demand_unchanged,
    is_foreign,
    is_ours,
    keys_from,
    plain,
    same,
    training,
    undisturbed,
)

__all__ = ["Step"]

Array = Any


@dataclass
class _Mark:
    """The states after `done` steps, and what the steps from there on were run with."""

    done: int
    program: Steps
    states: Any
    given: dict[int, Array] = field(default_factory=dict)  # by input, a row a step where it streams


class Step:
    """The program of a run's step. `done` steps of the run are behind its states.

    Between `load` and `save` the states are the program's; `ahead` says that the run's own values
    are older.
    """

    def __init__(
        self, run: Run, plan: Plan, gradients: bool, threads: int | None = None, done: int = 0
    ) -> None:
        self.threads = threads
        self.trained, self.plan, self.gradients = run, plan, gradients
        self.names = list(run.parameters)
        self.slots = [slot for slot in run.state if slot != "step"]
        self.buffers = list(dict(run.model.named_buffers()))
        if not isinstance(run.optimizer, Optimizer) or any(
            not isinstance(run.state[slot], dict) for slot in self.slots
        ):
            raise CompileError("the optimizer is not one of chainrule.optim")
        self.base = int(run.state["step"]) - done
        self.done, self.ahead = done, False
        self.orders = Orders(plan)
        self.marks: list[_Mark] = []
        self.drawn: dict[Dropout, int] = {}  # the layers' counters at the run's start
        self.written: dict[str, Any] = {}
        self._build()

    # -- tracing -------------------------------------------------------------------------------

    def _build(self) -> None:
        self.modules = list(self.trained.model.modules())
        with undisturbed(self.trained):
            self._trace()
        self.settings = self._settings()

    def _trace(self) -> None:
        plan, model = self.plan, self.trained.model
        self.random = [m for m in model.modules() if isinstance(m, Dropout) and m.p]
        full = len(plan.X) // plan.size
        rest = 0 if plan.whole else len(plan.X) % plan.size
        self.calls = self._calls()
        traced = [self._traced(n) for n in ([plan.size, rest] if rest else [plan.size])]
        if is_foreign(self.trained) and not same(traced[0], self._traced(plan.size)):
            raise CompileError(
                "the step is another one each time it runs: the model or the loss draws random"
                " numbers, or counts, in Python; nn.Dropout is random in machine code too"
            )
        graphs = [simplify(decompose(t.graph)) for t in traced]
        for graph in graphs:
            if missing := unsupported(graph):
                raise CompileError(next(iter(missing.values())))
        self.outside = traced[0].parameters
        for tensor in self.outside:
            if tensor in self.trained.wanted:
                raise CompileError(
                    f"the loss holds the parameter '{tensor.name}' itself; take it from the model"
                    " each time, as model[0].weight"
                )
        states = len(self.names) * (1 + len(self.slots)) + len(self.buffers)
        data = states + 2 + len(self.calls)
        read = 2 if plan.weights is None else 3
        self.place = {
            "step": states, "lr": states + 1, "keys": states + 2, "X": data, "y": data + 1,
            "weights": data + 2, "outside": data + read,
            "rows": data + read + len(self.outside),
        }  # fmt: skip
        if not plan.whole:
            graphs = [batched(g, range(data, data + read), len(plan.X)) for g in graphs]
        inputs = [Stream()] * states
        lr = self.trained.optimizer.lr
        streams = callable(lr) and not is_ours(lr)
        inputs += [Stream("step", 1), Stream("step", 1) if streams else Stream()]
        inputs += [Stream("step", 1)] * len(self.calls)
        inputs += [Stream()] * (read + len(self.outside))
        inputs += [Stream("row", 1)] * (not plan.whole)
        outputs = [Stream("step", 1)] + [Stream()] * (len(graphs[0].outputs) - 1)
        bound: list[int | None] = [None, *range(states)]
        bound += [None] * (len(graphs[0].outputs) - len(bound))
        batches = Batches(plan.size, full, rest, again=plan.whole or not plan.shuffle)
        both = {"inputs": inputs, "outputs": outputs}
        self.loop = Steps(graphs, bound, both, batches, threads=self.threads)
        self.loop.give(self.place["X"], plan.X)
        self.loop.give(self.place["y"], plan.y)
        if plan.weights is not None:
            self.loop.give(self.place["weights"], plan.weights)
        self.numbered = any(g.users()[g.inputs[self.place["step"]]] for g in graphs)
        self.loop.give(self.place["step"], np.zeros(1, np.int64))  # for a rule that does not ask
        nodes = graphs[0].nodes
        self.loss_type = nodes[graphs[0].outputs[0]].dtype
        self.slopes = [
            np.zeros(nodes[k].shape, nodes[k].dtype) for k in graphs[0].outputs[1 + states :]
        ]
        for k, slope in enumerate(self.slopes):
            self.loop.into(1 + states + k, slope)

    def _calls(self) -> list[Dropout]:
        """The dropout layers in the order in which one step asks them for a key."""
        order: list[Dropout] = []
        if self.random:
            run = self.trained
            own = {**run.values(), **dict(run.model.named_buffers())}
            with keys_from(self.random, order.append), run.model.stepping(own):
                run.model(self.plan.X[:2])
        return order

    def _traced(self, rows: int) -> Traced:
        """The step on the first `rows` rows: loss, new parameters, slots and buffers, gradients."""
        run, plan, names = self.trained, self.plan, self.names
        optimizer = copy.copy(run.optimizer)

        def step(
            values: list[Any], slots: list[list[Any]], buffers: list[Any], number: Any, lr: Any,
            given: list[Any], X: Any, y: Any, weights: Any = None,
        ) -> list[Any]:  # fmt: skip
            averages: list[Any] = []

            def objective(parameters: list[Any]) -> Any:
                source = iter(given)
                own = dict(zip(names, parameters, strict=True))
                own.update(zip(self.buffers, buffers, strict=True))
                asked = keys_from(self.random, lambda layer: next(source))
                with asked, run.model.stepping(own) as moved:
                    loss = run.objective(run.model(X), y, weights)
                averages[:] = [moved[name] for name in self.buffers]
                if not isinstance(loss, Tensor):
                    scalar(loss)  # which says what is wrong
                if loss.size != 1:
                    first_upstream(loss)
                return loss

            loss, gradients = value_and_grad(objective)(values)
            loss = ops.reshape(loss, ()) if loss.shape else loss
            if not is_ours(run.optimizer.lr):
                optimizer.lr = lr
            state = {
                slot: dict(zip(names, several, strict=True))
                for slot, several in zip(self.slots, slots, strict=True)
            }
            after, state = optimizer.update(
                dict(zip(names, values, strict=True)),
                dict(zip(names, gradients, strict=True)),
                {"step": number, **state},
            )
            found = [after[name] for name in names]
            found += [state[slot][name] for slot in self.slots for name in names]
            return [loss, *found, *averages, *(gradients if self.gradients else [])]

        values = list(run.values().values())
        slots = [[run.state[slot][name] for name in names] for slot in self.slots]
        given = [np.uint64(0) for _ in self.calls]
        data = [part[:rows] for part in (plan.X, plan.y, plan.weights) if part is not None]
        buffers = list(dict(run.model.named_buffers()).values())
        settings = [(module, plain(module)) for module in run.model.modules()]
        found = trace(step, (values, slots, buffers, np.int64(0), np.float64(0.1), given, *data))
        for module, before in settings:
            demand_unchanged(before, plain(module), module)
        optimizer.lr = run.optimizer.lr
        demand_unchanged(vars(run.optimizer), vars(optimizer), optimizer)
        return found

    # -- running -------------------------------------------------------------------------------

    def run(self, done: int, count: int) -> Array:
        """`count` steps after `done` of them, or fewer; the losses of those that were done.

        Raises what a schedule raises when it is asked for the first of them.
        """
        # The mark before is kept, for the values one step before this slice.
        mark = _Mark(done, self.loop, self.loop.snapshot())
        self.marks = [*self.marks[-1:], mark]
        count = self._give(mark, count)
        return self._advance(mark, count, last=done + count)

    def rewind(self, done: int) -> None:
        """The states as they were after `done` steps, of the slice that was run last."""
        mark = self.marks[-1]
        mark.program.restore(mark.states)
        self._advance(mark, done - mark.done)

    def before(self, done: int) -> dict[str, Array]:
        """Parameters and buffers as they were before the last of `done` steps.

        What the run itself holds is taken to be newer than the states from here on.
        """
        mark = next(mark for mark in reversed(self.marks) if mark.done < done)
        mark.program.restore(mark.states)
        self._advance(mark, done - 1 - mark.done)
        self.ahead = False
        first = len(self.names) * (1 + len(self.slots))
        places = [*range(len(self.names)), *range(first, first + len(self.buffers))]
        names = [*self.names, *self.buffers]
        return {n: mark.program.take(k) for n, k in zip(names, places, strict=True)}

    def gradients_of(self, done: int) -> dict[str, Array]:
        """The gradients of the last of `done` steps by name, found once more, in NumPy."""
        if self.done != done:
            raise GradientError("a step's gradients can be asked for within the callback only")
        ahead, run, values = self.ahead, self.trained, dict[str, Any]()
        before = self.before(done)
        X, y, weights = self.plan.batch(*self._placed(done - 1))
        counters = [(layer, layer.step) for layer in self.random]
        for layer in self.random:
            layer.step = self.drawn[layer] + (done - 1) * self.calls.count(layer)

        def objective(parameters: list[Any]) -> Any:
            values.update(zip(self.names, parameters, strict=True))
            with run.model.stepping({**before, **values}):
                return ops.sum(run.objective(run.model(X), y, weights))

        try:
            with training(run.model):
                slopes = value_and_grad(objective)([before[name] for name in self.names])[1]
        finally:
            for layer, counter in counters:
                layer.step = counter
            self.rewind(done)
            self.ahead = ahead
        return dict(zip(self.names, slopes, strict=True))

    def _placed(self, at: int) -> tuple[int, int]:
        """The epoch (from 1) and the place in it (from 0) of the step after `at` of them."""
        epoch, place = divmod(at, self.plan.steps)
        return epoch + 1, place

    def _give(self, mark: _Mark, count: int) -> int:
        """Note what the next steps read, and how many of them have a learning rate."""
        place, given, number = self.place, mark.given, self.base + mark.done
        lr = self.trained.optimizer.lr
        if callable(lr) and not is_ours(lr):
            rates = []
            for k in range(number, number + count):
                try:
                    rates.append(float(lr(k)))
                except Exception:
                    if not rates:
                        raise
                    break  # it may raise at its time
            lr, count = rates, len(rates)
        elif callable(lr):
            lr = 0.0  # it is part of the step
        given[place["lr"]] = np.asarray(lr, np.float64)
        for k, layer in enumerate(self.calls):
            given[place["keys"] + k] = self._keys(k, layer, mark.done, count)
        for k, tensor in enumerate(self.outside):
            given[place["outside"] + k] = tensor.value
        return count

    def _keys(self, k: int, layer: Dropout, done: int, count: int) -> Array:
        """The keys of the k-th call in a step, for `count` steps."""
        several = self.calls.count(layer)
        place = self.calls[:k].count(layer)
        steps = self.drawn[layer] + np.arange(done, done + count) * several + place
        return keys(layer.seed, layer.number, steps)

    def _advance(self, mark: _Mark, count: int, last: int = 0) -> Array:
        """`count` steps from a mark, whose states are in its program.

        `last` is where the next slice will begin, if there will be one.
        """
        plan, program = self.plan, mark.program
        losses = np.zeros(max(1, count), self.loss_type)
        self.done, self.ahead = mark.done + count, True
        if count == 0:
            return losses[:0]
        for k, value in mark.given.items():
            program.give(k, value)
        if self.numbered:
            number = self.base + mark.done
            program.give(self.place["step"], np.arange(number, number + count))
        program.into(0, losses)
        epoch, place = divmod(mark.done, plan.steps)
        if plan.whole:
            program.run(0, count, 0, 0)
            return losses
        end = (mark.done + count - 1) // plan.steps
        program.give(self.place["rows"], self.orders.rows(epoch + 1, end + 1))
        following = last // plan.steps + 1
        with self.orders.ahead(following, following + 1 + 2 * (end - epoch) if last else 0):
            program.run(0, count, place, place * plan.size)
        return losses

    def finite(self) -> bool:
        """Whether every parameter is."""
        return self.loop.finite(range(len(self.names)))

    # -- what Python sees ----------------------------------------------------------------------

    def load(self) -> None:
        """Take parameters, buffers and state from the run."""
        run = self.trained
        held = [run.state[slot][name] for slot in self.slots for name in self.names]
        for k, value in enumerate(held, len(self.names)):
            self.loop.give(k, value)
        self.done = int(run.state["step"]) - self.base
        self._load_model()

    def _load_model(self) -> None:
        run, count = self.trained, len(self.names)
        for k, name in enumerate(self.names):
            self.loop.give(k, run.parameters[name].value)
        first = count * (1 + len(self.slots))
        for k, (_, value) in enumerate(run.model.named_buffers(), first):
            self.loop.give(k, value)
        self.drawn = {
            layer: layer.step - self.done * self.calls.count(layer) for layer in self.random
        }
        self.written = self._held()
        self.ahead = False

    def save(self) -> None:
        """Give parameters, buffers and state to the run, as the last step left them."""
        self.save_model()
        run, count = self.trained, len(self.names)
        if run.state["step"] != self.base + self.done:
            state: dict[str, Any] = {"step": self.base + self.done}
            for s, slot in enumerate(self.slots, 1):
                own = enumerate(self.names, s * count)
                state[slot] = {name: self.loop.take(k)[()] for k, name in own}
            run.state = state

    def save_model(self) -> None:
        """Give the run what a callback may see: all but the optimiser's state."""
        if not self.ahead:
            return
        run, count = self.trained, len(self.names)
        for k, name in enumerate(self.names):
            run.parameters[name].rebind(self.loop.take(k))
        if self.buffers:
            first = count * (1 + len(self.slots))
            own = enumerate(self.buffers, first)
            run.model.load_buffers({name: self.loop.take(k) for k, name in own})
        if self.gradients:
            run.gradients = {n: g.copy()[()] for n, g in zip(self.names, self.slopes, strict=True)}
        for layer in self.random:
            layer.step = self.drawn[layer] + self.done * self.calls.count(layer)
        self.written = self._held()
        self.ahead = False

    def refresh(self) -> None:
        """Take what a callback has changed: values, or settings of the optimiser and the layers."""
        if self._settings() != self.settings:
            self.save()
            self._build()
            self.load()
        elif self._held() != self.written:
            self._load_model()

    def _held(self) -> dict[str, Any]:
        """What tells whether the run holds the values that it was given."""
        run = self.trained
        held: dict[str, Any] = {name: id(p.value) for name, p in run.parameters.items()}
        if self.buffers:
            held.update((name, id(value)) for name, value in run.model.named_buffers())
        for k, layer in enumerate(self.random):
            held[f"dropout {k}"] = layer.seed, layer.number, layer.step
        return held

    def _settings(self) -> Any:
        """What the program has built in; a learning rate that is a number is read at each slice."""
        own = dict(vars(self.trained.optimizer))
        lr = own.get("lr")
        own["lr"] = lr if is_ours(lr) else callable(lr)
        return own, [plain(module) for module in self.modules]
