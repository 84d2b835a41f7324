"""The losses: the lectures' figures, shapes, reductions, weights, extremes and errors."""

from __future__ import annotations

import functools
import pickle
import warnings

import numpy as np
import pytest

import chainrule as cr
from chainrule.errors import DataError, ShapeError, UnknownNameError
from chainrule.nn import losses
from chainrule.nn.losses import (
    LOSSES,
    absolute_error,
    binary_cross_entropy,
    get,
    huber,
    logistic,
    matching,
    mean_squared_error,
    nll,
    relative_entropy,
    softmax_cross_entropy,
    squared_error,
)

RNG = np.random.default_rng(7)
LOGITS = np.array([0.5, -1.2, 2.0, 0.1])
ELEMENTWISE = [
    squared_error,
    mean_squared_error,
    absolute_error,
    huber,
    logistic,
    binary_cross_entropy,
]
CLASSES = [nll, softmax_cross_entropy, relative_entropy]
MATCHING = [matching(name) for name in ("identity", "sigmoid", "tanh")]


def near(a, b, tolerance=1e-12):
    a, b = np.asarray(a, float), np.asarray(b, float)
    assert a.shape == b.shape
    assert np.all(np.abs(a - b) <= tolerance * np.maximum(1, np.abs(b))), (a, b)


def slope(loss, a, y, **keywords):
    """∂loss/∂a, the reduction "sum" unless another is given."""
    return cr.grad(lambda a: loss(a, y, **{"reduction": "sum", **keywords}))(np.asarray(a, float))


# -- the lectures' figures --------------------------------------------------------------------


def test_squared_loss_after_a_sigmoid():
    def squared(a):
        return squared_error(cr.sigmoid(a), 1)

    near(cr.grad(squared)(0.7), -0.07356704242638362)
    assert float(mean_squared_error(cr.sigmoid(0.7), 1)) / 2 == pytest.approx(
        float(squared_error(cr.sigmoid(0.7), 1)), rel=1e-15
    )
    near(2 * squared_error(cr.sigmoid(0.7), 1), (1 - cr.sigmoid(0.7)) ** 2)


def test_logistic_loss_of_the_lecture():
    near(logistic(0.7, 1), 0.4031860488854579)
    near(cr.grad(logistic)(0.7, 1), -0.3318122278318339)


@pytest.mark.parametrize(
    ("a", "loss", "derivative"),
    [
        (-1000.0, 1000.0, -1.0),
        (-40.0, 40.0, -1.0),
        (40.0, 4.248354255291589e-18, -4.248354255291589e-18),
        (1000.0, 0.0, 0.0),
    ],
)
def test_logistic_far_out(a, loss, derivative):
    assert float(logistic(a, 1)) == pytest.approx(loss, rel=1e-14, abs=0)
    assert float(cr.grad(logistic)(a, 1)) == pytest.approx(derivative, rel=1e-14, abs=0)


def test_nll_of_the_lecture():
    z = cr.softmax(LOGITS)
    near(nll(z, 2), 0.34604129490491126)
    near(slope(nll, z, 2), [0.0, 0.0, -1.4134609833494312, 0.0])
    near(slope(nll, z, [0, 0, 1, 0]), [0.0, 0.0, -1.4134609833494312, 0.0])


def test_softmax_cross_entropy_of_the_lecture():
    near(softmax_cross_entropy(LOGITS, 2), 0.34604129490491126)
    expected = [0.15786085557146812, 0.028838577405775563, -0.29251672895113556, 0.1058173]
    expected[3] = 0.1058172959738919
    near(slope(softmax_cross_entropy, LOGITS, 2), expected)
    near(slope(lambda a, y, **k: nll(cr.softmax(a), y, **k), LOGITS, 2), expected)


def test_relative_entropy_of_the_lecture():
    y = [0.1, 0.2, 0.3, 0.4]
    gradient = [
        0.057860855571468105,
        -0.17116142259422443,
        0.4074832710488644,
        -0.2941827040261081,
    ]
    near(relative_entropy(cr.softmax(LOGITS), y), 0.6161870690712438)
    near(slope(lambda a, y, **k: relative_entropy(cr.softmax(a), y, **k), LOGITS, y), gradient)
    near(matching(cr.softmax)(LOGITS, y), 0.6161870690712438)
    near(slope(matching(cr.softmax), LOGITS, y), gradient)


