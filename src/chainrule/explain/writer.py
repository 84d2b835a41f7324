"""Equations of an explanation, in plain letters or LaTeX: one writer, two styles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from ..circuit import Tensor
from ..notation import Style, symbol
from ..notation.words import words
from .chain import Chain, Line, Link
from .flow import Flow
from .formula import local_formula
from .naming import Names
from .numbers import agreeing, bracketed, decimal
from .origin import origin

FACTORS = 12  # of one chain that are printed; the middle of a longer one is a product
TERMS = 24  # of one sum that are printed


@dataclass(frozen=True)
class Equation:
    """`left = right₁ = right₂ …`, and a remark beside it; `signs` where one is not =."""

    left: str
    rights: tuple[str, ...]
    remark: str = ""
    sign: str = "="  # before the last right-hand side


@dataclass
class Block:
    """Equations under a heading, and sentences below them."""

    title: str
    equations: list[Equation] = field(default_factory=list)
    sentences: list[str] = field(default_factory=list)


class Writer:
    """The words of one style: fractions of ∂, products, numbers to so many decimals."""

    def __init__(self, flow: Flow, names: Names, style: Style, decimals: int) -> None:
        self.flow, self.names, self.style, self.decimals = flow, names, style, decimals
        latex = style == "latex"
        self.dot = r" \cdot " if latex else " · "
        self.times = r" \times " if latex else " × "

    # -- words ------------------------------------------------------------------------------

    def name(self, node: Tensor) -> str:
        """A node's name as a symbol."""
        return symbol(self.names[node], self.style)

    def ratio(self, above: Tensor, below: Tensor) -> str:
        """∂above/∂below."""
        return self.fraction(self.name(above), self.name(below))

    def fraction(self, above: str, below: str) -> str:
        """∂above/∂below, for two symbols."""
        if self.style == "latex":
            return rf"\frac{{\partial {above}}}{{\partial {below}}}"
        return f"∂{above}/∂{below}"

    def gradient(self, node: Tensor) -> str:
        """∂output/∂node."""
        return self.ratio(self.flow.output, node)

    def element(self, name: str, index: tuple[int, ...]) -> str:
        """A name with the index of one element."""
        inside = ",".join(map(str, index))
        return f"{symbol(name, self.style)}[{inside}]" if index else symbol(name, self.style)

    def gradient_at(self, node: Tensor, index: tuple[int, ...]) -> str:
        """∂output/∂node[index]."""
        return self.fraction(self.name(self.flow.output), self.element(self.names[node], index))

    def delta(self, node: Tensor) -> str:
        """δ of a net."""
        plain = self.names.delta(node)
        if self.style == "text":
            return plain
        rest = plain.removeprefix("δ")
        if rest.startswith("("):
            return rf"\delta\left({self.name(node)}\right)"
        return (
            rf"\delta_{{{symbol('x_' + rest.lstrip('_'), 'latex')[3:-1]}}}" if rest else r"\delta"
        )

    def number(self, value: float, decimals: int | None = None) -> str:
        """A number as a final result."""
        return self.digits(decimal(value, self.decimals if decimals is None else decimals))

    def digits(self, text: str) -> str:
        """A printed number in this style."""
        mantissa, e, exponent = text.partition("e")
        if self.style == "text" or not (e or "n" in text):
            return text
        if "n" in mantissa:
            return {"inf": r"\infty", "-inf": r"-\infty"}.get(text, r"\mathrm{NaN}")
        return rf"{mantissa} \cdot 10^{{{int(exponent)}}}"

    def product(self, texts: Sequence[str]) -> str:
        """Printed numbers multiplied."""
        return self.times.join(_wrap(self.digits(t), self.style) for t in texts)

    def sum(self, texts: Sequence[str]) -> str:
        """Terms added, negative ones in brackets after the first."""
        return " + ".join([texts[0], *[_wrap(t, self.style) for t in texts[1:]]])

    # -- a line -----------------------------------------------------------------------------

    def line(self, line: Line) -> list[Equation]:
        """∂output/∂tensor as symbols, as products of numbers, as terms, and their sum."""
        if len(line.chains) > TERMS:
            return [self._long_sum(line)]
        written = [self._chain(chain) for chain in line.chains]
        left = self.gradient(line.tensor)
        symbols = self.sum([w[0] for w in written])
        if len(written) == 1:
            _, parts, sign, total = written[0]
            if len(line.chains[0].factors) == 1:
                return [self._single(line, total)]
            return [Equation(left, (symbols, parts, total), sign=sign)]
        products = self.sum([w[1] for w in written])
        values = [chain.contribution for chain in line.chains]
        texts, sign, total = agreeing(values, line.gradient, self.decimals, math.fsum)
        terms = self.sum([self.digits(t) for t in texts])
        shown = [symbols, terms] if products == terms else [symbols, products, terms]
        return [Equation(left, (*shown, self.digits(total)), sign=sign)]

    def _single(self, line: Line, total: str) -> Equation:
        chain = line.chains[0]
        if not chain.links:
            return Equation(self.gradient(line.tensor), (total,))
        link = chain.links[0]
        formula = self.formula(link)
        rights = (total,) if _same(formula, total) else (formula, total)
        return Equation(self.gradient(line.tensor), rights, origin(link, self.flow, self.names))

    def _long_sum(self, line: Line) -> Equation:
        """The largest terms, and the rest as one sum."""
        ranked = sorted((c.contribution for c in line.chains), key=lambda v: -abs(v))
        shown, rest = ranked[: TERMS // 2], math.fsum(ranked[TERMS // 2 :])
        texts, sign, total = agreeing([*shown, rest], line.gradient, self.decimals, math.fsum)
        terms = self.sum([self.digits(t) for t in texts])
        remark = f"{len(ranked)} terms: the {len(shown)} largest, then the rest as one sum"
        return Equation(self.gradient(line.tensor), (terms, self.digits(total)), remark, sign)

    def _chain(self, chain: Chain) -> tuple[str, str, str, str]:
        """A chain as symbols, as numbers, the sign before the result, and the result."""
        pairs = [(self.gradient(chain.head), chain.upstream)] if chain.head is not None else []
        pairs += [(self.ratio(link.above, link.below), link.value) for link in chain.links]
        if len(pairs) > FACTORS:
            half = FACTORS // 2
            middle = math.prod([value for _, value in pairs[half:-half]])
            edges = sum(len(link.edges) for link in chain.links)
            more = f"…({edges - 2 * half + (chain.head is not None)} more)…"
            dots = r"\cdots" if self.style == "latex" else more
            pairs = [*pairs[:half], (dots, middle), *pairs[-half:]]
        texts, sign, total = agreeing(
            [value for _, value in pairs], chain.contribution, self.decimals, math.prod
        )
        return self.dot.join(s for s, _ in pairs), self.product(texts), sign, self.digits(total)

    def factor_equations(self, line: Line) -> list[Equation]:
        """What each factor of a line is, and where it comes from; each factor once."""
        found: dict[tuple[tuple[Tensor, int], ...], Equation] = {}
        for chain in line.chains[:TERMS]:
            if len(chain.factors) == 1 and len(line.chains) == 1:
                continue
            half = FACTORS // 2
            inner = chain.links if len(chain.links) <= FACTORS else (
                *chain.links[:half], *chain.links[-half:])  # fmt: skip
            for link in inner:
                key = tuple((edge.node, edge.position) for edge in link.edges)
                if key not in found:
                    found[key] = self._factor(link)
        return list(found.values())

    def _factor(self, link: Link) -> Equation:
        value = self.number(link.value)
        formula = self.formula(link)
        rights = (value,) if _same(formula, value) else (formula, value)
        remark = origin(link, self.flow, self.names)
        return Equation(self.ratio(link.above, link.below), rights, remark)

    def formula(self, link: Link) -> str:
        """The product of the local derivatives of a link, without the factors 1."""
        if len(link.edges) > FACTORS:
            return ""
        parts = [local_formula(e, self.names, self.style) for e in link.edges]
        telling = [part for part in parts if part not in ("1", "")]
        if not telling:
            return ""
        if len(telling) == 1:
            return telling[0]
        return self.dot.join(factor_brackets(part, self.style) for part in telling)


def _same(formula: str, value: str) -> bool:
    """Whether a formula says no more than its value."""
    return formula.replace("−", "-") in ("", value)


def _wrap(text: str, style: Style) -> str:
    if style == "text":
        return bracketed(text)
    return rf"\left({text}\right)" if text.startswith("-") else text


def factor_brackets(text: str, style: Style) -> str:
    """Brackets around a sum or a negative that stands as a factor."""
    depth = 0
    for k, letter in enumerate(text):
        depth += (letter in "([{") - (letter in ")]}")
        if depth == 0 and letter in "+−-" and (k == 0 or text[k - 1] == " "):
            return f"({text})" if style == "text" else rf"\left({text}\right)"
    return text


def as_text(blocks: Sequence[Block]) -> str:
    """Blocks as plain text: right-hand sides below each other where a line would grow long."""
    return "\n\n".join(_block_text(block) for block in blocks) + "\n"


def _block_text(block: Block) -> str:
    rows = [block.title] if block.title else []
    for equation in block.equations:
        rows += _equation_rows(equation)
    return "\n".join([*rows, *[f"  {s}" for s in block.sentences]])


def _equation_rows(equation: Equation) -> list[str]:
    remark = f"   ({equation.remark})" if equation.remark else ""
    signs = ["="] * (len(equation.rights) - 1) + [equation.sign]
    pieces = [f"{sign} {right}" for sign, right in zip(signs, equation.rights, strict=True)]
    whole = f"  {equation.left} {' '.join(pieces)}"
    if len(whole) <= 92:
        return [whole + remark]
    pad = " " * (len(equation.left) + 3)
    rows = [f"  {equation.left} {pieces[0]}", *[pad + piece for piece in pieces[1:]]]
    return [*rows[:-1], rows[-1] + remark]


def as_latex(blocks: Sequence[Block]) -> str:
    """Blocks as one aligned environment, headings and remarks as text in it."""
    rows: list[str] = []
    for block in blocks:
        if block.title:
            rows.append(f"&{words(block.title)}")
        for equation in block.equations:
            rows += _latex_rows(equation)
        rows += [f"&{words(sentence)}" for sentence in block.sentences]
    body = " \\\\\n".join(rows)
    return f"\\begin{{aligned}}\n{body}\n\\end{{aligned}}"


def _latex_rows(equation: Equation) -> list[str]:
    remark = rf" \qquad {words(equation.remark)}" if equation.remark else ""
    signs = ["="] * (len(equation.rights) - 1) + [equation.sign.replace("≈", r"\approx")]
    rows = [f"&{sign} {right}" for sign, right in zip(signs, equation.rights, strict=True)]
    rows[0] = f"{equation.left} {rows[0]}"
    rows[-1] += remark
    return rows
