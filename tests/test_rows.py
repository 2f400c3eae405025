"""Rows: each derivation is checked exactly, and wrong ones are caught."""

from fractions import Fraction
from itertools import product
from math import inf, nextafter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hullmark.errors import BadInput
from hullmark.relax.octahedra import octahedral_rows
from hullmark.relax.separate import separate
from hullmark.rows import (
    Assumed,
    Combined,
    Defined,
    Indicator,
    Kink,
    Name,
    Propagated,
    Row,
    Split,
    Value,
    combine,
    octahedral_group,
    row_of_neuron,
    rows_of_group,
)

EVERYWHERE: frozenset[Split] = frozenset()
X = (Value(1, 0), Value(1, 1))
Y = (Value(2, 0), Value(2, 1))
KINKS = (Kink(X[0], Y[0]), Kink(X[1], Y[1]))
PAIRS = np.array([row for row in product((-1, 0, 1), repeat=2) if any(row)], dtype=np.int8)
DIAMOND = np.full(8, 2.0)


def relu(value: Fraction) -> Fraction:
    return max(value, Fraction(0))


def interval(value: Name, low: float, high: float) -> tuple[Row, Row]:
    return (
        Row(((value, 1.0),), high, EVERYWHERE, Propagated()),
        Row(((value, -1.0),), -low, EVERYWHERE, Propagated()),
    )


def diamond_row(rhs: float = 2.0) -> Row:
    """`2 y1 + 2 y2 - x1 - x2 <= 2` over `|x1 ± x2| <= 2`."""
    group = octahedral_group(KINKS, PAIRS, DIAMOND)
    order = [tuple(row) for row in PAIRS.tolist()]
    members = [[[order.index(signs)] for signs in product((-1, 1), repeat=2)]]
    (row,) = rows_of_group(
        group,
        (np.array([[-1.0, -1.0]]), np.array([[2.0, 2.0]])),
        np.array([rhs]),
        np.array(members),
        np.ones((1, 4, 1)),
    )
    return row


def test_an_indicator_is_not_the_value_of_its_neuron() -> None:
    assert Indicator(1, 2) != Value(1, 2)
    assert len({Value(1, 2), Indicator(1, 2)}) == 2


def test_diamond() -> None:
    row = diamond_row()
    assert row.derived()
    assert isinstance(row.derivation, Combined)
    assert row.derivation.implied(row.terms) == 2
    assert not diamond_row(nextafter(2.0, 0.0)).derived()
    assert len(row.ancestry()) == 9
    assert row.ancestry()[-1] is row
    assert all(other.derived() for other in row.ancestry())
    corner = {X[0]: Fraction(2), X[1]: Fraction(0), Y[0]: Fraction(2), Y[1]: Fraction(0)}
    assert row.excess(corner) == 0


@pytest.mark.parametrize(
    "pattern",
    [((99, 1.0),), ((-1, 1.0),), ((0, -1.0),), ((0, inf),), ((0, float("nan")),)],
)
def test_a_multiplier_that_is_none_proves_nothing(pattern) -> None:
    row = diamond_row()
    combined = row.derivation
    assert isinstance(combined, Combined)
    for place in range(4):
        patterns = list(combined.patterns)
        patterns[place] = pattern
        broken = Combined(combined.parents, combined.kinks, tuple(patterns))
        assert broken.implied(row.terms) == inf
        assert combine(row.terms, EVERYWHERE, broken) is None
    fewer = Combined(combined.parents, combined.kinks, combined.patterns[:3])
    assert fewer.implied(row.terms) == inf


numbers = st.integers(-32, 32).map(lambda v: v / 8)


@st.composite
def lies(draw):
    """A random octahedron around a point, a row, and multipliers that mean nothing."""
    inner = [draw(numbers), draw(numbers)]
    bounds = [float(np.dot(row, inner)) + draw(st.integers(0, 16)) / 4 for row in PAIRS.tolist()]
    terms = tuple((name, draw(numbers)) for name in (*X, *Y))
    member = st.tuples(st.integers(0, 13), st.integers(0, 24).map(lambda v: v / 8))
    patterns = tuple(tuple(draw(st.lists(member, max_size=4))) for _ in range(4))
    slopes = draw(st.sampled_from([(0.0, 1.0), (0.01, 1.0), (-1.0, 1.0), (1.0, 1.0)]))
    return bounds, terms, patterns, slopes, inner


