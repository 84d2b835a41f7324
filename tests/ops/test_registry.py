"""Every operation against its own facts: a walk through the registry, so a new one is tested too.

Values and derivatives are compared with the same formulas read in high precision (`mp_reading`),
structural operations with their index form. Only parameters that an operation cannot do without,
and inputs of a particular shape, are listed here, in `SETTINGS`.
"""

from __future__ import annotations

import dataclasses
import doctest
import itertools
import math
import string
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import chainrule as cr
import mp_reading
from chainrule.circuit import Tensor, circuit_of
from chainrule.gradient import flow_back
from chainrule.gradient.check import check_grad
from chainrule.ops import Composed, Operation
from mp_reading import floats, read, value_of
from tolerances import DERIVATIVE, DTYPES, PROOF, VALUE, assert_near

OPERATIONS = [op for op in cr.registry.values() if isinstance(op, Operation)]
COMPOSED = [f for f in cr.registry.values() if isinstance(f, Composed)]
POINTWISE = [op for op in OPERATIONS if op.facts.local]
STRUCTURAL = [op for op in OPERATIONS if op.facts.pull]
DIFFERENTIABLE = POINTWISE + STRUCTURAL
GATES = [op for op in OPERATIONS if op.is_gate]
BLOCKERS = [op for op in OPERATIONS if op.facts.flow == "blocker"]
INDEXED = [op for op in OPERATIONS if op.facts.index is not None]
MANY = [op for op in POINTWISE if op.arity is not None and op.arity > 1]


def each(operations: Sequence[Any], name: str = "op") -> Any:
    return pytest.mark.parametrize(name, operations, ids=[op.name for op in operations])


@dataclasses.dataclass(frozen=True)
class Setting:
    """Shapes of the inputs and parameters of one call."""

    shapes: tuple[tuple[int, ...], ...]
    params: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def _settings(shapes: Any, *params: Mapping[str, Any]) -> list[Setting]:
    return [Setting(shapes, p) for p in params or ({},)]


AXES = [
    {},
    {"axis": 0},
    {"axis": -1},
    {"axis": (0, 2)},
    {"axis": (-1, 0), "keepdims": True},
    {"axis": ()},
]
_INDICES: list[Any] = [
    1,
    -1,
    slice(None, None, -1),
    slice(1, 3),
    (slice(None), 2),
    (..., 0),
    (None, slice(0, 4, 2), 1),
    [0, 2, 2, -1],
    ([0, 1, 1], [2, 0, 0]),
    (slice(None), [1, 1]),
    np.arange(12).reshape(4, 3) % 3 == 0,
    np.array([True, False, True, True]),
    np.array([], dtype=np.int64),
]
SETTINGS: dict[str, list[Setting]] = {
    "sum": [*_settings(((2, 3, 2),), *AXES), Setting(((),)), Setting(((0, 2),), {"axis": 0})],
    "max": [*_settings(((2, 3, 2),), *AXES), Setting(((),))],
    "min": [*_settings(((2, 3, 2),), *AXES), Setting(((),))],
    "logsumexp": [*_settings(((2, 3, 2),), *AXES), Setting(((),))],
    "softmax": [
        *_settings(((2, 3),), {}, {"axis": 0}, {"beta": 2.5}, {"axis": -2, "beta": -0.5}),
        Setting(((4,),)),
        Setting(((2, 1, 3),), {"axis": 1}),
    ],
    "log_softmax": [*_settings(((2, 3),), {}, {"axis": 0}, {"axis": -2}), Setting(((4,),))],
    "cumsum_along": _settings(((2, 3, 2),), {}, {"axis": 0}, {"axis": -2}),
    "reshape": [
        *_settings(((2, 3, 2),), {"shape": (3, 4)}, {"shape": (-1,)}, {"shape": (2, -1, 1)}),
        Setting(((),), {"shape": (1, 1)}),
        Setting(((0, 3),), {"shape": (3, 0)}),
    ],
    "transpose": [
        *_settings(((2, 3, 4),), {}, {"axes": (1, 2, 0)}, {"axes": (-1, 0, 1)}),
        Setting(((),)),
        Setting(((3,),)),
    ],
    "broadcast_to": [
        Setting(((),), {"shape": (2, 3)}),
        Setting(((3,),), {"shape": (2, 3)}),
        Setting(((2, 1),), {"shape": (4, 2, 3)}),
        Setting(((2, 1),), {"shape": (2, 0)}),
    ],
    "getitem": _settings(((4, 3),), *[{"index": index} for index in _INDICES]),
    "scatter_add": [
        Setting(((2, 3),), {"index": slice(1, 3), "shape": (4, 3)}),
        Setting(((),), {"index": (1, 2), "shape": (4, 3)}),
        Setting(((3,),), {"index": [0, 2, 2], "shape": (4,)}),
        Setting(((3,),), {"index": ([0, 1, 1], [2, 0, 0]), "shape": (4, 3)}),
        Setting(((2, 3),), {"index": [1, 1], "shape": (4, 3)}),
        Setting(((4,),), {"index": np.array([[True, True], [True, True]]), "shape": (2, 2)}),
    ],
    "matmul": [
        Setting(((2, 3), (3, 4))),
        Setting(((3,), (3,))),
        Setting(((3,), (3, 2))),
        Setting(((2, 3), (3,))),
        Setting(((5, 2, 3), (5, 3, 2))),
        Setting(((5, 2, 3), (3, 2))),
        Setting(((2, 3), (5, 3, 2))),
        Setting(((2, 1, 2, 3), (4, 3, 1))),
        Setting(((3,), (2, 3, 2))),
        Setting(((2, 2, 3), (3,))),
        Setting(((0, 3), (3, 2))),
        Setting(((2, 0), (0, 2))),
    ],
    "join": [
        Setting(((2, 3), (1, 3), (2, 3)), {"axis": 0}),
        Setting(((2, 1), (2, 3)), {"axis": -1}),
        Setting(((2,),), {"axis": 0}),
        Setting(((0,), (3,), (2,)), {"axis": 0}),
    ],
    "clip": _settings(((7,),), {"low": -1.0, "high": 2.0}, {"low": 0.5}, {"high": -0.5}),
    "astype": _settings(((3,),), {"dtype": np.float64}),
    "elu": _settings(((7,),), {}, {"alpha": 0.4}),
    "leaky_relu": _settings(((7,),), {}, {"negative_slope": 0.2}),
    "keep": _settings(((),), {"shape": (3, 2)}),
}
BINARY_SHAPES: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
    ((), ()),
    ((), (3,)),
    ((1,), ()),
    ((2, 3), (3,)),
    ((2, 1), (1, 3)),
    ((4, 1, 3), (2, 1)),
    ((1, 1), (2, 3)),
    ((2, 1, 1, 3), (1, 2, 1)),
    ((0,), (1,)),
    ((1, 0), (3, 1)),
]


