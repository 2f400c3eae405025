"""Batched hulls: every row holds exactly and touches the hull, and few rows or none are missing."""

import json
from dataclasses import replace
from fractions import Fraction
from math import lcm
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from joint_rows import beyond, random_bounds

from hullmark.errors import BadInput
from hullmark.relax import batch, relu_hull
from hullmark.relax.cone import facet_directions
from hullmark.relax.exact import as_fractions
from hullmark.relax.fast import octahedral_bounds
from hullmark.relax.fasthull import all_facets, fast_hull
from hullmark.relax.octahedra import Octahedra, octahedra, octahedral_rows
from hullmark.relax.pieces import lifted_vertices, read_pieces
from hullmark.relax.polytope import homogenised
from hullmark.relax.separate import JointRows
from hullmark.relax.weak import proven_offsets
from hullmark.rows import Kink, Value, octahedral_group, rows_of_group

Slopes = tuple[float, float] | tuple[list[float], list[float]]
SLOPES: list[tuple[float, float]] = [(0.0, 1.0), (0.01, 1.0), (-1.0, 1.0), (1.0, 0.0), (1.0, 1.0)]


def whole_groups(count: int, k: int, seed: int) -> np.ndarray:
    """Tight bounds of random polytopes with integer vertices: degenerate, and exact in floats."""
    rng = np.random.default_rng(seed)
    points = rng.integers(-9, 10, size=(count, k, 2 * k + 2))
    rows = octahedral_rows(k).astype(np.int64)
    return np.einsum("rk,gkn->grn", rows, points).max(axis=2).astype(np.float64)


def float_groups(count: int, k: int, seed: int) -> np.ndarray:
    """Tight bounds of images of boxes, in floats."""
    rng = np.random.default_rng(seed)
    rows = octahedral_rows(k).astype(np.float64)
    weight = rng.normal(size=(count, k, 8))
    center = rng.uniform(-0.8, 0.8, (count, k)) * np.abs(weight).sum(axis=2)
    return center @ rows.T + np.abs(rows @ weight).sum(axis=2)


def vertices_of(bounds: np.ndarray, slopes: Slopes = (0.0, 1.0)) -> np.ndarray:
    """The exact lifted vertices of one group."""
    k = {2: 1, 8: 2, 26: 3}[len(bounds)]
    finite = np.isfinite(bounds)
    A, b = as_fractions(octahedral_rows(k)[finite], "A", 2), as_fractions(bounds[finite], "b", 1)
    return lifted_vertices(homogenised(A, b), read_pieces(*slopes, k))


def slacks(rows: JointRows, group: int, vertices: np.ndarray) -> list[float]:
    """What each row of a group leaves to its exact hull; negative where the row is wrong."""
    mine = np.flatnonzero(rows.group == group)
    # Over common denominators, so that all arithmetic is on integers.
    common = [lcm(*(v.denominator for v in vertex)) for vertex in vertices.tolist()]
    whole = (vertices * np.array(common, dtype=object)[:, None]).astype(object)
    unit = 2**1100
    floats = np.column_stack([rows.x[mine], rows.y[mine], rows.rhs[mine]])
    scaled = as_fractions(floats, "rows", 2) * unit
    assert all(v.denominator == 1 for v in scaled.ravel())
    integers = np.array([[int(v) for v in row] for row in scaled.tolist()], dtype=object)
    tops = np.array([[int(v) for v in vertex] for vertex in whole.tolist()], dtype=object)
    heights = integers.reshape(floats.shape)[:, :-1] @ tops.T
    result = []
    for row, height in zip(integers.tolist(), heights.tolist(), strict=True):
        highest = max(Fraction(h, d) for h, d in zip(height, common, strict=True))
        result.append(float((row[-1] - highest) / unit))
    return result


