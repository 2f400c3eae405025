"""Hulls by floating-point search: every row is valid exactly, and nearly all are facets."""

import json
from fractions import Fraction
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hullmark.relax import ReluHull, relu_hull
from hullmark.relax.bases import enumerate_bases, proven_box, scaled_polyhedron
from hullmark.relax.duality import Evidence, proven_bounds
from hullmark.relax.exact import as_fractions
from hullmark.relax.pieces import read_pieces


def slacks(fast: ReluHull, vertices: np.ndarray) -> list[Fraction]:
    """What each row leaves to the exact hull; negative where the row is wrong."""
    result = []
    for row, rhs in zip(fast.rows.tolist(), fast.rhs.tolist(), strict=True):
        exact = np.array([Fraction(v) for v in row], dtype=object)
        result.append(Fraction(rhs) - max((vertices @ exact).tolist()))
    return result


def scaled(hull: ReluHull) -> np.ndarray:
    rows = np.column_stack([hull.rows, hull.rhs]).astype(np.float64)
    return rows / np.abs(hull.rows.astype(np.float64)).max(axis=1, keepdims=True)


@pytest.mark.parametrize("index", range(12))
def test_reference_groups(data: Path, index: int) -> None:
    group = json.loads((data / "goldens" / "hulls.json").read_text())[index]
    b = [Fraction(value) for value in group["b"]]
    exact, fast = relu_hull(group["A"], b), relu_hull(group["A"], b, exact=False)
    left = slacks(fast, exact.vertices)
    assert min(left) >= 0
    # The bases are exact up to rounding of 1e-16 times the size of the set.
    assert max(left) < 1e-12
    assert len(fast.rows) == len(exact.rows)
    # Rows are found to about 1e-9; each exact facet must be among them.
    distance = np.abs(scaled(exact)[:, None] - scaled(fast)[None]).max(axis=2).min(axis=1)
    assert distance.max() < 1e-7


@st.composite
def float_groups(draw, width: int):
    number = st.floats(-4, 4, allow_subnormal=False).map(lambda v: round(v, 3))
    inner = [draw(number) for _ in range(width)]
    rows = [list(row) for row in product((-1, 0, 1), repeat=width) if any(row)]
    slack = [draw(st.floats(0.01, 3)) for _ in rows]
    values = [sum(a * v for a, v in zip(row, inner, strict=True)) for row in rows]
    return rows, [value + more for value, more in zip(values, slack, strict=True)]


@settings(max_examples=60)
@given(float_groups(2), st.sampled_from([0, Fraction(1, 3), -1]))
def test_random_pairs(group, negative) -> None:
    exact = relu_hull(*group, negative=negative)
    fast = relu_hull(*group, exact=False, negative=negative)
    left = slacks(fast, exact.vertices)
    assert len(left) > 0
    assert min(left) >= 0
    assert max(left) < 1e-7


@settings(max_examples=8)
@given(float_groups(3))
def test_random_triples(group) -> None:
    left = slacks(relu_hull(*group, exact=False), relu_hull(*group).vertices)
    assert min(left) >= 0
    assert max(left) < 1e-7


@pytest.mark.parametrize(
    ("A", "b"),
    [
        ([[1], [-1]], [3, -1]),
        ([[1], [-1]], [Fraction(1, 3), Fraction(-1, 3)]),
        ([[1, -1], [-1, 1], [1, 0], [-1, 0]], [0.1, -0.1, 1, 1]),
        ([[3, 7], [-3, -7], [1, 0], [-1, 0]], [0.1, -0.1, 1, 1]),
        ([[1, 0], [-1, 0], [0, 1], [0, -1]], [1e12, 1e12, 1, 1]),
        ([[1, 0], [-1, 0], [0, 1], [0, -1]], [1e-30, 1e-30, 1e-30, 1e-30]),
        ([[1, 0], [-1, 0], [0, 1], [0, -1]], [5, -4, 3, 2]),
        ([[1, 1], [-1, 0], [0, -1]], [1e-9, 0, 0]),
        ([[10**400, 0], [-1, 0], [0, 1], [0, -1]], [1, 1, 1, 1]),
    ],
)
def test_flat_thin_stable_and_badly_scaled_sets(A, b) -> None:
    exact, fast = relu_hull(A, b), relu_hull(A, b, exact=False)
    left = slacks(fast, exact.vertices)
    assert len(left) > 0
    assert min(left) >= 0
    size = max(abs(v) for v in exact.vertices.ravel().tolist())
    assert max(left) <= size * Fraction(1, 10**6)
    assert all(fast.contains(v[: len(A[0])], v[len(A[0]) :]) for v in exact.vertices.tolist())


def test_bounds_hold_for_lying_bases() -> None:
    """With wrong points, a lost basis and wrong inverses the bounds grow but stay bounds."""
    A = as_fractions([list(r) for r in product((-1, 0, 1), repeat=2) if any(r)], "A", 2)
    b = as_fractions([2, 1, 2, 1.5, 1, 2, 1.25, 2.5], "b", 1)
    body = scaled_polyhedron(A, b)
    assert body is not None
    pieces = read_pieces(0, 1, 2)
    bases = enumerate_bases(body, pieces.kinked)
    box = proven_box(body, bases)
    assert box is not None
    exact = relu_hull(A, b)
    rows = np.array([[1, -1, 1, 0.5], [-1, -1, 1, 1], [0, 0, 1, -1], [0.25, 1, -1, 1]])
    truth = [max((exact.vertices @ row).tolist()) for row in rows.astype(object)]
    honest = proven_bounds(Evidence(body, bases, pieces, box), rows)
    for bound, true in zip(honest, truth, strict=True):
        assert 0 <= bound * body.scale - Fraction(true) < 1e-12
    rng = np.random.default_rng(0)
    for _ in range(20):
        chosen = bases.selected(rng.random(len(bases.points)) < 0.3)
        if not len(chosen.plain().points):
            continue
        chosen.inverses[:] += rng.normal(size=chosen.inverses.shape)
        bounds = proven_bounds(Evidence(body, chosen, pieces, box), rows)
        assert all(m * body.scale >= Fraction(t) for m, t in zip(bounds, truth, strict=True))
