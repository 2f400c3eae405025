"""Groups in which one coordinate passes through: a sum of a neuron and a value has exact rows."""

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from joint_rows import beyond, check

from hullmark.relax.fasthull import all_facets, fast_hull
from hullmark.relax.octahedra import octahedra, octahedral_rows
from hullmark.relax.separate import JointRows, separate, separate_from

SIDES = st.sampled_from([(0.0, 1.0), (0.0625, 1.0), (-0.5, 0.75), (1.0, 0.25), (-1.0, 1.0)])
EQUAL = st.sampled_from([0.0, 0.5, 1.0, -1.25])


@st.composite
def passing_groups(draw: st.DrawFn, k: int):
    """Bounds of an image of a box, integers; slopes, equal in one coordinate; a point."""
    whole = st.integers(-5, 5)
    maps = np.array([[draw(whole) for _ in range(k + 1)] for _ in range(k)])
    center = np.array([draw(whole) for _ in range(k)])
    rows = octahedral_rows(k).astype(int)
    loose = np.array([draw(st.integers(0, 2)) for _ in rows])
    bounds = rows @ center + np.abs(rows @ maps).sum(axis=1) + loose
    negative, positive = (list(side) for side in zip(*[draw(SIDES) for _ in range(k)], strict=True))
    at = draw(st.integers(0, k - 1))
    negative[at] = positive[at] = draw(EQUAL)
    x = center + np.array([draw(st.integers(-2, 2)) for _ in range(k)]) / 2
    y = np.where(x > 0, positive, negative) * x
    away = np.array([draw(st.integers(-3, 3)) for _ in range(k)])
    return bounds.astype(np.float64), (negative, positive), x, y + away


def verify(group, facets: bool) -> None:
    bounds, (negative, positive), x, y = group
    one, slopes = bounds[None], (negative, positive)
    groups = octahedra(one, negative, positive)
    # Exact, and each row touches the hull.
    check(separate_from(groups, x[None], y[None]), groups)
    check(separate_from(groups, x[None], y[None], facets=False), groups)
    few = fast_hull(one, negative, positive)
    check(few, groups)
    if facets:
        every = all_facets(one, negative, positive)
        check(every, groups)
        assert beyond(every, bounds, slopes) < 1e-6


@settings(max_examples=40, deadline=None)
@given(passing_groups(2))
def test_rows_of_pairs_hold_and_are_tight(group) -> None:
    verify(group, facets=True)


@settings(max_examples=10, deadline=None)
@given(passing_groups(3))
def test_rows_of_triples_hold_and_touch(group) -> None:
    verify(group, facets=False)


def maximum() -> np.ndarray:
    """What is known of `z = x1 - x2` and `p = x2` for `x` in `[-1, 1]^2`."""
    corners = np.array([[a - b, b] for a, b in product((-1.0, 1.0), repeat=2)])
    return (corners @ octahedral_rows(2).T).max(axis=0)


def least(rows: JointRows, slope: float) -> Fraction:
    """The least that one row proves of `relu(z) + p`, where `p` passes, times a slope.

    What the row has too much or too little of `p` is at most 1 large.
    """
    best: list[Fraction] = []
    for x, y, rhs in zip(rows.x.tolist(), rows.y.tolist(), rows.rhs.tolist(), strict=True):
        share = Fraction(x[1]) + Fraction(y[1]) * Fraction(slope)
        if x[0] == 0 and y[0] > 0:
            best.append((Fraction(rhs) + abs(share - Fraction(y[0]))) / Fraction(y[0]))
    return min(best)


@pytest.mark.parametrize(("slope", "digits"), [(1.0, 13), (0.0, 13), (0.5, 7)])
def test_the_maximum_of_two_is_known(slope: float, digits: int) -> None:
    """`max(x1, x2) = relu(x1 - x2) + x2`, of which the triangle only proves 3/2."""
    bounds, negative, positive = maximum()[None], [0.0, slope], [1.0, slope]
    point = np.array([[0.0, 1.0]]), np.array([[1.0, slope]])
    for rows in (
        fast_hull(bounds, negative, positive),
        all_facets(bounds, negative, positive),
        separate(bounds, *point, negative, positive),
    ):
        # What is above 1 is the charge for rounding; of a share of 1/2 coefficients are rounded.
        assert 1 <= least(rows, slope) < 1 + Fraction(1, 10**digits)