def settings_of(op: Operation) -> list[Setting]:
    """The calls to test: those of the table, else one with default parameters."""
    return SETTINGS.get(op.name) or [Setting(((4,),) * (op.arity or 2))]


CALLS = [(op, s) for op in DIFFERENTIABLE for s in settings_of(op)]
INDEX_CALLS = [(op, s) for op in INDEXED for s in settings_of(op)]


def each_call(calls: Sequence[tuple[Operation, Setting]]) -> Any:
    names = [f"{op.name}-{k}" for k, (op, _) in enumerate(calls)]
    return pytest.mark.parametrize(("op", "setting"), calls, ids=names)


def domain_of(op: Operation, position: int) -> tuple[float, float]:
    domain = op.facts.domain or ((-5.0, 5.0),)
    return domain[position if len(domain) > 1 else 0]


def sample(
    op: Operation, shapes: Sequence[Any], seed: int = 0, dtype: Any = np.float64
) -> list[Any]:
    """Random inputs in the domain; a condition (an input without gradient) is boolean."""
    rng = np.random.default_rng([seed, len(op.name), sum(map(ord, op.name))])
    inputs: list[Any] = []
    for position, shape in enumerate(shapes):
        low, high = domain_of(op, position)
        if op.facts.local and op.facts.local[position] is None:
            inputs.append(np.asarray(rng.random(shape) < 0.5))
        else:
            inputs.append(np.asarray(rng.uniform(low, high, shape)).astype(dtype))
    return inputs


def completed(op: Operation, inputs: Sequence[Any], params: Mapping[str, Any]) -> Mapping[str, Any]:
    """The parameters in canonical form, as the circuit records them."""
    node = op(*[as_variable(x) for x in inputs], **params)
    return node.params if node.op is op else params


def as_variable(x: Any) -> Tensor:
    return cr.tensor(x, requires_grad=np.asarray(x).dtype.kind == "f")


def wanted_positions(op: Operation) -> list[int]:
    return [k for k, rule in enumerate(op.facts.local) if rule is not None]


def along(
    op: Operation, position: int, others: Sequence[Any], params: Mapping[str, Any]
) -> Callable[[Any], Any]:
    """The exact operation as a function of one scalar input, for mpmath.diff."""

    def function(t: Any) -> Any:
        args = [mp_reading.as_mp(x) for x in others]
        args[position] = mp_reading.as_mp(t)
        return mp_reading.apply(op, args, params)[()]

    return function


# -- (a) facts, docstrings, notation ----------------------------------------------------------


def test_the_registry_is_walked() -> None:
    names = {op.name for op in OPERATIONS}
    assert len(OPERATIONS) > 60
    assert {"add", "sigmoid", "softmax", "matmul", "getitem", "max", "where"} <= names
    assert len(CALLS) > 100


def test_settings_name_operations() -> None:
    assert set(SETTINGS) <= {op.name for op in OPERATIONS}


@each(OPERATIONS)
def test_facts_are_complete(op: Operation) -> None:
    facts = op.facts
    assert facts.name == op.name
    assert cr.registry[op.name] is op
    assert getattr(cr, op.name) is op
    assert op.name in facts.meaning
    assert "\n" not in facts.meaning
    assert facts.symbol.strip()
    assert op.differentiable == (facts.flow != "blocker")
    if op.differentiable:
        assert facts.local or facts.pull
        assert facts.domain
    for low, high in facts.domain:
        assert low < high
    for kink in facts.kinks:
        assert kink.where
        assert kink.subgradient
        assert kink.why


@each(OPERATIONS)
def test_latex_formats_and_balances(op: Operation) -> None:
    inputs = ["u_1", "u_2", "u_3"][: op.arity or 1]
    text = op.facts.latex.format(*inputs)
    depth = 0
    for one in text.replace(r"\{", "").replace(r"\}", ""):
        depth += (one == "{") - (one == "}")
        assert depth >= 0, text
    assert depth == 0, text
    assert text.count(r"\left") == text.count(r"\right")
    assert text.count(r"\begin{") == text.count(r"\end{")
    fields = {
        name for _, name, _, _ in string.Formatter().parse(op.facts.latex) if name is not None
    }
    assert fields <= {str(k) for k in range(op.arity or 1)}
    assert "0" in fields


@each([*OPERATIONS, *COMPOSED])
def test_docstring_example_runs(op: Any) -> None:
    parsed = doctest.DocTestParser().get_doctest(op.__doc__, {"cr": cr, "np": np}, op.name, None, 0)
    assert len(parsed.examples) >= 2, "no example besides the import"
    messages: list[str] = []
    results = doctest.DocTestRunner(verbose=False).run(parsed, out=messages.append)
    assert results.failed == 0, "".join(messages)


# -- (b) values -------------------------------------------------------------------------------


