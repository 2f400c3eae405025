"""Separation from groups of up to six by one linear program: exact, deep, and not fooled."""

from fractions import Fraction
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from joint_rows import fractions, implied, random_bounds

import hullmark.joint.deep as deep
from hullmark.errors import BadInput, Unsupported
from hullmark.joint.deep import separate_deep
from hullmark.lp.highs import Solution, solve
from hullmark.lp.program import Program, Sparse
from hullmark.relax import relu_hull
from hullmark.relax.octahedra import octahedral_rows
from hullmark.relax.separate import JointRows, separate


def few(k: int, entries: int) -> np.ndarray:
    """Which octahedral rows have at most so many entries."""
    return np.abs(octahedral_rows(k)).sum(axis=1) <= entries


def points_near(
    normals: np.ndarray, bounds: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Points `x` within the groups, and `y` between ReLU and chord, mostly near the chord."""
    k = normals.shape[1]
    units = [np.flatnonzero((normals == unit).all(axis=1))[0] for unit in np.eye(k)]
    upper = bounds[:, units]
    lower = -bounds[:, [np.flatnonzero((normals == -unit).all(axis=1))[0] for unit in np.eye(k)]]
    x = lower + (upper - lower) * rng.random(upper.shape)
    reach = np.where(x @ normals.T > 0, x @ normals.T, 1e-9) / np.maximum(bounds, 1e-9)
    x /= np.maximum(reach.max(axis=1, keepdims=True), 1) * 1.05
    chord = upper * (x - lower) / (upper - lower)
    y = np.maximum(x, 0)
    return x, y + (chord - y) * rng.random(x.shape) ** 0.1


def violations(rows: JointRows, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (rows.x * x[rows.group] + rows.y * y[rows.group]).sum(axis=1) - rows.rhs


def check(
    rows: JointRows, normals: np.ndarray, bounds: np.ndarray, slopes: tuple[float, float]
) -> None:
    """The rows are of float32, and their multipliers prove them."""
    both = np.concatenate([rows.x, rows.y], axis=1)
    assert np.array_equal(both, both.astype(np.float32))
    assert np.array_equal(np.abs(both).max(axis=1, initial=0), np.ones(len(rows)))
    k = normals.shape[1]
    sides = (np.full(k, slopes[0]), np.full(k, slopes[1]))
    for index, g in enumerate(rows.group):
        proved = implied(rows, index, normals, bounds[g], sides)
        assert proved <= Fraction(rows.rhs[index])


@pytest.mark.parametrize("slopes", [(0.0, 1.0), (0.01, 1.0), (-0.5, 0.75)])
@pytest.mark.parametrize("k", [2, 3])
def test_small_groups_agree_with_the_exact_hull(k: int, slopes: tuple[float, float]) -> None:
    rng = np.random.default_rng(k)
    normals, bounds = octahedral_rows(k), random_bounds(10, k, rng)
    x, y = points_near(normals, bounds, rng)
    rows = separate_deep(normals, bounds, np.concatenate([x, y], axis=1), slopes)
    check(rows, normals, bounds, slopes)
    hulls = [
        relu_hull(normals.tolist(), d.tolist(), negative=slopes[0], positive=slopes[1])
        for d in bounds
    ]
    outside = [g for g, hull in enumerate(hulls) if not hull.contains(x[g], y[g])]
    assert rows.group.tolist() == outside
    assert len(outside) >= 3
    for index, g in enumerate(rows.group):
        row = np.array(fractions(np.concatenate([rows.x[index], rows.y[index]])), dtype=object)
        slack = Fraction(rows.rhs[index]) - max((hulls[g].vertices @ row).tolist())
        # The solver's tolerance, and the rounding of the row to float32.
        assert 0 <= slack < 1e-6 * bounds[g].max()
    # In its norm a row is deeper than the one that is deepest in the Euclidean norm.
    others = separate(bounds, x, y, *slopes)
    assert np.all(violations(rows, x, y) >= violations(others, x, y) - 1e-5)


@pytest.mark.parametrize(("k", "entries"), [(4, 2), (4, 3), (4, 4), (5, 2), (6, 2)])
def test_larger_groups(k: int, entries: int) -> None:
    rng = np.random.default_rng(k + entries)
    chosen = few(k, entries)
    normals = octahedral_rows(k)[chosen]
    bounds = random_bounds(3, k, rng)[:, chosen]
    x, y = points_near(normals, bounds, rng)
    rows = separate_deep(normals, bounds, np.concatenate([x, y], axis=1))
    assert len(rows) == 3
    check(rows, normals, bounds, (0.0, 1.0))
    # Rows touch the hull up to the solver's tolerance: some vertex of the graph nearly attains it.
    for index, g in enumerate(rows.group):
        best = max(
            highest(normals, bounds[g], rows.x[index], rows.y[index], np.array(signs))
            for signs in product((-1, 1), repeat=k)
        )
        assert -1e-9 * bounds[g].max() <= rows.rhs[index] - best < 1e-5 * bounds[g].max()


def highest(
    normals: np.ndarray, d: np.ndarray, a: np.ndarray, c: np.ndarray, signs: np.ndarray
) -> float:
    """The solver's maximum of a row on one part; minus infinity where it is empty."""
    size = d.max()
    goal = -(a + c * (signs > 0))
    lower = np.where(signs > 0, 0.0, -np.inf)
    upper = np.where(signs > 0, np.inf, 0.0)
    matrix = Sparse.of(normals.astype(float))
    part = Program(goal, matrix, np.full(len(d), -np.inf), d / size, lower, upper)
    found = solve(part)
    if found is None or np.any(normals @ found.point > d / size + 1e-6):
        return -np.inf
    return float(-goal @ found.point) * size


def test_more_rows_cut_deeper() -> None:
    rng = np.random.default_rng(3)
    k, every = 4, octahedral_rows(4)
    bounds = random_bounds(4, k, rng)
    x, y = points_near(every, bounds, rng)
    point = np.concatenate([x, y], axis=1)
    depths = [
        violations(separate_deep(every[few(k, n)], bounds[:, few(k, n)], point), x, y)
        for n in (2, 3, 4)
    ]
    for less, more in pairwise(depths):
        assert np.all(more >= less - 1e-5)
    missing = np.where(few(k, 2), bounds, np.inf)
    again = separate_deep(every, missing, point)
    assert np.allclose(violations(again, x, y), depths[0], atol=1e-5)
    check(again, every, missing, (0.0, 1.0))


@settings(max_examples=15)
@given(st.integers(2, 4), st.integers(0, 2**32 - 1))
def test_lying_solvers_cannot_make_a_wrong_row(k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    chosen = few(k, 2)
    normals, bounds = octahedral_rows(k)[chosen], random_bounds(2, k, rng)[:, chosen]
    x, y = points_near(normals, bounds, rng)

    def lie(program: Program, seconds: float = np.inf) -> Solution | None:
        honest = solve(program, seconds)
        if honest is None or rng.random() < 0.1:
            return None
        noise = 10.0 ** rng.uniform(-9, 1)
        point = honest.point + noise * rng.normal(size=len(honest.point))
        if rng.random() < 0.1:
            point[0] = np.nan
        return Solution(point, honest.duals)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(deep, "solve", lie)
        rows = separate_deep(normals, bounds, np.concatenate([x, y], axis=1))
    check(rows, normals, bounds, (0.0, 1.0))


def test_points_within_are_not_cut_off() -> None:
    rng = np.random.default_rng(4)
    normals, bounds = octahedral_rows(4), random_bounds(4, 4, rng)
    x, _ = points_near(normals, bounds, rng)
    assert len(separate_deep(normals, bounds, np.concatenate([x, np.maximum(x, 0)], axis=1))) == 0


def test_a_coordinate_may_pass_through() -> None:
    rng = np.random.default_rng(5)
    normals, bounds = octahedral_rows(3), random_bounds(5, 3, rng)
    x, y = points_near(normals, bounds, rng)
    y[:, 1] = x[:, 1]
    slopes = (np.array([0.0, 1.0, 0.0]), np.ones(3))
    rows = separate_deep(normals, bounds, np.concatenate([x, y], axis=1), slopes)
    assert len(rows) >= 1
    for index, g in enumerate(rows.group):
        assert implied(rows, index, normals, bounds[g], slopes) <= Fraction(rows.rhs[index])


def test_unbounded_and_misshapen_groups() -> None:
    rng = np.random.default_rng(6)
    normals, bounds = octahedral_rows(2), random_bounds(4, 2, rng)
    points = np.concatenate([np.zeros((4, 2)), np.full((4, 2), 50.0)], axis=1)
    bounds[0, 1] = np.inf
    bounds[1, 0] = np.nan
    points[2, 0] = np.inf
    assert separate_deep(normals, bounds, points).group.tolist() == [3]
    assert len(separate_deep(normals, bounds[:0], points[:0])) == 0
    with pytest.raises(BadInput, match="points"):
        separate_deep(normals, bounds, points[:, :3])
    with pytest.raises(BadInput, match="no side"):
        separate_deep(normals[:4], bounds[:, :4], points)
    with pytest.raises(Unsupported, match="sign patterns"):
        separate_deep(np.eye(7), np.zeros((1, 7)), np.zeros((1, 14)))
