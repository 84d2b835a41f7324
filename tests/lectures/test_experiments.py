"""The experiments on activation and data: what they measure, measured another way."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.compare.presets import PRESETS, Replay
from chainrule.lectures import claims, curves, dying, practice, site, zigzag
from chainrule.lectures.exhibit import Exhibit
from chainrule.lectures.systems import SYSTEMS, Result
from chainrule.plot.chart import Dots

PICTURES = re.compile(r'<svg [^>]*class="cr-chart"')


# -- x = −10, 0, 10 -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(curves.FUNCTIONS))
def test_the_local_derivative_is_that_of_differences(name: str) -> None:
    function = curves.FUNCTIONS[name]
    x = np.array([-10.0, -1.3, 0.7, 10.0])
    found, h = curves.reading(function, x), 1e-6
    ends = [np.asarray(function(x + s)) for s in (h, -h)]
    np.testing.assert_allclose(found.local, (ends[0] - ends[1]) / (2 * h), rtol=1e-4, atol=1e-9)
    np.testing.assert_array_equal(found.back, found.local)
    np.testing.assert_array_equal(found.out, np.asarray(function(x)))


def test_the_local_derivative_is_the_edges_own_not_the_gradient_that_arrives() -> None:
    """Of a circuit of several gates no edge has the whole derivative."""
    x = np.array([-1.0, 2.0])
    once = curves.reading(cr.tanh, x)
    twice = curves.reading(lambda v: 2.0 * cr.tanh(v), x)
    np.testing.assert_allclose(twice.local, 2 * once.local, rtol=1e-15)
    np.testing.assert_allclose(curves.reading(lambda v: v * v, x).local, 2 * x, rtol=1e-15)


def test_the_table_and_the_charts_show_the_three_points() -> None:
    shown = curves.three_points()
    rows = {(row[0], row[1]): row for row in shown.rows}
    assert len(rows) == 3 * len(curves.FUNCTIONS)
    assert rows["sigmoid", "0"][2:5] == ("0.5", "0.25", "0.25")
    assert rows["relu", "−10"][-1] == "nothing comes back"
    assert rows["tanh", "10"][-1] == "little comes back"
    assert rows["maxout", "−10"][3] == "−0.5"
    for chart in shown.charts:
        (points,) = [mark for mark in chart.marks if isinstance(mark, Dots)]
        assert points.x.tolist() == 2 * curves.FAR.tolist()
        assert [place for _, place in chart.at] == curves.FAR.tolist()
        assert "Marked: at −10 f is" in chart.description


def test_times_are_read_in_turns() -> None:
    calls: list[str] = []
    found = curves.readings({"a": lambda x: calls.append("a"), "b": lambda x: calls.append("b")}, 3)
    assert calls == ["a", "b"] * 3
    assert all(len(seconds) == 3 and min(seconds) >= 0 for seconds in found.values())


# -- the zig-zag --------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_positive_inputs_move_both_weights_one_way_and_centred_ones_do_not(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(0.01, 3.0, size=(20, 2)), rng.uniform(0, 1, size=20)
    assert zigzag.walk(x, y, 1.0, 60).one_sign == 1.0
    assert zigzag.walk(x - x.mean(axis=0), y, 1.0, 60).one_sign < 1.0


def test_a_walk_is_sgd_by_the_formula() -> None:
    x, y = zigzag.inputs()["all positive"], np.linspace(0, 1, zigzag.ROWS)
    w, b = zigzag.START, 0.0
    walked = zigzag.walk(x, y, 2.0, 80)
    for k in range(80):
        row = x[k % len(x)]
        out = 1 / (1 + math.exp(-(row @ w + b)))
        delta = (out - y[k % len(x)]) * out * (1 - out)
        w, b = w - 2.0 * delta * row, b - 2.0 * delta
        np.testing.assert_allclose(walked.weights[k + 1], w, rtol=1e-12)


@pytest.mark.parametrize(
    ("losses", "arrived"),
    [
        ([1.0, 1e-5, 1e-6], 2),
        ([1.0, 1e-5, 1.0, 1e-5], 4),  # it left again
        ([1e-5, 1e-5], 1),
        ([1.0, 1e-5, 1.0], math.inf),
        ([1.0, math.nan], math.inf),
    ],
)
def test_a_walk_has_arrived_where_its_loss_stays_low(losses: list[float], arrived: float) -> None:
    one = zigzag.Walk(1.0, np.zeros((2, 2)), np.zeros((1, 2)), np.array(losses))
    assert one.arrived == arrived


def test_a_step_of_no_length_has_no_direction() -> None:
    steps = np.array([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
    assert zigzag.cosines_of(steps).tolist() == pytest.approx([math.sqrt(0.5)])


def test_the_pictures_hold_start_and_optimum() -> None:
    for chart in zigzag.zig_zag().charts[:2]:
        for axis, k in ((chart.x, 0), (chart.y, 1)):
            for place in (zigzag.START[k], zigzag.WANTED[k]):
                assert axis.low < place < axis.high


def test_the_line_needs_the_steps_that_its_curvature_says() -> None:
    """At rate 1/λ_max the slow direction shrinks by 1 − 1/κ a step, its loss by the square."""
    far, centred = zigzag.descents().values()
    shrink = np.sqrt((far.losses[1:] - 1)[-1] / (far.losses[1:] - 1)[-2])
    assert shrink == pytest.approx(1 - 1 / far.condition, rel=1e-6)
    assert far.steps > 100 * centred.steps
    assert far.losses[-1] <= zigzag.CLOSE < far.losses[-2]


# -- the dead ReLU ------------------------------------------------------------------------------


def test_the_share_that_is_dead_at_the_start_is_counted_by_hand() -> None:
    x = dying.starts()["iris, in cm"]
    layer = nn.Linear(4, dying.DRAWN, init="he_uniform", seed=dying.SEED, dtype=np.float64)
    nets = x @ np.asarray(layer.weight.value).T - 1.0
    by_hand = sum(bool((nets[:, k] <= 0).all()) for k in range(dying.DRAWN)) / dying.DRAWN
    assert dying.dead_at_start(x, -1.0) == by_hand
    assert 0 < dying.dead_at_start(x) < by_hand < 1


def _moment(net: list[list[float]]) -> dying.Moment:
    return dying.Moment({}, 0.0, np.array(net), np.zeros_like(net), {})


def test_a_unit_that_wakes_again_has_not_died() -> None:
    """Unit 0 is dead from the start, 1 dies in step 2, 2 naps at step 1, 3 lives on one row."""
    story = [
        [[-1.0, 1.0, 1.0, -1.0], [0.0, 1.0, 1.0, 1.0]],
        [[-1.0, -1.0, -1.0, -1.0], [-1.0, 0.1, -1.0, 1.0]],
        [[-1.0, -1.0, 1.0, -1.0], [-1.0, -1.0, 1.0, 1.0]],
        [[-1.0, 0.0, 1.0, -1.0], [-1.0, -1.0, 1.0, 1.0]],
    ]
    found = dying.deaths([_moment(net) for net in story])
    assert found == [dying.Death(0, 0), dying.Death(1, 2)]


def test_the_unit_dies_in_the_step_that_is_named() -> None:
    made = dying.run("relu", dying.TOO_HIGH)
    for one in dying.deaths(made):
        assert made[one.step - 1].net[:, one.unit].max() > 0
        assert made[one.step - 1].reaching(one.unit) > 0
        for after in made[one.step :]:
            assert after.net[:, one.unit].max() <= 0
            assert not after.delta[:, one.unit].any()
            np.testing.assert_array_equal(
                after.weights["W1"][one.unit], made[one.step].weights["W1"][one.unit]
            )


def test_a_moments_gradient_is_that_of_differences() -> None:
    weights, h = dying.start(), 1e-6
    found = dying.moment(weights, cr.relu)
    for name in weights:
        at = (0,) * weights[name].ndim
        ends = []
        for step in (h, -h):
            moved = {k: v.copy() for k, v in weights.items()}
            moved[name][at] += step
            ends.append(dying.moment(moved, cr.relu).loss)
        assert found.gradient[name][at] == pytest.approx((ends[0] - ends[1]) / (2 * h), rel=1e-5)


@pytest.mark.parametrize(("share", "awake"), [(0.99, False), (1.01, True)])
def test_a_bias_that_lifts_one_row_over_0_wakes_the_unit(share: float, awake: bool) -> None:
    made = dying.run("relu", dying.TOO_HIGH)
    first = dying.deaths(made)[0]
    dead, k = made[first.step], first.unit
    bias = dead.weights["b1"][k] - share * dead.net[:, k].max()
    lifted = dying.moment(dying._with(dead.weights, "b1", k, bias), cr.relu)
    assert (lifted.reaching(k) > 0) is awake


def test_what_wakes_the_unit() -> None:
    further, lifted, drawn, leaky, elu = dying.tries()
    assert (further.rows, further.gradient, further.moved) == (0, 0.0, False)
    assert lifted.rows >= 1
    assert lifted.gradient > 0
    assert drawn.rows > lifted.rows
    assert leaky.moved
    assert leaky.gradient > 0
    assert leaky.said == f"not in {dying.MOST} steps"
    assert elu.rows > 0
    assert elu.said.startswith("positive on some row after ")


def test_leaky_units_get_a_gradient_where_relus_get_none() -> None:
    relu, leaky = (dying.run(name, dying.TOO_HIGH)[-1] for name in ("relu", "leaky_relu"))
    for one, reached in ((relu, False), (leaky, True)):
        units = np.nonzero(one.asleep)[0]
        assert len(units)
        assert all((one.reaching(int(unit)) > 0) is reached for unit in units)


# -- comparisons, and the page ------------------------------------------------------------------


def test_a_claim_interrupted_is_no_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    cut = Replay(PRESETS["relu-6x"], interrupted=True)
    monkeypatch.setattr(claims, "replay", lambda name, **options: cut)
    claims.again.cache_clear()
    with pytest.raises(KeyboardInterrupt):
        claims.again("relu-6x")


def test_the_page_of_a_claim_shows_its_findings(monkeypatch: pytest.MonkeyPatch) -> None:
    claims.again.cache_clear()
    monkeypatch.setattr(claims, "SHORT", {**claims.SHORT, "epochs": 3, "seeds": 2})
    shown = claims.claim("dead-relu")
    claims.again.cache_clear()
    assert [row[0] for row in shown.rows][:1] == ["dead after training at rate 0.1"]
    assert "relu, rate 2" in shown.below
    assert "chainrule compare --preset dead-relu" in " ".join(shown.text)


def test_every_claim_of_the_pages_is_a_preset() -> None:
    assert set(claims.CHANGED) <= set(PRESETS)


def test_maxout_has_as_many_parameters_as_its_model() -> None:
    shown = claims.maxout_doubles()
    assert [row[1:] for row in shown.rows[:3]] == [
        ("2,080", "1×"),
        ("4,160", "2×"),
        ("6,240", "3×"),
    ]
    assert "4,160 = 2 × 2,080" in shown.below


@pytest.mark.parametrize(("number", "pictures"), [("S26", 10), ("S27", 4), ("S28", 6), ("S31", 0)])
def test_a_page_shows_its_experiments(
    number: str, pictures: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "claim", lambda name: Exhibit(f"The claim {name}", ()))
    html = site.system_page(Result(SYSTEMS[number], (), "", 0.0))
    assert len(PICTURES.findall(html)) == pictures
    assert "<section><h2>" in html
    assert "`" not in html
    assert "default-src 'none'" in html
    assert set(re.findall(r'https?://[^"\s<]+', html)) <= {"http://www.w3.org/2000/svg"}


def test_what_a_page_shows_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another learning rate gives another death, and the page says so."""
    before = dying.too_high()
    monkeypatch.setattr(dying, "TOO_HIGH", 3.0)
    after = dying.too_high()
    assert "at rate 3, 1: unit" in after.text[0]
    assert before.rows != after.rows


def test_text_stays_text() -> None:
    html = Exhibit("<h>", ("a < b, `x & y`",), ("<i>",), (("<b>", "−1 < 0", "no < yes"),)).html()
    assert "<h2>&lt;h&gt;</h2>" in html
    assert "<p>a &lt; b, <code>x &amp; y</code></p>" in html
    assert '<td class="number">−1 &lt; 0</td><td>no &lt; yes</td>' in html


def test_advice_follows_the_network() -> None:
    sigmoid, relu, _, sound = practice.cases()
    assert sound.said == ()
    assert len(sigmoid.said) == len(relu.said) == 2
    shown = practice.exhibits()
    assert [len(one.text) for one in shown[1:]] == [2, 2, 1, 1]
    assert shown[-1].text == ("Nothing: its figures leave no room.",)
    again = practice.case("", dying.standardised(), nn.Tanh(), 0.1)
    assert again.said == ()
