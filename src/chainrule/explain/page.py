"""The page of a circuit: picture, steps forward and backward, table, all from one joint circuit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..circuit import Tensor
from ..draw import draw
from ..draw.svg import Keys
from ..page import escape
from ..page.shell import asset, page
from .joint import joint_circuit


def circuit_page(
    output: Tensor,
    *,
    title: str,
    derivation: str = "",
    names: Mapping[Tensor, str] | None = None,
) -> str:
    """One offline HTML file: the circuit of `output`, stepped through and recomputed in the page.

    `derivation` is more HTML, safe already. Works by mouse, by the arrow keys, Home and End; a
    screen reader is told each step.

    >>> import chainrule as cr
    >>> x = cr.tensor(2.0, name="x")
    >>> "∂out/∂x" in circuit_page(x * x, title="A square")
    True
    """
    joint, nodes, edges = joint_circuit(output, names)
    shown = {node: joint["nodes"][k]["name"] for node, k in nodes.items()}
    picture = draw(output, names=shown).svg(Keys(nodes, edges))
    body = "\n".join(
        [
            "<main>",
            f"<h1>{escape(title)}</h1>",
            _fields(joint),
            f'<div class="picture" tabindex="0" role="region" aria-label="Circuit">{picture}</div>',
            _controls(),
            derivation,
            _nodes(joint),
            _edges(joint),
            "</main>",
        ]
    )
    return page(title, body, data=joint, script=asset("circuit.js"), style=asset("circuit.css"))


def _fields(joint: dict[str, Any]) -> str:
    """An input for each variable; the values follow what is typed."""
    leaves = [
        (cell[2], cell[1]) for cell in joint["cells"] if cell[0] is None and cell[2] is not None
    ]
    if not joint["live"]:
        return '<p class="faint">Values of arrays are shown as they were computed.</p>'
    fields = "".join(
        f"<label>{escape(name)} = "
        f'<input data-input="{escape(name)}" value="{escape(f"{value:.12g}")}" inputmode="decimal">'
        "</label>"
        for name, value in leaves
    )
    return f'<form class="controls inputs" aria-label="Inputs">{fields}</form>'


def _controls() -> str:
    buttons = (
        ("first", "|◀", "First step"),
        ("back", "◀", "Step back"),
        ("next", "▶", "Next step"),
        ("last", "▶|", "Last step"),
    )
    made = "".join(
        f'<button type="button" id="{name}" aria-label="{label}">{sign}</button>'
        for name, sign, label in buttons
    )
    return (
        f'<div class="controls steps">{made} <span id="step" class="faint"></span></div>'
        '<p id="sentence" role="status" aria-live="polite"></p>'
    )


def _nodes(joint: dict[str, Any]) -> str:
    last = escape(joint["nodes"][-1]["name"])
    rows = "".join(
        f'<tr data-node="{k}"><th scope="row">{escape(node["name"])}</th>'
        f"<td>{escape(node['formula']) if node['op'] else 'given'}</td>"
        f'<td class="number value" data-value="{k}"></td>'
        f'<td class="number gradient" data-gradient="{k}"></td></tr>'
        for k, node in enumerate(joint["nodes"])
    )
    head = _head("node", "computed as", "value", f"gradient ∂{last}/∂node")
    return f"<h2>Nodes</h2>{_table('Nodes of the circuit', head, rows)}"


def _edges(joint: dict[str, Any]) -> str:
    nodes = joint["nodes"]
    rows = []
    for k, edge in enumerate(joint["edges"]):
        node, source = nodes[edge["node"]], nodes[edge["source"]]
        rows.append(
            f'<tr data-edge="{k}">'
            f'<th scope="row">∂{escape(node["name"])}/∂{escape(source["name"])}</th>'
            f'<td class="number" data-local="{k}"></td>'
            f'<td class="number gradient" data-upstream="{k}"></td>'
            f'<td class="number gradient" data-contribution="{k}"></td>'
            f"<td>{escape(node['op'])}: {escape(node['flow'])}</td></tr>"
        )
    head = _head("edge", "local", "× upstream", "= contribution", "gate")
    table = _table("Edges of the circuit", head, "".join(rows))
    return f"<h2>Edges, from the output back</h2>{table}"


def _head(*names: str) -> str:
    return "".join(f'<th scope="col">{name}</th>' for name in names)


def _table(caption: str, head: str, rows: str) -> str:
    return (
        f'<div class="scroll" role="region" aria-label="{caption}" tabindex="0"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )
