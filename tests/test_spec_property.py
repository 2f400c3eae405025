"""Properties: the meaning of a counterexample, against a brute evaluation over fractions."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hullmark.errors import BadInput
from hullmark.spec.property import Case, Constraint, Property
from hullmark.spec.sets import Box

small = st.integers(-3, 3).map(lambda k: Fraction(k, 2))
odd = st.sampled_from([Fraction(1, 3), Fraction(1, 10), Fraction(-7, 11), Fraction(2)])
coefficients = st.one_of(small, odd)


@st.composite
def constraints(draw: st.DrawFn) -> Constraint:
    x = draw(st.dictionaries(st.integers(0, 1), coefficients, max_size=2))
    y = draw(st.dictionaries(st.integers(0, 2), coefficients, max_size=3))
    return Constraint.of(x, y, draw(coefficients), strict=draw(st.booleans()))


@st.composite
def properties(draw: st.DrawFn) -> Property:
    cases = []
    for _ in range(draw(st.integers(0, 3))):
        low = [draw(small), draw(small)]
        box = Box(low, [v + draw(st.sampled_from([0, Fraction(1, 3), 1])) for v in low])
        cases.append(Case(box, tuple(draw(st.lists(constraints(), max_size=3))), 3))
    return Property(2, 3, tuple(cases), "test")


def brute(p: Property, x: list[Fraction], y: list[Fraction], box: bool) -> int | None:
    for i, case in enumerate(p.cases):
        ends = zip(case.box.exact_lower, x, case.box.exact_upper, strict=True)
        inside = all(a <= v <= b for a, v, b in ends)
        met = []
        for c in case.constraints:
            left = sum(v * x[k] for k, v in c.x) + sum(v * y[k] for k, v in c.y)
            met.append(left < c.bound or (left == c.bound and not c.strict))
        if (inside or not box) and all(met):
            return i
    return None


halves = st.integers(-4, 4).map(lambda k: k / 2)
points = st.one_of(halves, st.sampled_from([1 / 3, 0.1, -0.1]))


@given(
    properties(), st.lists(points, min_size=2, max_size=2), st.lists(points, min_size=3, max_size=3)
)
def test_violated_agrees_with_brute_fractions(p: Property, x: list, y: list) -> None:
    fx, fy = [Fraction(v) for v in x], [Fraction(v) for v in y]
    for box in (True, False):
        assert p.violated_case(np.array(x), np.array(y), box=box) == brute(p, fx, fy, box)
    assert p.violated(np.array(x), np.array(y)) == (brute(p, fx, fy, True) is not None)
    exact = np.array(fx, dtype=object), np.array(fy, dtype=object)
    assert p.violated(*exact) == (brute(p, fx, fy, True) is not None)


@given(st.lists(constraints(), min_size=1, max_size=4))
def test_float_rows_are_within_their_roundoff(made: list[Constraint]) -> None:
    case = Case(Box([0, 0], [1, 1]), tuple(made), 3)
    rows = case.rows
    roundoff = Fraction(rows.roundoff)
    exact = True
    for r, c in enumerate(made):
        assert Fraction(float(rows.bound[r])) >= c.bound
        assert rows.strict[r] == c.strict
        for array, terms, n in ((rows.x, c.x, 2), (rows.y, c.y, 3)):
            true = dict(terms)
            for i in range(n):
                stored = Fraction(0) if array is None else Fraction(float(array[r, i]))
                assert abs(true.get(i, 0) - stored) <= roundoff * abs(stored)
                exact = exact and true.get(i, 0) == stored
    assert (rows.roundoff == 0) == exact
    assert (rows.x is None) == all(not c.x for c in made)


def test_coefficients_outside_of_float64_are_refused() -> None:
    box = Box([0], [1])
    for value, message in (
        (Fraction(10) ** 400, "Y_0 is beyond"),
        (Fraction(1, 10**320), "too small"),
    ):
        with pytest.raises(BadInput, match=message):
            _ = Case(box, (Constraint.of({}, {0: value}, 0),), 1).rows
    with pytest.raises(BadInput, match="bound of a constraint"):
        _ = Case(box, (Constraint.of({}, {0: 1}, 10**400),), 1).rows


def test_strict_and_closed_are_told_apart_at_the_edge() -> None:
    box = Box(["0.1"], ["0.3"])
    closed = Property(1, 1, (Case(box, (Constraint.of({}, {0: 1}, "0.5"),), 1),), "p")
    strict = Property(1, 1, (Case(box, (Constraint.of({}, {0: 1}, "0.5", strict=True),), 1),), "p")
    x = np.array([0.1])
    assert closed.violated(x, np.array([0.5])) and not strict.violated(x, np.array([0.5]))
    assert strict.violated(x, np.array([np.nextafter(0.5, 0)]))
    # No tolerance: one step above is not unsafe.
    assert not closed.violated(x, np.array([np.nextafter(0.5, 1)]))


def test_outputs_that_are_not_finite_are_no_counterexample() -> None:
    p = Property(1, 1, (Case(Box([0], [1]), (Constraint.of({}, {0: -1}, 0),), 1),), "p")
    assert p.violated(np.array([0.5]), np.array([1.0]))
    for bad in (np.nan, np.inf):
        assert not p.violated(np.array([0.5]), np.array([bad]))
        assert not p.violated(np.array([bad]), np.array([1.0]))


def test_cases_are_grouped_by_their_box() -> None:
    a, b = Box([0], [1]), Box([0], [1])
    made = tuple(Case(box, (), 1) for box in (a, b, a))
    groups = Property(1, 1, made, "p").groups
    assert [(box is a, members) for box, members in groups] == [(True, (0, 2)), (False, (1,))]


def test_sizes_are_checked() -> None:
    with pytest.raises(BadInput, match="2 inputs and 1 outputs"):
        Property(1, 1, (), "p").violated(np.zeros(2), np.zeros(1))


@pytest.mark.parametrize(
    ("x", "y", "bound", "allowed"),
    [
        ({}, {0: 1, 1: -1}, 0, True),
        ({}, {0: "0.1", 1: "-0.1"}, 0, True),
        ({}, {0: 1, 1: -1}, "0.01", False),
        ({}, {0: 1, 1: -2}, 0, False),
        ({}, {0: 1, 1: 1}, 0, False),
        ({}, {0: 1}, 0, False),
        ({}, {0: 1, 1: -2, 2: 1}, 0, False),
        ({0: 1}, {0: 1, 1: -1}, 0, False),
    ],
)
def test_when_softmax_may_be_dropped(x: dict, y: dict, bound: object, allowed: bool) -> None:
    box = Box([0], [1])
    fine = Constraint.of({}, {1: 1, 2: -1}, 0, strict=True)
    p = Property(1, 3, (Case(box, (fine, Constraint.of(x, y, bound)), 3),), "p")
    assert p.permits_dropping_softmax() is allowed