def test_the_output_delta_of_the_lecture():
    # w·x = −1.28 with target 1: the descent direction (y − ŷ)ŷ(1 − ŷ) is −∂E/∂net
    near(cr.sigmoid(-1.28), 0.2175502235768875)
    near(-cr.grad(lambda net: squared_error(cr.sigmoid(net), 1))(-1.28), 0.13319026270843012)
    near((1 - 0.21) * 0.21 * (1 - 0.21), 0.131061)


def test_multiclass_sigmoid_with_and_without_a_reference_class():
    a = RNG.normal(size=(5, 3))
    labels = [0, 1, 2, 1, 0]
    shifted = a - a[:, :1]
    near(softmax_cross_entropy(a, labels), softmax_cross_entropy(shifted, labels))


# -- values by hand ---------------------------------------------------------------------------


def test_values_by_hand():
    a, y = np.array([[1.0, 2.0], [0.0, -1.0]]), np.array([[0.0, 4.0], [0.0, 1.0]])
    near(squared_error(a, y, reduction="none"), [2.5, 2.0])
    near(mean_squared_error(a, y, reduction="none"), [2.5, 2.0])
    near(absolute_error(a, y, reduction="none"), [3.0, 2.0])
    near(huber(a, y, reduction="none"), [0.5 + 1.5, 1.5])
    near(huber(a, y, reduction="none", delta=10.0), [2.5, 2.0])
    near(mean_squared_error(np.ones((2, 4)), np.zeros((2, 4))), 1.0)
    near(binary_cross_entropy([0.25, 0.75], [0, 1]), -np.log(0.75))
    p, t = RNG.dirichlet(np.ones(3), size=4), RNG.dirichlet(np.ones(3), size=4)
    near(nll(p, t, reduction="none"), -(t * np.log(p)).sum(1))
    near(relative_entropy(p, t, reduction="none"), (t * np.log(t / p)).sum(1))
    near(softmax_cross_entropy(np.log(p), t, reduction="none"), -(t * np.log(p)).sum(1))
    near(relative_entropy(p, [0, 1, 2, 0]), nll(p, [0, 1, 2, 0]))
    near(relative_entropy(p, p), 0.0, 1e-15)


def test_derivatives_by_hand():
    a, y = RNG.normal(size=(6, 2)) * 2, RNG.uniform(size=(6, 2))
    near(slope(squared_error, a, y), a - y)
    near(slope(mean_squared_error, a, y), a - y)
    near(slope(absolute_error, a, y), np.sign(a - y))
    near(slope(huber, a, y, delta=0.5), np.clip(a - y, -0.5, 0.5))
    near(slope(logistic, a, y), 1 / (1 + np.exp(-a)) - y)
    p = RNG.uniform(0.1, 0.9, size=(6, 2))
    near(slope(binary_cross_entropy, p, y), (1 - y) / (1 - p) - y / p)


@pytest.mark.parametrize("labels", [[3, 0, 1, 1, 2], np.array([[3], [0], [1], [1], [2]])])
def test_softmax_cross_entropy_has_gradient_yhat_minus_y(labels):
    a = RNG.normal(size=(5, 4)) * 30
    onehot = np.eye(4)[np.ravel(labels)]
    near(slope(softmax_cross_entropy, a, labels), cr.softmax(a) - onehot, 1e-15)
    near(slope(softmax_cross_entropy, a, onehot), cr.softmax(a) - onehot, 1e-15)
    near(slope(softmax_cross_entropy, a, labels, reduction="mean"), (cr.softmax(a) - onehot) / 5)


def test_huber_second_derivative_and_infinite_error():
    second = cr.grad(cr.grad(lambda a: huber(a, 0.0)))
    assert [float(second(a)) for a in (-2.0, 0.0, 0.3, 2.0)] == [0, 1, 1, 0]
    assert float(cr.grad(huber)(np.inf, 0.0)) == 1.0


# -- one meaning, whatever the argument -------------------------------------------------------


@pytest.mark.parametrize("loss", [*ELEMENTWISE, *MATCHING])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("weighted", [False, True])
def test_elementwise_reductions(loss, reduction, weighted):
    a, y = RNG.uniform(0.1, 0.9, size=(5, 3)), RNG.uniform(size=(5, 3))
    w = RNG.uniform(size=5) if weighted else None
    by_row = np.array([float(loss(a[k : k + 1], y[k : k + 1])) for k in range(5)])
    weights = np.ones(5) if w is None else w
    expected = {
        "none": weights * by_row,
        "sum": (weights * by_row).sum(),
        "mean": (weights * by_row).sum() / weights.sum(),
    }[reduction]
    near(loss(a, y, w, reduction), expected)
    near(loss(cr.tensor(a), y, w, reduction).numpy(), expected)


