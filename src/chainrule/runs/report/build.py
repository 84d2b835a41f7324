"""The page put together from its parts."""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ...page import escape, page
from ...plot import Chart
from ...plot.scale import short
from ..evaluation import wilson
from . import words
from .advice import advice
from .facts import Facts
from .network import drawn
from .predictions import answers, class_table, confused_pairs, headline
from .rows import data_summary, hardest
from .training import curves, inside

__all__ = ["STYLE", "charts", "figures", "observers", "report", "save_charts"]

STYLE = """
.lead { font-size: 1.1rem; max-width: 60rem; }
nav ul { display: flex; flex-wrap: wrap; gap: 0.25rem 1.25rem; padding: 0; list-style: none; }
.tiles { display: flex; flex-wrap: wrap; gap: 0.75rem; margin: 1rem 0; }
.tiles div { background: var(--raised); border-radius: 6px; padding: 0.5rem 1rem; min-width: 8rem; }
.tiles dt { color: var(--faint); font-size: 0.85rem; }
.tiles dd { margin: 0; font-size: 1.25rem; font-variant-numeric: tabular-nums; }
p, figcaption { overflow-wrap: break-word; }
.next { border-left: 3px solid var(--line); padding: 0 1rem; margin: 1rem 0; max-width: 60rem; }
.next h2 { margin: 0; font-size: 1rem; border: 0; }
.next code { white-space: nowrap; }
.next ul { margin: 0.25rem 0 0; padding-left: 1.1rem; }
pre.wrap, pre.wrap code { white-space: pre-wrap; overflow-wrap: anywhere; }
.charts { display: grid; gap: 1.5rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 25rem), 1fr)); }
figure { margin: 0; }
figure > svg { display: block; }
figcaption { font-size: 0.95rem; max-width: 34rem; padding: 0.25rem 0.75rem 0; }
.cards { display: grid; gap: 0.75rem; padding: 0; list-style: none;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 12.5rem), 1fr)); }
.cards > li { border: 1px solid var(--line); border-radius: 6px; padding: 0.6rem 0.75rem;
  overflow-wrap: anywhere; }
.cards h3 { margin: 0 0 0.4rem; font-size: 1rem; }
.cards p { margin: 0.5rem 0 0; font-size: 0.85rem; }
.cards ul { margin: 0; padding: 0; list-style: none; font-size: 0.9rem; }
.cards dl { margin: 0.25rem 0; }
.cards dl div { display: grid; grid-template-columns: 5.5rem 1fr; }
.cards dt { color: var(--faint); }
.cards dd { margin: 0; }
.thumb { background: var(--raised); fill: var(--ink); }
.bars { fill: var(--faint); vertical-align: middle; }
summary { cursor: pointer; padding: 0.4rem 0; }
.skip { position: absolute; left: -99rem; }
.skip:focus { position: static; }
@media print { nav { display: none; } .charts { grid-template-columns: 1fr 1fr; } }
"""


def report(trained: Any, *, name: str = "", command: str = "") -> str:
    """One HTML page about a run: score, curves, confusions or residuals, layers, rows, data.

    `trained` is what `train_table` returned. The page is one file without scripts: it loads
    nothing, reads in light and dark, and is made of the same bytes for the same run: times of the
    clock are left out. `name` heads it (by default the run folder's name, else the data's), and
    `command` is what repeats the run (by default worked out from the settings).

    >>> from chainrule.data import load_dataset
    >>> from chainrule.runs import Settings, train_table
    >>> trained = train_table(load_dataset("iris"), Settings(epochs=3), progress=False)
    >>> "<script" in report(trained)
    False
    """
    facts = Facts(trained, name or _name(trained))
    sections = [
        ("training", "Training", figures(curves(facts))),
        *_observed(trained),
        ("answers", "Answers on held-out rows", _answers(facts)),
        ("network", "The network", _network(facts)),
        ("hardest", "Hardest rows", hardest(facts)),
        ("data", "Data", data_summary(facts)),
        ("settings", "Settings", _settings(facts, command)),
    ]
    links = "".join(f'<li><a href="#{key}">{title}</a></li>' for key, title, _ in sections)
    body = "".join(
        f'<section id="{key}" aria-labelledby="{key}-h"><h2 id="{key}-h">{title}</h2>{html}'
        "</section>"
        for key, title, html in sections
    )
    html = (
        '<a class="skip" href="#main">To the report</a>'
        f'<header><h1>{escape(facts.name)}</h1><p class="lead">{escape(headline(facts))}</p>'
        f"{_tiles(facts)}{_next(facts)}</header>"
        f'<nav aria-label="Parts of the report"><ul>{links}</ul></nav>'
        f'<main id="main">{body}</main>'
    )
    return page(f"{facts.name}: training report", html, style=STYLE)


def charts(trained: Any) -> dict[str, Chart]:
    """The charts of the report by name, as `loss` and `confusion`."""
    facts = Facts(trained, "")
    seen = [chart for one in observers(trained) for chart in one.section()[2]]
    parts = (curves(facts), answers(facts), inside(facts), seen)
    return {name: chart for part in parts for name, chart, _ in part}


def save_charts(trained: Any, folder: str | os.PathLike[str], kind: str = "svg") -> list[Path]:
    """Write the report's charts as files `NAME.KIND`; returns their paths.

    `kind` is svg, png or pdf. Raises `DataError` where png or pdf is asked for without matplotlib.
    """
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, chart in charts(trained).items():
        safe = "".join(c if c.isalnum() or c in "_-" else "_" for c in name)[:60]
        path = place / f"{safe}.{kind}"
        chart.save(path)
        paths.append(path)
    return paths


