"""One chain of lines: definition, differentiation, algebra, until nothing is left to do."""

from __future__ import annotations

from collections.abc import Sequence

from ..circuit import Tensor
from ..notation import write
from ..rewrite import RULES, recognise
from ..rewrite.algebra import everywhere
from .derivation import Condition, Part, Step
from .differentiate import step
from .symbols import is_pending, pending

# After the derivative: what is tried, in this order, where a record names no steps.
TIDY = (
    "multiply out the signs and numbers",
    "collect like terms",
    "collect the factors",
    "u·sign(u) = |u|",
    "collect like terms",
)
LONGEST = 400  # lines of one chain


class Chain:
    """Lines in the making; a line is added only where its formula differs from the one before."""

    def __init__(self, start: Tensor) -> None:
        self.steps = [Step("", start)]
        self._shown = write(start)

    @property
    def line(self) -> Tensor:
        """The last expression."""
        return self.steps[-1].node

    def add(self, rule: str, new: Tensor | None) -> bool:
        """One more line, if the rule found something to do."""
        if new is None or new is self.line:
            return False
        shown = write(new)
        if shown == self._shown:  # the same to a reader: no line of its own
            self.steps[-1] = Step(self.steps[-1].rule, new)
            return False
        self.steps.append(Step(rule, new))
        self._shown = shown
        return True

    def apply(self, *rules: str) -> Chain:
        """The named rules of algebra, one line each; those with nothing to do are passed over."""
        for rule in rules:
            self.add(rule, RULES[rule](self.line))
        return self

    def inside(self, rule: str) -> bool:
        """A rule applied to what is still to be differentiated."""

        def change(node: Tensor) -> Tensor | None:
            if not is_pending(node):
                return None
            new = RULES[rule](node.inputs[0])
            return None if new is None else node.op(new, node.inputs[1])

        return self.add(rule, everywhere(self.line, change))

    def differentiate(self) -> Chain:
        """Rules of differentiation until none is pending; equal rules in a row share no line."""
        while len(self.steps) < LONGEST and (found := step(self.line)) is not None:
            self.add(*found)
        return self

    def recognise(self, rule: str, forms: Sequence[tuple[Tensor, Tensor]]) -> Chain:
        """Parts that are written-out functions under the functions' names again."""
        self.add(rule, recognise(self.line, forms))
        return self

    def part(self, title: str, x: Tensor, conditions: Sequence[Condition] = ()) -> Part:
        """The finished chain."""
        return Part(title, x, tuple(self.steps), tuple(conditions))


def start(u: Tensor, x: Tensor, partial: bool = False) -> Chain:
    """A chain that begins with d/dx(u)."""
    return Chain(pending(u, x, partial))


def plain_chain(chain: Chain, target: Tensor | None = None) -> Chain:
    """Differentiate and tidy up, stopping early where the target is reached."""
    chain.differentiate()
    for rule in TIDY:
        if target is not None and write(chain.line) == write(target):
            break
        chain.apply(rule)
    return chain
