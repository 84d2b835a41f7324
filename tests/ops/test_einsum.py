"""einsum against np.einsum: chosen and random subscripts, values and gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import chainrule as cr
from tolerances import VALUE, assert_near

EXACT = VALUE[np.float64]
LENGTH = {"i": 2, "j": 3, "k": 4, "l": 2, "m": 1, "n": 3}


def compare(subscripts: str, *operands: Any) -> None:
    """Value and every gradient: that of operand k is linear in it, so einsum itself gives it."""
    leaves = [cr.tensor(x) for x in operands]
    out = cr.einsum(subscripts, *leaves)
    expected = np.einsum(subscripts, *operands)
    scale = float(np.einsum(subscripts, *[np.abs(x) for x in operands]).max(initial=1.0))
    assert_near(out.value, expected, EXACT, scale, subscripts)
    assert_near(cr.einsum(subscripts, *operands), expected, EXACT, scale, subscripts)
    upstream = np.random.default_rng(1).normal(size=expected.shape)
    grads = out.backward(upstream)
    for k, leaf in enumerate(leaves):
        direction = np.random.default_rng([2, k]).normal(size=leaf.shape)
        moved = [direction if j == k else x for j, x in enumerate(operands)]
        along = float(np.sum(upstream * np.einsum(subscripts, *moved)))
        size = float(np.abs(grads[leaf] * direction).sum())
        assert grads[leaf].shape == leaf.shape
        assert_near(np.sum(grads[leaf] * direction), along, EXACT, size, subscripts)


CHOSEN = [
    "ij,jk->ik",
    "ij,kj->ik",
    "ij,ij->",
    "ij->ji",
    "ij->",
    "ij->j",
    "i,j->ij",
    "i,i->i",
    "ij,j",
    "ij,jk",
    "ji",
    "ijk,ikl->ijl",
    "ijk,jl,kn->iln",
    "i,j,k->kji",
    "ijk->kij",
    "im,jm->ij",
    "ij,jk,kl,ln->in",
    ",i->i",
    "ij,->ji",
    " ij , jk -> ki ",
]


def arrays_for(subscripts: str, seed: int = 0) -> list[Any]:
    rng = np.random.default_rng(seed)
    terms = subscripts.replace(" ", "").split("->")[0].split(",")
    return [rng.normal(size=[LENGTH[c] for c in term]) for term in terms]


@pytest.mark.parametrize("subscripts", CHOSEN)
def test_chosen_subscripts(subscripts: str) -> None:
    compare(subscripts, *arrays_for(subscripts))


@pytest.mark.parametrize("subscripts", ["ii->i", "ii", "ii->", "iji->j", "iij,j->i", "iii->i"])
def test_diagonals(subscripts: str) -> None:
    rng = np.random.default_rng(0)
    terms = subscripts.split("->")[0].split(",")
    compare(subscripts, *[rng.normal(size=(3,) * len(term)) for term in terms])


@pytest.mark.parametrize(
    ("subscripts", "shapes"),
    [
        ("...ij,...jk->...ik", [(5, 2, 3), (5, 3, 2)]),
        ("...ij,...jk->...ik", [(5, 2, 3), (3, 2)]),
        ("...ij,...jk->...ik", [(4, 1, 2, 3), (5, 3, 2)]),
        ("...i,...i->...", [(2, 3), (2, 3)]),
        ("...i->i...", [(2, 4, 3)]),
        ("i...->...", [(2, 4, 3)]),
        ("...,...", [(2, 3), (3,)]),
        ("...ij->...ji", [(2, 3)]),
        ("...i,ij", [(4, 3), (3, 2)]),
    ],
)
def test_ellipsis(subscripts: str, shapes: Any) -> None:
    rng = np.random.default_rng(0)
    compare(subscripts, *[rng.normal(size=s) for s in shapes])


def random_subscripts(seed: int) -> str:
    rng = np.random.default_rng([2026, seed])
    letters = list(LENGTH)
    terms = [
        "".join(rng.choice(letters, size=rng.integers(1, 4), replace=False))
        for _ in range(rng.integers(1, 4))
    ]
    used = sorted(set("".join(terms)))
    kept = list(rng.permutation([c for c in used if rng.random() < 0.5]))
    return ",".join(terms) + "->" + "".join(kept)


@pytest.mark.parametrize("subscripts", [random_subscripts(k) for k in range(60)])
def test_random_subscripts(subscripts: str) -> None:
    compare(subscripts, *arrays_for(subscripts, seed=len(subscripts)))


def test_second_order_through_einsum() -> None:
    x = np.array([0.5, -1.0, 2.0])
    a = np.arange(9.0).reshape(3, 3)
    h = cr.hessian(lambda t: cr.einsum("i,ij,j->", t, a, t))(x)
    assert_near(h, a + a.T, EXACT, 1.0)


def test_axes_of_length_0() -> None:
    x = cr.tensor(np.zeros((0, 3)))
    out = cr.einsum("ij,kj->k", x, np.ones((2, 3)))
    np.testing.assert_array_equal(out.numpy(), [0.0, 0.0])
    assert out.backward(np.ones(2))[x].shape == (0, 3)


@pytest.mark.parametrize(
    ("subscripts", "shapes", "message"),
    [
        ("ij,jk->ik", [(2, 3)], "names 2 operands, got 1"),
        ("ij->i", [(2, 3, 4)], "does not fit operand 0"),
        ("ij,jk->ik", [(2, 3), (4, 2)], "'j'"),
        ("ij->k", [(2, 3)], "'k'"),
        ("i1->i", [(2, 3)], "not a valid"),
        ("ij->ii", [(2, 2)], "not a valid"),
    ],
)
def test_wrong_subscripts_are_refused(subscripts: str, shapes: Any, message: str) -> None:
    with pytest.raises(cr.ShapeError, match=message) as caught:
        cr.einsum(subscripts, *[cr.tensor(np.ones(s)) for s in shapes])
    assert "\n" not in str(caught.value)
