"""Softmax and its relatives in index notation: i = j and i ≠ j, the Jacobian, the product v·J.

Three elements stand for all: i, j and a general one, k. Σₖ is over the three, so every line is a
circuit that has a value; what is said holds for any number of them.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..circuit import Tensor
from ..circuit import vocabulary as ops
from ..rewrite.algebra import everywhere, replaced, same, total
from .chain import Chain, start
from .derivation import Derivation, Part, Step
from .symbols import abbreviation, pending, series, symbol

NUMBERS = "multiply out the signs and numbers"


@dataclass(frozen=True)
class Row:
    """The symbols of one row: three inputs, their exponentials, the sum, and σ under its name."""

    x: tuple[Tensor, Tensor, Tensor]
    e: tuple[Tensor, Tensor, Tensor]
    sum: Tensor
    sigma: tuple[Tensor, Tensor, Tensor]


LETTERS = ("i", "j", "k")


def row(letter: str = "x", beta: Tensor | None = None) -> Row:
    """σᵢ = e^xᵢ / Σₖ e^xₖ for three elements named i, j and k."""
    x = tuple(symbol(f"{letter}_{n}", v) for n, v in zip(LETTERS, (0.3, -0.4, 0.9), strict=True))
    e = tuple(ops.exp(one if beta is None else ops.multiply(beta, one)) for one in x)
    whole = series(e)
    sigma = tuple(
        abbreviation(f"σ_{n}", ops.divide(one, whole)) for n, one in zip(LETTERS, e, strict=True)
    )
    return Row(x, e, whole, sigma)  # type: ignore[arg-type]


def _named(chain: Chain, r: Row) -> Chain:
    """Fractions eˣ/Σ under their short names."""
    return chain.recognise(
        "recognise σ", [(ops.divide(e, r.sum), s) for e, s in zip(r.e, r.sigma, strict=True)]
    )


def derive_softmax(beta: float | None = None) -> Derivation:
    """The two cases, the N×N Jacobian, and zᵢ = σᵢ(vᵢ − v·σ) in O(N)."""
    scale = None if beta is None else symbol("beta", float(beta))
    r = row(beta=scale)
    equal, other = _diagonal(r), _off_diagonal(r)
    entries = [[_entry(r, a, b, equal, other) for b in range(3)] for a in range(3)]
    parts = [equal, other, _jacobian(r, entries), _product(r, entries)]
    return Derivation(
        "softmax",
        tuple(parts),
        ("i, j and k stand for all elements; v is the upstream gradient.",),
    )


def _fraction(r: Row, wrt: int) -> Chain:
    """∂σᵢ/∂x through the quotient rule, every exponential differentiated."""
    chain = start(r.sigma[0], r.x[wrt], True)
    chain.add("definition", pending(ops.divide(r.e[0], r.sum), r.x[wrt], True))
    return chain.differentiate()


def _diagonal(r: Row) -> Part:
    chain = _fraction(r, 0).apply("factor out", "split into a product of two fractions")
    chain.apply("split the fraction", "u/u = 1")
    return _named(chain, r).part("i = j", r.x[0])


def _off_diagonal(r: Row) -> Part:
    chain = _fraction(r, 1).apply(NUMBERS, "split into a product of two fractions")
    return _named(chain, r).part("i ≠ j", r.x[1])


def _jacobian(r: Row, results: list[list[Tensor]]) -> Part:
    """∂σ/∂x as a matrix of pending derivatives, then of the two cases."""
    waiting = [[pending(r.sigma[a], r.x[b], True) for b in range(3)] for a in range(3)]
    steps = tuple(
        Step(rule, _stacked(grid), tuple(tuple(line) for line in grid))
        for rule, grid in (("", waiting), ("the two cases", results))
    )
    return Part("Jacobian, row i, column j: ∂σᵢ/∂xⱼ", r.x[0], steps)


def _stacked(grid: list[list[Tensor]]) -> Tensor:
    return ops.stack([ops.stack(line) for line in grid])  # type: ignore[no-any-return]


def _entry(r: Row, a: int, b: int, equal: Part, other: Part) -> Tensor:
    """The result of the case that holds, in the letters of row a and column b."""
    s = r.sigma
    if a == b:
        return replaced(equal.result, {s[0]: s[a]})
    return replaced(other.result, {s[0]: s[a], s[1]: s[b]})


def _product(r: Row, entries: list[list[Tensor]]) -> Part:
    """zᵢ = Σⱼ vⱼ ∂σⱼ/∂xᵢ: N² products become N."""
    v = [symbol(f"v_{n}", w) for n, w in zip(LETTERS, (1.1, 0.6, -0.8), strict=True)]
    pendings = [v[n] * pending(r.sigma[n], r.x[0], True) for n in range(3)]
    chain = Chain(series(pendings))
    chain.add("one term for each element", total((1, p) for p in pendings))
    chain.add("the two cases", total((1, v[n] * entries[n][0]) for n in range(3)))
    chain.apply(NUMBERS, "multiply out", "u·u = u²", "factor out")
    _regroup(chain, r, v)
    return chain.part("v·J, element i", r.x[0])


def _regroup(chain: Chain, r: Row, v: list[Tensor]) -> None:
    """The three products vₖσₖ are the scalar product v·σ, the same for every i."""
    products = [v[n] * r.sigma[n] for n in range(3)]
    dot = series(products)
    wanted = total([(1, v[0]), *[(-1, p) for p in products]])

    def change(node: Tensor) -> Tensor | None:
        if node.op is not None and not node.name and same(node, wanted):
            return ops.subtract(v[0], dot)  # type: ignore[no-any-return]
        return None

    chain.add("the rest is v·σ, the same for every i", everywhere(chain.line, change))


def derive_log_softmax() -> Derivation:
    """xᵢ − ln Σₖ e^xₖ, with derivative 1 − σᵢ, or −σⱼ."""
    r = row()
    log_sigma = ops.log_softmax(ops.stack([r.x[0], r.x[1], r.x[2]]))
    closed = abbreviation("ln σ_i", ops.getitem(log_sigma, index=0))
    parts = []
    for n, title in ((0, "i = j"), (1, "i ≠ j")):
        chain = start(closed, r.x[n], True)
        chain.add("definition", pending(r.x[0] - ops.log(r.sum), r.x[n], True))
        chain.differentiate().apply(NUMBERS, "collect the factors")
        parts.append(_named(chain, r).part(title, r.x[n]))
    return Derivation("log_softmax", tuple(parts), ())


def derive_logsumexp() -> Derivation:
    """ln Σₖ e^xₖ, whose gradient is softmax."""
    r = row()
    chain = start(ops.log(r.sum), r.x[0], True).differentiate()
    chain.apply("collect the factors")
    return Derivation("logsumexp", (_named(chain, r).part("", r.x[0]),), ())