def _name(trained: Any) -> str:
    folder = getattr(trained, "folder", None)
    if folder is not None:
        return str(os.path.basename(os.path.abspath(folder.path)))
    return str(trained.train.name)


def figures(parts: Iterable[tuple[str, Chart, str]], beside: str = "") -> str:
    """The charts with their readings, and what stands beside them (HTML)."""
    made = "".join(
        f"<figure>{chart.svg()}<figcaption>{escape(reading)}</figcaption></figure>"
        for _, chart, reading in parts
    )
    return f'<div class="charts">{made}{beside}</div>' if made else beside


def observers(trained: Any) -> tuple[Any, ...]:
    """What watched the run and has a section of its own."""
    return tuple(getattr(trained, "observers", None) or ())


def _observed(trained: Any) -> Iterator[tuple[str, str, str]]:
    """A section for each of them: sentences, and charts with their readings."""
    for k, observer in enumerate(observers(trained), start=1):
        title, sentences, seen = observer.section()
        said = "".join(f"<p>{escape(sentence)}</p>" for sentence in sentences)
        yield f"seen-{k}", escape(title), said + figures(seen)


def _tiles(facts: Facts) -> str:
    pairs = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"
        for name, value in _numbers(facts)
    )
    return f'<dl class="tiles">{pairs}</dl>'


def _numbers(facts: Facts) -> Iterator[tuple[str, str]]:
    score, history = facts.trained.score, facts.trained.history
    if facts.classes is not None:
        yield "held-out accuracy", words.percent(score.value, 2)
        low, high = wilson(round(score.value * score.rows), score.rows)
        yield "95 % interval (Wilson)", f"{words.percent(low)} – {words.percent(high)}"
        yield "commonest class", words.percent(score.baseline, 2)
        yield "cross-entropy", short(score.error)
    else:
        yield "held-out R²", words.known(score.value)
        yield "always the mean", words.known(score.baseline)
        yield "root mean square error", short(score.error)
    yield "epochs", _epochs(history, facts.trained.settings.epochs)
    yield "parameters", f"{facts.parameters:,}"


def _flags(html: str) -> str:
    """The text with its flags, and their values, as code."""
    return re.sub(r"(?<=\s)--[a-z-]+(?: [\d.]*\d| balanced)?", r"<code>\g<0></code>", html)


def _epochs(history: Any, planned: int | None) -> str:
    if history.stopped == "interrupted":
        return f"{history.epochs:,} of {planned:,}, interrupted"
    return f"{history.epochs:,}" + (", stopped early" if history.stopped else "")


def _next(facts: Facts) -> str:
    """What to look at first."""
    found = advice(facts.trained) or [
        "Nothing stands out. The hardest rows show best what it does not know yet."
    ]
    items = "".join(f"<li>{_flags(escape(one))}</li>" for one in found)
    return f'<section class="next"><h2>What to look at</h2><ul>{items}</ul></section>'


def _answers(facts: Facts) -> str:
    by_class = class_table(facts)
    return figures(answers(facts), by_class) + confused_pairs(facts)


def _network(facts: Facts) -> str:
    place = '<div class="picture" tabindex="0" role="region" aria-label="Picture of the network">'
    picture = f"{place}{drawn(facts)}</div>"
    note = (
        '<p class="faint">Numbers on the arrows: values a row. Cells: weights, blue above 0, orange'
        " below, darker where larger; of a large matrix some rows and columns.</p>"
    )
    return picture + note + figures(inside(facts))


def _settings(facts: Facts, command: str) -> str:
    settings = facts.trained.settings
    versions = _versions()
    line = command or _command(facts)
    code = f'<pre class="wrap"><code>{escape(line)}</code></pre>'
    repeat = f"<p>To repeat the run:</p>{code}" if line else ""
    toml = _bare(settings.to_toml())
    made = ", ".join(f"{name} {version}" for name, version in versions.items())
    compiled = str(getattr(facts.trained.history, "compiled", ""))
    native = f" Compiled to machine code: {escape(compiled)}." if compiled else ""
    return (
        f"{repeat}<details open><summary>All settings</summary><pre><code>{escape(toml)}</code>"
        f'</pre></details><p class="faint">Made with {escape(made)}.{native}</p>'
    )


def _versions() -> dict[str, str]:
    import platform

    import numpy

    package = sys.modules[__name__.partition(".")[0]]
    return {
        "chainrule": str(package.__version__),
        "Python": platform.python_version(),
        "NumPy": numpy.__version__,
    }


def _bare(toml: str) -> str:
    """Settings without what the file says about them."""
    return "\n".join(line for line in toml.splitlines() if line and not line.startswith("#"))


def _command(facts: Facts) -> str:
    """`chainrule train …` with every setting that is not the default."""
    settings = facts.trained.settings
    data = getattr(settings, "data", None)
    if not data:
        return ""
    words_ = ["chainrule", "train", str(data)]
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if field.name == "data" or value is None or value == field.default:
            continue
        words_ += _option(field.name, value)
    return shlex.join(words_)


def _option(name: str, value: Any) -> list[str]:
    if name == "hidden" and not value:
        return ["--linear"]
    flag = "--" + name.replace("_", "-")
    if isinstance(value, bool):
        return [flag if value else f"--no-{flag[2:]}"]
    if isinstance(value, (tuple, list)):
        return [word for one in value for word in (flag, str(one))]
    return [flag, str(value)]