@each([op for op in POINTWISE if op.name != "astype"])
@pytest.mark.parametrize("dtype", DTYPES)
@given(data=st.data())
def test_value_is_exact_to_rounding(op: Operation, dtype: Any, data: st.DataObject) -> None:
    width = 64 if dtype is np.float64 else 32
    inputs: list[Any] = []
    for position in range(op.arity or 1):
        low, high = domain_of(op, position)
        if op.facts.local[position] is None:
            inputs.append(np.asarray(data.draw(st.booleans())))
        else:
            low, high = float(np.float32(low * 0.999)), float(np.float32(high * 0.999))
            number = data.draw(st.floats(low, high, width=width, allow_subnormal=False))
            inputs.append(np.asarray(number, dtype=dtype))
    for setting in settings_of(op):
        got = op(*inputs, **setting.params)
        params = completed(op, inputs, setting.params)
        tiny = any(0 < abs(float(x)) < 1e-60 for x in inputs)
        digits = mp_reading.EXTREME_DIGITS if tiny else mp_reading.DIGITS
        exact = floats(value_of(op, inputs, params, digits), dtype)
        assert np.asarray(got).dtype == dtype
        assert_near(got, exact, VALUE[dtype], what=f"{op.name}{tuple(inputs)}")


@each_call(CALLS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_value_of_arrays_is_exact_to_rounding(op: Operation, setting: Setting, dtype: Any) -> None:
    inputs = sample(op, setting.shapes, dtype=dtype)
    node = op(*[as_variable(x) for x in inputs], **setting.params)
    plain = op(*inputs, **setting.params)
    exact = floats(value_of(op, inputs, node.params))
    sizes = [np.abs(x.astype(float)).max(initial=1.0) for x in inputs]
    scale = math.prod(sizes) if op.facts.flow in ("switcher", "distributor", "mixer") else 0.0
    assert_near(node.value, exact, VALUE[dtype], scale, op.name)
    np.testing.assert_array_equal(np.asarray(plain), np.asarray(node.value))
    if op.name != "astype":
        assert node.dtype == dtype


@each([op for op in POINTWISE if any(isinstance(f, np.ufunc) for f in op.facts.numpy)])
def test_value_is_that_of_its_numpy_function(op: Operation) -> None:
    inputs = sample(op, [(50,)] * (op.arity or 1))
    for function in op.facts.numpy:
        if isinstance(function, np.ufunc) and function is not np.clip:
            assert_near(op(*inputs), function(*inputs), VALUE[np.float64], what=function.__name__)


@each([op for op in BLOCKERS if op.name not in ("keep", "argmax", "argmin")])
def test_blocker_matches_its_exact_reading(op: Operation) -> None:
    inputs = [np.array([-1.5, 0.0, 2.0, 0.25]), np.array([0.5, 0.0, -3.0, 0.25])][: op.arity or 1]
    exact = value_of(op, inputs, {})
    np.testing.assert_array_equal(np.asarray(op(*inputs), float), exact.astype(float))
    node = op(*map(cr.tensor, inputs))
    assert not node.requires_grad


def test_argmax_and_argmin_are_numpy_s() -> None:
    x = np.array([[3.0, 1.0, 3.0], [0.0, 5.0, -1.0]])
    for axis, keepdims in itertools.product((None, 0, -1), (False, True)):
        for name in ("argmax", "argmin"):
            got = getattr(cr, name)(cr.tensor(x), axis=axis, keepdims=keepdims)
            expected = getattr(np, name)(x, axis=axis, keepdims=keepdims)
            np.testing.assert_array_equal(got.numpy(), expected)
            assert not got.requires_grad


# -- (c) gates: stable forms are the textbook's -----------------------------------------------


def _scalar_inputs(op: Operation, seed: int) -> list[Any]:
    return sample(op, [()] * (op.arity or 1), seed)


@each([op for op in GATES if mp_reading.elementwise(op.name) is not None and op.arity == 1])
def test_definition_is_the_mathematical_function(op: Operation) -> None:
    exact = mp_reading.elementwise(op.name)
    assert exact is not None
    for seed in range(5):
        x = _scalar_inputs(op, seed)[0]
        with mpmath.workdps(mp_reading.DIGITS):
            opened = mp_reading.apply(op, [mp_reading.as_mp(x)], {})[()]
            assert abs(opened - exact(mpmath.mpf(float(x)))) <= PROOF * abs(opened)


def _local_node(
    op: Operation, rule: Any, inputs: Sequence[Tensor], params: Mapping[str, Any]
) -> Tensor:
    out = op(*inputs, **params)
    found = rule(*inputs, out, **out.params) if callable(rule) else rule
    return found if isinstance(found, Tensor) else cr.identity(cr.tensor(float(found)))


@each([op for op in POINTWISE if op.facts.textbook])
def test_stable_derivative_equals_the_textbook_s(op: Operation) -> None:
    for position, setting, seed in itertools.product(
        wanted_positions(op), settings_of(op), range(6)
    ):
        inputs = _scalar_inputs(op, seed)
        leaves = [as_variable(x) for x in inputs]
        at = dict(zip(leaves, inputs, strict=True))
        stable = _local_node(op, op.facts.local[position], leaves, setting.params)
        textbook = _local_node(op, op.facts.textbook[position], leaves, setting.params)
        a, b = read(stable, at)[()], read(textbook, at)[()]
        with mpmath.workdps(mp_reading.DIGITS):
            assert abs(a - b) <= PROOF * max(abs(a), abs(b)), f"{op.name}′{inputs}: {a} ≠ {b}"


@each([op for op in GATES if op.facts.local])
def test_gate_s_derivative_is_its_definition_s(op: Operation) -> None:
    """The rule against the derivative that follows from the opened gate, both at 60 digits."""
    for position, setting, seed in itertools.product(
        wanted_positions(op), settings_of(op), range(6)
    ):
        inputs = _scalar_inputs(op, seed)
        leaves = [as_variable(x) for x in inputs]
        at = dict(zip(leaves, inputs, strict=True))
        closed = op(*leaves, **setting.params)
        with np.errstate(all="ignore"):
            opened = op.facts.definition(*leaves, **closed.params)
        one = cr.tensor(1.0, requires_grad=False)
        a = read(flow_back(closed, one)[leaves[position]], at)[()]
        b = read(flow_back(opened, one)[leaves[position]], at)[()]
        with mpmath.workdps(mp_reading.DIGITS):
            assert abs(a - b) <= PROOF * max(abs(a), abs(b)), f"{op.name}′{inputs}: {a} ≠ {b}"


@each_call([(op, s) for op, s in CALLS if op.is_gate and op.facts.pull])
def test_gate_s_pull_is_its_definition_s(op: Operation, setting: Setting) -> None:
    inputs = sample(op, setting.shapes)
    leaves = [as_variable(x) for x in inputs]
    at = dict(zip(leaves, inputs, strict=True))
    closed = op(*leaves, **setting.params)
    with np.errstate(all="ignore"):
        opened = op.facts.definition(*leaves, **closed.params)
    upstream = cr.tensor(np.random.default_rng(5).normal(size=closed.shape), requires_grad=False)
    for leaf in leaves:
        a = read(
            flow_back(closed, upstream)[leaf], {**at, closed: value_of(op, inputs, closed.params)}
        )
        b = read(flow_back(opened, upstream)[leaf], at)
        with mpmath.workdps(mp_reading.DIGITS):
            largest = max((abs(v) for v in b.flat), default=mpmath.mpf(1))
            assert all(abs(v - w) <= PROOF * largest for v, w in zip(a.flat, b.flat, strict=True))


# -- (d) derivatives to the third order -------------------------------------------------------


def _derivatives(
    op: Operation, position: int, inputs: Sequence[Any], params: Mapping[str, Any]
) -> list[float]:
    """First, second and third derivative by the engine."""

    def function(t: Any) -> Any:
        args = list(inputs)
        args[position] = t
        return op(*args, **params)

    found, derivative = [], function
    for _ in range(3):
        derivative = cr.grad(derivative)
        found.append(float(derivative(inputs[position])))
    return found


def _exact_derivatives(function: Callable[[Any], Any], x: Any, direction: int = 0) -> list[Any]:
    with mpmath.workdps(mp_reading.DIGITS):
        at = mpmath.mpf(float(x))
        return [mpmath.diff(function, at, n, direction=direction) for n in (1, 2, 3)]


@each(POINTWISE)
def test_derivatives_to_third_order_at_random_points(op: Operation) -> None:
    for position, setting, seed in itertools.product(
        wanted_positions(op), settings_of(op), range(4)
    ):
        inputs = _scalar_inputs(op, seed)
        params = completed(op, inputs, setting.params)
        exact = [
            float(d)
            for d in _exact_derivatives(along(op, position, inputs, params), inputs[position])
        ]
        got = _derivatives(op, position, inputs, setting.params)
        scale = 0.0
        for order, (a, b) in enumerate(zip(got, exact, strict=True), start=1):
            scale = max(scale, abs(b))
            assert_near(a, b, DERIVATIVE[np.float64], scale, f"{op.name}, order {order}, {inputs}")


@each(POINTWISE)
def test_derivatives_to_third_order_at_zero(op: Operation) -> None:
    """Wherever the function is smooth at 0 (its one-sided derivatives agree), to that order."""
    for position, setting in itertools.product(wanted_positions(op), settings_of(op)):
        low, high = domain_of(op, position)
        if not low < 0 < high:
            continue
        inputs = _scalar_inputs(op, 1)
        inputs[position] = np.asarray(0.0)
        params = completed(op, inputs, setting.params)
        function = along(op, position, inputs, params)
        right, left = (_exact_derivatives(function, 0.0, direction) for direction in (1, -1))
        got = _derivatives(op, position, inputs, setting.params)
        scale = 1e-30  # mpmath's differences of cos at 0 give 1e−255
        for order, (a, b, c) in enumerate(zip(got, right, left, strict=True), start=1):
            if abs(b - c) > 1e-6:
                break  # a kink in this order: nothing is claimed from here on
            scale = max(scale, abs(float(b)))
            assert_near(
                a, float(b), DERIVATIVE[np.float64], scale, f"{op.name} at 0, order {order}"
            )


@pytest.mark.parametrize(
    "name", ["tanh", "sigmoid", "softplus", "silu", "gelu", "erf", "sin", "exp"]
)
def test_smooth_functions_are_compared_at_zero(name: str) -> None:
    """Guards the test above: for these, no order may be skipped."""
    function = along(cr.registry[name], 0, [np.asarray(0.0)], {})
    right, left = (_exact_derivatives(function, 0.0, direction) for direction in (1, -1))
    assert all(abs(b - c) < 1e-6 for b, c in zip(right, left, strict=True))


@each([op for op in MANY if op.facts.flow != "router"])
def test_mixed_second_derivative(op: Operation) -> None:
    for seed in range(3):
        x, y = _scalar_inputs(op, seed)
        with mpmath.workdps(mp_reading.DIGITS):
            expected = mpmath.diff(
                lambda a, b: mp_reading.apply(op, [mp_reading.as_mp(a), mp_reading.as_mp(b)], {})[
                    ()
                ],
                (mpmath.mpf(float(x)), mpmath.mpf(float(y))),
                (1, 1),
            )
        one_way = cr.grad(cr.grad(op, 0), 1)(x, y)
        other_way = cr.grad(cr.grad(op, 1), 0)(x, y)
        assert_near(one_way, float(expected), DERIVATIVE[np.float64], 1.0, op.name)
        assert_near(other_way, float(expected), DERIVATIVE[np.float64], 1.0, op.name)


@each([op for op in POINTWISE if op.name != "astype"])
def test_gradient_keeps_float32(op: Operation) -> None:
    for setting in settings_of(op):
        inputs = sample(op, [(5,)] * (op.arity or 1), dtype=np.float32)
        leaves = [as_variable(x) for x in inputs]
        out = cr.sum(op(*leaves, **setting.params))
        assert out.dtype == np.float32
        single = out.backward()
        wide = [as_variable(x.astype(np.float64) if x.dtype.kind == "f" else x) for x in inputs]
        double = cr.sum(op(*wide, **setting.params)).backward()
        for k in wanted_positions(op):
            assert single[leaves[k]].dtype == np.float32
            assert_near(single[leaves[k]], double[wide[k]], DERIVATIVE[np.float32], what=op.name)


@each([op for op in POINTWISE if op.name != "astype"])
@pytest.mark.parametrize("shape", [(), (5,)], ids=str)
def test_a_rule_computes_in_the_input_s_precision(op: Operation, shape: tuple[int, ...]) -> None:
    """No float64 on the way: cast back at the end it would be right, but slow when compiled."""
    for setting in settings_of(op):
        inputs = sample(op, [shape] * (op.arity or 1), dtype=np.float32)
        leaves = [as_variable(x) for x in inputs]
        out = op(*leaves, **setting.params)
        found = flow_back(out, cr.tensor(np.ones(shape, np.float32), requires_grad=False))
        for k in wanted_positions(op):
            wide = [n for n in circuit_of(found[leaves[k]]) if n.op and n.dtype == np.float64]
            assert wide == []


@pytest.mark.parametrize("exponent", [2, 3.0, -1, 0.5])
def test_a_power_with_a_plain_exponent_stays_float32(exponent: float) -> None:
    x = cr.tensor(np.array([0.5, 2.0], dtype=np.float32))
    found = flow_back(x**exponent, cr.tensor(np.ones(2, np.float32), requires_grad=False))
    assert all(n.dtype == np.float32 for n in circuit_of(found[x]) if n.op)


@each_call([c for c in CALLS if c[0].facts.pull])
def test_structural_gradient_keeps_float32(op: Operation, setting: Setting) -> None:
    inputs = sample(op, setting.shapes, dtype=np.float32)
    leaves = [as_variable(x) for x in inputs]
    out = op(*leaves, **setting.params)
    assert out.dtype == np.float32
    found = out.backward(np.ones(out.shape))
    for leaf in leaves:
        assert found[leaf].dtype == np.float32
        assert found[leaf].shape == leaf.shape


# -- (e) extremes -----------------------------------------------------------------------------

# The functions whose stable form promises that nothing overflows anywhere.
STABLE = (
    *("identity", "negative", "abs", "arctan", "erf", "erfc", "sigmoid", "tanh", "softplus"),
    *("relu", "leaky_relu", "elu", "selu", "silu", "gelu", "softsign", "hard_tanh"),
)
ROWS = ("softmax", "log_softmax", "logsumexp")


def test_stable_names_exist() -> None:
    assert set(STABLE) | set(ROWS) <= set(cr.registry)


@pytest.fixture
def loud() -> Iterator[None]:
    """Overflow, invalid and division warnings are errors; a smooth underflow to 0 is right."""
    with (
        np.errstate(over="warn", invalid="warn", divide="warn", under="ignore"),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("error")
        yield


def _extremes(dtype: Any) -> list[Any]:
    info = np.finfo(dtype)
    sizes = [
        info.max,
        info.max / 10,
        1e4,
        710.0,
        104.0,
        40.0,
        1e-4,
        info.tiny,
        info.smallest_subnormal,
    ]
    return [dtype(s * size) for size in sizes for s in (1, -1)] + [dtype(0)]


@pytest.mark.parametrize("name", STABLE)
@pytest.mark.parametrize("dtype", DTYPES)
def test_extremes_of_stable_functions(loud: None, name: str, dtype: Any) -> None:
    function = cr.registry[name]
    for x in _extremes(dtype):
        if name == "selu" and x > np.finfo(dtype).max / 2:
            continue  # 1.05·x overflows there, as it should
        leaf = cr.tensor(np.asarray(x), name="x")
        out = function(leaf)
        gradient = np.asarray(out.backward()[leaf])
        one = cr.tensor(dtype(1), requires_grad=False)
        symbolic = flow_back(out, one)[leaf]
        exact = floats(read(out, {leaf: x}, mp_reading.EXTREME_DIGITS), dtype)
        slope = floats(read(symbolic, {leaf: x}, mp_reading.EXTREME_DIGITS), dtype)
        assert out.dtype == gradient.dtype == dtype
        assert_near(out.value, exact, VALUE[dtype], what=f"{name}({x!r})")
        with np.errstate(under="ignore"):
            assert_near(gradient, slope, DERIVATIVE[dtype], what=f"{name}′({x!r})")
        assert np.isfinite(gradient)


@pytest.mark.parametrize("name", STABLE)
@pytest.mark.parametrize("dtype", DTYPES)
def test_arrays_agree_with_scalars_at_extremes(loud: None, name: str, dtype: Any) -> None:
    """Scalars may go a faster way than arrays."""
    function = cr.registry[name]
    info = np.finfo(dtype)
    xs = [x for x in _extremes(dtype) if abs(x) < info.max / 2]
    xs = np.array([*xs, np.inf, -np.inf, np.nan, -0.0], dtype=dtype)
    leaf = cr.tensor(xs)
    out = function(leaf)
    gradient = out.backward(np.ones(out.shape))[leaf]
    for k, x in enumerate(xs):
        alone = cr.tensor(x)
        single = function(alone)
        assert_near(out.value[k], single.value, VALUE[dtype], what=f"{name}({x})")
        assert_near(gradient[k], single.backward()[alone], VALUE[dtype], what=f"{name}′({x})")


@pytest.mark.parametrize("name", STABLE)
@pytest.mark.parametrize("dtype", DTYPES)
def test_infinities_are_limits_of_stable_functions(loud: None, name: str, dtype: Any) -> None:
    function = cr.registry[name]
    for s in (1, -1):
        far, infinite = dtype(s * np.finfo(dtype).max / 8), dtype(s * np.inf)
        near_value = float(function(far))
        grows = abs(near_value) > 1e30
        a, b = cr.tensor(np.asarray(infinite)), cr.tensor(np.asarray(far))
        out = function(a)
        expected = math.copysign(np.inf, near_value) if grows else near_value
        assert float(out.value) == expected, f"{name}({infinite})"
        assert float(out.backward()[a]) == float(function(b).backward()[b]), f"{name}′({infinite})"


# where and prelu select, so the NaN of a branch not taken stays out; NaN⁰ = 1 in IEEE 754
@each([op for op in POINTWISE if op.name not in ("where", "power", "prelu")])
def test_nan_in_gives_nan_out(op: Operation) -> None:
    for setting in settings_of(op):
        for position in range(op.arity or 1):
            inputs = _scalar_inputs(op, 0)
            inputs[position] = np.asarray(np.nan)
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                out = op(*[as_variable(x) for x in inputs], **setting.params)
            assert np.isnan(out.value), f"{op.name}{inputs}"


@pytest.mark.parametrize(
    "name", [*ROWS, "sum", "max", "min", "cumsum_along", "prod", "mean", "var"]
)
def test_nan_in_a_row_is_not_lost(name: str) -> None:
    function = cr.registry[name]
    out = np.asarray(function(np.array([1.0, np.nan, 3.0])))
    assert np.isnan(out.reshape(-1)[-1])


def test_nan_of_the_branch_taken_shows() -> None:
    nan = np.nan
    assert np.isnan(cr.selu(nan))
    assert np.isnan(cr.prelu(nan, 0.1))
    assert np.isnan(cr.prelu(-1.0, nan))
    assert cr.prelu(1.0, nan) == 1.0
    assert np.isnan(cr.where(True, nan, 1.0))
    assert cr.where(False, nan, 1.0) == 1.0


@each([op for op in POINTWISE if op.arity == 1 and op.facts.domain[0][0] < 0])
def test_an_odd_function_keeps_the_sign_of_zero(op: Operation) -> None:
    params = settings_of(op)[0].params
    full = completed(op, [np.asarray(0.5)], params)
    with mpmath.workdps(60):
        odd = all(
            abs(along(op, 0, [0.0], full)(t) + along(op, 0, [0.0], full)(-t)) < 1e-40
            for t in (mpmath.mpf("0.3"), mpmath.mpf("0.7"))
        )
    if odd:
        for zero in (0.0, -0.0):
            negative_side = math.copysign(
                1, float(op(np.float64(1e-3) * math.copysign(1, zero), **params))
            )
            got = float(op(np.float64(zero), **params))
            assert got == 0
            assert math.copysign(1, got) == negative_side, f"{op.name}({zero}) = {got}"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ROWS)
def test_extremes_of_rows(loud: None, name: str, dtype: Any) -> None:
    op = cr.registry[name]
    big = np.finfo(dtype).max / 4
    rows = [
        [1000.0, 0.0, -1000.0],
        [big, 0.0, -big],
        [big, big, -big],
        [-1e4, -1e4, -1e4],
        [1e-40, 0.0, -1e-40],
        [0.0, 88.0, 710.0],
    ]
    for row in rows:
        x = np.array(row, dtype=dtype)
        leaf = cr.tensor(x)
        out = op(leaf)
        exact = floats(value_of(op, [x], out.params, mp_reading.EXTREME_DIGITS), dtype)
        assert out.dtype == dtype
        # ln(1 + 1e−271) is 0: the logarithms of rows are right to the rounding of 1
        scale = 0.0 if name == "softmax" else 1.0
        assert_near(out.value, exact, VALUE[dtype], scale, f"{name}({row})")
        upstream = np.array([0.3, -0.7, 1.1])[: out.size].reshape(out.shape)
        gradient = out.backward(upstream)[leaf]
        assert np.isfinite(gradient).all()
        exact_softmax = floats(value_of(cr.softmax, [x], {"axis": -1, "beta": 1.0}))
        u = upstream.astype(dtype).astype(float)
        expected = {
            "softmax": exact_softmax * (u - np.sum(u * exact_softmax)),
            "log_softmax": u - exact_softmax * np.sum(u),
            "logsumexp": exact_softmax * u,
        }[name]
        assert_near(gradient, expected, DERIVATIVE[dtype], 1.0, f"{name}′({row})")


def test_rows_of_infinities_follow_ieee(loud: None) -> None:
    inf = np.inf
    np.testing.assert_array_equal(cr.softmax(np.array([0.0, -inf, 0.0])), [0.5, 0.0, 0.5])
    np.testing.assert_array_equal(cr.log_softmax(np.array([0.0, -inf])), [0.0, -inf])
    assert cr.logsumexp(np.array([-inf, -inf])) == -inf
    assert cr.logsumexp(np.array([-inf, 2.0])) == 2.0
    assert cr.logsumexp(np.array([inf, 2.0])) == inf
    assert np.isnan(cr.softmax(np.array([inf, 2.0]))).any()


# -- (f) kinks and ties -----------------------------------------------------------------------


@each([op for op in OPERATIONS if any(k.at is not None for k in op.facts.kinks)])
def test_declared_kink_has_its_subgradient(op: Operation) -> None:
    for kink, setting in itertools.product(op.facts.kinks, settings_of(op)):
        leaf = cr.tensor(np.asarray(kink.at))
        out = op(leaf, **setting.params)
        values = {**op.defaults, **out.params}
        declared = (
            values[kink.subgradient] if kink.subgradient in values else float(kink.subgradient)
        )
        assert float(out.backward()[leaf]) == declared
        assert float(op(cr.tensor(-0.0 if kink.at == 0 else kink.at)).value) == float(op(kink.at))


@pytest.mark.parametrize(
    ("name", "args", "position", "declared"),
    [
        ("maximum", (2.0, 2.0), 0, 0.5),
        ("maximum", (2.0, 2.0), 1, 0.5),
        ("minimum", (-1.0, -1.0), 0, 0.5),
        ("minimum", (-1.0, -1.0), 1, 0.5),
        ("maximum", (0.0, -0.0), 0, 0.5),
        ("prelu", (0.0, 0.25), 0, 0.25),
        ("prelu", (0.0, 0.25), 1, 0.0),
        ("hard_tanh", (1.0,), 0, 1.0),
        ("hard_tanh", (-1.0,), 0, 1.0),
        ("power", (0.0, 0.0), 0, 0.0),
        ("power", (0.0, 0.0), 1, 0.0),
        ("power", (0.0, 2.0), 1, 0.0),
        ("power", (0.0, 1.0), 0, 1.0),
        ("power", (-2.0, 3.0), 0, 12.0),
        ("power", (-2.0, 2.0), 0, -4.0),
    ],
)
def test_kink_of_several_inputs(name: str, args: Any, position: int, declared: float) -> None:
    gradient = cr.grad(cr.registry[name], position)(*args)
    assert float(gradient) == declared


@pytest.mark.parametrize(
    ("x", "slope"), [(-1.0, 1.0), (2.0, 1.0), (-1.5, 0.0), (2.5, 0.0), (0.0, 1.0)]
)
def test_clip_follows_x_at_its_bounds(x: float, slope: float) -> None:
    assert float(cr.grad(lambda t: cr.clip(t, -1.0, 2.0))(x)) == slope


@pytest.mark.parametrize("name", ["max", "min"])
def test_ties_of_reductions_share_equally(name: str) -> None:
    sign = 1 if name == "max" else -1
    x = cr.tensor(sign * np.array([[3.0, 1.0, 3.0], [2.0, 2.0, 2.0]]))
    rows = cr.registry[name](x, axis=1).backward(np.array([1.0, 6.0]))[x]
    np.testing.assert_array_equal(rows, [[0.5, 0.0, 0.5], [2.0, 2.0, 2.0]])
    whole = cr.registry[name](x).backward()[x]
    np.testing.assert_array_equal(whole, [[0.5, 0.0, 0.5], [0.0, 0.0, 0.0]])


# -- (g) broadcasting -------------------------------------------------------------------------


def _summed_to(x: Any, shape: tuple[int, ...]) -> Any:
    """The adjoint of broadcasting, element by element."""
    out = np.zeros(shape)
    for place in np.ndindex(x.shape):
        own = place[len(place) - len(shape) :]
        out[tuple(0 if n == 1 else i for i, n in zip(own, shape, strict=True))] += x[place]
    return out


@each(MANY)
@pytest.mark.parametrize("shapes", BINARY_SHAPES, ids=str)
def test_broadcast_gradient_adds_up_the_copies(op: Operation, shapes: Any) -> None:
    three = [*shapes, shapes[0]][: op.arity]
    inputs = sample(op, three, seed=3)
    full = np.broadcast_shapes(*three)
    upstream = np.random.default_rng(1).uniform(1, 2, full)
    leaves = [as_variable(x) for x in inputs]
    out = op(*leaves)
    assert out.shape == full
    got = out.backward(upstream)
    copies = [as_variable(np.broadcast_to(x, full).copy()) for x in inputs]
    whole = op(*copies).backward(upstream)
    for k in wanted_positions(op):
        assert got[leaves[k]].shape == inputs[k].shape
        assert_near(
            got[leaves[k]], _summed_to(whole[copies[k]], inputs[k].shape), VALUE[np.float64], 1.0
        )


@each(POINTWISE)
@pytest.mark.parametrize(
    "shape", [(), (1,), (0,), (1, 3), (2, 0, 3), (2, 1, 3), (2, 1, 2, 2)], ids=str
)
def test_pointwise_shapes_from_0_to_4_axes(op: Operation, shape: tuple[int, ...]) -> None:
    inputs = sample(op, [shape] * (op.arity or 1))
    leaves = [as_variable(x) for x in inputs]
    params = settings_of(op)[0].params
    out = op(*leaves, **params)
    assert out.shape == shape
    found = out.backward(np.ones(shape))
    for k in wanted_positions(op):
        assert found[leaves[k]].shape == shape
        for place in np.ndindex(shape):
            single = [as_variable(x[place]) for x in inputs]
            alone = op(*single, **params).backward()[single[k]]
            assert_near(found[leaves[k]][place], alone, VALUE[np.float64], what=op.name)


# -- (h) index forms --------------------------------------------------------------------------


def _index_value(op: Operation, inputs: Sequence[Any], out: Any, params: Mapping[str, Any]) -> Any:
    shapes = [x.shape for x in inputs]
    combine = {"sum": sum, "max": max, "min": min}[op.facts.index.combine]
    value = np.zeros(out.shape)
    for o in np.ndindex(out.shape):
        terms = op.facts.index.terms(o, shapes, params)
        value[o] = combine([math.prod(inputs[p][i] for p, i in term) for term in terms])
    return value


def _index_gradients(
    op: Operation, inputs: Sequence[Any], out: Any, params: Mapping[str, Any], upstream: Any
) -> list[Any]:
    shapes = [x.shape for x in inputs]
    gradients = [np.zeros(s) for s in shapes]
    for o in np.ndindex(out.shape):
        terms = op.facts.index.terms(o, shapes, params)
        products = [math.prod(inputs[p][i] for p, i in term) for term in terms]
        combine = op.facts.index.combine
        best = {"sum": None, "max": max, "min": min}[combine]
        winners = [best is None or v == best(products) for v in products]
        share = upstream[o] if best is None else upstream[o] / sum(winners)
        for term, wins in zip(terms, winners, strict=True):
            for number, (p, i) in enumerate(term):
                rest = math.prod(inputs[q][j] for m, (q, j) in enumerate(term) if m != number)
                gradients[p][i] += share * rest if wins else 0.0
    return gradients


@each_call(INDEX_CALLS)
def test_index_form_gives_value_and_pull(op: Operation, setting: Setting) -> None:
    inputs = sample(op, setting.shapes, seed=2)
    if op.facts.index.combine != "sum":
        inputs = [np.round(x / 5) for x in inputs]  # ties
    leaves = [cr.tensor(x) for x in inputs]
    out = op(*leaves, **setting.params)
    scale = math.prod(np.abs(x).max(initial=1.0) for x in inputs)
    assert_near(out.value, _index_value(op, inputs, out, out.params), VALUE[np.float64], scale)
    upstream = np.random.default_rng(7).uniform(-1, 1, out.shape)
    found = out.backward(upstream)
    for leaf, expected in zip(
        leaves, _index_gradients(op, inputs, out, out.params, upstream), strict=True
    ):
        assert_near(found[leaf], expected, VALUE[np.float64], scale, op.name)
    assert not all(leaf.size for leaf in leaves) or out.size == 0 or np.any(found[leaves[0]])


# -- (i) what holds for every rule ------------------------------------------------------------


@each_call(CALLS)
def test_inputs_are_never_written(op: Operation, setting: Setting) -> None:
    inputs = sample(op, setting.shapes)
    before = [x.copy() for x in inputs]
    op(*inputs, **setting.params)
    leaves = [as_variable(x) for x in inputs]
    values = [np.array(x.value) for x in leaves]
    out = op(*leaves, **setting.params)
    kept = np.array(out.value)
    upstream = np.ones(out.shape)
    out.backward(upstream)
    for x, y in zip(inputs, before, strict=True):
        np.testing.assert_array_equal(x, y)
    for leaf, value in zip(leaves, values, strict=True):
        np.testing.assert_array_equal(np.asarray(leaf.value), value)
    np.testing.assert_array_equal(np.asarray(out.value), kept)
    np.testing.assert_array_equal(upstream, np.ones(out.shape))


@each_call(CALLS)
def test_backward_is_linear_in_its_upstream(op: Operation, setting: Setting) -> None:
    leaves = [as_variable(x) for x in sample(op, setting.shapes)]
    out = op(*leaves, **setting.params)
    rng = np.random.default_rng(3)
    u, v = rng.normal(size=out.shape), rng.normal(size=out.shape)
    first, second, both = out.backward(u), out.backward(v), out.backward(2 * u - 3 * v)
    for leaf in leaves:
        if leaf.requires_grad:
            sizes = np.abs(first[leaf]) + np.abs(second[leaf])
            scale = max(5 * sizes.max(initial=0.0), float(op.facts.flow == "mixer"))
            assert_near(both[leaf], 2 * first[leaf] - 3 * second[leaf], VALUE[np.float64], scale)


@each_call(CALLS)
def test_a_rule_gives_the_same_on_tensors_as_on_arrays(op: Operation, setting: Setting) -> None:
    leaves = [as_variable(x) for x in sample(op, setting.shapes)]
    out = op(*leaves, **setting.params)
    upstream = np.random.default_rng(4).normal(size=out.shape)
    plain = flow_back(out, upstream[()])
    symbolic = flow_back(out, cr.tensor(upstream))
    for leaf in leaves:
        if leaf.requires_grad:
            assert isinstance(symbolic[leaf], Tensor)
            assert_near(symbolic[leaf].value, plain[leaf], VALUE[np.float64], what=op.name)
            assert not isinstance(plain[leaf], Tensor)


@each_call([c for c in CALLS if c[1].params.get("dtype") is None])
def test_forward_mode_agrees_with_reverse_mode(op: Operation, setting: Setting) -> None:
    inputs = sample(op, setting.shapes)
    moving = [k for k, x in enumerate(inputs) if x.dtype.kind == "f"]
    rng = np.random.default_rng(8)
    tangents = [rng.normal(size=inputs[k].shape) for k in moving]

    def function(*some: Any) -> Any:
        args = list(inputs)
        for k, x in zip(moving, some, strict=True):
            args[k] = x
        return op(*args, **setting.params)

    primals = [inputs[k] for k in moving]
    _, forward = cr.jvp(function, primals, tangents)
    value, pull = cr.vjp(function, *primals)
    upstream = rng.normal(size=np.shape(value))
    pulled = pull(upstream)
    pulled = pulled if isinstance(pulled, tuple) else (pulled,)
    a = np.sum(upstream * forward)
    terms = [p * t for p, t in zip(pulled, tangents, strict=True)]
    scale = sum(np.abs(term).sum() for term in terms) + (op.facts.flow == "mixer")
    assert_near(a, sum(term.sum() for term in terms), DERIVATIVE[np.float64], scale)


# -- (j) planted faults -----------------------------------------------------------------------


def _wrong(rule: Any, change: Callable[[Any], Any]) -> Any:
    if callable(rule):
        return lambda *args, **params: change(rule(*args, **params))
    return None if rule is None else change(float(rule))


def _plants(op: Operation) -> Iterator[tuple[str, Operation]]:
    """Copies of an operation with one fault each in its derivative."""
    faults = {
        "factor": lambda d: d * 1.001,
        "sign": lambda d: d * -1.0,
        "offset": lambda d: d + 0.01,
    }
    for kind, change in faults.items():
        if op.facts.local:
            if op.is_router and kind == "factor":
                change = lambda d: d * 0.75  # noqa: E731
            if op.is_router and kind == "offset":
                change = lambda d: cr.where(cr.equal(d, 0), 1.0, 0.0)  # noqa: E731
            local = tuple(_wrong(rule, change) for rule in op.facts.local)
            yield kind, _copy(op, local=local)
        elif kind != "offset":
            yield kind, _copy(op, pull=tuple(_wrong(rule, change) for rule in op.facts.pull))
    rules = op.facts.local or op.facts.pull
    if len(rules) == 2 and rules[0] != rules[1] and op.facts.local:
        yield "swap", _copy(op, local=(rules[1], rules[0]))


def _copy(op: Operation, **changed: Any) -> Operation:
    return type(op)(dataclasses.replace(op.facts, **changed))


def _projected(op: Operation, setting: Setting) -> tuple[Callable[..., Any], list[Any]]:
    inputs = sample(op, setting.shapes, seed=11)
    if (
        domain_of(op, 0)[0] <= -3
    ):  # near the kinks, and of one size: differences lose what sums hide
        inputs = [x / 8 if x.dtype.kind == "f" else x for x in inputs]
    moving = [k for k, x in enumerate(inputs) if x.dtype.kind == "f"]

    def function(*some: Any) -> Any:
        args = list(inputs)
        for k, x in zip(moving, some, strict=True):
            args[k] = x
        return op(*args, **setting.params)

    return function, [inputs[k] for k in moving]


@each(DIFFERENTIABLE)
def test_check_grad_passes_the_right_rule_and_finds_planted_ones(op: Operation) -> None:
    setting = settings_of(op)[0]
    shapes = tuple((8,) for _ in setting.shapes) if op.facts.local else setting.shapes
    setting = Setting(shapes, setting.params)
    function, args = _projected(op, setting)
    assert check_grad(function, *args).checked > 0
    planted = 0
    for kind, wrong in _plants(op):
        function, args = _projected(wrong, setting)
        planted += 1
        with pytest.raises(cr.GradientError) as caught:
            check_grad(function, *args)
        assert "gradient is wrong" in str(caught.value), kind
    assert planted >= 2