@pytest.mark.parametrize("find", [fast_hull, all_facets])
@pytest.mark.parametrize("slopes", SLOPES)
@pytest.mark.parametrize("k", [1, 2, 3])
def test_rows_hold_and_touch(find, slopes, k: int) -> None:
    for make in (whole_groups, float_groups):
        bounds = make(3, k, seed=k)
        rows = find(bounds, *slopes)
        assert np.all(np.abs(np.concatenate([rows.x, rows.y], axis=1)).max(axis=1) == 1)
        assert np.all(rows.x == rows.x.astype(np.float32)) and np.all(np.diff(rows.group) >= 0)
        for group, d in enumerate(bounds):
            left = slacks(rows, group, vertices_of(d, slopes))
            assert len(left) > 0
            assert min(left) >= 0
            assert max(left) < 1e-6 * np.abs(d).max()


@settings(max_examples=25)
@given(
    st.integers(2, 3),
    st.lists(st.floats(-3, 3, allow_subnormal=False), min_size=26, max_size=26),
    st.lists(st.floats(0, 2), min_size=26, max_size=26),
    st.sampled_from([1.0, 1e-9, 1e6]),
    st.sampled_from(SLOPES),
)
def test_rows_hold_on_loose_thin_and_scaled_sets(k, inner, spare, scale, slopes) -> None:
    """Bounds that are not tight, some without any width, around a point anywhere."""
    rows = octahedral_rows(k).astype(np.float64)
    bounds = (rows @ np.array(inner[:k]) + spare[: len(rows)] + 1e-12) * scale
    vertices = vertices_of(bounds, slopes)
    for found in (fast_hull(bounds[None], *slopes), all_facets(bounds[None], *slopes)):
        assert min(slacks(found, 0, vertices), default=0) >= 0


def test_different_functions_in_one_batch() -> None:
    bounds = whole_groups(2, 3, seed=5)
    negative, positive = np.array([[0, 0.25, 1], [-1, 0, 0]]), np.array([[1, 1, 1], [1, 0, 2]])
    for find in (fast_hull, all_facets):
        rows = find(bounds, negative, positive)
        for group, d in enumerate(bounds):
            slopes = negative[group].tolist(), positive[group].tolist()
            left = slacks(rows, group, vertices_of(d, slopes))
            assert min(left) >= 0 and max(left) < 1e-6 * np.abs(d).max()


def missing(rows: JointRows, group: int, exact: np.ndarray) -> float:
    """How far the worst exact facet `(m, 2k + 1)` is from all rows found, largest entry 1."""
    mine = rows.group == group
    found = np.column_stack([rows.x[mine], rows.y[mine], rows.rhs[mine]])
    scaled = exact / np.abs(exact[:, :-1]).max(axis=1, keepdims=True)
    size = np.maximum(np.abs(scaled[:, None]).max(axis=2), 1.0)
    return float((np.abs(scaled[:, None] - found[None]).max(axis=2) / size).min(axis=1).max())


@pytest.mark.parametrize("index", range(12))
def test_all_facets_of_the_reference_groups(data: Path, index: int) -> None:
    group = json.loads((data / "goldens" / "hulls.json").read_text())[index]
    A, b = as_fractions(group["A"], "A", 2), [Fraction(value) for value in group["b"]]
    bounds = octahedral_bounds(A, as_fractions(b, "b", 1))
    assert bounds is not None
    facets = all_facets(bounds[None])
    assert len(facets) == len(group["facets"])
    exact = np.array([[*facet["row"], facet["rhs"]] for facet in group["facets"]], np.float64)
    assert missing(facets, 0, exact) < 1e-6


def complete(count: int, seed: int) -> None:
    bounds = np.concatenate([whole_groups(count, 3, seed), whole_groups(count, 3, seed + 1) / 8])
    facets = all_facets(bounds)
    for group, d in enumerate(bounds):
        hull = relu_hull(octahedral_rows(3), d)
        if len(hull.equalities[0]) == 0:
            assert np.sum(facets.group == group) == len(hull.rows)
            exact = np.column_stack([hull.rows, hull.rhs]).astype(np.float64)
            assert missing(facets, group, exact) < 1e-6


def test_no_facet_is_missing() -> None:
    complete(25, seed=0)


@pytest.mark.slow
def test_no_facet_is_missing_in_many_groups() -> None:
    complete(500, seed=10)


