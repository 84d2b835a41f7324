"""The page of a run: its numbers are the run's, it is shut, and a browser shows it quietly."""

from __future__ import annotations

import dataclasses
import math
import re
import shlex
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chainrule.data import Column, Schema, Table, load_dataset
from chainrule.runs import Settings, train_table
from chainrule.runs.report import charts, report, save_charts, words
from chainrule.runs.report.facts import Facts
from chainrule.runs.watch import Watch
from draw.test_svg import HOSTILE
from page_checks import contrast


def run(table: Table, **settings: Any) -> Any:
    watch = Watch()
    made = Settings(**{"data": table.name, "epochs": 4, "validation": 0.2, **settings})
    trained = train_table(table, made, progress=False, callbacks=[watch])
    trained.watch = watch
    return trained


@pytest.fixture(scope="module")
def iris() -> Any:
    return run(load_dataset("iris"))


@pytest.fixture(scope="module")
def diabetes() -> Any:
    return run(load_dataset("diabetes"))


@pytest.fixture(scope="module")
def digits() -> Any:
    return run(load_dataset("digits").take(np.arange(400)))


def text(html: str) -> str:
    """What a reader reads."""
    body = html.partition("<body>")[2]
    bare = re.sub(r"<(style|title|desc)>.*?</\1>", " ", body, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", bare).split())


# -- its numbers ---------------------------------------------------------------------------------


def test_the_headline_is_the_score(iris: Any) -> None:
    score = iris.score
    right = round(score.value * score.rows)
    assert f"finds the class of {right} of 30 held-out rows" in text(report(iris))
    assert f"would reach {words.percent(score.baseline, 2)}" in text(report(iris))


def test_the_classes_add_up_to_the_confusion(iris: Any) -> None:
    facts = Facts(iris, "")
    assert facts.confusion.tolist() == [list(row) for row in iris.score.confusion]
    for k, name in enumerate(facts.classes or ()):
        hits, rows = facts.confusion[k, k], facts.confusion[k].sum()
        assert re.search(rf"{name} .*? {hits} of {rows} {rows}", text(report(iris)))


def test_the_hardest_rows_have_the_largest_losses(iris: Any, diabetes: Any) -> None:
    for trained in (iris, diabetes):
        facts = Facts(trained, "")
        assert len(facts.worst) == 5
        rest = np.delete(facts.losses, facts.worst)
        assert facts.losses[facts.worst].min() >= rest.max()
        assert np.diff(facts.losses[facts.worst]).max() <= 0
    loss = float(np.mean(Facts(iris, "").losses))
    assert loss == pytest.approx(iris.score.error)


def test_unusual_features_are_told_in_deviations(diabetes: Any) -> None:
    facts = Facts(diabetes, "")
    train = diabetes.train.features
    for name, value, away in facts.unusual(3):
        k = diabetes.predictor.schema.feature_names.index(name)
        assert value == diabetes.held_out.features[3, k]
        assert away == pytest.approx((value - train[:, k].mean()) / train[:, k].std())


def test_the_readings_say_what_the_curves_hold(iris: Any) -> None:
    low = int(np.argmin(iris.history.val_loss)) + 1
    told = text(report(iris))
    assert words.validation(iris.history.val_loss) in told
    assert f"at epoch {low}" in told or f"at the last epoch, {low}" in told


def test_pictures_are_shown_where_rows_are_pictures(digits: Any, iris: Any) -> None:
    assert report(digits).count('class="thumb"') == 5
    assert 'class="thumb"' not in report(iris)


def test_a_regression_shows_residuals(diabetes: Any) -> None:
    found = charts(diabetes)
    assert {"predicted", "residuals"} <= set(found)
    heights = found["residuals"].marks[0].heights  # type: ignore[union-attr]
    assert heights.sum() == diabetes.held_out.rows


def test_the_command_repeats_the_run(iris: Any) -> None:
    from chainrule.cli.train import train

    html = report(iris)
    (line,) = re.findall(r'<pre class="wrap"><code>(chainrule train [^<]*)</code>', html)
    context = train.make_context("train", shlex.split(line)[2:])
    given = {k: v for k, v in context.params.items() if k in Settings.__dataclass_fields__}
    kept = {k: v for k, v in given.items() if v not in (None, ())}
    assert Settings(**kept) == iris.settings


def test_same_run_same_bytes(iris: Any) -> None:
    again = run(load_dataset("iris"))
    again.history.seconds = 99.0
    assert report(iris) == report(again)


@pytest.mark.parametrize("name", ["iris", "diabetes", "digits"])
def test_it_is_small_and_shut(name: str, request: pytest.FixtureRequest) -> None:
    html = report(request.getfixturevalue(name))
    assert len(html.encode()) < 300_000
    assert "default-src 'none'" in html
    assert "unsafe-inline" not in html
    assert "<script" not in html
    assert set(re.findall(r'(?:href|src)="([^"#]*)', html)) == {""}
    assert set(re.findall(r"https?://[^\"' ]+", html)) == {"http://www.w3.org/2000/svg"}


def test_plots_are_files_too(iris: Any, tmp_path: Path) -> None:
    paths = save_charts(iris, tmp_path / "plots", "svg")
    assert {path.stem for path in paths} == set(charts(iris))
    assert all(path.read_text(encoding="utf-8").startswith("<svg") for path in paths)


# -- whatever the run ------------------------------------------------------------------------------


def test_a_run_without_watch_validation_or_epochs(iris: Any) -> None:
    history = type(iris.history)(step_loss=[1.0, 0.5], stopped="interrupted")
    bare = dataclasses.replace(iris, history=history, watch=None, validation=None)
    assert "0 of 4, interrupted" in text(report(bare))


def test_a_run_that_answers_nonsense(iris: Any, diabetes: Any) -> None:
    for trained, shape in ((iris, (30, 3)), (diabetes, (88,))):
        predictor = Frozen(trained.predictor, np.full(shape, math.nan))
        assert "Hardest rows" in text(report(dataclasses.replace(trained, predictor=predictor)))


class Frozen:
    """A predictor whose answers are given."""

    def __init__(self, predictor: Any, scores: Any) -> None:
        self.predictor, self._scores = predictor, scores

    def __getattr__(self, name: str) -> Any:
        return getattr(self.predictor, name)

    def scores(self, features: Any) -> Any:
        return self._scores


def test_many_classes_and_columns_stay_readable() -> None:
    rng = np.random.default_rng(0)
    columns = tuple(Column(f"column {'abc'[k % 3]} {k}", "number") for k in range(300))
    classes = tuple(f"class {k}" for k in range(70))
    target = np.arange(1400) % 70
    features = rng.normal(size=(1400, 300))
    table = Table(features, target, Schema(columns, "y", classes), "wide")
    html = report(run(table, data=None, epochs=1, hidden=[8]))
    assert len(html) < 500_000
    assert "confusion" not in html.partition("<main")[2].lower().partition("commonest")[0]
    assert "The commonest confusion" in text(html)
    assert "and 100 columns more" in text(html)


def test_missing_cells_and_categories_are_counted() -> None:
    rng = np.random.default_rng(0)
    number = rng.normal(size=60)
    number[:7] = np.nan
    columns = (Column("x", "number", missing=True), Column("c", "category", ("a", "b")))
    flags = np.isnan(number)
    kinds = np.arange(60) % 2
    features = np.stack([number, flags, kinds == 0, kinds == 1], axis=1).astype(float)
    table = Table(features, (np.arange(60) % 3 == 0).astype(np.int64),
                  Schema(columns, "y", ("no", "yes")), "gaps")  # fmt: skip
    trained = run(table, data=None, held_out=0.1)
    told = text(report(trained))
    unknown = int(np.isnan(trained.train.features[:, 0]).sum())
    assert f"x number {unknown} " in told
    assert "2 categories, most often" in told


# -- a stranger's names ----------------------------------------------------------------------------


class Elements(HTMLParser):
    """Every element, and every attribute that an element has."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.links: set[str | None] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links |= {value for name, value in attrs if name in ("href", "src")}


def elements(html: str) -> Elements:
    parser = Elements()
    parser.feed(html)
    return parser


def renamed(trained: Any, name: str) -> Any:
    """The run with every string that a user could have written replaced."""
    schema = trained.predictor.schema
    columns = tuple(
        Column(f"{name}{k}", c.kind, tuple(f"{name}{j}" for j in range(len(c.categories))))
        for k, c in enumerate(schema.columns)
    )
    classes = schema.classes and tuple(f"{name}{k}" for k in range(len(schema.classes)))
    schema = Schema(columns, name, classes)
    predictor = type(trained.predictor).__new__(type(trained.predictor))
    predictor.__dict__.update(trained.predictor.__dict__, schema=schema)
    tables = {
        part: dataclasses.replace(getattr(trained, part), schema=schema, name=name)
        for part in ("train", "held_out")
    }
    settings = dataclasses.replace(trained.settings, data=name or "x", target=name or "x")
    history = type(trained.history)(
        loss=[1.0, 0.5], metrics={name: [1.0, 2.0]}, compiled=f"no: {name}"
    )
    watch = Watch()
    for curve in Watch.CURVES:
        setattr(watch, curve, {f"{name}{k}": [1.0, 0.5] for k in range(2)})
    return dataclasses.replace(
        trained, predictor=predictor, settings=settings, history=history, watch=watch, **tables
    )


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_no_name_becomes_an_element_or_a_handler(name: str, iris: Any) -> None:
    hostile = elements(report(renamed(iris, name), name=name))
    plain = elements(report(renamed(iris, "n" * len(name)), name="n" * len(name)))
    assert set(hostile.tags) <= set(plain.tags)
    for tag in ("script", "style", "a", "img", "link", "iframe", "form", "meta", "section", "li"):
        assert hostile.tags.count(tag) == plain.tags.count(tag)
    assert hostile.attributes <= plain.attributes | {"transform", "x", "y"}
    assert hostile.links == plain.links


# -- in a browser ----------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1180])
def test_a_browser_shows_it_without_a_word_or_a_request(
    browser: Any, tmp_path: Path, digits: Any, scheme: str, width: int
) -> None:
    path, noise = tmp_path / "report.html", []
    path.write_text(report(digits), encoding="utf-8")
    tab = browser.new_page(viewport={"width": width, "height": 844}, color_scheme=scheme)
    tab.on("console", lambda message: noise.append(message.text))
    tab.on("pageerror", lambda error: noise.append(str(error)))
    tab.on("request", lambda request: noise.append(request.url))
    tab.goto(path.as_uri())
    assert noise == [path.as_uri()]
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert contrast(tab, "td, th, p, h1, h2, h3, dt, dd, li, figcaption") >= 4.5
    assert tab.evaluate(_UNNAMED) == []
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.textContent") == "To the report"
    tab.close()


@pytest.mark.parametrize("payload", ['"><img src=x onerror=alert(1)>', "</style><script>alert(1)"])
def test_a_hostile_name_does_nothing_in_a_browser(
    browser: Any, tmp_path: Path, iris: Any, payload: str
) -> None:
    path, noise = tmp_path / "report.html", []
    path.write_text(report(renamed(iris, payload), name=payload), encoding="utf-8")
    tab = browser.new_page()
    tab.on("console", lambda message: noise.append(message.text))
    tab.on("dialog", lambda dialog: noise.append(dialog.message))
    tab.on("request", lambda request: noise.append(request.url))
    tab.goto(path.as_uri())
    assert noise == [path.as_uri()]
    assert tab.evaluate("document.querySelectorAll('img, script').length") == 0
    assert tab.inner_text("h1") == payload
    tab.close()


_UNNAMED = """() => [...document.querySelectorAll("svg, [role=region]")]
  .filter((e) => !e.getAttribute("aria-label")).map((e) => e.outerHTML.slice(0, 80))"""
