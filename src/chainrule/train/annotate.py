"""Which step of the chain rule each kernel of a training step does, in the lecture's words.

A reading of the compiler's schedule: from the parameters that a kernel reads, and from what depends
on what. Rows are samples, netₗ = hₗ₋₁·Wₗᵀ + bₗ, hₗ = f(netₗ), δₗ = ∂L/∂netₗ.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from ..compiler.graph import Graph, Node
from ..compiler.groups import ALONE, REDUCTIONS
from ..compiler.plan import Kernel, Plan
from ..compiler.views import VIEWS

__all__ = ["annotated"]

_TOGETHER = frozenset({"matmul", *REDUCTIONS, *ALONE})  # an element of these needs many elements


def annotated(plan: Plan, parameters: Sequence[str]) -> dict[int, str]:
    """For each kernel, by number, its step of the chain rule; "" where it has no name there.

    The plan is of a training step, as `fit` has it: its inputs begin with the parameters, of these
    names; its outputs with the loss and the new parameters; the batch is labelled X and y, and the
    learning rate lr. What is named is a chain of linear layers with functions of one element
    between them; anything else is left without a word.
    """
    reading = _Reading(plan, parameters)
    return {kernel.number: reading.of(kernel) for kernel in plan.kernels}


@dataclass
class _Layer:
    """A linear layer's nodes by their numbers in the graph; None where there is none."""

    number: int
    weight: int
    new_weight: int
    bias: int | None
    new_bias: int | None
    product: int = -1  # hₗ₋₁·Wₗᵀ
    net: int | None = None
    given: int = -1  # the root of hₗ₋₁, or of X
    out: int | None = None  # hₗ, where the next layer reads another node than netₗ
    function: str = ""  # what makes hₗ of netₗ, where it is a function of one element
    delta: int | None = None
    slope: int | None = None  # the product that is ∂L/∂Wₗ
    sums: list[int] = field(default_factory=list)  # that end in ∂L/∂bₗ
    back: int | None = None  # the product δₗ·Wₗ = ∂L/∂hₗ₋₁


