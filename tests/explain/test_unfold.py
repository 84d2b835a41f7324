"""One element of a gradient, by sample and by path: everything adds up, the largest come first."""

from __future__ import annotations

import itertools
import math
import time
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule.errors import ShapeError
from chainrule.explain.fan import fan
from chainrule.explain.flow import flow_of
from chainrule.explain.paths import largest_paths, shares


def net(*layers: Any, rows: int = 5, seed: int = 0) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(rows, 3))
    model = cr.nn.Sequential(*layers, seed=1)
    return model, cr.losses.softmax_cross_entropy(model(X), np.arange(rows) % 2)


def linear(n: int, m: int) -> Any:
    return cr.nn.Linear(n, m, dtype=np.float64)


def deep() -> tuple[Any, Any]:
    return net(linear(3, 4), cr.nn.Sigmoid(), linear(4, 4), cr.nn.ReLU(), linear(4, 2))


def test_samples_and_paths_add_up_to_the_element() -> None:
    model, loss = deep()
    flow = flow_of(loss)
    for parameter in model.parameters():
        gradient = np.asarray(flow.gradients[parameter])
        for index in np.ndindex(parameter.shape):
            spread = shares(flow, parameter, index)
            assert spread is not None
            terms = spread.contributions
            assert abs(math.fsum(terms) - gradient[index]) <= 1e-12 * np.abs(terms).sum()
            found = largest_paths(flow, parameter, index, most=6)
            parts = [*(p.contribution for p in found.largest), found.rest]
            scale = sum(map(abs, parts)) + np.abs(terms).sum()
            assert abs(math.fsum(parts) - gradient[index]) <= 1e-12 * scale


def test_samples_equal_a_loop_over_samples() -> None:
    rng = np.random.default_rng(3)
    X, y = rng.normal(size=(6, 3)), rng.normal(size=(6, 2))
    model = cr.nn.Sequential(linear(3, 4), cr.nn.Tanh(), linear(4, 2), seed=1)
    loss = cr.losses.squared_error(model(X), y)
    spread = shares(flow_of(loss), model[0].weight, (2, 1))
    for k in range(6):
        alone = cr.losses.squared_error(model(X[k : k + 1]), y[k : k + 1]) / 6
        expected = alone.backward()[model[0].weight][2, 1]
        assert spread.contributions[k] == pytest.approx(expected, rel=1e-12)


def test_all_paths_are_found_and_are_the_largest() -> None:
    model, loss = deep()
    flow = flow_of(loss)
    some = largest_paths(flow, model[0].weight, (2, 1), most=7)
    every = largest_paths(flow, model[0].weight, (2, 1), most=1000)
    assert every.complete
    assert len(every.largest) == 5 * 4 * 2
    sizes = [abs(p.contribution) for p in every.largest]
    assert sizes == sorted(sizes, reverse=True)
    assert [p.contribution for p in some.largest] == [p.contribution for p in every.largest[:7]]
    assert every.rest == 0


@pytest.mark.parametrize(
    "build",
    [
        lambda a: cr.sum(cr.sin(a) * np.arange(3.0)),
        lambda a: cr.sum(cr.max(a, axis=0)),
        lambda a: cr.sum(cr.softmax(a) ** 2),
        lambda a: cr.sum(cr.log_softmax(a)[:, 1]),
        lambda a: cr.logsumexp(a, axis=0)[1],
        lambda a: cr.sum((a - cr.mean(a, axis=0)) ** 3 / cr.sqrt(cr.var(a, axis=0) + 0.1)),
        lambda a: cr.sum(cr.tanh(a @ a.T)),
        lambda a: cr.sum(cr.concatenate([a, a * 2])[1:, [0, 0, 2]] * 3),
        lambda a: cr.cumsum(a)[4] * cr.prod(a[0]),
        lambda a: cr.sum(cr.broadcast_to(a[0], (4, 3)) * np.arange(12.0).reshape(4, 3)),
        lambda a: cr.einsum("ij,kj->", a, a),
        lambda a: cr.linalg.norm(a) + cr.sum(cr.where(a > 0, a, 0.1 * a)),
    ],
)
def test_fans_give_back_every_pull(build: Any) -> None:
    """Summing factor × upstream over an element's fan is what the edge contributed there."""
    a = cr.tensor(np.random.default_rng(0).normal(size=(2, 3)), name="a")
    flow = flow_of(build(a))
    for edges in flow.received.values():
        for edge in edges:
            upstream = np.asarray(edge.upstream).reshape(-1)
            for index in itertools.islice(np.ndindex(edge.source.shape), 12):
                places, factors = fan(edge, index)
                sent = float(np.asarray(edge.contribution)[index])
                terms = factors * upstream[places]
                assert abs(terms.sum() - sent) <= 1e-11 * (np.abs(terms).sum() + abs(sent))


def test_matmul_fan_is_what_its_index_form_says() -> None:
    a, b = cr.tensor(np.arange(6.0).reshape(2, 3)), cr.tensor(np.arange(12.0).reshape(3, 4))
    flow = flow_of(cr.sum(a @ b))
    for tensor, position in ((a, 0), (b, 1)):
        (edge,) = flow.received[tensor]
        terms = edge.node.op.facts.index.terms
        values = (a.value, b.value)
        for index in np.ndindex(tensor.shape):
            expected = {}
            for o in np.ndindex(2, 4):
                for term in terms(o, [(2, 3), (3, 4)], {}):
                    if (position, index) in term:
                        p, i = term[1 - position]
                        expected[int(np.ravel_multi_index(o, (2, 4)))] = values[p][i]
            places, factors = fan(edge, index)
            assert dict(zip(places.tolist(), factors.tolist(), strict=True)) == expected


def test_a_diamond_of_2_to_the_100_paths_returns_quickly() -> None:
    x = cr.tensor(1.0, name="x")
    y = x
    for _ in range(100):
        y = 0.75 * y + 0.25 * cr.sin(y)
    start = time.perf_counter()
    text = str(cr.explain(y, wrt=x))
    found = cr.explain(y).paths(x, most=5)
    assert time.perf_counter() - start < 5
    assert "more branches" in text
    assert found.sure
    assert not found.complete
    total = math.fsum([*(p.contribution for p in found.largest), found.rest])
    assert total == pytest.approx(found.gradient, rel=1e-12)
    assert abs(found.rest) > 0.9 * abs(found.gradient)


def test_a_large_net_is_unfolded_in_time() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(128, 784)).astype(np.float32)
    layers = [cr.nn.Linear(784, 512), cr.nn.ReLU(), cr.nn.Linear(512, 512), cr.nn.ReLU()]
    model = cr.nn.Sequential(*layers, cr.nn.Linear(512, 10), seed=0)
    loss = cr.losses.softmax_cross_entropy(model(X), rng.integers(0, 10, 128))
    start = time.perf_counter()
    text = str(cr.explain(loss, wrt="W1[3,2]"))
    assert time.perf_counter() - start < 3  # 0.2 s measured; a slow machine may take longer
    assert "δ1[" in text
    assert "X[" in text
    assert "the sum of all other paths" in text


def test_an_index_that_does_not_fit_is_refused() -> None:
    model, loss = deep()
    with pytest.raises(ShapeError, match=r"W1 has shape \(4, 3\); there is no element \[4, 0\]"):
        cr.explain(loss, wrt="W1[4,0]")
    with pytest.raises(ShapeError, match="choose one element"):
        cr.explain(loss).paths(model[0].weight)
    assert "W1[3,2]" in str(cr.explain(loss, wrt=model[0].weight, index=(-1, 2)))
