"""Disjunctive cuts: they hold exactly, close the relaxation M_k, and carry their proof."""

from dataclasses import replace
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hullmark.cuts.disjunctive import Cut, Sources, disjunctive_cut, proven_rhs, row_of_cut
from hullmark.cuts.generator import Multipliers, Neurons, pre_bounds
from hullmark.errors import BadInput, VacuousProperty
from hullmark.lp.highs import solve
from hullmark.lp.program import Program, Sparse
from hullmark.relax.polytope import vertices_of
from hullmark.rows import Defined, Kink, Propagated, Row, Split, Value

EVERYWHERE: frozenset[Split] = frozenset()


def polytope(A, b, lower, upper) -> Program:
    """`A w <= b` in a box; without an objective."""
    box = (np.array(lower, np.float64), np.array(upper, np.float64))
    matrix = np.array(A, np.float64).reshape(-1, len(lower))
    sides = (np.full(len(b), -np.inf), np.array(b, np.float64))
    return Program(np.zeros(len(lower)), Sparse.of(matrix), *sides, *box)


def neurons(weight, bias, live=None) -> Neurons:
    dense = np.array(weight, np.float64)
    columns = np.arange(dense.shape[1]) if live is None else np.array(live, dtype=np.intp)
    return Neurons(Sparse.of(dense), np.array(bias, np.float64), columns)


def dense(sparse: Sparse) -> np.ndarray:
    matrix = np.zeros(sparse.shape)
    np.add.at(matrix, (sparse.row, sparse.index), sparse.value)
    return matrix


def triangles(program: Program, group: Neurons, at: tuple[np.ndarray, np.ndarray]) -> Program:
    """The program with a column for each post-activation, in its triangle over `at = (l, u)`."""
    weight, (low, high) = dense(group.weight), at
    k, d = weight.shape
    unit, share = np.eye(k), (high / (high - low))[:, None]
    rows = np.block([[weight, -unit], [-share * weight, unit]])
    rhs = np.concatenate([-group.bias, share[:, 0] * (group.bias - low)])
    wide = Program(
        np.zeros(d + k),
        program.matrix.widened(d + k),
        program.row_lower,
        program.row_upper,
        np.append(program.lower, np.zeros(k)),
        np.append(program.upper, high),
    )
    return wide.with_rows(Sparse.of(rows), np.full(2 * k, -np.inf), rhs)


def mined(program: Program, group: Neurons, start: Program, cost) -> tuple[list[float], list[Cut]]:
    """Minima of the cost as cuts come in, until there are none."""
    d = program.matrix.columns
    current, cuts, values = start.with_cost(np.array(cost, np.float64)), [], []
    while len(values) < 60:
        at = solve(current)
        assert at is not None
        values.append(float(current.cost @ at.point))
        cut = disjunctive_cut(program, group, at.point[:d], at.point[d:])
        if cut is None:
            return values, cuts
        cuts.append(cut)
        row = Sparse.of(np.concatenate([cut.w, cut.y])[None])
        current = current.with_rows(row, np.array([-np.inf]), np.array([cut.rhs]))
    raise RuntimeError("cuts without end")


def lifted(program: Program, group: Neurons) -> list[tuple[list[Fraction], list[Fraction]]]:
    """The vertices of the graph's linear parts, exactly."""
    d, weight, bias = program.matrix.columns, dense(group.weight), group.bias
    A = np.concatenate([dense(program.matrix), np.eye(d), -np.eye(d)])
    b = np.concatenate([program.row_upper, program.upper, -program.lower])
    exact = np.vectorize(Fraction, otypes=[object])
    points = []
    for signs in product((-1.0, 1.0), repeat=len(bias)):
        turned = -np.array(signs)[:, None] * weight
        rows = exact(np.concatenate([A, turned]))
        try:
            found = vertices_of(rows, exact(np.concatenate([b, np.array(signs) * bias])))
        except VacuousProperty:
            continue
        for w in found.tolist():
            z = [
                sum((Fraction(a) * v for a, v in zip(row, w, strict=True)), Fraction(c))
                for row, c in zip(weight.tolist(), bias.tolist(), strict=True)
            ]
            points.append((w, [max(v, Fraction(0)) for v in z]))
    return points


def largest(cut: Cut, points) -> Fraction:
    """The exact maximum of the cut's left side."""
    coefficients = [Fraction(c) for c in (*cut.w.tolist(), *cut.y.tolist())]
    return max(
        sum((c * v for c, v in zip(coefficients, (*w, *y), strict=True)), Fraction(0))
        for w, y in points
    )