@pytest.mark.parametrize("loss", [*CLASSES, matching("softmax")])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("hard", [False, True])
def test_class_reductions(loss, reduction, hard):
    p, w = RNG.dirichlet(np.ones(3), size=5), RNG.uniform(size=5)
    y = np.array([0, 2, 1, 1, 0]) if hard else RNG.dirichlet(np.ones(3), size=5)
    by_row = np.array([float(loss(p[k], y[k])) for k in range(5)])  # a 1-D prediction is one row
    expected = {"none": w * by_row, "sum": w @ by_row, "mean": w @ by_row / w.sum()}[reduction]
    near(loss(p, y, w, reduction), expected)
    near(loss(cr.tensor(p), y, w, reduction).numpy(), expected)


@pytest.mark.parametrize("loss", [*ELEMENTWISE, *CLASSES, *MATCHING, matching("softmax")])
def test_gradient_is_the_slope(loss):
    rows = np.array([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]])
    target = np.array([[0.1, 0.6, 0.3], [0.2, 0.2, 0.6]])
    weights = np.array([0.5, 2.0])
    gradient = slope(loss, rows, target, sample_weight=weights, reduction="mean")
    for k in np.ndindex(rows.shape):
        h = np.zeros_like(rows)
        h[k] = 1e-6
        up, down = loss(rows + h, target, weights), loss(rows - h, target, weights)
        assert gradient[k] == pytest.approx((up - down) / 2e-6, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("loss", [*ELEMENTWISE, *CLASSES])
def test_float32_stays_float32(loss):
    p = np.array([[0.25, 0.75], [0.5, 0.5]], np.float32)
    for target in ([[0, 1], [1, 0]], [[0.0, 1.0], [1.0, 0.0]]):
        out = loss(cr.tensor(p), target, sample_weight=[1, 2])
        assert out.dtype == np.float32
        assert loss(p, target).dtype == np.float32


def test_one_output_meets_a_column():
    a, y = np.array([1.0, 2.0, 3.0]), np.array([0.0, 2.0, 5.0])
    for one, other in ((a, y), (a[:, None], y), (a, y[:, None]), (a[:, None], y[:, None])):
        near(squared_error(one, other), 2.5 / 3)
        near(squared_error(one, other, reduction="none"), [0.5, 0.0, 2.0])


def test_targets_may_be_tensors_and_have_gradients():
    y = cr.tensor([[0.25, 0.75]])
    relative_entropy(np.array([[0.5, 0.5]]), y).backward()
    near(y.grad, np.log([[0.5, 1.5]]) + 1)


@pytest.mark.parametrize("loss", CLASSES)
def test_rows_with_several_axes(loss):
    p = RNG.dirichlet(np.ones(3), size=(2, 4))
    labels = RNG.integers(0, 3, size=(2, 4))
    assert loss(p, labels, reduction="none").shape == (2, 4)
    near(loss(p, labels), loss(p.reshape(8, 3), labels.reshape(8)))


# -- extremes ---------------------------------------------------------------------------------


def test_minus_infinity_in_another_class_is_harmless():
    a = np.array([[0.0, -np.inf, 1.0]])
    for target in ([2], [[0.5, 0.0, 0.5]]):
        assert np.isfinite(softmax_cross_entropy(a, target))
        gradient = slope(softmax_cross_entropy, a, target)
        assert np.isfinite(gradient).all()
        assert gradient[0, 1] == 0


def test_huge_logits():
    a = np.array([[1e5, -1e5], [0.0, 1e5]])
    near(softmax_cross_entropy(a, [0, 0], reduction="none"), [0.0, 1e5])
    near(slope(softmax_cross_entropy, a, [0, 0]), [[0, 0], [-1, 1]])


@pytest.mark.parametrize("target", [[0], [[1.0, 0.0]], [[0.5, 0.5]]])
@pytest.mark.parametrize("loss", [nll, relative_entropy])
def test_probability_zero_is_infinite_with_one_warning(loss, target):
    with pytest.warns(RuntimeWarning, match=r"row 0 .* softmax_cross_entropy on logits") as caught:
        value = loss([[0.0, 1.0]], target)
    assert value == np.inf
    assert len(caught) == 1
    assert caught[0].filename == __file__


def test_zero_targets_contribute_exactly_nothing():
    z = np.array([[0.0, 1.0], [0.25, 0.75]])
    for target in ([1, 1], [[0.0, 1.0], [0.0, 1.0]]):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            near(nll(z, target, reduction="none"), [0.0, -np.log(0.75)])
            near(slope(nll, z, target), [[0.0, -1.0], [0.0, -4 / 3]])
            near(slope(relative_entropy, z, target), [[0.0, -1.0], [0.0, -4 / 3]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        near(binary_cross_entropy([0.0, 1.0], [0, 1], reduction="none"), [0.0, 0.0])
        near(slope(binary_cross_entropy, [0.0, 1.0], [0, 1]), [1.0, -1.0])


def test_gradient_at_probability_zero_is_infinite_only_where_it_counts():
    with pytest.warns(RuntimeWarning, match="probability 0"):
        gradient = slope(nll, [[0.0, 1.0]], [[0.5, 0.5]])
    assert gradient[0, 0] == -np.inf
    assert gradient[0, 1] == -0.5


def test_binary_cross_entropy_against_certainty():
    for p, y in ((0.0, 1), (1.0, 0), (0.0, 0.5)):
        with pytest.warns(RuntimeWarning, match="logistic on logits") as caught:
            assert binary_cross_entropy([p], [y]) == np.inf
        assert len(caught) == 1


def test_clip():
    near(nll([[0.0, 1.0]], [0], clip=1e-3), -np.log(1e-3))
    near(slope(nll, [[0.0, 1.0]], [0], clip=1e-3), [[0.0, 0.0]])
    near(binary_cross_entropy([1.0], [0], clip=1e-3), -np.log(1e-3))
    near(binary_cross_entropy([0.3], [0], clip=1e-3), -np.log(0.7))


# -- matching ---------------------------------------------------------------------------------


def test_matching_names_its_loss():
    assert matching(cr.identity) is squared_error
    a = RNG.normal(size=(4, 2))
    hard = (a > 0.3).astype(float)
    near(matching(cr.sigmoid)(a, hard), logistic(a, hard), 1e-15)
    near(matching("softmax")(a, [0, 1, 1, 0]), softmax_cross_entropy(a, [0, 1, 1, 0]), 1e-15)


def test_matching_sigmoid_is_zero_at_the_soft_target():
    y = np.array([0.2, 0.7, 0.0, 1.0])
    a = np.array([np.log(0.2 / 0.8), np.log(0.7 / 0.3), -800.0, 800.0])
    near(matching(cr.sigmoid)(a, y, reduction="none"), np.zeros(4), 1e-15)
    near(slope(matching(cr.sigmoid), a[:2], y[:2]), [0.0, 0.0], 1e-15)


@pytest.mark.parametrize(
    ("h", "integral"),
    [
        (cr.tanh, lambda a: np.logaddexp(a, -a) - np.log(2)),
        (lambda z: cr.sigmoid(z), lambda a: np.logaddexp(a, 0) - np.log(2)),
        (lambda z: 3 * z + z**3, lambda a: 1.5 * a**2 + a**4 / 4),
        (cr.arctan, lambda a: a * np.arctan(a) - 0.5 * np.log1p(a * a)),
        (np.sinh, lambda a: np.cosh(a) - 1),
        (cr.leaky_relu, lambda a: np.where(a > 0, 0.5, 0.005) * a * a),
    ],
)
def test_matching_integral(h, integral):
    a = np.array([-30.0, -3.7, -0.1, 0.0, 1e-9, 0.7, 12.0])
    y = np.linspace(-1, 1, 7)
    near(matching(h)(a, y, reduction="none"), integral(a) - a * y, 1e-12)
    exact = np.asarray(h(a)) - y
    assert (slope(matching(h), a, y) == exact).all()
    for k in (1, 3, 5):
        second = cr.grad(cr.grad(functools.partial(matching(h), target=y[k])))
        near(second(a[k]), cr.grad(lambda z: cr.sum(h(z)))(a[k]))


def test_matching_integral_far_out():
    a = np.array([1e6, -1e6, 500.0])
    near(matching(cr.tanh)(a, np.zeros(3), reduction="none"), np.abs(a) - np.log(2), 1e-12)


def test_matching_is_convex_and_least_where_h_meets_y():
    loss = matching(cr.tanh)
    a = np.linspace(-2, 2, 81)
    values = loss(a, np.full(81, np.tanh(0.5)), reduction="none")
    assert np.argmin(values) == np.argmin(np.abs(a - 0.5))
    assert (np.diff(values, 2) > 0).all()


# -- errors -----------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", [*ELEMENTWISE, *MATCHING])
@pytest.mark.parametrize(
    ("a", "y"),
    [((3,), (4,)), ((3, 1), (1, 3)), ((2,), (1, 2)), ((3,), ()), ((3, 2), (3,)), ((3, 3), (3,))],
)
def test_shapes_that_would_broadcast_raise_with_both(loss, a, y):
    with pytest.raises(ShapeError) as error:
        loss(np.full(a, 0.5), np.full(y, 0.5))
    assert str(a) in str(error.value)
    assert str(y) in str(error.value)


@pytest.mark.parametrize("loss", CLASSES)
@pytest.mark.parametrize(
    ("p", "y"), [((3, 2), (2,)), ((3, 2), (3, 3)), ((3, 2), ()), ((3, 2), (2, 3))]
)
def test_class_shapes_raise_with_both(loss, p, y):
    with pytest.raises(ShapeError) as error:
        loss(np.full(p, 0.5), np.zeros(y))
    assert str(p) in str(error.value)
    assert str(y) in str(error.value)


@pytest.mark.parametrize("loss", CLASSES)
@pytest.mark.parametrize("label", [3, -1, 0.5, np.nan])
def test_a_label_out_of_range_names_row_and_value(loss, label):
    with pytest.raises(DataError, match=f"label {label} at row 1 .* 0 to 2"):
        loss(np.full((2, 3), 1 / 3), np.array([0, label]))


@pytest.mark.parametrize("loss", CLASSES)
def test_targets_that_are_no_distribution(loss):
    p = np.full((2, 2), 0.5)
    with pytest.raises(DataError, match=r"row 1 adds up to 1\.5"):
        loss(p, [[0.5, 0.5], [1.0, 0.5]])
    with pytest.raises(DataError, match=r"row 1 holds -0\.5"):
        loss(p, [[0.5, 0.5], [1.5, -0.5]])


def test_values_out_of_range():
    with pytest.raises(DataError, match=r"-1.0 at row 1; relabel"):
        logistic([0.0, 1.0], [1, -1])
    with pytest.raises(DataError, match="use logistic on logits"):
        binary_cross_entropy([3.0], [1])
    with pytest.raises(DataError, match="use softmax_cross_entropy on logits"):
        nll([[3.0, -1.0]], [1])
    for clip in (0, 0.5, -1.0):
        with pytest.raises(ValueError, match="clip must be"):
            nll([[0.5, 0.5]], [1], clip=clip)
    with pytest.raises(ValueError, match="delta must be positive"):
        huber([1.0], [1.0], delta=0)


def test_arguments():
    with pytest.raises(UnknownNameError, match="did you mean 'mean'"):
        squared_error([1.0], [1.0], reduction="maen")
    with pytest.raises(ShapeError, match=r"sample_weight has shape \(3,\), the rows \(2,\)"):
        squared_error([1.0, 2.0], [1.0, 2.0], [1, 1, 1])
    with pytest.raises(DataError, match=r"-1.0 at row 1"):
        squared_error([1.0, 2.0], [1.0, 2.0], [1, -1])
    with pytest.raises(DataError, match="0 for every row"):
        squared_error([1.0, 2.0], [1.0, 2.0], [0, 0])
    with pytest.raises(ShapeError, match="at least one"):
        squared_error(np.zeros((0, 2)), np.zeros((0, 2)))
    with pytest.raises(ShapeError, match="act on each element"):
        matching(lambda z: cr.sum(z))([1.0], [1.0])
    with pytest.raises(UnknownNameError, match="did you mean 'sigmoid'"):
        matching("sigmiod")
    with pytest.raises(TypeError, match="function or its name"):
        matching(3)


# -- by name ----------------------------------------------------------------------------------


def test_by_name():
    for name, loss in LOSSES.items():
        assert get(name) is loss is getattr(losses, name)
        assert pickle.loads(pickle.dumps(loss)) is loss
        assert loss.__doc__
    own = lambda prediction, target: cr.sum(prediction)  # noqa: E731
    assert get(own) is own
    with pytest.raises(UnknownNameError, match="did you mean 'softmax_cross_entropy'"):
        get("softmax_crossentropy")


def test_nodes_carry_the_loss_as_their_group():
    out = squared_error(cr.tensor([1.0, 2.0]), [0.0, 0.0])
    assert out.group is not None
    assert {node.group for node in (out, out.inputs[0], out.inputs[0].inputs[0])} == {out.group}
    assert out.group.name == "squared_error"