@pytest.mark.parametrize(("k", "share"), [(1, 1.0), (2, 0.96), (3, 0.95)])
def test_fast_hull_cuts_off_nearly_what_the_hull_does(k: int, share: float) -> None:
    """Points of the octahedra and triangles that some facet cuts off."""
    bounds = float_groups(40, k, seed=3)
    rows, fast, facets = octahedral_rows(k), fast_hull(bounds), all_facets(bounds)
    rng = np.random.default_rng(0)
    upper = np.stack([bounds[:, (rows == unit).all(axis=1)][:, 0] for unit in np.eye(k)], axis=1)
    lower = -np.stack([bounds[:, (rows == -unit).all(axis=1)][:, 0] for unit in np.eye(k)], axis=1)
    cut = kept = 0
    for group in range(len(bounds)):
        low, high = lower[group], upper[group]
        x = rng.uniform(low, high, (4000, k))
        x = x[np.all(x @ rows.T <= bounds[group], axis=1)]
        chord = high / (high - low) * (x - low)
        y = np.maximum(x, 0) + rng.random(x.shape) * (chord - np.maximum(x, 0))
        points = np.concatenate([x, y], axis=1)
        outside, seen = (
            (
                (points @ np.concatenate([r.x, r.y], axis=1)[r.group == group].T)
                > r.rhs[r.group == group] + 1e-6
            ).any(axis=1)
            for r in (facets, fast)
        )
        assert not np.any(seen & ~outside)
        cut, kept = cut + outside.sum(), kept + (outside & ~seen).sum()
    assert k == 1 or cut > 1000
    assert kept <= (1 - share) * cut


@pytest.mark.parametrize("noise", [0.0, 1e-14, 1e-11, 1e-8])
@pytest.mark.parametrize("third", [[1.0, 0.0], [-1.0, 0.0], [1.0, -1.0]])
@pytest.mark.parametrize("find", [fast_hull, all_facets])
def test_flat_groups_have_the_facets_of_their_plane(find, third, noise: float) -> None:
    """`x3 = c · (x1, x2)`: every facet of the exact hull holds where the rows found do."""
    rng = np.random.default_rng(7)
    weight = rng.integers(-9, 10, size=(3, 6))
    weight[2] = np.array(third) @ weight[:2]
    center = rng.integers(-9, 10, size=2)
    rows = octahedral_rows(3).astype(np.float64)
    bounds = np.append(center, third @ center) @ rows.T + np.abs(rows @ weight).sum(axis=1)
    given = bounds + noise * np.abs(bounds).max() * rng.random(26)
    found = find(given[None])
    assert min(slacks(found, 0, vertices_of(given))) >= 0
    slopes = [0.0] * 3, [1.0] * 3
    assert beyond(found, bounds, slopes) < 1e-6 + 10 * noise
    assert len(relu_hull(rows.astype(int), bounds).equalities[0]) > 0


@pytest.mark.parametrize("noise", [0.0, 1e-13, 1e-11])
def test_what_rounding_leaves_of_an_equation_is_no_facet(noise: float) -> None:
    """Clouds near a hyperplane have the facets that they have in it, and it both ways."""
    rng, rows = np.random.default_rng(0), octahedral_rows(3).astype(np.float64)
    for _ in range(20):
        maps = rng.normal(size=(2, 8))
        weight, center = np.vstack([maps, maps.sum(axis=0)]), rng.uniform(-2, 2, 2)
        bounds = np.append(center, center.sum()) @ rows.T + np.abs(rows @ weight).sum(axis=1)
        group = octahedra(bounds[None])
        points = group.lifted()[group.first]
        expected = facet_directions(points[:, [0, 1, 3, 4, 5]])
        points[:, 2] = points[:, 0] + points[:, 1] + noise * rng.uniform(-1, 1, len(points))
        found = facet_directions(points)
        assert np.sum(np.ptp(found @ points.T, axis=1) < 1e-9) == 2
        inner = found[:, [0, 1, 3, 4, 5]]
        inner[:, :2] += found[:, 2:3]
        inner /= np.maximum(np.abs(inner).max(axis=1, keepdims=True), 1e-6)
        distance = np.abs(expected[:, None] - inner).max(axis=2).min(axis=1)
        assert distance.max() < 1e-6


