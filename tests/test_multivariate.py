"""Rows of one ReLU over a box: each holds exactly, touches the hull, and is the deepest."""

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hullmark.errors import BadInput
from hullmark.lp.highs import solve
from hullmark.lp.program import Program, Sparse
from hullmark.relax.multivariate import neuron_rhs, separate_neurons
from hullmark.rows import Defined, Kink, Propagated, Row, Value, row_of_neuron


def exact_corners(weight, bias, lower, upper) -> list[tuple[list[Fraction], Fraction]]:
    """The corners of a box with the ReLU's value, exactly."""
    corners = []
    for x in product(*zip(lower.tolist(), upper.tolist(), strict=True)):
        point = [Fraction(v) for v in x]
        terms = (Fraction(w) * v for w, v in zip(weight.tolist(), point, strict=True))
        z = sum(terms, Fraction(bias))
        corners.append((point, max(z, Fraction(0))))
    return corners


def slacks(row, rhs, corners) -> list[Fraction]:
    return [
        Fraction(rhs) - y - sum(Fraction(c) * v for c, v in zip(row.tolist(), point, strict=True))
        for point, y in corners
    ]


def envelope(weight, bias, lower, upper, x) -> float:
    """The largest `y` of the hull above `x`: a mixture of corners."""
    corners = exact_corners(weight, bias, lower, upper)
    matrix = np.array([[float(v) for v in point] + [1.0] for point, _ in corners]).T
    target = np.append(x, 1.0)
    none, one = np.zeros(len(corners)), np.ones(len(corners))
    cost = -np.array([float(y) for _, y in corners])
    found = solve(Program(cost, Sparse.of(matrix), target, target, none, one))
    assert found is not None
    return float(-cost @ found.point)


def random_neurons(seed: int, n: int, d: int):
    rng = np.random.default_rng(seed)
    weight = rng.normal(size=(n, d)).astype(np.float32).astype(np.float64)
    lower = rng.normal(size=d) - 1
    upper = lower + rng.exponential(size=d)
    bias = -weight @ (lower + upper) / 2 + rng.normal(size=n) * 0.3
    x = lower + rng.random(d) * (upper - lower)
    return weight, bias, lower, upper, x


@pytest.mark.parametrize("seed", range(8))
def test_the_row_at_a_point_is_the_hull_there(seed: int) -> None:
    weight, bias, lower, upper, x = random_neurons(seed, n=12, d=4)
    y = np.full(len(bias), 100.0)
    found = separate_neurons(weight, bias, lower, upper, x, y)
    middle, radius = (lower + upper) / 2, (upper - lower) / 2
    reach = np.abs(weight) @ radius
    assert found.neuron.tolist() == np.flatnonzero(np.abs(weight @ middle + bias) < reach).tolist()
    for i, row, rhs in zip(found.neuron, found.x, found.rhs, strict=True):
        corners = exact_corners(weight[i], bias[i], lower, upper)
        left = slacks(row, rhs, corners)
        assert min(left) >= 0
        # A facet touches the hull in d + 1 corners or more; rounding is that of float32.
        assert sum(value < 1e-5 for value in left) >= 5
        hull = envelope(weight[i], bias[i], lower, upper, x)
        assert rhs - row @ x == pytest.approx(hull, abs=1e-5)


@given(st.integers(0, 10**6), st.integers(-12, 12), st.integers(1, 6))
def test_rows_hold_at_any_scale(seed: int, power: int, d: int) -> None:
    weight, bias, lower, upper, x = random_neurons(seed, n=3, d=d)
    rng = np.random.default_rng(seed)
    scale = 10.0 ** rng.integers(-abs(power), abs(power) + 1, d)
    lower, upper, x = lower * scale, upper * scale, x * scale
    weight = weight / scale if seed % 2 else weight
    upper = np.where(rng.random(d) < 0.1, lower, upper)
    found = separate_neurons(weight, bias, lower, upper, x, np.full(3, 1e30))
    for i, row, rhs in zip(found.neuron, found.x, found.rhs, strict=True):
        assert min(slacks(row, rhs, exact_corners(weight[i], bias[i], lower, upper))) >= 0
    other = rng.normal(size=weight.shape) * np.abs(weight)
    for i, rhs in enumerate(neuron_rhs(weight, bias, lower, upper, other)):
        left = slacks(other[i], rhs, exact_corners(weight[i], bias[i], lower, upper))
        size = np.abs(other[i]) @ np.abs(lower) + np.abs(weight[i]) @ np.abs(lower) + abs(bias[i])
        assert 0 <= min(left) <= 1e-12 * (size + np.abs(weight[i]) @ np.abs(upper)) + 1e-300