UNIT = polytope([], [], [0, 0], [1, 1])
DIFFERENCE = neurons([[1, -1]], [0])
WHOLE = (np.array([-1.0]), np.array([1.0]))


def test_max_of_two() -> None:
    """[0, 3/2] with the triangle, [0, 1] with M_1 [theory 3.1]."""
    start = triangles(UNIT, DIFFERENCE, WHOLE)
    upper, cuts = mined(UNIT, DIFFERENCE, start, [0, -1, -1])
    assert -upper[0] == pytest.approx(1.5)
    assert -upper[-1] == pytest.approx(1.0, abs=1e-7)
    assert len(cuts) >= 1
    lower, _ = mined(UNIT, DIFFERENCE, start, [0, 1, 1])
    assert lower[-1] == pytest.approx(0.0, abs=1e-7)


def test_the_same_neuron_twice() -> None:
    """relu(x) - relu(x) on [-1, 1]: ±1/2 with triangles, 0 with M_2, ±1/2 with M_1."""
    line = polytope([], [], [-1], [1])
    pair = neurons([[1], [1]], [0, 0])
    start = triangles(line, pair, (np.full(2, -1.0), np.ones(2)))
    for sign in (1, -1):
        values, _ = mined(line, pair, start, [0, sign, -sign])
        assert values[0] == pytest.approx(-0.5)
        assert values[-1] == pytest.approx(0.0, abs=1e-7)
    single = neurons([[1]], [0])
    assert disjunctive_cut(line, single, np.zeros(1), np.array([0.5])) is None


def test_the_inputs_matter_not_only_the_pre_activations() -> None:
    """max of x2 + relu(x1 - 1/2) on conv{(0,0), (1,0), (1/2,1)}: 1 over (x, y), 5/4 over (z, y)."""
    A, b = [[-2, 1], [2, 1]], [0, 2]
    X = polytope(A, b, [0, 0], [1, 1])
    group = neurons([[1, 0]], [-0.5])
    start = triangles(X, group, (np.array([-0.5]), np.array([0.5])))
    values, _ = mined(X, group, start, [0, -1, -1])
    assert -values[0] == pytest.approx(1.25)
    assert -values[-1] == pytest.approx(1.0, abs=1e-7)
    # A cut over z and y alone: z is x1 up to a constant.
    alone = neurons([[1, 0]], [-0.5], live=[0])
    values, cuts = mined(X, alone, start, [0, -1, -1])
    assert -values[-1] == pytest.approx(1.25)
    assert cuts == []


def test_diamond() -> None:
    """The only row beyond the triangles is 2 y1 + 2 y2 - x1 - x2 <= 2 [theory 3.3]."""
    A = [list(signs) for signs in product((-1, 1), repeat=2)]
    X = polytope(A, [2] * 4, [-2, -2], [2, 2])
    group = neurons(np.eye(2), [0, 0])
    start = triangles(X, group, (np.full(2, -2.0), np.full(2, 2.0)))
    values, _ = mined(X, group, start, [0, 0, -1, -1])
    assert -values[0] == pytest.approx(3.0)
    assert -values[-1] == pytest.approx(2.0, abs=1e-7)
    values, cuts = mined(X, group, start, [1, 1, -2, -2])
    assert -values[0] == pytest.approx(4.0)
    assert -values[-1] == pytest.approx(2.0, abs=1e-7)
    assert any(np.allclose(np.append(c.w, c.y), [-0.5, -0.5, 1, 1]) for c in cuts)


@st.composite
def questions(draw):
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    d, k = draw(st.sampled_from([(1, 2), (2, 1), (2, 2), (3, 2), (2, 3)]))
    inner, radius = rng.normal(size=d), rng.exponential(size=d) + 0.1
    A = rng.normal(size=(2, d)).round(2)
    b = A @ inner + rng.exponential(size=2) * 0.5
    weight = rng.normal(size=(k, d)).round(2) * 10.0 ** draw(st.integers(-3, 3))
    bias = -weight @ inner
    return polytope(A, b, inner - radius, inner + radius), neurons(weight, bias), rng


@settings(max_examples=40)
@given(questions())
def test_cuts_hold_touch_and_close_the_hull(question) -> None:
    program, group, rng = question
    points = lifted(program, group)
    tops = np.array([max(abs(float(y[j])) for _, y in points) for j in range(len(group.bias))])
    cost = np.append(rng.normal(size=program.matrix.columns), rng.normal(size=len(tops)))
    low, high = pre_bounds(program, group)
    start = triangles(program, group, (np.minimum(low, -1e-3), np.maximum(high, 1e-3)))
    values, cuts = mined(program, group, start, cost)
    for cut in cuts:
        slack = Fraction(cut.rhs) - largest(cut, points)
        assert slack >= 0
        size = np.abs(cut.w) @ (program.upper - program.lower) + np.abs(cut.y) @ tops
        assert slack <= 1e-6 * size
    floats = np.array([[float(v) for v in (*w, *y)] for w, y in points])
    exact = (floats @ cost).min()
    scale = np.abs(cost) @ np.append(program.upper - program.lower, high - low)
    assert values[-1] == pytest.approx(exact, abs=1e-5 * scale)


