"""Charts painted as SVG: no script, no font or file from elsewhere, readable in light and dark."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..page import escape
from .chart import Bars, Cells, Chart, Dots, Line, Spans
from .colours import LEVELS, STYLE, strengths
from .reduce import density, thinned, whole_runs
from .scale import short

__all__ = ["svg"]

Floats = NDArray[np.float64]
EM = 0.56  # a letter's width, in font sizes
TEXT, HEAD = 12, 14
KINDS = 8  # colours, then they come again
LABEL = 26  # letters of a name that are shown
DOTS = 3000  # different places; more are shown by how many fall on a square


def svg(chart: Chart) -> str:
    """The chart as one `<svg>` element; the same chart gives the same bytes."""
    mark = chart.marks[0] if chart.marks else None
    if isinstance(mark, Cells) and mark.values.size:
        size, body = _cells(chart, mark)
    elif isinstance(mark, Spans) and mark.labels:
        size, body = _spans(chart, mark)
    else:
        size, body = _plane(chart)
    told = escape(chart.description + "".join(f" {note}." for note in chart.notes))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="cr-chart" role="img" aria-label="{told}"'
        f' width="{size[0]}" height="{size[1]}" viewBox="0 0 {size[0]} {size[1]}">'
        f"<title>{escape(chart.title or 'Chart')}</title><desc>{told}</desc>{STYLE}"
        f'<rect class="paper" width="{size[0]}" height="{size[1]}"/>{body}</svg>\n'
    )


# -- curves, dots and bars on two axes ---------------------------------------------------------


@dataclass
class _Frame:
    """Where the plane lies, and how numbers become pixels in it."""

    chart: Chart
    left: float
    top: float
    right: float
    bottom: float

    def x(self, values: Floats | float) -> Floats:
        """Pixels from the left."""
        return self.left + self.chart.x.share(values) * (self.right - self.left)  # type: ignore[no-any-return]

    def y(self, values: Floats | float) -> Floats:
        """Pixels from the top."""
        return self.bottom - self.chart.y.share(values) * (self.bottom - self.top)  # type: ignore[no-any-return]


def _plane(chart: Chart) -> tuple[tuple[int, int], str]:
    width, height = chart.size
    named = [m for m in chart.marks if isinstance(m, (Line, Dots)) and m.name]
    names = [_cut(m.name) for m in named]
    up = chart.y.ticks()
    left = 14 + max((_width(word) for _, word in up), default=0) + (20 if chart.y_label else 0)
    top = 14 + (22 if chart.title else 0)
    beside = _beside(chart, named, names, width, height)
    key, rows = ("", 0) if beside or len(names) < 2 else _key(names, named, left, top, width)
    top += 18 * rows + (14 if chart.at or chart.zones else 0)
    below = 24 + (20 if chart.x_label else 0) + 16 * len(chart.notes)
    right = width - 14 - (beside + 10 if beside else 0)
    frame = _Frame(chart, left, top, right, max(top + 40, height - below))
    body = [_zones(frame), _grid(frame), *_marks(frame), _titles(frame, width), key]
    if beside:
        body.append(_ends(frame, named, names))
    if not chart.marks or not any(_size(m) for m in chart.marks):
        middle = (frame.left + frame.right) / 2, (frame.top + frame.bottom) / 2
        body.append(_text("q mid", *middle, "no data"))
    return (width, round(frame.bottom + below)), "".join(body)


def _size(mark: object) -> int:
    if isinstance(mark, (Line, Dots)):
        return len(mark.x)
    return 1


def _beside(
    chart: Chart, named: list[Line | Dots], names: list[str], width: int, height: int
) -> float:
    """The width of names at the curves' ends, or 0 where they do not fit there."""
    widest = max((_width(name) for name in names), default=0.0)
    curves = all(isinstance(m, Line) and np.isfinite(m.y).any() for m in named)
    roomy = len(names) * 14 <= height - 90 and widest <= 0.24 * width
    return widest if curves and roomy and len(names) >= 2 else 0.0


