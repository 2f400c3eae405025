"""The exact hull of a group of ReLUs: reference facets, and the geometry of random groups."""

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hullmark.errors import BadInput, Unsupported, VacuousProperty
from hullmark.relax import ReluHull, relu_hull, relu_triangle

DIAMOND = [[1, 1], [1, -1], [-1, 1], [-1, -1]]
DIAMOND_FACETS = {
    (0, 0, -1, 0, 0),
    (0, 0, 0, -1, 0),
    (1, 0, -1, 0, 0),
    (0, 1, 0, -1, 0),
    (-1, -1, 2, 2, 2),
}


def facets(hull: ReluHull) -> set[tuple[int, ...]]:
    return {(*row, rhs) for row, rhs in zip(hull.rows.tolist(), hull.rhs.tolist(), strict=True)}


def rank(rows) -> int:
    rows = [list(map(Fraction, row)) for row in rows]
    result = 0
    for column in range(len(rows[0]) if rows else 0):
        pivot = next((i for i in range(result, len(rows)) if rows[i][column]), None)
        if pivot is None:
            continue
        rows[result], rows[pivot] = rows[pivot], rows[result]
        for i in range(result + 1, len(rows)):
            factor = rows[i][column] / rows[result][column]
            rows[i] = [a - factor * c for a, c in zip(rows[i], rows[result], strict=True)]
        result += 1
    return result


def affine_rank(points) -> int:
    return rank([[*point, 1] for point in points])


@pytest.mark.parametrize("index", range(12))
def test_reference_facets_and_vertices(data: Path, index: int) -> None:
    group = json.loads((data / "goldens" / "hulls.json").read_text())[index]
    hull = relu_hull(group["A"], [Fraction(value) for value in group["b"]])
    expected = [(facet["row"], facet["rhs"]) for facet in group["facets"]]
    assert list(zip(hull.rows.tolist(), hull.rhs.tolist(), strict=True)) == expected
    assert len(hull.equalities[0]) == 0
    vertices = {tuple(map(Fraction, vertex)) for vertex in group["vertices"]}
    assert {tuple(vertex) for vertex in hull.vertices.tolist()} == vertices


def test_diamond_has_five_facets() -> None:
    assert facets(relu_hull(DIAMOND, [2] * 4)) == DIAMOND_FACETS


def test_joint_row_of_the_two_relu_example() -> None:
    # x3 = x1 + x2 and x4 = x1 - x2 over [-1, 1]^2 fill exactly the diamond |x3| + |x4| <= 2.
    hull = relu_hull(np.array(DIAMOND, dtype=np.float32), np.full(4, 2.0))
    assert (-1, -1, 2, 2, 2) in facets(hull)
    best = max(y1 + 2 * y2 for _, _, y1, y2 in hull.vertices.tolist())
    assert best == 4


def test_one_relu_is_the_triangle() -> None:
    hull = relu_hull([[1], [-1]], [3, 1])
    assert facets(hull) == {(0, -1, 0), (1, -1, 0), (-3, 4, 3)}
    rows, rhs = relu_triangle([[1], [-1]], [3, 1])
    assert np.all(rows[2:] @ hull.vertices.T <= rhs[2:, None])


def test_leaky_relu_and_absolute_value() -> None:
    leaky = relu_hull([[1], [-1]], [1, 1], negative=Fraction(1, 4))
    assert facets(leaky) == {(1, -4, 0), (1, -1, 0), (-5, 8, 3)}
    absolute = relu_hull([[1], [-1]], [1, 1], negative=-1)
    assert facets(absolute) == {(-1, -1, 0), (1, -1, 0), (0, 1, 1)}
    concave = relu_hull([[1], [-1]], [1, 1], negative=1, positive=0)
    assert facets(concave) == {(-1, 1, 0), (0, 1, 0), (1, -2, 1)}
    mixed = relu_hull(DIAMOND, [2] * 4, negative=[0, 1])
    assert mixed.equalities[0].tolist() == [[0, -1, 0, 1]]
    assert mixed.equalities[1].tolist() == [0]


def test_flat_sets_have_equalities() -> None:
    stable = relu_hull([[1], [-1]], [3, -1])
    assert (stable.equalities[0].tolist(), stable.equalities[1].tolist()) == ([[-1, 1]], [0])
    assert facets(stable) == {(1, 0, 3), (-1, 0, -1)}
    point = relu_hull([[2], [-2]], [-1, 1])
    assert len(point.rows) == 0
    assert point.contains([Fraction(-1, 2)], [0])
    assert not point.contains([Fraction(-1, 2)], [1])
    segment = relu_hull([[1, -1], [-1, 1], [1, 0], [-1, 0]], [0, 0, 1, 1])
    assert segment.contains([0.5, 0.5], [0.75, 0.75])
    assert not segment.contains([0.5, 0.5], [0.75, 0.5])
    assert not segment.contains([0.5, 0.25], [0.5, 0.25])
    assert len(segment.equalities[0]) == 2
    assert len(segment.rows) == 3


def test_floats_are_taken_as_stored() -> None:
    hull = relu_hull([[1.0], [-1.0]], [0.1, 0.1])
    assert max(hull.vertices[:, 0]) == Fraction(0.1)
    assert Fraction(0.1) != Fraction(1, 10)