class _Reading:
    def __init__(self, plan: Plan, parameters: Sequence[str]) -> None:
        self.plan, self.graph = plan, plan.graph
        self.roots = [source.root for source in plan.sources]
        self.below = _below(self.graph)
        self.labels = {self.graph.nodes[n].label: n for n in self.graph.inputs}
        self.layers = _layers(self.graph, parameters)
        self.whole = bool(self.layers)  # whether the last of them leads to the loss
        self._forward()
        self._backward()

    # -- dependence ----------------------------------------------------------------------------

    def node(self, number: int) -> Node:
        return self.graph.nodes[number]

    def on(self, number: int, other: int | None) -> bool:
        """Whether a node depends on another one, or is it."""
        return other is not None and bool(self.below[number] >> other & 1)

    def operands(self, number: int) -> list[int]:
        """The computed nodes that a node reads, through views."""
        return [self.roots[k] for k in self.node(number).inputs]

    def between(self, first: int, last: int) -> list[int]:
        """What is computed from `first` on the way to `last`, without the first of them."""
        return [
            n
            for n in range(first + 1, last + 1)
            if self.on(n, first) and self.on(last, n) and self.node(n).op not in VIEWS
        ]

    # -- forward -------------------------------------------------------------------------------

    def _forward(self) -> None:
        """Each layer's product, net input and output; one that does not follow ends the chain."""
        products = [n for n, node in enumerate(self.graph.nodes) if node.op == "matmul"]
        before: _Layer | None = None
        for place, layer in enumerate(self.layers):
            mine = [n for n in products if layer.weight in self.operands(n)]
            again = [n for n in mine[1:] if self.on(self.graph.outputs[0], n)]
            if not mine or again or not self._enter(layer, mine[0], before):
                del self.layers[place:]
                self.whole = False
                return
            before = layer

    def _enter(self, layer: _Layer, product: int, before: _Layer | None) -> bool:
        """Name a layer's forward pass; whether it reads X, or what the layer before it leaves."""
        others = [k for k in self.operands(product) if k != layer.weight]
        if len(others) != 1 or len(self.node(product).shape) != 2:
            return False
        layer.product, (layer.given,) = product, others
        if before is None:
            if not self._is_rows(layer.given, "X"):
                return False
        elif layer.given != before.net:
            function = self._function(before, layer.given)
            if before.net is None or not function:
                return False
            before.out, before.function = layer.given, function
        if layer.bias is None:
            layer.net = product
            return True
        sums = [
            n
            for n, node in enumerate(self.graph.nodes)
            if node.op == "add" and sorted(self.operands(n)) == sorted((product, layer.bias))
        ]
        layer.net = sums[0] if len(sums) == 1 else None
        return layer.net is not None

    def _is_rows(self, number: int, label: str) -> bool:
        """Whether a node is an input of this label, or rows of it."""
        given = self.labels.get(label)
        node = self.node(number)
        return given is not None and (
            number == given or (node.op == "gather" and self.roots[node.inputs[0]] == given)
        )

    def _function(self, layer: _Layer, out: int) -> str:
        """What makes hₗ of netₗ, "f" for several operations; "" for what is no such function."""
        if layer.net is None or not self.on(out, layer.net):
            return ""
        steps = self.between(layer.net, out)
        inside = {layer.net, *steps}
        for n in steps:
            if self.node(n).op in _TOGETHER:
                return ""
            for k in self.operands(n):
                if k not in inside and any(self.on(k, p) for p in self._told()):
                    return ""  # another parameter, or the batch by another way
        return self.node(steps[0]).op if len(steps) == 1 else "f"

    def _told(self) -> Iterator[int]:
        """The inputs that a factor of dropout does not depend on: parameters, X and y."""
        for number in self.graph.inputs:
            if not self.node(number).label.startswith("given"):
                yield number

    # -- backward ------------------------------------------------------------------------------

    def _backward(self) -> None:
        """Each layer's δ and ∂L/∂W by the product of its input and δ, then δ·W and ∂L/∂b."""
        for layer in self.layers:
            found = [n for n in range(len(self.graph.nodes)) if self._is_slope(n, layer)]
            if len(found) != 1:
                continue
            (layer.slope,) = found
            (layer.delta,) = [k for k in self.operands(layer.slope) if k != layer.given]
            backs = [
                n
                for n in range(layer.product + 1, len(self.graph.nodes))
                if self.node(n).op == "matmul"
                and sorted(self.operands(n)) == sorted((layer.weight, layer.delta))
            ]
            layer.back = backs[0] if len(backs) == 1 and layer.number > 1 else None
            ends = {layer.delta}
            for n in range(layer.delta + 1, len(self.graph.nodes)):
                adds = self.node(n).op == "sum" and self.operands(n)[0] in ends
                if adds and layer.new_bias is not None and self.on(layer.new_bias, n):
                    ends.add(n)
                    layer.sums.append(n)

    def _is_slope(self, number: int, layer: _Layer) -> bool:
        """Whether a product is ∂L/∂W: of the layer's input with a δ, on the way to the new W."""
        if self.node(number).op != "matmul" or not self.on(layer.new_weight, number):
            return False
        others = [k for k in self.operands(number) if k != layer.given]
        return len(others) == 1 and others[0] != layer.weight and self.on(others[0], layer.product)

    # -- words ---------------------------------------------------------------------------------

    def of(self, kernel: Kernel) -> str:
        """What a kernel does, from the forward pass to the update."""
        if kernel.copy is not None:
            return self._pack(kernel)
        own = set(kernel.group.members)
        parts = list(self._batch(own))
        for layer, after in zip(self.layers, [*self.layers, None][1:], strict=True):
            parts += self._going(own, layer, after)
        if self.whole:
            parts += self._losing(own, self.layers[-1])
        for layer in reversed(self.layers):
            parts += self._coming(own, layer)
        parts += [text for layer in self.layers for text in self._moving(own, layer)]
        return ", ".join(parts)

    def _batch(self, own: set[int]) -> Iterator[str]:
        """The rows of this batch, and the learning rate."""
        for label in ("X", "y"):
            if any(self.node(n).op == "gather" and self._is_rows(n, label) for n in own):
                yield f"{label}: the rows of this batch"
        bits = {n for n in self.graph.inputs if any(self.on(m, n) for m in own)}
        labels = {self.node(n).label for n in bits}
        if "lr" in labels and labels <= {"lr", "number"}:
            yield "the size of the step, from lr"
        elif labels == {"number"}:
            yield "factors of the update, from the number of the step"

    def _going(self, own: set[int], layer: _Layer, after: _Layer | None) -> Iterator[str]:
        """The forward pass through a layer."""
        number, product = layer.number, f"{self._given(layer)}·W{layer.number}ᵀ"
        bias = f" + b{layer.number}" if layer.bias is not None else ""
        if layer.net in own:
            yield f"net{number} = {product}{bias}"
        elif layer.product in own:
            yield product
        if after is None or not layer.function:
            return
        if layer.out in own:
            yield f"h{number} = {layer.function}(net{number})"
        if layer.delta in own or layer.delta is None:
            return
        if any(self._is_factor(n, layer, after) and self.on(layer.delta, n) for n in own):
            yield f"{layer.function}′(net{number})"

    def _is_factor(self, number: int, layer: _Layer, after: _Layer) -> bool:
        """Whether a node is made of netₗ for the way back alone."""
        back_only = not self.on(after.product, number) and not self.on(number, after.product)
        return back_only and number != layer.net and self.on(number, layer.net)

    def _losing(self, own: set[int], last: _Layer) -> Iterator[str]:
        """From the last net input to the loss, and back to its δ."""
        loss, net = self.graph.outputs[0], f"net{last.number}"
        here = [n for n in own if n != last.net and self.on(n, last.net)]
        towards: list[str] = []
        if loss in own:
            yield f"L, from {net} and y"
        elif any(self.on(loss, n) for n in here):
            towards.append("L")
        delta = last.delta
        if delta is not None and delta not in own and any(self.on(delta, n) for n in here):
            towards.append(f"δ{last.number}")
        if towards:
            yield f"on the way from {net} to {' and '.join(towards)}"

    def _coming(self, own: set[int], layer: _Layer) -> Iterator[str]:
        """The backward pass through a layer: δ of the layer before, ∂L/∂W, ∂L/∂b."""
        number = layer.number
        if layer is self.layers[-1] and layer.delta in own:
            yield f"δ{number} = ∂L/∂net{number}"
        before = self.layers[number - 2] if number > 1 else None
        if before is not None and layer.back is not None:
            yield from self._passing(own, layer, layer.back, before)
        if layer.slope in own:
            yield f"∂L/∂W{number} = δ{number}ᵀ·{self._given(layer)}"
        if own.intersection(layer.sums):
            yield f"∂L/∂b{number} = Σ δ{number} over the rows"

    def _passing(self, own: set[int], layer: _Layer, back: int, before: _Layer) -> Iterator[str]:
        """δₗ₋₁ = (δₗ·Wₗ) ⊙ f′(netₗ₋₁)."""
        number, m = layer.number, before.number
        product = f"δ{number}·W{number}"
        slope = f"∂L/∂{self._given(layer)}"
        if before.delta == back:
            if back in own:
                yield f"δ{m} = {product}"
            return
        named = before.delta is not None and self._is_local(back, before.delta, before, layer)
        if back in own:
            if named and before.delta in own:
                yield f"δ{m} = ({product}) ⊙ {before.function}′(net{m})"
            else:
                yield f"{slope} = {product}" if named else product
        elif named and before.delta in own:
            yield f"δ{m} = {slope} ⊙ {before.function}′(net{m})"

    def _is_local(self, back: int, delta: int, before: _Layer, layer: _Layer) -> bool:
        """Whether δ is made of δ·W element by element, with factors of net alone."""
        if not before.function or not self.on(delta, back):
            return False
        steps = self.between(back, delta)
        inside = {back, *steps}
        return all(
            self.node(n).op not in _TOGETHER
            and all(k in inside or not self.on(k, layer.product) for k in self.operands(n))
            for n in steps
        )

    def _moving(self, own: set[int], layer: _Layer) -> Iterator[str]:
        """The updates of a layer's parameters."""
        number = layer.number
        if layer.new_weight in own and layer.slope is not None:
            yield self._update(f"W{number}", layer.weight, layer.new_weight, layer.slope, own)
        if layer.bias is not None and layer.new_bias in own and layer.sums:
            yield self._update(f"b{number}", layer.bias, layer.new_bias, layer.sums[-1], own)

    def _update(self, name: str, old: int, new: int | None, slope: int, own: set[int]) -> str:
        then = "then " if slope in own else ""
        if new is not None and self._is_plain(old, new, slope):
            return f"{then}{name} ← {name} − lr·∂L/∂{name}"
        return f"{then}{name} ← update({name}, ∂L/∂{name})"

    def _is_plain(self, old: int, new: int, slope: int) -> bool:
        """Whether an update is p − lr·∂L/∂p and nothing more."""
        while self.node(new).op == "copy":
            new = self.operands(new)[0]
        if self.node(new).op != "subtract" or self.operands(new)[0] != old:
            return False
        move = self.operands(new)[1]
        rate = self.labels.get("lr")
        if self.node(move).op != "multiply" or rate is None:
            return False
        factors = [k for k in self.operands(move) if k != slope]
        if len(factors) != 1:
            return False
        while self.node(factors[0]).op == "astype":
            factors = self.operands(factors[0])
        return factors == [rate]

    def _pack(self, kernel: Kernel) -> str:
        """An operand that is copied into the order in which a product reads it."""
        assert kernel.copy is not None
        array = kernel.copy[0].array
        held = {n for n, home in self.plan.home.items() if home == array}
        for layer in self.layers:
            names = {layer.weight: f"W{layer.number}", layer.given: self._given(layer)}
            names |= {} if layer.delta is None else {layer.delta: f"δ{layer.number}"}
            for n in held & names.keys():
                return f"{names[n]} in panels"
        return ""

    def _given(self, layer: _Layer) -> str:
        """The name of a layer's input."""
        if layer.number == 1:
            return "X"
        before = self.layers[layer.number - 2]
        return f"{'net' if before.out is None else 'h'}{before.number}"


def _layers(graph: Graph, parameters: Sequence[str]) -> list[_Layer]:
    """The linear layers among the parameters: a matrix called weight, and its bias."""
    found: list[_Layer] = []
    places = {name: k for k, name in enumerate(parameters)}
    for name, k in places.items():
        prefix, _, kind = name.rpartition(".")
        weight = graph.inputs[k]
        if kind != "weight" or len(graph.nodes[weight].shape) != 2:
            continue
        at = places.get(f"{prefix}.bias" if prefix else "bias")
        bias = None if at is None else graph.inputs[at]
        new_bias = None if at is None else graph.outputs[1 + at]
        found.append(_Layer(len(found) + 1, weight, graph.outputs[1 + k], bias, new_bias))
    return found


def _below(graph: Graph) -> list[int]:
    """For each node, as bits, the nodes that it depends on, and itself."""
    found: list[int] = []
    for number, node in enumerate(graph.nodes):
        found.append(_union(found[k] for k in node.inputs) | 1 << number)
    return found


def _union(sets: Iterable[int]) -> int:
    bits = 0
    for one in sets:
        bits |= one
    return bits