def test_max_of_two() -> None:
    """`x2 + relu(x1 - x2)` on the unit square: 3/2 with the triangle, 1 with these rows."""
    weight, bias = np.array([[1.0, -1.0]]), np.zeros(1)
    low, high = np.zeros(2), np.ones(2)
    # Variables x1, x2, y, with the triangle.
    rows = [[1.0, -1.0, -1.0], [-0.5, 0.5, 1.0]]
    rhs = [0.0, 0.5]
    tops: list[float] = []
    while len(tops) < 10:
        count = len(rhs)
        program = Program(
            np.array([0.0, -1.0, -1.0]),
            Sparse.of(np.array(rows)),
            np.full(count, -np.inf),
            np.array(rhs),
            np.zeros(3),
            np.array([1.0, 1.0, np.inf]),
        )
        at = solve(program)
        assert at is not None
        tops.append(float(at.point[1] + at.point[2]))
        found = separate_neurons(weight, bias, low, high, at.point[:2], at.point[2:])
        if not len(found.rhs):
            break
        rows.append([*found.x[0].tolist(), 1.0])
        rhs.append(float(found.rhs[0]))
    assert tops[0] == pytest.approx(1.5)
    assert tops[-1] == pytest.approx(1.0)


def test_points_of_the_hull_are_not_cut_off() -> None:
    weight, bias, lower, upper, x = random_neurons(3, n=20, d=5)
    y = np.maximum(weight @ x + bias, 0.0)
    assert len(separate_neurons(weight, bias, lower, upper, x, y).rhs) == 0


def test_rows_are_derived() -> None:
    """The same right-hand sides come out of the exact derivation, up to rounding."""
    weight, bias, lower, upper, x = random_neurons(7, n=10, d=4)
    found = separate_neurons(weight, bias, lower, upper, x, np.full(10, 100.0))
    names = [Value(0, j) for j in range(4)]
    intervals = [
        Row(((name, sign),), sign * end, frozenset(), Propagated())
        for name, low, high in zip(names, lower.tolist(), upper.tolist(), strict=True)
        for sign, end in ((1.0, high), (-1.0, low))
    ]
    assert len(found.rhs) >= 5
    for i, coefficients, rhs in zip(
        found.neuron.tolist(), found.x.tolist(), found.rhs, strict=True
    ):
        kink = Kink(Value(1, i), Value(2, i))
        form = tuple(zip(names, (-weight[i]).tolist(), strict=True))
        definition = Row(((kink.pre, 1.0), *form), float(bias[i]), frozenset(), Defined(kink.pre))
        inputs = tuple(zip(names, coefficients, strict=True))
        row = row_of_neuron(kink, inputs, definition, intervals)
        assert row is not None
        assert row.derived()
        assert row.rhs <= rhs <= row.rhs + 1e-12


def test_boxes_of_their_own() -> None:
    weight, bias, lower, upper, x = random_neurons(5, n=6, d=3)
    shift = np.arange(18.0).reshape(6, 3) / 10
    moved = bias - (weight * shift).sum(axis=1)
    y = np.full(6, 50.0)
    one = separate_neurons(weight, bias, lower, upper, x, y)
    own = separate_neurons(weight, moved, lower + shift, upper + shift, x + shift, y)
    assert one.neuron.tolist() == own.neuron.tolist()
    assert np.allclose(one.x, own.x, atol=1e-5)


def test_numbers_that_are_not_finite_make_no_row() -> None:
    weight, bias, lower, upper, x = random_neurons(1, n=8, d=3)
    y = np.full(8, 9.0)
    assert len(separate_neurons(weight, bias, lower, upper, x, y).rhs) > 0
    for bad in (np.inf, np.nan, 1e300):
        high = upper.copy()
        high[1] = bad
        rows = separate_neurons(weight * (1e100 if bad == 1e300 else 1), bias, lower, high, x, y)
        assert len(rows.rhs) == 0
    rhs = neuron_rhs(weight, np.full(8, np.nan), lower, upper, weight)
    assert np.all(rhs == np.inf)


def test_neurons_without_inputs_and_no_neurons() -> None:
    for n, d in ((2, 0), (0, 2)):
        none, rest = np.zeros((n, d)), np.zeros(d)
        found = separate_neurons(none, np.zeros(n), rest, rest, rest, np.ones(n))
        assert found.x.shape == (0, d)
        assert len(found.rhs) == 0


def test_shapes_that_do_not_fit() -> None:
    weight, bias, lower, upper, x = random_neurons(1, n=8, d=3)
    with pytest.raises(BadInput, match="biases"):
        separate_neurons(weight, bias[:2], lower, upper, x, bias)
    with pytest.raises(BadInput, match="inputs of shape"):
        separate_neurons(weight, bias, lower[:2], upper, x, bias)
    with pytest.raises(BadInput, match="point of shape"):
        separate_neurons(weight, bias, lower, upper, x, bias[:3])