@settings(max_examples=40)
@given(questions(), st.sampled_from([0.0, 1e-3, 1.0, 1e6]))
def test_wrong_multipliers_prove_no_more_than_is_true(question, noise: float) -> None:
    program, group, rng = question
    points = lifted(program, group)
    d, k = program.matrix.columns, len(group.bias)
    w, y = rng.normal(size=d), rng.normal(size=k) * 5
    cut = disjunctive_cut(program, group, w, y)
    if cut is None:
        return
    rows = cut.multipliers.rows + noise * rng.normal(size=cut.multipliers.rows.shape)
    equations = cut.multipliers.equations + noise * rng.normal(size=(2**k, k))
    rows[rng.random(rows.shape) < 0.05] = np.nan
    rhs = proven_rhs(program, group, (cut.w, cut.y), Multipliers(rows, equations))
    assert largest(cut, points) <= rhs


def sources() -> Sources:
    """Of `y = relu(x1 - x2)` over the unit square, with `z` as a value of its own."""
    x, z = (Value(0, 0), Value(0, 1)), Value(1, 0)
    ends = [(x[0], 0.0, 1.0), (x[1], 0.0, 1.0), (z, -1.0, 1.0)]
    intervals = [
        Row(((name, sign),), bound, EVERYWHERE, Propagated())
        for name, low, high in ends
        for sign, bound in ((1.0, high), (-1.0, -low))
    ]
    up = Row(((z, 1.0), (x[0], -1.0), (x[1], 1.0)), 0.0, EVERYWHERE, Defined(z))
    down = Row(((z, -1.0), (x[0], 1.0), (x[1], -1.0)), 0.0, EVERYWHERE, Defined(z))
    return Sources(x, (Kink(z, Value(2, 0)),), (), (), ((up, down),), intervals)


def test_the_row_of_a_cut_is_derived() -> None:
    point = (np.array([1.0, 1.0]), np.array([0.5]))
    cut = disjunctive_cut(UNIT, DIFFERENCE, *point)
    assert cut is not None
    row = row_of_cut(cut, sources())
    assert row.derived() and row.rhs == cut.rhs
    assert not replace(row, rhs=row.rhs - 1e-6).derived()
    missing = Sources(sources().columns, sources().kinks, (), (), (None,), sources().intervals)
    assert not row_of_cut(cut, missing).derived()


def test_rows_of_a_program_become_parents() -> None:
    """x1 + x2 <= 1 on [-1, 1]^2, both rectified: y1 + y2 <= 1 + ... needs that row."""
    X = polytope([[1, 1]], [1], [-1, -1], [1, 1])
    group = neurons(np.eye(2), [0, 0])
    cut = disjunctive_cut(X, group, np.array([0.5, 0.5]), np.array([0.75, 0.75]))
    assert cut is not None
    x = (Value(1, 0), Value(1, 1))
    kinks = tuple(Kink(name, Value(2, i)) for i, name in enumerate(x))
    limit = Row(((x[0], 1.0), (x[1], 1.0)), 1.0, EVERYWHERE, Propagated())
    intervals = [
        Row(((name, sign),), 1.0, EVERYWHERE, Propagated()) for name in x for sign in (1.0, -1.0)
    ]
    row = row_of_cut(cut, Sources(x, kinks, (None,), (limit,), (None, None), intervals))
    assert row.derived() and row.rhs == cut.rhs
    assert limit in row.ancestry()


def test_a_time_limit_of_nothing_finds_nothing() -> None:
    point = (np.array([1.0, 1.0]), np.array([0.5]))
    assert disjunctive_cut(UNIT, DIFFERENCE, *point) is not None
    assert disjunctive_cut(UNIT, DIFFERENCE, *point, seconds=0.0) is None


def test_shapes_and_endless_columns() -> None:
    with pytest.raises(BadInput, match="2 columns"):
        disjunctive_cut(UNIT, DIFFERENCE, np.zeros(3), np.zeros(1))
    endless = polytope([], [], [0, 0], [1, np.inf])
    with pytest.raises(BadInput, match="finite bounds"):
        disjunctive_cut(endless, DIFFERENCE, np.zeros(2), np.zeros(1))
