"""Charts: golden pictures, every number shown where it is, nothing that breaks them, no way in."""

from __future__ import annotations

import math
import re
import sys
import unicodedata
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import golden
from chainrule import plot
from chainrule.errors import DataError
from chainrule.plot import Chart
from chainrule.plot.colours import LEVELS, LIGHT, STYLE
from chainrule.plot.reduce import density, thinned
from chainrule.plot.scale import Scale, scale
from draw.test_svg import HOSTILE

NS = "{http://www.w3.org/2000/svg}"
floats = st.floats(allow_nan=True, allow_infinity=True, width=64)


def parsed(chart: Chart) -> ElementTree.Element:
    return ElementTree.fromstring(chart.svg())


def texts(chart: Chart) -> list[str]:
    return [e.text or "" for e in parsed(chart).iter(f"{NS}text")]


def examples() -> dict[str, Chart]:
    epoch = np.arange(1.0, 31.0)
    wave = np.round(np.sin(epoch / 5), 3)
    return {
        "lines": plot.lines(
            {"training": 1 / epoch, "validation": 1 / epoch + 0.01 * epoch},
            title="Loss",
            x_label="epoch",
            log_y=True,
            at={"lowest": 10},
        ),
        "band": plot.lines({"f": (epoch, wave, wave - 0.2, wave + 0.1)}, title="Band"),
        "scatter": plot.scatter(
            wave, wave[::-1], labels=["a", "b"] * 15, diagonal=True, x_label="true", title="Dots"
        ),
        "histogram": plot.histogram(wave, bins=8, title="Residuals", at={"0": 0.0}),
        "confusion": plot.heat_map(
            [[5, 1], [0, 4]], ["no", "yes"], ["no", "yes"], title="C", x_label="predicted",
            y_label="true", split=True,
        ),
        "zones": plot.bars(
            np.linspace(-4, 4, 9), [1, 3, 6, 9, 9, 6, 3, 1], title="Nets", x_label="net",
            zones=[("flat", -np.inf, -2.5), ("flat", 2.5, 9.0), ("beyond", 7.0, 8.0)],
        ),
        "intervals": plot.intervals([("one", 0.9, 0.8, 0.95), ("two", 0.7, 0.6, 0.8)], title="A"),
    }  # fmt: skip


@pytest.mark.parametrize("name", examples())
def test_golden(name: str) -> None:
    golden.check(f"plot_{name}.svg", examples()[name].svg())


# -- numbers become places ---------------------------------------------------------------------


def test_a_curve_passes_through_its_points() -> None:
    chart = plot.lines({"f": ([0.0, 1.0, 2.0], [0.0, 4.0, 2.0])})
    (curve,) = [p for p in parsed(chart).iter(f"{NS}path") if "line" in (p.get("class") or "")]
    places = [float(n) for n in re.findall(r"-?[\d.]+", curve.get("d") or "")]
    x, y = np.array(places[::2]), np.array(places[1::2])
    assert (x[1] - x[0]) == pytest.approx(x[2] - x[1], abs=0.2)
    assert y[1] < y[2] < y[0]  # downwards on a page
    assert (y[0] - y[2]) / (y[0] - y[1]) == pytest.approx(0.5, abs=0.01)


def test_a_tick_stands_where_its_number_is() -> None:
    chart = plot.lines({"f": [1.0, 10.0, 100.0]}, log_y=True)
    marks = [e for e in parsed(chart).iter(f"{NS}text") if "end" in (e.get("class") or "")]
    height = {e.text: float(e.get("y") or 0) for e in marks}
    assert height["1"] - height["10"] == pytest.approx(height["10"] - height["100"], abs=0.2)


@given(st.lists(floats, max_size=12), st.booleans())
def test_ticks_are_few_in_order_and_inside(values: list[float], log: bool) -> None:
    found = scale([values], log=log)
    ticks = found.ticks()
    places = [place for place, _ in ticks]
    assert 1 <= len(ticks) <= 16
    assert places == sorted(set(places))
    assert len({word for _, word in ticks}) == len(ticks)
    air = 1e-6 * (found.high / 2 - found.low / 2)
    assert all(found.low - air <= place <= found.high + air for place in places)


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=9, unique=True))
def test_linear_ticks_are_1_2_or_5_times_a_power_of_ten_apart(values: list[float]) -> None:
    places = np.array([place for place, _ in scale([values]).ticks()])
    if len(places) < 2:
        return
    step = float(np.diff(places).mean())
    assert np.allclose(np.diff(places), step)
    mantissa = step / 10.0 ** math.floor(math.log10(step) + 1e-9)
    assert min(abs(mantissa - m) for m in (1, 2, 5)) < 1e-6


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_ticks_say_their_place(low: float, high: float) -> None:
    found = scale([[low, high]])
    for place, word in found.ticks():
        span = found.high - found.low
        assert float(word.replace("−", "-")) == pytest.approx(place, abs=1e-3 * span)