@pytest.mark.parametrize("loose", [2.0, 3.0, 1e4])
def test_fast_hull_finds_the_row_of_the_diamond(loose: float) -> None:
    """[kReLU §2]: 2 y1 + 2 y2 - x1 - x2 <= 2 on |x1 ± x2| <= 2, whatever the single bounds."""
    rows = fast_hull([[2.0, loose, 2.0, loose, loose, 2.0, loose, 2.0]])
    found = np.column_stack([rows.x, rows.y, rows.rhs])
    assert np.abs(found - [-0.5, -0.5, 1, 1, 1]).max(axis=1).min() < 1e-6
    finite = fast_hull([[np.inf, 2.0, np.inf, 2.0, 2.0, np.inf, 2.0, np.inf]])
    assert min(slacks(finite, 0, vertices_of(np.array([4.0, 2, 4, 2, 2, 4, 2, 4])))) >= 0


def test_evidence_proves_each_row_exactly() -> None:
    """Also where sign patterns are impossible: these groups lie beside the origin."""
    bounds = whole_groups(4, 3, seed=2)
    bounds[2:] += octahedral_rows(3) @ np.array([12.0, -3.0, 1.0])
    kinks = tuple(Kink(Value(1, j), Value(2, j)) for j in range(3))
    for rows in (fast_hull(bounds), all_facets(bounds)):
        assert set(rows.group.tolist()) == {0, 1, 2, 3}
        for at in range(0, len(rows), 9):
            group = octahedral_group(kinks, octahedral_rows(3), bounds[rows.group[at]])
            one = slice(at, at + 1)
            sides = rows.x[one], rows.y[one]
            named = rows_of_group(
                group, sides, rows.rhs[one], rows.members[one], rows.multipliers[one]
            )
            assert named[0].derived()


def test_proofs_agree_with_the_careful_ones() -> None:
    bounds = np.concatenate([float_groups(20, 3, seed=1), whole_groups(20, 3, seed=1)])
    bounds[30:] += octahedral_rows(3) @ np.array([4.0, 4.0, -9.0])
    groups = octahedra(bounds)
    rng = np.random.default_rng(2)
    group = rng.integers(0, 40, 400)
    x, y = rng.uniform(-1, 1, (2, 400, 3))
    fast, careful = (f(groups, group, x, y).rhs for f in (batch.proved_together, proven_offsets))
    assert np.abs((fast - careful) / groups.scale[group]).max() < 1e-6


def test_rows_hold_for_lying_vertices(monkeypatch: pytest.MonkeyPatch) -> None:
    """With wrong points, bases and losses the rows become weak, not wrong."""
    rng = np.random.default_rng(0)

    def lying(bounds, negative, positive) -> Octahedra:
        honest = octahedra(bounds, negative, positive)
        points = honest.points + rng.normal(size=honest.points.shape)
        return replace(honest, points=points, basis=rng.permutation(honest.basis))

    bounds = whole_groups(4, 3, seed=8)
    exact = [vertices_of(d) for d in bounds]
    monkeypatch.setattr(batch, "octahedra", lying)
    monkeypatch.setattr(batch, "_LOOSE", np.inf)
    rows = fast_hull(bounds)
    left = [slack for group in range(4) for slack in slacks(rows, group, exact[group])]
    assert min(left) >= 0 and max(left) > 1


def test_groups_without_rows() -> None:
    """Unbounded, contradictory and empty ones; the others of the batch do not notice."""
    good = whole_groups(1, 3, seed=4)[0]
    unbounded, empty, partly = good.copy(), good.copy(), good.copy()
    unbounded[(octahedral_rows(3) == [0, 0, 1]).all(axis=1)] = np.inf
    empty[0], empty[-1] = -100.0, -100.0
    partly[0] = np.inf
    batch_of_all = np.stack([unbounded, good, empty, partly, np.full(26, np.nan)])
    for find in (fast_hull, all_facets):
        rows = find(batch_of_all)
        assert set(rows.group.tolist()) == {1, 3}
        alone = find(good[None])
        assert np.array_equal(np.sort(rows.rhs[rows.group == 1]), np.sort(alone.rhs))
        assert min(slacks(rows, 3, vertices_of(partly))) >= 0
        assert len(find(np.empty((0, 26)))) == 0
        with pytest.raises(BadInput, match="shape"):
            find(np.zeros((2, 5)))