@given(lies(), st.lists(st.tuples(numbers, numbers), max_size=20))
def test_any_multipliers_are_sound(lie, others) -> None:
    bounds, terms, patterns, (negative, positive), inner = lie
    kinks = tuple(Kink(x, y, negative, positive) for x, y in zip(X, Y, strict=True))
    group = octahedral_group(kinks, PAIRS, np.array(bounds))
    # Some values are bounded twice, the second time loosely, and post-activations as well.
    more = (*interval(X[0], -9.0, 9.0), *interval(Y[1], -9.0, 9.0))
    bound = Combined((*group.parents, *more), kinks, patterns).implied(terms)
    for point in (inner, *others):
        if np.any(PAIRS @ np.array(point) > bounds):
            continue
        x = [Fraction(v) for v in point]
        y = [v * Fraction(positive if v > 0 else negative) for v in x]
        values = dict(zip((*X, *Y), (*x, *y), strict=True))
        assert sum(Fraction(c) * values[name] for name, c in terms) <= bound


@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("slopes", [(0.0, 1.0), (0.01, 1.0), (-1.0, 1.0)])
def test_rows_of_batched_separation_are_derived(k: int, slopes: tuple[float, float]) -> None:
    """Random octahedra, some of them with parts on which a neuron is stable or no point lies."""
    rng = np.random.default_rng(k)
    matrix = octahedral_rows(k)
    count = 30
    spread = rng.normal(size=(count, k, k + 2)) * 10.0 ** rng.integers(-2, 3, (count, 1, 1))
    shift = rng.normal(size=(count, k)) * np.abs(spread).sum(axis=2) / 2
    bounds = shift @ matrix.T + np.abs(np.einsum("mk,gkn->gmn", matrix, spread)).sum(axis=2)
    y = np.abs(shift) + 2 * np.abs(spread).sum(axis=2)
    found = separate(bounds, shift, y, *slopes)
    assert len(found) >= count // 2
    kinks = [Kink(Value(1, j), Value(2, j), *slopes) for j in range(k)]
    for i in range(len(found)):
        group = octahedral_group(kinks, matrix, bounds[found.group[i]])
        one = slice(i, i + 1)
        (row,) = rows_of_group(
            group,
            (found.x[one], found.y[one]),
            found.rhs[one],
            found.members[one],
            found.multipliers[one],
        )
        assert row.derived()
        assert isinstance(row.derivation, Combined)
        # The batched proof is in floats, rounded outwards; the exact one proves a bit more.
        exact = row.derivation.implied(row.terms)
        lost = row.rhs - float(exact)
        assert lost <= 1e-9 * (abs(row.rhs) + np.abs(bounds[found.group[i]]).max())


def test_the_rest_is_charged_and_the_right_hand_side_rounded_up() -> None:
    parents = (*interval(X[0], -1.0, 3.0),)
    third = Combined(parents, KINKS[:1], (((2, 1.0),), ((0, 0.1),)))
    # 3 y <= 2 x + 3 is not implied by the signs alone: at x = 3 it needs the upper bound.
    terms = ((Y[0], 3.0), (X[0], -2.0))
    row = combine(terms, EVERYWHERE, third)
    assert row is not None
    assert row.derived()
    # Where x <= 0: -2 x - (-1) (-x)... is charged at x = -1; where x >= 0: x <= 3.
    assert row.rhs == 3.0
    tenth = combine(((X[0], 0.1),), EVERYWHERE, Combined(parents, (), (((0, 0.1),),)))
    assert tenth is not None
    assert Fraction(tenth.rhs) >= 3 * Fraction(0.1) > Fraction(nextafter(tenth.rhs, 0.0))


def test_a_missing_bound_proves_nothing() -> None:
    parents = interval(X[0], -1.0, 3.0)[:1]
    combined = Combined(parents, KINKS[:1], ((), ()))
    assert combined.implied(((Y[0], 1.0),)) == 3
    assert combined.implied(((Y[0], -1.0), (X[0], -1.0))) == inf
    assert combined.implied(((Y[1], 1.0),)) == inf


def test_impossible_patterns() -> None:
    """x1 >= 0 and x2 >= 0 contradict x1 + x2 <= -1, by multipliers; x1 >= 1 kills two patterns."""
    bounds = [1.0 if list(row) != [1, 1] else -1.0 for row in PAIRS.tolist()]
    group = octahedral_group(KINKS, PAIRS, np.array(bounds) * 3)
    signs = PAIRS.tolist().index([1, 1])
    terms = ((Y[0], -1.0), (Y[1], -1.0))
    proved = Combined(group.parents, KINKS, ((), (), (), ((signs, 1.0), (8, 1.0), (9, 1.0))))
    assert proved.implied(((X[0], 1.0), (Y[0], -1.0))) == 0
    both = ((X[0], 1.0), (X[1], 1.0), (Y[0], -1.0), (Y[1], -1.0))
    assert proved.implied(both) == 0
    positive = interval(X[0], 1.0, 2.0)
    alone = Combined(positive, KINKS[:1], ((), ()))
    assert alone.implied(((Y[0], 1.0), (X[0], -1.0))) == 0
    assert alone.implied(terms[:1]) == -1
    nowhere = Combined((*positive, *interval(X[0], -2.0, -1.0)), KINKS[:1], ((), ()))
    assert nowhere.implied(terms[:1]) == -inf
    assert Row(terms[:1], -5.0, EVERYWHERE, nowhere).derived()
    assert combine(terms[:1], EVERYWHERE, nowhere) is None


