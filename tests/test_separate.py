"""Separation from octahedral groups: every row holds exactly, is proved, and cuts deep."""

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from joint_rows import SLOPES, check, implied, random_bounds, random_points

from hullmark.relax import relu_hull
from hullmark.relax.octahedra import Octahedra, octahedra, octahedral_rows, template
from hullmark.relax.project import nearest_points
from hullmark.relax.separate import (
    JointRows,
    proven_rhs,
    rows_for,
    separate,
    separate_from,
)
from hullmark.relax.tilt import tilted


@pytest.mark.parametrize("slopes", SLOPES)
@pytest.mark.parametrize("k", [1, 2, 3])
def test_rows_hold_exactly_touch_and_cut_deep(k: int, slopes: tuple[float, float]) -> None:
    rng = np.random.default_rng(10 * k)
    groups = octahedra(random_bounds((40, 40, 8)[k - 1], k, rng), *slopes)
    x, y = random_points(groups, rng)
    if k == 1 or slopes[0] == slopes[1]:
        y = y + rng.normal(size=y.shape)
    rows = separate_from(groups, x, y, facets=False)
    assert len(rows) >= 3
    check(rows, groups)
    distances = distance(groups, x, y)[rows.group]
    depths = depth(rows, x, y) / distances
    assert depths.min() > 0.999
    assert depths.max() < 1 + 1e-6
    turned = separate_from(groups, x, y)
    assert np.array_equal(turned.group, rows.group)
    check(turned, groups)
    depths = depth(turned, x, y) / distances
    assert depths.min() > 0.4
    assert np.median(depths) > 0.95
    assert depths.max() < 1 + 1e-6


@pytest.mark.parametrize("k", [1, 2, 3])
def test_turned_rows_are_facets(k: int) -> None:
    rng = np.random.default_rng(20 + k)
    groups = octahedra(random_bounds(60, k, rng))
    x, y = random_points(groups, rng)
    rows = separate_from(groups, x, y + 0.1)
    lifted = groups.lifted() * groups.scale[groups.group][:, None]
    assert len(rows) > 20
    for index, g in enumerate(rows.group):
        cloud = lifted[(groups.group == g) & groups.first]
        row = np.concatenate([rows.x[index], rows.y[index]])
        size = groups.scale[g]
        on = cloud[cloud @ row > rows.rhs[index] - 1e-6 * size] / size
        assert np.linalg.matrix_rank(on[1:] - on[0], tol=1e-6) == 2 * k - 1


def test_flat_hulls_keep_their_normals() -> None:
    """A square in a plane of space; one target in the plane, one above it."""
    square = np.array([[1.0, 1, 0], [1, -1, 0], [-1, 1, 0], [-1, -1, 0]])
    clouds = np.stack([square, square, np.zeros_like(square)])
    targets = np.array([[2.0, 1.5, 0], [0.25, 0.5, 1], [1, 1, 1]])
    normals = np.array([[1.0, 0.5, 0], [0, 0, 1], [1, 1, 1]])
    found = tilted(clouds, normals, targets)
    assert np.allclose(found[0] / np.abs(found[0]).max(), [1, 0, 0])
    assert np.array_equal(found[1:], normals[1:])