def _key(
    names: list[str], named: list[Line | Dots], left: float, top: float, width: int, most: int = 24
) -> tuple[str, int]:
    """The legend above the plane, in as many rows as it takes."""
    parts, x, row = [], left, 0
    for k, name in enumerate(names[:most]):
        wide = 30 + _width(name) + 14
        if x > left and x + wide > width - 8:
            x, row = left, row + 1
        y = top + 4 + 18 * row
        if isinstance(named[k], Line):
            parts.append(f'<path class="line c{k % KINDS}" d="M{_n(x)} {_n(y)}h22"/>')
        else:
            parts.append(f'<path class="d{k % KINDS}" d="{_shape(k, x + 11, y, 4)}"/>')
        parts.append(_text("", x + 28, y + 4, name))
        x += wide
    if len(names) > most:
        parts.append(_text("q", left, top + 8 + 18 * (row + 1), f"and {len(names) - most} more"))
        row += 1
    return "".join(parts), row + 1


def _ends(frame: _Frame, named: list[Line | Dots], names: list[str]) -> str:
    """Each curve's name beside its last point, moved apart where they would touch."""
    last = []
    for k, mark in enumerate(named):
        y = frame.y(mark.y[np.isfinite(mark.y)][-1:])
        last.append((float(y[0]) if np.isfinite(y[0]) else frame.bottom, k))
    last.sort()
    places = [y for y, _ in last]
    for k in range(1, len(places)):
        places[k] = max(places[k], places[k - 1] + 14)
    over = max(0.0, places[-1] - frame.bottom)
    for k in range(len(places) - 1, -1, -1):
        limit = places[k + 1] - 14 if k + 1 < len(places) else frame.bottom
        places[k] = min(places[k], limit) if over else places[k]
    return "".join(
        _text(f"d{k % KINDS}", frame.right + 8, place + 4, names[k])
        for place, (_, k) in zip(places, last, strict=True)
    )


def _grid(frame: _Frame) -> str:
    lines, words = [], []
    room = max(3, int((frame.right - frame.left) / 70))
    for value, word in frame.chart.y.ticks():
        y = float(frame.y(value))
        lines.append(f"M{_n(frame.left)} {_n(y)}H{_n(frame.right)}")
        words.append(_text("q end", frame.left - 6, y + 4, word))
    end = -1e9
    for value, word in frame.chart.x.ticks(room):
        x = float(frame.x(value))
        lines.append(f"M{_n(x)} {_n(frame.top)}V{_n(frame.bottom)}")
        if x - _width(word) / 2 >= end:
            words.append(_text("q mid", x, frame.bottom + 16, word))
            end = x + _width(word) / 2 + 4
    axis = f"M{_n(frame.left)} {_n(frame.top)}V{_n(frame.bottom)}H{_n(frame.right)}"
    grid = f'<path class="grid" d="{"".join(lines)}"/>'
    return f'{grid}<path class="axis" d="{axis}"/>{"".join(words)}'


def _titles(frame: _Frame, width: int) -> str:
    chart, parts = frame.chart, []
    if chart.title:
        parts.append(_text("t", 12, 22, _fit(chart.title, width - 24, HEAD)))
    y = frame.bottom + 16
    if chart.x_label:
        y += 20
        wide = frame.right - frame.left
        parts.append(
            _text("q mid", (frame.left + frame.right) / 2, y, _fit(chart.x_label, wide, TEXT))
        )
    if chart.y_label:
        middle = (frame.top + frame.bottom) / 2
        word = escape(_fit(chart.y_label, frame.bottom - frame.top, TEXT))
        turn = f"translate(16 {_n(middle)}) rotate(-90)"
        parts.append(f'<text class="q mid" transform="{turn}">{word}</text>')
    parts += [_text("q", 12, y + 16 * (k + 1), note) for k, note in enumerate(chart.notes)]
    return "".join(parts)


def _marks(frame: _Frame) -> list[str]:
    parts = [_rule(frame, word, place) for word, place in frame.chart.at]
    if frame.chart.diagonal:
        low, high = frame.chart.x.low, frame.chart.x.high
        start, end = (float(frame.x(v)) for v in (low, high))
        parts.append(
            f'<path class="rule" d="M{_n(start)} {_n(float(frame.y(low)))}'
            f'L{_n(end)} {_n(float(frame.y(high)))}"/>'
        )
    for k, mark in enumerate(frame.chart.marks):
        if isinstance(mark, Line):
            parts.append(_curve(frame, mark, k % KINDS))
        elif isinstance(mark, Dots):
            parts.append(_dots(frame, mark, k))
        elif isinstance(mark, Bars):
            parts.append(_bars(frame, mark))
    return parts