@pytest.mark.parametrize(
    ("A", "b", "message"),
    [
        ([[1, 0], [0, 1], [0, -1]], [1, 1, 1], "unbounded in the direction \\(-1, 0\\)"),
        ([], [], "shape"),
        ([[1], [2, 3]], [1, 1], "different lengths"),
        ([[1]], [1, 1], "1 rows and b has 2"),
        ([[float("nan")]], [1], "A\\[0, 0\\] is nan"),
        ([[1]], [float("inf")], "b\\[0\\] is inf"),
        ([["1"]], [1], "not a number"),
        ([[]], [1], "no columns"),
    ],
)
@pytest.mark.parametrize("exact", [True, False])
def test_bad_input_is_named(A, b, message: str, exact: bool) -> None:
    with pytest.raises(BadInput, match=message):
        relu_hull(A, b, exact=exact)


@pytest.mark.parametrize("exact", [True, False])
def test_empty_sets_are_refused(exact: bool) -> None:
    for A, b in (([[1], [-1]], [0, -1]), ([[0], [1], [-1]], [-1, 1, 1]), ([[0, 0]], [-1])):
        with pytest.raises(VacuousProperty, match="empty"):
            relu_hull(A, b, exact=exact)


def test_slopes_are_checked() -> None:
    with pytest.raises(BadInput, match="positive has 3 slopes for 2"):
        relu_hull(DIAMOND, [2] * 4, positive=[1, 1, 1])


def test_a_large_group_is_refused_with_its_cost() -> None:
    width = 9
    A = np.array(np.meshgrid(*[(-1, 1)] * width)).reshape(width, -1).T
    with pytest.raises(Unsupported, match="bases to solve"):
        relu_hull(A, np.ones(len(A)), exact=False)


def test_contains_checks_shapes() -> None:
    hull = relu_hull(DIAMOND, [2] * 4)
    with pytest.raises(BadInput, match="x and y have shapes"):
        hull.contains([1], [1, 0])


@st.composite
def groups(draw, width: int):
    """A box with a few more rows through a chosen inner point, quarters throughout."""
    quarters = st.integers(-12, 12).map(lambda n: Fraction(n, 4))
    inner = [draw(quarters) for _ in range(width)]
    rows = [[sign * (i == j) for j in range(width)] for i in range(width) for sign in (1, -1)]
    extra = st.lists(st.integers(-3, 3), min_size=width, max_size=width)
    rows += draw(st.lists(extra, max_size=3))
    slack = [Fraction(draw(st.integers(0, 12)), 4) for _ in rows]
    values = [sum(a * v for a, v in zip(row, inner, strict=True)) for row in rows]
    return rows, [value + more for value, more in zip(values, slack, strict=True)]


slopes = st.sampled_from([(0, 1), (Fraction(1, 100), 1), (-1, 1), (1, 0)])


def check_geometry(A, b, negative, positive, weights) -> None:
    hull = relu_hull(A, b, negative=negative, positive=positive)
    width = len(A[0])
    E, e = hull.equalities

    def value(x):
        return [positive * v if v > 0 else negative * v for v in x]

    for vertex in hull.vertices.tolist():
        x = vertex[:width]
        assert vertex[width:] == value(x)
        heights = [sum(a * v for a, v in zip(row, x, strict=True)) for row in A]
        assert all(height <= limit for height, limit in zip(heights, b, strict=True))
        assert hull.contains(x, vertex[width:])
    dimension = affine_rank(hull.vertices.tolist()) - 1
    assert rank(E.tolist()) == len(E) == 2 * width - dimension
    for row, rhs in zip(hull.rows, hull.rhs, strict=True):
        touching = [v for v in hull.vertices if row @ v == rhs]
        assert affine_rank([v.tolist() for v in touching]) == dimension
    # A vertex is tight in rows and equations of full rank, so no vertex can be left out.
    for vertex in hull.vertices:
        tight = [r for r, h in zip(hull.rows, hull.rhs, strict=True) if r @ vertex == h]
        assert rank([*map(list, tight), *E.tolist()]) == 2 * width
    weights = (weights * len(hull.vertices))[: len(hull.vertices)]
    assume(sum(weights))
    mixed = sum(w * v for w, v in zip(weights, hull.vertices, strict=True)) / Fraction(sum(weights))
    x = mixed[:width].tolist()
    assert hull.contains(x, value(x))
    assert hull.contains(x, mixed[width:].tolist())
    assert np.all(E @ mixed == e)
    high = [v + 100 for v in mixed[width:].tolist()]
    assert not hull.contains(x, high)


some_weights = st.lists(st.integers(0, 5), min_size=3, max_size=12)


@settings(max_examples=60)
@given(groups(1), slopes, some_weights)
def test_geometry_of_single_neurons(group, pair, weights) -> None:
    check_geometry(*group, *pair, weights)


@settings(max_examples=80)
@given(groups(2), slopes, some_weights)
def test_geometry_of_pairs(group, pair, weights) -> None:
    check_geometry(*group, *pair, weights)


@settings(max_examples=12)
@given(groups(3), slopes, some_weights)
def test_geometry_of_triples(group, pair, weights) -> None:
    check_geometry(*group, *pair, weights)