def test_scopes() -> None:
    split = Split(1, 0, -1)
    assumed = Row(((X[0], 1.0),), 0.0, frozenset({split}), Assumed(split))
    assert assumed.derived()
    assert not Row(((X[0], 1.0),), -0.5, frozenset({split}), Assumed(split)).derived()
    assert not Row(((X[0], 1.0),), 0.0, EVERYWHERE, Assumed(split)).derived()
    assert not Row(((X[0], -1.0),), 0.0, frozenset({split}), Assumed(split)).derived()
    parents = (assumed, *interval(X[0], -1.0, 1.0))
    combined = Combined(parents, KINKS[:1], ((), ()))
    row = combine(((Y[0], 1.0),), EVERYWHERE, combined)
    assert row is not None
    assert row.rhs == 0
    assert row.scope == {split}
    assert row.derived()
    assert not Row(row.terms, row.rhs, EVERYWHERE, combined).derived()
    assert not Row(row.terms, row.rhs, EVERYWHERE, Propagated((row,))).derived()
    assert Row(row.terms, row.rhs, frozenset({split}), Propagated((row,))).derived()


def test_a_row_over_the_layer_before() -> None:
    """max(x1, x2) <= 1 on [0,1]^2: `y <= x1 (1 - 0)` for `y = relu(x1 - x2)` [theory 3.1]."""
    inputs = (Value(0, 0), Value(0, 1))
    z, y = X[0], Y[0]
    definition = Row(((z, 1.0), (inputs[0], -1.0), (inputs[1], 1.0)), 0.0, EVERYWHERE, Defined(z))
    boxes = (*interval(inputs[0], 0.0, 1.0), *interval(inputs[1], 0.0, 1.0))
    row = row_of_neuron(Kink(z, y), ((inputs[0], -1.0),), definition, boxes)
    assert row is not None
    assert row.rhs == 0
    assert row.derived()
    tight = row_of_neuron(Kink(z, y), ((inputs[1], 1.0),), definition, boxes)
    assert tight is not None
    assert tight.rhs == 1
    assert tight.derived()
    assert row_of_neuron(Kink(z, y), ((inputs[0], -1.0),), definition, boxes[:2]) is None
    wrong = Row(definition.terms, 0.0, EVERYWHERE, Defined(Value(9, 9)))
    assert not wrong.derived()


def test_indicators() -> None:
    """`y <= u a` and `y <= z - l (1 - a)`: the two rows of the exact encoding [Tjeng]."""
    a = Indicator(*X[0])
    low, high = -1.5, 2.5
    combined = Combined(interval(X[0], low, high), KINKS[:1], ((), ()))
    assert combined.implied(((Y[0], 1.0), (a, -high))) == 0
    assert combined.implied(((Y[0], 1.0), (X[0], -1.0), (a, -low))) == Fraction(-low)
    assert combined.implied(((Y[0], 1.0), (a, -high + 0.5))) == Fraction(1, 2)
    other = Indicator(5, 5)
    assert combined.implied(((other, 2.0),)) == 2
    assert combined.implied(((other, -2.0),)) == 0
    pinned = Combined(interval(a, 1.0, 1.0), KINKS[:1], ((), ()))
    assert pinned.implied(((X[0], -1.0),)) == 0


def test_a_pass_through_coordinate_may_be_its_own_value() -> None:
    kinks = (KINKS[0], Kink(X[1], X[1], 1.0, 1.0))
    group = octahedral_group(kinks, PAIRS, DIAMOND)
    coefficients = (np.array([[0.0, 0.1]]), np.array([[0.0, 1e-20]]))
    nothing = np.zeros((1, 4, 1))
    (row,) = rows_of_group(group, coefficients, np.zeros(1), nothing.astype(np.intp), nothing)
    assert [name for name, _ in row.terms] == [X[1]]
    assert row.derived()
    # 0.1 x2 is at most 0.1 * 2 on the diamond; the pair (0, 2) attains it.
    assert row.rhs == 0.2


@pytest.mark.parametrize(
    ("terms", "rhs"),
    [(((X[0], inf),), 0.0), (((X[0], 1.0), (X[0], 1.0)), 0.0), (((X[0], 1.0),), float("nan"))],
)
def test_numbers_that_make_no_row(terms, rhs) -> None:
    with pytest.raises(BadInput, match="row"):
        Row(terms, rhs, EVERYWHERE, Propagated())


def test_groups_whose_shapes_do_not_fit() -> None:
    with pytest.raises(BadInput, match="2 kinks"):
        octahedral_group(KINKS, PAIRS, DIAMOND[:3])
