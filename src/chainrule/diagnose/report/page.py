"""A report as one offline page: the verdict, each finding with its pictures, the flow of δ."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from ...page import escape, page
from ...plot import Chart
from ..finding import Evidence, Factor, Finding, Flow, Report
from . import words
from .pictures import flow_picture, losses, nets, span_of

__all__ = ["body_of", "page_of"]

FACTORS = 24  # of a product that are written out
ROWS = 14  # of a table that stands open
LONG = 24  # letters of a cell that is broken into lines
BEFORE, AFTER = "before the first step", "after the last step"

# Its own colours, and its own fallbacks for the page's: a notebook has no style sheet of ours.
STYLE = """
.cr-diagnosis { --guilty: #b0201c; --blame: #ffebe9; --good: #116329;
  --soft: var(--raised, #f6f8fa); --rule: var(--line, #d1d9e0); --pale: var(--faint, #59636e); }
@media (prefers-color-scheme: dark) { .cr-diagnosis { --guilty: #ff8e86; --blame: #3c1618;
  --good: #56d364; --soft: var(--raised, #161b22); --rule: var(--line, #3d444d);
  --pale: var(--faint, #9198a1); } }
.cr-diagnosis p, .cr-diagnosis li, .cr-diagnosis h1, .cr-diagnosis h2, .cr-diagnosis dd {
  overflow-wrap: anywhere; }
.cr-diagnosis .lead { font-size: 1.1rem; max-width: 60rem; }
.cr-diagnosis .facts { display: flex; flex-wrap: wrap; gap: 0.25rem 1.5rem; margin: 0.75rem 0; }
.cr-diagnosis .facts div { display: flex; gap: 0.4rem; max-width: 100%; }
.cr-diagnosis .facts dt { color: var(--pale); }
.cr-diagnosis .facts dd { margin: 0; font-weight: 600; min-width: 0; }
.cr-diagnosis .finding { border: 1px solid var(--rule); border-left: 4px solid var(--guilty);
  border-radius: 6px; padding: 0.25rem 1rem 0.75rem; margin: 1rem 0; }
.cr-diagnosis .finding.note { border-left-color: var(--rule); }
.cr-diagnosis .finding h2 { margin: 0.5rem 0; }
.cr-diagnosis .finding h3 { font-size: 1rem; margin: 1rem 0 0.25rem; }
.cr-diagnosis .kind { font-size: 0.8rem; font-weight: 600; border-radius: 1rem; margin-left: 0.4rem;
  padding: 0.1rem 0.6rem; background: var(--soft); white-space: nowrap; }
.cr-diagnosis .problem .kind { color: var(--guilty); background: var(--blame); }
.cr-diagnosis .pale { color: var(--pale); }
.cr-diagnosis .product { display: flex; flex-wrap: wrap; gap: 0.5rem 0.3rem; align-items: center;
  margin: 0.75rem 0; padding: 0; list-style: none; }
.cr-diagnosis .product li { display: flex; align-items: center; gap: 0.3rem; min-width: 0; }
.cr-diagnosis .factor { background: var(--soft); border-radius: 6px; padding: 0.3rem 0.6rem;
  text-align: center; line-height: 1.3; border: 1px solid transparent; min-width: 0; }
.cr-diagnosis .factor b { display: block; font-variant-numeric: tabular-nums; }
.cr-diagnosis .factor small { color: var(--pale); overflow-wrap: anywhere; }
.cr-diagnosis .factor.guilty { background: var(--blame); border-color: var(--guilty); }
.cr-diagnosis .factor.guilty b, .cr-diagnosis .factor.guilty small { color: var(--guilty); }
.cr-diagnosis .charts { display: flex; flex-wrap: wrap; gap: 1rem; margin: 1rem 0; }
.cr-diagnosis figure { margin: 0; max-width: 100%; }
.cr-diagnosis figcaption { font-weight: 600; margin-bottom: 0.25rem; }
.cr-diagnosis .flows { display: flex; flex-wrap: wrap; gap: 1.5rem 3rem; margin: 1rem 0; }
.cr-diagnosis .verified { font-weight: 600; }
.cr-diagnosis .verified.good { color: var(--good); }
.cr-diagnosis .scroll table { width: auto; }
.cr-diagnosis .scroll .wrap { white-space: normal; min-width: 14rem; max-width: 30rem;
  overflow-wrap: anywhere; vertical-align: top; }
.cr-diagnosis summary { cursor: pointer; font-weight: 600; padding: 0.4rem 0; }
.cr-diagnosis pre { overflow-x: auto; padding: 0.75rem; background: var(--soft);
  border-radius: 6px; }
"""


def page_of(report: Report) -> str:
    """The whole page: one file that loads nothing, in light and dark.

    >>> from chainrule.diagnose.finding import Curve, Report, Score
    >>> made = Report([], "It learns.", Score("accuracy", 1.0, 0.5, 0.1), Curve("the run", ()))
    >>> "<script" in page_of(made), page_of(made).count("<main>")
    (False, 1)
    """
    return page(f"Diagnosis: {_title(report)}", f"<main>{body_of(report)}</main>")


def body_of(report: Report) -> str:
    """The inside of the page with its style, for a notebook too."""
    parts = [
        f"<h1>{escape(_title(report))}</h1>",
        f'<p class="lead">{escape(report.reason)}</p>' if report.reason else "",
        _unfinished(report),
        _facts(report),
        *(_finding(k, one, report) for k, one in enumerate(report.findings, start=1)),
        _section("What was tried", _tried(report)),
        _section("The backward flow", _flow(report)),
        _section("Advice", _list(report.advice)),
    ]
    return f'<div class="cr-diagnosis"><style>{STYLE}</style>{"".join(parts)}</div>'


def _title(report: Report) -> str:
    return words.headline(report).removesuffix(".")


def _unfinished(report: Report) -> str:
    if not report.unfinished:
        return ""
    return f'<p class="erratum">Unfinished: {escape(report.unfinished)}</p>'


def _section(title: str, inside: str) -> str:
    return f"<section><h2>{title}</h2>{inside}</section>" if inside else ""


def _list(sentences: Iterable[str]) -> str:
    items = "".join(f"<li>{escape(one)}</li>" for one in sentences)
    return f"<ul>{items}</ul>" if items else ""


def _facts(report: Report) -> str:
    """The run in figures, and its losses."""
    pairs = [("the run", words.scored(report.score))]
    pairs += [(str(name), words.said(value)) for name, value in report.facts.items()]
    if report.starts:
        pairs.append(("over several starts", report.starts))
    items = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in pairs
    )
    return f'<dl class="facts">{items}</dl>'


# -- findings ------------------------------------------------------------------------------------


def _finding(k: int, finding: Finding, report: Report) -> str:
    kind = "problem" if finding.severity == "problem" else "note"
    where = words.place(finding.where)
    parts = [
        f"<h2>{k}. {escape(finding.problem)}"
        f' <span class="kind">{escape(finding.severity)}</span></h2>',
        f"<p><strong>{escape(where[0].upper() + where[1:])}</strong></p>" if where else "",
        f"<p>{escape(finding.evidence.sentence)}</p>",
        f'<p class="pale">{escape(finding.problem)}: {escape(finding.meaning)}.</p>',
        _product(finding.evidence.product),
        _charts(_evidence(finding, report), _quantities(finding.evidence)),
        _remedy(finding),
    ]
    return f'<section class="finding {kind}">{"".join(parts)}</section>'


def _product(factors: Sequence[Factor]) -> str:
    """δ at the first layer as the product it is, the guilty factor in colour."""
    if not factors:
        return ""
    name, value = words.carried(factors).split(" = ")
    items = [f"<li>{_factor(value, name)} =</li>"]
    groups = words.folded(factors, FACTORS)
    for k, group in enumerate(groups):
        sign = " ×" if k + 1 < len(groups) else ""
        items.append(f"<li>{_group(group)}{sign}</li>")
    said = "".join(
        f"<li><strong>{escape(names)}</strong>: {escape(what)}</li>"
        for names, what in words.blames(factors)
    )
    return f'<ul class="product">{"".join(items)}</ul>' + (f"<ul>{said}</ul>" if said else "")


def _group(group: Sequence[Factor]) -> str:
    if len(group) > 1:
        return _factor(words.power(words.log_of(group)), f"… {len(group)} factors …")
    (factor,) = group
    name = f"{factor.name} ◄" if factor.guilty else factor.name
    return _factor(words.figure(factor.value), name, "guilty" if factor.guilty else "")


def _factor(value: str, name: str, kind: str = "") -> str:
    names = f"factor {kind}".strip()
    return f'<span class="{names}"><b>{escape(value)}</b><small>{escape(name)}</small></span>'


def _evidence(finding: Finding, report: Report) -> Iterator[Chart | None]:
    """The nets of the finding's layer at the moment that it speaks of."""
    moments = [(AFTER, report.end), (BEFORE, report.start)]
    if finding.where.step == 0:
        moments.reverse()
    layer = finding.where.layer
    made = (
        nets(flow, moment)
        for moment, flows in moments
        for flow in flows
        if layer and layer in (flow.layer, flow.weight)
    )
    yield next(filter(None, made), None)


def _charts(charts: Iterable[Chart | None], beside: str = "") -> str:
    made = beside + "".join(
        f"<figure>{chart.svg()}</figure>" for chart in charts if chart is not None
    )
    return f'<div class="charts">{made}</div>' if made else ""


def _quantities(evidence: Evidence) -> str:
    rows = [(str(name), words.said(value)) for name, value in evidence.quantities.items()]
    return _table(("measured", "value"), rows, "Measured quantities") if rows else ""


def _remedy(finding: Finding) -> str:
    parts = []
    if finding.remedy.strip():
        code = escape(finding.remedy.strip("\n"))
        parts.append(f'<h3>Remedy</h3><pre tabindex="0"><code>{code}</code></pre>')
    if not words.claims(finding):
        return "".join(parts)
    proof = finding.verified
    kind = "verified good" if proof else "verified"
    parts.append(f'<p class="{kind}">{escape(words.verified(proof))}</p>')
    if proof is not None:
        parts.append(_charts([losses(proof.curves, "Loss before and after")]))
    return "".join(parts)


# -- what was tried, the flow --------------------------------------------------------------------


def _tried(report: Report) -> str:
    if not report.tried:
        return ""
    rows = [(name, str(score), words.known(score.loss)) for name, score in report.tried]
    note = '<p class="pale">Each by itself, at the same seed, data order and budget.</p>'
    return note + _table(("change", "score", "loss"), rows, "What was tried")


def _flow(report: Report) -> str:
    """δ at both moments as pictures of one scale, and in figures."""
    moments = [(BEFORE, report.start), (AFTER, report.end)]
    moments = [(moment, flows) for moment, flows in moments if flows]
    guilty = [f for one in report.findings for f in one.evidence.product if f.guilty]
    span = span_of(*(flows for _, flows in moments))
    pictures = "".join(
        f"<figure><figcaption>{moment.capitalize()}</figcaption>"
        f"{flow_picture(flows, span, guilty, f'δ {moment}')}</figure>"
        for moment, flows in moments
    )
    run = _charts([losses([report.curve], "Loss of the run")])
    if not moments:
        return run
    note = (
        '<p class="pale">From the output down: δ = ∂L/∂net of each layer, its root mean square over'
        " all rows. The stream is as wide as log₁₀ δ is large, on one scale in both pictures. Wᵀ"
        " is what the weights do to it, f′ what the transfer function does.</p>"
    )
    tables = "".join(
        f"<details{' open' if len(flows) <= ROWS else ''}><summary>{moment.capitalize()},"
        f" in figures</summary>{_flow_table(flows, moment)}</details>"
        for moment, flows in moments
    )
    return f'{note}<div class="flows">{pictures}</div>{tables}{run}'


def _flow_table(flows: Sequence[Flow], moment: str) -> str:
    head = (
        "layer", "units", "transfer", "RMS δ", "gain", "slope", "dead", "saturated", "one sign",
        "update/weight",
    )  # fmt: skip
    rows = [
        (
            flow.layer,
            str(flow.units),
            flow.transfer or "–",
            words.figure(flow.delta),
            words.known(flow.gain),
            words.known(flow.slope),
            str(len(flow.dead)) if flow.dead else "–",
            words.percent(flow.saturated),
            words.percent(flow.one_sign),
            words.known(flow.update),
        )
        for flow in reversed(flows)
    ]
    return _table(head, rows, f"Backward flow {moment}")


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], label: str) -> str:
    names = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    body = "".join(
        f'<tr><th scope="row"{_wide(row[0])}>{escape(row[0])}</th>'
        + "".join(f"<td{_wide(cell, 'number')}>{escape(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="scroll" role="region" aria-label="{label}" tabindex="0"><table>'
        f"<thead><tr>{names}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _wide(cell: str, kind: str = "") -> str:
    names = f"{kind} wrap".strip() if len(cell) > LONG else kind
    return f' class="{names}"' if names else ""
