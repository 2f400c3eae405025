"""Bounds of linear programs from multipliers of any kind, against exact arithmetic."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hullmark.lp.highs as highs_module
from hullmark.errors import BadInput
from hullmark.lp.exact import exact_bound
from hullmark.lp.highs import Model, solve
from hullmark.lp.program import Program, Sparse, Vector
from hullmark.lp.safe import safe_bound, sum_down

Rng = np.random.Generator


def exact_value(row: Vector, x: Vector) -> Fraction:
    pairs = zip(row.tolist(), x.tolist(), strict=True)
    return sum((Fraction(c) * Fraction(v) for c, v in pairs), Fraction(0))


def feasible_program(rng: Rng, spread: float) -> tuple[Program, Vector]:
    """A program and a point that is feasible in exact arithmetic; some sides are tight at it."""
    rows, columns = int(rng.integers(0, 7)), int(rng.integers(1, 7))

    def some(*shape: int) -> Vector:
        return rng.normal(size=shape) * 10.0 ** rng.uniform(-spread, spread, size=shape)

    matrix = some(rows, columns) * (rng.random((rows, columns)) < 0.6)
    x = some(columns)
    sides = np.array([float(exact_value(row, x)) for row in matrix])
    low = np.where(rng.random(rows) < 0.3, -np.inf, sides - rng.choice([0, 1.0], rows))
    high = np.where(rng.random(rows) < 0.3, np.inf, sides + rng.choice([0, 1.0], rows))
    for i, row in enumerate(matrix):
        value = exact_value(row, x)
        while math.isfinite(low[i]) and Fraction(low[i]) > value:
            low[i] = np.nextafter(low[i], -np.inf)
        while math.isfinite(high[i]) and Fraction(high[i]) < value:
            high[i] = np.nextafter(high[i], np.inf)
    gap = np.abs(some(columns)) * rng.choice([0, 1.0], columns)
    lower, upper = np.minimum(x, x - gap), np.maximum(x, x + gap)
    return Program(some(columns), Sparse.of(matrix), low, high, lower, upper), x


def some_duals(rng: Rng, program: Program) -> Vector:
    """What a solver that lies may say."""
    rows = program.matrix.rows
    match int(rng.integers(7)):
        case 0:
            return np.full(rows, np.nan)
        case 1:
            return rng.choice([-np.inf, np.inf, np.nan, 0.0, 1.0], rows)
        case 2:
            return rng.normal(size=rows) * 1e300
        case 3:
            return rng.normal(size=rows) * 10.0 ** rng.uniform(-320, 300, rows)
        case 4:
            return np.zeros(rows + 1)
        case 5:
            return rng.normal(size=rows)
        case _:
            found = solve(program)
            if found is None:
                return np.zeros(rows)
            return found.duals * rng.choice([-1.0, 1.0, 1.0, 1 + 1e-9], rows)


@given(st.integers(0, 2**32), st.sampled_from([0.0, 1.0, 6.0]))
def test_no_multipliers_prove_too_much(seed: int, spread: float) -> None:
    rng = np.random.default_rng(seed)
    program, x = feasible_program(rng, spread)
    value = exact_value(program.cost, x)
    for _ in range(4):
        duals = some_duals(rng, program)
        bound = safe_bound(program, duals)
        assert not math.isnan(bound) and bound < math.inf
        exact = exact_bound(program, duals)
        if bound > -math.inf:
            assert Fraction(bound) <= value
            assert exact is not None and Fraction(bound) <= exact
        if exact is not None:
            assert exact <= value


@given(st.integers(0, 2**32))
def test_honest_multipliers_lose_next_to_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    program, _ = feasible_program(rng, 0.5)
    solution = solve(program)
    if solution is None:
        return
    scale = 1 + float(np.abs(program.cost) @ np.maximum(abs(program.lower), abs(program.upper)))
    optimum = float(program.cost @ solution.point)
    bound, exact = safe_bound(program, solution.duals), exact_bound(program, solution.duals)
    assert exact is not None
    # What the solver leaves is its feasibility tolerance, 1e-7, times the multipliers.
    slack = 1e-6 * (scale + float(np.abs(solution.duals).sum()))
    assert optimum - slack <= bound
    assert float(exact) - bound <= 1e-12 * (scale + float(np.abs(solution.duals).sum()) * 100)


def test_entries_at_one_place_add_up_without_rounding() -> None:
    """1 and 2^-60 at one place are no float together: rounding to 1 would prove too much."""
    start = np.array([0, 2])
    matrix = Sparse(start, np.array([0, 0]), np.array([1.0, -(2.0**-60)]), 1)
    side = np.array([1.0])
    # x >= 1 / (1 - 2^-60), a little more than 1.
    program = Program(np.ones(1), matrix, side, side, np.zeros(1), np.full(1, 2.0))
    bound = exact_bound(program, np.array([1.0]))
    assert bound == 1
    assert safe_bound(program, np.array([1.0])) <= 1
    backwards = Program(-np.ones(1), matrix, side, side, np.zeros(1), np.full(1, 2.0))
    true = -1 / (1 - Fraction(1, 2**60))
    assert Fraction(safe_bound(backwards, np.array([-1.0]))) <= true


def test_columns_without_bounds_need_a_reduced_cost_of_zero() -> None:
    matrix = Sparse.of(np.array([[1.0, 1.0]]))
    ends = (np.full(2, -np.inf), np.full(2, np.inf))
    program = Program(np.ones(2), matrix, np.ones(1), np.full(1, np.inf), *ends)
    assert exact_bound(program, np.array([1.0])) == 1
    assert exact_bound(program, np.array([0.5])) is None
    assert safe_bound(program, np.array([0.5])) == -math.inf


def test_a_multiplier_of_the_wrong_sign_is_not_used() -> None:
    matrix = Sparse.of(np.array([[1.0]]))
    program = Program(np.ones(1), matrix, np.full(1, -np.inf), np.ones(1), np.zeros(1), np.ones(1))
    assert exact_bound(program, np.array([5.0])) == 0
    assert safe_bound(program, np.array([5.0])) == pytest.approx(0, abs=1e-300)


@given(st.integers(0, 2**32))
def test_a_warm_model_is_the_program_it_says(seed: int) -> None:
    """Rows come and go and objectives change: what is left is solved as from scratch."""
    rng = np.random.default_rng(seed)
    program, x = feasible_program(rng, 0.3)
    model = Model(program)
    for _ in range(6):
        match int(rng.integers(4)):
            case 0:
                model.aim(rng.normal(size=len(x)))
            case 1:
                rows = rng.normal(size=(2, len(x)))
                model.add(Sparse.of(rows), np.full(2, -np.inf), rows @ x + 0.1)
            case 2 if model.program.matrix.rows:
                model.drop(rng.choice(model.program.matrix.rows, 1))
            case _:
                pass
        warm, cold = model.solve(), solve(model.program)
        assert warm is not None and cold is not None
        values = [float(model.program.cost @ s.point) for s in (warm, cold)]
        assert values[0] == pytest.approx(values[1], rel=1e-6, abs=1e-6)
        assert safe_bound(model.program, warm.duals) == pytest.approx(values[0], rel=1e-5, abs=1e-5)


@given(st.integers(0, 2**32))
def test_sparse_matrices_are_what_they_stand_for(seed: int) -> None:
    rng = np.random.default_rng(seed)
    m, n, k = (int(v) for v in rng.integers(1, 6, size=3))
    a = rng.integers(-3, 4, size=(m, n)).astype(float)
    b = rng.integers(-3, 4, size=(n, k)).astype(float)
    c = rng.integers(-3, 4, size=(m, n)).astype(float)
    picked = rng.integers(m, size=4)
    first, second = Sparse.of(a), Sparse.of(b)

    def dense(matrix: Sparse) -> Vector:
        full = np.zeros(matrix.shape)
        np.add.at(full, (matrix.row, matrix.index), matrix.value)
        return full

    for found, wanted in (
        (first, a),
        (first.take(picked), a[picked]),
        (first.over(Sparse.of(c)), np.concatenate([a, c])),
        (first.plus(Sparse.of(c)), a + c),
        (first.plus(Sparse.of(c)).merged(), a + c),
        (first.plus(Sparse.of(-a)).merged(), 0 * a),
        (first.negated().transposed(), -a.T),
        (first.compose(second), a @ b),
        (Sparse.unit(n).compose(second), b),
    ):
        np.testing.assert_array_equal(dense(found), wanted)
    x, y = rng.normal(size=n), rng.normal(size=m)
    np.testing.assert_allclose(first.times(x), a @ x, atol=1e-12)
    np.testing.assert_allclose(first.transposed_times(y), a.T @ y, atol=1e-12)
    assert len(first.plus(Sparse.of(-a)).merged().value) == 0


def test_a_program_whose_shapes_do_not_fit_is_refused() -> None:
    with pytest.raises(BadInput):
        Program(np.zeros(2), Sparse.unit(3), np.zeros(3), np.zeros(3), np.zeros(3), np.zeros(3))


def test_sums_are_rounded_downwards() -> None:
    assert Fraction(sum_down(np.array([1.0, -(2.0**-60)]))) <= 1 - Fraction(1, 2**60)
    assert sum_down(np.array([1.0, np.nan])) == -math.inf
    assert sum_down(np.array([1.7e308, 1.7e308])) == -math.inf
    assert sum_down(np.zeros(0)) <= 0


def test_a_row_that_was_slack_leaves_without_a_trace() -> None:
    rng = np.random.default_rng(0)
    rows = np.abs(rng.normal(size=(80, 60))) * (rng.random((80, 60)) < 0.3)
    ends = (np.zeros(60), np.ones(60))
    cost = -rng.random(60)
    program = Program(cost, Sparse.of(rows), np.full(80, -np.inf), np.ones(80), *ends)
    model = Model(program)
    found = model.solve()
    assert found is not None and model.iterations > 0
    slack = np.flatnonzero(rows @ found.point < 1 - 1e-6)
    assert 0 < len(slack) < 80
    model.drop(slack)
    before = model.iterations
    again = model.solve()
    assert again is not None and model.iterations == before
    np.testing.assert_allclose(again.point, found.point)
    assert model.program.matrix.rows == 80 - len(slack)


def test_a_large_program_starts_with_another_method_and_goes_on_warm(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(1)
    rows = np.abs(rng.normal(size=(80, 60)))
    ends = (np.zeros(60), np.ones(60))
    cost = -rng.random(60)
    program = Program(cost, Sparse.of(rows), np.full(80, -np.inf), np.ones(80), *ends)
    small = Model(program)
    monkeypatch.setattr(highs_module, "LARGE", 10)
    large = Model(program)
    first, second = small.solve(), large.solve()
    assert first is not None and second is not None
    # The interior point method counts no iterations of the simplex but those of its crossover.
    assert large.iterations < small.iterations
    bounds = [safe_bound(program, s.duals) for s in (first, second)]
    assert bounds[0] == pytest.approx(bounds[1], abs=1e-6)
    before = large.iterations
    large.solve()
    assert large.iterations == before