def test_stable_coordinates_are_equations() -> None:
    """x1 >= 1 and x2 <= -1: y1 = x1 and y2 = 0, both ways."""
    bounds = np.array([[d for d in octahedral_rows(2) @ [3.0, -3.0] + 2.0]])
    for find in (fast_hull, all_facets):
        rows = find(bounds)
        for y, valid in (([3, 0], True), ([2.9, 0], False), ([3.1, 0], False), ([3, 0.1], False)):
            assert np.all(rows.x @ [3, -3] + rows.y @ y <= rows.rhs) == valid


def test_octahedral_sets_are_recognised() -> None:
    A = [[3, 0], [-1, 0], [0, Fraction(1, 2)], [0, -2], [5, 5], [1, 0]]
    bounds = octahedral_bounds(as_fractions(A, "A", 2), as_fractions([9, 1, 1, 4, 20, 2], "b", 1))
    assert bounds is not None
    assert bounds.tolist() == [np.inf, 1, np.inf, 2, 2, np.inf, 2, 4]
    diamond = [[1, 1], [1, -1], [-1, 1], [-1, -1]]
    assert (
        octahedral_bounds(as_fractions(diamond, "A", 2), as_fractions([2] * 4, "b", 1)) is not None
    )
    for other in ([[1, 2]], [[1, 0], [0, 1], [-1, 0]], np.eye(4).tolist()):
        ones = as_fractions([1] * len(other), "b", 1)
        assert octahedral_bounds(as_fractions(other, "A", 2), ones) is None


def test_slopes_that_are_no_floats_are_not_rounded() -> None:
    exact = relu_hull([[1], [-1]], [3, 3], negative=Fraction(1, 3))
    found = relu_hull([[1], [-1]], [3, 3], exact=False, negative=Fraction(1, 3))
    assert all(found.contains(v[:1], v[1:]) for v in exact.vertices)


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([2, 3]), st.sampled_from([0.0, 0.01, -1.0]))
def test_no_point_of_ten_thousand_groups_is_cut_off(seed: int, k: int, negative: float) -> None:
    """A hundred groups at a time: random points of each, most of them close to its vertices, in
    exact arithmetic."""
    rng = np.random.default_rng(seed)
    groups = octahedra(random_bounds(100, k, rng), negative)
    rows = fast_hull(groups.bounds, negative)
    normals = octahedral_rows(k)
    seen = 0
    for g, bounds in enumerate(groups.bounds):
        corners = groups.points[groups.start[g] : groups.start[g + 1]] * groups.scale[g]
        shares = rng.dirichlet(np.full(len(corners), 0.05), size=3)
        points = whole_numbers(shares @ corners * (1 - 1e-9) + 1e-9 * corners.mean(axis=0))
        inside = np.all(normals.astype(int) @ points.T <= whole_numbers(bounds)[:, None], axis=0)
        mine = rows.group == g
        floats = np.column_stack([rows.x[mine], rows.y[mine], rows.rhs[mine]])
        whole = whole_numbers(floats)
        # The slopes are multiples of UNIT as well, and the products of UNIT squared.
        slope = int(Fraction(negative) * UNIT)
        values = np.where(points > 0, points * UNIT, points * slope)
        lifted = np.concatenate([points * UNIT, values], axis=1)[inside]
        assert np.all(whole[:, :-1] @ lifted.T <= whole[:, -1:] * UNIT**2)
        seen += int(inside.sum())
    assert seen > 250


# Every float64 that is not tiny is a multiple of 1 / UNIT.
UNIT = 2**200


def whole_numbers(values: np.ndarray) -> np.ndarray:
    """The numbers in units of 1 / UNIT, as Python integers."""
    scaled = [Fraction(v) * UNIT for v in np.ravel(values).tolist()]
    assert all(v.denominator == 1 for v in scaled)
    return np.array([int(v) for v in scaled], dtype=object).reshape(np.shape(values))
