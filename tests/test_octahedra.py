"""Batches of octahedral groups: vertices, circuits, and the bounds that they guess."""

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from joint_rows import SLOPES, check, fractions, random_bounds

from hullmark.errors import BadInput, Unsupported
from hullmark.relax import relu_hull
from hullmark.relax.circuits import circuits
from hullmark.relax.octahedra import Octahedra, octahedra, octahedral_rows, template
from hullmark.relax.separate import (
    rows_for,
    separate,
)
from hullmark.relax.weak import proven_offsets


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_octahedral_rows(k: int) -> None:
    rows = octahedral_rows(k)
    assert rows.shape == (3**k - 1, k)
    assert rows.dtype == np.int8
    assert {tuple(r) for r in rows.tolist()} == set(product((-1, 0, 1), repeat=k)) - {(0,) * k}
    assert np.array_equal(rows, -rows[::-1])


@pytest.mark.parametrize("k", [1, 2, 3])
def test_the_bases_of_the_template_are_inverted_exactly(k: int) -> None:
    shape = template(k)
    normals = np.concatenate([shape.rows, np.eye(k)]).astype(int).tolist()
    for members, inverse in zip(shape.members.tolist(), shape.inverses, strict=True):
        matrix = np.array([[Fraction(v) for v in normals[m]] for m in members], dtype=object)
        # Thirds are rounded; everything else is exact.
        error = np.array([fractions(row) for row in inverse], dtype=object) @ matrix - np.eye(k)
        assert max(abs(v) for v in error.ravel().tolist()) <= Fraction(1, 10**15)


@pytest.mark.parametrize("signs", [s for k in (1, 2, 3) for s in product((-1, 1), repeat=k)])
def test_circuits_add_up_to_nothing(signs: tuple[int, ...]) -> None:
    k, known = len(signs), circuits(signs)
    normals = np.concatenate([octahedral_rows(k).astype(int), -np.diag(signs)])
    assert len(known.members) > 0
    assert np.all(known.weights >= 0)
    assert np.all(known.planes.any(axis=1))
    assert not np.einsum("ci,cij->cj", known.weights, normals[known.members]).any()


@pytest.mark.parametrize("slopes", SLOPES)
@pytest.mark.parametrize("k", [1, 2, 3])
def test_vertices_are_those_of_the_exact_hull(k: int, slopes: tuple[float, float]) -> None:
    bounds = random_bounds(6 if k < 3 else 3, k, np.random.default_rng(k))
    groups = octahedra(bounds, *slopes)
    lifted = groups.lifted()
    for g in range(len(bounds)):
        hull = relu_hull(
            octahedral_rows(k).tolist(),
            bounds[g].tolist(),
            negative=slopes[0],
            positive=slopes[1],
        )
        exact = hull.vertices.astype(float)
        found = lifted[(groups.group == g) & groups.first] * groups.scale[g]
        distance = np.abs(found[:, None] - exact[None]).max(axis=2)
        assert distance.min(axis=0).max() < 1e-12 * groups.scale[g]
        # Where the slopes are equal the exact hull has only the vertices of the octahedron.
        assert distance.min(axis=1).max() < 1e-12 * groups.scale[g]


def test_bad_shapes() -> None:
    with pytest.raises(BadInput, match="octahedral bounds"):
        octahedra(np.zeros((3, 7)))
    with pytest.raises(BadInput, match="slopes"):
        octahedra(np.zeros((3, 8)), np.zeros(3))
    with pytest.raises(BadInput, match="finite"):
        octahedra(np.zeros((3, 8)), np.nan)
    with pytest.raises(BadInput, match="points"):
        separate(np.zeros((3, 8)), np.zeros((2, 2)), np.zeros((2, 2)))
    with pytest.raises(BadInput):
        octahedral_rows(0)
    with pytest.raises(Unsupported, match="at most 3"):
        octahedra(np.zeros((1, 80)))
    assert len(separate(np.zeros((0, 8)), np.zeros((0, 2)), np.zeros((0, 2)))) == 0


@settings(max_examples=40)
@given(st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_right_hand_sides_hold_for_lying_vertices(k: int, seed: int) -> None:
    """Wrong points, lost bases and misplaced groups cost precision, never truth."""
    rng = np.random.default_rng(seed)
    honest = octahedra(random_bounds(2, k, rng))
    kept = np.sort(rng.choice(len(honest.group), size=max(1, len(honest.group) // 3)))
    lying = Octahedra(
        honest.bounds,
        honest.negative,
        honest.positive,
        honest.usable,
        honest.scale,
        np.searchsorted(honest.group[kept], np.arange(3)),
        honest.group[kept],
        rng.integers(len(template(k).members), size=len(kept)),
        rng.normal(size=(len(kept), k)),
        np.ones(len(kept), dtype=np.bool_),
    )
    rows = rows_for(lying, np.arange(2), rng.normal(size=(2, 2 * k)))
    check(rows, honest, tight=False)


def test_an_empty_part_does_not_loosen_a_row() -> None:
    """Where `x1 + x2 <= -1/2` no point has two positive signs, though both may be positive."""
    rows = octahedral_rows(2).tolist()
    bounds = np.array([[1.0 if r != [1, 1] else -0.5 for r in rows]]) * [
        [2.0 if abs(r[0]) + abs(r[1]) == 2 and r != [1, 1] else 1.0 for r in rows]
    ]
    groups = octahedra(bounds)
    proof = proven_offsets(groups, np.array([0]), np.array([[0.0, 0.0]]), np.array([[1.0, 1.0]]))
    assert 0.5 <= proof.rhs[0] < 0.5 + 1e-12
    check(rows_for(groups, np.array([0]), np.array([[0.0, 0.0, 1.0, 1.0]])), groups)


def test_an_empty_part_shown_by_two_rows_does_not_loosen_a_row() -> None:
    """`x1 - x2 - x3 <= -4` and `x1 >= 0` leave no point with three negative signs."""
    rows = octahedral_rows(3).tolist()
    special = {(1, -1, -1): -4.0, (-1, 0, 0): 0.0, (1, 0, 0): 0.0}
    bounds = np.array([[special.get(tuple(r), 9.0 * sum(map(abs, r))) for r in rows]])
    groups = octahedra(bounds)
    direction = np.array([[0.0, -1.0, -1.0, 0.0, -1.0, -1.0]])
    found = rows_for(groups, np.array([0]), direction)
    check(found, groups)
    assert found.rhs[0] < -4