def _zones(frame: _Frame) -> str:
    """Parts of the plane shaded, each with its word above, unless that would touch another's."""
    parts, end = [], -1e9
    for word, low, high in sorted(frame.chart.zones, key=lambda zone: zone[1]):
        left, right = float(frame.x(low)), float(frame.x(high))
        box = f"M{_n(left)} {_n(frame.top)}H{_n(right)}V{_n(frame.bottom)}H{_n(left)}z"
        parts.append(f'<path class="minus" fill-opacity="0.18" d="{box}"/>')
        word = _cut(word)
        half = _width(word) / 2
        middle = min(max((left + right) / 2, frame.left + half), frame.right - half)
        if middle - half >= end:
            parts.append(_text("q mid", middle, frame.top - 5, word))
            end = middle + half + 6
    return "".join(parts)


def _rule(frame: _Frame, word: str, place: float) -> str:
    x = float(frame.x(place))
    if not frame.left - 0.5 <= x <= frame.right + 0.5:
        return ""
    word = _cut(word)
    half = _width(word) / 2
    middle = min(max(x, frame.left + half), frame.right - half)
    rule = f'<path class="rule" d="M{_n(x)} {_n(frame.top)}V{_n(frame.bottom)}"/>'
    return rule + _text("q mid", middle, frame.top - 5, word)


def _curve(frame: _Frame, line: Line, kind: int) -> str:
    x, y = frame.x(line.x), frame.y(line.y)
    parts = []
    if line.low is not None and line.high is not None:
        parts.append(_band(frame, x, frame.y(line.low), frame.y(line.high), kind))
    spots, path = [], []
    for start, end in whole_runs(x, y):
        if end - start == 1:
            spots.append(_shape(0, float(x[start]), float(y[start]), 3))
        else:
            path.append(_path(*thinned(x[start:end], y[start:end])))
    if path:
        parts.append(f'<path class="line c{kind}" d="{"".join(path)}"/>')
    if spots:
        parts.append(f'<path class="d{kind}" d="{"".join(spots)}"/>')
    return "".join(parts)


def _band(frame: _Frame, x: Floats, low: Floats, high: Floats, kind: int) -> str:
    pieces = []
    for start, end in whole_runs(x, low + high):
        over, above = thinned(x[start:end], high[start:end])
        back, under = thinned(x[start:end], low[start:end])
        pieces.append(
            _path(over, above) + _path(back[::-1], under[::-1]).replace("M", "L", 1) + "z"
        )
    return f'<path class="band d{kind}" d="{"".join(pieces)}"/>' if pieces else ""


def _path(x: Floats, y: Floats) -> str:
    points = [f"{_n(a)} {_n(b)}" for a, b in zip(x.tolist(), y.tolist(), strict=True)]
    return "M" + "L".join(dict.fromkeys(points) if len(points) == 2 else points)


def _dots(frame: _Frame, dots: Dots, k: int) -> str:
    x, y = frame.x(dots.x), frame.y(dots.y)
    good = np.isfinite(x) & np.isfinite(y)
    columns, rows, _ = density(x[good] + 0.05, y[good] + 0.05, 0.1)
    if len(columns) > DOTS:
        return _squares(x[good], y[good], k % KINDS)
    radius = 3 if len(columns) <= 400 else 2
    spots = zip((columns / 10).tolist(), (rows / 10).tolist(), strict=True)
    path = "".join(_shape(k, a, b, radius) for a, b in spots)
    return f'<path class="dots d{k % KINDS}" d="{path}"/>' if path else ""


def _squares(x: Floats, y: Floats, kind: int, side: int = 3) -> str:
    """Many points: darker where more of them fall on a square, by their logarithm."""
    columns, rows, counts = density(x, y, side)
    share = np.log1p(counts) / np.log1p(counts.max())
    level = np.minimum(9, (share * 10).astype(int))
    parts = []
    for one in np.unique(level).tolist():
        here = level == one
        spots = zip((columns[here] * side).tolist(), (rows[here] * side).tolist(), strict=True)
        path = "".join(f"M{a} {b}h{side}v{side}h-{side}z" for a, b in spots)
        parts.append(f'<path class="d{kind}" fill-opacity="{(one + 1) / 10:g}" d="{path}"/>')
    return "".join(parts)