# -- whatever the numbers ------------------------------------------------------------------------


@given(st.lists(floats, max_size=20), st.lists(floats, max_size=20), st.booleans(), st.booleans())
@example([0.0], [2.225073858507203e-309], False, True)  # subnormal, on a log axis
@example([5e-324, 1e308], [1e-310, 2e-310], True, True)
def test_any_numbers_make_a_chart(xs: list[float], ys: list[float], a: bool, b: bool) -> None:
    count = min(len(xs), len(ys))
    x, y = xs[:count], ys[:count]
    charts = [
        plot.lines({"f": (x, y), "g": (x, y, y, y)}, log_x=a, log_y=b),
        plot.scatter(x, y, diagonal=a, log_x=a, log_y=a, labels=x if b else None),
        plot.histogram(x, bins=5),
        plot.bars([-1.0, 1.0, 1e300][: count + 1], y[:2], zones=[("z", *x[:2])][: count // 2])
        if count
        else plot.bars([], []),
        plot.intervals([("r", *t) for t in zip(x, y, y, strict=True)], log_x=a),
        plot.heat_map([x], ["r"], x) if count else plot.heat_map(np.zeros((0, 0)), [], []),
    ]
    for chart in charts:
        svg = chart.svg()
        ElementTree.fromstring(svg)
        drawn = " ".join(re.findall(r' (?:d|x|y|points|transform)="([^"]*)"', svg))
        assert not re.search(r"nan|inf|\de[+-]?\d", drawn)


def test_a_bar_stands_between_its_edges_as_high_as_its_count() -> None:
    chart = plot.bars([0.0, 1.0, 4.0], [2, 6])
    (drawn,) = [p for p in parsed(chart).iter(f"{NS}path") if p.get("class") == "bars d0"]
    first, second = re.findall(r"M(\S+) (\S+)V(\S+)H(\S+)V", drawn.get("d") or "")
    low, ground, top, high = (float(n) for n in first)
    start, _, peak, end = (float(n) for n in second)
    assert (end - start + 1) / (high - low + 1) == pytest.approx(3, abs=0.02)
    assert (ground - peak) / (ground - top) == pytest.approx(3, abs=0.02)
    assert start == pytest.approx(high + 1, abs=0.2)


def test_zones_are_shaded_within_the_axis_and_told() -> None:
    chart = examples()["zones"]
    assert chart.zones == (("flat", -4.0, -2.5), ("flat", 2.5, 4.0))
    assert "flat: from −4 to −2.5. flat: from 2.5 to 4." in chart.description
    boxes = [p.get("d") or "" for p in parsed(chart).iter(f"{NS}path") if p.get("class") == "minus"]
    (left, right), (start, end) = (re.findall(r"[MH](\S+?)[ V]", box) for box in boxes)
    places = [float(n) for n in (left, right, start, end)]
    assert (places[1] - places[0]) == pytest.approx((places[3] - places[0]) * 1.5 / 8, abs=0.2)
    assert places[3] - places[2] == pytest.approx(places[1] - places[0], abs=0.2)
    assert texts(chart).count("flat") == 2
    near = plot.bars([0, 1, 2], [1, 1], zones=[("a long word", 0, 0.1), ("another", 0.1, 0.2)])
    assert "another" not in texts(near)  # it would lie on the first; the description has it
    assert "another: from 0.1 to 0.2" in near.description


def test_a_spark_shows_levels_and_what_has_none() -> None:
    assert plot.spark(range(8)) == "▁▂▃▄▅▆▇█"
    assert plot.spark([1.0, math.nan, -1.0, 100.0], log=True) == "▁??█"
    assert plot.spark([2.0, 4.0], span=(0.0, 4.0)) == "▅█"
    assert plot.spark([10.0], span=(1.0, 1e4), log=True) == "▃"
    assert plot.spark([9.0, -9.0], span=(0.0, 1.0)) == "█▁"
    assert plot.spark([math.nan]) == plot.spark([]) == ""
    assert plot.spark([math.nan], span=(0.0, 1.0)) == "?"
    long = plot.spark(np.linspace(0, 1, 1000).tolist(), 16)
    assert long == "".join(sorted(long))
    assert (len(long), long[0], long[-1]) == (16, "▁", "█")


def test_what_cannot_be_drawn_is_counted() -> None:
    chart = plot.lines({"f": [1.0, math.nan, -1.0, math.inf, 0.0]}, log_y=True)
    assert chart.notes == ("2 values are not finite", "2 values are not positive")
    assert "2 values are not finite" in texts(chart)


def test_a_gap_is_a_gap_and_a_lone_point_is_seen() -> None:
    svg = plot.lines({"f": [1.0, 2.0, math.nan, 3.0, math.nan, 1.0, 2.0]}).svg()
    (curve,) = re.findall(r'class="line c0" d="([^"]*)"', svg)
    assert curve.count("M") == 2
    assert re.search(r'<path class="d0" d="M', svg)


@pytest.mark.parametrize(
    "chart", [plot.lines({}), plot.scatter([], []), plot.histogram([]), plot.bars([], [])]
)
def test_no_data_is_said(chart: Chart) -> None:
    assert "no data" in texts(chart)


def test_a_million_points_stay_small_and_keep_their_extremes() -> None:
    values = np.random.default_rng(0).normal(size=1_000_000)
    values[123_456] = 40.0
    svg = plot.lines({"f": values}).svg()
    assert len(svg) < 40_000
    (curve,) = re.findall(r'class="line c0" d="([^"]*)"', svg)
    top = min(float(y) for _, y in re.findall(r"[ML](\S+) ([\d.]+)", curve))
    assert top < 30  # the spike reaches the top of the plane
    assert len(plot.scatter(values, values[::-1]).svg()) < 150_000


def test_a_curve_that_runs_back_and_forth_is_thinned_too() -> None:
    angle = np.linspace(0, 600, 300_000)
    svg = plot.lines({"f": (np.cos(angle), np.sin(angle))}).svg()
    assert len(svg) < 200_000


@given(st.lists(st.floats(0, 50), min_size=1, max_size=400))
def test_thinning_covers_the_same_pixels(values: list[float]) -> None:
    y = np.array(values * 5)
    x = np.linspace(0, 9.99, len(y))
    few_x, few_y = thinned(x, y)
    for column in range(10):
        here, kept = y[np.floor(x) == column], few_y[np.floor(few_x) == column]
        if len(here):
            assert (here.min(), here.max()) == (kept.min(), kept.max())


def test_every_dot_counts_once() -> None:
    rng = np.random.default_rng(0)
    assert density(rng.normal(size=500), rng.normal(size=500), 0.3)[2].sum() == 500


# -- who reads it ------------------------------------------------------------------------------


def test_it_speaks_to_readers_who_do_not_see_it() -> None:
    root = parsed(plot.lines({"loss": [3.0, 1.0, 2.0]}, title="Loss", x_label="epoch"))
    assert root.get("role") == "img"
    label = root.get("aria-label")
    assert label == ("Loss by epoch. loss: 3 values, from 3 to 2; lowest 1 at 2, highest 3 at 1.")
    assert root.findtext(f"{NS}desc") == label


def _contrast(one: str, other: str) -> float:
    def light(colour: str) -> float:
        parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
        r, g, b = (v / 12.92 if v <= 0.03928 else ((v + 0.055) / 1.055) ** 2.4 for v in parts)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    high, low = sorted((light(one), light(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def _mixed(colour: str, ground: str, share: float) -> str:
    pairs = [(int(colour[k : k + 2], 16), int(ground[k : k + 2], 16)) for k in (1, 3, 5)]
    return "#" + "".join(f"{round(a * share + b * (1 - share)):02x}" for a, b in pairs)


def test_every_colour_can_be_seen_in_light_and_dark() -> None:
    light, dark = STYLE.split("@media")
    for sheet, ground in ((light, "#ffffff"), (dark, "#0d1117")):
        series = re.findall(r"\.[cd]\d\{(?:stroke|fill):(#\w{6})", sheet)
        assert len(series) == 16
        assert min(_contrast(colour, ground) for colour in series) >= 3
        for name in ("plus", "minus"):
            (colour,) = re.findall(rf"\.{name}\{{fill:(#\w{{6}})", sheet)
            ink = re.findall(r"text\{fill:(#\w{6})", sheet)[0]
            for level, share in enumerate(LEVELS):
                word = ground if level >= 8 else ink
                assert _contrast(word, _mixed(colour, ground, share)) >= 4.2
    assert LIGHT["paper"] == "#ffffff"


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_name_adds_nothing(name: str) -> None:
    def made(name: str) -> list[ElementTree.Element]:
        charts = [
            plot.lines({name: [1.0, 2.0], name + "2": [2.0, 1.0]}, title=name, x_label=name,
                       y_label=name, at={name: 1}),
            plot.scatter([1, 2], [1, 2], labels=[name, "b"], title=name),
            plot.heat_map([[1, 2]], [name], [name, "b"], title=name),
            plot.intervals([(name, 1, 0, 2)], title=name),
            plot.bars([0, 1, 2], [1, 2], title=name, zones=[(name, 0, 1)]),
        ]  # fmt: skip
        return [parsed(chart) for chart in charts]

    wide = "".join("数" if unicodedata.east_asian_width(c) in "WF" else "n" for c in name)
    for hostile, plain in zip(made(name), made(wide), strict=True):
        assert [e.tag for e in hostile.iter()] == [e.tag for e in plain.iter()]
        allowed = {key for e in plain.iter() for key in e.attrib} | {"transform", "x", "y"}
        assert {key for e in hostile.iter() for key in e.attrib} <= allowed


def test_the_bytes_are_the_same_each_time() -> None:
    again = examples()
    assert all(chart.svg() == again[name].svg() for name, chart in examples().items())


# -- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", examples())
def test_the_same_chart_is_painted_by_matplotlib(name: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    paths = [tmp_path / "one.png", tmp_path / "two.png"]
    for path in paths:
        examples()[name].save(path)
    first, second = (path.read_bytes() for path in paths)
    assert first.startswith(b"\x89PNG")
    assert first == second


def test_odd_numbers_and_names_reach_matplotlib_unharmed(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    wild = [1e308, -1e308, math.nan, math.inf, 0.0, 5e-324]
    plot.lines({"$a_{": wild, "\x00數": wild}, title="$x$ \n", log_y=True).save(tmp_path / "a.png")
    plot.scatter(wild, wild, labels=["$", "_a", "b", "c", "d", "e"]).save(tmp_path / "b.pdf")
    plot.lines({}).save(tmp_path / "c.png")
    assert (tmp_path / "b.pdf").read_bytes().startswith(b"%PDF")


def test_a_picture_without_matplotlib_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(DataError, match=r"pip install 'chainrule\[plots\]'"):
        plot.lines({"f": [1.0]}).save(tmp_path / "a.png")
    plot.lines({"f": [1.0]}).save(tmp_path / "a.svg")
    assert (tmp_path / "a.svg").read_text(encoding="utf-8").startswith("<svg")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: plot.lines({"f": ([1], [1, 2])}), "one length"),
        (lambda: plot.lines({"f": ([1], [1], [1])}), "got 3 parts"),
        (lambda: plot.lines({"f": ["a"]}), "must be numbers"),
        (lambda: plot.lines({"f": [[1, 2]]}), "one row"),
        (lambda: plot.heat_map([[1]], ["a", "b"], ["c"]), "a name for each"),
        (lambda: plot.heat_map([["x"]], ["a"], ["c"]), "matrix of numbers"),
        (lambda: plot.histogram([1], bins=0), "at least 1"),
        (lambda: plot.bars([0, 1], [1, 2]), "one edge more than heights, got 2 and 2"),
        (lambda: plot.bars([0, 0, 1], [1, 2]), "edges must be finite numbers that rise"),
        (lambda: plot.bars([0, math.inf], [1]), "edges must be finite numbers that rise"),
        (lambda: plot.lines({"f": [1]}).save("chart.gif"), "saved as .svg"),
    ],
)
def test_bad_input_is_refused_in_a_line(make: Any, message: str) -> None:
    with pytest.raises(DataError, match=message) as error:
        make()
    assert "\n" not in str(error.value)


def test_a_large_matrix_is_averaged_in_blocks() -> None:
    chart = plot.heat_map(np.ones((500, 300)), range(500), range(300))
    assert chart.marks[0].values.shape == (100, 100)
    assert (chart.marks[0].values == 1).all()
    assert "averaged in blocks" in chart.notes[0]


def test_a_scale_shares_its_span() -> None:
    assert Scale(0.0, 4.0).share([0.0, 1.0, 4.0]).tolist() == [0.0, 0.25, 1.0]
    assert Scale(1.0, 100.0, log=True).share([1.0, 10.0]).tolist() == [0.0, 0.5]
