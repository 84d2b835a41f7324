"""The layout: ranks, order and heights, without any circuit."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from chainrule.draw.layout import Cell, Layout, Spacing, arranged
from chainrule.draw.tracks import Net, tracked

SPACING = Spacing(6.0, 4.0)


@st.composite
def graphs(draw: st.DrawFn) -> tuple[list[Cell], list[tuple[int, int, int]]]:
    count = draw(st.integers(1, 20))
    cells, wires = [], []
    for k in range(count):
        inputs = draw(st.lists(st.integers(0, k - 1), max_size=3)) if k else []
        middle = (len(inputs) - 1) / 2
        ports = tuple(20.0 * (p - middle) for p in range(len(inputs)))
        above, below = (draw(st.sampled_from([10.0, 20.0, 35.0])) for _ in "ab")
        cells.append(Cell(above, below, ports, draw(st.booleans())))
        wires += [(source, k, p) for p, source in enumerate(inputs)]
    return cells, wires


def _apart(made: Layout, cells: list[Cell]) -> None:
    reach = [(c.above, c.below) for c in cells]
    reach += [(SPACING.lane, SPACING.lane)] * (len(made.y) - len(cells))
    for layer in made.layers:
        for upper, lower in pairwise(layer):
            assert made.y[upper] + reach[upper][1] <= made.y[lower] - reach[lower][0]


@given(graphs())
def test_boxes_stand_apart_and_wires_run_to_the_right(
    graph: tuple[list[Cell], list[tuple[int, int, int]]],
) -> None:
    cells, wires = graph
    made = arranged(cells, wires, SPACING)
    assert sorted(x for layer in made.layers for x in layer) == list(range(len(made.y)))
    _apart(made, cells)
    for (source, target, _), route in zip(wires, made.routes, strict=True):
        ranks = [made.rank[item] for item in route]
        assert (route[0], route[-1]) == (source, target)
        assert ranks == list(range(ranks[0], ranks[0] + len(route)))
        assert min(ranks) >= 0


@given(graphs())
def test_the_same_graph_gives_the_same_layout(
    graph: tuple[list[Cell], list[tuple[int, int, int]]],
) -> None:
    assert arranged(*graph, SPACING) == arranged(*graph, SPACING)


def test_a_chain_is_one_straight_line() -> None:
    made = arranged([Cell(10, 10, (0.0,))] * 6, [(k, k + 1, 0) for k in range(5)], SPACING)
    assert len(set(made.y)) == 1


def test_crossings_that_can_be_avoided_are_avoided() -> None:
    leaf, gate = Cell(10, 10), Cell(10, 10, (-8.0, 8.0))
    cells = [leaf] * 4 + [gate] * 3
    wires = [(0, 4, 0), (2, 4, 1), (1, 5, 0), (3, 5, 1), (4, 6, 0), (5, 6, 1)]
    assert arranged(cells, wires, SPACING).crossings == 0


def test_many_users_share_one_trunk() -> None:
    """A value that is used at every depth passes each layer once."""
    cells = [Cell(10, 10)] + [Cell(10, 10, (-8.0, 8.0))] * 10
    wires = [(k - 1, k, 0) for k in range(1, 11)] + [(0, k, 1) for k in range(2, 11)]
    wires.append((0, 1, 1))
    made = arranged(cells, wires, SPACING)
    assert len(made.y) - len(cells) == 9


@given(st.permutations(range(8)), st.permutations(range(8)))
def test_uprights_never_run_along_another_wire(sources: list[int], targets: list[int]) -> None:
    """In text: no two wires share a stretch, even where rows are exchanged all round."""
    nets = [Net(k, s, (t,)) for k, (s, t) in enumerate(zip(sources, targets, strict=True))]
    used: dict[tuple[int, int, str], int] = {}
    done = tracked(nets)
    last = max([net.track for net in done], default=0) + 1
    for net in done:
        stretches = [(net.row, c, "h") for c in range(net.enters, net.track)]
        if not net.leaves:
            stretches += [(row, c, "h") for row in net.rows for c in range(net.track, last)]
        if net.rows != (net.row,):
            stretches += [(r, net.track, "v") for r in range(net.span[0], net.span[1])]
        for stretch in stretches:
            assert used.setdefault(stretch, net.name) == net.name