def _bars(frame: _Frame, bars: Bars) -> str:
    x, y, ground = frame.x(bars.edges), frame.y(bars.heights), float(frame.y(0.0))
    gap = 1.0 if len(x) > 1 and x[1] - x[0] > 4 else 0.0
    path = "".join(
        f"M{_n(a)} {_n(ground)}V{_n(top)}H{_n(b - gap)}V{_n(ground)}z"
        for a, b, top in zip(x[:-1].tolist(), x[1:].tolist(), y.tolist(), strict=True)
        if top != ground
    )
    return f'<path class="bars d0" d="{path}"/>' if path else ""


def _shape(k: int, x: float, y: float, r: float) -> str:
    """The outline of a group's dot: round, square, triangle, diamond …"""
    kind = k % 5
    if kind == 0:
        return f"M{_n(x - r)} {_n(y)}a{r} {r} 0 1 0 {2 * r} 0a{r} {r} 0 1 0 -{2 * r} 0z"
    if kind == 1:
        return f"M{_n(x - r)} {_n(y - r)}h{2 * r}v{2 * r}h-{2 * r}z"
    if kind == 2:
        return f"M{_n(x)} {_n(y - r - 1)}l{r + 1} {2 * r + 1}h-{2 * r + 2}z"
    if kind == 3:
        return f"M{_n(x)} {_n(y - r - 1)}l{r + 1} {r + 1}l-{r + 1} {r + 1}l-{r + 1} -{r + 1}z"
    return f"M{_n(x)} {_n(y + r + 1)}l{r + 1} -{2 * r + 1}h-{2 * r + 2}z"


# -- heat maps ---------------------------------------------------------------------------------


def _cells(chart: Chart, cells: Cells) -> tuple[tuple[int, int], str]:
    rows, columns = [[_cut(name, 18) for name in names] for names in (cells.rows, cells.columns)]
    words = [[_figure(v) for v in row] for row in cells.values.tolist()]
    broad = max(_width(word) for row in words for word in row) + 10
    side = min(64.0, max(broad, 26.0, 240 / len(columns))) if len(columns) <= 16 else 0.0
    told = side > 0 and len(rows) <= 24
    wide, tall = (side, min(34.0, side)) if told else (_side(len(columns)), _side(len(rows)))
    shown_rows, shown_columns = tall >= 12, wide >= 12
    turned = shown_columns and any(_width(name) > wide - 4 for name in columns)
    left = 16.0 + (20 if chart.y_label else 0)
    left += max(map(_width, rows)) + 8 if shown_rows else 0
    top = 16.0 + (24 if chart.title else 0)
    right, bottom = left + wide * len(columns), top + tall * len(rows)
    foot = max(map(_width, columns)) * 0.72 + 14 if turned else 22
    foot = foot if shown_columns else 6
    lean = max(_width(columns[0]) * 0.72 - left, 0.0) if turned else 0  # out of the left edge
    left, right = left + lean, right + lean
    parts = [_squared(cells, left, top, wide, tall, words if told else None)]
    if shown_rows:
        parts += [
            _text("end", left - 7, top + (k + 0.5) * tall + 4, name) for k, name in enumerate(rows)
        ]
    if shown_columns:
        for k, name in enumerate(columns):
            x = left + (k + 0.5) * wide
            if turned:
                turn = f"translate({_n(x + 4)} {_n(bottom + 14)}) rotate(-45)"
                parts.append(f'<text class="end" transform="{turn}">{escape(name)}</text>')
            else:
                parts.append(_text("mid", x, bottom + 17, name))
    total = max(right + 16, 16 + _width(chart.title, HEAD) + 16, 200)
    frame = _Frame(chart, left, top, right, bottom + foot - 16)
    parts.append(_titles(_Frame(chart, left, top, right, bottom + foot - 18), round(total)))
    below = (24 if chart.x_label else 0) + 16 * len(chart.notes) + 10
    return (round(total), round(frame.bottom + 16 + below)), "".join(parts)


def _side(count: int) -> float:
    """The width of a cell without figures."""
    return max(3.0, min(18.0, 400 / count))


def _figure(value: float) -> str:
    return "" if value == 0 else short(value, 3)


def _squared(
    cells: Cells, left: float, top: float, wide: float, tall: float, words: list[list[str]] | None
) -> str:
    """The cells by colour and strength, with their figures on top."""
    kinds, levels = strengths(cells)
    paths: dict[tuple[str, int], list[str]] = {}
    texts = []
    for row, column in np.ndindex(cells.values.shape):
        x, y = left + column * wide, top + row * tall
        kind, level = str(kinds[row, column]), int(levels[row, column])
        gap = 1 if wide >= 8 else 0
        box = f"M{_n(x)} {_n(y)}h{_n(wide - gap)}v{_n(tall - gap)}h-{_n(wide - gap)}z"
        if kind:
            paths.setdefault((kind, level), []).append(box)
        if words and words[row][column]:
            on = " on" if kind != "bad" and level >= 8 else ""
            place = x + (wide - gap) / 2, y + tall / 2 + 4
            texts.append(_text(f"mid{on}", *place, words[row][column]))
    height, width = len(cells.rows) * tall, len(cells.columns) * wide
    around = f"M{_n(left - 1)} {_n(top - 1)}h{_n(width + 1)}v{_n(height + 1)}h-{_n(width + 1)}z"
    fills = "".join(
        f'<path class="{kind}" fill-opacity="{LEVELS[level]:g}" d="{"".join(boxes)}"/>'
        for (kind, level), boxes in sorted(paths.items())
    )
    return f'{fills}<path class="grid" d="{around}"/>{"".join(texts)}'


# -- intervals ---------------------------------------------------------------------------------


def _spans(chart: Chart, spans: Spans) -> tuple[tuple[int, int], str]:
    width, names = chart.size[0], [_cut(name) for name in spans.labels]
    left = 16 + min(max(map(_width, names)), 0.42 * width) + 8
    top = 14 + (24 if chart.title else 0)
    frame = _Frame(chart, left, top, width - 20, top + 24 * len(names))
    lines, words, bars, dots, end = [], [], [], [], -1e9
    for value, word in chart.x.ticks(max(3, int((frame.right - left) / 70))):
        x = float(frame.x(value))
        lines.append(f"M{_n(x)} {_n(top)}V{_n(frame.bottom)}")
        if x - _width(word) / 2 >= end:
            words.append(_text("q mid", x, frame.bottom + 16, word))
            end = x + _width(word) / 2 + 4
    low, high, middle = frame.x(spans.low), frame.x(spans.high), frame.x(spans.value)
    for k, name in enumerate(names):
        y = top + 24 * k + 12
        words.append(_text("end", left - 8, y + 4, _fit(name, left - 20, TEXT)))
        if np.isfinite(low[k] + high[k]):
            bars.append(f"M{_n(low[k])} {_n(y)}H{_n(high[k])}")
        if np.isfinite(middle[k]):
            dots.append(_shape(0, float(middle[k]), y, 4))
    body = (
        f'<path class="grid" d="{"".join(lines)}"/>'
        f'<path class="line c0" d="{"".join(bars)}"/><path class="d0" d="{"".join(dots)}"/>'
    )
    below = 24 + (20 if chart.x_label else 0) + 16 * len(chart.notes)
    size = (width, round(frame.bottom + below))
    return size, body + "".join(words) + _titles(frame, width)


# -- words and numbers -------------------------------------------------------------------------


def _text(kind: str, x: float, y: float, words: str) -> str:
    names = f' class="{kind}"' if kind else ""
    return f'<text{names} x="{_n(x)}" y="{_n(y)}">{escape(words)}</text>'


def _width(text: str, size: int = TEXT) -> float:
    """How wide a text is taken to be: letters of Asian scripts count twice."""
    return size * EM * sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _cut(name: str, most: int = LABEL) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"


def _fit(text: str, width: float, size: int) -> str:
    return _cut(text, max(4, int(width / (size * EM))))


def _n(x: float) -> str:
    """A coordinate to a tenth of a pixel."""
    return f"{x + 0.0:.1f}".removesuffix(".0") if abs(x) >= 0.05 else "0"