def depth(rows: JointRows, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The Euclidean distance from each point to its row's half-space."""
    both = np.concatenate([rows.x, rows.y], axis=1)
    points = np.concatenate([x, y], axis=1)[rows.group]
    return (np.einsum("md,md->m", both, points) - rows.rhs) / np.linalg.norm(both, axis=1)


def distance(groups: Octahedra, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The distance from each point to its hull; see the optimality test of the projection."""
    lifted = groups.lifted() * groups.scale[groups.group][:, None]
    result = np.empty(len(x))
    for g in range(len(x)):
        cloud = lifted[groups.start[g] : groups.start[g + 1]] - np.concatenate([x[g], y[g]])
        result[g] = np.linalg.norm(nearest_points(cloud[None])[0])
    return result


def test_nearest_points_satisfy_the_optimality_condition() -> None:
    rng = np.random.default_rng(4)
    clouds = rng.normal(size=(200, 30, 6)) + rng.normal(size=(200, 1, 6)) * rng.random((200, 1, 1))
    nearest = nearest_points(clouds)
    heights = np.einsum("gnd,gd->gn", clouds, nearest).min(axis=1)
    square = np.einsum("gd,gd->g", nearest, nearest)
    outside = square > 1e-12
    assert outside.sum() > 50
    assert np.all(heights[outside] >= square[outside] * (1 - 1e-6))
    assert (~outside).sum() > 20


@st.composite
def rough_groups(draw, k: int):
    """Bounds around an inner point, with slacks of very different sizes, zero among them."""
    number = st.floats(-4, 4, allow_subnormal=False).map(lambda v: round(v, 3))
    inner = [draw(number) for _ in range(k)]
    slack_of = st.one_of(st.just(0.0), st.floats(1e-9, 1e-6), st.floats(0.01, 3))
    scale = 10.0 ** draw(st.sampled_from([-9, 0, 0, 6]))
    rows = octahedral_rows(k).tolist()
    exact = [sum(Fraction(a) * Fraction(v) for a, v in zip(r, inner, strict=True)) for r in rows]
    bounds = [
        np.nextafter(float(value + Fraction(draw(slack_of))) * scale, np.inf) for value in exact
    ]
    offsets = [draw(st.floats(-3, 3)) for _ in range(2 * k)]
    point = (np.array([*inner, *np.maximum(inner, 0)]) + offsets) * scale
    return np.array([bounds]), point[None, :k], point[None, k:]


@settings(max_examples=60)
@given(rough_groups(2), st.sampled_from(SLOPES))
def test_rows_of_rough_pairs_hold(group, slopes) -> None:
    bounds, x, y = group
    groups = octahedra(bounds, *slopes)
    check(separate_from(groups, x, y), groups, tight=False)


@settings(max_examples=25)
@given(rough_groups(3), st.sampled_from(SLOPES))
def test_rows_of_rough_triples_hold(group, slopes) -> None:
    bounds, x, y = group
    groups = octahedra(bounds, *slopes)
    check(separate_from(groups, x, y), groups, tight=False)


def test_reference_groups(data: Path) -> None:
    """Just outside a facet the row found is that facet, or one that cuts as deep."""
    for group in json.loads((data / "goldens" / "hulls.json").read_text()):
        k = group["k"]
        rows = octahedral_rows(k).tolist()
        b = {tuple(a): float(Fraction(v)) for a, v in zip(group["A"], group["b"], strict=True)}
        bounds = np.array([[b[tuple(row)] for row in rows]])
        groups = octahedra(bounds)
        vertices = np.array([[float(Fraction(v)) for v in p] for p in group["vertices"]])
        assert groups.first.sum() == len(vertices)
        normals = np.array([facet["row"] for facet in group["facets"]], dtype=float)
        rhs = np.array([facet["rhs"] for facet in group["facets"]], dtype=float)
        lengths = np.linalg.norm(normals, axis=1)
        normals, rhs = normals / lengths[:, None], rhs / lengths
        touching = np.abs(vertices @ normals.T - rhs) < 1e-9
        points = np.stack([vertices[t].mean(axis=0) for t in touching.T]) + 0.01 * normals
        every = groups.selected(np.zeros(len(points), dtype=np.intp))
        found = separate_from(every, points[:, :k], points[:, k:])
        assert len(found) == len(points)
        assert np.all(depth(found, points[:, :k], points[:, k:]) > 0.99 * 0.01)
        best = (vertices @ np.concatenate([found.x, found.y], axis=1).T).max(axis=0)
        assert np.all(found.rhs >= best - 1e-12)
        assert np.all(found.rhs <= best + 1e-12)


def test_the_diamond() -> None:
    """[kReLU §3.3]: its one joint facet is 2 y1 + 2 y2 - x1 - x2 <= 2."""
    size = {1: 2.0, 2: 2.0}
    bounds = np.array([[size[int(np.abs(r).sum())] for r in octahedral_rows(2)]])
    rows = separate(bounds, np.zeros((1, 2)), np.array([[0.8, 0.8]]))
    assert len(rows) == 1
    assert np.allclose(np.concatenate([rows.x, rows.y], axis=1), [[-0.5, -0.5, 1, 1]], atol=1e-6)
    assert 0 <= rows.rhs[0] - 1 < 1e-6


def test_nothing_is_cut_off_within_the_hull() -> None:
    rng = np.random.default_rng(5)
    for k in (1, 2, 3):
        groups = octahedra(random_bounds(50, k, rng))
        lifted = groups.lifted() * groups.scale[groups.group][:, None]
        points = np.array(
            [
                rng.dirichlet(np.ones(b - a)) @ lifted[a:b]
                for a, b in zip(groups.start[:-1], groups.start[1:], strict=True)
            ]
        )
        assert len(separate_from(groups, points[:, :k], points[:, k:])) == 0


@pytest.mark.parametrize("factor", [1e-200, 1e-9, 1e6, 1e300])
def test_scales(factor: float) -> None:
    """A power of two changes nothing; other factors change rounding only."""
    rng = np.random.default_rng(6)
    bounds = random_bounds(20, 2, rng)
    plain = octahedra(bounds)
    x, y = random_points(plain, rng)
    factor = 2.0 ** np.round(np.log2(factor))
    found = separate(bounds, x, y)
    scaled = separate(bounds * factor, x * factor, y * factor)
    assert len(found) > 3
    assert np.array_equal(found.group, scaled.group)
    assert np.array_equal(found.x, scaled.x)
    assert np.allclose(found.rhs * factor, scaled.rhs, rtol=1e-12, atol=0)


def test_flat_and_inconsistent_groups() -> None:
    rows = octahedral_rows(2).astype(float)
    point = np.array([[0.25, -0.75]])
    flat = point @ rows.T
    zero = np.zeros((1, 2))
    high = np.array([[1.0, 1.0]])
    for bounds in (flat, flat + 1e-13, flat * 2.0**-30, np.zeros_like(flat)):
        groups = octahedra(bounds)
        found = separate_from(groups, zero, high)
        assert len(found) == 1
        check(found, groups)
    # Bounds that exclude each other by a rounding error are taken for a thin set ...
    thin = flat.copy()
    thin[0, 0] -= 1e-13
    assert len(separate(thin, zero, high)) == 1
    # ... and by more for a mistake: nothing is claimed.
    thin[0, template(2).upper[0]] -= 0.1
    assert len(separate(thin, zero, high)) == 0


def test_infinite_and_missing_bounds() -> None:
    rng = np.random.default_rng(7)
    bounds = random_bounds(5, 2, rng)
    x, y = np.zeros((5, 2)), np.full((5, 2), 50.0)
    bounds[0, template(2).upper[0]] = np.inf
    bounds[1, 0] = np.nan
    bounds[2, 0] = -np.inf
    bounds[3, 0] = np.inf
    y[4] = np.nan
    rows = separate(bounds, x, y)
    assert rows.group.tolist() == [3]
    finite = bounds.copy()
    finite[3, 0] = 1e6
    groups = octahedra(finite[3:4])
    check(JointRows(rows.group * 0, *(vars(rows)[n] for n in list(vars(rows))[1:])), groups)
    rhs, _, multipliers = proven_rhs(bounds, np.ones((5, 2)), np.ones((5, 2)))
    assert np.isinf(rhs[:3]).all()
    assert np.isfinite(rhs[3:]).all()
    assert not multipliers[:3].any()


def test_a_group_may_pass_some_coordinates_through() -> None:
    """With `y2 = x2` the hull is that of one ReLU beside a free coordinate."""
    rng = np.random.default_rng(8)
    bounds = random_bounds(60, 2, rng)
    negative, positive = np.array([0.0, 1.0]), np.array([1.0, 1.0])
    groups = octahedra(bounds, negative, positive)
    x, y = random_points(groups, rng)
    y[:, 1] = x[:, 1]
    rows = separate_from(groups, x, y)
    normals = octahedral_rows(2).tolist()
    hulls = [relu_hull(normals, d.tolist(), negative=[0, 1], positive=[1, 1]) for d in bounds]
    outside = [g for g, hull in enumerate(hulls) if not hull.contains(x[g], y[g])]
    assert len(outside) >= 3
    assert rows.group.tolist() == outside
    check(rows, groups)


def test_selected_groups_and_chosen_directions() -> None:
    rng = np.random.default_rng(9)
    groups = octahedra(random_bounds(6, 2, rng))
    x, y = random_points(groups, rng)
    y += 1
    order = np.array([4, 1, 4])
    some = separate_from(groups.selected(order), x[order], y[order])
    whole = separate_from(groups, x, y)
    assert len(some) == 3
    for index, g in enumerate(order):
        at = int(np.flatnonzero(whole.group == g)[0])
        assert np.array_equal(some.x[index], whole.x[at])
        assert some.rhs[index] == whole.rhs[at]
    directions = rng.normal(size=(4, 4))
    directions[1] = 0
    directions[2, 0] = np.nan
    rows = rows_for(groups, np.array([5, 5, 5, 0]), directions)
    assert rows.group.tolist() == [5, 0]
    check(rows, groups)


@pytest.mark.slow
@pytest.mark.parametrize("k", [1, 2, 3])
def test_ten_thousand_groups(k: int) -> None:
    """Each row is proved by its own multipliers, exactly; exact hulls for every fiftieth."""
    rng = np.random.default_rng(100 + k)
    groups = octahedra(random_bounds(10_000, k, rng), rng.choice([0.0, 0.01], size=(10_000, k)))
    x, y = random_points(groups, rng)
    rows = separate_from(groups, x, y + rng.random(y.shape) * 0.3)
    assert len(rows) > 5_000
    normals = octahedral_rows(k)
    for index, g in enumerate(rows.group):
        slopes = (groups.negative[g], groups.positive[g])
        proved = implied(rows, index, normals, groups.bounds[g], slopes)
        assert proved <= Fraction(rows.rhs[index])
    check(rows.selected(np.arange(0, len(rows), 50 if k < 3 else 200)), groups)
