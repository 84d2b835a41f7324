"""A report's pictures: δ on its way from the output back, nets with their flat zones, losses."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ... import plot
from ...circuit import Parameter
from ...draw.face import clean
from ...explain.naming import TRANSFER
from ...ops import Operation, registry
from ...page import escape
from ...plot import Chart
from ...plot.scale import scale
from ..finding import Curve, Factor, Flow
from ..flow import HALF, LEVEL, LEVELLING, steepest
from . import words

__all__ = ["flat_zones", "flow_picture", "losses", "nets", "span_of"]

WIDE, BOX, LINK, TOP, MIDDLE = 340.0, 46.0, 66.0, 6.0, 64.0
THIN, THICK = 1.5, 92.0  # of the stream, at the smallest and the largest δ
ENDS = 5  # layers drawn at either end of a network too deep to be drawn whole
SIZE = (360, 240)  # of a chart: legible on a telephone
GRID = 4001  # places at which a transfer function is asked for its slope

_LIGHT = {
    "ink": "#1f2328", "box": "#f3f5f8", "line": "#59636e", "stream": "#0a58ca", "guilty": "#b0201c",
}  # fmt: skip
_DARK = {
    "ink": "#e6edf3", "box": "#1c2330", "line": "#9aa4af", "stream": "#6cb0ff", "guilty": "#ff8e86",
}  # fmt: skip


def _colours(c: dict[str, str]) -> str:
    rules = {
        "text": f"fill:{c['ink']}",
        ".faint": f"fill:{c['line']}",
        ".box": f"fill:{c['box']};stroke:{c['line']}",
        ".stream": f"fill:{c['stream']}",
        ".still": f"stroke:{c['line']}",
        ".guilty": f"fill:{c['guilty']}",
        ".wild": f"stroke:{c['guilty']}",
    }
    return "".join(f".cr-flow {name}{{{rule}}}" for name, rule in rules.items())


STYLE = (
    "<style>.cr-flow{max-width:100%;height:auto}"
    ".cr-flow text{font:12px system-ui,-apple-system,'Segoe UI',Roboto,sans-serif}"
    ".cr-flow .name{font-weight:600}.cr-flow .end{text-anchor:end}"
    ".cr-flow text.guilty{font-weight:700}.cr-flow .stream,.cr-flow path.guilty{fill-opacity:.75}"
    ".cr-flow .still,.cr-flow .wild{fill:none;stroke-width:2;stroke-dasharray:3 4}"
    f"{_colours(_LIGHT)}@media(prefers-color-scheme:dark){{{_colours(_DARK)}}}</style>"
)


# -- δ from the output back to the first layer -----------------------------------------------------


def span_of(*moments: Sequence[Flow]) -> tuple[float, float]:
    """The least and the greatest log₁₀ δ, so that pictures of several moments can be compared."""
    found = [words.decades(f.delta) for flows in moments for f in flows if _drawn(f.delta)]
    return min(found, default=0.0), max(found, default=0.0)


def flow_picture(
    flows: Sequence[Flow], span: tuple[float, float], guilty: Iterable[Factor] = (), title: str = ""
) -> str:
    """The layers from the output down, δ a stream between them as wide as log₁₀ δ is large.

    Each link shows its two factors where they act; one of these values that is among the guilty
    ones is coloured. A δ of exactly 0 is a dotted line, and so is one that is no number.
    """
    blamed = list(guilty)
    shown = _shown(flows, blamed)
    parts: list[str] = []
    y = TOP
    for place, k in enumerate(shown):
        if place:
            link = _Link(flows, shown[place - 1], k, span, blamed)
            parts += link.drawn(y)
            y += LINK
        parts.append(_box(flows[k], k + 1, y))
        y += BOX
    height = y + TOP
    told = escape(f"{title}: {_told(flows, shown)}")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="cr-flow" role="img" aria-label="{told}"'
        f' width="{_n(WIDE)}" height="{_n(height)}" viewBox="0 0 {_n(WIDE)} {_n(height)}">'
        f"<title>{escape(title)}</title>{STYLE}{''.join(parts)}</svg>"
    )


def _shown(flows: Sequence[Flow], guilty: Sequence[Factor]) -> list[int]:
    """The layers to be drawn, the output first: all, or those at the ends and at the fault."""
    count = len(flows)
    if count <= 2 * ENDS + 2:
        return list(reversed(range(count)))
    kept = {*range(ENDS), *range(count - ENDS, count)}
    for k in [k for k in range(count - 1) if any(_guilty(flows, k, guilty))][:ENDS]:
        kept |= {k, k + 1}
    return sorted(kept, reverse=True)


def _guilty(flows: Sequence[Flow], k: int, guilty: Iterable[Factor]) -> tuple[bool, bool]:
    """Whether the gain into layer k, and the slope of layer k, are what a finding blames."""
    flow, above = flows[k], flows[k + 1]
    gain = any(_same(f, "gain", above.layer, flow.gain) for f in guilty)
    return gain, any(_same(f, "slope", flow.layer, flow.slope) for f in guilty)


def _same(factor: Factor, kind: str, layer: str, value: float) -> bool:
    """A factor is of one moment: elsewhere the same link may have another value."""
    if (factor.kind, factor.layer) != (kind, layer):
        return False
    if math.isnan(value) or math.isnan(factor.value):
        return math.isnan(value) and math.isnan(factor.value)
    return value == factor.value or math.isclose(value, factor.value, rel_tol=1e-6)


class _Link:
    """What lies between two layers: the stream, narrowed by the gain and then by the slope."""

    def __init__(
        self, flows: Sequence[Flow], above: int, below: int, span: tuple[float, float],
        guilty: Sequence[Factor],
    ) -> None:  # fmt: skip
        self.top, self.bottom = flows[above].delta, flows[below].delta
        self.flow, self.above, self.below, self.span = flows[below], above, below, span
        self.whole = above == below + 1
        self.blamed = _guilty(flows, below, guilty) if self.whole else (False, False)

    def drawn(self, y: float) -> Iterator[str]:
        """The stream from y down, and the factors beside it."""
        half = y + LINK / 2
        upstream = self.top * self.flow.gain if self.whole else math.sqrt(self.top) * math.sqrt(
            self.bottom
        ) if min(self.top, self.bottom) >= 0 else math.nan  # fmt: skip
        yield self._piece(y, half, self.top, upstream, self.blamed[0])
        yield self._piece(half, y + LINK, upstream, self.bottom, self.blamed[1])
        if not self.whole:
            between = words.counted(self.above - self.below - 1, "layer")
            ratio = words.decades(self.bottom) - words.decades(self.top)
            yield _text("faint", 132, half - 3, f"… {between} between:")
            yield _text("", 132, half + 13, f"× {words.power(ratio)}")
            return
        yield self._factor(half - 13, self.flow.gain, f"W{self.above + 1}ᵀ", self.blamed[0])
        slope = f"{clean(self.flow.transfer, 12)}′{self.below + 1}" if self.flow.transfer else ""
        if slope:
            yield self._factor(half + 21, self.flow.slope, slope, self.blamed[1])

    def _factor(self, y: float, value: float, name: str, guilty: bool) -> str:
        mark = " ◄" if guilty else ""
        told = words.known if self.top == 0 else words.figure  # nothing to take a ratio of
        said = f"× {told(value, 2)} ({name}){mark}"
        return _text("guilty" if guilty else "", 132, y, said)

    def _piece(self, y: float, end: float, top: float, bottom: float, guilty: bool) -> str:
        """A part of the stream; it ends in a point where δ becomes exactly 0."""
        if not (_drawn(top) and (_drawn(bottom) or bottom == 0)):
            wild = not (math.isfinite(top) and math.isfinite(bottom))
            kind = "wild" if wild else "still"
            return f'<path class="{kind}" d="M{_n(MIDDLE)} {_n(y)}V{_n(end)}"/>'
        wide, narrow = self._width(top) / 2, self._width(bottom) / 2
        kind = "guilty" if guilty else "stream"
        return (
            f'<path class="{kind}" d="M{_n(MIDDLE - wide)} {_n(y)}H{_n(MIDDLE + wide)}'
            f'L{_n(MIDDLE + narrow)} {_n(end)}H{_n(MIDDLE - narrow)}z"/>'
        )

    def _width(self, delta: float) -> float:
        if delta == 0:
            return 0.0
        low, high = self.span
        share = (words.decades(delta) - low) / (high - low) if high > low else 0.5
        return THIN + min(max(share, 0.0), 1.0) * (THICK - THIN)


def _box(flow: Flow, number: int, y: float) -> str:
    frame = (
        f'<rect class="box" x="6" y="{_n(y)}" width="{_n(WIDE - 12)}" height="{_n(BOX)}" rx="6"/>'
    )
    kind = words.counted(flow.units, "unit")
    kind += f", {clean(flow.transfer, 14)}" if flow.transfer else ""
    return (
        frame
        + _text("name", 16, y + 19, f"layer {clean(flow.layer, 20)}")
        + _text("name end", WIDE - 16, y + 19, f"δ{number} = {words.figure(flow.delta, 2)}")
        + _text("faint", 16, y + 37, kind)
        + _text("guilty end", WIDE - 16, y + 37, _still(flow))
    )


def _still(flow: Flow) -> str:
    """What of a layer lets nothing through."""
    if flow.dead:
        return f"{len(flow.dead)} of {flow.units} dead"
    return f"{words.percent(flow.saturated)} saturated" if flow.saturated > HALF else ""


def _told(flows: Sequence[Flow], shown: Sequence[int]) -> str:
    named = [
        f"layer {clean(flows[k].layer, 20)} {words.figure(flows[k].delta, 2)}" for k in shown[:12]
    ]
    return f"RMS of δ from the output down: {', '.join(named)}"


def _drawn(delta: float) -> bool:
    return 0 < delta < math.inf


def _text(kind: str, x: float, y: float, said: str) -> str:
    if not said:
        return ""
    names = f' class="{kind}"' if kind else ""
    return f'<text{names} x="{_n(x)}" y="{_n(y)}">{escape(said)}</text>'


def _n(x: float) -> str:
    return f"{x:.1f}".removesuffix(".0")


# -- charts --------------------------------------------------------------------------------------


def flat_zones(transfer: str, low: float, high: float) -> list[tuple[str, float, float]]:
    """Where f′ is 0, or at most 4 % of its maximum for what levels off: by the engine's own rule.

    >>> flat_zones("relu", -1.0, 2.0)
    [('relu′ = 0', -1.0, 0.0)]
    """
    op = registry.get(transfer) if transfer in TRANSFER else None
    if not isinstance(op, Operation) or op.arity != 1 or not high > low:
        return []
    node = op(Parameter(np.zeros(1)))
    rule = node.op.locals[0] if node.op.locals else None
    if not callable(rule):
        return []
    limit = LEVEL * steepest(node) if transfer in LEVELLING else 0.0

    def is_flat(net: Any) -> Any:
        with np.errstate(all="ignore"):
            slope = np.abs(np.asarray(rule(net, op(net), **node.params)))
        return np.broadcast_to(slope <= limit, net.shape)

    word = f"{transfer}′ ≤ {100 * LEVEL:g} %" if limit else f"{transfer}′ = 0"
    net = np.linspace(low, high, GRID)
    flat = is_flat(net)
    turns = np.flatnonzero(flat[1:] != flat[:-1])
    places = [_turn(is_flat, net[k], net[k + 1], (high - low) / 1e6) for k in turns]
    ends = [low] * bool(flat[0]) + places + [high] * bool(flat[-1])
    return [(word, a, b) for a, b in zip(ends[::2], ends[1::2], strict=True)]


def _turn(is_flat: Any, a: float, b: float, step: float) -> float:
    """Where between a and b the flat part ends, to a step."""
    first = bool(is_flat(np.array(a)))
    while b - a > step / 10:
        middle = (a + b) / 2
        a, b = (middle, b) if bool(is_flat(np.array(middle))) == first else (a, middle)
    return round(a / step) * step + 0.0


def nets(flow: Flow, moment: str) -> Chart | None:
    """The histogram of a layer's nets over all rows, its flat zones shaded."""
    if not flow.counts:
        return None
    return plot.bars(
        flow.edges,
        flow.counts,
        title=f"net of layer {clean(flow.layer, 16)}, {moment}",
        x_label="net (pre-activation)",
        y_label="rows × units",
        zones=flat_zones(flow.transfer, flow.edges[0], flow.edges[-1]),
        size=SIZE,
    )


def losses(curves: Sequence[Curve], title: str) -> Chart | None:
    """Losses by epoch, on a log scale where they are positive and far apart."""
    shown = [curve for curve in curves if curve.loss]
    if not shown:
        return None
    series: dict[str, list[float]] = {}
    for curve, given in zip(shown, words.names(shown), strict=True):
        name = clean(given, 24)
        series[name if name not in series else f"{name} {len(series) + 1}"] = list(curve.loss)
    log = words.steep(shown)
    chart = plot.lines(series, title=title, x_label="epoch", y_label="loss", log_y=log, size=SIZE)
    # From 0 up, so that a loss which does not fall does not look as if it did.
    return chart if log else replace(chart, y=scale(series.values(), zero=True))
